"""
The snapshot: the conf directory and vz.conf as they were before a migration, with the SHA-256 of each file.

Each lies beside what it is a copy of: the archive of /etc/sysconfig/vz-scripts is /etc/sysconfig/vz-scripts.tar.gz,
that of /etc/vz/conf is /etc/vz/conf.tar.gz.

The check sums are in the journal and in a file beside the archive.  What the journal says counts: it is of this
migration, while an older archive that somebody put back would come with a list that vouches for it.  The list counts
for a journal that was written anew.  A snapshot of a version that kept no check sums has only gzip's own.
"""

import contextlib
import os
import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_snapshot"

ARCHIVE = ".tar.gz"
#: What a migration changes in vz.conf and in the confs.
KEYS = ("VE_ROOT", "VE_PRIVATE", "DISK_QUOTA", "VE_LAYOUT")
FAULTS = (OSError, ValueError, KeyError)


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _confs():
    """
    The archive.  What the journal knows of counts: the conf directory of today may be another one than it was then.
    """
    folder, known = __salt__["vz.conf_dir"](real=False), []
    with contextlib.suppress(CommandExecutionError):  # a damaged journal knows nothing
        known = [path for path in _known().get("sums") or {} if os.path.dirname(path) != folder]
    return next((path for path in known if path.endswith(ARCHIVE)), _beside_the_confs())


def _beside_the_confs():
    return __salt__["vz.conf_dir"]() + ARCHIVE


def _sums_file():
    return f"{_confs()}.sha256"


def _vz_conf():
    return f"{__salt__['vz.conf_path']()}.before-nfs"


def make():
    """
    Keep the conf directory as an archive, and vz.conf as a copy, with their check sums, and read all of it back.

    A snapshot of an earlier migration is kept under its date.

    Returns ``{path: number of bytes}``.  Raises CommandExecutionError when what was read back differs.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.make
    """
    source, archive, copy = __salt__["vz.conf_dir"](), _beside_the_confs(), _vz_conf()
    # The list first: without it a cut here would leave one that belongs to no archive.
    for path in (f"{archive}.sha256", archive, copy):
        if os.path.exists(path):
            stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(os.stat(path).st_mtime))
            os.rename(path, f"{path}.{stamp}")
    before = __utils__["ringfree_files.read"](__salt__["vz.conf_path"]())
    try:
        __utils__["ringfree_archive.pack"](source, archive)
        __utils__["ringfree_files.write"](copy, before, 0o600)
        there = __utils__["ringfree_files.read_folder"](source)
        kept = __utils__["ringfree_archive.unpack"](archive)
    except ValueError as error:
        raise CommandExecutionError(f"the confs cannot be kept: {error}") from error
    __utils__["ringfree_files.sync_folder"](os.path.dirname(archive))
    unlike = [name for name, entry in there.items() if "folder" not in entry and kept.get(name) != entry]
    if unlike:
        raise CommandExecutionError(f"{', '.join(unlike)} in {archive} differs from {source}")
    if __utils__["ringfree_files.read"](copy) != before:
        raise CommandExecutionError(f"{copy} differs from vz.conf after it was written")
    _seal(archive, kept, before)
    return {path: os.path.getsize(path) for path in (archive, copy)}


def _seal(archive, kept, above):
    """Write the check sums of what is there into the journal and beside it; read the snapshot back by them."""
    folder = __salt__["vz.conf_dir"](real=False)
    sums = {path: _digest(__utils__["ringfree_files.read"](path)) for path in (archive, _vz_conf())}
    sums.update(
        {f"{folder}/{name}": _digest(entry["data"]) for name, entry in kept.items() if "data" in entry}
    )
    ctids = __utils__["ringfree_conf.conf_names"](kept)
    datas = {ctid: kept.get(f"{ctid}.conf", {}).get("data") for ctid in ctids}
    datas = {ctid: data for ctid, data in datas.items() if data is not None}
    keys = {str(ctid): _own(data) for ctid, data in datas.items()}
    homes = {
        str(ctid): __utils__["ringfree_conf.effective"](ctid, above, data)["private"]
        for ctid, data in datas.items()
    }
    __utils__["ringfree_files.write"](
        f"{archive}.sha256", __utils__["ringfree_archive.dump_sums"](sums), 0o600
    )
    fact = {"sums": sums, "keys": {**keys, "vz.conf": _own(above)}, "homes": homes}
    __salt__["ringfree_journal.remember"]("snapshot", fact)
    wrong = fault()
    if wrong:
        raise CommandExecutionError(f"the confs cannot be kept: {wrong}")


