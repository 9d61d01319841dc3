"""The lab's own commands, and the entry points of its child processes."""

import argparse
import json

from . import boot, inside, network, own_kernel
from .faults import FAULTS, fault, heal, power_on
from .fleet import Lab
from .places import DEFAULT_CTS, DEFAULT_NODES, MAX_CTS, MAX_NODES
from .setup import is_set_up, set_up

INTERNAL = {
    "_inside": lambda words: inside.main(words[0]),
    "_boot": lambda words: boot.main(words[0]),
    "_guest": lambda words: own_kernel.main(words[0]),
    "_keep": lambda words: network.keep(*words),
}


def run(argv):
    """Run a command; returns the exit code."""
    if argv and argv[0] in INTERNAL:
        return INTERNAL[argv[0]](argv[1:])
    options = _parser().parse_args(argv)
    return options.run(Lab(), options) or 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="lab/lab", description="A whole fleet on one machine. See lab/README.md."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, text):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("set-up", _set_up, "make what the lab needs, once")
    up = command("up", _up, "bring the lab up")
    up.add_argument("--nodes", type=_number(1, MAX_NODES), help=f"OpenVZ nodes (default {DEFAULT_NODES})")
    up.add_argument(
        "--cts", type=_number(0, MAX_CTS), help=f"containers on each node (default {DEFAULT_CTS})"
    )
    up.add_argument(
        "--debian",
        type=lambda text: text.split(","),
        metavar="NODE[,NODE]...",
        help="nodes that are laid out as by Debian's vzctl; the others are as by Red Hat's",
    )
    up.add_argument(
        "--kernel-node",
        metavar="NODE",
        help="a node with a kernel of its own (user-mode-linux), which mounts NFS with that kernel's client",
    )
    command("down", lambda lab, options: lab.down(), "take the lab down, whatever state it is in")
    status = command("status", _status, "say what is up")
    status.add_argument("--json", action="store_true")
    start = command("boot", lambda lab, options: power_on(lab, options.host), "boot a host that is off")
    start.add_argument("host", metavar="HOST")
    broken = command("fault", _fault, "break something")
    broken.add_argument("name", metavar="NAME", help=", ".join(FAULTS))
    broken.add_argument("hosts", metavar="HOST", nargs="*")
    command("heal", lambda lab, options: heal(lab), "undo all faults")
    command("exec", None, "run a command on a host: exec HOST -- COMMAND [ARGUMENT]...")
    command("salt", None, "run salt on the master")
    command("salt-run", None, "run salt-run on the master")
    return parser


def _number(low, high):
    def convert(text):
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}: not a number from {low} to {high}")
        return int(text)

    return convert


def _set_up(lab, options):
    if is_set_up():
        print("set-up: nothing to do")
    else:
        set_up()


def _fault(lab, options):
    fault(lab, options.name, options.hosts)


def _up(lab, options):
    lab.up(options.nodes, options.cts, options.debian, options.kernel_node)


def _status(lab, options):
    status = lab.status()
    if options.json:
        print(json.dumps(status, indent=1))
        return 0 if status["up"] else 3
    if not status["hosts"]:
        print(f"lab {lab.name} is not up")
        return 3
    print(f"lab {lab.name}: {status['nodes']} nodes, NFS client: {status['nfs_client']}")
    for name, host in status["hosts"].items():
        line = f"{name:8} {host['address']:12} {'up' if host['up'] else 'OFF'}"
        if "containers" in host:
            running = [ctid for ctid, container in host["containers"].items() if container["running"]]
            line += f"  {len(running)} of {len(host['containers'])} containers run"
            line += "  with a kernel of its own" if host["kernel"] == "its own" else ""
        print(line)
    return 0 if status["up"] else 3
