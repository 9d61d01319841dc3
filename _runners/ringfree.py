"""
What the operator types: plan, preflight, status, report, watch; and what the orchestrations call around the nodes.

.. code-block:: bash

    salt-run ringfree.plan
    salt-run state.orch migrate
    salt-run ringfree.report

:configuration: the pillar ``ringfree`` of the master (``pillar/ringfree/init.sls`` explains each key)
"""

import atexit
import contextvars
import functools
import gc
import getpass
import hashlib
import inspect
import itertools
import logging
import os
import secrets
import signal
import sys
import threading
import time

import salt.client
import salt.config
import salt.fileserver
import salt.pillar
import salt.utils.event
import salt.utils.files
import salt.utils.json
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree"

PROGRESS = "ringfree/progress/"
END = "ringfree/end/"
#: The thread that shows progress; after this in its name the word that ends it, which no minion knows.
SHOW = "ringfree-show-"
#: The parts of a node's migration, in order; the dry run goes through the same ones.
PARTS = ("presync", "packages", "prepare", "cutover", "commit")
#: What a minion has of the project, brought in one job; saltutil.sync_all goes through 18 kinds of modules.
NEWEST = ("saltutil.sync_utils", "saltutil.sync_modules", "saltutil.sync_states", "saltutil.refresh_pillar")
ANSWER = 60  # seconds until a node is asked whether it still works on a question
PATIENCE = 10  # seconds at least that a node has for saying that it still works on a question; Salt's default
REST = 30  # seconds until a node that still works on states is a reason not to migrate
#: States wait for a highstate that runs just now; a number does that, True does not:
#: https://github.com/saltstack/salt/issues/68694
QUEUE = 100
#: Parts during which every container runs: what is left of one whose job was lost is done when its node is back.
BEFORE_STOP = ("presync", "packages", "prepare")
#: A file of ours that every tree has, and no other one.
ANCHOR = "_modules/ringfree_preflight.py"
#: They end by themselves, and what they leave behind is no better for less of them.
TO_THE_END = ("rollback", "failover")
SCREEN = 8  # seconds that nodes have for the screen of the fleet; the whole of it takes no more than ten
BRIEF = 15  # as ANSWER for the last question of a run, which a node that is down must not hold up
UNTOUCHED = "Nothing was touched."
SHOWN = 2000  # characters of a word in a line of progress
LAST_LINES = 15  # of what is said once more when everything has ended: the end of a screen
LAST_WORDS = (
    "ringfree_last_words"  # what the process's main thread has them by: each loader has a runner of its own
)
LAST = 1 << 36  # seconds since the epoch that are no time of a run any more


#: What Salt says in or after an orchestration and is nobody's fault, or was said in plain words: logger, and how the
#: text begins. 3008 misses a close() of its own (salt/runner.py, salt/minion.py: warn_until_close); the outputter gets
#: the empty result of a state that changed nothing on any minion; what failed is shown once more, as a dictionary.
NOISE = {
    "salt.runner": "unclosed Runner <",
    "salt.minion": "unclosed MasterMinion <",
    "salt.loaded.int.output.highstate": "Data passed to highstate outputter is not a valid highstate return: {}",
    "salt.state": ("{'return': {'Error': ", "{'return': {'data': {"),
}


def __init__(opts):
    for name, beginning in NOISE.items():
        logger = logging.getLogger(name)
        # A process may load runners again and again.
        if not any(getattr(known, "args", None) == (beginning,) for known in logger.filters):
            logger.addFilter(functools.partial(_is_said, beginning))


def __virtual__():
    return __virtualname__


def _is_said(beginning, record):
    """A filter of a logger: all is said but what begins with a text, or one of some."""
    try:
        return not record.getMessage().startswith(beginning)
    except (TypeError, ValueError):
        return True  # logging says by itself what is wrong with it


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
    """The nodes asked for, which must be nodes of the fleet; all of it for None."""
    if nodes is None:
        return settings["nodes"]
    wanted = [nodes] if isinstance(nodes, str) else list(nodes) if isinstance(nodes, tuple) else nodes
    return _checked("nodes", wanted, settings["nodes"])


def _node(node, settings):
    """The node asked for, which must be one of the fleet."""
    return _checked("node", node, settings["nodes"])


def _checked(word, value, nodes=None):
    """A value that was typed, when it is right."""
    found = _utils("ringfree_pillar.word")(word, value, nodes)
    if found["fault"]:
        raise CommandExecutionError(f"{found['fault']}. {UNTOUCHED}")
    return found["value"]


