"""Key pairs of the hosts. Made once and kept in the cache: making them is slow, and nobody outside can use them."""

import shutil
import tempfile
import threading
from pathlib import Path

from .inside import run_inside
from .places import CACHE

FOLDER = CACHE / "keys"
# Salt reads and checks its key several times for each job. With half of its usual 2048 bits that takes a seventh of the
# time, which was a tenth of what a minion of the lab used; nobody outside the lab can reach it.
SALT_BITS = "1024"
# Hosts are prepared at the same time, and more than one of them wants the same key.
ONE_AT_A_TIME = threading.Lock()


def salt_pair(image, name):
    """(private, public) of a master or minion, as PEM files."""
    private = ["openssl", "genrsa", "-traditional", "-out", "/keys/private", SALT_BITS]
    public = ["openssl", "rsa", "-in", "/keys/private", "-pubout", "-out", "/keys/private.pub"]
    return _pair(image, f"salt-{SALT_BITS}-{name}", [private, public])


def host_pair(image, host):
    """(private, public) of a host's own key, by which those who come in over ssh know it."""
    return _ssh_pair(image, host.name, host.name)


def client_pair(image, host):
    """(private, public) of the key with which root of a host reaches the SANs."""
    return _ssh_pair(image, f"client-{host.name}", host.name)


def lab_pair(image):
    """(private, public) of the key with which the lab's own commands reach a node with a kernel of its own."""
    return _ssh_pair(image, "lab", "lab")


def _ssh_pair(image, name, comment):
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", "/keys/private"]
    return _pair(image, f"ssh-{name}", [make])


def _pair(image, name, commands):
    """Both halves in one folder that appears at once, so that two who make it never mix theirs."""
    place = FOLDER / name
    with ONE_AT_A_TIME:
        if not place.exists():
            FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
            half = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=FOLDER))
            for argv in commands:
                run_inside([image], argv, binds=[(half, "/keys", False)])
            try:
                half.rename(place)
            except OSError:
                shutil.rmtree(half)  # Another lab was quicker.
    return place / "private", place / "private.pub"


def install(source, target, mode):
    """Copy one key file to its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
