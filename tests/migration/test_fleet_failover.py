"""H27, H13, H02: the fleet goes from one SAN to the other and back, first in order and then because the primary dies.

One lab; the tests stand in the order of the story."""

import base64
import json

import checker
import pytest
import records
from fleet_under_test import Overlay, migrate
from lab_client import wait_for

FLEET = {"nodes": 2, "cts": 2}
MINUTES = 5
NODES = ("node001", "node002")
CTIDS = (101, 102, 201, 202)
ADDRESS = {"san1": "10.77.0.21", "san2": "10.77.0.22"}
BESIDE = "the SAN has .ringfree in vzconf"  # what a replication writes there


def declare(lab, copies):
    """A pillar in which node001 replicates when it is told to; by itself, or by telling the SAN in use to do it."""
    Overlay(lab).write(
        "init",
        (
            "  packages:\n    node: true\n    containers: true",
            "  packages:\n    node: false\n    containers: false",
        ),
        ("    node: ''", "    node: node001"),
        ("    every: 900", "    every: 1800"),
        ("    from: node", f"    from: {copies}"),
    )


@pytest.fixture(scope="module")
def before(lab):
    """The fleet on NFS."""
    declare(lab, copies="node")
    text = lab.on("master", "cat", "/srv/ringfree/pillar/ringfree/node001.sls")
    text = text.replace("      - Epsilon\n", "")
    text = text.replace("      revnat: [asterisk]\n      revnat beta: [asterisk]", "      PBX: [postfix]")
    lab.write("master", "/srv/lab-pillar/ringfree/node001.sls", text)
    found = checker.remember(lab, NODES)
    run = migrate(lab)
    assert run.code == 0, str(run)
    return found


def failover(lab, to, **pillar):
    """Run a failover of the fleet; returns exit code and what it said."""
    command = lab.start("salt-run", "state.orch", "failover", "pillar=" + json.dumps({"to": to, **pillar}))
    return command.wait(), command.err


def faults(lab, before, san, monkeypatch):
    """What is not as it must be when the fleet runs from a SAN."""
    address = ADDRESS[san]
    monkeypatch.setattr(checker, "SAN", san)
    monkeypatch.setattr(checker, "SERVER", address)
    monkeypatch.setitem(checker.VARIABLES, "nfs", address)
    return [fault for fault in checker.faults(lab, before) if fault != BESIDE]


def streams(lab, san):
    """The records of all containers as they lie on a SAN, to the last whole line."""
    paths = {ctid: f"/rf-images/pbx/{ctid}/{checker.RECORDS}" for ctid in CTIDS}
    found = lab.ask(san, checker.READ, *paths.values())
    data = {ctid: base64.b64decode(found[path]) for ctid, path in paths.items()}
    return {ctid: text[: text.rfind(b"\n") + 1] for ctid, text in data.items()}


def test_the_scheduler_makes_the_copy_and_its_age_is_seen(lab, before, monkeypatch):
    """Nothing is known of a copy; then Salt's own scheduler makes one of both nodes; one that is too old is refused."""
    code, said = lab.salt_run("ringfree.replication")
    assert code == 1, said
    assert "secondary (10.77.0.22) holds no complete copy of containers 101, 102." in said
    # Before the schedule is there: Salt runs a new job at once, and that copy may be the one that is seen.
    lab.write("san2", "/rf-images/pbx/999/etc/foreign", "of nobody")
    lab.write("san2", "/rf-images/pbx/101/etc/gone", "to be deleted")
    lab.must("salt", "-L", ",".join(NODES), "state.sls", "ringfree.replicated")
    assert "ringfree_replication" not in lab.on("node002", "sh", "-c", "cat /etc/salt/minion.d/*")
    lab.must("salt", "node001", "schedule.run_job", "ringfree_replication")
    wait_for(lambda: lab.salt_run("ringfree.replication")[0] == 0, "the first copy", 120)
    left = lab.on(
        "san2", "sh", "-c", "cd /rf-images/pbx; find 999 101/etc/gone -type f 2>/dev/null; rm -r 999"
    )
    assert left.split() == ["999/etc/foreign"]
    code, said = failover(lab, "secondary", max_age=1)
    assert code == 1, said
    assert (
        "allowed are 1 s (ringfree:replication:max_age). Copy first: 'salt node001 ringfree_replica." in said
    )
    assert faults(lab, before, "san1", monkeypatch) == []


