"""What a migration will have to write on a node is tried before anything stops: each setting, each file."""

import errno

import pytest
from migration_steps import apply, until
from odd_trees import immutable

#: Lines at the end of a file after which nothing can be added that a shell is sure to read.
CODE = {
    "include": "[ -f /etc/vz/vz.local ] && . /etc/vz/vz.local\n",
    "source": "source /etc/vz/vz.local\n",
    "condition": 'if [ "$VEID" = 105 ]; then\n\tVE_X="1"\nfi\n',
    "array": "BRIDGES=(br0 br1)\n",
    "loop": "for each in 1 2; do :; done\n",
    "redirection": "ulimit -c >/dev/null\n",
}


@pytest.fixture
def faults(fleet):
    """`faults()` is what could not be written; 103 is stopped and gets its paths from vz.conf."""

    def look():
        before = fleet.tree()
        modules = fleet.minion().modules
        found = modules["vz.ambiguities"]() + modules["ringfree_writes.faults"]()
        assert fleet.tree() == before
        return found

    return look


def test_nothing_is_in_the_way_on_a_usual_node(faults):
    assert faults() == []


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize(("name", "key"), [("vz.conf", "DISABLED"), ("101", "VE_ROOT"), ("103", "VE_ROOT")])
def test_h11_a_file_to_which_no_setting_can_be_added_is_found_with_its_line(fleet, faults, name, key, code):
    file = fleet.vz_conf if name == "vz.conf" else fleet.conf(name)
    text = file.read_text()
    file.write_text(text + CODE[code])
    (said,) = faults()
    assert said.startswith(
        f"{file}:{text.count(chr(10)) + 1}: from this line on a shell does more than set values"
    )
    assert key in said and 'Put plain KEY="value" lines in its place' in said


def test_h11_what_the_advice_asks_for_lets_the_migration_go_on(fleet, faults):
    before = fleet.vz_conf.read_text()
    fleet.vz_conf.write_text(before + CODE["include"])
    assert faults()
    fleet.vz_conf.write_text(before + 'WHAT_IT_SET="1"\n')
    assert faults() == []
    assert until(fleet, "ringfree_guard.guarded")()["result"] is True


def test_h11_all_that_is_wrong_with_a_file_is_found_at_once(fleet, faults):
    fleet.vz_conf.write_text(fleet.vz_conf.read_text() + 'DISK_QUOTA="no"\n' + CODE["include"])
    twice, include = faults()
    assert "DISK_QUOTA is on more than one line" in twice and "more than set values" in include


def test_code_after_all_that_is_set_is_nobodys_business(fleet, faults):
    """A conf of a container that stays and sets all of its paths is not written."""
    home = fleet.folder
    fleet.conf(103).write_text(
        f'VE_ROOT="{home}/vz/root/103"\nVE_PRIVATE="{home}/vz/private/103"\nDISK_QUOTA="no"\n{CODE["include"]}'
    )
    assert faults() == []


@pytest.mark.parametrize(
    ("text", "line"),
    [('VEID="105"\n', 1), ('NAME="x"\nVEID=0101\n', 2), ("VEID=$(id -u)\n", 1), ('export VEID="105"\n', 1)],
)
@pytest.mark.parametrize("name", ["vz.conf", "101", "103"])
def test_h11_another_container_to_a_shell_is_found(fleet, faults, name, text, line):
    file = fleet.vz_conf if name == "vz.conf" else fleet.conf(name)
    paths = 'VE_ROOT="/vz/root/$VEID"\nVE_PRIVATE="/vz/private/$VEID"\nDISK_QUOTA="no"\n'
    file.write_text(text + paths)
    assert any(said.startswith(f"{file}:{line}: $VEID in a path is ") for said in faults())


def test_the_id_of_the_container_itself_is_harmless(fleet, faults):
    fleet.conf(101).write_text('VEID="101"\nVE_ROOT="/vz/root/$VEID"\n' + fleet.conf(101).read_text())
    fleet.conf(103).write_text("VEID=103\n" + fleet.conf(103).read_text())
    assert faults() == []


def test_all_files_that_nobody_can_replace_are_found_at_once(fleet, faults):
    fstab = fleet.folder / "etc/fstab"
    fstab.touch()
    with immutable(fleet.conf(101)), immutable(fleet.conf(103)), immutable(fleet.vz_conf), immutable(fstab):
        found = faults()
    for path in (fleet.conf(101), fleet.conf(103), fleet.vz_conf, fstab):
        assert (
            f"{path} could not be written: {path} is immutable or append-only: 'chattr -i -a {path}'" in found
        )
    assert len(found) == 4 and faults() == []


def test_a_directory_in_which_nothing_can_be_made_is_one_finding(fleet, faults):
    folder = fleet.folder / "etc/sysconfig/vz-scripts"
    with immutable(folder):
        (said,) = faults()
    assert (
        "101.conf" in said
        and "103.conf" in said
        and "vps.premount" in said
        and f"'chattr -i -a {folder}'" in said
    )


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_a_file_system_that_takes_nothing_is_found(fleet, faults, monkeypatch, code):
    def refuses(folder, size):
        if folder.endswith("vz-scripts"):
            raise OSError(code, "it takes nothing")

    monkeypatch.setitem(fleet.minion().utils, "ringfree_files.try_beside", refuses)
    (said,) = faults()
    assert said.endswith(f"no file can be made in {fleet.folder}/etc/sysconfig/vz-scripts: it takes nothing")


def test_a_file_that_is_mounted_over_cannot_be_replaced(fleet, faults):
    fleet.mount(f"77 1 8:1 /vz.conf {fleet.vz_conf} rw - ext4 /dev/sda1 rw")
    (said,) = faults()
    assert said.startswith(f"{fleet.vz_conf} could not be written: something is mounted on it")


def test_a_directory_in_the_place_of_a_file_is_found_and_keeps_no_other_from_being_found(fleet, faults):
    fleet.conf(103).unlink()
    fleet.conf(103).mkdir()
    with immutable(fleet.conf(101)):
        found = faults()
    assert any(said.startswith(f"{fleet.conf(103)} cannot be read: Is a directory") for said in found)
    assert any(f"{fleet.conf(101)} is immutable" in said for said in found)


def test_a_conf_that_is_a_link_is_tried_where_it_leads(fleet, faults):
    real = fleet.folder / "etc/sysconfig/vz-scripts/real-101"
    fleet.conf(101).rename(real)
    fleet.conf(101).symlink_to("real-101")
    assert faults() == []
    with immutable(real):
        (said,) = faults()
    assert f"'chattr -i -a {real}'" in said


def test_the_file_that_is_tried_takes_room_and_is_gone(fleet, tmp_path):
    fleet.minion().utils["ringfree_files.try_beside"](str(tmp_path), 4096)
    assert list(tmp_path.iterdir()) == []


def test_h11_a_night_never_dies_of_what_preflight_passes(fleet, faults):
    """The other way round: a node without a fault comes to the end of its preparation."""
    fleet.conf(103).write_text("VEID=103\n" + fleet.conf(103).read_text() + 'X="$(hostname)"\n')
    assert faults() == []
    until(fleet, "vz.stopped")
    assert apply(fleet, "vz.stopped")["result"] is True
