"""Messages of vzctl: errors (level below 0) go to stderr, progress to stdout, both to LOGFILE."""

import os

import text


class _State:
    verbose = 0  # highest level that is shown
    quiet = False
    level = 0  # highest level that is written to the log file
    file = None
    prog = ""
    ctid = 0


def setup(path=None, ctid=0, level=0, quiet=False, prog=""):
    """Start logging to path; LOG_LEVEL is also the verbosity, until something sets another one."""
    _State.file, _State.verbose, _State.quiet = None, 0, False
    _State.ctid = ctid
    if path is not None:
        try:
            _State.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError:
            return  # the real one goes on without a log and with its defaults
    _State.level = _State.verbose = level
    _State.quiet, _State.prog = quiet, prog


def set_verbose(level):
    """Show messages up to this level."""
    _State.verbose = level


def file_descriptor():
    """Return the log file's descriptor, None without a log."""
    return _State.file


def say(level, message, error=None):
    """Print one line; error is an OSError (or errno) whose text is appended."""
    if error is not None:
        message += ": " + os.strerror(getattr(error, "errno", error))
    if not _State.quiet and _State.verbose >= level:
        text.write(2 if level < 0 else 1, message + "\n")
    if _State.file is not None and _State.level >= level:
        _log(message)


def error(message, cause=None):
    """Print an error line."""
    say(-1, message, cause)


def info(message):
    """Print a progress line."""
    say(0, message)


def _log(message):
    import time

    ct = f"CT {_State.ctid} : " if _State.ctid else ""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    text.write(_State.file, f"{stamp} {_State.prog} : {ct}{message}\n")
