"""
Where containers live: the journal, the containers and their checks, the copies on the SAN, the conf share.

:depends: rsync, ssh
:configuration: the pillar ``ringfree``; ``pillar/ringfree/init.sls`` explains each key

Everything here either only looks, or says in its docstring what it changes.
"""

import contextlib
import glob
import logging
import os
import pickle
import shutil
import stat
import time

import salt.utils.json
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "cloudstor"

STATE_DIR = "/var/lib/ringfree"
JOURNAL = f"{STATE_DIR}/journal.json"
BROUGHT = "conf-share.json"  # in STATE_DIR: what this node last brought to the conf share
ANY_X = 0o111
NOBODY_LISTENS = "cloudstor.nobody_listens"
SETTINGS = "cloudstor.settings"  # the pillar as it was checked last, in Salt's memory
CHECKED = (
    "cloudstor.checked"  # the journal as it was read and checked last: the same bytes are not checked again
)
STORES = (("nfs", "run from NFS"), ("local", "run from local storage"), ("down", "are down"))
TREE = ("etc", ("bin", "sbin", "usr"))  # what any container's own tree has


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def settings():
    """
    The pillar ``ringfree`` with its defaults.

    Returns a dictionary; ``{node}`` in an export is this node's id, and the conf share's mount point is the conf
    directory of this node (:py:func:`vz.conf_dir`) unless the pillar says another.  Raises CommandExecutionError that
    lists every fault of the pillar.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.settings
    """
    pillar = __pillar__.get("ringfree")
    # Not every minion with this pillar is an OpenVZ node.
    conf_dir = __salt__["vz.conf_dir"]() if "vz.conf_dir" in __salt__ else None
    try:
        asked = (repr(pillar), node(), conf_dir)
    except RecursionError:
        asked = None  # nothing that deep is right, so nothing is remembered of it
    # Everything here asks for them, some a thousand times in a highstate; a pickle is the quickest copy of its own.
    if __context__.get(SETTINGS, [()])[0] != asked:
        __context__[SETTINGS] = [asked, pickle.dumps(_settings(pillar, conf_dir))]
    return pickle.loads(__context__[SETTINGS][1])


def _settings(pillar, conf_dir):
    checked = __utils__["ringfree_pillar.validate"](pillar, node(), conf_dir)
    if checked["faults"]:
        raise CommandExecutionError("the pillar is wrong: " + "; ".join(checked["faults"]))
    conf = checked["settings"]["shares"]["conf"]
    # The pillar may name a link, such as /etc/vz/conf: fstab and systemd know the directory by its own name only.
    if conf["mount"] != conf_dir and _leads_to(conf["mount"], conf_dir):
        conf["mount"] = conf_dir
    return checked["settings"]


def _leads_to(path, place):
    """Whether a path is another name of a place."""
    return bool(place) and __utils__["ringfree_mounts.real_path"](__salt__["vz.mounts"](), path) == place


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
    found = _read()
    if found["fault"]:
        raise CommandExecutionError(
            f"{JOURNAL} is damaged: {found['fault']}. Nothing was changed. 'salt {node()} cloudstor.status' shows "
            f"where the containers really are, 'salt {node()} cloudstor.recover_journal' writes a new one from that; a "
            f"rollback does so by itself."
        )
    return found["journal"] or __utils__["ringfree_journal.new"](node(), time.time())


def _read():
    """The journal's file as ``{"journal": dict or None, "fault": text or None}``; neither when there is none."""
    try:
        data = __utils__["ringfree_files.read"](JOURNAL)
    except OSError as error:
        return {"journal": None, "fault": str(error)}
    if data is None:
        return {"journal": None, "fault": None}
    if __context__.get(CHECKED, [None])[0] != data:
        __context__[CHECKED] = [data, pickle.dumps(_checked(data))]
    return pickle.loads(__context__[CHECKED][1])


def _checked(data):
    try:
        kept = __utils__["ringfree_seal.load_json"](data, __utils__["ringfree_journal.keys"]())
        fault = __utils__["ringfree_journal.fault"](kept)
    except ValueError as error:
        fault = str(error)
    return {"journal": None if fault else kept, "fault": fault}


def _keep(new):
    __utils__["ringfree_files.keep"](JOURNAL, __utils__["ringfree_seal.dump_json"](new))
    return new


