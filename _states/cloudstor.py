"""
States of the move itself: the journal, the copies on the SAN, owners, snapshot, conf share, mounts, commit.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.  On a node that was committed
to NFS the states of a migration find nothing to do.
"""

import logging
import os
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "cloudstor"

LEAST = 60  # seconds: with less left, a deadline could pass between two parts of a migration that continues
GRACE = 300  # seconds that the master has to keep a run's deadline before the node does it alone
FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "cloudstor.journal" in __salt__ and "vz.status" in __salt__:
        return __virtualname__
    return (
        False,
        "cloudstor: the execution modules vz and cloudstor are not there: no OpenVZ node, or modules are not synced",
    )


def _ret(name):
    return {"name": name, "changes": {}, "result": True, "comment": ""}


def _end(ret, comment, result=True):
    ret.update(result=result, comment=comment)
    return ret


def _failed(ret, error):
    return _end(ret, __salt__["cloudstor.failure"](ret["name"], error), False)


def _mark(step, phase, **details):
    __salt__["cloudstor.mark"](step, phase, **details)


def begun(name):
    """
    The node's journal says that a migration is under way, or that it was committed.

    name
        A sentence for people.

    .. code-block:: yaml

        The migration is in the journal:
          cloudstor.begun: []
    """
    ret = _ret(name)
    try:
        now = __salt__["cloudstor.state"]()
        if now != "local":
            return _end(ret, f"The journal says {now}.")
        ret["changes"] = {"state": {"old": now, "new": "in_flight"}}
        if __opts__["test"]:
            return _end(ret, "The node would be in flight.", None)
        __salt__["cloudstor.begin"]()
        return _end(ret, "The node is in flight.")
    except FAULTS as error:
        return _failed(ret, error)


def presynced(name):
    """
    The share has a nearly complete copy of every container that is to move, made while it runs.

    The copy is repeated until a pass takes less than ``ringfree:sync:small`` seconds, at most ``ringfree:sync:passes``
    times.

    name
        A sentence for people.

    .. code-block:: yaml

        The share is nearly up to date:
          cloudstor.presynced: []
    """
    ret = _ret(name)
    try:
        todo = _to_copy()
        if not todo:
            return _end(ret, "No container has its live copy on local storage.")
        if __opts__["test"]:
            ret["changes"] = {str(ctid): {"old": "local", "new": "copied while it runs"} for ctid in todo}
            return _end(ret, f"{len(todo)} containers would be copied while they run.", None)
        ret["changes"] = {str(ctid): {"old": "", "new": text} for ctid, text in _passes(todo).items()}
        return _end(ret, f"{len(todo)} containers were copied while they run.")
    except FAULTS as error:
        return _failed(ret, error)


def _to_copy():
    """The containers to move whose live copy is not on the share."""
    ctids = __salt__["cloudstor.to_move"]()
    if __salt__["cloudstor.state"]() == "nfs" or not ctids:
        return []
    known, me = __salt__["ringfree_owner.records"](), __salt__["cloudstor.node"]()
    foreign = [
        f"container {ctid} belongs to {known[ctid]['node']}"
        for ctid in ctids
        if known.get(ctid, {}).get("node", me) != me
    ]
    if foreign:
        raise CommandExecutionError("; ".join(foreign))
    return [
        ctid
        for ctid in ctids
        if known.get(ctid, {}).get("store") != "nfs" or __salt__["cloudstor.went_home"](ctid)
    ]


def _passes(ctids):
    """Copy until a pass is small; returns id to a text about the last pass."""
    wanted = __salt__["cloudstor.settings"]()["sync"]
    _keep_lists(ctids)
    __salt__["ringfree_owner.claim"](ctids, "local")
    for turn in range(1, wanted["passes"] + 1):
        __salt__["ringfree_run.leave"]("presync")
        __salt__["cloudstor.tell"]("presync", "intent", note=f"pass {turn}, {len(ctids)} containers")
        done = __salt__["cloudstor.sync"](
            ctids,
            on_done=lambda ctid, entry: __salt__["cloudstor.tell"](
                "presync", "done", container=ctid, note=_amount(entry)
            ),
        )
        longest = max(entry["seconds"] for entry in done.values())
        if longest < wanted["small"]:
            break
    __salt__["ringfree_owner.claim"](ctids, "local", {ctid: entry["size"] for ctid, entry in done.items()})
    __salt__["cloudstor.tell"](
        "presync", "verified", note=f"{turn} passes, the last took {longest:.1f} s at most"
    )
    return {ctid: f"pass {turn}: {_amount(entry)}" for ctid, entry in done.items()}


