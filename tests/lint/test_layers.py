"""Each execution module stands on a layer and calls only what stands below it; each state file is beside its module."""

import ast

import pytest
from minion_without_daemons import PROJECT

#: From the bottom up. docs/architecture.md says what each module is for.
LAYERS = (
    ("ringfree_asked", "ringfree_monitoring", "ringfree_run", "vz"),
    ("ringfree_journal", "ringfree_settings"),
    ("ringfree_deadman", "ringfree_nfs", "ringfree_snapshot"),
    ("ringfree_san",),
    ("ringfree_owner", "ringfree_replica"),
    ("ringfree_fingerprint", "ringfree_guard"),
    ("ringfree_start",),
    ("ringfree_boot", "ringfree_failover"),
    ("cloudstor",),
    ("ringfree_cleanup", "ringfree_mentions"),
    ("ringfree_scripts",),
    ("ringfree_confs",),
    ("ringfree_rollback", "ringfree_writes"),
    ("ringfree_keep", "ringfree_preflight", "ringfree_revert"),
)
LAYER_OF = {module: number for number, names in enumerate(LAYERS) for module in names}
MODULES = {path.stem: path for path in (PROJECT / "_modules").glob("*.py")}


def called(text):
    """What a file calls or asks for of other modules through Salt, as "module.function"."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Subscript) and _is_salt(node.value):
            names = [node.slice]
        elif isinstance(node, ast.Compare) and any(map(_is_salt, node.comparators)):
            names = [node.left]
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_salt(node.func.value)
        ):
            names = node.args[:1]
        for name in names:
            # The function of an f-string may be anything; its module stands at the beginning.
            name = name.values[0] if isinstance(name, ast.JoinedStr) else name
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.add(name.value)
    return found


def _is_salt(node):
    return isinstance(node, ast.Name) and node.id == "__salt__"


def calls_upwards(module, text):
    """What a module calls that does not stand below it."""
    own = {name for name in called(text) if name.split(".")[0] in LAYER_OF}
    return sorted(name for name in own if LAYER_OF[name.split(".")[0]] >= LAYER_OF[module])


def public(path):
    return {
        node.name.rstrip("_")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def test_every_module_has_its_layer():
    assert set(MODULES) == set(LAYER_OF)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_calls_only_what_stands_below_it(module):
    assert calls_upwards(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        '__salt__["cloudstor.sync"]()',
        '"cloudstor.sync" in __salt__',
        '__salt__.get("cloudstor.sync")',
        '__salt__[f"cloudstor.{what}"]()',
        "f\"{__salt__['ringfree_nfs.server']()}\"",
    ],
)
def test_a_call_upwards_is_seen(text):
    assert calls_upwards("ringfree_nfs", text)
    assert not calls_upwards("ringfree_keep", text)


@pytest.mark.parametrize("folder", ["_modules", "_states"])
def test_what_is_called_of_ours_is_there(folder):
    there = {f"{module}.{name}" for module, path in MODULES.items() for name in public(path)}
    lacking = {
        f"{path.name}: {name}"
        for path in (PROJECT / folder).glob("*.py")
        for name in called(path.read_text(encoding="utf-8"))
        if name.split(".")[0] in MODULES and not name.endswith(".") and name not in there
    }
    assert not lacking


@pytest.mark.parametrize("path", sorted((PROJECT / "_states").glob("*.py")), ids=lambda path: path.stem)
def test_a_state_file_is_beside_its_module(path):
    assert path.stem in MODULES
    assert any(name.startswith(f"{path.stem}.") for name in called(path.read_text(encoding="utf-8")))
