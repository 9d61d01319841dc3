"""A minion without daemons: modules, states and SLS of the project through Salt's own loader."""

import copy
import os
import shutil
import stat

import pytest
from fake_node import SECOND, SERVER, FakeNode
from minion_without_daemons import Minion, make_opts


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


@pytest.fixture
def fake_bin(tmp_path, monkeypatch):
    """fake_bin("vzctl", "exit 9") puts an executable first in PATH and returns its path; sh, or what #! says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name, text="exit 0"):
        path = folder / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return path

    return make


#: Constants of modules that name places on a node.
PLACES = {
    "vz.status": {
        "VZ_CONF": "etc/vz/vz.conf",
        "CONF_DIR": "etc/vz/conf",
        "MANIFEST": "etc/ringfree/manifest.tmp",
        "MOUNTINFO": "proc/mountinfo",
    },
    "cloudstor.journal": {
        "STATE_DIR": "var",
        "JOURNAL": "var/journal.json",
        "CONF_DIR": "etc/vz/conf",
        "SNAPSHOT": "etc/sysconfig/vz-scripts.tar.gz",
        "SNAPSHOT_VZ_CONF": "etc/vz/vz.conf.before-nfs",
    },
    "ringfree_guard.fence": {
        "FENCE": "etc/vz/conf/vps.premount",
        "CREATE_FENCE": "etc/vz/conf/vps.create",
        "NODE_FILE": "etc/ringfree/node",
    },
    "ringfree_owner.records": {"STATE_DIR": "var", "ON_NFS": "etc/ringfree/on-nfs"},
    "ringfree_preflight.look": {"CONF_DIR": "etc/vz/conf"},
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
        "PROC": "proc",
    },
    "ringfree_boot.waiting": {
        "MARKS": "var/vzreboot",
        "BOOT_SET": "var/boot-set",
        "DROP_IN": "etc/systemd/system/vz.service.d/ringfree.conf",
        "INIT_SCRIPT": "etc/init.d/ringfree",
    },
    "ringfree_revert.plan": {"CHANGED": "var/changed", "FSTAB": "etc/fstab", "PROC": "proc"},
    "ringfree_cleanup.plan": {"RECORD": "var/cleanup.json", "CONSENT": "run/consent.json", "PROC": "proc"},
    "ringfree_replica.records": {"STATE_DIR": "var/replica", "RUN_DIR": "run"},
    "ringfree_failover.look": {"FSTAB": "etc/fstab", "PROC": "proc"},
    "ringfree_run.holder": {"ORDERS": "run/orders.json", "HOLDER": "run/holder.json"},
    "ringfree_monitoring.record": {"RECORD": "var/monitoring.json"},
}


@pytest.fixture
def fake_node(tmp_path_factory, fake_bin, minion, monkeypatch):
    """
    An OpenVZ node without containers; `add` makes them.

    fake_node.minion(test=True) has the project's modules loaded for it, with fake_node.pillar as it is then; what they
    tell the master is in fake_node.told, services in fake_node.services.
    """
    # Always in the same place, so that what one test prepared can be another one's start.
    place = tmp_path_factory.getbasetemp() / "nodes"
    shutil.rmtree(place / "node", ignore_errors=True)
    node = FakeNode(place / "node", fake_bin)
    monkeypatch.setattr("os.fsync", lambda handle: None)  # nobody pulls the plug here
    monkeypatch.setattr("salt.utils.systemd.booted", lambda context: node.systemd)
    mount = {share: str(node.folder / "vz" / f"nfs{share}") for share in ("private", "root")}
    node.pillar = {
        "nodes": ["node001", "node002"],
        "nfs": {"primary": SERVER, "secondary": SECOND},
        "shares": {
            "private": {"mount": mount["private"]},
            "root": {"mount": mount["root"]},
            "conf": {"mount": str(node.folder / "etc/sysconfig/vz-scripts")},
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
    loaded = {}

    def load(test=False):
        key = (test, repr(node.pillar))
        if key not in loaded:
            loaded[key] = make(test)
        return loaded[key]

    def make(test):
        made = minion(test=test, pillar={"ringfree": node.pillar})
        for function, places in PLACES.items():
            if function not in made.modules:
                continue  # a node without vzctl
            for constant, place in places.items():
                monkeypatch.setattr(made.module_of(function), constant, str(node.folder / place))
        made.modules["event.send"] = lambda tag, data: node.told.append((tag, data))
        made.modules["service.status"] = service
        made.modules["service.start"] = lambda name: node.start(name)
        made.modules["service.stop"] = lambda name: not service(name, False)
        made.modules["service.restart"] = lambda name: node.restart(name)
        return made

    node.minion = load
    return node


@pytest.fixture
def fleet(fake_node):
    """A node with the containers that most tests need: three that run and one that was stopped on purpose."""
    fake_node.add(101, "Four Seasons hospice")
    fake_node.add(102, "PBX")
    fake_node.add(103, "Epsilon", running=False)
    fake_node.add(104, "revnat")
    return fake_node
