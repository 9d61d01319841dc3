"""
What a container has while it runs, and what it lacks after its next start: mounts, listeners, addresses, routes and
processes.

Everything is read from /proc of the node, as its kernel tells it: no program in the container is asked.  What is there
was still made by the container's root, so all of it is bounded; of what there is too much of, nothing is compared.

Each thing has a name such as ``mount /srv``, ``tcp 0.0.0.0:80``, ``udp 10.0.0.1:5060``, ``address 10.0.0.1``, ``route
default via 10.0.0.254 dev eth0`` or ``process crond``.  Only what has to come back by itself counts: see ``SESSIONS``,
``JOBS``, ``PASSING`` and :py:func:`_is_passing`.
"""

import fnmatch
import os
import re
import socket
import struct

KINDS = ("mount", "tcp", "udp", "address", "route", "process")
MOST = 400  # things of one kind; a container with more of them is not compared in it
ROOM = 40000  # characters of all names of one kind: the record of all containers has to be read whole
LIMIT = 1 << 18  # bytes that are read of one file in /proc; more than MOST lines
BOOTING = 600  # seconds from a container's start in which it starts its services
STEADY = 600  # seconds that a process which was started later has to run until it counts

#: File systems that the container's system mounts when something asks for them.
ON_DEMAND = (
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "efivarfs", "fusectl", "hugetlbfs",
    "mqueue", "nfsd", "nsfs", "pstore", "ramfs", "rpc_pipefs", "securityfs", "tracefs",
)  # fmt: skip
#: File systems that are empty and new with each start; which one it is cannot and need not be told.
NEW = ("devpts", "devtmpfs", "proc", "sysfs", "tmpfs")
#: What a login mounts, and what lies in file systems of the kernel.
OF_SESSIONS = ("/proc/", "/sys/", "/run/user/", "/run/credentials/")
#: Device numbers that mean another device after the next mount: none of a disk, loop(4), ploop.
PASSING_DEVICES = ("0", "7", "182")

DYNAMIC = 32768  # the first port that the kernel gives to whoever names none (ip_local_port_range)
RESERVED = range(
    512, 1024
)  # where bindresvport(3) of RPC services takes one at random, if no service has its name
#: UDP ports of calls: RTP, and UDPTL but for what has its fixed port there (IPsec, DUNDi, IAX2).
CALLS = range(10000, 65536)
FAXES = range(4000, 5000)
FIXED = (4500, 4520, 4569)

LISTENING, UNCONNECTED = "0A", "07"
#: Flags of linux/route.h: up; made by a redirect.
UP, DYNAMIC_ROUTE = 0x1, 0x10
#: Flags of linux/ipv6_route.h: rejects, from a router's advertisement (two), all routers, expires, a cached one,
#: anycast, local.
NOT_A_ROUTE = 0x200 | 0x10000 | 0x20000 | 0x40000 | 0x400000 | 0x1000000 | 0x100000 | 0x80000000
PERMANENT = 0x80  # of an IPv6 address (linux/if_addr.h)
GLOBAL = "00"  # scope of an IPv6 address
DIALLED = "ppp"  # interfaces that come with a caller

KERNEL_THREAD = 0x200000  # PF_KTHREAD of linux/sched.h
NAME = 15  # characters of a process's name that the kernel keeps
SHELLS = ("ash", "bash", "busybox", "csh", "dash", "ksh", "sh", "tcsh", "zsh")
#: What a person or a customer's program leaves behind when it has gone.
SESSIONS = (
    "SCREEN", "screen", "tmux: server", "tmux", "login", "su", "sudo", "(sd-pam)", "ssh-agent", "gpg-agent",
    "dbus-launch", "sftp-server", "scp", "agetty", "getty", "mingetty", "at-spi-bus-laun", "gvfsd", *SHELLS,
)  # fmt: skip
#: What is run for a while: copies, dumps, updates, what cron does.
JOBS = (
    "anacron", "apt", "apt-get", "apt.systemd.dai", "aptitude", "bzip2", "cp", "curl", "dd", "dnf", "dpkg", "du",
    "find", "ftp", "git", "gzip", "lftp", "logrotate", "mandb", "mv", "mysqldump", "nice", "nohup", "pg_dump",
    "pg_dumpall", "prelink", "rm", "rpm", "rsync", "run-parts", "sleep", "svn", "tail", "tar", "timeout",
    "unattended-upgr", "updatedb", "updatedb.mlocat", "wget", "xz", "yum", "zip",
)  # fmt: skip
#: What D-Bus or systemd starts when somebody asks for it.
ASKED_FOR = (
    "accounts-daemon", "console-kit-dae", "packagekitd", "polkitd", "rtkit-daemon", "systemd", "udisksd",
    "systemd-hostnam", "systemd-localed", "systemd-timedat", "upowerd", "init",
)  # fmt: skip
PASSING = frozenset((*SESSIONS, *JOBS, *ASKED_FOR))
#: What keeps one program running each; their children count as if init had started them.
KEEPERS = (
    "daemon", "daemonize", "runsv", "runsvdir", "s6-supervise", "s6-svscan", "start-stop-daem", "supervise",
    "supervisord", "svscan",
)  # fmt: skip


