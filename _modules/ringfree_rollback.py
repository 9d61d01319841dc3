"""
The way back: from NFS, or from anywhere in between, to local storage.

Every sub-step is attempted and reported, whatever became of the others; what could not be done is named with the
command for it.  The order is that of the runbook, made safe: stop, list what was written, vz.conf, unmount, confs, vz,
start.

A container that cannot be brought home, for a reason of its own, keeps no other one: it stays down, fenced, and the
node is home without it.  :py:func:`bring_home` ends its way back later.

:configuration: the pillar ``ringfree`` (``rollback``, ``start``, ``stop``)
"""

import contextlib
import functools
import logging
import os
import shutil
import signal
import time

import salt.utils.json
import salt.utils.minion
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_rollback"

CHANGED = "/var/lib/ringfree/changed"
FSTAB = "/etc/fstab"
#: What has to be there for that, besides the files themselves.
NEEDED = (
    "ringfree_journal.state",
    "ringfree_rollback.revert",
    "ringfree_nfs.unmount",
    "vz.start",
    "service.restart",
)
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
DISARM = "the dead man's switch is disarmed"
LEFT = "every container is home"
NOTED = "the journal says so"
SHARES_ANSWER = "the shares answer"
ASKED = 3  # times that silent shares are asked before they count as dead
ALONE = "vz starts without the shares"
NOT_TRIED = "it was not tried"
SHOWN = 1000  # characters of why a container is left
AGAIN = 600  # seconds: what took longer to fail is not tried a second time while others are down
WAITS = (
    "its newest data is on the share only: the same rollback again tries to copy it back, one with data discard starts "
    "the old copy"
)
#: With these done the node is on local storage; what else failed is named and can be typed. A container that runs there
#: and does not answer is such a thing, or one that stays down for a reason of its own.
ESSENTIAL = (STOP, VZ_CONF, UNMOUNT, CONFS, START, UNGUARD)
#: What fails with a container that is left; a list that failed is tried again by LATE.
OWN = (LISTED, BACK, WHOLE, LEFT)
#: Failures whose text is meant for people. Any other one is shown with its kind, and its traceback is in the log.
EXPECTED = (CommandExecutionError, OSError, ValueError, KeyError)


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


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
    Raises CommandExecutionError, before anything is stopped, when ``data`` is another word, somebody else works on the
    way back of this node, or the local private areas of a committed node are not there any more.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_rollback.revert
    """
    fault = __utils__["ringfree_pillar.word"]("data", data)["fault"]
    if fault:
        raise CommandExecutionError(f"{fault}. Nothing was touched.")
    if not _is_open():
        return []
    _must_not_fire()
    wanted = data or _begun_with() or __salt__["ringfree_settings.get"]()["rollback"]["data"]
    __salt__["ringfree_run.hold"]("the way back")
    try:
        _must_have_homes()
        __salt__["ringfree_owner.recover_list"]()
        return _revert(wanted)
    finally:
        __salt__["ringfree_run.release"]()


def _must_not_fire():
    beside = __salt__["ringfree_run.firing"]()
    if beside:
        raise CommandExecutionError(
            f"the dead man's switch brings this node back just now (process {', '.join(map(str, beside))}); wait for "
            f"its end"
        )


def _revert(wanted):
    """Every sub-step, and the state of the node that comes of them."""
    dead = _or_else(_is_dead, lambda: False)
    on_share = _or_else(lambda: _live_on_share(dead), _moved)
    state = __salt__["ringfree_journal.state"]()
    if state == "nfs":
        _must_have_a_home()
        __salt__["ringfree_journal.set_state"]("in_flight")
    # In the middle of a migration it is known what they had before that.
    looks = state == "nfs" and not dead
    if looks:
        _look_at_containers()
    if state == "local":
        __salt__["ringfree_journal.remember"]("left", _as_fact(__salt__["ringfree_owner.left"]()))
    # A journal that cannot be written keeps nobody down; that it was not is said at the end.
    _or_else(lambda: __salt__["ringfree_journal.mark"]("revert", "intent", note=wanted), lambda: None)
    written_to = _or_else(lambda: _written_to(on_share), lambda: on_share)
    done = [_attempt(*step) for step in _steps(wanted, dead, on_share, written_to, looks)]
    done.append(_attempt(NOTED, lambda: _settle(list(done)), "the same rollback"))
    if done[-1]["ok"] and __salt__["ringfree_journal.state"]() == "local":
        done.append(_attempt(DISARM, _disarm, "salt-call ringfree_deadman.disarm"))
    return done


def _settle(done):
    """How far the way back has come, and where the node is by that."""
    __salt__["ringfree_journal.mark"]("revert", "done")
    if all(step["ok"] or step["what"] in OWN for step in done):
        __salt__["ringfree_journal.mark"]("revert", "verified")
    if all(step["ok"] for step in done if step["what"] in ESSENTIAL):
        __salt__["ringfree_journal.set_state"]("local")
        # Not before: a way back that is cut short, and typed again, must know what not to bring home.
        __salt__["ringfree_owner.unlist"](__salt__["ringfree_owner.void"]())
    return __salt__["ringfree_journal.state"]()


def _or_else(act, instead):
    """Nothing that is only looked up, or noted, keeps the way back from being tried."""
    try:
        return act()
    except Exception:
        log.exception("the way back goes on without something")
        return instead()


def _begun_with():
    """A way back that copies back goes on to do so: the local copies may be overwritten by half."""
    begun = __salt__["ringfree_journal.read"]()["steps"].get("revert", {})
    is_open = "verified" not in begun or _left_before()
    return "sync_back" if begun.get("note") == "sync_back" and is_open else None


def _is_open():
    """Whether there is a migration to undo, or something that an earlier way back could not do."""
    found = __salt__["ringfree_journal.read"]()
    whole = found["state"] == "local" and "verified" in found["steps"].get("revert", {"verified": None})
    return not whole or bool(_left_before())


def _left_before():
    """What an earlier way back left down; nothing when that cannot be said, which ``cloudstor.whereabouts`` names."""
    return {} if __salt__["ringfree_owner.list_fault"]() else __salt__["ringfree_owner.left"]()


def _look_at_containers():
    """Keep what the containers have that run from the share: it is what they are to have at home."""
    _or_else(lambda: __salt__["ringfree_fingerprint.take"](_there()), lambda: None)


def _steps(wanted, dead, on_share, written_to, looks):
    """The sub-steps in order: what, function, and what to type when it fails, or a function that says so by then."""
    shares = __salt__["ringfree_settings.get"]()["shares"]
    conf, vz_conf = __salt__["vz.conf_dir"](), __salt__["vz.conf_path"]()
    umount = f"umount {shares['conf']['mount']} {shares['root']['mount']} {shares['private']['mount']}"
    unlisted = _unlisted(on_share)
    not_back = {}  # containers that may not start from their local copy, and why
    left = {}  # containers without which the node is home, and why: all others of not_back wait for the SAN
    silent = []  # containers that were waited for in vain
    steps = [
        (GUARD, _guard, lambda: _once_written([vz_conf])),
        (STOP, lambda: _stop(wanted, dead, looks), "vzctl stop CTID"),
        (
            LISTED,
            lambda: _list_changes(written_to, unlisted, dead),
            "the same rollback, once the SAN answers",
        ),
    ]
    if wanted == "sync_back":
        steps.append(
            (
                BACK,
                lambda: _sync_back(written_to, not_back, left),
                "salt-call ringfree_rollback.bring_home CTID",
            )
        )
    else:
        steps.append(
            (WHOLE, lambda: _whole(written_to, not_back, left), "the same rollback with data sync_back")
        )
    return [
        *steps,
        (VZ_CONF, _vz_conf, lambda: _once_written([vz_conf])),
        # Before the shares go: a reboot between the two would mount them again over a node that is on its way home. And
        # before systemd is told of anything: it looks at each mount point in fstab, for 90 s when one hangs.
        (
            "the mounts do not come back",
            fstab,
            lambda: f"remove the lines of ringfree from {FSTAB}, or {_once_written([FSTAB])}",
        ),
        (ALONE, _vz_alone, "salt-call ringfree_boot.vz_alone"),
        (UNMOUNT, _unmount, umount),
        (CONFS, lambda: _confs(not_back), lambda: _once_written(_conf_files(conf))),
        (
            CLAIM,
            lambda: _claim([ctid for ctid in on_share if ctid not in unlisted], not_back),
            lambda: _claim_by_hand([ctid for ctid in on_share if ctid not in unlisted], not_back),
        ),
        # With the confs of before and without the shares: its init script looks at each private area that a conf names.
        ("vz is restarted", _restart, "service vz restart, with no container running"),
        (START, lambda: _start(not_back, left, silent), "the same rollback"),
        (ANSWER, lambda: _answer(silent), "vzctl exec CTID COMMAND"),
        ("the variables say so", _variables, "echo 0 > /etc/ringfree/nfsmounted"),
        (UNGUARD, lambda: _unguard(not_back, left), lambda: _once_written([vz_conf])),
        # Last of all: a comparison takes its time, and neither what is down nor a reboot is to wait for it.
        (
            LATE,
            lambda: _list_late(unlisted, not_back),
            lambda: f"the same rollback; to do without the lists: {_claim_by_hand(unlisted, not_back)}",
        ),
        (LEFT, lambda: _say_left(left), "salt-call ringfree_rollback.bring_home CTID"),
    ]


def _attempt(what, act, command):
    """Do one sub-step; no failure, also none that nobody thought of, keeps the next one from being tried."""
    try:
        __salt__["ringfree_journal.announce"](what, "intent")
        detail = act()
    except Exception as error:
        said = _said(error, what)
        __salt__["ringfree_journal.announce"](what, "failed", note=said)
        typed = command if isinstance(command, str) else _or_else(command, lambda: "the same rollback")
        return {"what": what, "ok": False, "detail": said, "command": typed}
    text = detail if isinstance(detail, str) else ""
    __salt__["ringfree_journal.announce"](what, "verified", note=text or None)
    return {"what": what, "ok": True, "detail": text, "command": ""}


def _said(error, what):
    """The words for a failure; one that nobody thought of comes with its kind, and its traceback is in the log."""
    if isinstance(error, EXPECTED):
        return str(error)
    log.error("the way back goes on after a failure of: %s", what, exc_info=error)
    return f"{type(error).__name__}: {error}"


def bring_home(ctid, data="sync_back"):
    """
    End the way back of a container that a rollback, or the dead man's switch, left down; the node is home and stays so.

    ctid
        The container's id.

    data : sync_back
        ``sync_back`` copies the share's copy over the local one, ``discard`` starts the local one as it is: what the
        container wrote on the share is listed, if it can be, and stays there.

    Returns a few sentences.  Raises CommandExecutionError, and the container stays down, when it is none that was
    left, somebody else works on the node, its data cannot be copied back, its local copy is a mixture, or it does not
    start.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_rollback.bring_home 101
        salt node001 ringfree_rollback.bring_home 101 data=discard
    """
    fault = __utils__["ringfree_pillar.word"]("data", data)["fault"]
    if fault or data is None:
        raise CommandExecutionError(f"{fault or 'data: say sync_back or discard'}. Nothing was touched.")
    ctid = int(ctid)
    _must_not_fire()
    __salt__["ringfree_run.hold"](f"bringing container {ctid} home")
    try:
        if ctid not in __salt__["ringfree_owner.left"]():
            raise CommandExecutionError(
                f"container {ctid} is none that a way back left down. Nothing was changed. "
                f"{__salt__['cloudstor.whereabouts']()}"
            )
        up = __salt__["vz.running_or_mounted"]([ctid])
        if up:
            raise CommandExecutionError(f"container {ctid} {up[ctid]}. Nothing was changed.")
        told = _let_home(ctid, data) if ctid in __salt__["ringfree_owner.live_on_nfs"]() else []
        return " ".join([*told, _start_left(ctid), __salt__["cloudstor.whereabouts"]()])
    finally:
        __salt__["ringfree_run.release"]()


def _let_home(ctid, data):
    """The local copy of a container becomes its live one: copied back, or as it is; returns sentences."""
    known = __salt__["ringfree_snapshot.local_areas"]([ctid])
    home = _home(ctid, known)
    if not os.path.isdir(home):
        raise CommandExecutionError("; ".join(__salt__["ringfree_cleanup.whereabouts"]([ctid])))
    text, faults = _keep_lists([ctid], [])
    told = [f"What it wrote on NFS is not listed: {faults[ctid]}." if faults else f"Changed on NFS: {text}."]
    if data == "sync_back":
        __salt__["cloudstor.sync_back"](ctid, home, time.strftime("%Y%m%d-%H%M%S"))
        told.append("It is copied back.")
    elif why := _mixture(ctid, home):
        raise CommandExecutionError(f"container {ctid} stays down: {why}")
    __salt__["ringfree_journal.mark"]("revert", "intent", container=ctid)
    try:
        __salt__["ringfree_owner.claim"]([ctid], "local")
    except CommandExecutionError as error:
        # Known here all the same; the same rollback tells the share, once it answers.
        __salt__["ringfree_journal.mark"]("revert", "intent", note=data)
        told.append(
            f"The share could not be told: {error}. Type on the node: salt-call ringfree_owner.claim '[{ctid}]' local."
        )
    kept = __salt__["ringfree_journal.read"]()["facts"].get("left", {})
    __salt__["ringfree_journal.remember"](
        "left", {**kept, str(ctid): "its data is home, and it was not started yet"}
    )
    __salt__["ringfree_owner.unlist"]([ctid])
    return told


def _start_left(ctid):
    """Start a container that is home; with the last one that was fenced the fence goes."""
    fenced = __salt__["ringfree_owner.live_on_nfs"]()
    if __opts__["id"] not in fenced.values():
        __salt__["ringfree_guard.unfence"](
            keep=_or_else(lambda: list(__salt__["ringfree_snapshot.confs"]()), list)
        )
    kept = __salt__["ringfree_journal.read"]()["facts"].get("left", {})
    done = __salt__["ringfree_start.in_order"]([ctid], go_on=True, on_step=_note)
    if done["faults"]:
        why = f"it does not start from its local copy: {'; '.join(done['faults'])}"
        __salt__["ringfree_journal.remember"]("left", {**kept, str(ctid): why})
        raise CommandExecutionError(" ".join(__salt__["ringfree_owner.told_left"]({ctid: why})))
    __salt__["ringfree_journal.remember"]("left", {key: why for key, why in kept.items() if key != str(ctid)})
    if not __salt__["ringfree_owner.left"]():
        _forget_left()
    silent = done["silent"].get(ctid)
    return f"Container {ctid} runs from local storage" + (
        f" and does not answer: {silent}." if silent else "."
    )


def _forget_left():
    """What the dead man's switch could not do is done by now, as far as it was about containers that it left."""
    fact = __salt__["ringfree_journal.read"]()["facts"].get("deadman")
    if fact and fact.get("not_done"):
        still = [text for text in fact["not_done"] if not text.startswith(tuple(f"{what}: " for what in OWN))]
        __salt__["ringfree_journal.remember"]("deadman", {**fact, "not_done": still})


