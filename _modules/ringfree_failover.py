"""
From one SAN to the other: the containers of a node stop, and start from the copy that the other SAN holds.

It is the same code there and back.  When the SAN in use answers, what was written last is copied while the containers
are down, and nothing is lost.  When it is dead, containers that hang on it are ended by force, and what was written
since the copy is lost.

:configuration: the pillar ``ringfree`` (``replication``, ``start``, ``stop``, ``nfs``)
"""

import logging
import os
import re
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_failover"

FSTAB = "/etc/fstab"
PROC = "/proc"
SHARES = ("conf", "root", "private")  # in the order in which they are unmounted
#: Seconds. Measured with the kernel's client and a dead SAN: an unmount takes 1 s, and what was killed is gone within
#: 2 s once the calls that wait are ended.
QUICK = 15  # for each unmount of a SAN that does not answer
FAST = 30  # for 'vzctl stop --fast'
PATIENT = 5  # until calls that wait for the SAN are ended, when what was killed does not end by itself
ENDING = 60  # until what was killed counts as not to be ended
TRIES = 6  # of a forced unmount: a program whose call is ended holds the share until it has made its next ones in vain


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["ringfree_settings.get"]()


def _named(san):
    return f"{san} ({_settings()['nfs'][san]})"


def _list(ctids):
    return ", ".join(map(str, ctids))


def _clock(moment):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _fact():
    """What the journal says of the last failover of this node."""
    return __salt__["ringfree_journal.read"]()["facts"].get("failover") or {}


def _open():
    """The failover that has begun and has not ended, or an empty dictionary."""
    found = _fact()
    return found if found.get("open") and __salt__["ringfree_journal.state"]() == "in_flight" else {}


def _keep(**changes):
    fact = {**_fact(), **changes}
    __salt__["ringfree_journal.remember"]("failover", fact)
    return fact


# --- what can be said without changing anything -----------------------------------------------------------------------


def between():
    """
    One sentence about a failover that has not ended: where the containers are, and what to type.

    Returns text; empty when there is none.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_failover.between
    """
    fact = _open()
    if not fact:
        return ""
    node = __opts__["id"]
    command = 'salt-run state.orch failover pillar=\'{"nodes": ["%s"], "to": "%s"}\''
    return (
        f"{node} is between the SANs, on its way to {_named(fact['to'])}: nothing starts by itself there, containers "
        f"{_list(fact['containers']) or '(none)'} may be down, their newest data is on {_named(fact['at'])}. "
        f"'{command % (node, fact['to'])}' goes on, '{command % (node, _other(fact['to']))}' goes the other way."
    )


def told():
    """
    What the last failover lost.

    Returns one sentence; empty when it lost nothing, or when there was none.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_failover.told
    """
    fact = _fact()
    if fact.get("open", True) or fact.get("lost") is None:
        return ""
    return f"It came from {fact['from']} when that had died: {_lost(fact['lost'], fact['begun'])}"


def _lost(since, now):
    age = __utils__["ringfree_replica.old"](now - since)
    return f"what containers wrote after {_clock(since)}, in the last {age} before the failover, is lost."


def _other(san):
    return "secondary" if san == "primary" else "primary"


