"""
The OpenVZ node: its configuration files, its containers, the manifest.

:depends: vzctl and vzlist (written for vzctl 4.11.1)
:configuration: none; the callers pass what they want

vzctl's exit codes are read together with a probe (``vzctl status``, mountinfo), because several of them say
success when nothing happened: see the functions.
"""

import logging
import os
import re
import shlex
import socket
import time

import salt.utils.path
import salt.utils.systemd
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "vz"
__func_alias__ = {"exec_": "exec", "list_": "list"}

#: What vzctl reads, by which names it is built on every distribution (VPSCONFDIR and PKGCONFDIR in its sources).
VZ_CONF = "/etc/vz/vz.conf"
CONF_DIR = "/etc/vz/conf"
#: Where vzctl keeps a suspended container when no conf says it: as it is built on Red Hat, and on Debian.
DUMP_DIRS = ("/vz/dump", "/var/lib/vz/dump")
NAMES = "/etc/vz/names"
MANIFEST = "/etc/ringfree/manifest.tmp"
MOUNTINFO = "/proc/self/mountinfo"
QUICK = 60  # seconds for calls of vzctl and vzlist that only look
ATTEMPT = 10  # seconds for one try of one health check
ANSWER = 4096  # bytes of its answer that are looked at
PAUSE = 0.5  # seconds between two looks at what containers lack
FRESH, STALE = 1, 15  # seconds that the answer of a share, or what was found, counts; and that silence does
_ASKED = {}  # source and mount point to when it was asked, and whether it answered
_FOUND = {}  # the conf directory, and when it was looked for
KILLED = "killed by vzctl: it did not halt in time, what it had not written yet is lost"
#: As yum and dnf do by themselves, apt waits for one that goes on from before.
_APT = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=600"]
#: For each package manager: fetch the lists, then update.
PACKAGE_COMMANDS = {
    "dnf": [["dnf", "-q", "makecache"], ["dnf", "-y", "update"]],
    "yum": [["yum", "-q", "makecache"], ["yum", "-y", "update"]],
    "apt-get": [[*_APT, "update"], [*_APT, "-y", "-o", "Dpkg::Options::=--force-confold", "upgrade"]],
}


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    if salt.utils.path.which("vzctl") and salt.utils.path.which("vzlist"):
        return __virtualname__
    return (False, "vz: vzctl or vzlist is not installed: this is no OpenVZ node")


def _run(argv, deadline=QUICK):
    return __utils__["ringfree_command.run"](argv, deadline=deadline)


def _fail(result, state, advice):
    """Raise with the command, its exit code, its last words, the state of things and the next command."""
    said = __utils__["ringfree_command.describe"](result)
    raise CommandExecutionError(f"{said} {state} {advice}".strip())


def _ctid(value):
    """A container id as a number; anything else is refused before it reaches a command line."""
    if not re.fullmatch(r"[1-9][0-9]{0,9}", str(value)) or int(value) > 2147483644:
        raise SaltInvocationError(f"'{value}' is no container id")
    return int(value)


def _ctids(value):
    return [_ctid(item) for item in (value if isinstance(value, (list, tuple)) else str(value).split(","))]


def containers():
    """
    The ids of all containers that have a configuration file on this node.

    Returns a sorted list of numbers.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.containers
    """
    must_answer()
    try:
        names = os.listdir(CONF_DIR)
    except OSError as error:
        raise CommandExecutionError(f"{CONF_DIR} cannot be read: {error.strerror}") from error
    return [ctid for ctid in __utils__["ringfree_conf.conf_names"](names) if ctid]


