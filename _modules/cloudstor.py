"""
Where containers live: what a migration moves, the copies on the SAN and back, and how it stands, in words.

:depends: rsync, ssh
:configuration: the pillar ``ringfree``; ``pillar/ringfree/init.sls`` explains each key

Everything here either only looks, or says in its docstring what it changes.
"""

import glob
import logging
import os
import time

import salt.utils.json
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "cloudstor"

STORES = (("nfs", "run from NFS"), ("local", "run from local storage"), ("down", "are down"))
TREE = ("etc", ("bin", "sbin", "usr"))  # what any container's own tree has


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


# --- the journal ------------------------------------------------------------------------------------------------------


def journal():
    """
    The node's journal, for people: what was about to happen, happened, was proved.

    Returns what ``ringfree_journal.read`` does.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.journal
    """
    return __salt__["ringfree_journal.read"]()


def recover_journal():
    """
    Replace a damaged or lost journal by one that says what mounts, confs, manifest, snapshot and owner records say.

    A damaged file stays beside it.  Anything that is neither wholly local nor wholly on NFS is in flight, so that
    `migrate` goes on and `rollback` undoes.

    Returns the state of the node: ``local``, ``in_flight`` or ``nfs``.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.recover_journal
    """
    kept = __salt__["ringfree_journal.load"]()
    if kept["journal"]:
        return kept["journal"]["state"]
    fault = kept["fault"] or "it was not there"
    moved = __salt__["vz.manifest"]() or []
    seen = {
        "mounted": any(entry["source"] for entry in __salt__["ringfree_nfs.in_use"]().values()),
        "confs": _lead_to_share(__salt__["ringfree_owner.containers"]()),
        "guarded": bool(__salt__["ringfree_guard.unguard"](test=True)),
        "armed": __salt__["ringfree_deadman.armed"]() is not None,
        "manifest": moved,
        "on_nfs": __salt__["ringfree_nfs.containers"](),
        "up": __salt__["vz.running"](),
        "snapshot": not __salt__["ringfree_snapshot.missing"](),
        "owned": _owned_on_share(moved),
    }
    new = __salt__["ringfree_journal.recover"](fault, seen)
    __salt__["ringfree_journal.announce"](
        "journal",
        "done",
        note=f"it was written anew ({fault}) and says {new['state']} now, by what was found",
    )
    return new["state"]


def _lead_to_share(ctids):
    """The containers whose confs lead to the share."""
    areas = {ctid: __salt__["vz.config"](ctid)["private"] for ctid in ctids}
    shared = __salt__["ringfree_nfs.on_share"](areas.values())
    return [ctid for ctid, private in areas.items() if private in shared]


def _owned_on_share(ctids):
    """Of some containers, those that this node owns on the share; all of them when the share does not say."""
    try:
        known = __salt__["ringfree_owner.records"]()
    except CommandExecutionError:
        return list(ctids)
    return [
        ctid
        for ctid in ctids
        if known.get(ctid) and known[ctid]["node"] == __opts__["id"] and known[ctid]["store"] == "nfs"
    ]


def begin():
    """
    Open, or continue, a migration of this node in its journal.

    Returns the journal.  Raises CommandExecutionError while the newest data of a container of the last one is only on
    the share (``ringfree_owner.left``): what is known of it would be forgotten.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.begin
    """
    fenced = __salt__["ringfree_owner.live_on_nfs"]()
    left = {ctid: why for ctid, why in __salt__["ringfree_owner.left"]().items() if ctid in fenced}
    if left:
        raise CommandExecutionError(" ".join(__salt__["ringfree_owner.told_left"](left)))
    return __salt__["ringfree_journal.begin"]()


