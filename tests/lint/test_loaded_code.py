"""What Salt loads on minions and masters runs there with nothing but Python and Salt."""

import ast
import sys

import pytest
from minion_without_daemons import PROJECT

FILES = sorted(
    path for kind in ("modules", "states", "runners", "utils") for path in (PROJECT / f"_{kind}").glob("*.py")
)


def foreign_imports(text, allowed):
    """The top-level names that a file imports beyond Python's own and the allowed ones."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - set(allowed)


def dunders_of_salt(text):
    """The names that only Salt's loader provides, as far as a file uses them."""
    provided = {"__salt__", "__opts__", "__grains__", "__pillar__", "__context__", "__utils__", "__states__"}
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)} & provided


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_else_needs_to_be_installed(path):
    allowed = () if path.parent.name == "_utils" else ("salt",)
    assert not foreign_imports(path.read_text(encoding="utf-8"), allowed)


@pytest.mark.parametrize("path", sorted((PROJECT / "_utils").glob("*.py")), ids=lambda path: path.name)
def test_plain_logic_knows_nothing_of_salt(path):
    """It can be tested, and read, without a minion."""
    assert not dunders_of_salt(path.read_text(encoding="utf-8"))


def starts_programs(text):
    """What in a file starts a program past ringfree_command, which bounds and cleans what it prints."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        found |= {"subprocess", "pty"}.intersection(names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            found |= {node.attr} & {"system", "popen", "posix_spawn", "posix_spawnp", "forkpty"}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("cmd."):
            found.add(node.value)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_programs_are_started_in_one_place(path):
    """And in ringfree_confine.py, which is a program of its own and asks the loader about one of the node's."""
    if path.name not in ("ringfree_command.py", "ringfree_confine.py"):
        assert not starts_programs(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "from subprocess import run",
        "import os\nos.popen('ls')",
        "__salt__['cmd.run_all'](['ls'])",
    ],
)
def test_a_program_that_is_started_elsewhere_is_noticed(text):
    assert starts_programs(text)


@pytest.mark.parametrize(
    "text", ["import yaml", "from requests import get", "def f():\n    import salt.utils", "from . import x"]
)
def test_a_foreign_import_is_noticed(text):
    assert foreign_imports(text, ())


def test_allowed_imports_pass():
    assert not foreign_imports(
        "import os.path\nimport salt.utils.files\nfrom salt.exceptions import X", ("salt",)
    )


def test_a_dunder_is_noticed():
    assert dunders_of_salt('def f():\n    return __salt__["test.ping"]()') == {"__salt__"}
