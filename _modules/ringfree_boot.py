"""
A node that boots: with its share, without it, and once the share is back.

A committed node starts vz only with all three shares mounted.  When the SAN was away at boot, :py:func:`bring_up`
mounts them and starts what was to start, which is what vz itself would have started: what ran when vz stopped in order
and does not say ``ONBOOT=no``, and what says ``ONBOOT=yes``.

:depends: chattr, lsattr; systemd, or chkconfig or update-rc.d where there is no systemd
:configuration: the pillar ``ringfree`` (``shares``, ``start``)
"""

import glob
import logging
import os
import re
import time

import salt.utils.path
import salt.utils.systemd
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_boot"

#: Where vz keeps a file for each container that ran when it stopped; it removes them when it starts.
MARKS = "/var/lib/vzctl/vzreboot"
BOOT_SET = "/var/lib/ringfree/boot-set"
DROP_IN = "/etc/systemd/system/vz.service.d/ringfree.conf"
INIT_SCRIPT = "/etc/init.d/ringfree"
RUNLEVELS = "/etc/rc[2-5].d"  # where update-rc.d puts its links
SHARES = ("private", "root", "conf")
CTID = "[1-9][0-9]{0,9}"
HELD = "held_for_boot"  # the fact in the journal that says whose DISABLED in vz.conf is
QUICK = 30  # seconds for calls that only touch local files, and for those of systemd
#: Seconds for systemctl daemon-reload: its generators, see systemd.generator(7), look at the mount points in fstab, and
#: get 90 s when a file system hangs there (measured: 91).
RELOAD = 120


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _run(*argv, deadline=QUICK):
    return __utils__["ringfree_command.run"](list(argv), deadline=deadline)


def _must(*argv, deadline=QUICK):
    result = _run(*argv, deadline=deadline)
    if result["rc"] != 0:
        raise CommandExecutionError(__utils__["ringfree_command.describe"](result))
    return result["out"]


def _mount_points(shares=SHARES):
    """Where shares are mounted, as systemd and /proc/mounts name it: neither follows a link."""
    declared = __salt__["ringfree_settings.get"]()["shares"]
    return [__salt__["ringfree_nfs.real"](declared[share]["mount"]) for share in shares]


# --- mount points -----------------------------------------------------------------------------------------------------


def open_mount_points():
    """
    The mount points of the store that root could write into while nothing is mounted there.

    What is written there would be hidden by the next mount, and a container could start from it.  One that is mounted
    now is not looked at: what is below it shows when it is unmounted.  One that is still to be made will be open.

    Returns ``{"open": [path], "faults": [text]}``; a fault for one that has files in it.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_boot.open_mount_points
    """
    found = {"open": [], "faults": []}
    table = __salt__["vz.mounts"]()
    for path in _mount_points(("private", "root")):
        if __utils__["ringfree_mounts.at"](table, path):
            continue
        left = sorted(os.listdir(path)) if os.path.isdir(path) else []
        if left:
            first = __utils__["ringfree_command.spell"](left[0])
            found["faults"].append(
                f"{path} is to be a mount point and has {first} in it: look at it and move it away"
            )
        elif not _is_immutable(path):
            found["open"].append(path)
    return found


def _is_immutable(path):
    result = _run("lsattr", "-d", path)
    return result["rc"] == 0 and __utils__["ringfree_boot.immutable"](result["out"])


def close_mount_points(paths):
    """
    Make empty directories immutable, so that not even root writes into them.  A mount on them is as ever.

    paths
        List of directories.

    Returns a dictionary: path to ``None``, or to the reason why its file system cannot do that.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_boot.close_mount_points '["/vz/nfsprivate"]'
    """
    done = {}
    for path in paths:
        result = _run("chattr", "+i", path)
        done[path] = None if _is_immutable(path) else __utils__["ringfree_command.describe"](result)
    return done


