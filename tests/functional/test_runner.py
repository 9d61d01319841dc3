"""The runner ringfree: the fleet's lock, the questions to the nodes, the words for the operator."""

import concurrent.futures
import copy
import fcntl
import gc
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import ringfree_command
import ringfree_pillar
import salt.config
import salt.loader
import salt.payload
from lab_client import wait_for
from minion_without_daemons import PROJECT
from salt.exceptions import CommandExecutionError

PILLAR = {
    "nodes": ["node001", "node002"],
    "nfs": {"primary": "10.77.0.21", "secondary": "10.77.0.22"},
    "monitoring": {"host": "mon001", "services": ["nagios"]},
}
#: What Salt's client returns for a minion that is not there.
SILENCE = {"out": "no_return", "ret": "Minion did not return. [Not connected]", "retcode": 1}
PARTS = ("presync", "packages", "prepare", "cutover", "commit")


class Master:
    """The runner without a master: `answers` are what minions return, `asked` is what they were asked."""

    def __init__(self, runners, module):
        self.runners, self.module = runners, module
        self.answers, self.asked = {}, []

    def __call__(self, function, *args, **kwargs):
        return self.runners[f"ringfree.{function}"](*args, **kwargs)

    def cmd(self, nodes, function, arg, **options):
        """What salt.client's cmd returns with full_return."""
        self.asked.append((function, nodes, arg))
        found = {}
        for node in nodes:
            if isinstance(function, list):
                answer = {name: self.answer(name, node) for name in function}
                answer = None if None in answer.values() else answer
            else:
                answer = self.answer(function, node)
            if answer is None:
                found[node] = dict(SILENCE)
            elif isinstance(answer, dict) and "retcode" in answer:
                found[node] = answer
            else:
                found[node] = {"ret": answer, "retcode": 0}
        return found

    def answer(self, function, node):
        """What a node says to one function."""
        answer = self.answers.get((function, node), self.answers.get(function))
        return answer(node) if callable(answer) else answer

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


class Bus:
    """An event bus that nobody listens to."""

    def __init__(self, *args, **kwargs):
        self.fired = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def fire_event(self, data, tag):
        self.fired.append((tag, data))

    def get_event(self, **options):
        return None


@pytest.fixture
def master(minion_opts, monkeypatch):
    """The runner, loaded as a master does it."""
    opts = salt.config.master_config(None)
    for key in (
        "root_dir",
        "cachedir",
        "sock_dir",
        "pki_dir",
        "conf_file",
        "extension_modules",
        "utils_dirs",
    ):
        opts[key] = minion_opts[key]
    opts.update(id="master", runner_dirs=[str(PROJECT / "_runners")])
    runners = salt.loader.runner(opts, utils=salt.loader.utils(opts))
    module = sys.modules[runners["ringfree.begin"].__module__]
    made = Master(runners, module)
    made.lock = os.path.join(opts["cachedir"], "ringfree.lock")
    made.said, made.bus = [], Bus()
    monkeypatch.setattr(module, "_show", lambda *args: None)
    made.interruptible, take_interrupts = False, module._take_interrupts
    monkeypatch.setattr(module, "_take_interrupts", lambda: made.interruptible and take_interrupts())
    monkeypatch.setattr(module, "_say", made.said.append)
    monkeypatch.setattr("salt.client.get_local_client", lambda *args, **kwargs: made)
    monkeypatch.setattr("salt.utils.event.get_event", lambda *args, **kwargs: made.bus)
    monkeypatch.setattr(sys, "tracebacklimit", 1000, raising=False)
    thresholds = gc.get_threshold()
    yield made
    gc.set_threshold(*thresholds)


