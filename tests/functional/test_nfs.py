"""The execution module ringfree_nfs: variables, what is mounted, mounting and unmounting, what an export can store."""

import os

import pytest
from salt.exceptions import CommandExecutionError

PBX = "10.77.0.21:/rf-images/pbx"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")


@pytest.fixture
def nfs(fake_node):
    """`nfs("variables")` calls a function of the module."""
    return lambda function, *args, **kwargs: fake_node.minion().modules[f"ringfree_nfs.{function}"](
        *args, **kwargs
    )


@pytest.fixture
def probe(fake_node):
    """What preflight finds of the private share's export."""
    return lambda: fake_node.minion().modules["ringfree_preflight.probe"]()


@pytest.fixture
def point(fake_node):
    """The mount point of the private share."""
    return str(fake_node.folder / "vz/nfsprivate")


def test_the_variables_say_what_the_pillar_wants(fake_node, nfs):
    wanted = nfs("wanted_variables")
    assert wanted == {
        "nfs": "10.77.0.21",
        "nfsip.1": "10.77.0.21",
        "nfsip.2": "10.77.0.22",
        "nfsmounted": "0",
        "nfsvzconf": "/rf-images/vzconf",
        "nfsvzroot": "/rf-images/pbxroot",
        "nfsvzstor": "/rf-images/pbx",
    }
    assert set(nfs("variables").values()) == {None}
    assert nfs("set_variables", wanted) == wanted
    assert (fake_node.folder / "etc/ringfree/nfsip.2").read_text() == "10.77.0.22\n"
    fake_node.pillar["nfs"]["use"] = "secondary"
    assert nfs("wanted_variables")["nfs"] == nfs("server") == "10.77.0.22"


def test_an_unknown_variable_is_refused(fake_node, nfs):
    before = fake_node.tree()
    with pytest.raises(CommandExecutionError, match=r"no variable nfsip\.3; there are nfs, "):
        nfs("set_variables", {"nfs": "10.77.0.22", "nfsip.3": "x"})
    assert fake_node.tree() == before


def test_mounted_is_what_mountinfo_says(fake_node, nfs, point):
    """Not what a variable says, nor a directory with the right name."""
    (fake_node.folder / "etc/ringfree/nfsmounted").write_text("1\n")
    assert {entry["mounted"] for entry in nfs("in_use").values()} == {False}
    nfs("mount", PBX, point)
    found = nfs("in_use")
    assert found["private"] == {"mount": point, "wanted": PBX, "source": PBX, "mounted": True}
    assert nfs("wanted_variables")["nfsmounted"] == "0"
    for name, share in (("root", "pbxroot"), ("conf", "vzconf")):
        nfs("mount", f"10.77.0.21:/rf-images/{share}", found[name]["mount"])
    assert nfs("wanted_variables")["nfsmounted"] == "1"


def test_a_share_from_the_other_san_is_not_the_one_in_use(fake_node, nfs, point):
    fake_node.mount(f"9 1 0:9 / {point} rw - nfs 10.77.0.22:/rf-images/pbx rw")
    entry = nfs("in_use")["private"]
    assert (entry["source"], entry["mounted"]) == ("10.77.0.22:/rf-images/pbx", False)


def test_a_local_mount_on_the_mount_point_is_no_share(fake_node, nfs, point):
    fake_node.mount(f"9 1 8:9 / {point} rw - ext4 {PBX} rw")
    assert nfs("in_use")["private"]["source"] is None


def test_mounting_is_proved_and_done_once(fake_node, nfs, point):
    assert nfs("mount", PBX, point)["source"] == PBX
    nfs("mount", PBX, point)
    (call,) = fake_node.calls("mount ")
    options = "vers=3,proto=tcp,hard,nolock,timeo=600,retrans=2"
    assert call == f"mount -t nfs -o {options} {PBX} {point}"
    assert nfs("unmount", point) is True
    assert nfs("unmount", point) is True
    assert fake_node.calls("umount") == [f"umount -i --no-canonicalize {point}"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("exit 0", "exit code 0"),
        ("echo 'mount.nfs: Connection timed out' >&2; exit 32", "Connection timed out"),
        (
            "echo '9 1 0:9 / '$W'/vz/nfsprivate rw - nfs 10.77.0.99:/x rw' >> $W/proc/mountinfo; exit 0",
            "exit code 0",
        ),
    ],
    ids=["exit 0 without a mount", "fails", "something else is mounted"],
)
def test_a_mount_that_mountinfo_does_not_show_is_a_failure(fake_node, nfs, point, rule, words):
    fake_node.rule("mount", rule)
    with pytest.raises(CommandExecutionError, match=rf"{PBX} is not mounted on {point}: .*{words}"):
        nfs("mount", PBX, point)


