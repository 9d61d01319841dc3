"""NFS as the nodes see it: a copy of a container with all its odd files, and the behaviour of a `hard` mount."""

import pytest

MOUNT = "mount -t nfs -o vers=3,proto=tcp,hard,nolock 10.77.0.21:/rf-images/pbx /mnt"
# Everything that a copy must keep and a file system can tell, but for times of folders and access times.
LISTING = r"find . -printf '%P\0%y %m %U %G %n %s %l %T@\0' | tr '\n' '\1' | tr '\0' '\n' | sort"


@pytest.fixture
def mounted(lab):
    lab.sh("node001", MOUNT)
    yield lab
    lab.sh("node001", "umount /mnt || umount -f /mnt; ! mountpoint -q /mnt")
    lab.sh("san1", "rm -rf /rf-images/pbx/*")


@pytest.fixture(scope="module")
def stopped(lab):
    """A container that is stopped meanwhile."""
    lab.vzctl(103, "stop")
    yield 103
    lab.vzctl(103, "start")


def test_mountinfo_shows_the_source(mounted):
    line = mounted.sh("node001", "findmnt -n -o SOURCE,FSTYPE /mnt").split()
    expected = "fuse.nfs" if mounted.status()["nfs_client"] == "fuse" else "nfs"
    assert line == ["10.77.0.21:/rf-images/pbx", expected]


def test_a_plain_umount_asks_a_dead_server_first(mounted):
    """As umount.nfs does for the kernel's client; without the helper nothing is asked."""
    mounted.fault("packets-dropped", "san1")
    try:
        hung = mounted.exec("node001", "timeout", "5", "umount", "/mnt", check=False)
        assert hung.returncode == 124
        assert (
            mounted.exec("node001", "timeout", "5", "umount", "-i", "--no-canonicalize", "/mnt").returncode
            == 0
        )
    finally:
        mounted.heal()


def test_a_plain_umount_does_not_wait_for_a_server_that_lives(mounted):
    assert mounted.exec("node001", "unshare", "-m", "timeout", "8", "umount", "/mnt").returncode == 0


def test_a_busy_share_says_so_to_a_plain_umount(mounted):
    said = mounted.exec("node001", "sh", "-c", "cd /mnt; umount /mnt; echo $?", check=False)
    assert said.stdout.split() == ["16"] and "busy" in said.stderr


def test_an_odd_container_arrives_whole(mounted, stopped):
    """rsync to the SAN over ssh, then read through NFS: both sides list the same."""
    shell = " ".join(mounted.ssh)
    private = f"/vz/private/{stopped}"
    mounted.sh(
        "node001", f"rsync -aHAXS --numeric-ids -e '{shell}' {private}/ root@san1:/rf-images/pbx/{stopped}/"
    )
    there = mounted.sh("node001", f"cd /mnt/{stopped} && {LISTING}").splitlines()
    here = mounted.sh("node001", f"cd {private} && {LISTING}").splitlines()
    assert len(here) > 400
    assert there == here
    difference = f"rsync -naHASc --itemize-changes --delete --numeric-ids {private}/ /mnt/{stopped}/"
    assert mounted.sh("node001", difference) == ""


def test_device_numbers_and_holes_arrive(mounted, stopped):
    shell = " ".join(mounted.ssh)
    odd = f"/vz/private/{stopped}/var/lib/odd"
    mounted.sh("node001", f"rsync -aHAXS --numeric-ids -e '{shell}' {odd}/ root@san1:/rf-images/pbx/999/")
    devices = mounted.sh("node001", "cd /mnt/999 && stat -c '%F %t:%T' char-device block-device fifo socket")
    assert devices.splitlines() == [
        "character special file 1:5",
        "block special file 7:4d",
        "fifo 0:0",
        "socket 0:0",
    ]
    size, blocks = mounted.sh("node001", "stat -c '%s %b' /mnt/999/sparse").split()
    assert int(size) == 64 << 20
    assert int(blocks) < 200


def test_what_is_created_over_nfs_belongs_to_who_creates_it(mounted):
    script = """
        chmod 0755 /mnt; trap 'chmod 0700 /mnt' EXIT
        cd /mnt && mkdir -m 1777 open && mkdir shared && chown 0:44 shared && chmod 2777 shared
        as="setpriv --reuid 1000 --regid 1001 --clear-groups"
        $as touch open/file shared/file && $as mkdir open/folder && $as ln -s nowhere open/link && $as mkfifo open/fifo
        stat -c '%n %u %g' open/* shared/*
        $as rm /mnt/shared/file && ! $as chown 0 open/file 2>/dev/null && ! $as cat /mnt/secret 2>/dev/null
    """
    assert mounted.sh("node001", script).splitlines() == [
        "open/fifo 1000 1001",
        "open/file 1000 1001",
        "open/folder 1000 1001",
        "open/link 1000 1001",
        "shared/file 1000 44",
    ]