def head(path, limit=LIMIT):
    """
    The beginning of a file in /proc.

    path
        The file.

    limit : 262144
        Bytes that are read.

    Returns ``(bytes, True if that is all of it)``.  Raises OSError.
    """
    data = b""
    with open(path, "rb", buffering=0) as stream:
        while len(data) <= limit and (piece := stream.read(1 << 16)):
            data += piece
    return data[:limit], len(data) <= limit


# --- processes --------------------------------------------------------------------------------------------------------


def processes(proc):
    """
    All processes of the node.

    Only what the kernel keeps itself is read: a process's own memory, such as its command line, may be on a share that
    hangs.

    proc
        Where /proc is.

    Returns a dictionary: process id to ``{"name": text, "state": letter, "parent": process id, "terminal": bool,
    "kernel": bool, "born": clock ticks since boot}``.
    """
    found = {}
    for name in filter(str.isdigit, os.listdir(proc)):
        try:
            with open(f"{proc}/{name}/stat", "rb", buffering=0) as stream:
                before, after = stream.read(4096).rsplit(b")", 1)
            words = after.split()
            found[int(name)] = {
                "name": before.split(b"(", 1)[1].decode("utf-8", "surrogateescape"),
                "state": words[0].decode(),
                "parent": int(words[1]),
                "terminal": words[4] != b"0",
                "kernel": bool(int(words[6]) & KERNEL_THREAD),
                "born": int(words[19]),
            }
        except (OSError, IndexError, ValueError):
            continue  # it has ended
    return found


def init_of(status):
    """
    Which container a process is the first one of, as a kernel of OpenVZ says.

    status
        Its /proc/PID/status, bytes.

    Returns the container's id, ``None`` for any other process and any other kernel.
    """
    found = dict(line.split(b":", 1) for line in status.splitlines() if b":" in line)
    words = [found.get(key, b"").strip() for key in (b"envID", b"VPid")]
    return int(words[0]) if words[0].isdigit() and words[1] == b"1" else None


def container_of(status):
    """
    Which container a process is in, as a kernel of OpenVZ says.

    status
        Its /proc/PID/status, bytes.

    Returns the container's id, 0 for the node itself, ``None`` on any other kernel.
    """
    words = [line.split()[1] for line in status.splitlines() if line.startswith(b"envID:")]
    return int(words[0]) if words and words[0].isdigit() else None


def daemons(table, init, uptime, ticks):
    """
    The processes of a container that have to come back after its next start.

    Those are the children of its init, as every daemon is one, and those of a program that keeps another one running:
    what a daemon starts for a customer, a login or a job of cron is no such child.  They run since the container
    started, or for ten minutes, and have no terminal.

    table
        What :py:func:`processes` returned.

    init
        Process id of the container's init.

    uptime
        Seconds since the node's boot.

    ticks
        Clock ticks in a second.

    Returns a dictionary: name of the thing to a list of texts, each of which is one process.
    """
    children = {}
    for pid, entry in table.items():
        children.setdefault(entry["parent"], []).append(pid)
    found, parents, seen = {}, [init], {init}
    while parents:
        for pid in children.get(parents.pop(), ()):
            entry = table[pid]
            if pid in seen or entry["kernel"] or entry["state"] in "ZX":
                continue
            seen.add(pid)
            if _is_keeper(entry["name"]):
                parents.append(pid)
            age, after = uptime - entry["born"] / ticks, (entry["born"] - table[init]["born"]) / ticks
            if not (entry["terminal"] or entry["name"] in PASSING) and (after <= BOOTING or age >= STEADY):
                found.setdefault(f"process {entry['name']}", []).append(f"{pid} {entry['born']}")
    return found


