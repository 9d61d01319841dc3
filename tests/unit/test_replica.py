"""ringfree_replica: which SAN is the live one, what may be copied to the other, and how old that copy is."""

import pytest
import ringfree_replica as replica
from hypothesis import given
from hypothesis import strategies as st

OWNER = {"store": "nfs", "since": "x", "generation": "3", "copied": "0"}


def record(san, generation, lost=None):
    return {"san": san, "generation": str(generation), "since": "1"} | ({"lost": lost} if lost else {})


def san(live=None, owners=None):
    """What a SAN says: containers 101 of node001 and 201 of node002 unless told otherwise."""
    known = {101: "node001", 201: "node002"} if owners is None else owners
    return {"owners": {ctid: {**OWNER, "node": node} for ctid, node in known.items()}, "live": live or {}}


def to_copy(here, there, overwrite=False):
    return replica.to_copy("primary", "secondary", here, there, overwrite)


# --- records --------------------------------------------------------------------------------------------------------


@given(
    at=st.sampled_from(replica.SANS),
    now=st.floats(0, 2**33),
    lost=st.one_of(st.none(), st.floats(0, 2**33)),
    generations=st.lists(st.one_of(st.none(), st.integers(1, 9999)), max_size=3),
)
def test_a_live_record_is_of_a_later_generation_than_all_that_are_known(at, now, lost, generations):
    before = [number and record("primary", number) for number in generations]
    made = replica.live(at, now, before, lost)
    assert replica.load(replica.dump(made)) == made
    assert int(made["generation"]) == 1 + max((number or 0 for number in generations), default=0)


@given(st.sampled_from(replica.SANS), st.integers(0, 2**33), st.sets(st.integers(1, 99999)))
def test_a_marker_can_be_written_and_read(of, moment, ctids):
    made = replica.marker(of, moment, moment + 7.5, ctids)
    assert replica.load(replica.dump(made)) == made
    assert replica.copied([made, made], of, sorted(ctids)) == {"at": moment, "missing": []}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 50,
        b"san=tertiary\ngeneration=1\nsince=1\n",
        b"san=primary\ngeneration=-1\nsince=1\n",
        b"san=primary\nsince=1\n",
        b"san=primary\ngeneration=1\nsince=1\nlost=yesterday\n",
        b"of=primary\nbegun=1\nended=2\n",
        b"of=primary\nbegun=1\nended=2\ncontainers=101,\n",
        b"of=primary\nsan=primary\nbegun=1\nended=2\ncontainers=101\ngeneration=1\nsince=1\n",
    ],
)
def test_a_damaged_record_is_no_record(data):
    with pytest.raises(ValueError, match="damaged"):
        replica.load(data)


# --- which one is live ----------------------------------------------------------------------------------------------


@given(st.permutations([record("secondary", 4), record("primary", 3)]))
def test_the_later_generation_is_right_whichever_san_says_it(both):
    assert replica.where(*both) == {"san": "secondary", "fault": None}


def test_h27_two_that_both_say_that_they_are_live_are_a_fault():
    found = replica.where(record("secondary", 4), record("primary", 4))
    assert found["san"] is None
    assert "both SANs say of themselves" in found["fault"]
    assert replica.where(None, None) == {"san": None, "fault": None}
    assert replica.where(None, record("primary", 1))["san"] == "primary"


def test_a_first_copy_takes_all_that_lives_on_the_share():
    here = san()
    here["owners"][301] = {**OWNER, "node": "node003", "store": "local"}
    found = to_copy(here, san(owners={}))
    assert (found["containers"], found["nodes"], found["faults"]) == ([101, 201], ["node001", "node002"], [])


def test_h02_what_lives_on_the_other_san_is_not_copied_over():
    """A node that has failed over by itself: only the containers of the others go along."""
    here = san({"node001": record("primary", 1), "node002": record("primary", 1)})
    there = san({"node001": record("secondary", 2), "node002": record("primary", 1)})
    found = to_copy(here, there)
    assert (found["containers"], found["nodes"]) == ([201], ["node002"])
    assert found["elsewhere"] == {"node001": "secondary"}


@pytest.mark.parametrize(
    ("mine", "other", "words"),
    [
        (record("primary", 2), record("secondary", 2), "both SANs say"),
        (record("primary", 1), record("primary", 2), "was primary restored"),
        (None, record("primary", 1), "was primary restored"),
    ],
)
def test_h02_contradictions_stop_the_copy(mine, other, words):
    here = san({"node001": mine} if mine else {})
    found = to_copy(here, san({"node001": other}))
    assert words in found["faults"][0]


def test_h02_a_newer_owner_record_on_the_target_stops_the_copy():
    there = san()
    there["owners"][201]["generation"] = "4"
    (fault,) = to_copy(san(), there)["faults"]
    assert fault.startswith("node002: ") and "containers 201 are newer on secondary" in fault


