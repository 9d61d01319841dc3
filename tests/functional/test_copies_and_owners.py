"""The journal, copies on the SAN and their owners, the snapshot, the conf share and the guard."""

import json
import os
import shutil
import stat
import time

import pytest
import ringfree_tree
from fake_node import SERVER
from migration_steps import until
from ringfree_deadman import clock
from salt.exceptions import CommandExecutionError


@pytest.fixture
def call(fleet):
    """`call("ringfree_journal.read")` calls a function of the module on the fleet's node."""
    return lambda function, *args, **kwargs: fleet.minion().modules[function](*args, **kwargs)


def refused(words, call, *args, **kwargs):
    """The call is refused with these words; returns all that it said."""
    with pytest.raises(CommandExecutionError, match=words) as error:
        call(*args, **kwargs)
    return str(error.value)


# --- settings and journal -------------------------------------------------------------------------------------------


def test_all_faults_of_the_pillar_are_told_at_once(fleet, call):
    fleet.pillar.update(batch=0, nfs={"primary": "10.77.0.21"}, speed="high")
    said = refused("the pillar is wrong", call, "ringfree_settings.get")
    for key in ("ringfree:batch", "ringfree:nfs:secondary: is missing", "ringfree:speed: unknown key"):
        assert key in said


def test_a_node_without_journal_is_on_local_storage(fleet, call):
    before = fleet.tree()
    assert call("ringfree_journal.state") == "local"
    assert call("ringfree_journal.read")["node"] == "node001"
    assert not call("ringfree_journal.reached", "stop")
    assert fleet.tree() == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b'{"version": 1, "node": "node001", "sta',
        b"[]",
        b'{"version": 2}',
        b'{"version": 1}',
    ],
    ids=["empty", "zeros", "half written", "list", "other version", "keys missing"],
)
def test_h17_a_damaged_journal_is_refused_and_left_as_it_is(fleet, call, data):
    (fleet.folder / "var/journal.json").write_bytes(data)
    before = fleet.tree()
    for function, args in {
        "cloudstor.journal": [],
        "cloudstor.begin": [],
        "ringfree_journal.state": [],
        "ringfree_journal.begin": [],
        "ringfree_journal.mark": ["stop", "intent"],
        "ringfree_journal.set_state": ["nfs"],
        "ringfree_journal.remember": ["load", 1],
        "ringfree_journal.reached": ["stop"],
    }.items():
        said = refused("journal.json is damaged", call, function, *args)
        assert "cloudstor.status" in said and "cloudstor.recover_journal" in said
    assert fleet.tree() == before
    status = call("cloudstor.status")
    assert (status["state"], bool(status["journal_fault"])) == ("unknown", True)
    assert status["containers"][101]["store"] == "local"


def test_steps_are_noted_for_the_node_and_for_containers(fleet, call):
    call("cloudstor.begin")
    call("ringfree_journal.mark", "stop", "intent")
    call("ringfree_journal.mark", "stop", "verified", container=101, note="well")
    assert call("ringfree_journal.reached", "stop", "verified", 101)
    assert not call("ringfree_journal.reached", "stop")
    assert not call("ringfree_journal.reached", "stop", "verified", 102)
    assert call("ringfree_journal.reached", "stop", "intent")
    assert [data["container"] for _, data in fleet.told] == [None, 101]
    kept = json.loads((fleet.folder / "var/journal.json").read_text())
    assert kept["containers"]["101"]["stop"]["note"] == "well"
    assert stat.S_IMODE((fleet.folder / "var/journal.json").stat().st_mode) == 0o600


def test_a_migration_that_goes_on_keeps_what_was_noted(call):
    call("cloudstor.begin")
    call("ringfree_journal.mark", "manifest", "verified")
    call("cloudstor.begin")
    assert call("ringfree_journal.reached", "manifest")


def test_whereabouts_is_one_sentence_with_the_next_command(fleet, call):
    assert call("cloudstor.whereabouts") == "node001 was not touched, it is on local storage."
    until(fleet, "vz.stopped")()
    fleet.minion().modules["vz.start"]([102], force=True)
    armed = json.loads((fleet.folder / "var/deadman/record.json").read_text())
    assert call("cloudstor.whereabouts") == (
        "node001 is in flight: of 3 containers 1 run from local storage, 2 are down. "
        f"It goes back by itself at {clock(armed['deadline'], time.time())} unless it is committed before. "
        "'salt-run state.orch migrate' continues, "
        "'salt-run state.orch rollback pillar='{\"nodes\": [\"node001\"]}'' goes back."
    )


