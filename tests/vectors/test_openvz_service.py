"""The lab's OpenVZ where the recorded cases end: the `vz` service, the network, crashes, reboots from inside."""

import time

import pytest
import vz_world

WHY_NOT = vz_world.why_not() or ("these are of the lab only" if vz_world.is_real() else None)
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

VZ_CONF = """LOCKDIR=/vz/lock
DUMPDIR=/vz/dump
VE_ROOT=/vz/root/$VEID
VE_PRIVATE=/vz/private/$VEID
SKIP_SYSCTL_SETUP=yes
"""
CT_CONF = 'OSTEMPLATE="busybox"\nVE_LAYOUT="simfs"\nPHYSPAGES="0:65536"\nSWAPPAGES="0:65536"\n'
CONF = "/etc/vz/conf/{}.conf"
MARKS = "/var/lib/vzctl/vzreboot"
PATIENCE = 30


def containers(world, vz_conf=VZ_CONF, **confs):
    """Make containers: ct101='ONBOOT="yes"' and so on."""
    ids = [int(name.removeprefix("ct")) for name in confs]
    world.build(
        {
            "dirs": [f"/vz/root/{ctid}" for ctid in ids],
            "ct": {f"/vz/private/{ctid}": "local" for ctid in ids},
            "files": {
                "/etc/vz/vz.conf": vz_conf,
                **{CONF.format(ctid): CT_CONF + confs[f"ct{ctid}"] + "\n" for ctid in ids},
            },
        }
    )


def good(world, command):
    """Run a command that has to succeed; returns its output."""
    answer = world.run(command)
    assert answer["rc"] == 0, (command, answer)
    return answer["stdout"]


def status(world, ctid):
    """Return the words of `vzctl status` behind the container's id."""
    return good(world, f"vzctl status {ctid}").split(" ", 2)[2].strip()


def running(world):
    """Return the ids of the running containers."""
    return [int(word) for word in world.run("vzlist -1 2>/dev/null")["stdout"].split()]


def until(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["vzctl", "vzlist"])
def test_programs_are_started_as_worlds_are(name):
    """A world answers for a program without starting it: its own Python has to be the one of the program."""
    with (vz_world.LAB_VZCTL / name).open(encoding="utf-8") as file:
        assert file.readline().split() == ["#!" + vz_world.PYTHON[0], *vz_world.PYTHON[1:]]


@pytest.mark.parametrize(
    "command",
    [
        "vzctl --version",
        "vzctl",
        "vzctl status 101",
        "vzctl set 101 --name 'a b'",
        "vzctl set 101 --no-such",
        "vzlist -a -o ctid,private",
        "vzlist 102",
        "vzlist --help",
    ],
)
def test_programs_answer_the_same_without_being_started(world, command):
    containers(world, ct101='ONBOOT="yes"')
    assert vz_world.needs_no_shell(command)
    assert world.run_quickly(command) == world.run(command)


def test_programs_are_compiled(world):
    """What they compile in a world themselves is thrown away with it."""
    library = vz_world.LAB_VZCTL / "lib"
    compiled = {name.split(".")[0] for name in world.look(f"{library}/__pycache__")["dir"]}
    assert compiled >= {path.stem for path in library.glob("*.py")}


def test_service_starts_onboot_and_what_ran(world):
    """H05: ONBOOT=yes starts, and so does what ran before unless it says ONBOOT=no; nothing else."""
    containers(world, ct101='ONBOOT="yes"', ct102="", ct103='ONBOOT="no"', ct104="", ct105='ONBOOT="no"')
    good(world, f"mkdir -p {MARKS}; touch {MARKS}/102 {MARKS}/103")
    good(world, "vz start")
    assert running(world) == [101, 102]
    assert world.look(MARKS) == {"dir": []}
    assert good(world, "vz status") == "OpenVZ is running...\n"


def test_service_order_is_bootorder_then_id(world):
    containers(
        world, ct101='ONBOOT="yes"', ct102='ONBOOT="yes"\nBOOTORDER="5"', ct103='ONBOOT="yes"\nBOOTORDER="9"'
    )
    containers(world, vz_conf=VZ_CONF + "VE_PARALLEL=1\n", ct104='ONBOOT="yes"')
    started = [
        line.split()[-1] for line in good(world, "vz start").splitlines() if line.startswith("Starting CT")
    ]
    assert started == ["103", "102", "101", "104"]


