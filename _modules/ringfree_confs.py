"""
The conf share: this node's config files as they are to be on NFS, and what keeps them from going there.

:depends: rsync, ssh
:configuration: the pillar ``ringfree`` (``shares:conf``)
"""

import os
import shutil
import stat

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_confs"

STATE_DIR = "/var/lib/ringfree"
BROUGHT = "conf-share.json"  # in STATE_DIR: what this node last brought to the conf share
ANY_X = 0o111


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def conf_share(test=False):
    """
    Bring this node's files of the conf directory to the conf share, as they are to be on NFS, and compare.

    The containers of the manifest get the paths of the share; every other file goes as it is, also those in
    subdirectories, but no hidden one.  What an earlier run of this node brought is replaced.  Files of other nodes stay
    untouched.  A file of another node with the same name and other content is refused.

    test : False
        Only say what differs.

    Returns a dictionary: name to ``{"old": "missing"|"differs", "new": "as on this node"}`` for each file that was,
    or would be, brought.  Raises CommandExecutionError listing every conflict; nothing is written then.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_confs.conf_share test=True
    """
    wanted, there = _wanted_confs(), __salt__["ringfree_san.confs"]()
    # Another node may have put something there since preflight looked, and this one is about to mount it.
    brought, conflicts = _compared(wanted, there)
    if conflicts:
        raise CommandExecutionError("nothing was written to the conf share: " + "; ".join(conflicts))
    changes = {
        __utils__["ringfree_command.spell"](name): {
            "old": "differs" if name in there else "missing",
            "new": "as on this node",
        }
        for name in brought
    }
    if test or not changes:
        return changes
    _push_confs({name: wanted[name] for name in brought})
    there = __salt__["ringfree_san.confs"]()
    unlike = [name for name in brought if wanted[name] != there.get(name)]
    if unlike:
        names = ", ".join(map(__utils__["ringfree_command.spell"], unlike))
        raise CommandExecutionError(f"the conf share differs after it was written: {names}")
    return changes


def _wanted_confs(strict=True):
    """
    The conf directory as the share is to have it; hidden names are editors', rsync's and trials, not vzctl's.

    A conf that cannot be edited is as it is for who only looks, and a fault for who writes.
    """
    try:
        entries = __utils__["ringfree_files.read_folder"](__salt__["vz.conf_dir"](), below=_subfolders())
    except OSError as error:
        raise CommandExecutionError(
            f"{__salt__['vz.conf_dir'](real=False)} cannot be brought to the conf share: {error.strerror}; move what "
            f"is neither conf nor script out of it"
        ) from error
    paths = __utils__["ringfree_pillar.store_paths"](__salt__["ringfree_settings.get"]())
    for ctid in __salt__["cloudstor.to_move"]():
        name, path = f"{ctid}.conf", __salt__["vz.conf_path"](ctid)
        entry = entries.get(name, {})
        if "data" not in entry:
            # A link may lead anywhere, and nowhere on another node: its file goes to the share.
            folder, base = os.path.split(os.path.realpath(path))
            entry = __utils__["ringfree_files.read_folder"](folder).get(base, {})
        try:
            data = __utils__["ringfree_conf.edit"](entry["data"], with_layout(ctid, paths))
        except (KeyError, ValueError) as error:
            if not strict:
                continue
            said = f"{path} is no file" if isinstance(error, KeyError) else f"{path}: {error}"
            raise CommandExecutionError(said) from error
        entries[name] = dict(entry, data=data)
    return {name: entry for name, entry in entries.items() if "folder" not in entry and name[0] != "."}


def _subfolders():
    """The subdirectories of the conf directory: scripts keep there what they need."""
    return __utils__["ringfree_files.subfolders"](__salt__["vz.conf_dir"]())


def conflicts():
    """
    The files on the conf share that differ from this node's and are not its own to change, or that would be run here.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_confs.conflicts
    """
    return _compared(_wanted_confs(strict=False), __salt__["ringfree_san.confs"]())[1]


