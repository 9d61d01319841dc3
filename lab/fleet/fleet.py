"""A lab as a whole: up, down, what is running."""

import ctypes.util
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import boot, containers, disks, network, own_kernel, places, setup
from .hosts import Hosts
from .shell import LabError, run

PUBLISH_PORT = 4505
ESTABLISHED = "01"
OVERLAYFS_MAGIC = 0x794C7630
REMOVAL = 1200  # seconds; a lab's containers can hold millions of files


class Lab(Hosts):
    """One lab of this checkout, to bring up, to look at and to take down."""

    def call(self, name, argv, *, timeout=60, stdin=None):
        """Run a command on a host with its output captured; returns subprocess's result."""
        words = [str(self.pid_of_running(name)), str(self.cgroup / name), *map(str, argv)]
        options = {
            "capture_output": True,
            "text": True,
            "errors": "surrogateescape",
            "timeout": timeout,
            "input": stdin or "",
        }
        try:
            if self.has_own_kernel(name):
                return own_kernel.call(self.folder / name, self.keeper(), argv, **options)
            return subprocess.run(
                [sys.executable, "-S", str(places.LAB / "lab"), "_enter", *words], **options
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(words[2:])}: no end after {timeout} s") from error

    # --- up ------------------------------------------------------------------------------------------------------

    def up(self, nodes=None, cts=None, debian=None, kernel_node=None, say=print):
        """Bring the lab up and wait until all of it works. What is up already is left alone."""
        if kernel_node and own_kernel.reason_against():
            raise LabError(f"--kernel-node: {own_kernel.reason_against()}")
        artefacts = setup.set_up(say, with_kernel=bool(kernel_node))
        with self._locked(say):
            before = self.settings()
            if before:
                asked = {"nodes": nodes, "cts": cts, "debian": debian, "kernel_node": kernel_node}
                self._same_fleet(before, asked)
            fleet = {
                "nodes": nodes or places.DEFAULT_NODES,
                "cts": places.DEFAULT_CTS if cts is None else cts,
                "debian": debian or [],
                "kernel_node": kernel_node,
            }
            known = [host.name for host in places.fleet(fleet["nodes"]) if host.role == "node"]
            asked = {"debian": fleet["debian"], "kernel-node": [kernel_node] if kernel_node else []}
            for option, names in asked.items():
                strange = [name for name in names if name not in known]
                if strange and not before:
                    raise LabError(f"--{option}: there is no node {', '.join(strange)}")
            self._start(before or fleet, artefacts, say)

    def _same_fleet(self, before, asked):
        for what, wanted in asked.items():
            if wanted is not None and wanted != before.get(what):
                raise LabError(
                    f"lab {self.name} is up with {what}={before.get(what)}; take it down first: lab/lab down"
                )

    def _start(self, fleet, artefacts, say):
        begun = time.monotonic()
        settings = {"nfs_client": nfs_client(), "artefacts": {}, **fleet}
        settings["artefacts"] = {name: str(path) for name, path in artefacts.items()} | settings["artefacts"]
        self._make_folder()
        (self.folder / "lab.json").write_text(json.dumps(settings, indent=1))
        if self.keeper() is None:
            if any(self.pid(host.name) for host in places.fleet(settings["nodes"])):
                raise LabError(f"lab {self.name} has lost its network; take it down first: lab/lab down")
            (self.folder / "keeper.pid").unlink(missing_ok=True)
            network.start_keeper(self.folder, self._make_cgroup("keeper"))
        hosts = places.fleet(settings["nodes"])
        off = [host for host in hosts if self.pid(host.name) is None]
        if not off:
            say(f"lab {self.name} is up already")
            return
        with ThreadPoolExecutor(max_workers=4) as pool:
            for started in [pool.submit(self.start_host, host, settings) for host in off]:
                started.result()
        say(f"lab {self.name}: {len(off)} hosts started after {time.monotonic() - begun:.1f} s")
        self.wait_until_ready(settings)
        say(f"lab {self.name}: up after {time.monotonic() - begun:.1f} s")

    def _make_folder(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        # An overlay's upper layer cannot lie on an overlay (as in a machine that is itself a container).
        if filesystem_magic(self.folder) == OVERLAYFS_MAGIC and not os.path.ismount(self.folder):
            run(["mount", "-t", "tmpfs", "-o", "mode=755", "ringfree-lab", self.folder])

    def _make_cgroup(self, name):
        path = self.cgroup / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"no cgroup can be made on this machine: {error}") from error
        return path

    def start_host(self, host, settings):
        """Boot one host that is off; the first time with a fresh disk, later with the one it has."""
        artefacts = {name: Path(path) for name, path in settings["artefacts"].items()}
        place = self.folder / host.name
        if not (place / "prepared").exists():
            shutil.rmtree(place, ignore_errors=True)
            disks.prepare(self.folder, host, places.fleet(settings["nodes"]), artefacts, settings)
            (place / "prepared").touch()
        (place / "pid").unlink(missing_ok=True)
        if self.has_own_kernel(host.name):
            own_kernel.boot(place, host, self._make_cgroup(host.name), self.keeper(), artefacts)
            return
        boot.boot(
            {
                "name": host.name,
                "address": host.address,
                "folder": str(place),
                "cgroup": str(self._make_cgroup(host.name)),
                "keeper": self.keeper(),
                "lowers": [str(artefacts[layer]) for layer in ("salt", "base", "image")],
                "binds": disks.binds(place, host, settings),
                "backing": str(place / "store.ext4") if host.role == "san" else None,
            }
        )

    def boot(self, name):
        """Boot a host that is off, with its disk as it is."""
        host, settings = self.host(name), self.require()
        if self.pid(name):
            raise LabError(f"{name} is up already")
        self.start_host(host, settings)

    def wait_until_ready(self, settings):
        """Wait for the minions, their modules on the master, the exports, the monitoring and the containers."""
        hosts = places.fleet(settings["nodes"])
        with ThreadPoolExecutor(max_workers=len(hosts) + 2) as pool:
            waits = [pool.submit(self._sync_runners), pool.submit(self.wait_for_minions)]
            for host in hosts:
                if host.role == "node":
                    waits.append(pool.submit(self._wait_for_containers, host, settings["cts"]))
                if host.role in ("san", "mon"):
                    waits.append(pool.submit(self._wait_for_units, host))
            for wait in waits:
                wait.result()

    def _sync_runners(self):
        """The master's own step of the README: make our runners known to it."""
        done = self.call("master", ["salt-run", "saltutil.sync_all"], timeout=120)
        if done.returncode:
            raise LabError(f"salt-run saltutil.sync_all failed:\n{done.stdout}{done.stderr}")

    def wait_for_minions(self, patience=120):
        """Wait until every minion answers."""
        names = {host.name for host in self.hosts() if host.is_minion}
        wait_for(lambda: self.connections() >= len(names), "all minions to be connected", patience)
        deadline = time.monotonic() + patience
        while True:
            ping = ["salt", "--out=json", "--static", "-t", "10", "*", "test.ping"]
            answered = self.call("master", ping, timeout=patience).stdout
            missing = names - _answers(answered)
            if not missing:
                return
            if time.monotonic() > deadline:
                raise LabError(f"no answer to test.ping from {', '.join(sorted(missing))}")

    def connections(self):
        """How many minions are connected to the master's publish port."""
        pid = self.pid("master")
        count = 0
        for name in ("tcp", "tcp6"):
            try:
                lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
            except OSError:
                continue
            for fields in map(str.split, lines):
                count += fields[3] == ESTABLISHED and int(fields[1].rsplit(":", 1)[1], 16) == PUBLISH_PORT
        return count

    def _wait_for_containers(self, host, count):
        """The vz service starts the containers at boot; it is done when it is active."""
        state = ""

        def settled():
            nonlocal state
            state = self.call(host.name, ["systemctl", "is-active", "vz.service"]).stdout.strip()
            return state in ("active", "failed")

        wait_for(settled, f"the vz service of {host.name}", 300)
        up = self.running(host)
        off = [ctid for ctid in containers.ctids(host.number, count) if ctid not in up]
        if state == "failed" or off:
            raise LabError(
                f"{host.name}: the vz service is {state}, not running: {' '.join(map(str, off)) or 'none'}; "
                f"see: lab/lab exec {host.name} -- journalctl -u vz"
            )

    def running(self, host):
        """The ids of the containers that run on a node."""
        if not self.pid(host.name):
            return set()
        return {int(word) for word in self.call(host.name, ["sh", "-c", containers.RUNNING]).stdout.split()}

    def _wait_for_units(self, host):
        units = ["ssh", "nfs-ganesha"] if host.role == "san" else ["nagios", "shinken"]

        def running():
            done = self.call(host.name, ["systemctl", "is-active", *units])
            return done.stdout.split() == ["active"] * len(units)

        wait_for(running, f"{' and '.join(units)} of {host.name}", 60)

    # --- down ----------------------------------------------------------------------------------------------------

    def down(self, say=print):
        """Take the lab down, whatever state it is in. Leaves no process, mount, namespace, cgroup or file."""
        with self._locked(say):
            there = self.folder.exists() or self.cgroup.exists()
            stop_cgroup(self.cgroup)
            wait_for(lambda: not boot.loop_devices(self.folder), "the SANs' stores to be released", 20)
            unmount_all(self.folder)
            remove_tree(self.folder)
            parent = self.folder.parent
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
            say(f"lab {self.name} is down" if there else f"lab {self.name} was not up")

    @contextmanager
    def _locked(self, say):
        places.CACHE.mkdir(parents=True, exist_ok=True)
        with open(places.CACHE / f".lab-{self.name}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"lab {self.name}: waiting for another up or down of it to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # --- status --------------------------------------------------------------------------------------------------

    def status(self):
        """The state of the lab as a plain dictionary."""
        settings = self.settings()
        if settings is None:
            return {"lab": self.name, "up": False, "hosts": {}}
        hosts = {}
        for host in places.fleet(settings["nodes"]):
            pid = self.pid(host.name)
            entry = {"role": host.role, "address": host.address, "up": pid is not None, "pid": pid}
            if host.role == "node":
                entry["layout"] = containers.layout_of(host.name, settings).name
                entry["kernel"] = "its own" if self.has_own_kernel(host.name) else "the machine's"
                running = self.running(host)
                entry["containers"] = {
                    str(ctid): {
                        "name": containers.name_of(ctid),
                        "running": ctid in running,
                    }
                    for ctid in containers.ctids(host.number, settings["cts"])
                }
            hosts[host.name] = entry
        return {
            "lab": self.name,
            "up": all(entry["up"] for entry in hosts.values()),
            "nodes": settings["nodes"],
            "cts": settings["cts"],
            "nfs_client": settings["nfs_client"],
            "minions_connected": self.connections(),
            "hosts": hosts,
        }


def _answers(text):
    try:
        return {name for name, answer in json.loads(text).items() if answer is True}
    except ValueError:
        return set()


def wait_for(condition, what, patience):
    """Wait until CONDITION() is true; a LabError says what was waited for in vain."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {patience} s in vain for {what}")
        time.sleep(0.05)


def nfs_client():
    """`kernel` where the machine's kernel can mount NFS, else `fuse`."""
    if shutil.which("modprobe"):
        for module in ("overlay", "loop", "fuse", "nfs"):
            subprocess.run(["modprobe", "-q", module], capture_output=True, timeout=30)
    if "nfs" in Path("/proc/filesystems").read_text().split():
        return "kernel"
    if not os.path.exists("/dev/fuse"):
        raise LabError(
            "this machine's kernel has neither an NFS client nor FUSE (/dev/fuse); the nodes need one"
        )
    return "fuse"


def filesystem_magic(path):
    """The type of the file system that PATH lies on, as statfs(2) numbers it."""
    buffer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), buffer):
        raise OSError(ctypes.get_errno(), f"statfs {path}")
    return ctypes.c_long.from_buffer(buffer).value


