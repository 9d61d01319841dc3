"""
A node with a kernel of its own: user-mode-linux in the place of namespaces.

It mounts NFS with a kernel's client wherever the lab runs. Its disk is one ext4 file that holds what another node has
as layers; it is plugged into the same bridge, and into a second network that only the lab uses, so that a command
reaches it while its cable is pulled. Debian has the kernel as a package, user-mode-linux, for x86 only."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import inside, kernel, keys, network
from .inside import run_inside
from .places import LAB
from .shell import LabError

PACKAGE = "user-mode-linux"
MEMORY = "1536M"
DISK = 12 << 30  # bytes; the file has holes
PATIENCE = 180  # seconds until a booting guest lets a command in
INIT = """#!/bin/sh
# The first program of the guest: what the namespaces of another node have when systemd starts.
mount -t proc proc /proc && mount -t sysfs sysfs /sys
modprobe -a nfs nfsv3 nfsv4 veth fuse overlay
ip link set lo up
ip link set vec0 name eth0 && ip addr add {address}/24 dev eth0 && ip link set eth0 up
ip link set vec1 name lab0 && ip addr add {own}/30 dev lab0 && ip link set lab0 up
hostname {name}
exec /lib/systemd/systemd --log-target=console --log-level=warning --show-status=no
"""
SSHD = """# The way in for the lab's own commands; no other host reaches this network.
ListenAddress {own}
AuthorizedKeysFile /etc/ssh/lab_keys
MaxSessions 200
MaxStartups 200
UseDNS no
PrintMotd no
"""


def reason_against():
    """Why this machine can have no such node, or an empty text."""
    if platform.machine() != "x86_64":
        return f"Debian has {PACKAGE} for x86_64 only, and this machine is {platform.machine()}"
    if not os.path.exists("/dev/net/tun"):
        return "this machine has no /dev/net/tun"
    if not shutil.which("ssh"):
        return "this machine has no ssh (Debian's openssh-client)"
    return ""


def build(target, image, log):
    """The kernel and its modules, unpacked from Debian's package; TARGET/root is a layer for the guest's disk."""
    script = (
        f"apt-get -q update; cd /out; apt-get -q download {PACKAGE}; dpkg -x {PACKAGE}_*.deb x; "
        "mkdir -p root/usr/lib; mv x/usr/lib/uml/modules root/usr/lib/modules; mv x/usr/bin/linux.uml .; rm -r x *.deb"
    )
    run_inside([image], ["/bin/sh", "-ec", script], binds=[(target, "/out", False)], log=log, network=True)


def addresses(host):
    """The two ends of the lab's own way to a guest: the machine's, and the guest's."""
    return f"10.79.{host.number}.1", f"10.79.{host.number}.2"


def install(place, host, artefacts):
    """Make the disk of a guest out of what another node would have as layers."""
    disk, (_, own) = place / "disk", addresses(host)
    _write(disk / "usr/sbin/lab-init", INIT.format(address=host.address, own=own, name=host.name), 0o755)
    _write(disk / "etc/ssh/sshd_config.d/lab.conf", SSHD.format(own=own))
    private, public = keys.lab_pair(artefacts["image"])
    keys.install(public, disk / "etc/ssh/lab_keys", 0o600)
    keys.install(private, place / "key", 0o600)
    wants = disk / "etc/systemd/system/multi-user.target.wants"
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    with open(place / "disk.ext4", "wb") as file:
        file.truncate(DISK)
    # A bind of the tree's root shows nothing of what is mounted in it.
    make = "mkdir /run/tree; mount --bind / /run/tree; exec mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,nodiscard "
    run_inside(
        [disk, artefacts["kernel"] / "root", *(artefacts[name] for name in ("salt", "base", "image"))],
        ["/bin/sh", "-ec", make + "-d /run/tree /run/place/disk.ext4"],
        binds=[(place, "/run/place", False)],
    )
    shutil.rmtree(disk)


