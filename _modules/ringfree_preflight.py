"""
Preflight: everything that could stop a migration of this node, found before anything changes.

:configuration: the pillar ``ringfree``; ``pillar/ringfree/init.sls`` explains each key
"""

import contextlib
import hashlib
import os
import re
import secrets

import salt.loader
import salt.pillar
import salt.utils.path
from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_preflight"

PATIENCE = 10  # seconds that preflight waits for services which ought to answer at once
#: Shares whose files containers' roots have made: nobody but root walks there, as with vz's own /vz/private.
CLOSED = ("private", "root")
OPEN = 0o077
UNLIMITED = "ringfree-any-command"  # what a SAN says only to a key that opens a shell


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["ringfree_settings.get"]()


def _node():
    return __opts__["id"]


def look():
    """
    Look at everything that could stop a migration of this node; change nothing that lasts.

    The export is mounted beside everything else for the time of a write-probe and unmounted again.

    Returns ``{"node": text, "state": text, "findings": [text], "notes": [text], "containers": {ctid: {"name", "ip",
    "layout", "known_as", "running", "bytes", "inodes"}}, "shares": {share: source}, "need": {"bytes", "inodes"},
    "free": {"bytes", "inodes"}, "version": text, "loaded": {name: [path, check sum]}, "confs": {"share", "files"}}``;
    ``known_as`` is the name by which vzctl knows a container, and ``files`` are those that all nodes of one conf share
    have in common, with a check sum each.  A finding stops the migration; what would do no harm is a note.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_preflight.look
    """
    report = _look()
    # What keeps one check from being made may keep another one.
    report["findings"] = list(dict.fromkeys(report["findings"]))
    # Names of files and containers are in it, of which nobody knows what is in them.
    return __utils__["ringfree_command.printable"](report)


def _look():
    report = {
        "node": __opts__["id"],
        "state": "unknown",
        "findings": [],
        "notes": [],
        "containers": {},
        "shares": {},
        "need": {},
        "free": {},
        "version": None,
        "loaded": {},
        "confs": {},
    }
    # Where another module is in the place of one of ours its functions may be missing: that is said first.
    _try(report, (_check_settings, _check_node))
    return report


def _check_node(report):
    """The node, its containers and its SAN, as far as its state makes that matter."""
    try:
        _settings()
        report["state"] = __salt__["ringfree_journal.state"]()
        report["notes"] += filter(None, [__salt__["ringfree_nfs.told_otherwise"]()])
        between = __salt__["ringfree_failover.between"]()
    except CommandExecutionError as error:
        report["findings"].append(str(error))
        return
    if between:
        report["findings"].append(between)
        return
    if "vz.status" not in __salt__:
        report["findings"].append("vzctl or vzlist is not installed: this is no OpenVZ node")
        return
    report["shares"] = {name: entry["wanted"] for name, entry in __salt__["ringfree_nfs.in_use"]().items()}
    _try(report, (_check_tools, _check_confs, _check_links, _check_names))
    _try(report, (_check_snapshot,))
    if report["state"] == "nfs":
        _try(report, (_check_conflicts, _check_open_mounts))
        return
    _try(
        report,
        (
            _check_mount_points,
            _check_open_mounts,
            _check_guard,
            _check_left,
            _check_writable,
            _check_old_places,
            _check_dumps,
            _check_layout,
            _check_areas,
            _check_health,
            _check_fingerprint,
            _check_deadman,
        ),
    )
    away = __salt__["ringfree_san.unreachable"]()
    if away:
        report["findings"].append(f"the SAN {__salt__['ringfree_nfs.server']()} over ssh: {away}")
    else:
        _try(report, (_check_key, _check_san, _check_owners, _check_conf_share))


