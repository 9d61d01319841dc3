"""Where the lab keeps things, and what its hosts are called."""

import hashlib
import os
import re
from collections import namedtuple
from pathlib import Path

from .shell import LabError

LAB = Path(__file__).resolve().parent.parent
CHECKOUT = LAB.parent
CACHE = LAB / "cache"
SALT_REQUIREMENTS = CHECKOUT / "requirements-salt.txt"

DEFAULT_NODES = 2
DEFAULT_CTS = 5
MAX_NODES = 99  # addresses 10.77.0.101 to 10.77.0.199
MAX_CTS = 99  # container ids N*100 + 1 to N*100 + 99
EXPORTS = ("pbx", "pbxroot", "vzconf")


class Host(namedtuple("Host", "name role address aliases", defaults=[()])):
    """One host of the fleet; its role is master, node, san or mon."""

    __slots__ = ()

    @property
    def number(self):
        """The N of node00N."""
        return int(re.sub(r"\D", "", self.name) or 0)

    @property
    def is_minion(self):
        """Every host but the master runs a minion."""
        return self.role != "master"


def fleet(nodes):
    """All hosts of a fleet with so many nodes, the master first."""
    hosts = [
        Host("master", "master", "10.77.0.10"),
        Host("san1", "san", "10.77.0.21", ("atl.san1.ringfree.biz",)),
        Host("san2", "san", "10.77.0.22", ("atl.san2.ringfree.biz",)),
        Host("mon001", "mon", "10.77.0.30"),
    ]
    return hosts + [Host(f"node{n:03}", "node", f"10.77.0.{100 + n}") for n in range(1, nodes + 1)]


def lab_name():
    """The lab that this command is about: environment LAB, or `default`."""
    name = os.environ.get("LAB") or "default"
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,30}", name):
        raise LabError(f"LAB={name}: a lab's name is made of small letters, digits, - and _ (31 at most)")
    return name


def run_folder(name):
    """The one folder in which a lab's state lies."""
    return LAB / "run" / name


def cgroup_mount():
    """Where the machine has cgroup2: its root on a pure v2 machine, `unified` on a hybrid one."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            head, tail = line.split(" - ", 1)
            if tail.split()[0] == "cgroup2":
                return Path(head.split()[4])
    raise LabError("no cgroup2 is mounted on this machine; the hosts' systemd cannot run without one")


def cgroup_of(folder):
    """The cgroup of the lab in FOLDER. Its name comes from the folder, so no two labs can share one."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:10]
    return cgroup_mount() / f"ringfree-lab-{digest}"
