"""What a host finds on its disk when it boots for the first time."""

import os
import shutil
import stat

from . import containers, keys, own_kernel
from .inside import run_inside
from .places import CHECKOUT, EXPORTS, LAB
from .shell import run

LOCALHOST = "127.0.0.1 localhost\n"


def host_folders(folder, host):
    """The directories of one host in the run folder."""
    place = folder / host.name
    for part in ("disk", "work", "root"):
        (place / part).mkdir(parents=True, exist_ok=True)
    return place


def prepare(folder, host, hosts, places, settings):
    """Fill the disk of HOST. PLACES are the artefacts, HOSTS the whole fleet, SETTINGS what it was brought up with."""
    place = host_folders(folder, host)
    disk = place / "disk"
    roles = [host.role] if host.role == "master" else ["minion", host.role]
    for role in roles:
        shutil.copytree(LAB / "hosts" / role, disk, dirs_exist_ok=True, symlinks=True)
    (disk / "etc").mkdir(exist_ok=True)
    (disk / "etc/hostname").write_text(f"{host.name}\n")
    (disk / "etc/hosts").write_text(LOCALHOST + "".join(_hosts_line(other) for other in hosts))
    _enable_units(disk)
    _salt(disk, host, hosts, places["image"])
    if host.role == "master":
        _master(disk, hosts)
    elif host.role == "san":
        _san(place, disk, host, hosts, places)
    elif host.role == "node":
        _node(place, disk, host, hosts, places, settings)
    elif host.role == "mon":
        _mon(disk)


def _hosts_line(host):
    return f"{' '.join([host.address, host.name, *host.aliases])}\n"


def _enable_units(disk):
    """Every unit file of the lab's own is enabled."""
    units = disk / "etc/systemd/system"
    wants = units / "multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for unit in units.glob("*.service"):
        (wants / unit.name).symlink_to(f"../{unit.name}")
    # What fstab mounts over the network, as every distribution has it.
    (wants / "remote-fs.target").symlink_to("/lib/systemd/system/remote-fs.target")


def _salt(disk, host, hosts, image):
    """Keys in place, so that nothing has to be accepted and nobody waits for it."""
    master_private, master_public = keys.salt_pair(image, "master")
    pki = disk / "etc/salt/pki"
    if host.role == "master":
        keys.install(master_private, pki / "master/master.pem", 0o400)
        keys.install(master_public, pki / "master/master.pub", 0o644)
        for minion in hosts:
            if minion.is_minion:
                keys.install(
                    keys.salt_pair(image, minion.name)[1], pki / "master/minions" / minion.name, 0o644
                )
        return
    private, public = keys.salt_pair(image, host.name)
    keys.install(private, pki / "minion/minion.pem", 0o400)
    keys.install(public, pki / "minion/minion.pub", 0o644)
    keys.install(master_public, pki / "minion/minion_master.pub", 0o644)
    (disk / "etc/salt/minion_id").write_text(host.name)


def _master(disk, hosts):
    """A fleet of another size than the example pillar's is told to the pillar."""
    (disk / "srv/lab-pillar").mkdir(parents=True)
    (disk / "srv/ringfree").mkdir(parents=True)
    nodes = [host.name for host in hosts if host.role == "node"]
    if nodes != ["node001", "node002"]:
        fleet_file = disk / "srv/lab-pillar/ringfree/fleet.sls"
        fleet_file.parent.mkdir()
        fleet_file.write_text(f"ringfree:\n  nodes: [{', '.join(nodes)}]\n")


def _san(place, disk, host, hosts, places):
    """Its host key, who may come in (the nodes and the other SAN), how it reaches that, and its store."""
    private, public = keys.host_pair(places["image"], host)
    for old in (places["image"] / "etc/ssh").glob("ssh_host_*"):
        # One host key, the one that the nodes know.
        if "ed25519" not in old.name:
            _whiteout(disk / "etc/ssh" / old.name)
    keys.install(private, disk / "etc/ssh/ssh_host_ed25519_key", 0o600)
    keys.install(public, disk / "etc/ssh/ssh_host_ed25519_key.pub", 0o644)
    keys.install(keys.client_pair(places["image"], host)[0], disk / "root/.ssh/id_ed25519", 0o600)
    known = [_known_host(san, places["image"]) for san in hosts if san.role == "san"]
    (disk / "root/.ssh/known_hosts").write_text("".join(known))
    (disk / "root").chmod(0o700)
    (other,) = (san for san in hosts if san.role == "san" and san.name != host.name)
    nodes = [node for node in hosts if node.role == "node"]
    _let_in(disk, places, "node", nodes, "root=/rf-images/pbxroot", f"to={other.address}")
    _let_in(disk, places, "san", [other])
    units = disk / "etc/systemd/system/multi-user.target.wants"
    for unit in ("ssh.service", "rpcbind.service"):
        (units / unit).symlink_to(f"/lib/systemd/system/{unit}")
    run(["cp", "--sparse=always", places["store"] / "store.ext4", place / "store.ext4"])


