"""Preflight: every reason not to migrate, all at once, and nothing is changed by looking."""

import hashlib
import json
import os
import shutil

import pytest
import ringfree_probe
from fake_node import LAYOUTS, SERVER
from migration_steps import until
from minion_without_daemons import PROJECT
from odd_trees import immutable, make_deep
from salt.exceptions import CommandExecutionError

GOOD = {
    **dict.fromkeys(ringfree_probe.TRIALS, True),
    "bytes_free": 10**12,
    "inodes_free": 10**9,
    "inodes_total": 10**9,
    "same_directory": True,
    "root_mode": 0o700,
}


@pytest.fixture
def preflight(fleet, monkeypatch):
    """`preflight()` looks at the fleet's node, whose exports can store what fleet.exports says; nothing may change."""
    fleet.exports = {share: dict(GOOD) for share in ("private", "root", "conf")}

    def look():
        node = fleet.minion()
        monkeypatch.setattr(
            node.module_of("ringfree_preflight.look"), "probe", lambda share="private": fleet.exports[share]
        )
        node.modules["ringfree_deadman.rehearse"] = lambda: "the dead man's switch was rehearsed"
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
    assert report["notes"] == ["container layouts: simfs", "the dead man's switch was rehearsed"]


@pytest.fixture
def option(fleet, monkeypatch, tmp_path):
    """option("test", True) sets an option of the minion, in a file of its own."""
    opts = fleet.minion().modules.pack["__opts__"]
    monkeypatch.setitem(opts, "conf_file", str(tmp_path / "minion"))
    monkeypatch.setitem(opts, "default_include", "minion.d/*.conf")
    (tmp_path / "minion.d").mkdir()

    def set_option(name, value):
        monkeypatch.setitem(opts, name, value)
        (tmp_path / "minion.d/site.conf").write_text(f"# the site's own\n{name}: {json.dumps(value)}\n")
        return f"{tmp_path}/minion.d/site.conf:2 sets {name}"

    return set_option


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state_queue", True),
        ("disabled_requisites", ["require"]),
        ("global_state_conditions", {"*": ["not G@maintenance:true"]}),
        ("process_count_max", 1),
        ("sudo_user", "admin"),
        ("whitelist_modules", ["vz", "test"]),
    ],
)
def test_h36_a_setting_of_the_minion_that_would_bend_a_migration_is_a_finding(
    fleet, preflight, option, name, value
):
    file = option(name, value)
    report = preflight()
    found(report, file, "Remove it, then 'systemctl restart salt-minion' on the node")
    assert len(report["findings"]) == 1


def test_h36_a_setting_that_each_step_overrides_is_no_finding(fleet, preflight, option):
    file = option("test", True)
    for name, value in {
        "failhard": True,
        "state_aggregate": True,
        "saltenv": "prod",
        "renderer": "mako|yaml",
    }.items():
        fleet.minion().modules.pack["__opts__"][name] = value
    report = preflight()
    assert report["findings"] == []
    assert any(note.startswith(f"{file}: ") and "corrects nothing" in note for note in report["notes"])


def test_a_minion_with_two_masters_is_a_note(fleet, preflight, option):
    option("master", ["10.77.0.10", "10.77.0.11"])
    report = preflight()
    assert report["findings"] == [] and any("has 2 masters" in note for note in report["notes"])


def test_h22_a_schedule_with_a_queue_is_a_finding(fleet, preflight, option):
    option("schedule", {
        "keep": {"function": "state.apply", "minutes": 60},
        "hourly": {"function": "state.highstate", "kwargs": {"queue": True}},
        "mine": {"function": "mine.update", "kwargs": {"queue": True}},
    })  # fmt: skip
    report = preflight()
    found(report, "the schedule hourly runs state.highstate with queue", "for ever")
    assert len(report["findings"]) == 1


