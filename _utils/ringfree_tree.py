"""
Look into the tree of a container, whose root may change it at any moment: measured, scanned, deleted.

One walk for all of them.  It goes from directory to directory by descriptors and single names, so that no link is
followed at any level, no path can be too long and no tree too deep; two descriptors are open at a time.  A directory
that is swapped meanwhile is noticed by its inode and left out.

:func:`scan` and :func:`changed_since` run as a script as well (:func:`command` gives the command line) and print one
JSON document.
"""

import errno
import fcntl
import itertools
import json
import os
import stat
import struct
import sys
import time

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: What a container's tree may use. Most of it an export may not be able to store; the last two cannot be moved at all.
USES = (
    "hard_links",
    "sparse",
    "devices",
    "fifos",
    "sockets",
    "setuid",
    "acl",
    "xattr",
    "capability",
    "odd_names",
    "immutable",
    "long_paths",
)
#: Bytes of a path below the top that everybody can name: PATH_MAX (limits.h) without what stands before it, such as the
#: export or the folder that keeps what a way back replaces, and what rsync adds while it writes a file.
LONGEST = 4096 - 256
GET_FLAGS = 0x80086601  # FS_IOC_GETFLAGS of linux/fs.h, as lsattr(1) asks it
FLAGS = 0x10 | 0x20  # FS_IMMUTABLE_FL and FS_APPEND_FL: nobody can replace or delete such a file
SHOWN = 200  # characters of a path in a text for people


def command(what, *words):
    """
    The command line that runs this file as a script.

    what
        ``scan`` or ``changed_since``.

    words
        Its arguments, the path of the tree first.

    Returns an argument list.
    """
    return [sys.executable, "-I", "-S", os.path.realpath(__file__).removesuffix("c"), what, *map(str, words)]


# --- the walk ---------------------------------------------------------------------------------------------------------


class Walk:
    """
    One walk through a directory that is open: iterating gives ``(name, info)`` of each entry below it.

    A directory comes before what is in it; with ``after`` it comes after that.  What lies on another file system is
    left out, with what is in it; ``others`` counts that.  What vanishes or is swapped meanwhile is left out as well.

    ``here`` is a descriptor of the directory that the entry is in, good until the next one; ``length`` is how many
    bytes the path of that directory has, with the slash after it; :func:`path` gives the entry's path.
    """

    def __init__(self, top, after=False):
        self.top, self.after, self.here = top, after, None
        self.length, self.others = -1, 0
        self._levels = []  # from the top down: name, device and inode, directories still to be entered

    def path(self, name):
        """The path of an entry of the present directory, below the top, as text for people."""
        names = [level[0] for level in self._levels[1:]]
        return shown("/".join([*names, name]))

    def __iter__(self):
        info = os.fstat(self.top)
        self.here = os.open(".", FOLDER, dir_fd=self.top)
        try:
            yield from self._enter("", (info.st_dev, info.st_ino))
            while self._levels:
                if self._levels[-1][2]:
                    yield from self._descend()
                else:
                    yield from self._ascend()
        finally:
            os.close(self.here)

    def _enter(self, name, identity):
        """The entries of a directory that has just been opened."""
        waiting = []
        self._levels.append((name, identity, waiting))
        self.length += len(os.fsencode(name)) + 1
        with os.scandir(self.here) as listing:
            for entry in listing:
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if info.st_dev != identity[0]:
                    self.others += 1
                    continue
                if stat.S_ISDIR(info.st_mode):
                    waiting.append((entry.name, info))
                    if self.after:
                        continue
                yield entry.name, info

    def _descend(self):
        """Enter the next directory, if it still is the one that was listed."""
        name, info = self._levels[-1][2].pop()
        below = _opened(name, self.here, (info.st_dev, info.st_ino))
        if below is not None:
            self._go(below)
            yield from self._enter(name, (info.st_dev, info.st_ino))

    def _ascend(self):
        """Leave a directory that is done; ``..`` is only believed when it is the one that we came from."""
        name, identity, _ = self._levels.pop()
        self.length -= len(os.fsencode(name)) + 1
        if not self._levels:
            return
        above = _opened("..", self.here, self._levels[-1][1])
        if above is None and not self._down_again():
            return
        if above is not None:
            self._go(above)
        if self.after:
            try:
                info = os.stat(name, dir_fd=self.here, follow_symlinks=False)
            except FileNotFoundError:
                return
            if (info.st_dev, info.st_ino) == identity:
                yield name, info

    def _down_again(self):
        """From the top to where the walk was, when that was moved elsewhere; what is not in its place is given up."""
        self._go(os.open(".", FOLDER, dir_fd=self.top))
        for depth, (name, identity, _) in enumerate(self._levels[1:], start=1):
            below = _opened(name, self.here, identity)
            if below is None:
                for lost in self._levels[depth:]:
                    self.length -= len(os.fsencode(lost[0])) + 1
                del self._levels[depth:]
                return False
            self._go(below)
        return True

    def _go(self, handle):
        os.close(self.here)
        self.here = handle


