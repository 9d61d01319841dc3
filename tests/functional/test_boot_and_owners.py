"""A committed node boots: with its share, without it, and once the share is back; and a container changes its node."""

import subprocess
from pathlib import Path

import pytest
import ringfree_seal
from fake_node import FENCE
from migration_steps import apply, until
from salt.exceptions import CommandExecutionError

AWAY = "echo 'mount.nfs: Connection timed out' >&2; exit 32"


def preflight(node):
    """A look at a node whose dead man's switch is known to work."""
    modules = node.minion().modules
    modules["ringfree_deadman.rehearse"] = lambda: "the dead man's switch was rehearsed"
    return modules["ringfree_preflight.look"]()


@pytest.fixture
def committed(fleet):
    """The fleet's node on NFS, with the fence as vzctl runs it and a vz service that boots containers as vz does."""
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    fleet.rule("vzctl.start", FENCE)
    fleet.start = lambda name: vz_starts(fleet)
    return fleet


def vz_starts(node):
    """vz forgets its marks and starts what was marked and does not say ONBOOT=no, and what says ONBOOT=yes."""
    marks = node.folder / "var/vzreboot"
    marked = [int(path.name) for path in marks.iterdir()] if marks.is_dir() else []
    for ctid in marked:
        (marks / str(ctid)).unlink()
    for path in sorted((node.folder / "etc/vz/conf").glob("*.conf")):
        onboot = (
            "yes" if 'ONBOOT="yes"' in path.read_text() else "no" if 'ONBOOT="no"' in path.read_text() else ""
        )
        if onboot == "yes" or (int(path.stem) in marked and onboot != "no"):
            program(node, "vzctl", "start", path.stem)
    node.services["vz"] = True
    return True


def program(node, *words):
    """A program of the node, run by a person; returns its exit code."""
    return subprocess.run([node.bin / words[0], *map(str, words[1:])], capture_output=True).returncode


def mark(node, *ctids):
    """vz noted at its last stop that these ran."""
    for ctid in ctids:
        (node.folder / "var/vzreboot").mkdir(exist_ok=True)
        (node.folder / "var/vzreboot" / str(ctid)).touch()


def onboot(node, ctid, word):
    """What a container's conf, on whatever is mounted, says of boots."""
    path = node.conf(ctid)
    line = f'ONBOOT="{word}"\n' if word else ""
    path.write_text(path.read_text().replace('ONBOOT="yes"\n', line))


def boots_without_its_san(node):
    """The power was cut: nothing runs, nothing is mounted, and systemd did not start vz."""
    mountinfo = node.folder / "proc/mountinfo"
    for share in node.pillar["shares"]:
        program(node, "umount", node.mount_point(share))
    mountinfo.write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
    for ctid in node.running():
        (node.folder / "proc/running" / str(ctid)).unlink()
    node.services["vz"] = False
    (node.folder / "proc/units/vz-entered").write_text("0")


def bring_up(node, **options):
    return node.minion().modules["cloudstor.bring_up"](**options)


def refused(node, *words):
    """Bringing the node up fails with these words."""
    with pytest.raises(CommandExecutionError) as error:
        bring_up(node)
    assert all(word in str(error.value) for word in words), error.value


