"""The states of a node's migration, in the order in which the SLS files apply them."""

KEYS = ["VE_ROOT", "VE_PRIVATE", "DISK_QUOTA"]


def steps(node):
    """A list of `(state, arguments)`."""
    mounts = {share: entry["mount"] for share, entry in node.pillar["shares"].items()}
    paths = {
        "VE_ROOT": f"{mounts['root']}/$VEID",
        "VE_PRIVATE": f"{mounts['private']}/$VEID",
        "DISK_QUOTA": "no",
    }
    return [
        ("cloudstor.presynced", {}),
        ("cloudstor.begun", {}),
        ("vz.packages_updated", {}),
        ("vz.manifested", {}),
        ("cloudstor.snapshotted", {}),
        ("vz.others_pinned", {"keys": KEYS}),
        ("cloudstor.mount_points_closed", {}),
        ("ringfree_nfs.variables", {}),
        ("cloudstor.mounted", {"shares": ["private", "root"]}),
        ("cloudstor.guarded", {}),
        ("cloudstor.conf_share_prepared", {}),
        ("cloudstor.deadman_armed", {"seconds": 14400}),
        ("vz.stopped", {}),
        ("cloudstor.synced", {}),
        ("cloudstor.owned", {}),
        ("vz.containers_configured", {"settings": paths}),
        ("vz.configured", {"settings": paths}),
        ("vz.restarted", {}),
        ("cloudstor.mounted", {"shares": ["conf"]}),
        ("vz.running", {"first": True}),
        ("vz.running", {}),
        ("vz.load_normal", {}),
        ("cloudstor.vz_waits", {}),
        ("cloudstor.committed", {}),
        ("ringfree_nfs.variables", {"mounted": True}),
    ]


def apply(node, state, arguments=None, test=False):
    """What a state returns on a fake node."""
    return node.minion(test=test).states[state]("a sentence", **(arguments or {}))


def until(node, state, **arguments):
    """Bring a node to just before a state; returns a function that applies it: `state(test=False)`."""
    todo = steps(node)
    at = next(
        number
        for number, (name, given) in enumerate(todo)
        if name == state and arguments.items() <= given.items()
    )
    start = node.fingerprint()
    done = max((number for known, number in _KEPT if known == start and number <= at), default=0)
    if done:
        node.restore(_KEPT[start, done])
    for name, given in todo[done:at]:
        result = apply(node, name, given)
        assert result["result"] is True, (name, result["comment"])
    if at and (start, at) not in _KEPT:
        _KEPT[start, at] = node.keep()
    return lambda test=False: apply(node, state, todo[at][1], test)


#: Nodes that were brought somewhere once: how each began, how many steps it made, what it was then.
_KEPT = {}