def status():
    """
    Where this node and its containers are: the journal beside what mountinfo, vzlist and the confs say.

    Returns ``{"node": text, "state": text, "since": seconds or None, "steps": {step: {phase: seconds}},
    "journal_fault": text or None, "mounted": {share: source or None}, "san": text, "deadman": text, "containers":
    {ctid: {"name", "running", "store", "ok", "why", "steps"}}, "left": text}``; ``store`` is ``local``, ``nfs`` or
    ``-`` for a container that is down; ``left`` names what a way back left down; ``san`` is ``primary`` or
    ``secondary``, whichever is in use, and says so when the pillar says the other one; ``deadman`` says when the node
    goes back by itself, or that it did.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.status
    """
    found = __salt__["ringfree_journal.load"]()
    told = found["journal"] or {
        "state": "local" if not found["fault"] else "unknown",
        "since": None,
        "steps": {},
        "containers": {},
    }
    seen, up = {}, __salt__["vz.running"]()
    for ctid in __salt__["ringfree_owner.containers"]():
        conf = __salt__["vz.config"](ctid)
        seen[ctid] = {
            "name": conf["name"] or conf["hostname"],
            "running": ctid in up,
            "store": "-",
            "ok": True,
            "why": "",
        }
        if ctid in up:
            proof = __salt__["vz.root_mount"](ctid)
            seen[ctid].update(store="nfs" if proof["nfs"] else "local", ok=proof["ok"], why=proof["why"])
        seen[ctid]["steps"] = told["containers"].get(str(ctid), {})
    return {
        "node": __opts__["id"],
        "state": told["state"],
        "since": told["since"],
        "steps": told["steps"],
        "journal_fault": found["fault"],
        "mounted": {share: entry["source"] for share, entry in __salt__["ringfree_nfs.in_use"]().items()},
        "san": __salt__["ringfree_nfs.told_otherwise"]() or __salt__["ringfree_nfs.san"](),
        "deadman": _deadman(told["state"], told.get("facts", {}).get("deadman")),
        "containers": seen,
        "left": _left() if not found["fault"] else "",
    }


def _deadman(now, fact):
    """When the node goes back by itself, and what the dead man's switch did."""
    sentences = [__utils__["ringfree_deadman.told"](fact, now, time.time())]
    if now == "in_flight":
        sentences.append(_armed())
    return " ".join(filter(None, sentences))


def _armed():
    try:
        kept = __salt__["ringfree_deadman.armed"]()
    except CommandExecutionError as error:
        return str(error)
    if kept is None:
        return (
            ""
            if not __salt__["ringfree_journal.reached"]("deadman", "intent")
            else "It does not go back by itself: no dead man's switch is armed."
        )
    at = __utils__["ringfree_deadman.clock"](kept["deadline"], time.time())
    if kept["fault"]:
        return f"It should go back by itself at {at} and will not: {kept['fault']}"
    if kept["deadline"] <= time.time():
        return f"It goes back by itself: its deadline was at {at}."
    return f"It goes back by itself at {at} unless it is committed before."


def overview(patience=3):
    """
    Where this node stands, soon and in any case: also while its SAN is dead, when nothing of the containers is asked.

    patience : 3
        Seconds that each mounted share has to answer.

    Returns ``{"version": text, "state": text, "since": seconds or None, "san": text or None, "silent": [share],
    "deadline": seconds or None, "deadman": text, "left": text, "faults": [text], "containers": {ctid: {"name",
    "running", "wanted", "store", "ok", "why", "down_since"}}}``.  ``wanted`` containers are those that the manifest has
    start; ``deadline`` is when the dead man's switch brings the node back.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.overview
    """
    found = __salt__["ringfree_journal.load"]()
    told = found["journal"] or {"state": "local" if not found["fault"] else "unknown", "since": None}
    silent = __salt__["ringfree_nfs.silent"](patience)
    faults = [text for text in (found["fault"], __salt__["ringfree_nfs.told_otherwise"]()) if text]
    containers = {}
    if silent:
        faults.append(
            f"its SAN does not answer (shares: {', '.join(silent)}): what runs is unknown until it does; "
            f"'salt-run state.orch failover' goes to the other one"
        )
    else:
        try:
            containers = _seen_of_containers()
        except CommandExecutionError as error:
            faults.append(str(error))
    return {
        "version": __utils__["ringfree_version.of_project"](),
        "state": told["state"],
        "since": told["since"],
        "san": __salt__["ringfree_nfs.san"](),
        "silent": silent,
        "deadline": _deadline() if told["state"] == "in_flight" else None,
        "deadman": _deadman(told["state"], told.get("facts", {}).get("deadman")),
        "left": _left() if not found["fault"] else "",
        "faults": faults,
        "containers": containers,
    }


