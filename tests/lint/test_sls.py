"""Every SLS compiles with the pillar of this project and keeps the rules; each rule notices what it is there for."""

import os
from pathlib import Path

import pytest
import sls_rules
import yaml
from minion_without_daemons import PROJECT
from sls_tree import Tree

SALT = PROJECT / "salt"
TEMPLATES = sorted(
    str(path.relative_to(PROJECT)) for path in SALT.rglob("*") if path.suffix in (".sls", ".jinja")
)


#: What has to be typed for an orchestration, which is refused without it.
TYPED = {"rollback": {"nodes": ["node001", "node002"]}, "failover": {"to": "secondary"}}


@pytest.fixture(scope="session")
def entries(tree):
    """What a person names on the command line: the orchestrations directly under salt/, and the highstate."""
    return [name for name in tree.names() if "." not in name and (SALT / f"{name}.sls").exists()]


@pytest.fixture(scope="session")
def compiled(tree, entries):
    """Every SLS: as it is reached from an entry, with the pillar and minion that it gets there; else for a node."""
    seen = {}
    for entry in entries:
        tree.follow(entry, "master", TYPED.get(entry), seen=seen)
    for minion in ("node001", "node002", "mon001", "san1"):
        tree.follow("top", minion, seen=seen)
    reached = {one.sls for one in seen.values()}
    for name in tree.names():
        if name not in reached:
            tree.follow(name, "node001", seen=seen)
    return list(seen.values())


def test_the_runbook_is_one_command(entries):
    """salt-run state.orch migrate"""
    assert "migrate" in entries


def test_a_migration_leads_to_every_step(tree, compiled):
    """Steps are found through nested orchestrations down to the states that nodes run."""
    minions = {one.minion for one in compiled}
    assert {"master", "node001", "mon001"} <= minions
    assert {one.sls for one in compiled} >= set(tree.names())
    assert not {one.sls for one in compiled for step in one.steps if step.id == "Nothing was begun"}
    assert sum(len(one.steps) for one in compiled if one.minion == "node001") > 10


def test_everything_compiles(compiled):
    """No duplicate IDs, no dangling requisites, no unknown states, no missing arguments, no pillar errors."""
    assert not {str(one): one.errors for one in compiled if one.errors}


def waited_for(steps):
    """What each of the nested orchestrations waits for, directly or not: one set of minions that are asked for each."""

    def above(step):
        for requisite in step.arguments.get("require", []):
            for name in requisite.values():
                yield steps[name]
                yield from above(steps[name])

    on_nodes = [step for step in steps.values() if step.is_nested_orchestration]
    assert on_nodes
    return {
        step.arguments["pillar"].get("node"): {minion for other in above(step) for minion in asked(other)}
        for step in on_nodes
    }


def asked(step):
    """The minions that a step of an orchestration asks."""
    return [*step.arguments.get("tgt", []), *step.arguments.get("minions", [])]


@pytest.mark.parametrize("sls", ["rollback", "failover"])
def test_h15_no_way_out_waits_for_the_monitoring_host(tree, sls):
    """It may be down in the very night in which telephones are."""
    steps = {
        step.id: step for step in tree.compile(sls, "master", {**TYPED[sls], "nodes": ["node001"]}).steps
    }
    assert any("mon001" in asked(step) for step in steps.values())
    assert "mon001" not in set.union(*waited_for(steps).values())


def test_no_node_waits_for_another_one_on_its_way_back(tree):
    """One that is dead must not keep the others down."""
    nodes = ["node001", "node002"]
    steps = {step.id: step for step in tree.compile("rollback", "master", {"nodes": nodes}).steps}
    assert waited_for(steps) == {node: {node} for node in nodes}


