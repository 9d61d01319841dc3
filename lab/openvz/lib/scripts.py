"""Action scripts of the node: run in the caller's directory, with the environment that vzctl gives them."""

import os
import signal

import codes
import log
import paths

running = []  # pid of the script that runs, for the signal handler


def wait(pid):
    """Wait for a child; returns its exit code, or that of a system error after telling which signal killed it."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        log.error(f"Got signal {os.WTERMSIG(status)}")
        return codes.SYSTEM_ERROR
    return os.waitstatus_to_exitcode(status)


def default_signals():
    """Undo what Python and vzctl ignore, before another program runs."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def run(path, ctid):
    """Run a script if it exists. Returns 0, or the code for a failed action script."""
    if not paths.exists(path):
        return codes.OK
    env = {
        "HOME": "/",
        "TERM": "linux",
        "PATH": paths.DEF_PATH,
        "VEID": str(ctid),
        "VE_CONFFILE": paths.conf(ctid),
    }
    return codes.ACTION_SCRIPT if call([path], env) else codes.OK


def call(argv, env):
    """Run a program that a signal to vzctl ends; returns its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            default_signals()
            null = os.open("/dev/null", os.O_WRONLY)
            os.dup2(null, 0)
            os.execve(argv[0], argv, env)
        except OSError as err:
            log.error(f"Error exec {argv[0]}", err)
        finally:
            os._exit(1)
    running.append(pid)
    code = wait(pid)
    running.remove(pid)
    return code


def run_pair(ctid, kind, first):
    """Run vps.KIND and CTID.KIND, the one named by first before the other.

    Returns None, or the path of the script that failed (after which the other one is not run).
    """
    names = ["vps", str(ctid)] if first == "vps" else [str(ctid), "vps"]
    for name in names:
        path = f"{paths.CONF_DIR}/{name}.{kind}"
        if run(path, ctid):
            return path
    return None
