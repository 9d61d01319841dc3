"""
What a container had before its stop, it has again after its start: mounts, listeners, addresses, routes, daemons.

Two looks are taken before a stop, one when the node is prepared and one right before it, and kept on the node; what was
there both times has to be there again.  They cost no outage: they are made while the container runs, from /proc of the
node.  Which things count is decided in ``_utils/ringfree_fingerprint.py``.

:configuration: the pillar ``ringfree`` (``containers:may_lack``)
"""

import contextlib
import logging
import os

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_fingerprint"

PROC = "/proc"
INITS = "/var/lib/vzctl/vepid"  # where vzctl notes the first process of each container
RECORD = "/var/lib/ringfree/fingerprints.json"
KEYS = ("since", "containers", "again")
EVERYBODY = "*"  # in the pillar: each container
SHOWN = 10  # things that a message names


def __virtual__():
    return __virtualname__


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


# --- one look ---------------------------------------------------------------------------------------------------------


def look(ctids):
    """
    What running containers have that has to be there after their next start.

    ctids
        List of ids.

    Returns a dictionary: id to ``{"init": text, "has": {name: [text]}, "left_out": {kind: why}}``: which process is its
    first one, the things that it has, the kinds of things of which there are too many to compare; or to ``{"fault":
    text}`` where the node cannot see what it has.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_fingerprint.look '[101, 102]'
    """
    if not ctids:
        return {}
    table = __utils__["ringfree_fingerprint.processes"](PROC)
    inits, mounts = _inits(ctids, table), __salt__["vz.mounts"]()
    found = {}
    for ctid in ctids:
        try:
            found[ctid] = __utils__["ringfree_command.printable"](_look(ctid, inits, table, mounts))
        except Exception as error:
            # Whatever a container's root has made of it: the others are looked at.
            if not isinstance(error, (CommandExecutionError, OSError, ValueError)):
                log.warning("what container %s has could not be read", ctid, exc_info=True)
            found[ctid] = {"fault": str(error)}
    return found


def _inits(ctids, table):
    """The first processes of containers: vzctl notes them, and a kernel of OpenVZ names them."""
    found = {}
    for ctid in ctids:
        with contextlib.suppress(OSError):
            word = (__utils__["ringfree_files.read"](f"{INITS}/{ctid}", 64) or b"").strip()
            if word.isdigit() and int(word) in table:
                found[ctid] = int(word)
    if len(found) == len(ctids):
        return found
    for pid, entry in table.items():
        if entry["parent"] in (0, 1):
            ctid = __utils__["ringfree_fingerprint.init_of"](_status(pid))
            if ctid:
                found.setdefault(ctid, pid)
    return found


def _status(pid):
    try:
        return __utils__["ringfree_fingerprint.head"](f"{PROC}/{pid}/status", 1 << 14)[0]
    except OSError:
        return b""


def _look(ctid, inits, table, mounts):
    """What one container has; raises when its first process cannot be told for sure."""
    pid = inits.get(ctid)
    if pid is None:
        raise CommandExecutionError("its first process is not known to the node")
    conf = __salt__["vz.config"](ctid)
    root, private = (__utils__["ringfree_mounts.real_path"](mounts, conf[key]) for key in ("root", "private"))
    inside, left_out = _mount_table(pid)
    places = [_place(mounts, root), _place(mounts, private)]
    known = __utils__["ringfree_fingerprint.container_of"](_status(pid))
    if known != ctid if known is not None else inside and places[0] not in _roots(inside):
        raise CommandExecutionError(f"process {pid} is not its first one")
    reads = {
        "mount": lambda: __utils__["ringfree_fingerprint.mounted"](inside, places),
        "tcp": lambda: _listeners(pid, "tcp"),
        "udp": lambda: _listeners(pid, "udp"),
        "address": lambda: __utils__["ringfree_fingerprint.addresses"](*_texts(pid, "fib_trie", "if_inet6")),
        "route": lambda: __utils__["ringfree_fingerprint.routes"](*_texts(pid, "route", "ipv6_route")),
        "process": lambda: _daemons(table, pid),
    }
    has = {}
    for kind, read in reads.items():
        try:
            has.update({} if kind in left_out else __utils__["ringfree_fingerprint.bounded"](read()))
        except (OSError, ValueError) as error:
            left_out[kind] = str(error)
    boot = __utils__["ringfree_process.me"]()["boot"]
    return {"init": f"{pid} {table[pid]['born']} {boot}", "has": has, "left_out": left_out}


def _place(mounts, path):
    """Where a path lies, as a container's own mount table says it too."""
    place = __utils__["ringfree_mounts.place"](mounts, path)
    if place is None:
        raise CommandExecutionError(f"where {path} lies is not known")
    return (place["device"], place["directory"].rstrip("/") or "/")


def _roots(inside):
    """What may be the root of a container."""
    tops = [mount for mount in inside if mount["mountpoint"] == "/"]
    return [(mount["device"], mount["directory"].rstrip("/") or "/") for mount in tops]


def _mount_table(pid):
    """What is mounted in a container; nothing when that is too much, and why."""
    data, whole = __utils__["ringfree_fingerprint.head"](f"{PROC}/{pid}/mountinfo")
    if not whole:
        return [], {"mount": "there are too many of them"}
    table = __utils__["ringfree_mounts.parse"](data.decode("utf-8", "surrogateescape"))
    return [dict(mount, directory=__utils__["ringfree_mounts.directory"](mount)) for mount in table], {}


