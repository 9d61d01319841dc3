"""
The texts of the dead man's switch: unit files, cron line, script, configuration of its own ``salt-call``, its record.

Only numbers, and paths that were checked, get into a text that a shell or systemd reads.
"""

import json
import re
import time

VERSION = 1
SCHEDULERS = ("systemd", "cron")
LAST = 1 << 36  # seconds since the epoch that are no time of a migration any more
EVERY = 30  # seconds from the end of one try to the next one
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SAFE = re.compile(r"^/[A-Za-z0-9._/-]+$")
#: Our own files: what goes into the private copy.
OURS = re.compile(r"^(ringfree_[a-z_]+|vz|cloudstor)\.py$")


def is_ours(name):
    """
    Whether a file in a folder of modules or utilities is of this project.

    name
        The file's name.

    Returns True or False.
    """
    return OURS.fullmatch(name) is not None


def _safe(path):
    if not SAFE.fullmatch(path):
        raise ValueError(f"the path {path!r} cannot stand in a script")
    return path


def script(folder, salt_call, deadline, rehearsal=False):
    """
    The script that the scheduler starts: nothing before the deadline, afterwards the way back, without the master.

    folder
        The folder with the configuration for ``salt-call``.

    salt_call
        Path of ``salt-call``.

    deadline
        Seconds since the epoch.

    rehearsal : False
        Only prove that everything loads.

    Returns text.  Raises ValueError for a path that a shell could read as something else.
    """
    folder, salt_call = _safe(folder), _safe(salt_call)
    # Also no Saltfile of root's, which Salt would put above the configuration.
    own = f"--config-dir={folder} --saltfile={folder}/Saltfile"
    words = "ringfree_rollback.fire" + (" test=True" if rehearsal else "")
    return f"""#!/bin/sh
# Brings this node back to local storage when nobody has committed it in time: ringfree_deadman.
PATH={PATH}
export PATH
[ "$(date +%s)" -ge {int(deadline)} ] || exit 0
exec {salt_call} --local {own} --log-level=warning {words} >{folder}/said 2>&1
"""


def service(folder):
    """
    The systemd service that runs the script.

    folder
        The folder with the script.

    Returns text.
    """
    # Containers that it starts stay when it has ended, and it does not run into a boot that still starts vz.
    return f"""[Unit]
Description=Brings this OpenVZ node back to local storage when nobody has committed it in time
After=network.target remote-fs.target vz.service

[Service]
Type=oneshot
TimeoutStartSec=0
KillMode=process
ExecStart=/bin/sh {_safe(folder)}/fire
"""


def timer(rehearsal=False):
    """
    The systemd timer: from the boot on, again and again, however the last try ended.

    rehearsal : False
        Once and at once.

    Returns text.
    """
    when = "OnActiveSec=0" if rehearsal else f"OnBootSec={EVERY}\nOnUnitInactiveSec={EVERY}"
    return f"""[Unit]
Description=Looks whether the deadline of this OpenVZ node has passed

[Timer]
{when}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def cron(folder):
    """
    The file for /etc/cron.d: every minute, never twice at the same time.

    folder
        The folder with the script.

    Returns text.
    """
    folder = _safe(folder)
    return f"""# Brings this OpenVZ node back to local storage when nobody has committed it in time: ringfree_deadman.
PATH={PATH}
MAILTO=""
* * * * * root flock -n -o {folder}/lock /bin/sh {folder}/fire
"""


def config(folder, node, sock_dir):
    """
    The configuration of a ``salt-call`` that needs neither the master nor anything that the minion has loaded.

    folder
        The folder that has everything.

    node
        The minion id.

    sock_dir
        Where a minion that lives listens: it hands on what is told to the master.

    Returns text.
    """
    return _json(
        {
            "id": node,
            "file_client": "local",
            "master_type": "disable",
            "file_roots": {"base": [f"{folder}/files"]},
            "pillar_roots": {"base": [f"{folder}/pillar"]},
            "extension_modules": f"{folder}/extmods",
            "cachedir": f"{folder}/cache",
            "pki_dir": f"{folder}/pki",
            "sock_dir": sock_dir,
            "log_file": f"{folder}/log",
            "log_level_logfile": "warning",
            "enable_fqdns_grains": False,
            "enable_gpu_grains": False,
            "ringfree_deadman": True,
        }
    )


def pillar(settings):
    """
    The pillar for that ``salt-call``, as it was when it was found good.

    settings
        The validated settings.

    Returns a dictionary: file name to text.
    """
    # No Jinja: what the pillar says is data.
    return {
        "top.sls": "#!json\n" + _json({"base": {"*": ["ringfree"]}}),
        "ringfree.sls": "#!json\n" + _json({"ringfree": settings}),
    }


def _json(value):
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def record(deadline, since, scheduler, cachedir):
    """
    The record of what is armed.

    deadline
        Seconds since the epoch.

    since
        When it was armed.

    scheduler
        ``systemd`` or ``cron``.

    cachedir
        The minion's own cachedir, where its jobs can be found.

    Returns a dictionary.
    """
    return {
        "version": VERSION,
        "deadline": deadline,
        "since": since,
        "scheduler": scheduler,
        "cachedir": cachedir,
    }


def record_fault(found):
    """
    What keeps a dictionary from being a record.

    found
        The dictionary, with all keys of a record.

    Returns text, or ``None``.
    """
    if found["version"] != VERSION:
        return f"it is no record of version {VERSION}"
    for key in ("deadline", "since"):
        if not _is_moment(found.get(key)):
            return f"'{key}' is missing or no moment"
    if found.get("scheduler") not in SCHEDULERS:
        return "'scheduler' is missing or unknown"
    return None if isinstance(found.get("cachedir"), str) else "'cachedir' is missing or no text"


def _is_moment(value):
    """Seconds since the epoch that are a date, too."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LAST


def clock(seconds, now):
    """
    A time of day for people; with its date when that is another day.

    seconds
        Seconds since the epoch.

    now
        Seconds since the epoch.

    Returns text, in local time.
    """
    then = time.localtime(seconds)
    same_day = time.strftime("%Y%m%d", then) == time.strftime("%Y%m%d", time.localtime(now))
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", then)


def told(fact, state, now):
    """
    What a dead man's switch that fired did, in a sentence.

    fact
        What it noted in the journal: ``fired``, ``deadline`` and, once it had ended, ``ok`` and ``not_done``.

    state
        What the journal says of the node.

    now
        Seconds since the epoch.

    Returns text; an empty one when there is nothing to say.
    """
    if not isinstance(fact, dict) or state == "nfs":
        return ""
    if not _is_moment(fact.get("fired")) or not _is_moment(fact.get("deadline")):
        return ""
    at, by = clock(fact["fired"], now), clock(fact["deadline"], now)
    why = f"because nobody had committed it by {by}"
    not_done = fact.get("not_done")
    left = "; ".join(
        filter(lambda word: isinstance(word, str), not_done if isinstance(not_done, list) else [])
    )
    if state == "local":
        return f"The dead man's switch brought it back at {at} {why}." + (
            f" Not done: {left}." if left else ""
        )
    if "ok" not in fact:
        return f"The dead man's switch began to bring it back at {at} {why}."
    return f"The dead man's switch could not bring it back at {at} and tries again: {left}."
