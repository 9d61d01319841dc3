"""ringfree_owner: who may start a container, and the fence that vzctl obeys."""

import subprocess

import pytest
import ringfree_owner as owner
from hypothesis import given
from hypothesis import strategies as st

RECORD = {
    "node": "node001",
    "store": "nfs",
    "since": "2026-02-26T02:10:00Z",
    "generation": "3",
    "copied": "365000000",
}


# --- records --------------------------------------------------------------------------------------


def test_a_first_record():
    assert owner.record("node001", "local", 1772071800) == {
        "node": "node001",
        "store": "local",
        "since": "2026-02-26T02:10:00Z",
        "generation": "1",
        "copied": "0",
    }


def test_a_new_record_counts_on_and_keeps_what_was_copied():
    after = owner.record("node002", "local", 1772071801, before=RECORD)
    assert (after["node"], after["generation"], after["copied"]) == ("node002", "4", "365000000")
    assert owner.record("node001", "nfs", 0, before=RECORD, copied=7)["copied"] == "7"


@given(
    node=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]*", fullmatch=True),
    store=st.sampled_from(("local", "nfs")),
    now=st.integers(0, 2**32),
    copied=st.one_of(st.none(), st.integers(0, 2**63)),
)
def test_a_record_can_be_written_and_read(node, store, now, copied):
    record = owner.record(node, store, now, before=RECORD, copied=copied)
    assert owner.load(owner.dump(record)) == record


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"node=node001\n",
        owner.dump(RECORD).replace(b"node=node001", b"node="),
        owner.dump(RECORD).replace(b"store=nfs", b"store=NFS"),
        owner.dump(RECORD).replace(b"generation=3", b"generation=-3"),
        owner.dump(RECORD).replace(b"generation=3", "generation=²".encode()),
        owner.dump(RECORD).replace(b"copied=365000000", b"copied=some"),
        owner.dump(RECORD)[:60],
        b"\0" * 90,
    ],
)
def test_h12_a_damaged_record_is_no_free_container(data):
    with pytest.raises(ValueError, match="the owner record"):
        owner.load(data)


@given(st.binary(max_size=80))
def test_whatever_is_loaded_can_be_counted_on(data):
    try:
        record = owner.load(owner.dump(RECORD).replace(b"generation=3", b"generation=" + data))
    except ValueError:
        return
    owner.record("node001", "nfs", 0, before=record)


# --- who may copy ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "node", "objection"),
    [
        (None, "node001", None),
        (dict(RECORD, store="local"), "node001", None),
        (dict(RECORD, store="local"), "node002", "belongs to node001 since 2026-02-26T02:10:00Z"),
        (RECORD, "node002", "belongs to node001 since 2026-02-26T02:10:00Z"),
        (
            RECORD,
            "node001",
            "has its live copy on the share since 2026-02-26T02:10:00Z; its local copy is old",
        ),
    ],
)
def test_h02_a_live_copy_on_the_share_is_never_overwritten(record, node, objection):
    assert owner.objection(record, node) == objection


# --- the fence ------------------------------------------------------------------------------------


class Node:
    """The files that the fence looks at, in a directory of the test."""

    def __init__(self, place):
        self.place = place
        self.share = place / "share"
        (self.share / owner.FOLDER).mkdir(parents=True)
        (place / "node").write_text("node001\n")
        (place / "vz.conf").write_text("VE_PRIVATE=/vz/private/$VEID\n")
        (place / "101.conf").write_text(f'ONBOOT="yes"\nVE_PRIVATE="{self.share}/$VEID"\n')

    def conf(self, text):
        (self.place / "101.conf").write_text(text.replace("@SHARE@", str(self.share)))

    def owned(self, **fields):
        (self.share / owner.FOLDER / "101").write_bytes(owner.dump(dict(RECORD, **fields)))

    def mount(self):
        """What the fence says when vzctl mounts container 101: exit code and message."""
        script = owner.fence(str(self.share))
        for path in ("/etc/ringfree/node", "/etc/vz/vz.conf"):
            assert path in script
            script = script.replace(path, str(self.place / path.rpartition("/")[2]))
        result = subprocess.run(
            ["sh", "-c", script, "vps.premount"],
            env={"PATH": "/usr/bin:/bin", "VEID": "101", "VE_CONFFILE": str(self.place / "101.conf")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.stdout == ""
        return result.returncode, result.stderr


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


LOCAL = 'VE_PRIVATE="/vz/private/$VEID"\n'


def test_h12_the_owner_may_mount_its_live_copy(node):
    node.owned()
    assert node.mount() == (0, "")
    node.owned(store="local")
    node.conf(LOCAL)
    assert node.mount() == (0, "")


def test_h12_a_foreign_container_is_not_mounted(node):
    node.owned(node="node002")
    code, message = node.mount()
    assert code == 1
    assert "container 101 belongs to node002, not to node001" in message
    node.conf(LOCAL)
    assert node.mount()[0] == 1


@pytest.mark.parametrize(("conf", "store"), [(LOCAL, "nfs"), ('VE_PRIVATE="@SHARE@/$VEID"\n', "local")])
def test_h02_an_old_copy_is_not_mounted(node, conf, store):
    node.conf(conf)
    node.owned(store=store)
    code, message = node.mount()
    assert code == 1
    assert f"the live copy of container 101 is on {store}" in message


def test_h14_nothing_is_mounted_from_a_share_without_a_record(node):
    """An unmounted share is an empty directory."""
    code, message = node.mount()
    assert code == 1
    assert "is the share mounted?" in message


def test_a_container_that_was_never_moved_starts_as_ever(node):
    node.conf(LOCAL)
    assert node.mount() == (0, "")


@pytest.mark.parametrize(
    "conf",
    [
        "VE_PRIVATE=@SHARE@/$VEID\n",
        'VE_PRIVATE="@SHARE@/$VEID"   \n',
        'VE_PRIVATE="@SHARE@/$VEID"\nVE_PRIVATE="/vz/private/$VEID"\n',
        '#VE_PRIVATE="/vz/private/$VEID"\nVE_PRIVATE="@SHARE@/101"\n',
        'XVE_PRIVATE="/vz/private/$VEID"\nVE_PRIVATE="@SHARE@/101"\n',
    ],
)
def test_the_private_area_is_the_one_that_vzctl_reads(node, conf):
    node.conf(conf)
    node.owned(store="local")
    assert "the live copy of container 101 is on local" in node.mount()[1]
    node.owned()
    assert node.mount()[0] == 0


def test_a_container_without_a_path_of_its_own_is_where_vz_conf_says(node):
    node.conf("ONBOOT=yes\n")
    node.owned(store="local")
    assert node.mount()[0] == 0
    (node.place / "vz.conf").write_text(f"VE_PRIVATE={node.share}/$VEID\n")
    assert node.mount()[0] == 1
    node.owned()
    assert node.mount()[0] == 0


def test_a_node_that_does_not_know_its_name_mounts_nothing(node):
    node.owned()
    (node.place / "node").unlink()
    assert node.mount()[0] != 0


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"store=nfs\n", b"node=node001\n"])
def test_h12_the_fence_refuses_a_damaged_record(node, content):
    (node.share / owner.FOLDER / "101").write_bytes(content)
    assert node.mount()[0] != 0
    node.conf(LOCAL)
    assert node.mount()[0] != 0
