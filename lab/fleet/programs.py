"""The lab's own C programs: the NFS client of the nodes and the programs of the containers.

They are compiled inside the image with a compiler installed in a throw-away layer: the machine needs none."""

from .image import package_list
from .inside import run_inside
from .places import LAB

WARNINGS = ["-O2", "-Wall", "-Wextra", "-Werror"]


def build(target, image, log):
    """Compile into TARGET: `mount.nfs` (dynamic, for the nodes) and `guest` (static, for the containers)."""
    steps = [
        ["apt-get", "-q", "update"],
        ["apt-get", "-q", "-y", "--no-install-recommends", "install", *package_list("build-packages.txt")],
        ["/source/nfs/compile", *WARNINGS],
        ["/source/guest/compile", *WARNINGS],
    ]
    script = "".join(f"{' '.join(step)} || exit 1\n" for step in steps)
    binds = [
        (LAB / "nfs", "/source/nfs", True),
        (LAB / "guest", "/source/guest", True),
        (target, "/out", False),
    ]
    run_inside([image], ["/bin/sh", "-ec", script], binds=binds, log=log, network=True)
