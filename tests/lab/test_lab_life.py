"""Up, down, and what is left on the machine."""

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleet import boot, fleet, places
from lab_under_test import CHECKOUT, LabUnderTest
from odd_trees import make_deep, set_immutable

# Not mnt: a mount namespace that is held keeps its mounts, and those are looked for by name.
KINDS = ("net", "pid", "uts", "ipc", "cgroup")


def cgroup_of(lab):
    return places.cgroup_of(lab.folder)


def processes_of(lab):
    """Pids of everything in the lab's cgroup, or with the lab's folder in its command line or mounts."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            belongs = f"/{cgroup_of(lab).name}/" in (entry / "cgroup").read_text()
            belongs |= f"{lab.folder}/".encode() in (entry / "mountinfo").read_bytes()
            belongs |= f"{lab.folder}/".encode() in (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if belongs:
            found.add(int(entry.name))
    return found


def open_namespaces(pids):
    """The namespaces that some processes are in, by number. Each is held open, or others could get its number."""
    found = {}
    for pid in pids:
        for kind in KINDS:
            try:
                handle = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
            except OSError:
                continue
            number = os.fstat(handle).st_ino
            if number in found:
                os.close(handle)
            else:
                found[number] = handle
    return found


@contextmanager
def namespaces_of(lab):
    """The numbers of the lab's namespaces, held for as long as they are needed."""
    found = open_namespaces(processes_of(lab))
    own = open_namespaces([os.getpid()])
    try:
        yield set(found) - set(own)
    finally:
        for handle in [*found.values(), *own.values()]:
            os.close(handle)


def inhabitants(namespaces):
    """Command lines of the processes that are in some namespaces."""
    found = []
    for pid in all_pids():
        for kind in KINDS:
            try:
                if os.stat(f"/proc/{pid}/ns/{kind}").st_ino in namespaces:
                    found.append((pid, kind, Path(f"/proc/{pid}/cmdline").read_bytes()))
            except OSError:
                continue
    return found


def all_pids():
    return {int(entry.name) for entry in Path("/proc").glob("[0-9]*")}


def network_links():
    return sorted(os.listdir("/sys/class/net"))


def assert_nothing_left(lab):
    assert processes_of(lab) == set()
    assert not cgroup_of(lab).exists()
    assert not lab.folder.exists()
    assert str(lab.folder) not in Path("/proc/self/mountinfo").read_text()
    assert boot.loop_devices(lab.folder) == []


@pytest.fixture
def second():
    """A small lab beside the first."""
    second = LabUnderTest("test-second")
    second.down()
    yield second
    second.down()


def test_up_twice_is_harmless(lab):
    before = lab.status()
    assert "is up already" in lab.up().stdout
    after = lab.status()
    assert after == before
    assert before["up"] is True


def test_up_with_another_size_is_refused(lab):
    done = lab.command("up", "--nodes", "3", check=False)
    assert done.returncode == 1
    assert "nodes=2; take it down first" in done.stderr


def test_set_up_has_nothing_to_do_after_up(lab):
    assert lab.command("set-up").stdout == "set-up: nothing to do\n"


def test_status_knows_hosts_containers_and_the_nfs_client(lab):
    status = lab.status()
    assert list(status["hosts"]) == ["master", "san1", "san2", "mon001", "node001", "node002"]
    assert status["nfs_client"] in ("kernel", "fuse")
    for node in ("node001", "node002"):
        assert [c["running"] for c in status["hosts"][node]["containers"].values()] == [True] * 5
    names = [c["name"] for c in status["hosts"]["node001"]["containers"].values()]
    assert names == ["Four Seasons hospice", "PBX", "Epsilon", "revnat", "revnat beta"]
    assert status["nfs_client"] in lab.command("status").stdout


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["true"], 0), (["bash", "-c", "exit 7"], 7), (["bash", "-c", "kill -9 $$"], 137), (["no-such"], 127)],
)
def test_exit_codes_pass_through(lab, argv, code):
    assert lab.exec("san1", *argv, check=False).returncode == code


def test_words_reach_the_command_as_they_are(lab):
    words = ["two words", "", "$HOME", "*", "--", "-x", "line\nbreak"]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    assert json.loads(lab.exec("san1", "python3", "-c", script, *words).stdout) == words


