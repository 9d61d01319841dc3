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

import re
import time

DEADLINE = 30  # seconds that the fence waits for the share
LINE = re.compile(r"^([1-9][0-9]{0,9}) ([A-Za-z0-9][A-Za-z0-9._@-]*)$")
VOID = re.compile(r"^([1-9][0-9]{0,9}) -$")
FOLDER = ".ringfree/owner"
#: vps.premount and vps.create: refuses what another node owns, or a container whose live copy is on the other store.
#: It works without Salt and Python: with vzctl, a POSIX shell, coreutils and the share.  vzctl makes exit code 79 of
#: any failure.
FENCE = r"""#!/bin/sh
# ringfree fence: managed by Salt. vzctl runs it before every mount (vps.premount) and when it has created a container
# (vps.create), with VEID and VE_CONFFILE. It refuses a container that another node owns, or whose live copy is on the
# other store. One on the share that nobody owns becomes this node's.
share=@SHARE@
node=/etc/ringfree/node
list=/etc/ringfree/on-nfs
vzconf=/etc/vz/vz.conf
owners=$share/.ringfree/owner
record=$owners/$VEID

refuse() {
    echo "ringfree: container $VEID $1; refused" >&2
    exit 1
}

value() { # value KEY FILE: what vzctl reads, its first assignment
    sed -n "s/^$1=//p" "$2" 2>/dev/null | sed -n '1{s/^"//;s/".*$//;p;}'
}

# What hangs on the share is left behind, with nothing of ours open but this pipe: not even a kill ends it.
on_share() {
    { (exec </dev/null 2>/dev/null; "$@") & } | timeout @DEADLINE@ cat
}

look() {
    [ ! -d "$owners" ] || echo mounted=yes
    [ ! -e "$record" ] || { echo record=yes && cat "$record"; }
    echo looked=yes
}

# A name for a whole file: of two nodes that do this at the same time, one finds the name taken.
claim() {
    new=$share/.ringfree/claim-$VEID-$me-$$
    printf 'node=%s\nstore=nfs\nsince=%s\ngeneration=1\ncopied=0\n' "$me" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$new" &&
        ln "$new" "$record"
    rm -f "$new"
}

field() { # field KEY: what the share answered
    printf '%s\n' "$answer" | sed -n "s/^$1=//p" | sed -n 1p
}

ask() {
    answer=$(on_share look)
    [ "$(field looked)" = yes ] || refuse "cannot be judged, $share does not answer"
}

me=$(cat $node 2>/dev/null)
[ -n "$me" ] || refuse "cannot be judged, $node does not say which node this is"
private=$(value VE_PRIVATE "$VE_CONFFILE")
[ -n "$private" ] || private=$(value VE_PRIVATE $vzconf)
case $private in
    "$share"/*) store=nfs ;;
    *) store=local ;;
esac

# Known without the share: its local copy does not start, whatever became of the share and of the conf.
check_list() {
    old="what is at $private moves to the share, or is old ('salt-call cloudstor.whereabouts' says more)"
    [ $store = nfs ] || ! grep -qs "^$VEID " $list ||
        refuse "does not start from local disk any more ($list): $old"
}
check_list
ask
check_list # again: the share may have taken its time, and the last copy begun meanwhile
known=$(field record)
if [ -z "$known" ]; then
    [ $store = nfs ] || exit 0
    [ "$(field mounted)" = yes ] || refuse "has no owner record, $owners is not there: is the share mounted?"
    on_share claim
    ask
    [ -n "$(field record)" ] || refuse "could not be claimed for $me in $owners"
fi
owner=$(field node)
live=$(field store)
[ "$owner" = "$me" ] || refuse "belongs to $owner, not to $me ('salt-run ringfree.move_owner $VEID to=$me' moves it)"
[ "$live" = $store ] || refuse "has its live copy on $live, the one at $private is old"
[ $store = nfs ] || exit 0
# Just made, and known before: one with this id was destroyed. A copy of it on local disk is nothing to go back to.
case $0$known in
    *vps.createyes) grep -qsxF "$VEID -" $list || echo "$VEID -" >>$list || refuse "could not be noted in $list" ;;
esac
grep -qsxF "$VEID $me" $list || { echo "$VEID $me" >>$list; } 2>/dev/null
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
    return FENCE.replace("@SHARE@", share).replace("@DEADLINE@", str(DEADLINE))


def load_list(data):
    """
    Read a node's own list of the containers whose live copy is on the share.

    It is on local disk, and so it is there when the share is not.  Lines that cannot be read are left out.

    data
        Bytes, or ``None`` when there is no such file.

    Returns a dictionary: container id to the node that owns it, as far as this node knows.
    """
    return {int(ctid): node for ctid, node in _found(LINE, data)}


def load_void(data):
    """
    Read from a node's own list which old local copies are void: their containers were destroyed on the share.

    data
        Bytes, or ``None`` when there is no such file.

    Returns a sorted list of ids.  Another container may have such an id by now.
    """
    return sorted({int(ctid) for (ctid,) in _found(VOID, data)})


def _found(pattern, data):
    lines = (data or b"").decode("utf-8", "replace").splitlines()
    return [match.groups() for match in map(pattern.fullmatch, lines) if match]


def dump_list(entries, void):
    """
    A node's own list as the text of its file.

    entries
        Dictionary: container id to node.

    void
        The ids whose old local copies are void.

    Returns bytes.
    """
    lines = [(ctid, "-") for ctid in void] + list(entries.items())
    return "".join(f"{ctid} {node}\n" for ctid, node in sorted(lines)).encode()
