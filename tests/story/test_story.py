"""The story of the product on one fleet, from end to end, in the order in which it happens.

A migration fails and takes its node back; pre-sync, dry run, the move, a second run; what is refused on NFS; highstate
after drift; a power cut; no clean-up before its time; and both ways back."""

import json
import re
from types import SimpleNamespace

import checker
import local_side
import pytest
from drift import DRIFTS, changes_of, highstate, processes, unlike
from fleet_under_test import Gate, Overlay, Run, changed, everything, migrate, monitoring, pids, start
from lab_client import wait_for

#: node002 is laid out as by Debian's vzctl.
FLEET = {"nodes": 2, "cts": 5, "debian": "node002"}
MINUTES = 5
NODES = ("node001", "node002")
PRIVATE = {"node001": "/vz/private", "node002": "/var/lib/vz/private"}
STOPPED = 205  # its conf names no private area: vz.conf's counts
BOOTS_FIRST = 204
#: Does not start where its root is on NFS; everywhere else it does.
ONLY_LOCAL = """#!/bin/sh
grep -q ' / .*nfs' /proc/mounts || exec /etc/init.d/asterisk "$@"
"""


#: What the root of a container prepares: links of names that privileged programs might use, each beside a file that is
#: called like the one to overwrite.
LINKS = """
mkdir -p $1/srv && cd $1/srv
for name in .ringfree-partial .rsync-partial .~tmp~ .ringfree-replaced; do
    mkdir "in$name" && ln -s /etc "in$name/$name" && echo 'from a container' >"in$name/victim.conf"
done
"""
VICTIM = "/etc/victim.conf"
HOSTS = ("san1", *NODES)
#: Where Red Hat has the confs, and node002 reads nothing.
ASTRAY, EXPORT = "/etc/sysconfig/vz-scripts", f"{checker.SERVER}:/rf-images/vzconf"
SHARES = "The shares are mounted"


@pytest.fixture(scope="module")
def before(lab):
    """The fleet before: a container of node002 was stopped on purpose, another has a BOOTORDER."""
    Overlay(lab).write("init", ("    answer: 120", "    answer: 15"))
    for node in NODES:
        Gate(lab, node).install()
    lab.on("node002", "vzctl", "stop", STOPPED)
    lab.on("node002", "vzctl", "set", BOOTS_FIRST, "--bootorder", "10", "--save")
    for host in HOSTS:
        lab.write(host, VICTIM, f"{host}'s own\n")
    for node, ctid in zip(NODES, (101, 201), strict=True):
        lab.on(node, "sh", "-ec", LINKS, "sh", f"{PRIVATE[node]}/{ctid}")
    found = checker.remember(lab, NODES)
    assert checker.values(found["node002"]["confs"][f"{STOPPED}.conf"], "VE_PRIVATE") == []
    assert [len(found[node]["running"]) for node in NODES] == [5, 4]
    return found


@pytest.fixture(scope="module")
def local_faults(lab, before):
    """What the checker says while everything still runs from local disk."""
    return checker.faults(lab, before)


@pytest.fixture(scope="module")
def failed(lab, before, local_faults):
    """A migration in which the Asterisk of 102 is silent once it runs from NFS."""
    service = "/vz/private/102/etc/rc3.d/S50asterisk"
    lab.on("node001", "rm", service)
    lab.write("node001", service, ONLY_LOCAL, "0755")
    run = migrate(lab)
    faults = local_side.faults(lab, "node001", before["node001"])
    lab.on("node001", "ln", "-sf", "../init.d/asterisk", service)
    return SimpleNamespace(run=run, faults=faults, monitoring=monitoring(lab))


@pytest.fixture(scope="module")
def presynced(lab, failed):
    """The fleet after a pre-sync."""
    then = {node: [pids(lab, node), lab.on(node, "sha256sum", "-b", "/etc/vz/vz.conf")] for node in NODES}
    run = Run(lab.start("salt-run", "state.orch", "presync", "--out=json"))
    now = {node: [pids(lab, node), lab.on(node, "sha256sum", "-b", "/etc/vz/vz.conf")] for node in NODES}
    return SimpleNamespace(run=run, then=then, now=now)


