"""H27, H13, H02: a node goes from one SAN to the other and back; replication keeps the other one's copy."""

import itertools
import json
import time
import types

import pytest
from fake_node import SECOND, SERVER
from migration_steps import apply, until
from salt.exceptions import CommandExecutionError

FSTAB = (
    "/dev/sda1 / ext4 defaults 0 1\n# ringfree: mounts of the SAN, managed by Salt\n"
    "{0}:/rf-images/pbx /x nfs hard 0 0\n# ringfree: end\n"
)
HANGS = 'case "$*" in -f*|-l*|*probe*) ;; *) exec sleep 60 ;; esac'
DEAD_SSH = f'case "$*" in *{SERVER}*) echo "No route to host" >&2; exit 255 ;; esac'


@pytest.fixture
def node(fleet, monkeypatch):
    """A node that was committed to the primary, whose copy on the secondary is fresh."""
    fleet.pillar["replication"] = {"node": "node001"}
    until(fleet, "ringfree_nfs.variables", mounted=True)
    result = apply(fleet, "ringfree_nfs.variables", {"mounted": True})
    assert result["result"] is True, result["comment"]
    (fleet.folder / "etc/fstab").write_text(FSTAB.format(SERVER))
    for function, constant, value in (
        ("vz.status", "_ASKED", {}),
        ("vz.status", "ATTEMPT", 2),
        ("ringfree_nfs.server", "ATTEMPT", 2),
        ("ringfree_failover.look", "QUICK", 2),
        ("ringfree_failover.look", "PATIENT", 0.2),
        ("ringfree_failover.look", "ENDING", 1),
    ):
        for test in (False, True):
            monkeypatch.setattr(fleet.minion(test).module_of(function), constant, value)
    call(fleet, "ringfree_replica.replicate")
    return fleet


def call(node, function, *args, **kwargs):
    return node.minion().modules[function](*args, **kwargs)


def failover(node, to, test=False, **arguments):
    return apply(node, "ringfree_failover.runs_from", {"to": to, **arguments}, test)


def good(result):
    assert result["result"] is True, result["comment"]
    return result


def journal(node):
    return json.loads((node.folder / "var/journal.json").read_text())


def sources(node):
    """The servers that something is mounted from."""
    lines = (node.folder / "proc/mountinfo").read_text().splitlines()
    return {line.split(" - ")[1].split()[1].split(":")[0] for line in lines if "nfs" in line.split(" - ")[1]}


def kill_primary(node):
    """The SAN that is mounted says nothing any more."""
    node.rule(
        "stat",
        f'for last; do :; done; ! grep " $last " $W/proc/mountinfo | grep -q {SERVER} || exec sleep 60',
    )
    node.rule("ssh", DEAD_SSH)
    node.rule("rsync", DEAD_SSH)
    node.rule("umount", HANGS)
    node.rule("vzctl.stop", '[ "$3" = --fast ] || exec sleep 60')


def revive(node):
    for program in ("stat", "ssh", "rsync", "umount", "vzctl.stop"):
        node.rule(program, "")
    node.minion().module_of("vz.status")._ASKED.clear()  # as in another job


def write(node, ctid, text):
    """What a container writes, on whichever SAN its private area is mounted from."""
    with (node.folder / f"vz/nfsprivate/{ctid}/etc/spool").open("a") as stream:
        stream.write(text)


# --- replication ----------------------------------------------------------------------------------------------------


def test_the_copy_is_whole_and_says_from_when_it_is(node):
    for ctid in (101, 102, 104):
        assert (node.second("pbx", ctid, "etc/hostname")).exists()
        assert (node.second("vzconf", f"{ctid}.conf")).read_text() == node.conf(ctid).read_text()
    said = call(node, "ringfree_replica.status")
    assert said["ok"] is True
    assert (
        said["said"] == f"node001 runs from primary ({SERVER}); secondary ({SECOND}) is {said['age']} s old."
    )
    assert (
        node.second("vzconf/.ringfree/replica").read_text()
        == node.second("pbx/.ringfree/replica").read_text()
    )
    assert node.second("vzconf/vps.premount").exists()


