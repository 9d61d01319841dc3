"""
The end of local storage: private areas that moved to NFS long ago are moved aside, and deleted days later.

Nothing goes without a consent, which is a word that counts for a few minutes and for exactly what was shown with it
(``salt-run ringfree.consent``).  Every condition is probed again right before a directory is touched, and only what
this module moved aside itself, by its record, is ever deleted.  ``vzctl destroy`` is never used: it deletes what the
conf leads to, which is the copy on the share.

:configuration: the pillar ``ringfree`` (``cleanup``)
"""

import contextlib
import errno
import logging
import os
import stat
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_cleanup"

RECORD = "/var/lib/ringfree/cleanup.json"
#: In /run: no consent outlives a reboot.
CONSENT = "/run/ringfree/consent.json"
PROC = "/proc"
RUN = 86400  # seconds that a run may take that began while its consent counted
MOVE, DELETE = "move aside", "delete"
DONE = {MOVE: "moved aside", DELETE: "deleted"}
#: What a consent says.
GIVEN = {"word": str, "nodes": list, "digest": str, "until": (int, float), "by": str, "taken": bool}


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


# --- the record -------------------------------------------------------------------------------------------------------


def record():
    """
    What was moved aside on this node and what became of it, by its record and by what is there.

    Returns a list of ``{"kind", "ctid", "source", "kept", "inode", "bytes", "files", "state", "since"}``.  Raises
    CommandExecutionError for a damaged record.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.record
    """
    return _true(_load())["areas"]


def _load():
    try:
        data = __utils__["ringfree_files.read"](RECORD)
        if data is None:
            return __utils__["ringfree_cleanup.new"]()
        kept = __utils__["ringfree_seal.load_json"](data, __utils__["ringfree_cleanup.new"]())
        fault = __utils__["ringfree_cleanup.fault"](kept)
        if fault:
            raise ValueError(fault)
        return kept
    except ValueError as error:
        raise CommandExecutionError(
            f"{RECORD} is damaged: {error}. Nothing was removed; what was moved aside is still in "
            f"{__utils__['ringfree_cleanup.folder_names']()[0]} beside the private areas. Bring back what is to come "
            f"back ('mv'), delete the rest, then remove the record: the next cleanup writes a new one"
        ) from error


def _keep(new):
    __utils__["ringfree_files.keep"](RECORD, __utils__["ringfree_seal.dump_json"](new))
    return new


def _true(kept):
    """The record as it has to be by what is on the disk: a run may have been killed anywhere."""
    for area in list(kept["areas"]):
        state = __utils__["ringfree_cleanup.truth"](area, _inode(area["source"]), _inode(area["kept"]))
        if state != area["state"]:
            kept = __utils__["ringfree_cleanup.changed"](kept, area["kept"], state, area["since"])
    return kept


def _keep_true():
    """Let the record say what is there."""
    kept = _load()
    if _true(kept) != kept:
        _keep(_true(kept))


def _note(kept, state):
    """Note how far an area has come."""
    return _keep(__utils__["ringfree_cleanup.changed"](_true(_load()), kept, state, time.time()))


def _inode(path):
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def whereabouts(ctids):
    """
    What became of local private areas, and what brings them back.

    ctids
        List of ids of containers whose local private areas are not in their places.

    Returns a list of sentences without a period.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.whereabouts '[101]'
    """
    known = {area["ctid"]: area for area in record() if area["kind"] == "private"}
    told = []
    for ctid in ctids:
        area = known.get(ctid)
        what = f"the local private area of container {ctid}"
        if area is None:
            told.append(f"{what} is not there")
        elif area["state"] in ("aside", "moving", "restoring"):
            back = f"'salt {__opts__['id']} ringfree_cleanup.restore {ctid}' brings it back"
            told.append(f"{what} was moved aside to {area['kept']} on {_date(area['since'])}; {back}")
        else:
            words = {"deleting": "is being deleted since", "deleted": "was deleted on"}.get(
                area["state"], "is lost since"
            )
            told.append(f"{what} {words} {_date(area['since'])}; its copy on the share is the only one")
    return told