def plan():
    """
    What :py:func:`revert` would change, for a dry run.

    Returns a dictionary of changes: old and new.  Raises CommandExecutionError when it would refuse.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_rollback.plan
    """
    if not _is_open():
        return {}
    _must_have_homes()
    now, gone = __salt__["ringfree_journal.state"](), _destroyed()
    if now == "nfs" and not __salt__["ringfree_owner.list_fault"]():
        _must_have_a_home(gone)
    if now == "local":
        left = {str(ctid): {"old": "down", "new": "home"} for ctid in _left_before()}
        return {"way back": {"old": "not everything was done", "new": "complete"}, **left}
    changes = {"state": {"old": now, "new": "local"}}
    fault = __salt__["ringfree_journal.reached"]("snapshot") and __salt__["ringfree_snapshot.fault"]()
    if fault:
        changes["snapshot"] = {"old": fault, "new": "not used: paths are set back to what the journal knows"}
    damaged = __salt__["ringfree_owner.list_fault"]()
    if damaged:
        return {**changes, "own list": {"old": damaged, "new": "written from what is found"}}
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
            known, mine = __salt__["ringfree_owner.note"](), __opts__["id"]
            return [ctid for ctid, owner in known.items() if (owner["node"], owner["store"]) == (mine, "nfs")]
    return _moved()


