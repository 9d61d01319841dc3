"""H31: root of a node, or its stolen key, does not become root of a SAN: everything it could try over ssh."""

import base64
import contextlib
import inspect
import shlex

import labelled
import pytest

SAN = "10.77.0.21"
REFUSED = 77
PROGRAM = "/usr/local/sbin/ringfree-san"
#: What an attack would have to change on the SAN, or to show of it.
SECRETS = "/root /etc/shadow /etc/cron.d /rf-images/pbx/.ringfree"


@pytest.fixture(scope="module")
def node(lab):
    """node001, with something to send and, on the SAN, the tree of a container and what must not be reached."""
    lab.sh(
        "node001",
        "mkdir -p /root/evil /root/got; echo evil >/root/evil/authorized_keys; echo evil >/root/evil/file",
    )
    lab.sh("san1", "mkdir -p /rf-images/pbx/.ringfree/owner; echo whose >/rf-images/pbx/.ringfree/owner/102")
    push(lab, "/root/evil/", "/rf-images/pbx/101/")
    yield lab
    lab.sh("san1", "rm -rf /rf-images/pbx/1* /rf-images/pbx/.ringfree /rf-images/pbxlink /root/.hidden")


def ssh(lab, *words, options=(), check=False):
    return lab.exec("node001", *lab.ssh, *options, f"root@{SAN}", *words, check=check)


def rsync(lab, *words, check=False):
    argv = ["rsync", "-aHAXSx", "--numeric-ids", "--timeout=60", "-e", " ".join(lab.ssh), *words]
    return lab.exec("node001", *argv, check=check)


def push(lab, source, path, *options):
    return rsync(lab, *options, source, f"root@{SAN}:{path}", check=True)


@contextlib.contextmanager
def untouched(lab):
    """Nothing of the SAN but its containers' trees is another one afterwards."""
    seen = f"find {SECRETS} -xdev -type f -exec sha256sum {{}} + | sort"
    before = lab.sh("san1", seen)
    yield
    assert lab.sh("san1", seen) == before


def test_there_is_no_shell_and_no_other_program(node):
    with untouched(node):
        for words in (
            [],
            ["id"],
            ["cat /etc/shadow"],
            ["true; id"],
            ["sh", "-c", "id"],
            ["rsync --daemon --config=/dev/stdin"],
        ):
            done = ssh(node, *words)
            assert (done.returncode, done.stdout) == (REFUSED, ""), done.stderr
            assert "ringfree-san: refused: " in done.stderr
        assert ssh(node, options=["-tt"]).returncode != 0
        copy = f"scp -O -i {node.ssh[2]} -o {node.ssh[4]} -o BatchMode=yes"
        for argv in (
            f"{copy} root@{SAN}:/etc/shadow /root/got/",
            f"{copy} /root/evil/authorized_keys root@{SAN}:/root/.ssh/",
            f"{copy.replace(' -O', '')} root@{SAN}:/etc/shadow /root/got/",
            f"{copy.replace('scp -O', 'sftp')} root@{SAN}:/etc/shadow /root/got/",
        ):
            assert node.exec("node001", *argv.split(), check=False).returncode != 0
        assert node.sh("node001", "ls /root/got") == ""
    assert "refused: 'cat /etc/shadow'" in node.sh("san1", "journalctl -q -t ringfree-san")


def test_nothing_is_forwarded(node):
    done = ssh(node, options=["-W", "127.0.0.1:22"])
    assert done.returncode != 0 and "SSH-" not in done.stdout
    done = ssh(node, options=["-N", "-R", "7777:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes"])
    assert "remote port forwarding failed" in done.stderr
    done = ssh(node, options=["-N", "-R", "/root/.hidden:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes"])
    assert "remote port forwarding failed" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        f"/root/evil/ root@{SAN}:/root/.ssh/", f"/root/evil/ root@{SAN}:/etc/cron.d/", f"root@{SAN}:/etc/ /root/got/",
        f"root@{SAN}:/rf-images/pbx/ /root/got/", f"--rsync-path=id root@{SAN}:/rf-images/pbx/101/ /root/got/",
        f"--rsync-path='id;rsync' root@{SAN}:/rf-images/pbx/101/ /root/got/",
        f"root@{SAN}:/rf-images/pbx/101/../ /root/got/",
        f"--copy-links root@{SAN}:/rf-images/pbx/101/ /root/got/", f"-s root@{SAN}:/etc/ /root/got/",
        f"--partial-dir=/root/.ssh /root/evil/ root@{SAN}:/rf-images/pbx/101/",
        f"--temp-dir=/root /root/evil/ root@{SAN}:/rf-images/pbx/101/",
        f"--backup --backup-dir=/root/.ssh /root/evil/ root@{SAN}:/rf-images/pbx/101/",
        f"--link-dest=/etc /root/evil/ root@{SAN}:/rf-images/pbx/101/",
        f"root@{SAN}:'/rf-images/pbx/101/\n/etc/' /root/got/",
        f"--files-from=:/etc/shadow root@{SAN}:/ /root/got/",
        f"-M--log-file=/etc/cron.d/x /root/evil/ root@{SAN}:/rf-images/pbx/101/",
    ],
)  # fmt: skip
def test_rsync_reaches_nothing_but_trees(node, words):
    with untouched(node):
        done = rsync(node, *shlex.split(words))
        assert done.returncode != 0
        assert "ringfree-san: refused: " in done.stderr
        assert node.sh("node001", "ls /root/got") == ""