@pytest.fixture(scope="module")
def planned(lab, presynced):
    """The dry run, with what it changed."""
    then = everything(lab, NODES)
    code, text = lab.salt_run("ringfree.plan")
    return SimpleNamespace(code=code, text=text, changes=changed(then, everything(lab, NODES)))


@pytest.fixture(scope="module")
def moved(lab, before, planned):
    """The fleet after its migration, which was held on each node between the last stop and the first start."""
    gates = {node: Gate(lab, node) for node in NODES}
    for gate in gates.values():
        gate.close()
    held, command = {}, start(lab)
    try:
        for node, gate in gates.items():
            gate.wait(command)
            ctids = before[node]["running"]
            unlike, local = checker.trees(lab, node, ctids)
            held[node] = SimpleNamespace(
                unlike=unlike,
                local=local,
                monitoring=lab.try_on("mon001", "systemctl", "is-active", "nagios", "shinken")[1].split(),
                lines=[line for _, line in command.lines],
            )
            gate.open()
        run = Run(command)
    finally:
        command.end()
    return SimpleNamespace(run=run, held=held)


@pytest.fixture(scope="module")
def again(lab, moved):
    """A second run, with what it changed."""
    then = everything(lab, NODES)
    run = migrate(lab)
    return SimpleNamespace(run=run, changes=changed(then, everything(lab, NODES)))


# --- before -----------------------------------------------------------------------------------------------------------


def test_checker_sees_that_nothing_has_moved(before, local_faults):
    """The checker is able to fail: every container, every node and the SAN."""
    text = "\n".join(local_faults)
    for node, then in before.items():
        for ctid in then["running"]:
            assert f"container {ctid} has the root" in text
            assert f"{ctid}.conf: VE_PRIVATE is" in text
            assert f"container {ctid} has written nothing since it moved" in text
            assert f"the SAN lacks {ctid} in pbx" in text
            assert f"the owner record of {ctid}" in text
        assert f"{node}: /vz/nfsprivate is mounted 0 times" in text
        assert f"{node}: /etc/ringfree/nfsmounted is missing" in text
        assert f"{node}: vz.conf: DISK_QUOTA is ['yes']" in text
        assert f"{node}: there is no {then['conf_dir']}.tar.gz" in text


def test_h25_a_node_whose_telephones_are_silent_on_nfs_goes_back_by_itself(failed):
    """Everything runs, but one service does not answer there: the node is home, whole, and the line has stopped."""
    assert failed.run.code == 1, str(failed.run)
    for text in (
        "container 102: asterisk does not answer",
        "node001 is back on local storage, 5 of 5 containers answer.",
        "node002 was not touched",
    ):
        assert text in failed.run.err, str(failed.run)
    assert failed.faults == []
    assert all("ActiveState=active" in unit for unit in failed.monitoring)
    noise = ("unclosed ", "not a valid highstate return", "{'return'")
    assert [line for line in failed.run.err.splitlines() if any(word in line for word in noise)] == []


def test_presync_copies_and_moves_nothing(lab, before, presynced):
    """The pre-sync fills the SAN while everything runs on, and the nodes stay local."""
    assert presynced.run.code == 0, str(presynced.run)
    assert presynced.now == presynced.then
    names = lab.on("san1", "ls", "/rf-images/pbx").split()
    assert sorted(names) == sorted(str(ctid) for then in before.values() for ctid in then["running"])
    for line in ("node001 is back on local storage, 5 of 5", "node002 was not touched"):
        assert line in presynced.run.err, str(presynced.run)


def test_dry_run_changes_nothing(planned):
    """ringfree.plan only looks."""
    assert planned.code == 0, planned.text
    assert planned.changes == []


