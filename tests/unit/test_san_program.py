"""san/ringfree-san: what a key may ask of a SAN, by each shell that this machine has; nothing is mounted here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import ringfree_replica as replica
import ringfree_sync as sync

PROGRAM = Path(__file__).resolve().parents[2] / "san/ringfree-san"
SHELLS = [words for words in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(words[0])]
WORDS = ["private=/rf-images/pbx", "root=/rf-images/pbxroot", "conf=/rf-images/vzconf"]
PUSH = "rsync --server -lHogDtpAXrxSe.iLsfxCIvu"
PULL = "rsync --server --sender -lHogDtpAXrxSe.iLsfxCIvu"
TURN = "0123456789abcdef"
REFUSED, BUSY, OLD_TURN = 77, 75, 76


class San:
    """The program with its places in a directory, and with an unshare that only notes what it is given."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        (folder / "bin").mkdir(parents=True)
        text = PROGRAM.read_text()
        for old, new in (
            ("PATH=/usr/local/sbin", f"PATH={folder}/bin:/usr/local/sbin"),
            ("PROGRAM=/usr/local/sbin", f"PROGRAM={folder}/sbin"),
            ("STATE=/var/lib", f"STATE={folder}/var"),
            ("RUN=/run", f"RUN={folder}/run"),
        ):
            assert text.count(f"\n{old}") == 1
            text = text.replace(f"\n{old}", f"\n{new}")
        self.program = folder / "ringfree-san"
        self.program.write_text(text)
        loader = folder / "ld-of-this-machine.so.2"
        loader.write_text("#!/bin/sh\n")
        loader.chmod(0o755)
        self.fake("ldd", f'echo "\t{loader} (0x00007f)"')
        self.fake("unshare", 'for word; do echo "$word"; done')
        self.fake("ssh", f'echo "$*" >>{folder}/ssh.calls; case $* in *check*) exit 1 ;; esac')
        for name in ("logger", "chroot", "mount"):
            self.fake(name, "exit 0")
        shutil.copy(shutil.which("true"), folder / "bin/rsync")

    def fake(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, *words, asked=None, shell=SHELLS[0], stdin=""):
        given = (
            {} if asked is None else {"SSH_ORIGINAL_COMMAND": asked, "SSH_CONNECTION": "10.77.0.101 1 2 3"}
        )
        return subprocess.run(
            [*shell, str(self.program), *map(str, words)],
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **given},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ask(self, asked, role="node", words=WORDS, shell=SHELLS[0]):
        """What becomes of a command: exit code, and what unshare would have started."""
        done = self.run(role, *words, asked=asked, shell=shell)
        return done.returncode, done.stdout.split("\n")[:-1], done.stderr

    def started(self, asked, role="node", words=WORDS, shell=SHELLS[0]):
        code, lines, said = self.ask(asked, role, words, shell)
        assert code == 0, said
        place = lines.index("confined")
        return lines[place + 2 :]


LEFT_OUT = ["--filter=-x_system.*", "--filter=+x_security.capability", "--filter=-x_security.*"]


def served(asked, more=()):
    """The words with which the SAN's own rsync is started: what the machine adds to files is no affair of a copy."""
    program, server, *words = asked.split()
    return [program, server, *LEFT_OUT, *more, *words]


@pytest.fixture
def san(tmp_path):
    return San(tmp_path)


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def shell(request):
    return request.param


# --- what the product sends -----------------------------------------------------------------------------------------

