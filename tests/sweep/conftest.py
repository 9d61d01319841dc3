"""The cases of the sweep that the environment asks for; at the end, the command that runs the same ones again."""

import cases


def pytest_generate_tests(metafunc):
    """The cases that the environment asks for."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", cases.chosen(cases.wanted()), ids=str)


def pytest_terminal_summary(terminalreporter):
    """Say which part of the sweep this was, and what to keep of it."""
    wanted = cases.wanted()
    say = terminalreporter.write_line
    number, of = len(cases.chosen(wanted)), len(cases.every())
    say(f"sweep: {number} of {of} cases; the same ones again: make sweep SWEEP={wanted}")
    for report in terminalreporter.stats.get("failed", []):
        if "test_every_way_out" in report.nodeid:
            case = report.nodeid.partition("[")[2].rpartition("]")[0]
            say(
                f"sweep: a case that failed runs every time from now on with this line in {cases.FAILED.name}: {case}"
            )