def test_h03_a_source_that_holds_no_tree_is_not_copied(node):
    """Nothing on the target is deleted for it."""
    for name in ("bin", "etc"):
        (node.folder / "vz/nfsprivate/102" / name).rename(node.folder / f"vz/nfsprivate/102/{name}.away")
    with pytest.raises(CommandExecutionError, match="holds no container tree of 102"):
        call(node, "ringfree_replica.replicate")
    assert node.second("pbx/102/etc/hostname").exists()
    assert "holds no container tree of 102" in call(node, "ringfree_replica.status")["last"]["said"]


def test_h03_a_share_that_is_not_mounted_is_no_source(node):
    call(node, "vz.stop", [101, 102, 104])
    call(node, "ringfree_nfs.unmount", str(node.folder / "vz/nfsprivate"))
    with pytest.raises(CommandExecutionError, match="is not mounted from"):
        call(node, "ringfree_replica.replicate")


def test_a_node_on_local_storage_does_not_replicate(fleet):
    with pytest.raises(CommandExecutionError, match="not committed to NFS"):
        call(fleet, "ringfree_replica.replicate")


def test_two_replications_do_not_run_side_by_side(node, tmp_path):
    node.rule("rsync.101", f"touch {tmp_path}/begun; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
    import threading

    first = threading.Thread(target=call, args=(node, "ringfree_replica.replicate"))
    first.start()
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < end:
        time.sleep(0.05)
    with pytest.raises(CommandExecutionError, match="runs on this node already"):
        call(node, "ringfree_replica.replicate")
    (tmp_path / "go").touch()
    first.join()


def test_a_copy_that_fails_leaves_the_old_marker(node):
    before = node.second("pbx/.ringfree/replica").read_text()
    node.rule("rsync.102", "echo 'too many deletions' >&2; exit 25")
    with pytest.raises(CommandExecutionError, match="ringfree:replication:max_delete"):
        call(node, "ringfree_replica.replicate")
    assert node.second("pbx/.ringfree/replica").read_text() == before


@pytest.mark.walk
@pytest.mark.parametrize(
    ("piece", "line", "counts"),
    [
        (".ringfree", ".d..t...... ./", False),
        (".ringfree", "<f.st...... owner/101", True),
        ("101", ".d..t...... ./", True),
        ("101", ".d..t...... etc/", True),
    ],
)
def test_the_last_copy_counts_differences_but_not_what_other_nodes_write_meanwhile(node, piece, line, counts):
    node.rule("rsync", f'case "$*" in *--dry-run*/pbx/{piece}/) echo "{line}" ;; esac')
    done = failover(node, "secondary")
    if counts:
        said = f"{line[:12]}{piece}/{line[12:].removeprefix('./')}"
        assert f"1 differences between both SANs after the last copy, such as '{said}'" in done["comment"]
    else:
        good(done)


def test_each_container_is_copied_by_an_rsync_of_its_own_which_its_san_lets_write(node):
    asked = len(node.calls())
    call(node, "ringfree_replica.replicate")
    turn = node.second("pbx/.ringfree/turn").read_text().strip()
    copies = [
        line.split()
        for line in node.calls()[asked:]
        if f"--rsync-path=ringfree-san receive 0 {turn} -" in line
    ]
    assert [words[-1].removeprefix(f"{SECOND}:/rf-images/") for words in copies] == [
        "pbx/101/",
        "pbx/102/",
        "pbx/104/",
        "pbx/.ringfree/",
        "vzconf/",
    ]
    assert ["--delete-delay" in words for words in copies] == [True] * 3 + [False] * 2


def test_the_san_itself_can_copy(node):
    """from: san: the SAN in use is asked for each piece, with the time that is left for all of them."""
    node.pillar["replication"]["from"] = "san"
    node.pillar["replication"]["deadline"] = 600
    call(node, "ringfree_replica.replicate")
    turn = node.second("pbx/.ringfree/turn").read_text().strip()
    sent = [line.partition(f" {SERVER} ringfree-san send ")[2].split() for line in node.calls("ssh ")]
    sent = [words for words in sent if words]
    assert {tuple(words[1:7]) for words in sent} == {("root", SECOND, "22", "0", turn, "-")}
    assert all(590 <= int(words[0]) <= 600 for words in sent)
    assert [words[7] for words in sent] == [
        *(f"/rf-images/pbx/{ctid}/" for ctid in (101, 102, 104)),
        "/rf-images/pbx/.ringfree/",
        "/rf-images/vzconf/",
    ]
    assert sent[0][8:11] == ["-aHAXSx", "--numeric-ids", "--timeout=60"]


@pytest.mark.parametrize("by", ["san", "node"])
def test_a_key_that_was_let_in_without_the_program_is_told(node, by):
    node.pillar["replication"]["from"] = by
    node.rule(
        "ssh",
        'case "$*" in *ringfree-san*) echo "bash: ringfree-san: command not found" >&2; exit 127 ;; esac',
    )
    node.rule(
        "rsync", 'case "$*" in *ringfree-san*) echo "sh: 1: ringfree-san: not found" >&2; exit 127 ;; esac'
    )
    with pytest.raises(CommandExecutionError, match="without 'ringfree-san install'"):
        call(node, "ringfree_replica.replicate")


def test_a_copy_that_takes_too_long_ends_between_two_containers(node, monkeypatch):
    node.pillar["replication"]["deadline"] = 60
    ticks = itertools.count(0, 25)
    clock = types.SimpleNamespace(time=time.time, monotonic=lambda: next(ticks))
    monkeypatch.setattr(node.minion().module_of("ringfree_replica.replicate"), "time", clock)
    with pytest.raises(CommandExecutionError, match="takes longer than ringfree:replication:deadline"):
        call(node, "ringfree_replica.replicate")


# --- there and back -------------------------------------------------------------------------------------------------


def test_the_dry_run_changes_nothing_and_tells_the_truth(node):
    before = node.tree()
    dry = failover(node, "secondary", test=True)
    assert node.tree() == before
    assert dry["result"] is None
    assert set(dry["changes"]) == {"san", "101", "102", "104"}
    assert "nothing is lost" in dry["comment"]


def test_there_and_back_without_a_loss(node):
    write(node, 101, "first ")
    good(failover(node, "secondary"))
    assert sources(node) == {SECOND}
    assert node.running() == [101, 102, 104]
    assert (node.folder / "vz/nfsprivate/101/etc/spool").read_text() == "first "
    assert (node.folder / "etc/fstab").read_text() == FSTAB.format(SECOND)
    assert (node.folder / "etc/ringfree/nfs").read_text() == f"{SECOND}\n"
    assert (node.folder / "etc/ringfree/nfsmounted").read_text() == "1\n"
    assert "DISABLED" not in node.vz_conf.read_text()
    assert journal(node)["state"] == "nfs"
    for test in (True, False):
        again = failover(node, "secondary", test=test)
        assert (again["result"], again["changes"]) == (True, {})
    write(node, 101, "second")
    refused = failover(node, "primary")
    assert refused["result"] is False
    assert "holds no complete copy of containers 102, 101, 104 made from secondary" in refused["comment"]
    assert node.running() == [101, 102, 104] and sources(node) == {SECOND}
    call(node, "ringfree_replica.replicate")
    good(failover(node, "primary"))
    assert sources(node) == {SERVER}
    assert (node.folder / "vz/nfsprivate/101/etc/spool").read_text() == "first second"
    assert (node.folder / "etc/fstab").read_text() == FSTAB.format(SERVER)


def test_h27_an_old_copy_is_refused_unless_it_is_accepted(node, monkeypatch):
    later = time.time() + 7300
    monkeypatch.setattr(time, "time", lambda: later)
    before = node.tree()
    for test in (True, False):
        refused = failover(node, "secondary", test=test)
        assert refused["result"] is False
        assert "is 2 h old" in refused["comment"] and '"accept_age": true' in refused["comment"]
    assert node.tree() == before
    assert failover(node, "secondary", max_age=8000, test=True)["result"] is None
    good(failover(node, "secondary", accept_age=True))


@pytest.mark.walk
@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("pbx/102/etc", "holds no container tree of 102"),
        ("vzconf/104.conf", "lacks 104.conf"),
        ("pbx/.ringfree/owner/101", "the owner record of container 101 on secondary"),
        ("pbxroot", "access denied"),
    ],
)
def test_a_target_that_lacks_something_is_refused_before_anything_stops(node, lacking, words):
    path = node.second(lacking)
    path.rename(node.folder / "away")
    refused = failover(node, "secondary")
    assert refused["result"] is False
    assert words in refused["comment"] and "nothing was changed" in refused["comment"]
    assert node.running() == [101, 102, 104] and sources(node) == {SERVER}


