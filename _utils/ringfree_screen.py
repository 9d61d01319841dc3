"""
How the fleet stands: what nodes say of themselves as one structure, and that structure as one screen for people.
"""

import json
import time

FORMAT = 1  # of the structure: another number when something in it means something else
LAST = 1 << 36  # seconds since the epoch that are no time of a run any more
#: What a node says of itself: name to kind. Whatever is of another kind is not believed.
NODE = {
    "version": (str,),
    "state": (str,),
    "since": (int, float, type(None)),
    "san": (str, type(None)),
    "silent": (list,),
    "deadline": (int, float, type(None)),
    "deadman": (str,),
    "left": (str,),
    "faults": (list,),
    "containers": (dict,),
}
CONTAINER = {
    "name": (str, type(None)),
    "running": (bool,),
    "wanted": (bool,),
    "store": (str,),
    "ok": (bool,),
    "why": (str,),
    "down_since": (int, float, type(None)),
}
STATES = {"local": "local", "nfs": "on NFS", "in_flight": "in flight"}
STORES = {"local": "local", "nfs": "NFS", "mixed": "mixed", "none": "-", "unknown": "?"}
HEAD = ("node", "store", "state", "SAN", "since", "goes back", "lock")


def structure(now, version, run, answers, faults):
    """
    The whole fleet: what ``--out json`` of ``ringfree.status`` gives.

    now
        The moment at which it was asked.

    version
        The master's version of this project.

    run
        The lock of the run under way, or ``None``.

    answers
        Dictionary: each node to what ``cloudstor.overview`` returned, or ``None``.

    faults
        Dictionary: node to text, for nodes that did not answer well.

    Returns ``{"format": 1, "version": text, "at": seconds, "run": {"what", "user", "since", "until", "nodes", "paused",
    "aborted"} or None, "nodes": {node: {"answers", "version", "store", "state", "since", "san", "silent", "deadline",
    "deadman", "left", "lock", "faults", "containers"}}}``; containers are ``{ctid: {"name", "running", "wanted",
    "store", "ok", "why", "down_since", "fault"}}``, with ids as texts.
    """
    keys = ("what", "user", "since", "until", "nodes", "paused", "aborted")
    under_way = {key: run.get(key) for key in keys} if run else None
    found = {}
    for node, answer in answers.items():
        entry = _node(answer, faults.get(node))
        if entry["version"] not in (None, version):
            entry["faults"].append(
                f"has version {entry['version']} of this project, the master {version}: "
                f"'salt {node} saltutil.sync_all' brings it"
            )
        entry["lock"] = under_way["what"] if under_way and node in (under_way["nodes"] or []) else None
        found[node] = entry
    return {"format": FORMAT, "version": version, "at": now, "run": under_way, "nodes": found}


def _node(answer, fault):
    """One node, whatever it answered."""
    if answer is None or not _has(NODE, answer):
        said = fault or "it answers what cannot be read"
        return {
            "answers": False,
            "store": "unknown",
            **dict.fromkeys(("version", "state", "since", "san", "deadline")),
            "silent": [],
            "deadman": "",
            "left": "",
            "faults": [said],
            "containers": {},
        }
    entry = {"answers": True, "store": "", **{key: answer[key] for key in NODE}}
    entry["faults"] = [str(text) for text in answer["faults"]]
    entry["containers"] = {}
    for ctid, seen in answer["containers"].items():
        if _has(CONTAINER, seen):
            kept = {key: seen[key] for key in CONTAINER}
            entry["containers"][str(ctid)] = {**kept, "fault": _wrong(kept, answer["state"])}
        else:
            entry["faults"].append(f"what it says of container {ctid} cannot be read")
    entry["store"] = _store(entry)
    return entry


def _has(kinds, value):
    """Whether a value has all that is wanted, each of its kind."""
    return isinstance(value, dict) and all(
        key in value and isinstance(value[key], kind) and _is_time(value[key], kind)
        for key, kind in kinds.items()
    )


def _is_time(value, kind):
    """Numbers are moments here, and a truth value is no number."""
    if float not in kind or value is None:
        return True
    return not isinstance(value, bool) and 0 <= value < LAST


def _store(entry):
    """Where the containers of a node run from."""
    if not entry["containers"] and entry["faults"]:
        return "unknown"
    stores = {seen["store"] for seen in entry["containers"].values() if seen["running"]}
    return stores.pop() if len(stores) == 1 else "mixed" if stores else "none"


def _wrong(seen, state):
    """What of a container is not as it should be; an empty text when nothing is."""
    if not seen["running"]:
        return "is down" if seen["wanted"] else ""
    if not seen["ok"]:
        return seen["why"] or "it is not proved from where it runs"
    if seen["wanted"] and state in ("local", "nfs") and seen["store"] != state:
        return f"runs from {STORES.get(seen['store'], seen['store'])}, its node is {STATES[state]}"
    return ""


def screen(fleet, everything=False):
    """
    The fleet as one screen, in local time.

    fleet
        What :py:func:`structure` returns.

    everything : False
        Also the containers that are as they should be.

    Returns text.
    """
    now = fleet["at"]
    rows = [HEAD, *(_row(name, entry, now) for name, entry in fleet["nodes"].items())]
    lines = [
        f"{_moment(now, now)}  {_run(fleet['run'], now)}  (version {fleet['version']})",
        "",
        *table(rows),
        "",
    ]
    containers, well = [], 0
    for name, entry in fleet["nodes"].items():
        lines += [f"{name}: {fault}" for fault in entry["faults"]]
        lines += [f"{name}: {text}" for text in (entry["deadman"], entry["left"]) if text]
        for ctid, seen in entry["containers"].items():
            well += not seen["fault"]
            if seen["fault"] or everything:
                containers.append((name, ctid, seen["name"] or "-", _container(seen, now)))
    if containers:
        lines += ["", *table([("node", "container", "name", "is"), *containers])]
    hidden = f"{well} containers are as they should be; 'all=True' shows them"
    lines += ["", hidden] if well and not everything else []
    return "\n".join(_without_gaps(lines))


