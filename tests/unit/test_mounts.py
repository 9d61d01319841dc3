"""ringfree_mounts: what /proc/self/mountinfo proves."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import ringfree_mounts as mounts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard"
VZ = "40 22 8:2 / /vz rw,relatime - ext4 /dev/sdb1 rw"
KERNEL_NFS = (
    "50 40 0:45 / /vz/nfsprivate rw,relatime - nfs 10.77.0.21:/rf-images/pbx rw,vers=3,rsize=1048576,wsize=1048576,"
    "namlen=255,hard,nolock,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=10.77.0.21,mountvers=3,mountport=20048,"
    "mountproto=tcp,local_lock=all,addr=10.77.0.21"
)
FUSE_NFS = "50 40 0:45 / /vz/nfsprivate rw,nosuid,relatime - fuse.nfs 10.77.0.21:/rf-images/pbx rw,user_id=0,group_id=0"
LOCAL_ROOT = "60 40 8:2 /private/101 /vz/root/101 rw,relatime - ext4 /dev/sdb1 rw"
SIMFS_ROOT = "60 40 0:33 / /vz/root/101 rw,relatime - simfs /vz/private/101 rw"
FUSE_ROOT = (
    "60 40 0:45 /101 /vz/nfsroot/101 rw,nosuid,relatime - "
    "fuse.nfs 10.77.0.21:/rf-images/pbx rw,user_id=0,group_id=0"
)
KERNEL_ROOT = "60 40 0:45 / /vz/nfsroot/101 rw,relatime - nfs 10.77.0.21:/rf-images/pbx/101 rw,vers=3,hard"


def table(*lines):
    return mounts.parse("".join(f"{line}\n" for line in lines))


# --- parse ----------------------------------------------------------------------------------------


def test_a_line_is_taken_apart():
    (mount,) = table(
        r"36 35 98:0 /a\040b /mnt\0112\134 rw,noatime shared:1 master:2 - ext3 /dev/ro\043ot rw,errors=continue"
    )
    assert mount == {
        "id": 36,
        "parent": 35,
        "device": "98:0",
        "root": "/a b",
        "mountpoint": "/mnt\t2\\",
        "options": "rw,noatime",
        "fstype": "ext3",
        "source": "/dev/ro#ot",
        "super_options": "rw,errors=continue",
    }


def test_a_source_may_be_empty():
    assert table("36 35 0:9 / /mnt rw - tmpfs  rw,size=4k")[0]["source"] == ""


@pytest.mark.parametrize(
    "line", ["nonsense", "36 35 98:0 / /mnt rw ext3 /dev/root rw", "a b 98:0 / /m rw - ext3 x rw"]
)
def test_another_format_is_refused(line):
    with pytest.raises(ValueError, match="line 2 of mountinfo cannot be read"):
        table(ROOT, line)


def test_the_mounts_of_this_process_are_read():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        text = stream.read()
    assert len(mounts.parse(text)) == len(text.splitlines())


# --- covering, at, users --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "mountpoint"),
    [
        ("/", "/"),
        ("/vzx/private", "/"),
        ("/vz", "/vz"),
        ("/vz/private/101", "/vz"),
        ("/vz/nfsprivate", "/vz/nfsprivate"),
        ("/vz/nfsprivate/101/etc", "/vz/nfsprivate"),
        ("//vz//./nfsprivate/", "/vz/nfsprivate"),
    ],
)
def test_a_path_lies_on_the_nearest_mount(path, mountpoint):
    assert mounts.covering(table(ROOT, VZ, FUSE_NFS), path)["mountpoint"] == mountpoint


@pytest.mark.parametrize("path", ["", "vz", None])
def test_nothing_covers_what_is_no_absolute_path(path):
    assert mounts.covering(table(ROOT, VZ), path) is None
    assert mounts.covering([], "/") is None


def test_the_topmost_of_several_counts():
    stacked = table(ROOT, VZ, FUSE_NFS, "51 50 0:46 / /vz/nfsprivate rw - tmpfs over rw")
    assert mounts.at(stacked, "/vz/nfsprivate")["source"] == "over"
    assert mounts.covering(stacked, "/vz/nfsprivate/101")["source"] == "over"


def test_a_hidden_mount_is_not_found():
    hidden = table(ROOT, VZ, FUSE_NFS, "51 40 0:46 / /vz rw - tmpfs over rw")
    assert mounts.covering(hidden, "/vz/nfsprivate/101")["source"] == "over"
    assert mounts.at(hidden, "/vz/nfsprivate") is None


def test_a_root_over_rootfs_is_seen():
    old = table(
        "1 1 0:1 / / rw - rootfs rootfs rw",
        "16 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "17 16 8:2 / /vz rw - ext4 b rw",
    )
    assert mounts.at(old, "/")["fstype"] == "ext4"
    assert mounts.covering(old, "/vz/a")["mountpoint"] == "/vz"


def test_at_is_exact():
    assert mounts.at(table(ROOT, VZ), "/vz/")["id"] == 40
    assert mounts.at(table(ROOT, VZ), "/vz/private") is None


def test_what_is_mounted_below_a_directory():
    over = table(
        ROOT,
        VZ,
        "50 40 0:45 / /vz/private/101 rw - ext4 b rw",
        "51 50 0:46 / /vz/private/101/a rw - tmpfs first rw",
        "52 51 0:47 / /vz/private/101/a rw - tmpfs second rw",
        "53 40 0:48 / /vz/private/101/hidden rw - tmpfs hidden rw",
        "54 40 0:49 / /vz/private/1012/a rw - tmpfs other rw",
    )
    assert [m["source"] for m in mounts.below(over, "/vz/private/101")] == ["second"]
    assert [m["source"] for m in mounts.below(over, "/vz/private")] == ["b", "second", "other"]
    assert mounts.below(table(ROOT, VZ), "/vz") == []


def test_containers_and_what_is_mounted_below_use_a_store():
    other = "61 40 0:45 /102 /vz/nfsroot/102 rw - fuse.nfs 10.77.0.21:/rf-images/pbx rw"
    below = "62 50 0:47 / /vz/nfsprivate/x rw - tmpfs t rw"
    deeper = "63 62 0:48 / /vz/nfsprivate/x/y rw - tmpfs t rw"
    strange = "64 40 0:49 / /vz/else rw - fuse.nfs 10.77.0.21:/rf-images/pbx rw"
    whole = table(ROOT, VZ, FUSE_NFS, FUSE_ROOT, other, below, deeper, strange, LOCAL_ROOT)
    assert [m["mountpoint"] for m in mounts.users(whole, "/vz/nfsprivate")] == [
        "/vz/nfsroot/101",
        "/vz/nfsroot/102",
        "/vz/nfsprivate/x",
        "/vz/nfsprivate/x/y",
    ]
    assert mounts.users(table(ROOT, VZ, FUSE_NFS), "/vz/nfsprivate") == []
    assert mounts.users(whole, "/vz/nowhere") == []


def test_of_two_exports_on_one_server_disk_only_the_own_containers_count():
    """The kernel's client shows one device for both, and tells them apart in the source."""
    second = "51 40 0:45 / /vz/nfsroot rw - nfs 10.77.0.21:/rf-images/pbxroot rw,vers=3"
    bound = "60 51 0:45 / /vz/nfsroot/101 rw - nfs 10.77.0.21:/rf-images/pbx/101 rw,vers=3"
    whole = table(ROOT, VZ, KERNEL_NFS, second, bound)
    assert [m["id"] for m in mounts.users(whole, "/vz/nfsprivate")] == [60]
    assert [m["id"] for m in mounts.users(whole, "/vz/nfsroot")] == [60]


