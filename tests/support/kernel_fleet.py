"""A fleet whose one node mounts NFS with a kernel of its own, and what its tests do to it."""

import json

import checker
import local_side
from fleet_under_test import Overlay
from lab_client import wait_for

NODE = "node001"
FLEET = {"nodes": 1, "cts": 3, "kernel-node": NODE}
CTIDS = [101, 102, 103]
HOME = f"{NODE} is back on local storage, 3 of 3 containers answer."


def declare(lab, *changes):
    """The worked pillar for this node, without updates of packages, and with some texts (old, new) changed."""
    overlay = Overlay(lab)
    lacking = "      revnat: [asterisk]\n      revnat beta: [asterisk]"
    overlay.write("node001", (lacking, "      PBX: [postfix]"))
    packages = ("    node: true\n    containers: true", "    node: false\n    containers: false")
    overlay.write("init", packages, *changes)


def orchestrate(lab, what, **pillar):
    """Run an orchestration over the node; returns the command, which has ended."""
    words = json.dumps({"nodes": [NODE], **pillar})
    command = lab.start("salt-run", "state.orch", what, f"pillar={words}")
    command.wait()
    return command


def migrated(lab, before):
    """Move the node to NFS; what is not as it must be then."""
    run = orchestrate(lab, "migrate")
    assert run.ended and run.wait() == 0, run.err
    return checker.faults(lab, {NODE: before})


def healed(lab):
    """Undo the faults and wait until the node reaches its SAN."""
    lab.run("heal")
    wait_for(lambda: lab.try_on(NODE, "ping", "-c1", "-W1", checker.SERVER)[0] == 0, "the SAN", 60)


def told(lab, before):
    """Once the SAN is there again the same rollback tells it what has happened; what is not as before is returned."""
    healed(lab)
    run = orchestrate(lab, "rollback", data="discard")
    assert run.wait() == 0, run.err
    return local_side.faults(lab, NODE, before)


def at_home(lab, before):
    """What is not as it was before the migration, but for what only the SAN can be told."""
    return [fault for fault in local_side.faults(lab, NODE, before) if "the owner record" not in fault]


def stand_in(lab, folder):
    """A shell of an admin that stands in a directory of the node; returns its process id."""
    return lab.on(
        NODE, "sh", "-c", f"cd {folder} && setsid sleep 100000 </dev/null >/dev/null 2>&1 & echo $!"
    ).strip()
