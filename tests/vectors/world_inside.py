"""Worlds for vzctl from the inside, started by vz_world.py: arguments are the programs' directory and a busybox.

One process makes all worlds. For every socket that it is sent it forks process 1 of fresh namespaces: starting Python
anew would take longer than most tests. In the world every line from the socket is a request (JSON: the name of one of
the functions below and its arguments), every line back its answer. A world is the machine's own file tree under an
overlay that is thrown away, with fresh /etc/vz, /vz, /vz/private, /nfs and /var/lib/vzctl; it ends with its socket.
"""

import base64
import ctypes
import importlib
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import time
import traceback

BASE = "/proc"  # where the world is put together: there on every machine, and not needed for a moment
DEAD_PID = 29999
TIMEOUT = 60
NULL = os.makedev(1, 3)
CT_DIRS = ("bin", "sbin", "etc", "proc", "sys", "dev", "var", "tmp", "root")
CT_PROGRAMS = (
    "sh cat echo true false kill ls sleep test touch mkdir ps id hostname ip wget nc httpd umount".split()
)
# Comes back at once and halts a little later: a halt that takes its container down with it would race with vzctl.
HALT = "#!/bin/sh\n(/bin/busybox usleep 300000; /bin/busybox halt -f) >/dev/null 2>&1 &\n"
REBOOT = "#!/bin/sh\n(/bin/busybox usleep 300000; /bin/busybox reboot -f) >/dev/null 2>&1 &\n"
INITTAB = "::sysinit:/bin/true\n"
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 0x20000000, 0x40000000
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

libc = ctypes.CDLL(None, use_errno=True)
settings = {"vzctl": None, "busybox": None}


def check(result, what=None):
    """Raise what went wrong in a call of the C library."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def mount(source, target, kind=None, flags=0, data=None):
    """mount(2)."""
    args = [None if arg is None else os.fsencode(arg) for arg in (source, target, kind, data)]
    check(libc.mount(args[0], args[1], args[2], ctypes.c_ulong(flags), args[3]), target)


def set_up():
    """Leave the namespaces of the machine, make the overlay and go into it."""
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC))
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("world", BASE, "tmpfs")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{BASE}/{name}")
    root = BASE + "/root"
    mount("world", root, "overlay", 0, f"lowerdir=/,upperdir={BASE}/upper,workdir={BASE}/work")
    mount("proc", root + "/proc", "proc")
    mount("sysfs", root + "/sys", "sysfs")
    mount("/dev", root + "/dev", None, MS_BIND | MS_REC)
    own = os.path.dirname(os.path.realpath(settings["vzctl"]))
    if os.stat(own).st_dev != os.stat("/").st_dev:  # not part of the overlay: a checkout on a disk of its own
        os.makedirs(root + own, exist_ok=True)
        mount(own, root + own, None, MS_BIND | MS_REC)
    os.chdir(root)
    check(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."))
    check(libc.umount2(b".", MNT_DETACH))
    os.chdir("/")
    kept = os.open("/etc/vz", os.O_PATH) if os.path.isdir("/etc/vz") else None
    for path in ("/etc/vz", "/vz", "/vz/private", "/nfs", "/var/lib/vzctl", "/run", "/var/log"):
        os.makedirs(path, exist_ok=True)
        mount("world", path, "tmpfs", 0, "mode=755")
    if kept is not None:
        keep_own_files(f"/proc/self/fd/{kept}")
    if not os.path.exists("/etc/vz/dists"):
        shutil.copytree(settings["vzctl"] + "/dists", "/etc/vz/dists")
    make_file("/etc/vz/dists/busybox.conf", "")
    for name in ("veip", "vepid", "vzreboot"):
        os.mkdir(f"/var/lib/vzctl/{name}")
    for path in (
        "/etc/vz/conf",
        "/etc/vz/names",
        "/vz/root",
        "/vz/lock",
        "/vz/dump",
        "/vz/template",
        "/run/lock",
    ):
        os.mkdir(path)
    os.umask(0o022)


def keep_own_files(old):
    """Copy what an installed vzctl needs of its own from the old /etc/vz."""
    if os.path.isdir(old + "/dists"):
        shutil.copytree(old + "/dists", "/etc/vz/dists", symlinks=True)
    if os.path.exists(old + "/osrelease.conf"):
        shutil.copy(old + "/osrelease.conf", "/etc/vz/osrelease.conf")


# Building


def make_file(path, what):
    """Write a file of a case: text, or a mapping with text or b64 and mode, or a symlink."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if isinstance(what, str):
        what = {"text": what}
    if os.path.islink(path):
        os.unlink(path)
    if "symlink" in what:
        os.symlink(what["symlink"], path)
        return
    data = base64.b64decode(what["b64"]) if "b64" in what else what["text"].encode("utf-8", "surrogateescape")
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, int(what.get("mode", "0644"), 8))