def _keep_lists(ctids):
    """What a way back could not list, because the share was silent, is listed before its copies are overwritten."""
    known = __salt__["ringfree_owner.records"]()
    unlisted = [ctid for ctid in ctids if known.get(ctid, {}).get("store") == "nfs"]
    if not unlisted:
        return
    try:
        said = __salt__["ringfree_revert.keep_lists"](unlisted)
    except FAULTS as error:
        raise CommandExecutionError(
            f"what containers {', '.join(map(str, unlisted))} wrote on NFS before they went home was never listed, and "
            f"a copy would overwrite it: {error}. To do without the lists type on the node: salt-call "
            f"ringfree_owner.claim '{unlisted}' local"
        ) from error
    __salt__["cloudstor.tell"]("presync", "intent", note=f"files changed on NFS: {said}")


def _amount(entry):
    return f"{entry['files']} files, {entry['bytes'] / 1e6:.1f} MB in {entry['seconds']:.1f} s"


def synced(name):
    """
    The share has a complete and verified copy of every container of the manifest; all of them are down.

    name
        A sentence for people.

    .. code-block:: yaml

        The last changes are on the share:
          cloudstor.synced: []
    """
    ret = _ret(name)
    try:
        todo = _to_copy()
        if not todo:
            return _end(ret, "No container has its live copy on local storage.")
        ret["changes"] = {str(ctid): {"old": "nearly copied", "new": "copied and verified"} for ctid in todo}
        if __opts__["test"]:
            return _end(ret, f"{len(todo)} containers would be copied.", None)
        _mark("sync", "intent", note=f"{len(todo)} containers")
        # From here on nobody starts one at home, not by force either: what it wrote would be in no copy.
        __salt__["ringfree_owner.enlist"](todo)
        done = __salt__["cloudstor.sync"](
            todo, True, lambda ctid, entry: _mark("sync", "verified", container=ctid, note=_amount(entry))
        )
        ret["changes"] = {str(ctid): {"old": "", "new": _amount(entry)} for ctid, entry in done.items()}
        _mark("sync", "verified")
        return _end(ret, f"{len(done)} containers were copied and verified.")
    except FAULTS as error:
        return _failed(ret, error)


def owned(name):
    """
    The owner records on the share say that the live copies of the manifest's containers are there, owned by this node.

    name
        A sentence for people.

    .. code-block:: yaml

        The share's copies are the live ones:
          cloudstor.owned: []
    """
    ret = _ret(name)
    try:
        todo = _to_copy()
        if not todo:
            return _end(ret, "The live copies are on the share.")
        ret["changes"] = {str(ctid): {"old": "local", "new": "nfs"} for ctid in todo}
        if __opts__["test"]:
            return _end(ret, f"{len(todo)} owner records would be written.", None)
        unproved = [ctid for ctid in todo if not __salt__["cloudstor.reached"]("sync", "verified", ctid)]
        if unproved:
            raise CommandExecutionError(f"containers {', '.join(map(str, unproved))} have no verified copy")
        # One whose start had passed the fence before.
        up = __salt__["cloudstor.up"](todo)
        if up:
            said = "; ".join(f"container {ctid} {why}" for ctid, why in up.items())
            raise CommandExecutionError(f"{said}: what is written in it since is not on the share")
        _mark("owner", "intent")
        __salt__["ringfree_owner.claim"](todo, "nfs")
        _mark("owner", "verified")
        return _end(ret, f"{len(todo)} containers have their live copy on the share.")
    except FAULTS as error:
        return _failed(ret, error)


