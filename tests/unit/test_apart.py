"""ringfree_apart: a program runs with what a service gives it, and with nothing of whoever starts it."""

import json
import os
import resource
import signal
import subprocess
import sys

import psutil
import pytest
import ringfree_apart as apart
from lab_client import wait_for

#: What a program says of itself.
SHOW = """
import json, os, resource, signal
old = os.umask(0)
names = [signal.Signals(n).name for n in signal.valid_signals() if n < 32 and signal.getsignal(n) == signal.SIG_IGN]
print(json.dumps({
    "umask": old, "nice": os.nice(0), "oom": int(open("/proc/self/oom_score_adj").read()), "pid": os.getpid(),
    "NOFILE": resource.getrlimit(resource.RLIMIT_NOFILE), "ignored": names,
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "processors": sorted(os.sched_getaffinity(0)),
}))
"""
V1 = """31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpuacct,cpu
34 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
"""
V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
WANTED = "/system.slice/vz.service"


def run(place, *argv, **options):
    words = [*apart.prefix({**apart.PLAIN, **place}), *argv]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **options)


def become(place, **options):
    done = run(place, sys.executable, "-I", "-c", SHOW, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def careless():
    """What a caller has that no container should have."""
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def test_h37_a_program_has_what_the_service_gives():
    wanted = {"umask": 0o027, "nice": 7, "oom": 900, "limits": {"NOFILE": [64, 128]}}
    found = become(wanted, preexec_fn=careless)
    assert (found["umask"], found["nice"], found["oom"], found["NOFILE"]) == (0o027, 7, 900, [64, 128])
    # Python itself ignores two.
    assert set(found["ignored"]) <= {"SIGPIPE", "SIGXFSZ"} and found["blocked"] == []
    assert found["processors"] == sorted(os.sched_getaffinity(1))


def test_h37_it_stays_the_child_of_its_caller_with_streams_and_exit_code():
    """So whoever started it can wait for it, kill it, and read what it says."""
    done = run({}, "sh", "-c", "echo $$; echo err >&2; cat; exit 43", input="in\n")
    assert (done.returncode, done.stdout.split()[1:]) == (43, ["in"])
    assert done.stderr.splitlines()[-1] == "err"
    with subprocess.Popen(
        [*apart.prefix(apart.PLAIN), "sh", "-c", "echo $$"], stdout=subprocess.PIPE
    ) as child:
        assert int(child.stdout.read()) == child.pid


def test_h37_what_cannot_be_had_is_said_and_does_not_keep_it_from_running():
    """What cannot be raised is as near as may be: no process may open more than the kernel's own limit."""
    done = run({"limits": {"NOFILE": [64, 1 << 62], "CORE": [0, 0]}}, "sh", "-c", "ulimit -c; ulimit -Sn")
    assert (done.returncode, done.stdout) == (0, "0\n64\n")
    (said,) = apart.complaints(f"of the program\n{done.stderr}")
    assert said.startswith(f"{apart.MARK}limit NOFILE: ")


@pytest.mark.parametrize(("words", "code"), [("echo $$ $PPID; cat; exit 43", 43), ("kill -9 $$", 137)])
def test_h16_alone_a_program_has_its_streams_and_its_exit_code_all_the_same(words, code):
    argv = [*apart.prefix(apart.PLAIN, alone=True), "sh", "-c", words]
    done = subprocess.run(argv, input="in\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert code != 43 or done.stdout.endswith("\nin\n")


def test_h16_alone_a_program_goes_on_when_all_children_of_its_caller_are_ended(tmp_path):
    """Salt does that to a job whose minion is restarted; a package manager would be cut off in the middle."""
    words = f"echo $$ >{tmp_path}/pid; cat {tmp_path}/gate; echo done >{tmp_path}/end"
    os.mkfifo(tmp_path / "gate")
    script = [*apart.prefix(apart.PLAIN, alone=True), "sh", "-c", words]
    caller = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({script!r})"])
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the program to begin")
    there = psutil.Process(caller.pid).children(recursive=True)
    assert int((tmp_path / "pid").read_text()) not in {child.pid for child in there}
    for process in [*there, caller]:
        process.kill()
    caller.wait()
    (tmp_path / "gate").write_text("")
    wait_for(lambda: (tmp_path / "end").exists(), "the program to end")


def test_a_missing_program_is_127():
    done = run({}, "/nowhere/vzctl")
    assert done.returncode == 127 and "/nowhere/vzctl: No such file or directory" in done.stderr


def test_without_this_python_the_program_runs_as_it_is(monkeypatch):
    """While Salt is upgraded its Python can be gone."""
    monkeypatch.setattr(sys, "executable", "/opt/saltstack/salt/bin/python3.9")
    assert apart.prefix(apart.PLAIN) == []


def test_what_systemd_says_of_a_service():
    shown = """Id=vz.service
ControlGroup=
Slice=system.slice
Nice=-2
OOMScoreAdjust=-100
UMask=0027
LimitCPU=infinity
LimitCPUSoft=infinity
LimitNOFILE=524288
LimitNOFILESoft=1024
LimitLOCKS=infinity
"""
    assert apart.of_service(shown) == {
        "cgroup": "/system.slice/vz.service",
        "nice": -2,
        "oom": -100,
        "umask": 0o027,
        "limits": {"CPU": [-1, -1], "NOFILE": [1024, 524288]},
    }


def test_what_an_old_systemd_says_of_a_service():
    """That of CentOS 7 knows no soft limits, and writes infinity as a number."""
    found = apart.of_service("LimitCORE=18446744073709551615\nLimitNPROC=31183\nUMask=0022\n")
    assert found["limits"] == {"CORE": [-1, -1], "NPROC": [31183, 31183]}


@pytest.mark.parametrize("shown", ["", "garbage", "Nice=\nUMask=x\nLimitNOFILE=[not set]\nSlice=-.mount\n"])
def test_what_a_service_does_not_say_is_plain(shown):
    assert apart.of_service(shown) == apart.PLAIN


@pytest.mark.parametrize(
    ("slice_", "group", "cgroup"),
    [
        ("system.slice", "/system.slice/vz.service", "/system.slice/vz.service"),
        ("system.slice", "/somewhere/else", "/somewhere/else"),
        ("-.slice", "", "/vz.service"),
        ("vz.slice", "", "/vz.slice/vz.service"),
        ("vz-ct.slice", "", "/vz.slice/vz-ct.slice/vz.service"),
    ],
)
def test_where_a_service_is_or_would_be(slice_, group, cgroup):
    assert apart.of_service(f"Id=vz.service\nSlice={slice_}\nControlGroup={group}\n")["cgroup"] == cgroup


def test_without_systemd_process_1_is_the_example():
    with open("/proc/self/limits", encoding="ascii") as stream:
        mine = apart.of_init("init\n", stream.read())["limits"]
    known = {
        name: list(resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))) for name in apart.LIMITS.values()
    }
    assert mine == known


def test_systemd_itself_is_no_example():
    assert (
        apart.of_init(
            "systemd\n", "Max open files            1073741816           1073741816           files\n"
        )
        == apart.PLAIN
    )


@pytest.mark.parametrize(
    ("mine", "table", "found"),
    [
        ("0::/system.slice/salt-minion.service\n", V2, [("/sys/fs/cgroup", WANTED, True)]),
        ("0::/user.slice/user-0.slice/session-3.scope\n", V2, [("/sys/fs/cgroup", WANTED, True)]),
        (f"0::{WANTED}\n", V2, []),
        (
            "3:memory:/\n2:cpuacct,cpu:/system.slice/x.service\n1:name=systemd:/system.slice/x.service\n",
            V1,
            [("/sys/fs/cgroup/cpu,cpuacct", WANTED, False), ("/sys/fs/cgroup/systemd", WANTED, True)],
        ),
        # No systemd: a hierarchy that somebody has for himself is his.
        ("2:cpuacct,cpu:/mine\n1:memory:/\n", V1, []),
        ("0::/x\n", "31 23 0:28 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", []),
        ("", "", []),
    ],
)
def test_the_hierarchies_to_move_in(mine, table, found):
    assert apart.groups(mine, table, WANTED) == found
