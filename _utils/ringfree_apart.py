"""
Start a program as the vz service would: nothing of whoever asks for it goes into a container.

vzctl leaves a container's processes in the cgroup of its caller, with the caller's limits, priorities, OOM score and
umask.  Started as it comes, a container would end with the unit of a salt-call, or live under the limits of the minion.

:py:func:`prefix` gives the words that stand before the program's own: this file as a script, which puts everything
right that it can, says on its standard error what it could not, and becomes the program.

A program that must not end with whoever asks for it is started by a process that is nobody's child; this one waits
for it and ends as it does.
"""

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import sys

MARK = "not as the vz service would start it: "
#: What a service has that says nothing of these things.
PLAIN = {"cgroup": "/system.slice/vz.service", "nice": 0, "oom": 0, "umask": 0o022, "limits": {}}
IOPRIO_SET = {"x86_64": 251, "i386": 289, "i686": 289}
#: What /proc/PID/limits calls the limits.
LIMITS = {
    "cpu time": "CPU",
    "file size": "FSIZE",
    "data size": "DATA",
    "stack size": "STACK",
    "core file size": "CORE",
    "resident set": "RSS",
    "processes": "NPROC",
    "open files": "NOFILE",
    "locked memory": "MEMLOCK",
    "address space": "AS",
    "pending signals": "SIGPENDING",
    "msgqueue size": "MSGQUEUE",
    "nice priority": "NICE",
    "realtime priority": "RTPRIO",
    "realtime timeout": "RTTIME",
}


def prefix(place, alone=False):
    """
    The words that stand before a program's own.

    place
        What :py:func:`of_service` or :py:func:`of_init` returned.

    alone : False
        Whether the program goes on when the process that started it is ended with all its children, as Salt does it
        when its minion is restarted.

    Returns an argument list; an empty one when this Python is not there any more, as while Salt is upgraded.
    """
    script = os.path.realpath(__file__).removesuffix("c")
    there = os.path.exists(sys.executable) and os.path.exists(script)
    return [sys.executable, "-I", script, json.dumps({**place, "alone": alone})] if there else []


def of_service(shown):
    """
    What a service gives its processes.

    shown
        What ``systemctl show`` prints of it.

    Returns ``{"cgroup": path, "nice": number, "oom": number, "umask": number, "limits": {name: [soft, hard]}}``.
    """
    values = dict(line.partition("=")[::2] for line in shown.splitlines())
    place = {**PLAIN, "cgroup": _cgroup(values) or PLAIN["cgroup"], "limits": {}}
    for name, key, base in (("nice", "Nice", 10), ("oom", "OOMScoreAdjust", 10), ("umask", "UMask", 8)):
        with contextlib.suppress(KeyError, ValueError):
            place[name] = int(values[key], base)
    for name in LIMITS.values():
        with contextlib.suppress(KeyError, ValueError):
            hard = _limit(values[f"Limit{name}"])
            # An old systemd has one number for both.
            place["limits"][name] = [_limit(values.get(f"Limit{name}Soft", str(hard))), hard]
    return place


def of_init(name, limits):
    """
    What an init script gives its processes: what process 1 has.

    name
        The name of process 1.  systemd raises its own limits and not those of its services: it is no example.

    limits
        What ``/proc/1/limits`` says.

    Returns what :py:func:`of_service` does.
    """
    found = re.findall(r"^Max (.+?)  +(\S+) +(\S+)", limits if name.strip() != "systemd" else "", re.M)
    known = {LIMITS[what]: [_limit(soft), _limit(hard)] for what, soft, hard in found if what in LIMITS}
    return {**PLAIN, "limits": known}


def complaints(text):
    """
    What could not be put right.

    text
        What the program, begun with :py:func:`prefix`, wrote to its standard error. It may write such a line itself.

    Returns a list of lines.
    """
    return [line for line in text.splitlines() if line.startswith(MARK)]


def _limit(word):
    """A limit as setrlimit(2) has it: an old systemd writes infinity as a number."""
    number = resource.RLIM_INFINITY if word in ("infinity", "unlimited") else int(word)
    return resource.RLIM_INFINITY if number >= 1 << 63 else number


