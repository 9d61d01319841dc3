"""Worlds in which vzctl can be let loose: fresh mount, pid, network and IPC namespaces, gone when closed."""

import json
import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
LAB_VZCTL = PROJECT / "lab" / "openvz"
PYTHON = ("/usr/bin/python3", "-IS")  # as the programs of the lab are started
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def under_test():
    """Return the directory of the vzctl and vzlist that are tested."""
    return Path(os.environ.get("VZCTL_UNDER_TEST", LAB_VZCTL))


def is_real():
    """Tell whether a real vzctl is tested."""
    return "VZCTL_UNDER_TEST" in os.environ


def busybox():
    """Return a statically linked busybox for container trees, None if there is none."""
    places = [
        Path("/bin/busybox"),
        Path("/usr/bin/busybox"),
        *PROJECT.glob("lab/cache/image-*/usr/bin/busybox"),
    ]
    return next(
        (path for path in places if path.is_file() and b"ld-linux" not in path.read_bytes()[:4096]), None
    )


def why_not():
    """Return why no world can be made here, None if one can."""
    if os.geteuid() != 0:
        return "needs root"
    if busybox() is None:
        return "needs a static busybox (Debian: busybox-static)"
    if shutil.which("unshare") is None:
        return "needs unshare (Debian: util-linux)"
    tried = subprocess.run(["unshare", "-mpnif", "true"], capture_output=True, text=True, timeout=30)
    return f"needs namespaces: {tried.stderr.strip()}" if tried.returncode else None


def environment():
    """Return what the programs that are tested find in their environment."""
    return {"PATH": f"{under_test()}:{PATH}", "LC_ALL": "C", "HOME": "/"}


def needs_no_shell(command):
    """Return the words of a command line that only starts vzctl or vzlist, None for any other."""
    if set(command) & set('\n\\"`$*?[]~#!;&|<>(){}'):
        return None
    words = shlex.split(command)
    return words if words[0] in ("vzctl", "vzlist") else None


class Worlds:
    """The process that makes worlds; use it in a `with` statement."""

    def __enter__(self):
        self.door, inside = socket.socketpair()
        command = [*PYTHON, HERE / "world_inside.py", under_test(), busybox()]
        with inside:
            self.process = subprocess.Popen(
                command, stdin=inside, stdout=subprocess.DEVNULL, env=environment(), cwd="/"
            )
        return self

    def __exit__(self, *exception):
        self.door.close()
        self.process.wait(timeout=60)

    def open(self):
        """Return a new world."""
        line, inside = socket.socketpair()
        with inside:
            socket.send_fds(self.door, [b"."], [inside.fileno()])
        return World(line)


class World:
    """One world; use it in a `with` statement."""

    def __init__(self, line):
        self.line = line
        self.answers = line.makefile(encoding="utf-8")

    def __enter__(self):
        self.ask("set_up")
        return self

    def __exit__(self, *exception):
        self.answers.close()
        self.line.close()  # process 1 of the namespace ends with it, and with that all that runs in there

    def ask(self, name, *arguments):
        """Let a function run inside; returns its result."""
        self.line.sendall(json.dumps([name, arguments]).encode() + b"\n")
        line = self.answers.readline()
        assert line, "the world ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def build(self, given, synthetic=False):
        """Build what a case gives."""
        self.ask("build", given, synthetic)

    def run(self, command):
        """Run a shell command line; returns its rc, stdout and stderr."""
        return self.ask("run", command)

    def run_quickly(self, command):
        """Run a command line as run() does, without starting Python anew for a program of the lab.

        Not for what others have to recognize by its name: vzeventd looks for a vzctl that stops a container.
        """
        words = None if is_real() else needs_no_shell(command)
        return self.run(command) if words is None else self.ask("call", words)

    def look(self, path):
        """Describe a file."""
        return self.ask("look", path)
