"""
Where containers live: the journal, the containers and their checks, the copies on the SAN, the conf share.

:depends: rsync, ssh
:configuration: the pillar ``ringfree``; ``pillar/ringfree/init.sls`` explains each key

Everything here either only looks, or says in its docstring what it changes.
"""

import glob
import logging
import os
import shutil
import stat
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "cloudstor"

STATE_DIR = "/var/lib/ringfree"
JOURNAL = f"{STATE_DIR}/journal.json"
CONF_DIR = "/etc/vz/conf"
SNAPSHOT = "/etc/sysconfig/vz-scripts.tar.gz"
SNAPSHOT_VZ_CONF = "/etc/vz/vz.conf.before-nfs"
NOBODY_LISTENS = "cloudstor.nobody_listens"
STORES = (("nfs", "run from NFS"), ("local", "run from local storage"), ("down", "are down"))
TREE = ("etc", ("bin", "sbin", "usr"))  # what any container's own tree has


def __virtual__():
    return __virtualname__


def settings():
    """
    The pillar ``ringfree`` with its defaults.

    Returns a dictionary; ``{node}`` in an export is this node's id.  Raises CommandExecutionError that lists every
    fault of the pillar.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.settings
    """
    checked = __utils__["ringfree_pillar.validate"](__pillar__.get("ringfree"), node())
    if checked["faults"]:
        raise CommandExecutionError("the pillar is wrong: " + "; ".join(checked["faults"]))
    return checked["settings"]


def node():
    """
    The name by which the share knows this node: its minion id.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.node
    """
    return __opts__["id"]


# --- the journal ------------------------------------------------------------------------------------------------------


def journal():
    """
    The node's journal.

    Returns the journal; a new one, in state ``local``, when there is none.  Raises CommandExecutionError for a
    damaged one.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.journal
    """
    found = __utils__["ringfree_journal.load"](__utils__["ringfree_files.read"](JOURNAL))
    if found["fault"]:
        raise CommandExecutionError(
            f"{JOURNAL} is damaged: {found['fault']}. Nothing was changed. 'salt {node()} cloudstor.status' shows "
            f"where the containers really are, 'salt {node()} cloudstor.recover_journal' writes a new one from that; a "
            f"rollback does so by itself."
        )
    return found["journal"] or __utils__["ringfree_journal.new"](node(), time.time())


def _keep(new):
    os.makedirs(STATE_DIR, mode=0o700, exist_ok=True)
    __utils__["ringfree_files.write"](JOURNAL, __utils__["ringfree_journal.dump"](new), 0o600)
    return new


def journal_fault():
    """
    What is wrong with the journal's file.

    Returns text, or ``None`` when it can be read or there is none.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.journal_fault
    """
    return __utils__["ringfree_journal.load"](__utils__["ringfree_files.read"](JOURNAL))["fault"]


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
    fault = journal_fault()
    if not fault and os.path.exists(JOURNAL):
        return state()
    now = time.time()
    if fault:
        os.rename(JOURNAL, f"{JOURNAL}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}")
    fault = fault or "it was not there"
    moved = __salt__["vz.manifest"]() or []
    seen = {
        "mounted": any(entry["source"] for entry in __salt__["ringfree_nfs.in_use"]().values()),
        "confs": _lead_to_share(containers()),
        "guarded": bool(__salt__["ringfree_guard.unguard"](test=True)),
        "armed": __salt__["ringfree_deadman.armed"]() is not None,
        "manifest": moved,
        "on_nfs": on_nfs(),
        "up": __salt__["vz.running"](),
        "snapshot": all(map(os.path.exists, (SNAPSHOT, SNAPSHOT_VZ_CONF))),
        "owned": _owned_on_share(moved),
    }
    new = __utils__["ringfree_journal.recovered"](node(), now, fault, seen)
    _keep(new)
    tell(
        "journal",
        "done",
        note=f"it was written anew ({fault}) and says {new['state']} now, by what was found",
    )
    return new["state"]


def _lead_to_share(ctids):
    """The containers whose confs lead to the share."""
    share = settings()["shares"]["private"]["mount"] + "/"
    return [ctid for ctid in ctids if (__salt__["vz.config"](ctid)["private"] or "").startswith(share)]


