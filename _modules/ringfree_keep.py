"""
What ``state.apply`` keeps on a node that is at rest, on local storage or on NFS.

Nothing here stops, starts, restarts or moves a container, and nothing is unmounted or remounted.  Where that would be
needed, it is said and left to a person.

Each function but :py:func:`store` corrects one thing and returns ``{"changes": dictionary, "faults": [text], "notes":
[text]}``; with ``test`` it only says what it would change.

:configuration: the pillar ``ringfree``
"""

import glob
import logging
import os
import posixpath
import stat

import salt.utils.json
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_keep"

#: Modes of the mount points while nothing is mounted there; the conf directory keeps its own.
MODES = {"private": 0o700, "root": 0o700, "conf": None}
#: What is kept of a node.  Copies of what lies on the share have the modes of the share, in closed directories.
KEPT = (
    "/var/lib/ringfree",
    "/var/lib/ringfree/*.json",
    "/var/lib/ringfree/boot-set",
    "/var/lib/ringfree/replica",
    "/var/lib/ringfree/replica/*",
    "/var/lib/ringfree/changed",
    "/var/lib/ringfree/changed/*",
    "/var/lib/ringfree/changed/*/*",
)
#: The keys of a conf that say where a container is, and what vz.config calls them.
PATHS = {"VE_PRIVATE": "private", "VE_ROOT": "root"}


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def store():
    """
    On which store this node is to be kept.

    Returns ``{"state": "local", "in_flight" or "nfs", "why": text}``.  What works on the node just now, be it only the
    last of a way back, leaves it in flight.  ``state`` is ``""`` when nothing can be kept: the pillar is wrong, the
    journal is damaged, or this is no OpenVZ node.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.store
    """
    try:
        __salt__["ringfree_settings.get"]()
        state = __salt__["ringfree_journal.state"]()
    except CommandExecutionError as error:
        return {"state": "", "why": f"{error}. Nothing was touched."}
    if "vz.status" not in __salt__:
        return {
            "state": "",
            "why": "vzctl or vzlist is not installed: this is no OpenVZ node. Nothing was touched.",
        }
    node, held = __opts__["id"], __salt__["ringfree_run.holder"]()
    if held:
        return {
            "state": "in_flight",
            "why": f"'{held['what']}' works on {node}, which is left alone until its end.",
        }
    if state == "in_flight":
        why = (
            f"{node} is in flight and left alone until 'salt-run state.orch migrate' or a rollback has brought it to "
            f"rest ('salt {node} cloudstor.whereabouts')."
        )
        return {"state": state, "why": why}
    return {"state": state, "why": ""}


def _dry(test):
    """Whether this is a dry run, which knows what comes before it in the live run, and no look at what was done."""
    return test and __opts__.get("test")


def _found(changes=None, faults=(), notes=()):
    return {"changes": changes or {}, "faults": list(faults), "notes": list(notes)}


# --- on any node ------------------------------------------------------------------------------------------------------


def variables(test=False):
    """
    The variables in /etc/ringfree; ``nfsmounted`` says what is true.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.variables test=True
    """
    is_, wanted = __salt__["ringfree_nfs.variables"](), __salt__["ringfree_nfs.wanted_variables"]()
    if _dry(test) and __salt__["ringfree_journal.state"]() == "nfs" and not shares(test=True)["faults"]:
        wanted["nfsmounted"] = "1"  # the live run has mounted what is missing by then
    changes = {key: {"old": is_[key], "new": value} for key, value in wanted.items() if is_[key] != value}
    if changes and not test:
        __salt__["ringfree_nfs.set_variables"]({key: wanted[key] for key in changes})
    return _found(changes)


def ssh(test=False):
    """
    What ssh needs to reach the SAN: the pinned host keys of the pillar, and a key that nobody else can read.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.ssh test=True
    """
    changes = __salt__["ringfree_san.host_keys"](test=test)
    key = __salt__["ringfree_settings.get"]()["ssh"]["key"]
    if not os.path.exists(key):
        return _found(changes, notes=[f"{key} does not exist; the SAN cannot be reached without it"])
    mode = stat.S_IMODE(os.stat(key).st_mode)
    if mode & 0o077:
        changes[key] = {"old": f"{mode:04o}", "new": f"{mode & 0o700:04o}"}
        if not test:
            os.chmod(key, mode & 0o700)
    return _found(changes)


