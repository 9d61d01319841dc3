"""
Which SAN a node uses: the variables in /etc/ringfree, the mounts as they are, what an export can store.

:depends: mount.nfs
:configuration: the pillar ``ringfree`` (see ``ringfree_settings.get``)
"""

import contextlib
import logging
import os

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_nfs"

FOLDER = "/etc/ringfree"
VARIABLES = ("nfs", "nfsip.1", "nfsip.2", "nfsmounted", "nfsvzconf", "nfsvzroot", "nfsvzstor")
PROBE = "/run/ringfree/probe"
PROC = "/proc"
ATTEMPT = 10  # seconds that a share has to answer one question
#: Where in the kernel a process waits for a file server, see proc_pid_wchan(5): the NFS client, and FUSE.
WAITS = ("rpc_", "nfs", "fuse_", "request_wait_answer")


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def server():
    """
    The address of the SAN that this node is to use.

    On a node whose containers may live on the share it is the one that the private share is mounted from, and while
    that is not mounted the one that /etc/ringfree/nfs names: after a failover the pillar may still say the other one.
    On a node on local storage, and until a migration mounts the store, it is the one that ``ringfree:nfs:use`` names.

    Returns the address: the pillar's ``ringfree:nfs:primary`` or ``secondary``.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.server
    """
    nfs = __salt__["ringfree_settings.get"]()["nfs"]
    both = (nfs["primary"], nfs["secondary"])
    for address in (_mounted_from(), _told()) if _is_bound() else ():
        if address in both:
            return address
    return nfs[nfs["use"]]


def _is_bound():
    """Whether this node's containers may live on a SAN, so that the pillar alone does not say on which."""
    try:
        found = __salt__["ringfree_journal.read"]()
    except CommandExecutionError:
        return True  # a damaged journal: what is mounted, and what was written then, is all there is
    steps = found["steps"]
    # A way back that could not do everything is local, and what is left of it is to be done on the same SAN.
    between = found["state"] == "in_flight" or "verified" not in steps.get("revert", {"verified": None})
    began = any("intent" in steps.get(step, {}) for step in ("mount", "owner"))
    return found["state"] == "nfs" or (between and began)


def _mounted_from():
    """The server that the private share is mounted from, or None."""
    entry = _mounted(__salt__["ringfree_settings.get"]()["shares"]["private"]["mount"])
    if not entry or not __utils__["ringfree_mounts.is_nfs"](entry):
        return None
    return entry["source"].partition(":")[0]


def _told():
    """What /etc/ringfree/nfs says, or None."""
    try:
        data = __utils__["ringfree_files.read"](os.path.join(FOLDER, "nfs"))
    except OSError:
        return None
    return None if data is None else data.decode("utf-8", "replace").strip()


def san(address=None):
    """
    Which of the two SANs an address is.

    address : None
        The address; ``None`` for that of the SAN that this node is to use.

    Returns ``primary`` or ``secondary``; ``None`` for a foreign address.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.san
    """
    nfs = __salt__["ringfree_settings.get"]()["nfs"]
    address = address or server()
    return next((name for name in ("primary", "secondary") if nfs[name] == address), None)


def told_otherwise():
    """
    What there is to say when the pillar names another SAN than the one in use.  Nothing is changed for it.

    Returns a sentence, or an empty text.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.told_otherwise
    """
    wanted, now = __salt__["ringfree_settings.get"]()["nfs"]["use"], san()
    if now == wanted:
        return ""
    return (
        f"{now} ({server()}) is in use, the pillar says {wanted} (ringfree:nfs:use): set it to {now}, or go back with "
        f"'salt-run state.orch failover'"
    )


