"""
The dead man's switch: a node in flight that nobody commits in time goes back to local storage by itself.

It is armed before the first container stops and disarmed by the commit, or by a way back.  It needs no master and no
minion, and survives a reboot: systemd or cron starts a ``salt-call`` of its own, with copies of our modules and of the
pillar, that does what a rollback does.

:depends: systemd, or cron and flock(1) where there is no systemd
:configuration: the pillar ``ringfree`` (``deadman``, ``rollback``)
"""

import logging
import os
import shutil
import sys
import time

import salt.utils.json
import salt.utils.minion
import salt.utils.path
import salt.utils.systemd
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_deadman"

NAME = "ringfree-deadman"
REHEARSAL = f"{NAME}-rehearsal"
RECORD_KEYS = ("version", "deadline", "since", "scheduler", "cachedir")
FOLDER = "/var/lib/ringfree/deadman"
REHEARSAL_FOLDER = f"{FOLDER}-rehearsal"
UNITS = "/etc/systemd/system"
#: What lies here is gone after a reboot.
PASSING_UNITS = "/run/systemd/system"
CRON = "/etc/cron.d"
PROOF = 90  # seconds until a rehearsal must have ended
DEADLINE = 30  # seconds for each call of the scheduler


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


# --- armed ------------------------------------------------------------------------------------------------------------


def arm(deadline):
    """
    Have this node go back to local storage by itself once a deadline has passed.

    Arming again replaces the deadline, and at no moment none is armed.

    deadline
        Seconds since the epoch.

    Returns what :py:func:`armed` returns.  Raises CommandExecutionError when the trigger does not stand, or when the
    dead man's switch is at work just now.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_deadman.arm 1767225600
    """
    _must_not_fire()
    scheduler = "systemd" if salt.utils.systemd.booted(__context__) else "cron"
    _fill(FOLDER, deadline)
    record = __utils__["ringfree_deadman.record"](deadline, time.time(), scheduler, __opts__["cachedir"])
    _put(f"{FOLDER}/record.json", __utils__["ringfree_seal.dump_json"](record).decode(), 0o600)
    _install(scheduler, NAME, FOLDER, UNITS)
    return armed()


def disarm():
    """
    Call the dead man's switch off: trigger first, then its folder.

    Returns True when anything was there.  Raises CommandExecutionError when the trigger still stands afterwards.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_deadman.disarm
    """
    return _remove(NAME, FOLDER, UNITS)


def armed():
    """
    What is armed.

    Returns ``{"deadline": seconds, "since": seconds, "scheduler": "systemd" or "cron", "cachedir": path, "fault": text
    or None}``, with a fault when its trigger does not stand; ``None`` when nothing is armed.  Raises
    CommandExecutionError for a damaged record.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_deadman.armed
    """
    kept = record()
    return kept and {**kept, "fault": _trigger_fault(kept["scheduler"])}


def record():
    """
    What the dead man's switch was armed with.

    Returns ``{"version", "deadline": seconds since the epoch, "since", "scheduler", "cachedir"}``, or ``None`` when
    none is armed.  Raises CommandExecutionError for a damaged record.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_deadman.record
    """
    data = __utils__["ringfree_files.read"](f"{FOLDER}/record.json")
    if data is None:
        return None
    try:
        found = __utils__["ringfree_seal.load_json"](data, RECORD_KEYS)
        fault = __utils__["ringfree_deadman.record_fault"](found)
    except ValueError as error:
        fault = str(error)
    if fault:
        raise CommandExecutionError(
            f"{FOLDER}/record.json is damaged: {fault}. Whether this node goes back by itself is unknown; "
            f"'salt {__opts__['id']} ringfree_deadman.disarm' removes it, 'salt-run state.orch migrate' then arms anew."
        )
    return found


def _must_not_fire():
    beside = __salt__["ringfree_run.firing"]()
    if beside:
        raise CommandExecutionError(
            f"the dead man's switch brings {__opts__['id']} back to local storage just now (process "
            f"{', '.join(map(str, beside))}); wait for its end: 'salt {__opts__['id']} cloudstor.whereabouts'"
        )


# --- the folder -------------------------------------------------------------------------------------------------------


