"""
Owner records on the share: which node may start a container, and on which store its live copy is.

One small file per container, ``.ringfree/owner/<ctid>`` on the private share, made of ``key=value`` lines so that the
fence (a shell script) can read it too, and sealed (``ringfree_seal``)::

    # format 2
    node=node001
    store=nfs
    since=2026-02-26T02:10:00Z
    generation=3
    copied=365000000
    # check 3f1c0a9d5e7b2468
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

check() { # what seals the lines that are read
    echo "# check $(sha256sum | cut -c1-16)"
}

# What was read is whole: sealed, or as an older version wrote it.
whole() { # whole TEXT
    case $1 in
        "# format 2"*) [ "$(printf '%s\n' "$1" | sed '$d' | check)" = "$(printf '%s\n' "$1" | tail -n 1)" ] ;;
        *) [ "$(printf '%s\n' "$1" | sed 's/=..*//' | tr '\n' ' ')" = "node store since generation copied " ] ;;
    esac
}

# A name for a whole file: of two nodes that do this at the same time, one finds the name taken.
claim() {
    new=$share/.ringfree/claim-$VEID-$me-$$
    now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    text=$(printf '# format 2\nnode=%s\nstore=nfs\nsince=%s\ngeneration=1\ncopied=0' "$me" "$now")
    { printf '%s\n' "$text" && printf '%s\n' "$text" | check; } >"$new" && ln "$new" "$record"
    rm -f "$new"
}

field() { # field KEY: what the share answered
    printf '%s\n' "$answer" | sed -n "s/^$1=//p" | sed -n 1p
}

ask() {
    answer=$(on_share look)
    case $answer in
        *looked=yes) ;;
        *) refuse "cannot be judged, $share does not answer" ;;
    esac
    [ -z "$(field record)" ] || whole "$(printf '%s\n' "$answer" | sed '1,/^record=yes$/d' | sed '$d')" ||
        refuse "cannot be judged, $record is damaged ('salt-call ringfree_owner.recover $VEID' on its node mends it)"
}

# Sealed lines, and lines that were added since with a check sum each, by an older version without one.
list_is_whole() {
    [ -f $list ] || return 0
    [ -s $list ] || return 1
    entry='[1-9][0-9]{0,9} (-|[A-Za-z0-9][A-Za-z0-9._@-]*)'
    LC_ALL=C grep -aEvqx "$entry|# format 2|# check [0-9a-f]{16}" $list
    [ $? = 1 ] && [ -z "$(tail -c 1 $list)" ] || return 1
    added=1
    if [ "$(sed -n 1p $list)" = "# format 2" ]; then
        whole "$(sed '/^# check /q' $list)" || return 1
        added=$(sed -n '/^# check /{=;q;}' $list)
        added=$((added + 1))
    fi
    before=
    tail -n +$added $list | while read -r line; do
        case $line in
            "# format"*) exit 1 ;;
            "# check "*) [ "$line" = "$(printf '%s\n' "$before" | check)" ] || exit 1 ;;
        esac
        before=$line
    done
}

add() { # add LINE: to the list, at once
    printf '%s\n%s\n' "$1" "$(printf '%s\n' "$1" | check)" >>$list
}

me=$(cat $node 2>/dev/null)
[ -n "$me" ] || refuse "cannot be judged, $node does not say which node this is"
private=$(value VE_PRIVATE "$VE_CONFFILE")
[ -n "$private" ] || private=$(value VE_PRIVATE $vzconf)
# /vz is often a link. What is mounted on the share itself is not asked for that.
real=$(cd -P "${share%/*}/" 2>/dev/null && pwd -P)/${share##*/}
case $private in
    "$share"/* | "$real"/*) store=nfs ;;
    *) store=local ;;
esac

# Known without the share: its local copy does not start, whatever became of the share and of the conf.
check_list() {
    [ $store = local ] || return 0
    list_is_whole || refuse "cannot be judged, $list is damaged ('salt-call ringfree_owner.recover_list' mends it)"
    old="what is at $private moves to the share, or is old ('salt-call cloudstor.whereabouts' says more)"
    ! grep -qs "^$VEID " $list ||
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
    *vps.createyes) grep -qsxF "$VEID -" $list || add "$VEID -" || refuse "could not be noted in $list" ;;
esac
grep -qsxF "$VEID $me" $list || { add "$VEID $me"; } 2>/dev/null
exit 0
"""
KEYS = ("node", "store", "since", "generation", "copied")
TIME = "%Y-%m-%dT%H:%M:%SZ"
RECORD = re.compile(
    r"node=(?P<node>[A-Za-z0-9][A-Za-z0-9._@-]{0,254})\nstore=(?P<store>local|nfs)\n"
    r"since=(?P<since>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\n"
    r"generation=(?P<generation>[0-9]{1,19})\ncopied=(?P<copied>[0-9]{1,19})\n"
)


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
        "since": time.strftime(TIME, time.gmtime(now)),
        "generation": str(int(before.get("generation", "0")) + 1),
        "copied": str(before.get("copied", "0") if copied is None else copied),
    }