def test_an_overview_says_what_is_down_since_when_and_when_the_node_goes_back(fleet, call):
    until(fleet, "vz.stopped")()
    seen = call("cloudstor.overview")
    armed = json.loads((fleet.folder / "var/deadman/record.json").read_text())
    assert (seen["state"], seen["deadline"], seen["faults"]) == ("in_flight", armed["deadline"], [])
    assert not seen["containers"][101]["running"] and seen["containers"][101]["wanted"]
    assert seen["since"] <= seen["containers"][101]["down_since"] <= time.time()
    assert not seen["containers"][103]["wanted"] and seen["containers"][103]["down_since"] is None


def test_an_overview_while_the_san_is_dead_asks_nothing_of_the_containers(fleet, call):
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    assert call("cloudstor.overview")["containers"][101]["store"] == "nfs"
    fleet.rule("stat", "sleep 600")
    calls = len(fleet.calls("vzlist"))
    begun = time.monotonic()
    seen = call("cloudstor.overview", patience=0.5)
    assert time.monotonic() - begun < 5
    assert seen["silent"] and seen["containers"] == {} and "its SAN does not answer" in seen["faults"][0]
    assert seen["state"] == "nfs" and len(fleet.calls("vzlist")) == calls


def test_whereabouts_tell_what_answers(fleet, call):
    """H25: counted by asking, and where somebody is not on the node's store that is said."""
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    assert call("cloudstor.whereabouts") == "node001 is on NFS, 3 of 3 containers answer."
    fleet.rule("vzctl.exec2.102", "exit 1")
    assert call("cloudstor.whereabouts") == "node001 is on NFS, 2 of 3 containers answer."
    fleet.minion().modules["vz.stop"]([104])
    assert call("cloudstor.whereabouts") == (
        "node001 is on NFS, 1 of 3 containers answer: 2 run from NFS, 1 are down."
    )


# --- owners ---------------------------------------------------------------------------------------------------------


def test_a_claim_is_written_and_read_back(fleet, call):
    assert call("ringfree_owner.records") == {}
    assert set(call("ringfree_owner.claim", [101, 102], "local")) == {101, 102}
    assert fleet.owner(101)["generation"] == "1"
    first = (fleet.san("pbx/.ringfree/owner/101")).stat().st_mtime_ns
    call("ringfree_owner.claim", [101], "local")
    assert fleet.san("pbx/.ringfree/owner/101").stat().st_mtime_ns == first
    call("ringfree_owner.claim", [101], "local", {101: 77})
    call("ringfree_owner.claim", [101], "nfs")
    assert fleet.owner(101) == {**fleet.owner(101), "store": "nfs", "generation": "3", "copied": "77"}
    assert fleet.owner(102)["store"] == "local"
    assert set(call("ringfree_owner.records")) == {101, 102}


def test_h12_a_container_of_another_node_is_not_claimed(fleet, call):
    fleet.own(101, node="node002", store="local")
    before = fleet.tree()
    said = refused("container 101 belongs to node002", call, "ringfree_owner.claim", [102, 101], "nfs")
    assert "nothing was written" in said
    assert fleet.tree() == before


@pytest.mark.parametrize(
    "text", ["", "node=node001\n", "node=node001\nstore=tape\nsince=x\ngeneration=1\ncopied=0\n"]
)
def test_h12_a_damaged_owner_record_is_no_free_container(fleet, call, text):
    fleet.own(102)
    fleet.san("pbx/.ringfree/owner/101").write_text(text)
    before = fleet.tree()
    for function, args in (
        ("ringfree_owner.records", ()),
        ("ringfree_owner.claim", ([101], "nfs")),
        ("cloudstor.sync", ([103],)),
    ):
        refused("/rf-images/pbx/.ringfree/owner/101 on the SAN", call, function, *args)
    assert fleet.tree() == before


def test_a_claim_that_the_san_did_not_keep_is_noticed(fleet, call):
    fleet.rule("rsync.owners-to-share", "exit 0")
    fleet.rule("rsync..ringfree", "exit 0")
    refused(
        "owner records of containers 101 are not what was written",
        call,
        "ringfree_owner.claim",
        [101],
        "local",
    )


