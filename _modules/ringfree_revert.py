"""
The way back: from NFS, or from anywhere in between, to local storage.

Every sub-step is attempted and reported, whatever became of the others; what could not be done is named with the
command for it.  The order is that of the runbook, made safe: stop, list what was written, vz.conf, vz, unmount, confs,
start.

:configuration: the pillar ``ringfree`` (``rollback``, ``start``, ``stop``)
"""

import contextlib
import logging
import os
import signal
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_revert"

CHANGED = "/var/lib/ringfree/changed"
FSTAB = "/etc/fstab"
PROC = "/proc"
#: vz's init script adds this line to vz.conf by itself (etc/init.d/vz-redhat.in of vzctl 4.11.1, line 514).
ADDED_BY_VZ = b"SKIP_SYSCTL_SETUP=yes\n"
GUARD, UNGUARD = "nothing starts by itself", "containers can start by themselves"
LISTED = "files changed on NFS are listed"
LATE = "what could not be listed before is listed"
STOP, START = "what runs from NFS is stopped", "the containers run from local storage"
ANSWER = "the containers answer"
BACK, CLAIM = "what was written on NFS is copied back", "the share knows that the live copies are local"
WHOLE = "no local copy is overwritten by half"
VZ_CONF, CONFS = "vz.conf is as before", "the confs are as before"
UNMOUNT = "the shares are unmounted"
DISARM = "the dead-man is disarmed"
SHARES_ANSWER = "the shares answer"
ASKED = 3  # times that silent shares are asked before they count as dead
ALONE = "vz starts without the shares"
#: With these done the node is on local storage; what else failed is named and can be typed. A container that runs there
#: and does not answer is such a thing.
ESSENTIAL = (STOP, VZ_CONF, UNMOUNT, CONFS, START, UNGUARD)


def __virtual__():
    return __virtualname__


def revert(data=None):
    """
    Bring this node back to local storage.

    data : None
        ``discard`` or ``sync_back``: what becomes of what containers wrote on NFS; ``None`` for what a way back that
        was cut short was told, else for the pillar's.

    Returns a list of ``{"what": text, "ok": bool, "detail": text, "command": text}``, one for each sub-step; an empty
    one when the journal says that the node is on local storage and that nothing is left to be done of its way back.
    Raises CommandExecutionError, before anything is stopped, when somebody else works on the way back of this node, or
    the local private areas of a committed node are not there any more.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.revert
    """
    if not _is_open():
        return []
    beside = __salt__["ringfree_deadman.firing"]()
    if beside:
        raise CommandExecutionError(
            f"the dead-man brings this node back just now (process {', '.join(map(str, beside))}); wait for its end"
        )
    wanted = data or _begun_with() or __salt__["cloudstor.settings"]()["rollback"]["data"]
    __salt__["ringfree_run.hold"]("the way back")
    try:
        _must_have_homes()
        return _revert(wanted)
    finally:
        __salt__["ringfree_run.release"]()


def _revert(wanted):
    """Every sub-step, and the state of the node that comes of them."""
    dead = _is_dead()
    on_share = _live_on_share(dead)
    if __salt__["cloudstor.state"]() == "nfs":
        _must_have_a_home()
        __salt__["cloudstor.settle"]("in_flight")
    __salt__["cloudstor.mark"]("revert", "intent", note=wanted)
    done = [_attempt(*step) for step in _steps(wanted, dead, on_share, _written_to(on_share))]
    __salt__["cloudstor.mark"]("revert", "done")
    if all(step["ok"] for step in done):
        __salt__["cloudstor.mark"]("revert", "verified")
    if all(step["ok"] for step in done if step["what"] in ESSENTIAL):
        __salt__["cloudstor.settle"]("local")
        # Not before: a way back that is cut short, and typed again, must know what not to bring home.
        __salt__["ringfree_owner.unlist"](__salt__["ringfree_owner.void"]())
        done.append(_attempt(DISARM, _disarm, "salt-call ringfree_deadman.disarm"))
    return done


def _begun_with():
    """A way back that copies back goes on to do so: the local copies may be overwritten by half."""
    begun = __salt__["cloudstor.journal"]()["steps"].get("revert", {})
    return "sync_back" if begun.get("note") == "sync_back" and "verified" not in begun else None


def _is_open():
    """Whether there is a migration to undo, or something that an earlier way back could not do."""
    found = __salt__["cloudstor.journal"]()
    return found["state"] != "local" or "verified" not in found["steps"].get("revert", {"verified": None})


