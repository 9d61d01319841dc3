"""The dead-man: nobody commits a node, nobody is left to bring it back, and it comes back by itself.

One node; every test leaves it as the next one finds it, on local storage."""

import contextlib
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
#: By this directory sd_booted(3) knows that systemd runs.
MARK = "/run/systemd/system"
#: What succeeds while the dead-man is armed.
ARMED = {
    "systemd": ("systemctl", "is-enabled", "ringfree-deadman.timer"),
    "cron": ("test", "-f", "/etc/cron.d/ringfree-deadman"),
}
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
    units = "systemctl list-units --all --plain --no-legend 'ringfree*'"
    return files + lab.on(NODE, "sh", "-c", f"[ ! -e {MARK} ] || {units}").split()


@contextlib.contextmanager
def no_systemd(lab):
    """
    The node as if something else had booted it: systemd's mark is gone, and so Salt uses init scripts.

    cron is Debian's, and runs; the minion was started anew, and does not report to systemd, which it cannot see.
    """
    drop_in = "/etc/systemd/system/salt-minion.service.d/silent.conf"
    lab.on(NODE, "mkdir", "-p", drop_in.rpartition("/")[0])
    lab.write(NODE, drop_in, "[Service]\nType=exec\n")
    lab.on(NODE, "systemctl", "daemon-reload")
    lab.on(NODE, "systemctl", "start", "cron")
    lab.on(NODE, "systemctl", "stop", "salt-minion")
    lab.on(NODE, "mv", MARK, f"{MARK}.away")
    # systemctl goes by the mark too.
    name = "org.freedesktop.systemd1"
    manager = ("busctl", "call", name, f"/{name.replace('.', '/')}", f"{name}.Manager")
    lab.on(NODE, *manager, "StartUnit", "ss", "salt-minion.service", "replace")
    wait_for(lambda: "True" in lab.salt(NODE, "test.ping")[1], "the minion", 120)
    try:
        yield
    finally:
        lab.on(NODE, "mv", f"{MARK}.away", MARK)
        lab.on(NODE, "rm", drop_in)
        lab.on(NODE, "systemctl", "daemon-reload")
        lab.on(NODE, "systemctl", "stop", "cron")
        lab.on(NODE, "systemctl", "restart", "salt-minion")


def held(lab, scheduler="systemd"):
    """A migration that stands between the last stop and the first start; armed, and the node says so."""
    gate = Gate(lab, NODE)
    gate.close()
    command = start(lab)
    gate.wait(command)
    assert checker.remember(lab, [NODE])[NODE]["running"] == []
    lab.on(NODE, *ARMED[scheduler])
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


def test_h17_a_node_without_systemd_comes_back_by_cron(lab, before):
    """Rehearsed and armed in /etc/cron.d; the master and the minion are killed with all containers down."""
    with no_systemd(lab):
        command = held(lab, "cron")
        assert "deadman ok at" in command.err and "by cron" in command.err
        lab.must("salt", NODE, "ringfree_deadman.arm", int(time.time()) + 5)
        lab.must("fault", "master-kill")
        lab.must("fault", "minion-kill", NODE)
        Gate(lab, NODE).open()
        back(lab)
        command.end()
    lab.must("heal")
    assert faults(lab, before) == []
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
    assert run.code == 0, str(run)
    assert traces(lab) == []
    assert checker.check_monitoring(lab) == []
    states = {state["__id__"]: state for state in run.states(NODE)}
    assert states["The node goes back by itself unless it is committed"]["changes"]
    _, said = lab.salt(NODE, "cloudstor.whereabouts")
    assert "dead-man" not in said