def test_h31_a_link_that_somebody_made_on_the_share_leads_nowhere(node):
    """In the place of a tree, of the records, and of a directory in a tree."""
    node.sh(
        "san1",
        "cd /rf-images/pbx; ln -s /root/.ssh 199; ln -s ../../root 198; ln -s 101 197; ln -s /etc 101/leads-out",
    )
    with untouched(node):
        for ctid in (199, 198, 197):
            done = rsync(node, "/root/evil/", f"root@{SAN}:/rf-images/pbx/{ctid}/")
            assert done.returncode != 0 and "is a link, or no directory" in done.stderr
            done = rsync(node, f"root@{SAN}:/rf-images/pbx/{ctid}/", "/root/got/")
            assert done.returncode != 0 and "is a link, or no directory" in done.stderr
        node.sh("node001", "mkdir -p /root/deep/leads-out; echo evil >/root/deep/leads-out/ringfree-was-here")
        push(node, "/root/deep/", "/rf-images/pbx/101/")
        node.sh("san1", "cd /rf-images/pbx; mv .ringfree kept; ln -s /root/.ssh .ringfree")
        done = rsync(node, "/root/evil/", f"root@{SAN}:/rf-images/pbx/.ringfree/")
        node.sh("san1", "cd /rf-images/pbx; rm .ringfree; mv kept .ringfree")
        assert done.returncode != 0 and "is a link, or no directory" in done.stderr
    assert node.sh("node001", "ls /root/got") == ""
    node.sh("san1", "rm -r /rf-images/pbx/19[789] /rf-images/pbx/101/leads-out; ! ls /etc/ringfree-was-here")


SWAP = """
cd /rf-images/pbx
while [ ! -e /run/enough ]; do
    mkdir 196 2>/dev/null; mv 196 196.kept; ln -s /root/bait 196; rm 196; mv 196.kept 196 2>/dev/null
done
"""


def test_h32_a_tree_that_is_swapped_with_a_link_all_the_time_leads_nowhere(node):
    before = node.sh("san1", "mkdir /root/bait; echo secret >/root/bait/file; sha256sum /root/bait/file")
    swapping = node.start("exec", "san1", "--", "sh", "-c", SWAP)
    try:
        for _ in range(8):
            rsync(node, "/root/evil/", f"root@{SAN}:/rf-images/pbx/196/")
            rsync(node, f"root@{SAN}:/rf-images/pbx/196/", "/root/got/")
    finally:
        node.sh("san1", "touch /run/enough")
        swapping.wait(60)
    assert node.sh("san1", "sha256sum /root/bait/file; ls /root/bait") == f"{before}file\n"
    assert "secret" not in node.sh("node001", "cat /root/got/* 2>/dev/null; rm -rf /root/got/*")


def confined(lab, access, *argv):
    """Run one of the programs on the SAN as a node's is run."""
    view = f"/rf-images/pbx /rf-images/pbx/101 {access}".split()
    programs = lab.sh("san1", "ls -d /var/lib/ringfree-san/programs.*").split()[-1]
    return lab.exec(
        "san1", "unshare", "--mount", PROGRAM, "confined", programs, *view, "", *argv, check=False
    )


