"""What names the old places of containers as text, beside the confs: found before anything stops."""

import pytest
from migration_steps import until


@pytest.fixture
def look(fleet):
    """`look()` is what preflight finds of it; 101, 102 and 104 run and are to move, 103 stays."""
    return lambda: fleet.minion().modules["ringfree_mentions.old_places"]()


def write(node, path, text):
    """A file of the node; `@` in its text is where the node's files are."""
    file = node.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("@", str(node.folder)))
    return file


def test_nothing_is_named_on_a_node_without_such_things(look):
    assert look() == {"findings": [], "notes": []}


SILENT = """#!/bin/bash
DST=@/vz/root/101/var/spool/shared
if [ ! -e $DST ]; then mkdir -p $DST; fi
mount -n --bind /srv/voicemail $DST
exit 0
"""


@pytest.mark.parametrize("action", ["premount", "mount", "umount", "postumount"])
@pytest.mark.parametrize(
    ("name", "text", "line", "what"),
    [
        ("101", SILENT, 2, "the old root of container 101"),
        (
            "101",
            "#!/bin/sh\nmount -n --bind /srv/voicemail @/vz/root/101/var/spool\n",
            2,
            "the old root of container 101",
        ),
        ("101", "#!/bin/sh\nmount --bind /srv/x @/vz/root/${VEID}/x\n", 2, "the old root of container 101"),
        (
            "101",
            "#!/bin/sh\ncp @/vz/private/102/etc/hosts $VE_ROOT/etc\n",
            2,
            "the old private area of container 102",
        ),
        (
            "103",
            "#!/bin/sh\n\ncp @/vz/private/102/etc/hosts $VE_ROOT/etc\n",
            3,
            "the old private area of container 102",
        ),
        ("vps", "#!/bin/sh\nmount --bind /srv/x @/vz/root/$VEID/x\n", 2, "the directory of the old roots"),
        ("vps", "#!/bin/sh\nALL=@/vz\nls $ALL/private\n", 3, "the directory of the old private areas"),
    ],
)
def test_h39_an_action_script_with_an_old_place_stops_the_migration(
    fleet, look, action, name, text, line, what
):
    file = write(fleet, f"etc/vz/conf/{name}.{action}", text)
    report = look()
    (said,) = report["findings"]
    assert said.startswith(f"{fleet.folder}/etc/vz/conf/{file.name}:{line}") and what in said
    assert "what it does there is not in the container" in said and "$VE_" in said
    assert report["notes"] == []


def test_h39_what_an_action_script_runs_counts_as_well(fleet, look):
    write(fleet, "etc/vz/conf/scripts/lib.sh", "#!/bin/sh\nROOT=@/vz/root/$VEID\n")
    write(fleet, "opt/mount-it", "#!/bin/sh\n. @/etc/vz/conf/scripts/lib.sh\n")
    write(fleet, "etc/vz/conf/102.mount", "#!/bin/sh\nexec @/opt/mount-it\n")
    write(fleet, "etc/vz/conf/103.mount", "#!/bin/sh\nexec /bin/true\n")
    (said,) = look()["findings"]
    assert said.startswith(
        f"{fleet.folder}/etc/vz/conf/scripts/lib.sh:2, which {fleet.folder}/etc/vz/conf/102.mount runs"
    )