def _write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def boot(place, host, cgroup, keeper, artefacts):
    """Start a guest and wait until it lets commands in; its process is in FOLDER/pid."""
    spec = {
        "folder": str(place),
        "cgroup": str(cgroup),
        "keeper": keeper,
        "name": host.name,
        "ends": addresses(host),
        "image": str(artefacts["image"]),
        "kernel": str(artefacts["kernel"]),
    }
    with open(place / "console", "ab") as console:
        started = subprocess.Popen(
            [sys.executable, "-S", str(LAB / "lab"), "_guest", json.dumps(spec)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    (place / "address").write_text(addresses(host)[1])
    (place / "pid").write_text(str(started.pid))
    begun = time.monotonic()
    while subprocess.run(_way_in(place, keeper, ["true"]), capture_output=True, timeout=60).returncode:
        if started.poll() is not None or time.monotonic() - begun > PATIENCE:
            raise LabError(f"{host.name} does not come up; see {place / 'console'}")
        time.sleep(0.5)
    # One connection for all commands that follow: the guest takes a second to make one. The socket of the last one,
    # whose guest has lost its power, would be in its way.
    (place / "way-in").unlink(missing_ok=True)
    kept = [*_ssh(place), "-o", "ControlMaster=yes", "-o", "ControlPersist=yes", "-N", "-f", "guest"]
    _in_cgroup(cgroup, _entering(place, keeper, kept))


def main(text):
    """Entry point of the process that becomes the guest."""
    spec = json.loads(text)
    Path(spec["cgroup"], "cgroup.procs").write_text("0")
    _join_network(spec["keeper"])
    own, lab = f"v-{spec['name']}", f"l-{spec['name']}"
    for tap in (own, lab):
        network.remove(tap)
    network.batch(
        [f"tuntap add dev {own} mode tap", f"link set {own} master br0 up"]
        + [f"tuntap add dev {lab} mode tap", f"addr add {spec['ends'][0]}/30 dev {lab}", f"link set {lab} up"]
    )
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.private_mounts()
    scratch = f"{spec['folder']}/root"
    tree = {"lowers": [spec["image"]], "writable": None, "scratch": scratch, "network": False}
    tree["binds"] = [
        [spec["folder"], "/guest", False],
        [spec["kernel"], "/kernel", True],
        ["/dev/net/tun", "/dev/net/tun", False],
    ]
    root = inside.tree(tree)
    inside.furnish(root, tree)
    kernel.pivot_into(root)
    argv = ["linux.uml", f"umid={spec['name']}", f"mem={MEMORY}", "root=/dev/ubda", "rw"]
    argv += ["ubd0=/guest/disk.ext4", "init=/usr/sbin/lab-init", "con=null", "con0=null,fd:1", "quiet"]
    argv += [f"vec{n}:transport=tap,ifname={tap},depth=64,gro=1" for n, tap in enumerate((own, lab))]
    os.execve("/kernel/linux.uml", argv, {**inside.ENVIRONMENT, "TMPDIR": "/dev/shm"})


def _join_network(keeper):
    with open(f"/proc/{keeper}/ns/net") as net:
        kernel.setns(net.fileno(), kernel.CLONE_NEWNET)


# --- commands ---------------------------------------------------------------------------------------------------------


def call(place, keeper, argv, **options):
    """Run ARGV on a guest; returns subprocess's result."""
    return subprocess.run(_way_in(place, keeper, argv), **options)


def enter(place, keeper, argv):
    """Run ARGV on a guest, in this terminal; this process becomes the command."""
    words = _reach(place, argv, tty=os.isatty(0) and os.isatty(1))
    _join_network(keeper)
    os.chdir(place)  # the path of a socket may have 107 bytes
    os.execvp(words[0], words)


def _reach(place, argv, tty=False):
    command = ["env", "-i", *(f"{key}={value}" for key, value in inside.ENVIRONMENT.items()), *map(str, argv)]
    return [*_ssh(place), *(["-t"] if tty else []), "guest", shlex.join(command)]


def _ssh(place):
    options = {
        "HostName": (place / "address").read_text(),
        "User": "root",
        "IdentityFile": "key",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "ControlPath": "way-in",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    return [
        "ssh",
        "-F",
        "none",
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
    ]


def _way_in(place, keeper, argv):
    return _entering(place, keeper, _reach(place, argv))


def _entering(place, keeper, words):
    return [
        "nsenter",
        "-t",
        str(keeper),
        "-n",
        "sh",
        "-c",
        'cd "$1" && shift && exec "$@"',
        "sh",
        str(place),
        *words,
    ]


def _in_cgroup(cgroup, words):
    """Run a command as a part of the guest, so that it ends with it."""

    def join():
        Path(cgroup, "cgroup.procs").write_text("0")

    subprocess.run(
        words,
        preexec_fn=join,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )
