"""Whatever stands in our own records: parsers raise what they say, and what they read can be worked with."""

import contextlib
import functools
import json
import tempfile
import time
from pathlib import Path

import ringfree_archive as archive
import ringfree_boot as boot
import ringfree_cleanup as cleanup
import ringfree_deadman as deadman
import ringfree_journal as journal
import ringfree_owner as owner
import ringfree_replica as replica
import ringfree_seal as seal
import ringfree_window as window
from hypothesis import given
from hypothesis import strategies as st
from mutated import mutated, values
from samples import AREA, CLEANUP, DEADMAN, JOURNAL, LIVE, MARKER, MEASURED, OWNER, TODO


def plain(record):
    """A record as a version without seals wrote it: what is changed in it is not found by a check sum."""
    return json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"


def both(lines):
    """A record of lines with and without its seal."""
    return [lines, seal.seal(lines)]


def loaded(data, keys, fault):
    """A JSON record that is whole, or None."""
    try:
        record = seal.load_json(data, keys)
    except ValueError:
        return None
    return record if fault(record) is None else None


@given(mutated([plain(JOURNAL), seal.dump_json(JOURNAL), plain(journal.new("n", 1))]))
def test_any_journal_is_refused_or_can_be_worked_with(data):
    kept = loaded(data, journal.keys(), journal.fault)
    if not kept:
        return
    journal.reached(kept, "stop", "verified", 101)
    again = journal.begin(journal.mark(kept, "stop", "done", 5.0, 101, "x"), 5.0)
    journal.settle(again, "nfs", 5.0)
    seal.dump_json(kept)
    assert isinstance(deadman.told(kept["facts"].get("deadman"), kept["state"], 1.7e9), str)
    for steps in kept["containers"].values():
        stop, start = steps.get("stop", {}), steps.get("start", {})
        if "verified" in start and "intent" in stop:
            f"{start['verified'] - stop['intent']:.1f}"
    time.localtime(kept["since"])


@given(values)
def test_any_fact_of_the_dead_man_is_told_or_not(fact):
    assert isinstance(deadman.told(fact, "in_flight", 1.7e9), str)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("fired", "deadline", "ok", "not_done"), values)))
def test_any_fact_of_the_dead_man_with_its_keys_is_told_or_not(fact):
    for state in ("local", "in_flight", "nfs"):
        assert isinstance(deadman.told(fact, state, 1.7e9), str)


@given(mutated(both(owner.dump(OWNER))))
def test_any_owner_record_is_refused_or_can_be_worked_with(data):
    try:
        kept = owner.load(seal.unseal(data))
    except ValueError:
        return
    assert owner.record("n", "nfs", 17e8, kept)
    owner.objection(kept, "node001")
    facts = {
        "node": kept["node"],
        "state": "nfs",
        "moved": True,
        "committed": 1.0,
        "owner": kept,
        "share": "a",
    }
    facts |= {"leads_to": "a", "running": True, "on_nfs": True, "there": True, "mounted": True}
    cleanup.objections(facts, 14, 1.7e9)
    assert owner.load(owner.dump(kept)) == kept
    assert int(kept["copied"]) >= 0


@given(mutated(both(b"101 node001\n102 -\n103 node-x.example.com\n")))
def test_any_list_of_containers_is_refused_or_read(data):
    with contextlib.suppress(ValueError):
        lines = seal.unseal(data, added=True)
        owner.list_fault(lines)
        # Also of a damaged one, what can be read is.
    assert all(0 < ctid < 10**10 for ctid in [*owner.load_list(data), *owner.load_void(data)])


@given(mutated(both(replica.dump(LIVE)) + both(replica.dump(MARKER))))
def test_any_record_of_a_replica_is_refused_or_can_be_worked_with(data):
    try:
        kept = replica.load(seal.unseal(data))
    except ValueError:
        return
    if "san" in kept:
        replica.where(kept, None)
        replica.live("primary", 1.7e9, [kept])
    else:
        replica.copied([kept, kept], "primary", [101])
        replica.without(kept, [101])


TREES = b"drwxr-xr-x 4,096 2026/01/01 00:00:00 101\ndrwxr-xr-x 4,096 2026/01/01 00:00:00 101/etc\n"
TREES += b"lrwxrwxrwx 4 2026/01/01 00:00:00 101/bin -> usr/bin\n"


@given(mutated([TREES]))
def test_any_listing_of_trees_is_read(data):
    assert all(0 < ctid < 10**10 for ctid in replica.trees(data.decode("utf-8", "backslashreplace")))


@given(mutated([plain(CLEANUP), seal.dump_json(CLEANUP), b"{}"]))
def test_any_record_of_a_cleanup_is_refused_or_can_be_worked_with(data):
    kept = loaded(data, cleanup.new(), cleanup.fault)
    for area in kept["areas"] if kept else ():
        cleanup.truth(area, 1, None)
        with contextlib.suppress(ValueError):
            cleanup.parts(area["kept"])
        time.localtime(area["since"])
        cleanup.changed(kept, area["kept"], "aside", 1.0)


@given(values)
def test_any_area_is_refused_or_can_be_worked_with(value):
    for key in AREA:
        record = {"version": 1, "areas": [{**AREA, key: value}]}
        if cleanup.fault(record) is None:
            cleanup.truth(record["areas"][0], 1, None)
            time.localtime(record["areas"][0]["since"])


@given(mutated(both(boot.dump_set(**TODO)) + [b"todo\n", b""]))
def test_any_list_of_containers_that_wait_is_refused_or_read(data):
    with contextlib.suppress(ValueError):
        boot.load_set(seal.unseal(data))


@given(mutated([plain(DEADMAN), seal.dump_json(DEADMAN)]))
def test_any_record_of_the_dead_man_is_refused_or_can_be_worked_with(data):
    kept = loaded(data, DEADMAN, deadman.record_fault)
    if kept:
        assert deadman.clock(kept["deadline"], 1.7e9)
        assert deadman.clock(kept["since"], 1.7e9)


@given(mutated([plain({"measured": MEASURED}), seal.dump_json({"measured": MEASURED})]))
def test_any_measurements_are_refused_or_can_be_counted_with(data):
    kept = loaded(data, ["measured"], lambda record: window.fault(record["measured"]))
    if kept:
        assert window.need(kept["measured"], ["presync"], 5, 3600) >= 0
        window.note(kept["measured"], "presync", 5.0, 2)


@given(values)
def test_any_measurements_in_python_are_refused_or_can_be_counted_with(value):
    for measured in (
        value,
        {"presync": value, "cutover": value},
        {"presync": [value], "cutover": [[value, value]]},
    ):
        if window.fault(measured) is None:
            window.need(measured, ["presync"], 5, 3600)


@functools.cache
def packed():
    """An archive as a snapshot is one; made once, as it has the time of day in it."""
    with tempfile.TemporaryDirectory() as folder:
        (confs := Path(folder, "confs")).mkdir()
        (confs / "101.conf").write_bytes(b'VE_PRIVATE="/vz/private/$VEID"\n')
        (confs / "vps.mount").write_bytes(b"#!/bin/sh\n" * 300)
        (confs / "l.conf").symlink_to("101.conf")
        archive.pack(str(confs), f"{folder}/tgz")
        return Path(folder, "tgz").read_bytes()


@given(data=st.data())
def test_any_archive_is_refused_or_read(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.tgz"
    path.write_bytes(data.draw(mutated([packed()])))
    try:
        found = archive.unpack(str(path))
    except ValueError:
        return
    assert set(found) == {"101.conf", "vps.mount", "l.conf"}, "gzip has a check sum of its own"