RECORDS = (
    "pbx/.ringfree/replica",
    "vzconf/.ringfree/replica",
    "pbx/.ringfree/owner/101",
    "pbx/.ringfree/live/node001",
)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.walk
@pytest.mark.parametrize("name", RECORDS)
def test_h27_a_damaged_record_of_the_other_san_is_refused_with_what_mends_it(node, name):
    flip(node.second(name))
    refused = failover(node, "secondary")
    assert refused["result"] is False
    for said in (
        f"{name.partition('/')[2].removeprefix('.ringfree/')} is damaged: ",
        "remove it: the next replication",
    ):
        assert said in refused["comment"]
    assert node.running() == [101, 102, 104] and sources(node) == {SERVER}
    with pytest.raises(CommandExecutionError, match="is damaged"):
        call(node, "ringfree_replica.replicate")
    node.second(name).unlink()
    call(node, "ringfree_replica.replicate")
    good(failover(node, "secondary"))


def test_h27_a_damaged_live_record_of_the_san_in_use_is_written_by_hand(node):
    path = node.san("pbx/.ringfree/live/node001")
    flip(path)
    with pytest.raises(
        CommandExecutionError, match=r"live/node001 is damaged: .*write it by hand: the lines san="
    ):
        call(node, "ringfree_replica.replicate")
    path.write_text(f"san=primary\ngeneration=2\nsince={int(time.time())}\n")
    call(node, "ringfree_replica.replicate")
    good(failover(node, "secondary"))


