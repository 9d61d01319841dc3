"""What the migration refuses before it has touched anything: one message names it, and nothing was stopped or changed.

Findings come all at once, so one run shows all those of a node; what hides other findings has a run of its own."""

from types import SimpleNamespace

import pytest
from fleet_under_test import Overlay, changed, everything, migrate, minion_answers
from lab_client import wait_for

FLEET = {"nodes": 1}
NODE = "node001"
NOTHING = "Nothing was stopped and nothing was changed"

OWNERS = "/rf-images/pbx/.ringfree/owner"
FOREIGN = r"node=node077\nstore=nfs\nsince=2026-01-01T00:00:00Z\ngeneration=3\ncopied=1\n"

#: What is wrong, how it is made so and undone again (host, shell command), and what the message must say of it.
FINDINGS = {
    "bad vz.conf": (
        (NODE, "cp -a /etc/vz/vz.conf /root/ && echo DISK_QUOTA=no >>/etc/vz/vz.conf"),
        (NODE, "mv /root/vz.conf /etc/vz/vz.conf"),
        ["/etc/vz/vz.conf:", "DISK_QUOTA"],
    ),
    "ambiguous container conf": (
        (
            NODE,
            "cp -a /etc/vz/conf/103.conf /root/ && printf '%s\\n' 'VE_PRIVATE=\"/vz/other' >>/etc/vz/conf/103.conf",
        ),
        (NODE, "mv /root/103.conf /etc/vz/conf/103.conf"),
        ["/etc/vz/conf/103.conf:"],
    ),
    "H04: suspended container": (
        (NODE, "echo memory >/vz/dump/Dump.102"),
        (NODE, "rm /vz/dump/Dump.102"),
        ["/vz/dump/Dump.102", "suspended"],
    ),
    "copy that nobody owns": (
        ("san1", "mkdir -p /rf-images/pbx/104/etc"),
        ("san1", "rm -r /rf-images/pbx/104"),
        ["a copy of container 104 that nobody owns", "ringfree:sync:adopt"],
    ),
    "H12: container of another node": (
        ("san1", f"mkdir -p {OWNERS} && printf '{FOREIGN}' >{OWNERS}/105"),
        ("san1", f"rm {OWNERS}/105"),
        ["container 105 belongs to node077"],
    ),
    "H39: mount script with an old root": (
        (
            NODE,
            "printf '#!/bin/bash\\nDST=/vz/root/101/var\\nmount --bind /srv $DST\\n' >/etc/vz/conf/101.mount",
        ),
        (NODE, "rm /etc/vz/conf/101.mount"),
        [
            "/etc/vz/conf/101.mount:2 (and line 3) names /vz/root/101/var, the old root of container 101",
            "$VE_ROOT",
        ],
    ),
    "vz.conf that reads another file in": (
        (
            NODE,
            "cp -a /etc/vz/vz.conf /root/vz2 && echo '[ -f /etc/vz/vz.local ] && . /etc/vz/vz.local' >>/etc/vz/vz.conf",
        ),
        (NODE, "mv /root/vz2 /etc/vz/vz.conf"),
        ["/etc/vz/vz.conf:", "from this line on a shell does more than set values", "DISABLED"],
    ),
    "somebody else's premount script": (
        (NODE, "printf '#!/bin/sh\\n' >/etc/vz/conf/vps.premount"),
        (NODE, "rm /etc/vz/conf/vps.premount"),
        ["vps.premount", "is not the fence of this project"],
    ),
    "H39: fstab mounts into an old root": (
        (NODE, "cp -a /etc/fstab /root/ && echo '/srv /vz/root/103/mnt none bind,noauto 0 0' >>/etc/fstab"),
        (NODE, "cp -a /root/fstab /etc/fstab && rm /root/fstab"),
        ["/etc/fstab:", "mounts something on /vz/root/103/mnt"],
    ),
    "H39: a script beside the confs that does not come along": (
        (
            NODE,
            "cd /etc/vz/conf && mkdir .site && printf '#!/bin/sh\n. /etc/vz/conf/.site/lib\n' >105.start",
        ),
        (NODE, "rm -r /etc/vz/conf/.site /etc/vz/conf/105.start"),
        ["/etc/vz/conf/105.start:2 uses .site in /etc/vz/conf", "does not come along to the conf share"],
    ),
    "a conf that is a link to somewhere": (
        (NODE, "ln -s /root/ve-x /etc/vz/conf/ve-x.conf-sample"),
        (NODE, "rm /etc/vz/conf/ve-x.conf-sample"),
        ["/etc/vz/conf/ve-x.conf-sample is a link to /root/ve-x", "put the file itself in its place"],
    ),
    "a conf that cannot be written": (
        (NODE, "chattr +i /etc/vz/conf/104.conf"),
        (NODE, "chattr -i /etc/vz/conf/104.conf"),
        ["/etc/vz/conf/104.conf is immutable or append-only: 'chattr -i -a /etc/vz/conf/104.conf'"],
    ),
    "a private area with an immutable file": (
        (NODE, "chattr +i /vz/private/103/root/own"),
        (NODE, "chattr -i /vz/private/103/root/own"),
        ["container 103 has 1 immutable or append-only files, such as /vz/private/103/root/own"],
    ),
    "a mount in a private area": (
        (NODE, "mkdir /vz/private/105/spool && mount -t tmpfs spool /vz/private/105/spool"),
        (NODE, "umount /vz/private/105/spool && rmdir /vz/private/105/spool"),
        ["container 105 has spool (tmpfs) mounted on /vz/private/105/spool, in its private area"],
    ),
    "a private area that is seen elsewhere": (
        (NODE, "mkdir /srv/seen && mount --bind /vz/private/102 /srv/seen"),
        (NODE, "umount /srv/seen && rmdir /srv/seen"),
        ["container 102 is seen on /srv/seen as well", "'umount /srv/seen'"],
    ),
    "two containers in one private area": (
        (
            NODE,
            "printf 'VE_ROOT=/vz/root/188\nVE_PRIVATE=/vz/private/101\n' >/etc/vz/conf/188.conf",
        ),
        (NODE, "rm /etc/vz/conf/188.conf"),
        ["containers 101 and 188 have one private area, /vz/private/101"],
    ),
    "a stopped container's conf with shell in it": (
        (
            NODE,
            "printf 'VE_ROOT=/vz/root/189\nVE_PRIVATE=/vz/private/189\nif true; then\n' >/etc/vz/conf/189.conf",
        ),
        (NODE, "rm /etc/vz/conf/189.conf"),
        ["/etc/vz/conf/189.conf:3"],
    ),
    "H06: a file of another node on the conf share": (
        ("san1", "echo 'ONBOOT=\"no\"' >/rf-images/vzconf/0.conf"),
        ("san1", "rm /rf-images/vzconf/0.conf"),
        ["0.conf on the conf share differs from this node's"],
    ),
    "a service that does not answer": (
        (NODE, "vzctl exec 102 /etc/init.d/httpd stop"),
        (NODE, "vzctl exec 102 /etc/init.d/httpd start"),
        ["container 102", "apache", "Mend it, or exempt the container from the check"],
    ),
    "vz.conf with DISABLED for one container": (
        (NODE, "cp -a /etc/vz/conf/101.conf /root/ && echo 'DISABLED=\"no\"' >>/etc/vz/conf/101.conf"),
        (NODE, "mv /root/101.conf /etc/vz/conf/101.conf"),
        ["/etc/vz/conf/101.conf", "DISABLED"],
    ),
}

