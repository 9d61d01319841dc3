"""What root of a container can make of its tree: files that nobody can replace, directories without end."""

import contextlib
import errno
import fcntl
import os
import struct

import pytest

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602  # linux/fs.h
IMMUTABLE = 0x10


def set_immutable(path, wanted):
    """What ``chattr +i`` and ``-i`` do; a test on a file system without flags, or without root, is skipped."""
    handle = os.open(path, os.O_RDONLY)
    try:
        (now,) = struct.unpack("i", fcntl.ioctl(handle, GET_FLAGS, bytes(4)))
        fcntl.ioctl(handle, SET_FLAGS, struct.pack("i", now | IMMUTABLE if wanted else now & ~IMMUTABLE))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EPERM):
            raise
        pytest.skip(f"no file can be made immutable here: {error}")
    finally:
        os.close(handle)


@contextlib.contextmanager
def immutable(path):
    """The flag for as long as the block lasts."""
    set_immutable(path, True)
    try:
        yield
    finally:
        if os.path.exists(path):
            set_immutable(path, False)


def make_deep(place, depth, name="d"):
    """A chain of directories, each in the one before."""
    handle = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