def modes(test=False):
    """
    What is kept of the node is nobody else's to read: its snapshot, its journal, the lists of changed files.

    An older version left some of it open.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.modes test=True
    """
    changes = {}
    snapshots = [f"{__salt__[f'ringfree_snapshot.{which}']()}*" for which in ("path", "vz_conf_path")]
    for path in (path for pattern in (*KEPT, *snapshots) for path in sorted(glob.glob(pattern))):
        mode = __utils__["ringfree_files.loose"](path)
        if mode is not None:
            changes[path] = {"old": f"{mode:04o}", "new": f"{mode & 0o700:04o}"}
            if not test:
                os.chmod(path, mode & 0o700)
    return _found(changes)


def deadman(test=False):
    """
    No dead man's switch: a node at rest needs none; what a commit or a way back that was killed has left is taken away.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.deadman test=True
    """
    if __salt__["ringfree_run.firing"]():
        return _found(notes=["the dead man's switch ends its work just now"])
    if not __salt__["ringfree_deadman.traces"]():
        return _found()
    if not test:
        __salt__["ringfree_deadman.disarm"]()
    return _found({"deadman": {"old": "left over", "new": None}})


# --- on a node on local storage ---------------------------------------------------------------------------------------


def leftovers(test=False):
    """
    Nothing of the share is in use on a node that is on local storage: no mount, no conf that leads there.

    test : False
        Nothing is ever changed.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.leftovers
    """
    table, faults = __salt__["vz.mounts"](), []
    for entry in __salt__["ringfree_nfs.in_use"]().values():
        if entry["source"]:
            real = __utils__["ringfree_mounts.real_path"](table, entry["mount"])
            used = [mount["mountpoint"] for mount in __utils__["ringfree_mounts.users"](table, real)]
            by = f", and in use by {', '.join(used)}" if used else ""
            faults.append(f"{entry['mount']} is mounted from {entry['source']}{by}")
    if not faults:
        areas = {ctid: __salt__["vz.config"](ctid)["private"] for ctid in __salt__["vz.containers"]()}
        shared = __salt__["ringfree_nfs.on_share"](areas.values())
        faults = [
            f"the conf of container {ctid} leads to {area}" for ctid, area in areas.items() if area in shared
        ]
    notes = []
    node = __opts__["id"]
    left = __salt__["ringfree_owner.left"]()
    if left:
        notes += __salt__["ringfree_owner.told_left"](left)
    elif __salt__["ringfree_rollback.plan"]():
        notes.append(
            f"the way back of {node} left something undone: 'salt-run state.orch rollback "
            f'pillar=\'{{"nodes": ["{node}"]}}\'\' tries again'
        )
    if faults:
        faults.append(
            f"the journal says that {node} is on local storage. If that is right, unmount what is not used with "
            f"'umount' and set the confs right; if not, because the journal was lost, 'salt {node} "
            f"cloudstor.recover_journal' writes one from what is found. Until then mounts and fence stay as they are"
        )
    return _found(faults=faults, notes=notes)


def no_mounts(test=False):
    """
    Our lines are not in fstab.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.no_mounts test=True
    """
    return _found(__salt__["ringfree_rollback.fstab"](test=test))


def no_fence(test=False):
    """
    Our fence is not in the conf directory, unless a way back left a container down that it has to keep down.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.no_fence test=True
    """
    left = __salt__["ringfree_owner.left"]()
    if left.keys() & __salt__["ringfree_owner.live_on_nfs"]().keys():
        return _found(__salt__["ringfree_guard.fence"](test))
    gone = __salt__["ringfree_guard.unfence"](test=test)
    return _found({"fence": {"old": "left over", "new": None}} if gone else {})


# --- on a node on NFS -------------------------------------------------------------------------------------------------