def snapshotted(name):
    """
    The conf directory is kept as an archive beside it, and so is vz.conf, as they were before this migration.

    name
        A sentence for people.

    .. code-block:: yaml

        The confs are kept:
          cloudstor.snapshotted: []
    """
    ret = _ret(name)
    try:
        if __salt__["cloudstor.reached"]("snapshot"):
            return _end(ret, "The confs were kept when this migration began.")
        paths = [__salt__["ringfree_snapshot.path"](), __salt__["ringfree_snapshot.vz_conf_path"]()]
        ret["changes"] = {"snapshot": {"old": "", "new": ", ".join(paths)}}
        if __opts__["test"]:
            return _end(ret, "The confs would be kept.", None)
        _mark("snapshot", "intent")
        kept = __salt__["ringfree_snapshot.make"]()
        ret["changes"]["snapshot"]["new"] = ", ".join(f"{path} ({size} bytes)" for path, size in kept.items())
        _mark("snapshot", "verified", note=", ".join(kept))
        return _end(ret, "The confs were kept, with their check sums, and read back.")
    except FAULTS as error:
        return _failed(ret, error)


def conf_share_prepared(name):
    """
    The conf share has this node's confs as they are to be on NFS, and nothing of another node was touched.

    name
        A sentence for people.

    .. code-block:: yaml

        The conf share is ready:
          cloudstor.conf_share_prepared: []
    """
    ret = _ret(name)
    try:
        if __salt__["cloudstor.state"]() == "nfs" or _mounted("conf"):
            return _end(ret, "The conf share is in use.")
        ret["changes"] = __salt__["cloudstor.conf_share"](test=True)
        if not ret["changes"]:
            return _end(ret, "The conf share has this node's confs.")
        if __opts__["test"]:
            return _end(ret, f"{len(ret['changes'])} files would be brought to the conf share.", None)
        _mark("conf_share", "intent")
        ret["changes"] = __salt__["cloudstor.conf_share"]()
        _mark("conf_share", "verified", note=f"{len(ret['changes'])} files")
        return _end(ret, f"{len(ret['changes'])} files were brought to the conf share and compared.")
    except FAULTS as error:
        return _failed(ret, error)


def _mounted(share):
    return __salt__["ringfree_nfs.in_use"]()[share]["mounted"]


def mounted(name, shares):
    """
    Shares of the SAN in use are mounted where the pillar says.

    Core's ``mount.mounted`` compares NFS options as text and remounts, lazily when busy, a store under running
    containers (https://github.com/saltstack/salt/issues/65351), so this one only ever mounts what is not mounted.

    name
        A sentence for people.

    shares
        List of ``private``, ``root``, ``conf``.  ``conf`` is mounted only when it holds the same files as the directory
        that it will hide.

    .. code-block:: yaml

        The containers' store is mounted:
          cloudstor.mounted:
            - shares: [private, root]
    """
    ret = _ret(name)
    try:
        found = __salt__["ringfree_nfs.in_use"]()
        todo = [share for share in shares if not found[share]["mounted"]]
        ret["changes"] = {
            found[share]["mount"]: {"old": found[share]["source"], "new": found[share]["wanted"]}
            for share in todo
        }
        if not todo:
            drift = "; ".join(__salt__["ringfree_nfs.drift"]())
            left = f" Left as it is until the next unmount: {drift}." if drift else ""
            return _end(ret, f"Mounted from the SAN in use.{left}")
        wrong = [
            f"{found[share]['mount']} is mounted from {found[share]['source']}"
            for share in todo
            if found[share]["source"]
        ]
        if wrong:
            raise CommandExecutionError("; ".join(wrong) + ": a store in use is never remounted")
        if __opts__["test"]:
            return _end(ret, f"{len(todo)} shares would be mounted.", None)
        step = "mount_conf" if "conf" in todo else "mount"
        _mark(step, "intent", note=", ".join(todo))
        for share in todo:
            _mount(share, found[share])
        _mark(step, "verified", note=", ".join(todo))
        return _end(ret, f"{len(todo)} shares were mounted.")
    except FAULTS as error:
        return _failed(ret, error)


def _mount(share, entry):
    """Mount one share; the conf share only over a directory that says the same."""
    if share == "conf":
        unlike = __salt__["cloudstor.conf_share"](test=True)
        if unlike:
            raise CommandExecutionError(
                f"the conf share lacks or changes {', '.join(sorted(unlike))}; it was not mounted"
            )
    if not os.path.isdir(entry["mount"]):
        raise CommandExecutionError(f"the mount point {entry['mount']} does not exist")
    __salt__["ringfree_nfs.mount"](entry["wanted"], entry["mount"])
    if share == "conf":
        _confs_lead_to_share()


