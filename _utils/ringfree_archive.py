"""
The snapshot of a directory: a gzipped tar archive, written whole, read strictly, restored only if it is harmless; and
the SHA-256 of what belongs to it, in the format of sha256sum(1).
"""

import contextlib
import hashlib
import io
import os
import re
import stat
import tarfile
import zlib

GZIP = 16 + zlib.MAX_WBITS
END = 2 * tarfile.BLOCKSIZE  # zeros that end a tar archive
SUM = re.compile(r"([0-9a-f]{64})  (/[^\n]+)")


def pack(folder, path):
    """
    Write an archive of a directory: temporary file, fsync, rename.

    folder
        The directory; its entries are members by their bare names.  Of what is in its subdirectories, which no way
        back touches, only what can be restored as it is goes along.

    path
        The archive.

    Returns nothing.  Raises OSError, and ValueError when the archive cannot be restored as it is; an archive that
    was there before is then untouched.
    """
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    # Confs can hold secrets: never readable by others, not for a moment.
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(os.listdir(folder)):
                archive.add(os.path.join(folder, name), arcname=name, filter=_restorable)
        stream.flush()
        os.fsync(stream.fileno())
    unpack(temporary)
    os.rename(temporary, path)


def unpack(path, wanted=None, below=False):
    """
    Read the files and links of an archive that lie directly in it, and in its subdirectories if asked.

    path
        The archive.

    wanted : None
        The SHA-256 that it must have; ``None`` when that is not known: gzip's own check sum then finds any flipped bit.

    below : False
        Whether what is in subdirectories is read as well; it has a name such as ``scripts/lib.sh``.

    Returns a dictionary: name to ``{"link": target}`` or ``{"data": bytes, "mode": int, "uid": int, "gid": int}``.
    Raises ValueError for an archive that is damaged, or has a member with an absolute path, with ``..``, or a link
    that leads out of the directory; OSError when it cannot be read.
    """
    with open(path, "rb") as stream:
        data = stream.read()
    found = digest(data)
    if wanted not in (None, found):
        raise ValueError(f"{path} is damaged: its SHA-256 is {found}, not {wanted}")
    entries, faults = {}, []
    try:
        for member, content in _members(_gunzip(data)):
            fault = _fault(member)
            if fault:
                faults.append(f"{member.name}: {fault}")
            elif "/" in member.name and not below:
                continue
            elif member.issym():
                entries[member.name] = {"link": member.linkname}
            elif member.isfile() or member.islnk():
                mode = stat.S_IMODE(member.mode)
                entries[member.name] = {"data": content, "mode": mode, "uid": member.uid, "gid": member.gid}
    # With the check sum right, only an archive that somebody made can get as far as the last three.
    except (tarfile.TarError, zlib.error, EOFError, KeyError, OverflowError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if faults:
        raise ValueError(f"{path} is not restored: " + "; ".join(faults))
    return entries


def _gunzip(data):
    """One whole gzip stream with its check sum, and nothing after it: tarfile stops reading at the end of the tar."""
    stream = zlib.decompressobj(GZIP)
    content = stream.decompress(data)
    if not stream.eof:
        raise EOFError("it ends too early")
    if stream.unused_data:
        raise EOFError("something follows its end")
    return content


def _members(data):
    """Members of a tar archive with the content of files; Python takes a damaged header for the end."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            yield member, archive.extractfile(member).read() if member.isfile() or _inside(member) else None
        rest = data[archive.offset :]
    if len(rest) < END or rest.strip(b"\0"):
        raise EOFError("its end is missing")


def _restorable(member):
    """A member, unless nothing could be made of it: what is neither file nor link, and below the top what is faulty."""
    odd = not (member.isfile() or member.issym() or member.isdir() or member.islnk())
    return None if odd or ("/" in member.name and _fault(member)) else member


def _inside(member):
    """Whether a hard link can be read: what leads out is a fault, and looked for nowhere."""
    return member.islnk() and not _fault(member)


def _fault(member):
    """Say what makes a member dangerous to restore, or return None."""
    for what, name in (("path", member.name), ("link", member.linkname)):
        if name.startswith("/") or ".." in name.split("/"):
            return f"its {what} '{name}' leads out of the directory"
    if not (member.isfile() or member.issym() or member.isdir() or member.islnk()):
        return "it is neither a file, a link nor a directory"
    return None


def digest(data):
    """
    The SHA-256 of some bytes.

    data
        Bytes.

    Returns text.
    """
    return hashlib.sha256(data).hexdigest()


def dump_sums(sums):
    """
    Check sums as the text of their file, which ``sha256sum -c`` reads.

    sums
        Dictionary: path to SHA-256, in the order in which they are to be written.

    Returns bytes.  A path with a line break or a backslash is left out: the archive's own check sum covers it.
    """
    lines = [f"{sum_}  {path}\n" for path, sum_ in sums.items() if not set("\n\\") & set(path)]
    return "".join(lines).encode("utf-8", "surrogateescape")


def load_sums(data):
    """
    Read the file of check sums.

    data
        Bytes.

    Returns a dictionary: path to SHA-256.  Raises ValueError for a damaged one.
    """
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    found = list(map(SUM.fullmatch, lines[:-1]))
    if lines[-1] or not found or not all(found):
        raise ValueError("it is no list of check sums")
    return {match[2]: match[1] for match in found}
