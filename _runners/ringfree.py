"""
What the operator types: plan, preflight, status, report, watch; and what the orchestrations call around the nodes.

.. code-block:: bash

    salt-run ringfree.plan
    salt-run state.orch migrate
    salt-run ringfree.report

:configuration: the pillar ``ringfree`` of the master (``pillar/ringfree/init.sls`` explains each key)
"""

import contextvars
import gc
import getpass
import itertools
import logging
import os
import secrets
import signal
import sys
import threading
import time

import salt.client
import salt.pillar
import salt.utils.event
import salt.utils.files
import salt.utils.json
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree"

PROGRESS = "ringfree/progress/"
END = "ringfree/end/"
#: The parts of a node's migration, in order; the dry run goes through the same ones.
PARTS = ("presync", "packages", "prepare", "cutover", "commit")
#: What a minion has of the project, brought in one job; saltutil.sync_all goes through 18 kinds of modules.
NEWEST = ("saltutil.sync_utils", "saltutil.sync_modules", "saltutil.sync_states", "saltutil.refresh_pillar")
ANSWER = 60  # seconds until a node is asked whether it still works on a question
REST = 30  # seconds until a node that still works on states is a reason not to migrate
QUEUE = 100  # states wait for a highstate that runs just now; see salt/orch/parts.sls
#: They end by themselves, and what they leave behind is no better for less of them.
TO_THE_END = ("rollback", "failover")
BRIEF = 15  # the same for the last question of a run, which a node that is down must not hold up


def __virtual__():
    return __virtualname__


def _utils(name):
    """The plain logic; the runner loader has __utils__ only where the master's utils are synced."""
    try:
        return __utils__[name]
    except KeyError as error:
        raise CommandExecutionError(
            "the modules are not synced to the master: 'salt-run saltutil.sync_all'"
        ) from error


def _settings(pillar=None):
    """The validated pillar of the orchestration, or of the master itself."""
    if pillar is None:
        grains = {"id": __opts__["id"]}
        compiled = salt.pillar.get_pillar(__opts__, grains, __opts__["id"], "base").compile_pillar()
        pillar = compiled.get("ringfree")
    checked = _utils("ringfree_pillar.validate")(pillar)
    if checked["faults"]:
        raise CommandExecutionError(
            "\n".join(
                ["The pillar is wrong, nothing was touched:", *(f"  {fault}" for fault in checked["faults"])]
            )
        )
    return checked["settings"]


def _names(nodes, settings):
    """The nodes asked for, which must be nodes of the fleet."""
    if nodes is None:
        return settings["nodes"]
    wanted = [nodes] if isinstance(nodes, str) else list(nodes)
    foreign = [str(node) for node in wanted if node not in settings["nodes"]]
    if foreign or not wanted:
        raise CommandExecutionError(
            f"not in ringfree:nodes of the pillar: {', '.join(foreign) or '(no node named)'}"
        )
    return [node for node in settings["nodes"] if node in wanted]


def _ask(nodes, function, arg=(), timeout=ANSWER, kwarg=None):
    """
    Ask nodes and wait as long as they work on the answer.

    Returns ``{"answers": {node: answer}, "faults": [text]}``; a node that does not answer is unknown, never well.
    """
    answers, faults = {}, []
    with salt.client.get_local_client(mopts=__opts__) as client:
        found = client.cmd(
            list(nodes),
            function,
            list(arg),
            tgt_type="list",
            timeout=timeout,
            # How long one that has not answered by then has for saying that it still works on it.
            gather_job_timeout=min(timeout, __opts__["gather_job_timeout"]),
            kwarg=kwarg or {},
            full_return=True,
        )
    for node in nodes:
        reply = found.get(node)
        if not isinstance(reply, dict) or "ret" not in reply or reply.get("out") == "no_return":
            faults.append(f"{node}: does not answer: 'salt {node} test.ping'")
        elif reply.get("retcode", 0) and not isinstance(reply["ret"], dict):
            faults.append(f"{node}: {reply['ret']}")
        else:
            answers[node] = reply["ret"]
    return {"answers": answers, "faults": faults}


def _collect_garbage():
    """
    Collect garbage now, and from here on between the parts of a run only, not in the middle of an import.

    What Salt's orchestration leaves behind imports modules when it is collected. Before Python 3.12 an import that is
    going on then ends with a KeyError, and the run with it: https://github.com/python/cpython/issues/91351
    """
    gc.set_threshold(0)  # gc.disable() would not last: Salt enables it again whenever it has read a message
    gc.collect()


def _refuse(message, raises=True):
    """Fail with a message: as an exception for salt-run, as an Error for an orchestration, which prints it in plain."""
    if raises:
        # Only an exception makes salt-run's exit code 1, and salt-run prints its traceback, which says nothing here.
        sys.tracebacklimit = 0
        raise CommandExecutionError(message)
    _say(message)
    return {"Error": message}


