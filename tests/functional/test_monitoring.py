"""Monitoring: silent for the time of a migration, back afterwards, and back by itself if nobody brings it back."""

import json
import time

import pytest
from salt.exceptions import CommandExecutionError

SERVICES = ["nagios", "shinken"]


@pytest.fixture(params=[True, False], ids=["systemd", "at"])
def monitor(request, fake_node, monkeypatch):
    """A monitoring host: with systemd, or with at(1)."""
    monkeypatch.setattr("salt.utils.systemd.booted", lambda context: request.param)
    fake_node.systemd = request.param
    fake_node.services = {"nagios": True, "shinken": False}
    fake_node.rule("at", "cat >> $W/var/at; echo 'job 7 at Thu Nov 26 02:10:00 2026' >&2")
    return fake_node


def arming(monitor):
    """The calls that arm an alarm."""
    return monitor.calls("systemd-run") if monitor.systemd else monitor.calls("at ")


def disarming(monitor):
    """The calls that call an alarm off."""
    return monitor.calls("systemctl stop") if monitor.systemd else monitor.calls("atrm")


def record(monitor):
    """What is kept about the silence."""
    return json.loads((monitor.folder / "var/monitoring.json").read_text())


def silent(monitor, test=False, expiry=600):
    return monitor.minion(test).states["ringfree_monitoring.silent"]("x", services=SERVICES, expiry=expiry)


def restored(monitor, test=False):
    return monitor.minion(test).states["ringfree_monitoring.restored"]("x")


def test_silence_dry_live_and_again(monitor):
    before = monitor.tree()
    dry = silent(monitor, test=True)
    assert (dry["result"], dry["changes"]) == (None, {"nagios": {"old": "running", "new": "stopped"}})
    assert monitor.services == {"nagios": True, "shinken": False}
    assert monitor.tree() == before
    assert arming(monitor) == []
    live = silent(monitor)
    assert (live["result"], live["changes"]) == (True, dry["changes"])
    assert "comes back by itself after 600 s" in live["comment"]
    assert monitor.services == {"nagios": False, "shinken": False}
    assert 590 < record(monitor)["expires"] - time.time() <= 600
    after = monitor.tree()
    for test in (True, False):
        again = silent(monitor, test)
        assert (again["result"], again["changes"]) == (True, {})
    assert monitor.tree() == after
    assert len(arming(monitor)) == 1


def test_only_what_ran_before_comes_back(monitor):
    silent(monitor)
    before = monitor.tree()
    dry = restored(monitor, test=True)
    assert (dry["result"], dry["changes"]) == (None, {"nagios": {"old": "stopped", "new": "running"}})
    assert monitor.tree() == before
    assert monitor.services["nagios"] is False
    live = restored(monitor)
    assert (live["result"], live["changes"]) == (True, dry["changes"])
    assert monitor.services == {"nagios": True, "shinken": False}
    assert len(disarming(monitor)) == 1
    assert not (monitor.folder / "var/monitoring.json").exists()
    for test in (True, False):
        again = restored(monitor, test)
        assert (again["result"], again["changes"]) == (True, {})


def test_what_the_alarm_brought_back_is_not_announced_again(monitor):
    """The dry run says what the live run does."""
    monitor.services["shinken"] = True
    silent(monitor)
    monitor.services["nagios"] = True
    dry = restored(monitor, test=True)
    live = restored(monitor)
    assert dry["changes"] == live["changes"] == {"shinken": {"old": "stopped", "new": "running"}}


def test_h15_the_alarm_names_what_ran_and_needs_no_master(monitor):
    silent(monitor, expiry=1200)
    (call,) = arming(monitor)
    if monitor.systemd:
        assert "--on-active=1200" in call
        assert call.endswith("systemctl start nagios")
    else:
        assert call == "at now + 20 minutes"
        assert (monitor.folder / "var/at").read_text() == "service nagios start\n"


