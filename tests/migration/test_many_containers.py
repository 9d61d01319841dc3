"""Nodes with 25 containers each, one of which was stopped before; after the first node, two at the same time."""

import checker
import pytest
from fleet_under_test import migrate

FLEET = {"nodes": 3, "cts": 25}
MINUTES = 4
NODES = ("node001", "node002", "node003")
TWO_AT_A_TIME = '{"ringfree": {"batch": 2, "packages": {"node": false}}}'


@pytest.fixture(scope="module")
def moved(lab):
    """The fleet before, and what the migration said."""
    lab.on("node002", "vzctl", "stop", 213)
    before = checker.remember(lab, NODES)
    assert [len(found["running"]) for found in before.values()] == [25, 24, 25]
    return before, migrate(lab, f"pillar={TWO_AT_A_TIME}")


def test_many_containers_move(lab, moved):
    """Exit code 0, and the independent check finds nothing."""
    before, run = moved
    assert run.code == 0, str(run)
    assert checker.faults(lab, before) == []


def test_the_run_ends_after_the_last_node(moved):
    """H15, H18: monitoring, the fleet's lock and the last words wait for nodes that move side by side."""
    _, run = moved
    said = [text for _, text in run.lines]
    ended = {node: next(at for at, text in enumerate(said) if f"{node} commit ok" in text) for node in NODES}
    begun = {node: next(at for at, text in enumerate(said) if f" {node} presync" in text) for node in NODES}
    last_words = [at for at, text in enumerate(said) if "is on NFS" in text]
    assert len(last_words) == 3
    assert max(ended.values()) < min(last_words), str(run)
    assert ended["node001"] < min(begun["node002"], begun["node003"]), str(run)
    assert max(begun["node002"], begun["node003"]) < min(ended["node002"], ended["node003"]), str(run)
