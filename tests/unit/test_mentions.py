"""ringfree_mentions: the paths that a text names, as a person who reads it sees them."""

import pytest
import ringfree_mentions as mentions

PLACES = {("private", 101): "/vz/private/101", ("root", 101): "/vz/root/101"}
PARENTS = {"private": {"/vz/private"}, "root": {"/vz/root"}}


def named(text, **known):
    """The container places that a text names, by line."""
    found = [
        (entry["line"], mentions.place_of(entry["path"], entry["open"], PLACES, PARENTS))
        for entry in mentions.paths(text.encode("utf-8", "surrogateescape"), known)
    ]
    return [entry for entry in found if entry[1]]


@pytest.mark.parametrize(
    "line",
    [
        "mount -n --bind /srv/voicemail /vz/root/101/var/spool/shared",
        "DST=/vz/root/101/var/spool/shared",
        'DST="/vz//root/./101"',
        "cd '/vz/root/101' && ls",
        'cp x "/vz/root/"101/etc',
        "rsync --to=/vz/root/101/",
        "tar -C/vz/root/101 -xf /x.tar",
        "PATH=/bin:/vz/root/101/bin",
        "echo x >/vz/root/101/etc/issue",
        "echo $(ls /vz/root/101)",
        "[ -d /vz/root/101 ] || exit 1",
        "cp x /vz/root/{101,102}/etc",
        "\tmount /vz/root/101.",
        "x='#' ls /vz/root/101",
        "\udcff=/vz/root/101",
        "mount x /vz/root/101 # not /vz/private/101",
    ],
)
def test_a_place_that_is_written_out(line):
    assert named(line) == [(1, ("root", 101))]


@pytest.mark.parametrize(
    "line",
    [
        "mount x /vz/root/$VEID/x",
        "mount x /vz/root/${VEID%x}/y",
        "for each in /vz/root/*; do",
        "ls /vz/root",
        "ls /vz/root/1$REST",
        "ExecStart=/bin/mount x /vz/root/%i/y",
        'f"/vz/root/{ctid}/etc"',
    ],
)
def test_the_directory_of_all_of_them_with_an_open_end(line):
    assert named(line) == [(1, ("root", None))]


@pytest.mark.parametrize(
    "line",
    [
        "# mount x /vz/root/101",
        "; Where=/vz/root/101",
        "ls  # of /vz/root/101",
        "echo mounting /vz/root/101",
        'logger -t vz "no /vz/private/101"',
        "mount x $VE_ROOT/var",
        'mount x "$DISK"/vz/root/101',
        "ls /mnt/vz/root/101 ./vz/root/101 backup/vz/root/101",
        "ls /vz/root2/101 /vz/root/1011 /vz/root/102 /vz/root-nfs /vz/rooted",
        "ls /vz/private/common/x",
        "rsync -a root@other:/vz/private/101/ /srv",
        "rsync -a $OTHER:/vz/private/ /srv",
        "curl http://host/vz/private/101",
        "ls /vz /vz/$X/101",
    ],
)
def test_what_only_looks_like_one(line):
    assert named(line) == []


def test_a_variable_that_the_text_sets_is_put_in():
    text = 'VZ=/vz\nexport ROOT="$VZ/root"\n\nmount x ${ROOT}/101/y\nROOT=`other`\nmount x $ROOT/101/y\n'
    assert named(text) == [(2, ("root", None)), (4, ("root", 101))]


def test_a_default_counts_unless_the_confs_are_read():
    text = "mount x ${VE_ROOT:-/vz/root/101}/y\nROOT=${VE_ROOT-/vz/root/101}\n"
    assert named(text) == [(1, ("root", 101)), (2, ("root", 101))]
    assert named(f'. /etc/vz/vz.conf; . "$VE_CONFFILE"\n{text}') == []


def test_the_container_of_an_action_script_is_known():
    assert named("mount x /vz/root/$VEID/y", VEID="101") == [(1, ("root", 101))]
    assert named("mount x /vz/root/${VEID}/y", VEID="102") == []


def test_lines_that_a_backslash_joins_are_one_command():
    text = b"true\nmount --bind \\\n  /srv/x \\\r\n  /vz/root/101/x\n# of /vz \\\nls /vz/root/101"
    found = mentions.paths(text)
    assert [(entry["line"], entry["path"], entry["last"]) for entry in found] == [
        (3, "/srv/x", False),
        (4, "/vz/root/101/x", True),
        (6, "/vz/root/101", True),
    ]
    assert found[1]["command"] == "mount --bind /srv/x /vz/root/101/x"