def remove(path):
    """Remove a file or a directory."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def make_container(path, label):
    """Make the tree of a small container."""
    for name in CT_DIRS:
        os.makedirs(f"{path}/{name}", exist_ok=True)
    with open(f"{path}/bin/busybox", "wb") as file:
        file.write(settings["busybox"])
    os.chmod(f"{path}/bin/busybox", 0o755)
    os.mknod(f"{path}/dev/null", 0o666 | stat.S_IFCHR, NULL)
    for name in CT_PROGRAMS:
        os.symlink("busybox", f"{path}/bin/{name}")
    os.symlink("../bin/busybox", f"{path}/sbin/init")
    make_file(f"{path}/sbin/halt", {"text": HALT, "mode": "0755"})
    make_file(f"{path}/sbin/reboot", {"text": REBOOT, "mode": "0755"})
    make_file(f"{path}/etc/inittab", INITTAB)
    make_file(f"{path}/etc/which", label + "\n")


def make_lock(ctid, holder):
    """Write a lock file: live, dead, or its literal content."""
    if holder == "live":
        holder = f"{subprocess.Popen(['sleep', '3600']).pid}\n\n"
    elif holder == "dead":
        holder = f"{DEAD_PID}\n\n"
    make_file(f"/vz/lock/{ctid}.lck", holder)


def kernel_tables(running):
    """Let the kernel seem to say which containers run."""
    veinfo = "".join(f"{ctid:10} 0 12 10.0.0.{ctid % 250}\n" for ctid in running)
    counters = "Version: 2.5\n       uid  resource  held  maxheld  barrier  limit  failcnt\n"
    for ctid in running:
        counters += f"{ctid:10}: kmemsize 0 0 0 0 0\n            numproc 12 20 0 0 0\n"
    if os.path.exists("/proc/vz/veinfo"):
        for path, content in (("/proc/vz/veinfo", veinfo), ("/proc/user_beancounters", counters)):
            make_file("/run" + path, content)
            mount("/run" + path, path, None, MS_BIND)
        return
    mount("world", "/proc", "tmpfs")
    make_file("/proc/vz/veinfo", veinfo)
    make_file("/proc/user_beancounters", counters)
    make_file("/proc/fairsched", "")


def must_run(command):
    """Run a step of the preparation; raises if it fails."""
    answer = run(command)
    if answer["rc"]:
        raise RuntimeError(f"{command}: {answer}")


def build(given, synthetic):
    """Build what a case gives. With synthetic, its running containers are only entries of the kernel's tables."""
    for path in given.get("dirs", []):
        os.makedirs(path, exist_ok=True)
    for path, label in given.get("ct", {}).items():
        make_container(path, label)
    for path, what in given.get("files", {}).items():
        make_file(path, what)
    for path in given.get("absent", []):
        remove(path)
    for ctid in given.get("mounted", []):
        must_run(f"vzctl mount {ctid}")
    if synthetic:
        kernel_tables(given.get("running", []))
    else:
        for ctid in given.get("running", []):
            must_run(f"vzctl start {ctid}")
    for path in given.get("foreign_mounts", []):
        mount("foreign", path, "tmpfs")
    for path in given.get("busy", []):
        subprocess.Popen(["sleep", "3600"], cwd=path)
    for ctid, holder in given.get("locks", {}).items():
        make_lock(ctid, holder)
    for path, what in given.get("then_files", {}).items():
        if what is None:
            remove(path)
        else:
            make_file(path, what)
    for old, new in given.get("then_rename", {}).items():
        os.rename(old, new)


# Looking