def _owned_on_share(ctids):
    """Of some containers, those that this node owns on the share; all of them when the share does not say."""
    try:
        known = __salt__["ringfree_owner.records"]()
    except CommandExecutionError:
        return list(ctids)
    return [
        ctid
        for ctid in ctids
        if known.get(ctid) and known[ctid]["node"] == node() and known[ctid]["store"] == "nfs"
    ]


def begin():
    """
    Open, or continue, a migration of this node in its journal.

    Returns the journal.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.begin
    """
    return _keep(__utils__["ringfree_journal.begin"](journal(), time.time()))


def mark(step, phase, container=None, note=None):
    """
    Note in the journal, and tell the master, how far a step has come.

    step
        A step of the migration, such as ``stop``.

    phase
        ``intent``, ``done`` or ``verified``.

    container : None
        A container's id when the step is noted for one container.

    note : None
        A text for people.

    Returns the journal.  Raises CommandExecutionError, and notes nothing, when a step may not begin (see
    ``ringfree_run.leave``).

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.mark stop verified container=101
    """
    if phase == "intent":
        __salt__["ringfree_run.leave"](step)
    new = _keep(__utils__["ringfree_journal.mark"](journal(), step, phase, time.time(), container, note))
    tell(step, phase, container, note)
    return new


def tell(step, phase, container=None, note=None):
    """
    Tell the master how far a step has come, for the people who watch; nothing depends on it.

    step
        A step of the migration.

    phase
        ``intent``, ``done`` or ``verified``.

    container : None
        A container's id.

    note : None
        A text for people.

    Returns nothing.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.tell stop done container=101
    """
    data = {
        "node": node(),
        "step": step,
        "phase": phase,
        "container": container,
        "note": note,
        "at": time.time(),
    }
    if __context__.get(NOBODY_LISTENS):
        return
    try:
        sent = __salt__["event.send"](f"ringfree/progress/{node()}", data)
        # The dead-man tells a minion that may be dead, and each try then takes a second in which containers are down.
        __context__[NOBODY_LISTENS] = not sent and "ringfree_deadman" in __opts__
    except Exception:  # pylint: disable=broad-except
        log.warning("the master could not be told about %s %s", step, phase, exc_info=True)


def reached(step, phase="verified", container=None):
    """
    Whether a step has come as far as a phase in the migration under way, or in the one that was committed.

    On a node that rests on local storage no step counts: those in the journal are of a migration that was undone.

    step
        A step of the migration.

    phase : verified
        The phase.

    container : None
        A container's id.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.reached snapshot
    """
    current = journal()
    return current["state"] != "local" and __utils__["ringfree_journal.reached"](
        current, step, phase, container
    )


def went_home(ctid):
    """
    Whether a way back started a container from local storage since it was last started from the share.

    Its newest data is there then, whatever its owner record says: the share may not have been told.

    ctid
        The container's id.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.went_home 101
    """
    steps = journal()["containers"].get(str(ctid), {})
    when = {step: steps.get(step, {}).get("intent", 0) for step in ("revert", "start")}
    return when["revert"] > when["start"]


def remember(key, value):
    """
    Keep a fact of this migration in the journal.

    key
        Its name.

    value
        Anything that JSON can hold.

    Returns the journal.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.remember load 0.4
    """
    new = journal()
    new["facts"][key] = value
    return _keep(new)


def state():
    """
    What the journal says of the node: ``local``, ``in_flight`` or ``nfs``.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.state
    """
    return journal()["state"]


def settle(state):
    """
    Note in the journal that the node rests: on NFS after a commit, on local storage after the way back.

    state
        ``nfs`` or ``local``.

    Returns the journal.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.settle nfs
    """
    current = journal()
    if current["state"] == state:
        return current
    return _keep(__utils__["ringfree_journal.settle"](current, state, time.time()))


def status():
    """
    Where this node and its containers are: the journal beside what mountinfo, vzlist and the confs say.

    Returns ``{"node": text, "state": text, "since": seconds or None, "steps": {step: {phase: seconds}},
    "journal_fault": text or None, "mounted": {share: source or None}, "san": text, "deadman": text, "containers":
    {ctid: {"name", "running", "store", "ok", "why", "steps"}}}``; ``store`` is ``local``, ``nfs`` or ``-`` for a
    container that is down; ``san`` is ``primary`` or ``secondary``, whichever is in use, and says so when the pillar
    says the other one; ``deadman`` says when the node goes back by itself, or that it did.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.status
    """
    found = __utils__["ringfree_journal.load"](__utils__["ringfree_files.read"](JOURNAL))
    told = found["journal"] or {
        "state": "local" if not found["fault"] else "unknown",
        "since": None,
        "steps": {},
        "containers": {},
    }
    seen, up = {}, __salt__["vz.running"]()
    for ctid in containers():
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
        "node": node(),
        "state": told["state"],
        "since": told["since"],
        "steps": told["steps"],
        "journal_fault": found["fault"],
        "mounted": {share: entry["source"] for share, entry in __salt__["ringfree_nfs.in_use"]().items()},
        "san": __salt__["ringfree_nfs.told_otherwise"]() or __salt__["ringfree_nfs.san"](),
        "deadman": _deadman(told["state"], told.get("facts", {}).get("deadman")),
        "containers": seen,
    }