def _let_in(disk, places, role, who, *words):
    """What an admin types on each SAN, once its exports are there; so no key of the lab can do more than it needs."""
    public = "".join(keys.client_pair(places["image"], host)[1].read_text() for host in who)
    (disk / "root/keys.pub").write_text(public)
    (disk / "usr/local/sbin").mkdir(parents=True, exist_ok=True)
    exports = ["private=/rf-images/pbx", "conf=/rf-images/vzconf"]
    run_inside(
        [places["image"]],
        ["sh", "/san/ringfree-san", "install", role, "/root/keys.pub", *exports, *words],
        binds=[
            (CHECKOUT / "san", "/san", True),
            (places["store"] / "content", "/rf-images", True),
            (disk / "root", "/root", False),
            (disk / "usr/local/sbin", "/usr/local/sbin", False),
        ],
    )


def _whiteout(path):
    """A file of a lower layer that is not there any more (overlayfs marks it with a device node 0/0)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR, 0)


def _node(place, disk, host, hosts, places, settings):
    """vzctl, the NFS client, the way to the SANs, and the containers."""
    openvz = disk / "usr/lib/openvz"
    shutil.copytree(LAB / "openvz", openvz, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(openvz / "dists", disk / "etc/vz/dists")
    for name, target in (("vzctl", "usr/sbin"), ("vzlist", "usr/sbin"), ("vz", "etc/init.d")):
        (disk / target).mkdir(parents=True, exist_ok=True)
        (disk / target / name).symlink_to(f"/usr/lib/openvz/{name}")
    guest = host.name == settings.get("kernel_node")
    if settings["nfs_client"] == "fuse" and not guest:
        shutil.copy(places["programs"] / "mount.nfs", disk / "usr/sbin/mount.nfs")
    ssh = disk / "etc/ringfree/ssh"
    keys.install(keys.client_pair(places["image"], host)[0], ssh / "id_ed25519", 0o600)
    ssh.chmod(0o700)
    known = [_known_host(san, places["image"]) for san in hosts if san.role == "san"]
    (ssh / "known_hosts").write_text("".join(known))
    layout = containers.layout_of(host.name, settings)
    containers.lay_out(disk, layout)
    home = disk / layout.home[1:] if guest else place / "vz"
    containers.populate(home, disk, host.number, settings["cts"], places["template"], layout)
    if guest:
        own_kernel.install(place, host, places)


def _known_host(san, image):
    key = " ".join(keys.host_pair(image, san)[1].read_text().split()[:2])
    return f"{','.join([san.name, *san.aliases, san.address])} {key}\n"


def _mon(disk):
    """Folders of the second monitoring daemon, as the package makes them for the first."""
    for name in ("var/lib/shinken/rw", "var/lib/shinken/spool/checkresults", "var/log/shinken"):
        (disk / name).mkdir(parents=True)
    tmpfiles = disk / "etc/tmpfiles.d/lab-monitoring.conf"
    tmpfiles.parent.mkdir(parents=True, exist_ok=True)
    folders = ["/var/lib/shinken", "/var/log/shinken", "/var/lib/nagios4", "/var/log/nagios4"]
    tmpfiles.write_text("".join(f"Z {folder} - nagios nagios - -\n" for folder in folders))


def binds(place, host, settings):
    """What is bind-mounted into the host: (source, target, read_only)."""
    if host.role == "master":
        return [[str(CHECKOUT), "/srv/ringfree", True]]
    if host.role == "node" and host.name != settings.get("kernel_node"):
        # Where OpenVZ has its own partition.
        return [[str(place / "vz"), containers.layout_of(host.name, settings).home, False]]
    return []


def build_store(target, image, log):
    """An empty file system of the SANs, with the folders of the exports; made once and copied."""
    for name in EXPORTS:
        # Where files of containers lie nobody else walks; the conf share is as vz has it.
        mode = 0o755 if name == "vzconf" else 0o700
        (target / "content" / name).mkdir(mode, parents=True)
    with open(target / "store.ext4", "wb") as file:
        file.truncate(16 << 30)
    mkfs = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"]
    run_inside(
        [image], [*mkfs, "-d", "/out/content", "/out/store.ext4"], binds=[(target, "/out", False)], log=log
    )
