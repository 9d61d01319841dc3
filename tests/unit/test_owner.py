"""ringfree_owner: who may start a container, and the fence that vzctl obeys."""

import contextlib
import os
import subprocess

import pytest
import ringfree_owner as owner
import ringfree_seal as seal
from damage import damages
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


# --- a node's own list ----------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.integers(1, 2147483644), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]*", fullmatch=True)
    ),
    st.sets(st.integers(1, 2147483644)),
)
def test_the_list_can_be_written_and_read(entries, void):
    data = owner.dump_list(entries, void)
    assert owner.load_list(data) == entries
    assert owner.load_void(data) == sorted(void)


def test_what_can_be_read_of_a_damaged_list_is_read_when_it_is_written_anew():
    assert owner.load_list(None) == {} and owner.load_void(None) == []
    assert owner.load_void(b"101 -\n102 - \n0 -\n103 --\n104 -") == [101, 104]
    assert owner.load_list(b"101 node001\n102\n\xff\n0 node001\n103  node001\n104 node002") == {
        101: "node001",
        104: "node002",
    }


# --- the fence ------------------------------------------------------------------------------------


class Node:
    """The files that the fence looks at, in a directory of the test; several nodes can have one share."""

    def __init__(self, place, name="node001", share=None):
        self.place, self.name = place / name, name
        self.share = share or place / "share"
        self.place.mkdir()
        self.share.mkdir(exist_ok=True)
        (self.place / "node").write_text(f"{name}\n")
        (self.place / "vz.conf").write_text("VE_PRIVATE=/vz/private/$VEID\n")
        self.conf('ONBOOT="yes"\nVE_PRIVATE="@SHARE@/$VEID"\n')
        script = owner.fence(str(self.share))
        for path in ("/etc/ringfree/node", "/etc/ringfree/on-nfs", "/etc/vz/vz.conf"):
            assert script.count(f"={path}\n") == 1
            script = script.replace(path, str(self.place / path.rpartition("/")[2]))
        self.script = script

    def mounted(self):
        """The share is there: it has a directory for owner records."""
        (self.share / owner.FOLDER).mkdir(parents=True, exist_ok=True)
        return self

    def conf(self, text):
        (self.place / "ct.conf").write_text(text.replace("@SHARE@", str(self.share)))

    def owned(self, ctid=101, **fields):
        self.mounted()
        sealed = seal.seal(owner.dump(dict(RECORD, **fields)))
        (self.share / owner.FOLDER / str(ctid)).write_bytes(sealed)

    def owner(self, ctid=101):
        """The record on the share."""
        return owner.load(seal.unseal((self.share / owner.FOLDER / str(ctid)).read_bytes()))

    def list(self, text=None):
        """The node's own list without its check sums, with a text written into it first."""
        path = self.place / "on-nfs"
        if text is not None:
            path.write_text(text)
        return seal.unseal(path.read_bytes(), added=True).decode() if path.exists() else ""

    def begin(self, ctid=101, script="vps.premount"):
        """vzctl begins to mount a container."""
        return subprocess.Popen(
            ["sh", "-c", self.script, script],
            env={"PATH": "/usr/bin:/bin", "VEID": str(ctid), "VE_CONFFILE": str(self.place / "ct.conf")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def mount(self, ctid=101, script="vps.premount"):
        """What the fence says when vzctl mounts a container, or has made it: exit code and message."""
        process = self.begin(ctid, script)
        out, err = process.communicate(timeout=60)
        assert out == ""
        return process.returncode, err


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path).mounted()


LOCAL = 'VE_PRIVATE="/vz/private/$VEID"\n'


def test_h12_the_owner_may_mount_its_live_copy(node):
    node.owned()
    assert node.mount() == (0, "")
    node.list(seal.seal(b"").decode())
    node.owned(store="local")
    node.conf(LOCAL)
    assert node.mount() == (0, "")


def test_h12_a_foreign_container_is_not_mounted(node):
    node.owned(node="node002")
    code, message = node.mount()
    assert code == 1
    assert "container 101 belongs to node002, not to node001" in message
    assert "salt-run ringfree.move_owner 101 to=node001" in message
    node.conf(LOCAL)
    assert node.mount()[0] == 1
    assert node.list() == ""


@pytest.mark.parametrize(("conf", "store"), [(LOCAL, "nfs"), ('VE_PRIVATE="@SHARE@/$VEID"\n', "local")])
def test_h02_an_old_copy_is_not_mounted(node, conf, store):
    node.conf(conf)
    node.owned(store=store)
    code, message = node.mount()
    assert code == 1
    assert f"container 101 has its live copy on {store}" in message


def test_h14_nothing_starts_from_a_share_that_is_not_mounted(tmp_path):
    """An unmounted share is an empty directory; nobody claims anything there."""
    node = Node(tmp_path)
    code, message = node.mount()
    assert code == 1
    assert "is the share mounted?" in message
    assert list(node.share.iterdir()) == [] and node.list() == ""


def test_h05_h14_an_old_local_copy_does_not_start_while_the_share_is_away(tmp_path):
    """The node knows by itself what lives on the share, whatever the conf says."""
    node = Node(tmp_path)
    node.conf(LOCAL)
    assert node.mount() == (0, "")
    node.list("1010 node001\n101 node001\n")
    code, message = node.mount()
    assert code == 1
    assert "does not start from local disk any more" in message
    assert "what is at /vz/private/$VEID moves to the share, or is old" in message
    assert node.mount(10) == (0, "")
    node.list("101 node002\n")
    assert node.mount()[0] == 1


def test_h13_a_share_that_does_not_answer_is_not_waited_for(node, monkeypatch):
    """A pipe without a writer stands for it: whoever reads it hangs."""
    monkeypatch.setattr(owner, "DEADLINE", 1)
    (node.place / "away").mkdir()
    node = Node(node.place / "away")
    node.mounted()
    pipe = node.share / owner.FOLDER / "101"
    os.mkfifo(pipe)
    for conf in (LOCAL, 'VE_PRIVATE="@SHARE@/$VEID"\n'):
        node.conf(conf)
        code, message = node.mount()
        assert code == 1
        assert f"{node.share} does not answer" in message
    # What still hangs there ends with the test.
    with contextlib.suppress(OSError):
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


def test_h02_a_start_that_the_share_holds_up_does_not_slip_past_the_last_copy(node):
    """The fence waits for the share while the migration puts the container into the list: it looks at it again."""
    node.conf(LOCAL)
    pipe = node.share / owner.FOLDER / "101"
    os.mkfifo(pipe)
    process = node.begin()
    with open(pipe, "wb") as stream:  # opens when the fence has begun to read
        node.list("101 node001\n")
        stream.write(owner.dump(dict(RECORD, store="local")))
    assert "does not start from local disk any more" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


def test_a_container_that_was_never_moved_starts_as_ever(node):
    node.conf(LOCAL)
    assert node.mount() == (0, "")
    assert list((node.share / owner.FOLDER).iterdir()) == []


# --- claims ---------------------------------------------------------------------------------------


def test_h12_a_new_container_on_the_share_belongs_to_the_node_that_starts_it_first(tmp_path):
    one = Node(tmp_path).mounted()
    other = Node(tmp_path, "node002")
    assert one.mount(150) == (0, "")
    record = one.owner(150)
    assert (record["node"], record["store"], record["generation"]) == ("node001", "nfs", "1")
    assert "belongs to node001, not to node002" in other.mount(150)[1]
    assert one.mount(150) == (0, "")
    assert one.owner(150) == record
    assert one.list() == "150 node001\n" and other.list() == ""
    assert [path.name for path in (one.share / ".ringfree").iterdir()] == ["owner"]


def test_h12_of_many_nodes_that_start_a_new_container_at_once_exactly_one_wins(tmp_path):
    """The claim is one link(2), which is atomic over NFS too; whoever comes second reads what the first one wrote."""
    nodes = [Node(tmp_path, f"node{number:03}", tmp_path / "share").mounted() for number in range(1, 9)]
    for ctid in range(201, 207):
        started = [node.begin(ctid) for node in nodes]
        said = [process.communicate(timeout=60)[1] for process in started]
        winners = [node for node, process in zip(nodes, started, strict=True) if process.returncode == 0]
        assert [node.name for node in winners] == [nodes[0].owner(ctid)["node"]], said
        assert len([text for text in said if "belongs to" in text]) == len(nodes) - 1, said
    assert [path.name for path in (tmp_path / "share/.ringfree").iterdir()] == ["owner"]
    assert sum(len(node.list().splitlines()) for node in nodes) == 6


def test_a_share_that_takes_no_claim_starts_nothing(node, tmp_path):
    """Here a directory has the name that the new record would get first; on a SAN it is full or read-only."""
    node.script = node.script.replace("claim-$VEID-$me-$$", "taken")
    (node.share / ".ringfree/taken").mkdir()
    code, message = node.mount(150)
    assert code == 1
    assert "could not be claimed for node001" in message


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
    assert "has its live copy on local" in node.mount()[1]
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


@pytest.mark.parametrize("text", ["101 -\n", "101 node001\n101 -\n"])
def test_the_old_local_copy_of_a_destroyed_container_does_not_start(node, text):
    """Also when another one on the share has its id."""
    node.list(text)
    node.conf(LOCAL)
    code, message = node.mount()
    assert code == 1 and "container 101 does not start from local disk any more" in message
    node.conf('VE_PRIVATE="@SHARE@/$VEID"\n')
    assert node.mount() == (0, "")
    assert owner.load_list(node.list().encode()) == {101: "node001"}
    assert owner.load_void(node.list().encode()) == [101]


def test_what_is_made_with_the_id_of_a_container_that_was_destroyed_makes_its_old_copy_void(node):
    """A way back must not bring that one back in its place; what is mounted was not made just now."""
    node.owned()
    node.list("101 node001\n")
    assert node.mount() == (0, "")
    assert owner.load_void(node.list().encode()) == []
    assert node.mount(script="/etc/vz/conf/vps.create") == (0, "")
    assert node.mount(script="/etc/vz/conf/vps.create") == (0, "")
    assert node.list() == "101 node001\n101 -\n"
    node.list(seal.seal(b"").decode())
    assert node.mount(150, script="/etc/vz/conf/vps.create") == (0, "")
    assert node.list() == "150 node001\n"


def test_what_is_made_on_local_disk_is_not_listed(node):
    node.conf(LOCAL)
    assert node.mount(script="/etc/vz/conf/vps.create") == (0, "")
    assert node.list() == ""


def test_what_is_made_and_cannot_be_noted_is_refused(node):
    node.owned()
    (node.place / "on-nfs").mkdir()
    code, message = node.mount(script="/etc/vz/conf/vps.create")
    assert code == 1 and "could not be noted" in message
    assert node.mount()[0] == 0


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_a_node_that_does_not_know_its_name_mounts_nothing(node, text):
    node.owned()
    (node.place / "node").unlink()
    if text is not None:
        (node.place / "node").write_text(text)
    assert node.mount()[0] != 0
    assert node.mount(150)[0] != 0


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"store=nfs\n", b"node=node001\n", b"node=node001"])
def test_h12_the_fence_refuses_a_damaged_record(node, content):
    (node.share / owner.FOLDER / "101").write_bytes(content)
    assert node.mount()[0] != 0
    node.conf(LOCAL)
    assert node.mount()[0] != 0
    assert (node.share / owner.FOLDER / "101").read_bytes() == content


