"""ringfree_screen: how the fleet stands, as a structure and on one screen."""

import json
import time

import pytest
import ringfree_screen as screen
from hypothesis import given
from hypothesis import strategies as st

NOW = time.mktime(time.strptime("2026-11-30 02:30:00", "%Y-%m-%d %H:%M:%S"))


def container(**other):
    return {
        "name": "PBX", "running": True, "wanted": True, "store": "nfs", "ok": True, "why": "", "down_since": None,
        **other,
    }  # fmt: skip


def node(containers=(), **other):
    return {
        "version": "0.9.0", "state": "nfs", "since": NOW - 600, "san": "primary", "silent": [], "deadline": None,
        "deadman": "", "left": "",
        "faults": [], "containers": dict(containers), **other,
    }  # fmt: skip


def shown(answers, nodes=("node001",), faults=(), run=None, everything=False):
    fleet = screen.structure(NOW, "0.9.0", run, {name: answers.get(name) for name in nodes}, dict(faults))
    json.dumps(fleet, allow_nan=False)
    return screen.screen(fleet, everything).splitlines()


def test_a_node_is_one_line_and_what_is_well_is_not_shown():
    lines = shown({"node001": node({101: container(), 102: container(name=None)})})
    assert lines == [
        "02:30:00  no run is under way  (version 0.9.0)",
        "",
        "node     store  state   SAN      since     goes back  lock",
        "node001  NFS    on NFS  primary  02:20:00  -          -",
        "",
        "2 containers are as they should be; 'all=True' shows them",
    ]


def test_all_shows_every_container():
    lines = shown(
        {"node001": node({101: container(), 103: container(running=False, wanted=False)})}, everything=True
    )
    assert lines[-3:] == [
        "node     container  name  is",
        "node001  101        PBX   runs from NFS",
        "node001  103        PBX   down",
    ]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"running": False, "down_since": NOW - 90}, "down since 02:28:30"),
        ({"running": False}, "down"),
        ({"ok": False, "why": "its root is another area"}, "its root is another area"),
        ({"ok": False}, "it is not proved from where it runs"),
        ({"store": "local"}, "runs from local, its node is on NFS"),
    ],
)
def test_a_container_that_is_not_as_it_should_be_has_a_line(other, said):
    lines = shown({"node001": node({101: container(), 102: container(**other)})})
    assert f"node001  102        PBX   {said}" in lines
    assert not any("101" in line for line in lines)
    assert lines[-1].startswith("1 containers are")


def test_a_container_that_was_stopped_on_purpose_is_well():
    lines = shown({"node001": node({103: container(running=False, wanted=False, store="-")})})
    assert not any("103" in line for line in lines)


def test_a_node_in_flight_says_how_long_it_has_left_and_whose_run_it_is():
    run = {
        "what": "migrate",
        "user": "alice",
        "since": NOW - 60,
        "until": NOW + 3600,
        "nodes": ["node001"],
        "pid": 7,
    }
    said = "It goes back by itself at 02:53:00 unless it is committed before."
    seen = {
        "node001": node(
            {101: container(), 102: container(store="local")},
            state="in_flight", deadline=NOW + 23 * 60 + 5, deadman=said,
        ),
        "node002": node(state="local", since=None, san="secondary"),
    }  # fmt: skip
    lines = shown(seen, ("node001", "node002"), run=run)
    assert lines[0] == "02:30:00  migrate by alice since 02:29:00, to be over by 03:30:00  (version 0.9.0)"
    assert lines[3] == "node001  mixed  in flight  primary    02:20:00  23 min left  migrate"
    assert lines[4] == "node002  -      local      secondary  -         -            -"
    assert f"node001: {said}" in lines


def test_a_node_that_does_not_answer_and_a_dead_san_are_said():
    lines = shown(
        {"node002": node(silent=["private"], faults=["its SAN does not answer"])},
        ("node001", "node002"),
        {"node001": "does not answer within 8 s"},
    )
    assert lines[3].split() == ["node001", "?", "no", "answer", "-", "-", "-", "-"]
    assert lines[4].split()[:5] == ["node002", "?", "on", "NFS", "silent"]
    assert lines[-2:] == ["node001: does not answer within 8 s", "node002: its SAN does not answer"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "text",
        None,
        node(since=True),
        node(since=float("nan")),
        node(since=-1),
        node(state=1),
    ],
    ids=repr,
)
def test_an_answer_that_cannot_be_read_is_no_answer(answer):
    fleet = screen.structure(NOW, "0.9.0", None, {"node001": answer}, {})
    assert fleet["nodes"]["node001"]["answers"] is False
    assert fleet["nodes"]["node001"]["faults"] == ["it answers what cannot be read"]


