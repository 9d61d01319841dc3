"""Containers as processes: an init in namespaces of its own whose root is what is mounted on VE_ROOT.

Who is who while a container starts: vzctl forks a keeper; the keeper forks the container's init inside a new pid
namespace and then becomes `vzeventd`, which waits for the end of the init. The init builds its world, reports that it
is ready through a pipe that stays open across the change of root, waits for vzctl's word, and executes /sbin/init.

The init has all that vzctl was started with: cgroup, session, process group, limits, umask, priority, OOM score. As
with the real vzctl nothing is put right here, so what starts a container carelessly takes it along when it ends.

A container runs as long as that init exists. Its pid is in vepid/CTID; because pids are used again after a crash, the
start time of the process is kept as well and has to agree.
"""

import os

import log
import paths
import scripts

INITS = ("/sbin/init", "/etc/init", "/bin/init")
ABORTED = b"!"
# What the OpenVZ kernel does not let a container do: SYS_MODULE, SYS_RAWIO, SYS_PACCT, SYS_ADMIN, SYS_TIME, and all
# that came after its time (32 and up). With SYS_ADMIN a container's `umount -a -r` would make the node's disk
# read-only.
FORBIDDEN_CAPABILITIES = (16, 17, 20, 21, 25, *range(32, 64))
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}


def birth(pid):
    """Return the start time of a process in clock ticks, as text; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return None


def init_pid(ctid):
    """Return the pid of a running container's init, None if the container is down."""
    pid = paths.read_state(paths.PID_DIR, ctid)
    if not pid or not pid.strip().isdigit():
        return None
    born = birth(pid.strip())
    if born is None or born != paths.read_state(paths.BIRTH_DIR, ctid):
        return None
    return int(pid)


def running():
    """Return the ids of all running containers, in order."""
    try:
        names = os.listdir(paths.PID_DIR)
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isdigit() and init_pid(name))


# The cgroup of the watchers, as the service vzeventd has one: they outlive whoever started their containers.


def _cgroup_root():
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if " - cgroup2 " in line:
                    return line.split()[4]
    except OSError:
        pass
    return None


def _join_watchers():
    """Move this process to a session and a cgroup of its own, where there is a cgroup2 hierarchy that lets us."""
    os.setsid()
    root = _cgroup_root()
    if root is None:
        return
    group = f"{root}/vzeventd".replace("//", "/")
    try:
        os.makedirs(group, exist_ok=True)
        with open(group + "/cgroup.procs", "w", encoding="ascii") as file:
            file.write("0")
    except OSError:
        pass


# Starting


class Starting:
    """A container that is about to start: its init waits for go() or abort()."""

    def __init__(self, pid, go, outcome):
        self.pid, self._go, self._outcome = pid, go, outcome

    def go(self):
        """Let the init run. Returns False if the container has none."""
        os.write(self._go, b"1")
        os.close(self._go)
        failed = os.read(self._outcome, 1)
        os.close(self._outcome)
        return not failed

    def abort(self):
        """Give up: the init ends without having run."""
        os.close(self._go)
        os.read(self._outcome, 1)
        os.close(self._outcome)


def create(ctid, conf, eventd):
    """Create the namespaces of a container up to the moment before /sbin/init runs.

    eventd is the program that watches it. Returns a Starting, or None after telling what failed.
    """
    report_read, report = os.pipe()
    go_read, go = os.pipe()
    outcome_read, outcome = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        try:
            _keep(ctid, conf, eventd, (report, go_read, outcome))
        finally:
            os._exit(1)
    for file in (report, go_read, outcome):
        os.close(file)
    with open(report_read, encoding="utf-8", errors="surrogateescape") as file:
        facts = dict(line.rstrip("\n").partition(" ")[::2] for line in file)
    if "ready" in facts and "pid" in facts:
        return Starting(int(facts["pid"]), go, outcome_read)
    log.error(facts.get("error", "Unable to create the container's environment"))
    os.close(go)
    os.close(outcome_read)
    return None


def _tell(report, line):
    os.write(report, os.fsencode(line + "\n"))


