"""What the sweep does to its node: bring it to a point, break something there, take a way out, look at what is left."""

import json
import re
import time
from pathlib import Path

import checker
import local_side
from fleet_under_test import Overlay, Run, changed, minion_answers, start
from lab_client import wait_for

NODE = "node001"
CTIDS = (101, 102)
STAND_IN = (Path(__file__).resolve().parent / "event_at_point.py").read_text(encoding="utf-8")
STANDING = "until [ -e /run/sweep/standing ]; do sleep 0.05; done"
#: What the independent checks look at besides: locks, timers, programs and files of ours that nobody cleaned up.
LEFT = """
for lock in /vz/lock/*.lck; do [ ! -e "$lock" ] || echo "lock $lock"; done
systemctl list-units --all --plain --no-legend 'ringfree*' | sed 's/^/unit /'
systemctl list-timers --all --no-legend | grep ringfree | sed 's/^/timer /'
for name in rsync vzctl; do pgrep -x -a "$name" | sed 's/^/process /'; done
find /etc /var/lib/ringfree /vz/private -xdev -maxdepth 2 -name '.*.ringfree' | sed 's/^/file /'
"""


class NodeUnderSweep:
    """The lab's node with the stand-in for Salt's event module, and what it was before everything."""

    def __init__(self, lab):
        self.lab = lab
        self.spoilt = False  # whether a case has left the fleet in a state of its own
        self.prepare()

    def prepare(self):
        """The stand-in takes its place on a fresh fleet, and what there is now is remembered."""
        lab = self.lab
        self._pillar()
        lab.write(NODE, "/srv/sweep/event.py", STAND_IN)
        lab.write(NODE, "/etc/salt/minion.d/sweep.conf", "module_dirs: [/srv/sweep]\n")
        lab.on(NODE, "systemctl", "restart", "salt-minion")
        minion_answers(lab, NODE)
        self.before = checker.remember(lab, [NODE])[NODE]
        self.trees = self._trees()
        self.cut = False  # whether the power was ever cut: records without a stop are right from then on

    def _pillar(self):
        """Deadlines as short as can be, for containers that are quick, and no updates of the node itself."""
        overlay = Overlay(self.lab)
        overlay.write(
            "init",
            ("  timeout: 120", "  timeout: 30"),
            ("  node: true", "  node: false"),
            ("    answer: 120", "    answer: 10"),
            ("    idle: 60", "    idle: 10"),
            ("    passes: 4", "    passes: 1"),
            ("    load_per_cpu: 4.0", "    load_per_cpu: 1000"),
        )
        lacking = "      revnat: [asterisk]\n      revnat beta: [asterisk]"
        overlay.write("node001", ("      - Epsilon\n", ""), (lacking, "      PBX: [postfix]"))

    # --- runs ---------------------------------------------------------------------------------------------------------

    def start(self, what, data=None):
        """Start a migration or a rollback."""
        if what == "migrate":
            return start(self.lab)
        pillar = json.dumps({"nodes": [NODE], **({"data": data} if data else {})})
        return self.lab.start("salt-run", "state.orch", "rollback", "--out=json", f"pillar={pillar}")

    def must(self, what, data=None):
        """A migration or a rollback that has to end well."""
        run = Run(self.start(what, data))
        assert run.code == 0, f"{what} from {self.journal().get('state')}: {run}"
        return run

    def be(self, state):
        """Bring the node to rest on a store; a fresh fleet is brought up when the case before has failed."""
        if self.spoilt:
            self.lab.up(nodes=1, cts=2)
            self.prepare()
        self.spoilt = True
        if self.state() != state:
            self.must({"nfs": "migrate", "local": "rollback"}[state])
        if state == "local":
            self.forget()

    def forget(self):
        """Take away what an earlier migration left ready, so that the next one has something to do in every step."""
        self.lab.on(checker.SAN, "find", "/rf-images/vzconf", "-mindepth", 1, "-delete")
        self.lab.on(NODE, "sh", "-c", "rm -f /etc/ringfree/nfs*")

    def journal(self):
        """The node's journal; an empty one when there is none."""
        code, text = self.lab.try_on(NODE, "cat", "/var/lib/ringfree/journal.json")
        return {} if code else json.loads(text)

    def state(self):
        """What the journal says."""
        return self.journal().get("state", "local")

    # --- points -------------------------------------------------------------------------------------------------------

    def arm(self, point, then):
        """At this point, once, stand or break."""
        self.lab.on(NODE, "sh", "-c", "rm -rf /run/sweep && mkdir /run/sweep")
        told = {"point": [point.step, point.phase, point.each], "then": then}
        self.lab.write(NODE, "/run/sweep/point", json.dumps(told))

    def stand(self, command):
        """Wait until the node stands at the point; a run that ends before is a failure."""
        waiter = self.lab.start("exec", NODE, "--", "sh", "-c", STANDING)
        try:
            wait_for(lambda: waiter.ended or command.ended, "the node to stand at the point", 180)
            assert waiter.ended, f"ended with {command.wait()} before it stood there\n{command.err}"
        finally:
            waiter.end()

    def passed(self):
        """The points that were passed since the last arm."""
        lines = self.lab.on(NODE, "cat", "/run/sweep/passed").splitlines()
        return [tuple(json.loads(line)) for line in lines]

    def let_go(self):
        self.lab.on(NODE, "sh", "-c", "mkdir -p /run/sweep && : >/run/sweep/go")

    def kill(self, command):
        """SIGKILL salt-run."""
        self.lab.on("master", "pkill", "-KILL", "-f", "[s]alt-run state.orch")
        assert command.wait() == 137, command.err

    # --- what there is ------------------------------------------------------------------------------------------------

    def _trees(self):
        """The local private areas, without what running containers write all the time."""
        folders = [f"/vz/private/{ctid}" for ctid in CTIDS]
        return self.lab.ask(NODE, checker.TREE, "--steady", *folders)

    def streams(self, store):
        """The records of each container on a store, to their last whole line."""
        return local_side.streams(self.lab, NODE, CTIDS, store)

    def left(self):
        """What nobody cleaned up."""
        found = self.lab.on(NODE, "sh", "-c", LEFT).splitlines()
        code, _ = self.lab.try_on("master", "test", "-e", "/var/cache/salt/master/ringfree/lock")
        return found + ["the fleet's lock is held"] * (code == 0)

    def faults(self, state):
        """Everything that is not as it must be of a node at rest on a store."""
        found = [f"the journal says {self.state()}"] if self.state() != state else []
        found += self.left()
        if state == "local":
            found += local_side.faults(self.lab, NODE, self.before)
            return found + changed(self.trees, self._trees(), "local tree")
        found += checker.faults(self.lab, {NODE: self.before})
        cut_short = r"boot \d+ has no end|local copy does not end with a stop"
        return [fault for fault in found if not (self.cut and re.search(cut_short, fault))]


