"""ringfree_tree: whatever root of a container makes of its tree, or does to it meanwhile, nothing else is touched."""

import contextlib
import errno
import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time

import pytest
import ringfree_probe as probe
import ringfree_tree as tree_of
from odd_trees import immutable, make_deep

USES = tree_of.USES
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="devices, owners and flags need root")


@pytest.fixture
def tree(tmp_path):
    """A private area with one of each."""
    place = tmp_path / "101"
    (place / "etc").mkdir(parents=True)
    (place / "etc/passwd").write_bytes(b"x" * 10)
    return place


def test_a_plain_tree_needs_nothing_special(tree):
    found = tree_of.scan(str(tree))
    assert found["inodes"] == 3
    assert found["bytes"] > 0
    assert {use: found[use] for use in USES} == dict.fromkeys(USES, 0)
    assert found["examples"] == {}


@as_root
def test_h01_everything_out_of_the_ordinary_is_counted(tree):
    os.link(tree / "etc/passwd", tree / "etc/passwd-")
    (tree / "log").write_bytes(b"")
    os.truncate(tree / "log", 1 << 20)
    os.mknod(tree / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
    (tree / "su").write_bytes(b"")
    os.chmod(tree / "su", 0o4755)
    os.setxattr(tree / "su", "user.note", b"1")
    os.setxattr(tree / "su", "security.capability", probe.MAGIC_CAPABILITY)
    os.setxattr(tree / "log", "system.posix_acl_access", probe.MAGIC_ACL)
    os.close(os.open(os.fsencode(tree) + b"/odd\xff", os.O_CREAT))
    found = tree_of.scan(str(tree))
    counts = {use: found[use] for use in USES}
    assert counts == {**dict.fromkeys(USES, 1), "hard_links": 2, "immutable": 0, "long_paths": 0}
    assert found["inodes"] == 3 + 6 + 1 - 1 + 1 - 1  # the second name of a file is no second file
    assert set(found["examples"]) == set(USES) - {"immutable", "long_paths"}
    assert found["examples"]["devices"] == str(tree / "null")
    assert "\\xff" in found["examples"]["odd_names"]
    json.dumps(found).encode()


def test_a_hard_linked_file_takes_its_space_once(tree):
    (tree / "big").write_bytes(os.urandom(1 << 16))
    once = tree_of.scan(str(tree))["bytes"]
    os.link(tree / "big", tree / "big2")
    assert tree_of.scan(str(tree))["bytes"] == once


def test_a_tree_that_is_not_there_is_a_fault(tmp_path):
    with pytest.raises(FileNotFoundError):
        tree_of.scan(str(tmp_path / "none"))


def test_a_tree_without_attributes_is_scanned(tree, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "listxattr", refuse)
    assert tree_of.scan(str(tree))["xattr"] == 0


@as_root
def test_what_is_mounted_below_is_not_counted(tree):
    (tree / "proc").mkdir()
    script = 'mount -t tmpfs t "$1/proc" && touch "$1/proc/file" && shift && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(tree)]
    result = subprocess.run(
        [*command, *tree_of.command("scan", str(tree))],
        capture_output=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},  # the machine's own mount
    )
    assert json.loads(result.stdout)["inodes"] == 3, (result.stdout, result.stderr)


@pytest.fixture
def dated(tmp_path):
    """A dated folder with an area, beside something that must stay."""
    area = tmp_path / "dated/101"
    (area / "etc/deep/deeper").mkdir(parents=True)
    (area / "etc/file").write_bytes(b"x" * 9000)
    os.link(area / "etc/file", area / "etc/again")
    os.mkfifo(area / "fifo")
    (tmp_path / "outside/data").mkdir(parents=True)
    (tmp_path / "outside/data/file").touch()
    (area / "link").symlink_to(tmp_path / "outside")
    (area / "etc/link").symlink_to(tmp_path / "outside/data/file")
    (area / "etc/dangling").symlink_to("/nowhere")
    return tmp_path


def remove(dated, name="101", inode=None):
    above = tree_of.open_folder(str(dated / "dated"))
    try:
        tree_of.remove(above, name, inode or os.lstat(dated / "dated" / name).st_ino)
    finally:
        os.close(above)


