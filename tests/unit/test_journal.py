"""ringfree_journal: what was about to happen, what happened, what was proved."""

import copy
import json

import pytest
import ringfree_journal as journal
import ringfree_seal as seal
from hypothesis import given
from hypothesis import strategies as st


def fresh():
    return journal.new("node001", 1.0)


def load(data):
    """What cloudstor makes of a journal's file."""
    try:
        kept = seal.load_json(data, journal.keys())
        fault = journal.fault(kept)
    except ValueError as error:
        fault = str(error)
    return {"journal": None if fault else kept, "fault": fault}


def test_a_new_node_is_local():
    assert fresh()["state"] == "local"
    assert load(seal.dump_json(fresh())) == {"journal": fresh(), "fault": None}


def test_a_step_goes_through_its_phases():
    noted = journal.mark(fresh(), "stop", "intent", 2)
    assert journal.reached(noted, "stop", "intent")
    assert not journal.reached(noted, "stop", "done")
    noted = journal.mark(noted, "stop", "done", 3, note=[101])
    noted = journal.mark(noted, "stop", "verified", 4)
    assert noted["steps"]["stop"] == {"intent": 2, "done": 3, "verified": 4, "note": [101]}
    assert journal.reached(noted, "stop")
    assert not journal.reached(noted, "start")


def test_a_new_intent_forgets_what_came_before():
    noted = journal.mark(journal.mark(fresh(), "sync", "verified", 2), "sync", "intent", 3)
    assert noted["steps"]["sync"] == {"intent": 3}


def test_containers_have_steps_of_their_own():
    noted = journal.mark(fresh(), "sync", "verified", 2, container=101)
    assert journal.reached(noted, "sync", container=101)
    assert journal.reached(noted, "sync", container="101")
    assert not journal.reached(noted, "sync", container=102)
    assert not journal.reached(noted, "sync")


@pytest.mark.parametrize(
    ("step", "phase"), [("Stop", "done"), ("", "done"), ("stop", "Done"), ("stop", "note")]
)
def test_unknown_words_are_refused(step, phase):
    with pytest.raises(ValueError, match="unknown"):
        journal.mark(fresh(), step, phase, 2)


def test_an_unknown_state_is_refused():
    with pytest.raises(ValueError, match="unknown state"):
        journal.settle(fresh(), "remote", 2)


def test_a_run_that_is_repeated_continues():
    first = journal.begin(fresh(), 2)
    assert (first["state"], first["since"]) == ("in_flight", 2)
    noted = journal.mark(journal.mark(first, "stop", "verified", 3), "sync", "done", 3, container=101)
    again = journal.begin(noted, 4)
    assert again == noted


@pytest.mark.parametrize("state", ["local", "nfs"])
def test_a_run_from_rest_starts_afresh(state):
    noted = journal.mark(journal.begin(fresh(), 2), "stop", "verified", 3)
    noted["facts"]["load"] = 0.4
    rested = journal.settle(noted, state, 4)
    assert journal.reached(rested, "stop")
    begun = journal.begin(rested, 5)
    assert (begun["steps"], begun["containers"], begun["facts"]) == ({}, {}, {})
    assert begun["history"][-1] == {"state": state, "since": 4, "until": 5}


def test_the_states_left_behind_are_remembered():
    moved = journal.settle(journal.settle(fresh(), "in_flight", 2), "nfs", 3)
    assert moved["history"] == [
        {"state": "local", "since": 1.0, "until": 2},
        {"state": "in_flight", "since": 2, "until": 3},
    ]


def test_steps_are_in_the_order_in_which_they_happen():
    names = journal.steps()
    assert names.index("presync") < names.index("manifest") < names.index("stop") < names.index("sync")
    assert names.index("owner") < names.index("start") < names.index("commit")
    assert len(set(names)) == len(names)


def test_the_file_can_be_read_by_a_person():
    lines = seal.dump_json(journal.mark(fresh(), "stop", "intent", 2)).decode().splitlines()
    assert ' "state": "local",' in lines


actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("mark"),
            st.sampled_from(journal.STEPS),
            st.sampled_from(journal.PHASES),
            st.one_of(st.none(), st.integers(101, 103)),
            st.one_of(st.none(), st.text(), st.lists(st.integers())),
        ),
        st.tuples(st.just("settle"), st.sampled_from(journal.STATES)),
        st.tuples(st.just("begin"), st.text()),
    )
)


def acted(actions_to_do):
    state = fresh()
    for now, (verb, *words) in enumerate(actions_to_do, 2):
        before = copy.deepcopy(state)
        if verb == "mark":
            step, phase, container, note = words
            after = journal.mark(state, step, phase, now, container=container, note=note)
            assert journal.reached(after, step, phase, container)
        elif verb == "settle":
            after = journal.settle(state, words[0], now)
        else:
            after = journal.begin(state, now)
        assert state == before, "a journal is never changed in place"
        state = after
    return state


@given(actions)
def test_whatever_was_noted_can_be_written_and_read(actions_to_do):
    state = acted(actions_to_do)
    assert load(seal.dump_json(state)) == {"journal": state, "fault": None}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[]", b"null", b"1", b'"text"', b"{}", b'{"version": 2}']
)
def test_h17_a_damaged_file_is_a_fault_and_never_a_fresh_start(data):
    loaded = load(data)
    assert loaded["journal"] is None
    assert loaded["fault"]


@given(st.integers(0, 400))
def test_a_file_that_was_cut_off_is_a_fault(length):
    data = seal.dump_json(journal.mark(journal.begin(fresh(), 2), "sync", "done", 3, container=101))
    cut = data[: min(length, len(data) - 2)]
    assert load(cut)["fault"]


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(
    key=st.sampled_from(sorted(fresh())),
    value=anything,
    inside=st.sampled_from((None, "stop", "101")),
)
def test_what_is_loaded_can_be_worked_with(key, value, inside):
    """A journal that somebody edited is refused as a whole, or every function copes with it."""
    damaged = fresh()
    if inside and isinstance(damaged[key], dict):
        damaged[key][inside] = value
    else:
        damaged[key] = value
    state = load(json.dumps(damaged).encode())["journal"]
    if state is None:
        return
    for container in (None, 101):
        journal.reached(state, "stop", container=container)
        journal.mark(state, "stop", "done", 2, container=container)
    journal.settle(state, "nfs", 2)
    journal.begin(state, 2)


@pytest.mark.parametrize("data", [b"[" * 100000, b'{"a":' * 30000])
def test_a_file_that_is_too_deep_is_a_fault(data):
    assert "too deep" in load(data)["fault"]


@pytest.mark.parametrize("since", [True, None, "1", -1, 1e300])
def test_a_moment_that_is_none_is_a_fault(since):
    assert journal.fault({**fresh(), "since": since})
    assert journal.fault({**fresh(), "steps": {"stop": {"intent": since}}})
    assert journal.fault({**fresh(), "containers": {"101": {"stop": {"verified": since}}}})