def salt_settings():
    """
    Look at what this minion's own Salt configuration, schedule and modules would make of a migration.

    Returns ``{"findings": [text], "notes": [text], "version": text, "loaded": {name: [path, check sum]}}``: the version
    of this project that the minion has, and every file of it that it loads, as ``_modules/vz.py``.

    CLI Example:

    .. code-block:: bash

        salt mon001 ringfree_preflight.salt_settings
    """
    report = {"findings": [], "notes": [], "version": None, "loaded": {}}
    _try(report, (_check_settings,))
    return __utils__["ringfree_command.printable"](report)


def _check_settings(report):
    """Salt itself does here what the orchestration expects of it (docs/salt-settings.md)."""
    report["findings"] += __utils__["ringfree_settings.of_minion"](__opts__)
    report["findings"] += _disabled() + _queued()
    if __opts__.get("test"):
        file = __utils__["ringfree_settings.place"](__opts__, "test") or "the minion's configuration"
        report["notes"].append(
            f"{file} sets test: the migration says for itself what it does, but a highstate corrects nothing here"
        )
    masters = __opts__.get("master_list") or __opts__.get("master")
    if isinstance(masters, list) and len(masters) > 1:
        report["notes"].append(
            f"this minion has {len(masters)} masters: begin every run from the same one, which alone knows of it"
        )
    if __opts__.get("pillarenv_from_saltenv"):
        _check_pillar_of_base(report)
    report["version"] = __utils__["ringfree_version.of_project"]()
    report["loaded"] = _loaded()


def _disabled():
    """States that somebody has switched off with state.disable, as a part of the migration that is in them."""
    named = __salt__["grains.get"]("state_runs_disabled", []) if "grains.get" in __salt__ else []
    return [
        f"somebody has said 'state.disable {name}' here, so that its states are not run: "
        f"'salt {_node()} state.enable {name}'"
        for name in named
        if str(name).split(".")[0] in ("ringfree", "*")
    ]


def _queued():
    """Scheduled states with a queue are as bad as the minion's own state_queue."""
    jobs = {**(__opts__.get("schedule") or {}), **(__pillar__.get("schedule") or {})}
    return [
        f"the schedule {name} runs {job['function']} with queue: Salt can then let it and a step of the migration wait "
        f"for each other for ever; take queue out of its kwargs"
        for name, job in jobs.items()
        if isinstance(job, dict)
        and str(job.get("function")).startswith("state.")
        and isinstance(job.get("kwargs"), dict)
        and job["kwargs"].get("queue")
    ]


def _check_pillar_of_base(report):
    """States are run from the environment base; with this option that decides about their pillar, too."""
    # Salt 3008 begins a new pillar with the one that there is.
    opts = {**__opts__, "pillar": {}}
    asked = salt.pillar.get_pillar(opts, dict(__grains__), opts["id"], "base", pillarenv="base")
    if asked.compile_pillar().get("ringfree") != __pillar__.get("ringfree"):
        file = __utils__["ringfree_settings.place"](__opts__, "pillarenv_from_saltenv")
        report["findings"].append(
            f"{file or 'the configuration of the minion'} sets pillarenv_from_saltenv: states would not have the "
            f"pillar ringfree that this minion has. Have it in the pillar's environment base, or remove the option"
        )


def _loaded():
    """Each file of this project that Salt would load here, with its check sum."""
    loaders = {
        "modules": salt.loader.minion_mods(__opts__),
        "states": salt.loader.states(__opts__, {}, {}, {}),
        "utils": salt.loader.utils(__opts__),
    }
    found = {}
    for kind, loader in loaders.items():
        for name, entry in loader.file_mapping.items():
            file = f"_{kind}/{name}.py"
            if __utils__["ringfree_settings.is_ours"](file):
                data = __utils__["ringfree_files.read"](entry[0]) if os.path.isfile(entry[0]) else None
                found[file] = [entry[0], hashlib.sha256(data or b"").hexdigest()]
    return found


def _try(report, checks):
    """Make checks; one that cannot be made is a finding."""
    for check in checks:
        try:
            check(report)
        except (CommandExecutionError, OSError, ValueError) as error:
            report["findings"].append(str(error))
        except KeyError as error:
            if not re.fullmatch(r"\w+\.\w+", str(error.args[0])):
                raise  # no function that Salt could not load, but a fault of ours
            report["findings"].append(f"{error} is missing on this node: not everything could be looked at")


