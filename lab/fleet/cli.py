"""The command line of the lab: a command on a host, or one of the lab's own (`commands`)."""

import sys

from . import enter
from .hosts import Hosts
from .shell import LabError


def main(argv):
    """Run one command of the lab; returns the exit code."""
    try:
        return _command(argv)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def _command(argv):
    # What follows these belongs to somebody else, dashes and all.
    if argv and argv[0] in ("salt", "salt-run"):
        return Hosts().enter("master", argv)
    if argv and argv[0] == "exec" and argv[1:2] not in ([], ["-h"], ["--help"]):
        words = argv[2:]
        if words[:1] == ["--"]:
            words = words[1:]
        if not words:
            raise LabError("usage: lab/lab exec HOST -- COMMAND [ARGUMENT]...")
        return Hosts().enter(argv[1], words)
    if argv and argv[0] == "_enter":
        return enter.enter(int(argv[1]), argv[2], argv[3:])
    from . import commands  # here: a command on a host is begun in half the time without it

    return commands.run(argv)
