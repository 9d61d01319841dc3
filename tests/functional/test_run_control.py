"""What a run may still do on a node: abort, deadline, confirmation, and who works on the node."""

import fcntl
import json
import os
import subprocess
import time

import pytest
import ringfree_command
from left_behind import is_alive
from left_behind import until as wait_for
from migration_steps import apply, until
from salt.exceptions import CommandExecutionError


@pytest.fixture
def run(fleet):
    """run(function, ...) calls ringfree_run, or cloudstor, on the fleet's node."""

    def call(function, *args):
        module = "cloudstor" if function in ("expect", "confirm", "confirmed") else "ringfree_run"
        return fleet.minion().modules[f"{module}.{function}"](*args)

    return call


@pytest.fixture
def other():
    """Another process."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def hold(fleet, pid):
    """Another process has the node for the way back."""
    text = {"what": "the way back", "pid": pid, "born": ringfree_command.born(pid), "since": 1795350000.0}
    (fleet.folder / "run").mkdir(exist_ok=True)
    (fleet.folder / "run/holder.json").write_text(json.dumps(text))


def test_what_a_run_is_told_when_it_begins(fleet, run):
    assert run("expect") == {"state": "local", "containers": 3, "confirmed": False}


def test_an_aborted_run_begins_no_further_step(fleet, run):
    stopped = until(fleet, "vz.stopped")
    assert run("abort", "alice").startswith("aborted by alice at ")
    ret = stopped()
    assert ret["result"] is False
    assert "the run was aborted by alice" in ret["comment"] and "stop was not begun" in ret["comment"]
    assert fleet.running() == [101, 102, 104]
    assert fleet.calls("vzctl stop") == []
    run("expect")
    assert stopped()["result"] is True


def test_an_abort_ends_the_presync_between_two_passes(fleet, run):
    run("abort", "alice")
    ret = apply(fleet, "cloudstor.presynced")
    assert ret["result"] is False and "presync was not begun" in ret["comment"]
    assert [call for call in fleet.calls("rsync -a") if "vz/private" in call] == []


def test_the_way_back_begins_whatever_was_said(fleet, run):
    until(fleet, "vz.running")
    run("expect", time.time() - 1)
    run("abort", "alice")
    (fleet.folder / "etc/fstab").touch()
    ret = apply(fleet, "ringfree_rollback.rolled_back")
    assert ret["result"] is True, ret["comment"]
    assert fleet.running() == [101, 102, 104]


def test_h20_a_deadline_that_passes_in_flight_ends_the_step(fleet, run):
    stopped = until(fleet, "vz.stopped")
    run("expect", time.time() - 1)
    ret = stopped()
    assert ret["result"] is False
    assert "the deadline" in ret["comment"] and "has passed; stop was not begun" in ret["comment"]
    run("expect", time.time() + 3600)
    assert stopped()["result"] is True


@pytest.mark.parametrize(("left", "wanted"), [(1000, 1300), (100_000, 14400)])
def test_h17_the_dead_man_keeps_the_deadline_of_the_run(fleet, run, left, wanted):
    """When the master dies the node is back soon after the time that was promised for the night."""
    armed = until(fleet, "ringfree_deadman.armed", seconds=14400)
    now = time.time()
    run("expect", now + left)
    assert armed()["result"] is True
    kept = fleet.minion().modules["ringfree_deadman.armed"]()
    assert now + wanted <= kept["deadline"] <= time.time() + wanted


def test_h20_a_node_on_which_all_answer_is_not_committed_late(fleet, run):
    """Moved by then, or back: a second run without a deadline, or the way back."""
    committed = until(fleet, "cloudstor.committed")
    run("expect", time.time() - 1)
    ret = committed()
    assert ret["result"] is False and "has passed; commit was not begun" in ret["comment"]
    assert fleet.minion().modules["ringfree_journal.state"]() == "in_flight"
    run("expect")
    assert committed()["result"] is True


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data.replace(b"alice", b"bob")])
def test_orders_that_are_damaged_stop_the_next_step_and_not_the_way_back(fleet, run, damage):
    """They may have said that the run was aborted."""
    orders = fleet.folder / "run/orders.json"
    run("expect", None)
    run("abort", "alice")
    orders.write_bytes(damage(orders.read_bytes()))
    for function, args in (("leave", ["stop"]), ("until", [])):
        with pytest.raises(CommandExecutionError, match=r"orders.json is damaged.*'rm .*orders.json'"):
            run(function, *args)
    assert run("leave", "revert") is True
    run("abort", "carol")
    with pytest.raises(CommandExecutionError, match="aborted by carol"):
        run("leave", "stop")
    orders.write_bytes(b"")
    assert run("expect", None)["state"] == "local"
    assert run("leave", "stop") is True


# --- confirmation -----------------------------------------------------------------------------------------------------


def test_with_manual_confirmation_nothing_is_committed_unasked(fleet, run):
    committed = until(fleet, "cloudstor.committed")
    fleet.pillar["confirm"] = "manual"
    ret = apply(fleet, "cloudstor.committed")
    assert ret["result"] is False and "nobody has said 'salt-run ringfree.commit node001'" in ret["comment"]
    assert run("confirm", "alice") == "node001 is confirmed by alice"
    assert run("confirmed") is True
    assert apply(fleet, "cloudstor.committed")["result"] is True
    assert "answer" in run("confirm", "alice"), "a second word is harmless"
    assert committed()["changes"] == {}


def test_what_does_not_answer_is_not_confirmed(fleet, run):
    until(fleet, "cloudstor.committed")
    fleet.rule("vzctl.exec2.102", "exit 1")
    with pytest.raises(CommandExecutionError, match=r"nothing was confirmed: .*container 102: asterisk"):
        run("confirm", "alice")
    assert run("confirmed") is False


def test_without_a_migration_there_is_nothing_to_confirm(run):
    with pytest.raises(CommandExecutionError, match="no migration is under way"):
        run("confirm", "alice")


def test_the_next_migration_needs_a_word_of_its_own(fleet, run):
    until(fleet, "cloudstor.committed")
    run("confirm", "alice")
    (fleet.folder / "etc/fstab").touch()
    apply(fleet, "ringfree_rollback.rolled_back")
    fleet.minion().modules["cloudstor.begin"]()
    assert run("confirmed") is False


# --- who works on the node --------------------------------------------------------------------------------------------


def test_h18_two_ways_back_do_not_work_beside_each_other(fleet, run, other):
    until(fleet, "vz.running")
    hold(fleet, other.pid)
    before = fleet.tree()
    ret = apply(fleet, "ringfree_rollback.rolled_back")
    assert ret["result"] is False
    for words in (f"process {other.pid}", "'the way back' works on this node since", "Nothing was changed"):
        assert words in ret["comment"]
    assert fleet.tree() == before


def test_h16_no_step_of_a_migration_begins_beside_the_way_back(fleet, run, other):
    stopped = until(fleet, "vz.stopped")
    hold(fleet, other.pid)
    ret = stopped()
    assert ret["result"] is False and f"process {other.pid}" in ret["comment"]
    assert fleet.running() == [101, 102, 104]


def test_h18_a_holder_that_is_gone_holds_nothing(fleet, run, other):
    hold(fleet, other.pid)
    assert run("holder")["pid"] == other.pid
    other.kill()
    other.wait()
    assert run("holder") is None
    run("hold", "the way back")
    assert run("holder")["pid"] == os.getpid()
    run("release")
    assert run("holder") is None
    assert not (fleet.folder / "run/holder.json").exists()


# --- what an earlier job left behind ----------------------------------------------------------------------------------


def test_h16_copies_that_were_left_behind_are_ended_and_vzctl_is_not(fleet, left, decoy):
    copy = left("rsync", "-aHAXSx", "/vz/private/101/", "10.77.0.21:/rf-images/pbx/101/")
    in_python = left.bin / "in-python/vzctl"
    in_python.parent.mkdir()
    in_python.write_text(f"open({str(left.bin / 'nobody-writes')!r}).read()\n")
    calls = [left("vzctl", "stop", "101"), left("python3", str(in_python), "start", "102")]
    strangers = [decoy("rsync", "-a", "/home", "backup:"), decoy("cat", "/etc/rsyncd.conf")]
    busy = fleet.minion().modules["ringfree_run.busy"]()
    assert set(busy) == {copy, *calls}
    assert busy[copy].startswith("rsync -aHAXSx /vz/private/101/")
    fleet.minion().modules["ringfree_run.end_busy"]()
    wait_for(lambda: not is_alive(copy))
    assert all(map(is_alive, [*calls, *strangers]))


def test_h18_who_holds_the_way_back_up_is_named(fleet, run, monkeypatch):
    """Somebody who looks at the lock and does not end, such as a process that was stopped there."""
    names = fleet.minion().utils["ringfree_process.take"].__globals__
    monkeypatch.setitem(names, "PATIENCE", 0.1)
    (fleet.folder / "run").mkdir(exist_ok=True)
    with (fleet.folder / "run/holder.json.guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(CommandExecutionError, match=r"guard is held by .*Nothing was changed"):
            run("hold", "the way back")
    assert run("hold", "the way back")["pid"] == os.getpid()


def test_the_folder_of_locks_and_orders_is_closed(fleet, run):
    (fleet.folder / "run").mkdir(mode=0o755)
    run("hold", "the way back")
    run("expect")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (fleet.folder / "run").iterdir()}
    assert (fleet.folder / "run").stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600} and {"holder.json", "holder.json.guard", "orders.json"} <= set(
        modes
    )
