"""ringfree_fingerprint: what a container has, what of it counts, and what it lacks after its next start."""

import os
import string

import pytest
import ringfree_fingerprint as fingerprint
import ringfree_mounts as mounts
from hypothesis import given
from hypothesis import strategies as st

#: /proc/PID/net/tcp of a container with a listener on port 80, one on 127.0.0.1:3306, and a connection.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0 100 0 0 10 0
   1: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000    27        0 1002 1 0 100 0 0 10 0
   2: 0100000A:0050 0200000A:C001 01 00000000:00000000 00:00000000 00000000     0        0 1003 1 0 100 0 0 10 0
"""
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.0.0.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /32 link BROADCAST
        |-- 10.0.0.1
           /32 host LOCAL
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
"""
INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000a4f279fffe0c7a13 02 40 20 80   eth0
20010db8000000000000000000000001 02 40 00 80   eth0
20010db8000000001111111111111111 02 40 00 01   eth0
"""
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t0000080A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
ppp0\t0500000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
eth0\t0600000A\t0100000A\t0017\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""
ZERO = "0" * 32
ROUTE6 = f"""\
20010db8000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0
20010db8000100000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00040001     eth0
{ZERO} 00 {ZERO} 00 20010db80000000000000000000000fe 00000400 00000001 00000000 00000003     eth0
fe800000000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0
20010db8000000000000000000000001 80 {ZERO} 00 {ZERO} 00000000 00000002 00000000 80200001     eth0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
"""


def row(protocol, port, address="00000000", state=None, inode=7):
    """A line of /proc/PID/net/tcp or udp."""
    state = state or {"tcp": "0A", "udp": "07"}[protocol]
    rest = "00000000:00000000 00:00000000 00000000     0        0"
    return f"   0: {address}:{port:04X} {'0' * len(address)}:0000 {state} {rest} {inode} 2 0 0\n"


def listening(protocol, *ports):
    """The ports that count of those on which something listens."""
    text = "head\n" + "".join(row(protocol, port) for port in ports)
    found = fingerprint.listeners(text, protocol)
    return [int(name.rsplit(":", 1)[1]) for name in found]


# --- listeners --------------------------------------------------------------------------------------------------------


def test_listeners_are_named_by_protocol_address_and_port():
    assert fingerprint.listeners(TCP, "tcp") == {"tcp 0.0.0.0:80": ["1001"], "tcp 127.0.0.1:3306": ["1002"]}


@pytest.mark.parametrize(
    "address, name",
    [
        (ZERO, "tcp [::]:80"),
        ("B80D0120000000000000000001000000", "tcp [2001:db8::1]:80"),
        ("0000000000000000FFFF00000100000A", "tcp 10.0.0.1:80"),
    ],
)
def test_listeners_of_ipv6(address, name):
    assert list(fingerprint.listeners("head\n" + row("tcp", 80, address), "tcp")) == [name]


def test_a_listener_on_one_link_does_not_count():
    assert fingerprint.listeners("head\n" + row("udp", 123, "000080FE00000000FF79F2A4137A0CFE"), "udp") == {}


def test_ports_that_are_others_each_time_do_not_count(monkeypatch):
    """What the kernel or bindresvport gives, and what a call takes: RTP, UDPTL."""
    known = {(993, "tcp"): "imaps", (631, "udp"): "ipp"}

    def service(port, protocol):
        if (port, protocol) not in known:
            raise OSError
        return known[port, protocol]

    monkeypatch.setattr("socket.getservbyport", service)
    assert listening("tcp", 22, 670, 993, 4100, 5060, 12000, 32767, 32768, 60000) == [
        22, 993, 4100, 5060, 12000, 32767,
    ]  # fmt: skip
    assert listening("udp", 53, 631, 700, 4100, 4500, 4520, 4569, 5060, 9999, 10000, 18000, 40000) == [
        53, 631, 4500, 4520, 4569, 5060, 9999,
    ]  # fmt: skip


def test_a_socket_that_talks_to_one_other_listens_to_nobody():
    talking = row("udp", 5353).replace("00000000:0000 07", "0100000A:0035 01")
    assert fingerprint.listeners("head\n" + talking, "udp") == {}


def test_of_a_cut_table_nothing_counts_unless_the_listeners_are_whole():
    cut = "head\n" + row("tcp", 80) + row("tcp", 90, state="01") + row("tcp", 91)[:40]
    assert list(fingerprint.listeners(cut, "tcp", whole=False)) == ["tcp 0.0.0.0:80"]
    with pytest.raises(ValueError, match="too many"):
        fingerprint.listeners("head\n" + row("tcp", 80) + row("tcp", 81)[:40], "tcp", whole=False)
    with pytest.raises(ValueError, match="too many"):
        fingerprint.listeners(cut, "udp", whole=False)


# --- addresses and routes ---------------------------------------------------------------------------------------------


def test_addresses():
    """Not those of the loopback, of one link, or that a router's advertisement gives for a while."""
    assert set(fingerprint.addresses(TRIE, INET6)) == {"address 10.0.0.1", "address 2001:db8::1"}
    assert set(fingerprint.addresses("", INET6)) == {"address 2001:db8::1"}  # a kernel without fib_trie


