"""
Whatever happens to a node, in whatever order: migrations that are cut short, ways back, reboots, hands.

Hypothesis makes up the order. What must hold is written down here once more, by other means than the product's: a
container writes numbered words into its own tree, and each word has to be wherever the container runs next.
"""

import json
import os
import re
import shutil
import subprocess

import pytest
import ringfree_probe
from fake_node import FENCE
from highstate import highstate
from hypothesis import HealthCheck, Phase, event, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from migration_steps import apply, steps
from salt.exceptions import CommandExecutionError

CTIDS = (101, 102, 103)
BLOCK = "# ringfree: mounts of the SAN, managed by Salt\n{}# ringfree: end\n"
#: What the exports can do, as a probe of them says.
ABILITIES = {
    **dict.fromkeys(ringfree_probe.TRIALS, True),
    "bytes_free": 10**12,
    "inodes_free": 10**9,
    "inodes_total": 10**9,
    "same_directory": True,
}
#: What can be broken for a while: a program, and what it does then.
BREAKS = {
    "rsync": "echo 'No route to host' >&2; exit 255",
    "rsync.101": "[ $dry ] || exit 11",
    "rsync.102.after": "exit 24",
    "ssh": "exit 255",
    "mount": "echo 'mount.nfs: Connection timed out' >&2; exit 32",
    "umount": "echo 'target is busy' >&2; exit 32",
    "vzctl.start.101": "echo 'no memory' >&2; exit 8",
    "vzctl.start.102": "exit 8",
    "vzctl.stop.102": "echo 'already locked' >&2; exit 9",
    "vzctl.exec2.101": "exit 1",
    "vzlist": "exit 1",
}
#: With SHRINK in the environment a failure is made as short as possible, which takes its time.
PHASES = [Phase.generate, *[Phase.shrink] * ("SHRINK" in os.environ)]
STAGES = ("cloudstor.begun", "vz.stopped", "vz.containers_configured", "vz.running", None, "committed")


class Killed(BaseException):
    """salt-run, the minion or the job ended here."""