def _moved():
    """The containers whose live copy may be on the share by the journal."""
    return (__salt__["vz.manifest"]() or []) if _began("owner", "intent") else []


def _must_have_a_home(gone=()):
    """Raise when the node owns containers on the share that were never local: they could not come along."""
    mine, void = __opts__["id"], __salt__["ringfree_owner.void"]()
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
        if __utils__["ringfree_journal.reached"](__salt__["ringfree_journal.read"](), "start", "intent", ctid)
        and not __salt__["ringfree_journal.restarted_locally"](ctid)
    ]


def _unlisted(on_share):
    """Those that ran on the share and went home while it was silent: nobody could list what they had written."""
    return [
        ctid
        for ctid in on_share
        if __utils__["ringfree_journal.reached"](__salt__["ringfree_journal.read"](), "start", "intent", ctid)
        and __salt__["ringfree_journal.restarted_locally"](ctid)
    ]


def _guard():
    """Before anything else: DISABLED in vz.conf, whatever has become of that file."""
    try:
        __salt__["vz.changes"]({"DISABLED": "yes"})
    except CommandExecutionError as error:
        if not __salt__["ringfree_journal.reached"]("snapshot"):
            return f"{error}. The migration had not changed it, and it is left as it is"
        return _vz_conf_whole(error, __salt__["ringfree_snapshot.vz_conf"]())
    __salt__["vz.configure"]({"DISABLED": "yes"})
    return ""


def _vz_conf_whole(why, before):
    """vz.conf of before, byte for byte, and the guard: in the place of one that cannot be edited any more."""
    path = __salt__["vz.conf_path"]()
    data = _or_none(path)
    wanted = __utils__["ringfree_conf.guarded"](before)
    if data == wanted:
        return ""
    kept = "" if data == before else _put_aside(path)
    __utils__["ringfree_files.write"](path, wanted)
    return f"{why}. It was put back whole, with DISABLED" + (f"; what was there is {kept}" if kept else "")


def _or_none(path):
    """The bytes of a file, or None for what is none."""
    try:
        return __utils__["ringfree_files.read"](path)
    except OSError:
        return None


def _put_aside(path):
    """Keep what stands in the place of a file under another name; returns that."""
    target = os.path.realpath(path)
    kept = f"{target}.odd-{time.strftime('%Y%m%d-%H%M%S')}"
    if not os.path.lexists(target):
        return ""
    if os.path.isdir(target):
        os.rename(target, kept)
    else:
        # A copy: until the right file is in its place, there is one.
        shutil.copy2(target, kept)
    return kept


