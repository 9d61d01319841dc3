"""
States of the guard: nothing of a node starts by itself while it moves.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_guard"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_guard.guard" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_guard: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def guarded(name):
    """
    Nobody but the migration can start a container of this node, until the commit.

    name
        A sentence for people.

    .. code-block:: yaml

        Nothing starts by itself:
          ringfree_guard.guarded: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_journal.state"]() == "nfs":
            return ret.end("The node is on NFS; the guard is lifted.")
        ret["changes"] = __salt__["ringfree_guard.guard"](test=True)
        if not ret["changes"]:
            return ret.end("Nothing starts by itself.")
        if __opts__["test"]:
            return ret.end("Containers would be kept from starting by themselves.", None)
        __salt__["ringfree_journal.mark"]("guard", "intent")
        ret["changes"] = __salt__["ringfree_guard.guard"]()
        if __salt__["ringfree_guard.guard"](test=True):
            raise CommandExecutionError("the guard was written and does not read as declared")
        __salt__["ringfree_journal.mark"]("guard", "verified")
        return ret.end("Nothing starts by itself.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
