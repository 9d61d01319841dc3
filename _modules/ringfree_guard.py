"""
What keeps a container from being started by others than the migration, or where it must not run: guard and fence.
"""

import os
import stat

__virtualname__ = "ringfree_guard"

FENCE, CREATE_FENCE = NAMES = ("vps.premount", "vps.create")
NODE_FILE = "/etc/ringfree/node"


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _path(name):
    return f"{__salt__['vz.conf_dir'](real=False)}/{name}"


def guard(test=False):
    """
    Keep everybody but this migration from starting a container, across a reboot as well.

    ``DISABLED="yes"`` in vz.conf makes ``vzctl start`` and the init script refuse (exit code 105) any container whose
    conf does not say otherwise; the fence refuses (79) to mount a container that another node owns, or whose live copy
    is on the other store.

    test : False
        Only say what would change.

    Returns a dictionary of changes.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.guard test=True
    """
    return {**fence(test), **_disabled({"DISABLED": "yes"}, test)}


def unguard(test=False):
    """
    Let containers start again; the fence stays.

    test : False
        Only say what would change.

    Returns a dictionary of changes.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.unguard
    """
    values = __utils__["ringfree_conf.parse"](
        __utils__["ringfree_files.read"](__salt__["vz.conf_path"]()) or b""
    )["values"]
    return _disabled({"DISABLED": None}, test) if "DISABLED" in values else {}


def _disabled(wanted, test):
    if not test:
        return __salt__["vz.configure"](wanted)
    return __salt__["vz.changes"](wanted) if wanted["DISABLED"] else {"DISABLED": {"old": "yes", "new": None}}


def fence(test=False):
    """
    Put the fence, an action script that vzctl runs before every mount, into the conf directory.

    It is also what vzctl runs when it has created a container (``vps.create``), unless somebody has a script there.

    test : False
        Only say what would change.

    Returns a dictionary of changes: path to old and new.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.fence test=True
    """
    changes, wanted = {}, script()
    files = [(_path(FENCE), wanted, 0o755), (NODE_FILE, f"{__opts__['id']}\n".encode(), 0o644)]
    if _path(CREATE_FENCE) not in foreign():
        files.append((_path(CREATE_FENCE), wanted, 0o755))
    for path, data, mode in files:
        right = __utils__["ringfree_files.read"](path) == data and stat.S_IMODE(os.stat(path).st_mode) == mode
        if not right:
            changes[path] = {"old": "missing or different", "new": "as declared"}
            if not test:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                __utils__["ringfree_files.write"](path, data, mode)
                os.chmod(path, mode)
    return changes


def script():
    """
    The fence: the action script as it is to be.

    Returns bytes.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.script
    """
    mount = __salt__["ringfree_settings.get"]()["shares"]["private"]["mount"]
    return __utils__["ringfree_owner.fence"](mount).encode()


def names():
    """
    The names of the fence's files in the conf directory.

    Returns a set.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.names
    """
    return set(NAMES)


def foreign():
    """
    The action scripts in the places of the fence that somebody else put there.

    Returns a list of paths.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.foreign
    """
    return [path for path in map(_path, NAMES) if _is_ours(path) is False]


def _is_ours(path):
    """Whether an action script is the fence; None when there is none."""
    data = __utils__["ringfree_files.read"](path)
    return None if data is None else __utils__["ringfree_owner.is_fence"](data)


def unfence(keep=(), test=False):
    """
    Take the fence out of the conf directory, unless it was there before the migration.

    keep : ()
        Names of files that were.

    test : False
        Only say whether anything would be removed.

    Returns True when anything was removed.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.unfence
    """
    ours = [path for name in NAMES if name not in keep and _is_ours(path := _path(name))]
    for path in () if test else ours:
        os.unlink(path)
    return bool(ours)
