"""The dead man's switch: armed, disarmed, rehearsed, and what it does when its deadline has passed."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ringfree_command
from left_behind import is_alive
from left_behind import until as wait_for
from migration_steps import apply, until
from minion_without_daemons import PROJECT
from salt.exceptions import CommandExecutionError

LATER = 4 * 3600


#: A pillar that waits as short as it may.
SHORT = {
    "rollback": {"idle": 1},
    "stop": {"deadline": 10},
    "start": {"deadline": 10, "answer": 1, "pace": 0, "load_wait": 0, "load_per_cpu": 1000},
}


@pytest.fixture
def deadman(fleet):
    """`deadman("arm", deadline)` calls a function of the module on the fleet's node; "fire" what it starts."""

    def call(function, *args, **kwargs):
        module = "ringfree_rollback" if function == "fire" else "ringfree_deadman"
        return fleet.minion().modules[f"{module}.{function}"](*args, **kwargs)

    return call


@pytest.fixture(params=["systemd", "cron"])
def scheduler(request, fleet):
    """What starts the dead man's switch on the fleet's node."""
    fleet.systemd = request.param == "systemd"
    fleet.services["crond"] = not fleet.systemd
    return request.param


@pytest.fixture
def in_flight(fleet):
    """in_flight(state) brings the fleet's node to just before a state."""

    def go(state="ringfree_start.load_normal", **arguments):
        until(fleet, state, **arguments)
        return fleet

    return go


@pytest.fixture
def due(in_flight, deadman):
    """A node whose containers run from the share, with a deadline that has passed."""
    node = in_flight()
    deadman("arm", time.time() - 5)
    return node


def traces(node):
    """The files of a dead man's switch, as far as they are there."""
    places = (
        "var/deadman*",
        "etc/systemd/system/ringfree*",
        "run/systemd/system/*",
        "etc/cron.d/*",
        "proc/units/*ringfree*",
    )
    return sorted(str(path.relative_to(node.folder)) for place in places for path in node.folder.glob(place))


def journal(node):
    return json.loads((node.folder / "var/journal.json").read_text())


def is_local(node):
    """All containers of the manifest run, and none of them, and no mount, is on NFS."""
    return (
        node.running() == [101, 102, 104]
        and "nfs" not in (node.folder / "proc/mountinfo").read_text()
        and journal(node)["state"] == "local"
    )


def fires_beside(node):
    """Another process that fires; returns its id."""
    pid = os.getppid()
    (node.folder / "run").mkdir(exist_ok=True)
    text = {"what": "ringfree_rollback.fire", "pid": pid, "born": ringfree_command.born(pid), "since": 1.0}
    (node.folder / "run/deadman").write_text(json.dumps(text))
    return pid


# --- arming -----------------------------------------------------------------------------------------------------------


def test_armed_and_disarmed(fleet, deadman, scheduler):
    assert deadman("armed") is None
    assert deadman("disarm") is False
    deadline = time.time() + LATER
    kept = deadman("arm", deadline)
    assert (kept["deadline"], kept["scheduler"], kept["fault"]) == (deadline, scheduler, None)
    assert deadman("armed") == kept
    if scheduler == "systemd":
        assert "systemctl enable ringfree-deadman.timer" in fleet.calls()
        assert not list((fleet.folder / "etc/cron.d").iterdir())
    else:
        assert fleet.calls("systemctl") == []
        assert stat.S_IMODE((fleet.folder / "etc/cron.d/ringfree-deadman").stat().st_mode) == 0o644
    assert deadman("disarm") is True
    assert traces(fleet) == []
    assert deadman("armed") is None
    assert deadman("disarm") is False