def advice(fleet):
    """
    What can be typed now, for the state that the fleet is in.

    fleet
        What :py:func:`structure` returns.

    Returns text: a line for each thing that one may want, with the command for it below.
    """
    found = _during_a_run() if fleet["run"] else _between_runs(fleet)
    found += [("see where everything is", "salt-run ringfree.status")]
    return "\n".join(
        line for what, *commands in found for line in (f"{what}:", *(f"    {c}" for c in commands))
    )


def _during_a_run():
    return [
        ("see what the run does", "salt-run ringfree.watch"),
        ("hold it before its next part, while no container is down, and let it go on",
         "salt-run ringfree.pause", "salt-run ringfree.resume"),
        ("end it: no further step begins, and a node in flight goes back", "salt-run ringfree.abort"),
    ]  # fmt: skip


def _between_runs(fleet):
    kinds = {}
    for name, entry in fleet["nodes"].items():
        kind = "no answer" if not entry["answers"] else "silent" if entry["silent"] else entry["state"]
        kinds.setdefault(kind, []).append(name)
    in_use = {fleet["nodes"][name]["san"] for name in kinds.get("silent", ())}
    other = "primary" if in_use == {"secondary"} else "secondary"
    advised = {
        "no answer": _for_no_answer,
        "unknown": _for_unknown,
        "silent": lambda nodes: _for_silent(nodes, other),
        "in_flight": _for_in_flight,
        "local": _for_local,
        "nfs": _for_nfs,
    }
    return [advice for kind, of in advised.items() if kind in kinds for advice in of(kinds[kind])]


def _for_no_answer(nodes):
    return [("find out whether nodes that do not answer live", f"salt -L {','.join(nodes)} test.ping")]


def _for_unknown(nodes):
    commands = [f"salt {node} cloudstor.recover_journal" for node in nodes]
    return [("write journals that are lost or damaged anew, from what is found on the node", *commands)]


def _for_silent(nodes, other):
    return [
        (
            "see what it would mean to go to the other SAN, and go there",
            f"salt-run ringfree.failover_plan {other} nodes='{json.dumps(nodes)}'",
            _orchestration("failover", nodes, to=other),
        )
    ]


def _for_in_flight(nodes):
    return [
        ("go on with nodes that are in flight", _orchestration("migrate", nodes)),
        ("or take them home", _orchestration("rollback", nodes)),
    ]


def _for_local(nodes):
    return [
        (
            "look at everything that could stop a migration, and see what it would do",
            "salt-run ringfree.preflight",
            "salt-run state.orch migrate test=True",
        ),
        ("copy beforehand, while everything runs", _orchestration("presync", nodes)),
        ("move to NFS", _orchestration("migrate", nodes)),
    ]


def _for_nfs(nodes):
    return [
        ("see which containers answer, and how long they were down", "salt-run ringfree.report"),
        (
            "see what has drifted, and correct it",
            f"salt -L {','.join(nodes)} state.apply test=True",
            f"salt -L {','.join(nodes)} state.apply",
        ),
        (
            "go home, with what was written on NFS, or without it",
            _orchestration("rollback", nodes, data="sync_back"),
            _orchestration("rollback", nodes, data="discard"),
        ),
    ]


def _orchestration(name, nodes, **other):
    return f"salt-run state.orch {name} pillar='{json.dumps({'nodes': nodes, **other})}'"


def _row(name, entry, now):
    if not entry["answers"]:
        return (name, "?", "no answer", *["-"] * (len(HEAD) - 4), entry["lock"] or "-")
    san = "silent" if entry["silent"] else entry["san"] or "-"
    back = f"{left(entry['deadline'] - now)} left" if entry["deadline"] else "-"
    return (
        name,
        STORES.get(entry["store"], entry["store"]),
        STATES.get(entry["state"], entry["state"]),
        san,
        _moment(entry["since"], now),
        back,
        entry["lock"] or "-",
    )


def _container(seen, now):
    """What there is to say of a container, in a few words."""
    if not seen["running"]:
        since = f" since {_moment(seen['down_since'], now)}" if seen["down_since"] else ""
        return f"down{since}"
    return seen["fault"] or f"runs from {STORES.get(seen['store'], seen['store'])}"


def _run(run, now):
    if not run:
        return "no run is under way"
    words = [f"{run['what']} by {run['user']} since {_moment(run['since'], now)}"]
    words += [f"to be over by {_moment(run['until'], now)}"] if run["until"] else []
    words += [f"paused by {run['paused']}"] if run["paused"] else []
    words += [f"aborted by {run['aborted']}"] if run["aborted"] else []
    return ", ".join(words)


def _moment(moment, now):
    """A moment in local time, with its date when that is another day."""
    if not moment:
        return "-"
    then, today = time.localtime(moment), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def left(seconds):
    """
    A length of time, as long as it is of interest.

    seconds
        Seconds; less than none is none.

    Returns text such as ``1 h 05 min``, ``12 min`` or ``40 s``.
    """
    seconds = max(0, int(seconds))
    if seconds < 120:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def table(rows):
    """
    Rows of texts in columns.

    rows
        List of rows, each of as many texts; the first one is the head.

    Returns a list of lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _without_gaps(lines):
    """Never two empty lines, and none at the end."""
    kept = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    return kept[:-1] if kept and not kept[-1] else kept
