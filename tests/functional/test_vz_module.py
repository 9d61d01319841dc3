"""The execution module vz: files of the node, what runs, starting, stopping, asking."""

import os
import socket
import stat
import threading

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError


@pytest.fixture
def vz(fleet):
    """`vz("status", 101)` calls a function of the module on the fleet's node."""
    return lambda function, *args, **kwargs: fleet.minion().modules[f"vz.{function}"](*args, **kwargs)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_change_keeps_every_other_byte_and_the_files_owner_mode_and_link(fleet, vz):
    real = fleet.folder / "etc/elsewhere.conf"
    text = b'# caf\xe9 \nONBOOT="yes"\n\n  # kept\nNAME="PBX"\nVE_ROOT="/old/$VEID"\nODD="a b"  \nDISABLED="yes"\n'
    real.write_bytes(text)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    owner = (real.stat().st_uid, real.stat().st_gid)
    fleet.conf(102).unlink()
    fleet.conf(102).symlink_to(real)
    wanted = {"VE_ROOT": "/new/$VEID", "DISK_QUOTA": "no", "DISABLED": None}
    changed = vz("configure", wanted, 102)
    assert changed == {
        "VE_ROOT": {"old": "/old/$VEID", "new": "/new/$VEID"},
        "DISK_QUOTA": {"old": None, "new": "no"},
        "DISABLED": {"old": "yes", "new": None},
    }
    expected = text.replace(b"/old/", b"/new/").replace(b'DISABLED="yes"\n', b"") + b'DISK_QUOTA="no"\n'
    assert real.read_bytes() == expected
    assert fleet.conf(102).is_symlink()
    info = real.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (*owner, 0o640)
    assert vz("configure", wanted, 102) == {}
    assert real.stat().st_mtime_ns == info.st_mtime_ns


def test_changes_only_looks(fleet, vz):
    before = fleet.tree()
    assert vz("changes", {"DISK_QUOTA": "no"}) == {"DISK_QUOTA": {"old": "yes", "new": "no"}}
    assert vz("changes", {"DISK_QUOTA": "yes"}) == {}
    assert fleet.tree() == before


@pytest.mark.parametrize(
    "line",
    ['VE_ROOT="/a"\nVE_ROOT="/b"\n', "VE_ROOT=/a b\n", ' VE_ROOT="/a"\n', 'VE_ROOT="/a"'],
    ids=["twice", "unquoted", "indented", "no newline"],
)
def test_h11_an_ambiguous_file_is_refused_untouched(fleet, vz, line):
    with fleet.conf(101).open("a") as stream:
        stream.write(line)
    before = fleet.tree()
    for function in ("changes", "configure"):
        with pytest.raises(CommandExecutionError, match=r"101\.conf: line \d+"):
            vz(function, {"VE_ROOT": "/new/$VEID"}, 101)
    assert fleet.tree() == before
    (finding,) = vz("ambiguities")
    assert finding.startswith(f"{fleet.conf(101)}:")


@pytest.mark.parametrize("value", ['a"b', "a\nb", "$HOME", "`id`"])
def test_h28_a_value_that_a_shell_would_act_on_is_refused(fleet, vz, value):
    before = fleet.tree()
    with pytest.raises(CommandExecutionError, match="NAME"):
        vz("configure", {"NAME": value}, 101)
    assert fleet.tree() == before


def test_a_file_that_cannot_be_written_is_as_it_was(fleet, vz, monkeypatch):
    before = fleet.tree()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", full)
    with pytest.raises(
        CommandExecutionError, match=r"vz\.conf cannot be written: .*No space left.* as it was"
    ):
        vz("configure", {"DISK_QUOTA": "no"})
    assert fleet.tree() == before


def test_a_missing_file_is_named(fleet, vz):
    with pytest.raises(CommandExecutionError, match=r"999\.conf does not exist"):
        vz("config", 999)
    fleet.vz_conf.unlink()
    with pytest.raises(CommandExecutionError, match=r"vz\.conf does not exist"):
        vz("config", 101)


@pytest.mark.parametrize("bad", ["0", "-1", "1;id", "1 2", "", "2147483645", "101x", None])
def test_h28_what_is_no_container_id_never_reaches_a_command(fleet, vz, bad):
    for function in ("status", "conf_path", "stop", "start", "config"):
        if function == "conf_path" and bad is None:
            continue
        with pytest.raises(SaltInvocationError, match="is no container id"):
            vz(function, bad)
    with pytest.raises(SaltInvocationError):
        vz("exec", bad, ["true"])
    assert fleet.calls() == []


# --- which containers -----------------------------------------------------------------------------------------------


def test_containers_are_found_by_id_name_and_hostname(vz):
    found = vz("resolve", ["PBX", "104", "ct101", 103])
    assert found == {"found": {"PBX": 102, "104": 104, "ct101": 101, "103": 103}, "faults": []}


def test_names_that_fit_none_or_several_are_faults(fleet, vz):
    fleet.add(105, "PBX")
    fleet.add(106, "x")
    fleet.conf(106).write_text(fleet.conf(106).read_text().replace("ct106", "ct104"))
    found = vz("resolve", ["PBX", "nobody", "ct104", "revnat"])
    assert found["found"] == {"revnat": 104}
    assert found["faults"] == [
        "'PBX' fits several containers: 102, 105",
        "'nobody' is no container of this node",
        "'ct104' fits several containers: 104, 106",
    ]


def test_a_name_means_the_container_that_vzctl_means(fleet, vz):
    """An id is an id, a NAME counts with its link first, and a HOSTNAME is what is left."""
    fleet.add(105, "PBX")
    fleet.add(106, "104")
    fleet.add(107, "ct101")
    names = fleet.folder / "etc/vz/names"
    (names / "PBX").symlink_to(fleet.conf(105))
    assert vz("resolve", ["PBX", "104", "ct101"]) == {
        "found": {"PBX": 105, "104": 104, "ct101": 107},
        "faults": [],
    }
    assert vz("known_as") == {105: "PBX"}
    fleet.conf(105).unlink()
    assert vz("known_as") == {}
    assert vz("resolve", ["PBX"])["found"] == {"PBX": 102}


def test_the_start_order_is_priority_then_bootorder_then_id(fake_node):
    for ctid, conf in (
        (1, ""),
        (2, 'BOOTORDER="1"\n'),
        (3, 'BOOTORDER="9"\n'),
        (4, ""),
        (5, 'BOOTORDER="0"\n'),
    ):
        fake_node.add(ctid, f"name{ctid}", conf=conf)
    order = fake_node.minion().modules["vz.start_order"]
    assert order([5, 4, 3, 2, 1]) == [3, 2, 5, 1, 4]
    assert order("5,4,3,2,1", ["name4", "2", "nobody"]) == [4, 2, 3, 5, 1]
    assert order([]) == []


def test_the_list_has_what_vzctl_would_use_and_what_runs(fleet, vz):
    found = vz("list")
    assert {ctid: entry["running"] for ctid, entry in found.items()} == {
        101: True,
        102: True,
        103: False,
        104: True,
    }
    assert found[102]["private"] == str(fleet.private(102))
    assert (found[102]["name"], found[102]["hostname"]) == ("PBX", "ct102")


def test_a_vzlist_that_fails_is_not_an_empty_node(fleet, vz):
    fleet.rule("vzlist", "echo 'Unable to open /proc/vz' >&2; exit 1")
    with pytest.raises(
        CommandExecutionError, match="Unable to open /proc/vz Which containers run is unknown"
    ):
        vz("running")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("CTID 101 exist mounted running", (True, True, True, False)),
        ("CTID 101 exist unmounted down suspended", (True, False, False, True)),
        ("Warning: odd\nCTID 101 deleted unmounted down", (False, False, False, False)),
    ],
)
def test_the_status_line(fleet, vz, line, expected):
    fleet.rule("vzctl.status", f"echo '{line}'; exit 0")
    assert tuple(vz("status", 101).values()) == expected


@pytest.mark.parametrize(
    "said", ["", "CTID 101 exist mounted", "Container not found", "CTID x exist mounted running"]
)
def test_a_status_line_that_cannot_be_read_is_no_state(fleet, vz, said):
    fleet.rule("vzctl.status", f"echo '{said}'; exit 0")
    with pytest.raises(CommandExecutionError, match="The state of container 101 is unknown"):
        vz("status", 101)


# --- manifest and dumps ---------------------------------------------------------------------------------------------


def test_the_manifest_reads_as_it_was_written(fleet, vz):
    assert vz("manifest") is None
    assert vz("write_manifest", [102, 101]) == [102, 101]
    assert vz("manifest") == [102, 101]
    assert vz("write_manifest", []) == []


@pytest.mark.parametrize("text", ["101\n10x\n", "101\n-5\n", "101 $(id)\n", "0\n"])
def test_a_damaged_manifest_is_not_read_in_part(fleet, vz, text):
    (fleet.folder / "etc/ringfree/manifest.tmp").write_text(text)
    with pytest.raises(CommandExecutionError, match=r"manifest\.tmp: '.*' is no container id"):
        vz("manifest")


def test_h04_dumps_are_found_where_the_confs_put_them(fleet, vz):
    assert vz("dumps") == []
    own = fleet.folder / "dumps"
    own.mkdir()
    with fleet.conf(103).open("a") as stream:
        stream.write(f'DUMPDIR="{own}"\n')
    (own / "Dump.103").touch()
    (fleet.folder / "vz/dump/Dump.101").symlink_to("/nowhere")
    (fleet.folder / "vz/dump/Dump.103").touch()  # not this container's place
    assert vz("dumps") == [str(fleet.folder / "vz/dump/Dump.101"), str(own / "Dump.103")]


# --- start and stop -------------------------------------------------------------------------------------------------


def test_what_was_done_before_a_failure_is_told(fleet, vz):
    fleet.rule("vzctl.stop.102", "exit 9")
    done = []
    with pytest.raises(CommandExecutionError, match="Container 102 still runs") as error:
        vz("stop", [101, 102, 104], on_done=lambda ctid, note: done.append(ctid))
    assert set(done) == set(error.value.info["done"]) == {101, 104}
    assert len(error.value.info["faults"]) == 1


def test_every_container_that_does_not_stop_is_named(fleet, vz):
    for ctid in (101, 102):
        fleet.rule(f"vzctl.stop.{ctid}", "exit 9")
    with pytest.raises(CommandExecutionError) as error:
        vz("stop", "101,102")
    assert "Container 101" in str(error.value)
    assert "Container 102" in str(error.value)


def test_a_stop_that_never_ends_is_a_failure(fleet, vz):
    fleet.rule("vzctl.stop.101", "sleep 60")
    with pytest.raises(CommandExecutionError, match=r"Container 101 still runs: .*did not end within 1 s"):
        vz("stop", 101, deadline=1)


def test_only_the_migration_starts_a_disabled_container(fleet, vz):
    """H05."""
    vz("stop", 101)
    vz("configure", {"DISABLED": "yes"})
    with pytest.raises(CommandExecutionError, match=r"Container 101 does not run: .*exit code 105"):
        vz("start", 101)
    assert set(vz("start", 101, force=True)) == {101}


#: A rule for vzctl: what a container would have of it.
GIVEN = "{ umask; ulimit -Sn; ulimit -Hn; nice; } >$W/proc/given"