def _check_tools(report):
    """Programs that the migration calls."""
    for program in ("rsync", "ssh", "mount.nfs", "vzctl", "vzlist", "timeout"):
        if not salt.utils.path.which(program):
            report["findings"].append(f"{program} is not installed on the node")
    ssh = _settings()["ssh"]
    for path in (ssh["key"], *([] if ssh["host_keys"] else [ssh["known_hosts"]])):
        if not os.path.isfile(path):
            report["findings"].append(f"{path} does not exist")


def _check_confs(report):
    """vz.conf and the container confs mean the same to vzctl and to a shell; containers are listed."""
    report["findings"] += __salt__["vz.ambiguities"]()
    report["notes"] += [
        f"{text} (the migration leaves this line as it is)"
        for text in __salt__["vz.ambiguities"](written=False)
    ]
    up, known_as = __salt__["vz.running"](), __salt__["vz.known_as"]()
    for ctid in __salt__["ringfree_owner.containers"]():
        try:
            conf = __salt__["vz.config"](ctid)
        except CommandExecutionError as error:
            report["findings"].append(str(error))
            continue
        report["containers"][ctid] = {
            "name": conf["name"] or conf["hostname"],
            "known_as": known_as.get(ctid),
            "ip": conf["ip"],
            "layout": conf["layout"] or __salt__["ringfree_confs.with_layout"](ctid, {})["VE_LAYOUT"],
            "running": ctid in up,
            "bytes": 0,
            "inodes": 0,
        }
    for ctid in __salt__["vz.manifest"]() or []:
        if report["state"] == "in_flight" and ctid not in report["containers"]:
            report["findings"].append(f"container {ctid} of the manifest has no conf on this node")


def _check_links(report):
    """What the snapshot could not bring back."""
    for name, entry in __utils__["ringfree_files.read_folder"](__salt__["vz.conf_dir"]()).items():
        if "link" in entry and (entry["link"].startswith("/") or ".." in entry["link"].split("/")):
            report["findings"].append(
                f"{__salt__['vz.conf_dir'](real=False)}/{name} is a link to {entry['link']}: the snapshot could not "
                f"bring that file back; put the file itself in its place"
            )


def _check_snapshot(report):
    """What a way back restores is whole; of a committed node, which is not migrated, it is only said."""
    if not __salt__["ringfree_journal.reached"]("snapshot"):
        return
    fault = __salt__["ringfree_snapshot.fault"]()
    if fault:
        report["notes" if report["state"] == "nfs" else "findings"].append(fault)
    else:
        report["notes"] += filter(None, [__salt__["ringfree_snapshot.note"]()])


def _check_names(report):
    """Priority and exempt names resolve; every container has a check or is exempt from it by name."""
    wanted = _settings()["containers"]
    lack = [name for name in wanted["may_lack"] if name != "*"]
    for key, names in (("priority", wanted["priority"]), ("exempt", wanted["exempt"]), ("may_lack", lack)):
        for fault in __salt__["ringfree_owner.resolve"](list(names))["faults"]:
            report["findings"].append(f"pillar ringfree:containers:{key}: {fault}")
    for ctid, left in __salt__["ringfree_start.checks"](sorted(report["containers"])).items():
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
                f"{__salt__['vz.conf_path']()} sets DISABLED; the migration needs this key for itself: remove the line"
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


def _check_writable(report):
    """What the migration will have to write, in vz.conf, in the confs of all containers and beside them."""
    if report["state"] == "local":
        report["findings"] += __salt__["ringfree_writes.faults"]()


def _check_old_places(report):
    """No action script goes on with a path of before the move, or needs what does not come along; others are said."""
    if report["state"] != "local":
        return
    found = __salt__["ringfree_mentions.old_places"]()
    report["findings"] += found["findings"] + __salt__["ringfree_mentions.left_behind"]()
    report["notes"] += found["notes"]


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


