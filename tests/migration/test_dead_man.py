"""The dead man's switch: nobody commits a node, nobody is left to bring it back, and it comes back by itself.

One node; every test leaves it as the next one finds it, on local storage."""

import contextlib
import json
import time

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, migrate, pids, start
from lab_client import wait_for

FLEET = {"nodes": 1, "cts": 3}
MINUTES = 9
NODE = "node001"
#: Its only pillar file names containers that a small node lacks.
SMALL_NODE = ("      revnat: [asterisk]\n      revnat beta: [asterisk]", "      PBX: [postfix]")
#: By this directory sd_booted(3) knows that systemd runs.
MARK = "/run/systemd/system"
#: What succeeds while the dead man's switch is armed.
ARMED = {
    "systemd": ("systemctl", "is-enabled", "ringfree-deadman.timer"),
    "cron": ("test", "-f", "/etc/cron.d/ringfree-deadman"),
}
#: A service that would take containers along, and has nothing that a container should have.
UNKIND = """[Service]
KillMode=control-group
Nice=7
OOMScoreAdjust=300
UMask=0077
LimitNOFILE=900:8192
LimitSTACK=1M:infinity
CPUAffinity=0
IOSchedulingClass=idle
"""
#: A shell of somebody who has set it up for something else.
SHELL = "umask 077; ulimit -Sn 900; echo 300 >/proc/self/oom_score_adj; exec nice -n 7 salt-call vz.start 101"
#: Looks as if the dead man's switch, and a copy, were at work; the other lines are for a container's init.
DECOY = "RINGFREE_COMMAND=1 sh -c 'while :; do sleep 1; done' rsync vzctl salt-call ringfree_rollback.fire"
BOOT_DECOY = f'#!/bin/sh\n[ "$1" = start ] || exit 0\n{DECOY} >/dev/null 2>&1 </dev/null &\n'
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
    lab.must("salt", NODE, "saltutil.sync_all")
    return checker.remember(lab, [NODE])[NODE]


def traces(lab):
    """What there is of a dead man's switch on the node."""
    files = lab.on(NODE, "sh", "-c", f"ls -d {TRACES} 2>/dev/null; true").split()
    # systemd remembers one that has ended, without its file, until the last connection to the SAN is closed.
    units = "systemctl list-units --plain --no-legend 'ringfree*'"
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


@contextlib.contextmanager
def decoys(lab):
    """Of a local user and of an admin on the node, and of root in a container, from its next start on."""
    script = "/vz/private/103/etc/rc3.d/S99decoy"
    lab.write(NODE, script, BOOT_DECOY, "0755")
    users = ("65534", "0")
    begun = [lab.start("exec", NODE, "--", "setpriv", f"--reuid={user}", "sh", "-c", DECOY) for user in users]
    try:
        wait_for(lambda: lab.on(NODE, "pgrep", "-fc", "[r]ollback.fire").strip() >= "2", "the decoys")
        yield
        assert all(not command.ended for command in begun)
    finally:
        lab.try_on(NODE, "pkill", "-f", "[r]ollback.fire")
        for command in begun:
            command.wait()
        lab.on(NODE, "rm", script)


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
    """Wait until the node says of itself that it is back, and nothing is left of the dead man's switch."""

    def is_back():
        code, text = lab.try_on(NODE, "cat", "/var/lib/ringfree/journal.json")
        return not code and json.loads(text)["state"] == "local"

    wait_for(is_back, f"{NODE} to come back", 240)
    inits = pids(lab, NODE)
    wait_for(lambda: not traces(lab), "the end of the dead man's switch", 60)
    assert pids(lab, NODE) == inits


def faults(lab, before):
    """What is not as it was before; the monitoring waits for its own expiry, or for the next run."""
    monitoring = checker.check_monitoring(lab)
    return [text for text in local_side.faults(lab, NODE, before) if text not in monitoring]


def told(lab):
    """What a person is told who asks afterwards."""
    _, said = lab.salt(NODE, "cloudstor.whereabouts")
    assert "local storage" in said and "The dead man's switch brought it back at" in said
    assert "because nobody had committed it by" in said
    assert "Not done" not in said


@contextlib.contextmanager
def unkind_minion(lab):
    """The minion as a site may have set it up."""
    drop_in = "/etc/systemd/system/salt-minion.service.d/unkind.conf"
    lab.on(NODE, "mkdir", "-p", drop_in.rpartition("/")[0])
    lab.write(NODE, drop_in, UNKIND)
    restart_minion(lab)
    try:
        yield
    finally:
        lab.on(NODE, "rm", drop_in)
        restart_minion(lab)


def restart_minion(lab):
    lab.on(NODE, "systemctl", "daemon-reload")
    lab.on(NODE, "systemctl", "restart", "salt-minion")
    wait_for(lambda: "True" in lab.salt(NODE, "test.ping")[1], "the minion", 120)


def test_h37_what_a_job_starts_outlives_the_minion_and_has_nothing_of_it(lab, before):
    """Cgroup, limits, priorities, umask: those of a start by vz at boot; and the end of the minion is not theirs."""
    with unkind_minion(lab):
        lab.must("salt", NODE, "vz.stop", "101,102")
        lab.must("salt", NODE, "vz.start", "101,102")
        started = pids(lab, NODE)
        lab.on(NODE, "systemctl", "stop", "salt-minion")
        assert pids(lab, NODE) == started
        assert faults(lab, before) == []


def test_h37_what_a_person_starts_by_salt_call_has_nothing_of_the_shell(lab, before):
    lab.must("salt", NODE, "vz.stop", "101")
    lab.on(NODE, "sh", "-c", SHELL)
    (given,) = [
        init["given"] for init in lab.ask(NODE, checker.PROBE)["inits"] if checker.ctid_of(init) == 101
    ]
    (wanted,) = [init["given"] for init in before["inits"] if checker.ctid_of(init) == 101]
    assert given == wanted


def test_h37_what_an_update_restarts_in_a_container_has_nothing_of_the_minion(lab, before):
    """The package manager of the container starts its daemons anew."""
    yum = "/vz/private/101/usr/bin/yum"
    lab.on(NODE, "cp", "-p", yum, f"{yum}.before")
    lab.write(NODE, yum, "#!/bin/sh\n[ $1 = -q ] || /etc/init.d/httpd restart\n", "0755")
    lab.must("salt", NODE, "vz.update_packages", "101")
    pid = lab.on(NODE, "pgrep", "-n", "-f", "^/usr/sbin/httpd").strip()
    cgroup = lab.on(NODE, "cat", f"/proc/{pid}/cgroup")
    lab.on(NODE, "mv", f"{yum}.before", yum)
    assert cgroup == before["inits"][0]["given"]["cgroup"]
    assert faults(lab, before) == []


def test_h17_master_minion_and_run_are_gone(lab, before):
    """H33: salt-run, the master and the minion are killed with all containers down; decoys hold nobody up."""
    with decoys(lab):
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
    """After the boot nothing starts by itself but the dead man's switch; the master is not asked."""
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
    """No timer, unit, cron file or folder; the monitoring that the killed runs had silenced is back.  H33: decoys."""
    overlay.restore()
    overlay.write(NODE, SMALL_NODE)
    with decoys(lab):
        run = migrate(lab)
    assert run.code == 0, str(run)
    assert traces(lab) == []
    assert checker.check_monitoring(lab) == []
    states = {state["__id__"]: state for state in run.states(NODE)}
    assert states["The node goes back by itself unless it is committed"]["changes"]
    _, said = lab.salt(NODE, "cloudstor.whereabouts")
    assert "dead man's switch" not in said