def test_a_san_that_cannot_be_asked_is_not_an_empty_one(fleet, call):
    fleet.rule("rsync", "echo 'connection reset' >&2; exit 12")
    for function, args in (
        ("ringfree_owner.records", ()),
        ("ringfree_owner.claim", ([101], "local")),
        ("cloudstor.sync", ([101],)),
    ):
        refused("connection reset", call, function, *args)
    fleet.rule("rsync", "")
    fleet.san("pbx").rename(fleet.san("gone"))
    refused("No such file", call, "ringfree_owner.records")


def test_h29_a_wrong_host_key_is_said_plainly(fleet, call):
    fleet.rule("ssh", "echo 'Host key verification failed.' >&2; exit 255")
    refused("the SAN's host key is not the pinned one", call, "ringfree_owner.records")
    assert not fleet.calls("rsync")


# --- copies ---------------------------------------------------------------------------------------------------------


def test_h01_the_copy_keeps_everything_and_counts_deletions(fleet, call):
    fleet.pillar["sync"] = {"max_delete": 7, "timeout": 11}
    call("cloudstor.sync", [101])
    (call,) = [call for call in fleet.calls("rsync -a") if "vz/private/101/" in call]
    words = call.split()
    assert {*"aHAXSx"} <= set(words[1])
    assert {"--numeric-ids", "--delete-delay", "--max-delete=7", "--timeout=11"} <= set(words)
    assert "--dry-run" not in words
    assert words[-2:] == [f"{fleet.private(101)}/", "10.77.0.21:/rf-images/pbx/101/"]
    connection = fleet.calls("ssh")[-1]
    for option in ("StrictHostKeyChecking=yes", "BatchMode=yes", f"UserKnownHostsFile={fleet.folder}"):
        assert option in connection
    assert f"-i {fleet.folder}" in connection and "-i" not in words
    assert (fleet.san("pbx/101/etc/hostname")).read_text() == "Four Seasons hospice\n"


def test_containers_that_are_down_wait_for_one_connection_and_not_for_one_each(fleet, call):
    asked = []
    for ctids in ([101], [101, 102, 104]):
        before = len(fleet.calls("ssh"))
        call("cloudstor.sync", ctids)
        asked.append(len(fleet.calls("ssh")) - before)
    assert asked[0] == asked[1]


def test_sync_says_what_it_copied(call):
    seen = {}
    done = call("cloudstor.sync", [101, 102], on_done=seen.__setitem__)
    assert done == seen
    assert {key: done[101][key] for key in ("files", "bytes", "deleted", "size")} == {
        "files": 2, "bytes": 1000, "deleted": 0, "size": 1234,
    }  # fmt: skip


@pytest.mark.parametrize("verify", ["quick", "checksum"])
def test_the_final_copy_is_compared_as_the_pillar_says(fleet, call, verify):
    fleet.pillar["sync"] = {"verify": verify}
    fleet.minion().modules["vz.stop"]([101])
    call("cloudstor.sync", [101], final=True)
    copy, compare = [call for call in fleet.calls("rsync -a") if "vz/private/101/" in call]
    assert "--dry-run" not in copy
    assert "--dry-run" in compare
    assert "--delete" in compare
    assert ("--checksum" in compare) is (verify == "checksum")


def wipe(fleet):
    """The private area is there and empty, as under a mount that is missing."""
    (fleet.private(101) / "etc/hostname").unlink()
    for name in ("etc", "bin"):
        (fleet.private(101) / name).rmdir()


def on_nfs(fleet):
    """The private area is on NFS."""
    fleet.mount(f"9 1 0:9 / {fleet.private(101)} rw - nfs 10.77.0.22:/x rw")


SOURCES = {
    "missing": (lambda fleet: fleet.private(101).rename(fleet.folder / "vz/gone"), "is not there"),
    "empty": (wipe, "holds no container tree"),
    "no etc": (lambda fleet: (fleet.private(101) / "etc").rename(fleet.private(101) / "x"), "holds no container tree"),
    "on NFS": (on_nfs, r"is on NFS \(10\.77\.0\.22:/x\)"),
}  # fmt: skip


@pytest.mark.parametrize("why", SOURCES)
def test_h03_what_is_no_containers_tree_is_not_copied_over_the_sans(fleet, call, why):
    fleet.san("pbx/101/etc").mkdir(parents=True)
    spoil, words = SOURCES[why]
    spoil(fleet)
    before = fleet.tree()
    refused(f"nothing was copied: container 101 .*{words}", call, "cloudstor.sync", [102, 101])
    assert fleet.tree() == before


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"store": "nfs"}, "has its live copy on the share since 2026-02-26"),
        ({"store": "local", "node": "node002"}, "belongs to node002 since 2026-02-26"),
    ],
)
def test_h02_a_live_copy_on_the_share_is_never_overwritten(fleet, call, record, words):
    fleet.own(101, **record)
    before = fleet.tree()
    refused(f"nothing was copied: container 101 {words}", call, "cloudstor.sync", [102, 101])
    assert fleet.tree() == before