def _confs_lead_to_share():
    """After the conf share hid the local directory, every container of the manifest resolves to the share."""
    shares = __salt__["cloudstor.settings"]()["shares"]
    for ctid in __salt__["vz.manifest"]() or []:
        conf = __salt__["vz.config"](ctid)
        for key, share in (("private", "private"), ("root", "root")):
            wanted = f"{shares[share]['mount']}/{ctid}"
            if conf[key] != wanted:
                raise CommandExecutionError(
                    f"on the conf share the {key} of container {ctid} is {conf[key]}, not {wanted}"
                )


def guarded(name):
    """
    Nobody but the migration can start a container of this node, until the commit.

    name
        A sentence for people.

    .. code-block:: yaml

        Nothing starts by itself:
          cloudstor.guarded: []
    """
    ret = _ret(name)
    try:
        if __salt__["cloudstor.state"]() == "nfs":
            return _end(ret, "The node is on NFS; the guard is lifted.")
        ret["changes"] = __salt__["ringfree_guard.guard"](test=True)
        if not ret["changes"]:
            return _end(ret, "Nothing starts by itself.")
        if __opts__["test"]:
            return _end(ret, "Containers would be kept from starting by themselves.", None)
        _mark("guard", "intent")
        ret["changes"] = __salt__["ringfree_guard.guard"]()
        if __salt__["ringfree_guard.guard"](test=True):
            raise CommandExecutionError("the guard was written and does not read as declared")
        _mark("guard", "verified")
        return _end(ret, "Nothing starts by itself.")
    except FAULTS as error:
        return _failed(ret, error)


def deadman_armed(name, seconds):
    """
    The node goes back to local storage by itself, without the master, unless it is committed in time.

    A deadline that a migration was begun with stays when the migration is continued; one that has passed, or is about
    to, is set anew.

    name
        A sentence for people.

    seconds
        Seconds until then; fewer where the run has a deadline (``ringfree_run.until``).

    .. code-block:: yaml

        The node goes back by itself unless it is committed:
          cloudstor.deadman_armed:
            - seconds: 14400
    """
    ret = _ret(name)
    try:
        if __salt__["cloudstor.state"]() == "nfs":
            return _end(ret, "The node is on NFS.")
        kept = __salt__["ringfree_deadman.armed"]()
        enough = min(LEAST, seconds / 2)
        if kept and not kept["fault"] and kept["deadline"] - time.time() > enough:
            return _end(ret, f"The node goes back by itself at {_clock(kept['deadline'])}.")
        seconds = _seconds_left(seconds)
        ret["changes"] = {"deadman": {"old": None, "new": f"in {seconds:.0f} s"}}
        if __opts__["test"]:
            return _end(ret, f"The node would go back by itself after {seconds:.0f} s.", None)
        _mark("deadman", "intent")
        kept = __salt__["ringfree_deadman.arm"](time.time() + seconds)
        if not kept or kept["fault"]:
            raise CommandExecutionError(f"the dead-man was armed and does not read so: {kept}")
        at = _clock(kept["deadline"])
        _mark("deadman", "verified", note=f"at {at}, by {kept['scheduler']}")
        return _end(ret, f"The node goes back by itself at {at} unless it is committed before.")
    except FAULTS as error:
        return _failed(ret, error)


def _seconds_left(seconds):
    """The run's deadline counts as well, with time for the orchestration to keep it first."""
    over = __salt__["ringfree_run.until"]()
    return min(seconds, over + GRACE - time.time()) if over else seconds


def _clock(seconds):
    return __utils__["ringfree_deadman.clock"](seconds, time.time())


