"""
Confine a program to the trees that it works on: it sees them, itself, and nothing else of the machine.

Root of a container can put a link anywhere in its tree, and swap a directory with one at any moment, while rsync works
there as root of the node.  rsync has closed such races by and by (3.4.3 to 3.5.0), and nodes have older ones.  So
it gets a mount namespace of its own with an almost empty root: the trees under names of ours, its own file and
libraries, read-only.  Wherever a link leads, nothing else is there.

No key is there either: ssh, when rsync starts it, hands its descriptors through a control socket to the connection that
was opened outside (``ControlMaster`` in ssh_config(5)).

:py:func:`command` gives the words that start a program like that: this file as a script, which becomes the program.
"""

import ctypes
import errno
import json
import os
import re
import shutil
import subprocess
import sys

SCRIPT = os.path.realpath(__file__).removesuffix("c")
#: Where the new root is put together; only the confined program sees it.
ROOM = "/run/ringfree"
#: What the script ends with when it cannot confine: none of rsync's own, rsync(1).
EXIT_CODE = 125
CONNECTION = "/connection"
#: From mount(2), mount.h and umount(2).
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
NEWNS = 0x20000  # from unshare(2)
DEVICES = ("null", "urandom")
#: What ssh must find to know that it is root; it starts no shell.
FILES = {"passwd": "root:x:0:0:root:/:/\n", "nsswitch.conf": "passwd: files\n"}


def command(argv, trees, connection=None):
    """
    The command that runs a program confined.

    argv
        The program and its arguments, which know the trees by their names inside.

    trees
        Dictionary: name inside, such as ``/tree``, to ``{"path": directory, "write": bool}``; with ``"name"`` it is the
        directory of that name in it, which must be no link.

    connection : None
        The control socket of an open ssh connection; the program can then start ssh, which knows it as ``/connection``.

    Returns an argument list.
    """
    told = {"trees": trees, "connection": connection, "room": ROOM}
    return [sys.executable, "-I", "-S", SCRIPT, json.dumps(told), "--", *argv]


def connection():
    """
    The control socket's name inside.

    Returns text.
    """
    return CONNECTION


def _check(returned, what):
    if returned == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source, target, flags, kind=None, data=None):
    words = [word and os.fsencode(word) for word in (source, target, kind)]
    _check(_libc().mount(*words, ctypes.c_ulong(flags), data), f"mount {target}")


def _libc():
    return ctypes.CDLL(None, use_errno=True)


def _bind(handle, target, flags=RDONLY):
    """Mount what was opened before: by its descriptor, whatever its name leads to by now."""
    _mount(f"/proc/self/fd/{handle}", target, BIND)
    _mount(None, target, REMOUNT | BIND | NOSUID | flags)


def _program(name):
    """Where a program is. Scripts of that name are passed over: they would need a shell, and what they call."""
    found = [shutil.which(name, path=folder) for folder in os.environ.get("PATH", "").split(":") if folder]
    for path in filter(None, found):
        with open(path, "rb") as stream:
            if stream.read(2) != b"#!":
                return path
    raise OSError(errno.ENOENT, f"{name} is not installed, or only as a script")


def _libraries(program):
    """What the loader would load for a program: what ldd(1) asks it, without the shell."""
    asked = subprocess.run(
        [program],
        env={"LD_TRACE_LOADED_OBJECTS": "1", "PATH": os.environ.get("PATH", "")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    found = set(re.findall(rb"(?:^|\s)(/\S+) \(0x", asked.stdout))
    # Before glibc 2.34 the reader of /etc/passwd is a file of its own, which is loaded when it is asked.
    users = {os.path.join(os.path.dirname(path), b"libnss_files.so.2") for path in found if b"/libc." in path}
    return {os.fsdecode(path) for path in found | {path for path in users if os.path.exists(path)}}


def _opened(path, folder=False):
    return os.open(path, os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0))


def _opened_tree(tree):
    handle = _opened(tree["path"], folder=True)
    if not tree.get("name"):
        return handle
    flags = os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW
    return os.open(tree["name"], flags, dir_fd=handle)


def _make(path, handle, folder=False):
    """A place below the new root to mount something on."""
    os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)
    if not folder:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return handle, path


def _confine(told, names):
    """Leave this process with a root in which only the trees and the programs are; returns where libraries are."""
    programs = {name: _program(name) for name in names}
    libraries = set().union(*map(_libraries, programs.values()))
    _check(_libc().unshare(NEWNS), "unshare")
    _mount(None, "/", REC | PRIVATE)
    outside = {f"/bin/{name}": _opened(path) for name, path in programs.items()}
    outside.update({path: _opened(path) for path in libraries})
    outside.update({f"/dev/{name}": _opened(f"/dev/{name}") for name in DEVICES})
    trees = {name: _opened_tree(tree) for name, tree in told["trees"].items()}
    if told["connection"]:
        outside[CONNECTION] = _opened(told["connection"])
    room = told["room"]
    _mount("confined", room, NOSUID, "tmpfs", b"mode=0755,size=1m")
    for name, text in FILES.items():
        os.makedirs(f"{room}/etc", exist_ok=True)
        with open(f"{room}/etc/{name}", "w", encoding="ascii") as stream:
            stream.write(text)
    for path, handle in outside.items():
        _bind(*_make(room + path, handle))
    for name, handle in trees.items():
        # A file that becomes a device under rsync's hands would be the machine's own disk.
        flags = NODEV | (0 if told["trees"][name]["write"] else RDONLY)
        _bind(*_make(room + name, handle, folder=True), flags)
    _mount(None, room, REMOUNT | BIND | RDONLY | NOSUID)
    os.chdir(room)
    # The old root comes to lie on the new one, and goes with all that is mounted in it: pivot_root(2).
    _check(_libc().pivot_root(b".", b"."), "pivot_root")
    _check(_libc().umount2(b".", DETACH), "umount")
    os.chdir("/")
    return {os.path.dirname(path) for path in libraries}


def _become(told, argv):
    names = [argv[0], *(["ssh"] if told["connection"] else [])]
    try:
        folders = _confine(told, names)
        environment = {
            "PATH": "/bin",
            "LC_ALL": "C",
            "HOME": "/",
            "LD_LIBRARY_PATH": ":".join(sorted(folders)),
        }
        os.execve(f"/bin/{argv[0]}", argv, environment)
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{argv[0]} was not started, as it cannot be confined: {error}\n")
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    _become(json.loads(sys.argv[1]), sys.argv[3:])
