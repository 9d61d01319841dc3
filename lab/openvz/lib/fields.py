"""The fields of vzlist: what they are called, how wide they are, how they are printed and sorted.

A text column gets the container and whether it is the last one of the line, a JSON value only the container. Widths
count bytes; JSON text is not escaped.
"""

import os

import text
import values

STATUSES = ("running", "stopped", "mounted", "suspended")
RUNNING, STOPPED, MOUNTED, SUSPENDED = STATUSES


def pad(value, width):
    """Pad to a width in bytes: to the left if it is positive, to the right if it is negative."""
    missing = abs(width) - len(os.fsencode(value))
    return value + " " * missing if width < 0 else " " * missing + value


def cut(value, width):
    """Cut to a number of bytes."""
    return os.fsdecode(os.fsencode(value)[:width])


def json_text(value):
    """Quote a text without escaping anything."""
    return "null" if value is None else f'"{value}"'


def json_number(value):
    """A number or null."""
    return "null" if value is None else str(value)


def json_object(pairs):
    """An object, one member a line."""
    if not pairs:
        return "null"
    return "{\n" + ",\n".join(f'      "{name}": {value}' for name, value in pairs) + "\n    }"


class Field:
    """A field of the list. index tells apart the columns of one resource; only index 0 exists in JSON."""

    index = 0
    needs = None

    def __init__(self, name, header, width):
        self.name, self.header, self.width = name, header, width

    def sort_key(self, ct):
        """Return what the field is sorted by, None if the container has nothing there."""

    def compare(self, one, two):
        """Order two containers as the real one does: a number below, equal to or above 0."""
        return 0


class Number(Field):
    """A number, or nothing."""

    def __init__(self, name, header, width, get, lowest=0):
        super().__init__(name, header, width)
        self.get, self.lowest = get, lowest

    def text(self, ct, last):
        """Return the column."""
        value = self.get(ct)
        return pad("-" if value is None or value < self.lowest else str(value), self.width)

    def json(self, ct):
        """Return the JSON value."""
        return json_number(self.get(ct))

    def compare(self, one, two):
        """Containers without the number come first."""
        return compare_greater(self.get(one), self.get(two))


class Id(Number):
    """The container's id."""

    def __init__(self, name):
        super().__init__(name, "CTID", 10, lambda ct: ct.ctid)


class Limit(Number):
    """A number that is 0 in JSON if not set."""

    def json(self, ct):
        """Return the JSON value."""
        return str(max(self.get(ct), 0))

    def compare(self, one, two):
        """Plain numbers."""
        return int(self.get(one) > self.get(two))


class BootOrder(Number):
    """BOOTORDER: among equals the real one's comparison is upside down."""

    def compare(self, one, two):
        """Unset ones first."""
        first, second = self.get(one), self.get(two)
        if first == second:
            return int(one.ctid <= two.ctid)
        return compare_greater(first, second)


class Text(Field):
    """A text, or nothing."""

    def __init__(self, name, header, width, get, cut_at=None):
        super().__init__(name, header, width)
        self.get, self.cut_at = get, cut_at or abs(width)

    def text(self, ct, last):
        """Return the column."""
        value = self.get(ct)
        value = pad("-" if value is None else value, self.width if self.name != "origin_sample" else -32)
        return value if last else cut(value, self.cut_at)

    def json(self, ct):
        """Return the JSON value."""
        return json_text(self.get(ct))

    def compare(self, one, two):
        """By bytes; containers without the text come first."""
        first, second = self.get(one), self.get(two)
        if first is None or second is None:
            return (first is not None) - (second is not None)
        first, second = os.fsencode(first), os.fsencode(second)
        return (first > second) - (first < second)


class SmartName(Text):
    """The name, for want of one the id."""

    def text(self, ct, last):
        """Return the column."""
        return super().text(ct, last) if ct.name is not None else pad(str(ct.ctid), 10)

    def json(self, ct):
        """Return the JSON value."""
        return json_text(ct.name) if ct.name is not None else str(ct.ctid)


class Words(Text):
    """A list of words; only the first one is shown where it is not the last column."""

    def text(self, ct, last):
        """Return the column."""
        value = self.get(ct)
        value = "-" if value is None else value
        return pad(value, -15) if last else cut(pad(value.split(" ")[0], -15), 15)

    def json(self, ct):
        """Return the JSON value."""
        return "[" + ", ".join(f'"{word}"' for word in values.words(self.get(ct) or "", " \t")) + "]"


class Status(Text):
    """running, stopped, mounted or suspended."""

    needs = "status"

    def text(self, ct, last):
        """Return the column."""
        return pad(ct.status, -9)

    def compare(self, one, two):
        """In the order of STATUSES, then by id."""
        order = STATUSES.index(one.status) - STATUSES.index(two.status)
        return order or int(one.ctid > two.ctid)


