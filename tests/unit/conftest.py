"""What the unit tests share: the project's utils as plain modules."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "_utils"))


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    """Where commands are recorded: never on the machine that runs the tests."""
    import ringfree_command

    monkeypatch.setattr(ringfree_command, "RECORDS", str(tmp_path / "run/commands"))
    return tmp_path / "run/commands"
