"""The Salt layer: the pinned Salt and what it needs, for the image's Python, as a layer above the image."""

import re
import sys

from .inside import run_inside
from .places import CACHE
from .shell import run

IMAGE_PYTHON = "3.11"
SITE = f"usr/local/lib/python{IMAGE_PYTHON}/dist-packages"
#: Where the hosts have compiled modules. Not beside the sources: Salt lists its folders anew for each loader, several
#: times for each command, and with a __pycache__ in them it has twice as many files to look at.
BYTECODE = "usr/local/lib/bytecode"
PYTHON = ("/usr/bin/python3", f"-Xpycache_prefix=/{BYTECODE}")
COMMANDS = ("salt", "salt-call", "salt-cp", "salt-key", "salt-master", "salt-minion", "salt-run")

# Environment markers ("; python_version < ...") must be judged for the image's Python and not for the one that
# runs pip, so the requirements are resolved first, with pip's own parser.
RESOLVE = """
import sys
from pip._vendor.packaging.requirements import Requirement
for line in open(sys.argv[1]):
    line = line.split("#")[0].strip()
    if line:
        wanted = Requirement(line)
        python = {"python_version": sys.argv[2], "python_full_version": sys.argv[2] + ".2"}
        if wanted.marker is None or wanted.marker.evaluate(python):
            print(f"{wanted.name}{wanted.specifier}")
"""


def fetch(requirements, wheelhouse):
    """Make WHEELHOUSE: the requirements as they apply to the image, and a wheel of Salt (released as source only)."""
    python = _python_with_pip()
    resolved = run([python, "-c", RESOLVE, requirements, IMAGE_PYTHON]).stdout
    wheelhouse.mkdir(parents=True, exist_ok=True)
    (wheelhouse / "requirements.txt").write_text(resolved, encoding="utf-8")
    salt = re.search(r"^salt==\S+$", resolved, re.M).group()
    if not list(wheelhouse.glob(f"{salt.replace('==', '-')}-*.whl")):
        run([python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheelhouse, salt], timeout=900)


def _python_with_pip():
    """The lab's own virtual environment: the machine's Python need not have pip, nor allow its use."""
    python = CACHE / "pip" / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", "--clear", CACHE / "pip"], timeout=120)
    return python


def build(target, image, requirements, wheelhouse, log):
    """Install into TARGET for the image's Python, with the machine's pip configuration."""
    fetch(requirements, wheelhouse)
    pip = [_python_with_pip(), "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
    only = ["--python-version", IMAGE_PYTHON, "--implementation", "cp", "--only-binary=:all:"]
    site = target / SITE
    places = ["--target", site, "--find-links", wheelhouse, "-r", wheelhouse / "requirements.txt"]
    log.write(run([*pip, *only, *places], timeout=900).stderr)
    _install_commands(target)
    # Compiled once here, so that no host spends its start on it; Python's own modules too, for the same place.
    (target / BYTECODE).mkdir(parents=True)
    sources = [f"/{SITE}", f"/usr/lib/python{IMAGE_PYTHON}", "/usr/lib/python3/dist-packages"]
    run_inside(
        [image],
        [*PYTHON, "-m", "compileall", "-q", "-j2", *sources],
        binds=[(site, f"/{SITE}", True), (target / BYTECODE, f"/{BYTECODE}", False)],
        log=log,
    )


def _install_commands(target):
    """Put Salt's commands where its packages put them, run by the image's Python."""
    commands = target / "usr" / "bin"
    commands.mkdir(parents=True)
    for name in COMMANDS:
        text = (target / SITE / "bin" / name).read_text(encoding="utf-8")
        script = commands / name
        script.write_text(f"#!{' '.join(PYTHON)}\n" + text.split("\n", 1)[1], encoding="utf-8")
        script.chmod(0o755)