@pytest.mark.parametrize("node", NODES)
def test_dry_run_says_what_the_real_run_does(planned, moved, node):
    """The plan names the steps that change something, and the values that they set."""
    lines = planned.text.splitlines()
    section = lines[lines.index(f"{node}:") + 1 :]
    section = section[: section.index("node002:")] if node == "node001" else section
    plan = {
        line[13:]: line[2:13].strip()
        for line in section
        if line.startswith(("  change  ", "  nothing  ", "  WOULD"))
    }
    real = {state["__id__"]: state for state in moved.run.states(node)}
    assert list(plan) == list(real)
    for step, word in plan.items():
        assert word == ("change" if real[step]["changes"] else "nothing"), f"{step}: {real[step]['changes']}"
    for step in (
        "vz.conf leads to the share",
        "The containers are stopped",
        "The containers' store is mounted",
    ):
        for key, change in real[step]["changes"].items():
            assert f"{key}: {change['old']} -> {change['new']}" in planned.text, step
    for step in ("The container confs lead to the share", "Containers that do not move keep their paths"):
        for key, change in real[step]["changes"].items():
            assert f"{key}: {change}" in planned.text, step


# --- the move ---------------------------------------------------------------------------------------------------------


def test_migration_ends_well(moved):
    """Exit code 0."""
    assert moved.run.code == 0, str(moved.run)


def test_progress_is_shown_while_it_happens(moved):
    """Lines come to the terminal during the run; the second node begins when the first one is done."""
    first, second = moved.held["node001"].lines, moved.held["node002"].lines
    assert any("node001 sync ok" in line for line in first)
    assert not any(" start 101 done" in line or "node002 " in line.split(": ")[0] for line in first[1:])
    assert any("node001 commit ok" in line for line in second)
    assert not any(" start 201 done" in line for line in second)
    words = [line.split()[1:3] for _, line in moved.run.lines if line[:2].isdigit()]
    assert words.index(["node001", "commit"]) < words.index(["node002", "presync"])


@pytest.mark.parametrize("node", NODES)
def test_copy_is_complete_at_the_stop(moved, node):
    """H01: content, owner, mode, times, links, holes and devices are the same when nothing runs."""
    assert moved.held[node].unlike == []


def test_monitoring_is_silent_while_containers_are_down(moved):
    """Nobody is called out of bed for what is meant."""
    for held in moved.held.values():
        assert held.monitoring == ["inactive", "inactive"]


def test_fleet_is_rightly_on_nfs(lab, before, moved):
    """The independent check finds nothing: H08, H09, H10, H11 and H25 would show here."""
    assert checker.faults(lab, before) == []


def test_start_order(lab, moved):
    """Priority containers first, then by BOOTORDER, then by id."""
    assert lab.on("node001", "cat", "/etc/ringfree/manifest.tmp").split() == [
        "101",
        "102",
        "103",
        "104",
        "105",
    ]
    assert lab.on("node002", "cat", "/etc/ringfree/manifest.tmp").split() == ["204", "201", "202", "203"]
    starts = [line.split()[3] for _, line in moved.run.lines if " start " in line and line.endswith(" done")]
    assert starts[:3] == ["101", "102", "103"]


@pytest.mark.parametrize("node", NODES)
def test_local_private_areas_stay_as_they_were(lab, moved, node):
    """The way back stays open: not a byte of the local copies has changed since the stop."""
    local = moved.held[node].local
    assert changed(local, lab.ask(node, checker.TREE, *local)) == []


def test_report_shows_every_container(lab, moved):
    """The table has each container with its store, checks and downtime."""
    code, text = lab.salt_run("ringfree.report")
    assert code == 0, text
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("node00")}
    assert sorted(rows) == [str(n) for n in (101, 102, 103, 104, 105, 201, 202, 203, 204, 205)]
    for ctid, row in rows.items():
        if int(ctid) != STOPPED:
            assert " nfs " in row and row.endswith(" s"), row
    assert "3/3" in rows["101"] and "2/2" in rows["104"]


