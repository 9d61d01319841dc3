"""H30: local storage goes when it is decided, and nothing but that: every guard, every kill, the way back meanwhile."""

import json
import os
import time

import pytest
import ringfree_command
from edited import edit
from migration_steps import apply, until
from odd_trees import immutable, make_deep
from salt.exceptions import CommandExecutionError

WORD = "7f3a-91c2"
MOVED = [101, 102, 104]


class Committed:
    """A node whose containers were committed to NFS, and what a cleanup of it says and does."""

    def __init__(self, node, monkeypatch):
        self.node, self.monkeypatch = node, monkeypatch
        self.clock, self.really = 0, time.time
        monkeypatch.setattr("time.time", lambda: self.really() + self.clock)

    def call(self, function, *args):
        return self.node.minion().modules[f"ringfree_cleanup.{function}"](*args)

    def plan(self):
        return self.call("plan")

    def paths(self, action="move aside"):
        """The names of what would be moved aside, or deleted."""
        return [os.path.basename(item["path"]) for item in self.plan()["items"] if item["action"] == action]

    def left(self, ctid):
        """Why a container is left alone."""
        (why,) = [
            entry["why"] for entry in self.plan()["left"] if entry["what"].startswith(f"container {ctid},")
        ]
        return why

    def consent(self):
        return self.call("consent", WORD, ["node001"])

    def clean(self, word=WORD, test=False):
        return apply(self.node, "ringfree_cleanup.cleaned", {"consent": word}, test)

    def cleaned(self):
        """Consent, and clean up."""
        self.consent()
        ret = self.clean()
        assert ret["result"] is True, ret["comment"]
        return ret

    def kept(self, ctid):
        """Where a container's private area was moved to."""
        return next(self.node.folder.glob(f"vz/private/.ringfree-removed/*/{ctid}"), None)

    def record(self):
        return json.loads((self.node.folder / "var/cleanup.json").read_text())["areas"]

    def journal(self, change):
        """Change the node's journal by a function."""
        edit(self.node.folder / "var/journal.json", change)

    def copied_last(self):
        """The final copy was made now: files of a node that is a copy of another test's are newer than its journal."""

        def change(journal):
            journal["steps"]["sync"]["intent"] = time.time()
            for steps in journal["containers"].values():
                steps["sync"]["verified"] = time.time()

        self.journal(change)

    def rollback(self, test=False):
        return apply(self.node, "ringfree_rollback.rolled_back", {"data": "discard"}, test)


def local_files(node):
    """Contents of everything that is, or was moved aside from, below the private areas, wherever it is now."""
    found = {}
    for ctid in node.running():
        places = [node.private(ctid), *node.folder.glob(f"vz/private/.ringfree-removed/*/{ctid}")]
        places = [place for place in places if place.is_dir()]
        assert len(places) == 1, (ctid, places)
        files = [path for path in places[0].rglob("*") if path.is_file()]
        found[ctid] = {str(path.relative_to(places[0])): path.read_bytes() for path in files}
    return found


def san(node):
    """Everything on the SAN, whatever is mounted over it."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for export in ("nfsprivate", "nfsroot")
        for path in sorted((node.folder / "vz" / export).rglob("*"))
        if not path.is_symlink()
    }


@pytest.fixture
def committed(fleet, monkeypatch):
    """The fleet's node, committed just now; ages of the pillar are 0 days, and its files are from before the copy."""
    return commit(fleet, monkeypatch)


@pytest.fixture
def small(fake_node, monkeypatch):
    """A node with one container, committed just now."""
    fake_node.add(101, "PBX")
    return commit(fake_node, monkeypatch)


def commit(node, monkeypatch):
    """Bring a node to NFS."""
    node.pillar["containers"]["exempt"] = {}
    (node.folder / "etc/fstab").touch()
    until(node, "ringfree_nfs.variables", mounted=True)()
    node.pillar["cleanup"] = {"age": 0, "keep": 0}
    made = Committed(node, monkeypatch)
    made.copied_last()
    return made


# --- what goes --------------------------------------------------------------------------------------------------------


