"""state.apply: what it corrects on a node on NFS and on a local one, what it only reports, and what it never does."""

import json
import os
import shutil

import pytest
import ringfree_command
from edited import edit
from fake_node import SECOND, SERVER
from highstate import highstate
from migration_steps import STEPS, apply, bring, each_step, until
from salt.exceptions import CommandExecutionError

ROOT_DISK = "/dev/sda1 / ext4 defaults 0 1\n"
#: The states of a node on NFS, as they are in the SLS.
FSTAB = "The mounts come back after a reboot"
SSH = "The SAN can be reached over ssh"
MODES = "Nobody else reads what is kept of the node"
DEADMAN = "The node does not go back by itself"
POINTS = "The mount points are there"
SHARES = "The shares are mounted"
VARIABLES = "The variables in /etc/ringfree are right"
FENCE = "The fence stands"
VZ_CONF = "New containers are born on the share"
CONFS = "The containers live on the share"
CLOSED = "Nobody writes under the mount points"
WAITS = "vz starts only with its store"
OWNERS = "Each container is one node's"
SCRIPTS = "Nobody else's scripts run here"
#: And of a local one.
UNUSED, NO_MOUNTS, NO_FENCE = (
    "Nothing of the share is in use",
    "The shares are not mounted at boot",
    "The fence is gone",
)


@pytest.fixture
def on_nfs(fleet):
    """A committed node that is as declared; 103 was down, and stays on local disk."""
    (fleet.folder / "etc/fstab").write_text(ROOT_DISK)
    (fleet.folder / "etc/ringfree/ssh/id_ed25519").chmod(0o600)
    for share in ("private", "root"):
        (fleet.folder / f"vz/nfs{share}").chmod(0o700)
    until(fleet, "ringfree_nfs.variables", mounted=True)()
    clean(run(fleet, sls="ringfree.fstab"), but=[FSTAB])
    return fleet


def run(node, test=False, sls=None):
    """Results by the name of the state."""
    return {result["__id__"]: result for result in highstate(node, test, sls)}


def clean(results, but=()):
    """All is as declared, but for some states."""
    bad = {
        name: (result["result"], result["changes"], result["comment"])
        for name, result in results.items()
        if name not in but and (result["result"] is not True or result["changes"])
    }
    assert not bad, bad


def files(node):
    """The node's files without their times, and without what only the fake keeps."""
    return {
        path: entry[:3] + entry[-1:]
        for path, entry in node.tree().items()
        if not path.startswith("proc/lock")
    }


def outages(node, since):
    """Calls that touch a container, or take a mount away."""
    verbs = ("start", "stop", "restart", "mount", "umount", "suspend", "destroy", "set", "exec", "exec2")
    return [
        call
        for call in node.calls()[since:]
        if (call.split()[0] == "vzctl" and call.split()[1] in verbs)
        or call.split()[0] == "umount"
        or (call.split()[0] == "mount" and "remount" in call)
    ]


def dry_live_again(node):
    """state.apply test=True, state.apply, state.apply; what must hold of the three whatever the drift is."""
    calls, up, before = len(node.calls()), node.running(), node.tree()
    dry = run(node, test=True)
    assert node.tree() == before
    live = run(node)
    for name, result in live.items():
        assert result["changes"] == dry[name]["changes"], (name, dry[name]["comment"], result["comment"])
        wanted = result["result"] if not result["result"] or not result["changes"] else None
        assert dry[name]["result"] is wanted, (name, dry[name]["comment"])
        assert "Traceback" not in result["comment"]
    after = node.tree()
    again = run(node)
    assert {name: result["changes"] for name, result in again.items() if result["changes"]} == {}
    assert {name: r["result"] for name, r in again.items()} == {name: r["result"] for name, r in live.items()}
    assert node.tree() == after
    assert outages(node, calls) == []
    assert node.running() == up
    return live


# --- drifts of a node on NFS -----------------------------------------------------------------------------------------


def line(path, key, value):
    """Replace, add, or with None take away, a line of a conf, as somebody with an editor would."""
    lines = [text for text in path.read_text().splitlines() if not text.startswith(f"{key}=")]
    if value is not None:
        lines.append(f'{key}="{value}"')
    path.write_text("\n".join(lines) + "\n")


def stop(node, *ctids):
    """Somebody stops containers on purpose."""
    node.minion().modules["vz.stop"](list(ctids))


def unmount(node, *shares):
    """Somebody unmounts shares."""
    for share in shares:
        node.minion().modules["ringfree_nfs.unmount"](node.mount_point(share))


def change(old, new):
    return {"old": old, "new": new}


def nfs(node, share="private"):
    return f"{node.folder}/vz/nfs{share}/$VEID"


def local(node, what="private"):
    return f"{node.folder}/vz/{what}/$VEID"


