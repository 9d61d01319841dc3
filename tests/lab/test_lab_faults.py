"""Every fault does what its name says, and `heal` undoes it."""

import json
import signal
import subprocess

import pytest
from fleet import faults

MOUNT = "mount -t nfs -o vers=3,hard,nolock 10.77.0.21:/rf-images/pbx /mnt"
SCAN = "showmount --no-headers -e 10.77.0.21"
WRITER = """
import os, sys, time
with open("/mnt/written", "ab", buffering=0) as f:
    for n in range(int(sys.argv[1])):
        f.write(b"%d\\n" % n)
        time.sleep(0.05)
assert open("/mnt/written", "rb").read() == b"".join(b"%d\\n" % n for n in range(int(sys.argv[1])))
"""


@pytest.fixture
def mounted(whole_lab):
    whole_lab.sh("node001", MOUNT)
    yield whole_lab
    whole_lab.heal()
    whole_lab.sh("node001", "umount /mnt")
    whole_lab.sh("san1", "rm -rf /rf-images/pbx/*")


@pytest.mark.parametrize("fault", ["ganesha-kill", "link-down", "power-cut"])
def test_a_hard_mount_waits_for_its_server_and_loses_nothing(mounted, fault):
    writer = mounted.start("exec", "node001", "--", "python3", "-c", WRITER, "60")
    mounted.wait_for(
        lambda: mounted.sh("san1", "cat /rf-images/pbx/written", check=False).count("\n") > 5, "the writer"
    )
    mounted.fault(fault, "san1")
    size = "stat -c %s /mnt/written"
    hanging = mounted.exec("node001", "timeout", "-s", "KILL", "2", *size.split(), check=False)
    assert hanging.returncode == 137, "a call waits while the server is away"
    assert writer.poll() is None
    mounted.heal()
    said, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0, said


def test_umount_by_force_ends_the_wait(mounted):
    mounted.fault("ganesha-stop", "san1")
    reader = mounted.start("exec", "node001", "--", "ls", "/mnt")
    mounted.wait_for(lambda: "ls" in mounted.sh("node001", "ps -e -o comm=").split(), "ls to hang")
    # It lets go of the reader at once; the mount is busy for as long as that takes to end.
    mounted.sh("node001", "umount -i -f /mnt || timeout 10 bash -c 'until umount -i -f /mnt; do :; done'")
    assert reader.wait(10) != 0
    reader.stdout.close()
    mounted.heal()
    mounted.sh("node001", MOUNT)


