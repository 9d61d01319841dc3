"""What vzctl does to a container: start, stop, restart, suspend, resume, destroy, exec, status."""

import errno
import os
import time

import codes
import container
import dist
import inside
import log
import mounts
import net
import paths
import save
import scripts
import text
import values
from conf import Conf

EVENTD = os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + "/vzeventd"
DEFAULT_STOP_TIMEOUT = 120
NO_MEMORY_IMAGE = "The lab writes no memory image: a start from this file boots the container.\n"
# What a container without vswap (PHYSPAGES alone) must have.
BEANCOUNTERS = [key for key in values.RESOURCES if key not in ("AVNUMPROC", "SWAPPAGES")]


def is_running(ctid):
    """Tell whether a container runs."""
    return container.init_pid(ctid) is not None


def status(ctid, conf):
    """Print the one line of `vzctl status`."""
    known = conf.private is not None and paths.exists(conf.private) and paths.exists(paths.conf(ctid))
    mounted = mounts.is_mounted(conf.root, conf.private)
    running = is_running(ctid)
    suspended = known and not running and paths.exists(paths.dump_file(ctid, conf.get("DUMPDIR")))
    words = [
        f"CTID {ctid}",
        "exist" if known else "deleted",
        "mounted" if mounted else "unmounted",
        "running" if running else "down",
        *(["suspended"] if suspended else []),
    ]
    text.write(1, " ".join(words) + "\n")
    return codes.OK


def umount(ctid, conf, with_scripts=True):
    """Unmount a container's root."""
    return mounts.umount(ctid, conf, is_running(ctid), with_scripts)


# Start


def start(ctid, conf, own, options):
    """Start a container. conf is what holds for it, own what its own file says, options a set of option names."""
    if conf.get("DISABLED") == "yes" and "force" not in options:
        log.error("Container start disabled")
        return codes.START_DISABLED
    if conf.private is None:
        log.error("VE_PRIVATE is not set")
        return codes.NO_VE_PRIVATE
    if not paths.exists(conf.private):
        log.error(f"Container private area {conf.private} does not exist")
        return codes.NO_PRIVATE_AREA
    if is_running(ctid):
        log.error("Container is already running")
        return codes.RUNNING
    dump = paths.dump_file(ctid, conf.get("DUMPDIR"))
    remount = "skip-remount" not in options
    if paths.exists(dump):
        log.info(f"Dump file {dump} exists, trying to restore from it")
        _restore(ctid, conf, remount, keep_mounted=True)
        remount = False  # it was mounted a moment ago
    log.info("Starting container...")
    code = _boot(ctid, conf, remount, setup="skip_ve_setup" not in options)
    if code == codes.OK:
        _remove_dump(dump)
    if not own.get("VE_LAYOUT"):
        _save_layout(ctid, own)
    return code


def _save_layout(ctid, own):
    """Record the layout, guessed from the private area that the container's own file names, if it names one."""
    layout = mounts.guess_layout(own.private or "(null)")
    log.info(f"Saving VE layout '{layout}' to the VE config file")
    save.save(paths.conf(ctid), Conf(VE_LAYOUT=layout), own)


def _remove_dump(dump):
    if not paths.exists(dump):
        return
    log.say(1, f"Removing CT dump {dump}")
    try:
        if os.path.isdir(dump):
            import shutil

            shutil.rmtree(dump)
        else:
            os.unlink(dump)
    except OSError as err:
        log.error("Warning: failed to remove dump file", err)


def missing_resources(conf):
    """Print which beancounters a configuration lacks; returns whether any is missing."""
    wanted = ["SWAPPAGES"] if values.is_vswap(conf) else BEANCOUNTERS
    missing = [key for key in wanted if key not in conf]
    for key in missing:
        log.error(f"Error: required UB parameter {key.lower()} not set")
    return bool(missing)


def _prepare(ctid, conf, remount, with_scripts=True):
    """Make sure that the container is mounted. Returns (exit code, what its distribution's scripts can do)."""
    if conf.root is None:
        log.error("VE_ROOT is not set")
        return codes.NO_VE_ROOT, None
    if missing_resources(conf):
        return codes.MISSING_UBC, None
    code = mounts.refuse_ploop(conf)
    if code:
        return code, None
    can_do = dist.load(conf)
    if remount and mounts.is_mounted(conf.root, conf.private):
        umount(ctid, conf, with_scripts)  # whatever comes of it: a busy old mount is used as it is
    if not mounts.is_mounted(conf.root, conf.private):
        return mounts.mount(ctid, conf, with_scripts), can_do
    return codes.OK, can_do