def _deadman(now, fact):
    """When the node goes back by itself, and what the dead-man did."""
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
            "" if not reached("deadman", "intent") else "It does not go back by itself: no dead-man is armed."
        )
    at = __utils__["ringfree_deadman.clock"](kept["deadline"], time.time())
    if kept["fault"]:
        return f"It should go back by itself at {at} and will not: {kept['fault']}"
    if kept["deadline"] <= time.time():
        return f"It goes back by itself: its deadline was at {at}."
    return f"It goes back by itself at {at} unless it is committed before."


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
        return f"{node()} was not touched, it is on local storage."
    up = [ctid for ctid, entry in found["containers"].items() if entry["running"]]
    written = "verified" in found["steps"].get("manifest", {})
    moving = __salt__["vz.manifest"]() or [] if written else up
    where = [_store_of(found["containers"].get(ctid)) for ctid in moving]
    counts = ", ".join(f"{where.count(word)} {text}" for word, text in STORES if word in where)
    if found["state"] == "in_flight":
        sentences = [
            f"{node()} is in flight: of {len(where)} containers {counts or 'none was moved'}.",
            found["deadman"],
            "'salt-run state.orch migrate' continues,",
            f"'salt-run state.orch rollback pillar='{{\"nodes\": [\"{node()}\"]}}'' goes back.",
        ]
    else:
        store = {"nfs": "on NFS", "local": "back on local storage"}.get(found["state"], "in an unknown state")
        said = f"{node()} is {store}, {_answering(moving)} of {len(moving)} containers answer"
        astray = [word for word in where if word != found["state"]]
        sentences = [f"{said}: {counts}." if astray else f"{said}.", found["deadman"], _waits()]
        sentences += [__salt__["ringfree_failover.told"]()] if found["state"] == "nfs" else []
    return " ".join(filter(None, sentences))


def _waits():
    """What to type on a node that booted while the SAN was away."""
    try:
        waits = __salt__["ringfree_boot.waiting"]()
    except CommandExecutionError as error:
        return str(error)
    if waits is None:
        return ""
    return f"It booted without its share: 'salt-run ringfree.bring_up {node()}' mounts it and starts what is to run."


def _store_of(entry):
    return entry["store"] if entry and entry["running"] else "down"


def _answering(ctids):
    """How many of some containers pass all their checks, asked once."""
    up = set(__salt__["vz.running"]())
    wanted = checks([ctid for ctid in ctids if ctid in up])
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
    except (CommandExecutionError, OSError) as error:
        where = f"Where the containers are is unknown: {error}"
    # Without what Salt's own text of an error adds for programs.
    said = str(getattr(said, "error", None) or said)
    comment = f"{said.rstrip('.')}. {where}"
    tell(what, "failed", note=comment)
    return comment


def containers():
    """
    The containers of this node.

    A conf share that several nodes mount shows the confs of all of them; this node's are those of its manifest, those
    that it owns on the share, those that run here and those whose private area is here on local disk.

    Returns a sorted list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.containers
    """
    known = __salt__["vz.containers"]()
    if not _mounted("conf"):
        return known
    mine = set(__salt__["vz.manifest"]() or []) | set(__salt__["vz.running"]())
    mine.update(ctid for ctid, owner in __salt__["ringfree_owner.live_on_nfs"]().items() if owner == node())
    shared = settings()["shares"]["private"]["mount"] + "/"
    for ctid in known:
        private = __salt__["vz.config"](ctid)["private"] or shared
        if not private.startswith(shared) and os.path.isdir(private):
            mine.add(ctid)
    return sorted(mine.intersection(known))


def _mounted(share):
    return __salt__["ringfree_nfs.in_use"]()[share]["mounted"]


