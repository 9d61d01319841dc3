"""
States of the conf share.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_confs"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_confs.conf_share" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_confs: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def prepared(name):
    """
    The conf share has this node's confs as they are to be on NFS, and nothing of another node was touched.

    name
        A sentence for people.

    .. code-block:: yaml

        The conf share is ready:
          ringfree_confs.prepared: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if (
            __salt__["ringfree_journal.state"]() == "nfs"
            or __salt__["ringfree_nfs.in_use"]()["conf"]["mounted"]
        ):
            return ret.end("The conf share is in use.")
        ret["changes"] = __salt__["ringfree_confs.conf_share"](test=True)
        if not ret["changes"]:
            return ret.end("The conf share has this node's confs.")
        if __opts__["test"]:
            return ret.end(f"{len(ret['changes'])} files would be brought to the conf share.", None)
        __salt__["ringfree_journal.mark"]("conf_share", "intent")
        ret["changes"] = __salt__["ringfree_confs.conf_share"]()
        __salt__["ringfree_journal.mark"]("conf_share", "verified", note=f"{len(ret['changes'])} files")
        return ret.end(f"{len(ret['changes'])} files were brought to the conf share and compared.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