def _boot(ctid, conf, remount, setup=True, with_scripts=True):
    code, can_do = _prepare(ctid, conf, remount, with_scripts)
    if code:
        return code
    starting = container.create(ctid, conf, EVENTD)
    code = _set_up(ctid, conf, starting, can_do if setup else None, setup, with_scripts)
    if code:
        log.error('Container start failed (try to check kernel messages, e.g. "dmesg | tail")')
        if starting:
            starting.abort()
    elif starting.go():
        log.info("Container start in progress...")
        return codes.OK
    else:
        log.error("Unable to start init, probably incorrect template")
        log.error("Container start failed")
        code = codes.BAD_TEMPLATE
    if is_running(ctid):
        _halt(ctid, fast=True, timeout=0)
    if mounts.is_mounted(conf.root, conf.private):
        umount(ctid, conf)
    return code


def _set_up(ctid, conf, starting, can_do, setup, with_scripts):
    """Give a container that is about to start its network and names, and run its CTID.start. Returns an exit code."""
    if starting is None:
        return codes.RESOURCE_ERROR
    if setup:
        given, pid = addresses(conf), starting.pid
        code = net.add(ctid, pid, given, starting=True)
        code = code or dist.add_addresses(pid, can_do, conf, given, "starting")
        code = code or dist.configure(pid, can_do, conf, conf, "starting")
        if code:
            return code
    script = f"{paths.CONF_DIR}/{ctid}.start"
    if with_scripts and paths.exists(script) and inside.run_script(starting.pid, script):
        return codes.ACTION_SCRIPT
    return codes.OK


def addresses(conf):
    """Return the addresses that a container may have: those of IPv6 only with IPV6=yes."""
    found = conf.get("IP_ADDRESS", [])
    if conf.get("IPV6") != "yes" and any(":" in address for address in found):
        log.info("WARNING: IPv6 support is disabled")
        found = [address for address in found if ":" not in address]
    return found


# Stop


def stop(ctid, conf, options):
    """Stop a container and unmount it."""
    if conf.root is None:
        log.error("VE_ROOT is not set")
        return codes.NO_VE_ROOT
    pid = container.init_pid(ctid)
    if pid is None:
        log.error("Unable to stop: container is not running")
        return codes.OK
    script = f"{paths.CONF_DIR}/{ctid}.stop"
    if paths.exists(script) and inside.run_script(pid, script):
        return codes.ACTION_SCRIPT
    code = _halt(ctid, "fast" in options, conf.get("STOP_TIMEOUT", 0))
    if code or "skip-umount" in options:
        return code
    return umount(ctid, conf)


def _wait_down(ctid, rounds, seconds):
    for _ in range(rounds):
        time.sleep(seconds)
        if not is_running(ctid):
            return True
    return False


def _halt(ctid, fast, timeout):
    """Let a container halt itself, kill it if it does not in time."""
    timeout = timeout or DEFAULT_STOP_TIMEOUT
    if not fast and _ask_to_halt(ctid) and _wait_down(ctid, timeout, 1):
        log.info("Container was stopped")
        return codes.OK
    log.info("Killing container ...")
    pid = container.init_pid(ctid)
    if pid is not None:
        container.kill(pid)
    if _wait_down(ctid, timeout, 0.5):
        log.info("Container was stopped")
        return codes.OK
    log.error("Unable to stop container: operation timed out")
    return codes.STOP_ERROR


def _ask_to_halt(ctid):
    """Run halt inside; returns False if that went wrong (1 counts as well: some halts return it and halt)."""
    log.info("Stopping container ...")
    pid = container.init_pid(ctid)
    if pid is None:
        return True
    code, ended = inside.run_detached(pid, ["halt"])
    if not ended:
        log.error(f"Child {pid} terminated with signal {-code}")
    elif code:
        log.error(f"Child {pid} exited with status {code}")
    return ended and code in (0, 1)


def restart(ctid, conf, own, options):
    """Stop a container if it runs, and start it."""
    log.info("Restarting container")
    if is_running(ctid):
        code = stop(ctid, conf, options)
        if code:
            return code
    return start(ctid, conf, own, options)


# Suspend and resume: the commands and their files are there, but a memory image is not.