def test_service_drops_what_is_not_there_and_its_mark(world):
    """A boot without the store leaves its containers down, for good."""
    containers(world, ct101='VE_PRIVATE="/nfs/$VEID"', ct102='ONBOOT="yes"')
    good(world, f"mkdir -p {MARKS}; touch {MARKS}/101")
    good(world, "vz start")
    assert running(world) == [102]
    assert world.look(MARKS) == {"dir": []}


def test_service_ignores_failures(world):
    containers(world, ct101='ONBOOT="yes"\nDISABLED="yes"')
    assert "Container 101 start: ..failed" in good(world, "vz start")
    assert running(world) == []


def test_service_stop_suspends_and_start_boots_cold(world):
    """H04: the default is to suspend; what cannot be restored boots cold, and the dump is gone."""
    containers(world, ct101="", ct102="")
    good(world, "vzctl start 101 && vzctl exec 101 touch /tmp/was-here")
    good(world, "vz stop")
    assert status(world, 101) == "exist unmounted down suspended"
    assert world.look(MARKS) == {"dir": ["101"]}
    assert world.look("/vz/dump") == {"dir": ["Dump.101"]}
    good(world, "vz start")
    assert status(world, 101) == "exist mounted running"
    assert world.look("/vz/dump") == {"dir": []}
    assert running(world) == [101]


def test_service_stop_mode_stop(world):
    containers(world, vz_conf=VZ_CONF + "VE_STOP_MODE=stop\n", ct101="")
    good(world, "vzctl start 101")
    good(world, "vz stop")
    assert status(world, 101) == "exist unmounted down"


def test_service_started_twice_does_nothing(world):
    containers(world, ct101="")
    good(world, "vz start")
    good(world, f"touch {MARKS}/101")
    assert "already running" in good(world, "vz start")
    assert running(world) == []
    assert world.look(MARKS) == {"dir": ["101"]}


def test_service_unmounts_what_is_still_mounted(world):
    """Also where the configuration does not name the root any more."""
    containers(world, ct101="")
    good(world, "vzctl mount 101")
    world.ask("make_file", CONF.format(101), CT_CONF + 'VE_ROOT="/vz/elsewhere"\n')
    good(world, "vz stop")
    assert "/vz/root/101" not in good(world, "cat /proc/mounts")


def test_service_writes_to_vz_conf_once(world):
    """What it appends is glued to a last line without an end."""
    containers(world, vz_conf="LOCKDIR=/vz/lock\nFOO=1", ct101="")
    good(world, "vz start; vz stop; vz start")
    assert (
        world.look("/etc/vz/vz.conf")["text"]
        == "LOCKDIR=/vz/lock\nFOO=1SKIP_SYSCTL_SETUP=yes\nSKIP_SYSCTL_SETUP=yes\n"
    )


@pytest.mark.parametrize(
    ("vz_conf", "command", "code"),
    [
        (VZ_CONF, "vz status", 3),
        (VZ_CONF + "VIRTUOZZO=no\n", "vz status", 0),
        (VZ_CONF, "rm /etc/vz/vz.conf; vz status", 6),
        (VZ_CONF, "vz nonsense", 3),
    ],
)
def test_service_exit_codes(world, vz_conf, command, code):
    containers(world, vz_conf=vz_conf, ct101="")
    assert world.run(command)["rc"] == code


def test_container_outlives_who_started_it(world):
    """And it holds none of its caller's files: this returns although the container runs."""
    containers(world, ct101="")
    good(world, "setsid sh -c 'vzctl start 101; kill -9 -- -$$' || true")
    assert status(world, 101) == "exist mounted running"


