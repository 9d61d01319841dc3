"""A lab as the tests see it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "lab"))

import records  # noqa: E402 - found beside lab/lab

SSH = "ssh -i /etc/ringfree/ssh/id_ed25519 -o UserKnownHostsFile=/etc/ringfree/ssh/known_hosts".split()
SSH += ["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]


class LabUnderTest:
    """A lab, driven by its command line as anybody else does."""

    def __init__(self, name):
        self.name = name
        self.folder = CHECKOUT / "lab" / "run" / name
        self.ssh = SSH

    def command(self, *words, check=True, timeout=120):
        """Run one lab/lab command; returns subprocess's result."""
        argv = [sys.executable, str(CHECKOUT / "lab" / "lab"), *map(str, words)]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            env={**os.environ, "LAB": self.name},
            stdin=subprocess.DEVNULL,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *words):
        """Start one lab/lab command and do not wait for it."""
        argv = [sys.executable, str(CHECKOUT / "lab" / "lab"), *map(str, words)]
        env = {**os.environ, "LAB": self.name}
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)

    def up(self, *options):
        """Bring it up."""
        return self.command("up", *options, timeout=600)

    def down(self):
        """Take it down."""
        return self.command("down")

    def exec(self, host, *argv, check=True, timeout=120):
        """Run a command on a host."""
        return self.command("exec", host, "--", *argv, check=check, timeout=timeout)

    def sh(self, host, script, check=True, timeout=120):
        """Run a bash script on a host; returns what it prints."""
        return self.exec(host, "bash", "-c", script, check=check, timeout=timeout).stdout

    def salt(self, *args, check=True, timeout=120):
        """Run salt on the master; returns what each minion answered."""
        done = self.command("salt", "--out=json", "--static", *args, check=check, timeout=timeout)
        return json.loads(done.stdout)

    def salt_run(self, *args, check=True, timeout=600):
        """Run salt-run on the master."""
        return self.command("salt-run", *args, check=check, timeout=timeout)

    def fault(self, name, *hosts):
        """Break something."""
        return self.command("fault", name, *hosts)

    def heal(self):
        """Undo all faults."""
        return self.command("heal", timeout=300)

    def status(self):
        """What `status --json` says."""
        return json.loads(self.command("status", "--json", check=False).stdout)

    def node_of(self, ctid):
        """The node that a container of that number is at home on."""
        return f"node{int(ctid) // 100:03}"

    def vzctl(self, ctid, action, *args, check=True):
        """Run vzctl for a container on its node."""
        return self.exec(self.node_of(ctid), "vzctl", action, str(ctid), *args, check=check)

    def records_of(self, ctid):
        """The records of a running container so far, as bytes."""
        pid = self.sh(self.node_of(ctid), f"cat /var/lib/vzctl/vepid/{int(ctid)}").strip()
        return self.sh(self.node_of(ctid), f"cat /proc/{pid}/root/var/spool/records/records").encode()

    def verdict_of(self, ctid):
        """What the records of a running container are worth."""
        return records.verify(self.records_of(ctid))

    @staticmethod
    def wait_for(condition, what, patience=60):
        """Wait until CONDITION() is true."""
        deadline = time.monotonic() + patience
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"waited {patience} s in vain for {what}"
            time.sleep(0.1)
        return answer