#: Faults of the lab that hide other findings: fault, host, and what the message must say.
FAULTS = {
    "wrong host key": ("wrong-host-key", "san1", ["10.77.0.21", "host key"]),
    "full SAN": ("san-full", "san1", ["10.77.0.21:/rf-images/pbx", "No space left on device"]),
    "missing export": ("unexport", "san1", ["10.77.0.21:/rf-images/pbx"]),
    "minion is down": ("minion-kill", NODE, [NODE]),
}


@pytest.fixture(scope="module")
def overlay(lab):
    """The pillar of this fleet, to change keys in."""
    lab.salt("*", "saltutil.sync_all")
    lab.on("san1", "mkdir", "-p", "/rf-images/pbx/.ringfree/owner")
    # How long the master waits for a minion that is down; enough for the others here.
    lab.write("master", "/etc/salt/master.d/patience.conf", "timeout: 5\ngather_job_timeout: 10\n")
    return Overlay(lab)


def refused(lab, *words):
    """Run the migration, which must not; returns what it said and what it changed."""
    before = everything(lab, [NODE])
    run = migrate(lab, *words)
    return SimpleNamespace(run=run, changes=changed(before, everything(lab, [NODE])))


def holds(outcome, *texts):
    """Assert a clean refusal."""
    assert outcome.run.code == 1, str(outcome.run)
    for text in texts:
        assert text in outcome.run.err, f"{text!r} is not in:\n{outcome.run}"
    assert 'File "/var/cache/salt' not in outcome.run.err, "a traceback of our modules"
    assert "Additional info" not in outcome.run.err
    assert outcome.changes == []


