"""
The time that a migration has: its window, its deadline, and what its parts take.

Moments are seconds since the epoch; times of day are those of the master's clock.
"""

import re
import time

TIME = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)$")
MOMENT = re.compile(r"^\d{4}-\d\d-\d\d [0-2]\d:[0-5]\d$")
LONGEST = 1 << 32  # seconds, or containers, that no part has
KEPT = 10  # measurements of a part that count; older ones are of another fleet, or another network


def next_time(text, now):
    """
    When a time of day, or a moment, comes next.

    text
        ``HH:MM`` or ``YYYY-MM-DD HH:MM``.

    now
        The moment from which on.

    Returns the moment.  Raises ValueError for anything else, and for a moment that has passed.
    """
    text = str(text).strip()
    if MOMENT.match(text):
        try:
            at = time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text} is no day of the calendar") from error
        if at <= now:
            raise ValueError(f"{text} has passed")
        return at
    found = TIME.match(text)
    if not found:
        raise ValueError(f"'{text}' is no time such as 04:30 and no moment such as '2026-02-27 04:30'")
    day = time.localtime(now)
    for days in (0, 1):
        # mktime makes a good date of the 32nd, and knows on which days an hour is missing.
        at = time.mktime(
            (day.tm_year, day.tm_mon, day.tm_mday + days, int(found[1]), int(found[2]), 0, 0, 0, -1)
        )
        if at > now:
            return at
    return at


def end(window, deadline, now):
    """
    When a run that begins now has to be over.

    window
        ``{"start": "HH:MM" or "", "end": "HH:MM" or ""}`` of the pillar; empty for no window.

    deadline
        ``HH:MM``, ``YYYY-MM-DD HH:MM`` or ``None``: what was said for this run.

    now
        The moment at which it begins.

    Returns the moment, or ``None`` when there is all the time in the world.  Raises ValueError outside the window.
    """
    ends = [next_time(deadline, now)] if deadline else []
    if window["end"]:
        close = next_time(window["end"], now)
        if close < next_time(window["start"], now):
            ends.append(close)
        else:
            raise ValueError(
                f"it is {clock(now)[:5]}, outside the window from {window['start']} to {window['end']} "
                f"(ringfree:window)"
            )
    return min(ends, default=None)


def clock(moment):
    """
    A moment as the time of day.

    moment
        The moment.

    Returns ``HH:MM:SS``.
    """
    return time.strftime("%H:%M:%S", time.localtime(moment))


def note(measured, part, seconds, containers):
    """
    Add what a part took to what was measured before.

    measured
        Dictionary: part to ``[[seconds, containers], ...]``.

    part
        The part of a node's migration.

    seconds
        What it took.

    containers
        How many containers it moved.

    Returns the new dictionary.
    """
    kept = [*measured.get(part, []), [seconds, containers]][-KEPT:]
    return {**measured, part: kept}


def fault(measured):
    """
    What keeps a dictionary from being measurements.

    measured
        The dictionary, or whatever was read in its place.

    Returns text, or ``None``.
    """
    if not isinstance(measured, dict):
        return "it is no dictionary"
    for part, taken in measured.items():
        if not isinstance(taken, list) or not all(map(_is_taken, taken)):
            return f"what it says of {part!a} is of the wrong kind"
    return None


def _is_taken(entry):
    """Seconds and containers."""
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    return all(type(value) in (int, float) and 0 <= value < LONGEST for value in entry)


def need(measured, parts, containers, reserve):
    """
    What the parts that are left take, and after them the way back from the cutover.

    The slowest of the last measurements counts, scaled to the number of containers where that is larger. The way back
    stops and starts what the cutover stopped and started, so it is taken to last as long.

    measured
        Dictionary: part to ``[[seconds, containers], ...]``.

    parts
        The parts that are left, in order, the cutover the last of them.

    containers
        How many containers the node has to move.

    reserve
        Seconds that stand for all of it as long as not every part was measured.

    Returns seconds.
    """
    wanted = [*parts, "cutover"]
    if not all(measured.get(part) for part in wanted):
        return reserve
    return sum(
        max(seconds * max(1, containers / max(1, number)) for seconds, number in measured[part])
        for part in wanted
    )