#: What somebody did: a function; what comes of it: state to the keys that change. All of it is undone to the byte, but
#: that a line that was lost comes back at the end of its file.
CORRECTED = {
    "vz.conf leads to local disk": (
        lambda node: line(node.vz_conf, "VE_PRIVATE", local(node)),
        {VZ_CONF: {"VE_PRIVATE"}},
    ),
    "vz.conf has lost a line": (
        lambda node: line(node.vz_conf, "VE_ROOT", None),
        {VZ_CONF: {"VE_ROOT"}},
    ),
    "vz.conf has quota on": (
        lambda node: line(node.vz_conf, "DISK_QUOTA", "yes"),
        {VZ_CONF: {"DISK_QUOTA"}},
    ),
    "vz.conf is that of before": (
        lambda node: shutil.copyfile(node.folder / "etc/vz/vz.conf.before-nfs", node.vz_conf),
        {VZ_CONF: {"VE_ROOT", "VE_PRIVATE", "DISK_QUOTA"}},
    ),
    "the guard was left in vz.conf": (
        lambda node: line(node.vz_conf, "DISABLED", "yes"),
        {VZ_CONF: {"DISABLED"}},
    ),
    "a running container inherits its paths": (
        lambda node: (line(node.conf(101), "VE_ROOT", None), line(node.conf(101), "VE_PRIVATE", None)),
        {CONFS: {"101"}},
    ),
    "a running container would inherit other paths": (
        lambda node: (
            line(node.conf(101), "VE_PRIVATE", None),
            line(node.vz_conf, "VE_PRIVATE", local(node)),
        ),
        {VZ_CONF: {"VE_PRIVATE"}, CONFS: {"101"}},
    ),
    "a running container has quota on": (
        lambda node: line(node.conf(102), "DISK_QUOTA", "yes"),
        {CONFS: {"102"}},
    ),
    "a running container has lost its layout": (
        lambda node: line(node.conf(102), "VE_LAYOUT", None),
        {CONFS: {"102"}},
    ),
    "a stopped container leads to its old copy": (
        lambda node: (stop(node, 104), line(node.conf(104), "VE_PRIVATE", local(node))),
        {CONFS: {"104"}},
    ),
    "a stopped container has its old root": (
        lambda node: (stop(node, 104), line(node.conf(104), "VE_ROOT", local(node, "root"))),
        {CONFS: {"104"}},
    ),
    "stopped containers have their confs of before": (
        lambda node: (
            stop(node, 101, 104),
            [line(node.conf(ctid), key, None) for ctid in (101, 104) for key in ("VE_ROOT", "DISK_QUOTA")],
        ),
        {CONFS: {"101", "104"}},
    ),
    "a container was made later": (
        lambda node: (node.own(105), node.conf(105).write_text('ONBOOT="yes"\nHOSTNAME="ct105"\n')),
        {CONFS: {"105"}},
    ),
    "a variable names the other SAN": (
        lambda node: (node.folder / "etc/ringfree/nfs").write_text(f"{SECOND}\n"),
        {VARIABLES: {"nfs"}},
    ),
    "a variable says that nothing is mounted": (
        lambda node: (node.folder / "etc/ringfree/nfsmounted").write_text("0\n"),
        {VARIABLES: {"nfsmounted"}},
    ),
    "variables are missing": (
        lambda node: [(node.folder / "etc/ringfree" / name).unlink() for name in ("nfsvzstor", "nfsip.2")],
        {VARIABLES: {"nfsvzstor", "nfsip.2"}},
    ),
    "fstab has lost our lines": (
        lambda node: (node.folder / "etc/fstab").write_text(ROOT_DISK),
        {FSTAB: {"diff"}},
    ),
    "fstab has other options": (
        lambda node: (node.folder / "etc/fstab").write_text(
            (node.folder / "etc/fstab").read_text().replace("hard", "soft")
        ),
        {FSTAB: {"diff"}},
    ),
    "the fence is gone": (
        lambda node: (node.folder / "etc/vz/conf/vps.premount").unlink(),
        {FENCE: {"etc/vz/conf/vps.premount"}},
    ),
    "the fence cannot be run": (
        lambda node: (node.folder / "etc/vz/conf/vps.premount").chmod(0o644),
        {FENCE: {"etc/vz/conf/vps.premount"}},
    ),
    "the fence lets everything through": (
        lambda node: (node.folder / "etc/vz/conf/vps.premount").write_text("#!/bin/sh\nexit 0\n"),
        {FENCE: {"etc/vz/conf/vps.premount"}},
    ),
    "the fence does not know the node": (
        lambda node: (node.folder / "etc/ringfree/node").unlink(),
        {FENCE: {"etc/ringfree/node"}},
    ),
    "the dead man's switch is armed": (
        lambda node: node.minion().modules["ringfree_deadman.arm"](4102444800),
        {DEADMAN: {"deadman"}},
    ),
    "the dead man's switch left a unit": (
        lambda node: (node.folder / "etc/systemd/system/ringfree-deadman.service").touch(),
        {DEADMAN: {"deadman"}},
    ),
    "the dead man's switch left a damaged record": (
        lambda node: (
            (node.folder / "var/deadman").mkdir(),
            (node.folder / "var/deadman/record.json").write_text("{"),
        ),
        {DEADMAN: {"deadman"}},
    ),
    "everybody can read the key": (
        lambda node: (node.folder / "etc/ringfree/ssh/id_ed25519").chmod(0o644),
        {SSH: {"etc/ringfree/ssh/id_ed25519"}},
    ),
    "nothing is mounted, as after a boot without the SAN": (
        lambda node: (stop(node, 101, 102, 104), unmount(node, "conf", "root", "private")),
        {SHARES: {"vz/nfsprivate", "vz/nfsroot", "etc/sysconfig/vz-scripts"}},
    ),
    "one share is not mounted": (
        lambda node: unmount(node, "private"),
        {SHARES: {"vz/nfsprivate"}},
    ),
    "a mount point is open to all": (
        lambda node: (unmount(node, "private"), (node.folder / "vz/nfsprivate").chmod(0o777)),
        {POINTS: {"vz/nfsprivate"}, SHARES: {"vz/nfsprivate"}},
    ),
    "a mount point is gone": (
        lambda node: (unmount(node, "private"), (node.folder / "vz/nfsprivate").rmdir()),
        {POINTS: {"vz/nfsprivate"}, SHARES: {"vz/nfsprivate"}},
    ),
}
#: Changed by the drift itself, or noted by the fake: no part of what has to be as before.
PASSING = ("proc", "vz/nfsprivate.hidden", "vz/nfsprivate/.ringfree/owner/105", "run", "etc/fstab.bak")