def test_h31_rsync_sees_itself_and_one_tree(node):
    """Not the SAN's files, not the other trees, no device but as a name, and nothing that it may write elsewhere."""
    node.sh("san1", "cd /rf-images/pbx/101; mknod null c 1 3; mkdir -p ../102/etc")
    seen = confined(node, "ro", "rsync", "-r", "--list-only", "/").stdout
    seen = [line.split(None, 4)[4] for line in seen.splitlines()]
    assert {name for name in seen if not name.startswith("bin/")} == {
        ".", "bin", "rf-images", "rf-images/pbx", "rf-images/pbx/101", "rf-images/pbx/101/null",
        "rf-images/pbx/101/authorized_keys", "rf-images/pbx/101/file",
    }  # fmt: skip
    done = confined(
        node, "rw", "rsync", "--copy-devices", "/rf-images/pbx/101/null", "/rf-images/pbx/101/read"
    )
    assert "Permission denied" in done.stderr, done
    for target in ("/", "/bin/", "/rf-images/pbx/"):
        done = confined(node, "rw", "rsync", "/rf-images/pbx/101/file", target)
        assert "Read-only file system" in done.stderr, done
    done = confined(node, "ro", "rsync", "/rf-images/pbx/101/file", "/rf-images/pbx/101/another")
    assert "Read-only file system" in done.stderr, done
    node.sh("san1", "rm -r /rf-images/pbx/101/null /rf-images/pbx/102")


def test_rsync_says_what_it_always_said(node):
    """In the cases that the product tells apart by rsync's words and exit codes."""
    done = rsync(node, "--list-only", f"root@{SAN}:/rf-images/pbx/777/")
    assert done.returncode == 23
    assert 'change_dir "/rf-images/pbx/777" failed: No such file or directory (2)' in done.stderr
    done = rsync(node, "--dry-run", "--itemize-changes", "/root/evil/", f"root@{SAN}:/rf-images/pbx/777/")
    assert done.returncode == 0 and "<f+++++++++ file" in done.stdout
    assert node.exec("san1", "ls", "/rf-images/pbx/777", check=False).returncode != 0
    push(node, "/root/evil/", "/rf-images/pbx/103/")
    node.sh("san1", "cd /rf-images/pbx/103; touch 1 2 3")
    done = rsync(node, "--delete-delay", "--max-delete=1", "/root/evil/", f"root@{SAN}:/rf-images/pbx/103/")
    assert done.returncode == 25
    done = rsync(node, "--delete-delay", "--max-delete=0", "/root/evil/", f"root@{SAN}:/rf-images/pbx/103/")
    assert done.returncode == 25


def test_the_program_needs_no_better_shell_than_that_of_busybox(node):
    node.sh("san1", f"sed -i '1s|.*|#!/bin/busybox sh|' {PROGRAM}")
    try:
        push(node, "/root/evil/", "/rf-images/pbx/104/")
        assert node.sh("san1", "cat /rf-images/pbx/104/file") == "evil\n"
        assert ssh(node, "id").returncode == REFUSED
        assert rsync(node, f"root@{SAN}:/etc/", "/root/got/").returncode != 0
    finally:
        node.sh("san1", f"sed -i '1s|.*|#!/bin/sh|' {PROGRAM}")


def test_programs_are_gathered_anew_when_one_of_them_has_changed(node):
    """An update of the SAN is in use from the next copy on; what the one before needs stays."""
    node.sh("san1", "cp -p /usr/bin/rsync /run/r; mv /run/r /usr/bin/rsync")
    before = node.sh("san1", "ls /var/lib/ringfree-san").split()
    push(node, "/root/evil/", "/rf-images/pbx/101/")
    after = node.sh("san1", "ls /var/lib/ringfree-san").split()
    assert after[-1] not in before and set(after[:-1]) <= set(before) and len(after) <= 2


def test_h31_a_copy_from_san_to_san_sees_one_tree_as_well(node):
    """A link in the place of a tree is refused where it is read and where it is written."""
    turn = "0123456789abcdef"
    node.sh("san2", f"mkdir -p /rf-images/pbx/.ringfree; echo {turn} >/rf-images/pbx/.ringfree/turn")
    node.sh("san2", "rm -f /root/evil; ln -s /root /rf-images/pbx/105")
    node.sh(
        "san1",
        "cd /rf-images/pbx; mkdir -p 101 105; ln -s /root 195; ln -s /root/.ssh 101/out; echo new >101/copied",
    )

    def send(ctid, word=turn):
        path = f"/rf-images/pbx/{ctid}/"
        return ssh(
            node,
            f"ringfree-san send 60 root 10.77.0.22 22 0 {word} - {path} -aHAXSx --delete-delay --info=stats2",
        )

    done = send(101)
    assert done.returncode == 0 and "Number of regular files transferred" in done.stdout, done.stderr
    assert node.sh("san2", "cd /rf-images/pbx/101; cat copied; readlink out") == "new\n/root/.ssh\n"
    for ctid in (195, 105):
        done = send(ctid)
        assert done.returncode != 0 and "is a link, or no directory" in done.stderr, done.stderr
    done = send(101, "beef")
    assert done.returncode != 0 and "another copy has begun since" in done.stderr
    node.sh("san2", "rm -r /rf-images/pbx/1* /rf-images/pbx/.ringfree; ls -d /root/.ssh/authorized_keys")
    node.sh("san1", "rm -r /rf-images/pbx/195 /rf-images/pbx/105 /rf-images/pbx/101/out")


