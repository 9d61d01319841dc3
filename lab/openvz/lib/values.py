"""What vzctl accepts as the value of each key, and how it is written back by `set --save`.

KEYS is in the order in which vzctl appends new keys to a file. A reader takes (conf, key, value), stores what it
understood in conf and returns None, or one of the statuses below. A writer returns the text between the quotes, or
None for nothing to write.
"""

import os

import log
import text

DUPLICATE, INVALID, SKIPPED, TRUNCATED, UNKNOWN = "duplicate", "invalid", "skipped", "truncated", "unknown"
PAGE = 4096
FEATURES = ("sysfs", "nfs", "sit", "ipip", "ppp", "ipgre", "bridge", "nfsd")
NETFILTER = ("disabled", "stateless", "stateful", "full")
CAPABILITIES = tuple(
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE VE_ADMIN SETFCAP "
    "FS_MASK".split()
)
IPTABLES = tuple(
    "ip_tables iptable_filter iptable_mangle ipt_limit ipt_multiport ipt_tos ipt_TOS ipt_REJECT ipt_TCPMSS ipt_tcpmss "
    "ipt_ttl ipt_LOG ipt_length ip_conntrack ip_conntrack_ftp ip_conntrack_irc ipt_conntrack ipt_state ipt_helper "
    "iptable_nat ip_nat_ftp ip_nat_irc ipt_REDIRECT xt_mac ipt_recent ipt_owner".split()
)
# What a module brings along: those that are not named here, ip_tables.
IPTABLES_BRING = {
    "ip_tables": (),
    **dict.fromkeys(
        "ip_conntrack_ftp ip_conntrack_irc ipt_conntrack ipt_state ipt_helper iptable_nat".split(),
        ("ip_conntrack",),
    ),
    "ip_nat_ftp": ("iptable_nat", "ip_conntrack_ftp"),
    "ip_nat_irc": ("iptable_nat", "ip_conntrack_irc"),
    "ipt_REDIRECT": ("iptable_nat",),
}
MASK_BITS = 4096
MULTIPLIER = {"t": 1 << 40, "g": 1 << 30, "m": 1 << 20, "k": 1 << 10, "p": PAGE, "b": 1}


def words(value, separators="\t "):
    """Split as strtok() does: no empty words."""
    for separator in separators[1:]:
        value = value.replace(separator, separators[0])
    return [word for word in value.split(separators[0]) if word]


def first_word(value, separators="\t "):
    """Return what is left of a value after strtok() wrote a NUL behind its first word."""
    start = len(value) - len(value.lstrip(separators))
    found = words(value, separators)
    return value[:start] + found[0] if found else value


def add_new(items, item):
    """Append an item that is not there yet."""
    if item not in items:
        items.append(item)


# Readers


def once(conf, key, value, understood):
    """Store a value of which the first one wins."""
    if key in conf:
        return DUPLICATE
    if understood is None:
        return INVALID
    conf[key] = understood
    return None


def read_text(conf, key, value):
    """Any text."""
    return once(conf, key, value, value)


def read_yesno(conf, key, value):
    """Exactly yes or no."""
    return once(conf, key, value, value if value in ("yes", "no") else None)


def read_ulong(conf, key, value):
    """A number of 0 or more."""
    return once(conf, key, value, text.parse_ulong(value))


def read_local_id(conf, key, value):
    """A number; a bad or second one is ignored without a word."""
    read_ulong(conf, key, value)


def read_cpuunits(conf, key, value):
    """A number of 8..500000."""
    number = text.parse_ulong(value)
    return once(conf, key, value, number if number is not None and 8 <= number <= 500000 else None)


def read_cpulimit(conf, key, value):
    """A number, or a percentage of all processors."""
    if key in conf:
        return DUPLICATE
    number, rest = text.strtol(value)
    if rest == "%" and number <= 100:
        number *= os.cpu_count() or 1
    elif rest or number >= 1 << 64:
        return INVALID
    conf[key] = number
    return None


def read_float(conf, key, value):
    """A decimal number; what follows it does not matter."""
    kept = value.strip(text.SPACE)
    while kept:
        try:
            return once(conf, key, value, float(kept))
        except ValueError:
            kept = kept[:-1]
    return once(conf, key, value, None)


def read_last_int(conf, key, value):
    """An int; the last one wins."""
    number = text.parse_int(value)
    if number is None:
        return INVALID
    conf[key] = number
    return None


