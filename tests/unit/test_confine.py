"""What a confined program sees of the machine: the trees that it works on, itself, and nothing else."""

import ctypes
import json
import os
import stat
import subprocess
import threading

import pytest
import ringfree_confine as confine

EXCHANGE = 2  # renameat2(2)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run("cat", "/tree/file") runs a program confined to a tree, which holds one file; write=True, trees=..."""
    monkeypatch.setattr(confine, "ROOM", str(tmp_path / "room"))
    (tmp_path / "room").mkdir()
    (tmp_path / "tree/folder").mkdir(parents=True)
    (tmp_path / "tree/folder/file").write_text("its own\n")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("the node's own\n")

    def start(*argv, write=False, trees=None, start=subprocess.run, **options):
        trees = trees or {"/tree": {"path": str(tmp_path / "tree"), "write": write}}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return start(confine.command(list(argv), trees), text=True, **options)

    return start


def test_h31_only_the_trees_and_the_program_are_there(run):
    seen = set(run("find", "/", "!", "-type", "d").stdout.split())
    libraries = {path for path in seen if "/lib" in path and ".so" in path}
    assert libraries and seen - libraries == {
        "/bin/find", "/dev/null", "/dev/urandom", "/etc/nsswitch.conf", "/etc/passwd", "/tree/folder/file",
    }  # fmt: skip


@pytest.mark.parametrize(
    "link", ["{secret}", "../../secret", "/proc/1/root{secret}", "/tree/../../..{secret}"]
)
def test_h31_a_link_leads_nowhere_else(run, tmp_path, link):
    (tmp_path / "tree/link").symlink_to(link.format(secret=tmp_path / "secret"))
    asked = run("cat", "/tree/link/file")
    assert asked.returncode == 1 and asked.stdout == ""
    assert "No such file" in asked.stderr


def test_h32_a_swap_at_any_moment_leads_nowhere_else(run, tmp_path):
    (tmp_path / "tree/link").symlink_to(tmp_path / "secret")
    done, libc = threading.Event(), ctypes.CDLL(None)
    names = [os.fsencode(tmp_path / "tree" / name) for name in ("folder", "link")]

    def swap():
        while not done.is_set():
            libc.renameat2(-100, names[0], -100, names[1], EXCHANGE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        read = "".join(run("grep", "-Rsh", "own", "/tree").stdout for _ in range(20))
    finally:
        done.set()
        swapper.join()
    assert "its own" in read and "the node's own" not in read


def test_h32_a_device_in_a_tree_is_not_one_of_the_machine(run, tmp_path):
    """It can be made and copied; a file that is swapped with it cannot become the machine's disk."""
    os.mknod(tmp_path / "tree/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    assert "Permission denied" in run("cat", "/tree/null").stderr
    trees = {"/tree": {"path": str(tmp_path / "tree"), "write": True}}
    assert run("mknod", "/tree/zero", "c", "1", "5", trees=trees).returncode == 0


def test_h31_a_tree_that_is_named_in_a_folder_is_no_link(run, tmp_path):
    """Somebody over NFS could make one in its place."""
    trees = {"/tree": {"path": str(tmp_path / "tree"), "name": "folder", "write": False}}
    assert run("cat", "/tree/file", trees=trees).stdout == "its own\n"
    (tmp_path / "tree/link").symlink_to(tmp_path / "secret")
    trees["/tree"]["name"] = "link"
    refused = run("cat", "/tree/file", trees=trees)
    assert refused.returncode == confine.EXIT_CODE and refused.stdout == ""


def test_a_tree_is_written_only_where_that_is_wanted(run, tmp_path):
    (tmp_path / "kept").mkdir()
    trees = {
        "/tree": {"path": str(tmp_path / "tree"), "write": False},
        "/kept": {"path": str(tmp_path / "kept"), "write": True},
    }
    assert run("touch", "/kept/file", trees=trees).returncode == 0
    assert (tmp_path / "kept/file").exists()
    for path in ("/tree/file", "/tree/folder/file", "/file", "/bin/true", "/etc/passwd"):
        refused = run("touch", path, trees=trees)
        assert refused.returncode == 1 and "Read-only file system" in refused.stderr, path


def test_it_holds_no_mount_and_no_open_file_of_the_machine(run):
    child = run("cat", start=subprocess.Popen, stdin=subprocess.PIPE)
    try:
        child.stdin.write("it runs\n")
        child.stdin.flush()
        assert child.stdout.readline() == "it runs\n"
        with open(f"/proc/{child.pid}/mountinfo", encoding="utf-8") as stream:
            points = {line.split()[4] for line in stream}
        assert {"/", "/tree", "/bin/cat"} <= points
        assert not points.intersection(("/proc", "/sys", "/dev", "/run", "/tmp", "/old"))
        assert sorted(os.listdir(f"/proc/{child.pid}/fd")) == ["0", "1", "2"]
        assert os.readlink(f"/proc/{child.pid}/cwd") == "/"
    finally:
        child.communicate(timeout=60)


def test_nothing_of_it_is_left_on_the_machine(run, tmp_path):
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        before = stream.read()
    assert run("true").returncode == 0
    with open("/proc/self/mountinfo", encoding="utf-8") as stream:
        assert stream.read() == before
    assert not list((tmp_path / "room").iterdir())


@pytest.mark.parametrize(
    ("argv", "path", "why"),
    [
        (["no-such-program"], "tree", "no-such-program is not installed"),
        (["cat", "/tree/folder/file"], "not-there", "No such file or directory"),
        (["cat", "/tree/folder/file"], "tree/folder/file", "Not a directory"),
    ],
)
def test_what_cannot_be_confined_is_not_started(run, tmp_path, argv, path, why):
    refused = run(*argv, trees={"/tree": {"path": str(tmp_path / path), "write": False}})
    assert refused.returncode == confine.EXIT_CODE and refused.stdout == ""
    assert (
        f"{argv[0]} was not started, as it cannot be confined: " in refused.stderr and why in refused.stderr
    )


def test_a_script_in_the_place_of_a_program_is_passed_over(run, tmp_path, monkeypatch):
    """It would need a shell, of which there is none."""
    script = tmp_path / "bin/cat"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho from the script\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    assert run("cat", "/tree/folder/file").stdout == "its own\n"
    monkeypatch.setenv("PATH", str(script.parent))
    refused = run("cat", "/tree/folder/file")
    assert (
        refused.returncode == confine.EXIT_CODE
        and "cat is not installed, or only as a script" in refused.stderr
    )


def test_a_connection_is_a_socket_of_the_machine(tmp_path):
    words = confine.command(["rsync"], {}, "/run/ringfree/ssh-10.77.0.21")
    assert json.loads(words[words.index("--") - 1])["connection"] == "/run/ringfree/ssh-10.77.0.21"
    assert confine.connection() == "/connection"