def silent(deadline=ATTEMPT):
    """
    The shares that are mounted and do not answer, asked now.

    deadline : 10
        Seconds that each has to answer.

    Returns a list of ``private``, ``root`` and ``conf``.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.silent
    """
    shares = __salt__["ringfree_settings.get"]()["shares"]
    questions = {
        name: ["stat", "--file-system", share["mount"]]
        for name, share in shares.items()
        if (entry := _mounted(share["mount"])) and __utils__["ringfree_mounts.is_nfs"](entry)
    }
    asked = __utils__["ringfree_command.run_many"](questions, len(shares), deadline)
    return sorted(name for name, result in asked if result["rc"] != 0)


def variables():
    """
    The variables in /etc/ringfree as they are.

    Returns a dictionary: name to text, ``None`` for a file that does not exist.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.variables
    """
    found = {}
    for name in VARIABLES:
        data = __utils__["ringfree_files.read"](os.path.join(FOLDER, name))
        found[name] = None if data is None else data.decode("utf-8", "replace").strip()
    return found


def wanted_variables():
    """
    The variables in /etc/ringfree as pillar and mount table want them.

    ``nfsmounted`` is ``1`` when all three shares are mounted from the SAN in use, else ``0``.

    Returns a dictionary: name to text.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.wanted_variables
    """
    settings = __salt__["ringfree_settings.get"]()
    shares = settings["shares"]
    return {
        "nfs": server(),
        "nfsip.1": settings["nfs"]["primary"],
        "nfsip.2": settings["nfs"]["secondary"],
        "nfsmounted": "1" if all(share["mounted"] for share in in_use().values()) else "0",
        "nfsvzconf": shares["conf"]["export"],
        "nfsvzroot": shares["root"]["export"],
        "nfsvzstor": shares["private"]["export"],
    }


def set_variables(values):
    """
    Write variables in /etc/ringfree.

    values
        Dictionary: name to text.

    Returns the variables as read back.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.set_variables '{"nfs": "10.77.0.21"}'
    """
    unknown = sorted(set(values) - set(VARIABLES))
    if unknown:
        raise CommandExecutionError(
            f"there is no variable {', '.join(unknown)}; there are {', '.join(VARIABLES)}"
        )
    os.makedirs(FOLDER, mode=0o755, exist_ok=True)
    for name, value in values.items():
        __utils__["ringfree_files.write"](os.path.join(FOLDER, name), f"{value}\n".encode())
    return variables()


def in_use():
    """
    Which server each share is mounted from, read from mountinfo and not from the variables.

    Returns a dictionary: share to ``{"mount": path, "wanted": source, "source": source or None, "mounted": bool}``.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.in_use
    """
    found, address = {}, server()
    for name, share in __salt__["ringfree_settings.get"]()["shares"].items():
        wanted = f"{address}:{share['export']}"
        entry = _mounted(share["mount"])
        source = entry["source"] if entry and __utils__["ringfree_mounts.is_nfs"](entry) else None
        found[name] = {
            "mount": share["mount"],
            "wanted": wanted,
            "source": source,
            "mounted": source == wanted,
        }
    return found


def conf_share_astray():
    """
    Where the conf share is mounted while vzctl reads another directory: its confs and scripts are then used by nobody.

    Returns a list of mount points; empty when the conf directory is on the share, or the share is not mounted at all.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.conf_share_astray
    """
    settings, table = __salt__["ringfree_settings.get"](), __salt__["vz.mounts"]()
    export = settings["shares"]["conf"]["export"]
    sources = [f"{settings['nfs'][name]}:{export}" for name in ("primary", "secondary")]
    if _source(table, __salt__["vz.conf_dir"]()) in sources:
        return []
    points = [mount["mountpoint"] for mount in table if mount["source"] in sources]
    return sorted(point for point in set(points) if not point.startswith(PROBE))


def _source(table, path):
    """What is mounted where a path lies."""
    mount = __utils__["ringfree_mounts.covering"](table, path)
    return mount and mount["source"]


