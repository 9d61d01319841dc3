"""The way back, from the commit and from the middle, judged by what there is and not by what is said.

One node, with a conf share of its own; every test leaves it as the next one finds it, on local storage."""

import json

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, changed, migrate, start
from lab_client import wait_for

FLEET = {"nodes": 1, "cts": 3}
NODE = "node001"
CTIDS = [101, 102, 103]


@pytest.fixture(scope="module")
def before(lab):
    """The node before anything happened; its only pillar file names containers that a small node lacks."""
    text = lab.on("master", "cat", f"/srv/ringfree/pillar/ringfree/{NODE}.sls")
    lacking = "      revnat: [asterisk]\n      revnat beta: [asterisk]"
    assert lacking in text
    text = text.replace(lacking, "      PBX: [postfix]")
    lab.write("master", f"/srv/lab-pillar/ringfree/{NODE}.sls", text)
    Overlay(lab).write("init", ("export: /rf-images/vzconf,", "export: '/rf-images/vzconf/{node}',"))
    lab.on("san1", "mkdir", f"/rf-images/vzconf/{NODE}")
    return checker.remember(lab, [NODE])[NODE]


class Rollback:
    """What a rollback said when it had ended."""

    def __init__(self, lab, **pillar):
        words = json.dumps({"nodes": [NODE], **pillar})
        command = lab.start("salt-run", "state.orch", "rollback", f"pillar={words}", "--out=json")
        self.code, self.err, self.out = command.wait(), command.err, command.out

    def __str__(self):
        return f"exit code {self.code}\n{self.err}\n{self.out}"


def faults(lab, then):
    """What is not as it was before the migration."""
    return local_side.faults(lab, NODE, then)


#: The node's own update brings a new minion and restarts it, which ends every job of it, and goes on for a while.
YUM = """#!/bin/sh
[ "$1" = -y ] || exit 0
[ -e /root/updated ] && exit 0
: >/root/updated
systemctl restart salt-minion || exit
sleep 2
: >/root/updated-to-the-end
"""


def test_h16_an_update_of_the_node_that_restarts_its_minion_ends_no_migration(lab, before):
    """The job never answers; the node says what became of the part, and the update was not cut off."""
    lab.write(NODE, "/usr/bin/yum", YUM, "0755")
    run = migrate(lab, 'pillar={"ringfree": {"timeout": 30}}')
    lab.on(NODE, "rm", "/usr/bin/yum", "/root/updated")
    assert run.code == 0, str(run)
    for text in ("the job of packages did not answer", "packages goes on with: Packages are up to date"):
        assert text in run.err, str(run)
    lab.on(NODE, "rm", "/root/updated-to-the-end")
    assert run.err.count(f"{NODE} stop ... ") == 1
    assert [state["result"] for state in run.states(NODE)] == [True] * len(run.states(NODE))


def test_the_dry_run_changes_nothing_and_says_what_it_would(lab, before):
    """On a committed node test=True names the containers and the mounts; the node stays on NFS."""
    then = checker.remember(lab, [NODE])
    said = lab.must("salt", NODE, "state.sls", "ringfree.rollback", "test=True", "--out=json")
    (state,) = json.loads(said)[NODE].values()
    assert state["result"] is None
    assert set(state["changes"]) == {"state", "101", "102", "103", *checker.exports(then[NODE])}
    assert changed(then, checker.remember(lab, [NODE])) == []


def test_back_after_the_commit_while_the_monitoring_host_is_down(lab, before):
    """H21: with what was written on NFS, from a conf share of its own; the host is named and keeps nobody waiting."""
    lab.must("fault", "power-cut", "mon001")
    run = Rollback(lab, data="sync_back")
    assert run.code == 1 and "mon001: " in run.err, str(run)
    assert f"{NODE} is back on local storage, 3 of 3 containers answer." in run.err
    lab.must("heal")
    assert faults(lab, before) == []
    home, nfs = (local_side.streams(lab, NODE, CTIDS, store) for store in ("local", "nfs"))
    assert [ctid for ctid in CTIDS if not home[ctid].startswith(nfs[ctid])] == []


def test_a_second_rollback_changes_nothing(lab, before):
    then = checker.remember(lab, [NODE])
    run = Rollback(lab)
    assert run.code == 0, str(run)
    assert changed(then, checker.remember(lab, [NODE])) == []


def test_back_from_the_middle_after_a_kill(lab, before):
    """H16, H17: salt-run is killed while containers start from NFS, and the job on the node goes on without it."""
    gate = Gate(lab, NODE)
    gate.install()
    with_gate = checker.remember(lab, [NODE])[NODE]
    gate.close()
    command = start(lab)
    gate.wait(command)
    lab.on("master", "pkill", "-KILL", "-f", "[s]alt-run state.orch migrate")
    assert command.wait() == 137
    gate.open()
    run = Rollback(lab)
    assert run.code == 0, str(run)
    assert faults(lab, with_gate) == []


