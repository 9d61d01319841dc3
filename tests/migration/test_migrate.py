"""A whole migration of the default fleet: pre-sync, dry run, the move, a second run, and what is refused afterwards."""

from types import SimpleNamespace

import checker
import pytest
from fleet_under_test import Gate, Run, changed, everything, migrate, monitoring, pids, start

FLEET = {}
NODES = ("node001", "node002")
STOPPED = 205  # its conf names no private area: vz.conf's counts
BOOTS_FIRST = 204


@pytest.fixture(scope="module")
def before(lab):
    """The fleet before: a container of node002 was stopped on purpose, another has a BOOTORDER."""
    for node in NODES:
        Gate(lab, node).install()
    lab.on("node002", "vzctl", "stop", STOPPED)
    lab.on("node002", "vzctl", "set", BOOTS_FIRST, "--bootorder", "10", "--save")
    found = checker.remember(lab, NODES)
    assert checker.values(found["node002"]["confs"][f"{STOPPED}.conf"], "VE_PRIVATE") == []
    assert [len(found[node]["running"]) for node in NODES] == [5, 4]
    return found


@pytest.fixture(scope="module")
def local_faults(lab, before):
    """What the checker says while everything still runs from local disk."""
    return checker.faults(lab, before)


@pytest.fixture(scope="module")
def presynced(lab, local_faults):
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
        assert f"{node}: there is no /etc/sysconfig/vz-scripts.tar.gz" in text


def test_presync_copies_and_moves_nothing(lab, before, presynced):
    """The pre-sync fills the SAN while everything runs on, and the nodes stay local."""
    assert presynced.run.code == 0, str(presynced.run)
    assert presynced.now == presynced.then
    names = lab.on("san1", "ls", "/rf-images/pbx").split()
    assert sorted(names) == sorted(str(ctid) for then in before.values() for ctid in then["running"])
    for line in ("node001 was not touched", "node002 was not touched"):
        assert line in presynced.run.err


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
    private, copy = f"/vz/private/{STOPPED}", f"/rf-images/pbx/{STOPPED}"
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
        for question in ("cloudstor.conf_conflicts", "ringfree_owner.records"):
            code, said = lab.salt("node001", question)
            assert code == 0, said
        on_node = lab.on(
            "node001", "find", "/var/lib/ringfree/confs-on-share", "/var/lib/ringfree/owners-on-share"
        )
    finally:
        lab.on("san1", "rm", "-r", trial, half)
    assert "101.conf" in on_node and "/owners-on-share/101" in on_node
    assert ".ringfree-probe-x" not in on_node and ".201.AbCdEf" not in on_node


def test_monitoring_was_not_touched_by_looking(lab, again):
    """Both daemons run at the end."""
    assert all("ActiveState=active" in unit for unit in monitoring(lab))
