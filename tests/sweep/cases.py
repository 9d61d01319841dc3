"""
Every way in which a migration, or the way back, can be cut short: made from the product's own list of steps.

A case is a point at which the node stands, what breaks there, and the way out. A step that is new in the product is a
case here without anybody thinking of it; `test_sweep` proves that the points are those that a node really passes.
"""

import importlib.util
import itertools
import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import ringfree_journal

PROJECT = Path(__file__).resolve().parents[2]
#: Steps that are noted for each container as well, and by which phases.
EACH = {
    "presync": ("done",),
    "packages": ("done",),
    "stop": ("intent", "verified"),
    "sync": ("verified",),
    "start": ("intent", "done", "verified"),
    "revert": ("intent", "done"),
}
KILLS = ("salt-run", "minion", "master", "power")
#: What breaks, and the ways out of it. `itself`: salt-run lives and the node is there again at once, so that the
#: orchestration takes it back. A further way out is one more word here and one more function in WAYS of
#: node_under_sweep.
MIGRATION = {
    "salt-run": ("migrate", "rollback", "dead-man"),
    "minion": ("itself", "migrate", "rollback", "dead-man"),
    "master": ("migrate", "rollback", "dead-man"),
    "power": ("itself", "migrate", "rollback", "dead-man"),
    "read-only": ("itself",),
    "no memory": ("itself",),
}
ROLLBACK = dict.fromkeys((*KILLS, "no memory"), ("rollback", "migrate"))
SPREAD = 4  # cases that each commit chooses for itself
#: Cases that have ever failed, one a line; they run whatever the commit chooses.
FAILED = Path(__file__).resolve().parent / "failed.txt"


@dataclass(frozen=True)
class Point:
    """Where a node stands: a step, how far it has come, and whether it is that of one container."""

    step: str
    phase: str
    each: bool = False

    def __str__(self):
        return f"{self.step} {self.phase}{' of a container' * self.each}"


@dataclass(frozen=True)
class Case:
    """One way to cut a run short, and the way out."""

    run: str  # migrate or rollback
    point: Point
    breaks: str
    out: str

    def __str__(self):
        return f"{self.run}: {self.breaks} at {self.point}, then {self.out}"

    @property
    def begins(self):
        """The store that the node is on before."""
        return {"migrate": "local", "rollback": "nfs"}[self.run]

    @property
    def may_go_on(self):
        """Whether a run that lives may still end well: before the first stop, or with nothing left of a part."""
        steps = ringfree_journal.steps()
        whole = self.point in (Point("start", "verified"), Point("commit", "verified"))
        return whole or self.point.step in steps[: steps.index("stop")]

    @property
    def ends(self):
        """The store that the node is on afterwards."""
        return "nfs" if self.out == "migrate" else "local"


def revert_module():
    """The product's module of the way back, by itself."""
    path = PROJECT / "_modules" / "ringfree_rollback.py"
    spec = importlib.util.spec_from_file_location("ringfree_rollback_for_its_names", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sub_steps():
    """The names of the way back's sub-steps, when it copies back what was written."""
    module = revert_module()
    shares = {name: {"mount": f"/{name}"} for name in ("private", "root", "conf")}
    module.__salt__ = {
        "ringfree_settings.get": lambda: {"shares": shares},
        "vz.conf_dir": lambda: "/conf",
        "vz.conf_path": lambda: "/vz.conf",
    }
    steps = module._steps("sync_back", dead=False, on_share=[], written_to=[], looks=True)
    return [*(name for name, *_ in steps), module.NOTED, module.DISARM]


def points(run):
    """Every point of a migration, or of a rollback."""
    if run == "rollback":
        inner = [Point(name, phase) for name in sub_steps() for phase in ("intent", "verified")]
        own = [Point("revert", phase) for phase in ("intent", "done", "verified")]
        return [*own, *(Point("revert", phase, True) for phase in EACH["revert"]), *inner]
    return [
        point
        for step in ringfree_journal.steps()
        if step != "revert"
        for point in (
            *(Point(step, phase) for phase in ("intent", "verified")),
            *(Point(step, phase, True) for phase in EACH.get(step, ())),
        )
    ]


def possible(run, point, breaks, out):
    """What lacks memory does so between two points; the dead-man is a way out from when it is armed to the commit."""
    if out == "dead-man":
        steps = ringfree_journal.steps()
        armed = steps[steps.index("deadman") + 1 : steps.index("commit")]
        return point.step in armed or (point.step, point.phase) == ("deadman", "verified")
    if breaks != "no memory":
        return True
    return point.phase == "intent" and not point.each and point.step != "revert"


def every():
    """All cases."""
    return [
        Case(run, point, breaks, out)
        for run, table in (("migrate", MIGRATION), ("rollback", ROLLBACK))
        for point in points(run)
        for breaks, outs in table.items()
        for out in outs
        if possible(run, point, breaks, out)
    ]


def spread(seed, size=SPREAD):
    """Some cases: as many kinds of run and breakage as there is room for, each at a point of its own."""
    dice = random.Random(seed)
    kinds = {}
    for case in every():
        kinds.setdefault((case.run, case.breaks), []).append(case)
    chosen = itertools.islice(itertools.cycle(dice.sample(list(kinds), len(kinds))), size)
    return [dice.choice(kinds[kind]) for kind in chosen]


def chain(cases):
    """The same cases, each on the store that the one before has left as far as there are such: no run in between."""
    left = {store: [case for case in cases if case.begins == store] for store in ("local", "nfs")}
    ordered, store = [], "local"
    while len(ordered) < len(cases):
        if not left[store]:
            store = "nfs" if store == "local" else "local"
        ordered.append(left[store].pop(0))
        store = ordered[-1].ends
    return ordered


def failed_before():
    """The cases of the file of those that have ever failed."""
    known = {str(case): case for case in every()}
    lines = FAILED.read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    gone = [name for name in names if name not in known]
    if gone:
        raise ValueError(
            f"{FAILED}: no case of this name any more, write down the one that took its place: {gone}"
        )
    return [known[name] for name in names]


def wanted():
    """The environment's SWEEP: `all`, `2/5` (the second of five parts), or the name of a spread."""
    return os.environ.get("SWEEP") or commit()


def chosen(word):
    """The cases that a word asks for, in the order in which they run."""
    if word == "all":
        return chain(every())
    if "/" in word:
        part, parts = map(int, word.split("/"))
        return chain(every()[part - 1 :: parts])
    return chain(list(dict.fromkeys([*failed_before(), *spread(word)])))


def commit():
    """The id of the commit that is checked out, so that each commit has a spread of its own."""
    words = ["git", "-C", str(PROJECT), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() or "none"
