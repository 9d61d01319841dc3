"""Every file that a minion or master gets from this project is loaded by Salt, under its own name."""

import ast
import re
import sys
from pathlib import Path

import pytest
import salt.config
import salt.loader

PROJECT = Path(__file__).resolve().parents[2]
#: Programs that modules look for before they load.
PROGRAMS = ("vzctl", "vzlist", "rsync", "ssh", "mount", "umount")


def names(folder):
    """The names of the project's Python files in a folder."""
    return sorted(path.stem for path in (PROJECT / folder).glob("*.py"))


def public_functions(folder, name):
    """The functions that Salt offers from a file, under the names that Salt gives them."""
    tree = ast.parse((PROJECT / folder / f"{name}.py").read_text(encoding="utf-8"))
    aliases, functions = {}, []
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__func_alias__":
            aliases = ast.literal_eval(node.value)
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            functions.append(node.name)
    return [aliases.get(function, function) for function in functions]


def missing(loader, folder, name):
    """The functions of a file that a loader does not offer, and what the file's __virtual__ said."""
    absent = [function for function in public_functions(folder, name) if f"{name}.{function}" not in loader]
    return absent, loader.missing_modules.get(name)


def names_of_salt(kind):
    """File names and virtual names of Salt's own modules of a kind."""
    own = set()
    for path in (Path(salt.loader.SALT_BASE_PATH) / kind).rglob("*.py"):
        own.add(path.stem)
        own.update(
            re.findall(r"""^__virtualname__ = ["'](\w+)["']""", path.read_text(encoding="utf-8"), re.M)
        )
    return own


@pytest.fixture
def node(minion, fake_bin):
    """A minion on a node that has every program."""
    for program in PROGRAMS:
        fake_bin(program)
    return minion()


@pytest.mark.parametrize("name", names("_modules"))
def test_every_execution_module_loads(node, name):
    assert missing(node.modules, "_modules", name) == ([], None)


@pytest.mark.parametrize("name", names("_states"))
def test_every_state_module_loads_beside_its_execution_module(node, name):
    assert missing(node.states, "_states", name) == ([], None)


@pytest.mark.parametrize("name", names("_utils"))
def test_every_utility_loads(node, name):
    assert missing(node.utils, "_utils", name) == ([], None)


@pytest.mark.parametrize("name", names("_runners"))
def test_every_runner_loads(minion_opts, name):
    opts = salt.config.master_config(None)
    for key in (
        "root_dir",
        "cachedir",
        "sock_dir",
        "pki_dir",
        "conf_file",
        "extension_modules",
        "utils_dirs",
    ):
        opts[key] = minion_opts[key]
    opts["runner_dirs"] = [str(PROJECT / "_runners")]
    runners = salt.loader.runner(opts, utils=salt.loader.utils(opts))
    assert missing(runners, "_runners", name) == ([], None)


@pytest.mark.parametrize("kind", ["modules", "states", "runners", "utils"])
def test_no_name_hides_one_of_salts_own(kind):
    """A file named like a module of Salt would replace it on every minion."""
    assert not set(names(f"_{kind}")) & names_of_salt(kind)


def test_the_names_of_salt_are_known():
    """Names of files and names that differ from the file's."""
    assert {"rsync", "mount", "pkg", "service"} <= names_of_salt("modules")


def test_a_module_that_does_not_load_is_noticed(minion, tmp_path, monkeypatch):
    """The tests above fail when __virtual__ is not satisfied."""
    (tmp_path / "_modules").mkdir()
    text = 'def __virtual__():\n    return (False, "no such program")\n\n\ndef status():\n    """Not offered."""\n'
    (tmp_path / "_modules" / "ringfree_no.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "PROJECT", tmp_path)
    loader = minion(opts={"module_dirs": [str(tmp_path / "_modules")]}).modules
    assert missing(loader, "_modules", "ringfree_no") == (["status"], "no such program")