@pytest.mark.parametrize("rule", sls_rules.RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(compiled, rule):
    assert not {str(one): found for one in compiled if (found := list(rule(one)))}


@pytest.mark.parametrize("path", TEMPLATES)
def test_rendering_only_reads(path):
    """What is called while an SLS is rendered runs in test mode as well."""
    assert not list(sls_rules.render_calls_only_read((PROJECT / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", TEMPLATES)
def test_h28_every_value_is_quoted_whole(path):
    assert not list(sls_rules.values_are_quoted((PROJECT / path).read_text(encoding="utf-8")))


def test_minions_cannot_read_the_pillar():
    """H29: nothing under salt/ leads into pillar/."""
    assert not list(sls_rules.links_out_of_bounds(SALT))


STEP = {"tgt": ["node001"], "tgt_type": "list", "failhard": False}
STATE = {
    "salt.state": {**STEP, "sls": ["other"], "timeout": 600, "queue": 100, "test": False, "saltenv": "base"}
}
FUNCTION = {"salt.function": {**STEP, "name": "test.ping", "expect_minions": True}}
NESTED = {"name": "state.orchestrate", "mods": "other", "pillar": {"node": "node001"}}
RUNNER = {"salt.runner": {**NESTED, "failhard": False}}


def sls(**steps):
    """The text of an SLS: each step is one of the above, or {"state.function": {argument: value}}."""
    written = {
        id_: {function: [{key: value} for key, value in arguments.items()]}
        for id_, step in steps.items()
        for function, arguments in step.items()
    }
    return yaml.safe_dump(written, sort_keys=False)


def but(step, **changes):
    """A step with other arguments; None takes one away."""
    ((function, arguments),) = step.items()
    merged = {**arguments, **changes}
    return {function: {key: value for key, value in merged.items() if value is not None}}


GOOD = {
    "one node": but(RUNNER, parallel=True),
    "ping": but(FUNCTION, require=[{"salt": "one node"}]),
    "update": but(FUNCTION, name="pkg.upgrade", kwarg={"refresh": True}),
    "more states": but(FUNCTION, name="state.apply", arg=["other"]),
    "states": but(STATE, pillar={"a": 1}, require=[{"salt": "ping"}]),
    "report": but(RUNNER, name="jobs.list_jobs", mods=None, pillar=None, require=[{"salt": "states"}]),
    "back": but(STATE, onfail=[{"salt": "one node"}]),
}

#: rule: samples that it must refuse, each with a word of the reason
BAD = {
    "targets_are_lists": [
        (sls(a=but(STATE, tgt="node*")), "list of minion ids"),
        (sls(a=but(STATE, tgt_type="compound")), "tgt_type"),
        (sls(a=but(FUNCTION, tgt_type=None)), "tgt_type"),
    ],
    "functions_expect_their_minions": [
        (sls(a=but(FUNCTION, expect_minions=None)), "expect_minions"),
        (sls(a=but(FUNCTION, expect_minions=False)), "expect_minions"),
        (sls(a=but(STATE, expect_minions=False)), "expect_minions"),
    ],
    "states_have_a_timeout": [
        (sls(a=but(STATE, timeout=None)), "timeout"),
        (sls(a=but(STATE, timeout="long")), "timeout"),
    ],
    "arguments_are_known": [
        (sls(a=but(STATE, sync_mods="all")), "sync_mods"),
        (sls(a=but(FUNCTION, args=["x"])), "args"),
        (sls(a=but(RUNNER, pilar={})), "pilar"),
    ],
    "called_functions_exist": [
        (sls(a={"salt.runner": {"name": "ringfree.no_such"}}), "there is no ringfree.no_such"),
        (sls(a=but(FUNCTION, name="vz.no_such")), "there is no vz.no_such"),
        (sls(a=but(FUNCTION, name="saltutil.refresh_pillar", kwarg={"wiat": True})), "wiat"),
    ],
    "own_states_know_their_arguments": [
        (sls(a={"ringfree_nfs.no_such": {"name": "x"}}), "there is no ringfree_nfs.no_such"),
        (sls(a={"ringfree_monitoring.silent": {"servcies": ["nagios"]}}), "servcies"),
    ],
    "states_wait_for_a_highstate": [
        (sls(a=but(STATE, queue=True)), "queue"),
        (sls(a=but(STATE, queue=None)), "queue"),
        (sls(a=but(STATE, queue=1)), "queue"),
        (sls(a=but(FUNCTION, queue=100)), "queue"),
    ],
    "nothing_is_repeated": [
        (sls(a=but(STATE, concurrent=True)), "concurrent"),
        (sls(a=but(STATE, retry={"attempts": 3})), "retry"),
    ],
    "failhard_and_onfail_are_apart": [
        (sls(a=but(STATE, failhard=True), b=but(STATE, onfail=[{"salt": "a"}])), "failhard"),
    ],
    "failhard_is_said": [
        (sls(a=but(STATE, failhard=None)), "failhard"),
        (sls(a=but(RUNNER, failhard=None)), "failhard"),
        (sls(a={"vz.running": {"first": True}}), "failhard"),
        (sls(a=but(STATE, failhard="false")), "failhard"),
    ],
    "test_mode_is_said": [
        (sls(a=but(STATE, test=None)), "test"),
    ],
    "the_environment_is_said": [
        (sls(a=but(STATE, saltenv=None)), "saltenv"),
        (sls(a=but(STATE, saltenv="prod")), "saltenv"),
    ],
    "requisites_are_lists": [
        (sls(a=STATE, b=but(STATE, onfail={"salt": "a"})), "onfail"),
        (sls(a=STATE, b=but(STATE, require="a")), "require"),
    ],
    "rescue_steps_have_their_own_onfail": [
        (
            sls(a=STATE, b=but(STATE, onfail=[{"salt": "a"}]), c=but(STATE, require=[{"salt": "b"}])),
            "c: requires b",
        ),
    ],
    "rescue_steps_are_no_chain": [
        (
            sls(
                a=STATE,
                b=but(STATE, onfail=[{"salt": "a"}]),
                c=but(STATE, onfail=[{"salt": "a"}], require=[{"salt": "b"}]),
            ),
            "c: an onfail step",
        ),
    ],
    "pillar_is_handed_on": [
        (sls(a=but(RUNNER, pillar=None)), "explicit pillar"),
    ],
    "no_shell_is_used": [
        (sls(a={"cmd.run": {"name": "vzctl stop 101"}}), "cmd.run"),
        (sls(a={"cmd.script": {"name": "salt://x.sh"}}), "cmd.script"),
        (sls(a=but(FUNCTION, name="cmd.run", arg=["reboot"])), "cmd.run"),
        (sls(a={"module.run": {"cmd.run": [{"cmd": "reboot"}]}}), "cmd.run"),
        (sls(a={"test.nop": {"unless": "test -e /x"}}), "unless"),
        (sls(a={"test.nop": {"onlyif": ["test -e /x"]}}), "onlyif"),
    ],
    "conditions_of_remote_steps_ask_the_master": [
        (sls(a=but(STATE, unless=[{"fun": "file.file_exists", "path": "/x"}])), "only ask a runner"),
        (sls(a=but(STATE, onlyif=["test -e /x"])), "only ask a runner"),
        (sls(a=but(STATE, onlyif=[{"fun": "saltutil.runner", "name": "ringfree.no_such"}])), "there is no"),
        (sls(a=but(STATE, onlyif=[{"fun": "saltutil.runner", "name": "jobs.lookup_jid", "jdi": 1}])), "jdi"),
        (sls(a=but(STATE, check_cmd=[{"fun": "test.true"}])), "check_cmd"),
    ],
    "broken_steps_are_not_used": [
        (sls(a={"salt.parallel_runners": {"runners": {"b": {"name": "test.arg"}}}}), "parallel_runners"),
        (sls(a={"event.send": {"name": "x"}}), "event.send"),
    ],
}


def test_every_rule_has_a_sample():
    assert set(BAD) == {rule.__name__ for rule in sls_rules.RULES}


@pytest.mark.parametrize(
    ("rule", "text", "reason"),
    [
        pytest.param(rule, text, reason, id=f"{rule}-{number}")
        for rule, samples in BAD.items()
        for number, (text, reason) in enumerate(samples)
    ],
)
def test_a_bad_sample_is_refused(sample, rule, text, reason):
    """H19: each mistake that Salt takes without a word is found here."""
    found = list(getattr(sls_rules, rule)(sample(text)))
    assert reason in " ".join(found)


def test_a_good_sample_passes_all_rules(sample):
    good = sample(sls(**GOOD))
    assert not good.errors
    assert len(good.steps) == len(GOOD)
    assert not [found for rule in sls_rules.RULES for found in rule(good)]


def test_a_tree_forgets_what_it_compiled_before(sample):
    """It keeps the modules that Salt loaded, and neither files nor errors."""
    good = sample(sls(**GOOD))
    assert not sample("include:\n  - two\n", two="a:\n  test.nop: []\n").errors
    assert sample("include:\n  - two\n").errors
    assert sample("a:\n  test.no_such: []\n").errors
    assert sample(sls(**GOOD)) == good


@pytest.mark.parametrize(
    ("others", "text", "reason"),
    [
        ({}, "a:\n  test.nop:\n    - require:\n      - test: nowhere\n", "nowhere"),
        ({}, "a:\n  test.no_such: []\n", "no_such"),
        ({}, "a:\n  file.copy: []\n", "source"),
        ({}, "a:\n  test.nop: []\na:\n  test.nop: []\n", "onflicting ID"),
        ({"two": "a:\n  test.nop: []\n"}, "include:\n  - two\na:\n  test.nop: []\n", "onflicting ID"),
        ({}, "include:\n  - nowhere\n", "nowhere"),
        ({}, "a:\n  test.nop:\n    - name: {{ pillar['not there'] }}\n", "not there"),
    ],
)
def test_what_does_not_compile_is_refused(sample, others, text, reason):
    assert reason in " ".join(sample(text, **others).errors)


@pytest.mark.parametrize(
    "text",
    [
        "{{ salt['saltutil.runner']('ringfree.status') }}",
        "{% do salt.cmd.run('reboot') %}",
        "{% set s = salt %}{{ s['vz.stop'](101) }}",
        "{% for name in salt['pillar.get']('x') %}{{ salt['file.write']('/x', name) }}{% endfor %}",
    ],
)
def test_calls_while_rendering_are_refused(text):
    assert list(sls_rules.render_calls_only_read(text))


@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.endswith(".sls")])
def test_h36_every_sls_says_its_renderers(path):
    assert not list(sls_rules.renderers_are_said((PROJECT / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text", ["#!py\ndef run():\n    return {}\n", "a:\n  test.nop: []\n", "#!yaml|jinja\n"]
)
def test_h36_other_renderers_are_refused(text):
    assert list(sls_rules.renderers_are_said(text))


@pytest.mark.parametrize(
    "text",
    [
        "#!jinja|yaml\n{{ salt['pillar.get']('ringfree:nodes') | json }}",
        "{% from 'map.jinja' import x with context %}{{ salt.config.get('x') }}",
        "a:\n  test.nop: []\n",
    ],
)
def test_reading_while_rendering_is_fine(text):
    assert not list(sls_rules.render_calls_only_read(text))


@pytest.mark.parametrize(
    "text",
    [
        "{{ node }} goes back:\n  test.nop: []\n",
        "{{ node | json }} goes back:\n  test.nop: []\n",
        "{{ node ~ ' goes back' | json }}:\n  test.nop: []\n",
        "a:\n  test.nop:\n    - name: {{ timeout }}\n",
        "a:\n  test.nop:\n    - name: {{ x | json | upper }}\n",
        "a:\n  test.nop:\n    - name: '{{ x | json }}'\n",
        "a:\n  test.nop:\n    - name: prefix.{{ x | json }}\n",
        "a:\n  test.nop:\n    - name: {{ x | json }}.suffix\n",
        "a:\n  test.nop:\n    - name: {{ x | json }}{{ y | json }}\n",
        "a:\n  test.nop:\n    - name: |\n        some {{ x | json }}\n",
        "a:\n  test.nop:\n    - name: {{ 'b' if x else y }}\n",
        "{%- for n in x %}\n  - {{ n }}\n{%- endfor %}",
    ],
)
def test_a_value_that_is_not_quoted_is_refused(text):
    assert list(sls_rules.values_are_quoted(text))


@pytest.mark.parametrize(
    "text",
    [
        "{{ (node ~ ' goes back') | json }}:\n  test.nop: []\n",
        "a:\n  test.nop:\n    - tgt: [{{ x | json }}]\n    - why: {{ y | yaml_dquote }}\n",
        "a:\n  test.nop:\n    - pillar: {{ {'a': {'b': x}} | json }}\n    - require:\n      - salt: {{ y | json }}\n",
        "{%- for n in x %}\nstep {{ loop.index }} of {{ 5 }}:\n  test.nop: []\n{%- endfor %}",
    ],
)
def test_a_value_that_is_quoted_is_fine(text):
    assert not list(sls_rules.values_are_quoted(text))


@pytest.mark.parametrize("target", ["../pillar", "../pillar/top.sls", "/etc", "../_modules/../pillar"])
def test_a_link_out_of_the_tree_is_refused(tmp_path, target):
    """H29"""
    for folder in ("salt", "pillar", "_modules"):
        (tmp_path / folder).mkdir()
    (tmp_path / "salt" / "_modules").symlink_to("../_modules")
    assert not list(sls_rules.links_out_of_bounds(tmp_path / "salt"))
    (tmp_path / "salt" / "other").symlink_to(target)
    assert len(list(sls_rules.links_out_of_bounds(tmp_path / "salt"))) == 1


def test_steps_are_followed_with_their_pillar(tmp_path, programs):
    """A nested orchestration and the states behind it get what their steps give them, and nothing else."""
    root = tmp_path / "salt"
    root.mkdir()
    (root / "outer.sls").write_text(sls(a=but(RUNNER, mods="inner", pillar={"node": "node007"})))
    inner = sls(b=but(STATE, tgt=["NODE"], sls=["state"], pillar={"deep": 1})).replace(
        "NODE", "{{ pillar['node'] }}"
    )
    (root / "inner.sls").write_text(inner)
    (root / "state.sls").write_text(
        "c:\n  test.nop:\n    - name: {{ pillar['deep'] }}-{{ pillar.get('node', 'none') }}\n"
    )
    found = {one.sls: one for one in Tree(tmp_path / "minion", root).follow("outer", "master")}
    assert {name: one.minion for name, one in found.items()} == {
        "outer": "master",
        "inner": "master",
        "state": "node007",
    }
    assert found["state"].low[0]["name"] == "1-none"
    assert os.path.exists(Path(root / "state.sls"))
