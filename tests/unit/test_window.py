"""ringfree_window: when a run has to be over, and whether there is time."""

import time

import pytest
import ringfree_window as window
from hypothesis import given
from hypothesis import strategies as st

NIGHT = {"start": "22:00", "end": "06:00"}
DAY = {"start": "09:00", "end": "17:00"}
NONE = {"start": "", "end": ""}
TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda pair: f"{pair[0]:02}:{pair[1]:02}")
#: Two years of moments, with every change of summer time.
MOMENTS = st.integers(1_770_000_000, 1_835_000_000)


def at(text, day="2026-02-26"):
    return time.mktime(time.strptime(f"{day} {text}", "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    ("now", "text", "then"),
    [
        (at("23:00"), "04:30", at("04:30", "2026-02-27")),
        (at("01:00"), "04:30", at("04:30")),
        (at("04:30"), "04:30", at("04:30", "2026-02-27")),
        (at("23:00", "2026-12-31"), "04:30", at("04:30", "2027-01-01")),
        (at("23:00"), "2026-02-28 01:15", at("01:15", "2026-02-28")),
    ],
)
def test_a_time_is_the_next_one(now, text, then):
    assert window.next_time(text, now) == then


@pytest.mark.parametrize(
    "text", ["4:30", "24:00", "12:60", "soon", "", "04:30:00", "2026-02-30 04:00", None, 430]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        window.next_time(text, at("23:00"))


def test_a_moment_that_has_passed_is_refused():
    with pytest.raises(ValueError, match="2026-02-25 04:30 has passed"):
        window.next_time("2026-02-25 04:30", at("23:00"))


def test_a_moment_of_no_day_is_refused():
    with pytest.raises(ValueError, match="2026-02-30 04:30 is no day of the calendar"):
        window.next_time("2026-02-30 04:30", at("23:00"))


@given(text=TIMES, now=MOMENTS)
def test_any_time_comes_within_a_day_and_reads_as_it_was_said(text, now):
    then = window.next_time(text, now)
    assert now < then <= now + 25 * 3600 + 60
    if time.localtime(now).tm_isdst == time.localtime(then).tm_isdst:
        assert window.clock(then) == f"{text}:00"


@pytest.mark.parametrize(
    ("open_", "now", "then"),
    [
        (NIGHT, at("22:00"), at("06:00", "2026-02-27")),
        (NIGHT, at("05:59"), at("06:00")),
        (DAY, at("09:00"), at("17:00")),
        (NONE, at("12:00"), None),
    ],
)
def test_a_window_ends_the_run(open_, now, then):
    assert window.end(open_, None, now) == then


@pytest.mark.parametrize(
    ("open_", "now"), [(NIGHT, at("06:00")), (NIGHT, at("21:59")), (DAY, at("17:00")), (DAY, at("08:59"))]
)
def test_h20_outside_the_window_nothing_begins(open_, now):
    with pytest.raises(ValueError, match=r"outside the window from .* \(ringfree:window\)"):
        window.end(open_, None, now)


@given(start=TIMES, close=TIMES, now=MOMENTS)
def test_any_moment_is_inside_a_window_or_inside_the_rest_of_the_day(start, close, now):
    if start == close:
        return
    sides = []
    for open_ in ({"start": start, "end": close}, {"start": close, "end": start}):
        try:
            sides.append(window.end(open_, None, now) > now)
        except ValueError:
            sides.append(False)
    assert sorted(sides) == [False, True]


def test_the_earlier_of_deadline_and_window_counts():
    assert window.end(NIGHT, "04:30", at("23:00")) == at("04:30", "2026-02-27")
    assert window.end(NIGHT, "07:30", at("23:00")) == at("06:00", "2026-02-27")
    assert window.end(NONE, "04:30", at("23:00")) == at("04:30", "2026-02-27")


PARTS = ("packages", "prepare", "cutover")


def test_h20_as_long_as_a_part_was_not_measured_the_reserve_stands_for_all():
    measured = window.note(window.note({}, "prepare", 10, 5), "packages", 1, 5)
    assert window.need(measured, PARTS, 5, 3600) == 3600
    assert window.need(window.note(measured, "cutover", 100, 5), PARTS, 5, 3600) == 10 + 100 + 1 + 100


@given(
    seconds=st.lists(st.floats(0, 10_000), min_size=1, max_size=15),
    containers=st.integers(1, 500),
    number=st.integers(0, 500),
)
def test_the_slowest_counts_and_more_containers_take_no_less(seconds, containers, number):
    measured = {}
    for one in seconds:
        measured = window.note(measured, "cutover", one, number)
    assert len(measured["cutover"]) <= window.KEPT
    wanted = window.need(measured, ["cutover"], containers, 0)
    assert wanted >= 2 * max(seconds[-window.KEPT :])
    assert window.need(measured, ["cutover"], containers + 1, 0) >= wanted


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["presync", "cutover"]), inner, max_size=3)
        ),
    )
)
def test_what_was_measured_can_be_counted_with_or_is_refused(measured):
    if window.fault(measured) is None:
        assert 0 <= window.need(measured, ["presync"], 5, 3600) < 1e300
        assert window.fault(window.note(measured, "presync", 1.5, 5)) is None


@pytest.mark.parametrize(
    "entry", [[1], [1, 2, 3], [True, 1], [1, None], [float("nan"), 1], [-1, 1], "12", [1e300, 1]]
)
def test_a_measurement_that_is_none_is_a_fault(entry):
    assert window.fault({"presync": [[1, 2]]}) is None
    assert "presync" in window.fault({"presync": [[1, 2], entry]})
