"""`vzctl set`: its options, what a running container refuses, and what is saved."""

import codes
import conf as configuration
import container
import dist
import log
import mounts
import net
import paths
import save
import text
import values
from options import Option, Reader

FLAGS = ("save", "force", "reset_ub", "skip_arpdetect", "offline-resize", "offline")
# Option: key of the configuration file.
KEYS = {
    "iptables": "IPTABLES",
    "netfilter": "NETFILTER",
    **{key.lower(): key for key in values.RESOURCES},
    "vm_overcommit": "VM_OVERCOMMIT",
    "capability": "CAPABILITY",
    "ipadd": "IP_ADDRESS",
    "ip": "IP_ADDRESS",
    "ipdel": "",
    "netdev_add": "NETDEV",
    "netdev_del": "del_netdev",
    "hostname": "HOSTNAME",
    "nameserver": "NAMESERVER",
    "searchdomain": "SEARCHDOMAIN",
    "devices": "DEVICES",
    "devnodes": "DEVNODES",
    "pci_add": "PCI",
    "root": "VE_ROOT",
    "private": "VE_PRIVATE",
    "mount_opts": "MOUNT_OPTS",
    "ostemplate": "OSTEMPLATE",
    "cpuunits": "CPUUNITS",
    "cpuweight": "CPUUWEIGHT",
    "cpulimit": "CPULIMIT",
    "cpus": "CPUS",
    "cpumask": "CPUMASK",
    "nodemask": "NODEMASK",
    "onboot": "ONBOOT",
    "disabled": "DISABLED",
    "diskquota": "DISK_QUOTA",
    "diskspace": "DISKSPACE",
    "diskinodes": "DISKINODES",
    "quotatime": "QUOTATIME",
    "quotaugidlimit": "QUOTAUGIDLIMIT",
    "meminfo": "MEMINFO",
    "name": "NAME",
    "features": "FEATURES",
    "ioprio": "IOPRIO",
    "iolimit": "IOLIMIT",
    "iopslimit": "IOPSLIMIT",
    "description": "DESCRIPTION",
    "bootorder": "BOOTORDER",
    "ram": "PHYSPAGES",
    "swap": "SWAPPAGES",
    "stop-timeout": "STOP_TIMEOUT",
}
READERS = {
    "iolimit": values.read_iolimit_mb,
    "ram": values.read_ram,
    "swap": values.read_ram,
    "netdev_del": values.read_devices_to_delete,
}
OTHERS = ("applyconfig", "applyconfig_map", "setmode")
NOT_IMITATED = ("pci_del netif_add netif_del mac_filter mac ifname host_mac host_ifname bridge").split()
# The order of the real one's table, in which getopt lists what an abbreviation could mean.
ORDER = (
    "save force applyconfig applyconfig_map reset_ub iptables netfilter kmemsize lockedpages privvmpages shmpages "
    "numproc physpages vmguarpages oomguarpages numtcpsock numflock numpty numsiginfo tcpsndbuf tcprcvbuf othersockbuf "
    "dgramrcvbuf numothersock numfile dcachesize numiptent avnumproc swappages vm_overcommit capability ipadd ip ipdel "
    "skip_arpdetect netdev_add netdev_del hostname nameserver searchdomain userpasswd devices devnodes pci_add pci_del "
    "root private mount_opts ostemplate cpuunits cpuweight cpulimit cpus cpumask nodemask onboot setmode disabled "
    "diskquota diskspace diskinodes quotatime quotaugidlimit meminfo netif_add netif_del mac_filter mac ifname "
    "host_mac host_ifname bridge name features ioprio iolimit iopslimit description bootorder ram swap stop-timeout "
    "offline-resize offline".split()
)
SAME = {"ip": "ipadd", "offline": "offline-resize"}
OPTIONS = [Option(name, name not in FLAGS, SAME.get(name)) for name in ORDER]
SHORT = "e:p:f:t:i:l:k:a:b:n:x:h"
SHORT_KEYS = {
    "-e": "NUMIPTENT",
    "-p": "NUMPROC",
    "-f": "NUMFLOCK",
    "-t": "NUMPTY",
    "-i": "NUMSIGINFO",
    "-l": "LOCKEDPAGES",
    "-k": "KMEMSIZE",
    "-b": "TCPRCVBUF",
    "-n": "NUMFILE",
    "-x": "DCACHESIZE",
}
CONFIGURED_INSIDE = ("delall", "del_ip", "IP_ADDRESS", "NAMESERVER", "SEARCHDOMAIN")
# Keys that a running container cannot take over: what the message calls them.
FIXED_WHILE_RUNNING = {
    "CAPABILITY": "Unable to set capability on a running container",
    "NETFILTER": "Unable to set iptables/netfilter on a running container",
    "IPTABLES": "Unable to set iptables/netfilter on a running container",
    "FEATURES": "Unable to set features on a running container",
    "DISK_QUOTA": "Unable to switch DISK_QUOTA on or off on a running container",
    "MOUNT_OPTS": "Unable to change mount options on a running container",
}


