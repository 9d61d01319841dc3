"""
Run external commands: argument lists only, always with a deadline, and what they print is data: bounded, and harmless
wherever it is shown.

Salt's ``cmd.run_all`` waits for a timed-out child to die.  A child that hangs on a dead NFS server cannot
die, so that wait would hang the whole job; here such a child is killed, left behind and reported.
"""

import contextlib
import functools
import inspect
import json
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor, as_completed

log = logging.getLogger(__name__)

GRACE = 2.0  # seconds that a killed command gets to go away before it is left behind
LIMIT = 1 << 20  # bytes that are kept of what a command prints
CHUNK, CHUNKS = 1 << 16, 16  # bytes that are read at once, and how often before the clock is looked at again
PAUSE = 0.01  # seconds between reads of what nobody keeps: a flood waits for us, and costs next to nothing
SHOWN = 500  # characters of a line in an error
LINE = 1024  # bytes of a line that are looked at to see whether it counts
#: Keeps reading, slowly, what a command that must go on, or a daemon that any left behind, prints when nobody else does
#: any more: this process may be killed, and a program without a reader is killed by its next word.  Its standard input
#: ends then.
READER = """
drain() { while [ "$(head -c 1000000 <"$1" | wc -c)" -gt 0 ]; do sleep 1; done; }
read -r end
drain "$1" &
drain "$2"
"""
#: Records of commands that a killed job would leave at work; ringfree_process.commands reads them.
RECORDS = "/run/ringfree/commands"
PROGRAMS = ("rsync", "vzctl")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SPELLED = {  # what of a name would be taken for an escape, or for a byte
    "\\": "\\\\",
    **{chr(sign): f"\\u{sign:04x}" for sign in range(0x80, 0x100) if not chr(sign).isprintable()},
}
CARRIES = "ringfree_carries"  # what a thread has while a function works whose answer will be made printable


def printable(text, lines=False):
    """
    A text as it may be shown anywhere: on a terminal, in an event, a log, an error, and as Salt can carry it.

    text
        The text; or a list, tuple, set or dictionary of such.

    lines : False
        Whether line breaks and tabs stay what they are.

    Returns the same with all that does not print, such as terminal escapes, line breaks, marks that turn the direction
    of text round and halves of characters, written as escapes; other values are returned as they are.
    """
    if isinstance(text, dict):
        return {printable(key, lines): printable(value, lines) for key, value in text.items()}
    if isinstance(text, set):
        return {printable(value, lines) for value in text}
    if isinstance(text, (list, tuple)):
        return [printable(value, lines) for value in text]
    if not isinstance(text, str) or text.isprintable():
        return text
    if lines:
        return "\n".join("\t".join(printable(word) for word in line.split("\t")) for line in text.split("\n"))
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign):
    """A sign that does not print; a byte that is no text, as Python keeps it in names of files, as that byte."""
    if "\udc80" <= sign <= "\udcff":
        return f"\\x{ord(sign) - 0xDC00:x}"
    return sign.encode("unicode_escape").decode()


def spell(name):
    """
    A name from outside in one word that can be shown and carried, and turned back by :py:func:`unspell`.

    name
        The name, as Python has it: bytes that are no UTF-8 are halves of characters (``os.fsdecode``).

    Returns the name as :py:func:`printable` does it, but so that no two names are spelled alike: a backslash is
    doubled, and ``\\xff`` is a byte, never a character.
    """
    return "".join(SPELLED.get(sign) or (sign if sign.isprintable() else _escaped(sign)) for sign in name)


def unspell(word):
    """
    The name that :py:func:`spell` has spelled.

    word
        What it returned.

    Returns the name.
    """
    return re.sub(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[nrt])", _unescaped, word)


def _unescaped(found):
    """The sign that an escape stands for."""
    kind, digits = found[1][0], found[1][1:]
    if not digits:
        return {"n": "\n", "r": "\r", "t": "\t"}.get(kind, kind)
    number = int(digits, 16)
    return chr(number + 0xDC00 if kind == "x" and number > 0x7F else number)