@pytest.mark.walk
@pytest.mark.parametrize("drift", CORRECTED)
def test_h22_a_drift_is_corrected_and_nothing_else(on_nfs, drift):
    """H22: the dry run tells the very changes, the live run makes them, a second one none; nobody is disturbed."""
    act, expected = CORRECTED[drift]
    was = files(on_nfs)
    act(on_nfs)
    live = dry_live_again(on_nfs)
    clean(live, but=expected)
    for name, keys in expected.items():
        assert live[name]["result"] is True, live[name]["comment"]
        assert {key.removeprefix(f"{on_nfs.folder}/") for key in live[name]["changes"]} == keys
    now = files(on_nfs)
    for path in {*was, *now} - {"etc/sysconfig/vz-scripts/105.conf"}:
        if not path.startswith(PASSING):
            assert sorted_lines(now.get(path)) == sorted_lines(was.get(path)), path


def sorted_lines(entry):
    """A file whose lines may have changed their places."""
    if entry is None or not isinstance(entry[-1], bytes):
        return entry
    return (*entry[:-1], sorted(entry[-1].splitlines()))


def test_what_the_changes_say(on_nfs):
    """Old and new values, by container and key; every other byte of the files stays in its place."""
    line(on_nfs.vz_conf, "DISABLED", "yes")
    stop(on_nfs, 104)
    on_nfs.conf(104).write_text(on_nfs.conf(104).read_text().replace("nfsprivate", "private"))
    on_nfs.conf(102).write_text(
        on_nfs.conf(102).read_text().replace('DISK_QUOTA="no"', 'DISK_QUOTA="yes"') + "# by hand\n"
    )
    before = on_nfs.conf(102).read_text()
    live = dry_live_again(on_nfs)
    assert live[VZ_CONF]["changes"] == {"DISABLED": change("yes", None)}
    assert live[CONFS]["changes"] == {
        "102": {"DISK_QUOTA": change("yes", "no")},
        "104": {"VE_PRIVATE": change(local(on_nfs), nfs(on_nfs))},
    }
    assert on_nfs.conf(102).read_text() == before.replace('DISK_QUOTA="yes"', 'DISK_QUOTA="no"')


def test_a_path_that_means_the_same_is_left_as_it_is_written(on_nfs):
    line(on_nfs.conf(101), "VE_PRIVATE", nfs(on_nfs).replace("$VEID", "101"))
    clean(dry_live_again(on_nfs))


def test_the_host_keys_of_the_pillar_are_pinned(on_nfs):
    on_nfs.pillar["ssh"]["host_keys"] = {SERVER: "ssh-ed25519 AAAA"}
    live = dry_live_again(on_nfs)
    clean(live, but=[SSH])
    assert set(live[SSH]["changes"]) == {f"{on_nfs.folder}/run/known_hosts"}
    path = on_nfs.folder / "run/known_hosts"
    assert path.read_text() == f"{SERVER} ssh-ed25519 AAAA\n"
    path.write_text(f"{SERVER} ssh-ed25519 BBBB\n")
    assert dry_live_again(on_nfs)[SSH]["changes"]


# --- what is only reported --------------------------------------------------------------------------------------------


