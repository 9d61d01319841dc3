"""
The copy of the SAN in use on the other one: made by one node for the whole fleet, on a schedule.

What is copied, and in which direction, is decided by records on both SANs (``_utils/ringfree_replica.py``), never by
the pillar: a container is copied only from the SAN on which it lives, and nothing is written beside the containers that
are copied.

:depends: rsync, ssh; on both SANs ``san/ringfree-san``; with ``from: san`` a key of root on the one in use that the
    other one lets in, with its host key known
:configuration: the pillar ``ringfree`` (``replication``, ``shares``, ``ssh``)
"""

import logging
import os
import re
import secrets
import shutil
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_replica"

STATE_DIR = "/var/lib/ringfree/replica"
RUN_DIR = "/run/ringfree"
CTID = "[1-9][0-9]{0,9}"
LAST = "last.json"
KEPT = ("begun", "ended", "ok", "said")  # what it says
RECORDS = 60  # seconds for reading or writing the records of a SAN
#: What the SAN that receives a copy says of another one (san/ringfree-san).
OVERTAKEN = ("another copy is written here", "another copy has begun since")
KINDS = {"owner": "owners", "live": "live"}


#: What mends a damaged record of each kind.
CURES = {
    "owner": "on the SAN in use 'salt NODE ringfree_owner.recover CTID' writes it anew, with the node that has the "
    "container; on the other one remove it: the next replication brings it again",
    "live": "on the SAN that the node's shares are mounted from ('salt NODE cloudstor.status') write it by hand: the "
    "lines san= with its name (primary or secondary), generation= with one more than the same file of the other SAN "
    "has (or 1), since= with the seconds of 'date +%s', and lost= with those at which the other SAN died, if that is "
    "why the node is here; on the other SAN remove it: the next replication brings it again",
    "replica": "remove it: the next replication ('salt NODE ringfree_replica.replicate') writes it anew",
}


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["ringfree_settings.get"]()


def _address(san):
    return _settings()["nfs"][san]


def _other(san):
    return "secondary" if san == "primary" else "primary"


def _named(san):
    return f"{san} ({_address(san)})"


def _export(share):
    return _settings()["shares"][share]["export"]


def _run(argv, deadline, what):
    """Run one command that must succeed, and of which all that it prints must be read."""
    result = __utils__["ringfree_command.run"](argv, deadline=deadline)
    if result["rc"] != 0 or result["cut"]:
        why = _unknown(result)
        what = f"{what}, {why}" if why else what
        raise CommandExecutionError(f"{what}: {__utils__['ringfree_command.describe'](result)}")
    return result


def _unknown(result):
    """Why a SAN does not understand what it is asked, if that is the cause."""
    if re.search(r"ringfree-san: (command )?not found|usage: ringfree-san", result["err"]):
        return "as the key of the other side was let in without 'ringfree-san install' (README, 'On a real master')"
    return ""


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
                if record and folder == "owner" and not re.fullmatch(CTID, name):
                    shown = __utils__["ringfree_command.spell"](name)
                    faults.append(f"{_named(san)}, .ringfree/{folder}/{shown}: is no container")
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
        lines = __utils__["ringfree_seal.unseal"](data)
        return __utils__["ringfree_owner.load" if kind == "owner" else "ringfree_replica.load"](lines)
    except ValueError as error:
        shown = __utils__["ringfree_command.spell"](name)
        faults.append(f"{_named(san)}, .ringfree/{shown} is damaged: {error}; {CURES[kind]}")
        return None


