"""ringfree_areas: what the mount table says of private areas, before anything is copied."""

import pytest
import ringfree_areas as areas
import ringfree_mounts as mounts

TABLE = """\
22 1 254:0 / / rw - ext4 /dev/vda rw
40 22 8:2 / /vz rw - ext4 /dev/sdb1 rw
60 40 8:2 /private/101 /vz/root/101 rw - ext4 /dev/sdb1 rw
61 40 0:33 / /vz/root/102 rw - simfs /vz/private/102 rw
"""


def area(table, ctid, moves=True, private=None):
    """As preflight makes it."""
    private, root = private or f"/vz/private/{ctid}", f"/vz/root/{ctid}"
    place = mounts.place(table, private)
    return {
        "ctid": ctid,
        "private": private,
        "root": root,
        "moves": moves,
        "place": place,
        "in_area": mounts.below(table, private),
        "in_root": mounts.below(table, root),
        "shown": mounts.showing(table, private, place),
    }


def said(*lines, scripts=(), moves=(101, 102)):
    """What is said of two containers on a node with more lines in its table."""
    table = mounts.parse(TABLE + "".join(f"{line}\n" for line in lines))
    return areas.faults([area(table, ctid, ctid in moves) for ctid in (101, 102)], scripts)


def test_a_node_as_vzctl_leaves_it_has_nothing_to_say():
    assert said() == []


@pytest.mark.parametrize(
    "line, what, where",
    [
        ("70 40 254:0 /srv/x /vz/private/102/var/x rw - ext4 /dev/vda rw", "/srv/x of /dev/vda (ext4)", "var/x"),
        ("70 40 8:2 /srv/x /vz/private/102/var/x rw - ext4 /dev/sdb1 rw", "/srv/x of /dev/sdb1", "var/x"),
        ("70 40 0:50 / /vz/private/102/tmp rw - tmpfs none rw", "none (tmpfs)", "tmp"),
        ("70 40 253:4 / /vz/private/102/home rw - xfs /dev/mapper/vg-home rw", "/dev/mapper/vg-home (xfs)", "home"),
        ("70 40 0:51 / /vz/private/102/net rw - autofs systemd-1 rw,fd=30", "an automount (systemd-1)", "net"),
        ("70 40 8:2 /file /vz/private/102/etc/hosts rw - ext4 /dev/sdb1 rw", "/file of /dev/sdb1", "etc/hosts"),
        (r"70 40 0:50 / /vz/private/102/a\040b rw - tmpfs none rw", "none (tmpfs)", "a b"),
    ],
)  # fmt: skip
def test_h38_what_is_mounted_in_a_private_area_is_named(line, what, where):
    (sentence,) = said(line)
    assert sentence.startswith(f"container 102 has {what}")
    assert f"mounted on /vz/private/102/{where}, in its private area" in sentence
    assert f"'umount /vz/private/102/{where}'" in sentence


def test_h38_each_of_several_mounts_is_named():
    under = "71 70 0:51 / /vz/private/102/tmp/x rw - tmpfs none rw"
    found = said("70 40 0:50 / /vz/private/102/tmp rw - tmpfs none rw", under)
    assert [sentence.split(" mounted on ")[1].split(",")[0] for sentence in found] == [
        "/vz/private/102/tmp",
        "/vz/private/102/tmp/x",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "70 40 8:7 / /vz/private/102 rw - ext4 /dev/sdc1 rw",  # a private area that is a file system of its own
        "70 40 8:7 / /vz/private rw - ext4 /dev/sdc1 rw",  # so is where they all are
        "70 40 0:50 / /vz/private/1020/tmp rw - tmpfs none rw",  # of no container here
        "70 22 0:50 / /vz/private/102/tmp rw - tmpfs none rw",  # hidden by /vz, which came later
        "70 22 8:2 / /mnt/vz rw - ext4 /dev/sdb1 rw",  # the whole disk once more
        "70 61 0:50 / /vz/root/102/proc rw - proc proc rw",  # what each container has
        "70 61 0:50 / /vz/root/102/dev/shm rw - tmpfs none rw",
    ],
)
def test_h38_a_mount_that_does_no_harm_is_not(line):
    assert said(line) == []


