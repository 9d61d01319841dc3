"""
States of the mounts, and of the variables in /etc/ringfree.
"""

import os

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
    ret = __utils__["ringfree_ret.new"](name)
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
            return ret.end("The variables are as declared.")
        if __opts__["test"]:
            return ret.end(f"{len(todo)} variables would be written.", None)
        __salt__["ringfree_journal.mark"]("variables", "intent")
        after = __salt__["ringfree_nfs.set_variables"](todo)
        unlike = [key for key, value in todo.items() if after[key] != value]
        if unlike:
            raise CommandExecutionError(
                f"{', '.join(unlike)} in /etc/ringfree does not read as it was written"
            )
        __salt__["ringfree_journal.mark"]("variables", "verified", note=f"{len(todo)} variables")
        return ret.end(f"{len(todo)} variables were written.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def mounted(name, shares):
    """
    Shares of the SAN in use are mounted where the pillar says.

    Core's ``mount.mounted`` compares NFS options as text and remounts, lazily when busy, a store under running
    containers (https://github.com/saltstack/salt/issues/65351), so this one only ever mounts what is not mounted.

    name
        A sentence for people.

    shares
        List of ``private``, ``root``, ``conf``.  ``conf`` is mounted only when it holds the same files as the directory
        that it will hide.

    .. code-block:: yaml

        The containers' store is mounted:
          ringfree_nfs.mounted:
            - shares: [private, root]
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        found = __salt__["ringfree_nfs.in_use"]()
        todo = [share for share in shares if not found[share]["mounted"]]
        ret["changes"] = {
            found[share]["mount"]: {"old": found[share]["source"], "new": found[share]["wanted"]}
            for share in todo
        }
        if not todo:
            drift = "; ".join(__salt__["ringfree_nfs.drift"]())
            left = f" Left as it is until the next unmount: {drift}." if drift else ""
            return ret.end(f"Mounted from the SAN in use.{left}")
        wrong = [
            f"{found[share]['mount']} is mounted from {found[share]['source']}"
            for share in todo
            if found[share]["source"]
        ]
        if wrong:
            raise CommandExecutionError("; ".join(wrong) + ": a store in use is never remounted")
        if __opts__["test"]:
            return ret.end(f"{len(todo)} shares would be mounted.", None)
        step = "mount_conf" if "conf" in todo else "mount"
        __salt__["ringfree_journal.mark"](step, "intent", note=", ".join(todo))
        for share in todo:
            _mount(share, found[share])
        __salt__["ringfree_journal.mark"](step, "verified", note=", ".join(todo))
        return ret.end(f"{len(todo)} shares were mounted.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _mount(share, entry):
    """Mount one share; the conf share only over a directory that says the same."""
    if share == "conf":
        unlike = __salt__["ringfree_confs.conf_share"](test=True)
        if unlike:
            raise CommandExecutionError(
                f"the conf share lacks or changes {', '.join(sorted(unlike))}; it was not mounted"
            )
    if not os.path.isdir(entry["mount"]):
        raise CommandExecutionError(f"the mount point {entry['mount']} does not exist")
    __salt__["ringfree_nfs.mount"](entry["wanted"], entry["mount"])
    if share == "conf":
        _confs_lead_to_share()


def _confs_lead_to_share():
    """After the conf share hid the local directory, every container of the manifest resolves to the share."""
    shares = __salt__["ringfree_settings.get"]()["shares"]
    for ctid in __salt__["vz.manifest"]() or []:
        conf = __salt__["vz.config"](ctid)
        for key, share in (("private", "private"), ("root", "root")):
            wanted = f"{shares[share]['mount']}/{ctid}"
            if conf[key] != wanted:
                raise CommandExecutionError(
                    f"on the conf share the {key} of container {ctid} is {conf[key]}, not {wanted}"
                )