def read_verbose(conf, key, value):
    """An int."""
    return once(conf, key, value, text.parse_int(value))


def read_timeout(conf, key, value):
    """An int of 0 or more."""
    number = text.parse_int(value)
    return once(conf, key, value, number if number is not None and number >= 0 else None)


def read_ioprio(conf, key, value):
    """An int of 0..7; the last one wins."""
    number = text.parse_int(value)
    if number is None or not 0 <= number <= 7:
        return INVALID
    conf[key] = number
    return None


def read_iolimit(conf, key, value, unit=1):
    """Bytes per second with an optional suffix, or unlimited; the last one wins."""
    if value == "unlimited":
        conf[key] = 0
        return None
    number, rest = text.strtol(value)
    factor = MULTIPLIER.get(rest.lower()) if rest else unit
    if factor is None or not -(1 << 64) < number < 1 << 64:
        conf[key] = -1
        return INVALID
    number = number % (1 << 64) * factor
    conf[key] = min(number, text.INT_MAX)
    return TRUNCATED if number > text.INT_MAX else None


def read_iolimit_mb(conf, key, value):
    """The option --iolimit: megabytes where no suffix is given."""
    return read_iolimit(conf, key, value, 1 << 20)


def read_iops(conf, key, value):
    """An int of 0 or more; the last one wins."""
    number = text.parse_int(value)
    if number is None or number < 0:
        return INVALID
    conf[key] = number
    return None


def read_list(conf, key, value):
    """Words; several lines add up."""
    for word in words(value):
        add_new(conf.setdefault(key, []), word)


def same_address(addresses, address):
    """Return the address of the list that has the same number as address, whatever its mask."""
    number = address.split("/")[0]
    for known in addresses:
        if known in (address, number) or known.startswith(number + "/"):
            return known
    return None


def canonical_address(word):
    """Return an IP address in its canonical form, the mask kept; None if it is none."""
    import _socket

    address, slash, mask = word.partition("/")
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    try:
        number = _socket.inet_pton(family, address)
    except (OSError, UnicodeError):
        return None
    if slash:
        bits = text.parse_int(mask)
        if bits is None or not 0 <= bits <= len(number) * 8:
            return None
        return f"{_socket.inet_ntop(family, number)}/{bits}"
    return _socket.inet_ntop(family, number)


def read_addresses(conf, key, value):
    """IP addresses; several lines add up."""
    for word in words(value):
        if word in ("0.0.0.0", "::", "::0"):
            continue
        address = canonical_address(word)
        if address is None:
            return INVALID
        if not same_address(conf.setdefault(key, []), address):
            conf[key].append(address)
    return None


def read_addresses_to_delete(conf, key, value):
    """The option --ipdel, and by an accident of the real one's table the key "" of a file."""
    kept = []
    for word in words(value):
        if word == "all":
            conf["delall"] = True
        else:
            kept.append(word)
    return read_addresses(conf, "del_ip", " ".join(kept))


def read_devices_to_delete(conf, key, value):
    """The option --netdev_del."""
    return read_netdev(conf, "del_netdev", value)


def read_netdev(conf, key, value):
    """Names of network devices, without those that every system has."""
    for word in words(value):
        if word.startswith(("venet", "tun", "tap", "lo")):
            return INVALID
        conf.setdefault(key, []).append(word)
    return None


def read_name(conf, key, value):
    """A container's name: letters, digits and a few signs."""
    good = all(char.isascii() and (char.isalnum() or char in " -+_.") for char in value)
    return once(conf, key, value, value if good else None)


def read_layout(conf, key, value):
    """simfs or ploop, with an optional mode; the last one wins."""
    if value not in ("simfs", "ploop", "ploop:raw", "ploop:plain", "ploop:expanded"):
        return INVALID
    conf[key] = value.split(":")[0]
    return None


def read_features(conf, key, value):
    """name:on or name:off, separated by blanks or commas."""
    status = None
    for word in words(value, "\t ,"):
        name = next((name for name in FEATURES if word.startswith(name + ":")), FEATURES[-1])
        setting = word[len(name) + 1 :]
        if setting in ("on", "off"):
            conf.setdefault(key, {})[name] = setting
        else:
            log.info(f"Warning: Unknown feature: {word}")
            status = SKIPPED
    return status