def test_h36_states_that_somebody_has_disabled_are_a_finding(fleet, preflight):
    fleet.minion().modules.pack["__grains__"]["state_runs_disabled"] = ["web", "ringfree.rollback"]
    report = preflight()
    found(report, "state.disable ringfree.rollback", "'salt node001 state.enable ringfree.rollback'")
    assert len(report["findings"]) == 1


@pytest.mark.parametrize("same", [True, False])
def test_h36_an_environment_that_decides_about_the_pillar_counts_where_it_makes_another_one(
    fleet, preflight, option, monkeypatch, same
):
    file = option("pillarenv_from_saltenv", True)
    env = Env({"ringfree": fleet.pillar} if same else {})
    pillar = fleet.minion().module_of("ringfree_preflight.look").salt.pillar
    monkeypatch.setattr(pillar, "get_pillar", lambda *args, **kwargs: env)
    report = preflight()
    if same:
        assert report["findings"] == []
    else:
        found(report, file, "the pillar's environment base")


class Env:
    """A pillar of one environment."""

    def __init__(self, pillar):
        self.pillar = pillar

    def compile_pillar(self):
        return self.pillar


def test_h36_a_function_that_is_missing_hides_no_other_finding(fleet, preflight, option):
    """As where another module is in the place of one of ours: which one it is stands in the same message."""
    file = option("state_queue", True)

    def gone():
        raise KeyError("ringfree_failover.between")

    fleet.minion().modules["ringfree_failover.between"] = gone
    report = preflight()
    found(report, file)
    found(report, "ringfree_failover.between", "is missing on this node")
    assert report["loaded"]


def test_a_key_that_is_missing_is_not_taken_for_a_function(fleet, preflight):
    def gone():
        raise KeyError("private")

    fleet.minion().modules["ringfree_failover.between"] = gone
    with pytest.raises(KeyError, match="private"):
        preflight()


def test_h36_what_the_minion_loads_of_ours_is_told(fleet, preflight, tmp_path, monkeypatch):
    """With the file of its own that lies in the way; a whole minion's answer is what the master has."""
    told = preflight()["loaded"]
    assert {name for name in told if name.startswith("_states/")} == {
        f"_states/{path.name}" for path in (PROJECT / "_states").glob("*.py")
    }
    for name, (path, sum_) in told.items():
        assert path == str(PROJECT / name)
        assert sum_ == hashlib.sha256((PROJECT / name).read_bytes()).hexdigest()
    (tmp_path / "modules").mkdir()
    other = tmp_path / "modules/vz.py"
    other.write_text("def ping():\n    return True\n")
    monkeypatch.setitem(
        fleet.minion().modules.pack["__opts__"], "module_dirs", [str(tmp_path), str(PROJECT / "_modules")]
    )
    alone = fleet.minion().modules["ringfree_preflight.salt_settings"]()
    assert alone["findings"] == []
    told = alone["loaded"]["_modules/vz.py"]
    assert told == [str(other), hashlib.sha256(other.read_bytes()).hexdigest()]


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
    fleet.san("vzconf/vps.mount").write_text("#!/bin/sh\nid\n")
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
    found(report, "vps.mount on the conf share is run here as root", "this node has no such file")
    found(report, "a file made over NFS does not show")
    assert len(report["findings"]) == len(set(report["findings"]))


def test_h43_what_no_way_back_could_bring_home_is_found_before_anything_is_touched(fleet, preflight):
    """Named with path and cure."""
    hostname = fleet.private(101) / "etc/hostname"
    make_deep(fleet.private(102), 40, "n" * 100)
    with immutable(hostname), immutable(fleet.conf(104)):
        report = preflight()
    found(report, "container 101 has 1 immutable", f"such as {hostname}", "chattr -i -a")
    found(report, "container 102 has 2 files whose paths are longer than 3840 bytes", "/n")
    found(report, f"{fleet.conf(104)} is immutable", "chattr -i -a")
    assert len(report["findings"]) == 3
    (left,) = preflight()["findings"]
    assert left.startswith("container 102 has 2 files")


