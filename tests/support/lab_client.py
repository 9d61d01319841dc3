"""A lab as its users have it: through the command lab/lab and nothing else."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path

#: Run by the tests' own Python: `env python3` may be a version manager's, which takes longer than most of the commands.
LAB = [sys.executable, "-S", str(Path(__file__).resolve().parents[2] / "lab" / "lab")]
PATIENCE = 600  # seconds; generous, because the machine may have other work
#: The labs that are up for tests of this process.
UP = []
SHOWN = 60_000  # characters of one section of evidence, its end
#: What a host says of itself when a test has failed.
JOURNALS = """
journal=/var/lib/ringfree/journal.json
[ ! -e $journal ] || { echo "# $journal"; cat $journal; echo; }
echo '# journalctl'; journalctl --no-pager --quiet --lines 60
[ ! -e /var/log/salt/minion ] || { echo '# /var/log/salt/minion'; tail -n 40 /var/log/salt/minion; }
"""


class Command:
    """A command of the lab that runs while the test looks at something else; its lines come as they are written."""

    def __init__(self, client, words):
        self.words = words
        self._process = subprocess.Popen(
            [*LAB, *words],
            env=client.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            start_new_session=True,
        )
        self.lines = []  # what it said on stderr: [seconds since the epoch, text]
        self._out = []
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=lambda: self._out.append(self._process.stdout.read()), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self):
        for line in self._process.stderr:
            self.lines.append([time.time(), line.rstrip("\n")])

    @property
    def ended(self):
        """Whether the command has ended."""
        return self._process.poll() is not None

    def said(self, text):
        """Whether a line so far has this text."""
        return any(text in line for _, line in self.lines)

    def wait(self, patience=PATIENCE):
        """Wait for its end; returns the exit code."""
        code = self._process.wait(patience)
        for reader in self._readers:
            reader.join(10)
        return code

    @property
    def out(self):
        """What it wrote to stdout, once it has ended."""
        return "".join(self._out)

    @property
    def err(self):
        """What it wrote to stderr so far."""
        return "\n".join(line for _, line in self.lines)

    def end(self):
        """Make sure that it does not outlive its test."""
        if not self.ended:
            self._process.kill()
            self._process.wait(10)


class LabClient:
    """One lab of this checkout, by its name."""

    def __init__(self, name):
        self.name = name
        self.runs = deque(maxlen=3)  # the last commands that were started, to show what they said
        self.environment = {**os.environ, "LAB": name}

    def run(self, *words, stdin=b"", patience=PATIENCE):
        """Run a command of the lab; returns subprocess's result, with bytes."""
        return subprocess.run(
            [*LAB, *map(str, words)],
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=patience,
        )

    def must(self, *words, **options):
        """Run a command of the lab that has to succeed; returns its output, bytes."""
        done = self.run(*words, **options)
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"{' '.join(map(str, words))}: exit code {done.returncode}\n{said}"
        return done.stdout

    def start(self, *words):
        """Start a command of the lab."""
        command = Command(self, [str(word) for word in words])
        if words[0] == "salt-run":
            self.runs.append(command)
        return command

    def evidence(self):
        """What the last runs said, and the journals of the hosts: a list of (title, text)."""
        said = [(f"{' '.join(run.words)} in lab {self.name}", f"{run.err}\n{run.out}") for run in self.runs]
        try:
            hosts = json.loads(self.run("status", "--json", patience=60).stdout)["hosts"]
            for host, state in hosts.items():
                said.append((f"{host}", self._journals(host) if state["up"] else "is off"))
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            said.append((f"lab {self.name}", f"does not say how its hosts are: {error}"))
        return [(title, text[-SHOWN:]) for title, text in said]

    def _journals(self, host):
        try:
            return self.try_on(host, "sh", "-c", JOURNALS, patience=60)[1]
        except subprocess.SubprocessError as error:
            return f"does not answer: {error}"

    # --- hosts ----------------------------------------------------------------------------------------------------

    def on(self, host, *argv, **options):
        """Run a command on a host that has to succeed; returns its output as text."""
        return self.must("exec", host, "--", *argv, **options).decode(errors="surrogateescape")

    def try_on(self, host, *argv, **options):
        """Run a command on a host; returns exit code and everything it said."""
        done = self.run("exec", host, "--", *argv, **options)
        return done.returncode, (done.stdout + done.stderr).decode(errors="surrogateescape")

    def ask(self, host, script, *arguments):
        """Run a Python script (its source) on a host; returns the JSON that it prints."""
        return json.loads(
            self.must("exec", host, "--", "python3", "-I", "-", *arguments, stdin=script.encode())
        )

    def write(self, host, path, data, mode="0644"):
        """Write a file (text or bytes) on a host."""
        data = data.encode() if isinstance(data, str) else data
        folder = os.path.dirname(path)
        copy = 'umask 077; mkdir -p "$1" && cat > "$2.new" && chmod "$3" "$2.new" && mv "$2.new" "$2"'
        self.on(host, "sh", "-c", copy, "sh", folder, path, mode, stdin=data)

    # --- Salt -----------------------------------------------------------------------------------------------------

    def salt_run(self, *words):
        """Run salt-run; returns exit code and everything it said."""
        done = self.run("salt-run", *words)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def salt(self, *words):
        """Run salt; returns exit code and everything it said."""
        done = self.run("salt", *words)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    # --- the machine ----------------------------------------------------------------------------------------------

    def up(self, **size):
        """Bring the lab up, fresh; nodes, cts, debian as `lab/lab up` takes them."""
        self.down()
        words = [word for name, value in size.items() for word in (f"--{name}", value)]
        self.must("up", *words, patience=3600)

    def down(self):
        """Take the lab down, whatever state it is in."""
        self.must("down")


@contextmanager
def brought_up(name, **size):
    """A lab that is taken down at the end, whatever happens."""
    client = LabClient(name)
    UP.append(client)
    try:
        client.up(**size)
        yield client
    finally:
        UP.remove(client)
        client.down()


def wait_for(condition, what, patience=120):
    """Wait until CONDITION() is true, and return what it returned."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {patience} s in vain for {what}"
        time.sleep(0.3)  # less often: a look is a program, and takes its time from what is waited for