# --- a second run -----------------------------------------------------------------------------------------------------


def test_second_run_changes_nothing(again):
    """No file, no owner record, no container and no monitoring daemon is touched, and it says so."""
    assert again.run.code == 0, str(again.run)
    assert again.changes == []
    for node in NODES:
        states = again.run.states(node)
        assert [state["__id__"] for state in states if state.get("changes")] == []


# --- what is refused afterwards ---------------------------------------------------------------------------------------


def test_foreign_start_is_refused(lab, moved):
    """H12: the confs of all nodes are on one share; vzctl itself refuses what another node owns."""
    for verb in ("start", "mount"):
        code, said = lab.try_on("node002", "vzctl", verb, 101)
        assert code == 79, said
        assert "belongs to node001" in said
    assert 101 not in pids(lab, "node002") and 101 in pids(lab, "node001")


def test_container_of_the_node_restarts_by_hand(lab, moved):
    """The guard is lifted: the owner may stop and start a container as ever, and it comes back from NFS."""
    lab.on("node001", "vzctl", "restart", 103)
    [init] = [one for one in lab.ask("node001", checker.PROBE)["inits"] if checker.ctid_of(one) == 103]
    assert init["root"]["root"] == "/103" and init["root"]["kind"] in checker.NFS_KINDS


def test_stale_local_copy_is_never_a_source(lab, moved):
    """H02: the local tree is old; a copy of it over the live one on the share is refused."""
    stream = f"/rf-images/pbx/101/{checker.RECORDS}"
    size = int(lab.on("san1", "stat", "-c", "%s", stream))
    code, said = lab.salt("node001", "cloudstor.sync", "[101]")
    assert code != 0
    assert "container 101 has its live copy on the share" in said
    code, said = lab.salt("node002", "cloudstor.sync", "[101]")
    assert code != 0
    assert "container 101 belongs to node001" in said
    assert int(lab.on("san1", "stat", "-c", "%s", stream)) >= size


def test_empty_source_does_not_wipe_the_copy(lab, moved):
    """H03: a private area that is empty or away is no reason to delete what is on the SAN."""
    private, copy = f"{PRIVATE['node002']}/{STOPPED}", f"/rf-images/pbx/{STOPPED}"
    code, said = lab.salt("node002", "cloudstor.sync", f"[{STOPPED}]")
    assert code == 0, said
    files = lab.on("san1", "find", copy).count("\n")
    lab.on("node002", "mv", private, f"{private}.away")
    try:
        code, said = lab.salt("node002", "cloudstor.sync", f"[{STOPPED}]")
        assert code != 0 and "is not there" in said, said
        lab.on("node002", "mkdir", private)
        code, said = lab.salt("node002", "cloudstor.sync", f"[{STOPPED}]")
        assert code != 0 and "holds no container tree" in said, said
        lab.on("node002", "rmdir", private)
    finally:
        lab.on("node002", "mv", f"{private}.away", private)
    assert lab.on("san1", "find", copy).count("\n") == files > 300
    lab.on("san1", "rm", "-r", copy)


def test_stopped_container_still_starts_from_local_disk(lab, before, moved):
    """H09: what was stopped stays stopped, and vz.conf's new paths did not move it away from its data."""
    assert STOPPED not in pids(lab, "node002")
    lab.on("node002", "vzctl", "start", STOPPED)
    [init] = [one for one in lab.ask("node002", checker.PROBE)["inits"] if checker.ctid_of(one) == STOPPED]
    assert init["root"]["root"].endswith(f"/vz/private/{STOPPED}")
    assert init["root"]["kind"] not in checker.NFS_KINDS
    lab.on("node002", "vzctl", "stop", STOPPED)


