"""vzeventd: what happens when a container ends by itself.

The real one is a daemon that hears of it from the kernel; here one process per container waits for the init, whose
parent it is. A halt unmounts the container, a reboot starts it again with whatever its configuration says by then. A
container that vzctl is just stopping is left to vzctl.
"""

import os
import signal
from itertools import pairwise

import container
import net
import paths

STOPPING = ("stop", "restart", "chkpnt", "suspend")


def watch(ctid, pid, aborted, vzctl):
    """Wait for the end of a container's init and do what has to be done then."""
    _name_process()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    container.close_all_but({aborted})  # lets go of the mounts that the container kept busy
    # All this has to be done while the container still counts as running: afterwards the next start may be under way.
    net.remove(ctid)
    paths.forget_state(paths.PID_DIR, ctid)
    paths.forget_state(paths.BIRTH_DIR, ctid)
    _, status = os.waitpid(pid, 0)
    if os.read(aborted, 1):
        return  # it never ran
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP:
        _restart(ctid, vzctl)
    else:
        _clean_up(ctid, vzctl)


def _name_process():
    """Show up as vzeventd, not as python3, wherever process names are shown."""
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write("vzeventd")


def _vzctl_stops(ctid):
    """Tell whether some vzctl is about to stop this container."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/comm", encoding="utf-8", errors="replace") as file:
                comm = file.read().strip()
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().decode("utf-8", "surrogateescape").split("\0")
        except OSError:
            continue
        if comm == "vzctl" and any(verb in STOPPING and _means(ctid, who) for verb, who in pairwise(words)):
            return True
    return False


def _means(ctid, who):
    import save
    import text

    return text.parse_int(who) == ctid or save.id_of_name(who) == ctid


def _run(vzctl, *arguments):
    """Run vzctl --quiet; returns what it prints."""
    import subprocess

    env = {"PATH": paths.DEF_PATH, "HOME": "/", "TERM": "linux"}
    done = subprocess.run(
        [vzctl, "--quiet", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, check=False
    )
    return done.stdout.decode("utf-8", "replace").split()


def _umount(ctid, vzctl):
    """Unmount the container. Returns False if somebody has started it again by now."""
    words = _run(vzctl, "status", str(ctid))
    if "mounted" in words and "running" not in words:
        _run(vzctl, "umount", str(ctid))
    return "running" not in words


def _restart(ctid, vzctl):
    if _umount(ctid, vzctl):
        _run(vzctl, "start", str(ctid))


def _clean_up(ctid, vzctl):
    if not _vzctl_stops(ctid):
        _umount(ctid, vzctl)
