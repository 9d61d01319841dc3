"""What must hold of a node that is on local storage, judged by what there is and not by what anybody says."""

import checker
import records
from fleet_under_test import changed

SNAPSHOT = ("vz.conf.before", "conf.tar.gz")


def stream(lab, node, ctid, store="local"):
    """A container's records as they lie on a store."""
    host, folder = (
        ("san1", "/rf-images/pbx") if store == "nfs" else (node, f"{checker.home(lab, node)}/private")
    )
    return lab.must("exec", host, "--", "cat", f"{folder}/{ctid}/{checker.RECORDS}")


def streams(lab, node, ctids, store="local"):
    """The records of containers, to their last whole line, as they lie on a store."""
    return {ctid: whole(stream(lab, node, ctid, store)) for ctid in ctids}


def whole(data):
    """The records that are there, to their last whole line."""
    return data[: data.rfind(b"\n") + 1]


def faults(lab, node, then):
    """What is not as it was before the migration of a node, one sentence each."""
    now = checker.remember(lab, [node])[node]
    found = [
        f"{ctid} runs {now['running'].count(ctid)} times"
        for ctid in sorted({*then["running"], *now["running"]})
        if now["running"].count(ctid) != then["running"].count(ctid)
    ]
    found += checker.check_given(then, now)
    found += [
        f"a root on {init['root']}" for init in now["inits"] if init["root"]["kind"] in checker.NFS_KINDS
    ]
    found += [f"mounted: {mount}" for mount in now["mounts"] if mount["kind"] in checker.NFS_KINDS]
    found += changed(then["confs"], now["confs"], "confs")
    # What is kept of before lies beside the files, and on Debian the conf directory is among these.
    old, new = (
        {name: entry for name, entry in there["etc_vz"].items() if not name.startswith(SNAPSHOT)}
        for there in (then, now)
    )
    found += changed(old, new, "/etc/vz") + changed(then["fstab"], now["fstab"], "fstab")
    told = now["variables"].get("nfsmounted")
    found += ["nfsmounted is not 0"] if told and checker.text_of(told) != "0\n" else []
    found += ["a drop-in keeps vz from starting"] if now["drop_ins"] else []
    found += ["containers wait for the share"] if now["boot_set"] else []
    found += ["the node thinks that containers live on the share"] if checker.own_list(now) else []
    for ctid in then["running"]:
        found += [f"{ctid}: {text}" for text in records.verify(whole(stream(lab, node, ctid))).faults()]
        code, owner = lab.try_on("san1", "cat", f"/rf-images/pbx/.ringfree/owner/{ctid}")
        if not code and "store=local" not in owner.split():
            found.append(f"the owner record of {ctid} says {owner!r}")
    return found + checker.check_monitoring(lab)