def _seen_of_containers():
    """What a screen shows of each container."""
    manifest = __salt__["vz.manifest"]() or []
    return {
        ctid: {
            **{key: seen[key] for key in ("name", "running", "store", "ok", "why")},
            "wanted": ctid in manifest,
            "down_since": None if seen["running"] else seen["steps"].get("stop", {}).get("intent"),
        }
        for ctid, seen in status()["containers"].items()
    }


def _deadline():
    """When the dead man's switch brings this node back; a record that is damaged is told by its sentence."""
    try:
        kept = __salt__["ringfree_deadman.record"]()
    except CommandExecutionError:
        return None
    return kept and kept["deadline"]


def whereabouts():
    """
    One sentence: on which store this node's containers run, whether they answer, and what to type to go on.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.whereabouts
    """
    between = __salt__["ringfree_failover.between"]()
    if between:
        return between
    found = status()
    if found["state"] == "local" and not found["steps"]:
        return " ".join(filter(None, [f"{__opts__['id']} was not touched, it is on local storage.", _left()]))
    up = [ctid for ctid, entry in found["containers"].items() if entry["running"]]
    written = "verified" in found["steps"].get("manifest", {})
    moving = __salt__["vz.manifest"]() or [] if written else up
    where = [_store_of(found["containers"].get(ctid)) for ctid in moving]
    counts = ", ".join(f"{where.count(word)} {text}" for word, text in STORES if word in where)
    if found["state"] == "in_flight":
        sentences = [
            f"{__opts__['id']} is in flight: of {len(where)} containers {counts or 'none was moved'}.",
            found["deadman"],
            "'salt-run state.orch migrate' continues,",
            f"'salt-run state.orch rollback pillar='{{\"nodes\": [\"{__opts__['id']}\"]}}'' goes back.",
        ]
    else:
        store = {"nfs": "on NFS", "local": "back on local storage"}.get(found["state"], "in an unknown state")
        said = f"{__opts__['id']} is {store}, {_answering(moving)} of {len(moving)} containers answer"
        astray = [word for word in where if word != found["state"]]
        sentences = [f"{said}: {counts}." if astray else f"{said}.", found["deadman"], _left(), _waits()]
        sentences += [__salt__["ringfree_failover.told"]()] if found["state"] == "nfs" else []
    return " ".join(filter(None, sentences))


def _left():
    """What a way back left down, and what to type."""
    try:
        return " ".join(__salt__["ringfree_owner.told_left"](__salt__["ringfree_owner.left"]()))
    except CommandExecutionError as error:
        return str(error)


def _waits():
    """What to type on a node that booted while the SAN was away."""
    try:
        waits = __salt__["ringfree_boot.waiting"]()
    except CommandExecutionError as error:
        return str(error)
    if waits is None:
        return ""
    command = f"'salt-run ringfree.bring_up {__opts__['id']}'"
    return f"It booted without its share: {command} mounts it and starts what is to run."


def _store_of(entry):
    return entry["store"] if entry and entry["running"] else "down"


def _answering(ctids):
    """How many of some containers pass all their checks, asked once."""
    up = set(__salt__["vz.running"]())
    wanted = __salt__["ringfree_start.checks"]([ctid for ctid in ctids if ctid in up])
    return sum(
        all(answer["ok"] for answer in __salt__["vz.health"](ctid, asked).values())
        for ctid, asked in wanted.items()
    )


def failure(what, said):
    """
    The words for something that failed: what happened, where the containers are, and what to type.

    The master is told as well, for the people who watch.

    what
        What failed, in a sentence.

    said
        What happened: text, or for callers in Python the error.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.failure 'The containers are stopped' 'container 101 still runs'
    """
    try:
        where = whereabouts()
    except Exception as error:
        # Whatever it is: what has failed must be said.
        log.warning("where the containers are cannot be said", exc_info=True)
        where = f"Where the containers are is unknown: {error}"
    # Without what Salt's own text of an error adds for programs.
    said = str(getattr(said, "error", None) or said)
    comment = f"{said.rstrip('.')}. {where}"
    __salt__["ringfree_journal.announce"](what, "failed", note=comment)
    return comment