@pytest.fixture
def other():
    """Another process."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def hold(master, pid, born=None, what="migrate"):
    """A lock that a process holds."""
    born = ringfree_command.born(pid) if born is None else born
    text = json.dumps(
        {"pid": pid, "born": born, "user": "alice", "since": 1795350000.0, "what": what, "nodes": ["node001"]}
    )
    with open(master.lock, "w") as stream:
        stream.write(text)
    return text


# --- the lock -------------------------------------------------------------------------------------------------------


def test_begin_takes_the_lock_and_end_gives_it_back(master):
    master.answers["cloudstor.whereabouts"] = lambda node: f"{node} is on local storage."
    assert master("begin", pillar=PILLAR) == ["node001", "node002"]
    with open(master.lock) as stream:
        assert json.load(stream)["pid"] == os.getpid()
    assert set(master("end", pillar=PILLAR)) == {"node001", "node002"}
    assert not os.path.exists(master.lock)
    assert any("node002 is on local storage." in line for line in master.said)
    assert [tag for tag, _ in master.bus.fired] == [f"ringfree/end/{os.getpid()}"]
    assert os.listdir(os.path.dirname(master.lock)).count("ringfree.lock") == 0


def test_what_salt_leaves_behind_is_collected_between_parts_only(master):
    """Its end imports modules: in the middle of another import that ends the run, where Python is older than 3.12."""
    collected = []

    class LeftBehind:
        def __del__(self):
            collected.append(self)

    master("begin", pillar=PILLAR)
    left = LeftBehind()
    left.itself = left
    del left
    salt.payload.loads(salt.payload.dumps({}))  # switches Python's collector on
    kept = [[number] for number in range(100_000)]
    assert not collected
    master("gate", "node001", "presync", pillar=PILLAR, raises=False)
    assert collected and kept


@pytest.mark.parametrize("raises", [True, False])
def test_h18_a_second_begin_is_refused_and_told_who_holds_the_lock(master, other, raises):
    text = hold(master, other.pid, what="presync")
    if raises:
        with pytest.raises(CommandExecutionError) as error:
            master("begin", pillar=PILLAR)
        said = str(error.value)
    else:
        said = master("begin", pillar=PILLAR, raises=False)["Error"]
    assert "'presync' runs since" in said
    assert f"started by alice as process {other.pid}" in said
    assert "Nothing was touched" in said
    assert "end it with 'salt-run ringfree.abort'" in said
    with open(master.lock) as stream:
        assert stream.read() == text
    master("end", pillar=PILLAR)
    with open(master.lock) as stream:
        assert stream.read() == text, "only the holder gives the lock back"


def test_h18_a_lock_whose_holder_is_gone_holds_nothing(master, other):
    hold(master, other.pid)
    other.kill()
    other.wait()
    assert master("begin", pillar=PILLAR) == ["node001", "node002"]
    with open(master.lock) as stream:
        assert json.load(stream)["pid"] == os.getpid()


def test_h18_another_process_with_the_holders_number_is_not_the_holder(master, other):
    hold(master, other.pid, born=1)
    assert master("begin", pillar=PILLAR) == ["node001", "node002"]


def test_h18_of_two_that_find_a_lock_left_behind_one_gets_it(master, other):
    """While one of them looks and writes the other waits."""
    with open(f"{master.lock}.guard", "w") as guard, concurrent.futures.ThreadPoolExecutor(1) as pool:
        fcntl.flock(guard, fcntl.LOCK_EX)
        second = pool.submit(master, "begin", pillar=PILLAR, raises=False)
        with pytest.raises(concurrent.futures.TimeoutError):
            second.result(0.5)
        text = hold(master, other.pid)
        fcntl.flock(guard, fcntl.LOCK_UN)
        assert f"started by alice as process {other.pid}" in second.result(30)["Error"]
    with open(master.lock) as stream:
        assert stream.read() == text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x", "born": 1}'])
def test_a_damaged_lock_holds_nothing(master, text):
    with open(master.lock, "w") as stream:
        stream.write(text)
    assert master("begin", pillar=PILLAR) == ["node001", "node002"]


# --- pillar and nodes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["begin", "preflight"])
def test_all_faults_of_the_pillar_are_told_at_once_and_nobody_is_asked(master, function):
    bad = {**copy.deepcopy(PILLAR), "batch": 0, "speed": 1, "nfs": {"primary": "10.77.0.21"}}
    for said in (master(function, pillar=bad, raises=False)["Error"],):
        for key in ("ringfree:batch", "ringfree:speed: unknown key", "ringfree:nfs:secondary: is missing"):
            assert key in said
    with pytest.raises(CommandExecutionError, match="ringfree:batch"):
        master(function, pillar=bad)
    assert master.asked == []
    assert not os.path.exists(master.lock)


def test_nodes_that_are_not_in_the_pillar_are_refused(master):
    for nodes, name in ((["node001", "node009"], "node009"), ("nodeX", "nodeX"), ([], "no node named")):
        with pytest.raises(CommandExecutionError, match=name):
            master("begin", pillar=PILLAR, nodes=nodes)
    assert master("begin", pillar=PILLAR, nodes="node002") == ["node002"]


# --- preflight ------------------------------------------------------------------------------------------------------


def report(findings=(), containers=None, need=0, free=10**9):
    """What a node's preflight returns."""
    return {
        "findings": list(findings),
        "notes": ["container layouts: simfs"],
        "containers": containers or {},
        "need": {"bytes": need, "inodes": 0},
        "free": {"bytes": free, "inodes": 10**6},
    }


def container(name, *addresses):
    return {"name": name, "ip": list(addresses)}


@pytest.fixture
def fit(master):
    """A master whose fleet is fit to move."""
    master.answers.update(
        {
            **dict.fromkeys(master.module.NEWEST, True),
            "service.get_all": ["nagios"],
            "ringfree_preflight.look": lambda node: report(),
        }
    )
    return master


