"""What a killed job leaves behind: commands of ours whose parent is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
JOB = """
import sys
sys.path.insert(0, {utils!r})
import ringfree_command
ringfree_command.RECORDS = {records!r}
ringfree_command.run(sys.argv[1:], 3600)
"""


def until(condition, seconds=30):
    """Wait for something; returns it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found


def is_alive(pid):
    """Whether a process runs, and is not just waiting to be waited for."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class LeftBehind:
    """Jobs that run a command each and are killed; `bin` has the programs, `records` what is noted of them."""

    def __init__(self, bin_folder, records):
        self.bin, self.records, self.begun = Path(bin_folder), Path(records), []
        os.mkfifo(self.bin / "nobody-writes")
        #: What a program does that never ends by itself, with no process besides its own.
        self.never = f"read _ <{self.bin}/nobody-writes"

    def program(self, name, text):
        """A program to run: a shell script, so that its process has the program's name."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def __call__(self, *argv, noted=True):
        """
        Run a command in a job, kill the job; returns the command's process id.

        Without `noted` the record is as it is when the job is killed before it has noted which process it began.
        """
        before = set(self._files())
        code = JOB.format(utils=str(PROJECT / "_utils"), records=str(self.records))
        environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        job = subprocess.Popen([sys.executable, "-ISc", code, *argv], env=environment)
        path, lines = until(lambda: self._noted(before))
        job.kill()
        job.wait()
        pid = json.loads(lines[1])["pid"]
        self.begun.append(pid)
        if not noted:
            path.write_text(lines[0])
            # It has become the program by then, whatever interpreter that needs.
            until(lambda: argv[-1] in Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
        return pid

    def _files(self):
        return self.records.iterdir() if self.records.is_dir() else ()

    def _noted(self, before):
        for path in set(self._files()) - before:
            lines = path.read_text().splitlines(keepends=True)
            if len(lines) == 2 and lines[1].endswith("\n"):
                return path, lines
        return None

    def end(self):
        """End whatever is left of all of them."""
        for pid in self.begun:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