def carry(names):
    """
    Make what the functions of a Salt module answer, or raise, :py:func:`printable`: lines stay lines.

    Salt cannot pack halves of characters, so that a minion's answer with one of them never arrives. What functions of
    ours call of each other stays as it is; only what the first of them hands to Salt is changed.

    names
        The module's ``globals()``; its public functions are replaced.
    """
    for name, function in list(names.items()):
        if inspect.isfunction(function) and function.__module__ == names["__name__"] and name[0] != "_":
            names[name] = _carrying(function)


def carries(function):
    """
    Whether a function's answer is made printable by :py:func:`carry`.

    function
        The function.

    Returns True or False.
    """
    return getattr(function, CARRIES, False)


def _carrying(function):
    answer = _answer

    def carrying(*args, **kwargs):
        return answer(function, args, kwargs)

    # Its names are the module's, and Salt asks it for its arguments.
    made = types.FunctionType(
        carrying.__code__, function.__globals__, function.__name__, None, carrying.__closure__
    )
    functools.update_wrapper(made, function)
    del made.__wrapped__
    made.__signature__ = inspect.signature(function)
    setattr(made, CARRIES, True)
    return made


def _answer(function, args, kwargs):
    """Call a function; what leaves the outermost one can be carried."""
    thread = threading.current_thread()
    if hasattr(thread, CARRIES):
        return function(*args, **kwargs)
    setattr(thread, CARRIES, True)
    try:
        return printable(function(*args, **kwargs), lines=True)
    except Exception as error:
        vars(error).update(printable(vars(error), lines=True))
        error.args = printable(error.args, lines=True)
        if isinstance(error, OSError):  # it shows the path with escapes by itself
            error.strerror = printable(error.strerror)
        raise
    finally:
        delattr(thread, CARRIES)


def run(argv, deadline=60, stdin=None, limit=LIMIT, count=None):
    """
    Run one command to its end or its deadline.

    argv
        List of strings; the first is the program.

    deadline : 60
        Seconds after which the command and its children are killed.

    stdin : None
        Text for the command's standard input; ``None`` gives it an empty one.

    limit : 1048576
        Bytes that are kept of what it prints, and as many of its errors: the first and the last half, with a word in
        between that something is left out.  The rest is read and thrown away.

    count : None
        A regular expression: how many lines of what it prints begin so, whether they are kept or not.

    The environment is minimal: the minion's ``PATH``, ``LC_ALL=C``, ``HOME=/root``.

    Returns a dictionary: ``argv``, ``rc`` (``None`` when the deadline passed; 127 when the program is missing),
    ``out`` and ``err`` (see :py:func:`printable`, in lines), ``cut`` (0, or bytes of ``out`` that are left out),
    ``counted``, ``seconds``, ``timed_out``.
    """
    record = _record(argv)
    result = _run(argv, deadline, stdin, limit, count, record)
    if record and not result["timed_out"]:  # what was killed may hang, and its children live
        with contextlib.suppress(OSError):
            os.unlink(record)
    return result


def ask(argv, deadline=60):
    """
    Run a program that prints JSON, as :py:func:`run` does.

    argv
        List: the program and its arguments.

    deadline : 60
        Seconds until it is killed.

    Returns what :py:func:`run` returns, and ``answer``: what it printed; ``None`` when it failed or printed no JSON.
    """
    result = run(argv, deadline=deadline)
    result["answer"] = None
    if result["rc"] == 0:
        try:
            result["answer"] = json.loads(result["out"])
        except ValueError:
            log.debug("%s printed no JSON", argv[0], exc_info=True)
    return result


def _run(argv, deadline, stdin, limit, count, record):
    started = time.monotonic()
    with (
        _Stream(limit, count) as out,
        _Stream(limit) as err,
        _Reader(out, err) as reader,
        tempfile.TemporaryFile() as source,
    ):
        if _programs(argv):
            reader.start()
        source.write((stdin or "").encode("utf-8", "surrogateescape"))
        source.seek(0)
        try:
            child = _start(argv, source, out, err)
        except OSError as error:
            return _result(argv, 127, out, err, f"{argv[0]}: {error.strerror}", started, False)
        _note(record, child.pid)
        with _Waiter(child) as ended:
            in_time = _read(out, err, ended, started + deadline)
            words = "" if in_time else _kill(child, ended)
        out.read()
        err.read()
        return _result(argv, child.returncode if in_time else None, out, err, words, started, not in_time)