def _checks_arguments(*words):
    """
    For what is typed: a call that is wrong is refused with exit code 1 and in one sentence, and so is all that fails;
    what is answered can be shown and carried, whatever nodes have said.

    Salt itself ends with exit code 0 when an argument is unknown or missing, and prints a traceback for what is raised.
    `words` are arguments that have a rule in ringfree_pillar; those that name nodes are checked with the pillar.
    """

    def wrap(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args, **kwargs):
            # Salt adds some of its own, such as __pub_user.
            given = {name: value for name, value in kwargs.items() if not name.startswith("__")}
            raises = given.get("raises") is not False
            try:
                call = signature.bind(*args, **given)
            except TypeError as error:
                takes = ", ".join(signature.parameters) or "nothing"
                return _refuse(f"ringfree.{function.__name__} takes {takes}: {error}. {UNTOUCHED}", raises)
            try:
                for word in {*words, "raises"}.intersection(call.arguments):
                    call.arguments[word] = _checked(word, call.arguments[word])
                return _shown(function(*call.args, **call.kwargs))
            except CommandExecutionError as error:
                return _refuse(str(error), raises)
            except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
                log.exception("ringfree.%s", function.__name__)
                said = f"{type(error).__name__}: {error}"
                return _refuse(f"a node answered what cannot be read ({said}); the log has more", raises)

        del checked.__wrapped__  # Salt would look at that one's arguments
        checked.checks_arguments = True
        return checked

    return wrap


def _ask(nodes, function, arg=(), timeout=ANSWER, kwarg=None):
    """
    Ask nodes and wait as long as they work on the answer.

    Returns ``{"answers": {node: answer}, "faults": [text], "silent": [node]}``; a node that does not answer is unknown,
    never well.
    """
    answers, faults, silent = {}, [], []
    with salt.client.get_local_client(mopts=__opts__) as client:
        found = client.cmd(
            list(nodes),
            function,
            list(arg),
            tgt_type="list",
            timeout=timeout,
            # How long one that has not answered by then has for saying that it still works on it.
            gather_job_timeout=min(timeout, max(PATIENCE, __opts__["gather_job_timeout"])),
            kwarg=kwarg or {},
            full_return=True,
        )
    for node in nodes:
        try:
            reply = _shown(found.get(node))
        except RecursionError:
            reply = {"ret": "answers with what is too deep to be read", "retcode": 1}
        if not isinstance(reply, dict) or "ret" not in reply or reply.get("out") == "no_return":
            faults.append(f"{node}: does not answer: 'salt {node} test.ping'")
            silent.append(node)
        elif reply.get("retcode", 0) and not isinstance(reply["ret"], dict):
            faults.append(f"{node}: {reply['ret']}")
        else:
            answers[node] = reply["ret"]
    return {"answers": answers, "faults": faults, "silent": silent}


def _ask_within(nodes, function, seconds):
    """
    Ask nodes, and wait for so many seconds and no longer, whatever they work on.

    Returns ``{"answers": {node: answer}, "faults": {node: text}}``.
    """
    answers, faults, end = {}, {}, time.monotonic() + seconds
    with salt.client.get_local_client(mopts=__opts__) as client:
        job = client.run_job(list(nodes), function, tgt_type="list", timeout=seconds, listen=True)
        # Without a jid nobody was asked: no node has a key here.
        while job and len(answers) + len(faults) < len(nodes) and time.monotonic() < end:
            reply = client.event.get_event(
                wait=max(0.1, end - time.monotonic()), tag=f"salt/job/{job['jid']}/ret/", auto_reconnect=True
            )
            if not isinstance(reply, dict) or reply.get("id") not in nodes:
                continue
            try:
                said = _shown(reply.get("return"))
            except RecursionError:
                said = "it answers what is too deep to be read"
            if isinstance(said, dict) and not reply.get("retcode"):
                answers[reply["id"]] = said
            else:
                faults[reply["id"]] = _unanswered(reply["id"], function, str(said))
    for node in nodes:
        if node not in answers:
            faults.setdefault(
                node, f"does not answer within {seconds} s: 'salt {node} test.ping' says whether it lives"
            )
    return {"answers": answers, "faults": faults}


def _unanswered(node, function, said):
    """What there is to say of a node that answered no question but with a text."""
    if said != f"'{function}' is not available.":
        return said
    return f"{said} Its modules are missing or older than the master's: 'salt {node} saltutil.sync_all' brings them"


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
        raise CommandExecutionError(_shown(message)) from None
    _say(message)
    _say_last(message)
    return {"Error": _shown(message)}


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
    sys.stderr.write(f"{_shown(text)}\n")
    sys.stderr.flush()