def conf_share_fault():
    """
    Why the conf share is not, or would not be, where vzctl looks.

    Returns a sentence that says what to do; an empty text when all is well.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.conf_share_fault
    """
    mount, conf_dir = (
        __salt__["ringfree_settings.get"]()["shares"]["conf"]["mount"],
        __salt__["vz.conf_dir"](),
    )
    read = f"vzctl of this node reads {__salt__['vz.conf_dir'](real=False)}, which is {conf_dir}"
    out = "leave ringfree:shares:conf:mount out of the pillar, and each node takes its own conf directory"
    astray = conf_share_astray()
    if astray:
        compared = "; ".join(f"'diff -r {point} {conf_dir}'" for point in astray)
        return (
            f"the conf share is mounted on {', '.join(astray)}, where vzctl does not look: {read}. To mend it, {out}; "
            f"compare the confs ({compared}); then 'umount {' '.join(astray)}' on the node: the next migration, or a "
            f"highstate of a node on NFS, mounts the share on {conf_dir}"
        )
    if mount != conf_dir:
        return (
            f"pillar ringfree:shares:conf:mount: {mount} is not where this node has its confs: {read}, and would go on "
            f"reading that with the share on {mount}; {out}"
        )
    return ""


def drift():
    """
    Mount options that differ from ``ringfree:nfs:options``, compared by meaning.  A store in use is never remounted.

    Returns a list of texts, one for each difference.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.drift
    """
    settings = __salt__["ringfree_settings.get"]()
    found = []
    for share in settings["shares"].values():
        entry = _mounted(share["mount"])
        if entry and __utils__["ringfree_mounts.is_nfs"](entry):
            differences = __utils__["ringfree_mounts.option_differences"](settings["nfs"]["options"], entry)
            found += [f"{share['mount']}: {difference}" for difference in differences]
    return found


def mount(source, target, options=None):
    """
    Mount an export and prove it from mountinfo.

    source
        ``SERVER:/export``.

    target
        The mount point, an existing directory.

    options : None
        Mount options; ``None`` for the pillar's ``ringfree:nfs:options``.

    Returns the entry of mountinfo.  Raises CommandExecutionError when it is not mounted afterwards, or when
    something else is mounted there.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.mount 10.77.0.21:/rf-images/pbx /vz/nfsprivate
    """
    nfs = __salt__["ringfree_settings.get"]()["nfs"]
    found = _mounted(target)
    if found and found["source"] == source:
        return found
    if found:
        raise CommandExecutionError(
            f"{target} has {found['source']} mounted on it, not {source}; nothing was changed."
        )
    argv = ["mount", "-t", "nfs", "-o", options or nfs["options"], source, real(target)]
    result = __utils__["ringfree_command.run"](argv, deadline=nfs["deadline"])
    found = _mounted(target)
    if result["rc"] != 0 or not found or found["source"] != source:
        raise CommandExecutionError(
            f"{source} is not mounted on {target}: {__utils__['ringfree_command.describe'](result)}"
        )
    return found


def unmount(target):
    """
    Unmount an export and prove it from mountinfo.  Never lazily; by force only when the SAN does not answer and nothing
    but our shares is mounted from the same file system: it ends all calls that wait for that, whatever mount they came
    by, and what they would have written is lost.

    target
        The mount point.

    Returns True.  Raises CommandExecutionError when it is still mounted afterwards.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.unmount /vz/nfsprivate
    """
    if not _mounted(target):
        return True
    deadline = __salt__["ringfree_settings.get"]()["nfs"]["deadline"]
    point, table = real(target), __salt__["vz.mounts"]()
    on_it = [mount["mountpoint"] for mount in __utils__["ringfree_mounts.users"](table, point)]
    run, umount = __utils__["ringfree_command.run"], __utils__["ringfree_mounts.umount_command"]
    result = run(umount(point), deadline=deadline)
    if result["timed_out"] and _mounted(target) and not shared_with(point):
        result = run(umount(point, "-f"), deadline=deadline)
    if _mounted(target):
        said = __utils__["ringfree_command.describe"](result)
        said = [f"{target} is still mounted: {said.rstrip('.')}."]
        said += [f"Mounted from it: {', '.join(on_it)}."] if on_it else []
        held = users(target)
        said += [f"In use by process {', '.join(held)}."] if held else _said_of_waiting()
        raise CommandExecutionError(" ".join(said))
    return True


