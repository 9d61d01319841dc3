"""H13: the SAN dies in the middle of a migration, and the node goes home without it.

The tests stand in the order of the night."""

import json

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, Run, start
from lab_client import wait_for

FLEET = {"nodes": 1, "cts": 3}
NODE = "node001"


@pytest.fixture(scope="module")
def before(lab):
    """The node before anything; its pillar has short deadlines for what will not answer."""
    overlay = Overlay(lab)
    start_within = "after the priority ones; seconds for each.\n    workers: 4\n    deadline: "
    overlay.write(
        "init",
        ("  node: true", "  node: false"),
        ("    deadline: 60", "    deadline: 10"),
        ("    timeout: 600", "    timeout: 10"),
        ("    answer: 120", "    answer: 10"),
        (f"{start_within}300", f"{start_within}20"),
    )
    lacking = "      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (lacking, "      PBX: [postfix]"))
    Gate(lab, NODE).install()
    return checker.remember(lab, [NODE])[NODE]


def test_the_san_dies_while_the_last_changes_are_copied(lab, before):
    """The node is wholly at home, by itself, while the SAN is still away."""
    command = start(lab)
    wait_for(lambda: command.said("node001 sync ...") or command.ended, "the final copy", 300)
    lab.must("fault", "link-down", "san1")
    run = Run(command)
    assert run.code == 1, run
    assert f"{NODE} is back on local storage, 3 of 3 containers answer." in run.err, run
    assert local_side.faults(lab, NODE, before) == []


def test_the_san_dies_under_containers_that_start_from_it(lab, before):
    """What hangs is ended by force, as its data is let go; the node is wholly at home while the SAN is still away."""
    # heal also waits for the minion of the SAN, which takes its time to notice that its link is back.
    lab.run("heal")
    wait_for(lambda: lab.try_on(NODE, "ping", "-c1", "-W1", "10.77.0.21")[0] == 0, "the SAN", 60)
    gate = Gate(lab, NODE)
    gate.close()
    command = start(lab)
    gate.wait(command)
    lab.must("fault", "link-down", "san1")
    gate.open()
    run = Run(command)
    assert run.code == 1, run
    assert f"{NODE} is back on local storage, 3 of 3 containers answer." in run.err, run
    # What only the SAN can be told, that the live copies are local again, is open, and done once it is back.
    assert [fault for fault in local_side.faults(lab, NODE, before) if "the owner record" not in fault] == []
    lab.run("heal")
    command = lab.start("salt-run", "state.orch", "rollback", "pillar=" + json.dumps({"nodes": [NODE]}))
    assert command.wait() == 0, command.err
    assert local_side.faults(lab, NODE, before) == []