def test_h39_a_place_by_another_name_is_the_same_place(fleet, look):
    (fleet.folder / "data").symlink_to("vz")
    write(fleet, "etc/vz/conf/101.mount", "#!/bin/sh\nls @/data/private/101\n")
    assert "101.mount:2 names" in look()["findings"][0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "101.mount",
            "#!/bin/sh\n. /etc/vz/vz.conf\n. $VE_CONFFILE\nmount --bind /srv/voicemail $VE_ROOT/var/spool\n",
        ),
        ("101.mount", "#!/bin/sh\n# once @/vz/root/101\necho mounting @/vz/root/101\n"),
        ("101.mount", "#!/bin/sh\nmount --bind @/vz/private/common $VE_ROOT/common\n"),
        (
            "101.mount",
            "#!/bin/sh\nls @/vz/private2/101 @/vz/nfsprivate/101 @/vz/private-nfs @/vz/private/103\n",
        ),
        ("103.mount", "#!/bin/sh\nmount --bind /srv/x @/vz/root/$VEID/x\n"),
        ("103.mount", "#!/bin/sh\nmount --bind /srv/x @/vz/root/103/x\n"),
        ("999.mount", SILENT),  # no container has this id
        ("101.mount.destroyed", SILENT),
        ("101.mount~", SILENT),
        ("notes.txt", SILENT),
    ],
)
def test_what_does_no_harm_is_not_named(fleet, look, name, text):
    write(fleet, f"etc/vz/conf/{name}", text)
    assert look() == {"findings": [], "notes": []}


def test_what_runs_inside_the_container_is_a_note(fleet, look):
    write(fleet, "etc/vz/conf/101.start", "#!/bin/sh\ntouch @/vz/root/101/x\n")
    report = look()
    assert report["findings"] == [] and "101.start:2" in report["notes"][0]
    assert "it runs inside the container" in report["notes"][0]


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("etc/cron.d/backup", "# backup\n0 3 * * * root rsync -a @/vz/private/ backup:/vz/private/\n", 2),
        ("etc/crontab", "0 3 * * * root tar -C@/vz/private -cf /srv/x.tar 101\n", 1),
        ("var/spool/cron/root", "0 3 * * * cd @/vz/private/101 && ls\n", 1),
        ("etc/cron.daily/count", "#!/bin/sh\ndu -sh @/vz/private/*\n", 2),
        ("etc/systemd/system/backup.service", "[Service]\nExecStart=/usr/bin/tar cf /x @/vz/private\n", 2),
        ("etc/systemd/system/x.service.d/env.conf", "[Service]\nEnvironment=SRC=@/vz/private/%i\n", 2),
        ("etc/init.d/watch", "#!/bin/sh\nDIR=@/vz/root/101/var/log\n", 2),
        ("etc/rc.local", "ls @/vz/root/101\n", 1),
        ("etc/logrotate.d/pbx", "@/vz/root/101/var/log/asterisk/*.log {\n weekly\n}\n", 1),
        ("etc/rsnapshot.conf", "backup\t@/vz/private/\tlocalhost/\n", 1),
        ("etc/fail2ban/jail.d/pbx.local", "[pbx]\nlogpath = @/vz/root/102/var/log/full\n", 2),
        ("etc/fstab", "@/vz/private/101/srv /srv/pbx none bind 0 0\n", 1),
    ],
)
def test_h39_what_would_go_on_with_an_old_copy_is_a_note(fleet, look, path, text, line):
    write(fleet, path, text)
    report = look()
    (said,) = report["notes"]
    assert (
        said.startswith(f"{fleet.folder}/{path}:{line} names {fleet.folder}/vz/") and "after the move" in said
    )
    assert report["findings"] == []