def _say_last(text):
    """Say something once more below Salt's own output, which on a terminal has moved it away."""
    if not sys.stdout.isatty():
        return
    kept = vars(threading.main_thread())
    if LAST_WORDS not in kept:
        kept[LAST_WORDS] = []
        atexit.register(_say_last_words, kept[LAST_WORDS])
    kept[LAST_WORDS] += _shown(text).splitlines()


def _say_last_words(lines):
    left_out = len(lines) - LAST_LINES
    if left_out > 0:
        lines = [*lines[: LAST_LINES - 1], f"... and {left_out + 1} lines more, above Salt's own output"]
    _say("\n".join(["", *lines]))


def _shown(value):
    """Whatever a node said, as it may be shown on a terminal."""
    try:
        printable = _utils("ringfree_command.printable")
    except (CommandExecutionError, TypeError):
        # Only words of our own get here: before any node was asked, and in the handler of Ctrl-C.
        return value
    return printable(value, lines=True)


# --- begin and end of a run -------------------------------------------------------------------------------------------


def _lock_path():
    """The fleet's lock, in a folder that only the master's user enters."""
    return os.path.join(__opts__["cachedir"], "ringfree", "lock")


def _holder():
    """Who holds the fleet's lock, or None; a holder whose process is gone holds nothing."""
    return _utils("ringfree_process.holder")(_lock_path())


def _locked(function, *arguments):
    """Call a function of the lock; who holds it up is named, and not waited for longer than a few seconds."""
    try:
        _utils("ringfree_files.folder")(os.path.dirname(_lock_path()))
        return _utils(f"ringfree_process.{function}")(_lock_path(), *arguments)
    except OSError as error:
        raise CommandExecutionError(f"the fleet's lock: {error}. {UNTOUCHED}") from error


@_checks_arguments("minions", "timeout")
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


@_checks_arguments("what", "deadline")
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
    settings = _settings(pillar)
    names = _names(nodes, settings)
    window = settings["window"] if what == "migrate" else {"start": "", "end": ""}
    try:
        until = _utils("ringfree_window.end")(window, deadline, time.time())
    except ValueError as error:
        return _refuse(f"{error}. {UNTOUCHED}", raises)
    if until:
        _measured()  # by which each part is judged
    held = _lock(what, names, until)
    if held:
        return _refuse(
            f"'{held['what']}' runs since {_clock(held['since'])}, started by {held['user']} as process {held['pid']} "
            f"on this master; watch it with 'salt-run ringfree.watch', end it with 'salt-run ringfree.abort'. "
            f"Nothing was touched.",
            raises,
        )
    word = secrets.token_hex(16)
    # Salt's loader keeps its __opts__ and __utils__ in context variables, which a new thread lacks
    # (https://github.com/saltstack/salt/issues/59962).
    threading.Thread(
        target=contextvars.copy_context().run,
        args=(_show, dict(__opts__), word),
        daemon=True,
        name=f"{SHOW}{word}",
    ).start()
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
    return _locked("take", {"what": what, "user": getpass.getuser(), "nodes": names, "until": until})


@_checks_arguments()
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
        _say_last(sentence)
    with salt.utils.event.get_event(
        "master", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=False
    ) as bus:
        bus.fire_event({"nodes": names, "word": _end_word()}, f"{END}{os.getpid()}")
    _utils("ringfree_process.release")(_lock_path())
    return asked["answers"]


# --- what the operator says while it runs -----------------------------------------------------------------------------


def _update_lock(change):
    """
    Change the lock of the run under way by a function; returns the lock.  Raises when no run is under way.

    The function is called by another of Salt's loaders, where it does not find its own ``__utils__``.
    """
    held = _locked("change", change)
    if not held:
        raise CommandExecutionError("no run is under way on this master. Nothing was changed.")
    return held


def _by():
    return f"{getpass.getuser()} at {_clock(time.time())}"


@_checks_arguments()
def pause():
    """
    Hold the run under way before the next part of a node's migration, until :py:func:`resume` or :py:func:`abort`.

    What a node is doing now goes on to its end. No container is down between two parts.

    Returns one sentence.  Raises CommandExecutionError when no run is under way.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.pause
    """
    by = _by()
    held = _update_lock(lambda lock: lock.update(paused=by))
    return (
        f"'{held['what']}' will pause before its next part; 'salt-run ringfree.resume' goes on, "
        f"'salt-run ringfree.abort' ends it"
    )


