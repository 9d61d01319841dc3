"""ringfree_process: who works is known by id and birth, and nobody else can make believe that he does."""

import contextlib
import fcntl
import json
import os
import signal
import stat
import subprocess
import threading
import time

import pytest
import ringfree_command
import ringfree_process as process
from left_behind import LeftBehind, is_alive, until

AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be another user, or in another namespace"
)
#: What used to make a node look busy.
WORDS = ("ringfree_rollback.fire", "rsync", "-a", "/vz/private/101/", "x")
SLEEP = "while :; do sleep 0.1; done"


@pytest.fixture
def lock(tmp_path):
    return str(tmp_path / "lock")


@pytest.fixture
def other():
    """Another process."""
    made = subprocess.Popen(["sleep", "600"])
    yield made
    made.kill()
    made.wait()


@pytest.fixture
def left(tmp_path):
    """left("rsync", ...) is a command whose job was killed."""
    (tmp_path / "bin").mkdir()
    made = LeftBehind(tmp_path / "bin", tmp_path / "records")
    for name in ("rsync", "vzctl"):
        made.program(name, made.never)
    yield made
    made.end()


@pytest.fixture
def commands(tmp_path):
    """The commands that still run."""
    return lambda: process.commands(str(tmp_path / "records"))


def of_session(leader):
    """The processes of a session: id to name."""
    lines = subprocess.run(
        ["ps", "-o", "pid=,comm=", "-s", str(leader)], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return {int(line.split()[0]): line.split()[1] for line in lines}


@pytest.fixture
def decoy():
    """decoy(*prefix) is a process with all the words in its command line and environment, and with a program's name."""
    begun = []

    def make(*prefix):
        argv = [*prefix, "sh", "-c", f"printf rsync > /proc/$$/comm; {SLEEP}", *WORDS]
        made = subprocess.Popen(argv, env={**os.environ, "RINGFREE_COMMAND": "1"}, start_new_session=True)
        begun.append(made)
        return until(lambda: [pid for pid, name in of_session(made.pid).items() if name == "rsync"])[0]

    yield make
    for made in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(made.pid, signal.SIGKILL)
        made.wait()


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_process_is_its_id_and_its_birth(other):
    assert process.is_alive(process.me())
    found = {"pid": other.pid, "born": ringfree_command.born(other.pid)}
    assert process.is_alive(found)
    assert not process.is_alive({**found, "born": found["born"] - 1}), "another one with its id"
    assert not process.is_alive({**found, "boot": "of another boot"}), "and of the boot before"
    other.kill()
    until(lambda: not process.is_alive(found))  # not waited for, so it is still there as a name
    assert ringfree_command.born(other.pid) is not None


@pytest.mark.parametrize("pid", [None, "1", True, -1, 0, 1 << 70, {}, 0.5])
def test_what_is_no_process_is_not_alive(pid):
    assert not process.is_alive({"pid": pid, "born": None})


def test_only_a_process_of_the_host_and_of_this_user_is_one_of_the_host(other):
    assert process.is_of_host(other.pid)
    assert process.is_of_host(os.getpid())
    assert not process.is_of_host(1 << 22)


@AS_ROOT
@pytest.mark.parametrize(
    "prefix",
    [
        ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child"),
        ("setpriv", "--reuid=65534", "--clear-groups"),
        ("setpriv", "--reuid=65534", "--clear-groups", "unshare", "--user", "--map-root-user"),
    ],
    ids=["in a container", "another user", "root of a namespace of his own"],
)
def test_h33_neither_a_container_nor_another_user_is_the_host(decoy, prefix):
    assert not process.is_of_host(decoy(*prefix))


def test_h33_the_kernel_of_openvz_says_which_container_it_is(other, monkeypatch, tmp_path):
    """There a container's root is root, and the kernels of the time have no link to the namespace."""
    real, here = open, {"self": b"0", str(other.pid): b"101"}

    def shown(path, *arguments, **options):
        for pid, container in here.items():
            if path == f"/proc/{pid}/status":
                (tmp_path / pid).write_bytes(real(path, "rb").read() + b"envID:\t" + container + b"\n")
                return real(tmp_path / pid, *arguments, **options)
        return real(path, *arguments, **options)

    monkeypatch.setattr(process, "open", shown, raising=False)
    monkeypatch.setattr(os, "readlink", lambda path: (_ for _ in ()).throw(FileNotFoundError(path)))
    assert not process.is_of_host(other.pid)
    here[str(other.pid)] = b"0"
    assert process.is_of_host(other.pid)


def test_what_is_ended_is_that_process_and_no_other(other):
    found = {"pid": other.pid, "born": ringfree_command.born(other.pid)}
    process.end({**found, "born": found["born"] - 1})
    assert other.poll() is None
    process.end(found)
    assert other.wait(10) == -9
    process.end(found)


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_is_taken_changed_and_given_back(lock):
    assert process.holder(lock) is None
    assert process.take(lock, {"what": "the way back"}) is None
    held = process.holder(lock)
    assert (held["what"], held["pid"]) == ("the way back", os.getpid())
    assert time.time() - 60 < held["since"] <= time.time()
    assert process.take(lock, {"what": "another"}) == held
    assert process.change(lock, lambda entries: entries.update(paused="now"))["paused"] == "now"
    assert process.holder(lock)["paused"] == "now"
    assert process.release(lock) is True
    assert process.release(lock) is False
    assert (process.holder(lock), process.change(lock, dict.clear)) == (None, None)


def test_a_lock_is_nobody_elses_to_read(lock):
    before = os.umask(0)
    try:
        process.take(lock, {"what": "x"})
    finally:
        os.umask(before)
    assert (mode(lock), mode(f"{lock}.guard")) == (0o600, 0o600)


def test_h18_a_holder_that_is_gone_holds_nothing(lock, other):
    entries = {"what": "x", "pid": other.pid, "born": ringfree_command.born(other.pid)}
    with open(lock, "w") as stream:
        json.dump(entries, stream)
    assert process.take(lock, {"what": "y"}) == entries
    assert process.release(lock) is False, "only the holder gives it back"
    other.kill()
    other.wait()
    assert process.take(lock, {"what": "y"}) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', "[" * 100_000, "\udcff"])
def test_a_damaged_lock_holds_nothing(lock, text):
    with open(lock, "wb") as stream:
        stream.write(os.fsencode(text))
    assert process.take(lock, {"what": "x"}) is None


def test_a_lock_that_is_a_link_is_not_followed(lock, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps({**process.me(), "what": "x"}))
    os.symlink(elsewhere, lock)
    assert process.holder(lock) is None
    os.symlink(elsewhere, f"{lock}.guard")
    with pytest.raises(OSError, match="symbolic link"):
        process.take(lock, {"what": "y"})
    assert json.loads(elsewhere.read_text())["what"] == "x"


def test_h18_who_holds_a_guard_up_is_named_and_not_waited_for(lock, monkeypatch):
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    go, held = threading.Event(), threading.Event()

    def hold():
        with process.guard(lock, "something slow"):
            held.set()
            go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        held.wait(60)
        with pytest.raises(
            TimeoutError,
            match=rf"lock\.guard is held by process {os.getpid()} \('something slow'\) since \d+-",
        ):
            process.take(lock, {"what": "x"})
    finally:
        go.set()
        holder.join()
    assert process.take(lock, {"what": "x"}) is None


def test_h18_one_that_left_no_name_is_not_waited_for_either(lock, monkeypatch):
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    with open(f"{lock}.guard", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="left no name; 'fuser -v'"):
            process.take(lock, {"what": "x"})


# --- commands that a killed job left ----------------------------------------------------------------------------------


def test_h16_a_command_whose_job_was_killed_is_known(left, commands):
    pid = left("rsync", "-aHAXSx", "/vz/private/101/", "10.77.0.21:/x/")
    found = commands()
    assert set(found) == {pid}
    assert found[pid]["program"] == "rsync"
    assert found[pid]["command"] == "rsync -aHAXSx /vz/private/101/ 10.77.0.21:/x/"
    process.end(found[pid])
    until(lambda: not commands())
    assert list((left.records).iterdir()) == [], "its record is over"


def test_h16_so_is_one_that_is_run_apart(left, commands):
    left.program("apart", 'shift; exec "$@"')
    pid = left("apart", "{}", "vzctl", "start", "101")
    assert {pid: work["program"] for pid, work in commands().items()} == {pid: "vzctl"}


def test_h16_a_command_of_a_job_that_lives_is_known_until_it_ends(tmp_path, commands, left, monkeypatch):
    go = tmp_path / "go"
    os.mkfifo(go)
    left.program("rsync", f"cat {go}")
    monkeypatch.setenv("PATH", f"{left.bin}:{os.environ['PATH']}")
    monkeypatch.setattr(ringfree_command, "RECORDS", str(left.records))
    worker = threading.Thread(target=ringfree_command.run, args=(["rsync", "-a"], 60))
    worker.start()
    try:
        until(commands)
    finally:
        go.write_text("on\n")
        worker.join()
    assert commands() == {}
    assert list(left.records.iterdir()) == []


@pytest.mark.parametrize(("program", "apart"), [("rsync", ()), ("vzctl", ("apart", "{}"))])
def test_h16_a_job_that_was_killed_before_it_noted_its_command(left, commands, program, apart):
    left.program("apart", 'shift; exec "$@"')
    # Found by its words alone, so nothing else on this machine may say the same: tests run beside each other.
    pid = left(*apart, program, f"--log={left.records}", noted=False)
    assert set(commands()) == {pid}


def test_h16_a_command_that_is_being_born_keeps_its_record(left, commands):
    """Its process is there and still has the words of its job; it is looked for again."""
    pid = left("rsync", "-a", "/vz/private/101/")
    (path,) = left.records.iterdir()
    path.write_text(path.read_text().splitlines()[0].replace("/vz/private/101/", "/vz/private/102/"))
    assert commands() == {} and path.exists()
    os.utime(path, (1, 1))
    assert commands() == {} and not path.exists()
    assert is_alive(pid)


def test_h16_the_children_of_a_command_that_was_killed_count(left, commands):
    left.program("rsync", f"( {left.never} ) & ( exec sleep 600 ) & {left.never}")
    pid = left("rsync", "-a")
    until(lambda: len(commands()) == 2)
    children = set(commands()) - {pid}
    process.end(commands()[pid])
    until(lambda: not is_alive(pid))
    assert set(commands()) == children, "not those that run something else"
    for work in commands().values():
        process.end(work)
    until(lambda: not commands())


def test_a_number_that_another_process_has_by_now_is_nobody_of_ours(left, commands):
    left("rsync", "-a")
    (path,) = left.records.iterdir()
    job, child = map(json.loads, path.read_text().splitlines())
    child["born"] -= 1
    path.write_text("\n".join(map(json.dumps, [job, child, ""])))
    assert commands() == {}
    assert not path.exists()


def test_records_of_the_boot_before_are_none(left, commands):
    left("rsync", "-a")
    (path,) = left.records.iterdir()
    job, child = map(json.loads, path.read_text().splitlines())
    path.write_text("\n".join(map(json.dumps, [{**job, "boot": "another"}, child, ""])))
    assert commands() == {}


@pytest.mark.parametrize("text", ["", "{", "[]\n[]\n", "{}\n{}\n", '{"argv": 1}\n', "\0\n"])
@pytest.mark.parametrize("name", ["1-1-x", "x", "1", "-"])
def test_a_record_that_is_none_is_removed(tmp_path, commands, name, text):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / name).write_text(text)
    assert commands() == {}
    assert list((tmp_path / "records").iterdir()) == []


def test_h33_words_count_for_nothing(decoy, left, commands):
    """Neither in a command line nor in an environment, of the host's own root."""
    decoy()
    assert commands() == {}
    pid = left("rsync", "-a")
    decoy()
    assert set(commands()) == {pid}


@AS_ROOT
def test_h33_a_process_of_a_container_does_not_count_in_a_session_of_ours(left, commands):
    """As one that a health check has begun in a container, and that takes a program's name."""
    for number, prefix in enumerate(
        ("unshare --pid --mount-proc --fork --kill-child", "setpriv --reuid=65534")
    ):
        decoy = f"printf rsync > /proc/\\$\\$/comm; {SLEEP}"
        left.program(f"decoy{number}", f'exec {prefix} sh -c "{decoy}"')
    left.program("vzctl", f"{left.bin}/decoy0 & {left.bin}/decoy1 & {left.never}")
    pid = left("vzctl", "exec2", "101", "true")

    def names():
        return list(of_session(pid).values())

    until(lambda: names().count("rsync") >= 2)
    assert set(commands()) == {pid}
    process.end(commands()[pid])
    until(lambda: not is_alive(pid))
    assert names().count("rsync") >= 2
    assert commands() == {}
