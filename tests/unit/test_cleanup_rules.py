"""ringfree_cleanup: H30, which local private areas may go, and the hands that take them away."""

import pytest
import ringfree_cleanup as cleanup
import ringfree_seal as seal
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
DAY = 86400
KEPT = "/vz/private/.ringfree-removed/20261124-231000/101"
AREA = {
    "kind": "private",
    "ctid": 101,
    "source": "/vz/private/101",
    "kept": KEPT,
    "inode": 7,
    "bytes": 1000,
    "files": 30,
    "state": "aside",
    "since": NOW,
}
OWNER = {"node": "node001", "store": "nfs", "since": "2026-02-26T02:10:00Z", "generation": "3", "copied": "1"}
GOOD = {
    "node": "node001",
    "state": "nfs",
    "moved": True,
    "committed": NOW - 20 * DAY,
    "owner": OWNER,
    "leads_to": "/vz/nfsprivate/101",
    "share": "/vz/nfsprivate/101",
    "running": True,
    "on_nfs": True,
    "there": True,
    "mounted": True,
}
PLACE = {
    "path": "/vz/private/101",
    "directory": True,
    "fstype": "ext4",
    "mount_point": False,
    "same_device": True,
    "mounts": [],
    "processes": [],
}


# --- what may go ------------------------------------------------------------------------------------------------------


def test_one_that_lives_on_the_share_may_go():
    assert cleanup.objections(GOOD, 14, NOW) == []
    assert cleanup.objections({**GOOD, "running": False, "on_nfs": False, "mounted": False}, 14, NOW) == []


#: What may be otherwise, one by one.
OTHERWISE = {
    "state": ["local", "in_flight"],
    "moved": [False],
    "committed": [None, NOW - 13.9 * DAY, NOW + DAY],
    "owner": [
        None,
        {**OWNER, "node": "node002"},
        {**OWNER, "store": "local"},
        {**OWNER, "since": "2027-01-14T00:00:00Z"},
    ],
    "leads_to": [None, "/vz/private/101", "/vz/nfsprivate/102"],
    "on_nfs": [False],
}


@pytest.mark.parametrize(
    "change", [{key: value} for key, values in OTHERWISE.items() for value in values], ids=str
)
def test_each_condition_alone_keeps_it(change):
    assert cleanup.objections({**GOOD, **change}, 14, NOW)


@given(
    st.fixed_dictionaries({key: st.sampled_from([GOOD[key], *values]) for key, values in OTHERWISE.items()}),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_it_goes_only_when_every_condition_holds(facts, running, there, mounted):
    facts = {**GOOD, **facts, "running": running, "there": there, "mounted": mounted}
    right = all(facts[key] == GOOD[key] for key in OTHERWISE if key != "on_nfs")
    right = right and (facts["on_nfs"] if running else there and not mounted)
    assert (cleanup.objections(facts, 14, NOW) == []) is right


@given(st.floats(0, 100), st.floats(0, 100))
def test_it_is_old_enough_when_it_is_that_old(age, days):
    facts = {**GOOD, "committed": NOW - age * DAY}
    if abs(age - days) > 0.001:
        assert (cleanup.objections(facts, days, NOW) == []) is (age > days)


@given(
    files=st.integers(0, 1000),
    missing=st.integers(0, 1000),
    present=st.integers(0, 100),
    newest=st.floats(0, 100),
    synced=st.one_of(st.none(), st.floats(0, 100)),
)
def test_a_copy_is_complete_when_it_was_and_still_has_most(files, missing, present, newest, synced):
    measured = {"files": files, "newest": newest, "newest_name": "x"}
    complete = (
        synced is not None and files > 0 and newest <= synced and (files - missing) * 100 >= present * files
    )
    assert (cleanup.incomplete(measured, synced, missing, present) == []) is complete


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/101"},
        {"directory": False},
        {"fstype": None},
        {"fstype": "nfs"},
        {"fstype": "fuse.nfs"},
        {"fstype": "cifs"},
        {"mount_point": True},
        {"same_device": False},
        {"mounts": ["it is mounted on /mnt"]},
        {"processes": ["process 1 uses it"]},
    ],
    ids=str,
)
def test_a_place_that_is_not_safe(change):
    assert cleanup.unsafe(PLACE) == []
    assert cleanup.unsafe({**PLACE, **change})


# --- the record -------------------------------------------------------------------------------------------------------


def load(data):
    """What the module makes of a record's file."""
    kept = seal.load_json(data, cleanup.new())
    fault = cleanup.fault(kept)
    if fault:
        raise ValueError(fault)
    return kept