def test_routes():
    """Not those of callers, of redirects and of a router's advertisement."""
    assert set(fingerprint.routes(ROUTE, ROUTE6)) == {
        "route default via 10.0.0.1 dev eth0",
        "route 10.8.0.0/16 dev tun0",
        "route 2001:db8::/64 dev eth0",
        "route default via 2001:db8::fe dev eth0",
    }


# --- mounts -----------------------------------------------------------------------------------------------------------


def mounted(text, own=(("8:1", "/vz/private/101"),)):
    table = mounts.parse(text)
    return fingerprint.mounted([dict(mount, directory=mounts.directory(mount)) for mount in table], list(own))


ROOT = "10 1 8:1 /vz/private/101 / rw - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    "line, shows",
    [
        ("8:1 /srv/voicemail /data rw - ext4 /dev/sda1 rw", "ext4 /srv/voicemail of device 8:1"),
        ("8:1 /vz/private/1012 /data rw - ext4 /dev/sda1 rw", "ext4 /vz/private/1012 of device 8:1"),
        ("8:1 /vz/private/101/etc/named /data rw - ext4 /dev/sda1 rw", "its own /etc/named"),
        ("0:30 / /data rw - tmpfs none rw", "tmpfs"),
        ("0:31 / /data rw - nfs 10.0.0.9:/home/x rw", "nfs 10.0.0.9:/home/x"),
        ("0:32 /x /data rw - fuse.sshfs you@there:/ rw", "fuse.sshfs you@there:/ /x"),
        ("7:3 / /data rw - ext4 /dev/loop3 rw", "ext4 /"),
    ],
)
def test_what_a_mount_shows_is_the_same_in_each_start(line, shows):
    assert mounted(ROOT + f"11 10 {line}\n") == {"mount /data": [shows]}


def test_the_own_tree_is_the_own_tree_on_both_stores():
    """As simfs, and as a bind mount of the share by the kernel's client."""
    simfs = "10 1 0:33 / / rw - simfs /vz/private/101 rw\n11 10 0:33 /etc/named /chroot rw - simfs /vz/private/101 rw\n"
    before = mounted(simfs, [("0:33", "/"), ("8:1", "/vz/private/101")])
    nfs = "10 1 0:50 / / rw - nfs S:/x/101 rw\n11 10 0:50 / /chroot rw - nfs S:/x/101/etc/named rw\n"
    assert mounted(nfs, [("0:50", "S:/x/101")]) == before == {"mount /chroot": ["its own /etc/named"]}


@pytest.mark.parametrize(
    "line",
    [
        "0:40 / /run/user/500 rw - tmpfs tmpfs rw",
        "0:41 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw",
        "0:42 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw",
        "0:43 / /var/lib/nfs/rpc_pipefs rw - rpc_pipefs sunrpc rw",
        "0:44 / /home/net rw - autofs /etc/auto.home rw",
    ],
)
def test_what_is_mounted_on_demand_does_not_count(line):
    assert mounted(ROOT + f"11 10 {line}\n") == {}


def test_what_the_automounter_mounts_does_not_count():
    text = ROOT + "11 10 0:44 / /net rw - autofs auto rw\n12 11 0:45 / /net/a rw - nfs S:/a rw\n"
    assert mounted(text) == {}


# --- processes --------------------------------------------------------------------------------------------------------


