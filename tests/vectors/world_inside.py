"""The inside of a world for vzctl: runs as process 1 of fresh namespaces, started by vz_world.py.

Every line of the standard input is a request (JSON: the name of one of the functions below and its arguments), every
line of the standard output its answer. The world is the machine's own file tree under an overlay that is thrown away,
with fresh /etc/vz, /vz, /vz/private, /nfs and /var/lib/vzctl.
"""

import base64
import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys

BASE = "/proc"  # where the world is put together: there on every machine, and not needed for a moment
DEAD_PID = 29999
CT_DIRS = ("bin", "sbin", "etc", "proc", "sys", "dev", "var", "tmp", "root")
CT_PROGRAMS = (
    "sh cat echo true false kill ls sleep test touch mkdir ps id hostname ip wget nc httpd umount".split()
)
# Comes back at once and halts a little later: a halt that takes its container down with it would race with vzctl.
HALT = "#!/bin/sh\n(/bin/busybox usleep 300000; /bin/busybox halt -f) >/dev/null 2>&1 &\n"
REBOOT = "#!/bin/sh\n(/bin/busybox usleep 300000; /bin/busybox reboot -f) >/dev/null 2>&1 &\n"
INITTAB = "::sysinit:/bin/true\n"
MS_BIND, MS_REC, MNT_DETACH = 4096, 16384, 2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

libc = ctypes.CDLL(None, use_errno=True)
settings = {"vzctl": None, "busybox": None}


def mount(source, target, kind=None, flags=0, data=None):
    """mount(2)."""
    args = [None if arg is None else os.fsencode(arg) for arg in (source, target, kind, data)]
    if libc.mount(args[0], args[1], args[2], ctypes.c_ulong(flags), args[3]) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def set_up(vzctl, busybox):
    """Make the overlay and go into it. vzctl is the directory of the programs under test."""
    with open(busybox, "rb") as file:
        settings.update(vzctl=vzctl, busybox=file.read())
    mount("world", BASE, "tmpfs")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{BASE}/{name}")
    root = BASE + "/root"
    mount("world", root, "overlay", 0, f"lowerdir=/,upperdir={BASE}/upper,workdir={BASE}/work")
    mount("proc", root + "/proc", "proc")
    mount("sysfs", root + "/sys", "sysfs")
    mount("/dev", root + "/dev", None, MS_BIND | MS_REC)
    own = os.path.dirname(os.path.realpath(vzctl))
    if os.stat(own).st_dev != os.stat("/").st_dev:  # not part of the overlay: a checkout on a disk of its own
        os.makedirs(root + own, exist_ok=True)
        mount(own, root + own, None, MS_BIND | MS_REC)
    os.chdir(root)
    if libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b".") == -1 or libc.umount2(b".", MNT_DETACH) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.chdir("/")
    kept = os.open("/etc/vz", os.O_PATH) if os.path.isdir("/etc/vz") else None
    for path in ("/etc/vz", "/vz", "/vz/private", "/nfs", "/var/lib/vzctl", "/run", "/var/log"):
        os.makedirs(path, exist_ok=True)
        mount("world", path, "tmpfs", 0, "mode=755")
    if kept is not None:
        keep_own_files(f"/proc/self/fd/{kept}")
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


def run(command, timeout=60):
    """Run a shell command line; returns its exit code and output."""
    env = {"PATH": f"{settings['vzctl']}:{PATH}", "LC_ALL": "C", "HOME": "/"}
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=env,
        timeout=timeout,
        cwd="/",
    )
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    return {"rc": done.returncode, "stdout": out, "stderr": err}


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


def main():
    """Answer requests until there are no more."""
    functions = {
        "set_up": set_up,
        "build": build,
        "run": run,
        "look": look,
        "make_file": make_file,
        "kill": kill,
    }
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"result": functions[name](*arguments)}
        except Exception as err:
            answer = {"error": f"{type(err).__name__}: {err}"}
        print(json.dumps(answer), flush=True)


def be_process_one(server):
    """Reap whatever loses its parent, until the process that answers has ended."""
    while os.wait()[0] != server:
        pass


if __name__ == "__main__":
    child = os.fork()
    if child:
        be_process_one(child)
    else:
        main()