# --- what breaks ------------------------------------------------------------------------------------------------------


def break_salt_run(node, command, out):
    """salt-run dies; the job on the node goes on without it."""
    node.kill(command)
    node.let_go()


def break_minion(node, command, out):
    """The minion dies with its jobs and is started again; salt-run lives only where it is the way out."""
    node.lab.must("fault", "minion-kill", NODE)
    if out != "itself":
        node.kill(command)
    node.lab.must("heal")


def break_master(node, command, out):
    """The master dies, and salt-run with it; the job on the node goes on, and the master is started again."""
    node.lab.must("fault", "master-kill", "master")
    node.kill(command)
    node.let_go()
    node.lab.must("heal")


def break_power(node, command, out):
    """The node loses its power and is booted again; salt-run lives only where it is the way out."""
    node.cut = True
    node.lab.must("fault", "power-cut", NODE)
    if out != "itself":
        node.kill(command)
    node.lab.must("heal")


KILLS = {
    "salt-run": break_salt_run,
    "minion": break_minion,
    "master": break_master,
    "power": break_power,
}


# --- ways out ---------------------------------------------------------------------------------------------------------


def out_itself(node, command, data):
    """The run has taken the node back, and ends as a failure; or nothing was left to do of what was cut short."""
    code = command.wait()
    assert code in (0, 1), command.err
    return "local" if code else "nfs"


def out_migrate(node, command, data):
    """The migration is typed again and goes on."""
    node.must("migrate")
    return "nfs"


def out_rollback(node, command, data):
    """The way back is typed."""
    node.must("rollback", data)
    return "local"


def out_dead_man(node, command, data):
    """Its deadline is now; what it leaves to others, the monitoring, comes back with the next run."""
    node.lab.on(NODE, "salt-call", "ringfree_deadman.arm", str(int(time.time())))
    wait_for(lambda: node.state() == "local", "the dead-man to bring the node back", 300)
    gone = ("test", "!", "-e", "/var/lib/ringfree/deadman")
    wait_for(lambda: node.lab.try_on(NODE, *gone)[0] == 0, "the dead-man to disarm itself", 60)
    node.must("rollback")
    return "local"


WAYS = {
    "itself": out_itself,
    "migrate": out_migrate,
    "rollback": out_rollback,
    "dead-man": out_dead_man,
}