def look(to, accept_age=False, max_age=None):
    """
    What a failover of this node would do, and what stands in its way.  Changes nothing.

    to
        ``primary`` or ``secondary``.

    accept_age : False
        Whether a copy may be older than allowed, or may be made as a whole while the containers are down.

    max_age : None
        Seconds; ``None`` for ``ringfree:replication:max_age``.

    Returns ``{"node": text, "from": text, "to": text, "todo": bool, "containers": [ctid], "hung": [share], "copy":
    bool, "copy_at": seconds or None, "lost": seconds or None, "findings": [text], "said": text}``.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_failover.look secondary
    """
    node, state, fact = __opts__["id"], __salt__["ringfree_journal.state"](), _open()
    seen = {"node": node, "to": to, "todo": False, "containers": [], "findings": [], "hung": [], "said": ""}
    seen.update({"from": None, "copy": False, "copy_at": None, "lost": None})
    if to not in ("primary", "secondary"):
        seen["findings"].append(f'\'{to}\' is no SAN: say "to": "primary" or "secondary"')
    elif state == "local":
        seen["findings"].append(f"{node} is on local storage: it uses no SAN")
    elif state == "in_flight" and not fact:
        seen["findings"].append(
            f"{node} is in the middle of a migration: end it first, by 'migrate' or 'rollback'"
        )
    if seen["findings"]:
        return seen
    seen["from"] = fact.get("at") or __salt__["ringfree_nfs.san"]()
    if seen["from"] == to and not fact:
        return {**seen, "said": f"{node} runs from {_named(to)} already."}
    seen["todo"] = True
    seen["hung"] = _hung(to)
    seen["containers"] = fact["containers"] if fact else _running(seen["hung"])
    if seen["from"] != to and fact.get("copied") != to:
        _look_at_copy(seen, fact, accept_age, max_age or _settings()["replication"]["max_age"])
    else:
        seen["lost"] = fact.get("lost")
    if not seen["findings"] and (seen["copy_at"] is not None or not seen["copy"]):
        seen["findings"] += _faults_of(to, seen["containers"])
    if not seen["findings"]:
        seen["findings"] += _unmountable(to)
    seen["said"] = _plan(seen)
    return seen


def _plan(seen):
    count = len(seen["containers"])
    head = (
        f"{seen['node']}: {count} containers ({_list(seen['containers'])}) go from {_named(seen['from'])} to "
        f"{_named(seen['to'])}"
    )
    if seen["from"] == seen["to"]:
        return f"{seen['node']}: {count} containers start again from {_named(seen['to'])}, with their newest data."
    hung = (
        f"{_named(seen['from'])} does not answer: what hangs on it is ended by force. "
        if seen["hung"]
        else ""
    )
    if seen["lost"] is not None:
        return f"{head}. {hung}Attention: {_lost(seen['lost'], time.time())}"
    return f"{head}. {hung}What was written last is copied while they are down; nothing is lost."


def _hung(to):
    """The shares that are mounted from another SAN than the target and do not answer now."""
    target, found = _settings()["nfs"][to], __salt__["ringfree_nfs.in_use"]()
    silent = __salt__["ringfree_nfs.silent"]()
    return [share for share in silent if not found[share]["source"].startswith(f"{target}:")]


def _there():
    """The containers whose root is mounted below the root share: mountinfo answers when the SAN does not."""
    roots = _mount_point("root")
    found = {
        os.path.basename(mount["mountpoint"])
        for mount in __salt__["vz.mounts"]()
        if os.path.dirname(mount["mountpoint"]) == roots
    }
    return sorted(int(name) for name in found if re.fullmatch("[1-9][0-9]{0,9}", name))


def _running(hung):
    """The containers that run from the share, in start order."""
    there = _there()
    if not hung:
        up = set(__salt__["vz.running"]())
        there = [ctid for ctid in there if ctid in up]
    order = __salt__["vz.manifest"]() or []
    return sorted(there, key=lambda ctid: (order.index(ctid) if ctid in order else len(order), ctid))


