"""What runs on the hosts after `up`: real services, and containers that behave as telephone servers do."""

import pytest
import records

CTIDS = [101, 102, 103, 104, 105, 201, 202, 203, 204, 205]
WITHOUT_ASTERISK = (104, 105)


@pytest.mark.parametrize("host", ["master", "san1", "san2", "mon001", "node001", "node002"])
def test_systemd_runs_and_no_unit_failed(lab, host):
    assert lab.exec(host, "systemctl", "is-system-running", check=False).stdout.strip() == "running"
    assert lab.sh(host, "hostname").strip() == host


def test_only_what_a_role_asks_for_runs(lab):
    running = "systemctl list-units --type=service --state=running --plain --no-legend | cut -d' ' -f1 | sort"
    always = {"dbus.service", "systemd-journald.service"}
    assert set(lab.sh("master", running).split()) == always | {"salt-master.service"}
    assert set(lab.sh("node001", running).split()) == always | {"salt-minion.service"}
    san = {"salt-minion.service", "ssh.service", "rpcbind.service", "nfs-ganesha.service"}
    assert set(lab.sh("san1", running).split()) == always | san
    mon = {"salt-minion.service", "nagios.service", "shinken.service"}
    assert set(lab.sh("mon001", running).split()) == always | mon


def test_every_minion_answers(lab):
    answers = lab.salt("*", "test.ping")
    assert answers == dict.fromkeys(["mon001", "node001", "node002", "san1", "san2"], True)


def test_every_host_knows_the_others_by_name(lab):
    names = "master san1 atl.san1.ringfree.biz san2 atl.san2.ringfree.biz mon001 node001 node002"
    found = lab.sh("node001", f"getent ahostsv4 {names.split()[2]} | head -1; getent hosts {names}")
    assert found.split()[0] == "10.77.0.21"
    assert len(found.splitlines()) == 9


@pytest.mark.parametrize("san", ["san1", "san2", "10.77.0.21", "atl.san2.ringfree.biz"])
def test_nodes_reach_the_sans_with_a_pinned_key(lab, san):
    lab.exec("node002", *lab.ssh, f"root@{san}", "true")


def test_the_sans_export_three_folders(lab):
    for address in ("10.77.0.21", "10.77.0.22"):
        exports = lab.sh("node001", f"showmount --no-headers -e {address}").splitlines()
        assert sorted(line.split()[0] for line in exports) == [
            "/rf-images/pbx",
            "/rf-images/pbxroot",
            "/rf-images/vzconf",
        ]


def test_the_node_is_laid_out_as_red_hat_has_it(lab):
    name = "/etc/vz/names/Four Seasons hospice"
    script = f"readlink /etc/vz/conf; ls /vz; readlink '{name}'; grep ^DISK_QUOTA /etc/vz/vz.conf"
    assert lab.sh("node001", script).splitlines() == [
        "/etc/sysconfig/vz-scripts",
        *["dump", "lock", "private", "root", "template"],
        "/etc/vz/conf/101.conf",
        "DISK_QUOTA=yes",
    ]


def test_the_other_node_is_laid_out_as_debian_has_it(lab):
    script = "stat -c %F /etc/vz/conf; ls /var/lib/vz; ls -d /etc/sysconfig /vz 2>/dev/null"
    assert lab.sh("node002", f"{script}; true").split() == [
        "directory",
        *["dump", "lock", "private", "root", "template"],
    ]
    confs = ["0.conf", *(f"{ctid}.conf" for ctid in CTIDS[5:]), "ve-vswap-256m.conf-sample"]
    assert lab.sh("node002", "ls /etc/vz/conf").split() == confs
    assert lab.sh("node002", "vzlist -Ho private 203 205").split() == [
        f"/var/lib/vz/private/{ctid}" for ctid in (203, 205)
    ]
    layouts = {name: host.get("layout") for name, host in lab.status()["hosts"].items() if "node" in name}
    assert layouts == {"node001": "redhat", "node002": "debian"}


def test_all_containers_run_what_they_are_for(lab):
    for ctid in CTIDS:
        said = lab.vzctl(ctid, "exec", 'ps; asterisk -rx "core show version"; true').stdout
        assert ("\nAsterisk " in said) == (ctid not in WITHOUT_ASTERISK), said
        assert "/usr/sbin/httpd" in said
        assert "/usr/libexec/postfix/master" in said
        node, address = lab.node_of(ctid), f"10.78.{ctid // 100}.{ctid % 100}"
        assert f"ct{ctid}.ringfree.biz" in lab.exec(node, "curl", "-sf", f"http://{address}/").stdout
        greeting = lab.sh(node, f"exec 3<>/dev/tcp/{address}/25; head -1 <&3")
        assert greeting.strip() == f"220 ct{ctid}.ringfree.biz ESMTP Postfix"