def read_capabilities(conf, key, value):
    """NAME:on or NAME:off, separated by blanks or commas."""
    for word in words(value, "\t ,"):
        name, colon, setting = word.rpartition(":")
        if not colon or setting not in ("on", "off"):
            log.error(f"Can't parse capability {word} (expecting capname:on|off)")
            return INVALID
        if name.upper() not in CAPABILITIES:
            log.error(f"Capability {name} is unknown")
            return INVALID
        # The real one keeps bits, and FS_MASK (32) shares that of CHOWN (0). On wins over off.
        both = ("CHOWN", "FS_MASK") if name.upper() in ("CHOWN", "FS_MASK") else (name.upper(),)
        for known in both:
            switches = conf.setdefault(key, {})
            switches[known] = "on" if switches.get(known) == "on" else setting
    return None


def read_iptables(conf, key, value):
    """Names of iptables modules, in the order of the table whatever theirs was."""
    status = None
    for word in words(value, "\t ,"):
        if word in IPTABLES:
            _bring(conf.setdefault(key, []), word)
            conf[key].sort(key=IPTABLES.index)
        else:
            log.error(f"Warning: Unknown iptable module: {word}, skipped")
            status = SKIPPED
    return status


def _bring(modules, name):
    """Add a module, and those without which it cannot be."""
    add_new(modules, name)
    for other in IPTABLES_BRING.get(name, ("ip_tables",)):
        _bring(modules, other)


def read_netfilter(conf, key, value):
    """disabled, stateless, stateful or full; the last one wins."""
    if value not in NETFILTER:
        log.error(f"Incorrect netfilter value: {value}")
        return INVALID
    conf[key] = value
    return None


def _number_with_suffix(value, divisor, unlimited):
    """Return (number, rest), None if there is no number; the number is in units of divisor if it has a suffix."""
    if unlimited and value.startswith("unlimited"):
        return text.LONG_MAX, value[9:]
    number, rest = text.strtol(value)
    if not -(1 << 64) < number < 1 << 64:
        return None
    number %= 1 << 64
    if rest.startswith("."):
        digits = rest[1:]
        while digits and digits[0] in "0123456789":
            digits = digits[1:]
        number = float(value[: len(value) - len(digits)] + "0")
        rest = digits
    if rest and rest[0] != ":":
        factor = MULTIPLIER.get(rest[0].lower())
        if not divisor or factor is None:
            return None
        return int(number * factor / divisor), rest[1:]
    return int(number), rest


def _two_numbers(value, divisor, unlimited):
    """Return (barrier, limit, status) of "a" or "a:b"."""
    pair, status = [], None
    rest = ":" + value
    while rest[:1] == ":" and len(pair) < 2:
        found = _number_with_suffix(rest[1:], divisor, unlimited)
        if found is None:
            return 0, 0, INVALID
        number, rest = found
        if number > text.LONG_MAX:
            number, status = text.LONG_MAX, TRUNCATED
        pair.append(number)
    if rest:
        return 0, 0, INVALID
    return pair[0], pair[-1], status


def _resource(divisor):
    def read_resource(conf, key, value):
        barrier, limit, status = _two_numbers(value, divisor, True)
        if status != INVALID:
            conf[key] = (barrier, limit)  # the last one wins
        return status

    return read_resource


def read_ram(conf, key, value):
    """The options --ram and --swap: bytes, kept as pages of PHYSPAGES and SWAPPAGES."""
    found = _number_with_suffix(value, 1, True)
    if found is None or found[1]:
        return INVALID
    pages = (found[0] + PAGE - 1) // PAGE
    conf[key] = (0, min(pages, text.LONG_MAX))
    return TRUNCATED if pages > text.LONG_MAX else None


def _quota(divisor):
    def read_quota(conf, key, value):
        if key in conf:
            return DUPLICATE
        soft, hard, status = _two_numbers(value, divisor, False)
        if status == INVALID:
            return INVALID
        conf[key] = (soft, hard)
        return INVALID if status else None

    return read_quota


def read_meminfo(conf, key, value):
    """none, pages:N or privvmpages:N."""
    mode, colon, number = value.partition(":")
    if not value:
        return None
    if mode not in ("none", "pages", "privvmpages") or (mode == "none") == bool(colon):
        return INVALID
    if mode != "none" and text.strtol(number)[0] <= 0:
        return INVALID
    conf[key] = value
    return None


def _permissions(letters):
    """Return the letters of a device's permissions in their order, None if there are others."""
    if letters == "none":
        return ""
    if any(letter not in "rwq" for letter in letters):
        return None
    return "".join(letter for letter in "rwq" if letter in letters)


