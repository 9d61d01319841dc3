"""One night on which everything goes wrong, one after the other, and after each healing `migrate` goes on.

Three nodes with three containers each. Every test is a run that ends (or is ended) somewhere, on the fleet as the run
before has left it, so the tests stand in the order of the night."""

import json

import checker
import pytest
from fleet_under_test import Gate, Overlay, migrate, monitoring, pids, start
from lab_client import wait_for

FLEET = {"nodes": 3, "cts": 3}
NODES = ("node001", "node002", "node003")
CONTINUE = "'salt-run state.orch migrate' continues"


@pytest.fixture(scope="module")
def before(lab):
    """The fleet before; its pillar has short deadlines for what will not answer."""
    overlay = Overlay(lab)
    overlay.write("init", ("    answer: 120", "    answer: 8"), ("  node: true", "  node: false"))
    exempt = "    exempt:\n      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (exempt, "    exempt: {}"))
    for node in NODES:
        Gate(lab, node).install()
    return checker.remember(lab, NODES)


def journal(lab, node):
    """The state that the journal of a node has, or local when there is none."""
    code, text = lab.try_on(node, "cat", "/var/lib/ringfree/journal.json")
    return "local" if code else json.loads(text)["state"]


def failed(lab, run, *texts):
    """Assert a failure that says what there is to say, and leaves the monitoring on."""
    assert run.code == 1, run
    for text in texts:
        assert text in run.err, f"{text!r} is not in:\n{run}"
    assert checker.check_monitoring(lab) == []
    assert all("ActiveState=active" in unit for unit in monitoring(lab))


def on_nfs(lab, node):
    """The ids that run from NFS; none may run from anything else."""
    inits = lab.ask(node, checker.PROBE)["inits"]
    strangers = [init for init in inits if init["root"]["kind"] not in checker.NFS_KINDS]
    assert strangers == []
    return sorted(checker.ctid_of(init) for init in inits)


def kill(lab, command, text):
    """SIGKILL salt-run as soon as it has said a text."""
    wait_for(lambda: command.ended or command.said(text), text, 300)
    assert not command.ended, command.err
    lab.on("master", "pkill", "-KILL", "-f", "[s]alt-run state.orch migrate")
    assert command.wait() == 137


def rest(lab, node):
    """Wait until a node has done what a killed run had told it to do."""
    jobs = (node, "saltutil.is_running", "state.*", "--out=json", "--static")
    wait_for(lambda: json.loads(lab.must("salt", *jobs)) == {node: []}, f"{node} to come to rest", 300)


def test_package_updates_that_fail(lab, before):
    """H24: yum fails in the containers; nothing has been stopped, and the other nodes were not begun."""
    lab.must("fault", "yum-broken", "node001")
    then = {node: pids(lab, node) for node in NODES}
    try:
        run = migrate(lab)
    finally:
        lab.must("heal")
    failed(
        lab,
        run,
        "node001",
        "packages could not be updated",
        "101:",
        "103:",
        "Cannot retrieve repository metadata",
    )
    assert CONTINUE in run.err
    assert {node: pids(lab, node) for node in NODES} == then
    now = checker.remember(lab, NODES)
    for node in NODES:
        assert (now[node]["confs"], now[node]["mounts"]) == (before[node]["confs"], before[node]["mounts"])
        assert now[node]["etc_vz"]["vz.conf"] == before[node]["etc_vz"]["vz.conf"]
        assert "manifest.tmp" not in now[node]["variables"]
    assert [journal(lab, node) for node in NODES] == ["in_flight", "local", "local"]