def _steps(wanted, dead, on_share, written_to):
    """The sub-steps in order: what, function, and what to type on the node when it fails."""
    shares = __salt__["cloudstor.settings"]()["shares"]
    conf = shares["conf"]["mount"]
    umount = f"umount {conf} {shares['root']['mount']} {shares['private']['mount']}"
    unlisted = _unlisted(on_share)
    claim = f"salt-call ringfree_owner.claim '{on_share}' local"
    not_back = {}  # containers that may not start from their local copy, and why
    silent = []  # containers that were waited for in vain
    steps = [
        (GUARD, _guard, "echo 'DISABLED=\"yes\"' >> /etc/vz/vz.conf"),
        (STOP, lambda: _stop(wanted, dead), "vzctl stop CTID"),
        (LISTED, lambda: _list_changes(written_to, unlisted), "the same rollback, once the SAN answers"),
    ]
    if wanted == "sync_back":
        steps.append(
            (BACK, lambda: _sync_back(written_to, not_back), "salt-call cloudstor.sync_back CTID PATH STAMP")
        )
    else:
        steps.append((WHOLE, lambda: _whole(written_to, not_back), "the same rollback with data sync_back"))
    return [
        *steps,
        (VZ_CONF, _vz_conf, "cp /etc/vz/vz.conf.before-nfs /etc/vz/vz.conf"),
        (ALONE, _vz_alone, "salt-call ringfree_boot.vz_alone"),
        ("vz is restarted", _restart, "service vz restart, with no container running"),
        # Before the shares go: a reboot between the two would mount them again over a node that is on its way home.
        ("the mounts do not come back", fstab, f"remove the lines of ringfree from {FSTAB}"),
        (UNMOUNT, _unmount, umount),
        (CONFS, _confs, f"tar -C {conf} -xzf /etc/sysconfig/vz-scripts.tar.gz, but not while {conf} is NFS"),
        (CLAIM, lambda: _claim([ctid for ctid in on_share if ctid not in unlisted], not_back), claim),
        (START, lambda: _start(not_back, silent), "vzctl start CTID --force"),
        (ANSWER, lambda: _answer(silent), "vzctl exec CTID COMMAND"),
        ("the variables say so", _variables, "echo 0 > /etc/ringfree/nfsmounted"),
        (UNGUARD, lambda: _unguard(not_back), "remove the line DISABLED from /etc/vz/vz.conf"),
        # Last of all: a comparison takes its time, and neither what is down nor a reboot is to wait for it.
        (
            LATE,
            lambda: _list_late(unlisted, not_back),
            f"the same rollback; to do without the lists: {claim}",
        ),
    ]


def _attempt(what, act, command):
    """Do one sub-step; a failure is noted and does not keep the next one from being tried."""
    __salt__["cloudstor.tell"](what, "intent")
    try:
        detail = act()
    except (CommandExecutionError, OSError, ValueError, KeyError) as error:
        __salt__["cloudstor.tell"](what, "failed", note=str(error))
        return {"what": what, "ok": False, "detail": str(error), "command": command}
    text = detail if isinstance(detail, str) else ""
    __salt__["cloudstor.tell"](what, "verified", note=text or None)
    return {"what": what, "ok": True, "detail": text, "command": ""}


def plan():
    """
    What :py:func:`revert` would change, for a dry run.

    Returns a dictionary of changes: old and new.  Raises CommandExecutionError when it would refuse.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.plan
    """
    if not _is_open():
        return {}
    _must_have_homes()
    now, gone = __salt__["cloudstor.state"](), _destroyed()
    if now == "nfs":
        _must_have_a_home(gone)
    if now == "local":
        return {"way back": {"old": "not everything was done", "new": "complete"}}
    changes = {"state": {"old": now, "new": "local"}}
    void = __salt__["ringfree_owner.void"]()
    for ctid in __salt__["vz.manifest"]() or []:
        if ctid not in gone and ctid not in void:
            changes[str(ctid)] = {"old": "on NFS or down", "new": "running from local storage"}
    for entry in __salt__["ringfree_nfs.in_use"]().values():
        if entry["source"]:
            changes[entry["mount"]] = {"old": entry["source"], "new": None}
    return changes


def _destroyed():
    """The containers that were destroyed on the share, as far as it can be asked."""
    try:
        return __salt__["ringfree_owner.destroyed"]()
    except CommandExecutionError:
        return []


