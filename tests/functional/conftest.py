"""A minion without daemons: modules, states and SLS of the project through Salt's own loader."""

import copy
import functools
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
import unconfined
from fake_node import SECOND, SERVER, FakeNode
from left_behind import LeftBehind
from left_points import FSTAB, POINTS, local_side
from migration_steps import until
from minion_without_daemons import KeptMinion, Minion, make_opts


@pytest.fixture
def minion_opts(tmp_path):
    """Settings of a minion that lives in a temporary directory, with the project's file and pillar roots."""
    return make_opts(tmp_path / "minion")


@pytest.fixture
def minion(minion_opts):
    """minion(opts=..., pillar=..., grains=..., test=True) makes a Minion; all arguments are optional."""

    def make(opts=None, pillar=None, grains=None, test=False):
        mine = copy.deepcopy(minion_opts)
        mine.update(opts or {})
        mine["grains"].update(grains or {})
        mine["pillar"] = copy.deepcopy(pillar or {})
        mine["test"] = test
        mine["id"] = mine["grains"]["id"]
        return Minion(mine)

    return make


@pytest.fixture(params=[False, True], ids=["live", "test-mode"])
def test_mode(request):
    """For what must hold both ways: `assert (ret["result"] is None) is test_mode`."""
    return request.param


@pytest.fixture(scope="session")
def nodes():
    """A directory for fake nodes; in memory where that can be, because they are made and removed all the time."""
    with tempfile.TemporaryDirectory(
        prefix="nodes_", dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None
    ) as folder:
        yield Path(folder)


@pytest.fixture
def fake_bin(nodes, monkeypatch):
    """fake_bin("vzctl", "exit 9") puts an executable first in PATH and returns its path; sh, or what #! says."""
    folder = nodes / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{PATH}")

    def make(name, text="exit 0"):
        path = folder / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return path

    return make


IN_MEMORY = "/dev/shm"
#: As the machine has it: the tests of another folder put programs there for the whole session.
PATH = os.environ["PATH"]

#: Constants of modules that name places on a node.
PLACES = {
    "vz.status": {
        "VZ_CONF": "etc/vz/vz.conf",
        "CONF_DIR": "etc/vz/conf",
        "NAMES": "etc/vz/names",
        "MANIFEST": "etc/ringfree/manifest.tmp",
        "MOUNTINFO": "proc/mountinfo",
    },
    "ringfree_journal.read": {"JOURNAL": "var/journal.json"},
    "ringfree_confs.conf_share": {"STATE_DIR": "var"},
    "ringfree_guard.fence": {"NODE_FILE": "etc/ringfree/node"},
    "ringfree_owner.records": {"STATE_DIR": "var", "ON_NFS": "etc/ringfree/on-nfs"},
    "ringfree_writes.faults": {"ROOT": ""},
    "ringfree_mentions.old_places": {"ROOT": ""},
    "ringfree_san.names": {"STATE_DIR": "var", "RUN_DIR": "run"},
    "ringfree_nfs.variables": {
        "FOLDER": "etc/ringfree",
        "PROBE": "run/probe",
        "PROC": "proc",
    },
    "ringfree_deadman.armed": {
        "FOLDER": "var/deadman",
        "REHEARSAL_FOLDER": "var/deadman-rehearsal",
        "UNITS": "etc/systemd/system",
        "PASSING_UNITS": "run/systemd/system",
        "CRON": "etc/cron.d",
    },
    "ringfree_boot.waiting": {
        "MARKS": "var/vzreboot",
        "BOOT_SET": "var/boot-set",
        "DROP_IN": "etc/systemd/system/vz.service.d/ringfree.conf",
        "INIT_SCRIPT": "etc/init.d/ringfree",
        "RUNLEVELS": "etc/rc[2-5].d",
    },
    "ringfree_rollback.plan": {
        "CHANGED": "var/changed",
        "FSTAB": "etc/fstab",
    },
    "ringfree_cleanup.plan": {"RECORD": "var/cleanup.json", "CONSENT": "run/consent.json", "PROC": "proc"},
    "ringfree_replica.records": {"STATE_DIR": "var/replica", "RUN_DIR": "run"},
    "ringfree_failover.look": {"FSTAB": "etc/fstab", "PROC": "proc"},
    "ringfree_fingerprint.look": {"PROC": "proc", "INITS": "proc/vepid", "RECORD": "var/fingerprints.json"},
    "ringfree_run.holder": {
        "ORDERS": "run/orders.json",
        "HOLDER": "run/holder.json",
        "COMMANDS": "run/commands",
        "AT_WORK": "run/deadman",
    },
    "ringfree_monitoring.record": {"RECORD": "var/monitoring.json"},
}


@pytest.fixture
def layout():
    """Where a fake node has its confs, see LAYOUTS; a test that is parametrized with `layout` gets another one."""
    return "redhat"


