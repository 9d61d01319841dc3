"""
What a node needs so that it boots rightly with and without its share: the texts of a drop-in and an init script, and
the list of containers that wait for the share.

Only numbers, and paths that the pillar's rules have checked, get into a text that a shell or systemd reads.
"""

WORDS = ("marks", "todo")


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
[ "$1" = start ] || exit 0
for mount in {" ".join(mounts)}; do
    grep -Eq "^[^ ]+ $mount (fuse[.])?nfs" /proc/mounts && continue
    [ -e {boot_set} ] || {{ echo marks $(ls {marks} 2>/dev/null) >{boot_set}.new && mv {boot_set}.new {boot_set}; }}
    exit
done
[ -e {boot_set} ] || exit 0
for ctid in $(sed "s/^[a-z]* *//" {boot_set}); do
    mkdir -p {marks} && : >{marks}/"$ctid" || exit
done
rm -f {boot_set}
"""


def load_set(data):
    """
    Read the list of containers that wait for the share.

    data
        Bytes, or ``None`` when there is no such file.

    Returns ``None`` when nothing waits; otherwise ``{"word": "marks" or "todo", "ctids": [id]}``: ``marks`` are what vz
    knew when the node booted, ``todo`` is what is still to be started once the rest was.  Raises ValueError for a
    damaged list.
    """
    if data is None:
        return None
    word, *ctids = data.decode("utf-8", "replace").split() or [""]
    if word not in WORDS or not all(ctid.isascii() and ctid.isdecimal() and int(ctid) for ctid in ctids):
        raise ValueError("it is no list of containers that wait for the share")
    return {"word": word, "ctids": [int(ctid) for ctid in ctids]}


def dump_set(word, ctids):
    """
    The list of containers that wait for the share as the text of its file.

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
