"""
What becomes of local private areas that nobody needs any more: which may go, the record of those that went, consent.

A private area is moved aside first, by a rename into a dated folder beside it, and deleted days later::

    /vz/private/.ringfree-removed/20261124-231000/101

One JSON document per node says what was moved where, and how far that has come::

    {"version": 1, "areas": [{"kind": "private", "ctid": 101, "source": "/vz/private/101", "kept":
     "/vz/private/.ringfree-removed/20261124-231000/101", "inode": 1234, "bytes": 1000, "files": 300, "state": "aside",
     "since": 1700000000.0}]}
"""

import calendar
import copy
import hashlib
import hmac
import json
import os
import re
import time

VERSION = 1
FOLDER = ".ringfree-removed"
REPLACED = ".ringfree-replaced"
STATES = ("moving", "aside", "restoring", "deleting", "deleted", "lost")
NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "9p",
    "afs",
    "lustre",
    "gfs2",
    "ocfs2",
    "glusterfs",
)
LAST = 1 << 36  # seconds since the epoch that are no time of a cleanup any more
STAMP = re.compile(r"^\d{8}-\d{6}$")
DAY = 86400


def folder_names():
    """
    The names of the folders beside private areas.

    Returns ``(what was moved aside, what a way back with sync_back replaced)``.
    """
    return FOLDER, REPLACED


# --- the record -------------------------------------------------------------------------------------------------------


def new():
    """
    The record of a node on which nothing was moved.

    Returns a dictionary.
    """
    return {"version": VERSION, "areas": []}


def fault(record):
    """
    What keeps a dictionary from being a record.

    record
        The dictionary, with all keys of a :py:func:`new` one.

    Returns text, or ``None``.
    """
    if record["version"] != VERSION:
        return f"it is no record of version {VERSION}"
    if not isinstance(record["areas"], list):
        return "its areas are of the wrong kind"
    wanted = {"kind": str, "source": str, "kept": str, "inode": int, "bytes": int, "files": int}
    for area in record["areas"]:
        if not isinstance(area, dict) or area.get("state") not in STATES:
            return "an area is of the wrong kind"
        since = area.get("since")
        if not all(isinstance(area.get(key), kind) for key, kind in wanted.items()) or not (
            isinstance(since, (int, float)) and 0 <= since < LAST
        ):
            return "an area lacks what it must say"
        if not isinstance(area.get("ctid"), (int, type(None))):
            return "an area lacks what it must say"
    return None


def changed(record, kept, state, now):
    """
    Note how far an area has come.

    record
        The record.

    kept
        The path of the area in its dated folder, by which the record knows it.

    state
        ``moving``, ``aside``, ``restoring``, ``deleting``, ``deleted`` or ``lost``; ``None`` when it is back in its
        place, which takes it out of the record.

    now
        Seconds since the epoch.

    Returns the new record.
    """
    record = copy.deepcopy(record)
    for area in record["areas"]:
        if area["kept"] == kept and area["state"] not in ("deleted", "lost"):
            area.update(state=state, since=now)
    record["areas"] = [area for area in record["areas"] if area["state"] is not None]
    return record


def truth(area, at_source, at_kept):
    """
    How far an area has really come, whatever a run that was killed had noted.

    area
        Its entry in the record.

    at_source
        The inode of the directory in its old place, or ``None``.

    at_kept
        The inode of the directory in its dated folder, or ``None``.

    Returns a state as :py:func:`changed` takes it; ``lost`` when it is in neither place.
    """
    state, mine = area["state"], area["inode"]
    if state in ("deleted", "lost"):
        return state
    if state == "deleting":
        # Half of it may be gone: wherever it is, it is no private area any more.
        return "deleting" if at_kept == mine else "lost" if at_source == mine or at_kept else "deleted"
    if at_kept == mine:
        return "aside"
    return None if at_source == mine else "lost"


def parts(kept):
    """
    Take the path of an area in its dated folder apart.

    kept
        The path.

    Returns ``(folder of the private areas, stamp, name)``.  Raises ValueError for a path of any other form.
    """
    above, name = os.path.split(kept)
    folder, stamp = os.path.split(above)
    base, removed = os.path.split(folder)
    plain = os.path.normpath(kept) == kept and base.startswith("/") and base != "/"
    if not plain or removed != FOLDER or not STAMP.match(stamp) or name in ("", ".", ".."):
        raise ValueError(f"{kept} is no place in a dated folder of {FOLDER}")
    return base, stamp, name


# --- what may go ------------------------------------------------------------------------------------------------------


