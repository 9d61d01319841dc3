"""Worlds in which vzctl can be let loose: fresh mount, pid, network and IPC namespaces, gone when closed."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
LAB_VZCTL = PROJECT / "lab" / "openvz"


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


@functools.cache
def compile_once():
    """Compile the lab's modules where they are: in a world that would be in vain, and again and again."""
    if not is_real():
        command = ["/usr/bin/python3", "-m", "compileall", "-q", str(LAB_VZCTL / "lib")]
        subprocess.run(command, check=True, timeout=60)


class World:
    """One world; use it in a `with` statement."""

    def __enter__(self):
        compile_once()
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child", "/usr/bin/python3", "-IS",
             str(HERE / "world_inside.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )  # fmt: skip
        self.ask("set_up", str(under_test()), str(busybox()))
        return self

    def __exit__(self, *exception):
        self.process.kill()  # process 1 of the namespace goes with it, and with that all that runs in there
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def ask(self, name, *arguments):
        """Let a function run inside; returns its result."""
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
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

    def look(self, path):
        """Describe a file."""
        return self.ask("look", path)
