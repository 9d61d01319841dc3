"""Whatever is in the pillar, is typed, or is printed by a program: it is refused in words, or can be worked with."""

import contextlib
import copy
import json

import pytest
import ringfree_apart as apart
import ringfree_command as command
import ringfree_deadman as deadman
import ringfree_pillar as pillar
import ringfree_sync as sync
import ringfree_window as window
from hypothesis import given
from hypothesis import strategies as st
from mutated import mutated, read, texts, values

GOOD = {"nodes": ["node001", "node002"], "nfs": {"primary": "10.77.0.21", "secondary": "10.77.0.22"}}
UNKNOWN = ["unknown", 1, None, "\ud800", ("t", 1)]
STATISTICS = b"""Number of files: 3 (reg: 1)
Number of regular files transferred: 1,234
Number of deleted files: 5
Total file size: 12,345 bytes
Literal data: 99 bytes
"""
ITEMS = rb"""<f+++++++++ a
*deleting   b\#012c
.d..t...... ./
cL+++++++++ x -> y
"""
SERVICE = b"""ControlGroup=/system.slice/vz.service
Nice=0
UMask=0022
LimitNOFILE=1024
LimitNOFILESoft=1024
"""
MOMENTS = [
    *("04:30", "2026-02-27 04:30", "29:30", "2026-02-30 04:30", "0001-01-01 00:00", "9999-12-31 23:59"),
    "\u0660\u0664:\u0663\u0660",
]
RC = st.sampled_from([0, 1, 12, 23, 24, 255, None, -9])


@st.composite
def pillars(draw):
    """A pillar that was right, with a few values of any kind somewhere in it."""
    made = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        _spoil(draw, made, pillar.KEYS)
    return made


def _spoil(draw, made, keys):
    name = draw(st.sampled_from([*keys, *UNKNOWN]))
    rule = keys.get(name)
    if not isinstance(rule, dict) or draw(st.integers(0, 9)) == 0:
        made[name] = draw(values)
        return
    if not isinstance(made.get(name), dict):
        made[name] = {}
    _spoil(draw, made[name], rule)


@given(pillars() | values, st.sampled_from([None, "node001"]))
def test_any_pillar_is_refused_in_words_or_can_be_worked_with(made, node):
    checked = pillar.validate(made, node)
    for fault in checked["faults"]:
        assert command.printable(fault) == fault
    if not checked["faults"]:
        assert json.loads(json.dumps(checked["settings"], allow_nan=False)) == checked["settings"]
        pillar.store_paths(checked["settings"])
        deadman.pillar(checked["settings"])


@given(st.data(), st.sampled_from(sorted(pillar.TAKES)), pillars() | st.just(GOOD))
def test_any_words_that_are_typed_are_refused_in_words_or_are_right(data, sls, made):
    names = [*pillar.TAKES[sls], *UNKNOWN]
    given_words = data.draw(st.dictionaries(st.sampled_from(names), values, max_size=4))
    checked = pillar.typed(sls, {"ringfree": made, **given_words})
    for fault in checked["faults"]:
        assert command.printable(fault) == fault
    if not checked["faults"]:
        json.dumps(checked["words"], allow_nan=False)


@given(
    st.sampled_from([*pillar.WORDS, "nodes", "node", "before"]), values, st.sampled_from([None, ["node001"]])
)
def test_any_word_is_refused_in_words_or_is_right(name, value, nodes):
    checked = pillar.word(name, value, nodes)
    if checked["fault"]:
        assert command.printable(checked["fault"]) == checked["fault"]
    else:
        json.dumps(checked["value"], allow_nan=False)


@given(
    values | st.sampled_from(MOMENTS) | mutated([text.encode() for text in MOMENTS]),
    st.sampled_from(["", "22:00"]),
)
def test_any_deadline_is_refused_or_is_a_moment(text, start):
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    with contextlib.suppress(ValueError):
        assert window.next_time(text, 1.7e9) > 1.7e9
    with contextlib.suppress(ValueError):
        end = window.end({"start": start, "end": start and "04:00"}, text, 1.7e9)
        assert end is None or end > 1.7e9


@given(mutated([STATISTICS, ITEMS]), RC, st.booleans())
def test_any_output_of_rsync_is_read(data, rc, timed_out):
    result = command.run(["cat"], stdin=data.decode("utf-8", "surrogateescape"), count=sync.counting())
    assert all(number >= 0 for number in sync.statistics(result["out"]).values())
    found = sync.differences(result)
    assert found["count"] == len(found["lines"])
    said = {**result, "rc": rc, "timed_out": timed_out, "err": result["out"]}
    for running in (True, False):
        assert sync.verdict(said, running)["do"] in ("next", "again", "stop")
    assert command.describe(said).isprintable()


@given(st.text(st.characters(), max_size=50) | mutated([SERVICE]).map(read))
def test_any_service_is_read(shown):
    place = apart.of_service(shown)
    json.dumps(place)


@given(texts)
def test_any_line_of_ours_is_found(text):
    for line in apart.complaints(f"{text}\n{apart.MARK}{text}"):
        assert line.startswith(apart.MARK)


@pytest.mark.parametrize(
    "value",
    [10**4500, "\ud800", {1: 1, "a": 2}, [[[[]]]], float("nan")],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_of_every_key_are_named_and_refused(value):
    for name, rule in pillar.KEYS.items():
        found = pillar.validate(
            {**GOOD, name: {next(iter(rule)): value} if isinstance(rule, dict) else value}
        )
        assert found["faults"], name
        assert all(command.printable(fault) == fault for fault in found["faults"])
