"""
The copy of the SAN in use on the other one: made by one node for the whole fleet, on a schedule.

What is copied, and in which direction, is decided by records on both SANs (``_utils/ringfree_replica.py``), never by
the pillar: a container is copied only from the SAN on which it lives, and nothing is written beside the containers that
are copied.

:depends: rsync, ssh; on the SAN that receives the copy ``sh``, ``flock`` and ``grep``; with ``from: san`` on the one in
    use ``timeout``, and a key of its root that the other one lets in, with its host key known
:configuration: the pillar ``ringfree`` (``replication``, ``shares``, ``ssh``)
"""

import fcntl
import logging
import os
import secrets
import shlex
import shutil
import time

import salt.utils.files
import salt.utils.json
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_replica"

STATE_DIR = "/var/lib/ringfree/replica"
RUN_DIR = "/run/ringfree"
LAST = "last.json"
RECORDS = 60  # seconds for reading or writing the records of a SAN
KINDS = {"owner": "owners", "live": "live"}


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["cloudstor.settings"]()


def _address(san):
    return _settings()["nfs"][san]


def _other(san):
    return "secondary" if san == "primary" else "primary"


def _named(san):
    return f"{san} ({_address(san)})"


def _export(share):
    return _settings()["shares"][share]["export"]


def _run(argv, deadline, what):
    """Run one command that must succeed."""
    result = __utils__["ringfree_command.run"](argv, deadline=deadline)
    if result["rc"] != 0:
        raise CommandExecutionError(f"{what}: {__utils__['ringfree_command.describe'](result)}")
    return result


# --- records on a SAN -------------------------------------------------------------------------------------------------


def records(san):
    """
    What a SAN says of itself: owners, live records, and of what it holds a complete copy.

    san
        ``primary`` or ``secondary``.

    Returns ``{"owners": {ctid: record}, "live": {node: record}, "markers": [record or None, ...]}``, the markers of the
    private and of the conf share.  Raises CommandExecutionError when the SAN cannot be asked, or a record is damaged.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.records secondary
    """
    found, faults = {"owners": {}, "live": {}, "markers": []}, []
    for share in ("private", "conf"):
        here = _fetched(san, share)
        marker = __utils__["ringfree_files.read"](os.path.join(here, "replica"))
        found["markers"].append(_loaded(san, f"{share}/replica", marker, "replica", faults))
        if share == "conf":
            continue
        for folder, key in KINDS.items():
            entries = __utils__["ringfree_files.read_folder"](os.path.join(here, folder))
            for name, entry in entries.items():
                record = _loaded(san, f"{folder}/{name}", entry.get("data"), folder, faults)
                if record and folder == "owner" and not name.isdigit():
                    faults.append(f"{_named(san)}, .ringfree/{folder}/{name}: is no container")
                elif record:
                    found[key][int(name) if folder == "owner" else name] = record
    if faults:
        raise CommandExecutionError("; ".join(faults))
    return found


def _loaded(san, name, data, kind, faults):
    """One record, or None; a damaged one is a fault."""
    if data is None:
        return None
    try:
        return __utils__["ringfree_owner.load" if kind == "owner" else "ringfree_replica.load"](data)
    except ValueError as error:
        faults.append(f"{_named(san)}, .ringfree/{name}: {error}")
        return None


def _fetched(san, share):
    """A copy of a share's records; no directory when it has none."""
    address, export = _address(san), _export(share)
    here = os.path.join(STATE_DIR, f"of-{san}", share)
    if ".ringfree" in __salt__["ringfree_san.names"](export, server=address):
        __salt__["ringfree_san.fetch_shared"](f"{export}/.ringfree", here, address, RECORDS)
    else:
        shutil.rmtree(here, ignore_errors=True)
    return here


