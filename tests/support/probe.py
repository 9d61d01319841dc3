"""Runs on a node: says what there is, from /proc, mountinfo, sockets and files. Knows nothing of the migration's code.

Prints JSON: inits (containers' first processes), mounts, services, records, confs, variables."""

import base64
import json
import os
import re
import socket
import subprocess
import sys

CONF_FOLDER = "/etc/vz/conf"


def inits():
    """Every container's first process: process 1 of a namespace of its own, under a root of its own."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/status", encoding="latin-1") as stream:
                levels = re.search(r"^NSpid:\s+(.*)$", stream.read(), re.M)[1].split()
            if levels[-1] != "1" or len(levels) < 2 or name == "1":
                continue
            with open(f"/proc/{name}/root/etc/hostname", encoding="latin-1") as stream:
                hostname = stream.read().strip()
            root = [mount for mount in mounts(name) if mount["at"] == "/"][-1]
        except (OSError, TypeError, IndexError):
            continue
        found.append(
            {
                "pid": int(name),
                "hostname": hostname,
                "root": root,
                "born": born(name),
                "given": given(name),
            }
        )
    return found


def given(pid):
    """What a process has of whoever started it."""
    found = {}
    for file in ("cgroup", "oom_score_adj"):
        with open(f"/proc/{pid}/{file}", encoding="latin-1") as stream:
            found[file] = stream.read()
    host = limits(1)
    for name, (soft, hard) in limits(pid).items():
        found[name] = [soft, hard if may_raise_limits() else "as it was"]
        # A kernel reckons these from the memory that it finds at its start, which is never quite the same.
        if name in ("Max processes", "Max pending signals") and (soft, hard) == host[name]:
            found[name] = "those of the host's first process"
    with open(f"/proc/{pid}/status", encoding="latin-1") as stream:
        found["umask"] = re.search(r"^Umask:\s+(.*)$", stream.read(), re.M)[1]
    found["nice"] = os.getpriority(os.PRIO_PROCESS, int(pid))
    found["processors"] = sorted(os.sched_getaffinity(int(pid)))
    return found


def limits(pid):
    """The limits of a process: name to soft and hard one."""
    with open(f"/proc/{pid}/limits", encoding="latin-1") as stream:
        return {
            name: (soft, hard)
            for name, soft, hard in re.findall(r"^(Max .+?)  +(\S+) +(\S+)", stream.read(), re.M)
        }


def may_raise_limits():
    """Whether this root has CAP_SYS_RESOURCE, as on a node; in some containers it has not."""
    with open("/proc/self/status", encoding="latin-1") as stream:
        return bool(int(re.search(r"^CapEff:\s+(\S+)", stream.read(), re.M)[1], 16) >> 24 & 1)


def born(pid):
    """When a process began: two with one number are told apart by it."""
    with open(f"/proc/{pid}/stat", encoding="latin-1") as stream:
        return int(stream.read().rsplit(")", 1)[1].split()[19])


def mounts(pid="self"):
    """The mount table of a process."""
    table = []
    with open(f"/proc/{pid}/mountinfo", encoding="latin-1") as stream:
        for line in stream:
            head, tail = line.split(" - ", 1)
            root, at = head.split()[3:5]
            kind, source = tail.split()[:2]
            table.append({"root": root, "at": at, "kind": kind, "source": source})
    return table


def ask(address, port, send=b""):
    """What a TCP service says first."""
    try:
        with socket.create_connection((address, port), 10) as connection:
            connection.settimeout(10)
            connection.sendall(send)
            return connection.recv(200).decode("latin-1")
    except OSError as error:
        return f"error: {error}"


def asterisk(pid):
    """What the telephone system inside says of itself; entered through its namespaces."""
    enter = ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-r", "-w"]
    try:
        done = subprocess.run(
            [*enter, "/usr/sbin/asterisk", "-rx", "core show version"], capture_output=True, timeout=20
        )
        return (done.stdout + done.stderr).decode("latin-1")
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"error: {error}"


def services(init):
    """The answers of one container's services."""
    address = re.search(r"ct(\d+)\b", init["hostname"])
    address = f"10.78.{int(address[1]) // 100}.{int(address[1]) % 100}"
    return {
        "http": ask(address, 80, b"GET / HTTP/1.0\r\n\r\n"),
        "smtp": ask(address, 25),
        "asterisk": asterisk(init["pid"]),
    }


def files(folder):
    """The regular files and links of a folder: mode, owner and content or target."""
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        state = os.lstat(path)
        if os.path.islink(path):
            found[name] = {"link": os.readlink(path)}
        elif os.path.isfile(path):
            with open(path, "rb") as stream:
                data = base64.b64encode(stream.read()).decode()
            found[name] = {"data": data, "mode": oct(state.st_mode), "owner": [state.st_uid, state.st_gid]}
    return found


def vzlist():
    """What vzctl's own list says: container id to status, private area and root."""
    words = ["vzlist", "-a", "-H", "-o", "ctid,status,private,root"]
    lines = subprocess.run(words, capture_output=True, timeout=60, check=True).stdout.decode("latin-1")
    return {line.split()[0]: line.split()[1:4] for line in lines.splitlines() if len(line.split()) >= 4}


def home():
    """Where vz is at home: /vz, or /var/lib/vz as Debian has it."""
    with open("/etc/vz/vz.conf", encoding="latin-1") as stream:
        return re.search(r"^LOCKDIR=\"?(.*)/lock\"?$", stream.read(), re.M)[1]


def everything(with_services):
    """All of it."""
    found = inits()
    for init in found if with_services else ():
        init["services"] = services(init)
    return {
        "inits": found,
        "mounts": mounts(),
        "confs": files(CONF_FOLDER),
        "conf_dir": os.path.realpath(CONF_FOLDER),
        "home": home(),
        "etc_vz": files("/etc/vz"),
        "names": files("/etc/vz/names"),
        "variables": files("/etc/ringfree"),
        "fstab": files("/etc").get("fstab"),
        "drop_ins": files("/etc/systemd/system/vz.service.d"),
        "boot_set": os.path.exists("/var/lib/ringfree/boot-set"),
        "vzlist": vzlist(),
        "dumps": os.listdir(f"{home()}/dump"),
    }


if __name__ == "__main__":
    json.dump(everything("--services" in sys.argv), sys.stdout)
