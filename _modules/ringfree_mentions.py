"""
Text on the node that names where containers were: action scripts, cron jobs, units, fstab, configuration of others.

After the move the old root of a container is an empty directory and its old private area a copy that nobody uses.  An
action script that has such a path written out goes on with it, and nothing fails: what it mounts is missing in the
container, what it writes is lost.

:configuration: the pillar ``ringfree`` (``shares``)
"""

import glob
import os
import re

__virtualname__ = "ringfree_mentions"

ROOT = "/"
INSIDE = (
    "start",
    "stop",
)  # action scripts that vzctl runs inside the container (src/lib/exec.c of vzctl 4.11.1)
FSTAB = "etc/fstab"
#: Where nodes keep what works by itself: what vz runs, timers, services, backups, what looks after logs.
WATCHED = (
    FSTAB,
    "etc/vz/dists/scripts/*",
    "etc/vz/*.conf",
    "etc/crontab",
    "etc/anacrontab",
    "etc/cron.*/*",
    "var/spool/cron/*",
    "var/spool/cron/crontabs/*",
    "var/spool/incron/*",
    "etc/incron.d/*",
    "etc/systemd/system/*",
    "etc/systemd/system/*.d/*.conf",
    "etc/init.d/*",
    "etc/rc.local",
    "etc/rc.d/rc.local",
    "etc/auto.*",
    "etc/exports",
    "etc/exports.d/*",
    "etc/logrotate.conf",
    "etc/logrotate.d/*",
    "etc/rsnapshot*.conf",
    "etc/rsyncd.conf",
    "etc/vzdump.conf",
    "etc/backup.d/*",
    "etc/borgmatic/*",
    "etc/borgmatic.d/*",
    "etc/bacula/*.conf",
    "etc/bareos/*.conf",
    "etc/bareos/*/*/*.conf",
    "etc/lsyncd.conf",
    "etc/lsyncd/*",
    "etc/fail2ban/*.local",
    "etc/fail2ban/jail.d/*",
    "etc/samba/smb.conf",
    "etc/monit.d/*",
    "etc/nagios/nrpe.cfg",
    "etc/nagios/nrpe.d/*",
    "etc/nrpe.d/*",
)
#: Names under which editors and package managers leave what is not used.
UNUSED = (".bak", ".old", ".orig", ".rpmnew", ".rpmsave", ".dpkg-old", ".dpkg-dist", ".swp", "~", ".disabled")
#: Where packages have their programs, and what is no file of a disk: neither old places nor scripts of admins.
FOREIGN = (
    "bin/",
    "sbin/",
    "lib",
    "usr/bin/",
    "usr/sbin/",
    "usr/lib",
    "dev/",
    "proc/",
    "sys/",
    "run/",
    "var/run/",
)
LARGEST = 1 << 18  # bytes; no script of an admin has as many
MOST = 300  # files that are read because another one names them
DEEPEST = 3  # how far: a cron job names a script, which calls another one
SHOWN = 160  # characters of a command in a sentence
MOUNTS = re.compile(r"(?:\A|[\s;/&|=])mount(?:\s|\Z)")


def __virtual__():
    return __virtualname__


def __init__(opts):
    __utils__["ringfree_command.carry"](globals())


def old_places():
    """
    What on this node names the old places of the containers that are to move, by the confs as they are now.

    Returns ``{"findings": [text], "notes": [text]}``: findings for action scripts, and for what mounts something into
    an old root; notes for all else, which goes on by itself and only works on old copies.  Each names file and line.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_mentions.old_places
    """
    look = _Look()
    for path, ctid, action in _action_scripts():
        look.script(path, ctid, action)
    for path in _watched():
        look.watched(path)
    return {"findings": look.findings, "notes": look.notes}


def left_behind():
    """
    What action scripts use in the conf directory and what does not come along to the conf share: hidden files and
    directories, pipes, sockets, devices.

    Returns a list of sentences, each with file and line.

    CLI Example:

    .. code-block:: bash

        salt node001 ringfree_mentions.left_behind
    """
    folder = __salt__["vz.conf_dir"](real=False)
    with os.scandir(folder) as listing:
        stays = sorted(entry.name for entry in listing if _stays(entry))
    found = []
    for path, _, _ in _action_scripts() if stays else ():
        for name in stays:
            lines = __utils__["ringfree_mentions.lines_with"](_data(path), name)
            if lines:
                found.append(
                    f"{path}:{lines[0]} uses {name} in {folder}, which does not come along to the conf share and "
                    f"would be missing: give it a name without a dot at its beginning, or move it out of {folder}"
                )
    return found


