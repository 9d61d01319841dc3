"""What a container had before its stop it has again: on the way to NFS, on the way back; allowed, late, or unseen."""

import json

import pytest
from fake_node import SERVER
from migration_steps import STEPS, apply, bring, steps, until

ROW = "   {n}: 00000000:{port:04X} 00000000:0000 {state} 0:0 00:0 0 0 0 {inode} 1 0\n"
BIND = "11 101 8:1 /srv/voicemail /var/spool/shared rw - ext4 /dev/sda1 rw\n"
TRIE = "Local:\n   |-- 10.0.0.7\n      /32 host LOCAL\n"
ROUTE = "head\neth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
LACKS = "lacks what it had before its stop: "


def table(protocol, *ports):
    """/proc/PID/net/tcp or udp."""
    state = {"tcp": "0A", "udp": "07"}[protocol]
    rows = [ROW.format(n=n, port=port, state=state, inode=port) for n, port in enumerate(ports)]
    return "".join(["head\n", *rows])


#: What a container has, and how it is called once it is lost.
THINGS = {
    "mount /var/spool/shared (ext4 /srv/voicemail of device 8:1)": {"mountinfo": BIND},
    "tcp 0.0.0.0:5038": {"tcp": table("tcp", 5038)},
    "udp 0.0.0.0:5060": {"udp": table("udp", 5060)},
    "address 10.0.0.7": {"fib_trie": TRIE},
    "route 10.0.0.0/8 dev eth0": {"route": ROUTE},
    "process poller": {"processes": "poller\n"},
}
EVERYTHING = {name: text for files in THINGS.values() for name, text in files.items()}
NOTHING = dict.fromkeys(EVERYTHING, "")


@pytest.fixture
def node(fleet):
    """The fleet; 101 has one thing of each kind, now and after each start."""
    fleet.has(101, **EVERYTHING)
    fleet.appear(101)
    return fleet


def record(node):
    return json.loads((node.folder / "var/fingerprints.json").read_text())


def move(node, **now):
    """Migrate up to the starts; 101 has something else by then. Returns what the state that starts them said."""
    until(node, "vz.running")
    node.has(101, **now)
    return apply(node, "vz.running")


def good(ret):
    assert ret["result"] is True, ret["comment"]
    return ret["comment"]


def failed(ret, *texts):
    assert ret["result"] is False, ret["comment"]
    for text in texts:
        assert text in ret["comment"], ret["comment"]


# --- on the way to NFS ------------------------------------------------------------------------------------------------


def test_who_has_everything_again_moves(node):
    good(move(node))
    assert node.running() == [101, 102, 104]


@pytest.mark.walk
@pytest.mark.parametrize("name", THINGS)
def test_h38_what_is_lost_fails_the_container_and_is_there_again_at_home(node, name):
    (lost,) = THINGS[name]
    ret = move(node, **{lost: ""})
    failed(ret, f"container 101 {LACKS}{name} (what it may lack", "ringfree:containers:may_lack")
    assert "container 102 lacks" not in ret["comment"]
    node.has(101, **THINGS[name])
    assert "3 of 3 containers answer" in good(apply(node, "ringfree_rollback.rolled_back"))


def test_h38_everything_that_is_lost_is_named_at_once(node):
    failed(move(node, **NOTHING), *THINGS)


def test_a_mount_that_shows_something_else_is_lost(node):
    elsewhere = BIND.replace("/srv/voicemail", "/srv/other")
    ret = move(node, mountinfo=elsewhere)
    failed(
        ret,
        "mount /var/spool/shared (ext4 /srv/voicemail of device 8:1), which is ext4 /srv/other of device 8:1",
    )


def test_what_lies_in_the_own_tree_moves_with_it(node):
    node.has(101, mountinfo=BIND.replace("/srv/voicemail", f"{node.private(101)}/srv"))
    node.appear(101)
    on_share = f"11 101 0:50 /101/srv /var/spool/shared rw - fuse.nfs {SERVER}:/rf-images/pbx rw\n"
    good(move(node, mountinfo=on_share))


@pytest.mark.walk
@pytest.mark.parametrize("who", ["Four Seasons hospice", "ct101", "101", "*"])
def test_the_pillar_allows_what_may_be_lacking(node, who):
    node.pillar["containers"]["may_lack"] = {
        who: ["mount /var/*", "tcp *:5038", "udp *", "address 10.0.0.7", "route *", "process poller"]
    }
    good(move(node, **NOTHING))


