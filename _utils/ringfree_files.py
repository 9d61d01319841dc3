"""
Write files so that a crash leaves either the old or the new content, never something between; read files whole, but
none that is too large or no file at all.
"""

import contextlib
import errno
import os
import stat
import tempfile

LIMIT = 16 << 20  # bytes; no file that is read whole has as many
MOST = 10000  # files in a directory that is read whole
CHUNK = 1 << 16  # bytes that are read at once
OTHERS = 0o077  # what a mode gives to others than the owner
#: Below a directory of this name everything is ours, and nobody else's business.
OURS = "ringfree"


def folder(path):
    """
    A directory of ours that only root enters, made with what is missing above it; a looser one is put right.

    So is what lies between it and the topmost directory that is ours.

    path
        The directory.

    Returns nothing.  Raises OSError, also when one of ours is a link, no directory, or another user's.
    """
    words = os.path.abspath(path).split("/")
    first = len(words) - 1 - words[::-1].index(OURS) if OURS in words else len(words) - 1
    os.makedirs("/".join(words[:first]) or "/", exist_ok=True)
    for end in range(first + 1, len(words) + 1):
        ours = "/".join(words[:end])
        with contextlib.suppress(FileExistsError):
            os.mkdir(ours, 0o700)
        info = os.lstat(ours)
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), ours)
        if info.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"it belongs to user {info.st_uid}", ours)
        if info.st_mode & OTHERS:
            os.chmod(ours, info.st_mode & 0o700)


def keep(path, data):
    """
    Replace a file of ours that nobody else reads, in a :py:func:`folder`; a looser one is put right.

    path
        The file to write.

    data
        Bytes.

    Returns nothing.  Raises OSError; the old file is then untouched.
    """
    folder(os.path.dirname(path))
    mode = loose(path)
    if mode is not None:
        os.chmod(path, mode & 0o700)
    write(path, data, 0o600)


def loose(path):
    """
    Whether a file or a directory is open to others than its owner.

    path
        The file or directory; no link is followed.

    Returns its mode if it is, else ``None``; also where there is none.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    return stat.S_IMODE(mode) if not stat.S_ISLNK(mode) and mode & OTHERS else None


def write(path, data, mode=0o644):
    """
    Replace a file atomically: temporary file beside it, fsync, rename, fsync of the directory.

    A symbolic link stays a link and its target is replaced.  An existing file keeps its mode, owner and
    extended attributes (POSIX ACLs are extended attributes too).

    path
        The file to write.

    data
        Bytes.

    mode : 0o644
        Mode of a file that did not exist before.

    Returns nothing.  Raises OSError; the old file is then untouched.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    handle, temporary = tempfile.mkstemp(
        prefix=f".{os.path.basename(target)}.", suffix=".ringfree", dir=folder
    )
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            _take_over(target, temporary, mode)
            os.fsync(stream.fileno())
        os.rename(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(folder)


def try_beside(folder, size):
    """
    Try to write in a directory: a file without a name, which is gone at once.

    folder
        The directory.

    size
        Bytes.

    Returns nothing.  Raises OSError where it cannot be done, such as on a file system that is read-only or full.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(size))
        stream.flush()


def _take_over(target, temporary, mode):
    """Give the new file the old one's owner, mode and extended attributes."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        os.chmod(temporary, mode)
        return
    os.chown(temporary, old.st_uid, old.st_gid)
    os.chmod(temporary, stat.S_IMODE(old.st_mode))
    try:
        names = os.listxattr(target)
    except OSError as error:
        if (
            error.errno != errno.ENOTSUP
        ):  # NFS version 3 has no extended attributes, so there are none to take over
            raise
        return
    for name in names:
        os.setxattr(temporary, name, os.getxattr(target, name))


def sync_folder(path):
    """
    Make renames in a directory durable.

    path
        The directory.

    Returns nothing.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path, limit=LIMIT):
    """
    Read a whole file.

    path
        The file; a link is followed.

    limit : 16777216
        Bytes that it may have.

    Returns its bytes, or ``None`` when it does not exist.  Raises OSError, also for one that is larger, and for a
    directory, a device or a pipe in its place, none of which is waited for.
    """
    try:
        return _content(path, limit)[0]
    except FileNotFoundError:
        return None


def _content(path, limit, flags=0):
    """The content of a regular file, and what fstat(2) says of it."""
    # Opening a pipe would wait for its other end.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | flags)
    try:
        info = os.fstat(handle)
        if stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        # Files in /proc have no size, and what is being written grows.
        data = bytearray()
        while piece := os.read(handle, min(CHUNK, limit + 1 - len(data))):
            data += piece
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
        return bytes(data), info
    finally:
        os.close(handle)


def read_folder(path, limit=LIMIT, below=()):
    """
    Read the regular files and links directly in a directory, and in some of its subdirectories.

    path
        The directory.

    limit : 16777216
        Bytes that all of them together may have.

    below : ()
        Names of subdirectories of which all is read as well, but for hidden names.

    Returns a dictionary: name to ``{"link": target}`` or ``{"data": bytes, "mode": int, "uid": int, "gid": int}``;
    empty when the directory does not exist.  Subdirectories are given as ``{"folder": True}``; what is in those of
    ``below`` has a name such as ``scripts/lib.sh``.  Raises OSError, also when there is more than the limit.
    """
    entries, waiting = {}, [""]
    while waiting:
        folder = waiting.pop()
        try:
            names = sorted(os.listdir(os.path.join(path, folder)))
        except FileNotFoundError:
            continue
        for name in (os.path.join(folder, name) for name in names if not (folder and name.startswith("."))):
            try:
                entry = _entry(os.path.join(path, name), limit)
            except FileNotFoundError:  # gone since it was listed: other nodes write to the conf share too
                continue
            if entry:
                entries[name] = entry
                limit -= len(entry.get("data", b""))
            if entry and "folder" in entry and (folder or name in below):
                waiting.append(name)
        if len(entries) > MOST:
            raise OSError(errno.EFBIG, f"it has more than {MOST} files", path)
    return entries


def subfolders(path):
    """
    The subdirectories of a directory that have no hidden name; a link to one is none.

    path
        The directory.

    Returns a list of names; empty when the directory does not exist.  Raises OSError.
    """
    try:
        with os.scandir(path) as listing:
            return [
                entry.name
                for entry in listing
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
    except FileNotFoundError:
        return []


def _entry(path, limit):
    """One file, link or subdirectory for :py:func:`read_folder`; None for anything else."""
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        return {"link": os.readlink(path)}
    if stat.S_ISDIR(info.st_mode):
        return {"folder": True}
    if not stat.S_ISREG(info.st_mode):
        return None
    data, info = _content(path, limit, os.O_NOFOLLOW)
    return {"data": data, "mode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid}