def _listeners(pid, protocol):
    found = {}
    for name in (protocol, f"{protocol}6"):
        try:
            data, whole = __utils__["ringfree_fingerprint.head"](f"{PROC}/{pid}/net/{name}")
        except FileNotFoundError:  # a kernel without IPv6
            continue
        text = data.decode("ascii", "replace")
        seen = __utils__["ringfree_fingerprint.listeners"](text, protocol, whole)
        for thing, sockets in seen.items():
            found.setdefault(thing, []).extend(sockets)
    return found


def _texts(pid, *names):
    """Files of /proc/PID/net; an empty one for what this kernel has not."""
    texts = []
    for name in names:
        path = f"{PROC}/{pid}/net/{name}"
        data, whole = __utils__["ringfree_fingerprint.head"](path) if os.path.exists(path) else (b"", True)
        if not whole:
            raise ValueError("there are too many of them")
        texts.append(data.decode("ascii", "replace"))
    return texts


def _daemons(table, pid):
    uptime = float(__utils__["ringfree_fingerprint.head"](f"{PROC}/uptime", 64)[0].split()[0])
    return __utils__["ringfree_fingerprint.daemons"](table, pid, uptime, os.sysconf("SC_CLK_TCK"))


# --- before a stop ----------------------------------------------------------------------------------------------------


def take(ctids, test=False):
    """
    Keep what running containers have; what an earlier look of this migration did not see is left out.

    A container of which the node cannot see what it has moves all the same, and is not compared.

    ctids
        List of ids; those that do not run are left alone.

    test : False
        Only look.

    Returns ``{"containers": number of those that can be compared, "notes": [text]}``: a note for each that cannot be
    compared, or not in everything.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_fingerprint.take '[101, 102]' test=True
    """
    up = set(__salt__["vz.running"]())
    seen, record, count = look([ctid for ctid in ctids if ctid in up]), _record(), 0
    for ctid, now in seen.items():
        if "fault" in now:
            continue
        count += 1
        before = record["containers"].get(str(ctid))
        if before and before["init"] == now["init"]:
            now = {**now, **__utils__["ringfree_fingerprint.both"](before, now)}
        record["containers"][str(ctid)] = now
    if count and not test:
        _keep(record)
    return {"containers": count, "notes": _notes(seen)}


def _notes(seen):
    """What is not compared, and why: one sentence for all containers of which the same is to be said."""
    whole, kinds = {}, {}
    for ctid, now in sorted(seen.items()):
        if "fault" in now:
            whole.setdefault(now["fault"], []).append(str(ctid))
        for kind, why in now.get("left_out", {}).items():
            kinds.setdefault((kind, why), []).append(str(ctid))
    unseen = [
        f"What container {', '.join(ctids)} has cannot be seen from the node ({why}): after its start it is not "
        f"compared with before."
        for why, ctids in whole.items()
    ]
    return unseen + [
        f"Of container {', '.join(ctids)} nothing of the kind '{kind}' is compared after its start: {why}."
        for (kind, why), ctids in kinds.items()
    ]


def taken():
    """
    The containers of which it is known what they had before their stop in the migration, or way back, under way.

    Returns a list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_fingerprint.taken
    """
    return sorted(map(int, _record()["containers"]))


def _record():
    """What was kept in the migration under way; an empty record when nothing was, or when it cannot be read."""
    since = __salt__["ringfree_journal.read"]()["since"]
    kept = None
    try:
        data = __utils__["ringfree_files.read"](RECORD)
        kept = __utils__["ringfree_seal.load_json"](data, KEYS) if data is not None else None
    except (OSError, ValueError) as error:
        log.warning("%s is damaged, containers are not compared with before: %s", RECORD, error)
    return kept if kept and kept["since"] == since else {"since": since, "containers": {}, "again": {}}


def _keep(record):
    __utils__["ringfree_files.keep"](RECORD, __utils__["ringfree_seal.dump_json"](record))


# --- after a start ----------------------------------------------------------------------------------------------------


def lacking(ctids):
    """
    What containers lack that they had before their stop in the migration, or way back, under way.

    One that has everything again is not compared a second time until it is stopped again: what its customer ends later
    is his.

    ctids
        List of ids.

    Returns a dictionary: id to text; those that lack nothing, or of which nothing is known, are left out.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_fingerprint.lacking '[101, 102]'
    """
    if __salt__["ringfree_journal.state"]() != "in_flight":
        return {}
    record = _record()
    known = {ctid: record["containers"][str(ctid)] for ctid in ctids if str(ctid) in record["containers"]}
    seen, allowed = look(list(known)), _allowed() if known else {}
    complete, lacks = {}, {}
    for ctid, before in known.items():
        now = seen[ctid]
        if "fault" in now:
            log.warning("container %s is not compared with before: %s", ctid, now["fault"])
        elif now["init"] not in (before["init"], record["again"].get(str(ctid))):
            patterns = [*allowed.get(ctid, ()), *allowed.get(EVERYBODY, ())]
            found = __utils__["ringfree_fingerprint.lacking"](before, now, patterns)
            if found:
                lacks[ctid] = _said(found)
            else:
                complete[str(ctid)] = now["init"]
    if complete:
        record["again"].update(complete)
        _keep(record)
    return lacks


def _allowed():
    """What the pillar lets containers lack: id, or ``*``, to names."""
    wanted = dict(__salt__["ringfree_settings.get"]()["containers"]["may_lack"])
    found = {EVERYBODY: wanted.pop(EVERYBODY, [])}
    for name, ctid in __salt__["ringfree_owner.resolve"](list(wanted))["found"].items():
        found[ctid] = [*found.get(ctid, ()), *wanted[name]]
    return found


def _said(found):
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"lacks what it had before its stop: {', '.join(found[:SHOWN])}{more} (what it may lack is named in the pillar "
        f"ringfree:containers:may_lack)"
    )
