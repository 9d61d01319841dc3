"""
Monitoring daemons are silent for the time of a migration, and come back by themselves if nobody brings them back.

:depends: systemd-run, or at(1) where there is no systemd
"""

import logging
import os
import time

import salt.utils.path
import salt.utils.systemd
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_monitoring"

RECORD = "/var/lib/ringfree/monitoring.json"
KEYS = ("on", "since", "expires", "alarm")
UNIT = "ringfree-monitoring-expiry"


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def record():
    """
    What was silenced.

    Returns ``{"on": [service, ...], "since": seconds, "expires": seconds, "alarm": text}``, or ``None`` when nothing is
    silenced.  Raises CommandExecutionError for a damaged record.

    CLI Example:

    .. code-block:: bash

        salt mon001 ringfree_monitoring.record
    """
    data = __utils__["ringfree_files.read"](RECORD)
    if data is None:
        return None
    try:
        kept = __utils__["ringfree_seal.load_json"](data, KEYS)
        if not isinstance(kept["on"], list):
            raise ValueError("it does not say what was on")
    except ValueError as error:
        raise CommandExecutionError(
            f"{RECORD} is damaged: {error}. Start the monitoring by hand, then remove the file."
        ) from error
    return kept


def on(services):
    """
    Which of some services run.

    services
        List of service names.

    Returns a list of names.

    CLI Example:

    .. code-block:: bash

        salt mon001 ringfree_monitoring.on '["nagios", "shinken"]'
    """
    return [service for service in services if __salt__["service.status"](service)]


def silence(services, expiry=21600):
    """
    Stop monitoring services; remember which ones ran; arm an alarm that starts those again.

    services
        List of service names.

    expiry : 21600
        Seconds after which the services start again without anybody's doing.

    Returns the record.  Raises CommandExecutionError when the alarm cannot be armed (nothing is stopped then) or a
    service does not stop.

    CLI Example:

    .. code-block:: bash

        salt mon001 ringfree_monitoring.silence '["nagios", "shinken"]'
    """
    before = record()
    running = sorted(set(on(services)) | set(before["on"] if before else []))
    # The new alarm before the old one is called off: if it cannot be armed, what is silent already still comes back.
    alarm = _arm(running, expiry) if running else ""
    kept = {
        "on": running,
        "since": before["since"] if before else time.time(),
        "expires": time.time() + expiry,
        "alarm": alarm,
    }
    __utils__["ringfree_files.keep"](RECORD, __utils__["ringfree_seal.dump_json"](kept))
    _disarm(before)
    for service in on(running):
        __salt__["service.stop"](service)
    still = on(running)
    if still:
        raise CommandExecutionError(f"{', '.join(still)} still runs after it was stopped")
    return kept


def restore():
    """
    Start again what ran before, and disarm the alarm.

    Returns the list of services that were started.  Raises CommandExecutionError naming each that does not run; the
    record and the alarm then stay.

    CLI Example:

    .. code-block:: bash

        salt mon001 ringfree_monitoring.restore
    """
    before = record()
    if before is None:
        return []
    down = [service for service in before["on"] if not __salt__["service.status"](service)]
    for service in down:
        __salt__["service.start"](service)
    still = [service for service in down if not __salt__["service.status"](service)]
    if still:
        raise CommandExecutionError(
            f"{', '.join(still)} does not start: look with 'service {still[0]} status' on {__opts__['id']}"
        )
    _disarm(before)
    os.unlink(RECORD)
    return down


def _arm(services, expiry):
    """Have the host itself start the services later; returns how to call that off."""
    if salt.utils.systemd.booted(__context__):
        alarm = f"{UNIT}-{time.time_ns()}"
        argv = [
            "systemd-run",
            f"--on-active={expiry}",
            f"--unit={alarm}",
            "--collect",
            "systemctl",
            "start",
            *services,
        ]
        result = __utils__["ringfree_command.run"](argv, deadline=30)
    else:
        script = "".join(f"service {service} start\n" for service in services)
        argv = ["at", "now", "+", f"{max(1, expiry // 60)}", "minutes"]
        result = __utils__["ringfree_command.run"](argv, deadline=30, stdin=script)
        alarm = "".join(
            word
            for line in result["err"].splitlines()
            if line.startswith("job ")
            for word in line.split()[1:2]
        )
    if result["rc"] != 0 or not alarm:
        said = __utils__["ringfree_command.describe"](result)
        raise CommandExecutionError(f"monitoring would not come back by itself, so it was left on: {said}")
    return alarm


def _disarm(before):
    """Call the alarm off; one that has gone off already is no fault."""
    alarm = (before or {}).get("alarm")
    if not alarm:
        return
    if alarm.startswith(UNIT):
        __utils__["ringfree_command.run"](["systemctl", "stop", f"{alarm}.timer"], deadline=30)
    else:
        __utils__["ringfree_command.run"](["atrm", alarm], deadline=30)
