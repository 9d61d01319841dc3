"""The years after: state.apply on a node that has moved corrects what drifts, under containers that never notice."""

import json
import re
import shlex

import checker
import local_side
import pytest
from drift import CONFS, changes_of, highstate, processes, unlike
from fleet_under_test import ARCHIVE, Overlay, Run, migrate, pids, start
from lab_client import wait_for

FLEET = {"nodes": 1, "cts": 3}
MINUTES = 6
NODE = "node001"
#: One highstate after the other on a node that moves, until somebody has enough; every answer of Salt is kept.
FOR_EVER = """
until [ -e /var/tmp/enough ]; do
    salt --out=json --static -t 120 node001 state.apply; echo; sleep 1
done >/var/tmp/highstates 2>&1
"""


@pytest.fixture(scope="module")
def before(lab):
    """The node as it was before its first migration."""
    lacking = "      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay = Overlay(lab)
    overlay.write(NODE, (lacking, "      PBX: [postfix]"))
    overlay.write("init", ("  node: true", "  node: false"))
    return checker.remember(lab, [NODE])


def conf_lines(lab):
    """What the confs and vz.conf say, whatever the order of their lines."""
    return lab.on(NODE, "sh", "-c", "cd /etc/vz; for f in vz.conf conf/*.conf; do echo $f; sort $f; done")


@pytest.fixture(scope="module")
def moved(lab, before):
    """The node on NFS; a highstate has nothing to do there."""
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert unlike(highstate(lab, NODE)) == {}
    names = list(processes(lab, NODE).values())
    assert names.count("asterisk") >= 2 and names.count("httpd") >= 3, names
    return {"before": before, "lines": conf_lines(lab)}


@pytest.mark.parametrize("hand", ["by a killed commit", "by a careless restore"])
def test_h22_drift_is_corrected_under_containers_that_do_not_notice(lab, moved, hand):
    """The dry run tells the very changes; a second run has none; the same processes, no record lost."""
    expected = changes_of(lab, NODE, hand)
    inside = processes(lab, NODE)
    dry = highstate(lab, NODE, "test=True")
    live = highstate(lab, NODE)
    assert {name: state["changes"] for name, state in dry.items()} == {
        name: state["changes"] for name, state in live.items()
    }
    assert {name: state["result"] for name, state in live.items()} == dict.fromkeys(live, True)
    assert {name for name, state in dry.items() if state["result"] is None} == unlike(live).keys()
    assert {name: set(changes) for name, (_, changes, _) in unlike(live).items()} == expected
    assert unlike(highstate(lab, NODE)) == {}
    now = processes(lab, NODE)
    assert {process: name for process, name in inside.items() if process not in now} == {}


def test_h22_after_all_that_the_node_is_as_the_migration_left_it(lab, moved):
    """Once the container that was stopped runs again, and the one that was made later is gone."""
    lab.on(NODE, "rm", "/etc/vz/conf/109.conf", "/vz/nfsprivate/.ringfree/owner/109")
    lab.on(NODE, "vzctl", "start", "103")
    lab.must("salt", NODE, "ringfree_start.answer", "[103]")
    assert unlike(highstate(lab, NODE)) == {}
    assert conf_lines(lab) == moved["lines"]
    # A line that was lost comes back at the end of its conf.
    elsewhere = "conf under the conf share is not what is on it"
    assert [fault for fault in checker.faults(lab, moved["before"]) if not fault.endswith(elsewhere)] == []


def test_h22_a_conf_that_leads_a_running_container_astray_waits_for_a_word(lab, moved):
    """Reported and not touched; what the comment says to type sets it right."""
    path = "/etc/vz/conf/103.conf"
    right = lab.on(NODE, "cat", path)
    lab.on(NODE, "sed", "-i", "s#/vz/nfsprivate/#/vz/private/#", path)
    wrong = lab.on(NODE, "cat", path)
    inside = processes(lab, NODE)
    for words in (["test=True"], []):
        (name,) = unlike(highstate(lab, NODE, *words))
        assert name == CONFS
    said = highstate(lab, NODE)[CONFS]["comment"]
    assert "ontainer 103 runs from the share" in said and "/vz/private/103" in said
    assert lab.on(NODE, "cat", path) == wrong
    typed = re.search(r"'salt (node001 vz\.configure '.*?' 103)'", said)[1]
    lab.must("salt", *shlex.split(typed))
    assert lab.on(NODE, "cat", path) == right
    assert unlike(highstate(lab, NODE)) == {}
    now = processes(lab, NODE)
    assert {process: name for process, name in inside.items() if process not in now} == {}


