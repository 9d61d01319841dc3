"""A fleet for each file of tests; a file says in FLEET how large it is."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab_client import LabClient


@pytest.fixture(scope="module")
def lab(request):
    """A lab of this file's own, taken down afterwards."""
    client = LabClient("mig-" + request.module.__name__.rsplit("test_", 1)[-1].replace("_", "-"))
    try:
        client.up(**request.module.FLEET)
        yield client
    finally:
        client.down()
