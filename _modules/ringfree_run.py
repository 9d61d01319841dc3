"""
What a run may still do on this node: whether it was aborted, until when it has time, whether somebody confirmed it, and
who works on the node now.

The master's runner says so before each part (:py:func:`expect`), the operator in between (:py:func:`abort`,
:py:func:`confirm`); every step of a migration asks before it begins (:py:func:`leave`).
"""

import logging
import os
import time

import salt.utils.files
import salt.utils.json
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_run"

#: In /run: after a reboot nobody works here any more, and nothing of what was said counts.
ORDERS = "/run/ringfree/orders.json"
HOLDER = "/run/ringfree/holder.json"


def __virtual__():
    return __virtualname__


def _read(path):
    data = __utils__["ringfree_files.read"](path)
    try:
        found = salt.utils.json.loads(data) if data else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write(path, entries):
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    __utils__["ringfree_files.write"](path, salt.utils.json.dumps(entries).encode(), 0o600)


def expect(until=None):
    """
    Take the orders of a run that begins, or goes on, on this node; an abort of an earlier one is forgotten.

    until : None
        Seconds since the epoch at which the run has to be over; ``None`` for no deadline.

    Returns ``{"state": text, "containers": number to move, "confirmed": bool}``.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.expect
    """
    _write(ORDERS, {"until": until})
    return {
        "state": __salt__["cloudstor.state"](),
        "containers": len(__salt__["cloudstor.to_move"]()),
        "confirmed": confirmed(),
    }


def abort(by="root"):
    """
    Let no further step of a migration begin on this node, and end the copies that it makes now.

    vzctl's calls go on to their end: a container is stopped or not, never something in between.

    by : root
        Who says so.

    Returns the text that the next step fails with.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.abort
    """
    said = f"aborted by {by} at {__utils__['ringfree_window.clock'](time.time())}"
    _write(ORDERS, {**_read(ORDERS), "aborted": said})
    __salt__["ringfree_revert.end_busy"]()
    return said


def leave(step):
    """
    Whether a step may begin.

    step
        The step of a migration.

    Returns True.  Raises CommandExecutionError when the run was aborted, its deadline has passed, or the way back works
    on this node.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.leave stop
    """
    if step in ("revert", "failover"):
        return True
    held = holder()
    if held and held["pid"] != os.getpid():
        raise CommandExecutionError(f"{_who(held)}; {step} was not begun")
    orders = _read(ORDERS)
    if orders.get("aborted"):
        raise CommandExecutionError(f"the run was {orders['aborted']}; {step} was not begun")
    over = orders.get("until")
    if over and time.time() > over:
        raise CommandExecutionError(
            f"the deadline {__utils__['ringfree_window.clock'](over)} has passed; {step} was not begun"
        )
    return True


def until():
    """
    When the run that works on this node has to be over.

    Returns seconds since the epoch, or ``None`` when it has no deadline.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.until
    """
    return _read(ORDERS).get("until")


# --- confirmation -----------------------------------------------------------------------------------------------------


def confirm(by="root"):
    """
    Note in the journal that somebody wants this node to stay on NFS.

    by : root
        Who says so.

    Returns one sentence.  Raises CommandExecutionError when there is nothing to confirm: the node is not in flight, or
    not everything of it runs from NFS and answers.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.confirm
    """
    if __salt__["cloudstor.state"]() == "nfs":
        return __salt__["cloudstor.whereabouts"]()
    faults = ["no migration is under way"] if __salt__["cloudstor.state"]() == "local" else []
    faults = faults or __salt__["cloudstor.faults_on_nfs"]()
    if faults:
        raise CommandExecutionError(f"nothing was confirmed: {'; '.join(faults)}")
    __salt__["cloudstor.remember"]("confirmed", {"by": by, "at": time.time()})
    return f"{__salt__['cloudstor.node']()} is confirmed by {by}"


def confirmed():
    """
    Whether somebody has confirmed the migration under way.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.confirmed
    """
    return bool(__salt__["cloudstor.journal"]()["facts"].get("confirmed"))


# --- who works on the node --------------------------------------------------------------------------------------------


def holder():
    """
    Who holds this node for the way back.

    Returns ``{"what": text, "pid": number, "since": seconds}``, or ``None``; a holder whose process is gone holds
    nothing.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.holder
    """
    held = _read(HOLDER)
    born = __utils__["ringfree_command.born"](held.get("pid"))
    return held if born and held.get("born") == born else None


def _who(held):
    since = __utils__["ringfree_window.clock"](held["since"])
    return (
        f"'{held['what']}' works on this node since {since} as process {held['pid']}; it ends by itself, "
        f"'kill {held['pid']}' on the node ends it"
    )


def hold(what):
    """
    Take this node for the way back; no step of a migration begins until :py:func:`release`.

    what
        What takes it, for the words of a refusal.

    Returns the holder.  Raises CommandExecutionError when somebody else holds it.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.hold rollback
    """
    me = os.getpid()
    mine = {"what": what, "pid": me, "born": __utils__["ringfree_command.born"](me), "since": time.time()}
    os.makedirs(os.path.dirname(HOLDER), mode=0o700, exist_ok=True)
    # One at a time from the look to the write: two that both find nobody must not both take the node.
    with salt.utils.files.flopen(f"{HOLDER}.guard", "w"):
        held = holder()
        if held and held["pid"] != me:
            raise CommandExecutionError(f"{_who(held)}. Nothing was changed.")
        _write(HOLDER, mine)
    return mine


def release():
    """
    Let the node go.

    Returns True.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.release
    """
    held = holder()
    if held and held["pid"] == os.getpid():
        os.unlink(HOLDER)
    return True