@_checks_arguments()
def resume():
    """
    Let a paused run go on.

    Returns one sentence.  Raises CommandExecutionError when no run is under way.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.resume
    """
    return f"'{_update_lock(lambda lock: lock.update(paused=None))['what']}' goes on"


@_checks_arguments()
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

    held = _update_lock(change)
    asked = _ask(held["nodes"], "ringfree_run.abort", [by], timeout=BRIEF)
    return "\n".join(
        [f"'{held['what']}' ends, and nodes in flight go back to local storage", *asked["faults"]]
    )


@_checks_arguments()
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
    name = _node(node, _settings())
    asked = _ask([name], "cloudstor.confirm", [getpass.getuser()])
    if not asked["faults"] and not _holder():
        faults = _apply(name, "ringfree.commit")["faults"]
        asked = {"faults": faults} if faults else _ask([name], "cloudstor.whereabouts")
    if asked["faults"]:
        _refuse("\n".join(asked["faults"]))
    return asked["answers"][name]


@_checks_arguments("part")
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
    name = _node(node, settings)
    held = _holder() or {}
    until = held.get("until")
    asked = _ask([name], "cloudstor.expect", [until])
    if asked["faults"]:
        return _refuse("\n".join(asked["faults"]), raises)
    told = asked["answers"][name]
    _measure(name, part, told["containers"])
    fault = _wait_for_leave(name, part) or _no_time(name, part, told, until, settings)
    if not fault and part == "commit" and told["state"] != "nfs" and settings["confirm"] == "manual":
        fault = _wait_for_confirmation(name, settings["confirm_within"], until)
    return _refuse(fault, raises) if fault else True


@_checks_arguments("part")
def part(node, part, pillar=None, raises=True):
    """
    Do a part of a node's migration, and wait for its end.

    Its end is told by the node, and not only by the answer of the job: a minion that is restarted or replaced
    meanwhile, as by the node's own update, never sends one.  Once the node is back and at rest a dry run says what is
    left of the part.  That is done then if every container still runs; otherwise the part has failed.

    node
        The node.

    part
        ``presync``, ``packages``, ``prepare``, ``cutover`` or ``commit``.

    pillar : None
        The value of the pillar key ``ringfree``; ``None`` for the master's own.

    raises : True
        Whether a failure is an exception, or a dictionary with ``Error`` (for orchestrations).

    Returns a dictionary: node to what its states returned.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.part node001 presync
    """
    settings = _settings(pillar)
    name = _node(node, settings)
    done = _apply(name, f"ringfree.{part}", settings["timeout"])
    if done["silent"]:
        done = _after_silence(name, part, settings)
    faults = done["faults"] or (_not_there(name) if part == "commit" else [])
    failed = _refuse("\n".join(faults), raises) if faults else {}
    return {**failed, name: done["states"]}


def _not_there(node):
    """That all went well is held against where the node says that it is."""
    asked = _ask([node], "ringfree_journal.state")
    if asked["answers"].get(node) == "nfs":
        return []
    return asked["faults"] or [f"{node}: every step said that it went well, and the node is not committed"]


def _after_silence(node, part, settings):
    """What became of a part whose job did not answer; returns what :py:func:`_apply` does."""
    sls, again = f"ringfree.{part}", part in BEFORE_STOP
    _say(
        f"{_clock(time.time())} {node}: the job of {part} did not answer; the node itself is asked what became of it"
    )
    for turn in (1, 2):
        fault = _wait_back(node, settings["rollback"]["idle"] if again else BRIEF)
        if fault:
            return {"states": {}, "faults": [fault]}
        seen = _apply(node, sls, settings["timeout"], test=True)
        left = [state["__id__"] for state in seen["states"].values() if state["result"] is not True]
        if seen["faults"] or not left:
            return seen
        if not again or turn == 2:
            break
        _say(f"{_clock(time.time())} {node}: {part} goes on with: {'; '.join(left)}")
        done = _apply(node, sls, settings["timeout"])
        if not done["silent"]:
            return done
    return {
        "states": {},
        "faults": [
            f"{node}: the job of {part} was lost, as with a minion that was restarted, before: {'; '.join(left)}"
        ],
    }