def unmount_all(folder):
    """Unmount what is mounted on a folder and below it, also what somebody has mounted there by hand."""
    folder = os.path.realpath(folder)
    for point in reversed(_mount_points()):
        inside = point == folder or point.startswith(f"{folder}/")
        if inside and run(["umount", "--", point], check=False).returncode:
            # Somebody stands in it. No path leads there any more then, so that nothing of it is removed.
            run(["umount", "--lazy", "--", point])


def _mount_points():
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return [re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4]) for line in lines]


def remove_tree(folder):
    """
    Remove a run folder, whatever containers' roots and tests have made in it: trees without end, links that lead
    nowhere, files that nobody may delete. Several at once: containers' files are many, and the disk takes its time.
    """
    if not folder.exists():
        return
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(_remove, folder.glob("*/vz/private/*")))
    if not _remove(folder):
        # What is left is immutable or append-only, such as a mount point that a migration has closed. By folders: a
        # path can be longer than any program takes.
        fixed = ["-xdev", "(", "-type", "d", "-o", "-type", "f", ")", "-execdir", "chattr", "-f", "-i", "-a"]
        run(["find", folder, *fixed, "--", "{}", "+"], timeout=REMOVAL, check=False)
    if not _remove(folder):
        run(["rm", "-rf", "--one-file-system", "--", folder], timeout=REMOVAL)  # once more, for its words