def _once_written(paths):
    """What to type when a file could not be written: everything that was not done is done by the same rollback."""
    targets = [os.path.realpath(path) for path in paths]
    places = dict.fromkeys([*targets, *map(os.path.dirname, targets)])
    fixed = [place for place in places if __utils__["ringfree_tree.is_fixed"](place)]
    return f"{'chattr -i -a ' + ' '.join(fixed) + '; then ' if fixed else ''}the same rollback"


def _stop(data, dead, looks):
    """
    Whatever of the manifest runs from the share, or is mounted from it, is stopped.

    What hangs on a dead SAN is ended by force where its data is let go; else it waits for the SAN.  A share that
    something holds is not taken out of sight: it keeps its mount, and the holder is named where it is unmounted.
    """
    mounted = [share["source"] for share in __salt__["ringfree_nfs.in_use"]().values() if share["source"]]
    if dead and mounted and data == "discard":
        return __salt__["ringfree_failover.end_by_force"](mounted[0].partition(":")[0], lazily=False)
    there, wanted = _there(), __salt__["ringfree_settings.get"]()["stop"]
    if looks:
        _look_at_containers()
    mended = _or_else(lambda: _mend_confs(there), list)
    __salt__["vz.stop"](list(reversed(there)), wanted["workers"], wanted["deadline"])
    return f"{len(there)} containers" + (f"; put back for it: {', '.join(mended)}" if mended else "")


def _mend_confs(ctids):
    """
    Confs by which vzctl would not find what runs from the share, put back as the migration had made them.

    Without its conf vzctl stops no container, and with another root in it, it leaves the old one mounted.
    """
    if ctids:
        __salt__["vz.must_answer"]()
    paths, mended = __utils__["ringfree_pillar.store_paths"](__salt__["ringfree_settings.get"]()), []
    for ctid in ctids:
        path, wanted = (
            __salt__["vz.conf_path"](ctid),
            __utils__["ringfree_conf.expand"](paths["VE_ROOT"], ctid),
        )
        if _root_of(ctid, path) == wanted:
            continue
        before = __salt__["ringfree_snapshot.confs"]()[f"{ctid}.conf"]["data"]
        if os.path.isdir(path):
            _put_aside(path)
        __utils__["ringfree_files.write"](path, __utils__["ringfree_conf.edit"](before, paths))
        mended.append(path)
    return mended


def _root_of(ctid, path):
    """Where vzctl looks for the root of a container; None without a conf that it could read."""
    data = _or_none(path)
    if data is None:
        return None
    try:
        above = _or_none(__salt__["vz.conf_path"]()) or b""
        return __utils__["ringfree_conf.effective"](ctid, above, data)["root"]
    except ValueError:
        return None


def _is_dead():
    """Whether shares are mounted and do not answer, asked more than once: the SAN may only be slow."""
    for turn in range(1, ASKED + 1):
        silent = __salt__["ringfree_nfs.silent"]()
        if not silent:
            return False
        # Half a minute goes by here with containers down: whoever watches sees why.
        note = f"{', '.join(silent)}: silent, asked {turn} of {ASKED} times"
        __salt__["ringfree_journal.announce"](SHARES_ANSWER, "failed", note=note)
    return True


def _there():
    """The containers of the manifest that are mounted from the share: mountinfo answers when the SAN does not."""
    shares, table = __salt__["ringfree_settings.get"]()["shares"], __salt__["vz.mounts"]()
    private, roots = (
        __utils__["ringfree_mounts.real_path"](table, shares[name]["mount"]) for name in ("private", "root")
    )
    used = {mount["mountpoint"] for mount in __utils__["ringfree_mounts.users"](table, private)}
    return [ctid for ctid in __salt__["vz.manifest"]() or [] if f"{roots}/{ctid}" in used]


def _must_have_homes():
    """A committed node does not begin its way back when there is nothing left to start a container from."""
    if __salt__["ringfree_journal.state"]() != "nfs":
        return
    nothing = "Nothing was stopped and nothing was changed"
    try:
        known = __salt__["ringfree_snapshot.local_areas"](__salt__["vz.manifest"]() or [])
    except CommandExecutionError as error:
        raise CommandExecutionError(f"{error}. {nothing}") from error
    gone = [ctid for ctid, home in known.items() if not os.path.isdir(home or "")]
    if gone:
        told = __salt__["ringfree_cleanup.whereabouts"](gone)
        raise CommandExecutionError(
            f"there is no way back to local storage as things are: {'; '.join(told)}. {nothing}"
        )


def _list_changes(written_to, unlisted, dead):
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
    text, faults = _keep_lists([*written_to, *down], down, dead)
    unlisted[:] = [*faults, *at_home]
    return _or_raise(text, faults)


