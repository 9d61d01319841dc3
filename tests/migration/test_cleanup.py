"""H30: the local private areas of a committed node go when it is decided, and not before; the SAN never notices.

One node; the tests stand in the order of the weeks after a migration."""

import json
import re

import checker
import local_side
import pytest
from fleet_under_test import Overlay, changed, migrate, pids

FLEET = {"nodes": 1, "cts": 3}
NODE = "node001"
CTIDS = [101, 102, 103]
ASIDE = "/vz/private/.ringfree-removed"


@pytest.fixture(scope="module")
def overlay(lab):
    """The pillar of a small node."""
    overlay = Overlay(lab)
    overlay.write("init", ("  node: true", "  node: false"))
    lacking = "      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (lacking, "      PBX: [postfix]"))
    return overlay


@pytest.fixture(scope="module")
def before(lab, overlay):
    """The node before anything."""
    return checker.remember(lab, [NODE])


class Orchestration:
    """What an orchestration said when it had ended."""

    def __init__(self, lab, name, **pillar):
        words = json.dumps({"nodes": [NODE], **pillar})
        command = lab.start("salt-run", "state.orch", name, f"pillar={words}", "--out=json")
        self.code, self.err, self.out = command.wait(), command.err, command.out

    def __str__(self):
        return f"exit code {self.code}\n{self.err}\n{self.out}"


def consent(lab):
    """What the consent shows, and its word; none when there is nothing to clean up."""
    code, said = lab.salt_run("ringfree.consent", NODE)
    assert code == 0, said
    word = re.search(r'"consent": "([0-9a-f-]+)"', said)
    return said, word and word[1]


def areas(lab):
    """The private areas in their places, and those that are aside."""
    found = lab.on(NODE, "sh", "-c", f"cd /vz/private && ls; ls {ASIDE}/* 2>/dev/null || true").split()
    return [name for name in found if name.isdigit()], lab.try_on(NODE, "test", "-d", ASIDE)[0] == 0


def san(lab):
    """What the SAN has, without what running containers write all the time."""
    return lab.ask("san1", checker.TREE, "--steady", "/rf-images/pbx", "/rf-images/vzconf")


def test_moved_aside_while_everything_runs(lab, overlay, before):
    """With an age of 0 days: what the consent showed is aside, the same processes run on, the SAN is as it was."""
    run = migrate(lab)
    assert run.code == 0, str(run)
    overlay.write(
        "init",
        ("  node: true", "  node: false"),
        ("    age: 14", "    age: 0"),
        ("    keep: 7", "    keep: 0"),
    )
    then, up = san(lab), pids(lab, NODE)
    said, word = consent(lab)
    assert [f"move aside  /vz/private/{ctid} " in said for ctid in CTIDS] == [True] * 3, said
    run = Orchestration(lab, "cleanup", consent=word)
    assert run.code == 0, str(run)
    for ctid in CTIDS:
        assert f"cleanup {ctid} ok moved aside to {ASIDE}/" in run.err, str(run)
    assert lab.on(NODE, "ls", "/vz/private").split() == []
    assert sorted(lab.on(NODE, "sh", "-c", f"ls {ASIDE}/*").split()) == ["101", "102", "103"]
    assert lab.on(NODE, "stat", "-c", "%a", ASIDE).strip() == "700"
    assert (changed(then, san(lab)), pids(lab, NODE)) == ([], up)
    again = Orchestration(lab, "cleanup", consent=word)
    assert again.code == 1 and "Nothing was touched" in again.err, again


def test_no_way_back_begins_until_they_are_in_their_places(lab, before):
    """The sentence comes before a container stops; one command later the same rollback ends well."""
    up = pids(lab, NODE)
    run = Orchestration(lab, "rollback")
    assert run.code == 1, str(run)
    assert f"'salt {NODE} ringfree_cleanup.restore 101' brings it back" in run.err, str(run)
    assert f"{NODE} is on NFS, 3 of 3 containers answer." in run.err, str(run)
    assert pids(lab, NODE) == up
    assert checker.check_monitoring(lab) == []
    lab.must("salt", NODE, "ringfree_cleanup.restore")
    assert areas(lab) == (["101", "102", "103"], False)
    run = Orchestration(lab, "rollback")
    assert run.code == 0, str(run)
    assert local_side.faults(lab, NODE, before[NODE]) == []


def test_deleted_in_the_end(lab, before):
    """Another migration; aside with one consent, deleted with the next, and what runs from the share runs on."""
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert checker.faults(lab, before) == []
    then, up = san(lab), pids(lab, NODE)
    for action in ("move aside", "delete"):
        said, word = consent(lab)
        assert said.count(f"{action:<10}  /vz/private/") == 3, said
        run = Orchestration(lab, "cleanup", consent=word)
        assert run.code == 0, str(run)
    assert lab.on(NODE, "ls", "-A", "/vz/private").split() == []
    said, word = consent(lab)
    assert word is None, said
    run = Orchestration(lab, "rollback")
    assert run.code == 1 and "its copy on the share is the only one" in run.err, str(run)
    assert (changed(then, san(lab)), pids(lab, NODE)) == ([], up)