def test_an_area_is_deleted_and_nothing_that_its_links_lead_to(dated):
    remove(dated)
    assert os.listdir(dated / "dated") == []
    assert (dated / "outside/data/file").exists()


def test_another_directory_of_that_name_is_not_deleted(dated):
    with pytest.raises(OSError, match="not the directory"):
        remove(dated, inode=os.lstat(dated / "dated/101").st_ino + 1)
    assert (dated / "dated/101/etc/file").exists()


def test_a_link_in_its_place_is_not_followed(dated):
    os.rename(dated / "dated/101", dated / "away")
    (dated / "dated/101").symlink_to(dated / "away")
    with pytest.raises(OSError, match="not the directory"):
        remove(dated)
    assert (dated / "away/etc/file").exists()


def test_no_part_of_a_path_may_be_a_link(dated):
    (dated / "short").symlink_to(dated / "dated")
    with pytest.raises(OSError):
        tree_of.open_folder(str(dated / "short/101"))
    with pytest.raises(OSError):
        tree_of.open_folder(str(dated / "dated/101/link"))
    with pytest.raises(FileNotFoundError):
        tree_of.open_folder(str(dated / "nowhere"))
    before = len(os.listdir("/proc/self/fd"))
    os.close(tree_of.open_folder(str(dated / "dated/101")))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_an_area_holds(dated):
    handle = tree_of.open_folder(str(dated / "dated/101"))
    found = tree_of.measure(handle)
    while (
        os.lstat(dated / "dated/101/etc/file").st_ctime <= found["newest"]
    ):  # the kernel's clock ticks every few ms
        os.utime(dated / "dated/101/etc/file", (1, 1))
    later = tree_of.measure(handle)
    os.close(handle)
    assert found["files"] == 9
    assert 9000 <= found["bytes"] < 60000, "what has two names counts once"
    assert later["newest"] > found["newest"] and later["newest_name"] in ("etc/file", "etc/again"), (
        "a time that was set back does not hide a change"
    )


# --- what a customer's root can make of it ----------------------------------------------------------------------------


@pytest.fixture
def few_descriptors():
    """So few that a walk cannot hold one for each level."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("depth", "name"), [(1200, "d"), (5000, "a long name, times 5000"), (30, "\udcff\n")]
)
def test_h43_a_tree_is_never_too_deep(dated, few_descriptors, depth, name):
    """os.fwalk recursed, and held a descriptor for each level."""
    area = dated / "dated/101"
    make_deep(area, depth, name)
    handle = tree_of.open_folder(str(area))
    assert tree_of.measure(handle)["files"] == 9 + depth
    os.close(handle)
    found = tree_of.scan(str(area))
    assert found["inodes"] == 9 + depth
    assert bool(found["long_paths"]) is (depth == 5000)
    assert json.dumps(found).encode()
    remove(dated)
    assert os.listdir(dated / "dated") == []


def test_h43_paths_that_are_too_long_to_be_copied_are_counted(tree):
    """The longest one that still can be copied, and one that is a byte longer."""
    name = "n" * 239
    make_deep(tree, 16, name)  # 16 * 240 - 1
    assert tree_of.LONGEST == 3840
    found = tree_of.scan(str(tree))
    assert found["long_paths"] == 0
    inner = os.path.join(*[name] * 15)
    os.mkdir(tree / inner / (name + "n"))
    os.mkdir(tree / inner / (name + "nn"))
    found = tree_of.scan(str(tree))
    assert found["long_paths"] == 1
    assert found["examples"]["long_paths"].endswith("\N{HORIZONTAL ELLIPSIS}")
    (said,) = tree_of.obstacles(found)
    assert "longer than 3840 bytes" in said


@as_root
@pytest.mark.parametrize("flag", ["+i", "+a"])
@pytest.mark.parametrize("name", ["etc", "etc/passwd"])
def test_h43_what_nobody_can_replace_is_counted(tree, flag, name):
    os.symlink("etc", tree / "link")
    done = subprocess.run(["chattr", flag, tree / name], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no flags on this file system: {done.stderr!r}")
    try:
        found = tree_of.scan(str(tree))
    finally:
        subprocess.run(["chattr", "-i", "-a", tree / name], check=True)
    assert (found["immutable"], found["examples"]["immutable"]) == (1, str(tree / name))
    (said,) = tree_of.obstacles(found)
    assert f"such as {tree / name}" in said and "chattr -i -a" in said
    assert tree_of.obstacles(tree_of.scan(str(tree))) == []


def test_a_private_area_behind_a_link_is_counted(tree, tmp_path):
    """The device of the link is no device of what it leads to."""
    (tmp_path / "short").symlink_to(tree)
    assert tree_of.scan(str(tmp_path / "short"))["inodes"] == tree_of.scan(str(tree))["inodes"] == 3


class Swapped:
    """Does something to the tree once, right after a directory was listed: os.scandir of that moment."""

    def __init__(self, monkeypatch, when, act):
        self.original, self.when, self.act, self.done = os.scandir, when, act, False
        monkeypatch.setattr(os, "scandir", self.scandir)

    def scandir(self, handle):
        listed = self.original(handle)
        if not self.done and self.when in os.listdir(handle):
            self.done = True
            with listed:
                entries = [entry for entry in listed if entry.stat(follow_symlinks=False)]
            self.act()
            return contextlib.nullcontext(iter(entries))
        return listed


@pytest.fixture
def outside(tmp_path):
    """What is not the container's: a folder with a secret and a long way down."""
    place = tmp_path / "secrets"
    (place / "sub").mkdir(parents=True)
    (place / "key").write_bytes(b"k" * 5000)
    (place / "sub/key").write_bytes(b"k" * 5000)
    return place


