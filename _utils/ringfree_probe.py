"""
What an NFS export can store, and whether that is enough for what a container uses (``scan`` of ``ringfree_tree``).

``probe`` runs as a script (:py:func:`command` gives the command line), so that a hung NFS server hangs that process and
not the minion, and prints one JSON document.
"""

import errno
import json
import os
import re
import shutil
import stat
import struct
import sys
import tempfile

MAGIC_CAPABILITY = struct.pack(
    "<5I", 0x02000000, 1 << 13, 0, 0, 0
)  # VFS_CAP_REVISION_2, cap_net_raw (linux/capability.h)
# version 2; user::rw- user:1:r-- group::r-- mask::r-- other::--- (linux/posix_acl_xattr.h)
MAGIC_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permission, who)
    for tag, permission, who in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 1),
        (4, 4, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)
#: What a container may use (a key of the scan) and the ability of the export that it needs.
NEEDS = {
    "hard_links": "hard_link",
    "sparse": "sparse",
    "devices": "device",
    "fifos": "fifo",
    "sockets": "socket",
    "setuid": "setuid",
    "acl": "acl",
    "xattr": "xattr",
    "capability": "capability",
    "odd_names": "odd_name",
}
ALWAYS = ("owner", "mode", "symlink", "time")


def command(path):
    """
    The command line that runs this file as a script.

    path
        The directory on the export to try things in.

    Returns an argument list.
    """
    return [sys.executable, "-I", os.path.realpath(__file__).removesuffix("c"), path]


def hold(scan, abilities, accepted=(), where="the export cannot store"):
    """
    Hold what a container uses against what the export can store.

    scan
        What the scan of the container's private area printed.

    abilities
        What the probe of the export printed.

    accepted : ()
        Losses that the pillar accepts: ``acl``, ``xattr``, ``capability``.

    where : the export cannot store
        Who cannot, in words.

    Returns ``{"lost": [text], "accepted": [text]}``, one sentence for each thing that the export cannot store.
    """
    lost, let_go = [], []
    for ability in ALWAYS:
        if abilities.get(ability) is not True:
            lost.append(f"{where} {ability}: {abilities.get(ability)}")
    for use, ability in NEEDS.items():
        if scan.get(use, 0) and abilities.get(ability) is not True:
            example = scan.get("examples", {}).get(use, "")
            used = f"uses {use.replace('_', ' ')} ({scan[use]} files, such as {example})"
            sentence = f"{used}, which {where}"
            (let_go if use in accepted else lost).append(f"{sentence}: {abilities.get(ability)}")
    return {"lost": lost, "accepted": let_go}


def samples(folder):
    """
    Make what containers' files need in a local directory, each thing in a directory of its own name.

    folder
        An empty directory.  What its own file system cannot store is left out, as no container has it there.

    Returns nothing.
    """
    for ability, trial in {"plain": _owner, **TRIALS}.items():
        below = os.path.join(folder, ability)
        os.mkdir(below)
        if _tried(trial, below, os.path.join(below, ability)) is not True:
            shutil.rmtree(below)


def unlike(name, lines):
    """
    What did not arrive of :func:`samples`, by what rsync said of the copy and of the comparison afterwards.

    name
        The name of the directory that was copied.

    lines
        Lines of rsync's output.

    Returns a dictionary: ability to the first line about it; ``plain`` is what every file needs.
    """
    found = {}
    for line in lines:
        # A directory of samples is itself a plain one: what follows its slash makes the difference.
        match = re.search(rf"{re.escape(name)}(?:/([a-z_]+)/[^\s\"])?", line)
        if match:
            found.setdefault(match.group(1) or "plain", line.strip())
    return found


def label(line):
    """
    The extended attribute that a line of rsync says could not be set or taken away.

    line
        The line.

    Returns its name, or an empty text.
    """
    match = re.search(r"xattr.*\"((?:user|trusted|security|system)\.[^\"]*)\"\) failed", line)
    return match.group(1) if match else ""