def _date(moment):
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


# --- what may go ------------------------------------------------------------------------------------------------------


def plan():
    """
    What a cleanup would move aside or delete on this node now, and what it leaves alone and why.  Changes nothing.

    Returns ``{"node": text, "digest": text, "items": [{"action", "kind", "ctid", "name", "path", "source", "inode",
    "bytes", "files", "missing", "age"}], "left": [{"what", "why"}]}``; ages in seconds, ``missing`` is how many of the
    files the share's copy does not have any more.  Raises CommandExecutionError when something cannot be known.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.plan
    """
    found = {"node": __opts__["id"], "items": [], "left": []}
    busy = _busy()
    if busy:
        found["left"].append({"what": found["node"], "why": busy})
    else:
        _look(found)
    found["digest"] = __utils__["ringfree_cleanup.digest"](found["items"])
    return found


def _busy():
    """Why nothing of this node may go just now, or None."""
    if __salt__["ringfree_journal.state"]() == "in_flight":
        return "it is in flight"
    held = __salt__["ringfree_run.holder"]()
    if held and held["pid"] != os.getpid():
        return f"'{held['what']}' works on it as process {held['pid']}"
    if __salt__["ringfree_deadman.armed"]() is not None:
        return "its dead man's switch is armed"
    work = __salt__["ringfree_run.busy"]()
    return f"it still works on {'; '.join(work.values())}" if work else None


def _look(found):
    """Every area that could go: those in their places, those aside, and what a way back replaced."""
    around = _around()
    on_nfs = __salt__["ringfree_journal.state"]() == "nfs"
    homes = _homes(on_nfs)
    asks = _Containers() if on_nfs else None
    areas = record()
    gone = {area["source"] for area in areas if area["state"] in ("aside", "deleting")}
    for ctid, home in sorted(homes.items()):
        if on_nfs and home not in gone and (not _is_local(home) or os.path.lexists(home)):
            _consider(found, asks, around, {"kind": "private", "ctid": ctid, "source": home}, homes)
    for area in areas:
        if area["state"] in ("aside", "deleting"):
            _consider_again(found, asks, around, area)
        elif area["state"] == "lost":
            found["left"].append(
                {"what": area["kept"], "why": "it is not where the record says: look for yourself"}
            )
    for base in sorted({os.path.dirname(home) for home in homes.values()}):
        if _is_local(base):
            _others(found, around, base, homes, areas)


def _is_local(path):
    """Whether a path is on no NFS server: one that does not answer must not be asked."""
    mount = __utils__["ringfree_mounts.covering"](__salt__["vz.mounts"](), path)
    return not (mount and __utils__["ringfree_mounts.is_nfs"](mount))


def _homes(on_nfs):
    """Where the containers of this node have, or had, their private areas on local disk; no link is above those."""
    if on_nfs:
        known = sorted({*__salt__["ringfree_owner.containers"](), *(__salt__["vz.manifest"]() or [])})
        homes = __salt__["ringfree_snapshot.local_areas"](known)
    else:
        homes = {
            ctid: __salt__["vz.config"](ctid)["private"] for ctid in __salt__["ringfree_owner.containers"]()
        }
    table = __salt__["vz.mounts"]()
    found = {}
    for ctid, home in homes.items():
        if home and home.startswith("/") and home.strip("/"):
            above, name = os.path.split(home.rstrip("/"))
            found[ctid] = os.path.join(__utils__["ringfree_mounts.real_path"](table, above), name)
    return found


