"""ringfree_conf: what vzctl and a shell read in vz.conf and CTID.conf, and how a setting is changed."""

import os
import re
import shutil
import subprocess

import pytest
import ringfree_conf as conf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

SHIPPED_VZ_CONF = b"""\
## Global parameters
VIRTUOZZO=yes
LOCKDIR=/vz/lock
DUMPDIR=/vz/dump
VE0CPUUNITS=1000
VE_STOP_MODE=suspend

## Disk quota parameters
DISK_QUOTA=yes
VZFASTBOOT=no

# Disable module loading. If set, vz initscript does not load any modules.
#MODULES_DISABLED=yes

## Defaults for containers
VE_ROOT=/vz/root/$VEID
VE_PRIVATE=/vz/private/$VEID
CONFIGFILE="vswap-256m"
NAMESERVER=inherit # Copy from host system's /etc/resolv.conf
VE_LAYOUT=ploop
IPTABLES_MODULES="ipt_REJECT ipt_tos ipt_limit"
"""

SAVED_BY_VZCTL = b"""\
# head

ONBOOT="yes"
VE_ROOT="/vz/root/$VEID"
VE_PRIVATE="/vz/private/$VEID"
OSTEMPLATE="busybox"
VE_LAYOUT="simfs"
PHYSPAGES="0:65536"
NAME="Four Seasons hospice"
DESCRIPTION="the 2nd floor's PBX"
IP_ADDRESS="10.78.1.1 10.78.1.2"
BOOTORDER="5"
"""


def lines(*texts):
    return "".join(f"{text}\n" for text in texts).encode()


def values(data):
    return conf.parse(data)["values"]


# --- parse ----------------------------------------------------------------------------------------


def test_a_shipped_file_is_read():
    read = conf.parse(SHIPPED_VZ_CONF)
    assert read["warnings"] == []
    assert read["values"]["VE_PRIVATE"] == "/vz/private/$VEID"
    assert read["values"]["DISK_QUOTA"] == "yes"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('KEY="a"', "a"),
        ("KEY=a b # c", "a b # c"),
        ('KEY="a" # "b"', 'a" # "b'),
        ("KEY='a'", "'a'"),
        ('KEY= "a"', ' "a"'),
        ('  KEY="a"  ', "a"),
        ('KEY="a"\r', "a"),
        ("KEY=a\\\\b", "a\\b"),
        ('K\\EY="a"', "a"),
        ("KEY=a\0b", "a"),
        ("KEY=", ""),
        ('KEY="', None),
        ('KEY ="a"', None),
        ('export KEY="a"', None),
        ("#KEY=a", None),
        ("\\#KEY=a", None),
        ("key=a", None),
        ("KEY", None),
    ],
)
def test_the_grammar_is_that_of_vzctl(line, value):
    assert values(lines("A=1", line)).get("KEY") == value


def test_the_first_assignment_wins_with_three_kinds_of_exceptions():
    data = lines(
        *("ONBOOT=yes", "ONBOOT=no"),
        *("DISABLED=maybe", "DISABLED=yes"),
        *("VE_LAYOUT=simfs", "VE_LAYOUT=ploop", "VE_LAYOUT=bogus"),
        *("IP_ADDRESS=10.0.0.1", 'IP_ADDRESS="10.0.0.2 10.0.0.1 0.0.0.0"'),
        *("NAMESERVER=1.1.1.1", "NAMESERVER=8.8.8.8"),
    )
    assert values(data) == {
        "ONBOOT": "yes",
        "DISABLED": "yes",
        "VE_LAYOUT": "ploop",
        "IP_ADDRESS": "10.0.0.1 10.0.0.2",
        "NAMESERVER": "1.1.1.1 8.8.8.8",
    }
    assert conf.parse(data)["warnings"] == [
        {"line": 2, "text": 'duplicate for ONBOOT ("no"), ignored'},
        {"line": 3, "text": 'invalid value for DISABLED ("maybe"), skipped'},
        {"line": 7, "text": 'invalid value for VE_LAYOUT ("bogus"), skipped'},
    ]


def test_addresses_are_read_as_vzctl_writes_them():
    data = lines('IP_ADDRESS="10.0.0.1/24 FD00:0::5 fd00::5/64"', "IP_ADDRESS=010.0.0.1")
    read = conf.parse(data)
    assert read["values"]["IP_ADDRESS"] == "10.0.0.1/24 fd00::5"
    assert read["warnings"] == [{"line": 2, "text": 'invalid value for IP_ADDRESS ("010.0.0.1"), skipped'}]