def old_copy(node):
    """104 was started by hand from its old copy."""
    stop(node, 104)
    node.conf(104).write_text(node.conf(104).read_text().replace("/vz/nfs", "/vz/"))
    (node.folder / "proc/running/104").touch()
    node.mount(f"104 1 8:1 {node.private(104)} {node.folder}/vz/root/104 rw - ext4 /dev/sda1 rw")


def wrong_tree(node):
    """104's conf is right again, and what is mounted on its root is still the old copy."""
    table, root = node.folder / "proc/mountinfo", f"{node.folder}/vz/nfsroot/104"
    lines = [
        f"104 1 8:1 {node.private(104)} {root} rw - ext4 /dev/sda1 rw" if f" {root} " in text else text
        for text in table.read_text().splitlines()
    ]
    table.write_text("\n".join(lines) + "\n")


def follower(node):
    """103 runs from local disk, only because somebody has changed vz.conf."""
    for key in ("VE_ROOT", "VE_PRIVATE"):
        line(node.conf(103), key, None)
        line(node.vz_conf, key, local(node, key.removeprefix("VE_").lower()))
    (node.folder / "proc/running/103").touch()
    node.mount(f"103 1 8:1 {node.private(103)} {node.folder}/vz/root/103 rw - ext4 /dev/sda1 rw")


def wrong_server(node):
    table = node.folder / "proc/mountinfo"
    lines = [
        text.replace(SERVER, SECOND) if text.split()[4].endswith("/vz/nfsroot") else text
        for text in table.read_text().splitlines()
    ]
    table.write_text("\n".join(lines) + "\n")


def without_root(node):
    """The containers were started while the root share was not mounted."""
    unmount(node, "root")
    table = node.folder / "proc/mountinfo"
    table.write_text(table.read_text().replace(" 51 0:50 /", " 1 0:50 /"))


def foreign(node, running=False):
    """201 belongs to another node on the same conf share, whatever its conf says."""
    node.own(201, "node002")
    node.conf(201).write_text('VE_PRIVATE="/elsewhere/201"\n')
    if running:
        (node.folder / "proc/running/201").touch()


LACKS = "container 104 is this node's on the share and has no "
#: What somebody did; the state that says it, and words of it. Nothing is changed.
REPORTED = {
    "a running container leads to its old copy": (
        lambda node: line(node.conf(101), "VE_PRIVATE", local(node)),
        {CONFS: ["container 101 runs from the share", "VE_PRIVATE", "vz/private/101", "vz.configure", "101"]},
    ),
    "a running container leads nowhere": (
        lambda node: (
            line(node.conf(101), "VE_ROOT", None),
            line(node.vz_conf, "VE_ROOT", local(node, "root")),
            follower(node),
        ),
        {VZ_CONF: ["container 103"], CONFS: ["container 101 runs from the share", "VE_ROOT"]},
    ),
    "a container runs from its old copy": (
        old_copy,
        {
            CONFS: [
                "container 104 does not run from the share",
                "another copy",
                "vzctl stop 104",
                "state.apply",
            ]
        },
    ),
    "a container runs from its old copy, and its conf is right": (
        wrong_tree,
        {CONFS: ["container 104 does not run from the share", "another copy", "vzctl stop 104"]},
    ),
    "a container follows a changed vz.conf": (
        follower,
        {VZ_CONF: ["container 103 runs from", "only because vz.conf says so", "vz.configure", "103"]},
    ),
    "a conf means two things": (
        lambda node: node.conf(104).write_text(node.conf(104).read_text() + 'VE_ROOT="/b"\n'),
        {CONFS: ["104.conf:", "VE_ROOT", "not touched"]},
    ),
    "a conf is gone": (
        lambda node: node.conf(104).unlink(),
        {CONFS: [LACKS, "104.conf: what it was is", "vz-scripts.tar.gz"]},
    ),
    "a conf and its container are gone": (
        lambda node: (node.destroy(104), os.unlink(f"{node.conf(104)}.destroyed")),
        {CONFS: [LACKS, "104.conf and no", "104.conf.destroyed"]},
    ),
    "a conf is put away and its container is there": (
        lambda node: node.conf(104).rename(f"{node.conf(104)}.destroyed"),
        {CONFS: [LACKS, "104.conf: what it was is"]},
    ),
    "a container of another node runs here": (
        lambda node: foreign(node, running=True),
        {
            CONFS: ["container 201 runs here and belongs to node002"],
            OWNERS: ["container 201 runs on node001 and belongs to node002", "move_owner 201 to=node001"],
        },
    ),
    "vz.conf means two things": (
        lambda node: node.vz_conf.write_text(node.vz_conf.read_text() + 'VE_ROOT="/b"\n'),
        {VZ_CONF: ["vz.conf: line", "VE_ROOT"]},
    ),
    "a share is mounted from the other SAN": (
        wrong_server,
        {SHARES: [f"is mounted from {SECOND}:/rf-images/pbxroot", "not remounted"]},
    ),
    "a share is away and containers are mounted where it was": (
        without_root,
        {SHARES: ["vz/nfsroot/101", "would be hidden", "vzctl stop"]},
    ),
    "files were written below a mount point": (
        lambda node: (unmount(node, "private"), (node.folder / "vz/nfsprivate/101").mkdir()),
        {
            CLOSED: ["vz/nfsprivate is to be a mount point and has 101 in it"],
            SHARES: ["vz/nfsprivate holds 1 files on local disk, such as 101"],
            CONFS: ["is not mounted"],
        },
    ),
    "something else is mounted on a mount point": (
        lambda node: (
            unmount(node, "private"),
            node.mount(f"70 1 0:70 / {node.folder}/vz/nfsprivate rw - tmpfs tmpfs rw"),
        ),
        {SHARES: ["has tmpfs (tmpfs) mounted on it"], CONFS: ["is not mounted"]},
    ),
    "our lines in fstab have no end": (
        lambda node: (node.folder / "etc/fstab").write_text(
            "# ringfree: mounts of the SAN, managed by Salt\n"
        ),
        {FSTAB: ["nterminated"]},
    ),
}


