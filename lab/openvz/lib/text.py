"""C library habits that show in what vzctl accepts and prints: isspace(), strtol(), error texts, unbuffered output.

Text is str with surrogate escapes, so that any byte of a file or an argument survives the way to the output.
"""

import os

SPACE = " \t\n\v\f\r"
LONG_MAX = (1 << 63) - 1
INT_MAX = (1 << 31) - 1


def write(fd, text):
    """Write text to a file descriptor; a reader that went away is not an error (SIGPIPE is ignored)."""
    data = os.fsencode(text)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass


def strtol(text):
    """Return (value, rest) as strtol(text, &rest, 10) does; without digits the value is 0 and rest is text."""
    pos = len(text) - len(text.lstrip(SPACE))
    negative = text[pos : pos + 1] == "-"
    if text[pos : pos + 1] in ("-", "+"):
        pos += 1
    end = pos
    while end < len(text) and text[end] in "0123456789":
        end += 1
    if end == pos:
        return 0, text
    value = int(text[pos:end])
    return -value if negative else value, text[end:]


def parse_int(text):
    """Return the int that the whole text spells, None if it does not spell one that fits; "" is 0."""
    value, rest = strtol(text)
    if rest or not -INT_MAX - 1 <= value <= INT_MAX:
        return None
    return value


def parse_ulong(text):
    """Return a number of 0..LONG_MAX, "unlimited" being the last; None if the text is no such number."""
    if text == "unlimited":
        return LONG_MAX
    value, rest = strtol(text)
    if rest or not 0 <= value <= LONG_MAX:
        return None
    return value


def leading_int(text):
    """Return (int, rest) as sscanf("%d") reads it, (None, text) if there is no number at the start."""
    value, rest = strtol(text)
    if len(rest) == len(text):
        return None, text
    return value, rest