def report():
    """
    What there is to say of each container after a migration: its store, its health now, how long it was down.

    Returns a list of ``{"ctid", "name", "store", "checks": "passed/all", "downtime": seconds or None, "faults":
    [text]}``.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.report
    """
    rows = []
    found = status()["containers"]
    manifest = __salt__["vz.manifest"]() or []
    for ctid, wanted in __salt__["ringfree_start.checks"](sorted(found)).items():
        entry = found[ctid]
        answers = __salt__["vz.health"](ctid, wanted) if entry["running"] else {}
        faults = [f"{name}: {answer['detail']}" for name, answer in answers.items() if not answer["ok"]]
        if ctid in manifest and not entry["running"]:
            faults.append("does not run")
        stop, start = entry["steps"].get("stop", {}), entry["steps"].get("start", {})
        down = start["verified"] - stop["intent"] if "verified" in start and "intent" in stop else None
        rows.append(
            {
                "ctid": ctid,
                "name": entry["name"],
                "store": entry["store"],
                "checks": f"{len(answers) - sum(1 for a in answers.values() if not a['ok'])}/{len(answers)}"
                if answers
                else "-",
                "downtime": down,
                "faults": faults,
            }
        )
    return rows


def faults_on_nfs():
    """
    What keeps this node from being right on NFS.

    Every share is mounted from the SAN in use; the containers that run are those of the manifest, each from the share,
    their services answer, and they have what they had before.

    Returns a list of texts; empty when all is well.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.faults_on_nfs
    """
    faults = [
        f"{entry['mount']} is not mounted from {entry['wanted']}"
        for entry in __salt__["ringfree_nfs.in_use"]().values()
        if not entry["mounted"]
    ]
    wanted, up, good = (
        set(__salt__["vz.manifest"]() or []),
        set(__salt__["vz.running"]()),
        set(__salt__["ringfree_nfs.containers"]()),
    )
    faults += [f"container {ctid} does not run" for ctid in sorted(wanted - up)]
    faults += [f"container {ctid} does not run from the share" for ctid in sorted((wanted & up) - good)]
    if __salt__["ringfree_journal.state"]() != "nfs":
        faults += [f"container {ctid} runs and did not run before" for ctid in sorted(up - wanted)]
    try:
        __salt__["ringfree_start.answer"](sorted(good))
    except CommandExecutionError as error:
        faults.append(str(error))
    return faults


def to_move():
    """
    The containers that the migration moves, in start order: those of the manifest, else those that run now.

    Returns a list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.to_move
    """
    if __salt__["ringfree_journal.state"]() != "local" and __salt__["vz.manifest"]() is not None:
        return __salt__["vz.manifest"]()
    return __salt__["vz.start_order"](
        __salt__["vz.running"](), __salt__["ringfree_settings.get"]()["containers"]["priority"]
    )


def to_copy():
    """
    The containers to move whose live copy is not on the share.

    Returns a list of ids, in start order.  Raises CommandExecutionError when one of them is another node's.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.to_copy
    """
    ctids = to_move()
    if __salt__["ringfree_journal.state"]() == "nfs" or not ctids:
        return []
    known, me = __salt__["ringfree_owner.records"](), __opts__["id"]
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
        if known.get(ctid, {}).get("store") != "nfs" or __salt__["ringfree_journal.restarted_locally"](ctid)
    ]


# --- copies -----------------------------------------------------------------------------------------------------------


def source_fault(ctid):
    """
    Why a container's private area may not be copied to the share.

    ``rsync --delete`` from an empty, missing or unmounted directory would wipe the copy on the SAN.

    ctid
        The container's id.

    Returns text, or ``None`` when it may.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.source_fault 101
    """
    private = __salt__["vz.config"](ctid)["private"]
    if not private:
        return "its conf names no private area"
    table = __salt__["vz.mounts"]()
    try:
        mount = __utils__["ringfree_mounts.covering"](
            table, __utils__["ringfree_mounts.real_path"](table, private)
        )
    except ValueError as error:
        return str(error)
    if mount and __utils__["ringfree_mounts.is_nfs"](mount):
        return f"its private area {private} is on NFS ({mount['source']})"
    if not os.path.isdir(private):
        return f"its private area {private} is not there"
    if not _is_tree(os.listdir(private)) and not __utils__["ringfree_tree.is_ploop"](private):
        base, one_of = TREE
        return (
            f"its private area {private} holds no container tree (no {base} or none of {', '.join(one_of)})"
        )
    return None


