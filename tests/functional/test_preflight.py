"""Preflight: every reason not to migrate, all at once, and nothing is changed by looking."""

import json
import os
import shutil

import pytest
import ringfree_probe
from migration_steps import until

GOOD = {
    **dict.fromkeys(ringfree_probe.TRIALS, True),
    "bytes_free": 10**12,
    "inodes_free": 10**9,
    "inodes_total": 10**9,
    "same_directory": True,
}


@pytest.fixture
def preflight(fleet):
    """`preflight()` looks at the fleet's node, whose exports can store what fleet.exports says; nothing may change."""
    fleet.exports = {share: dict(GOOD) for share in ("private", "root", "conf")}

    def look():
        node = fleet.minion()
        node.modules["ringfree_nfs.probe"] = lambda share="private": fleet.exports[share]
        node.modules["ringfree_deadman.rehearse"] = lambda: "the dead-man was rehearsed"
        before = fleet.tree()
        report = node.modules["ringfree_preflight.look"]()
        assert fleet.tree() == before
        json.dumps(report)  # it travels to the master
        return report

    return look


def found(report, *words):
    """One finding has all these words."""
    assert any(all(word in finding for word in words) for finding in report["findings"]), report["findings"]


def test_a_node_that_is_fit(fleet, preflight):
    report = preflight()
    assert report["findings"] == []
    assert report["state"] == "local"
    assert {ctid: (entry["name"], entry["running"]) for ctid, entry in report["containers"].items()} == {
        101: ("Four Seasons hospice", True),
        102: ("PBX", True),
        103: ("Epsilon", False),
        104: ("revnat", True),
    }
    assert report["containers"][101]["bytes"] > 0
    assert report["containers"][103]["bytes"] == 0
    assert report["need"]["inodes"] == int(3 * 4 * 1.05)
    assert report["free"] == {"bytes": 10**12, "inodes": 10**9}
    assert report["notes"] == ["container layouts: simfs", "the dead-man was rehearsed"]


def test_h22_a_minion_that_queues_states_by_itself_is_a_finding(fleet, preflight, monkeypatch):
    monkeypatch.setitem(fleet.minion().modules.pack["__opts__"], "state_queue", True)
    found(preflight(), "sets state_queue", "for ever")


def test_all_reasons_are_found_at_once(fleet, preflight):
    fleet.pillar["containers"]["priority"] = ["PBX", "nobody"]
    with fleet.conf(103).open("a") as stream:
        stream.write('VE_PRIVATE="/a"\nVE_PRIVATE="/b"\n')
    (fleet.folder / "vz/dump/Dump.102").touch()
    (fleet.folder / "etc/ringfree/ssh/id_ed25519").unlink()
    (fleet.folder / "etc/vz/conf/vps.premount").write_text("#!/bin/sh\nmine\n")
    with fleet.vz_conf.open("a") as stream:
        stream.write('DISABLED="no"\n')
    with fleet.conf(104).open("a") as stream:
        stream.write('DISABLED="no"\n')
    fleet.own(101, node="node002")
    fleet.san("pbx/102").mkdir()
    fleet.san("vzconf/104.conf").write_text("somebody's\n")
    fleet.exports["root"]["same_directory"] = "a file made over NFS does not show"
    report = preflight()
    found(report, "priority: 'nobody' is no container of this node")
    found(report, "103.conf:", "VE_PRIVATE")
    found(report, "Dump.102", "vzctl resume")
    found(report, "id_ed25519 does not exist")
    found(report, "vps.premount exists and is not the fence of this project")
    found(report, "vz.conf sets DISABLED")
    found(report, "104.conf says DISABLED")
    found(report, "container 101 belongs to node002")
    found(report, "copy of container 102 that nobody owns", "ringfree:sync:adopt")
    found(report, "104.conf on the conf share differs")
    found(report, "a file made over NFS does not show")
    assert len(report["findings"]) == len(set(report["findings"]))


def test_a_pillar_that_is_wrong_is_found_with_all_its_faults(fleet, preflight):
    fleet.pillar.update(batch=0, speed=9)
    report = preflight()
    found(report, "ringfree:batch", "ringfree:speed")


def test_a_damaged_journal_is_found(fleet, preflight):
    (fleet.folder / "var/journal.json").write_text("{")
    found(preflight(), "journal.json is damaged")


def test_h11_an_ambiguous_conf_of_a_container_that_moves(fleet, preflight):
    with fleet.conf(101).open("a") as stream:
        stream.write('VE_ROOT="/a"\nVE_ROOT="/b"\n')
    found(preflight(), "101.conf:", "VE_ROOT")


def test_a_missing_vz_conf(fleet, preflight):
    fleet.vz_conf.unlink()
    found(preflight(), "vz.conf does not exist")


def test_h25_a_container_without_any_check_is_found_before_it_is_stopped(fleet, preflight):
    fleet.pillar["containers"]["exempt"] = {"revnat": ["asterisk", "init"]}
    found(preflight(), "container 104", "exempt from every check")