def mounted(node):
    """What is mounted from the SAN."""
    lines = (node.folder / "proc/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if "fuse.nfs" in line and line.split()[3] == "/"]


# --- vz waits ---------------------------------------------------------------------------------------------------------


def test_h14_a_committed_node_starts_vz_only_with_its_store(fleet, test_mode):
    drop_in = fleet.folder / "etc/systemd/system/vz.service.d/ringfree.conf"
    state = until(fleet, "ringfree_boot.vz_waits")
    before = fleet.tree()
    ret = state(test=test_mode)
    assert ret["result"] is (None if test_mode else True), ret["comment"]
    assert set(ret["changes"]) == {str(drop_in)}
    if test_mode:
        assert fleet.tree() == before
        return
    for share in fleet.pillar["shares"]:
        assert fleet.mount_point(share) in drop_in.read_text()
    assert fleet.calls("systemctl daemon-reload")
    again = state()
    assert (again["result"], again["changes"]) == (True, {})
    drop_in.write_text("[Unit]\n")
    assert set(state()["changes"]) == {str(drop_in)}


def test_a_drop_in_that_systemd_does_not_know_is_noticed(fleet):
    state = until(fleet, "ringfree_boot.vz_waits")
    fleet.rule("systemctl.daemon-reload", "exit 0")
    ret = state()
    assert ret["result"] is False and "has no effect" in ret["comment"]


def test_h14_without_systemd_an_init_script_keeps_the_list(fleet):
    fleet.systemd = False
    fleet.services["crond"] = True
    script = fleet.folder / "etc/init.d/ringfree"
    state = until(fleet, "ringfree_boot.vz_waits")
    assert set(state()["changes"]) == {str(script)}
    assert fleet.calls("chkconfig --add ringfree")
    assert f"{fleet.folder}/var/vzreboot" in script.read_text()
    assert state()["changes"] == {}
    # What it kept at a boot without the shares is what is brought up, although vz runs.
    fleet.minion().modules["ringfree_journal.set_state"]("nfs")
    (fleet.folder / "var/boot-set").write_text("marks 104\n")
    assert fleet.minion().modules["ringfree_boot.waiting"]() == {"word": "marks", "ctids": [104]}
    assert fleet.minion().modules["ringfree_boot.vz_alone"]() is True
    assert not script.exists() and not (fleet.folder / "var/boot-set").exists()
    assert fleet.calls("chkconfig --del ringfree")


# --- mount points -----------------------------------------------------------------------------------------------------


def test_h14_nobody_writes_under_a_mount_point(fleet, test_mode):
    state = until(fleet, "ringfree_boot.mount_points_closed")
    points = {fleet.pillar["shares"][share]["mount"] for share in ("private", "root")}
    before = fleet.tree()
    ret = state(test=test_mode)
    assert ret["result"] is (None if test_mode else True), ret["comment"]
    assert set(ret["changes"]) == points
    assert (fleet.tree() == before) is test_mode
    again = state()
    assert (again["result"], set(again["changes"])) == (True, points if test_mode else set())
    assert state()["changes"] == {}


def test_a_dry_run_counts_mount_points_that_are_still_to_be_made(fleet):
    state = until(fleet, "ringfree_boot.mount_points_closed")
    points = {fleet.pillar["shares"][share]["mount"] for share in ("private", "root")}
    for path in points:
        Path(path).rmdir()
    assert set(state(test=True)["changes"]) == points


def test_a_file_system_that_has_no_such_flag_is_said_and_is_no_failure(fleet):
    state = until(fleet, "ringfree_boot.mount_points_closed")
    fleet.rule("chattr", "echo 'chattr: Operation not supported while setting flags' >&2; exit 1")
    ret = state()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert "stays writable" in ret["comment"] and "Operation not supported" in ret["comment"]


def test_what_lies_under_a_mount_point_is_a_finding(fleet):
    state = until(fleet, "ringfree_boot.mount_points_closed")
    (fleet.folder / "vz/nfsprivate/101").mkdir()
    ret = state()
    assert ret["result"] is False
    assert f"{fleet.folder}/vz/nfsprivate is to be a mount point and has 101 in it" in ret["comment"]
    assert not fleet.calls("chattr")
    report = preflight(fleet)
    assert any("has 101 in it" in finding for finding in report["findings"])


def test_a_mounted_share_is_left_alone(committed):
    before = committed.tree()
    for test in (True, False):
        ret = apply(committed, "ringfree_boot.mount_points_closed", test=test)
        assert (ret["result"], ret["changes"]) == (True, {})
    assert committed.tree() == before


# --- brought up -------------------------------------------------------------------------------------------------------


def test_h14_the_node_is_brought_up_as_vz_would_have_booted_it(committed):
    """Marks and ONBOOT, with the confs on the share; priority first; what runs on local disk comes up as well."""
    onboot(committed, 104, "")
    onboot(committed, 101, "no")
    mark(committed, 101, 104)
    boots_without_its_san(committed)
    starts = len(committed.calls("vzctl start"))
    committed.rule("mount", AWAY)
    refused(committed, "is not mounted", "Connection timed out")
    assert committed.running() == [] and committed.services["vz"] is False
    assert (
        "booted without its share: 'salt-run ringfree.bring_up node001'"
        in committed.minion().modules["cloudstor.whereabouts"]()
    )
    committed.rule("mount", "")
    planned = bring_up(committed, test=True)
    assert (planned["vz"], len(planned["mounted"])) == (True, 3) and mounted(committed) == []
    done = bring_up(committed)
    assert (done["started"][0], sorted(done["started"])) == (102, [102, 103, 104])
    assert (done["left"], done["vz"]) == ({}, True)
    assert done["mounted"] == planned["mounted"] and len(mounted(committed)) == 3
    assert committed.running() == [102, 103, 104]
    by_vz = [call for call in committed.calls("vzctl start")[starts:] if "--force" not in call.split()]
    assert by_vz.index("vzctl start 102") < len(by_vz) - 1
    assert "DISABLED" not in committed.vz_conf.read_text()
    assert not (committed.folder / "var/boot-set").exists()
    proof = committed.minion().modules["vz.root_mount"](104)
    assert proof["ok"] and proof["nfs"]


def test_a_second_call_changes_nothing_and_starts_nothing_that_somebody_stopped(committed):
    boots_without_its_san(committed)
    bring_up(committed)
    (committed.folder / "proc/units/vz-entered").write_text("100")
    program(committed, "vzctl", "stop", 101)
    before = committed.tree()
    done = bring_up(committed)
    assert (done["started"], done["mounted"], done["vz"]) == ([], [], False)
    assert committed.running() == [102, 103, 104]
    assert committed.tree() == before


def test_what_did_not_start_is_tried_again_and_only_that(committed):
    boots_without_its_san(committed)
    committed.rule("vzctl.start.101", "echo 'no memory' >&2; exit 8")
    refused(committed, "3 of 4 containers were started", "no memory", "same command again")
    assert committed.running() == [102, 103, 104]
    program(committed, "vzctl", "stop", 102)
    committed.rule("vzctl.start.101", "")
    assert bring_up(committed)["started"] == [101]
    assert committed.running() == [101, 103, 104]


def test_power_that_goes_while_the_node_is_brought_up_loses_nothing(committed):
    """vz has forgotten its marks by then, and DISABLED stands in vz.conf."""
    onboot(committed, 104, "")
    mark(committed, 104)
    boots_without_its_san(committed)

    def cut(name):
        vz_starts(committed)
        raise KeyboardInterrupt

    committed.start = cut
    with pytest.raises(KeyboardInterrupt):
        bring_up(committed)
    assert committed.running() == [] and 'DISABLED="yes"' in committed.vz_conf.read_text()
    committed.start = lambda name: vz_starts(committed)
    boots_without_its_san(committed)
    started = bring_up(committed)["started"]
    assert (started[0], sorted(started)) == (102, [101, 102, 103, 104])
    assert "DISABLED" not in committed.vz_conf.read_text()


def test_a_node_that_somebody_disabled_stays_so(committed):
    boots_without_its_san(committed)
    committed.vz_conf.write_text(committed.vz_conf.read_text() + 'DISABLED="yes"\n')
    refused(committed, 'vz.conf says DISABLED="yes"', "nothing was started")
    assert committed.running() == [] and 'DISABLED="yes"' in committed.vz_conf.read_text()


def test_a_vz_that_somebody_stopped_is_not_started(committed):
    """It was started since the node booted."""
    committed.services["vz"] = False
    done = bring_up(committed)
    assert (done["started"], done["vz"]) == ([], False)
    assert committed.services["vz"] is False and "vz was stopped since the node booted" in done["now"]


def test_h12_only_what_this_node_owns_is_brought_up(committed):
    """Another node has taken 101 meanwhile; 104 is disabled by hand; nobody owns 150."""
    with committed.conf(104).open("a") as stream:
        stream.write('DISABLED="yes"\n')
    committed.conf(150).write_text(committed.conf(101).read_text().replace("Four Seasons hospice", "new"))
    committed.san("pbx/150").mkdir()
    mark(committed, 101)
    boots_without_its_san(committed)
    committed.own(101, node="node002")
    done = bring_up(committed)
    assert done["started"] == [102, 103]
    assert done["left"] == {101: "belongs to node002", 104: 'its conf says DISABLED="yes"'}
    assert (committed.folder / "etc/ringfree/manifest.tmp").read_text().split() == ["102", "104"]
    assert "101 node002" in committed.listed()


@pytest.mark.parametrize("point", [("vz.stopped", {}), ("vz.manifested", {})])
def test_a_node_that_is_not_committed_is_not_brought_up(fleet, point):
    until(fleet, point[0])
    before = fleet.running()
    refused(fleet, "is not committed to NFS")
    assert fleet.running() == before


def test_a_damaged_list_starts_nothing(committed):
    (committed.folder / "var/boot-set").write_text("nonsense")
    refused(committed, "boot-set is damaged", "Nothing was started", "ringfree_boot.recover_set")


def test_h14_a_damaged_list_is_written_anew_from_what_is_there(committed):
    boots_without_its_san(committed)
    kept = committed.folder / "var/boot-set"
    modules = committed.minion().modules
    whole = modules["ringfree_boot.recover_set"]()
    assert whole == modules["ringfree_boot.waiting"]() and not kept.exists(), "nothing is damaged"
    kept.write_bytes(ringfree_seal.seal(b"todo 101\n").replace(b"101", b"901"))
    refused(committed, "boot-set is damaged: its check sum is missing or wrong")
    assert modules["ringfree_boot.recover_set"]() == whole
    assert kept.read_bytes().startswith(b"# format 2\nmarks")
    assert len(list((committed.folder / "var").glob("boot-set.damaged-*"))) == 1


@pytest.mark.parametrize("allowed", [False, True])
def test_h22_a_highstate_brings_up_a_node_only_where_the_pillar_says_so(committed, allowed, test_mode):
    committed.pillar["highstate"] = {"bring_up": allowed}
    rests = apply(committed, "cloudstor.brought_up", test=test_mode)
    assert (rests["result"], rests["changes"]) == (True, {})
    boots_without_its_san(committed)
    before = committed.tree()
    ret = apply(committed, "cloudstor.brought_up", test=test_mode)
    if allowed and not test_mode:
        assert ret["result"] is True and {"101", "102"} < set(ret["changes"])
        assert committed.running() == [101, 102, 103, 104]
        return
    assert ret["result"] is (None if allowed else False)
    assert committed.tree() == before and committed.running() == []
    if not allowed:
        assert "salt-run ringfree.bring_up node001" in ret["comment"]


# --- owners -----------------------------------------------------------------------------------------------------------


def call(node, function, *arguments, **options):
    return node.minion().modules[function](*arguments, **options)


def test_h05_the_node_knows_by_itself_what_lives_on_the_share(fleet):
    """Before the share says so, and until after it says otherwise."""
    state = until(fleet, "ringfree_owner.owned")
    fleet.rule("rsync", "case \"$*\" in *owners-to-share*) echo 'No route to host' >&2; exit 255 ;; esac")
    assert state()["result"] is False
    assert fleet.listed() == ["101 node001", "102 node001", "104 node001"]
    assert fleet.owner(101)["store"] == "local"
    with pytest.raises(CommandExecutionError, match="No route to host"):
        call(fleet, "ringfree_owner.claim", [101], "nfs")
    fleet.rule("rsync", "")
    assert state()["result"] is True
    fleet.rule("rsync", 'case "$*" in *owners-to-share*) exit 255 ;; esac')
    with pytest.raises(CommandExecutionError):
        call(fleet, "ringfree_owner.claim", [101], "local")
    assert 101 in call(fleet, "ringfree_owner.live_on_nfs")
    fleet.rule("rsync", "")
    call(fleet, "ringfree_owner.claim", [101], "local")
    assert call(fleet, "ringfree_owner.live_on_nfs") == {102: "node001", 104: "node001"}


def test_h12_a_container_is_handed_over(committed):
    with pytest.raises(CommandExecutionError, match=r"container 101 runs on node001: stop it first"):
        call(committed, "ringfree_owner.give", 101, "node002")
    assert committed.owner(101)["node"] == "node001"
    program(committed, "vzctl", "stop", 101)
    before = int(committed.owner(101)["generation"])
    assert call(committed, "ringfree_owner.give", 101, "node002")["node"] == "node002"
    assert (committed.owner(101)["node"], committed.owner(101)["store"]) == ("node002", "nfs")
    assert int(committed.owner(101)["generation"]) == before + 1
    assert program(committed, "vzctl", "start", 101) == 79
    assert 101 not in committed.minion().modules["vz.manifest"]()
    assert call(committed, "ringfree_owner.live_on_nfs")[101] == "node002"
    for wanted in ("is not this node's on the share", "Nothing was changed"):
        with pytest.raises(CommandExecutionError, match=wanted):
            call(committed, "ringfree_owner.give", 101, "node002")


def test_h12_a_container_that_is_started_while_it_is_handed_over_stays(committed):
    program(committed, "vzctl", "stop", 101)
    committed.rule("rsync", 'case "$*" in *owners-to-share*) touch $W/proc/running/101 ;; esac')
    with pytest.raises(CommandExecutionError, match="was started on node001 meanwhile; it stays its own"):
        call(committed, "ringfree_owner.give", 101, "node002")
    assert committed.owner(101)["node"] == "node001"
    assert 101 in committed.minion().modules["vz.manifest"]()


def test_h12_a_container_is_taken_only_from_a_node_that_is_said_to_be_dead(committed):
    committed.own(150, node="node002")
    for words in ({}, {"dead": "node003"}):
        with pytest.raises(
            CommandExecutionError, match=r"container 150 belongs to node002.*Nothing was changed"
        ):
            call(committed, "ringfree_owner.take", 150, **words)
    assert committed.owner(150)["node"] == "node002"
    assert call(committed, "ringfree_owner.take", 150, dead="node002")["generation"] == "4"
    assert committed.owner(150)["node"] == "node001"
    assert call(committed, "ringfree_owner.live_on_nfs")[150] == "node001"
    committed.own(151, node="node002", store="local")
    for ctid in (151, 152):
        with pytest.raises(CommandExecutionError, match="cannot be taken"):
            call(committed, "ringfree_owner.take", ctid, dead="node002")


def test_a_new_container_of_the_share_counts_as_this_nodes(committed):
    committed.conf(150).write_text(committed.conf(101).read_text().replace("Four Seasons hospice", "new"))
    committed.san("pbx/150").mkdir()
    assert 150 not in call(committed, "ringfree_owner.containers")
    assert program(committed, "vzctl", "start", 150) == 0
    assert (committed.owner(150)["node"], committed.owner(150)["generation"]) == ("node001", "1")
    program(committed, "vzctl", "stop", 150)
    assert 150 in call(committed, "ringfree_owner.containers")


def test_h12_conflicts_are_said_and_nothing_is_touched(committed, test_mode):
    well = apply(committed, "ringfree_owner.no_conflicts", test=test_mode)
    assert (well["result"], well["changes"]) == (True, {}), well["comment"]
    committed.own(101, node="node002")
    committed.own(103, node="node002", store="local")
    for ctid, address in ((160, "10.78.1.1"), (161, "10.78.1.1")):
        committed.conf(ctid).write_text(f'ONBOOT="yes"\nNAME="PBX"\nIP_ADDRESS="{address}"\n')
    before = committed.tree()
    ret = apply(committed, "ringfree_owner.no_conflicts", test=test_mode)
    assert (ret["result"], ret["changes"]) == (False, {})
    for words in (
        "container 101 runs on node001 and belongs to node002",
        "salt-run ringfree.move_owner 101 to=node001",
        "container 103 on the local disk of node001 has the id of one that belongs to node002",
        "containers 102, 160, 161 have the same container name PBX",
        "containers 160, 161 have the same IP address 10.78.1.1",
    ):
        assert words in ret["comment"], ret["comment"]
    assert committed.tree() == before
    findings = call(committed, "ringfree_preflight.look")["findings"]
    assert any("belongs to node002" in finding for finding in findings)


def test_h12_the_way_back_leaves_what_another_node_has_taken(committed):
    """Its old local copy does not start, by itself or by hand, and its record stays."""
    program(committed, "vzctl", "stop", 101)
    call(committed, "ringfree_owner.give", 101, "node002")
    done = apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert done["result"] is True, done["comment"]
    assert committed.running() == [102, 104]
    assert committed.owner(101)["node"] == "node002"
    assert f"{committed.folder}/vz/nfsprivate" in committed.conf(101).read_text()
    assert program(committed, "vzctl", "start", 101) == 43


def test_the_way_back_is_refused_while_the_node_has_containers_that_were_never_local(committed):
    committed.own(150, node="node002")
    call(committed, "ringfree_owner.take", 150, dead="node002")
    before = committed.running()
    ret = apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert ret["result"] is False
    dry = apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"}, test=True)
    assert dry["result"] is False and dry["comment"] == ret["comment"]
    for words in ("containers 150 were born on the share", "ringfree.move_owner 150", "Nothing was changed"):
        assert words in ret["comment"]
    assert (committed.running(), call(committed, "ringfree_journal.state")) == (before, "nfs")
    committed.destroy(150)
    assert apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"})["result"] is True
    assert call(committed, "ringfree_owner.live_on_nfs") == {}
    assert not committed.san("pbx/.ringfree/owner/150").exists()


@pytest.mark.walk
@pytest.mark.parametrize("seen", ["", "by a highstate", "by half", "without ssh", "in a first try"])
def test_h02_the_way_back_does_not_bring_back_what_was_destroyed(committed, seen):
    """Days later, whether a highstate has seen it or not: its old copy stays as it is, and nothing starts it."""
    call(committed, "vz.stop", [101])
    committed.destroy(101)
    record = committed.san("pbx/.ringfree/owner/101").read_bytes()
    if seen in ("by a highstate", "by half"):
        call(committed, "ringfree_owner.forget", [101])
    if seen == "by half":  # cut short before the record went
        committed.san("pbx/.ringfree/owner/101").write_bytes(record)
    if seen == "without ssh":
        committed.rule("rsync", 'case "$*" in *owners-on-share*) exit 255 ;; esac')
    old = sorted(committed.private(101).rglob("*"))
    # What lies under the conf share is the conf that the commit has left on local disk.
    under = f'ONBOOT="yes"\\nVE_PRIVATE="{committed.folder}/vz/nfsprivate/101"\\n'
    away = f"printf '{under}' >$W/etc/vz/conf/101.conf; rm $W/etc/vz/conf/101.conf.destroyed"
    committed.rule("umount", f'case "$*" in *etc/vz/conf) {away} ;; esac')
    dry = apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"}, test=True)
    assert ("101" in dry["changes"], "102" in dry["changes"]) == (False, True)
    if seen == "in a first try":
        committed.rule("umount", f'case "$*" in *etc/vz/conf) {away} ;; */vz/nfsroot) exit 32 ;; esac')
        call(committed, "ringfree_rollback.revert", data="discard")
        assert (call(committed, "ringfree_journal.state"), committed.running()) == ("in_flight", [102, 104])
        committed.rule("umount", "")
    done = call(committed, "ringfree_rollback.revert", data="discard")
    failed = [step["what"] for step in done if not step["ok"]]
    assert failed == (["the share knows that the live copies are local"] if seen == "without ssh" else [])
    said = "containers 101 were destroyed on the share, their old copies stay"
    assert any(said in step["detail"] for step in done)
    assert committed.running() == [102, 104]
    assert (
        not committed.conf(101).exists() and "ONBOOT" in Path(f"{committed.conf(101)}.destroyed").read_text()
    )
    assert sorted(committed.private(101).rglob("*")) == old
    assert committed.listed() == []
    assert call(committed, "vz.manifest") == [102, 104]


@pytest.mark.parametrize("store", ["local", "nfs"])
def test_a_container_that_moves_has_no_void_copy_here(fleet, store):
    """Its id was that of one that was destroyed in an earlier migration."""
    listed = fleet.folder / "etc/ringfree/on-nfs"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("101 -\n102 -\n")
    call(fleet, "ringfree_owner.claim", [101], store)
    assert call(fleet, "ringfree_owner.void") == [102]


def test_h02_the_way_back_does_not_put_an_old_copy_in_the_place_of_a_new_container(committed):
    """101 was destroyed, and its id given to another customer, before any highstate came by."""
    call(committed, "vz.stop", [101])
    with (committed.folder / "etc/ringfree/on-nfs").open("a") as stream:
        stream.write("101 -\n")  # as the fence notes it when vzctl has made the new one
    up = committed.running()
    for test in (True, False):
        ret = apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"}, test=test)
        assert ret["result"] is False and "containers 101 were born on the share" in ret["comment"]
    assert (committed.running(), call(committed, "ringfree_journal.state")) == (up, "nfs")
    committed.destroy(101)
    assert apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"})["result"] is True
    assert committed.running() == [102, 104]
    assert not committed.conf(101).exists()


@pytest.mark.parametrize("share", ["there", "silent"])
@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data.replace(b"101", b"10q")])
def test_h05_a_damaged_list_is_written_anew_from_what_is_found(committed, damage, share):
    """A way back does so by itself; modules refuse it until then."""
    listed = committed.folder / "etc/ringfree/on-nfs"
    whole = committed.listed()
    bad = damage(listed.read_bytes())
    listed.write_bytes(bad)
    before = committed.tree()
    for function in ("live_on_nfs", "void", "note"):
        with pytest.raises(CommandExecutionError, match=r"on-nfs is damaged: .*ringfree_owner\.recover_list"):
            call(committed, f"ringfree_owner.{function}")
    assert committed.tree() == before
    dry = apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"}, test=True)
    assert dry["result"] is None and "is damaged" in dry["changes"]["own list"]["old"]
    if share == "silent":
        committed.rule("ssh", "exit 255")
        committed.rule("rsync", "exit 255")
    assert call(committed, "ringfree_owner.recover_list") == {101: "node001", 102: "node001", 104: "node001"}
    assert committed.listed() == whole and call(committed, "ringfree_owner.list_fault") == ""
    (kept,) = listed.parent.glob("on-nfs.damaged-*")
    assert kept.read_bytes() == bad
    after = committed.tree()
    call(committed, "ringfree_owner.recover_list")
    assert committed.tree() == after


