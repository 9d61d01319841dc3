"""
Preflight: everything that could stop a migration of this node, found before anything changes.

:configuration: the pillar ``ringfree``; ``pillar/ringfree/init.sls`` explains each key
"""

import os

import salt.utils.path
from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_preflight"

PATIENCE = 10  # seconds that preflight waits for services which ought to answer at once
CONF_DIR = "/etc/vz/conf"


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["cloudstor.settings"]()


def _node():
    return __salt__["cloudstor.node"]()


def look():
    """
    Look at everything that could stop a migration of this node; change nothing that lasts.

    The export is mounted beside everything else for the time of a write-probe and unmounted again.

    Returns ``{"node": text, "state": text, "findings": [text], "notes": [text], "containers": {ctid: {"name", "ip",
    "layout", "bytes", "inodes"}}, "need": {"bytes", "inodes"}, "free": {"bytes", "inodes"}}``.  A finding stops the
    migration.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_preflight.look
    """
    report = {
        "node": _node(),
        "state": "unknown",
        "findings": [],
        "notes": [],
        "containers": {},
        "need": {},
        "free": {},
    }
    try:
        _settings()
        report["state"] = __salt__["cloudstor.state"]()
        report["notes"] += filter(None, [__salt__["ringfree_nfs.told_otherwise"]()])
        between = __salt__["ringfree_failover.between"]()
    except CommandExecutionError as error:
        report["findings"].append(str(error))
        return report
    if between:
        report["findings"].append(between)
        return report
    if "vz.status" not in __salt__:
        report["findings"].append("vzctl or vzlist is not installed: this is no OpenVZ node")
        return report
    _try(report, (_check_tools, _check_confs, _check_names))
    if report["state"] == "nfs":
        _try(report, (_check_conflicts,))
        return report
    _try(
        report,
        (_check_mount_points, _check_guard, _check_dumps, _check_layout, _check_health, _check_deadman),
    )
    away = __salt__["ringfree_san.unreachable"]()
    if away:
        report["findings"].append(f"the SAN {__salt__['ringfree_nfs.server']()} over ssh: {away}")
    else:
        _try(report, (_check_san, _check_owners, _check_conf_share))
    return report


def _try(report, checks):
    """Make checks; one that cannot be made is a finding."""
    for check in checks:
        try:
            check(report)
        except (CommandExecutionError, OSError, ValueError) as error:
            report["findings"].append(str(error))


def _check_tools(report):
    """Programs that the migration calls."""
    for program in ("rsync", "ssh", "mount.nfs", "vzctl", "vzlist", "timeout"):
        if not salt.utils.path.which(program):
            report["findings"].append(f"{program} is not installed on the node")
    if __opts__.get("state_queue"):
        report["findings"].append(
            "the minion's configuration sets state_queue: Salt can then let a highstate and a step of the migration "
            "wait for each other for ever; remove it"
        )
    ssh = _settings()["ssh"]
    for path in (ssh["key"], *([] if ssh["host_keys"] else [ssh["known_hosts"]])):
        if not os.path.isfile(path):
            report["findings"].append(f"{path} does not exist")


def _check_confs(report):
    """vz.conf and the container confs mean the same to vzctl and to a shell; containers are listed."""
    report["findings"] += __salt__["vz.ambiguities"]()
    up = __salt__["vz.running"]()
    for ctid in __salt__["cloudstor.containers"]():
        conf = __salt__["vz.config"](ctid)
        report["containers"][ctid] = {
            "name": conf["name"] or conf["hostname"],
            "ip": conf["ip"],
            "layout": conf["layout"] or __salt__["cloudstor.with_layout"](ctid, {})["VE_LAYOUT"],
            "running": ctid in up,
            "bytes": 0,
            "inodes": 0,
        }
    for name, entry in __utils__["ringfree_files.read_folder"](os.path.realpath(CONF_DIR)).items():
        if "link" in entry and (entry["link"].startswith("/") or ".." in entry["link"].split("/")):
            report["findings"].append(
                f"{CONF_DIR}/{name} is a link to {entry['link']}: the snapshot could not bring that file back; put the "
                f"file itself in its place"
            )
    for ctid in __salt__["vz.manifest"]() or []:
        if report["state"] == "in_flight" and ctid not in report["containers"]:
            report["findings"].append(f"container {ctid} of the manifest has no conf on this node")


def _check_names(report):
    """Priority and exempt names resolve; every container has a check or is exempt from it by name."""
    wanted = _settings()["containers"]
    for key, names in (("priority", wanted["priority"]), ("exempt", list(wanted["exempt"]))):
        for fault in __salt__["cloudstor.resolve"](names)["faults"]:
            report["findings"].append(f"pillar ringfree:containers:{key}: {fault}")
    for ctid, left in __salt__["cloudstor.checks"](sorted(report["containers"])).items():
        if not left:
            report["findings"].append(
                f"container {ctid} is exempt from every check, so that nothing could confirm it after its start: "
                f"give it one (pillar ringfree:containers:checks)"
            )


def _check_guard(report):
    """DISABLED in vz.conf keeps others from starting a container; a conf that says otherwise overrides it."""
    if report["state"] == "local":
        own = __utils__["ringfree_conf.parse"](
            __utils__["ringfree_files.read"](__salt__["vz.conf_path"]()) or b""
        )["values"]
        if "DISABLED" in own:
            report["findings"].append(
                "/etc/vz/vz.conf sets DISABLED; the migration needs this key for itself: remove the line"
            )
    for ctid in report["containers"]:
        data = __utils__["ringfree_files.read"](__salt__["vz.conf_path"](ctid)) or b""
        if __utils__["ringfree_conf.parse"](data)["values"].get("DISABLED") == "no":
            report["findings"].append(
                f'{__salt__["vz.conf_path"](ctid)} says DISABLED="no", which would let others start the container '
                f"while it moves: remove the line"
            )
    for path in __salt__["ringfree_guard.foreign"]():
        if path.endswith(".premount"):
            report["findings"].append(
                f"{path} exists and is not the fence of this project; move what it does into CTID.premount scripts"
            )
        else:
            report["notes"].append(
                f"{path} exists and stays: a new container on the share belongs to the node that starts it first"
            )


def _check_dumps(report):
    """A suspended container would be restored on other storage, or silently boot cold."""
    for path in __salt__["vz.dumps"]():
        report["findings"].append(
            f"{path}: a suspended container; resume it or stop it ('vzctl resume', 'vzctl stop') first"
        )


def _check_layout(report):
    """The private areas are where the confs say, are container trees and on local disk; the layout is named."""
    nfs3 = "vers=3" in _settings()["nfs"]["options"].split(",")
    for ctid in __salt__["cloudstor.to_move"]():
        entry = report["containers"].get(ctid)
        if entry is None:
            continue
        if entry["layout"].startswith("ploop") and not nfs3:
            report["findings"].append(
                f"container {ctid} is ploop, which needs NFS version 3: ringfree:nfs:options lacks vers=3"
            )
        if entry["running"]:
            proof = __salt__["vz.root_mount"](ctid)
            if not proof["ok"]:
                report["findings"].append(
                    f"container {ctid} runs from another tree than its conf names: {proof['why']}"
                )
        if report["state"] == "local":
            fault = __salt__["cloudstor.source_fault"](ctid)
            if fault:
                report["findings"].append(f"container {ctid}: {fault}")
    layouts = sorted({entry["layout"].split(":")[0] for entry in report["containers"].values()})
    report["notes"].append(f"container layouts: {', '.join(layouts) or 'none'}")
    if not __salt__["cloudstor.to_move"]():
        report["notes"].append("no container runs on this node: nothing will be moved")


def _check_health(report):
    """What does not answer now would not after the move either, and a whole node would go back for it."""
    if report["state"] != "local":
        return
    up = [ctid for ctid, entry in report["containers"].items() if entry["running"]]
    try:
        __salt__["vz.wait_healthy"](
            {ctid: asked for ctid, asked in __salt__["cloudstor.checks"](up).items() if asked}, PATIENCE
        )
    except CommandExecutionError as error:
        report["findings"].append(
            f"{error}. Mend it, or exempt the container from the check (pillar ringfree:containers:exempt)"
        )


