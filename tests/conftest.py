"""For all tests."""

import gc
import logging
import os
from pathlib import Path

import lab_client
import pytest
import salt._logging
from hypothesis import HealthCheck, settings
from stages import Stages, stage
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).resolve().parent
#: Folders whose files have a fleet or daemons of their own; those that take longest come first.
ON_FLEETS = ("story", "adversary", "sweep", "acceptance", "migration", "lab", "integration")

# Salt keeps early log records for a handler that its daemons configure later. In tests nothing ever does, and at the
# end they would go to a stream that is closed by then.
salt._logging.shutdown_temp_handler()
# Nor does anybody read the lowest of them, which Salt makes by the hundred for each state; pytest only lowers a level.
logging.getLogger().setLevel(logging.WARNING)

# Hypothesis without chance or clock. HYPOTHESIS_PROFILE=thorough makes up many more cases for each test, long others
# each time: for an hour of tests/unit/test_fuzz_*.py.
for profile, examples in (("quick", 15), ("thorough", 100), ("long", 5000)):
    settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        derandomize=profile != "long",
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


class ByFleet(LoadScopeScheduling):
    """What is given to a process as a whole: one test, or all that share a fleet."""

    def _split_scope(self, nodeid):
        folder = stage(nodeid)
        if folder == "lab":
            return folder  # its files share one
        return nodeid.split("::", 1)[0] if folder in ON_FLEETS else nodeid


def pytest_addoption(parser):
    parser.addoption(
        "--walks",
        choices=("some", "all"),
        default="all",
        help="of tests marked as a walk: two cases each (some), or every one",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "fleet: has a fleet of the lab, or daemons, for its whole file")
    config.addinivalue_line("markers", "walk: one sentence, at many points or with many kinds of damage")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Stages(config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Side by side, tests of a file with a fleet stay in one process, in their order; others go where there is room."""
    return ByFleet(config, log)


def pytest_itemcollected(item):
    """`-m fleet` chooses what has one."""
    if _folder(item) in ON_FLEETS:
        item.add_marker("fleet")


def pytest_collection_modifyitems(config, items):
    """The files that take longest begin first; of each walk there are as many cases as were asked for."""
    items.sort(key=_rank)
    if config.getoption("--walks") == "some":
        left_out = _left_out(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _left_out(items):
    """All cases of walks but the first and the last."""
    walks = {}
    for item in items:
        if item.get_closest_marker("walk"):
            walks.setdefault((item.path, item.originalname), []).append(item)
    return {case for cases in walks.values() for case in cases[1:-1]}


def pytest_collection_finish():
    """What is loaded by now stays: thousands of tests, and Salt; no collection of garbage looks through it again."""
    gc.collect()
    gc.freeze()


def _folder(item):
    return item.path.relative_to(TESTS).parts[0]


def _rank(item):
    folder = _folder(item)
    if folder not in ON_FLEETS:
        return (len(ON_FLEETS), 0)
    return (ON_FLEETS.index(folder), -getattr(item.module, "MINUTES", 1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure on a fleet comes with what the last runs said, and with the journals of the hosts."""
    report = yield
    if report.failed:
        report.sections += [section for client in lab_client.UP for section in client.evidence()]
    return report


@pytest.fixture(scope="module")
def lab(request):
    """A lab of this file's own, as large as its FLEET says, taken down afterwards."""
    name = request.module.__name__.rsplit("test_", 1)[-1].replace("_", "-")
    with lab_client.brought_up(name, **request.module.FLEET) as client:
        yield client
