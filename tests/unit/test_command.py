"""ringfree_command: external commands end, one way or the other, and say how."""

import os
import re
import signal
import subprocess
import sys
import time

import msgpack
import pytest
import ringfree_command as command
from hypothesis import example, given
from hypothesis import strategies as st


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
        return stream.read().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def python(code):
    return [sys.executable, "-ISc", code]


def test_what_a_command_prints_and_its_exit_code_come_back():
    result = command.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result["rc"], result["out"], result["err"], result["timed_out"]) == (3, "out\n", "err\n", False)
    assert result["argv"] == ["sh", "-c", "echo out; echo err >&2; exit 3"]
    assert 0 <= result["seconds"] < 60


def test_h28_arguments_reach_the_command_as_they_are():
    words = ["a b", "$HOME", "`id`", "x; id", "", "*", "-n"]
    result = command.run(["printf", "%s\\n", *words])
    assert result["out"].split("\n")[:-1] == words


def test_standard_input_is_empty_unless_given():
    assert command.run(["cat"], deadline=30)["out"] == ""
    assert command.run(["cat"], deadline=30, stdin="text\n")["out"] == "text\n"


def test_the_environment_is_small():
    words = dict(line.partition("=")[::2] for line in command.run(["env"])["out"].splitlines())
    assert words.keys() == {"PATH", "LC_ALL", "HOME"}


def test_h16_a_copy_is_recorded_before_it_begins_and_until_it_ends(records, tmp_path, monkeypatch):
    """The copy itself sees its record; what else there is to run leaves none."""
    program = tmp_path / "rsync"
    program.write_text(f"#!/bin/sh\nls -l {records}; exec head -n 1 {records}/*\n")
    program.chmod(0o755)
    result = command.run([str(program), "-a"])
    assert result["rc"] == 0 and f'"argv": ["{program}", "-a"]' in result["out"]
    assert "-rw-------" in result["out"]
    assert [records.stat().st_mode & 0o777, list(records.iterdir())] == [0o700, []]
    assert command.run([str(program), "-a", "/nowhere"], deadline=0.01)["argv"]
    assert str(records) not in command.run(["ls", "-d", str(records / "x")])["out"]


def test_h16_what_cannot_be_recorded_is_run_all_the_same(records, tmp_path):
    records.parent.mkdir(exist_ok=True)
    records.write_text("no folder")
    program = tmp_path / "vzctl"
    program.write_text("#!/bin/sh\necho up\n")
    program.chmod(0o755)
    assert command.run([str(program), "start", "101"])["out"] == "up\n"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("\\377\\351", r"\xff\xe9"),
        (r"caf\303\251\n\t1\n", "caf\u00e9\n\t1\n"),
        (r"a\r\nb\rc\n", "a\nb\\rc\n"),
        (r"\033[2J\007", r"\x1b[2J\x07"),
        (r"\302\233 2J", r"\x9b 2J"),
        (r"a\342\200\256b", r"a\u202eb"),
        (r"a\342\200\250b\302\205", r"a\u2028b\x85"),
        (r"\355\240\200", r"\xed\xa0\x80"),
        (r"\000", r"\x00"),
    ],
)
def test_what_a_command_prints_is_harmless_wherever_it_is_shown(printed, shown):
    """Bytes that are no text, escapes of a terminal, marks that turn the direction of text round."""
    for where in ("out", "err"):
        script = f"printf '{printed}'" + (" >&2" if where == "err" else "")
        assert command.run(["sh", "-c", script])[where] == shown


FLAGS = re.DOTALL | re.MULTILINE
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
)


@given(ANYTHING)
def test_what_is_made_printable_can_be_carried_by_salt_and_is_on_one_line(value):
    shown = command.printable(value)
    assert msgpack.unpackb(msgpack.packb(shown)) == shown
    assert all(text.isprintable() for text in texts(shown))
    assert command.printable(shown) == shown


@given(st.binary(max_size=12), st.text(st.characters(), max_size=8))
@example(b"caf\xe9\\xe9\x1b[2J\xc2\x85\n", "\x85\udc85\ud800\\u0085\U000e0001\\\\n")
def test_a_name_that_was_spelled_is_turned_back(data, text):
    for name in (os.fsdecode(data), text):
        word = command.spell(name)
        assert word.isprintable() and command.printable(word, lines=True) == word
        assert command.unspell(word) == name


def test_a_usual_name_is_spelled_as_it_is():
    for name in ("101.conf", "na\u00efve \u65e5", "a b'\""):
        assert command.spell(name) == name


@given(st.text(st.characters()))
def test_lines_stay_lines(text):
    assert command.printable(text, lines=True).count("\n") == text.count("\n")
    assert command.printable(text, lines=True).split("\n")[0].replace("\t", "").isprintable()


