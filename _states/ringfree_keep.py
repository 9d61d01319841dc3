"""
What ``state.apply`` keeps on a node at rest.

No state here stops, starts, restarts or moves a container, or unmounts or remounts anything; what would need that is a
failed state that says what to type.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.  A node that is not (any more)
on the store that a state is for is left alone.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_keep"

FAULTS = (CommandExecutionError, OSError, ValueError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_keep.store" in __salt__:
        return __virtualname__
    return (False, "ringfree_keep: the execution module ringfree_keep is not there: modules are not synced")


def _keep(name, what, *stores):
    """Have a function of the execution module correct one thing on a node that rests on one of some stores."""
    ret = {"name": name, "changes": {}, "result": True, "comment": ""}
    test, correct = __opts__["test"], __salt__[f"ringfree_keep.{what}"]
    try:
        now = __salt__["ringfree_keep.store"]()
        if now["state"] not in stores:
            ret["comment"] = now["why"] or f"Left alone: the node is on {now['state']} storage."
            ret["result"] = bool(now["state"])
            return ret
        found = correct(test=test)
        faults, notes = found["faults"], found["notes"]
        ret["changes"] = found["changes"]
        left = [] if test or not found["changes"] else correct(test=True)["changes"]
        if left:
            faults = [*faults, f"{', '.join(left)} does not read as declared after it was changed"]
    except FAULTS as error:
        # Without what Salt's own text of an error adds for programs.
        faults, notes = [str(getattr(error, "error", None) or error)], []
    names = ", ".join(ret["changes"])
    done = f"{'Would change' if test else 'Changed'}: {names}" if names else "" if faults else "As declared"
    said = [*faults, done, *notes]
    ret["comment"] = " ".join(f"{text[0].upper()}{text[1:].rstrip('.')}." for text in said if text)
    ret["result"] = False if faults else None if test and names else True
    return ret


def impossible(name, why):
    """
    Always fails: nothing can be kept on this node.

    name
        A sentence for people.

    why
        The reason, and what to do.

    .. code-block:: yaml

        Nothing can be kept on this node:
          ringfree_keep.impossible:
            - why: the journal is damaged
    """
    return {"name": name, "changes": {}, "result": False, "comment": why}


def variables(name):
    """
    The files in /etc/ringfree say what the pillar wants, ``nfsmounted`` what is true.

    name
        A sentence for people.

    .. code-block:: yaml

        The variables are in /etc/ringfree:
          ringfree_keep.variables: []
    """
    return _keep(name, "variables", "local", "nfs")


def ssh(name):
    """
    The host keys of the pillar are pinned, and nobody but root can read the key to the SAN.

    name
        A sentence for people.

    .. code-block:: yaml

        The SAN can be reached:
          ringfree_keep.ssh: []
    """
    return _keep(name, "ssh", "local", "nfs")


def modes(name):
    """
    What is kept of the node is nobody else's to read: its snapshot, its journal, the lists of changed files.

    name
        A sentence for people.

    .. code-block:: yaml

        Nobody else reads what is kept:
          ringfree_keep.modes: []
    """
    return _keep(name, "modes", "local", "nfs")


def deadman(name):
    """
    Nothing is left of a dead man's switch.

    name
        A sentence for people.

    .. code-block:: yaml

        The node does not go back by itself:
          ringfree_keep.deadman: []
    """
    return _keep(name, "deadman", "local", "nfs")


def leftovers(name):
    """
    Nothing of the share is in use on a node that is on local storage.  Never changes anything.

    name
        A sentence for people.

    .. code-block:: yaml

        Nothing of the share is in use:
          ringfree_keep.leftovers: []
    """
    return _keep(name, "leftovers", "local")


def no_mounts(name):
    """
    Our lines are not in fstab.

    name
        A sentence for people.

    .. code-block:: yaml

        The shares are not mounted at boot:
          ringfree_keep.no_mounts: []
    """
    return _keep(name, "no_mounts", "local")


def no_fence(name):
    """
    Our fence is not in the conf directory.

    name
        A sentence for people.

    .. code-block:: yaml

        The fence is gone:
          ringfree_keep.no_fence: []
    """
    return _keep(name, "no_fence", "local")


def mount_points(name):
    """
    The directories that shares are mounted on are there.

    name
        A sentence for people.

    .. code-block:: yaml

        The mount points are there:
          ringfree_keep.mount_points: []
    """
    return _keep(name, "mount_points", "nfs")


def shares(name):
    """
    The shares are mounted; none that is mounted is ever remounted, what differs is said.

    name
        A sentence for people.

    .. code-block:: yaml

        The shares are mounted:
          ringfree_keep.shares: []
    """
    return _keep(name, "shares", "nfs")


def fence(name):
    """
    The fence is in the conf directory, and knows this node's name.

    name
        A sentence for people.

    .. code-block:: yaml

        The fence stands:
          ringfree_keep.fence: []
    """
    return _keep(name, "fence", "nfs")


def vz_conf(name):
    """
    vz.conf leads to the share and lets containers start; every other byte of it stays.

    name
        A sentence for people.

    .. code-block:: yaml

        New containers are born on the share:
          ringfree_keep.vz_conf: []
    """
    return _keep(name, "vz_conf", "nfs")


def container_confs(name):
    """
    The confs of the containers that this node owns on the share lead there; every other byte of them stays.

    A container that runs while its conf leads elsewhere fails the state, and its conf stays.

    name
        A sentence for people.

    .. code-block:: yaml

        The containers live on the share:
          ringfree_keep.container_confs: []
    """
    return _keep(name, "container_confs", "nfs")