def _sync(minions, timeout=ANSWER):
    """Give minions the modules and the pillar that the questions need; returns faults."""
    arguments = [*([] for _ in NEWEST[:-1]), [{"__kwarg__": True, "wait": True}]]
    asked = _ask(minions, list(NEWEST), arguments, timeout=timeout)
    faults = asked["faults"]
    for minion, answers in asked["answers"].items():
        if not isinstance(answers, dict):
            faults.append(f"{minion}: {answers}")
            continue
        # A text is what went wrong; else it is a list, or a truth value.
        texts = {function: said for function, said in answers.items() if said and isinstance(said, str)}
        faults += [
            f"{minion}: {function}: {said.strip().splitlines()[-1]}" for function, said in texts.items()
        ]
    return faults


def _say(text):
    """A line for the terminal that runs this; stdout belongs to Salt's own output."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


# --- begin and end of a run -------------------------------------------------------------------------------------------


def _lock_path():
    return os.path.join(__opts__["cachedir"], "ringfree.lock")


def _holder():
    """Who holds the fleet's lock, or None; a holder whose process is gone holds nothing."""
    try:
        with salt.utils.files.fopen(_lock_path(), "rb") as stream:
            held = salt.utils.json.loads(stream.read())
        return held if held["born"] and _utils("ringfree_command.born")(held["pid"]) == held["born"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sync(minions, raises=True, timeout=ANSWER):
    """
    Bring minions the project's modules and the pillar as they are now.

    minions
        List of minions.

    raises : True
        Whether a fault is an exception, or a dictionary with ``Error`` (for orchestrations).

    timeout : 60
        Seconds until a minion is asked whether it still works on it.

    Returns the list.  Raises CommandExecutionError when a minion does not answer.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.sync '["node001"]'
    """
    faults = _sync(minions, timeout)
    return _refuse("\n".join(faults), raises) if faults else minions


def begin(what="migrate", pillar=None, nodes=None, raises=True, deadline=None):
    """
    Take the fleet's lock, check the pillar and the window, show progress in this terminal until :py:func:`end`.

    From here on Ctrl-C aborts the run as :py:func:`abort` does; a second one leaves everything as it is.

    what : migrate
        The orchestration, for the words of the lock.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    raises : True
        Whether a refusal is an exception, or a dictionary with ``Error`` (for orchestrations).

    deadline : None
        ``HH:MM`` or ``YYYY-MM-DD HH:MM``: when the run has to be over.  A migration also keeps ``ringfree:window``.

    Returns the list of nodes.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.begin
    """
    _collect_garbage()
    try:
        settings = _settings(pillar)
        names = _names(nodes, settings)
        window = settings["window"] if what == "migrate" else {"start": "", "end": ""}
        until = _utils("ringfree_window.end")(window, deadline, time.time())
    except (CommandExecutionError, ValueError) as error:
        return _refuse(
            f"{error}. Nothing was touched." if isinstance(error, ValueError) else str(error), raises
        )
    held = _lock(what, names, until)
    if held:
        return _refuse(
            f"'{held['what']}' runs since {_clock(held['since'])}, started by {held['user']} as process {held['pid']} "
            f"on this master; watch it with 'salt-run ringfree.watch', end it with 'salt-run ringfree.abort'. "
            f"Nothing was touched.",
            raises,
        )
    threading.Thread(target=_show, args=(dict(__opts__), os.getpid()), daemon=True).start()
    if what not in TO_THE_END:
        _take_interrupts()
    _say(
        f"{_clock(time.time())} {what}: {', '.join(names)}"
        + (f"; to be over by {_clock(until)}" if until else "")
    )
    return names


def _clock(moment):
    return _utils("ringfree_window.clock")(moment)


def _lock(what, names, until):
    """Take the lock; returns its holder when somebody else has it."""
    mine = {
        "pid": os.getpid(),
        "born": _utils("ringfree_command.born")(os.getpid()),
        "user": getpass.getuser(),
        "since": time.time(),
        "what": what,
        "nodes": names,
        "until": until,
    }
    path = _lock_path()
    temporary = f"{path}.new"
    # One at a time from the look to the write: two runs that both find a lock left behind must not both take it.
    with salt.utils.files.flopen(f"{path}.guard", "w"):
        held = _holder()
        if held:
            return held
        with salt.utils.files.fopen(temporary, "w") as stream:
            salt.utils.json.dump(mine, stream)
        os.rename(temporary, path)
    return None


def end(nodes=None, pillar=None):
    """
    Say where every node is, release the fleet's lock, stop showing progress.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    Returns a dictionary: node to one sentence.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.end
    """
    names = _names(nodes, _settings(pillar))
    asked = _ask(names, "cloudstor.whereabouts", timeout=BRIEF)
    for sentence in [*asked["answers"].values(), *asked["faults"]]:
        _say(f"{time.strftime('%H:%M:%S')} {sentence}")
    with salt.utils.event.get_event(
        "master", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=False
    ) as bus:
        bus.fire_event({"nodes": names}, f"{END}{os.getpid()}")
    held = _holder()
    if held and held["pid"] == os.getpid():
        os.unlink(_lock_path())
    return asked["answers"]


# --- what the operator says while it runs -----------------------------------------------------------------------------


def _update_lock(change):
    """Change the lock of the run under way by a function; returns the lock.  Raises when no run is under way."""
    path = _lock_path()
    with salt.utils.files.flopen(f"{path}.guard", "w"):
        held = _holder()
        if not held:
            raise CommandExecutionError("no run is under way on this master. Nothing was changed.")
        change(held)
        with salt.utils.files.fopen(f"{path}.new", "w") as stream:
            salt.utils.json.dump(held, stream)
        os.rename(f"{path}.new", path)
    return held


def _by():
    return f"{getpass.getuser()} at {_clock(time.time())}"


def pause():
    """
    Hold the run under way before the next part of a node's migration, until :py:func:`resume` or :py:func:`abort`.

    What a node is doing now goes on to its end. No container is down between two parts.

    Returns one sentence.  Raises CommandExecutionError when no run is under way.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.pause
    """
    try:
        held = _update_lock(lambda lock: lock.update(paused=_by()))
    except CommandExecutionError as error:
        return _refuse(str(error))
    return (
        f"'{held['what']}' will pause before its next part; 'salt-run ringfree.resume' goes on, "
        f"'salt-run ringfree.abort' ends it"
    )


def resume():
    """
    Let a paused run go on.

    Returns one sentence.  Raises CommandExecutionError when no run is under way.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.resume
    """
    try:
        return f"'{_update_lock(lambda lock: lock.update(paused=None))['what']}' goes on"
    except CommandExecutionError as error:
        return _refuse(str(error))


def abort():
    """
    End the run under way: no further step begins, copies are ended, and a node in flight goes back to local storage.

    Nodes that were committed stay on NFS.

    Returns one sentence.  Raises CommandExecutionError when no run is under way, or it is a rollback or a failover.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.abort
    """
    by = _by()

    def change(lock):
        if lock["what"] in TO_THE_END:
            raise CommandExecutionError(
                f"a {lock['what']} is not aborted: it ends by itself. Nothing was changed."
            )
        lock.update(aborted=by, paused=None)

    try:
        held = _update_lock(change)
    except CommandExecutionError as error:
        return _refuse(str(error))
    asked = _ask(held["nodes"], "ringfree_run.abort", [by], timeout=BRIEF)
    return "\n".join(
        [f"'{held['what']}' ends, and nodes in flight go back to local storage", *asked["faults"]]
    )


def commit(node):
    """
    Say that a node in flight, on which everything answers, stays on NFS (``ringfree:confirm: manual``).

    The run that waits for this word goes on; where none does, the node is committed at once.

    node
        The node.

    Returns one sentence.  Raises CommandExecutionError when there is nothing to confirm.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.commit node001
    """
    (name,) = _names(node, _settings())
    asked = _ask([name], "ringfree_run.confirm", [getpass.getuser()])
    if not asked["faults"] and not _holder():
        faults = _apply(name, "ringfree.commit")["faults"]
        asked = {"faults": faults} if faults else _ask([name], "cloudstor.whereabouts")
    if asked["faults"]:
        _refuse("\n".join(asked["faults"]))
    return asked["answers"][name]


def gate(node, part, pillar=None, raises=True):
    """
    Whether a part of a node's migration may begin: not aborted, not paused, confirmed, and enough time for the rest and
    for the way back.

    node
        The node.

    part
        ``presync``, ``packages``, ``prepare``, ``cutover`` or ``commit``.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether a refusal is an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns True.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.gate node001 cutover
    """
    _collect_garbage()
    settings = _settings(pillar)
    (name,) = _names(node, settings)
    held = _holder() or {}
    until = held.get("until")
    asked = _ask([name], "ringfree_run.expect", [until])
    if asked["faults"]:
        return _refuse("\n".join(asked["faults"]), raises)
    told = asked["answers"][name]
    _measure(name, part, told["containers"])
    fault = _wait_for_leave(name, part) or _no_time(name, part, told, until, settings)
    if not fault and part == "commit" and told["state"] != "nfs" and settings["confirm"] == "manual":
        fault = _wait_for_confirmation(name, settings["confirm_within"], until)
    return _refuse(fault, raises) if fault else True


def _wait_for_leave(node, part):
    """Wait while the run is paused; returns what to say when it was aborted."""
    told = False
    while True:
        held = _holder() or {}
        if held.get("aborted"):
            return f"{node}: the run was aborted by {held['aborted']}; {part} was not begun"
        if not held.get("paused"):
            return None
        if not told:
            _say(
                f"{_clock(time.time())} paused by {held['paused']} before {part} of {node}: 'salt-run ringfree.resume' "
                f"goes on, 'salt-run ringfree.abort' ends the run"
            )
            told = True
        time.sleep(0.5)


def _no_time(node, part, told, until, settings):
    """What to say when there is not enough time left for a part, those after it, and the way back."""
    if not until or told["state"] == "nfs":
        return None
    if part == "commit":
        late = f"{node}: the deadline {_clock(until)} has passed; {part} was not begun"
        return late if time.time() > until else None
    # Without the commit, which takes no time.
    rest = PARTS[PARTS.index(part) : PARTS.index("commit")]
    reserve = settings["window"]["reserve"]
    wanted = _utils("ringfree_window.need")(_measured(), rest, told["containers"], reserve)
    left = until - time.time()
    if left >= wanted:
        return None
    return (
        f"{node}: {max(0, left):.0f} s are left until {_clock(until)}; {part}, what comes after it, and the way back "
        f"take {wanted:.0f} s by what was measured on this fleet, or ringfree:window:reserve; {part} was not begun"
    )


def _wait_for_confirmation(node, within, until):
    """Wait for the operator's word; returns what to say when it does not come in time."""
    within = min(within, max(0, until - time.time())) if until else within
    end = time.time() + within
    _say(
        f"{_clock(time.time())} {node} runs from NFS and answers: 'salt-run ringfree.commit {node}' keeps it there, "
        f"otherwise it goes back at {_clock(end)}"
    )
    while time.time() < end:
        if _ask([node], "ringfree_run.confirmed")["answers"].get(node):
            return None
        aborted = (_holder() or {}).get("aborted")
        if aborted:
            return f"{node}: the run was aborted by {aborted}; it was not committed"
        time.sleep(1)
    return f"{node}: nobody said 'salt-run ringfree.commit {node}' within {within:.0f} s"


def _measured_path():
    return os.path.join(__opts__["cachedir"], "ringfree.measured")


def _measured():
    """What the parts took on this fleet so far; nothing when that cannot be read."""
    try:
        with salt.utils.files.fopen(_measured_path(), "rb") as stream:
            found = salt.utils.json.loads(stream.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _measure(node, part, containers):
    """Note when a part of a node begins, and what the part before it took."""
    now, before = time.time(), []

    def change(lock):
        gates = lock.setdefault("gates", {})
        before[:] = gates.get(node, [])
        gates[node] = [part, now]

    try:
        _update_lock(change)
    except CommandExecutionError:
        return  # typed by hand, outside of a run
    if not before or not containers:
        return
    path = _measured_path()
    with salt.utils.files.flopen(f"{path}.guard", "w"):
        kept = _utils("ringfree_window.note")(_measured(), before[0], round(now - before[1], 1), containers)
        with salt.utils.files.fopen(f"{path}.new", "w") as stream:
            salt.utils.json.dump(kept, stream)
        os.rename(f"{path}.new", path)


def _take_interrupts():
    """Ctrl-C aborts the run in order: what is in flight goes back. A second one leaves everything as it is."""
    if threading.current_thread() is not threading.main_thread():
        return
    # Salt's loader keeps its __opts__ and __utils__ in context variables, which a new thread lacks
    # (https://github.com/saltstack/salt/issues/59962).
    pid, context = os.getpid(), contextvars.copy_context()

    def interrupted(number, frame):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if os.getpid() != pid:
            return
        _say(
            "\nCtrl-C: nodes in flight go back to local storage. Ctrl-C again leaves them as they are: "
            "'salt-run state.orch migrate' continues then, 'rollback' undoes."
        )
        threading.Thread(target=context.run, args=(abort,), daemon=True).start()

    signal.signal(signal.SIGINT, interrupted)


# --- progress ---------------------------------------------------------------------------------------------------------


def _show(opts, pid=None):
    """Print progress as it happens, until the run of a process ends; for ever without one."""
    with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as bus:
        while True:
            event = bus.get_event(wait=1, full=True, tag="ringfree/", auto_reconnect=True)
            if event is None:
                continue
            if pid and event["tag"] == f"{END}{pid}":
                return
            if event["tag"].startswith(PROGRESS):
                _say(_line(event["data"].get("data", {})))


def _line(data):
    """One line of progress."""
    clock = time.strftime("%H:%M:%S", time.localtime(data.get("at", time.time())))
    words = {"intent": "...", "done": "done", "verified": "ok", "failed": "FAILED"}
    parts = [clock, str(data.get("node", "")), str(data.get("step", ""))]
    if data.get("container") is not None:
        parts.append(str(data["container"]))
    parts.append(words.get(data.get("phase"), str(data.get("phase"))))
    if data.get("note"):
        parts.append(str(data["note"]))
    return " ".join(parts)


def watch():
    """
    Show the progress of whatever runs, in another terminal than its own, until Ctrl-C.

    Returns nothing.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.watch
    """
    try:
        _show(__opts__)
    except KeyboardInterrupt:
        pass


# --- before -----------------------------------------------------------------------------------------------------------


def silence(nodes, pillar=None, raises=True):
    """
    Stop the monitoring services (``ringfree:monitoring``) when at least one node is still to move; else leave them.

    nodes
        List of nodes.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether a failure is an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns one sentence.  Raises CommandExecutionError when a node or the monitoring host does not answer, or the
    services do not stop.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.silence '["node001"]'
    """
    settings = _settings(pillar)
    names = _names(nodes, settings)
    if not settings["monitoring"]["host"]:
        return "The pillar names no monitoring host."
    asked = _ask(names, "cloudstor.state")
    if asked["faults"]:
        return _refuse("\n".join(asked["faults"]), raises)
    if all(asked["answers"][node] == "nfs" for node in names):
        return "Every node is on NFS: monitoring stays as it is."
    done = _apply(settings["monitoring"]["host"], "ringfree.monitoring.silent")
    return _refuse("\n".join(done["faults"]), raises) if done["faults"] else done["said"]


def _apply(minion, sls):
    """Apply an SLS to a minion.  Returns ``{"faults": [text], "said": text}``."""
    asked = _ask([minion], "state.sls", [sls], kwarg={"queue": QUEUE})
    states = asked["answers"].get(minion)
    if not isinstance(states, dict):
        return {"faults": asked["faults"] or [f"{minion}: {states}"], "said": ""}
    faults = [state["comment"] for state in states.values() if state["result"] is False]
    return {"faults": faults, "said": "\n".join(state["comment"] for state in states.values())}


def preflight(nodes=None, pillar=None, raises=True):
    """
    Look at everything that could stop a migration, on all nodes, before anything changes.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether findings are an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns a dictionary: node to its notes.  Raises CommandExecutionError with all findings of all nodes in one
    message.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.preflight
    """
    try:
        settings = _settings(pillar)
        names = _names(nodes, settings)
    except CommandExecutionError as error:
        return _refuse(str(error), raises)
    # An orchestration has a step for this.
    silent = _sync(names) if raises else []
    silent = silent or _wait_rest(names)
    asked = _ask(names, "ringfree_preflight.look") if not silent else {"answers": {}, "faults": []}
    findings = silent + asked["faults"]
    reports = {}
    for node, report in asked["answers"].items():
        if not isinstance(report, dict):
            findings.append(f"{node}: {report}")
            continue
        reports[node] = report
        findings += [f"{node}: {finding}" for finding in report["findings"]]
    findings += _across(reports) + _check_monitoring(settings)
    if findings:
        lines = [
            f"Preflight found {len(findings)} reasons not to migrate. Nothing was stopped and nothing was changed."
        ]
        return _refuse("\n".join(lines + [f"  {finding}" for finding in findings]), raises)
    return {node: report["notes"] for node, report in reports.items()}


def _across(reports):
    """What only shows when the nodes are looked at together: they share confs, private areas and the SAN's room."""
    findings = []
    for key, what in (("ctid", "container id"), ("name", "container name"), ("ip", "IP address")):
        seen = {}
        for node, report in reports.items():
            for ctid, entry in report["containers"].items():
                values = {"ctid": [ctid], "name": [entry["name"]], "ip": entry["ip"]}[key]
                for value in values:
                    if value:
                        seen.setdefault(str(value), set()).add(f"{node}/{ctid}")
        for value, places in seen.items():
            if len(places) > 1:
                findings.append(f"{', '.join(sorted(places))}: the same {what} {value}")
    for kind in ("bytes", "inodes"):
        need = sum(report["need"].get(kind, 0) for report in reports.values())
        free = min((report["free"][kind] for report in reports.values() if report["free"]), default=None)
        if free is not None and need > free:
            findings.append(f"the SAN has {_amount(free, kind)} free and {_amount(need, kind)} are needed")
    return findings


def _amount(number, kind):
    return f"{number / 1e6:.0f} MB" if kind == "bytes" else f"{number} inodes"


def _wait_rest(nodes):
    """
    Wait a little until no node works on states: a job goes on when the run that gave it dies.

    Returns a text for each that does not come to rest.
    """
    told, end, known = False, time.monotonic() + REST, {}
    while True:
        jobs = _earlier(known, _ask(nodes, "saltutil.is_running", ["state.*"])["answers"])
        busy = [
            f"{node}: still works on {job['fun']} of job {job['jid']}; wait for its end: "
            f"'salt {node} saltutil.running'"
            for node, job in jobs
        ]
        if not busy or time.monotonic() > end:
            return busy
        if not told:
            _say("\n".join(busy))
            told = True
        time.sleep(1)


def _earlier(known, answers):
    """
    The jobs that nodes had when they were first asked, and all of ours: `(node, job)` each.

    A highstate that begins later is no reason to wait: it leaves a node in flight alone, and the queue of the states
    that come next waits for it.
    """
    for node, jobs in answers.items():
        known.setdefault(node, {job["jid"] for job in jobs})
    return [
        (node, job)
        for node, jobs in answers.items()
        for job in jobs
        if job["jid"] in known[node] or "ringfree." in repr(job.get("arg"))
    ]


def _check_monitoring(settings):
    """The monitoring host answers and knows its services."""
    wanted = settings["monitoring"]
    if not wanted["services"]:
        return []
    asked = _ask([wanted["host"]], "service.get_all")
    if asked["faults"]:
        return asked["faults"]
    known = asked["answers"][wanted["host"]]
    missing = [service for service in wanted["services"] if service not in known]
    return [
        f"{wanted['host']}: there is no service {service} (ringfree:monitoring:services)"
        for service in missing
    ]


def plan(nodes=None):
    """
    The dry run: preflight, then what every step of the migration would change on every node.  Changes nothing.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    Returns text.  Raises CommandExecutionError when preflight finds reasons not to migrate.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.plan
    """
    names = _names(nodes, _settings())
    notes = preflight(names)
    lines = []
    for node in names:
        asked = _ask(
            [node],
            "state.sls",
            [",".join(f"ringfree.{part}" for part in PARTS)],
            kwarg={"test": True, "queue": QUEUE},
        )
        lines += [
            f"{node}:",
            *(f"  note: {note}" for note in notes[node]),
            *(f"  {fault}" for fault in asked["faults"]),
        ]
        answer = asked["answers"].get(node, {})
        if not isinstance(answer, dict):
            _refuse(f"{node}: {answer}")
        for step in sorted(answer.values(), key=lambda step: step["__run_num__"]):
            lines += _planned(step)
    return "\n".join(lines)


def _planned(step):
    """The lines of the plan for one state."""
    if step["result"] is False:
        return [f"  WOULD FAIL {step['__id__']}: {step['comment']}"]
    if not step["changes"]:
        return [f"  nothing    {step['__id__']}"]
    lines = [f"  change     {step['__id__']}"]
    for key, change in step["changes"].items():
        if isinstance(change, dict) and set(change) == {"old", "new"}:
            lines.append(f"               {key}: {change['old']} -> {change['new']}")
        else:
            lines.append(f"               {key}: {change}")
    return lines


def wait_idle(nodes, pillar=None, raises=True):
    """
    Prove that nothing of an earlier job works on nodes any more; end what does not end by itself.

    A job that the master gave up on may go on, and the commands of a killed job outlive it.

    nodes
        List of nodes.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether a refusal is an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns the list of nodes.  Raises CommandExecutionError when a node does not answer or does not come to rest.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.wait_idle '["node001"]'
    """
    settings = _settings(pillar)
    names = _names(nodes, settings)
    wait, known = settings["rollback"]["idle"], {}
    end_jobs, give_up = time.monotonic() + wait, time.monotonic() + 3 * wait
    while True:
        asked, left = _ask(names, "saltutil.is_running", ["state.*"]), _ask(names, "ringfree_revert.busy")
        faults = asked["faults"] or left["faults"]
        jobs = _earlier(known, asked["answers"])
        busy = [f"{node} still works on {job}" for node, job in jobs]
        busy += [f"{node} still works on {work}" for node, work in left["answers"].items() if work]
        if not faults and not busy:
            return names
        if time.monotonic() > give_up:
            return _refuse("\n".join(faults + busy), raises)
        if time.monotonic() > end_jobs:
            for node, job in jobs:
                _ask([node], "saltutil.kill_job", [job["jid"]])
            _ask(names, "ringfree_revert.end_busy")
        time.sleep(1)


# --- cleanup ----------------------------------------------------------------------------------------------------------


def consent(*nodes):
    """
    Show what a cleanup would move aside or delete on nodes, and give the word for it.

    The word counts for ``ringfree:cleanup:consent`` minutes, for these nodes, for one run, and for exactly this list.

    Returns text: the list, what is left alone and why, and the command.  Raises CommandExecutionError when something
    cannot be known.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.consent node001 node002
    """
    settings = _settings()
    names = _names(nodes, settings)
    word = f"{secrets.token_hex(2)}-{secrets.token_hex(2)}"
    faults = _sync(names)
    asked = _ask(names, "ringfree_cleanup.consent", [word, names, getpass.getuser()]) if not faults else {}
    faults = faults or asked["faults"]
    if faults:
        return _refuse("\n".join([*faults, "Nothing was touched, and no consent was given."]))
    lines, items = [], []
    for node in names:
        found = asked["answers"][node]
        items += found["items"]
        lines += [f"{node}:", *map(_cleanup_line, found["items"])]
        lines += [f"  left alone  {entry['what']}: {entry['why']}" for entry in found["left"]]
    if not items:
        return "\n".join([*lines, "There is nothing to clean up."])
    pillar = salt.utils.json.dumps({"nodes": names, "consent": word})
    total = sum(item["bytes"] for item in items) / 1e6
    minutes = settings["cleanup"]["consent"]
    lines.append(
        f"{len(items)} directories, {total:.1f} MB. This and nothing else, within {minutes} minutes:"
    )
    return "\n".join([*lines, f"  salt-run state.orch cleanup pillar='{pillar}'"])


def _cleanup_line(item):
    """One line of the list that a consent is for."""
    what = {
        "private": f"container {item['ctid']} {item['name'] or ''}".strip(),
        "replaced": "what a way back replaced",
    }
    since = {"move aside": "on NFS for", "delete": "aside for"}[item["action"]]
    since = "replaced" if (item["action"], item["kind"]) == ("move aside", "replaced") else since
    words = [
        f"{item['files']} files",
        f"{item['bytes'] / 1e6:.1f} MB",
        f"{since} {item['age'] / 86400:.1f} days",
    ]
    if item["missing"]:
        words.append(f"{item['missing']} of them are not on the share any more")
    return f"  {item['action']:<10}  {item['path']} ({what[item['kind']]}): {', '.join(words)}"


def consented(word, nodes, pillar=None, raises=True):
    """
    Begin a cleanup with a consent, on all of its nodes or on none.

    word
        The word that :py:func:`consent` gave.

    nodes
        List of nodes.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether a refusal is an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns the list of nodes.  Raises CommandExecutionError when the consent does not count on one of them.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.consented 7f3a-91c2 '["node001"]'
    """
    names = _names(nodes, _settings(pillar))
    if not word:
        return _refuse(
            f"Nobody has consented to this. Nothing was touched. See what would go, and get the word: "
            f"'salt-run ringfree.consent {' '.join(names)}'",
            raises,
        )
    asked = _ask(names, "ringfree_cleanup.take", [str(word), names])
    if asked["faults"]:
        return _refuse("\n".join(asked["faults"]), raises)
    return names


# --- from one SAN to the other ----------------------------------------------------------------------------------------


def failover_plan(to, nodes=None, accept_age=False, max_age=None, pillar=None, raises=True):
    """
    What a failover would do on each node, and what would be lost.  Changes nothing.

    to
        ``primary`` or ``secondary``.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    accept_age : False
        Whether a copy may be older than ``ringfree:replication:max_age``.

    max_age : None
        Seconds; ``None`` for ``ringfree:replication:max_age``.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether a refusal is an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns text, a line for each node.  Raises CommandExecutionError with all that stands in the way.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.failover_plan secondary
    """
    try:
        names = _names(nodes, _settings(pillar))
    except CommandExecutionError as error:
        return _refuse(str(error), raises)
    findings = _sync(names) if raises else []
    asked = (
        {"answers": {}, "faults": []}
        if findings
        else _ask(names, "ringfree_failover.look", [to, accept_age, max_age])
    )
    findings += asked["faults"]
    lines = []
    for node, seen in asked["answers"].items():
        findings += [
            f"{node}: {finding}" for finding in (seen["findings"] if isinstance(seen, dict) else [seen])
        ]
        lines += [seen["said"]] if isinstance(seen, dict) and seen["said"] else []
    if findings:
        head = f"There are {len(findings)} reasons not to fail over. Nothing was stopped and nothing was changed."
        return _refuse("\n".join([head, *(f"  {finding}" for finding in findings)]), raises)
    if not raises:
        _say("\n".join(lines))
    return "\n".join(lines)


def failover_gate(node, before, pillar=None, raises=True):
    """
    Whether a node may leave its SAN: no other job works on it, and while the SAN answers the nodes before have arrived.

    node
        The node.

    before
        List of nodes that went before it in this run.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether a refusal is an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns True.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.failover_gate node002 '["node001"]'
    """
    _collect_garbage()
    (name,) = _names(node, _settings(pillar))
    busy = _wait_rest([name])
    if busy:
        return _refuse("\n".join(busy), raises)
    states = _ask(before, "cloudstor.state")["answers"] if before else {}
    stuck = [other for other in before if states.get(other) != "nfs"]
    silent = _ask([name], "ringfree_nfs.silent") if stuck else {"answers": {}, "faults": []}
    if silent["faults"]:
        return _refuse("\n".join(silent["faults"]), raises)
    if stuck and not silent["answers"][name]:
        return _refuse(
            f"{name} was not begun: its SAN answers, and {', '.join(stuck)} did not arrive", raises
        )
    return True


def replication(nodes=None):
    """
    Which SAN each node uses, and how old the copy of its containers on the other one is.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    Returns text, a line for each node.  Raises CommandExecutionError when a copy is missing or older than
    ``ringfree:replication:max_age``, so that monitoring can ask this.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.replication
    """
    asked = _ask(_names(nodes, _settings()), "ringfree_replica.status")
    lines = [seen["said"] for seen in asked["answers"].values()] + asked["faults"]
    if asked["faults"] or not all(seen["ok"] for seen in asked["answers"].values()):
        _refuse("\n".join(lines))
    return "\n".join(lines)


# --- after ------------------------------------------------------------------------------------------------------------


def status(nodes=None):
    """
    Where every container is now, and what the journals say.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    Returns a dictionary: node to what ``cloudstor.status`` returns.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.status
    """
    asked = _ask(_names(nodes, _settings()), "cloudstor.status")
    return {**asked["answers"], **({"faults": asked["faults"]} if asked["faults"] else {})}


def report(nodes=None):
    """
    A table: node, container, name, store, health checks now, downtime in the migration.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    Returns text.  Raises CommandExecutionError when a container of a manifest does not answer, or a node does not.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.report
    """
    asked = _ask(_names(nodes, _settings()), "cloudstor.report")
    rows = [("node", "container", "name", "store", "checks", "downtime")]
    bad = list(asked["faults"])
    for node, entries in asked["answers"].items():
        for entry in entries:
            down = "-" if entry["downtime"] is None else f"{entry['downtime']:.1f} s"
            rows.append(
                (node, str(entry["ctid"]), entry["name"] or "-", entry["store"], entry["checks"], down)
            )
            bad += [f"{node}: container {entry['ctid']}: {fault}" for fault in entry["faults"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = "\n".join(
        "  ".join(itertools.starmap(str.ljust, zip(row, widths, strict=True))).rstrip() for row in rows
    )
    if bad:
        _refuse("\n".join([table, *bad]))
    return table


# --- a node that booted without its share, and a container that changes its node --------------------------------------


def bring_up(nodes=None):
    """
    Bring up committed nodes that booted while the SAN was away: shares, vz, and the containers that were to start.

    Nodes on which nothing waits stay as they are; a container that somebody stopped is not started.

    nodes : None
        List of nodes, or one; ``None`` for all of the pillar.

    Returns a dictionary: node to one sentence.  Raises CommandExecutionError naming each node that is not up.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.bring_up node001
    """
    asked = _ask(_names(nodes, _settings()), "ringfree_boot.bring_up")
    said = {node: _brought(done) for node, done in asked["answers"].items()}
    if asked["faults"]:
        _refuse("\n".join([*(f"{node}: {text}" for node, text in said.items()), *asked["faults"]]))
    return said


def _brought(done):
    """What became of a node, in a sentence or a few."""
    if not isinstance(done, dict):
        return str(done)
    words = [f"mounted {', '.join(done['mounted'])}"] if done["mounted"] else []
    words += ["started vz"] if done["vz"] else []
    words += [f"started containers {', '.join(map(str, done['started']))}"] if done["started"] else []
    left = [f"Container {ctid} was not started: {why}." for ctid, why in done["left"].items()]
    return " ".join([f"{', '.join(words) or 'nothing to do'}.", *left, done["now"]])


def move_owner(ctid, to, dead=None):
    """
    Make a container on the share another node's, so that it can start there.  It has to be down.

    All nodes of the pillar are asked whether it runs.  When its owner does not answer nothing is changed, unless you
    say that it is dead: off, and not to come back by itself.

    ctid
        The container's id.

    to
        The node that is to own it.

    dead : None
        The owner's minion id, when it is dead.

    Returns one sentence.  Raises CommandExecutionError when it was not moved.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.move_owner 101 to=node002
    """
    settings = _settings()
    (to,) = _names(to, settings)
    if not str(ctid).isdecimal():
        _refuse(f"'{ctid}' is no container id. Nothing was changed.")
    ctid = int(ctid)
    owner = _one(to, "ringfree_owner.records").get(ctid)
    if not owner:
        _refuse(f"container {ctid} has no owner record on the share: the first node that starts it owns it")
    if owner["node"] == to:
        _one(to, "ringfree_owner.take", ctid)
        return f"container {ctid} belongs to {to} since {owner['since']}"
    running = _ask(settings["nodes"], "vz.running", timeout=BRIEF)
    there = [node for node, up in running["answers"].items() if ctid in up]
    if there:
        _refuse(f"container {ctid} runs on {', '.join(there)}: stop it there first. Nothing was changed.")
    if owner["node"] in running["answers"]:
        if dead:
            _refuse(
                f"{owner['node']} answers, it is not dead. Without dead={dead} it is asked. Nothing was changed."
            )
        _one(owner["node"], "ringfree_owner.give", ctid, to)
    elif dead != owner["node"]:
        _refuse(
            f"container {ctid} belongs to {owner['node']}, which does not answer: it may run there. Nothing was "
            f"changed. Only when that node is off and does not come back by itself: 'salt-run ringfree.move_owner "
            f"{ctid} to={to} dead={owner['node']}'"
        )
    _one(to, "ringfree_owner.take", *([ctid, dead] if dead else [ctid]))
    return f"container {ctid} belongs to {to} now, it was {owner['node']}'s: 'vzctl start {ctid}' on {to} starts it"


def _one(node, function, *arg):
    """Ask one node, which must answer well."""
    asked = _ask([node], function, arg)
    if asked["faults"]:
        _refuse("\n".join(asked["faults"]))
    return asked["answers"][node]