def _look_at_copy(seen, fact, accept_age, limit):
    """How old the target's copy is, and whether the last changes can still be fetched."""
    source, to, ctids = seen["from"], seen["to"], seen["containers"]
    try:
        there = __salt__["ringfree_replica.records"](to)
    except CommandExecutionError as error:
        seen["findings"].append(f"{_named(to)} cannot be asked: {error}")
        return
    seen["copy"] = _can_copy(source, seen["hung"])
    at = __utils__["ringfree_replica.copied"](there["markers"], source, ctids)
    if there["live"].get(seen["node"], {}).get("san") == to:
        at = {"at": None, "missing": ctids}  # it was live there since, and has not been copied to again
    seen["copy_at"] = at["at"] if at["at"] is not None else fact.get("copy_at", {}).get(to)
    seen["lost"] = None if seen["copy"] else seen["copy_at"]
    first = (
        f"copy first: 'salt {_settings()['replication']['node'] or seen['node']} ringfree_replica.replicate'"
    )
    if seen["copy_at"] is None:
        if not (seen["copy"] and accept_age):
            which = f" of containers {_list(at['missing'])}" if at["missing"] else ""
            seen["findings"].append(f"{_named(to)} holds no complete copy{which} made from {source}; {first}")
        return
    if not (seen["copy"] or seen["hung"] or accept_age) and _is_on(source):
        seen["findings"].append(
            f"the share of {_named(source)} answers, but what was written last could not be copied (does ssh to it "
            f'work?); "accept_age": true goes without it'
        )
    age, old = time.time() - seen["copy_at"], __utils__["ringfree_replica.old"]
    if age > limit and not accept_age:
        seen["findings"].append(
            f"the copy on {_named(to)} is {old(age)} old, from {_clock(seen['copy_at'])}; allowed are {old(limit)} "
            f'(ringfree:replication:max_age). {first[0].upper()}{first[1:]}; or say "accept_age": true'
        )


def _can_copy(source, hung):
    """Whether the source still gives what was written last."""
    by_node = _settings()["replication"]["from"] == "node"
    mounted = __salt__["ringfree_nfs.in_use"]()["private"]["source"] or ""
    if by_node and (hung or not mounted.startswith(f"{_settings()['nfs'][source]}:")):
        return False
    try:
        __salt__["ringfree_san.names"](
            _settings()["shares"]["private"]["export"], server=_settings()["nfs"][source]
        )
    except CommandExecutionError:
        return False
    return True


def _faults_of(san, ctids):
    """What a SAN lacks of this node's containers: owner records, private areas, confs."""
    node, shares = __opts__["id"], _settings()["shares"]
    owners = __salt__["ringfree_replica.records"](san)["owners"]
    areas = __salt__["ringfree_replica.trees"](san)
    confs = __salt__["ringfree_san.names"](shares["conf"]["export"], server=_settings()["nfs"][san])
    faults = []
    for ctid in ctids:
        owner = owners.get(ctid)
        if not owner or (owner["node"], owner["store"]) != (node, "nfs"):
            said = f"{owner['node']}, {owner['store']}" if owner else "nothing"
            faults.append(f"the owner record of container {ctid} on {_named(san)} says {said}")
        if ctid not in areas:
            faults.append(f"{_named(san)} holds no container tree of {ctid}")
        if f"{ctid}.conf" not in confs:
            faults.append(f"the conf share of {_named(san)} lacks {ctid}.conf")
    return faults


def _unmountable(san):
    """Whether a SAN's exports can be mounted at all, tried beside everything else."""
    faults = []
    for share, entry in _settings()["shares"].items():
        mounted = __salt__["ringfree_nfs.in_use"]()[share]["source"] or ""
        if mounted == f"{_settings()['nfs'][san]}:{entry['export']}":
            continue
        try:
            __salt__["ringfree_nfs.try_mount"](_settings()["nfs"][san], share)
        except (CommandExecutionError, OSError) as error:
            faults.append(str(error))
    return faults


# --- the failover -----------------------------------------------------------------------------------------------------


