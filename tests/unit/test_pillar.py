"""ringfree_pillar: the keys, defaults and rules of the pillar."""

import copy
import math
import posixpath
import re
from pathlib import Path

import pytest
import ringfree_conf as conf
import ringfree_pillar as pillar
import yaml
from hypothesis import given
from hypothesis import strategies as st

EXAMPLE = Path(__file__).resolve().parents[2] / "pillar/ringfree"
MINIMAL = {"nodes": ["node001"], "nfs": {"primary": "10.77.0.21", "secondary": "10.77.0.22"}}


def read_example(*names):
    merged = {}
    for name in names:
        part = yaml.safe_load((EXAMPLE / f"{name}.sls").read_text(encoding="utf-8"))["ringfree"]
        for key, value in part.items():
            merged[key] = {**merged[key], **value} if isinstance(merged.get(key), dict) else value
    return merged


def with_value(where, value):
    """The minimal pillar with one key set."""
    changed = copy.deepcopy(MINIMAL)
    inner = changed
    *path, last = where.split(":")
    for name in path:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return changed


def faults(where, value):
    return pillar.validate(with_value(where, value))["faults"]


# --- what is right --------------------------------------------------------------------------------


def test_the_minimal_pillar_is_complete():
    checked = pillar.validate(MINIMAL)
    assert checked["faults"] == []
    assert checked["settings"]["shares"]["private"] == {"export": "/rf-images/pbx", "mount": "/vz/nfsprivate"}
    assert set(checked["settings"]) == set(pillar.KEYS)


def test_the_worked_example_is_right():
    assert pillar.validate(read_example("init", "fleet"))["faults"] == []
    assert pillar.validate(read_example("init", "fleet", "node001"))["faults"] == []


def test_the_worked_example_shows_every_key_with_its_default():
    example = read_example("init", "fleet")
    checked = pillar.validate(example)["settings"]
    defaults = pillar.validate(MINIMAL)["settings"]

    def compare(shown, rules, given_values, default_values, where=""):
        for name, rule in rules.items():
            place = f"{where}:{name}"
            assert name in shown, f"{place} is not in the example"
            if isinstance(rule, dict):
                compare(shown[name], rule, given_values[name], default_values[name], place)
            elif place not in (
                ":nodes",
                ":nfs:primary",
                ":nfs:secondary",
                ":monitoring:host",
                ":monitoring:services",
            ):
                assert given_values[name] == default_values[name], f"{place} does not show its default"

    compare(example, pillar.KEYS, checked, defaults)


def test_the_pillar_itself_is_not_changed():
    given_values = read_example("init", "fleet")
    before = copy.deepcopy(given_values)
    settings = pillar.validate(given_values)["settings"]
    settings["containers"]["checks"]["asterisk"]["exec"].append("x")
    assert given_values == before
    again = pillar.validate(MINIMAL)["settings"]
    assert again["containers"]["checks"]["asterisk"]["exec"] == ["asterisk", "-rx", "core show version"]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("nfs:primary", "san1.example.org"),
        ("nfs:primary", "san1"),
        ("containers:priority", ["PBX", 101, "Four Seasons hospice"]),
        ("containers:exempt", {"revnat": ["asterisk"], 105: ["apache", "postfix"]}),
        ("containers:checks", {"sip": {"port": 5060, "send": "OPTIONS\r\n", "expect": "^SIP"}}),
        ("start:load_per_cpu", 0.5),
        ("deadman:seconds", 60),
        ("confirm", "manual"),
        ("window", {"start": "22:00", "end": "06:00"}),
        ("deadman:seconds", 172800),
        ("ssh:host_keys", {"10.77.0.21": "ssh-ed25519 AAAAC3Nza+/="}),
        ("ssh:cipher", "chacha20-poly1305@openssh.com"),
        ("accept", ["acl", "capability"]),
        ("shares:conf:export", "/rf-images/vzconf/{node}"),
        ("highstate:bring_up", True),
    ],
)
def test_what_is_allowed_is_taken(where, value):
    assert faults(where, value) == []