def test_there_in_order_and_nothing_is_lost(lab, before, monkeypatch):
    """Both SANs live: every record of every container is on the other one, and goes on there."""
    code, said = failover(lab, "secondary")
    assert code == 0, said
    assert said.count("nothing is lost") == 4, said
    assert faults(lab, before, "san2", monkeypatch) == []
    left, now = streams(lab, "san1"), streams(lab, "san2")
    for ctid in CTIDS:
        assert records.verify(left[ctid]).boots[-1].stopped
        assert records.follows(left[ctid], now[ctid]) and len(now[ctid]) > len(left[ctid])
    _, told = lab.salt("node001", "cloudstor.status", "--out=json")
    assert "secondary (10.77.0.22) is in use, the pillar says primary" in told


def test_back_in_order_once_the_other_way_was_copied(lab, before, monkeypatch):
    """H02: the primary's copy is from before the switch and is refused."""
    code, said = failover(lab, "primary")
    assert code == 1, said
    assert "primary (10.77.0.21) holds no complete copy of containers 101, 102 made from secondary" in said
    lab.must("salt", "node001", "ringfree_replica.replicate")
    code, said = failover(lab, "primary", at_once=True)
    assert code == 0, said
    assert faults(lab, before, "san1", monkeypatch) == []
    assert all(
        records.follows(data, streams(lab, "san1")[ctid]) for ctid, data in streams(lab, "san2").items()
    )


def test_the_san_itself_copies_and_fetches_what_was_written_last(lab, before, monkeypatch):
    """As the pillar wants it: no byte passes through a node, and nothing is lost all the same."""
    declare(lab, copies="san")
    lab.must("salt", "node001", "saltutil.refresh_pillar", "wait=True")
    lab.write("san1", "/rf-images/pbx/101/etc/by-the-san", "fresh")
    lab.on("san1", "mv", "/root/.ssh/known_hosts", "/root/.ssh/away")
    try:
        code, said = lab.salt("node001", "ringfree_replica.replicate")
    finally:
        lab.on("san1", "mv", "/root/.ssh/away", "/root/.ssh/known_hosts")
    assert code and "the SAN's host key is not the pinned one" in said, said
    lab.must("salt", "node001", "ringfree_replica.replicate")
    assert lab.on("san2", "cat", "/rf-images/pbx/101/etc/by-the-san") == "fresh"
    for san, other in (("secondary", "san1"), ("primary", "san2")):
        code, said = failover(lab, san, accept_age=True)
        assert code == 0, said
        assert said.count("nothing is lost") == 4, said
        now = streams(lab, {"san1": "san2", "san2": "san1"}[other])
        assert all(records.follows(data, now[ctid]) for ctid, data in streams(lab, other).items())
    assert faults(lab, before, "san1", monkeypatch) == []
    declare(lab, copies="node")
    lab.must("salt", "node001", "saltutil.refresh_pillar", "wait=True")


def test_the_primary_dies_under_running_containers(lab, before, monkeypatch):
    """H13, H27: what hangs is ended, everything answers from the other SAN, and what is lost is said."""
    lab.must("salt", "node001", "ringfree_replica.replicate")
    copied = streams(lab, "san2")
    lab.must("fault", "power-cut", "san1")
    code, said = failover(lab, "secondary", at_once=True)
    assert code == 0, said
    assert "primary (10.77.0.21) does not answer: what hangs on it is ended by force." in said
    assert said.count("before the failover, is lost.") >= 4, said
    after = {node: lab.ask(node, checker.PROBE, "--services") for node in NODES}
    monkeypatch.setattr(checker, "SERVER", ADDRESS["san2"])
    assert checker.check_inits(before, after) == []
    for node in NODES:
        assert checker.check_services(before[node], after[node]) == []
        assert checker.check_mounts(before[node], after[node]) == []
    now = streams(lab, "san2")
    for ctid in CTIDS:
        assert records.verify(now[ctid]).faults() == []
        assert records.follows(copied[ctid], now[ctid]) and len(now[ctid]) > len(copied[ctid])
    assert checker.check_monitoring(lab) == []


def test_the_primary_comes_back_and_is_not_used_as_it_is(lab, before, monkeypatch):
    """H02, H27: neither started from, nor copied over before somebody says so, as it may hold what is nowhere else."""
    lab.must("heal")
    code, said = failover(lab, "primary", at_once=True)
    assert code == 1, said
    assert "made from secondary" in said
    left = streams(lab, "san1")
    code, said = lab.salt("node001", "ringfree_replica.replicate")
    assert code != 0 and "Save what you need of it" in said
    assert streams(lab, "san1") == left
    lab.must("salt", "node001", "ringfree_replica.replicate", "overwrite=True")
    code, said = failover(lab, "primary", at_once=True)
    assert code == 0, said
    now = streams(lab, "san1")
    for ctid, data in streams(lab, "san2").items():
        assert records.verify(now[ctid]).faults() == []
        assert records.follows(data, now[ctid])
    after = {node: lab.ask(node, checker.PROBE) for node in NODES}
    assert checker.check_inits(before, after) == []