def _record(argv):
    """
    Note that a copy or a call of vzctl begins, by which job, before it does; returns the record's path.

    The words of the command itself count, not those of any process.
    """
    programs = _programs(argv)
    if not programs:
        return None
    told = {"argv": list(argv), "program": programs[0], "programs": PROGRAMS}
    try:
        with open(BOOT_ID, encoding="ascii") as stream:
            told["boot"] = stream.read().strip()
        for folder in (os.path.dirname(RECORDS), RECORDS):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        job = os.getpid()
        handle, path = tempfile.mkstemp(prefix=f"{job}-{born(job)}-", dir=RECORDS)
        with os.fdopen(handle, "wb") as record:
            record.write(json.dumps(told).encode() + b"\n")
    except OSError as error:  # no way back may fail for this
        log.warning("%s runs unrecorded: %s", programs[0], error)
        return None
    return path


def _programs(argv):
    """
    Which of the programs that go on without their job a command is.

    Among its first words, because a program that is run apart stands behind others.
    """
    return [word for word in map(os.path.basename, argv[:8]) if word in PROGRAMS]


def _note(record, pid):
    """Add to a record what its command became; without that it is known by its words."""
    if record:
        with contextlib.suppress(OSError), open(record, "ab") as stream:
            stream.write(json.dumps({"pid": pid, "born": born(pid)}).encode() + b"\n")