def test_a_node_that_is_not_committed_is_refused(fleet):
    assert "it uses no SAN" in failover(fleet, "secondary")["comment"]
    until(fleet, "vz.stopped")
    assert "in the middle of a migration" in failover(fleet, "secondary")["comment"]
    assert "'third' is no SAN" in failover(fleet, "third")["comment"]


def test_a_container_that_was_down_stays_down(node):
    call(node, "vz.stop", [104])
    good(failover(node, "secondary"))
    assert node.running() == [101, 102]


# --- cut short ------------------------------------------------------------------------------------------------------

#: What breaks a step, and whether its containers may already write on the target.
BREAKS = {
    "a container does not stop": ("vzctl.stop.102", "exit 9", False),
    "the last copy fails": ("rsync.102", "echo broken >&2; exit 11", False),
    "a share is busy": ("umount", "echo busy >&2; exit 32", False),
    "a mount fails": ("mount", f'case "$*" in *probe*) ;; *{SECOND}*pbxroot*) exit 32 ;; esac', False),
    "a container does not start": ("vzctl.start.104", "exit 7", True),
}


@pytest.mark.walk
@pytest.mark.parametrize("what", BREAKS)
def test_what_fails_in_the_middle_is_guarded_and_goes_on(node, what):
    """Nothing starts by itself, one sentence says what to type, and the same command ends it."""
    program, shell, _ = BREAKS[what]
    write(node, 101, "last words")
    if what == "a share is busy":
        shell = f'case "$*" in *probe*) ;; *) {shell} ;; esac'
    node.rule(program, shell)
    failed = failover(node, "secondary")
    assert failed["result"] is False
    assert "node001 is between the SANs, on its way to secondary" in failed["comment"]
    assert '"to": "primary"' in failed["comment"]
    assert 'DISABLED="yes"' in node.vz_conf.read_text()
    assert call(node, "cloudstor.whereabouts").startswith("node001 is between the SANs")
    assert "between the SANs" in str(call(node, "ringfree_preflight.look")["findings"])
    assert journal(node)["facts"]["failover"]["containers"] == [102, 101, 104]
    node.rule(program, "")
    good(failover(node, "secondary"))
    assert node.running() == [101, 102, 104] and sources(node) == {SECOND}
    assert (node.folder / "vz/nfsprivate/101/etc/spool").read_text() == "last words"
    assert journal(node)["state"] == "nfs"


