"""ringfree_command: external commands end, one way or the other, and say how."""

import os
import signal
import sys
import time

import pytest
import ringfree_command as command


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


def test_h16_the_environment_is_small_and_marks_our_commands():
    words = dict(line.partition("=")[::2] for line in command.run(["env"])["out"].splitlines())
    assert words.keys() == {"PATH", "LC_ALL", "HOME", "RINGFREE_COMMAND"}
    assert words["RINGFREE_COMMAND"] == "1"


def test_bytes_that_are_no_text_survive():
    assert os.fsencode(command.run(["printf", "\\377\\351"])["out"]) == b"\xff\xe9"


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
    pid = tmp_path / "pid"
    result = command.run(
        ["setsid", "--fork", "sh", "-c", f"echo $$ > {pid}; echo up; exec sleep 1000"], deadline=30
    )
    wait_until(pid.exists)
    wait_until(lambda: pid.read_text().strip())
    try:
        assert (result["rc"], result["timed_out"]) == (0, False)
        assert alive(int(pid.read_text()))
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_much_output_and_much_input_do_not_block():
    text = "x" * 3_000_000
    assert command.run(["cat"], deadline=30, stdin=text)["out"] == text


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
        ("", "bad \udcff byte", 3, "bad \\udcff byte"),
    ],
)
def test_last_words_are_printable(out, err, lines, words):
    assert command.last_words({"out": out, "err": err}, lines) == words


def test_a_failure_is_one_sentence():
    failed = command.run(["sh", "-c", "echo busy >&2; exit 51"])
    assert command.describe(failed) == "'sh -c echo busy >&2; exit 51' ended with exit code 51: busy"
    assert command.describe(command.run(["false"])) == "'false' ended with exit code 1."
    hung = dict(command.run(["sleep", "1000"], deadline=0.1), seconds=60.2)
    assert command.describe(hung) == "'sleep 1000' did not end within 60 s and was killed."
