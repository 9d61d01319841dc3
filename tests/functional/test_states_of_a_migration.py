"""Every state of a migration: a dry run that touches nothing and tells the truth, a live run, a second run."""

import json
import os
import shutil

import pytest
from fake_node import FENCE
from migration_steps import STEPS, apply, bring, each_step, steps, until
from salt.exceptions import CommandExecutionError

#: Their live run measures what a dry run cannot know: sizes and times. The places that change are the same.
MEASURED = ("cloudstor.presynced", "cloudstor.synced", "ringfree_snapshot.made", "vz.packages_updated")
#: Done again whenever they are asked, by design, until the owner records say that the live copies are on the share.
REPEATED = ("cloudstor.presynced", "cloudstor.synced")
#: Steps that find nothing to do.
IDLE = ("ringfree_start.load_normal",)


def give_package_manager(node, ctid):
    """A container that has yum."""
    folder = node.folder / "vz/root" / str(ctid) / "usr/bin"
    folder.mkdir(parents=True)
    (folder / "yum").touch()


def announced(ret):
    """The parts of a return that a dry run and the live run have in common."""
    return dict.fromkeys(ret["changes"]) if ret["state"] in MEASURED else ret["changes"]


def look(node, state, arguments, test):
    """Apply a state; its name is kept with what it returned."""
    return {**apply(node, state, arguments, test), "state": state}


@pytest.fixture
def with_packages(fleet):
    """A node with something to do for each step."""
    give_package_manager(fleet, 101)
    fleet.rule("vzctl.exec2.101", 'case $3 in yum*) echo "Complete!"; exit 0 ;; esac')
    return fleet


@each_step()
def test_a_step_dry_live_and_again(with_packages, step):
    """Change and no change, dry and live."""
    node = with_packages
    bring(node, step)
    state, arguments = steps(node)[step]
    before = node.tree()
    dry = look(node, state, arguments, test=True)
    assert node.tree() == before
    live = look(node, state, arguments, test=False)
    assert live["result"] is True, live["comment"]
    assert announced(dry) == announced(live)
    assert dry["comment"] and live["comment"]
    if state in IDLE:
        assert (dry["result"], dry["changes"]) == (True, {})
        return
    assert dry["result"] is None
    assert dry["changes"]
    after = node.tree()
    if state in REPEATED:
        return
    for test in (True, False):
        again = look(node, state, arguments, test)
        assert (again["result"], again["changes"]) == (True, {}), (test, again["comment"])
        if state != "vz.running":  # it confirms the services again, and notes that
            assert node.tree() == after, test


def test_all_steps_bring_the_node_to_nfs(with_packages):
    bring(with_packages, len(STEPS))
    assert with_packages.running() == [101, 102, 104]
    assert json.loads((with_packages.folder / "var/journal.json").read_text())["state"] == "nfs"


@each_step()
def test_the_plan_of_an_untouched_node(fleet, step):
    """Every step in a dry run before any was made: none fails, none touches anything."""
    before = fleet.tree()
    state, arguments = steps(fleet)[step]
    dry = apply(fleet, state, arguments, test=True)
    assert dry["result"] is not False, dry["comment"]
    if state in ("vz.stopped", "cloudstor.synced", "ringfree_owner.owned", "vz.containers_configured"):
        assert set(dry["changes"]) == {"101", "102", "104"}
    assert fleet.tree() == before


def test_what_is_kept_of_a_node_is_nobody_elses_to_read(fleet):
    """From the first moment: also what is only there for a while was never open."""
    shutil.rmtree(fleet.folder / "var")
    shutil.rmtree(fleet.folder / "run", ignore_errors=True)
    seen = fleet.folder / "seen"
    look = f"find {fleet.folder}/etc/sysconfig {fleet.folder}/var -name '*.tar.gz*' -perm /077 >>{seen}"
    fleet.rule("systemctl", look)
    fleet.rule("vzctl", look)
    before = os.umask(0)
    try:
        until(fleet, "ringfree_nfs.variables", mounted=True)()
        apply(fleet, "ringfree_rollback.rolled_back")
    finally:
        os.umask(before)
    copies_of_the_share = ("confs-", "owners-", "replica")
    places = [fleet.folder / "var", fleet.folder / "run"]
    for top in list(places):
        places += [
            path
            for path in top.rglob("*")
            if not path.relative_to(top).parts[0].startswith(copies_of_the_share)
        ]
    kept = (
        "etc/sysconfig/vz-scripts.tar.gz",
        "etc/sysconfig/vz-scripts.tar.gz.sha256",
        "etc/vz/vz.conf.before-nfs",
    )
    places += [fleet.folder / path for path in kept]
    loose = {str(path): oct(path.stat().st_mode) for path in places if path.stat().st_mode & 0o077}
    assert loose == {}
    assert {"journal.json", "changed", "holder.json.guard"} <= {path.name for path in places}
    assert seen.read_text() == ""


