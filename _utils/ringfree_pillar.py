"""
The pillar ``ringfree``: its keys, defaults and rules; and the words that are typed for an orchestration or a runner.

:py:func:`validate` and :py:func:`typed` are the one place that knows them; ``pillar/ringfree/init.sls`` explains the
keys to people.
"""

import copy
import ipaddress
import itertools
import posixpath
import re

PATH = re.compile(r"^/[A-Za-z0-9][A-Za-z0-9._/-]*$")
WORD = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")
WORD_OR_NONE = re.compile(WORD.pattern + "|^$")
HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")
OPTIONS = re.compile(r"^[A-Za-z0-9_.=,:-]+$")
TIME_OR_NONE = re.compile(r"^([01]\d|2[0-3]):[0-5]\d$|^$")
DEADLINE = re.compile(r"^(\d{4}-\d\d-\d\d )?([01]\d|2[0-3]):[0-5]\d$", re.ASCII)
NODE = "{node}"
LOSSES = ("acl", "xattr", "capability")
#: The name of a thing that a container has (ringfree_fingerprint).
THING = re.compile(r"(mount|tcp|udp|address|route|process) \S.*")
#: Where nothing may be mounted, neither on it nor below it.
NO_PLACE = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run")
NO_PLACE += ("/sbin", "/sys", "/usr", "/var/lib/ringfree", "/var/run")
#: What else of the system no mount may hide; a directory below one of these is as good as any.
OF_THE_SYSTEM = (*NO_PLACE, "/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var/backups", "/var/cache")
OF_THE_SYSTEM += ("/var/lib", "/var/lock", "/var/log", "/var/mail", "/var/spool", "/var/tmp")
#: What is vz's own: where containers are on local disk, locks, dumps and templates. Debian has them in /var/lib/vz.
OF_VZ = tuple(
    f"{home}/{name}"
    for home in ("/vz", "/var/lib/vz")
    for name in ("private", "root", "lock", "dump", "template")
)
#: Where Red Hat and Debian have the conf directory of vz, see vz.conf_dir.
CONF_DIRS = ("/etc/sysconfig/vz-scripts", "/etc/vz/conf")
LAST_CTID = 2**31 - 1
SOME = 10  # nodes that a message names
SHOWN = 200  # characters of a wrong value; enough to recognise it


class _Fault(ValueError):
    """A value that breaks its rule; the text completes 'ringfree:key ...'."""


def _shown(value):
    """A value as a person reads it, whatever is in it: on one line, not too long, control characters escaped."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that is too long to be shown"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _name(value):
    """A name or key as a person reads it; as it is when nothing in it could trick a terminal."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= SHOWN else _shown(value)


def _text(pattern, what):
    def check(value):
        if not isinstance(value, str) or not pattern.fullmatch(value) or ".." in value:
            raise _Fault(f"must be {what}, not {_shown(value)}")
        return value

    return check


def _path(value):
    """An absolute path, without slashes and dots that mean nothing."""
    return posixpath.normpath(_text(PATH, "an absolute path")(value))


def _mount(value):
    """Where a share is mounted: not over anything of the system or of vz, which the mount would hide."""
    path = _path(value)
    hidden = sorted(place for place in (*OF_THE_SYSTEM, *OF_VZ) if _lies_on(place, path))
    if hidden:
        raise _Fault(f"must be a directory of its own, such as /vz/nfsprivate: {path} would hide {hidden[0]}")
    return path


def _mount_of_store(value):
    """Where containers are: also not among the files of the system, of vz or of the confs."""
    path = _mount(value)
    around = [place for place in (*NO_PLACE, *OF_VZ, *CONF_DIRS) if _lies_on(path, place)]
    if around:
        raise _Fault(f"must be a directory of its own, such as /vz/nfsprivate: {path} lies in {around[0]}")
    return path


def _mount_of_confs(value):
    """The conf directory of vz, if it is said at all; in /etc only where a distribution has it."""
    if value is None:
        return None
    path = _mount(value)
    around = [place for place in (*NO_PLACE, *OF_VZ) if _lies_on(path, place)]
    if around and path not in CONF_DIRS:
        raise _Fault(
            f"must be left out, or be the conf directory of vz ({' or '.join(CONF_DIRS)}): {path} lies in {around[0]}"
        )
    return path


def _conf_dir(path):
    """The conf directory that a node was found to have: wherever that is, a mount on it must hide nothing else."""
    path = _mount(path)
    around = [place for place in OF_VZ if _lies_on(path, place)]
    if around:
        raise _Fault(f"must be a directory of its own: {path} lies in {around[0]}")
    return path


