"""
States of the way back to local storage.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.
"""

import logging

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_rollback"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_rollback.revert" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_rollback: its execution module is not there: no OpenVZ node, or modules are not synced",
    )


def rolled_back(name, data=None, committed=True):
    """
    The node is on local storage, as before its migration: one best-effort state that reports every sub-step.

    name
        A sentence for people.

    data : None
        ``discard`` or ``sync_back``: what becomes of what containers wrote on NFS; ``None`` for
        ``ringfree:rollback:data``.

    committed : True
        Whether a node that was committed to NFS goes back as well; otherwise only one in flight.

    .. code-block:: yaml

        The node is back on local storage:
          ringfree_rollback.rolled_back:
            - data: sync_back
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        fault = __salt__["ringfree_journal.fault"]()
        # Truth is on the node, and without a journal there would be no way back at all.
        anew = {"journal": {"old": f"damaged: {fault}", "new": "written from what is found"}} if fault else {}
        ret["changes"] = anew
        if fault and __opts__["test"]:
            return ret.end("The journal would be written anew, and what it says then be undone.", None)
        if fault:
            __salt__["cloudstor.recover_journal"]()
        if not committed and __salt__["ringfree_journal.state"]() == "nfs":
            return ret.end(f"The node was committed and stays on NFS. {__salt__['cloudstor.whereabouts']()}")
        if __opts__["test"]:
            todo = __salt__["ringfree_rollback.plan"]()
            ret["changes"] = todo
            if todo:
                return ret.end("The node would go back to local storage.", None)
            return ret.end(__salt__["cloudstor.whereabouts"]())
        # Not after the same look: of a silent SAN it would keep the containers down for longer.
        steps = __salt__["ringfree_rollback.revert"](data)
        done = {step["what"]: {"old": "", "new": step["detail"] or "done"} for step in steps if step["ok"]}
        ret["changes"] = {**anew, **done}
        bad = [
            f"{step['what']}: {step['detail']} Type on the node: {step['command']}"
            for step in steps
            if not step["ok"]
        ]
        if bad:
            raise CommandExecutionError("What could not be done: " + "; ".join(bad))
        return ret.end(__salt__["cloudstor.whereabouts"]())
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
    except Exception as error:
        # What nobody thought of is said like anything else, with where the containers are.
        log.exception("the way back failed")
        return ret.end(__salt__["cloudstor.failure"](name, f"{type(error).__name__}: {error}"), False)