def test_h13_a_mount_that_hangs_ends(fake_node, nfs, point):
    fake_node.pillar["nfs"]["deadline"] = 17
    deadlines = []

    def hung(argv, deadline=60):
        deadlines.append(deadline)
        return {"argv": argv, "rc": None, "out": "", "err": "", "seconds": deadline, "timed_out": True}

    fake_node.minion().utils["ringfree_command.run"] = hung
    with pytest.raises(CommandExecutionError, match="did not end within 17 s and was killed"):
        nfs("mount", PBX, point)
    assert deadlines == [17]


def test_h23_what_is_mounted_is_never_mounted_over(fake_node, nfs, point):
    fake_node.mount(f"9 1 0:9 / {point} rw - nfs 10.77.0.22:/rf-images/pbx rw")
    with pytest.raises(CommandExecutionError, match="nothing was changed"):
        nfs("mount", PBX, point)
    assert fake_node.calls("mount ") == fake_node.calls("umount") == []


def test_h07_an_unmount_that_mountinfo_does_not_show_is_a_failure(fake_node, nfs, point):
    nfs("mount", PBX, point)
    for rule in ("exit 0", "echo 'target is busy' >&2; exit 32"):
        fake_node.rule("umount", rule)
        with pytest.raises(CommandExecutionError, match=f"{point} is still mounted"):
            nfs("unmount", point)
    assert not [call for call in fake_node.calls("umount") if " -l" in call or " -f" in call]


HANGS = '[ "$1" = -f ] || exec sleep 60'


def test_h13_a_share_that_hangs_is_unmounted_by_force_and_never_lazily(fake_node, nfs, point):
    """The SAN is away, so that the plain call never ends; what waits for it is given up."""
    fake_node.pillar["nfs"]["deadline"] = 5
    nfs("mount", PBX, point)
    fake_node.rule("umount", HANGS)
    assert nfs("unmount", point) is True
    assert fake_node.calls("umount") == [
        f"umount -i --no-canonicalize {point}",
        f"umount -i --no-canonicalize -f {point}",
    ]


def test_h13_under_a_container_nothing_is_unmounted_by_force(fake_node, nfs, point):
    fake_node.pillar["nfs"]["deadline"] = 5
    nfs("mount", PBX, point)
    table = (fake_node.folder / "proc/mountinfo").read_text()
    device = next(line for line in table.splitlines() if f" {point} " in line).split()[2]
    fake_node.mount(f"900 1 {device} /101 /vz/nfsroot/101 rw - fuse.nfs {PBX} rw")
    fake_node.rule("umount", HANGS)
    with pytest.raises(
        CommandExecutionError, match=r"did not end within 5 s .*Mounted from it: /vz/nfsroot/101\."
    ):
        nfs("unmount", point)
    assert fake_node.calls("umount") == [f"umount -i --no-canonicalize {point}"]


#: As the kernel's client shows exports of one file system of the server: all of them have one device.
ONE_FILE_SYSTEM = """910 1 0:42 / {folder}/vz/nfsprivate rw - nfs 10.77.0.21:/rf-images/pbx rw,vers=3
911 1 0:42 / {folder}/vz/nfsroot rw - nfs 10.77.0.21:/rf-images/pbxroot rw,vers=3
"""
ELSEWHERE = {
    "a container's root": "912 911 0:42 / {folder}/vz/nfsroot/101 rw - nfs 10.77.0.21:/rf-images/pbx/101 rw",
    "an OpenVZ container's root": "912 911 0:77 / {folder}/vz/nfsroot/101 rw - simfs {folder}/vz/nfsprivate/101 rw",
    "another export": "912 1 0:42 / /mnt/backup rw - nfs 10.77.0.21:/rf-images/backup rw",
}


