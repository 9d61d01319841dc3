"""The hosts of a lab that is up: which there are, where they run, and a command on one of them.

Tests run thousands of commands, so this and what it imports stay few: the commands of the lab itself are in `fleet`."""

import json
from pathlib import Path

from . import enter, places
from .shell import LabError


class Hosts:
    """What there is of one lab of this checkout."""

    def __init__(self, name=None):
        self.name = name or places.lab_name()
        self.folder = places.run_folder(self.name)

    @property
    def cgroup(self):
        """The cgroup that holds every process of this lab."""
        return places.cgroup_of(self.folder)

    def settings(self):
        """What this lab was brought up with, or None if it is not up."""
        try:
            return json.loads((self.folder / "lab.json").read_text())
        except FileNotFoundError:
            return None

    def require(self):
        """The settings of a lab that is up."""
        settings = self.settings()
        if settings is None:
            raise LabError(f"lab {self.name} is not up; bring it up with: lab/lab up")
        return settings

    def hosts(self):
        """The hosts of a lab that is up."""
        return places.fleet(self.require()["nodes"])

    def host(self, name):
        """One host by its name."""
        for host in self.hosts():
            if host.name == name:
                return host
        raise LabError(f"{name}: no such host; there are {', '.join(host.name for host in self.hosts())}")

    def pid(self, name):
        """The pid of a host's systemd, or None if the host is off."""
        return self._living(self.folder / name / "pid", self.cgroup / name)

    def pid_of_running(self, name):
        """The pid of the systemd of a host that is on."""
        pid = self.pid(self.host(name).name)
        if pid is None:
            raise LabError(f"{name} is off; boot it with: lab/lab boot {name}")
        return pid

    def keeper(self):
        """The pid of the process that keeps the network, or None."""
        return self._living(self.folder / "keeper.pid", self.cgroup / "keeper")

    @staticmethod
    def _living(file, cgroup):
        # The cgroup tells a process of this lab from a stranger that was given the same number.
        try:
            pid = int(file.read_text())
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, ValueError):
            return None
        own = [line[3:] for line in lines if line.startswith("0::")]
        relative = "/" + str(cgroup.relative_to(places.cgroup_mount()))
        inside = own and (own[0] == relative or own[0].startswith(relative + "/") or f"{relative}/" in own[0])
        return pid if inside and state != "Z" else None

    def enter(self, name, argv):
        """Run a command on a host in this terminal; returns its exit code."""
        pid = self.pid_of_running(name)
        if self.has_own_kernel(name):
            from . import own_kernel  # here: other commands are begun in half the time without it

            own_kernel.enter(self.folder / name, self.keeper(), argv)
        return enter.enter(pid, self.cgroup / name, argv)

    def has_own_kernel(self, name):
        """Whether a host is a guest with a kernel of its own, and no set of namespaces."""
        return (self.folder / name / "disk.ext4").exists()
