"""A night on a node that has all at once what is odd and does no harm: there, a second run, a highstate, and back.

What is odd is made by shell commands as an admin would type them; what must have become of it is asked the same way."""

import json

import checker
import local_side
import pytest
from drift import highstate, unlike
from fleet_under_test import changed, everything, migrate, minion_answers

FLEET = {"nodes": 1, "cts": 7}
MINUTES = 3
NODE = "node001"
STOPPED = 107
LINKED, BEHIND = 102, "/srv/disk2/alpha"

#: Bind mounts what the container shares with the node, by its own variables, and leaves a loop behind that never ends.
MOUNT_SCRIPT = """#!/bin/bash
. /etc/vz/vz.conf
. "$VE_CONFFILE"
. /etc/vz/conf/helpers/log.inc
mkdir -p "$VE_ROOT/mnt/extra"
mount -n --bind /srv/extra "$VE_ROOT/mnt/extra" || exit 1
(while sleep 60; do :; done) >/dev/null 2>&1 &
log "$VEID"
"""

#: What the root of a container can have in its tree.
TREE = r"""
import os, socket, sys
os.chdir(sys.argv[1])
os.mkdir("odd")
os.chdir("odd")
for name in (b"caf\xe9", b"two\nlines", b"n" * 255, b"-rf", b" ", b"\x1b[31m", b"%s $(id) `id`", b"* ?"):
    with open(name, "wb") as stream:
        stream.write(name)
with open("sparse", "wb") as stream:
    stream.truncate(1 << 28)
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
os.symlink("/etc/shadow", "absolute")
os.symlink("../../../../..", "outside")
os.symlink("nowhere", "dangling")
os.link("pipe", "second name")
os.chmod("second name", 0)
handle = os.open(".", os.O_RDONLY)
for _ in range(1100):
    os.mkdir("d", dir_fd=handle)
    below = os.open("d", os.O_RDONLY, dir_fd=handle)
    os.close(handle)
    handle = below
print("null")
"""

#: What is odd, and the shell command on the node that makes it so.
ODD = {
    "two containers without a NAME have one HOSTNAME": "cd /etc/vz/conf && sed -i /^NAME=/d 106.conf 107.conf && "
    "sed -i 's/^HOSTNAME=.*/HOSTNAME=\"ct106.ringfree.biz\"/' 107.conf && rm /etc/vz/names/customer-10[67]",
    "a HOSTNAME is no UTF-8": "cd /etc/vz/conf && sed -i /^HOSTNAME=/d 103.conf && "
    r"""printf 'HOSTNAME="ct103-caf\351.biz"\n' >>103.conf""",
    "a key stands twice with one value": "grep ^NAMESERVER= /etc/vz/conf/101.conf >>/etc/vz/conf/101.conf.2 && "
    "cat /etc/vz/conf/101.conf.2 >>/etc/vz/conf/101.conf && rm /etc/vz/conf/101.conf.2",
    "a conf has lines that vzctl ignores": r"""printf '="/x/a"\nVERBOSE="perhaps"\n' >>/etc/vz/conf/102.conf""",
    "a stopped container has no paths in its conf": "sed -i '/^VE_ROOT=/d;/^VE_PRIVATE=/d' "
    f"/etc/vz/conf/{STOPPED}.conf",
    "beside the confs lie notes and an old copy": r"""cd /etc/vz/conf && echo n >"$(printf 'notes-f\374r-105.txt')" """
    "&& cp -a 101.conf 101.conf.orig && cp -a 102.conf 977.conf.destroyed && echo s >.103.conf.swp",
    "an action script reads a subdirectory": "mkdir /etc/vz/conf/helpers && "
    "echo 'log() { echo \"$1\" >>/var/log/mounted; }' >/etc/vz/conf/helpers/log.inc",
    "an action script mounts what the node has": "mkdir -p /srv/extra && echo extra >/srv/extra/file",
    "a private area is a link": f"vzctl stop {LINKED} && mkdir -p /srv/disk2 && "
    f"mv /vz/private/{LINKED} {BEHIND} && ln -s {BEHIND} /vz/private/{LINKED}",
    "a private area is a mount of its own": "vzctl stop 105 && mkdir -p /srv/disk3 && "
    "cp -a /vz/private/105/. /srv/disk3/ && chmod --reference=/vz/private/105 /srv/disk3 && "
    "mount --bind /srv/disk3 /vz/private/105",
    "fstab ends without a newline": "printf '# by hand' >>/etc/fstab",
    "vz.conf is a link": "mv /etc/vz/vz.conf /etc/vz/site.conf && ln -s site.conf /etc/vz/vz.conf",
    "a backup and a unit name the old places": "echo '0 4 * * * root tar cz /vz/private >/root/b.tgz' "
    ">/etc/cron.d/backup && echo '/vz/private/101 10.0.0.9(ro)' >>/etc/exports",
    "settings of Salt that bend results elsewhere": "printf 'failhard: True\\ntest: True\\nstate_output: terse\\n"
    "state_verbose: False\\nmultiprocessing: False\\n' >/etc/salt/minion.d/site.conf && "
    "systemctl restart salt-minion",
}
MASTER = (
    "failhard: True\nstate_aggregate: True\nstate_events: True\nstate_output: changes\nstate_verbose: False\n"
)