CONTAINER = ("/rf-images/pbx", "/rf-images/pbx/101")
RECORDS = ("/rf-images/pbx", "/rf-images/pbx/.ringfree")
CONFS = ("/rf-images/vzconf", "/rf-images/vzconf")
CHECK = PUSH.replace("-l", "-nl")
LIST = "rsync --server --sender -de.LsfxCIvu --list-only"
#: As rsync 3.2.7 sends them, and in the end as 3.0.6 does; with the export, the tree and whether it is written to.
SENT = [
    (f"{PUSH} --max-delete=9 --delete-delay --numeric-ids --info=STATS2 . /rf-images/pbx/101/", *CONTAINER, "rw"),
    (f"{PUSH} --timeout=600 --max-delete=-1 --delete-delay --numeric-ids . /rf-images/pbx/101/", *CONTAINER, "rw"),
    (f"{CHECK} --log-format=%i --timeout=600 --delete-delay --numeric-ids . /rf-images/pbx/101/", *CONTAINER, "ro"),
    (f"{CHECK.replace('rx', 'rcx')} --log-format=%i --timeout=9 --numeric-ids . /rf-images/pbx/101/", *CONTAINER, "ro"),
    (f"{PUSH.replace('rx', 'rcx')} --timeout=600 --numeric-ids --info=STATS2 . /rf-images/vzconf/", *CONFS, "rw"),
    (f"{PUSH} --timeout=600 --numeric-ids . /rf-images/pbx/.ringfree/", *RECORDS, "rw"),
    (f"{PUSH} --numeric-ids . /rf-images/vzconf/.ringfree/", CONFS[0], "/rf-images/vzconf/.ringfree", "rw"),
    (f"{PULL} --timeout=600 --numeric-ids . /rf-images/pbx/.ringfree/owner/", *RECORDS, "ro"),
    (f"{PULL} --timeout=600 --numeric-ids --info=STATS2 . /rf-images/vzconf/", *CONFS, "ro"),
    (f"{PULL} --timeout=600 --numeric-ids . /rf-images/vzconf/node001/", CONFS[0], "/rf-images/vzconf/node001", "ro"),
    (f"{PUSH} --numeric-ids . /rf-images/vzconf/a.b/.ringfree/", CONFS[0], "/rf-images/vzconf/a.b/.ringfree", "rw"),
    (f"{LIST} . /rf-images/pbx/101/", *CONTAINER, "ro"),
    (f"{LIST} . /rf-images/pbxroot/", "/rf-images/pbxroot", "/rf-images/pbxroot", "ro"),
    (f"{LIST.replace('-de.L', '-re.iL')} . /rf-images/pbx/", "/rf-images/pbx", "/rf-images/pbx", "ro"),
    ("rsync --server -lHogDtpAXrSxe.iLsf --delete-delay --numeric-ids . /rf-images/pbx/101", *CONTAINER, "rw"),
]  # fmt: skip


def test_what_the_product_sends_gets_its_one_tree(san, shell):
    for asked, *view in SENT:
        assert san.started(asked, shell=shell) == [*view, "", *served(asked)]


def test_where_the_other_side_keeps_what_it_replaces_is_not_told_to_rsync(san):
    """Some versions send it to a side that replaces nothing."""
    asked = f"{PULL} --timeout=9 --backup-dir /vz/private/.ringfree-replaced/101 --numeric-ids . /rf-images/pbx/101/"
    asked = asked.replace("-lHog", "-blHog")
    argv = san.started(asked)[4:]
    assert argv == served(asked.replace("--backup-dir /vz/private/.ringfree-replaced/101 ", ""))


def test_what_this_san_gives_each_file_can_be_named_in_the_words_of_a_key(san, shell):
    words = [*WORDS, "without=user.DOSATTRIB", "without=trusted.nas-id"]
    more = ["--filter=-x_user.DOSATTRIB", "--filter=-x_trusted.nas-id"]
    asked = f"{PUSH} --numeric-ids . /rf-images/pbx/101/"
    assert san.started(asked, words=words, shell=shell)[4:] == served(asked, more)


def test_an_rsync_that_cannot_leave_attributes_out_is_not_told_to(san, shell):
    """Before 3.1.3; it ends when it reads the word."""
    loader = san.folder / "ld-of-this-machine.so.2"
    loader.write_text('#!/bin/sh\ncase "$*" in *--filter=*) exit 1 ;; esac\n')
    asked = f"{PUSH} --numeric-ids . /rf-images/pbx/101/"
    assert san.started(asked, shell=shell)[4:] == asked.split()


def test_programs_are_gathered_anew_by_a_new_version_of_this_one(san):
    asked = f"{PUSH} --numeric-ids . /rf-images/pbx/101/"
    san.started(asked)
    (old,) = (san.folder / "var/ringfree-san").glob("programs.*")
    san.started(asked)
    assert list((san.folder / "var/ringfree-san").glob("programs.*")) == [old]
    newer = san.folder / "newer"
    shutil.copy(san.program, newer)
    newer.replace(san.program)
    san.started(asked)
    assert len(list((san.folder / "var/ringfree-san").glob("programs.*"))) == 2


