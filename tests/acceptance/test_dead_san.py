"""H13: on a kernel's NFS client, a migration, and the way home from a SAN that is dead.

The tests stand in the order of the story; no part of them sees anything but what the lab's commands and the node's own
/proc say."""

import json
import signal
import time

import checker
import pytest
from drift import highstate, unlike
from fleet_under_test import looks
from kernel_fleet import CTIDS, FLEET, HOME, NODE, at_home, declare, migrated, orchestrate, stand_in, told

assert FLEET  # what the fixture `lab` brings up
MINUTES = 10
STORE, CONFS = "/vz/nfsprivate", "/etc/sysconfig/vz-scripts"
#: Seconds from the command to the last answer at home; a fleet of twenty containers has five minutes.
SOON = 300
WRITER = (
    "(while :; do dd if=/dev/zero of=/root/big bs=1M count=50 2>/dev/null; done) </dev/null >/dev/null 2>&1 &"
)


@pytest.fixture(scope="module")
def before(lab):
    declare(lab)
    return checker.remember(lab, [NODE])[NODE]


def mounts(lab):
    """What is mounted, with the ids that the kernel gives each mount once."""
    return lab.on(NODE, "grep", " nfs ", "/proc/self/mountinfo").splitlines()


def rolled_back(lab):
    """Roll back from a SAN that is dead: at home in time, and not everything could be done; what it said."""
    begun = time.monotonic()
    run = orchestrate(lab, "rollback", data="discard")
    assert run.wait() == 1, run.err
    answer = next(moment for moment, line in run.lines if "the containers answer ok 3 of 3" in line)
    first = run.lines[0][0]
    assert answer - first < SOON and time.monotonic() - begun < 2 * SOON, run.err
    return run.err


def test_it_moves_to_nfs_and_all_is_as_it_must_be(lab, before):
    assert migrated(lab, before) == []


def test_exports_of_one_file_system_are_one_to_the_kernel(lab, before):
    """What the rest stands on: a forced unmount of one would end the waiting calls of all."""
    assert len({line.split()[2] for line in mounts(lab)}) == 1
    said = lab.on(NODE, "salt-call", "--out=json", "ringfree_nfs.shared_with", CONFS)
    assert json.loads(said)["local"] == [f"/vz/nfsroot/{ctid}" for ctid in CTIDS]


def test_a_highstate_has_nothing_to_do_and_remounts_nothing(lab, before):
    then = mounts(lab)
    for _ in range(2):
        assert unlike(highstate(lab, NODE)) == {}
        assert mounts(lab) == then
    assert checker.faults(lab, {NODE: before}) == []


def test_nothing_is_told_to_a_san_whose_packets_are_lost(lab, before):
    """Somebody stands in the conf share, somebody in the store, a container writes all the time: they come home."""
    standing = [stand_in(lab, place) for place in (CONFS, STORE)]
    lab.on(NODE, "vzctl", "exec", "101", WRITER)
    assert looks(lab, NODE, STORE)[0] == 0
    lab.must("fault", "packets-dropped", "san1")
    assert looks(lab, NODE, STORE)[0] == 128 + signal.SIGKILL, "a job that was about to look ends itself"
    said = rolled_back(lab)
    assert f"held by process {standing[0]} (sleep)" in said
    assert f"{STORE} is still mounted" in said and f"In use by process {standing[1]} (sleep)" in said
    kept = [fault for fault in at_home(lab, before) if not fault.startswith(("mounted: ", "the node thinks"))]
    assert kept == []
    # What it said to be in the way is gone, and the same command ends it, with the SAN as dead as before.
    lab.on(NODE, "kill", *standing)
    run = orchestrate(lab, "rollback", data="discard")
    assert HOME in run.err, run.err
    assert at_home(lab, before) == []
    assert told(lab, before) == []
