"""The fixtures of this folder do what other tests rely on."""

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def tree(tmp_path):
    """File roots with one SLS that writes a file."""
    folder = tmp_path / "tree"
    folder.mkdir()
    target = tmp_path / "written"
    text = (
        f"write it:\n  file.managed:\n    - name: {target}\n    - contents: {{{{ pillar['word'] | json }}}}\n"
    )
    (folder / "write.sls").write_text(text, encoding="utf-8")
    (folder / "broken.sls").write_text(
        "write it:\n  file.managed:\n    - require:\n      - file: nowhere\n", encoding="utf-8"
    )
    return {"opts": {"file_roots": {"base": [str(folder)]}}, "target": target}


def test_sls_are_applied_with_the_given_pillar(minion, tree, test_mode):
    node = minion(opts=tree["opts"], pillar={"word": "hello"}, test=test_mode)
    (result,) = node.apply("write")
    assert (result["result"] is None) is test_mode
    assert result["changes"]
    assert tree["target"].exists() is not test_mode


def test_an_sls_that_does_not_compile_says_why(minion, tree):
    (why,) = minion(opts=tree["opts"]).apply("broken")
    assert "nowhere" in str(why)


def test_states_are_called_by_name(minion, tmp_path, test_mode):
    result = minion(test=test_mode).states["file.directory"](str(tmp_path / "made"))
    assert (result["result"] is None) is test_mode


def test_utilities_of_the_project_are_there(minion):
    assert minion().utils["ringfree_conf.conf_names"](["101.conf", "notes"])


def test_a_module_can_be_patched(minion, fake_bin, monkeypatch, tmp_path):
    for program in ("vzctl", "vzlist"):
        fake_bin(program)
    node = minion()
    monkeypatch.setattr(node.module_of("vz.containers"), "CONF_DIR", str(tmp_path))
    (tmp_path / "105.conf").touch()
    assert node.modules["vz.containers"]() == [105]


def test_fake_programs_come_first(fake_bin):
    fake_bin("vzctl", "echo $1; exit 9")
    done = subprocess.run(["vzctl", "status"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, "status\n")
    assert os.environ["PATH"].count("bin") > 1


# --- minions that are kept from one test to the next ------------------------------------------------------------------


def files(minion):
    """What lies where a minion lives."""
    return sorted(str(path) for path in Path(minion.opts["root_dir"]).rglob("*"))


#: Functions that each loader has; where there can be one, the second is Salt's own.
FUNCTIONS = {
    "modules": ("vz.status", "test.ping"),
    "states": ("vz.stopped", "test.nop"),
    "utils": ("ringfree_command.run", "ringfree_conf.parse"),
}


def functions(kind):
    """What a loader has."""
    return lambda minion: [getattr(minion, kind)[name].func for name in FUNCTIONS[kind]]


def replace(kind):
    """Put something else in the place of functions, twice."""

    def act(minion):
        for name in FUNCTIONS[kind] * 2:
            getattr(minion, kind)[name] = len

    return act


#: What a test can do to a minion, with a look at it.
TOUCHED = {
    "functions": (functions("modules"), replace("modules")),
    "states": (functions("states"), replace("states")),
    "utilities": (functions("utils"), replace("utils")),
    "a constant": (
        lambda minion: minion.module_of("vz.status").CONF_DIR,
        lambda minion: setattr(minion.module_of("vz.status"), "CONF_DIR", "/elsewhere"),
    ),
    "a name that was not there": (
        lambda minion: hasattr(minion.module_of("vz.status"), "leak"),
        lambda minion: setattr(minion.module_of("vz.status"), "leak", 1),
    ),
    "what a module remembers": (
        lambda minion: dict(minion.module_of("vz.status")._ASKED),
        lambda minion: minion.module_of("vz.status")._ASKED.update(leak=(1, False)),
    ),
    "results that are kept": (
        lambda minion: minion.utils["ringfree_conf.parse"].__globals__["_parsed"].cache_info().currsize,
        lambda minion: minion.utils["ringfree_conf.parse"](b'A="b"\n'),
    ),
    "the pillar": (
        lambda minion: minion.modules["pillar.get"]("ringfree"),
        lambda minion: minion.give({"ringfree": "leak"}),
    ),
    "an option": (
        lambda minion: minion.modules["config.get"]("leak"),
        lambda minion: minion.modules.pack["__opts__"].update(leak=1),
    ),
    "the mode": (
        lambda minion: minion.states["file.directory"]("/nowhere/leak")["result"],
        lambda minion: minion.opts.update(test=not minion.opts["test"]),
    ),
    "a grain": (
        lambda minion: minion.modules["grains.get"]("os"),
        lambda minion: minion.modules.pack["__grains__"].update(os="leak"),
    ),
    "the context": (
        lambda minion: dict(minion.modules.pack["__context__"]).get("leak"),
        lambda minion: minion.modules.pack["__context__"].update(leak=1),
    ),
    "files": (files, lambda minion: Path(minion.opts["cachedir"], "leak").touch()),
}


@pytest.mark.parametrize("what", TOUCHED)
def test_a_minion_is_made_what_it_was(fake_node, test_mode, what):
    look, act = TOUCHED[what]
    minion = fake_node.minion(test=test_mode)
    minion.as_loaded()
    before = look(minion)
    act(minion)
    assert look(minion) != before
    minion.as_loaded()
    assert look(minion) == before


@pytest.mark.parametrize("turn", ["once", "and again"])
def test_a_test_finds_nothing_of_the_one_before(fake_node, turn):
    """Whichever of the two comes second."""
    minion = fake_node.minion()
    assert minion.modules["test.ping"]() is True
    assert "leak" not in minion.opts and "batch" not in minion.opts["pillar"]["ringfree"]
    minion.modules["test.ping"] = lambda: "leak"
    minion.opts["leak"], fake_node.pillar["batch"] = 1, 7
    fake_node.minion()


def test_a_minion_has_the_pillar_as_it_is_when_it_is_asked_for(fake_node):
    assert fake_node.minion().modules["ringfree_settings.get"]()["batch"] == 1
    fake_node.pillar["batch"] = 7
    minion = fake_node.minion()
    fake_node.pillar["batch"] = 8
    assert minion.modules["ringfree_settings.get"]()["batch"] == 7


def test_what_a_test_replaces_stays_replaced_until_its_end(fake_node):
    fake_node.minion().modules["test.ping"] = lambda: "no"
    fake_node.pillar["batch"] = 7
    assert fake_node.minion().modules["test.ping"]() == "no"


def test_a_minion_does_not_change_under_one_that_is_loaded_later(fake_node, minion):
    kept = fake_node.minion()
    first = kept.module_of("vz.status").CONF_DIR
    later = minion().module_of("vz.status").CONF_DIR
    assert first == kept.module_of("vz.status").CONF_DIR != later


def test_a_node_with_other_programs_has_another_minion(fake_node, fake_bin):
    (fake_node.bin / "vzctl").unlink()
    assert "vz.status" not in fake_node.minion().modules
    fake_bin("vzctl")
    assert "vz.status" in fake_node.minion().modules