def test_each_node_can_have_a_conf_share_of_its_own():
    own = with_value("shares:conf:export", "/rf-images/vzconf/{node}/")
    export = lambda *node: pillar.validate(own, *node)["settings"]["shares"]["conf"]["export"]  # noqa: E731
    assert (export(), export("node002")) == ("/rf-images/vzconf/{node}", "/rf-images/vzconf/node002")
    within = pillar.validate(with_value("shares:conf:export", "/rf-images/pbx/{node}"), "node001")["faults"]
    assert within == ["ringfree:shares: the export /rf-images/pbx/node001 lies on /rf-images/pbx"]


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_a_pillar_that_is_none_is_a_fault(value):
    assert pillar.validate(value)["faults"] == ["ringfree: the pillar has no such key, or it is no mapping"]


def test_all_faults_are_told_at_once_with_their_keys():
    found = pillar.validate({"nfs": {"primary": 5, "colour": 1}, "batch": 0, "sync": None, "x": 1})["faults"]
    assert [fault.split(": ")[0] for fault in found] == [
        "ringfree:x",
        "ringfree:nodes",
        "ringfree:batch",
        "ringfree:nfs:colour",
        "ringfree:nfs:primary",
        "ringfree:nfs:secondary",
        "ringfree:sync",
    ]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *[
            ("nodes", value)
            for value in ([], None, "node001", [""], ["a b"], ["-x"], [5], ["a", "a"], ["a\n"])
        ],
        *[("batch", value) for value in (0, 101, 1.5, True, "1", None, math.nan)],
        *[("start:load_per_cpu", value) for value in (math.nan, math.inf, "4", True, 0)],
        *[("window:start", value) for value in ("22", "24:00", 1320, None, "2:00", "22:00:00")],
        *[("confirm", value) for value in ("yes", True, None)],
        *[("deadman:seconds", value) for value in (59, 172801, 600.5, "600", None, True)],
        *[("nfs:primary", value) for value in ("", "-x", "a b", "a:b", "a\n", 5, True, b"1234", None, ["a"])],
        *[
            ("nfs:primary", value)
            for value in ("10.77.0.999", "10.77.0", "10.77.0.021", "fe80::1%eth0", "::1%a b")
        ],
        *[
            ("nfs:options", value)
            for value in ("hard,soft", "softerr", "vers=3 hard", "vers=3\n", "", "a;b", "$(id)")
        ],
        *[("nfs:use", value) for value in ("third", None, [], {})],
        *[
            ("shares:private:mount", value)
            for value in ("vz", "/", "/a b", "/a/../b", "/vz/x\n", "/$VEID", None, 5)
        ],
        *[
            ("shares:private:export", value)
            for value in ("", "/a;id", "/a'", "/é", "/a/{minion}", "/{node", "{node}")
        ],
        *[("highstate:bring_up", value) for value in ("yes", 1, None)],
        *[("ssh:user", value) for value in ("-oProxyCommand=x", "a b", "root\n")],
        *[("ssh:key", value) for value in ("key", "/a b", "/k\n")],
        *[("ssh:cipher", value) for value in ("a,b", "-c", "x\n")],
        *[
            ("ssh:host_keys", value)
            for value in (
                [],
                {"a b": "ssh-rsa AAAA"},
                {"a": "AAAA"},
                {"a": "ssh-rsa AAAA\n"},
                {"a": "ssh-rsa A A"},
            )
        ],
        *[
            ("containers:priority", value)
            for value in ("PBX", [""], [" "], [None], [True], ["a", "a"], [101, "101"])
        ],
        *[
            ("containers:exempt", value)
            for value in ([], {"a": []}, {"a": "asterisk"}, {"a": ["nosuch"]}, {"": ["apache"]})
        ],
        *[
            ("containers:checks", value)
            for value in (
                {},
                [],
                {"a": {}},
                {"a": {"exec": ["x"]}},
                {"a": {"exec": "x", "expect": "y"}},
                {"a": {"exec": [], "expect": "y"}},
                {"a": {"exec": [1], "expect": "y"}},
                {"a": {"exec": ["x"], "port": 1, "expect": "y"}},
                {"a": {"port": 0, "expect": "y"}},
                {"a": {"port": "25", "expect": "y"}},
                {"a": {"port": 25, "expect": "("}},
                {"a": {"port": 25, "expect": None}},
                {"a": {"port": 25, "expect": b"y"}},
                {"a": {"port": 25, "expect": 5}},
                {"a": {"port": 25, "expect": "y", "colour": 1}},
            )
        ],
        *[("packages:node", value) for value in ("yes", 1, None)],
        *[("accept", value) for value in (["owner"], "acl", ["acl", "acl"])],
    ],
)
def test_h28_what_breaks_a_rule_is_a_fault_of_its_key(where, value):
    found = faults(where, value)
    assert found
    assert all(fault.startswith(f"ringfree:{where}") for fault in found)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"monitoring": {"services": ["nagios"]}}, "ringfree:monitoring:host: is missing"),
        ({"nfs": {"primary": "a", "secondary": "a"}}, "ringfree:nfs:secondary: is the same server"),
        (
            {"shares": {"root": {"mount": "/vz/nfsprivate/root"}}},
            "the mount /vz/nfsprivate/root lies on /vz/nfsprivate",
        ),
        (
            {"shares": {"root": {"mount": "/vz/nfsprivate/"}}},
            "the mount /vz/nfsprivate lies on /vz/nfsprivate",
        ),
        ({"shares": {"root": {"mount": "/vz//nfsprivate"}}}, "lies on"),
        ({"shares": {"root": {"mount": "/vz/./nfsprivate/x"}}}, "lies on"),
        ({"window": {"start": "22:00"}}, "ringfree:window: needs a start and another end"),
        ({"window": {"start": "22:00", "end": "22:00"}}, "ringfree:window: needs a start and another end"),
        ({"confirm": "manual", "deadman": {"seconds": 3600}}, "ringfree:deadman:seconds: must be more than"),
        ({"shares": {"conf": {"export": "/rf-images"}}}, "the export /rf-images/pbx lies on /rf-images"),
    ],
)
def test_contradictions_are_found(values, fault):
    found = pillar.validate({**MINIMAL, **values})["faults"]
    assert any(fault in text for text in found)