def test_the_pillar_allows_it_to_one_container_only(node):
    node.pillar["containers"]["may_lack"] = {"PBX": ["process *"]}
    failed(move(node, processes=""), f"container 101 {LACKS}process poller")


def test_what_comes_late_is_waited_for(node):
    """As long as for services that answer; then it is good."""
    node.pillar["start"]["answer"] = 30
    until(node, "vz.running")
    node.has(101, udp="")
    asked = []

    def late(*_):
        asked.append(1)
        if len(asked) == 3:
            (node.folder / "proc/20101/net/udp").write_text(EVERYTHING["udp"])

    names = node.minion().modules["vz.wait_healthy"].__globals__
    sleep = names["time"].sleep
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names["time"], "sleep", lambda seconds: late() or sleep(0.01))
        good(apply(node, "vz.running"))
    assert len(asked) == 3


def test_what_was_gone_when_the_container_stopped_is_not_missed(node):
    """The second look, right before the stop: a call, a job, what somebody has ended."""
    stop = until(node, "vz.stopped")
    for name in ("udp", "tcp"):
        (node.folder / "proc/20101/net" / name).write_text("")
    good(stop())
    node.has(101, udp="", tcp="")
    assert "udp 0.0.0.0:5060" not in record(node)["containers"]["101"]["has"]
    until_running(node)
    good(apply(node, "vz.running"))


def test_what_came_after_the_first_look_is_not_missed(node):
    stop = until(node, "vz.stopped")
    (node.folder / "proc/20101/net/udp").write_text(table("udp", 5060, 53))
    good(stop())
    until_running(node)
    good(apply(node, "vz.running"))


def until_running(node):
    """The steps from the stop to the first start."""
    names = [name for name, _ in STEPS]
    for name, given in steps(node)[names.index("vz.stopped") + 1 : names.index("vz.running")]:
        good(apply(node, name, given))


def test_what_its_customer_ends_later_is_his(node):
    good(move(node))
    for name in ("udp", "tcp", "mountinfo"):
        file = node.folder / "proc/20101" / ("mountinfo" if name == "mountinfo" else f"net/{name}")
        file.write_text(file.read_text().splitlines()[0] + "\n")
    good(apply(node, "vz.running"))
    good(apply(node, "cloudstor.committed"))


def test_a_commit_by_hand_demands_it_too(node):
    failed(move(node, processes=""), "process poller")
    failed(apply(node, "cloudstor.committed"), "not committed", f"container 101 {LACKS}process poller")


def test_a_second_run_demands_it_again(node):
    failed(move(node, processes=""), "process poller")
    failed(apply(node, "vz.running"), "process poller")
    node.pillar["containers"]["may_lack"] = {"101": ["process poller"]}
    good(apply(node, "vz.running"))


# --- the dry run ------------------------------------------------------------------------------------------------------


def test_the_dry_run_says_what_is_written_down(node):
    fingerprinted = until(node, "ringfree_fingerprint.taken")
    dry = fingerprinted(test=True)
    assert dry["result"] is None and dry["comment"] == "What 3 containers have would be written down."
    assert not (node.folder / "var/fingerprints.json").exists()
    live = fingerprinted()
    assert good(live) == "What 3 containers have was written down."
    assert (
        dry["changes"] == live["changes"] == {"fingerprint": {"old": None, "new": "what 3 containers have"}}
    )
    again = fingerprinted()
    assert (again["changes"], good(again)) == ({}, "It is written down what 3 containers have.")


# --- what cannot be seen ----------------------------------------------------------------------------------------------


def test_a_container_that_cannot_be_seen_moves_with_a_note(node):
    (node.folder / "proc/vepid/101").unlink()
    note = (
        "What container 101 has cannot be seen from the node (its first process is not known to the node): after its "
        "start it is not compared with before."
    )
    assert note in node.minion().modules["ringfree_fingerprint.take"]([101, 102], test=True)["notes"]
    assert note in good(until(node, "ringfree_fingerprint.taken")())
    assert note in good(until(node, "vz.stopped")())
    node.has(101, **NOTHING)
    until_running(node)
    good(apply(node, "vz.running"))


def test_no_container_can_be_seen(node):
    for ctid in (101, 102, 104):
        (node.folder / f"proc/vepid/{ctid}").unlink()
    ret = until(node, "ringfree_fingerprint.taken")()
    assert ret["changes"] == {} and "What container 101, 102, 104 has cannot be seen" in good(ret)
    good(move(node, **NOTHING))


