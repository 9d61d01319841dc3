"""
States of the monitoring host: silent during a migration, back afterwards.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_monitoring"

FAULTS = (CommandExecutionError, OSError)  # what ends as a failed state with a sentence


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if "ringfree_monitoring.record" in __salt__:
        return __virtualname__
    return (
        False,
        "ringfree_monitoring: the execution module ringfree_monitoring is not there: modules are not synced",
    )


def silent(name, services, expiry=21600):
    """
    Monitoring services do not run; those that ran come back when :py:func:`restored` says so, or after the expiry.

    name
        A sentence for people.

    services
        List of service names.

    expiry : 21600
        Seconds after which they come back without anybody's doing.

    .. code-block:: yaml

        Monitoring is silent:
          ringfree_monitoring.silent:
            - services: [nagios, shinken]
            - expiry: 21600
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        todo = __salt__["ringfree_monitoring.on"](services)
        ret["changes"] = {service: {"old": "running", "new": "stopped"} for service in todo}
        if not todo:
            return ret.end("Monitoring is silent.")
        if __opts__["test"]:
            return ret.end(f"{', '.join(todo)} would be stopped.", None)
        __salt__["ringfree_monitoring.silence"](services, expiry)
        return ret.end(f"{', '.join(todo)} was stopped; it comes back by itself after {expiry} s.")
    except FAULTS as error:
        return ret.end(str(error), False)


def restored(name):
    """
    Monitoring services that ran before they were silenced run again.

    name
        A sentence for people.

    .. code-block:: yaml

        Monitoring is back:
          ringfree_monitoring.restored: []
    """
    ret = __utils__["ringfree_ret.new"](name)
    try:
        before = __salt__["ringfree_monitoring.record"]()
        if before is None:
            return ret.end("Nothing is silenced.")
        up = __salt__["ringfree_monitoring.on"](before["on"])
        ret["changes"] = {
            service: {"old": "stopped", "new": "running"} for service in before["on"] if service not in up
        }
        if __opts__["test"]:
            return ret.end("Monitoring would be brought back.", None if ret["changes"] else True)
        started = __salt__["ringfree_monitoring.restore"]()
        ret["changes"] = {service: {"old": "stopped", "new": "running"} for service in started}
        return ret.end(f"{', '.join(before['on']) or 'nothing'} runs again.")
    except FAULTS as error:
        return ret.end(str(error), False)