def _is_keeper(name):
    """Whether a process is there for another one: safe_asterisk, mysqld_safe, runsv."""
    return name in KEEPERS or name.startswith("safe_") or name.endswith("_safe")


# --- mounts -----------------------------------------------------------------------------------------------------------


def mounted(mounts, own):
    """
    What is mounted in a container.

    mounts
        Its mount table, as ``ringfree_mounts.parse`` returns it, each entry with its ``directory`` within the file
        system.

    own
        Where the container's own tree lies: a list of ``(device, directory)``.  What is mounted from there moves
        with it.

    Returns a dictionary: name of the thing to a list with a text that says what it shows, the same in each start.
    """
    types, found = {mount["id"]: mount["fstype"] for mount in mounts}, {}
    for mount in mounts:
        point = mount["mountpoint"]
        passing = point == "/" or point.startswith(OF_SESSIONS) or mount["fstype"] in ON_DEMAND
        if not passing and types.get(mount["parent"]) != "autofs":
            found[f"mount {point}"] = [_shows(mount, own)]  # of several on one directory the last one is seen
    return found


def _shows(mount, own):
    directory, kind = mount["directory"], mount["fstype"]
    for device, base in own:
        base = base.rstrip("/")
        if mount["device"] == device and f"{directory}/".startswith(f"{base}/"):
            return f"its own {directory[len(base) :].rstrip('/') or '/'}"
    if kind in NEW:
        return kind
    if kind in ("nfs", "nfs4"):
        return f"{kind} {directory}"
    if kind.startswith("fuse"):
        return f"{kind} {mount['source']} {directory}"
    passing = mount["device"].split(":")[0] in PASSING_DEVICES
    return f"{kind} {directory}" if passing else f"{kind} {directory} of device {mount['device']}"


# --- listeners --------------------------------------------------------------------------------------------------------


def listeners(text, protocol, whole=True):
    """
    What listens in a container, but for ports that are another one each time.

    text
        Its /proc/PID/net/tcp, tcp6, udp or udp6.

    protocol
        ``tcp`` or ``udp``.

    whole : True
        Whether that is all of it.  The kernel names the listeners of TCP first.

    Returns a dictionary: name of the thing to a list of the numbers of its sockets.  Raises ValueError when the part
    that is left out may name one.
    """
    found, last = {}, None
    wanted = LISTENING if protocol == "tcp" else UNCONNECTED
    lines = text.split("\n")[1:]
    for line in lines if whole else lines[:-1]:
        words = line.split()
        if len(words) < 10:
            continue
        last = words[3]
        address, port = _address(words[1])
        if last != wanted or _address(words[2])[1] or _is_passing(protocol, port) or address is None:
            continue
        found.setdefault(f"{protocol} {address}:{port}", []).append(words[9])
    if not whole and (protocol == "udp" or last in (wanted, None)):
        raise ValueError("there are too many of them")
    return found


def _address(word):
    """An address of /proc/net and its port; None instead of one that holds on one link only."""
    address, port = word.split(":")
    raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    if raw.startswith(b"\0" * 10 + b"\xff\xff"):  # an IPv4 address as a socket of IPv6 sees it
        raw = raw[12:]
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw), int(port, 16)
    return (None if _is_of_link(raw) else f"[{socket.inet_ntop(socket.AF_INET6, raw)}]"), int(port, 16)


def _is_of_link(raw):
    """Whether an IPv6 address is fe80::/10 or multicast."""
    return raw[0] == 0xFF or (raw[0] == 0xFE and raw[1] & 0xC0 == 0x80)


def _is_passing(protocol, port):
    """Whether a port is most likely another one after the next start, or that of a call."""
    if port >= DYNAMIC:
        return True
    if protocol == "udp" and (port in CALLS or (port in FAXES and port not in FIXED)):
        return True
    if port not in RESERVED:
        return False
    try:
        return not socket.getservbyport(port, protocol)
    except OSError:
        return True


# --- addresses and routes ---------------------------------------------------------------------------------------------