def failover(to, accept_age=False, max_age=None):
    """
    Move this node's containers from the SAN in use to the other one, or go on with a move that was cut short.

    to
        ``primary`` or ``secondary``.

    accept_age : False
        Whether a copy may be older than allowed, or may be made as a whole while the containers are down.

    max_age : None
        Seconds; ``None`` for ``ringfree:replication:max_age``.

    Returns a list of ``{"what": text, "detail": text}``, one for each step; an empty one when there was nothing to do.
    Raises CommandExecutionError, before anything changes, when something stands in the way; later, with the step that
    failed: nothing starts by itself then, and the same call goes on.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_failover.failover secondary
    """
    seen = look(to, accept_age, max_age)
    if seen["findings"]:
        raise CommandExecutionError("nothing was changed: " + "; ".join(seen["findings"]))
    if not seen["todo"]:
        return []
    __salt__["ringfree_run.hold"]("the failover")
    try:
        return _failover(seen, accept_age)
    finally:
        __salt__["ringfree_run.release"]()


def _failover(seen, accept_age):
    to = seen["to"]
    _begin(seen)
    done = []
    for what, act in (
        ("nothing starts by itself", _guard),
        ("the containers are stopped", lambda: _stop(to)),
        ("the other SAN is claimed", lambda: _claim(to, seen["copy"])),
        ("what was written last is copied", lambda: _copy(to, seen["copy"], accept_age)),
        ("the shares are unmounted", lambda: _unmount(to)),
        ("the other SAN has what is needed", lambda: _verify(to)),
        ("/etc/ringfree and fstab name the other SAN", lambda: _name(to)),
        ("the shares of the other SAN are mounted", lambda: _mount(to)),
        ("the containers run and answer", lambda: _start(to)),
        ("containers can start by themselves", lambda: _end(to)),
    ):
        __salt__["ringfree_journal.announce"](what, "intent")
        try:
            detail = act()
        except Exception as error:
            said = str(error)
            if not isinstance(error, (CommandExecutionError, OSError, ValueError, KeyError)):
                log.exception("the failover ends with a failure of: %s", what)
                said = f"{type(error).__name__}: {error}"
            __salt__["ringfree_journal.announce"](what, "failed", note=said)
            raise CommandExecutionError(f"not done: {what}: {said}") from error
        __salt__["ringfree_journal.announce"](what, "verified", note=detail or None)
        done.append({"what": what, "detail": detail or "done"})
    return done


def _begin(seen):
    """Open the failover in the journal, or turn the one that is open; its list of containers is written once."""
    fact, to = _open(), seen["to"]
    if not fact:
        fact = {"containers": seen["containers"], "at": seen["from"], "begun": time.time(), "copied": None}
        fact.update(lost=None, claimed=None, copy_at={})
    copy_at = {**fact["copy_at"], to: seen["copy_at"]}
    fact.update({"open": True, "from": seen["from"], "to": to, "copy_at": copy_at})
    __salt__["ringfree_journal.remember"]("failover", fact)
    if __salt__["ringfree_journal.state"]() == "nfs":
        __salt__["ringfree_journal.set_state"]("in_flight")
    __salt__["ringfree_journal.mark"]("failover", "intent", note=to)


def _guard():
    """Before anything else, and without the fence, which lies on the share; a copy under way gives up."""
    __salt__["ringfree_run.end_busy"]()
    __salt__["vz.configure"]({"DISABLED": "yes"})
    return ""


def _is_on(san):
    """Whether the private share is mounted from a SAN."""
    source = __salt__["ringfree_nfs.in_use"]()["private"]["source"] or ""
    return source.startswith(f"{_settings()['nfs'][san]}:")


def _stop(to):
    """What is mounted from the other SAN is stopped; by force only when that does not answer."""
    if _is_on(to):
        return "they are on the other SAN already"
    there = _there()
    # Asked once more: a SAN that was only slow is not treated as a dead one.
    if _hung(to) or (there and not __salt__["ringfree_nfs.in_use"]()["private"]["source"]):
        return end_by_force(_settings()["nfs"][_other(to)])
    if there:
        order = [ctid for ctid in _fact()["containers"] if ctid in there]
        order += [ctid for ctid in there if ctid not in order]
        wanted = _settings()["stop"]
        __salt__["vz.stop"](list(reversed(order)), wanted["workers"], wanted["deadline"])
    return f"{len(there)} containers"


