"""
States of a node that boots: what keeps vz from starting without its store.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_boot"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_boot.waiting" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_boot: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def mount_points_closed(name):
    """
    Nobody, not even root, can write under the mount points of the store while nothing is mounted there.

    They are made immutable (``chattr +i``), and stay so on the way back.  One that is mounted is left alone; where the
    file system cannot do it the comment says so.

    name
        A sentence for people.

    .. code-block:: yaml

        Nobody writes under the mount points:
          ringfree_boot.mount_points_closed: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        __salt__["ringfree_journal.read"]()
        found = __salt__["ringfree_boot.open_mount_points"]()
        if found["faults"]:
            return ret.end("; ".join(found["faults"]), False)
        ret["changes"] = {path: {"old": "writable", "new": "immutable"} for path in found["open"]}
        if not found["open"]:
            return ret.end("The mount points are closed, or mounted.")
        if __opts__["test"]:
            return ret.end(f"{len(found['open'])} mount points would be closed.", None)
        done = __salt__["ringfree_boot.close_mount_points"](found["open"])
        ret["changes"] = {path: ret["changes"][path] for path, fault in done.items() if fault is None}
        faults = [f"{path} stays writable: {fault}" for path, fault in done.items() if fault]
        return ret.end(" ".join([f"{len(ret['changes'])} mount points were closed.", *faults]))
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def vz_waits(name):
    """
    vz starts only with the three shares mounted, so that a node that boots without its SAN starts nothing and forgets
    nothing.

    With systemd by a drop-in of vz.service, which also lets vz start no more than ``ringfree:start:workers`` containers
    at a time.  Without systemd an init script before vz keeps its list of containers until the share is there.

    name
        A sentence for people.

    .. code-block:: yaml

        vz starts only with its store:
          ringfree_boot.vz_waits: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        __salt__["ringfree_journal.read"]()
        ret["changes"] = __salt__["ringfree_boot.vz_waits"](test=True)
        if not ret["changes"]:
            return ret.end("vz starts only with the shares.")
        if __opts__["test"]:
            return ret.end("vz would start only with the shares.", None)
        ret["changes"] = __salt__["ringfree_boot.vz_waits"]()
        return ret.end("vz starts only with the shares from now on.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