@pytest.fixture
def living(tmp_path):
    """A private area with a few folders in each other."""
    place = tmp_path / "private/101"
    (place / "a/b/c/d").mkdir(parents=True)
    (place / "a/b/c/d/file").touch()
    (place / "z").mkdir()
    (place / "z/file").touch()
    return place


@pytest.mark.parametrize("way", ["link", "other folder", "gone", "file"])
def test_h32_a_directory_that_is_swapped_is_left_out(living, outside, monkeypatch, way):
    def swap():
        os.rename(living / "a/b", living / "z/aside")
        if way == "link":
            (living / "a/b").symlink_to(outside)
        elif way == "other folder":
            shutil.copytree(outside, living / "a/b")
        elif way == "file":
            (living / "a/b").touch()

    seen = []
    swapped = Swapped(monkeypatch, "b", swap)
    handle = os.open(living, os.O_RDONLY)
    walk = tree_of.Walk(handle)
    seen = [walk.path(name) for name, _ in walk]
    os.close(handle)
    assert swapped.done
    assert not [path for path in seen if path.endswith("key")]
    assert "z/file" in seen
    assert walk.length == -1


@pytest.mark.parametrize("after", [False, True])
def test_h32_a_walk_goes_on_where_it_was_when_its_directory_is_moved(living, outside, monkeypatch, after):
    """`..` leads elsewhere then, even out of the tree where somebody outside moves it: nobody goes there."""
    (living / "a/other").mkdir()
    (living / "a/other/file").touch()
    swapped = Swapped(monkeypatch, "file", lambda: os.rename(living / "a/b/c", outside / "sub/c"))
    # Whichever of a and z comes first: the move happens in d, below a.
    (living / "z/file").unlink()
    (living / "a/other/file").rename(living / "a/other/x")
    handle = os.open(living, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    walk = tree_of.Walk(handle, after=after)
    seen = sorted(walk.path(name) for name, _ in walk)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(handle)
    assert swapped.done
    assert not [path for path in seen if "key" in path]
    assert {"a/other", "a/other/x", "z"} <= set(seen)
    assert walk.length == -1


@pytest.mark.parametrize("way", ["link", "moved"])
def test_h32_a_deletion_of_a_tree_that_is_swapped_meanwhile_leaves_what_is_not_its_own(
    dated, outside, monkeypatch, way
):
    area = dated / "dated/101"

    def swap():
        os.rename(area / "etc/deep", outside / "was deep")
        if way == "link":
            (area / "etc/deep").symlink_to(outside)

    kept = sorted(os.fspath(path.relative_to(outside)) for path in outside.rglob("*"))
    Swapped(monkeypatch, "deep" if way == "link" else "deeper", swap)
    try:
        remove(dated)
    except OSError:
        remove(dated)  # a second try goes on
    now = {os.fspath(path.relative_to(outside)) for path in outside.rglob("*")}
    assert set(kept) <= now
    assert os.listdir(dated / "dated") == []


def test_h32_a_live_tree_that_is_swapped_all_the_time_is_only_ever_itself(living, outside):
    """A race in earnest: thousands of swaps while walks go through."""
    for number in range(40):
        (living / f"a/{number}").mkdir()
        (living / f"a/{number}/file").touch()
    script = (
        "import os, sys; top, out = sys.argv[1:]; os.chdir(top + '/a')\n"
        "while True:\n"
        "  for n in range(40):\n"
        "    os.rename(str(n), 'x'); os.symlink(out, str(n)); os.unlink(str(n)); os.rename('x', str(n))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, living, outside]) as swapper:
        try:
            for _ in range(300):
                handle = os.open(living, os.O_RDONLY)
                assert not [name for name, _ in tree_of.Walk(handle) if "key" in name]
                os.close(handle)
                assert swapper.poll() is None
        finally:
            swapper.kill()


@as_root
def test_what_could_not_be_deleted_is_named_with_its_path(dated):
    file = dated / "dated/101/etc/deep/resolv.conf"
    file.touch()
    with immutable(file), pytest.raises(OSError, match=r"101/etc/deep/resolv\.conf"):
        remove(dated)
    remove(dated)
    assert os.listdir(dated / "dated") == []


def test_a_folder_of_many_files_is_deleted_at_once(dated):
    for number in range(5000):
        (dated / "dated/101/etc" / f"{number:04}").touch()
    remove(dated)
    assert os.listdir(dated / "dated") == []


def test_a_name_is_looked_for_in_the_tree_only(living, outside):
    (living / "usr").symlink_to(outside)
    (living / "a/key").symlink_to("/nowhere")
    assert tree_of.holds(str(living), "a/b/c")
    assert tree_of.holds(str(living), "a/key")
    assert not tree_of.holds(str(living), "usr/key")
    assert not tree_of.holds(str(living), "a/none")
    assert not tree_of.holds(str(living / "none"), "a")


def test_h32_what_changes_in_a_tree_at_rest_is_seen_by_its_ctime(living):
    """Also a file that got its old time back, and one that came, and one that went."""
    file = living / "a/b/c/d/file"
    for change in (
        lambda: (file.write_bytes(b"x"), os.utime(file, (1, 1))),
        lambda: (living / "a/b/new").touch(),
        lambda: (living / "a/b/new").unlink(),
        lambda: (living / "new").touch(),
        lambda: os.link(file, living / "z/again"),
    ):
        wait_for_the_clock(living)
        began = time.time()
        assert tree_of.changed_since(str(living), began) == {"changed": 0, "example": ""}
        wait_for_the_clock(living.parent)
        change()
        found = tree_of.changed_since(str(living), began)
        assert found["changed"] and found["example"].startswith(str(living))


def wait_for_the_clock(place):
    """The kernel's clock ticks every few ms: until what is written from now on has a later time."""
    now, file = time.time(), place.parent / "tick"
    file.touch()
    while file.stat().st_ctime <= now:
        os.utime(file)
    file.unlink()


def test_the_script_says_what_is_wrong(tmp_path):
    argv = tree_of.command("scan", tmp_path / "none")
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"No such file or directory: {tmp_path / 'none'}\n".encode()


def test_a_folder_of_ours_goes_with_whatever_was_brought_into_it(tmp_path):
    (tmp_path / "of-primary").mkdir()
    make_deep(tmp_path / "of-primary", 1100)
    (tmp_path / "of-primary/link").symlink_to("/nowhere")
    try:
        tree_of.clear(str(tmp_path / "of-primary"))
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "of-primary"], check=True)  # pytest could not
    tree_of.clear(str(tmp_path / "of-primary"))
    tree_of.clear(str(tmp_path / "nowhere/of-primary"))