def _claim(to, source_answers):
    """The target's live record comes before the last copy: a replication planned before cannot be written after it."""
    fact = _fact()
    if fact["claimed"] and fact["claimed"]["san"] == to:
        return ""
    known = [fact["claimed"]]
    if source_answers:  # what a dead one says was copied with the rest
        known.append(__salt__["ringfree_replica.records"](fact["at"])["live"].get(__opts__["id"]))
    _keep(claimed=__salt__["ringfree_replica.claim"](to, known))
    return ""


def _copy(to, source_answers, accept_age):
    """What was written since the last replication; or, when the source is dead, the moment from which on it is lost."""
    fact = _fact()
    if fact["at"] == to or fact["copied"] == to:
        return "not needed"
    known = fact["copy_at"][to]
    if source_answers:
        try:
            __salt__["ringfree_replica.last_copy"](fact["at"], to, fact["containers"])
            _keep(copied=to, lost=None)
            return "nothing is lost"
        except CommandExecutionError as error:
            if known is None or not accept_age:
                raise CommandExecutionError(
                    f'{error}. To go on with the copy of {_clock(known) if known else "before"} say "accept_age": true'
                ) from error
    if known is None:
        raise CommandExecutionError(
            f"{_named(to)} holds no complete copy, and {_named(fact['at'])} does not answer"
        )
    claimed = __salt__["ringfree_replica.claim"](to, [fact["claimed"]], known)
    __salt__["ringfree_replica.settle"](to)
    _keep(copied=to, lost=known, claimed=claimed)
    return _lost(known, fact["begun"])


def _unmount(to):
    """All shares of the other SAN, proved from mountinfo; never by force while something is mounted from them."""
    target = _settings()["nfs"][to]
    for share in SHARES:
        entry = __salt__["ringfree_nfs.in_use"]()[share]
        if entry["source"] and not entry["source"].startswith(f"{target}:"):
            __salt__["ringfree_nfs.unmount"](entry["mount"])
    __salt__["ringfree_nfs.set_variables"]({"nfsmounted": "0"})
    return ""


def _verify(to):
    faults = _faults_of(to, _fact()["containers"])
    if faults:
        raise CommandExecutionError("; ".join(faults))
    # From here on it is no copy any more.
    __salt__["ringfree_replica.forget"](to, _fact()["containers"])
    return f"{len(_fact()['containers'])} containers"


def _name(to):
    """/etc/ringfree/nfs, and our block of fstab, so that a reboot mounts the right SAN."""
    nfs = _settings()["nfs"]
    __salt__["ringfree_nfs.set_variables"]({"nfs": nfs[to]})
    data = __utils__["ringfree_files.read"](FSTAB) or b""
    new = __utils__["ringfree_fstab.with_server"](data, nfs[_other(to)], nfs[to])
    if new != data:
        __utils__["ringfree_files.write"](FSTAB, new)
    return nfs[to]


def _mount(to):
    """The three shares; then every container must resolve to them."""
    shares, nfs = _settings()["shares"], _settings()["nfs"]
    for share in reversed(SHARES):
        __salt__["ringfree_nfs.mount"](f"{nfs[to]}:{shares[share]['export']}", shares[share]["mount"])
    for ctid in _fact()["containers"]:
        conf = __salt__["vz.config"](ctid)
        for key in ("private", "root"):
            wanted = f"{shares[key]['mount']}/{ctid}"
            if conf[key] != wanted:
                raise CommandExecutionError(
                    f"on the conf share of {_named(to)} the {key} of container {ctid} is {conf[key]}, not {wanted}"
                )
    return ""