def _is_tree(names):
    """Whether a directory with these names can be a container's own tree."""
    base, one_of = TREE
    return base in names and bool(set(names).intersection(one_of))


def sync(ctids, final=False, on_done=None):
    """
    Copy containers' private areas to the SAN.  Deletes there what is gone here, within ``ringfree:sync:max_delete``.

    ctids
        List of ids.

    final : False
        The copy that counts: the containers must be down, only exit code 0 is good, a second, verifying pass must find
        no difference, and nothing in the private areas may have changed meanwhile.

    on_done : None
        For callers in Python: function called with ``(ctid, statistics)`` as each container is done.

    Returns a dictionary: id to ``{"files", "bytes", "deleted", "size", "seconds"}``.  Raises CommandExecutionError,
    before anything is copied, when a container's live copy is on the share, belongs to another node, or its source
    is not its own tree; afterwards, naming each container that failed.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.sync '[101, 102]'
    """
    _refuse_sync(ctids, final)
    wanted = __salt__["ringfree_settings.get"]()["sync"]
    began = time.time()
    done = _copy(ctids, wanted, final, on_done if not final else None)
    if not final:
        return done
    unlike = _verify(ctids, wanted)
    faults = {**_changed_meanwhile(ctids, began, wanted), **unlike}
    for ctid in ctids if on_done else ():
        if ctid not in faults:
            on_done(ctid, done[ctid])
    if faults:
        raise CommandExecutionError("; ".join(f"container {ctid} {said}" for ctid, said in faults.items()))
    return done


def _refuse_sync(ctids, final):
    """Raise when a copy would overwrite what it must not, or would copy what is no container."""
    known, faults = __salt__["ringfree_owner.records"](), []
    not_down = __salt__["vz.running_or_mounted"](ctids) if final else {}
    for ctid in ctids:
        fault = __utils__["ringfree_owner.objection"](known.get(ctid), __opts__["id"]) or source_fault(ctid)
        fault = fault or not_down.get(ctid) or _covered(ctid)
        if fault:
            faults.append(f"container {ctid} {fault}")
    if faults:
        raise CommandExecutionError("nothing was copied: " + "; ".join(faults))


def _covered(ctid):
    """What somebody has mounted in a private area, since preflight has looked."""
    table = __salt__["vz.mounts"]()
    private = __utils__["ringfree_mounts.real_path"](table, __salt__["vz.config"](ctid)["private"])
    mounts = __utils__["ringfree_mounts.below"](table, private)
    return "; ".join(__utils__["ringfree_areas.covered"](ctid, mounts))


def _upload(ctids, **options):
    """The commands that copy containers' private areas to the SAN: id to argument list."""
    export = __salt__["ringfree_settings.get"]()["shares"]["private"]["export"]
    # Once for all of them: in the last copy everybody is down.
    __salt__["ringfree_san.connection"]()
    return {
        ctid: __salt__["ringfree_san.upload"](
            __salt__["vz.config"](ctid)["private"], f"{export}/{ctid}", **options
        )
        for ctid in ctids
    }


def _copy(ctids, wanted, final, on_done):
    """Copy in up to three tries; only what may pass is tried again."""
    done, open_, faults = {}, list(ctids), []
    for turn in (1, 2, 3):
        again = []
        commands = _upload(open_, timeout=wanted["timeout"], max_delete=wanted["max_delete"])
        for ctid, result in __utils__["ringfree_command.run_many"](
            commands, wanted["workers"], wanted["deadline"]
        ):
            verdict = __utils__["ringfree_sync.verdict"](result, running=not final)
            if verdict["do"] == "next":
                done[ctid] = dict(
                    __utils__["ringfree_sync.statistics"](result["out"]), seconds=result["seconds"]
                )
                if on_done:
                    on_done(ctid, done[ctid])
            elif verdict["do"] == "again" and turn < 3:
                again.append(ctid)
            else:
                said = __utils__["ringfree_command.describe"](result)
                faults.append(f"container {ctid} was not copied, {verdict['why']}: {said}")
        open_ = again
        if not open_:
            break
    if faults:
        raise CommandExecutionError("; ".join(faults))
    return done