def test_h43_a_container_that_does_not_start_keeps_no_other_one_down(node):
    """Also the first one, which the others would have waited for."""
    node.rule("vzctl.start.102", "echo 'no init' >&2; exit 7")
    failed = failover(node, "secondary")
    assert failed["result"] is False and "no init" in failed["comment"]
    assert node.running() == [101, 104] and sources(node) == {SECOND}
    node.rule("vzctl.start.102", "")
    good(failover(node, "secondary"))
    assert node.running() == [101, 102, 104]


def test_h42_a_surprise_ends_it_with_a_sentence_and_the_same_command_goes_on(node, monkeypatch):
    def fail(*arguments):
        raise AttributeError("nobody thought of it")

    with monkeypatch.context() as patch:
        patch.setattr(node.minion().module_of("ringfree_failover.look"), "_mount", fail)
        failed = failover(node, "secondary")
    assert failed["result"] is False
    for words in ("AttributeError: nobody thought of it", "node001 is between the SANs"):
        assert words in failed["comment"]
    good(failover(node, "secondary"))
    assert node.running() == [101, 102, 104]


@pytest.mark.walk
@pytest.mark.parametrize("what", BREAKS)
def test_what_fails_in_the_middle_can_go_the_other_way(node, what):
    """Without a replication as long as nothing ran on the target; with one from when something did."""
    program, shell, ran = BREAKS[what]
    write(node, 101, "last words")
    if what == "a share is busy":
        shell = f'case "$*" in *probe*) ;; *) {shell} ;; esac'
    node.rule(program, shell)
    assert failover(node, "secondary")["result"] is False
    node.rule(program, "")
    back = failover(node, "primary")
    if ran:
        assert back["result"] is False
        assert "holds no complete copy" in back["comment"]
        back = failover(node, "primary", accept_age=True)
    good(back)
    assert node.running() == [101, 102, 104] and sources(node) == {SERVER}
    assert (node.folder / "vz/nfsprivate/101/etc/spool").read_text() == "last words"
    assert "DISABLED" not in node.vz_conf.read_text()
    call(node, "ringfree_replica.replicate")


# --- the dead SAN ---------------------------------------------------------------------------------------------------


def test_h44_what_hangs_on_a_dead_san_is_ended_in_order(node):
    write(node, 101, "never copied")
    kill_primary(node)
    dry = failover(node, "secondary", test=True)
    assert dry["result"] is None
    assert "ended by force" in dry["comment"] and "is lost" in dry["comment"]
    asked = len(node.calls())
    done = good(failover(node, "secondary"))
    assert "is lost" in done["comment"]
    calls = [
        line
        for line in node.calls()[asked:]
        if line.startswith(("umount", "vzctl stop", "kill")) and "probe" not in line
    ]
    conf, roots, store = (
        node.folder / place for place in ("etc/sysconfig/vz-scripts", "vz/nfsroot", "vz/nfsprivate")
    )
    # vzctl is not asked: the confs below the share lead to the dead SAN as well.
    assert [line.replace("-i --no-canonicalize ", "") for line in calls[:6]] == [
        f"umount {conf}",
        f"umount -f {conf}",
        "kill -KILL 20101 20102 20104",
        f"umount -l {roots}",
        f"umount {store}",
        f"umount -f {store}",
    ]
    assert node.running() == [101, 102, 104] and sources(node) == {SECOND}
    assert not (node.folder / "vz/nfsprivate/101/etc/spool").exists()