def test_the_other_san_may_only_write_copies(node):
    for words in ("id", "cat /etc/shadow", "rsync --server --sender -re.iLsfxCIvu . /rf-images/pbx/101/"):
        done = node.exec("san2", "ssh", "-o", "BatchMode=yes", SAN, words, check=False)
        assert done.returncode == REFUSED, done.stderr
    node.exec("san2", "ssh", "-o", "BatchMode=yes", SAN, "true")


# --- a SAN that adds attributes of its own ----------------------------------------------------------------------------

#: Run on the SAN: its rsync becomes one that loads the library.
RELABEL = """
import base64, os, sys
exec(sys.argv[1])
with open(f"{FOLDER}/{LIBRARY}", "wb") as stream:
    stream.write(base64.b64decode(sys.argv[2]))
with open("/usr/bin/rsync.plain", "rb") as stream:
    program = loading_it(stream.read())
with open("/usr/bin/rsync", "wb") as stream:
    stream.write(program)
"""


@pytest.fixture
def labels(node, tmp_path):
    """labels("security.selinux"): from now on each file of the SAN has this attribute, and nobody takes it away."""
    node.sh("san1", "cp -p /usr/bin/rsync /usr/bin/rsync.plain")
    node.salt("node001", "saltutil.sync_all")
    code = inspect.getsource(labelled.loading_it)
    names = ("LIBRARY", "FOLDER", "DYNAMIC", "LOAD", "NEEDED", "STRINGS", "DEBUG")
    code = "\n".join(["import struct", *(f"{name} = {getattr(labelled, name)!r}" for name in names), code])

    def start(label):
        library = base64.b64encode(labelled.library(tmp_path, label)).decode()
        node.exec("san1", "python3", "-c", RELABEL, code, library, check=True)

    yield start
    node.sh("san1", f"mv /usr/bin/rsync.plain /usr/bin/rsync; rm -f {labelled.FOLDER}/{labelled.LIBRARY}")
    node.sh("san1", "rm -rf /rf-images/pbx/110; sed -i 's/ without=[^ \"]*//g' /root/.ssh/authorized_keys")


def tried(node):
    return node.salt("node001", "ringfree_san.try_copy", "/rf-images/pbx")["node001"]


def test_labels_that_the_san_gives_files_are_in_no_copy_and_in_no_comparison(node, labels):
    """What a SAN with SELinux does; before, nothing could be copied to it at all."""
    labels("security.selinux")
    push(node, "/root/evil/", "/rf-images/pbx/110/")
    assert tried(node) == {}
    kept = "import os; os.setxattr('/root/evil/file', 'trusted.kept', b'1')"
    node.exec("node001", "python3", "-c", kept, check=True)
    push(node, "/root/evil/", "/rf-images/pbx/110/", "--delete-delay")
    options = ("--dry-run", "--itemize-changes", "--delete-delay")
    assert rsync(node, *options, "/root/evil/", f"root@{SAN}:/rf-images/pbx/110/", check=True).stdout == ""
    node.sh("node001", "rm -rf /root/back; mkdir /root/back")
    rsync(node, "--delete-delay", f"root@{SAN}:/rf-images/pbx/110/", "/root/back/", check=True)
    seen = "import os; print(os.listxattr('/root/back/file'))"
    assert node.exec("node001", "python3", "-c", seen).stdout == "['trusted.kept']\n"


def test_an_attribute_that_a_san_insists_on_is_found_and_can_be_left_out(node, labels):
    labels("user.DOSATTRIB")
    assert '"user.DOSATTRIB") failed: Permission denied' in tried(node)["plain"]
    assert node.sh("san1", "ls /rf-images/pbx/.ringfree").split() == ["owner"]
    node.sh(
        "san1", "sed -i 's/ringfree-san node [^\"]*/& without=user.DOSATTRIB/' /root/.ssh/authorized_keys"
    )
    node.sh("node001", "rm -f /run/ringfree/ssh-*")  # a connection has the words with which it was made
    assert tried(node) == {}
    push(node, "/root/evil/", "/rf-images/pbx/110/")


def test_an_rsync_that_is_a_script_is_refused_in_plain_words(node, labels):
    node.sh("san1", "printf '#!/bin/sh\\nexec rsync.plain \"$@\"\\n' >/usr/bin/rsync")
    done = rsync(node, "--list-only", f"root@{SAN}:/rf-images/pbx/101/")
    assert done.returncode != 0
    assert "/bin/rsync is a script. What a script calls is not there where rsync runs" in done.stderr
