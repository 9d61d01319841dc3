"""`set --save`: the rewrite of CTID.conf, line by line, and the links in /etc/vz/names.

The first line that starts with KEY= is replaced where it stands, a new key goes to the end, every other byte stays.
A line with blanks in front of its key is not found, so a second one is added, although the first one is read.
"""

import os

import codes
import log
import paths
import text
import values

LINE_MAX = 16383  # longer lines are cut in two


def _read_lines(path):
    """Return the lines of the old file as vzctl holds them, each cut at a NUL; None if it cannot be opened."""
    if not paths.exists(path):
        return []
    try:
        with open(path, "rb") as file:
            data = file.read()
    except IsADirectoryError:
        return []
    except OSError:
        return None
    lines = []
    for line in _split_newlines(data):
        pieces = [line[at : at + LINE_MAX] for at in range(0, len(line), LINE_MAX)]
        lines += [piece.split(b"\0", 1)[0] for piece in pieces]
    return lines


def _split_newlines(data):
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def _merge(lines, changes):
    for key, value in changes:
        new = os.fsencode(f'{key}="{value}"')
        for at, line in enumerate(lines):
            if line.startswith(os.fsencode(key) + b"="):
                lines[at] = new
                break
        else:
            lines.append(new)


def _write(path, lines):
    """Replace path by a new file of these lines, ending each by a newline that has none. Returns an exit code."""
    try:
        target = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        target = path
    except OSError as err:
        log.error(f"Unable to resolve path {path}", err)
        return codes.SAVE_ERROR
    temporary = target + ".tmp"
    try:
        file = open(temporary, "wb")  # noqa: SIM115 (a `with` would mix up the two messages)
    except OSError as err:
        log.error(f"Unable to create configuration file {temporary}", err)
        return codes.SAVE_ERROR
    try:
        with file:
            file.writelines(line if b"\n" in line else line + b"\n" for line in lines)
    except OSError as err:
        log.error(f"Error writing to {temporary}", err)
        _remove(temporary)
        return codes.SAVE_ERROR
    try:
        os.rename(temporary, target)
    except OSError as err:
        log.error(f"Unable to move {temporary} -> {target}", err)
        _remove(temporary)
        return codes.SAVE_ERROR
    return codes.OK


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def save(path, new, old):
    """Write the values of new into the file; old is what the file said so far. Returns an exit code."""
    lines = _read_lines(path)
    if lines is None:
        return codes.SAVE_ERROR
    changes = values.lines(new, old)
    if not changes:
        log.info("No changes in CT configuration, not saving")
        return codes.OK
    _merge(lines, changes)
    code = _write(path, lines)
    if code == codes.OK:
        log.info(f"CT configuration saved to {path}")
    return code


def _id_in_link(link):
    """Return the id that a link to .../CTID.conf names, None if it names none."""
    try:
        target = os.readlink(link)
    except OSError:
        return None
    return text.leading_int(target.rpartition("/")[2])[0]


def id_of_name(name):
    """Return the id of the container with this name, -1 if there is none."""
    link = f"{paths.NAMES_DIR}/{name}"
    if name is None or not paths.exists(link):
        return -1
    number = _id_in_link(link)
    return -1 if number is None else number


def set_name(ctid, name, old_name):
    """Link a new name to a container and remove the old link. Returns an exit code."""
    owner = id_of_name(name)
    if owner >= 0 and owner != ctid:
        log.error(f"Conflict: name {name} already used by container {owner}")
        return codes.NAME_ERROR
    if old_name == name and owner == ctid:
        return codes.OK
    if name:
        link = f"{paths.NAMES_DIR}/{name}"
        _remove(link)
        try:
            os.symlink(paths.conf(ctid), link)
        except OSError as err:
            log.error(f"Unable to create link {link}", err)
            return codes.NAME_ERROR
    if old_name is not None and old_name != name and id_of_name(old_name) == ctid:
        _remove(f"{paths.NAMES_DIR}/{old_name}")
    log.info(f"Name {name} assigned")
    return codes.OK


def remove_names(ctid):
    """Remove every name of a container."""
    try:
        names = os.listdir(paths.NAMES_DIR)
    except OSError:
        return
    for name in names:
        link = f"{paths.NAMES_DIR}/{name}"
        if os.path.islink(link) and _id_in_link(link) == ctid:
            _remove(link)
