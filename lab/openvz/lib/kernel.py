"""System calls that Python 3.10 lacks, by way of the C library."""

import ctypes
import os

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_CAPBSET_DROP = 24
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
AF_INET, SOCK_DGRAM = 2, 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what=None):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _bytes(path):
    return None if path is None else os.fsencode(path)


def mount(source, target, kind=None, flags=0, data=None):
    """mount(2)."""
    args = (_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data))
    _check(_libc.mount(*args), target)


def umount(target, flags=0):
    """umount2(2)."""
    _check(_libc.umount2(_bytes(target), flags), target)


def unshare(flags):
    """unshare(2)."""
    _check(_libc.unshare(flags))


def setns(file, kind=0):
    """setns(2)."""
    _check(_libc.setns(file, kind))


def pivot_root_here():
    """Make the current directory the root and let go of the old one."""
    here = ctypes.c_char_p(b".")
    _check(_libc.syscall(PIVOT_ROOT[os.uname().machine], here, here))
    umount(".", MNT_DETACH)
    os.chdir("/")


def set_hostname(name):
    """sethostname(2)."""
    data = os.fsencode(name)[:64]
    _check(_libc.sethostname(data, len(data)))


def drop_capability(number):
    """Take a capability from this process and its children for ever; returns False if there is no such capability."""
    return _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0


def loopback_up():
    """Bring up lo."""
    sock = _check(_libc.socket(AF_INET, SOCK_DGRAM, 0))
    request = ctypes.create_string_buffer(b"lo", 40)
    _check(_libc.ioctl(sock, SIOCGIFFLAGS, request))
    request[16] = request.raw[16] | IFF_UP
    _check(_libc.ioctl(sock, SIOCSIFFLAGS, request))
    os.close(sock)


def fnmatch(pattern, name):
    """fnmatch(3) without flags."""
    return _libc.fnmatch(_bytes(pattern), _bytes(name), 0) == 0
