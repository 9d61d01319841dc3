"""
States of an OpenVZ node: vz.conf, the container confs, the manifest, which containers run.

Each one probes, says under ``test=True`` exactly what it would do, acts, and reads back.  On a node that was committed
to NFS the states of a migration find nothing to do.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "vz"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence

ON_NFS = "The node is on NFS; the migration leaves it alone."


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "vz.status" in __salt__:
        return __virtualname__
    return (
        False,
        "vz: the execution module vz is not there: this is no OpenVZ node, or modules are not synced",
    )


def _committed():
    return __salt__["ringfree_journal.state"]() == "nfs"


def configured(name, settings):
    """
    vz.conf has these values, as vzctl and as a shell read it; every other byte of it stays.

    name
        A sentence for people.

    settings
        Dictionary: key to value.

    .. code-block:: yaml

        New containers are born on the share:
          vz.configured:
            - settings:
                VE_PRIVATE: /vz/nfsprivate/$VEID
                DISK_QUOTA: 'no'
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if _committed():
            return ret.end(ON_NFS)
        ret["changes"] = __salt__["vz.changes"](settings)
        if not ret["changes"]:
            return ret.end("vz.conf is as declared.")
        if __opts__["test"]:
            return ret.end("vz.conf would be changed.", None)
        __salt__["ringfree_journal.mark"]("vz_conf", "intent")
        ret["changes"] = __salt__["vz.configure"](settings)
        if __salt__["vz.changes"](settings):
            raise CommandExecutionError("vz.conf was written and does not read as declared")
        __salt__["ringfree_journal.mark"]("vz_conf", "verified")
        return ret.end("vz.conf was changed.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def containers_configured(name, settings):
    """
    The conf of every container of the manifest has these values and its layout; every other byte of it stays.

    name
        A sentence for people.

    settings
        Dictionary: key to value.

    .. code-block:: yaml

        The containers live on the share:
          vz.containers_configured:
            - settings:
                VE_ROOT: /vz/nfsroot/$VEID
                VE_PRIVATE: /vz/nfsprivate/$VEID
                DISK_QUOTA: 'no'
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if _committed():
            return ret.end(ON_NFS)
        ctids = __salt__["cloudstor.to_move"]()
        return _configure_each(
            ret, {ctid: __salt__["ringfree_confs.with_layout"](ctid, settings) for ctid in ctids}
        )
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _configure_each(ret, wanted):
    """Bring confs to the wanted values: all are checked before any is written."""
    changes = {ctid: __salt__["vz.changes"](values, ctid) for ctid, values in wanted.items()}
    ret["changes"] = {str(ctid): change for ctid, change in changes.items() if change}
    if not ret["changes"]:
        return ret.end(f"{len(wanted)} container confs are as declared.")
    if __opts__["test"]:
        return ret.end(f"{len(ret['changes'])} container confs would be changed.", None)
    __salt__["ringfree_journal.mark"]("container_confs", "intent")
    done = {}
    for ctid in (int(key) for key in list(ret["changes"])):
        done[str(ctid)] = __salt__["vz.configure"](wanted[ctid], ctid)
        ret["changes"] = done
        if __salt__["vz.changes"](wanted[ctid], ctid):
            raise CommandExecutionError(
                f"the conf of container {ctid} was written and does not read as declared"
            )
    __salt__["ringfree_journal.mark"]("container_confs", "verified", note=f"{len(done)} confs")
    return ret.end(f"{len(done)} container confs were changed.")


def others_pinned(name, keys):
    """
    Containers outside the manifest keep where they are when vz.conf changes.

    A conf without its own value inherits vz.conf's, so a change there would move it.  Each such key is written into
    the container's conf with the value that it has now.

    name
        A sentence for people.

    keys
        List of keys.

    .. code-block:: yaml

        Containers that do not move keep their paths:
          vz.others_pinned:
            - keys: [VE_ROOT, VE_PRIVATE, DISK_QUOTA]
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if _committed():
            return ret.end(ON_NFS)
        moving = set(__salt__["cloudstor.to_move"]())
        wanted = {
            ctid: __salt__["ringfree_confs.inherited"](ctid, keys)
            for ctid in __salt__["ringfree_owner.containers"]()
            if ctid not in moving
        }
        return _configure_each(ret, {ctid: values for ctid, values in wanted.items() if values})
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def manifested(name):
    """
    The manifest names the containers that run now, in start order.  It is written once in a migration.

    name
        A sentence for people.

    .. code-block:: yaml

        The containers that run are written down:
          vz.manifested: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_journal.reached"]("manifest"):
            return ret.end(f"The manifest names {len(__salt__['vz.manifest']())} containers.")
        ctids = __salt__["vz.start_order"](
            __salt__["vz.running"](), __salt__["ringfree_settings.get"]()["containers"]["priority"]
        )
        ret["changes"] = {"manifest": {"old": __salt__["vz.manifest"](), "new": ctids}}
        if __opts__["test"]:
            return ret.end(f"The manifest would name {len(ctids)} containers.", None)
        __salt__["ringfree_journal.mark"]("manifest", "intent")
        __salt__["ringfree_journal.remember"]("load", __salt__["ringfree_start.load"]()["now"])
        if __salt__["vz.write_manifest"](ctids) != ctids:
            raise CommandExecutionError("the manifest does not read as it was written")
        __salt__["ringfree_journal.mark"]("manifest", "verified", note=f"{len(ctids)} containers")
        return ret.end(f"The manifest names {len(ctids)} containers.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def packages_updated(name, node=True, containers=True):
    """
    The packages of the node and of every running container were brought up to date in this migration.

    name
        A sentence for people.

    node : True
        Whether the node's own packages are updated.

    containers : True
        Whether the containers' packages are updated.

    .. code-block:: yaml

        Packages are up to date:
          vz.packages_updated:
            - node: true
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if __salt__["ringfree_journal.reached"]("packages") or not (node or containers):
            return ret.end("Nothing to update in this migration.")
        ctids = __salt__["vz.running"]() if containers else []
        if __opts__["test"]:
            places = [ctid for ctid in ctids if __salt__["vz.package_manager"](ctid)]
            places += ["node"] if node and __salt__["vz.package_manager"]() else []
            ret["changes"] = {str(place): {"old": "as installed", "new": "updated"} for place in places}
            return ret.end(f"Packages would be updated in {len(places)} places.", None if places else True)
        __salt__["ringfree_journal.mark"]("packages", "intent")
        wanted = __salt__["ringfree_settings.get"]()["packages"]
        outcomes = __salt__["vz.update_packages"](
            ctids,
            node,
            wanted["workers"],
            wanted["deadline"],
            lambda who, outcome: __salt__["ringfree_journal.announce"](
                "packages", "done", container=who, note=outcome["manager"] or "nothing"
            ),
        )
        ret["changes"] = {
            str(who): {"old": "", "new": entry["detail"]}
            for who, entry in outcomes.items()
            if entry["manager"]
        }
        bad = [f"{who}: {entry['detail']}" for who, entry in outcomes.items() if not entry["ok"]]
        if bad:
            raise CommandExecutionError("packages could not be updated: " + "; ".join(bad))
        __salt__["ringfree_journal.mark"]("packages", "verified", note=f"{len(ret['changes'])} updated")
        return ret.end(f"Packages were updated in {len(ret['changes'])} places.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def stopped(name):
    """
    The containers of the manifest are down and unmounted, but for those that run from NFS already.

    name
        A sentence for people.

    .. code-block:: yaml

        The containers are stopped:
          vz.stopped: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if _committed():
            return ret.end(ON_NFS)
        there = set(__salt__["ringfree_nfs.containers"]())
        todo = list(
            __salt__["vz.running_or_mounted"](
                [ctid for ctid in __salt__["cloudstor.to_move"]() if ctid not in there]
            )
        )
        if not todo:
            return ret.end("No container runs from local storage.")
        ret["changes"] = {str(ctid): {"old": "running", "new": "stopped"} for ctid in todo}
        if __opts__["test"]:
            return ret.end(f"{len(todo)} containers would be stopped.", None)
        wanted, killed = __salt__["ringfree_settings.get"]()["stop"], []

        def down(ctid, note):
            __salt__["ringfree_journal.mark"]("stop", "verified", container=ctid, note=note)
            if note:
                killed.append(f" Container {ctid} was {note}.")

        notes = "".join(f" {note}" for note in __salt__["ringfree_fingerprint.take"](todo)["notes"])
        __salt__["ringfree_journal.mark"]("stop", "intent", note=f"{len(todo)} containers")
        for ctid in todo:
            __salt__["ringfree_journal.mark"]("stop", "intent", container=ctid)
        __salt__["vz.stop"](
            list(reversed(todo)),
            wanted["workers"],
            wanted["deadline"],
            down,
        )
        __salt__["ringfree_journal.mark"]("stop", "verified")
        return ret.end(f"{len(todo)} containers were stopped.{''.join(killed)}{notes}")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def restarted(name):
    """
    The vz service was restarted after vz.conf changed.  Refused while any container runs or could start by itself.

    name
        A sentence for people.

    .. code-block:: yaml

        vz reads the new vz.conf:
          vz.restarted: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if _committed() or __salt__["ringfree_journal.reached"]("vz_restart"):
            return ret.end("The vz service was restarted in this migration.")
        ret["changes"] = {"vz": {"old": "running with the old vz.conf", "new": "restarted"}}
        if __opts__["test"]:
            return ret.end("The vz service would be restarted.", None)
        up = __salt__["vz.running"]()
        if up:
            raise CommandExecutionError(
                f"containers {', '.join(map(str, up))} run; a restart of vz would suspend them"
            )
        if __salt__["ringfree_guard.guard"](test=True):
            raise CommandExecutionError(
                "nothing keeps containers from starting by themselves; vz was not restarted"
            )
        __salt__["ringfree_journal.mark"]("vz_restart", "intent")
        __salt__["service.restart"]("vz")
        if not __salt__["service.status"]("vz"):
            raise CommandExecutionError(
                "the vz service does not run after its restart: 'service vz status' on the node"
            )
        up = __salt__["vz.running"]()
        if up:
            raise CommandExecutionError(f"containers {', '.join(map(str, up))} started with the vz service")
        __salt__["ringfree_journal.mark"]("vz_restart", "verified")
        return ret.end("The vz service was restarted.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def running(name, first=False):
    """
    The containers of the manifest run from NFS, proved from mountinfo, their services answer, and they have again what
    they had before.

    name
        A sentence for people.

    first : False
        Only the priority containers, one after the other, each confirmed before the next is started.  Otherwise all,
        a few at a time, held back for a moment while the load is above normal or the share is slow.

    .. code-block:: yaml

        Priority containers are confirmed:
          vz.running:
            - first: true
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        if _committed():
            return _confirm(ret, first)
        there = set(__salt__["ringfree_nfs.containers"]())
        if __opts__["test"] and not first:
            there.update(_wanted(True))  # the live run has started them by then
        todo = [ctid for ctid in _wanted(first) if ctid not in there]
        ret["changes"] = {str(ctid): {"old": "stopped", "new": "running from NFS"} for ctid in todo}
        if __opts__["test"]:
            comment = f"{len(todo)} containers would be started." if todo else "All containers run from NFS."
            return ret.end(comment, None if todo else True)
        _start(todo, first)
        if not first:
            __salt__["ringfree_journal.mark"]("start", "verified", note=f"{len(_wanted(first))} containers")
        return ret.end(f"{len(todo)} containers were started from NFS and answer.")
    except FAULTS as error:
        return ret.end(__salt__["cloudstor.failure"](name, error), False)


def _wanted(first):
    ctids = __salt__["cloudstor.to_move"]()
    if not first:
        return ctids
    names = __salt__["ringfree_settings.get"]()["containers"]["priority"]
    priority = set(__salt__["ringfree_owner.resolve"](names)["found"].values())
    return [ctid for ctid in ctids if ctid in priority]


def _confirm(ret, first):
    """A committed node: nothing is started (somebody may have stopped it on purpose); what runs must answer."""
    ctids, up = _wanted(first), set(__salt__["vz.running"]())
    there = set(__salt__["ringfree_nfs.containers"]())
    astray = [str(ctid) for ctid in ctids if ctid in up and ctid not in there]
    if astray:
        raise CommandExecutionError(f"containers {', '.join(astray)} run, but not from NFS")
    run = [ctid for ctid in ctids if ctid in there]
    if not __opts__["test"]:
        __salt__["ringfree_start.answer"](run)
    down = [str(ctid) for ctid in ctids if ctid not in up]
    left = f" Stopped since the migration: {', '.join(down)}." if down else ""
    return ret.end(f"{len(run)} containers run from NFS and answer.{left}")


def _start(ctids, first):
    """Start containers in order; wait until each answers, and note what it said."""

    def note(ctid, phase, said):
        if phase != "verified" or not __salt__["ringfree_journal.reached"]("start", "verified", ctid):
            __salt__["ringfree_journal.mark"]("start", phase, container=ctid, note=said)

    if ctids:
        __salt__["ringfree_journal.mark"]("start", "intent", note=f"{len(ctids)} containers")
    __salt__["ringfree_start.in_order"](ctids, on_step=note)
    if not first:
        moved = __salt__["cloudstor.to_move"]()
        __salt__["ringfree_start.answer"](moved, lambda ctid, said: note(ctid, "verified", said))
