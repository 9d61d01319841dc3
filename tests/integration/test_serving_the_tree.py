"""The tree as it is cloned is usable on a real master, from file_roots and from git."""

import pytest
from minion_without_daemons import PROJECT


def names(kind):
    """What sync_all reports for the project's own files of a kind."""
    return sorted(f"{kind}.{path.stem}" for path in (PROJECT / f"_{kind}").glob("*.py"))


def test_a_minion_gets_modules_states_and_utilities(site):
    synced = site.salt.run("saltutil.sync_all", minion_tgt="node001")
    assert synced.returncode == 0
    for kind in ("modules", "states", "utils"):
        assert sorted(synced.data[kind]) == names(kind)


def test_the_master_gets_runners_and_what_they_need(site):
    synced = site.salt_run.run("saltutil.sync_all")
    assert synced.returncode == 0
    for kind in ("runners", "modules", "states", "utils"):
        assert sorted(synced.data[kind]) == names(kind)


def test_a_synced_runner_is_offered(site):
    """A runner that is missing would make salt-run exit with 0 all the same."""
    assert site.salt_run.run("saltutil.sync_runners").returncode == 0
    offered = site.salt_run.run("--doc", "ringfree")
    assert "ringfree.preflight" in offered.stdout


def test_a_minion_sees_the_sls(site):
    assert "migrate" in site.salt.run("cp.list_states", minion_tgt="node001").data


def test_a_minion_gets_its_pillar(site):
    got = site.salt.run("pillar.keys", "ringfree", minion_tgt="node001")
    assert "nodes" in got.data


@pytest.mark.parametrize("path", ["pillar/top.sls", "../pillar/top.sls", "top.sls", "ringfree/fleet.sls"])
def test_pillar_files_cannot_be_fetched(site, path):
    """H29: pillar is not among the files that any minion may read."""
    got = site.salt.run("cp.get_file_str", f"salt://{path}", minion_tgt="node001")
    own = PROJECT / "salt" / path
    assert got.data is False or (
        own.is_file() and ".." not in path and got.data == own.read_text(encoding="utf-8")
    )


def test_no_file_that_is_served_is_a_pillar_file(site):
    """H29"""
    served = site.salt_run.run("fileserver.file_list").data
    assert "migrate.sls" in served
    pillar = {str(path.relative_to(PROJECT / "pillar")) for path in (PROJECT / "pillar").rglob("*.sls")}
    tree = {str(path.relative_to(PROJECT / "salt")) for path in (PROJECT / "salt").rglob("*.sls")}
    assert not (pillar - tree) & set(served)
    assert not [name for name in served if name.startswith("pillar")]