def test_san_full(mounted):
    mounted.fault("san-full", "san1")
    done = mounted.exec("node001", "dd", "if=/dev/zero", "of=/mnt/x", "bs=64k", "count=1", check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert mounted.sh("node001", "df --output=avail /mnt").split()[1] == "0"
    mounted.heal()
    mounted.exec("node001", "dd", "if=/dev/zero", "of=/mnt/x", "bs=64k", "count=1")


def test_unexport(whole_lab):
    whole_lab.fault("unexport", "san1")
    assert "/rf-images/pbx " not in whole_lab.sh("node001", SCAN)
    assert whole_lab.exec("node001", *MOUNT.split(), check=False).returncode == 32
    whole_lab.heal()
    assert "/rf-images/pbx " in whole_lab.sh("node001", SCAN)


def test_wrong_host_key(whole_lab):
    whole_lab.fault("wrong-host-key", "san1")
    done = whole_lab.exec("node001", *whole_lab.ssh, "root@san1", "true", check=False)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
    whole_lab.exec("node001", *whole_lab.ssh, "root@san2", "true")
    whole_lab.heal()
    whole_lab.exec("node001", *whole_lab.ssh, "root@san1", "true")


def test_minions_fall_silent(whole_lab):
    """Frozen, dead, or without a network; the containers do not depend on any of it."""
    pids = whole_lab.sh("node002", "cat /var/lib/vzctl/vepid/*")
    whole_lab.fault("minion-freeze", "node002")
    whole_lab.fault("minion-kill", "san2")
    whole_lab.fault("link-down", "mon001")
    down = ["manage.down", "timeout=2", "gather_job_timeout=2", "--out=json"]
    assert sorted(json.loads(whole_lab.salt_run(*down).stdout)) == ["mon001", "node002", "san2"]
    whole_lab.heal()
    assert json.loads(whole_lab.salt_run("manage.down", "--out=json").stdout) == []
    assert whole_lab.sh("node002", "cat /var/lib/vzctl/vepid/*") == pids


def test_a_process_that_goes_with_its_parent_is_no_failure(tmp_path):
    """The master's workers die with it, before a signal of their own reaches them."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    alive = subprocess.Popen(["sleep", "600"])
    (tmp_path / "salt-master.service").mkdir()
    (tmp_path / "salt-master.service/cgroup.procs").write_text(f"{gone.pid}\n{alive.pid}\n")
    script = faults.SIGNAL.replace("/sys/fs/cgroup/system.slice", str(tmp_path))
    subprocess.run(["sh", "-c", script, "sh", "salt-master", "KILL"], check=True)
    assert alive.wait(10) == -signal.SIGKILL


def test_master_kill(whole_lab):
    whole_lab.fault("master-kill")
    assert whole_lab.exec("master", "systemctl", "is-active", "salt-master", check=False).stdout != "active\n"
    whole_lab.heal()
    assert len(whole_lab.salt("*", "test.ping")) == 5


@pytest.fixture
def mounted_at_boot(whole_lab):
    """node002 with NFS in its fstab."""
    line = "10.77.0.21:/rf-images/pbx /mnt nfs vers=3,hard,nolock,_netdev 0 0"
    whole_lab.sh("node002", f"echo '{line}' >> /etc/fstab")
    yield whole_lab
    whole_lab.heal()
    whole_lab.sh("node002", "umount /mnt; sed -i /_netdev/d /etc/fstab; systemctl daemon-reload")


def test_power_cut_of_a_node(mounted_at_boot):
    """Its containers die without a word; after fstab's mounts the vz service starts them with what was on disk."""
    lab = mounted_at_boot
    before = lab.records_of(204)
    lab.fault("power-cut", "node002")
    assert not any(c["running"] for c in lab.status()["hosts"]["node002"]["containers"].values())
    lab.heal()

    def all_run():
        return all(c["running"] for c in lab.status()["hosts"]["node002"]["containers"].values())

    lab.wait_for(all_run, "the containers of node002")
    verdict = lab.wait_for(lambda: len((v := lab.verdict_of(204)).boots) > 1 and v, "the recorder")
    assert verdict.ok, verdict.faults()
    assert verdict.unfinished, "nobody told the recorder to stop"
    assert lab.records_of(204).startswith(before)
    moment = "systemctl show --value -p InactiveExitTimestampMonotonic"
    began = lab.sh(
        "node002", f"{moment} vz.service; systemctl show --value -p ActiveEnterTimestampMonotonic mnt.mount"
    )
    vz_began, was_mounted = map(int, began.split())
    assert 0 < was_mounted < vz_began


def test_a_host_that_was_booted_can_lose_its_power_again(whole_lab):
    """Without a `heal` in between, which would mend what else is broken."""
    lab = whole_lab
    try:
        for _ in range(2):
            lab.fault("power-cut", "mon001")
            assert not lab.status()["hosts"]["mon001"]["up"]
            lab.command("boot", "mon001")
            assert lab.status()["hosts"]["mon001"]["up"]
    finally:
        lab.heal()


def test_yum_broken(whole_lab):
    whole_lab.fault("yum-broken", "node001")
    done = whole_lab.vzctl(101, "exec2", "yum makecache", check=False)
    assert done.returncode == 1
    assert "Cannot retrieve repository metadata" in done.stdout + done.stderr
    whole_lab.heal()
    whole_lab.vzctl(101, "exec2", "yum makecache")


def test_faults_are_remembered_until_healed(whole_lab):
    whole_lab.fault("ganesha-stop", "san1", "san2")
    whole_lab.fault("ganesha-stop", "san1")
    assert whole_lab.heal().stdout.splitlines() == [
        "healed: ganesha-stop of san2",
        "healed: ganesha-stop of san1",
    ]
    assert whole_lab.heal().stdout == ""


def test_a_fault_that_a_host_cannot_have_is_refused(whole_lab):
    done = whole_lab.command("fault", "san-full", "node001", check=False)
    assert done.returncode == 1
    assert done.stderr == "lab: san-full cannot happen to node001; it can to san1, san2\n"
    assert whole_lab.heal().stdout == ""
