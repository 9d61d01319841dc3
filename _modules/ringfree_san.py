"""
The SAN over ssh: its host keys, one connection for many commands, rsync.

:depends: rsync, ssh
:configuration: the pillar ``ringfree`` (``ssh``, ``shares``)
"""

import os

from salt.exceptions import CommandExecutionError

__virtualname__ = "ringfree_san"

STATE_DIR = "/var/lib/ringfree"
RUN_DIR = "/run/ringfree"
VANISHED = 24  # rsync's exit code when files were taken away while it read them, rsync(1)


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["cloudstor.settings"]()


def _ssh(control=None):
    wanted = _settings()["ssh"]
    if wanted["host_keys"]:
        wanted["known_hosts"] = _pinned(wanted)
    return __utils__["ringfree_sync.ssh"](wanted, control)


def _pinned(wanted):
    """The file with the pillar's host keys; a dry run has one of its own."""
    path = f"{RUN_DIR}/known_hosts.test" if __opts__.get("test") else f"{RUN_DIR}/known_hosts"
    _pin(path, wanted)
    return path


def _pin(path, wanted, test=False):
    """Write the pillar's host keys unless the file says them; returns whether it did not."""
    data = __utils__["ringfree_sync.known_hosts"](wanted["host_keys"], wanted["port"]).encode()
    if __utils__["ringfree_files.read"](path) == data:
        return False
    if not test:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        __utils__["ringfree_files.write"](path, data)
    return True


def host_keys(test=False):
    """
    Put the host keys of the pillar (``ringfree:ssh:host_keys``) into the file that ssh reads them from.

    test : False
        Only say what would change.

    Returns a dictionary of changes: path to old and new; empty where the pillar has no host keys.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.host_keys test=True
    """
    wanted, path = _settings()["ssh"], f"{RUN_DIR}/known_hosts"
    if not wanted["host_keys"] or not _pin(path, wanted, test):
        return {}
    return {path: {"old": "missing or different", "new": "the host keys of the pillar"}}


def remote(path, server=None):
    """
    How rsync names a path on the SAN.

    path
        The path there.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    Returns text.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.remote /rf-images/pbx/101/
    """
    return f"{server or __salt__['ringfree_nfs.server']()}:{path}"


def fetch(path, folder, server=None, deadline=600, timeout=600, dry_run=False, backup=None):
    """
    Make a local directory like one of the SAN: what only the local one has is deleted, or kept in ``backup``.

    path
        The directory on the SAN.

    folder
        The local directory; it must be there.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    deadline : 600
        Seconds.

    timeout : 600
        Seconds without any data after which rsync gives up.

    dry_run : False
        Change nothing, and itemise every difference.

    backup : None
        Local directory that keeps what is replaced or deleted.

    Returns what rsync said, as ``run`` in ``_utils/ringfree_command.py`` does.  Raises CommandExecutionError unless
    rsync ends with exit code 0; and before it begins, when something could be deleted for good.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.fetch /rf-images/pbx/101 /root/look dry_run=True
    """
    if not (dry_run or backup):
        raise CommandExecutionError(f"say where what is replaced or deleted in {folder} is kept (backup)")
    source, target = f"{remote(path, server).rstrip('/')}/", f"{folder.rstrip('/')}/"
    return _rsync(source, target, server, deadline, timeout=timeout, dry_run=dry_run, backup=backup)


def fetch_shared(path, folder, server=None, deadline=600):
    """
    Bring a directory of the SAN, into which every node writes, to a copy of our own.

    Hidden names are left out: they are other nodes' trials and the files that an rsync of theirs is just writing, and
    are gone a moment later.  When another file vanishes in the middle, all is read again.

    path
        The directory on the SAN.

    folder
        The copy, in /var/lib/ringfree; it is made when it is missing, and loses what the SAN does not have.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    deadline : 600
        Seconds for one reading.

    Returns what rsync said, as ``run`` in ``_utils/ringfree_command.py`` does.  Raises CommandExecutionError when the
    folder is not ours, rsync fails, or files vanish three times running.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.fetch_shared /rf-images/vzconf /var/lib/ringfree/confs-on-share
    """
    if not os.path.realpath(folder).startswith(f"{os.path.realpath(STATE_DIR)}/"):
        raise CommandExecutionError(
            f"{folder} is not in {STATE_DIR}: what the SAN does not have would be deleted there"
        )
    os.makedirs(folder, mode=0o700, exist_ok=True)
    source, target = f"{remote(path, server).rstrip('/')}/", f"{folder.rstrip('/')}/"
    argv = __utils__["ringfree_sync.rsync"](source, target, connection(server), checksum=True, hidden=False)
    for _ in range(3):
        result = __utils__["ringfree_command.run"](argv, deadline=deadline)
        if result["rc"] != VANISHED:
            break
    _must_be_good(result)
    return result


