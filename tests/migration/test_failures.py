"""One night on which everything goes wrong, one after the other: after each failure the node is back on local storage,
after each kill `migrate` goes on.

The site has settings of its own (H36), on the master and on node001: all that could bend a night and that each step
overrides. Three nodes with three
containers each. Every test is a run that ends (or is ended) somewhere, on the fleet as the run before has left it, so
the tests stand in the order of the night."""

import json
import re

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, migrate, minion_answers, monitoring, pids, start
from lab_client import wait_for

FLEET = {"nodes": 3, "cts": 3}
MINUTES = 8
NODES = ("node001", "node002", "node003")
#: Unless each step overrides them no way back runs, nothing happens, and other SLS are looked for.
OF_MASTER = """
failhard: True
state_aggregate: True
state_events: True
state_output: terse
state_verbose: False
jinja_sls_env: {lstrip_blocks: True}
top_file_merging_strategy: same
pillar_opts: True
job_cache: False
timeout: 2
"""
OF_NODE = """
test: True
failhard: True
saltenv: prod
state_aggregate: True
state_events: True
grains_cache: True
multiprocessing: False
autoload_dynamic_modules: False
clean_dynamic_modules: False
backup_mode: minion
"""
CONTINUE = "'salt-run state.orch migrate' continues"
#: Ends well wherever the container is, and puts the customer's directory where the container was once.
OLD_ROOT = """#!/bin/sh
for at in vz/root; do at=/$at/$VEID/var/spool/shared; done
mkdir -p $at && mount -n --bind /srv/voicemail $at
"""
#: What somebody started by hand, and what comes and goes, is gone after a stop.
BY_HAND = """
httpd -p 7777
printf '#!/bin/sh\nwhile :; do sleep 1; done\n' >/dev/shm/poller
printf '#!/bin/sh\nwhile :; do sleep 1; done\n' >/dev/shm/rsync
chmod 755 /dev/shm/poller /dev/shm/rsync
setsid /dev/shm/poller </dev/null >/dev/null 2>&1 &
setsid /dev/shm/rsync </dev/null >/dev/null 2>&1 &
setsid sleep 3000 </dev/null >/dev/null 2>&1 &
ip route add 10.99.0.0/16 dev venet0
ip addr add 10.99.0.1/32 dev venet0
"""


@pytest.fixture(scope="module")
def before(lab):
    """The fleet before; its pillar has a short deadline for what will not answer, and one start at a time."""
    overlay = Overlay(lab)
    one_by_one = "after the priority ones; seconds for each.\n    workers: "
    overlay.write(
        "init",
        ("    answer: 120", "    answer: 8"),
        ("  node: true", "  node: false"),
        (f"{one_by_one}4", f"{one_by_one}1"),
    )
    exempt = "    exempt:\n      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (exempt, "    exempt: {}"))
    for node in NODES:
        Gate(lab, node).install()
    lab.write("master", "/etc/salt/master.d/site.conf", OF_MASTER)
    lab.on("master", "systemctl", "restart", "salt-master")
    lab.write("node001", "/etc/salt/minion.d/site.conf", OF_NODE)
    lab.on("node001", "systemctl", "restart", "salt-minion")
    for node in NODES:
        minion_answers(lab, node)
    return checker.remember(lab, NODES)


def journal(lab, node):
    """The state that the journal of a node has, or local when there is none."""
    code, text = lab.try_on(node, "cat", "/var/lib/ringfree/journal.json")
    return "local" if code else json.loads(text)["state"]


def failed(lab, run, *texts):
    """Assert a failure that says what there is to say, and leaves the monitoring on."""
    assert run.code == 1, str(run)
    for text in texts:
        assert text in run.err, f"{text!r} is not in:\n{run}"
    assert checker.check_monitoring(lab) == []
    assert all("ActiveState=active" in unit for unit in monitoring(lab))


def back(lab, run, node, before):
    """Assert that a node went back by itself, whole, and that the run says so."""
    assert f"{node} is back on local storage, 3 of 3 containers answer." in run.err, str(run)
    assert journal(lab, node) == "local"
    assert local_side.faults(lab, node, before[node]) == []


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
        "node002 was not touched",
        "node003 was not touched",
    )
    back(lab, run, "node001", before)
    assert {node: pids(lab, node) for node in NODES} == then
    now = checker.remember(lab, NODES)
    for node in NODES:
        assert (now[node]["confs"], now[node]["mounts"]) == (before[node]["confs"], before[node]["mounts"])
        assert now[node]["etc_vz"]["vz.conf"] == before[node]["etc_vz"]["vz.conf"]
        assert "manifest.tmp" not in now[node]["variables"]


def test_containers_that_do_not_stop(lab, before):
    """H10: a process holds the root of 101, another vzctl the lock of 102; nothing is copied, all run as before."""
    lab.on("node001", "systemd-run", "--unit=busy", "-p", "WorkingDirectory=/vz/root/101", "sleep", "900")
    lab.on("node001", "sh", "-c", "echo 1 >/vz/lock/102.lck")
    then = pids(lab, "node001")
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
    failed(lab, run, "Container 102 still runs", "already locked", "vzctl stop 102 --fast")
    back(lab, run, "node001", before)
    assert pids(lab, "node001")[102] == then[102]


