"""Where no node can have a kernel of its own, these tests are skipped, and say why."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "lab"))

from fleet import own_kernel, setup
from fleet.shell import LabError


@pytest.fixture(scope="session", autouse=True)
def kernel():
    """The kernel of the node, fetched where it is not there yet."""
    if own_kernel.reason_against():
        pytest.skip(own_kernel.reason_against())
    try:
        return setup.set_up(with_kernel=True)["kernel"]
    except LabError as error:
        pytest.skip(f"{own_kernel.PACKAGE} cannot be fetched: {error}")