def test_what_another_node_just_writes_is_not_read(lab, moved):
    """H12: on the shares a trial of another node's preflight, and a record that its rsync has half written."""
    trial, half = "/rf-images/vzconf/.ringfree-probe-x", "/rf-images/pbx/.ringfree/owner/.201.AbCdEf"
    lab.write("san1", f"{trial}/fifo", "")
    lab.write("san1", half, "node=")
    try:
        for question in ("ringfree_confs.conflicts", "ringfree_owner.records"):
            code, said = lab.salt("node001", question)
            assert code == 0, said
        on_node = lab.on(
            "node001", "find", "/var/lib/ringfree/confs-on-share", "/var/lib/ringfree/owners-on-share"
        )
    finally:
        lab.on("san1", "rm", "-r", trial, half)
    assert "101.conf" in on_node and "/owners-on-share/101" in on_node
    assert ".ringfree-probe-x" not in on_node and ".201.AbCdEf" not in on_node


# --- the time after ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drifted(lab, again):
    """A colleague with an editor has been on node001: what the dry run says, what a highstate does, a second one."""
    expected = changes_of(lab, "node001", "with an editor")
    inside = processes(lab, "node001")
    dry, live, second = (highstate(lab, "node001", *words) for words in (["test=True"], [], []))
    left = {process: name for process, name in inside.items() if process not in processes(lab, "node001")}
    return SimpleNamespace(expected=expected, dry=dry, live=live, second=second, left=left)


def test_a_highstate_finds_nothing_to_do_on_a_node_as_debian_has_it(lab, again):
    """Unless the conf share is not where vzctl reads: it says so, and mounts nothing over confs that may be newer."""
    assert unlike(highstate(lab, "node002")) == {}
    lab.on(
        "node002",
        "sh",
        "-ec",
        f"umount /etc/vz/conf; mkdir -p {ASTRAY}; mount -t nfs -o vers=3,nolock {EXPORT} {ASTRAY}",
    )
    found = highstate(lab, "node002")[SHARES]
    assert (found["result"], found["changes"]) == (False, {})
    for text in (f"mounted on {ASTRAY}, where vzctl does not look", f"'umount {ASTRAY}'"):
        assert text in found["comment"]
    lab.on("node002", "sh", "-ec", f"umount {ASTRAY}; rmdir {ASTRAY} {ASTRAY.rpartition('/')[0]}")
    mended = highstate(lab, "node002")
    assert list(mended[SHARES]["changes"]) == ["/etc/vz/conf"]
    assert [name for name, state in mended.items() if state["result"] is not True] == []


@pytest.mark.parametrize("state", sorted({state for _, state, *_ in DRIFTS["with an editor"].values()}))
def test_h22_drift_is_corrected(drifted, state):
    """The dry run tells the very changes that the highstate makes, and they are those that are due."""
    assert drifted.live[state]["result"] is True, drifted.live[state]["comment"]
    assert set(drifted.live[state]["changes"]) == drifted.expected[state]
    assert drifted.dry[state]["result"] is None
    assert drifted.dry[state]["changes"] == drifted.live[state]["changes"]


def test_h22_a_highstate_touches_nothing_else(drifted):
    """Nothing but what had drifted, nothing the second time, and no process in a container has noticed."""
    assert set(unlike(drifted.live)) == set(drifted.expected)
    assert unlike(drifted.second) == {}
    assert drifted.left == {}


def test_h14_after_a_power_cut_the_containers_come_back_by_themselves(lab, before, drifted):
    """The shares are mounted before vz starts; of the confs of both nodes each one starts its own containers."""
    lab.must("fault", "power-cut", "node001")
    lab.must("heal")
    wanted = {node: before[node]["running"] for node in NODES}
    wait_for(lambda: {node: sorted(pids(lab, node)) for node in NODES} == wanted, f"{wanted}", 180)
    now = {node: lab.ask(node, checker.PROBE) for node in NODES}
    assert checker.check_inits(before, now) == []
    assert checker.check_boot(lab, "node001", before["node001"], now["node001"]) == []