def committed(name):
    """
    The node stays on NFS: verified once more, noted in the journal, containers may start by themselves again.

    name
        A sentence for people.

    .. code-block:: yaml

        The node stays on NFS:
          cloudstor.committed: []
    """
    ret = _ret(name)
    try:
        if __salt__["cloudstor.state"]() == "nfs":
            return _disarmed(ret)
        ret["changes"] = {"state": {"old": __salt__["cloudstor.state"](), "new": "nfs"}}
        if __opts__["test"]:
            return _end(ret, "The node would be committed to NFS.", None)
        manual = __salt__["cloudstor.settings"]()["confirm"] == "manual"
        if manual and not __salt__["ringfree_run.confirmed"]():
            word = f"'salt-run ringfree.commit {__salt__['cloudstor.node']()}'"
            raise CommandExecutionError(f"not committed: nobody has said {word}")
        faults = __salt__["cloudstor.faults_on_nfs"]()
        if faults:
            raise CommandExecutionError("not committed: " + "; ".join(faults))
        # One that starts to fire from here on waits for the end of this state, and finds the node committed.
        if __salt__["ringfree_deadman.firing"]():
            raise CommandExecutionError("not committed: the deadline has passed and the dead-man works")
        _mark("commit", "intent")
        __salt__["ringfree_guard.unguard"]()
        _mark("commit", "verified")
        __salt__["cloudstor.settle"]("nfs")
        # Last: until the journal says nfs, the node must come back whatever happens here.
        __salt__["ringfree_deadman.disarm"]()
        return _end(ret, __salt__["cloudstor.whereabouts"]())
    except FAULTS as error:
        return _failed(ret, error)


def _disarmed(ret):
    """A node on NFS has no dead-man; a commit that was killed may have left it."""
    if __salt__["ringfree_deadman.armed"]() is None:
        return _end(ret, "The node is on NFS.")
    ret["changes"] = {"deadman": {"old": "armed", "new": None}}
    if __opts__["test"]:
        return _end(ret, "The node is on NFS; its dead-man would be disarmed.", None)
    __salt__["ringfree_deadman.disarm"]()
    return _end(ret, "The node is on NFS; its dead-man was disarmed.")


def reverted(name, data=None, committed=True):
    """
    The node is on local storage, as before its migration: one best-effort state that reports every sub-step.

    name
        A sentence for people.

    data : None
        ``discard`` or ``sync_back``: what becomes of what containers wrote on NFS; ``None`` for
        ``ringfree:rollback:data``.

    committed : True
        Whether a node that was committed to NFS goes back as well; otherwise only one in flight.

    .. code-block:: yaml

        The node is back on local storage:
          cloudstor.reverted:
            - data: sync_back
    """
    ret = _ret(name)
    try:
        fault = __salt__["cloudstor.journal_fault"]()
        # Truth is on the node, and without a journal there would be no way back at all.
        anew = {"journal": {"old": f"damaged: {fault}", "new": "written from what is found"}} if fault else {}
        ret["changes"] = anew
        if fault and __opts__["test"]:
            return _end(ret, "The journal would be written anew, and what it says then be undone.", None)
        if fault:
            __salt__["cloudstor.recover_journal"]()
        if not committed and __salt__["cloudstor.state"]() == "nfs":
            return _end(
                ret, f"The node was committed and stays on NFS. {__salt__['cloudstor.whereabouts']()}"
            )
        if __opts__["test"]:
            todo = __salt__["ringfree_revert.plan"]()
            ret["changes"] = todo
            if todo:
                return _end(ret, "The node would go back to local storage.", None)
            return _end(ret, __salt__["cloudstor.whereabouts"]())
        # Not after the same look: of a silent SAN it would keep the containers down for longer.
        steps = __salt__["ringfree_revert.revert"](data)
        done = {step["what"]: {"old": "", "new": step["detail"] or "done"} for step in steps if step["ok"]}
        ret["changes"] = {**anew, **done}
        bad = [
            f"{step['what']}: {step['detail']} Type on the node: {step['command']}"
            for step in steps
            if not step["ok"]
        ]
        if bad:
            raise CommandExecutionError("What could not be done: " + "; ".join(bad))
        return _end(ret, __salt__["cloudstor.whereabouts"]())
    except FAULTS as error:
        return _failed(ret, error)
    except Exception as error:
        # What nobody thought of is said like anything else, with where the containers are.
        log.exception("the way back failed")
        return _failed(ret, f"{type(error).__name__}: {error}")


# --- a node that boots, and who may start what ------------------------------------------------------------------------