def test_a_record_can_be_written_and_read():
    record = {"version": 1, "areas": [AREA, {**AREA, "kind": "replaced", "ctid": None}]}
    assert load(seal.dump_json(record)) == record
    assert cleanup.new() == {"version": 1, "areas": []}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "away"},
        {"inode": "7"},
        {"since": None},
        {"since": -1},
        {"since": 1e300},
        {"ctid": "101"},
        {"kept": None},
    ],
    ids=repr,
)
def test_an_area_of_another_kind_is_refused(change):
    with pytest.raises(ValueError, match="an area"):
        load(seal.dump_json({"version": 1, "areas": [{**AREA, **change}]}))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"version": 2, "areas": []}', b'{"version": 1}', b'{"version": 1, "areas": [1]}']
    + [b'{"version": 1, "areas": {}}', b"[" * 100000],
)
def test_a_damaged_record_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        load(data)


def test_an_area_that_is_back_leaves_the_record_and_one_that_is_gone_stays_in_it():
    record = {"version": 1, "areas": [AREA]}
    assert cleanup.changed(record, KEPT, None, NOW)["areas"] == []
    gone = cleanup.changed(record, KEPT, "deleted", NOW + 1)
    assert gone["areas"] == [{**AREA, "state": "deleted", "since": NOW + 1}]
    assert cleanup.changed(gone, KEPT, "aside", NOW + 2) == gone
    assert record["areas"] == [AREA]


inodes = st.one_of(st.none(), st.integers(6, 8))


@given(st.sampled_from(cleanup.STATES), inodes, inodes)
def test_the_truth_is_what_is_there(state, at_source, at_kept):
    area = {**AREA, "state": state}
    found = cleanup.truth(area, at_source, at_kept)
    if state in ("deleted", "lost"):
        assert found == state
    elif found == "aside":
        assert at_kept == 7 and state != "deleting"
    elif found is None:
        assert at_source == 7 and state != "deleting"
    elif found == "deleting":
        assert at_kept == 7 and state == "deleting"
    elif found == "deleted":
        assert state == "deleting" and at_kept is None and at_source != 7
    else:
        assert found == "lost" and at_kept != 7
    if found not in ("deleted", "lost") and found:
        assert cleanup.truth({**area, "state": found}, at_source, at_kept) == found


@pytest.mark.parametrize(
    "path",
    [
        "/vz/private/101",
        "/.ringfree-removed/20261124-231000/101",
        "/vz/private/.ringfree-removed/20261124-231000",
        "/vz/private/.ringfree-removed/20261124-231000/",
        "/vz/private/.ringfree-removed/20261124-231000/..",
        "/vz/private/.ringfree-removed/../101",
        "/vz/private/.ringfree-removed/x/101",
        "/vz/private/.ringfree-removed/20261124-231000/a/b",
        "vz/private/.ringfree-removed/20261124-231000/101",
        "/vz//private/.ringfree-removed/20261124-231000/101",
    ],
)
def test_only_a_place_in_a_dated_folder_is_one(path):
    assert cleanup.parts(KEPT) == ("/vz/private", "20261124-231000", "101")
    with pytest.raises(ValueError):
        cleanup.parts(path)


# --- consent ----------------------------------------------------------------------------------------------------------

ITEM = {"action": "move aside", "path": "/vz/private/101", "inode": 7, "bytes": 1000, "files": 30, "age": 5.0}
GIVEN = {"word": "7f3a-91c2", "nodes": ["node001", "node002"], "digest": "d", "until": NOW}


def test_a_digest_is_of_what_goes_and_not_of_its_age_or_order():
    other = {**ITEM, "path": "/vz/private/102"}
    assert cleanup.digest([ITEM, other]) == cleanup.digest([other, {**ITEM, "age": 6.0}])


@given(
    st.sampled_from(["action", "path", "inode", "bytes", "files"]),
    st.one_of(st.integers(0, 5), st.text(max_size=3)),
)
def test_anything_else_has_another_digest(key, value):
    assert cleanup.digest([{**ITEM, key: value}]) != cleanup.digest([ITEM])
    assert cleanup.digest([]) != cleanup.digest([ITEM]) != cleanup.digest([ITEM, ITEM])


def test_a_consent_counts_for_its_word_nodes_list_and_time():
    assert cleanup.consent_fault(GIVEN, "7f3a-91c2", NOW, ["node002", "node001"], "d") is None
    assert cleanup.consent_fault(GIVEN, "7f3a-91c2", NOW) is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((None, "7f3a-91c2", NOW), "not given"),
        ((GIVEN, None, NOW), "nobody"),
        ((GIVEN, "", NOW), "nobody"),
        ((GIVEN, "7f3a-91c3", NOW), "not given"),
        ((GIVEN, 7, NOW), "not given"),
        ((GIVEN, "7f3a-91c2", NOW + 1), "expired"),
        ((GIVEN, "7f3a-91c2", NOW, ["node001"]), "for node001, node002"),
        ((GIVEN, "7f3a-91c2", NOW, ["node001", "node002"], "e"), "what would be removed"),
    ],
)
def test_a_consent_that_does_not_count(arguments, why):
    assert why in cleanup.consent_fault(*arguments)
