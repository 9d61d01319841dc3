"""
What an operator types reaches the YAML of an orchestration as a value, or not at all.

Every orchestration is rendered by Salt with hostile values in every place of its pillar.  Either it says that nothing
was begun, and names the key; or it has the same states as ever, and the value is in their data as it was typed.
"""

import copy
import json

import pytest
import ringfree_pillar
import salt.loader
import salt.state
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from minion_without_daemons import PROJECT
from salt.utils import dictupdate
from sls_tree import Tree, steps_of

#: An orchestration that is typed in order.
RIGHT = {
    "migrate": {"nodes": ["node001"], "deadline": None},
    "presync": {"nodes": ["node001"]},
    "rollback": {"nodes": ["node001"], "data": "discard"},
    "failover": {
        "nodes": ["node001"],
        "to": "secondary",
        "accept_age": False,
        "max_age": 60,
        "at_once": False,
    },
    "cleanup": {"nodes": ["node001"], "consent": "7f3a-91c2"},
    "orch.line": {"nodes": ["node001"]},
    "orch.node": {"node": "node001"},
    "orch.parts": {"node": "node001"},
    "orch.back": {"node": "node001", "data": "discard", "committed": True},
    "orch.switch_all": {
        "nodes": ["node001"],
        "to": "primary",
        "accept_age": True,
        "max_age": 60,
        "at_once": False,
    },
    "orch.switch": {"node": "node001", "before": [], "to": "primary", "accept_age": True, "max_age": 60},
    "orch.cleanup": {"node": "node001", "consent": "7f3a-91c2"},
}
NOTHING = "Nothing was begun"
RUNS = "x:\n  cmd.run:\n    - name: touch /tmp/never"
HOSTILE = [
    RUNS,
    f"node001 goes back:\n  test.nop: []\n\n{RUNS}",
    f'"\n\n{RUNS}\n',
    f"'\n\n{RUNS}\n",
    "{{ salt['cmd.run']('touch /tmp/never') }}",
    "{% do salt.cmd.run('touch /tmp/never') %}",
    "]\n    - fun: cmd.run",
    "}, {x: y",
    "node001, node002",
    "*id",
    "&anchor x",
    "!!python/object/apply:os.system [id]",
    "# comment",
    "node001 # comment",
    "---\nx: y",
    "...",
    "|\n  x",
    ": ",
    "- a",
    "? a",
    "%TAG",
    "\x1b[2J",
    "\x00",
    "\x7f",
    "\x85\u2028\u2029",
    "\ufeff",
    "\U0001f4a3: \U0001f4a3",
    "<<",
    "null",
    "yes",
    "1e3",
    "0o17",
    "2026-02-27",
]
hostile = st.one_of(
    st.sampled_from(HOSTILE), st.text(alphabet=":\n -{}[]\"'#&*!|>%@`,?\\ax\x85", max_size=12)
)
typed = st.one_of(
    hostile,
    st.lists(hostile, max_size=2),
    st.dictionaries(hostile, hostile, max_size=2),
    st.booleans(),
    st.integers(-1, 70),
    st.none(),
)
#: Each example renders an orchestration.
FEW = settings(max_examples=8, deadline=None)


def places(keys=ringfree_pillar.KEYS, path=()):
    """Every place of the pillar `ringfree`, as a tuple of keys; the mappings in it too."""
    for name, rule in keys.items():
        yield (*path, name)
        if isinstance(rule, dict):
            yield from places(rule, (*path, name))


def at(path, value):
    """A pillar with a value in one place."""
    for name in reversed(path):
        value = {name: value}
    return value


class Master:
    """A master that renders orchestrations, again and again with another pillar over its own."""

    def __init__(self, tree):
        opts = copy.deepcopy(tree.opts)
        opts["id"] = opts["grains"]["id"] = "master"
        self.high_state = salt.state.HighState(opts)
        self.own = copy.deepcopy(self.high_state.state.opts["pillar"])

    def render(self, sls, typed):
        """The steps of an orchestration with what was typed."""
        state = self.high_state.state
        state.opts["pillar"] = dictupdate.merge(copy.deepcopy(self.own), copy.deepcopy(typed), "smart")
        # As State.load_modules does it; the pillar is handed to the renderers when they are loaded.
        state.rend = salt.loader.render(
            state.opts, state.functions, states=state.states, context=state.state_con
        )
        high, errors = self.high_state.render_state(sls, "base", set(), {"base": [sls]})
        assert not errors
        return steps_of(high)


@pytest.fixture(scope="module")
def master(tree):
    """A master with the project's pillar."""
    made = Master(tree)
    made.high_state.push_active()
    yield made
    made.high_state.pop_active()
    made.high_state.destroy()


def shape(steps):
    """The states of an orchestration and their arguments, without what the arguments are."""
    return [(step.id, step.state, step.function, list(step.arguments)) for step in steps]


def parts(value):
    """A value, and all keys and values in it."""
    inner = [item for pair in value.items() for item in pair] if isinstance(value, dict) else value
    return [value, *(part for item in inner for part in parts(item))] if isinstance(inner, list) else [value]


def plain(value):
    """A value without an order of its keys."""
    return json.loads(json.dumps(value))


def handed_on(steps):
    """The pillar `ringfree`, wherever steps hand it on."""
    given = [step.arguments["pillar"] for step in steps if "pillar" in step.arguments]
    return [
        plain(pillar.get("ringfree", pillar)) for pillar in given if "ringfree" in pillar or "nfs" in pillar
    ]


