"""
Where containers live: the journal, the copies on the SAN, their owners, the conf share, commit.

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

import salt.utils.path
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "cloudstor"

STATE_DIR = "/var/lib/ringfree"
JOURNAL = f"{STATE_DIR}/journal.json"
RUN_DIR = "/run/ringfree"
PATIENCE = 10  # seconds that preflight waits for services which ought to answer at once
SLOW = 1.0  # seconds after which an answer of the share counts as slow
CONF_DIR = "/etc/vz/conf"
SNAPSHOT = "/etc/sysconfig/vz-scripts.tar.gz"
SNAPSHOT_VZ_CONF = "/etc/vz/vz.conf.before-nfs"
FENCE = f"{CONF_DIR}/vps.premount"
CREATE_FENCE = f"{CONF_DIR}/vps.create"
NODE_FILE = "/etc/ringfree/node"
ON_NFS = "/etc/ringfree/on-nfs"
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
        "guarded": bool(unguard(test=True)),
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
        known = owners()
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
        What happened.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.failure 'The containers are stopped' 'container 101 still runs'
    """
    try:
        where = whereabouts()
    except (CommandExecutionError, OSError) as error:
        where = f"Where the containers are is unknown: {error}"
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
    mine.update(ctid for ctid, owner in live_on_nfs().items() if owner == node())
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


# --- the SAN over ssh -------------------------------------------------------------------------------------------------


def _ssh(control=None):
    wanted = settings()["ssh"]
    if wanted["host_keys"]:
        wanted["known_hosts"] = _pinned(wanted)
    return __utils__["ringfree_sync.ssh"](wanted, control)


def _pinned(wanted):
    """The file with the pillar's host keys; a dry run has one of its own."""
    path = f"{RUN_DIR}/known_hosts.test" if __opts__.get("test") else f"{RUN_DIR}/known_hosts"
    _pin(path, wanted)
    return path


def _pin(path, wanted, test=False):
    """Write the pillar's host keys unless the file says them; returns whether it did not."""
    data = __utils__["ringfree_sync.known_hosts"](wanted["host_keys"], wanted["port"]).encode()
    if __utils__["ringfree_files.read"](path) == data:
        return False
    if not test:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        __utils__["ringfree_files.write"](path, data)
    return True


def host_keys(test=False):
    """
    Put the host keys of the pillar (``ringfree:ssh:host_keys``) into the file that ssh reads them from.

    test : False
        Only say what would change.

    Returns a dictionary of changes: path to old and new; empty where the pillar has no host keys.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.host_keys test=True
    """
    wanted, path = settings()["ssh"], f"{RUN_DIR}/known_hosts"
    if not wanted["host_keys"] or not _pin(path, wanted, test):
        return {}
    return {path: {"old": "missing or different", "new": "the host keys of the pillar"}}


def _remote(path, server=None):
    return f"{server or __salt__['ringfree_nfs.server']()}:{path}"


def _rsync(source, target, deadline=600, **options):
    """Run one rsync that must succeed."""
    argv = __utils__["ringfree_sync.rsync"](source, target, _shared(), **options)
    result = __utils__["ringfree_command.run"](argv, deadline=deadline)
    _must_be_good(result)
    return result


class _Unreachable(CommandExecutionError):
    """The SAN cannot be asked at all: everything else about it would be the same finding again."""


def _must_be_good(result):
    verdict = __utils__["ringfree_sync.verdict"](result, running=False)
    if verdict["do"] != "next":
        said = __utils__["ringfree_command.describe"](result)
        kind = _Unreachable if result["rc"] == 255 else CommandExecutionError
        raise kind(f"{verdict['why']}: {said}")


def remote_names(path, fresh=False, server=None):
    """
    The names in a directory of the SAN, asked over ssh by rsync.

    path
        The directory on the SAN.

    fresh : False
        Log in anew, which checks key and host key again, instead of using the shared connection.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    Returns a list of names.  Raises CommandExecutionError when the SAN cannot be reached with the pinned host key,
    or the directory is not there.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.remote_names /rf-images/pbx
    """
    argv = [
        "rsync",
        "--list-only",
        "--no-human-readable",
        "-8",
        "-e",
        " ".join(_ssh() if fresh else _shared(server)),
        _remote(path.rstrip("/") + "/", server),
    ]
    result = __utils__["ringfree_command.run"](argv, deadline=60)
    _must_be_good(result)
    names = [line.split(None, 4)[4] for line in result["out"].splitlines() if len(line.split(None, 4)) == 5]
    return [name.split(" -> ")[0] for name in names if name != "."]