def _live_on_share(dead):
    """The containers whose live copy is on the share: its own records say so, or, when it is silent, the journal."""
    with contextlib.suppress(CommandExecutionError):
        if not dead:  # over an ssh connection that stood before, asking it would take a minute
            known, mine = __salt__["ringfree_owner.note"](), __salt__["cloudstor.node"]()
            return [ctid for ctid, owner in known.items() if (owner["node"], owner["store"]) == (mine, "nfs")]
    return (__salt__["vz.manifest"]() or []) if _began("owner", "intent") else []


def _must_have_a_home(gone=()):
    """Raise when the node owns containers on the share that were never local: they could not come along."""
    mine, void = __salt__["cloudstor.node"](), __salt__["ringfree_owner.void"]()
    moved = [ctid for ctid in __salt__["vz.manifest"]() or [] if ctid not in void]
    homeless = [
        ctid
        for ctid, owner in __salt__["ringfree_owner.live_on_nfs"]().items()
        if owner == mine and ctid not in moved and ctid not in gone
    ]
    if homeless:
        ctids = ", ".join(map(str, homeless))
        raise CommandExecutionError(
            f"containers {ctids} were born on the share, or came from another node, and have no local copy to go back "
            f"to: give each to a node that stays ('vzctl stop {homeless[0]}', 'salt-run ringfree.move_owner "
            f"{homeless[0]} to=NODE'), or destroy it. Nothing was changed."
        )


def _written_to(on_share):
    """Of the containers whose live copy is on the share, those that were started there, or may have been."""
    return [
        ctid
        for ctid in on_share
        if __salt__["cloudstor.reached"]("start", "intent", ctid)
        and not __salt__["cloudstor.went_home"](ctid)
    ]


def _unlisted(on_share):
    """Those that ran on the share and went home while it was silent: nobody could list what they had written."""
    return [
        ctid
        for ctid in on_share
        if __utils__["ringfree_journal.reached"](__salt__["cloudstor.journal"](), "start", "intent", ctid)
        and __salt__["cloudstor.went_home"](ctid)
    ]


def _guard():
    """Before anything else: DISABLED in vz.conf."""
    __salt__["vz.configure"]({"DISABLED": "yes"})


def _stop(data, dead):
    """
    Whatever of the manifest runs from the share, or is mounted from it, is stopped.

    What hangs on a dead SAN is ended by force where its data is let go; else it waits for the SAN.  A share that
    something holds is not taken out of sight: it keeps its mount, and the holder is named where it is unmounted.
    """
    mounted = [share["source"] for share in __salt__["ringfree_nfs.in_use"]().values() if share["source"]]
    if dead and mounted and data == "discard":
        return __salt__["ringfree_failover.end_by_force"](mounted[0].partition(":")[0], lazily=False)
    there, wanted = _there(), __salt__["cloudstor.settings"]()["stop"]
    __salt__["vz.stop"](list(reversed(there)), wanted["workers"], wanted["deadline"])
    return f"{len(there)} containers"


def _is_dead():
    """Whether shares are mounted and do not answer, asked more than once: the SAN may only be slow."""
    for turn in range(1, ASKED + 1):
        silent = __salt__["ringfree_nfs.silent"]()
        if not silent:
            return False
        # Half a minute goes by here with containers down: whoever watches sees why.
        note = f"{', '.join(silent)}: silent, asked {turn} of {ASKED} times"
        __salt__["cloudstor.tell"](SHARES_ANSWER, "failed", note=note)
    return True


def _there():
    """The containers of the manifest that are mounted from the share: mountinfo answers when the SAN does not."""
    shares, table = __salt__["cloudstor.settings"]()["shares"], __salt__["vz.mounts"]()
    private, roots = (
        __utils__["ringfree_mounts.real_path"](table, shares[name]["mount"]) for name in ("private", "root")
    )
    used = {mount["mountpoint"] for mount in __utils__["ringfree_mounts.users"](table, private)}
    return [ctid for ctid in __salt__["vz.manifest"]() or [] if f"{roots}/{ctid}" in used]