def test_the_usual_calls_work_over_nfs(mounted):
    script = r"""
import os, stat
os.chdir("/mnt")
f = open("open-and-removed", "w+")
f.write("still here"); f.flush(); os.unlink("open-and-removed"); f.seek(0)
assert f.read() == "still here"
f.close()
open("a", "w").write("a" * 100_000)
open("b", "w").write("b")
os.rename("a", "b")
assert os.stat("b").st_size == 100_000 and not os.path.exists("a")
os.truncate("b", 10)
assert open("b").read() == "a" * 10
with open("b", "w") as f:
    f.write("short")
assert open("b").read() == "short", "what is written anew has nothing left of what was there"
open("b", "w").write("a" * 10)
with open("b", "a") as f:
    f.write("end")
assert open("b").read() == "a" * 10 + "end", "size is right at once after a write"
os.utime("b", ns=(10**18 + 123_456_000, 10**18 + 123_456_000))
assert os.stat("b").st_mtime_ns == 10**18 + 123_456_000
os.chmod("b", 0o4711)
assert stat.S_IMODE(os.stat("b").st_mode) == 0o4711
os.link("b", "c")
assert os.stat("b").st_nlink == 2 and os.path.samefile("b", "c")
os.makedirs("x/y/z")
os.rename("x/y", "moved")
os.rmdir("moved/z")
try:
    os.rmdir("/mnt")
except OSError:
    pass
else:
    raise AssertionError
try:
    os.setxattr("b", "user.a", b"b")
except OSError as error:
    assert error.errno == 95
else:
    raise AssertionError("NFS version 3 has no extended attributes")
space = os.statvfs("/mnt")
assert space.f_blocks * space.f_frsize > 10 << 30 and space.f_files > 100_000
os.mkdir("many")
for n in range(500):
    open(f"many/{n}", "w").close()
assert len(os.listdir("many")) == 500
"""
    mounted.exec("node001", "python3", "-c", script)


def test_a_second_node_sees_what_the_first_wrote(mounted):
    mounted.sh("node002", MOUNT)
    try:
        mounted.sh("node001", "echo one > /mnt/shared-file")
        assert mounted.sh("node002", "cat /mnt/shared-file") == "one\n"
    finally:
        mounted.sh("node002", "umount /mnt")


def test_what_changes_on_the_san_itself_is_seen_over_nfs(mounted):
    """rsync writes there, behind the NFS server's back."""
    for text in ("first", "second, longer", "third"):
        mounted.sh("san1", f"cd /rf-images/pbx; echo {text} > new; mv new file; touch 'only {text}'")
        mounted.wait_for(lambda: mounted.sh("node001", "cat /mnt/file") == f"{text}\n", text, 3)  # noqa: B023
        assert sorted(mounted.sh("node001", "ls /mnt").splitlines()) == ["file", f"only {text}"]
        mounted.sh("san1", "rm -rf /rf-images/pbx/*")
        mounted.wait_for(lambda: mounted.sh("node001", "ls /mnt") == "", "the folder to be empty", 3)


def test_a_read_only_mount_is_read_only(lab):
    lab.sh("node001", MOUNT.replace("vers=3", "ro,vers=3"))
    try:
        assert "Read-only file system" in lab.exec("node001", "touch", "/mnt/x", check=False).stderr
    finally:
        lab.sh("node001", "umount /mnt")


def test_a_missing_export_is_refused(lab):
    done = lab.exec("node001", *MOUNT.replace("images/pbx", "images/none").split(), check=False)
    assert done.returncode == 32
    assert "mount.nfs: " in done.stderr


def test_fstab_mounts_it(lab):
    line = "10.77.0.21:/rf-images/pbxroot /mnt nfs vers=3,hard,nolock,_netdev 0 0"
    try:
        lab.sh("node001", f"echo '{line}' >> /etc/fstab; mount /mnt; mountpoint -q /mnt; umount /mnt")
    finally:
        lab.sh("node001", "sed -i /pbxroot/d /etc/fstab")