def findings(master):
    """What preflight finds."""
    with pytest.raises(CommandExecutionError) as error:
        master("preflight", pillar=PILLAR)
    first, *rest = str(error.value).splitlines()
    assert first.startswith(f"Preflight found {len(rest)} reasons not to migrate. Nothing was stopped")
    assert master("preflight", pillar=PILLAR, raises=False) == {"Error": str(error.value)}
    return [line.strip() for line in rest]


def test_minions_get_the_modules_and_the_pillar_in_one_job(fit):
    assert fit("sync", ["node001", "mon001"]) == ["node001", "mon001"]
    ((functions, minions, arguments),) = fit.asked
    assert (functions, minions) == (list(fit.module.NEWEST), ["node001", "mon001"])
    assert arguments == [[], [], [], [{"__kwarg__": True, "wait": True}]]
    fit.answers["saltutil.sync_states", "mon001"] = "Traceback\n  line 1\nOSError: no space left\n"
    said = "mon001: saltutil.sync_states: OSError: no space left"
    assert fit("sync", ["node001", "mon001"], raises=False) == {"Error": said}
    fit.cmd = lambda minions, *args, **options: {
        minions[0]: {"ret": "Minion in blackout mode.", "retcode": 0}
    }
    assert fit("sync", ["node001"], raises=False) == {"Error": "node001: Minion in blackout mode."}
    del fit.cmd
    del fit.answers["saltutil.refresh_pillar"]
    with pytest.raises(CommandExecutionError, match="node001: does not answer"):
        fit("sync", ["node001"])


def test_a_fleet_that_is_fit(fit):
    notes = ["container layouts: simfs"]
    assert fit("preflight", pillar=PILLAR) == {"node001": notes, "node002": notes}


def test_findings_of_all_nodes_come_in_one_message(fit):
    fit.answers["ringfree_preflight.look"] = lambda node: report([f"{node} is odd", "no rsync"])
    fit.answers["service.get_all"] = ["cron"]
    assert findings(fit) == [
        "node001: node001 is odd",
        "node001: no rsync",
        "node002: node002 is odd",
        "node002: no rsync",
        "mon001: there is no service nagios (ringfree:monitoring:services)",
    ]


def test_h16_a_node_that_does_not_answer_is_not_well(fit):
    del fit.answers["ringfree_preflight.look"]
    fit.answers["ringfree_preflight.look", "node001"] = report()
    assert findings(fit) == ["node002: does not answer: 'salt node002 test.ping'"]


def test_h16_a_node_of_which_salt_says_nothing_is_not_well(fit):
    known = fit.cmd
    fit.cmd = lambda nodes, *args, **options: {
        node: reply for node, reply in known(nodes, *args, **options).items() if node != "node002"
    }
    assert fit("sync", ["node001", "node002"], raises=False) == {
        "Error": "node002: does not answer: 'salt node002 test.ping'"
    }


def test_an_answer_that_is_no_report_is_a_finding(fit):
    fit.answers["ringfree_preflight.look", "node002"] = {
        "ret": "'ringfree_preflight.look' is not available.",
        "retcode": 254,
    }
    fit.answers["ringfree_preflight.look", "node001"] = "odd"
    assert set(findings(fit)) == {"node002: 'ringfree_preflight.look' is not available.", "node001: odd"}


def test_a_monitoring_host_that_does_not_answer_is_a_finding(fit):
    del fit.answers["service.get_all"]
    assert findings(fit) == ["mon001: does not answer: 'salt mon001 test.ping'"]


def test_what_two_nodes_have_twice_is_found(fit):
    here = {"101": container("PBX", "10.78.1.1"), "102": container("", "10.78.1.2")}
    there = {"101": container("other", "10.78.1.2"), "201": container("PBX"), "202": container("")}
    fit.answers["ringfree_preflight.look"] = lambda node: report(
        containers=here if node == "node001" else there
    )
    assert findings(fit) == [
        "node001/101, node002/101: the same container id 101",
        "node001/101, node002/201: the same container name PBX",
        "node001/102, node002/101: the same IP address 10.78.1.2",
    ]


def test_room_on_the_san_is_counted_for_all_nodes_together(fit):
    fit.answers["ringfree_preflight.look"] = lambda node: report(need=600 * 10**6, free=10**9)
    assert findings(fit) == ["the SAN has 1000 MB free and 1200 MB are needed"]