def test_h43_a_tree_that_cannot_be_measured_keeps_no_other_from_being_looked_at(fleet, preflight):
    make_deep(fleet.private(104), 40, "n" * 100)
    scan = fleet.minion().module_of("ringfree_nfs.scan").scan

    def hangs(path):
        if path.endswith("/102"):
            raise CommandExecutionError(f"{path}: it did not end within 3600 s")
        return scan(path)

    fleet.minion().modules["ringfree_nfs.scan"] = hangs
    report = preflight()
    found(report, "container 102 cannot be measured", "3600 s")
    found(report, "container 104 has 2 files whose paths are longer")
    assert len(report["findings"]) == 2


def test_h31_a_key_that_opens_a_shell_on_the_san_is_told_and_stops_nothing(fleet, preflight):
    assert "any command" not in str(preflight())
    fleet.rule("ssh", 'case "$*" in *" 10.77.0.21 echo "*) for word; do :; done; echo "$word" ;; esac')
    report = preflight()
    assert report["findings"] == []
    (note,) = [note for note in report["notes"] if "any command" in note]
    assert "id_ed25519 of node001 is good for any command on the SAN 10.77.0.21" in note
    assert "'ringfree-san install'" in note


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_node_of_any_layout_is_fit(fleet, preflight):
    assert preflight()["findings"] == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["srv/confs", "etc/vz/other"])
