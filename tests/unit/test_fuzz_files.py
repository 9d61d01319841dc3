"""Whatever stands in confs, mountinfo and fstab: parsers raise what they say and nothing else."""

import contextlib
from pathlib import Path

import pytest
import ringfree_conf as conf
import ringfree_fstab as fstab
import ringfree_mounts as mounts
from hypothesis import given
from hypothesis import strategies as st
from mutated import mutated, read

NODE_CONF = Path(__file__).resolve().parents[2] / "lab/hosts/node/etc/vz/vz.conf"
CONFS = [
    (
        b'ONBOOT="yes"\nVE_ROOT="/vz/root/$VEID"\nVE_PRIVATE="/vz/private/$VEID"\nNAME="PBX"\n'
        b'IP_ADDRESS="10.78.1.1 ::1"\nLOG_LEVEL=3\nQUOTATIME="0"\nBOOTORDER="4"\n'
    ),
    b'VE_PRIVATE=/vz/private/$VEID\nDISABLED=no\nDESCRIPTION="a%0Ab"\n',
    b'export VE_ROOT="/x"\nif true; then\nVE_ROOT=1\nfi\n',
    b'A="b"',
    b"x",
    b"",
    NODE_CONF.read_bytes(),
]
MOUNTS = b"""25 1 0:22 / / rw - ext4 /dev/vda rw
26 25 0:23 /101 /vz/root/101 rw shared:1 - fuse.nfs 10.77.0.21:/rf-images/pbx rw
27 25 0:23 / /vz/nfsprivate rw - nfs 10.77.0.21:/rf-images/pbx rw,vers=3,proto=tcp,hard
28 25 0:24 / /vz/root/102 rw - simfs /vz/private/102 rw
"""
FSTAB = b"""UUID=1 / ext4 defaults 0 1
# ringfree: mounts of the SAN, managed by Salt
10.77.0.21:/a /b nfs x 0 0
# ringfree: end
last"""
PATHS = ["/vz/root/101", "/vz/nfsprivate", "/", "/vz/private/102/.."]
WANTED = {"VE_ROOT": "/vz/nfsroot/$VEID", "VE_PRIVATE": "/vz/nfsprivate/$VEID", "DISK_QUOTA": "no"}

confs = mutated(CONFS)


@given(confs, confs, st.sampled_from((1, 101, 2**31)))
def test_any_conf_is_read_or_refused(data, other, ctid):
    """Only one of a single byte is not read: vzctl itself never comes back from such a file."""
    with contextlib.suppress(ValueError) if len(data) == 1 else contextlib.nullcontext():
        conf.parse(data)
        conf.ambiguities(data)
    conf.shell_values(data)
    with contextlib.suppress(ValueError) if 1 in (len(data), len(other)) else contextlib.nullcontext():
        conf.effective(ctid, data, other)
    with contextlib.suppress(ValueError):
        conf.changes(data, {"VE_LAYOUT": "simfs"})
    conf.expand(read(data)[:600], ctid)


@given(confs)
def test_any_conf_is_edited_rightly_or_refused(data):
    try:
        edited = conf.edit(data, WANTED)
    except ValueError:
        return
    for known in (conf.parse(edited)["values"], conf.shell_values(edited)["values"]):
        assert {key: known.get(key) for key in WANTED} == WANTED
    with contextlib.suppress(ValueError):
        conf.remove(edited, list(WANTED))


@given(st.lists(mutated([b"101.conf", b"0.conf", b"vps.premount", b"101.conf.destroyed"]), max_size=3))
def test_any_name_of_a_file_is_of_a_container_or_not(names):
    assert all(0 <= ctid <= 2**31 for ctid in conf.conf_names([read(name)[:255] for name in names]))


@given(mutated([MOUNTS]), st.sampled_from(PATHS) | mutated([b"/vz/root/101"]).map(read))
def test_any_mountinfo_is_read_or_refused(data, path):
    try:
        table = mounts.parse(read(data))
    except ValueError:
        return
    mounts.covering(table, path)
    mounts.at(table, path)
    with contextlib.suppress(ValueError):
        mounts.real_path(table, path)
    mounts.users(table, path)
    where = mounts.place(table, path)
    if where:
        mounts.showing(table, path, where)
    mounts.container_root_is(table, "/vz/private/102", path)
    for mount in table:
        mounts.option_differences("vers=3,proto=tcp,hard,nolock,timeo=600", mount)


@given(mutated([b"vers=3,proto=tcp,hard,nolock,timeo=600"]))
def test_any_options_are_compared(wanted):
    (mount,) = mounts.parse("27 25 0:23 / /vz/nfsprivate rw - nfs 10.77.0.21:/rf-images/pbx rw,vers=3,hard\n")
    mounts.option_differences(read(wanted), mount)


@given(mutated([FSTAB, b""]))
def test_any_fstab_is_edited_or_refused(data):
    with contextlib.suppress(ValueError):
        fstab.without_block(data)
    fstab.with_server(data, "10.77.0.21", "10.77.0.22")


@pytest.mark.parametrize(
    "data", [b"9" * 5000, b"LOG_LEVEL=" + b"9" * 5000, b"IP_ADDRESS=1.2.3.4/" + b"9" * 5000]
)
def test_numbers_of_thousands_of_digits_are_no_traceback(data):
    for whole in (data, data + b"\n", b"VE_ROOT=/a\n" + data):
        assert conf.parse(whole)["values"].keys() <= {"VE_ROOT", "IP_ADDRESS"}
        conf.shell_values(whole)
    assert conf.conf_names(["9" * 200 + ".conf"]) is not None


def test_zeros_in_front_make_no_number_larger():
    """As C reads it."""
    lines = [b"BOOTORDER=%s7\n", b"LOG_LEVEL=%s3\n", b"IP_ADDRESS=10.0.0.1/%s8\n"]
    data = b"".join(line % (b"0" * 5000) for line in lines)
    values = conf.parse(data)["values"]
    assert values["IP_ADDRESS"] == "10.0.0.1/8"
    assert conf.effective(101, b"", data)["bootorder"] == 7
    assert values["LOG_LEVEL"].endswith("3")