def test_monitoring_is_silenced_for_nodes_that_are_to_move(fit):
    """And for them only; a run over nodes that have moved leaves it alone."""
    states = {"a": {"result": True, "comment": "nagios was stopped"}}
    fit.answers["cloudstor.state"] = lambda node: "nfs" if node == "node001" else "in_flight"
    fit.answers["state.sls"] = lambda node: {"ret": states, "retcode": 0}
    assert fit("silence", ["node001"], PILLAR) == "Every node is on NFS: monitoring stays as it is."
    assert fit("silence", ["node001", "node002"], PILLAR) == "nagios was stopped"
    alone = {key: PILLAR[key] for key in ("nodes", "nfs")}
    assert fit("silence", ["node002"], alone) == "The pillar names no monitoring host."
    states["a"] = {"result": False, "comment": "nagios does not stop"}
    assert fit("silence", ["node002"], PILLAR, raises=False) == {"Error": "nagios does not stop"}
    fit.answers["state.sls"] = lambda node: {"ret": ["Pillar failed to render"], "retcode": 1}
    assert "Pillar failed to render" in fit("silence", ["node002"], PILLAR, raises=False)["Error"]
    del fit.answers["cloudstor.state"]
    with pytest.raises(CommandExecutionError, match="node001: does not answer"):
        fit("silence", ["node001", "node002"], PILLAR)


def job(jid, fun="state.highstate", *arg):
    return {"fun": fun, "jid": str(jid), "pid": 4711, "arg": list(arg)}


@pytest.fixture
def at_work(master, monkeypatch):
    """at_work(look, ...) has node001 answer with these lists of jobs, one after the other; time goes by in a moment."""
    clock = [1000.0]
    monkeypatch.setattr(master.module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(master.module.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    master.answers["ringfree_revert.busy"] = lambda node: {}
    master.answers["ringfree_revert.end_busy"] = lambda node: {}
    master.answers["saltutil.kill_job"] = lambda node: "Signal 9 sent"

    def say(*looks):
        left = list(looks)
        master.answers["saltutil.is_running"] = lambda node: left.pop(0) if len(left) > 1 else left[0]
        return master

    return say


def killed(master):
    return [arg for function, _, arg in master.asked if function == "saltutil.kill_job"]


@pytest.mark.parametrize("first", [[], [job(1)], [job(1, "state.sls", "ringfree.cutover")]])
def test_h22_one_highstate_after_the_other_keeps_nobody_waiting(at_work, first):
    """What ran at first is waited for; a highstate that begins later is not, and is not killed."""
    master = at_work(first, [job(2)], [job(3)], [job(4)])
    assert master("wait_idle", ["node001"], PILLAR) == ["node001"]
    assert killed(master) == []


def test_h16_what_is_ours_is_waited_for_whenever_it_began(at_work):
    """A job that the master gave up on may begin late."""
    late = job(2, "state.sls", "ringfree.cutover", {"__kwarg__": True, "queue": 100})
    master = at_work([job(1)], [late], [late], [job(3)])
    assert master("wait_idle", ["node001"], PILLAR) == ["node001"]
    assert [function for function, _, _ in master.asked].count("saltutil.is_running") == 4
    assert killed(master) == []


@pytest.mark.parametrize("stuck", [job(1), job(1, "state.sls", "ringfree.cutover")])
def test_h16_a_job_that_does_not_end_is_killed_and_no_other(at_work, stuck):
    master = at_work([stuck], [stuck, job(2)])
    with pytest.raises(CommandExecutionError, match=r"node001 still works on .*'jid': '1'"):
        master("wait_idle", ["node001"], PILLAR)
    assert killed(master) and all(arg == ["1"] for arg in killed(master))


def test_h22_preflight_waits_for_no_highstate_that_begins_later(fit, at_work):
    at_work([job(1)], [job(2)], [job(3)])
    assert set(fit("preflight", pillar=PILLAR)) == {"node001", "node002"}
    at_work([job(1)])
    assert any("still works on state.highstate of job 1" in finding for finding in findings(fit))


# --- report and progress --------------------------------------------------------------------------------------------


def row(ctid, name, faults=(), downtime=12.34, store="nfs", checks="3/3"):
    return {
        "ctid": ctid, "name": name, "store": store, "checks": checks, "downtime": downtime, "faults": list(faults),
    }  # fmt: skip


@pytest.fixture
def reporting(fit, monkeypatch):
    """A master that has the pillar itself."""
    checked = ringfree_pillar.validate(copy.deepcopy(PILLAR))
    monkeypatch.setattr(fit.module, "_settings", lambda pillar=None: checked["settings"])
    return fit


def test_the_report_is_a_table(reporting):
    reporting.answers["cloudstor.report"] = lambda node: [
        row(101, "Four Seasons hospice"),
        row(103, None, downtime=None, store="-", checks="-"),
    ]
    assert reporting("report", ["node001"]).splitlines() == [
        "node     container  name                  store  checks  downtime",
        "node001  101        Four Seasons hospice  nfs    3/3     12.3 s",
        "node001  103        -                     -      -       -",
    ]


def test_a_report_with_faults_fails_and_still_shows_the_table(reporting):
    reporting.answers["cloudstor.report", "node001"] = [row(101, "PBX", ["does not run"])]
    with pytest.raises(CommandExecutionError) as error:
        reporting("report")
    lines = str(error.value).splitlines()
    assert lines[1].startswith("node001  101")
    assert lines[2:] == [
        "node002: does not answer: 'salt node002 test.ping'",
        "node001: container 101: does not run",
    ]


def test_the_status_says_who_did_not_answer(reporting):
    reporting.answers["cloudstor.status", "node001"] = {"state": "nfs"}
    assert reporting("status") == {
        "node001": {"state": "nfs"},
        "faults": ["node002: does not answer: 'salt node002 test.ping'"],
    }


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"node": "node001", "step": "stop", "phase": "intent", "note": "3 containers"},
            "node001 stop ... 3 containers",
        ),
        ({"node": "node001", "step": "stop", "phase": "verified", "container": 101}, "node001 stop 101 ok"),
        ({"node": "node001", "step": "sync", "phase": "failed", "note": "full"}, "node001 sync FAILED full"),
        ({}, "  None"),
    ],
)
def test_a_line_of_progress(master, data, line):
    assert master.module._line({**data, "at": 0}).split(" ", 1)[1] == line