def homes(ctids):
    """
    Where containers were before the migration: their local private areas, by the confs of the snapshot.

    ctids
        List of ids; those that had no conf then are left out.

    Returns a dictionary: container id to path, or to ``None`` where its conf named none.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.homes '[101, 102]'
    """
    before = __utils__["ringfree_archive.unpack"](__salt__["cloudstor.snapshot_paths"]()["confs"])
    above = __utils__["ringfree_files.read"](__salt__["cloudstor.snapshot_paths"]()["vz_conf"])
    datas = {ctid: before.get(f"{ctid}.conf", {}).get("data") for ctid in ctids}
    return {
        ctid: __utils__["ringfree_conf.effective"](ctid, above, data)["private"]
        for ctid, data in datas.items()
        if data is not None
    }


def _must_have_homes():
    """A committed node does not begin its way back when there is nothing left to start a container from."""
    if __salt__["cloudstor.state"]() != "nfs":
        return
    nothing = "Nothing was stopped and nothing was changed"
    try:
        known = homes(__salt__["vz.manifest"]() or [])
    except (OSError, ValueError) as error:
        raise CommandExecutionError(f"the confs of before cannot be read: {error}. {nothing}") from error
    gone = [ctid for ctid, home in known.items() if not os.path.isdir(home or "")]
    if gone:
        told = __salt__["ringfree_cleanup.whereabouts"](gone)
        raise CommandExecutionError(
            f"there is no way back to local storage as things are: {'; '.join(told)}. {nothing}"
        )


def _list_changes(written_to, unlisted):
    """
    Keep the lists of what may have been written on NFS, and of what went home unlisted and is down.

    What runs at home keeps nobody waiting, and comes later; so does everything when no list can be made now.
    """
    up = set(__salt__["vz.running"]()) if unlisted else set()
    at_home = [ctid for ctid in unlisted if ctid in up]
    down = [ctid for ctid in unlisted if ctid not in up]
    if not written_to and not down:
        return "no container has its newest data on NFS"
    unlisted[:] = [*written_to, *down, *at_home]
    text = keep_lists([*written_to, *down], down)
    unlisted[:] = at_home
    return text


def _list_late(unlisted, not_back):
    """What runs at home since the share was silent; the share is told of it once there is a list."""
    if not unlisted:
        return "no container went home unlisted"
    text = keep_lists(unlisted)
    _claim(unlisted, not_back)
    return text


def keep_lists(ctids, late=None):
    """
    Keep, for each container, the list of files that differ between the share's copy and the local one.

    ctids
        List of ids.

    late : None
        Those of them that are at home already: their lists also have what was changed there. ``None`` for all.

    Returns text: how many files for each container, and the directory with one file for each, named by its id.
    Raises CommandExecutionError when a comparison cannot be made.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.keep_lists '[101]'
    """
    counts, known = [], _known_homes(ctids)
    folder = os.path.join(CHANGED, time.strftime("%Y%m%d-%H%M%S"))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for ctid in ctids:
        lines = __salt__["cloudstor.differences_to_local"](ctid, known[ctid])
        __utils__["ringfree_files.write"](
            os.path.join(folder, str(ctid)), "\n".join([*lines, ""]).encode("utf-8", "surrogateescape")
        )
        since = ", with what changed at home since" if late is None or ctid in late else ""
        counts.append(f"{ctid}: {len(lines)}{since}")
    return f"{'; '.join(counts)} ({folder})"


def _known_homes(ctids):
    """:py:func:`homes` of containers that all had one."""
    try:
        known = homes(ctids)
    except (OSError, ValueError) as error:
        raise CommandExecutionError(f"the confs of before cannot be read: {error}") from error
    lacking = [str(ctid) for ctid in ctids if not known.get(ctid)]
    if lacking:
        raise CommandExecutionError(
            f"the confs of before name no private area of containers {', '.join(lacking)}"
        )
    return known


def _sync_back(ctids, not_back):
    """Copy the share's copies over the local ones; what that replaces is kept, and the result is compared."""
    faults = []
    stamp = time.strftime("%Y%m%d-%H%M%S")
    known = _known_homes(ctids) if ctids else {}
    for ctid in ctids:
        try:
            __salt__["cloudstor.sync_back"](ctid, known[ctid], stamp)
        except CommandExecutionError as error:
            not_back[ctid] = _mixture(ctid, known[ctid]) or (
                "its newest data is on the share only: the same rollback again tries to copy it back, one with data "
                "discard starts the old copy"
            )
            faults.append(str(error))
    if faults:
        raise CommandExecutionError("; ".join(faults))
    return f"{len(ctids)} containers, what was replaced is in .ringfree-replaced/{stamp}"


