"""
rsync and ssh: the command lines, what their exit codes mean and what they print.

The options follow what OpenVZ's own vzmigrate found necessary (``-aHAX --numeric-ids --delete``, bin/vzmigrate.in
of vzctl 4.11.1) and rsync(1): ``-S`` keeps holes, ``-x`` stays on the container's file system, deletions
are counted against ``--max-delete``.
"""

import re

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
    77: "the SAN refuses that to this key",  # REFUSED in san/ringfree-san
    125: "it cannot be confined to its tree",  # EXIT_CODE in ringfree_confine.py
    127: "rsync is not installed",
    255: "the connection to the SAN failed",
}
#: What rsync says of a tree that changes while it reads it: a name is gone (2), or is now of another kind (20, 22, 40).
CHANGED = re.compile(r"rsync: (\[sender\] )?[^\[].* \((2|20|22|40)\)|file has vanished: .*")
#: What it says at the end, and when it deletes nothing because of these.
AFTERWARDS = ("rsync error: ", "rsync warning: ", "IO error encountered ")
#: How a line begins that names a difference; and what stands where much output was cut (ringfree_command).
DIFFERENCE = r"[<>ch.*][fdLDS]|\*deleting"
LEFT_OUT = r"\[\d+ bytes are left out here\]"
STATS = {
    "files": r"^Number of regular files transferred: ([\d,]{1,40})",
    "bytes": r"^Literal data: ([\d,]{1,40}) bytes",
    "deleted": r"^Number of deleted files: ([\d,]{1,40})",
    "size": r"^Total file size: ([\d,]{1,40}) bytes",
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


def through(socket):
    """
    The ssh command of an rsync that has no key: it goes through a connection that is open, and opens none.

    socket
        The control socket, where rsync finds it.

    Returns an argument list without the host.
    """
    # Without the connection ssh would try one of its own, and fail for a reason that is none: no key, no host key.
    options = {
        "ControlPath": socket,
        "ControlMaster": "no",
        "ProxyCommand": "none-is-open",
        "LogLevel": "ERROR",
    }
    return ["ssh", "-F", "/dev/null", *(word for key in options for word in ("-o", f"{key}={options[key]}"))]


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


def rsync(source, target, ssh_argv, more=(), **wanted):
    """
    The rsync command for one tree.

    source
        Source, with a trailing slash for the content of a directory.

    target
        Target, ``host:path/`` for the SAN.

    ssh_argv
        What :py:func:`ssh` or :py:func:`through` returned.

    more : ()
        Further options, such as filters.

    wanted
        As :py:func:`options` takes them.

    Returns an argument list.
    """
    return ["rsync", *options(**wanted), *more, "-e", " ".join(ssh_argv), source, target]


def options(
    timeout=600, max_delete=None, dry_run=False, checksum=False, delete=True, backup=None, hidden=True
):
    """
    The options of rsync for one tree.

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
    argv = ["-aHAXSx", "--numeric-ids", f"--timeout={timeout}", "--no-human-readable"]
    # What an NFS client makes of a file deleted while open.
    argv.append("--exclude=.nfs????????????????????????")
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
        # No --partial-dir: it is looked up in each directory of the tree, where a container can make a link of that
        # name, and rsync writes and deletes where it leads. A file that was cut off is copied anew.
        argv.append("--info=stats2")
    return argv


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
        numbers[key] = int("0" + match.group(1).replace(",", "")) if match else 0
    return numbers


def counting():
    """
    What ``ringfree_command.run`` has to count in a dry run.

    Returns a regular expression.
    """
    return DIFFERENCE


def differences(result):
    """
    Read the itemised differences of a dry run.

    result
        What ``ringfree_command.run`` returned for ``rsync --dry-run --itemize-changes``, with the lines counted that
        :py:func:`counting` says.

    Returns ``{"count": number, "lines": [text, ...]}``: of a list that is too long to be kept the first and the last
    ones, with a line between them that says so.
    """
    lines = [line for line in result["out"].splitlines() if re.match(f"{DIFFERENCE}|{LEFT_OUT}$", line)]
    return {"count": result["counted"], "lines": lines}


def verdict(result, running):
    """
    Judge an rsync run.

    result
        What ``ringfree_command.run`` returned for it.

    running : bool
        Whether the container was running: files may vanish then, or become others.

    Returns ``{"do": "next"|"again"|"stop", "why": text}``.
    """
    rc = result["rc"]
    if result["timed_out"]:
        return {"do": "stop", "why": f"it did not end within {result['seconds']:.0f} s"}
    if rc == 0 or (running and (rc == 24 or (rc == 23 and _is_changing(result["err"])))):
        return {"do": "next", "why": ""}
    refused = _ssh_failure(result["err"]) if rc in CONNECTION else None
    if refused:
        return {"do": "stop", "why": refused}
    # Code 24 too: in a tree at rest no file vanishes.
    return {"do": "again" if rc in RETRY else "stop", "why": MEANING.get(rc, "an error")}


def _is_changing(words):
    """Whether all that rsync complains of is that the tree changed, which its root can bring about all night."""
    lines = [line for line in words.splitlines() if line and not line.startswith(AFTERWARDS)]
    # What is left out of thousands of complaints is taken to be like them: its root can also make thousands.
    lines = [line for line in lines if not re.fullmatch(LEFT_OUT, line)]
    return bool(lines) and all(map(CHANGED.fullmatch, lines))


def _ssh_failure(words):
    """The plain cause of an ssh failure that no second try cures, or None for one that may pass."""
    if "Host key verification failed" in words or "REMOTE HOST IDENTIFICATION HAS CHANGED" in words:
        return "the SAN's host key is not the pinned one"
    if "ringfree-san: refused" in words:
        return MEANING[77]
    if "ringfree-san: rsync was not started" in words:
        return MEANING[125]
    if re.search(r"Permission denied \([a-z]", words):  # the ways to log in; rsync's own has a number there
        return "the SAN refuses the node's ssh key"
    if "Could not resolve" in words:
        return "the SAN's name does not resolve"
    return None