class Fixed(Text):
    """A text that is never cut; none is what the C library prints for it."""

    def text(self, ct, last):
        """Return the column."""
        value = self.get(ct)
        return pad("(null)" if value is None else value, self.width)

    def compare(self, one, two):
        """As numbers of a table would be compared."""
        return int((self.get(one) or "") < (self.get(two) or ""))


class Unsorted(Fixed):
    """A text by which the list cannot be sorted."""

    def compare(self, one, two):
        """All are equal."""
        return 0


class YesNo(Field):
    """yes or no, or nothing."""

    def __init__(self, name, header, width, get):
        super().__init__(name, header, width)
        self.get = get

    def text(self, ct, last):
        """Return the column."""
        return pad({True: "yes", False: "no", None: "-"}[self.get(ct)], self.width)

    def json(self, ct):
        """Return the JSON value."""
        return {True: "true", False: "false", None: "null"}[self.get(ct)]


class Switches(Unsorted):
    """FEATURES or CAPABILITY: names that are on or off."""

    def __init__(self, name, header, key, order, cut_at=None):
        super().__init__(name, header, -15, lambda ct: ct.conf.get(key))
        self.order, self.column = order, cut_at

    def _pairs(self, ct):
        switches = self.get(ct) or {}
        return [(name.lower(), switches[name]) for name in self.order if name in switches]

    def text(self, ct, last):
        """Return the column."""
        value = pad(",".join(f"{name}:{setting}" for name, setting in self._pairs(ct)) or "-", -15)
        return value if last or self.column is None else cut(value, self.column)

    def json(self, ct):
        """Return the JSON value."""
        return json_object(
            [(name, "true" if setting == "on" else "false") for name, setting in self._pairs(ct)]
        )


class Resource(Field):
    """One column of a beancounter: held, maxheld, barrier, limit, failures."""

    suffixes = ("", "m", "b", "l", "f")

    def __init__(self, name, header, index):
        suffix = self.suffixes[index]
        super().__init__(
            f"{name}.{suffix}" if suffix else name, f"{header}.{suffix.upper()}" if suffix else header, 10
        )
        self.resource, self.index = name, index
        self.needs = "resources"

    def text(self, ct, last):
        """Return the column."""
        if ct.status != RUNNING and self.index in (0, 1, 4):
            return pad("-", 10)
        return pad(str(self._row(ct)[self.index]), 10)

    def _row(self, ct):
        return ct.resources.get(self.resource, (0, 0, 0, 0, 0))

    def json(self, ct):
        """Return the JSON value."""
        held, maxheld, barrier, limit, failures = self._row(ct)
        if ct.status != RUNNING:
            held = maxheld = failures = 0
        names = ("held", "maxheld", "barrier", "limit", "failcnt")
        return json_object(list(zip(names, (held, maxheld, barrier, limit, failures), strict=True)))

    def compare(self, one, two):
        """By the column; .l and .b are sorted by each other, as in the real one."""
        column = {2: 3, 3: 2}.get(self.index, self.index)
        return int(self._row(one)[column] > self._row(two)[column])


class Quota(Field):
    """One column of a disk limit: usage (unknown here), soft, hard."""

    needs = "quota"

    def __init__(self, name, header, key, index):
        suffix = ("", "s", "h")[index]
        super().__init__(
            f"{name}.{suffix}" if suffix else name, f"{header}.{suffix.upper()}" if suffix else header, 10
        )
        self.key, self.index = key, index

    def _row(self, ct):
        if "DISKSPACE" not in ct.conf and "DISKINODES" not in ct.conf:
            return None
        return (0, *ct.conf.get(self.key, (0, 0)))

    def text(self, ct, last):
        """Return the column."""
        row = self._row(ct)
        return pad("-" if row is None or (self.index == 0 and not row[0]) else str(row[self.index]), 10)

    def json(self, ct):
        """Return the JSON value."""
        row = self._row(ct)
        return (
            "null"
            if row is None
            else json_object(list(zip(("usage", "softlimit", "hardlimit"), row, strict=True)))
        )

    def compare(self, one, two):
        """Containers without limits come first."""
        first, second = self._row(one), self._row(two)
        return compare_greater(first and first[self.index], second and second[self.index])


class LoadAverage(Unsorted):
    """The load of a container, which only the OpenVZ kernel knows."""

    def text(self, ct, last):
        """Return the column."""
        return pad("-", self.width)

    def json(self, ct):
        """Return the JSON value."""
        return "null"


class Uptime(LoadAverage):
    """The time since a container's start, which the real one asks the OpenVZ kernel for."""

    def json(self, ct):
        """Return the JSON value."""
        return "0.000"


class Overcommit(Number):
    """VM_OVERCOMMIT."""

    def text(self, ct, last):
        """Return the column."""
        value = self.get(ct)
        return pad("-" if not value else f"{value:g}", self.width)

    def json(self, ct):
        """Return the JSON value."""
        return f"{self.get(ct):g}"

    def compare(self, one, two):
        """All are equal."""
        return 0


def compare_greater(one, two):
    """Compare as the real one does: 1 or 0, and what is missing comes first."""
    if one is None or two is None:
        return (one is not None) - (two is not None)
    return int(one > two)


