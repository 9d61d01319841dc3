"""
Paths that text names: scripts, cron jobs, units, fstab and configuration files, read as people write them.

Nothing is run.  Comments and lines that only print are left out; variables that a file sets to plain text, and those
that are known from outside, are put in; any other variable, and any pattern, is an open end of the path before it.
"""

import posixpath
import re

#: A path up to what is no plain text.
_BODY = re.compile(r"/[^\s;|&<>(){}$*?\[\],=:!#^\\`%@]*")
_BEFORE = re.compile(r"[^\s=,;|&<>(`]*\Z")
_GLUED = re.compile(
    r"-[A-Za-z]|[fbr]{1,2}|\{|.*[\^#{!]|.*/.*:", re.DOTALL
)  # what may stand right before a path
_OPEN = "$*?[{%@`"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SETS = re.compile(rf"(?:\A|[\s;]|Environment=)\"?({_NAME})=(\"[^\"]*\"|'[^']*'|[^\s;|&<>()\"'`]*)")
_VARIABLE = re.compile(rf"\$\{{({_NAME})\}}|\$({_NAME})")
_DEFAULT = re.compile(r".*\$\{\w+:?[-=]", re.DOTALL)
_HAS_CONF = re.compile(rb"(?m)^[^#\n]*(?:\.|source)[ \t]+\S*VE_CONFFILE")
_BRACES = re.compile(r"([^\s;|&<>()]*)(?<!\$)\{([^{}\s]*,[^{}\s]*)\}([^\s;|&<>()]*)")
_PRINTS = re.compile(r"\s*(?:echo|printf|logger)\s[^>|;&`]*\Z")


def paths(data, known=None):
    """
    The absolute paths that a text names.

    data
        The bytes of the text.

    known : None
        Dictionary: name of a variable to its value, where that is known from outside.

    Returns a list of ``{"line": number, "path": text, "open": bool, "command": text, "last": bool}``; ``open`` when a
    variable or a pattern follows, of which the path is what stands before it; ``command`` is the whole command, over
    lines that a backslash joins; ``last`` for its last path.
    """
    found, values = [], dict(known or {})
    # What stands in the place of a variable that is not set counts unless the file reads the confs, which set it.
    defaults = not _HAS_CONF.search(data)
    for lines in _commands(data):
        code = [(number, _filled(_without_comment(text), values)) for number, text in lines]
        command = " ".join(text.strip() for _, text in code)
        if _PRINTS.match(command) and "$(" not in command:
            continue
        here = [
            {"line": number, "path": path, "open": is_open, "command": command, "last": False}
            for number, text in code
            for path, is_open in _on_line(text, defaults)
        ]
        if here:
            here[-1]["last"] = True
        found += here
        for _, text in code:
            _learn(text, values)
    return found


def lines_with(data, name):
    """
    The lines on which a text names a file, whatever stands before it.

    data
        The bytes of the text.

    name
        The bare name of the file.

    Returns a list of line numbers.
    """
    word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)")
    return [
        number for lines in _commands(data) for number, text in lines if word.search(_without_comment(text))
    ]


def _commands(data):
    """The text as lists of numbered lines: those that end in a backslash with what follows."""
    joined = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        line = line.rstrip("\r")
        # A comment ends with its line, whatever stands at its end.
        goes_on = line.endswith("\\") and not line.lstrip().startswith("#")
        joined.append((number, line[:-1] if goes_on else line))
        if not goes_on:
            yield joined
            joined = []
    if joined:
        yield joined


def _without_comment(text):
    """A line up to its comment: ``#`` at the start of a word, outside of quotes; ``;`` at the start of a line."""
    if text.lstrip().startswith((";", "#")):
        return ""
    quote, before = "", " "
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "#" and before in " \t;":
            return text[:place]
        before = letter
    return text


def _filled(text, values):
    """A line with the variables put in whose values are known."""
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), text)


def _learn(text, values):
    """What a line sets to plain text is known from here on; what it sets to anything else is not."""
    for match in _SETS.finditer(text):
        value = match[2].strip("\"'")
        if re.search(r"[$`*?\s]", value):
            values.pop(match[1], None)
        else:
            values[match[1]] = value


def _on_line(text, defaults):
    """The paths on a line of code, each with whether it has an open end."""
    text = _BRACES.sub(_each_of, re.sub(r"[\"']", "", text))
    place = 0
    while match := _BODY.search(text, place):
        place = match.end()
        before = _BEFORE.search(text, 0, match.start())[0]
        if before and not _GLUED.fullmatch(before) and not (defaults and _DEFAULT.fullmatch(before)):
            continue
        path, is_open = match[0], text[match.end() : match.end() + 1] in tuple(_OPEN)
        if is_open:
            path = path[: path.rindex("/") + 1]
        path = posixpath.normpath(path.rstrip(".") if not path.endswith("..") else path)
        yield "/" + path.lstrip("/"), is_open


def _each_of(match):
    """What a shell makes of one pair of braces in a word: a word for each of its parts."""
    return " ".join(f"{match[1]}{part}{match[3]}" for part in match[2].split(","))


def place_of(path, is_open, places, parents):
    """
    Which container's place a path names.

    path
        An absolute path without links.

    is_open
        Whether more follows it, of which nothing is known.

    places
        Dictionary: ``(kind, ctid)`` to the path without links, kind ``private`` or ``root``.

    parents
        Dictionary: kind to a set of the directories in which these places are.

    Returns ``(kind, ctid)``; ``(kind, None)`` for a directory in which containers have their places; ``None``.
    """
    for key, place in places.items():
        if path == place or path.startswith(place + "/"):
            return key
    for kind, folders in parents.items():
        if path in folders:
            return (kind, None)
    return None