def objections(facts, days, now):
    """
    Why the local private area of a container may not go.

    facts
        What was found of the container: ``node`` (this one), ``state`` (of the node, by its journal), ``moved`` (is it
        in the manifest), ``committed`` (when, or ``None``), ``owner`` (its record on the share, or ``None``),
        ``leads_to`` (where its conf says its private area is), ``share`` (where that has to be), ``running``,
        ``on_nfs`` (is its root proved to be the share's copy), ``there`` (can vzctl see its private area), ``mounted``
        (is its root mounted although it is down).

    days
        How old the commit has to be.

    now
        Seconds since the epoch.

    Returns a list of sentences; empty when it may go.
    """
    if facts["state"] != "nfs":
        return [f"the node is {facts['state'].replace('_', ' ')}, by its journal"]
    if not facts["moved"]:
        return ["it was not moved to NFS"]
    found = []
    owner, born = facts["owner"], facts["committed"]
    if owner is None:
        found.append("the share has no owner record of it")
    elif owner["node"] != facts["node"]:
        found.append(f"it belongs to {owner['node']} on the share")
    elif owner["store"] != "nfs":
        found.append(f"its live copy is {owner['store']}, by its owner record")
    else:
        born = (
            None
            if born is None
            else max(born, calendar.timegm(time.strptime(owner["since"], "%Y-%m-%dT%H:%M:%SZ")))
        )
    if born is None:
        found.append("nothing says when it was committed")
    elif now - born < days * DAY:
        found.append(
            f"it was committed {_days(now - born)} ago, less than {days:g} days (ringfree:cleanup:age)"
        )
    if facts["leads_to"] != facts["share"]:
        found.append(f"its conf leads to {facts['leads_to']} and not to {facts['share']}")
    if facts["running"] and not facts["on_nfs"]:
        found.append("it runs, and not from the share")
    if not facts["running"] and facts["mounted"]:
        found.append("it is down and its root is mounted")
    if not facts["running"] and not facts["there"]:
        found.append("it is down and its private area on the share cannot be seen")
    return found


def _days(seconds):
    return f"{seconds / DAY:.1f} days"


def incomplete(measured, synced, missing, present):
    """
    Why the share's copy of a container does not count as complete.

    The container has lived on the share since, so that files have changed, come and gone there. What can be proved is
    that the copy was complete when it was made (the verified final sync), that nothing was written to the local area
    afterwards, and that the copy still has most of the files.

    measured
        What ``measure`` in ``_utils/ringfree_tree.py`` says of the local area.

    synced
        When the final copy began, or ``None`` when the journal knows of no verified one.

    missing
        How many files and directories of the local area the share's copy does not have.

    present
        How many in a hundred it must have.

    Returns a list of sentences.
    """
    if synced is None:
        return ["the journal knows of no verified final copy of it"]
    found = []
    if not measured["files"]:
        found.append("the local area is empty")
    if measured["newest"] > synced:
        found.append(
            f"{measured['newest_name']} in the local area was changed after the final copy, so that the share may not "
            f"have it"
        )
    if missing * 100 > measured["files"] * (100 - present):
        found.append(
            f"the share lacks {missing} of the {measured['files']} files of the local area, more than "
            f"{100 - present} % (ringfree:cleanup:present)"
        )
    return found


def unsafe(place):
    """
    Why a directory may not be moved or deleted, by where and what it is.

    place
        What was found: ``path``, ``directory`` (is it one, and no symbolic link), ``fstype`` (of the file system that
        it lies on, or ``None``), ``mount_point`` (is it one), ``same_device`` (as the directory that it is in),
        ``mounts`` (texts: what is mounted on it, in it or from it), ``processes`` (texts: which use it).

    Returns a list of sentences.
    """
    path, kind, found = place["path"], place["fstype"], []
    if kind is None or kind in NETWORK or kind.startswith("fuse"):
        return [f"{path} is not on local disk ({kind or 'nothing says on what'})"]
    if not place["directory"]:
        return [f"{path} is no directory, or a symbolic link to one"]
    if os.path.dirname(path) == "/":
        return [f"{path} lies directly in /, where no folder of ours is made"]
    if place["mount_point"] or not place["same_device"]:
        found.append(f"{path} is a mount point")
    found += [f"{path} is in use: {mount}" for mount in place["mounts"]]
    return found + [f"{path} is in use: {process}" for process in place["processes"]]


# --- consent ----------------------------------------------------------------------------------------------------------


def digest(items):
    """
    A word for exactly this list of areas.

    items
        List of areas, each with ``action``, ``path``, ``inode``, ``bytes`` and ``files``.

    Returns text; any other list gives another one.
    """
    exact = sorted([item[key] for key in ("action", "path", "inode", "bytes", "files")] for item in items)
    return hashlib.sha256(json.dumps(exact).encode()).hexdigest()


def consent_fault(given, word, now, nodes=None, found=None):
    """
    Why a consent does not count.

    given
        The consent: ``word``, ``nodes``, ``digest``, ``until``; or ``None``.

    word
        The word that was said.

    now
        Seconds since the epoch.

    nodes : None
        The nodes of the run; ``None`` where they are not known.

    found : None
        The digest of what would be removed now; ``None`` where that is not asked.

    Returns text, or ``None`` when it counts.
    """
    if not word:
        return "nobody has consented"
    if not given or not hmac.compare_digest(str(word).encode(), given["word"].encode()):
        return f"the consent '{word}' was not given for this node, or was used before"
    if now > given["until"]:
        return f"the consent '{word}' has expired"
    if nodes is not None and sorted(nodes) != sorted(given["nodes"]):
        return f"the consent '{word}' was given for {', '.join(given['nodes'])}, not for {', '.join(nodes)}"
    if found is not None and found != given["digest"]:
        return f"what would be removed is not what the consent '{word}' was given for"
    return None
