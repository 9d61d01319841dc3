"""
States of the fingerprint: what a container has that is about to move.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_fingerprint"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_fingerprint.take" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_fingerprint: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def taken(name):
    """
    What the containers have that are about to move is written down: mounts, listeners, addresses, routes, daemons.

    It is looked at once more right before they are stopped (``vz.stopped``), and they have to have it again once
    they are started.  A container of which the node cannot see what it has moves all the same.

    name
        A sentence for people.

    .. code-block:: yaml

        What the containers have is written down:
          ringfree_fingerprint.taken: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_journal.state"]() == "nfs":
            return ret.end("The node is on NFS; the migration leaves it alone.")
        known = __salt__["ringfree_fingerprint.taken"]()
        there = set(__salt__["ringfree_nfs.containers"]())
        todo = [ctid for ctid in __salt__["cloudstor.to_move"]() if ctid not in known and ctid not in there]
        seen = __salt__["ringfree_fingerprint.take"](todo, test=__opts__["test"])
        notes = "".join(f" {note}" for note in seen["notes"])
        if not seen["containers"]:
            return ret.end(f"It is written down what {len(known)} containers have.{notes}")
        ret["changes"] = {"fingerprint": {"old": None, "new": f"what {seen['containers']} containers have"}}
        if __opts__["test"]:
            return ret.end(f"What {seen['containers']} containers have would be written down.{notes}", None)
        return ret.end(f"What {seen['containers']} containers have was written down.{notes}")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
