"""
What an orchestration was asked for, checked whole before anything is rendered from it.

:configuration: the pillar ``ringfree``; ``pillar/ringfree/init.sls`` explains each key
"""

import time

import salt.config
import salt.pillar

__virtualname__ = "ringfree_asked"


def __virtual__():
    return __virtualname__


def words(sls, pillar):
    """
    What was typed for an orchestration, on the master: every value is one that the orchestration knows.

    sls
        The name of the orchestration, as Salt has it while it renders.

    pillar
        The pillar that it renders with: the master's own, and over that what was typed.

    Returns a dictionary: what was typed, with defaults (``nodes``, ``to``, ...), and from the pillar ``monitor``,
    ``timeout`` and ``batch``; ``ringfree``, to hand on.  With faults there is only ``faults``, a list of texts, and
    perhaps ``head``, a line to stand above them; ``faults`` is empty when all is right.

    CLI Example:

    .. code-block:: bash

        salt-call ringfree_asked.words migrate '{"ringfree": {}, "nodes": ["node001"]}'
    """
    asked = __utils__["ringfree_pillar.typed"](sls, pillar)
    if asked["faults"]:
        # Once more with what else the master's own pillar has. It takes a moment to compile, and is seldom needed.
        asked = __utils__["ringfree_pillar.typed"](sls, pillar, _own_keys())
    words, settings = asked["words"], asked["settings"]
    faults = asked["faults"] + _faults_of_deadline(words.get("deadline"))
    bent = _faults_of_master()
    if faults:
        return {"faults": faults + bent}
    if bent:
        return {
            "faults": bent,
            "head": "The master's configuration would bend this run, nothing was touched:",
        }
    return {
        **words,
        "faults": [],
        "ringfree": pillar["ringfree"],
        "monitor": settings["monitoring"]["host"],
        "timeout": settings["timeout"],
        "batch": settings["batch"],
    }


def plan(nodes):
    """
    The dry run of a migration, on the master: what ``salt-run ringfree.plan`` says.

    A step that runs a runner says under ``test=True`` only that it would.

    nodes
        List of nodes.

    Returns ``{"text": text, "fit": True or False}``; without ``fit`` the text says why the nodes would not move.

    CLI Example:

    .. code-block:: bash

        salt-call ringfree_asked.plan '["node001"]'
    """
    ran = __salt__["saltutil.runner"](
        "ringfree.plan", kwarg={"nodes": nodes, "raises": False}, full_return=True
    )
    # An exception that nobody thought of comes back as a text too.
    said = ran["return"]
    fit = ran["success"] is True and isinstance(said, str)
    return {"text": str(said["Error"] if isinstance(said, dict) and "Error" in said else said), "fit": fit}


def _faults_of_master():
    """Where the master's configuration bends what requisites and results mean no step of an orchestration holds."""
    test = __opts__.get("test") and salt.config.master_config(__opts__["conf_file"])["test"]
    return __utils__["ringfree_settings.of_master"](__opts__, test)


def _own_keys():
    """The keys of the master's own pillar, without what was typed."""
    # Salt 3008 begins a new pillar with the one that there is: pillar.items would have what was typed in it.
    opts = {**__opts__, "pillar": {}}
    return list(salt.pillar.get_pillar(opts, dict(__grains__), opts["id"], "base").compile_pillar())


def _faults_of_deadline(deadline):
    """Whether there is such a moment, still to come."""
    try:
        if deadline:
            __utils__["ringfree_window.next_time"](deadline, time.time())
    except ValueError as error:
        return [f"deadline: {error}"]
    return []