def test_h01_what_the_export_cannot_store_and_a_container_uses(fleet, preflight):
    os.link(fleet.private(101) / "etc/hostname", fleet.private(101) / "etc/hostname2")
    fleet.exports["private"]["hard_link"] = "EPERM (Operation not permitted)"
    fleet.exports["private"]["fifo"] = "EPERM (Operation not permitted)"
    report = preflight()
    found(report, "container 101 uses hard links (2 files, such as", "EPERM")
    assert not [finding for finding in report["findings"] if "fifo" in finding]


def test_h29_a_wrong_host_key_is_one_finding(fleet, preflight):
    fleet.rule("ssh", "echo 'Host key verification failed.' >&2; exit 255")
    fleet.rule("rsync", "echo 'Host key verification failed.' >&2; exit 255")
    report = preflight()
    found(report, "10.77.0.21", "the SAN's host key is not the pinned one")
    assert len(report["findings"]) == 1, report["findings"]


def test_missing_exports_are_each_named(fleet, preflight):
    for share in ("pbxroot", "vzconf"):
        fleet.san(share).rename(fleet.san(f"{share}.away"))
    report = preflight()
    found(report, "/rf-images/pbxroot over ssh")
    found(report, "/rf-images/vzconf over ssh")


def test_h03_a_private_area_that_is_not_there(fleet, preflight):
    fleet.private(101).rename(fleet.folder / "vz/moved")
    found(preflight(), "container 101", "is not there")


def test_h10_a_container_that_runs_from_another_tree(fleet, preflight):
    mountinfo = fleet.folder / "proc/mountinfo"
    mountinfo.write_text(mountinfo.read_text().replace("private/101 ", "private/999 "))
    found(preflight(), "container 101 runs from another tree than its conf names")


def test_a_ploop_container_needs_nfs_3(fleet, preflight):
    fleet.pillar["nfs"]["options"] = "vers=4,hard"
    with fleet.conf(102).open("a") as stream:
        stream.write('VE_LAYOUT="ploop"\n')
    report = preflight()
    found(report, "container 102 is ploop", "vers=3")
    assert "container layouts: ploop, simfs" in report["notes"]


def test_a_journal_of_before_that_was_lost(fleet, preflight):
    """H02: the share says that the live copy is there, the node knows nothing of it."""
    fleet.own(101, store="nfs")
    found(preflight(), "container 101 has its live copy on the share", "its local copy is old")


def test_programs_that_are_missing_are_named(fleet, preflight, monkeypatch):
    real = shutil.which
    for module in ("shutil.which", "salt.utils.path.which"):
        monkeypatch.setattr(module, lambda name, *args, **kwargs: None if name == "mount.nfs" else real(name))
    found(preflight(), "mount.nfs is not installed on the node")


def test_a_node_without_vzctl_is_said_to_be_none(fake_node):
    for name in ("vzctl", "vzlist"):
        (fake_node.bin / name).unlink()
    node = fake_node.minion()
    report = node.modules["ringfree_preflight.look"]()
    found(report, "vzctl")
    assert not [finding for finding in report["findings"] if "KeyError" in finding]


def test_a_node_in_flight_can_go_on(fleet, preflight):
    """A second run of the migration asks preflight again, half way through."""
    until(fleet, "cloudstor.synced")
    assert preflight()["findings"] == []
    assert fleet.minion().states["cloudstor.synced"]("x")["result"] is True
    assert preflight()["findings"] == []


def test_a_committed_node_is_fit_with_its_services_down(fleet, preflight):
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    fleet.rule("rsync", "exit 12")
    report = preflight()
    assert (report["findings"], report["state"]) == ([], "nfs")


def test_h07_a_conf_that_is_a_link_out_of_its_directory(fleet, preflight):
    """The snapshot holds the link and not the file, so the way back could not bring the file back."""
    real = fleet.folder / "somewhere.conf"
    fleet.conf(101).rename(real)
    fleet.conf(101).symlink_to(real)
    (finding,) = [text for text in preflight()["findings"] if "101.conf" in text]
    assert f"is a link to {real}" in finding
    assert "put the file itself in its place" in finding


def test_h25_a_service_that_does_not_answer_before_the_move_is_a_finding(fleet, preflight, monkeypatch):
    """It would not answer afterwards either, and the whole node would go back because of it."""
    monkeypatch.setattr(fleet.minion().module_of("ringfree_preflight.look"), "PATIENCE", 0)
    fleet.rule("vzctl.exec2.102", "echo 'Unable to connect to remote asterisk' >&2; exit 1")
    report = preflight()
    found(
        report, "container 102: asterisk does not answer", "Unable to connect", "ringfree:containers:exempt"
    )


def test_a_list_of_containers_that_fails_is_a_finding_in_flight_as_well(fleet, preflight):
    """The manifest still names the containers; what nobody could list is not measured."""
    until(fleet, "vz.stopped")
    fleet.rule("vzlist", "echo 'vzlist is broken' >&2; exit 1")
    found(preflight(), "vzlist is broken")