def test_h15_the_alarm_is_armed_before_anything_stops(monitor):
    seen = {}
    node = monitor.minion()

    def stop(name):
        seen[name] = (len(arming(monitor)), record(monitor)["on"])
        monitor.services[name] = False

    node.modules["service.stop"] = stop
    node.states["ringfree_monitoring.silent"]("x", services=SERVICES)
    assert seen == {"nagios": (1, ["nagios"])}


@pytest.mark.parametrize("how", ["fails", "is not installed", "names no job"])
def test_h15_without_an_alarm_nothing_is_stopped(monitor, how):
    program = "systemd-run" if monitor.systemd else "at"
    if how == "is not installed":
        monitor.rule(program, "exit 127")
    elif how == "fails" or monitor.systemd:
        monitor.rule(program, "echo 'no bus' >&2; exit 1")
    else:
        monitor.rule(program, "echo 'can run atd?' >&2; exit 0")
    result = silent(monitor)
    assert result["result"] is False
    assert "monitoring would not come back by itself, so it was left on" in result["comment"]
    assert program in result["comment"]
    assert monitor.services == {"nagios": True, "shinken": False}
    assert not (monitor.folder / "var/monitoring.json").exists()


def test_a_second_silence_keeps_what_the_first_one_knew(monitor):
    silent(monitor)
    first = record(monitor)
    monitor.services["shinken"] = True  # somebody starts it by hand
    assert silent(monitor)["changes"] == {"shinken": {"old": "running", "new": "stopped"}}
    second = record(monitor)
    assert second["on"] == ["nagios", "shinken"]
    assert second["since"] == first["since"]
    assert len(arming(monitor)) == 2
    assert len(disarming(monitor)) == 1
    assert first["alarm"] in disarming(monitor)[0]
    restored(monitor)
    assert monitor.services == {"nagios": True, "shinken": True}


def test_h15_a_second_silence_that_cannot_be_armed_leaves_the_first_alarm(monitor):
    silent(monitor)
    first = record(monitor)
    monitor.services["shinken"] = True
    monitor.rule("systemd-run" if monitor.systemd else "at", "exit 1")
    assert silent(monitor)["result"] is False
    assert disarming(monitor) == []
    assert record(monitor) == first
    assert monitor.services["shinken"] is True


def test_a_service_that_does_not_stop_is_named_and_still_remembered(monitor):
    node = monitor.minion()
    node.modules["service.stop"] = lambda name: True
    result = node.states["ringfree_monitoring.silent"]("x", services=SERVICES)
    assert result["result"] is False
    assert "nagios still runs after it was stopped" in result["comment"]
    assert record(monitor)["on"] == ["nagios"]


def test_h15_a_service_that_does_not_come_back_keeps_record_and_alarm(monitor):
    silent(monitor)
    node = monitor.minion()
    node.modules["service.start"] = lambda name: True
    result = restored(monitor)
    assert result["result"] is False
    assert "nagios does not start: look with 'service nagios status' on node001" in result["comment"]
    assert record(monitor)["on"] == ["nagios"]
    assert disarming(monitor) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"on": "nagios"}'])
def test_a_damaged_record_says_what_to_do(monitor, text):
    path = monitor.folder / "var/monitoring.json"
    path.write_text(text)
    with pytest.raises(CommandExecutionError, match="is damaged"):
        monitor.minion().modules["ringfree_monitoring.record"]()
    for test in (True, False):
        result = restored(monitor, test)
        assert result["result"] is False
        assert "Start the monitoring by hand, then remove the file" in result["comment"]
    assert silent(monitor)["result"] is False
    assert monitor.services["nagios"] is True
    assert path.read_text() == text


def test_nothing_runs_so_nothing_is_silenced(monitor):
    monitor.services["nagios"] = False
    for test in (True, False):
        result = silent(monitor, test)
        assert (result["result"], result["changes"]) == (True, {})
    assert arming(monitor) == []
    assert not (monitor.folder / "var/monitoring.json").exists()