class _Containers:
    """What is known of the containers of a node on NFS; asked once for all of them."""

    def __init__(self):
        self.wanted = __salt__["ringfree_settings.get"]()["cleanup"]
        self.journal = __salt__["ringfree_journal.read"]()
        self.manifest = __salt__["vz.manifest"]() or []
        self.owners = __salt__["ringfree_owner.records"]()
        self.up = __salt__["vz.running"]()
        self.known = __salt__["ringfree_owner.containers"]()
        store = __salt__["ringfree_nfs.in_use"]()["private"]
        self.share = __salt__["ringfree_nfs.real"](store["mount"])
        if not store["mounted"]:
            raise CommandExecutionError(
                f"{store['mount']} is not mounted from {store['wanted']}: nothing can be proved"
            )

    def committed(self):
        """When the node was committed."""
        noted = self.journal["steps"].get("commit", {}).get("verified", self.journal["since"])
        return max(noted, self.journal["since"])

    def synced(self, ctid):
        """When the final copy of a container began, if it was verified."""
        verified = self.journal["containers"].get(str(ctid), {}).get("sync", {}).get("verified")
        begun = self.journal["steps"].get("sync", {}).get("intent", verified)
        return None if verified is None else min(verified, begun)

    def objections(self, ctid, days):
        """Why the local private area of a container may not go."""
        moved = ctid in self.manifest
        facts = {
            "node": __opts__["id"],
            "state": __salt__["ringfree_journal.state"](),
            "moved": moved,
            "committed": self.committed(),
            "owner": self.owners.get(ctid),
            "share": f"{self.share}/{ctid}",
        }
        if not moved:
            return __utils__["ringfree_cleanup.objections"](facts, days, time.time())
        if ctid not in self.known:
            return ["it has no conf on this node"]
        now = __salt__["vz.status"](ctid)
        proof = __salt__["vz.root_mount"](ctid) if now["running"] else {"ok": False, "nfs": False}
        facts.update(
            leads_to=__salt__["ringfree_nfs.real"](f"/{__salt__['vz.config'](ctid)['private'] or ''}"),
            running=now["running"],
            mounted=now["mounted"],
            there=now["exist"],
            on_nfs=proof["ok"] and proof["nfs"],
        )
        return __utils__["ringfree_cleanup.objections"](facts, days, time.time())

    def name(self, ctid):
        """A container's NAME or HOSTNAME."""
        conf = __salt__["vz.config"](ctid) if ctid in self.known else {"name": "", "hostname": ""}
        return conf["name"] or conf["hostname"]


def _consider(found, asks, around, area, homes):
    """A local private area in its place: it may be moved aside, or is left."""
    ctid, path = area["ctid"], area["source"]
    faults = asks.objections(ctid, asks.wanted["age"])
    faults = faults or __utils__["ringfree_cleanup.unsafe"](_place(path, around))
    faults = faults or [
        f"container {other} has its private area there as well"
        for other, home in homes.items()
        if other != ctid and os.path.commonpath([home, path]) in (home, path)
    ]
    measured = None if faults else _measure(path, faults)
    item = _item(MOVE, area, path, measured, time.time() - asks.committed(), asks.name(ctid))
    if measured:
        faults = _compare(asks, item, measured)
    _add(found, item, faults)


def _consider_again(found, asks, around, area):
    """What was moved aside: it may be deleted, or is left."""
    kept, ctid = area["kept"], area["ctid"]
    wanted = __salt__["ringfree_settings.get"]()["cleanup"]["keep"]
    age = time.time() - area["since"]
    faults = []
    if area["state"] == "aside" and age < wanted * 86400:
        faults = [
            f"it was moved aside on {_date(area['since'])}, less than {wanted:g} days ago (ringfree:cleanup:keep)"
        ]
    if not faults and area["kind"] == "private":
        faults = asks.objections(ctid, 0) if asks else ["the node is local, by its journal"]
    faults = faults or __utils__["ringfree_cleanup.unsafe"](_place(kept, around))
    measured = None if faults else _measure(kept, faults)
    item = _item(DELETE, area, kept, measured, age, asks.name(ctid) if asks and ctid else "")
    if measured and area["kind"] == "private" and area["state"] == "aside":
        faults = _compare(asks, item, measured)
    _add(found, item, faults)


def _item(action, area, path, measured, age, name):
    return {
        "action": action,
        "kind": area["kind"],
        "ctid": area["ctid"],
        "name": name,
        "path": path,
        "source": area["source"],
        "inode": _inode(path),
        "bytes": measured["bytes"] if measured else 0,
        "files": measured["files"] if measured else 0,
        "missing": 0,
        "age": age,
    }