def test_a_busy_share_is_named_and_no_conf_is_written_onto_it(lab, before):
    """H07: the conf share cannot be unmounted; nothing is forced, the share's confs stay, a second try ends it."""
    run = migrate(lab)
    assert run.code == 0, str(run)
    then = lab.ask("san1", checker.TREE, "/rf-images/vzconf")
    holder = lab.start("exec", NODE, "--", "sh", "-c", "cd /etc/sysconfig/vz-scripts && exec sleep 600")
    try:
        wait_for(lambda: "sleep 600" in lab.on(NODE, "ps", "ax", "-o", "args"), "a process on the conf share")
        run = Rollback(lab)
        assert run.code == 1, str(run)
        assert "the shares are unmounted: /etc/sysconfig/vz-scripts is still mounted" in run.err
        assert "Type on the node: umount /etc/sysconfig/vz-scripts" in run.err
        assert lab.ask("san1", checker.TREE, "/rf-images/vzconf") == then
        assert checker.check_monitoring(lab) == []
    finally:
        lab.on(NODE, "pkill", "-f", "[s]leep 600")
        holder.wait()
    run = Rollback(lab)
    assert run.code == 0, str(run)
    now = dict(before, confs=checker.remember(lab, [NODE])[NODE]["confs"])
    assert set(now["confs"]) - {"vps.mount"} == set(before["confs"])
    assert faults(lab, now) == []


#: Directories in each other below a place, without a path that grows with them.
DEEP = """
import os, sys, json
place, depth, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
handle = os.open(place, os.O_RDONLY)
for _ in range(depth):
    os.mkdir(name, dir_fd=handle)
    below = os.open(name, os.O_RDONLY, dir_fd=handle)
    os.close(handle)
    handle = below
os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
json.dump(None, sys.stdout)
"""
DEPTH = "cd $1 && n=0 && while cd d 2>/dev/null; do n=$((n + 1)); done && ls file && echo $n"


def brought_home(lab, ctid, **words):
    return lab.salt(
        NODE, "ringfree_rollback.bring_home", ctid, *(f"{key}={value}" for key, value in words.items())
    )


def test_h43_one_container_keeps_no_other_one(lab, before):
    """An immutable file, and a path that is too long for any program, keep theirs down; a deep tree is one like any."""
    local, share = "/vz/private/101/etc/motd", "/rf-images/pbx"
    lab.write(NODE, local, "before\n")
    code, said = lab.try_on(NODE, "chattr", "+i", local)
    if code:
        pytest.skip(f"the lab's file system has no flags: {said}")
    try:
        run = migrate(lab)
        assert run.code == 1 and "container 101 has 1 immutable or append-only files" in str(run), str(run)
        assert sorted(json.loads(lab.must("salt", NODE, "vz.running", "--out=json"))[NODE]) == CTIDS
        lab.on(NODE, "chattr", "-i", local)
        run = migrate(lab)
        assert run.code == 0, str(run)
        lab.on(NODE, "chattr", "+i", local)
        lab.write("san1", f"{share}/101/etc/motd", "after\n")
        lab.ask("san1", DEEP, f"{share}/102/var", "1000", "d")
        lab.ask("san1", DEEP, f"{share}/103/var", "50", "n" * 100)
        run = Rollback(lab, data="sync_back")
        assert run.code == 1, str(run)
        for words in (
            f"{NODE} is back on local storage, 1 of 3 containers answer",
            "Container 101 stays down: ",
            f"immutable or append-only files, such as {local}",
            "Container 103 stays down: ",
            f"'salt {NODE} ringfree_rollback.bring_home 101' goes on",
        ):
            assert words in run.err, str(run)
        assert lab.on(NODE, "sh", "-c", DEPTH, "sh", "/vz/private/102/var").split() == ["file", "1000"]
        for ctid in (101, 103):
            code, said = lab.try_on(NODE, "vzctl", "start", str(ctid), "--force")
            assert code == 79 and "does not start from local disk any more" in said
        for ctid in (101, 103):
            assert brought_home(lab, ctid)[0] != 0
    finally:
        lab.on(NODE, "chattr", "-i", local)
        for host, folder in (("san1", share), (NODE, "/vz/private")):
            lab.on(host, "sh", "-c", 'rm -rf "$1"/102/var/d "$1"/103/var/nnn*', "sh", folder)
    for ctid in (101, 103):
        code, said = brought_home(lab, ctid)
        assert code == 0 and f"Container {ctid} runs from local storage" in said, said
    assert lab.on(NODE, "cat", local) == "after\n"
    run = Rollback(lab)
    assert run.code == 0, str(run)
    assert f"{NODE} is back on local storage, 3 of 3 containers answer." in run.err
    lab.on(NODE, "rm", local)
    now = dict(before, confs=checker.remember(lab, [NODE])[NODE]["confs"])
    assert faults(lab, now) == []


def test_a_second_run_knows_what_the_first_one_brought_of_a_container_that_stays(lab, before):
    """103 is stopped: its conf gets its paths while the others move, loses them on the way back, and is edited then."""
    conf, brought = "/etc/vz/conf/103.conf", f"/rf-images/vzconf/{NODE}/103.conf"
    lab.on("san1", "rm", "-f", brought, "/rf-images/pbx/.ringfree/owner/103")
    lab.on("san1", "rm", "-rf", "/rf-images/pbx/103")
    lab.on(NODE, "vzctl", "stop", "103")
    then = lab.on(NODE, "cat", conf)
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert 'DISK_QUOTA="yes"' in lab.on("san1", "cat", brought)
    run = Rollback(lab)
    assert run.code == 0, str(run)
    assert lab.on(NODE, "cat", conf) == then
    lab.on(NODE, "sh", "-c", f"echo 'CPULIMIT=\"50\"' >>{conf}")
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert lab.on("san1", "cat", brought) == lab.on(NODE, "cat", conf)
    assert 'CPULIMIT="50"' in lab.on(NODE, "cat", conf)
    run = Rollback(lab)
    assert run.code == 0, str(run)
    lab.write(NODE, conf, then)
    lab.on(NODE, "vzctl", "start", "103")