def probe(path):
    """
    Try on an export, as root, what containers' files need.

    path
        A directory on the mounted export.  The trial files live in one subdirectory, which is removed.

    Returns a dictionary: ability to True or the reason why not; and ``bytes_free``, ``inodes_free``, ``inodes_total``.
    """
    room = os.statvfs(path)
    found = {
        "bytes_free": room.f_bavail * room.f_frsize,
        "inodes_free": room.f_favail,
        "inodes_total": room.f_files,
    }
    folder = tempfile.mkdtemp(prefix=".ringfree-probe-", dir=path)
    try:
        for ability, trial in TRIALS.items():
            found[ability] = _tried(trial, folder, os.path.join(folder, ability))
    finally:
        shutil.rmtree(folder)
    return found


def _tried(trial, folder, full):
    """True when the trial passes, else the reason."""
    try:
        return trial(folder, full) or True
    except OSError as error:
        return f"{errno.errorcode.get(error.errno, error.errno)} ({error.strerror})"


def _touch(full, mode=0o600):
    os.close(os.open(full, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode))


def _owner(folder, full):
    _touch(full)
    os.chown(full, 54321, 54322)
    info = os.lstat(full)
    if (info.st_uid, info.st_gid) != (54321, 54322):
        return f"54321:54322 was stored as {info.st_uid}:{info.st_gid} (is the export squashing ids?)"


def _mode(folder, full):
    _touch(full)
    os.chmod(full, 0o1751)
    if stat.S_IMODE(os.lstat(full).st_mode) != 0o1751:
        return f"mode 1751 was stored as {stat.S_IMODE(os.lstat(full).st_mode):o}"


def _setuid(folder, full):
    _touch(full)
    os.chmod(full, 0o6755)
    if stat.S_IMODE(os.lstat(full).st_mode) != 0o6755:
        return f"mode 6755 was stored as {stat.S_IMODE(os.lstat(full).st_mode):o}"


def _hard_link(folder, full):
    _touch(full)
    os.link(full, full + ".2")
    if os.lstat(full).st_ino != os.lstat(full + ".2").st_ino:
        return "a second name became a second file"


def _symlink(folder, full):
    os.symlink("/nowhere", full)
    if os.readlink(full) != "/nowhere":
        return "the target changed"


def _device(folder, full):
    os.mknod(full, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    if os.lstat(full).st_rdev != os.makedev(1, 3):
        return "the device number changed"


def _fifo(folder, full):
    os.mkfifo(full)


def _socket(folder, full):
    os.mknod(full, 0o600 | stat.S_IFSOCK)


def _sparse(folder, full):
    with open(full, "wb") as stream:
        stream.truncate(64 << 20)
    if os.lstat(full).st_blocks * 512 > 32 << 20:
        return "a hole of 64 MB took space"


def _time(folder, full):
    _touch(full)
    os.utime(full, ns=(10**18, 10**18))
    if os.lstat(full).st_mtime_ns // 10**9 != 10**9:
        return "the modification time changed"


def _odd_name(folder, full):
    name = os.fsencode(folder) + b"/a\nb\xff"
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
    if b"a\nb\xff" not in os.listdir(os.fsencode(folder)):
        return "the name changed"


def _attribute(name, value):
    def trial(folder, full):
        _touch(full)
        os.setxattr(full, name, value)
        if os.getxattr(full, name) != value:
            return "the value changed"

    return trial


TRIALS = {
    "owner": _owner,
    "mode": _mode,
    "setuid": _setuid,
    "hard_link": _hard_link,
    "symlink": _symlink,
    "device": _device,
    "fifo": _fifo,
    "socket": _socket,
    "sparse": _sparse,
    "time": _time,
    "odd_name": _odd_name,
    "acl": _attribute("system.posix_acl_access", MAGIC_ACL),
    "xattr": _attribute("user.ringfree", b"1"),
    "capability": _attribute("security.capability", MAGIC_CAPABILITY),
}


if __name__ == "__main__":
    try:
        json.dump(probe(sys.argv[1]), sys.stdout)
    except OSError as error:
        sys.exit(f"{error.strerror}: {error.filename}")
