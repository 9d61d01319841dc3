"""A night on which the root of one container does all that he can to reach beyond it, or to hold the others up.

Judged from outside: nothing of a node, a SAN or another container is other than it was or should be, no bytes of a
planted secret are in any container's tree, and everybody else ends where the night was to take him."""

import json
import os
import subprocess
from pathlib import Path

import local_side
import pytest
from fleet_under_test import changed, migrate, pids
from lab_client import wait_for

FLEET = {"nodes": 2, "cts": 5}
MINUTES = 3
NODES = ("node001", "node002")
HOSTS = ("san1", "san2", *NODES)
ATTACKER = 101
PASSES = int(os.environ.get("PASSES", "1"))  # how often trees are copied while they are attacked
ATTACKS = (Path(__file__).parent / "attacks.sh").read_text(encoding="utf-8")
SWAPPER = Path(__file__).parent / "swap.c"
#: Deeper than any path may be long.
DEEP = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(24):
    os.mkdir("0" * 200)
    os.chdir("0" * 200)
"""
WORDS = "this belongs to"
SECRET = "this must be in no container's tree"
#: The trees of all containers, wherever copies of them are.
TREES = {
    "san1": "/rf-images/pbx",
    "san2": "/rf-images/pbx",
    **dict.fromkeys(NODES, "/vz/private"),
}
#: What belongs to the machine; on a node without what the migration changes.
OWN = {host: ["/etc", "/root"] for host in ("san1", "san2")} | {
    node: ["/root", "/etc/ringfree/ssh", "/etc/cron.d", "/etc/init.d", "/srv"] for node in NODES
}
TREE = Path(__file__).parents[1].joinpath("support/tree.py").read_text(encoding="utf-8")


def own_files(lab):
    """What each host has of its own."""
    return {host: lab.ask(host, TREE, *OWN[host]) for host in HOSTS}


def holding(lab, host, text):
    """The files in containers' trees on a host that hold some text."""
    # Names come and go while it reads: the attacker's container runs.
    words = f"grep -rlasF --exclude-dir='0000*' -e \"$1\" {TREES[host]} || [ $? -le 2 ]"
    return lab.on(host, "sh", "-c", words, "sh", text).splitlines()


@pytest.fixture(scope="module")
def swapper(tmp_path_factory):
    """The program that swaps directories with links, as bytes; it needs nothing of the container that it runs in."""
    program = tmp_path_factory.mktemp("swapper") / "swapper"
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-static", "-o", program, SWAPPER], check=True)
    return program.read_bytes()


@pytest.fixture(scope="module")
def before(lab, swapper):
    """The fleet before the night, with victims, secrets, and markers of the other customers."""
    for host in HOSTS:
        lab.write(host, "/etc/victim.conf", f"{host}'s own\n")
        lab.write(host, "/root/victim.conf", f"{host}'s own\n")
        lab.write(host, "/root/secret", f"{SECRET}\n", "0600")
    for node, number in zip(NODES, (1, 2), strict=True):
        for ctid in range(100 * number + 1, 100 * number + 6):
            for name in ("srv/marker", "root/secret"):
                lab.write(node, f"/vz/private/{ctid}/{name}", f"{WORDS} {ctid}\n")
    found = {node: local_side.checker.remember(lab, [node])[node] for node in NODES}
    lab.write("node001", f"/vz/private/{ATTACKER}/srv/swapper", swapper, "0755")
    lab.on("node001", "vzctl", "exec", ATTACKER, ATTACKS)
    first = f"/vz/private/{ATTACKER}/srv/race/d1"
    wait_for(lambda: lab.try_on("node001", "test", "-L", first)[0] == 0, "a directory that has become a link")
    return {
        "nodes": found,
        "own": own_files(lab),
        "key": lab.on("node001", "cat", "/etc/ringfree/ssh/id_ed25519"),
    }


@pytest.fixture(scope="module")
def presynced(lab, before):
    for _ in range(PASSES):
        code, said = lab.salt_run("state.orch", "presync")
        assert code == 0, said