def test_a_container_that_vzctl_creates_is_born_on_the_share(lab, moved):
    """With an owner from its first moment; the highstate completes its conf; once destroyed it is forgotten."""
    lab.on(NODE, *ARCHIVE)
    words = (
        "--layout",
        "simfs",
        "--ipadd",
        "10.78.1.50",
        "--hostname",
        "ct150.ringfree.biz",
        "--name",
        "new",
    )
    lab.on(NODE, "vzctl", "create", "150", *words)
    assert lab.try_on(NODE, "ls", "-d", "/vz/private/150")[0] == 2
    assert "150" in lab.on("san1", "ls", "/rf-images/pbx").split()
    owner = lab.on(NODE, "cat", "/vz/nfsprivate/.ringfree/owner/150")
    assert "\nnode=node001\nstore=nfs\n" in owner and "generation=1\n" in owner
    lab.on(NODE, "vzctl", "start", "150")
    lab.must("salt", NODE, "ringfree_start.answer", "[150]")
    inside = processes(lab, NODE)
    changes = {"150": {"DISK_QUOTA": {"old": None, "new": "no"}}}
    for words in (["test=True"], []):
        assert {name: changes for name, (_, changes, _) in unlike(highstate(lab, NODE, *words)).items()} == {
            CONFS: changes
        }
    assert unlike(highstate(lab, NODE)) == {}
    assert inside.keys() <= processes(lab, NODE).keys()
    code, said = lab.salt_run("ringfree.report")
    assert code == 0 and re.search(r"node001 +150 +new +nfs +3/3", said), said
    # The customer leaves again.
    lab.on(NODE, "vzctl", "stop", "150")
    lab.on(NODE, "vzctl", "destroy", "150")
    changes = {"150": {"old": "on the share", "new": "destroyed"}}
    for words in (["test=True"], []):
        assert {name: changes for name, (_, changes, _) in unlike(highstate(lab, NODE, *words)).items()} == {
            CONFS: changes
        }
    assert unlike(highstate(lab, NODE)) == {}
    known = lab.on(NODE, "sh", "-c", "ls /vz/nfsprivate/.ringfree/owner; cat /etc/ringfree/on-nfs").split()
    assert "101" in known and "150" not in known
    # vzctl removes what was in there in the background.
    wait_for(lambda: lab.on("san1", "ls", "/rf-images/pbx/vztmp") == "", "the container to be removed", 60)
    lab.on("san1", "sh", "-ec", "rmdir /rf-images/pbx/vztmp; rm /rf-images/vzconf/150.conf.destroyed")


def test_h22_highstates_all_through_a_way_back_and_a_migration(lab, moved):
    """One after the other, without a pause: the steps wait for the one that runs, and none disturbs them."""
    loop = lab.start("exec", "master", "--", "sh", "-c", FOR_EVER)
    try:
        wait_for(lambda: answers(lab), "the first highstate")
        command = lab.start("salt-run", "state.orch", "rollback", "pillar=" + json.dumps({"nodes": [NODE]}))
        assert command.wait() == 0, command.err
        assert local_side.faults(lab, NODE, moved["before"][NODE]) == []
        between = len(answers(lab))
        run = Run(start(lab))
        assert run.code == 0, str(run)
        assert checker.faults(lab, moved["before"]) == []
        assert len(answers(lab)) > between
    finally:
        lab.on("master", "touch", "/var/tmp/enough")
        loop.wait()
    told = [answer for answer in answers(lab) if isinstance(answer, dict)]
    bad = [list(unlike(states).values()) for states in told if unlike(states)]
    assert bad == []
    where = {next(iter(states.values()))["__sls__"] for states in told}
    assert {"ringfree.local", "ringfree.fstab"} <= where
    assert unlike(highstate(lab, NODE)) == {}


def test_h02_a_container_that_was_destroyed_on_the_share_does_not_come_back(lab, moved):
    """Not in the place of another customer's, which has its id by now, nor when that one is gone as well."""
    lab.on(NODE, "vzctl", "stop", "103")
    lab.on(NODE, "vzctl", "destroy", "103")
    old = lab.ask(NODE, checker.TREE, "/vz/private/103")
    lab.on(NODE, "vzctl", "create", "103", "--layout", "simfs")
    inside = processes(lab, NODE)
    back = ("state.orch", "rollback", "pillar=" + json.dumps({"nodes": [NODE]}))
    code, said = lab.salt_run(*back)
    assert code == 1 and "containers 103 were born on the share" in said, said
    assert inside.keys() <= processes(lab, NODE).keys()
    lab.on(NODE, "vzctl", "destroy", "103")
    code, said = lab.salt_run(*back)
    assert code == 0 and "2 of 2 containers answer" in said, said
    assert "containers 103 were destroyed on the share, their old copies stay" in said
    assert sorted(pids(lab, NODE)) == [101, 102]
    assert lab.on(NODE, "sh", "-c", "ls /etc/vz/conf/103*").split() == ["/etc/vz/conf/103.conf.destroyed"]
    assert lab.ask(NODE, checker.TREE, "/vz/private/103") == old
    assert unlike(highstate(lab, NODE)) == {}


def answers(lab):
    """What the highstates so far returned: states by name, or the words with which Salt refused one."""
    text = lab.on("master", "sh", "-c", "cat /var/tmp/highstates 2>/dev/null || true")
    found = []
    for part in re.findall(r"^\{\n.*?^\}$", text, re.M | re.S):
        found.append(json.loads(part).get(NODE))
    return [
        {state["__id__"]: state for state in answer.values()} if isinstance(answer, dict) else answer
        for answer in found
    ]
