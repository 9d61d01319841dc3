"""Names and outputs that a customer, another node or the SAN chose: what leaves a node can be carried and shown."""

import os

import msgpack
import pytest
import salt.loader
from migration_steps import STEPS, apply, bring, steps
from minion_without_daemons import PROJECT
from salt.exceptions import CommandExecutionError, SaltInvocationError

ESCAPE = "\x1b[2J"
#: What only looks, with what it needs.
LOOKS = [
    ("ringfree_preflight.look", ()),
    ("cloudstor.status", ()),
    ("cloudstor.overview", ()),
    ("cloudstor.report", ()),
    ("cloudstor.whereabouts", ()),
    ("ringfree_confs.conf_share", (True,)),
    ("ringfree_confs.conflicts", ()),
    ("vz.list", ()),
    ("vz.config", (101,)),
    ("vz.changes", ({"HOSTNAME": "x"}, 101)),
    ("vz.ambiguities", ()),
    ("vz.ambiguities", (False,)),
    ("vz.known_as", ()),
    ("vz.mounts", ()),
    ("ringfree_san.confs", ()),
    ("ringfree_cleanup.plan", ()),
    ("ringfree_snapshot.confs", ()),
    ("vz.exec", (101, ["true"])),
    ("ringfree_owner.conflicts", ()),
    ("ringfree_owner.records", ()),
    ("ringfree_rollback.plan", ()),
    ("ringfree_run.busy", ()),
    ("ringfree_snapshot.fault", ()),
    ("ringfree_nfs.scan", ("PRIVATE",)),
    ("ringfree_nfs.users", ("/",)),
    ("ringfree_replica.status", ()),
]


def assert_harmless(value, where):
    """Salt can carry it, and no terminal does anything with it but show it."""
    msgpack.packb(value, use_bin_type=True)
    for text in texts(value):
        assert text.translate(dict.fromkeys(map(ord, "\n\t"))).isprintable(), (where, text)


def texts(value):
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from texts(list(pair))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts(inner)


@pytest.fixture
def odd(fleet):
    """A node on which everything that can hold odd bytes does, as far as a migration takes it."""
    conf = fleet.conf(101)
    conf.write_bytes(conf.read_bytes().replace(b"ct101", b"caf\xe9.example.org"))
    conf = fleet.conf(104)
    conf.write_bytes(conf.read_bytes() + b'DESCRIPTION="\x1b[2J\xe9"\nOSTEMPLATE="centos-\xe9"\n')
    fleet.conf(103).write_bytes(fleet.conf(103).read_bytes() + b'IP_ADDRESS="\xe9"\nVE_LAYOUT="\xff"\n')
    names = fleet.folder / "etc/sysconfig/vz-scripts"
    (names / os.fsdecode(b"notes-f\xfcr-105.txt")).write_text("x")
    (names / f"{ESCAPE}.txt").write_text("x")
    (fleet.folder / "vz/private" / os.fsdecode(b"\xff a")).mkdir()
    (fleet.folder / "etc/fstab").write_bytes(b"/dev/sda2 /mnt/caf\xe9\\040x ext4 defaults 0 0\n")
    with (fleet.folder / "proc/mountinfo").open("ab") as stream:
        stream.write(b"77 1 8:5 / /mnt/caf\xe9\\040x rw - ext4 /dev/sdb\xff rw\n")
    etc = fleet.private(101) / "etc"
    os.link(etc / "hostname", etc / os.fsdecode(b"\xff\x1b[2J"))
    fleet.rule("vzctl.exec2", f"printf 'Asterisk 13 \\377 {ESCAPE}\\rx\\nalive\\n'; exit 0")
    (fleet.folder / "vz/root/101/usr/bin").mkdir(parents=True)
    (fleet.folder / "vz/root/101/usr/bin/yum").touch()
    return fleet


def loaded(node):
    """The node's modules; what takes minutes has a test of its own."""
    minion = node.minion()
    minion.modules["ringfree_deadman.rehearse"] = lambda: "the dead man's switch was rehearsed"
    return minion


def look(node, function, arguments):
    """What a function returns, or the words with which it fails."""
    given = [str(node.private(101)) if argument == "PRIVATE" else argument for argument in arguments]
    try:
        return loaded(node).modules[function](*given)
    except CommandExecutionError as error:
        return str(error)


@pytest.mark.walk
@pytest.mark.parametrize("done", [0, 11, 12, 14, len(STEPS)], ids=lambda done: f"after-{done}-steps")
def test_what_only_looks_can_be_carried_and_shown(odd, done):
    bring(odd, done)
    for function, arguments in LOOKS:
        assert_harmless(look(odd, function, arguments), function)


def test_states_and_events_can_be_carried_and_shown(odd):
    for name, given in steps(odd):
        for test in (True, False):
            found = apply(odd, name, given, test)
            assert_harmless(found, name)
        assert found["result"] is True, (name, found["comment"])
    assert odd.told
    assert_harmless(odd.told, "events")
    shown = odd.minion().modules["vz.health"](101, {"a": {"exec": ["x"], "expect": "^alive"}})
    assert shown == {"a": {"ok": True, "detail": r"Asterisk 13 \xff \x1b[2J\rx"}}


