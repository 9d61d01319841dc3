"""
How containers start: priority first, each confirmed; the others a few at a time, held back by load and share.

:configuration: the pillar ``ringfree`` (``start``, ``containers``)
"""

import os
import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_start"

SLOW = 1.0  # seconds after which an answer of the share counts as slow


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["ringfree_settings.get"]()


def in_order(ctids, force=True, go_on=False, on_step=None):
    """
    Start containers from where their confs lead: those of ``ringfree:containers:priority`` one after the other, each
    answering before the next; then the others, ``ringfree:start:workers`` at a time and paced.

    Whether those others answer is for the caller to ask, once for all (:py:func:`answer`).

    ctids
        List of ids, in start order.

    force : True
        Start although DISABLED says no: the guard that keeps others from starting a container in flight.

    go_on : False
        Whether the next ones are started all the same when one does not start or answer.

    on_step : None
        For callers in Python: function called with ``(ctid, phase, note)``: ``intent`` before a container is started,
        ``done`` once it runs, ``verified`` once one of priority answers.

    Returns ``{"faults": [text], "silent": {ctid: text}}``: what did not start, and which of priority do not answer;
    both empty unless ``go_on``.  Raises CommandExecutionError at the first fault otherwise.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_start.in_order '[101, 102]'
    """
    tell = on_step or (lambda ctid, phase, note: None)
    names = _settings()["containers"]["priority"]
    first = set(__salt__["ringfree_owner.resolve"](names)["found"].values())
    found = {"faults": [], "silent": {}}
    for batch in _batches(ctids, first):
        try:
            _start(batch, batch[0] in first, force, tell)
        except CommandExecutionError as error:
            if not go_on:
                raise
            found["faults"].append(str(error))
            continue
        if batch[0] not in first:
            continue
        try:
            answer(batch, lambda ctid, said: tell(ctid, "verified", said))
        except CommandExecutionError as error:
            if not go_on:
                raise
            found["silent"][batch[0]] = str(error)
    return found


def _batches(ctids, first):
    """One of priority is a batch of its own."""
    size, rest = _settings()["start"]["workers"], [ctid for ctid in ctids if ctid not in first]
    alone = [[ctid] for ctid in ctids if ctid in first]
    return [*alone, *(rest[at : at + size] for at in range(0, len(rest), size))]


def _start(batch, at_once, force, tell):
    if not at_once:
        pace(batch)
    for ctid in batch:
        tell(ctid, "intent", None)
    __salt__["vz.start"](
        batch, len(batch), _settings()["start"]["deadline"], force, lambda ctid: tell(ctid, "done", None)
    )


def answer(ctids, on_answer=None):
    """
    Wait until the services of containers answer, and until each that was stopped in a migration, or way back, under way
    has again what it had before (``ringfree_fingerprint``); at most ``ringfree:start:answer`` seconds.

    ctids
        Ids.

    on_answer : None
        For callers in Python: function called with ``(ctid, text)`` once a container answers: what its services said.

    Returns the number of containers.  Raises CommandExecutionError naming each check that did not pass, and what is
    missing.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_start.answer '[101, 102]'
    """

    def note(ctid, answers):
        if on_answer:
            on_answer(ctid, ", ".join(f"{name}: {said['detail']}" for name, said in answers.items()))

    wanted = checks(ctids)
    wait, complete = _settings()["start"]["answer"], __salt__["ringfree_fingerprint.lacking"]
    return len(__salt__["vz.wait_healthy"](wanted, wait, note, complete))


def load():
    """
    The node's load and what counts as normal for it.

    Returns ``{"now": number, "normal": number}``: the load average of the last minute, and the larger of
    ``ringfree:start:load_per_cpu`` for each CPU and one and a half times the load before the migration.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_start.load
    """
    before = __salt__["ringfree_journal.read"]()["facts"].get("load", 0)
    per_cpu = _settings()["start"]["load_per_cpu"]
    return {"now": os.getloadavg()[0], "normal": round(max(per_cpu * (os.cpu_count() or 1), 1.5 * before), 2)}


def pace(ctids):
    """
    Hold the next start back while the load is above normal, or the share that the containers start from answers slowly
    (more than a second for one question), at most ``ringfree:start:pace`` seconds: they are down meanwhile.

    ctids
        The containers to start next.

    Returns the seconds that it held back.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_start.pace '[101, 102]'
    """
    wait = _settings()["start"]["pace"]
    share = _settings()["shares"]["private"]["mount"]
    on_share = __salt__["ringfree_nfs.on_share"]([__salt__["vz.config"](ctid)["private"] for ctid in ctids])
    started = time.monotonic()
    while time.monotonic() - started < wait:
        found = load()
        if found["now"] <= found["normal"] and not (on_share and _is_slow(share)):
            break
        time.sleep(0.5)
    return round(time.monotonic() - started, 1)


def _is_slow(share):
    question = ["stat", "--file-system", share]
    asked = __utils__["ringfree_command.run"](question, deadline=_settings()["nfs"]["deadline"])
    return asked["rc"] != 0 or asked["seconds"] >= SLOW


def wait_load():
    """
    Wait until the load is normal, at most ``ringfree:start:load_wait`` seconds.

    Returns what :py:func:`load` returns.  Raises CommandExecutionError when it stays above.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_start.wait_load
    """
    wait = _settings()["start"]["load_wait"]
    end = time.monotonic() + wait
    while True:
        found = load()
        if found["now"] <= found["normal"]:
            return found
        if time.monotonic() > end:
            raise CommandExecutionError(
                f"the load is {found['now']:.1f} after {wait} s, normal is up to {found['normal']:.1f} "
                f"(ringfree:start:load_per_cpu)"
            )
        time.sleep(1)


def checks(ctids):
    """
    The health checks of containers: those of the pillar without those from which a container is exempt.

    ctids
        List of ids.

    Returns a dictionary: id to its checks, as ``vz.health`` takes them.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_start.checks '[101, 104]'
    """
    wanted = __salt__["ringfree_settings.get"]()["containers"]
    exempt = {}
    for name, ctid in __salt__["ringfree_owner.resolve"](list(wanted["exempt"]))["found"].items():
        exempt.setdefault(ctid, set()).update(wanted["exempt"][name])
    return {
        ctid: {name: check for name, check in wanted["checks"].items() if name not in exempt.get(ctid, ())}
        for ctid in ctids
    }