def _start(argv, source, out, err):
    environment = {
        "PATH": _path(),
        "LC_ALL": "C",
        "HOME": "/root",
    }
    try:
        return subprocess.Popen(
            argv,
            stdin=source,
            stdout=out.sink,
            stderr=err.sink,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    finally:
        for stream in (out, err):
            stream.close_sink()


def _path():
    return os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")


class _Stream:
    """A pipe that a command writes into, and what is kept of it."""

    def __init__(self, limit, count=None):
        self.source, self.sink = os.pipe()
        os.set_blocking(self.source, False)
        self.half = limit // 2
        self.first, self.last, self.size = bytearray(), bytearray(), 0
        self.pattern, self.line, self.counted = count and re.compile(count.encode()), b"", 0
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close_sink()
        os.close(self.source)

    def fileno(self):
        return self.source

    def close_sink(self):
        if self.sink is not None:
            os.close(self.sink)
        self.sink = None

    def read(self):
        """Take what is there now; at most so much that the clock is not forgotten over it."""
        for _ in range(1 if self.cut() else CHUNKS):
            try:
                data = os.read(self.source, CHUNK)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                return
            self._take(data)

    def _take(self, data):
        self.size += len(data)
        room = self.half - len(self.first)
        self.first += data[:room]
        self.last += data[room:]
        if len(self.last) > 2 * self.half:
            del self.last[: -self.half]
        if self.pattern:
            *whole, rest = (self.line + data).split(b"\n")
            self.counted += sum(1 for line in whole if self.pattern.match(line))
            self.line = rest[:LINE]

    def cut(self):
        """How many bytes are too many."""
        return max(0, self.size - 2 * self.half)

    def count(self):
        """How many lines counted, also the last one without its line break."""
        return self.pattern and self.counted + bool(self.line and self.pattern.match(self.line))

    def text(self):
        """What is kept, harmless."""
        first, gap, last = self.first, b"", self.last[-self.half :]
        if self.cut():
            # Whole lines, where there are any.
            first, last = first[: first.rfind(b"\n") + 1] or first, last[last.find(b"\n") + 1 :]
            left_out = self.size - len(first) - len(last)
            gap = b"" if first.endswith(b"\n") else b"\n"
            gap += f"[{left_out} bytes are left out here]\n".encode()
        text = b"".join((first, gap, last)).decode("utf-8", "backslashreplace")
        return printable(text.replace("\r\n", "\n"), lines=True)


class _Reader:
    """The process that goes on reading when this one does not, see READER."""

    def __init__(self, *streams):
        self.streams = streams
        self.process, self.hold = None, None

    def start(self):
        """It stands by from now on, until this process ends or has read all."""
        hold, self.hold = os.pipe()
        try:
            self.process = subprocess.Popen(
                ["sh", "-c", READER, "sh", *(f"/proc/self/fd/{stream.source}" for stream in self.streams)],
                stdin=hold,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[stream.source for stream in self.streams],
                env={"PATH": _path()},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(hold)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """It is needed no more when nobody can write any more; else it goes on by itself."""
        ended = all(stream.ended for stream in self.streams)
        if not ended and not self.process:
            try:
                self.start()
            except OSError as error:  # the command itself has ended, and its result counts
                log.warning("nobody reads what a command left behind prints: %s", error)
        if self.process and ended:
            self.process.kill()
            self.process.wait()
        elif self.process:
            threading.Thread(target=self.process.wait, daemon=True).start()
        if self.hold is not None:
            os.close(self.hold)


class _Waiter:
    """The end of a process as something that can be waited for together with what it prints."""

    def __init__(self, child):
        self.source, self.sink = os.pipe()
        self.child = child
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def _wait(self):
        self.child.wait()
        os.close(self.sink)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.source)

    def fileno(self):
        return self.source


def _read(out, err, ended, until):
    """Read what a command prints until it ends; returns whether it does so in time."""
    with selectors.PollSelector() as waiting:
        for stream in (ended, out, err):
            waiting.register(stream, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in waiting.select(max(0, until - time.monotonic()))]
            if ended in ready:
                ended.thread.join()
                return True
            if time.monotonic() >= until:
                return False
            for stream in ready:
                stream.read()
                if stream.ended:
                    waiting.unregister(stream)
            if any(stream.cut() for stream in ready):
                time.sleep(PAUSE)


def _kill(child, ended):
    """Kill the command's whole session; say so if it does not go away in time."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    ended.thread.join(GRACE)
    return "still hanging after SIGKILL" if ended.thread.is_alive() else ""


def _result(argv, rc, out, err, words, started, timed_out):
    return {
        "argv": list(argv),
        "rc": rc,
        "out": out.text(),
        "err": err.text() + words,
        "cut": out.cut(),
        "counted": out.count(),
        "seconds": round(time.monotonic() - started, 3),
        "timed_out": timed_out,
    }


def run_many(commands, workers=4, deadline=60, count=None):
    """
    Run several commands, a few at a time.

    commands
        Dictionary: key to argument list.

    workers : 4
        How many run at once.

    deadline : 60
        Seconds for each command.

    count : None
        As for :py:func:`run`.

    Returns an iterator over ``(key, result of run)``, in the order in which the commands end.  (An iterator, because
    a function that is handed to another of Salt's loaders does not find its own ``__salt__`` and ``__utils__`` there.)
    """
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        futures = {pool.submit(run, argv, deadline, count=count): key for key, argv in commands.items()}
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
    return printable(" / ".join(line if len(line) <= SHOWN else f"{line[:SHOWN]}..." for line in kept))


def describe(result):
    """
    Say in one sentence how a command failed.

    result
        What :py:func:`run` returned.

    Returns text: the command, its exit code or the deadline, its last words.
    """
    argv = result["argv"]
    if argv[0] == sys.executable and "--" in argv:
        argv = argv[argv.index("--") + 1 :]  # without our own words before it (ringfree_confine.py)
    command = printable(" ".join(argv))
    if result["timed_out"]:
        ended = f"did not end within {result['seconds']:.0f} s and was killed"
    elif result["rc"] == 0 and result["cut"]:
        ended = f"printed {result['cut']} bytes more than are read"
    else:
        ended = f"ended with exit code {result['rc']}"
    words = last_words(result)
    return f"'{command}' {ended}" + (f": {words}" if words else ".")