def test_a_line_without_a_key_and_a_verbosity_that_is_none_are_warned_about():
    """To vzctl the former is its option --ipdel."""
    data = lines('="/x/a b"', '="10.0.0.1 all ::1"', "=all", "VERBOSE=much", "VERBOSE=3", "VERBOSE=4", "=")
    assert conf.parse(data) == {
        "values": {"VERBOSE": "3"},
        "warnings": [
            {"line": 1, "text": 'invalid value for  ("/x/a"), skipped'},
            {"line": 4, "text": 'invalid value for VERBOSE ("much"), skipped'},
            {"line": 6, "text": 'duplicate for VERBOSE ("4"), ignored'},
        ],
    }


def test_a_lone_line_without_newline_loses_its_last_byte():
    assert values(b"VE_PRIVATE=/x/ab") == {"VE_PRIVATE": "/x/a"}
    assert values(b'VE_PRIVATE="/x/a"') == {}
    assert values(b'VE_PRIVATE="/x/a"\n') == {"VE_PRIVATE": "/x/a"}
    assert values(b'A=1\nVE_PRIVATE="/x/a"') == {"A": "1", "VE_PRIVATE": "/x/a"}


def test_a_file_of_one_byte_is_refused():
    with pytest.raises(ValueError, match="line 1: the file is one byte long"):
        conf.parse(b"\n")


def test_a_key_may_have_511_bytes():
    assert values(lines("K" * 511 + "=1", "L" * 512 + "=1")) == {"K" * 511: "1"}


def test_names_that_vzctl_refuses_are_left_out():
    assert values(lines('NAME="caf\xe9"')) == {}
    assert values(lines('NAME="Four Seasons_1.2+3-4"')) == {"NAME": "Four Seasons_1.2+3-4"}


def test_values_keep_any_bytes():
    assert os.fsencode(values(b'A=1\nVE_PRIVATE="/x/\xff\xe9"\n')["VE_PRIVATE"]) == b"/x/\xff\xe9"


# --- expand, effective, conf_names ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("/x/$VEID", "/x/101"),
        ("/x/${VEID}", "/x/101"),
        ("/x/$VEID/$VEID", "/x/101/$VEID"),
        ("/x/${VEID}/$VEID", "/x/${VEID}/101"),
        ("/x/$VEIDX", "/x/101X"),
        ("$HOME/x", "$HOME/x"),
        ("/x//", "/x"),
        ("/", ""),
        ("", ""),
        ("/" + "a" * 506 + "/$VEID", "/" + "a" * 506 + "/101"),
        ("/" + "a" * 507 + "/$VEID", None),
        ("/" + "a" * 600, "/" + "a" * 600),
    ],
)
def test_expand_follows_vzctl(path, expanded):
    assert conf.expand(path, 101) == expanded


def test_a_container_overrides_what_it_may_override():
    own = conf.effective(101, SHIPPED_VZ_CONF, SAVED_BY_VZCTL)
    assert own == {
        "private": "/vz/private/101",
        "private_source": "container",
        "root": "/vz/root/101",
        "root_source": "container",
        "layout": "simfs",
        "disk_quota": True,
        "disabled": False,
        "disabled_source": None,
        "onboot": True,
        "bootorder": 5,
        "name": "Four Seasons hospice",
        "ip": ["10.78.1.1", "10.78.1.2"],
        "dumpdir": "/vz/dump",
        "lockdir": "/vz/lock",
        "warnings": [],
    }


def test_what_a_container_does_not_say_comes_from_vz_conf():
    inherited = conf.effective(101, SHIPPED_VZ_CONF + b"DISABLED=yes\nONBOOT=yes\nBOOTORDER=3\n", b"")
    assert (inherited["private"], inherited["private_source"]) == ("/vz/private/101", "global")
    assert (inherited["root"], inherited["root_source"]) == ("/vz/root/101", "global")
    assert (inherited["disabled"], inherited["disabled_source"]) == (True, "global")
    # The layout in vz.conf is for new containers; ONBOOT and BOOTORDER are read from the container only.
    assert (inherited["layout"], inherited["onboot"], inherited["bootorder"]) == (None, None, None)