def texts(value):
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.items() if isinstance(value, dict) else value:
            yield from texts(list(inner) if isinstance(inner, tuple) else inner)


def test_a_flood_is_cut_and_costs_next_to_nothing(tmp_path, monkeypatch):
    """Not in memory, not in /tmp, not in time of a processor: with 1 % of an hour it would fill any disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = command.run(["sh", "-c", "yes & yes bad >&2"], deadline=2)
    assert result["timed_out"]
    at_once = (
        4 * command.CHUNK
    )  # of each of two pipes before a pause: they hold one, and are filled while we read
    assert result["cut"] < 2 * at_once * (2 / command.PAUSE), "read more than the pauses let through"
    for where, line in (("out", "y\n"), ("err", "bad\n")):
        assert len(result[where]) < command.LIMIT + 100
        assert result[where].startswith(line)
        assert "bytes are left out here]\n" in result[where]
    assert result["cut"] > 0


def test_the_first_and_the_last_half_of_much_output_are_kept_and_all_of_it_is_counted():
    script = "seq 1 300000; echo 'Total file size: 7 bytes'; printf 'last'"
    result = command.run(["sh", "-c", script], count=r"1\d*$|last", limit=1000)
    assert result["out"].startswith("1\n2\n3\n")
    assert result["out"].endswith("\nTotal file size: 7 bytes\nlast")
    numbers = "".join(f"{number}\n" for number in range(1, 300001))
    printed = f"{numbers}Total file size: 7 bytes\nlast"
    assert result["cut"] == len(printed) - 1000
    # Whole lines, and nothing else than what was printed.
    first, left_out, last = re.fullmatch(
        r"(.*)^\[(\d+) bytes are left out here]\n(.*)", result["out"], FLAGS
    ).groups()
    assert printed == first + printed[len(first) :][: int(left_out)] + last
    assert 980 < len(first + last) <= 1000
    assert first.endswith("\n") and printed[: -len(last)].endswith("\n")
    assert result["counted"] == 1 + 10 + 100 + 1000 + 10000 + 100000 + 1
    assert (result["rc"], result["err"]) == (0, "")


def test_output_of_just_the_limit_is_whole():
    for size in (0, 1, 999, 1000, 1001):
        result = command.run(["printf", "%s", "x" * size], limit=1000)
        assert (result["out"] == "x" * size, result["cut"]) == (size <= 1000, max(0, size - 1000))
        assert command.describe(result).startswith("'printf") and (size <= 1000 or result["cut"])
    assert "printed 1 bytes more than are read" in command.describe(result)


def test_what_counts_is_found_across_reads_and_in_lines_without_end():
    script = "printf '*dele'; sleep 0.1; printf 'ting x\\n'; head -c 3000000 /dev/zero"
    script += "; printf '*deleting\\n*deleting y'"
    assert command.run(["sh", "-c", script], count=r"\*deleting")["counted"] == 2


def test_nothing_of_a_command_is_left_open():
    command.run(["true"])
    before = os.listdir("/proc/self/fd")
    for argv in (["true"], ["/nowhere"], ["sh", "-c", "exit 1"]):
        command.run(argv)
    command.run(["sleep", "100"], deadline=0.1)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_h17_a_command_whose_job_is_killed_comes_to_its_own_end(tmp_path):
    """vzctl must not die of a word that nobody reads any more: a container is stopped or not, nothing between."""
    running, go, done = tmp_path / "running", tmp_path / "go", tmp_path / "done"
    script = (
        f"touch {running}; until [ -e {go} ]; do sleep 0.01; done; head -c 200000 /dev/zero && touch {done}"
    )
    code = "import sys\nsys.path.insert(0, sys.argv[1])\nimport ringfree_command as command\n"
    code += "command.RECORDS = sys.argv[2]\ncommand.run(['sh', '-c', sys.argv[3], 'vzctl'], deadline=60)"
    places = (os.path.dirname(command.__file__), str(tmp_path / "records"))
    job = subprocess.Popen([sys.executable, "-Ic", code, *places, script])
    wait_until(running.exists)
    job.kill()
    job.wait()
    go.touch()
    wait_until(done.exists)


def test_a_missing_program_is_127():
    result = command.run(["/nowhere/vzctl", "status", "101"])
    assert (result["rc"], result["timed_out"]) == (127, False)
    assert "No such file or directory" in result["err"]


def test_h13_a_command_is_killed_with_its_children_at_the_deadline(tmp_path):
    pids = tmp_path / "pids"
    result = command.run(["sh", "-c", f"sleep 1000 & echo $$ $! > {pids}; echo half; wait"], deadline=2)
    assert (result["rc"], result["timed_out"]) == (None, True)
    assert result["out"] == "half\n"
    assert 2 <= result["seconds"] < 60
    for pid in pids.read_text().split():
        wait_until(lambda pid=int(pid): not alive(pid))


def test_h13_what_survives_the_kill_is_left_behind_and_told(monkeypatch):
    """A process in D state on a dead server ignores SIGKILL; here the signal is not sent at all."""
    monkeypatch.setattr(command, "GRACE", 0.2)
    left = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", lambda group, number: left.append(group))
        result = command.run(["sleep", "1000"], deadline=0.2)
    try:
        assert result["timed_out"]
        assert result["seconds"] < 60
        assert "still hanging after SIGKILL" in command.describe(result)
        assert alive(left[0])
    finally:
        os.kill(left[0], signal.SIGKILL)


def test_a_daemon_that_a_command_leaves_does_not_hold_it_up(tmp_path):
    """`vzctl start` may leave processes that keep its output open; its own end is what counts."""
    pid, go, talked = tmp_path / "pid", tmp_path / "go", tmp_path / "talked"
    script = f"echo $$ > {pid}; echo up; until [ -e {go} ]; do sleep 0.01; done; head -c 300000 /dev/zero"
    script += f" && touch {talked}; exec sleep 1000"
    result = command.run(["setsid", "--fork", "sh", "-c", script], deadline=30)
    wait_until(pid.exists)
    wait_until(lambda: pid.read_text().strip())
    try:
        assert (result["rc"], result["timed_out"]) == (0, False)
        # What it prints later is read by somebody: without a reader it would be killed, or wait for ever.
        go.touch()
        wait_until(talked.exists)
        assert alive(int(pid.read_text()))
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_much_output_and_much_input_do_not_block():
    text = "x" * 1_000_000
    assert command.run(["cat"], deadline=30, stdin=text)["out"] == text
    assert command.run(["wc", "-c"], deadline=30, stdin=3 * text)["out"].strip() == "3000000"


def test_several_commands_run_a_few_at_a_time(tmp_path):
    code = (
        "import os, sys, time\n"
        f"place = {str(tmp_path)!r}\n"
        "open(os.path.join(place, sys.argv[1]), 'w').close()\n"
        "print(len(os.listdir(place)))\n"
        "time.sleep(0.2)\n"
        "os.unlink(os.path.join(place, sys.argv[1]))\n"
    )
    results = dict(command.run_many({number: [*python(code), str(number)] for number in range(6)}, workers=2))
    assert {key: result["rc"] for key, result in results.items()} == dict.fromkeys(range(6), 0)
    assert {int(result["out"]) for result in results.values()} <= {1, 2}


def test_each_result_comes_as_soon_as_its_command_ends(tmp_path):
    go = tmp_path / "go"
    os.mkfifo(go)
    results = command.run_many({"slow": ["cat", str(go)], "quick": ["true"]}, workers=2, deadline=20)
    assert next(results)[0] == "quick"
    go.write_text("on\n")
    assert next(results)[1]["out"] == "on\n"
    assert next(results, None) is None


def test_one_command_that_fails_does_not_stop_the_others():
    results = dict(command.run_many({"a": ["false"], "b": ["true"], "c": ["/nowhere"]}, workers=1))
    assert {key: result["rc"] for key, result in results.items()} == {"a": 1, "b": 0, "c": 127}
    assert list(command.run_many({})) == []


@pytest.mark.parametrize(
    ("out", "err", "lines", "words"),
    [
        ("", "", 3, ""),
        ("a\n\n  b  \n", "", 3, "a / b"),
        ("a\n", "e1\ne2\ne3\ne4\n", 3, "e2 / e3 / e4"),
        ("a\n", " \n", 1, "a"),
        ("", "bad \udcff byte", 3, r"bad \xff byte"),
        ("", "\x1b[2J\rx", 3, r"\x1b[2J / x"),
    ],
)
def test_last_words_are_printable(out, err, lines, words):
    assert command.last_words({"out": out, "err": err}, lines) == words


def test_last_words_are_not_long():
    said = command.last_words({"out": "", "err": "x" * 100000})
    assert said == "x" * command.SHOWN + "..."


def test_a_failure_is_one_sentence():
    failed = command.run(["sh", "-c", "echo busy >&2; exit 51"])
    assert command.describe(failed) == "'sh -c echo busy >&2; exit 51' ended with exit code 51: busy"
    assert command.describe(command.run(["false"])) == "'false' ended with exit code 1."
    hung = dict(command.run(["sleep", "1000"], deadline=0.1), seconds=60.2)
    assert command.describe(hung) == "'sleep 1000' did not end within 60 s and was killed."
