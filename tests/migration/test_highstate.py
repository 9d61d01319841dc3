"""The years after: state.apply on a node that has moved corrects what drifts, under containers that never notice."""

import json
import re
import shlex

import checker
import local_side
import pytest
from fleet_under_test import Overlay, Run, migrate, start
from lab_client import wait_for

FLEET = {"nodes": 1, "cts": 3}
NODE = "node001"
CONFS = "The containers live on the share"
#: Hand-made, all at once: what a colleague with an editor, a careless restore and a killed commit leave behind.
DRIFTS = r"""
set -e
cd /etc/vz
sed -i 's/^DISK_QUOTA="no"/DISK_QUOTA="yes"/; s#^VE_ROOT=.*#VE_ROOT="/vz/root/$VEID"#' vz.conf
echo 'DISABLED="yes"' >> vz.conf
tail -n1 conf/101.conf | grep -E '^(VE_ROOT|VE_PRIVATE|VE_LAYOUT|DISK_QUOTA)='
sed -i '$d' conf/101.conf
sed -i 's/^DISK_QUOTA="no"/DISK_QUOTA="yes"/' conf/102.conf
chmod 0644 conf/vps.premount
cd /etc/ringfree
rm node nfsvzstor
echo 0 > nfsmounted
chmod 0644 ssh/id_ed25519
sed -i '/^# ringfree: mounts/,/^# ringfree: end/d' /etc/fstab
"""
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


def highstate(lab, *words):
    """Name of a state to what it returned."""
    done = lab.run("salt", NODE, "state.apply", "--out=json", "--static", *words)
    found = json.loads(done.stdout)[NODE]
    assert isinstance(found, dict), found
    return {state["__id__"]: state for state in found.values()}


def unlike(states):
    """The states that changed something or failed."""
    return {
        name: (state["result"], state["changes"], state["comment"])
        for name, state in states.items()
        if state["result"] is not True or state["changes"]
    }


def processes(lab):
    """Every process in a container: its number and when it began."""
    lines = lab.on(NODE, "ps", "-eo", "pid=,pidns=,lstart=,comm=").splitlines()
    mine = {line.split()[1] for line in lines if line.split()[0] == "1"}
    inside = (line.split() for line in lines if line.split()[1] not in mine)
    # A container's own cron may begin and end processes; what was there must be there.
    return {(words[0], " ".join(words[2:7])): words[7] for words in inside}


def test_h22_drift_is_corrected_under_containers_that_do_not_notice(lab, before):
    """The dry run tells the very changes; a second run has none; the same processes, no record lost."""
    run = migrate(lab)
    assert run.code == 0, run
    assert unlike(highstate(lab)) == {}
    inside = processes(lab)
    names = list(inside.values())
    assert names.count("asterisk") >= 2 and names.count("httpd") >= 3, names
    lab.on(NODE, "sh", "-c", DRIFTS)
    lab.must("salt", NODE, "ringfree_deadman.arm", "4102444800")
    dry = highstate(lab, "test=True")
    live = highstate(lab)
    assert {name: state["changes"] for name, state in dry.items()} == {
        name: state["changes"] for name, state in live.items()
    }
    assert {name: state["result"] for name, state in live.items()} == dict.fromkeys(live, True)
    assert {name for name, state in dry.items() if state["result"] is None} == unlike(live).keys()
    assert len(unlike(live)) == 7, unlike(live).keys()
    assert live[CONFS]["changes"].keys() == {"101", "102"}
    assert unlike(highstate(lab)) == {}
    now = processes(lab)
    assert {process: name for process, name in inside.items() if process not in now} == {}
    assert checker.faults(lab, before) == []


def test_h22_a_conf_that_leads_a_running_container_astray_waits_for_a_word(lab, before):
    """Reported and not touched; what the comment says to type sets it right."""
    path = "/etc/vz/conf/103.conf"
    right = lab.on(NODE, "cat", path)
    lab.on(NODE, "sed", "-i", "s#/vz/nfsprivate/#/vz/private/#", path)
    wrong = lab.on(NODE, "cat", path)
    inside = processes(lab)
    for words in (["test=True"], []):
        (name,) = unlike(highstate(lab, *words))
        assert name == CONFS
    said = highstate(lab)[CONFS]["comment"]
    assert "ontainer 103 runs from the share" in said and "/vz/private/103" in said
    assert lab.on(NODE, "cat", path) == wrong
    typed = re.search(r"'salt (node001 vz\.configure '.*?' 103)'", said)[1]
    lab.must("salt", *shlex.split(typed))
    assert lab.on(NODE, "cat", path) == right
    assert unlike(highstate(lab)) == {}
    now = processes(lab)
    assert {process: name for process, name in inside.items() if process not in now} == {}


def test_h22_highstates_all_through_a_way_back_and_a_migration(lab, before):
    """One after the other, without a pause: the steps wait for the one that runs, and none disturbs them."""
    loop = lab.start("exec", "master", "--", "sh", "-c", FOR_EVER)
    try:
        wait_for(lambda: answers(lab), "the first highstate")
        command = lab.start("salt-run", "state.orch", "rollback", "pillar=" + json.dumps({"nodes": [NODE]}))
        assert command.wait() == 0, command.err
        assert local_side.faults(lab, NODE, before[NODE]) == []
        between = len(answers(lab))
        run = Run(start(lab))
        assert run.code == 0, run
        assert checker.faults(lab, before) == []
        assert len(answers(lab)) > between
    finally:
        lab.on("master", "touch", "/var/tmp/enough")
        loop.wait()
    told = [answer for answer in answers(lab) if isinstance(answer, dict)]
    bad = [list(unlike(states).values()) for states in told if unlike(states)]
    assert bad == []
    where = {next(iter(states.values()))["__sls__"] for states in told}
    assert {"ringfree.local", "ringfree.fstab"} <= where
    assert unlike(highstate(lab)) == {}


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