def dump(owner):
    """
    A record as the text of its file, without its seal.

    owner
        The record.

    Returns bytes.
    """
    return "".join(f"{key}={owner[key]}\n" for key in KEYS).encode()


def load(data):
    """
    Read a record's file without its seal: these lines, in this order, and nothing else.

    data
        Bytes.

    Returns the record.  Raises ValueError for a damaged one: an owner that cannot be read is no free container.
    """
    found = RECORD.fullmatch(data.decode("utf-8", "replace"))
    if not found:
        raise ValueError("the owner record is damaged")
    try:
        time.strptime(found["since"], TIME)
    except ValueError as error:
        raise ValueError(f"the owner record is damaged: there is no day {found['since']}") from error
    return found.groupdict()


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


def is_fence(data):
    """
    Whether an action script is the fence, of this version or another one.

    data
        Its bytes, or ``None`` when there is none.

    Returns True or False.
    """
    return b"ringfree fence" in (data or b"")


def load_list(data):
    """
    Read a node's own list of the containers whose live copy is on the share.

    It is on local disk, and so it is there when the share is not.

    data
        Bytes without their seal, or ``None`` when there is no such file.

    Returns a dictionary: container id to the node that owns it, as far as this node knows.
    """
    return {int(ctid): node for ctid, node in _found(LINE, data)}


def list_fault(data):
    """
    What is wrong with a node's own list.

    data
        Bytes without their seal, or ``None`` when there is no such file.

    Returns text, or ``None`` when every line of it can be read.
    """
    lines = (data or b"").decode("utf-8", "replace").split("\n")
    bad = [line for line in lines[:-1] if not LINE.fullmatch(line) and not VOID.fullmatch(line)]
    if bad:
        return f"the line {bad[0][:80]!a} is none of a list of containers"
    return "its last line is cut" if lines[-1] else None


def load_void(data):
    """
    Read from a node's own list which old local copies are void: their containers were destroyed on the share.

    data
        Bytes without their seal, or ``None`` when there is no such file.

    Returns a sorted list of ids.  Another container may have such an id by now.
    """
    return sorted({int(ctid) for (ctid,) in _found(VOID, data)})


def _found(pattern, data):
    lines = (data or b"").decode("utf-8", "replace").splitlines()
    return [match.groups() for match in map(pattern.fullmatch, lines) if match]


def dump_list(entries, void):
    """
    A node's own list as the text of its file, without its seal.

    entries
        Dictionary: container id to node.

    void
        The ids whose old local copies are void.

    Returns bytes.
    """
    lines = [(ctid, "-") for ctid in void] + list(entries.items())
    return "".join(f"{ctid} {node}\n" for ctid, node in sorted(lines)).encode()
