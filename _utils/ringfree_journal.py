"""
The journal of a node: what was about to happen, what happened, what was proved.

One JSON document per node, written atomically, readable by a person::

    {"version": 1, "node": "node001", "state": "in_flight", "since": 1700000000.0,
     "steps": {"stop": {"intent": 1700000000.0, "done": ..., "verified": ...}},
     "containers": {"101": {"stop": {...}, "sync": {...}}},
     "facts": {"load": 0.4}, "history": [{"state": "local", "until": 1700000000.0}]}

The journal says where to look; truth is probed.
"""

import copy

VERSION = 1
LAST = 1 << 36  # seconds since the epoch that are no time of a migration any more
PHASES = ("intent", "done", "verified")
STATES = ("local", "in_flight", "nfs")
#: Every step of a node's migration, in the order in which it happens, and the way back.
STEPS = (
    "presync",
    "packages",
    "manifest",
    "snapshot",
    "variables",
    "mount",
    "conf_share",
    "guard",
    "deadman",
    "stop",
    "vz_conf",
    "sync",
    "owner",
    "container_confs",
    "vz_restart",
    "mount_conf",
    "start",
    "commit",
    "revert",
)
#: What is noted in the same way and is no part of a migration.
BESIDE = ("failover",)


def steps():
    """
    Name every step of a node's migration.

    Returns a list of names, in the order in which they happen.
    """
    return list(STEPS)


def new(node, now):
    """
    A journal for a node that has never been migrated.

    node
        The node's minion id.

    now
        Seconds since the epoch.

    Returns the journal (a dictionary).
    """
    return {
        "version": VERSION,
        "node": node,
        "state": "local",
        "since": now,
        "steps": {},
        "containers": {},
        "facts": {},
        "history": [],
    }


def begin(journal, now):
    """
    Open a migration: the node is in flight from here on.

    A journal that is in flight already keeps its steps (the run continues); any other starts afresh.

    journal
        The journal.

    now
        Seconds since the epoch.

    Returns the new journal.
    """
    journal = copy.deepcopy(journal)
    if journal["state"] != "in_flight":
        journal.update(steps={}, containers={}, facts={})
        journal = settle(journal, "in_flight", now)
    return journal


def mark(journal, step, phase, now, container=None, note=None):
    """
    Note a phase of a step.

    journal
        The journal.

    step
        One of :py:func:`steps`.

    phase
        ``intent`` (about to), ``done`` or ``verified``.  ``intent`` forgets earlier phases of the step.

    now
        Seconds since the epoch.

    container : None
        A container id when the step is noted for one container.

    note : None
        Anything that JSON can hold, kept with the step.

    Returns the new journal.  Raises ValueError for an unknown step or phase.
    """
    if step not in (*STEPS, *BESIDE):
        raise ValueError(f"unknown step '{step}'")
    if phase not in PHASES:
        raise ValueError(f"unknown phase '{phase}'")
    journal = copy.deepcopy(journal)
    place = journal["steps"]
    if container is not None:
        place = journal["containers"].setdefault(str(container), {})
    record = {} if phase == "intent" else dict(place.get(step, {}))
    record[phase] = now
    if note is not None:
        record["note"] = note
    place[step] = record
    return journal


def reached(journal, step, phase="verified", container=None):
    """
    Whether a step has come as far as a phase.

    journal
        The journal.

    step
        One of :py:func:`steps`.

    phase : verified
        The phase asked for.

    container : None
        A container id, or ``None`` for the node's own step.

    Returns True or False.
    """
    place = journal["steps"] if container is None else journal["containers"].get(str(container), {})
    return phase in place.get(step, {})


def settle(journal, state, now):
    """
    Change the state of the node.

    journal
        The journal.

    state
        ``local``, ``in_flight`` or ``nfs``.

    now
        Seconds since the epoch.

    Returns the new journal; the state left behind goes to ``history``.
    """
    if state not in STATES:
        raise ValueError(f"unknown state '{state}'")
    journal = copy.deepcopy(journal)
    journal["history"].append({"state": journal["state"], "since": journal["since"], "until": now})
    journal["state"] = state
    journal["since"] = now
    return journal


def recovered(node, now, fault, seen):
    """
    The journal of a node whose own cannot be read, from what was found on it.

    The order of the steps is what makes this safe: the first thing that is left behind on a node, a mount, comes after
    manifest and snapshot, so that whoever finds anything has both of this migration.

    node
        The node's minion id.

    now
        Seconds since the epoch.

    fault
        What was wrong with the old journal.

    seen
        ``mounted`` (any share), ``guarded``, ``armed`` and ``snapshot`` (is it there), true or false; and lists of
        containers: ``manifest``, ``confs`` (lead to the share), ``on_nfs`` (run from it), ``up``, ``owned`` (live on
        it, by their owner records).

    Returns the journal.
    """
    journal = new(node, now)
    journal["facts"]["recovered"] = {"at": now, "fault": fault}
    if not (seen["mounted"] or seen["confs"] or seen["guarded"] or seen["armed"]):
        return journal
    whole = seen["manifest"] and sorted(seen["on_nfs"]) == sorted(seen["manifest"])
    journal["state"] = "nfs" if whole and not seen["guarded"] and not seen["armed"] else "in_flight"
    steps = {
        "manifest": bool(seen["manifest"]),
        "snapshot": seen["snapshot"],
        "owner": bool(seen["owned"]),
        "vz_restart": bool(seen["confs"]),
        "deadman": seen["armed"],
    }
    journal["steps"] = {step: {"intent": now, "verified": now} for step, done in steps.items() if done}
    # What lives on the share may have been written there; what runs at home now is newer.
    for ctid in seen["owned"]:
        at_home = ctid in seen["up"] and ctid not in seen["on_nfs"]
        journal["containers"][str(ctid)] = {
            "start": {"intent": now},
            **({"revert": {"intent": now + 1}} if at_home else {}),
        }
    return journal


def keys():
    """
    What every journal has.

    Returns a list of names.
    """
    return list(new("", 0))


def fault(journal):
    """
    What keeps a dictionary from being a journal.

    journal
        The dictionary, with all :py:func:`keys`.

    Returns text, or ``None``.
    """
    if journal["version"] != VERSION:
        return f"it is no journal of version {VERSION}"
    wanted = {"node": str, "steps": dict, "containers": dict, "facts": dict, "history": list}
    for key, kind in wanted.items():
        if not isinstance(journal[key], kind):
            return f"'{key}' is of the wrong kind"
    for where, steps in {"steps": journal["steps"], **journal["containers"]}.items():
        if not isinstance(steps, dict) or not all(map(_are_phases, steps.values())):
            return f"the steps of '{where}' are of the wrong kind"
    if journal["state"] not in STATES or not _is_moment(journal["since"]):
        return "'state' or 'since' is of the wrong kind"
    return None


def _are_phases(noted):
    return isinstance(noted, dict) and all(_is_moment(noted[phase]) for phase in PHASES if phase in noted)


def _is_moment(value):
    """Seconds since the epoch that are a date, too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LAST
