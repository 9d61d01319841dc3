#!/bin/bash
# The runbook of the night as an admin types it, on one node: lab/bench measures the migration against it.
# Copies made in the days before are made by `runbook.sh before`; `runbook.sh night` is what containers are down for.
# usage: runbook.sh before|night SAN
# shellcheck disable=SC2013,SC2016 # the admin's own way of writing loops; $VEID is for vzctl
set -eu
san=$2
ssh="ssh -i /etc/ringfree/ssh/id_ed25519 -o UserKnownHostsFile=/etc/ringfree/ssh/known_hosts"
list=/etc/ringfree/manifest.tmp

copy() {
    for i in $(cat $list); do
        rsync -avz -e "$ssh" --delete "/vz/private/$i/" "root@$san:/rf-images/pbx/$i" >/dev/null
    done
}

before() {
    vzlist -H -o ctid | tr -d ' ' >$list
    copy || [ $? -eq 24 ]
    rsync -a -e "$ssh" /etc/sysconfig/vz-scripts/ "root@$san:/rf-images/vzconf/"
}

night() {
    for i in $(cat $list); do vzctl stop "$i"; done
    sed -i -e 's|^VE_ROOT=.*|VE_ROOT=/vz/nfsroot/$VEID|' -e 's|^VE_PRIVATE=.*|VE_PRIVATE=/vz/nfsprivate/$VEID|' \
        -e 's|^DISK_QUOTA=.*|DISK_QUOTA=no|' /etc/vz/vz.conf
    copy
    for i in $(cat $list); do
        sed -i -e '/^VE_ROOT=/d' -e '/^VE_PRIVATE=/d' "/etc/sysconfig/vz-scripts/$i.conf"
        printf 'VE_ROOT="/vz/nfsroot/$VEID"\nVE_PRIVATE="/vz/nfsprivate/$VEID"\n' >>"/etc/sysconfig/vz-scripts/$i.conf"
    done
    rsync -a -e "$ssh" /etc/sysconfig/vz-scripts/ "root@$san:/rf-images/vzconf/"
    mkdir -p /vz/nfsprivate /vz/nfsroot
    sed -i 's/^ONBOOT=.*/ONBOOT="no"/' /etc/sysconfig/vz-scripts/*.conf # or the restart starts them half switched
    service vz restart
    mount -t nfs -o vers=3,hard,nolock "$san:/rf-images/vzconf" /etc/sysconfig/vz-scripts
    mount -t nfs -o vers=3,hard,nolock "$san:/rf-images/pbxroot" /vz/nfsroot
    mount -t nfs -o vers=3,hard,nolock "$san:/rf-images/pbx" /vz/nfsprivate
    for i in $(cat $list); do vzctl start "$i"; done
    for i in $(cat $list); do
        until vzctl exec "$i" asterisk -rx core\\ show\\ version >/dev/null; do :; done
    done
}

"$1"