def shared_files():
    """
    The files of the conf directory that all nodes of one conf share have in common: samples, ``vps.*``, ``0.conf``.

    Returns a dictionary: name to a check sum, which also says whether the file can be run; those of this node's own
    containers are left out.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_confs.shared_files
    """
    mine = set(__salt__["vz.containers"]())
    return {
        name: f"{_content(entry)}{'x' if entry.get('mode', 0) & ANY_X else ''}"
        for name, entry in _wanted_confs(strict=False).items()
        if _container_of(name) not in mine
    }


def _compared(wanted, there):
    """What is to be brought to the conf share, and what keeps this node from using it: names and sentences."""
    known, brought, found = __salt__["ringfree_owner.records"](), [], []
    for name, entry in wanted.items():
        if name not in there or (entry != there[name] and _is_ours(name, entry, there[name], known)):
            brought.append(name)
        elif not _alike(entry, there[name]):
            owner = known.get(_container_of(name), {}).get("node")
            whose = f"belongs to {owner}" if owner else "differs from this node's"
            shown = __utils__["ringfree_command.spell"](name)
            found.append(
                f"{shown} on the conf share {whose}; make them equal, or give the node a share of its own "
                f"(ringfree:shares:conf:export)"
            )
    by_then = {**there, **{name: wanted[name] for name in brought}}
    # The fence is put there by whoever uses the share, and an older one replaced.
    by_then = {name: entry for name, entry in by_then.items() if not _is_fence(name, entry)}
    return brought, found + __salt__["ringfree_scripts.unknown"](by_then)


def _alike(one, other):
    """The same content, which both can be run or neither: what else a mode says makes no difference to vzctl."""
    same = _content(one) is not None and _content(one) == _content(other)
    return same and bool(one.get("mode", 0) & ANY_X) == bool(other.get("mode", 0) & ANY_X)


def _content(entry):
    """The SHA-256 of a file, or of where a link leads; None for a directory."""
    data = b"link to " + os.fsencode(entry["link"]) if "link" in entry else entry.get("data")
    return None if data is None else __utils__["ringfree_archive.digest"](data)


def _container_of(name):
    """The container that a file of the conf directory is about, or None."""
    head = name.split(".", 1)[0]
    return int(head) if head.isdigit() and int(head) else None


def _is_ours(name, entry, found, known):
    """
    Whether a file on the share is this node's to change: its container's, or what an earlier run brought.

    What only this node's containers use is; what other nodes use as well only while none of them has a container there.
    """
    ctid = _container_of(name)
    owner = known.get(ctid, {}).get("node")
    if owner:
        return owner == __opts__["id"]
    if _is_fence(name, found):
        return _is_fence(name, entry)
    alone = all(record["node"] == __opts__["id"] for record in known.values())
    mine = ctid in __salt__["vz.containers"]()
    if (mine or alone) and _brought().get(name, "") == _content(found):
        return True
    # From before there was a list of what was brought: the conf of a container that stays, with its paths.
    return mine and name == f"{ctid}.conf" and found.get("data") == _pinned(ctid, entry.get("data"))


def _is_fence(name, entry):
    """Whether a file is the fence, of this version or another."""
    return name in __salt__["ringfree_guard.names"]() and __utils__["ringfree_owner.is_fence"](
        entry.get("data")
    )


def _pinned(ctid, data):
    """A conf as it is while other containers move: with the paths that its own has now; None where that cannot be."""
    keys = list(__utils__["ringfree_pillar.store_paths"](__salt__["ringfree_settings.get"]()))
    try:
        return __utils__["ringfree_conf.edit"](data, inherited(ctid, keys))
    except (TypeError, ValueError):
        return None


