"""The containers of a node as vzctl's users have them: private areas made from the template, and their confs."""

import os
import shutil
from collections import namedtuple

from .shell import run

# Names that the runbook knows; other containers are called customer-CTID.
FIRST_NAMES = {1: "Four Seasons hospice", 2: "PBX", 3: "Epsilon", 4: "revnat", 5: "revnat beta"}
WITHOUT_ASTERISK = ("revnat", "revnat beta")
VZ_FOLDERS = ("private", "root", "lock", "dump", "template")

#: Prints the ids of the containers that run on a node.
RUNNING = """
cd /var/lib/vzctl/vepid 2>/dev/null || exit 0
for id in *; do [ ! -e "/proc/$(cat "$id")/stat" ] || echo "$id"; done
"""
#: How a distribution's packages lay out a node: where the confs are that vzctl reads as /etc/vz/conf, and the rest.
Layout = namedtuple("Layout", "name confs home")
REDHAT = Layout("redhat", "/etc/sysconfig/vz-scripts", "/vz")
DEBIAN = Layout("debian", "/etc/vz/conf", "/var/lib/vz")


def layout_of(node, settings):
    """The layout of a node of the fleet."""
    return DEBIAN if node in settings.get("debian", ()) else REDHAT


def ctids(node, count):
    """The container ids of node number NODE."""
    return [node * 100 + k for k in range(1, count + 1)]


def name_of(ctid):
    """What the container is called."""
    if ctid // 100 == 1 and ctid % 100 in FIRST_NAMES:
        return FIRST_NAMES[ctid % 100]
    return f"customer-{ctid}"


def has_asterisk(ctid):
    """Whether it runs a telephone system."""
    return name_of(ctid) not in WITHOUT_ASTERISK


def lay_out(disk, layout):
    """Move what hosts/node has to where a distribution has it."""
    if layout == REDHAT:
        (disk / "etc/vz/conf").symlink_to(layout.confs)
        return
    (disk / "etc/sysconfig/vz-scripts").rename(disk / layout.confs[1:])
    (disk / "etc/sysconfig").rmdir()
    vz_conf = disk / "etc/vz/vz.conf"
    vz_conf.write_text(vz_conf.read_text().replace(f"={REDHAT.home}/", f"={layout.home}/"))


def populate(vz, disk, node, count, template, layout):
    """Make the home of vz (at VZ) and the confs (below DISK, the node's disk) of a node."""
    for name in VZ_FOLDERS:
        (vz / name).mkdir(parents=True, exist_ok=True)
    confs = disk / layout.confs[1:]
    names = disk / "etc/vz/names"
    names.mkdir(parents=True)
    for ctid in ctids(node, count):
        (vz / "root" / str(ctid)).mkdir()
        _make_private(vz / "private" / str(ctid), ctid, template)
        (confs / f"{ctid}.conf").write_text(conf(ctid, layout.home))
        (names / name_of(ctid)).symlink_to(f"/etc/vz/conf/{ctid}.conf")


def _make_private(private, ctid, template):
    run(["cp", "-a", template, private])
    hostname = f"ct{ctid}.ringfree.biz"
    (private / "etc/hostname").write_text(f"{hostname}\n")
    (private / "etc/hosts").write_text(f"127.0.0.1 localhost\n{address(ctid)} {hostname} ct{ctid}\n")
    (private / "etc/sysconfig/network").write_text(f'NETWORKING="yes"\nHOSTNAME="{hostname}"\n')
    (private / "root/own").write_bytes(os.urandom(64 * 1024))
    if not has_asterisk(ctid):
        for path in ("etc/rc3.d/S50asterisk", "etc/rc.d/init.d/asterisk", "usr/sbin/asterisk"):
            (private / path).unlink()
        shutil.rmtree(private / "etc/asterisk")


def address(ctid):
    """The container's address, 10.78.NODE.K."""
    return f"10.78.{ctid // 100}.{ctid % 100}"


def conf(ctid, home):
    """A container's configuration file. No two are quite alike, as nobody wrote them in one go."""
    kind = ctid % 100 % 5
    lines = [
        'ONBOOT="yes"',
        "",
        "# UBC parameters (in form of barrier:limit)",
        'PHYSPAGES="0:256M"',
        'SWAPPAGES="0:512M"',
        'KMEMSIZE="116M:128M"',
        'LOCKEDPAGES="128M"',
        'PRIVVMPAGES="unlimited"',
        "",
        "# Disk quota parameters (in form of softlimit:hardlimit)",
        'DISKSPACE="2G:2.2G"',
        'DISKINODES="131072:144179"',
        'QUOTATIME="0"',
        "",
        "# CPU fair scheduler parameter",
        'CPUUNITS="1000"',
    ]
    if kind == 1:
        lines += [f'VE_ROOT="{home}/root/$VEID"', f'VE_PRIVATE="{home}/private/$VEID"']
    elif kind == 2:
        lines += [f'VE_ROOT="{home}/root/{ctid}"', f'VE_PRIVATE="{home}/private/{ctid}"', 'VE_LAYOUT="simfs"']
    elif kind == 3:
        lines += [f'VE_PRIVATE="{home}/private/$VEID"']
    lines += [
        'OSTEMPLATE="centos-6-x86_64"',
        'ORIGIN_SAMPLE="vswap-256m"',
        f'HOSTNAME="ct{ctid}.ringfree.biz"',
        f'NAME="{name_of(ctid)}"',
        f'IP_ADDRESS="{address(ctid)}"',
        'NAMESERVER="10.77.0.10"',
    ]
    if kind in (2, 4):
        lines.append(f'DESCRIPTION="container {ctid}%0Aset up by hand"')
    return "\n".join(lines) + "\n"
