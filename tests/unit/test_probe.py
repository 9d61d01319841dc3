"""ringfree_probe: what a private area uses, what an export can store, and whether the one fits the other."""

import errno
import json
import os
import subprocess

import pytest
import ringfree_probe as probe

GOOD = {**dict.fromkeys(probe.TRIALS, True), "bytes_free": 1, "inodes_free": 1, "inodes_total": 1}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")


# --- the export -----------------------------------------------------------------------------------


@as_root
def test_a_local_file_system_can_store_everything(tmp_path):
    result = subprocess.run(probe.command(str(tmp_path)), capture_output=True, check=True, timeout=60)
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


# --- the way that copies go -------------------------------------------------------------------------


@as_root
def test_samples_have_all_that_containers_files_need(tmp_path):
    probe.samples(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(["plain", *probe.TRIALS])
    assert os.path.islink(tmp_path / "symlink/symlink")


@as_root
def test_what_the_nodes_own_disk_cannot_store_is_not_tried(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "setxattr", refuse)
    probe.samples(str(tmp_path))
    assert {"acl", "xattr", "capability"}.isdisjoint(os.listdir(tmp_path))


SAYS = "rsync: [receiver] "
LABEL = (
    'rsync: [generator] rsync_xal_set: lremovexattr("/pbx/.ringfree/probe-1f/acl","user.a") failed: x (13)'
)


@pytest.mark.parametrize(
    ("line", "ability"),
    [
        (".f.......x probe-1f/plain/plain", "plain"),
        (".d.......x probe-1f/acl/", "plain"),
        (".d.......x probe-1f/", "plain"),
        ("cD+++++++++ probe-1f/device/device", "device"),
        (r">f+++++++++ probe-1f/odd_name/a\#012b\#377", "odd_name"),
        ("hf+++++++++ probe-1f/hard_link/hard_link.2 => probe-1f/hard_link/hard_link", "hard_link"),
        (f'{SAYS}chown "/pbx/.ringfree/probe-1f/owner/.owner.a" failed: Operation not permitted (1)', "owner"),
        (LABEL, "plain"),
        (".d..t...... ./", None),
        ("rsync error: some files/attrs were not transferred (see previous errors) (code 23)", None),
        (">f+++++++++ probe-2e/acl/acl", None),
    ],
)  # fmt: skip
def test_what_rsync_says_is_held_against_what_it_is_about(line, ability):
    assert probe.unlike("probe-1f", [line]) == ({ability: line} if ability else {})


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ('rsync_xal_set: lremovexattr("/a/.b.c","security.selinux") failed: x (13)', "security.selinux"),
        ('rsync_xal_set: fremovexattr("/a","user.DOSATTRIB") failed: x (13)', "user.DOSATTRIB"),
        ('rsync_xal_set: lsetxattr("/a","trusted.x") failed: Operation not supported (95)', "trusted.x"),
        ('chown "/a" failed: Operation not permitted (1)', ""),
        (".f.......x probe-1f/plain/plain", ""),
    ],
)
def test_the_attribute_that_a_san_insists_on_is_read(words, name):
    assert probe.label(f"{SAYS}{words}") == name
