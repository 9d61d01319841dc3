"""What the tests of the migration do to a fleet: run the orchestration, hold it at a point, look for changes."""

import json
import re

import checker
from lab_client import wait_for

GATE = """#!/bin/sh
# An action script of the node's owner: vzctl runs it at each start, once the container's tree is mounted.
[ -e /run/gate/closed ] || exit 0
: >"/run/gate/waiting-$VEID"
n=0
while [ -e /run/gate/closed ]; do
    n=$((n + 1)); [ "$n" -gt 2500 ] && exit 1; sleep 0.1
done
"""
GATE_PATH = "/etc/vz/conf/vps.mount"
#: On a node that has moved: the template from which `vzctl create` makes a container, out of an old local copy.
TEMPLATE = """
set -- /vz/private/[0-9]*
mkdir -p /vz/template/cache
tar -C "$1" --numeric-owner -czf /vz/template/cache/centos-6-x86_64.tar.gz .
"""
ARCHIVE = ("sh", "-ec", TEMPLATE)


class Gate:
    """Holds every start on a node while it is closed: the moment between the last stop and the first start."""

    def __init__(self, lab, node):
        self.lab, self.node = lab, node

    def install(self):
        """Put the action script in place."""
        self.lab.write(self.node, GATE_PATH, GATE, "0755")
        self.lab.on(self.node, "mkdir", "-p", "/run/gate")

    def close(self):
        self.lab.on(self.node, "sh", "-c", "rm -f /run/gate/waiting-*; : >/run/gate/closed")

    def open(self):
        self.lab.on(self.node, "rm", "-f", "/run/gate/closed")

    def wait(self, command):
        """Wait until a start stands at the gate; a command that ends before is a failure."""

        def reached():
            assert not command.ended, (
                f"ended with {command.wait()} before a start on {self.node}\n{command.err}"
            )
            return "waiting" in self.lab.on(self.node, "ls", "/run/gate")

        wait_for(reached, f"a start on {self.node}", 300)


class Run:
    """What an orchestration said when it had ended."""

    def __init__(self, command):
        self.code = command.wait()
        self.lines, self.err, self.out = command.lines, command.err, command.out
        self.master = json.loads(self.out[self.out.index("{") :])["data"]["master"]

    def __repr__(self):
        bad = [f"{state['__id__']}: {state['comment']}" for state in self.states(None) if not state["result"]]
        return "\n".join([f"exit code {self.code}", *bad, self.err])

    def states(self, node):
        """The states that ran on a node, in order, or with None those of the orchestration."""
        if node is None:
            return sorted(self.master.values(), key=lambda state: state["__run_num__"])
        found = []
        steps = nested(nested(self.master, "The nodes move"), f"{node} moves to NFS")
        for part in in_order(nested(steps, f"{node} goes through every part")):
            said = part["changes"].get("return")
            found += in_order(said.get(node) or {}) if isinstance(said, dict) else []
        return found

    @property
    def text(self):
        """Everything that it said."""
        return f"{self.err}\n{self.out}"


def nested(states, name):
    """The states of an orchestration that a step of another one ran; none when it did not get there."""
    step = next((state for state in states.values() if state["__id__"] == name), {})
    said = (step.get("changes") or {}).get("return")
    return said.get("data", {}).get("master", {}) if isinstance(said, dict) else {}


def in_order(states):
    return sorted(states.values(), key=lambda state: state["__run_num__"])


def migrate(lab, *words):
    """Run the migration to its end."""
    return Run(start(lab, *words))


def start(lab, *words):
    """Start the migration."""
    return lab.start("salt-run", "state.orch", "migrate", "--out=json", *words)


def everything(lab, nodes):
    """What a run that changes nothing leaves as it is: /etc, /vz, journal, who runs, the SAN's records, monitoring."""
    found = {}
    for node in nodes:
        there = lab.on(node, "sh", "-c", "ls -d /etc /vz /var/lib/vz 2>/dev/null; true").split()
        files = lab.ask(node, checker.TREE, "--steady", *there)
        found[node] = {
            "files": {
                f"{top}/{name}": entry for top, names in files.items() for name, entry in names.items()
            },
            "journal": lab.try_on(node, "cat", "/var/lib/ringfree/journal.json")[1],
            "inits": pids(lab, node),
        }
    confs = lab.ask(checker.SAN, checker.TREE, "/rf-images/vzconf", "/rf-images/pbx/.ringfree/owner")
    # Without the folders themselves: the write-probe makes a file in them and takes it away again.
    found["san"] = {
        f"{top}/{name}": e for top, names in confs.items() for name, e in names.items() if name != "."
    }
    found["monitoring"] = monitoring(lab)
    return found


def minion_answers(lab, node):
    """Wait until the minion of a node answers."""
    ping = ("--out=json", "--static", "-t", "5", node, "test.ping")
    wait_for(lambda: f'"{node}": true' in lab.salt(*ping)[1], f"the minion of {node}", 180)


#: A job of ours that looks at a share, with less patience than a real one.
LOOK = """
import os, sys
sys.path.insert(0, "/var/cache/salt/minion/extmods/utils")
import ringfree_hang
ringfree_hang.EVERY = 0.5
ringfree_hang.watch(5)
print(os.listdir(sys.argv[1]))
"""


def looks(lab, node, path):
    """What becomes of a job of ours that looks at a path: its exit code and what it said."""
    # With a shell round it: ssh, by which a node with its own kernel is reached, hands on no signal that ended it.
    return lab.try_on(node, "sh", "-c", 'python3 -I -c "$1" "$2"; exit $?', "sh", LOOK, path, patience=120)


def pids(lab, node):
    """Container id to the identity of its first process."""
    return {
        checker.ctid_of(init): [init["pid"], init["born"]] for init in lab.ask(node, checker.PROBE)["inits"]
    }


def monitoring(lab):
    """Unit to its state and main process."""
    shown = lab.on("mon001", "systemctl", "show", "-p", "Id,ActiveState,MainPID", "nagios", "shinken")
    return sorted(re.split(r"\n\n", shown.strip()))


def changed(before, after, place=""):
    """Where two results of everything differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [f"{place}: {before} -> {after}"]
    return [
        text
        for key in sorted(before.keys() | after.keys(), key=str)
        for text in changed(before.get(key), after.get(key), f"{place} {key}")
    ]


class Overlay:
    """The worked pillar with some keys changed, in the folder that the lab's master looks into first."""

    def __init__(self, lab):
        self.lab, self.written = lab, set()

    def write(self, name, *changes):
        """Change texts (old, new) of pillar/ringfree/NAME.sls."""
        text = self.lab.on("master", "cat", f"/srv/ringfree/pillar/ringfree/{name}.sls")
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}.sls"
            text = text.replace(old, new)
        self.written.add(f"/srv/lab-pillar/ringfree/{name}.sls")
        self.lab.write("master", f"/srv/lab-pillar/ringfree/{name}.sls", text)

    def restore(self):
        """The pillar as it is in the checkout."""
        for path in self.written:
            self.lab.on("master", "rm", "-f", path)
        self.written.clear()
