"""
What a run may still do on this node: whether it was aborted, until when it has time, and who works on the node now.

The master's runner says so before each part (:py:func:`order`), the operator in between (:py:func:`abort`); every step
of a migration asks before it begins (:py:func:`leave`).
"""

import logging
import os
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_run"

#: In /run: after a reboot nobody works here any more, and nothing of what was said counts.
ORDERS = "/run/ringfree/orders.json"
HOLDER = "/run/ringfree/holder.json"
#: The records of commands that were begun, and who brings the node back by itself.
COMMANDS = "/run/ringfree/commands"
AT_WORK = "/run/ringfree/deadman"


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _orders():
    """What was said for the run under way; raises for a damaged file, which says neither that nor nothing."""
    data = __utils__["ringfree_files.read"](ORDERS)
    try:
        said = __utils__["ringfree_seal.load_json"](data, ["orders"])["orders"] if data is not None else {}
        if not isinstance(said, dict):
            raise ValueError("it says nothing")
    except ValueError as error:
        raise CommandExecutionError(
            f"{ORDERS} is damaged: {error}. What was said for this run, an abort or a deadline, is unknown. "
            f"'rm {ORDERS}' on the node forgets it, the next run says its own"
        ) from error
    return said


def order(until=None):
    """
    Take the orders of a run that begins, or goes on, on this node; an abort of an earlier one is forgotten.

    until : None
        Seconds since the epoch at which the run has to be over; ``None`` for no deadline.

    Returns nothing.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.order
    """
    _keep({"until": until})


def _keep(entries):
    os.makedirs(os.path.dirname(ORDERS), mode=0o700, exist_ok=True)
    data = __utils__["ringfree_seal.dump_json"]({"orders": entries})
    __utils__["ringfree_files.write"](ORDERS, data, 0o600)


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
    try:
        orders = _orders()
    except CommandExecutionError as error:
        log.warning("%s", error)
        orders = {}
    _keep({**orders, "aborted": said})
    end_busy()
    return said


def leave(step):
    """
    Whether a step may begin.

    step
        The step of a migration.

    Returns True.  Raises CommandExecutionError when the run was aborted, its deadline has passed, what was said for it
    is damaged, or the way back works on this node.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.leave stop
    """
    if step in ("revert", "failover"):
        return True
    held = holder()
    if held and held["pid"] != os.getpid():
        raise CommandExecutionError(f"{_who(held)}; {step} was not begun")
    orders = _orders()
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

    Returns seconds since the epoch, or ``None`` when it has no deadline.  Raises CommandExecutionError when what was
    said for the run is damaged.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.until
    """
    return _orders().get("until")


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
    return __utils__["ringfree_process.holder"](HOLDER)


def _who(held):
    since = __utils__["ringfree_window.clock"](held["since"])
    return (
        f"'{held['what']}' works on this node since {since} as process {held['pid']}; it ends by itself, "
        f"'kill {held['pid']}' on the node ends it"
    )


def take(lock, what):
    """
    Take a lock of this node for this process, in a folder that only root enters.

    lock
        The lock's file.

    what
        What takes it, for the words of a refusal.

    Returns ``None``, or its holder when it is taken: ``{"what": text, "pid": number, "since": seconds}``.  Raises
    CommandExecutionError when somebody looks at the lock and does not end.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.take /run/ringfree/replication replication
    """
    __utils__["ringfree_files.folder"](os.path.dirname(lock))
    try:
        return __utils__["ringfree_process.take"](lock, {"what": what})
    except TimeoutError as error:
        raise CommandExecutionError(f"{error}. Nothing was changed.") from error


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
    held = take(HOLDER, what)
    if held and held["pid"] != os.getpid():
        raise CommandExecutionError(f"{_who(held)}. Nothing was changed.")
    return holder()


def release():
    """
    Let the node go.

    Returns True.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.release
    """
    __utils__["ringfree_process.release"](HOLDER)
    return True


def busy():
    """
    Commands of an earlier job that still run on this node: copies, calls of vzctl, a dead man's switch that fires.

    A job of Salt that was killed, or that the master gave up on, leaves them behind.  They are known by the records
    that were written when they began.

    Returns a dictionary: process id to command.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.busy
    """
    left = __utils__["ringfree_process.commands"](COMMANDS)
    return {
        **{pid: work["command"] for pid, work in left.items()},
        **firing(),
    }


def end_busy():
    """
    End the copies that an earlier job left behind; calls of vzctl and a dead man's switch that fires end by themselves.

    Returns what still runs afterwards, as :py:func:`busy` does.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.end_busy
    """
    for work in __utils__["ringfree_process.commands"](COMMANDS).values():
        if work["program"] == "rsync":
            __utils__["ringfree_process.end"](work)
    return busy()


def begin_firing():
    """
    Say that this process brings the node back because its deadline has passed; one at a time.

    Returns ``None``, or whoever does so already, as ``ringfree_run.take`` does.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.begin_firing
    """
    return take(AT_WORK, "ringfree_rollback.fire")


def end_firing():
    """
    Say that this process has ended what :py:func:`begin_firing` has begun.

    Returns True when it had begun it.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.end_firing
    """
    return __utils__["ringfree_process.release"](AT_WORK)


def firing():
    """
    Whether the dead man's switch is at work just now, in another process.

    Returns a dictionary: process id to what it does; an empty one when none is.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_run.firing
    """
    held = __utils__["ringfree_process.holder"](AT_WORK)
    return {} if held is None or held["pid"] == os.getpid() else {held["pid"]: held["what"]}
