"""What an operator says while a migration runs: Ctrl-C, pause, deadline, commit.

Two nodes; the tests stand in the order of the night, each leaves the fleet as the next one finds it."""

import json
import time

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, Run, changed, everything, migrate, pids, start
from lab_client import wait_for

FLEET = {"nodes": 2, "cts": 3}
MINUTES = 7
NODES = ("node001", "node002")


@pytest.fixture(scope="module")
def overlay(lab):
    """The pillar of a small fleet, on which an operator confirms each node and containers start one by one."""
    overlay = Overlay(lab)
    one_by_one = "after the priority ones; seconds for each.\n    workers: "
    overlay.write(
        "init",
        ("  node: true", "  node: false"),
        ("  confirm: auto", "  confirm: manual"),
        ("  confirm_within: 3600", "  confirm_within: 20"),
        (f"{one_by_one}4", f"{one_by_one}1"),
    )
    exempt = "    exempt:\n      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (exempt, "    exempt: {}"))
    return overlay


@pytest.fixture(scope="module")
def before(lab, overlay):
    """The fleet before anything; a script that only one node had, and brought, would keep the other one from moving."""
    for node in NODES:
        Gate(lab, node).install()
    return checker.remember(lab, NODES)


def wait_said(command, text):
    """Wait until a run has said a text."""
    wait_for(lambda: command.said(text) or command.ended, text, 300)
    assert command.said(text), command.err


def by_then(seconds):
    """The first whole minute that is at least so many seconds away, as a deadline, and as a moment."""
    moment = (int(time.time() + seconds) // 60 + 1) * 60
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)), moment


def at_home(lab, node, before):
    """Assert that a node is on local storage as before."""
    assert local_side.faults(lab, node, before[node]) == []


def test_under_test_true_it_says_the_plan_and_changes_nothing(lab, before):
    """On a node that is fit to move; test_refusals.py has one that is not."""
    lab.on("san1", "mkdir", "-p", "/rf-images/pbx/.ringfree/owner")  # as every pre-sync leaves it
    then = everything(lab, NODES)
    run = start(lab, "test=True", 'pillar={"nodes": ["node001"]}')
    assert run.wait() == 0, run.err
    for text in ("node001:", "change     The containers are stopped", "VE_PRIVATE"):
        assert text in run.out
    assert changed(then, everything(lab, NODES)) == []


def test_h20_without_time_for_the_way_back_nothing_begins(lab, before):
    """The deadline is nearer than what is reserved for a node that was never measured."""
    then = {node: pids(lab, node) for node in NODES}
    run = migrate(lab, "pillar=" + json.dumps({"deadline": by_then(60)[0]}))
    assert run.code == 1, str(run)
    assert "presync was not begun" in run.text
    for node in NODES:
        assert f"{node} was not touched, it is on local storage." in run.err
        at_home(lab, node, before)
    assert {node: pids(lab, node) for node in NODES} == then


def test_ctrl_c_takes_the_node_back_and_says_so(lab, before):
    """The key is pressed while the first container starts from NFS."""
    gate = Gate(lab, "node001")
    gate.close()
    command = start(lab)
    gate.wait(command)
    lab.on("master", "pkill", "-INT", "-f", "[s]alt-run state.orch migrate")
    wait_said(command, "Ctrl-C: nodes in flight go back to local storage")
    wait_for(lambda: "aborted" in lab.on("node001", "cat", "/run/ringfree/orders.json"), "the abort", 60)
    gate.open()
    run = Run(command)
    assert run.code == 1, str(run)
    assert "the run was aborted by root" in run.text
    assert "node001 is back on local storage, 3 of 3 containers answer." in run.err
    assert "node002 was not touched, it is on local storage." in run.err
    for node in NODES:
        at_home(lab, node, before)


def test_paused_confirmed_and_not_confirmed(lab, before):
    """A pause stops nothing; node001 is confirmed and stays; nobody confirms node002, which goes back."""
    then = pids(lab, "node001")
    command = start(lab)
    wait_said(command, "node001 presync")
    lab.must("salt-run", "ringfree.pause")
    wait_said(command, "paused by root at")
    assert pids(lab, "node001") == then
    lab.must("salt-run", "ringfree.resume")
    wait_said(command, "'salt-run ringfree.commit node001' keeps it there")
    lab.must("salt-run", "ringfree.commit", "node001")
    wait_said(command, "node001 commit ok")
    run = Run(command)
    assert run.code == 1, str(run)
    assert "nobody said 'salt-run ringfree.commit node002' within 20 s" in run.text
    assert "node001 is on NFS, 3 of 3 containers answer." in run.err
    assert "node002 is back on local storage, 3 of 3 containers answer." in run.err
    roots = {
        checker.ctid_of(init): init["root"]["kind"] for init in lab.ask("node001", checker.PROBE)["inits"]
    }
    assert set(roots) == {101, 102, 103} and set(roots.values()) <= set(checker.NFS_KINDS)
    at_home(lab, "node002", before)


def test_h20_a_deadline_that_passes_in_flight_takes_the_node_back(lab, overlay, before):
    """There was time enough by what was measured, but a start hangs until it is over."""
    gate = Gate(lab, "node002")
    gate.install()
    with_gate = checker.remember(lab, ["node002"])
    gate.close()
    text, moment = by_then(120)  # a busy machine takes two minutes to the gate, and says so before
    command = start(lab, "pillar=" + json.dumps({"nodes": ["node002"], "deadline": text}))
    try:
        gate.wait(command)
        wait_for(lambda: time.time() > moment, "the deadline", 240)
    finally:
        gate.open()
    run = Run(command)
    assert run.code == 1, str(run)
    assert "has passed" in run.text
    assert "node002 is back on local storage, 3 of 3 containers answer." in run.err
    at_home(lab, "node002", with_gate)


def test_confirmed_without_a_run(lab, overlay, before):
    """The run died while it waited for the word: the word commits, and monitoring comes back with the next run."""
    command = start(lab, 'pillar={"nodes": ["node002"]}')
    wait_said(command, "'salt-run ringfree.commit node002' keeps it there")
    lab.on("master", "pkill", "-KILL", "-f", "[s]alt-run state.orch migrate")
    assert command.wait() == 137
    said = lab.must("salt-run", "ringfree.commit", "node002").decode()
    assert "node002 is on NFS, 3 of 3 containers answer." in said
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert checker.check_monitoring(lab) == []
