"""The lab as a fixture: a whole fleet, brought up once for all tests that ask for it.

LAB_KEEP=1 in the environment keeps it up afterwards, to look at what a failed test left."""

import os

import pytest

# Also makes the modules in lab/ importable, for every test below this folder.
from lab_under_test import LabUnderTest


@pytest.fixture(scope="session")
def lab():
    """The fleet of default size, for all files here; node002 is laid out as by Debian's vzctl."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    lab = LabUnderTest("test")
    lab.down()
    try:
        lab.up("--debian", "node002")
        yield lab
    finally:
        if os.environ.get("LAB_KEEP") != "1":
            lab.down()


@pytest.fixture
def whole_lab(lab):
    """The same fleet, for a test that breaks something: healed afterwards."""
    yield lab
    lab.heal()