# --- vz and its store -------------------------------------------------------------------------------------------------


def _wanted_files():
    """What makes vz wait, for the scheduler of this node: path to text and mode."""
    mounts = _mount_points()
    if salt.utils.systemd.booted(__context__):
        parallel = __salt__["ringfree_settings.get"]()["start"]["workers"]
        return {DROP_IN: (__utils__["ringfree_boot.drop_in"](mounts, parallel).encode(), 0o644)}
    return {INIT_SCRIPT: (__utils__["ringfree_boot.init_script"](mounts, MARKS, BOOT_SET).encode(), 0o755)}


def vz_waits(test=False):
    """
    Let vz start only with the shares; where there is no systemd, keep its list of containers until the share is there.

    test : False
        Only say what would change.

    Returns a dictionary of changes.  Raises CommandExecutionError when it does not stand afterwards.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_boot.vz_waits test=True
    """
    changes = {}
    for path, (data, mode) in _wanted_files().items():
        if __utils__["ringfree_files.read"](path) == data and _stands(path):
            continue
        changes[path] = {"old": "missing or different", "new": "as declared"}
        if not test:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            __utils__["ringfree_files.write"](path, data, mode)
            os.chmod(path, mode)
            _register(path)
            if not _stands(path):
                raise CommandExecutionError(f"{path} was written and has no effect")
    return changes


def _register(path):
    if path == DROP_IN:
        _must("systemctl", "daemon-reload", deadline=RELOAD)
    elif _has_chkconfig():
        _must("chkconfig", "--add", os.path.basename(path))
    else:
        _must("update-rc.d", os.path.basename(path), "defaults")


def _has_chkconfig():
    """Whether init is told of its scripts as on Red Hat; else as on Debian."""
    return bool(salt.utils.path.which("chkconfig"))


def _stands(path):
    """Whether systemd, or init, knows what a file says."""
    if path != DROP_IN and _has_chkconfig():
        return _run("chkconfig", os.path.basename(path))["rc"] == 0
    if path != DROP_IN:
        return bool(glob.glob(f"{RUNLEVELS}/S[0-9][0-9]{os.path.basename(path)}"))
    known = _must("systemctl", "show", "-p", "RequiresMountsFor", "vz.service").partition("=")[2].split()
    return set(_mount_points()) <= set(known)


def vz_alone():
    """
    Let vz start without the shares again, and forget what waits for them.

    Returns True when anything was there.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_boot.vz_alone
    """
    there = [path for path in (DROP_IN, INIT_SCRIPT, BOOT_SET) if os.path.lexists(path)]
    if INIT_SCRIPT in there:
        name = os.path.basename(INIT_SCRIPT)
        _must(*(("chkconfig", "--del", name) if _has_chkconfig() else ("update-rc.d", "-f", name, "remove")))
    for path in there:
        os.unlink(path)
    if DROP_IN in there:
        if not os.listdir(os.path.dirname(DROP_IN)):
            os.rmdir(os.path.dirname(DROP_IN))
        _must("systemctl", "daemon-reload", deadline=RELOAD)
    return bool(there)


# --- once the share is back -------------------------------------------------------------------------------------------


def waiting():
    """
    Whether containers of this node wait for the share since it booted.

    Returns ``None`` when nothing waits; otherwise ``{"word": "marks" or "todo", "ctids": [id]}``: what vz knew to have
    run when the node booted, or what is still to be started once the rest was.  Raises CommandExecutionError for a
    damaged list.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_boot.waiting
    """
    if __salt__["ringfree_journal.state"]() != "nfs":
        return None
    kept = _kept()
    if kept or __salt__["service.status"]("vz") or not _never_started():
        return kept
    return _marked()


