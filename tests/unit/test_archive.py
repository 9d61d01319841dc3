"""The snapshot: what goes in comes out, and an archive that would write outside of its directory is refused."""

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


@pytest.mark.parametrize("cut", [0, 1, 20, 60, 100])
def test_a_damaged_archive_is_refused(tmp_path, cut):
    folder = tmp_path / "confs"
    folder.mkdir()
    (folder / "101.conf").write_bytes(bytes(range(256)) * 40)
    path = tmp_path / "snapshot.tar.gz"
    archive.pack(str(folder), str(path))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises((ValueError, OSError)):
        archive.unpack(str(path))


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
