"""
A job that waits for a file server which does not answer any more ends itself.

Each look at a share is asked for first whether the share answers (:py:func:`vz.must_answer`).  A SAN that dies between
the question and the look leaves the job in the kernel, where no exception and no deadline reaches it: for as long as
the SAN is away, while the master waits and containers are down.  A thread beside it sees that.  What it can do is end
the process, as a power cut would at that moment; what becomes of the node then is asked of the node, as ever.
"""

import contextlib
import logging
import os
import signal
import threading
import time

log = logging.getLogger(__name__)

THREAD = "ringfree-hang"
EVERY = 2  # seconds from one look to the next
#: How FUSE waits, which a signal could interrupt: by the name of the function in the kernel, see proc_pid_wchan(5).
FUSE = ("fuse_", "request_wait_answer")


def watch(longest):
    """
    Have this process end itself once one of its threads hangs in the kernel.

    Once in a process, whoever calls it how often; a process that is forked off has to call it again.

    longest
        Seconds that one and the same wait may last, of whoever is the first to call this.  A wait for a local disk,
        which looks the same, does not last that long on a disk that works.
    """
    if not any(thread.name == THREAD for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(longest,), name=THREAD, daemon=True).start()


def _watch(longest):
    since, never = {}, threading.Event()
    while True:
        now = time.monotonic()
        since = {wait: since.get(wait, now) for wait in waiting()}
        for (thread, _), begun in since.items():
            if now - begun > longest:
                _end(thread, longest)
        never.wait(EVERY)


def _end(thread, longest):
    log.error(
        "thread %s waits in the kernel since %s s, for a file server that does not answer: this job is ended. %s",
        thread,
        longest,
        _stack(thread),
    )
    time.sleep(EVERY)  # Salt 3006 has another process write what is logged
    os.kill(os.getpid(), signal.SIGKILL)


def waiting():
    """
    The threads of this process that wait in the kernel where nothing but their end gets them out.

    Returns a set of ``(thread id, how often it had given its processor away)``: the same pair is the same wait.
    """
    found = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended
            if _state(thread) == "D" or _read(thread, "wchan").startswith(FUSE):
                switches = [
                    line.split()[1] for line in _read(thread, "status").splitlines() if "ctxt_sw" in line
                ]
                found.add((int(thread), tuple(map(int, switches))))
    return found


def _state(thread):
    return _read(thread, "stat").rpartition(")")[2].split()[0]


def _stack(thread):
    """Where in the kernel a thread waits, for the log; root may see that."""
    with contextlib.suppress(OSError):
        return " < ".join(line.split()[1] for line in _read(thread, "stack").splitlines()[:12])
    return ""


def _read(thread, name):
    with open(f"/proc/self/task/{thread}/{name}", encoding="ascii", errors="replace") as stream:
        return stream.read()