def _cgroup(values):
    """Where the processes of a service are; systemd says so only while there are any."""
    if values.get("ControlGroup") or not values.get("Slice", "").endswith(".slice"):
        return values.get("ControlGroup")
    words = values["Slice"].removesuffix(".slice").split("-")
    names = ["-".join(words[: at + 1]) for at in range(len(words))]
    # The root slice is "-.slice".
    return "".join(f"/{name}.slice" for name in names if words[0]) + f"/{values.get('Id', 'vz.service')}"


def groups(mine, table, wanted):
    """
    The directories that stand for a service's cgroup, one for each hierarchy in which this process is in another one.

    mine
        What ``/proc/self/cgroup`` says.

    table
        What ``/proc/self/mountinfo`` says.

    wanted
        The service's cgroup.

    Returns a list of ``(top of the hierarchy, path in it, whether it is systemd's own)``.  Empty where systemd has no
    hierarchy: there nobody ends what is in a cgroup.
    """
    tops = {}
    for line in table.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = (tail.split() + ["", "", ""])[:3]
        root, top = head.split()[3:5]
        if kind == "cgroup2" and root == "/":
            tops[""] = top
        elif kind == "cgroup" and root == "/":
            tops.update(dict.fromkeys(options.split(","), top))
    found = []
    for line in mine.splitlines():
        number, controllers, path = line.split(":", 2)
        top = tops.get(controllers.split(",")[0])
        own = controllers == "name=systemd" or number == "0"
        if top and path not in ("/", wanted):
            found.append((top, wanted, own))
    return found if any(own for _, _, own in found) else []


def _join(wanted):
    """Go to the service's cgroup."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
        mine = stream.read()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        table = stream.read()
    for top, path, own in groups(mine, table, wanted):
        # systemd removes a group that is empty, and makes it again by itself.
        if own and os.path.isdir(top + os.path.dirname(path)):
            with contextlib.suppress(FileExistsError):
                os.mkdir(top + path)
        while path != "/" and not os.path.isdir(top + path):
            path = os.path.dirname(path)
        _write(f"{top}{path}/cgroup.procs", "0")


def _write(path, text):
    with open(path, "w", encoding="ascii") as stream:
        stream.write(text)


def _set_limit(name, wanted):
    kind = getattr(resource, f"RLIMIT_{name}")
    try:
        resource.setrlimit(kind, tuple(wanted))
    except (OSError, ValueError):
        # As near as may be, which is what systemd does with a limit that it cannot set.
        soft, hard = wanted[0], resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(kind, (soft, hard))
        raise


def _io_priority():
    """Back to none, which goes by the nice value."""
    number = IOPRIO_SET.get(os.uname().machine)
    libc = ctypes.CDLL(None, use_errno=True)
    if number and libc.syscall(number, 1, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _become(place):
    """Put everything right; what cannot be is said, and keeps no container down."""
    steps = [
        ("cgroup", _join, place["cgroup"]),
        *((f"limit {name}", _set_limit, name, values) for name, values in place["limits"].items()),
        ("scheduling", os.sched_setscheduler, 0, os.SCHED_OTHER, os.sched_param(0)),
        ("processors", os.sched_setaffinity, 0, os.sched_getaffinity(1)),
        ("priority", os.setpriority, os.PRIO_PROCESS, 0, place["nice"]),
        ("I/O priority", _io_priority),
        ("OOM score", _write, "/proc/self/oom_score_adj", str(place["oom"])),
    ]
    for what, act, *arguments in steps:
        try:
            act(*arguments)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"{MARK}{what}: {error}\n")
    os.umask(place["umask"])
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _go_alone():
    """Return in a process that is nobody's child; the first one stays, and ends as this one will."""
    source, sink = os.pipe()
    first = os.fork()
    if first:
        os.close(sink)
        os.waitpid(first, 0)
        told = os.read(source, 8)
        os._exit(int(told) if told else 1)
    os.setsid()
    if os.fork():
        os._exit(0)
    child = os.fork()
    if not child:
        return
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    status = os.waitpid(child, 0)[1]
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    with contextlib.suppress(OSError):
        os.write(sink, str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    place = json.loads(sys.argv[1])
    _become(place)
    if place["alone"]:
        _go_alone()
    sys.stderr.flush()
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.stderr.write(f"{sys.argv[2]}: {error.strerror}\n")
        sys.exit(127)
