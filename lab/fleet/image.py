"""The image: a Debian 12 of the lab's own, the lowest layer of every host."""

import os
import re
import shutil
from pathlib import Path

from .inside import run_inside
from .places import LAB
from .shell import LabError, run

SUITE = "bookworm"
OFFICIAL_MIRROR = "http://deb.debian.org/debian"
# No daemon of a package starts while it is installed.
POLICY = "#!/bin/sh\nexit 101\n"
DPKG = "\n".join(
    [
        "force-unsafe-io",
        "path-exclude=/usr/share/doc/*",
        "path-exclude=/usr/share/man/*",
        "path-exclude=/usr/share/locale/*",
        "path-exclude=/usr/share/info/*",
        "",
    ]
)


def package_list(name):
    """The package names in a list file of the lab."""
    lines = (LAB / name).read_text(encoding="utf-8").splitlines()
    return [words[0] for words in (line.split("#")[0].split() for line in lines) if words]


def mirror():
    """LAB_MIRROR, else the first mirror in the machine's own apt sources if it runs Debian, else Debian's own."""
    if os.environ.get("LAB_MIRROR"):
        return os.environ["LAB_MIRROR"]
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    if re.search(r'^ID="?debian"?$', release, re.M):
        for source in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
            found = _first_uri(source)
            if found:
                return found
    return OFFICIAL_MIRROR


def _first_uri(path):
    if path.suffix not in (".list", ".sources") or not path.is_file():
        return None
    pattern = r"^URIs:\s*(\S+)" if path.suffix == ".sources" else r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)"
    for uri in re.findall(pattern, path.read_text(encoding="utf-8"), re.M):
        if uri.startswith(("http:", "https:")) and re.search(r"/debian/?$", uri):
            return uri
    return None


def build(target, log):
    """debootstrap into TARGET, an empty directory, and install what needs a second step."""
    if not shutil.which("debootstrap"):
        raise LabError("debootstrap: not found; lab/packages.txt lists what the machine needs")
    _write(target / "etc/dpkg/dpkg.cfg.d/lab", DPKG)
    source = mirror()
    include = ",".join(package_list("image-packages.txt"))
    log.write(f"debootstrap from {source}\n")
    log.flush()
    # In namespaces of its own: what it mounts in the target is never a mount of the machine.
    run(
        ["unshare", "-m", "-p", "-u", "-i", "--fork", "--kill-child", "--mount-proc", "debootstrap"]
        + ["--variant=minbase", f"--include={include}", SUITE, target, source],
        timeout=900,
    )
    _write(target / "usr/sbin/policy-rc.d", POLICY, 0o755)
    _write(target / "etc/apt/apt.conf.d/90lab", _apt_settings())
    late = package_list("image-packages-late.txt")
    apt = ["apt-get", "-q", "-y", "--no-install-recommends"]
    run_inside([], [*apt, "install", *late], writable=target, log=log, network=True)
    run_inside([], ["apt-get", "clean"], writable=target, log=log)
    _write(target / "etc/machine-id", "")


def _apt_settings():
    """The machine's ways to its mirrors (proxies, certificates, date checks), for apt in the image."""
    if not shutil.which("apt-config"):
        return ""
    lines = run(["apt-config", "dump"]).stdout.splitlines()
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Max-ValidTime")
    return "".join(f"{line}\n" for line in lines if line.startswith(wanted) and "Auto-Detect" not in line)


def _write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