def conf_dir(real=True):
    """
    The conf directory: what vzctl reads, and where it looks for action scripts.

    vzctl reads /etc/vz/conf on every distribution.  With Red Hat's packages this is a link to
    /etc/sysconfig/vz-scripts, with Debian's the directory itself, and an admin may have made it a link to elsewhere.

    real : True
        The directory without links, as mount(8), fstab and systemd know it; ``False`` for vzctl's own name of it.

    Returns the path.  Raises CommandExecutionError when its links go round in a circle.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.conf_dir
    """
    if not real:
        return CONF_DIR
    # All settings are asked for by it, some a thousand times in a highstate.
    if time.monotonic() - _FOUND.get("asked", -FRESH) >= FRESH:
        try:
            _FOUND["path"] = __utils__["ringfree_mounts.real_path"](mounts(), CONF_DIR)
        except ValueError as error:
            raise CommandExecutionError(str(error)) from error
        _FOUND["asked"] = time.monotonic()
    return _FOUND["path"]


def conf_path(ctid=None):
    """
    The path of a configuration file.

    ctid : None
        A container's id; ``None`` for the node's own vz.conf.

    Returns the path.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.conf_path 101
    """
    return VZ_CONF if ctid is None else os.path.join(CONF_DIR, f"{_ctid(ctid)}.conf")


def must_answer(path=None):
    """
    Raise CommandExecutionError when a path is on a share that does not answer.

    Whoever reads there then, this job or vzctl, hangs in the kernel until the SAN is back.  Where it dies right after
    it has answered, a job that hangs ends itself (``_utils/ringfree_hang.py``).

    path : None
        The path; ``None`` for the conf directory.

    Returns nothing.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.must_answer
    """
    table = mounts()
    mount = __utils__["ringfree_mounts.covering"](
        table, __utils__["ringfree_mounts.real_path"](table, path or CONF_DIR)
    )
    if not mount or not __utils__["ringfree_mounts.is_nfs"](mount):
        return
    # A minion that works without processes of its own for jobs would end itself; preflight names it.
    if __opts__.get("multiprocessing", True):
        __utils__["ringfree_hang.watch"](
            __utils__["ringfree_pillar.nfs_deadline"](__pillar__.get("ringfree"))
        )
    if not _answers(mount["source"], mount["mountpoint"]):
        raise CommandExecutionError(
            f"{mount['source']}, which is mounted on {mount['mountpoint']}, does not answer: nothing can be known or "
            f"done about the containers until the SAN is back"
        )


def _answers(source, mountpoint):
    """Whether a share answers; asked at most once a second, and not soon again when it does not."""
    asked, answer = _ASKED.get((source, mountpoint), (0, True))
    if time.monotonic() - asked > (FRESH if answer else STALE):
        argv = ["stat", "--file-system", mountpoint]
        answer = __utils__["ringfree_command.run"](argv, deadline=ATTEMPT)["rc"] == 0
        _ASKED[source, mountpoint] = (time.monotonic(), answer)
    return answer


def _conf_data(ctid=None):
    if ctid is not None:
        must_answer()
    path = conf_path(ctid)
    try:
        data = __utils__["ringfree_files.read"](path)
    except OSError as error:
        raise CommandExecutionError(f"{path} cannot be read: {error.strerror}") from error
    if data is None:
        raise CommandExecutionError(f"{path} does not exist")
    return data


def config(ctid):
    """
    What vzctl would use for a container: its own file over vz.conf.

    ctid
        The container's id.

    Returns a dictionary with at least ``private``, ``root``, ``layout``, ``disk_quota``, ``disabled``, ``onboot``,
    ``bootorder``, ``name``, ``hostname`` and ``ip`` (a list); what in them does not print is written as escapes, so
    that a path with such bytes leads nowhere.  Raises CommandExecutionError when a file cannot be read.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.config 101
    """
    ctid = _ctid(ctid)
    data = _conf_data(ctid)
    try:
        settings = __utils__["ringfree_conf.effective"](ctid, _conf_data(), data)
        settings["hostname"] = __utils__["ringfree_conf.parse"](data)["values"].get("HOSTNAME", "")
    except ValueError as error:
        raise CommandExecutionError(f"{conf_path(ctid)} or {VZ_CONF}: {error}") from error
    return __utils__["ringfree_command.printable"](settings)