def shared_with(target):
    """
    The mounts, other than our shares, that lose the calls that wait for the SAN when one share is unmounted by force.

    To the kernel's client all exports of one file system of a server are one file system, whatever is mounted from it:
    the same device in mountinfo.

    target
        The mount point of the share.

    Returns a list of mount points: containers' roots, and what somebody else has mounted from that SAN.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.shared_with /vz/nfsprivate
    """
    ours = {real(share["mount"]) for share in __salt__["ringfree_settings.get"]()["shares"].values()}
    sharing = __utils__["ringfree_mounts.sharing"](__salt__["vz.mounts"](), real(target))
    points = [mount["mountpoint"] for mount in sharing]
    return [point for point in points if point not in ours and not point.startswith(f"{PROBE}-")]


def users(target):
    """
    The processes that keep a mount busy: their working directories, programs and open files.

    Nothing on the mount is looked at, so that the answer comes also while its server is silent.

    target
        The mount point.

    Returns a list of texts, ``PID (name)``.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.users /vz/nfsprivate
    """
    point = real(target)
    found = __utils__["ringfree_command.links"](PROC)
    pids = {pid for pid, link in found if link == point or link.startswith(f"{point}/")}
    return [f"{pid} ({_name_of(pid)})" for pid in sorted(pids, key=int)]


def _said_of_waiting():
    """Who may hold a mount although no link in /proc shows it: whoever is in the middle of a call to a server."""
    waiting = []
    for pid in filter(str.isdigit, os.listdir(PROC)):
        try:
            with open(f"{PROC}/{pid}/wchan", encoding="ascii", errors="replace") as stream:
                if stream.read().startswith(WAITS):
                    waiting.append(pid)
        except OSError:
            continue
    named = ", ".join(f"{pid} ({_name_of(pid)})" for pid in sorted(waiting, key=int))
    return [f"A call to a server keeps process {named} waiting ('kill -9' ends it)."] if named else []


def _name_of(pid):
    try:
        with open(f"{PROC}/{pid}/comm", encoding="utf-8", errors="surrogateescape") as stream:
            return __utils__["ringfree_command.spell"](stream.read().strip())
    except OSError:
        return "ended"


def _mounted(target):
    """The topmost mount on a directory, or None."""
    return __utils__["ringfree_mounts.at"](__salt__["vz.mounts"](), real(target))


def fstab():
    """
    The lines of /etc/fstab by which the shares are mounted at boot, from the SAN in use.

    A boot does not wait longer for a SAN that is away than ``ringfree:nfs:deadline`` says.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.fstab
    """
    settings, address = __salt__["ringfree_settings.get"](), server()
    nfs, systemd = settings["nfs"], __grains__.get("init") == "systemd"
    late = f"x-systemd.mount-timeout={nfs['deadline']}" if systemd else "retry=0"
    # systemd names the mount by its path, and vz waits for that name: so without links.
    return "".join(
        f"{address}:{share['export']} {real(share['mount'])} nfs {nfs['options']},_netdev,nofail,{late} 0 0\n"
        for share in (settings["shares"][name] for name in ("private", "root", "conf"))
    )


def real(path):
    """
    A path without symbolic links, as the kernel, systemd and mount know what is mounted there.

    Whoever hands a path to one of them, or compares it with what they say, goes through here: ``/vz`` is often a link.
    No NFS server is asked.

    path
        An absolute path.

    Returns the path.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.real /vz/nfsprivate
    """
    return __utils__["ringfree_mounts.real_path"](__salt__["vz.mounts"](), path)


