"""
What lies on the conf share and would be run here as root: action scripts, and confs, which init scripts source.

The share belongs to all nodes that mount it, and root of each of them can put files there that run on all others.

:configuration: the pillar ``ringfree`` (``shares:conf:scripts``)
"""

import os

__virtualname__ = "ringfree_scripts"

FENCES = ("vps.premount", "vps.create")


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def unknown(there=None):
    """
    What on the conf share would be run on this node, and is known neither to the node nor to the pillar.

    The node knows the fence, and what its conf directory held before the migration.  Of scripts that belong to one
    container only those of this node's containers count; confs and samples count all, as init scripts read them all.
    Of a subdirectory that a script names everything counts: any of it may be sourced.

    there : None
        The files of the share, for callers that have read them.

    Returns a list of sentences, each with the file, the difference and what to do; empty when all is known.  Raises
    CommandExecutionError when the share or the snapshot cannot be read.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_scripts.unknown
    """
    mounted = __salt__["ringfree_nfs.in_use"]()["conf"]["mounted"]
    here = _read(__salt__["vz.conf_dir"]())
    if there is None:
        there = here if mounted else __salt__["ringfree_san.confs"]()
    known = _before() if mounted else here
    allowed = __salt__["ringfree_settings.get"]()["shares"]["conf"]["scripts"]
    found, ctids = [], __salt__["ringfree_owner.containers"]()
    scripts = [
        entry.get("data", b"")
        for names in (known, there)
        for name, entry in names.items()
        if _runs_here(name, ctids)
    ]
    for name, entry in sorted(there.items()):
        if "folder" in entry or _digest(entry) in (_digest(known.get(name, {})), allowed.get(name)):
            continue
        if (_runs_here(name, ctids) or _is_named(name, scripts)) and not _is_fence(name, entry, mounted):
            found.append(_sentence(name, _difference(entry, known.get(name)), entry))
        elif __utils__["ringfree_conf.is_sourced"](name):
            before = {line["text"] for line in _code(known.get(name, {}))}
            new = [line for line in _code(entry) if line["text"] not in before]
            found += [_sentence(name, f"line {line['line']} is '{line['text']}'", entry) for line in new[:1]]
    return found


def _read(folder):
    """The conf directory with its subdirectories; hidden ones do not come along to the share."""
    below = __utils__["ringfree_files.subfolders"](folder)
    return __utils__["ringfree_files.read_folder"](folder, below=below)


def _before():
    """What the conf directory held before the migration; nothing on a node that has no snapshot."""
    return {} if __salt__["ringfree_snapshot.missing"]() else __salt__["ringfree_snapshot.confs"](below=True)


def _runs_here(name, ctids):
    script = __utils__["ringfree_conf.action_script"](name)
    return bool(script) and (script["ctid"] is None or script["ctid"] in ctids)


def _is_named(name, scripts):
    """Whether a file lies in a subdirectory that a script of this node names."""
    folder, slash, _ = name.partition("/")
    return bool(slash) and any(__utils__["ringfree_mentions.lines_with"](data, folder) for data in scripts)


def _is_fence(name, entry, mounted):
    """Whether a script is the fence, or will be: a highstate finds another one in its place, and mends that."""
    if name not in FENCES:
        return False
    foreign = [] if name == "vps.premount" else __salt__["ringfree_guard.foreign"]()
    mended = mounted and f"{__salt__['vz.conf_dir'](real=False)}/{name}" not in foreign
    return mended or entry.get("data") == __salt__["ringfree_guard.script"]()


def _digest(entry):
    """The SHA-256 of a file; of a link one of where it leads, which no file has; None for no file."""
    data = entry.get("data")
    if "link" in entry:
        data = b"link to " + os.fsencode(entry["link"])
    return None if data is None else __utils__["ringfree_archive.digest"](data)


def _code(entry):
    return __utils__["ringfree_conf.code"](entry.get("data", b""))


def _difference(entry, mine):
    """How a script differs from this node's: the first line that this one does not have there."""
    if "link" in entry:
        return f"it is a link to {entry['link']!a}"
    if mine is None:
        begin = _shown(entry["data"].partition(b"\n")[0])
        return f"this node has no such file; it begins with {begin}"
    lines, own = entry["data"].split(b"\n"), mine.get("data", b"").split(b"\n")
    for number, line in enumerate(lines, 1):
        if number > len(own) or line != own[number - 1]:
            return f"line {number} is {_shown(line)}"
    return f"it ends after line {len(lines)}"


def _shown(line):
    text = __utils__["ringfree_command.printable"](line[:200].decode("utf-8", "surrogateescape"))
    return f"'{text}'"


def _sentence(name, difference, entry):
    name = __utils__["ringfree_command.spell"](name)
    return (
        f"{name} on the conf share is run here as root and is not what this node knows: {difference}. Remove it, or "
        f"allow it in the pillar (ringfree:shares:conf:scripts: {{{name}: {_digest(entry)}}})"
    )