def connection(server):
    """
    The ssh command with which this node reaches a SAN, over a connection that is kept for a minute.

    server
        The SAN's address.

    Returns an argument list without the host.  Raises CommandExecutionError when the SAN cannot be reached.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.connection 10.77.0.22
    """
    return _shared(server)


def _shared(server=None):
    """
    The ssh command over one connection that all rsyncs of the next minute share; opened when it is not there.

    A login is half of a pass over a small container.
    """
    os.makedirs(RUN_DIR, mode=0o700, exist_ok=True)
    server = server or __salt__["ringfree_nfs.server"]()
    argv = _ssh(f"{RUN_DIR}/ssh-{server}")
    if __utils__["ringfree_command.run"]([*argv, "-O", "check", server], deadline=10)["rc"] == 0:
        return argv
    opening = [*argv, "-M", "-N", "-f", "-o", "ControlPersist=60", server]
    if __utils__["ringfree_command.run"](opening, deadline=60)["rc"] != 0:
        result = __utils__["ringfree_command.run"](
            [*_ssh(), server, "true"], deadline=60
        )  # once more, for its words
        _must_be_good(dict(result, rc=result["rc"] or 255))
    return argv


# --- owners -----------------------------------------------------------------------------------------------------------


def owners():
    """
    The owner records on the share.

    Returns a dictionary: container id to its record (``node``, ``store``, ``since``, ``generation``, ``copied``).
    Raises CommandExecutionError when they cannot be read, or one is damaged.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.owners
    """
    export = settings()["shares"]["private"]["export"]
    if ".ringfree" not in remote_names(export):
        return {}
    here = f"{STATE_DIR}/owners-on-share"
    os.makedirs(here, mode=0o700, exist_ok=True)
    _rsync(_remote(f"{export}/.ringfree/owner/"), here + "/", checksum=True)
    found, faults = {}, []
    for name, entry in __utils__["ringfree_files.read_folder"](here).items():
        try:
            found[int(name)] = __utils__["ringfree_owner.load"](entry["data"])
        except (KeyError, ValueError) as error:
            faults.append(f"{export}/.ringfree/owner/{name} on the SAN: {error}")
    if faults:
        raise CommandExecutionError("; ".join(faults))
    return found


def claim(ctids, store, copied=None):
    """
    Write on the share that this node owns containers, and where their live copies are.

    The node's own list, which the fence reads when the share is away, has a container before the share says ``nfs`` of
    it, and loses it only after the share says ``local``.

    ctids
        List of ids.

    store
        ``local`` or ``nfs``.

    copied : None
        Dictionary: id to the bytes that are on the share.

    Returns the records as read back.  Raises CommandExecutionError when another node owns one; nothing is written then.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.claim '[101]' local
    """
    known = owners()
    foreign = [
        f"container {ctid} belongs to {known[ctid]['node']}"
        for ctid in ctids
        if known.get(ctid, {}).get("node", node()) != node()
    ]
    if foreign:
        raise CommandExecutionError("; ".join(foreign) + ": nothing was written.")
    if store == "nfs":
        _list({**live_on_nfs(), **dict.fromkeys(ctids, node())})
    records = {}
    for ctid in ctids:
        before, bytes_ = known.get(ctid), (copied or {}).get(ctid)
        if before and before["store"] == store and bytes_ in (None, int(before["copied"])):
            continue
        records[ctid] = __utils__["ringfree_owner.record"](node(), store, time.time(), before, bytes_)
    if records:
        _push_owners(records)
        known = owners()
    unlike = [ctid for ctid, record in records.items() if known.get(ctid) != record]
    if unlike:
        raise CommandExecutionError(
            f"the owner records of containers {', '.join(map(str, unlike))} are not what was written"
        )
    if store == "local":
        unlist(ctids)
    return {ctid: known[ctid] for ctid in ctids}


def live_on_nfs():
    """
    This node's own list of the containers whose live copy is on the share; it is there when the share is not.

    The fence lets none of them start from local disk.

    Returns a dictionary: id to the node that owns it, as far as this node knows.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.live_on_nfs
    """
    return __utils__["ringfree_owner.load_list"](__utils__["ringfree_files.read"](ON_NFS))


