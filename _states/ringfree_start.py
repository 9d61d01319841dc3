"""
States of the load while containers start.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_start"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_start.load" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_start: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def load_normal(name):
    """
    The node's load is back to normal.

    name
        A sentence for people.

    .. code-block:: yaml

        The load is back to normal:
          ringfree_start.load_normal: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __opts__["test"]:
            return ret.end(f"The load is {__salt__['ringfree_start.load']()['now']:.1f}.")
        started = time.monotonic()
        found = __salt__["ringfree_start.wait_load"]()
        waited = time.monotonic() - started
        return ret.end(
            f"The load is {found['now']:.1f}, normal is up to {found['normal']:.1f}; waited {waited:.0f} s.",
        )
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