def test_one_file_system_is_shared_by_exports_containers_and_mounts_of_others():
    """Of the kernel's client; simfs has a device of its own, and shows a directory of the store."""
    second = "51 40 0:45 / /vz/nfsroot rw - nfs 10.77.0.21:/rf-images/pbxroot rw,vers=3"
    backup = "52 22 0:45 / /mnt/backup rw - nfs 10.77.0.21:/rf-images/backup rw,vers=3"
    strange = "53 22 0:46 / /mnt/other rw - nfs 10.77.0.22:/rf-images/pbx rw,vers=3"
    simfs = "61 51 0:33 / /vz/nfsroot/102 rw - simfs /vz/nfsprivate/102 rw"
    whole = table(ROOT, VZ, KERNEL_NFS, second, backup, strange, KERNEL_ROOT, simfs)
    for point, own in (("/vz/nfsprivate", 50), ("/vz/nfsroot", 51)):
        assert [m["id"] for m in mounts.sharing(whole, point)] == sorted({50, 51, 52, 60, 61} - {own})
    assert mounts.sharing(whole, "/mnt/other") == []
    assert mounts.sharing(whole, "/vz/nowhere") == []


def test_simfs_uses_the_store_that_its_path_lies_on():
    simfs = "60 40 0:33 / /vz/root/101 rw - simfs /vz/nfsprivate/101 rw"
    assert [m["id"] for m in mounts.users(table(ROOT, VZ, FUSE_NFS, simfs), "/vz/nfsprivate")] == [60]


