"""Is a fleet rightly on NFS? Looks for itself: /proc, mountinfo, sockets, files, vzctl. Calls nothing of the product.

``remember`` before the migration, ``faults`` after it: one sentence for everything that is not as it must be."""

import base64
import io
import re
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1] / "lab"))

import records  # noqa: E402 - the lab's verifier of its containers' records

PROBE = (HERE / "probe.py").read_text(encoding="utf-8")
TREE = (HERE / "tree.py").read_text(encoding="utf-8")

SAN = "san1"
SERVER = "10.77.0.21"
POINTS = {"/vz/nfsprivate": "/rf-images/pbx", "/vz/nfsroot": "/rf-images/pbxroot"}
VARIABLES = {
    "nfs": SERVER,
    "nfsip.1": "10.77.0.21",
    "nfsip.2": "10.77.0.22",
    "nfsmounted": "1",
    "nfsvzconf": "/rf-images/vzconf",
    "nfsvzroot": "/rf-images/pbxroot",
    "nfsvzstor": "/rf-images/pbx",
}
STORE = {"VE_ROOT": "/vz/nfsroot/", "VE_PRIVATE": "/vz/nfsprivate/"}
CONF_KEYS = ("VE_ROOT", "VE_PRIVATE", "VE_LAYOUT", "DISK_QUOTA")
VZ_CONF_KEYS = ("VE_ROOT", "VE_PRIVATE", "DISK_QUOTA")
NFS_KINDS = ("nfs", "nfs4", "fuse.nfs")
SERVICES = {"http": r"^HTTP/1\.[01] 200 ", "smtp": r"^220 ", "asterisk": r"^Asterisk \d"}
WITHOUT_ASTERISK = ("revnat", "revnat beta")
RECORDS = "var/spool/records/records"
READ = """
import base64, json, os, sys
read = lambda path: open(path, "rb").read() if os.path.exists(path) else b""
json.dump({path: base64.b64encode(read(path)).decode() for path in sys.argv[1:]}, sys.stdout)
"""


# --- before -----------------------------------------------------------------------------------------------------------


def remember(lab, nodes):
    """The fleet as it is before the migration: node to what its probe says, with the ids that run."""
    before = {node: lab.ask(node, PROBE) for node in nodes}
    for found in before.values():
        found["running"] = sorted(ctid_of(init) for init in found["inits"])
    return before


def exports(then):
    """Where a node mounts each export: that of the confs where vzctl reads them."""
    return {**POINTS, then["conf_dir"]: "/rf-images/vzconf"}


def home(lab, node):
    """Where vz of a node is at home: /vz, or /var/lib/vz as Debian has it."""
    return lab.on(node, "sh", "-c", ". /etc/vz/vz.conf; dirname $LOCKDIR").strip()


def ctid_of(init):
    """The id of the container whose first process this is; its host name has it, in short or in full."""
    return int(re.match(r"ct(\d+)\b", init["hostname"])[1])


def trees(lab, node, ctids):
    """Differences between the local private areas of containers that are down and their copies on the SAN."""
    private = f"{home(lab, node)}/private"
    local = lab.ask(node, TREE, *(f"{private}/{ctid}" for ctid in ctids))
    copies = lab.ask(SAN, TREE, *(f"/rf-images/pbx/{ctid}" for ctid in ctids))
    found = []
    for ctid in ctids:
        here, there = local[f"{private}/{ctid}"], copies[f"/rf-images/pbx/{ctid}"]
        if len(here) < 300:
            found.append(f"{ctid}: only {len(here)} files in the private area")
        found += [f"{ctid}: {text}" for text in differences(here, there)]
    return found, local


def differences(here, there):
    """What is different between two trees."""
    found = [f"{name!r} is missing on the SAN" for name in here.keys() - there.keys()]
    found += [f"{name!r} is on the SAN only" for name in there.keys() - here.keys()]
    for name in here.keys() & there.keys():
        one, other = dict(here[name]), dict(there[name])
        if "blocks" in one and "blocks" in other:
            # How many blocks a file takes is the file system's own affair, but a hole must not become data.
            kept, copied = one.pop("blocks"), other.pop("blocks")
            if copied > kept + 16:
                found.append(f"{name!r} takes {copied} blocks, not {kept}: a hole was filled")
        found += [
            f"{name!r}: {key} is {other.get(key)}, not {one.get(key)}"
            for key in one
            if one[key] != other.get(key)
        ]
        found += [f"{name!r} has {key} on the SAN only" for key in other.keys() - one.keys()]
    return found


# --- after ------------------------------------------------------------------------------------------------------------


