"""vzctl and vzlist against recorded runs of the real ones, version 4.11.1 (see README.md here)."""

import re
from pathlib import Path

import pytest
import vz_world
import yaml

HERE = Path(__file__).resolve().parent
NOISE = [
    re.compile(pattern)
    for pattern in (
        r"Directory /proc/vz not found, assuming non-OpenVZ kernel$",
        r"Unable to open /proc/vz/veinfo",
        r"Unable to open .*/user_beancounters",
        r"Unable to open /proc/fairsched",
        r"Failed to set context for .*: Operation not permitted$",
        r"Child \d+ (exited with status|terminated with signal) \d+$",
        r"Warning: .* action script is not specified$",
        r"File /usr/sbin/vzquota not found$",
        r"/\S*/vps-prestart: ",
    )
]
WHY_NOT = vz_world.why_not()

pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def load_cases():
    """Return all cases as parameters, each with whether its running containers are only listed."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = []
    for path in sorted(HERE.glob("*.yaml")):
        listed = path.name.startswith("vzlist-running")
        for case in yaml.load(path.read_text(encoding="utf-8"), Loader=loader):
            found.append(pytest.param(case, listed, id=case["name"]))
    return found


def normal(text):
    """Drop what depends on the kernel, and hide pids."""
    lines = [line for line in text.splitlines(keepends=True) if not any(noise.match(line) for noise in NOISE)]
    return re.sub(r"\bpid \d+", "pid <PID>", "".join(lines))


def in_order(wanted, got):
    """Return what is wanted if got has these lines in this order, else got."""
    rest = iter(got.splitlines())
    return wanted if all(line in rest for line in wanted.splitlines()) else got


def answer(got, wanted, command, note=""):
    """Bring an answer into the form of the recorded one, as far as it may differ."""
    got = {"rc": got["rc"], "stdout": normal(got["stdout"]), "stderr": normal(got["stderr"])}
    if vz_world.is_real():
        if re.search(r"\b(re)?start\b", command):  # an OpenVZ kernel has more to say there
            got["stdout"] = in_order(wanted["stdout"], got["stdout"])
        if "compare the rc only" in note:
            got.update(stdout=wanted["stdout"], stderr=wanted["stderr"])
    return got


@pytest.mark.parametrize(("case", "listed"), load_cases())
def test_case(world, case, listed):
    """The command of a case answers as recorded and leaves the same files behind."""
    wanted = case["expect"]
    run = world.run if case["name"].startswith("lifecycle-") else world.run_quickly
    world.build(case["given"], listed)
    got = answer(run(case["run"]), wanted, case["run"], case.get("note", ""))
    for probe in wanted.get("probes", []):
        found = answer(run(probe["run"]), probe, probe["run"])
        got.setdefault("probes", []).append({"run": probe["run"], **found})
    if "files" in wanted:
        got["files"] = {path: world.look(path) for path in wanted["files"]}
    assert got == wanted