@pytest.mark.parametrize("line", ELSEWHERE.values(), ids=list(ELSEWHERE))
def test_h45_what_shares_a_file_system_with_a_mount_in_use_is_not_unmounted_by_force(fake_node, nfs, line):
    """It would end the waiting calls of all of them, whatever mount they came by."""
    fake_node.pillar["nfs"]["deadline"] = 5
    for entry in [*ONE_FILE_SYSTEM.splitlines(), line]:
        fake_node.mount(entry.format(folder=fake_node.folder))
    fake_node.rule("umount", HANGS)
    (user,) = nfs("shared_with", f"{fake_node.folder}/vz/nfsroot")
    assert user in line.format(folder=fake_node.folder)
    with pytest.raises(CommandExecutionError, match="did not end within 5 s"):
        nfs("unmount", f"{fake_node.folder}/vz/nfsprivate")
    assert not [call for call in fake_node.calls("umount") if "-f" in call.split()]


def test_h45_shares_that_nobody_uses_share_a_file_system_and_can_be_unmounted_by_force(fake_node, nfs):
    fake_node.pillar["nfs"]["deadline"] = 5
    for entry in ONE_FILE_SYSTEM.splitlines():
        fake_node.mount(entry.format(folder=fake_node.folder))
    fake_node.rule("umount", HANGS)
    assert nfs("shared_with", f"{fake_node.folder}/vz/nfsprivate") == []
    assert nfs("unmount", f"{fake_node.folder}/vz/nfsprivate") is True


def test_a_busy_share_names_what_is_mounted_from_it(fake_node, nfs, point):
    nfs("mount", PBX, point)
    table = (fake_node.folder / "proc/mountinfo").read_text()
    device = next(line for line in table.splitlines() if f" {point} " in line).split()[2]
    with (fake_node.folder / "proc/mountinfo").open("a") as stream:
        stream.write(f"900 1 {device} /101 /vz/nfsroot/101 rw - fuse.nfs {PBX} rw\n")
    fake_node.rule("umount", "echo 'target is busy' >&2; exit 32")
    with pytest.raises(CommandExecutionError, match=r"Mounted from it: /vz/nfsroot/101\."):
        nfs("unmount", point)


def test_a_busy_share_names_who_waits_for_a_server_when_nobody_else_is_seen(fake_node, nfs, point):
    """A program in the middle of a call holds the mount by no link."""
    nfs("mount", PBX, point)
    fake_node.rule("umount", "echo 'target is busy' >&2; exit 32")
    for pid, place in {4711: "rpc_wait_bit_killable", 4712: "do_wait", 4713: "0"}.items():
        (fake_node.folder / f"proc/{pid}").mkdir()
        (fake_node.folder / f"proc/{pid}/wchan").write_text(place)
        (fake_node.folder / f"proc/{pid}/comm").write_text("vzctl\n")
    with pytest.raises(
        CommandExecutionError, match=r"A call to a server keeps process 4711 \(vzctl\) waiting"
    ):
        nfs("unmount", point)


def test_a_busy_share_names_the_processes_that_use_it(fake_node, nfs, point):
    """By links in /proc alone: a look at the share itself may hang."""
    nfs("mount", PBX, point)
    fake_node.rule("umount", "echo 'target is busy' >&2; exit 32")
    for pid, place in {4711: f"{point}/101", 4712: f"{point}-of-another", 4713: "/"}.items():
        folder = fake_node.folder / f"proc/{pid}"
        (folder / "fd").mkdir(parents=True)
        (folder / "cwd").symlink_to(place)
        (folder / "comm").write_text("bash\n")
    (fake_node.folder / "proc/4713/fd/3").symlink_to(f"{point}/101/var/log/full (deleted)")
    (fake_node.folder / "proc/4713/comm").unlink()
    (fake_node.folder / "proc/4714").mkdir()
    with pytest.raises(
        CommandExecutionError, match=r"busy\. In use by process 4711 \(bash\), 4713 \(ended\)\."
    ):
        nfs("unmount", point)


def state(fake_node, shares, test=False):
    return fake_node.minion(test).states["ringfree_nfs.mounted"]("x", shares=shares)


@pytest.mark.parametrize("test", [True, False])
def test_h23_the_state_never_remounts_a_store_in_use(fake_node, point, test):
    fake_node.mount(f"9 1 0:9 / {point} rw - nfs 10.77.0.22:/rf-images/pbx rw,soft")
    result = state(fake_node, ["root", "private"], test)
    assert result["result"] is False
    assert f"{point} is mounted from 10.77.0.22:/rf-images/pbx" in result["comment"]
    assert "never remounted" in result["comment"]
    assert fake_node.calls("mount ") == []


