"""Documents lead somewhere: links to files that are there; functions, SLS and orchestrations that they name exist."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ringfree_version

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [
        *CHECKOUT.glob("*.md"),
        *CHECKOUT.glob("docs/*.md"),
        *CHECKOUT.glob("lab/*.md"),
        *CHECKOUT.glob("lab/*/*.md"),
    ]
)
DOCUMENTS = [path for path in DOCUMENTS if not {"cache", "run"} & set(path.relative_to(CHECKOUT).parts)]
MODULES = ("_modules", "_runners", "_states", "_utils")
NAME = re.compile(r"(?<![\w./-])((?:ringfree|cloudstor|vz)(?:_[a-z]+)?)\.([a-z_]+)\b(?![\w/.-])")
#: Files that are called like a function.
FILES = (
    "conf",
    "mount",
    "premount",
    "service",
    "sls",
    "sh",
    "postumount",
    "umount",
    "start",
    "stop",
    "create",
)


def functions():
    """All that can be called by a name: ``ringfree.plan``, ``vz.start``; and the SLS."""
    found = set()
    for folder in MODULES:
        for path in (CHECKOUT / folder).glob("*.py"):
            names = [
                node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
            ]
            # As Salt offers them: an underscore at the end only keeps clear of Python's own names.
            found |= {f"{path.stem}.{name.rstrip('_')}" for name in names if not name.startswith("_")}
    return found | {f"ringfree.{path.stem}" for path in (CHECKOUT / "salt/ringfree").glob("*.sls")}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_link_leads_to_a_file_and_a_heading(path):
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, heading = link.partition("#")
        target = (path.parent / file) if file else path
        if not target.exists() or (heading and heading not in headings(target)):
            dead.append(link)
    assert dead == []


def headings(path):
    """The headings of a document as links name them."""
    lines = re.findall(r"(?m)^#+ (.+)$", path.read_text())
    return {re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-") for line in lines}


@pytest.mark.parametrize(
    "path",
    # CHANGELOG.md says what is gone.
    [path for path in DOCUMENTS if path.name != "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(CHECKOUT)),
)
def test_every_function_that_is_named_is_there(path):
    named = {f"{module}.{name}" for module, name in NAME.findall(path.read_text()) if name not in FILES}
    assert sorted(named - functions()) == []


def test_every_orchestration_that_is_named_is_there():
    for path in DOCUMENTS:
        for name in re.findall(r"state\.orch ([a-z_.]+)", path.read_text()):
            assert (CHECKOUT / "salt" / f"{name.replace('.', '/')}.sls").exists(), f"{path}: {name}"


def test_the_version_is_the_newest_one_of_the_changes():
    newest = re.search(r"^## ([\d.]+)", (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest[1] == ringfree_version.of_project()


def test_what_is_generated_is_as_it_would_be_made_now():
    """`make docs` makes it."""
    done = subprocess.run(
        [sys.executable, CHECKOUT / "docs/generate", "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