def test_h44_vzctl_ends_what_it_can_end_without_the_dead_san(node):
    """The confs below the share lead to local storage, so that it has nothing to look at there."""
    hidden = node.folder / "etc/sysconfig/vz-scripts.hidden"
    for ctid in (101, 102, 104):
        paths = f'VE_ROOT="{node.folder}/vz/root/{ctid}"\nVE_PRIVATE="{node.folder}/vz/private/{ctid}"\n'
        (hidden / f"{ctid}.conf").write_text(paths)
    kill_primary(node)
    before = len(node.calls("vzctl stop"))
    good(failover(node, "secondary"))
    assert sorted(node.calls("vzctl stop")[before:]) == [f"vzctl stop {c} --fast" for c in (101, 102, 104)]
    assert node.calls("kill") == []
    assert node.running() == [101, 102, 104] and sources(node) == {SECOND}


def test_h13_a_number_that_is_somebody_elses_by_now_is_not_killed(node, monkeypatch):
    """A process of a container was seen and has ended since; the kernel has given its number away."""
    kill_primary(node)
    births = iter(range(10**6))
    monkeypatch.setitem(node.minion().utils, "ringfree_command.born", lambda pid: next(births))
    assert "still live on primary" in failover(node, "secondary")["comment"]
    assert node.calls("kill") == []


def test_h45_nothing_is_forced_while_somebody_else_uses_the_same_file_system(node):
    """It would end the waiting calls of his mount as well; what is dead goes all the same."""
    table = (node.folder / "proc/mountinfo").read_text().splitlines()
    device = next(line for line in table if line.split()[4].endswith("/vz-scripts")).split()[2]
    theirs = f"990 1 {device} / /mnt/backup rw - fuse.nfs {SERVER}:/rf-images/backup rw"
    node.mount(theirs)
    kill_primary(node)
    good(failover(node, "secondary"))
    conf = f"{node.folder}/etc/sysconfig/vz-scripts"
    assert not [call for call in node.calls("umount") if {"-f", conf} <= set(call.split())]
    assert theirs in (node.folder / "proc/mountinfo").read_text()
    assert node.running() == [101, 102, 104]


BUSY = 'case "$*" in "-l"*|*probe*) ;; *) echo busy >&2; exit 32 ;; esac'


def test_h13_only_what_is_proved_down_is_unmounted_lazily(node):
    """The kernel's client says busy to every other unmount."""
    kill_primary(node)
    node.rule("umount", BUSY)
    living = node.folder / "proc/4711"
    living.mkdir()
    (living / "status").write_text("Name: init\nenvID:\t102\n")
    (living / "mountinfo").write_text("1 0 0:1 / / rw - simfs /dev/simfs rw\n")
    failed = failover(node, "secondary")
    assert failed["result"] is False
    assert "processes 4711 of containers still live on primary" in failed["comment"]
    conf = node.folder / "etc/sysconfig/vz-scripts"
    assert [line.split()[-1] for line in node.calls("umount") if "-l" in line.split()] == [str(conf)]
    (living / "status").write_text("Name: other\nenvID:\t0\n")
    good(failover(node, "secondary"))
    assert [line for line in node.calls("umount") if "-l" in line.split()]
    assert sources(node) == {SECOND}


def test_h13_a_root_on_the_dead_san_is_a_living_container(node):
    """Where the kernel names no container, the root of the process tells."""
    kill_primary(node)
    node.rule("umount", BUSY)
    living = node.folder / "proc/4712"
    living.mkdir()
    (living / "status").write_text("Name: init\n")
    (living / "mountinfo").write_text(f"1 0 0:50 /101 / rw - fuse.nfs {SERVER}:/rf-images/pbx rw\n")
    assert "processes 4712" in failover(node, "secondary")["comment"]


