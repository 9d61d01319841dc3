"""
Run external commands: argument lists only, always with a deadline.

Salt's ``cmd.run_all`` waits for a timed-out child to die.  A child that hangs on a dead NFS server cannot
die, so that wait would hang the whole job; here such a child is killed, left behind and reported.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

GRACE = 2.0  # seconds that a killed command gets to go away before it is left behind


def run(argv, deadline=60, stdin=None):
    """
    Run one command to its end or its deadline.

    argv
        List of strings; the first is the program.

    deadline : 60
        Seconds after which the command and its children are killed.

    stdin : None
        Text for the command's standard input; ``None`` gives it an empty one.

    The environment is minimal: the minion's ``PATH``, ``LC_ALL=C``, ``HOME=/root``, and a mark of ours.

    Returns a dictionary: ``argv``, ``rc`` (``None`` when the deadline passed; 127 when the program is missing),
    ``out`` and ``err`` (text, undecodable bytes kept as surrogates), ``seconds``, ``timed_out``.
    """
    started = time.monotonic()
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "LC_ALL": "C",
        "HOME": "/root",
        "RINGFREE_COMMAND": "1",  # by this the way back finds what a killed job left behind
    }
    # Files and not pipes: a daemon that the command leaves behind keeps a pipe open, and reading it would never end.
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write((stdin or "").encode("utf-8", "surrogateescape"))
        source.seek(0)
        try:
            child = subprocess.Popen(
                argv, stdin=source, stdout=out, stderr=err, env=environment, cwd="/", start_new_session=True
            )
        except OSError as error:
            return _result(argv, 127, "", f"{argv[0]}: {error.strerror}", started, False)
        # A thread wakes up at once when the child ends; wait() with a timeout looks only every 50 ms.
        waiter = threading.Thread(target=child.wait, daemon=True)
        waiter.start()
        waiter.join(deadline)
        if not waiter.is_alive():
            return _result(argv, child.returncode, _text(out), _text(err), started, False)
        words = _kill(child, waiter)
        return _result(argv, None, _text(out), _text(err) + words, started, True)


def _text(stream):
    stream.seek(0)
    return stream.read().decode("utf-8", "surrogateescape")


def _kill(child, waiter):
    """Kill the command's whole session; say so if it does not go away in time."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    waiter.join(GRACE)
    return "still hanging after SIGKILL" if waiter.is_alive() else ""


def _result(argv, rc, out, err, started, timed_out):
    return {
        "argv": list(argv),
        "rc": rc,
        "out": out,
        "err": err,
        "seconds": round(time.monotonic() - started, 3),
        "timed_out": timed_out,
    }


def run_many(commands, workers=4, deadline=60):
    """
    Run several commands, a few at a time.

    commands
        Dictionary: key to argument list.

    workers : 4
        How many run at once.

    deadline : 60
        Seconds for each command.

    Returns an iterator over ``(key, result of run)``, in the order in which the commands end.  (An iterator, because
    a function that is handed to another of Salt's loaders does not find its own ``__salt__`` and ``__utils__`` there.)
    """
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        futures = {pool.submit(run, argv, deadline): key for key, argv in commands.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()


def born(pid):
    """
    When a process was started: with its id this names it for good, as ids are used again.

    pid
        The process id.

    Returns clock ticks since boot, or ``None`` when there is no such process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return int(stream.read().rsplit(b")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def links(proc):
    """
    What processes hold: working directories, roots, programs and open files.

    Only links in /proc are read, which touches no file that they lead to: it may be on a share that hangs.

    proc
        Where /proc is.

    Returns a list of ``(process id, path)``, both text.
    """
    found = []
    for pid in filter(str.isdigit, os.listdir(proc)):
        names = ["cwd", "root", "exe"]
        with contextlib.suppress(OSError):
            names += [f"fd/{name}" for name in os.listdir(f"{proc}/{pid}/fd")]
        for name in names:
            with contextlib.suppress(OSError):
                found.append((pid, os.readlink(f"{proc}/{pid}/{name}")))
    return found


def last_words(result, lines=3):
    """
    The last lines that a command printed, errors first.

    result
        What :py:func:`run` returned.

    lines : 3
        How many lines at most.

    Returns one line of text, the lines joined by `` / ``.
    """
    text = result["err"].strip() or result["out"].strip()
    kept = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return " / ".join(kept).encode("utf-8", "backslashreplace").decode("utf-8")


def describe(result):
    """
    Say in one sentence how a command failed.

    result
        What :py:func:`run` returned.

    Returns text: the command, its exit code or the deadline, its last words.
    """
    command = " ".join(result["argv"]).encode("utf-8", "backslashreplace").decode("utf-8")
    if result["timed_out"]:
        ended = f"did not end within {result['seconds']:.0f} s and was killed"
    else:
        ended = f"ended with exit code {result['rc']}"
    words = last_words(result)
    return f"'{command}' {ended}" + (f": {words}" if words else ".")
