"""
rsync and ssh: the command lines, what their exit codes mean and what they print.

The options follow what OpenVZ's own vzmigrate found necessary (``-aHAX --numeric-ids --delete``, bin/vzmigrate.in
of vzctl 4.11.1) and rsync(1): ``-S`` keeps holes, ``-x`` stays on the container's file system, deletions
are counted against ``--max-delete``.
"""

import re

#: Where a copy that was cut off keeps half a file. Not rsync's usual name: containers may have directories of that one.
PARTIAL = ".ringfree-partial"
#: What to do after an exit code of rsync, from rsync(1); anything not listed stops.
RETRY = (10, 12, 30, 35, 255)
#: What rsync ends with when its ssh ends: ssh's own 255, or 12 when the end of the stream is seen first.
CONNECTION = (12, 255)
MEANING = {
    1: "syntax or usage error",
    2: "protocol incompatibility (does the SAN's shell print something at login?)",
    3: "errors selecting files",
    5: "error starting the protocol",
    10: "error in socket I/O",
    11: "error in file I/O on the SAN (no space, or the directory is missing)",
    12: "error in the data stream",
    20: "stopped by a signal",
    23: "partial transfer: some files or attributes could not be copied",
    24: "files vanished while they were copied",
    25: "more files would be deleted on the SAN than ringfree:sync:max_delete allows",
    30: "nothing came from the SAN for ringfree:sync:timeout seconds",
    127: "rsync is not installed",
    255: "the connection to the SAN failed",
}
STATS = {
    "files": r"^Number of regular files transferred: ([\d,]+)",
    "bytes": r"^Literal data: ([\d,]+) bytes",
    "deleted": r"^Number of deleted files: ([\d,]+)",
    "size": r"^Total file size: ([\d,]+) bytes",
}


def ssh(settings, control=None):
    """
    The ssh command with which a node reaches a SAN.

    settings
        The pillar's ``ringfree:ssh`` with defaults.

    control : None
        Path of the socket of a shared connection.

    Returns an argument list without the host.  The host key must be in the pinned file, nothing is asked.
    """
    argv = [
        "ssh",
        "-F",
        "/dev/null",
        "-i",
        settings["key"],
        "-p",
        str(settings["port"]),
        "-l",
        settings["user"],
    ]
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": settings["known_hosts"],
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "LogLevel": "ERROR",
    }
    if control:
        options["ControlPath"] = control
    for key, value in options.items():
        argv += ["-o", f"{key}={value}"]
    if settings.get("cipher"):
        argv += ["-c", settings["cipher"]]
    return argv


def known_hosts(host_keys, port):
    """
    The text of a known_hosts file.

    host_keys
        Dictionary: a SAN's address to its public host key.

    port
        The port of its sshd.

    Returns text, one line for each.
    """
    form = "{} {}\n" if port == 22 else "[{}]:" + str(port) + " {}\n"
    return "".join(form.format(host, key) for host, key in sorted(host_keys.items()))


def rsync(
    source,
    target,
    ssh_argv,
    timeout=600,
    max_delete=None,
    dry_run=False,
    checksum=False,
    delete=True,
    backup=None,
    hidden=True,
):
    """
    The rsync command for one tree.

    source
        Source, with a trailing slash for the content of a directory.

    target
        Target, ``host:path/`` for the SAN.

    ssh_argv
        What :py:func:`ssh` returned.

    timeout : 600
        Seconds without any data after which rsync gives up (exit code 30).

    max_delete : None
        Limit of deletions (exit code 25 beyond it); ``None`` for no limit.

    dry_run : False
        Change nothing, itemise every difference: no output means that both trees are the same.

    checksum : False
        Compare contents, not only size and time.

    delete : True
        Delete in the target what the source does not have.

    backup : None
        Directory on the target's side that keeps what is replaced or deleted.

    hidden : True
        Copy names that begin with a dot too; without them they are deleted in the target.

    Returns an argument list.
    """
    argv = [
        "rsync",
        "-aHAXSx",
        "--numeric-ids",
        f"--timeout={timeout}",
        "--no-human-readable",
        "-e",
        " ".join(ssh_argv),
    ]
    argv += [
        "--exclude=.nfs????????????????????????"
    ]  # what an NFS client makes of a file deleted while open
    if not hidden:
        argv.append("--filter=H .*")
    if delete:
        argv.append("--delete-delay")
    if backup:
        argv += ["--backup", f"--backup-dir={backup}"]
    if max_delete is not None:
        argv.append(f"--max-delete={max_delete}")
    if checksum:
        argv.append("--checksum")
    if dry_run:
        argv += ["--dry-run", "--itemize-changes"]
    else:
        # rsync never deletes what is in the partial directory by itself. Without the filter (R: may be deleted) the
        # rest of a file that is gone would stay in the copy, and no later pass would find both trees the same.
        argv += [f"--filter=R {PARTIAL}", f"--partial-dir={PARTIAL}", "--info=stats2"]
    return argv + [source, target]


def statistics(text):
    """
    Read rsync's ``--info=stats2``.

    text
        What rsync printed.

    Returns ``{"files": int, "bytes": int, "deleted": int, "size": int}``; 0 for what it did not print.
    """
    numbers = {}
    for key, pattern in STATS.items():
        match = re.search(pattern, text, re.MULTILINE)
        numbers[key] = int(match.group(1).replace(",", "")) if match else 0
    return numbers


def differences(text):
    """
    Read the itemised differences of a dry run.

    text
        What ``rsync --dry-run --itemize-changes`` printed.

    Returns the list of its lines that name a difference.
    """
    return [line for line in text.splitlines() if re.match(r"^([<>ch.*][fdLDS]|\*deleting)", line)]


def verdict(result, running):
    """
    Judge an rsync run.

    result
        What ``ringfree_command.run`` returned for it.

    running : bool
        Whether the container was running (files may vanish then).

    Returns ``{"do": "next"|"again"|"stop", "why": text}``.
    """
    rc = result["rc"]
    if result["timed_out"]:
        return {"do": "stop", "why": f"it did not end within {result['seconds']:.0f} s"}
    if rc == 0 or (rc == 24 and running):
        return {"do": "next", "why": ""}
    refused = _ssh_failure(result["err"]) if rc in CONNECTION else None
    if refused:
        return {"do": "stop", "why": refused}
    return {"do": "again" if rc in RETRY or rc == 24 else "stop", "why": MEANING.get(rc, "an error")}


def _ssh_failure(words):
    """The plain cause of an ssh failure that no second try cures, or None for one that may pass."""
    if "Host key verification failed" in words or "REMOTE HOST IDENTIFICATION HAS CHANGED" in words:
        return "the SAN's host key is not the pinned one"
    if re.search(r"Permission denied \([a-z]", words):  # the ways to log in; rsync's own has a number there
        return "the SAN refuses the node's ssh key"
    if "Could not resolve" in words:
        return "the SAN's name does not resolve"
    return None