def test_h30_nothing_is_cleaned_up_before_its_time(lab, moved):
    """Committed minutes ago: no consent, and without one nothing is touched."""
    ls = ("sh", "-c", "ls -A /vz/private")
    then, up = lab.on("node001", *ls), pids(lab, "node001")
    code, said = lab.salt_run("ringfree.consent", "node001")
    assert code == 0 and not re.search(r'"consent": "[0-9a-f]', said), said
    assert said.count("less than 14 days (ringfree:cleanup:age)") == 5, said
    words = json.dumps({"nodes": ["node001"], "consent": "0000-0000"})
    code, said = lab.salt_run("state.orch", "cleanup", f"pillar={words}")
    assert code == 1 and "Nothing was touched" in said, said
    assert (lab.on("node001", *ls), pids(lab, "node001")) == (then, up)


def records(lab, node, before):
    """The records of a node's containers on both stores."""
    ctids = before[node]["running"]
    return {store: local_side.streams(lab, node, ctids, store) for store in ("local", "nfs")}


def roll_back(lab, node, data):
    """A way back that has to end well; returns what it said."""
    words = json.dumps({"nodes": [node], "data": data})
    code, said = lab.salt_run("state.orch", "rollback", f"pillar={words}")
    assert code == 0, said
    return said


def test_h13_h21_back_from_a_dead_san_without_what_was_written_on_nfs(lab, before, moved):
    """H07: as before, byte for byte, while the SAN says nothing; what was written there stays, and is listed later."""
    then = records(lab, "node001", before)
    lab.must("fault", "packets-dropped", "san1")
    words = json.dumps({"nodes": ["node001"], "data": "discard"})
    code, said = lab.salt_run("state.orch", "rollback", f"pillar={words}")
    assert code == 1, said
    assert "node001 is back on local storage, 5 of 5 containers answer." in said
    found = local_side.faults(lab, "node001", before["node001"])
    assert [fault for fault in found if "the owner record" not in fault] == []
    lab.must("heal")
    roll_back(lab, "node001", "discard")
    assert local_side.faults(lab, "node001", before["node001"]) == []
    now = records(lab, "node001", before)
    for ctid in before["node001"]["running"]:
        assert now["local"][ctid].startswith(then["local"][ctid])
        assert now["nfs"][ctid].startswith(then["nfs"][ctid])
        assert len(now["nfs"][ctid]) > len(then["local"][ctid])
        listed = f"grep -c {checker.RECORDS} $(ls -d /var/lib/ringfree/changed/*/{ctid} | tail -n 1)"
        assert lab.on("node001", "sh", "-c", listed).split() == ["1"]


def test_h21_back_with_what_was_written_on_nfs(lab, before, moved):
    """Every record is in the local copy, and what it replaced is kept."""
    lab.on("node002", "sh", "-c", "for f in /vz/nfsprivate/201/srv/*/victim.conf; do echo changed >$f; done")
    then = records(lab, "node002", before)
    roll_back(lab, "node002", "sync_back")
    now = records(lab, "node002", before)
    for ctid in before["node002"]["running"]:
        assert now["nfs"][ctid].startswith(then["nfs"][ctid])
        assert now["local"][ctid].startswith(now["nfs"][ctid])
        replaced = lab.on(
            "node002", "sh", "-c", f"cat {PRIVATE['node002']}/.ringfree-replaced/*/{ctid}/{checker.RECORDS}"
        )
        assert replaced.encode().startswith(then["local"][ctid])
    assert local_side.faults(lab, "node002", before["node002"]) == []


def test_h31_no_container_reached_beyond_its_own_tree(lab, moved):
    """Its links were copied as links, there and back, and nothing was written where they lead."""
    assert [lab.on(host, "cat", VICTIM) for host in HOSTS] == [f"{host}'s own\n" for host in HOSTS]
    assert (
        lab.on("node002", "sh", "-c", f"cat {PRIVATE['node002']}/201/srv/in.*/victim.conf").split()
        == ["changed"] * 4
    )


def test_the_fleet_is_home_and_watched(lab, moved):
    """Both daemons of the monitoring run at the end."""
    assert all("ActiveState=active" in unit for unit in monitoring(lab))