# --- real_path ------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """A directory with links of all kinds, and its place in a mount table."""
    base = os.path.realpath(tmp_path)
    os.makedirs(f"{base}/var/vz/private")
    for link, target in (
        ("vz", "var/vz"),
        ("absolute", f"{base}/var"),
        ("up", "var/vz/../../var/./vz"),
        ("chain", "vz"),
        ("dangling", "nowhere/else"),
        ("circle", "circle2/x"),
        ("circle2", "circle"),
        ("var/vz/back", "../../vz"),
    ):
        os.symlink(target, f"{base}/{link}")
    return base


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/vz",
        "//vz//private/.",
        "/absolute/vz",
        "/up/private",
        "/chain/private/101",
        "/dangling/x",
        "/vz/back/private",
    ],
)
def test_links_are_resolved_as_the_system_does(tree, path):
    assert mounts.real_path(table(ROOT), tree + path) == os.path.realpath(tree + path)


@given(
    st.lists(
        st.sampled_from(
            ("vz", "absolute", "up", "chain", "dangling", "var", "back", "private", "..", ".", "")
        ),
        max_size=6,
    )
)
@settings(suppress_health_check=list(HealthCheck))
def test_any_path_is_resolved_as_the_system_does(tree, names):
    path = "/".join([tree, *names])
    assert mounts.real_path(table(ROOT), path) == os.path.realpath(path)


def test_links_in_a_circle_are_told(tree):
    with pytest.raises(ValueError, match="go round in a circle"):
        mounts.real_path(table(ROOT), f"{tree}/circle")
    with pytest.raises(ValueError, match="not an absolute path"):
        mounts.real_path(table(ROOT), "vz")


def test_h13_nothing_on_nfs_is_asked(tree, monkeypatch):
    nfs = f"50 22 0:45 / {tree}/var/vz rw - fuse.nfs 10.77.0.21:/rf-images/pbx rw"
    root = f"51 22 0:45 /101 {tree}/var/root rw - fuse.nfs 10.77.0.21:/rf-images/pbx rw"
    simfs = f"52 22 0:46 / {tree}/absolute rw - simfs /vz/private/101 rw"
    asked = []
    original = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: (asked.append(path), original(path))[1])
    monkeypatch.setattr(os, "lstat", lambda path: asked.append(path))
    whole = table(ROOT, nfs, root, simfs)
    assert mounts.real_path(whole, f"{tree}/vz/back/101") == f"{tree}/var/vz/back/101"
    assert mounts.real_path(whole, f"{tree}/var/root") == f"{tree}/var/root"
    assert mounts.real_path(whole, f"{tree}/absolute") == f"{tree}/absolute"
    assert not [
        path for path in asked if path.startswith((f"{tree}/var/vz", f"{tree}/var/root", f"{tree}/absolute"))
    ]


# --- NFS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fstype", "nfs"), [("nfs", True), ("nfs4", True), ("fuse.nfs", True), ("nfsd", False), ("ext4", False)]
)
def test_nfs_is_known_by_its_type(fstype, nfs):
    (mount,) = table(f"50 40 0:45 / /mnt rw - {fstype} srv:/x rw")
    assert mounts.is_nfs(mount) is nfs


# --- container_root_is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "private", "root", "actual"),
    [
        ([LOCAL_ROOT], "/vz/private/101", "/vz/root/101", "/vz/private/101"),
        ([SIMFS_ROOT], "/vz/private/101", "/vz/root/101", "/vz/private/101"),
        ([FUSE_NFS, FUSE_ROOT], "/vz/nfsprivate/101", "/vz/nfsroot/101", "10.77.0.21:/rf-images/pbx/101"),
        ([KERNEL_NFS, KERNEL_ROOT], "/vz/nfsprivate/101", "/vz/nfsroot/101", "10.77.0.21:/rf-images/pbx/101"),
        (
            [KERNEL_NFS, KERNEL_ROOT],
            "/vz//nfsprivate/101/",
            "/vz/nfsroot/101/",
            "10.77.0.21:/rf-images/pbx/101",
        ),
    ],
)
def test_h10_the_right_tree_is_proved(lines, private, root, actual):
    assert mounts.container_root_is(table(ROOT, VZ, *lines), private, root) == {
        "ok": True,
        "why": "",
        "actual": actual,
    }


