"""
ringfree_conf against recorded runs of the real vzctl and vzlist 4.11.1.

The cases in tests/vectors say what the world was and what the programs answered. From the answers follows which
private area and which root vzctl took from the files; ours must be the same. No program is run here.
"""

import base64
import functools
import json
import posixpath
import re
import shlex
from pathlib import Path

import pytest
import ringfree_conf as conf
import yaml

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
VZ_CONF = "/etc/vz/vz.conf"
CONF_DIR = "/etc/vz/conf"
OPTIONS = {
    "--private": "VE_PRIVATE",
    "--root": "VE_ROOT",
    "--onboot": "ONBOOT",
    "--disabled": "DISABLED",
    "--diskquota": "DISK_QUOTA",
    "--bootorder": "BOOTORDER",
    "--name": "NAME",
    "--description": "DESCRIPTION",
}


@functools.cache
def cases(topic):
    """All cases of a topic; of every topic if it is empty."""
    found = []
    for path in sorted(VECTORS.glob(f"{topic}*.yaml")):
        found += yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


def parametrize(topic, applies):
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case["name"]) for case in cases(topic) if applies(case)]
    )


class World:
    """The files of a case."""

    def __init__(self, given):
        self.files = {**given.get("files", {}), **(given.get("then_files") or {})}
        self.dirs = [*given.get("dirs", []), *given.get("ct", {}), *given.get("foreign_mounts", [])]
        self.dirs += [
            "/etc/vz/conf",
            "/etc/vz/names",
            "/vz/private",
            "/vz/root",
            "/vz/lock",
            "/vz/dump",
            "/nfs",
        ]
        for old, new in (given.get("then_rename") or {}).items():
            self.dirs = [new if path == old else path for path in self.dirs]

    def resolve(self, path):
        for _ in range(10):
            link = self.files.get(path)
            if not (isinstance(link, dict) and "symlink" in link):
                return path
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), link["symlink"]))
        raise AssertionError(f"too many links: {path}")

    def exists(self, path):
        path = self.resolve(path)
        above = [*self.files, *self.dirs]
        return any(known == path or known.startswith(f"{path}/") for known in above) and bool(path)

    def read(self, path):
        """The bytes of a file; a directory reads as an empty file, as it does for vzctl."""
        content = self.files.get(self.resolve(path), b"" if self.exists(path) else None)
        return content if isinstance(content, bytes | None) else as_bytes(content)

    def names(self):
        inside = {posixpath.relpath(path, CONF_DIR) for path in [*self.files, *self.dirs]}
        return [name for name in inside if "/" not in name and name != "." and not name.startswith("..")]

    def container(self, ctid):
        return conf.effective(ctid, self.read(VZ_CONF) or b"", self.read(f"{CONF_DIR}/{ctid}.conf") or b"")


def as_bytes(content):
    if isinstance(content, str):
        return content.encode()
    return base64.b64decode(content["b64"]) if "b64" in content else content["text"].encode()


# --- the paths that vzctl used --------------------------------------------------------------------


def shows_private(case):
    return re.search(r"^Container private area (.*) does not exist$", case["expect"]["stderr"], re.MULTILINE)


@parametrize("config", shows_private)
def test_the_private_area_is_the_one_that_vzctl_looked_for(case):
    assert World(case["given"]).container(101)["private"] == shows_private(case).group(1)


@parametrize("config", lambda case: case["expect"]["stderr"].endswith("VE_PRIVATE is not set\n"))
def test_no_private_area_is_found_where_vzctl_finds_none(case):
    assert World(case["given"]).container(101)["private"] is None


def as_json(case):
    """The containers that vzlist printed as JSON; none if its output is something else or not valid."""
    try:
        return json.loads(case["expect"]["stdout"]) if case["expect"]["stdout"].startswith("[") else []
    except ValueError:  # vzlist escapes nothing
        return []


def lists_as_json(case):
    return case["run"].startswith("vzlist") and "ctid" in str(as_json(case))


