"""
States of the move itself: begun, copied while the containers run, copied when they are down, committed.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.  On a node that was committed
to NFS the states of a migration find nothing to do.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "cloudstor"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_journal.read" in __salt__ and "vz.status" in __salt__:
        return __virtualname__
    return (
        False,
        "cloudstor: the execution modules vz and cloudstor are not there: no OpenVZ node, or modules are not synced",
    )


def begun(name):
    """
    The node's journal says that a migration is under way, or that it was committed.

    name
        A sentence for people.

    .. code-block:: yaml

        The migration is in the journal:
          cloudstor.begun: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        now = __salt__["ringfree_journal.state"]()
        if now != "local":
            return ret.end(f"The journal says {now}.")
        ret["changes"] = {"state": {"old": now, "new": "in_flight"}}
        if __opts__["test"]:
            return ret.end("The node would be in flight.", None)
        __salt__["cloudstor.begin"]()
        return ret.end("The node is in flight.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def presynced(name):
    """
    The share has a nearly complete copy of every container that is to move, made while it runs.

    The copy is repeated until a pass takes less than ``ringfree:sync:small`` seconds, at most ``ringfree:sync:passes``
    times.

    name
        A sentence for people.

    .. code-block:: yaml

        The share is nearly up to date:
          cloudstor.presynced: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        todo = __salt__["cloudstor.to_copy"]()
        if not todo:
            return ret.end("No container has its live copy on local storage.")
        if __opts__["test"]:
            ret["changes"] = {str(ctid): {"old": "local", "new": "copied while it runs"} for ctid in todo}
            return ret.end(f"{len(todo)} containers would be copied while they run.", None)
        ret["changes"] = {str(ctid): {"old": "", "new": text} for ctid, text in _passes(todo).items()}
        return ret.end(f"{len(todo)} containers were copied while they run.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _passes(ctids):
    """Copy until a pass is small; returns id to a text about the last pass."""
    wanted = __salt__["ringfree_settings.get"]()["sync"]
    _keep_lists(ctids)
    __salt__["ringfree_owner.claim"](ctids, "local")
    for turn in range(1, wanted["passes"] + 1):
        __salt__["ringfree_run.leave"]("presync")
        __salt__["ringfree_journal.announce"](
            "presync", "intent", note=f"pass {turn}, {len(ctids)} containers"
        )
        done = __salt__["cloudstor.sync"](
            ctids,
            on_done=lambda ctid, entry: __salt__["ringfree_journal.announce"](
                "presync", "done", container=ctid, note=_amount(entry)
            ),
        )
        longest = max(entry["seconds"] for entry in done.values())
        if longest < wanted["small"]:
            break
    __salt__["ringfree_owner.claim"](ctids, "local", {ctid: entry["size"] for ctid, entry in done.items()})
    __salt__["ringfree_journal.announce"](
        "presync", "verified", note=f"{turn} passes, the last took {longest:.1f} s at most"
    )
    return {ctid: f"pass {turn}: {_amount(entry)}" for ctid, entry in done.items()}


def _keep_lists(ctids):
    """What a way back could not list, because the share was silent, is listed before its copies are overwritten."""
    known = __salt__["ringfree_owner.records"]()
    unlisted = [ctid for ctid in ctids if known.get(ctid, {}).get("store") == "nfs"]
    if not unlisted:
        return
    try:
        said = __salt__["ringfree_rollback.keep_lists"](unlisted)
    except FAULTS as error:
        raise CommandExecutionError(
            f"what containers {', '.join(map(str, unlisted))} wrote on NFS before they went home was never listed, and "
            f"a copy would overwrite it: {error}. To do without the lists type on the node: salt-call "
            f"ringfree_owner.claim '{unlisted}' local"
        ) from error
    __salt__["ringfree_journal.announce"]("presync", "intent", note=f"files changed on NFS: {said}")


def _amount(entry):
    return f"{entry['files']} files, {entry['bytes'] / 1e6:.1f} MB in {entry['seconds']:.1f} s"


def synced(name):
    """
    The share has a complete and verified copy of every container of the manifest; all of them are down.

    name
        A sentence for people.

    .. code-block:: yaml

        The last changes are on the share:
          cloudstor.synced: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        todo = __salt__["cloudstor.to_copy"]()
        if not todo:
            return ret.end("No container has its live copy on local storage.")
        ret["changes"] = {str(ctid): {"old": "nearly copied", "new": "copied and verified"} for ctid in todo}
        if __opts__["test"]:
            return ret.end(f"{len(todo)} containers would be copied.", None)
        __salt__["ringfree_journal.mark"]("sync", "intent", note=f"{len(todo)} containers")
        # From here on nobody starts one at home, not by force either: what it wrote would be in no copy.
        __salt__["ringfree_owner.enlist"](todo)
        done = __salt__["cloudstor.sync"](
            todo,
            True,
            lambda ctid, entry: __salt__["ringfree_journal.mark"](
                "sync", "verified", container=ctid, note=_amount(entry)
            ),
        )
        ret["changes"] = {str(ctid): {"old": "", "new": _amount(entry)} for ctid, entry in done.items()}
        __salt__["ringfree_journal.mark"]("sync", "verified")
        return ret.end(f"{len(done)} containers were copied and verified.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def committed(name):
    """
    The node stays on NFS: verified once more, noted in the journal, containers may start by themselves again.

    name
        A sentence for people.

    .. code-block:: yaml

        The node stays on NFS:
          cloudstor.committed: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_journal.state"]() == "nfs":
            return _disarmed(ret)
        ret["changes"] = {"state": {"old": __salt__["ringfree_journal.state"](), "new": "nfs"}}
        if __opts__["test"]:
            return ret.end("The node would be committed to NFS.", None)
        manual = __salt__["ringfree_settings.get"]()["confirm"] == "manual"
        if manual and not __salt__["cloudstor.confirmed"]():
            word = f"'salt-run ringfree.commit {__opts__['id']}'"
            raise CommandExecutionError(f"not committed: nobody has said {word}")
        faults = __salt__["cloudstor.faults_on_nfs"]()
        if faults:
            raise CommandExecutionError("not committed: " + "; ".join(faults))
        # One that starts to fire from here on waits for the end of this state, and finds the node committed.
        if __salt__["ringfree_run.firing"]():
            raise CommandExecutionError(
                "not committed: the deadline has passed and the dead man's switch works"
            )
        __salt__["ringfree_journal.mark"]("commit", "intent")
        __salt__["ringfree_guard.unguard"]()
        __salt__["ringfree_journal.mark"]("commit", "verified")
        __salt__["ringfree_journal.set_state"]("nfs")
        # Last: until the journal says nfs, the node must come back whatever happens here.
        __salt__["ringfree_deadman.disarm"]()
        return ret.end(__salt__["cloudstor.whereabouts"]())
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _disarmed(ret):
    """A node on NFS has no dead man's switch; a commit that was killed may have left it."""
    if __salt__["ringfree_deadman.armed"]() is None:
        return ret.end("The node is on NFS.")
    ret["changes"] = {"deadman": {"old": "armed", "new": None}}
    if __opts__["test"]:
        return ret.end("The node is on NFS; its dead man's switch would be disarmed.", None)
    __salt__["ringfree_deadman.disarm"]()
    return ret.end("The node is on NFS; its dead man's switch was disarmed.")


# --- a node that boots, and who may start what ------------------------------------------------------------------------


def brought_up(name):
    """
    No container waits for the share since the node booted without it.

    Only reports, unless the pillar's ``ringfree:highstate:bring_up`` is true; then the node is brought up as
    ``ringfree_boot.bring_up`` does.  A container that somebody stopped while the node was up is never started.

    name
        A sentence for people.

    .. code-block:: yaml

        Nothing waits for the share:
          cloudstor.brought_up: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_boot.waiting"]() is None:
            return ret.end("Nothing waits for the share.")
        if not __salt__["ringfree_settings.get"]()["highstate"]["bring_up"]:
            return ret.end(__salt__["cloudstor.whereabouts"](), False)
        ret["changes"] = {"node": {"old": "waits for the share", "new": "up"}}
        if __opts__["test"]:
            return ret.end("The shares would be mounted, vz and its containers started.", None)
        done = __salt__["cloudstor.bring_up"]()
        ret["changes"] = {str(ctid): {"old": "down", "new": "running"} for ctid in done["started"]}
        ret["changes"].update({path: {"old": None, "new": "mounted"} for path in done["mounted"]})
        return ret.end(done["now"])
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)