def _brought():
    """What this node last brought to the conf share: name to check sum; nothing when that is not known."""
    try:
        data = __utils__["ringfree_files.read"](f"{STATE_DIR}/{BROUGHT}")
        kept = __utils__["ringfree_seal.load_json"](data, ("export", "files")) if data else {}
    except (OSError, ValueError):
        return {}
    return (
        kept.get("files", {})
        if kept.get("export") == __salt__["ringfree_settings.get"]()["shares"]["conf"]["export"]
        else {}
    )


def _push_confs(entries):
    """Send files to the conf share with their owner and mode; nothing there is deleted."""
    here = f"{STATE_DIR}/confs-to-share"
    shutil.rmtree(here, ignore_errors=True)
    __utils__["ringfree_files.folder"](here)
    source = __salt__["vz.conf_dir"]()
    _as(here, os.stat(source))
    for name, entry in entries.items():
        path = os.path.join(here, name)
        for folder in _folders_of(name):
            if not os.path.isdir(os.path.join(here, folder)):
                os.mkdir(os.path.join(here, folder))
                _as(os.path.join(here, folder), os.stat(os.path.join(source, folder)))
        if "link" in entry:
            os.symlink(entry["link"], path)
            continue
        __utils__["ringfree_files.write"](path, entry["data"])
        os.chown(path, entry["uid"], entry["gid"])
        os.chmod(path, entry["mode"])
    export = __salt__["ringfree_settings.get"]()["shares"]["conf"]["export"]
    # Before they go: whatever happens then, they are known to be ours.
    files = {**_brought(), **{name: _content(entry) for name, entry in entries.items()}}
    kept = __utils__["ringfree_seal.dump_json"]({"export": export, "files": files})
    __utils__["ringfree_files.keep"](f"{STATE_DIR}/{BROUGHT}", kept)
    __salt__["ringfree_san.push"](here, export)


def _folders_of(name):
    """The directories in which a name lies, from the top down."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _as(path, info):
    """Give a directory the owner and the mode of another one."""
    os.chown(path, info.st_uid, info.st_gid)
    os.chmod(path, stat.S_IMODE(info.st_mode))


def with_layout(ctid, values, private=None):
    """
    Add the layout to what a container's conf is to say, when the conf does not say it.

    vzctl guesses a missing layout at the next start and writes what it guessed, simfs for an empty directory.

    ctid
        The container's id.

    values
        Dictionary: key to value.

    private : None
        The private area to look at; ``None`` for the one that the conf names.

    Returns the values, with ``VE_LAYOUT`` where it is missing.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_confs.with_layout 101 '{"DISK_QUOTA": "no"}'
    """
    conf = __salt__["vz.config"](ctid)
    if conf["layout"]:
        return dict(values)
    private = private or conf["private"]
    return dict(
        values, VE_LAYOUT="ploop" if private and __utils__["ringfree_tree.is_ploop"](private) else "simfs"
    )


def inherited(ctid, keys):
    """
    The keys that a container's conf does not set itself, with the values that it gets from vz.conf.

    While a migration is under way the vz.conf of before counts, as the snapshot keeps it.

    ctid
        The container's id.

    keys
        List of keys.

    Returns a dictionary: key to value, as vz.conf writes it (``$VEID`` unexpanded).  A quota that nobody sets is on.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_confs.inherited 101 '["VE_PRIVATE"]'
    """
    if __salt__["ringfree_journal.reached"]("snapshot"):
        before = __salt__["ringfree_snapshot.vz_conf"]()
    else:
        before = __utils__["ringfree_files.read"](__salt__["vz.conf_path"]()) or b""
    above = __utils__["ringfree_conf.parse"](before)["values"]
    own = __utils__["ringfree_conf.parse"](
        __utils__["ringfree_files.read"](__salt__["vz.conf_path"](ctid)) or b""
    )["values"]
    above.setdefault("DISK_QUOTA", "yes")
    return {key: above[key] for key in keys if key not in own and key in above}