def read_devices(conf, key, value):
    """b|c:major:minor|all:permissions."""
    for word in words(value, " "):
        kind, _, rest = word.partition(":")
        major, _, rest = rest.partition(":")
        minor, _, letters = rest.partition(":")
        allowed = _permissions(letters)
        if kind not in ("b", "c") or not major.isdigit() or int(major) == 7 or not letters or allowed is None:
            return INVALID
        if minor != "all" and text.parse_int(minor) is None:
            return INVALID
        conf.setdefault(key, {})[f"{kind}:{major}:{minor}"] = allowed
    return None


def read_devnodes(conf, key, value):
    """name:permissions of devices below the node's /dev."""
    import stat

    for word in words(value, " "):
        name, colon, letters = word.rpartition(":")
        if not colon:
            return INVALID
        try:
            mode = os.stat("/dev/" + name).st_mode
        except OSError as err:
            log.error(f"Incorrect device name /dev/{name}", err)
            return INVALID
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            log.error(f"The /dev/{name} is not block or character device")
            return INVALID
        allowed = _permissions(letters)
        if allowed is None:
            return INVALID
        conf.setdefault(key, {})[name] = allowed
    return None


def read_netif(conf, key, value):
    """Virtual interfaces: each needs an ifname, nothing else is looked at."""
    if key in conf:
        return DUPLICATE
    for word in words(value, ";"):
        if not any(part.startswith("ifname=") and part != "ifname=" for part in word.split(",")):
            return INVALID
    if value:
        conf[key] = value
    return None


def read_veth(conf, key, value):
    """A key of old times."""
    log.info("Warning: VETH parameter is deprecated, remove it and use --netif_add instead")


def read_mask(conf, key, value):
    """A list of numbers and ranges of processors or memory nodes; `auto` is for processors only."""
    if key == "CPUMASK" and value == "auto":
        conf["cpumask_auto"] = True
        return None
    return once(conf, key, value, _mask(value))


def _mask(value):
    """The numbers of a mask in their shortest form, None if it cannot be read; a comma may end it."""
    found = set(range(MASK_BITS)) if value == "all" else set()
    for part in [] if value == "all" else value.removesuffix(",").split(","):
        first, dash, last = part.partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            return None
        first, last = int(first), int(last if dash else first)
        if first > last or last >= MASK_BITS:
            return None
        found.update(range(first, last + 1))
    if len(found) == MASK_BITS:
        return "all"
    starts = [number for number in sorted(found) if number - 1 not in found]
    ends = [number for number in sorted(found) if number + 1 not in found]
    ranges = zip(starts, ends, strict=True)
    return ",".join(str(start) if start == end else f"{start}-{end}" for start, end in ranges)


def _is_number(word):
    return word.isascii() and word.isdigit() and len(word) < 10


def _hex_head(word):
    """Return (number, rest) as sscanf("%x") reads it, (None, word) if there is no number at the start."""
    end = 0
    while end < len(word) and word[end] in "0123456789abcdefABCDEF":
        end += 1
    return (int(word[:end], 16), word[end:]) if end else (None, word)


def _pci_address(word):
    """Return [domain:]bus:slot.function in full, None if the word is no such address."""
    numbers, rest = [], word
    for separator in "::.":
        number, rest = _hex_head(rest)
        if number is None or rest[:1] not in (separator, "."):
            return None
        numbers.append(number)
        dot, rest = rest[:1] == ".", rest[1:]
        if dot:
            break
    function = text.leading_int(rest)[0]
    if not dot or function is None or len(numbers) < 2:
        return None
    return "{:04x}:{:02x}:{:02x}.".format(*([0] * (3 - len(numbers)) + numbers)) + str(function)


def read_pci(conf, key, value):
    """PCI addresses."""
    for word in words(value, " "):
        address = _pci_address(word)
        if address is None:
            return INVALID
        add_new(conf.setdefault(key, []), address)
    return None


def read_ignored(conf, key, value):
    """A key that is for others: known, but of no interest here."""


# Writers


def write_text(new, old, key):
    """The value as it is."""
    return None if key not in new else str(new[key])


def write_iptables(new, old, key):
    """The modules, a blank behind each."""
    return "".join(f"{name} " for name in new[key]) if new.get(key) else None


def write_cpumask(new, old, key):
    """The processors, or that they follow from the memory nodes."""
    return "auto" if new.get("cpumask_auto") else write_text(new, old, key)


def write_list(new, old, key):
    """Words that replace the old ones."""
    return " ".join(new[key]) if new.get(key) else None