@pytest.mark.parametrize(
    ("lines", "private", "root", "why"),
    [
        ([], "/vz/private/101", "/vz/root/101", "nothing is mounted on /vz/root/101"),
        (
            [FUSE_NFS, LOCAL_ROOT],
            "/vz/nfsprivate/101",
            "/vz/root/101",
            "shows /vz/private/101 and not /vz/nfsprivate/101",
        ),
        ([KERNEL_NFS, SIMFS_ROOT], "/vz/nfsprivate/101", "/vz/root/101", "shows /vz/private/101 and not"),
        (
            [FUSE_NFS, FUSE_ROOT],
            "/vz/nfsprivate/102",
            "/vz/nfsroot/101",
            "shows 10.77.0.21:/rf-images/pbx/101 and not",
        ),
        (
            [KERNEL_NFS, KERNEL_ROOT],
            "/vz/nfsprivate/102",
            "/vz/nfsroot/101",
            "shows 10.77.0.21:/rf-images/pbx/101 and not",
        ),
        (
            [FUSE_NFS, FUSE_ROOT],
            "/vz/private/101",
            "/vz/nfsroot/101",
            "shows 10.77.0.21:/rf-images/pbx/101 and not",
        ),
        # The private area was replaced after the container had been started from it.
        (
            [LOCAL_ROOT.replace("/private/101", "/private/101//deleted")],
            "/vz/private/101",
            "/vz/root/101",
            "//deleted and not",
        ),
        # Another store has been mounted on the same directory since.
        (
            [FUSE_NFS, FUSE_ROOT, "70 50 0:99 / /vz/nfsprivate rw - fuse.nfs 10.77.0.22:/rf-images/pbx rw"],
            "/vz/nfsprivate/101",
            "/vz/nfsroot/101",
            "shows 10.77.0.21:/rf-images/pbx/101 and not",
        ),
        (
            [LOCAL_ROOT, "70 60 0:99 / /vz/root/101 rw - tmpfs over rw"],
            "/vz/private/101",
            "/vz/root/101",
            "shows / of over (tmpfs)",
        ),
        ([LOCAL_ROOT], None, "/vz/root/101", "the container has no private area"),
        ([LOCAL_ROOT], "", "/vz/root/101", "the container has no private area"),
        ([LOCAL_ROOT], "/vz/private/101", None, "the container has no root"),
        ([LOCAL_ROOT], "/vz/root/101", "/vz/root/101", "lies on no other mount"),
    ],
)
def test_h10_another_tree_is_not_taken_for_it(lines, private, root, why):
    proof = mounts.container_root_is(table(ROOT, VZ, *lines), private, root)
    assert proof["ok"] is False
    assert why in proof["why"]


@pytest.fixture
def behind_link(tmp_path):
    """/vz is a link to /home/vz, as far as a test can have that; simfs names the path that vzctl was given."""
    (tmp_path / "home/vz/nfsprivate").mkdir(parents=True)
    (tmp_path / "vz").symlink_to("home/vz")
    real, linked = f"{tmp_path}/home/vz", f"{tmp_path}/vz"
    return table(
        ROOT,
        f"50 22 0:45 / {real}/nfsprivate rw - nfs 10.77.0.21:/rf-images/pbx rw",
        f"60 22 0:33 / {real}/nfsroot/101 rw - simfs {linked}/nfsprivate/101 rw",
        f"61 22 0:34 / {real}/root/102 rw - simfs {linked}/private/102 rw",
        f"62 22 0:35 / {real}/odd rw - simfs none rw",
    )


def test_h10_simfs_behind_a_link_is_on_its_store(behind_link, tmp_path):
    (user,) = mounts.users(behind_link, f"{tmp_path}/home/vz/nfsprivate")
    assert user["mountpoint"].endswith("/nfsroot/101")


def test_simfs_behind_a_link_shows_its_private_area(behind_link, tmp_path):
    private = f"{tmp_path}/home/vz/private/102"
    (shown,) = mounts.showing(behind_link, private, mounts.place(behind_link, private))
    assert shown["mountpoint"].endswith("/root/102")


@pytest.mark.parametrize("private", ["vz/private/102", "home/vz/private/102"])
def test_h10_simfs_behind_a_link_is_proved(behind_link, tmp_path, private):
    """Whichever of its names the conf has by now."""
    root, real = f"{tmp_path}/home/vz/root/102", f"{tmp_path}/home/vz/private/102"
    assert mounts.container_root_is(behind_link, f"{tmp_path}/{private}", root, real)["ok"] is True
    assert mounts.container_root_is(behind_link, f"{tmp_path}/{private}3", root, f"{real}3")["ok"] is False


