"""The states of a node's migration, in the order in which the SLS files apply them."""

import pytest

KEYS = ["VE_ROOT", "VE_PRIVATE", "DISK_QUOTA"]
#: Each with its arguments; the settings are those of a node's own paths.
STEPS = [
    ("cloudstor.presynced", {}),
    ("cloudstor.begun", {}),
    ("vz.packages_updated", {}),
    ("vz.manifested", {}),
    ("ringfree_fingerprint.taken", {}),
    ("ringfree_snapshot.made", {}),
    ("vz.others_pinned", {"keys": KEYS}),
    ("ringfree_boot.mount_points_closed", {}),
    ("ringfree_nfs.variables", {}),
    ("ringfree_nfs.mounted", {"shares": ["private", "root"]}),
    ("ringfree_guard.guarded", {}),
    ("ringfree_confs.prepared", {}),
    ("ringfree_deadman.armed", {"seconds": 14400}),
    ("vz.stopped", {}),
    ("cloudstor.synced", {}),
    ("ringfree_owner.owned", {}),
    ("vz.containers_configured", {"settings": None}),
    ("vz.configured", {"settings": None}),
    ("vz.restarted", {}),
    ("ringfree_nfs.mounted", {"shares": ["conf"]}),
    ("vz.running", {"first": True}),
    ("vz.running", {}),
    ("ringfree_start.load_normal", {}),
    ("ringfree_boot.vz_waits", {}),
    ("cloudstor.committed", {}),
    ("ringfree_nfs.variables", {"mounted": True}),
]


def each_step(but=(), first=STEPS[0][0], last=STEPS[-1][0]):
    """For a test of each step, some or none left out: `def test(fleet, step)`, where `step` is its number."""
    names = [name for name, _ in STEPS]
    numbers = [
        number
        for number in range(names.index(first), len(names) - names[::-1].index(last))
        if names[number] not in but
    ]
    return pytest.mark.parametrize(
        "step", numbers, ids=[f"{number:02}-{names[number]}" for number in numbers]
    )


def steps(node):
    """A list of `(state, arguments)`."""
    mounts = {share: node.mount_point(share) for share in node.pillar["shares"]}
    paths = {
        "VE_ROOT": f"{mounts['root']}/$VEID",
        "VE_PRIVATE": f"{mounts['private']}/$VEID",
        "DISK_QUOTA": "no",
    }
    return [(name, {**given, "settings": paths} if "settings" in given else given) for name, given in STEPS]


def apply(node, state, arguments=None, test=False):
    """What a state returns on a fake node."""
    return node.minion(test=test).states[state]("a sentence", **(arguments or {}))


def until(node, state, **arguments):
    """Bring a node to just before a state; returns a function that applies it: `state(test=False)`."""
    number = next(
        number
        for number, (name, given) in enumerate(STEPS)
        if name == state and arguments.items() <= given.items()
    )
    bring(node, number)
    return lambda test=False: apply(node, *steps(node)[number], test)


def bring(node, number):
    """Make so many steps of a migration."""
    start = node.fingerprint()
    done = max((reached for known, reached in _KEPT if known == start and reached <= number), default=0)
    if done:
        node.restore(_KEPT[start, done])
    for name, given in steps(node)[done:number]:
        result = apply(node, name, given)
        assert result["result"] is True, (name, result["comment"])
    if number and (start, number) not in _KEPT:
        _KEPT[start, number] = node.keep()


#: Nodes that were brought somewhere once: how each began, how many steps it made, what it was then.
_KEPT = {}
