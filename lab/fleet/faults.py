"""Faults: what goes wrong at night, on demand, and `heal`, which undoes all of it.

Each fault is a pair of functions, break and mend, of the lab and one host. What is broken is written down in the run
folder before it is done, so `heal` also mends what a killed command left. Mending what is whole is harmless."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from . import containers, network
from .fleet import stop_cgroup, wait_for
from .shell import LabError

FILLER = "/rf-images/.filler"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class Fault:
    """A kind of fault: what it is, on which roles, and how it is made and undone."""

    text: str
    roles: tuple
    breaks: Callable
    mends: Callable


# --- network ---------------------------------------------------------------------------------------------------------


def _link_down(lab, host):
    network.set_link(lab.keeper(), host.name, "down")


def _link_up(lab, host):
    network.set_link(lab.keeper(), host.name, "up")
    _reconnect(lab, host)


def _reconnect(lab, host):
    # After a long outage TCP tries again only every minute or two, and a minion is as good as away for so long. When
    # its connection to the master is closed it makes a new one at once.
    _on(
        lab, host, "ss", "-K", "( dport = 4505 or dport = 4506 or sport = 4505 or sport = 4506 )", check=False
    )


#: Two routes are nearer than that of the lab's network. A host that is asked for its address goes on to tell it.
HALVES = ("10.77.0.0/25", "10.77.0.128/25")


def _drop_packets(lab, host):
    for half in HALVES:
        _on(lab, host, "ip", "route", "replace", "blackhole", half)


def _pass_packets(lab, host):
    for half in HALVES:
        _on(lab, host, "ip", "route", "del", "blackhole", half, check=False)
    _reconnect(lab, host)


# --- the NFS server --------------------------------------------------------------------------------------------------


def _on(lab, host, *argv, check=True, **options):
    done = lab.call(host.name, argv, **options)
    if check and done.returncode:
        raise LabError(f"{host.name}: {' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done


def _ganesha_kill(lab, host):
    _on(lab, host, "systemctl", "kill", "-s", "KILL", "nfs-ganesha")
    wait_for(lambda: not _is_active(lab, host, "nfs-ganesha"), f"the NFS server of {host.name} to die", 10)


def _ganesha_stop(lab, host):
    _on(lab, host, "systemctl", "stop", "nfs-ganesha")


def _ganesha_start(lab, host):
    _on(lab, host, "systemctl", "reset-failed", "nfs-ganesha", check=False)
    _on(lab, host, "systemctl", "start", "nfs-ganesha")


def _is_active(lab, host, unit):
    return _on(lab, host, "systemctl", "is-active", "-q", unit, check=False).returncode == 0


def _unexport(lab, host):
    """One export fewer: `pbx` is gone from the server."""
    _on(lab, host, "mv", "/etc/ganesha/exports.d/pbx.conf", "/etc/ganesha/pbx.conf.away")
    _on(lab, host, "sed", "-i", "/exports.d.pbx.conf/s/^/# /", "/etc/ganesha/ganesha.conf")
    _on(lab, host, "systemctl", "restart", "nfs-ganesha")


def _export(lab, host):
    _on(lab, host, "mv", "/etc/ganesha/pbx.conf.away", "/etc/ganesha/exports.d/pbx.conf", check=False)
    _on(lab, host, "sed", "-i", "/exports.d.pbx.conf/s/^# //", "/etc/ganesha/ganesha.conf")
    _on(lab, host, "systemctl", "restart", "nfs-ganesha")


def _san_full(lab, host):
    """Give every free block of the store to a filler file."""
    # fallocate writes nothing, so this is quick and costs the machine nothing; dd takes what it cannot get.
    _on(lab, host, "fallocate", "-l", str(_free_bytes(lab, host)), FILLER, check=False)
    append = ["oflag=append", "conv=notrunc", "bs=4k", "status=none"]
    _on(lab, host, "dd", "if=/dev/zero", f"of={FILLER}", *append, check=False, timeout=120)
    if _free_bytes(lab, host):
        raise LabError(f"{host.name}: the store is not full")


def _free_bytes(lab, host):
    blocks, size = _on(lab, host, "stat", "-f", "-c", "%a %S", "/rf-images").stdout.split()
    return int(blocks) * int(size)


def _san_space(lab, host):
    _on(lab, host, "rm", "-f", FILLER)


# --- hosts and daemons -----------------------------------------------------------------------------------------------


def _power_cut(lab, host):
    """Everything on the host dies at once; its disk stays as it is."""
    stop_cgroup(lab.cgroup / host.name)
    wait_for(lambda: lab.pid(host.name) is None, f"{host.name} to be off", 10)


def _power_on(lab, host):
    if lab.pid(host.name) is None:
        lab.boot(host.name)


#: A signal to a unit's processes; a container that it started is none of them. A child may go before its own turn.
SIGNAL = """
own=$(readlink /proc/self/ns/pid)
for pid in $(cat "/sys/fs/cgroup/system.slice/$1.service/cgroup.procs" 2>/dev/null); do
    [ "$(readlink "/proc/$pid/ns/pid")" != "$own" ] || kill -s "$2" "$pid" || [ ! -e "/proc/$pid" ] || exit 1