def test_a_private_area_may_be_a_symbolic_link():
    whole = table(ROOT, VZ, FUSE_NFS, FUSE_ROOT)
    assert not mounts.container_root_is(whole, "/vz/link/101", "/vz/nfsroot/101")["ok"]
    assert mounts.container_root_is(whole, "/vz/link/101", "/vz/nfsroot/101", "/vz/nfsprivate/101")["ok"]
    simfs = table(ROOT, VZ, FUSE_NFS, "60 40 0:33 / /vz/root/101 rw - simfs /vz/link/101 rw")
    assert mounts.container_root_is(simfs, "/vz/link/101", "/vz/root/101", "/vz/nfsprivate/101")["ok"]


# --- option_differences ---------------------------------------------------------------------------


def nfs(shown, options="rw,relatime", fstype="nfs"):
    return table(f"50 40 0:45 / /mnt {options} - {fstype} srv:/x {shown}")[0]


@pytest.mark.parametrize(
    "wanted",
    [
        "vers=3,proto=tcp,hard,nolock",
        "nfsvers=3,tcp,nolock",
        "v3,nolock,timeo=600,retrans=2,sec=sys,rsize=1048576",
        "rw,nolock,rsize=2097152,_netdev,nofail,noauto,x-systemd.automount,bg,retry=5,noatime,intr,mountport=1,addr=1.2.3.4",
        "local_lock=all,lookupcache=all,acregmin=3,acregmax=60,ac,async,suid,dev,exec",
    ],
)
def test_h23_the_same_options_in_other_words_do_not_differ(wanted):
    assert mounts.option_differences(wanted, table(KERNEL_NFS)[0]) == []


@pytest.mark.parametrize(
    ("wanted", "difference"),
    [
        ("nolock,vers=4.1", "vers is 3, wanted 4.1"),
        ("nolock,vers=4", "vers is 3, wanted 4"),
        ("nolock,proto=udp", "proto is tcp, wanted udp"),
        ("nolock,soft", "hard or soft is hard, wanted soft"),
        ("nolock,timeo=100", "timeo is 600, wanted 100"),
        ("nolock,retrans=5", "retrans is 2, wanted 5"),
        ("nolock,rsize=65536", "rsize is 1048576, wanted 65536"),
        ("nolock,ro", "ro is no, wanted yes"),
        ("nolock,sec=krb5", "sec is sys, wanted krb5"),
        ("nolock,noac", "noac is no, wanted yes"),
        ("nolock,nosuid", "nosuid is no, wanted yes"),
        ("nolock,actimeo=60", "acdirmin is 30, wanted 60"),
        ("vers=3", "local_lock is all, wanted none"),
    ],
)
def test_h23_a_real_difference_is_told(wanted, difference):
    assert difference in mounts.option_differences(wanted, table(KERNEL_NFS)[0])


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("vers=4", "rw,vers=4.2,hard,proto=tcp"),
        ("vers=4,minorversion=1", "rw,vers=4.1,hard"),
        ("vers=4.0", "rw,vers=4,minorversion=0,hard"),
        ("vers=4.0,nolock", "rw,vers=4.0,hard"),
        ("proto=tcp", "rw,vers=3,hard,proto=tcp6"),
        ("lookupcache=positive", "rw,vers=3,hard,lookupcache=pos"),
        ("noac", "rw,sync,vers=3,acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,hard,noac"),
        ("actimeo=30", "rw,vers=3,acregmin=30,acregmax=30,acdirmax=30,hard"),
        ("soft", "rw,vers=3,soft"),
        ("nconnect=4", "rw,vers=4.2,hard,nconnect=4"),
        ("ro", "ro,vers=3,hard"),
    ],
)
def test_h23_the_kernels_forms_are_understood(wanted, shown):
    assert mounts.option_differences(wanted, nfs(shown)) == []


def test_options_that_nobody_asked_for_are_told():
    shown = nfs("rw,vers=3,soft,lookupcache=none,sync", "ro,nosuid,nodev,noexec,relatime")
    assert mounts.option_differences("vers=3", shown) == [
        "hard or soft is soft, wanted hard",
        "lookupcache is none, wanted all",
        "nodev is yes, wanted no",
        "noexec is yes, wanted no",
        "nosuid is yes, wanted no",
        "ro is yes, wanted no",
        "sync is yes, wanted no",
    ]