def test_a_container_can_undo_the_guard_of_its_node():
    state = conf.effective(101, lines("A=1", "DISABLED=yes"), lines("A=1", "DISABLED=no"))
    assert (state["disabled"], state["disabled_source"]) == (False, "container")


def test_h11_an_unreadable_line_silently_gives_the_path_of_vz_conf():
    damaged = conf.effective(101, SHIPPED_VZ_CONF, lines('VE_PRIVATE="/nfs/101', "A=1"))
    assert (damaged["private"], damaged["private_source"]) == ("/vz/private/101", "global")
    assert damaged["warnings"] == [{"line": 1, "text": "can't parse (unmatched quotes), skipping"}]


def test_an_empty_path_does_not_fall_back_and_a_too_long_one_does():
    assert conf.effective(101, SHIPPED_VZ_CONF, lines('VE_PRIVATE="/"', "A=1"))["private"] == ""
    long = conf.effective(101, SHIPPED_VZ_CONF, lines(f'VE_PRIVATE="/{"a" * 600}/$VEID"', "A=1"))
    assert (long["private"], long["private_source"]) == ("/vz/private/101", "global")


def test_nothing_is_known_of_a_container_without_paths():
    state = conf.effective(101, b"", b"")
    assert (state["private"], state["private_source"], state["root"]) == (None, None, None)
    assert state["disk_quota"] is True


@pytest.mark.parametrize(
    ("name", "ctids"),
    [
        ("101.conf", [101]),
        ("0101.conf", [101]),
        ("+101.conf", [101]),
        ("101.conf ", [101]),
        (" 101. conf x", [101]),
        ("4294967397.conf", [101]),
        ("2147483644.conf", [2147483644]),
        ("2147483645.conf", []),
        ("0.conf", []),
        ("-1.conf", []),
        ("101.conf.bak", []),
        ("101.confX", []),
        ("101.conf~", []),
        ("101.Conf", []),
        ("101abc.conf", []),
        (".101.conf", []),
        ("vps.mount", []),
    ],
)
def test_conf_names_are_those_of_vzlist(name, ctids):
    assert conf.conf_names([name]) == ctids


def test_containers_are_listed_once_and_in_order():
    assert conf.conf_names(["205.conf", "101.conf", "0101.conf"]) == [101, 205]


# --- shell_values ---------------------------------------------------------------------------------


def test_a_shell_takes_the_last_assignment_and_resolves_quotes():
    data = lines('A="1"', "B='x y'", 'A=2 # "two"', "C=a\\ b", "export D=4", 'E="$HOME"', 'P="/x/${VEID}/y"')
    assert conf.shell_values(data) == {
        "values": {"A": "2", "B": "x y", "C": "a b", "D": "4", "P": "/x/$VEID/y"},
        "dynamic": {"E": 6},
        "stop": None,
    }


def test_a_shell_reads_on_over_an_open_quote():
    assert conf.shell_values(lines('A="1', 'B=2"', "C=3"))["values"] == {"A": "1\nB=2", "C": "3"}


def test_shell_code_is_not_followed():
    read = conf.shell_values(lines("A=1", "if true; then", "A=2", "fi"))
    assert read == {"values": {"A": "1"}, "dynamic": {}, "stop": 2}


def test_a_variable_that_a_command_may_change_is_not_known():
    assert conf.shell_values(lines("A=1", "unset A", "B=1; unset B"))["dynamic"] == {"A": 2, "B": 3}