def ambiguities(written=True):
    """
    Lines of vz.conf and of the container confs that vzctl and a shell read differently.

    The init script sources the same files as a shell, so what a migration writes in them must mean the same to both.

    written : True
        Whether to name those of keys that a migration writes; ``False`` names the others, which it leaves as they are.

    Returns a list of texts, each with file, line and what either reads; a file that cannot be read is one as well.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.ambiguities
    """
    found = []
    for ctid in [None] + containers():
        try:
            faults = __utils__["ringfree_conf.ambiguities"](_conf_data(ctid))
        except CommandExecutionError as error:
            found += [str(error)] if written else []
            continue
        found += [
            f"{conf_path(ctid)}:{fault['line']}: {fault['why']}"
            for fault in faults
            if fault["hinders"] is written
        ]
    return found


def obstacles(settings, ctid=None):
    """
    What keeps :py:func:`configure` from setting keys, or a shell from reading them then as vzctl does.

    settings
        Dictionary: key to value; an empty one for the file as it is.

    ctid : None
        A container's id; ``None`` for vz.conf.

    Returns a list of texts, each with file and line, without those of :py:func:`ambiguities`.  Raises
    CommandExecutionError when the file cannot be read.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.obstacles '{"DISABLED": "yes"}'
    """
    data, path = _conf_data(ctid), conf_path(ctid)
    known = __utils__["ringfree_conf.ambiguities"](data)
    return [
        f"{path}:{trap['line']}: {trap['why']}"
        for trap in __utils__["ringfree_conf.obstacles"](data, settings, ctid)
        if trap not in known
    ]


def changes(settings, ctid=None):
    """
    What :py:func:`configure` would change.

    settings
        Dictionary: key to value.

    ctid : None
        A container's id; ``None`` for vz.conf.

    Returns a dictionary: key to ``{"old": ..., "new": ...}``; empty when nothing would change.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.changes '{"DISK_QUOTA": "no"}' 101
    """
    try:
        return __utils__["ringfree_conf.changes"](_conf_data(ctid), settings)
    except ValueError as error:
        raise CommandExecutionError(f"{conf_path(ctid)}: {error}") from error


def configure(settings, ctid=None):
    """
    Set keys of vz.conf or of a container's conf; every other byte of the file stays.

    settings
        Dictionary: key to value.  A value of ``None`` removes the key's line.

    ctid : None
        A container's id; ``None`` for vz.conf.

    Returns what changed, as :py:func:`changes` does.  Raises CommandExecutionError when the file is ambiguous or
    cannot be written; it is then as it was.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.configure '{"DISK_QUOTA": "no"}' 101
    """
    data = _conf_data(ctid)
    wanted = {key: value for key, value in settings.items() if value is not None}
    unwanted = [key for key, value in settings.items() if value is None]
    try:
        changed = __utils__["ringfree_conf.changes"](data, wanted)
        new = __utils__["ringfree_conf.edit"](data, wanted)
        values = __utils__["ringfree_conf.parse"](data)["values"]
        changed.update({key: {"old": values[key], "new": None} for key in unwanted if key in values})
        new = __utils__["ringfree_conf.remove"](new, unwanted)
    except ValueError as error:
        raise CommandExecutionError(f"{conf_path(ctid)}: {error}. The file was not touched.") from error
    if new != data:
        try:
            __utils__["ringfree_files.write"](conf_path(ctid), new)
        except OSError as error:
            raise CommandExecutionError(
                f"{conf_path(ctid)} cannot be written: {error}. It is as it was."
            ) from error
    return changed


def status(ctid):
    """
    The state of a container as ``vzctl status`` tells it.

    ctid
        The container's id.

    Returns ``{"exist": bool, "mounted": bool, "running": bool, "suspended": bool}``.  ``exist`` is false too when
    the private area cannot be reached.  Raises CommandExecutionError when vzctl gives no such line.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.status 101
    """
    must_answer()
    result = _run(["vzctl", "status", str(_ctid(ctid))])
    words = re.search(
        r"^CTID \d+ (exist|deleted) (mounted|unmounted) (running|down)( suspended)?", result["out"], re.M
    )
    if not words:
        _fail(result, f"The state of container {ctid} is unknown.", "Look with 'vzctl status'.")
    exist, mounted, running_, suspended = words.groups()
    return {
        "exist": exist == "exist",
        "mounted": mounted == "mounted",
        "running": running_ == "running",
        "suspended": bool(suspended),
    }