def _fill(folder, deadline, rehearsal=False):
    """Everything that a salt-call without master and minion needs."""
    salt_call = salt.utils.path.which("salt-call")
    if not salt_call:
        raise CommandExecutionError("salt-call is not installed on the node; the dead man's switch needs it")
    for path in (folder, f"{folder}/pillar", f"{folder}/extmods", f"{folder}/files"):
        __utils__["ringfree_files.folder"](path)
    for name in ("lock", "said", "log"):  # what cron, the shell and Salt would make for everybody to read
        if not os.path.exists(f"{folder}/{name}"):
            _put(f"{folder}/{name}", b"", 0o600)
    for kind, source in _sources().items():
        __utils__["ringfree_files.folder"](f"{folder}/extmods/{kind}")
        for name, data in source.items():
            _put(f"{folder}/extmods/{kind}/{name}", data, 0o600)
    for name, text in __utils__["ringfree_deadman.pillar"](__salt__["ringfree_settings.get"]()).items():
        _put(f"{folder}/pillar/{name}", text, 0o600)
    config = __utils__["ringfree_deadman.config"](folder, __opts__["id"], __opts__["sock_dir"])
    _put(f"{folder}/minion", config, 0o600)
    _put(f"{folder}/Saltfile", b"{}\n", 0o600)
    _put(
        f"{folder}/fire", __utils__["ringfree_deadman.script"](folder, salt_call, deadline, rehearsal), 0o700
    )


def _sources():
    """Our own files from where this minion has them loaded: kind to name to data."""
    beside = sys.modules[__utils__["ringfree_files.write"].__module__].__file__
    found = {}
    for kind, file in (("modules", __file__), ("utils", beside)):
        place = os.path.dirname(file)
        names = filter(__utils__["ringfree_deadman.is_ours"], sorted(os.listdir(place)))
        found[kind] = {name: __utils__["ringfree_files.read"](os.path.join(place, name)) for name in names}
    return found


def _put(path, data, mode):
    """Replace a file unless it says that already."""
    data = data.encode() if isinstance(data, str) else data
    if __utils__["ringfree_files.read"](path) != data:
        __utils__["ringfree_files.write"](path, data, mode)


# --- the trigger ------------------------------------------------------------------------------------------------------


def _install(scheduler, name, folder, units):
    """Have the scheduler start the script; proved by asking it."""
    if scheduler == "cron":
        _put(f"{CRON}/{name}", __utils__["ringfree_deadman.cron"](folder), 0o644)
    else:
        passing = units == PASSING_UNITS
        os.makedirs(units, mode=0o755, exist_ok=True)
        _put(f"{units}/{name}.service", __utils__["ringfree_deadman.service"](folder), 0o644)
        _put(f"{units}/{name}.timer", __utils__["ringfree_deadman.timer"](passing), 0o644)
        _systemctl("daemon-reload")
        if not passing:
            _systemctl("enable", f"{name}.timer")
        _systemctl("start", f"{name}.timer")
    fault = _trigger_fault(scheduler) if name == NAME else scheduler == "cron" and _cron_fault()
    if fault:
        _fail(fault)


def _fail(said):
    raise CommandExecutionError(
        f"The dead man's switch is not armed: {said} No container was stopped for it. When the cause is gone, "
        f"'salt-run state.orch migrate' continues."
    )


def _systemctl(*words):
    """A call of systemctl that has to succeed."""
    result = __utils__["ringfree_command.run"](["systemctl", *words], deadline=DEADLINE)
    if result["rc"] != 0:
        _fail(__utils__["ringfree_command.describe"](result))


def _trigger_fault(scheduler):
    """Why the trigger does not stand, or None."""
    if scheduler == "cron":
        if not os.path.isfile(f"{CRON}/{NAME}"):
            return f"{CRON}/{NAME} is not there."
        return _cron_fault()
    for word in ("is-enabled", "is-active"):
        asked = __utils__["ringfree_command.run"](["systemctl", word, f"{NAME}.timer"], deadline=DEADLINE)
        if asked["rc"] != 0:
            return __utils__["ringfree_command.describe"](asked)
    return None


def _cron_fault():
    if __salt__["service.status"]("crond") or __salt__["service.status"]("cron"):
        return None
    return "there is no systemd and no cron daemon runs: 'service crond status', on Debian 'service cron status'."


def traces():
    """
    What there is of a dead man's switch on this node, armed or left over.

    Returns a list of paths.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_deadman.traces
    """
    return list(filter(os.path.lexists, [*_files(NAME, UNITS), FOLDER]))


