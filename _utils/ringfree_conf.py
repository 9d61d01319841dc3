"""
Read and write vz.conf and CTID.conf so that vzctl and a shell agree on them.

Two programs read these files and they do not read alike. vzctl has its own line parser: no shell quoting, the
first assignment of a key wins, an unreadable line is skipped and the container silently falls back to
vz.conf. The init script, vzmigrate and the action scripts source the same files with a shell, where the last
assignment wins. This module knows both readings, says where a file means two things, and changes a setting
only where it means one.

Files are bytes, because a conf may hold any bytes. Keys and values are ``str``, decoded as UTF-8 with
``surrogateescape``: what ``os.fsdecode`` does, so that a path read here names the right file whatever its
bytes.

The parser follows vzctl 4.11.1 (``parse_line``, ``vps_parse_config`` and ``subst_VEID``).
"""

from __future__ import annotations

import functools
import re
import socket
import typing
from typing import Any

MIGRATION_KEYS = (
    "VE_ROOT",
    "VE_PRIVATE",
    "VE_LAYOUT",
    "DISK_QUOTA",
    "DISABLED",
    "ONBOOT",
    "NAME",
    "BOOTORDER",
    "DUMPDIR",
    "LOCKDIR",
)
"""The keys that decide where a container lives and whether it starts."""

WRITTEN_KEYS = ("VE_ROOT", "VE_PRIVATE", "VE_LAYOUT", "DISK_QUOTA", "DISABLED")
"""Those of them that a migration writes; how the others are read stays as it is, so that nothing comes of it."""

ANY_KEY = "*"
"""The ``key`` of an ambiguity that concerns the file as a whole."""

_PATH_KEYS = ("VE_ROOT", "VE_PRIVATE")  # the only two in which vzctl expands $VEID
_YES_NO_KEYS = ("ONBOOT", "DISABLED", "DISK_QUOTA", "LOGGING", "IPV6")
_NUMBER_KEYS = ("BOOTORDER", "QUOTATIME", "QUOTAUGIDLIMIT")
_INTEGER_KEYS = ("LOG_LEVEL", "VEID")
_FIRST_INTEGER_KEYS = ("VERBOSE",)
_NAMELESS_KEY = ""  # to vzctl this is its option --ipdel, in a file as well
_LIST_KEYS = ("NAMESERVER", "SEARCHDOMAIN", "FEATURES")
_TEXT_KEYS = (
    "LOCKDIR",
    "DUMPDIR",
    "LOGFILE",
    "TEMPLATE",
    "OSTEMPLATE",
    "DEF_OSTEMPLATE",
    "HOSTNAME",
    "DESCRIPTION",
    "CONFIGFILE",
    "ORIGIN_SAMPLE",
)

_BLANKS = b" \t\n\v\f\r"  # isspace() in the C locale
_LONGEST_KEY = 511
_LONGEST_EXPANDED_PATH = 511
_LONGEST_SAVED_LINE = 16383  # `vzctl set --save` reads into 16384 bytes, one of them for the NUL
_LARGEST_CTID = 2147483644
_LONG_MAX = 2**63 - 1
_ULONG_MAX = 2**64 - 1
_BOM = b"\xef\xbb\xbf"


_AS_SAVED = re.compile(rb'(?:#.*|([A-Za-z0-9_]{1,511})="([^"\\\0]*)")?')  # most lines; read quickly

# --- what vzctl reads -----------------------------------------------------------------------------


class _Line(typing.NamedTuple):
    """One line as vzctl's parser sees it; ``key`` is None for a line without an assignment."""

    number: int
    text: bytes
    key: bytes | None
    value: bytes
    error: str


def parse(data: bytes) -> dict[str, Any]:
    """
    What vzctl reads in a vz.conf or CTID.conf.

    Args:
        data: the bytes of the file.

    Returns:
        ``{"values": {KEY: text}, "warnings": [{"line": number, "text": what vzctl says}]}``. A value is as
        written: ``$VEID`` is not expanded (see :func:`expand`). Values that vzctl refuses are left out and
        warned about, for the keys that this project deals with; all other keys are taken as text, the first
        assignment of each. The texts of warnings are vzctl's own without its ``FILE:LINE``.

    Raises:
        ValueError: if the file is one byte long. vzctl itself never comes back from such a file.
    """
    values, warnings = _parsed(data)
    return {"values": dict(values), "warnings": [dict(warning) for warning in warnings]}


@functools.lru_cache(maxsize=16)  # one change looks at the same few contents again and again
def _parsed(data: bytes) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Values and warnings of a file."""
    values: dict[str, str] = {}
    warnings: list[dict[str, Any]] = []
    for line in _vzctl_lines(data):
        if line.error:
            warnings.append({"line": line.number, "text": f"can't parse ({line.error}), skipping"})
        if line.key is None:
            continue
        problem = _take(values, _text(line.key), _text(line.value))
        if problem:
            warnings.append({"line": line.number, "text": problem})
    return values, warnings


def _vzctl_lines(data: bytes) -> list[_Line]:
    """Cut a file into the lines that vzctl's reader gets, and split each into key and value."""
    if len(data) == 1:
        raise ValueError("line 1: the file is one byte long, and vzctl and vzlist would read it for ever")
    pieces = re.findall(rb"[^\n]*\n|[^\n]+", data)
    # vzctl's buffer is exactly as large as the file: a lone line without newline loses its last byte.
    if len(pieces) == 1 and not data.endswith(b"\n"):
        pieces = [data[:-1], data[-1:]]
    return [_vzctl_line(number, piece) for number, piece in enumerate(pieces, 1)]


