"""The runner ringfree: the fleet's lock, the questions to the nodes, the words for the operator."""

import concurrent.futures
import copy
import fcntl
import gc
import hashlib
import inspect
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ringfree_command
import ringfree_pillar
import ringfree_seal
import ringfree_version
import salt.config
import salt.loader
import salt.payload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["node001", "migrate", "04:30"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
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

    def run_job(self, nodes, function, tgt_type, timeout, listen):
        """What salt.client's run_job does; the answers are on its event bus, those of dead nodes never."""
        assert (tgt_type, listen) == ("list", True)
        self.asked.append((function, nodes, []))
        answers = {node: self.answer(function, node) for node in nodes}
        self.event = Returns(
            {"id": node, **(said if isinstance(said, dict) and "retcode" in said else {"return": said})}
            for node, said in answers.items()
            if said is not None
        )
        return {"jid": "20261130023000000000", "minions": nodes}


class Returns(list):
    """The event bus of a client that has asked something: what has returned, then silence."""

    def get_event(self, wait, tag, auto_reconnect):
        assert tag == "salt/job/20261130023000000000/ret/"
        if self:
            return self.pop(0)
        time.sleep(wait)
        return None


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
    opts["file_roots"] = {"base": [str(PROJECT / "salt")]}
    utils = salt.loader.utils(opts)
    runners = salt.loader.runner(opts, utils=utils)
    module = sys.modules[runners["ringfree.begin"].__module__]
    made = Master(runners, module)
    made.utils = utils
    made.lock = os.path.join(opts["cachedir"], "ringfree", "lock")
    made.said, made.bus = [], Bus()
    made.show = module._show
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
    write_lock(master, text)
    return text


def write_lock(master, text):
    os.makedirs(os.path.dirname(master.lock), mode=0o700, exist_ok=True)
    with open(master.lock, "w") as stream:
        stream.write(text)


# --- the lock -------------------------------------------------------------------------------------------------------


def test_begin_takes_the_lock_and_end_gives_it_back(master):
    master.answers["cloudstor.whereabouts"] = lambda node: f"{node} is on local storage."
    assert master("begin", pillar=PILLAR) == ["node001", "node002"]
    with open(master.lock) as stream:
        assert json.load(stream)["pid"] == os.getpid()
    assert set(master("end", pillar=PILLAR)) == {"node001", "node002"}
    assert not os.path.exists(master.lock)
    assert any("node002 is on local storage." in line for line in master.said)
    ((tag, data),) = master.bus.fired
    assert (tag, data["nodes"]) == (f"ringfree/end/{os.getpid()}", ["node001", "node002"])
    assert os.listdir(os.path.dirname(master.lock)) == ["lock.guard"]


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
    hold(master, other.pid, born=1)
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


@pytest.mark.parametrize("function", ["begin", "abort", "pause", "gate"])
def test_h18_nobody_is_held_up_by_who_does_not_let_the_lock_go(reporting, monkeypatch, function):
    """It is named after a while; no local user can be that one, as none enters the lock's folder."""
    reporting.answers["cloudstor.expect"] = lambda node: {
        "state": "local",
        "containers": 1,
        "confirmed": False,
    }
    monkeypatch.setitem(reporting.utils["ringfree_process.take"].__globals__, "PATIENCE", 0.1)
    os.makedirs(os.path.dirname(reporting.lock), mode=0o755, exist_ok=True)
    with open(f"{reporting.lock}.guard", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if function == "gate":
            assert reporting("gate", "node001", "presync") is True
        else:
            with pytest.raises(
                CommandExecutionError, match=r"the fleet's lock: .*guard is held by .*Nothing was touched"
            ):
                reporting(function)
    assert os.stat(os.path.dirname(reporting.lock)).st_mode & 0o777 == 0o700


def test_h18_what_the_lock_is_made_of_is_nobody_elses_to_open(master):
    before = os.umask(0)
    try:
        master("begin", pillar=PILLAR)
    finally:
        os.umask(before)
    folder = os.path.dirname(master.lock)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert {name: os.stat(f"{folder}/{name}").st_mode & 0o777 for name in os.listdir(folder)} == {
        "lock": 0o600,
        "lock.guard": 0o600,
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x", "born": 1}'])
def test_a_damaged_lock_holds_nothing(master, text):
    write_lock(master, text)
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
    for nodes, name in ((["node001", "node009"], "node009"), ("nodeX", "nodeX"), ([], "names no node")):
        with pytest.raises(CommandExecutionError, match=name):
            master("begin", pillar=PILLAR, nodes=nodes)
    assert master("begin", pillar=PILLAR, nodes="node002") == ["node002"]


# --- what is typed --------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "sync": (["node001"],), "begin": (), "end": (), "pause": (), "resume": (), "abort": (), "commit": ("node001",),
    "gate": ("node001", "presync"), "part": ("node001", "presync"), "watch": (), "silence": (["node001"],),
    "preflight": (), "plan": (),
    "wait_idle": (["node001"],), "consent": ("node001",), "consented": ("7f3a-91c2", ["node001"]),
    "failover_plan": ("secondary",), "failover_gate": ("node002", ["node001"]), "replication": (), "status": (),
    "help": (), "report": (), "bring_up": (), "move_owner": (101, "node002"),
}  # fmt: skip
NODES_WRONG = ["node009", "", 5, {}, [5], [], ["node001", "node009"], True, [["node001"]]]
NODE_WRONG = ["node009", "", 5, [], ["node001"], None, True]
YES_NO_WRONG = ["true", "false", 0, 1, [], {}]
#: Arguments that are wrong, by function and name; the others of a call are right.
WRONG = {
    **{
        (function, "nodes"): NODES_WRONG
        for function in (
            "begin", "end", "silence", "preflight", "plan", "wait_idle", "consented", "failover_plan", "replication",
            "status", "help", "report", "bring_up",
        )
    },
    **{(function, "node"): NODE_WRONG for function in ("commit", "gate", "part", "failover_gate")},
    **{
        (function, "pillar"): ["", "x", 5, [], {}, {**PILLAR, "batch": "2"}, {**PILLAR, "speed": 1}]
        for function in (
            "begin", "end", "gate", "part", "silence", "preflight", "wait_idle", "consented", "failover_plan",
            "failover_gate",
        )
    },
    **{
        (function, "raises"): YES_NO_WRONG + [None]
        for function in (
            "sync", "begin", "gate", "part", "silence", "preflight", "plan", "wait_idle", "consented", "failover_plan",
            "failover_gate",
        )
    },
    ("status", "all"): [*YES_NO_WRONG, None],
    ("sync", "minions"): ["node001", [], [5], ["a b"], None, {}],
    ("sync", "timeout"): ["60", 0, True, None],
    ("begin", "what"): ["", "highstate", None, True],
    ("begin", "deadline"): ["soon", 270, "", "24:00", "2026-02-30", True],
    ("gate", "part"): ["", "highstate", None, 1],
    ("part", "part"): ["", "highstate", None, 1],
    ("consented", "word"): [7, True, ["7f3a"], "a b"],
    ("failover_plan", "to"): ["third", "", None, 1, "node001"],
    ("failover_plan", "accept_age"): YES_NO_WRONG,
    ("failover_plan", "max_age"): ["60", 0, -1, True, []],
    ("failover_gate", "before"): ["node001", None, ["node009"], 5],
    ("move_owner", "ctid"): ["web", "", 0, -1, 2**31, "1e3", 1.5, True, None, [101]],
    ("move_owner", "to"): NODE_WRONG,
    ("move_owner", "dead"): ["a b", "", 5, True, ["node001"]],
}  # fmt: skip


@pytest.fixture
def typed(master, monkeypatch):
    """typed(function, *args, **kwargs): what a call is refused with; nobody may have been asked or told anything."""
    monkeypatch.setattr(master.module.salt.pillar, "get_pillar", lambda *args: Compiled())

    def call(function, *args, **kwargs):
        with pytest.raises(CommandExecutionError) as error:
            master(function, *args, **kwargs)
        assert (master.asked, master.said, master.bus.fired) == ([], [], [])
        assert not os.path.exists(master.lock)
        assert sys.tracebacklimit == 0, "salt-run would print a traceback"
        assert error.value.__suppress_context__, "salt-run would say everything twice"
        assert all(character.isprintable() or character == "\n" for character in str(error.value))
        return str(error.value)

    return call


class Compiled:
    """The master's own pillar."""

    def compile_pillar(self):
        return {"ringfree": copy.deepcopy(PILLAR)}


def test_every_function_that_can_be_typed_is_tried_here(master):
    public = {name.split(".")[1] for name in master.runners if name.startswith("ringfree.")}
    assert public == set(FUNCTIONS)
    arguments = {
        (function, argument)
        for function in FUNCTIONS
        for argument in inspect.getclosurevars(master.module.__dict__[function])
        .nonlocals["signature"]
        .parameters
    }
    assert arguments == {*WRONG, ("consent", "nodes")}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_argument_that_there_is_not_is_refused(typed, function):
    said = typed(function, *FUNCTIONS[function], **{"nodez\x1b": "x"})
    assert said.startswith(f"ringfree.{function} takes ") and "'nodez\\x1b'" in said
    assert said.endswith("Nothing was touched.")


@pytest.mark.parametrize("function", [function for function in FUNCTIONS if function != "consent"])
def test_an_argument_too_many_or_too_few_is_refused(typed, function):
    assert f"ringfree.{function} takes " in typed(function, *["node001"] * 9)
    if FUNCTIONS[function]:
        assert "missing a required argument" in typed(function)


@pytest.mark.walk
@pytest.mark.parametrize(
    ("function", "argument", "value"),
    [(*place, value) for place, values in WRONG.items() for value in values],
)
def test_h28_a_wrong_argument_is_refused_by_its_name(typed, master, function, argument, value):
    names = list(inspect.getclosurevars(master.module.__dict__[function]).nonlocals["signature"].parameters)
    arguments = {**dict(zip(names, FUNCTIONS[function], strict=False)), argument: value}
    said = typed(function, **arguments)
    key = {"pillar": "ringfree", "to": "node" if function == "move_owner" else "to"}.get(argument, argument)
    assert f"{key}:" in said and "othing was touched" in said


@pytest.mark.parametrize(
    "name", ["\x1b[2Jnode001", "node001\nnode002", "\u202enode001", "\udcff", "x" * 10000]
)
def test_a_name_that_would_trick_a_terminal_is_shown_escaped(typed, name):
    for call in (("status", name), ("consent", name), ("commit", name), ("move_owner", 101, name)):
        said = typed(*call)
        assert "not in ringfree:nodes of the pillar (node001, node002): '" in said and len(said) < 1000


def test_what_salt_adds_to_a_call_is_nothing_that_was_typed(master):
    master.answers["cloudstor.report"] = lambda node: []
    master.module.salt.pillar.get_pillar, before = (
        (lambda *args: Compiled()),
        master.module.salt.pillar.get_pillar,
    )
    try:
        assert master("report", __pub_user="root", __pub_jid="1").startswith("node  container")
    finally:
        master.module.salt.pillar.get_pillar = before


@given(
    arguments=st.dictionaries(
        st.sampled_from(["nodes", "pillar", "raises", "deadline", "what", "to"]), ANYTHING
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_h28_whatever_is_typed_takes_no_lock_unless_it_is_right(master, arguments):
    """`begin` is what an orchestration does first on its nodes."""
    try:
        answer = master("begin", **{"pillar": PILLAR, **arguments})
    except CommandExecutionError as error:
        answer = {"Error": str(error)}
    if isinstance(answer, dict):
        assert set(answer) == {"Error"} and not os.path.exists(master.lock)
    else:
        assert set(answer) <= set(PILLAR["nodes"])
        os.unlink(master.lock)


# --- preflight ------------------------------------------------------------------------------------------------------


VERSION = ringfree_version.of_project()
SHARES = {name: f"10.77.0.21:/rf-images/{name}" for name in ("private", "root", "conf")}


def report(findings=(), containers=None, need=0, free=10**9, shares=SHARES):
    """What a node's preflight returns."""
    return {
        "shares": shares,
        "findings": list(findings),
        "notes": ["container layouts: simfs"],
        "containers": containers or {},
        "need": {"bytes": need, "inodes": 0},
        "free": {"bytes": free, "inodes": 10**6},
        "version": VERSION,
        "loaded": dict(LOADED),
    }


#: What a minion says that has our modules as they are.
LOADED = {
    f"_{kind}/{path.name}": [str(path), hashlib.sha256(path.read_bytes()).hexdigest()]
    for kind in ("modules", "states", "utils")
    for path in sorted((PROJECT / f"_{kind}").glob("*.py"))
}


def container(name, *addresses, running=True, known=True):
    return {
        "name": name,
        "known_as": name if known and name else None,
        "ip": list(addresses),
        "running": running,
    }


@pytest.fixture
def fit(master):
    """A master whose fleet is fit to move."""
    master.answers.update(
        {
            **dict.fromkeys(master.module.NEWEST, True),
            "service.get_all": ["nagios"],
            "ringfree_preflight.look": lambda node: report(),
            "ringfree_preflight.salt_settings": {
                "findings": [],
                "notes": [],
                "version": VERSION,
                "loaded": dict(LOADED),
            },
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


@pytest.mark.parametrize("named", ["nagios.service", "nagios@main", "nagios@main.service"])
def test_a_service_may_be_named_as_systemd_names_it(fit, named):
    """Salt lists it without its suffix, and an instance by its template only."""
    fit.answers["service.get_all"] = ["cron", "nagios", "nagios@"]
    pillar = {**PILLAR, "monitoring": {"host": "mon001", "services": [named]}}
    assert fit("preflight", None, pillar)
    fit.answers["service.get_all"] = ["cron", "nagios-plugins"]
    with pytest.raises(CommandExecutionError, match=f"there is no service {named}"):
        fit("preflight", None, pillar)


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


def test_files_that_differ_between_nodes_of_one_conf_share_are_found_before_the_first_node_moves(fit):
    def confs(share="/rf-images/vzconf", **files):
        return {**report(), "confs": {"share": share, "files": files}}

    both = {"node001": confs(sample="a", scripts="x", one="1"), "node002": confs(sample="b", scripts="x")}
    fit.answers["ringfree_preflight.look"] = both.get
    (said,) = findings(fit)
    assert said.startswith(
        "sample differs between node001 and node002, which are to have the one conf share /rf-images"
    )
    assert "such as /rf-images/vzconf/{node})" in said
    both["node002"] = confs("/rf-images/vzconf/node002", sample="b")
    assert fit("preflight", pillar=PILLAR)
    both["node002"] = {**report(), "confs": {}}  # on NFS already
    assert fit("preflight", pillar=PILLAR)


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


def test_what_two_nodes_have_twice_is_found_with_what_would_come_of_it(fit):
    here = {"101": container("PBX", "10.78.1.1"), "102": container("", "10.78.1.2")}
    there = {"101": container("other", "10.78.1.2/24"), "201": container("PBX"), "202": container("")}
    fit.answers["ringfree_preflight.look"] = lambda node: report(
        containers=here if node == "node001" else there
    )
    starts = [
        "node001/101, node002/101: the same container id 101: the SAN has one place for both",
        "node001/101, node002/201: the same container name PBX: once the nodes share their confs",
        "node001/102, node002/101: the same IP address 10.78.1.2: both run, and after its stop one",
    ]
    found = findings(fit)
    assert len(found) == 3
    assert all(text.startswith(start) for text, start in zip(found, starts, strict=True)), found


def test_a_name_that_vzctl_does_not_use_may_be_there_twice(fit):
    """Two HOSTNAMEs, such as the templates' localhost.localdomain; a NAME without its link."""
    here = {"101": container("localhost", known=False), "102": container("localhost", known=False)}
    there = {"201": container("localhost", known=False), "202": container("PBX", known=False)}
    here["103"] = container("PBX")
    fit.answers["ringfree_preflight.look"] = lambda node: report(
        containers=here if node == "node001" else there
    )
    layouts = ["container layouts: simfs"]
    assert fit("preflight", None, PILLAR) == {"node001": layouts, "node002": layouts}


def test_an_address_that_a_spare_container_has_too_is_a_note(fit):
    here = {"101": container("", "10.78.1.1")}
    there = {"201": container("", "10.78.1.1", running=False)}
    fit.answers["ringfree_preflight.look"] = lambda node: report(
        containers=here if node == "node001" else there
    )
    said = "node001/101, node002/201: the same IP address 10.78.1.1; no more than one of them runs"
    notes = ["container layouts: simfs", said]
    assert fit("preflight", None, PILLAR) == {"node001": notes, "node002": notes}


def test_nodes_with_exports_of_their_own_share_no_ids_and_no_names(fit):
    fit.answers["ringfree_preflight.look"] = lambda node: report(
        containers={"101": container("PBX")},
        shares={name: f"{source}/{node}" for name, source in SHARES.items()},
    )
    assert fit("preflight", None, PILLAR)
    fit.answers["ringfree_preflight.look"] = lambda node: report(
        containers={"101": container("PBX")}, shares={**SHARES, "conf": f"{SHARES['conf']}/{node}"}
    )
    assert len(findings(fit)) == 1


def test_room_on_the_san_is_counted_for_all_nodes_together(fit):
    fit.answers["ringfree_preflight.look"] = lambda node: report(need=600 * 10**6, free=10**9)
    assert findings(fit) == ["the SAN 10.77.0.21 has 1000 MB free and 1200 MB are needed"]


def test_nodes_that_move_to_different_sans_do_not_share_their_room(fit):
    fit.answers["ringfree_preflight.look"] = lambda node: report(
        need=600 * 10**6,
        free=10**9,
        shares={**SHARES, "private": f"10.77.0.2{node[-1]}:/rf-images/private"},
    )
    assert fit("preflight", None, PILLAR)


def test_a_file_system_that_counts_no_inodes_has_enough(fit):
    fit.answers["ringfree_preflight.look"] = lambda node: {
        **report(),
        "need": {"bytes": 1, "inodes": 10**9},
        "free": {"bytes": 10**9, "inodes": None},
    }
    assert fit("preflight", None, PILLAR)


def test_monitoring_is_silenced_for_nodes_that_are_to_move(fit):
    """And for them only; a run over nodes that have moved leaves it alone."""
    states = {"a": {"result": True, "comment": "nagios was stopped"}}
    fit.answers["ringfree_journal.state"] = lambda node: "nfs" if node == "node001" else "in_flight"
    fit.answers["state.sls"] = lambda node: {"ret": states, "retcode": 0}
    assert fit("silence", ["node001"], PILLAR) == "Every node is on NFS: monitoring stays as it is."
    assert fit("silence", ["node001", "node002"], PILLAR) == "nagios was stopped"
    alone = {key: PILLAR[key] for key in ("nodes", "nfs")}
    assert fit("silence", ["node002"], alone) == "The pillar names no monitoring host."
    states["a"] = {"result": False, "comment": "nagios does not stop"}
    assert fit("silence", ["node002"], PILLAR, raises=False) == {"Error": "nagios does not stop"}
    fit.answers["state.sls"] = lambda node: {"ret": ["Pillar failed to render"], "retcode": 1}
    assert "Pillar failed to render" in fit("silence", ["node002"], PILLAR, raises=False)["Error"]
    del fit.answers["ringfree_journal.state"]
    with pytest.raises(CommandExecutionError, match="node001: does not answer"):
        fit("silence", ["node001", "node002"], PILLAR)


# --- the site's own Salt settings -----------------------------------------------------------------------------------


def test_h36_what_bends_a_run_is_found_with_everything_else(fit):
    """On the master, on a node and on the monitoring host; in one message."""
    conf = Path(fit.runners.opts["conf_file"]).with_name("master.d")
    conf.mkdir()
    (conf / "site.conf").write_text("# ours\ntimeout: 30\ndisabled_requisites: [onfail]\n")
    fit.runners.opts.update(disabled_requisites=["onfail"], default_include="master.d/*.conf")
    fit.answers["ringfree_preflight.look", "node002"] = report(["its minion sets state_queue"])
    fit.answers["ringfree_preflight.salt_settings"]["findings"] = ["its minion sets sudo_user"]
    master, node, monitor = findings(fit)
    assert master.startswith(f"{conf}/site.conf:3 sets disabled_requisites: ['onfail']. ")
    assert master.endswith("Remove it, then 'systemctl restart salt-master'")
    assert (node, monitor) == ("node002: its minion sets state_queue", "mon001: its minion sets sudo_user")


def test_h36_test_in_a_file_of_the_master_is_a_finding_and_typed_it_is_none(fit):
    fit.runners.opts["test"] = True
    assert fit("preflight", pillar=PILLAR)
    conf = Path(fit.runners.opts["conf_file"])
    conf.write_text("user: root\ntest: True\n")
    fit.runners.opts["conf_file"] = str(conf)
    (found,) = findings(fit)
    assert f"{conf}:2 sets test: True" in found


def roots(master, *folders):
    master.runners.opts["file_roots"] = {"base": [*map(str, folders)]}


def test_h36_a_file_of_the_same_name_in_another_root_is_a_finding(fit, tmp_path):
    """The one that comes first counts; the site's own files beside it, and those behind ours, are nobody's business."""
    for name in ("_modules/vz.py", "orch/parts.sls", "orch/web.sls", "top.sls", "_modules/pkgs.py"):
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text("")
    roots(fit, PROJECT / "salt", tmp_path / "site")
    assert fit("preflight", pillar=PILLAR)
    roots(fit, tmp_path / "site", PROJECT / "salt")
    found = findings(fit)
    assert [finding.split()[0] for finding in found] == ["salt://_modules/vz.py", "salt://orch/parts.sls"]
    assert f"comes from {tmp_path}/site/_modules/vz.py" in found[0] and f"{PROJECT}/salt:" in found[0]


def test_h36_a_minion_that_loads_another_file_in_the_place_of_ours_is_a_finding(fit):
    """A stale copy, one of its own in module_dirs, one that was not brought."""
    other = {**LOADED, "_modules/vz.py": ["/opt/salt/modules/vz.py", "0" * 64]}
    del other["_states/cloudstor.py"]
    fit.answers["ringfree_preflight.look", "node001"] = {**report(), "loaded": other}
    fit.answers["ringfree_preflight.salt_settings"]["loaded"] = {
        **LOADED, "_utils/ringfree_files.py": ["/x.py", "1"],
    }  # fmt: skip
    first, second, third = findings(fit)
    assert first.startswith(
        "node001: /opt/salt/modules/vz.py is loaded in the place of this project's _modules/vz.py"
    )
    assert second.startswith("node001: _states/cloudstor.py is not loaded there")
    assert third.startswith("mon001: /x.py is loaded in the place of this project's _utils/ringfree_files.py")


@pytest.mark.parametrize(("has", "said"), [("0.1.0", "version 0.1.0"), (None, "an older version")])
def test_h36_a_minion_with_another_version_is_one_finding(fit, has, said):
    """Not one for each of its files."""
    old = {name: [path, "0" * 64] for name, (path, _) in LOADED.items()}
    fit.answers["ringfree_preflight.look", "node001"] = {**report(), "version": has, "loaded": old}
    assert findings(fit) == [
        f"node001: has {said} of this project, the master {VERSION}: 'salt node001 saltutil.sync_all' brings it"
    ]


def test_h36_a_master_whose_own_modules_are_old_is_a_finding(fit, tmp_path):
    """Which it is, and how it gets the new ones."""
    shutil.copytree(PROJECT / "salt", tmp_path / "salt")  # with the modules, for the links to them
    file = tmp_path / "salt/_utils/ringfree_window.py"
    file.write_text(file.read_text() + "# newer\n")
    roots(fit, tmp_path / "salt")
    (found,) = findings(fit)
    assert found.startswith(
        f"{PROJECT}/_utils/ringfree_window.py is not _utils/ringfree_window.py as this master serves"
    )
    assert "'salt-run saltutil.sync_all'" in found


# --- a part, and what became of it ----------------------------------------------------------------------------------

DONE = {"a": {"__id__": "The confs are kept", "result": True, "comment": "Nothing to do."}}
LEFT = {"a": {"__id__": "The confs are kept", "result": None, "comment": "They would be kept."}}
BAD = {"a": {"__id__": "The confs are kept", "result": False, "comment": "the disk is full"}}


@pytest.fixture
def parts(at_work, monkeypatch):
    """parts(reply, ...): what the states of node001 say, run after run; None is an answer that was lost."""
    master = at_work([])
    master.answers["ringfree_journal.state"] = "nfs"
    master.ran = []
    known = master.cmd

    def cmd(nodes, function, arg, **options):
        if function == "state.sls":
            assert (arg, options["kwarg"]["saltenv"], options["kwarg"]["queue"]) == (
                [master.sls],
                "base",
                100,
            )
            master.ran.append("dry" if options["kwarg"]["test"] else "live")
            master.answers["state.sls"] = master.replies.pop(0)
        return known(nodes, function, arg, **options)

    monkeypatch.setattr(master, "cmd", cmd)

    def run(part, *replies):
        master.sls, master.replies, master.ran[:] = f"ringfree.{part}", list(replies), []
        said = master("part", "node001", part, pillar=PILLAR, raises=False)
        assert not master.replies
        return said

    run.master = master
    return run


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_answers_is_told_by_its_answer(parts, part):
    assert parts(part, DONE) == {"node001": DONE}
    assert parts(part, BAD) == {"Error": "the disk is full", "node001": BAD}
    assert "Pillar failed" in parts(part, {"ret": ["Pillar failed to render"], "retcode": 1})["Error"]


def test_h36_a_part_in_which_nothing_happened_has_failed(parts):
    """Whatever in the site's settings made its states say None, or left them out."""
    assert parts("cutover", LEFT)["Error"] == "They would be kept."
    assert "it ran no state of ringfree.cutover" in parts("cutover", {})["Error"]
    parts.master.answers["ringfree_journal.state"] = "in_flight"
    assert "the node is not committed" in parts("commit", DONE)["Error"]


@pytest.mark.parametrize("part", PARTS)
def test_h16_a_part_whose_answer_was_lost_is_told_by_the_node(parts, part):
    """Its update restarted the minion: the job is gone or done, and the node knows what is left."""
    assert parts(part, None, DONE) == {"node001": DONE}
    assert parts.master.ran == ["live", "dry"]
    assert parts(part, None, BAD)["Error"] == "the disk is full"


@pytest.mark.parametrize("part", PARTS)
def test_h16_what_is_left_of_a_part_whose_job_was_lost_is_done_while_all_containers_run(parts, part):
    before = part in ("presync", "packages", "prepare")
    said = parts(part, None, LEFT, *([DONE] if before else []))
    assert parts.master.ran == ["live", "dry", "live"][: 3 if before else 2]
    if before:
        assert said == {"node001": DONE}
    else:
        assert "the job of " + part + " was lost" in said["Error"] and "The confs are kept" in said["Error"]


def test_h16_a_part_is_not_tried_for_ever(parts):
    assert "was lost" in parts("packages", None, LEFT, None, LEFT)["Error"]
    assert parts.master.ran == ["live", "dry", "live", "dry"]


def test_h16_a_job_that_goes_on_without_an_answer_is_waited_for(parts):
    """The master gave up on it, the node has not: nothing is begun beside it."""
    left = [[job(1, "state.sls", "ringfree.cutover")]] * 500 + [[]]
    parts.master.answers["saltutil.is_running"] = lambda node: left.pop(0) if len(left) > 1 else left[0]
    assert parts("cutover", None, DONE) == {"node001": DONE}
    assert len(left) == 1


@pytest.mark.parametrize(("part", "least", "most"), [("prepare", 60, 70), ("cutover", 15, 20)])
def test_h16_a_node_that_stays_silent_fails_its_part(parts, part, least, most):
    """Soon, where containers may be down for it."""
    began = parts.master.module.time.monotonic()
    del parts.master.answers["saltutil.is_running"]
    assert parts(part, None)["Error"] == "node001: does not answer: 'salt node001 test.ping'"
    assert least <= parts.master.module.time.monotonic() - began <= most
    assert parts.master.ran == ["live"]


def job(jid, fun="state.highstate", *arg):
    return {"fun": fun, "jid": str(jid), "pid": 4711, "arg": list(arg)}


@pytest.fixture
def at_work(master, monkeypatch):
    """at_work(look, ...) has node001 answer with these lists of jobs, one after the other; time goes by in a moment."""
    clock = [1000.0]
    monkeypatch.setattr(master.module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(master.module.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    master.answers["ringfree_run.busy"] = lambda node: {}
    master.answers["ringfree_run.end_busy"] = lambda node: {}
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


def overview(**other):
    """What a node says of itself."""
    seen = {
        "name": "PBX",
        "running": True,
        "wanted": True,
        "store": "nfs",
        "ok": True,
        "why": "",
        "down_since": None,
    }
    return {
        "version": VERSION, "state": "nfs", "since": 1795350000.0, "san": "primary", "silent": [], "deadline": None,
        "deadman": "", "left": "", "faults": [], "containers": {101: seen}, **other,
    }  # fmt: skip


@pytest.fixture
def soon(reporting, monkeypatch):
    """A master that waits a moment for a dead node."""
    monkeypatch.setattr(reporting.module, "SCREEN", 0.2)
    return reporting


def test_the_status_is_a_screen_and_says_who_did_not_answer(soon):
    soon.answers["cloudstor.overview", "node001"] = overview()
    lines = soon("status").splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["node", "store"],
        ["node001", "NFS"],
        ["node002", "?"],
    ]
    assert "node002: does not answer within 0.2 s: 'salt node002 test.ping' says whether it lives" in lines
    assert not any("101" in line for line in lines)
    assert any("101" in line for line in soon("status", all=True).splitlines())


def test_a_status_for_programs_is_the_whole_structure(soon, monkeypatch):
    monkeypatch.setitem(soon.module.__opts__, "output", "json")
    soon.answers["cloudstor.overview"] = lambda node: overview()
    fleet = soon("status")
    assert fleet["format"] == 1 and list(fleet["nodes"]) == ["node001", "node002"]
    assert fleet["nodes"]["node002"]["containers"]["101"]["store"] == "nfs"


def test_the_help_is_for_the_state_that_the_fleet_is_in(soon):
    soon.answers["cloudstor.overview", "node001"] = overview(state="in_flight")
    said = soon("help")
    assert """salt-run state.orch rollback pillar='{"nodes": ["node001"]}'""" in said
    assert "salt -L node002 test.ping" in said


def test_a_status_names_the_run_that_holds_the_lock(soon, other):
    hold(soon, other.pid)
    soon.answers["cloudstor.overview"] = lambda node: overview()
    lines = soon("status").splitlines()
    assert "migrate by alice since" in lines[0]
    assert [line.split()[-1] for line in lines[3:5]] == ["migrate", "-"]


def test_a_status_waits_no_longer_than_it_says_whatever_comes_by(soon):
    """Events of others, and of nodes that were not asked, neither answer nor prolong it."""
    soon.answers["cloudstor.overview"] = lambda node: None
    strangers = [{"id": "node009", "return": overview()}, {"id": 7}, {}, None, "text"]
    before = soon.run_job

    def run_job(*args, **kwargs):
        job = before(*args, **kwargs)
        soon.event.extend(strangers)
        return job

    soon.run_job = run_job
    begun = time.monotonic()
    said = soon("status")
    assert time.monotonic() - begun < 5
    assert said.count("does not answer within") == 2 and "node009" not in said


# --- progress -------------------------------------------------------------------------------------------------------

TOLD = {"node": "node001", "step": "stop", "phase": "intent", "container": None, "note": None, "at": 0}


def progress(told, minion="node001", tag=None):
    """An event as the master hands it on: it says who sent it."""
    data = {"id": minion, "tag": "x", "cmd": "_minion_event", "data": told}
    return {"tag": tag or f"ringfree/progress/{minion}", "data": data}


@pytest.fixture
def watched(master, monkeypatch):
    """`watched(events)` is what is said while they come in, without the time of day."""
    monkeypatch.setattr(master.module, "_show", master.show)

    def watch(*events):
        incoming = iter(events)

        def get_event(**options):
            try:
                return next(incoming)
            except StopIteration:
                raise KeyboardInterrupt from None

        monkeypatch.setattr(master.bus, "get_event", get_event)
        master.said.clear()
        assert master("watch") is None
        return [line.split(" ", 1)[1] for line in master.said]

    return watch


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"note": "3 containers"}, "node001 stop ... 3 containers"),
        ({"phase": "verified", "container": 101}, "node001 stop 101 ok"),
        ({"step": "sync", "phase": "failed", "note": "full"}, "node001 sync FAILED full"),
        ({"phase": "done", "container": "node", "at": 1795350000.5}, "node001 stop node done"),
        ({"note": "a\x1b[2J\r\nb\u202e\udcff"}, r"node001 stop ... a\x1b[2J\r\nb\u202e\xff"),
        ({"step": "\x9b2J", "phase": "\n"}, r"node001 \x9b2J \n"),
        ({"note": "x" * 100000}, "node001 stop ... " + "x" * 2000),
    ],
)
def test_a_line_of_progress(watched, data, line):
    assert watched(progress({**TOLD, **data})) == [line]


ODD = [
    None,
    7,
    "text",
    [],
    {},
    {**TOLD, "node": "node002"},
    {key: value for key, value in TOLD.items() if key != "node"},
    {key: value for key, value in TOLD.items() if key != "step"},
    {key: value for key, value in TOLD.items() if key != "at"},
    *({**TOLD, "at": at} for at in ("yesterday", None, True, float("nan"), float("inf"), -1, 1e300, [0])),
    *({**TOLD, key: {"a": [1]}} for key in TOLD),
    {**TOLD, "node": "node001\n"},
    {**TOLD, "note": [["x"] * 1000]},
]


@pytest.mark.parametrize("told", ODD, ids=repr)
def test_an_event_that_is_none_is_ignored_and_counted(watched, told):
    (ignored, line) = watched(progress(told), progress(TOLD))
    assert ignored == "1 events were ignored that are not what a node says of itself, the last one as node001"
    assert line == "node001 stop ..."


def test_h29_a_node_speaks_of_itself_only(watched):
    """The master says who sent an event; its tag and what is in it are whatever the sender likes."""
    forged = [
        progress(TOLD, "node002", tag="ringfree/progress/node001"),
        progress({**TOLD, "node": "node002"}, tag="ringfree/progress/node002"),
        {"tag": "ringfree/progress/node001", "data": TOLD},
        {"tag": "ringfree/progress/node001", "data": "text"},
        {"tag": "ringfree/progress/", "data": {"id": "", "data": {**TOLD, "node": ""}}},
    ]
    said = watched(*forged[:4])
    assert said == ["1 events were ignored that are not what a node says of itself, the last one as node001"]
    assert len(watched(*forged[:4] * 25)) == 3, "1, 10 and 100"


def test_a_tag_that_would_trick_a_terminal_is_shown_as_text(watched):
    (said,) = watched(progress(None, tag="ringfree/progress/\x1b[2J" + "x" * 5000))
    assert len(said) < 3000
    assert said.isprintable()


def test_only_the_run_itself_ends_its_progress(master, monkeypatch):
    """A minion can send an event with any tag."""
    tag = f"ringfree/end/{os.getpid()}"
    events = [
        {"tag": tag, "data": data} for data in ({"nodes": []}, {"word": None}, {"word": "x"}, "text", None)
    ]
    events += [{"tag": tag, "data": {"word": "right"}}, "never read"]
    monkeypatch.setattr(master.bus, "get_event", lambda **options: events.pop(0))
    master.show({"sock_dir": ""}, "right")
    assert events == ["never read"]


def test_the_end_of_a_run_has_the_word_that_its_progress_waits_for(master, monkeypatch):
    given, over = [], threading.Event()
    monkeypatch.setattr(master.module, "_show", lambda opts, word: (given.append(word), over.wait(60)))
    master.answers["cloudstor.whereabouts"] = lambda node: f"{node} is on local storage."
    master("begin", pillar=PILLAR)
    master("end", pillar=PILLAR)
    over.set()
    assert master.bus.fired[0][1]["word"] == given[0]
    assert len(given[0]) == 32


# --- answers that are none --------------------------------------------------------------------------------------------


def deep(levels):
    """A list in a list, and so on."""
    value = []
    for _ in range(levels):
        value = [value]
    return value


def test_whatever_a_node_answers_is_shown_as_text(soon):
    soon.answers["cloudstor.overview", "node001"] = overview(faults=["a\u202eb"], deadman="\x1b[2J\udcff")
    soon.answers["cloudstor.overview", "node002"] = {"retcode": 1, "return": "it is\n\x1b[2Jbad"}
    said = soon("status")
    assert r"node001: a\u202eb" in said and r"node001: \x1b[2J\xff" in said
    assert "node002: it is\n\\x1b[2Jbad" in said


def test_an_answer_that_is_too_deep_is_a_fault(soon):
    soon.answers["cloudstor.overview", "node001"] = deep(5000)
    assert "node001: it answers what is too deep to be read" in soon("status")


@pytest.mark.parametrize("answer", ["text", 7, [], [7], [{}], {"a": 1}, [{"ctid": []}]], ids=repr)
@pytest.mark.parametrize(
    ("function", "asked", "arguments"),
    [
        ("report", "cloudstor.report", ()),
        ("replication", "ringfree_replica.status", ()),
        ("consent", "ringfree_cleanup.consent", ("node001",)),
        ("failover_plan", "ringfree_failover.look", ("secondary",)),
        ("bring_up", "cloudstor.bring_up", ()),
        ("preflight", "ringfree_preflight.look", ()),
    ],
)
def test_an_answer_of_another_kind_is_refused_in_a_sentence_or_shown(
    reporting, function, asked, arguments, answer
):
    reporting.answers[asked] = answer
    try:
        said = reporting(function, *arguments)
    except CommandExecutionError as error:
        said = str(error)
    assert "Traceback" not in str(said)


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
    reporting.answers["cloudstor.expect"] = lambda node: dict(reporting.told)
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
    assert (
        "deadline: must be a time such as '04:30'" in said
        and "not 'soon'" in said
        and "Nothing was touched" in said
    )
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
    lock = {**lock_of(master), "until": seconds and time.time() + seconds}
    with open(master.lock, "w") as stream:
        json.dump(lock, stream)


def test_h20_without_time_for_the_rest_and_the_way_back_no_part_begins(under_way):
    begin_with(under_way, 3500)
    assert under_way.module._settings()["window"]["reserve"] == 3600
    said = refused(under_way, "node001", "presync")
    assert "s are left until" in said and "take 3600 s" in said and "presync was not begun" in said
    begin_with(under_way, 3700)
    assert under_way("gate", "node001", "presync") is True
    assert [asked[2] for asked in under_way.asked if asked[0] == "cloudstor.expect"][-1] == [
        lock_of(under_way)["until"]
    ]


def test_h20_what_was_measured_counts_once_every_part_was(under_way):
    for part in PARTS:
        assert under_way("gate", "node001", part) is True
    begin_with(under_way, 60)
    assert under_way("gate", "node002", "packages") is True, "what was measured is quicker than the reserve"
    path = Path(under_way.lock).parent / "measured"
    measured = json.loads(path.read_text())["measured"]
    assert set(measured) == set(PARTS[:-1])
    measured["cutover"].append([50, 5])
    path.write_bytes(ringfree_seal.dump_json({"measured": measured}))
    assert "cutover was not begun" in refused(under_way, "node002", "cutover")


def test_h20_damaged_measurements_are_named_and_never_counted(under_way):
    for part in PARTS:
        assert under_way("gate", "node001", part) is True
    path = Path(under_way.lock).parent / "measured"
    whole = path.read_bytes()
    bad = whole.replace(b"5", b"4", 1)
    assert bad != whole
    for damage in (b"", b"{", whole[:-5], bad, b'{"measured": {"cutover": 7}}', b"[" * 100000):
        path.write_bytes(damage)
        begin_with(under_way, 60)
        said = refused(under_way, "node002", "cutover")
        assert f"{path} is damaged" in said and f"'rm {path}'" in said
        # Without a deadline nobody asks; what was damaged is not overwritten.
        begin_with(under_way, None)
        assert under_way("gate", "node002", "cutover") is True
        assert path.read_bytes() == damage
    path.unlink()
    begin_with(under_way, 3700)
    assert under_way("gate", "node002", "presync") is True


def test_h20_a_node_on_nfs_needs_no_time(under_way):
    begin_with(under_way, -5)
    under_way.told["state"] = "nfs"
    assert under_way("gate", "node001", "presync") is True


def test_a_node_that_does_not_answer_gets_no_leave(under_way):
    del under_way.answers["cloudstor.expect"]
    assert "node001: does not answer" in refused(under_way, "node001", "presync")


# --- confirmation -----------------------------------------------------------------------------------------------------


def test_a_manual_commit_waits_for_the_word(under_way):
    under_way.module._settings().update(confirm="manual", confirm_within=60)
    under_way.told["state"] = "in_flight"
    answers = iter([False, False, True])
    under_way.answers["cloudstor.confirmed"] = lambda node: next(answers)
    assert under_way("gate", "node001", "commit") is True
    assert any("'salt-run ringfree.commit node001' keeps it there" in line for line in under_way.said)


def test_a_word_that_does_not_come_in_time_takes_the_node_back(under_way):
    under_way.module._settings().update(confirm="manual", confirm_within=1)
    under_way.told["state"] = "in_flight"
    under_way.answers["cloudstor.confirmed"] = lambda node: False
    said = refused(under_way, "node001", "commit")
    assert "nobody said 'salt-run ringfree.commit node001' within 1 s" in said


def test_h20_nobody_waits_for_a_word_longer_than_the_deadline(under_way):
    under_way.module._settings().update(confirm="manual", confirm_within=3600)
    under_way.told["state"] = "in_flight"
    under_way.answers["cloudstor.confirmed"] = lambda node: False
    begin_with(under_way, 1)
    # What is left of the second is told in whole seconds, and on a busy machine none may be.
    assert re.search(r"within [01] s", refused(under_way, "node001", "commit"))


def test_h20_nothing_is_committed_after_the_deadline(under_way):
    under_way.told["state"] = "in_flight"
    begin_with(under_way, 5)
    assert under_way("gate", "node001", "commit") is True
    begin_with(under_way, -5)
    said = refused(under_way, "node001", "commit")
    assert "has passed; commit was not begun" in said


def test_the_word_is_given_to_the_run_or_commits_at_once(reporting):
    reporting.answers["cloudstor.confirm"] = lambda node: f"{node} is confirmed by alice"
    reporting.answers["state.sls"] = lambda node: {"a": {"result": True, "comment": "", "__run_num__": 0}}
    reporting.answers["cloudstor.whereabouts"] = lambda node: f"{node} is on NFS, 5 of 5 containers answer."
    assert reporting("commit", "node001") == "node001 is on NFS, 5 of 5 containers answer."
    assert ("state.sls", ["node001"], ["ringfree.commit"]) in reporting.asked
    reporting.asked.clear()
    reporting("begin")
    assert reporting("commit", "node001") == "node001 is confirmed by alice"
    assert [asked[0] for asked in reporting.asked] == ["cloudstor.confirm"]


def test_a_commit_that_fails_says_why(reporting):
    reporting.answers["cloudstor.confirm"] = lambda node: f"{node} is confirmed by alice"
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


@pytest.mark.parametrize(("nodes", "fault"), [((), "names no node"), (("node077",), "not in ringfree:nodes")])
def test_h30_a_consent_names_its_nodes(cleanup, nodes, fault):
    with pytest.raises(CommandExecutionError, match=fault):
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
    reporting.answers["cloudstor.bring_up"] = answers.get
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
    reporting.answers["cloudstor.bring_up"] = {"node001": done, "node002": failed}.get
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
    assert "ctid: must be a container id, not 'web'" in moved_by(owned, "web", "node002")
    assert "container 150 has no owner record" in moved_by(owned, 150, "node002")
    owned.record["node"] = "node002"
    assert moved_by(owned, 101, "node002") == [("ringfree_owner.take", ["node002"], [101])]


# --- what Salt adds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logger", "noise"),
    [
        ("salt.runner", "unclosed Runner <salt.runner.Runner object at 0x7f>; call ``destroy()``"),
        (
            "salt.minion",
            "unclosed MasterMinion <salt.minion.MasterMinion object at 0x7f>; call ``destroy()``",
        ),
        (
            "salt.loaded.int.output.highstate",
            "Data passed to highstate outputter is not a valid highstate return: {}",
        ),
        ("salt.state", "{'return': {'Error': 'Preflight found 5 reasons'}}"),
    ],
)
def test_what_is_nobodys_fault_is_not_said_and_all_else_is(master, caplog, logger, noise):
    """The runner is loaded, which is when its filters are set."""
    with caplog.at_level("WARNING", logger=logger):
        logging.getLogger(logger).warning("%s", noise)
        logging.getLogger(logger).error("a fault: %s", noise)
    assert [record.getMessage() for record in caplog.records if record.name == logger] == [
        f"a fault: {noise}"
    ]


def test_on_a_terminal_the_last_words_are_ours(master, monkeypatch, capsys):
    """What was said before Salt's own output is said once more below it, as much as a screen shows."""
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda function, *args: at_exit.append((function, args)))
    monkeypatch.setattr(master.module, "_say", lambda text: sys.stderr.write(f"{text}\n"))
    monkeypatch.delattr(threading.main_thread(), master.module.LAST_WORDS, raising=False)
    master.module._say_last("nobody looks")
    assert at_exit == []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    master.module._refuse("Preflight found 2 reasons\n  one\n  two", raises=False)
    master.module._say_last("node001 was not touched")
    ((function, args),) = at_exit
    capsys.readouterr()
    function(*args)
    assert capsys.readouterr().err == "\nPreflight found 2 reasons\n  one\n  two\nnode001 was not touched\n"
    function([str(number) for number in range(100)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + master.module.LAST_LINES and "86 lines more" in lines[-1]
    monkeypatch.delattr(threading.main_thread(), master.module.LAST_WORDS)
