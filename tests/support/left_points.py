"""Where a migration may have stopped, for tests of the way back; and what must be as before then."""

FSTAB = "/dev/sda1 / ext4 defaults 0 1\n"
#: Steps after which a migration may have stopped; the last one is the commit.
POINTS = {
    "prepared": ("vz.stopped", {}),
    "stopped": ("cloudstor.synced", {}),
    "owned by the share": ("vz.containers_configured", {}),
    "conf share mounted": ("vz.running", {"first": True}),
    "started": ("ringfree_start.load_normal", {}),
    "committed": ("ringfree_nfs.variables", {"mounted": True}),
}


def local_side(node):
    """What must be as before: confs and private areas with owner and mode, without times."""
    kept = {}
    for path, (*seen, content) in ((path, entry) for path, entry in node.tree().items() if len(entry) > 3):
        if (
            path.startswith(("etc/sysconfig/vz-scripts/", "etc/fstab", "vz/private/"))
            or path == "etc/vz/vz.conf"
        ):
            kept[path] = (*seen[:3], content)
    return kept
