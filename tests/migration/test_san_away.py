"""H13: the SAN dies in the middle of a migration, and the node goes home without it.

The tests stand in the order of the night."""

import json
import signal

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, Run, looks, start
from lab_client import wait_for

FLEET = {"nodes": 1, "cts": 3}
MINUTES = 9
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


@pytest.fixture
def away(lab):
    """Cuts the SAN off, which is whole again when a test begins."""
    lab.run("heal")
    wait_for(lambda: lab.try_on(NODE, "ping", "-c1", "-W1", "10.77.0.21")[0] == 0, "the SAN", 60)
    return lambda: lab.must("fault", "link-down", "san1")


def went_home(command):
    """Assert that a migration failed, and that its node is at home by itself."""
    run = Run(command)
    assert run.code == 1, str(run)
    assert f"{NODE} is back on local storage, 3 of 3 containers answer." in run.err, str(run)


def back(lab):
    """Once the SAN is there again the rollback ends what only it could be told."""
    lab.run("heal")
    command = lab.start("salt-run", "state.orch", "rollback", "pillar=" + json.dumps({"nodes": [NODE]}))
    assert command.wait() == 0, command.err


def all_but_the_owner_records(lab, before):
    """What is not as before, without what only the SAN can be told: that the live copies are local again."""
    return [fault for fault in local_side.faults(lab, NODE, before) if "the owner record" not in fault]


def test_the_san_dies_before_it_is_mounted(lab, before, away):
    """The containers have not even been stopped, and run on in the same processes."""
    command = start(lab)
    wait_for(lambda: command.said("node001 snapshot ok") or command.ended, "the snapshot", 300)
    away()
    went_home(command)
    assert all_but_the_owner_records(lab, before) == []
    assert checker.remember(lab, [NODE])[NODE]["inits"] == before["inits"]


def test_the_san_dies_while_the_last_changes_are_copied(lab, before, away):
    """The node is wholly at home, by itself, while the SAN is still away."""
    command = start(lab)
    wait_for(lambda: command.said("node001 sync ...") or command.ended, "the final copy", 300)
    away()
    went_home(command)
    assert local_side.faults(lab, NODE, before) == []


def test_the_san_dies_under_containers_that_start_from_it(lab, before, away):
    """What hangs is ended by force, as its data is let go; the node is wholly at home while the SAN is still away."""
    gate = Gate(lab, NODE)
    gate.close()
    command = start(lab)
    gate.wait(command)
    away()
    gate.open()
    went_home(command)
    assert all_but_the_owner_records(lab, before) == []
    back(lab)
    assert local_side.faults(lab, NODE, before) == []


def test_back_from_a_share_that_hangs_under_running_containers(lab, before, away):
    """
    H13: days after the commit the SAN dies for good, and a rollback by hand brings the telephones back.

    A job that was about to look at the share ends itself.
    """
    run = Run(start(lab))
    assert run.code == 0, str(run)
    assert looks(lab, NODE, "/vz/nfsprivate")[0] == 0
    away()
    assert looks(lab, NODE, "/vz/nfsprivate")[0] == 128 + signal.SIGKILL
    command = lab.start("salt-run", "state.orch", "rollback", "pillar=" + json.dumps({"nodes": [NODE]}))
    assert command.wait() == 1, command.err
    assert f"{NODE} is back on local storage, 3 of 3 containers answer." in command.err, command.err
    assert all_but_the_owner_records(lab, before) == []
    back(lab)
    assert local_side.faults(lab, NODE, before) == []
