"""The project's SLS tree, compiled once for all tests of this folder."""

import os

import pytest
from minion_without_daemons import PROJECT
from sls_tree import Tree

#: Modules load only where these programs are.
PROGRAMS = ("vzctl", "vzlist", "rsync", "ssh", "mount", "umount")


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """A folder with a program of each name that does nothing, first in PATH."""
    folder = tmp_path_factory.mktemp("bin")
    for name in PROGRAMS:
        (folder / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield folder


@pytest.fixture(scope="session")
def tree(tmp_path_factory, programs):
    """The project's own tree."""
    return Tree(tmp_path_factory.mktemp("tree") / "minion", PROJECT / "salt", PROJECT / "pillar")


@pytest.fixture(scope="session")
def samples(tmp_path_factory, programs):
    """A tree for one sample after the other."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "salt").mkdir()
    return Tree(folder / "minion", folder / "salt")


@pytest.fixture
def sample(samples):
    """sample(text) compiles an SLS for the master; sample(text, **others) puts other SLS files beside it."""

    def make(text, minion="master", **others):
        for path in samples.root.glob("*.sls"):
            path.unlink()
        for name, content in {"sample": text, **others}.items():
            (samples.root / f"{name}.sls").write_text(content, encoding="utf-8")
        return samples.compile("sample", minion)

    return make
