"""ringfree_probe: what a private area uses, what an export can store, and whether the one fits the other."""

import errno
import json
import os
import socket
import stat
import subprocess

import pytest
import ringfree_probe as probe

GOOD = {**dict.fromkeys(probe.TRIALS, True), "bytes_free": 1, "inodes_free": 1, "inodes_total": 1}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")


@pytest.fixture
def tree(tmp_path):
    """A private area with one of each."""
    place = tmp_path / "101"
    (place / "etc").mkdir(parents=True)
    (place / "etc/passwd").write_bytes(b"x" * 10)
    return place


def test_a_plain_tree_needs_nothing_special(tree):
    found = probe.scan(str(tree))
    assert found["inodes"] == 3
    assert found["bytes"] > 0
    assert {use: found[use] for use in probe.NEEDS} == dict.fromkeys(probe.NEEDS, 0)
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
    found = probe.scan(str(tree))
    counts = {use: found[use] for use in probe.NEEDS}
    assert counts == {**dict.fromkeys(probe.NEEDS, 1), "hard_links": 2}
    assert found["inodes"] == 3 + 6 + 1 - 1 + 1 - 1  # the second name of a file is no second file
    assert set(found["examples"]) == set(probe.NEEDS)
    assert found["examples"]["devices"] == str(tree / "null")
    assert "\\xff" in found["examples"]["odd_names"]
    json.dumps(found).encode()


def test_a_hard_linked_file_takes_its_space_once(tree):
    (tree / "big").write_bytes(os.urandom(1 << 16))
    once = probe.scan(str(tree))["bytes"]
    os.link(tree / "big", tree / "big2")
    assert probe.scan(str(tree))["bytes"] == once


@pytest.mark.parametrize("call", ["scandir", "listxattr"])
def test_a_file_that_vanishes_while_the_container_runs_is_no_fault(tree, monkeypatch, call):
    for name in ("a", "b", "c"):
        (tree / name).mkdir()
        (tree / name / "file").write_bytes(b"1")
    original = getattr(os, call)

    def vanish(path, *arguments, **options):
        if os.path.basename(os.fspath(path)) in ("b", "file"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, call, vanish)
    assert probe.scan(str(tree))["inodes"] >= 5


def test_a_file_that_vanishes_between_listing_and_looking_is_no_fault(tree, monkeypatch):
    (tree / "gone").write_bytes(b"1")
    original = os.scandir

    class Listing:
        def __init__(self, path):
            self.path = os.fspath(path)

        def __enter__(self):
            with original(self.path) as entries:
                found = list(entries)
            if os.path.basename(self.path) == "101":
                (tree / "gone").unlink()
            return iter(found)

        def __exit__(self, *_error):
            return None

    monkeypatch.setattr(os, "scandir", Listing)
    assert probe.scan(str(tree))["inodes"] == 3


def test_a_tree_that_is_not_there_is_a_fault(tmp_path):
    with pytest.raises(FileNotFoundError):
        probe.scan(str(tmp_path / "none"))


def test_a_tree_without_attributes_is_scanned(tree, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "listxattr", refuse)
    assert probe.scan(str(tree))["xattr"] == 0


@as_root
def test_what_is_mounted_below_is_not_counted(tree):
    (tree / "proc").mkdir()
    script = 'mount -t tmpfs t "$1/proc" && touch "$1/proc/file" && shift && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(tree)]
    result = subprocess.run(
        [*command, *probe.command("scan", str(tree))],
        capture_output=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},  # the machine's own mount
    )
    assert json.loads(result.stdout)["inodes"] == 3, (result.stdout, result.stderr)


# --- the export -----------------------------------------------------------------------------------


@as_root
def test_a_local_file_system_can_store_everything(tmp_path):
    result = subprocess.run(
        probe.command("probe", str(tmp_path)), capture_output=True, check=True, timeout=60
    )
    found = json.loads(result.stdout)
    assert {ability: found[ability] for ability in probe.TRIALS} == dict.fromkeys(probe.TRIALS, True)
    assert found["bytes_free"] > 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("call", "ability"),
    [
        ("chown", "owner"),
        ("mknod", "device"),
        ("mknod", "socket"),
        ("link", "hard_link"),
        ("setxattr", "xattr"),
    ],
)
def test_what_an_export_refuses_is_told_with_the_reason(tmp_path, monkeypatch, call, ability):
    def refuse(*_arguments, **_options):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, call, refuse)
    found = probe.probe(str(tmp_path))
    assert found[ability] == "EPERM (Operation not permitted)"
    assert found["symlink"] is True
    assert os.listdir(tmp_path) == []


def test_h01_squashed_owners_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "chown", lambda *_arguments: None)
    assert "54321:54322 was stored as" in probe.probe(str(tmp_path))["owner"]


# --- both together --------------------------------------------------------------------------------


def scanned(**counts):
    return {**dict.fromkeys(probe.NEEDS, 0), "inodes": 1, "bytes": 1, "examples": {}, **counts}


def test_h01_what_fits_is_not_lost():
    everything = scanned(**dict.fromkeys(probe.NEEDS, 1))
    assert probe.hold(everything, GOOD) == {"lost": [], "accepted": []}
    assert probe.hold(scanned(), dict(GOOD, acl="ENOTSUP", xattr="ENOTSUP")) == {"lost": [], "accepted": []}


@pytest.mark.parametrize(("use", "ability"), probe.NEEDS.items())
def test_h01_what_the_export_cannot_store_is_lost(use, ability):
    scan = scanned(**{use: 2, "examples": {use: "/vz/private/101/x"}})
    held = probe.hold(scan, dict(GOOD, **{ability: "ENOTSUP (no)"}))
    assert held["accepted"] == []
    (sentence,) = held["lost"]
    assert "2 files, such as /vz/private/101/x" in sentence
    assert "ENOTSUP (no)" in sentence


@pytest.mark.parametrize("ability", probe.ALWAYS)
def test_what_every_container_needs_is_always_asked_for(ability):
    assert len(probe.hold(scanned(), dict(GOOD, **{ability: "EPERM"}))["lost"]) == 1


def test_h01_a_loss_can_be_accepted_and_is_then_still_told():
    bad = dict(GOOD, acl="ENOTSUP", capability="ENOTSUP")
    held = probe.hold(scanned(acl=1, capability=1), bad, accepted=["acl"])
    assert len(held["lost"]) == len(held["accepted"]) == 1
    assert "uses acl" in held["accepted"][0]
    assert "uses capability" in held["lost"][0]


def test_an_ability_that_was_not_tried_counts_as_missing():
    assert len(probe.hold(scanned(fifos=1), dict.fromkeys(probe.ALWAYS, True))["lost"]) == 1