def test_the_plan_shows_what_would_change_and_what_would_fail(reporting):
    def states(node):
        steps = {
            "a": {
                "__id__": "All stop",
                "result": None,
                "changes": {"101": {"old": "running", "new": "stopped"}},
            },
            "b": {"__id__": "All is mounted", "result": True, "changes": {}},
            "c": {"__id__": "vz.conf", "result": False, "changes": {}, "comment": "line 3: VE_ROOT"},
        }
        return {key: {**step, "__run_num__": number} for number, (key, step) in enumerate(steps.items())}

    reporting.answers["state.sls"] = states
    lines = reporting("plan", ["node001"]).splitlines()
    assert lines == [
        "node001:",
        "  note: container layouts: simfs",
        "  change     All stop",
        "               101: running -> stopped",
        "  nothing    All is mounted",
        "  WOULD FAIL vz.conf: line 3: VE_ROOT",
    ]
    assert [asked for asked in reporting.asked if asked[0] == "state.sls"]


# --- what the operator says while it runs -----------------------------------------------------------------------------


@pytest.fixture
def under_way(reporting):
    """A run that has begun on both nodes, which are as `reporting.told` says."""
    reporting.told = {"state": "local", "containers": 5, "confirmed": False}
    reporting.answers["ringfree_run.expect"] = lambda node: dict(reporting.told)
    reporting.answers["ringfree_run.abort"] = lambda node: "aborted"
    reporting("begin")
    return reporting


def lock_of(master):
    """What the lock says."""
    with open(master.lock) as stream:
        return json.load(stream)


def refused(master, *arguments, **options):
    """The words with which a gate stays closed."""
    return master("gate", *arguments, raises=False, **options)["Error"]


@pytest.mark.parametrize("function", ["pause", "resume", "abort"])
def test_without_a_run_there_is_nothing_to_say(reporting, function):
    with pytest.raises(
        CommandExecutionError, match=r"no run is under way on this master\. Nothing was changed"
    ):
        reporting(function)
    assert reporting.asked == []


def test_a_paused_run_waits_before_its_next_part(under_way):
    assert under_way("gate", "node001", "presync") is True
    assert "'salt-run ringfree.resume' goes on" in under_way("pause")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(under_way, "gate", "node001", "packages")
        with pytest.raises(concurrent.futures.TimeoutError):
            waiting.result(1)
        assert any(
            "before packages of node001: 'salt-run ringfree.resume'" in line for line in under_way.said
        )
        assert under_way("resume") == "'migrate' goes on"
        assert waiting.result(30) is True


def test_an_aborted_run_begins_no_further_part_and_the_nodes_are_told(under_way):
    assert "'migrate' ends" in under_way("abort")
    assert ("ringfree_run.abort", ["node001", "node002"]) in [asked[:2] for asked in under_way.asked]
    said = refused(under_way, "node001", "cutover")
    assert "node001: the run was aborted by" in said and "cutover was not begun" in said


def test_an_abort_ends_a_pause(under_way):
    under_way("pause")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(refused, under_way, "node001", "prepare")
        under_way("abort")
        assert "aborted by" in waiting.result(30)


def test_an_abort_names_the_node_that_did_not_hear_it(under_way):
    under_way.answers["ringfree_run.abort", "node002"] = None
    del under_way.answers["ringfree_run.abort"]
    assert "node002: does not answer" in under_way("abort")


def test_a_rollback_is_not_aborted(reporting):
    reporting("begin", what="rollback")
    with pytest.raises(CommandExecutionError, match="a rollback is not aborted"):
        reporting("abort")
    assert "aborted" not in lock_of(reporting)


