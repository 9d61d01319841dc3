"""
Write files so that a crash leaves either the old or the new content, never something between.
"""

import errno
import os
import stat
import tempfile


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


def read(path):
    """
    Read a whole file.

    path
        The file.

    Returns its bytes, or ``None`` when it does not exist.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def read_folder(path):
    """
    Read the regular files and links directly in a directory.

    path
        The directory.

    Returns a dictionary: name to ``{"link": target}`` or ``{"data": bytes, "mode": int, "uid": int, "gid": int}``;
    empty when the directory does not exist.  Subdirectories are given as ``{"folder": True}``.
    """
    entries = {}
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        return entries
    for name in names:
        try:
            entry = _entry(os.path.join(path, name))
        except FileNotFoundError:  # gone since it was listed: other nodes write to the conf share too
            continue
        if entry:
            entries[name] = entry
    return entries


def _entry(path):
    """One file, link or subdirectory for :py:func:`read_folder`; None for anything else."""
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        return {"link": os.readlink(path)}
    if stat.S_ISDIR(info.st_mode):
        return {"folder": True}
    if not stat.S_ISREG(info.st_mode):
        return None
    with open(path, "rb") as stream:
        data = stream.read()
    return {"data": data, "mode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid}