def test_h05_a_damaged_list_keeps_no_container_down(committed):
    listed = committed.folder / "etc/ringfree/on-nfs"
    listed.write_bytes(listed.read_bytes()[:-3])
    assert apply(committed, "ringfree_rollback.rolled_back", {"data": "discard"})["result"] is True
    assert committed.running() == [101, 102, 104] and committed.listed() == []


def test_h05_what_another_node_has_taken_stays_listed_when_the_list_is_written_anew(committed):
    """And what lives at home by its record is not."""
    committed.own(101, node="node002", store="nfs")
    call(committed, "vz.stop", [101])
    call(committed, "ringfree_owner.note")
    listed = committed.folder / "etc/ringfree/on-nfs"
    listed.write_bytes(listed.read_bytes()[:-3])
    assert call(committed, "ringfree_owner.recover_list")[101] == "node002"


def damage_record(node, ctid):
    path = node.san("pbx/.ringfree/owner", ctid)
    path.write_bytes(path.read_bytes()[:-4])


def test_h12_a_damaged_owner_record_is_written_anew_by_the_node_that_has_the_container(committed):
    before = committed.owner(101)
    damage_record(committed, 101)
    with pytest.raises(
        CommandExecutionError, match=r"owner/101 on the SAN is damaged: .*ringfree_owner\.recover 101"
    ):
        call(committed, "ringfree_owner.records")
    record = call(committed, "ringfree_owner.recover", 101)
    assert (record["node"], record["store"]) == ("node001", "nfs")
    assert int(record["generation"]) > int(before["generation"])
    assert call(committed, "ringfree_owner.records")[101] == record
    with pytest.raises(CommandExecutionError, match="is not damaged"):
        call(committed, "ringfree_owner.recover", 101)