def _kept():
    """The list in its file, which is whole, or None."""
    try:
        data = __utils__["ringfree_files.read"](BOOT_SET)
        lines = None if data is None else __utils__["ringfree_seal.unseal"](data)
        return __utils__["ringfree_boot.load_set"](lines)
    except ValueError as error:
        raise CommandExecutionError(
            f"{BOOT_SET} is damaged: {error}. Nothing was started. 'salt {__opts__['id']} ringfree_boot.recover_set' "
            f"writes it anew."
        ) from error


def _marked():
    """What vz itself knows to have run, as a list."""
    marks = os.listdir(MARKS) if os.path.isdir(MARKS) else []
    return {"word": "marks", "ctids": sorted(int(name) for name in marks if re.fullmatch(CTID, name))}


def recover_set():
    """
    Write the list of containers that wait for the share anew, when it is damaged: what vz still knows to have run.

    :py:func:`bring_up` starts these, and all others that say ``ONBOOT=yes`` and do not run.  The damaged list stays
    beside it.

    Returns what :py:func:`waiting` does.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_boot.recover_set
    """
    try:
        _kept()
    except CommandExecutionError:
        os.rename(BOOT_SET, f"{BOOT_SET}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        _keep(_marked())
    return waiting()


def _never_started():
    """Whether vz was not started since the node booted: stopped by hand is something else."""
    if not salt.utils.systemd.booted(__context__):
        return False
    said = _must("systemctl", "show", "-p", "ActiveEnterTimestampMonotonic", "vz.service")
    return said.strip().endswith("=0")


def bring_up(test=False):
    """
    Bring up a committed node that booted while the SAN was away.

    Mounts what is not mounted and proves it, starts vz when it was not started, then the containers that were to start
    and that this node owns: priority first, each waited for, then a few at a time, held back by load and by a slow
    share.  A container that somebody stopped while the node was up is not started, and a second call changes nothing.

    test : False
        Only say what would be done.

    Returns ``{"mounted": [path], "vz": bool, "started": [id], "left": {id: why}, "note": text}``; ``vz`` says whether
    it was started, ``note`` what stays to be done.  Raises CommandExecutionError when the node is not committed to NFS,
    a share cannot be mounted (nothing is started then), or a container does not start or answer.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_boot.bring_up
    """
    now = __salt__["ringfree_journal.state"]()
    if now != "nfs":
        raise CommandExecutionError(
            f"the node is not committed to NFS, its journal says {now}; nothing was done"
        )
    waits = waiting()
    missing = [share for share in SHARES if not __salt__["ringfree_nfs.in_use"]()[share]["mounted"]]
    done = {"mounted": _mount_points(missing), "vz": False, "started": [], "left": {}, "note": ""}
    if not test:
        __salt__["ringfree_run.hold"]("bringing the node up")
    try:
        if waits is None:
            return _rested(done, missing, test)
        done["vz"] = not __salt__["service.status"]("vz")
        if test:
            return done
        _keep(waits)
        _mount(missing)
        _start_vz(done["vz"])
        _start(_todo(waits, done), done)
        os.unlink(BOOT_SET)
        return done
    finally:
        if not test:
            __salt__["ringfree_run.release"]()


def _rested(done, missing, test):
    """Nothing waits: at most a share is mounted."""
    if not test:
        _mount(missing)
        if not __salt__["service.status"]("vz"):
            done["note"] = "vz was stopped since the node booted: 'service vz start' on the node starts it."
    return done


def _keep(waits):
    """Before vz forgets it: the list survives whatever happens here, and another reboot."""
    lines = __utils__["ringfree_boot.dump_set"](waits["word"], waits["ctids"])
    __utils__["ringfree_files.keep"](BOOT_SET, __utils__["ringfree_seal.seal"](lines))


def _mount(missing):
    """Mount shares, and prove that all of them are those of the SAN in use."""
    for share in missing:
        entry = __salt__["ringfree_nfs.in_use"]()[share]
        __salt__["ringfree_nfs.mount"](entry["wanted"], entry["mount"])
    astray = [entry["mount"] for entry in __salt__["ringfree_nfs.in_use"]().values() if not entry["mounted"]]
    if astray:
        raise CommandExecutionError(
            f"{', '.join(astray)} is not mounted from the SAN in use; nothing was started"
        )
    if missing:
        wanted = __salt__["ringfree_nfs.wanted_variables"]()
        __salt__["ringfree_nfs.set_variables"]({"nfsmounted": wanted["nfsmounted"]})


def _start_vz(wanted):
    """Start vz without its containers, which are started one after the other later; DISABLED keeps it from them."""
    held = __salt__["ringfree_journal.read"]()["facts"].get(HELD)
    if wanted:
        if not held and __salt__["ringfree_guard.unguard"](test=True):
            raise CommandExecutionError(
                'vz.conf says DISABLED="yes", by somebody who wants no container to start; nothing was started'
            )
        __salt__["ringfree_journal.remember"](HELD, True)
        __salt__["vz.configure"]({"DISABLED": "yes"})
        __salt__["service.start"]("vz")
        if not __salt__["service.status"]("vz"):
            raise CommandExecutionError(
                "the vz service does not run after its start: 'service vz status' on the node. No container was "
                "started; the same command again goes on"
            )
    # Also what an earlier call left when it was cut short here.
    if wanted or held:
        __salt__["ringfree_guard.unguard"]()
        __salt__["ringfree_journal.remember"](HELD, False)


def _todo(waits, done):
    """The containers to start, in their order; what this node may not start is left with a reason."""
    known, me = __salt__["ringfree_owner.note"](), __opts__["id"]
    confs = {ctid: __salt__["vz.config"](ctid) for ctid in __salt__["vz.containers"]()}
    shared = __salt__["ringfree_nfs.on_share"]([conf["private"] for conf in confs.values()])
    up, todo = set(__salt__["vz.running"]()), []
    for ctid, conf in confs.items():
        marked = ctid in waits["ctids"] and (waits["word"] == "todo" or conf["onboot"] is not False)
        if ctid in up or not (marked or (waits["word"] == "marks" and conf["onboot"])):
            continue
        private = conf["private"] or ""
        here = "nfs" if private in shared else "local"
        owner = known.get(ctid, {"node": me if here == "local" else None, "store": here})
        if owner["node"] != me:
            if ctid in waits["ctids"]:
                done["left"][ctid] = f"belongs to {owner['node'] or 'nobody'}"
        elif here == "local" and not os.path.isdir(private):
            continue  # of another node, whose conf is on the same share
        elif conf["disabled"]:
            done["left"][ctid] = 'its conf says DISABLED="yes"'
        elif owner["store"] != here:
            done["left"][ctid] = f"its conf leads to {private}, and its live copy is on {owner['store']}"
        else:
            todo.append(ctid)
    return todo


def _start(ctids, done):
    """Start containers in order; each one that runs is no longer waiting."""
    names = __salt__["ringfree_settings.get"]()["containers"]["priority"]
    left = __salt__["vz.start_order"](ctids, names) if ctids else []
    _keep({"word": "todo", "ctids": left})

    def note(ctid, phase, _):
        if phase == "done":
            done["started"].append(ctid)
            left.remove(ctid)
            _keep({"word": "todo", "ctids": left})
            __salt__["ringfree_journal.announce"]("bring_up", "done", container=ctid)

    found = __salt__["ringfree_start.in_order"](list(left), force=False, go_on=True, on_step=note)
    faults = [*found["faults"], *found["silent"].values()]
    try:
        __salt__["ringfree_start.answer"]([ctid for ctid in done["started"] if ctid not in found["silent"]])
    except CommandExecutionError as error:
        faults.append(str(error))
    if faults:
        raise CommandExecutionError(
            f"{len(done['started'])} of {len(ctids)} containers were started: {'; '.join(faults)}. The same command "
            f"again tries those that do not run"
        )
