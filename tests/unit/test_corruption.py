"""Each record that decides: every cut and every flip of one bit is refused, and none ever has another meaning."""

import pytest
import ringfree_boot as boot
import ringfree_cleanup as cleanup
import ringfree_deadman as deadman
import ringfree_journal as journal
import ringfree_owner as owner
import ringfree_replica as replica
import ringfree_seal as seal
import ringfree_window as window
from damage import damages
from samples import CLEANUP, CONSENT, DEADMAN, JOURNAL, LIVE, MARKER, MEASURED, OWNER, TODO

LISTED = {101: "node001", 102: "node001"}


def listed(data):
    """A node's own list, as the module reads it."""
    lines = seal.unseal(data, added=True)
    fault = owner.list_fault(lines)
    if fault:
        raise ValueError(fault)
    return owner.load_list(lines), owner.load_void(lines)


def of_json(record, fault=lambda kept: None):
    """The file of a JSON record, and what reads it."""

    def load(data):
        kept = seal.load_json(data, record)
        if fault(kept):
            raise ValueError(fault(kept))
        return kept

    return seal.dump_json(record), load


#: Each with its file and what reads it.
RECORDS = {
    "journal": of_json(JOURNAL, journal.fault),
    "cleanup": of_json(CLEANUP, cleanup.fault),
    "consent": of_json(CONSENT),
    "dead man": of_json(DEADMAN, deadman.record_fault),
    "measured": of_json({"measured": MEASURED}, lambda kept: window.fault(kept["measured"])),
    "owner": (seal.seal(owner.dump(OWNER)), lambda data: owner.load(seal.unseal(data))),
    "live": (seal.seal(replica.dump(LIVE)), lambda data: replica.load(seal.unseal(data))),
    "marker": (seal.seal(replica.dump(MARKER)), lambda data: replica.load(seal.unseal(data))),
    "on-nfs": (seal.seal(owner.dump_list(LISTED, [103])), listed),
    "boot set": (seal.seal(boot.dump_set(**TODO)), lambda data: boot.load_set(seal.unseal(data))),
}


@pytest.mark.parametrize("name", RECORDS)
def test_h27_a_record_that_is_cut_or_has_a_flipped_bit_never_has_another_meaning(name):
    """Spaces of JSON may change, which mean nothing; every other damage is refused."""
    data, load = RECORDS[name]
    whole, same = load(data), 0
    for bad in damages(data):
        try:
            found = load(bad)
        except ValueError:
            continue
        assert found == whole, bad
        assert data.startswith(b"{"), "a record of lines has nothing that means nothing"
        same += 1
    assert same <= data.count(b"\n") * 8 + data.count(b" ") * 8


@pytest.mark.parametrize("name", RECORDS)
def test_what_follows_a_record_or_stands_before_it_is_damage(name):
    data, load = RECORDS[name]
    for bad in (data + data, data + b"\0", b"\0" + data, data[: len(data) // 2] + data, data + b"x"):
        with pytest.raises(ValueError, match=r"."):
            load(bad)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_zeros_or_of_nothing_is_damage(name):
    """What a file system leaves that lost its power."""
    data, load = RECORDS[name]
    for bad in (b"\0" * len(data), b"\0"):
        with pytest.raises(ValueError, match=r"."):
            load(bad)
    if name != "on-nfs":
        with pytest.raises(ValueError, match=r"."):
            load(b"")
