"""Real masters and minions on this machine, in temporary directories."""

import shutil
import subprocess
import tempfile
from collections import namedtuple

import pytest
import yaml
from minion_without_daemons import PROJECT

FOLDERS = ("_modules", "_states", "_runners", "_utils", "salt", "pillar")
GITFS = PROJECT / "docs" / "master.d" / "gitfs.conf"
QUIET = {"open_mode": True, "enable_fqdns_grains": False, "log_level_logfile": "quiet"}

ROOTS = {"file_roots": "salt", "pillar_roots": "pillar"}

Site = namedtuple("Site", "master minion salt salt_run")


@pytest.fixture(scope="session")
def salt_factories_config():
    """Daemons keep everything in a folder of their own; its name is short because sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="ringfree-") as folder:
        yield {"root_dir": folder}


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """The URL of a git repository with the tree as it is now."""
    folder = tmp_path_factory.mktemp("repository")
    for name in FOLDERS:
        shutil.copytree(
            PROJECT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "tree"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    return folder.as_uri()


@pytest.fixture(scope="module", params=["file_roots", "gitfs"])
def settings(request, repository):
    """Master settings that serve the tree: from a checkout, and from git as the documentation has it."""
    if request.param == "file_roots":
        roots = {kind: {"base": [str(PROJECT / folder)]} for kind, folder in ROOTS.items()}
        return {**QUIET, **roots}
    text = GITFS.read_text(encoding="utf-8").replace("https://git.example.com/ringfree.git", repository)
    return {**QUIET, **yaml.safe_load(text), "file_roots": {"base": []}, "pillar_roots": {"base": []}}


@pytest.fixture(scope="module")
def site(salt_factories, settings):
    """A master and the minion node001, both up."""
    master = salt_factories.salt_master_daemon("master", overrides=settings)
    with master.started():
        minion = master.salt_minion_daemon("node001", overrides=QUIET)
        with minion.started():
            yield Site(master, minion, master.salt_cli(timeout=60), master.salt_run_cli(timeout=60))
