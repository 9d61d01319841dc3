"""
States of the dead man's switch: a node that nobody commits in time goes back by itself.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_deadman"

LEAST = 60  # seconds: with less left, a deadline could pass between two parts of a migration that continues
GRACE = 300  # seconds that the master has to keep a run's deadline before the node does it alone
FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_deadman.armed" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_deadman: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def armed(name, seconds):
    """
    The node goes back to local storage by itself, without the master, unless it is committed in time.

    A deadline that a migration was begun with stays when the migration is continued; one that has passed, or is about
    to, is set anew.

    name
        A sentence for people.

    seconds
        Seconds until then; fewer where the run has a deadline (``ringfree_run.until``).

    .. code-block:: yaml

        The node goes back by itself unless it is committed:
          ringfree_deadman.armed:
            - seconds: 14400
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_journal.state"]() == "nfs":
            return ret.end("The node is on NFS.")
        kept = __salt__["ringfree_deadman.armed"]()
        enough = min(LEAST, seconds / 2)
        if kept and not kept["fault"] and kept["deadline"] - time.time() > enough:
            return ret.end(f"The node goes back by itself at {_clock(kept['deadline'])}.")
        seconds = _seconds_left(seconds)
        ret["changes"] = {"deadman": {"old": None, "new": f"in {seconds:.0f} s"}}
        if __opts__["test"]:
            return ret.end(f"The node would go back by itself after {seconds:.0f} s.", None)
        __salt__["ringfree_journal.mark"]("deadman", "intent")
        kept = __salt__["ringfree_deadman.arm"](time.time() + seconds)
        if not kept or kept["fault"]:
            raise CommandExecutionError(f"the dead man's switch was armed and does not read so: {kept}")
        at = _clock(kept["deadline"])
        __salt__["ringfree_journal.mark"]("deadman", "verified", note=f"at {at}, by {kept['scheduler']}")
        return ret.end(f"The node goes back by itself at {at} unless it is committed before.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _seconds_left(seconds):
    """The run's deadline counts as well, with time for the orchestration to keep it first."""
    over = __salt__["ringfree_run.until"]()
    return min(seconds, over + GRACE - time.time()) if over else seconds


def _clock(seconds):
    return __utils__["ringfree_deadman.clock"](seconds, time.time())