def test_errors_are_one_message(lab):
    done = lab.exec("node007", "true", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("lab: node007: no such host; there are master, san1")
    done = lab.command("fault", "earthquake", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("lab: earthquake: no such fault; there are link-down")


def test_two_labs_side_by_side_and_down_leaves_nothing(lab, second):
    links = network_links()
    mounts = Path("/proc/self/mountinfo").read_text()
    second.up("--nodes", "1", "--cts", "2")
    # Same addresses, same ids, and neither sees the other.
    for one, whose, other in ((lab, "first", "second"), (second, "second", "first")):
        one.sh("san1", f"touch /rf-images/pbx/{whose}")
        listing = ("rsync", "--list-only", "-e", " ".join(one.ssh), "10.77.0.21:/rf-images/pbx/")
        names = one.exec("node001", *listing).stdout.split()
        assert whose in names and other not in names
    assert sorted(second.salt("*", "test.ping")) == ["mon001", "node001", "san1", "san2"]
    assert second.sh("master", "cat /srv/lab-pillar/ringfree/fleet.sls") == "ringfree:\n  nodes: [node001]\n"
    # Nothing of it is to be seen on the machine while it is up.
    assert network_links() == links
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert len(processes_of(second)) > 30
    # It goes down even so: a call hangs on NFS, and nobody keeps the network any more.
    hanging = hang_on_nfs(second)
    os.kill(int((second.folder / "keeper.pid").read_text()), signal.SIGKILL)
    up = second.command("up", check=False)
    assert up.returncode == 1
    assert "has lost its network; take it down first" in up.stderr
    with namespaces_of(second) as its_namespaces:
        assert len(its_namespaces) > 30
        second.down()
        assert inhabitants(its_namespaces) == []
    assert hanging.wait(10) != 0
    hanging.stdout.close()
    assert_nothing_left(second)
    # The other one has not noticed.
    assert lab.status()["up"] is True
    assert lab.salt("node001", "test.ping") == {"node001": True}


def hang_on_nfs(lab):
    """A process that waits for an NFS server that is away."""
    lab.sh("node001", "mount -t nfs -o vers=3,nolock,hard 10.77.0.21:/rf-images/pbx /mnt")
    lab.fault("ganesha-kill", "san1")
    hanging = lab.start("exec", "node001", "--", "ls", "/mnt")
    lab.wait_for(lambda: "ls" in lab.sh("node001", "ps -e -o comm=").split(), "ls to hang")
    return hanging


def test_down_works_when_up_was_killed_half_way(lab, second):
    up = second.start("up", "--nodes", "1", "--cts", "1")
    second.wait_for(lambda: (second.folder / "master" / "pid").exists(), "the first host to run", 120)
    up.send_signal(signal.SIGKILL)
    up.communicate()
    assert processes_of(second)
    second.down()
    assert_nothing_left(second)


def test_down_twice_is_harmless(lab, second):
    assert second.down().stdout == f"lab {second.name} was not up\n"
    assert second.command("exec", "master", "--", "true", check=False).returncode == 1
    assert second.command("status", check=False).returncode == 3


def test_a_host_boots_again_with_its_disk(whole_lab):
    lab = whole_lab
    lab.sh("mon001", "echo kept > /root/kept")
    lab.fault("power-cut", "mon001")
    assert lab.status()["hosts"]["mon001"]["up"] is False
    assert lab.exec("mon001", "true", check=False).returncode == 1
    lab.command("boot", "mon001")
    assert lab.sh("mon001", "cat /root/kept") == "kept\n"
    assert lab.command("boot", "mon001", check=False).returncode == 1


def test_the_checkout_is_read_only_for_the_master(lab):
    assert lab.exec("master", "test", "-f", "/srv/ringfree/LICENSE", check=False).returncode == 0
    assert lab.exec("master", "touch", "/srv/ringfree/x", check=False).returncode != 0
    assert not (CHECKOUT / "x").exists()


# --- whatever lies in it ----------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path):
    """The folder of a lab whose processes have ended."""
    if os.geteuid() != 0:
        pytest.skip("mounts and flags need root")
    folder = tmp_path / "run"
    (folder / "node001/vz/private/101/etc").mkdir(parents=True)
    (folder / "node001/vz/root").mkdir()
    (folder / "san1").mkdir()
    yield folder
    fleet.unmount_all(folder)
    fleet.remove_tree(folder)
    assert not folder.exists()


def deep(folder):
    make_deep(folder / "node001/vz/private/101", 1100)


def long_path_that_nobody_may_delete(folder):
    make_deep(folder / "node001/vz/private/101", 40, "n" * 200)
    place = os.open(folder / "node001/vz/private/101", os.O_RDONLY)
    for _ in range(40):
        place, above = os.open("n" * 200, os.O_RDONLY, dir_fd=place), place
        os.close(above)
    os.close(os.open("fixed", os.O_CREAT, dir_fd=place))
    set_immutable(f"/proc/self/fd/{place}/fixed", True)
    set_immutable(f"/proc/self/fd/{place}", True)
    os.close(place)


def dangling_links(folder):
    (folder / "node001/vz/private/alpha").symlink_to("/nowhere")
    (folder / "node001/vz/private/102").symlink_to("102")
    (folder / "node001/vz/private/file").touch()


def immutable_files(folder):
    area = folder / "node001/vz/private/101"
    names = ["etc/hosts", "-f", "a b\nc"]
    for name in names:
        (area / name).touch()
    (folder / "san1/deep/er").mkdir(parents=True)
    for path in (
        *(area / name for name in names),
        area / "etc",
        folder / "san1/deep/er",
        folder / "node001/vz/root",
    ):
        set_immutable(path, True)


def mounts_left_over(folder):
    outside = folder.parent / "somebody's"
    outside.mkdir()
    (outside / "file").touch()
    place = folder / "node001/vz/private/101/a b"
    (place / "below").mkdir(parents=True)
    subprocess.run(["mount", "--bind", outside, place], check=True)
    (place / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place / "below"], check=True)


@pytest.mark.parametrize(
    "make", [deep, long_path_that_nobody_may_delete, dangling_links, immutable_files, mounts_left_over]
)
def test_down_removes_whatever_lies_in_a_lab(run_folder, make):
    make(run_folder)
    fleet.unmount_all(run_folder)
    fleet.remove_tree(run_folder)
    assert not run_folder.exists()
    assert make is not mounts_left_over or (run_folder.parent / "somebody's/file").exists()
    fleet.remove_tree(run_folder)  # twice is harmless


def test_a_mount_that_somebody_stands_in_keeps_no_lab_from_going(run_folder):
    place = run_folder / "node001/vz/private/101/mnt"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    standing = subprocess.Popen(["sleep", "60"], cwd=place)
    fleet.unmount_all(run_folder)
    fleet.remove_tree(run_folder)
    standing.kill()
    standing.wait()
    assert not run_folder.exists()