def _digest(data):
    return __utils__["ringfree_archive.digest"](data)


def _own(data):
    """The keys that a migration changes, as a conf itself has them."""
    values = __utils__["ringfree_conf.parse"](data)["values"]
    return {key: values.get(key) for key in KEYS}


def confs(below=False):
    """
    The files of the conf directory as they were before the migration.

    below : False
        Whether those of subdirectories are wanted as well, by names such as ``scripts/lib.sh``.

    Returns a dictionary, as ``ringfree_files.read_folder`` does.  Raises CommandExecutionError when the archive is
    damaged or gone; it says what to type.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.confs
    """
    try:
        archive = _confs()
        return __utils__["ringfree_archive.unpack"](archive, _wanted(archive), below=below)
    except FAULTS as error:
        raise _refusal(str(error)) from error


def vz_conf():
    """
    The bytes of vz.conf as it was before the migration.

    Returns bytes.  Raises CommandExecutionError when the file is damaged or gone; it says what to type.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.vz_conf
    """
    copy = _vz_conf()
    try:
        data, wanted = __utils__["ringfree_files.read"](copy), _wanted(copy)
    except FAULTS as error:
        raise _refusal(str(error)) from error
    if data is None:
        raise _refusal(f"{copy} is gone")
    if wanted not in (None, _digest(data)):
        raise _refusal(f"{copy} is damaged: its SHA-256 is {_digest(data)}, not {wanted}")
    return data


def _refusal(said):
    node = __opts__["id"]
    return CommandExecutionError(
        f"the snapshot of before the migration cannot be used: {said}. Put a whole one in its place ('sha256sum -c "
        f"{_sums_file()}' on the node compares, its lines of confs only once the node is back). Without one: "
        f"'salt {node} ringfree_snapshot.let_go', and the way back sets the paths in vz.conf and the confs back to "
        f"what the journal knows. One that was put together by hand: 'salt {node} ringfree_snapshot.accept'"
    )


def _known():
    """What the journal knows of the snapshot."""
    known = __salt__["ringfree_journal.read"]()["facts"].get("snapshot")
    return known if isinstance(known, dict) else {}


def _sums():
    """The check sums that count, or None when none were kept.  Raises ValueError for a damaged list."""
    known = _known().get("sums")
    if known:
        return known
    data = __utils__["ringfree_files.read"](_sums_file())
    try:
        return None if data is None else __utils__["ringfree_archive.load_sums"](data)
    except ValueError as error:
        raise ValueError(f"{_sums_file()} is damaged: {error}") from error


def _wanted(path):
    """The check sum that a file must have, or None when none were kept."""
    sums = _sums()
    if sums is not None and path not in sums:
        raise ValueError(f"{_sums_file()} is damaged: it lacks {path}")
    return sums and sums[path]


def fault():
    """
    What is wrong with the snapshot.

    Returns text that says what to type; an empty one when all of it is whole.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.fault
    """
    for look in (confs, vz_conf):
        try:
            look()
        except CommandExecutionError as error:
            return str(error)
    return ""


def path():
    """
    Where the confs of before are kept.

    Returns the path of the archive.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.path
    """
    return _confs()


def vz_conf_path():
    """
    Where vz.conf of before is kept.

    Returns the path of the copy.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.vz_conf_path
    """
    return _vz_conf()


def missing():
    """
    Whether a file of the snapshot is not there.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.missing
    """
    return not all(map(os.path.exists, (_confs(), _vz_conf())))


def note():
    """
    What to say of a snapshot that is whole as far as can be known.

    Returns text; an empty one when there are check sums.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.note
    """
    if _sums():
        return ""
    return f"no check sum of {_confs()} and {_vz_conf()} was kept, only gzip's own was compared"


def dispensable():
    """
    Whether a way back may do without a snapshot that cannot be used.

    One that is under way, with containers down, must not end there; a committed node is asked before anything stops.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.dispensable
    """
    return __salt__["ringfree_journal.state"]() == "in_flight" or "let_go" in _known()


