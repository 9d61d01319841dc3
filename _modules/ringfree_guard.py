"""
What keeps a container from being started by others than the migration, or where it must not run: guard and fence.
"""

import os
import stat

__virtualname__ = "ringfree_guard"

CONF_DIR = "/etc/vz/conf"
FENCE = f"{CONF_DIR}/vps.premount"
CREATE_FENCE = f"{CONF_DIR}/vps.create"
NODE_FILE = "/etc/ringfree/node"


def __virtual__():
    return __virtualname__


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
    mount = __salt__["cloudstor.settings"]()["shares"]["private"]["mount"]
    script = __utils__["ringfree_owner.fence"](mount).encode()
    changes = {}
    files = [(FENCE, script, 0o755), (NODE_FILE, f"{__salt__['cloudstor.node']()}\n".encode(), 0o644)]
    if CREATE_FENCE not in foreign():
        files.append((CREATE_FENCE, script, 0o755))
    for path, data, mode in files:
        right = __utils__["ringfree_files.read"](path) == data and stat.S_IMODE(os.stat(path).st_mode) == mode
        if not right:
            changes[path] = {"old": "missing or different", "new": "as declared"}
            if not test:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                __utils__["ringfree_files.write"](path, data, mode)
                os.chmod(path, mode)
    return changes


def foreign():
    """
    The action scripts in the places of the fence that somebody else put there.

    Returns a list of paths.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_guard.foreign
    """
    return [path for path in (FENCE, CREATE_FENCE) if _is_ours(path) is False]


def _is_ours(path):
    """Whether an action script is the fence; None when there is none."""
    data = __utils__["ringfree_files.read"](path)
    return None if data is None else b"ringfree fence" in data


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
    ours = [path for path in (FENCE, CREATE_FENCE) if os.path.basename(path) not in keep and _is_ours(path)]
    for path in () if test else ours:
        os.unlink(path)
    return bool(ours)