def test_ctrl_c_aborts_and_a_second_one_ends_at_once(reporting):
    before = signal.getsignal(signal.SIGINT)
    reporting.interruptible = True
    reporting.answers["ringfree_run.abort"] = lambda node: "aborted"
    try:
        reporting("begin")
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: "aborted" in lock_of(reporting), "the abort")
        assert any("Ctrl-C again leaves them as they are" in line for line in reporting.said)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


# --- window and deadline ----------------------------------------------------------------------------------------------


def test_h20_a_deadline_that_is_none_is_refused_before_anything(reporting):
    said = reporting("begin", deadline="soon", raises=False)["Error"]
    assert "'soon' is no time such as 04:30" in said and "Nothing was touched" in said
    assert reporting.asked == [] and not os.path.exists(reporting.lock)


@pytest.mark.parametrize("what", ["migrate", "presync", "rollback"])
def test_h20_only_a_migration_keeps_the_window(reporting, what):
    """The days before and the way back know no window."""
    hour = time.localtime().tm_hour
    closed = {"start": f"{(hour + 2) % 24:02}:00", "end": f"{(hour + 3) % 24:02}:00", "reserve": 60}
    reporting.module._settings()["window"].update(closed)
    answer = reporting("begin", what=what, raises=False)
    assert ("Error" in answer) is (what == "migrate")


def begin_with(master, seconds):
    """A run that has so many seconds left."""
    if os.path.exists(master.lock):
        os.unlink(master.lock)
    master("begin")
    lock = {**lock_of(master), "until": time.time() + seconds}
    with open(master.lock, "w") as stream:
        json.dump(lock, stream)


def test_h20_without_time_for_the_rest_and_the_way_back_no_part_begins(under_way):
    begin_with(under_way, 3500)
    assert under_way.module._settings()["window"]["reserve"] == 3600
    said = refused(under_way, "node001", "presync")
    assert "s are left until" in said and "take 3600 s" in said and "presync was not begun" in said
    begin_with(under_way, 3700)
    assert under_way("gate", "node001", "presync") is True
    assert [asked[2] for asked in under_way.asked if asked[0] == "ringfree_run.expect"][-1] == [
        lock_of(under_way)["until"]
    ]


def test_h20_what_was_measured_counts_once_every_part_was(under_way):
    for part in PARTS:
        assert under_way("gate", "node001", part) is True
    begin_with(under_way, 60)
    assert under_way("gate", "node002", "packages") is True, "what was measured is quicker than the reserve"
    with open(f"{os.path.dirname(under_way.lock)}/ringfree.measured") as stream:
        measured = json.load(stream)
    assert set(measured) == set(PARTS[:-1])
    measured["cutover"].append([50, 5])
    with open(f"{os.path.dirname(under_way.lock)}/ringfree.measured", "w") as stream:
        json.dump(measured, stream)
    assert "cutover was not begun" in refused(under_way, "node002", "cutover")


def test_h20_a_node_on_nfs_needs_no_time(under_way):
    begin_with(under_way, -5)
    under_way.told["state"] = "nfs"
    assert under_way("gate", "node001", "presync") is True


def test_a_node_that_does_not_answer_gets_no_leave(under_way):
    del under_way.answers["ringfree_run.expect"]
    assert "node001: does not answer" in refused(under_way, "node001", "presync")


# --- confirmation -----------------------------------------------------------------------------------------------------


def test_a_manual_commit_waits_for_the_word(under_way):
    under_way.module._settings().update(confirm="manual", confirm_within=60)
    under_way.told["state"] = "in_flight"
    answers = iter([False, False, True])
    under_way.answers["ringfree_run.confirmed"] = lambda node: next(answers)
    assert under_way("gate", "node001", "commit") is True
    assert any("'salt-run ringfree.commit node001' keeps it there" in line for line in under_way.said)


def test_a_word_that_does_not_come_in_time_takes_the_node_back(under_way):
    under_way.module._settings().update(confirm="manual", confirm_within=1)
    under_way.told["state"] = "in_flight"
    under_way.answers["ringfree_run.confirmed"] = lambda node: False
    said = refused(under_way, "node001", "commit")
    assert "nobody said 'salt-run ringfree.commit node001' within 1 s" in said


def test_h20_nobody_waits_for_a_word_longer_than_the_deadline(under_way):
    under_way.module._settings().update(confirm="manual", confirm_within=3600)
    under_way.told["state"] = "in_flight"
    under_way.answers["ringfree_run.confirmed"] = lambda node: False
    begin_with(under_way, 1)
    assert "within 1 s" in refused(under_way, "node001", "commit")


def test_h20_nothing_is_committed_after_the_deadline(under_way):
    under_way.told["state"] = "in_flight"
    begin_with(under_way, 5)
    assert under_way("gate", "node001", "commit") is True
    begin_with(under_way, -5)
    said = refused(under_way, "node001", "commit")
    assert "has passed; commit was not begun" in said