def _vzctl_line(number: int, piece: bytes) -> _Line:
    """Apply vzctl's grammar to one line."""
    original = piece.rstrip(b"\n")
    usual = _AS_SAVED.fullmatch(original)
    if usual:
        return _Line(number, original, usual[1], usual[2] or b"", "")
    text = piece.split(b"\0", 1)[0]
    if b"\\" in text:
        text = re.sub(rb"\\(.)|\\\Z", rb"\1", text, flags=re.DOTALL)
    text = text.strip(_BLANKS)
    if not text or text.startswith(b"#"):
        return _Line(number, original, None, b"", "")
    key, equals, value = text.partition(b"=")
    if not equals:
        return _Line(number, original, None, b"", "'=' not found")
    if len(key) > _LONGEST_KEY:
        return _Line(number, original, None, b"", "too long value")
    if value.startswith(b'"'):
        value, quote, _rest = value[1:].rpartition(b'"')
        if not quote:
            return _Line(number, original, None, b"", "unmatched quotes")
    return _Line(number, original, key, value, "")


def _take(values: dict[str, str], key: str, value: str) -> str:
    """Put one assignment into ``values`` as vzctl would; the text of its warning if it would not."""
    duplicate = f'duplicate for {key} ("{value}"), ignored'
    invalid = f'invalid value for {key} ("{value}"), skipped'
    if key == "VE_LAYOUT" or key in _INTEGER_KEYS:  # the last valid one wins
        if not _is_valid(key, value):
            return invalid
        values[key] = value
    elif key in ("IP_ADDRESS", _NAMELESS_KEY):
        known = values.get(key, "").split()
        valid = _take_addresses(known, value if key else re.sub(r"(?<![^ \t])all(?![^ \t])", "", value))
        if key:
            values[key] = " ".join(known)
        # vzctl has cut the value behind its first word by the time it prints it.
        shown = re.match(r"[ \t]*[^ \t]*", value)
        return "" if valid else f'invalid value for {key} ("{shown.group() if shown else ""}"), skipped'
    elif key in _LIST_KEYS:
        words = [*values.get(key, "").split(" "), *re.split(r"[ \t]+", value)]
        values[key] = " ".join(dict.fromkeys(word for word in words if word))
    elif key in values:
        return duplicate if _is_checked(key) else ""
    elif not _is_valid(key, value):
        return invalid
    else:
        values[key] = value
    return ""


def _is_checked(key: str) -> bool:
    return key in _PATH_KEYS + _YES_NO_KEYS + _NUMBER_KEYS + _FIRST_INTEGER_KEYS + _TEXT_KEYS + ("NAME",)


def _is_valid(key: str, value: str) -> bool:
    """Whether vzctl accepts this value for this key."""
    if key in _YES_NO_KEYS:
        return value in ("yes", "no")
    if key in _NUMBER_KEYS:
        return _number(value) is not None
    if key in _INTEGER_KEYS + _FIRST_INTEGER_KEYS:
        match = re.fullmatch(r"|[ \t\n\v\f\r]*[+-]?([0-9]+)", value)
        return match is not None and _whole(match.group(1) or "0") < 2**31
    if key == "VE_LAYOUT":
        return re.fullmatch(r"simfs|ploop(:(expanded|plain|raw))?", value) is not None
    if key == "NAME":
        return re.fullmatch(r"[A-Za-z0-9 +_.-]*", value) is not None
    return True


def _number(value: str) -> int | None:
    """vzctl's reading of an unsigned number, or None (C's strtoul in base 10, and the word "unlimited")."""
    if value == "unlimited":
        return _LONG_MAX
    if not value:
        return 0
    match = re.fullmatch(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)", value)
    if not match:
        return None
    number = _whole(match.group(2))
    if number > _ULONG_MAX:
        return None
    if match.group(1) == "-":
        number = -number & _ULONG_MAX
    return number if number <= _LONG_MAX else None