def _whole(ctids, not_back):
    """What an earlier way back overwrote by half is neither the old copy nor the new one."""
    known = _known_homes(ctids) if ctids else {}
    not_back.update({ctid: why for ctid in ctids if (why := _mixture(ctid, known[ctid]))})
    if not_back:
        raise CommandExecutionError(f"containers {', '.join(map(str, not_back))}")
    return ""


def _mixture(ctid, private):
    """Why a local copy is neither the old one nor the new one; nothing when it is whole."""
    marks = __salt__["cloudstor.half_back"](ctid, private)
    return marks and (
        f"a copy back was cut short, and it is neither the old one nor the new one: a rollback with data sync_back "
        f"ends that; what was replaced is beside {', '.join(marks)}, without which a rollback starts it as it is"
    )


def _vz_conf():
    """The very bytes of before, plus the guard; where somebody else changed the file too, only our keys go back."""
    if not __salt__["cloudstor.reached"]("snapshot"):
        return "nothing to put back"
    path = __salt__["vz.conf_path"]()
    before = __utils__["ringfree_files.read"](__salt__["cloudstor.snapshot_paths"]()["vz_conf"])
    now = __utils__["ringfree_conf.remove"](__utils__["ringfree_files.read"](path), ["DISABLED"])
    paths = __utils__["ringfree_pillar.store_paths"](__salt__["cloudstor.settings"]())
    ours = __utils__["ringfree_conf.edit"](before, paths)
    added = b"" if now in (before, ours) else ADDED_BY_VZ
    if now not in (before + added, ours + added):
        old = __utils__["ringfree_conf.parse"](before)["values"]
        __salt__["vz.configure"]({key: old.get(key) for key in paths})
        return "somebody changed it since; only VE_ROOT, VE_PRIVATE and DISK_QUOTA were set back"
    guarded = __utils__["ringfree_conf.edit"](before + added, {"DISABLED": "yes"})
    __utils__["ringfree_files.write"](path, guarded)
    return ""


def _vz_alone():
    """vz does not wait for shares that are about to go; DISABLED keeps the containers off until the end."""
    __salt__["ringfree_boot.vz_alone"]()


def _restart():
    """vz reads its vz.conf again; only while nothing runs and nothing can start."""
    if not __salt__["cloudstor.reached"]("vz_restart", "intent"):
        return "nothing to read again"
    up = __salt__["vz.running"]()
    if up:
        return f"not needed: containers {', '.join(map(str, up))} run"
    __salt__["service.restart"]("vz")
    if not __salt__["service.status"]("vz"):
        raise CommandExecutionError("the vz service does not run after its restart")
    return ""


def _unmount():
    """
    All shares, proved from mountinfo, never lazily; one that is busy does not keep the others.

    The store stays while a container runs from it, which would not keep it from being unmounted under the container.
    """
    there = _there()
    faults = [f"container {ctid} still runs from the share" for ctid in there]
    for share in ("conf",) if there else ("conf", "root", "private"):
        entry = __salt__["ringfree_nfs.in_use"]()[share]
        try:
            if entry["source"]:
                __salt__["ringfree_nfs.unmount"](entry["mount"])
        except CommandExecutionError as error:
            faults.append(str(error))
    if faults:
        raise CommandExecutionError("; ".join(faults))


def _confs():
    """
    The snapshot goes back file by file, onto the local directory only.

    The conf of a container that still runs from the share stays: by it alone the next try finds where it runs.
    """
    if __salt__["ringfree_nfs.in_use"]()["conf"]["source"]:
        raise CommandExecutionError(
            "the conf directory is still the share: the confs of every node would be overwritten"
        )
    if not __salt__["cloudstor.reached"]("snapshot"):
        return "nothing to put back"
    folder = os.path.realpath(os.path.dirname(__salt__["vz.conf_path"](1)))
    now = __utils__["ringfree_files.read_folder"](folder)
    before = __utils__["ringfree_archive.unpack"](__salt__["cloudstor.snapshot_paths"]()["confs"])
    there = [f"{ctid}.conf" for ctid in _there()]
    before = {name: entry for name, entry in before.items() if name not in _given()}
    before = {name: entry for name, entry in before.items() if name not in there}
    restored = [name for name, entry in before.items() if now.get(name) != entry]
    for name in restored:
        _restore(os.path.join(folder, name), before[name])
    __salt__["ringfree_guard.unfence"](keep=list(before))
    now = __utils__["ringfree_files.read_folder"](folder)
    unlike = [name for name, entry in before.items() if now.get(name) != entry]
    if unlike:
        raise CommandExecutionError(f"{', '.join(unlike)} differs from the snapshot after it was restored")
    if there:
        raise CommandExecutionError(
            f"{', '.join(there)}: not restored, the container still runs from the share"
        )
    gone = _put_away(folder)
    newer = sorted(set(now) - set(before) - {f"{ctid}.conf" for ctid in gone})
    return (
        f"{len(restored)} files"
        + (f"; left alone, newer than the snapshot: {', '.join(newer)}" if newer else "")
        + (
            f"; containers {', '.join(gone)} were destroyed on the share, their old copies stay and do not start"
            if gone
            else ""
        )
    )


