"""The way back does not depend on what it has to repair; what it asks a person to type helps, in that very state."""

import json
import re

import pytest
from left_points import FSTAB, local_side
from migration_steps import apply, until
from odd_trees import set_immutable


def revert(node, data="discard"):
    return apply(node, "ringfree_rollback.rolled_back", {"data": data})


def is_home(node):
    """Byte for byte as before, and everything runs."""
    now = {path: entry for path, entry in local_side(node).items() if ".odd-" not in path}
    assert now == node.before
    assert node.running() == [101, 102, 104]
    assert json.loads((node.folder / "var/journal.json").read_text())["state"] == "local"


def add(text):
    return lambda path: path.write_bytes(path.read_bytes() + text)


def as_folder(path):
    path.unlink()
    path.mkdir()
    (path / "x").touch()


ODD = {
    "include": add(b"[ -f /etc/vz/vz.local ] && . /etc/vz/vz.local\n"),
    "open quote": add(b'X="\n'),
    "no last newline": add(b"X=1"),
    "two roots": add(b'VE_ROOT="/other/$VEID"\nVE_ROOT="/more/$VEID"\n'),
    "disabled twice": add(b"DISABLED=no\n export DISABLED=no\n"),
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"\n"),
    "no text": lambda path: path.write_bytes(b"\0\xff" * 500),
    "gone": lambda path: path.unlink(),
    "folder": as_folder,
}


@pytest.mark.walk
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("point", ["prepared", "committed"])
def test_a_vz_conf_that_nobody_can_edit_any_more_is_put_back_whole(moved, point, odd):
    node = moved(point)
    ODD[odd](node.vz_conf)
    result = revert(node)
    assert result["result"] is True, result["comment"]
    kept = list((node.folder / "etc/vz").glob("vz.conf.odd-*"))
    if point == "prepared" and odd == "include":
        # Only what stands before that line is ours, and it can still be edited.
        ODD[odd](node.folder / "etc/vz/vz.conf.before-nfs")
        assert (
            node.vz_conf.read_bytes() == (node.folder / "etc/vz/vz.conf.before-nfs").read_bytes()
            and kept == []
        )
        return
    assert len(kept) == (odd != "gone")
    is_home(node)
    again = revert(node)
    assert (again["result"], again["changes"]) == (True, {})


@pytest.mark.parametrize("odd", ["include", "open quote"])
def test_a_vz_conf_that_nobody_could_edit_in_the_first_place_is_as_it_was(fleet, odd):
    """Preflight refuses it; whoever went on without it gets home all the same."""
    (fleet.folder / "etc/fstab").write_text(FSTAB)
    ODD[odd](fleet.vz_conf)
    fleet.before = local_side(fleet)
    guarded = until(fleet, "ringfree_guard.guarded")
    assert guarded()["result"] is False
    result = revert(fleet)
    assert result["result"] is True, result["comment"]
    is_home(fleet)


def test_a_way_back_from_before_anything_was_written_needs_no_vz_conf_that_can_be_edited(fleet):
    (fleet.folder / "etc/fstab").write_text(FSTAB)
    ODD["include"](fleet.vz_conf)
    fleet.before = local_side(fleet)
    until(fleet, "vz.packages_updated")
    result = revert(fleet)
    assert result["result"] is True, result["comment"]
    is_home(fleet)


@pytest.mark.walk
@pytest.mark.parametrize("odd", ["include", "open quote", "empty", "no text", "folder"])
@pytest.mark.parametrize("ctid", [101, 103])
@pytest.mark.parametrize("point", ["stopped", "committed"])
def test_a_conf_that_nobody_can_edit_any_more_is_put_back_whole(moved, point, ctid, odd):
    """On local disk, and on the share, from which it is not read any more."""
    node = moved(point)
    ODD[odd](node.conf(ctid))
    result = revert(node)
    assert result["result"] is True, result["comment"]
    is_home(node)


@pytest.mark.parametrize(
    "odd",
    {
        "gone": lambda path: path.unlink(),
        "folder": as_folder,
        "other root": lambda path: path.write_text('VE_ROOT="/other/$VEID"\n'),
    }.items(),
    ids=lambda odd: odd[0],
)
def test_what_runs_from_the_share_without_its_conf_is_stopped_all_the_same(moved, odd):
    """vzctl knows no container that has no conf, and so the node could not go back."""
    node = moved("committed")
    odd[1](node.conf(102))
    result = revert(node)
    assert result["result"] is True, result["comment"]
    assert f"put back for it: {node.conf(102)}" in str(result["changes"])
    is_home(node)


# --- what it asks a person to type ------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_named_with_the_command_that_helps(moved):
    """vz.conf, a conf that was changed, and fstab; a file that is not to be changed is not named."""
    node = moved("owned by the share")
    until(node, "vz.configured")
    with (node.folder / "etc/fstab").open("a") as stream:
        stream.write("# ringfree: mounts of the SAN, managed by Salt\nx /y nfs hard 0 0\n# ringfree: end\n")
    fixed = [node.vz_conf, node.folder / "etc/sysconfig/vz-scripts/101.conf", node.folder / "etc/fstab"]
    for path in fixed:
        set_immutable(path, True)
    try:
        result = revert(node)
    finally:
        for path in fixed:
            set_immutable(path, False)  # chattr -i, as it was told
    assert result["result"] is False
    for path in fixed:
        assert f"chattr -i -a {path}; then the same rollback" in result["comment"]
    assert "102.conf; then" not in result["comment"]
    assert list((node.folder / "etc/vz").glob("*.odd-*")) == []
    assert revert(node)["result"] is True
    is_home(node)


def test_a_share_that_cannot_be_told_is_told_by_hand_of_what_is_home_and_of_nothing_else(moved):
    """101 could not be copied back: nobody may call its old copy the live one."""
    node = moved("committed")
    node.rule("rsync.101", "[ $dry ] || exit 23")
    (node.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    node.rule("rsync", 'case "$*" in *owners-to-share*) exit 23 ;; esac')
    result = revert(node, "sync_back")
    assert result["result"] is False and node.running() == [102, 104]
    (ctids,) = re.findall(r"salt-call ringfree_owner.claim '(\[[0-9, ]+\])' local", result["comment"])
    assert sorted(json.loads(ctids)) == [102, 104]
    node.rule("rsync", "")
    node.minion().modules["ringfree_owner.claim"](json.loads(ctids), "local")
    assert {ctid: node.owner(ctid)["store"] for ctid in (101, 102, 104)} == {
        101: "nfs",
        102: "local",
        104: "local",
    }


def test_no_advice_of_a_sub_step_starts_an_old_copy_or_lifts_the_guard(moved):
    """Such as `vzctl start --force` for what waits for the SAN, or taking DISABLED out while it does."""
    node = moved("committed")
    (node.folder / "vz/nfsprivate/101/etc/voicemail").write_text("hello\n")
    for program in ("rsync", "ssh"):
        node.rule(program, "exit 255")
    result = revert(node, "sync_back")
    assert result["result"] is False and node.running() == []
    assert "--force" not in result["comment"] and "remove the line DISABLED" not in result["comment"]
    assert "Type on the node: the same rollback" in result["comment"]
    for program in ("rsync", "ssh"):
        node.rule(program, "")
    assert revert(node, "sync_back")["result"] is True
    assert (
        node.running() == [101, 102, 104] and (node.private(101) / "etc/voicemail").read_text() == "hello\n"
    )
