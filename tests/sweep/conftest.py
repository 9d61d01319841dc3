"""One lab with one node for the whole sweep; at its end the word that repeats it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "migration"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import cases
from lab_client import brought_up


@pytest.fixture(scope="module")
def lab():
    """A lab with one node and two containers, for the one file of the sweep."""
    with brought_up("sweep", nodes=1, cts=2) as client:
        yield client


def pytest_generate_tests(metafunc):
    """The cases that the environment asks for."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", cases.chosen(cases.wanted()), ids=str)


def pytest_terminal_summary(terminalreporter):
    """Say which part of the sweep this was."""
    terminalreporter.write_line(
        f"sweep: {len(cases.chosen(cases.wanted()))} of {len(cases.every())} cases; "
        f"the same ones again: SWEEP={cases.wanted()}"
    )
