"""Run one program inside a tree of directories (the image and layers above it), away from the machine.

The program gets its own mounts and process ids, so nothing of it is left when it ends. It keeps the machine's
network and name resolution, because its use is to install packages."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import kernel
from .places import CACHE, LAB
from .shell import LabError

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def run_inside(lowers, argv, *, binds=(), writable=None, timeout=900, log=None, network=False):
    """Run ARGV in a tree made of LOWERS (uppermost first).

    With WRITABLE, that directory itself is the tree and keeps what is written; otherwise writes go to a layer that
    is thrown away. BINDS are (source, target, read_only)."""
    with tempfile.TemporaryDirectory(prefix="inside-", dir=CACHE) as scratch:
        spec = {
            "lowers": [str(path) for path in lowers],
            "argv": [str(word) for word in argv],
            "binds": [[str(source), target, read_only] for source, target, read_only in binds],
            "writable": str(writable) if writable else None,
            "scratch": scratch,
            "network": network,
        }
        done = subprocess.run(
            [sys.executable, "-S", str(LAB / "lab"), "_inside", json.dumps(spec)],
            stdin=subprocess.DEVNULL,
            stdout=log or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        if done.returncode:
            said = f"see {log.name}" if log else done.stdout.decode(errors="replace").strip()[-3000:]
            raise LabError(f"in the image: {' '.join(spec['argv'])}: exit code {done.returncode}\n{said}")
        return done.stdout


def main(text):
    """Entry point of the child process."""
    spec = json.loads(text)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF
    kernel.private_mounts()
    root = tree(spec)
    furnish(root, spec)
    kernel.pivot_into(root)
    environment = dict(ENVIRONMENT)
    if spec["network"]:
        environment.update({name: os.environ[name] for name in PROXIES if name in os.environ})
    try:
        os.execvpe(spec["argv"][0], spec["argv"], environment)
    except OSError as error:
        print(f"{spec['argv'][0]}: {error.strerror}", file=sys.stderr)
        os._exit(127)


def tree(spec):
    """Mount the tree of SPEC; returns its path."""
    if spec["writable"]:
        kernel.bind(spec["writable"], spec["writable"])
        return spec["writable"]
    scratch = spec["scratch"]
    # A tmpfs of its own: an overlay cannot lie on another overlay, and it goes away with the namespace.
    kernel.mount("tmpfs", scratch, "tmpfs", 0, "mode=755")
    for part in ("upper", "work", "root"):
        os.mkdir(f"{scratch}/{part}")
    data = f"lowerdir={':'.join(spec['lowers'])},upperdir={scratch}/upper,workdir={scratch}/work"
    kernel.mount("overlay", f"{scratch}/root", "overlay", 0, data)
    return f"{scratch}/root"


def furnish(root, spec):
    """Mount in a tree what programs expect: /proc, /dev, the binds of SPEC."""
    kernel.mount("proc", f"{root}/proc", "proc")
    kernel.mount("tmpfs", f"{root}/dev", "tmpfs", 0, "mode=755")
    for name in DEVICES:
        Path(root, "dev", name).touch()
        kernel.bind(f"/dev/{name}", f"{root}/dev/{name}")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    os.mkdir(f"{root}/dev/shm")
    binds = list(spec["binds"])
    if spec["network"]:
        binds += [["/etc/resolv.conf", "/etc/resolv.conf", True], ["/etc/hosts", "/etc/hosts", True]]
        if os.path.isdir("/etc/ssl/certs") and os.path.isdir(f"{root}/etc/ssl/certs"):
            binds.append(["/etc/ssl/certs", "/etc/ssl/certs", True])
    for source, target, read_only in binds:
        place = Path(root + target)
        if os.path.isdir(source):
            place.mkdir(parents=True, exist_ok=True)
        elif not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        kernel.bind(os.path.realpath(source), place, read_only)
