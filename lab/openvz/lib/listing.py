"""vzlist 4.11.1: its command line, which containers it lists, and how it prints them (the fields are in fields.py).

Long text is cut unless it is in the last column or -t is given. A stopped container whose private area cannot be
accessed is hidden. Which containers run is asked of the kernel's own tables (/proc/vz/veinfo,
/proc/user_beancounters) where there are such, else of the lab's pid files.
"""

import os

import conf as configuration
import container
import log
import mounts
import options
import paths
import save
import text
import values
from fields import FIELDS, MOUNTED, RUNNING, STOPPED, SUSPENDED, cut, find_field, joined, pad

DEFAULT_FIELDS = "ctid,numproc,status,ip,hostname"
DEFAULT_NAME_FIELDS = "smart_name,numproc,status,ip,hostname"
LINE_MAX = 4095
VEINFO = "/proc/vz/veinfo"
BEANCOUNTERS = "/proc/user_beancounters"
HELP = (
    ("-a, --all", "list all containers"),
    ("-S, --stopped", "list stopped containers"),
    ("-n, --name", "display containers' names"),
    ("-H, --no-header", "suppress columns header"),
    ("-t, --no-trim", "do not trim long values"),
    ("-j, --json", "output in JSON format"),
    ("-o, --output", "output only specified fields"),
    ("-1", "synonym for -H -octid"),
    ("-s, --sort", "sort by the specified field"),
    ("", "('-field' to reverse sort order)"),
    ("-h, --hostname", "filter CTs by hostname pattern"),
    ("-N, --name_filter", "filter CTs by name pattern"),
    ("-d, --description", "filter CTs by description pattern"),
    ("-L, --list", "get possible field names"),
)
USAGE = (
    "Usage:\tvzlist [-a | -S] [-n] [-H] [-o field[,field...] | -1] [-s [-]field]\n"
    "\t       [-h pattern] [-N pattern] [-d pattern] [CTID [CTID ...]]\n"
    "\tvzlist -L | --list\n\nOptions:\n"
    # In columns of eight: what is explained starts in the fifth one.
    + "".join(f"\t{option}{chr(9) * (4 - (8 + len(option)) // 8)}{meaning}\n" for option, meaning in HELP)
)
OPTIONS = [
    options.Option(name, argument)
    for name, argument in (
        ("no-header", False),
        ("no-trim", False),
        ("stopped", False),
        ("all", False),
        ("name", False),
        ("json", False),
        ("name_filter", True),
        ("hostname", True),
        ("description", True),
        ("output", True),
        ("sort", True),
        ("list", False),
        ("help", False),
    )
]
SHORT = "HtSanjN:h:d:o:s:Le1"
LONG_TO_SHORT = {
    "no-header": "-H",
    "no-trim": "-t",
    "stopped": "-S",
    "all": "-a",
    "name": "-n",
    "json": "-j",
    "name_filter": "-N",
    "hostname": "-h",
    "description": "-d",
    "output": "-o",
    "sort": "-s",
    "list": "-L",
    "help": "-e",
}


class Container:
    """One container of the list."""

    def __init__(self, ctid, status):
        self.ctid, self.status = ctid, status
        self.hidden = False
        self.ips = None  # text, as the kernel or the configuration has it
        self.resources = {}  # name of a resource: [held, maxheld, barrier, limit, failures]
        self.conf = configuration.Conf()
        self.name = self.root = self.private = self.layout = None


def merge_sort(items, compare):
    """Sort as qsort() of the GNU C library does, whose result shows where a comparison contradicts itself."""
    if len(items) < 2:
        return items
    middle = len(items) // 2
    left, right = merge_sort(items[:middle], compare), merge_sort(items[middle:], compare)
    out = []
    while left and right:
        out.append(left.pop(0) if compare(left[0], right[0]) <= 0 else right.pop(0))
    return out + left + right


# Collecting


def configured_ids():
    """Return the ids of all files in the configuration directory whose name reads as NUMBER.conf."""
    found = []
    try:
        names = os.listdir(paths.CONF_DIR)
    except OSError:
        return found
    for name in names:
        ctid, rest = text.leading_int(name)
        if ctid is None or not rest.startswith("."):
            continue
        word = rest[1:].lstrip(text.SPACE)
        end = next((at for at, char in enumerate(word) if char in text.SPACE), len(word))
        if word[: min(end, 5)] != "conf":
            continue
        if 0 <= ctid <= paths.CTID_MAX:
            found.append(ctid)
        else:
            text.write(2, f"Warning: invalid CTID in config file name: {name}, skipping\n")
    return found