@pytest.fixture
def fake_node(nodes, fake_bin, kept_minion, monkeypatch, layout):
    """
    An OpenVZ node without containers; `add` makes them.

    fake_node.minion(test=True) has the project's modules loaded for it, with fake_node.pillar as it is then; what they
    tell the master is in fake_node.told, services in fake_node.services.
    """
    # Always in the same place, so that what one test prepared can be another one's start.
    shutil.rmtree(nodes / "node", ignore_errors=True)
    node = FakeNode(nodes / "node", fake_bin, layout)
    monkeypatch.setattr("os.fsync", lambda handle: None)  # nobody pulls the plug here
    monkeypatch.setattr("tempfile.tempdir", str(nodes))  # each command has files there
    monkeypatch.setattr("salt.utils.systemd.booted", lambda context: node.systemd)
    mount = {share: str(node.folder / "vz" / f"nfs{share}") for share in ("private", "root")}
    node.pillar = {
        "nodes": ["node001", "node002"],
        "nfs": {"primary": SERVER, "secondary": SECOND},
        "shares": {
            "private": {"mount": mount["private"]},
            "root": {"mount": mount["root"]},
            "conf": {},
        },
        "ssh": {
            "key": str(node.folder / "etc/ringfree/ssh/id_ed25519"),
            "known_hosts": str(node.folder / "etc/ringfree/ssh/known_hosts"),
        },
        "containers": {
            "priority": ["PBX"],
            "exempt": {"revnat": ["asterisk"]},
            "checks": {
                "asterisk": {"exec": ["asterisk", "-rx", "core show version"], "expect": r"^Asterisk \S+"},
                "init": {"exec": ["echo", "alive"], "expect": "^alive$"},
            },
        },
        "start": {"load_per_cpu": 1000, "pace": 0, "load_wait": 0, "answer": 1},
    }

    def service(name, to=None):
        if to is not None:
            node.services[name] = to
        return node.services.get(name, False)

    node.restart = node.start = lambda name: service(name, True)
    used = []

    def load(test=False):
        made = kept_minion(node.folder, frozenset(os.listdir(node.bin)), test)
        if made not in used:
            used.append(made)
            made.as_loaded()
            made.modules["event.send"] = lambda tag, data: node.told.append((tag, data))
            made.modules["service.status"] = service
            made.modules["service.start"] = lambda name: node.start(name)
            made.modules["service.stop"] = lambda name: not service(name, False)
            made.modules["service.restart"] = lambda name: node.restart(name)
        made.give({"ringfree": copy.deepcopy(node.pillar)})
        return made

    node.minion = load
    return node


@pytest.fixture(scope="session")
def kept_minion(nodes):
    """kept_minion(folder, programs, test) is a minion on the fake node there, loaded once for all tests."""

    @functools.cache
    def load(folder, programs, test):
        opts = make_opts(Path(tempfile.mkdtemp(dir=nodes)) / "minion")
        opts["test"] = test
        return KeptMinion(opts, f"salt.kept{load.cache_info().misses}", lambda made: _move(made, folder))

    return load


def _move(minion, folder):
    """Give a minion its places on a fake node."""
    for function, places in PLACES.items():
        if function not in minion.modules:
            continue  # a node without vzctl
        for constant, place in places.items():
            names = minion.modules[function].__globals__
            assert constant in names
            names[constant] = str(folder / place)
    # The programs of a fake node need the whole machine.
    minion.utils["ringfree_confine.command"] = unconfined.command
    keep = minion.modules["ringfree_keep.modes"].__globals__
    kept = (pattern.replace("/var/lib/ringfree", "/var") for pattern in keep["KEPT"])
    keep["KEPT"] = tuple(f"{folder}{pattern}" for pattern in kept)
    minion.utils["ringfree_command.run"].__globals__["RECORDS"] = str(folder / "run/commands")
    # The whole node may lie below /dev, where no share of a real one is mounted.
    pillar = minion.utils["ringfree_pillar.validate"].__globals__
    pillar["NO_PLACE"] = tuple(place for place in pillar["NO_PLACE"] if place != "/dev")


@pytest.fixture
def fleet(fake_node):
    """A node with the containers that most tests need: three that run and one that was stopped on purpose."""
    fake_node.add(101, "Four Seasons hospice")
    fake_node.add(102, "PBX")
    fake_node.add(103, "Epsilon", running=False)
    fake_node.add(104, "revnat")
    return fake_node


@pytest.fixture
def moved(fleet):
    """moved(point) brings the fleet's node that far; fleet.before is its local side as it was."""
    (fleet.folder / "etc/fstab").write_text(FSTAB)
    fleet.before = local_side(fleet)

    def go(point):
        state, arguments = POINTS[point]
        until(fleet, state, **arguments)
        with (fleet.folder / "etc/fstab").open("a") as stream:
            stream.write(
                "# ringfree: mounts of the SAN, managed by Salt\nx /y nfs hard 0 0\n# ringfree: end\n"
            )
        return fleet

    return go


@pytest.fixture
def left(fleet, tmp_path):
    """left("rsync", ...) is a command of the fleet's node whose job was killed; see LeftBehind."""
    (tmp_path / "left").mkdir()
    made = LeftBehind(tmp_path / "left", fleet.folder / "run/commands")
    for name in ("rsync", "vzctl"):
        made.program(name, made.never)
    yield made
    made.end()


@pytest.fixture
def decoy():
    """decoy("rsync", ...) is a process of the host with these words, with an older version's mark; returns its id."""
    begun = []

    def make(*words):
        argv = ["sh", "-c", "while :; do sleep 600; done", *words]
        begun.append(
            subprocess.Popen(argv, env={**os.environ, "RINGFREE_COMMAND": "1"}, start_new_session=True)
        )
        return begun[-1].pid

    yield make
    for process in begun:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