def addresses(trie, inet6):
    """
    The addresses of a container, but for those that hold on one link or for a while only.

    trie
        Its /proc/PID/net/fib_trie; empty where the kernel has none (CONFIG_IP_FIB_TRIE).

    inet6
        Its /proc/PID/net/if_inet6.

    Returns a dictionary: name of the thing to an empty list.
    """
    found, last = {}, ""
    for line in trie.split("\n"):
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words == ["/32", "host", "LOCAL"] and not last.startswith("127."):
            found[f"address {last}"] = []
    for line in inet6.split("\n"):
        words = line.split()
        if len(words) == 6 and words[3] == GLOBAL and int(words[4], 16) & PERMANENT:
            found[f"address {_inet6(words[0])}"] = []
    return found


def _inet6(word):
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(word))


def routes(inet, inet6):
    """
    The routes of a container, but for those that the network tells it and those of callers.

    inet
        Its /proc/PID/net/route.

    inet6
        Its /proc/PID/net/ipv6_route.

    Returns a dictionary: name of the thing to an empty list.
    """
    found = {}
    for line in inet.split("\n")[1:]:
        words = line.split()
        if len(words) < 8 or words[0].startswith(DIALLED) or not int(words[3], 16) & UP:
            continue
        if not int(words[3], 16) & DYNAMIC_ROUTE:
            to, via, mask = (struct.pack("=I", int(words[at], 16)) for at in (1, 2, 7))
            length = bin(int.from_bytes(mask, "big")).count("1")
            to, via = (socket.inet_ntop(socket.AF_INET, raw) for raw in (to, via))
            found[_route(to, length, via if via != "0.0.0.0" else None, words[0])] = []
    for line in inet6.split("\n"):
        words = line.split()
        if len(words) != 10 or words[9] == "lo" or words[9].startswith(DIALLED):
            continue
        flags, to = int(words[8], 16), bytes.fromhex(words[0])
        if flags & UP and not flags & (NOT_A_ROUTE | DYNAMIC_ROUTE) and not _is_of_link(to):
            via = _inet6(words[4])
            found[_route(_inet6(words[0]), int(words[1], 16), via if via != "::" else None, words[9])] = []
    return found


def _route(to, length, via, device):
    where = "default" if not length else f"{to}/{length}"
    return f"route {where}" + (f" via {via}" if via else "") + f" dev {device}"


# --- two looks --------------------------------------------------------------------------------------------------------


def bounded(found):
    """
    Things of one kind, if there are not too many of them.

    found
        Dictionary: name of the thing to its texts.

    Returns the same.  Raises ValueError for more than a container can be compared in, by number or by length of names.
    """
    if sum(max(1, len(texts)) for texts in found.values()) > MOST:
        raise ValueError(f"there are more than {MOST} of them")
    if sum(len(text) for name, texts in found.items() for text in (name, *texts)) > ROOM:
        raise ValueError("their names are too long")
    return found


def both(first, second):
    """
    What a container had in two looks: the same mount, socket, process; what came or went between them does not count.

    first, second
        What was seen: ``{"has": {name: [text]}, "left_out": {kind: why}}``.

    Returns the same for both.
    """
    has = {}
    for name, texts in first["has"].items():
        again = second["has"].get(name)
        same = [text for text in texts if again and text in again]
        if again is not None and (same or not texts):
            has[name] = same
    return {"has": has, "left_out": {**first["left_out"], **second["left_out"]}}


def lacking(before, now, allowed=()):
    """
    What a container had and has not.

    before
        What was seen before its stop: ``{"has": {name: [text]}, "left_out": {kind: why}}``.

    now
        What is seen after its start.

    allowed : ()
        Names of things that it may lack; ``*``, ``?`` and ``[...]`` as in a shell.

    Returns a list of texts: the name of the thing and, of a mount, what it showed.
    """
    found = []
    for name, texts in before["has"].items():
        kind = name.split(" ")[0]
        if kind in now["left_out"] or _may_lack(name, allowed):
            continue
        there = now["has"].get(name)
        if kind == "mount":
            was = f"{name} ({', '.join(texts)})"
            if there is None:
                found.append(was)
            elif not set(texts) & set(there):
                found.append(f"{was}, which is {', '.join(there)} now")
        elif there is None and not (kind in ("tcp", "udp") and _listens(name, now["has"])):
            found.append(name)
    return found


def _may_lack(name, allowed):
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in allowed)


def _listens(name, has):
    """Whether something listens on all addresses where something listened on one, or for both families."""
    protocol, _, port = re.fullmatch(r"(\S+) (.*):(\d+)", name).groups()
    whole = [f"{protocol} [::]:{port}"]
    if "[" not in name:
        whole.append(f"{protocol} 0.0.0.0:{port}")
    return any(other in has for other in whole)