def write_addresses(new, old, key):
    """The old addresses without the deleted ones, then the new ones."""
    add, drop = new.get(key, []), new.get("del_ip", [])
    if not (add or drop or new.get("delall")):
        return None
    kept = [] if new.get("delall") else [a for a in old.get(key, []) if not same_address(add + drop, a)]
    return " ".join(kept + add)


def write_netdev(new, old, key):
    """The old devices without the deleted ones, then the new ones."""
    add, drop = new.get(key, []), new.get("del_netdev", [])
    if not (add or drop):
        return None
    return " ".join([name for name in old.get(key, []) if name not in add + drop] + add)


def _merged_switches(order, separator):
    def write_switches(new, old, key):
        if not new.get(key):
            return None
        both = {**old.get(key, {}), **new[key]}
        return separator.join(f"{name}:{both[name]}" for name in order if name in both)

    return write_switches


def write_nodes(new, old, key):
    """Devices: those of the file are written again on every save, each with a blank behind it."""
    had, got = old.get(key, {}), new.get(key, {})
    kept = {name: letters for name, letters in had.items() if name not in got}
    lines = [f"{name}:{letters} " for name, letters in (*kept.items(), *got.items()) if letters]
    if lines:
        return "".join(lines)
    return "" if had and got else None


def write_resource(new, old, key):
    """barrier:limit, only one number if they are the same."""
    if key not in new:
        return None
    pair = ["unlimited" if number == text.LONG_MAX else str(number) for number in new[key]]
    return pair[0] if pair[0] == pair[1] else ":".join(pair)


def write_quota(new, old, key):
    """soft:hard."""
    return None if key not in new else "{}:{}".format(*new[key])


def write_float(new, old, key):
    """The shortest form of the number."""
    return None if key not in new else f"{new[key]:g}"


def write_layout(new, old, key):
    """The new layout, else the one of the file: that line is written again on every save."""
    return new.get(key) or old.get(key)


def write_nothing(new, old, key):
    """A key that vzctl never writes."""


_ITEMS, _PAGES, _BYTES = _resource(0), _resource(PAGE), _resource(1)