def test_a_ploop_container_is_a_tree_too(fleet, call):
    wipe(fleet)
    (fleet.private(101) / "root.hdd").mkdir()
    (fleet.private(101) / "root.hdd/DiskDescriptor.xml").touch()
    assert call("cloudstor.source_fault", 101) is None
    assert call("ringfree_confs.with_layout", 101, {})["VE_LAYOUT"] == "ploop"
    assert call("ringfree_confs.with_layout", 102, {"A": "b"}) == {"A": "b", "VE_LAYOUT": "simfs"}


def test_h31_a_link_that_a_container_has_planted_makes_no_ploop_of_it(fleet, call, tmp_path):
    (tmp_path / "DiskDescriptor.xml").touch()
    (fleet.private(101) / "root.hdd").symlink_to(tmp_path)
    assert call("ringfree_confs.with_layout", 101, {})["VE_LAYOUT"] == "simfs"
    for name in ("etc", "bin"):
        shutil.rmtree(fleet.private(101) / name)
    assert "holds no container tree" in call("cloudstor.source_fault", 101)


@pytest.mark.parametrize("code", [1, 2, 3, 5, 11, 20, 23, 24, 25])
def test_exit_codes_of_rsync_that_stop_the_final_copy(fleet, call, code):
    fleet.minion().modules["vz.stop"]([101])
    fleet.rule("rsync.101", f"echo x >> $W/var/tries; echo 'rsync error: so' >&2; exit {code}")
    said = refused("container 101 was not copied", call, "cloudstor.sync", [101], final=True)
    assert "rsync error: so" in said
    assert f"exit code {code}" in said
    assert (fleet.folder / "var/tries").read_text() == "x\n"


@pytest.mark.parametrize("code", [10, 12, 30, 35, 255])
def test_exit_codes_of_rsync_that_may_pass_are_tried_three_times(fleet, call, code):
    tries = fleet.folder / "var/tries"
    fleet.rule("rsync.101", f"echo x >> {tries}; [ $(wc -l < {tries}) -gt 2 ] || exit {code}")
    assert set(call("cloudstor.sync", [101, 102])) == {101, 102}
    fleet.rule("rsync.101", f"echo x >> {tries}; exit {code}")
    tries.unlink()
    refused("container 101 was not copied", call, "cloudstor.sync", [101, 102])
    assert tries.read_text() == "x\n" * 3
    assert len([call for call in fleet.calls("rsync -a") if "private/102/" in call]) == 2


@pytest.mark.parametrize("code", [12, 255])
@pytest.mark.parametrize("words", ["Host key verification failed.", "Permission denied (publickey)."])
def test_an_ssh_failure_that_no_second_try_cures_stops_at_once(fleet, call, words, code):
    fleet.rule("rsync.101", f"echo x >> $W/var/tries; echo '{words}' >&2; exit {code}")
    refused("container 101 was not copied, the SAN", call, "cloudstor.sync", [101])
    assert (fleet.folder / "var/tries").read_text() == "x\n"


@pytest.mark.parametrize(
    "change",
    [
        "touch -d @1 $source/etc/hostname",
        "cp -p $source/etc/hostname $source/etc/n; mv $source/etc/n $source/etc/hostname",
        "touch $source/etc/n; touch $target/etc/n; rm $source/etc/n $target/etc/n",
        "ln $source/etc/hostname $source/n; ln $target/etc/hostname $target/n",
    ],
)
def test_h32_what_changes_under_the_last_copy_fails_it_whatever_the_comparison_says(fleet, call, change):
    """The container is down: what still writes there may write on, and what was copied may be of two moments."""
    fleet.minion().modules["vz.stop"]([101, 102])
    done = []
    fleet.rule(
        "rsync.101.after", f"[ $dry ] || {{ {change}; touch -d @1 $source $source/etc $target $target/etc; }}"
    )
    said = refused(
        "container 101 is down and was written to while it was copied",
        *(call, "cloudstor.sync", [101, 102]),
        final=True,
        on_done=lambda ctid, entry: done.append(ctid),
    )
    assert str(fleet.private(101)) in said and "container 102" not in said
    assert done == [102]
    fleet.rule("rsync.101.after", "")
    call("cloudstor.sync", [101, 102], final=True, on_done=lambda ctid, entry: done.append(ctid))
    assert done == [102, 101, 102]