def test_crash_leaves_a_container_down(world):
    """A stale pid file means nothing, not even when something else has the pid by now."""
    containers(world, ct101="")
    good(world, "vzctl start 101")
    pid = good(world, "cat /var/lib/vzctl/vepid/101")
    good(world, f"kill -9 $(ps -o ppid= {pid}) {pid}")
    until(lambda: status(world, 101) == "exist mounted down")
    assert world.look("/var/lib/vzctl/vepid/101")["text"] == pid
    world.ask(
        "make_file", "/var/lib/vzctl/vepid/101", good(world, "sleep 3600 >/dev/null 2>&1 & echo $!").strip()
    )
    assert status(world, 101) == "exist mounted down"
    assert running(world) == []
    good(world, "vzctl start 101")
    assert status(world, 101) == "exist mounted running"


def test_halt_inside_unmounts(world):
    containers(world, ct101="")
    good(world, "vzctl start 101")
    good(world, "vzctl exec 101 /sbin/halt")
    until(lambda: status(world, 101) == "exist unmounted down")
    assert world.look("/vz/lock") == {"dir": []}


def test_reboot_inside_starts_what_the_configuration_says_now(world):
    containers(world, ct101="")
    world.build({"ct": {"/nfs/101": "nfs"}})
    good(world, "vzctl start 101")
    world.ask("make_file", CONF.format(101), CT_CONF + 'VE_PRIVATE="/nfs/$VEID"\n')
    good(world, "vzctl exec 101 /sbin/reboot")
    until(lambda: world.run("vzctl exec2 101 cat /etc/which")["stdout"] == "nfs\n")


def test_reboot_inside_obeys_disabled(world):
    containers(world, ct101="")
    good(world, "vzctl start 101; vzctl set 101 --disabled yes --save")
    good(world, "vzctl exec 101 /sbin/reboot")
    until(lambda: status(world, 101) == "exist unmounted down")
    until(lambda: "vzeventd" not in good(world, "ps -eo comm"))
    assert status(world, 101) == "exist unmounted down"


def test_running_container_keeps_its_store_mounted(world):
    """The file system of a private area cannot be unmounted under a running container."""
    containers(world, ct101='VE_PRIVATE="/nfs/$VEID"')
    world.build({"ct": {"/nfs/101": "nfs"}})
    good(world, "vzctl start 101")
    assert "busy" in world.run("umount /nfs")["stderr"]
    assert "busy" in world.run("umount /vz/root/101")["stderr"]
    good(world, "vzctl stop 101 && umount /nfs")


def test_root_of_a_running_container_is_its_private_area(world):
    containers(world, ct101='VE_PRIVATE="/nfs/store/$VEID"')
    world.build({"ct": {"/nfs/store/101": "nfs"}})
    good(world, "vzctl start 101")
    fields = good(world, "grep ' / / \\|/101 / ' /proc/$(cat /var/lib/vzctl/vepid/101)/mountinfo").split()
    assert fields[3] == "/store/101"


def test_container_is_reached_by_its_address(world):
    """From the node to a service in the container, and back."""
    containers(world, ct101='IP_ADDRESS="10.78.1.1 10.78.1.2"\nHOSTNAME="pbx"')
    good(world, "ip link set lo up; ip address add 10.77.0.101/32 dev lo")
    assert "Adding IP address(es): 10.78.1.1 10.78.1.2\n" in good(world, "vzctl start 101")
    good(world, "vzctl exec 101 'hostname > /tmp/index.html; httpd -h /tmp'")
    fetch = "python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=9).read().decode())' "
    for address in ("10.78.1.1", "10.78.1.2"):
        assert good(world, f"{fetch} http://{address}/").split() == ["pbx"]
    good(world, "cd /vz/private/101/etc && python3 -m http.server 8080 --bind 10.77.0.101 >/dev/null 2>&1 &")
    back = "vzctl exec2 101 wget -q -O - http://10.77.0.101:8080/which"
    until(lambda: world.run(back)["stdout"] == "local\n")
    assert good(world, "vzlist -H -o ip 101").split() == ["10.78.1.1", "10.78.1.2"]
    good(world, "vzctl stop 101")
    assert "10.78.1.1" not in good(world, "ip route; ip link")