def push(folder, path, server=None, deadline=600):
    """
    Bring the files of a local directory to one of the SAN; what is there besides stays.

    folder
        The local directory.

    path
        The directory on the SAN.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    deadline : 600
        Seconds.

    Returns what rsync said, as ``run`` in ``_utils/ringfree_command.py`` does.  Raises CommandExecutionError unless
    rsync ends with exit code 0.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.push /root/records /rf-images/pbx/.ringfree
    """
    source, target = f"{folder.rstrip('/')}/", f"{remote(path, server).rstrip('/')}/"
    return _rsync(source, target, server, deadline, delete=False, checksum=True)


def _rsync(source, target, server, deadline, **options):
    argv = __utils__["ringfree_sync.rsync"](source, target, connection(server), **options)
    result = __utils__["ringfree_command.run"](argv, deadline=deadline)
    _must_be_good(result)
    return result


def _must_be_good(result):
    verdict = __utils__["ringfree_sync.verdict"](result, running=False)
    if verdict["do"] != "next":
        said = __utils__["ringfree_command.describe"](result)
        raise CommandExecutionError(f"{verdict['why']}: {said}")


def names(path, server=None):
    """
    The names in a directory of the SAN, asked over ssh by rsync.

    path
        The directory on the SAN.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    Returns a list of names.  Raises CommandExecutionError when the SAN cannot be reached with the pinned host key,
    or the directory is not there.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.names /rf-images/pbx
    """
    result = _list(path, connection(server), server)
    if result["rc"] != VANISHED:  # what has vanished is not there
        _must_be_good(result)
    found = [line.split(None, 4)[4] for line in result["out"].splitlines() if len(line.split(None, 4)) == 5]
    return [name.split(" -> ")[0] for name in found if name != "."]


def _list(path, ssh, server=None):
    argv = ["rsync", "--list-only", "--no-human-readable", "-8", "-e", " ".join(ssh)]
    return __utils__["ringfree_command.run"]([*argv, remote(f"{path.rstrip('/')}/", server)], deadline=60)


def unreachable():
    """
    Why nothing at all can be asked of the SAN in use over ssh: it is away, or does not let this node in.

    It logs in anew, which checks key and host key again.

    Returns text; empty when the SAN answers.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.unreachable
    """
    result = _list(_settings()["shares"]["private"]["export"], _ssh())
    try:
        _must_be_good(result)
    except CommandExecutionError as error:
        return str(error) if result["rc"] == 255 or result["timed_out"] else ""
    return ""


def connection(server=None):
    """
    The ssh command with which this node reaches a SAN, over a connection that is kept for a minute.

    A login is half of a pass over a small container.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    Returns an argument list without the host.  Raises CommandExecutionError when the SAN cannot be reached.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.connection 10.77.0.22
    """
    os.makedirs(RUN_DIR, mode=0o700, exist_ok=True)
    server = server or __salt__["ringfree_nfs.server"]()
    argv = _ssh(f"{RUN_DIR}/ssh-{server}")
    if __utils__["ringfree_command.run"]([*argv, "-O", "check", server], deadline=10)["rc"] == 0:
        return argv
    opening = [*argv, "-M", "-N", "-f", "-o", "ControlPersist=60", server]
    if __utils__["ringfree_command.run"](opening, deadline=60)["rc"] != 0:
        result = __utils__["ringfree_command.run"](
            [*_ssh(), server, "true"], deadline=60
        )  # once more, for its words
        _must_be_good(dict(result, rc=result["rc"] or 255))
    return argv