class Wish(configuration.Conf):
    """The values that the command line gives, and its flags."""

    def __init__(self):
        super().__init__()
        self.flags, self.setmode, self.sample, self.map_name = set(), None, None, False
        self.users = []


def _refuse(message, code):
    import main

    log.error(message)
    raise main.Refused(code)


def parse(ctid, arguments):
    """Read the options of `set`."""
    import main

    wish, reader = Wish(), Reader("vzctl", arguments, OPTIONS, SHORT)
    for name, value in reader:
        if name is None:
            raise main.Refused(codes.BAD_VALUE)
        if name in FLAGS:
            wish.flags.add(SAME.get(name, name))
        elif name == "userpasswd":
            wish.users += [word for word in values.words(value) if word not in wish.users]
        elif name in NOT_IMITATED:
            _refuse(f"--{name}: the lab's vzctl does not imitate this option", codes.BAD_VALUE)
        elif name in OTHERS:
            _other_option(wish, name, value)
        elif name in KEYS:
            take(wish, KEYS[name], f"--{name}:", value, ctid, READERS.get(name))
        elif name in SHORT_KEYS:
            take(wish, SHORT_KEYS[name], f"{name} :", value, ctid)
    main.words_are_extra(reader.words)
    return wish


def take(wish, key, what, value, ctid, reader=None):
    """Put the value of an option into wish; what names the option where its value is refused."""
    if reader:
        status, shown = values.read(wish, key, value, reader)
    else:
        status, shown = configuration.assign(wish, key, value, ctid)
    if status in (values.INVALID, values.SKIPPED, values.TRUNCATED):
        _refuse(f"Bad parameter for {what} {shown}", codes.BAD_VALUE)


def _other_option(wish, name, value):
    if name == "applyconfig":
        wish.sample = wish.sample or value
    elif name == "setmode" and value in ("ignore", "restart"):
        wish.setmode = value
    elif name == "applyconfig_map" and value == "name":
        wish.map_name = True
    else:
        _refuse(f"Bad parameter for --{name}: {value}", codes.BAD_VALUE)


def apply(ctid, conf, own, wish, arguments):
    """Set a container's parameters and save them if asked to. Returns an exit code."""
    warn = True
    if ctid:
        code, warn = _set(ctid, conf, own, wish, arguments)
    else:
        code = codes.OK  # what limits the node itself has nowhere to go without the OpenVZ kernel
    if "save" in wish.flags:
        if code:
            log.error("Error: failed to apply some parameters, not saving configuration file!")
            return code
        path = paths.conf(ctid)
        if not paths.exists(path):
            log.error(f"WARNING: {path} not found: No such file or directory")
        return save.save(path, wish, own)
    if warn and not code:
        lost = "and will be lost after CT restart " if container.init_pid(ctid) else ""
        log.info(f"WARNING: Settings were not saved to config {lost}(use --save flag)")
    return code


def _check_resources(conf, wish):
    swap = "SWAPPAGES" in wish or "SWAPPAGES" in conf
    if (values.is_vswap(wish) or values.is_vswap(conf)) and not swap:
        log.error("Error: required UB parameter (swap) not set")
        return codes.MISSING_UBC
    return codes.OK


def _check_quota_options(conf, wish):
    if "offline-resize" not in wish.flags:
        return codes.OK
    if "DISKSPACE" not in wish:
        log.error("Error: option --offline-resize can only be used with --diskspace")
        return codes.BAD_SYNTAX
    if not mounts.is_ploop(conf):
        log.info("Warning: option --offline-resize only makes sense for a ploop CT")
    return codes.OK


def _check_masks(wish):
    auto = "cpumask_auto" in wish
    if "NODEMASK" in wish and not auto and "CPUMASK" not in wish:
        log.error("Error: option --nodemask requires --cpumask")
        return codes.BAD_SYNTAX
    if auto and "NODEMASK" not in wish:
        log.error("Error: --cpumask auto requires --nodemask")
        return codes.BAD_SYNTAX
    return codes.OK