@pytest.fixture
def careless():
    """The test is what no container should be like."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def given(node):
    return (node.folder / "proc/given").read_text().split()


@pytest.mark.parametrize("verb", ["start", "exec2"])
def test_h37_a_container_has_what_the_vz_service_gives(fleet, vz, careless, verb):
    """When it is started, and when an update restarts something in it."""
    (fleet.folder / "vz/root/101/usr/bin").mkdir(parents=True)
    (fleet.folder / "vz/root/101/usr/bin/yum").touch()
    fleet.rule("systemctl.show", "printf 'UMask=0027\\nNice=7\\nLimitNOFILE=128\\nLimitNOFILESoft=64\\n'")
    fleet.rule(f"vzctl.{verb}", GIVEN)
    if verb == "start":
        vz("stop", 101)
        vz("start", 101)
    else:
        vz("update_packages", 101)
    assert given(fleet) == ["0027", "64", "128", "7"]


@pytest.mark.parametrize("systemd", [True, False])
def test_h37_it_starts_all_the_same_when_nobody_says_what_the_service_gives(fleet, vz, careless, systemd):
    fleet.systemd = systemd
    fleet.rule("systemctl.show", "echo 'Failed to connect to bus' >&2; exit 1")
    fleet.rule("vzctl.start", GIVEN)
    vz("stop", 101)
    vz("start", 101)
    umask, _, _, nice = given(fleet)
    assert (umask, nice) == ("0022", "0")


def test_h37_it_starts_all_the_same_when_its_python_is_gone(fleet, vz, monkeypatch, caplog):
    vz("stop", 101)
    monkeypatch.setattr("sys.executable", "/opt/saltstack/salt/bin/python3.9")
    vz("start", 101)
    assert 101 in fleet.running()
    assert "containers get its cgroup and limits" in caplog.text


def test_root_mount_tells_local_from_nfs(fleet, vz):
    proof = vz("root_mount", 101)
    assert (proof["ok"], proof["nfs"]) == (True, False)
    assert vz("root_mount", 103)["ok"] is False
    assert "nothing is mounted" in vz("root_mount", 103)["why"]


# --- inside containers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["a b"], ["a;id"], ["$HOME", "`id`"], ["it's"], ["a\nb"], ["*"], ["", "x"], ["-n", "--", "\\"]]
)
def test_h28_words_arrive_in_the_container_as_they_are(fleet, vz, words):
    result = vz("exec", 101, ["printf", "[%s]", *words])
    assert result["rc"] == 0
    assert result["out"] == "".join(f"[{word}]" for word in words)


def test_a_command_in_a_container_that_is_down(vz):
    result = vz("exec", 103, ["true"])
    assert (result["rc"], result["err"]) == (31, "Container is not running\n")


def test_a_command_that_hangs_is_killed(fleet, vz):
    result = vz("exec", 101, ["sleep", "60"], deadline=1)
    assert result["timed_out"]
    assert result["rc"] is None


CHECK = {"asterisk": {"exec": ["asterisk", "-rx", "core show version"], "expect": r"^Asterisk \S+"}}


def test_a_service_that_answers_is_well(vz):
    assert vz("health", 101, CHECK) == {"asterisk": {"ok": True, "detail": "Asterisk 13.38.3"}}


@pytest.mark.parametrize(
    ("rule", "detail"),
    [
        ("exit 1", "exit code 1"),
        ("echo 'Asterisk 13.38.3'; exit 1", "exit code 1"),
        ("echo 'Unable to connect'; exit 0", "Unable to connect"),
        ("exit 0", "(no answer)"),
    ],
    ids=["fails", "answers and fails", "answers something else", "says nothing"],
)
def test_h25_a_check_that_is_not_answered_rightly_is_failed(fleet, vz, rule, detail):
    fleet.rule("vzctl.exec2.101", rule)
    answer = vz("health", 101, CHECK)["asterisk"]
    assert answer["ok"] is False
    assert detail in answer["detail"]


def test_h25_a_port_of_a_container_without_address_cannot_be_asked(vz):
    answer = vz("health", 101, {"smtp": {"port": 25, "expect": "^220 "}})["smtp"]
    assert answer == {"ok": False, "detail": "container 101 has no IP_ADDRESS to ask; use an 'exec' check"}


def test_tcp_services_are_asked_at_the_containers_first_address(fleet, vz):
    with fleet.conf(101).open("a") as stream:
        stream.write('IP_ADDRESS="127.0.0.1/24 127.0.0.2"\n')
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            for banner in (b"220 mail ESMTP\r\n", b"", b"HTTP/1.1 403 Forbidden\r\n"):
                connection, _ = server.accept()
                with connection:
                    if banner.startswith(b"HTTP"):
                        heard.append(connection.recv(100))
                    connection.sendall(banner)

        thread = threading.Thread(target=serve)
        thread.start()
        smtp = {"smtp": {"port": port, "expect": "^220 "}}
        assert vz("health", 101, smtp)["smtp"] == {"ok": True, "detail": "220 mail ESMTP"}
        assert vz("health", 101, smtp)["smtp"] == {"ok": False, "detail": "(no answer)"}
        http = {
            "http": {"port": port, "send": "HEAD / HTTP/1.0\r\n\r\n", "expect": r"^HTTP/1\.[01] [1-5]\d\d"}
        }
        assert vz("health", 101, http)["http"]["ok"] is True
        thread.join()
    assert heard == [b"HEAD / HTTP/1.0\r\n\r\n"]
    refused = vz("health", 101, smtp)["smtp"]
    assert refused["ok"] is False
    assert "refused" in refused["detail"]


def test_h25_a_container_without_any_check_is_refused_and_not_passed(vz):
    with pytest.raises(CommandExecutionError, match="no check for containers 104"):
        vz("wait_healthy", {101: CHECK, 104: {}})


def test_services_are_asked_until_they_answer(fleet, vz):
    fleet.rule("vzctl.exec2.101", "echo x >> $W/var/asked; [ $(wc -l < $W/var/asked) -ge 3 ] || exit 1")
    seen = []
    good = vz("wait_healthy", {101: CHECK, 102: CHECK}, 30, lambda ctid, answers: seen.append(ctid))
    assert set(good) == {101, 102}
    assert seen == [102, 101]
    assert (fleet.folder / "var/asked").read_text().count("x") == 3


def test_a_service_that_never_answers_is_named_with_the_others_left_out(fleet, vz):
    fleet.rule("vzctl.exec2.101", "echo 'no socket' >&2; exit 1")
    with pytest.raises(CommandExecutionError) as error:
        vz("wait_healthy", {101: CHECK, 102: CHECK}, 0)
    assert "container 101: asterisk does not answer" in str(error.value)
    assert "no socket" in str(error.value)
    assert "102" not in str(error.value)


# --- packages -------------------------------------------------------------------------------------------------------


def have(fleet, ctid, *managers):
    """Put package managers into a container."""
    folder = fleet.folder / "vz/root" / str(ctid) / "usr/bin"
    folder.mkdir(parents=True)
    for manager in managers:
        (folder / manager).symlink_to("/nowhere")


def test_h31_a_link_in_a_container_does_not_lead_to_the_package_managers_of_the_node(fleet, vz):
    have(fleet, 101, "yum")
    (fleet.folder / "vz/root/102/usr").symlink_to(fleet.folder / "vz/root/101/usr")
    assert [vz("package_manager", ctid) for ctid in (101, 102)] == ["yum", None]


def test_each_container_is_updated_by_its_own_package_manager(fleet, vz):
    """H24."""
    fleet.add(105, "Debian")
    have(fleet, 101, "yum")
    have(fleet, 102, "yum", "dnf")
    have(fleet, 105, "apt-get")
    fleet.rule("vzctl.exec2", "echo Complete; exit 0")
    outcomes = vz("update_packages", [101, 102, 104, 105])
    assert {ctid: (entry["manager"], entry["ok"]) for ctid, entry in outcomes.items()} == {
        101: ("yum", True),
        102: ("dnf", True),
        104: (None, True),
        105: ("apt-get", True),
    }
    assert outcomes[101]["detail"] == "Complete"
    done = [call.split(maxsplit=2)[2] for call in fleet.calls("vzctl exec2")]
    assert [call for call in done if call.startswith("101")] == ["101 yum -q makecache", "101 yum -y update"]
    assert [call for call in done if call.startswith("102")] == ["102 dnf -q makecache", "102 dnf -y update"]
    assert [call for call in done if "apt-get" in call and "upgrade" in call and "DEBIAN_FRONTEND" in call]


def test_h24_a_list_that_cannot_be_fetched_updates_nothing_there(fleet, vz):
    have(fleet, 101, "yum")
    have(fleet, 102, "yum")
    fleet.rule("vzctl.exec2.101", "echo 'Cannot retrieve repository metadata' >&2; exit 1")
    fleet.rule("vzctl.exec2.102", "echo Complete; exit 0")
    told = []
    outcomes = vz("update_packages", [101, 102], on_done=lambda who, outcome: told.append(who))
    assert outcomes[101]["ok"] is False
    assert "Cannot retrieve repository metadata" in outcomes[101]["detail"]
    assert outcomes[102]["ok"] is True
    assert not fleet.calls("vzctl exec2 101 yum -y update")
    assert sorted(told) == [101, 102]


@pytest.mark.parametrize("manager", ["yum", "dnf", "apt-get", None])
def test_the_node_itself_is_updated_last(fleet, vz, monkeypatch, manager):
    have(fleet, 101, "yum")
    fleet.rule("vzctl.exec2", "exit 0")
    node = fleet.minion()
    real = node.module_of("vz.status").package_manager
    monkeypatch.setattr(
        node.module_of("vz.status"), "package_manager", lambda ctid=None: real(ctid) if ctid else manager
    )
    outcomes = vz("update_packages", [101], node=True)
    assert list(outcomes) == [101, "node"]
    assert (outcomes["node"]["manager"], outcomes["node"]["ok"]) == (manager, True)
    if manager:
        _, second = fleet.calls(manager)
        assert "update" in second or "upgrade" in second
        assert fleet.calls()[-1] == second
        fleet.rule(manager, "echo broken >&2; exit 3")
        assert vz("update_packages", node=True)["node"]["ok"] is False


def test_h13_with_a_conf_share_that_is_away_nothing_hangs(fleet, vz, fake_bin, monkeypatch):
    """Neither this job nor vzctl reads a conf there: it would hang until the SAN is back."""
    conf = fleet.folder / "etc/sysconfig/vz-scripts"
    fleet.mount(f"9 1 0:9 / {conf} rw - fuse.nfs 10.77.0.21:/rf-images/vzconf rw")
    assert vz("status", 101)["running"] is True
    fake_bin("stat", "exec sleep 60")
    module = fleet.minion().module_of("vz.status")
    monkeypatch.setattr(module, "ATTEMPT", 1)
    monkeypatch.setattr(module, "_ASKED", {})
    called = len(fleet.calls("vz"))
    for function, args in (
        ("status", [101]), ("running", []), ("containers", []), ("config", [101]), ("stop", [101]), ("start", [101]),
    ):  # fmt: skip
        with pytest.raises(
            CommandExecutionError, match=r"10\.77\.0\.21:/rf-images/vzconf, .* does not answer"
        ):
            vz(function, *args)
    assert len(fleet.calls("vz")) == called
    fake_bin("stat")
    monkeypatch.setattr(module, "STALE", 0)
    assert vz("status", 101)["running"] is True