def _start(to):
    """In order; all of them answer, and run from the other SAN. One that does not keeps no other one down."""
    # Before the first one: what it writes is newer than what the other SAN holds.
    ctids = _keep(at=to, copied=None)["containers"]
    up = set(__salt__["vz.running"]())
    done = __salt__["ringfree_start.in_order"](
        [ctid for ctid in ctids if ctid not in up], go_on=True, on_step=_started
    )
    up = set(__salt__["vz.running"]())
    faults = [*done["faults"], *done["silent"].values()]
    try:
        __salt__["ringfree_start.answer"](
            [ctid for ctid in ctids if ctid in up and ctid not in done["silent"]]
        )
    except CommandExecutionError as error:
        faults.append(str(error))
    if faults:
        raise CommandExecutionError("; ".join(faults))
    proofs = {ctid: __salt__["vz.root_mount"](ctid) for ctid in ctids}
    astray = [f"container {ctid}: {proof['why']}" for ctid, proof in proofs.items() if not proof["ok"]]
    if astray or not _is_on(to):
        raise CommandExecutionError(
            "; ".join(astray) or f"the private share is not mounted from {_named(to)}"
        )
    return f"{len(ctids)} containers"


def _started(ctid, phase, _):
    if phase == "done":
        __salt__["ringfree_journal.announce"]("start", "done", container=ctid)


def _end(to):
    """The node rests on NFS again."""
    __salt__["ringfree_guard.unguard"]()
    __salt__["ringfree_nfs.set_variables"](__salt__["ringfree_nfs.wanted_variables"]())
    __salt__["ringfree_journal.mark"]("failover", "verified", note=to)
    _keep(open=False, ended=time.time())
    __salt__["ringfree_journal.set_state"]("nfs")
    return told()


# --- by force ---------------------------------------------------------------------------------------------------------


def end_by_force(source, lazily=True):
    """
    End what hangs on a SAN that does not answer, and unmount its shares.  What was not written yet is lost.

    For a failover, and for a way back that discards what was written on NFS; nothing else does this.

    The order: the conf share is unmounted, or taken out of sight, so that vzctl has confs to read; vzctl ends the
    containers whose confs lead elsewhere by then, as it would hang on the others; what is left of their processes is
    killed, and calls that wait for the SAN are ended by a forced unmount (the kernel's client says busy and does so all
    the same, a client in user space is gone then).  At last, when every container is proved down, the shares are
    unmounted.  Nothing is asked of the SAN, and nothing is forced while something else than containers and shares of
    this node is mounted from the same file system.

    source
        The address of the SAN.

    lazily : True
        Whether all that is still mounted may be taken out of sight.  Without that only the root share is, and only
        when nothing holds it but roots of containers: no path leads to those any more, as it would lead through the
        dead share.

    Returns text.  Raises CommandExecutionError when the SAN answers, a process of a container lives, or something is
    still mounted; without ``lazily`` not for a share that something holds.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_failover.end_by_force 10.77.0.21
    """
    if __salt__["ringfree_nfs.in_use"]()["private"]["source"] and not __salt__["ringfree_nfs.silent"]():
        raise CommandExecutionError(f"{source} answers: nothing was ended by force")
    steps, there = [], [ctid for ctid in _there() if not _is_home(ctid)]
    held = _free_confs(source, steps)
    said = _stop_fast(there)
    _end_processes(there, source, steps, said)
    if lazily or _unreachable(source):
        _umount([point for point in _mounted_shares(source) if point == _mount_point("root")], ["-l"], steps)
    _unmount_dead(_mounted_shares(source), steps)
    for point in _left(source) if lazily else []:
        _umount([point], ["-l"], steps)
    left = [point for point in _left(source) if lazily or point not in _mounted_shares(source)]
    if left:
        raise CommandExecutionError(
            f"{', '.join(left)} is still mounted from the dead SAN: {'; '.join(steps)}"
        )
    return f"{len(there)} containers, by force: {', '.join(steps)}{held}"