def _take_addresses(known: list[str], value: str) -> bool:
    """Add the addresses of one IP_ADDRESS line to ``known``; False at the first one that vzctl refuses."""
    for word in re.split(r"[ \t]+", value.strip(" \t")):
        if word in ("", "0.0.0.0", "::", "::0"):
            continue
        address, slash, mask = word.partition("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            canonical = socket.inet_ntop(family, socket.inet_pton(family, address))
        except (OSError, ValueError):
            return False
        if slash:
            longest = 128 if family == socket.AF_INET6 else 32
            match = re.fullmatch(r"([+-]?)([0-9]+)|", mask)
            bits = _whole(match.group(2) or "0") if match else longest + 1
            if bits > longest or (match.group(1) == "-" and bits):
                return False
        if canonical not in [other.partition("/")[0] for other in known]:
            known.append(f"{canonical}/{bits}" if slash else canonical)
    return True


def _whole(digits: str) -> int:
    """A number; one of so many digits that Python refuses to read them is any that is too large for C as well."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) < 30 else 10**30


def expand(path: str, ctid: int) -> str | None:
    """
    The path that vzctl makes of a VE_PRIVATE or VE_ROOT setting.

    Only the first ``$VEID`` is replaced, or the first ``${VEID}`` if there is no ``$VEID``; nothing else is
    special. Slashes at the end go, also the only one: vzctl turns ``/`` into an empty path.

    Args:
        path: the setting as written.
        ctid: the container.

    Returns:
        The path, or None if it holds ``$VEID`` and would be longer than the 511 bytes that vzctl can expand;
        vzctl then behaves as if the key were not there.
    """
    stripped = path.rstrip("/")
    for variable in ("$VEID", "${VEID}"):
        if variable in stripped:
            expanded = stripped.replace(variable, str(ctid), 1)
            return expanded if len(_bytes(expanded)) <= _LONGEST_EXPANDED_PATH else None
    return stripped


def effective(ctid: int, vz_conf: bytes, ct_conf: bytes) -> dict[str, Any]:
    """
    What vzctl would use for one container.

    Args:
        ctid: the container; the number in its file's name counts, a VEID key in the file does not.
        vz_conf: the bytes of vz.conf.
        ct_conf: the bytes of CTID.conf.

    Returns:
        A dict with

        - ``private``, ``root``: the expanded path, "" where the setting is empty, None where there is no
          setting;
        - ``private_source``, ``root_source``: "container", "global" (inherited from vz.conf) or None;
        - ``layout``: "simfs", "ploop", or None where vzctl looks at the disk (vz.conf's VE_LAYOUT is for new
          containers only);
        - ``disk_quota``: False only where it is switched off explicitly;
        - ``disabled``: whether ``vzctl start`` refuses; ``disabled_source`` says which file decides, None if
          neither;
        - ``onboot`` (True, False or None) and ``bootorder`` (number or None): of the container only, as the
          init script reads them;
        - ``name`` (None if it has none), ``ip`` (list of addresses), ``dumpdir`` (None if not set),
          ``lockdir`` (from vz.conf only);
        - ``warnings``: those of :func:`parse` for CTID.conf.
    """
    everywhere = parse(vz_conf)["values"]
    parsed = parse(ct_conf)
    own = parsed["values"]
    merged = {**everywhere, **own}
    private, private_source = _path(ctid, "VE_PRIVATE", everywhere, own)
    root, root_source = _path(ctid, "VE_ROOT", everywhere, own)
    layout = own.get("VE_LAYOUT")
    bootorder = own.get("BOOTORDER")
    return {
        "private": private,
        "private_source": private_source,
        "root": root,
        "root_source": root_source,
        "layout": layout.partition(":")[0] if layout else None,
        "disk_quota": merged.get("DISK_QUOTA") != "no",
        "disabled": merged.get("DISABLED") == "yes",
        "disabled_source": _source("DISABLED", everywhere, own),
        "onboot": {"yes": True, "no": False}.get(own.get("ONBOOT", "")),
        "bootorder": None if bootorder is None else _number(bootorder),
        "name": own.get("NAME") or None,
        "ip": (own.get("IP_ADDRESS") or everywhere.get("IP_ADDRESS", "")).split(),
        "dumpdir": merged.get("DUMPDIR"),
        "lockdir": everywhere.get("LOCKDIR"),
        "warnings": parsed["warnings"],
    }


def _source(key: str, everywhere: dict[str, str], own: dict[str, str]) -> str | None:
    """The file that decides a setting."""
    return "container" if key in own else "global" if key in everywhere else None


def _path(
    ctid: int, key: str, everywhere: dict[str, str], own: dict[str, str]
) -> tuple[str | None, str | None]:
    """The expanded path of a key and the file that it comes from."""
    for source, values in (("container", own), ("global", everywhere)):
        path = expand(values[key], ctid) if key in values else None
        if path is not None:
            return path, source
    return None, None


def conf_names(names: list[str]) -> list[int]:
    """
    The containers that vzlist finds in a listing of the conf directory.

    vzlist is generous: it takes what C's ``sscanf("%d.%5s")`` takes, so ``0109.conf``, ``+115.conf`` and
    ``110.conf `` with a blank at the end are listed as well, and then read as 109.conf, 115.conf and
    110.conf.

    Args:
        names: the names of the directory's entries.

    Returns:
        The ids in ascending order, each once. 0 is left out: 0.conf holds the node's own limits.
    """
    ctids = set()
    for name in names:
        match = re.match(r"[ \t\n\v\f\r]*([+-]?[0-9]+)\.[ \t\n\v\f\r]*([^ \t\n\v\f\r]{1,5})", name)
        if match and match.group(2) == "conf":
            ctids.add(_c_int(match.group(1)))
    return sorted(ctid for ctid in ctids if 0 < ctid <= _LARGEST_CTID)


def _c_int(digits: str) -> int:
    """What C's %d makes of digits: clamped to a long, then cut to 32 bits."""
    sign = -1 if digits.startswith("-") else 1
    number = max(-(2**63), min(sign * _whole(digits.lstrip("+-")), _LONG_MAX))
    return (number + 2**31) % 2**32 - 2**31


_SCRIPT = re.compile(r"(vps|[0-9]{1,10})\.(premount|mount|umount|postumount|start|stop|create)")
_SOURCED = re.compile(r"[0-9]{1,10}\.conf|ve-.*\.conf-sample")


def action_script(name: str) -> dict[str, Any] | None:
    """
    What vzctl runs a file of the conf directory for (``src/lib/exec.c`` and ``fs.c`` of vzctl 4.11.1).

    Args:
        name: the name of the file.

    Returns:
        ``{"ctid": number, or None for all containers, "action": word}``; None for any other file.
    """
    match = _SCRIPT.fullmatch(name)
    if not match:
        return None
    return {"ctid": None if match[1] == "vps" else int(match[1]), "action": match[2]}


def is_sourced(name: str) -> bool:
    """
    Whether a file of the conf directory is a conf, which shells source, or becomes one.

    Args:
        name: the name of the file.

    Returns:
        True for ``CTID.conf`` and for samples.
    """
    return _SOURCED.fullmatch(name) is not None


# --- what a shell reads ---------------------------------------------------------------------------


class _Word(typing.NamedTuple):
    """One shell word: its source, its value (_VEID for $VEID), and whether that is known only at run time."""

    source: bytes
    value: bytes
    dynamic: bool


class _Assignment(typing.NamedTuple):
    """A variable that a shell sets; ``alone`` if the line holds this and nothing else."""

    line: int
    key: bytes
    value: bytes
    dynamic: bool
    alone: bool


class _Shell(typing.NamedTuple):
    """What a shell does with a file, as far as it can be told without running it."""

    assignments: list[_Assignment]
    touched: list[tuple[int, bytes, str]]  # other commands: line, source, name
    spans: list[tuple[int, int]]  # first and last line of commands that go over several lines
    stop: tuple[int, str] | None  # from this line on the file is more than assignments, and why


_VEID = b"\0"  # stands for the shell's own $VEID in a value; a shell value never holds a NUL
_NAME = rb"[A-Za-z_][A-Za-z0-9_]*"
_QUOTED = rb'(?:[^"\\`$\x00-\x08\x0a-\x1f\x7f]|\$VEID(?![A-Za-z0-9_])|\$\{VEID\})*'
_BARE = rb"(?:[A-Za-z0-9_./:,@%+=-]|\$VEID(?![A-Za-z0-9_])|\$\{VEID\})*"
_PLAIN = re.compile(rb"(" + _NAME + rb')=(?:"(' + _QUOTED + rb')"|(' + _BARE + rb"))[ \t]*(?:\n|\Z)")
_EMPTY = re.compile(rb"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_VARIABLE = re.compile(rb"\$VEID(?![A-Za-z0-9_])|\$\{VEID\}")
_OTHER_VARIABLE = re.compile(rb"\$(?:" + _NAME + rb"|\{[A-Za-z0-9_#]+\}|[0-9@*#?!$-])")
_SUBSTITUTION = re.compile(rb"`[A-Za-z0-9_./][A-Za-z0-9_./ -]*`|\$\([A-Za-z0-9_./][A-Za-z0-9_./ -]*\)")
_ASSIGNS = re.compile(rb"(" + _NAME + rb")(\[[^]]*\])?(\+?)=")
_FLOW = (
    b"if then else elif fi for while until do done case esac select { } ! [[ function time coproc "
    b". source eval exec exit return set trap alias break continue shopt"
).split()
_DECLARES = (b"export", b"readonly", b"declare", b"typeset", b"local")
_SPECIAL = (b"export", b"readonly", b"unset")  # a shell gives up on the file when one of these fails
_NAMES = re.compile(_NAME + rb"(?:=|\Z)")
_NEVER_CLOSED = "that is never closed"
_CHANGES = ("unset", "read", "export", "readonly", "declare", "typeset", "local", "getopts", "printf", "let")


def shell_values(data: bytes) -> dict[str, Any]:
    """
    What a POSIX shell that sources the file sees, without running anything.

    Only assignments at the top level are followed, up to the first thing in the file that is more than
    assignments and plain commands (a condition, ``exit``, a redirection, a quote that is never closed ...).

    Args:
        data: the bytes of the file.

    Returns:
        ``{"values": {KEY: text}, "dynamic": {KEY: line}, "stop": line or None}``. The last assignment of a
        key counts. ``$VEID``, which the scripts set themselves, stays as ``$VEID`` in a value. A key whose
        value is only known when the file is run (``$HOME``, backticks ...) stands in ``dynamic`` instead.
        From line ``stop`` on the file was not followed.
    """
    values: dict[str, str] = {}
    dynamic: dict[str, int] = {}
    shell = _shell(data)
    last = {assignment.key: assignment for assignment in shell.assignments}
    for name, assignment in last.items():
        changed_after = [line for line in _touched_lines(name, shell) if line >= assignment.line]
        if assignment.dynamic or changed_after:
            dynamic[_text(name)] = max([assignment.line, *changed_after])
        else:
            values[_text(name)] = _text(assignment.value.replace(_VEID, b"$VEID"))
    return {"values": values, "dynamic": dynamic, "stop": shell.stop[0] if shell.stop else None}


@functools.lru_cache(maxsize=16)
def _shell(data: bytes) -> _Shell:
    """Follow a file as a shell would: plain lines at once, everything else byte by byte."""
    shell = _Shell([], [], [], None)
    position, line = 0, 1
    while position < len(data):
        match = _EMPTY.match(data, position)
        if match:
            position, line = match.end(), line + 1
            continue
        match = _PLAIN.match(data, position)
        if match:
            value = _VARIABLE.sub(_VEID, match.group(2) if match.group(2) is not None else match.group(3))
            shell.assignments.append(_Assignment(line, match.group(1), value, False, True))
            position, line = match.end(), line + 1
            continue
        reader = _Reader(data, position, line)
        reader.read()
        stop = _follow(shell, reader)
        if stop:
            return shell._replace(stop=stop)
        position, line = reader.position, reader.line
    return shell


def _follow(shell: _Shell, reader: _Reader) -> tuple[int, str] | None:
    """Enter one command into ``shell``; where and why it cannot be followed any further, if so."""
    if reader.line - reader.first > 1:
        shell.spans.append((reader.first, reader.line - 1))
    if reader.trouble:
        return reader.trouble
    words = reader.words
    prefix = 0
    while prefix < len(words) and _ASSIGNS.match(words[prefix].source):
        prefix += 1
    command = words[prefix].value if prefix < len(words) else b""
    arguments = words[prefix + 1 :]
    if command in _FLOW or (command in _SPECIAL and not all(_NAMES.match(word.source) for word in arguments)):
        return reader.first, f'"{_show(command)}"'
    if not command and prefix == len(words):
        assigned = words
    elif prefix == 0 and command in _DECLARES:
        assigned = [word for word in words if _ASSIGNS.match(word.source)]
    else:
        assigned = []
    for word in assigned:
        shell.assignments.append(_assignment(word, reader))
    if prefix < len(words) and not assigned:
        shell.touched.append((reader.first, reader.source, _show(command)))
    return None


def _assignment(word: _Word, reader: _Reader) -> _Assignment:
    """The variable that an assignment word sets."""
    match = _ASSIGNS.match(word.source)
    assert match is not None, word
    peculiar = match.group(2) is not None or match.group(3) != b""  # NAME[0]= and NAME+= are bash only
    value = word.value.partition(b"=")[2]
    alone = len(reader.words) == 1 and not reader.more
    return _Assignment(reader.first, match.group(1), value, word.dynamic or peculiar, alone)


class _Reader:
    """Reads one shell command: its words, with quotes and backslashes resolved."""

    def __init__(self, data: bytes, position: int, line: int) -> None:
        self.data = data
        self.position = position
        self.start = position
        self.first = line
        self.line = line
        self.words: list[_Word] = []
        self.more = False  # the command ended before its line did
        self.trouble: tuple[int, str] | None = None
        self._begin()

    @property
    def source(self) -> bytes:
        """The command as it stands in the file."""
        return self.data[self.start : self.position]

    def read(self) -> None:
        """Read up to the end of the command, or up to what cannot be followed."""
        while self.position < len(self.data) and not self.trouble:
            byte = self._next()
            if byte == b"\n":
                self.line += 1
                break
            if byte == b";" and (self.words or self.word_start is not None):
                self.more = True
                break
            if byte in b" \t":
                self._end_word()
            elif byte == b"#" and self.word_start is None:
                end = self.data.find(b"\n", self.position)
                self.position = len(self.data) if end < 0 else end
                self.more = True
            elif byte in b";&|<>()":
                self.trouble = self.line, f'"{_show(byte)}"'
            else:
                self._part(byte)
        self._end_word()
        if self.position >= len(self.data) and not self.data.endswith(b"\n"):
            self.line += 1

    def _next(self) -> bytes:
        byte = self.data[self.position : self.position + 1]
        self.position += 1
        return byte

    def _begin(self) -> None:
        self.word_start: int | None = None
        self.word_end = 0
        self.value = bytearray()
        self.dynamic = False

    def _end_word(self) -> None:
        if self.word_start is not None:
            source = self.data[self.word_start : self.word_end].replace(b"\\\n", b"")
            self.words.append(_Word(source, bytes(self.value), self.dynamic))
        self._begin()

    def _part(self, byte: bytes) -> None:
        """One part of a word: a quoted stretch, an escape, an expansion or a plain byte."""
        start = self.position - 1
        if byte == b"\\" and self.data[self.position : self.position + 1] == b"\n":
            self.position += 1
            self.line += 1
            return
        if self.word_start is None:
            self.word_start = start
        if byte == b"'":
            self._single_quotes()
        elif byte == b'"':
            self._double_quotes()
        elif byte == b"\\":
            self.value += self._next() or b"\\"
        elif byte in b"$`":
            self._expansion(byte, in_quotes=False)
        else:
            if byte == b"~" or byte == b"\0":
                self.dynamic = True  # a home directory; and shells do not agree on what a NUL is
            self.value += byte
        self.word_end = self.position

    def _single_quotes(self) -> None:
        end = self.data.find(b"'", self.position)
        if end < 0:
            self._unclosed("'")
            return
        self._literal(self.data[self.position : end])
        self.position = end + 1

    def _double_quotes(self) -> None:
        opened = self.line
        while self.position < len(self.data):
            byte = self._next()
            if byte == b'"':
                return
            if byte == b"\\" and self.data[self.position : self.position + 1] in (
                b"$",
                b"`",
                b'"',
                b"\\",
                b"\n",
            ):
                following = self._next()
                self.line += following == b"\n"
                self.value += b"" if following == b"\n" else following
            elif byte in b"$`":
                self._expansion(byte, in_quotes=True)
                if self.trouble:
                    return
            else:
                self._literal(byte)
        self._unclosed('"', opened)

    def _literal(self, text: bytes) -> None:
        self.line += text.count(b"\n")
        self.dynamic = self.dynamic or b"\0" in text
        self.value += text

    def _expansion(self, byte: bytes, in_quotes: bool) -> None:
        """A ``$`` or a backtick: $VEID stays, another variable is dynamic, what is nested is not followed."""
        start = self.position - 1
        match = _VARIABLE.match(self.data, start)
        if match:
            self.value += _VEID
            self.position = match.end()
            return
        match = _OTHER_VARIABLE.match(self.data, start)
        if match:
            self.dynamic = True
            self.position = match.end()
            return
        following = self.data[self.position : self.position + 1]
        if byte == b"$" and following not in (b"{", b"(") and (in_quotes or following not in (b"'", b'"')):
            self.value += byte
            self.dynamic = self.dynamic or following == b"["  # bash's old arithmetic
            return
        match = _SUBSTITUTION.match(self.data, start)
        if match and match.group().strip(b"`$()").split(b" ")[0] not in _FLOW:
            self.dynamic = True
            self.position = match.end()
            return
        self.trouble = self.line, "an expansion"

    def _unclosed(self, quote: str, line: int = 0) -> None:
        self.trouble = line or self.line, f"a {quote} {_NEVER_CLOSED}"
        self.position = len(self.data)


#: Variables by which a shell, or a program that it starts later, runs what somebody else names: bash(1), ld.so(8).
_RUNS = re.compile(
    rb"PATH|IFS|ENV|BASH_ENV|BASHOPTS|SHELLOPTS|SHELL|CDPATH|GLOBIGNORE|PS4|PROMPT_COMMAND|HOME|TMPDIR|EDITOR|PAGER"
    rb"|LD_.*|GCONV_PATH|LOCPATH|NLSPATH|PYTHON.*|PERL.*|RUBY.*|VZCTL|VZLIST|VZQUOTA|VZ[A-Z]*DIR|VPSCONFDIR"
)


_SUBSTITUTES = re.compile(rb"`|\$[(\[]")


def code(data: bytes) -> list[dict[str, Any]]:
    """
    What a shell that sources the file would run, or be led by to run something.

    The init script and others of vz source the files (``etc/init.d/vz-redhat.in`` of vzctl 4.11.1). Files as vzctl
    writes them hold nothing of the kind.

    Args:
        data: the bytes of the file.

    Returns:
        A list of ``{"line": number, "text": text}``, in the order of the file: commands, values that are known only
        when they are run, variables such as PATH, and the first thing that cannot be followed.
    """
    shell = _shell(data)
    physical, ends = data.split(b"\n"), dict(shell.spans)
    lines = {line for line, _, _ in shell.touched}
    lines |= {shell.stop[0]} if shell.stop else set()
    for each in shell.assignments:
        text = b"\n".join(physical[each.line - 1 : ends.get(each.line, each.line)])
        if _RUNS.fullmatch(each.key) or (each.dynamic and _SUBSTITUTES.search(text)):
            lines.add(each.line)
    return [{"line": line, "text": _show(physical[line - 1].strip()[:200])} for line in sorted(lines)]


# --- where the two differ -------------------------------------------------------------------------


def ambiguities(data: bytes, keys: list[str] | tuple[str, ...] = MIGRATION_KEYS) -> list[dict[str, Any]]:
    """
    Where vzctl and a shell read a file differently, or where rewriting it would go wrong.

    Files as vzctl writes them and the vz.conf that it ships have none: comments, blank lines, other keys, and
    one assignment per key, in double quotes or without any.

    Args:
        data: the bytes of the file.
        keys: the keys to look at.

    Returns:
        A list, in the order of lines, of ``{"line": number, "key": KEY, "why": one sentence, "hinders": bool}``;
        ``key`` is ``*`` for what concerns the whole file, ``hinders`` says whether a migration writes this.
    """
    return [dict(trap) for trap in _traps(data, tuple(keys))]


@functools.lru_cache(maxsize=16)
def _traps(data: bytes, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The ambiguities of a file."""
    found = _file_traps(data)
    if len(data) > 1:
        lines = _physical_lines(data)
        shell = _shell(data)
        if shell.stop and shell.stop[1].endswith(_NEVER_CLOSED):
            why = f"{shell.stop[1]} stands here: vzctl goes on with the next line, a shell gives up"
            found.append(_trap(shell.stop[0], ANY_KEY, why))
        for key in keys:
            if _bytes(key) in data or b"\\" in data:
                found += _key_traps(key, lines, shell)
    return sorted(found, key=lambda trap: (trap["line"], trap["key"]))


def _physical_lines(data: bytes) -> list[_Line]:
    """The lines of the file, even where vzctl's reader would split off the last byte."""
    if not data.endswith(b"\n"):
        data += b"\n"
    return _vzctl_lines(data)


def _file_traps(data: bytes) -> list[dict[str, Any]]:
    """What is wrong with the file as a whole."""
    traps = []
    last = data.count(b"\n") + 1
    if len(data) == 1:
        return [
            _trap(1, ANY_KEY, "the file is one byte long: vzctl reads it for ever, a shell reads nothing")
        ]
    if data and not data.endswith(b"\n"):
        if last == 1:
            why = "the only line has no newline: vzctl splits off its last character, a shell reads all of it"
        else:
            why = (
                "the last line has no newline: vzctl and a shell read it, but what comes next is glued to it"
            )
        traps.append(_trap(last, ANY_KEY, why))
    if len(data) > _LONGEST_SAVED_LINE:
        for number, text in enumerate(data.split(b"\n"), 1):
            if len(text) > _LONGEST_SAVED_LINE:
                why = f"the line has {len(text)} bytes: vzctl and a shell read it, vzctl saves it cut in two"
                traps.append(_trap(number, ANY_KEY, why))
    return traps


def _key_traps(key: str, lines: list[_Line], shell: _Shell) -> list[dict[str, Any]]:
    """What is wrong with the lines of one key."""
    name = _bytes(key)
    set_by_shell = {assignment.line: assignment for assignment in shell.assignments if assignment.key == name}
    touched = _touched_lines(name, shell)
    traps = []
    concerned = 0
    numbers = touched.union(set_by_shell)
    for line in lines:
        if not (name in line.text or b"\\" in line.text or line.number in numbers):
            continue
        assignment = set_by_shell.get(line.number)
        if line.number not in numbers and not _is_about(name, line, shell):
            continue
        why = _line_trap(key, line, assignment, shell, line.number in touched)
        if not why and concerned and not _is_same_again(key, lines, shell):
            why = _repetition(key, lines, shell)
        if why:
            traps.append(_trap(line.number, key, why))
        concerned += 1
    return traps


def _is_same_again(key: str, lines: list[_Line], shell: _Shell) -> bool:
    """Whether each line of a key says the same to both, so that it does not matter which one counts."""
    by_vzctl = {line.value for line in lines if line.key == _bytes(key)}
    by_shell = {assignment.value for assignment in shell.assignments if assignment.key == _bytes(key)}
    return len(by_vzctl) == 1 and len(by_shell) == 1


def _repetition(key: str, lines: list[_Line], shell: _Shell) -> str:
    """Which of several lines of a key counts for whom."""
    by_vzctl = [
        line.number for line in lines if line.key == _bytes(key) and _is_valid(key, _text(line.value))
    ]
    by_shell = [assignment.line for assignment in shell.assignments if assignment.key == _bytes(key)]
    for_vzctl = f"line {by_vzctl[-1 if key == 'VE_LAYOUT' else 0]}" if by_vzctl else "none"
    for_shell = f"line {by_shell[-1]}" if by_shell else "none"
    return f"{key} is on more than one line: vzctl reads {for_vzctl}, a shell reads {for_shell}"


def _touched_lines(name: bytes, shell: _Shell) -> set[int]:
    """Lines on which a shell command other than an assignment may set or unset a variable."""
    pattern = re.compile(rb"(?<![A-Za-z0-9_])" + re.escape(name) + rb"(?![A-Za-z0-9_])")
    setting = re.compile(rb"(?<![A-Za-z0-9_])" + re.escape(name) + rb"(\[[^]]*\])?[ \t]*:?[-+*/%]?=(?!=)")
    return {
        line
        for line, source, command in shell.touched
        if setting.search(source) or (command in _CHANGES and pattern.search(source))
    }


def _is_about(name: bytes, line: _Line, shell: _Shell) -> bool:
    """Whether a line sets the key for vzctl, was probably meant to, or stands where a shell cannot be followed."""
    if line.key == name:
        return True
    text = line.text.replace(b"\\", b"").strip(_BLANKS)
    if name not in text or text.startswith(b"#"):
        return False
    if shell.stop and line.number >= shell.stop[0]:
        return re.search(rb"(?<![A-Za-z0-9_])" + re.escape(name) + rb"(?![A-Za-z0-9_])", text) is not None
    if text.startswith(_BOM):
        text = text[len(_BOM) :].strip(_BLANKS)
    text = re.sub(rb"\A(?:export|readonly|declare|typeset|local)[ \t]+(?:-[a-z]+[ \t]+)*", b"", text)
    return re.match(re.escape(name) + rb"[ \t]*\+?(?:=|\Z)", text) is not None


def _line_trap(key: str, line: _Line, assignment: _Assignment | None, shell: _Shell, touched: bool) -> str:
    """Why a line that has to do with a key is not safe to read or to rewrite; "" if it is."""
    plain = _PLAIN.fullmatch(line.text)
    problem = "" if plain and _text(plain.group(1)) == key else _form_problem(key, line.text)
    by_vzctl = _vzctl_meaning(key, line)
    by_shell = _shell_meaning(line.number, assignment, shell)
    if touched and assignment is None:
        by_shell = "a command, not a value"
    if not problem and shell.stop and line.number >= shell.stop[0]:
        problem = f"line {shell.stop[0]} is shell code ({shell.stop[1]})"
    if not problem and assignment is None:
        problem = "this is not an assignment to a shell"
    if not problem:
        problem = _value_problem(key, _text(line.value))
    if not problem and assignment is not None and not _same(key, line.value, assignment):
        problem = "the value is not plain"
    if not problem:
        return ""
    return f"{problem}: vzctl reads {by_vzctl}, a shell reads {by_shell}"


def _form_problem(key: str, text: bytes) -> str:
    """What keeps a line from being a plain KEY="value"."""
    name = re.escape(_bytes(key))
    stripped = text.rstrip(b" \t\r")
    forms = (
        (text.startswith(_BOM), "a byte order mark stands before the key"),
        (re.match(rb"[ \t]*(export|readonly|declare|typeset|local)[ \t]", text), "a shell command sets this"),
        (b"\\" in text, "a backslash is on the line"),
        (b"`" in text, "a backtick is on the line"),
        (re.match(rb"\s*" + name + rb"\+=", text), "this appends with +="),
        (re.match(rb"\s*" + name + rb"\s+=", text), "a blank stands before the ="),
        (re.match(rb"\s*" + name + rb"=\s+\S", text), "a blank stands after the ="),
        (
            re.match(rb"\s+" + name + rb"=", text),
            "the line is indented, where vzctl does not find it when it saves",
        ),
        (b"$" in _VARIABLE.sub(b"", text), "a $ other than $VEID is on the line"),
        (re.match(name + rb"='", text), "single quotes are part of the value to vzctl"),
        (
            re.match(name + rb'="[^"]*"[ \t]*#', text) or re.match(name + rb'=[^" \t]+[ \t]+#', text),
            "a comment follows",
        ),
        (
            re.match(name + rb'="[^"]*\Z', text) or re.match(name + rb'=[^"]*"\Z', text),
            "a quote has no partner",
        ),
        (text.count(b'"') > 2, "there is more than one pair of quotes"),
        (
            re.match(name + rb'="[^"]*"', text) and not stripped.endswith(b'"'),
            "something follows the closing quote",
        ),
        (text.endswith(b"\r"), "the line ends in a carriage return"),
        (re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", text), "a control character is on the line"),
        (re.match(name + rb"=[^\"]*[ \t]", stripped), "a blank is in the value, which has no quotes"),
    )
    return next((problem for matches, problem in forms if matches), f'this is not written as {key}="value"')


def _value_problem(key: str, value: str) -> str:
    """What keeps a plainly written value from meaning what it says."""
    if not _is_valid(key, value):
        return "vzctl does not know this value and skips the line"
    variables = len(_VARIABLE.findall(_bytes(value)))
    if key not in _PATH_KEYS:
        return "vzctl does not expand $VEID in this key" if variables else ""
    if not value.rstrip("/"):
        return "the path is empty to vzctl"
    if variables > 1:
        return "vzctl expands one $VEID only"
    if expand(value, _LARGEST_CTID) is None:
        return "the path can be too long for vzctl, which then falls back to vz.conf"
    return ""


def _same(key: str, value: bytes, assignment: _Assignment) -> bool:
    """Whether a value that vzctl reads is the one that a shell gets."""
    if key in _PATH_KEYS:
        value = _VARIABLE.sub(_VEID, value)
    return assignment.alone and not assignment.dynamic and value == assignment.value


def _vzctl_meaning(key: str, line: _Line) -> str:
    if line.key != _bytes(key) or not _is_valid(key, _text(line.value)):
        return "nothing here"
    return f'"{_show(line.value)}"'


def _shell_meaning(number: int, assignment: _Assignment | None, shell: _Shell) -> str:
    if shell.stop and number >= shell.stop[0]:
        return f"what line {shell.stop[0]} makes of it"
    if assignment is None:
        for first, last in shell.spans:
            if first == number:
                return f"it and what follows up to line {last} as one"
            if first < number <= last:
                return f"it as a part of line {first}"
        return "nothing here"
    if assignment.dynamic:
        return "what it expands to"
    return f'"{_show(assignment.value.replace(_VEID, b"$VEID"))}"'


def _trap(line: int, key: str, why: str) -> dict[str, Any]:
    return {"line": line, "key": key, "why": why, "hinders": key in (ANY_KEY, *WRITTEN_KEYS)}


# --- changing a file ------------------------------------------------------------------------------


def edit(data: bytes, settings: dict[str, str]) -> bytes:
    """
    Set keys so that vzctl and a shell both read them as meant; every other byte of the file stays.

    A key that has a line gets its new value there (in each of several that say the same), a key that has none
    gets a line at the end, always as ``KEY="value"`` and a newline. A carriage return is never written: to
    a shell it is part of the value. A key that already has its value is left as it is written. What
    :func:`edit` has added, :func:`remove` takes away again, and the file is then the same to the byte.

    Args:
        data: the bytes of the file.
        settings: the value of each key to set. ``$VEID`` is allowed once, in VE_ROOT and VE_PRIVATE.

    Returns:
        The bytes of the changed file.

    Raises:
        ValueError: if the file is ambiguous for one of the keys (the message names the line) or as a whole,
            which includes a last line without newline; or if a value cannot be written so that both read it.
    """
    _refuse_ambiguous(data, settings)
    current = parse(data)["values"]
    for key, value in settings.items():
        _refuse_value(key, value)
        if current.get(key) != value:
            data = _with_line(data, key, _bytes(f'{key}="{value}"\n'))
    _refuse_ambiguous(data, settings)
    return data


def remove(data: bytes, keys: list[str] | tuple[str, ...]) -> bytes:
    """
    Take the lines of keys out of a file; every other byte stays. Keys that have no line stay so.

    Args:
        data: the bytes of the file.
        keys: the keys to take out.

    Returns:
        The bytes of the changed file.

    Raises:
        ValueError: if the file is ambiguous for one of the keys, as in :func:`edit`.
    """
    _refuse_ambiguous(data, keys)
    for key in keys:
        data = _lines_of(key).sub(b"", data)
    return data


def changes(data: bytes, settings: dict[str, str]) -> dict[str, dict[str, str | None]]:
    """
    What :func:`edit` would change.

    Args:
        data: the bytes of the file.
        settings: as for :func:`edit`.

    Returns:
        ``{KEY: {"old": text or None, "new": text}}``, empty if the file is already as wanted.

    Raises:
        ValueError: where :func:`edit` would.
    """
    edit(data, settings)
    current = parse(data)["values"]
    return {
        key: {"old": current.get(key), "new": value}
        for key, value in settings.items()
        if current.get(key) != value
    }


_GUARD = b'DISABLED="yes"\n'


def guarded(data: bytes) -> bytes:
    """
    A vz.conf by which vzctl starts nothing, also of one that :func:`edit` refuses: a line at its end.

    vzctl reads it whatever a shell makes of the lines before; who sources the file is not who starts containers.

    Args:
        data: the bytes of the file.

    Returns:
        The bytes of the changed file.

    Raises:
        ValueError: if vzctl would not read it so, because another line decides.
    """
    new = data + (b"" if data.endswith(b"\n") or not data else b"\n") + _GUARD
    if parse(new)["values"].get("DISABLED") != "yes":
        raise ValueError("vzctl would not read DISABLED at its end")
    return new


def obstacles(data: bytes, settings: dict[str, str], ctid: int | None = None) -> list[dict[str, Any]]:
    """
    All that keeps :func:`edit` from setting keys in a file, or a shell from reading the result as vzctl does.

    A line that is harmless where it stands, such as one that reads another file in, is an obstacle to what would be
    written after it.

    Args:
        data: the bytes of the file.
        settings: as for :func:`edit`; with none, only what is wrong with the file as it is.
        ctid: the container whose file it is; None for vz.conf.

    Returns:
        As :func:`ambiguities`. Where a line of another key is the cause, that line is named.
    """
    found = ambiguities(data, tuple(settings))
    for key, value in settings.items():
        data = _with_line(data, key, _bytes(f'{key}="{value}"\n'))
    stop = _shell(data).stop
    known = [trap["line"] for trap in found]
    if (
        stop
        and stop[0] not in known
        and any(trap["line"] >= stop[0] for trap in _traps(data, tuple(settings)))
    ):
        why = f"from this line on a shell does more than set values ({stop[1]})"
        found.append(_trap(stop[0], ANY_KEY, why))
    return sorted([*found, *_other_veid(data, ctid)], key=lambda trap: trap["line"])


def _other_veid(data: bytes, ctid: int | None) -> list[dict[str, Any]]:
    """
    A VEID in a file by which ``$VEID`` in a path is another container to a shell; vzctl goes by the file's name.

    In vz.conf any is: the confs that shells read after it use ``$VEID`` as well.
    """
    found: list[dict[str, Any]] = []
    trap = None
    for assignment in _shell(data).assignments:
        if assignment.key == b"VEID":
            own = not assignment.dynamic and assignment.value in (
                _VEID,
                b"" if ctid is None else b"%d" % ctid,
            )
            shown = "what it expands to" if assignment.dynamic else f'"{_show(assignment.value)}"'
            why = (
                f"$VEID in a path is {shown} to a shell from here on, and the container of the file to vzctl"
            )
            trap = None if own else _trap(assignment.line, "VEID", why)
            if trap and ctid is None:
                found.append(trap)
        elif trap and ctid is not None and _text(assignment.key) in _PATH_KEYS and _VEID in assignment.value:
            found.append(trap)
            trap = None
    return found


def _refuse_ambiguous(data: bytes, keys: Any) -> None:
    """Raise for the first line of the file that is ambiguous for one of the keys."""
    for trap in _traps(data, tuple(keys)):
        subject = "" if trap["key"] == ANY_KEY else f"{trap['key']}: "
        raise ValueError(f"line {trap['line']}: {subject}{trap['why']}")


def _refuse_value(key: str, value: str) -> None:
    """Raise if a value cannot be written so that vzctl and a shell both read it."""
    if not re.fullmatch(_NAME, _bytes(key)) or len(key) > _LONGEST_KEY:
        raise ValueError(f"{key!r} is not the name of a setting")
    if not re.fullmatch(_QUOTED, _bytes(value)):
        raise ValueError(f'{key} cannot be set to {value!r}: no ", \\, `, control character or $ but $VEID')
    problem = _value_problem(key, value)
    if problem:
        raise ValueError(f"{key} cannot be set to {value!r}: {problem}")


def _lines_of(key: str) -> re.Pattern[bytes]:
    """The lines that set a key in an unambiguous file."""
    return re.compile(rb"^" + re.escape(_bytes(key)) + rb"=[^\n]*\n", re.MULTILINE)


def _with_line(data: bytes, key: str, line: bytes) -> bytes:
    """Put a line in the place of each line of a key, or at the end."""
    changed, count = _lines_of(key).subn(lambda _: line, data)
    return changed if count else data + line


# --- text and bytes -------------------------------------------------------------------------------


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _show(data: bytes) -> str:
    """Bytes as they can be printed in a message on one line."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