def _check_areas(report):
    """What is copied is what the container sees, and nobody else goes on with the old copy."""
    if report["state"] != "local":
        return
    table, moving = __salt__["vz.mounts"](), __salt__["cloudstor.to_move"]()
    areas = [_area(ctid, ctid in moving, table) for ctid in report["containers"]]
    scripts = os.listdir(__salt__["vz.conf_dir"]())
    report["findings"] += __utils__["ringfree_areas.faults"](areas, scripts)
    # By the path in the conf: where that is a link, what a way back replaces is kept beside the link.
    paths = [__salt__["vz.config"](area["ctid"])["private"] for area in areas if area["moves"]]
    homes = {os.path.dirname(path.rstrip("/")) for path in paths if path}
    report["findings"] += [
        f"{home}, in which private areas lie, is immutable or append-only: no way back could keep there what it "
        f"replaces, and no cleanup could take anything out; 'chattr -i -a {home}'"
        for home in sorted(homes)
        if __utils__["ringfree_tree.is_fixed"](home)
    ]


def _area(ctid, moves, table):
    """What the table of mounts says of a container's private area and root, as ``ringfree_areas`` takes it."""
    conf, found = __salt__["vz.config"](ctid), {}
    for key in ("private", "root"):
        with contextlib.suppress(ValueError):  # what has no path is said elsewhere
            found[key] = __utils__["ringfree_mounts.real_path"](table, conf[key] or "")
    private, root = found.get("private"), found.get("root")
    place = __utils__["ringfree_mounts.place"](table, private)
    return {
        "ctid": ctid,
        "private": private,
        "root": root,
        "moves": moves,
        "place": place,
        "in_area": __utils__["ringfree_mounts.below"](table, private) if private else [],
        "in_root": __utils__["ringfree_mounts.below"](table, root) if root else [],
        "shown": __utils__["ringfree_mounts.showing"](table, private, place) if place else [],
    }


def _check_health(report):
    """What does not answer now would not after the move either, and a whole node would go back for it."""
    if report["state"] != "local":
        return
    up = [ctid for ctid, entry in report["containers"].items() if entry["running"]]
    try:
        __salt__["vz.wait_healthy"](
            {ctid: asked for ctid, asked in __salt__["ringfree_start.checks"](up).items() if asked}, PATIENCE
        )
    except CommandExecutionError as error:
        report["findings"].append(
            f"{error}. Mend it, or exempt the container from the check (pillar ringfree:containers:exempt)"
        )


def _check_fingerprint(report):
    """What the containers have can be seen, so that it can be compared with what they have once they are moved."""
    if report["state"] == "local":
        report["notes"] += __salt__["ringfree_fingerprint.take"](__salt__["cloudstor.to_move"](), test=True)[
            "notes"
        ]


