"""The way back, from the commit and from the middle, judged by what there is and not by what is said.

One node, with a conf share of its own; every test leaves it as the next one finds it, on local storage."""

import json

import checker
import local_side
import pytest
from fleet_under_test import Gate, Overlay, changed, migrate, start
from lab_client import wait_for
from local_side import whole

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


def stream(lab, ctid, store="local"):
    """A container's records as they lie on a store."""
    return local_side.stream(lab, NODE, ctid, store)


def test_the_dry_run_changes_nothing_and_says_what_it_would(lab, before):
    """On a committed node test=True names the containers and the mounts; the node stays on NFS."""
    run = migrate(lab)
    assert run.code == 0, str(run)
    then = checker.remember(lab, [NODE])
    said = lab.must("salt", NODE, "state.sls", "ringfree.rollback", "test=True", "--out=json")
    (state,) = json.loads(said)[NODE].values()
    assert state["result"] is None
    assert set(state["changes"]) == {"state", "101", "102", "103", *checker.EXPORTS}
    assert changed(then, checker.remember(lab, [NODE])) == []


def test_back_after_the_commit_without_what_was_written_on_nfs(lab, before):
    """
    H07, H21: as before, byte for byte; what was written on NFS stays on the SAN, and is listed. A monitoring host that
    is down is named and keeps nobody from going back.
    """
    at_stop = {ctid: whole(stream(lab, ctid)) for ctid in CTIDS}
    lab.must("fault", "power-cut", "mon001")
    run = Rollback(lab)
    assert run.code == 1 and "mon001: " in run.err, str(run)
    assert f"{NODE} is back on local storage, 3 of 3 containers answer." in run.err
    lab.must("heal")
    assert faults(lab, before) == []
    for ctid in CTIDS:
        assert stream(lab, ctid).startswith(at_stop[ctid])
        on_nfs = stream(lab, ctid, "nfs")
        assert on_nfs.startswith(at_stop[ctid]) and len(on_nfs) > len(at_stop[ctid])
        (listed,) = lab.on(
            NODE, "sh", "-c", f"cat /var/lib/ringfree/changed/*/{ctid} | grep -c {checker.RECORDS}"
        ).split()
        assert listed == "1"


def test_a_second_rollback_changes_nothing(lab, before):
    then = checker.remember(lab, [NODE])
    run = Rollback(lab)
    assert run.code == 0, str(run)
    assert changed(then, checker.remember(lab, [NODE])) == []


def test_back_with_what_was_written_on_nfs(lab, before):
    """H21: a node that was rolled back migrates afresh; sync_back keeps every record, and what it replaced."""
    run = migrate(lab)
    assert run.code == 0, str(run)
    run = Rollback(lab, data="sync_back")
    assert run.code == 0, str(run)
    assert faults(lab, before) == []
    for ctid in CTIDS:
        on_nfs = stream(lab, ctid, "nfs")
        assert stream(lab, ctid).startswith(on_nfs)
        replaced = lab.on(NODE, "sh", "-c", f"cat /vz/private/.ringfree-replaced/*/{ctid}/{checker.RECORDS}")
        assert on_nfs.decode().startswith(replaced) and len(replaced) < len(on_nfs)


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
