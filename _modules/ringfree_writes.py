"""
What a migration writes on this node: whether the editor can, and whether the file can be replaced, before anything is.

:configuration: the pillar ``ringfree`` (``shares``)
"""

import os
import stat

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_writes"

ROOT = "/"
#: What is written besides vz.conf, confs, fence and snapshot; each by a file that replaces it.
OTHERS = (
    "etc/fstab",
    "etc/ringfree/manifest.tmp",
    "var/lib/ringfree/journal.json",
    "etc/systemd/system/vz.service.d/ringfree.conf",
)
SPARE = 1 << 16  # bytes that must be free for a file beside the largest that is written


def __virtual__():
    return __virtualname__


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def faults():
    """
    What a migration of this node could not write: settings in vz.conf and every conf, and files that stay as they are.

    Each file is tried with a file beside it that has no name and is gone at once; nothing is changed.

    Returns a list of sentences, each with the file, the line where there is one, and what to do.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_writes.faults
    """
    table, found = __salt__["vz.mounts"](), []
    settings = _settings(found)
    for ctid, wanted in settings.items():
        found += _not_editable(ctid, wanted)
    files = [__salt__["vz.conf_path"](ctid) for ctid, wanted in settings.items() if wanted]
    files += [
        os.path.join(__salt__["vz.conf_dir"](real=False), name)
        for name in sorted(__salt__["ringfree_guard.names"]())
    ]
    files += [__salt__["ringfree_snapshot.path"](), *(os.path.join(ROOT, name) for name in OTHERS)]
    together = {}
    for path in files:
        together.setdefault(_not_replaceable(path, table), []).append(path)
    together.pop("", None)
    return found + [f"{', '.join(paths)} could not be written: {fault}" for fault, paths in together.items()]


def _settings(found):
    """What the migration sets in each file: container id, or None for vz.conf, to settings."""
    paths = __utils__["ringfree_pillar.store_paths"](__salt__["ringfree_settings.get"]())
    wanted, moving = {None: {**paths, "DISABLED": "yes"}}, set(__salt__["cloudstor.to_move"]())
    for ctid in __salt__["ringfree_owner.containers"]():
        try:
            wanted[ctid] = (
                __salt__["ringfree_confs.with_layout"](ctid, paths)
                if ctid in moving
                else __salt__["ringfree_confs.inherited"](ctid, list(paths))
            )
        except (CommandExecutionError, OSError, ValueError) as error:
            found.append(str(error))
    return wanted


def _not_editable(ctid, wanted):
    """The lines of a file that stand in the way of what is to be set in it."""
    try:
        found = __salt__["vz.obstacles"](wanted, ctid)
    except CommandExecutionError as error:
        return [str(error)]
    keys = f"{', '.join(wanted)} could not be set in this file" if wanted else "scripts would go astray by it"
    return [f'{said}: {keys}. Put plain KEY="value" lines in its place' for said in found]


def _not_replaceable(path, table):
    """Why a file could not be replaced by another one, and what to do; nothing when it could."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if os.path.lexists(target) and not stat.S_ISREG(os.lstat(target).st_mode):
        return "it is no regular file; put one in its place"
    if __utils__["ringfree_mounts.at"](table, target):
        return f"something is mounted on it; 'umount {target}', and make it a file of its own"
    for place in (target, folder):
        if __utils__["ringfree_tree.is_fixed"](place):
            shown = path if place == target and not os.path.islink(path) else place
            return f"{shown} is immutable or append-only: 'chattr -i -a {shown}'"
    size = os.path.getsize(target) if os.path.exists(target) else 0
    try:
        __utils__["ringfree_files.try_beside"](folder, size + SPARE)
    except OSError as error:
        return f"no file can be made in {folder}: {error.strerror}"
    return ""