def test_the_folder_holds_all_that_is_ours_and_nobody_else_reads_it(fleet, deadman):
    deadman("arm", time.time() + LATER)
    folder = fleet.folder / "var/deadman"
    for kind in ("modules", "utils"):
        ours = {path.name for path in (PROJECT / f"_{kind}").glob("*.py")}
        kept = {path.name: path.read_bytes() for path in (folder / "extmods" / kind).iterdir()}
        assert set(kept) == ours
        assert all(kept[name] == (PROJECT / f"_{kind}" / name).read_bytes() for name in ours)
    for path in [folder, *folder.rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    script = (folder / "fire").read_text()
    assert "salt-call --local" in script


def test_arming_again_replaces_the_deadline_and_calls_nothing_off(fleet, deadman, scheduler):
    deadman("arm", time.time() + 60)
    before = len(fleet.calls())
    deadline = time.time() + LATER
    assert deadman("arm", deadline)["deadline"] == deadline
    assert f"-ge {int(deadline)} ]" in (fleet.folder / "var/deadman/fire").read_text()
    again = fleet.calls()[before:]
    assert not [call for call in again if " stop " in call or " disable " in call]


@pytest.mark.parametrize("verb", ["daemon-reload", "enable", "start", "is-enabled", "is-active"])
def test_a_trigger_that_does_not_stand_is_a_failure(fleet, deadman, verb):
    fleet.rule(f"systemctl.{verb}", "echo 'Failed to connect to bus' >&2; exit 4")
    with pytest.raises(CommandExecutionError) as error:
        deadman("arm", time.time() + LATER)
    for words in (f"systemctl {verb}", "exit code 4", "Failed to connect to bus", "state.orch migrate"):
        assert words in str(error.value)


def test_without_systemd_and_cron_it_is_not_armed(fleet, deadman):
    fleet.systemd = False
    with pytest.raises(CommandExecutionError, match="no cron daemon runs"):
        deadman("arm", time.time() + LATER)


def test_without_salt_call_it_is_not_armed(fleet, deadman, monkeypatch):
    monkeypatch.setattr("salt.utils.path.which", lambda name: None)
    with pytest.raises(CommandExecutionError, match="salt-call is not installed"):
        deadman("arm", time.time() + LATER)
    assert traces(fleet) == []


def test_a_trigger_that_somebody_took_away_shows(fleet, deadman, scheduler):
    deadman("arm", time.time() + LATER)
    if scheduler == "systemd":
        subprocess.run([fleet.bin / "systemctl", "disable", "ringfree-deadman.timer"], check=True)
    else:
        (fleet.folder / "etc/cron.d/ringfree-deadman").unlink()
    assert deadman("armed")["fault"]


def test_a_timer_that_does_not_stop_is_not_called_disarmed(fleet, deadman):
    deadman("arm", time.time() + LATER)
    fleet.rule("systemctl.stop", "exit 1")
    with pytest.raises(CommandExecutionError, match="is still active"):
        deadman("disarm")


def test_a_link_that_systemctl_left_is_taken_away(fleet, deadman):
    deadman("arm", time.time() + LATER)
    wants = fleet.folder / "etc/systemd/system/timers.target.wants"
    wants.mkdir()
    (wants / "ringfree-deadman.timer").symlink_to("../ringfree-deadman.timer")
    deadman("disarm")
    assert list(wants.iterdir()) == []


@pytest.mark.walk
@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1, "deadline": 17'])
def test_a_damaged_record_is_a_finding_and_never_not_armed(in_flight, deadman, text):
    node = in_flight("vz.stopped")
    (node.folder / "var/deadman/record.json").write_text(text)
    for call in (lambda: deadman("armed"), lambda: deadman("fire")):
        with pytest.raises(CommandExecutionError, match=r"record\.json is damaged.*ringfree_deadman\.disarm"):
            call()
    modules = node.minion().modules
    assert "record.json is damaged" in modules["cloudstor.whereabouts"]()
    assert any(
        "record.json is damaged" in finding for finding in modules["ringfree_preflight.look"]()["findings"]
    )
    for test in (True, False):
        assert apply(node, "ringfree_deadman.armed", {"seconds": 60}, test)["result"] is False
    assert deadman("disarm") is True
    assert apply(node, "ringfree_deadman.armed", {"seconds": 60})["result"] is True


# --- the state --------------------------------------------------------------------------------------------------------


def test_it_is_armed_before_the_first_stop(in_flight, deadman):
    node = in_flight("vz.stopped")
    assert not node.calls("vzctl stop")
    armed = deadman("armed")
    assert round(armed["deadline"] - armed["since"]) == LATER


def test_a_migration_that_goes_on_keeps_its_deadline(in_flight, deadman):
    node = in_flight("vz.stopped")
    kept = deadman("armed")
    for test in (True, False):
        again = apply(node, "ringfree_deadman.armed", {"seconds": LATER}, test)
        assert (again["result"], again["changes"]) == (True, {})
    assert deadman("armed") == kept


@pytest.mark.parametrize("left", [-100, 20])
def test_a_deadline_that_has_passed_or_is_about_to_is_set_anew(in_flight, deadman, left):
    node = in_flight("vz.stopped")
    deadman("arm", time.time() + left)
    before = node.tree()
    dry = apply(node, "ringfree_deadman.armed", {"seconds": LATER}, test=True)
    assert node.tree() == before
    live = apply(node, "ringfree_deadman.armed", {"seconds": LATER})
    assert (dry["result"], live["result"], dry["changes"]) == (None, True, live["changes"])
    assert deadman("armed")["deadline"] - time.time() > LATER - 60


def test_a_timer_that_is_gone_is_armed_again(in_flight, deadman):
    node = in_flight("vz.stopped")
    (node.folder / "proc/units/active.ringfree-deadman.timer").unlink()
    assert "will not" in node.minion().modules["cloudstor.whereabouts"]()
    assert apply(node, "ringfree_deadman.armed", {"seconds": LATER})["changes"]
    assert deadman("armed")["fault"] is None


def test_nothing_stops_when_it_cannot_be_armed(in_flight):
    node = in_flight("ringfree_deadman.armed")
    node.rule("systemctl.enable", "echo 'Read-only file system' >&2; exit 1")
    result = apply(node, "ringfree_deadman.armed", {"seconds": LATER})
    assert result["result"] is False
    for words in ("is not armed", "Read-only file system", "in flight", "migrate' continues"):
        assert words in result["comment"]


def test_the_commit_disarms_last_of_all(in_flight):
    """Whatever is killed before the journal says nfs, the dead man's switch is still there."""
    node = in_flight("cloudstor.committed")
    seen = []
    node.rule("systemctl.disable", f"cp {node.folder}/var/journal.json {node.folder}/var/then")
    assert apply(node, "cloudstor.committed")["result"] is True
    seen = json.loads((node.folder / "var/then").read_text())
    assert seen["state"] == "nfs"
    assert traces(node) == []


def test_a_dead_man_that_a_killed_commit_left_is_disarmed(in_flight, deadman):
    node = in_flight("ringfree_nfs.variables", mounted=True)
    deadman("arm", time.time() + LATER)
    dry = apply(node, "cloudstor.committed", test=True)
    live = apply(node, "cloudstor.committed")
    assert (dry["result"], live["result"], dry["changes"]) == (None, True, live["changes"])
    assert traces(node) == []


@pytest.mark.parametrize(
    "state", ["cloudstor.committed", "ringfree_deadman.armed", "ringfree_rollback.rolled_back"]
)
def test_h16_nothing_works_beside_a_dead_man_that_fires(in_flight, state):
    node = in_flight("cloudstor.committed")
    beside = fires_beside(node)
    if state == "ringfree_deadman.armed":
        node.minion().modules["ringfree_deadman.disarm"]()
    result = apply(node, state, {"seconds": 60} if state == "ringfree_deadman.armed" else {})
    assert result["result"] is False
    assert "the dead man's switch" in result["comment"]
    assert journal(node)["state"] == "in_flight"
    assert node.minion().modules["ringfree_run.busy"]().keys() >= {beside}
    assert any(
        "just now" in finding for finding in node.minion().modules["ringfree_preflight.look"]()["findings"]
    )


def test_what_fires_is_told_from_what_does_not(fleet, deadman, decoy):
    """Neither a rehearsal, nor itself, nor one that was killed, nor whoever only has its words."""
    for words in (
        ("salt-call", "--local", "ringfree_rollback.fire"),
        ("grep", "-r", "ringfree_rollback.fire", "/etc"),
        ("salt-call --local ringfree_rollback.fire a-title",),
    ):
        decoy(*words)
    assert fleet.minion().modules["ringfree_run.firing"]() == {}
    beside = fires_beside(fleet)
    assert fleet.minion().modules["ringfree_run.firing"]() == {beside: "ringfree_rollback.fire"}
    fleet.minion().modules["ringfree_run.end_busy"]()
    assert set(fleet.minion().modules["ringfree_run.busy"]()) == {beside}
    path = fleet.folder / "run/deadman"
    path.write_text(path.read_text().replace('"born": ', '"born": 1'))
    assert fleet.minion().modules["ringfree_run.firing"]() == {}


def test_h33_words_keep_no_node_from_its_way(due, deadman, decoy):
    """Of a container, a local user, or an admin who looks for them."""
    decoy("salt-call", "--local", "ringfree_rollback.fire")
    decoy("rsync", "-a", "/vz/private/101/", "10.77.0.21:/x/")
    decoy("vzctl", "start", "101")
    assert due.minion().modules["ringfree_run.busy"]() == {}
    deadman("fire")
    assert is_local(due)


def test_h16_two_do_not_fire_at_once(due, deadman):
    beside = fires_beside(due)
    with pytest.raises(CommandExecutionError, match=f"at work already, as process {beside}"):
        deadman("fire")
    assert due.running() == [101, 102, 104]
    (due.folder / "run/deadman").unlink()
    due.rule("vzctl.stop.101", f"cp {due.folder}/run/deadman {due.folder}/seen")
    deadman("fire")
    assert json.loads((due.folder / "seen").read_text())["pid"] == os.getpid(), "it is seen while it works"
    assert not (due.folder / "run/deadman").exists()


# --- firing -----------------------------------------------------------------------------------------------------------


def test_before_the_deadline_it_does_nothing(in_flight, deadman):
    node = in_flight()
    before = node.tree()
    assert deadman("fire") == "nothing to do"
    assert node.tree() == before


def test_after_the_deadline_the_node_goes_back_and_says_why(due, deadman):
    assert deadman("fire").endswith("is back on local storage")
    assert is_local(due)
    assert traces(due) == []
    said = due.minion().modules["cloudstor.whereabouts"]()
    for words in (
        "is back on local storage, 3 of 3 containers answer.",
        "brought it back at",
        "nobody had committed it by",
    ):
        assert words in said
    assert journal(due)["facts"]["deadman"]["ok"] is True
    assert "brought it back" in due.minion().modules["cloudstor.status"]()["deadman"]


def test_h37_systemd_reads_no_unit_again_while_it_runs(due, deadman):
    """Without its file the unit would be one whose end kills what is left in it. systemd forgets it by itself."""
    due.minion().opts["ringfree_deadman"] = True
    before = len(due.calls())
    deadman("fire")
    assert traces(due) == []
    calls = due.calls()[before:]
    gone = calls.index("systemctl stop ringfree-deadman.timer")
    assert not [call for call in calls[gone:] if "daemon-reload" in call]


def test_h17_it_needs_no_readable_journal(due, deadman):
    """A power cut took half of it: what is found on the node is undone."""
    (due.folder / "var/journal.json").write_text('{"version": 1,')
    deadman("fire")
    assert is_local(due)
    assert traces(due) == []


def test_fired_twice_it_has_nothing_to_do(due, deadman):
    deadman("fire")
    before = due.tree()
    assert deadman("fire") == "nothing to do"
    assert due.tree() == before


def test_the_next_migration_knows_nothing_of_it(due, deadman):
    deadman("fire")
    modules = due.minion().modules
    modules["cloudstor.begin"]()
    assert "dead man's switch" not in modules["cloudstor.whereabouts"]()


@pytest.mark.parametrize("state", ["nfs", "local"])
def test_on_a_node_that_rests_it_disarms_itself(in_flight, deadman, state):
    """A commit or a rollback was killed before it could."""
    node = in_flight("ringfree_nfs.variables", mounted=True)
    node.minion().modules["ringfree_journal.set_state"](state)
    deadman("arm", time.time() - 5)
    before = (node.running(), (node.folder / "proc/mountinfo").read_text())
    assert deadman("fire") == "nothing to do"
    assert (node.running(), (node.folder / "proc/mountinfo").read_text()) == before
    assert traces(node) == []


def test_h42_a_surprise_is_said_and_the_next_try_brings_it_back(due, deadman, monkeypatch):
    """Also before the first sub-step of the way back, where nothing else would catch it."""

    def fail(*arguments):
        raise AttributeError("nobody thought of it")

    with monkeypatch.context() as patch:
        patch.setattr(due.minion().module_of("ringfree_rollback.revert"), "_must_have_homes", fail)
        with pytest.raises(CommandExecutionError, match="AttributeError: nobody thought of it"):
            deadman("fire")
        assert deadman("armed")["fault"] is None
    assert "is back on local storage" in deadman("fire")


def test_what_could_not_be_done_is_noted_and_tried_again(due, deadman):
    due.rule("umount", "echo 'target is busy' >&2; exit 32")
    with pytest.raises(CommandExecutionError, match=r"the shares are unmounted: .*target is busy"):
        deadman("fire")
    assert deadman("armed")["fault"] is None
    said = due.minion().modules["cloudstor.whereabouts"]()
    for words in ("in flight", "could not bring it back at", "target is busy", "umount "):
        assert words in said
    due.rule("umount", "")
    deadman("fire")
    assert is_local(due)
    assert "brought it back" in due.minion().modules["cloudstor.whereabouts"]()
    assert traces(due) == []


def test_a_rollback_disarms_it(in_flight):
    node = in_flight()
    assert apply(node, "ringfree_rollback.rolled_back")["result"] is True
    assert traces(node) == []
    assert "dead man's switch" not in node.minion().modules["cloudstor.whereabouts"]()


def test_a_rollback_that_could_not_end_leaves_it_armed(in_flight, deadman):
    node = in_flight()
    node.rule("umount", "exit 32")
    assert apply(node, "ringfree_rollback.rolled_back")["result"] is False
    assert deadman("armed")["fault"] is None


def test_h21_it_ends_a_rollback_as_that_was_begun(due, deadman):
    due.minion().modules["ringfree_journal.mark"]("revert", "intent", note="sync_back")
    (due.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    deadman("fire")
    assert (due.private(101) / "etc/voicemail").exists()


def test_h16_a_copy_that_a_killed_job_left_is_ended_and_vzctl_is_waited_for(due, deadman, left):
    due.pillar["rollback"] = {"idle": 1}
    left.program("vzctl", "sleep 2; echo up >$0.ended")
    copy, vzctl = left("rsync", "-a", "/vz/private/101/", "10.77.0.21:/x/"), left("vzctl", "start", "101")
    deadman("fire")
    assert not is_alive(copy) and not is_alive(vzctl)
    assert (left.bin / "vzctl.ended").exists()
    assert is_local(due)


def test_h16_a_vzctl_that_outlives_its_deadline_is_ended(due, deadman, left):
    """Its job is dead, so nobody else does; the next try finds it gone."""
    due.pillar.update(SHORT)
    vzctl = left("vzctl", "start", "101")
    with pytest.raises(CommandExecutionError, match="does not come to rest"):
        deadman("fire")
    wait_for(lambda: not is_alive(vzctl))
    deadman("fire")
    assert is_local(due)


def test_h33_a_process_of_a_container_is_no_job_of_salt(due, deadman, monkeypatch):
    """Salt believes any process that has its name and the id of a job that was killed."""
    inside = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sleep", "60"])
    children = Path(f"/proc/{inside.pid}/task/{inside.pid}/children")
    pid = int(wait_for(children.read_text))
    job = {"fun": "state.sls", "arg": ["ringfree.rollback"], "jid": "1", "pid": pid}
    monkeypatch.setattr("salt.utils.minion.running", lambda opts: [job])
    try:
        deadman("fire")
        assert is_alive(pid)
    finally:
        inside.kill()
        inside.wait()
    assert is_local(due)


class Job:
    """A job of the minion that goes on until it is killed."""

    def __init__(self, monkeypatch, mods):
        self.process = subprocess.Popen(["sleep", "60"])
        self.seen = []
        self.job = {"fun": "state.sls", "arg": [mods], "jid": "1", "pid": self.process.pid}
        monkeypatch.setattr("salt.utils.minion.running", self.running)

    def running(self, opts):
        self.seen.append(opts)
        return [self.job, {"fun": "test.sleep", "pid": 1}] if self.process.poll() is None else []

    def end(self):
        self.process.kill()
        self.process.wait()


def test_h16_a_job_that_does_not_end_is_ended_before_anything_else(due, deadman, monkeypatch):
    due.pillar["rollback"] = {"idle": 1}
    job = Job(monkeypatch, "ringfree.cutover")
    try:
        deadman("fire")
        assert job.process.wait(1) == -9
    finally:
        job.end()
    assert is_local(due)
    assert {opts["cachedir"] for opts in job.seen} == {due.minion().opts["cachedir"]}


def test_h22_a_highstate_that_begins_later_is_neither_waited_for_nor_ended(due, deadman, monkeypatch):
    due.pillar["rollback"] = {"idle": 1}
    job = Job(monkeypatch, "")
    job.job.update(fun="state.highstate", arg=[])
    looks = []

    def running(opts):
        looks.append(opts)
        return [job.job] if len(looks) > 1 else []

    monkeypatch.setattr("salt.utils.minion.running", running)
    try:
        deadman("fire")
        assert job.process.poll() is None
    finally:
        job.end()
    assert is_local(due)


def test_h16_a_rollback_under_way_is_left_to_its_work(due, deadman, monkeypatch):
    due.pillar.update(SHORT)
    job = Job(monkeypatch, "ringfree.rollback")
    try:
        with pytest.raises(CommandExecutionError, match="does not come to rest"):
            deadman("fire")
        assert job.process.poll() is None
    finally:
        job.end()
    assert journal(due)["state"] == "in_flight"
    said = due.minion().modules["cloudstor.whereabouts"]()
    assert (
        "could not bring it back" in said
        and "does not come to rest" in said
        and "its deadline was at" in said
    )


def test_a_commit_that_was_in_time_for_its_wait_counts(due, deadman, monkeypatch):
    job = Job(monkeypatch, "ringfree.commit")

    def running(opts):
        if job.process.poll() is None:
            job.end()
            due.minion().modules["ringfree_journal.set_state"]("nfs")
            return [job.job]
        return []

    monkeypatch.setattr("salt.utils.minion.running", running)
    assert deadman("fire") == "nothing to do"
    assert due.running() == [101, 102, 104]
    assert "nfs" in (due.folder / "proc/mountinfo").read_text()
    assert traces(due) == []


def test_nobody_who_listens_is_asked_once(minion):
    """Each try to tell a dead minion takes a second in which containers are down."""
    for opts, times in (({"ringfree_deadman": True}, 1), ({}, 3)):
        node, tries = minion(opts=opts), []
        node.modules["event.send"] = lambda tag, data, tries=tries: bool(tries.append(tag))
        for _ in range(3):
            node.modules["ringfree_journal.announce"]("stop", "intent")
        assert len(tries) == times


# --- the rehearsal ----------------------------------------------------------------------------------------------------


def fired_by_the_scheduler(node, path="$PATH"):
    """Starting the rehearsal's timer starts its script, whose salt-call is the real one."""
    real = Path(sys.executable).parent / "salt-call"
    # The fake node may lie below /dev, as in _move of conftest.
    there = "sed -i 's#\"/dev\", ##' $W/var/deadman-rehearsal/extmods/utils/ringfree_pillar.py"
    node.rule("salt-call", f'{there}; PATH={path} exec {real} "$@"')
    node.rule("started.ringfree-deadman-rehearsal.timer", "sh $W/var/deadman-rehearsal/fire &")


def test_a_rehearsal_loads_everything_with_neither_master_nor_minion(fleet, deadman):
    fired_by_the_scheduler(fleet, path=os.environ["PATH"])
    before = fleet.tree()
    assert "the dead man's switch was rehearsed by systemd" in deadman("rehearse")
    assert fleet.tree() == before
    assert traces(fleet) == []


def test_a_rehearsal_that_misses_a_module_says_so(fleet, deadman):
    """As where vzctl lies beside the usual folders."""
    fired_by_the_scheduler(fleet)
    with pytest.raises(CommandExecutionError, match=r"vz\.start is missing"):
        deadman("rehearse")
    assert traces(fleet) == []


def test_a_rehearsal_that_is_never_started(fleet, deadman, monkeypatch):
    monkeypatch.setattr(fleet.minion().module_of("ringfree_deadman.rehearse"), "PROOF", 0.5)
    with pytest.raises(CommandExecutionError, match=r"told nothing within .* it was never started"):
        deadman("rehearse")
    assert traces(fleet) == []


def test_a_rehearsal_that_fails_is_not_waited_for(fleet, deadman):
    fleet.rule(
        "started.ringfree-deadman-rehearsal.timer",
        "touch $W/proc/units/failed.ringfree-deadman-rehearsal.service; "
        "echo 'ImportError: no salt' > $W/var/deadman-rehearsal/said",
    )
    with pytest.raises(CommandExecutionError, match="ImportError: no salt"):
        deadman("rehearse")
    (fleet.folder / "proc/units/failed.ringfree-deadman-rehearsal.service").unlink()
    assert traces(fleet) == []


def test_a_rehearsal_leaves_what_is_armed(in_flight, deadman):
    node = in_flight("vz.stopped")
    node.rule("started.ringfree-deadman-rehearsal.timer", "exit 1")
    kept, before = deadman("armed"), traces(node)
    with pytest.raises(CommandExecutionError):
        deadman("rehearse")
    assert (deadman("armed"), traces(node)) == (kept, before)