def _add(found, item, faults):
    if faults:
        what = f"container {item['ctid']}, {item['path']}" if item["ctid"] else item["path"]
        found["left"].append({"what": what, "why": "; ".join(faults)})
    else:
        found["items"].append(item)


def _measure(path, faults):
    """What an area holds; one that cannot be looked at keeps no other one from going, and is left."""
    try:
        return _measured(path)
    except OSError as error:
        faults.append(f"it cannot be measured: {error}")
        return None


def _measured(path):
    handle = __utils__["ringfree_tree.open_folder"](path)
    try:
        return __utils__["ringfree_tree.measure"](handle)
    finally:
        os.close(handle)


def _compare(asks, item, measured):
    """Why the share's copy does not count as complete."""
    try:
        missing = __salt__["cloudstor.missing_on_share"](item["ctid"], item["path"])
    except CommandExecutionError as error:
        return [str(error)]
    item["missing"] = missing
    present = asks.wanted["present"]
    return __utils__["ringfree_cleanup.incomplete"](measured, asks.synced(item["ctid"]), missing, present)


def _others(found, around, base, homes, areas):
    """What else lies beside the private areas: what a way back replaced may go by its own age, the rest is named."""
    removed, replaced = __utils__["ringfree_cleanup.folder_names"]()
    mine = {os.path.basename(home) for home in homes.values() if os.path.dirname(home) == base}
    for name in _names(base):
        if not name.startswith(".") and name not in mine:
            what = __utils__["ringfree_command.spell"](f"{base}/{name}")
            found["left"].append(
                {"what": what, "why": "no container of this node has its private area there"}
            )
    for stamp in _names(f"{base}/{replaced}"):
        _consider_replaced(found, around, f"{base}/{replaced}/{stamp}")
    known = {area["kept"] for area in areas}
    for stamp in _names(f"{base}/{removed}"):
        for name in _names(f"{base}/{removed}/{stamp}"):
            path = f"{base}/{removed}/{stamp}/{name}"
            if path not in known:
                what = __utils__["ringfree_command.spell"](path)
                found["left"].append({"what": what, "why": "the record does not know it"})


def _names(folder):
    """What is in a folder; nothing where that is missing, is a link, or is no directory."""
    try:
        handle = __utils__["ringfree_tree.open_folder"](folder)
    except OSError:
        return []
    try:
        return sorted(os.listdir(handle))
    finally:
        os.close(handle)


def _consider_replaced(found, around, path):
    """What a way back with sync_back replaced, once that is as old as a commit has to be."""
    wanted = __salt__["ringfree_settings.get"]()["cleanup"]["age"]
    faults = __utils__["ringfree_cleanup.unsafe"](_place(path, around))
    age = time.time() - os.lstat(path).st_ctime
    if not faults and age < wanted * 86400:
        faults = [f"it was replaced on {_date(os.lstat(path).st_ctime)}, less than {wanted:g} days ago"]
    if not faults and (begun := [name for name in _names(path) if name.endswith(".unfinished")]):
        ctids = ", ".join(name.partition(".")[0] for name in begun)
        faults = [f"a copy back of containers {ctids} was begun there and not finished"]
    area = {"kind": "replaced", "ctid": None, "source": path}
    measured = None if faults else _measure(path, faults)
    _add(found, _item(MOVE, area, path, measured, age, ""), faults)


# --- places -----------------------------------------------------------------------------------------------------------