def suspend(ctid, conf, dump):
    """Write a dump file, kill the container and unmount it."""
    if conf.root is None:
        log.error("Container root (VE_ROOT) is not set")
        return codes.NO_VE_ROOT
    pid = container.init_pid(ctid)
    if pid is None:
        log.error("Unable to setup checkpointing: container is not running")
        return codes.NOT_RUNNING
    dump = dump or paths.dump_file(ctid, conf.get("DUMPDIR"))
    log.info("Setting up checkpoint...")
    paths.make_dir(os.path.dirname(dump) or ".")
    try:
        with open(os.open(dump, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "w", encoding="ascii") as file:
            log.info("\tsuspend...")
            log.info("\tdump...")
            file.write(NO_MEMORY_IMAGE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as err:
        log.error(f"Can not create dump file {dump}", err)
        log.error("Checkpointing failed")
        return codes.CHKPNT_ERROR
    log.info("\tkill...")
    container.kill(pid)
    while is_running(ctid):
        time.sleep(0.02)
    log.info("Checkpointing completed successfully")
    umount(ctid, conf)
    return codes.OK


def resume(ctid, conf, dump, options):
    """Try to restore a container from its dump file, which fails in the lab."""
    if is_running(ctid):
        log.error("Unable to perform restore: container already running")
        return codes.RUNNING
    return _restore(ctid, conf, "skip-remount" not in options, dump=dump)


def _restore(ctid, conf, remount, dump=None, keep_mounted=False):
    dump = dump or paths.dump_file(ctid, conf.get("DUMPDIR"))
    log.info("Restoring container ...")
    try:
        os.close(os.open(dump, os.O_RDONLY))
    except OSError as err:
        log.error(f"Unable to open {dump}", err)
        return codes.RESTORE_ERROR
    code, _ = _prepare(ctid, conf, remount)
    if code:
        return code
    log.info("\tundump...")
    log.error("Restore error, undump failed", errno.EINVAL)
    log.error('Container restore failed (try to check kernel messages, e.g. "dmesg | tail")')
    if not keep_mounted and mounts.is_mounted(conf.root, conf.private):
        umount(ctid, conf)
    return codes.RESTORE_ERROR


# Commands inside


def exec_shell(ctid, conf, words):
    """Run words as one line of the container's shell; a single "-" reads commands from the standard input."""
    line = "".join((word or "''") + " " for word in words)
    log.say(1, f"Executing command: {line}")
    return _exec(ctid, conf, inside.shell([] if words[0] == "-" else ["-c", line]))


def exec_program(ctid, conf, words):
    """Run a program of the container without a shell."""
    return _exec(ctid, conf, inside.program(words))


def _exec(ctid, conf, choices):
    if conf.root is None:
        log.error("Container root (VE_ROOT) is not set")
        return codes.NO_VE_ROOT
    pid = container.init_pid(ctid)
    if pid is None:
        log.error("Container is not running")
        return codes.NOT_RUNNING
    return inside.run(pid, choices)


def run_script(ctid, conf, path):
    """Run a script of the node in a container; one that is down is there for it, without an init, and goes again."""
    if not paths.exists(path):
        log.error(f"Script not found: {path}")
        return codes.NO_SCRIPT
    for place, key, code in (
        (conf.root, "VE_ROOT", codes.NO_VE_ROOT),
        (conf.private, "VE_PRIVATE", codes.NO_VE_PRIVATE),
    ):
        if place is None:
            log.error(f"{key} is not set")
            return code
    if not paths.exists(conf.private):
        log.error(f"Container private area {conf.private} does not exist")
        return codes.NO_PRIVATE_AREA
    pid = container.init_pid(ctid)
    if pid is not None:
        return inside.run_script(pid, path)
    if missing_resources(conf):
        return codes.MISSING_UBC
    mounted = mounts.is_mounted(conf.root, conf.private)
    code = codes.OK if mounted else mounts.mount_area(ctid, conf)
    if code:
        return code
    starting = container.create(ctid, conf, EVENTD)
    code = codes.RESOURCE_ERROR if starting is None else inside.run_script(starting.pid, path)
    if starting is not None:
        starting.abort()
        _wait_down(ctid, 250, 0.02)
    if not mounted:
        mounts.umount_area(ctid, conf)
    return code


def set_passwords(ctid, conf, can_do, users):
    """Set passwords in a container; one that is down runs for that long. Returns an exit code."""
    runs = is_running(ctid)
    if not runs:
        log.info("Starting container...")
        code = _start_bare(ctid, conf)
        if code:
            return code
    code = dist.set_passwords(container.init_pid(ctid), can_do, users)
    if not runs:
        _halt(ctid, fast=True, timeout=conf.get("STOP_TIMEOUT", 0))
        umount(ctid, conf, with_scripts=False)
    return code


def _start_bare(ctid, conf):
    """Start a container without its network and without scripts."""
    if conf.root is None:
        log.error("VE_ROOT is not set")
        return codes.NO_VE_ROOT
    try:
        os.stat(conf.private or "(null)")
    except OSError as err:
        log.error(f"Can't stat {conf.private or '(null)'}", err)
        return codes.SYSTEM_ERROR
    return _boot(ctid, conf, remount=True, setup=False, with_scripts=False)


def enter(ctid, conf, words):
    """Give the caller a shell in the container, on the caller's own terminal."""
    if conf.root is None:
        log.error("VE_ROOT is not set")
        return codes.NO_VE_ROOT
    pid = container.init_pid(ctid)
    if pid is None:
        log.error("Container is not running")
        return codes.NOT_RUNNING
    if not words:
        log.info(f"entered into CT {ctid}")
    code = inside.run_attached(pid, inside.shell(["-c", " ".join(words)] if words else []))
    if not words:
        log.info(f"exited from CT {ctid}")
    return code


# Destroy


def destroy(ctid, conf):
    """Remove a container: its private area goes away in the background, its configuration is renamed."""
    if conf.private is None:
        log.error("VE_PRIVATE is not set")
        return codes.NO_VE_PRIVATE
    if conf.root is None:
        log.error("VE_ROOT is not set")
        return codes.NO_VE_ROOT
    if is_running(ctid):
        log.info("Container is currently running. Stop it first.")
        return codes.RUNNING
    if mounts.is_mounted(conf.root, conf.private):
        log.info("Container is currently mounted (umount first)")
        return codes.MOUNTED
    code = mounts.refuse_ploop(conf)
    if code:
        return code
    code = destroy_area(conf.private)
    for kind in ("conf", "mount", "umount", "premount", "postumount", "start", "stop"):
        path = f"{paths.CONF_DIR}/{ctid}.{kind}"
        if os.path.lexists(path):
            os.rename(path, path + ".destroyed")
    _remove_dump(paths.dump_file(ctid, conf.get("DUMPDIR")))
    try:
        os.rmdir(conf.root)
    except OSError as err:
        log.error(f"Warning: failed to remove {conf.root}", err)
    if code == codes.OK:
        log.info("Container private area was destroyed")
        save.remove_names(ctid)
    return code


def destroy_area(private):
    """Remove a private area, in the background. Returns an exit code."""
    log.info(f"Destroying container private area: {private}")
    if os.path.islink(private):
        log.error(
            f"Warning: container private area {private} is a symlink to {os.readlink(private)}.\n"
            "Not removing link destination, you have to do it manually."
        )
        return _unlink(private)
    if not os.path.lexists(private):
        return codes.OK
    if not os.path.isdir(private):
        log.error(f"Warning: container private area {private} is not a directory")
        return _unlink(private)
    return _move_and_remove(private, _file_system_root(private) + "/vztmp")


def _unlink(path):
    try:
        os.unlink(path)
    except OSError as err:
        log.error(f"Unable to unlink {path}", err)
        return codes.CANT_REMOVE_PRIVATE
    return codes.OK


def _file_system_root(path):
    """Return the highest directory above path that is on the same file system, below / in any case."""
    device, found, at = os.stat(path).st_dev, path, path
    while True:
        at = os.path.dirname(at.rstrip("/"))
        if at in ("", "/"):
            break
        if os.stat(at + "/").st_dev != device:
            break
        found = at
    return found


def _move_and_remove(private, trash):
    """Move the private area to the trash, from which a process of its own removes it."""
    import tempfile

    try:
        os.makedirs(trash, 0o755, exist_ok=True)
        target = tempfile.mkdtemp(prefix="vzctl-rm-me.", dir=trash)
        os.rename(private, target)
    except OSError as err:
        log.error(f"Can't move {private} -> {trash}", err)
        return codes.CANT_REMOVE_PRIVATE
    if os.fork() == 0:
        try:
            os.setsid()
            container.close_all_but(())
            scripts.default_signals()
            os.execvp("rm", ["rm", "-rf", "--", target])  # no tree is too deep for it
        finally:
            os._exit(0)
    return codes.OK