def said(steps):
    """What the refusal says; None when there is none. Whatever else was rendered would be a fault."""
    if steps[0].id != NOTHING:
        return None
    (step,) = steps
    assert f"{step.state}.{step.function}" == "test.fail_without_changes"
    first, *faults = step.arguments["comment"].split("\n")
    assert first == "The pillar is wrong, nothing was touched:"
    assert faults and all(fault.startswith("  ") and fault.isprintable() for fault in faults)
    return faults


def test_every_orchestration_is_rendered_here(master):
    assert set(RIGHT) == set(ringfree_pillar.TAKES)
    files = {path.stem for path in (PROJECT / "salt").glob("*.sls")} - {"top"}
    files |= {f"orch.{path.stem}" for path in (PROJECT / "salt" / "orch").glob("*.sls")}
    assert set(RIGHT) == files
    assert not [sls for sls in RIGHT if said(master.render(sls, RIGHT[sls]))]


@pytest.mark.walk
@pytest.mark.parametrize("sls", RIGHT)
def test_h28_no_word_reaches_the_yaml_but_as_a_value(master, sls):
    usual = shape(master.render(sls, RIGHT[sls]))

    @FEW
    @given(word=st.sampled_from(sorted(RIGHT[sls])), value=typed)
    def check(word, value):
        steps = master.render(sls, {**RIGHT[sls], word: value})
        faults = said(steps)
        if faults is None:
            assert shape(steps) == usual
            assert value in parts([step.arguments for step in steps])
        else:
            assert len(faults) == 1
            assert faults[0].startswith(f"  {word}: ")

    check()


@pytest.mark.walk
@pytest.mark.parametrize("sls", RIGHT)
def test_h28_no_key_reaches_the_yaml(master, sls):
    @FEW
    @given(keys=st.dictionaries(hostile, typed, min_size=1))
    def check(keys):
        faults = said(master.render(sls, {**RIGHT[sls], **keys}))
        assert len(faults) == len(keys)
        assert all("unknown key; known are " in fault for fault in faults)

    check()


@pytest.mark.walk
@pytest.mark.parametrize("sls", RIGHT)
def test_h28_nothing_of_an_overridden_pillar_reaches_the_yaml_but_as_a_value(master, sls):
    usual = shape(master.render(sls, RIGHT[sls]))

    @FEW
    @given(path=st.sampled_from(list(places())), value=typed, key=st.none() | hostile)
    def check(path, value, key):
        override = {"ringfree": at(path if key is None else (*path[:-1], key), value)}
        steps = master.render(sls, {**RIGHT[sls], **override})
        faults = said(steps)
        if faults is not None:
            assert any("ringfree:" in fault for fault in faults)
            return
        # Without a monitoring host there are fewer.
        assert all(step in usual for step in shape(steps))
        wanted = dictupdate.merge(copy.deepcopy(master.own), copy.deepcopy(override), "smart")["ringfree"]
        assert all(pillar == plain(wanted) for pillar in handed_on(steps))

    check()


def test_a_text_that_is_right_is_handed_on_as_it_is(master):
    """Whatever it looks like in YAML."""
    for text in ("a: b # c", "- x\r\n\t- y", "{{ x }}", "null", "'\"", "\U0001f4a3", "é\\n"):
        checks = {"odd": {"exec": ["echo", text], "expect": ""}}
        override = {"ringfree": {"containers": {"checks": checks}}}
        steps = master.render("presync", {"nodes": ["node001"], **override})
        assert said(steps) is None
        found = [pillar["containers"]["checks"]["odd"]["exec"] for pillar in handed_on(steps)]
        assert found == [["echo", text]] * 3


def test_h35_all_faults_of_a_command_line_come_in_one_message(master):
    command_line = yaml.safe_load(
        '{"nodes": ["node009"], "data": "sync-back", "nodez": 1, "ringfree": {"batch": "2", "colour": {}}}'
    )
    assert said(master.render("rollback", command_line)) == [
        "  nodez: unknown key; known are nodes, data, ringfree",
        "  nodes: not in ringfree:nodes of the pillar (node001, node002): node009",
        "  data: must be one of discard, sync_back, not 'sync-back'",
        "  ringfree:colour: unknown key",
        "  ringfree:batch: must be a whole number from 1 to 100, not '2'",
    ]


@pytest.mark.parametrize(
    ("deadline", "fault"),
    [("2027-02-30 04:30", "is no day of the calendar"), ("2020-01-01 00:00", "has passed")],
)
def test_h20_a_deadline_is_a_moment_that_is_still_to_come(master, deadline, fault):
    assert said(master.render("migrate", {"deadline": deadline})) == [f"  deadline: {deadline} {fault}"]


def test_keys_of_the_masters_own_pillar_are_no_faults(tmp_path, programs):
    """It may have more in it than ours."""
    own = tmp_path / "pillar"
    own.mkdir()
    (own / "top.sls").write_text("base:\n  '*':\n    - all\n")
    (own / "all.sls").write_text(
        "schedule: {}\nringfree:\n  nodes: [node001]\n  nfs: {primary: 10.77.0.21, secondary: 10.77.0.22}\n"
    )
    master = Master(Tree(tmp_path / "minion", PROJECT / "salt", own))
    assert said(master.render("presync", {"nodes": ["node001"]})) is None
    assert said(master.render("presync", {"nodez": ["node001"]})) == [
        "  nodez: unknown key; known are nodes, ringfree"
    ]