def _list(entries):
    if entries != live_on_nfs():
        os.makedirs(os.path.dirname(ON_NFS), mode=0o755, exist_ok=True)
        __utils__["ringfree_files.write"](ON_NFS, __utils__["ringfree_owner.dump_list"](entries))


def unlist(ctids):
    """
    Take containers out of this node's own list of those that live on the share: their local copies may start.

    For the way back, which works without the share too.  What belongs to another node stays in the list.

    ctids
        List of ids.

    Returns the list that is left.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.unlist '[101]'
    """
    left = {ctid: owner for ctid, owner in live_on_nfs().items() if ctid not in ctids or owner != node()}
    _list(left)
    return left


def note_owners():
    """
    Bring what this node knows by itself in line with the owner records on the share.

    A container that another node owns by now is no longer of this node's manifest, and its old local copy here does not
    start.

    Returns what :py:func:`owners` returns.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.note_owners
    """
    known, here = owners(), live_on_nfs()
    moved = __salt__["vz.manifest"]() or []
    for ctid, owner in known.items():
        if owner["node"] != node() and owner["store"] == "nfs" and (ctid in here or ctid in moved):
            here[ctid] = owner["node"]
    _list(here)
    left = [ctid for ctid in moved if here.get(ctid, node()) == node()]
    if left != moved:
        __salt__["vz.write_manifest"](left)
    return known


def give(ctid, to):
    """
    Hand a container on the share over to another node.

    ctid
        The container's id; it must be down on this node, which must own it.

    to
        The other node's minion id.

    Returns the record as read back.  Raises CommandExecutionError when it may not be handed over, or was started
    meanwhile; it is this node's then.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.give 101 node002
    """
    ctid, owner = int(ctid), owners().get(int(ctid))
    if not owner or owner["node"] != node() or owner["store"] != "nfs":
        what = f"its record says {owner['node']} and {owner['store']}" if owner else "it has no owner record"
        raise CommandExecutionError(
            f"container {ctid} is not this node's on the share: {what}. Nothing was changed."
        )
    if _is_up(ctid):
        raise CommandExecutionError(f"container {ctid} runs on {node()}: stop it first. Nothing was changed.")
    given = _hand(ctid, to, owner)
    if _is_up(ctid):
        _hand(ctid, node(), given)
        raise CommandExecutionError(f"container {ctid} was started on {node()} meanwhile; it stays its own.")
    note_owners()
    return given


def _is_up(ctid):
    now = __salt__["vz.status"](ctid)
    return now["running"] or now["mounted"]


def _hand(ctid, to, before):
    """Write a container's record with another node; read it back."""
    record = __utils__["ringfree_owner.record"](to, "nfs", time.time(), before)
    _push_owners({ctid: record})
    if owners().get(ctid) != record:
        raise CommandExecutionError(f"the owner record of container {ctid} is not what was written")
    return record


def take(ctid, dead=None):
    """
    Become the owner of a container on the share.

    ctid
        The container's id; its owner has handed it over (:py:func:`give`), or it is dead.

    dead : None
        The owner's minion id, when nobody can ask it because it is dead: off, and not to come back by itself.

    Returns the record.  Raises CommandExecutionError when another node owns the container and is not said to be dead.

    CLI Example:

    .. code-block:: bash

        salt node002 cloudstor.take 101 dead=node001
    """
    ctid, owner = int(ctid), owners().get(int(ctid))
    if not owner or owner["store"] != "nfs":
        what = f"its live copy is on {owner['node']}'s local disk" if owner else "it has no owner record"
        raise CommandExecutionError(f"container {ctid} cannot be taken, {what}. Nothing was changed.")
    if state() != "nfs":
        raise CommandExecutionError(f"{node()} is not committed to NFS. Nothing was changed.")
    if owner["node"] != node():
        if owner["node"] != dead:
            raise CommandExecutionError(
                f"container {ctid} belongs to {owner['node']} since {owner['since']}. Nothing was changed. "
                f"'salt-run ringfree.move_owner {ctid} to={node()}' asks it first."
            )
        owner = _hand(ctid, node(), owner)
    _list({**live_on_nfs(), ctid: node()})
    return owner


