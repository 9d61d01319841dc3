"""`lab set-up`: everything that is made once and kept in lab/cache.

Each artefact is a directory whose name ends in a hash of what it is made from, written beside its place and renamed
when it is whole: an interrupted set-up leaves nothing that looks finished, and a second one has nothing to do."""

import fcntl
import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from . import base_layer, disks, image, keys, own_kernel, programs, salt_layer, template
from .places import CACHE, DEFAULT_NODES, LAB, SALT_REQUIREMENTS, fleet
from .shell import LabError

STORE = "16 GiB, closed"


def _digest(*parts):
    """Hash of files, directories and strings."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
            continue
        files = sorted(part.rglob("*")) if part.is_dir() else [part]
        for path in files:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(LAB.parent)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def salt_requirements():
    """The one place where Salt's version is pinned."""
    if not SALT_REQUIREMENTS.is_file():
        raise LabError(f"{SALT_REQUIREMENTS}: not found; it pins the version of Salt")
    return SALT_REQUIREMENTS


def artefacts():
    """Name to path of everything in the cache that the hosts need, as this checkout would make it."""
    fleet = LAB / "fleet"
    lists = [LAB / "image-packages.txt", LAB / "image-packages-late.txt"]
    of_image = _digest(fleet / "image.py", *lists)
    of_salt = _digest(of_image, fleet / "salt_layer.py", salt_requirements())
    sources = [LAB / "nfs", LAB / "guest", LAB / "build-packages.txt"]
    of_programs = _digest(of_image, fleet / "programs.py", *sources)
    of_base = _digest(
        of_image, fleet / "base_layer.py", LAB / "hosts" / "common", LAB / "hosts" / "units-allowed.txt"
    )
    of_template = _digest(of_programs, fleet / "template.py")
    return {
        "image": CACHE / f"image-{of_image}",
        "base": CACHE / f"base-{of_base}",
        "store": CACHE / f"store-{_digest(of_image, STORE)}",
        "salt": CACHE / f"salt-{of_salt}",
        "programs": CACHE / f"programs-{of_programs}",
        "template": CACHE / f"template-{of_template}",
    }


def kernel():
    """The path of the kernel for a node that has one of its own; made when one is asked for."""
    return CACHE / f"kernel-{_digest(artefacts()['image'].name, LAB / 'fleet' / 'own_kernel.py')}"


def is_set_up():
    """Whether there is nothing left to make."""
    return all(path.is_dir() for path in artefacts().values())


@contextmanager
def _locked():
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(say=print, with_kernel=False):
    """Make what is missing; returns the artefacts' paths."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes namespaces, mounts and device nodes")
    if set(":,\\") & set(str(LAB)):
        raise LabError(
            f"{LAB}: overlayfs cannot use a path with a colon, comma or backslash; move the checkout"
        )
    if not is_set_up():
        with _locked():
            places = artefacts()
            _make_all(places, say)
            _remove_outdated(places)
    return {**artefacts(), "kernel": _kernel(say)} if with_kernel else artefacts()


def _kernel(say):
    with _locked():
        image = artefacts()["image"]
        _artefact(kernel(), lambda target, log: own_kernel.build(target, image, log), say)
    return kernel()


def _make_all(places, say):
    """Image and Salt's wheels at the same time; then what stands on both."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        wheels = pool.submit(_wheels, places, say)
        of_image = pool.submit(_artefact, places["image"], image.build, say)
        of_image.result()
        built = pool.submit(_on_the_image, places, say)
        wheelhouse = wheels.result()
        of_salt = pool.submit(_salt, places, wheelhouse, say)
        built.result()
        of_salt.result()


def _wheels(places, say):
    if places["salt"].is_dir():
        return None
    wheelhouse = CACHE / "wheels"
    with _step("Salt's packages", say):
        salt_layer.fetch(salt_requirements(), wheelhouse)
    return wheelhouse


def _salt(places, wheelhouse, say):
    def build(target, log):
        salt_layer.build(target, places["image"], salt_requirements(), wheelhouse, log)

    _artefact(places["salt"], build, say)


def _on_the_image(places, say):
    _artefact(places["base"], lambda target, log: base_layer.build(target, places["image"], log), say)
    _artefact(places["store"], lambda target, log: disks.build_store(target, places["image"], log), say)
    for host in fleet(DEFAULT_NODES):
        keys.salt_pair(places["image"], host.name)
        if host.role in ("san", "node"):
            keys.client_pair(places["image"], host)
        if host.role == "san":
            keys.host_pair(places["image"], host)
    _artefact(places["programs"], lambda target, log: programs.build(target, places["image"], log), say)
    _artefact(places["template"], lambda target, log: template.build(target, places, log), say)


def _artefact(place, build, say):
    if place.is_dir():
        return
    half = place.with_name(place.name + ".half")
    _remove(half)
    half.mkdir(parents=True)
    half.chmod(0o755)
    with _step(place.name.rsplit("-", 1)[0], say), open(place.with_suffix(".log"), "w") as log:
        build(half, log)
    half.rename(place)


@contextmanager
def _step(what, say):
    begun = time.monotonic()
    say(f"set-up: {what} ...")
    yield
    say(f"set-up: {what} done in {time.monotonic() - begun:.0f} s")


def _remove_outdated(places):
    """Drop what other inputs made, unless a lab of this checkout still stands on it."""
    if (LAB / "run").is_dir() and any((LAB / "run").iterdir()):
        return
    made = [*places.values(), kernel()]
    kept = {path.name for path in made} | {path.with_suffix(".log").name for path in made}
    for path in CACHE.iterdir():
        if path.name.split("-")[0] in (*places, "kernel") and path.name not in kept:
            _remove(path)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
