"""Nodes of Red Hat, of Debian, and of an admin who keeps the confs elsewhere: what vzctl reads is what counts."""

import os
import shutil

import pytest
from fake_node import LAYOUTS, SERVER
from highstate import highstate
from migration_steps import apply, until
from salt.exceptions import CommandExecutionError

FSTAB = "/dev/sda1 / ext4 defaults 0 1\n"
EACH = pytest.mark.parametrize("layout", LAYOUTS)
DEBIAN = pytest.mark.parametrize("layout", ["debian"])
SHARES = "The shares are mounted"


@pytest.fixture
def node(fleet):
    (fleet.folder / "etc/fstab").write_text(FSTAB)
    (fleet.folder / "etc/ringfree/ssh/id_ed25519").chmod(0o600)
    return fleet


@pytest.fixture
def on_nfs(node):
    """A committed node."""
    until(node, "ringfree_nfs.variables", mounted=True)()
    states(node, sls="ringfree.fstab")
    return node


def states(node, test=False, sls=None):
    """What a highstate says: results by the name of the state."""
    return {result["__id__"]: result for result in highstate(node, test, sls)}


def function(node, name):
    return node.minion().modules[name]


def mounts(node, share):
    """Where a share is mounted by the node's mount table."""
    lines = (node.folder / "proc/mountinfo").read_text().splitlines()
    return [
        line.split()[4] for line in lines if line.split(" - ")[1].split()[1] == f"{SERVER}:/rf-images/{share}"
    ]


def conf_mount(node):
    return function(node, "ringfree_settings.get")()["shares"]["conf"]["mount"]


def confs(node):
    """What is in the conf directory and in the other places where one might be."""
    return {
        path: entry[:3] + entry[-1:]
        for path, entry in node.tree().items()
        if path.startswith(tuple(LAYOUTS.values()))
    }


# --- where the confs are ----------------------------------------------------------------------------------------------


@EACH
def test_the_conf_directory_is_found_on_the_node(node):
    assert function(node, "vz.conf_dir")() == str(node.conf_dir)
    assert function(node, "vz.conf_dir")(real=False) == f"{node.folder}/etc/vz/conf"
    assert function(node, "vz.containers")() == [101, 102, 103, 104]


@EACH
@pytest.mark.parametrize("said", [None, "null", "etc/vz/conf", "itself"])
def test_the_conf_share_goes_where_vzctl_reads_whatever_name_the_pillar_has_for_it(node, said):
    """fstab and systemd know a directory by its own name only, so that a link's name never gets there."""
    words = {"null": None, "itself": str(node.conf_dir), "etc/vz/conf": f"{node.folder}/etc/vz/conf"}
    if said:
        node.pillar["shares"]["conf"]["mount"] = words[said]
    assert conf_mount(node) == str(node.conf_dir)


def turn_round(folder):
    """/etc/sysconfig/vz-scripts is the link, and /etc/vz/conf the directory."""
    (folder / "etc/vz/conf").unlink()
    (folder / "etc/sysconfig/vz-scripts").rename(folder / "etc/vz/conf")
    (folder / "etc/sysconfig/vz-scripts").symlink_to(folder / "etc/vz/conf")
    return "etc/vz/conf"


def move_all_of_vz(folder):
    """/etc/vz is itself a link, and the conf directory in it one to beside it."""
    (folder / "srv").mkdir()
    (folder / "etc/vz").rename(folder / "srv/vz")
    (folder / "etc/vz").symlink_to(folder / "srv/vz")
    (folder / "srv/vz/conf").unlink()
    (folder / "etc/sysconfig/vz-scripts").rename(folder / "srv/vz-confs")
    (folder / "srv/vz/conf").symlink_to("../vz-confs")
    return "srv/vz-confs"


def link_twice(folder):
    """Red Hat's place is a link as well."""
    (folder / "srv").mkdir()
    (folder / "etc/sysconfig/vz-scripts").rename(folder / "srv/vz-scripts")
    (folder / "etc/sysconfig/vz-scripts").symlink_to("../../srv/vz-scripts")
    return "srv/vz-scripts"


@pytest.mark.parametrize("rearrange", [turn_round, move_all_of_vz, link_twice])
@pytest.mark.parametrize("said", ["", "etc/vz/conf", "etc/sysconfig/vz-scripts"])
def test_links_of_any_kind_lead_to_one_directory(node, rearrange, said):
    place = f"{node.folder}/{rearrange(node.folder)}"
    assert function(node, "vz.conf_dir")() == place
    if os.path.exists(node.folder / said):
        node.pillar["shares"]["conf"]["mount"] = f"{node.folder}/{said}" if said else None
        assert conf_mount(node) == place
    assert function(node, "vz.config")(102)["name"] == "PBX"