done
"""


def _signal_unit(unit, name):
    return lambda lab, host: _on(lab, host, "sh", "-c", SIGNAL, "sh", unit, name)


def _kill_unit(unit):
    def act(lab, host):
        _signal_unit(unit, "KILL")(lab, host)
        wait_for(lambda: not _is_active(lab, host, unit), f"{unit} of {host.name} to die", 10)

    return act


def _start_unit(unit):
    def act(lab, host):
        _on(lab, host, "systemctl", "reset-failed", unit, check=False)
        _on(lab, host, "systemctl", "start", unit, timeout=120)

    return act


# --- identity and packages -------------------------------------------------------------------------------------------


def _wrong_host_key(lab, host):
    """A stranger answers under the SAN's name."""
    _on(lab, host, "mv", HOST_KEY, f"{HOST_KEY}.right")
    _on(lab, host, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", HOST_KEY, stdin="y\n")
    _on(lab, host, "systemctl", "restart", "ssh")


def _right_host_key(lab, host):
    _on(lab, host, "mv", f"{HOST_KEY}.right", HOST_KEY, check=False)
    _on(lab, host, "systemctl", "restart", "ssh")


def _yum(command):
    """Make, or remove, what lets `yum` fail in every container whose private area is on the node's own disk."""

    def act(lab, host):
        private = f"{containers.layout_of(host.name, lab.require()).home}/private"
        each = f'for etc in {private}/[0-9]*/etc; do [ ! -d "$etc" ] || {command} "$etc/yum.broken"; done'
        _on(lab, host, "sh", "-c", each)

    return act


ALL = ("master", "san", "node", "mon")
MINIONS = ("san", "node", "mon")
FAULTS = {
    "link-down": Fault("the host's network cable is pulled", ALL, _link_down, _link_up),
    "packets-dropped": Fault("what the host sends is lost on the way", ALL, _drop_packets, _pass_packets),
    "power-cut": Fault("the host loses power; its disk stays as it is", ALL, _power_cut, _power_on),
    "ganesha-kill": Fault("the NFS server process is killed", ("san",), _ganesha_kill, _ganesha_start),
    "ganesha-stop": Fault("the NFS server is stopped", ("san",), _ganesha_stop, _ganesha_start),
    "unexport": Fault("the export pbx is gone", ("san",), _unexport, _export),
    "san-full": Fault("the store has no space left", ("san",), _san_full, _san_space),
    "wrong-host-key": Fault("sshd has another host key", ("san",), _wrong_host_key, _right_host_key),
    "minion-freeze": Fault(
        "the minion's processes are stopped (SIGSTOP)",
        MINIONS,
        _signal_unit("salt-minion", "STOP"),
        _signal_unit("salt-minion", "CONT"),
    ),
    "minion-kill": Fault(
        "the minion is killed", MINIONS, _kill_unit("salt-minion"), _start_unit("salt-minion")
    ),
    "master-kill": Fault(
        "the master is killed", ("master",), _kill_unit("salt-master"), _start_unit("salt-master")
    ),
    "yum-broken": Fault("yum fails in the node's containers", ("node",), _yum("touch"), _yum("rm -f")),
}


def _journal(lab):
    return lab.folder / "faults.json"


def standing(lab):
    """The faults that stand: [name, host] in the order in which they were made."""
    try:
        return json.loads(_journal(lab).read_text())
    except FileNotFoundError:
        return []


def _write(lab, faults):
    half = _journal(lab).with_suffix(".half")
    half.write_text(json.dumps(faults))
    half.rename(_journal(lab))


def fault(lab, name, host_names):
    """Make a fault on some hosts; without names, on the one host (or the first) that can have it."""
    kind = FAULTS.get(name)
    if kind is None:
        raise LabError(f"{name}: no such fault; there are {', '.join(FAULTS)}")
    able = [host for host in lab.hosts() if host.role in kind.roles]
    hosts = [lab.host(wanted) for wanted in host_names]
    if not hosts:
        if len(kind.roles) > 1:
            raise LabError(f"{name}: on which host? e.g. lab/lab fault {name} {able[-1].name}")
        hosts = able[:1]
    for host in hosts:
        if host.role not in kind.roles:
            raise LabError(
                f"{name} cannot happen to {host.name}; it can to {', '.join(other.name for other in able)}"
            )
    for host in hosts:
        if [name, host.name] not in standing(lab):
            _write(lab, [*standing(lab), [name, host.name]])
            kind.breaks(lab, host)


def power_on(lab, name):
    """Boot a host that is off; with that it has its power again, and can lose it once more."""
    lab.boot(name)
    _write(lab, [entry for entry in standing(lab) if entry != ["power-cut", name]])


def heal(lab, say=print):
    """Undo all faults, the last first, and wait until the fleet is whole again."""
    faults = standing(lab)
    # First power and network: the other faults are mended by commands on running hosts.
    first = [entry for entry in faults if entry[0] in ("power-cut", "link-down", "packets-dropped")]
    others = [entry for entry in faults if entry not in first]
    for name, host in [*first, *reversed(others)]:
        FAULTS[name].mends(lab, lab.host(host))
        _write(lab, [entry for entry in standing(lab) if entry != [name, host]])
        say(f"healed: {name} of {host}")
    off = [host for host in lab.hosts() if lab.pid(host.name) is None]
    for host in off:
        lab.boot(host.name)
        say(f"healed: {host.name} was off")
    if faults or off:
        lab.wait_for_minions()
