"""The texts of the dead man's switch and its record."""

import json
import subprocess
import time

import pytest
import ringfree_deadman as deadman
import ringfree_pillar

NOW = 1767225600.0
FOLDER = "/var/lib/ringfree/deadman"
PILLAR = {"nodes": ["node001"], "nfs": {"primary": "10.0.0.1", "secondary": "10.0.0.2"}}


def run_script(tmp_path, deadline, rehearsal=False):
    """Run the script with a salt-call that writes down its words; returns exit code and words."""
    salt_call = tmp_path / "salt-call"
    salt_call.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    salt_call.chmod(0o755)
    script = tmp_path / "fire"
    script.write_text(deadman.script(str(tmp_path), str(salt_call), deadline, rehearsal))
    done = subprocess.run(["sh", script], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"", b"")
    said = tmp_path / "said"
    return done.returncode, said.read_text() if said.exists() else None


def test_before_the_deadline_the_script_starts_nothing(tmp_path):
    assert run_script(tmp_path, time.time() + 60) == (0, None)


def test_after_the_deadline_it_fires_and_passes_the_exit_code_on(tmp_path):
    code, said = run_script(tmp_path, time.time() - 1)
    assert code == 3
    own = f"--local --config-dir={tmp_path} --saltfile={tmp_path}/Saltfile"
    assert said == f"{own} --log-level=warning ringfree_rollback.fire\n"


def test_a_rehearsal_says_that_it_is_one(tmp_path):
    assert run_script(tmp_path, 0, rehearsal=True)[1].endswith("ringfree_rollback.fire test=True\n")


@pytest.mark.parametrize("path", ["/a b", "/a;b", "/$(x)", "/a\nb", "a", "", "/a'b", "/a%b"])
def test_h28_a_path_that_a_shell_reads_as_something_else_is_refused(path):
    for make in (
        lambda: deadman.script(path, "/usr/bin/salt-call", 0),
        lambda: deadman.script(FOLDER, path, 0),
        lambda: deadman.service(path),
        lambda: deadman.cron(path),
    ):
        with pytest.raises(ValueError, match="cannot stand in a script"):
            make()


def test_the_service_leaves_the_containers_that_it_started():
    text = deadman.service(FOLDER)
    assert "KillMode=process" in text
    assert f"ExecStart=/bin/sh {FOLDER}/fire\n" in text


def test_the_timer_comes_again_after_a_boot_and_after_each_try():
    real, rehearsal = deadman.timer(), deadman.timer(rehearsal=True)
    assert "OnBootSec=30\n" in real and "OnUnitInactiveSec=30\n" in real and "WantedBy=timers.target" in real
    assert "OnActiveSec=0\n" in rehearsal and "OnUnitInactiveSec" not in rehearsal


def test_cron_never_starts_two_at_once():
    (line,) = [line for line in deadman.cron(FOLDER).splitlines() if line.startswith("*")]
    assert line == f"* * * * * root flock -n -o {FOLDER}/lock /bin/sh {FOLDER}/fire"


def test_what_cron_starts_runs_the_script_and_one_at_a_time(tmp_path):
    (line,) = [line for line in deadman.cron(str(tmp_path)).splitlines() if line.startswith("*")]
    command = ["sh", "-c", line.split(" root ")[1]]
    ran = tmp_path / "ran"
    (tmp_path / "fire").write_text(f"echo x >>{ran}\n")
    assert subprocess.run(command, check=False).returncode == 0
    with subprocess.Popen(
        ["flock", tmp_path / "lock", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdin.write(b"held\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"held\n"
        assert subprocess.run(command, check=False).returncode == 1
        other.stdin.close()
    assert subprocess.run(command, check=False).returncode == 0
    assert ran.read_text() == "x\nx\n"


def test_the_configuration_needs_no_master_and_nothing_of_the_minion():
    config = json.loads(deadman.config(FOLDER, "node001", "/run/salt/minion"))
    assert (config["id"], config["file_client"], config["master_type"]) == ("node001", "local", "disable")
    for key in ("extension_modules", "cachedir", "pki_dir", "log_file"):
        assert config[key].startswith(f"{FOLDER}/"), key
    assert config["pillar_roots"]["base"][0].startswith(f"{FOLDER}/")


def test_the_pillar_is_what_was_validated_and_no_template():
    settings = ringfree_pillar.validate(PILLAR)["settings"]
    files = deadman.pillar(settings)
    assert set(files) == {"top.sls", "ringfree.sls"}
    for text in files.values():
        assert text.startswith("#!json\n")
    kept = json.loads(files["ringfree.sls"].split("\n", 1)[1])["ringfree"]
    assert kept == settings
    again = ringfree_pillar.validate(kept)
    assert (again["faults"], again["settings"]) == ([], settings)


def test_ours_are_told_from_others():
    ours = ["ringfree_deadman.py", "vz.py", "cloudstor.py", "ringfree_nfs.py"]
    others = ["vz.pyc", "vzz.py", "__init__.py", ".ringfree_x.py", "mount.py", "ringfree_x.py.old"]
    assert [name for name in ours + others if deadman.is_ours(name)] == ours


GOOD = deadman.record(NOW, NOW, "cron", "/c")


def test_a_record_is_one():
    assert deadman.record_fault(GOOD) is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"deadline": None},
        {"deadline": "soon"},
        {"deadline": True},
        {"since": None},
        {"scheduler": "at"},
        {"scheduler": None},
        {"cachedir": 7},
    ],
)
def test_a_record_that_says_something_else_is_damaged(change):
    assert deadman.record_fault({**GOOD, **change})


def test_a_time_of_another_day_has_its_date():
    assert len(deadman.clock(NOW, NOW + 1)) == len("00:00:01")
    assert len(deadman.clock(NOW, NOW + 2 * 86400)) == len("2026-01-01 00:00:01")


FACT = {"fired": NOW, "deadline": NOW - 5}


@pytest.mark.parametrize(
    ("fact", "state", "words"),
    [
        (None, "in_flight", []),
        ({}, "local", []),
        ("x", "local", []),
        ({**FACT, "ok": True}, "nfs", []),
        (FACT, "in_flight", ["began to bring it back at", "because nobody had committed it by"]),
        (FACT, "local", ["brought it back at"]),
        ({**FACT, "ok": True, "not_done": []}, "local", ["brought it back at", "because nobody had committed it by"]),
        ({**FACT, "ok": True, "not_done": ["fstab: full"]}, "local", ["brought it back at", "Not done: fstab: full."]),
        ({**FACT, "ok": False, "not_done": ["a", "b"]}, "in_flight", ["could not", "tries again: a; b."]),
    ],
)  # fmt: skip
def test_what_it_did_in_a_sentence(fact, state, words):
    said = deadman.told(fact, state, NOW + 60)
    assert bool(said) is bool(words)
    for word in words:
        assert word in said