def test_a_script_is_passed_over_for_the_program(san, shell):
    """A wrapper needs a shell and what it calls: neither is there where rsync runs."""
    first = san.folder / "first"
    first.mkdir()
    (first / "rsync").write_text('#!/bin/sh\nexec nice /usr/bin/rsync "$@"\n')
    (first / "rsync").chmod(0o755)
    san.program.write_text(san.program.read_text().replace("\nPATH=", f"\nPATH={first}:", 1))
    san.started(f"{PUSH} --numeric-ids . /rf-images/pbx/101/", shell=shell)
    (programs,) = (san.folder / "var/ringfree-san").glob("programs.*")
    assert (programs / "rsync").read_bytes() == (san.folder / "bin/rsync").read_bytes()


def test_where_there_is_only_a_script_that_is_said(san, shell):
    (san.folder / "bin/rsync").unlink()
    san.fake("rsync", "exec rsync.real")
    for name in ("head", "tr", "cut", "mkdir", "stat", "cmp", "timeout", "cp", "sed", "rm", "mv", "chmod"):
        (san.folder / "bin" / name).symlink_to(shutil.which(name))
    text = san.program.read_text()  # without the machine's own places, where there may be an rsync
    san.program.write_text(text.replace(f"PATH={san.folder}/bin:", f"PATH={san.folder}/bin #", 1))
    code, lines, said = san.ask(f"{PUSH} --numeric-ids . /rf-images/pbx/101/", shell=shell)
    assert (code, lines) == (125, [])
    assert (
        f"ringfree-san: rsync was not started, as it cannot be confined: {san.folder}/bin/rsync is a script"
        in said
    )
    assert "put the program itself into" in said


def test_a_login_can_be_tried(san, shell):
    assert san.ask("true", shell=shell)[0] == 0
    assert san.ask("true", role="san", shell=shell)[0] == 0


# --- what it refuses ------------------------------------------------------------------------------------------------