def _lies_on(path, other):
    """Whether a path is another one, or below it."""
    return path == other or path.startswith(other.rstrip("/") + "/")


def _export(value):
    """A path on the SAN; ``{node}`` in it stands for the node's id."""
    if isinstance(value, str):
        _path(value.replace(NODE, "node"))
        return posixpath.normpath(value)
    return _path(value)


def _address(value):
    """An IPv4 address or a host name. (NFS and rsync would want brackets round an IPv6 address.)"""
    name = _text(HOST, "an IPv4 address or a host name")(value)
    if re.fullmatch(r"[0-9.]+", name):
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise _Fault(f"must be an IPv4 address or a host name, not {_shown(value)}") from None
    return name


def _number(low, high, whole=True):
    def check(value):
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise _Fault(f"must be {kind} from {low} to {high}, not {_shown(value)}")
        return value

    return check


def _time_or_none(value):
    """A time of day, or nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise _Fault(
            f"must be a time in quotes, such as '22:00' (YAML reads it as the number {_shown(value)})"
        )
    return _text(TIME_OR_NONE, "a time such as '22:00', or ''")(value)


def _yes_no(value):
    if not isinstance(value, bool):
        raise _Fault(f"must be true or false, not {_shown(value)}")
    return value


def _one_of(*words):
    def check(value):
        if value not in words:
            raise _Fault(f"must be one of {', '.join(words)}, not {_shown(value)}")
        return value

    return check


def _list_of(check, at_least=0):
    def check_list(value):
        if not isinstance(value, list) or len(value) < at_least:
            raise _Fault(f"must be a list of at least {at_least} entries, not {_shown(value)}")
        checked = [check(item) for item in value]
        twice = sorted({_name(item) for item in checked if checked.count(item) > 1})
        if twice:
            raise _Fault(f"names {', '.join(twice)} twice")
        return checked

    return check_list


def _is_id(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LAST_CTID


def _container_name(value):
    """A container's NAME, HOSTNAME or id."""
    if not _is_id(value) and not (isinstance(value, str) and value.strip() and value.isprintable()):
        raise _Fault(f"must name a container (its NAME, HOSTNAME or id), not {_shown(value)}")
    return str(value).strip()


def _plain(value):
    """A text that JSON and YAML hand on as it is: printable, tabs and the ends of lines."""
    if not isinstance(value, str) or not value.translate(dict.fromkeys(map(ord, "\t\r\n"))).isprintable():
        raise _Fault(f"must be a text without control characters, not {_shown(value)}")
    return value


def _pattern(value):
    try:
        re.compile(_plain(value))
    except (re.error, OverflowError, RecursionError) as error:
        raise _Fault(f"must be a regular expression, not {_shown(value)}: {_name(str(error))}") from error
    return value


def _check(value):
    """One health check: a command inside the container, or a TCP port of it."""
    if not isinstance(value, dict):
        raise _Fault(f"must have 'exec' or 'port', and 'expect', not {_shown(value)}")
    unknown = sorted(map(_name, set(value) - {"exec", "port", "send", "expect"}))
    if unknown:
        raise _Fault(f"has unknown keys: {', '.join(unknown)}")
    if ("exec" in value) == ("port" in value):
        raise _Fault("must have either 'exec' or 'port'")
    if "expect" not in value:
        raise _Fault("must have 'expect', a regular expression that the answer must match")
    checked = {"expect": _pattern(value["expect"])}
    if "exec" in value:
        words = value["exec"]
        if not isinstance(words, list) or not words:
            raise _Fault(f"exec must be a list of words, not {_shown(words)}")
        checked["exec"] = [_nested("exec", _plain, word) for word in words]
    else:
        checked["port"] = _nested("port", _number(1, 65535), value["port"])
        checked["send"] = _nested("send", _plain, value.get("send", ""))
    return checked


_word = _text(WORD, "the name of a check")


def _checks(value):
    if not isinstance(value, dict) or not value:
        raise _Fault(f"must name at least one check, not {_shown(value)}")
    return {
        _nested(_name(name), _word, name): _nested(_name(name), _check, check)
        for name, check in value.items()
    }


def _exempt(value):
    if not isinstance(value, dict):
        raise _Fault(f"must map a container to a list of checks, not {_shown(value)}")
    checked = {}
    for name, checks in value.items():
        checked[_container_name(name)] = _nested(_name(name), _list_of(_word, 1), checks)
    return checked