@pytest.mark.walk
@pytest.mark.parametrize("drift", REPORTED)
def test_h22_what_needs_a_person_is_reported_and_not_touched(on_nfs, drift):
    """H02, H22, H23: a failed state with the name of the container and what to type; the files stay as they are."""
    act, expected = REPORTED[drift]
    act(on_nfs)
    was = files(on_nfs)
    live = dry_live_again(on_nfs)
    clean(live, but=[*expected, VARIABLES])
    for name, words in expected.items():
        assert live[name]["result"] is False, live[name]["comment"]
        assert not live[name]["changes"]
        for word in words:
            assert word.lower() in live[name]["comment"].lower(), live[name]["comment"]
    now = files(on_nfs)
    assert {path for path in {*was, *now} if was.get(path) != now.get(path)} <= {"etc/ringfree/nfsmounted"}


def test_h14_vz_waits_for_its_store_again(on_nfs):
    """The drop-in of vz.service was taken away; nothing is started or stopped for it."""
    drop_in = on_nfs.folder / "etc/systemd/system/vz.service.d/ringfree.conf"
    text = drop_in.read_text()
    drop_in.unlink()
    live = dry_live_again(on_nfs)
    clean(live, but=[WAITS])
    assert live[WAITS]["result"] is True and set(live[WAITS]["changes"]) == {str(drop_in)}
    assert drop_in.read_text() == text


def test_one_container_does_not_keep_the_others_from_being_corrected(on_nfs):
    line(on_nfs.conf(101), "VE_PRIVATE", local(on_nfs))
    line(on_nfs.conf(102), "DISK_QUOTA", "yes")
    live = dry_live_again(on_nfs)
    assert live[CONFS]["result"] is False
    assert set(live[CONFS]["changes"]) == {"102"}


def test_confs_of_others_are_not_touched_and_said(on_nfs):
    """H12: containers of another node on the same conf share, and those that nobody owns."""
    foreign(on_nfs)
    on_nfs.conf(202).write_text('VE_PRIVATE="/elsewhere/202"\n')
    live = dry_live_again(on_nfs)
    clean(live)
    assert "Not touched: 201, of node002." in live[CONFS]["comment"]
    assert "Not touched: 103, 202, which nobody owns." in live[CONFS]["comment"]


@pytest.mark.parametrize("ctid", [104, 150])
def test_a_container_that_was_destroyed_is_forgotten(on_nfs, ctid):
    """Its id is free again; of one that came from this node's disk the old copy stays, and is nobody's."""
    stop(on_nfs, ctid)
    on_nfs.own(ctid)
    listed = on_nfs.folder / "etc/ringfree/on-nfs"
    lines = [line for line in on_nfs.listed() if line != "104 node001"]
    listed.write_text("".join(f"{line}\n" for line in [*lines, f"{ctid} node001"]))
    on_nfs.destroy(ctid)
    live = dry_live_again(on_nfs)
    clean(live, but=[CONFS])
    assert live[CONFS]["result"] is True
    assert live[CONFS]["changes"] == {str(ctid): {"old": "on the share", "new": "destroyed"}}
    assert not on_nfs.san("pbx/.ringfree/owner", ctid).exists()
    assert on_nfs.owner(101)["node"] == "node001"
    modules = on_nfs.minion().modules
    assert ctid not in modules["vz.manifest"]()
    assert ctid not in modules["ringfree_owner.live_on_nfs"]()
    assert modules["ringfree_owner.void"]() == ([104] if ctid == 104 else [])
    assert on_nfs.private(104).is_dir()


def test_only_what_was_destroyed_is_forgotten(on_nfs):
    on_nfs.destroy(104)
    was = files(on_nfs)
    with pytest.raises(
        CommandExecutionError, match=r"containers 101 were not destroyed .* Nothing was forgotten"
    ):
        on_nfs.minion().modules["ringfree_owner.forget"]([101, 104])
    assert files(on_nfs) == was


