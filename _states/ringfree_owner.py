"""
States of the owner records: whose a container is, and on which store it lives.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_owner"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_owner.records" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_owner: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def owned(name):
    """
    The owner records on the share say that the live copies of the manifest's containers are there, owned by this node.

    name
        A sentence for people.

    .. code-block:: yaml

        The share's copies are the live ones:
          ringfree_owner.owned: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        todo = __salt__["cloudstor.to_copy"]()
        if not todo:
            return ret.end("The live copies are on the share.")
        ret["changes"] = {str(ctid): {"old": "local", "new": "nfs"} for ctid in todo}
        if __opts__["test"]:
            return ret.end(f"{len(todo)} owner records would be written.", None)
        unproved = [
            ctid for ctid in todo if not __salt__["ringfree_journal.reached"]("sync", "verified", ctid)
        ]
        if unproved:
            raise CommandExecutionError(f"containers {', '.join(map(str, unproved))} have no verified copy")
        # One whose start had passed the fence before.
        up = __salt__["vz.running_or_mounted"](todo)
        if up:
            said = "; ".join(f"container {ctid} {why}" for ctid, why in up.items())
            raise CommandExecutionError(f"{said}: what is written in it since is not on the share")
        __salt__["ringfree_journal.mark"]("owner", "intent")
        __salt__["ringfree_owner.claim"](todo, "nfs")
        __salt__["ringfree_journal.mark"]("owner", "verified")
        return ret.end(f"{len(todo)} containers have their live copy on the share.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def no_conflicts(name):
    """
    No container of this node runs, or could run, on another one as well, and none shares its name or address.

    Only looks; fails with a sentence for each conflict.

    name
        A sentence for people.

    .. code-block:: yaml

        Each container is one node's:
          ringfree_owner.no_conflicts: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        found = __salt__["ringfree_owner.conflicts"]()
    except FAULTS as error:
        found = [str(getattr(error, "error", None) or error)]
    if found:
        return ret.end(" ".join(f"{text.rstrip('.')}." for text in found), False)
    return ret.end("Each container is one node's.")
