"""
Takes the place of Salt's own module `event` on the node of the sweep: forwards everything, and at one point of a
migration it stands still until it is let go, or something breaks there.

A point is what the product tells the master: step, phase, container or not. /run/sweep/point names the one that counts,
once, and what is to happen; every point that was passed is added to /run/sweep/passed.
"""

import errno
import json
import os
import subprocess
import time

import salt.modules.event as core

RUN = "/run/sweep"
STATE = "/var/lib/ringfree"
PATIENCE = 300  # seconds; a test that died lets nobody go
STANDS = f"{RUN}/standing"
READ_ONLY = f"{RUN}/read-only"
_kept = {}  # what broke in this process, as it was


def __virtual__():
    return "event"


def _core():
    core.__opts__, core.__salt__ = __opts__, __salt__
    return core


def fire(*args, **kwargs):
    """As Salt's own."""
    return _core().fire(*args, **kwargs)


def fire_master(*args, **kwargs):
    """As Salt's own."""
    return _core().fire_master(*args, **kwargs)


def send(tag, data=None, **kwargs):
    """As Salt's own; what tells of a migration's progress is a point that is passed."""
    mine = str(tag).startswith("ringfree/progress/")
    if mine:
        _mend(data)
    sent = _core().send(tag, data, **kwargs)
    if mine:
        _pass(data)
    return sent


def _pass(data):
    """Note that a point is passed; do what is wanted at it."""
    os.makedirs(RUN, exist_ok=True)
    point = [data["step"], data["phase"], data["container"] is not None]
    with open(f"{RUN}/passed", "a", encoding="utf-8") as stream:
        stream.write(json.dumps(point) + "\n")
    try:
        with open(f"{RUN}/point", encoding="utf-8") as stream:
            wanted = json.load(stream)
    except FileNotFoundError:
        return
    if wanted["point"] == point:
        os.unlink(f"{RUN}/point")
        {"stand": _stand, "read-only": _read_only, "no memory": _no_memory}[wanted["then"]]()


def _stand():
    """Stand here until somebody lets go."""
    with open(STANDS, "w", encoding="utf-8"):
        pass
    end = time.monotonic() + PATIENCE
    while not os.path.exists(f"{RUN}/go") and time.monotonic() < end:
        time.sleep(0.05)
    os.unlink(STANDS)


def _read_only():
    """The file system with the journal can only be read, as after an error of the disk."""
    with open(READ_ONLY, "w", encoding="utf-8"):
        pass
    os.makedirs(STATE, mode=0o700, exist_ok=True)
    for words in (["--bind", STATE], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *words, STATE], check=True)


def _no_memory():
    """No program starts and no file is replaced by this process."""

    def fail(*args, **kwargs):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    _kept.update(Popen=subprocess.Popen, rename=os.rename)
    subprocess.Popen, os.rename = fail, fail
    with open(f"{RUN}/broken", "w", encoding="utf-8"):
        pass


def _mend(data):
    """What broke lasts until the failure is told, or the next point is passed."""
    if _kept:
        subprocess.Popen, os.rename = _kept.pop("Popen"), _kept.pop("rename")
    if data["phase"] == "failed" and os.path.exists(READ_ONLY):
        subprocess.run(["umount", STATE], check=True)
        os.unlink(READ_ONLY)