def test_what_is_shown_is_what_goes_and_nothing_else(committed):
    """The areas of the manifest go aside; what was never moved stays, on the SAN nothing changes, containers run on."""
    node = committed.node
    files, there, up = local_files(node), san(node), node.running()
    found = committed.consent()
    assert [item["ctid"] for item in found["items"]] == MOVED
    assert {item["action"] for item in found["items"]} == {"move aside"}
    assert "was not moved to NFS" in committed.left(103)
    before = node.tree()
    dry = committed.clean(test=True)
    assert dry["result"] is None and set(dry["changes"]) == {str(node.private(ctid)) for ctid in MOVED}
    assert node.tree() == before
    committed.call("take", WORD, ["node001"])
    live = committed.clean()
    assert live["result"] is True, live["comment"]
    assert live["changes"] == dry["changes"]
    assert [committed.kept(ctid) is not None for ctid in (*MOVED, 103)] == [True, True, True, False]
    assert not any(node.private(ctid).exists() for ctid in MOVED) and node.private(103).is_dir()
    assert (local_files(node), san(node), node.running()) == (files, there, up)
    for folder in (committed.kept(101).parent, committed.kept(101).parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert node.calls("vzctl destroy") == []


def test_a_second_run_finds_nothing_before_the_keeping_is_over(committed):
    committed.cleaned()
    committed.node.pillar["cleanup"] = {"age": 0, "keep": 7}
    before = committed.node.tree()
    for test in (True, False):
        ret = committed.clean(test=test)
        assert (ret["result"], ret["changes"]) == (True, {})
        assert "less than 7 days ago (ringfree:cleanup:keep)" in ret["comment"]
    assert committed.node.tree() == before


def test_deleted_after_the_keeping_with_a_consent_of_its_own(committed):
    committed.cleaned()
    there, up = san(committed.node), committed.node.running()
    again = committed.clean()
    assert again["result"] is False and "was used before" in again["comment"]
    assert [committed.kept(ctid) is None for ctid in MOVED] == [False] * 3
    assert committed.paths("delete") == ["101", "102", "104"] and committed.paths() == []
    committed.cleaned()
    assert not (committed.node.folder / "vz/private/.ringfree-removed").exists()
    assert sorted(os.listdir(committed.node.folder / "vz/private")) == ["103"]
    assert {area["state"] for area in committed.record()} == {"deleted"}
    assert (san(committed.node), committed.node.running()) == (there, up)


def test_links_in_an_area_are_deleted_and_not_followed(committed, tmp_path):
    outside = tmp_path / "outside"
    (outside / "data").mkdir(parents=True)
    (outside / "data/file").write_text("kept\n")
    os.symlink(outside, committed.node.private(101) / "to-a-folder")
    os.symlink(outside / "data/file", committed.node.private(101) / "etc/to-a-file")
    committed.copied_last()
    committed.node.pillar["cleanup"]["present"] = 0
    committed.cleaned()
    committed.cleaned()
    assert (outside / "data/file").read_text() == "kept\n"


def test_what_a_way_back_replaced_goes_by_its_own_age(committed):
    node = committed.node
    replaced = node.folder / "vz/private/.ringfree-replaced/20261101-021000"
    (replaced / "101/etc").mkdir(parents=True)
    node.pillar["cleanup"] = {"age": 1, "keep": 0}
    assert committed.plan()["items"] == []
    committed.clock = 86400 * 2
    assert "20261101-021000" in committed.paths()
    committed.cleaned()
    (moved,) = node.folder.glob("vz/private/.ringfree-removed/*/ringfree-replaced-20261101-021000/101/etc")
    assert not replaced.exists()
    committed.cleaned()
    assert not moved.exists()


def test_what_a_way_back_replaced_goes_on_a_local_node_too(fleet, monkeypatch):
    fleet.pillar["cleanup"] = {"age": 0}
    local = Committed(fleet, monkeypatch)
    (fleet.folder / "vz/private/.ringfree-replaced/20261101-021000/101").mkdir(parents=True)
    assert local.paths() == ["20261101-021000"]
    local.cleaned()
    assert fleet.running() == MOVED and all(fleet.private(ctid).is_dir() for ctid in (*MOVED, 103))


# --- one that cannot go keeps no other one ----------------------------------------------------------------------------


def test_h43_an_immutable_file_keeps_its_own_area_and_no_other_one(committed):
    """It is named with its path and the command; the same cleanup, with a consent of its own, ends it later."""
    committed.cleaned()
    (moved,) = committed.node.folder.glob("vz/private/.ringfree-removed/*/101")
    with immutable(moved / "etc/hostname"):
        committed.copied_last()
        committed.consent()
        ret = committed.clean()
    assert ret["result"] is False
    for words in ("101/etc/hostname", "Operation not permitted", f"'chattr -R -i -a {moved}'"):
        assert words in ret["comment"]
    assert {path.rpartition("/")[2] for path in ret["changes"]} == {"102", "104"}
    assert moved.exists()
    assert {area["ctid"]: area["state"] for area in committed.record()} == {
        101: "deleting",
        102: "deleted",
        104: "deleted",
    }
    committed.cleaned()
    assert not moved.exists()
    assert {area["state"] for area in committed.record()} == {"deleted"}


def test_h42_a_surprise_with_one_area_keeps_no_other_one(committed, monkeypatch):
    committed.consent()
    module = committed.node.minion().module_of("ringfree_cleanup.plan")
    move = module._move

    def surprised(item, stamp):
        if item["ctid"] == 101:
            raise AttributeError("nobody thought of it")
        return move(item, stamp)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_move", surprised)
        ret = committed.clean()
    assert ret["result"] is False and "AttributeError: nobody thought of it" in ret["comment"]
    assert [committed.kept(ctid) is None for ctid in MOVED] == [True, False, False]
    committed.cleaned()


def test_h43_a_deep_tree_goes_like_any_other(committed):
    make_deep(committed.node.private(101), 1200)
    committed.copied_last()
    committed.node.pillar["cleanup"]["present"] = 0
    committed.cleaned()
    committed.cleaned()
    assert {area["state"] for area in committed.record()} == {"deleted"}


def test_h21_what_a_copy_back_replaced_stays_until_that_is_finished(committed):
    replaced = committed.node.folder / "vz/private/.ringfree-replaced/20261101-021000"
    replaced.mkdir(parents=True)
    (replaced / "101.unfinished").touch()
    committed.node.pillar["cleanup"] = {"age": 0, "keep": 0}
    assert "20261101-021000" not in committed.paths()
    assert "a copy back of containers 101 was begun there and not finished" in str(committed.plan()["left"])


# --- what is left alone -----------------------------------------------------------------------------------------------


def stays(committed, ctid, *words):
    """Assert that a container is left alone, with these words, and that all others go."""
    why = committed.left(ctid)
    for text in words:
        assert text in why
    committed.cleaned()
    assert committed.kept(ctid) is None
    assert all(committed.kept(other) for other in MOVED if other != ctid)


def test_too_young(committed):
    committed.node.pillar["cleanup"] = {}
    before = committed.node.tree()
    assert committed.plan()["items"] == []
    assert "less than 14 days (ringfree:cleanup:age)" in committed.left(101)
    ret = committed.clean()
    assert (ret["result"], ret["changes"]) == (True, {})
    assert committed.node.tree() == before
    committed.clock = 15 * 86400
    assert committed.paths() == ["101", "102", "104"]


def test_owned_by_another_node(committed):
    (committed.node.folder / "vz/nfsprivate/.ringfree/owner/101").write_text(
        "node=node077\nstore=nfs\nsince=2026-02-26T02:10:00Z\ngeneration=3\ncopied=1\n"
    )
    stays(committed, 101, "belongs to node077")


def test_live_copy_is_local_by_its_owner_record(committed):
    (committed.node.folder / "vz/nfsprivate/.ringfree/owner/101").write_text(
        "node=node001\nstore=local\nsince=2026-02-26T02:10:00Z\ngeneration=3\ncopied=1\n"
    )
    stays(committed, 101, "live copy is local")


def test_without_an_owner_record(committed):
    (committed.node.folder / "vz/nfsprivate/.ringfree/owner/101").unlink()
    stays(committed, 101, "no owner record")


def test_a_conf_that_leads_elsewhere(committed):
    conf = committed.node.conf(101)
    conf.write_text(conf.read_text().replace("/vz/nfsprivate/$VEID", "/vz/private/$VEID"))
    assert "its conf leads to" in committed.left(101)


def test_a_container_that_runs_from_local_disk(committed):
    """H10: the conf and the owner record say share, the mount table says otherwise."""
    node = committed.node
    table = node.folder / "proc/mountinfo"
    lines = table.read_text().splitlines()
    root = f"{node.folder}/vz/nfsroot/101"
    lines = [line for line in lines if f" {root} " not in line]
    table.write_text("\n".join([*lines, f"101 1 8:1 {node.private(101)} {root} rw - ext4 /dev/sda1 rw", ""]))
    assert "it runs, and not from the share" in committed.left(101)


def test_a_container_that_is_down_goes_while_its_area_on_the_share_is_there(committed):
    node = committed.node
    node.minion().modules["vz.stop"]([101])
    assert 101 in [item["ctid"] for item in committed.plan()["items"]]
    os.rename(node.folder / "vz/nfsprivate/101", node.folder / "vz/nfsprivate/away")
    assert "cannot be seen" in committed.left(101)


@pytest.mark.parametrize("state", ["in_flight", "local"])
def test_a_node_that_is_not_committed(committed, state):
    committed.journal(lambda journal: journal.update(state=state))
    assert committed.plan()["items"] == []


def test_a_node_whose_dead_man_is_armed(committed):
    committed.node.minion().modules["ringfree_deadman.arm"](time.time() + 3600)
    found = committed.plan()
    assert found["items"] == [] and "dead man's switch is armed" in found["left"][0]["why"]


def test_h18_a_node_that_somebody_else_works_on(committed):
    pid = os.getppid()
    text = {"what": "the way back", "pid": pid, "born": ringfree_command.born(pid), "since": time.time()}
    (committed.node.folder / "run/holder.json").write_text(json.dumps(text))
    found = committed.plan()
    assert found["items"] == [] and "'the way back' works on it" in found["left"][0]["why"]
    before = committed.node.tree()
    assert committed.clean()["result"] is False
    with pytest.raises(CommandExecutionError, match="the way back"):
        committed.call("restore")
    assert committed.node.tree() == before


def test_a_record_that_leads_elsewhere_deletes_nothing(committed, tmp_path):
    """A record that somebody edited: only places in our dated folders are ever touched."""
    committed.cleaned()
    victim = tmp_path / "victim"
    victim.mkdir()

    def lead_elsewhere(record):
        record["areas"] = [{**record["areas"][0], "kept": str(victim), "inode": victim.stat().st_ino}]

    edit(committed.node.folder / "var/cleanup.json", lead_elsewhere)
    committed.node.pillar["cleanup"]["present"] = 0
    committed.copied_last()
    (victim / "etc").mkdir()
    committed.copied_last()
    committed.consent()
    ret = committed.clean()
    assert ret["result"] is False and "no place in a dated folder" in ret["comment"]
    with pytest.raises(CommandExecutionError, match="no place in a dated folder"):
        committed.call("restore", 101)
    assert (victim / "etc").is_dir()


def test_a_symbolic_link_is_not_followed(committed):
    private = committed.node.private(101)
    os.rename(private, committed.node.folder / "elsewhere")
    private.symlink_to(committed.node.folder / "elsewhere")
    stays(committed, 101, "a symbolic link")
    assert (committed.node.folder / "elsewhere/etc/hostname").exists() and private.is_symlink()


def test_an_area_on_nfs(committed):
    committed.node.mount(f"60 1 0:60 / {committed.node.private(101)} rw - nfs 10.0.0.9:/old rw")
    stays(committed, 101, "not on local disk (nfs)")


def test_a_mount_point(committed):
    committed.node.mount(f"60 1 8:9 / {committed.node.private(101)} rw - ext4 /dev/sdb1 rw")
    stays(committed, 101, "a mount point")


def test_something_mounted_below_it(committed):
    committed.node.mount(f"60 1 8:9 / {committed.node.private(101)}/srv rw - ext4 /dev/sdb1 rw")
    stays(committed, 101, "it is mounted on", "/101/srv")


def test_something_mounted_from_it(committed):
    committed.node.mount(f"60 1 8:1 {committed.node.private(101)}/etc /srv/etc rw - ext4 /dev/sda1 rw")
    stays(committed, 101, "it is mounted on /srv/etc")


def process(node, pid, name, target):
    """A process that has something open, or works there."""
    place = node.folder / "proc" / str(pid) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.walk
@pytest.mark.parametrize("name", ["cwd", "root", "exe", "fd/3"])
def test_a_process_that_uses_it(committed, name):
    process(committed.node, 4711, name, committed.node.private(101) / "etc")
    stays(committed, 101, "process 4711 uses")


def test_a_mount_in_the_namespace_of_a_process(committed):
    """A container's processes have a mount table of their own, whose paths say nothing here."""
    folder = committed.node.folder / "proc/4711"
    folder.mkdir()
    (folder / "mountinfo").write_text(f"1 0 8:1 {committed.node.private(101)} / rw - ext4 /dev/sda1 rw\n")
    stays(committed, 101, "it is mounted on / for process 4711")


def test_h02_what_was_written_to_the_local_area_after_the_copy(committed):
    """It is on the share in no way: somebody has started the old copy, or worked in it."""
    (committed.node.private(101) / "etc/voicemail").write_text("hello\n")
    stays(committed, 101, "etc/voicemail in the local area was changed after the final copy")


def test_a_copy_on_the_share_that_lacks_too_much(committed):
    """4 entries in the area, one of them is gone from the share: more than 10 %, less than 30 %."""
    (committed.node.folder / "vz/nfsprivate/101/etc/hostname").unlink()
    assert "the share lacks 1 of the 3 files" in committed.left(101)
    committed.node.pillar["cleanup"]["present"] = 60
    found = {item["ctid"]: item["missing"] for item in committed.plan()["items"]}
    assert found == {101: 1, 102: 0, 104: 0}


def test_a_copy_on_the_share_that_is_no_container(committed):
    """H03: the container is down and its tree on the share is empty."""
    node = committed.node
    node.minion().modules["vz.stop"]([101])
    tree = node.folder / "vz/nfsprivate/101"
    os.rename(tree, node.folder / "vz/away")
    tree.mkdir()
    stays(committed, 101, "holds no container tree")


def test_without_a_verified_final_copy(committed):
    committed.journal(lambda journal: journal["containers"]["101"].pop("sync"))
    stays(committed, 101, "no verified final copy")


def test_h13_a_share_that_is_silent_proves_nothing(committed):
    committed.node.rule("rsync", "echo 'No route to host' >&2; exit 255")
    with pytest.raises(CommandExecutionError, match="No route to host"):
        committed.plan()


def test_directories_that_belong_to_nobody_are_named(committed):
    (committed.node.folder / "vz/private/999").mkdir()
    stranger = committed.node.folder / "vz/private/.ringfree-removed/20261101-021000/888"
    stranger.mkdir(parents=True)
    committed.cleaned()
    left = {entry["what"]: entry["why"] for entry in committed.plan()["left"]}
    assert "no container of this node" in left[f"{committed.node.folder}/vz/private/999"]
    assert "the record does not know it" in left[str(stranger)]
    committed.cleaned()
    assert stranger.is_dir()


def test_a_folder_of_somebody_else_in_place_of_ours(committed, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (committed.node.folder / "vz/private/.ringfree-removed").symlink_to(place)
    committed.consent()
    ret = committed.clean()
    assert ret["result"] is False
    assert os.listdir(place) == [] and committed.node.private(101).is_dir()


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_another_directory_in_the_dated_folder_is_not_deleted(committed):
    """By the record's inode: whatever was put into its place stays."""
    committed.cleaned()
    kept = committed.kept(101)
    os.rename(kept, committed.node.folder / "away")
    kept.mkdir()
    (kept / "precious").touch()
    committed.cleaned()
    assert (kept / "precious").exists() and (committed.node.folder / "away/etc/hostname").exists()
    assert committed.kept(102) is None


def test_a_link_in_the_dated_folder_is_not_followed(committed):
    committed.cleaned()
    kept = committed.kept(101)
    os.rename(kept, committed.node.folder / "away")
    kept.symlink_to(committed.node.folder / "away")
    committed.cleaned()
    assert (committed.node.folder / "away/etc/hostname").exists()


def test_nothing_is_deleted_of_a_container_that_is_not_on_the_share_any_more(committed):
    committed.cleaned()
    (committed.node.folder / "vz/nfsprivate/.ringfree/owner/101").unlink()
    committed.cleaned()
    assert committed.kept(101).is_dir() and committed.kept(102) is None


def test_a_process_in_what_was_moved_aside(committed):
    committed.cleaned()
    process(committed.node, 4711, "cwd", committed.kept(101))
    committed.cleaned()
    assert committed.kept(101).is_dir() and committed.kept(102) is None


# --- consent ----------------------------------------------------------------------------------------------------------


def refused(committed, act, *words):
    before = committed.node.tree()
    with pytest.raises(CommandExecutionError) as error:
        act()
    for text in (*words, "Nothing was touched"):
        assert text in str(error.value)
    assert committed.node.tree() == before


@pytest.mark.parametrize("word", [None, "", "0000-0000"])
def test_without_a_consent_nothing_is_touched(committed, word):
    before = committed.node.tree()
    for test in (True, False):
        ret = committed.clean(word, test)
        assert ret["result"] is False and "Nothing was touched" in ret["comment"]
        assert bool(ret["changes"]) is test
    assert committed.node.tree() == before
    refused(committed, lambda: committed.call("take", word, ["node001"]))


def test_a_consent_expires(committed):
    committed.consent()
    committed.clock = 9 * 60
    assert committed.clean(test=True)["result"] is None
    committed.clock = 11 * 60
    refused(committed, lambda: committed.call("take", WORD, ["node001"]), "has expired")
    assert committed.clean()["result"] is False


def test_what_was_begun_in_time_may_go_on(committed):
    """Deleting takes hours on another node, and the consent was good when the run began."""
    committed.consent()
    committed.call("take", WORD, ["node001"])
    committed.clock = 3600
    assert committed.clean()["result"] is True


def test_a_consent_begins_one_run(committed):
    committed.consent()
    committed.call("take", WORD, ["node001"])
    refused(committed, lambda: committed.call("take", WORD, ["node001"]), "used before")


def test_a_consent_is_for_its_nodes(committed):
    committed.consent()
    refused(
        committed,
        lambda: committed.call("take", WORD, ["node001", "node002"]),
        "given for node001, not for node001, node002",
    )


def test_a_consent_is_for_its_list(committed):
    """One container more, or one file more, than what was shown."""
    committed.node.pillar["cleanup"]["present"] = 0
    owner = committed.node.folder / "vz/nfsprivate/.ringfree/owner/101"
    text = owner.read_text()
    owner.unlink()
    committed.consent()
    owner.write_text(text)
    refused(committed, lambda: committed.call("take", WORD, ["node001"]), "is not what the consent")
    assert committed.clean()["result"] is False
    assert all(committed.node.private(ctid).is_dir() for ctid in MOVED)


def test_no_consent_is_kept_for_nothing(committed):
    committed.node.pillar["cleanup"] = {}
    assert committed.consent()["items"] == []
    refused(committed, lambda: committed.call("take", WORD, ["node001"]), "was not given")


def test_an_abort_ends_it_between_two_areas(committed):
    def abort(tag, data):
        if data["step"] == "cleanup":
            committed.node.minion().modules["ringfree_run.abort"]("alice")

    committed.consent()
    committed.node.minion().modules["event.send"] = abort
    ret = committed.clean()
    assert ret["result"] is False and "aborted by alice" in ret["comment"]
    assert len(ret["changes"]) == 1
    assert [committed.kept(ctid) is None for ctid in MOVED] == [False, True, True]


# --- the way back -----------------------------------------------------------------------------------------------------


def test_h21_no_way_back_begins_without_the_local_areas(committed):
    """One sentence beforehand, instead of containers that are stopped and then have nothing to start from."""
    committed.cleaned()
    before, stops = committed.node.tree(), len(committed.node.calls("vzctl stop"))
    for test in (True, False):
        ret = committed.rollback(test)
        assert ret["result"] is False
        for text in (
            "there is no way back",
            "'salt node001 ringfree_cleanup.restore 101'",
            "Nothing was stopped",
        ):
            assert text in ret["comment"]
        assert "on NFS, 3 of 3 containers answer" in ret["comment"]
    assert committed.node.tree() == before
    assert committed.node.running() == MOVED and len(committed.node.calls("vzctl stop")) == stops


def test_what_was_moved_aside_comes_back_and_then_the_node_can_too(committed):
    files = local_files(committed.node)
    committed.cleaned()
    assert committed.call("restore", 101) == [str(committed.node.private(101))]
    assert "container 102 was moved aside" in committed.rollback()["comment"]
    assert len(committed.call("restore")) == 2
    assert local_files(committed.node) == files
    assert not (committed.node.folder / "vz/private/.ringfree-removed").exists()
    assert committed.record() == []
    ret = committed.rollback()
    assert ret["result"] is True, ret["comment"]
    assert committed.node.running() == MOVED
    assert "nfs" not in (committed.node.folder / "proc/mountinfo").read_text()


def test_what_came_back_can_be_cleaned_up_again(committed):
    committed.cleaned()
    committed.call("restore")
    assert committed.paths() == ["101", "102", "104"]
    committed.cleaned()
    assert committed.kept(101).is_dir()


def test_after_the_deletion_the_share_has_the_only_copy(committed):
    committed.cleaned()
    committed.cleaned()
    ret = committed.rollback()
    assert ret["result"] is False
    assert "was deleted on" in ret["comment"] and "its copy on the share is the only one" in ret["comment"]
    with pytest.raises(CommandExecutionError, match=r"nothing was brought back: .* was deleted on"):
        committed.call("restore", 101)


def test_nothing_is_overwritten_when_it_comes_back(committed):
    committed.cleaned()
    committed.node.private(101).mkdir()
    with pytest.raises(CommandExecutionError, match="is there already"):
        committed.call("restore", 101)
    assert os.listdir(committed.node.private(101)) == [] and committed.kept(101).is_dir()


def test_a_damaged_record_stops_everything(committed):
    committed.cleaned()
    (committed.node.folder / "var/cleanup.json").write_text("{")
    for function in ("plan", "restore", "record"):
        with pytest.raises(CommandExecutionError, match="is damaged"):
            committed.call(function)
    assert committed.kept(101).is_dir()


# --- kills ------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """SIGKILL."""


def kill_at(monkeypatch, number):
    """From now on the process dies at its so-manieth change of a file system; returns what counts them."""
    count = [0]

    def dying(real):
        def act(*args, **kwargs):
            # A directory that is there does not change; and what is noted of each command has tests of its own.
            if "/run/commands" in str(args[0]) or (real.__name__ == "mkdir" and os.path.isdir(args[0])):
                return real(*args, **kwargs)
            count[0] += 1
            if count[0] == number:
                raise Killed
            return real(*args, **kwargs)

        return act

    for name in ("rename", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(f"os.{name}", dying(getattr(os, name)))
    return count


@pytest.mark.walk
@pytest.mark.parametrize("act", ["move", "delete", "restore"])
def test_h17_killed_anywhere(small, act):
    """At each change of the file system: nothing is lost, or deleted that was not to be, and another run ends it."""
    node = small.node
    if act != "move":
        small.cleaned()
    if act != "delete":
        node.pillar["cleanup"] = {"age": 0, "keep": 7}
    files, there, start = local_files(node), san(node), node.keep()
    number, killed = 0, True
    while killed:
        number += 1
        if number > 1:
            begin_again(small, start)
        if act != "restore":
            small.consent()
        with pytest.MonkeyPatch.context() as patch:
            count = kill_at(patch, number)
            try:
                small.call("restore") if act == "restore" else small.call("clean", WORD)
                killed = False
            except Killed:
                pass
        assert san(node) == there
        if act != "delete":
            assert local_files(node) == files
        if act == "restore":
            if not node.private(101).exists():
                small.call("restore")
            assert small.call("record") == [] or killed
            assert node.private(101).is_dir() and local_files(node) == files
            continue
        small.consent()
        assert small.clean()["result"] is True
        assert (small.kept(101) is not None) is (act == "move")
        assert not node.private(101).exists()
        assert (san(node), node.running()) == (there, [101])
    assert number == count[0] + 1 and number > 6


def begin_again(small, start):
    """The node as it was before the kill; a copy of it has other inodes, and newer files."""
    small.node.restore(start)
    record = small.node.folder / "var/cleanup.json"

    def renew(kept):
        for area in kept["areas"]:
            area["inode"] = os.stat(area["kept"]).st_ino

    if record.exists():
        edit(record, renew)
    small.copied_last()