def _wait_back(node, patience):
    """
    Wait until a node answers and nothing of its job works on it any more.

    It may be silent for so many seconds; how long it works is its own affair.  Returns what is wrong, or None.
    """
    silent_until = time.monotonic() + patience
    while True:
        jobs = _ask([node], "saltutil.is_running", ["state.*"], timeout=BRIEF)
        left = _ask([node], "ringfree_run.busy", timeout=BRIEF)
        faults = jobs["faults"] or left["faults"]
        if not faults:
            ours = [job for job in jobs["answers"][node] if "ringfree." in repr(job.get("arg"))]
            if not ours and not left["answers"][node]:
                return None
            silent_until = time.monotonic() + patience
        elif time.monotonic() > silent_until:
            return faults[0]
        time.sleep(1)


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
        if _ask([node], "cloudstor.confirmed")["answers"].get(node):
            return None
        aborted = (_holder() or {}).get("aborted")
        if aborted:
            return f"{node}: the run was aborted by {aborted}; it was not committed"
        time.sleep(1)
    return f"{node}: nobody said 'salt-run ringfree.commit {node}' within {within:.0f} s"


def _measured_path():
    return os.path.join(__opts__["cachedir"], "ringfree", "measured")


def _measured():
    """What the parts took on this fleet so far; raises when that is damaged."""
    path = _measured_path()
    try:
        data = _utils("ringfree_files.read")(path)
        if data is None:
            return {}
        kept = _utils("ringfree_seal.load_json")(data, ["measured"])["measured"]
        fault = _utils("ringfree_window.fault")(kept)
    except (OSError, ValueError) as error:
        fault = str(error)
    if fault:
        raise CommandExecutionError(
            f"{path} is damaged: {fault}. 'rm {path}' removes it: the next runs measure anew, and until then "
            f"ringfree:window:reserve counts. {UNTOUCHED}"
        )
    return kept


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
    try:
        with _utils("ringfree_process.guard")(path, "measure"):
            kept = _utils("ringfree_window.note")(
                _measured(), before[0], round(now - before[1], 1), containers
            )
            _utils("ringfree_files.keep")(path, _utils("ringfree_seal.dump_json")({"measured": kept}))
    except (OSError, CommandExecutionError) as error:  # no reason to hold a node
        _say(f"{_clock(time.time())} what {node} took is not kept: {error}")


def _take_interrupts():
    """Ctrl-C aborts the run in order: what is in flight goes back. A second one leaves everything as it is."""
    if threading.current_thread() is not threading.main_thread():
        return
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


def _end_word():
    """The word that ends the show of this process, or None where it has none."""
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith(SHOW)]
    return names[-1].removeprefix(SHOW) if names else None


def _show(opts, word=None):
    """Print progress as it happens, until the run that has this word ends; for ever without one."""
    ignored = 0
    with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as bus:
        while True:
            event = bus.get_event(wait=1, full=True, tag="ringfree/", auto_reconnect=True)
            if event is None:
                continue
            if event["tag"].startswith(END):
                if word and _is_end(event, word):
                    break
            elif event["tag"].startswith(PROGRESS):
                told = _told(event)
                ignored += told is None
                if told:
                    _say(_line(told))
                elif (
                    str(ignored).strip("0") == "1"
                ):  # 1, 10, 100: whoever sends many does not fill the screen
                    _say(_ignored(ignored, event["tag"]))
    if ignored:
        _say(_ignored(ignored))


def _is_end(event, word):
    return isinstance(event["data"], dict) and event["data"].get("word") == word


def _ignored(count, tag=None):
    """What is said of events that are none; the tag of the last one."""
    last = f", the last one as {tag.removeprefix(PROGRESS)[:SHOWN]}" if tag else ""
    said = f"{count} events were ignored that are not what a node says of itself{last}"
    return _utils("ringfree_command.printable")(f"{_clock(time.time())} {said}")


def _told(event):
    """
    The progress that a minion tells of itself; None for any other event.

    The tag and what is in the event are the minion's own words, its ``id`` is the master's.
    """
    data, minion = event["data"], event["tag"].removeprefix(PROGRESS)
    told = data.get("data") if isinstance(data, dict) else None
    if not isinstance(told, dict) or not data.get("id") == minion == told.get("node"):
        return None
    kinds = {"step": str, "phase": str, "at": (int, float), "container": (int, str), "note": str}
    needed = ("step", "phase", "at")
    for key, kind in kinds.items():
        value = told.get(key)
        if not isinstance(value, kind) and (key in needed or value is not None):
            return None
    # Also no truth value, and no number that is none.
    return told if type(told["at"]) is not bool and 0 <= told["at"] < LAST else None