def _given():
    """The confs that do not lead home again: of containers that belong to another node by now, or were destroyed."""
    mine = __salt__["cloudstor.node"]()
    others = [ctid for ctid, owner in __salt__["ringfree_owner.live_on_nfs"]().items() if owner != mine]
    return [f"{ctid}.conf" for ctid in [*others, *__salt__["ringfree_owner.void"]()]]


def _put_away(folder):
    """What was destroyed on the share leaves at home what ``vzctl destroy`` leaves: a conf that starts nothing."""
    gone = __salt__["ringfree_owner.void"]()
    for ctid in gone:
        path = os.path.join(folder, f"{ctid}.conf")
        if os.path.lexists(path):
            os.replace(path, f"{path}.destroyed")
    return [str(ctid) for ctid in gone]


def _restore(path, entry):
    """Put one file or link of the snapshot in its place."""
    if "link" in entry:
        temporary = f"{path}.ringfree"
        os.symlink(entry["link"], temporary)
        os.rename(temporary, path)
        return
    if os.path.islink(path):
        os.unlink(path)
    __utils__["ringfree_files.write"](path, entry["data"])
    os.chown(path, entry["uid"], entry["gid"])
    os.chmod(path, entry["mode"])


def _claim(ctids, not_back):
    """
    The owner records: live copies are local again.

    Not of what still runs from NFS, was not copied back, or has a conf that still leads there.
    """
    home = _to_bring_home()
    there = {*__salt__["cloudstor.on_nfs"](), *not_back, *_astray({*ctids, *home})}
    # First what the node knows by itself: it goes home also when the share cannot be told.
    __salt__["ringfree_owner.unlist"]([ctid for ctid in home if ctid not in there])
    back = [ctid for ctid in ctids if ctid not in there]
    if back:
        __salt__["ringfree_owner.claim"](back, "local")
    return f"{len(back)} containers"


def _start(not_back, silent):
    """The containers of the manifest run from local storage; what does not start does not keep the next ones."""
    ctids = _to_bring_home()
    there = _there()
    _must_lead_home([ctid for ctid in ctids if ctid not in there], "not started")
    up = set(__salt__["vz.running"]())
    todo = [ctid for ctid in ctids if ctid not in up and ctid not in not_back and ctid not in there]
    faults = [f"container {ctid} is not started from its local copy, {why}" for ctid, why in not_back.items()]
    faults += [f"container {ctid} still runs from the share" for ctid in there]
    done = __salt__["ringfree_start.in_order"](todo, go_on=True, on_step=_note)
    silent += done["silent"]
    proofs = {ctid: __salt__["vz.root_mount"](ctid) for ctid in ctids if ctid in up}
    faults += [f"container {ctid}: {proof['why']}" for ctid, proof in proofs.items() if not proof["ok"]]
    faults += done["faults"]
    if faults:
        raise CommandExecutionError("; ".join(faults))
    return f"{len(ctids)} containers"


def _note(ctid, phase, _):
    if phase != "verified":  # noted for all of them, in a sub-step of its own
        __salt__["cloudstor.mark"]("revert", phase, container=ctid)


def _answer(silent):
    """What runs answers; those that were waited for in vain are asked once more and not waited for again."""
    up = set(__salt__["vz.running"]())
    checks = __salt__["cloudstor.checks"]([ctid for ctid in _manifest() if ctid in up])
    again = {ctid: checks.pop(ctid) for ctid in list(checks) if ctid in silent}
    faults = []
    for wanted, wait in ((checks, __salt__["cloudstor.settings"]()["start"]["answer"]), (again, 0)):
        try:
            __salt__["vz.wait_healthy"](wanted, wait)
        except CommandExecutionError as error:
            faults.append(str(error))
    if faults:
        raise CommandExecutionError("; ".join(faults))
    return f"{len(checks) + len(again)} of {len(_manifest())}"


