"""
The pillar ``ringfree`` as this node is to follow it: checked, with its defaults.

:configuration: the pillar ``ringfree``; ``pillar/ringfree/init.sls`` explains each key
"""

import pickle

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_settings"

SETTINGS = "ringfree_settings.settings"  # the pillar as it was checked last, in Salt's memory


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def get():
    """
    The pillar ``ringfree`` with its defaults.

    Returns a dictionary; ``{node}`` in an export is this node's id, and the conf share's mount point is the conf
    directory of this node (:py:func:`vz.conf_dir`) unless the pillar says another.  Raises CommandExecutionError that
    lists every fault of the pillar.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_settings.get
    """
    pillar = __pillar__.get("ringfree")
    # Not every minion with this pillar is an OpenVZ node.
    conf_dir = __salt__["vz.conf_dir"]() if "vz.conf_dir" in __salt__ else None
    try:
        asked = (repr(pillar), __opts__["id"], conf_dir)
    except RecursionError:
        asked = None  # nothing that deep is right, so nothing is remembered of it
    # Everything here asks for them, some a thousand times in a highstate; a pickle is the quickest copy of its own.
    if __context__.get(SETTINGS, [()])[0] != asked:
        __context__[SETTINGS] = [asked, pickle.dumps(_settings(pillar, conf_dir))]
    return pickle.loads(__context__[SETTINGS][1])


def _settings(pillar, conf_dir):
    checked = __utils__["ringfree_pillar.validate"](pillar, __opts__["id"], conf_dir)
    if checked["faults"]:
        raise CommandExecutionError("the pillar is wrong: " + "; ".join(checked["faults"]))
    conf = checked["settings"]["shares"]["conf"]
    # The pillar may name a link, such as /etc/vz/conf: fstab and systemd know the directory by its own name only.
    if conf["mount"] != conf_dir and _leads_to(conf["mount"], conf_dir):
        conf["mount"] = conf_dir
    return checked["settings"]


def _leads_to(path, place):
    """Whether a path is another name of a place."""
    return bool(place) and __utils__["ringfree_mounts.real_path"](__salt__["vz.mounts"](), path) == place
