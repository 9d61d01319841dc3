"""On a kernel's NFS client: what preflight finds, reboots, a failover, the network cut at three moments, an emptied
export, and NFS 4.1.

The tests stand in the order of the story."""

import base64
import json
import re

import checker
import local_side
import pytest
import records
from drift import highstate, unlike
from fleet_under_test import Gate, pids
from kernel_fleet import CTIDS, FLEET, HOME, NODE, at_home, declare, healed, migrated, orchestrate, told
from lab_client import wait_for

assert FLEET  # what the fixture `lab` brings up
MINUTES = 30
STORE = "/vz/nfsprivate"
PILLAR = (
    ("    node: ''", "    node: node001"),
    ("    every: 900", "    every: 86400"),
    ("    max_age: 3600", "    max_age: 90000"),
    ("    deadline: 60", "    deadline: 20"),
    ("    timeout: 600", "    timeout: 20"),
)
GANESHA = "/etc/ganesha/ganesha.conf"
#: What preflight must find before anything is stopped: how it comes to be on a host, how it goes, and words.
FINDINGS = {
    "a read-only export": (
        ("san1", f"sed -i 's/= RW;/= RO;/' {GANESHA}; systemctl restart nfs-ganesha"),
        ("san1", f"sed -i 's/= RO;/= RW;/' {GANESHA}; systemctl restart nfs-ganesha"),
        "Read-only file system",
    ),
    "an export that squashes root": (
        ("san1", f"sed -i 's/No_Root_Squash/Root_Squash/' {GANESHA}; systemctl restart nfs-ganesha"),
        ("san1", f"sed -i 's/= Root_Squash/= No_Root_Squash/' {GANESHA}; systemctl restart nfs-ganesha"),
        "squash|Permission denied|Operation not permitted",
    ),
    "an ACL, which the export answers with EIO": (
        (NODE, "setfacl -m u:nobody:r /vz/private/101/etc/hostname"),
        (NODE, "setfacl -b /vz/private/101/etc/hostname"),
        "acl",
    ),
}


@pytest.fixture(scope="module")
def before(lab):
    declare(lab, *PILLAR)
    Gate(lab, NODE).install()
    return checker.remember(lab, [NODE])[NODE]


def streams(lab, san):
    """The records of the containers as they lie on a SAN, to the last whole line."""
    paths = {ctid: f"/rf-images/pbx/{ctid}/{checker.RECORDS}" for ctid in CTIDS}
    found = lab.ask(san, checker.READ, *paths.values())
    return {ctid: local_side.whole(base64.b64decode(found[path])) for ctid, path in paths.items()}


def booted(lab):
    """Cut the node's power, and wait until it has booted with all that it starts."""
    lab.must("fault", "power-cut", NODE)
    lab.must("boot", NODE)
    wait_for(
        lambda: "No jobs" in lab.try_on(NODE, "systemctl", "list-jobs")[1], "the node to have booted", 300
    )


@pytest.mark.parametrize("what", FINDINGS)
def test_preflight_finds_it_and_nothing_is_stopped(lab, before, what):
    (host, breaks), (same, mends), words = FINDINGS[what]
    lab.on(host, "sh", "-ec", breaks)
    try:
        run = orchestrate(lab, "migrate")
    finally:
        lab.on(same, "sh", "-ec", mends)
    assert run.wait() == 1 and "Nothing was stopped and nothing was changed." in run.err, run.err
    assert re.search(words, run.err, re.IGNORECASE), run.err
    assert checker.remember(lab, [NODE])[NODE]["inits"] == before["inits"]


def runs(lab, before):
    """Wait until all containers run; what is not as it must be with where they run from, and with their services."""
    wait_for(lambda: sorted(pids(lab, NODE)) == CTIDS, "the containers", 300)
    after = {NODE: lab.ask(NODE, checker.PROBE, "--services")}
    found = checker.check_inits({NODE: before}, after) + checker.check_mounts(before, after[NODE])
    return found + checker.check_services(before, after[NODE])


def test_it_runs_from_nfs_after_a_reboot(lab, before):
    assert migrated(lab, before) == []
    booted(lab)
    assert runs(lab, before) == []


def test_h05_h14_without_its_san_it_starts_nothing_and_one_command_brings_it_up_later(lab, before):
    lab.must("fault", "link-down", "san1")
    booted(lab)
    assert pids(lab, NODE) == {}
    assert lab.try_on(NODE, "systemctl", "is-active", "vz")[1].strip() in ("inactive", "failed")
    healed(lab)
    code, said = lab.salt_run("ringfree.bring_up", NODE)
    assert code == 0, said
    assert runs(lab, before) == []