def running():
    """
    The ids of all containers that run on this node.

    Returns a sorted list of numbers.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.running
    """
    must_answer()
    result = _run(["vzlist", "-H", "-o", "ctid"])
    if result["rc"] != 0 or result["cut"]:
        _fail(result, "Which containers run is unknown.", "Look with 'vzlist'.")
    return sorted(int(word) for word in result["out"].split() if word.isdigit())


def list_():
    """
    All containers of this node with the paths that vzctl would use and whether they run.

    Returns a dictionary: container id to what :py:func:`config` returns plus ``running``.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.list
    """
    up = running()
    return {ctid: dict(config(ctid), running=ctid in up) for ctid in containers()}


def known_as():
    """
    The names by which vzctl knows containers: a NAME counts only where a link ``/etc/vz/names/NAME`` leads to the conf
    that says it.

    Returns a dictionary: container id to its name; containers without one are left out.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.known_as
    """
    names = {ctid: config(ctid)["name"] for ctid in containers()}
    return {ctid: name for ctid, name in names.items() if _leads(name, ctid)}


def _leads(name, ctid):
    """Whether vzctl knows a container by its NAME: the link is there, does not dangle, and leads to this conf."""
    link = os.path.join(NAMES, name or "")
    try:
        return bool(name) and os.path.basename(os.readlink(link)) == f"{ctid}.conf" and os.path.exists(link)
    except OSError:
        return False


def resolve(names, among=None):
    """
    Find containers by id, NAME or HOSTNAME.

    names
        List of ids, NAMEs or HOSTNAMEs.  Of containers that a name fits the one counts that vzctl knows by it, then one
        that has it as NAME, then one that has it as HOSTNAME.

    among : None
        List of ids to look among; ``None`` for all that have a conf here.

    Returns ``{"found": {name: ctid}, "faults": [text]}``; a fault for each name that fits none or several.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.resolve '["PBX", "104"]'
    """
    known = {ctid: config(ctid) for ctid in (containers() if among is None else _ctids(among))}
    found, faults = {}, []
    for name in map(str, names):
        ways = (
            [ctid for ctid in known if str(ctid) == name],
            [ctid for ctid, conf in known.items() if conf["name"] == name and _leads(name, ctid)],
            [ctid for ctid, conf in known.items() if conf["name"] == name],
            [ctid for ctid, conf in known.items() if conf["hostname"] == name],
        )
        hits = next(filter(None, ways), [])
        if len(hits) == 1:
            found[name] = hits[0]
        elif hits:
            faults.append(f"'{name}' fits several containers: {', '.join(map(str, hits))}")
        else:
            faults.append(f"'{name}' is no container of this node")
    return {"found": found, "faults": faults}


def start_order(ctids, priority=()):
    """
    Put containers in the order in which they are started.

    ctids
        List of container ids.

    priority : ()
        Ids, NAMEs or HOSTNAMEs that come first, in this order.

    Returns the ids: priority first, then as ``vz start`` does it: higher BOOTORDER first, those without one last;
    equal ones by id.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.start_order 101,102,103 priority='["PBX"]'
    """
    first = list(resolve(priority, ctids)["found"].values())

    def place(ctid):
        order = config(ctid)["bootorder"]
        rank = first.index(ctid) if ctid in first else len(first)
        return (rank, order is None, -(order or 0), ctid)

    return sorted(_ctids(ctids), key=place)