def _thing(value):
    """What a container may lack, as a message names it; stars and the like are the shell's."""
    if not isinstance(value, str) or not value.isprintable() or not THING.fullmatch(value):
        raise _Fault(
            f"must be a thing such as 'mount /srv', 'tcp *:8080' or 'process foo', not {_shown(value)}"
        )
    return value


def _may_lack(value):
    if not isinstance(value, dict):
        raise _Fault(f"must map a container, or '*', to a list of what it may lack, not {_shown(value)}")
    checked = {}
    for name, things in value.items():
        checked[_container_name(name)] = _nested(_name(name), _list_of(_thing, 1), things)
    return checked


def _host_keys(value):
    if not isinstance(value, dict):
        raise _Fault(f"must map a SAN's address to its public host key, not {_shown(value)}")
    key = re.compile(r"^(ssh-[a-z0-9-]+|ecdsa-[a-z0-9-]+) [A-Za-z0-9+/=]+$")
    return {
        _address(host): _nested(_name(host), _text(key, "a public key: type and base64"), line)
        for host, line in value.items()
    }


def _scripts(value):
    if not isinstance(value, dict):
        raise _Fault(f"must map names of files to their SHA-256, not {_shown(value)}")
    name = _text(re.compile(r"^[A-Za-z0-9._-]{1,255}$"), "the name of a file on the conf share")
    digest = _text(re.compile(r"^[0-9a-f]{64}$"), "what sha256sum prints")
    return {name(file): _nested(_name(file), digest, text) for file, text in value.items()}


def _nested(name, check, value):
    """Run a check; put the name in front of its fault."""
    try:
        return check(value)
    except _Fault as fault:
        raise _Fault(f"{name}: {fault}") from fault


def _share(export, mount, check=_mount_of_store):
    """The keys of one share, with its defaults."""
    return {
        "export": (_export, export),
        "mount": (check, mount),
    }


_REQUIRED = object()

#: Every key: (rule, default), or a dictionary of more keys.
KEYS = {
    "nodes": (_list_of(_text(WORD, "a minion id"), 1), _REQUIRED),
    "batch": (_number(1, 100), 1),
    "timeout": (_number(30, 3600), 120),
    "monitoring": {
        "host": (_text(WORD_OR_NONE, "a minion id"), ""),
        "services": (_list_of(_text(WORD, "the name of a service")), []),
        "expiry": (_number(300, 172800), 21600),
    },
    "nfs": {
        "primary": (_address, _REQUIRED),
        "secondary": (_address, _REQUIRED),
        "use": (_one_of("primary", "secondary"), "primary"),
        "options": (
            _text(OPTIONS, "mount options separated by commas"),
            "vers=3,proto=tcp,hard,nolock,timeo=600,retrans=2",
        ),
        "deadline": (_number(5, 600), 60),
    },
    "shares": {
        "private": _share("/rf-images/pbx", "/vz/nfsprivate"),
        "root": _share("/rf-images/pbxroot", "/vz/nfsroot"),
        "conf": {
            **_share("/rf-images/vzconf", None, _mount_of_confs),
            "scripts": (_scripts, {}),
        },
    },
    "ssh": {
        "user": (_text(WORD, "a user name"), "root"),
        "port": (_number(1, 65535), 22),
        "key": (_path, "/etc/ringfree/ssh/id_ed25519"),
        "known_hosts": (_path, "/etc/ringfree/ssh/known_hosts"),
        "host_keys": (_host_keys, {}),
        "cipher": (_text(WORD, "a cipher of ssh"), "aes128-gcm@openssh.com"),
    },
    "sync": {
        "workers": (_number(1, 8), 4),
        "passes": (_number(1, 20), 4),
        "small": (_number(1, 3600), 20),
        "max_delete": (_number(0, 10000000), 1000),
        "timeout": (_number(10, 86400), 600),
        "deadline": (_number(60, 604800), 43200),
        "verify": (_one_of("quick", "checksum"), "quick"),
        "adopt": (_yes_no, False),
        "spare": (_number(0, 100), 5),
    },
    "packages": {
        "node": (_yes_no, True),
        "containers": (_yes_no, True),
        "workers": (_number(1, 16), 2),
        "deadline": (_number(60, 86400), 7200),
    },
    "containers": {
        "priority": (_list_of(_container_name), []),
        "exempt": (_exempt, {}),
        "may_lack": (_may_lack, {}),
        "checks": (
            _checks,
            {
                "asterisk": {"exec": ["asterisk", "-rx", "core show version"], "expect": r"^Asterisk \S+"},
                "apache": {
                    "port": 80,
                    "send": "HEAD / HTTP/1.0\r\n\r\n",
                    "expect": r"^HTTP/1\.[01] [1-5]\d\d",
                },
                "postfix": {"port": 25, "send": "", "expect": r"^220 "},
            },
        ),
    },
    "stop": {"workers": (_number(1, 32), 8), "deadline": (_number(10, 3600), 300)},
    "start": {
        "workers": (_number(1, 16), 4),
        "deadline": (_number(10, 3600), 300),
        "answer": (_number(1, 3600), 120),
        "pace": (_number(0, 600), 10),
        "load_per_cpu": (_number(0.1, 1000, whole=False), 4.0),
        "load_wait": (_number(0, 7200), 600),
    },
    "deadman": {"seconds": (_number(60, 172800), 14400)},
    "rollback": {
        "data": (_one_of("discard", "sync_back"), "discard"),
        "idle": (_number(1, 3600), 60),
    },
    "cleanup": {
        "age": (_number(0, 3650, whole=False), 14),
        "keep": (_number(0, 3650, whole=False), 7),
        "present": (_number(0, 100), 90),
        "consent": (_number(1, 60), 10),
    },
    "replication": {
        "node": (_text(WORD_OR_NONE, "a minion id"), ""),
        "every": (_number(60, 604800), 900),
        "from": (_one_of("san", "node"), "node"),
        "max_age": (_number(60, 2592000), 3600),
        "max_delete": (_number(0, 10000000), 10000),
        "timeout": (_number(10, 3600), 60),
        "deadline": (_number(60, 604800), 43200),
    },
    "highstate": {"bring_up": (_yes_no, False)},
    "confirm": (_one_of("auto", "manual"), "auto"),
    "confirm_within": (_number(10, 86400), 3600),
    "window": {
        "start": (_time_or_none, ""),
        "end": (_time_or_none, ""),
        "reserve": (_number(0, 86400), 3600),
    },
    "accept": (_list_of(_one_of(*LOSSES)), []),
}