def test_h02_no_container_starts_between_its_copy_and_its_owner_record(fleet):
    """Not even by force: what it wrote would be in neither the copy nor any list."""
    owned = until(fleet, "ringfree_owner.owned")
    fleet.rule("vzctl.start", FENCE)
    with pytest.raises(CommandExecutionError, match="container 101 does not start from local disk any more"):
        fleet.minion().modules["vz.start"]([101], force=True)
    assert fleet.owner(101)["store"] == "local"
    assert owned()["result"] is True


@pytest.mark.parametrize("beside", ["nothing", "the share is silent", "the journal is damaged"])
def test_h02_a_copy_that_failed_leaves_a_container_that_starts_at_home(fleet, beside):
    """The way back lets it start again, whatever else went wrong."""
    synced = until(fleet, "cloudstor.synced")
    fleet.rule("rsync.101.after", "exit 11")
    assert synced()["result"] is False
    fleet.rule("vzctl.start", FENCE)
    if beside == "the share is silent":
        fleet.rule("rsync", "exit 255")
    if beside == "the journal is damaged":
        (fleet.folder / "var/journal.json").write_text("{")
    back = apply(fleet, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert back["result"] is True, back["comment"]
    assert fleet.running() == [101, 102, 104], back["comment"]
    assert fleet.minion().modules["ringfree_owner.live_on_nfs"]() == {}


@pytest.mark.parametrize("state", ["cloudstor.synced", "ringfree_owner.owned"])
@pytest.mark.parametrize("what", ["runs", "is mounted"])
def test_h02_a_container_that_is_up_all_the_same_stays_where_it_is(fleet, state, what):
    """Its start had passed the fence before: what it writes now is not in the copy."""
    step = until(fleet, state)
    if what == "runs":
        (fleet.folder / "proc/running/101").touch()
    else:
        fleet.mount(f"101 1 8:1 {fleet.private(101)} {fleet.folder}/vz/root/101 rw - ext4 /dev/sda1 rw")
    ret = step()
    assert ret["result"] is False
    assert f"container 101 {what}" in ret["comment"]
    assert {fleet.owner(ctid)["store"] for ctid in (101, 102, 104)} == {"local"}


@each_step()
def test_h22_a_committed_node_is_left_alone(fleet, step):
    """Any state again on a node that is on NFS, even when a container was stopped on purpose since."""
    bring(fleet, len(STEPS))
    fleet.minion().modules["vz.stop"]([104])
    before = fleet.tree()
    calls = len(fleet.calls())
    for test in (True, False):
        again = apply(fleet, *steps(fleet)[step], test)
        assert (again["result"], again["changes"]) == (True, {}), (test, again["comment"])
    assert fleet.tree() == before
    assert fleet.running() == [101, 102]
    verbs = {" ".join(call.split()[:2]) for call in fleet.calls()[calls:]}
    assert not verbs & {"vzctl start", "vzctl stop"}, verbs
    assert "mount" not in {call.split()[0] for call in fleet.calls()[calls:]}


def test_a_node_without_running_containers_is_migrated_too(fake_node):
    fake_node.add(103, "Epsilon", running=False)
    fake_node.pillar["containers"] = {}
    bring(fake_node, len(STEPS))
    assert fake_node.running() == []
    assert fake_node.private(103).name in fake_node.conf(103).read_text().replace("$VEID", "103")


# --- failures: what happened, where the containers are, what to type ------------------------------------------------


def failed(result, *words):
    """The state failed, in plain words."""
    assert result["result"] is False, result["comment"]
    for word in words:
        assert word in result["comment"], result["comment"]
    assert "Traceback" not in result["comment"]
    return result


ON = "'salt-run state.orch migrate' continues"


# A damaged journal does not matter to what these look at first.
@each_step(but=("ringfree_nfs.variables", "ringfree_nfs.mounted", "vz.configured"))
def test_a_damaged_journal_stops_every_state_with_nothing_touched(fleet, step):
    journal = fleet.folder / "var/journal.json"
    journal.write_text('{"version": 1, "node": "node0')
    before = fleet.tree()
    failed(apply(fleet, *steps(fleet)[step]), "journal.json is damaged", "Nothing was changed")
    assert fleet.tree() == before


def test_presynced_refuses_a_wiped_source(fleet):
    """H03: an empty private area is no source for a copy that deletes."""
    (fleet.private(101) / "etc/hostname").unlink()
    for name in ("etc", "bin"):
        (fleet.private(101) / name).rmdir()
    result = failed(
        apply(fleet, "cloudstor.presynced"), "nothing was copied", "container 101", "no container tree"
    )
    assert "node001 was not touched, it is on local storage" in result["comment"]
    assert [call for call in fleet.calls("rsync") if "vz/private" in call] == []


def test_presynced_repeats_until_a_pass_is_small(fleet):
    fleet.pillar["sync"] = {"small": 1, "passes": 3}
    count = fleet.folder / "var/passes"
    fleet.rule("rsync.101", f"[ $dry ] || {{ echo x >> {count}; [ $(wc -l < {count}) -gt 1 ] || sleep 1; }}")
    result = apply(fleet, "cloudstor.presynced")
    assert result["changes"]["101"]["new"].startswith("pass 2: 2 files")
    assert fleet.owner(101) == {**fleet.owner(101), "store": "local", "copied": "1234", "node": "node001"}


def test_h24_a_failed_update_stops_the_line_and_is_named(fleet):
    give_package_manager(fleet, 101)
    give_package_manager(fleet, 102)
    update = until(fleet, "vz.packages_updated")
    fleet.rule(
        "vzctl.exec2.101", 'case $3 in *makecache) exit 0 ;; *) echo "conflict with file" >&2; exit 1 ;; esac'
    )
    fleet.rule("vzctl.exec2.102", "echo Complete; exit 0")
    result = failed(update(), "101:", "conflict with file", ON)
    assert result["changes"]["102"]["new"] == "Complete"
    assert not fleet.minion().modules["ringfree_journal.reached"]("packages")
    fleet.rule("vzctl.exec2.101", "echo Complete; exit 0")
    assert update()["result"] is True


def test_packages_can_be_switched_off(fleet):
    until(fleet, "vz.packages_updated")
    result = apply(fleet, "vz.packages_updated", {"node": False, "containers": False})
    assert (result["result"], result["changes"]) == (True, {})
    assert not [call for call in fleet.calls() if call.split()[0] in ("yum", "dnf", "apt-get")]


def test_h08_the_manifest_is_written_once(fleet):
    manifested = until(fleet, "vz.manifested")
    assert manifested()["changes"]["manifest"]["new"] == [102, 101, 104]
    fleet.minion().modules["vz.stop"]([101, 102])
    again = manifested()
    assert (again["result"], again["changes"]) == (True, {})
    assert (fleet.folder / "etc/ringfree/manifest.tmp").read_text() == "102\n101\n104\n"


def test_a_manifest_of_an_earlier_migration_is_replaced(fleet):
    (fleet.folder / "etc/ringfree/manifest.tmp").write_text("900\n")
    result = until(fleet, "vz.manifested")()
    assert result["changes"]["manifest"] == {"old": [900], "new": [102, 101, 104]}


def test_an_ambiguous_conf_is_refused_before_any_conf_is_written(fleet):
    """H11."""
    configured = until(fleet, "vz.containers_configured")
    with fleet.conf(104).open("a") as stream:
        stream.write('VE_ROOT="/a"\nVE_ROOT="/b"\n')
    before = {ctid: fleet.conf(ctid).read_bytes() for ctid in (101, 102, 104)}
    for test in (True, False):
        failed(configured(test), f"{fleet.conf(104)}: line", "VE_ROOT", ON)
    assert {ctid: fleet.conf(ctid).read_bytes() for ctid in (101, 102, 104)} == before


def test_containers_outside_the_manifest_keep_their_paths(fleet):
    until(fleet, "vz.running")
    text = fleet.conf(103).read_text()
    assert f'VE_PRIVATE="{fleet.folder}/vz/private/$VEID"' in text
    assert 'DISK_QUOTA="yes"' in text
    assert 'DISK_QUOTA="no"' in fleet.vz_conf.read_text()
    assert fleet.minion().modules["vz.config"](103)["private"] == str(fleet.private(103))


def test_stopping_is_judged_by_a_probe_and_not_by_the_exit_code(fleet):
    """H10: exit code 0 of a container that still runs is a failure, exit code 1 of one that is down is none."""
    stopped = until(fleet, "vz.stopped")
    fleet.rule("vzctl.stop.101", "echo 'Container was stopped'; exit 0")
    fleet.rule("vzctl.stop.102", "halt; echo 'Unable to remove something' >&2; exit 1")
    failed(
        stopped(), "Container 101 still runs", "vzctl stop 101 --fast", "of 3 containers 1 run from local", ON
    )
    assert fleet.running() == [101]
    modules = fleet.minion().modules
    assert modules["ringfree_journal.reached"]("stop", "verified", 102)
    assert not modules["ringfree_journal.reached"]("stop", "verified", 101)
    assert not modules["ringfree_journal.reached"]("stop")
    (fleet.folder / "rules/vzctl.stop.101").unlink()
    assert set(stopped()["changes"]) == {"101"}


def test_a_container_that_vzctl_had_to_kill_is_named(fleet):
    """It is down, and moves; that its last words are lost is said, in the terminal and in the state's comment."""
    stopped = until(fleet, "vz.stopped")
    fleet.rule("vzctl.stop.101", "echo 'Killing container ...'")
    ret = stopped()
    assert ret["result"] is True
    assert "Container 101 was killed by vzctl" in ret["comment"]
    assert "102" not in ret["comment"]
    told = [data for _, data in fleet.told if (data["step"], data["phase"]) == ("stop", "verified")]
    notes = {data["container"]: data["note"] for data in told}
    assert "killed" in notes[101]
    assert notes[102] is None


def test_a_container_that_is_down_but_mounted_is_not_stopped(fleet):
    stopped = until(fleet, "vz.stopped")
    fleet.rule("vzctl.stop.101", "rm $W/proc/running/101; exit 0")
    failed(stopped(), "is still mounted", "fuser -vm")


def test_h25_one_state_that_cannot_be_read_does_not_hide_the_others(fleet):
    """Every container is judged, even when vzctl says nothing of one."""
    stopped = until(fleet, "vz.stopped")
    fleet.rule("vzctl.status.101", "[ ! -e $W/rules/broken ] || { echo 'Unable to open lock' >&2; exit 9; }")
    fleet.rule("vzctl.stop.101", "touch $W/rules/broken; exit 9")
    failed(stopped(), "The state of container 101 is unknown", "Unable to open lock")
    assert fleet.running() == [101]
    assert fleet.minion().modules["ringfree_journal.reached"]("stop", "verified", 102)
    assert fleet.minion().modules["ringfree_journal.reached"]("stop", "verified", 104)


def test_vanished_files_are_good_while_a_container_runs_and_bad_when_it_is_down(fleet):
    fleet.rule("rsync.101.after", "[ $dry ] || exit 24")
    synced = until(fleet, "cloudstor.synced")
    failed(synced(), "files vanished")


def test_a_difference_after_the_copy_fails_and_the_live_copy_stays_local(fleet):
    synced = until(fleet, "cloudstor.synced")
    fleet.rule("rsync.101.after", "echo changed > $target/etc/hostname")
    failed(synced(), "container 101", "differences after the copy", "hostname", ON)
    assert fleet.owner(101)["store"] == "local"
    modules = fleet.minion().modules
    assert modules["ringfree_journal.reached"]("sync", "verified", 102)
    assert not modules["ringfree_journal.reached"]("sync", "verified", 101)
    failed(apply(fleet, "ringfree_owner.owned"), "containers", "101", "no verified copy")
    assert fleet.owner(102)["store"] == "local"


def test_the_final_copy_refuses_a_container_that_runs(fleet):
    synced = until(fleet, "cloudstor.synced")
    copied = len(fleet.calls("rsync -a"))
    fleet.minion().modules["vz.start"]([102], force=True)
    failed(synced(), "nothing was copied", "container 102 runs")
    assert not [call for call in fleet.calls("rsync -a")[copied:] if "vz/private" in call]


def test_h02_a_container_of_another_node_is_never_taken_for_a_finished_copy(fleet):
    """The record on the share says that node002 runs it from there: not to be copied over, nor to be booted here."""
    until(fleet, "vz.stopped")()
    fleet.own(101, node="node002")
    for state in ("cloudstor.synced", "ringfree_owner.owned"):
        for test in (True, False):
            failed(apply(fleet, state, test=test), "container 101 belongs to node002", ON)
    assert fleet.owner(101)["node"] == "node002"


def test_vz_is_not_restarted_under_a_running_container(fleet):
    """H04: its stop would suspend them."""
    restarted = until(fleet, "vz.restarted")
    fleet.minion().modules["vz.start"]([102], force=True)
    failed(restarted(), "containers 102 run", "suspend")


def test_vz_is_not_restarted_while_containers_could_start_by_themselves(fleet):
    """H05."""
    restarted = until(fleet, "vz.restarted")
    fleet.minion().modules["ringfree_guard.unguard"]()
    fleet.services["vz"] = "not touched"
    failed(restarted(), "nothing keeps containers from starting by themselves")
    assert fleet.services["vz"] == "not touched"


def test_a_vz_service_that_does_not_come_back_is_a_failure(fleet):
    restarted = until(fleet, "vz.restarted")
    fleet.restart = lambda name: fleet.services.update({name: False})
    failed(restarted(), "does not run after its restart", "service vz status", ON)


def test_a_container_that_starts_with_the_vz_service_is_a_failure(fleet):
    """H05."""
    restarted = until(fleet, "vz.restarted")

    def restart(name):
        fleet.services[name] = True
        (fleet.folder / "proc/running/104").touch()

    fleet.restart = restart
    failed(restarted(), "containers 104 started with the vz service", ON)


def test_h10_a_container_that_boots_its_old_tree_is_a_failure(fleet):
    """vzctl says that all went well, and mountinfo that the old private area is on the root."""
    start = until(fleet, "vz.running", first=True)
    old, root = fleet.private(102), fleet.folder / "vz/nfsroot/102"
    fleet.rule(
        "vzctl.start.102",
        f'touch $W/proc/running/102; echo "77 51 8:1 {old} {root} rw - ext4 /dev/sda1 rw" >> $W/proc/mountinfo; exit 0',
    )
    failed(start(), "Container 102 runs from the wrong tree", str(old), "vzctl stop 102", ON)
    assert not fleet.minion().modules["ringfree_journal.reached"]("start", "done", 102)


def test_h10_exit_code_32_of_a_container_that_runs_rightly_is_no_failure(fleet):
    start = until(fleet, "vz.running", first=True)
    fleet.rule("vzctl.start.102", "boot; echo 'Container is already running'; exit 32")
    assert start()["result"] is True


def test_a_container_that_does_not_start_is_named_with_vzctls_words(fleet):
    start = until(fleet, "vz.running", first=True)
    fleet.rule(
        "vzctl.start.102", "echo 'Container start in progress...'; echo 'Unable to mount' >&2; exit 14"
    )
    failed(start(), "Container 102 does not run", "exit code 14", "Unable to mount", "vzctl start 102", ON)


def test_h25_a_service_that_does_not_answer_is_named(fleet):
    start = until(fleet, "vz.running", first=True)
    fleet.rule("vzctl.exec2.102", 'case $3 in asterisk*) echo "Unable to connect" >&2; exit 1 ;; esac')
    failed(start(), "container 102: asterisk does not answer", "Unable to connect", ON)
    assert fleet.minion().modules["ringfree_journal.reached"]("start", "done", 102)
    assert not fleet.minion().modules["ringfree_journal.reached"]("start", "verified", 102)


def test_h26_priority_containers_are_confirmed_one_by_one_before_the_rest(fleet):
    fleet.pillar["containers"]["priority"] = ["revnat", "PBX"]
    until(fleet, "ringfree_start.load_normal")
    calls = [call for call in fleet.calls("vzctl") if call.split()[1] in ("start", "exec2")]
    starts = [call.split()[2] for call in calls if "start" in call]
    assert starts == ["104", "102", "101"]
    assert all("--force" in call.split() for call in calls if "start" in call)
    second = next(index for index, call in enumerate(calls) if call.startswith("vzctl start 102"))
    assert any(call.startswith("vzctl exec2 104") for call in calls[:second])


def test_a_load_that_stays_high_stops_before_the_commit(fleet, monkeypatch):
    normal = until(fleet, "ringfree_start.load_normal")
    monkeypatch.setattr("os.getloadavg", lambda: (1e6, 0, 0))
    failed(normal(), "the load is 1000000.0 after 0 s", "load_per_cpu", ON)


@pytest.mark.parametrize("test", [True, False])
def test_a_high_load_is_no_failure_of_a_dry_run(fleet, monkeypatch, test):
    monkeypatch.setattr("os.getloadavg", lambda: (1e6 if test else 0.1, 0, 0))
    assert apply(fleet, "ringfree_start.load_normal", test=test)["result"] is True


def test_h09_the_commit_demands_the_containers_that_ran_before(fleet):
    committed = until(fleet, "cloudstor.committed")
    modules = fleet.minion().modules
    modules["vz.stop"]([104])
    modules["vz.start"]([103], force=True)
    failed(committed(), "container 104 does not run", "container 103 runs and did not run before", ON)
    assert modules["ringfree_journal.state"]() == "in_flight"
    assert 'DISABLED="yes"' in fleet.vz_conf.read_text()
    modules["vz.stop"]([103])
    modules["vz.start"]([104], force=True)
    assert committed()["comment"] == "node001 is on NFS, 3 of 3 containers answer."
    assert "DISABLED" not in fleet.vz_conf.read_text()


def test_the_commit_demands_the_mounts(fleet):
    committed = until(fleet, "cloudstor.committed")
    mountinfo = fleet.folder / "proc/mountinfo"
    mountinfo.write_text("".join(line for line in mountinfo.open() if "vzconf" not in line))
    failed(committed(), "is not mounted from 10.77.0.21:/rf-images/vzconf")


def test_the_variables_of_a_committed_node_demand_the_mounts(fleet):
    result = apply(fleet, "ringfree_nfs.variables", {"mounted": True})
    failed(result, "not all shares are mounted", "ringfree_nfs.in_use")
    assert not (fleet.folder / "etc/ringfree/nfs").exists()


def test_a_file_that_cannot_be_written_is_a_failure_in_plain_words(fleet):
    until(fleet, "vz.manifested")
    manifest = fleet.folder / "etc/ringfree/manifest.tmp"
    manifest.symlink_to(fleet.folder / "gone/manifest")
    failed(apply(fleet, "vz.manifested"), "No such file or directory", "gone", ON)
    (fleet.folder / "etc/ringfree/nfs").mkdir()
    failed(apply(fleet, "ringfree_nfs.variables"), "etc/ringfree/nfs")


def test_what_happens_is_told_to_the_master(fleet):
    until(fleet, "cloudstor.synced")
    fleet.rule("rsync.101", "[ $dry ] || exit 23")
    apply(fleet, "cloudstor.synced")
    assert {tag for tag, _ in fleet.told} == {"ringfree/progress/node001"}
    stops = [data for _, data in fleet.told if data["step"] == "stop" and data["phase"] == "verified"]
    assert {data["container"] for data in stops} == {101, 102, 104, None}
    assert fleet.told[-1][1]["phase"] == "failed"
    assert "container 101 was not copied" in fleet.told[-1][1]["note"]


def test_every_step_of_the_journal_is_told_with_its_end(fleet):
    """Who watches misses no step, and a run that is cut short knows of each whether it was begun."""
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    told = {(data["step"], data["phase"]) for _, data in fleet.told}
    steps = [step for step in fleet.minion().utils["ringfree_journal.steps"]() if step != "revert"]
    assert told >= {(step, phase) for step in steps for phase in ("intent", "verified")}


def test_variables_that_cannot_be_written_are_told(fleet):
    until(fleet, "ringfree_nfs.variables")
    (fleet.folder / "etc/ringfree/nfs").mkdir()
    failed(apply(fleet, "ringfree_nfs.variables"), "etc/ringfree/nfs", ON)
    assert fleet.told[-1][1]["phase"] == "failed"


def test_a_master_that_cannot_be_told_stops_nothing(fleet):
    node = fleet.minion()

    def broken(tag, data):
        raise OSError("no bus")

    node.modules["event.send"] = broken
    assert node.states["cloudstor.begun"]("x")["result"] is True