def manifest():
    """
    The containers that ran before the migration, in start order.

    Returns a list of ids, or ``None`` when no manifest was written.  Raises CommandExecutionError for a damaged one.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.manifest
    """
    data = __utils__["ringfree_files.read"](MANIFEST)
    if data is None:
        return None
    words = data.decode("utf-8", "replace").split()
    bad = [
        f"{MANIFEST}: '{word}' is no container id"
        for word in words
        if not re.fullmatch(r"[1-9][0-9]{0,9}", word)
    ]
    if bad:
        raise CommandExecutionError("; ".join(bad))
    return [int(word) for word in words]


def write_manifest(ctids):
    """
    Write the manifest.

    ctids
        List of container ids in start order.

    Returns the list as read back.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.write_manifest 101,102
    """
    os.makedirs(os.path.dirname(MANIFEST), mode=0o755, exist_ok=True)
    text = "".join(f"{ctid}\n" for ctid in _ctids(ctids))
    __utils__["ringfree_files.write"](MANIFEST, text.encode())
    return manifest()


def dumps():
    """
    Memory dumps of suspended containers.

    A start would try to restore them and, failing that, boot cold and delete them, with exit code 0.

    Returns a list of paths.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.dumps
    """
    values = __utils__["ringfree_conf.parse"](_conf_data())["values"]
    found = []
    for ctid in containers():
        own = __utils__["ringfree_conf.parse"](_conf_data(ctid))["values"]
        told = own.get("DUMPDIR") or values.get("DUMPDIR")
        paths = [os.path.join(folder, f"Dump.{ctid}") for folder in ([told] if told else DUMP_DIRS)]
        found += [path for path in paths if os.path.lexists(path)]
    return found


def mounts():
    """
    The node's mount table.

    Returns a list of dictionaries, as read from ``/proc/self/mountinfo``.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.mounts
    """
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as stream:
        return __utils__["ringfree_mounts.parse"](stream.read())


def root_mount(ctid):
    """
    Prove from mountinfo that a container's root is the private area that its conf names.

    ``vzctl start`` boots the old private area, with exit code 0, when the old mount is busy.

    ctid
        The container's id.

    Returns ``{"ok": bool, "why": text, "actual": text, "nfs": bool}``.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.root_mount 101
    """
    conf = config(ctid)
    if not conf["private"] or not conf["root"]:
        return {"ok": False, "why": "its conf names no private area or no root", "actual": "", "nfs": False}
    table = mounts()
    private, root = (__utils__["ringfree_mounts.real_path"](table, conf[key]) for key in ("private", "root"))
    proof = __utils__["ringfree_mounts.container_root_is"](table, conf["private"], root, private)
    store = __utils__["ringfree_mounts.covering"](table, private)
    proof["nfs"] = bool(store and __utils__["ringfree_mounts.is_nfs"](store))
    return proof


def stop(ctids, workers=4, deadline=300, on_done=None):
    """
    Stop containers with vzctl and prove that they are down and unmounted.

    ctids
        List of ids, or one id.

    workers : 4
        How many are stopped at once.

    deadline : 300
        Seconds for each (vzctl kills what did not halt after STOP_TIMEOUT, 120 s by default).

    on_done : None
        For callers in Python: function called with ``(ctid, note)`` once a container is down; the note is text when
        vzctl had to kill it, else ``None``.

    Returns a dictionary: id to seconds.  Raises CommandExecutionError naming every container that is not down.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.stop 101,102
    """
    return _for_each(
        "stop",
        ctids,
        workers,
        deadline,
        _stopped,
        lambda ctid, result: (
            on_done and on_done(ctid, KILLED if "Killing container" in result["out"] else None)
        ),
    )


def start(ctids, workers=2, deadline=300, force=False, on_done=None):
    """
    Start containers with vzctl and prove that they run from the private area that their conf names.

    They run as if the vz service had started them, in its cgroup and with its limits, whoever calls this.

    ctids
        List of ids, or one id.

    workers : 2
        How many are started at once.

    deadline : 300
        Seconds for each.

    force : False
        Start although DISABLED says no: the guard that keeps others from starting a container in flight.

    on_done : None
        For callers in Python: function called with each id once it runs.

    Returns a dictionary: id to seconds.  Raises CommandExecutionError naming every container that does not run rightly.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.start 101,102
    """
    return _for_each(
        "start",
        ctids,
        workers,
        deadline,
        _started,
        lambda ctid, result: on_done and on_done(ctid),
        ["--force"] if force else [],
    )