def _verify(ctids, wanted):
    """Compare source and copy of containers that are down; returns what is wrong: id to text."""
    faults = {}
    checksum = wanted["verify"] == "checksum"
    commands = _upload(ctids, timeout=wanted["timeout"], dry_run=True, checksum=checksum)
    counting = __utils__["ringfree_sync.counting"]()
    for ctid, result in __utils__["ringfree_command.run_many"](
        commands, wanted["workers"], wanted["deadline"], counting
    ):
        unlike = __utils__["ringfree_sync.differences"](result)
        if result["rc"] != 0:
            faults[ctid] = f"was not verified: {__utils__['ringfree_command.describe'](result)}"
        elif unlike["count"]:
            first = unlike["lines"][0]
            faults[ctid] = f"has {unlike['count']} differences after the copy, such as '{first}'"
    return faults


def _changed_meanwhile(ctids, began, wanted):
    """
    Which private areas were written to while they were copied, although the containers are down: id to text.

    A comparison by size and time does not see what got its old time back; a ctime cannot be set.
    """
    faults = {}
    commands = {
        ctid: __utils__["ringfree_tree.command"](
            "changed_since", __salt__["vz.config"](ctid)["private"], began
        )
        for ctid in ctids
    }
    for ctid, result in __utils__["ringfree_command.run_many"](
        commands, wanted["workers"], wanted["deadline"]
    ):
        if result["rc"] != 0:
            faults[ctid] = f"was not proved to be at rest: {__utils__['ringfree_command.describe'](result)}"
            continue
        found = salt.utils.json.loads(result["out"])
        if found["changed"]:
            faults[ctid] = (
                f"is down and was written to while it was copied: {found['changed']} files or directories, such as "
                f"{found['example']}"
            )
    return faults


# --- the way back of the data -----------------------------------------------------------------------------------------


def _back(ctid, private, **options):
    """Run one rsync from the share's copy of a container to its local private area."""
    if not os.path.isdir(private):
        raise CommandExecutionError(f"the local private area {private} of container {ctid} is not there")
    wanted = __salt__["ringfree_settings.get"]()["sync"]
    copy = f"{__salt__['ringfree_settings.get']()['shares']['private']['export']}/{ctid}"
    options.update(deadline=wanted["deadline"], timeout=wanted["timeout"])
    return __salt__["ringfree_san.fetch"](copy, private, **options)


def differences_to_local(ctid, private):
    """
    The files in which the share's copy of a container differs from the local one: what was written since the switch.

    ctid
        The container's id.  Of one that runs, what it has written where it runs differs too.

    private
        Its local private area.

    Returns ``{"count": number, "lines": [text, ...]}``, the lines as rsync itemises them: of very many the first and
    the last ones, with a line between them that says so.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.differences_to_local 101 /vz/private/101
    """
    return __utils__["ringfree_sync.differences"](_back(ctid, private, dry_run=True))


def missing_on_share(ctid, private):
    """
    What a local private area has and the share's copy of the container, which may run from it, has not.

    Only names are compared: the container has lived on the share since.  rsync's dry run asks in this direction, so
    that whatever happens nothing is ever written to the share.

    ctid
        The container's id.

    private
        The directory to compare with, a local private area.

    Returns how many files and directories.  Raises CommandExecutionError when the copy cannot be read or is no
    container's tree.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.missing_on_share 101 /vz/private/101
    """
    copy = f"{__salt__['ringfree_settings.get']()['shares']['private']['export']}/{ctid}"
    names = __salt__["ringfree_san.names"](copy)
    if not _is_tree(names) and "root.hdd" not in names:
        raise CommandExecutionError(f"{copy} on the SAN holds no container tree")
    wanted = __salt__["ringfree_settings.get"]()["sync"]
    __salt__["ringfree_san.connection"]()
    argv = __salt__["ringfree_san.download"](copy, private, timeout=wanted["timeout"], dry_run=True)
    result = __utils__["ringfree_command.run"](argv, wanted["deadline"], count=r"\*deleting")
    verdict = __utils__["ringfree_sync.verdict"](result, running=True)
    if verdict["do"] != "next":
        said = __utils__["ringfree_command.describe"](result)
        raise CommandExecutionError(f"{copy} on the SAN cannot be compared, {verdict['why']}: {said}")
    return result["counted"]


