"""ringfree_boot: what makes vz wait for its store, and the list of containers that wait."""

import subprocess

import pytest
import ringfree_boot as boot
import ringfree_seal as seal
from damage import damages
from hypothesis import given
from hypothesis import strategies as st

MOUNTS = ["/vz/nfsprivate", "/vz/nfsroot", "/etc/sysconfig/vz-scripts"]
LINES = [
    f"10.77.0.21:/x {mount} {kind} rw 0 0\n"
    for mount, kind in zip(MOUNTS, ("nfs", "nfs4", "fuse.nfs"), strict=True)
]


def test_h14_systemd_starts_vz_only_with_all_mounts():
    lines = boot.drop_in(MOUNTS, 4).splitlines()
    assert f"RequiresMountsFor={' '.join(MOUNTS)}" in lines
    assert lines.index("Environment=VE_PARALLEL=4") > lines.index("[Service]") > lines.index("[Unit]")


# --- the init script ------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path):
    """node(mounted, *words) runs the script with such lines in /proc/mounts; node.marks, node.kept are its files."""
    marks, kept, mounts = tmp_path / "vzreboot", tmp_path / "boot-set", tmp_path / "mounts"

    def run(lines, *words):
        mounts.write_text("/dev/sda1 / ext4 rw 0 0\n" + "".join(lines))
        script = boot.init_script(MOUNTS, str(marks), str(kept))
        assert script.count("/proc/mounts") == 1
        script = script.replace("/proc/mounts", str(mounts))
        done = subprocess.run(
            ["sh", "-c", script, "ringfree", *words], timeout=60, stderr=subprocess.PIPE, text=True
        )
        assert (done.returncode, bool(done.stderr)) in ((0, False), (1, True)), done.stderr
        return done.stderr

    run.marks, run.kept = marks, kept
    return run


def mark(node, *ctids):
    node.marks.mkdir(exist_ok=True)
    for ctid in ctids:
        (node.marks / str(ctid)).touch()


@pytest.mark.parametrize("missing", range(3))
def test_h14_without_a_mount_the_list_of_vz_is_kept_and_given_back_at_the_next_boot(node, missing):
    mark(node, 101, 104)
    node([line for number, line in enumerate(LINES) if number != missing], "start")
    assert boot.load_set(seal.unseal(node.kept.read_bytes())) == {"word": "marks", "ctids": [101, 104]}
    # vz starts and forgets them; at another boot without the mount the list stays.
    for path in node.marks.iterdir():
        path.unlink()
    node([], "start")
    assert boot.load_set(seal.unseal(node.kept.read_bytes())) == {"word": "marks", "ctids": [101, 104]}
    node(LINES, "start")
    assert sorted(path.name for path in node.marks.iterdir()) == ["101", "104"]
    assert not node.kept.exists()


def test_with_all_mounts_the_list_stays_where_vz_looks(node):
    mark(node, 101)
    node(LINES, "start")
    assert [path.name for path in node.marks.iterdir()] == ["101"] and not node.kept.exists()


def test_a_node_that_lost_its_power_keeps_an_empty_list(node):
    """Something waits all the same: what says ONBOOT=yes."""
    node([], "start")
    assert boot.load_set(seal.unseal(node.kept.read_bytes())) == {"word": "marks", "ctids": []}


@pytest.mark.parametrize("older", [False, True], ids=["sealed", "of an older version"])
def test_h14_the_list_that_was_written_here_is_given_back(node, older):
    lines = boot.dump_set("todo", [101, 104])
    node.kept.write_bytes(lines if older else seal.seal(lines))
    assert node(LINES, "start") == ""
    assert sorted(path.name for path in node.marks.iterdir()) == ["101", "104"]


def test_h14_a_damaged_list_marks_no_container_and_stays(node):
    data = seal.seal(boot.dump_set("marks", [101, 104]))
    cuts_and_some_flips = [
        *[data[:size] for size in range(0, len(data), 3)],
        *list(damages(data))[len(data) :: 17],
    ]
    older = boot.dump_set("marks", [101, 104])
    for bad in [*cuts_and_some_flips, older[:-1], older[:-3], b"\n" + older, older + older, b"marks 1o1\n"]:
        node.kept.write_bytes(bad)
        assert "recover_set" in node(LINES, "start"), bad
        assert not node.marks.exists()
        assert node.kept.read_bytes() == bad


@pytest.mark.parametrize("words", [(), ("stop",), ("status",)])
def test_the_script_does_nothing_but_at_start(node, words):
    mark(node, 101)
    node([], *words)
    assert not node.kept.exists()


# --- the list -------------------------------------------------------------------------------------


@given(st.sampled_from(boot.WORDS), st.lists(st.integers(1, 2147483644)))
def test_a_list_can_be_written_and_read(word, ctids):
    assert boot.load_set(boot.dump_set(word, ctids)) == {"word": word, "ctids": ctids}


def test_no_list_is_nothing_that_waits():
    assert boot.load_set(None) is None


def test_every_cut_of_a_list_is_damage():
    data = boot.dump_set("todo", [101, 102])
    for size in range(len(data)):
        with pytest.raises(ValueError, match="no list"):
            boot.load_set(data[:size])


@pytest.mark.parametrize(
    "data", [b"", b"101\n", b"marks 10a\n", b"todo -1", b"todo 0", b"\xff", "todo ²".encode()]
)
def test_a_damaged_list_is_said(data):
    with pytest.raises(ValueError, match="no list"):
        boot.load_set(data)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("----i---------e------- /vz/nfsprivate\n", True),
        ("--------------e------- /vz/nfsprivate/i\n", False),
        ("", False),
    ],
)
def test_what_lsattr_says(said, answer):
    assert boot.immutable(said) is answer