PLACES = [
    "", ".", "/", "/etc/", "/root/.ssh/", "/rf-images/", "rf-images/pbx/101/", "/rf-images/pbx/", "/rf-images/pbxroot/",
    "/rf-images/pbx/../pbxroot/101/", "/rf-images/pbx/101/../../../etc/", "/rf-images/pbx/..",
    "/rf-images/pbx/101/etc/",
    "/rf-images/pbx/101//", "//rf-images/pbx/101/", "/rf-images/pbx/./101/", "/rf-images/pbx/0101/",
    "/rf-images/pbx/101x/",
    "/rf-images/pbx/999999999999/", "/rf-images/pbx-other/101/", "/rf-images/pbx/.ringfree/owner/../../102/",
    "/rf-images/pbx/.ringfree-removed/", "'/rf-images/pbx/101/'", "/rf-images/pbx/10?/", "/rf-images/pbx/*/", "~/.ssh/",
    "/rf-images/pbx/101/\n/etc/", "/rf-images/pbx/101/\t/etc/", "/rf-images/pbx/101/\x1b[2J", "/rf-images/pbx/101/\xa0",
    "/rf-images/pbx/101/ /etc/", "/rf-images/pbx/101/ /rf-images/pbx/102/", "/rf-images/pbx/101/$HOME", "$(id)", "`id`",
    "/rf-images/pbx/101/;id", "/rf-images/pbx/101/ --delete-delay", "--numeric-ids", "-", "/rf-images/vzconf/101.conf",
    "/rf-images/vzconf/node001/x", "/rf-images/vzconf/.x", "/rf-images/vzconf/node001/.ringfree/x",
]  # fmt: skip
OPTIONS = [
    "--backup-dir /etc", "--backup-dir=/etc", "--temp-dir /etc", "--temp-dir=/etc", "-T /etc",
    "--partial-dir .ringfree-partial",
    "--partial-dir=/etc", "--link-dest /etc", "--copy-dest=/etc", "--compare-dest=/etc", "--log-file=/etc/passwd",
    "--files-from=/etc/shadow", "--files-from=- --from0", "--remove-source-files", "--copy-links", "--keep-dirlinks",
    "--copy-unsafe-links", "--insecure-links", "--write-devices", "--copy-devices", "--rsync-path=id", "-e id",
    "--rsh=id",
    "-M--daemon", "--daemon", "--config=/etc/passwd", "--password-file=/etc/shadow", "--foo--numeric-ids", "--inplace",
    "--backup-dir=/x--delete-delay", "--timeout=1x", "--timeout", "--info=stats/../x", "--log-format=%o",
    "--suffix=/../x",
    "--delete-excluded", "--force", "--delay-updates", "--iconv=utf8", "--chown=0:0", "--super", "--fake-super",
    "/etc/", ".",
]  # fmt: skip
COMMANDS = [
    "", " ", "sh", "bash -c id", "id", "true; id", "true && id", "true\nid", "true id", "$(id)", "`id`",
    "cat /etc/shadow",
    "scp -t /rf-images/pbx/101", "scp -f /etc/shadow", "/usr/lib/openssh/sftp-server", "internal-sftp", "rsync",
    "rsync --server",
    "rsync --daemon", "rsync --server --daemon .", "rsync -a /etc/ /rf-images/pbx/101/", PUSH, f"{PUSH} .",
    "/usr/bin/" + PUSH,
    "rsync --server --sender -s", "rsync --server -sre.iLsfxCIvu", "rsync --server -r . /rf-images/pbx/101/",
    "rsync --server -re.iLs/../x . /rf-images/pbx/101/", "rsync --server -re /bin/sh . /rf-images/pbx/101/",
    "rsync --sender --server -re.iLsfxCIvu . /rf-images/pbx/101/", "ringfree-san confined a b c ro",
    "ringfree-san serve",
    "ringfree-san", "ringfree-san install node /dev/null", "ringfree-san settle", f"ringfree-san settle 1 {TURN}",
    f"ringfree-san settle x {TURN} -", "ringfree-san settle 1 ../x -", f"ringfree-san settle 1 {TURN} ../../etc/passwd",
    f"ringfree-san settle 1 {TURN} /etc", f"ringfree-san settle 1 {TURN} -n", f"ringfree-san receive 1 {TURN} -",
    f"ringfree-san receive 1 {TURN} - id", "ringfree-san receive 1", f"ringfree-san receive 1 {TURN} - --server . /etc",
    f"ringfree-san send 9 root 10.77.0.22 22 1 {TURN} - /rf-images/pbx/101/ -aHAXSx",
]  # fmt: skip
ATTACKS = COMMANDS + [f"{rsync} . {place}" for rsync in (PUSH, PULL) for place in PLACES]
ATTACKS += [f"{LIST.replace(' --sender', '')} . /rf-images/pbx/", f"{PULL} /etc/ . /rf-images/pbx/101/"]
ATTACKS += [f"{rsync} {option} . /rf-images/pbx/101/" for rsync in (PUSH, PULL) for option in OPTIONS]
# Flags of one letter that follow links, name paths, or take their words from elsewhere; b is for reading alone.
ATTACKS += [f"rsync --server -{letter}re.iLsf . /rf-images/pbx/101/" for letter in "LKkRTsMOmzvubECqPyW"]
ATTACKS += [
    f"rsync --server --sender -{letter}re.iLsf . /rf-images/pbx/101/" for letter in "LKkRTsMOmzvuECqPyW"
]
ATTACKS.remove(f"{PULL} --backup-dir /etc . /rf-images/pbx/101/")  # see above


@pytest.mark.parametrize("role", ["node", "san"])
def test_everything_else_is_refused_in_plain_words(san, shell, role):
    """Nothing is started, and what is said can be shown on a terminal."""
    for asked in ATTACKS:
        code, lines, said = san.ask(asked, role=role, shell=shell)
        assert (code, lines) == (REFUSED, []), asked
        assert said.startswith("ringfree-san: refused: "), asked
        assert said.removesuffix("\n").isprintable(), asked
        assert len(said) < 400


