"""
The pillar ``ringfree``: its keys, defaults and rules.

:py:func:`validate` is the one place that knows them; ``pillar/ringfree/init.sls`` explains them to people.
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
NODE = "{node}"
LOSSES = ("acl", "xattr", "capability")


class _Fault(ValueError):
    """A value that breaks its rule; the text completes 'ringfree:key ...'."""


def _text(pattern, what):
    def check(value):
        if not isinstance(value, str) or not pattern.fullmatch(value) or ".." in value:
            raise _Fault(f"must be {what}, not {value!r}")
        return value

    return check


def _path(value):
    """An absolute path, without slashes and dots that mean nothing."""
    return posixpath.normpath(_text(PATH, "an absolute path")(value))


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
            raise _Fault(f"must be an IPv4 address or a host name, not {value!r}") from None
    return name


def _number(low, high, whole=True):
    def check(value):
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise _Fault(f"must be {kind} from {low} to {high}, not {value!r}")
        return value

    return check


def _time_or_none(value):
    """A time of day, or nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise _Fault(f"must be a time in quotes, such as '22:00' (YAML reads it as the number {value})")
    return _text(TIME_OR_NONE, "a time such as '22:00', or ''")(value)


def _yes_no(value):
    if not isinstance(value, bool):
        raise _Fault(f"must be true or false, not {value!r}")
    return value


def _one_of(*words):
    def check(value):
        if value not in words:
            raise _Fault(f"must be one of {', '.join(words)}, not {value!r}")
        return value

    return check


def _list_of(check, at_least=0):
    def check_list(value):
        if not isinstance(value, list) or len(value) < at_least:
            raise _Fault(f"must be a list of at least {at_least} entries, not {value!r}")
        checked = [check(item) for item in value]
        twice = sorted({str(item) for item in checked if checked.count(item) > 1})
        if twice:
            raise _Fault(f"names {', '.join(twice)} twice")
        return checked

    return check_list


def _container_name(value):
    """A container's NAME, HOSTNAME or id."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise _Fault(f"must name a container (its NAME, HOSTNAME or id), not {value!r}")
    return str(value).strip()


def _pattern(value):
    if not isinstance(value, str):
        raise _Fault(f"must be a regular expression, not {value!r}")
    try:
        re.compile(value)
    except re.error as error:
        raise _Fault(f"must be a regular expression, not {value!r}: {error}") from error
    return value


def _check(value):
    """One health check: a command inside the container, or a TCP port of it."""
    if not isinstance(value, dict):
        raise _Fault(f"must have 'exec' or 'port', and 'expect', not {value!r}")
    unknown = sorted(set(value) - {"exec", "port", "send", "expect"})
    if unknown:
        raise _Fault(f"has unknown keys: {', '.join(map(str, unknown))}")
    if ("exec" in value) == ("port" in value):
        raise _Fault("must have either 'exec' or 'port'")
    if "expect" not in value:
        raise _Fault("must have 'expect', a regular expression that the answer must match")
    checked = {"expect": _pattern(value["expect"])}
    if "exec" in value:
        words = value["exec"]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise _Fault(f"exec must be a list of words, not {words!r}")
        checked["exec"] = list(words)
    else:
        checked["port"] = _number(1, 65535)(value["port"])
        checked["send"] = str(value.get("send", ""))
    return checked


def _checks(value):
    if not isinstance(value, dict) or not value:
        raise _Fault(f"must name at least one check, not {value!r}")
    return {str(name): _nested(str(name), _check, check) for name, check in value.items()}


def _exempt(value):
    if not isinstance(value, dict):
        raise _Fault(f"must map a container to a list of checks, not {value!r}")
    checked = {}
    for name, checks in value.items():
        checked[_container_name(name)] = _nested(
            str(name), _list_of(_text(WORD, "the name of a check"), 1), checks
        )
    return checked


def _host_keys(value):
    if not isinstance(value, dict):
        raise _Fault(f"must map a SAN's address to its public host key, not {value!r}")
    key = re.compile(r"^(ssh-[a-z0-9-]+|ecdsa-[a-z0-9-]+) [A-Za-z0-9+/=]+$")
    return {
        _address(host): _nested(str(host), _text(key, "a public key: type and base64"), line)
        for host, line in value.items()
    }


def _nested(name, check, value):
    """Run a check; put the name in front of its fault."""
    try:
        return check(value)
    except _Fault as fault:
        raise _Fault(f"{name}: {fault}") from fault


def _share(export, mount):
    """The keys of one share, with its defaults."""
    return {
        "export": (_export, export),
        "mount": (_path, mount),
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
        "conf": _share("/rf-images/vzconf", "/etc/sysconfig/vz-scripts"),
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


def validate(pillar, node=None):
    """
    Check the pillar ``ringfree`` and fill in its defaults.

    pillar
        The value of the pillar key ``ringfree``.

    node : None
        The minion id that ``{node}`` in an export stands for; ``None`` leaves it as it is.

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
        faults = _contradictions(settings)
    return {"settings": settings, "faults": faults}


def _section(values, keys, where, faults):
    """Check one mapping against its keys; faults are appended."""
    settings = {}
    for name in values:
        if name not in keys:
            shown = name if isinstance(name, str) and name.isprintable() else repr(name)
            faults.append(f"{where}:{shown}: unknown key")
    for name, rule in keys.items():
        place = f"{where}:{name}"
        if isinstance(rule, dict):
            inner = values.get(name, {})
            if isinstance(inner, dict):
                settings[name] = _section(inner, rule, place, faults)
            else:
                faults.append(f"{place}: must be a mapping, not {inner!r}")
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
        places = [share[part] for share in shares.values()]
        for first, second in itertools.permutations(places, 2):
            if second.startswith(first + "/") or second == first:
                faults.append(f"ringfree:shares: the {part} {second} lies on {first}")
    for name, checks in settings["containers"]["exempt"].items():
        for check in checks:
            if check not in settings["containers"]["checks"]:
                faults.append(f"ringfree:containers:exempt:{name}: there is no check '{check}'")
    return faults


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