def _check_deadman(report):
    """Nothing brings the node back just now, and what would do so is proved to work here."""
    if __salt__["ringfree_run.firing"]():
        report["findings"].append(
            "the dead man's switch brings this node back to local storage just now: wait for its end"
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
    """What lies under a mount point would be hidden, and could be started from; the conf share has its one place."""
    report["findings"] += __salt__["ringfree_boot.open_mount_points"]()["faults"]
    table = __salt__["vz.mounts"]()
    mounts = {
        name: __utils__["ringfree_mounts.real_path"](table, share["mount"])
        for name, share in _settings()["shares"].items()
    }
    report["findings"] += filter(None, [__salt__["ringfree_nfs.conf_share_fault"]()])
    if report["state"] != "local":
        return
    report["findings"] += _occupied(table)
    places = list(_places(report, table))
    for name in ("private", "root"):
        mount, hidden, around = mounts[name], [], []
        for kind, place in places:
            # What the confs say of the share itself is where it is to be.
            if mount == os.path.commonpath([place, mount]) and kind != name:
                hidden.append(place)
            elif place == os.path.commonpath([place, mount]):
                around.append(place)
        for found, what in ((hidden, "would hide"), (around, "lies inside")):
            if found:
                report["findings"].append(
                    f"pillar ringfree:shares:{name}:mount: {mount} {what} {_some(found)}, which containers use: name "
                    f"another place"
                )


def _occupied(table):
    """What else is mounted where a share is to be, and a conf directory that is no good place for one."""
    found, confs = [], __salt__["vz.conf_dir"]()
    vz_conf = __utils__["ringfree_mounts.real_path"](table, __salt__["vz.conf_path"]())
    if vz_conf.startswith(f"{confs}/"):
        found.append(
            f"vz.conf of this node is {vz_conf}, which lies in {confs}, where the conf share is to be mounted: the "
            f"share would hide it. Keep vz.conf outside of the directory of the confs"
        )
    for name, entry in __salt__["ringfree_nfs.in_use"]().items():
        place = __utils__["ringfree_mounts.real_path"](table, entry["mount"])
        mount = __utils__["ringfree_mounts.at"](table, place)
        if mount and mount["source"] != entry["wanted"] and place != confs:
            found.append(
                f"{place}, where the share {name} is to be mounted, has {mount['source']} ({mount['fstype']}) mounted "
                f"on it, and nothing is mounted over that: 'umount {place}', and take its line out of /etc/fstab"
            )
    mount = __utils__["ringfree_mounts.covering"](table, confs)
    remote = mount and (__utils__["ringfree_mounts.is_nfs"](mount) or "fuse" in mount["fstype"])
    if mount and (remote or mount["mountpoint"] == confs):
        found.append(
            f"{confs}, where vzctl of this node reads its confs, lies on {mount['source']} ({mount['fstype']}), which "
            f"is mounted on {mount['mountpoint']}: the share could not be mounted over it, or no way back could count "
            f"on it. Copy the confs to a directory on the node's own disk, and make "
            f"{__salt__['vz.conf_dir'](real=False)} a link to it"
        )
    return found


def _check_open_mounts(report):
    """What local users of the node get at by now, through mount points: what is mounted has the mode of its export."""
    for name in CLOSED:
        share, table = _settings()["shares"][name], __salt__["vz.mounts"]()
        path = share["mount"]
        mounted = __utils__["ringfree_mounts.at"](table, __utils__["ringfree_mounts.real_path"](table, path))
        if not mounted and not os.path.isdir(path):
            continue
        mode, above = __salt__["ringfree_nfs.mode"](path), os.path.dirname(path)
        if not mode & OPEN:
            continue
        cure = f"'chmod 0700 {share['export']}' on the SAN" if mounted else "it is closed before it is used"
        report["notes"].append(
            f"{path} has mode {mode:04o}, in {above} with {__salt__['ringfree_nfs.mode'](above):04o}: local users of "
            f"this node could get at what containers hold there, and become root by a set-uid program: {cure}"
        )


def _places(report, table):
    """Where the containers of the node are: `private` or `root`, and the path without links."""
    for ctid in report["containers"]:
        conf = __salt__["vz.config"](ctid)
        for kind in ("private", "root"):
            if (conf[kind] or "").startswith("/"):
                yield kind, __utils__["ringfree_mounts.real_path"](table, conf[kind])


def _some(paths):
    """A few of many paths."""
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _check_key(report):
    """Root of the SAN would be whoever is root here, or has stolen the key; the migration itself works all the same."""
    server = __salt__["ringfree_nfs.server"]()
    argv = [*__salt__["ringfree_san.connection"](server), server, "echo", UNLIMITED]
    if UNLIMITED in __utils__["ringfree_command.run"](argv, deadline=60)["out"]:
        report["notes"].append(
            f"{_settings()['ssh']['key']} of {_node()} is good for any command on the SAN {server}: root here is root "
            f"there; let it in by 'ringfree-san install' instead (README, 'On a real master')"
        )


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
            abilities[name] = probe(name)
        except CommandExecutionError as error:
            report["findings"].append(f"the export {server}:{share['export']}: {error}")
            continue
        mode = abilities[name].get("root_mode", 0) if name in CLOSED else 0
        if mode & OPEN:
            report["findings"].append(
                f"the export {server}:{share['export']} has mode {mode:04o}: local users of the SAN, "
                f"and of each node that mounts it, get at what containers hold there, and become root by a set-uid "
                f"program: 'chmod 0700 {share['export']}' on the SAN"
            )
        if abilities[name]["same_directory"] is not True:
            report["findings"].append(abilities[name]["same_directory"])
    copy = abilities.get("private", {}).get("copy", {})
    if "plain" in copy:
        report["findings"].append(
            f"the SAN {server} does not take files as rsync brings them, so that no container could be copied: "
            f"{copy['plain']}{_cure(copy['plain'])}"
        )
    if len(report["findings"]) > before:
        return
    report["free"] = {
        "bytes": abilities["private"]["bytes_free"],
        # A file system that makes inodes as it needs them, such as btrfs, tells none at all.
        "inodes": abilities["private"]["inodes_free"] if abilities["private"]["inodes_total"] else None,
    }
    _check_room(report, abilities["private"])


def _cure(line):
    """What to do about an attribute that a SAN gives files by itself."""
    name = __utils__["ringfree_probe.label"](line)
    if not name:
        return ""
    if name.startswith(("security.", "system.")):
        return (
            f". {name} is a label of the SAN itself: 'ringfree-san install' there lets a node in so that copies are "
            f"without it, with rsync 3.1.3 or later"
        )
    return f". If the SAN gives {name} to files by itself: 'ringfree-san install … without={name}' there"


def _check_room(report, abilities):
    """What the containers use and how much of it is still to be copied."""
    known = __salt__["ringfree_owner.records"]()
    need = {"bytes": 0, "inodes": 0}
    for ctid in __salt__["cloudstor.to_move"]():
        if ctid not in report["containers"] or __salt__["cloudstor.source_fault"](ctid):
            continue
        try:
            used = __salt__["ringfree_nfs.scan"](__salt__["vz.config"](ctid)["private"])
        except CommandExecutionError as error:
            report["findings"].append(f"container {ctid} cannot be measured: {error}")
            continue
        report["containers"][ctid].update(bytes=used["bytes"], inodes=used["inodes"])
        held = __utils__["ringfree_probe.hold"](used, abilities, _settings()["accept"])
        obstacles = __utils__["ringfree_tree.obstacles"](used)
        refused = _not_copied(used, abilities)
        report["findings"] += [f"container {ctid} {text}" for text in [*held["lost"], *refused, *obstacles]]
        report["notes"] += [f"container {ctid} {sentence} (accepted)" for sentence in held["accepted"]]
        copied = int(known.get(ctid, {}).get("copied", 0))
        need["bytes"] += max(0, used["bytes"] - copied)
        need["inodes"] += 0 if copied else used["inodes"]
    spare = 1 + _settings()["sync"]["spare"] / 100
    report["need"] = {key: int(value * spare) for key, value in need.items()}


def _not_copied(used, abilities):
    """What a container uses and a copy on the SAN loses; rsync fails then, whatever the pillar accepts."""
    faults = {
        ability: f"{said}{_cure(said)}"
        for ability, said in abilities.get("copy", {}).items()
        if abilities.get(ability) is True or ability in _settings()["accept"]
    }
    known = {**dict.fromkeys(abilities, True), **faults}
    return __utils__["ringfree_probe.hold"](used, known, where="the SAN does not keep in a copy")["lost"]


def _check_left(report):
    """No container of this node waits for the end of the last way back."""
    fenced = __salt__["ringfree_owner.live_on_nfs"]()
    left = {ctid: why for ctid, why in __salt__["ringfree_owner.left"]().items() if ctid in fenced}
    report["findings"] += __salt__["ringfree_owner.told_left"](left)


def _check_owners(report):
    """No container belongs to another node; a copy that nobody owns is not overwritten unasked."""
    known, left = __salt__["ringfree_owner.records"](), __salt__["ringfree_owner.left"]()
    names = __salt__["ringfree_san.names"](_settings()["shares"]["private"]["export"])
    moving = __salt__["cloudstor.to_move"]()
    for ctid in report["containers"]:
        owner = known.get(ctid)
        if owner and owner["node"] != _node():
            report["findings"].append(
                f"container {ctid} belongs to {owner['node']} on the share since {owner['since']}"
            )
        if owner and owner["store"] == "nfs" and report["state"] == "local" and ctid not in left:
            report["findings"].append(
                f"container {ctid} has its live copy on the share since {owner['since']}; its local copy is old"
            )
        if not owner and str(ctid) in names and not _settings()["sync"]["adopt"]:
            if ctid not in moving:
                report["notes"].append(
                    f"the share has a copy of container {ctid} that nobody owns; it stays as it is"
                )
                continue
            report["findings"].append(
                f"the share has a copy of container {ctid} that nobody owns; remove it, or set ringfree:sync:adopt "
                f"to true to overwrite it"
            )


def _check_conf_share(report):
    """No file on the conf share stands in the way of this node's, or would be run here and is not known."""
    report["findings"] += __salt__["ringfree_confs.conflicts"]()
    report["confs"] = {
        "share": _settings()["shares"]["conf"]["export"],
        "files": __salt__["ringfree_confs.shared_files"](),
    }


def probe(share="private"):
    """
    Mount an export beside everything else, try as root what it can store, unmount it.

    share : private
        ``private``, ``root`` or ``conf``.

    Returns a dictionary: ability (``owner``, ``hard_link``, ``device``, ``sparse``, ``acl``, ``xattr``, ...) to True
    or the reason why not; ``bytes_free``, ``inodes_free``; ``root_mode``: the mode of the export's root;
    ``same_directory``: True when a file made over NFS was seen over ssh (both ways lead to the same place), else the
    reason; ``copy``, of the private share: what ``ringfree_san.try_copy`` says.  Raises CommandExecutionError when the
    export cannot be mounted or does not answer in time.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_preflight.probe
    """
    export, deadline = _settings()["shares"][share]["export"], _settings()["nfs"]["deadline"]
    folder = __salt__["ringfree_nfs.mount_aside"](share)
    try:
        result = __utils__["ringfree_command.ask"](__utils__["ringfree_probe.command"](folder), deadline)
        if result["answer"] is None:
            raise CommandExecutionError(f"{folder}: {__utils__['ringfree_command.describe'](result)}")
        found = result["answer"]
        found["root_mode"] = __salt__["ringfree_nfs.mode"](folder)
        found["same_directory"] = _same_directory(folder, export, deadline)
        if share == "private":
            found["copy"] = _try_copy(folder, export, deadline)
    finally:
        __salt__["ringfree_nfs.unmount"](folder)
    return found


def _try_copy(folder, export, deadline):
    """What a copy to the SAN loses; the folder for records goes again when there was none."""
    records = os.path.join(folder, ".ringfree")
    there = __utils__["ringfree_command.run"](["ls", "-d", records], deadline=deadline)["rc"] == 0
    try:
        return __salt__["ringfree_san.try_copy"](export)
    finally:
        if not there:
            __utils__["ringfree_command.run"](["rmdir", records], deadline=deadline)


def _same_directory(folder, export, deadline):
    """Whether a file made over NFS shows over ssh: True or the reason why not."""
    name = f".ringfree-probe-{secrets.token_hex(8)}"
    made = os.path.join(folder, name)
    result = __utils__["ringfree_command.run"](["touch", made], deadline=deadline)
    if result["rc"] != 0:
        return __utils__["ringfree_command.describe"](result)
    try:
        seen = name in __salt__["ringfree_san.names"](export)
    finally:
        __utils__["ringfree_command.run"](["rm", "-f", made], deadline=deadline)
    return seen or f"a file made on the NFS export {export} does not show in {export} over ssh"