def test_a_kernel_of_openvz_names_the_first_processes(node):
    for ctid in (101, 102, 104):
        (node.folder / f"proc/vepid/{ctid}").unlink()
        status = f"Name:\tinit\nenvID:\t{ctid}\nVPid:\t1\n"
        (node.folder / f"proc/{20000 + ctid}/status").write_text(status)
    assert set(look(node)[101]["has"]) == {name.split(" (")[0] for name in THINGS}


@pytest.mark.parametrize("other", ["envID:\t102\n", "envID:\t0\n", ""])
def test_the_process_of_another_container_is_not_taken_for_it(node, other):
    """A number that vzctl has noted can be another process's by now."""
    (node.folder / "proc/vepid/101").write_text("20102\n")
    (node.folder / "proc/20102/status").write_text(f"Name:\tinit\n{other}")
    assert look(node)[101] == {"fault": "process 20102 is not its first one"}
    assert "fault" not in look(node)[104]


def look(node):
    return node.minion().modules["ringfree_fingerprint.look"]([101, 102, 104])


def test_h43_a_flood_in_one_container_keeps_nobody(node):
    """Nothing of that kind is compared, everything else is."""
    many = "".join(f"{n} 101 0:30 / /m/{n} rw - tmpfs none rw\n" for n in range(10000))
    flood = {"mountinfo": BIND + many, "tcp": table("tcp", 5038, *range(9000, 19000))}
    node.has(101, **flood)
    node.appear(101)
    seen = look(node)
    assert set(seen[101]["left_out"]) == {"mount", "tcp"}
    assert "udp 0.0.0.0:5060" in seen[101]["has"] and seen[104]["left_out"] == {}
    ret = until(node, "ringfree_fingerprint.taken")()
    assert "Of container 101 nothing of the kind 'mount' is compared after its start: there are" in good(ret)
    failed(move(node, **{**flood, "udp": ""}), f"container 101 {LACKS}udp 0.0.0.0:5060 (what")


def test_a_flood_after_the_start_is_no_loss(node):
    many = "".join(f"{n} 101 0:30 / /m/{n} rw - tmpfs none rw\n" for n in range(10000))
    good(move(node, mountinfo=many))


def test_h40_names_that_are_no_text_are_shown_and_compared(node):
    odd = "11 101 8:1 /srv/x /data/\x1b[31m\\012\udcff rw - ext4 /dev/sda1 rw\n"
    node.has(101, mountinfo="")
    with (node.folder / "has/101/mountinfo").open("w", errors="surrogateescape") as stream:
        stream.write(odd)
    file = node.folder / "proc/20101/mountinfo"
    file.write_bytes(file.read_bytes().splitlines()[0] + b"\n" + odd.encode("utf-8", "surrogateescape"))
    failed(move(node, mountinfo=""), "mount /data/\\x1b[31m\\n\\xff (ext4 /srv/x of device 8:1)")


def test_a_table_that_cannot_be_read_leaves_out_one_container(node):
    (node.folder / "proc/20101/mountinfo").write_text("nonsense\n")
    assert "fault" in look(node)[101] and "fault" not in look(node)[102]
    good(move(node))


def test_a_damaged_record_keeps_no_container_from_moving(node):
    until(node, "vz.running")
    (node.folder / "var/fingerprints.json").write_text('{"since": 1')
    node.has(101, **NOTHING)
    good(apply(node, "vz.running"))


# --- on the way back --------------------------------------------------------------------------------------------------


def committed(node):
    bring(node, len(STEPS))
    return node


def test_h38_the_way_back_names_what_is_lost_and_the_node_is_home(node):
    committed(node).has(101, mountinfo="", processes="")
    back = apply(node, "ringfree_rollback.rolled_back")
    failed(back, f"container 101 {LACKS}mount /var/spool/shared", "process poller")
    assert node.running() == [101, 102, 104]
    assert node.minion().modules["ringfree_journal.state"]() == "local"


def test_what_the_customer_ended_on_nfs_is_not_missed_at_home(node):
    committed(node)
    (node.folder / "proc/20101/net/udp").write_text("")
    node.has(101, udp="")
    good(apply(node, "ringfree_rollback.rolled_back"))


def test_the_next_migration_knows_nothing_of_the_last_one(node):
    committed(node)
    node.has(101, **NOTHING)
    failed(apply(node, "ringfree_rollback.rolled_back"), "process poller")
    for name, given in steps(node):
        good(apply(node, name, given))
