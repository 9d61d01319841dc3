"""A migrated fleet loses its power, with the SAN and without it; and two nodes reach for the same container.

Two nodes with one conf share; the tests stand in the order of the night."""

import re

import checker
import pytest
from fleet_under_test import ARCHIVE, Overlay, migrate, minion_answers, pids
from lab_client import wait_for

FLEET = {"nodes": 2, "cts": 3}
NODE, OTHER = NODES = ("node001", "node002")
MARKS = "/var/lib/vzctl/vzreboot"
POINTS = ("/vz/nfsprivate", "/vz/nfsroot")


@pytest.fixture(scope="module")
def before(lab):
    """The fleet before its migration, with short deadlines for a SAN that is away; then it is migrated."""
    overlay = Overlay(lab)
    overlay.write("init", ("  node: true", "  node: false"), ("    deadline: 60", "    deadline: 10"))
    lacking = "      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (lacking, "      PBX: [postfix]"))
    found = checker.remember(lab, NODES)
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert checker.faults(lab, found) == []
    return found


def runs(lab, before, wanted):
    """Wait until the containers of nodes run, and say what is wrong with how they do."""
    wait_for(lambda: {node: sorted(pids(lab, node)) for node in wanted} == wanted, f"{wanted}", 180)
    then = {node: {**before[node], "running": ctids} for node, ctids in wanted.items()}
    return checker.check_inits(then, {node: lab.ask(node, checker.PROBE) for node in NODES})


def test_h05_h14_without_its_san_a_node_starts_nothing_and_forgets_nothing(lab, before):
    """No container, not even an old copy; nothing under the mount points; vz keeps its list; and says what to type."""
    # As after an orderly stop of vz: 102 ran and says nothing of boots; 103 was stopped on purpose.
    lab.on(NODE, "sed", "-i", "/^ONBOOT/d", "/etc/vz/conf/102.conf")
    lab.on(NODE, "vzctl", "set", "103", "--onboot", "no", "--save")
    lab.on(NODE, "vzctl", "stop", "103")
    lab.on(NODE, "sh", "-c", f"touch {MARKS}/102 {MARKS}/103 && sync")
    lab.must("fault", "link-down", "san1")
    lab.must("fault", "power-cut", NODE)
    lab.must("boot", NODE)
    wait_for(
        lambda: "No jobs" in lab.try_on(NODE, "systemctl", "list-jobs")[1], "the node to have booted", 180
    )
    assert pids(lab, NODE) == {}
    assert lab.try_on(NODE, "systemctl", "is-active", "vz")[1].strip() in ("inactive", "failed")
    assert lab.on(NODE, "ls", MARKS).split() == ["102", "103"]
    code, said = lab.try_on(NODE, "vzctl", "start", "101")
    assert code == 43, said
    for point in POINTS:
        assert lab.try_on(NODE, "mkdir", f"{point}/101")[0] != 0
        assert lab.on(NODE, "ls", "-A", point) == ""
    # Somebody brings the old conf back: the node still knows that the copy on its own disk is old.
    conf = "/etc/vz/conf/101.conf"
    lab.on(NODE, "sed", "-i.kept", "s#/vz/nfs#/vz/#", conf)
    code, said = lab.try_on(NODE, "vzctl", "start", "101")
    assert code == 79 and "does not start from local disk any more" in said, said
    lab.on(NODE, "mv", f"{conf}.kept", conf)
    # A new customer's container has nowhere to go, and leaves nothing.
    lab.on(NODE, *ARCHIVE)
    code, said = lab.try_on(NODE, "vzctl", "create", "160", "--layout", "simfs")
    assert code == 48, said
    assert lab.try_on(NODE, "ls", "/etc/vz/conf/160.conf", "/vz/private/160")[0] == 2
    assert [lab.on(NODE, "ls", "-A", point) for point in POINTS] == ["", ""]
    assert pids(lab, NODE) == {}
    minion_answers(lab, NODE)
    code, said = lab.salt_run("ringfree.bring_up", NODE)
    assert code == 1 and "is not mounted" in said, said
    assert pids(lab, NODE) == {}