def test_network_that_fails_fails_the_start(world):
    containers(world, ct101='IP_ADDRESS="10.78.1.1"')
    good(
        world,
        "mkdir /run/bin; cp /bin/false /run/bin/ip; mount --bind /run/bin/ip $(readlink -f $(command -v ip))",
    )
    answer = world.run("vzctl start 101")
    assert answer["rc"] == 34
    assert "Container start failed" in answer["stderr"]
    assert status(world, 101) == "exist unmounted down"


def test_start_script_runs_inside_before_init(world):
    containers(world, ct101="")
    world.ask("make_file", CONF.format(101).replace(".conf", ".start"), "cat /etc/which > /tmp/seen\n")
    good(world, "vzctl start 101")
    assert good(world, "cat /vz/private/101/tmp/seen") == "local\n"


def test_start_script_that_fails_fails_the_start(world):
    containers(world, ct101="")
    world.ask("make_file", CONF.format(101).replace(".conf", ".start"), "exit 1\n")
    assert world.run("vzctl start 101")["rc"] == 79
    assert status(world, 101) == "exist unmounted down"


def test_restore_that_fails_is_a_cold_boot(world):
    """H04: rc 0, the memory is lost, and the dump with it."""
    containers(world, ct101="")
    world.ask("make_file", "/vz/dump/Dump.101", "x")
    answer = world.run("vzctl start 101")
    assert answer["rc"] == 0
    assert answer["stdout"].startswith("Dump file /vz/dump/Dump.101 exists, trying to restore from it\n")
    # Its distribution has no scripts, which is said in between.
    said = [line for line in answer["stdout"].splitlines() if not line.startswith("Warning: ")]
    assert said[-2:] == ["Starting container...", "Container start in progress..."]
    assert world.look("/vz/dump") == {"dir": []}
    assert status(world, 101) == "exist mounted running"


def test_suspend_and_resume(world):
    containers(world, ct101="")
    good(world, "vzctl start 101")
    assert good(world, "vzctl suspend 101").endswith(
        "Checkpointing completed successfully\nContainer is unmounted\n"
    )
    assert status(world, 101) == "exist unmounted down suspended"
    assert world.run("vzctl suspend 101")["rc"] == 31
    assert world.run("vzctl resume 101")["rc"] == 17
    assert status(world, 101) == "exist unmounted down suspended"


def test_stop_kills_what_does_not_halt(world):
    containers(world, ct101='STOP_TIMEOUT="1"')
    world.ask("make_file", "/vz/private/101/sbin/halt", {"text": "#!/bin/sh\n", "mode": "0755"})
    good(world, "vzctl start 101")
    assert good(world, "vzctl stop 101") == (
        "Stopping container ...\nKilling container ...\nContainer was stopped\nContainer is unmounted\n"
    )


def test_exec_ends_with_its_command(world):
    """Even if something that the command left behind still has its output."""
    containers(world, ct101="")
    good(world, "vzctl start 101")
    assert good(world, "timeout 20 vzctl exec 101 'sleep 3600 & echo done'") == "done\n"


def test_exec_reads_the_input_of_its_caller(world):
    """Which ends a loop over lines after the first one."""
    containers(world, ct101="")
    good(world, "vzctl start 101")
    loop = "printf '1\\n2\\n' | while read -r line; do vzctl exec 101 \"sleep 0.2; echo $line\"; done"
    assert good(world, loop) == "1\n"


def test_exec_copies_much_in_both_directions(world):
    containers(world, ct101="")
    good(world, "vzctl start 101")
    assert good(world, "head -c 3000000 /dev/zero | vzctl exec 101 cat | wc -c").strip() == "3000000"


def test_container_cannot_touch_the_node(world):
    """No remount of the node's file system, no clock, no modules; its own /sys is read-only."""
    containers(world, ct101="")
    good(world, "vzctl start 101")
    assert world.run("vzctl exec2 101 '/bin/busybox mount -o remount,ro /'")["rc"] != 0
    assert world.run("vzctl exec2 101 'echo 1 > /sys/kernel/profiling'")["rc"] != 0
    good(world, "touch /vz/private/101/tmp/still-writable")
    assert good(world, "vzctl exec 101 ps").count("\n") < 6


