"""
The copy of one SAN on the other: what says which of them is the live one, what may be copied, how old the copy is.

Two kinds of small files on each SAN's private share, made of ``key=value`` lines.  ``.ringfree/live/<node>`` says on
which SAN the containers of a node live; its generation is counted up at each failover, and the copy carries it too, so
that the higher one of both SANs is right::

    san=secondary
    generation=2
    since=1795350000
    lost=1795349000

``lost`` stands there when the SAN before died: what it holds that was written after that moment is nowhere else.
``.ringfree/replica``, on the private and on the conf share, says what the SAN holds a complete copy of::

    of=primary
    begun=1795350000
    ended=1795350100
    containers=101,102
"""

import re

FOLDER = ".ringfree"
LIVE = "live"
MARKER = "replica"
TURN = "turn"
SANS = ("primary", "secondary")
LIVE_RECORD = re.compile(
    r"san=(?P<san>primary|secondary)\ngeneration=(?P<generation>[0-9]{1,15})\nsince=(?P<since>[0-9]{1,15})\n"
    r"(?:lost=(?P<lost>[0-9]{1,15})\n)?"
)
MARKER_RECORD = re.compile(
    r"of=(?P<of>primary|secondary)\nbegun=(?P<begun>[0-9]{1,15})\nended=(?P<ended>[0-9]{1,15})\n"
    r"containers=(?P<containers>(?:[1-9][0-9]{0,9}(?:,[1-9][0-9]{0,9})*)?)\n"
)
TREE = re.compile(r"([1-9][0-9]{0,9})/(.+)")


def live(san, now, before=(), lost=None):
    """
    The record that a node's containers live on a SAN.

    san
        ``primary`` or ``secondary``.

    now
        Seconds since the epoch.

    before : ()
        The records until now, of both SANs (``None`` for one that is not there).

    lost : None
        When the SAN before is dead: the moment from which on what it holds is not on this one.

    Returns a dictionary of text.
    """
    generation = 1 + max((int(record["generation"]) for record in before if record), default=0)
    record = {"san": san, "generation": str(generation), "since": str(int(now))}
    return {**record, "lost": str(int(lost))} if lost is not None else record


def marker(of, begun, ended, ctids):
    """
    The record of a complete copy.

    of
        The SAN that was copied.

    begun
        When the copy began: what was written later may be missing.

    ended
        When it ended.

    ctids
        The containers.

    Returns a dictionary of text.
    """
    return {
        "of": of,
        "begun": str(int(begun)),
        "ended": str(int(ended)),
        "containers": ",".join(map(str, sorted(ctids))),
    }


def dump(record):
    """
    A record as the text of its file, without its seal.

    record
        The record.

    Returns bytes.
    """
    return "".join(f"{key}={value}\n" for key, value in record.items()).encode()


def load(data):
    """
    Read a record's file without its seal: these lines, in this order, and nothing else.

    data
        Bytes.

    Returns the record.  Raises ValueError for a damaged one.
    """
    text = data.decode("utf-8", "replace")
    found = LIVE_RECORD.fullmatch(text) or MARKER_RECORD.fullmatch(text)
    if not found:
        raise ValueError("the record is damaged")
    return {key: value for key, value in found.groupdict().items() if value is not None}


def where(here, there):
    """
    On which SAN the containers of a node live, by the records of both SANs.

    here
        The record on one SAN, or ``None``.

    there
        The record on the other one, or ``None``.

    Returns ``{"san": name or None, "fault": text or None}``; no SAN when neither has a record.
    """
    first, second = sorted(
        (record for record in (here, there) if record), key=lambda record: -int(record["generation"])
    ) + [None] * (2 - sum(1 for record in (here, there) if record))
    if first is None:
        return {"san": None, "fault": None}
    same = second is not None and first["generation"] == second["generation"]
    if same and first["san"] != second["san"]:
        return {
            "san": None,
            "fault": f"both SANs say of themselves that they are the live one, in generation {first['generation']}",
        }
    return {"san": first["san"], "fault": None}


def to_copy(source, target, here, there, overwrite=False):
    """
    Which containers may be copied from one SAN to the other.

    source
        The name of the SAN that would be copied.

    target
        The name of the other one.

    here
        The records on the source: ``{"owners": {ctid: record}, "live": {node: record}}``.

    there
        The same of the target.

    overwrite : False
        Whether the target may lose what only it holds: what was written there before it died.

    Returns ``{"nodes": [text], "containers": [ctid], "elsewhere": {node: san}, "faults": [text]}``.  With faults
    nothing may be copied.
    """
    found = {"nodes": [], "containers": [], "elsewhere": {}, "faults": []}
    owned = {}
    for ctid, owner in here["owners"].items():
        if owner["store"] == "nfs":
            owned.setdefault(owner["node"], []).append(ctid)
    for node, ctids in sorted(owned.items()):
        mine, other = here["live"].get(node), there["live"].get(node)
        seen = where(mine, other)
        fault = seen["fault"] or (
            _objection(source, target, ctids, here, there, mine, other, overwrite)
            if seen["san"] in (None, source)
            else None
        )
        if fault:
            found["faults"].append(f"{node}: {fault}")
        elif seen["san"] in (None, source):
            found["nodes"].append(node)
            found["containers"] += ctids
        else:
            found["elsewhere"][node] = seen["san"]
    found["containers"].sort()
    return found


