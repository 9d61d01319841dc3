"""The runner ringfree: the fleet's lock, the questions to the nodes, the words for the operator."""

import concurrent.futures
import copy
import fcntl
import json
import os
import subprocess
import sys

import pytest
import ringfree_pillar
import salt.config
import salt.loader
from minion_without_daemons import PROJECT
from salt.exceptions import CommandExecutionError

PILLAR = {
    "nodes": ["node001", "node002"],
    "nfs": {"primary": "10.77.0.21", "secondary": "10.77.0.22"},
    "monitoring": {"host": "mon001", "services": ["nagios"]},
}


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
            answer = self.answers.get((function, node), self.answers.get(function))
            if callable(answer):
                answer = answer(node)
            if answer is not None:
                found[node] = (
                    answer
                    if isinstance(answer, dict) and "retcode" in answer
                    else {"ret": answer, "retcode": 0}
                )
        return found

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
    monkeypatch.setattr(module, "_say", made.said.append)
    monkeypatch.setattr("salt.client.get_local_client", lambda *args, **kwargs: made)
    monkeypatch.setattr("salt.utils.event.get_event", lambda *args, **kwargs: made.bus)
    monkeypatch.setattr(sys, "tracebacklimit", 1000, raising=False)
    return made


@pytest.fixture
def other():
    """Another process."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def hold(master, pid, born=None, what="migrate"):
    """A lock that a process holds."""
    born = master.module._born(pid) if born is None else born
    text = json.dumps({"pid": pid, "born": born, "user": "alice", "since": 1795350000.0, "what": what})
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
            "saltutil.sync_all": {},
            "saltutil.refresh_pillar": True,
            "service.get_all": ["nagios"],
            "cloudstor.preflight": lambda node: report(),
        }
    )
    master.answers["saltutil.sync_all"] = lambda node: {"ret": {}, "retcode": 0}
    return master


def findings(master):
    """What preflight finds."""
    with pytest.raises(CommandExecutionError) as error:
        master("preflight", pillar=PILLAR)
    first, *rest = str(error.value).splitlines()
    assert first.startswith(f"Preflight found {len(rest)} reasons not to migrate. Nothing was stopped")
    assert master("preflight", pillar=PILLAR, raises=False) == {"Error": str(error.value)}
    return [line.strip() for line in rest]


def test_a_fleet_that_is_fit(fit):
    notes = ["container layouts: simfs"]
    assert fit("preflight", pillar=PILLAR) == {"node001": notes, "node002": notes}


def test_findings_of_all_nodes_come_in_one_message(fit):
    fit.answers["cloudstor.preflight"] = lambda node: report([f"{node} is odd", "no rsync"])
    fit.answers["service.get_all"] = ["cron"]
    assert findings(fit) == [
        "node001: node001 is odd",
        "node001: no rsync",
        "node002: node002 is odd",
        "node002: no rsync",
        "mon001: there is no service nagios (ringfree:monitoring:services)",
    ]


def test_h16_a_node_that_does_not_answer_is_not_well(fit):
    del fit.answers["cloudstor.preflight"]
    fit.answers["cloudstor.preflight", "node001"] = report()
    assert findings(fit) == ["node002: does not answer: 'salt node002 test.ping'"]


def test_an_answer_that_is_no_report_is_a_finding(fit):
    fit.answers["cloudstor.preflight", "node002"] = {
        "ret": "'cloudstor.preflight' is not available.",
        "retcode": 254,
    }
    fit.answers["cloudstor.preflight", "node001"] = "odd"
    assert set(findings(fit)) == {"node002: 'cloudstor.preflight' is not available.", "node001: odd"}


def test_a_monitoring_host_that_does_not_answer_is_a_finding(fit):
    del fit.answers["service.get_all"]
    assert findings(fit) == ["mon001: does not answer: 'salt mon001 test.ping'"]


def test_what_two_nodes_have_twice_is_found(fit):
    here = {"101": container("PBX", "10.78.1.1"), "102": container("", "10.78.1.2")}
    there = {"101": container("other", "10.78.1.2"), "201": container("PBX"), "202": container("")}
    fit.answers["cloudstor.preflight"] = lambda node: report(containers=here if node == "node001" else there)
    assert findings(fit) == [
        "node001/101, node002/101: the same container id 101",
        "node001/101, node002/201: the same container name PBX",
        "node001/102, node002/101: the same IP address 10.78.1.2",
    ]


def test_room_on_the_san_is_counted_for_all_nodes_together(fit):
    fit.answers["cloudstor.preflight"] = lambda node: report(need=600 * 10**6, free=10**9)
    assert findings(fit) == ["the SAN has 1000 MB free and 1200 MB are needed"]


def test_nodes_that_are_not_on_nfs_yet(fit):
    fit.answers["cloudstor.state"] = lambda node: "nfs" if node == "node001" else "in_flight"
    assert fit("pending", ["node001", "node002"], PILLAR) == ["node002"]
    del fit.answers["cloudstor.state"]
    with pytest.raises(CommandExecutionError, match="node001: does not answer"):
        fit("pending", ["node001", "node002"], PILLAR)


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