def _for_each(verb, ctids, workers, deadline, fault_of, on_done, options=()):
    """Run a verb of vzctl on containers; every fault is collected before any is raised."""
    must_answer()
    seconds, faults = {}, []
    commands = {ctid: ["vzctl", verb, str(ctid), *options] for ctid in _ctids(ctids)}
    run = _run_apart if verb == "start" else __utils__["ringfree_command.run_many"]
    for ctid, result in run(commands, workers, deadline):
        try:
            fault = fault_of(ctid, result)
        except CommandExecutionError as error:
            fault = f"Container {ctid}: {error}"
        if fault:
            faults.append(fault)
            continue
        seconds[ctid] = result["seconds"]
        on_done(ctid, result)
    if faults:
        raise CommandExecutionError(" ".join(faults), info={"faults": faults, "done": seconds})
    return seconds


def _run_apart(commands, workers, deadline, alone=False):
    """Run commands that leave processes behind, in containers for the most part, as if the vz service ran them."""
    words = __utils__["ringfree_apart.prefix"](_vz_gives(), alone)
    if not words:
        log.warning("the Python of this process is gone: containers get its cgroup and limits")
    commands = {key: [*words, *argv] for key, argv in commands.items()}
    for key, result in __utils__["ringfree_command.run_many"](commands, workers, deadline):
        result["argv"] = result["argv"][len(words) :]
        for line in __utils__["ringfree_apart.complaints"](result["err"]):
            log.warning("%s: %s", " ".join(result["argv"]), line)
        yield key, result


def _vz_gives():
    """What the vz service gives the containers that it starts."""
    if salt.utils.systemd.booted(__context__):
        shown = _run(["systemctl", "show", "vz.service"], deadline=ATTEMPT)
        if shown["rc"] == 0:
            return __utils__["ringfree_apart.of_service"](shown["out"])
        log.warning(__utils__["ringfree_command.describe"](shown))
    name, limits = (__utils__["ringfree_files.read"](f"/proc/1/{file}") or b"" for file in ("comm", "limits"))
    return __utils__["ringfree_apart.of_init"](name.decode(), limits.decode())


def _stopped(ctid, result):
    """Say what is wrong after ``vzctl stop``, or return None."""
    now = status(ctid)
    if now["mounted"] and not now["running"]:
        # What was busy when the container stopped; vzctl stop does not try again.
        result = _run(["vzctl", "umount", str(ctid)])
        now = status(ctid)
    if not now["running"] and not now["mounted"]:
        return None
    said = __utils__["ringfree_command.describe"](result)
    if now["running"]:
        return f"Container {ctid} still runs: {said} Try 'vzctl stop {ctid} --fast' on the node."
    root = config(ctid)["root"]
    return (
        f"Container {ctid} is down but {root} is still mounted: {said} 'fuser -vm {root}' shows who uses it."
    )


def _started(ctid, result):
    """Say what is wrong after ``vzctl start``, or return None."""
    if not status(ctid)["running"]:
        said = __utils__["ringfree_command.describe"](result)
        return f"Container {ctid} does not run: {said} Try 'vzctl start {ctid}' on the node."
    proof = root_mount(ctid)
    if proof["ok"]:
        return None
    where = f"{proof['why']} ({proof['actual']})"
    return f"Container {ctid} runs from the wrong tree: {where}. Stop it: 'vzctl stop {ctid}'."