def conflicts():
    """
    What of this node's containers another node could start as well, or has the address or the name of.

    Returns a list of sentences; empty when all is well.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.conflicts
    """
    known, up, found = owners(), __salt__["vz.running"](), []
    for ctid in up:
        owner = known.get(ctid)
        if owner and owner["node"] != node():
            found.append(
                f"container {ctid} runs on {node()} and belongs to {owner['node']} since {owner['since']}: stop it, or "
                f"make it this node's: 'vzctl stop {ctid}', 'salt-run ringfree.move_owner {ctid} to={node()}'"
            )
    share = settings()["shares"]["private"]["mount"] + "/"
    for ctid in containers():
        private, owner = __salt__["vz.config"](ctid)["private"] or share, known.get(ctid)
        if owner and owner["node"] != node() and ctid not in up and not private.startswith(share):
            found.append(
                f"container {ctid} on the local disk of {node()} has the id of one that belongs to {owner['node']}"
            )
    return found + _same_names()


def _same_names():
    """Containers with one name or address, among all confs in the conf directory, those of other nodes too."""
    seen, found = {}, []
    for ctid in __salt__["vz.containers"]():
        conf = __salt__["vz.config"](ctid)
        for what, values in (("container name", [conf["name"]]), ("IP address", conf["ip"])):
            for value in filter(None, values):
                seen.setdefault((what, value), []).append(str(ctid))
    for (what, value), ctids in seen.items():
        if len(ctids) > 1:
            found.append(f"containers {', '.join(ctids)} have the same {what} {value}")
    return found


def _push_owners(records):
    """Send records to the share; what is there of other containers stays."""
    here = f"{STATE_DIR}/owners-to-share"
    shutil.rmtree(here, ignore_errors=True)
    folder = os.path.join(here, ".ringfree", "owner")
    os.makedirs(folder, mode=0o755)
    for ctid, record in records.items():
        __utils__["ringfree_files.write"](
            os.path.join(folder, str(ctid)), __utils__["ringfree_owner.dump"](record)
        )
    target = _remote(settings()["shares"]["private"]["export"] + "/.ringfree/")
    _rsync(os.path.join(here, ".ringfree") + "/", target, delete=False, checksum=True)


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
    wanted, ssh_argv = settings()["sync"], _shared()
    done = _copy(ctids, ssh_argv, wanted, final, on_done if not final else None)
    if final:
        _verify(ctids, ssh_argv, wanted, lambda ctid: on_done and on_done(ctid, done[ctid]))
    return done


def _refuse_sync(ctids, final):
    """Raise when a copy would overwrite what it must not, or would copy what is no container."""
    known, faults = owners(), []
    for ctid in ctids:
        fault = __utils__["ringfree_owner.objection"](known.get(ctid), node()) or source_fault(ctid)
        if not fault and final and __salt__["vz.status"](ctid)["running"]:
            fault = "still runs"
        if fault:
            faults.append(f"container {ctid} {fault}")
    if faults:
        raise CommandExecutionError("nothing was copied: " + "; ".join(faults))


def _paths(ctid):
    """Source and target of a container's copy."""
    private = __salt__["vz.config"](ctid)["private"]
    return private.rstrip("/") + "/", _remote(f"{settings()['shares']['private']['export']}/{ctid}/")


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
    """Run one rsync from the share's copy of a container to its local private area, which must be at rest."""
    if __salt__["vz.status"](ctid)["running"]:
        raise CommandExecutionError(f"container {ctid} runs; nothing was copied or compared")
    if not os.path.isdir(private):
        raise CommandExecutionError(f"the local private area {private} of container {ctid} is not there")
    wanted = settings()["sync"]
    source = _remote(f"{settings()['shares']['private']['export']}/{ctid}/")
    return _rsync(source, private.rstrip("/") + "/", wanted["deadline"], timeout=wanted["timeout"], **options)