def _free_confs(source, steps):
    """
    The conf share goes first, and whoever stands in it keeps no container: vzctl needs the confs below it.

    No data of a container is on it, so that it may be taken out of sight; returns who holds it then, in words.
    """
    conf = [point for point in _mounted_shares(source) if point == _mount_point("conf")]
    _unmount_dead(conf, steps)
    left = [point for point in conf if point in _mounted_shares(source)]
    holders = [holder for point in left for holder in __salt__["ringfree_nfs.users"](point)]
    _umount(left, ["-l"], steps)
    if not holders:
        return ""
    return f"; the conf share, which is out of sight now, is held by process {', '.join(holders)}"


def _stop_fast(ctids):
    """What vzctl says of each container that it can end without looking at anything on the dead SAN."""
    commands = {ctid: ["vzctl", "stop", str(ctid), "--fast"] for ctid in ctids if _leads_elsewhere(ctid)}
    done = __utils__["ringfree_command.run_many"](commands, len(commands), FAST)
    return {ctid: __utils__["ringfree_command.describe"](result) for ctid, result in done}


def _leads_elsewhere(ctid):
    """Whether vzctl finds everything of a container on file systems that answer: conf, private area and root."""
    table, real = __salt__["vz.mounts"](), __salt__["ringfree_nfs.real"]
    try:
        conf = __salt__["vz.config"](ctid)
        paths = [__salt__["vz.conf_dir"](), conf["private"], conf["root"]]
        covering = [__utils__["ringfree_mounts.covering"](table, real(path)) for path in paths if path]
    except (CommandExecutionError, ValueError):  # its conf is on the dead SAN, too
        return False
    return len(covering) == len(paths) and not any(map(__utils__["ringfree_mounts.is_nfs"], covering))


def _end_processes(ctids, source, steps, said):
    """Kill what lives of containers on a dead SAN; what does not die waits for calls, which a forced unmount ends."""
    begun = forced = time.monotonic()
    while alive := _kill(ctids, source):
        now = time.monotonic()
        if now - forced > PATIENT:
            _umount(_ours_alone(_mounted_shares(source)), ["-f"], steps)
            forced = time.monotonic()
        if now - begun > ENDING:
            words = [*said.values(), *_said_of_strangers(_mounted_shares(source))]
            name = __salt__["ringfree_nfs.san"](source) or "the SAN"
            raise CommandExecutionError(
                f"processes {_list(alive)} of containers still live on {name} ({source}), which does not answer, and "
                f"do not end by 'kill -9': {'; '.join(words) or 'they wait for it in the kernel'}. Restart the node, "
                f"where nothing starts by itself now, and type the same again"
            )
        time.sleep(0.2)


def _kill(ctids, source):
    """Kill what lives of containers on a SAN; the ids of the processes, none when all are gone."""
    alive, born = _alive(ctids, source), __utils__["ringfree_command.born"]
    # Those that were looked at first may be gone by now, and their numbers be somebody else's.
    same = [pid for pid, birth in sorted(alive.items()) if born(pid) == birth]
    if same:
        __utils__["ringfree_command.run"](["kill", "-KILL", *map(str, same)], deadline=QUICK)
    return sorted(alive)


def _strangers(point):
    """What else is mounted from the file system of a share, and would lose its calls: nothing of ours to end."""
    roots = [f"{_mount_point('root')}/{ctid}" for ctid in _there()]
    return [other for other in __salt__["ringfree_nfs.shared_with"](point) if other not in roots]


def _ours_alone(points):
    """The shares that can be unmounted by force: nobody else uses their file systems."""
    return [point for point in points if not _strangers(point)]


def _said_of_strangers(points):
    others = sorted({other for point in points for other in _strangers(point)})
    said = f"nothing was unmounted by force, as {', '.join(others)} is of the same file system of the SAN"
    return [said] if others else []