def test_h39_a_script_that_cron_runs_is_read_as_well(fleet, look):
    write(
        fleet,
        "root/bin/backup.sh",
        "#!/bin/sh\nTO=/srv/backup\nfor ct in @/vz/private/*; do\n rsync $ct $TO\ndone\n",
    )
    write(fleet, "etc/cron.d/backup", "0 3 * * * root @/root/bin/backup.sh\n")
    write(fleet, "etc/cron.d/other", "0 4 * * * root @/root/bin/backup.sh -v\n")
    (said,) = look()["notes"]
    assert said.startswith(
        f"{fleet.folder}/root/bin/backup.sh:3, which {fleet.folder}/etc/cron.d/backup runs, names"
    )


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        (
            "etc/fstab",
            "/dev/sda1 / ext4 defaults 0 1\n/srv/voicemail @/vz/root/101/var/spool none bind 0 0",
            2,
        ),
        ("etc/rc.local", "mount --bind /srv/voicemail @/vz/root/101/var/spool\n", 1),
        ("etc/systemd/system/x.mount", "[Mount]\nWhat=/srv/voicemail\nWhere=@/vz/root/101/var/spool\n", 3),
        (
            "etc/cron.d/mounts",
            "@reboot root sleep 60; /bin/mount -B /srv/x \\\n @@/vz/root/101/x\n".replace("@@", "@"),
            2,
        ),
    ],
)
def test_h39_what_is_mounted_into_an_old_root_stops_the_migration(fleet, look, path, text, line):
    file = write(fleet, path, "")
    file.write_text(text.replace("@/", f"{fleet.folder}/"))
    report = look()
    (said,) = report["findings"]
    assert said.startswith(f"{file}:{line} mounts something on {fleet.folder}/vz/root/101")
    assert "would be missing in the container" in said and report["notes"] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "etc/fstab",
            "/dev/sdb1 @/vz ext4 defaults 0 2\n/dev/sdb2 @/vz/private ext4 defaults 0 2\ntmpfs @/vz/root tmpfs\n",
        ),
        (
            "etc/fstab",
            "#/srv/voicemail @/vz/root/101/var/spool none bind\n/dev/vg/ct @/vz/private/101 ext4 defaults\n",
        ),
        ("etc/fstab", "10.0.0.1:@/vz/private/101 /mnt nfs defaults\n/srv/x @/vz/root/103/x none bind\n"),
        ("etc/cron.d/backup.rpmsave", "0 3 * * * root ls @/vz/private/101\n"),
        ("etc/cron.d/backup", "0 3 * * * root rsync -a other:@/vz/private/101/ /srv\n"),
        ("etc/logrotate.d/vzctl", "/var/log/vzctl.log {\n weekly\n}\n"),
        (
            "etc/init.d/vz",
            "#!/bin/sh\n. @/etc/vz/vz.conf\ncat @/etc/vz/conf/101.conf @/etc/vz/conf/ve-x.conf-sample\n",
        ),
        ("etc/rc.local", "ls @/vz/private/common @/vz/template\n"),
    ],
)
def test_what_does_no_harm_on_the_node_is_not_named(fleet, look, path, text):
    write(fleet, "etc/vz/conf/ve-x.conf-sample", 'VE_PRIVATE="@/vz/private/$VEID"\n')
    write(fleet, path, text)
    assert look() == {"findings": [], "notes": []}


def test_files_that_cannot_be_read_as_text_are_left_out(fleet, look):
    (fleet.folder / "etc/cron.d/binary").write_bytes(
        b"\0\xff" + str(fleet.folder / "vz/private/101").encode()
    )
    (fleet.folder / "etc/cron.d/loop").symlink_to("loop")
    (fleet.folder / "etc/vz/conf/101.mount").mkdir()
    (fleet.folder / "etc/cron.d/large").write_text(f"ls {fleet.folder}/vz/private\n" * 20000)
    assert look() == {"findings": [], "notes": []}


def test_h39_the_advice_is_good_before_and_after_the_move(fleet, look):
    """Word by word: the script that a finding asks for mounts below the root of its container on either store."""
    script = write(fleet, "etc/vz/conf/101.mount", SILENT)
    (said,) = look()["findings"]
    assert f"'. {fleet.vz_conf}; . $VE_CONFFILE', then $VE_ROOT" in said
    script.write_text(
        f"#!/bin/sh\n. {fleet.vz_conf}; . $VE_CONFFILE\necho $VE_ROOT >>{fleet.folder}/var/seen\n"
    )
    assert look() == {"findings": [], "notes": []}
    fleet.rule("vzctl.start.101", f"VEID=$ctid VE_CONFFILE=$conf sh {fleet.folder}/etc/vz/conf/101.mount")
    until(fleet, "ringfree_start.load_normal")
    assert (fleet.folder / "var/seen").read_text().split() == [f"{fleet.folder}/vz/nfsroot/101"]