def differences_to_local(ctid, private):
    """
    The files in which the share's copy of a container differs from the local one: what was written since the switch.

    ctid
        The container's id; it must be down.

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
    names = remote_names(copy)
    if not _is_tree(names) and "root.hdd" not in names:
        raise CommandExecutionError(f"{copy} on the SAN holds no container tree")
    wanted = settings()["sync"]
    argv = __utils__["ringfree_sync.rsync"](
        _remote(f"{copy}/"), private.rstrip("/") + "/", _shared(), wanted["timeout"], dry_run=True
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

    The containers of the manifest get the paths of the share; every other file goes as it is.  Files of other nodes
    stay untouched.  A file of another node with the same name and other content is refused.

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
    conflicts = _conf_conflicts(wanted, there, owners())
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
    """The conf directory as the share is to have it."""
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
    return {name: entry for name, entry in entries.items() if "folder" not in entry}


def _same_file(wanted, found):
    return found is not None and wanted == found


def _confs_on_share():
    """A copy of the conf share's files, as on the SAN."""
    here = f"{STATE_DIR}/confs-on-share"
    os.makedirs(here, mode=0o700, exist_ok=True)
    _rsync(_remote(settings()["shares"]["conf"]["export"] + "/"), here + "/", checksum=True)
    return __utils__["ringfree_files.read_folder"](here)


def _conf_conflicts(wanted, there, known):
    """Files on the share that are not this node's to change."""
    found = []
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
    _rsync(here + "/", _remote(settings()["shares"]["conf"]["export"] + "/"), delete=False, checksum=True)


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


# --- the guard --------------------------------------------------------------------------------------------------------


def guard(test=False):
    """
    Keep everybody but this migration from starting a container, across a reboot as well.

    ``DISABLED="yes"`` in vz.conf makes ``vzctl start`` and the init script refuse (exit code 105) any container whose
    conf does not say otherwise; the fence refuses (79) to mount a container that another node owns, or whose live copy
    is on the other store.

    test : False
        Only say what would change.

    Returns a dictionary of changes.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.guard test=True
    """
    return {**fence(test), **_disabled({"DISABLED": "yes"}, test)}


def unguard(test=False):
    """
    Let containers start again; the fence stays.

    test : False
        Only say what would change.

    Returns a dictionary of changes.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.unguard
    """
    values = __utils__["ringfree_conf.parse"](
        __utils__["ringfree_files.read"](__salt__["vz.conf_path"]()) or b""
    )["values"]
    return _disabled({"DISABLED": None}, test) if "DISABLED" in values else {}


def _disabled(wanted, test):
    if not test:
        return __salt__["vz.configure"](wanted)
    return __salt__["vz.changes"](wanted) if wanted["DISABLED"] else {"DISABLED": {"old": "yes", "new": None}}


def fence(test=False):
    """
    Put the fence, an action script that vzctl runs before every mount, into the conf directory.

    It is also what vzctl runs when it has created a container (``vps.create``), unless somebody has a script there.

    test : False
        Only say what would change.

    Returns a dictionary of changes: path to old and new.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.fence test=True
    """
    script = __utils__["ringfree_owner.fence"](settings()["shares"]["private"]["mount"]).encode()
    changes = {}
    files = [(FENCE, script, 0o755), (NODE_FILE, f"{node()}\n".encode(), 0o644)]
    if _is_ours(CREATE_FENCE) is not False:
        files.append((CREATE_FENCE, script, 0o755))
    for path, data, mode in files:
        right = __utils__["ringfree_files.read"](path) == data and stat.S_IMODE(os.stat(path).st_mode) == mode
        if not right:
            changes[path] = {"old": "missing or different", "new": "as declared"}
            if not test:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                __utils__["ringfree_files.write"](path, data, mode)
                os.chmod(path, mode)
    return changes


def _is_ours(path):
    """Whether an action script is the fence; None when there is none."""
    data = __utils__["ringfree_files.read"](path)
    return None if data is None else b"ringfree fence" in data


def unfence(keep=(), test=False):
    """
    Take the fence out of the conf directory, unless it was there before the migration.

    keep : ()
        Names of files that were.

    test : False
        Only say whether anything would be removed.

    Returns True when anything was removed.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.unfence
    """
    ours = [path for path in (FENCE, CREATE_FENCE) if os.path.basename(path) not in keep and _is_ours(path)]
    for path in () if test else ours:
        os.unlink(path)
    return bool(ours)


# --- pace -------------------------------------------------------------------------------------------------------------


def load():
    """
    The node's load and what counts as normal for it.

    Returns ``{"now": number, "normal": number}``: the load average of the last minute, and the larger of
    ``ringfree:start:load_per_cpu`` for each CPU and one and a half times the load before the migration.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.load
    """
    before = journal()["facts"].get("load", 0)
    per_cpu = settings()["start"]["load_per_cpu"]
    return {"now": os.getloadavg()[0], "normal": round(max(per_cpu * (os.cpu_count() or 1), 1.5 * before), 2)}