def _unmount_dead(points, steps):
    """Unmount shares, and by force what is still mounted then, again while nobody is seen to hold it."""
    _umount(points, [], steps)
    for turn in range(TRIES):
        left = [point for point in points if __utils__["ringfree_mounts.at"](__salt__["vz.mounts"](), point)]
        left = [point for point in _ours_alone(left) if not turn or not __salt__["ringfree_nfs.users"](point)]
        if not left:
            return
        time.sleep(0.5 * bool(turn))
        _umount(left, ["-f"], steps)


def _is_home(ctid):
    """Whether a container is mounted elsewhere by now; its old root may still be there, on the dead SAN."""
    try:
        root = os.path.dirname(__salt__["vz.config"](ctid)["root"] or "/")
        on_share = __salt__["ringfree_nfs.real"](root) == _mount_point("root")
        return not on_share and __salt__["vz.root_mount"](ctid)["ok"]
    except CommandExecutionError:  # its conf is on the dead SAN, too
        return False


def _unreachable(source):
    """
    The root share, when it is mounted only because roots of containers are.

    No system call ends those one by one: the kernel looks their paths up on the share, which hangs, or is gone.
    """
    root = _mount_point("root")
    wanted = root in _mounted_shares(source) and _there() and not __salt__["ringfree_nfs.users"](root)
    return [root] if wanted else []


def _umount(points, options, steps):
    """Unmount with a short deadline, side by side; whether it did anything is read from mountinfo."""
    umount = __utils__["ringfree_mounts.umount_command"]
    commands = {point: umount(point, *options) for point in points}
    list(__utils__["ringfree_command.run_many"](commands, len(commands), QUICK))
    said = [" ".join(["umount", *options, point]) for point in points]
    steps += [step for step in said if step not in steps]


def _mounted_shares(source):
    """Where shares are mounted from a SAN, as the kernel names it: to umount a link might be nothing it knows."""
    found = __salt__["ringfree_nfs.in_use"]()
    return [
        _mount_point(share) for share in SHARES if (found[share]["source"] or "").startswith(f"{source}:")
    ]


def _mount_point(share):
    return __salt__["ringfree_nfs.real"](_settings()["shares"][share]["mount"])


def _left(source):
    """What is still mounted from a SAN: roots of containers first, then the shares."""
    return [*(f"{_mount_point('root')}/{ctid}" for ctid in _there()), *_mounted_shares(source)]


def _alive(ctids, source):
    """
    Processes of containers that live on a SAN.

    OpenVZ's kernel names the container in /proc/PID/status; elsewhere the file system that is the root of the process
    tells, and not only the name of its source, which whoever mounts something chooses.  Neither question touches a file
    on the SAN.

    Returns a dictionary: process id to when it was born, read before anything else of it.
    """
    found = {}
    for name in filter(str.isdigit, os.listdir(PROC)):
        birth = __utils__["ringfree_command.born"](name)
        try:
            with open(f"{PROC}/{name}/status", "rb") as stream:
                said = dict(line.split()[:2] for line in stream if line.startswith((b"envID:", b"State:")))
            if said.get(b"State:") == b"Z":  # dead, and not yet taken note of
                continue
            if b"envID:" in said:
                alive = said[b"envID:"] in [str(ctid).encode() for ctid in ctids]
            else:
                alive = _has_root_on(source, f"{PROC}/{name}/mountinfo")
        except (OSError, IndexError, ValueError):
            continue
        if alive:
            found[int(name)] = birth
    return found


def _has_root_on(source, mountinfo):
    """Whether the topmost root in a process's own table of mounts is NFS of a SAN."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as stream:
        roots = [
            mount for mount in __utils__["ringfree_mounts.parse"](stream.read()) if mount["mountpoint"] == "/"
        ]
    top = roots[-1] if roots else {}
    return bool(top) and __utils__["ringfree_mounts.is_nfs"](top) and top["source"].startswith(f"{source}:")