def test_set_addresses_of_a_running_container(world):
    containers(world, ct101='IP_ADDRESS="10.78.1.1"')
    good(world, "vzctl start 101")
    good(world, "vzctl set 101 --ipadd 10.78.1.3 --ipdel 10.78.1.1 --save")
    assert 'IP_ADDRESS="10.78.1.3"' in world.look(CONF.format(101))["text"]
    routes = good(world, "ip route")
    assert "10.78.1.3" in routes
    assert "10.78.1.1 " not in routes


# What the recorded cases leave out


CENTOS = 'OSTEMPLATE="centos-6-x86_64"\nHOSTNAME="pbx.example.org"\nIP_ADDRESS="10.9.9.9 10.9.9.8/24"\n'
NAMES = 'NAMESERVER="10.0.0.1 10.0.0.2"\nSEARCHDOMAIN="example.org"\n'
TOOLS = "sed awk grep mv mkdir rm printf chmod hostname mkpasswd".split()


@pytest.fixture
def centos(world):
    """A container whose distribution has scripts, and what those need."""
    containers(world, ct101="#")
    for name in TOOLS:
        world.ask("make_file", f"/vz/private/101/bin/{name}", {"symlink": "busybox"})
    world.ask("make_file", CONF.format(101), CT_CONF.replace('OSTEMPLATE="busybox"\n', CENTOS + NAMES))
    private = "/vz/private/101/etc"
    world.ask(
        "make_file", f"{private}/hosts", "127.0.0.1 localhost\n10.9.9.9 old.example.org old\n::1 localhost\n"
    )
    world.ask("make_file", f"{private}/hostname", "old.example.org\n")
    world.ask("make_file", f"{private}/resolv.conf", "options ndots:2\nnameserver 192.0.2.1\n")
    world.ask("make_file", f"{private}/sysconfig/network", 'NETWORKING="no"\n')
    world.ask("make_file", f"{private}/sysconfig/network-scripts/ifcfg-venet0:7", "IPADDR=192.0.2.7\n")
    return world


def inside(world, path):
    """What a file of container 101 holds."""
    return world.look(f"/vz/private/101/{path}").get("text")


def test_the_distributions_scripts_set_a_container_up_at_each_start(centos):
    for _ in range(2):
        good(centos, "vzctl restart 101")
        assert inside(centos, "etc/hosts") == (
            "127.0.0.1 localhost\n::1 localhost\n"
            "# Auto-generated hostname. Please do not remove this comment.\n10.9.9.9 pbx.example.org  pbx\n"
        )
        assert inside(centos, "etc/hostname") == "pbx\n"
        resolver = "options ndots:2\nsearch example.org\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n"
        assert inside(centos, "etc/resolv.conf") == resolver
        assert inside(centos, "etc/sysconfig/network") == 'NETWORKING="yes"\nGATEWAYDEV="venet0"\n'
        folder = centos.look("/vz/private/101/etc/sysconfig/network-scripts")["dir"]
        assert folder == ["ifcfg-venet0", "ifcfg-venet0:0", "ifcfg-venet0:1"]
        assert "IPADDR=10.9.9.8\n" in inside(centos, "etc/sysconfig/network-scripts/ifcfg-venet0:1")


def test_a_running_container_takes_over_names_and_addresses(centos):
    good(centos, "vzctl start 101")
    good(centos, "vzctl set 101 --hostname new.example.org --nameserver 10.0.0.9 --ipdel 10.9.9.8 --save")
    assert inside(centos, "etc/hostname") == "new\n"
    assert inside(centos, "etc/hosts").endswith("10.9.9.9 new.example.org  new\n")
    assert "nameserver 10.0.0.9\n" in inside(centos, "etc/resolv.conf")
    folder = centos.look("/vz/private/101/etc/sysconfig/network-scripts")["dir"]
    assert folder == ["ifcfg-venet0", "ifcfg-venet0:0"]


def test_nothing_is_set_up_in_a_container_that_was_told_so(centos):
    good(centos, "vzctl start 101 --skip_ve_setup")
    assert inside(centos, "etc/hostname") == "old.example.org\n"