def pace():
    """
    Hold the next start back while the load is above normal or the share answers slowly (more than a second for one
    question), at most ``ringfree:start:pace`` seconds: containers that are down wait for it.

    Returns the seconds that it held back.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.pace
    """
    wanted = settings()
    started = time.monotonic()
    while time.monotonic() - started < wanted["start"]["pace"]:
        question = ["stat", "--file-system", wanted["shares"]["private"]["mount"]]
        asked = __utils__["ringfree_command.run"](question, deadline=wanted["nfs"]["deadline"])
        found = load()
        if found["now"] <= found["normal"] and asked["rc"] == 0 and asked["seconds"] < SLOW:
            break
        time.sleep(0.5)
    return round(time.monotonic() - started, 1)


def wait_load():
    """
    Wait until the load is normal, at most ``ringfree:start:load_wait`` seconds.

    Returns what :py:func:`load` returns.  Raises CommandExecutionError when it stays above.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.wait_load
    """
    wait = settings()["start"]["load_wait"]
    end = time.monotonic() + wait
    while True:
        found = load()
        if found["now"] <= found["normal"]:
            return found
        if time.monotonic() > end:
            raise CommandExecutionError(
                f"the load is {found['now']:.1f} after {wait} s, normal is up to {found['normal']:.1f} "
                f"(ringfree:start:load_per_cpu)"
            )
        time.sleep(1)


# --- preflight --------------------------------------------------------------------------------------------------------


def preflight():
    """
    Look at everything that could stop a migration of this node; change nothing that lasts.

    The export is mounted beside everything else for the time of a write-probe and unmounted again.

    Returns ``{"node": text, "state": text, "findings": [text], "notes": [text], "containers": {ctid: {"name", "ip",
    "layout", "bytes", "inodes"}}, "need": {"bytes", "inodes"}, "free": {"bytes", "inodes"}}``.  A finding stops the
    migration.

    CLI Example:

    .. code-block:: bash

        salt node001 cloudstor.preflight
    """
    report = {
        "node": node(),
        "state": "unknown",
        "findings": [],
        "notes": [],
        "containers": {},
        "need": {},
        "free": {},
    }
    try:
        settings()
        report["state"] = state()
        report["notes"] += filter(None, [__salt__["ringfree_nfs.told_otherwise"]()])
        between = __salt__["ringfree_failover.between"]()
    except CommandExecutionError as error:
        report["findings"].append(str(error))
        return report
    if between:
        report["findings"].append(between)
        return report
    if "vz.status" not in __salt__:
        report["findings"].append("vzctl or vzlist is not installed: this is no OpenVZ node")
        return report
    checks = [_check_tools, _check_confs, _check_names]
    if report["state"] == "nfs":
        checks += [_check_conflicts]
    else:
        checks += [
            _check_mount_points,
            _check_guard,
            _check_dumps,
            _check_layout,
            _check_health,
            _check_deadman,
        ]
        checks += [_check_san, _check_owners, _check_conf_share]
    for check in checks:
        try:
            check(report)
        except _Unreachable as error:
            report["findings"].append(str(error))
            break
        except (CommandExecutionError, OSError, ValueError) as error:
            report["findings"].append(str(error))
    return report


def _check_tools(report):
    """Programs that the migration calls."""
    for program in ("rsync", "ssh", "mount.nfs", "vzctl", "vzlist", "timeout"):
        if not salt.utils.path.which(program):
            report["findings"].append(f"{program} is not installed on the node")
    if __opts__.get("state_queue"):
        report["findings"].append(
            "the minion's configuration sets state_queue: Salt can then let a highstate and a step of the migration "
            "wait for each other for ever; remove it"
        )
    ssh = settings()["ssh"]
    for path in (ssh["key"], *([] if ssh["host_keys"] else [ssh["known_hosts"]])):
        if not os.path.isfile(path):
            report["findings"].append(f"{path} does not exist")