def test_h32_a_time_that_is_still_to_come_is_no_change_under_the_last_copy(fleet, monkeypatch):
    """The clock of the node was wrong when the files were written, and was set back."""
    really = time.time
    monkeypatch.setattr("time.time", lambda: really() - 3600)
    private = str(fleet.private(101))
    assert ringfree_tree.changed_since(private, really() - 7200) == {"changed": 0, "example": ""}
    monkeypatch.undo()
    assert ringfree_tree.changed_since(private, really() - 7200)["changed"]


def test_vanished_files_are_good_while_a_container_runs(fleet, call):
    fleet.rule("rsync.101.after", "exit 24")
    assert set(call("cloudstor.sync", [101])) == {101}


def test_a_comparison_that_cannot_be_made_fails(fleet, call):
    fleet.minion().modules["vz.stop"]([101])
    fleet.rule("rsync.101", "[ ! $dry ] || exit 23")
    refused("container 101 was not verified", call, "cloudstor.sync", [101], final=True)


def test_h03_no_local_directory_is_made_like_the_sans_without_a_backup(fleet, call, tmp_path):
    """Only copies of our own lose what the SAN does not have."""
    fleet.san("pbx/999").mkdir()
    refused(
        "say where what is replaced", call, "ringfree_san.fetch", "/rf-images/pbx/999", fleet.private(101)
    )
    for folder in (fleet.private(101), fleet.folder / "var", fleet.folder / "var/../vz"):
        words = "what the SAN does not have would be deleted"
        refused(words, call, "ringfree_san.fetch_shared", "/rf-images/pbx/999", str(folder))
    assert not fleet.calls("rsync")
    call("ringfree_san.fetch", "/rf-images/pbx/999", str(fleet.private(101)), dry_run=True)
    call("ringfree_san.fetch_shared", "/rf-images/pbx/999", str(fleet.folder / "var/copy"))
    assert len(fleet.calls("rsync")) == 2
    assert (fleet.private(101) / "etc").is_dir()


# --- snapshot -------------------------------------------------------------------------------------------------------


def test_the_snapshot_holds_every_conf_and_keeps_the_earlier_one(fleet, call):
    fleet.conf(101).chmod(0o600)
    (fleet.folder / "etc/vz/conf/ve-basic.conf-sample").symlink_to("101.conf")
    kept = call("ringfree_snapshot.make")
    archive = fleet.folder / "etc/sysconfig/vz-scripts.tar.gz"
    vz_conf = fleet.folder / "etc/vz/vz.conf.before-nfs"
    assert set(kept) == {str(archive), str(vz_conf)}
    assert vz_conf.read_bytes() == fleet.vz_conf.read_bytes()
    first = archive.read_bytes()
    found = fleet.minion().utils["ringfree_archive.unpack"](str(archive))
    assert found["101.conf"]["data"] == fleet.conf(101).read_bytes()
    assert found["101.conf"]["mode"] == 0o600
    assert found["ve-basic.conf-sample"] == {"link": "101.conf"}
    os.utime(archive, (1e9, 1e9))
    call("ringfree_snapshot.make")
    (older,) = archive.parent.glob("vz-scripts.tar.gz.2001*")
    assert older.read_bytes() == first
    assert archive.exists()