def test_h38_what_is_mounted_in_the_area_of_one_that_stays_stops_nobody():
    assert said("70 40 0:50 / /vz/private/102/tmp rw - tmpfs none rw", moves=[101]) == []


BY_HAND = "70 61 254:0 /srv/mail /vz/root/102/var/mail rw - ext4 /dev/vda rw"


def test_h38_what_somebody_mounted_by_hand_in_a_root_would_be_missing_afterwards():
    (sentence,) = said(BY_HAND, scripts=["101.mount", "102.conf"])
    assert "container 102 has /srv/mail of /dev/vda (ext4) mounted on /vz/root/102/var/mail" in sentence
    assert "Let 102.mount mount it below $VE_ROOT" in sentence


@pytest.mark.parametrize("script", ["102.mount", "102.start", "vps.mount", "vps.start"])
def test_what_an_action_script_may_have_mounted_comes_again(script):
    assert said(BY_HAND, scripts=[script]) == []


@pytest.mark.parametrize(
    "line, what",
    [
        ("70 22 8:2 /private/102/var/www /srv/www rw - ext4 /dev/sdb1 rw", "/private/102/var/www of /dev/sdb1"),
        ("70 60 8:2 /private/102/srv /vz/root/101/srv rw - ext4 /dev/sdb1 rw", "/private/102/srv of /dev/sdb1"),
        ("70 22 8:2 /private/102 /backup/102 ro - ext4 /dev/sdb1 rw", "/private/102 of /dev/sdb1"),
        ("70 22 0:34 / /vz/root/9102 rw - simfs /vz/private/102 rw", "/vz/private/102 (simfs)"),
    ],
)  # fmt: skip
def test_h38_who_sees_a_private_area_elsewhere_would_go_on_with_the_old_copy(line, what):
    point = line.split()[4]
    (sentence,) = [text for text in said(line, scripts=["vps.mount"]) if text.startswith("container 102")]
    assert f"container 102 is seen on {point} as well, where {what}" in sentence


def test_a_private_area_that_is_mounted_from_elsewhere_is_seen_in_its_own_place_only():
    """What counts is where a directory is within its file system, not what it is called."""
    bound = "70 40 254:0 /data/102 /vz/private/102 rw - ext4 /dev/vda rw"
    assert said(bound) == []
    assert "is seen on /srv" in said(bound, "71 22 254:0 /data/102/www /srv rw - ext4 /dev/vda rw")[0]


# --- two containers, one area ---------------------------------------------------------------------


def pair(first, second, *lines, moves=(101, 102)):
    table = mounts.parse(TABLE + "".join(f"{line}\n" for line in lines))
    found = [area(table, ctid, ctid in moves, private) for ctid, private in ((101, first), (102, second))]
    return [text for text in areas.faults(found, ["vps.mount"]) if "is seen on" not in text]


def test_two_containers_with_one_private_area_are_named():
    (sentence,) = pair("/vz/private/101", "/vz/private/101")
    assert sentence.startswith("containers 101 and 102 have one private area, /vz/private/101")


def test_so_they_are_when_one_of_them_does_not_move():
    """It would be started from the old copy one day."""
    assert pair("/vz/private/101", "/vz/private/101", moves=[102])
    assert pair("/vz/private/101", "/vz/private/101", moves=[]) == []


def test_one_area_under_two_names_is_one():
    bound = "70 22 8:2 /private/101 /srv/101 rw - ext4 /dev/sdb1 rw"
    assert "have one private area" in pair("/vz/private/101", "/srv/101", bound)[0]


@pytest.mark.parametrize("inner, outer", [(101, 102), (102, 101)])
def test_a_private_area_in_another_one_is_named(inner, outer):
    where = {outer: "/vz/private/a", inner: "/vz/private/a/b"}
    (sentence,) = pair(where[101], where[102])
    assert f"container {inner} has its private area /vz/private/a/b in that of container {outer}" in sentence


def test_neighbours_with_like_names_are_no_such_pair():
    assert pair("/vz/private/101", "/vz/private/1012") == []
    assert pair("/vz/private/101", "/mnt/101", "70 22 8:9 / /mnt rw - ext4 /dev/sdd1 rw") == []
