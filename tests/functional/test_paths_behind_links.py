"""Paths with a link in them (/vz is often one): whoever compares text is given where they really lead."""

import pytest
from highstate import highstate
from migration_steps import until
from salt.exceptions import CommandExecutionError


@pytest.fixture
def linked(fleet):
    """The node's shares are to be mounted behind a link; its containers live beside it."""
    (fleet.folder / "pbx").symlink_to(fleet.folder / "vz")
    for share in ("private", "root"):
        fleet.pillar["shares"][share]["mount"] = str(fleet.folder / "pbx" / f"nfs{share}")
        (fleet.folder / f"vz/nfs{share}").chmod(0o700)
    return fleet


def real(node, share):
    return str(node.folder / "vz" / f"nfs{share}")


def test_h14_systemd_is_told_the_path_that_it_knows(linked):
    until(linked, "cloudstor.committed")
    (line,) = [
        line
        for line in (linked.folder / "etc/systemd/system/vz.service.d/ringfree.conf").read_text().splitlines()
        if line.startswith("RequiresMountsFor=")
    ]
    assert line.split("=")[1].split()[:2] == [real(linked, "private"), real(linked, "root")]


def test_h14_so_is_an_init_script_that_looks_into_proc_mounts(linked):
    linked.systemd, linked.services["crond"] = False, True
    until(linked, "cloudstor.committed")
    assert (
        f"for mount in {real(linked, 'private')} {real(linked, 'root')} "
        in (linked.folder / "etc/init.d/ringfree").read_text()
    )


def test_h14_and_fstab(linked):
    (linked.folder / "etc/fstab").touch()
    until(linked, "ringfree_nfs.variables", mounted=True)()
    highstate(linked, sls="ringfree.fstab")
    points = [
        line.split()[1] for line in (linked.folder / "etc/fstab").read_text().splitlines() if ":/" in line
    ]
    assert points[:2] == [real(linked, "private"), real(linked, "root")]


def test_a_node_behind_links_is_committed_and_needs_nothing_more(linked):
    """The confs say what the pillar says: on another node the link may lead elsewhere."""
    until(linked, "ringfree_nfs.variables", mounted=True)()
    modules = linked.minion().modules
    assert modules["cloudstor.faults_on_nfs"]() == []
    assert modules["ringfree_nfs.containers"]() == [102, 101, 104]
    assert f'VE_PRIVATE="{linked.folder}/pbx/nfsprivate/$VEID"' in linked.san("vzconf/101.conf").read_text()
    assert f"umount {linked.folder}/pbx" not in "\n".join(linked.calls())


@pytest.mark.parametrize("path", ["vz/nfsprivate/105", "pbx/nfsprivate/105", "vz/../pbx/nfsprivate/105"])
def test_a_conf_leads_to_the_share_by_whatever_path(linked, path):
    on_share = linked.minion().modules["ringfree_nfs.on_share"]
    path, private = f"{linked.folder}/{path}", str(linked.private(101))
    assert on_share([path, private, None, "relative", f"{real(linked, 'private')}2/105"]) == {path}


def test_a_mount_point_in_a_local_container_is_found_through_links(linked, monkeypatch):
    """Confs name one path, the pillar another one to the same place."""
    (linked.folder / "home").symlink_to(linked.folder / "vz/private")
    linked.pillar["shares"]["root"]["mount"] = str(linked.folder / "home/101/nfsroot")
    node = linked.minion()

    def probe(share="private"):
        raise CommandExecutionError("no")

    monkeypatch.setattr(node.module_of("ringfree_preflight.look"), "probe", probe)
    node.modules["ringfree_deadman.rehearse"] = lambda: ""
    findings = node.modules["ringfree_preflight.look"]()["findings"]
    assert [text for text in findings if "lies inside" in text]


def test_a_share_is_unmounted_by_the_path_that_the_kernel_knows(linked):
    until(linked, "ringfree_confs.prepared")
    linked.minion().modules["ringfree_nfs.unmount"](f"{linked.folder}/pbx/nfsprivate")
    assert linked.calls("umount")[-1] == f"umount -i --no-canonicalize {real(linked, 'private')}"
    assert real(linked, "private") not in (linked.folder / "proc/mountinfo").read_text()
