"""The state that brings a node back to local storage: from anywhere, byte for byte, as much as can be done."""

import json
import shutil
import subprocess

import pytest
import ringfree_fstab
from edited import edit
from fake_node import FENCE
from left_points import FSTAB, POINTS, local_side
from migration_steps import apply, until
from salt.exceptions import CommandExecutionError


def boots_as_before(node):
    """H14: nothing of ours is left that keeps vz or a container from starting."""
    places = ("etc/systemd/system/vz.service.d", "var/boot-set", "proc/units/vz")
    left = [place for place in places if (node.folder / place).exists()]
    return left == [] and node.listed() == []


def revert(node, data=None, test=False):
    return apply(node, "ringfree_rollback.rolled_back", {"data": data}, test)


def good(result):
    """Assert that all went well; otherwise its comment says why."""
    assert result["result"] is True, result["comment"]


@pytest.mark.walk
@pytest.mark.parametrize("point", POINTS)
def test_the_node_is_as_before_from_anywhere(moved, point):
    node = moved(point)
    before = node.tree()
    dry = revert(node, test=True)
    assert node.tree() == before
    assert dry["result"] is None
    assert set(dry["changes"]) >= {"state", "101", "102", "104"}
    live = revert(node, "discard")
    assert live["result"] is True, live["comment"]
    assert local_side(node) == node.before
    assert node.running() == [101, 102, 104]
    mountinfo = (node.folder / "proc/mountinfo").read_text()
    assert "nfs" not in mountinfo
    for ctid in node.running():
        assert f" {node.private(ctid)} " in mountinfo
        assert node.owner(ctid)["store"] == "local"
    assert (node.folder / "etc/ringfree/nfsmounted").read_text() == "0\n"
    assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "local"
    assert boots_as_before(node)
    after = node.tree()
    for test in (True, False):
        again = revert(node, test=test)
        assert (again["result"], again["changes"]) == (True, {})
    assert node.tree() == after


@pytest.mark.parametrize("data", ["sync-back", "Discard", "", True, ["sync_back"]])
def test_h35_only_two_words_say_what_becomes_of_the_data(moved, data):
    """A dash for the underscore once discarded what customers had written."""
    node = moved("committed")
    before = node.tree()
    result = revert(node, data)
    assert result["result"] is False
    assert "data: must be one of discard, sync_back, not " in result["comment"]
    assert "Nothing was touched" in result["comment"]
    assert node.tree() == before


def test_h21_what_was_written_on_a_share_that_is_silent_is_listed_when_it_answers(moved):
    """At home everything runs by then: the list also has what changed there, and says so. It is made once."""
    node = moved("committed")
    for program in ("ssh", "rsync"):
        node.rule(program, "exit 255")
    # Typed again while it is still silent.
    for what in (
        "files changed on NFS are listed: ",
        "what could not be listed before is listed: ",
    ):
        result = revert(node, "discard")
        assert result["result"] is False
        assert what in result["comment"]
        assert node.running() == [101, 102, 104]
    node.san("pbx", 101, "etc/voicemail").write_text("a message\n")
    for program in ("ssh", "rsync"):
        node.rule(program, "")
    result = revert(node, "discard")
    good(result)
    assert "101: 1, with what changed at home since; 102: 0" in str(result["changes"])
    (listed,) = (node.folder / "var/changed").glob("*/101")
    assert "voicemail" in listed.read_text()
    again = revert(node, "discard")
    assert (again["result"], again["changes"]) == (True, {})


def test_h21_what_nobody_could_list_is_listed_before_a_migration_overwrites_it(moved):
    """The rollback was not typed again once the SAN answered."""
    node = moved("committed")
    for program in ("ssh", "rsync"):
        node.rule(program, "exit 255")
    assert revert(node, "discard")["result"] is False
    for program in ("ssh", "rsync"):
        node.rule(program, "")
    voicemail = node.san("pbx", 101, "etc/voicemail")
    voicemail.write_text("a message\n")
    node.rule("rsync.101", "exit 23")
    said = apply(node, "cloudstor.presynced")
    assert (
        said["result"] is False
        and "salt-call ringfree_owner.claim '[102, 101, 104]' local" in said["comment"]
    )
    assert node.owner(101)["store"] == "nfs"
    node.rule("rsync.101", "[ $dry ] || exit 23")
    assert apply(node, "cloudstor.presynced")["result"] is False
    (listed,) = (node.folder / "var/changed").glob("*/101")
    assert "voicemail" in listed.read_text()
    assert voicemail.exists()
    node.rule("rsync.101", "")
    until(node, "ringfree_nfs.variables", mounted=True)()
    assert not voicemail.exists()
    assert list((node.folder / "var/changed").glob("*/101")) == [listed]


def test_h21_a_list_that_fails_is_made_late_and_the_share_is_told_only_then(moved):
    """Else the same rollback could not make it any more."""
    node = moved("committed")
    node.san("pbx", 101, "etc/voicemail").write_text("a message\n")
    node.rule("rsync.101", "exit 23")
    result = revert(node, "discard")
    for what in ("files changed on NFS are listed: ", "what could not be listed before is listed: "):
        assert what in result["comment"]
    assert (result["result"], node.running()) == (False, [101, 102, 104])
    assert node.owner(101)["store"] == "nfs" and boots_as_before(node)
    node.rule("rsync.101", "")
    good(revert(node, "discard"))
    assert node.owner(101)["store"] == "local"
    (listed,) = (node.folder / "var/changed").glob("*/101")
    assert "voicemail" in listed.read_text()