def mode(path):
    """
    The mode of a directory that may be on a share.

    path
        The directory.

    Returns a number.  Raises CommandExecutionError when it cannot be asked in time.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.mode /vz/nfsprivate
    """
    result = __utils__["ringfree_command.run"](["stat", "--format=%a", path], deadline=ATTEMPT)
    if result["rc"] != 0 or not result["out"].strip().isdigit():
        raise CommandExecutionError(f"{path}: {__utils__['ringfree_command.describe'](result)}")
    return int(result["out"], 8)


def try_mount(server, share):
    """
    Mount a share of a SAN beside everything else, and unmount it again.

    server
        The SAN's address.

    share
        ``private``, ``root`` or ``conf``.

    Returns True.  Raises CommandExecutionError when it cannot be mounted or does not answer.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.try_mount 10.77.0.22 private
    """
    folder = mount_aside(share, server)
    try:
        result = __utils__["ringfree_command.run"](["stat", "--file-system", folder], deadline=ATTEMPT)
        if result["rc"] != 0:
            raise CommandExecutionError(__utils__["ringfree_command.describe"](result))
    finally:
        unmount(folder)
    return True


def mount_aside(share, address=None):
    """
    Mount a share beside everything else, to be tried; ``ringfree_nfs.unmount`` takes it away again.

    share
        ``private``, ``root`` or ``conf``.

    address : None
        The SAN's address; ``None`` for that of the SAN that this node is to use.

    Returns the directory.  Raises CommandExecutionError, and leaves nothing mounted, when it cannot be mounted.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.mount_aside private
    """
    folder = f"{PROBE}-{share}"
    __utils__["ringfree_files.folder"](os.path.dirname(folder))
    # One that was left mounted keeps its mode.
    os.makedirs(folder, mode=0o700, exist_ok=True)
    export = __salt__["ringfree_settings.get"]()["shares"][share]["export"]
    try:
        mount(f"{address or server()}:{export}", folder)
    except CommandExecutionError:
        unmount(folder)
        raise
    return folder


def scan(path, deadline=3600):
    """
    Count what a container's private area uses that an export may not be able to store, or that cannot be moved at all.

    path
        The private area.

    deadline : 3600
        Seconds.

    Returns ``bytes``, ``inodes``, a count for each of ``hard_links``, ``sparse``, ``devices``, ``fifos``, ``sockets``,
    ``setuid``, ``acl``, ``xattr``, ``capability``, ``odd_names``, ``immutable``, ``long_paths``, and ``examples``.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.scan /vz/private/101
    """
    result = __utils__["ringfree_command.ask"](__utils__["ringfree_tree.command"]("scan", path), deadline)
    if result["answer"] is None:
        raise CommandExecutionError(f"{path}: {__utils__['ringfree_command.describe'](result)}")
    return result["answer"]


def on_share(paths):
    """
    Which of some paths lie on the private share, or would if it were mounted; symbolic links are followed.

    paths
        Private areas as confs name them; ``None`` for one that names none.

    Returns a set of those paths.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.on_share '["/vz/nfsprivate/101"]'
    """
    table = __salt__["vz.mounts"]()
    share = __utils__["ringfree_mounts.real_path"](
        table, __salt__["ringfree_settings.get"]()["shares"]["private"]["mount"]
    )
    found = set()
    for path in filter(None, paths):
        # What vzctl cannot follow leads nowhere.
        with contextlib.suppress(ValueError):
            if __utils__["ringfree_mounts.real_path"](table, path).startswith(f"{share}/"):
                found.add(path)
    return found


def containers():
    """
    The containers of the manifest that run from the share, proved from mountinfo.

    Returns a list of ids.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_nfs.containers
    """
    up = set(__salt__["vz.running"]())
    proofs = {ctid: __salt__["vz.root_mount"](ctid) for ctid in __salt__["vz.manifest"]() or [] if ctid in up}
    return [ctid for ctid, proof in proofs.items() if proof["ok"] and proof["nfs"]]