# --- ambiguities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"# nothing\n", SHIPPED_VZ_CONF, SAVED_BY_VZCTL])
def test_files_as_vzctl_has_them_are_not_ambiguous(data):
    assert conf.ambiguities(data) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('  VE_PRIVATE="/a"', "the line is indented"),
        ('VE_PRIVATE ="/a"', "a blank stands before the ="),
        ('VE_PRIVATE= "/a"', "a blank stands after the ="),
        ('export VE_PRIVATE="/a"', "a shell command sets this"),
        ("VE_PRIVATE='/a'", "single quotes are part of the value"),
        ('VE_PRIVATE="/a" # old', "a comment follows"),
        ("VE_PRIVATE=/a # old", "a comment follows"),
        ('VE_PRIVATE="/a"; B=1', "something follows the closing quote"),
        ('\ufeffVE_PRIVATE="/a"', "a byte order mark"),
        ('VE_PRIVATE="/a$HOME"', "a $ other than $VEID"),
        ('VE_PRIVATE="/a/$VEIDX"', "a $ other than $VEID"),
        ('VE_PRIVATE="/a`b`"', "a backtick"),
        ('VE_PRIVATE="/a\\b"', "a backslash"),
        ('VE_PRIVATE="/a"\r', "carriage return"),
        ('VE_PRIVATE="/a', "a quote has no partner"),
        ('VE_PRIVATE=/a"', "a quote has no partner"),
        ('VE_PRIVATE="/a" "/b"', "more than one pair of quotes"),
        ("VE_PRIVATE=/a b", "a blank is in the value"),
        ('VE_PRIVATE+="/a"', "this appends"),
        ("unset VE_PRIVATE", "not written as"),
        ('VE_PRIVATE="/"', "the path is empty to vzctl"),
        ('VE_PRIVATE="/$VEID/$VEID"', "vzctl expands one $VEID only"),
        (f'VE_PRIVATE="/{"a" * 505}/$VEID"', "too long for vzctl"),
        ("B=1; VE_PRIVATE=/a", "not written as"),
        ('VE_PRIVATE="/a" true', "something follows the closing quote"),
    ],
)
def test_each_trap_is_named_with_its_line_and_both_readings(line, why):
    found = conf.ambiguities(lines("A=1", line, "", "# end"), ["VE_PRIVATE"])
    found = [trap for trap in found if trap["key"] == "VE_PRIVATE"]
    assert [(trap["line"], trap["key"]) for trap in found] == [(2, "VE_PRIVATE")]
    assert why in found[0]["why"]
    assert re.search(r": vzctl reads .*, a shell reads ", found[0]["why"])


@pytest.mark.parametrize(
    ("data", "line", "key", "why"),
    [
        (b"\n", 1, "*", "one byte long"),
        (b'VE_PRIVATE="/a"', 1, "*", "the only line has no newline"),
        (b"A=1\nB=1", 2, "*", "the last line has no newline"),
        (b"A=1\n#" + b"x" * 16383 + b"\n", 2, "*", "the line has 16384 bytes"),
        (b'A="1\n', 1, "*", "never closed"),
        (b"VE_ROOT=/a\nB=1\nVE_ROOT=/b\n", 3, "VE_ROOT", "vzctl reads line 1, a shell reads line 3"),
        (b"VE_LAYOUT=simfs\nVE_LAYOUT=ploop\n", 2, "VE_LAYOUT", "vzctl reads line 2, a shell reads line 2"),
        (b"A=1\nONBOOT=YES\n", 2, "ONBOOT", "vzctl does not know this value"),
        (b'A=1\nNAME="ct$VEID"\n', 2, "NAME", "vzctl does not know this value"),
        (b'A=1\nDUMPDIR="/d/$VEID"\n', 2, "DUMPDIR", "vzctl does not expand $VEID in this key"),
        (b"A=x\\\nVE_ROOT=/a\n", 2, "VE_ROOT", "a shell reads it as a part of line 1"),
        (b"if true; then\nVE_ROOT=/a\nfi\n", 2, "VE_ROOT", "line 1 is shell code"),
        (b'A="1\n" VE_ROOT=/a\n', 1, "VE_ROOT", "vzctl reads nothing here"),
        (b"exit 0\nVE_ROOT=/a\n", 2, "VE_ROOT", "line 1 is shell code"),
    ],
)
def test_what_lies_around_a_line_counts_too(data, line, key, why):
    found = conf.ambiguities(data)
    assert [(trap["line"], trap["key"]) for trap in found] == [(line, key)]
    assert why in found[0]["why"]


@pytest.mark.parametrize(
    "data",
    [
        b"VE_ROOT=/a\nB=1\nVE_ROOT=/a\n",
        b'VE_ROOT="/a/$VEID"\nVE_ROOT=/a/$VEID\nVE_ROOT="/a/$VEID"\n',
        b'DISK_QUOTA="no"\nDISK_QUOTA=no\n',
        b"VE_LAYOUT=simfs\nVE_LAYOUT=simfs\n",
    ],
)
def test_a_key_twice_that_says_the_same_is_no_trap(data):
    """Whichever line counts; and each of them is changed, so that they go on saying the same."""
    assert conf.ambiguities(data) == []
    key = data.partition(b"=")[0].decode()
    wanted = {"VE_LAYOUT": "ploop", "DISK_QUOTA": "yes", "VE_ROOT": "/c"}[key]
    edited = conf.edit(data, {key: wanted})
    assert edited.count(b"\n") == data.count(b"\n")
    assert values(edited)[key] == conf.shell_values(edited)["values"][key] == wanted
    assert conf.ambiguities(edited) == []
    assert key.encode() not in conf.remove(data, [key])