def test_the_word_is_given_to_the_run_or_commits_at_once(reporting):
    reporting.answers["ringfree_run.confirm"] = lambda node: f"{node} is confirmed by alice"
    reporting.answers["state.sls"] = lambda node: {"a": {"result": True, "comment": "", "__run_num__": 0}}
    reporting.answers["cloudstor.whereabouts"] = lambda node: f"{node} is on NFS, 5 of 5 containers answer."
    assert reporting("commit", "node001") == "node001 is on NFS, 5 of 5 containers answer."
    assert ("state.sls", ["node001"], ["ringfree.commit"]) in reporting.asked
    reporting.asked.clear()
    reporting("begin")
    assert reporting("commit", "node001") == "node001 is confirmed by alice"
    assert [asked[0] for asked in reporting.asked] == ["ringfree_run.confirm"]


def test_a_commit_that_fails_says_why(reporting):
    reporting.answers["ringfree_run.confirm"] = lambda node: f"{node} is confirmed by alice"
    bad = {"a": {"result": False, "comment": "not committed: container 101 does not run", "__run_num__": 0}}
    reporting.answers["state.sls"] = lambda node: bad
    with pytest.raises(CommandExecutionError, match="container 101 does not run"):
        reporting("commit", "node001")


# --- cleanup ----------------------------------------------------------------------------------------------------------

GOES = {
    "action": "move aside",
    "kind": "private",
    "ctid": 101,
    "name": "PBX",
    "path": "/vz/private/101",
    "source": "/vz/private/101",
    "inode": 7,
    "bytes": 365_000_000,
    "files": 12000,
    "missing": 3,
    "age": 15 * 86400,
}
STAYS = {"what": "container 103, /vz/private/103", "why": "it was not moved to NFS"}


@pytest.fixture
def cleanup(master, monkeypatch):
    """A master whose nodes are in order."""
    monkeypatch.setattr(
        master.module, "_settings", lambda pillar=None: ringfree_pillar.validate(PILLAR)["settings"]
    )
    for function in (*master.module.NEWEST, "ringfree_cleanup.take"):
        master.answers[function] = True
    return master


def test_h30_a_consent_shows_what_goes_and_gives_a_word_for_it(cleanup):
    cleanup.answers["ringfree_cleanup.consent"] = lambda node: {
        "node": node,
        "items": [GOES] if node == "node001" else [],
        "left": [STAYS],
    }
    said = cleanup("consent", "node001", "node002")
    for text in (
        "move aside  /vz/private/101 (container 101 PBX): 12000 files, 365.0 MB, on NFS for 15.0 days, 3 of them are",
        "left alone  container 103, /vz/private/103: it was not moved to NFS",
        "within 10 minutes",
    ):
        assert text in said
    (asked,) = [arg for function, _, arg in cleanup.asked if function == "ringfree_cleanup.consent"]
    word, nodes, _ = asked
    assert nodes == ["node001", "node002"]
    assert f'"nodes": ["node001", "node002"], "consent": "{word}"' in said
    cleanup("consent", "node001", "node002")
    assert cleanup.asked[-1][2][0] != word, "each time another word"


def test_h30_without_anything_to_remove_there_is_no_word(cleanup):
    cleanup.answers["ringfree_cleanup.consent"] = {"ret": {"items": [], "left": [STAYS]}, "retcode": 0}
    said = cleanup("consent", "node001")
    assert "nothing to clean up" in said and "state.orch" not in said


def test_h30_a_node_that_does_not_answer_gets_no_consent(cleanup):
    cleanup.answers["ringfree_cleanup.consent", "node001"] = {
        "ret": {"items": [GOES], "left": []},
        "retcode": 0,
    }
    with pytest.raises(CommandExecutionError, match="node002: does not answer") as error:
        cleanup("consent", "node001", "node002")
    assert "no consent was given" in str(error.value)


@pytest.mark.parametrize("nodes", [(), ("node077",)])
def test_h30_a_consent_names_its_nodes(cleanup, nodes):
    with pytest.raises(CommandExecutionError, match="not in ringfree:nodes"):
        cleanup("consent", *nodes)


def test_h30_a_run_begins_with_a_consent_on_all_nodes_or_on_none(cleanup):
    nodes = ["node001", "node002"]
    assert cleanup("consented", "7f3a-91c2", nodes) == nodes
    refused = {"ret": "the consent '7f3a-91c2' has expired. Nothing was touched.", "retcode": 1}
    cleanup.answers["ringfree_cleanup.take", "node002"] = refused
    answer = cleanup("consented", "7f3a-91c2", nodes, raises=False)
    assert answer["Error"].startswith("node002: the consent '7f3a-91c2' has expired")