def exec_(ctid, argv, deadline=60):
    """
    Run a command inside a container.

    ctid
        The container's id.

    argv
        List of words.  vzctl hands them to the container's shell, so each is quoted for it.

    deadline : 60
        Seconds.

    Returns the result of the command: ``rc``, ``out``, ``err``, ``seconds``, ``timed_out``.  Exit code 31 can be
    the command's own or vzctl's "not running".

    CLI Example:

    .. code-block:: bash

        salt node001 vz.exec 101 '["asterisk", "-rx", "core show version"]'
    """
    return _run(["vzctl", "exec2", str(_ctid(ctid)), shlex.join(argv)], deadline)


def health(ctid, checks):
    """
    Ask a container's services once.

    ctid
        The container's id.

    checks
        Dictionary: name to ``{"exec": [word, ...], "expect": regex}`` (a command inside the container) or
        ``{"port": number, "send": text, "expect": regex}`` (TCP to the container's first address).

    Returns a dictionary: name to ``{"ok": bool, "detail": text}``.  A check that cannot be made is not ok.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.health 101 '{"smtp": {"port": 25, "expect": "^220 "}}'
    """
    return {name: _ask(_ctid(ctid), check) for name, check in checks.items()}


def _ask(ctid, check):
    """Make one health check."""
    if "exec" in check:
        argv = ["vzctl", "exec2", str(ctid), shlex.join(check["exec"])]
        result = __utils__["ringfree_command.run"](argv, ATTEMPT, limit=ANSWER)
        answer = result["out"]
        if result["rc"] != 0:
            return {"ok": False, "detail": __utils__["ringfree_command.describe"](result)}
    else:
        addresses = config(ctid)["ip"]
        if not addresses:
            return {"ok": False, "detail": f"container {ctid} has no IP_ADDRESS to ask; use an 'exec' check"}
        try:
            answer = _greeting(addresses[0].split("/")[0], check["port"], check.get("send", ""))
        except OSError as error:
            return {"ok": False, "detail": f"{addresses[0]} port {check['port']}: {error}"}
    first = answer.strip().splitlines()[0] if answer.strip() else "(no answer)"
    return {
        "ok": bool(re.search(check["expect"], answer, re.M)),
        "detail": first[:200],
    }


def _greeting(address, port, send):
    """The first words that a TCP service says."""
    with socket.create_connection((address, port), ATTEMPT) as connection:
        if send:
            connection.sendall(send.encode())
        return connection.recv(ANSWER).decode("utf-8", "replace")


def wait_healthy(checks, deadline=120, on_done=None, lacking=None):
    """
    Wait until services answer in containers.

    checks
        Dictionary: container id to its checks (see :py:func:`health`).  A container without any check is refused.

    deadline : 120
        Seconds for all of them together.

    on_done : None
        For callers in Python: function called with ``(ctid, answers)`` once all checks of a container pass.

    lacking : None
        For callers in Python: function that is given the ids of containers whose services answer, and returns id to
        text for those that are not complete yet; these are waited for as well.

    Returns a dictionary: id to the answers.  Raises CommandExecutionError naming each check that did not pass.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.wait_healthy '{"101": {"smtp": {"port": 25, "expect": "^220 "}}}'
    """
    bare = [str(ctid) for ctid, wanted in checks.items() if not wanted]
    if bare:
        raise CommandExecutionError(f"no check for containers {', '.join(bare)}: they cannot be confirmed")
    end = time.monotonic() + deadline
    good, answering, silent, lacks = {}, {}, dict(checks), {}
    while True:
        for ctid in list(silent):
            answers = health(ctid, silent[ctid])
            if all(answer["ok"] for answer in answers.values()):
                answering[ctid] = answers
                del silent[ctid]
        looked = time.monotonic()
        lacks = lacking(list(answering)) if lacking and answering else {}
        for ctid in [ctid for ctid in answering if ctid not in lacks]:
            good[ctid] = answering.pop(ctid)
            if on_done:
                on_done(ctid, good[ctid])
        if not silent and not answering:
            return good
        if time.monotonic() > end:
            break
        # A look that takes long, because some container has very much, is not to keep the node busy.
        time.sleep(max(0.2 if silent else PAUSE, time.monotonic() - looked))
    faults = [
        f"container {ctid}: {name} does not answer: {answer['detail']}"
        for ctid, wanted in silent.items()
        for name, answer in health(ctid, wanted).items()
        if not answer["ok"]
    ]
    faults += [f"container {ctid} {said}" for ctid, said in lacks.items()]
    raise CommandExecutionError(f"after {deadline} s: " + "; ".join(faults or ["answers came too late"]))


