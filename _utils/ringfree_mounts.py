"""
Read /proc/self/mountinfo and prove from it what is mounted where.

Exit codes do not tell which copy a container runs on: ``vzctl start`` boots the old private area, with success, when
the old mount on its root cannot be taken off. The kernel's mount table does tell. Everything here is a question to
that table; nothing touches a file on NFS, so that a server that does not answer cannot block it.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from typing import Any

Mount = dict[str, Any]

NFS_TYPES = ("nfs", "nfs4", "fuse.nfs")
_KERNEL_NFS_TYPES = ("nfs", "nfs4")
_MOST_LINKS = 40  # as many as the kernel follows


#: What a number of bytes looks like among options.
SIZE = re.compile("[0-9]{1,19}")


def parse(text: str) -> list[Mount]:
    """
    The mounts of a mountinfo file, in its order.

    Args:
        text: the content of ``/proc/self/mountinfo``, decoded with ``surrogateescape``.

    Returns:
        A list of dicts: ``id`` and ``parent`` (numbers), ``device`` ("major:minor"), ``root`` (the directory of the
        file system that is mounted), ``mountpoint``, ``options`` (of this mount), ``fstype``, ``source`` and
        ``super_options`` (of the file system). Spaces and other characters that mountinfo writes in octal are
        resolved.

    Raises:
        ValueError: if a line is not one of mountinfo.
    """
    mounts = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        mount = _mount(line)
        if mount is None:
            raise ValueError(f"line {number} of mountinfo cannot be read: {line!r}")
        mounts.append(dict(mount))
    return mounts


# A run reads the table hundreds of times, and most of its lines stay as they are.
@functools.lru_cache(maxsize=4096)
def _mount(line: str) -> Mount | None:
    before, dash, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ", 2)
    if not dash or len(fields) < 6 or len(rest) != 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    return {
        "id": int(fields[0]),
        "parent": int(fields[1]),
        "device": fields[2],
        "root": _unescape(fields[3]),
        "mountpoint": _unescape(fields[4]),
        "options": fields[5],
        "fstype": rest[0],
        "source": _unescape(rest[1]),
        "super_options": rest[2],
    }


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


# --- which mount is where -------------------------------------------------------------------------


def covering(mounts: list[Mount], path: str) -> Mount | None:
    """
    The mount that a path lies on, as a process sees it.

    Mounts that another one hides are not found, and of several on one directory the topmost counts.

    Args:
        mounts: what :func:`parse` returned.
        path: an absolute path without symbolic links.

    Returns:
        The mount, or None if the path is not absolute or the table has no root.
    """
    if not path or not path.startswith("/"):
        return None
    path = _normal(path)
    # Asked for each part of each path: what does not lie on the way is left out first.
    on_the_way = [mount for mount in mounts if _is_inside(path, mount["mountpoint"])]
    ids = {mount["id"] for mount in mounts}
    bottom = [
        m for m in on_the_way if m["mountpoint"] == "/" and (m["parent"] not in ids or m["parent"] == m["id"])
    ]
    if not bottom:
        return None
    current = bottom[-1]
    walked = "/"
    for name in path.split("/"):
        walked = _join(walked, name)
        above = _on(on_the_way, current, walked)
        while above:
            current = above
            above = _on(on_the_way, current, walked)
    return current


def _on(mounts: list[Mount], below: Mount, path: str) -> Mount | None:
    """The mount that lies directly on a directory of another mount."""
    found = [
        m for m in mounts if m["parent"] == below["id"] and m["mountpoint"] == path and m["id"] != below["id"]
    ]
    return found[-1] if found else None


def at(mounts: list[Mount], path: str) -> Mount | None:
    """
    The topmost mount exactly on a directory.

    Args:
        mounts: what :func:`parse` returned.
        path: an absolute path without symbolic links.

    Returns:
        The mount, or None if nothing is mounted there (or what is, is hidden under another mount).
    """
    mount = covering(mounts, path)
    return mount if mount and mount["mountpoint"] == _normal(path) else None


def real_path(mounts: list[Mount], path: str) -> str:
    """
    A path without symbolic links, found without asking an NFS server.

    ``os.path.realpath`` looks at every part of a path and hangs when one lies on a server that does not answer. Here
    a mount point and what lies on NFS are taken as they are: the former is no link, and of the latter nothing that
    this project mounts or writes is one.

    Args:
        mounts: what :func:`parse` returned.
        path: an absolute path.

    Returns:
        The path.

    Raises:
        ValueError: if the path is not absolute, or if its links go round in a circle.
    """
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path")
    walked, parts, links = "/", path.split("/"), 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            walked = posixpath.dirname(walked)
            continue
        step = _join(walked, part)
        target = _link(mounts, step)
        if target is None:
            walked = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise ValueError(f"the symbolic links of {path} go round in a circle")
        walked = "/" if target.startswith("/") else walked
        parts = target.split("/") + parts
    return walked


def _link(mounts: list[Mount], path: str) -> str | None:
    """What a symbolic link on a local file system points to, None for anything else."""
    mount = covering(mounts, path)
    if mount and (mount["mountpoint"] == path or is_nfs(mount)):
        return None
    try:
        return os.readlink(path)
    except OSError:
        return None


def below(mounts: list[Mount], path: str) -> list[Mount]:
    """
    The mounts that a process finds below a directory, not those on it.

    Args:
        mounts: what :func:`parse` returned.
        path: an absolute path without symbolic links.

    Returns:
        The mounts in the order of the table; of several on one directory the topmost, and none that another one hides.
    """
    inside = [m for m in mounts if _is_inside(m["mountpoint"], path) and m["mountpoint"] != _normal(path)]
    return [m for m in inside if at(mounts, m["mountpoint"]) is m]


def users(mounts: list[Mount], mountpoint: str) -> list[Mount]:
    """
    The mounts that keep a mount in use: those below it, and those that show a part of it elsewhere.

    Args:
        mounts: what :func:`parse` returned.
        mountpoint: where the mount in question is.

    Returns:
        The other mounts, in the order of the table; empty if nothing is mounted at ``mountpoint``. A second mount of
        the same export counts as well: the table cannot tell it from a bind mount.
    """
    mount = at(mounts, mountpoint)
    if not mount:
        return []
    below = {mount["id"]}
    size = 0
    while size != len(below):
        size = len(below)
        below |= {m["id"] for m in mounts if m["parent"] in below}
    return [m for m in mounts if m is not mount and (m["id"] in below or _shows_part_of(mounts, m, mount))]


def umount_command(point: str, *options: str) -> list[str]:
    """
    The command that unmounts an export without asking its server for anything.

    With the helper umount.nfs it takes 11 s to fail to tell a dead server of it (nfs-utils 2.6.2), and a look at the
    path hangs; without both it takes 1 s. See umount(8): both options are there since util-linux 2.17.

    Args:
        point: the mount point, without links.
        options: further ones, such as ``-f`` and ``-l``.

    Returns:
        An argument list.
    """
    return ["umount", "-i", "--no-canonicalize", *options, point]


def sharing(mounts: list[Mount], mountpoint: str) -> list[Mount]:
    """
    The mounts whose waiting calls end when one is unmounted by force: those of the same file system, and their users.

    Args:
        mounts: what :func:`parse` returned.
        mountpoint: where the mount in question is.

    Returns:
        The other mounts, in the order of the table; empty if nothing is mounted at ``mountpoint``.
    """
    mount = at(mounts, mountpoint)
    if not mount:
        return []
    same = [m for m in mounts if m["device"] == mount["device"]]
    found = {m["id"] for m in same}
    for one in same:
        found |= {user["id"] for user in users(mounts, one["mountpoint"])}
    return [m for m in mounts if m["id"] in found and m is not mount]


def place(mounts: list[Mount], path: str) -> dict[str, Any] | None:
    """
    Where a path lies, in words that hold in every mount namespace.

    Args:
        mounts: what :func:`parse` returned.
        path: an absolute path without symbolic links.

    Returns:
        ``{"device": "major:minor", "directory": path within that file system, "fstype": text, "mount_point": bool}``,
        None if the table cannot tell.
    """
    mount = covering(mounts, path)
    if mount is None:
        return None
    return {
        "device": mount["device"],
        "directory": directory(mount, path),
        "fstype": mount["fstype"],
        "mount_point": mount["mountpoint"] == _normal(path),
    }


def showing(mounts: list[Mount], path: str, where: dict[str, Any]) -> list[Mount]:
    """
    The mounts that lie on a directory or below it, or that show it, or a part of it, elsewhere.

    A mount of which the directory is only a part, such as that of the whole disk, is none of them.

    Args:
        mounts: what :func:`parse` returned, also for a process of another mount namespace.
        path: the directory.
        where: what :func:`place` says of it.
    """

    def shows(mount: Mount) -> bool:
        if mount["fstype"] == "simfs":
            return _is_inside(_shown_by_simfs(mounts, mount), path)
        return mount["device"] == where["device"] and _is_inside(mount["root"], where["directory"])

    return [mount for mount in mounts if _is_inside(mount["mountpoint"], path) or shows(mount)]


def _shows_part_of(mounts: list[Mount], mount: Mount, other: Mount) -> bool:
    """Whether a mount shows a directory that another one shows as well."""
    if mount["fstype"] == "simfs":
        return _is_inside(_shown_by_simfs(mounts, mount), other["mountpoint"])
    if mount["device"] != other["device"]:
        return False
    if (
        other["fstype"] in _KERNEL_NFS_TYPES
    ):  # the kernel puts the directory into the source: SERVER:/export/dir
        return _is_inside(mount["source"], other["source"])
    return _is_inside(mount["root"], other["root"])


def _shown_by_simfs(mounts: list[Mount], mount: Mount) -> str:
    """The private area that simfs shows: its source is the path that vzctl was given, with links in it."""
    try:
        return real_path(mounts, mount["source"])
    except ValueError:
        return mount["source"]


# --- NFS ------------------------------------------------------------------------------------------


def is_nfs(mount: Mount) -> bool:
    """
    Whether a mount is NFS, of the kernel's client or of one in user space.

    Args:
        mount: one of the dicts that :func:`parse` returned.
    """
    return mount["fstype"] in NFS_TYPES


# --- proof of a container's root ------------------------------------------------------------------


def container_root_is(
    mounts: list[Mount], private: str | None, root: str | None, real_private: str | None = None
) -> dict[str, Any]:
    """
    Whether what is mounted on a container's root is exactly the tree at its private area.

    Understood are simfs (whose source is the private area), a bind mount from a local file system or from a FUSE
    file system (same device, and the directory within it), and a bind mount from the kernel's NFS client (same
    device, and the directory in the source, SERVER:/export/101).

    simfs names the path that it was given and not the file system behind it: a root that was mounted while the
    store was not looks the same. Mount the store first, and prove that too.

    Args:
        mounts: what :func:`parse` returned.
        private: VE_PRIVATE of the container, expanded.
        root: VE_ROOT of the container, expanded and without symbolic links.
        real_private: ``private`` without symbolic links, if that is another path.

    Returns:
        ``{"ok": bool, "why": one sentence, "" if it is, "actual": what is mounted there, "" if nothing is}``.
    """
    if not private or not root:
        return _proof(f"the container has no {'private area' if not private else 'root'}")
    real_private = real_private or private
    mount = at(mounts, root)
    if mount is None:
        return _proof(f"nothing is mounted on {root}")
    actual = _what(mounts, mount)
    store = covering(mounts, real_private)
    if store is None or store is mount:
        return _proof(f"{private} lies on no other mount than {root}", actual)
    if mount["fstype"] == "simfs":
        shown = (_normal(mount["source"]), _shown_by_simfs(mounts, mount))
        same = shown[0] == _normal(private) or _normal(real_private) in shown
    else:
        same = mount["device"] == store["device"] and directory(mount) == directory(store, real_private)
    if same:
        return {"ok": True, "why": "", "actual": actual}
    return _proof(f"{root} shows {actual} and not {private}", actual)


def _proof(why: str, actual: str = "") -> dict[str, Any]:
    return {"ok": False, "why": why, "actual": actual}


def directory(mount: Mount, path: str | None = None) -> str:
    """
    The directory that a mount shows, or that a path on it is, within the file system: the same for every bind.

    Args:
        mount: one of the dicts that :func:`parse` returned.
        path: an absolute path on that mount.
    """
    base = mount["source"] if mount["fstype"] in _KERNEL_NFS_TYPES else mount["root"]
    inside = _relative(_normal(path), mount["mountpoint"]) if path else ""
    return _join(base, inside) if inside else base.rstrip("/") or "/"


def _what(mounts: list[Mount], mount: Mount) -> str:
    """What a mount shows, as a person would name it."""
    if mount["fstype"] == "simfs" or mount["fstype"] in _KERNEL_NFS_TYPES:
        return mount["source"]
    if is_nfs(mount):
        return _join(mount["source"], mount["root"].strip("/"))
    for other in mounts:
        if (
            other is mount
            or other["device"] != mount["device"]
            or not _is_inside(mount["root"], other["root"])
        ):
            continue
        path = _join(other["mountpoint"], _relative(mount["root"], other["root"]))
        if covering(mounts, path) is other:
            return path
    return f"{mount['root']} of {mount['source']} ({mount['fstype']})"


# --- NFS options ----------------------------------------------------------------------------------

_HARD_OR_SOFT = "hard or soft"
_WORDS = {
    "hard": (_HARD_OR_SOFT, "hard"),
    "soft": (_HARD_OR_SOFT, "soft"),
    "softerr": (_HARD_OR_SOFT, "softerr"),
    "tcp": ("proto", "tcp"),
    "udp": ("proto", "udp"),
    "rdma": ("proto", "rdma"),
    "nolock": ("local_lock", "all"),
    "lock": ("local_lock", "none"),
    "ac": ("noac", "no"),
    "async": ("sync", "no"),
    "suid": ("nosuid", "no"),
    "dev": ("nodev", "no"),
    "exec": ("noexec", "no"),
    "rw": ("ro", "no"),
}
"""Options without a value that are the opposite, or another name, of an option that has one."""

_CACHE_TIMES = {"acregmin": "3", "acregmax": "60", "acdirmin": "30", "acdirmax": "60"}
_DEFAULTS = {
    _HARD_OR_SOFT: "hard",
    "local_lock": "none",
    "lookupcache": "all",
    "noac": "no",
    "sync": "no",
    "nosuid": "no",
    "nodev": "no",
    "noexec": "no",
    "ro": "no",
    **_CACHE_TIMES,
}
"""What holds where an option is not given; mountinfo shows these options only where they differ."""

_WORKED_OUT = ("addr", "clientaddr", "mountaddr", "mountport", "mountproto", "mountvers", "port", "namlen")
"""What the client finds out by itself."""


def option_differences(wanted: str, mount: Mount) -> list[str]:
    """
    How the options of an NFS mount differ from those wanted, by what they mean.

    The kernel writes options in its own words (``nfsvers=3`` shows as ``vers=3``), adds its defaults and lowers
    ``rsize`` and ``wsize`` to what the server takes; none of that is a difference. ``vers=4`` is met by any 4.x, and
    locks are not compared there. What mountinfo does not show cannot be compared. A client in user space shows no
    NFS options at all: of that one only read-only against read-write is compared.

    Args:
        wanted: mount options as one writes them in fstab.
        mount: one of the dicts that :func:`parse` returned.

    Returns:
        One text for each difference, ``NAME is ACTUAL, wanted WANTED``; empty if there is none.
    """
    shown = [*mount["options"].split(","), *mount["super_options"].split(",")]
    want, have = _meaning(wanted.split(",")), _meaning(shown)
    have["ro"] = "yes" if "ro" in shown else "no"  # either half of the options makes it read-only
    if mount["fstype"] not in _KERNEL_NFS_TYPES:
        return _differences(["ro"], want, have)
    names = {*_DEFAULTS, *want} - {*_WORKED_OUT}
    if have.get("vers", "").startswith("4"):
        names -= {"local_lock"}
    if "yes" in (want.get("noac"), have.get("noac")):
        names -= {"sync", *_CACHE_TIMES}  # noac implies them
    return _differences(sorted(names), want, have)


def _differences(names: list[str], want: dict[str, str], have: dict[str, str]) -> list[str]:
    """The texts for those of some options that differ."""
    found = []
    for name in names:
        wanted, actual = want.get(name, _DEFAULTS.get(name)), have.get(name, _DEFAULTS.get(name))
        if wanted is not None and actual is not None and not _agree(name, wanted, actual):
            found.append(f"{name} is {actual}, wanted {wanted}")
    return found


def _agree(name: str, wanted: str, actual: str) -> bool:
    """Whether an option is as wanted."""
    if name == "vers":
        return (
            actual == wanted
            or (wanted == "4" and actual.startswith("4."))
            or (wanted, actual) == ("4.0", "4")
        )
    if name in ("rsize", "wsize") and SIZE.fullmatch(wanted) and SIZE.fullmatch(actual):
        return int(actual) <= int(wanted)  # the server may take less
    return actual == wanted


def _meaning(words: list[str]) -> dict[str, str]:
    """Options as names and values, one name for what has several."""
    meaning: dict[str, str] = {}
    for word in words:
        name, equals, value = word.strip().partition("=")
        if name in _WORDS and not equals:
            name, value = _WORDS[name]
        elif re.fullmatch(r"v[234](\.[0-9])?", name) and not equals:
            name, value = "vers", name[1:]
        elif name == "nfsvers":
            name = "vers"
        elif name == "proto":
            value = value.removesuffix("6")
        elif name == "lookupcache":
            value = {"pos": "positive"}.get(value, value)
        elif name == "actimeo":
            meaning.update(dict.fromkeys(_CACHE_TIMES, value))
        elif not equals:
            value = "yes"
        meaning[name] = value
    if meaning.get("vers") == "4" and "minorversion" in meaning:
        meaning["vers"] = f"4.{meaning['minorversion']}"
    meaning.pop("minorversion", None)
    meaning.pop("actimeo", None)
    return meaning


# --- paths ----------------------------------------------------------------------------------------


def _normal(path: str) -> str:
    """A path without empty and "." parts; one with ".." is left for the caller to resolve."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _join(base: str, inside: str) -> str:
    return base.rstrip("/") + "/" + inside if inside else base


def _is_inside(path: str, base: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{base.rstrip('/')}/")


def _relative(path: str, base: str) -> str:
    """The rest of a path below a directory that it lies in."""
    return path[len(base.rstrip("/")) :].strip("/")
