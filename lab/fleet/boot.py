"""Starting one host: namespaces, its cable, its mounts, then systemd as its PID 1."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import kernel, network
from .places import LAB
from .shell import LabError, run

NAMESPACES = kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWCGROUP
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
SYSTEMD = [
    "/lib/systemd/systemd",
    "--system",
    "--log-target=console",
    "--log-level=warning",
    "--show-status=no",
]
ENVIRONMENT = {"container": "lab", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def boot(spec):
    """Start the host that SPEC describes; its PID 1 is in FOLDER/pid afterwards.

    SPEC: name, address, folder, cgroup, keeper (pid), lowers (layers, uppermost first), binds (source, target,
    read_only), backing (an ext4 file for /rf-images, or null)."""
    done = subprocess.run(
        [sys.executable, "-S", str(LAB / "lab"), "_boot", json.dumps(spec)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise LabError(f"{spec['name']} does not start: {done.stderr.strip()}")


def main(text):
    """Entry point of the starting process. It stays in the lab's network; its child becomes the host."""
    spec = json.loads(text)
    Path(spec["cgroup"], "cgroup.procs").write_text("0")
    with open(f"/proc/{spec['keeper']}/ns/net") as net:
        kernel.setns(net.fileno(), kernel.CLONE_NEWNET)
    told, tell = os.pipe()
    heard, hear = os.pipe()
    child = os.fork()
    if child == 0:
        kernel.unshare(NAMESPACES)
        os.write(tell, b".")
        os.read(heard, 1)
        _start(spec)
        os._exit(0)
    os.close(tell)
    if not os.read(told, 1):
        return 1
    network.plug(spec["name"], child)
    os.write(hear, b".")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF


def _start(spec):
    """In the host's namespaces: address, then the first process of its process id namespace."""
    address = f"addr add {spec['address']}/24 dev eth0"
    network.batch(["link set lo up", address, "link set eth0 up"])
    # Only now: the first process to be started in new process ids is their PID 1.
    kernel.unshare(kernel.CLONE_NEWPID)
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        _become_init(spec, done)
    os.close(done)
    failure = os.read(ready, 4096)
    if failure:
        sys.stderr.buffer.write(failure)
        os._exit(1)
    half = Path(spec["folder"], "pid.half")
    half.write_text(str(pid))
    half.rename(Path(spec["folder"], "pid"))


def _become_init(spec, done):
    try:
        os.setsid()
        console = os.open(f"{spec['folder']}/console", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(console, 1)
        os.dup2(console, 2)
        # Not before: pivot_root moves every process of the mount namespace.
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.private_mounts()
        root = _mount_root(spec)
        kernel.sethostname(spec["name"])
        kernel.pivot_into(root)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        # The pipe closes with the exec: that is the sign that all went well.
        os.execve(SYSTEMD[0], SYSTEMD, ENVIRONMENT)
    except BaseException as error:
        os.write(done, str(error).encode())
    finally:
        os._exit(1)


def _mount_root(spec):
    root = f"{spec['folder']}/root"
    disk, work = f"{spec['folder']}/disk", f"{spec['folder']}/work"
    data = f"lowerdir={':'.join(spec['lowers'])},upperdir={disk},workdir={work}"
    kernel.mount("overlay", root, "overlay", 0, data)
    kernel.mount("proc", f"{root}/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("sysfs", f"{root}/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("cgroup2", f"{root}/sys/fs/cgroup", "cgroup2")
    _mount_dev(f"{root}/dev")
    for place, mode in (("run", "755"), ("tmp", "1777")):
        kernel.mount("tmpfs", f"{root}/{place}", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode}")
    os.makedirs(f"{root}/run/lock")
    for source, target, read_only in spec["binds"]:
        os.makedirs(root + target, exist_ok=True)
        kernel.bind(source, root + target, read_only)
    if spec["backing"]:
        _mount_backing(spec["backing"], f"{root}/rf-images")
    return root


def _mount_dev(dev):
    # Mode 755: with the sticky bit the kernel refuses to open devices for writing in some namespaces.
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755")
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            Path(dev, name).touch()
            kernel.bind(f"/dev/{name}", f"{dev}/{name}")
    for name, target in LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{dev}/{name}")
    kernel.mount("devpts", f"{dev}/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620")
    kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")


def _mount_backing(backing, target):
    """The SAN's store: an ext4 of its own, so that it can run full and has the file handles an NFS server needs."""
    os.makedirs(target, exist_ok=True)
    deadline = time.monotonic() + 10
    while loop_devices(backing):
        # The host was killed just now: its own mount of the file must be gone before there is a second one.
        if time.monotonic() > deadline:
            raise LabError(f"{backing} is still in use by a loop device")
        time.sleep(0.02)
    run(["mount", "-t", "ext4", "-o", "loop", backing, target])


def loop_devices(backing):
    """The loop devices that stand on a file, or on any file below a folder."""
    found = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            used = entry.read_text().strip()
        except OSError:
            continue
        if used == str(backing) or used.startswith(f"{backing}/"):
            found.append(entry.parts[3])
    return found