class Kernel:
    """A directory like /proc."""

    def __init__(self, folder):
        self.folder = folder

    def process(self, pid, name, parent, terminal=0, flags=0, born=100, state="S"):
        (self.folder / str(pid)).mkdir()
        fields = f"{state} {parent} {pid} {pid} {terminal} -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 {born} 0"
        (self.folder / str(pid) / "stat").write_bytes(os.fsencode(f"{pid} ({name}) {fields}\n"))

    def daemons(self, uptime=5000):
        table = fingerprint.processes(self.folder)
        return sorted(name[len("process ") :] for name in fingerprint.daemons(table, 50, uptime, 100))


@pytest.fixture
def kernel(tmp_path):
    made = Kernel(tmp_path)
    made.process(1, "systemd", 0)
    made.process(50, "init", 1)
    return made


def test_daemons_are_children_of_init_and_what_a_keeper_runs(kernel):
    for number, (name, parent) in enumerate(
        [("crond", 50), ("safe_asterisk", 50), ("asterisk", 101), ("mysqld_safe", 50), ("mysqld", 103)], 100
    ):
        kernel.process(number, name, parent)
    for number, (name, parent) in enumerate([("runsvdir", 50), ("runsv", 200), ("poller", 201)], 200):
        kernel.process(number, name, parent)
    kernel.process(300, "odd) name (", 50)
    kernel.process(400, "of the node", 1)
    assert kernel.daemons() == [
        "asterisk", "crond", "mysqld", "mysqld_safe", "odd) name (", "poller", "runsv", "runsvdir",
        "safe_asterisk",
    ]  # fmt: skip


def test_what_comes_and_goes_does_not_count(kernel):
    """Jobs of cron, logins, workers, what a shell has left, threads of the kernel, and the dead."""
    for number, (name, parent) in enumerate(
        [
            ("crond", 50),
            ("job.sh", 100),
            ("sshd", 50),
            ("sshd", 102),
            ("bash", 103),
            ("httpd", 50),
            ("php", 105),
        ],
        100,
    ):
        kernel.process(number, name, parent)
    for number, name in enumerate(("rsync", "sleep", "sh", "bash", "apt-get", "SCREEN", "polkitd"), 200):
        kernel.process(number, name, 50)
    kernel.process(300, "by hand", 50, terminal=34816)
    kernel.process(301, "kthreadd/101", 50, flags=0x208040)
    kernel.process(302, "dead", 50, state="Z")
    assert kernel.daemons() == ["crond", "httpd", "sshd"]


def test_a_process_counts_when_it_came_with_the_container_or_has_stayed(kernel):
    kernel.process(100, "at boot", 50, born=100 + 60 * 100)
    kernel.process(101, "long ago", 50, born=100 + 3600 * 100)
    kernel.process(102, "just now", 50, born=100 + 9000 * 100)
    assert kernel.daemons(uptime=9100) == ["at boot", "long ago"]


def test_the_processes_of_a_kernel_of_openvz(kernel):
    status = b"Name:\tinit\nenvID:\t101\nVPid:\t1\nPNState:\t0\n"
    assert (fingerprint.init_of(status), fingerprint.container_of(status)) == (101, 101)
    other = status.replace(b"VPid:\t1", b"VPid:\t12")
    assert (fingerprint.init_of(other), fingerprint.container_of(other)) == (None, 101)
    assert (fingerprint.init_of(b"Name:\tinit\n"), fingerprint.container_of(b"Name:\tinit\n")) == (None, None)


def test_the_real_proc_can_be_read():
    me = fingerprint.processes("/proc")[os.getpid()]
    assert (me["parent"], me["kernel"]) == (os.getppid(), False)
    for name in ("tcp", "udp"):
        text, whole = fingerprint.head(f"/proc/self/net/{name}")
        fingerprint.listeners(text.decode(), name, whole)


def test_only_so_much_of_a_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert fingerprint.head(tmp_path / "file", 100) == (b"x" * 100, True)
    assert fingerprint.head(tmp_path / "file", 99) == (b"x" * 99, False)


# --- two looks --------------------------------------------------------------------------------------------------------


def having(*names, **left_out):
    return {"has": {name: ["1"] for name in names}, "left_out": left_out}


