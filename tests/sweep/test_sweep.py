"""H16, H17, H19: a run is cut short at every boundary of every step, in every way, and every way out of it ends well.

`make test-all` runs a spread of the cases, another one for each commit, and those that have ever failed; `make sweep`
all of them. All on one node, one case after the other."""

import cases
import pytest
from node_under_sweep import KILLS, WAYS, NodeUnderSweep

FLEET = {"nodes": 1, "cts": 2}
MINUTES = 9


@pytest.fixture(scope="module")
def node(lab):
    """The node, with the stand-in at its points."""
    return NodeUnderSweep(lab)


def test_the_cases_are_made_of_the_points_that_a_node_passes(node):
    """A whole migration and a whole way back pass each point of the sweep, and no other one."""
    for run in ("migrate", "rollback"):
        nowhere = cases.Point("nowhere", "intent")
        node.arm(nowhere, "stand")
        node.must(run, "sync_back" if run == "rollback" else None)
        passed = {cases.Point(*point) for point in node.passed()}
        assert passed == set(cases.points(run)), run
    assert node.faults("local") == []


def test_every_way_out_of_every_breakage_ends_well(node, case):
    """Each container runs once, no record is lost, and all else is as it was or as it has to be."""
    node.be(case.begins)
    written = node.streams(case.begins)
    # What a way back does with data depends on where it stands in a migration; both are swept, one after the other.
    keeps = case.run == "rollback" or case.point.phase == "verified"
    data = "sync_back" if keeps else "discard"
    node.arm(case.point, "stand" if case.breaks in KILLS else case.breaks)
    command = node.start(case.run, data)
    try:
        cut_short(node, case, command)
        state = WAYS[case.out](node, command, data)
    finally:
        command.end()
    if case.out == "itself":
        assert state == case.ends or case.may_go_on, "the node did not go back"
    assert node.faults(state) == []
    for ctid, stream in node.streams(state).items():
        assert stream.startswith(written[ctid]), f"container {ctid} has lost what it wrote before"
    if data == "sync_back" and case.out == "rollback":
        kept(node, written)
    node.spoilt = False


def cut_short(node, case, command):
    """Stand at the point and break what the case says; or let it break there."""
    if case.breaks in KILLS:
        node.stand(command)
        KILLS[case.breaks](node, command, case.out)
    elif case.out != "itself":
        # Every sub-step that follows the one that failed is tried, so that the run ends by itself.
        assert command.wait() in (0, 1), command.err


def kept(node, written):
    """What the containers wrote on NFS, when they ran there in this migration, is in the local copy."""
    local, there = node.streams("local"), node.streams("nfs")
    for ctid in written:
        if there[ctid].startswith(written[ctid]):
            assert local[ctid].startswith(there[ctid]), f"container {ctid} has lost what it wrote on NFS"
