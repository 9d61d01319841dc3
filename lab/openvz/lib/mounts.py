"""VE_ROOT: is something mounted there, and mounting VE_PRIVATE on it (a bind mount stands for simfs).

What is mounted may be anything: a mount is seen by its device number, and never held against the present VE_PRIVATE.
"""

import os
import stat

import codes
import log
import paths
import scripts


def _status(path):
    try:
        return os.stat(path)
    except OSError as err:
        log.error(f"stat({path})", err)
        return None


def is_mounted(root, private):
    """Return True or False, or None after telling why it cannot be known."""
    if root is None or private is None:
        return None
    mine = _status(root)
    parent = mine and _status(root + "/..")
    if not parent:
        return None
    if mine.st_dev != parent.st_dev:
        return True
    try:
        area = os.stat(private)
    except FileNotFoundError:
        return False
    except OSError as err:
        log.error(f"stat({private})", err)
        return None
    return (mine.st_dev, mine.st_ino) == (area.st_dev, area.st_ino)


def _kind(path):
    """Return the file type of path itself, 0 if there is none."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return 0
    except OSError as err:
        log.error(f"Can not access {path}", err)
        return 0


def guess_layout(private):
    """Return ploop if the private area holds an image, else simfs."""
    image = f"{private}/root.hdd"
    for path, wanted, name in (
        (image, stat.S_IFDIR, "directory"),
        (image + "/DiskDescriptor.xml", stat.S_IFREG, "regular file"),
    ):
        kind = _kind(path)
        if not kind:
            return "simfs"
        if kind != wanted:
            hint = "Please set the VE_LAYOUT parameter value in the VE config."
            log.error(f"Warning: {path} is not a {name}.\n{hint}")
    return "ploop"


def is_ploop(conf):
    """Tell whether a container's layout is ploop, by its configuration or else by its private area."""
    return (conf.get("VE_LAYOUT") or guess_layout(conf.private)) == "ploop"


def say_no_ploop():
    """Print that this kernel has no ploop."""
    log.error(
        "No ploop support in the kernel, or kernel is way too old.\n"
        "Make sure you have OpenVZ kernel 042stab058.7 or later running,\n"
        "and kernel ploop modules loaded."
    )


def refuse_ploop(conf):
    """Return the exit code for a ploop container, which this kernel cannot run; 0 for any other."""
    if not is_ploop(conf):
        return codes.OK
    say_no_ploop()
    return codes.NO_PLOOP


def mount_area(ctid, conf):
    """Mount a private area on its root, without action scripts. Returns an exit code."""
    if not paths.make_dir(conf.root):
        log.error(f"Can't create mount point {conf.root}")
        return codes.CANT_MAKE_ROOT
    code = refuse_ploop(conf)
    if code:
        return code
    import kernel

    try:
        kernel.mount(conf.private, conf.root, "simfs", kernel.MS_BIND, conf.private)
    except OSError as err:
        log.error(f"Can't mount: {conf.root} {conf.private}", err)
        return codes.CANT_MOUNT
    paths.write_state(paths.MOUNT_DIR, ctid, conf.root)
    return codes.OK


def _mount_points():
    with open("/proc/self/mounts", "rb") as file:
        fields = [line.split(b" ")[1] for line in file]
    return [os.fsdecode(field.decode("unicode_escape").encode("latin-1")) for field in fields]


def _umount_below(root):
    """Unmount what is mounted below root, the last one first."""
    import kernel

    try:
        real = os.path.realpath(root, strict=True)
    except OSError as err:
        log.error(f"realpath({root}) failed", err)
        return
    for point in reversed([point for point in _mount_points() if point.startswith(real + "/")]):
        try:
            kernel.umount(point)
        except OSError as err:
            log.error(f"Cannot umount {point}", err)


def umount_area(ctid, conf):
    """Unmount a root and what is mounted below it, without action scripts. Returns an exit code."""
    import kernel

    if conf.root is None:
        log.error("realpath((null)) failed: Invalid argument")
        log.error("Can't umount (null): Bad address")
        return codes.CANT_UMOUNT
    _umount_below(conf.root)
    try:
        kernel.umount(conf.root)
    except OSError as err:
        log.error(f"Can't umount {conf.root}", err)
        return codes.CANT_UMOUNT
    if paths.read_state(paths.MOUNT_DIR, ctid) == conf.root:
        paths.forget_state(paths.MOUNT_DIR, ctid)
    return codes.OK


def mount(ctid, conf, with_scripts=True):
    """Mount a container's private area on its root, with the action scripts. Returns an exit code."""
    if conf.root is None:
        log.error("VE_ROOT is not set")
        return codes.NO_VE_ROOT
    if conf.private is None:
        log.error("VE_PRIVATE is not set")
        return codes.NO_VE_PRIVATE
    if is_mounted(conf.root, conf.private):
        log.error("Container is already mounted")
        return codes.OK
    failed = with_scripts and scripts.run_pair(ctid, "premount", "vps")
    if failed:
        log.error(f"Error executing premount script {failed}")
        return codes.ACTION_SCRIPT
    if not paths.exists(conf.private):
        log.error(f"Container private area {conf.private} does not exist")
        return codes.NO_PRIVATE_AREA
    code = mount_area(ctid, conf)
    if code:
        return code
    failed = with_scripts and scripts.run_pair(ctid, "mount", "vps")
    if failed:
        log.error(f"Error executing mount script {failed}")
        umount_area(ctid, conf)
        return codes.ACTION_SCRIPT
    log.info("Container is mounted")
    return codes.OK


def umount(ctid, conf, running, with_scripts=True):
    """Unmount a container's root, with the action scripts. Returns an exit code."""
    if is_mounted(conf.root, conf.private) is False:
        log.error("CT is not mounted")
        return codes.NOT_MOUNTED
    if running:
        log.error("Container is running -- stop it first")
        return codes.RUNNING
    failed = with_scripts and scripts.run_pair(ctid, "umount", "ct")
    if failed:
        log.error(f"Error executing umount script {failed}")
        return codes.ACTION_SCRIPT
    code = umount_area(ctid, conf)
    if code == codes.OK:
        log.info("Container is unmounted")
    failed = with_scripts and scripts.run_pair(ctid, "postumount", "ct")
    if failed:
        log.error(f"Error executing postumount script {failed}")
        return codes.ACTION_SCRIPT
    return code
