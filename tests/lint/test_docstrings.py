"""Docstrings are what Salt's own documentation functions print; each rule notices what it is there for."""

import ast
import functools
import textwrap

import docstring_rules
import pytest
from docstring_rules import Source
from minion_without_daemons import PROJECT

FILES = sorted(
    path for kind in ("modules", "states", "runners", "utils") for path in (PROJECT / f"_{kind}").glob("*.py")
)


#: Each file is parsed once for all rules.
read = functools.cache(Source.read)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
@pytest.mark.parametrize("rule", docstring_rules.RULES, ids=lambda rule: rule.__name__)
def test_the_file_keeps_the_rule(path, rule):
    assert not list(rule(read(path)))


def source(kind, text):
    """A file `thing.py` of a kind."""
    return Source(kind, "thing", ast.parse(textwrap.dedent(text)))


MODULE = '''
    """What it is for."""

    __virtualname__ = "thing"
    __func_alias__ = {"list_": "list"}


    def __virtual__():
        return __virtualname__


    LONG = 60


    def list_(node, deadline=LONG, *, sort="name"):
        """
        The things of a node.

        node
            Its name.

        deadline : 60
            Seconds.

        sort : name
            By what.

        CLI Example:

        .. code-block:: bash

            salt node001 thing.list node001
        """
'''

STATE = '''
    """What it is for."""

    __virtualname__ = "thing"


    def __virtual__():
        return __virtualname__


    def present(name):
        """
        The thing is there.

        name
            Its name.

        .. code-block:: yaml

            There is a thing:
              thing.present:
                - name: x
        """
'''


@pytest.mark.parametrize("rule", docstring_rules.RULES, ids=lambda rule: rule.__name__)
def test_good_files_pass(rule):
    assert not list(rule(source("modules", MODULE)))
    assert not list(rule(source("states", STATE)))
    assert not list(rule(source("runners", MODULE.replace("salt node001", "salt-run"))))


@pytest.mark.parametrize(
    ("rule", "kind", "text", "old", "new", "reason"),
    [
        ("file_is_described", "modules", MODULE, '"""What it is for."""', "", "no docstring"),
        ("file_says_whether_it_loads", "modules", MODULE, "def __virtual__", "def virtual", "no __virtual__"),
        ("file_says_whether_it_loads", "states", STATE, '= "thing"', '= "other"', "__virtualname__"),
        ("functions_are_described", "utils", "def f():\n    pass", "", "", "thing.f: no docstring"),
        ("functions_have_an_example", "modules", MODULE, "CLI Example:", "Example:", "CLI Example"),
        ("functions_have_an_example", "modules", MODULE, ":: bash", ":: text", "code-block:: bash"),
        (
            "functions_have_an_example",
            "modules",
            MODULE,
            "thing.list ",
            "thing.list_ ",
            "salt ... thing.list",
        ),
        ("functions_have_an_example", "runners", MODULE, "", "", "salt-run ... thing.list"),
        ("functions_have_an_example", "states", STATE, ":: yaml", ":: text", "code-block:: yaml"),
        (
            "functions_have_an_example",
            "states",
            STATE,
            "thing.present:",
            "thing.absent:",
            "uses thing.present",
        ),
        ("arguments_are_described", "modules", MODULE, "sort : name", "By name", "sort is not described"),
        (
            "arguments_are_described",
            "modules",
            MODULE,
            "deadline : 60",
            "deadline : 30",
            "default 60 and not 30",
        ),
        (
            "arguments_are_described",
            "states",
            STATE,
            "present(name)",
            "present(what)",
            "name is described but",
        ),
    ],
)
def test_a_bad_file_is_refused(rule, kind, text, old, new, reason):
    found = list(getattr(docstring_rules, rule)(source(kind, text.replace(old, new) if old else text)))
    assert reason in " ".join(found)
