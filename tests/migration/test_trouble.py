"""Trouble in the middle of a migration: a full SAN, an NFS server that dies and comes back, a minion that freezes, a
second operator, an admin with vzctl; and on the way back, hosts that are gone.

Two nodes; the tests stand in the order of one night, and each leaves the fleet as the next one finds it. Whatever
happens, a node ends wholly on one store with all its containers, each once, and no record is lost."""

import contextlib
import json
import time

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, Run, migrate, pids, start
from lab_client import wait_for

FLEET = {"nodes": 2, "cts": 3}
MINUTES = 6
NODES = ("node001", "node002")
ONLY = {node: "pillar=" + json.dumps({"nodes": [node]}) for node in NODES}
#: Holds a container's stop on a node once it is down, before anything is copied.
STOP_GATE = """#!/bin/sh
gate=/run/stop-gate-$VEID
[ -e $gate ] || exit 0
: >$gate.waiting
n=0
while [ -e $gate ]; do n=$((n + 1)); [ "$n" -gt 2500 ] && exit 1; sleep 0.1; done
"""
#: Takes rsync's place on a node: holds the end of the comparison after a container's last copy, which is good by then.
#: In the place of the SAN's program: holds the end of a container's verifying pass, which writes nothing.
COPY_GATE = """#!/bin/sh
/usr/local/sbin/ringfree-san.real "$@" || exit
case $SSH_ORIGINAL_COMMAND in 'rsync --server -n'*'/rf-images/pbx/'[0-9]*) ;; *) exit 0 ;; esac
[ -e /run/copy-gate ] || exit 0
: >/run/copy-gate.waiting
n=0
while [ -e /run/copy-gate ]; do n=$((n + 1)); [ "$n" -gt 2500 ] && exit 1; sleep 0.1; done
"""
PROGRAM = "/usr/local/sbin/ringfree-san"


@pytest.fixture(scope="module")
def overlay(lab):
    """The pillar of a small fleet."""
    overlay = Overlay(lab)
    exempt = "    exempt:\n      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (exempt, "    exempt: {}"))
    overlay.write("init", ("  node: true", "  node: false"))
    return overlay


@pytest.fixture(scope="module")
def before(lab, overlay):
    """The fleet before anything, with gates on its nodes."""
    for node in NODES:
        Gate(lab, node).install()
        lab.write(node, "/etc/vz/conf/vps.umount", STOP_GATE, "0755")
    lab.on("san1", "cp", PROGRAM, f"{PROGRAM}.real")
    lab.write("san1", PROGRAM, COPY_GATE, "0755")
    return checker.remember(lab, NODES)


def back(lab, run, node, before):
    """Assert that a run failed, that its node is back by itself, whole, and that its last words say so."""
    assert run.code == 1, str(run)
    assert f"{node} is back on local storage, 3 of 3 containers answer." in run.err, str(run)
    assert local_side.faults(lab, node, before[node]) == []


def settled(lab, run, node, before):
    """Assert that a node is wholly on one store, and that the run said which."""
    if run.code == 0:
        assert f"{node} is on NFS, 3 of 3 containers answer." in run.err, str(run)
        return
    if f"{node} is in flight" in run.err:
        # The share was silent when the node wanted to go back: one command once it answers again.
        command = lab.start("salt-run", "state.orch", "rollback", ONLY[node], "--out=json")
        assert command.wait() == 0, command.err
        assert local_side.faults(lab, node, before[node]) == []
        return
    back(lab, run, node, before)