def test_h12_a_node_that_does_not_have_the_container_does_not_write_its_record(committed):
    committed.own(150, node="node002", store="nfs")
    call(committed, "vz.stop", [101])
    committed.own(101, node="node002", store="nfs")
    call(committed, "ringfree_owner.note")
    for ctid, whose in ((150, "unknown"), (101, "of node002")):
        damage_record(committed, ctid)
        with pytest.raises(CommandExecutionError, match=f"container {ctid} is {whose} by what node001 knows"):
            call(committed, "ringfree_owner.recover", ctid)


@pytest.mark.parametrize("before", ["ringfree_owner.owned", "vz.containers_configured"])
def test_h02_until_the_share_was_told_the_live_copy_is_the_local_one(fleet, before):
    until(fleet, before)
    call(fleet, "ringfree_owner.enlist", [101])
    damage_record(fleet, 101)
    store = "local" if before == "ringfree_owner.owned" else "nfs"
    assert call(fleet, "ringfree_owner.recover", 101)["store"] == store


def test_an_admins_own_create_script_stays(fleet):
    own = fleet.folder / "etc/vz/conf/vps.create"
    own.write_text("#!/bin/sh\nmine\n")
    notes = preflight(fleet)["notes"]
    assert any("vps.create exists and stays" in note for note in notes)
    call(fleet, "ringfree_guard.fence")
    assert own.read_text() == "#!/bin/sh\nmine\n"
    assert call(fleet, "ringfree_guard.unfence") is True
    assert own.exists()


# --- a conf share for each node ---------------------------------------------------------------------------------------


def test_a_node_can_have_a_conf_share_of_its_own(fleet):
    fleet.pillar["shares"]["conf"]["export"] = "/rf-images/vzconf/{node}"
    findings = preflight(fleet)["findings"]
    assert any("'mkdir -p /rf-images/vzconf/node001' on the SAN" in finding for finding in findings)
    fleet.san("vzconf/node001").mkdir()
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    assert (fleet.folder / "etc/ringfree/nfsvzconf").read_text() == "/rf-images/vzconf/node001\n"
    assert (fleet.folder / "etc/ringfree/nfsmounted").read_text() == "1\n"
    assert fleet.running() == [101, 102, 104]
    done = apply(fleet, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert done["result"] is True, done["comment"]
    assert {"101.conf", "vps.premount"} < {path.name for path in fleet.san("vzconf/node001").iterdir()}