def run(command):
    """Run a shell command line; returns its exit code and output."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, cwd="/"
    )
    return told(done.returncode, done.stdout, done.stderr)


def told(code, *outputs):
    """An exit code and what came out, in the form of the cases."""
    out, err = (data.decode("utf-8", "surrogateescape") for data in outputs)
    return {"rc": code, "stdout": out, "stderr": err}


def call(words):
    """Run one of the lab's Python programs without starting Python anew; returns the same as run()."""
    out, err = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        be_program(words, out[1], err[1])
    os.close(out[1])
    os.close(err[1])
    outputs = read_all(out[0], err[0])
    return told(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *outputs)


def be_program(words, out, err):
    """Be in a fresh process what the first of the words is; ends the process."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.argv = [f"{settings['vzctl']}/{words[0]}", *words[1:]]
        with open(sys.argv[0], encoding="utf-8") as file:
            program = compile(file.read(), file.name, "exec")
        exec(program, {"__name__": "__main__", "__file__": file.name})
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def read_all(*files):
    """Read what comes out of pipes until all are closed at the other end."""
    found, end = dict.fromkeys(files, b""), time.monotonic() + TIMEOUT
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    still_open = set(files)
    while still_open:
        ready = poll.poll(max(0, end - time.monotonic()) * 1000)
        if not ready:
            raise TimeoutError(f"no end after {TIMEOUT} s")
        for file, _ in ready:
            data = os.read(file, 1 << 16)
            found[file] += data
            if not data:
                poll.unregister(file)
                still_open.remove(file)
                os.close(file)
    return found.values()


def look(path):
    """Describe a file as the cases do."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return {"absent": True}
    if stat.S_ISLNK(status.st_mode):
        return {"symlink": os.readlink(path)}
    if stat.S_ISDIR(status.st_mode):
        return {"dir": sorted(os.listdir(path))}
    with open(path, "rb") as file:
        data = file.read()
    try:
        content = {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        content = {"b64": base64.b64encode(data).decode("ascii")}
    return {"mode": f"{stat.S_IMODE(status.st_mode):04o}", **content}


def kill(pid):
    """Kill a process."""
    os.kill(pid, 9)


def answer(asker):
    """Answer requests until there are no more."""
    functions = {
        "set_up": set_up,
        "build": build,
        "run": run,
        "call": call,
        "look": look,
        "make_file": make_file,
        "kill": kill,
    }
    for line in asker:
        name, arguments = json.loads(line)
        try:
            said = {"result": functions[name](*arguments)}
        except Exception as err:
            said = {"error": f"{type(err).__name__}: {err}"}
        asker.write(json.dumps(said) + "\n")
        asker.flush()


def be_process_one(line):
    """Reap whatever loses its parent, until the process that answers has ended; the world ends with this process."""
    server = os.fork()
    if server == 0:
        with socket.socket(fileno=line) as talk, talk.makefile("rw", encoding="utf-8") as asker:
            answer(asker)
        return
    os.close(line)
    while os.wait()[0] != server:
        pass


def reap():
    """Let go of worlds that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def make_worlds(door):
    """Make a world for every socket that is sent, until there are no more."""
    machine = os.open("/proc/self/ns/pid", os.O_RDONLY)
    while lines := socket.recv_fds(door, 1, 1)[1]:
        check(libc.unshare(CLONE_NEWPID))
        if os.fork() == 0:
            door.close()
            be_process_one(*lines)
            os._exit(0)
        check(libc.setns(machine, CLONE_NEWPID))
        os.close(*lines)
        reap()


def load(library):
    """Load the modules of the lab's programs, for the processes that become one of them.

    That also leaves them compiled where programs that are started find them. What those write is thrown away.
    """
    sys.path.insert(0, library)
    for name in sorted(os.listdir(library)):
        if name.endswith(".py"):
            importlib.import_module(name.removesuffix(".py"))


def main(vzctl, busybox):
    """vzctl is the directory of the programs under test; the standard input is the socket that sockets come from."""
    with open(busybox, "rb") as file:
        settings.update(vzctl=vzctl, busybox=file.read())
    if os.path.isdir(vzctl + "/lib"):
        load(vzctl + "/lib")
    with socket.socket(fileno=os.dup(0)) as door, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        make_worlds(door)


if __name__ == "__main__":
    main(*sys.argv[1:])
