"""
Where containers' private areas lie among the mounts of the node, and among each other.

A copy is made of what lies at a path.  A container sees the file system below that: simfs, and a bind mount of a
directory, show what lies under whatever else is mounted there.  Only the mount table of the host tells both apart.
"""

import itertools

#: What the kernel, or a container's init, mounts in each root; nothing that anybody would miss lies there.
KERNELS = (
    "proc",
    "sysfs",
    "devpts",
    "devtmpfs",
    "tmpfs",
    "mqueue",
    "cgroup",
    "cgroup2",
    "binfmt_misc",
    "securityfs",
    "debugfs",
    "fusectl",
)
#: The action scripts that can mount something in a container's root: vzctl(8).
MOUNTING = ("mount", "start")


def faults(areas, scripts):
    """
    What the copies of private areas would lack, and what would be left with the old ones.

    areas
        List of ``{"ctid", "private", "root", "moves", "place", "in_area", "in_root", "shown"}``: the two paths without
        symbolic links (``None`` for one that the conf does not name); whether the container is to be moved; and what
        ``ringfree_mounts`` says of them: the ``place`` of the private area, the mounts ``below`` it and below the root,
        and those ``showing`` it.

    scripts
        The names of files in the conf directory.

    Returns a list of sentences.
    """
    found = []
    for area in areas:
        if area["moves"]:
            said = [*covered(area["ctid"], area["in_area"]), *_by_hand(area, scripts), *_elsewhere(area)]
            found += [f"container {area['ctid']} {sentence}" for sentence in said]
    return found + _on_each_other([area for area in areas if area["place"]])


def covered(ctid, mounts):
    """
    What is mounted in a private area, so that no copy of it is what the container sees.

    ctid
        The container's id.

    mounts
        The mounts below its private area.

    Returns a list of sentences.
    """
    return [
        f"has {_what(mount)} mounted on {mount['mountpoint']}, in its private area: the container sees what lies under "
        f"the mount, which gets into no copy, and what is mounted gets into none either. 'umount "
        f"{mount['mountpoint']}', and let {ctid}.mount mount it below $VE_ROOT if the container is to have it"
        for mount in mounts
    ]


def _by_hand(area, scripts):
    """What somebody has mounted in a root, and no action script could mount again at the next start."""
    ctid = area["ctid"]
    if {f"{name}.{kind}" for name in (ctid, "vps") for kind in MOUNTING} & set(scripts):
        return []
    return [
        f"has {_what(mount)} mounted on {mount['mountpoint']}, in its root, and no action script that could do it "
        f"again: it would be missing after the move. Let {ctid}.mount mount it below $VE_ROOT"
        for mount in area["in_root"]
        if mount["fstype"] not in KERNELS
    ]


def _elsewhere(area):
    """What of a private area is seen at another place, which would go on with the old copy."""
    own = [path for path in (area["private"], area["root"]) if path]
    return [
        f"is seen on {mount['mountpoint']} as well, where {_what(mount)} is mounted: after the move the old copy would "
        f"be read and written there. 'umount {mount['mountpoint']}'"
        for mount in area["shown"]
        if not any(_lies_in(mount["mountpoint"], path) for path in own)
    ]


def _on_each_other(areas):
    """Containers that have one private area, or one in that of another; those that stay count as well."""
    found = []
    for first, second in itertools.combinations(areas, 2):
        if not (first["moves"] or second["moves"]):
            continue
        inside = [pair for pair in ((first, second), (second, first)) if _is_in(*pair)]
        if len(inside) == 2:
            found.append(
                f"containers {first['ctid']} and {second['ctid']} have one private area, {first['private']}: after the "
                f"move each would have another copy, or one of them the old one. Give one of them an area of its own, "
                f"or take its conf away"
            )
        elif inside:
            inner, outer = inside[0]
            found.append(
                f"container {inner['ctid']} has its private area {inner['private']} in that of container "
                f"{outer['ctid']}, {outer['private']}: it would be copied, and one day removed, with that. Move it out "
                f"of there"
            )
    return found


def _is_in(inner, outer):
    """Whether an area lies in another one, whatever both are called: the place within a file system says."""
    inner, outer = inner["place"], outer["place"]
    return inner["device"] == outer["device"] and _lies_in(inner["directory"], outer["directory"])


def _lies_in(path, folder):
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _what(mount):
    """What is mounted, as a person would name it."""
    if mount["fstype"] == "autofs":
        return f"an automount ({mount['source']})"
    part = "" if mount["root"] == "/" else f"{mount['root']} of "
    return f"{part}{mount['source']} ({mount['fstype']})"