def _opened(name, above, identity):
    """A directory by its name, or None when it is not the one with this device and inode."""
    try:
        handle = os.open(name, FOLDER, dir_fd=above)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    info = os.fstat(handle)
    if (info.st_dev, info.st_ino) == identity:
        return handle
    os.close(handle)
    return None


def shown(path):
    """
    A path as text for people: whatever bytes are in it, and of one that is very long its beginning.

    path
        The path.

    Returns text.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def open_folder(path, above=None):
    """
    Open a directory; no part of the path may be a symbolic link.

    path
        The path; absolute unless ``above`` is given.

    above : None
        An open directory that the path starts from.

    Returns a file descriptor.  Raises OSError.
    """
    handle = os.open("/", FOLDER) if above is None else os.dup(above)
    for name in filter(None, path.split("/")):
        below = None
        try:
            below = os.open(name, FOLDER, dir_fd=handle)
        finally:
            os.close(handle)
        handle = below
    return handle


def is_ploop(private):
    """
    Whether a private area is one of the layout ploop: an image instead of a tree.

    private
        The private area.

    Returns True or False.
    """
    return holds(private, "root.hdd/DiskDescriptor.xml")


def holds(top, path):
    """
    Whether there is something of a name in a container's tree; links on the way to it are not followed.

    top
        The container's private area or root.

    path
        The path below it.

    Returns True or False.
    """
    folder, name = os.path.split(path)
    try:
        area = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    handle = None
    try:
        handle = open_folder(folder, area)
        os.stat(name, dir_fd=handle, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(area)
        if handle is not None:
            os.close(handle)
    return True


# --- measured, and looked at ------------------------------------------------------------------------------------------


def measure(handle):
    """
    What lies in a directory on local disk, without the directory itself.

    handle
        The open directory.

    Returns ``{"files": number of entries, "bytes": allocated, "newest": seconds, "newest_name": text}``; ``newest`` is
    when an entry was last changed in any way, its ctime, which nobody can set back.
    """
    found = {"files": 0, "bytes": 0, "newest": 0, "newest_name": ""}
    linked, walk = set(), Walk(handle)
    for name, info in walk:
        found["files"] += 1
        found["bytes"] += _new_bytes(info, linked)
        if info.st_ctime > found["newest"]:
            found.update(newest=info.st_ctime, newest_name=walk.path(name))
    return found


def _new_bytes(info, linked):
    """What a file takes; nothing when another name of it was counted before."""
    if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
        if info.st_ino in linked:
            return 0
        linked.add(info.st_ino)
    return info.st_blocks * 512


def scan(path):
    """
    Count what a private area holds.

    path
        The private area; it may be a link to one.

    Returns ``inodes``, ``bytes`` (allocated), a count for each of ``USES``, and ``examples``: use to path.
    """
    found = {**dict.fromkeys(USES, 0), "inodes": 0, "bytes": 0, "examples": {}}
    linked = set()
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        walk = Walk(handle)
        top = ((".", handle, os.fstat(handle)) for _ in range(1))
        for name, here, info in itertools.chain(top, ((name, walk.here, info) for name, info in walk)):
            before = len(linked)
            found["bytes"] += _new_bytes(info, linked)
            found["inodes"] += info.st_nlink == 1 or stat.S_ISDIR(info.st_mode) or len(linked) > before
            for use in _uses(name, here, info, walk.length):
                found[use] += 1
                if use not in found["examples"]:
                    found["examples"][use] = shown(path) + ("" if name == "." else f"/{walk.path(name)}")
    finally:
        os.close(handle)
    return found


def obstacles(found):
    """
    What in a private area keeps it from being moved to the share and back.

    found
        What :func:`scan` returned.

    Returns a list of sentences that name one example and the cure.
    """
    said, examples = [], found.get("examples", {})
    if found.get("immutable"):
        said.append(
            f"has {found['immutable']} immutable or append-only files, such as {examples.get('immutable')}: the flag "
            f"is lost on the share, and no way back can replace them; 'chattr -i -a' takes it away"
        )
    if found.get("long_paths"):
        said.append(
            f"has {found['long_paths']} files whose paths are longer than {LONGEST} bytes, such as "
            f"{examples.get('long_paths')}: they cannot be copied; give their folders shorter names, or pack or delete "
            f"them, in the container"
        )
    return said


def _uses(name, here, info, above):
    """Which of USES a file counts for; ``above`` is the length of the path of its directory."""
    mode, data = info.st_mode, os.fsencode(name)
    if stat.S_ISREG(mode) and info.st_nlink > 1:
        yield "hard_links"
    if stat.S_ISREG(mode) and info.st_blocks * 512 + 4096 < info.st_size:
        yield "sparse"
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        yield "devices"
    if stat.S_ISFIFO(mode):
        yield "fifos"
    if stat.S_ISSOCK(mode):
        yield "sockets"
    if mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(mode):
        yield "setuid"
    if b"\n" in data or data.decode("utf-8", "replace").encode() != data:
        yield "odd_names"
    if above + len(data) > LONGEST:
        yield "long_paths"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        yield from _flag_uses(name, here, info)
    yield from _attribute_uses(name, here)


def _attribute_uses(name, here):
    """Which of USES a file's extended attributes count for."""
    try:
        # The directory is open: what follows it is one name, and no link is followed.
        names = os.listxattr(f"/proc/self/fd/{here}/{name}", follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTSUP):
            raise
        return
    if "security.capability" in names:
        yield "capability"
    if any(name.startswith("system.posix_acl_") for name in names):
        yield "acl"
    if any(name.startswith(("user.", "trusted.")) for name in names):
        yield "xattr"