def test_h21_what_is_down_does_not_wait_for_a_list_of_what_is_home(moved):
    """One of three did not start while the share was silent: it comes home first, and is compared before its start."""
    node = moved("committed")
    for program in ("ssh", "rsync"):
        node.rule(program, "exit 255")
    node.rule("vzctl.start.102", "exit 8")
    assert revert(node, "discard")["result"] is False
    assert node.running() == [101, 104]
    assert {node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {"nfs"}
    for program in ("ssh", "vzctl.start.102"):
        node.rule(program, "")
    node.rule("rsync", 'case "$*" in *pbx/10[14]/*) exit 23 ;; esac')
    result = revert(node, "discard")
    assert "what could not be listed before is listed: " in result["comment"]
    assert node.running() == [101, 102, 104]
    assert {ctid: node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {
        101: "nfs",
        102: "local",
        104: "nfs",
    }
    node.rule("rsync", "")
    good(revert(node, "discard"))
    assert {node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {"local"}
    assert {path.name for path in (node.folder / "var/changed").glob("*/*")} == {"101", "102", "104"}


def test_h21_a_copy_back_of_a_container_that_runs_is_refused_before_it_leaves_a_mark(moved):
    """A local copy that nothing has touched does not count as one that was overwritten by half."""
    node = moved("committed")
    (node.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    modules = node.minion().modules
    with pytest.raises(CommandExecutionError, match="container 101 runs; nothing was copied"):
        modules["cloudstor.sync_back"](101, str(node.private(101)), "20260226-0400")
    assert modules["cloudstor.half_back"](101, str(node.private(101))) == []


def test_a_node_that_never_moved_has_nothing_to_go_back_from(fleet):
    before = fleet.tree()
    for test in (True, False):
        result = revert(fleet, test=test)
        assert (result["result"], result["changes"]) == (True, {})
    assert fleet.tree() == before


def test_h13_systemd_and_vz_are_told_when_nothing_leads_to_the_share_any_more(moved):
    """systemd looks at each mount point in fstab, vz at each private area in a conf: with a dead SAN both hang."""
    node = moved("committed")
    fstab = node.folder / "etc/fstab"
    line = b"10.77.0.21:/rf-images/pbx /vz/nfsprivate nfs hard 0 0"
    fstab.write_bytes(FSTAB.encode() + b"%b\n%b\n%b\n" % (ringfree_fstab.BEGIN, line, ringfree_fstab.END))
    node.rule("systemctl.daemon-reload", "cp $W/etc/fstab $W/at-reload")
    seen = []

    def restart(name):
        seen.append((name, node.conf(101).read_text(), mounted(node)))

    node.restart = restart
    good(revert(node, "discard"))
    assert (node.folder / "at-reload").read_text() == FSTAB
    ((name, conf, table),) = seen
    assert name == "vz" and "nfs" not in conf + table


def test_a_node_can_be_moved_again_after_the_way_back(moved):
    node = moved("committed")
    good(revert(node, "discard"))
    (node.folder / "etc/fstab").write_text(FSTAB)
    until(node, "ringfree_nfs.variables", mounted=True)()
    assert node.running() == [101, 102, 104]
    assert node.owner(101)["store"] == "nfs"


def test_a_dry_run_after_the_way_back_counts_no_step_of_the_old_journal(moved):
    node = moved("committed")
    good(revert(node, "discard"))
    for state in ("vz.packages_updated", "vz.manifested", "ringfree_snapshot.made"):
        dry = apply(node, state, test=True)
        assert (dry["result"], bool(dry["changes"])) == (None, True), state


@pytest.mark.walk
@pytest.mark.parametrize("point", POINTS)
def test_h17_without_a_readable_journal_truth_is_probed(moved, point):
    """Half a journal, anywhere in a migration: the node goes back all the same, and the file is kept for people."""
    node = moved(point)
    path = node.folder / "var/journal.json"
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    before = node.tree()
    dry = revert(node, "discard", test=True)
    assert dry["result"] is None and "damaged" in dry["changes"]["journal"]["old"]
    assert node.tree() == before
    result = revert(node, "discard")
    good(result)
    assert "damaged" in result["changes"]["journal"]["old"]
    assert local_side(node) == node.before
    assert node.running() == [101, 102, 104]
    assert {node.owner(ctid)["store"] for ctid in node.running()} == {"local"}
    (kept,) = (node.folder / "var").glob("journal.json.damaged-*")
    assert kept.read_bytes() == half
    assert json.loads(path.read_text())["facts"]["recovered"]["fault"]


@pytest.mark.parametrize(
    ("point", "state"), [("committed", "nfs"), ("started", "in_flight"), ("stopped", "in_flight")]
)
def test_h17_a_journal_is_written_anew_from_what_is_found(moved, point, state):
    node = moved(point)
    (node.folder / "var/journal.json").write_text("{")
    before = node.running()
    recover = node.minion().modules["cloudstor.recover_journal"]
    assert (recover(), recover()) == (state, state)
    assert node.running() == before
    if state == "in_flight":
        until(node, "ringfree_nfs.variables", mounted=True)()
        assert node.minion().modules["ringfree_journal.state"]() == "nfs"
    assert node.minion().modules["ringfree_nfs.containers"]() == [102, 101, 104]


def test_h17_a_node_that_never_moved_is_local_whatever_became_of_its_journal(fleet):
    (fleet.folder / "var").mkdir(exist_ok=True)
    (fleet.folder / "var/journal.json").write_text("")
    before = fleet.running()
    result = revert(fleet)
    assert result["result"] is True and "was not touched" in result["comment"]
    assert fleet.running() == before and fleet.calls("vzctl stop") == []


def test_h21_sync_back_without_a_readable_journal_copies_what_lives_on_the_share(moved):
    node = moved("committed")
    (node.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    (node.folder / "var/journal.json").write_text("{")
    good(revert(node, "sync_back"))
    assert (node.private(101) / "etc/voicemail").read_text() == "hello\n"


def test_h21_what_is_written_locally_once_the_guard_is_gone_is_not_overwritten(moved):
    """What could not be started, or told the share, can be started by hand: it is home from then on."""
    node = moved("committed")
    node.rule("vzlist", "exit 1")
    failed = revert(node, "sync_back")
    assert failed["result"] is False and "the containers run from local storage" in failed["comment"]
    node.minion().modules["vz.start"]([101])
    (node.private(101) / "etc/since").write_text("a voicemail")
    node.minion().modules["vz.stop"]([101])
    node.rule("vzlist", "")
    good(revert(node, "sync_back"))
    assert (node.private(101) / "etc/since").read_text() == "a voicemail"
    assert node.running() == [101, 102, 104] and node.owner(101)["store"] == "local"


@pytest.mark.parametrize("data", ["discard", "sync_back"])
def test_h21_what_was_written_on_nfs_is_copied_back_or_not_and_listed_in_any_case(moved, data):
    node = moved("committed")
    (node.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    good(revert(node, data))
    voicemail = node.private(101) / "etc/voicemail"
    assert voicemail.exists() is (data == "sync_back")
    (listed,) = (node.folder / "var/changed").glob("*/101")
    assert "voicemail" in listed.read_text()
    assert (node.san("pbx/101/etc/voicemail")).read_text() == "hello\n"


def test_h07_confs_are_not_restored_onto_the_share(moved):
    """The conf share stays busy: nothing of the snapshot goes through it to the confs of every node."""
    node = moved("started")
    conf = node.folder / "etc/sysconfig/vz-scripts"
    shared = {path.name: path.read_bytes() for path in conf.iterdir()}
    node.rule("umount", f'case "$*" in *{conf}*) echo "target is busy" >&2; exit 32 ;; esac')
    result = revert(node, "discard")
    assert result["result"] is False
    for words in ("target is busy", "still the share", f"umount {conf}", "in flight"):
        assert words in result["comment"]
    assert {path.name: path.read_bytes() for path in conf.iterdir()} == shared
    assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "in_flight"
    assert 'DISABLED="yes"' in node.vz_conf.read_text(), (
        "H05: nothing may boot by itself from what is half gone"
    )
    assert node.running() == []
    node.rule("umount", "")
    good(revert(node, "discard"))
    assert local_side(node) == node.before
    assert node.running() == [101, 102, 104]


@pytest.mark.parametrize("typed", ["migrate", "rollback"])
def test_h02_the_live_copy_stays_on_the_share_as_long_as_the_conf_leads_there(moved, typed):
    """Whatever is typed next knows where the data is: a migration goes on with it, a way back lists and leaves it."""
    node = moved("committed")
    node.san("pbx", 101, "etc/voicemail").write_text("a message\n")
    node.rule("umount", "echo 'target is busy' >&2; exit 32")
    assert revert(node, "discard")["result"] is False
    assert node.running() == []
    assert {node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {"nfs"}
    assert [line.split()[0] for line in node.listed()] == ["101", "102", "104"]
    node.rule("umount", "")
    if typed == "migrate":
        until(node, "ringfree_nfs.variables", mounted=True)()
        assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "nfs"
        assert (node.san("pbx", 101, "etc/voicemail")).read_text() == "a message\n"
    else:
        result = revert(node, "discard")
        good(result)
        assert "101: 1; 102: 0" in result["changes"]["files changed on NFS are listed"]["new"]
        assert local_side(node) == node.before
    assert node.running() == [101, 102, 104]


def test_h19_every_part_is_tried_although_others_fail(moved):
    node = moved("committed")
    node.rule("vzctl.start.101", "echo 'no memory' >&2; exit 8")
    node.restart = lambda name: node.services.update({name: False})
    result = revert(node, "discard")
    assert result["result"] is False
    for words in (
        "Container 101 does not run",
        "no memory",
        "vz service does not run",
        "Container 101 stays down: it does not start",
        "salt node001 ringfree_rollback.bring_home 101",
    ):
        assert words in result["comment"]
    assert node.running() == [102, 104]
    assert "nfs" not in (node.folder / "proc/mountinfo").read_text()
    node.rule("vzctl.start.101", "")
    node.restart = lambda name: node.services.update({name: True})
    good(revert(node, "discard"))
    assert node.running() == [101, 102, 104]
    assert local_side(node) == node.before


@pytest.mark.walk
@pytest.mark.parametrize("surprise", [AttributeError, RecursionError, OverflowError])
@pytest.mark.parametrize(
    "sub_step", ["_list_changes", "_vz_conf", "_unmount", "_confs", "_start", "_variables"]
)
def test_h42_a_surprise_in_one_part_keeps_no_other_from_being_tried(moved, monkeypatch, sub_step, surprise):
    """Reported with its kind; once it is gone the same rollback ends what was left."""
    node = moved("committed")

    def fail(*arguments):
        raise surprise("nobody thought of it")

    with monkeypatch.context() as patch:
        patch.setattr(node.minion().module_of("ringfree_rollback.revert"), sub_step, fail)
        result = revert(node, "discard")
    assert result["result"] is False
    assert result["comment"].count(f"{surprise.__name__}: nobody thought of it") == 1
    good(revert(node, "discard"))
    assert local_side(node) == node.before


def test_a_container_that_does_not_stop_keeps_its_conf_until_it_does(moved):
    """Its conf of before would hide from the next try, and from vzctl, where it runs."""
    node = moved("committed")
    node.rule("vzctl.stop.102", "echo 'already locked' >&2; exit 9")
    result = revert(node, "discard")
    assert result["result"] is False
    for words in ("already locked", "102.conf: not restored", "container 102 still runs from the share"):
        assert words in result["comment"]
    assert node.running() == [101, 102, 104]
    mountinfo = (node.folder / "proc/mountinfo").read_text()
    assert f" {node.private(101)} " in mountinfo and f" {node.private(102)} " not in mountinfo
    assert 'DISABLED="yes"' in node.vz_conf.read_text()
    node.rule("vzctl.stop.102", "")
    assert revert(node, "discard")["result"] is True
    assert node.running() == [101, 102, 104]
    assert local_side(node) == node.before
    assert "nfs" not in (node.folder / "proc/mountinfo").read_text()


def test_a_san_that_is_away_does_not_keep_the_containers_down(moved):
    """H13: what can only be done with the SAN is named, everything else is done."""
    node = moved("committed")
    node.rule("vzctl.start", FENCE)
    node.rule("rsync", "echo 'No route to host' >&2; exit 255")
    node.rule("ssh", "echo 'No route to host' >&2; exit 255")
    result = revert(node, "discard")
    assert result["result"] is False
    assert "No route to host" in result["comment"]
    assert "salt-call ringfree_owner.claim" in result["comment"]
    assert node.running() == [101, 102, 104]
    assert local_side(node) == node.before
    assert boots_as_before(node)


def test_a_share_that_is_away_again_has_still_to_be_told(moved):
    """H12: a node that is home asks once more, and does not take a SAN that says nothing for one that knows."""
    node = moved("committed")
    for program in ("rsync", "ssh"):
        node.rule(program, "echo 'No route to host' >&2; exit 255")
    revert(node, "discard")
    assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "local"
    for _ in range(2):
        again = revert(node, "discard")
        assert again["result"] is False
        assert "No route to host" in again["comment"]
        assert "salt-call ringfree_owner.claim '[102, 101, 104]' local" in again["comment"]
        assert node.running() == [101, 102, 104]
    for program in ("rsync", "ssh"):
        node.rule(program, "")
    good(revert(node, "discard"))
    assert {node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {"local"}
    assert local_side(node) == node.before


def test_what_could_not_be_done_is_done_by_the_same_rollback_again(moved):
    """The containers are home and the node is local; the owner records and the variable still say that they are not."""
    node = moved("committed")
    variable = node.folder / "etc/ringfree/nfsmounted"
    variable.unlink()
    variable.mkdir()
    node.rule("rsync", "echo 'No route to host' >&2; exit 255")
    said = revert(node, "discard")
    for words in ("salt-call ringfree_owner.claim", "echo 0 > /etc/ringfree/nfsmounted"):
        assert words in said["comment"]
    assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "local"
    node.rule("rsync", "")
    variable.rmdir()
    assert revert(node, "discard", test=True)["result"] is None
    assert revert(node, "discard")["result"] is True
    assert variable.read_text() == "0\n"
    assert {node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {"local"}
    assert node.running() == [101, 102, 104]
    assert local_side(node) == node.before
    for test in (True, False):
        again = revert(node, "discard", test=test)
        assert (again["result"], again["changes"]) == (True, {})


def test_a_failed_run_takes_no_committed_node_back(moved):
    """Only from the middle: what fails on a node days after its commit must not throw away what it wrote since."""
    node = moved("committed")
    before = node.tree()
    for test in (True, False):
        result = apply(node, "ringfree_rollback.rolled_back", {"committed": False}, test=test)
        assert (result["result"], result["changes"]) == (True, {})
        assert "stays on NFS" in result["comment"]
    assert node.tree() == before


def test_a_failed_run_takes_a_node_in_flight_back(moved):
    node = moved("started")
    assert apply(node, "ringfree_rollback.rolled_back", {"committed": False})["result"] is True
    assert local_side(node) == node.before


def test_h25_a_container_that_runs_and_does_not_answer_is_named(moved):
    """The node is back all the same: nothing of it is on the share any more."""
    node = moved("committed")
    node.pillar["start"] = {"answer": 1}
    node.rule("vzctl.exec2.102", "echo 'Unable to connect to remote asterisk' >&2; exit 1")
    for _ in range(2):  # typed again it still does not answer
        result = revert(node, "discard")
        assert result["result"] is False
        for words in (
            "the containers answer",
            "container 102: asterisk",
            "back on local storage, 2 of 3 containers answer",
        ):
            assert words in result["comment"]
        assert node.running() == [101, 102, 104]
        assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "local"
        assert "DISABLED" not in node.vz_conf.read_text()
    node.rule("vzctl.exec2.102", "")
    good(revert(node, "discard"))


def test_a_node_that_is_home_starts_nothing_that_somebody_has_stopped_since(moved):
    """What an earlier way back could not do is done; a container that is down by now is down on purpose."""
    node = moved("committed")
    node.rule("ssh", "exit 255")
    node.rule("rsync", "exit 255")
    assert revert(node, "discard")["result"] is False
    subprocess.run([node.bin / "vzctl", "stop", "104"], check=True, capture_output=True)
    node.rule("ssh", "")
    node.rule("rsync", "")
    good(revert(node, "discard"))
    assert node.running() == [101, 102]


def test_h21_a_container_that_cannot_be_copied_back_is_not_started_on_its_old_copy(moved):
    """Its newest data is on the share only: it waits, fenced, until the copy succeeds or the operator lets it go."""
    node = moved("committed")
    (node.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    node.rule("rsync.101", "[ $dry ] || { echo 'No space left on device' >&2; exit 11; }")
    result = revert(node, "sync_back")
    assert result["result"] is False
    for words in ("No space left", "Container 101 stays down", "neither the old one nor the new one"):
        assert words in result["comment"]
    assert node.running() == [102, 104]
    assert (node.owner(101)["store"], node.owner(102)["store"]) == ("nfs", "local")
    node.rule("rsync.101", "")
    good(revert(node, "sync_back"))
    assert (node.private(101) / "etc/voicemail").read_text() == "hello\n"
    assert node.running() == [101, 102, 104]
    assert "DISABLED" not in node.vz_conf.read_text()


def cut_short(node, sub_step, data):
    """The way back is killed as it begins one of its parts."""
    told = node.minion().modules["event.send"]

    def killed(tag, data):
        if data["step"] == sub_step:
            raise KeyboardInterrupt

    node.minion().modules["event.send"] = killed
    with pytest.raises(KeyboardInterrupt):
        revert(node, data)
    node.minion().modules["event.send"] = told


@pytest.mark.parametrize("data", ["discard", None])
def test_h21_a_copy_that_was_overwritten_by_half_is_not_started(moved, data):
    """Whoever goes on without a word copies to the end; who says discard is told why that one stays down."""
    node = moved("committed")
    (node.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    half = f"[ $dry ] || {{ echo half >{node.private(101)}/etc/voicemail; exit 12; }}"
    node.rule("rsync.101", half)
    cut_short(node, "vz.conf is as before", "sync_back")
    node.rule("rsync.101", "")
    result = revert(node, data)
    whole = (node.private(101) / "etc/voicemail").read_text()
    marks = list((node.folder / "vz/private/.ringfree-replaced").glob("*/101.unfinished"))
    assert bool(marks) is (data == "discard")
    if data is None:
        good(result)
        assert (whole, node.running()) == ("hello\n", [101, 102, 104])
        return
    assert result["result"] is False
    assert "neither the old one nor the new one" in result["comment"]
    assert (whole, node.running()) == ("half\n", [102, 104])
    assert [line.split()[0] for line in node.listed()] == ["101"]
    good(revert(node, "sync_back"))
    assert (node.private(101) / "etc/voicemail").read_text() == "hello\n"
    assert node.running() == [101, 102, 104]


def test_h14_a_reboot_on_the_way_home_does_not_mount_the_shares_again(moved):
    """The power is cut when the containers have been started at home: nothing in fstab brings the conf share back."""
    node = moved("committed")
    cut_short(node, "the containers answer", "discard")
    assert node.running() == [101, 102, 104]
    assert (node.folder / "etc/fstab").read_text() == FSTAB


def test_h21_what_never_ran_on_nfs_has_nothing_to_copy_back(moved):
    """The SAN dies between the last copy and the first start: the local copies are the newest, whatever is chosen."""
    node = moved("owned by the share")
    node.rule("rsync", "echo 'No route to host' >&2; exit 255")
    revert(node, "sync_back")
    assert node.running() == [101, 102, 104]


@pytest.fixture
def half_back(moved):
    """
    The SAN is away, so the owner records still say nfs; a share stays mounted, so the node is still in flight.

    101 runs from local storage again and writes there; then everything works again.
    """
    node = moved("committed")
    (node.folder / "vz/nfsprivate/101/on-nfs").write_text("x\n")
    node.rule("rsync", "echo 'No route to host' >&2; exit 255")
    node.rule("umount", 'case "$*" in */vz/nfsroot) echo "target is busy" >&2; exit 32 ;; esac')
    revert(node, "discard")
    assert (node.running(), node.owner(101)["store"]) == ([101, 102, 104], "nfs")
    assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "in_flight"
    (node.private(101) / "etc/voicemail").write_text("hello\n")
    for program in ("rsync", "umount"):
        node.rule(program, "")
    return node


def test_h21_what_was_written_at_home_since_is_not_overwritten_by_what_is_on_nfs(half_back):
    assert revert(half_back, "sync_back")["result"] is True
    assert (half_back.private(101) / "etc/voicemail").read_text() == "hello\n"
    assert half_back.owner(101)["store"] == "local"
    assert half_back.running() == [101, 102, 104]


def test_h02_a_migration_that_goes_on_takes_what_was_written_at_home_along(half_back):
    until(half_back, "ringfree_nfs.variables", mounted=True)()
    assert (half_back.san("pbx/101/etc/voicemail")).read_text() == "hello\n"
    assert half_back.owner(101)["store"] == "nfs"
    assert half_back.running() == [101, 102, 104]


def test_a_way_back_that_is_cut_short_leaves_no_node_that_counts_as_committed(moved):
    """H17: half a way back is no NFS: `migrate` must not find nothing to do, and the guard stays with reason."""
    node = moved("committed")
    cut_short(node, "vz.conf is as before", "discard")
    assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "in_flight"
    until(node, "ringfree_nfs.variables", mounted=True)()
    assert node.running() == [101, 102, 104]
    assert "nfs" in (node.folder / "proc/mountinfo").read_text()
    assert "DISABLED" not in node.vz_conf.read_text()


UMOUNT_HANGS = 'case "$1" in -f|-l) ;; *) exec sleep 60 ;; esac'


@pytest.fixture
def dead_san(moved, fake_bin, monkeypatch):
    """All containers run from the share when the SAN dies: programs hang, and the kernel unmounts by force only."""
    node = moved("started")
    node.pillar["nfs"]["deadline"] = 5
    monkeypatch.setattr(node.minion().module_of("vz.status"), "ATTEMPT", 1)
    monkeypatch.setattr(node.minion().module_of("vz.status"), "_ASKED", {})
    monkeypatch.setattr(node.minion().module_of("ringfree_nfs.in_use"), "ATTEMPT", 1)
    for constant, seconds in (("QUICK", 1), ("PATIENT", 0.2), ("ENDING", 2)):
        monkeypatch.setattr(node.minion().module_of("ringfree_failover.look"), constant, seconds)
    away = {"rsync": "exit 255", "ssh": "exit 255", "umount": UMOUNT_HANGS}
    fake_bin("stat", "exec sleep 60")
    for program, shell in away.items():
        node.rule(program, shell)

    def heal():
        fake_bin("stat")
        for program in away:
            node.rule(program, "")

    node.heal = heal
    return node


def test_h44_what_hangs_on_a_dead_san_goes_home_where_its_data_is_let_go(dead_san):
    """It is ended by force, never lazily; once the SAN is back the same rollback tells it what has happened."""
    asked = len(dead_san.calls())
    result = revert(dead_san, "discard")
    waits = [
        call.split()[0] for call in dead_san.calls()[asked:] if call.startswith(("rsync", "ssh", "kill"))
    ]
    assert waits[0] == "kill", "the SAN was waited for before what hangs on it was ended"
    assert result["result"] is False
    assert "container 101 still runs" not in result["comment"]
    assert dead_san.running() == [101, 102, 104]
    assert local_side(dead_san) == dead_san.before
    assert "nfs" not in (dead_san.folder / "proc/mountinfo").read_text()
    assert len(dead_san.calls("vzctl stop")) == 3  # those of the migration; another one would hang
    roots = dead_san.folder / "vz/nfsroot"
    assert lazy_unmounts(dead_san) == [f"umount -i --no-canonicalize -l {roots}"]
    assert json.loads((dead_san.folder / "var/journal.json").read_text())["state"] == "local"
    dead_san.heal()
    good(revert(dead_san, "discard"))
    assert dead_san.owner(101)["store"] == "local"


def test_h13_a_store_of_a_dead_san_that_is_busy_is_named_and_never_hidden(dead_san):
    """Somebody's shell: the containers run at home all the same; once it is gone the same rollback ends it."""
    store = f"{dead_san.folder}/vz/nfsprivate"
    shell = somebody(dead_san, f"{store}/101")
    dead_san.rule("umount", f'[ "$*" != "-f {store}" ] || {{ echo busy >&2; exit 32; }}; {UMOUNT_HANGS}')
    result = revert(dead_san, "discard")
    assert result["result"] is False
    for words in (f"{store} is still mounted", "In use by process 4711 (bash)", "umount", "in flight"):
        assert words in result["comment"], result["comment"]
    assert "still runs from the share" not in result["comment"]
    assert dead_san.running() == [101, 102, 104]
    assert all(
        f" {dead_san.private(ctid)} {dead_san.folder}/vz/root/{ctid} " in mounted(dead_san)
        for ctid in (101, 102, 104)
    )
    assert f"-l {store}" not in "\n".join(lazy_unmounts(dead_san))
    dead_san.heal()
    shutil.rmtree(shell)
    good(revert(dead_san, "discard"))
    assert "nfs" not in mounted(dead_san)
    assert dead_san.running() == [101, 102, 104] and local_side(dead_san) == dead_san.before


UNREACHABLE = """
    case "$*" in
        *{roots}/*) echo not connected >&2; exit 32 ;;
        "-l {roots}") locked sed -i '\\# {roots}/#d' $W/proc/mountinfo ;;
        *{roots}) echo busy >&2; exit 32 ;;
        -f*) ;;
        *) exec sleep 60 ;;
    esac
"""
DOWN_BUT_MOUNTED = "rm $W/proc/running/$ctid; exit 51"


def test_h13_roots_that_no_path_leads_to_any_more_go_with_the_share_that_they_lie_in(dead_san):
    """The kernel looks for them on the dead share, by which no unmount of their own can find them."""
    roots = f"{dead_san.folder}/vz/nfsroot"
    dead_san.rule("umount", UNREACHABLE.format(roots=roots))
    dead_san.rule("vzctl.stop", DOWN_BUT_MOUNTED)
    revert(dead_san, "discard")
    assert dead_san.running() == [101, 102, 104]
    assert "nfs" not in mounted(dead_san)
    assert lazy_unmounts(dead_san) == [f"umount -i --no-canonicalize -l {roots}"]
    assert json.loads((dead_san.folder / "var/journal.json").read_text())["state"] == "local"


def test_h13_roots_that_somebody_holds_are_not_taken_out_of_sight(dead_san):
    """Once nobody does, the same rollback ends them, although the SAN is still away and the private share gone."""
    roots = f"{dead_san.folder}/vz/nfsroot"
    shell = somebody(dead_san, f"{roots}/102/var/log")
    dead_san.rule("umount", UNREACHABLE.format(roots=roots))
    dead_san.rule("vzctl.stop", DOWN_BUT_MOUNTED)
    result = revert(dead_san, "discard")
    assert result["result"] is False
    for words in (f"{roots} is still mounted", "In use by process 4711 (bash)", "in flight"):
        assert words in result["comment"], result["comment"]
    assert f" {roots} " in mounted(dead_san) and lazy_unmounts(dead_san) == []
    assert f" {dead_san.folder}/vz/nfsprivate " not in mounted(dead_san)
    assert dead_san.running() == [101, 102, 104]
    shutil.rmtree(shell)
    stops = dead_san.calls("vzctl stop")
    revert(dead_san, "discard")
    assert dead_san.calls("vzctl stop") == stops
    assert "nfs" not in mounted(dead_san) and dead_san.running() == [101, 102, 104]
    assert json.loads((dead_san.folder / "var/journal.json").read_text())["state"] == "local"


def somebody(node, folder):
    """A shell of an admin, with a working directory."""
    shell = node.folder / "proc/4711"
    (shell / "fd").mkdir(parents=True)
    (shell / "cwd").symlink_to(folder)
    (shell / "comm").write_text("bash\n")
    return shell


def mounted(node):
    return (node.folder / "proc/mountinfo").read_text()


def lazy_unmounts(node):
    return [call for call in node.calls("umount") if "-l" in call.split()]


def test_h44_what_hangs_on_a_dead_san_is_left_where_its_data_is_wanted(dead_san):
    """Nothing hangs, nothing starts twice, and once the SAN is back the same rollback takes everything home."""
    result = revert(dead_san, "sync_back")
    assert result["result"] is False
    for words in ("does not answer", "container 101 still runs from the share", "in flight"):
        assert words in result["comment"]
    # Whoever watches is not left without a word while the share is asked.
    asked = [data["note"] for _, data in dead_san.told if data["step"] == "the shares answer"]
    assert asked == [f"conf, private, root: silent, asked {turn} of 3 times" for turn in (1, 2, 3)]
    assert dead_san.running() == [101, 102, 104]
    assert dead_san.calls("umount -i --no-canonicalize -f") == [
        f"umount -i --no-canonicalize -f {dead_san.folder}/etc/sysconfig/vz-scripts"
    ]
    assert "/vz/nfsprivate/" in dead_san.conf(101).read_text()
    assert 'DISABLED="yes"' in dead_san.vz_conf.read_text()
    dead_san.heal()
    good(revert(dead_san, "sync_back"))
    assert dead_san.running() == [101, 102, 104]
    assert local_side(dead_san) == dead_san.before


def test_what_somebody_else_changed_in_vz_conf_stays(moved):
    node = moved("committed")
    with node.vz_conf.open("a") as stream:
        stream.write('VE0CPUUNITS="1000"\n')
    good(revert(node, "discard"))
    text = node.vz_conf.read_text()
    assert text.endswith('VE0CPUUNITS="1000"\n')
    assert f'VE_PRIVATE="{node.folder}/vz/private/$VEID"' in text
    assert "DISABLED" not in text
    assert 'DISK_QUOTA="yes"' in text


# --- a damaged snapshot ---------------------------------------------------------------------------------------------


ARCHIVE, KEPT_VZ_CONF = "etc/sysconfig/vz-scripts.tar.gz", "etc/vz/vz.conf.before-nfs"


def flip(path, at=None):
    """One bit of a file is another one, in its middle or at a place."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 4
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def journal_of(node, change):
    """The journal with another content."""
    edit(node.folder / "var/journal.json", change)


def before_check_sums(node):
    """The snapshot as the version before made it."""
    (node.folder / f"{ARCHIVE}.sha256").unlink()
    journal_of(node, lambda journal: journal["facts"].pop("snapshot"))


DAMAGES = {
    "a flipped bit": (ARCHIVE, flip),
    "a bit that nothing reads": (ARCHIVE, lambda path: flip(path, 5)),
    "a cut": (ARCHIVE, cut),
    "gone": (ARCHIVE, lambda path: path.unlink()),
    "vz.conf": (KEPT_VZ_CONF, lambda path: flip(path, 3)),
    "vz.conf gone": (KEPT_VZ_CONF, lambda path: path.unlink()),
}


@pytest.mark.walk
@pytest.mark.parametrize("damage", DAMAGES)
def test_h34_a_damaged_snapshot_is_refused_before_anything_is_stopped_and_can_be_let_go(moved, damage):
    node = moved("committed")
    name, do = DAMAGES[damage]
    do(node.folder / name)
    before = node.tree()
    for test in (True, False):
        result = revert(node, "discard", test)
        assert result["result"] is False
        for words in (str(node.folder / name), "Nothing was stopped", "ringfree_snapshot.let_go"):
            assert words in result["comment"]
        assert node.tree() == before
    report = node.minion().modules["ringfree_preflight.look"]()
    assert [note for note in report["notes"] if "cannot be used" in note and name in note]
    assert name in node.minion().modules["ringfree_snapshot.let_go"]()
    dry = revert(node, "discard", test=True)
    assert name in dry["changes"]["snapshot"]["old"]
    result = revert(node, "discard")
    good(result)
    told = (
        result["changes"]["the confs are as before"]["new"] + result["changes"]["vz.conf is as before"]["new"]
    )
    assert name in told
    assert local_side(node) == node.before
    assert node.running() == [101, 102, 104] and boots_as_before(node)


@pytest.mark.walk
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("point", ["prepared", "owned by the share", "started"])
def test_h34_a_node_in_flight_goes_home_without_its_snapshot(moved, point, damage):
    """Containers may be down: it is no time to ask anybody."""
    node = moved(point)
    name, do = DAMAGES[damage]
    do(node.folder / name)
    good(revert(node, "discard"))
    assert local_side(node) == node.before
    assert node.running() == [101, 102, 104] and boots_as_before(node)


def test_a_migration_does_not_go_on_without_its_snapshot(moved):
    node = moved("prepared")
    flip(node.folder / ARCHIVE)
    modules = node.minion().modules
    modules["ringfree_deadman.rehearse"] = lambda: "the dead man's switch was rehearsed"
    findings = modules["ringfree_preflight.look"]()["findings"]
    assert [finding for finding in findings if "cannot be used" in finding and ARCHIVE in finding]


def test_confs_that_changed_meanwhile_are_named_when_there_is_no_snapshot(moved):
    node = moved("owned by the share")
    node.conf(101).write_bytes(node.conf(101).read_bytes() + b'DESCRIPTION="new"\n')
    flip(node.folder / ARCHIVE)
    result = revert(node, "discard")
    good(result)
    told = result["changes"]["the confs are as before"]["new"]
    assert "not as they were: " in told and told.endswith("/101.conf")
    assert 'DESCRIPTION="new"' in node.conf(101).read_text()
    assert node.running() == [101, 102, 104]


def test_the_snapshot_of_the_version_before_is_used_and_it_is_said(moved):
    node = moved("committed")
    before_check_sums(node)
    result = revert(node, "discard")
    good(result)
    assert "no check sum of " in result["changes"]["the confs are as before"]["new"]
    assert local_side(node) == node.before


def test_the_damaged_snapshot_of_the_version_before_is_put_together_by_hand(moved, tmp_path):
    """As the refusal says it: nobody knows the paths of before but people."""
    node = moved("committed")
    before_check_sums(node)
    flip(
        node.folder / ARCHIVE, -6
    )  # gzip's check sum: a bit in the middle may happen to mean the same as before
    assert "is damaged" in revert(node, "discard")["comment"]
    snapshot = node.minion().modules
    with pytest.raises(CommandExecutionError, match="does not know what the confs of before said"):
        snapshot["ringfree_snapshot.let_go"]()
    with pytest.raises(CommandExecutionError, match="cannot be accepted"):
        snapshot["ringfree_snapshot.accept"]()
    for ctid in (101, 102, 104):
        text = node.conf(ctid).read_text().replace("/vz/nfsprivate/", "/vz/private/")
        (tmp_path / f"{ctid}.conf").write_text(text.replace("/vz/nfsroot/", "/vz/root/"))
    names = [path.name for path in tmp_path.glob("*.conf")]
    subprocess.run(["tar", "-czf", node.folder / ARCHIVE, *names], cwd=tmp_path, check=True, timeout=60)
    assert snapshot["ringfree_snapshot.accept"]() == ""
    good(revert(node, "discard"))
    assert node.running() == [101, 102, 104]
    assert f" {node.private(101)} " in (node.folder / "proc/mountinfo").read_text()


def test_h34_what_the_journal_says_of_the_snapshot_counts(moved):
    """The list beside an archive vouches for it, also for one of another time that somebody put back."""
    node = moved("committed")
    listed = node.folder / f"{ARCHIVE}.sha256"
    before = listed.read_bytes()
    fault = node.minion().modules["ringfree_snapshot.fault"]
    flip(listed, 5)
    assert fault() == ""
    journal_of(
        node,
        lambda journal: journal["facts"]["snapshot"]["sums"].update({str(node.folder / ARCHIVE): "0" * 64}),
    )
    listed.write_bytes(before)
    assert "SHA-256" in fault()
    # A journal that was written anew knows nothing of it.
    journal_of(node, lambda journal: journal["facts"].pop("snapshot"))
    assert fault() == "" and node.minion().modules["ringfree_snapshot.note"]() == ""
    for damage in (lambda path: flip(path, 5), cut, lambda path: path.write_bytes(b"")):
        damage(listed)
        assert "is damaged" in fault()
        listed.write_bytes(before)
    assert fault() == ""


def test_sha256sum_reads_the_list_of_the_snapshot(fleet):
    fleet.minion().modules["ringfree_snapshot.make"]()
    listed = fleet.folder / f"{ARCHIVE}.sha256"
    subprocess.run(["sha256sum", "--strict", "-c", listed], check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert str(fleet.conf(101)) in listed.read_text()


def test_a_snapshot_that_is_whole_is_not_let_go(moved):
    node = moved("committed")
    with pytest.raises(CommandExecutionError, match="is whole"):
        node.minion().modules["ringfree_snapshot.let_go"]()
