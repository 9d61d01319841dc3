"""The snapshot: what goes in comes out, and an archive that would write outside of its directory is refused."""

import contextlib
import gzip
import io
import tarfile

import pytest
import ringfree_archive as archive
import ringfree_files as files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def test_what_was_packed_is_unpacked(tmp_path):
    folder = tmp_path / "confs"
    folder.mkdir()
    (folder / "101.conf").write_bytes(b'ONBOOT="yes"\r\n\xff')
    (folder / "101.conf").chmod(0o640)
    (folder / "102.conf").symlink_to("101.conf")
    (folder / "103.conf").hardlink_to(folder / "101.conf")
    (folder / "old").mkdir()
    (folder / "old" / "1.conf").write_bytes(b"")
    archive.pack(str(folder), str(tmp_path / "snapshot.tar.gz"))
    there = files.read_folder(str(folder))
    assert there.pop("old") == {"folder": True}
    assert archive.unpack(str(tmp_path / "snapshot.tar.gz")) == there


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["0.conf", "101.conf", "vps.mount", "ve-x.conf-sample"]), st.binary()))
def test_any_content_survives(tmp_path, contents):
    folder = tmp_path / "confs"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    archive.pack(str(folder), str(tmp_path / "snapshot.tar.gz"))
    kept = archive.unpack(str(tmp_path / "snapshot.tar.gz"))
    assert {name: entry["data"] for name, entry in kept.items()} == contents


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/passwd"),
        member("../101.conf"),
        member("a/../../b"),
        member("101.conf", tarfile.SYMTYPE, "/etc/shadow"),
        member("101.conf", tarfile.SYMTYPE, "../vz.conf"),
        member("101.conf", tarfile.LNKTYPE, "/etc/shadow"),
        member("null", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name}->{info.linkname}",
)
def test_h07_a_member_that_leads_out_is_refused_with_the_whole_archive(tmp_path, bad):
    path = tmp_path / "snapshot.tar.gz"
    with tarfile.open(path, "w:gz") as out:
        good = member("100.conf")
        out.addfile(good, io.BytesIO())
        out.addfile(bad)
    with pytest.raises(ValueError, match="is not restored"):
        archive.unpack(str(path))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """An archive of three files, and what is in it."""
    folder = tmp_path_factory.mktemp("confs")
    for ctid in (101, 102, 103):
        (folder / f"{ctid}.conf").write_text(f'VE_PRIVATE="/vz/private/$VEID"\nHOSTNAME="ct{ctid}"\n' * 5)
    path = tmp_path_factory.mktemp("archive") / "snapshot.tar.gz"
    archive.pack(str(folder), str(path))
    return path.read_bytes(), archive.unpack(str(path))


def test_h34_every_cut_is_refused_and_every_flipped_bit_is_refused_or_means_the_same(snapshot, tmp_path):
    """Without a check sum of its own: of the header of gzip, which has none, nothing is read but the format."""
    data, whole = snapshot
    path = tmp_path / "snapshot.tar.gz"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match="is damaged"):
            archive.unpack(str(path))
    accepted = set()
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            assert archive.unpack(str(path)) == whole
            accepted.add(at // 8)
        except ValueError:
            pass
        with pytest.raises(ValueError, match="its SHA-256 is"):
            archive.unpack(str(path), archive.digest(data))
    assert len(accepted) < 40, "the time and the name in the head of gzip, and bits that fill its last byte"


def test_a_tar_without_its_end_is_refused_though_its_gzip_is_whole(snapshot, tmp_path):
    """Python's tarfile takes a damaged header for the end, and the files after it would be missing."""
    data, _ = snapshot
    plain = gzip.decompress(data)
    second = plain.index(b"102.conf")
    path = tmp_path / "snapshot.tar.gz"
    for bad in (
        plain[:second] + b"X" + plain[second + 1 :],
        plain.rstrip(b"\0") + b"\0" * 512,
        plain[: len(plain) // 1024 * 512],
        plain + b"x",
    ):
        path.write_bytes(gzip.compress(bad))
        with pytest.raises(ValueError, match="is damaged"):
            archive.unpack(str(path))
    for more in (b"x", b"\0" * 512, data):
        path.write_bytes(data + more)
        with pytest.raises(ValueError, match="something follows"):
            archive.unpack(str(path))


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), max_size=4), st.binary(max_size=20))
def test_whatever_a_tar_says_it_is_read_or_refused(snapshot, tmp_path_factory, changes, more):
    """Its own check sum is right: what somebody wrote raises nothing but the documented error."""
    plain = bytearray(gzip.decompress(snapshot[0]))
    for at, value in changes:
        plain[at] = value
    for header in range(0, 1024, 512):
        info = plain[header : header + 512]
        info[148:156] = b" " * 8
        plain[header + 148 : header + 156] = b"%06o\0 " % sum(info)
    path = tmp_path_factory.getbasetemp() / "made.tar.gz"
    path.write_bytes(gzip.compress(bytes(plain) + more))
    with contextlib.suppress(ValueError):
        archive.unpack(str(path))


NAMES = st.text(st.characters(exclude_characters="\n\\", exclude_categories=["Cs"]), min_size=1)


@given(st.dictionaries(NAMES.map(lambda name: f"/{name}"), st.binary(), min_size=1))
def test_check_sums_are_written_and_read(files_):
    sums = {path: archive.digest(data) for path, data in files_.items()}
    data = archive.dump_sums(sums)
    assert archive.load_sums(data) == sums


def test_a_damaged_list_of_check_sums_is_refused_or_lacks_files():
    """What is cut at the end of a line lacks the file, which is then refused by whoever asks for it."""
    sums = {f"/{name}": archive.digest(name.encode()) for name in ("a.tar.gz", "vz.conf")}
    data = archive.dump_sums(sums)
    for size in range(len(data)):
        try:
            assert archive.load_sums(data[:size]) == {"/a.tar.gz": sums["/a.tar.gz"]}
        except ValueError:
            pass


def test_h07_a_conf_directory_that_could_not_be_restored_is_not_packed(tmp_path):
    """A link that leads out stops the migration before anything changed; an earlier snapshot stays."""
    folder = tmp_path / "confs"
    folder.mkdir()
    path = tmp_path / "snapshot.tar.gz"
    archive.pack(str(folder), str(path))
    before = path.read_bytes()
    (folder / "101.conf").symlink_to("/srv/confs/101.conf")
    with pytest.raises(ValueError, match=r"101\.conf"):
        archive.pack(str(folder), str(path))
    assert path.read_bytes() == before