def _list_late(unlisted, not_back):
    """What runs at home since the share was silent; the share is told of it once there is a list."""
    # What could not be brought home either is listed by whoever brings it home.
    unlisted[:] = [ctid for ctid in unlisted if ctid not in not_back]
    if not unlisted:
        return "no container went home unlisted"
    text, faults = _keep_lists(unlisted, unlisted)
    _claim([ctid for ctid in unlisted if ctid not in faults], not_back)
    return _or_raise(text, faults)


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

        salt node001 ringfree_rollback.keep_lists '[101]'
    """
    return _or_raise(*_keep_lists(ctids, ctids if late is None else late))


def _keep_lists(ctids, late, dead=False):
    """
    The same, as text and dictionary of those that could not be listed: one that cannot be keeps no other one.

    Without the SAN the others are not asked for, which would keep containers down for longer.
    """
    counts, faults, known = [], {}, __salt__["ringfree_snapshot.local_areas"](ctids)
    folder = os.path.join(CHANGED, time.strftime("%Y%m%d-%H%M%S"))
    __utils__["ringfree_files.folder"](CHANGED)
    for ctid in ctids:
        try:
            found = __salt__["cloudstor.differences_to_local"](ctid, _home(ctid, known))
            __utils__["ringfree_files.keep"](
                os.path.join(folder, str(ctid)), "\n".join([*found["lines"], ""]).encode()
            )
        except Exception as error:
            faults[ctid] = _said(error, f"the list of container {ctid}")
            rest = ctids[ctids.index(ctid) + 1 :]
            if rest and (dead or not _store_answers()):
                faults.update(dict.fromkeys(rest, "it was not asked"))
                break
            continue
        since = ", with what changed at home since" if ctid in late else ""
        counts.append(f"{ctid}: {found['count']}{since}")
    return f"{'; '.join(counts)} ({folder})", faults


def _or_raise(text, faults):
    """The text, when nothing failed."""
    if faults:
        raise CommandExecutionError("; ".join(f"container {ctid}: {said}" for ctid, said in faults.items()))
    return text


def _home(ctid, known):
    """Where a container was before, by :py:func:`ringfree_snapshot.local_areas`."""
    if not known.get(ctid):
        raise CommandExecutionError(f"the conf of before names no private area of container {ctid}")
    return known[ctid]


def _store_answers():
    """Whether the SAN shows the store just now: a copy that fails then has a reason of its own."""
    export = __salt__["ringfree_settings.get"]()["shares"]["private"]["export"]
    return _or_else(lambda: ".ringfree" in __salt__["ringfree_san.names"](export), lambda: False)


def _sync_back(ctids, not_back, left):
    """
    Copy the share's copies over the local ones; what that replaces is kept, and the result is compared.

    What fails while the SAN answers is tried once more when all others are done, and left then.
    """
    # Whatever happens here: none of them starts before it is copied back.
    not_back.update(dict.fromkeys(ctids, WAITS))
    stamp, known = (
        time.strftime("%Y%m%d-%H%M%S"),
        __salt__["ringfree_snapshot.local_areas"](ctids) if ctids else {},
    )
    began = time.monotonic()
    faults = _copy_back(ctids, known, stamp, not_back)
    answers = bool(faults) and _store_answers()
    if answers and time.monotonic() - began < AGAIN:
        faults = _copy_back(list(faults), known, stamp, not_back)
        answers = bool(faults) and _store_answers()
    if answers and NOT_TRIED not in faults.values():
        for ctid, said in faults.items():
            said, whole = _short(said), not_back[ctid] == WAITS
            left[ctid] = (
                f"{said}; its local copy is the old one, which data=discard starts"
                if whole
                else f"{said}; {not_back[ctid]}"
            )
    _or_raise("", faults)
    return f"{len(ctids)} containers, what was replaced is in .ringfree-replaced/{stamp}"


def _short(text):
    """Words that a person reads to the end: rsync names a path that is too long as a whole."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 200]} … {text[-200:]}"


def _copy_back(ctids, known, stamp, not_back):
    """Copy one after the other; returns those that failed, and why.  Without its SAN nothing more is tried."""
    faults = {}
    for ctid in ctids:
        try:
            __salt__["cloudstor.sync_back"](ctid, _home(ctid, known), stamp)
            del not_back[ctid]
        except Exception as error:
            faults[ctid] = _said(error, f"the copy back of container {ctid}")
            not_back[ctid] = _or_else(functools.partial(_mixture, ctid, known.get(ctid)), str) or WAITS
            rest = ctids[ctids.index(ctid) + 1 :]
            if rest and not _store_answers():
                return {**faults, **dict.fromkeys(rest, NOT_TRIED)}
    return faults


def _whole(ctids, not_back, left):
    """What an earlier way back overwrote by half is neither the old copy nor the new one."""
    not_back.update(dict.fromkeys(ctids, "whether its local copy is whole is not known"))
    known, faults = __salt__["ringfree_snapshot.local_areas"](ctids) if ctids else {}, {}
    for ctid in ctids:
        try:
            why = _mixture(ctid, _home(ctid, known))
        except Exception as error:
            why = f"{not_back[ctid]}: {_said(error, f'the look at container {ctid}')}"
        if why:
            faults[ctid] = not_back[ctid] = left[ctid] = why
        else:
            del not_back[ctid]
    return _or_raise("", faults)


def _mixture(ctid, private):
    """Why a local copy is neither the old one nor the new one; nothing when it is whole."""
    marks = __salt__["cloudstor.half_back"](ctid, private)
    return marks and (
        f"a copy back was cut short, and it is neither the old one nor the new one: a rollback with data sync_back "
        f"ends that; what was replaced is beside {', '.join(marks)}, without which a rollback starts it as it is"
    )


def _vz_conf():
    """The very bytes of before, plus the guard; where somebody else changed the file too, only our keys go back."""
    if not __salt__["ringfree_journal.reached"]("snapshot"):
        return "nothing to put back"
    try:
        before = __salt__["ringfree_snapshot.vz_conf"]()
    except CommandExecutionError as error:
        return _vz_conf_by_keys(error)
    try:
        return _vz_conf_by_edit(before)
    except ValueError as error:
        return _vz_conf_whole(f"{__salt__['vz.conf_path']()} cannot be edited: {error}", before)


def _vz_conf_by_edit(before):
    """The same, of a file that the editor follows."""
    path = __salt__["vz.conf_path"]()
    data = _or_none(path)
    if data is None:
        raise ValueError("it is no file any more")
    now = __utils__["ringfree_conf.remove"](data, ["DISABLED"])
    if not now:
        raise ValueError("it was emptied")
    paths = __utils__["ringfree_pillar.store_paths"](__salt__["ringfree_settings.get"]())
    ours = __utils__["ringfree_conf.edit"](before, paths)
    added = b"" if now in (before, ours) else ADDED_BY_VZ
    if now not in (before + added, ours + added):
        old = __utils__["ringfree_conf.parse"](before)["values"]
        back = __utils__["ringfree_conf.edit"](data, {key: old[key] for key in paths if key in old})
        back = __utils__["ringfree_conf.remove"](back, [key for key in paths if key not in old])
        __utils__["ringfree_files.write"](path, back)
        return "somebody changed it since; only VE_ROOT, VE_PRIVATE and DISK_QUOTA were set back"
    guarded = __utils__["ringfree_conf.edit"](before + added, {"DISABLED": "yes"})
    __utils__["ringfree_files.write"](path, guarded)
    return ""


def _vz_conf_by_keys(why):
    """Without vz.conf as it was: what the migration changed is set back, as far as the journal knows."""
    known = __salt__["ringfree_snapshot.keys"]().get("vz.conf")
    if known is None:
        raise why
    try:
        __salt__["vz.configure"]({**known, "DISABLED": "yes"})
    except CommandExecutionError as error:
        lines = ", ".join(f'{key}="{value}"' for key, value in known.items() if value is not None)
        raise CommandExecutionError(
            f"{error} Nor is there a copy of before: {why}. What the journal knows of it: {lines}"
        ) from error
    return f"{why}; {', '.join(known)} were set back to what the journal knows"