KEYS = {
    "LOCKDIR": (read_text, write_nothing),
    "DUMPDIR": (read_text, write_nothing),
    "LOGGING": (read_yesno, write_nothing),
    "LOG_LEVEL": (read_last_int, write_nothing),
    "LOGFILE": (read_text, write_nothing),
    "VERBOSE": (read_verbose, write_nothing),
    "IPTABLES": (read_iptables, write_iptables),
    "NETFILTER": (read_netfilter, write_text),
    "KMEMSIZE": (_BYTES, write_resource),
    "LOCKEDPAGES": (_PAGES, write_resource),
    "PRIVVMPAGES": (_PAGES, write_resource),
    "SHMPAGES": (_PAGES, write_resource),
    "NUMPROC": (_ITEMS, write_resource),
    "PHYSPAGES": (_PAGES, write_resource),
    "VMGUARPAGES": (_PAGES, write_resource),
    "OOMGUARPAGES": (_PAGES, write_resource),
    "NUMTCPSOCK": (_ITEMS, write_resource),
    "NUMFLOCK": (_ITEMS, write_resource),
    "NUMPTY": (_ITEMS, write_resource),
    "NUMSIGINFO": (_ITEMS, write_resource),
    "TCPSNDBUF": (_BYTES, write_resource),
    "TCPRCVBUF": (_BYTES, write_resource),
    "OTHERSOCKBUF": (_BYTES, write_resource),
    "DGRAMRCVBUF": (_BYTES, write_resource),
    "NUMOTHERSOCK": (_ITEMS, write_resource),
    "NUMFILE": (_ITEMS, write_resource),
    "DCACHESIZE": (_BYTES, write_resource),
    "NUMIPTENT": (_ITEMS, write_resource),
    "AVNUMPROC": (_ITEMS, write_resource),
    "SWAPPAGES": (_PAGES, write_resource),
    "CAPABILITY": (read_capabilities, _merged_switches(CAPABILITIES, " ")),
    "IP_ADDRESS": (read_addresses, write_addresses),
    "": (read_addresses_to_delete, write_nothing),
    "NETDEV": (read_netdev, write_netdev),
    "HOSTNAME": (read_text, write_text),
    "DESCRIPTION": (read_text, write_text),
    "NAMESERVER": (read_list, write_list),
    "IPV6": (read_yesno, write_nothing),
    "SEARCHDOMAIN": (read_list, write_list),
    "DEVICES": (read_devices, write_nodes),
    "DEVNODES": (read_devnodes, write_nodes),
    "PCI": (read_pci, write_list),
    "VE_ROOT": (read_text, write_text),
    "VE_PRIVATE": (read_text, write_text),
    "TEMPLATE": (read_text, write_nothing),
    "MOUNT_OPTS": (read_text, write_text),
    "VE_LAYOUT": (read_layout, write_layout),
    "OSTEMPLATE": (read_text, write_text),
    "DEF_OSTEMPLATE": (read_text, write_nothing),
    "CPUUNITS": (read_cpuunits, write_text),
    "CPUUWEIGHT": (read_ulong, write_text),
    "CPULIMIT": (read_cpulimit, write_text),
    "CPUS": (read_ulong, write_text),
    "CPUMASK": (read_mask, write_cpumask),
    "NODEMASK": (read_mask, write_text),
    "ONBOOT": (read_yesno, write_text),
    "CONFIGFILE": (read_text, write_nothing),
    "ORIGIN_SAMPLE": (read_text, write_text),
    "DISABLED": (read_yesno, write_text),
    "LOCAL_UID": (read_local_id, write_text),
    "LOCAL_GID": (read_local_id, write_text),
    "DISK_QUOTA": (read_yesno, write_text),
    "DISKSPACE": (_quota(1024), write_quota),
    "DISKINODES": (_quota(1), write_quota),
    "QUOTATIME": (read_ulong, write_text),
    "QUOTAUGIDLIMIT": (read_ulong, write_text),
    "MEMINFO": (read_meminfo, write_text),
    "VETH": (read_veth, write_nothing),
    "NETIF": (read_netif, write_nothing),
    "VEID": (read_last_int, write_nothing),
    "NAME": (read_name, write_text),
    "FEATURES": (read_features, _merged_switches(FEATURES, " ")),
    "IOPRIO": (read_ioprio, write_text),
    "IOLIMIT": (read_iolimit, write_text),
    "IOPSLIMIT": (read_iops, write_text),
    "BOOTORDER": (read_ulong, write_text),
    "STOP_TIMEOUT": (read_timeout, write_text),
    "VM_OVERCOMMIT": (read_float, write_float),
}
ALIASES = {"DCACHE": "DCACHESIZE", "IPTENTRIES": "NUMIPTENT"}
IGNORED = (
    "VIRTUOZZO VE0CPUUNITS VZFASTBOOT NEIGHBOUR_DEVS ERROR_ON_ARPFAIL VZWDOG IPTABLES_MODULES IP6TABLES "
    "CONFIG_CUSTOMIZED VE_STOP_MODE SKIP_SYSCTL_SETUP SKIP_ARPDETECT VE_PARALLEL"
).split()
RESOURCES = tuple(key for key, (_, writer) in KEYS.items() if writer is write_resource)
_FIRST = (*RESOURCES, "VM_OVERCOMMIT")
WRITE_ORDER = (*_FIRST, *(key for key in KEYS if key not in _FIRST))
# What strtok() splits the value of a key at: a warning shows no more than the first word of such a value.
SEPARATORS = {
    **dict.fromkeys(("IPTABLES", "CAPABILITY", "FEATURES"), "\t ,"),
    **dict.fromkeys(("IP_ADDRESS", "NETDEV", ""), "\t "),
    **dict.fromkeys(("DEVICES", "DEVNODES", "PCI"), " "),
}


def read(conf, key, value, reader=None):
    """Read the value of a key into conf. Returns (status, the value as a warning would show it)."""
    key = ALIASES.get(key, key)
    if reader is None:
        if key in IGNORED:
            return None, value
        if key not in KEYS:
            return UNKNOWN, value
        reader = KEYS[key][0]
    status = reader(conf, key, value)
    if key in SEPARATORS:
        return status, first_word(value, SEPARATORS[key])
    return status, value


def lines(new, old):
    """Return the (key, text) pairs that saving new writes: resources first, then in the order of KEYS."""
    found = [(key, KEYS[key][1](new, old, key)) for key in WRITE_ORDER]
    return [(key, value) for key, value in found if value is not None]


def is_vswap(conf):
    """Tell whether a configuration limits memory by RAM and swap (PHYSPAGES) and not by beancounters."""
    pages = conf.get("PHYSPAGES")
    return pages is not None and pages[1] not in (text.LONG_MAX, text.INT_MAX)