def mount_points(test=False):
    """
    The directories that the shares are mounted on, while nothing is mounted there.

    Core's ``file.directory`` would change the mode of the share itself once it is mounted.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.mount_points test=True
    """
    table, changes, faults = __salt__["vz.mounts"](), {}, []
    for name, share in __salt__["ringfree_settings.get"]()["shares"].items():
        path, mode = share["mount"], MODES[name]
        if _mounted(table, path):
            continue
        if not os.path.exists(path):
            old, mode = None, mode or 0o755
        elif not os.path.isdir(path):
            faults.append(f"{path} is no directory, so that {share['export']} cannot be mounted there")
            continue
        else:
            old = stat.S_IMODE(os.stat(path).st_mode)
        if mode is None or old == mode:
            continue
        changes[path] = {"old": old if old is None else f"{old:04o}", "new": f"{mode:04o}"}
        if not test:
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)
    return _found(changes, faults)


def _mounted(table, path):
    """The topmost mount on a directory, or None."""
    return __utils__["ringfree_mounts.at"](table, __utils__["ringfree_mounts.real_path"](table, path))


def shares(test=False):
    """
    The shares are mounted.  One that is mounted is never remounted: what differs is said.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.shares test=True
    """
    table, found = __salt__["vz.mounts"](), __salt__["ringfree_nfs.in_use"]()
    changes, faults = {}, []
    for name in ("private", "root", "conf"):
        entry = found[name]
        astray = __salt__["ringfree_nfs.conf_share_fault"]() if name == "conf" else ""
        if entry["mounted"] and not astray:
            continue
        objection = astray or _objection(name, entry, table)
        if objection:
            faults.append(objection)
            continue
        if not test:
            try:
                __salt__["ringfree_nfs.mount"](entry["wanted"], entry["mount"])
            except CommandExecutionError as error:
                faults.append(f"{error} The other shares were not tried; no container was touched")
                break
        changes[entry["mount"]] = {"old": None, "new": entry["wanted"]}
    drift = [
        f"{text}: comes with the next mount, a store in use is not remounted"
        for text in __salt__["ringfree_nfs.drift"]()
    ]
    return _found(changes, faults, [*drift, *filter(None, [__salt__["ringfree_nfs.told_otherwise"]()])])


def _objection(name, entry, table):
    """Why a share cannot be mounted without doing harm; nothing when it can."""
    path, wanted = entry["mount"], entry["wanted"]
    if entry["source"]:
        return (
            f"{path} is mounted from {entry['source']} and declared to be from {wanted}: a store in use is not "
            f"remounted, {wanted} would be mounted once its containers are stopped and it is unmounted"
        )
    real = __utils__["ringfree_mounts.real_path"](table, path)
    other = __utils__["ringfree_mounts.at"](table, real)
    if other:
        return f"{path} has {other['source']} ({other['fstype']}) mounted on it, {wanted} was not mounted over it"
    below = [mount["mountpoint"] for mount in table if mount["mountpoint"].startswith(real + "/")]
    if below:
        return (
            f"{', '.join(below)} would be hidden by {wanted} on {path}: it was mounted while the share was not. Stop "
            f"what runs there ('vzctl stop'), then apply the states again"
        )
    files = sorted(os.listdir(path)) if name == "private" and os.path.isdir(path) else []
    if files:
        first = __utils__["ringfree_command.spell"](files[0])
        return (
            f"{path} holds {len(files)} files on local disk, such as {first}, which {wanted} would hide. They were "
            f"written while it was not mounted: look at them, move them away, then apply the states again"
        )
    return ""


def fence(test=False):
    """
    The fence and the name that it knows this node by.

    test : False
        Only say what would change.

    Returns what all functions here return.  Raises CommandExecutionError when the conf share does not answer.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.fence test=True
    """
    __salt__["vz.must_answer"]()
    return _found(__salt__["ringfree_guard.fence"](test=test))


def vz_conf(test=False):
    """
    vz.conf leads to the share, so that new containers are born there, and lets containers start.

    It is left alone while a container runs from another store only because vz.conf says so.

    test : False
        Only say what would change.

    Returns what all functions here return.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.vz_conf test=True
    """
    paths = _paths()
    changes = __salt__["vz.changes"](paths)
    guarded = __utils__["ringfree_conf.parse"](_read())["values"].get("DISABLED") == "yes"
    if guarded:
        changes["DISABLED"] = {"old": "yes", "new": None}
    faults = _followers(changes)
    if faults:
        return _found(faults=faults)
    if changes and not test:
        __salt__["vz.configure"]({**paths, **({"DISABLED": None} if guarded else {})})
    return _found(changes)