def _around():
    """What processes hold and what every mount namespace has mounted: ``{"links": [...], "tables": [...]}``."""
    tables, seen = [(None, __salt__["vz.mounts"]())], set()
    for pid in filter(str.isdigit, os.listdir(PROC)):
        folder = f"{PROC}/{pid}"
        with contextlib.suppress(OSError, ValueError):
            space = os.readlink(f"{folder}/ns/mnt") if os.path.lexists(f"{folder}/ns/mnt") else pid
            if space not in seen:
                with open(f"{folder}/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
                    tables.append((pid, __utils__["ringfree_mounts.parse"](stream.read())))
                seen.add(space)
    return {"links": __utils__["ringfree_command.links"](PROC), "tables": tables}


def _place(path, around):
    """What there is to say of a directory that is to be moved or deleted."""
    (_, table), above = around["tables"][0], os.path.dirname(path)
    where = __utils__["ringfree_mounts.place"](table, path)
    found = {
        "path": path,
        "directory": False,
        "fstype": where and where["fstype"],
        "mount_point": bool(where and where["mount_point"]),
        "same_device": False,
        "mounts": [],
        "processes": [],
    }
    if where is None or not _is_local(path):
        return found
    info = os.lstat(path)
    found["directory"] = stat.S_ISDIR(info.st_mode)
    found["same_device"] = info.st_dev == os.lstat(above).st_dev
    for pid, mounts in around["tables"]:
        found["mounts"] += [
            f"it is mounted on {mount['mountpoint']}" + (f" for process {pid}" if pid else "")
            for mount in __utils__["ringfree_mounts.showing"](mounts, path, where)
        ]
    found["processes"] = [
        f"process {pid} uses {target}"
        for pid, target in around["links"]
        if target == path or target.startswith(path + "/")
    ]
    return found


def _must_be_safe(item):
    """Right before a directory is touched: is it still the one that was looked at, and does nobody use it."""
    if _inode(item["path"]) != item["inode"]:
        raise CommandExecutionError(f"{item['path']} is not what it was")
    faults = __utils__["ringfree_cleanup.unsafe"](_place(item["path"], _around()))
    if item["kind"] == "private" and not faults:
        asks = _Containers()
        faults = asks.objections(item["ctid"], asks.wanted["age"] if item["action"] == MOVE else 0)
    if faults:
        raise CommandExecutionError("; ".join(faults))


# --- consent ----------------------------------------------------------------------------------------------------------


def _consent():
    data = __utils__["ringfree_files.read"](CONSENT)
    try:
        given = __utils__["ringfree_seal.load_json"](data, GIVEN) if data else None
    except ValueError as error:
        log.warning("%s is damaged, and counts for nothing: %s", CONSENT, error)
        return None
    return given if given and all(isinstance(given[key], kind) for key, kind in GIVEN.items()) else None


def _write_consent(given):
    __utils__["ringfree_files.keep"](CONSENT, __utils__["ringfree_seal.dump_json"](given))


def consent(word, nodes, by="root"):
    """
    Take a consent to what :py:func:`plan` shows now; ``salt-run ringfree.consent`` makes the word and shows the list.

    word
        The word that the run will have to say.

    nodes
        List of the nodes that the consent is for.

    by : root
        Who gives it.

    Returns what :py:func:`plan` returns; when nothing would be removed no consent is kept.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.consent 7f3a-91c2 '["node001"]'
    """
    found = plan()
    if found["items"]:
        until = time.time() + __salt__["ringfree_settings.get"]()["cleanup"]["consent"] * 60
        given = {
            "word": str(word),
            "nodes": list(nodes),
            "digest": found["digest"],
            "until": until,
            "by": by,
            "taken": False,
        }
        _write_consent(given)
    return found


def take(word, nodes):
    """
    Let a run begin with a consent: from here on the word cannot begin another one.

    word
        The word.

    nodes
        List of the run's nodes.

    Returns True.  Raises CommandExecutionError when the consent does not count: unknown, used, expired, for other
    nodes, or for another list than there is now.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.take 7f3a-91c2 '["node001"]'
    """
    given = _consent()
    fault = __utils__["ringfree_cleanup.consent_fault"](given, word, time.time(), nodes)
    if not fault and given["taken"]:
        fault = f"the consent '{word}' was used before"
    fault = fault or __utils__["ringfree_cleanup.consent_fault"](
        given, word, time.time(), nodes, plan()["digest"]
    )
    if fault:
        raise CommandExecutionError(_refusal(fault))
    # Deleting may take hours; what was begun in time may go on.
    _write_consent({**given, "taken": True, "until": time.time() + RUN})
    __salt__["cloudstor.expect"]()
    return True


def _refusal(fault):
    me = __opts__["id"]
    return f"{fault}. Nothing was touched. See what would go: 'salt-run ringfree.consent {me}'"


def objection(word, digest):
    """
    Why a run may not remove anything of this node.

    word
        The word that it says.

    digest
        That of what it would remove.

    Returns text, or ``None`` when it may.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.objection 7f3a-91c2 0
    """
    fault = __utils__["ringfree_cleanup.consent_fault"](_consent(), word, time.time(), None, digest)
    return _refusal(fault) if fault else None


# --- moved and deleted ------------------------------------------------------------------------------------------------


def clean(word, on_done=None):
    """
    Move aside, and delete, what was consented to.

    word
        The word of the consent.

    on_done : None
        For callers in Python: function called with each item once it is done.

    Returns what :py:func:`plan` returns, for what is done now.  Raises CommandExecutionError, before anything is
    touched, when there is something to do and the consent does not count; between two items when the run was aborted;
    or at the end, naming each item that could not be done: it keeps no other one.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.clean 7f3a-91c2
    """
    __salt__["ringfree_run.hold"]("the cleanup")
    try:
        found = plan()
        fault = objection(word, found["digest"]) if found["items"] else None
        if fault:
            raise CommandExecutionError(fault)
        _keep_true()
        stamp = time.strftime("%Y%m%d-%H%M%S")
        faults = []
        for item in found["items"]:
            __salt__["ringfree_run.leave"]("cleanup")
            fault = _fault_of(item, stamp)
            if fault:
                faults.append(fault)
            elif on_done:
                on_done(item)
        if faults:
            raise CommandExecutionError("; ".join(faults))
        _must_be_done(found["items"])
        if found["items"]:
            os.unlink(CONSENT)
        return found
    finally:
        __salt__["ringfree_run.release"]()


def _fault_of(item, stamp):
    """Move one area aside, or delete it; returns why that could not be done, in words with the cure."""
    try:
        _must_be_safe(item)
        _move(item, stamp) if item["action"] == MOVE else _delete(item)
    except CommandExecutionError as error:
        return f"{item['path']}: {error}"
    except OSError as error:
        cure = f"; 'chattr -R -i -a {item['path']}' if it is immutable" if error.errno == errno.EPERM else ""
        return f"{item['path']} did not go: {error}{cure}"
    except Exception as error:
        log.exception("the cleanup goes on after a failure of: %s", item["path"])
        return f"{item['path']} did not go: {type(error).__name__}: {error}"
    return None


def _must_be_done(items):
    """Nothing is in its place any more of what went."""
    stayed = [item["path"] for item in items if os.path.lexists(item["path"])]
    if stayed:
        raise CommandExecutionError(f"still there after it was removed: {', '.join(stayed)}")


def _move(item, stamp):
    """Rename an area into a dated folder beside the private areas."""
    path, inode = item["path"], item["inode"]
    removed, replaced = __utils__["ringfree_cleanup.folder_names"]()
    above, name = os.path.split(path)
    base, new = above, name
    if item["kind"] == "replaced":
        base, new = os.path.dirname(above), f"{replaced.strip('.')}-{name}"
    kept = f"{base}/{removed}/{stamp}/{new}"
    _parts(kept)
    if os.path.lexists(kept):
        raise CommandExecutionError(f"{kept} is there already; {path} was left in its place")
    entry = {key: item[key] for key in ("kind", "ctid", "source", "inode", "bytes", "files")}
    kept_record = _true(_load())
    kept_record["areas"].append({**entry, "kept": kept, "state": "moving", "since": time.time()})
    _keep(kept_record)
    with (
        _folder(above) as source,
        _folder(base) as parent,
        _made(parent, removed) as folder,
        _made(folder, stamp) as target,
    ):
        _rename(source, name, target, new, inode)
    _note(kept, "aside")
    item["kept"] = kept


def _rename(source, name, target, new, inode):
    """Rename within one file system what has this inode, and prove it."""
    info = os.stat(name, dir_fd=source, follow_symlinks=False)
    if not stat.S_ISDIR(info.st_mode) or info.st_ino != inode or info.st_dev != os.fstat(target).st_dev:
        raise CommandExecutionError(f"{name} is not the directory that it was, or is on another file system")
    os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
    for handle in (target, source):
        os.fsync(handle)
    if os.stat(new, dir_fd=target, follow_symlinks=False).st_ino != inode:
        raise CommandExecutionError(f"{new} is not what was renamed")


@contextlib.contextmanager
def _folder(path, above=None):
    """An open directory, no part of whose path is a symbolic link."""
    handle = __utils__["ringfree_tree.open_folder"](path, above)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _made(above, name):
    """A directory of ours, made when it is missing, that nobody but root can look into."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
        os.fsync(above)
    with _folder(name, above) as handle:
        info = os.fstat(handle)
        if info.st_uid != os.geteuid() or info.st_dev != os.fstat(above).st_dev:
            raise CommandExecutionError(f"{name} beside the private areas is not of this project")
        os.fchmod(handle, 0o700)
        yield handle


def _delete(item):
    """Delete what the record says was moved aside, and nothing else."""
    kept = item["path"]
    (area,) = [
        entry for entry in record() if entry["kept"] == kept and entry["state"] in ("aside", "deleting")
    ]
    if area["inode"] != item["inode"]:
        raise CommandExecutionError(f"{kept} is not what the record says")
    base, stamp, name = _parts(kept)
    removed = __utils__["ringfree_cleanup.folder_names"]()[0]
    _note(kept, "deleting")
    with _folder(base) as parent, _folder(removed, parent) as folder:
        with _folder(stamp, folder) as above:
            __utils__["ringfree_tree.remove"](above, name, area["inode"])
        _remove_empty(stamp, folder)
        _remove_empty(removed, parent)
    _note(kept, "deleted")


def _parts(kept):
    """The folder of the private areas, the dated folder, and the name in it."""
    try:
        return __utils__["ringfree_cleanup.parts"](kept)
    except ValueError as error:
        raise CommandExecutionError(f"{error}; it was not touched") from error


def _remove_empty(name, above):
    """Our folders go when nothing is in them any more."""
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=above)


def restore(ctid=None):
    """
    Bring back to its place what was moved aside and not deleted yet.

    ctid : None
        A container's id; ``None`` for everything.

    Returns a list of paths.  Raises CommandExecutionError when there is nothing to bring back, or something is in its
    place.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_cleanup.restore 101
    """
    __salt__["ringfree_run.hold"]("the cleanup")
    try:
        _keep_true()
        areas = [area for area in record() if area["state"] == "aside" and ctid in (None, area["ctid"])]
        if not areas:
            told = whereabouts([ctid]) if ctid else ["nothing is aside on this node"]
            raise CommandExecutionError(f"nothing was brought back: {'; '.join(told)}")
        return [_bring_back(area) for area in areas]
    finally:
        __salt__["ringfree_run.release"]()


def _bring_back(area):
    """Rename one area back into its place."""
    source, kept = area["source"], area["kept"]
    if os.path.lexists(source):
        raise CommandExecutionError(f"{source} is there already; {kept} was left where it is")
    base, stamp, name = _parts(kept)
    removed = __utils__["ringfree_cleanup.folder_names"]()[0]
    above, home = os.path.split(source)
    _note(kept, "restoring")
    with _folder(base) as parent, _folder(removed, parent) as folder:
        with _folder(stamp, folder) as here, _folder(above) as target:
            _rename(here, name, target, home, area["inode"])
        _remove_empty(stamp, folder)
        _remove_empty(removed, parent)
    _note(kept, None)
    __salt__["ringfree_journal.announce"](
        "cleanup", "verified", area["ctid"], f"{source} is in its place again"
    )
    return source