def resolve(names):
    """
    Find this node's containers by id, NAME or HOSTNAME; those of other nodes on the same conf share do not count.

    names
        List of ids, NAMEs or HOSTNAMEs.

    Returns ``{"found": {name: ctid}, "faults": [text]}``; a fault for each name that fits none or several.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.resolve '["PBX"]'
    """
    return __salt__["vz.resolve"](names, containers())


def on_nfs():
    """
    The containers of the manifest that run from the share, proved from mountinfo.

    Returns a list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.on_nfs
    """
    up = set(__salt__["vz.running"]())
    proofs = {ctid: __salt__["vz.root_mount"](ctid) for ctid in __salt__["vz.manifest"]() or [] if ctid in up}
    return [ctid for ctid, proof in proofs.items() if proof["ok"] and proof["nfs"]]


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
    for ctid, wanted in checks(sorted(found)).items():
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
    and their services answer.

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
    wanted, up, good = set(__salt__["vz.manifest"]() or []), set(__salt__["vz.running"]()), set(on_nfs())
    faults += [f"container {ctid} does not run" for ctid in sorted(wanted - up)]
    faults += [f"container {ctid} does not run from the share" for ctid in sorted((wanted & up) - good)]
    if state() != "nfs":
        faults += [f"container {ctid} runs and did not run before" for ctid in sorted(up - wanted)]
    try:
        __salt__["vz.wait_healthy"](checks(sorted(good)), settings()["start"]["answer"])
    except CommandExecutionError as error:
        faults.append(str(error))
    return faults


def checks(ctids):
    """
    The health checks of containers: those of the pillar without those from which a container is exempt.

    ctids
        List of ids.

    Returns a dictionary: id to its checks, as ``vz.health`` takes them.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.checks '[101, 104]'
    """
    wanted = settings()["containers"]
    exempt = {}
    for name, ctid in resolve(list(wanted["exempt"]))["found"].items():
        exempt.setdefault(ctid, set()).update(wanted["exempt"][name])
    return {
        ctid: {name: check for name, check in wanted["checks"].items() if name not in exempt.get(ctid, ())}
        for ctid in ctids
    }


def to_move():
    """
    The containers that the migration moves, in start order: those of the manifest, else those that run now.

    Returns a list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.to_move
    """
    if state() != "local" and __salt__["vz.manifest"]() is not None:
        return __salt__["vz.manifest"]()
    return __salt__["vz.start_order"](__salt__["vz.running"](), settings()["containers"]["priority"])


def up(ctids):
    """
    Which of some containers run or are mounted: what is written in them now is in no copy of theirs.

    ctids
        List of ids.

    Returns a dictionary: id to ``runs`` or ``is mounted``; those that are down and unmounted are left out.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.up '[101, 102]'
    """
    running, table = set(__salt__["vz.running"]()), __salt__["vz.mounts"]()
    roots = {ctid: __salt__["vz.config"](ctid)["root"] for ctid in ctids}
    used = {mount["mountpoint"] for mount in table}
    mounted = [
        ctid
        for ctid, root in roots.items()
        if root and __utils__["ringfree_mounts.real_path"](table, root) in used
    ]
    return {
        ctid: "runs" if ctid in running else "is mounted"
        for ctid in ctids
        if ctid in running or ctid in mounted
    }


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
    mount = __utils__["ringfree_mounts.covering"](
        table, __utils__["ringfree_mounts.real_path"](table, private)
    )
    if mount and __utils__["ringfree_mounts.is_nfs"](mount):
        return f"its private area {private} is on NFS ({mount['source']})"
    if not os.path.isdir(private):
        return f"its private area {private} is not there"
    if not _is_tree(os.listdir(private)) and not _is_ploop(private):
        base, one_of = TREE
        return (
            f"its private area {private} holds no container tree (no {base} or none of {', '.join(one_of)})"
        )
    return None


def _is_tree(names):
    """Whether a directory with these names can be a container's own tree."""
    base, one_of = TREE
    return base in names and bool(set(names).intersection(one_of))


def _is_ploop(private):
    return os.path.exists(os.path.join(private, "root.hdd", "DiskDescriptor.xml"))