def _check_confs(report):
    """vz.conf and the container confs mean the same to vzctl and to a shell; containers are listed."""
    report["findings"] += __salt__["vz.ambiguities"]()
    up = __salt__["vz.running"]()
    for ctid in containers():
        conf = __salt__["vz.config"](ctid)
        report["containers"][ctid] = {
            "name": conf["name"] or conf["hostname"],
            "ip": conf["ip"],
            "layout": conf["layout"] or with_layout(ctid, {})["VE_LAYOUT"],
            "running": ctid in up,
            "bytes": 0,
            "inodes": 0,
        }
    for name, entry in __utils__["ringfree_files.read_folder"](os.path.realpath(CONF_DIR)).items():
        if "link" in entry and (entry["link"].startswith("/") or ".." in entry["link"].split("/")):
            report["findings"].append(
                f"{CONF_DIR}/{name} is a link to {entry['link']}: the snapshot could not bring that file back; put the "
                f"file itself in its place"
            )
    for ctid in __salt__["vz.manifest"]() or []:
        if report["state"] == "in_flight" and ctid not in report["containers"]:
            report["findings"].append(f"container {ctid} of the manifest has no conf on this node")


def _check_names(report):
    """Priority and exempt names resolve; every container has a check or is exempt from it by name."""
    wanted = settings()["containers"]
    for key, names in (("priority", wanted["priority"]), ("exempt", list(wanted["exempt"]))):
        for fault in resolve(names)["faults"]:
            report["findings"].append(f"pillar ringfree:containers:{key}: {fault}")
    for ctid, left in checks(sorted(report["containers"])).items():
        if not left:
            report["findings"].append(
                f"container {ctid} is exempt from every check, so that nothing could confirm it after its start: "
                f"give it one (pillar ringfree:containers:checks)"
            )


def _check_guard(report):
    """DISABLED in vz.conf keeps others from starting a container; a conf that says otherwise overrides it."""
    if report["state"] == "local":
        own = __utils__["ringfree_conf.parse"](
            __utils__["ringfree_files.read"](__salt__["vz.conf_path"]()) or b""
        )["values"]
        if "DISABLED" in own:
            report["findings"].append(
                "/etc/vz/vz.conf sets DISABLED; the migration needs this key for itself: remove the line"
            )
    for ctid in report["containers"]:
        data = __utils__["ringfree_files.read"](__salt__["vz.conf_path"](ctid)) or b""
        if __utils__["ringfree_conf.parse"](data)["values"].get("DISABLED") == "no":
            report["findings"].append(
                f'{__salt__["vz.conf_path"](ctid)} says DISABLED="no", which would let others start the container '
                f"while it moves: remove the line"
            )
    if _is_ours(FENCE) is False:
        report["findings"].append(
            f"{FENCE} exists and is not the fence of this project; move what it does into CTID.premount scripts"
        )
    if _is_ours(CREATE_FENCE) is False:
        report["notes"].append(
            f"{CREATE_FENCE} exists and stays: a new container on the share belongs to the node that starts it first"
        )


def _check_dumps(report):
    """A suspended container would be restored on other storage, or silently boot cold."""
    for path in __salt__["vz.dumps"]():
        report["findings"].append(
            f"{path}: a suspended container; resume it or stop it ('vzctl resume', 'vzctl stop') first"
        )


def _check_layout(report):
    """The private areas are where the confs say, are container trees and on local disk; the layout is named."""
    nfs3 = "vers=3" in settings()["nfs"]["options"].split(",")
    for ctid in to_move():
        entry = report["containers"].get(ctid)
        if entry is None:
            continue
        if entry["layout"].startswith("ploop") and not nfs3:
            report["findings"].append(
                f"container {ctid} is ploop, which needs NFS version 3: ringfree:nfs:options lacks vers=3"
            )
        if entry["running"]:
            proof = __salt__["vz.root_mount"](ctid)
            if not proof["ok"]:
                report["findings"].append(
                    f"container {ctid} runs from another tree than its conf names: {proof['why']}"
                )
        if report["state"] == "local":
            fault = source_fault(ctid)
            if fault:
                report["findings"].append(f"container {ctid}: {fault}")
    layouts = sorted({entry["layout"].split(":")[0] for entry in report["containers"].values()})
    report["notes"].append(f"container layouts: {', '.join(layouts) or 'none'}")
    if not to_move():
        report["notes"].append("no container runs on this node: nothing will be moved")


def _check_health(report):
    """What does not answer now would not after the move either, and a whole node would go back for it."""
    if report["state"] != "local":
        return
    up = [ctid for ctid, entry in report["containers"].items() if entry["running"]]
    try:
        __salt__["vz.wait_healthy"]({ctid: asked for ctid, asked in checks(up).items() if asked}, PATIENCE)
    except CommandExecutionError as error:
        report["findings"].append(
            f"{error}. Mend it, or exempt the container from the check (pillar ringfree:containers:exempt)"
        )


