"""Several nodes at the same time: the run is over when the last one is, and only then."""

import checker
from fleet_under_test import migrate

FLEET = {"nodes": 3, "cts": 2}
NODES = ("node001", "node002", "node003")
SMALL = '{"ringfree": {"batch": 2, "packages": {"node": false}}}'


def test_the_run_ends_after_the_last_node(lab):
    """H15, H18: monitoring, the fleet's lock and the last words wait for nodes that move side by side."""
    text = lab.on("master", "cat", "/srv/ringfree/pillar/ringfree/node001.sls")
    text = text.replace("      - Epsilon\n", "").replace("revnat: [asterisk]", "PBX: [postfix]")
    lab.write(
        "master", "/srv/lab-pillar/ringfree/node001.sls", text.replace("      revnat beta: [asterisk]\n", "")
    )
    before = checker.remember(lab, NODES)
    run = migrate(lab, f"pillar={SMALL}")
    assert run.code == 0, run
    said = [text for _, text in run.lines]
    where = {node: next(at for at, text in enumerate(said) if f"{node} commit ok" in text) for node in NODES}
    first_word = {
        node: next(at for at, text in enumerate(said) if f" {node} presync" in text) for node in NODES
    }
    last_words = [at for at, text in enumerate(said) if "is on NFS" in text]
    assert len(last_words) == 3
    assert max(where.values()) < min(last_words), run
    assert where["node001"] < min(first_word["node002"], first_word["node003"]), run
    assert max(first_word["node002"], first_word["node003"]) < min(where["node002"], where["node003"]), run
    assert checker.faults(lab, before) == []