def _fetched(san, share):
    """A copy of a share's records; no directory when it has none."""
    address, export = _address(san), _export(share)
    here = os.path.join(STATE_DIR, f"of-{san}", share)
    if ".ringfree" in __salt__["ringfree_san.names"](export, server=address):
        __salt__["ringfree_san.fetch_shared"](f"{export}/.ringfree", here, address, RECORDS)
    else:
        __utils__["ringfree_tree.clear"](
            here
        )  # what other nodes have made there may be deeper than Python goes
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
    __utils__["ringfree_files.folder"](here)
    for name, content in files.items():
        path = os.path.join(here, ".ringfree", name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if isinstance(content, dict):
            data = __utils__["ringfree_seal.seal"](__utils__["ringfree_replica.dump"](content))
        else:
            data = content.encode()
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
    node = __opts__["id"]
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
    lock, begun = f"{RUN_DIR}/replication", time.time()
    held = __salt__["ringfree_run.take"](lock, "a replication")
    if held:
        since = __utils__["ringfree_window.clock"](held["since"])
        raise CommandExecutionError(
            f"a replication runs on this node already, as process {held['pid']} since {since}; nothing was done"
        )
    try:
        done = _replicate(begun, overwrite)
        _note(begun, True, f"{len(done['containers'])} containers from {done['from']} to {done['to']}")
        return done
    except (CommandExecutionError, OSError) as error:
        _note(begun, False, str(error))
        raise
    finally:
        __utils__["ringfree_process.release"](lock)


def _note(begun, good, said):
    """Keep what became of the last try, for whoever asks."""
    told = dict(zip(KEPT, (begun, time.time(), good, said), strict=True))
    __utils__["ringfree_files.keep"](
        os.path.join(STATE_DIR, LAST), __utils__["ringfree_seal.dump_json"](told)
    )


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
    if __salt__["ringfree_journal.state"]() != "nfs":
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
    me = __opts__["id"]
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
    """Copy some containers with their records and confs; returns the differences when it is a dry run."""
    end, counting = (
        time.monotonic() + _settings()["replication"]["deadline"],
        __utils__["ringfree_sync.counting"](),
    )
    differences = {"count": 0, "lines": []}
    for piece in __utils__["ringfree_replica.pieces"](ctids, nodes):
        left = int(end - time.monotonic())
        if left < 1:
            raise CommandExecutionError(
                f"the copy to {_named(target)} is not complete: it takes longer than ringfree:replication:deadline"
            )
        argv = _command(by, source, target, piece, turn, dry_run, node, left)
        result = __utils__["ringfree_command.run"](argv, left + 30, count=counting)
        _must_be_good(result, running=not dry_run, target=target)
        if dry_run:
            found = __utils__["ringfree_sync.differences"](result)
            found["lines"] = __utils__["ringfree_replica.placed"](found["lines"], piece["below"])
            differences = {key: differences[key] + found[key] for key in found}
    return __utils__["ringfree_replica.own"](differences)


def _command(by, source, target, piece, turn, dry_run, node, deadline):
    """The rsync from one SAN to the other: run by the SAN itself, or by this node from the mounted share."""
    settings = _settings()
    wanted, share = settings["replication"], settings["shares"][piece["share"]]
    options = {
        "timeout": wanted["timeout"],
        "max_delete": None if dry_run else wanted["max_delete"],
        "dry_run": dry_run,
        "delete": piece["delete"],
    }
    # A last copy waits for that of another node; less long than rsync itself waits for a word.
    wait = wanted["timeout"] - 5 if node else 0
    receive = __utils__["ringfree_replica.request"]("receive", turn, wait, node)
    path = f"{share['export']}/{piece['below']}".rstrip("/")
    if by == "node":
        options["more"] = [*piece["filters"], f"--rsync-path={' '.join(receive)}"]
        __salt__["ringfree_san.connection"](_address(target))
        return __salt__["ringfree_san.upload"](
            share["mount"], path, _address(target), name=piece["below"], **options
        )
    send = [
        "ringfree-san",
        "send",
        deadline,
        settings["ssh"]["user"],
        _address(target),
        settings["ssh"]["port"],
    ]
    send += [*receive[2:], f"{path}/", *__utils__["ringfree_sync.options"](**options), *piece["filters"]]
    # One text, which ringfree-san takes apart: no shell is to see it.
    return [
        *__salt__["ringfree_san.connection"](_address(source)),
        _address(source),
        " ".join(map(str, send)),
    ]


def _must_be_good(result, running, target):
    verdict = __utils__["ringfree_sync.verdict"](result, running=running)
    if verdict["do"] == "next":
        return
    if any(words in result["err"] for words in OVERTAKEN):
        raise _Overtaken(f"another copy is being written to {_named(target)}; it ends by itself")
    why = "more files would be deleted there than ringfree:replication:max_delete allows"
    why = why if result["rc"] == 25 else _unknown(result) or verdict["why"]
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
    node, by = __opts__["id"], by or _settings()["replication"]["from"]
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
    if unlike["count"]:
        raise CommandExecutionError(
            f"{unlike['count']} differences between both SANs after the last copy, such as '{unlike['lines'][0]}'"
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
    node = __opts__["id"]
    turn = _take_turn(target, node)
    wait = _settings()["replication"]["timeout"] + 30  # by then rsync has given up on a SAN that died
    request = __utils__["ringfree_replica.request"]("settle", turn, wait, node)
    address = _address(target)
    argv = [*__salt__["ringfree_san.connection"](address), address, *request]
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
    node = __opts__["id"]
    told = {"node": node, "ok": True, "san": None, "age": None, "last": _last()}
    if __salt__["ringfree_journal.state"]() == "local":
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


def _last():
    """What became of the last try, or None."""
    path = os.path.join(STATE_DIR, LAST)
    data = __utils__["ringfree_files.read"](path)
    try:
        return __utils__["ringfree_seal.load_json"](data, KEPT) if data is not None else None
    except ValueError as error:
        said = f"{path} is damaged: {error}; the next replication writes it anew"
        return {"begun": None, "ended": None, "ok": False, "said": said}


def _why(last):
    """What became of the last try, when it failed."""
    return f" The last replication failed: {last['said']}" if last and not last["ok"] else ""