def faults(lab, before):
    """Everything that is not as it must be after the migration of all nodes."""
    after = {node: lab.ask(node, PROBE, "--services") for node in before}
    found = (
        check_inits(before, after)
        + check_san(lab, before)
        + check_monitoring(lab)
        + check_records(lab, before)
    )
    for node, then in before.items():
        now = after[node]
        found += [
            f"{node}: {text}"
            for text in [
                *check_services(then, now),
                *check_mounts(then, now),
                *check_confs(then, now),
                *check_vz_conf(then, now),
                *check_etc(then, now),
                *check_hidden_confs(lab, node, then, now),
                *check_boot(lab, node, then, now),
                *check_snapshot(lab, node, then),
            ]
        ]
    return found


def check_inits(before, after):
    """Every container that ran runs exactly once in the fleet, on its node, from its tree on NFS; no other one runs."""
    found = []
    places = {}
    for node, now in after.items():
        for init in now["inits"]:
            places.setdefault(ctid_of(init), []).append((node, init["root"]))
    for node, then in before.items():
        for ctid in then["running"]:
            where = places.pop(ctid, [])
            if [place for place, _ in where] != [node]:
                found.append(f"container {ctid} of {node} runs on {[place for place, _ in where]}")
            for _, root in where:
                if root["kind"] not in NFS_KINDS or shown(root) != f"{SERVER}:/rf-images/pbx/{ctid}":
                    found.append(f"container {ctid} has the root {root}")
        found += check_given(then, after[node])
    return found + [f"container {ctid} runs and did not run before" for ctid in places]


def shown(mount):
    """What an NFS mount shows; the kernel's client names the directory, one in user space the export and a root."""
    return f"{mount['source']}/{mount['root'].strip('/')}".rstrip("/")


def check_given(then, now):
    """Containers have the cgroup, the limits and all else that those had which vz started at boot."""
    wanted = {ctid_of(init): init["given"] for init in then["inits"]}
    return [
        f"container {ctid_of(init)} has {key} {value!r}, not {wanted[ctid_of(init)][key]!r}"
        for init in now["inits"]
        for key, value in init["given"].items()
        if ctid_of(init) in wanted and value != wanted[ctid_of(init)][key] and not typed(init)
    ]


def typed(init):
    """Whether the test itself has started a container, by a vzctl typed on the node."""
    return init["given"]["cgroup"].strip().endswith("::/exec")


def check_services(then, now):
    """The services of each container answer."""
    found = []
    for init in now["inits"]:
        ctid = ctid_of(init)
        for name, pattern in SERVICES.items():
            if name == "asterisk" and name_of(then, ctid) in WITHOUT_ASTERISK:
                continue
            if not re.search(pattern, init["services"][name]):
                found.append(f"{name} of container {ctid} says {init['services'][name]!r}")
    return found


def name_of(then, ctid):
    """The NAME of a container, by the link that vzctl made for it."""
    links = [name for name, entry in then["names"].items() if entry.get("link", "").endswith(f"/{ctid}.conf")]
    return links[0] if links else None


def check_mounts(then, now):
    """The three exports are mounted where they must be, each container's tree on its root, and nothing else of NFS."""
    found = []
    wanted = {at: f"{SERVER}:{export}" for at, export in exports(then).items()}
    wanted.update({f"/vz/nfsroot/{ctid}": f"{SERVER}:/rf-images/pbx/{ctid}" for ctid in then["running"]})
    is_ = [(mount["at"], shown(mount)) for mount in now["mounts"] if mount["kind"] in NFS_KINDS]
    found += [
        f"{at} is mounted {is_.count((at, what))} times from {what}"
        for at, what in wanted.items()
        if is_.count((at, what)) != 1
    ]
    found += [f"{at} has {what} mounted" for at, what in is_ if wanted.get(at) != what]
    found += [
        f"{mount['at']} is still mounted"
        for mount in now["mounts"]
        if mount["at"].startswith(f"{then['home']}/root/")
    ]
    fstab = text_of(now["fstab"]) if now["fstab"] else ""
    for at, export in exports(then).items():
        lines = [line.split() for line in fstab.splitlines() if line.split()[1:2] == [at]]
        if [line[0] for line in lines] != [f"{SERVER}:{export}"]:
            found.append(f"/etc/fstab mounts {lines} on {at}")
    return found


def check_confs(then, now):
    """Confs of moved containers lead to NFS and differ in four keys only; all others still lead where they led."""
    found = []
    for name, old in then["confs"].items():
        new = now["confs"].get(name)
        if new is None:
            found.append(f"{name} is gone")
            continue
        ctid = int(name[:-5]) if re.fullmatch(r"[1-9]\d*\.conf", name) else None
        if ctid is None:
            found += [f"{name} has changed"] if new != old else []
            continue
        keys = CONF_KEYS if ctid in then["running"] else VZ_CONF_KEYS
        found += [f"{name}: {text}" for text in unlike(old, new, keys)]
        if ctid in then["running"]:
            found += [f"{name}: {text}" for text in conf_on_nfs(new, ctid)]
            paths = [f"/vz/nfsprivate/{ctid}", f"/vz/nfsroot/{ctid}"]
        else:
            paths = then["vzlist"][str(ctid)][1:]
        status = "running" if ctid in then["running"] else "stopped"
        if now["vzlist"].get(str(ctid)) != [status, *paths]:
            found.append(f"vzlist says of {ctid} {now['vzlist'].get(str(ctid))}, not {[status, *paths]}")
    return found


