"""ringfree_files: a file is the old or the new one, never something between."""

import errno
import os
import stat

import pytest
import ringfree_files as files


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def listing(tmp_path):
    """The names in the test's directory; nothing temporary may be left there."""
    return lambda: sorted(os.listdir(tmp_path))


def test_a_new_file_has_the_mode_asked_for(tmp_path, listing):
    files.write(str(tmp_path / "new"), b"\xff\0\n", mode=0o640)
    assert (tmp_path / "new").read_bytes() == b"\xff\0\n"
    assert mode(tmp_path / "new") == 0o640
    assert listing() == ["new"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_existing_file_keeps_mode_owner_and_attributes(tmp_path):
    path = tmp_path / "101.conf"
    path.write_bytes(b"old")
    path.chmod(0o604)
    os.chown(path, 54321, 54322)
    os.setxattr(path, "user.ringfree", b"1")
    files.write(str(path), b"new", mode=0o777)
    info = path.stat()
    assert path.read_bytes() == b"new"
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o604, 54321, 54322)
    assert os.getxattr(path, "user.ringfree") == b"1"


def test_a_file_system_without_attributes_will_do(tmp_path, monkeypatch):
    """NFS version 3 has none, and asking for them is an error there."""

    def refuse(path):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path)

    monkeypatch.setattr(os, "listxattr", refuse)
    (tmp_path / "101.conf").write_bytes(b"old")
    files.write(str(tmp_path / "101.conf"), b"new")
    assert (tmp_path / "101.conf").read_bytes() == b"new"


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real/file")
    files.write(str(tmp_path / "link"), b"new")
    assert os.readlink(tmp_path / "link") == "real/file"
    assert (tmp_path / "real" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("call", ["fsync", "rename", "chmod"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, listing, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="no space"):
            files.write(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert listing() == ["file"]


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    order = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(handle):
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_rename(old, new):
        assert os.path.getsize(old) == 3
        order.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    files.write(str(tmp_path / "file"), b"new")
    assert order == ["file", "rename", "folder"]


def test_the_temporary_name_is_none_that_vzlist_takes(tmp_path, monkeypatch):
    seen = []
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda old, new: (seen.append(os.path.basename(old)), rename(old, new)))
    files.write(str(tmp_path / "101.conf"), b"new")
    assert seen[0].startswith(".101.conf.")
    assert not seen[0].endswith(".conf")


def test_read_gives_bytes_or_none(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\n")
    assert files.read(str(tmp_path / "file")) == b"\xff\n"
    assert files.read(str(tmp_path / "none")) is None
    with pytest.raises(OSError, match=f"Is a directory: '{tmp_path}'"):
        files.read(str(tmp_path))
    assert files.read("/proc/self/limits").startswith(b"Limit")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a device"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    """Whoever is root on another node can put anything in the place of a file on a share."""
    path = tmp_path / "101"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, 0o600 | stat.S_IFSOCK)
    elif kind == "device":
        path = "/dev/zero"
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"no regular file|No such device"):
        files.read(str(path))


def test_a_file_is_not_read_beyond_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert files.read(str(tmp_path / "file"), 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        files.read(str(tmp_path / "file"), 4)
    with open(tmp_path / "hole", "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(OSError, match=r"more than \d+ bytes.*hole"):
        files.read(str(tmp_path / "hole"))


def test_a_folder_is_not_read_beyond_the_limit(tmp_path):
    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"12345")
    assert len(files.read_folder(str(tmp_path), 15)) == 3
    with pytest.raises(OSError, match="more than 4 bytes"):
        files.read_folder(str(tmp_path), 14)


def test_a_file_that_becomes_a_link_or_a_pipe_while_it_is_looked_at_is_not_followed(tmp_path, monkeypatch):
    """It was a file a moment ago."""
    path = tmp_path / "101.conf"
    for swap in (lambda: path.symlink_to("/etc/passwd"), lambda: os.mkfifo(path)):
        path.write_bytes(b"1")
        real = os.lstat

        def swapped(name, real=real, swap=swap):
            info = real(name)
            path.unlink()
            swap()
            return info

        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", swapped)
            with pytest.raises(OSError, match=r"no regular file|symbolic links"):
                files.read_folder(str(tmp_path))
        path.unlink()


@pytest.mark.parametrize("call", ["lstat", "open"])
def test_a_file_that_is_gone_since_it_was_listed_is_not_there(tmp_path, monkeypatch, call):
    """H12: other nodes write to the conf share too."""
    for name in ("101.conf", "102.conf"):
        (tmp_path / name).write_bytes(b"1")
    real = getattr(os, call)

    def other_node(path, *arguments):
        if str(path).endswith("101.conf"):
            os.unlink(path)
        return real(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, other_node)
        assert list(files.read_folder(str(tmp_path))) == ["102.conf"]


def test_a_folder_is_read_without_following_links(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    assert files.read_folder(str(tmp_path)) == {
        "dangling": {"link": "nowhere"},
        "file": {"data": b"1", "mode": 0o600, "uid": os.geteuid(), "gid": os.getegid()},
        "sub": {"folder": True},
    }
    assert files.read_folder(str(tmp_path / "none")) == {}


# --- what is nobody else's to read ------------------------------------------------------------------------------------


@pytest.fixture
def loose_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_folder_of_ours_is_closed_with_all_that_is_ours_above_it(tmp_path, loose_umask):
    (tmp_path / "lib").mkdir(mode=0o755)
    files.folder(str(tmp_path / "lib/ringfree/replica/of-primary"))
    assert [mode(tmp_path / place) for place in ("lib", "lib/ringfree", "lib/ringfree/replica")] == [
        0o755,
        0o700,
        0o700,
    ]
    for place in ("lib/ringfree", "lib/ringfree/replica"):
        (tmp_path / place).chmod(0o2755)
    files.folder(str(tmp_path / "lib/ringfree/replica"))
    assert [mode(tmp_path / place) for place in ("lib", "lib/ringfree", "lib/ringfree/replica")] == [
        0o755,
        0o700,
        0o700,
    ]


def test_a_folder_beside_ours_is_closed_and_what_is_above_it_is_left(tmp_path, loose_umask):
    (tmp_path / "vz").mkdir(mode=0o755)
    files.folder(str(tmp_path / "vz/kept"))
    assert [mode(tmp_path / place) for place in ("vz", "vz/kept")] == [0o755, 0o700]


@pytest.mark.parametrize("what", ["link", "file"])
def test_what_is_no_folder_of_ours_is_refused(tmp_path, what):
    (tmp_path / "elsewhere").mkdir()
    if what == "link":
        (tmp_path / "ringfree").symlink_to("elsewhere")
    else:
        (tmp_path / "ringfree").touch()
    with pytest.raises(NotADirectoryError):
        files.folder(str(tmp_path / "ringfree/x"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "ringfree").mkdir()
    os.chown(tmp_path / "ringfree", 65534, 65534)
    with pytest.raises(PermissionError, match="user 65534"):
        files.folder(str(tmp_path / "ringfree"))


def test_what_is_kept_is_closed_also_where_it_was_open(tmp_path, loose_umask):
    path = tmp_path / "ringfree/journal.json"
    files.keep(str(path), b"1")
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    path.chmod(0o664)
    files.keep(str(path), b"2")
    assert (path.read_bytes(), mode(path)) == (b"2", 0o600)


def test_what_is_open_to_others_is_told(tmp_path):
    (tmp_path / "file").touch(0o600)
    (tmp_path / "link").symlink_to("nowhere")
    found = {name: files.loose(str(tmp_path / name)) for name in ("file", "link", "nowhere")}
    assert found == {"file": None, "link": None, "nowhere": None}
    (tmp_path / "file").chmod(0o640)
    assert files.loose(str(tmp_path / "file")) == 0o640