def _vz_alone():
    """vz does not wait for shares that are about to go; DISABLED keeps the containers off until the end."""
    __salt__["ringfree_boot.vz_alone"]()


def _restart():
    """vz reads its vz.conf again; only while nothing runs and nothing can start."""
    if not __salt__["ringfree_journal.reached"]("vz_restart", "intent"):
        return "nothing to read again"
    up = __salt__["vz.running"]()
    if up:
        return f"not needed: containers {', '.join(map(str, up))} run"
    hung = __salt__["ringfree_nfs.silent"]()
    if hung:
        raise CommandExecutionError(f"vz would hang on what does not answer: the {', '.join(hung)} share")
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
    shares, found = ("conf",) if there else ("conf", "root", "private"), __salt__["ringfree_nfs.in_use"]()
    points = [found[share]["mount"] for share in shares if found[share]["source"]]
    for point in dict.fromkeys([*points, *__salt__["ringfree_nfs.conf_share_astray"]()]):
        try:
            __salt__["ringfree_nfs.unmount"](point)
        except CommandExecutionError as error:
            faults.append(str(error))
    if faults:
        raise CommandExecutionError("; ".join(faults))


def _confs(not_back):
    """
    The snapshot goes back file by file, onto the local directory only.

    The conf of a container that still runs from the share stays: by it alone the next try finds where it runs.
    """
    folder, table = __salt__["vz.conf_dir"](), __salt__["vz.mounts"]()
    if __utils__["ringfree_mounts.is_nfs"](__utils__["ringfree_mounts.covering"](table, folder)):
        raise CommandExecutionError(
            "the conf directory is still the share: the confs of every node would be overwritten"
        )
    if not __salt__["ringfree_journal.reached"]("snapshot"):
        if __salt__["ringfree_journal.state"]() == "local":
            _fence(not_back, _confs_before())
        return "nothing to put back"
    try:
        before = __salt__["ringfree_snapshot.confs"]()
    except CommandExecutionError as error:
        return _confs_by_keys(folder, error, not_back)
    now = __utils__["ringfree_files.read_folder"](folder)
    there = [f"{ctid}.conf" for ctid in _there()]
    before = {name: entry for name, entry in before.items() if name not in _given()}
    before = {name: entry for name, entry in before.items() if name not in there}
    restored = [name for name, entry in before.items() if now.get(name) != entry]
    faults = {}
    for name in restored:
        try:
            _restore(os.path.join(folder, name), before[name])
        except Exception as error:
            faults[name] = _said(error, f"the restoring of {name}")
    fence = _fence(not_back, list(before))
    now = __utils__["ringfree_files.read_folder"](folder)
    unlike = [name for name, entry in before.items() if now.get(name) != entry]
    if unlike:
        raise CommandExecutionError(
            f"{', '.join(unlike)} differs from the snapshot after it was restored"
            + "".join(f"; {name}: {said}" for name, said in faults.items())
        )
    if there:
        raise CommandExecutionError(
            f"{', '.join(there)}: not restored, the container still runs from the share"
        )
    gone = _put_away(folder)
    newer = sorted(set(now) - set(before) - {f"{ctid}.conf" for ctid in gone} - fence)
    return (
        f"{len(restored)} files"
        + (f"; left alone, newer than the snapshot: {', '.join(newer)}" if newer else "")
        + (
            f"; containers {', '.join(gone)} were destroyed on the share, their old copies stay and do not start"
            if gone
            else ""
        )
        + (f"; {note}" if (note := __salt__["ringfree_snapshot.note"]()) else "")
    )


def _fence(not_back, keep):
    """The fence goes, unless a container must not start from its local copy; returns the names of files that stay."""
    if not not_back:
        __salt__["ringfree_guard.unfence"](keep=keep)
        return set()
    listed = __salt__["ringfree_owner.live_on_nfs"]()
    __salt__["ringfree_owner.enlist"]([ctid for ctid in not_back if ctid not in listed])
    __salt__["ringfree_guard.fence"]()
    return __salt__["ringfree_guard.names"]()


def _confs_before():
    """The names in the conf directory before the migration, as far as the snapshot can be read."""
    return _or_else(lambda: list(__salt__["ringfree_snapshot.confs"]()), list)


def _confs_by_keys(folder, why, not_back):
    """Without the snapshot: the confs under the share are those of the migration, and get their own paths back."""
    known, there = __salt__["ringfree_snapshot.keys"](), set(_there())
    left, faults = {*_given(), *(f"{ctid}.conf" for ctid in there)}, []
    if not known:
        raise why
    for name in sorted(set(known) - {"vz.conf"}):
        if f"{name}.conf" in left or not os.path.exists(os.path.join(folder, f"{name}.conf")):
            continue
        try:
            __salt__["vz.configure"](known[name], int(name))
        except CommandExecutionError as error:
            faults.append(str(error))
    _fence(not_back, ())
    if faults or there:
        faults += [f"{ctid}.conf: the container still runs from the share" for ctid in sorted(there)]
        raise CommandExecutionError("; ".join([*faults, str(why)]))
    _put_away(folder)
    unlike = [
        path for path in __salt__["ringfree_snapshot.differing"]() if os.path.basename(path) not in left
    ]
    told = f"not as they were: {', '.join(unlike)}" if unlike else "by their SHA-256 they are as they were"
    return f"{why}; the confs have the paths back that the journal knows, {told}"


