"""
Who owns a container: the records on the share, and this node's own list for when the share is away.

:depends: rsync, ssh
"""

import os
import re
import shutil
import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_owner"

STATE_DIR = "/var/lib/ringfree"
ON_NFS = "/etc/ringfree/on-nfs"
CTID = "[1-9][0-9]{0,9}"


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["ringfree_settings.get"]()


def _node():
    return __opts__["id"]


def records():
    """
    The owner records on the share.

    Returns a dictionary: container id to its record (``node``, ``store``, ``since``, ``generation``, ``copied``).
    Raises CommandExecutionError when they cannot be read, or one is damaged.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.records
    """
    found, faults = _read_records()
    if faults:
        raise CommandExecutionError("; ".join(faults.values()))
    return found


def _read_records():
    """The records on the share, and what is wrong with damaged ones: file name to a sentence that says what to type."""
    export = _settings()["shares"]["private"]["export"]
    if not _are_on_share(export):
        return {}, {}
    here = f"{STATE_DIR}/owners-on-share"
    __salt__["ringfree_san.fetch_shared"](f"{export}/.ringfree/owner", here)
    found, faults = {}, {}
    for name, entry in __utils__["ringfree_files.read_folder"](here).items():
        shown = __utils__["ringfree_command.spell"](f"{export}/.ringfree/owner/{name}") + " on the SAN"
        if not re.fullmatch(CTID, name):
            faults[name] = f"{shown} is no container's record: move it away"
            continue
        try:
            found[int(name)] = __utils__["ringfree_owner.load"](
                __utils__["ringfree_seal.unseal"](entry["data"])
            )
        except (KeyError, ValueError) as error:
            faults[name] = (
                f"{shown} is damaged: {error}; 'salt NODE ringfree_owner.recover {name}' writes it anew, with the node "
                f"that has the container"
            )
    return found, faults


def _are_on_share(export):
    """Whether there is a folder for records on the SAN."""
    if ".ringfree" not in __salt__["ringfree_san.names"](export):
        return False
    try:
        return "owner" in __salt__["ringfree_san.names"](f"{export}/.ringfree")
    except CommandExecutionError:
        # Before there are any, preflight of a node makes the folder around them for as long as its trial copy takes.
        if ".ringfree" in __salt__["ringfree_san.names"](export):
            raise
        return False


def recover(ctid):
    """
    Write the owner record of a container anew, whose file is damaged, by what this node knows: its own list, mounts and
    confs.

    ctid
        The container's id.

    Returns the record as read back.  Raises CommandExecutionError when the record is whole, or this node does not know.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.recover 101
    """
    ctid = int(ctid)
    faults = _read_records()[1]
    if str(ctid) not in faults:
        raise CommandExecutionError(
            f"the owner record of container {ctid} is not damaged. Nothing was changed."
        )
    owner, store = _found_here(ctid)
    if owner != _node():
        raise CommandExecutionError(
            f"container {ctid} is {f'of {owner}' if owner else 'unknown'} by what {_node()} knows. Nothing was "
            f"changed; type it with the node that has the container."
        )
    # Of a later generation than whatever the old one was of.
    record = __utils__["ringfree_owner.record"](_node(), store, time.time(), {"generation": int(time.time())})
    _push({ctid: record})
    written = _read_records()[0].get(ctid)
    if written != record:
        raise CommandExecutionError(f"the owner record of container {ctid} is not what was written")
    return record


def _found_here(ctid):
    """Who owns a container, and where its live copy is, by what is found on this node; two times None for unknown."""
    listed = live_on_nfs().get(ctid)
    # In the list from just before its last copy on: until the share was told, what it has there is no live copy.
    copied = __salt__["ringfree_journal.state"]() == "nfs" or __salt__["ringfree_journal.reached"](
        "owner", "intent"
    )
    if ctid in __salt__["ringfree_nfs.containers"]() or (listed == _node() and copied):
        return _node(), "nfs"
    if listed not in (None, _node()):
        return listed, "nfs"
    there = ctid in __salt__["vz.containers"]() and __salt__["vz.config"](ctid)["private"]
    local = there and not __salt__["ringfree_nfs.on_share"]([there]) and os.path.isdir(there)
    return (_node(), "local") if local else (None, None)


