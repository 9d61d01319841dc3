"""
States of the snapshot: the confs as they were before a migration.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_snapshot"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_snapshot.make" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_snapshot: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def made(name):
    """
    The conf directory is kept as an archive beside it, and so is vz.conf, as they were before this migration.

    name
        A sentence for people.

    .. code-block:: yaml

        The confs are kept:
          ringfree_snapshot.made: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_journal.reached"]("snapshot"):
            return ret.end("The confs were kept when this migration began.")
        paths = [__salt__["ringfree_snapshot.path"](), __salt__["ringfree_snapshot.vz_conf_path"]()]
        ret["changes"] = {"snapshot": {"old": "", "new": ", ".join(paths)}}
        if __opts__["test"]:
            return ret.end("The confs would be kept.", None)
        __salt__["ringfree_journal.mark"]("snapshot", "intent")
        kept = __salt__["ringfree_snapshot.make"]()
        ret["changes"]["snapshot"]["new"] = ", ".join(f"{path} ({size} bytes)" for path, size in kept.items())
        __salt__["ringfree_journal.mark"]("snapshot", "verified", note=", ".join(kept))
        return ret.end("The confs were kept, with their check sums, and read back.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
