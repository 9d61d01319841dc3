"""How containers start: in order, confirmed, paced; held back by the load and by the share that they start from."""

import pytest
from salt.exceptions import CommandExecutionError


@pytest.fixture
def call(fleet):
    """`call("ringfree_start.load")` calls a function on the fleet's node, whose load is always normal."""
    fleet.pillar["start"] = {"load_per_cpu": 1000, "answer": 1, "workers": 2, "pace": 1}
    fleet.pillar["containers"]["priority"] = ["revnat"]
    return lambda function, *args, **kwargs: fleet.minion().modules[function](*args, **kwargs)


@pytest.fixture
def down(fleet, call):
    """The fleet with its containers down."""
    call("vz.stop", [101, 102, 104])
    return fleet


def starts(fleet):
    """The containers that vzctl was told to start, in order."""
    return [int(line.split()[2]) for line in fleet.calls("vzctl start")]


# --- in order -------------------------------------------------------------------------------------------------------


def test_h26_priority_first_and_each_step_is_told(down, call):
    steps = []
    done = call("ringfree_start.in_order", [104, 101, 102], on_step=lambda *step: steps.append(step))
    assert done == {"faults": [], "silent": {}}
    assert starts(down)[0] == 104 and down.running() == [101, 102, 104]
    assert [step[:2] for step in steps[:3]] == [(104, "intent"), (104, "done"), (104, "verified")]
    assert steps[2][2]  # what its services said
    assert sorted(step[:2] for step in steps[3:]) == [
        (101, "done"), (101, "intent"), (102, "done"), (102, "intent"),
    ]  # fmt: skip


@pytest.mark.parametrize("go_on", [False, True])
def test_a_container_that_does_not_start(down, call, go_on):
    down.rule("vzctl.start.104", "exit 7")
    if go_on:
        done = call("ringfree_start.in_order", [104, 101, 102], go_on=True)
        assert "Container 104 does not run" in done["faults"][0] and done["silent"] == {}
        assert down.running() == [101, 102]
    else:
        with pytest.raises(CommandExecutionError, match="Container 104 does not run"):
            call("ringfree_start.in_order", [104, 101, 102])
        assert down.running() == []


@pytest.mark.parametrize("go_on", [False, True])
def test_a_container_of_priority_that_does_not_answer(down, call, go_on):
    down.rule("vzctl.exec2.104", "exit 1")
    if go_on:
        done = call("ringfree_start.in_order", [104, 101, 102], go_on=True)
        assert done["faults"] == [] and "container 104" in done["silent"][104]
        assert down.running() == [101, 102, 104]
    else:
        with pytest.raises(CommandExecutionError, match="container 104"):
            call("ringfree_start.in_order", [104, 101, 102])
        assert down.running() == [104]


def test_the_guard_holds_when_nobody_says_force(down, call):
    call("vz.configure", {"DISABLED": "yes"})
    with pytest.raises(CommandExecutionError, match="Container 104 does not run"):
        call("ringfree_start.in_order", [104], force=False)
    call("ringfree_start.in_order", [104])
    assert down.running() == [104]


# --- load and pace --------------------------------------------------------------------------------------------------


def test_what_load_is_normal(fleet, call, monkeypatch):
    fleet.pillar["start"] = {"load_per_cpu": 2}
    monkeypatch.setattr("os.getloadavg", lambda: (3.5, 0, 0))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert call("ringfree_start.load") == {"now": 3.5, "normal": 8.0}
    call("ringfree_journal.remember", "load", 20)
    assert call("ringfree_start.load") == {"now": 3.5, "normal": 30.0}


def test_a_start_is_held_back_while_the_load_is_high(fleet, call, monkeypatch):
    fleet.pillar["start"] = {"load_per_cpu": 1, "pace": 10}
    loads = [1e6, 1e6, 0.0]
    slept = []
    monkeypatch.setattr("os.getloadavg", lambda: (loads.pop(0), 0, 0))
    monkeypatch.setattr("time.sleep", slept.append)
    call("ringfree_start.pace", [101])
    assert (loads, len(slept)) == ([], 2)


def test_h13_a_share_that_does_not_answer_holds_starts_back_only_so_long(fleet, call, fake_bin):
    call("vz.configure", {"VE_PRIVATE": f"{fleet.folder}/vz/nfsprivate/$VEID"}, 101)
    fake_bin("stat", "exit 1")
    assert 1 <= call("ringfree_start.pace", [101]) < 5
    fake_bin("stat", "exit 0")
    assert call("ringfree_start.pace", [101]) < 1


def test_what_starts_from_local_storage_does_not_wait_for_the_share(fleet, call, fake_bin):
    fake_bin("stat", f"echo asked >> {fleet.folder}/asked; exit 1")
    assert call("ringfree_start.pace", [101, 102]) < 1
    assert not (fleet.folder / "asked").exists()


def test_waiting_for_a_normal_load(fleet, call, monkeypatch):
    fleet.pillar["start"] = {"load_per_cpu": 1, "load_wait": 60}
    loads = [1e6, 0.0]
    monkeypatch.setattr("os.getloadavg", lambda: (loads.pop(0), 0, 0))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert call("ringfree_start.wait_load")["now"] == 0.0