def sync(ctids, final=False, on_done=None):
    """
    Copy containers' private areas to the SAN.  Deletes there what is gone here, within ``ringfree:sync:max_delete``.

    ctids
        List of ids.

    final : False
        The copy that counts: the containers must be down, only exit code 0 is good, and a second, verifying pass
        must find no difference.

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
    wanted, ssh_argv = settings()["sync"], __salt__["ringfree_san.connection"]()
    done = _copy(ctids, ssh_argv, wanted, final, on_done if not final else None)
    if final:
        _verify(ctids, ssh_argv, wanted, lambda ctid: on_done and on_done(ctid, done[ctid]))
    return done


def _refuse_sync(ctids, final):
    """Raise when a copy would overwrite what it must not, or would copy what is no container."""
    known, faults = __salt__["ringfree_owner.records"](), []
    not_down = up(ctids) if final else {}
    for ctid in ctids:
        fault = __utils__["ringfree_owner.objection"](known.get(ctid), node()) or source_fault(ctid)
        fault = fault or not_down.get(ctid)
        if fault:
            faults.append(f"container {ctid} {fault}")
    if faults:
        raise CommandExecutionError("nothing was copied: " + "; ".join(faults))


def _paths(ctid):
    """Source and target of a container's copy."""
    private = __salt__["vz.config"](ctid)["private"]
    return private.rstrip("/") + "/", __salt__["ringfree_san.remote"](
        f"{settings()['shares']['private']['export']}/{ctid}/"
    )


def _copy(ctids, ssh_argv, wanted, final, on_done):
    """Copy in up to three tries; only what may pass is tried again."""
    done, open_, faults = {}, list(ctids), []
    for turn in (1, 2, 3):
        again = []
        commands = {
            ctid: __utils__["ringfree_sync.rsync"](
                *_paths(ctid), ssh_argv, wanted["timeout"], wanted["max_delete"]
            )
            for ctid in open_
        }
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


def _verify(ctids, ssh_argv, wanted, on_done):
    """Compare source and copy of containers that are down; any difference is a failure."""
    faults = []
    checksum = wanted["verify"] == "checksum"
    commands = {
        ctid: __utils__["ringfree_sync.rsync"](
            *_paths(ctid), ssh_argv, wanted["timeout"], dry_run=True, checksum=checksum
        )
        for ctid in ctids
    }
    for ctid, result in __utils__["ringfree_command.run_many"](
        commands, wanted["workers"], wanted["deadline"]
    ):
        unlike = __utils__["ringfree_sync.differences"](result["out"])
        if result["rc"] != 0:
            faults.append(
                f"container {ctid} was not verified: {__utils__['ringfree_command.describe'](result)}"
            )
        elif unlike:
            faults.append(
                f"container {ctid}: {len(unlike)} differences after the copy, such as '{unlike[0]}'"
            )
        else:
            on_done(ctid)
    if faults:
        raise CommandExecutionError("; ".join(faults))


# --- snapshot ---------------------------------------------------------------------------------------------------------


def snapshot():
    """
    Keep the conf directory as vz-scripts.tar.gz and vz.conf beside it, and read both back.

    A snapshot of an earlier migration is kept under its date.

    Returns ``{path: number of bytes}``.  Raises CommandExecutionError when what was read back differs.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.snapshot
    """
    source = os.path.realpath(CONF_DIR)
    for path in (SNAPSHOT, SNAPSHOT_VZ_CONF):
        if os.path.exists(path):
            stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(os.stat(path).st_mtime))
            os.rename(path, f"{path}.{stamp}")
    try:
        __utils__["ringfree_archive.pack"](source, SNAPSHOT)
        kept = __utils__["ringfree_archive.unpack"](SNAPSHOT)
    except ValueError as error:
        raise CommandExecutionError(f"the confs cannot be kept: {error}") from error
    __utils__["ringfree_files.sync_folder"](os.path.dirname(SNAPSHOT))
    there = __utils__["ringfree_files.read_folder"](source)
    unlike = [name for name, entry in there.items() if "folder" not in entry and kept.get(name) != entry]
    if unlike:
        raise CommandExecutionError(f"{', '.join(unlike)} in {SNAPSHOT} differs from {source}")
    data = __utils__["ringfree_files.read"](__salt__["vz.conf_path"]())
    __utils__["ringfree_files.write"](SNAPSHOT_VZ_CONF, data)
    if __utils__["ringfree_files.read"](SNAPSHOT_VZ_CONF) != data:
        raise CommandExecutionError(f"{SNAPSHOT_VZ_CONF} differs from vz.conf after it was written")
    return {path: os.path.getsize(path) for path in (SNAPSHOT, SNAPSHOT_VZ_CONF)}