def claim(ctids, store, copied=None):
    """
    Write on the share that this node owns containers, and where their live copies are.

    The node's own list, which the fence reads when the share is away, has a container before the share says ``nfs`` of
    it (:py:func:`enlist`), and loses it only after the share says ``local``.

    ctids
        List of ids.

    store
        ``local`` or ``nfs``.

    copied : None
        Dictionary: id to the bytes that are on the share.

    Returns the records as read back.  Raises CommandExecutionError when another node owns one; nothing is written then.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.claim '[101]' local
    """
    known = records()
    foreign = [
        f"container {ctid} belongs to {known[ctid]['node']}"
        for ctid in ctids
        if known.get(ctid, {}).get("node", _node()) != _node()
    ]
    if foreign:
        raise CommandExecutionError("; ".join(foreign) + ": nothing was written.")
    if store == "nfs":
        enlist(ctids)
    new = {}
    for ctid in ctids:
        before, bytes_ = known.get(ctid), (copied or {}).get(ctid)
        if before and before["store"] == store and bytes_ in (None, int(before["copied"])):
            continue
        new[ctid] = __utils__["ringfree_owner.record"](_node(), store, time.time(), before, bytes_)
    if new:
        _push(new)
        known = records()
    unlike = [ctid for ctid, record in new.items() if known.get(ctid) != record]
    if unlike:
        raise CommandExecutionError(
            f"the owner records of containers {', '.join(map(str, unlike))} are not what was written"
        )
    if store == "local":
        unlist(ctids)
    return {ctid: known[ctid] for ctid in ctids}


def live_on_nfs():
    """
    This node's own list of the containers whose live copy is on the share, or is about to be; it is there when the
    share is not.

    The fence lets none of them start from local disk.

    Returns a dictionary: id to the node that owns it, as far as this node knows.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.live_on_nfs
    """
    return __utils__["ringfree_owner.load_list"](_read_list())


def void():
    """
    The containers of which an old copy is left on this node's disk that is nothing to go back to: they were destroyed
    on the share.  Others may have their ids by now.

    Returns a list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.void
    """
    return __utils__["ringfree_owner.load_void"](_read_list())


def _read_list():
    """The lines of this node's own list, which are whole."""
    data = __utils__["ringfree_files.read"](ON_NFS)
    try:
        lines = data and __utils__["ringfree_seal.unseal"](data, added=True)
        fault = __utils__["ringfree_owner.list_fault"](lines)
    except ValueError as error:
        fault = str(error)
    if fault:
        raise CommandExecutionError(
            f"{ON_NFS} is damaged: {fault}. 'salt {_node()} ringfree_owner.recover_list' writes it anew from what is "
            f"found; a rollback does so by itself."
        )
    return lines


def list_fault():
    """
    What is wrong with this node's own list.

    Returns text; an empty one when it is whole.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.list_fault
    """
    try:
        _read_list()
    except CommandExecutionError as error:
        return str(error)
    return ""


