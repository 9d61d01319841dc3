"""What comes along to the conf share, what an earlier run has left there, and what its nodes must agree on."""

import os
import socket
import stat

import pytest
from migration_steps import apply, until
from salt.exceptions import CommandExecutionError

HELPER = "#!/bin/sh\nmount --bind /srv/x $1/x\n"
PINS = 'VE_ROOT="{0}/vz/root/$VEID"\nVE_PRIVATE="{0}/vz/private/$VEID"\nDISK_QUOTA="yes"\n'


@pytest.fixture
def conf_dir(fleet):
    return fleet.folder / "etc/vz/conf"


@pytest.fixture
def call(fleet):
    return lambda name, *args, **kwargs: fleet.minion().modules[name](*args, **kwargs)


def back(node):
    """A way back, as after a part that failed."""
    result = apply(node, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert result["result"] is True, result["comment"]


# --- what comes along -------------------------------------------------------------------------------------------------


def test_what_scripts_keep_in_subdirectories_is_there_after_the_move(fleet, conf_dir):
    (conf_dir / "scripts/lib/deep").mkdir(parents=True)
    (conf_dir / "scripts").chmod(0o750)
    (conf_dir / "scripts/mount-it").write_text(HELPER)
    (conf_dir / "scripts/mount-it").chmod(0o755)
    (conf_dir / "scripts/lib/deep/table").write_text("101 x\n")
    (conf_dir / "scripts/latest").symlink_to("mount-it")
    (conf_dir / "scripts/up").symlink_to("../helpers")
    (conf_dir / "helpers").write_text("x=1\n")
    until(fleet, "vz.running")
    assert fleet.san("vzconf").is_symlink()  # mounted
    assert (conf_dir / "scripts/mount-it").read_text() == HELPER
    assert stat.S_IMODE((conf_dir / "scripts/mount-it").stat().st_mode) == 0o755
    assert stat.S_IMODE((conf_dir / "scripts").stat().st_mode) == 0o750
    assert (conf_dir / "scripts/lib/deep/table").read_text() == "101 x\n"
    assert os.readlink(conf_dir / "scripts/latest") == "mount-it"
    assert (conf_dir / "scripts/up").read_text() == "x=1\n"


def test_a_subdirectory_of_another_node_with_the_same_name_is_a_conflict(fleet, conf_dir, call):
    for folder, text in ((conf_dir, "mine\n"), (fleet.san("vzconf"), "of node002\n")):
        (folder / "scripts").mkdir()
        (folder / "scripts/table").write_text(text)
        (folder / "scripts/alike").write_text("both\n")
    assert [said.split(" on ")[0] for said in call("ringfree_confs.conflicts")] == ["scripts/table"]


def test_a_conf_that_cannot_be_edited_hides_no_conflict(fleet, conf_dir, call):
    """Preflight names that conf by itself; the share is compared all the same, and nothing is brought."""
    with fleet.conf(101).open("a") as stream:
        stream.write('VE_ROOT="/a"\nVE_ROOT="/b"\n')
    for folder, text in ((conf_dir, 'X="1"\n'), (fleet.san("vzconf"), 'X="2"\n')):
        (folder / "0.conf").write_text(text)
    assert [said.split(" on ")[0] for said in call("ringfree_confs.conflicts")] == ["0.conf"]
    with pytest.raises(CommandExecutionError, match=r"101\.conf: line"):
        call("ringfree_confs.conf_share")


def test_a_directory_in_the_place_of_a_file_is_a_conflict(fleet, conf_dir, call):
    (conf_dir / "ve-x.conf-sample").write_text('ONBOOT="no"\n')
    fleet.san("vzconf/ve-x.conf-sample").mkdir()
    assert "ve-x.conf-sample on the conf share differs" in call("ringfree_confs.conflicts")[0]


def test_what_other_nodes_keep_in_their_own_subdirectories_is_nobodys_business(fleet, call):
    fleet.san("vzconf/node002").mkdir()
    (fleet.san("vzconf/node002") / "large").write_bytes(bytes(20 << 20))
    assert call("ringfree_confs.conflicts") == []


def test_a_conf_directory_that_is_too_large_is_said(fleet, conf_dir, call):
    (conf_dir / "images").mkdir()
    (conf_dir / "images/disk").write_bytes(bytes(20 << 20))
    with pytest.raises(
        CommandExecutionError, match="conf cannot be brought to the conf share: it has more than"
    ):
        call("ringfree_confs.conflicts")


@pytest.mark.parametrize(
    "uses", [". /etc/vz/conf/.settings", '. "$(dirname $0)"/.settings', "cat .settings >/x"]
)
def test_a_hidden_file_that_a_script_uses_is_named(fleet, conf_dir, call, uses):
    (conf_dir / ".settings").write_text("x=1\n")
    (conf_dir / "101.mount").write_text(f"#!/bin/sh\n# .settings\n{uses}\n")
    (said,) = call("ringfree_mentions.left_behind")
    assert said.startswith(f"{conf_dir}/101.mount:3 uses .settings") and "would be missing" in said
    (conf_dir / ".settings").rename(conf_dir / "settings")
    (conf_dir / "101.mount").write_text("#!/bin/sh\n. /etc/vz/conf/settings\n")
    assert call("ringfree_mentions.left_behind") == []


def test_a_pipe_that_a_script_uses_is_named_and_keeps_no_snapshot_from_being_made(
    fleet, conf_dir, call, monkeypatch
):
    os.mkfifo(conf_dir / "queue")
    (conf_dir / "scripts").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(conf_dir / "scripts")
        listener.bind("socket")
    os.mkfifo(conf_dir / "scripts/pipe")
    (conf_dir / "scripts/out").symlink_to("../../vz.conf")
    (conf_dir / "vps.mount").write_text("#!/bin/sh\necho $VEID >$(dirname $VE_CONFFILE)/queue\n")
    assert "vps.mount:2 uses queue" in call("ringfree_mentions.left_behind")[0]
    assert until(fleet, "ringfree_snapshot.made")()["result"] is True


@pytest.mark.parametrize("name", [".101.conf.swp", ".git", ".settings"])
def test_hidden_files_that_no_script_uses_are_not_named(fleet, conf_dir, call, name):
    (conf_dir / name).write_text("x")
    (conf_dir / "101.mount").write_text("#!/bin/sh\ncat x.settings /x/.settings-2 .git-x\n")
    assert call("ringfree_mentions.left_behind") == []


# --- what an earlier run has left -------------------------------------------------------------------------------------


def test_a_second_run_knows_the_confs_of_stopped_containers_as_its_own(fleet, call):
    """Also when somebody has changed the conf meanwhile; once more, with a third run."""
    for turn in range(3):
        until(fleet, "vz.stopped")
        there = fleet.san("vzconf/103.conf").read_text()
        assert there == fleet.conf(103).read_text() and "VE_PRIVATE" in there
        back(fleet)
        assert "VE_PRIVATE" not in fleet.conf(103).read_text()
        if turn:
            with fleet.conf(103).open("a") as stream:
                stream.write(f'DESCRIPTION="changed {turn}"\n')
        assert call("ringfree_confs.conflicts") == []


def test_a_second_run_replaces_the_scripts_that_it_brought_itself(fleet, conf_dir, call):
    for name in ("103.mount", "vps.mount", "ve-x.conf-sample"):
        (conf_dir / name).write_text("#!/bin/sh\nexit 1\n")
    until(fleet, "vz.stopped")
    back(fleet)
    for name in ("103.mount", "vps.mount", "ve-x.conf-sample"):
        (conf_dir / name).write_text("#!/bin/sh\nexit 0\n")
    assert call("ringfree_confs.conflicts") == []
    until(fleet, "vz.stopped")
    assert fleet.san("vzconf/vps.mount").read_text() == "#!/bin/sh\nexit 0\n"


def test_h12_what_other_nodes_use_as_well_is_not_replaced(fleet, conf_dir, call):
    (conf_dir / "vps.mount").write_text("#!/bin/sh\nexit 1\n")
    until(fleet, "vz.stopped")
    back(fleet)
    fleet.own(201, node="node002")
    (conf_dir / "vps.mount").write_text("#!/bin/sh\nexit 0\n")
    assert any("vps.mount on the conf share differs" in said for said in call("ringfree_confs.conflicts"))


def test_h41_what_somebody_changed_on_the_share_since_is_not_ours(fleet, call):
    until(fleet, "vz.stopped")
    back(fleet)
    with fleet.san("vzconf/103.conf").open("a") as stream:
        stream.write("id\n")
    found = call("ringfree_confs.conflicts")
    assert any("103.conf on the conf share differs" in said for said in found)
    assert any("103.conf on the conf share is run here as root" in said for said in found)


def test_a_pinned_conf_from_before_there_was_a_list_is_known(fleet, call):
    (fleet.san("vzconf") / "103.conf").write_text(fleet.conf(103).read_text() + PINS.format(fleet.folder))
    assert call("ringfree_confs.conflicts") == []
    fleet.own(103, node="node002")
    assert "103.conf on the conf share belongs to node002" in call("ringfree_confs.conflicts")[0]


def test_a_damaged_list_of_what_was_brought_is_none(fleet, call):
    until(fleet, "vz.stopped")
    back(fleet)
    (fleet.folder / "var/conf-share.json").write_text("{")
    fleet.conf(103).write_text(fleet.conf(103).read_text() + 'X="1"\n')
    assert "103.conf on the conf share differs" in call("ringfree_confs.conflicts")[0]


@pytest.mark.parametrize("name", ["vps.premount", "vps.create"])
def test_an_older_fence_on_the_share_is_replaced(fleet, call, name):
    fleet.san("vzconf", name).write_bytes(call("ringfree_guard.script") + b"# as an older version had it\n")
    assert call("ringfree_confs.conflicts") == []
    until(fleet, "vz.stopped")
    assert fleet.san("vzconf", name).read_bytes() == call("ringfree_guard.script")


def test_h41_what_is_no_fence_in_the_place_of_one_is_found(fleet, call):
    fleet.san("vzconf/vps.premount").write_text("#!/bin/sh\nid\n")
    assert "vps.premount on the conf share is run here as root" in call("ringfree_confs.conflicts")[0]


# --- what nodes of one share agree on ---------------------------------------------------------------------------------


def test_the_mode_of_a_sample_is_no_conflict_and_whether_a_script_runs_is_one(fleet, conf_dir, call):
    for name, mode in (("ve-x.conf-sample", 0o600), ("vps.mount", 0o644), ("0.conf", 0o600)):
        for folder in (conf_dir, fleet.san("vzconf")):
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755 if name == "vps.mount" else 0o644)
        fleet.san("vzconf", name).chmod(mode)
    (said,) = call("ringfree_confs.conflicts")
    assert said.startswith("vps.mount on the conf share differs")
    (conf_dir / "vps.mount").chmod(0o600)
    until(fleet, "vz.running")


def test_the_files_that_nodes_have_in_common(fleet, conf_dir, call):
    (conf_dir / "scripts").mkdir()
    for name in ("ve-x.conf-sample", "0.conf", "vps.mount", "103.mount", "scripts/x", ".hidden"):
        (conf_dir / name).write_text("#!/bin/sh\n")
    before = call("ringfree_confs.shared_files")
    assert sorted(before) == ["0.conf", "scripts/x", "ve-x.conf-sample", "vps.mount"]
    (conf_dir / "vps.mount").chmod(0o755)
    (conf_dir / "0.conf").write_text("other\n")
    after = call("ringfree_confs.shared_files")
    assert sorted(name for name in after if after[name] != before[name]) == ["0.conf", "vps.mount"]