@pytest.mark.parametrize("share", ["conf", "private"])
def test_a_container_that_was_destroyed_on_a_share_that_is_away_is_not_forgotten(on_nfs, share):
    destroyed = on_nfs.minion().modules["ringfree_owner.destroyed"]
    on_nfs.destroy(104)
    assert destroyed() == [104]
    unmount(on_nfs, share)
    assert destroyed() == []


def test_nothing_is_taken_for_destroyed_where_the_share_shows_no_records(on_nfs):
    modules = on_nfs.minion().modules
    known = modules["ringfree_owner.records"]()
    on_nfs.destroy(104)
    assert modules["ringfree_owner.destroyed"](known) == [104]
    on_nfs.san("pbx/.ringfree").rename(on_nfs.san("pbx/elsewhere"))
    assert modules["ringfree_owner.destroyed"](known) == []


def test_a_container_that_was_stopped_is_left_so_and_said(on_nfs):
    stop(on_nfs, 104)
    live = dry_live_again(on_nfs)
    clean(live)
    assert "Of the manifest 104 do not run." in live[CONFS]["comment"]


def test_h23_other_mount_options_are_said_and_left(on_nfs):
    table = on_nfs.folder / "proc/mountinfo"
    old = f"fuse.nfs {SERVER}:/rf-images/pbxroot rw"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, f"nfs {SERVER}:/rf-images/pbxroot rw,vers=3,soft"))
    live = dry_live_again(on_nfs)
    clean(live)
    assert "wanted hard" in live[SHARES]["comment"] or "soft" in live[SHARES]["comment"]
    assert "comes with the next mount, a store in use is not remounted" in live[SHARES]["comment"]


def test_h27_another_san_in_the_pillar_than_the_one_in_use_is_said_and_left(on_nfs):
    on_nfs.pillar["nfs"]["use"] = "secondary"
    live = dry_live_again(on_nfs)
    clean(live)
    assert f"Primary ({SERVER}) is in use, the pillar says secondary" in live[SHARES]["comment"]


def test_h13_a_san_that_is_away_keeps_nothing_local_from_being_corrected(on_nfs):
    """The states that need it fail in plain words, the others do their work."""
    (on_nfs.bin / "stat").write_text("#!/bin/sh\nexit 1\n")
    (on_nfs.bin / "stat").chmod(0o755)
    (on_nfs.folder / "etc/ringfree/nfs").write_text("x\n")
    (on_nfs.folder / "etc/fstab").write_text(ROOT_DISK)
    line(on_nfs.vz_conf, "DISABLED", "yes")
    for test in (True, False):
        on_nfs.minion(test=test).module_of("vz.status")._ASKED.clear()
    live = dry_live_again(on_nfs)
    clean(live, but=[FSTAB, VARIABLES, VZ_CONF, FENCE, CONFS, OWNERS, SCRIPTS])
    for name in (FSTAB, VARIABLES, VZ_CONF):
        assert live[name]["result"] is True and live[name]["changes"], name
    for name in (FENCE, CONFS, OWNERS, SCRIPTS):
        assert live[name]["result"] is False and "does not answer" in live[name]["comment"], name


def test_a_mount_that_fails_is_one_clear_failure(on_nfs):
    stop(on_nfs, 101, 102, 104)
    unmount(on_nfs, "conf", "root", "private")
    on_nfs.rule("mount", 'echo "mount.nfs: Connection timed out" >&2; exit 32')
    live = run(on_nfs)
    clean(live, but=[SHARES, CONFS, VARIABLES])
    assert live[SHARES]["result"] is False and not live[SHARES]["changes"]
    assert live[VARIABLES]["result"] is True
    assert live[CONFS]["result"] is False
    assert "Connection timed out" in live[SHARES]["comment"]
    assert len(on_nfs.calls("mount -t nfs")) - 3 == 1
    assert live[VARIABLES]["changes"] == {"nfsmounted": change("1", "0")}


# --- a node on local storage ------------------------------------------------------------------------------------------


def test_a_local_node_gets_its_variables_and_nothing_else(fleet):
    """Never migrated: vz.conf, confs, containers, fstab are not ours."""
    (fleet.folder / "etc/fstab").write_text(ROOT_DISK)
    before = files(fleet)
    live = dry_live_again(fleet)
    clean(live, but=[VARIABLES, SSH])
    assert live[VARIABLES]["changes"]["nfsmounted"] == change(None, "0")
    now = files(fleet)
    new = {path for path in {*before, *now} if before.get(path) != now.get(path)}
    names = (
        "nfs",
        "nfsip.1",
        "nfsip.2",
        "nfsmounted",
        "nfsvzconf",
        "nfsvzroot",
        "nfsvzstor",
        "ssh/id_ed25519",
    )
    assert new == {f"etc/ringfree/{name}" for name in names}