@parametrize("", lists_as_json)
def test_vzlist_shows_the_same_settings(case):
    world = World(case["given"])
    for shown in as_json(case):
        ours = world.container(shown["ctid"])
        for field in {"private", "root", "onboot", "bootorder", "disabled"} & set(shown):
            assert ours[field] == shown[field]
        if "layout" in shown and ours["layout"]:
            assert ours["layout"] == shown["layout"]
        if "name" in shown and shown["name"] is not None:  # vzlist also wants a link in /etc/vz/names
            assert ours["name"] == shown["name"]
        if "ip" in shown and case["given"].get("running") is None:
            assert ours["ip"] == shown["ip"]


def lists_paths_as_text(case):
    return re.match(r"vzlist -S -H -o ctid,private(,root)? -t\Z", case["run"])


@parametrize("", lists_paths_as_text)
def test_vzlist_shows_the_same_paths_as_text(case):
    world = World(case["given"])
    for line in case["expect"]["stdout"].splitlines():
        ctid, private, *root = line.split()
        ours = world.container(int(ctid))
        assert [ours["private"], ours["root"]][: 1 + len(root)] == [private, *root]


def lists_all_stopped(case):
    simple = re.fullmatch(r"vzlist -S( -[Htj1])*( -o ctid[a-z_,.]*)?( -[Htj1])*", case["run"])
    return simple and not case["expect"]["rc"] and not case["given"].get("running")


@parametrize("", lists_all_stopped)
def test_vzlist_finds_the_same_containers(case):
    world = World(case["given"])
    found = [
        ctid for ctid in conf.conf_names(world.names()) if world.exists(world.container(ctid)["private"])
    ]
    listed = re.findall(r'^ *(?:"ctid": )?([0-9]+)', case["expect"]["stdout"], re.MULTILINE)
    assert sorted({int(ctid) for ctid in listed} - {0}) == found


def tells_status(case):
    return re.match(r"CTID 101 (exist|deleted) ", case["expect"]["stdout"])


@parametrize("status", tells_status)
def test_status_says_exist_where_our_private_area_is(case):
    world = World(case["given"])
    has_conf = world.read(f"{CONF_DIR}/101.conf") is not None
    exists = has_conf and world.exists(world.container(101)["private"] or "")
    assert exists == (tells_status(case).group(1) == "exist")


@parametrize("config", lambda case: re.search(r"^Warning", case["expect"]["stderr"], re.MULTILINE))
def test_the_warnings_are_those_of_vzctl(case):
    world = World(case["given"])
    stated = re.findall(
        r"^Warning(?:: can't parse| at) (\S+?):(\d+)(.*)$", case["expect"]["stderr"], re.MULTILINE
    )
    for path in (VZ_CONF, f"{CONF_DIR}/101.conf"):
        ours = [
            (str(w["line"]), w["text"].removeprefix("can't parse "))
            for w in conf.parse(world.read(path))["warnings"]
        ]
        assert ours == [(line, text.lstrip(": ")) for file, line, text in stated if file == path]


# --- what the shell readers would get -------------------------------------------------------------


@parametrize("config", shows_private)
def test_h11_a_file_without_ambiguity_means_the_same_to_a_shell(case):
    data = World(case["given"]).read(f"{CONF_DIR}/101.conf")
    if not conf.ambiguities(data, ["VE_PRIVATE"]):
        by_vzctl = conf.parse(data)["values"].get("VE_PRIVATE")
        by_shell = conf.shell_values(data)["values"].get("VE_PRIVATE")
        assert by_shell == (by_vzctl and by_vzctl.replace("${VEID}", "$VEID"))


# --- vzctl set --save and our edit ----------------------------------------------------------------


def saves(case):
    """The settings that a successful `vzctl set 101 ... --save` of one container's file made."""
    words = shlex.split(case["run"].replace("=", " ") if "--private=" in case["run"] else case["run"])
    if case["expect"]["rc"] or "set" not in words[:3] or "--save" not in words:
        return None
    rest = [word for word in words[words.index("set") + 1 :] if word != "--save"]
    pairs = dict(zip(reversed(rest[1::2]), reversed(rest[2::2]), strict=False))  # the first of two counts
    if rest[0] != "101" or not pairs or not set(pairs) <= set(OPTIONS):
        return None
    # vzctl writes a number in its shortest form.
    return {
        OPTIONS[option]: str(int(value)) if option == "--bootorder" else value
        for option, value in pairs.items()
    }