def test_a_distribution_without_a_file_has_the_defaults(centos):
    conf = centos.look(CONF.format(101))["text"].replace("centos-6", "plan9-1")
    centos.ask("make_file", CONF.format(101), conf)
    started = centos.run("vzctl start 101")
    assert (
        "distribution plan9-1-x86_64 not found, using defaults from /etc/vz/dists/default"
        in started["stderr"]
    )
    assert inside(centos, "etc/hostname") == "pbx\n"


@pytest.mark.parametrize("up", [True, False])
def test_a_password_is_set_and_a_container_that_was_down_is_down_again(centos, up):
    for name, text in (
        ("passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("shadow", "root:!!:1::::::\n"),
        ("group", ""),
    ):
        centos.ask("make_file", f"/vz/private/101/etc/{name}", text)
    if up:
        good(centos, "vzctl start 101")
    # Without --save the limits of one that is down are refused afterwards.
    said = good(centos, f"vzctl set 101 --userpasswd root:secret{'' if up else ' --save'}")
    assert "not saved" not in said
    assert "!!" not in inside(centos, "etc/shadow") and inside(centos, "etc/shadow").startswith("root:")
    assert "secret" not in inside(centos, "etc/shadow")
    assert status(centos, 101) == ("exist mounted running" if up else "exist unmounted down")
    refused = centos.run("vzctl set 101 --userpasswd nobody --save")
    assert refused["rc"] == 74 and "Password change failed" in refused["stdout"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--cpumask 3,1,2,7", 'CPUMASK="1-3,7"'),
        ("--cpumask 0-4095", 'CPUMASK="all"'),
        ("--cpumask auto --nodemask 0,1,", 'CPUMASK="auto"\nNODEMASK="0-1"'),
        ("--iptables 'ipt_state'", 'IPTABLES="ip_tables ip_conntrack ipt_state "'),
        (
            "--iptables ip_nat_ftp,iptable_filter",
            'IPTABLES="ip_tables iptable_filter ip_conntrack ip_conntrack_ftp iptable_nat ip_nat_ftp "',
        ),
    ],
)
def test_what_is_saved_is_in_the_form_of_the_real_one(world, options, line):
    containers(world, ct101="#")
    good(world, f"vzctl set 101 {options} --save")
    assert f"\n{line}\n" in world.look(CONF.format(101))["text"]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("set 101 --cpumask 2-1 --save", 21, "Bad parameter for --cpumask: 2-1"),
        ("set 101 --cpumask 4096 --save", 21, "Bad parameter for --cpumask: 4096"),
        ("set 101 --nodemask 0 --save", 20, "Error: option --nodemask requires --cpumask"),
        ("set 101 --cpumask auto --save", 20, "Error: --cpumask auto requires --nodemask"),
        ("set 101 --cpumask 0", 31, "Unable to apply"),
        ("runscript 101", 20, "Script not specified"),
        ("runscript 101 /nowhere", 11, "Script not found: /nowhere"),
        ("runscript 102 /nowhere", 14, "Container config file does not exist"),
    ],
)
def test_what_is_refused(world, command, code, said):
    containers(world, ct101="#")
    answer = world.run(f"vzctl {command}")
    assert answer["rc"] == code and said in answer["stderr"], answer


def test_a_script_of_the_node_runs_in_a_container_that_is_down_and_leaves_nothing(world):
    containers(world, ct101="#")
    world.ask("make_file", "/srv/script", "cat /etc/which; ps | grep -c '[i]nit'; exit 5\n")
    answer = world.run("vzctl runscript 101 /srv/script")
    assert (answer["rc"], answer["stdout"].split("\n")[0]) == (5, "local")
    assert status(world, 101) == "exist unmounted down"


def test_an_unknown_option_of_vzlist_shows_all_of_them(world):
    answer = world.run("vzlist --bogus")
    assert answer["rc"] == 1
    assert answer["stderr"] == "vzlist: unrecognized option '--bogus'\n"
    assert answer["stdout"].startswith("Usage:\tvzlist [-a | -S] [-n] [-H] [-o field[,field...] | -1]")
    assert "\t-1\t\t\tsynonym for -H -octid\n" in answer["stdout"]
    assert answer["stdout"].endswith("\t-L, --list\t\tget possible field names\n")