def _of_conf(key, default=None):
    return lambda ct: ct.conf.get(key, default)


def joined(key):
    """Return a function that joins the words of a key of a container's configuration."""
    return lambda ct: " ".join(ct.conf[key]) if ct.conf.get(key) else None


def _cpu(key):
    def get(ct):
        known = "CPUUNITS" in ct.conf or "CPULIMIT" in ct.conf
        return ct.conf.get(key, 0 if known else None)

    return get


RESOURCES = {
    "kmemsize": "KMEMSIZE",
    "lockedpages": "LOCKEDP",
    "privvmpages": "PRIVVMP",
    "shmpages": "SHMP",
    "numproc": "NPROC",
    "physpages": "PHYSP",
    "vmguarpages": "VMGUARP",
    "oomguarpages": "OOMGUARP",
    "numtcpsock": "NTCPSOCK",
    "numflock": "NFLOCK",
    "numpty": "NPTY",
    "numsiginfo": "NSIGINFO",
    "tcpsndbuf": "TCPSNDB",
    "tcprcvbuf": "TCPRCVB",
    "othersockbuf": "OTHSOCKB",
    "dgramrcvbuf": "DGRAMRB",
    "numothersock": "NOTHSOCK",
    "dcachesize": "DCACHESZ",
    "numfile": "NFILE",
    "numiptent": "NIPTENT",
    "swappages": "SWAPP",
}


def _vswap(ct):
    return ct.resources.get("physpages", (0, 0, 0, 0))[3] not in (text.LONG_MAX, text.INT_MAX)


def _onboot(ct):
    return None if "ONBOOT" not in ct.conf else ct.conf["ONBOOT"] == "yes"


FIELDS = [
    Id("ctid"),
    Id("veid"),
    Id("vpsid"),
    Text("private", "PRIVATE", -32, lambda ct: ct.private),
    Text("root", "ROOT", -32, lambda ct: ct.root),
    Text("mount_opts", "MOUNT_OPTS", -16, _of_conf("MOUNT_OPTS")),
    Text("origin_sample", "ORIGIN_SAMPLE", 32, _of_conf("ORIGIN_SAMPLE")),
    Text("hostname", "HOSTNAME", -32, _of_conf("HOSTNAME")),
    Text("name", "NAME", -32, lambda ct: ct.name),
    SmartName("smart_name", "SMARTNAME", 10, lambda ct: ct.name),
    Text("description", "DESCRIPTION", -32, _of_conf("DESCRIPTION")),
    Text("ostemplate", "OSTEMPLATE", -32, _of_conf("OSTEMPLATE")),
    Words("ip", "IP_ADDR", -15, lambda ct: ct.ips),
    Words("nameserver", "NAMESERVER", -15, joined("NAMESERVER")),
    Words("searchdomain", "SEARCHDOMAIN", -15, joined("SEARCHDOMAIN")),
    Status("status", "STATUS", -9, lambda ct: ct.status),
    *(Resource(name, header, index) for name, header in RESOURCES.items() for index in range(5)),
    *(Quota("diskspace", "DSPACE", "DISKSPACE", index) for index in range(3)),
    *(Quota("diskinodes", "DINODES", "DISKINODES", index) for index in range(3)),
    LoadAverage("laverage", "LAVERAGE", 14, lambda ct: None),
    Uptime("uptime", "UPTIME", 15, lambda ct: None),
    Number("cpulimit", "CPULIM", 7, _cpu("CPULIMIT")),
    Number("cpuunits", "CPUUNI", 7, _cpu("CPUUNITS")),
    Limit("cpus", "CPUS", 5, _of_conf("CPUS", -1), lowest=1),
    Limit("ioprio", "IOP", 3, _of_conf("IOPRIO", -1)),
    Limit("iolimit", "IOLIMIT", 10, _of_conf("IOLIMIT", -1), lowest=1),
    Limit("iopslimit", "IOPS", 4, _of_conf("IOPSLIMIT", -1), lowest=1),
    YesNo("onboot", "ONBOOT", 6, _onboot),
    BootOrder("bootorder", "BOOTORDER", 10, _of_conf("BOOTORDER")),
    Fixed("layout", "LAYOUT", -6, lambda ct: ct.layout),
    Switches("features", "FEATURES", "FEATURES", values.FEATURES, 15),
    YesNo("vswap", "VSWAP", 5, _vswap),
    YesNo("disabled", "DISABL", 6, lambda ct: ct.conf.get("DISABLED") == "yes"),
    Overcommit("vm_overcommit", "VM_OVC", 6, _of_conf("VM_OVERCOMMIT", 0)),
    Unsorted("netfilter", "NETFILTER", -9, _of_conf("NETFILTER")),
    Switches("capability", "CAPABILITY", "CAPABILITY", values.CAPABILITIES),
]


def find_field(name):
    """Return the field of this name, None if there is none."""
    return next((field for field in FIELDS if field.name == name), None)