def test_of_a_client_in_user_space_only_read_only_is_compared():
    (mount,) = table(FUSE_NFS)
    assert mounts.option_differences("vers=4.2,soft,proto=udp,nolock", mount) == []
    assert mounts.option_differences("vers=3,ro", mount) == ["ro is no, wanted yes"]
    (mount,) = table(FUSE_NFS.replace(" rw,nosuid", " ro,nosuid"))
    assert mounts.option_differences("vers=3", mount) == ["ro is yes, wanted no"]


# --- against the kernel ---------------------------------------------------------------------------

PLACES = ("a", "a/b", "a/b/c", "a/d", "e", "e/b", "e/b/c", "a/b c")
MOUNT_AND_LOOK = """
    import json, os, subprocess, sys
    base, steps, places = json.loads(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "base", base], check=True)
    for path in places:
        os.makedirs(os.path.join(base, path), exist_ok=True)
    for kind, source, target in steps:
        source, target = os.path.join(base, source), os.path.join(base, target)
        if not (os.path.isdir(source) and os.path.isdir(target)):
            continue
        if kind == "tmpfs":
            subprocess.run(["mount", "-t", "tmpfs", "new", target], check=True)
            for path in ("b/c", "c", "d"):
                os.makedirs(os.path.join(target, path), exist_ok=True)
        else:
            subprocess.run(["mount", "--" + kind, source, target], check=True)
    seen = {}
    for path in ("", *places):
        path = os.path.join(base, path).rstrip("/")
        if os.path.isdir(path):
            descriptor = os.open(path, os.O_PATH)
            with open(f"/proc/self/fdinfo/{descriptor}") as stream:
                seen[path] = next(int(line.split()[1]) for line in stream if line.startswith("mnt_id"))
            os.close(descriptor)
    with open("/proc/self/mountinfo") as stream:
        print(json.dumps([seen, stream.read()]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(("tmpfs", "bind", "rbind")), st.sampled_from(PLACES), st.sampled_from(PLACES)
        ),
        max_size=6,
    )
)
def test_a_path_lies_on_the_mount_that_the_kernel_says(steps, tmp_path_factory):
    base = str(tmp_path_factory.getbasetemp())
    command = [sys.executable, "-ISc", textwrap.dedent(MOUNT_AND_LOOK), json.dumps([base, steps, PLACES])]
    result = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *command],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    seen, text = json.loads(result.stdout)
    mine = mounts.parse(text)
    assert {path: mounts.covering(mine, path)["id"] for path in seen} == seen


# --- what shows a directory ---------------------------------------------------------------------------------------

DISK = """1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 /srv/vz /vz rw - ext4 /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("3 2 8:3 / /vz/private/101 rw - ext4 /dev/sdc1 rw", True),
        ("3 2 8:3 / /vz/private/101/srv rw - ext4 /dev/sdc1 rw", True),
        ("3 1 8:2 /srv/vz/private/101 /mnt rw - ext4 /dev/sdb1 rw", True),
        ("3 1 8:2 /srv/vz/private/101/etc /mnt rw - ext4 /dev/sdb1 rw", True),
        ("3 1 0:9 / /vz/root/101 rw - simfs /vz/private/101 rw", True),
        ("3 1 8:2 /srv/vz/private/1011 /mnt rw - ext4 /dev/sdb1 rw", False),
        ("3 1 8:2 /srv/vz/private /mnt rw - ext4 /dev/sdb1 rw", False),
        ("3 1 8:1 /srv/vz/private/101 /mnt rw - ext4 /dev/sda1 rw", False),
        ("3 1 0:9 / /vz/root/102 rw - simfs /vz/private/102 rw", False),
        ("3 1 0:50 / /vz/nfsprivate rw - fuse.nfs 10.0.0.1:/pbx rw", False),
    ],
)
def test_what_shows_a_directory(line, shown):
    """H30: nothing is moved or deleted that is mounted somewhere, in whatever namespace."""
    where = mounts.place(mounts.parse(DISK), "/vz/private/101")
    assert where == {
        "device": "8:2",
        "directory": "/srv/vz/private/101",
        "fstype": "ext4",
        "mount_point": False,
    }
    found = mounts.showing(mounts.parse(DISK + line + "\n"), "/vz/private/101", where)
    assert [mount["id"] for mount in found] == [3] * shown


def test_a_mount_point_is_one():
    assert mounts.place(mounts.parse(DISK), "/vz")["mount_point"] is True
    assert mounts.place([], "/vz") is None
