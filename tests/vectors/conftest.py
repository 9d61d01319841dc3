"""A world of its own for every test."""

import pytest
import vz_world


@pytest.fixture(scope="session")
def worlds():
    with vz_world.Worlds() as worlds:
        yield worlds


@pytest.fixture
def world(worlds):
    with worlds.open() as world:
        yield world