def snapshot_paths():
    """
    Where the snapshot is.

    Returns ``{"confs": path, "vz_conf": path}``.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.snapshot_paths
    """
    return {"confs": SNAPSHOT, "vz_conf": SNAPSHOT_VZ_CONF}


# --- the way back of the data -----------------------------------------------------------------------------------------


def _back(ctid, private, **options):
    """Run one rsync from the share's copy of a container to its local private area."""
    if not os.path.isdir(private):
        raise CommandExecutionError(f"the local private area {private} of container {ctid} is not there")
    wanted = settings()["sync"]
    copy = f"{settings()['shares']['private']['export']}/{ctid}"
    options.update(deadline=wanted["deadline"], timeout=wanted["timeout"])
    return __salt__["ringfree_san.fetch"](copy, private, **options)


def differences_to_local(ctid, private):
    """
    The files in which the share's copy of a container differs from the local one: what was written since the switch.

    ctid
        The container's id.  Of one that runs, what it has written where it runs differs too.

    private
        Its local private area.

    Returns a list of lines as rsync itemises them.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.differences_to_local 101 /vz/private/101
    """
    return __utils__["ringfree_sync.differences"](_back(ctid, private, dry_run=True)["out"])


def missing_on_share(ctid, private):
    """
    What a local private area has and the share's copy of the container, which may run from it, has not.

    Only names are compared: the container has lived on the share since.  rsync's dry run asks in this direction, so
    that whatever happens nothing is ever written to the share.

    ctid
        The container's id.

    private
        The directory to compare with, a local private area.

    Returns a list of rsync's lines.  Raises CommandExecutionError when the copy cannot be read or is no container's
    tree.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.missing_on_share 101 /vz/private/101
    """
    copy = f"{settings()['shares']['private']['export']}/{ctid}"
    names = __salt__["ringfree_san.names"](copy)
    if not _is_tree(names) and "root.hdd" not in names:
        raise CommandExecutionError(f"{copy} on the SAN holds no container tree")
    wanted = settings()["sync"]
    argv = __utils__["ringfree_sync.rsync"](
        __salt__["ringfree_san.remote"](f"{copy}/"),
        private.rstrip("/") + "/",
        __salt__["ringfree_san.connection"](),
        wanted["timeout"],
        dry_run=True,
    )
    result = __utils__["ringfree_command.run"](argv, deadline=wanted["deadline"])
    verdict = __utils__["ringfree_sync.verdict"](result, running=True)
    if verdict["do"] != "next":
        said = __utils__["ringfree_command.describe"](result)
        raise CommandExecutionError(f"{copy} on the SAN cannot be compared, {verdict['why']}: {said}")
    lines = __utils__["ringfree_sync.differences"](result["out"])
    return [line for line in lines if line.startswith("*deleting")]


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
    if not half_back(ctid, private) and not differences_to_local(ctid, private):
        return True
    kept = os.path.join(_replaced(private), str(stamp), str(ctid))
    os.makedirs(kept, mode=0o700, exist_ok=True)
    __utils__["ringfree_files.write"](f"{kept}.unfinished", b"")
    _back(ctid, private, backup=kept)
    unlike = differences_to_local(ctid, private)
    if unlike:
        found = f"{len(unlike)} differences after the copy back, such as '{unlike[0]}'"
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


# --- the conf share ---------------------------------------------------------------------------------------------------


def conf_share(test=False):
    """
    Bring this node's files of the conf directory to the conf share, as they are to be on NFS, and compare.

    The containers of the manifest get the paths of the share; every other file goes as it is, but no hidden one.  Files
    of other nodes stay untouched.  A file of another node with the same name and other content is refused.

    test : False
        Only say what differs.

    Returns a dictionary: name to ``{"old": "missing"|"differs", "new": "as on this node"}`` for each file that was,
    or would be, brought.  Raises CommandExecutionError listing every conflict; nothing is written then.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.conf_share test=True
    """
    wanted = _wanted_confs()
    there = _confs_on_share()
    conflicts = _conf_conflicts(wanted, there)
    if conflicts:
        raise CommandExecutionError("nothing was written to the conf share: " + "; ".join(conflicts))
    differs = {name: there.get(name) for name in wanted if not _same_file(wanted[name], there.get(name))}
    changes = {
        name: {"old": "differs" if old else "missing", "new": "as on this node"}
        for name, old in differs.items()
    }
    if test or not changes:
        return changes
    _push_confs({name: wanted[name] for name in differs})
    there = _confs_on_share()
    unlike = [name for name in wanted if not _same_file(wanted[name], there.get(name))]
    if unlike:
        raise CommandExecutionError(f"the conf share differs after it was written: {', '.join(unlike)}")
    return changes