def _stays(entry):
    """Whether an entry of the conf directory is none that is brought to the share, or of an editor."""
    if entry.name.startswith("."):
        return not entry.name.endswith((".swp", ".ringfree"))
    return not (entry.is_symlink() or entry.is_file() or entry.is_dir())


def _action_scripts():
    """The action scripts that can run: ``(path, container id or None for vps, action)``."""
    known, found = set(__salt__["vz.containers"]()), []
    folder = __salt__["vz.conf_dir"](real=False)
    for name in sorted(os.listdir(folder)):
        script = __utils__["ringfree_conf.action_script"](name)
        if script and (script["ctid"] is None or script["ctid"] in known):
            found.append((os.path.join(folder, name), script["ctid"], script["action"]))
    return found


def _watched():
    """The files of the node that are looked at, each once."""
    found = [path for pattern in WATCHED for path in sorted(glob.glob(os.path.join(ROOT, pattern)))]
    return [path for path in dict.fromkeys(found) if os.path.isfile(path) and not path.endswith(UNUSED)]


class _Look:
    """One look at the node: what is known of old places, what was read already, what was found."""

    def __init__(self):
        self.table = __salt__["vz.mounts"]()
        self.findings, self.notes = [], []
        self.read, self.followed = set(), 0
        self.known = {}  # paths to the same without links
        self.foreign = tuple(os.path.join(ROOT, start) for start in FOREIGN)
        self.places, self.parents, self.new = {}, {"private": set(), "root": set()}, {}
        shares = __salt__["ringfree_settings.get"]()["shares"]
        for ctid in __salt__["cloudstor.to_move"]():
            conf = __salt__["vz.config"](ctid)
            for kind in ("private", "root"):
                self.new[kind] = shares[kind]["mount"]
                if not (conf[kind] or "").startswith("/"):
                    continue
                place = self.real(conf[kind])
                self.places[kind, ctid] = place
                if os.path.basename(place) == str(ctid):
                    self.parents[kind].add(os.path.dirname(place))
        # What is no script, and says where containers are because that is what it is for.
        vz_conf = __salt__["vz.conf_path"]()
        self.read.add(self.real(vz_conf))
        self.sourced = f". {vz_conf}; . $VE_CONFFILE"

    def real(self, path):
        """A path without links, for which no server is asked."""
        if path not in self.known:
            try:
                self.known[path] = __utils__["ringfree_mounts.real_path"](self.table, path)
            except (OSError, ValueError):
                self.known[path] = path
        return self.known[path]

    def script(self, path, ctid, action):
        """An action script, of one container or of all."""
        known = {} if ctid is None else {"VEID": str(ctid)}
        if action in INSIDE:
            for _, _, found in self.mentions(path, known, depth=DEEPEST):
                self.note(path, "", found, "it runs inside the container, where this path is another one")
            return
        for file, by, found in self.mentions(path, known):
            moves = ctid is None or ("private", ctid) in self.places or ("root", ctid) in self.places
            # Of a container that stays, the directory of all of them is where it is as well.
            certain = found if moves else [entry for entry in found if entry["place"][1] is not None]
            if certain:
                self.finding(file, by, certain)

    def watched(self, path):
        """A file of the node that works by itself."""
        if path == os.path.join(ROOT, FSTAB):
            self.fstab(path)
            return
        for file, by, found in self.mentions(path, {}):
            mounts = [entry for entry in found if _is_mounted_there(entry)]
            if mounts:
                self.mount_finding(file, by, mounts)
            rest = [entry for entry in found if entry not in mounts]
            if rest:
                self.note(file, by, rest, "")

    def fstab(self, path):
        """What fstab mounts into an old root; what it mounts from an old place.  A mount on a parent is no matter."""
        self.read.add(self.real(path))
        for number, line in enumerate(_data(path).decode("utf-8", "surrogateescape").split("\n"), 1):
            words = line.split()
            if len(words) < 2 or line.lstrip().startswith("#"):
                continue
            source, target = (self.place(word) if word.startswith("/") else None for word in words[:2])
            entry = {"line": number, "command": line.strip()}
            if target and target[1] is not None and target[0] == "root":
                self.mount_finding(path, "", [{**entry, "path": words[1], "place": target}])
            elif source:
                self.note(path, "", [{**entry, "path": words[0], "place": source}], "")

    def place(self, path, is_open=False):
        """Which old place a path names."""
        if path.startswith(self.foreign):
            return None
        place_of = __utils__["ringfree_mentions.place_of"]
        return place_of(self.real(path), is_open, self.places, self.parents)

    def mentions(self, path, known, by="", depth=0):
        """What a file, and the scripts that it names, say of old places: ``(file, caller, mentions)`` for each."""
        real = self.real(path)
        if real in self.read:
            return
        self.read.add(real)
        data = _data(real) if not self.on_nfs(real) else b""
        named = [] if b"\0" in data else __utils__["ringfree_mentions.paths"](data, known)
        found = [dict(entry, place=self.place(entry["path"], entry["open"])) for entry in named]
        found = [entry for entry in found if entry["place"]]
        if found:
            yield path, by, found
        for entry in named if depth < DEEPEST else ():
            if not entry["open"] and self.may_follow(entry["path"]):
                yield from self.mentions(entry["path"], known, by or path, depth + 1)

    def may_follow(self, path):
        """Whether what a script names may be a script as well, or the configuration of one."""
        if path.startswith(self.foreign) or self.place(path):
            return False
        real = self.real(path)
        if real in self.read or real.startswith(self.foreign) or self.on_nfs(real):
            return False
        is_conf = __utils__["ringfree_conf.is_sourced"](os.path.basename(real))
        if is_conf or not os.path.isfile(real) or self.followed >= MOST:
            return False
        etc = os.path.join(ROOT, "etc/")
        if not real.startswith(etc) and _data(real)[:2] != b"#!":
            return False
        self.followed += 1
        return True

    def on_nfs(self, real):
        mount = __utils__["ringfree_mounts.covering"](self.table, real)
        return bool(mount) and __utils__["ringfree_mounts.is_nfs"](mount)

    def finding(self, path, by, found):
        first = found[0]
        kind, ctid = first["place"]
        variable = {"private": "VE_PRIVATE", "root": "VE_ROOT"}[kind]
        self.findings.append(
            f"{_where(path, by, found)} names {first['path']}, {_called(kind, ctid)}, and would go on with it when the "
            f"containers are in {self.new[kind]}: what it does there is not in the container. Let it read the place "
            f"from the confs ('{self.sourced}', then ${variable}): {_shown(first['command'])}"
        )

    def mount_finding(self, path, by, found):
        first = found[0]
        kind, ctid = first["place"]
        self.findings.append(
            f"{_where(path, by, found)} mounts something on {first['path']}, in {_called(kind, ctid)}, which would be "
            f"missing in the container when its root is {self.new[kind]}/{ctid}. Let {ctid}.mount beside "
            f"the confs mount it below $VE_ROOT ('{self.sourced}'), and remove this: {_shown(first['command'])}"
        )

    def note(self, path, by, found, why):
        first = found[0]
        kind, ctid = first["place"]
        live = self.new[kind] if ctid is None else f"{self.new[kind]}/{ctid}"
        default = (
            f"it would go on with the old copy; after the move the live one is {live}"
            if kind == "private"
            else f"nothing is mounted there after the move, but on {live}"
        )
        self.notes.append(
            f"{_where(path, by, found)} names {first['path']}, {_called(kind, ctid)}: {why or default}: "
            f"{_shown(first['command'])}"
        )


def _data(path):
    """A file whole, or nothing where it is too large or cannot be read."""
    try:
        return __utils__["ringfree_files.read"](path, LARGEST) or b""
    except OSError:
        return b""


def _is_mounted_there(entry):
    """Whether a command mounts something on an old root, or a unit does."""
    kind, ctid = entry["place"]
    if kind != "root" or ctid is None:
        return False
    command = entry["command"]
    return command.startswith("Where=") or (bool(MOUNTS.search(command)) and entry["last"])


def _where(path, by, found):
    """File and line of the first mention, the lines of the others, and who runs the file."""
    first, *others = dict.fromkeys(entry["line"] for entry in found)
    also = f" (and line{'s' if others[1:] else ''} {', '.join(map(str, others))})" if others else ""
    return f"{path}:{first}{also}{f', which {by} runs,' if by else ''}"


def _called(kind, ctid):
    what = {"private": "private area", "root": "root"}[kind]
    return f"the old {what} of container {ctid}" if ctid is not None else f"the directory of the old {what}s"


def _shown(command):
    return f"'{command if len(command) <= SHOWN else command[:SHOWN] + ' …'}'"
