"""The dead-man: nobody commits a node, nobody is left to bring it back, and it comes back by itself.

One node; every test leaves it as the next one finds it, on local storage."""

import json
import time

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, migrate, start
from lab_client import wait_for

FLEET = {"nodes": 1, "cts": 3}
NODE = "node001"
#: Its only pillar file names containers that a small node lacks.
SMALL_NODE = ("      revnat: [asterisk]\n      revnat beta: [asterisk]", "      PBX: [postfix]")
TRACES = (
    "/etc/systemd/system/ringfree* /etc/systemd/system/*.wants/ringfree* /run/systemd/system/ringfree* "
    "/etc/cron.d/ringfree* /var/lib/ringfree/deadman*"
)


@pytest.fixture(scope="module")
def overlay(lab):
    """The pillar of a node that has a minute for its cutover."""
    overlay = Overlay(lab)
    overlay.write(NODE, SMALL_NODE)
    overlay.write("init", ("    seconds: 14400", "    seconds: 60"), ("    idle: 60", "    idle: 5"))
    return overlay


@pytest.fixture(scope="module")
def before(lab, overlay):
    """The node before anything happened, with the gate that holds its starts."""
    Gate(lab, NODE).install()
    return checker.remember(lab, [NODE])[NODE]


def traces(lab):
    """What there is of a dead-man on the node."""
    files = lab.on(NODE, "sh", "-c", f"ls -d {TRACES} 2>/dev/null; true").split()
    units = lab.on(NODE, "systemctl", "list-units", "--all", "--plain", "--no-legend", "ringfree*")
    return files + units.split()


def held(lab):
    """A migration that stands between the last stop and the first start; armed, and the node says so."""
    gate = Gate(lab, NODE)
    gate.close()
    command = start(lab)
    gate.wait(command)
    assert checker.remember(lab, [NODE])[NODE]["running"] == []
    assert lab.on(NODE, "systemctl", "is-enabled", "ringfree-deadman.timer").strip() == "enabled"
    _, said = lab.salt(NODE, "cloudstor.whereabouts")
    assert f"{NODE} is in flight" in said and "It goes back by itself at" in said
    return command


def back(lab):
    """Wait until the node says of itself that it is back, and nothing is left of the dead-man."""

    def is_back():
        code, text = lab.try_on(NODE, "cat", "/var/lib/ringfree/journal.json")
        return not code and json.loads(text)["state"] == "local" and not traces(lab)

    wait_for(is_back, f"{NODE} to come back", 240)


def faults(lab, before):
    """What is not as it was before; the monitoring waits for its own expiry, or for the next run."""
    monitoring = checker.check_monitoring(lab)
    return [text for text in local_side.faults(lab, NODE, before) if text not in monitoring]


def told(lab):
    """What a person is told who asks afterwards."""
    _, said = lab.salt(NODE, "cloudstor.whereabouts")
    assert "local storage" in said and "The dead-man brought it back at" in said
    assert "because nobody had committed it by" in said
    assert "Not done" not in said


def test_h17_master_minion_and_run_are_gone(lab, before):
    """salt-run, the master and the minion are killed with all containers down."""
    command = held(lab)
    lab.on("master", "pkill", "-KILL", "-f", "[s]alt-run state.orch migrate")
    assert command.wait() == 137
    lab.must("fault", "master-kill")
    lab.must("fault", "minion-kill", NODE)
    Gate(lab, NODE).open()
    back(lab)
    assert faults(lab, before) == []
    lab.must("heal")
    told(lab)


def test_h17_the_power_fails_in_flight(lab, before):
    """After the boot nothing starts by itself but the dead-man; the master is not asked."""
    command = held(lab)
    lab.must("salt", NODE, "ringfree_deadman.arm", int(time.time()) + 5)
    lab.must("fault", "power-cut", NODE)
    lab.must("fault", "master-kill")
    command.end()
    lab.must("boot", NODE)
    back(lab)
    assert faults(lab, before) == []
    lab.must("heal")
    told(lab)


def test_h17_a_commit_leaves_nothing_of_it(lab, before, overlay):
    """No timer, unit, cron file or folder; the monitoring that the killed runs had silenced is back too."""
    overlay.restore()
    overlay.write(NODE, SMALL_NODE)
    run = migrate(lab)
    assert run.code == 0, run
    assert traces(lab) == []
    assert checker.check_monitoring(lab) == []
    states = {state["__id__"]: state for state in run.states(NODE)}
    assert states["The node goes back by itself unless it is committed"]["changes"]
    _, said = lab.salt(NODE, "cloudstor.whereabouts")
    assert "dead-man" not in said