# --- damage -----------------------------------------------------------------------------------------------------------


def test_h12_a_record_that_is_cut_or_has_a_flipped_bit_is_refused():
    data = seal.seal(owner.dump(RECORD))
    assert owner.load(seal.unseal(data)) == RECORD
    for bad in damages(data):
        with pytest.raises(ValueError, match=r"."):
            owner.load(seal.unseal(bad))


def test_h12_a_record_of_the_version_before_is_read_and_no_cut_of_it():
    data = owner.dump(RECORD)
    assert owner.load(seal.unseal(data)) == RECORD
    for size in range(len(data)):
        with pytest.raises(ValueError, match="the owner record is damaged"):
            owner.load(seal.unseal(data[:size]))


def read_list(data):
    """The list as modules read it."""
    lines = seal.unseal(data, added=True)
    if owner.list_fault(lines):
        raise ValueError(owner.list_fault(lines))
    return owner.load_list(lines), owner.load_void(lines)


def test_h05_a_list_that_is_cut_or_has_a_flipped_bit_is_refused():
    """But for no file at all, which is what an older version wrote when nothing was left to list."""
    data = seal.seal(owner.dump_list({101: "node001", 102: "node002"}, [103]))
    assert read_list(data) == ({101: "node001", 102: "node002"}, [103])
    for bad in damages(data):
        if bad:
            with pytest.raises(ValueError, match=r"."):
                read_list(bad)