@pytest.fixture(scope="module")
def with_findings(lab, overlay):
    """A run on a node where a lot is wrong."""
    made, flagless = [], []
    try:
        for name, (make, undo, _) in FINDINGS.items():
            code, said = lab.try_on(make[0], "sh", "-ec", make[1])
            if code and "chattr: " in said and "No such file" not in said:
                flagless.append(name)  # the file system of this machine has no flags
                continue
            assert code == 0, f"{name}: {said}"
            made.append((name, undo))
        overlay.write("node001", ("- PBX", "- Nobody"), ("revnat beta:", "Nobody at all:"))
        outcome = refused(lab)
        outcome.flagless = flagless
        outcome.dry = lab.start("salt-run", "state.orch", "migrate", "test=True")
        outcome.dry.wait()
        return outcome
    finally:
        overlay.restore()
        for _, undo in reversed(made):
            lab.on(undo[0], "sh", "-ec", undo[1])


@pytest.mark.parametrize("name", FINDINGS)
def test_finding_is_named(with_findings, name):
    """Each finding is in the one message, nothing was stopped and nothing was changed."""
    if name in with_findings.flagless:
        pytest.skip("no file can be made immutable here")
    holds(with_findings, NOTHING, *FINDINGS[name][2])


def test_unknown_names_are_named(with_findings):
    """Priority and exempt names that fit no container."""
    holds(
        with_findings,
        "ringfree:containers:priority: 'Nobody' is no container of this node",
        "ringfree:containers:exempt: 'Nobody at all' is no container of this node",
    )


def test_under_test_true_it_says_the_same(with_findings):
    dry = with_findings.dry
    assert dry.wait() == 1, dry.err
    findings = with_findings.run.err.split("Preflight found ", 1)[1].split("\n[")[0]
    pillar = [line.strip() for line in findings.splitlines() if line.startswith(f"  {NODE}: pillar")]
    assert len(pillar) >= 2 and "Preflight found" in dry.out
    assert [line for line in pillar if line not in dry.out] == []


def test_findings_come_in_one_message(with_findings):
    """All at once, with their number first."""
    message = with_findings.run.err.split("Preflight found ", 1)[1]
    assert int(message.split()[0]) >= len(FINDINGS) - len(with_findings.flagless) + 2
    assert message.split("\n")[0].endswith(f"{NOTHING}.")


#: Host and role to settings that would bend a run.
SETTINGS = {
    (
        "master",
        "master",
    ): "disabled_requisites: [onfail]\nstate_auto_order: False\nstate_data: terse\ntest: True\n",
    (NODE, "minion"): "process_count_max: 4\nglobal_state_conditions: {'*': [not G@maintenance:true]}\n"
    "module_dirs: [/opt/modules]\n",
    ("mon001", "minion"): "state_queue: True\n",
}