def test_containers_that_do_not_stop(lab, before):
    """H10: a process holds the root of 101, another vzctl the lock of 102; nothing is copied and no old copy starts."""
    lab.on("node001", "systemd-run", "--unit=busy", "-p", "WorkingDirectory=/vz/root/101", "sleep", "900")
    lab.on("node001", "sh", "-c", "echo 1 >/vz/lock/102.lck")
    try:
        run = migrate(lab)
    finally:
        lab.on("node001", "systemctl", "stop", "busy")
        lab.on("node001", "rm", "/vz/lock/102.lck")
    failed(
        lab,
        run,
        "node001",
        "Container 101 is down but /vz/root/101 is still mounted",
        "fuser -vm /vz/root/101",
    )
    failed(lab, run, "Container 102 still runs", "already locked", "vzctl stop 102 --fast", CONTINUE)
    assert sorted(pids(lab, "node001")) == [102]
    now = lab.ask("node001", checker.PROBE)
    assert now["confs"]["101.conf"] == before["node001"]["confs"]["101.conf"]
    assert [journal(lab, node) for node in NODES] == ["in_flight", "local", "local"]


def test_nobody_else_starts_a_container_in_flight(lab, before):
    """H05: the node is half way; neither a person nor the vz service starts the old copy."""
    code, said = lab.try_on("node001", "vzctl", "start", 101)
    assert code == 105, said
    lab.try_on("node001", "/etc/init.d/vz", "start")
    assert sorted(pids(lab, "node001")) == [102]


def test_container_that_does_not_start(lab, before):
    """An action script of 103 fails on NFS; those before it run, and the line stops."""
    lab.write("node001", "/etc/vz/conf/103.mount", "#!/bin/sh\nexit 1\n", "0755")
    run = migrate(lab)
    failed(lab, run, "node001", "Container 103 does not run", "vzctl start 103", CONTINUE)
    assert on_nfs(lab, "node001") == [101, 102]
    assert [journal(lab, node) for node in NODES] == ["in_flight", "local", "local"]
    lab.on("node001", "rm", "/etc/vz/conf/103.mount")
    lab.on("san1", "rm", "-f", "/rf-images/vzconf/103.mount")


def test_killed_while_containers_stop(lab, before):
    """H17: node001 goes on to its end; salt-run dies while node002 stops its containers."""
    lab.on("node002", "rm", "/vz/private/201/etc/rc3.d/S50asterisk")
    command = start(lab)
    try:
        kill(lab, command, "node002 stop 2")
    finally:
        command.end()
    assert journal(lab, "node001") == "nfs"
    assert on_nfs(lab, "node001") == [101, 102, 103]
    rest(lab, "node002")


def test_telephones_that_do_not_answer(lab, before):
    """H25: the Asterisk of 201 does not start; the run that continues says so and stops the line."""
    run = migrate(lab)
    failed(lab, run, "node002", "container 201: asterisk does not answer", CONTINUE)
    assert on_nfs(lab, "node002") == [201, 202, 203]
    assert journal(lab, "node002") == "in_flight" and journal(lab, "node003") == "local"
    lab.on("node002", "vzctl", "exec2", 201, "ln -s ../init.d/asterisk /etc/rc3.d/S50asterisk")
    lab.on("node002", "vzctl", "stop", 201)


def test_killed_during_the_final_copy(lab, before):
    """H17: node002 is done; salt-run dies while node003 copies, and what node003 was told goes on."""
    gate = Gate(lab, "node003")
    gate.close()
    command = start(lab)
    try:
        kill(lab, command, "node003 sync ...")
    finally:
        command.end()
    assert journal(lab, "node002") == "nfs"
    wait_for(lambda: "waiting" in lab.on("node003", "ls", "/run/gate"), "a start on node003", 120)


def test_run_beside_the_job_of_a_dead_one(lab, before):
    """H16: the job of the killed run still starts containers; another run leaves it alone and says so."""
    try:
        run = migrate(lab)
    finally:
        Gate(lab, "node003").open()
    failed(
        lab, run, "node003: still works on state.sls of job", "Nothing was stopped and nothing was changed"
    )
    rest(lab, "node003")


def test_last_run_completes(lab, before):
    """Whatever has happened: one more run ends well, and the independent check finds nothing."""
    run = migrate(lab)
    assert run.code == 0, run
    assert [journal(lab, node) for node in NODES] == ["nfs"] * 3
    assert checker.faults(lab, before) == []
