"""
The SAN over ssh: its host keys, one connection for many commands, rsync.

:depends: rsync, ssh
:configuration: the pillar ``ringfree`` (``ssh``, ``shares``)
"""

import contextlib
import logging
import os
import secrets
import shutil

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "ringfree_san"

STATE_DIR = "/var/lib/ringfree"
RUN_DIR = "/run/ringfree"
PARTIAL = 23  # rsync's exit code when a file, or something of it, was not transferred, rsync(1)
VANISHED = 24  # rsync's exit code when files were taken away while it read them, rsync(1)


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def __virtual__():
    return __virtualname__


def _settings():
    return __salt__["ringfree_settings.get"]()


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
        __utils__["ringfree_files.keep"](path, data)
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
    connection(server)
    argv = download(path, folder, server, timeout=timeout, dry_run=dry_run, backup=backup)
    counting = __utils__["ringfree_sync.counting"]()
    return _must_be_good(__utils__["ringfree_command.run"](argv, deadline=deadline, count=counting))


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
    __utils__["ringfree_files.folder"](folder)
    connection(server)
    argv = download(path, folder, server, checksum=True, hidden=False)
    for _ in range(3):
        result = __utils__["ringfree_command.run"](argv, deadline=deadline)
        if result["rc"] != VANISHED:
            break
    return _must_be_good(result)


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
    connection(server)
    argv = upload(folder, path, server, delete=False, checksum=True)
    return _must_be_good(__utils__["ringfree_command.run"](argv, deadline=deadline))


def try_copy(export, server=None):
    """
    Copy to the SAN, as containers are copied, a folder with what their files need, compare it, and remove it again.

    What the SAN does with files there is another question than what its export can store over NFS: it may add labels
    that nobody can take away.

    export
        The private share's directory on the SAN.  The folder lies in its ``.ringfree`` meanwhile.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    Returns a dictionary: what does not arrive as it was, as ``TRIALS`` in ``_utils/ringfree_probe.py`` and ``plain``,
    to what rsync said.  Raises CommandExecutionError when nothing can be copied at all.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.try_copy /rf-images/pbx
    """
    connection(server)
    name = f".probe-{secrets.token_hex(8)}"  # hidden, so that nobody fetches it as a record
    here = f"{STATE_DIR}/{name[1:]}"
    __utils__["ringfree_files.folder"](here)
    os.chmod(here, 0o755)  # .ringfree becomes like it
    only = [f"--include=/{name}/***", "--exclude=*"]
    # Should it ever take the records beside for its own, it ends before it has deleted many.
    options = {"more": only, "max_delete": 99, "timeout": 60}
    said = []
    try:
        os.mkdir(f"{here}/{name}")
        __utils__["ringfree_probe.samples"](f"{here}/{name}")
        for dry_run in (False, True):
            argv = upload(here, f"{export}/.ringfree", server, dry_run=dry_run, **options)
            result = __utils__["ringfree_command.run"](argv, deadline=120)
            if result["rc"] not in (0, PARTIAL):
                _must_be_good(result)
            said += [*result["err"].splitlines(), *result["out"].splitlines()]
        return __utils__["ringfree_command.printable"](__utils__["ringfree_probe.unlike"](name, said))
    finally:
        shutil.rmtree(f"{here}/{name}")
        argv = upload(here, f"{export}/.ringfree", server, **options)
        result = __utils__["ringfree_command.run"](argv, deadline=120)
        shutil.rmtree(here)
        if result["rc"] != 0:
            log.warning(
                "%s/.ringfree/%s stays on the SAN: %s",
                export,
                name,
                __utils__["ringfree_command.describe"](result),
            )


def upload(folder, path, server=None, name=None, **options):
    """
    The command that makes a directory of the SAN like a local one, of which it sees nothing else of this machine.

    folder
        The local directory.

    path
        The directory on the SAN.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    name : None
        A directory of the local one, to be copied in its place; it must be no link.

    Other arguments are those of ``rsync`` in ``_utils/ringfree_sync.py``.

    Returns an argument list; :py:func:`connection` must be open by the time that it is run.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.upload /vz/private/101 /rf-images/pbx/101 dry_run=True
    """
    trees = {"/tree": {"path": folder, "name": name, "write": False}}
    return _confined("/tree/", _there(path, server), server, trees, options)