def _files(name, units):
    """The files of a trigger; the last one is what a systemctl that failed has left."""
    return [
        f"{units}/{name}.timer",
        f"{units}/{name}.service",
        f"{CRON}/{name}",
        f"{units}/timers.target.wants/{name}.timer",
    ]


def _remove(name, folder, units):
    """Take a trigger and its folder away; proved by looking."""
    paths = _files(name, units)
    if not any(map(os.path.lexists, [*paths, folder])):
        return False
    with_units = any(map(os.path.lexists, paths[:2]))
    if with_units:
        # Never the service of the real one: it may be the one that runs this.
        hanging = [f"{name}.service"] if name == REHEARSAL else []
        for words in (["disable", f"{name}.timer"], ["stop", f"{name}.timer", *hanging]):
            __utils__["ringfree_command.run"](["systemctl", *words], deadline=DEADLINE)
    for path in paths:
        if os.path.lexists(path):
            os.unlink(path)
            __utils__["ringfree_files.sync_folder"](os.path.dirname(path))
    if with_units:
        _forget(name)
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        raise CommandExecutionError(f"{folder} is still there; its trigger is gone. Remove it by hand.")
    return True


def _forget(name):
    """systemd knows nothing of the units any more; what it says is proof."""
    # The service of the dead man's switch runs this: read again, it would be one without KillMode=process, and its end
    # would end everything that is left of it. Without that systemd forgets it when it has ended.
    reload = [] if __opts__.get("ringfree_deadman") else [["daemon-reload"]]
    for words in (*reload, ["reset-failed", f"{name}.timer", f"{name}.service"]):
        __utils__["ringfree_command.run"](["systemctl", *words], deadline=DEADLINE)
    asked = __utils__["ringfree_command.run"](["systemctl", "is-active", f"{name}.timer"], deadline=DEADLINE)
    if asked["rc"] in (0, None):
        raise CommandExecutionError(
            f"{name}.timer is still active, its unit file is gone: 'systemctl stop {name}.timer' on {__opts__['id']}"
        )


# --- the rehearsal ----------------------------------------------------------------------------------------------------


def rehearse():
    """
    Prove the path of the dead man's switch: the scheduler starts a rehearsal that loads everything without the master.

    Changes nothing that lasts.

    Returns text that says what was proved.  Raises CommandExecutionError saying what does not work.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_deadman.rehearse
    """
    scheduler = "systemd" if salt.utils.systemd.booted(__context__) else "cron"
    started = time.monotonic()
    _clear_rehearsal()
    try:
        _fill(REHEARSAL_FOLDER, 0, rehearsal=True)
        _install(scheduler, REHEARSAL, REHEARSAL_FOLDER, PASSING_UNITS)
        said = _wait_for_report(scheduler)
    finally:
        _clear_rehearsal()
    if (
        said["faults"]
        or said["node"] != __opts__["id"]
        or said["state"] != __salt__["ringfree_journal.state"]()
    ):
        raise CommandExecutionError(
            f"the rehearsal of the dead man's switch would not have brought this node back: "
            f"{'; '.join(said['faults']) or said}"
        )
    return f"the dead man's switch was rehearsed by {scheduler} in {time.monotonic() - started:.0f} s"


def _clear_rehearsal():
    """Also what a rehearsal that was killed has left."""
    _remove(REHEARSAL, REHEARSAL_FOLDER, PASSING_UNITS)


def _wait_for_report(scheduler):
    end = time.monotonic() + PROOF
    while time.monotonic() < end:
        data = __utils__["ringfree_files.read"](f"{REHEARSAL_FOLDER}/report.json")
        if data is not None:
            return salt.utils.json.loads(data)
        if scheduler == "systemd" and _has_failed():
            break
        time.sleep(0.2)
    said = (__utils__["ringfree_files.read"](f"{REHEARSAL_FOLDER}/said") or b"").decode("utf-8", "replace")
    last = " / ".join(line.strip() for line in said.splitlines()[-3:] if line.strip())
    raise CommandExecutionError(
        f"the rehearsal of the dead man's switch, started by {scheduler}, told nothing within "
        f"{PROOF - max(0, end - time.monotonic()):.0f} s: {last or 'it was never started'}"
    )


def _has_failed():
    asked = ["systemctl", "is-failed", f"{REHEARSAL}.service"]
    return __utils__["ringfree_command.run"](asked, deadline=DEADLINE)["rc"] == 0
