"""
States of the scripts on the conf share.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_scripts"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_scripts.unknown" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_scripts: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def known(name):
    """
    Nothing on the conf share is run here that neither this node nor the pillar knows.

    Only looks; fails with a sentence for each file.

    name
        A sentence for people.

    .. code-block:: yaml

        Nobody else's scripts run here:
          ringfree_scripts.known: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        found = __salt__["ringfree_scripts.unknown"]()
    except FAULTS as error:
        found = [str(getattr(error, "error", None) or error)]
    if found:
        return ret.end(" ".join(f"{text.rstrip('.')}." for text in found), False)
    return ret.end("All scripts on the conf share are known.")