def test_h05_a_line_that_the_fence_adds_has_a_check_sum(node):
    node.owned()
    node.list(seal.seal(owner.dump_list({102: "node002"}, [])).decode())
    assert node.mount() == (0, "")
    data = (node.place / "on-nfs").read_bytes()
    whole = ({102: "node002", 101: "node001"}, [])
    assert read_list(data) == whole
    sealed = len(seal.seal(owner.dump_list({102: "node002"}, [])))
    for bad in damages(data):
        if len(bad) in (0, sealed):
            continue  # nothing is listed, or the addition is not there: either is what a node can have
        with contextlib.suppress(ValueError):
            assert read_list(bad) == whole


def test_h05_the_list_of_the_version_before_is_read_and_no_cut_within_a_line():
    data = owner.dump_list({101: "node001", 102: "node002"}, [103])
    assert read_list(data + b"104 node001\n") == ({101: "node001", 102: "node002", 104: "node001"}, [103])
    for size in range(len(data)):
        if size and not data[:size].endswith(b"\n"):
            with pytest.raises(ValueError, match=r"cut|none of a list"):
                read_list(data[:size])


PLACES = st.integers(0, 10**6)


@given(PLACES, st.one_of(st.just("cut"), st.integers(0, 7)), st.sampled_from(("101", "list", "added")))
def test_h02_the_fence_and_the_modules_refuse_the_same(tmp_path_factory, at, how, which):
    """What Python refuses the fence refuses; what Python reads has the same meaning for the fence."""
    node = Node(tmp_path_factory.mktemp("node"))
    node.owned(store="local")
    node.conf(LOCAL)
    listed, record = node.place / "on-nfs", node.share / owner.FOLDER / "101"
    listed.write_bytes(seal.seal(owner.dump_list({102: "node001"}, [])))
    if which == "added":
        with listed.open("ab") as stream:
            line = b"103 node001\n"
            stream.write(line + f"# check {seal.check(line)}\n".encode())
    assert node.mount() == (0, "")
    path = record if which == "101" else listed
    data = path.read_bytes()
    if how == "cut":
        bad = data[: at % len(data)]
    else:
        bad = bytearray(data)
        bad[at % len(data)] ^= 1 << how
    path.write_bytes(bad)
    try:
        if which == "101":
            owner.load(seal.unseal(bytes(bad)))
        else:
            read_list(bytes(bad))
    except ValueError:
        code, said = node.mount()
        assert code == 1 and "ringfree_owner.recover" in said
    else:
        assert node.mount() == (0, "")


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data.replace(b"101", b"10q")])
def test_h05_an_old_copy_does_not_start_with_a_damaged_list_and_no_share(tmp_path, damage):
    node = Node(tmp_path)
    node.conf(LOCAL)
    listed = node.place / "on-nfs"
    listed.write_bytes(damage(seal.seal(owner.dump_list({101: "node001"}, []))))
    code, said = node.mount()
    assert code == 1 and "on-nfs is damaged ('salt-call ringfree_owner.recover_list' mends it)" in said