@pytest.mark.walk
@pytest.mark.parametrize(
    ("status", "root"),
    [
        ("", f"tmpfs {SERVER}:/rf-images/pbx rw"),
        ("", f"ext4 /dev/sda1 rw,data={SERVER}:/rf-images/pbx"),
        ("envID:\t103\n", f"nfs {SERVER}:/rf-images/pbx rw"),
    ],
    ids=["a source by that name", "an option by that name", "another container"],
)
def test_h33_nobody_looks_as_if_he_lived_on_the_san(node, status, root):
    """A container's root names the source of what it mounts as it likes."""
    kill_primary(node)
    node.rule("umount", BUSY)
    living = node.folder / "proc/4713"
    living.mkdir()
    (living / "status").write_text(f"Name: init\n{status}")
    (living / "mountinfo").write_text(f"1 0 0:50 /101 / rw - {root}\n")
    good(failover(node, "secondary"))
    assert sources(node) == {SECOND}


def test_h13_nothing_is_forced_while_the_san_answers(node):
    node.rule("vzctl.stop.101", "exit 9")
    assert failover(node, "secondary")["result"] is False
    assert not [line for line in node.calls("umount") if "-f" in line.split()]
    assert not [line for line in node.calls("vzctl stop") if "--fast" in line.split()]


def test_h02_the_san_that_died_is_neither_started_from_nor_copied_over(node):
    write(node, 101, "only here")
    kill_primary(node)
    good(failover(node, "secondary"))
    revive(node)
    assert "holds no complete copy" in failover(node, "primary")["comment"]
    with pytest.raises(CommandExecutionError, match="Save what you need of it"):
        call(node, "ringfree_replica.replicate")
    assert node.san("pbx/101/etc/spool").read_text() == "only here"
    call(node, "ringfree_replica.replicate", overwrite=True)
    assert not node.san("pbx/101/etc/spool").exists()
    good(failover(node, "primary"))
    assert "is lost" not in call(node, "cloudstor.whereabouts")


def test_a_dead_san_without_any_copy_is_refused(node):
    node.second("pbx/.ringfree/replica").unlink()
    kill_primary(node)
    for accept in (False, True):
        refused = failover(node, "secondary", accept_age=accept)
        assert "holds no complete copy" in refused["comment"] and "nothing was changed" in refused["comment"]


# --- which SAN is in use --------------------------------------------------------------------------------------------


def test_the_san_in_use_is_the_one_that_is_mounted(node):
    """Not what the pillar says; that it says something else is told and nothing is changed for it."""
    good(failover(node, "secondary"))
    assert call(node, "ringfree_nfs.server") == SECOND
    assert {entry["mounted"] for entry in call(node, "ringfree_nfs.in_use").values()} == {True}
    told = "secondary (10.77.0.22) is in use, the pillar says primary"
    assert call(node, "cloudstor.status")["san"].startswith(told)
    assert told in str(call(node, "ringfree_preflight.look")["notes"])
    assert call(node, "ringfree_owner.records")[101]["store"] == "nfs"
    node.pillar["nfs"]["use"] = "secondary"
    assert call(node, "cloudstor.status")["san"] == "secondary"


def test_without_a_mount_a_committed_node_goes_by_its_variable(node):
    good(failover(node, "secondary"))
    call(node, "vz.stop", [101, 102, 104])
    for share in ("nfsprivate", "nfsroot"):
        call(node, "ringfree_nfs.unmount", str(node.folder / "vz" / share))
    assert call(node, "ringfree_nfs.server") == SECOND
    (node.folder / "etc/ringfree/nfs").write_text("10.99.0.1\n")
    assert call(node, "ringfree_nfs.server") == SERVER


def test_a_node_that_goes_home_from_the_secondary_tells_the_secondary(node):
    """The owner records of the SAN that it comes from; at home it goes by the pillar again."""
    good(failover(node, "secondary"))
    result = apply(node, "ringfree_rollback.rolled_back", {"data": "discard"})
    assert result["result"] is True, result["comment"]
    assert call(node, "ringfree_nfs.server") == SERVER
    for ctid in (101, 102, 104):
        assert "store=local" in node.second("pbx/.ringfree/owner", ctid).read_text()
