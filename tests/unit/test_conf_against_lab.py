"""
ringfree_conf against the lab's vzctl, which was written from the same facts by another hand.

The lab's own reader runs in one process beside the test and answers for any file: two independent readers of one
grammar must agree on every file, not only on the recorded ones.
"""

import base64
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import ringfree_conf as conf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LIBRARY = Path(__file__).resolve().parents[2] / "lab/openvz/lib"
READER = """
    import base64, contextlib, io, json, os, sys
    sys.path.insert(0, sys.argv[1])
    import conf
    for line in sys.stdin:
        with open("file", "wb") as stream:
            stream.write(base64.b64decode(line))
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            found = conf.parse("file", 101)
        print(json.dumps([found, conf.Conf.root.fget(found), conf.Conf.private.fget(found)]), flush=True)
"""
KEYS = (
    "ONBOOT",
    "DISABLED",
    "DISK_QUOTA",
    "VE_LAYOUT",
    "BOOTORDER",
    "NAME",
    "IP_ADDRESS",
    "DUMPDIR",
    "NAMESERVER",
)


@pytest.fixture(scope="module")
def lab_reader(tmp_path_factory):
    command = [sys.executable, "-ISc", textwrap.dedent(READER), str(LIBRARY)]
    reader = subprocess.Popen(
        command,
        cwd=tmp_path_factory.mktemp("reader"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def read(data):
        reader.stdin.write(base64.b64encode(data).decode() + "\n")
        reader.stdin.flush()
        return json.loads(reader.stdout.readline())

    yield read
    reader.stdin.close()
    assert reader.wait(timeout=10) == 0


PIECES = (
    *(
        '"',
        "'",
        "\\",
        "$VEID",
        "${VEID}",
        "#",
        "=",
        " ",
        "\t",
        "\v",
        "\r",
        "\0",
        "\x1c",
        "\u00a0",
        "é",
        "\udcff",
    ),
    *("VE_PRIVATE", "VE_ROOT", "ONBOOT", "BOOTORDER", "NAME", "/", "//", "a", "yes", "no", "007", "-1", "+5"),
)
VALUES = {
    "VE_PRIVATE": (
        "/x/$VEID",
        "/x/${VEID}/$VEID",
        "/",
        "",
        "//a//",
        "/" + "a" * 506 + "/$VEID",
        "/" + "a" * 507 + "/$VEID",
    ),
    "VE_ROOT": ("/r/$VEIDX", "r", "/" + "b" * 700),
    "ONBOOT": ("yes", "no", "YES", " yes", ""),
    "DISABLED": ("yes", "no", "1"),
    "DISK_QUOTA": ("yes", "no", "off"),
    "VE_LAYOUT": ("simfs", "ploop", "ploop:raw", "ploop:x", "SIMFS", ""),
    "BOOTORDER": (
        "5",
        "007",
        "",
        " ",
        " 5",
        "5 ",
        "+5",
        "-1",
        "-0",
        "unlimited",
        "9223372036854775808",
        "0x5",
        "٣",
    ),
    "NAME": ("web 1", "café", "a/b", "", "-+_."),
    "IP_ADDRESS": (
        *(
            "10.0.0.1",
            "10.0.0.1/24 10.0.0.2",
            "FD00::1",
            "fd00:0::1/64",
            "10.0.0.01",
            "x",
            "0.0.0.0 10.0.0.3",
        ),
        *("10.0.0.1/33", "10.0.0.4/", "10.0.0.5/+8", "::0\t::2"),
    ),
    "DUMPDIR": ("/d", "$VEID", "\udcff"),
    "NAMESERVER": ("1.1.1.1  8.8.8.8", "1.1.1.1", ""),
}
assignments = st.sampled_from([(key, value) for key, values in VALUES.items() for value in values]).flatmap(
    lambda pair: st.sampled_from(
        (
            f'{pair[0]}="{pair[1]}"',
            f"{pair[0]}={pair[1]}",
            f' {pair[0]}="{pair[1]}" # x',
            f"{pair[0]} ={pair[1]}",
        )
    )
)
noise = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
files = st.builds(
    lambda lines, end: ("\n".join(lines) + end).encode("utf-8", "surrogateescape"),
    st.lists(st.one_of(assignments, assignments, noise), max_size=7),
    st.sampled_from(("\n", "\n", "", "\r\n")),
).filter(lambda data: len(data) != 1)


@settings(max_examples=10 * settings.default.max_examples, suppress_health_check=list(HealthCheck))
@given(data=files)
def test_two_readers_agree_on_any_file(data, lab_reader):
    theirs, root, private = lab_reader(data)
    values = conf.parse(data)["values"]
    ours = {key: values[key] for key in KEYS if key in values}
    if "VE_LAYOUT" in ours:
        ours["VE_LAYOUT"] = ours["VE_LAYOUT"].partition(":")[0]
    if "BOOTORDER" in ours:
        ours["BOOTORDER"] = conf.effective(101, b"", data)["bootorder"]
    for key in ("IP_ADDRESS", "NAMESERVER"):
        if key in ours:
            ours[key] = ours[key].split(" ") if ours[key] else []
    assert {key: value for key, value in ours.items() if value != []} == {
        key: value for key, value in theirs.items() if key in KEYS and value != []
    }
    effective = conf.effective(101, b"", data)
    assert (effective["root"], effective["private"]) == (root, private)


@settings(max_examples=3 * settings.default.max_examples, suppress_health_check=list(HealthCheck))
@given(
    data=files,
    wanted=st.fixed_dictionaries(
        {},
        optional={
            "VE_PRIVATE": st.sampled_from(("/vz/nfsprivate/$VEID", "/c d/${VEID}")),
            "VE_ROOT": st.just("/vz/nfsroot/$VEID"),
            "DISABLED": st.sampled_from(("yes", "no")),
            "DISK_QUOTA": st.sampled_from(("yes", "no")),
        },
    ),
)
def test_what_we_edit_is_what_the_other_reader_finds(data, wanted, lab_reader):
    try:
        edited = conf.edit(data, wanted)
    except ValueError:
        return
    if len(edited) == 1:
        return
    theirs, root, private = lab_reader(edited)
    for key, value in wanted.items():
        if key == "VE_PRIVATE":
            assert private == conf.expand(value, 101)
        elif key == "VE_ROOT":
            assert root == conf.expand(value, 101)
        else:
            assert theirs[key] == value