def test_a_distributions_scripts_write_into_a_container_at_each_start(lab):
    """As a real node's do: names, resolver and network files of the copy are younger than the container's stop."""
    node, private = lab.node_of(101), "/vz/private/101"
    names = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/sysconfig/network-scripts/ifcfg-venet0:0")
    paths = " ".join(f"{private}/{name}" for name in names)
    before = lab.sh(node, f"sha256sum {paths}; stat -c %y {paths}").splitlines()
    lab.sh(node, "vzctl restart 101")
    after = lab.sh(node, f"sha256sum {paths}; stat -c %y {paths}").splitlines()
    assert before[:4] == after[:4]
    assert not set(before[4:]) & set(after[4:])
    assert lab.sh(node, f"cat {private}/etc/hostname") == "ct101\n"
    hosts = lab.sh(node, f"cat {private}/etc/hosts").splitlines()
    assert hosts[0] == "127.0.0.1 localhost"
    assert hosts[-1].split() == ["10.78.1.1", "ct101.ringfree.biz", "ct101"]
    assert len(hosts) == 3
    assert "nameserver 10.77.0.10" in lab.sh(node, f"cat {private}/etc/resolv.conf")


def test_asterisk_says_so_when_it_does_not_run(lab):
    lab.vzctl(203, "exec", "/etc/init.d/asterisk stop")
    try:
        done = lab.vzctl(203, "exec2", 'asterisk -rx "core show version"', check=False)
        assert done.returncode == 1
        message = "Unable to connect to remote asterisk (does /var/run/asterisk/asterisk.ctl exist?)"
        assert message in done.stdout + done.stderr
    finally:
        lab.vzctl(203, "exec", "/etc/init.d/asterisk start")
    assert "Asterisk " in lab.vzctl(203, "exec2", 'asterisk -rx "core show version"').stdout


def test_asterisk_starts_whatever_an_old_pid_file_says(lab):
    """As after an end by force: the number is some other process's by now."""
    lab.vzctl(203, "exec", "/etc/init.d/asterisk stop")
    lab.vzctl(203, "exec", "echo 1 >/var/run/asterisk/asterisk.pid; /etc/init.d/asterisk start")
    assert "Asterisk " in lab.vzctl(203, "exec2", 'asterisk -rx "core show version"').stdout


def test_records_go_on_after_a_restart_without_a_gap(lab):
    before = lab.records_of(202)
    boot = records.verify(before).boots[-1].boot
    lab.vzctl(202, "stop")
    lab.vzctl(202, "start")
    lab.wait_for(lambda: lab.verdict_of(202).boots[-1].boot == boot + 1, "the recorder to go on")
    verdict = lab.verdict_of(202)
    assert verdict.ok, verdict.faults()
    assert boot not in verdict.unfinished, "a stop gives every program the time to end"
    assert lab.records_of(202).startswith(before)


def test_a_stop_waits_for_what_ends_slowly(lab):
    """What takes seconds for its last words, as a write on a busy disk does, is not killed before it has said them."""
    slow = "trap 'sleep 5; echo said >/root/last-words; exit' TERM; while :; do sleep 1; done"
    lab.exec("node002", "sh", "-c", f'vzctl exec2 203 "({slow}) >/dev/null 2>&1 </dev/null &"')
    try:
        said = lab.vzctl(203, "stop").stdout
        assert "Killing" not in said
        assert lab.sh("node002", "cat /var/lib/vz/private/203/root/last-words") == "said\n"
    finally:
        lab.vzctl(203, "start")


def test_a_stop_lets_halt_end_by_itself(lab):
    """vzctl kills a container whose halt was ended by a signal: init waits for it before it tells everybody to end."""
    place = "/usr/local/sbin/halt"  # found before the container's own
    slow_halt = (
        f"mkdir -p {place[:-5]}; printf '#!/bin/sh\\nkill -USR1 1\\nsleep 0.5\\n' >{place}; chmod +x {place}"
    )
    lab.vzctl(203, "exec2", slow_halt)
    try:
        assert "Killing" not in lab.vzctl(203, "stop").stdout
    finally:
        lab.exec("node002", "rm", "-f", f"/var/lib/vz/private/203{place}")
        lab.vzctl(203, "start")


@pytest.mark.parametrize("word", ["halt", "poweroff"])
def test_a_container_halts_quickly_by_itself(lab, word):
    pid = lab.sh("node002", "cat /var/lib/vzctl/vepid/201").strip()
    try:
        gone = f"for n in $(seq 100); do [ -d /proc/{pid} ] || exit 0; sleep 0.01; done; exit 1"
        lab.sh("node002", f"vzctl exec 201 {word}; {gone}")
    finally:
        lab.exec("node002", "vzctl", "stop", "201", check=False)
        lab.vzctl(201, "start")


def test_yum_has_nothing_to_update(lab):
    assert "No Packages marked for Update" in lab.vzctl(101, "exec2", "yum -y update").stdout
    assert "Metadata Cache Created" in lab.vzctl(101, "exec2", "yum makecache").stdout