def journal_fault():
    """
    What is wrong with the journal's file.

    Returns text, or ``None`` when it can be read or there is none.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.journal_fault
    """
    return _read()["fault"]


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
        "snapshot": not __salt__["ringfree_snapshot.missing"](),
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
    areas = {ctid: __salt__["vz.config"](ctid)["private"] for ctid in ctids}
    shared = on_share(areas.values())
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
        if known.get(ctid) and known[ctid]["node"] == node() and known[ctid]["store"] == "nfs"
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
        "note": __utils__["ringfree_command.printable"](note, lines=True),
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
    {ctid: {"name", "running", "store", "ok", "why", "steps"}}, "left": text}``; ``store`` is ``local``, ``nfs`` or
    ``-`` for a container that is down; ``left`` names what a way back left down; ``san`` is ``primary`` or
    ``secondary``, whichever is in use, and says so when the pillar says the other one; ``deadman`` says when the node
    goes back by itself, or that it did.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.status
    """
    found = _read()
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
        "left": _left() if not found["fault"] else "",
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
        return " ".join(filter(None, [f"{node()} was not touched, it is on local storage.", _left()]))
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
    except Exception as error:
        # Whatever it is: what has failed must be said.
        log.warning("where the containers are cannot be said", exc_info=True)
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
    areas = {ctid: __salt__["vz.config"](ctid)["private"] for ctid in known}
    shared = on_share(areas.values())
    mine.update(ctid for ctid, area in areas.items() if area and area not in shared and os.path.isdir(area))
    return sorted(mine.intersection(known))


def on_share(paths):
    """
    Which of some paths lie on the private share, or would if it were mounted; symbolic links are followed.

    paths
        Private areas as confs name them; ``None`` for one that names none.

    Returns a set of those paths.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.on_share '["/vz/nfsprivate/101"]'
    """
    table = __salt__["vz.mounts"]()
    share = __utils__["ringfree_mounts.real_path"](table, settings()["shares"]["private"]["mount"])
    found = set()
    for path in filter(None, paths):
        # What vzctl cannot follow leads nowhere.
        with contextlib.suppress(ValueError):
            if __utils__["ringfree_mounts.real_path"](table, path).startswith(f"{share}/"):
                found.add(path)
    return found


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
    wanted, up, good = set(__salt__["vz.manifest"]() or []), set(__salt__["vz.running"]()), set(on_nfs())
    faults += [f"container {ctid} does not run" for ctid in sorted(wanted - up)]
    faults += [f"container {ctid} does not run from the share" for ctid in sorted((wanted & up) - good)]
    if state() != "nfs":
        faults += [f"container {ctid} runs and did not run before" for ctid in sorted(up - wanted)]
    try:
        __salt__["ringfree_start.answer"](sorted(good))
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
    return __utils__["ringfree_tree.holds"](private, "root.hdd/DiskDescriptor.xml")


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
    wanted = settings()["sync"]
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
    not_down = up(ctids) if final else {}
    for ctid in ctids:
        fault = __utils__["ringfree_owner.objection"](known.get(ctid), node()) or source_fault(ctid)
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
    export = settings()["shares"]["private"]["export"]
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
    copy = f"{settings()['shares']['private']['export']}/{ctid}"
    names = __salt__["ringfree_san.names"](copy)
    if not _is_tree(names) and "root.hdd" not in names:
        raise CommandExecutionError(f"{copy} on the SAN holds no container tree")
    wanted = settings()["sync"]
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


# --- the conf share ---------------------------------------------------------------------------------------------------


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

        salt node001 cloudstor.conf_share test=True
    """
    wanted, there = _wanted_confs(), confs_on_share()
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
    there = confs_on_share()
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


def confs_on_share():
    """
    The files of the conf share as they are on the SAN, asked over ssh; of subdirectories those that this node has too.

    Returns a dictionary, as ``read_folder`` in ``_utils/ringfree_files.py`` does.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.confs_on_share
    """
    here = f"{STATE_DIR}/confs-on-share"
    __salt__["ringfree_san.fetch_shared"](settings()["shares"]["conf"]["export"], here)
    return __utils__["ringfree_files.read_folder"](here, below=_subfolders())


def conf_conflicts():
    """
    The files on the conf share that differ from this node's and are not its own to change, or that would be run here.

    Returns a list of sentences.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.conf_conflicts
    """
    return _compared(_wanted_confs(strict=False), confs_on_share())[1]


def shared_files():
    """
    The files of the conf directory that all nodes of one conf share have in common: samples, ``vps.*``, ``0.conf``.

    Returns a dictionary: name to a check sum, which also says whether the file can be run; those of this node's own
    containers are left out.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.shared_files
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
        return owner == node()
    if _is_fence(name, found):
        return _is_fence(name, entry)
    alone = all(record["node"] == node() for record in known.values())
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
    keys = list(__utils__["ringfree_pillar.store_paths"](settings()))
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
    return kept.get("files", {}) if kept.get("export") == settings()["shares"]["conf"]["export"] else {}


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
    export = settings()["shares"]["conf"]["export"]
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
    if reached("snapshot"):
        before = __salt__["ringfree_snapshot.vz_conf"]()
    else:
        before = __utils__["ringfree_files.read"](__salt__["vz.conf_path"]()) or b""
    above = __utils__["ringfree_conf.parse"](before)["values"]
    own = __utils__["ringfree_conf.parse"](
        __utils__["ringfree_files.read"](__salt__["vz.conf_path"](ctid)) or b""
    )["values"]
    above.setdefault("DISK_QUOTA", "yes")
    return {key: above[key] for key in keys if key not in own and key in above}
