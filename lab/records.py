#!/usr/bin/env python3
"""Check the records that a container's recorder writes: is any lost, doubled or altered?

    lab/records.py FILE...            verify each file; exit code 1 if one is not whole
    lab/records.py --follows OLD NEW  NEW must begin with every byte of OLD (nothing written before the move is missing)

A record is one line (lab/guest/recorder.c):

    R <sequence> <boot> <kind> <milliseconds> <hash of the record before> <hash of this line so far>
"""

import json
import re
import sys
from dataclasses import asdict, dataclass, field

RECORD = re.compile(rb"(R (\d+) (\d+) (start|beat|stop) (\d+) ([0-9a-f]{16}) )([0-9a-f]{16})")
FNV_START = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
NO_HASH = "0" * 16


@dataclass
class Boot:
    """One life of the recorder."""

    boot: int
    first: int
    last: int
    began_ms: int
    ended_ms: int
    started: bool = False  # has its start record
    stopped: bool = False  # has its stop record: it was told to stop and lost nothing at its end


@dataclass
class Verdict:
    """What a stream of records is worth."""

    records: int = 0
    first: int = 0
    last: int = 0
    gaps: list = field(default_factory=list)  # [first missing, last missing]
    doubles: list = field(default_factory=list)  # sequence numbers that came again, or too late
    damaged: list = field(default_factory=list)  # line numbers that are no record or whose hash is wrong
    broken_links: list = field(default_factory=list)  # sequence numbers whose record before is another one
    unfinished: list = field(default_factory=list)  # boots, other than the last, without a stop record
    torn: bool = False  # the last line has no end
    boots: list = field(default_factory=list)

    @property
    def ok(self):
        """Nothing lost, doubled or altered. (An unfinished boot is a container that was killed, or a lost end.)"""
        faults = self.gaps or self.doubles or self.damaged or self.broken_links
        return self.records > 0 and not faults and not self.torn

    def faults(self):
        """What is wrong, one sentence each."""
        said = [f"records {a} to {b} are missing" for a, b in self.gaps]
        said += [f"record {number} is there twice" for number in self.doubles]
        said += [f"line {number} is damaged" for number in self.damaged]
        said += [f"record {number} does not follow the record before it" for number in self.broken_links]
        said += ["the last line is torn"] if self.torn else []
        return said or ([] if self.records else ["there are no records"])


def fnv(data):
    """FNV-1a of 64 bits, as the recorder computes it."""
    value = FNV_START
    for byte in data:
        value = ((value ^ byte) * FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


def verify(data):
    """Judge a whole stream (bytes), from its first record on."""
    verdict = Verdict(torn=bool(data) and not data.endswith(b"\n"))
    previous, boots = NO_HASH, {}
    lines = data.split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        match = RECORD.fullmatch(line)
        if not match or f"{fnv(match[1]):016x}".encode() != match[7]:
            verdict.damaged.append(number)
            continue
        sequence, expected = int(match[2]), verdict.last + 1
        if sequence < expected:
            verdict.doubles.append(sequence)
            continue
        if sequence > expected:
            verdict.gaps.append([expected, sequence - 1])
        elif match[6].decode() != previous:
            verdict.broken_links.append(sequence)
        verdict.first = verdict.first or sequence
        verdict.last, previous = sequence, match[7].decode()
        verdict.records += 1
        _count_boot(boots, match, sequence)
    verdict.boots = list(boots.values())
    verdict.unfinished = [boot.boot for boot in verdict.boots[:-1] if not boot.stopped]
    return verdict


def _count_boot(boots, match, sequence):
    moment, kind = int(match[5]), match[4]
    boot = boots.setdefault(int(match[3]), Boot(int(match[3]), sequence, sequence, moment, moment))
    boot.last, boot.ended_ms = sequence, moment
    boot.started |= kind == b"start"
    boot.stopped |= kind == b"stop"


def verify_file(path):
    """Judge a file of records."""
    with open(path, "rb") as file:
        return verify(file.read())


def follows(old, new):
    """Whether NEW (bytes) begins with every byte of OLD: the proof that a move lost nothing written before it."""
    return len(old) <= len(new) and new[: len(old)] == old


def main(argv):
    """Verify the files named on the command line."""
    if len(argv) == 3 and argv[0] == "--follows":
        with open(argv[1], "rb") as old, open(argv[2], "rb") as new:
            if follows(old.read(), new.read()):
                return 0
        print(f"{argv[2]} does not begin with what is in {argv[1]}")
        return 1
    as_json = argv[:1] == ["--json"]
    files = argv[1:] if as_json else argv
    if not files or files[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    verdicts = {path: verify_file(path) for path in files}
    for path, verdict in verdicts.items():
        if as_json:
            print(json.dumps({"file": path, "ok": verdict.ok, **asdict(verdict)}))
            continue
        print(
            f"{path}: {verdict.records} records in {len(verdict.boots)} boots: {'ok' if verdict.ok else 'NOT WHOLE'}"
        )
        for fault in verdict.faults():
            print(f"  {fault}")
    return 0 if all(verdict.ok for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