def _check_deadman(report):
    """Nothing brings the node back just now, and what would do so is proved to work here."""
    if __salt__["ringfree_deadman.firing"]():
        report["findings"].append(
            "the dead-man brings this node back to local storage just now: wait for its end"
        )
        return
    __salt__["ringfree_deadman.armed"]()
    report["notes"].append(__salt__["ringfree_deadman.rehearse"]())


def _check_conflicts(report):
    """Nothing of this node runs, or could run, on another one as well."""
    try:
        report["findings"] += __salt__["ringfree_owner.conflicts"]()
    except CommandExecutionError as error:
        report["notes"].append(f"who owns what on the share could not be asked: {error}")


def _check_mount_points(report):
    """What lies under a mount point would be hidden, and could be started from."""
    report["findings"] += __salt__["ringfree_boot.open_mount_points"]()["faults"]


def _check_san(report):
    """The shares are there over ssh and NFS, both show the same, there is room, and nothing that is used is lost."""
    server = __salt__["ringfree_nfs.server"]()
    shares = _settings()["shares"]
    before = len(report["findings"])
    for share in shares.values():
        try:
            __salt__["ringfree_san.names"](share["export"])
        except CommandExecutionError as error:
            report["findings"].append(
                f"the SAN {server}, {share['export']} over ssh: {error}. Where it is missing: 'mkdir -p "
                f"{share['export']}' on the SAN, and export it"
            )
    abilities = {}
    for name, share in shares.items():
        try:
            abilities[name] = __salt__["ringfree_nfs.probe"](name)
        except CommandExecutionError as error:
            report["findings"].append(f"the export {server}:{share['export']}: {error}")
            continue
        if abilities[name]["same_directory"] is not True:
            report["findings"].append(abilities[name]["same_directory"])
    if len(report["findings"]) > before:
        return
    report["free"] = {
        "bytes": abilities["private"]["bytes_free"],
        "inodes": abilities["private"]["inodes_free"],
    }
    _check_room(report, abilities["private"])


def _check_room(report, abilities):
    """What the containers use and how much of it is still to be copied."""
    known = __salt__["ringfree_owner.records"]()
    need = {"bytes": 0, "inodes": 0}
    for ctid in __salt__["cloudstor.to_move"]():
        if ctid not in report["containers"] or __salt__["cloudstor.source_fault"](ctid):
            continue
        used = __salt__["ringfree_nfs.scan"](__salt__["vz.config"](ctid)["private"])
        report["containers"][ctid].update(bytes=used["bytes"], inodes=used["inodes"])
        held = __utils__["ringfree_probe.hold"](used, abilities, _settings()["accept"])
        report["findings"] += [f"container {ctid} {sentence}" for sentence in held["lost"]]
        report["notes"] += [f"container {ctid} {sentence} (accepted)" for sentence in held["accepted"]]
        copied = int(known.get(ctid, {}).get("copied", 0))
        need["bytes"] += max(0, used["bytes"] - copied)
        need["inodes"] += 0 if copied else used["inodes"]
    spare = 1 + _settings()["sync"]["spare"] / 100
    report["need"] = {key: int(value * spare) for key, value in need.items()}


def _check_owners(report):
    """No container belongs to another node; a copy that nobody owns is not overwritten unasked."""
    known = __salt__["ringfree_owner.records"]()
    names = __salt__["ringfree_san.names"](_settings()["shares"]["private"]["export"])
    for ctid in report["containers"]:
        owner = known.get(ctid)
        if owner and owner["node"] != _node():
            report["findings"].append(
                f"container {ctid} belongs to {owner['node']} on the share since {owner['since']}"
            )
        if owner and owner["store"] == "nfs" and report["state"] == "local":
            report["findings"].append(
                f"container {ctid} has its live copy on the share since {owner['since']}; its local copy is old"
            )
        if not owner and str(ctid) in names and not _settings()["sync"]["adopt"]:
            report["findings"].append(
                f"the share has a copy of container {ctid} that nobody owns; remove it, or set ringfree:sync:adopt "
                f"to true to overwrite it"
            )


def _check_conf_share(report):
    """No file on the conf share stands in the way of this node's."""
    report["findings"] += __salt__["cloudstor.conf_conflicts"]()