def test_a_missing_mount_point_is_a_failure(fake_node, point):
    os.rmdir(point)
    result = state(fake_node, ["private"])
    assert result["result"] is False
    assert f"the mount point {point} does not exist" in result["comment"]


def test_a_second_share_that_is_not_exported_is_a_failure_and_a_second_run_goes_on(fake_node):
    fake_node.san("pbxroot").rename(fake_node.san("away"))
    result = state(fake_node, ["private", "root"])
    assert result["result"] is False
    assert "access denied" in result["comment"]
    fake_node.san("away").rename(fake_node.san("pbxroot"))
    again = state(fake_node, ["private", "root"])
    assert again["result"] is True
    assert list(again["changes"]) == [str(fake_node.folder / "vz/nfsroot")]


# --- probe and scan -------------------------------------------------------------------------------------------------


@as_root
def test_the_probe_leaves_nothing_behind(fake_node, probe):
    fake_node.san("pbx/101").mkdir()
    before = fake_node.tree()
    found = probe()
    assert fake_node.tree() == before
    assert found["same_directory"] is True
    assert found["owner"] is True
    assert found["hard_link"] is True
    assert found["bytes_free"] > 0
    assert found["copy"] == {}


def test_the_probe_leaves_the_records_alone(fake_node, probe):
    fake_node.own(101)
    before = fake_node.tree()
    assert probe()["copy"] == {}
    assert fake_node.tree() == before


#: What rsync says at the end of a copy into a folder of samples, whose name is in its filters.
SAYS = """
name=${some# }; name=${name%%/*}
[ ! $dry ] && [ -d $source/$name ] && {
    echo "rsync: [receiver] %s(\\"/rf-images/pbx/.ringfree/$name/%s" >&2
    exit 23
}
"""


@pytest.mark.parametrize(
    "call, words, ability",
    [
        ("rsync_xal_set: lremovexattr", r"plain/.plain.x1\",\"security.selinux\") failed: x (13)", "plain"),
        ("rsync_xal_set: lremovexattr", r"acl\",\"user.DOSATTRIB\") failed: x (13)", "plain"),
        ("set_acl: sys_acl_set_file", r"acl/.acl.Zx\", ACL_TYPE_ACCESS): not supported (95)", "acl"),
        (
            "rsync_xal_set: lsetxattr",
            r"capability/.a.y\",\"security.capability\") failed: x (95)",
            "capability",
        ),
    ],
)
def test_what_a_copy_to_the_san_loses_is_found_the_way_that_copies_go(fake_node, probe, call, words, ability):
    before = fake_node.tree()
    fake_node.rule("rsync.after", SAYS % (call, words))
    ((found, said),) = probe()["copy"].items()
    assert (found, call in said) == (ability, True)
    fake_node.rule("rsync.after", "")
    (fake_node.folder / "rules/rsync.after").unlink()
    assert fake_node.tree() == before


def test_what_arrives_as_something_else_is_found_by_the_comparison(fake_node, probe):
    fake_node.rule(
        "rsync.after",
        "[ ! $dry ] || (cd $target && find .probe-* -path '*/setuid/*' -printf '.f...p..... %p\\n')",
    )
    assert list(probe()["copy"]) == ["setuid"]


def test_an_export_that_ssh_does_not_show_is_found_out(fake_node, probe):
    """The export leads to another directory than the path over ssh."""
    elsewhere = fake_node.folder / "elsewhere"
    elsewhere.mkdir()
    fake_node.rule("rsync", f'[ "$2" != --no-human-readable ] || {{ ls -A {elsewhere}; exit 0; }}')
    assert "does not show in /rf-images/pbx over ssh" in probe()["same_directory"]


def test_a_probe_that_fails_unmounts_what_it_mounted(fake_node, probe):
    before = fake_node.tree()
    fake_node.rule("rsync", "echo 'connection reset' >&2; exit 12")
    with pytest.raises(CommandExecutionError, match="connection reset"):
        probe()
    assert fake_node.tree() == before


def test_a_scan_counts_what_a_private_area_uses(fake_node, nfs):
    fake_node.add(101, "PBX")
    private = fake_node.private(101)
    os.link(private / "etc/hostname", private / "etc/hostname2")
    os.mkfifo(private / "fifo")
    found = nfs("scan", str(private))
    assert (found["hard_links"], found["fifos"], found["inodes"]) == (2, 1, 5)
    with pytest.raises(CommandExecutionError, match="No such file"):
        nfs("scan", str(private / "gone"))