def close_all_but(kept):
    """Close every file but the kept ones; the standard streams become /dev/null."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        if null != number:
            os.dup2(null, number)
    if null > 2:
        os.close(null)


def _keep(ctid, conf, eventd, pipes):
    """Run the keeper: fork the init, note who it is, become vzeventd."""
    import kernel

    report, go, outcome = pipes
    try:
        close_all_but(pipes)
        scripts.default_signals()
        os.chdir("/")
        # What a running container uses cannot be unmounted: neither its root nor the file system of its private area.
        pins = [os.open(path, os.O_PATH) for path in (conf.root, conf.private)]
        aborted_read, aborted = os.pipe()
        host_pids = os.open("/proc/self/ns/pid", os.O_RDONLY)
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            _init(conf, (report, go, outcome, aborted))
        kernel.setns(host_pids, kernel.CLONE_NEWPID)
        _join_watchers()
        paths.write_state(paths.BIRTH_DIR, ctid, birth(pid))
        paths.write_state(paths.PID_DIR, ctid, str(pid))
        _tell(report, f"pid {pid}")
    except OSError as err:
        _tell(report, f"error {err}")
        return
    for file in (aborted_read, *pins):
        os.set_inheritable(file, True)
    os.execv(eventd, [eventd, str(ctid), str(pid), str(aborted_read)])


def _init(conf, pipes):
    """Run process 1 of the container until it is the container's own init. Never returns."""
    report, go, outcome, aborted = pipes
    try:
        _enter_new_world(conf)
        _tell(report, "ready")
        os.close(report)
        if os.read(go, 1):
            _exec_init()
        os.write(outcome, ABORTED)
    except OSError as err:
        _tell(report, f"error {err}")
    finally:
        os.write(aborted, ABORTED)
        os._exit(1)


def _enter_new_world(conf):
    import kernel

    kernel.unshare(
        kernel.CLONE_NEWNS
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWCGROUP
    )
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    # VE_ROOT may be VE_PRIVATE itself and then no mount point, which pivot_root wants.
    kernel.mount(conf.root, conf.root, None, kernel.MS_BIND | kernel.MS_REC)
    os.chdir(conf.root)
    kernel.pivot_root_here()
    _mount_kernel_file_systems(kernel)
    if os.path.isdir("/dev"):
        _mount_dev(kernel)
    if conf.get("HOSTNAME"):
        kernel.set_hostname(conf["HOSTNAME"])
    kernel.loopback_up()
    os.close(os.open("/fastboot", os.O_CREAT | os.O_RDONLY, 0o644))


def _mount_kernel_file_systems(kernel):
    plain = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    if not os.path.isdir("/proc"):
        os.mkdir("/proc", 0o555)
    kernel.mount("proc", "/proc", "proc", plain)
    if os.path.isdir("/sys"):
        kernel.mount("sysfs", "/sys", "sysfs", plain | kernel.MS_RDONLY)


def _mount_dev(kernel):
    inherited = os.umask(0)
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID, "mode=755")
    for name, number in DEVICES.items():
        os.mknod("/dev/" + name, 0o20666, os.makedev(*number))
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, "/dev/" + name)
    for name in ("pts", "shm"):
        os.mkdir("/dev/" + name)
    plain = kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.mount("devpts", "/dev/pts", "devpts", plain, "newinstance,ptmxmode=0666,mode=620,gid=5")
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    os.umask(inherited)


def _drop_capabilities():
    import kernel

    for number in FORBIDDEN_CAPABILITIES:
        if not kernel.drop_capability(number):
            return


def _exec_init():
    _drop_capabilities()
    for path in INITS:
        try:
            os.execve(path, ["init", "-z", "      "], {"HOME": "/", "TERM": "linux"})
        except OSError:
            pass


# Entering


def enter(pid):
    """Move this process into a container; only its children are in the container's pid namespace."""
    import kernel

    names = ("cgroup", "ipc", "uts", "net", "pid", "mnt")
    files = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in names]
    root = os.open(f"/proc/{pid}/root", os.O_PATH)
    for file in files:
        kernel.setns(file)
        os.close(file)
    # The root of a mount namespace need not be the init's root: on a node that is itself in a chroot it is not.
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    _drop_capabilities()


def kill(pid):
    """Kill a container with all that is in it."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
