"""
What a node needs so that it boots rightly with and without its share: the texts of a drop-in and an init script, and
the list of containers that wait for the share.

Only numbers, and paths that the pillar's rules have checked, get into a text that a shell or systemd reads.
"""

import re

WORDS = ("marks", "todo")
SET = re.compile(f"(?:{'|'.join(WORDS)})(?: [1-9][0-9]{{0,9}})*\n".encode())


def drop_in(mounts, parallel):
    """
    The drop-in by which systemd starts vz only with the shares mounted.

    With the SAN away vz is then not started at all, and its list of containers that ran stays as it is.

    mounts
        List of mount points.

    parallel
        How many containers vz starts at the same time.

    Returns text.
    """
    return f"""# Managed by Salt (ringfree): vz starts only when its containers' store is there.
[Unit]
RequiresMountsFor={" ".join(mounts)}

[Service]
Environment=VE_PARALLEL={int(parallel)}
"""


def init_script(mounts, marks, boot_set):
    """
    The init script that comes just before vz where there is no systemd.

    vz deletes its list of containers that ran, and leaves out those whose store is not there: this keeps the list when
    a share is missing, and gives it back at the next boot with all of them.

    mounts
        List of mount points.

    marks
        vz's directory with a file for each container that ran.

    boot_set
        The file to keep the list in, see :py:func:`load_set`.

    Returns text.
    """
    return f"""#!/bin/sh
# chkconfig: 2345 95 05
# description: keeps the list of containers that vz is to start until their share is there (ringfree, managed by Salt)
### BEGIN INIT INFO
# Provides: ringfree
# Required-Start: $local_fs $remote_fs
# Required-Stop:
# X-Start-Before: vz
# Default-Start: 2 3 4 5
# Default-Stop:
# Short-Description: keeps the list of containers that vz is to start
### END INIT INFO
[ "$1" = start ] || exit 0
set={boot_set}

check() {{ # what seals the lines that are read
    echo "# check $(sha256sum | cut -c1-16)"
}}

keep() {{
    text=$(printf '# format 2\\n%s' "$(echo marks $(ls {marks} 2>/dev/null))")
    {{ printf '%s\\n' "$text" && printf '%s\\n' "$text" | check; }} >$set.new && mv $set.new $set
}}

# The list is whole: sealed, or as an older version wrote it.
whole() {{
    [ -z "$(tail -c 1 $set)" ] || return 1
    case $(sed -n 1p $set) in
        "# format 2") [ "$(sed '$d' $set | check)" = "$(tail -n 1 $set)" ] ;;
        *) grep -Eqx '(marks|todo)( [1-9][0-9]{{0,9}})*' $set && [ "$(grep -c '' $set)" = 1 ] ;;
    esac
}}

for mount in {" ".join(mounts)}; do
    grep -Eq "^[^ ]+ $mount (fuse[.])?nfs" /proc/mounts && continue
    [ -e $set ] || keep
    exit
done
[ -e $set ] || exit 0
if ! whole; then
    echo "ringfree: $set is damaged, no container is marked by it ('salt-call ringfree_boot.recover_set' mends it)" >&2
    exit 1
fi
for ctid in $(sed -n "/^[a-z]/s/^[a-z]* *//p" $set); do
    mkdir -p {marks} && : >{marks}/"$ctid" || exit
done
rm -f $set
"""


def load_set(data):
    """
    Read the list of containers that wait for the share.

    data
        Bytes without their seal, or ``None`` when there is no such file.

    Returns ``None`` when nothing waits; otherwise ``{"word": "marks" or "todo", "ctids": [id]}``: ``marks`` are what vz
    knew when the node booted, ``todo`` is what is still to be started once the rest was.  Raises ValueError for a
    damaged list.
    """
    if data is None:
        return None
    # The line break at its end says that it is all there.
    if not SET.fullmatch(data):
        raise ValueError("it is no list of containers that wait for the share")
    word, *ctids = data.decode().split()
    return {"word": word, "ctids": [int(ctid) for ctid in ctids]}


def dump_set(word, ctids):
    """
    The list of containers that wait for the share as the text of its file, without its seal.

    word
        ``marks`` or ``todo``.

    ctids
        List of ids.

    Returns bytes.
    """
    return " ".join([word, *map(str, ctids)]).encode() + b"\n"


def immutable(said):
    """
    Whether a directory is immutable, by what lsattr says of it.

    said
        The output of ``lsattr -d``.

    Returns True or False.
    """
    return "i" in (said.split() or [""])[0]