def test_a_snapshot_that_does_not_read_back_is_refused(fleet, call, monkeypatch):
    real = os.rename

    def cut(source, target):
        if "vz-scripts.tar.gz" in str(target):
            os.truncate(source, os.path.getsize(source) // 2)
        real(source, target)

    monkeypatch.setattr("os.rename", cut)
    result = until(fleet, "ringfree_snapshot.made")()
    assert result["result"] is False
    assert "Traceback" not in result["comment"]
    assert "confs cannot be kept" in result["comment"]


# --- the conf share -------------------------------------------------------------------------------------------------


def test_the_conf_share_gets_the_confs_as_they_are_to_be(fleet, call):
    fleet.conf(103).chmod(0o600)
    local = fleet.conf(101).read_bytes()
    call("ringfree_owner.claim", [101, 102, 104], "local")
    planned = call("ringfree_confs.conf_share", test=True)
    assert list(fleet.san("vzconf").iterdir()) == []
    assert call("ringfree_confs.conf_share") == planned
    assert set(planned) == {"101.conf", "102.conf", "103.conf", "104.conf"}
    there = fleet.san("vzconf/101.conf").read_bytes()
    assert there.startswith(local)
    assert f'VE_PRIVATE="{fleet.folder}/vz/nfsprivate/$VEID"\n'.encode() in there
    assert b'VE_LAYOUT="simfs"\n' in there
    assert b'DISK_QUOTA="no"\n' in there
    assert fleet.san("vzconf/103.conf").read_bytes() == fleet.conf(103).read_bytes()
    assert stat.S_IMODE(fleet.san("vzconf/103.conf").stat().st_mode) == 0o600
    assert fleet.conf(101).read_bytes() == local
    assert call("ringfree_confs.conf_share") == {}


def test_h12_files_of_other_nodes_on_the_conf_share_stay(fleet, call):
    (fleet.san("vzconf/201.conf")).write_text("# of node002\n")
    call("ringfree_owner.claim", [101, 102, 104], "local")
    call("ringfree_confs.conf_share")
    assert fleet.san("vzconf/201.conf").read_text() == "# of node002\n"
    calls = [call for call in fleet.calls("rsync") if call.endswith(":/rf-images/vzconf/")]
    assert calls
    assert not [call for call in calls if "--delete" in call and "confs-to-share" in call]


def test_h12_another_nodes_conf_of_the_same_name_is_refused(fleet, call):
    fleet.san("vzconf/101.conf").write_text("of node002\n")
    fleet.san("vzconf/vps.mount").write_text("#!/bin/sh\n")
    (fleet.folder / "etc/vz/conf/vps.mount").write_text("#!/bin/sh\nexit 1\n")
    fleet.own(101, node="node002")
    before = fleet.tree()
    for test in (True, False):
        said = refused("nothing was written to the conf share", call, "ringfree_confs.conf_share", test)
        assert "101.conf on the conf share belongs to node002" in said
        assert "vps.mount on the conf share differs" in said
    assert fleet.tree() == before


def test_a_conf_share_that_did_not_keep_what_was_written_is_noticed(fleet, call):
    call("ringfree_owner.claim", [101, 102, 104], "local")
    fleet.rule("rsync.confs-to-share.after", "echo changed >> $target/101.conf")
    refused("the conf share differs after it was written: 101.conf", call, "ringfree_confs.conf_share")


def test_h12_what_another_node_tries_or_just_writes_is_not_read(fleet, call):
    """Its rsync writes to a hidden name before it renames; its trials are there for a moment; editors leave theirs."""
    call("ringfree_owner.claim", [101, 102, 104], "local")
    for path in (
        "vzconf/.201.conf.AbCdEf",
        "vzconf/.ringfree-probe-x/fifo",
        "pbx/.ringfree/owner/.201.AbCdEf",
    ):
        fleet.san(path).parent.mkdir(exist_ok=True)
        fleet.san(path).write_text("half")
    for name in (".101.conf.swp", ".ringfree-probe-y"):
        (fleet.folder / "etc/vz/conf" / name).write_text("hidden")
    assert set(call("ringfree_owner.records")) == {101, 102, 104}
    assert set(call("ringfree_confs.conf_share")) == {"101.conf", "102.conf", "103.conf", "104.conf"}
    assert not (fleet.folder / "var/confs-on-share/.ringfree-probe-x").exists()
    assert not fleet.san("vzconf/.101.conf.swp").exists()


def test_h12_files_that_another_node_takes_away_while_they_are_read_are_read_again(fleet, call):
    """In front of a whole fleet, three times running; somebody who never stops is a fault."""
    call("ringfree_owner.claim", [101, 102, 104], "local")
    vanish = "echo 'file has vanished: \"/rf-images/vzconf/202.conf\"' >&2; exit 24"
    fleet.rule(
        "rsync.vzconf", f"[ -e $W/read.2 ] || {{ mv $W/read.1 $W/read.2 || touch $W/read.1; {vanish}; }} 2>&1"
    )
    assert call("ringfree_confs.conflicts") == []
    fleet.rule("rsync.vzconf", vanish)
    refused("files vanished while they were copied.*202.conf", call, "ringfree_confs.conflicts")


def test_h12_a_name_that_another_node_takes_away_while_names_are_listed_is_not_there(fleet, call):
    line = "-rw-r--r--        1 2026/02/26 02:10:00 101"
    fleet.rule(
        "rsync", f"echo '{line}'; echo 'file has vanished: \"/rf-images/pbx/.ringfree-probe-x\"' >&2; exit 24"
    )
    assert call("ringfree_san.names", "/rf-images/pbx") == ["101"]


def test_an_ambiguous_conf_keeps_the_conf_share_as_it_is(fleet, call):
    """H11."""
    with fleet.conf(101).open("a") as stream:
        stream.write('VE_ROOT="/a"\nVE_ROOT="/b"\n')
    call("ringfree_owner.claim", [101, 102, 104], "local")
    refused(r"101\.conf.*line \d", call, "ringfree_confs.conf_share")
    assert list(fleet.san("vzconf").iterdir()) == []


def test_a_conf_that_is_a_link_is_brought_with_the_paths_of_the_share(fleet, call):
    real = fleet.folder / "etc/101.real"
    fleet.conf(101).rename(real)
    fleet.conf(101).symlink_to(real)
    call("ringfree_owner.claim", [101, 102, 104], "local")
    call("ringfree_confs.conf_share")
    there = fleet.san("vzconf/101.conf")
    assert not there.is_symlink()
    assert "nfsprivate" in there.read_text()


@pytest.mark.parametrize("named", ["ploop:raw", "simfs"])
def test_a_layout_that_is_named_stays_as_it_is_named(fleet, call, named):
    with fleet.conf(101).open("a") as stream:
        stream.write(f'VE_LAYOUT="{named}"\n')
    call("ringfree_owner.claim", [101, 102, 104], "local")
    call("ringfree_confs.conf_share")
    assert f'VE_LAYOUT="{named}"\n' in fleet.san("vzconf/101.conf").read_text()


def test_a_layout_that_nobody_names_is_looked_up_on_disk(fleet, call):
    (fleet.private(101) / "root.hdd").mkdir()
    (fleet.private(101) / "root.hdd/DiskDescriptor.xml").touch()
    call("ringfree_owner.claim", [101, 102, 104], "local")
    call("ringfree_confs.conf_share")
    assert 'VE_LAYOUT="ploop"\n' in fleet.san("vzconf/101.conf").read_text()
    assert 'VE_LAYOUT="simfs"\n' in fleet.san("vzconf/102.conf").read_text()


def test_h06_a_conf_share_that_says_something_else_is_not_mounted(fleet):
    mounted = until(fleet, "ringfree_nfs.mounted", shares=["conf"])
    with fleet.san("vzconf/103.conf").open("a") as stream:
        stream.write("# by hand\n")
    fleet.own(103, store="local")
    result = mounted()
    assert result["result"] is False
    assert "the conf share lacks or changes 103.conf; it was not mounted" in result["comment"]
    assert "vzconf" not in (fleet.folder / "proc/mountinfo").read_text()


def test_containers_of_a_shared_conf_directory(fleet, call):
    """Once the share is mounted the confs of all nodes are here; this node's containers are still its own."""
    until(fleet, "vz.running")
    shared = f"{fleet.folder}/vz/nfs"
    fleet.conf(201).write_text(f'VE_ROOT="{shared}root/$VEID"\nVE_PRIVATE="{shared}private/$VEID"\n')
    fleet.conf(202).write_text('NAME="left on node002"\nVE_PRIVATE="/vz/private-of-node002/$VEID"\n')
    assert fleet.minion().modules["vz.containers"]() == [101, 102, 103, 104, 201, 202]
    assert call("ringfree_owner.containers") == [101, 102, 103, 104]


def test_h12_other_nodes_confs_on_the_share_are_not_pinned(fleet):
    """A container of another node may inherit from that node's vz.conf."""
    until(fleet, "vz.running")
    fleet.conf(202).write_text('NAME="of node002"\n')
    before = fleet.conf(202).read_bytes()
    result = fleet.minion().states["vz.others_pinned"]("x", keys=["VE_ROOT", "VE_PRIVATE", "DISK_QUOTA"])
    assert (result["result"], result["changes"]) == (True, {})
    assert fleet.conf(202).read_bytes() == before


def test_h12_names_of_other_nodes_containers_do_not_make_ours_ambiguous(fleet, call):
    """On a conf share of several nodes a priority or an exemption means this node's container."""
    until(fleet, "vz.running")
    name = call("cloudstor.status")["containers"][101]["name"]
    fleet.conf(202).write_text(f'NAME="{name}"\n')
    assert call("ringfree_owner.resolve", [name]) == {"found": {name: 101}, "faults": []}


# --- guard ----------------------------------------------------------------------------------------------------------


def test_the_guard_and_its_end(fleet, call):
    """H05, H12."""
    before = fleet.tree()
    planned = call("ringfree_guard.guard", test=True)
    assert fleet.tree() == before
    assert call("ringfree_guard.guard") == planned
    assert 'DISABLED="yes"' in fleet.vz_conf.read_text()
    fence = fleet.folder / "etc/vz/conf/vps.premount"
    assert os.access(fence, os.X_OK)
    assert f"share={fleet.folder}/vz/nfsprivate" in fence.read_text()
    assert (fleet.folder / "etc/ringfree/node").read_text() == "node001\n"
    assert call("ringfree_guard.guard") == {}
    guarded = fleet.tree()
    assert call("ringfree_guard.unguard", test=True) == {"DISABLED": {"old": "yes", "new": None}}
    assert fleet.tree() == guarded
    assert call("ringfree_guard.unguard") == {"DISABLED": {"old": "yes", "new": None}}
    assert call("ringfree_guard.unguard") == {}
    assert "DISABLED" not in fleet.vz_conf.read_text()
    assert fence.exists()


def test_a_fence_that_somebody_changed_is_put_back(fleet, call):
    call("ringfree_guard.fence")
    fence = fleet.folder / "etc/vz/conf/vps.premount"
    text = fence.read_text()
    fence.write_text("#!/bin/sh\nexit 0\n")
    fence.chmod(0o644)
    assert set(call("ringfree_guard.fence")) == {str(fence)}
    assert fence.read_text() == text
    assert os.access(fence, os.X_OK)


def test_a_fence_that_cannot_be_run_is_no_fence(fleet, call):
    """vzctl runs only what is executable."""
    call("ringfree_guard.fence")
    fence = fleet.folder / "etc/vz/conf/vps.premount"
    fence.chmod(0o644)
    assert set(call("ringfree_guard.fence", test=True)) == {str(fence)}
    assert set(call("ringfree_guard.fence")) == {str(fence)}
    assert os.access(fence, os.X_OK)


# --- report and faults ----------------------------------------------------------------------------------------------


def test_the_report_of_a_migrated_node(fleet, call):
    until(fleet, "ringfree_nfs.variables", mounted=True)
    rows = {row["ctid"]: row for row in call("cloudstor.report")}
    assert {ctid: (row["store"], row["checks"], row["faults"]) for ctid, row in rows.items()} == {
        101: ("nfs", "2/2", []),
        102: ("nfs", "2/2", []),
        103: ("-", "-", []),
        104: ("nfs", "1/1", []),
    }
    assert rows[101]["downtime"] > 0
    assert rows[103]["downtime"] is None
    assert rows[101]["name"] == "Four Seasons hospice"
    assert call("cloudstor.faults_on_nfs") == []
    fleet.rule("vzctl.exec2.101", "exit 1")
    fleet.minion().modules["vz.stop"]([102])
    rows = {row["ctid"]: row for row in call("cloudstor.report")}
    assert rows[101]["checks"] == "0/2"
    assert len(rows[101]["faults"]) == 2
    assert rows[102]["faults"] == ["does not run"]
    faults = call("cloudstor.faults_on_nfs")
    assert "container 102 does not run" in faults
    assert any("container 101: asterisk does not answer" in fault for fault in faults)


def test_exemptions_take_checks_away_by_name(call):
    found = call("ringfree_start.checks", [101, 104])
    assert set(found[101]) == {"asterisk", "init"}
    assert set(found[104]) == {"init"}


def test_h17_the_socket_of_a_connection_that_was_killed_is_in_nobodys_way(fleet):
    """ssh opens none where one is, and ends with exit code 0 all the same."""
    fleet.rule(
        "ssh",
        """
        for word; do case $word in ControlPath=*) path=${word#*=} ;; esac; done
        case " $* " in
            *" -O check "*) grep -q lives "$path"; exit ;;
            *" -M "*) [ -e "$path" ] || echo lives >"$path" ;;
            *" -O exit "*) rm "$path" ;;
        esac
        """,
    )
    (fleet.folder / "run").mkdir(exist_ok=True)
    socket = fleet.folder / f"run/ssh-{SERVER}"
    socket.write_text("was killed")
    connection = fleet.minion().modules["ringfree_san.connection"]
    argv = connection()
    assert f"ControlPath={socket}" in argv
    assert socket.read_text() == "lives\n"
    assert connection() == argv
    assert len([call for call in fleet.calls("ssh") if " -M " in call]) == 1
    fleet.minion().modules["ringfree_san.disconnect"]()
    assert not socket.exists()