def test_the_other_san_may_write_copies_and_nothing_else(san, shell):
    for asked, *_ in SENT:
        assert san.ask(asked, role="san", shell=shell)[0] == REFUSED
    assert san.ask(f"ringfree-san settle 1 {TURN} -", role="san", shell=shell)[0] == REFUSED


def test_a_key_is_limited_to_the_exports_in_its_words(san):
    words = ["private=/a/pbx", "conf=/a/vzconf/node001"]
    assert san.started(f"{PUSH} . /a/vzconf/node001/", words=words)[0] == "/a/vzconf/node001"
    for path in ("/a/vzconf/node002/", "/a/vzconf/", "/rf-images/pbx/101/", ""):
        assert san.ask(f"{PUSH} . {path}", words=words)[0] == REFUSED


@pytest.mark.parametrize(
    "words",
    [[], ["private=/a"], ["private=a", "conf=/b"], ["private=/a", "conf=/b", "x=/c"], ["private=/a/../b", "conf=/b"]],
)  # fmt: skip
def test_a_key_whose_words_are_wrong_may_do_nothing(san, words):
    code, lines, said = san.ask("true", words=words)
    assert (code, lines) == (REFUSED, [])
    assert "not understood" in said


def test_what_is_refused_is_in_the_log_of_the_san(san):
    san.fake("logger", f'echo "$*" >>{san.folder}/log')
    san.ask("cat /etc/shadow\x1b[2J")
    assert (san.folder / "log").read_text().strip().endswith("10.77.0.101 refused: 'cat /etc/shadow?[2J'")


# --- the copy of one SAN on the other -------------------------------------------------------------------------------


@pytest.fixture
def pair(san):
    """A SAN whose private export is real, and has the words of two copies."""
    folder = san.folder / "pbx/.ringfree"
    folder.mkdir(parents=True)
    (folder / "turn").write_text(f"{TURN}\n")
    (folder / "turn.node001").write_text("beef\n")
    san.words = [f"private={san.folder}/pbx", "conf=/rf-images/vzconf", "to=10.77.0.22"]
    return san


def test_only_the_copy_that_has_begun_last_is_received(pair, shell):
    tree = f"{pair.folder}/pbx/101"
    for role in ("node", "san"):
        asked = f"ringfree-san receive 0 {TURN} - {PUSH.removeprefix('rsync ')} . {tree}/"
        assert pair.started(asked, role, pair.words, shell)[1:5] == [tree, "rw", "", "rsync"]
    assert pair.ask("ringfree-san settle 0 beef node001", words=pair.words, shell=shell)[0] == 0
    for turn in (f"{TURN} node001", "beef -", f"{TURN[1:]} -", f"{TURN} node002"):
        code, lines, said = pair.ask(f"ringfree-san settle 0 {turn}", words=pair.words, shell=shell)
        assert (code, lines) == (OLD_TURN, [])
        assert "another copy has begun since" in said