def test_a_circle_of_links_is_said(node):
    (node.folder / "etc/vz/conf").unlink()
    (node.folder / "etc/vz/conf").symlink_to("conf2")
    (node.folder / "etc/vz/conf2").symlink_to("conf")
    with pytest.raises(CommandExecutionError, match="go round in a circle"):
        function(node, "vz.conf_dir")()


@pytest.mark.parametrize(
    "place", ["srv/has blank", "srv/has%percent", "srv/$(id)", "srv/caf\udce9", "vz/private/confs"]
)
def test_a_conf_directory_that_nothing_can_be_mounted_on_is_refused(node, place, monkeypatch):
    """Its name gets into fstab and into a unit of systemd."""
    (node.folder / place).mkdir(parents=True)
    (node.folder / "etc/vz/conf").unlink()
    (node.folder / "etc/vz/conf").symlink_to(node.folder / place)
    pillar = node.minion().utils["ringfree_pillar.validate"].__globals__
    monkeypatch.setitem(pillar, "OF_VZ", (f"{node.folder}/vz/private",))
    with pytest.raises(
        CommandExecutionError, match="ringfree:shares:conf:mount: the conf directory of vz on this node"
    ):
        function(node, "ringfree_settings.get")()


@pytest.mark.parametrize("place", ["vz/dump", "var/lib/vz/dump"])
def test_h04_a_dump_is_found_where_vzctl_keeps_it_on_each_distribution(node, place, monkeypatch):
    module = node.minion().module_of("vz.dumps")
    monkeypatch.setattr(
        module, "DUMP_DIRS", tuple(f"{node.folder}/{path}" for path in ("vz/dump", "var/lib/vz/dump"))
    )
    node.vz_conf.write_text(node.vz_conf.read_text().replace("DUMPDIR=", "#DUMPDIR="))
    (node.folder / place).mkdir(parents=True, exist_ok=True)
    (node.folder / place / "Dump.103").touch()
    assert function(node, "vz.dumps")() == [f"{node.folder}/{place}/Dump.103"]


# --- there and back ---------------------------------------------------------------------------------------------------


