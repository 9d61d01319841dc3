"""Nodes with 25 containers each, one of which was stopped before."""

import checker
import pytest
from fleet_under_test import migrate

FLEET = {"nodes": 2, "cts": 25}
NODES = ("node001", "node002")


@pytest.fixture(scope="module")
def moved(lab):
    """The fleet before, and what the migration said."""
    lab.on("node002", "vzctl", "stop", 213)
    before = checker.remember(lab, NODES)
    assert [len(found["running"]) for found in before.values()] == [25, 24]
    return before, migrate(lab)


def test_many_containers_move(lab, moved):
    """Exit code 0, and the independent check finds nothing."""
    before, run = moved
    assert run.code == 0, run
    assert checker.faults(lab, before) == []