def _paths():
    return __utils__["ringfree_pillar.store_paths"](__salt__["ringfree_settings.get"]())


def _read(ctid=None):
    path = __salt__["vz.conf_path"](ctid)
    data = __utils__["ringfree_files.read"](path)
    if data is None:
        raise CommandExecutionError(f"{path} does not exist")
    return data


def _followers(changes):
    """Containers that run from where only vz.conf sends them: with another one their next restart would go astray."""
    keys, faults = [key for key in PATHS if key in changes], []
    for ctid in _with_conf(__salt__["vz.running"]()) if keys else ():
        conf = __salt__["vz.config"](ctid)
        own = {
            key: changes[key]["old"]
            for key in keys
            if conf[f"{PATHS[key]}_source"] == "global"
            and not _same(conf[PATHS[key]], _expanded(changes[key]["new"], ctid))
        }
        if own and __salt__["vz.root_mount"](ctid)["ok"]:
            faults.append(
                f"container {ctid} runs from {conf['private']} only because vz.conf says so; with the declared vz.conf "
                f"its next restart would look for it elsewhere. vz.conf was not changed. 'salt "
                f"{__opts__['id']} vz.configure '{salt.utils.json.dumps(own)}' {ctid}' gives it lines of "
                f"its own, then apply the states again"
            )
    return faults


def _with_conf(ctids):
    there = set(__salt__["vz.containers"]())
    return [ctid for ctid in ctids if ctid in there]


def _expanded(value, ctid):
    return __utils__["ringfree_conf.expand"](value, ctid)


def _same(one, other):
    return bool(one and other) and posixpath.normpath(one) == posixpath.normpath(other)


def container_confs(test=False):
    """
    The confs of the containers that this node owns on the share lead there, in lines of their own.

    A container that runs while its conf leads elsewhere is named, and its conf stays as it is; so does every conf of
    other nodes' containers, and of those that nobody owns.  One that ``vzctl destroy`` has removed is forgotten.

    test : False
        Only say what would change.

    Returns what all functions here return.  Raises CommandExecutionError when the SAN does not answer.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_keep.container_confs test=True
    """
    found = __salt__["ringfree_nfs.in_use"]()
    away = [found[name]["mount"] for name in ("private", "conf") if not found[name]["mounted"]]
    if away:
        said = f"no conf was looked at: {', '.join(away)} is not mounted from the SAN in use, and what counts is there"
        return (
            _found(notes=[said]) if _dry(test) and not shares(test=True)["faults"] else _found(faults=[said])
        )
    __salt__["vz.must_answer"](found["private"]["mount"])
    up, known, me = (
        set(__salt__["vz.running"]()),
        __salt__["ringfree_owner.records"](),
        __opts__["id"],
    )
    there, gone = __salt__["vz.containers"](), __salt__["ringfree_owner.destroyed"](known)
    mine = sorted(ctid for ctid, owner in known.items() if owner["node"] == me and owner["store"] == "nfs")
    faults = [_without_conf(ctid) for ctid in mine if ctid not in there and ctid not in gone]
    faults += [
        f"container {ctid} runs here and belongs to {known[ctid]['node']}; make sure that it does not run there as well"
        for ctid in sorted(up)
        if ctid in known and known[ctid]["node"] != me
    ]
    changes = {str(ctid): {"old": "on the share", "new": "destroyed"} for ctid in gone}
    if not test:
        __salt__["ringfree_owner.forget"](gone)
    above = _vz_conf_by_then(test)
    for ctid in mine:
        if ctid in there:
            fault, todo = _conf(ctid, above, ctid in up)
            faults += [fault] if fault else []
            if todo:
                changes[str(ctid)] = (
                    __salt__["vz.changes"](todo, ctid) if test else __salt__["vz.configure"](todo, ctid)
                )
    return _found(changes, faults, _notes(there, known, up, gone))