def _wanted_confs():
    """The conf directory as the share is to have it; hidden names are editors', rsync's and trials, not vzctl's."""
    entries = __utils__["ringfree_files.read_folder"](os.path.realpath(CONF_DIR))
    paths = __utils__["ringfree_pillar.store_paths"](settings())
    for ctid in to_move():
        name, path = f"{ctid}.conf", __salt__["vz.conf_path"](ctid)
        entry = entries.get(name, {})
        if "data" not in entry:
            # A link may lead anywhere, and nowhere on another node: its file goes to the share.
            folder, base = os.path.split(os.path.realpath(path))
            entry = __utils__["ringfree_files.read_folder"](folder).get(base, {})
        try:
            data = __utils__["ringfree_conf.edit"](entry["data"], with_layout(ctid, paths))
        except KeyError as error:
            raise CommandExecutionError(f"{path} is no file") from error
        except ValueError as error:
            raise CommandExecutionError(f"{path}: {error}") from error
        entries[name] = dict(entry, data=data)
    return {name: entry for name, entry in entries.items() if "folder" not in entry and name[0] != "."}


def _same_file(wanted, found):
    return found is not None and wanted == found


def _confs_on_share():
    """A copy of the conf share's files, as on the SAN."""
    here = f"{STATE_DIR}/confs-on-share"
    __salt__["ringfree_san.fetch_shared"](settings()["shares"]["conf"]["export"], here)
    return __utils__["ringfree_files.read_folder"](here)


def conf_conflicts():
    """
    The files on the conf share that differ from this node's and are not its own to change.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.conf_conflicts
    """
    return _conf_conflicts(_wanted_confs(), _confs_on_share())


def _conf_conflicts(wanted, there):
    known, found = __salt__["ringfree_owner.records"](), []
    for name, entry in wanted.items():
        if _same_file(entry, there.get(name)) or name not in there:
            continue
        head = name.split(".", 1)[0]
        owner = known.get(int(head), {}).get("node") if head.isdigit() and int(head) else None
        if owner == node():
            continue
        whose = f"belongs to {owner}" if owner else "differs from this node's"
        found.append(
            f"{name} on the conf share {whose}; make them equal, or give the node a share of its own "
            f"(ringfree:shares:conf:export)"
        )
    return found


def _push_confs(entries):
    """Send files to the conf share with their owner and mode; nothing there is deleted."""
    here = f"{STATE_DIR}/confs-to-share"
    shutil.rmtree(here, ignore_errors=True)
    os.makedirs(here, mode=0o755)
    source = os.stat(CONF_DIR)
    os.chown(here, source.st_uid, source.st_gid)
    os.chmod(here, stat.S_IMODE(source.st_mode))
    for name, entry in entries.items():
        path = os.path.join(here, name)
        if "link" in entry:
            os.symlink(entry["link"], path)
            continue
        __utils__["ringfree_files.write"](path, entry["data"])
        os.chown(path, entry["uid"], entry["gid"])
        os.chmod(path, entry["mode"])
    __salt__["ringfree_san.push"](here, settings()["shares"]["conf"]["export"])


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

        salt node001 cloudstor.with_layout 101 '{"DISK_QUOTA": "no"}'
    """
    conf = __salt__["vz.config"](ctid)
    if conf["layout"]:
        return dict(values)
    private = private or conf["private"]
    return dict(values, VE_LAYOUT="ploop" if private and _is_ploop(private) else "simfs")


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

        salt node001 cloudstor.inherited 101 '["VE_PRIVATE"]'
    """
    path = SNAPSHOT_VZ_CONF if reached("snapshot") else __salt__["vz.conf_path"]()
    above = __utils__["ringfree_conf.parse"](__utils__["ringfree_files.read"](path) or b"")["values"]
    own = __utils__["ringfree_conf.parse"](
        __utils__["ringfree_files.read"](__salt__["vz.conf_path"](ctid)) or b""
    )["values"]
    above.setdefault("DISK_QUOTA", "yes")
    return {key: above[key] for key in keys if key not in own and key in above}