def validate(pillar, node=None, conf_dir=None):
    """
    Check the pillar ``ringfree`` and fill in its defaults.

    Where the conf share is mounted is a node's own affair: on the master that is ``None`` when the pillar leaves it
    out.

    pillar
        The value of the pillar key ``ringfree``.

    node : None
        The minion id that ``{node}`` in an export stands for; ``None`` leaves it as it is.

    conf_dir : None
        The conf directory of this node, without links; ``None`` where there is none.

    Returns ``{"settings": dict, "faults": [text, ...]}``.  Every fault names its key from ``ringfree`` down;
    with faults the settings are incomplete and must not be used.
    """
    if not isinstance(pillar, dict):
        return {"settings": {}, "faults": ["ringfree: the pillar has no such key, or it is no mapping"]}
    faults = []
    settings = _section(pillar, KEYS, "ringfree", faults)
    if not faults:
        for share in settings["shares"].values():
            share["export"] = share["export"].replace(NODE, node or NODE)
        faults = _place_confs(settings["shares"]["conf"], conf_dir) + _contradictions(settings)
    return {"settings": settings, "faults": faults}


def nfs_deadline(pillar):
    """
    ``ringfree:nfs:deadline`` of a pillar that need not be right as a whole.

    pillar
        The value of the pillar key ``ringfree``.

    Returns seconds; the default where the pillar does not say a good value.
    """
    check, default = KEYS["nfs"]["deadline"]
    try:
        return check(pillar["nfs"]["deadline"])
    except (_Fault, TypeError, KeyError):
        return default


def _place_confs(share, conf_dir):
    """Where the pillar does not say it, the conf share goes onto the node's own conf directory; returns faults."""
    if conf_dir is None:
        return []
    try:
        own = _conf_dir(conf_dir)
        share["mount"] = share["mount"] or own
    except _Fault as fault:
        return [f"ringfree:shares:conf:mount: the conf directory of vz on this node {fault}"]
    return []


