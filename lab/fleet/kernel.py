"""The few system calls that Python's standard library lacks before 3.12."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def _check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: {what}")


def mount(source, target, fstype="none", flags=0, data=""):
    """mount(2); paths are str or Path."""
    result = _libc.mount(
        os.fsencode(str(source)),
        os.fsencode(str(target)),
        fstype.encode(),
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    _check(result, f"mount {fstype} {source} on {target}")


def bind(source, target, read_only=False):
    """Bind-mount one tree (without what is mounted below it)."""
    mount(source, target, flags=MS_BIND)
    if read_only:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def umount(target, flags=0):
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(str(target)), flags), f"umount {target}")


def private_mounts():
    """Keep the mounts of this namespace to itself."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def unshare(flags):
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd, kind=0):
    """setns(2)."""
    _check(_libc.setns(fd, kind), "setns")


def pivot_into(root):
    """Make ROOT, a mount point, the root of this mount namespace and drop the old one."""
    os.chdir(root)
    number = SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, b".", b"."), f"pivot_root {root}")
    # With both arguments the same the old root lies on top of the new one.
    umount(".", MNT_DETACH)
    os.chdir("/")


def sethostname(name):
    """sethostname(2)."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")