@pytest.fixture(scope="module")
def before(lab):
    """The node with all that is odd about it, and its containers with what they have since their last start."""
    lab.write("master", "/etc/salt/master.d/site.conf", MASTER)
    lab.on("master", "systemctl", "restart", "salt-master")
    lab.on("san1", "mkdir", "-p", "/rf-images/pbx/.ringfree/owner")
    lab.ask(NODE, TREE, "/vz/private/103")
    for made in ODD.values():
        lab.on(NODE, "sh", "-ec", made)
    lab.write(NODE, "/etc/vz/conf/101.mount", MOUNT_SCRIPT, "0755")
    lab.on(NODE, "systemctl", "restart", "vz")  # containers have what vz gives them, and not this shell's
    lab.on(NODE, "vzctl", "stop", str(STOPPED))
    minion_answers(lab, NODE)
    assert extra(lab) == "extra\n"
    return checker.remember(lab, [NODE])


def extra(lab):
    """What 101 sees of the node's directory."""
    return lab.on(NODE, "vzctl", "exec", "101", "cat /mnt/extra/file")


def where(lab):
    """Container id to status and private area, as vzctl lists them."""
    lines = lab.on(NODE, "vzlist", "-a", "-H", "-o", "ctid,status,private").splitlines()
    return {int(line.split()[0]): line.split()[1:3] for line in lines}


@pytest.fixture(scope="module")
def found(lab, before):
    """What preflight says, with what it changed."""
    then = everything(lab, [NODE])
    code, said = lab.salt_run("ringfree.preflight")
    return code, said, changed(then, everything(lab, [NODE]))


def test_preflight_finds_nothing_and_notes_what_goes_on_with_old_copies(found):
    code, said, changes = found
    assert (code, changes) == (0, []), said
    for note in ("/etc/cron.d/backup:1", "/etc/exports:1"):
        assert note in said


@pytest.fixture(scope="module")
def moved(lab, found):
    """The night."""
    return migrate(lab)


def test_the_node_moves_with_all_that_is_odd(lab, before, moved):
    assert moved.code == 0, str(moved)
    wanted = {ctid: ["running", f"/vz/nfsprivate/{ctid}"] for ctid in range(101, 107)}
    assert where(lab) == {**wanted, STOPPED: ["stopped", f"/vz/private/{STOPPED}"]}
    after = checker.remember(lab, [NODE])
    assert checker.check_inits(before, after) == []
    # What an editor has open stays under the share, and is there again when it is unmounted.
    assert checker.check_confs(before[NODE], after[NODE]) == [".103.conf.swp is gone"]
    assert extra(lab) == "extra\n"


def test_copies_are_what_the_containers_had(lab, before, moved):
    found, _ = checker.trees(lab, NODE, [ctid for ctid in before[NODE]["running"] if ctid != LINKED])
    local, copy = lab.ask(NODE, checker.TREE, BEHIND)[BEHIND], f"/rf-images/pbx/{LINKED}"
    found += checker.differences(local, lab.ask("san1", checker.TREE, copy)[copy])
    assert [text for text in found if "'odd/" in text or "'root/own'" in text] == []


def test_a_second_run_and_a_highstate_have_nothing_to_do(lab, moved):
    then = everything(lab, [NODE])
    run = migrate(lab)
    assert run.code == 0, str(run)
    assert unlike(highstate(lab, NODE)) == {}
    assert changed(then, everything(lab, [NODE])) == []


def test_the_way_back_brings_everything_home(lab, before, moved):
    lab.write(NODE, "/vz/nfsprivate/103/odd/since", "on NFS\n")
    words = json.dumps({"nodes": [NODE], "data": "sync_back"})
    command = lab.start("salt-run", "state.orch", "rollback", f"pillar={words}", "--out=json")
    assert command.wait() == 0, command.err
    lab.on(NODE, "truncate", "-s", "-1", "/etc/fstab")  # its last line has an end now
    assert local_side.faults(lab, NODE, before[NODE]) == []
    assert lab.on(NODE, "cat", "/vz/private/103/odd/since") == "on NFS\n"
    assert extra(lab) == "extra\n"
    links = lab.on(NODE, "readlink", f"/vz/private/{LINKED}", "/etc/vz/vz.conf").split()
    assert links == [BEHIND, "site.conf"]