@pytest.fixture(scope="module")
def moved(lab, presynced):
    run = migrate(lab)
    assert run.code == 0, run
    first = f"/vz/nfsprivate/{ATTACKER}/srv/race/d1"
    wait_for(lambda: lab.try_on("node001", "test", "-L", first)[0] == 0, "an attack on the share")
    return run


@pytest.fixture(scope="module")
def replicated(lab, moved):
    """While everything runs from NFS, so that trees are read while they are attacked."""
    for _ in range(PASSES + 1):
        code, said = lab.salt("node002", "ringfree_replica.replicate")
        assert code == 0, said


@pytest.fixture(scope="module")
def home(lab, before, replicated):
    """Back with what was written on NFS; the attacker left a tree that no copy can take along."""
    lab.on("node001", "python3", "-c", DEEP, f"/vz/nfsprivate/{ATTACKER}/srv")
    said = {}
    for node in NODES:
        words = json.dumps({"nodes": [node], "data": "sync_back"})
        said[node] = lab.salt_run("state.orch", "rollback", f"pillar={words}")
    return said


# --- afterwards, in the order of the night ----------------------------------------------------------------------------


def no_secret_left_its_place(lab, before):
    key = [line for line in before["key"].splitlines() if "-----" not in line][1]
    for host in HOSTS:
        assert holding(lab, host, SECRET) == []
        assert holding(lab, host, key) == []
        for ctid in (102, 202):
            places = [
                f"{TREES[host]}/{name}" for name in (f"{ctid}/", ".ringfree-replaced/", ".ringfree-removed/")
            ]
            found = holding(lab, host, f"{WORDS} {ctid}")
            assert [path for path in found if not path.startswith(tuple(places))] == []
            assert found or host in ("san2", "node001", "node002")


def nothing_was_written_elsewhere(lab, before):
    assert changed(before["own"], own_files(lab)) == []
    for host in HOSTS:
        folder = TREES[host]
        mine = {f"{folder}/{ATTACKER}/", f"{folder}/.ringfree-replaced/", f"{folder}/.ringfree-removed/"}
        found = [
            path for path in holding(lab, host, "by the root of 101") if not path.startswith(tuple(mine))
        ]
        assert found == []


def test_h31_a_first_copy_reached_nothing_else(lab, before, presynced):
    no_secret_left_its_place(lab, before)
    nothing_was_written_elsewhere(lab, before)


def test_h33_a_name_keeps_no_node_from_moving(lab, moved):
    assert {node: len(pids(lab, node)) for node in NODES} == {"node001": 5, "node002": 5}
    assert "2 nodes" in moved.text or "node002 is on NFS" in moved.text


def test_h32_the_copies_that_count_reached_nothing_else(lab, before, moved):
    no_secret_left_its_place(lab, before)
    nothing_was_written_elsewhere(lab, before)


def test_h31_a_replication_reached_nothing_else(lab, before, replicated):
    no_secret_left_its_place(lab, before)
    nothing_was_written_elsewhere(lab, before)


def test_h43_all_others_are_home(lab, before, home):
    """And the one that cannot be copied back is down and named, with the command for it."""
    code, said = home["node002"]
    assert code == 0, said
    assert local_side.faults(lab, "node002", before["nodes"]["node002"]) == []
    code, said = home["node001"]
    assert code == 1 and f"container {ATTACKER}" in said, said
    wait_for(lambda: sorted(pids(lab, "node001")) == [102, 103, 104, 105], "the others run")
    roots = lab.on("node001", "sh", "-c", "cat /proc/mounts")
    assert "/vz/nfsprivate" not in roots
    assert (
        lab.on("node001", "cat", "/vz/private/102/srv/marker", "/vz/private/103/srv/marker")
        == f"{WORDS} 102\n{WORDS} 103\n"
    )


def test_h31_the_way_back_reached_nothing_else(lab, before, home):
    no_secret_left_its_place(lab, before)
    nothing_was_written_elsewhere(lab, before)