def after(seconds):
    """Let a fault stand for some time."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end, "time to pass", seconds + 60)


@contextlib.contextmanager
def held(lab, host, command, gate):
    """While the run stands at a gate of a host."""
    try:
        waiting = ("test", "-e", f"{gate}.waiting")
        wait_for(lambda: command.ended or lab.try_on(host, *waiting)[0] == 0, f"the gate {gate}", 300)
        assert not command.ended, command.err
        yield
    finally:
        lab.on(host, "rm", "-f", gate, f"{gate}.waiting")


def test_the_san_is_full_when_the_last_changes_are_copied(lab, before):
    """The containers are down and the share takes nothing any more: everything runs at home again, by itself."""
    node, gate = "node001", "/run/stop-gate-101"
    lab.on(node, "touch", gate)
    command = start(lab, ONLY[node])
    try:
        with held(lab, node, command, gate):
            lab.must("fault", "san-full", "san1")
        run = Run(command)
    finally:
        lab.must("heal")
    assert "No space left on device" in run.err, str(run)
    back(lab, run, node, before)


def test_an_admin_starts_a_container_by_force_while_others_still_stop(lab, before):
    """H02: it runs on where it is, nothing of it or of any other is copied, and the node goes back by itself."""
    node, gate = "node001", "/run/stop-gate-102"
    lab.on(node, "touch", gate)
    command = start(lab, ONLY[node])
    with held(lab, node, command, gate):
        wait_for(lambda: "down" in lab.on(node, "vzctl", "status", "101"), "container 101 to be down")
        lab.on(node, "vzctl", "start", "101", "--force")
        init = pids(lab, node)[101]
    run = Run(command)
    assert "nothing was copied: container 101 runs" in run.err, str(run)
    back(lab, run, node, before)
    assert pids(lab, node)[101] == init


def test_the_nfs_server_dies_while_containers_start_and_comes_back(lab, before):
    """H13: gone for ten seconds in the middle of a start; the migration ends well, or the node goes back."""
    node = "node001"
    gate = Gate(lab, node)
    gate.close()
    command = start(lab, ONLY[node])
    gate.wait(command)
    lab.must("fault", "ganesha-kill", "san1")
    gate.open()
    after(10)
    lab.must("heal")
    run = Run(command)
    settled(lab, run, node, before)
    if run.code == 0:
        assert checker.faults(lab, {node: before[node]}) == []


def test_an_admin_has_a_hand_on_the_containers_while_the_run_moves_them(lab, overlay, before):
    """
    H02, H09: between a container's last copy and the share's word nobody starts it, not even by force; one that is
    stopped later is not committed, nobody starts it past the guard, and at home it runs again.
    """
    node, gate = "node002", "/run/copy-gate"
    overlay.write("init", ("  node: true", "  node: false"), ("  confirm: auto", "  confirm: manual"))
    lab.on("san1", "touch", gate)
    command = start(lab, ONLY[node])
    with held(lab, "san1", command, gate):
        code, said = lab.try_on(node, "vzctl", "start", 201, "--force")
        assert code == 79, said
        assert "container 201 does not start from local disk any more" in said
        assert "down" in lab.on(node, "vzctl", "status", 201)
    wait_for(
        lambda: command.ended or command.said(f"'salt-run ringfree.commit {node}' keeps it there"),
        "the question",
        300,
    )
    assert not command.ended, command.err
    lab.on(node, "vzctl", "stop", 202)
    code, said = lab.salt_run("ringfree.commit", node)
    assert code == 1 and "nothing was confirmed: container 202 does not run" in said
    code, said = lab.try_on(node, "vzctl", "start", 202)
    assert code == 105, said
    lab.must("salt-run", "ringfree.abort")
    back(lab, Run(command), node, before)
    overlay.write("init", ("  node: true", "  node: false"))


def test_a_minion_freezes_and_a_second_operator_comes(lab, before):
    """H16, H18: the other run is refused and names the first; the frozen one goes on as if nothing had been."""
    node = "node002"
    gate = Gate(lab, node)
    gate.close()
    command = start(lab, ONLY[node])
    gate.wait(command)
    second = migrate(lab, ONLY[node])
    assert second.code == 1, second
    for text in ("'migrate' runs since", "started by root as process", "Nothing was touched"):
        assert text in second.err, second
    lab.must("fault", "minion-freeze", node)
    gate.open()
    after(15)
    assert not command.ended, command.err
    lab.must("heal")
    settled(lab, Run(command), node, before)


def test_after_all_this_the_fleet_moves(lab, before):
    """One more run, and the independent check finds nothing: nothing lost, doubled, or left behind."""
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert checker.faults(lab, before) == []


def test_the_way_back_waits_for_no_host_that_is_gone(lab, before):
    """H15: node002 and the monitoring host are silent; node001 goes back, and the run says of whom it knows nothing."""
    back_home = "pillar=" + json.dumps({"nodes": list(NODES)})
    lab.must("fault", "minion-kill", "node002")
    lab.must("fault", "power-cut", "mon001")
    try:
        run = lab.start("salt-run", "state.orch", "rollback", back_home, "--out=json")
        code = run.wait()
    finally:
        lab.must("heal")
    assert code == 1, run.err
    assert "node001 is back on local storage, 3 of 3 containers answer." in run.err
    for host in ("node002", "mon001"):
        assert f"{host}: does not answer: 'salt {host} test.ping'" in run.err
    assert local_side.faults(lab, "node001", before["node001"]) == []
    again = lab.start("salt-run", "state.orch", "rollback", back_home, "--out=json")
    assert again.wait() == 0, again.err
    assert [local_side.faults(lab, node, before[node]) for node in NODES] == [[], []]
