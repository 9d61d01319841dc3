"""
Who works on this machine: processes named by their id and their birth, never by a word that they show.

A lock is a file that says who has it.  It counts as long as that process lives, so nobody has to clean up after one
that was killed, nor after a reboot.  What is locked and what is recorded lies in folders that only root enters
(``ringfree_files.folder``): no container and no other user can write there, open a file there, or hold one up.
"""

import contextlib
import fcntl
import json
import os
import signal
import time

PATIENCE = 10.0  # seconds until somebody who holds a guard, which is a matter of milliseconds, is named
RECORD_KEYS = ("argv", "program", "programs", "boot")  # what ringfree_command writes of a command
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def _stat(pid):
    """What the kernel says of a process: name, state, parent, session, birth in clock ticks since boot; or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            head, tail = stream.read().rsplit(b")", 1)
        words = tail.split()
        return {
            "name": head.split(b"(", 1)[1].decode("utf-8", "replace"),
            "state": words[0].decode(),
            "session": int(words[3]),
            "born": int(words[19]),
        }
    except (OSError, IndexError, ValueError):
        return None


def _boot():
    with contextlib.suppress(OSError), open(BOOT_ID, encoding="ascii") as stream:
        return stream.read().strip()
    return None


def me():
    """
    This process, as :py:func:`is_alive` recognizes it.

    Returns ``{"pid": number, "born": clock ticks since boot, "boot": id of the boot}``.
    """
    return {"pid": os.getpid(), "born": _stat(os.getpid())["born"], "boot": _boot()}


def is_alive(process):
    """
    Whether a process that somebody noted still runs: not another one with its id, and not one that has only not been
    waited for.

    process
        Dictionary with ``pid``, ``born`` and, unless an older version wrote it, ``boot``.

    Returns True or False.
    """
    pid = process.get("pid")
    if isinstance(pid, bool) or not isinstance(pid, int) or process.get("boot") not in (None, _boot()):
        return False
    now = _stat(pid)
    return now is not None and now["born"] == process.get("born") and now["state"] not in "ZX"


def is_of_host(pid):
    """
    Whether a process is the host's own and of the same user as this one: not one of a container, nor a local user's.

    The namespace of process ids tells, and on a kernel of OpenVZ the container that it names itself.

    pid
        The process id.

    Returns True or False; False for a process that is gone.
    """
    try:
        theirs, ours = _place(pid), _place("self")
    except (OSError, IndexError):
        return False
    return theirs == ours


def _place(pid):
    """The users that a process is, the container, and the namespace of its id, as far as this kernel has them."""
    with open(f"/proc/{pid}/status", "rb") as stream:
        found = dict(line.split(b":", 1) for line in stream if b":" in line)
    try:
        namespace = os.readlink(f"/proc/{pid}/ns/pid")
    except FileNotFoundError:  # kernels before 3.8 show none; a process that is gone has no status either
        namespace = None
    return {"users": found[b"Uid"].split(), "container": found.get(b"envID", b"").strip(), "pids": namespace}


def end(process):
    """
    Kill a process, unless it is gone and its id belongs to another one.

    process
        Dictionary with ``pid`` and ``born``.

    Returns nothing.
    """
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)


# --- locks ------------------------------------------------------------------------------------------------------------


def holder(path):
    """
    Who has a lock.

    path
        The lock's file.

    Returns what was given to :py:func:`take`, with ``pid``, ``born``, ``boot`` and ``since`` (seconds since the epoch);
    ``None`` when nobody has it: there is no such file, it cannot be read, or the process is gone.
    """
    found = _read(path)
    return found if is_alive(found) else None


def take(path, entries):
    """
    Take a lock for this process.

    path
        The lock's file, in a folder that only root enters.

    entries
        Dictionary, kept in the lock: ``what`` takes it, and what else is to be known.

    Returns ``None``, or its holder when it is taken.  Raises TimeoutError, which names him, when somebody looks at the
    lock and does not end.
    """
    # One at a time from the look to the write: two that find a lock left behind must not both take it.
    with guard(path, entries["what"]):
        held = holder(path)
        if not held:
            _write(path, {**me(), "since": time.time(), **entries})
        return held


def change(path, act):
    """
    Change what a lock says.

    path
        The lock's file.

    act
        Function that changes the dictionary.  When it raises, nothing is changed.

    Returns what the lock says now, or ``None`` when nobody has it.  Raises TimeoutError.
    """
    with guard(path, "change"):
        held = holder(path)
        if held:
            act(held)
            _write(path, held)
        return held


def release(path):
    """
    Give a lock back, if this process has it.

    path
        The lock's file.

    Returns True when it had it.
    """
    held = holder(path)
    mine = held is not None and held["pid"] == os.getpid()
    if mine:
        os.unlink(path)
    return mine


@contextlib.contextmanager
def guard(path, what):
    """
    One process at a time, for as long as the ``with`` lasts.

    path
        The lock that is looked at; the guard's own file is beside it.

    what
        What for, for the words of whoever waits.

    Raises TimeoutError, with who has it, since when and what for.
    """
    file = f"{path}.guard"
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _wait(handle, file)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({**me(), "what": what, "since": time.time()}).encode(), 0)
        yield
    finally:
        os.close(handle)


def _wait(handle, file):
    end_of_wait = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end_of_wait:
                raise TimeoutError(f"{file} is held by {_who(_read(file))}") from None
        time.sleep(0.02)


def _who(held):
    if not is_alive(held):
        return "a process that left no name; 'fuser -v' with that file names it"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["since"]))
    return f"process {held['pid']} ('{held['what']}') since {since}"


def _read(path):
    """What a file of a lock says; an empty dictionary when there is nothing that can be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            found = json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path, entries):
    """Replace a lock's file; nothing of it has to last beyond the machine's next start."""
    handle = os.open(
        f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with os.fdopen(handle, "wb") as stream:
        stream.write(json.dumps(entries).encode())
    os.rename(f"{path}.new", path)


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(folder):
    """
    The commands that :py:func:`ringfree_command.run` has begun and that still run, whatever became of the job.

    A command is known by the record that was written for it, its children by its session: as long as one of them
    lives the kernel gives the number of a session to nobody else.  A child counts when it is the host's own and runs
    one of the recorded programs; daemons that a command has left, and what it has begun in a container, do not.

    folder
        The folder with the records.  Those of commands that are over are removed.

    Returns a dictionary: process id to ``{"pid": number, "born": number, "program": text, "command": text}``.
    """
    found, table = {}, None
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        table = _processes() if table is None else table
        record = _record(folder, name)
        work = _work(record, table)
        if not work and not is_alive(record["job"]) and not _is_being_born(record, folder, name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
        for pid in work:
            command = " ".join(record["argv"]).encode("utf-8", "backslashreplace").decode()
            known = {"pid": pid, "born": table[pid]["born"]}
            found[pid] = {**known, "program": record["program"], "command": command}
    return found


def _record(folder, name):
    """A record: the job in its name, what is run, and the process that it became; that is missing if it was cut."""
    job = dict(zip(("pid", "born"), (int(word) for word in name.split("-") if word.isdigit()), strict=False))
    try:
        with open(os.path.join(folder, name), "rb") as stream:
            told, child = (json.loads(line or b"null") for line in (stream.readline(), stream.readline()))
        return {"job": job, "child": child, **{key: told[key] for key in RECORD_KEYS}}
    except (OSError, ValueError, TypeError, KeyError):
        return {"job": job, "child": None, "argv": []}


def _is_being_born(record, folder, name):
    """Whether a command may not be itself yet: its job was killed while it was begun, a moment ago."""
    with contextlib.suppress(FileNotFoundError):
        age = time.time() - os.stat(os.path.join(folder, name)).st_mtime
        return bool(record["argv"]) and not record["child"] and 0 <= age < PATIENCE
    return False


def _processes():
    """All processes that are more than a name."""
    found = {int(name): _stat(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: entry for pid, entry in found.items() if entry and entry["state"] not in "ZX"}


def _work(record, table):
    """The processes of a recorded command."""
    if not record["argv"] or record["boot"] != _boot():
        return []
    child = record["child"]
    if not child:
        # Its job was killed between the command's birth and the note of it, or begins it just now.
        return [] if is_alive(record["job"]) else [pid for pid in table if _began(record, pid, table[pid])]
    leader = table.get(child["pid"])
    if leader and leader["born"] != child["born"]:
        return []  # the number is another's, so nobody of the session was left
    members = [
        pid
        for pid, entry in table.items()
        if entry["session"] == child["pid"] and entry["name"] in record["programs"] and is_of_host(pid)
    ]
    return sorted({*members, *([child["pid"]] if leader else [])})


def _began(record, pid, entry):
    """Whether a process is the recorded command: the host's own, of a session of its own, younger than its job."""
    if entry["session"] != pid or entry["born"] < record["job"]["born"] or not is_of_host(pid):
        return False
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
        words = stream.read().decode("utf-8", "surrogateescape").split("\0")[:-1]
        argv = record["argv"]
        # A script stands behind its interpreter, and what is run apart is another program first.
        own = argv[[os.path.basename(word) for word in argv].index(record["program"]) :]
        return any(_ends_with(words, tail) for tail in (argv, own))
    return False


def _ends_with(words, argv):
    """Whether a command line is that of a command, but for what stands before it and where its program is."""
    tail = words[-len(argv) :]
    return tail[1:] == argv[1:] and bool(tail) and os.path.basename(tail[0]) == os.path.basename(argv[0])