def saved_file(case):
    """The container's file before and after the real vzctl saved it."""
    world = World(case["given"])
    path = world.resolve(f"{CONF_DIR}/101.conf")
    after = case["expect"].get("files", {}).get(path)
    before = world.read(path)
    return (before, as_bytes(after)) if before is not None and after and "absent" not in after else None


REFUSED = {
    "set-private-on-indented-then-plain": "line 1: VE_PRIVATE: the line is indented",
    "set-private-on-no-final-newline-last": "line 3: the last line has no newline",
    "set-private-on-no-final-newline-other": "line 3: the last line has no newline",
    "set-private-on-one-line-no-newline": "line 1: the only line has no newline",
    "set-private-on-inline-comment": "line 1: VE_PRIVATE: a comment follows",
    "set-private-on-blank-before-eq": "line 1: VE_PRIVATE: a blank stands before the =",
    "set-private-on-bom": "line 1: VE_PRIVATE: a byte order mark stands before the key",
    "set-private-on-continuation": "line 1: VE_PRIVATE: a backslash is on the line",
    "set-onboot-on-duplicates": "line 4: ONBOOT: ONBOOT is on more than one line",
    "set-onboot-on-indented": "line 2: ONBOOT: the line is indented",
    "set-onboot-on-crlf": "line 1: ONBOOT: the line ends in a carriage return",
    "set-onboot-on-no-final-newline-last": "line 3: the last line has no newline",
    "set-onboot-on-inline-comment": "line 2: ONBOOT: a comment follows",
    "set-onboot-on-blank-before-eq": "line 2: ONBOOT: a blank stands before the =",
    "set-description-newline": "DESCRIPTION cannot be set",
    "set-private-empty": "VE_PRIVATE cannot be set to '': the path is empty to vzctl",
    "set-private-slash": "VE_PRIVATE cannot be set to '/': the path is empty to vzctl",
    "set-private-quote": "VE_PRIVATE cannot be set",
    "set-private-600-veid": "the path can be too long for vzctl",
    "set2-description-newline": "DESCRIPTION cannot be set",
    "set2-private-veid-twice": "vzctl expands one $VEID only",
    "set2-bom": "line 1: ONBOOT: a byte order mark stands before the key",
    "set2-huge-line": "line 1: the line has 20002 bytes",
}
"""Where vzctl saves and we do not, because one of the file's readers would not get what was meant."""


@parametrize("set", lambda case: saves(case) and saved_file(case) and case["name"] not in REFUSED)
def test_our_edit_is_read_back_as_vzctl_saved_it(case):
    wanted = saves(case)
    before, after = saved_file(case)
    ours = conf.edit(before, wanted)
    for key, value in wanted.items():
        assert conf.parse(ours)["values"][key] == value
        assert conf.parse(ours)["values"][key] == conf.parse(after)["values"][key]
        assert conf.shell_values(ours)["values"][key] == value.replace("${VEID}", "$VEID")
    mine = tuple(f"{key}=".encode() for key in wanted)
    kept = [line for line in before.splitlines(keepends=True) if not line.startswith(mine)]
    assert [line for line in ours.splitlines(keepends=True) if not line.startswith(mine)] == kept
    assert conf.edit(after, wanted) == after


@pytest.mark.parametrize("name", REFUSED)
def test_our_edit_refuses_what_would_not_be_read_as_meant(name):
    (case,) = [case for case in cases("set") if case["name"] == name]
    before, _after = saved_file(case)
    with pytest.raises(ValueError, match=re.escape(REFUSED[name])):
        conf.edit(before, saves(case))


def test_enough_cases_apply():
    """If the cases or their wording changed, the tests above would pass without testing anything."""
    assert sum(1 for case in cases("config") if shows_private(case)) >= 110
    assert sum(1 for case in cases("") if lists_as_json(case)) >= 60
    assert sum(1 for case in cases("") if lists_all_stopped(case)) >= 60
    assert sum(1 for case in cases("status") if tells_status(case)) >= 20
    assert sum(1 for case in cases("set") if saves(case) and saved_file(case)) >= 50
