"""
The node's journal: which step of a migration was about to happen, happened, was proved; and what is to be remembered.

:configuration: the pillar ``ringfree``
"""

import logging
import os
import pickle
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_journal"

JOURNAL = "/var/lib/ringfree/journal.json"
NOBODY_LISTENS = "ringfree_journal.nobody_listens"
#: The journal as it was read and checked last, in Salt's memory: the same bytes are not checked again.
CHECKED = "ringfree_journal.checked"


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def read():
    """
    The node's journal.

    Returns the journal; a new one, in state ``local``, when there is none.  Raises CommandExecutionError for a
    damaged one.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.read
    """
    found = load()
    if found["fault"]:
        raise CommandExecutionError(
            f"{JOURNAL} is damaged: {found['fault']}. Nothing was changed. 'salt {__opts__['id']} cloudstor.status' "
            f"shows where the containers really are, 'salt {__opts__['id']} cloudstor.recover_journal' writes a new "
            f"one from that; a rollback does so by itself."
        )
    return found["journal"] or __utils__["ringfree_journal.new"](__opts__["id"], time.time())


def load():
    """
    The journal's file, also a damaged one.

    Returns ``{"journal": dictionary or None, "fault": text or None}``; neither when there is no file.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.load
    """
    try:
        data = __utils__["ringfree_files.read"](JOURNAL)
    except OSError as error:
        return {"journal": None, "fault": str(error)}
    if data is None:
        return {"journal": None, "fault": None}
    if __context__.get(CHECKED, [None])[0] != data:
        __context__[CHECKED] = [data, pickle.dumps(_checked(data))]
    return pickle.loads(__context__[CHECKED][1])


def _checked(data):
    try:
        kept = __utils__["ringfree_seal.load_json"](data, __utils__["ringfree_journal.keys"]())
        fault = __utils__["ringfree_journal.fault"](kept)
    except ValueError as error:
        fault = str(error)
    return {"journal": None if fault else kept, "fault": fault}


def _keep(new):
    __utils__["ringfree_files.keep"](JOURNAL, __utils__["ringfree_seal.dump_json"](new))
    return new


def fault():
    """
    What is wrong with the journal's file.

    Returns text, or ``None`` when it can be read or there is none.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.fault
    """
    return load()["fault"]


def mark(step, phase, container=None, note=None):
    """
    Note in the journal, and tell the master, how far a step has come.

    step
        A step of the migration, such as ``stop``.

    phase
        ``intent``, ``done`` or ``verified``.

    container : None
        A container's id when the step is noted for one container.

    note : None
        A text for people.

    Returns the journal.  Raises CommandExecutionError, and notes nothing, when a step may not begin (see
    ``ringfree_run.leave``).

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.mark stop verified container=101
    """
    if phase == "intent":
        __salt__["ringfree_run.leave"](step)
    new = _keep(__utils__["ringfree_journal.mark"](read(), step, phase, time.time(), container, note))
    announce(step, phase, container, note)
    return new


def announce(step, phase, container=None, note=None):
    """
    Tell the master how far a step has come, for the people who watch; nothing depends on it.

    step
        A step of the migration.

    phase
        ``intent``, ``done`` or ``verified``.

    container : None
        A container's id.

    note : None
        A text for people.

    Returns nothing.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.announce stop done container=101
    """
    data = {
        "node": __opts__["id"],
        "step": step,
        "phase": phase,
        "container": container,
        "note": __utils__["ringfree_command.printable"](note, lines=True),
        "at": time.time(),
    }
    if __context__.get(NOBODY_LISTENS):
        return
    try:
        sent = __salt__["event.send"](f"ringfree/progress/{__opts__['id']}", data)
        # The dead man's switch tells a minion that may be dead; each try then takes a second while containers are down.
        __context__[NOBODY_LISTENS] = not sent and "ringfree_deadman" in __opts__
    except Exception:  # pylint: disable=broad-except
        log.warning("the master could not be told about %s %s", step, phase, exc_info=True)


def reached(step, phase="verified", container=None):
    """
    Whether a step has come as far as a phase in the migration under way, or in the one that was committed.

    On a node that rests on local storage no step counts: those in the journal are of a migration that was undone.

    step
        A step of the migration.

    phase : verified
        The phase.

    container : None
        A container's id.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.reached snapshot
    """
    current = read()
    return current["state"] != "local" and __utils__["ringfree_journal.reached"](
        current, step, phase, container
    )


def restarted_locally(ctid):
    """
    Whether a way back started a container from local storage since it was last started from the share.

    Its newest data is there then, whatever its owner record says: the share may not have been told.

    ctid
        The container's id.

    Returns True or False.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.restarted_locally 101
    """
    steps = read()["containers"].get(str(ctid), {})
    when = {step: steps.get(step, {}).get("intent", 0) for step in ("revert", "start")}
    return when["revert"] > when["start"]


def remember(key, value):
    """
    Keep a fact of this migration in the journal.

    key
        Its name.

    value
        Anything that JSON can hold.

    Returns the journal.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.remember load 0.4
    """
    new = read()
    new["facts"][key] = value
    return _keep(new)


def state():
    """
    What the journal says of the node: ``local``, ``in_flight`` or ``nfs``.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.state
    """
    return read()["state"]


def set_state(state):
    """
    Note in the journal that the node rests: on NFS after a commit, on local storage after the way back.

    state
        ``nfs`` or ``local``.

    Returns the journal.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.set_state nfs
    """
    current = read()
    if current["state"] == state:
        return current
    return _keep(__utils__["ringfree_journal.settle"](current, state, time.time()))


def begin():
    """
    Open, or continue, a migration of this node.

    Returns the journal.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.begin
    """
    return _keep(__utils__["ringfree_journal.begin"](read(), time.time()))


def recover(fault, seen):
    """
    Replace a damaged or lost journal by one that follows from what was found on the node.

    A damaged file stays beside it.

    fault
        What is wrong with the old one.

    seen
        What was found, as ``recovered`` in ``_utils/ringfree_journal.py`` takes it.

    Returns the journal.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_journal.recover 'it was lost' '{"mounted": false, "confs": [], "guarded": false, \
            "armed": false, "manifest": [], "on_nfs": [], "up": [101], "snapshot": false, "owned": []}'
    """
    now = time.time()
    if os.path.exists(JOURNAL):
        os.rename(JOURNAL, f"{JOURNAL}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}")
    return _keep(__utils__["ringfree_journal.recovered"](__opts__["id"], now, fault, seen))