def recover_list():
    """
    Write this node's own list anew when it is damaged: what can still be read of it, and what the owner records say, or
    the manifest where the share is silent.

    Rather too much than too little: what is listed does not start from local disk.  The damaged list stays beside it.

    Returns the list, as :py:func:`live_on_nfs` does.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.recover_list
    """
    if not list_fault():
        return live_on_nfs()
    data = __utils__["ringfree_files.read"](ON_NFS)
    here, old = __utils__["ringfree_owner.load_list"](data), __utils__["ringfree_owner.load_void"](data)
    moved = __salt__["vz.manifest"]() or []
    try:
        known = records()
    except CommandExecutionError:
        known = {}
        if __salt__["ringfree_journal.state"]() != "local":
            here = {**dict.fromkeys(moved, _node()), **here}
    for ctid, owner in known.items():
        if owner["store"] == "nfs" and (owner["node"] == _node() or ctid in here or ctid in moved):
            here[ctid] = owner["node"]
        elif owner["store"] == "local" and __salt__["ringfree_journal.state"]() == "local":
            here.pop(ctid, None)
    os.rename(ON_NFS, f"{ON_NFS}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    _write_list(here, old)
    return live_on_nfs()


def _list(entries, old):
    if (entries, sorted(old)) != (live_on_nfs(), void()):
        _write_list(entries, old)


def _write_list(entries, old):
    os.makedirs(os.path.dirname(ON_NFS), mode=0o755, exist_ok=True)
    lines = __utils__["ringfree_owner.dump_list"](entries, old)
    __utils__["ringfree_files.write"](ON_NFS, __utils__["ringfree_seal.seal"](lines))


def enlist(ctids):
    """
    Put containers into this node's own list of those that live on the share: their local copies do not start.

    Before their last copy: a container that ran for a moment after it would lose what it wrote.

    ctids
        List of ids.

    Returns the list as it is now.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.enlist '[101]'
    """
    listed = {**live_on_nfs(), **dict.fromkeys(ctids, _node())}
    _list(listed, [ctid for ctid in void() if ctid not in ctids])
    return listed


def unlist(ctids):
    """
    Take containers out of this node's own list of those that live on the share: their local copies may start.

    For the way back, which works without the share too.  What belongs to another node stays in the list.

    ctids
        List of ids.

    Returns the list that is left.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.unlist '[101]'
    """
    left = {ctid: owner for ctid, owner in live_on_nfs().items() if ctid not in ctids or owner != _node()}
    _list(left, [ctid for ctid in void() if ctid not in ctids])
    return left


def left():
    """
    The containers that a way back left down on a node that is home: those whose newest data is still on the share, and
    which the fence keeps down, and those that did not start.

    Returns a dictionary: id to why; an empty one on a node that is not on local storage.  Raises CommandExecutionError
    when this node's own list is damaged.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.left
    """
    journal = __salt__["ringfree_journal.read"]()
    if journal["state"] != "local":
        return {}
    fenced = [ctid for ctid, owner in live_on_nfs().items() if owner == _node()]
    told = {int(ctid): why for ctid, why in journal["facts"].get("left", {}).items()}
    there = {*__salt__["vz.containers"]()} if told or fenced else set()
    gone = {*__salt__["vz.running"]()} if told else set()
    return {
        ctid: told.get(ctid, "its newest data is on the share only")
        for ctid in sorted({*fenced, *told} & there)
        if ctid in fenced or ctid not in gone
    }


def told_left(ctids):
    """
    Sentences for people about containers that a way back left down.

    ctids
        Dictionary: id to why, such as :py:func:`left` returns.

    Returns a list of sentences, each with what to type.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.told_left '{"101": "it does not start"}'
    """
    return [
        f"Container {ctid} stays down: {why.rstrip('.')}. 'salt {_node()} ringfree_rollback.bring_home {ctid}' goes on."
        for ctid, why in ctids.items()
    ]


def note():
    """
    Bring what this node knows by itself in line with the owner records on the share.

    A container that another node owns by now, or that was destroyed, is no longer of this node's manifest, and its old
    local copy here does not start.

    Returns what :py:func:`records` returns.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.note
    """
    forget(destroyed())
    known = records()
    # Again, by the records: where the first look was cut short, only the record is left of what was destroyed.
    gone = forget(destroyed(known))
    known, here = {ctid: owner for ctid, owner in known.items() if ctid not in gone}, live_on_nfs()
    moved = __salt__["vz.manifest"]() or []
    for ctid, owner in known.items():
        if owner["node"] != _node() and owner["store"] == "nfs" and (ctid in here or ctid in moved):
            here[ctid] = owner["node"]
    _list(here, void())
    left = [ctid for ctid in moved if here.get(ctid, _node()) == _node() and ctid not in void()]
    if left != moved:
        __salt__["vz.write_manifest"](left)
    return known


def destroyed(known=None):
    """
    The containers that this node owns on the share and that ``vzctl destroy`` has removed.

    Of those it leaves the conf under another name, and no private area.  A conf that is only missing is no such sign.

    known : None
        The owner records, where they are at hand; what this node knows by itself is looked at in any case.

    Returns a list of ids; empty while the shares are not mounted.  Raises CommandExecutionError when the SAN does not
    answer.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.destroyed
    """
    mine = {ctid for ctid, owner in live_on_nfs().items() if owner == _node()}
    mine |= {
        ctid for ctid, owner in (known or {}).items() if (owner["node"], owner["store"]) == (_node(), "nfs")
    }
    return _destroyed(sorted(mine))


def _destroyed(ctids):
    """Those of some containers of which the shares show what ``vzctl destroy`` leaves."""
    found = __salt__["ringfree_nfs.in_use"]()
    if not ctids or not found["private"]["mounted"] or not found["conf"]["mounted"]:
        return []
    __salt__["vz.must_answer"](found["private"]["mount"])
    areas, confs = (_names(found[share]["mount"]) for share in ("private", "conf"))
    return [
        ctid
        for ctid in ctids
        if ".ringfree" in areas
        and str(ctid) not in areas
        and f"{ctid}.conf" not in confs
        and f"{ctid}.conf.destroyed" in confs
    ]


def _names(folder):
    """What is in a directory on a share, by a program that can be left behind when the share hangs."""
    result = __utils__["ringfree_command.run"](["ls", "-1A", folder], deadline=_settings()["nfs"]["deadline"])
    if result["rc"] != 0 or result["cut"]:
        raise CommandExecutionError(__utils__["ringfree_command.describe"](result))
    return set(result["out"].splitlines())


def forget(ctids):
    """
    Take containers that were destroyed out of the manifest and the owner records: their ids are free again.

    An old copy on local disk stays as it is; this node's own list says from now on that it is void (:py:func:`void`):
    the way back does not start it.

    ctids
        List of ids.

    Returns the list.  Raises CommandExecutionError for any other container.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.forget '[101]'
    """
    if not ctids:
        return []
    other = sorted(set(ctids) - set(_destroyed(ctids)))
    if other:
        raise CommandExecutionError(
            f"containers {', '.join(map(str, other))} were not destroyed by vzctl on the share. Nothing was forgotten."
        )
    moved = __salt__["vz.manifest"]() or []
    here = {ctid: owner for ctid, owner in live_on_nfs().items() if ctid not in ctids}
    _list(here, {*void(), *(ctid for ctid in ctids if ctid in moved)})
    if set(moved) & set(ctids):
        __salt__["vz.write_manifest"]([ctid for ctid in moved if ctid not in ctids])
    # Last: what still has a record is found again.
    folder = f"{_settings()['shares']['private']['mount']}/.ringfree/owner"
    argv = ["rm", "-f", *(f"{folder}/{ctid}" for ctid in ctids)]
    result = __utils__["ringfree_command.run"](argv, deadline=30)
    if result["rc"] != 0:
        raise CommandExecutionError(__utils__["ringfree_command.describe"](result))
    return ctids


def give(ctid, to):
    """
    Hand a container on the share over to another node.

    ctid
        The container's id; it must be down on this node, which must own it.

    to
        The other node's minion id.

    Returns the record as read back.  Raises CommandExecutionError when it may not be handed over, or was started
    meanwhile; it is this node's then.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.give 101 node002
    """
    ctid, owner = int(ctid), records().get(int(ctid))
    if not owner or owner["node"] != _node() or owner["store"] != "nfs":
        what = f"its record says {owner['node']} and {owner['store']}" if owner else "it has no owner record"
        raise CommandExecutionError(
            f"container {ctid} is not this node's on the share: {what}. Nothing was changed."
        )
    up = __salt__["vz.running_or_mounted"]([ctid])
    if up:
        raise CommandExecutionError(
            f"container {ctid} {up[ctid]} on {_node()}: stop it first. Nothing was changed."
        )
    given = _hand(ctid, to, owner)
    if __salt__["vz.running_or_mounted"]([ctid]):
        _hand(ctid, _node(), given)
        raise CommandExecutionError(f"container {ctid} was started on {_node()} meanwhile; it stays its own.")
    note()
    return given


def _hand(ctid, to, before):
    """Write a container's record with another node; read it back."""
    record = __utils__["ringfree_owner.record"](to, "nfs", time.time(), before)
    _push({ctid: record})
    if records().get(ctid) != record:
        raise CommandExecutionError(f"the owner record of container {ctid} is not what was written")
    return record


def take(ctid, dead=None):
    """
    Become the owner of a container on the share.

    ctid
        The container's id; its owner has handed it over (:py:func:`give`), or it is dead.

    dead : None
        The owner's minion id, when nobody can ask it because it is dead: off, and not to come back by itself.

    Returns the record.  Raises CommandExecutionError when another node owns the container and is not said to be dead.

    CLI Example:

    .. code-block:: bash

        salt node002 ringfree_owner.take 101 dead=node001
    """
    ctid, owner = int(ctid), records().get(int(ctid))
    if not owner or owner["store"] != "nfs":
        what = f"its live copy is on {owner['node']}'s local disk" if owner else "it has no owner record"
        raise CommandExecutionError(f"container {ctid} cannot be taken, {what}. Nothing was changed.")
    if __salt__["ringfree_journal.state"]() != "nfs":
        raise CommandExecutionError(f"{_node()} is not committed to NFS. Nothing was changed.")
    if owner["node"] != _node():
        if owner["node"] != dead:
            raise CommandExecutionError(
                f"container {ctid} belongs to {owner['node']} since {owner['since']}. Nothing was changed. "
                f"'salt-run ringfree.move_owner {ctid} to={_node()}' asks it first."
            )
        owner = _hand(ctid, _node(), owner)
    _list({**live_on_nfs(), ctid: _node()}, void())
    return owner


def conflicts():
    """
    What of this node's containers another node could start as well, or has the address or the name of.

    Returns a list of sentences; empty when all is well.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.conflicts
    """
    known, up, found = records(), __salt__["vz.running"](), []
    for ctid in up:
        owner = known.get(ctid)
        if owner and owner["node"] != _node():
            found.append(
                f"container {ctid} runs on {_node()} and belongs to {owner['node']} since {owner['since']}: stop it, "
                f"or make it this node's: 'vzctl stop {ctid}', 'salt-run ringfree.move_owner {ctid} to={_node()}'"
            )
    areas = {ctid: __salt__["vz.config"](ctid)["private"] for ctid in containers()}
    shared = __salt__["ringfree_nfs.on_share"](areas.values())
    for ctid, private in areas.items():
        owner = known.get(ctid)
        if owner and owner["node"] != _node() and ctid not in up and private and private not in shared:
            found.append(
                f"container {ctid} on the local disk of {_node()} has the id of one that belongs to {owner['node']}"
            )
    return found + _same_names()


def _same_names():
    """Containers with one name or address, among all confs in the conf directory, those of other nodes too."""
    seen, found = {}, []
    for ctid in __salt__["vz.containers"]():
        conf = __salt__["vz.config"](ctid)
        for what, values in (("container name", [conf["name"]]), ("IP address", conf["ip"])):
            for value in filter(None, values):
                seen.setdefault((what, value), []).append(str(ctid))
    for (what, value), ctids in seen.items():
        if len(ctids) > 1:
            found.append(f"containers {', '.join(ctids)} have the same {what} {value}")
    return found


def _push(records):
    """Send records to the share; what is there of other containers stays."""
    here = f"{STATE_DIR}/owners-to-share"
    shutil.rmtree(here, ignore_errors=True)
    folder = os.path.join(here, ".ringfree", "owner")
    __utils__["ringfree_files.folder"](here)
    os.makedirs(folder)
    for ctid, record in records.items():
        __utils__["ringfree_files.write"](
            os.path.join(folder, str(ctid)),
            __utils__["ringfree_seal.seal"](__utils__["ringfree_owner.dump"](record)),
        )
    export = _settings()["shares"]["private"]["export"]
    __salt__["ringfree_san.push"](os.path.join(here, ".ringfree"), f"{export}/.ringfree")


def containers():
    """
    The containers of this node.

    A conf share that several nodes mount shows the confs of all of them; this node's are those of its manifest, those
    that it owns on the share, those that run here and those whose private area is here on local disk.

    Returns a sorted list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.containers
    """
    known = __salt__["vz.containers"]()
    if not _mounted("conf"):
        return known
    mine = set(__salt__["vz.manifest"]() or []) | set(__salt__["vz.running"]())
    mine.update(ctid for ctid, owner in live_on_nfs().items() if owner == __opts__["id"])
    areas = {ctid: __salt__["vz.config"](ctid)["private"] for ctid in known}
    shared = __salt__["ringfree_nfs.on_share"](areas.values())
    mine.update(ctid for ctid, area in areas.items() if area and area not in shared and os.path.isdir(area))
    return sorted(mine.intersection(known))


def _mounted(share):
    return __salt__["ringfree_nfs.in_use"]()[share]["mounted"]


def resolve(names):
    """
    Find this node's containers by id, NAME or HOSTNAME; those of other nodes on the same conf share do not count.

    names
        List of ids, NAMEs or HOSTNAMEs.

    Returns ``{"found": {name: ctid}, "faults": [text]}``; a fault for each name that fits none or several.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_owner.resolve '["PBX"]'
    """
    return __salt__["vz.resolve"](names, containers())