def _check_unsaved(conf, wish):
    """Refuse what makes no sense without --save."""
    resize = "DISKSPACE" in wish and mounts.is_ploop(conf)
    for given, message, code in (
        ("NAME" in wish, "unable to use --name option without --save", codes.NAME_ERROR),
        ("OSTEMPLATE" in wish, "unable to use --ostemplate option without --save", codes.BAD_SYNTAX),
        ("STOP_TIMEOUT" in wish, "unable to use --stop-timeout option without --save", codes.BAD_SYNTAX),
        ("force" in wish.flags, "--force is useless without --save", codes.BAD_SYNTAX),
        (
            resize,
            "can't use --diskspace without --save for a ploop-based container",
            codes.BAD_SYNTAX,
        ),
        (
            wish.setmode == "restart",
            "--setmode restart doesn't make sense without --save flag",
            codes.BAD_SYNTAX,
        ),
    ):
        if given:
            log.error("Error: " + message)
            return code
    return codes.OK


def _check(conf, wish, arguments):
    if "reset_ub" in wish.flags and len(arguments) > 1:
        log.error("Error: option --reset_ub is exclusive")
        return codes.BAD_SYNTAX
    code = _check_resources(conf, wish) or _check_quota_options(conf, wish) or _check_masks(wish)
    if code or "save" in wish.flags:
        return code
    return _check_unsaved(conf, wish)


def _set(ctid, conf, own, wish, arguments):
    """Check and apply. Returns (exit code, whether to warn that nothing was saved)."""
    code = _check(conf, wish, arguments)
    if code:
        return code, True
    if wish.map_name:
        code = save.set_name(ctid, conf["NAME"], conf["NAME"]) if "NAME" in conf else codes.OK
        if code:
            return code, True
    running = container.init_pid(ctid) is not None
    if "reset_ub" in wish.flags:
        if not running:
            log.error("Container is not running")
            return codes.NOT_RUNNING, True
        return _limits(conf, running), False
    if "NAME" in wish:
        code = save.set_name(ctid, wish["NAME"], own.get("NAME"))
        if code:
            return code, False
    for key in ("VE_PRIVATE", "VE_ROOT"):
        if running and key in wish:
            log.error(f"Unable to change {key} on a running container")
            return codes.RUNNING, True
    can_do = dist.load(conf) if wish.users or _is_configured_inside(wish) else None
    warn = not (wish.users and len(arguments) == 2)  # nothing else could have been saved
    code = _set_passwords(ctid, conf, can_do, wish)
    code = code or _apply_sample(ctid, wish) or _check_ploop(conf, wish)
    if code or ("save" in wish.flags and not running):
        return code, warn
    if running:
        code, done = _check_fixed(ctid, conf, own, wish)
        if code or done:
            return code, warn
    return _apply_now(ctid, conf, wish, can_do, running), warn


def _set_passwords(ctid, conf, can_do, wish):
    if not wish.users:
        return codes.OK
    import actions

    return actions.set_passwords(ctid, conf, can_do, wish.users)


def _check_ploop(conf, wish):
    """A ploop image cannot be resized without ploop, and has no limit of inodes."""
    if "DISKSPACE" in wish and mounts.is_ploop(conf):
        return mounts.refuse_ploop(conf)
    if "DISKINODES" in wish and mounts.is_ploop(conf):
        log.info("Warning: --diskinodes is ignored for ploop-based container")
    return codes.OK


def _is_configured_inside(wish):
    """Tell whether something is set that scripts inside the container would have to set up."""
    return any(wish.get(key) for key in CONFIGURED_INSIDE) or "QUOTAUGIDLIMIT" in wish or "HOSTNAME" in wish


def _apply_sample(ctid, wish):
    """--applyconfig NAME: what ve-NAME.conf-sample says, without what belongs to one container."""
    if wish.sample is None:
        return codes.OK
    path = f"{paths.CONF_DIR}/ve-{wish.sample}.conf-sample"
    if not paths.exists(path):
        log.error(f"Sample config file not found: {path}")
        return codes.APPLY_CONFIG
    sample = configuration.parse(path, ctid) or configuration.Conf()
    for key in ("VE_ROOT", "VE_PRIVATE", "OSTEMPLATE", "HOSTNAME", "DESCRIPTION", "IP_ADDRESS"):
        sample.pop(key, None)
    sample.setdefault("ORIGIN_SAMPLE", wish.sample)
    wish.override(sample)
    return codes.OK