@pytest.fixture(scope="module")
def with_settings(lab, overlay):
    """What preflight and an orchestration say on a fleet whose Salt is set up so that no result means anything."""
    lab.on(NODE, "mkdir", "-p", "/opt/modules/modules")
    lab.write(NODE, "/opt/modules/modules/ringfree_guard.py", "def fence():\n    return True\n")
    try:
        for (host, role), text in SETTINGS.items():
            lab.write(host, f"/etc/salt/{role}.d/site.conf", text)
            if role == "minion":
                lab.on(host, "systemctl", "restart", "salt-minion")
        for host, role in SETTINGS:
            if role == "minion":
                minion_answers(lab, host)
        code, said = lab.salt_run("ringfree.preflight")
        assert code == 1
        return SimpleNamespace(preflight=said, migrate=refused(lab), back=lab.salt_run(*BACK))
    finally:
        lab.on(NODE, "rm", "-r", "/opt/modules")
        for host, role in SETTINGS:
            lab.on(host, "rm", f"/etc/salt/{role}.d/site.conf")
            if role == "minion":
                lab.on(host, "systemctl", "restart", "salt-minion")
                minion_answers(lab, host)


BACK = ("state.orch", "rollback", 'pillar={"nodes": ["node001"]}')


def test_h36_settings_of_salt_that_would_bend_a_run_are_named(with_settings):
    """All of master, node and monitoring host in one message, each with its file and line."""
    for (host, role), text in SETTINGS.items():
        for number, line in enumerate(text.splitlines(), 1):
            option = line.split(":")[0]
            if option != "module_dirs":
                place = f"/etc/salt/{role}.d/site.conf:{number} sets {option}: "
                assert ("" if role == "master" else f"{host}: ") + place in with_settings.preflight
    assert (
        "/opt/modules/modules/ringfree_guard.py is loaded in the place of this project's"
        in with_settings.preflight
    )
    assert NOTHING in with_settings.preflight


def test_h36_with_a_master_that_bends_results_no_orchestration_begins(with_settings):
    """Neither a migration nor a way back, in which nothing would be done."""
    outcome, (code, said) = with_settings.migrate, with_settings.back
    assert (outcome.run.code, outcome.changes, code) == (1, [], 1)
    for text in (outcome.run.out, said):
        assert "The master's configuration would bend this run, nothing was touched:" in text
        assert "/etc/salt/master.d/site.conf:4 sets test: True" in text
        assert "/etc/salt/master.d/site.conf:1 sets disabled_requisites" in text


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(lab, overlay, name):
    """A SAN or a node that is not as it must be."""
    fault, host, texts = FAULTS[name]
    lab.must("fault", fault, host)
    try:
        outcome = refused(lab)
    finally:
        lab.must("heal")
    holds(outcome, *texts)


def test_bad_pillar_is_named(lab, overlay):
    """All faults of the pillar in one message, each with its key."""
    overlay.write("init", ("batch: 1", "batch: 0\n  bacth: 1"), ("port: 22", "port: 0"))
    try:
        outcome = refused(lab)
    finally:
        overlay.restore()
    holds(
        outcome,
        "The pillar is wrong, nothing was touched",
        "ringfree:batch",
        "ringfree:bacth",
        "ringfree:ssh:port",
    )


def test_unknown_node_is_named(lab, overlay):
    """A node that is asked for and is none of the pillar's."""
    outcome = refused(lab, 'pillar={"nodes": ["node009"]}')
    holds(outcome, "node009")


