"""What drifts on a node that has moved, by hand and on purpose; and what a highstate says of it on the lab."""

import json

FSTAB, BOOT = "The mounts come back after a reboot", "vz starts only with its store"
SSH, DEADMAN = "The SAN can be reached over ssh", "The node does not go back by itself"
VARIABLES, FENCE = "The variables in /etc/ringfree are right", "The fence stands"
VZ_CONF, CONFS = "New containers are born on the share", "The containers live on the share"
PREMOUNT, CREATE = "/etc/vz/conf/vps.premount", "/etc/vz/conf/vps.create"
DROP_IN = "/etc/systemd/system/vz.service.d/ringfree.conf"
MADE_LATER = r"""
cd /vz/nfsprivate/.ringfree/owner
printf 'node=node001\nstore=nfs\nsince=2026-02-26T02:10:00Z\ngeneration=1\ncopied=0\n' >109
cd /etc/vz
printf 'ONBOOT="no"\nHOSTNAME="ct109"\nOSTEMPLATE="centos-6-x86_64"\n' >conf/109.conf
"""
#: Hand-made, in three rounds: what a colleague with an editor, a killed commit and a careless restore leave behind. For
#: each what was done, in /etc/vz, the state that corrects it, and what that changes.
DRIFTS = {
    "with an editor": {
        "vz.conf has quota on": ("sed -i 's/^DISK_QUOTA=.*/DISK_QUOTA=\"yes\"/' vz.conf", VZ_CONF, "DISK_QUOTA"),
        "vz.conf has other roots": ("sed -i 's#/vz/nfsroot/#/vz/root/#' vz.conf", VZ_CONF, "VE_ROOT"),
        "the guard was left": ("echo 'DISABLED=\"yes\"' >>vz.conf", VZ_CONF, "DISABLED"),
        "101 has lost its quota": ("sed -i /^DISK_QUOTA=/d conf/101.conf", CONFS, "101"),
        "102 has quota on": ("sed -i 's/^DISK_QUOTA=.*/DISK_QUOTA=\"yes\"/' conf/102.conf", CONFS, "102"),
        "the fence cannot be run": (f"chmod 0644 {PREMOUNT}", FENCE, PREMOUNT),
        "the fence does not know the node": ("rm /etc/ringfree/node", FENCE, "/etc/ringfree/node"),
        "a variable is missing": ("rm /etc/ringfree/nfsvzstor", VARIABLES, "nfsvzstor"),
        "nothing is said to be mounted": ("echo 0 >/etc/ringfree/nfsmounted", VARIABLES, "nfsmounted"),
        "everybody can read the key": ("chmod 0644 /etc/ringfree/ssh/id_ed25519", SSH, "/etc/ringfree/ssh/id_ed25519"),
        "fstab has lost our lines": ("sed -i '/^# ringfree: m/,/^# ringfree: e/d' /etc/fstab", FSTAB, "diff"),
        "the dead man's switch is armed": ("salt-call ringfree_deadman.arm 4102444800 >/dev/null", DEADMAN, "deadman"),
    },
    "by a killed commit": {
        "vz.conf leads to local disk": ("sed -i 's#/vz/nfsprivate/#/vz/private/#' vz.conf", VZ_CONF, "VE_PRIVATE"),
        "vz.conf has lost its root": ("sed -i /^VE_ROOT=/d vz.conf", VZ_CONF, "VE_ROOT"),
        "101 would inherit its old copy": ("sed -i /^VE_PRIVATE=/d conf/101.conf", CONFS, "101"),
        "102 has lost its layout": ("sed -i /^VE_LAYOUT=/d conf/102.conf", CONFS, "102"),
        "103 has lost its root": ("sed -i /^VE_ROOT=/d conf/103.conf", CONFS, "103"),
        "the fence lets everything through": (f"printf '#!/bin/sh\\nexit 0\\n' >{PREMOUNT}", FENCE, PREMOUNT),
        "new containers get no owner": (f"rm {CREATE}", FENCE, CREATE),
        "a variable names the other SAN": ("echo 10.77.0.22 >/etc/ringfree/nfs", VARIABLES, "nfs"),
        "an address is missing": ("rm /etc/ringfree/nfsip.2", VARIABLES, "nfsip.2"),
        "fstab has other options": ("sed -i '/ nfs /s/hard/soft/' /etc/fstab", FSTAB, "diff"),
        "the dead man's switch left a unit": ("touch /etc/systemd/system/ringfree-deadman.service", DEADMAN, "deadman"),
        "vz does not wait for its store": (f"rm {DROP_IN}", BOOT, DROP_IN),
    },
    "by a careless restore": {
        "vz.conf is that of before": ("cp vz.conf.before-nfs vz.conf", VZ_CONF, "VE_PRIVATE", "VE_ROOT", "DISK_QUOTA"),
        "a container was made later": (MADE_LATER, CONFS, "109"),
        "a stopped one leads to its old copy": (
            "vzctl stop 103 && sed -i 's#/vz/nfsprivate/#/vz/private/#' conf/103.conf", CONFS, "103",
        ),
        "the fence is gone": (f"rm {PREMOUNT}", FENCE, PREMOUNT),
        "a variable is nonsense": ("echo nonsense >/etc/ringfree/nfsvzconf", VARIABLES, "nfsvzconf"),
        "fstab names the other SAN": ("sed -i s/10.77.0.21/10.77.0.22/ /etc/fstab", FSTAB, "diff"),
        "the dead man's switch left half a record": (
            "mkdir /var/lib/ringfree/deadman && echo { >/var/lib/ringfree/deadman/record.json", DEADMAN, "deadman",
        ),
        "vz waits for nothing": (f"echo '[Unit]' >{DROP_IN}", BOOT, DROP_IN),
    },
}  # fmt: skip


def changes_of(lab, node, hand):
    """Let a node drift; returns for each state what it has to change."""
    expected = {}
    for done, state, *keys in DRIFTS[hand].values():
        lab.on(node, "sh", "-ec", f"cd /etc/vz; {done}")
        expected.setdefault(state, set()).update(keys)
    return expected


def highstate(lab, node, *words):
    """Name of a state to what it returned."""
    done = lab.run("salt", node, "state.apply", "--out=json", "--static", *words)
    found = json.loads(done.stdout)[node]
    assert isinstance(found, dict), found
    return {state["__id__"]: state for state in found.values()}


def unlike(states):
    """The states that changed something or failed."""
    return {
        name: (state["result"], state["changes"], state["comment"])
        for name, state in states.items()
        if state["result"] is not True or state["changes"]
    }


def processes(lab, node):
    """Every process in a container: its number and when it began."""
    lines = lab.on(node, "ps", "-eo", "pid=,pidns=,lstart=,comm=").splitlines()
    mine = {line.split()[1] for line in lines if line.split()[0] == "1"}
    inside = (line.split() for line in lines if line.split()[1] not in mine)
    # A container's own cron may begin and end processes; what was there must be there.
    return {(words[0], " ".join(words[2:7])): words[7] for words in inside}
