"""
Owner records on the share: which node may start a container, and on which store its live copy is.

One small file per container, ``.ringfree/owner/<ctid>`` on the private share, made of ``key=value`` lines so that the
fence (a shell script) can read it too::

    node=node001
    store=nfs
    since=2026-02-26T02:10:00Z
    generation=3
    copied=365000000
"""

import time

FOLDER = ".ringfree/owner"
#: vps.premount: refuses to mount what another node owns, or a container whose live copy is on the other store.
#: It works without Salt and Python: with vzctl, a POSIX shell and the share.  vzctl makes exit code 79 of any failure.
FENCE = """#!/bin/sh
# ringfree fence: managed by Salt. vzctl runs it before every mount, with VEID and VE_CONFFILE.
# It refuses a container that another node owns, or whose live copy is on the other store.
share=@SHARE@
me=$(cat /etc/ringfree/node) || exit 1

value() { # value KEY FILE: what vzctl reads, its first assignment
    sed -n "s/^$1=//p" "$2" 2>/dev/null | sed -n '1{s/^"//;s/".*$//;p;}'
}

private=$(value VE_PRIVATE "$VE_CONFFILE")
[ -n "$private" ] || private=$(value VE_PRIVATE /etc/vz/vz.conf)
case $private in
    "$share"/*) store=nfs ;;
    *) store=local ;;
esac

record=$share/.ringfree/owner/$VEID
if [ ! -f "$record" ]; then
    [ $store = local ] && exit 0
    echo "ringfree: container $VEID has no owner record in $share/.ringfree/owner; is the share mounted?" >&2
    exit 1
fi
owner=$(value node "$record")
live=$(value store "$record")
if [ "$owner" != "$me" ]; then
    echo "ringfree: container $VEID belongs to $owner, not to $me; not mounted" >&2
    exit 1
fi
if [ "$live" != $store ]; then
    echo "ringfree: the live copy of container $VEID is on $live, this one ($private) is old; not mounted" >&2
    exit 1
fi
exit 0
"""
KEYS = ("node", "store", "since", "generation", "copied")


def record(node, store, now, before=None, copied=None):
    """
    The record for a new owner or store.

    node
        The owning node's minion id.

    store
        ``local`` or ``nfs``: where the live copy is.

    now
        Seconds since the epoch.

    before : None
        The record until now; its generation is counted up.

    copied : None
        Bytes of the container that are on the share already; ``None`` keeps what the old record says.

    Returns the record as a dictionary of text.
    """
    before = before or {}
    return {
        "node": node,
        "store": store,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "generation": str(int(before.get("generation", "0")) + 1),
        "copied": str(before.get("copied", "0") if copied is None else copied),
    }


def dump(owner):
    """
    A record as the text of its file.

    owner
        The record.

    Returns bytes.
    """
    return "".join(f"{key}={owner[key]}\n" for key in KEYS).encode()


def load(data):
    """
    Read a record's file.

    data
        Bytes.

    Returns the record.  Raises ValueError for a damaged one: an owner that cannot be read is no free container.
    """
    lines = data.decode("utf-8", "replace").splitlines()
    owner = dict(line.split("=", 1) for line in lines if "=" in line)
    missing = [key for key in KEYS if not owner.get(key)]
    if missing:
        raise ValueError(f"the owner record lacks {', '.join(missing)}")
    if (
        owner["store"] not in ("local", "nfs")
        or not owner["generation"].isdecimal()
        or not owner["copied"].isdecimal()
    ):
        raise ValueError("the owner record is damaged")
    return owner


def objection(owner, node):
    """
    Why a node may not copy its local private area over the share's copy.

    owner
        The record on the share, or ``None``.

    node
        The node that wants to copy.

    Returns text, or ``None`` when it may.
    """
    if owner is None:
        return None
    if owner["node"] != node:
        return f"belongs to {owner['node']} since {owner['since']}"
    if owner["store"] == "nfs":
        return f"has its live copy on the share since {owner['since']}; its local copy is old"
    return None


def fence(share):
    """
    The fence script for a node.

    share
        Where the private share is mounted, such as ``/vz/nfsprivate``.

    Returns the script's text.
    """
    return FENCE.replace("@SHARE@", share)
