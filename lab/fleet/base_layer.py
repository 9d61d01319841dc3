"""The base layer: what all hosts of the lab have in common, above the image."""

import os
import shutil
import stat

from .places import LAB

# Only these start something; targets, slices and scopes are harmless.
STARTING = (".service", ".socket", ".timer", ".path", ".mount", ".automount", ".swap")


def units_allowed():
    """Units of the image's packages that may run."""
    lines = (LAB / "hosts" / "units-allowed.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def build(target, image, log):
    """Copy hosts/common into TARGET and mask every unit that is not allowed."""
    shutil.copytree(LAB / "hosts" / "common", target, dirs_exist_ok=True, symlinks=True)
    masks = target / "etc/systemd/system"
    masks.mkdir(parents=True, exist_ok=True)
    allowed = units_allowed()
    for unit in sorted((image / "lib/systemd/system").iterdir()):
        if unit.suffix in STARTING and unit.name not in allowed and "@." not in unit.name:
            (masks / unit.name).symlink_to("/dev/null")
            log.write(f"masked {unit.name}\n")
    for script in sorted((image / "etc/init.d").iterdir()):
        unit = f"{script.name}.service"
        if unit not in allowed and not (masks / unit).is_symlink():
            (masks / unit).symlink_to("/dev/null")
    # What installation enabled is not enabled here; each role says what it wants. A device node 0/0 is how overlayfs
    # marks what is not there any more.
    for wants in (image / "etc/systemd/system").glob("*.wants"):
        os.mknod(masks / wants.name, stat.S_IFCHR, 0)
    (masks / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (target / "etc/fstab").write_text("")