def write(san, share, files):
    """
    Write records on a SAN; what is there besides stays.

    san
        ``primary`` or ``secondary``.

    share
        ``private`` or ``conf``.

    files
        Dictionary: path below ``.ringfree`` to a record, or to text.

    Returns True.  Raises CommandExecutionError when they cannot be written.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.write secondary private '{"turn": "a word"}'
    """
    here = os.path.join(STATE_DIR, "to-write")
    shutil.rmtree(here, ignore_errors=True)
    for name, content in files.items():
        path = os.path.join(here, ".ringfree", name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        data = __utils__["ringfree_replica.dump"](content) if isinstance(content, dict) else content.encode()
        __utils__["ringfree_files.write"](path, data)
    there = f"{_export(share)}/.ringfree"
    __salt__["ringfree_san.push"](os.path.join(here, ".ringfree"), there, _address(san), RECORDS)
    return True


def claim(san, known=(), lost=None):
    """
    Write on a SAN that it is the live one for this node.

    san
        ``primary`` or ``secondary``.

    known : ()
        Live records of this node that are known; the new one is of a later generation.

    lost : None
        Seconds since the epoch: from when on the SAN that died holds what is nowhere else.

    Returns the record as read back.  Raises CommandExecutionError when it cannot be written.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.claim secondary
    """
    node = __salt__["cloudstor.node"]()
    before = [*known, records(san)["live"].get(node)]
    record = __utils__["ringfree_replica.live"](san, time.time(), before, lost)
    write(san, "private", {f"live/{node}": record})
    if records(san)["live"].get(node) != record:
        raise CommandExecutionError(f"the live record on {_named(san)} is not what was written")
    return record


def forget(san, ctids):
    """
    A SAN no longer says that it holds a copy of some containers: they are about to live there.

    san
        ``primary`` or ``secondary``.

    ctids
        List of ids.

    Returns True.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.forget secondary '[101]'
    """
    for share, marker in zip(("private", "conf"), records(san)["markers"], strict=True):
        left = __utils__["ringfree_replica.without"](marker, ctids)
        if left != marker:
            write(san, share, {"replica": left})
    return True


class _Overtaken(CommandExecutionError):
    """Another copy to the same SAN is under way, or has begun since."""


# --- the copy ---------------------------------------------------------------------------------------------------------


def replicate(overwrite=False):
    """
    Copy what lives on the SAN in use to the other one, and write there from when the copy is.

    Containers keep running; the copy of each is as if it had lost its power in the middle of it.

    overwrite : False
        Copy also over a SAN that died while it was the live one, and that may hold what was written there last.  Once
        this is done it need not be said again.

    Returns ``{"from": text, "to": text, "containers": [ctid], "elsewhere": {node: san}, "seconds": number}``.  Raises
    CommandExecutionError, before anything is written, when another copy runs, this node runs from no SAN, or the
    records on both SANs forbid it.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.replicate
    """
    os.makedirs(RUN_DIR, mode=0o700, exist_ok=True)
    with salt.utils.files.fopen(f"{RUN_DIR}/replication.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandExecutionError(
                "a replication runs on this node already; nothing was done"
            ) from error
        begun = time.time()
        try:
            done = _replicate(begun, overwrite)
        except (CommandExecutionError, OSError) as error:
            _note(begun, False, str(error))
            raise
        _note(begun, True, f"{len(done['containers'])} containers from {done['from']} to {done['to']}")
        return done


def _note(begun, good, said):
    """Keep what became of the last try, for whoever asks."""
    os.makedirs(STATE_DIR, mode=0o700, exist_ok=True)
    told = {"begun": begun, "ended": time.time(), "ok": good, "said": said}
    __utils__["ringfree_files.write"](os.path.join(STATE_DIR, LAST), salt.utils.json.dumps(told).encode())


def _replicate(begun, overwrite):
    source = _source()
    target = _other(source)
    turn = _take_turn(target)
    # Only now: a failover writes its live record before it takes its turn, so that one of the two sees the other.
    here, there = records(source), records(target)
    chosen = _chosen(source, target, here, there, overwrite)
    new = {
        f"live/{node}": __utils__["ringfree_replica.live"](source, begun)
        for node in chosen["nodes"]
        if node not in here["live"]
    }
    if new:
        write(source, "private", new)
    _copy(source, target, chosen["containers"], chosen["nodes"], turn, _settings()["replication"]["from"])
    marker = __utils__["ringfree_replica.marker"](source, begun, time.time(), chosen["containers"])
    for share in ("conf", "private"):
        write(target, share, {"replica": marker})
    if records(target)["markers"] != [marker, marker]:
        raise CommandExecutionError(f"the marker on {_named(target)} is not what was written")
    return {
        "from": source,
        "to": target,
        "containers": chosen["containers"],
        "elsewhere": chosen["elsewhere"],
        "seconds": round(time.time() - begun, 1),
    }


def _source():
    """The SAN that this node's private share is mounted from."""
    if __salt__["cloudstor.state"]() != "nfs":
        raise CommandExecutionError(
            "this node is not committed to NFS: it does not say which SAN is in use. Nothing was copied"
        )
    share = __salt__["ringfree_nfs.in_use"]()["private"]
    if not share["mounted"]:
        raise CommandExecutionError(
            f"{share['mount']} is not mounted from {share['wanted']}. Nothing was copied"
        )
    return __salt__["ringfree_nfs.san"]()


def _chosen(source, target, here, there, overwrite):
    """The containers that may be copied; raises when something speaks against it."""
    chosen = __utils__["ringfree_replica.to_copy"](source, target, here, there, overwrite)
    me = __salt__["cloudstor.node"]()
    faults = list(chosen["faults"])
    if me in chosen["elsewhere"]:
        faults.append(
            f"{me} runs from {_named(source)}, and the records say that it lives on {chosen['elsewhere'][me]}"
        )
    if not faults and not chosen["containers"]:
        faults.append(f"no container lives on {_named(source)}")
    if not faults:
        lacking = sorted(set(chosen["containers"]).difference(trees(source)))
        faults += [f"{_named(source)} holds no container tree of {ctid}" for ctid in lacking]
    if faults:
        raise CommandExecutionError("nothing was copied: " + "; ".join(faults))
    return chosen


def trees(san):
    """
    The containers of which a SAN holds a tree, by its directories.

    san
        ``primary`` or ``secondary``.

    Returns a sorted list of ids.  Raises CommandExecutionError when the SAN cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.trees secondary
    """
    address = _address(san)
    wanted = ("etc", "bin", "sbin", "usr", "root.hdd")
    argv = ["rsync", "--list-only", "--no-human-readable", "-8", "-r", "--include=/[0-9]*/"]
    argv += [*(f"--include=/[0-9]*/{name}" for name in wanted), "--exclude=*"]
    argv += ["-e", " ".join(__salt__["ringfree_san.connection"](address)), f"{address}:{_export('private')}/"]
    listed = _run(argv, 120, f"the trees on {_named(san)}")["out"]
    return sorted(__utils__["ringfree_replica.trees"](listed))


def _take_turn(target, node=None):
    """
    Announce a copy on its target: a replication that was planned before, and has not begun, cannot begin any more.

    Last copies of several nodes stand beside each other: each has a word of its own.
    """
    turn = secrets.token_hex(8)
    names = {__utils__["ringfree_replica.turn_file"](who) for who in (None, node)}
    write(target, "private", dict.fromkeys(names, f"{turn}\n"))
    return turn


def _copy(source, target, ctids, nodes, turn, by, dry_run=False, node=None):
    """Copy some containers with their confs and records; returns the differences when it is a dry run."""
    wanted = _settings()["replication"]
    differences = []
    for share in ("private", "conf"):
        # Confs last: they lead to the private areas.
        rules = __utils__["ringfree_replica.filters"](share, ctids, nodes)
        argv = _command(by, source, target, share, rules, turn, dry_run, node)
        result = __utils__["ringfree_command.run"](argv, deadline=wanted["deadline"] + 30)
        _must_be_good(result, running=not dry_run, target=target)
        differences += __utils__["ringfree_sync.differences"](result["out"]) if dry_run else []
    return __utils__["ringfree_replica.own"](differences)


def _command(by, source, target, share, rules, turn, dry_run, node):
    """The rsync from one SAN to the other: run by the SAN itself, or by this node from the mounted share."""
    settings = _settings()
    wanted, export = settings["replication"], _export(share)
    options = {
        "timeout": wanted["timeout"],
        "max_delete": None if dry_run else wanted["max_delete"],
        "dry_run": dry_run,
        "delete": share == "private",
    }
    to = f"{_address(target)}:{export}/"
    if by == "node":
        mount = settings["shares"][share]["mount"].rstrip("/") + "/"
        argv = __utils__["ringfree_sync.rsync"](
            mount, to, __salt__["ringfree_san.connection"](_address(target)), **options
        )
    else:
        ssh = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"]
        ssh += ["-l", settings["ssh"]["user"], "-p", str(settings["ssh"]["port"])]
        argv = __utils__["ringfree_sync.rsync"](f"{export}/", to, ssh, **options)
    # A last copy waits for that of another node; less long than rsync itself waits for a word.
    wait = wanted["timeout"] - 5 if node else 0
    receiver = __utils__["ringfree_replica.receiver"](_export("private"), turn, wait, node=node)
    argv = [*argv[:-2], *rules, f"--rsync-path={receiver}", *argv[-2:]]
    if by == "node":
        return argv
    # ssh hands its words to a shell over there.
    address = _address(source)
    remote = shlex.join(["timeout", str(wanted["deadline"]), *argv])
    return [*__salt__["ringfree_san.connection"](address), address, remote]


def _must_be_good(result, running, target):
    verdict = __utils__["ringfree_sync.verdict"](result, running=running)
    if verdict["do"] == "next":
        return
    if "another copy is written here" in result["err"] or "another copy has begun since" in result["err"]:
        raise _Overtaken(f"another copy is being written to {_named(target)}; it ends by itself")
    why = "more files would be deleted there than ringfree:replication:max_delete allows"
    why = why if result["rc"] == 25 else verdict["why"]
    said = __utils__["ringfree_command.describe"](result)
    raise CommandExecutionError(f"the copy to {_named(target)} is not complete, {why}: {said}")


def last_copy(source, target, ctids, by=None):
    """
    Copy containers of this node that are down, for the last time before they live on the other SAN, and compare.

    source
        The SAN on which they lived.

    target
        The SAN on which they will live, whose live record of this node says so already.

    ctids
        List of ids.

    by : None
        ``san`` or ``node``; ``None`` for ``ringfree:replication:from``.

    Returns True.  Raises CommandExecutionError when a container runs, the target's record does not say so, or both
    differ afterwards.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.last_copy primary secondary '[101]'
    """
    node, by = __salt__["cloudstor.node"](), by or _settings()["replication"]["from"]
    up = [ctid for ctid in ctids if ctid in __salt__["vz.running"]()]
    if up:
        raise CommandExecutionError(f"containers {', '.join(map(str, up))} still run; nothing was copied")
    here, there = records(source), records(target)
    mine, other = here["live"].get(node), there["live"].get(node)
    if __utils__["ringfree_replica.where"](mine, other) != {"san": target, "fault": None}:
        raise CommandExecutionError(f"{_named(target)} is not claimed for {node}; nothing was copied")
    foreign = [ctid for ctid in ctids if here["owners"].get(ctid, {}).get("node") != node]
    lacking = sorted(set(ctids).difference(trees(source)))
    if foreign or lacking:
        raise CommandExecutionError(
            f"{_named(source)} has no tree, or no owner record of {node}, for containers "
            f"{', '.join(map(str, sorted({*foreign, *lacking})))}; nothing was copied"
        )
    for left in (2, 1, 0):
        turn = settle(target)
        try:
            _copy(source, target, ctids, [], turn, by, node=node)
            unlike = _copy(source, target, ctids, [], turn, by, dry_run=True, node=node)
            break
        except _Overtaken:
            if not left:
                raise
    if unlike:
        raise CommandExecutionError(
            f"{len(unlike)} differences between both SANs after the last copy, such as '{unlike[0]}'"
        )
    return True


def settle(target):
    """
    Wait until no copy is being written to a SAN, and let none begin that was planned before now.

    target
        ``primary`` or ``secondary``.

    Returns the word by which a copy of ours is known there.  Raises CommandExecutionError when another copy does not
    end.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.settle secondary
    """
    node = __salt__["cloudstor.node"]()
    turn = _take_turn(target, node)
    wait = _settings()["replication"]["timeout"] + 30  # by then rsync has given up on a SAN that died
    free = __utils__["ringfree_replica.receiver"](_export("private"), turn, wait, "true", node)
    address = _address(target)
    argv = [*__salt__["ringfree_san.connection"](address), address, free]
    _run(argv, wait + 30, f"{_named(target)} does not come to rest")
    return turn


def status():
    """
    Which SAN this node uses, and how old the copy of its containers on the other one is.

    Returns ``{"node": text, "ok": bool, "san": text or None, "age": seconds or None, "last": dictionary or None,
    "said": text}``; ``ok`` is false when there is no copy or it is older than ``ringfree:replication:max_age``;
    ``last`` is what became of the last replication that this node made.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_replica.status
    """
    node = __salt__["cloudstor.node"]()
    data = __utils__["ringfree_files.read"](os.path.join(STATE_DIR, LAST))
    told = {"node": node, "ok": True, "san": None, "age": None, "last": None}
    told["last"] = salt.utils.json.loads(data) if data else None
    if __salt__["cloudstor.state"]() == "local":
        return {**told, "said": f"{node} is on local storage."}
    source = __salt__["ringfree_nfs.san"]()
    target = _other(source)
    head = f"{node} runs from {_named(source)}"
    told["san"] = source
    try:
        there = records(target)
    except CommandExecutionError as error:
        return {**told, "ok": False, "said": f"{head}; {_named(target)} cannot be asked: {error}"}
    try:
        owners, answers = records(source)["owners"], True
    except CommandExecutionError:
        owners, answers = there["owners"], False
    mine = [ctid for ctid, owner in owners.items() if owner["node"] == node and owner["store"] == "nfs"]
    seen = __utils__["ringfree_replica.copied"](there["markers"], source, mine)
    if there["live"].get(node, {}).get("san") == target:
        seen = {"at": None, "missing": mine}  # it was live there since, and has not been copied to again
    head += "" if answers else ", which does not answer"
    if seen["at"] is None:
        lacking = ", ".join(map(str, seen["missing"]))
        said = f"{head}; {_named(target)} holds no complete copy{f' of containers {lacking}' if lacking else ''}."
        return {**told, "ok": False, "said": said + _why(told["last"])}
    age = max(0, time.time() - seen["at"])
    said = f"{head}; {_named(target)} is {__utils__['ringfree_replica.old'](age)} old."
    fresh = age <= _settings()["replication"]["max_age"]
    return {**told, "ok": fresh, "age": int(age), "said": said + ("" if fresh else _why(told["last"]))}


def _why(last):
    """What became of the last try, when it failed."""
    return f" The last replication failed: {last['said']}" if last and not last["ok"] else ""