def test_one_copy_at_a_time_is_received(pair):
    """The program that was started keeps the others away until it ends."""
    pair.fake("unshare", "echo begun; cat")
    asked = f"ringfree-san receive 0 {TURN} - {PUSH.removeprefix('rsync ')} . {pair.folder}/pbx/101/"
    first = subprocess.Popen(
        [*SHELLS[0], str(pair.program), "node", *pair.words],
        env={"SSH_ORIGINAL_COMMAND": asked, "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "begun\n"
    code, _, said = pair.ask(f"ringfree-san settle 0 {TURN} -", words=pair.words)
    assert code == BUSY and "another copy is written here" in said
    first.communicate()
    assert pair.ask(f"ringfree-san settle 0 {TURN} -", words=pair.words)[0] == 0


def test_a_san_that_receives_a_copy_gives_none(pair, shell):
    asked = f"ringfree-san receive 0 {TURN} - {PULL.removeprefix('rsync ')} . {pair.folder}/pbx/101/"
    for role in ("node", "san"):
        assert pair.ask(asked, role, pair.words, shell)[:2] == (REFUSED, [])


@pytest.mark.parametrize("what", ["a link", "a fifo", "a folder that is a link"])
def test_a_word_that_somebody_planted_over_nfs_is_none(pair, what):
    turn = pair.folder / "pbx/.ringfree/turn"
    if what == "a folder that is a link":
        turn.parent.rename(pair.folder / "elsewhere")
        (pair.folder / "pbx/.ringfree").symlink_to(pair.folder / "elsewhere")
    else:
        turn.unlink()
        turn.symlink_to("/nowhere") if what == "a link" else os.mkfifo(turn)
    assert pair.ask(f"ringfree-san settle 0 {TURN} -", words=pair.words)[0] == OLD_TURN


def test_a_san_copies_to_the_other_one_through_a_connection_that_is_open(pair, shell):
    head = f"ringfree-san send 43200 root 10.77.0.22 2222 55 beef node001 {pair.folder}/pbx/101/"
    options = "-aHAXSx --numeric-ids --timeout=60 --no-human-readable --exclude=.nfs????????????????????????"
    options += " --delete-delay --max-delete=10000 --info=stats2"
    tree = f"{pair.folder}/pbx/101"
    _, export, access, connection, *argv = pair.started(f"{head} {options}", words=pair.words, shell=shell)
    assert (export, access) == (tree, "ro")
    assert connection.startswith(f"{pair.folder}/run/ringfree-san/ssh-")
    assert argv[: len(options.split()) + 1] == ["rsync", *options.split()]
    assert argv[-3:] == [
        "--rsync-path=ringfree-san receive 55 beef node001",
        f"{tree}/",
        f"10.77.0.22:{tree}/",
    ]
    opened = (pair.folder / "ssh.calls").read_text().splitlines()[1]
    assert "-o BatchMode=yes -o StrictHostKeyChecking=yes" in opened
    assert "-l root -p 2222 -o ControlMaster=yes -o ControlPersist=60 -N -f 10.77.0.22" in opened


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_san_copies_each_piece_of_a_replication(pair, shell, dry_run):
    """With the very words that the node sends."""
    pair.words[1] = f"conf={pair.folder}/vzconf"
    for piece in replica.pieces([101, 102], ["node001", "a.b@c"]):
        share = "pbx" if piece["share"] == "private" else "vzconf"
        path = f"{pair.folder}/{share}/{piece['below']}".rstrip("/")
        options = sync.options(timeout=60, max_delete=7, delete=piece["delete"], dry_run=dry_run)
        words = [*replica.request("send", "beef", 55, "node001"), f"{path}/", *options, *piece["filters"]]
        words[2:2] = ["600", "root", "10.77.0.22", "22"]
        export, tree, access, _, *argv = pair.started(" ".join(words), words=pair.words, shell=shell)
        assert (export, tree, access) == (f"{pair.folder}/{share}", path, "ro")
        assert argv[1 : argv.index("-e")] == [*options, *piece["filters"]]
        assert argv[-2:] == [f"{path}/", f"10.77.0.22:{path}/"]


SEND = "ringfree-san send 9 root 10.77.0.22 22 55 beef - /rf-images/vzconf/"


@pytest.mark.parametrize(
    "asked",
    [
        SEND, f"{SEND} -a", f"{SEND} -e id", f"{SEND} --rsh=id", f"{SEND} --rsync-path=id", f"{SEND} /etc/",
        f"{SEND} --include-from=/etc/shadow", f"{SEND} --filter=._/etc/shadow", f"{SEND} --files-from=/etc/shadow",
        f"{SEND} --log-file=/etc/x", f"{SEND} --temp-dir=/etc", f"{SEND} --copy-links", f"{SEND} --timeout=x",
        SEND.replace("10.77.0.22", "10.77.0.23") + " -aHAXSx",
        SEND.replace("10.77.0.22", "-oProxyCommand=id") + " -aHAXSx",
        SEND.replace("root", "-oProxyCommand=id") + " -aHAXSx", SEND.replace(" 22 ", " -x ") + " -aHAXSx",
        SEND.replace("/rf-images/vzconf/", "/etc/") + " -aHAXSx", SEND.replace("beef", "$(id)") + " -aHAXSx",
        SEND.replace("beef", "g") + " -aHAXSx", SEND.replace(" 9 ", " 9x ") + " -aHAXSx",
    ],
)  # fmt: skip
def test_a_san_copies_nothing_else_and_nowhere_else(san, asked):
    code, lines, _ = san.ask(asked, words=[*WORDS, "to=10.77.0.22"])
    assert (code, lines) == (REFUSED, [])
    assert not (san.folder / "ssh.calls").exists()


def test_a_connection_that_cannot_be_opened_says_why(san):
    san.fake(
        "ssh", 'case "$*" in *check*) exit 255 ;; esac; echo "Host key verification failed." >&2; exit 255'
    )
    code, _, said = san.ask(f"{SEND} -aHAXSx", words=[*WORDS, "to=10.77.0.22"])
    assert (code, said) == (255, "Host key verification failed.\n")


# --- install --------------------------------------------------------------------------------------------------------

NODE1, NODE2 = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA node001",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB node002",
)


@pytest.fixture
def exports(san):
    if os.geteuid() != 0:
        pytest.skip("what is installed on a SAN is root's")
    for name in ("pbx", "pbxroot", "vzconf/node001", "vzconf/node002"):
        (san.folder / name).mkdir(parents=True)
    (san.folder / "keys").write_text(f"# of the nodes\n{NODE1}\n\n{NODE2}\n")
    san.words = [f"private={san.folder}/pbx", f"root={san.folder}/pbxroot", f"conf={san.folder}/vzconf"]
    return san


def test_one_command_lets_the_nodes_in_and_a_second_one_changes_nothing(exports, shell):
    file = exports.home / ".ssh/authorized_keys"
    file.parent.mkdir(parents=True)
    file.write_text(f"ssh-ed25519 AAAAother admin\n{NODE1}\n")  # one that could do everything until now
    words = ["install", "node", exports.folder / "keys", *exports.words]
    done = exports.run(*words, shell=shell)
    assert done.returncode == 0, done.stderr
    program = f"{exports.folder}/sbin/ringfree-san"
    line = f'restrict,command="{program} node {" ".join(exports.words)}" '
    assert file.read_text() == f"ssh-ed25519 AAAAother admin\n{line}{NODE1}\n{line}{NODE2}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert Path(program).read_text() == exports.program.read_text() and os.access(program, os.X_OK)
    assert [path.name for path in file.parent.iterdir()] == ["authorized_keys"]
    before = file.stat()
    again = exports.run(*words, shell=shell)
    assert again.returncode == 0 and "says so already" in again.stdout
    assert file.stat() == before


def test_each_node_can_have_a_conf_share_of_its_own(exports):
    words = [*exports.words[:2], f"conf={exports.folder}/vzconf/{{node}}"]
    done = exports.run("install", "node", "-", *words, stdin=f"{NODE1}\n{NODE2}\n")
    assert done.returncode == 0, done.stderr
    lines = (exports.home / ".ssh/authorized_keys").read_text().splitlines()
    for line, node in zip(lines, ("node001", "node002"), strict=True):
        assert f' conf={exports.folder}/vzconf/{node}" ' in line and line.endswith(node)


@pytest.mark.parametrize(
    ("keys", "words", "said"),
    [
        ("", {}, "there is no key"),
        ('command="id" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA node001', {}, "begins no public key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA", {}, "comment must be a plain name"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA my node", {}, "comment must be a plain name"),
        ('ssh-ed25519 AA"AAC3NzaC1lZDI1NTE5AAAAIA node001', {}, "is no public key"),
        (NODE1, {"private": "missing"}, "is no directory, or behind a link"),
        (NODE1, {"private": "link"}, "is no directory, or behind a link"),
        (NODE1, {"conf": ""}, "private=DIR and conf=DIR are needed"),
        (NODE1, {"other": "pbx"}, "private=DIR and conf=DIR are needed"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(exports, keys, words, said):
    (exports.folder / "link").symlink_to(exports.folder / "pbx")
    wanted = {"private": "pbx", "conf": "vzconf", **words}
    given = [f"{key}={exports.folder / name}" for key, name in wanted.items() if name]
    done = exports.run("install", "node", "-", *given, stdin=f"{keys}\n")
    assert done.returncode == 1
    assert said in done.stderr, done.stderr
    assert not (exports.home / ".ssh/authorized_keys").exists()


def test_it_says_how_it_is_used(san):
    done = san.run()
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ringfree-san install node KEYS")