def _without_conf(ctid):
    """What is said of a container without a conf, and what to type."""
    path = __salt__["vz.conf_path"](ctid)
    said = f"container {ctid} is this node's on the share and has no {path}"
    private = f"{__salt__['ringfree_settings.get']()['shares']['private']['mount']}/{ctid}"
    if os.path.lexists(private):
        return f"{said}: what it was is in {__salt__['ringfree_snapshot.path']()}, if it is that old"
    return f"{said} and no {private}: if it is gone for good, 'touch {path}.destroyed'; the next highstate forgets it"


def _vz_conf_by_then(test):
    """vz.conf as the live run finds it once :py:func:`vz_conf` is done."""
    data = _read()
    try:
        if _dry(test) and not vz_conf(test=True)["faults"]:
            return __utils__["ringfree_conf.edit"](data, _paths())
    except CommandExecutionError:
        pass  # it stays as it is
    return data


def _conf(ctid, above, up):
    """One conf: what keeps it from being changed, and the keys to set."""
    path, data, paths = __salt__["vz.conf_path"](ctid), _read(ctid), _paths()
    traps = [trap for trap in __utils__["ringfree_conf.ambiguities"](data) if trap["hinders"]]
    if traps:
        said = "; ".join(f"{path}:{trap['line']}: {trap['why']}" for trap in traps)
        return f"{said}. The file was not touched", {}
    now, own = (
        __utils__["ringfree_conf.effective"](ctid, above, data),
        __utils__["ringfree_conf.parse"](data)["values"],
    )
    declared = {key: _expanded(paths[key], ctid) for key in PATHS}
    wanted = __salt__["ringfree_confs.with_layout"](ctid, paths, declared["VE_PRIVATE"])
    todo = {
        key: value
        for key, value in wanted.items()
        if own.get(key) != value
        and not (key in PATHS and _same(_expanded(own.get(key, ""), ctid), declared[key]))
    }
    astray = {key: now[name] for key, name in PATHS.items() if not _same(now[name], declared[key])}
    if not up and not (astray and __salt__["vz.status"](ctid)["mounted"]):
        return "", todo
    fault = _astray(ctid, path, astray, declared, todo)
    return fault, {} if fault else todo


def _astray(ctid, path, astray, declared, todo):
    """What is wrong with a container that runs, or is mounted: its conf leads elsewhere, or its tree is another one."""
    table, node = __salt__["vz.mounts"](), __opts__["id"]
    root, private = (
        __utils__["ringfree_mounts.real_path"](table, declared[key]) for key in ("VE_ROOT", "VE_PRIVATE")
    )
    proof = __utils__["ringfree_mounts.container_root_is"](table, declared["VE_PRIVATE"], root, private)
    if proof["ok"] and not astray:
        return ""
    leads = " and ".join(f"{key} {place or '(nowhere)'}" for key, place in astray.items()) or "the share"
    if proof["ok"]:
        return (
            f"container {ctid} runs from the share, but its conf leads to {leads}: a restart, also one from inside, "
            f"would look for it there, and the fence keeps it down where that is an old copy. {path} was not touched "
            f"while it runs. 'salt {node} vz.configure '{salt.utils.json.dumps(todo)}' {ctid}' sets it right and "
            f"touches nothing else"
        )
    return (
        f"container {ctid} does not run from the share, where its live copy is by its owner record ({proof['why']}); "
        f"its conf leads to {leads}. What it writes now is in another copy only. {path} was not touched while it runs. "
        f"To go on with the share's copy: 'vzctl stop {ctid}', 'salt {node} state.apply', 'vzctl start {ctid}'"
    )


def _notes(there, known, up, gone):
    """What is not this node's to change, and what runs or does not: said, and left to people."""
    me, groups = __opts__["id"], {}
    for ctid in there:
        owner = known.get(ctid)
        if not owner or owner["node"] != me:
            groups.setdefault(f"of {owner['node']}" if owner else "which nobody owns", []).append(str(ctid))
        elif owner["store"] != "nfs":
            groups.setdefault("which live on local disk", []).append(str(ctid))
    notes = [f"not touched: {', '.join(ctids)}, {whose}" for whose, ctids in sorted(groups.items())]
    down = [str(ctid) for ctid in __salt__["vz.manifest"]() or [] if ctid not in up and ctid not in gone]
    if down:
        notes.append(f"of the manifest {', '.join(down)} do not run")
    return notes
