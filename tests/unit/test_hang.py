"""A job that hangs in the kernel ends itself; one that only waits, or works, does not."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ringfree_hang

PROJECT = Path(__file__).resolve().parents[2]
WATCHED = """
import ctypes, os, sys, time, logging
sys.path.insert(0, {utils!r})
import ringfree_hang
logging.basicConfig()
ringfree_hang.EVERY = 0.1
ringfree_hang.watch(1)
def hang(fifo):
    # Who begins a process with vfork(2) waits like that until it has become its program, which opens a pipe before.
    c, actions, pid = ctypes.CDLL(None), ctypes.create_string_buffer(1024), ctypes.c_int()
    c.posix_spawn_file_actions_init(actions)
    c.posix_spawn_file_actions_addopen(actions, 0, fifo.encode(), os.O_RDONLY, 0)
    c.posix_spawn(ctypes.byref(pid), b"/bin/true", actions, None, (ctypes.c_char_p * 2)(b"true", None), None)
{then}
"""


@pytest.fixture
def job(tmp_path):
    """job(then): a process that is watched and does something; `job.fifo` has nobody who writes."""
    started = []

    def begin(then):
        begin.fifo = tmp_path / "fifo"
        os.mkfifo(begin.fifo)
        code = WATCHED.format(utils=str(PROJECT / "_utils"), then=then)
        started.append(
            subprocess.Popen(
                [sys.executable, "-IS", "-c", code, str(begin.fifo)],
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def test_h13_a_job_that_hangs_in_the_kernel_ends_itself(job):
    hung = job("hang(sys.argv[1])")
    assert hung.wait(60) == -signal.SIGKILL
    os.close(os.open(job.fifo, os.O_RDWR))  # what it had begun goes on, and lets go of stderr
    assert "for a file server that does not answer" in hung.stderr.readline()


def test_h13_a_thread_of_it_counts_as_well(job):
    hung = job("import threading; threading.Thread(target=hang, args=sys.argv[1:]).start(); time.sleep(600)")
    assert hung.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize(
    "then",
    [
        "time.sleep(2)",
        "end = time.monotonic() + 2\nwhile time.monotonic() < end: sum(range(1000))",
        "end = time.monotonic() + 2\nwhile time.monotonic() < end: open('/proc/self/stat').read()",
        "for _ in range(150): os.system(':'); time.sleep(0.01)",
    ],
    ids=["waits", "reckons", "reads", "begins processes"],
)
def test_one_that_waits_or_works_does_not(job, then):
    assert job(then).wait(60) == 0


def test_one_thread_is_enough(monkeypatch):
    """And one that was forked off has none yet."""
    monkeypatch.setattr(ringfree_hang, "_watch", lambda longest: threading.Event().wait())
    monkeypatch.setattr(ringfree_hang, "THREAD", f"{ringfree_hang.THREAD}-{time.monotonic()}")

    def count():
        return sum(thread.name == ringfree_hang.THREAD for thread in threading.enumerate())

    ringfree_hang.watch(60)
    ringfree_hang.watch(60)
    assert count() == 1
    child = os.fork()
    if not child:
        os._exit(count())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