def _objection(source, target, ctids, here, there, mine, other, overwrite):
    """Why the containers of a node that live on the source may not be copied to the target all the same."""
    if other and int(other["generation"]) > int((mine or {"generation": "0"})["generation"]):
        return f"the records on {target} are newer than those on {source}, which is in use: was {source} restored?"
    newer = [
        ctid
        for ctid in ctids
        if ctid in there["owners"]
        and int(there["owners"][ctid]["generation"]) > int(here["owners"][ctid]["generation"])
    ]
    if newer:
        return f"the owner records of containers {_list(newer)} are newer on {target} than on {source}"
    if mine and "lost" in mine and not overwrite and (other or {}).get("generation") != mine["generation"]:
        return (
            f"{target} died while it was the live one and may hold what was written after that and is nowhere else. "
            f"Save what you need of it, then 'ringfree_replica.replicate overwrite=True' copies over it once"
        )
    return None


def _list(ctids):
    return ", ".join(map(str, ctids))


def copied(markers, of, ctids):
    """
    From when the copies of some containers are.

    markers
        What the SAN says on each of its shares: a list of records, ``None`` for one that is not there.

    of
        The SAN that they must be a copy of.

    ctids
        The containers.

    Returns ``{"at": seconds or None, "missing": [ctid]}``: the moment at which the copy began, ``None`` when it is not
    complete.
    """
    good = [record if record and record["of"] == of else None for record in markers]
    missing = [
        ctid
        for ctid in ctids
        if not all(record and str(ctid) in record["containers"].split(",") for record in good)
    ]
    if missing or not good or not all(good):
        return {"at": None, "missing": missing}
    return {"at": min(int(record["begun"]) for record in good), "missing": []}


def without(record, ctids):
    """
    A marker that does not speak for some containers any more.

    record
        The marker, or ``None``.

    ctids
        The containers.

    Returns the marker, or ``None``.
    """
    if not record:
        return None
    left = [word for word in record["containers"].split(",") if word and int(word) not in ctids]
    return {**record, "containers": ",".join(left)}


def old(seconds):
    """
    An age in words.

    seconds
        The age.

    Returns text, such as ``4 min``.
    """
    seconds = max(0, int(seconds))
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86400} days"


def pieces(ctids, nodes=()):
    """
    What is copied from one SAN to the other, in this order: containers, their records, and then what leads to them.

    Each is a copy of its own, which on either side sees its own directory and nothing else.

    ctids
        The containers.

    nodes : ()
        The nodes whose live records go along.

    Returns a list of ``{"share": text, "below": text, "filters": [text], "delete": bool}``: the directory below the
    share, empty for the share itself, and the options with which rsync copies exactly what is meant.
    """
    trees = [{"share": "private", "below": str(ctid), "filters": [], "delete": True} for ctid in ctids]
    names = ["owner/", *(f"owner/{ctid}" for ctid in ctids)]
    names += [f"{LIVE}/", *(f"{LIVE}/{node}" for node in nodes)] if nodes else []
    records = [*(f"--include=/{name}" for name in names), "--exclude=*"]
    # Confs of containers that are not copied stay as they are; every other file goes along.
    confs = [*(f"--include=/{ctid}.*" for ctid in ctids), "--exclude=/[1-9]*.*", f"--exclude=/{FOLDER}/"]
    return [
        *trees,
        {"share": "private", "below": FOLDER, "filters": records, "delete": False},
        {"share": "conf", "below": "", "filters": confs, "delete": False},
    ]


def placed(differences, below):
    """
    The differences of a directory below a share, as those of the share.

    differences
        List of itemised differences of rsync.

    below
        The directory, empty for the share itself.

    Returns a list of such lines.
    """
    if not below:
        return differences
    lines = [f"{line[:12]}{below}/{'' if line[12:] == './' else line[12:]}" for line in differences]
    # What stands for those that are left out is a line of its own.
    return [line if line.startswith("[") else placed for placed, line in zip(lines, differences, strict=True)]


def own(differences):
    """
    Leave out what other nodes do: they write their records and containers side by side with a copy of this one's.

    That changes the time of the folders that are everybody's, and of these nothing else can.

    differences
        What ``ringfree_sync.differences`` returned.

    Returns the same without them.
    """
    everybodys = {"./", *(f"{FOLDER}/{name}" for name in ("", "owner/", f"{LIVE}/"))}
    passing = {f".d..t...... {folder}" for folder in everybodys}
    left = [line for line in differences["lines"] if line not in passing]
    return {"count": differences["count"] - len(differences["lines"]) + len(left), "lines": left}


def turn_file(node=None):
    """
    Where the word of a copy is kept on its target.

    node : None
        The node whose failover makes the copy; ``None`` for a replication.

    Returns the name of the file below ``.ringfree``.
    """
    return f"{TURN}.{node}" if node else TURN


def request(verb, turn, wait, node=None):
    """
    What the SAN that receives a copy is asked, before it starts rsync: see ``san/ringfree-san``.

    verb
        ``receive`` to write this copy, ``settle`` only to wait until no other one is written.

    turn
        The word of this copy, which must be the last one that was written there.

    wait
        Seconds to wait for the end of another copy.

    node : None
        The node whose failover makes this copy: only another one of its own may overtake it.

    Returns a list of words.
    """
    return ["ringfree-san", verb, str(wait), turn, node or "-"]


def trees(text):
    """
    Which directories of a listing hold a container's tree.

    text
        What ``rsync --list-only`` printed for the private share, two levels deep.

    Returns a set of container ids.
    """
    has = {}
    for line in text.splitlines():
        words = line.split(None, 4)
        found = TREE.fullmatch(words[4].split(" -> ")[0]) if len(words) == 5 else None
        if found:
            has.setdefault(int(found[1]), set()).add(found[2])
    return {
        ctid
        for ctid, names in has.items()
        if ("etc" in names and names & {"bin", "sbin", "usr"}) or "root.hdd" in names
    }