def test_a_line_of_16383_bytes_is_still_fine():
    assert conf.ambiguities(b"A=1\n#" + b"x" * 16382 + b"\n") == []


def test_other_keys_and_dead_lines_are_no_trap():
    data = lines(
        "export FOO=1", "BAR = 2", "BAZ='3' # VE_ROOT=/a", "#VE_ROOT=/b", "ve_root=/c", "VE_ROOTS=/d", "x y"
    )
    assert conf.ambiguities(data) == []


def test_the_keys_can_be_chosen():
    data = lines("FOO='1'", "ONBOOT='yes'")
    assert [trap["line"] for trap in conf.ambiguities(data, ["FOO"])] == [1]
    assert [trap["line"] for trap in conf.ambiguities(data)] == [2]


# --- edit, changes, remove ------------------------------------------------------------------------


def test_a_key_is_set_in_its_place_and_others_at_the_end():
    edited = conf.edit(
        SAVED_BY_VZCTL, {"VE_PRIVATE": "/vz/nfsprivate/$VEID", "DISABLED": "yes", "DISK_QUOTA": "no"}
    )
    assert edited == SAVED_BY_VZCTL.replace(b"/vz/private/", b"/vz/nfsprivate/") + lines(
        'DISABLED="yes"', 'DISK_QUOTA="no"'
    )


def test_a_setting_that_is_there_already_is_not_rewritten():
    wanted = {"VE_ROOT": "/vz/root/$VEID", "DISK_QUOTA": "yes"}
    assert conf.edit(SHIPPED_VZ_CONF, wanted) == SHIPPED_VZ_CONF
    assert conf.changes(SHIPPED_VZ_CONF, wanted) == {}


def test_changes_say_what_edit_would_do():
    assert conf.changes(SHIPPED_VZ_CONF, {"DISK_QUOTA": "no", "DISABLED": "yes", "VE_LAYOUT": "ploop"}) == {
        "DISK_QUOTA": {"old": "yes", "new": "no"},
        "DISABLED": {"old": None, "new": "yes"},
    }


def test_an_empty_file_can_be_set():
    assert conf.edit(b"", {"ONBOOT": "no"}) == b'ONBOOT="no"\n'
    assert conf.remove(b'ONBOOT="no"\n', ["ONBOOT"]) == b""


def test_a_dos_file_gets_lines_that_a_shell_can_read():
    data = b"# dos\r\nFOO=1\r\n"
    assert conf.edit(data, {"DISABLED": "yes"}) == data + b'DISABLED="yes"\n'


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (lines("A=1", "  ONBOOT=no"), {"ONBOOT": "yes"}, "line 2: ONBOOT: the line is indented"),
        (
            lines("ONBOOT=no", "ONBOOT=yes"),
            {"ONBOOT": "yes"},
            "line 2: ONBOOT: ONBOOT is on more than one line",
        ),
        (b"A=1\nB=1", {"ONBOOT": "yes"}, "line 2: the last line has no newline"),
        (lines("A=1", "B='"), {"ONBOOT": "yes"}, "line 2: a ' that is never closed"),
        (lines("exit", "A=1"), {"ONBOOT": "yes"}, "line 3: ONBOOT: line 1 is shell code"),
    ],
)
def test_an_ambiguous_file_is_refused_with_its_line(data, settings, message):
    for function in (conf.edit, conf.changes):
        with pytest.raises(ValueError, match=re.escape(message)):
            function(data, settings)


def test_a_trap_of_another_key_does_not_matter():
    data = lines("  ONBOOT=no", "A=1")
    assert conf.edit(data, {"DISABLED": "yes"}) == data + b'DISABLED="yes"\n'


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[
            ("DESCRIPTION", f"a{c}b")
            for c in ('"', "\\", "`", "\n", "\r", "\t\n", "\0", "$", "$HOME", "$VEID")
        ],
        *[
            ("VE_PRIVATE", path)
            for path in ("", "/", "//", "/$VEID/$VEID", "/$VEIDX", "/" + "a" * 600 + "/$VEID")
        ],
        *[("ONBOOT", "YES"), ("DISABLED", ""), ("VE_LAYOUT", "zfs"), ("BOOTORDER", "-1"), ("NAME", "a/b")],
        *[("A B", "1"), ("", "1"), ("A=", "1"), ("é", "1")],
    ],
)
def test_a_value_that_cannot_be_written_is_refused(key, value):
    with pytest.raises(ValueError, match=r"cannot be set to|is not the name of a setting"):
        conf.edit(b"A=1\n", {key: value})


