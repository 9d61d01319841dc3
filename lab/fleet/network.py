"""The network of a lab: one bridge in a network namespace of its own, a veth pair for each host.

Nothing of it is seen on the machine, so any number of labs can use the same addresses."""

import os
import subprocess
import sys
import time
from pathlib import Path

from . import kernel
from .places import LAB
from .shell import LabError, run

GATEWAY = "10.77.0.254/24"


def start_keeper(folder, cgroup):
    """Start the process whose only purpose is that the lab's network namespace exists; returns its pid."""
    with open(folder / "keeper.log", "w") as log:
        subprocess.Popen(
            [sys.executable, "-S", str(LAB / "lab"), "_keep", str(folder), str(cgroup)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if (folder / "keeper.pid").exists():
            return int((folder / "keeper.pid").read_text())
        time.sleep(0.005)
    raise LabError(f"the lab's network did not come up: {(folder / 'keeper.log').read_text()}")


def keep(folder, cgroup):
    """Entry point of the keeper."""
    Path(cgroup, "cgroup.procs").write_text("0")
    kernel.unshare(kernel.CLONE_NEWNET)
    batch(["link set lo up", "link add br0 type bridge", f"addr add {GATEWAY} dev br0", "link set br0 up"])
    half = Path(folder, "keeper.pid.half")
    half.write_text(str(os.getpid()))
    half.rename(Path(folder, "keeper.pid"))
    os.execvp("sleep", ["sleep", "infinity"])


def batch(lines):
    """Give `ip` some lines in the network namespace of this process."""
    run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", timeout=20)


def remove(link):
    """Remove a link that a host left when it died; called in the lab's namespace."""
    run(["ip", "link", "del", link], check=False)


def plug(host, pid):
    """Connect the network namespace of PID to the bridge; called in the lab's namespace."""
    # What a host that died left is removed by the kernel a little later.
    remove(f"v-{host}")
    batch([f"link add v-{host} type veth peer name eth0 netns {pid}", f"link set v-{host} master br0 up"])


def set_link(keeper, host, state):
    """Put the host's cable in (`up`) or pull it (`down`)."""
    run(["nsenter", "-t", str(keeper), "-n", "ip", "link", "set", f"v-{host}", state])