def unlike(old, new, keys):
    """How two versions of a file differ, but for some keys."""
    found = [f"{key} is {new[key]}, not {old[key]}" for key in ("mode", "owner") if old[key] != new[key]]
    if others(old, keys) != others(new, keys):
        found.append("lines have changed that nobody had to touch")
    return found


def others(entry, keys):
    """The lines of a file that do not set one of some keys."""
    lines = base64.b64decode(entry["data"]).split(b"\n")
    return [line for line in lines if line.split(b"=", 1)[0].decode("latin-1") not in keys]


def values(entry, key):
    """All values that a file gives a key."""
    return re.findall(rf'^{key}="?([^"\n]*)"?$', text_of(entry), re.M)


def own_list(now):
    """The lines of a node's own list of what lives on the share, without their check sums."""
    listed = now["variables"].get("on-nfs")
    return [line for line in text_of(listed).splitlines() if line[0] != "#"] if listed else []


def text_of(entry):
    return base64.b64decode(entry["data"]).decode("latin-1")


def conf_on_nfs(entry, ctid):
    """What is wrong with the four keys of a moved container."""
    wanted = {key: (f"{path}{ctid}", f"{path}$VEID") for key, path in STORE.items()}
    wanted.update(VE_LAYOUT=("simfs",), DISK_QUOTA=("no",))
    return [
        f"{key} is {values(entry, key)}"
        for key, good in wanted.items()
        if len(values(entry, key)) != 1 or values(entry, key)[0] not in good
    ]


def check_vz_conf(then, now):
    """vz.conf differs in three keys; vz itself may add SKIP_SYSCTL_SETUP; nothing keeps containers from starting."""
    old, new = then["etc_vz"]["vz.conf"], now["etc_vz"]["vz.conf"]
    found = [f"vz.conf: {text}" for text in unlike(without_skip(old), without_skip(new), VZ_CONF_KEYS)]
    wanted = {"VE_ROOT": "/vz/nfsroot/$VEID", "VE_PRIVATE": "/vz/nfsprivate/$VEID", "DISK_QUOTA": "no"}
    found += [
        f"vz.conf: {key} is {values(new, key)}" for key, good in wanted.items() if values(new, key) != [good]
    ]
    return found


def without_skip(entry):
    data = base64.b64decode(entry["data"])
    return dict(entry, data=base64.b64encode(re.sub(rb"\n?SKIP_SYSCTL_SETUP=yes\n$", b"\n", data)).decode())


def check_etc(then, now):
    """/etc/ringfree says what is true, the manifest names what ran, names lead to their confs, no dump is left."""
    found = []
    for name, wanted in VARIABLES.items():
        entry = now["variables"].get(name)
        if entry is None or text_of(entry) != f"{wanted}\n":
            found.append(f"/etc/ringfree/{name} is {text_of(entry) if entry else 'missing'}, not {wanted}")
    manifest = now["variables"].get("manifest.tmp")
    if manifest is None or sorted(map(int, text_of(manifest).split())) != then["running"]:
        found.append(f"the manifest is {manifest and text_of(manifest).split()}, not {then['running']}")
    found += ["names of containers have changed"] if then["names"] != now["names"] else []
    return found + [f"there is a dump {name}" for name in now["dumps"] if name.startswith("Dump.")]


def check_hidden_confs(lab, node, then, now):
    """The confs under the mounted conf share say the same: a node whose share is away must not start old copies."""
    show = f"umount {then['conf_dir']}; tar c -C {then['conf_dir']} ."
    hidden = unpacked(lab.must("exec", node, "--", "unshare", "-m", "sh", "-c", show))
    return [
        f"{name} under the conf share is not what is on it"
        for name in then["confs"]
        if hidden.get(name) != base64.b64decode(now["confs"].get(name, {"data": ""})["data"])
    ]