def _given():
    """The confs that do not lead home again: of containers that belong to another node by now, or were destroyed."""
    mine = __opts__["id"]
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
    """Put one file or link of the snapshot in its place, whatever is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        _put_aside(path)
    if "link" in entry:
        temporary = f"{path}.ringfree"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
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
    there = {*__salt__["ringfree_nfs.containers"](), *not_back, *_astray({*ctids, *home})}
    # First what the node knows by itself: it goes home also when the share cannot be told.
    __salt__["ringfree_owner.unlist"]([ctid for ctid in home if ctid not in there])
    back = [ctid for ctid in ctids if ctid not in there]
    if back:
        __salt__["ringfree_owner.claim"](back, "local")
    return f"{len(back)} containers"


def _claim_by_hand(ctids, not_back):
    """What to type so that the share knows of containers that are home, and of no other one."""
    there = _there()
    back = [ctid for ctid in ctids if ctid not in not_back and ctid not in there]
    return f"salt-call ringfree_owner.claim '{back}' local" if back else "the same rollback"


def _conf_files(folder):
    """The files that the snapshot has, where they belong; none while the share lies over them."""
    if __salt__["ringfree_nfs.in_use"]()["conf"]["source"]:
        return []
    return [os.path.join(folder, name) for name in _confs_before()]


def _start(not_back, left, silent):
    """The containers of the manifest run from local storage; what does not start does not keep the next ones."""
    ctids = _to_bring_home()
    there = _there()
    astray = _astray([ctid for ctid in ctids if ctid not in there])
    waits = {ctid: why for ctid, why in not_back.items() if ctid not in left}
    up = set(__salt__["vz.running"]())
    kept = {*up, *not_back, *there, *astray}
    faults = [f"container {ctid} is not started from its local copy, {why}" for ctid, why in waits.items()]
    faults += [f"container {ctid} still runs from the share" for ctid in there]
    faults += [f"the conf of container {ctid} still leads to the share; not started" for ctid in astray]
    started = [ctid for ctid in ctids if ctid not in kept]
    done = __salt__["ringfree_start.in_order"](started, go_on=True, on_step=_note)
    silent += done["silent"]
    proofs = {ctid: __salt__["vz.root_mount"](ctid) for ctid in ctids if ctid in up}
    faults += [f"container {ctid}: {proof['why']}" for ctid, proof in proofs.items() if not proof["ok"]]
    if done["faults"]:
        _start_again(started, left, silent)
    if faults:
        raise CommandExecutionError("; ".join(faults))
    return f"{len([ctid for ctid in ctids if ctid not in left])} of {len(ctids)} containers"


def _start_again(ctids, left, silent):
    """What did not start gets a second try, and is left then: the node is home without it."""
    up = set(__salt__["vz.running"]())
    for ctid in ctids:
        if ctid in up:
            continue
        again = __salt__["ringfree_start.in_order"]([ctid], go_on=True, on_step=_note)
        silent += again["silent"]
        if again["faults"]:
            left[ctid] = f"it does not start from its local copy: {'; '.join(again['faults'])}"


def _note(ctid, phase, _):
    if phase != "verified":  # noted for all of them, in a sub-step of its own
        # A journal that cannot be written keeps no container down.
        _or_else(lambda: __salt__["ringfree_journal.mark"]("revert", phase, container=ctid), lambda: None)


def _answer(silent):
    """
    What runs answers and has what it had; those that were waited for in vain are asked once more and not waited for
    again.
    """
    up = set(__salt__["vz.running"]())
    checks = __salt__["ringfree_start.checks"]([ctid for ctid in _manifest() if ctid in up])
    again = {ctid: checks.pop(ctid) for ctid in list(checks) if ctid in silent}
    faults = []
    for wanted, wait in ((checks, __salt__["ringfree_settings.get"]()["start"]["answer"]), (again, 0)):
        try:
            __salt__["vz.wait_healthy"](wanted, wait, None, __salt__["ringfree_fingerprint.lacking"])
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

        salt node001 ringfree_rollback.fstab test=True
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


def _unguard(not_back, left):
    """DISABLED goes out of vz.conf; not while containers would boot from the share or from an old copy."""
    waits = [str(ctid) for ctid in not_back if ctid not in left]
    if waits:
        raise CommandExecutionError(
            f"containers {', '.join(waits)} would boot from an old copy; the guard stays"
        )
    _must_lead_home(_to_bring_home(), "the guard stays")
    __salt__["ringfree_journal.remember"]("left", _as_fact(left))
    # From here on anybody may start them: what is on the share is old, whoever could not be told.
    for ctid in _written_to([ctid for ctid in _to_bring_home() if ctid not in not_back]):
        __salt__["ringfree_journal.mark"]("revert", "intent", container=ctid)
    try:
        __salt__["ringfree_guard.unguard"]()
    except CommandExecutionError:
        _unguard_whole()


def _unguard_whole():
    """The guard goes from a vz.conf that cannot be edited: what was put back whole is as it was before."""
    path, before = __salt__["vz.conf_path"](), __salt__["ringfree_snapshot.vz_conf"]()
    if _or_none(path) != __utils__["ringfree_conf.guarded"](before):
        raise CommandExecutionError(f"{path} was changed since it was put back, and cannot be edited")
    __utils__["ringfree_files.write"](path, before)


def _as_fact(left):
    """Why containers are left, as the journal keeps it."""
    return {str(ctid): why for ctid, why in left.items()}


def _say_left(left):
    """Name each container that stays down, with what in its tree is the likely cause."""
    if not left:
        return ""
    fenced = __salt__["ringfree_owner.live_on_nfs"]()
    for ctid in [ctid for ctid in left if ctid in fenced]:
        left[ctid] += _or_else(functools.partial(_cause, ctid), str)
    kept = __salt__["ringfree_journal.read"]()["facts"].get("left", {})
    __salt__["ringfree_journal.remember"]("left", {**kept, **_as_fact(left)})
    raise CommandExecutionError(" ".join(__salt__["ringfree_owner.told_left"](left)))


def _cause(ctid):
    """What in the local copy of a container keeps others from replacing it."""
    home = __salt__["ringfree_snapshot.local_areas"]([ctid])[ctid]
    found = __utils__["ringfree_tree.obstacles"](__salt__["ringfree_nfs.scan"](home, AGAIN))
    return "".join(f"; its local copy {sentence}" for sentence in found)


def _disarm():
    """Only once the journal says local: until then it is the one that tries again."""
    return "" if __salt__["ringfree_deadman.disarm"]() else "it was not armed"


def _manifest():
    """The containers that this migration began to move, also once they are home."""
    return (__salt__["vz.manifest"]() or []) if _began("manifest", "verified") else []


def _to_bring_home():
    """The same, but of a node that is home only what was left: what else is down there was stopped on purpose."""
    if __salt__["ringfree_journal.state"]() != "local":
        return _manifest()
    left = __salt__["ringfree_owner.left"]()
    return [ctid for ctid in __salt__["vz.manifest"]() or [] if ctid in left]


def _began(step, phase):
    """
    Whether a step of the migration that is undone here had come as far as a phase.

    Not ringfree_journal.reached, for which nothing counts on a node that is home: not everything may have been done
    there.
    """
    return __utils__["ringfree_journal.reached"](__salt__["ringfree_journal.read"](), step, phase)


def _astray(ctids):
    """The containers whose confs still lead to the share."""
    areas = {ctid: __salt__["vz.config"](ctid)["private"] for ctid in ctids}
    shared = __salt__["ringfree_nfs.on_share"](areas.values())
    return [ctid for ctid, area in areas.items() if not area or area in shared]


def _must_lead_home(ctids, then):
    """Raise when confs still lead to the share."""
    astray = _astray(ctids)
    if astray:
        raise CommandExecutionError(
            f"the confs of containers {', '.join(map(str, astray))} still lead to the share; {then}"
        )


def fire(test=False):
    """
    Bring this node back if it is in flight and its deadline has passed.  The scheduler calls this.

    What still works on the node gets ``ringfree:rollback:idle`` seconds to end, and is ended then; a rollback that is
    under way is left to its work.

    test : False
        Change nothing; prove that everything the way back needs can be loaded, in a report beside the configuration.

    Returns text.  Raises CommandExecutionError when the node is not wholly back, and the next tick tries again; and
    when another one is at work already.

    CLI Example:

    .. code-block:: bash

        salt-call --local --config-dir=/var/lib/ringfree/deadman ringfree_rollback.fire
    """
    if test:
        return _report()
    # Before anything is looked at: whoever commits looks for this at the end of a job that shows by then.
    beside = __salt__["ringfree_run.begin_firing"]()
    if beside:
        raise CommandExecutionError(f"the dead man's switch is at work already, as process {beside['pid']}")
    try:
        return _fire()
    finally:
        # systemd keeps a service in mind while a process of it is there. Where no connection was made the module was
        # perhaps not loaded, and cannot be any more: its copy went with the dead man's switch.
        with contextlib.suppress(KeyError, CommandExecutionError):
            __salt__["ringfree_san.disconnect"]()
        __salt__["ringfree_run.end_firing"]()


def _fire():
    due = _due()
    if not due:
        return "nothing to do"
    note = {"fired": time.time(), "deadline": due["deadline"]}
    try:
        _wait_for_rest(due["cachedir"])
        # What ended meanwhile may have been the commit.
        if not _due():
            return "nothing to do"
        left = _go_back(note)
    except (CommandExecutionError, OSError) as error:
        left = [str(error)]
    except Exception as error:
        # Also what nobody thought of: the node says that it is not back, and the next tick tries again.
        log.exception("the dead man's switch could not bring this node back")
        left = [f"{type(error).__name__}: {error}"]
    back = __salt__["ringfree_journal.state"]() == "local"
    __salt__["ringfree_journal.remember"]("deadman", {**note, "ok": back, "not_done": left})
    if not back:
        raise CommandExecutionError("the node is not back, the next try follows: " + "; ".join(left))
    # With the dead man's switch its copies of the modules are gone: what was not loaded yet cannot be called any more.
    return f"{__opts__['id']} is back on local storage"


def _due():
    """The record when its time has come; a node that rests needs none."""
    kept = __salt__["ringfree_deadman.record"]()
    if kept and time.time() >= kept["deadline"]:
        __salt__["cloudstor.recover_journal"]()
    now = __salt__["ringfree_journal.state"]()
    if now != "in_flight":
        log.warning("the node is on %s storage: the dead man's switch disarms itself", now)
        __salt__["ringfree_deadman.disarm"]()
        return None
    return kept if kept and time.time() >= kept["deadline"] else None


def _wait_for_rest(cachedir):
    """Nothing works on the node any more: no states of the minion, no command of an earlier job."""
    wanted = __salt__["ringfree_settings.get"]()
    end = time.monotonic() + wanted["rollback"]["idle"]
    known = {job["pid"] for job in _jobs(cachedir)}
    # A call of vzctl whose job is dead has nobody else who ends it at its deadline.
    give_up = end + max(wanted["stop"]["deadline"], wanted["start"]["deadline"])
    while True:
        # A highstate that begins after this leaves a node in flight alone.
        jobs = [job for job in _jobs(cachedir) if job["pid"] in known or "ringfree." in repr(job.get("arg"))]
        left = __salt__["ringfree_run.busy"]()
        if not jobs and not left:
            return
        way_back = any("ringfree.rollback" in repr(job.get("arg")) for job in jobs)
        if time.monotonic() > end and not way_back:
            for pid in [job["pid"] for job in jobs]:
                _kill(pid)
            __salt__["ringfree_run.end_busy"]()
        if time.monotonic() > give_up:
            for pid in left if not way_back else ():
                _kill(pid)
            raise CommandExecutionError(f"the node does not come to rest: {jobs or left}")
        time.sleep(0.5)


def _jobs(cachedir):
    """The states that the minion works on; its jobs go on when it is killed."""
    running = salt.utils.minion.running({"cachedir": cachedir, "multiprocessing": True})
    states = [job for job in running if str(job.get("fun", "")).startswith("state.")]
    # Salt believes any process with its name and the id of a job that was killed.
    return [job for job in states if __utils__["ringfree_process.is_of_host"](job["pid"])]


def _kill(pid):
    log.warning("process %s is ended: the deadline of this node has passed", pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _go_back(note):
    """The way back; returns what could not be done.  The note comes first: what is killed here has begun."""
    __salt__["ringfree_journal.remember"]("deadman", note)
    steps = revert()
    return [f"{step['what']}: {step['detail']} ({step['command']})" for step in steps if not step["ok"]]


def _report():
    """What a rehearsal found, in a file beside its configuration."""
    faults = [f"{function} is missing" for function in NEEDED if function not in __salt__]
    said = {"node": __opts__["id"], "state": "unknown", "faults": faults}
    try:
        said["state"] = __salt__["ringfree_journal.state"]()
        __salt__["ringfree_settings.get"]()
    except (CommandExecutionError, KeyError) as error:
        faults.append(str(error))
    path = os.path.join(os.path.dirname(__opts__["conf_file"]), "report.json")
    __utils__["ringfree_files.write"](path, salt.utils.json.dumps(said, ensure_ascii=True).encode(), 0o600)
    return "; ".join(faults) or "everything is there"