def mount_points_closed(name):
    """
    Nobody, not even root, can write under the mount points of the store while nothing is mounted there.

    They are made immutable (``chattr +i``), and stay so on the way back.  One that is mounted is left alone; where the
    file system cannot do it the comment says so.

    name
        A sentence for people.

    .. code-block:: yaml

        Nobody writes under the mount points:
          cloudstor.mount_points_closed: []
    """
    ret = _ret(name)
    try:
        __salt__["cloudstor.journal"]()
        found = __salt__["ringfree_boot.open_mount_points"]()
        if found["faults"]:
            return _end(ret, "; ".join(found["faults"]), False)
        ret["changes"] = {path: {"old": "writable", "new": "immutable"} for path in found["open"]}
        if not found["open"]:
            return _end(ret, "The mount points are closed, or mounted.")
        if __opts__["test"]:
            return _end(ret, f"{len(found['open'])} mount points would be closed.", None)
        done = __salt__["ringfree_boot.close_mount_points"](found["open"])
        ret["changes"] = {path: ret["changes"][path] for path, fault in done.items() if fault is None}
        faults = [f"{path} stays writable: {fault}" for path, fault in done.items() if fault]
        return _end(ret, " ".join([f"{len(ret['changes'])} mount points were closed.", *faults]))
    except FAULTS as error:
        return _failed(ret, error)


def vz_waits(name):
    """
    vz starts only with the three shares mounted, so that a node that boots without its SAN starts nothing and forgets
    nothing.

    With systemd by a drop-in of vz.service, which also lets vz start no more than ``ringfree:start:workers`` containers
    at a time.  Without systemd an init script before vz keeps its list of containers until the share is there.

    name
        A sentence for people.

    .. code-block:: yaml

        vz starts only with its store:
          cloudstor.vz_waits: []
    """
    ret = _ret(name)
    try:
        __salt__["cloudstor.journal"]()
        ret["changes"] = __salt__["ringfree_boot.vz_waits"](test=True)
        if not ret["changes"]:
            return _end(ret, "vz starts only with the shares.")
        if __opts__["test"]:
            return _end(ret, "vz would start only with the shares.", None)
        ret["changes"] = __salt__["ringfree_boot.vz_waits"]()
        return _end(ret, "vz starts only with the shares from now on.")
    except FAULTS as error:
        return _failed(ret, error)


def brought_up(name):
    """
    No container waits for the share since the node booted without it.

    Only reports, unless the pillar's ``ringfree:highstate:bring_up`` is true; then the node is brought up as
    ``ringfree_boot.bring_up`` does.  A container that somebody stopped while the node was up is never started.

    name
        A sentence for people.

    .. code-block:: yaml

        Nothing waits for the share:
          cloudstor.brought_up: []
    """
    ret = _ret(name)
    try:
        if __salt__["ringfree_boot.waiting"]() is None:
            return _end(ret, "Nothing waits for the share.")
        if not __salt__["cloudstor.settings"]()["highstate"]["bring_up"]:
            return _end(ret, __salt__["cloudstor.whereabouts"](), False)
        ret["changes"] = {"node": {"old": "waits for the share", "new": "up"}}
        if __opts__["test"]:
            return _end(ret, "The shares would be mounted, vz and its containers started.", None)
        done = __salt__["ringfree_boot.bring_up"]()
        ret["changes"] = {str(ctid): {"old": "down", "new": "running"} for ctid in done["started"]}
        ret["changes"].update({path: {"old": None, "new": "mounted"} for path in done["mounted"]})
        return _end(ret, done["now"])
    except FAULTS as error:
        return _failed(ret, error)


def no_conflicts(name):
    """
    No container of this node runs, or could run, on another one as well, and none shares its name or address.

    Only looks; fails with a sentence for each conflict.

    name
        A sentence for people.

    .. code-block:: yaml

        Each container is one node's:
          cloudstor.no_conflicts: []
    """
    ret = _ret(name)
    try:
        found = __salt__["ringfree_owner.conflicts"]()
    except FAULTS as error:
        found = [str(getattr(error, "error", None) or error)]
    if found:
        return _end(ret, " ".join(f"{text.rstrip('.')}." for text in found), False)
    return _end(ret, "Each container is one node's.")


def scripts_known(name):
    """
    Nothing on the conf share is run here that neither this node nor the pillar knows.

    Only looks; fails with a sentence for each file.

    name
        A sentence for people.

    .. code-block:: yaml

        Nobody else's scripts run here:
          cloudstor.scripts_known: []
    """
    ret = _ret(name)
    try:
        found = __salt__["ringfree_scripts.unknown"]()
    except FAULTS as error:
        found = [str(getattr(error, "error", None) or error)]
    if found:
        return _end(ret, " ".join(f"{text.rstrip('.')}." for text in found), False)
    return _end(ret, "All scripts on the conf share are known.")
