"""
What people type by a name of before; each function says the name that it has now.
"""

__virtualname__ = "ringfree_revert"


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def bring_home(ctid, data="sync_back"):
    """
    Bring home a container that a way back left down: ``ringfree_rollback.bring_home`` by the name that it had.

    ctid
        The container's id.

    data : sync_back
        ``sync_back`` or ``discard``.

    Returns what ``ringfree_rollback.bring_home`` returns, and its name.  Raises what that raises.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_revert.bring_home 101
    """
    said = __salt__["ringfree_rollback.bring_home"](ctid, data)
    return f"{said} (ringfree_revert.bring_home is called ringfree_rollback.bring_home now.)"
