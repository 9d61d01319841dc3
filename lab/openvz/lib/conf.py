"""Reading vz.conf and CTID.conf the way vzctl's own parser does, which is not the way a shell does.

One line is one assignment. A backslash takes the next character literally, anywhere on the line. The key is all before
the first "=", blanks included. A value that starts with a double quote runs to the last one on the line. The first of
several lines of a key usually wins. What cannot be understood is skipped with a warning, and the container then
inherits vz.conf's value. How each key's value is read is in values.py.
"""

import os
import time

import log
import text
import values

LINE_KEY_MAX = 512  # bytes of a key, its end included
EXPANDED_MAX = 512  # bytes of a path in which $VEID was replaced, its end included
GLOBAL_ONLY = ("LOCKDIR", "LOGFILE", "LOGGING", "LOG_LEVEL", "VERBOSE", "IPV6")


class Conf(dict):
    """Values by key. root and private are VE_ROOT and VE_PRIVATE with the container's id filled in."""

    @property
    def root(self):
        """The mount point of the container, None if not set."""
        return self.get("root")

    @property
    def private(self):
        """The private area of the container, None if not set."""
        return self.get("private")

    def override(self, other):
        """Let the values that another configuration sets win over ours."""
        for key, value in other.items():
            if key not in GLOBAL_ONLY and value not in (None, [], {}):
                self[key] = value


def unescape(line):
    """Drop each backslash and keep the character after it, whatever it is."""
    if "\\" not in line:
        return line
    out, rest = [], iter(line)
    for char in rest:
        out.append(next(rest, "") if char == "\\" else char)
    return "".join(out)


def split_line(line):
    """Return (key, value, problem): problem is a text for a bad line, all three are None for a line without content."""
    line = unescape(line).lstrip(text.SPACE)
    if not line or line[0] == "#":
        return None, None, None
    line = line.rstrip(text.SPACE)
    if "=" not in line:
        return None, None, "'=' not found"
    key, value = line.split("=", 1)
    if len(os.fsencode(key)) >= LINE_KEY_MAX:
        return None, None, "too long value"
    if value.startswith('"'):
        value, quote, _ = value[1:].rpartition('"')
        if not quote:
            return None, None, "unmatched quotes"
    return key, value, None


def read_chunks(data, size):
    """Yield what fgets() delivers with a buffer of size bytes, each cut at its first NUL."""
    pos = 0
    while pos < len(data) and size > 1:
        end = data.find(b"\n", pos, pos + size - 1)
        end = min(pos + size - 1, len(data)) if end == -1 else end + 1
        yield data[pos:end].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        pos = end


def expand_veid(path, ctid):
    """Fill in the first $VEID, else the first ${VEID}, and drop slashes at the end; None if that gets too long."""
    path = path.rstrip("/")
    for name in ("$VEID", "${VEID}"):
        if name in path:
            path = path.replace(name, str(ctid), 1)
            return path if len(os.fsencode(path)) < EXPANDED_MAX else None
    return path


def read_file(path):
    """Return (content, buffer size) of a configuration file; a directory reads as empty. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        data = b""
        while chunk := os.read(file, 1 << 20):
            data += chunk
    except IsADirectoryError:
        return b"", 0
    finally:
        os.close(file)
    return data, size


def parse(path, ctid):
    """Read a configuration file, with a warning for each line that is not understood.

    Returns a Conf, or None after printing why the file cannot be opened. The read buffer has exactly the size of the
    file: one line without a newline at its end loses its last byte, and a file of one byte is never finished.
    """
    try:
        data, size = read_file(path)
    except OSError as err:
        log.error(f"Unable to open {path}", err)
        return None
    while size == 1:
        time.sleep(60)  # the real one spins for ever
    conf = Conf()
    for number, line in enumerate(read_chunks(data, size), 1):
        key, value, problem = split_line(line)
        if problem:
            log.error(f"Warning: can't parse {path}:{number} ({problem}), skipping")
        elif key is not None:
            _take(conf, key, value, ctid, f"{path}:{number}")
    return conf


def _take(conf, key, value, ctid, where):
    status, shown = assign(conf, key, value, ctid)
    warning = {
        values.DUPLICATE: 'duplicate for {} ("{}"), ignored',
        values.INVALID: 'invalid value for {} ("{}"), skipped',
        values.TRUNCATED: 'too large value for {} ("{}"), truncated',
    }.get(status)
    if warning:
        log.error(f"Warning at {where}: " + warning.format(key, shown))
    elif status == values.UNKNOWN:
        log.say(1, f'Warning at {where}: unknown parameter {key} ("{value}"), ignored')


def assign(conf, key, value, ctid):
    """Put the value of a key into conf. Returns (status, the value as a warning would show it)."""
    status, shown = values.read(conf, key, value)
    if status is None and key in ("VE_ROOT", "VE_PRIVATE"):
        conf[{"VE_ROOT": "root", "VE_PRIVATE": "private"}[key]] = expand_veid(value, ctid)
    return status, shown