class Moments:
    """Counts what others see of a job, programs that it starts and words to the master; ends it at one of them."""

    def __init__(self, node, monkeypatch):
        self.left = None
        self.at_each_word = lambda: None
        command = node.minion().utils["ringfree_command.run"].__globals__
        popen = subprocess.Popen

        class Program(popen):
            def __init__(this, argv, *args, **kwargs):
                if argv[2:3] != [command["READER"]]:  # it stands by, and changes nothing
                    self.pass_one()
                super().__init__(argv, *args, **kwargs)

        class Subprocess:
            Popen = Program
            DEVNULL = subprocess.DEVNULL

        monkeypatch.setitem(command, "subprocess", Subprocess)
        node.minion().modules["event.send"] = self._word

    def _word(self, tag, data):
        """A word to the master."""
        self.at_each_word()
        self.pass_one()

    def pass_one(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def until(self, number, act, *arguments):
        """Do something that is ended after so many moments, or never; returns None when it was."""
        self.left = number
        try:
            return act(*arguments)
        except Killed:
            return None
        finally:
            self.left = None


class World:
    """The node, and what is asked of it without the product."""

    def __init__(self, node, monkeypatch):
        self.node = node
        for ctid, name in zip(CTIDS, ("Four Seasons hospice", "PBX", "Epsilon"), strict=True):
            node.add(ctid, name, running=ctid != 103)
        (node.folder / "etc/fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n")
        node.pillar["containers"]["exempt"] = {}
        node.rule("vzctl.start", FENCE)
        minion = node.minion()
        preflight = minion.module_of("ringfree_preflight.look")
        monkeypatch.setattr(preflight, "probe", lambda share="private": dict(ABILITIES))
        monkeypatch.setattr(preflight, "PATIENCE", 0)
        self.moments = Moments(node, monkeypatch)
        self.going_back = lambda: None
        self.fresh = {stage: self._bring(stage) for stage in STAGES}

    def _bring(self, stage):
        """A copy of the node as it is when it stands before a state; the last one is committed."""
        for state, arguments in self.parts():
            if state == stage:
                break
            done = self.part(state, arguments)
            assert done["result"] is True, (state, done["comment"])
        return self.node.keep()

    def parts(self):
        """The states of a migration, with the one of Salt's own that matters here."""
        found = steps(self.node)
        at = next(number for number, (name, _) in enumerate(found) if name == "cloudstor.committed")
        return [*found[:at], ("fstab", {}), *found[at:]]

    def part(self, state, arguments):
        """One state, as Salt applies it."""
        if state != "fstab":
            return apply(self.node, state, arguments)
        path = self.node.folder / "etc/fstab"
        if "ringfree" not in path.read_text():
            path.write_text(path.read_text() + BLOCK.format("x /y nfs hard 0 0\n"))
        return {"result": True, "changes": {}}

    # --- what an operator types -------------------------------------------------------------------------------------

    def migrate(self, up_to=99):
        """`migrate`, cut short after so many states; what fails goes back at once. Returns refused, failed or done."""
        modules = self.node.minion().modules
        modules["ringfree_deadman.rehearse"] = lambda: "the fake scheduler starts nothing"
        findings = modules["ringfree_preflight.look"]()["findings"]
        if findings:
            note(f"refused: {findings}")
            return "refused"
        for state, arguments in self.parts()[:up_to]:
            done = self.part(state, arguments)
            if done["result"] is False:
                note(f"failed: {done['comment']}")
                self.going_back()
                apply(self.node, "ringfree_rollback.rolled_back", {"committed": False})
                return "failed"
        return "done"

    def rollback(self, data):
        """`rollback`."""
        return apply(self.node, "ringfree_rollback.rolled_back", {"data": data})

    def record_of_dead_man(self):
        """Where the dead man's switch keeps its deadline; it is there as long as it is armed."""
        return self.node.folder / "var/deadman/record.json"

    def dead_man(self):
        """The dead man's switch fires, and its deadline has passed by then; returns how that ended."""
        path = self.record_of_dead_man()
        armed = path.read_text()
        path.write_text(json.dumps({**json.loads(armed), "deadline": 0}))
        try:
            return self.node.minion().modules["ringfree_rollback.fire"]()
        except CommandExecutionError as error:
            note(f"the dead man's switch could not: {error}")
            return "not back"
        finally:
            if path.exists():
                path.write_text(armed)  # as a migration that goes on arms it again

    def program(self, *words):
        """A program of the node, run by a person; returns its exit code."""
        return subprocess.run(
            [self.node.bin / words[0], *map(str, words[1:])], capture_output=True
        ).returncode

    def reboot(self):
        """What runs and what is mounted is gone; fstab and the vz service bring back what they bring back."""
        (self.node.folder / "rules/umount").unlink(missing_ok=True)  # nothing holds a mount any more
        for at in self.mounted():
            self.program("umount", at)
        (self.node.folder / "proc/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
        for ctid in self.node.running():
            (self.node.folder / "proc/running" / str(ctid)).unlink()
        shutil.rmtree(self.node.folder / "run", ignore_errors=True)
        if "ringfree" in (self.node.folder / "etc/fstab").read_text():
            for share, name in (("private", "pbx"), ("root", "pbxroot"), ("conf", "vzconf")):
                at = self.node.mount_point(share)
                self.program("mount", "-t", "nfs", f"10.77.0.21:/rf-images/{name}", at)
        for ctid in CTIDS:
            self.program("vzctl", "start", ctid)

    # --- what there is ------------------------------------------------------------------------------------------------

    def journal(self):
        """The journal, as it lies there."""
        path = self.node.folder / "var/journal.json"
        return json.loads(path.read_text()) if path.exists() else {"state": "local", "steps": {}}

    def mountinfo(self):
        return (self.node.folder / "proc/mountinfo").read_text().splitlines()

    def mounted(self):
        """Where whole exports are mounted."""
        return [
            line.split()[4]
            for line in self.mountinfo()
            if "nfs" in line.split(" - ")[1] and line.split()[3] == "/"
        ]

    def from_nfs(self, ctid):
        """Whether a container that runs has its root on the share; exactly one tree may be there."""
        (line,) = [line for line in self.mountinfo() if re.search(rf"/(nfs)?root/{ctid}$", line.split()[4])]
        return "nfs" in line.split(" - ")[1]

    def trees(self):
        """The mounts of containers."""
        return [line for line in self.mountinfo() if re.search(r"root/\d+$", line.split()[4])]

    def copy(self, ctid, nfs):
        """A container's tree on one of the stores."""
        return self.node.san("pbx", ctid) if nfs else self.node.private(ctid)

    def words(self, ctid, nfs):
        """What the container has written into that tree."""
        path = self.copy(ctid, nfs) / "etc/words"
        return set(path.read_text().split()) if path.exists() else set()

    def is_owned(self, ctid):
        """Whether the live copy of a container is on the share."""
        path = self.node.san("pbx/.ringfree/owner", ctid)
        return path.exists() and "store=nfs" in path.read_text()

    def manifest(self):
        """The containers that the migration under way moves."""
        path = self.node.folder / "etc/ringfree/manifest.tmp"
        return [int(word) for word in path.read_text().split()] if path.exists() else []

    def confs(self):
        """The confs of containers."""
        folder = self.node.folder / "etc/sysconfig/vz-scripts"
        return {path.name: path.read_bytes() for path in folder.glob("*.conf")}


class Night(RuleBasedStateMachine):
    """One night, in an order that nobody would think of."""

    world = None
    containers = st.sampled_from(CTIDS)
    choices = st.sampled_from(["discard", "sync_back"])
    broken = st.none() | st.sampled_from(sorted(BREAKS))

    @initialize(stage=st.sampled_from(STAGES))
    def begin(self, stage):
        """From a rested node, from the middle, or from a committed one."""
        self.world.node.restore(self.world.fresh[stage])
        self.world.moments.at_each_word = self._all_write
        self.world.going_back = lambda: self._choose("discard")
        self.discards = False  # whether what is written on NFS now is let go by a way back under way
        self.count = 0
        self.alive = {ctid: set() for ctid in CTIDS}  # what must be wherever the container runs
        self.local = {ctid: set() for ctid in CTIDS}  # what was written locally and must stay in that copy
        self.let_go = {ctid: set() for ctid in CTIDS}  # what a discard left on the SAN
        self.destroyed = set()
        self.rested = None  # how the last run ended, as long as no hand has touched anything since
        self.first = self.world.fresh[STAGES[0]][0]
        self.before = {
            path.name: path.read_bytes() for path in (self.first / "etc/sysconfig/vz-scripts").glob("*.conf")
        }
        self.vz_conf = (self.first / "etc/vz/vz.conf").read_bytes()
        self.added = b""  # to vz.conf by hand while the node was away from local storage

    # --- runs ---------------------------------------------------------------------------------------------------------

    # A migration has some 200 moments, a way back some 80.
    @rule(up_to=st.integers(1, 24), moments=st.none() | st.integers(20, 200), breaks=broken)
    def migrate(self, up_to, moments, breaks):
        """A migration that is cut short between two states or within one, or goes on to its end."""
        self._break(breaks)
        self._let_copies_be_overwritten()
        said = self.world.moments.until(moments, self.world.migrate, up_to)
        event(f"a migration that is cut short is {said or 'killed'}")
        self.rested = None

    @rule(data=choices, moments=st.none() | st.integers(0, 85), breaks=broken)
    def rollback(self, data, moments, breaks):
        """A way back that is cut short, or goes on to its end."""
        self._break(breaks)
        self._choose(data)
        done = self.world.moments.until(moments, self.world.rollback, data)
        event(f"a way back ends with {done and done['result']}")
        self.rested = None
        if done and done["result"]:
            self._is_back()

    @precondition(lambda self: self.world.record_of_dead_man().exists())
    @rule(moments=st.none() | st.integers(0, 85), breaks=broken)
    def the_dead_man_fires(self, moments, breaks):
        """It may be killed at any moment as well, or be stopped by what fails; it fires again later."""
        self._break(breaks)
        revert = self.world.journal()["steps"].get("revert", {"verified": None})
        goes_on = revert.get("note") == "sync_back" and "verified" not in revert
        self._choose("sync_back" if goes_on else "discard")
        said = self.world.moments.until(moments, self.world.dead_man)
        event(f"a dead man's switch ends with {said or 'a kill'}")
        self.rested = None
        # It comes home without a SAN that is silent; what that was not told is noted, and done by a rollback.
        if said and said.endswith("is back on local storage") and not self._left_by_dead_man():
            self._is_back()

    @rule()
    def everything_works_and_the_migration_is_typed_again(self):
        """From wherever the node is, it ends well or is refused with nothing changed."""
        self._mend()
        self._let_copies_be_overwritten()
        before = self.world.node.tree()
        said = self.world.migrate()
        event(f"a whole migration is {said}")
        if said == "refused":
            assert self.world.node.tree() == before
            return
        assert said == "done" or self._strangers(), said
        self.rested = "nfs" if said == "done" else None
        if said == "done":
            assert self.world.journal()["state"] == "nfs"

    @rule(data=choices)
    def everything_works_and_the_way_back_is_typed(self, data):
        """From wherever the node is, it is back; what a copy back overwrote by half takes a copy back to its end."""
        self._mend()
        self._choose(data)
        done = self.world.rollback(data)
        if data == "discard" and "a copy back was cut short" in done["comment"]:
            assert list(self.world.node.folder.glob("vz/private/.ringfree-replaced/*/*.unfinished"))
            self._choose("sync_back")
            done = self.world.rollback("sync_back")
        assert done["result"] is True, done["comment"]
        self._is_back()

    @precondition(lambda self: self.rested)
    @rule()
    def typed_once_more(self):
        """A second run changes nothing and says so."""
        before = self.world.node.tree()
        if self.rested == "nfs":
            results = [self.world.part(*part) for part in self.world.parts()]
        else:
            results = [self.world.rollback("discard")]
        assert [result["changes"] for result in results if result["changes"]] == []
        assert self.world.node.tree() == before

    # --- what else happens at night -----------------------------------------------------------------------------------

    @rule()
    def the_node_reboots(self):
        self.rested = None
        self.world.reboot()
        self._is_guarded()

    @rule(verb=st.sampled_from(["start", "stop"]), ctid=containers)
    def somebody_uses_vzctl(self, verb, ctid):
        self.rested = None
        before = self.world.node.running()
        self.world.program("vzctl", verb, ctid)
        self._is_guarded(before)

    @precondition(lambda self: self.world.journal()["state"] == "nfs")
    @rule(ctid=containers)
    def a_customer_leaves(self, ctid):
        """Stopped and destroyed: of the container nothing is left but its old local copy."""
        if not self.world.copy(ctid, True).is_dir() or not self.world.is_owned(ctid):
            return
        self.rested = None
        self.world.program("vzctl", "stop", ctid)
        if ctid not in self.world.node.running():
            self.world.node.destroy(ctid)
            self.destroyed.add(ctid)
            self.before.pop(f"{ctid}.conf")
            self.alive[ctid], self.let_go[ctid] = set(), set()

    @rule(moments=st.none() | st.integers(0, 30))
    def the_highstate_comes_by(self, moments):
        """It may be killed as well; no container stops, starts or gets another tree, whatever there is to correct."""
        state, before = self.world.journal()["state"], self.world.node.tree()
        up, trees = self.world.node.running(), self.world.trees()
        found = self.world.moments.until(moments, highstate, self.world.node)
        assert (self.world.node.running(), self.world.trees()) == (up, trees)
        assert self.world.journal()["state"] == state
        if state == "in_flight":
            assert self.world.node.tree() == before
        event(
            f"a highstate on {state} {'changes' if found and any(s['changes'] for s in found) else 'leaves'} the node"
        )

    @rule(
        what=st.sampled_from(
            [*(f"{ctid}.conf" for ctid in CTIDS), "vz.conf", "nfs", "nfsmounted", "nfsvzstor"]
        )
    )
    def somebody_writes_into_a_file(self, what):
        """A line of its own into a conf, nonsense into a variable."""
        self.rested = None
        undisturbed, line = self._undisturbed(), b"# by hand\n"
        if what.partition(".")[0] in map(str, self.destroyed):
            return
        if what.endswith(".conf"):
            folder = self.world.node.folder / ("etc/vz" if what == "vz.conf" else "etc/vz/conf")
            self._append(folder / what, line)
        else:
            (self.world.node.folder / "etc/ringfree" / what).write_text("nonsense\n")
        if what == "vz.conf" and undisturbed:
            self.vz_conf += line
        elif what == "vz.conf":
            self.added += line
        elif what in self.before and undisturbed:
            self.before[what] += line

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def all_is_as_it_must_be(self):
        """After whatever has happened."""
        self.what_was_written_is_where_the_container_runs()
        self.local_copies_are_whole()
        self.what_a_discard_let_go_is_on_the_san()
        self.the_journal_is_true()
        self.the_snapshot_is_whole()

    def what_was_written_is_where_the_container_runs(self):
        assert not self.destroyed & set(self.world.node.running())
        for ctid in self.world.node.running():
            lost = self.alive[ctid] - self.world.words(ctid, self.world.from_nfs(ctid))
            assert not lost, f"{ctid} runs without {sorted(lost)}"

    def local_copies_are_whole(self):
        for ctid in CTIDS:
            lost = self.local[ctid] - self.world.words(ctid, False)
            assert not lost, f"the local copy of {ctid} lacks {sorted(lost)}"
            assert (self.world.node.private(ctid) / "etc/hostname").read_text()

    def what_a_discard_let_go_is_on_the_san(self):
        for ctid, words in self.let_go.items():
            assert not words - self.world.words(ctid, True), f"the SAN's copy of {ctid} lacks {sorted(words)}"

    def the_journal_is_true(self):
        state = self.world.journal()["state"]
        if state == "local":
            assert self.world.mounted() == []
            confs = {**self.world.confs(), "vz.conf": self.world.node.vz_conf.read_bytes()}
            assert [name for name, data in confs.items() if b"/vz/nfs" in data] == []
        if state == "nfs":
            up = set(self.world.manifest()) & set(self.world.node.running())
            assert [ctid for ctid in up if not self.world.from_nfs(ctid)] == []

    def the_snapshot_is_whole(self):
        if not self._undisturbed():
            paths = [
                self.world.node.folder / "etc/sysconfig/vz-scripts.tar.gz",
                self.world.node.folder / "etc/vz/vz.conf.before-nfs",
            ]
            assert paths[1].read_bytes() == self.vz_conf
            kept = self.world.node.minion().utils["ringfree_archive.unpack"](str(paths[0]))
            assert {
                name: entry.get("data") for name, entry in kept.items() if name in self.before
            } == self.before

    def teardown(self):
        """However it went, the node can be brought back."""
        if hasattr(self, "before"):
            self.everything_works_and_the_way_back_is_typed("sync_back")

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _undisturbed(self):
        """Whether what is in the confs now is what a way back has to restore."""
        journal = self.world.journal()
        return journal["state"] == "local" or "verified" not in journal["steps"].get("snapshot", {})

    def _append(self, path, data):
        path.write_bytes(path.read_bytes() + data)

    def _mend(self):
        for name in BREAKS:
            (self.world.node.folder / "rules" / name).unlink(missing_ok=True)

    def _strangers(self):
        """Containers that run and are not of the manifest: somebody's, and a reason to stop."""
        return set(self.world.node.running()) - set(self.world.manifest())

    def _break(self, breaks):
        """A program fails from now on; what failed before is whole again, now and then."""
        if breaks is None:
            return
        if breaks.startswith("rsync"):
            self._mend()
        self.world.node.rule(breaks, BREAKS[breaks])

    def _all_write(self):
        """Each container that runs writes a word into its own tree."""
        self.count += 1
        for ctid in self.world.node.running():
            word, nfs = f"w{self.count}", self.world.from_nfs(ctid)
            with (self.world.copy(ctid, nfs) / "etc/words").open("a") as stream:
                stream.write(word + "\n")
            (self.let_go if nfs and self.discards else self.alive)[ctid].add(word)
            if not nfs:
                self.local[ctid].add(word)

    def _is_guarded(self, before=()):
        """Nothing started by itself or by hand between the guard and the end of the migration."""
        journal = self.world.journal()
        steps = journal["steps"]
        guarded = journal["state"] == "in_flight" and "verified" in steps.get("guard", {})
        if guarded and not {"commit", "revert"} & set(steps):
            assert set(self.world.node.running()) <= set(before)

    def _let_copies_be_overwritten(self):
        self.discards = False
        self.let_go = {ctid: set() for ctid in CTIDS}

    def _choose(self, data):
        """What an operator who types discard lets go: what is on the SAN's copies only."""
        self.discards = data == "discard" and self.world.journal()["state"] != "local"
        if self.discards:
            for ctid in CTIDS:
                here = self.world.words(ctid, False)
                self.let_go[ctid] |= self.alive[ctid] - here
                self.alive[ctid] &= here

    def _left_by_dead_man(self):
        """What the dead man's switch could not do, in its own words."""
        return self.world.journal()["facts"]["deadman"]["not_done"]

    def _is_back(self):
        """Wholly on local storage, as before."""
        assert self.world.journal()["state"] == "local"
        self.rested = "local"
        records = self.world.node.san("pbx/.ringfree/owner").glob("*")
        assert [path.name for path in records if "store=local" not in path.read_text()] == []
        variable = self.world.node.folder / "etc/ringfree/nfsmounted"
        assert not variable.exists() or variable.read_text() != "1\n"
        confs = self.world.confs()
        assert {name: confs.get(name) for name in self.before} == self.before
        assert not {f"{ctid}.conf" for ctid in self.destroyed} & set(confs)
        now = self.world.node.vz_conf.read_bytes()
        assert b"DISABLED" not in now and b"/vz/nfs" not in now
        assert sorted(now.splitlines()) == sorted((self.vz_conf + self.added).splitlines())
        self.vz_conf, self.added = now, b""
        for ctid in self.world.node.running():
            self.local[ctid] |= self.alive[ctid]


@pytest.fixture
def world(fake_node, monkeypatch):
    return World(fake_node, monkeypatch)


@pytest.mark.hypothesis  # as its plugin marks all others: they have more cases in `make test-all`
def test_any_night_ends_well(world):
    """Runs, kills, failures, reboots and hands in any order; EXAMPLES in the environment makes it longer."""
    Night.world = world
    run_state_machine_as_test(
        Night,
        settings=settings(
            max_examples=settings().max_examples // 4,  # each takes as long as a thousand of other properties
            stateful_step_count=10,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