def _check_fixed(ctid, conf, own, wish):
    """Look for parameters that need a restart. Returns (exit code, whether everything is done)."""
    found = dict.fromkeys(
        text for key, text in FIXED_WHILE_RUNNING.items() if wish.get(key) not in (None, conf.get(key))
    )
    limit, old = wish.get("QUOTAUGIDLIMIT"), conf.get("QUOTAUGIDLIMIT", 0)
    if limit is not None and bool(limit) != bool(old):
        found[f"Unable to turn {'on' if limit else 'off'} second-level disk quota on a running container"] = (
            None
        )
    if not found:
        return codes.OK, False
    if wish.setmode == "restart":
        import actions

        conf.override(wish)
        return actions.restart(ctid, conf, own, set()), True
    for message in found:
        log.error(message)
    if wish.setmode == "ignore":
        return codes.RUNNING, True
    log.error(
        "WARNING: Some of the parameters could not be applied to a running container.\n"
        "\tPlease consider using --setmode option"
    )
    return codes.OK, False


def _limits(conf, running):
    """Set the limits of conf. Returns an exit code."""
    if not any(key in conf for key in values.RESOURCES):
        return codes.OK
    if not running:
        log.error("Unable to apply UBC parameters: container is not running")
        return codes.NOT_RUNNING
    log.info("UB limits were set successfully")
    return codes.OK


def _with_vswap_limits(conf, wish):
    """Return the limits of the command line, with those that follow from RAM and swap and are not set anywhere."""
    limits = configuration.Conf({key: wish[key] for key in values.RESOURCES if key in wish})
    if values.is_vswap(conf) or values.is_vswap(wish):
        for key in ("LOCKEDPAGES", "OOMGUARPAGES", "VMGUARPAGES", "PRIVVMPAGES"):
            if key not in conf:
                limits.setdefault(key, (0, text.LONG_MAX))
    return limits


def _apply_now(ctid, conf, wish, can_do, running):
    """Apply the command line to a container; a stopped one refuses what it would have to apply."""
    code = _limits(_with_vswap_limits(conf, wish), running)
    if code:
        return code
    if not running:
        return _refuse_stopped(wish)
    pid = container.init_pid(ctid)
    drop = list(wish.get("del_ip", []))
    known = (paths.read_state(paths.IP_DIR, ctid) or "").split()
    drop = (
        known if wish.get("delall") else [address for address in known if values.same_address(drop, address)]
    )
    if drop:
        code = net.delete(ctid, pid, drop) or dist.delete_addresses(pid, can_do, wish, drop, "running")
    if not code and wish.get("IP_ADDRESS"):
        code = net.add(ctid, pid, wish["IP_ADDRESS"], starting=False)
        code = code or dist.add_addresses(pid, can_do, wish, wish["IP_ADDRESS"], "running")
    code = code or dist.configure(pid, can_do, wish, conf, "running")
    return code or _refuse_quota(wish)


def _refuse_stopped(wish):
    """Say what of the command line a stopped container cannot take over. Returns an exit code."""
    for keys, what in (
        (("IP_ADDRESS", "del_ip", "delall"), "apply network parameters"),
        (("NETDEV", "del_netdev"), "setup network devices"),
        (
            ("CPUUNITS", "CPUUWEIGHT", "CPULIMIT", "CPUS", "CPUMASK", "cpumask_auto", "NODEMASK"),
            "apply CPU parameters",
        ),
        (("DEVICES", "DEVNODES"), "apply devperm"),
        (("PCI",), "configure PCI devices"),
    ):
        if any(wish.get(key) not in (None, [], {}, False) for key in keys):
            log.error(f"Unable to {what}: container is not running")
            return codes.NOT_RUNNING
    if _is_configured_inside(wish):
        log.info("Unable to configure container: not running")
    return _refuse_quota(wish)


def _refuse_quota(wish):
    """Say what is said where vzquota is not there, or has not been turned on for the container."""
    limits = ("DISKSPACE", "DISKINODES", "QUOTATIME", "QUOTAUGIDLIMIT")
    if wish.get("DISK_QUOTA") == "no" or not any(key in wish for key in limits):
        return codes.OK
    log.error("Error: Unable to apply new quota values: quota not running")
    return codes.QUOTA_SET
