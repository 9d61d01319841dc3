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


#: Where no share may be mounted: something of the system or of vz is there, or below.
HIDING = (
    "/etc",
    "/etc/vz",
    "/etc/sysconfig",
    "/etc/ringfree",
    "/vz",
    "/vz/private",
    "/vz/private/101",
    "/vz/root",
)
HIDING += ("/vz/lock", "/vz/dump", "/vz/template", "/vz/template/cache", "/var/lib/vz", "/var/lib/vz/private")
HIDING += (
    "/usr",
    "/usr/local/vz",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/lib/ringfree",
    "/home",
    "/root",
    "/boot",
)
HIDING += (
    "/dev/x",
    "/proc",
    "/sys",
    "/run",
    "/run/vz",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/opt",
    "/srv",
    "/tmp",
)


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
        (
            "containers:may_lack",
            {"revnat": ["mount /srv", "tcp [::]:80"], 105: ["process a*"], "*": ["udp *"]},
        ),
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
        *[
            ("shares:private:mount", path)
            for path in ("/srv/vz", "/mnt/private", "/var/lib/vz/nfs", "/vz2/private")
        ],
        *[
            ("shares:conf:mount", path)
            for path in ("/etc/vz/conf", "/etc/sysconfig/vz-scripts/", "/srv/conf")
        ],
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
            ("shares:private:mount", path)
            for path in (*HIDING, "/etc/vz/conf", "/etc/sysconfig/vz-scripts/x")
        ],
        *[
            ("shares:root:mount", path)
            for path in ("/etc/sysconfig/vz-scripts", "/vz/./root/", "/vz//private/101")
        ],
        *[("shares:conf:mount", path) for path in (*HIDING, "/etc/vz/conf/x", "/etc/sysconfig/vz-scripts/x")],
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
            ("containers:may_lack", value)
            for value in (
                [],
                {"a": []},
                {"a": "tcp *"},
                {"a": [80]},
                {"": ["tcp *"]},
                {"a": ["tcp *", "tcp *"]},
            )
        ],
        *[
            ("containers:may_lack", {"a": [thing]})
            for thing in ("crond", "tcp", "tcp ", "mount /a\n", "mounts /a", "*")
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
                {"a": {"port": 25, "expect": "y", "send": "\x1b[2J"}},
                {"a": {"port": 25, "expect": "y", "send": None}},
                {"a": {"exec": ["x", "\x00"], "expect": "y"}},
                {"a": {"port": 25, "expect": "a{99999999999}"}},
                {"a": {"port": 25, "expect": "(" * 9000 + ")" * 9000}},
                {"a": {"port": 25, "expect": "y", 5: 1, "b": 2}},
                {"a b": {"port": 25, "expect": "y"}},
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


def test_a_conf_share_has_its_place_and_nothing_else_in_etc_is_one():
    """It was mounted on /etc/vz once, and no way back came by it."""
    (fault,) = faults("shares:conf:mount", "/etc/vz")
    assert "/etc/sysconfig/vz-scripts or /etc/vz/conf" in fault and "/etc/vz lies in /etc" in fault
    (fault,) = faults("shares:private:mount", "/vz")
    assert fault.endswith("such as /vz/nfsprivate: /vz would hide /vz/dump")


def conf_mount(said, *node):
    """Where the conf share is mounted, and what is wrong."""
    found = pillar.validate(with_value("shares:conf:mount", said), *node)
    return found["settings"]["shares"]["conf"]["mount"], found["faults"]


CONF_DIRS = (
    "/etc/sysconfig/vz-scripts",
    "/etc/vz/conf",
    "/srv/vz.conf-d",
    "/etc/openvz/conf",
    "/usr/local/etc/vz/conf",
)


@pytest.mark.parametrize("conf_dir", CONF_DIRS)
def test_a_conf_share_without_a_place_goes_where_the_node_has_its_confs(conf_dir):
    """Also where nobody may put it by pillar: vzctl reads there, so that nothing else is hidden."""
    assert pillar.validate(MINIMAL, "node001", conf_dir)["settings"]["shares"]["conf"]["mount"] == conf_dir
    assert conf_mount(None, "node001", conf_dir) == (conf_dir, [])
    assert conf_mount("/srv/confs", "node001", conf_dir) == ("/srv/confs", [])


def test_the_master_knows_no_nodes_layout():
    assert pillar.validate(MINIMAL)["faults"] == []
    assert conf_mount(None) == (None, [])
    assert conf_mount("/etc/vz/conf") == ("/etc/vz/conf", [])


@pytest.mark.parametrize(
    "conf_dir",
    [
        "/etc",
        "/var/lib",
        "/vz/private",
        "/vz/private/confs",
        "/srv/a b",
        "/srv/a%b",
        "/srv/$(id)",
        "/srv/caf\udce9",
    ],
)
def test_a_conf_directory_on_which_nothing_can_be_mounted_is_a_fault(conf_dir):
    """/etc/vz/conf may lead anywhere, and its name gets into fstab and into units of systemd."""
    (fault,) = conf_mount(None, "node001", conf_dir)[1]
    assert fault.startswith("ringfree:shares:conf:mount: the conf directory of vz on this node must be ")


def test_a_conf_directory_on_another_share_is_a_fault():
    assert "the mount /vz/nfsroot/confs lies on /vz/nfsroot" in str(
        conf_mount(None, "n", "/vz/nfsroot/confs")[1]
    )


# --- what is typed ------------------------------------------------------------------------------------------------

FLEET = {**MINIMAL, "nodes": ["node001", "node002", "node003"]}
#: What each orchestration may be given, beside the pillar.
RIGHT = {
    "migrate": {"nodes": ["node002"], "deadline": "04:30"},
    "presync": {"nodes": ["node001", "node003"]},
    "rollback": {"nodes": ["node001"], "data": "sync_back"},
    "failover": {"nodes": ["node001"], "to": "primary", "accept_age": True, "max_age": 60, "at_once": True},
    "cleanup": {"nodes": ["node001"], "consent": "7f3a-91c2"},
    "orch.line": {"nodes": ["node001"]},
    "orch.node": {"node": "node001"},
    "orch.parts": {"node": "node003"},
    "orch.back": {"node": "node001", "data": None, "committed": False},
    "orch.switch_all": {
        "nodes": ["node001"],
        "to": "primary",
        "accept_age": False,
        "max_age": None,
        "at_once": False,
    },
    "orch.switch": {"node": "node001", "before": [], "to": "secondary", "accept_age": False, "max_age": None},
    "orch.cleanup": {"node": "node001", "consent": "7f3a-91c2"},
}
NODES_WRONG = (
    [],
    "node001",
    None,
    {},
    5,
    ["node009"],
    ["node001", 5],
    [["node001"]],
    ["a:\n  b"],
    [None],
    "",
)
YES_NO_WRONG = ("true", "false", 1, 0, None, [])
#: Values that break the rule of a word.
WRONG = {
    "nodes": NODES_WRONG,
    "before": tuple(value for value in NODES_WRONG if value != []),
    "node": ("node009", "", None, 5, ["node001"], "node001\n", "node001,node002"),
    "deadline": ("soon", 270, "", "24:00", "4:30", "04:30\n", "0\u0664:30", "2026-02-27", True, ["04:30"]),
    "data": ("sync-back", "Discard", "sync_back ", "", True, 0, ["discard"], {}),
    "to": ("third", "Primary", "", None, 1, ["primary"]),
    "max_age": ("60", 0, -1, 1.5, True, math.nan, [60]),
    "consent": ("", 7, "7f3a 91c2", "'; id", True, ["7f3a"], "x\x1b[2J"),
    "accept_age": YES_NO_WRONG,
    "at_once": YES_NO_WRONG,
    "committed": YES_NO_WRONG,
}


def typed(sls, **words):
    return pillar.typed(sls, {"ringfree": FLEET, **words})


def test_every_orchestration_is_tried_here():
    assert set(RIGHT) == set(pillar.TAKES)
    for sls, words in RIGHT.items():
        assert set(words) == set(pillar.TAKES[sls])
    assert {word for words in RIGHT.values() for word in words} == set(WRONG)


@pytest.mark.parametrize("sls", RIGHT)
def test_what_is_typed_rightly_is_taken_as_it_is(sls):
    found = typed(sls, **RIGHT[sls])
    assert (found["faults"], found["words"]) == ([], RIGHT[sls])


def test_what_is_not_typed_has_a_default_or_is_missing():
    assert typed("migrate")["words"] == {"nodes": FLEET["nodes"], "deadline": None}
    assert typed("rollback")["faults"] == ["nodes: is missing"]
    assert typed("failover")["faults"] == ["to: is missing"]
    assert typed("orch.back", node="node001")["words"] == {"node": "node001", "data": None, "committed": True}


def test_nodes_come_in_the_order_of_the_pillar():
    assert typed("presync", nodes=["node003", "node001"])["words"]["nodes"] == ["node001", "node003"]


@pytest.mark.parametrize(
    ("sls", "word", "value"),
    [(sls, word, value) for sls, words in RIGHT.items() for word in words for value in WRONG[word]],
)
def test_h28_a_wrong_word_is_refused_by_its_name(sls, word, value):
    (fault,) = typed(sls, **{**RIGHT[sls], word: value})["faults"]
    assert fault.startswith(f"{word}: ") and fault.isprintable()


@pytest.mark.parametrize("key", ["nodez", "dataa", "node\n", "\x1b[31m", 5, None, ("a", 1), "before"])
def test_an_unknown_key_is_refused_with_the_known_ones(key):
    (fault,) = pillar.typed("rollback", {"ringfree": FLEET, "nodes": ["node001"], key: 1})["faults"]
    assert fault.endswith(": unknown key; known are nodes, data, ringfree") and fault.isprintable()


def test_what_else_the_masters_pillar_has_is_not_ours():
    given_pillar = {"ringfree": FLEET, "schedule": {}, "nodes": ["node001"]}
    assert pillar.typed("rollback", given_pillar, ["ringfree", "schedule"])["faults"] == []


def test_an_orchestration_that_there_is_not_takes_nothing():
    assert typed("orch.everything")["faults"] == ["orch.everything: there is no such orchestration"]


def test_all_faults_of_a_command_line_and_of_the_pillar_come_at_once():
    found = pillar.typed("rollback", {"ringfree": {**FLEET, "batch": "2"}, "nodez": 1, "data": "x"})["faults"]
    assert [fault.split(": ")[0] for fault in found] == ["nodez", "nodes", "data", "ringfree:batch"]
    found = pillar.typed("presync", {"ringfree": {**FLEET, "nodes": "node001"}, "nodes": ["x"]})["faults"]
    assert found == ["ringfree:nodes: must be a list of at least 1 entries, not 'node001'"]


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


words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["node001", "discard", "primary", "04:30", "x: y", "- a", "\udcff\x1b"]),
)