def fstab(test=False):
    """
    Take our block out of fstab; every other byte stays.

    test : False
        Only say what would change.

    Returns a dictionary of changes.  Raises CommandExecutionError when the block has no end.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.fstab test=True
    """
    data = __utils__["ringfree_files.read"](FSTAB) or b""
    try:
        kept = __utils__["ringfree_fstab.without_block"](data)
    except ValueError as error:
        raise CommandExecutionError(f"{FSTAB}: {error}") from error
    if kept == data:
        return {}
    if not test:
        __utils__["ringfree_files.write"](FSTAB, kept)
    return {FSTAB: {"old": "mounts the SAN", "new": "as it was before"}}


def _variables():
    """nfsmounted says what is true."""
    wanted = __salt__["ringfree_nfs.wanted_variables"]()
    __salt__["ringfree_nfs.set_variables"]({"nfsmounted": wanted["nfsmounted"]})


def _unguard(not_back):
    """DISABLED goes out of vz.conf; not while containers would boot from the share or from an old copy."""
    if not_back:
        raise CommandExecutionError(
            f"containers {', '.join(map(str, not_back))} would boot from an old copy; the guard stays"
        )
    _must_lead_home(_to_bring_home(), "the guard stays")
    # From here on anybody may start them: what is on the share is old, whoever could not be told.
    for ctid in _written_to(_to_bring_home()):
        __salt__["cloudstor.mark"]("revert", "intent", container=ctid)
    __salt__["ringfree_guard.unguard"]()


def _disarm():
    """Only once the journal says local: until then it is the one that tries again."""
    return "" if __salt__["ringfree_deadman.disarm"]() else "it was not armed"


def _manifest():
    """The containers that this migration began to move, also once they are home."""
    return (__salt__["vz.manifest"]() or []) if _began("manifest", "verified") else []


def _to_bring_home():
    """The same, but none of a node that is home: what is down there now was stopped on purpose."""
    return _manifest() if __salt__["cloudstor.state"]() != "local" else []


def _began(step, phase):
    """
    Whether a step of the migration that is undone here had come as far as a phase.

    Not cloudstor.reached, for which nothing counts on a node that is home: not everything may have been done there.
    """
    return __utils__["ringfree_journal.reached"](__salt__["cloudstor.journal"](), step, phase)


def _astray(ctids):
    """The containers whose confs still lead to the share."""
    share = __salt__["cloudstor.settings"]()["shares"]["private"]["mount"] + "/"
    return [ctid for ctid in ctids if (__salt__["vz.config"](ctid)["private"] or share).startswith(share)]


def _must_lead_home(ctids, then):
    """Raise when confs still lead to the share."""
    astray = _astray(ctids)
    if astray:
        raise CommandExecutionError(
            f"the confs of containers {', '.join(map(str, astray))} still lead to the share; {then}"
        )


def busy():
    """
    Commands of an earlier job that still run on this node: copies, calls of vzctl, and the dead-man when it fires.

    A job of Salt that was killed, or that the master gave up on, leaves them behind.

    Returns a dictionary: process id to command.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.busy
    """
    return {
        **{pid: command for pid, (_, command) in _commands().items()},
        **__salt__["ringfree_deadman.firing"](),
    }


def _commands():
    """Our own rsync and vzctl processes: process id to program and command line."""
    found = {}
    for name in filter(str.isdigit, os.listdir(PROC)):
        try:
            with open(f"{PROC}/{name}/environ", "rb") as stream:
                ours = b"RINGFREE_COMMAND=1" in stream.read().split(b"\0")
            with open(f"{PROC}/{name}/cmdline", "rb") as stream:
                words = stream.read().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        # The first words, because a program that is a script stands behind its interpreter.
        programs = [os.path.basename(word) for word in words[:3]]
        for program in ("rsync", "vzctl"):
            if ours and program in programs:
                found[int(name)] = (program, " ".join(words).strip())
    return found


def end_busy():
    """
    End the copies that an earlier job left behind; calls of vzctl, and a dead-man that fires, end by themselves.

    Returns what still runs afterwards, as :py:func:`busy` does.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.end_busy
    """
    for pid, (program, _) in _commands().items():
        if program == "rsync":
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    return busy()
