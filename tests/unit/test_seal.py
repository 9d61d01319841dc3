"""ringfree_seal: what was written is read; what is cut or has another bit is refused; older records are read."""

import json

import pytest
import ringfree_deadman as deadman
import ringfree_replica as replica
import ringfree_seal as seal
from damage import damages
from hypothesis import given
from hypothesis import strategies as st

LINES = st.lists(st.from_regex(r"[a-z]+=[0-9a-z]*", fullmatch=True)).map(
    lambda lines: "".join(f"{line}\n" for line in lines).encode()
)
RECORD = {"deadline": 1795350000.5, "on": ["nagios", "shinken"], "alarm": "x"}


@given(LINES)
def test_what_was_sealed_is_unsealed_and_an_older_record_is_read_as_it_is(body):
    assert seal.unseal(seal.seal(body)) == body
    assert seal.unseal(seal.seal(body), added=True) == body
    assert seal.unseal(body) == body
    if body:
        assert seal.unseal(body, added=True) == body
    else:
        with pytest.raises(ValueError, match="empty"):
            seal.unseal(body, added=True)


@pytest.mark.parametrize(
    "record",
    [
        replica.live("primary", 1795350000, [None], 1795340000),
        replica.marker("secondary", 17e8, 17e8, [101, 102]),
    ],
    ids=["live", "marker"],
)
def test_h27_a_record_of_a_san_that_is_cut_or_has_a_flipped_bit_is_refused(record):
    data = seal.seal(replica.dump(record))
    assert replica.load(seal.unseal(data)) == record
    for bad in damages(data):
        with pytest.raises(ValueError, match=r"check sum|damaged"):
            replica.load(seal.unseal(bad))
    older = replica.dump(record)
    assert replica.load(seal.unseal(older)) == record
    # Of the last line, which need not be there, a cut may leave nothing.
    for size in range(len(older) - (len("lost=1795340000\n") if "lost" in record else 0)):
        with pytest.raises(ValueError, match="damaged"):
            replica.load(seal.unseal(older[:size]))


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda key: key != "check"),
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.lists(st.integers()),
        ),
    )
)
def test_a_json_record_is_read_as_it_was_written(record):
    assert seal.load_json(seal.dump_json(record), record) == record
    assert seal.load_json(json.dumps(record).encode(), record) == record


@pytest.mark.parametrize(
    "record",
    [RECORD, deadman.record(1795350000.5, 1795340000.5, "systemd", "/var/cache/salt")],
    ids=["any", "deadman"],
)
def test_a_json_record_that_is_cut_or_has_a_flipped_bit_is_refused_or_means_the_same(record):
    """The line break at its end says nothing."""
    data = seal.dump_json(record)
    assert seal.load_json(data, record) == record
    same = 0
    for bad in damages(data):
        try:
            assert seal.load_json(bad, record) == record
            same += 1
        except ValueError:
            pass
    assert same < 5


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"7", b"{}", b"[" * 100000, b'{"a":' * 30000, b"9" * 5000, b"\xff", b'{"on": "x"}']
    + [
        b'{"deadline": %s, "on": [], "alarm": "x"}' % word
        for word in (b"NaN", b"-Infinity", b"1e999", b"9" * 5000)
    ],
)
def test_what_is_no_record_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        seal.load_json(data, RECORD)