def download(path, folder, server=None, backup=None, **options):
    """
    The command that makes a local directory like one of the SAN, and sees nothing else of this machine.

    path
        The directory on the SAN.

    folder
        The local directory.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    backup : None
        Local directory that keeps what is replaced or deleted.

    Other arguments are those of ``rsync`` in ``_utils/ringfree_sync.py``.

    Returns an argument list; :py:func:`connection` must be open by the time that it is run.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.download /rf-images/pbx/101 /vz/private/101 dry_run=True
    """
    trees = {"/tree": {"path": folder, "write": not options.get("dry_run")}}
    if backup:
        trees["/kept"] = {"path": backup, "write": True}
        options["backup"] = "/kept"
    return _confined(_there(path, server), "/tree/", server, trees, options)


def _there(path, server):
    return f"{remote(path, server).rstrip('/')}/"


def _confined(source, target, server, trees, options):
    through = __utils__["ringfree_sync.through"](__utils__["ringfree_confine.connection"]())
    argv = __utils__["ringfree_sync.rsync"](source, target, through, **options)
    return __utils__["ringfree_confine.command"](argv, trees, _socket(server))


def _must_be_good(result):
    verdict = __utils__["ringfree_sync.verdict"](result, running=False)
    if verdict["do"] != "next":
        said = __utils__["ringfree_command.describe"](result)
        raise CommandExecutionError(f"{verdict['why']}: {said}")
    return result


def names(path, server=None):
    """
    The names in a directory of the SAN, asked over ssh by rsync.

    path
        The directory on the SAN.

    server : None
        The SAN's address; ``None`` for the SAN in use.

    Returns a list of names.  Raises CommandExecutionError when the SAN cannot be reached with the pinned host key,
    the directory is not there, or there are more names than can be read.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.names /rf-images/pbx
    """
    result = _list(path, connection(server), server)
    if result["rc"] != VANISHED:  # what has vanished is not there
        _must_be_good(result)
    if result["cut"]:
        raise CommandExecutionError(f"{path} on the SAN has more names than are read")
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
    __utils__["ringfree_files.folder"](RUN_DIR)
    server = server or __salt__["ringfree_nfs.server"]()
    argv = _ssh(_socket(server))
    if __utils__["ringfree_command.run"]([*argv, "-O", "check", server], deadline=10)["rc"] == 0:
        return argv
    # Where a socket is already, also one whose ssh was killed, ssh(1) opens none and says nothing: so a new name first.
    new = f"{_socket(server)}.{os.getpid()}"
    opening = [*_ssh(new), "-M", "-N", "-f", "-o", "ControlPersist=60", server]
    result = __utils__["ringfree_command.run"](opening, deadline=60)
    with contextlib.suppress(FileNotFoundError):
        os.rename(new, _socket(server))
    if result["rc"] != 0:
        # A SAN that is dead is waited for only once, while containers are down.
        if not result["err"].strip():
            result = __utils__["ringfree_command.run"]([*_ssh(), server, "true"], deadline=60)
        _must_be_good(dict(result, rc=result["rc"] or 255))
    return argv


def disconnect():
    """
    End the connections that :py:func:`connection` keeps for a minute; for what must leave no process behind.

    Returns nothing.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.disconnect
    """
    nfs = _settings()["nfs"]
    for server in (nfs["primary"], nfs["secondary"]):
        if os.path.lexists(_socket(server)):
            __utils__["ringfree_command.run"]([*_ssh(_socket(server)), "-O", "exit", server], deadline=10)


def _socket(server):
    return f"{RUN_DIR}/ssh-{server or __salt__['ringfree_nfs.server']()}"


def confs():
    """
    The files of the conf share as they are on the SAN, asked over ssh; of subdirectories those that this node has too.

    Returns a dictionary, as ``read_folder`` in ``_utils/ringfree_files.py`` does.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_san.confs
    """
    here = f"{STATE_DIR}/confs-on-share"
    fetch_shared(__salt__["ringfree_settings.get"]()["shares"]["conf"]["export"], here)
    return __utils__["ringfree_files.read_folder"](
        here, below=__utils__["ringfree_files.subfolders"](__salt__["vz.conf_dir"]())
    )