@given(
    sls=st.sampled_from(sorted(RIGHT)),
    changes=st.dictionaries(
        st.one_of(st.sampled_from(sorted(WRONG)), st.text(max_size=5)), st.one_of(anything, words)
    ),
)
def test_h28_what_is_typed_is_refused_by_name_or_only_words_that_are_known(sls, changes):
    found = pillar.typed(sls, {**RIGHT[sls], **changes, "ringfree": FLEET})
    assert all(fault.isprintable() for fault in found["faults"])
    if found["faults"]:
        return
    assert not set(changes) - set(RIGHT[sls])
    for word, value in found["words"].items():
        for name in value if isinstance(value, list) else [value]:
            assert (
                name is None
                or isinstance(name, (bool, int))
                or re.fullmatch(r"[\w.@:-][\w.@: -]*", name, re.ASCII)
            )
        if word in ("nodes", "before"):
            assert set(value) <= set(FLEET["nodes"])


@given(anything)
def test_any_key_and_value_is_told_in_one_printable_line(value):
    for where in (
        "nodes",
        "containers:checks",
        "containers:exempt",
        "containers:may_lack",
        "containers:priority",
        "ssh:host_keys",
        "window",
    ):
        assert all(fault.isprintable() for fault in faults(where, value))


@pytest.mark.parametrize("where", sorted(places(pillar.KEYS)))
def test_a_number_without_an_end_is_a_fault_as_any_other(where):
    """Python does not write such a number down."""
    for value in (16**4000, [16**4000], {"a": 16**4000}, {16**4000: "a"}):
        assert faults(where, value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ({"nfs": {"deadline": 300}}, 300),
        ({"nfs": {"deadline": "300"}}, 60),
        ({"nfs": {}}, 60),
        ({}, 60),
        (None, 60),
    ],
)
def test_the_deadline_of_nfs_is_known_of_a_pillar_that_is_wrong_elsewhere(value, seconds):
    assert pillar.nfs_deadline(value) == seconds
