"""
The seal of small records: a first line that says that there is one, and a check sum in the last line.

Both are comments to whoever read such a record before there were seals::

    # format 2
    node=node001
    # check 3f1c0a9d5e7b2468

A record of an older version has neither.  What cannot be an older record and has no whole seal is damaged.
"""

import hashlib
import json
import math
import re

HEAD = b"# format 2\n"
CHECK = re.compile(rb"# check ([0-9a-f]{16})\n")


def check(data):
    """
    The check sum of some bytes, as the last line of a record has it.

    data
        Bytes.

    Returns text.
    """
    return hashlib.sha256(data).hexdigest()[:16]


def seal(body):
    """
    Seal a record.

    body
        Its lines, as bytes.

    Returns bytes.
    """
    data = HEAD + body
    return data + _line(data)


def _line(data):
    return f"# check {check(data)}\n".encode()


def unseal(data, added=False):
    """
    The lines of a record; those of an older version, without a seal, as they are.

    data
        Bytes.

    added : False
        Whether lines may have been added since it was sealed, each with a check sum in the line after it, or, by an
        older version, without one.

    Returns bytes.  Raises ValueError for a damaged record.
    """
    body, rest = b"", data
    if data.startswith(HEAD):
        found = CHECK.search(data)
        sealed = data[: found.start()] if found else b""
        if not found or found[0] != _line(sealed):
            raise ValueError("its check sum is missing or wrong")
        body, rest = sealed[len(HEAD) :], data[found.end() :]
    elif not added:
        return data
    elif not data:
        raise ValueError("it is empty")
    if rest and not added:
        raise ValueError("something follows its check sum")
    return body + _added(rest)


def _added(rest):
    """Lines that were added, without their check sums."""
    lines, before = [], None
    for line in rest.splitlines(keepends=True):
        if not line.startswith(b"# check "):
            lines.append(line)
            before = line
        elif before is None or line != _line(before):
            raise ValueError("the check sum of a line is wrong")
        else:
            before = None
    return b"".join(lines)


def dump_json(record):
    """
    A record of several kinds of values as the text of its file.

    record
        Dictionary.

    Returns bytes.
    """
    sealed = {**record, "check": check(_plain(record))}
    return json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _plain(record):
    """The same record is the same bytes; without spaces, which takes a tenth of the time."""
    return json.dumps(record, sort_keys=True).encode()


def load_json(data, keys):
    """
    Read such a record, or one of an older version, which has no check sum.

    data
        Bytes.

    keys
        The names of all its values.

    Returns the dictionary.  Raises ValueError for a damaged record.
    """
    try:
        record = json.loads(data, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is too deep") from error
    if not isinstance(record, dict):
        raise ValueError("it is no record")
    told = record.pop("check", None)
    if set(record) != set(keys):
        raise ValueError(f"it does not say {', '.join(keys)} and nothing else")
    if told is not None and told != check(_plain(record)):
        raise ValueError("its check sum is wrong")
    return record


def _finite(word):
    """A number that can be written again; JSON of Python also reads NaN, and 1e999 as infinity."""
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is no number")
    return number