@EACH
def test_a_whole_migration_and_its_way_back(node):
    before, names = confs(node), set(os.listdir(node.folder / "etc"))
    until(node, "ringfree_nfs.variables", mounted=True)()
    assert mounts(node, "vzconf") == [str(node.conf_dir)]
    assert function(node, "ringfree_snapshot.path")() == f"{node.conf_dir}.tar.gz"
    assert node.archive.stat().st_mode & 0o777 == 0o600
    assert set(os.listdir(node.folder / "etc")) == names
    result = apply(node, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert result["result"] is True, result["comment"]
    assert mounts(node, "vzconf") == []
    assert node.running() == [101, 102, 104]
    kept = {path: entry for path, entry in confs(node).items() if ".tar.gz" not in path}
    assert kept == before


@EACH
def test_a_highstate_keeps_fstab_and_vz_right_and_changes_nothing_the_second_time(on_nfs):
    highstate(on_nfs)
    lines = [line.split() for line in (on_nfs.folder / "etc/fstab").read_text().splitlines()]
    assert [line[1] for line in lines if line[0].endswith("/rf-images/vzconf")] == [str(on_nfs.conf_dir)]
    drop_in = (on_nfs.folder / "etc/systemd/system/vz.service.d/ringfree.conf").read_text()
    (waits,) = [line for line in drop_in.splitlines() if line.startswith("RequiresMountsFor=")]
    assert waits.split()[-1] == str(on_nfs.conf_dir)
    bad = {
        name: result for name, result in states(on_nfs).items() if result["changes"] or not result["result"]
    }
    assert bad == {}


@EACH
def test_a_highstate_mounts_the_conf_share_again_where_vzctl_reads(on_nfs):
    function(on_nfs, "ringfree_nfs.unmount")(str(on_nfs.conf_dir))
    result = states(on_nfs)[SHARES]
    assert result["result"] is True, result["comment"]
    assert list(result["changes"]) == [str(on_nfs.conf_dir)]


@EACH
def test_nobody_else_reads_the_snapshot(on_nfs):
    for path in (on_nfs.archive, on_nfs.folder / "etc/vz/vz.conf.before-nfs"):
        path.chmod(0o644)
    states(on_nfs)
    for path in (on_nfs.archive, on_nfs.folder / "etc/vz/vz.conf.before-nfs"):
        assert path.stat().st_mode & 0o777 == 0o600


@EACH
def test_h07_confs_are_never_restored_onto_the_share(on_nfs):
    """Also where the pillar thinks that the share is elsewhere."""
    on_nfs.rule("umount", 'case "$*" in *vzconf*|*conf|*confs|*vz-scripts) echo busy >&2; exit 32 ;; esac')
    result = apply(on_nfs, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert result["result"] is False
    assert "the conf directory is still the share" in result["comment"]


def test_the_snapshot_is_found_where_it_was_made(on_nfs):
    """Somebody has led /etc/vz/conf elsewhere since."""
    function(on_nfs, "ringfree_nfs.unmount")(str(on_nfs.conf_dir))
    shutil.copytree(on_nfs.conf_dir, on_nfs.folder / "srv")
    (on_nfs.folder / "etc/vz/conf").unlink()
    (on_nfs.folder / "etc/vz/conf").symlink_to(on_nfs.folder / "srv")
    on_nfs.minion().module_of("vz.conf_dir")._FOUND.clear()  # it counts for a second
    assert function(on_nfs, "ringfree_snapshot.path")() == str(on_nfs.archive)
    assert function(on_nfs, "ringfree_snapshot.fault")() == ""


# --- where vzctl does not look ----------------------------------------------------------------------------------------


def astray(node):
    """The conf share is mounted on Red Hat's directory of a node whose vzctl reads another one, as it was once."""
    place = node.folder / "etc/sysconfig/vz-scripts"
    place.mkdir(parents=True)
    node.pillar["shares"]["conf"]["mount"] = str(place)
    return str(place)


@DEBIAN
@pytest.mark.parametrize("pillar", ["says so", "is mended"])
def test_a_highstate_finds_a_conf_share_that_is_mounted_where_vzctl_does_not_look(on_nfs, pillar):
    """And mounts nothing by itself: somebody has to compare the confs first."""
    function(on_nfs, "ringfree_nfs.unmount")(str(on_nfs.conf_dir))
    place = astray(on_nfs)
    function(on_nfs, "ringfree_nfs.mount")(f"{SERVER}:/rf-images/vzconf", place)
    if pillar == "is mended":
        on_nfs.pillar["shares"]["conf"].clear()
    result = states(on_nfs)[SHARES]
    assert result["result"] is False
    for words in (
        f"mounted on {place}, where vzctl does not look",
        f"'umount {place}'",
        f"'diff -r {place} {on_nfs.conf_dir}'",
    ):
        assert words in result["comment"]
    assert mounts(on_nfs, "vzconf") == [place]
    # What it says to do is enough.
    function(on_nfs, "ringfree_nfs.unmount")(place)
    on_nfs.pillar["shares"]["conf"].clear()
    result = states(on_nfs)[SHARES]
    assert result["result"] is True, result["comment"]
    assert mounts(on_nfs, "vzconf") == [str(on_nfs.conf_dir)]


@DEBIAN
def test_a_way_back_unmounts_a_conf_share_wherever_it_is(on_nfs):
    function(on_nfs, "ringfree_nfs.unmount")(str(on_nfs.conf_dir))
    place = astray(on_nfs)
    function(on_nfs, "ringfree_nfs.mount")(f"{SERVER}:/rf-images/vzconf", place)
    on_nfs.pillar["shares"]["conf"].clear()
    result = apply(on_nfs, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert result["result"] is True, result["comment"]
    assert mounts(on_nfs, "vzconf") == []


def test_the_share_mounted_a_second_time_to_look_at_is_no_fault(on_nfs):
    on_nfs.mount(f"60 1 0:52 / {on_nfs.folder}/mnt rw - nfs {SERVER}:/rf-images/vzconf rw")
    assert function(on_nfs, "ringfree_nfs.conf_share_astray")() == []


# --- init -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["debian"])
def test_h14_without_systemd_and_chkconfig_init_is_told_as_on_debian(node):
    node.systemd, node.services["cron"] = False, True
    (node.bin / "chkconfig").unlink()
    script = node.folder / "etc/init.d/ringfree"
    state = until(node, "ringfree_boot.vz_waits")
    assert set(state()["changes"]) == {str(script)}
    assert (node.folder / "etc/rc2.d/S19ringfree").exists()
    assert "# X-Start-Before: vz" in script.read_text()
    assert state()["changes"] == {}
    assert function(node, "ringfree_boot.vz_alone")() is True
    assert not script.exists() and not os.path.lexists(node.folder / "etc/rc2.d/S19ringfree")