def _section(values, keys, where, faults):
    """Check one mapping against its keys; faults are appended."""
    settings = {}
    for name in values:
        if name not in keys:
            faults.append(f"{where}:{_name(name)}: unknown key")
    for name, rule in keys.items():
        place = f"{where}:{name}"
        if isinstance(rule, dict):
            inner = values.get(name, {})
            if isinstance(inner, dict):
                settings[name] = _section(inner, rule, place, faults)
            else:
                faults.append(f"{place}: must be a mapping, not {_shown(inner)}")
            continue
        check, default = rule
        if name not in values:
            if default is _REQUIRED:
                faults.append(f"{place}: is missing")
            settings[name] = copy.deepcopy(default)
            continue
        try:
            settings[name] = check(values[name])
        except _Fault as fault:
            faults.append(f"{place}: {fault}")
    return settings


def _contradictions(settings):
    """Faults that only show when several keys are looked at together."""
    faults = []
    monitoring, shares = settings["monitoring"], settings["shares"]
    if monitoring["services"] and not monitoring["host"]:
        faults.append("ringfree:monitoring:host: is missing although services are named")
    if settings["confirm"] == "manual" and settings["deadman"]["seconds"] <= settings["confirm_within"]:
        faults.append(
            "ringfree:deadman:seconds: must be more than ringfree:confirm_within, or nodes go back while they wait"
        )
    replication = settings["replication"]
    if replication["node"] and replication["node"] not in settings["nodes"]:
        faults.append(f"ringfree:replication:node: {replication['node']} is not in ringfree:nodes")
    if replication["every"] >= replication["max_age"]:
        faults.append(
            "ringfree:replication:max_age: must be more than ringfree:replication:every, or every copy is too old"
        )
    window = settings["window"]
    if bool(window["start"]) != bool(window["end"]) or (window["start"] and window["start"] == window["end"]):
        faults.append("ringfree:window: needs a start and another end, or neither")
    if settings["nfs"]["primary"] == settings["nfs"]["secondary"]:
        faults.append("ringfree:nfs:secondary: is the same server as primary")
    soft = {"soft", "softerr"}.intersection(settings["nfs"]["options"].split(","))
    if soft:
        faults.append(
            f"ringfree:nfs:options: '{soft.pop()}' corrupts containers when the SAN is slow (nfs(5)); use 'hard'"
        )
    for part in ("export", "mount"):
        places = [share[part] for share in shares.values() if share[part]]
        for first, second in itertools.permutations(places, 2):
            if _lies_on(second, first):
                faults.append(f"ringfree:shares: the {part} {second} lies on {first}")
    for name, checks in settings["containers"]["exempt"].items():
        for check in checks:
            if check not in settings["containers"]["checks"]:
                faults.append(f"ringfree:containers:exempt:{name}: there is no check '{check}'")
    return faults


# --- what is typed ----------------------------------------------------------------------------------------------------

#: What each orchestration takes in its pillar besides ``ringfree``: the word and its default.
TAKES = {
    "migrate": {"nodes": None, "deadline": None},
    "presync": {"nodes": None},
    "rollback": {"nodes": _REQUIRED, "data": None},
    "failover": {"to": _REQUIRED, "nodes": None, "accept_age": False, "max_age": None, "at_once": False},
    "cleanup": {"nodes": None, "consent": None},
    "orch.line": {"nodes": _REQUIRED},
    "orch.node": {"node": _REQUIRED},
    "orch.parts": {"node": _REQUIRED},
    "orch.back": {"node": _REQUIRED, "data": None, "committed": True},
    "orch.switch_all": {
        "nodes": _REQUIRED, "to": _REQUIRED, "accept_age": False, "max_age": None, "at_once": False,
    },
    "orch.switch": {"node": _REQUIRED, "to": _REQUIRED, "before": [], "accept_age": False, "max_age": None},
    "orch.cleanup": {"node": _REQUIRED, "consent": None},
}  # fmt: skip


def typed(sls, pillar, others=()):
    """
    Check what an orchestration was given, whole: the pillar ``ringfree``, and the words that were typed beside it.

    sls
        The name of the orchestration.

    pillar
        The pillar as it renders with: the master's own, and what was typed.

    others : ()
        Keys of the master's own pillar, which may have more in it than ours.

    Returns ``{"faults": [text, ...], "settings": dict, "words": {name: value}}``.  Every fault names its key; with
    faults there is nothing else in it that may be used.
    """
    checked = validate(pillar.get("ringfree"))
    settings = checked["settings"]
    takes = TAKES.get(sls, {})
    faults = [] if takes else [f"{_name(sls)}: there is no such orchestration"]
    for name in pillar:
        if name not in (*takes, "ringfree", *others):
            faults.append(f"{_name(name)}: unknown key; known are {', '.join((*takes, 'ringfree'))}")
    # None where the pillar is wrong in its nodes: then no name can be right or wrong.
    nodes = settings.get("nodes")
    words = {}
    for name, default in takes.items():
        if name not in pillar:
            words[name] = nodes if name == "nodes" else default
            if default is _REQUIRED:
                faults.append(f"{name}: is missing")
            continue
        try:
            words[name] = _rule(name, nodes)(pillar[name])
        except _Fault as fault:
            faults.append(f"{name}: {fault}")
    return {"faults": faults + checked["faults"], "settings": settings, "words": words}