def _line(told):
    """One line of progress."""
    clock = time.strftime("%H:%M:%S", time.localtime(told["at"]))
    words = {"intent": "...", "done": "done", "verified": "ok", "failed": "FAILED"}
    parts = [clock, told["node"], told["step"]]
    if told.get("container") is not None:
        parts.append(str(told["container"]))
    parts.append(words.get(told["phase"], told["phase"]))
    if told.get("note"):
        parts.append(told["note"])
    return _utils("ringfree_command.printable")(" ".join(part[:SHOWN] for part in parts))


@_checks_arguments()
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


@_checks_arguments()
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
    asked = _ask(names, "ringfree_journal.state")
    if asked["faults"]:
        return _refuse("\n".join(asked["faults"]), raises)
    if all(asked["answers"][node] == "nfs" for node in names):
        return "Every node is on NFS: monitoring stays as it is."
    done = _apply(settings["monitoring"]["host"], "ringfree.monitoring.silent")
    return _refuse("\n".join(done["faults"]), raises) if done["faults"] else done["said"]


def _apply(minion, sls, timeout=ANSWER, test=False):
    """
    Apply an SLS to a minion, from the environment base and in the mode that is said here, whatever its configuration
    says.

    Returns ``{"states": {state: result}, "faults": [text], "said": text, "silent": bool}``.
    """
    kwarg = {"queue": QUEUE, "test": test, "saltenv": "base"}
    asked = _ask([minion], "state.sls", [sls], timeout=timeout, kwarg=kwarg)
    states = asked["answers"].get(minion)
    if not isinstance(states, dict) or not states:
        faults = asked["faults"] or [f"{minion}: {states or f'it ran no state of {sls}'}"]
        return {"states": {}, "faults": faults, "said": "", "silent": bool(asked["silent"])}
    good = (True, None) if test else (True,)  # live, None is a state that was not run
    faults = [state["comment"] for state in states.values() if state["result"] not in good]
    said = "\n".join(state["comment"] for state in states.values())
    return {"states": states, "faults": faults, "said": said, "silent": False}


@_checks_arguments()
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
    settings = _settings(pillar)
    names = _names(nodes, settings)
    # An orchestration has a step for this.
    silent = _sync(names) if raises else []
    silent = silent or _wait_rest(names)
    asked = _ask(names, "ringfree_preflight.look") if not silent else {"answers": {}, "faults": []}
    findings = _check_master() + silent + asked["faults"]
    reports = {}
    for node, report in asked["answers"].items():
        if not isinstance(report, dict):
            findings.append(f"{node}: {report}")
            continue
        reports[node] = report
        findings += [f"{node}: {finding}" for finding in report["findings"]]
    files = _served()
    findings += files["faults"] + _strangers(files, reports)
    findings += (
        _twice(reports) + _room(reports) + _unlike_confs(reports) + _check_monitoring(settings, files, raises)
    )
    if findings:
        lines = [
            f"Preflight found {len(findings)} reasons not to migrate. Nothing was stopped and nothing was changed."
        ]
        return _refuse("\n".join(lines + [f"  {finding}" for finding in findings]), raises)
    return {node: report["notes"] for node, report in reports.items()}


def _check_master():
    """What the master's own configuration would make of a run."""
    test = __opts__.get("test") and salt.config.master_config(__opts__["conf_file"])["test"]
    return _utils("ringfree_settings.of_master")(__opts__, test)


def _served():
    """
    Our files as the master serves them.

    Returns ``{"sums": {name: SHA-256 of each module}, "faults": [text]}``, with a fault for each file that lies in the
    way of one of ours.
    """
    server = salt.fileserver.Fileserver(__opts__)
    ours, is_module = _utils("ringfree_settings.tree"), _utils("ringfree_settings.is_ours")
    home = _home(server.find_file(ANCHOR, "base"))
    sums, faults = {}, []
    for name in filter(ours, server.file_list({"saltenv": "base"})):
        found = server.find_file(name, "base")
        if _home(found) != home and (home[0] != "roots" or os.path.exists(os.path.join(home[1], name))):
            faults.append(
                f"salt://{name} comes from {found['path']}, which lies in the way of this project's file in "
                f"{home[1]}: rename the one, or have the other come first (file_roots, fileserver_backend)"
            )
        if is_module(name):
            sums[name] = _sum(found["path"])
    return {"sums": sums, "faults": faults or _old(sums)}