def _kernel_table():
    """Return {ctid: addresses} by the kernel's own table, None where the kernel has none."""
    try:
        with open(VEINFO, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file]
    except OSError:
        return None
    found = {}
    for row in rows:
        if len(row) >= 3 and row[0].isdigit() and int(row[0]):
            found[int(row[0])] = "".join(address + " " for address in reversed(row[3:])) if row[3:] else None
    return found


def running_containers():
    """Return {ctid: addresses as text, None if there are none} of the running containers."""
    found = _kernel_table()
    if found is not None:
        return found
    return {ctid: paths.read_state(paths.IP_DIR, ctid) or None for ctid in container.running()}


def _kernel_resources():
    """Return {ctid: {resource: row}} by the kernel's own table."""
    found, ctid = {}, 0
    try:
        with open(BEANCOUNTERS, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        head, colon, rest = line.partition(":")
        if colon and text.leading_int(head)[0] is not None:
            ctid = text.leading_int(head)[0]
        elif colon:
            continue
        row = (rest if colon else line).split()
        if ctid and len(row) == 6 and all(word.isdigit() for word in row[1:]):
            found.setdefault(ctid, {})[row[0]] = [int(word) for word in row[1:]]
    return found


def _process_counts():
    """Return {pid namespace: number of processes in it}."""
    counts = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            namespace = os.readlink(f"/proc/{name}/ns/pid")
        except OSError:
            continue
        counts[namespace] = counts.get(namespace, 0) + 1
    return counts


def _add_process_counts(found):
    """Say how many processes the running containers have, which in the lab is all that is known of their resources."""
    counts = _process_counts()
    for ct in found:
        pid = container.init_pid(ct.ctid) if ct.status == RUNNING else None
        try:
            count = counts.get(os.readlink(f"/proc/{pid}/ns/pid"), 0)
        except OSError:
            continue
        ct.resources.setdefault("numproc", [0] * 5)[:2] = count, count


class Request:
    """What the command line asks for."""

    def __init__(self):
        self.all = self.stopped = self.json = self.reverse = False
        self.header = self.trim = True
        self.fields = None
        self.sort = FIELDS[0]
        self.patterns = {}
        self.ids = None
        self.field_names = None

    def needs(self, what):
        """Tell whether some field that is asked for needs this kind of fact."""
        return self.fields is None or any(field.needs == what for field in self.fields)


def collect(request):
    """Return the containers that match, in the order of their ids, before any is hidden or sorted."""
    found = []
    if request.all or request.stopped or request.ids is not None:
        found = [Container(ctid, STOPPED) for ctid in sorted(configured_ids())]
    for ctid, ips in running_containers().items():
        known = next((ct for ct in found if ct.ctid == ctid), None)
        if known is None:
            known = Container(ctid, RUNNING)
            found.append(known)
        known.status, known.ips = RUNNING, ips
    if request.ids is not None:
        found = [ct for ct in found if ct.ctid in request.ids]
    return sorted(found, key=lambda ct: ct.ctid)


def complete(found, request):
    """Add what the files say to the containers, and hide those that are not shown."""
    common = configuration.parse(paths.GLOBAL_CONF, 0) or configuration.Conf()
    held = _kernel_resources() if request.needs("resources") else {}
    for ct in found:
        ct.conf = configuration.parse(paths.conf(ct.ctid), ct.ctid) or configuration.Conf()
        _merge(ct, common, held.get(ct.ctid))
    if request.needs("resources") and not held:
        _add_process_counts(found)
    for ct in found:
        _set_status(ct, common, request.needs("status"))
    if request.needs("quota") and any(ct.layout == "ploop" and not ct.hidden for ct in found):
        mounts.say_no_ploop()
    for what, pattern in request.patterns.items():
        _filter(found, what, pattern)


def _merge(ct, common, held):
    conf = ct.conf
    ct.ips = ct.ips or joined("IP_ADDRESS")(ct)
    ct.root, ct.private = conf.root, conf.private
    if ct.root is None and common.root is not None:
        ct.root = configuration.expand_veid(common["VE_ROOT"], ct.ctid)
    if ct.private is None and common.private is not None:
        ct.private = configuration.expand_veid(common["VE_PRIVATE"], ct.ctid)
    if "NAME" in conf and save.id_of_name(conf["NAME"]) == ct.ctid:
        ct.name = conf["NAME"]
    if held is not None and ct.status == RUNNING:
        ct.resources = held
        return
    ct.resources = {key.lower(): [0, 0, *conf[key], 0] for key in values.RESOURCES if key in conf}


def _set_status(ct, common, detailed):
    ct.layout = ct.conf.get("VE_LAYOUT") or mounts.guess_layout(ct.private or "(null)")
    if ct.status == RUNNING:
        return
    if ct.private is None or not paths.exists(ct.private):
        ct.hidden = True
        return
    if not detailed:
        return
    if paths.exists(paths.dump_file(ct.ctid, common.get("DUMPDIR"))):
        ct.status = SUSPENDED
    if ct.root is not None and mounts.is_mounted(ct.root, ct.private):
        ct.status = MOUNTED


def _filter(found, what, pattern):
    import kernel

    field = find_field(what)
    for ct in found:
        value = field.get(ct)
        if value is None or not kernel.fnmatch(pattern, value):
            ct.hidden = True


# Printing


def text_row(ct, request):
    """Return one line of the list."""
    columns = [field.text(ct, not request.trim or field is request.fields[-1]) for field in request.fields]
    return cut(" ".join(columns), LINE_MAX).rstrip(text.SPACE) + "\n"


def header_row(request):
    """Return the line with the headers."""
    return " ".join(pad(field.header, field.width) for field in request.fields).rstrip(text.SPACE) + "\n"


def json_rows(found, request):
    """Return the whole list as JSON, or what the real one thinks it is."""
    fields = request.fields or [field for field in FIELDS if not field.index]
    entries = []
    for ct in found:
        members = ",\n".join(f'    "{field.name}": {field.json(ct)}' for field in fields)
        entries.append("\n  {\n" + members + "\n  }")
    return "[" + ",".join(entries) + "\n]\n"


def show(found, request):
    """Sort the containers and print those that are not hidden."""
    if request.sort is not FIELDS[0]:
        found = merge_sort(found, request.sort.compare)
    if request.reverse:
        found = found[::-1]
    found = [ct for ct in found if not ct.hidden and not (request.stopped and ct.status == RUNNING)]
    if request.json:
        text.write(1, json_rows(found, request))
        return
    rows = [header_row(request)] if request.header else []
    text.write(1, "".join(rows + [text_row(ct, request) for ct in found]))


# The command line


def parse(arguments):
    """Read the command line; returns a Request, or an exit code."""
    request, reader = Request(), options.Reader("vzlist", arguments, OPTIONS, SHORT)
    for name, value in reader:
        name = LONG_TO_SHORT.get(name, name)
        if name == "-L":
            text.write(
                1, "".join(pad(field.name, -15) + " " + pad(field.header, -15) + "\n" for field in FIELDS)
            )
            return 0
        if name in (None, "-e"):
            text.write(1, USAGE)
            return 1
        if name == "-s" and not _sort_by(request, value):
            text.write(2, f"Invalid sort field name: {value}\n")
            return 1
        _option(request, name, value)
    return _ids(request, reader.words) or _fields(request) or request


def _sort_by(request, name):
    if name.startswith("-"):
        request.reverse = True
        name = name[1:]
    request.sort = find_field(name)
    return request.sort is not None


def _option(request, name, value):
    if name in ("-h", "-N", "-d"):
        request.patterns[{"-h": "hostname", "-N": "name", "-d": "description"}[name]] = value
    elif name == "-o":
        request.field_names = value
    elif name == "-1":
        request.field_names, request.header = "veid", False
    elif name == "-n":
        request.field_names = DEFAULT_NAME_FIELDS
    elif name in ("-H", "-t"):
        setattr(request, {"-H": "header", "-t": "trim"}[name], False)
    elif name in ("-a", "-S", "-j"):
        setattr(request, {"-a": "all", "-S": "stopped", "-j": "json"}[name], True)


def _ids(request, words):
    for word in words:
        ctid, rest = text.strtol(word)
        if rest or not ctid:
            ctid = save.id_of_name(word)
        if not 0 <= ctid <= paths.CTID_MAX:
            text.write(2, f"CT ID {word} is invalid.\n")
            return 1
        request.ids = {*(request.ids or ()), ctid}
    return None


def _fields(request):
    names = request.field_names
    if names is None:
        if request.json:
            return None
        names = DEFAULT_FIELDS
    request.fields = []
    names = names.removesuffix(",") if names else names
    for at, name in enumerate(names.split(",")):
        if len(os.fsencode(name)) > 30:
            text.write(2, "Invalid field: " + ",".join(names.split(",")[at:]) + "\n")
            return 1
        field = find_field(name)
        if field is None:
            text.write(2, f"Unknown field: {name}\n")
            return 1
        if request.json and field.index:
            text.write(2, f"Field `{name}' is not available in JSON output\n")
            return 1
        request.fields.append(field)
    return None


def main(argv):
    """Run vzlist; returns its exit code."""
    request = parse(argv[1:])
    if not isinstance(request, Request):
        return request
    if os.getuid():
        text.write(2, "This program can only be run under root.\n")
        return 1
    found = collect(request)
    if not found:
        text.write(*((1, "[]\n") if request.json else (2, "Container(s) not found\n")))
        return 0 if request.ids is None else 1
    log.setup()
    complete(found, request)
    show(found, request)
    return 0