def word(name, value, nodes=None):
    """
    Check one value that was typed.

    name
        Its name, as in ``TAKES`` and in the arguments of the runner ``ringfree``.

    value
        The value.

    nodes : None
        The nodes of the pillar; ``None`` where the value names none.

    Returns ``{"value": value, "fault": text or None}``.
    """
    try:
        return {"value": _rule(name, nodes)(value), "fault": None}
    except _Fault as fault:
        return {"value": None, "fault": f"{name}: {fault}"}


def _rule(name, nodes):
    """The rule of a word."""
    if name in ("nodes", "before"):
        return _nodes(nodes, 1 if name == "nodes" else 0)
    if name == "node":
        return _node(nodes)
    return WORDS[name]


def _node(nodes):
    def check(value):
        if not isinstance(value, str):
            raise _Fault(f"must be one of ringfree:nodes, not {_shown(value)}")
        (name,) = _nodes(nodes, 1)([value])
        return name

    return check


def _nodes(nodes, at_least):
    """Names of nodes of the pillar, in its order; of any nodes where the pillar's are not known."""

    def check(value):
        if not isinstance(value, list):
            raise _Fault(f"must be a list of nodes, not {_shown(value)}")
        if len(value) < at_least:
            raise _Fault("names no node")
        odd = [_shown(name) for name in value if not isinstance(name, str)]
        if odd:
            raise _Fault(f"must be a list of names, not of such as {odd[0]}")
        foreign = [_name(name) for name in value if nodes is not None and name not in nodes]
        if foreign:
            known = ", ".join(nodes[:SOME]) + (", ..." if len(nodes) > SOME else "")
            raise _Fault(f"not in ringfree:nodes of the pillar ({known}): {', '.join(foreign)}")
        return value if nodes is None else [name for name in nodes if name in value]

    return check


def _or_none(check):
    """A rule for what need not be said."""
    return lambda value: None if value is None else check(value)


def _deadline(value):
    """A time of day, or a moment; whether there is such a moment is found where the clock is."""
    return _text(DEADLINE, "a time such as '04:30', or a moment such as '2026-02-27 04:30', in quotes")(value)


def _ctid(value):
    """A container's id, also in quotes."""
    if _is_id(value):
        return value
    text = _text(re.compile(r"^[0-9]{1,10}$"), "a container id")(value)
    return _number(1, LAST_CTID)(int(text))


#: The rules of words that name no node, those of the orchestrations and those of the runner's arguments.
WORDS = {
    "deadline": _or_none(_deadline),
    "data": _or_none(KEYS["rollback"]["data"][0]),
    "to": KEYS["nfs"]["use"][0],
    "accept_age": _yes_no,
    "all": _yes_no,
    "max_age": _or_none(_number(1, 2592000)),
    "at_once": _yes_no,
    "consent": _or_none(_text(WORD, "the word that 'salt-run ringfree.consent' gave")),
    "committed": _yes_no,
    "ctid": _ctid,
    "dead": _or_none(_text(WORD, "a minion id")),
    "minions": _list_of(_text(WORD, "a minion id"), 1),
    "part": _one_of("presync", "packages", "prepare", "cutover", "commit"),
    "raises": _yes_no,
    "timeout": _number(1, 3600),
    "what": _one_of("migrate", "presync", "rollback", "failover", "cleanup"),
    "word": _or_none(_text(WORD_OR_NONE, "the word that 'salt-run ringfree.consent' gave")),
}


def store_paths(settings):
    """
    Where containers are once they are on NFS, as vz.conf and the container confs say it.

    settings
        The validated settings.

    Returns ``{"VE_ROOT": path with $VEID, "VE_PRIVATE": path with $VEID, "DISK_QUOTA": "no"}``.
    """
    shares = settings["shares"]
    return {
        "VE_ROOT": f"{shares['root']['mount']}/$VEID",
        "VE_PRIVATE": f"{shares['private']['mount']}/$VEID",
        "DISK_QUOTA": "no",
    }
