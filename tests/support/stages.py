"""A line for each folder of tests when the last of its tests has ended, while the others still run."""

import time
from collections import Counter


class Stages:
    """Counts what has ended; a pytest plugin of the process that shows results."""

    def __init__(self, config):
        self.config = config
        self.begun = time.monotonic()
        self.expected, self.ended, self.failed = Counter(), Counter(), {}
        self.took = Counter()

    def pytest_collection_finish(self, session):
        """Without processes side by side the tests are known here."""
        self._expect(item.nodeid for item in session.items)

    def pytest_xdist_node_collection_finished(self, node, ids):
        """With processes side by side each of them tells what it has found, and all find the same."""
        self._expect(ids)

    def _expect(self, ids):
        if not self.expected:
            self.expected = Counter(map(stage, ids))

    def pytest_runtest_logreport(self, report):
        self.took[stage(report.nodeid)] += report.duration
        if report.failed:
            self.failed.setdefault(stage(report.nodeid), set()).add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid, location):
        name = stage(nodeid)
        self.ended[name] += 1
        if self.ended[name] == self.expected[name]:
            failed = len(self.failed.get(name, ()))
            reporter = self.config.pluginmanager.get_plugin("terminalreporter")
            reporter.write("\n")
            reporter.write_line(
                f"{name:<11} {self.ended[name]:>5} tests, {failed} failed; {duration(self.took[name])} of tests, "
                f"ended {duration(time.monotonic() - self.begun)} after the start",
                red=failed > 0,
            )


def stage(nodeid):
    """The folder below tests/ that a test is in."""
    return nodeid.split("/")[1] if nodeid.count("/") > 1 else "tests"


def duration(seconds):
    """Minutes and seconds."""
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"