def _check_deadman(report):
    """Nothing brings the node back just now, and what would do so is proved to work here."""
    if __salt__["ringfree_deadman.firing"]():
        report["findings"].append(
            "the dead-man brings this node back to local storage just now: wait for its end"
        )
        return
    __salt__["ringfree_deadman.armed"]()
    report["notes"].append(__salt__["ringfree_deadman.rehearse"]())


def _check_conflicts(report):
    """Nothing of this node runs, or could run, on another one as well."""
    try:
        report["findings"] += conflicts()
    except CommandExecutionError as error:
        report["notes"].append(f"who owns what on the share could not be asked: {error}")


def _check_mount_points(report):
    """What lies under a mount point would be hidden, and could be started from."""
    report["findings"] += __salt__["ringfree_boot.open_mount_points"]()["faults"]


def _check_san(report):
    """The SAN answers over ssh and NFS, both show the same, there is room, and nothing that is used is lost."""
    server = __salt__["ringfree_nfs.server"]()
    shares = settings()["shares"]
    before = len(report["findings"])
    for share in shares.values():
        try:
            remote_names(share["export"], fresh=True)
        except _Unreachable as error:
            raise _Unreachable(f"the SAN {server} over ssh: {error}") from error
        except CommandExecutionError as error:
            report["findings"].append(
                f"the SAN {server}, {share['export']} over ssh: {error}. Where it is missing: 'mkdir -p "
                f"{share['export']}' on the SAN, and export it"
            )
    abilities = {}
    for name, share in shares.items():
        try:
            abilities[name] = __salt__["ringfree_nfs.probe"](name)
        except CommandExecutionError as error:
            report["findings"].append(f"the export {server}:{share['export']}: {error}")
            continue
        if abilities[name]["same_directory"] is not True:
            report["findings"].append(abilities[name]["same_directory"])
    if len(report["findings"]) > before:
        return
    report["free"] = {
        "bytes": abilities["private"]["bytes_free"],
        "inodes": abilities["private"]["inodes_free"],
    }
    _check_room(report, abilities["private"])


def _check_room(report, abilities):
    """What the containers use and how much of it is still to be copied."""
    known = owners()
    need = {"bytes": 0, "inodes": 0}
    for ctid in to_move():
        if ctid not in report["containers"] or source_fault(ctid):
            continue
        used = __salt__["ringfree_nfs.scan"](__salt__["vz.config"](ctid)["private"])
        report["containers"][ctid].update(bytes=used["bytes"], inodes=used["inodes"])
        held = __utils__["ringfree_probe.hold"](used, abilities, settings()["accept"])
        report["findings"] += [f"container {ctid} {sentence}" for sentence in held["lost"]]
        report["notes"] += [f"container {ctid} {sentence} (accepted)" for sentence in held["accepted"]]
        copied = int(known.get(ctid, {}).get("copied", 0))
        need["bytes"] += max(0, used["bytes"] - copied)
        need["inodes"] += 0 if copied else used["inodes"]
    spare = 1 + settings()["sync"]["spare"] / 100
    report["need"] = {key: int(value * spare) for key, value in need.items()}


def _check_owners(report):
    """No container belongs to another node; a copy that nobody owns is not overwritten unasked."""
    known = owners()
    names = remote_names(settings()["shares"]["private"]["export"])
    for ctid in report["containers"]:
        owner = known.get(ctid)
        if owner and owner["node"] != node():
            report["findings"].append(
                f"container {ctid} belongs to {owner['node']} on the share since {owner['since']}"
            )
        if owner and owner["store"] == "nfs" and report["state"] == "local":
            report["findings"].append(
                f"container {ctid} has its live copy on the share since {owner['since']}; its local copy is old"
            )
        if not owner and str(ctid) in names and not settings()["sync"]["adopt"]:
            report["findings"].append(
                f"the share has a copy of container {ctid} that nobody owns; remove it, or set ringfree:sync:adopt "
                f"to true to overwrite it"
            )


def _check_conf_share(report):
    """No file on the conf share stands in the way of this node's."""
    report["findings"] += _conf_conflicts(_wanted_confs(), _confs_on_share(), owners())
