"""One record of each kind, as a migration in the middle of its life has them."""

import ringfree_deadman as deadman
import ringfree_journal as journal
import ringfree_owner as owner
import ringfree_replica as replica


def _journal():
    kept = journal.begin(journal.new("node001", 1700000000.0), 1700000001.0)
    for step in journal.steps()[:8]:
        kept = journal.mark(kept, step, "intent", 1700000002.5)
        kept = journal.mark(kept, step, "verified", 1700000003.5, note="x")
    kept = journal.mark(kept, "stop", "intent", 1.0, container=101)
    kept = journal.mark(kept, "start", "verified", 2.0, container=101)
    deadman_fact = {"fired": 1.0, "deadline": 2.0, "ok": True, "not_done": ["a"]}
    kept["facts"].update(load=0.4, deadman=deadman_fact, failover={"open": False, "lost": 3, "begun": 4})
    return kept


JOURNAL = _journal()
OWNER = owner.record("node001", "nfs", 1700000000, {"generation": "3"}, 365000000)
LIVE = replica.live("primary", 17e8, [None], 16e8)
MARKER = replica.marker("primary", 1700000000, 1700000100, [101, 102])
AREA = {
    "kind": "private",
    "ctid": 101,
    "source": "/vz/private/101",
    "kept": "/vz/private/.ringfree-removed/20261124-231000/101",
    "inode": 1234,
    "bytes": 1000,
    "files": 300,
    "state": "aside",
    "since": 1.7e9,
}
CLEANUP = {"version": 1, "areas": [AREA]}
CONSENT = {
    "word": "7f3a-91c2",
    "nodes": ["node001"],
    "digest": "ab" * 32,
    "until": 1.7e9,
    "by": "root",
    "taken": False,
}
DEADMAN = deadman.record(1795350000.5, 1795340000.5, "systemd", "/var/cache/salt/minion")
MEASURED = {"presync": [[12.5, 4], [13.0, 5]], "cutover": [[120.5, 4]]}
TODO = {"word": "marks", "ctids": [101, 102]}