def check_boot(lab, node, then, now):
    """What a boot needs: vz waits for the mounts, nobody writes below them, the node knows what lives on the share."""
    found = []
    drop_in = now["drop_ins"].get("ringfree.conf")
    waits = re.findall("^RequiresMountsFor=(.*)$", text_of(drop_in), re.M) if drop_in else []
    if sorted(" ".join(waits).split()) != sorted(exports(then)):
        found.append(f"vz waits for {waits}")
    lines = own_list(now)
    if sorted(lines) != [f"{ctid} {node}" for ctid in then["running"]]:
        found.append(f"the node's own list of what lives on the share is {lines}")
    # An overlay, which /vz is on where Debian's vz is not at home, has no such flag.
    bare = f"""umount -l -a -t nfs,nfs4,fuse.nfs
        for at in {" ".join(POINTS)}; do
            [ ! -d $at ] || lsattr -d $at || [ $(stat -f -c %T $at) != overlayfs ] || echo ---i--- $at
        done; echo --
        for at in {" ".join(POINTS)}; do [ ! -d $at ] || ls -A $at; done"""
    flags, _, left = lab.on(node, "unshare", "-m", "sh", "-c", bare).partition("--\n")
    found += [f"{at} can be written to" for at in POINTS if not re.search(rf"^\S*i\S* +{at}$", flags, re.M)]
    return found + [f"there is {name} under a mount point" for name in left.splitlines()]


def check_snapshot(lab, node, then):
    """The confs as they were are kept."""
    archive = f"{then['conf_dir']}.tar.gz"
    done = lab.run("exec", node, "--", "cat", archive)
    if done.returncode:
        return [f"there is no {archive}"]
    kept = unpacked(done.stdout)
    return [
        f"{archive} does not have {name} as it was"
        for name, entry in then["confs"].items()
        if kept.get(name) != base64.b64decode(entry["data"])
    ]


def unpacked(data):
    """The files of an archive: name to content."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            member.name.removeprefix("./"): archive.extractfile(member).read()
            for member in archive
            if member.isfile()
        }


def check_san(lab, before):
    """The SAN has the moved containers, an owner record for each, and no rubbish."""
    moved = {str(ctid) for then in before.values() for ctid in then["running"]}
    confs = {name for then in before.values() for name in then["confs"]} | {"vps.premount", "vps.create"}
    found = []
    for export, wanted in (("pbx", moved | {".ringfree"}), ("pbxroot", moved), ("vzconf", confs)):
        names = set(lab.on(SAN, "ls", "-A", f"/rf-images/{export}").split())
        found += [f"the SAN lacks {name} in {export}" for name in wanted - names]
        found += [f"the SAN has {name} in {export}" for name in names - wanted]
    for node, then in before.items():
        for ctid in then["running"]:
            code, owner = lab.try_on(SAN, "cat", f"/rf-images/pbx/.ringfree/owner/{ctid}")
            if code or not {f"node={node}", "store=nfs"} <= set(owner.split()):
                found.append(f"the owner record of {ctid} says {owner!r}")
    return found


def check_monitoring(lab):
    """Both monitoring daemons run and no alarm is armed."""
    _, said = lab.try_on("mon001", "systemctl", "is-active", "nagios", "shinken")
    found = [] if said.split() == ["active", "active"] else [f"the monitoring is {said.split()}"]
    left = lab.on("mon001", "systemctl", "list-units", "--all", "--plain", "--no-legend", "ringfree*").strip()
    return found + ([f"mon001 still has {left}"] if left else [])


def check_records(lab, before):
    """What the containers wrote: nothing lost, doubled or damaged, and it begins with all that was written before."""
    found = []
    for node, then in before.items():
        there, here = streams(lab, node, then["running"])
        for ctid in then["running"]:
            verdict, ended = records.verify(there[ctid]), records.verify(here[ctid])
            found += [f"container {ctid}: {fault}" for fault in verdict.faults()]
            found += [f"container {ctid}: boot {boot} has no end" for boot in verdict.unfinished]
            if not ended.boots or not ended.boots[-1].stopped:
                found.append(f"container {ctid}: the local copy does not end with a stop")
            if not records.follows(here[ctid], there[ctid]):
                found.append(f"container {ctid}: what was written before the stop is not what is on the SAN")
            if verdict.last <= ended.last:
                found.append(f"container {ctid} has written nothing since it moved")
    return found


def streams(lab, node, ctids):
    """The records of containers: on the SAN up to the last whole line, and on the node's own disk."""
    there = lab.ask(SAN, READ, *(f"/rf-images/pbx/{ctid}/{RECORDS}" for ctid in ctids))
    private = f"{home(lab, node)}/private"
    here = lab.ask(node, READ, *(f"{private}/{ctid}/{RECORDS}" for ctid in ctids))
    # The recorder writes while this reads: a line without its end is one that is on its way.
    whole = {ctid: base64.b64decode(there[f"/rf-images/pbx/{ctid}/{RECORDS}"]) for ctid in ctids}
    whole = {ctid: data[: data.rfind(b"\n") + 1] for ctid, data in whole.items()}
    return whole, {ctid: base64.b64decode(here[f"{private}/{ctid}/{RECORDS}"]) for ctid in ctids}
