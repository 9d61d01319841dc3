"""
Local storage once containers have moved for good: what nobody needs is moved aside, and deleted days later.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_cleanup"


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_cleanup.plan" in __salt__ and "vz.status" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_cleanup: the execution modules are not there: no OpenVZ node, or modules are not synced",
    )


def cleaned(name, consent=None):
    """
    What this node does not need on its own disk any more is moved aside, and what was aside long enough is deleted.

    A private area goes only when its container is proved to live on the share, for longer than
    ``ringfree:cleanup:age``, and it is deleted only after ``ringfree:cleanup:keep``, with a consent of its own.
    Everything else is named and left.

    name
        A sentence for people.

    consent : None
        The word that ``salt-run ringfree.consent`` gave for exactly what would go now.

    .. code-block:: yaml

        The old local copies are cleaned up:
          ringfree_cleanup.cleaned:
            - consent: 7f3a-91c2
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __opts__["test"]:
            return _foretold(ret, consent)
        found = __salt__["ringfree_cleanup.clean"](consent, lambda item: _noted(ret["changes"], item))
        return ret.end(f"{_count(found, 'went')}{_left(found)}")
    except (CommandExecutionError, OSError) as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _foretold(ret, consent):
    """What the real run would do, or why it would not."""
    found = __salt__["ringfree_cleanup.plan"]()
    ret["changes"] = {item["path"]: _change(item) for item in found["items"]}
    fault = __salt__["ringfree_cleanup.objection"](consent, found["digest"]) if found["items"] else None
    if fault:
        return ret.end(f"It would be refused: {fault}.", False)
    return ret.end(_count(found, "would go") + _left(found), None if found["items"] else True)


def _count(found, went):
    if not found["items"]:
        return "There is nothing to clean up."
    total = sum(item["bytes"] for item in found["items"]) / 1e6
    return f"{len(found['items'])} directories with {total:.1f} MB {went}."


def _left(found):
    return "".join(f" Left alone: {entry['what']}: {entry['why']}." for entry in found["left"])


def _change(item):
    new = "deleted" if item["action"] == "delete" else "moved aside"
    return {"old": f"{item['files']} files, {item['bytes'] / 1e6:.1f} MB", "new": new}


def _noted(changes, item):
    """One directory is done: what changed, and a line for the people who watch."""
    changes[item["path"]] = _change(item)
    where = f"deleted, {item['path']}" if item["action"] == "delete" else f"moved aside to {item['kept']}"
    __salt__["ringfree_journal.announce"]("cleanup", "verified", item["ctid"], where)