def sync_back(ctid, private, stamp):
    """
    Copy the share's copy of a container over the local one, and compare.

    What is replaced or deleted is kept in ``.ringfree-replaced/STAMP/CTID`` beside the private areas; until both are
    the same, ``CTID.unfinished`` beside it says that the local copy is a mixture (see :py:func:`half_back`).

    ctid
        The container's id; it must be down.

    private
        Its local private area.

    stamp
        A word for the directory that keeps what is replaced, such as the date.

    Returns True.  Raises CommandExecutionError when the copy fails or both differ afterwards.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.sync_back 101 /vz/private/101 20260226-0400
    """
    if "/" in str(stamp) or str(stamp).startswith("."):
        raise CommandExecutionError(f"'{stamp}' is no name for a directory")
    # Before the mark: a copy that was not begun leaves none.
    if __salt__["vz.status"](ctid)["running"]:
        raise CommandExecutionError(f"container {ctid} runs; nothing was copied")
    if not half_back(ctid, private) and not differences_to_local(ctid, private)["count"]:
        return True
    kept = os.path.join(_replaced(private), str(stamp), str(ctid))
    for folder in (_replaced(private), os.path.dirname(kept), kept):
        __utils__["ringfree_files.folder"](folder)
    __utils__["ringfree_files.keep"](f"{kept}.unfinished", b"")
    _back(ctid, private, backup=kept)
    unlike = differences_to_local(ctid, private)
    if unlike["count"]:
        found = f"{unlike['count']} differences after the copy back, such as '{unlike['lines'][0]}'"
        raise CommandExecutionError(f"container {ctid}: {found}")
    for unfinished in half_back(ctid, private):
        os.unlink(unfinished)
    return True


def half_back(ctid, private):
    """
    The marks of copies back of a container that were begun and not finished: its local copy is a mixture.

    ctid
        The container's id.

    private
        Its local private area.

    Returns a list of paths.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.half_back 101 /vz/private/101
    """
    return sorted(glob.glob(os.path.join(glob.escape(_replaced(private)), "*", f"{ctid}.unfinished")))


def _replaced(private):
    """Where copies back keep what they replace."""
    return os.path.join(os.path.dirname(private.rstrip("/")), ".ringfree-replaced")


# --- what the operator types ------------------------------------------------------------------------------------------


def bring_up(test=False):
    """
    Bring up a committed node that booted while the SAN was away, as ``ringfree_boot.bring_up`` does.

    test : False
        Only say what would be done.

    Returns what that does, with ``now``: one sentence that says how the node stands, empty with ``test``.  Raises what
    that does.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.bring_up
    """
    done = __salt__["ringfree_boot.bring_up"](test)
    return {**done, "now": "" if test else " ".join(filter(None, [whereabouts(), done["note"]]))}


def expect(until=None):
    """
    Take the orders of a run that begins, or goes on, on this node; an abort of an earlier one is forgotten.

    until : None
        Seconds since the epoch at which the run has to be over; ``None`` for no deadline.

    Returns ``{"state": text, "containers": number to move, "confirmed": bool}``.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.expect
    """
    __salt__["ringfree_run.order"](until)
    return {
        "state": __salt__["ringfree_journal.state"](),
        "containers": len(to_move()),
        "confirmed": confirmed(),
    }


def confirm(by="root"):
    """
    Note in the journal that somebody wants this node to stay on NFS.

    by : root
        Who says so.

    Returns one sentence.  Raises CommandExecutionError when there is nothing to confirm: the node is not in flight, or
    not everything of it runs from NFS and answers.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.confirm
    """
    if __salt__["ringfree_journal.state"]() == "nfs":
        return whereabouts()
    faults = ["no migration is under way"] if __salt__["ringfree_journal.state"]() == "local" else []
    faults = faults or faults_on_nfs()
    if faults:
        raise CommandExecutionError(f"nothing was confirmed: {'; '.join(faults)}")
    __salt__["ringfree_journal.remember"]("confirmed", {"by": by, "at": time.time()})
    return f"{__opts__['id']} is confirmed by {by}"


def confirmed():
    """
    Whether somebody has confirmed the migration under way.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.confirmed
    """
    return bool(__salt__["ringfree_journal.read"]()["facts"].get("confirmed"))
