"""A fleet for each file of tests; a file says in FLEET how large it is."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab_client import brought_up


@pytest.fixture(scope="module")
def lab(request):
    """A lab of this file's own, taken down afterwards."""
    name = "mig-" + request.module.__name__.rsplit("test_", 1)[-1].replace("_", "-")
    with brought_up(name, **request.module.FLEET) as client:
        yield client
