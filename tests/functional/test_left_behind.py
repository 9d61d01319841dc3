"""H43: a container that cannot be brought home, for a reason of its own, keeps no other one, and stays down safely."""

import json
import subprocess
import time

import pytest
from fake_node import FENCE
from highstate import highstate
from migration_steps import apply, until
from odd_trees import immutable
from salt.exceptions import CommandExecutionError

#: What makes the copy back of 101 fail: rules for its rsync, with $dry in a dry run.
OWN_REASONS = {
    "cannot be read": "echo 'rsync: opendir failed: File name too long (36)' >&2; exit 23",
    "cannot be written": "[ $dry ] || { echo 'rename failed: Operation not permitted (1)' >&2; exit 23; }",
    "too many deletions": "[ $dry ] || exit 25",
    "breaks off": "[ $dry ] || exit 12",
    "never the same": "[ ! $dry ] || echo '>f.st...... etc/hostname'",
}


@pytest.fixture
def moved(fleet):
    """The fleet's node, committed to NFS; 101 has written there. vzctl asks the fence before each start."""
    (fleet.folder / "etc/fstab").touch()
    fleet.confs = {path.name: path.read_bytes() for path in (fleet.folder / "etc/vz/conf").iterdir()}
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    (fleet.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    fleet.rule("vzctl.start", FENCE)
    return fleet


@pytest.fixture
def left(moved):
    """left(rule) takes the node back with sync_back, and without 101; the rule is gone afterwards."""

    def go(rule=OWN_REASONS["cannot be written"], data="sync_back"):
        moved.rule("rsync.101", rule)
        result = revert(moved, data)
        moved.rule("rsync.101", "")
        assert result["result"] is False
        return result["comment"]

    moved.go_back = go
    return moved


def revert(node, data=None):
    return apply(node, "ringfree_rollback.rolled_back", {"data": data})


def call(node, function, *args, **kwargs):
    return node.minion().modules[function](*args, **kwargs)


def journal(node):
    return json.loads((node.folder / "var/journal.json").read_text())


def vzctl(node, *words):
    """What anybody types, or the vz service does when the node boots."""
    done = subprocess.run([node.bin / "vzctl", *words], check=False, capture_output=True, text=True)
    return done.returncode, done.stderr


def is_home_but_for_101(node):
    """All others are home; 101 is down, and nothing starts its old copy."""
    assert node.running() == [102, 104]
    assert journal(node)["state"] == "local"
    assert "DISABLED" not in node.vz_conf.read_text()
    assert "nfs" not in (node.folder / "proc/mountinfo").read_text()
    assert {ctid: node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {
        101: "nfs",
        102: "local",
        104: "local",
    }
    assert node.listed() == ["101 node001"]
    for words in (("start", "101"), ("start", "101", "--force")):
        code, said = vzctl(node, *words)
        assert code == 79
        assert "container 101 does not start from local disk any more" in said
    return True


def is_wholly_home(node, voicemail):
    assert node.running() == [101, 102, 104]
    assert node.listed() == []
    assert {node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {"local"}
    assert {path.name: path.read_bytes() for path in (node.folder / "etc/vz/conf").iterdir()} == node.confs
    assert (node.private(101) / "etc/voicemail").exists() is voicemail
    assert f" {node.private(101)} " in (node.folder / "proc/mountinfo").read_text()
    before = node.tree()
    again = revert(node, None)
    assert (again["result"], again["changes"]) == (True, {})
    assert "stays down" not in again["comment"]
    assert node.tree() == before
    return True


@pytest.mark.walk
@pytest.mark.parametrize("reason", OWN_REASONS)
def test_h43_it_stays_down_and_its_command_brings_it_home_later(left, reason):
    comment = left.go_back(OWN_REASONS[reason])
    told = "Container 101 stays down: "
    command = "'salt node001 ringfree_rollback.bring_home 101' goes on"
    assert told in comment and command in comment
    assert is_home_but_for_101(left)
    for said in (
        call(left, "cloudstor.whereabouts"),
        call(left, "cloudstor.status")["left"],
        str(call(left, "ringfree_keep.leftovers")["notes"]),
    ):
        assert told in said and command in said
    assert journal(left)["facts"]["left"].keys() == {"101"}
    said = call(left, "ringfree_rollback.bring_home", 101)
    for words in (
        "It is copied back.",
        "Container 101 runs from local storage.",
        "3 of 3 containers answer.",
    ):
        assert words in said
    assert is_wholly_home(left, voicemail=True)


def test_h43_the_command_of_before_works_and_says_what_it_is_called_now(left):
    left.go_back()
    said = call(left, "ringfree_revert.bring_home", 101)
    assert "is called ringfree_rollback.bring_home now" in said
    assert is_wholly_home(left, voicemail=True)


def test_h43_a_reason_that_lasts_keeps_it_down(left):
    left.go_back()
    left.rule("rsync.101", OWN_REASONS["too many deletions"])
    with pytest.raises(CommandExecutionError, match="more files would be deleted"):
        call(left, "ringfree_rollback.bring_home", 101)
    assert is_home_but_for_101(left)
    left.rule("rsync.101", "")
    call(left, "ringfree_rollback.bring_home", 101)
    assert is_wholly_home(left, voicemail=True)


def test_h43_the_operator_can_let_its_data_go(left):
    """The old copy, where nothing was copied over it yet; what is given up is listed."""
    left.go_back(OWN_REASONS["cannot be read"])
    assert "its local copy is the old one" in call(left, "cloudstor.whereabouts")
    with pytest.raises(CommandExecutionError, match="must be one of discard, sync_back"):
        call(left, "ringfree_rollback.bring_home", 101, data="dicsard")
    said = call(left, "ringfree_rollback.bring_home", 101, data="discard")
    assert "Changed on NFS: 101: 1 (" in said
    assert "voicemail" in next((left.folder / "var/changed").glob("*/101")).read_text()
    assert is_wholly_home(left, voicemail=False)


def test_h43_what_cannot_be_listed_either_can_be_let_go(left):
    left.go_back(OWN_REASONS["cannot be read"])
    left.rule("rsync.101", OWN_REASONS["cannot be read"])
    said = call(left, "ringfree_rollback.bring_home", 101, data="discard")
    assert "is not listed: " in said and "File name too long" in said
    assert is_wholly_home(left, voicemail=False)


def test_h21_half_a_copy_is_let_go_by_nobody(left):
    left.go_back()
    with pytest.raises(CommandExecutionError, match="neither the old one nor the new one"):
        call(left, "ringfree_rollback.bring_home", 101, data="discard")
    assert is_home_but_for_101(left)


@pytest.mark.parametrize("data", [None, "sync_back"])
def test_h43_the_same_rollback_brings_it_home_too(left, data):
    """Also with no word at all, although the pillar says discard: what was begun with sync_back goes on with it."""
    left.go_back()
    assert revert(left, data)["result"] is True
    assert is_wholly_home(left, voicemail=True)


def test_h43_what_was_stopped_on_purpose_meanwhile_is_not_started(left):
    left.go_back()
    vzctl(left, "stop", "104")
    assert revert(left)["result"] is True
    assert left.running() == [101, 102]


def test_h22_a_highstate_keeps_it_down(left):
    left.go_back()
    highstate(left)  # mends what has nothing to do with it
    fence = left.folder / "etc/vz/conf/vps.premount"
    before = left.tree()
    results = highstate(left)
    assert [result["comment"] for result in results if result["result"] is not True] == []
    assert any("Container 101 stays down" in str(result["comment"]) for result in results)
    assert left.tree() == before
    fence.unlink()
    highstate(left)
    assert is_home_but_for_101(left)


def test_h43_no_migration_begins_over_it(left, monkeypatch):
    """It would forget what is known of the container."""
    left.go_back()
    before = left.tree()
    result = apply(left, "cloudstor.begun")
    assert result["result"] is False and "Container 101 stays down" in result["comment"]
    assert left.tree() == before
    minion = left.minion()
    modules, nothing = minion.modules, {"same_directory": "it is only looked at what is left"}
    monkeypatch.setattr(minion.module_of("ringfree_preflight.look"), "probe", lambda share="private": nothing)
    modules["ringfree_deadman.rehearse"] = lambda: ""
    findings = [text for text in modules["ringfree_preflight.look"]()["findings"] if "101" in text]
    assert len(findings) == 1 and findings[0].startswith("Container 101 stays down")


def test_h17_a_journal_that_is_lost_keeps_it_down_all_the_same(left):
    left.go_back()
    (left.folder / "var/journal.json").write_text("{")
    assert call(left, "cloudstor.recover_journal") == "local"
    assert is_home_but_for_101(left)
    assert "stays down: its newest data is on the share only" in call(left, "cloudstor.whereabouts")
    call(left, "ringfree_rollback.bring_home", 101)
    assert left.running() == [101, 102, 104]
    assert (left.private(101) / "etc/voicemail").exists()
    assert left.listed() == []


@pytest.mark.parametrize("away", ["everything", "the store"])
def test_h13_without_its_san_no_container_is_left(moved, away):
    """That is no reason of a container's own: the node stays in flight, guarded, and is tried again."""
    if away == "everything":
        moved.rule("rsync", "echo 'No route to host' >&2; exit 255")
    else:
        moved.rule("rsync", 'case "$*" in *pbx/*) echo "No such file or directory" >&2; exit 23 ;; esac')
    result = revert(moved, "sync_back")
    assert result["result"] is False
    assert moved.running() == []
    assert journal(moved)["state"] == "in_flight"
    assert 'DISABLED="yes"' in moved.vz_conf.read_text()
    assert journal(moved)["facts"].get("left", {}) == {}
    with pytest.raises(CommandExecutionError, match="container 101 is none that a way back left down"):
        call(moved, "ringfree_rollback.bring_home", 101)
    moved.rule("rsync", "")
    assert revert(moved, "sync_back")["result"] is True
    assert is_wholly_home(moved, voicemail=True)


def test_h13_a_san_that_comes_and_goes_leaves_no_container(moved):
    """What was not even tried has no reason of its own, although the SAN answers when it is asked once more."""
    moved.rule("rsync.102", "touch $W/var/away; exit 12")
    lost = "[ ! -e $W/var/away ] || { rm $W/var/away; exit 255; }"
    moved.rule("rsync", f'case "$*" in *--list-only*) {lost} ;; esac')
    assert revert(moved, "sync_back")["result"] is False
    assert 102 not in moved.running()
    assert 104 not in moved.running()
    assert journal(moved)["state"] == "in_flight"
    for rule in ("rsync", "rsync.102"):
        moved.rule(rule, "")
    (moved.folder / "var/away").unlink(missing_ok=True)
    assert revert(moved)["result"] is True
    assert is_wholly_home(moved, voicemail=True)


def test_h43_what_fails_once_is_tried_again_when_the_others_are_done(moved):
    moved.rule("rsync.101", "[ $dry ] || [ -e $W/var/tried ] || { touch $W/var/tried; exit 12; }")
    assert revert(moved, "sync_back")["result"] is True
    (moved.folder / "var/tried").unlink()
    assert is_wholly_home(moved, voicemail=True)


@pytest.mark.parametrize("surprise", [AttributeError, RecursionError, UnicodeEncodeError])
def test_h42_a_surprise_with_one_container_starts_no_old_copy_and_keeps_no_other(left, monkeypatch, surprise):
    module = left.minion().module_of("cloudstor.sync_back")
    differences = module.differences_to_local

    def surprised(ctid, private):
        if ctid == 101:
            raise surprise(
                *{UnicodeEncodeError: ("utf-8", "x", 0, 1, "why")}.get(surprise, ("nobody thought of it",))
            )
        return differences(ctid, private)

    with monkeypatch.context() as patch:
        patch.setattr(module, "differences_to_local", surprised)
        left.minion().modules["cloudstor.differences_to_local"] = surprised
        comment = left.go_back("")
    assert surprise.__name__ in comment or "why" in comment
    left.minion().modules["cloudstor.differences_to_local"] = differences
    assert is_home_but_for_101(left)
    call(left, "ringfree_rollback.bring_home", 101)
    assert is_wholly_home(left, voicemail=True)


def test_h42_a_surprise_before_the_copies_starts_nothing_old(left, monkeypatch):
    module = left.minion().module_of("ringfree_rollback.revert")

    def fail(*arguments):
        raise AttributeError("nobody thought of it")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy_back", fail)
        left.go_back("")
    assert left.running() == []
    assert journal(left)["state"] == "in_flight"
    assert revert(left, "sync_back")["result"] is True
    assert is_wholly_home(left, voicemail=True)


@pytest.mark.parametrize("look", ["_is_dead", "_live_on_share", "_written_to"])
def test_h42_a_surprise_in_a_look_keeps_nothing_from_being_tried(moved, monkeypatch, look):
    def fail(*arguments):
        raise AttributeError("nobody thought of it")

    with monkeypatch.context() as patch:
        patch.setattr(moved.minion().module_of("ringfree_rollback.revert"), look, fail)
        revert(moved, "discard")
    revert(moved, "discard")
    assert moved.running() == [101, 102, 104]
    assert journal(moved)["state"] == "local"


def test_h42_a_journal_that_cannot_be_written_keeps_no_container_down(moved, monkeypatch):
    module = moved.minion().module_of("ringfree_journal.read")
    real = module._keep

    def full(new):
        if "revert" in new["steps"]:
            raise OSError(28, "No space left on device")
        return real(new)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_keep", full)
        result = revert(moved, "discard")
    assert result["result"] is False and "No space left on device" in result["comment"]
    assert moved.running() == [101, 102, 104]
    assert revert(moved, "discard")["result"] is True
    assert is_wholly_home(moved, voicemail=False)


def test_h43_one_that_does_not_start_is_left_and_its_command_starts_it(moved):
    """Its data is home: nothing of it is fenced. A second try is made at once."""
    moved.rule("vzctl.start.102", "echo x >> $W/var/tries; echo 'no init' >&2; exit 8")
    result = revert(moved, "discard")
    assert result["result"] is False
    assert "Container 102 stays down: it does not start from its local copy" in result["comment"]
    assert (moved.folder / "var/tries").read_text() == "x\nx\n"
    (moved.folder / "var/tries").unlink()
    assert moved.running() == [101, 104]
    assert journal(moved)["state"] == "local" and "DISABLED" not in moved.vz_conf.read_text()
    assert moved.listed() == [] and moved.owner(102)["store"] == "local"
    with pytest.raises(CommandExecutionError, match="no init"):
        call(moved, "ringfree_rollback.bring_home", 102)
    moved.rule("vzctl.start.102", "")
    assert "Container 102 runs from local storage" in call(moved, "ringfree_rollback.bring_home", 102)
    (moved.folder / "var/tries").unlink()
    assert is_wholly_home(moved, voicemail=False)


def test_one_that_somebody_started_is_not_left_any_more(moved):
    moved.rule("vzctl.start.102", "exit 8")
    revert(moved, "discard")
    moved.rule("vzctl.start.102", "")
    assert vzctl(moved, "start", "102")[0] == 0
    assert call(moved, "ringfree_owner.left") == {}
    assert "stays down" not in call(moved, "cloudstor.whereabouts")


def test_h21_a_list_that_fails_for_one_container_is_made_for_the_others(moved):
    moved.rule("rsync.101", OWN_REASONS["cannot be read"])
    result = revert(moved, "discard")
    assert result["result"] is False and "File name too long" in result["comment"]
    assert moved.running() == [101, 102, 104]
    assert {ctid: moved.owner(ctid)["store"] for ctid in (101, 102, 104)} == {
        101: "nfs",
        102: "local",
        104: "local",
    }
    assert {path.name for path in (moved.folder / "var/changed").glob("*/*")} == {"102", "104"}
    assert "salt-call ringfree_owner.claim" in result["comment"]


def test_h43_immutable_files_are_named_as_the_cause(left):
    """With real files: what rsync calls 'Operation not permitted' has a name and a cure."""
    hostname = left.private(101) / "etc/hostname"
    (left.folder / "vz/nfsprivate/101/etc/hostname").write_text("another\n")
    with immutable(hostname):
        comment = left.go_back("")
        assert f"immutable or append-only files, such as {hostname}" in comment
        assert "chattr -i -a" in comment
        assert is_home_but_for_101(left)
        with pytest.raises(CommandExecutionError):
            call(left, "ringfree_rollback.bring_home", 101)
    call(left, "ringfree_rollback.bring_home", 101)
    assert hostname.read_text() == "another\n"
    assert is_wholly_home(left, voicemail=True)


@pytest.mark.parametrize("reason", ["cannot be read", "too many deletions"])
def test_h43_the_dead_man_counts_the_rest_as_done(left, reason):
    """It fires once: what is left is no reason to try for ever."""
    left.pillar["rollback"] = {"data": "sync_back", "idle": 1}
    call(left, "ringfree_journal.set_state", "in_flight")
    call(left, "ringfree_deadman.arm", time.time() - 5)
    left.rule("rsync.101", OWN_REASONS[reason])
    assert "is back on local storage" in call(left, "ringfree_rollback.fire")
    left.rule("rsync.101", "")
    assert call(left, "ringfree_deadman.traces") == []
    assert is_home_but_for_101(left)
    noted = journal(left)["facts"]["deadman"]
    assert noted["ok"] is True and "Container 101 stays down" in str(noted["not_done"])
    assert call(left, "ringfree_rollback.fire") == "nothing to do"
    call(left, "ringfree_rollback.bring_home", 101)
    assert is_wholly_home(left, voicemail=True)


def test_h12_nothing_is_brought_home_beside_another_way_back_or_while_it_runs(left):
    left.go_back()
    path = left.folder / "proc/running/101"
    path.touch()
    with pytest.raises(CommandExecutionError, match="container 101 runs"):
        call(left, "ringfree_rollback.bring_home", 101)
    path.unlink()
    left.minion().modules["ringfree_run.firing"] = lambda: {4711: "x"}
    with pytest.raises(CommandExecutionError, match="dead man's switch brings this node back just now"):
        call(left, "ringfree_rollback.bring_home", 101)
    assert is_home_but_for_101(left)


def test_h21_a_share_that_is_silent_is_told_by_the_same_rollback_later(left):
    left.go_back(OWN_REASONS["cannot be read"])
    left.rule("rsync", "exit 255")
    left.rule("ssh", "exit 255")
    said = call(left, "ringfree_rollback.bring_home", 101, data="discard")
    assert "The share could not be told" in said
    assert left.running() == [101, 102, 104] and left.listed() == []
    left.rule("rsync", "")
    left.rule("ssh", "")
    assert left.owner(101)["store"] == "nfs"
    assert revert(left)["result"] is True
    assert is_wholly_home(left, voicemail=False)
