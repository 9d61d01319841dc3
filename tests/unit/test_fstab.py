"""ringfree_fstab: our block of /etc/fstab, and nothing else of it."""

import pytest
import ringfree_fstab as fstab
from hypothesis import given
from hypothesis import strategies as st

BLOCK = b"""# ringfree: mounts of the SAN, managed by Salt
10.0.0.1:/rf-images/pbx /vz/nfsprivate nfs hard 0 0
10.0.0.11:/x /y nfs hard 0 0
# ringfree: end
"""
FSTAB = b"10.0.0.1:/other /mnt nfs hard 0 0\n" + BLOCK + b"10.0.0.1:/last /mnt2 nfs hard 0 0"
#: Lines of somebody else.
OTHERS = st.lists(
    st.binary(max_size=30)
    .map(lambda data: data.replace(b"\n", b"").replace(b"\r", b"") + b"\n")
    .filter(lambda line: not line.startswith((fstab.BEGIN, fstab.END)))
)


@given(before=OTHERS, after=OTHERS, cut=st.booleans())
def test_the_block_goes_and_every_other_byte_stays(before, after, cut):
    rest = b"".join(after)
    rest = rest[:-1] if cut else rest
    assert fstab.without_block(b"".join(before) + BLOCK + rest) == b"".join(before) + rest
    assert fstab.without_block(b"".join(before) + rest) == b"".join(before) + rest


def test_what_follows_a_block_without_an_end_may_be_somebodys():
    with pytest.raises(ValueError, match="no end"):
        fstab.without_block(FSTAB.replace(fstab.END, b"# gone"))


def test_a_server_changes_in_our_block_only():
    done = fstab.with_server(FSTAB, "10.0.0.1", "10.0.0.2")
    assert done == FSTAB.replace(b"10.0.0.1:/rf", b"10.0.0.2:/rf")
    assert fstab.with_server(done, "10.0.0.2", "10.0.0.1") == FSTAB
    assert fstab.with_server(b"", "a", "b") == b""