#: What a tired operator types, and every fault that has to be named.
TYPED = {
    ("rollback", '{"nodes": ["node001"], "data": "sync-back"}'): [
        "data: must be one of discard, sync_back, not 'sync-back'"
    ],
    ("rollback", "{}"): ["nodes: is missing"],
    ("migrate", '{"nodes": []}'): ["nodes: names no node"],
    ("migrate", '{"nodes": "node001", "dead_line": "04:30"}'): [
        "nodes: must be a list of nodes, not 'node001'",
        "dead_line: unknown key; known are nodes, deadline, ringfree",
    ],
    ("presync", '{"nodes": ["a:\\n  cmd.run:\\n    - name: touch /root/pwned\\nb"]}'): [
        "nodes: not in ringfree:nodes of the pillar (node001",
        "touch /root/pwned",
    ],
    ("failover", '{"to": "third", "accept_age": "false", "max_age": "60"}'): [
        "to: must be one of primary, secondary, not 'third'",
        "accept_age: must be true or false, not 'false'",
        "max_age: must be a whole number from 1 to",
    ],
    ("cleanup", '{"nodes": ["node009"], "ringfree": {"batch": "2"}}'): [
        "nodes: not in ringfree:nodes of the pillar",
        "ringfree:batch: must be a whole number from 1 to 100, not '2'",
    ],
    ("orch.back", '{"node": "node001", "data": "sync-back"}'): ["data: must be one of discard, sync_back"],
}


@pytest.mark.parametrize(("orchestration", "pillar"), TYPED)
def test_h28_what_is_typed_wrongly_is_refused_whole(lab, overlay, orchestration, pillar):
    """Before anything of it is rendered: all faults in one message, exit code 1, nothing touched, no traceback."""
    before = everything(lab, [NODE])
    code, said = lab.salt_run("state.orch", orchestration, f"pillar={pillar}")
    assert code == 1, said
    assert "The pillar is wrong, nothing was touched:" in said
    assert not [fault for fault in TYPED[orchestration, pillar] if fault not in said], said
    assert "Traceback" not in said
    assert "Failed:    1" in said and "Total states run:     1" in said, said
    assert changed(before, everything(lab, [NODE])) == []
    assert lab.try_on("master", "test", "-e", "/root/pwned")[0] == 1


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (
            ["status", "nodez=node001"],
            "ringfree.status takes nodes, all: got an unexpected keyword argument 'nodez'",
        ),
        (
            ["gate", "node001"],
            "ringfree.gate takes node, part, pillar, raises: missing a required argument: 'part'",
        ),
        (["pause", "node001"], "ringfree.pause takes nothing: too many positional arguments"),
        (["commit", "node009"], "node: not in ringfree:nodes of the pillar (node001"),
        (["failover_plan", "third"], "to: must be one of primary, secondary, not 'third'"),
        (["report", "\x1b[2J"], "nodes: not in ringfree:nodes of the pillar (node001"),
    ],
)
def test_h28_a_runner_that_is_called_wrongly_says_so(lab, overlay, words, fault):
    code, said = lab.salt_run(f"ringfree.{words[0]}", *words[1:])
    assert code == 1, said
    assert fault in said
    assert "Nothing was touched." in said
    assert "Traceback" not in said
    assert "another exception" not in said
    assert "\x1b[2J" not in said


def test_second_operator_is_refused(lab, overlay):
    """H18: while one orchestration runs, another is refused and told who runs it, since when."""
    first = lab.start("salt-run", "state.orch", "presync", "--out=json")
    try:
        wait_for(lambda: first.ended or first.said("presync: node001"), "the pre-sync to begin")
        lab.on("master", "pkill", "-STOP", "-f", "[s]alt-run state.orch presync")
        outcome = refused(lab)
        assert not first.ended
    finally:
        lab.try_on("master", "pkill", "-CONT", "-f", "[s]alt-run state.orch presync")
        code = first.wait()
    # The pre-sync of the first one goes on: only what it does not do counts here.
    outcome.changes = [
        change for change in outcome.changes if not change.startswith((" san", " node001 journal"))
    ]
    holds(outcome, "'presync' runs since", "started by root as process", "Nothing was touched")
    assert code == 0, first.err


def test_nothing_of_all_this_is_left(lab, overlay):
    """The same fleet is fit to move."""
    code, said = lab.salt_run("ringfree.preflight")
    assert code == 0, said