def keys():
    """
    What vz.conf and the confs said of paths, quota and layout before the migration, by the journal.

    Returns ``{"vz.conf": {key: value or None}, "101": {...}}``; empty when the journal does not know.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.keys
    """
    return _known().get("keys", {})


def homes():
    """
    Where containers had their private areas before the migration, by the journal.

    Returns a dictionary: container id to path or ``None``; empty when the journal does not know.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.homes
    """
    return {int(ctid): home for ctid, home in _known().get("homes", {}).items()}


def differing():
    """
    The confs that are not, byte by byte, what they were before the migration.

    Returns a list of paths.  Raises CommandExecutionError when no check sums were kept.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.differing
    """
    try:
        sums = _sums() or {}
    except ValueError as error:
        raise CommandExecutionError(str(error)) from error
    folder = __salt__["vz.conf_dir"](real=False)
    paths = [path for path in sums if os.path.dirname(path) == folder]
    datas = {path: __utils__["ringfree_files.read"](path) for path in paths}
    return [path for path, data in datas.items() if data is None or _digest(data) != sums[path]]


def let_go():
    """
    Let a way back of this node do without its snapshot, which cannot be used any more.

    vz.conf and the confs then get back the paths, quota and layout that the journal knows of; all else in them stays.

    Returns what is wrong with the snapshot.  Raises CommandExecutionError when it is whole, or when the journal does
    not know what the confs said.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.let_go
    """
    wrong, known = fault(), keys()
    if not wrong:
        raise CommandExecutionError("the snapshot is whole. Nothing was changed.")
    lacking = [name for name in ["vz.conf", *map(str, __salt__["vz.manifest"]() or [])] if name not in known]
    if lacking:
        raise CommandExecutionError(
            f"the journal does not know what the confs of before said ({', '.join(lacking)}). Nothing was changed. "
            f"Copy the confs of the node's containers from {__salt__['vz.conf_dir']()} to an empty directory, set "
            f"VE_PRIVATE and VE_ROOT there to where each container was, 'cd' there and 'tar -czf {_confs()} *.conf'; "
            f"do the same with vz.conf as {_vz_conf()}; then 'salt {__opts__['id']} "
            f"ringfree_snapshot.accept'"
        )
    __salt__["ringfree_journal.remember"]("snapshot", {**_known(), "let_go": time.time()})
    return wrong


def accept():
    """
    Take the snapshot that lies there for that of before the migration: somebody has put it together by hand.

    Returns what :py:func:`fault` returns.  Raises CommandExecutionError when it cannot be read, or lacks a container of
    the manifest, or leads one to where no private area is.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.accept
    """
    try:
        archive = _confs()
        kept = __utils__["ringfree_archive.unpack"](archive)
        above = __utils__["ringfree_files.read"](_vz_conf())
        for ctid in __salt__["vz.manifest"]() or []:
            data = kept[f"{ctid}.conf"]["data"]
            home = __utils__["ringfree_conf.effective"](ctid, above, data)["private"]
            if not os.path.isdir(home or ""):
                raise ValueError(f"{ctid}.conf in {archive} leads to {home}, which is no directory")
    except FAULTS as error:
        raise CommandExecutionError(
            f"the snapshot cannot be accepted: {error}. Nothing was changed."
        ) from error
    _seal(archive, kept, above)
    return fault()


def local_areas(ctids):
    """
    Where containers were before the migration: their local private areas, by the confs of the snapshot.

    Where a way back may do without the snapshot, and it cannot be used, the journal is asked.

    ctids
        List of ids; those that had no conf then are left out.

    Returns a dictionary: container id to path, or to ``None`` where its conf named none.  Raises CommandExecutionError
    when it is not known.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_snapshot.local_areas '[101, 102]'
    """
    try:
        before, above = confs(), vz_conf()
    except CommandExecutionError:
        known = homes()
        if not known or not dispensable():
            raise
        return {ctid: known[ctid] for ctid in ctids if ctid in known}
    datas = {ctid: before.get(f"{ctid}.conf", {}).get("data") for ctid in ctids}
    return {
        ctid: __utils__["ringfree_conf.effective"](ctid, above, data)["private"]
        for ctid, data in datas.items()
        if data is not None
    }
