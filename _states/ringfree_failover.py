"""
The state that moves a node from one SAN to the other.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_failover"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_failover.look" in __salt__ and "vz.status" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_failover: the execution modules are not there: no OpenVZ node, or modules are not synced",
    )


def runs_from(name, to, accept_age=False, max_age=None):
    """
    The containers of this node run from a SAN.

    name
        A sentence for people.

    to
        ``primary`` or ``secondary``.

    accept_age : False
        Whether a copy may be older than allowed, or may be made as a whole while the containers are down.

    max_age : None
        Seconds; ``None`` for ``ringfree:replication:max_age``.

    .. code-block:: yaml

        The node runs from the other SAN:
          ringfree_failover.runs_from:
            - to: secondary
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __opts__["test"]:
            return _planned(ret, __salt__["ringfree_failover.look"](to, accept_age, max_age))
        steps = __salt__["ringfree_failover.failover"](to, accept_age, max_age)
        ret["changes"] = {step["what"]: {"old": "", "new": step["detail"]} for step in steps}
        return ret.end(__salt__["cloudstor.whereabouts"]())
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _planned(ret, seen):
    """What a dry run says."""
    if seen["findings"]:
        return ret.end("; ".join(seen["findings"]), False)
    if not seen["todo"]:
        return ret.end(seen["said"])
    old, new = seen["from"], seen["to"]
    ret["changes"] = {"san": {"old": old, "new": new}}
    for ctid in seen["containers"]:
        ret["changes"][str(ctid)] = {"old": f"running from {old}", "new": f"running from {new}"}
    return ret.end(seen["said"], None)