def test_what_came_went_or_changed_between_two_looks_does_not_count():
    first = {
        "has": {
            "udp 0.0.0.0:53": ["1", "2"],
            "udp 0.0.0.0:5060": ["3"],
            "address 10.0.0.1": [],
            "process a": ["1"],
        },
        "left_out": {},
    }
    second = {
        "has": {
            "udp 0.0.0.0:53": ["2", "9"],
            "udp 0.0.0.0:5060": ["4"],
            "address 10.0.0.1": [],
            "process b": ["2"],
        },
        "left_out": {"tcp": "too many"},
    }
    assert fingerprint.both(first, second) == {
        "has": {"udp 0.0.0.0:53": ["2"], "address 10.0.0.1": []},
        "left_out": {"tcp": "too many"},
    }


@pytest.mark.parametrize(
    "name",
    ["tcp 0.0.0.0:80", "udp 10.0.0.1:53", "process crond", "address 10.0.0.1", "route default dev venet0"],
)
def test_each_kind_of_thing_that_is_lost_is_named(name):
    assert fingerprint.lacking(having(name), having()) == [name]
    assert fingerprint.lacking(having(name), having(name, "process other")) == []
    kind = name.split()[0]
    assert fingerprint.lacking(having(name), having(**{kind: "too many"})) == []  # nothing is known of it


def test_a_mount_that_is_lost_or_shows_something_else_is_named():
    before = {"has": {"mount /data": ["ext4 /srv of device 8:1"]}, "left_out": {}}
    assert fingerprint.lacking(before, having()) == ["mount /data (ext4 /srv of device 8:1)"]
    other = {"has": {"mount /data": ["tmpfs"]}, "left_out": {}}
    assert fingerprint.lacking(before, other) == ["mount /data (ext4 /srv of device 8:1), which is tmpfs now"]
    assert fingerprint.lacking(before, before) == []


@pytest.mark.parametrize(
    "before, now, lost",
    [
        ("tcp 10.0.0.1:80", "tcp 0.0.0.0:80", False),
        ("tcp 10.0.0.1:80", "tcp [::]:80", False),
        ("tcp 0.0.0.0:80", "tcp [::]:80", False),
        ("tcp [2001:db8::1]:80", "tcp [::]:80", False),
        ("tcp [::]:80", "tcp 0.0.0.0:80", True),
        ("tcp [2001:db8::1]:80", "tcp 0.0.0.0:80", True),
        ("tcp 0.0.0.0:80", "tcp 10.0.0.1:80", True),
        ("tcp 0.0.0.0:80", "udp 0.0.0.0:80", True),
        ("tcp 0.0.0.0:80", "tcp 0.0.0.0:8080", True),
    ],
)
def test_who_listens_on_all_addresses_listens_on_each(before, now, lost):
    assert bool(fingerprint.lacking(having(before), having(now))) is lost


@pytest.mark.parametrize(
    "pattern, allowed",
    [
        ("tcp 0.0.0.0:80", True),
        ("tcp *:80", True),
        ("tcp [::]:80", False),
        ("tcp *", True),
        ("TCP *", False),
        ("process *", False),
    ],
)
def test_what_the_pillar_allows_is_not_missed(pattern, allowed):
    assert (fingerprint.lacking(having("tcp 0.0.0.0:80"), having(), [pattern]) == []) is allowed


def test_a_name_with_brackets_is_allowed_by_itself():
    assert fingerprint.lacking(having("tcp [::]:80"), having(), ["tcp [::]:80"]) == []


# --- what a customer's root makes up ----------------------------------------------------------------------------------


def test_of_too_much_nothing_is_compared():
    assert len(fingerprint.bounded(dict.fromkeys(map(str, range(fingerprint.MOST)), ()))) == fingerprint.MOST
    with pytest.raises(ValueError, match="more than 400"):
        fingerprint.bounded(dict.fromkeys(map(str, range(fingerprint.MOST + 1)), ()))
    with pytest.raises(ValueError, match="more than 400"):
        fingerprint.bounded({"process php": ["1"] * 401})
    with pytest.raises(ValueError, match="too long"):
        fingerprint.bounded({f"mount /{n}{'x' * 4000}": ["tmpfs"] for n in range(10)})


@given(st.text(string.printable))
def test_no_text_of_the_kernel_breaks_more_than_its_kind(text):
    """Whatever stands in /proc: it is read, or refused as a wrong value."""
    for read in (
        lambda: fingerprint.listeners(text, "tcp"),
        lambda: fingerprint.addresses(text, text),
        lambda: fingerprint.routes(text, text),
    ):
        try:
            read()
        except (ValueError, OSError, IndexError):
            continue