def package_manager(ctid=None):
    """
    Which package manager a container, or the node itself, has.

    ctid : None
        The container's id (mounted or running); ``None`` for the node itself.

    Returns ``dnf``, ``yum``, ``apt-get`` or ``None``.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.package_manager 101
    """
    root = "/" if ctid is None else config(ctid)["root"]
    for manager in PACKAGE_COMMANDS:
        if __utils__["ringfree_tree.holds"](root, f"usr/bin/{manager}"):
            return manager
    return None


def update_packages(ctids=(), node=False, workers=2, deadline=7200, on_done=None):
    """
    Bring the packages of running containers and of the node up to date.

    ctids : ()
        List of container ids.

    node : False
        Whether the node itself is updated too, after the containers.

    workers : 2
        How many containers are updated at once.

    deadline : 7200
        Seconds for each command.

    on_done : None
        For callers in Python: function called with ``(id, outcome)`` as each ends.

    Returns a dictionary: container id, or ``node``, to ``{"manager": name or None, "ok": bool, "detail": text}``.
    Without a package manager there is nothing to do, which is ok.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.update_packages 101,102 node=True
    """
    outcomes = {}

    def noted(who, manager, ok, detail):
        outcomes[who] = {"manager": manager, "ok": ok, "detail": detail}
        if on_done:
            on_done(who, outcomes[who])

    waiting = {ctid: package_manager(ctid) for ctid in (_ctids(ctids) if ctids else [])}
    for who in [who for who, manager in waiting.items() if manager is None]:
        noted(who, waiting.pop(who), True, "no package manager, nothing to update")
    # What an update restarts in a container stays there.
    _update(
        waiting,
        lambda ctid, words: ["vzctl", "exec2", str(ctid), shlex.join(words)],
        lambda commands: _run_apart(commands, workers, deadline),
        noted,
    )
    if node:
        manager = package_manager()
        if manager:
            # It may restart or replace the minion, whose end would cut it off in the middle.
            _update(
                {"node": manager},
                lambda who, words: words,
                lambda commands: _run_apart(commands, 1, deadline, alone=True),
                noted,
            )
        else:
            noted("node", None, True, "no package manager, nothing to update")
    return outcomes


def _update(managers, argv_of, run, noted):
    """Run both commands of each package manager: the second only where the first went well."""
    going = dict(managers)
    for turn in (0, 1):
        commands = {who: argv_of(who, PACKAGE_COMMANDS[manager][turn]) for who, manager in going.items()}
        for who, result in run(commands):
            if result["rc"] != 0:
                noted(who, going.pop(who), False, __utils__["ringfree_command.describe"](result))
            elif turn == 1:
                noted(who, going[who], True, __utils__["ringfree_command.last_words"](result, 1))


def running_or_mounted(ctids):
    """
    Which of some containers run or are mounted: what is written in them now is in no copy of theirs.

    ctids
        List of ids.

    Returns a dictionary: id to ``runs`` or ``is mounted``; those that are down and unmounted are left out.

    CLI Example:

    .. code-block:: bash

        salt node001 vz.running_or_mounted '[101, 102]'
    """
    up, table = set(running()), mounts()
    roots = {ctid: config(ctid)["root"] for ctid in ctids}
    used = {mount["mountpoint"] for mount in table}
    mounted = [
        ctid
        for ctid, root in roots.items()
        if root and __utils__["ringfree_mounts.real_path"](table, root) in used
    ]
    return {ctid: "runs" if ctid in up else "is mounted" for ctid in ctids if ctid in up or ctid in mounted}