@pytest.mark.parametrize("word", [None, ""])
def test_h30_nobody_is_asked_without_a_word(cleanup, word):
    answer = cleanup("consented", word, ["node001"], raises=False)
    assert (
        "'salt-run ringfree.consent node001'" in answer["Error"] and "Nothing was touched" in answer["Error"]
    )
    assert cleanup.asked == []


# --- a node that booted without its share, and a container that changes its node --------------------------------------

BROUGHT = {
    "mounted": ["/vz/nfsprivate"],
    "vz": True,
    "started": [102, 101],
    "left": {104: "belongs to node002"},
}


def test_h14_bringing_up_says_what_was_done_on_each_node(reporting):
    answers = {
        "node001": {**BROUGHT, "now": "node001 is on NFS, 2 of 2 containers answer."},
        "node002": {"mounted": [], "vz": False, "started": [], "left": {}, "now": "node002 is on NFS."},
    }
    reporting.answers["ringfree_boot.bring_up"] = answers.get
    assert reporting("bring_up") == {
        "node001": "mounted /vz/nfsprivate, started vz, started containers 102, 101. Container 104 was not started: "
        "belongs to node002. node001 is on NFS, 2 of 2 containers answer.",
        "node002": "nothing to do. node002 is on NFS.",
    }
    reporting.asked.clear()
    reporting("bring_up", "node002")
    assert [nodes for _, nodes, _ in reporting.asked] == [["node002"]]


def test_h14_a_node_that_is_not_up_is_named_beside_those_that_are(reporting):
    failed = {"ret": "ERROR: 10.77.0.21:/rf-images/pbx is not mounted", "retcode": 1}
    done = {**BROUGHT, "now": "node001 is on NFS."}
    reporting.answers["ringfree_boot.bring_up"] = {"node001": done, "node002": failed}.get
    with pytest.raises(CommandExecutionError) as error:
        reporting("bring_up")
    assert "node001: mounted /vz/nfsprivate" in str(error.value)
    assert "node002: ERROR: 10.77.0.21:/rf-images/pbx is not mounted" in str(error.value)


@pytest.fixture
def owned(reporting):
    """Container 101 is node001's, down, and both nodes answer."""
    record = {
        "node": "node001",
        "store": "nfs",
        "since": "2026-02-26T02:10:00Z",
        "generation": "3",
        "copied": "0",
    }
    reporting.answers["ringfree_owner.records"] = lambda node: {101: record}
    reporting.answers["vz.running"] = lambda node: [102]
    reporting.answers["ringfree_owner.give"] = reporting.answers["ringfree_owner.take"] = lambda node: dict(
        record
    )
    reporting.record = record
    return reporting


def moved_by(master, *args, **kwargs):
    """What the nodes were told, or the words of the refusal when nothing was moved."""
    master.asked.clear()
    try:
        master("move_owner", *args, **kwargs)
    except CommandExecutionError as error:
        assert not [
            asked for asked in master.asked if asked[0] in ("ringfree_owner.give", "ringfree_owner.take")
        ]
        return str(error)
    return [asked for asked in master.asked if asked[0] in ("ringfree_owner.give", "ringfree_owner.take")]


def test_h12_a_container_is_handed_over_by_its_owner_and_taken_by_the_other(owned):
    assert moved_by(owned, 101, "node002") == [
        ("ringfree_owner.give", ["node001"], [101, "node002"]),
        ("ringfree_owner.take", ["node002"], [101]),
    ]


@pytest.mark.parametrize("where", ["node001", "node002"])
def test_h12_a_container_that_runs_anywhere_is_not_moved(owned, where):
    owned.answers["vz.running"] = lambda node: [101] if node == where else []
    assert f"container 101 runs on {where}: stop it there first" in moved_by(owned, 101, "node002")


def test_h12_an_owner_that_does_not_answer_is_not_robbed_unless_it_is_said_to_be_dead(owned):
    owned.answers["vz.running"] = {"node002": []}.get
    for words in ({}, {"dead": "node002"}):
        said = moved_by(owned, 101, "node002", **words)
        assert "it may run there" in said and "dead=node001" in said
    assert moved_by(owned, 101, "node002", dead="node001") == [
        ("ringfree_owner.take", ["node002"], [101, "node001"])
    ]


def test_h12_a_node_that_answers_is_not_dead(owned):
    assert "node001 answers, it is not dead" in moved_by(owned, 101, "node002", dead="node001")


def test_a_container_that_cannot_be_moved(owned):
    assert "not in ringfree:nodes" in moved_by(owned, 101, "node003")
    assert "'web' is no container id" in moved_by(owned, "web", "node002")
    assert "container 150 has no owner record" in moved_by(owned, 150, "node002")
    owned.record["node"] = "node002"
    assert moved_by(owned, 101, "node002") == [("ringfree_owner.take", ["node002"], [101])]