def test_remove_takes_one_line_out():
    assert conf.remove(SAVED_BY_VZCTL, ["ONBOOT", "DISABLED"]) == SAVED_BY_VZCTL.replace(
        b'ONBOOT="yes"\n', b""
    )


def test_remove_refuses_an_ambiguous_file():
    with pytest.raises(ValueError, match="line 1: ONBOOT: the line is indented"):
        conf.remove(lines(" ONBOOT=no", "A=1"), ["ONBOOT"])


# --- what holds for any file ----------------------------------------------------------------------

FRAGMENTS = (
    *(
        '"',
        "'",
        "\\",
        "$",
        "$VEID",
        "${VEID}",
        "`",
        "#",
        ";",
        "=",
        "+",
        " ",
        "\t",
        "\r",
        "~",
        "\ufeff",
        "é",
        ":",
    ),
    *("a", "b", "/", "yes", "no", "simfs", "VE_PRIVATE", "VE_ROOT", "ONBOOT", "VE_LAYOUT", "FOO"),
    *(
        'VE_PRIVATE="/a/',
        "ONBOOT=",
        "export ",
        "unset ",
        "exit",
        "if ",
        "fi",
        "(",
        ")",
        "|",
        "&",
        "<",
        "{",
        "}",
    ),
)
KEYS = ("VE_PRIVATE", "VE_ROOT", "ONBOOT", "VE_LAYOUT", "DESCRIPTION")

plain_lines = st.sampled_from(
    (
        *(
            'VE_PRIVATE="/a/$VEID"',
            "VE_ROOT=/b/${VEID}",
            'ONBOOT="yes"',
            "VE_LAYOUT=simfs",
            "# note",
            "",
            "FOO=1",
        ),
        *("FOO='a b'", 'DESCRIPTION="a # b\'c"', "FOO=1 # x", "  FOO=2", "FOO", "ONBOOT=no"),
    )
)
odd_lines = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)
files = st.builds(
    lambda texts, end: "\n".join(texts).encode() + end,
    st.lists(st.one_of(plain_lines, plain_lines, plain_lines, odd_lines), max_size=6),
    st.sampled_from((b"\n", b"\n", b"\n", b"")),
)
any_bytes = st.binary(max_size=60)
settings_to_make = st.dictionaries(
    st.sampled_from(KEYS),
    st.sampled_from(("/c", "/c/$VEID", "yes", "no", "simfs", "a b", "#", "don't", "")),
    max_size=4,
)


