"""Runs on a host: says everything about each file below some folders that a copy must not change. Stays on one file
system.

Prints JSON: folder to {path: entry}. Paths and link targets are bytes as Latin-1 text. With --steady, what running
containers write all the time is left out, and the times of what each start writes anew."""

import hashlib
import json
import os
import re
import stat
import sys

BLOCK = 65536
MOVING = (b"var/spool/records", b"var/log", b"var/run", b"run", b"etc/mtab")
#: What the scripts of a distribution write at each start, the same each time: with --steady only when is left out.
SET_UP = re.compile(
    rb"(?:.*/)?etc(?:/hosts|/hostname|/resolv\.conf|/sysconfig|/sysconfig/network(?:-scripts(?:/.*)?)?)?"
)


def entry_of(path, links):
    """One file."""
    found = os.lstat(path)
    entry = {"mode": oct(found.st_mode), "owner": [found.st_uid, found.st_gid], "mtime": found.st_mtime_ns}
    if stat.S_ISLNK(found.st_mode):
        entry["target"] = os.readlink(path).decode("latin-1")
    elif stat.S_ISREG(found.st_mode):
        entry.update(size=found.st_size, blocks=found.st_blocks, content=content(path))
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        entry["device"] = found.st_rdev
    if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
        entry["links"] = links.setdefault(found.st_ino, [])
    if not stat.S_ISLNK(found.st_mode):
        entry["attributes"] = {name: os.getxattr(path, name).hex() for name in sorted(os.listxattr(path))}
    return entry


def on_device(path, device):
    """Whether a folder is there and no mount point of another file system."""
    try:
        return os.lstat(path).st_dev == device
    except FileNotFoundError:
        return False


def content(path):
    """The digest of a file's data. Zeros count as a hole, wherever the file system keeps them."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        end = os.fstat(stream.fileno()).st_size
        at = 0
        while at < end:
            try:
                at = os.lseek(stream.fileno(), at, os.SEEK_DATA) & ~(BLOCK - 1)
            except OSError:
                break
            block = os.pread(stream.fileno(), BLOCK, at)
            if block.strip(b"\0"):
                digest.update(at.to_bytes(8, "big") + block)
            at += BLOCK
    return digest.hexdigest()


def tree(folder, steady):
    """All files below a folder, and the folder itself."""
    top, found, links = os.fsencode(folder), {}, {}
    device = os.lstat(top).st_dev
    for place, folders, files in os.walk(top):
        folders[:] = [name for name in folders if on_device(os.path.join(place, name), device)]
        here = os.path.relpath(place, top)
        if steady and any(here == name or here.endswith(b"/" + name) for name in MOVING):
            folders.clear()
            continue
        for name in [b"."] * (place == top) + folders + files:
            path = os.path.join(place, name)
            key = os.path.normpath(os.path.join(here, name))
            if steady and any(key == moving or key.endswith(b"/" + moving) for moving in MOVING):
                continue
            try:
                entry = entry_of(path, links)
            except FileNotFoundError:
                continue
            if steady and SET_UP.fullmatch(key):
                del entry["mtime"]
            if "links" in entry:
                entry["links"].append(key.decode("latin-1"))
                entry["links"].sort()
            found[key.decode("latin-1")] = entry
    return found


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)  # os.walk goes a level deeper for each directory, before Python 3.12
    words = sys.argv[1:]
    steady = "--steady" in words
    json.dump({folder: tree(folder, steady) for folder in words if folder != "--steady"}, sys.stdout)
