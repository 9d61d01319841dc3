"""Inputs for parsers, as Hypothesis makes them up: what was right once and was changed, and values of any kind."""

import datetime

from hypothesis import strategies as st

#: What parsers stumble over: ends of lines, quotes, shell, numbers, depth, bytes that are no text.
TOKENS = [
    *(
        b"\n",
        b"\r\n",
        b"\0",
        b'"',
        b"'",
        b"\\",
        b"=",
        b"+=",
        b"#",
        b" ",
        b"\t",
        b",",
        b";",
        b"|",
        b" - ",
        b"/" * 30,
        b"..",
    ),
    *(b"$VEID", b"${VEID}", b"`x`", b"$(x)", b"export ", b"\\040", b"\\777"),
    *(b"\xff", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1b[2J", b"\xef\xbb\xbf", b"\xd9\xa3"),
    *(
        b"9" * 5000,
        b"-1",
        b"1e999",
        b"NaN",
        b"Infinity",
        b"null",
        b"true",
        b"[" * 50,
        b"[" * 100000,
        b'{"a":' * 3000,
    ),
    *(
        b"VE_PRIVATE=",
        b'VE_ROOT="/a"',
        b"IP_ADDRESS=",
        b"1.2.3.4/99999999999",
        b"unlimited",
        b"LOG_LEVEL=",
        b"QUOTATIME=",
    ),
    *(b"# ringfree: mounts of the SAN", b"# ringfree: end\n", b"simfs", b"nfs", b"local", b"101"),
    *(b"since=", b"generation=", b"9999-99-99T99:99:99Z", b"# format 2\n", b"# check "),
]
TEXTS = [
    *("", "x", "/", "..", "/etc", "/a/../b", "/rf-images/pbx", "{node}", "/{node}", "a" * 70000),
    *("node001", "10.77.0.21", "primary", "yes", "hard,soft", "04:30", "auto", "discard", "asterisk", "acl"),
    *("a\nb", "\x1b[2J", "\ud800", "\u2028", "\uff11\uff12", "\u0663"),
    *("{{ 7*7 }}", "$(reboot)", "`id`", "ssh-ed25519 AAAA", "(", "(a+)+$"),
]
NUMBERS = [0, 1, -1, 22, 65535, 65536, 2**31, 2**63, 2**70, 270, 0.0, -0.5, 1.5, 1e308]
NUMBERS += map(float, ("inf", "-inf", "nan"))
#: It has more digits than Python writes down; made only when it is needed, as whoever shows it fails.
HUGE = st.builds(lambda: 10**4500)
OBJECTS = [
    b"x",
    datetime.date(2026, 1, 1),
    datetime.datetime(2026, 1, 1),
    frozenset({1, 2}),
    (1, 2),
    3j,
    range(3),
]
KEYS = ["exec", "expect", "port", "send", "x", 1, None, True, 1.5, (1, 2), "\ud800", "a: b", "node001", b"k"]

texts = st.sampled_from(TEXTS) | st.text(st.characters(), max_size=8)
#: Anything that a pillar may hold, also by way of Python.
values = st.recursive(
    texts | st.sampled_from(NUMBERS) | HUGE | st.booleans() | st.none() | st.sampled_from(OBJECTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw, wholes):
    """One of some inputs that are right, changed in a few places."""
    data = draw(st.sampled_from(wholes))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3, 8)))):
        data = _changed(draw, data)
    return data


def _changed(draw, data):
    at = draw(st.integers(0, len(data)))
    kind = draw(st.sampled_from(("byte", "bit", "gone", "token", "bytes", "again", "cut")))
    if kind in ("byte", "bit") and at < len(data):
        new = draw(st.integers(0, 255)) if kind == "byte" else data[at] ^ 1 << draw(st.integers(0, 7))
        return data[:at] + bytes([new]) + data[at + 1 :]
    if kind == "gone":
        return data[:at] + data[at + draw(st.integers(1, 8)) :]
    if kind == "token":
        return data[:at] + draw(st.sampled_from(TOKENS)) + data[at:]
    if kind == "again":
        other = draw(st.integers(0, len(data)))
        return data[:at] + data[min(at, other) : max(at, other)][:400] + data[at:]
    if kind == "cut":
        return data[:at]
    return data[:at] + draw(st.binary(max_size=5)) + data[at:]


def read(data):
    """Bytes as the project reads files of others."""
    return data.decode("utf-8", "surrogateescape")