def test_h14_once_the_san_is_back_one_command_brings_the_node_up(lab, before):
    """What vz itself would have started, once; what was stopped on purpose stays down, before and afterwards."""
    lab.run("heal")
    wait_for(lambda: lab.try_on(NODE, "ping", "-c1", "-W1", checker.SERVER)[0] == 0, "the SAN", 60)
    code, said = lab.salt_run("ringfree.bring_up", NODE)
    assert code == 0, said
    assert re.search(r"started vz, started containers 101, 102\.", said), said
    others = {OTHER: before[OTHER]["running"]}
    assert runs(lab, before, {NODE: [101, 102], **others}) == []
    assert lab.try_on(NODE, "systemctl", "is-active", "vz")[1].strip() == "active"
    assert "DISABLED" not in lab.on(NODE, "cat", "/etc/vz/vz.conf")
    lab.on(NODE, "vzctl", "stop", "102")
    then = pids(lab, NODE)
    code, said = lab.salt_run("ringfree.bring_up")
    assert code == 0 and said.count("nothing to do.") == 2, said
    assert pids(lab, NODE) == then and set(then) == {101}


def test_h12_both_nodes_lose_their_power_at_once(lab, before):
    """Both boot from the same confs at the same time, and each starts its own."""
    lab.must("fault", "power-cut", *NODES)
    lab.must("heal")
    assert runs(lab, before, {NODE: [101], OTHER: before[OTHER]["running"]}) == []


def test_h12_no_container_is_made_over_that_of_another_node(lab, before):
    """The id of one that lives is taken; so is that of one whose private area is away for a moment."""
    lab.on(OTHER, *ARCHIVE)
    ours = lab.on(NODE, "sh", "-c", "cat /etc/vz/conf/103.conf /vz/nfsprivate/.ringfree/owner/103")
    code, said = lab.try_on(OTHER, "vzctl", "create", "103", "--layout", "simfs")
    assert code == 44 and "Private area already exists" in said, said
    seen = ("ls", "-d", "/vz/nfsprivate/103")  # the client keeps what it knows of the share for a while
    lab.on("san1", "mv", "/rf-images/pbx/103", "/rf-images/pbx/away")
    try:
        wait_for(lambda: lab.try_on(OTHER, *seen)[0] == 2, "the private area to be away", 60)
        code, said = lab.try_on(OTHER, "vzctl", "create", "103", "--layout", "simfs")
    finally:
        lab.on("san1", "mv", "-T", "/rf-images/pbx/away", "/rf-images/pbx/103")
        wait_for(lambda: lab.try_on(NODE, *seen)[0] == 0, "the private area to be back", 60)
    assert code == 79 and f"container 103 belongs to {NODE}, not to {OTHER}" in said, said
    assert lab.on(NODE, "sh", "-c", "cat /etc/vz/conf/103.conf /vz/nfsprivate/.ringfree/owner/103") == ours


def test_h12_two_nodes_are_told_to_start_the_same_container(lab, before):
    """Nobody owns it yet: exactly one gets it, and the other one is refused until it is moved."""
    lab.on("san1", "cp", "-a", "/rf-images/pbx/103", "/rf-images/pbx/150")
    lab.on("san1", "sed", "-i", "s/ct103/ct150/", "/rf-images/pbx/150/etc/hostname")
    own = 's/^NAME=.*/NAME="new"/; s/^HOSTNAME=.*/HOSTNAME="ct150.lab"/; s/^IP_ADDRESS=.*/IP_ADDRESS="10.78.1.50"/'
    lab.on(NODE, "sh", "-c", f"sed '{own}' /etc/vz/conf/103.conf >/etc/vz/conf/150.conf")
    started = {node: lab.start("exec", node, "--", "vzctl", "start", "150") for node in NODES}
    codes = {node: command.wait() for node, command in started.items()}
    assert sorted(codes.values()) == [0, 79], {node: command.err for node, command in started.items()}
    winner, loser = sorted(NODES, key=codes.get)
    assert f"belongs to {winner}, not to {loser}" in started[loser].err
    assert lab.try_on(loser, "vzctl", "start", "150")[0] == 79
    minion_answers(lab, winner)
    minion_answers(lab, loser)
    code, said = lab.salt_run("ringfree.move_owner", "150", f"to={loser}")
    assert code == 1 and f"container 150 runs on {winner}: stop it there first" in said, said
    lab.on(winner, "vzctl", "stop", "150")
    lab.must("salt-run", "ringfree.move_owner", "150", f"to={loser}")
    assert lab.try_on(winner, "vzctl", "start", "150")[0] == 79
    lab.on(loser, "vzctl", "start", "150")
    assert {node: 150 in pids(lab, node) for node in NODES} == {winner: False, loser: True}
    code, said = lab.salt(loser, "ringfree_owner.conflicts", "--out=json", "--static")
    assert code == 0 and f'"{loser}": []' in said, said