def test_h13_h27_the_primary_dies_under_running_containers(lab, before, monkeypatch):
    lab.must("salt", NODE, "ringfree_replica.replicate")
    copied = streams(lab, "san2")
    lab.must("fault", "packets-dropped", "san1")
    run = orchestrate(lab, "failover", to="secondary")
    assert run.wait() == 0, run.err
    assert "primary (10.77.0.21) does not answer: what hangs on it is ended by force." in run.err
    monkeypatch.setattr(checker, "SERVER", "10.77.0.22")
    assert runs(lab, before) == []
    now = streams(lab, "san2")
    for ctid in CTIDS:
        assert records.verify(now[ctid]).faults() == []
        assert records.follows(copied[ctid], now[ctid]) and len(now[ctid]) > len(copied[ctid])


def test_back_to_the_primary_and_home_with_what_was_written(lab, before):
    """Both in order: nothing is lost, neither between the SANs nor on the way to local storage."""
    healed(lab)
    lab.must("salt", NODE, "ringfree_replica.replicate", "overwrite=True")
    run = orchestrate(lab, "failover", to="primary")
    assert run.wait() == 0, run.err
    now = streams(lab, "san1")
    assert all(records.follows(data, now[ctid]) for ctid, data in streams(lab, "san2").items())
    run = orchestrate(lab, "rollback", data="sync_back")
    assert run.wait() == 0, run.err
    assert local_side.faults(lab, NODE, before) == []
    home = local_side.streams(lab, NODE, CTIDS)
    assert all(records.follows(data, home[ctid]) for ctid, data in streams(lab, "san1").items())


CUTS = {
    "before the mount": "node001 snapshot ok",
    "in the final copy": "node001 sync ...",
    "after the final copy": "node001 owner ok",
}


@pytest.mark.parametrize("moment", CUTS)
def test_h13_the_network_is_cut(lab, before, moment):
    """It goes home by itself, while the SAN is still away."""
    command = lab.start("salt-run", "state.orch", "migrate")
    wait_for(lambda: command.said(CUTS[moment]) or command.ended, moment, 600)
    lab.must("fault", "packets-dropped", "san1")
    assert command.wait() == 1 and HOME in command.err, command.err
    assert at_home(lab, before) == []
    assert told(lab, before) == []


SERVE = "systemctl {} nfs-ganesha"
EACH = f"{SERVE.format('stop')}; cd /rf-images; for d in pbx pbxroot vzconf; do {{}}; done; {SERVE.format('start')}"
#: Moved away the files would be as good as before: a handle names an inode.
EMPTIED = EACH.format("cp -a $d $d.kept; rm -r $d; mkdir -m 700 $d")
FILLED = EACH.format("rm -r $d; cp -a $d.kept $d; rm -r $d.kept")


def test_the_export_is_emptied_and_the_server_started_anew(lab, before):
    """Every handle that the client has is stale."""
    assert migrated(lab, before) == []
    lab.on("san1", "sh", "-ec", EMPTIED)
    wait_for(
        lambda: "Stale" in lab.try_on(NODE, "timeout", "5", "ls", f"{STORE}/101")[1], "stale handles", 120
    )
    run = orchestrate(lab, "rollback", data="discard")
    assert HOME in run.err, run.err
    assert at_home(lab, before) == []
    lab.on("san1", "sh", "-ec", FILLED)
    assert told(lab, before) == []


def test_h13_nfs_4_1_and_home_when_its_server_is_killed(lab, before):
    """The machine lives and says so, but no NFS server is there any more."""
    options = "options: vers=3,proto=tcp,hard,nolock,timeo=600,retrans=2"
    declare(lab, *PILLAR, (options, "options: vers=4.1,proto=tcp,hard,timeo=600,retrans=2"))
    assert migrated(lab, before) == []
    shown = lab.on(NODE, "grep", " nfs4 ", "/proc/self/mountinfo").splitlines()
    assert len(shown) == 3 + len(CTIDS) and all("vers=4.1" in line for line in shown)
    assert unlike(highstate(lab, NODE)) == {}
    lab.must("fault", "ganesha-kill", "san1")
    wait_for(lambda: lab.try_on(NODE, "timeout", "3", "stat", "-f", STORE)[0] != 0, "the store to hang", 60)
    run = orchestrate(lab, "rollback", data="discard")
    assert HOME in run.err, run.err
    assert at_home(lab, before) == []
    assert told(lab, before) == []
    assert json.loads(lab.on(NODE, "cat", "/var/lib/ringfree/journal.json"))["state"] == "local"
