"""IP_ADDRESS of a running container: a veth pair with a route per address on the node (for venet, which Linux lacks).

The container's end is venet0 with all addresses and a default route through it; the node answers for every other
address there (proxy ARP) and forwards.
"""

import os

import codes
import log
import paths
import scripts
import text

INSIDE = "venet0"


def device(ctid):
    """Return the name of the node's end."""
    return f"venet{ctid}"


def _ip(commands, netns=None):
    """Run `ip -batch` with these commands, in the network namespace of the open file netns if given."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            scripts.default_signals()
            os.dup2(read_end, 0)
            os.close(read_end)
            os.close(write_end)
            if netns is not None:
                import kernel

                kernel.setns(netns, kernel.CLONE_NEWNET)
            os.execvpe("ip", ["ip", "-batch", "-"], {"PATH": paths.DEF_PATH})
        except OSError as err:
            log.error("Unable to run ip", err)
        finally:
            os._exit(1)
    os.close(read_end)
    text.write(write_end, "\n".join(commands) + "\n")  # an ip that ended early tells so by its exit code
    os.close(write_end)
    return scripts.wait(pid) == 0


def _host(address):
    return address.split("/")[0] + ("/128" if ":" in address else "/32")


def _sysctl(path, value):
    try:
        with open("/proc/sys/net/" + path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError:
        pass  # a node without the right to forward still reaches its containers


def _create(ctid, pid):
    name = device(ctid)
    stale = [f"link del {name}"] if os.path.exists(f"/sys/class/net/{name}") else []
    return _ip([*stale, f"link add {name} type veth peer name {INSIDE} netns {pid}", f"link set {name} up"])


def _configure(ctid, pid, hosts):
    """Set up the container's end, then the node's routes."""
    inside = ["link set lo up", f"link set {INSIDE} up"]
    inside += [f"addr replace {host} dev {INSIDE}" + (" nodad" if ":" in host else "") for host in hosts]
    if any(":" not in host for host in hosts):
        inside.append(f"route replace default dev {INSIDE}")
    if any(":" in host for host in hosts):
        inside.append(f"route replace ::/0 dev {INSIDE}")
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        return _ip(inside, netns) and _ip([f"route replace {host} dev {device(ctid)}" for host in hosts])
    finally:
        os.close(netns)


def add(ctid, pid, addresses, starting):
    """Give a container, whose init is pid, these addresses. Returns an exit code."""
    if starting:
        paths.write_state(paths.IP_DIR, ctid, "")
    if not addresses:
        return codes.OK
    log.info("Adding IP address(es): " + " ".join(addresses))
    hosts = [_host(address) for address in addresses]
    fresh = starting or not os.path.exists(f"/sys/class/net/{device(ctid)}")
    if (fresh and not _create(ctid, pid)) or not _configure(ctid, pid, hosts):
        log.error("Unable to add IP address(es)")
        if fresh:
            remove(ctid)
        return codes.CANT_ADD_IP
    _sysctl(f"ipv4/conf/{device(ctid)}/proxy_arp", "1")
    _sysctl(f"ipv6/conf/{device(ctid)}/proxy_ndp", "1")
    _sysctl("ipv4/ip_forward", "1")
    known = (paths.read_state(paths.IP_DIR, ctid) or "").split()
    new = [host.split("/")[0] for host in hosts]
    paths.write_state(paths.IP_DIR, ctid, "".join(address + " " for address in dict.fromkeys(known + new)))
    return codes.OK


def delete(ctid, pid, addresses):
    """Take addresses from a running container. Returns an exit code."""
    log.info("Deleting IP address(es): " + " ".join(addresses))
    hosts = [_host(address) for address in addresses]
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    _ip([f"addr del {host} dev {INSIDE}" for host in hosts], netns)
    os.close(netns)
    _ip([f"route del {host} dev {device(ctid)}" for host in hosts])
    gone = [host.split("/")[0] for host in hosts]
    left = [
        address for address in (paths.read_state(paths.IP_DIR, ctid) or "").split() if address not in gone
    ]
    paths.write_state(paths.IP_DIR, ctid, "".join(address + " " for address in left))
    return codes.OK


def remove(ctid):
    """Remove what is left of a stopped container's network."""
    paths.forget_state(paths.IP_DIR, ctid)
    if os.path.exists(f"/sys/class/net/{device(ctid)}"):
        _ip([f"link del {device(ctid)}"])
