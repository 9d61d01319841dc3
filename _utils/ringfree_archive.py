"""
The snapshot of a directory: a gzipped tar archive, written whole, read back, restored only if it is harmless.
"""

import os
import stat
import tarfile


def pack(folder, path):
    """
    Write an archive of a directory: temporary file, fsync, rename.

    folder
        The directory; its entries are members by their bare names.

    path
        The archive.

    Returns nothing.  Raises OSError, and ValueError when the archive cannot be restored as it is; an archive that
    was there before is then untouched.
    """
    temporary = path + ".new"
    with open(temporary, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(os.listdir(folder)):
                archive.add(os.path.join(folder, name), arcname=name)
        stream.flush()
        os.fsync(stream.fileno())
    unpack(temporary)
    os.rename(temporary, path)


def unpack(path):
    """
    Read the files and links of an archive that lie directly in it.

    path
        The archive.

    Returns a dictionary: name to ``{"link": target}`` or ``{"data": bytes, "mode": int, "uid": int, "gid": int}``.
    Raises ValueError for an archive that is damaged, or has a member with an absolute path, with ``..``, or a link
    that leads out of the directory; OSError when it cannot be read.
    """
    entries, faults = {}, []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                fault = _fault(member)
                if fault:
                    faults.append(f"{member.name}: {fault}")
                elif member.issym():
                    entries[member.name] = {"link": member.linkname}
                elif (member.isfile() or member.islnk()) and "/" not in member.name:
                    data = archive.extractfile(member).read()
                    mode = stat.S_IMODE(member.mode)
                    entries[member.name] = {"data": data, "mode": mode, "uid": member.uid, "gid": member.gid}
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if faults:
        raise ValueError(f"{path} is not restored: " + "; ".join(faults))
    return entries


def _fault(member):
    """Say what makes a member dangerous to restore, or return None."""
    for what, name in (("path", member.name), ("link", member.linkname)):
        if name.startswith("/") or ".." in name.split("/"):
            return f"its {what} '{name}' leads out of the directory"
    if not (member.isfile() or member.issym() or member.isdir() or member.islnk()):
        return "it is neither a file, a link nor a directory"
    return None
