"""
Our block of lines in /etc/fstab, which ``salt/ringfree/fstab.sls`` writes; every other byte of the file is somebody's.
"""

#: What the first and the last line of the block begin with.
BEGIN, END = b"# ringfree: mounts of the SAN", b"# ringfree: end"


def without_block(fstab):
    """
    Take our block out.

    fstab
        The file's content, bytes.

    Returns bytes.  Raises ValueError when the block has no end: what follows it may be somebody's.
    """
    kept, inside = [], False
    for line in fstab.splitlines(keepends=True):
        inside = inside or line.startswith(BEGIN)
        if not inside:
            kept.append(line)
        inside = inside and not line.startswith(END)
    if inside:
        raise ValueError("the block of ringfree has no end")
    return b"".join(kept)


def with_server(fstab, old_server, new_server):
    """
    Replace a server in our block.

    fstab
        The file's content, bytes.

    old_server
        The server that the mounts are from.

    new_server
        The one that they are to be from.

    Returns bytes.
    """
    lines, inside = [], False
    was, will = f"{old_server}:".encode(), f"{new_server}:".encode()
    for line in fstab.splitlines(keepends=True):
        inside = (inside or line.startswith(BEGIN)) and not line.startswith(END)
        lines.append(will + line[len(was) :] if inside and line.startswith(was) else line)
    return b"".join(lines)