def test_a_san_that_died_is_copied_over_only_when_somebody_says_so():
    """What it holds that was written last is nowhere else; once it was copied over it is a copy like any other."""
    mine = record("primary", 2, lost="7")
    here, there = san({"node001": mine}), san({"node001": record("secondary", 1)})
    (fault,) = to_copy(here, there)["faults"]
    assert "Save what you need of it" in fault
    assert to_copy(here, there, overwrite=True)["faults"] == []
    assert to_copy(here, san({"node001": mine}))["faults"] == []


# --- age ------------------------------------------------------------------------------------------------------------


def test_the_copy_is_as_old_as_its_older_share_and_only_where_it_is_whole():
    young, older = replica.marker("primary", 200, 210, [101, 102]), replica.marker("primary", 100, 110, [101])
    assert replica.copied([young, older], "primary", [101]) == {"at": 100, "missing": []}
    assert replica.copied([young, older], "primary", [101, 102]) == {"at": None, "missing": [102]}
    assert replica.copied([young, None], "primary", [101])["at"] is None
    # Of no container there may be a copy, or none: a node that is just on its way has none there.
    assert replica.copied([None, None], "primary", []) == {"at": None, "missing": []}
    assert replica.copied([young, young], "secondary", [101])["at"] is None


def test_a_container_that_lives_on_a_san_is_no_copy_there_any_more():
    left = replica.without(replica.marker("primary", 1, 2, [101, 201]), [101])
    assert left["containers"] == "201"
    assert replica.load(replica.dump(replica.without(left, [201])))["containers"] == ""
    assert replica.without(None, [101]) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (119, "119 s"), (240, "4 min"), (7300, "2 h"), (900000, "10 days")]
)
def test_an_age_is_said_in_words(seconds, text):
    assert replica.old(seconds) == text


# --- the copy itself ------------------------------------------------------------------------------------------------


def test_h03_a_listing_tells_which_trees_are_whole():
    head = "drwxr-xr-x        4096 2026/02/26 02:10:00 "
    names = [
        "101",
        "101/etc",
        "101/bin",
        "102/etc",
        "103/usr",
        "104/etc",
        "104/sbin -> usr/sbin",
        "x/etc",
        "x/bin",
    ]
    assert replica.trees("\n".join(head + name for name in [*names, "105/root.hdd"])) == {101, 104, 105}


def test_h02_each_piece_is_copied_by_itself_and_nothing_beside_it():
    """The lab's tests hold this against the real rsync."""
    *trees, records, confs = replica.pieces([101, 102], ["node001"])
    assert [(tree["share"], tree["below"], tree["filters"], tree["delete"]) for tree in trees] == [
        ("private", "101", [], True),
        ("private", "102", [], True),
    ]
    assert (records["share"], records["below"], records["delete"]) == ("private", ".ringfree", False)
    assert records["filters"] == [
        "--include=/owner/",
        "--include=/owner/101",
        "--include=/owner/102",
        "--include=/live/",
        "--include=/live/node001",
        "--exclude=*",
    ]
    assert (confs["share"], confs["below"], confs["delete"]) == ("conf", "", False)
    assert confs["filters"] == [
        "--include=/101.*",
        "--include=/102.*",
        "--exclude=/[1-9]*.*",
        "--exclude=/.ringfree/",
    ]
    assert "--include=/live/" not in replica.pieces([101])[1]["filters"]


def test_differences_of_a_piece_are_named_as_those_of_the_share():
    lines = [".d..t...... ./", "<f.st...... etc/a b", "*deleting   etc/old"]
    assert replica.placed(lines, "101") == [
        ".d..t...... 101/",
        "<f.st...... 101/etc/a b",
        "*deleting   101/etc/old",
    ]
    assert replica.placed(["[4711 bytes are left out here]"], "101") == ["[4711 bytes are left out here]"]
    assert replica.placed(lines, "") == lines


def test_the_time_of_a_folder_that_all_nodes_write_to_is_no_difference():
    passing = [".d..t...... ./", ".d..t...... .ringfree/", ".d..t...... .ringfree/owner/"]
    passing += [".d..t...... .ringfree/live/"]
    counts = [".d..t...... 101/", ".d...p..... .ringfree/", "<f..t...... .ringfree/owner/101"]
    counts += ["*deleting   101/etc/old", "<f+++++++++ 101.conf"]
    found = {"count": len(passing + counts), "lines": [*passing, *counts]}
    assert replica.own(found) == {"count": len(counts), "lines": counts}
    assert replica.own({"count": 2, "lines": passing[:2]}) == {"count": 0, "lines": []}
    # Of a very long list only some lines are kept.
    assert replica.own({"count": 99999, "lines": [*passing, *counts]})["count"] == 99999 - len(passing)