def test_failures_can_be_carried_and_shown(odd):
    odd.rule("vzctl.stop.101", f"printf 'busy {ESCAPE}\\377\\n' >&2; exit 1")
    number = next(number for number, (name, _) in enumerate(STEPS) if name == "vz.stopped")
    bring(odd, number)
    odd.told.clear()
    found = apply(odd, *steps(odd)[number])
    assert found["result"] is False
    assert r"busy \x1b[2J\xff" in found["comment"]
    assert_harmless([found, odd.told], "vz.stopped")


def test_a_path_of_odd_bytes_is_named_and_leads_nowhere(odd):
    conf = odd.conf(104)
    conf.write_bytes(conf.read_bytes() + f'VE_PRIVATE="{odd.folder}/vz/pr'.encode() + b'\xff/$VEID"\n')
    found = loaded(odd).modules["ringfree_preflight.look"]()
    assert_harmless(found, "preflight")
    assert [finding for finding in found["findings"] if "container 104" in finding], found["findings"]
    assert r"vz/pr\xff/104" in odd.minion().modules["vz.config"](104)["private"]


def public(loader, kind):
    """The functions that Salt finds in the project's files of one kind."""
    for path in sorted((PROJECT / f"_{kind}").glob("*.py")):
        loader._load_module(path.stem)
    found = {
        name: loader[name] for name in list(loader) if f"/_{kind}/" in loader[name].__globals__["__file__"]
    }
    return {
        name: function for name, function in found.items() if str(PROJECT) in function.__globals__["__file__"]
    }


#: On the master: what was typed, each sign as it is, and what a runner has made printable.
ON_MASTER = ["ringfree_asked.plan", "ringfree_asked.words"]


@pytest.mark.parametrize("kind", ["modules", "states"])
def test_h40_whatever_salt_may_call_goes_through_the_one_place(fleet, kind):
    """A file of the project that forgets it is found here."""
    minion = fleet.minion()
    found = public(getattr(minion, kind), kind)
    assert len(found) > 30
    assert [
        name for name, function in found.items() if not minion.utils["ringfree_command.carries"](function)
    ] == [name for name in found if name in ON_MASTER]
    files = {function.__globals__["__file__"] for function in found.values()}
    assert files == {str(path) for path in (PROJECT / f"_{kind}").glob("*.py")}


def test_h40_whatever_is_typed_on_the_master_goes_through_the_one_place(minion):
    loaded = minion()
    runners = salt.loader.runner(
        {**loaded.opts, "runner_dirs": [str(PROJECT / "_runners")]}, utils=loaded.utils
    )
    found = {name: runners[name] for name in runners if name.startswith("ringfree.")}
    assert len(found) > 20
    assert [
        name for name, function in found.items() if not getattr(function, "checks_arguments", False)
    ] == []


def test_salt_sees_the_arguments_of_a_function_as_they_are_written(fleet):
    spec = fleet.minion().modules["sys.argspec"]("vz.start")["vz.start"]
    assert spec["args"] == ["ctids", "workers", "deadline", "force", "on_done"]
    assert spec["varargs"] is None and spec["kwargs"] is None
    assert "Start containers with vzctl" in fleet.minion().modules["vz.start"].__doc__


def test_an_exception_of_any_kind_can_be_carried_and_shown(fleet):
    minion = fleet.minion()
    for error in (
        CommandExecutionError(f"\udcff {ESCAPE}", info={"faults": ["\udcff"]}),
        SaltInvocationError("\udcff"),
        ValueError("\udcff", {"\udcff": 1}),
        OSError(5, "\udcff", "/\udcff"),
    ):
        minion.module_of("vz.list").running = lambda error=error: (_ for _ in ()).throw(error)
        with pytest.raises(type(error)) as raised:
            minion.modules["vz.list"]()
        assert_harmless([str(raised.value), *raised.value.args, vars(raised.value)], repr(error))
        assert r"\xff" in str(raised.value)


def test_what_functions_call_of_each_other_keeps_its_bytes(odd):
    """Else a file with such a name could not be brought to the share."""
    name = os.fsdecode(b"notes-f\xfcr-105.txt")
    minion = loaded(odd)
    word = minion.utils["ringfree_command.spell"](name)
    assert word in minion.modules["ringfree_confs.conf_share"](True)
    assert minion.utils["ringfree_command.unspell"](word) == name


def test_what_the_journal_keeps_can_be_read_back(fleet):
    minion = fleet.minion()
    minion.modules["cloudstor.begin"]()
    for note in ("\udcff", f"{ESCAPE}\ud83d", "\ud83d\udca3"):
        minion.modules["ringfree_journal.mark"]("presync", "intent", 101, note)
        minion.modules["ringfree_journal.remember"]("odd", {note: [note]})
        assert minion.modules["ringfree_journal.fault"]() is None
    assert_harmless([minion.modules["ringfree_journal.read"](), fleet.told], "journal")


def test_a_flood_as_an_answer_is_one_line(odd):
    odd.rule("vzctl.exec2", "exec yes 'no such service'")
    odd.minion().modules["vz.health"].__globals__["ATTEMPT"] = 0.5
    try:
        found = odd.minion().modules["vz.health"](101, {"a": {"exec": ["x"], "expect": "alive"}})["a"]
    finally:
        odd.minion().modules["vz.health"].__globals__["ATTEMPT"] = 10
    assert found["ok"] is False
    assert len(found["detail"]) < 500