def read_by(shell, data, directory):
    """What a real shell has in KEYS after it has sourced the file; None if it gave up on the file."""
    path = directory / "conf"
    path.write_bytes(data)
    script = '. ./conf; printf "read\\0"; printf "%s\\0" ' + " ".join(f'"${{{key}-unset}}"' for key in KEYS)
    result = subprocess.run(
        [shell, "-c", script],
        cwd=directory,
        env={"PATH": "/nonexistent", "VEID": "101", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    _noise, found, rest = result.stdout.rpartition(b"read\0")
    return dict(zip(KEYS, rest.split(b"\0"), strict=False)) if found else None


def assert_read_alike(shell, data, directory, keys):
    by_shell = read_by(shell, data, directory)
    if by_shell is None:
        assert conf.shell_values(data)["stop"] is not None
        return
    by_vzctl = values(data)
    for key in keys:
        value = by_vzctl.get(key)
        if value is not None and key in ("VE_PRIVATE", "VE_ROOT"):
            value = conf.expand(value, 101)
            by_shell[key] = by_shell[key].rstrip(b"/")
        assert by_shell[key] == (b"unset" if value is None else os.fsencode(value))


@pytest.mark.parametrize("shell", ["dash", "bash"])
@settings(max_examples=3 * settings.default.max_examples, suppress_health_check=list(HealthCheck))
@given(data=files)
def test_h11_what_is_not_ambiguous_is_read_alike_by_vzctl_and_a_real_shell(shell, data, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    ambiguous = {trap["key"] for trap in conf.ambiguities(data, KEYS)}
    if "*" not in ambiguous:
        assert_read_alike(shutil.which(shell), data, tmp_path, set(KEYS) - ambiguous)


@settings(max_examples=3 * settings.default.max_examples, suppress_health_check=list(HealthCheck))
@given(data=files)
def test_shell_values_are_those_of_a_real_shell(data, tmp_path):
    read = conf.shell_values(data)
    by_shell = read_by(shutil.which("dash") or "/bin/sh", data, tmp_path)
    if read["stop"] is None and by_shell is not None:
        for key, value in read["values"].items():
            if key in KEYS:
                assert os.fsencode(value.replace("$VEID", "101")) == by_shell[key]


@settings(max_examples=3 * settings.default.max_examples)
@given(data=st.one_of(files, any_bytes), wanted=settings_to_make)
@example(data=b"FOO=1\n", wanted={"VE_PRIVATE": "/c/$VEID"})
def test_an_edit_is_read_as_meant_and_keeps_every_other_byte(data, wanted):
    try:
        edited = conf.edit(data, wanted)
    except ValueError:
        return
    for key, value in wanted.items():
        assert values(edited)[key] == value
        assert conf.shell_values(edited)["values"][key] == value.replace("${VEID}", "$VEID")
    mine = re.compile(rb"(?:" + b"|".join(key.encode() for key in wanted) + rb")=") if wanted else None
    kept = [line for line in data.splitlines(keepends=True) if not (mine and mine.match(line))]
    assert [line for line in edited.splitlines(keepends=True) if not (mine and mine.match(line))] == kept
    assert conf.edit(edited, wanted) == edited
    assert conf.changes(edited, wanted) == {}
    assert (conf.changes(data, wanted) == {}) == (edited == data)


@settings(max_examples=3 * settings.default.max_examples)
@given(data=st.one_of(files, any_bytes), wanted=settings_to_make)
def test_remove_gives_back_the_file_to_the_byte(data, wanted):
    present = conf.parse(data)["values"] if len(data) != 1 else {}
    wanted = {key: value for key, value in wanted.items() if key not in present}
    try:
        edited = conf.edit(data, wanted)
    except ValueError:
        return
    assert conf.remove(edited, list(wanted)) == data


@settings(max_examples=3 * settings.default.max_examples)
@given(data=st.one_of(files, any_bytes))
def test_any_bytes_can_be_looked_at(data):
    for trap in conf.ambiguities(data):
        assert 1 <= trap["line"] <= data.count(b"\n") + 1
        assert "\n" not in trap["why"]
    conf.shell_values(data)
    if len(data) != 1:
        conf.effective(101, data, data)


# --- what a shell would run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"id\n", 1),
        (b'ONBOOT="yes"\nid >/x\n', 2),
        (b'ONBOOT="yes"; id\n', 1),
        (b'ONBOOT="yes" id\n', 1),
        (b'ONBOOT="yes"|id\n', 1),
        (b'NAME="`id`"\n', 1),
        (b"NAME=$(id)\n", 1),
        (b'NAME="a\n$(id)"\n', 1),
        (b'NAME="a\\\n`id`"\n', 1),
        (b"NAME=\\\n$(id)\n", 1),
        (b"NAME=${X:-$(id)}\n", 1),
        (b"NAME=<(id)\n", 1),
        (b"NAME[$(id)]=1\n", 1),
        (b"NAME=$((1+$(id)))\n", 1),
        (b". /vz/private/101/x\n", 1),
        (b"if id; then NAME=1; fi\n", 1),
        (b"vzctl() { id; }\n", 1),
        (b'ONBOOT="yes"\nPATH="/vz/private/101"\n', 2),
        (b"export LD_PRELOAD=/x.so\n", 1),
        (b"readonly BASH_ENV=/x\n", 1),
    ],
)
def test_h41_what_a_shell_would_run_is_found(text, line):
    assert [found["line"] for found in conf.code(text)] == [line]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# `id`\n\n",
        b'ONBOOT="yes"\nVE_ROOT="/vz/root/$VEID"\nNAME=pbx\n',
        b"NAME='$(id)'\n",
        b'DESCRIPTION="only $5"\n',
        b'export ONBOOT="yes"\n',
    ],
)
def test_plain_confs_run_nothing(text):
    assert conf.code(text) == []