def test_a_conf_share_that_would_be_where_vzctl_does_not_look_is_found(fleet, preflight, place):
    """Also where there is such a directory, as the one of the other distribution is."""
    (fleet.folder / place).mkdir(parents=True)
    fleet.pillar["shares"]["conf"]["mount"] = str(fleet.folder / place)
    found(
        preflight(),
        f"ringfree:shares:conf:mount: {fleet.folder / place} is not where this node has its confs",
        f"which is {fleet.conf_dir}",
        "leave ringfree:shares:conf:mount out of the pillar",
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", [f"{SERVER}:/rf-images/vzconf", "nas:/export/confs", "/dev/fuse"])
def test_h07_confs_that_are_not_on_the_nodes_own_disk_are_found(fleet, preflight, source):
    """Nothing of before would be kept under the share, or beside it."""
    kind = "fuse" if source == "/dev/fuse" else "nfs"
    fleet.mount(f"60 1 0:52 / {fleet.conf_dir.parent} rw - {kind} {source} rw")
    found(
        preflight(), f"{fleet.conf_dir}, where vzctl of this node reads its confs, lies on {source} ({kind})"
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_vz_conf_that_the_conf_share_would_hide_is_found(fleet, preflight):
    fleet.vz_conf.rename(fleet.conf_dir / "global.conf")
    fleet.vz_conf.symlink_to(fleet.conf_dir / "global.conf")
    found(
        preflight(),
        f"vz.conf of this node is {fleet.conf_dir}/global.conf",
        "the share would hide it",
        "Keep vz.conf outside",
    )


def test_a_vz_conf_that_is_a_link_to_anywhere_else_is_no_fault(fleet, preflight):
    fleet.vz_conf.rename(fleet.folder / "etc/sysconfig/vz")
    fleet.vz_conf.symlink_to(fleet.folder / "etc/sysconfig/vz")
    assert preflight()["findings"] == []


@pytest.mark.parametrize("share", ["private", "root", "conf"])
def test_a_file_system_of_its_own_where_a_share_is_to_be_is_found(fleet, preflight, share):
    fleet.mount(f"60 1 8:9 / {fleet.mount_point(share)} rw - ext4 /dev/sdb9 rw")
    (finding,) = preflight()["findings"]
    assert finding.startswith(f"{fleet.mount_point(share)}, where ") and "/dev/sdb9 (ext4)" in finding


def test_a_share_that_an_admin_has_mounted_already_is_no_fault(fleet, preflight):
    fleet.mount(f"60 1 0:50 / {fleet.mount_point('private')} rw - nfs {SERVER}:/rf-images/pbx rw")
    assert preflight()["findings"] == []


@pytest.mark.parametrize(
    ("where", "what"),
    [("vz/private", "would hide"), ("vz/private/101/nfs", "lies inside")],
)
def test_a_mount_point_over_or_in_a_local_container_is_found(fleet, preflight, where, what):
    """Wherever the node's own vz.conf has them."""
    fleet.pillar["shares"]["root"]["mount"] = str(fleet.folder / where)
    found(preflight(), "ringfree:shares:root:mount", what, str(fleet.folder / "vz/private/101"))


@pytest.mark.parametrize(
    ("private", "root"),
    [
        ("/vz/$VEID", "/vz/root/$VEID"),
        ("/vz/$VEID", "/vz/root-$VEID"),
        ("/vz/$VEID/private", "/vz/$VEID/root"),
        ("/vz/./ct${VEID}.d//", "/vz/../vz/root/$VEID/"),
        ("/linked/$VEID", "/linked/root.$VEID"),
    ],
)
def test_containers_may_lie_wherever_vzctl_finds_them(fake_node, preflight, private, root):
    """Also beside the mount points of the shares."""
    folder = str(fake_node.folder)
    (fake_node.folder / "linked").symlink_to(fake_node.folder / "vz")
    text = fake_node.vz_conf.read_text().split("VE_ROOT=", maxsplit=1)[0]
    fake_node.vz_conf.write_text(f'{text}VE_ROOT="{folder}{root}"\nVE_PRIVATE="{folder}{private}"\n')
    for ctid in (101, 102, 103, 104):
        place, mounted = (
            os.path.realpath(f"{folder}{path}".replace("{VEID}", "VEID").replace("$VEID", str(ctid)))
            for path in (private, root)
        )
        os.makedirs(os.path.dirname(place), exist_ok=True)
        fake_node.private(ctid).rename(place)
        os.makedirs(mounted, exist_ok=True)
        mountinfo = fake_node.folder / "proc/mountinfo"
        said = mountinfo.read_text().replace(f"{folder}/vz/private/{ctid} ", f"{place} ")
        mountinfo.write_text(said.replace(f"{folder}/vz/root/{ctid} ", f"{mounted} "))
    report = preflight()
    assert report["findings"] == []
    assert report["containers"][101]["bytes"] > 0


def test_what_is_odd_and_does_no_harm_is_a_note_at_most(fleet, preflight):
    """A key twice with one value, a NAME or ONBOOT that vzctl skips, two containers with one HOSTNAME, a spare one."""
    with fleet.vz_conf.open("a") as stream:
        stream.write('DISK_QUOTA="yes"\nLOCKDIR=/x y\n')
    with fleet.conf(101).open("a") as stream:
        stream.write("BOOTORDER='7'\nVE_LAYOUT=simfs\nVE_LAYOUT=\"simfs\"\n")
    fleet.conf(102).write_text(fleet.conf(102).read_text().replace("ct102", "ct101"))
    fleet.conf(104).write_text(fleet.conf(104).read_text().replace('NAME="revnat"', 'NAME="rev/nat"'))
    fleet.pillar["containers"]["exempt"] = {}
    fleet.san("pbx/103").mkdir()
    report = preflight()
    assert report["findings"] == []
    notes = "\n".join(report["notes"])
    assert f"{fleet.conf(104)}:3: vzctl does not know this value" in notes
    assert f"{fleet.conf(101)}:5: single quotes" in notes
    assert "the migration leaves this line as it is" in notes
    assert "copy of container 103 that nobody owns; it stays as it is" in notes
    assert "VE_LAYOUT" not in notes and "DISK_QUOTA" not in notes
    assert [entry["known_as"] for entry in report["containers"].values()] == [None] * 4


def test_a_file_system_that_counts_no_inodes_tells_none(fleet, preflight):
    fleet.exports["private"].update(inodes_total=0, inodes_free=0)
    assert preflight()["free"] == {"bytes": 10**12, "inodes": None}


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


# --- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", ["private", "root"])
def test_an_export_that_local_users_can_walk_is_a_finding(fleet, preflight, share):
    """A container's root makes a set-uid program there, and a local user of node or SAN runs it."""
    fleet.exports[share]["root_mode"] = 0o711
    found(preflight(), "has mode 0711", "set-uid", "'chmod 0700 /rf-images/pbx")


def test_the_conf_share_is_as_vz_has_it(fleet, preflight):
    fleet.exports["conf"]["root_mode"] = 0o755
    assert preflight()["findings"] == []


def test_a_mount_point_that_local_users_can_walk_is_named_with_the_folder_above(fleet, preflight):
    (fleet.folder / "vz/nfsroot").chmod(0o755)
    (fleet.folder / "vz").chmod(0o755)
    report = preflight()
    assert report["findings"] == []
    (note,) = [note for note in report["notes"] if "set-uid" in note]
    for words in ("vz/nfsroot has mode 0755", "/vz with 0755", "it is closed before it is used"):
        assert words in note


def test_so_is_what_is_mounted_on_a_node_that_runs_from_it(fleet, preflight):
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    assert not [note for note in preflight()["notes"] if "set-uid" in note]
    (fleet.folder / "vz/nfsprivate").resolve().chmod(0o755)
    assert [note for note in preflight()["notes"] if "'chmod 0700 /rf-images/pbx' on the SAN" in note]


def test_the_probe_tells_the_mode_of_an_export(fleet):
    mode = fleet.minion().modules["ringfree_nfs.mode"]
    fleet.san("pbx").chmod(0o2751)
    assert mode(str(fleet.san("pbx"))) == 0o2751
    with pytest.raises(CommandExecutionError, match="No such file"):
        mode(str(fleet.san("nowhere")))


# --- what lies around a private area ----------------------------------------------------------------------------------


def test_h38_what_is_mounted_around_private_areas_is_found(fleet, preflight):
    hospice, pbx, revnat = (fleet.private(ctid) for ctid in (101, 102, 104))
    (fleet.folder / "etc/vz/conf/104.mount").write_text("#!/bin/sh\n")
    with fleet.conf(103).open("a") as stream:
        stream.write(f'VE_PRIVATE="{pbx}"\n')
    for line in (
        f"901 1 0:50 / {pbx}/var/lib/extra rw - tmpfs none rw",
        f"902 1 8:1 /srv/extra {hospice}/srv rw - ext4 /dev/sda1 rw",
        f"903 101 8:1 /srv/mail {fleet.folder}/vz/root/101/var/mail rw - ext4 /dev/sda1 rw",
        f"904 104 8:1 /srv/mail {fleet.folder}/vz/root/104/var/mail rw - ext4 /dev/sda1 rw",
        f"905 1 8:1 {revnat}/home /srv/ftp rw - ext4 /dev/sda1 rw",
    ):
        fleet.mount(line)
    report = preflight()
    found(report, "container 102 has none (tmpfs) mounted on", "/var/lib/extra", "umount")
    found(report, "container 101 has /srv/extra of /dev/sda1 (ext4) mounted on", "in its private area")
    found(report, "container 101 has /srv/mail of /dev/sda1 (ext4) mounted on", "in its root", "101.mount")
    found(report, "container 104 is seen on /srv/ftp as well")
    found(report, "containers 102 and 103 have one private area")
    assert len(report["findings"]) == 5, report["findings"]


def test_h38_what_is_mounted_there_is_in_no_copy_so_none_is_made(fleet):
    """Also when it was mounted since preflight has looked."""
    state = until(fleet, "cloudstor.synced")
    fleet.mount(f"901 1 0:50 / {fleet.private(102)}/var rw - tmpfs none rw")
    ret = state()
    assert ret["result"] is False
    assert "nothing was copied: container 102 has none (tmpfs) mounted on" in ret["comment"]
    assert not fleet.san("pbx/101/etc/hostname").read_text().startswith("#")


def test_h38_a_private_area_that_is_a_link_is_looked_at_as_it_is_copied(fleet, preflight):
    """To another disk, through another link."""
    far = fleet.folder / "disk2/alpha"
    far.parent.mkdir()
    fleet.private(101).rename(far)
    (fleet.folder / "disk").symlink_to(fleet.folder / "disk2")
    fleet.private(101).symlink_to(fleet.folder / "disk/alpha")
    mountinfo = fleet.folder / "proc/mountinfo"
    mountinfo.write_text(mountinfo.read_text().replace(f"8:1 {fleet.private(101)} ", f"8:1 {far} "))
    os.link(far / "etc/hostname", far / "etc/hostname2")
    fleet.exports["private"]["hard_link"] = "EPERM (Operation not permitted)"
    fleet.mount(f"901 1 0:50 / {far}/tmp rw - tmpfs none rw")
    report = preflight()
    found(report, "container 101 uses hard links (2 files")
    found(report, "container 101 has none (tmpfs) mounted on", str(far / "tmp"))
    assert len(report["findings"]) == 2, report["findings"]
    assert report["containers"][101]["inodes"] == 4


def test_links_in_a_circle_keep_no_other_container_from_being_looked_at(fleet, preflight):
    fleet.private(104).rename(fleet.folder / "vz/away")
    fleet.private(104).symlink_to(fleet.private(104))
    (fleet.folder / "proc/running/104").unlink()
    fleet.mount(f"901 1 0:50 / {fleet.private(102)}/tmp rw - tmpfs none rw")
    found(preflight(), "container 102 has none (tmpfs)")


def test_h43_a_folder_of_private_areas_that_nothing_can_be_put_into_is_found(fleet, preflight):
    with immutable(fleet.folder / "vz/private"):
        report = preflight()
    found(report, f"{fleet.folder}/vz/private, in which private areas lie, is immutable", "chattr -i -a")
    assert len(report["findings"]) == 1


# --- what the SAN does with files -------------------------------------------------------------------------------------

REFUSED = 'rsync: [receiver] rsync_xal_set: lremovexattr("/rf-images/pbx/.ringfree/probe-1/plain","%s") failed: x (13)'


@pytest.mark.parametrize(
    "name, cure",
    [
        ("security.selinux", "'ringfree-san install' there lets a node in so that copies are without it"),
        ("user.DOSATTRIB", "'ringfree-san install … without=user.DOSATTRIB' there"),
    ],
)
def test_a_san_that_insists_on_an_attribute_is_found_before_anything_is_copied(fleet, preflight, name, cure):
    fleet.exports["private"]["copy"] = {"plain": REFUSED % name}
    (finding,) = preflight()["findings"]
    assert "does not take files as rsync brings them" in finding
    assert name in finding and cure in finding


def test_what_only_a_copy_loses_counts_where_a_container_uses_it(fleet, preflight):
    fleet.exports["private"]["copy"] = {"fifo": "cS+++ probe-1/fifo/fifo", "acl": "sys_acl_set_file failed"}
    assert preflight()["findings"] == []
    os.mkfifo(fleet.private(102) / "fifo")
    (finding,) = preflight()["findings"]
    assert "container 102 uses fifos (1 files" in finding and "the SAN does not keep in a copy" in finding


def test_a_loss_that_is_accepted_still_must_not_fail_the_copy(fleet, preflight):
    """rsync cannot set what the SAN's disk does not take, whether anybody would miss it or not."""
    os.setxattr(fleet.private(102) / "etc", "user.note", b"1")
    fleet.pillar["accept"] = ["xattr"]
    fleet.exports["private"]["xattr"] = "ENOTSUP (Operation not supported)"
    assert preflight()["findings"] == []
    fleet.exports["private"]["copy"] = {"xattr": "rsync_xal_set: lsetxattr failed"}
    (finding,) = preflight()["findings"]
    assert "container 102 uses xattr" in finding and "the SAN does not keep in a copy" in finding