def _remove(path):
    """Whether nothing is left of a file or folder; rm(1) goes from folder to folder, so that no tree is too deep."""
    run(["rm", "-rf", "--one-file-system", "--", path], timeout=REMOVAL, check=False)
    return not os.path.lexists(path)


def stop_cgroup(path):
    """Kill all processes in a cgroup and below it, wait until they are gone, and remove it."""
    if not path.exists():
        return
    deadline = time.monotonic() + 20
    pids = _pids_in(path)
    while _populated(path):
        _kill_all(path)
        if time.monotonic() > deadline:
            raise LabError(f"processes in {path} do not end")
        time.sleep(0.02)
    _wait_until_reaped(pids)
    for folder, _, _ in os.walk(path, topdown=False):
        os.rmdir(folder)


def _wait_until_reaped(pids, patience=3):
    """Dead is not gone: the machine's init takes note of our dead a little later. (If it never does, so be it.)"""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}") for pid in pids):
        time.sleep(0.02)


def _pids_in(path):
    found = []
    for folder, _, _ in os.walk(path):
        try:
            found += Path(folder, "cgroup.procs").read_text().split()
        except OSError:
            continue  # The group is gone already.
    return found


def _populated(path):
    return "populated 1" in (path / "cgroup.events").read_text()


def _kill_all(path):
    try:
        (path / "cgroup.kill").write_text("1")
        return
    except OSError:
        pass  # Kernels before 5.14 have none: one by one, until nobody is left.
    for pid in _pids_in(path):
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            continue