def _sum(path):
    try:
        with salt.utils.files.fopen(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return None


def _old(sums):
    """What the master itself has loaded and is not as it is served."""
    beside = os.path.dirname(sys.modules[_utils("ringfree_files.write").__module__].__file__)
    loaded = {
        name: __file__ if name.startswith("_runners/") else os.path.join(beside, os.path.basename(name))
        for name in sums
        if name.startswith(("_runners/", "_utils/"))
    }
    return [
        f"{path} is not {name} as this master serves it: 'salt-run saltutil.sync_all' brings it; else something lies "
        f"in its way (module_dirs, runner_dirs, utils_dirs of the master)"
        for name, path in loaded.items()
        if _sum(path) != sums[name]
    ]


def _home(found):
    """The backend and the folder that a file of the file server comes from."""
    return found.get("back"), found["path"].removesuffix(found["rel"]).rstrip("/")


def _strangers(files, reports):
    """What minions load in the place of our files; not where these are the wrong ones already."""
    sums = {name: sum_ for name, sum_ in files["sums"].items() if not name.startswith("_runners/")}
    if files["faults"]:
        return []
    version = _utils("ringfree_version.of_project")()
    findings = []
    for minion, report in reports.items():
        has = report.get("version")
        if has != version:
            # Each of its files may be another one: one sentence says it.
            findings.append(
                f"{minion}: has {f'version {has}' if has else 'an older version'} of this project, the master "
                f"{version}: 'salt {minion} saltutil.sync_all' brings it"
            )
        else:
            strange = _utils("ringfree_settings.strangers")(sums, report["loaded"])
            findings += [f"{minion}: {fault}" for fault in strange]
    return findings


#: What two containers may not have the same, and what would come of it.
ONCE = {
    "container id": "the SAN has one place for both; give one of them another id, or the nodes exports of their own "
    "({node} in ringfree:shares)",
    "container name": "once the nodes share their confs it would mean another container on each of them; rename one: "
    "'vzctl set CTID --name NAME --save'",
    "IP address": "both run, and after its stop one of them may not get it again; take it from one: 'vzctl set CTID "
    "--ipdel ADDRESS --save'",
}


def _twice(reports):
    """What two containers have and may not; where nothing comes of it, it becomes a note of their nodes."""
    seen, findings = {}, {}
    for node, report in reports.items():
        for ctid, entry in report["containers"].items():
            for what, scope, value in _unique(ctid, entry, report.get("shares", {})):
                seen.setdefault((what, scope, value), {})[f"{node}/{ctid}"] = entry
    for (what, _, value), places in seen.items():
        said = f"{', '.join(sorted(places))}: the same {what} {value}"
        if what == "IP address" and sum(entry["running"] for entry in places.values()) < 2 <= len(places):
            for node in sorted({place.partition("/")[0] for place in places}):
                reports[node]["notes"].append(f"{said}; no more than one of them runs")
        elif len(places) > 1:
            findings[f"{said}: {ONCE[what]}"] = None
    return list(findings)


def _unique(ctid, entry, shares):
    """What no other container may have, and among whom: `(what, among, value)` each."""
    # A node with exports of its own shares nothing; and a NAME counts only where vzctl has a link for it.
    found = [("container id", shares.get(name), str(ctid)) for name in ("private", "conf")]
    found += [("container name", shares.get("conf"), entry["known_as"])] if entry["known_as"] else []
    return found + [("IP address", None, address.partition("/")[0]) for address in entry["ip"]]


def _room(reports):
    """Whether each SAN has room for what all nodes bring to it together."""
    findings, servers = [], {}
    for report in reports.values():
        if report["free"]:
            server = report.get("shares", {}).get("private", "").partition(":")[0]
            servers.setdefault(server, []).append(report)
    for server, bringing in servers.items():
        for kind in ("bytes", "inodes"):
            need = sum(report["need"].get(kind, 0) for report in bringing)
            known = [report["free"][kind] for report in bringing if report["free"].get(kind) is not None]
            if known and need > min(known):
                findings.append(
                    f"the SAN {server} has {_amount(min(known), kind)} free and {_amount(need, kind)} are needed"
                )
    return findings


def _unlike_confs(reports):
    """Samples, scripts and the like that differ between nodes of one conf share: the second one could not move."""
    seen = {}
    for node, report in sorted(reports.items()):
        confs = report.get("confs") or {"share": "", "files": {}}
        for name, content in confs["files"].items():
            seen.setdefault((confs["share"], name), {}).setdefault(content, []).append(node)
    return [
        f"{name} differs between {' and '.join(', '.join(nodes) for nodes in alike.values())}, which are to have the "
        f"one conf share {share}: make them equal, mode included, or give each node a share of its own (pillar "
        f"ringfree:shares:conf:export, such as {share}/{{node}})"
        for (share, name), alike in sorted(seen.items())
        if len(alike) > 1
    ]


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


def _check_monitoring(settings, files, sync):
    """The monitoring host answers, knows its services, and runs states as it is told to."""
    wanted = settings["monitoring"]
    if not wanted["services"]:
        return []
    host = wanted["host"]
    away = _sync([host]) if sync else []
    if away:
        return away
    asked = _ask([host], ["service.get_all", "ringfree_preflight.salt_settings"], [[], []])
    if asked["faults"]:
        return asked["faults"]
    known, report = asked["answers"][host].values()
    if not isinstance(report, dict):
        return [f"{host}: {report}"]
    findings = [f"{host}: {finding}" for finding in report["findings"]] + _strangers(files, {host: report})
    return findings + [
        f"{host}: there is no service {service} (ringfree:monitoring:services)"
        for service in wanted["services"]
        if not _unit_files(service).intersection(known)
    ]


def _unit_files(service):
    """The names under which Salt lists a service: without its suffix, and an instance by its template."""
    name = service.removesuffix(".service")
    return {name, f"{name.partition('@')[0]}@"} if "@" in name else {name}


@_checks_arguments()
def plan(nodes=None, raises=True):
    """
    The dry run: preflight, then what every step of the migration would change on every node.  Changes nothing.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    raises : True
        Whether findings are an exception, or a dictionary with ``Error`` (for orchestrations).

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
            kwarg={"test": True, "queue": QUEUE, "saltenv": "base"},
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


@_checks_arguments()
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
        asked, left = _ask(names, "saltutil.is_running", ["state.*"]), _ask(names, "ringfree_run.busy")
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
            _ask(names, "ringfree_run.end_busy")
        time.sleep(1)


# --- cleanup ----------------------------------------------------------------------------------------------------------


@_checks_arguments()
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


@_checks_arguments("word")
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


@_checks_arguments("to", "accept_age", "max_age")
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
    names = _names(nodes, _settings(pillar))
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


@_checks_arguments()
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
    settings = _settings(pillar)
    name = _node(node, settings)
    before = _checked("before", before, settings["nodes"])
    busy = _wait_rest([name])
    if busy:
        return _refuse("\n".join(busy), raises)
    states = _ask(before, "ringfree_journal.state")["answers"] if before else {}
    stuck = [other for other in before if states.get(other) != "nfs"]
    silent = _ask([name], "ringfree_nfs.silent") if stuck else {"answers": {}, "faults": []}
    if silent["faults"]:
        return _refuse("\n".join(silent["faults"]), raises)
    if stuck and not silent["answers"][name]:
        return _refuse(
            f"{name} was not begun: its SAN answers, and {', '.join(stuck)} did not arrive", raises
        )
    return True


@_checks_arguments()
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


@_checks_arguments("all")
def status(nodes=None, all=False):  # pylint: disable=redefined-builtin
    """
    Where every node and container is now, on one screen: a line for each node, and one for each container that is not
    as it should be.  With ``--out json`` or ``--out yaml`` the whole structure.

    Answers within ten seconds, also when the SAN or nodes are dead, and while a run is under way.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    all : False
        Whether containers that are as they should be get a line, too.

    Returns text in local time; with an outputter that was asked for ``{"format": 1, "version": the master's, "at":
    seconds, "run": the lock or None, "nodes": {node: {"answers", "version", "store", "state", "since", "san", "silent",
    "deadline", "deadman", "left", "lock", "faults", "containers"}}}``, moments as seconds since the epoch.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.status
    """
    fleet = _fleet(nodes)
    return fleet if __opts__.get("output") else _utils("ringfree_screen.screen")(fleet, all)


def _fleet(nodes):
    """The structure that the screen, and the advice, are made from."""
    names = _names(nodes, _settings())
    asked = _ask_within(names, "cloudstor.overview", SCREEN)
    return _utils("ringfree_screen.structure")(
        time.time(),
        _utils("ringfree_version.of_project")(),
        _holder(),
        {node: asked["answers"].get(node) for node in names},
        asked["faults"],
    )


@_checks_arguments()
def help(nodes=None):
    """
    What can be typed now, for the state that the fleet is in.

    nodes : None
        List of nodes; ``None`` for all of the pillar.

    Returns text: what one may want, with the command for it.

    CLI Example:

    .. code-block:: bash

        salt-run ringfree.help
    """
    return _utils("ringfree_screen.advice")(_fleet(nodes))


@_checks_arguments()
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


@_checks_arguments()
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
    asked = _ask(_names(nodes, _settings()), "cloudstor.bring_up")
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


@_checks_arguments("ctid", "dead")
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
    to = _node(to, settings)
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