RUN = {
    "what": "migrate", "user": "alice", "since": NOW - 60, "until": None, "nodes": ["node001"], "pid": 7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "run", "commands"),
    [
        ({"node001": node()}, RUN, ["ringfree.watch", "ringfree.pause", "ringfree.resume", "ringfree.abort"]),
        ({"node001": None}, None, ["salt -L node001 test.ping"]),
        ({"node001": node(state="unknown")}, None, ["salt node001 cloudstor.recover_journal"]),
        (
            {"node001": node(state="local"), "node002": node(state="local")},
            None,
            [
                "ringfree.preflight",
                "state.orch migrate test=True",
                """state.orch presync pillar='{"nodes": ["node001", "node002"]}'""",
                """state.orch migrate pillar='{"nodes": ["node001", "node002"]}'""",
            ],
        ),
        (
            {"node001": node(state="in_flight")},
            None,
            [
                """state.orch migrate pillar='{"nodes": ["node001"]}'""",
                """state.orch rollback pillar='{"nodes": ["node001"]}'""",
            ],
        ),
        (
            {"node001": node()},
            None,
            [
                "ringfree.report",
                "salt -L node001 state.apply test=True",
                "salt -L node001 state.apply",
                """state.orch rollback pillar='{"nodes": ["node001"], "data": "sync_back"}'""",
                """state.orch rollback pillar='{"nodes": ["node001"], "data": "discard"}'""",
            ],
        ),
        (
            {"node001": node(silent=["private"], san="secondary")},
            None,
            [
                """ringfree.failover_plan primary nodes='["node001"]'""",
                """state.orch failover pillar='{"nodes": ["node001"], "to": "primary"}'""",
            ],
        ),
    ],
    ids=["a run", "no answer", "no journal", "local", "in flight", "on NFS", "a dead SAN"],
)
def test_what_can_be_typed_is_for_the_state_that_the_fleet_is_in(answers, run, commands):
    fleet = screen.structure(NOW, "0.9.0", run, answers, {})
    lines = [line.strip() for line in screen.advice(fleet).splitlines() if line.startswith("    ")]
    assert [line.removeprefix("salt-run ") for line in lines] == [*commands, "ringfree.status"]


def test_a_node_with_another_version_is_named():
    lines = shown({"node001": node(version="0.8.0")})
    assert lines[-1] == (
        "node001: has version 0.8.0 of this project, the master 0.9.0: 'salt node001 saltutil.sync_all' brings it"
    )


def test_a_container_that_cannot_be_read_is_a_fault_of_its_node():
    fleet = screen.structure(NOW, "0.9.0", None, {"node001": node({101: [], 102: container()})}, {})
    assert list(fleet["nodes"]["node001"]["containers"]) == ["102"]
    assert fleet["nodes"]["node001"]["faults"] == ["what it says of container 101 cannot be read"]


def test_the_shape_is_the_documented_one():
    """Who reads it by a program relies on it: a change of it is another format."""
    fleet = screen.structure(NOW, "0.9.0", None, {"node001": node({101: container()}), "node002": None}, {})
    assert list(fleet) == ["format", "version", "at", "run", "nodes"] and fleet["format"] == 1
    keys = {"answers", "store", "lock", *screen.NODE}
    assert all(set(entry) == keys for entry in fleet["nodes"].values())
    assert set(fleet["nodes"]["node001"]["containers"]["101"]) == {*screen.CONTAINER, "fault"}
    documented = screen.structure.__doc__
    assert all(f'"{key}"' in documented for key in (*fleet, *keys, *screen.CONTAINER, "fault"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*screen.NODE, "101"]), inner)
        ),
        max_leaves=6,
    )
)
def test_whatever_a_node_says_there_is_a_screen(said):
    assert len(shown({"node001": said})) >= 4
    assert len(shown({"node001": node({101: said, 102: container()}) | {"faults": [said]}})) >= 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (3599, "59 min"), (3900, "1 h 05 min")]
)
def test_the_time_that_is_left(seconds, text):
    assert screen.left(seconds) == text