@pytest.fixture
def back(on_nfs):
    """A node that was rolled back."""
    result = apply(on_nfs, "ringfree_rollback.rolled_back")
    assert result["result"] is True, result["comment"]
    return on_nfs


def test_a_node_that_was_rolled_back_is_as_declared(back):
    clean(dry_live_again(back))


LEFT = {
    "our lines in fstab": (
        lambda node: (node.folder / "etc/fstab").write_text(
            f"{ROOT_DISK}# ringfree: mounts of the SAN, managed by Salt\nx /y nfs hard 0 0\n# ringfree: end\n"
        ),
        NO_MOUNTS,
    ),
    "our fence": (lambda node: node.minion().modules["ringfree_guard.fence"](), NO_FENCE),
    "the dead man's switch": (
        lambda node: node.minion().modules["ringfree_deadman.arm"](4102444800),
        DEADMAN,
    ),
    "a variable": (lambda node: (node.folder / "etc/ringfree/nfsmounted").write_text("1\n"), VARIABLES),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_was_left_on_a_local_node_goes(back, what):
    act, name = LEFT[what]
    before = files(back)
    act(back)
    live = dry_live_again(back)
    clean(live, but=[name])
    assert live[name]["result"] is True and live[name]["changes"], live[name]["comment"]
    now = files(back)
    assert {path for path in {*before, *now} if before.get(path) != now.get(path)} <= {"etc/ringfree/node"}


def test_a_deadman_that_is_at_work_is_left_to_end_it(back):
    """The journal says local already, and the process that brought the node back has not ended yet."""
    back.minion().modules["ringfree_deadman.arm"](4102444800)
    pid = os.getppid()
    text = {"what": "ringfree_rollback.fire", "pid": pid, "born": ringfree_command.born(pid), "since": 1.0}
    (back.folder / "run").mkdir(exist_ok=True)
    (back.folder / "run/deadman").write_text(json.dumps(text))
    live = dry_live_again(back)
    clean(live)
    assert "ends its work just now" in live[DEADMAN]["comment"]
    (back.folder / "run/deadman").unlink()
    assert dry_live_again(back)[DEADMAN]["changes"]


@pytest.mark.parametrize("where", ["on_nfs", "back"])
def test_what_an_older_version_left_open_is_closed(request, where):
    """The snapshot, whole and dated, the journal, the lists of changed files."""
    node = request.getfixturevalue(where)
    (node.folder / "var/changed/20260226-0210").mkdir(parents=True)
    (node.folder / "var/changed/20260226-0210/101").write_text(">f.st etc/shadow\n")
    paths = [
        "var",
        "var/journal.json",
        "var/changed",
        "var/changed/20260226-0210",
        "var/changed/20260226-0210/101",
    ]
    for snapshot in ("etc/sysconfig/vz-scripts.tar.gz", "etc/vz/vz.conf.before-nfs"):
        shutil.copy(node.folder / snapshot, f"{node.folder / snapshot}.20260101-020000")
        paths += [snapshot, f"{snapshot}.20260101-020000"]
    for path in paths:
        place = node.folder / path
        place.chmod(0o755 if place.is_dir() else 0o644)
    live = dry_live_again(node)[MODES]
    assert live["result"] is True
    assert {os.path.relpath(path, node.folder) for path in live["changes"]} == set(paths)
    assert all((node.folder / path).stat().st_mode & 0o077 == 0 for path in paths)


def test_drift_on_a_local_node_is_none_of_ours(back):
    line(back.vz_conf, "DISK_QUOTA", "no")
    line(back.conf(101), "VE_PRIVATE", "/elsewhere/101")
    clean(dry_live_again(back))


def test_a_fence_of_somebody_else_stays(back):
    path = back.folder / "etc/vz/conf/vps.premount"
    path.write_text("#!/bin/sh\nexit 0\n")
    clean(dry_live_again(back))
    assert path.exists()


def test_a_mount_that_was_left_is_reported_and_nothing_that_depends_on_it_goes(back):
    mount = back.pillar["shares"]["private"]["mount"]
    back.minion().modules["ringfree_nfs.mount"](f"{SERVER}:/rf-images/pbx", mount)
    back.minion().modules["ringfree_guard.fence"]()
    live = dry_live_again(back)
    assert live[UNUSED]["result"] is False
    assert f"{mount} is mounted from {SERVER}:/rf-images/pbx" in live[UNUSED]["comment"]
    assert live[NO_FENCE]["result"] is False and not live[NO_FENCE]["changes"]
    assert (back.folder / "etc/vz/conf/vps.premount").exists()


def test_a_lost_journal_makes_no_local_node(on_nfs):
    """The journal is gone, and mounts and confs say otherwise: fstab and fence stay, and there is a way out."""
    (on_nfs.folder / "var/journal.json").unlink()
    before = files(on_nfs)
    live = dry_live_again(on_nfs)
    assert live[UNUSED]["result"] is False
    assert "cloudstor.recover_journal" in live[UNUSED]["comment"]
    assert files(on_nfs) == before
    assert on_nfs.minion().modules["cloudstor.recover_journal"]() == "nfs"
    clean(dry_live_again(on_nfs))


# --- nothing is touched -----------------------------------------------------------------------------------------------


def only(node, word):
    """One state, which fails and says why; nothing is touched."""
    before = node.tree()
    for test in (True, False):
        (result,) = highstate(node, test)
        assert result["result"] is False
        assert word in result["comment"], result["comment"]
        assert "Traceback" not in result["comment"]
        assert node.tree() == before
    return result["comment"]


def test_a_damaged_journal(on_nfs):
    (on_nfs.folder / "var/journal.json").write_text('{"version": 1')
    line(on_nfs.vz_conf, "DISK_QUOTA", "yes")
    assert "cloudstor.recover_journal" in only(on_nfs, "is damaged")


def test_a_wrong_pillar_lists_every_fault(on_nfs):
    on_nfs.pillar["nfs"]["use"] = "third"
    on_nfs.pillar["bach"] = 1
    said = only(on_nfs, "the pillar is wrong")
    assert "ringfree:nfs:use" in said and "ringfree:bach: unknown key" in said


def test_a_minion_that_the_pillar_does_not_name_gets_nothing(fleet):
    fleet.pillar["nodes"] = ["node002"]
    before = fleet.tree()
    (result,) = highstate(fleet)
    assert "No Top file" in result["comment"]
    assert fleet.tree() == before


@each_step(first="vz.packages_updated", last="cloudstor.committed")
def test_h22_a_node_in_flight_is_left_alone_at_every_step(fleet, step):
    """One sentence before each step of a migration, until the commit; not even what drifts is touched."""
    bring(fleet, step)
    before = fleet.tree()
    for test in (True, False):
        (result,) = highstate(fleet, test)
        assert (result["result"], result["changes"]) == (True, {})
        assert "node001 is in flight and left alone until" in result["comment"]
    assert fleet.tree() == before


def test_h22_a_node_that_was_just_migrated_is_as_declared(fleet):
    bring(fleet, len(STEPS))
    (fleet.folder / "etc/ringfree/ssh/id_ed25519").chmod(0o600)
    (fleet.folder / "etc/fstab").write_text(ROOT_DISK)
    clean(run(fleet, sls="ringfree.fstab"), but=[FSTAB])
    clean(dry_live_again(fleet))


def test_h22_a_highstate_after_any_step_of_the_way_back_changes_nothing(on_nfs, monkeypatch):
    """The way back is in the hands of a process: whatever the journal says, the node is left alone until its end."""
    told = []

    def look(tag, data):
        if data["phase"] != "intent" or data["step"] in told:
            return
        told.append(data["step"])
        before = on_nfs.tree()
        (result,) = highstate(on_nfs)
        assert (result["result"], result["changes"]) == (True, {}), result["comment"]
        assert "left alone" in result["comment"]
        assert on_nfs.tree() == before

    on_nfs.minion().modules["event.send"] = look
    result = apply(on_nfs, "ringfree_rollback.rolled_back")
    assert result["result"] is True, result["comment"]
    assert len(told) > 10
    clean(dry_live_again(on_nfs))


def test_a_state_of_the_wrong_store_leaves_the_node_alone(on_nfs):
    """What was rendered for a node that rests may run when it does not any more."""
    journal = on_nfs.folder / "var/journal.json"
    line(on_nfs.vz_conf, "DISK_QUOTA", "yes")
    before = on_nfs.vz_conf.read_text()
    for state, said in (("in_flight", "left alone"), ("local", "Left alone: the node is on local storage")):
        edit(journal, lambda told, state=state: told.update(state=state))
        result = apply(on_nfs, "ringfree_keep.vz_conf")
        assert (result["result"], result["changes"]) == (True, {})
        assert said in result["comment"]
    assert on_nfs.vz_conf.read_text() == before


def test_a_commit_without_its_lines_in_fstab_does_not_happen(fleet):
    """fstab is a file of its own now: what fails there still stops the commit."""
    (fleet.folder / "etc/fstab").write_text("# ringfree: mounts of the SAN, managed by Salt\nno end\n")
    until(fleet, "ringfree_start.load_normal")
    results = run(fleet, sls="ringfree.commit")
    assert results[FSTAB]["result"] is False
    assert results["The node stays on NFS"]["result"] is False
    assert fleet.minion().modules["ringfree_journal.state"]() == "in_flight"
    (fleet.folder / "etc/fstab").write_text(ROOT_DISK)
    results = run(fleet, sls="ringfree.commit")
    assert [result["result"] for result in results.values()] == [True] * 5
    assert next(iter(results)) == "The load is back to normal"
    assert fleet.minion().modules["ringfree_journal.state"]() == "nfs"