def test_container_that_does_not_start(lab, before):
    """An action script of 103 fails on NFS: the node goes back, with those that ran there already."""
    script = "#!/bin/sh\n! grep -q nfsprivate $VE_CONFFILE\n"
    lab.write("node001", "/etc/vz/conf/103.mount", script, "0755")
    with_script = checker.remember(lab, NODES)
    run = migrate(lab)
    failed(lab, run, "node001", "Container 103 does not run", "vzctl start 103", "node002 was not touched")
    back(lab, run, "node001", with_script)
    lab.on("node001", "rm", "/etc/vz/conf/103.mount")
    lab.on("san1", "rm", "-f", "/rf-images/vzconf/103.mount")


def test_h38_what_a_container_had_before_its_stop_it_must_have_again(lab, before):
    """
    A mount script with a written-out path ends well and leaves the customer's directory empty; what was started by hand
    does not come back.  The node goes back.
    """
    lab.on("node001", "sh", "-c", "mkdir -p /srv/voicemail && echo hello >/srv/voicemail/message")
    lab.write("node001", "/etc/vz/conf/101.mount", OLD_ROOT, "0755")
    # As vz starts it, and not with what a shell gives it.
    for words in (("saltutil.sync_all",), ("vz.stop", 101), ("vz.start", 101)):
        lab.on("node001", "salt-call", *words)
    lab.on("node001", "vzctl", "exec2", 101, BY_HAND)
    with_script = checker.remember(lab, NODES)
    run = migrate(lab)
    lost = ["address 10.99.0.1", "mount /var/spool/shared", "process poller", "route 10.99.0.0/16 dev venet0"]
    failed(lab, run, "container 101 lacks what it had before its stop: ")
    (said, *_) = re.findall(r"container 101 lacks what it had before its stop: (.*?) \(what", run.err)
    assert sorted(re.sub(r" \([^)]*\)", "", said).split(", ")) == [*lost, "tcp [::]:7777"]
    back(lab, run, "node001", with_script)
    # What was started by hand is not there at home either, and is named there too; the customer's directory is.
    assert (
        "mount"
        not in re.findall(r"container 101 lacks what it had before its stop: (.*?) \(what", run.err)[-1]
    )
    assert lab.on("node001", "vzctl", "exec2", 101, "cat /var/spool/shared/message") == "hello\n"
    exempt = "    exempt:\n      revnat: [asterisk]\n      revnat beta: [asterisk]"
    allowed = "    exempt: {}\n    may_lack: {Four Seasons hospice: ['mount /var/spool/*']}"
    Overlay(lab).write("node001", (exempt, allowed))


def test_killed_while_containers_stop(lab, before):
    """
    H17: node001, on which the pillar lets the mount of before be missing, goes on to its end; salt-run dies while
    node002 stops its containers.
    """
    command = start(lab)
    try:
        kill(lab, command, "node002 stop 2")
    finally:
        command.end()
    assert journal(lab, "node001") == "nfs"
    assert on_nfs(lab, "node001") == [101, 102, 103]
    lab.on("node001", "rm", "/etc/vz/conf/101.mount")
    # Each start of it on NFS has left one there.
    lab.on("node001", "sh", "-c", "while umount /vz/root/101/var/spool/shared 2>/dev/null; do :; done")
    rest(lab, "node002")


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
    assert on_nfs(lab, "node002") == [201, 202, 203]
    wait_for(lambda: "waiting" in lab.on("node003", "ls", "/run/gate"), "a start on node003", 120)


def test_nobody_else_starts_a_container_in_flight(lab, before):
    """H05: one of three stands at the gate; neither a person nor the vz service starts the others meanwhile."""
    (waiting,) = [
        int(name.split("-")[1]) for name in lab.on("node003", "ls", "/run/gate").split() if "-" in name
    ]
    for ctid in {301, 302, 303} - {waiting}:
        code, said = lab.try_on("node003", "vzctl", "start", ctid)
        assert code == 105, said
    lab.try_on("node003", "/etc/init.d/vz", "start")
    assert not {301, 302, 303} & {*pids(lab, "node003")} - {waiting}


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
    assert run.code == 0, str(run)
    assert [journal(lab, node) for node in NODES] == ["nfs"] * 3
    assert checker.faults(lab, before) == []


def test_a_failed_check_takes_no_committed_node_back(lab, before):
    """A telephone that is silent days later stops a further run; the node stays on NFS with what it wrote since."""
    lab.on("node002", "vzctl", "exec2", 201, "/etc/init.d/asterisk stop")
    then = {node: pids(lab, node) for node in NODES}
    run = migrate(lab)
    failed(lab, run, "node002", "container 201: asterisk does not answer")
    assert "node002 is on NFS, 2 of 3 containers answer." in run.err, str(run)
    assert {node: pids(lab, node) for node in NODES} == then
    lab.on("node002", "vzctl", "exec2", 201, "/etc/init.d/asterisk start")
