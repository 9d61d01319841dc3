"""
States of the variables in /etc/ringfree.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_nfs"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_nfs.variables" in __salt__:
        return __virtualname__
    return (False, "ringfree_nfs: the execution module ringfree_nfs is not there: modules are not synced")


def variables(name, mounted=False):
    """
    The files in /etc/ringfree say what the pillar wants; ``nfsmounted`` says what is true.

    ``nfs`` (the server in use), ``nfsip.1``, ``nfsip.2``, ``nfsmounted``, ``nfsvzconf``, ``nfsvzroot``, ``nfsvzstor``.

    name
        A sentence for people.

    mounted : False
        Whether all shares must be mounted by now; if they are not, the state fails.

    .. code-block:: yaml

        The variables are in /etc/ringfree:
          ringfree_nfs.variables: []
    """
    ret = {"name": name, "changes": {}, "result": True, "comment": "The variables are as declared."}
    try:
        is_, wanted = __salt__["ringfree_nfs.variables"](), __salt__["ringfree_nfs.wanted_variables"]()
        if mounted and __opts__["test"]:
            wanted["nfsmounted"] = "1"
        if mounted and wanted["nfsmounted"] != "1":
            raise CommandExecutionError(
                "not all shares are mounted from the SAN in use: 'ringfree_nfs.in_use' shows them"
            )
        todo = {key: value for key, value in wanted.items() if is_[key] != value}
        ret["changes"] = {key: {"old": is_[key], "new": value} for key, value in todo.items()}
        if not todo:
            return ret
        if __opts__["test"]:
            ret.update(result=None, comment=f"{len(todo)} variables would be written.")
            return ret
        __salt__["cloudstor.mark"]("variables", "intent")
        after = __salt__["ringfree_nfs.set_variables"](todo)
        unlike = [key for key, value in todo.items() if after[key] != value]
        if unlike:
            raise CommandExecutionError(
                f"{', '.join(unlike)} in /etc/ringfree does not read as it was written"
            )
        __salt__["cloudstor.mark"]("variables", "verified", note=f"{len(todo)} variables")
        ret["comment"] = f"{len(todo)} variables were written."
    except FAULTS as error:
        ret.update(result=False, comment=__salt__["cloudstor.failure"](name, error))
    return ret