def _flag_uses(name, here, info):
    """Whether a file or directory is immutable, or can only be added to."""
    try:
        pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    except FileNotFoundError:
        return
    try:
        # Only what was looked at is opened: a device that is swapped in could do anything when it is.
        if os.fstat(pinned).st_ino == info.st_ino and is_fixed(f"/proc/self/fd/{pinned}"):
            yield "immutable"
    finally:
        os.close(pinned)


def is_fixed(path):
    """
    Whether a file or directory has a flag by which nobody can replace or delete it (``chattr +i``, ``+a``).

    path
        The path of a file or directory.

    Returns True or False; False also where its file system knows no flags.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False  # a lease, a file that is gone: rsync will say
    try:
        return bool(struct.unpack("i", fcntl.ioctl(handle, GET_FLAGS, bytes(4)))[0] & FLAGS)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise
        return False
    finally:
        os.close(handle)


def changed_since(path, moment):
    """
    What was changed since a moment in a tree that ought to be at rest, by the ctime, which nobody can set.

    A time that is still to come is of a clock that was wrong, and not of now.

    path
        The private area.

    moment
        Seconds since the epoch.

    Returns ``{"changed": how many entries, "example": path}``.
    """
    found, moment, now = {"changed": 0, "example": ""}, float(moment), time.time()
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        walk = Walk(handle)
        if moment < os.fstat(handle).st_ctime <= now:
            found.update(changed=1, example=shown(path))
        for name, info in walk:
            if moment < info.st_ctime <= now:
                found["changed"] += 1
                found["example"] = found["example"] or f"{shown(path)}/{walk.path(name)}"
    finally:
        os.close(handle)
    return found


# --- deleted ----------------------------------------------------------------------------------------------------------


def remove(above, name, inode):
    """
    Delete a directory and all that is in it: never through a symbolic link, never on another file system.

    above
        The open directory that it is in.

    name
        Its name there.

    inode
        Its inode: any other directory of that name stays.

    Returns nothing.  Raises OSError, with the path of what could not be deleted, also for what is no such directory; a
    second try goes on where that left off.
    """
    info = os.stat(name, dir_fd=above, follow_symlinks=False)
    identity = (os.fstat(above).st_dev, inode)
    handle = None
    if stat.S_ISDIR(info.st_mode) and (info.st_dev, info.st_ino) == identity and "/" not in name:
        handle = _opened(name, above, identity)
    if handle is None:
        raise OSError(f"{name} is not the directory that was to be deleted")
    try:
        walk = Walk(handle, after=True)
        for entry, found in walk:
            try:
                (os.rmdir if stat.S_ISDIR(found.st_mode) else os.unlink)(entry, dir_fd=walk.here)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise OSError(error.errno, error.strerror, f"{name}/{walk.path(entry)}") from error
        if walk.others:
            raise OSError(f"{walk.others} entries of {name} are on another file system")
    finally:
        os.close(handle)
    os.rmdir(name, dir_fd=above)


def clear(path):
    """
    Delete a directory of our own with all that is in it, if it is there.

    path
        Its path.

    Returns nothing.  Raises OSError.
    """
    try:
        above = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        name = os.path.basename(path)
        remove(above, name, os.stat(name, dir_fd=above, follow_symlinks=False).st_ino)
    except FileNotFoundError:
        return
    finally:
        os.close(above)


if __name__ == "__main__":
    try:
        json.dump({"scan": scan, "changed_since": changed_since}[sys.argv[1]](*sys.argv[2:]), sys.stdout)
    except OSError as error:
        sys.exit(f"{error.strerror}: {shown(error.filename or '')}")