# --- what holds for any pillar --------------------------------------------------------------------

anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=4)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=5), st.integers(), st.sampled_from(sorted(pillar.KEYS))),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)
texts = st.text(alphabet="ab0./-_ \n\t;$`'\"\\*é", max_size=8)


def places(rules, where=""):
    for name, rule in rules.items():
        yield from places(rule, f"{where}{name}:") if isinstance(rule, dict) else [f"{where}{name}"]


@given(st.one_of(anything, st.dictionaries(st.sampled_from(sorted(pillar.KEYS)), anything, max_size=5)))
def test_any_pillar_is_judged_without_an_exception(value):
    checked = pillar.validate(value)
    assert all(fault.startswith("ringfree") and "\n" not in fault for fault in checked["faults"])


@given(
    where=st.sampled_from(sorted(places(pillar.KEYS))),
    value=st.one_of(anything, texts, st.lists(texts, max_size=2)),
)
def test_what_is_accepted_is_accepted_again(where, value):
    first = pillar.validate(with_value(where, value))
    if not first["faults"]:
        assert pillar.validate(first["settings"]) == {"settings": first["settings"], "faults": []}


@given(
    where=st.sampled_from(
        ("nodes", "nfs:primary", "nfs:options", "shares:private:mount", "ssh:user", "ssh:key", "ssh:cipher")
    ),
    value=texts.map(lambda text: "/" + text) | texts,
)
def test_h28_no_word_for_a_command_line_holds_blanks_or_signs_of_a_shell(where, value):
    if not faults(where, [value] if where == "nodes" else value):
        assert re.fullmatch(r"[A-Za-z0-9/][A-Za-z0-9/._@:=,-]*", value)


@given(st.from_regex(pillar.PATH, fullmatch=True))
def test_h11_store_paths_can_be_written_into_a_conf(mount):
    checked = pillar.validate(with_value("shares:private:mount", mount))
    if checked["faults"]:
        return
    paths = pillar.store_paths(checked["settings"])
    edited = conf.edit(b"ONBOOT=yes\n", paths)
    assert conf.effective(101, b"", edited)["private"] == posixpath.join(posixpath.normpath(mount), "101")
    assert conf.effective(101, b"", edited)["disk_quota"] is False
