"""ringfree_sync: rsync's command line, exit codes and output."""

import itertools
import re

import pytest
import ringfree_command as command
import ringfree_pillar as pillar
import ringfree_sync as sync

SSH = pillar.validate({"nodes": ["a"], "nfs": {"primary": "a", "secondary": "b"}})["settings"]["ssh"]

# Printed by rsync 3.2.7 with the options below.
STATISTICS = """
Number of files: 14 (reg: 7, dir: 3, link: 2, dev: 2)
Number of created files: 6 (reg: 3, dir: 1, link: 1, dev: 1)
Number of deleted files: 2 (reg: 1, special: 1)
Number of regular files transferred: 3
Total file size: 15010 bytes
Total transferred file size: 5003 bytes
Literal data: 5002 bytes
Matched data: 1 bytes
File list size: 0
Total bytes sent: 5513
Total bytes received: 117

sent 5513 bytes  received 117 bytes  11260.00 bytes/sec
total size is 15010  speedup is 2.67
"""
ITEMS = r"""
.d..t...... ./
.f........x .nfskeep
>fc.t...... a
hf..t...... a2
hf+++++++++ a3 => a
>f+++++++++ b
cD+++++++++ dev2
cS+++++++++ fifo2
cLc.t...... ln -> b
.d..t...... etc/
.f...p..... etc/passwd
cd+++++++++ newdir/
*deleting   odd\#377\#012name
*deleting   fifo
""".strip().splitlines()


def argv(**settings):
    return sync.rsync("/vz/private/101/", "san1:/rf-images/pbx/101/", sync.ssh(SSH), **settings)


def result(rc, err="", timed_out=False):
    return {"argv": ["rsync"], "rc": rc, "out": "", "err": err, "seconds": 5.0, "timed_out": timed_out}


# --- command lines --------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [*"aHAXSx", "--numeric-ids", "--delete-delay", "--timeout=600"])
def test_h01_nothing_of_a_container_is_left_out(option):
    words = argv()
    letters = next(word for word in words if re.fullmatch(r"-[A-Za-z]+", word))
    assert option in words or option in letters


def test_h01_what_loses_data_is_not_used():
    """-S and --inplace corrupt files together; errors of the sender must switch deletion off."""
    assert not {"--inplace", "--ignore-errors", "-z", "-W", "--whole-file"} & set(argv())


def test_the_trees_come_last_and_as_they_were_given():
    assert argv()[0] == "rsync"
    assert argv()[-2:] == ["/vz/private/101/", "san1:/rf-images/pbx/101/"]


def test_h03_deletions_can_be_limited_or_left_out():
    assert "--max-delete=0" in argv(max_delete=0)
    assert not [word for word in argv() if word.startswith("--max-delete")]
    assert not [word for word in argv(delete=False) if word.startswith("--delete")]


def test_a_dry_run_itemises_and_changes_nothing():
    words = argv(dry_run=True, checksum=True)
    assert {"--dry-run", "--itemize-changes", "--checksum"} <= set(words)
    assert not {"--dry-run", "--checksum"} & set(argv())


def test_the_exclusion_is_that_of_a_file_deleted_while_open():
    (pattern,) = [word.removeprefix("--exclude=") for word in argv() if word.startswith("--exclude")]
    assert pattern == ".nfs" + "?" * len("0000000000000a2b00000001")


def test_hidden_names_belong_to_the_copy_unless_they_are_left_out():
    assert "--filter=H .*" in argv(hidden=False)
    assert not [word for word in argv() if word.startswith(("--filter=H", "--filter=-"))]


GONE = 'rsync: [sender] readlink_stat("/tree/race/l400_26") failed: Invalid argument (22)'
MOVED = (
    "rsync: [sender] get_acl: sys_acl_get_file(race/l399_0, ACL_TYPE_ACCESS): No such file or directory (2)"
)
OLD = 'rsync: opendir "/tree/x" failed: Not a directory (20)'
VANISHED = 'file has vanished: "/tree/race/l401_7/id_ed25519"'
END = "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1347)"


@pytest.mark.parametrize(
    "lines", [[GONE], [MOVED], [OLD], [VANISHED, GONE, "IO error encountered -- skipping file deletion"]]
)
def test_h32_a_tree_that_changes_under_a_first_pass_holds_nobody(lines):
    """Its root can swap names all night; the copy that counts is made when it is down, and lets none of this pass."""
    found = result(23, "\n".join([*lines, END]))
    assert sync.verdict(found, running=True)["do"] == "next"
    assert sync.verdict(found, running=False)["do"] == "stop"


def test_thousands_of_complaints_that_the_tree_changes_are_no_other_failure():
    script = "".join(f"{GONE}\n" for _ in range(1000)) + END
    said = command.run(["sh", "-c", "cat >&2"], stdin=script, limit=2000)["err"]
    assert "left out" in said
    assert sync.verdict(result(23, said), running=True)["do"] == "next"


@pytest.mark.parametrize(
    "line",
    [
        "",
        'rsync: [receiver] mkstemp "/tree/.a.XXX" failed: No such file or directory (2)',
        'rsync: [generator] recv_generator: mkdir "/a" failed: No space left on device (28)',
        "rsync: [receiver] rsync_xal_set: lsetxattr(a,security.x) failed: Operation not supported (95)",
        'rsync: [sender] send_files failed to open "/tree/a (2)": Input/output error (5)',
        "something else (2)",
    ],
)
def test_any_other_failure_of_a_first_pass_stops_it(line):
    assert (
        sync.verdict(result(23, "\n".join([GONE, line, END] if line else [END])), running=True)["do"]
        == "stop"
    )


@pytest.mark.parametrize(
    "options", [{}, {"dry_run": True}, {"backup": "/vz/private/.ringfree-replaced/x/101"}]
)
def test_h31_no_name_inside_a_container_is_one_that_rsync_uses(options):
    """Partial and temporary files, backups: what rsync looks up must not be a relative name in the tree."""
    words = argv(**options)
    assert not [word for word in words if word.startswith(("--partial", "--temp-dir", "-T"))]
    assert not [word for word in words if word.startswith("--backup-dir") and "=/" not in word]


def test_h29_ssh_asks_nothing_and_believes_only_pinned_keys():
    words = sync.ssh(SSH)
    options = dict(word.split("=", 1) for flag, word in itertools.pairwise(words) if flag == "-o")
    assert options["BatchMode"] == "yes"
    assert options["StrictHostKeyChecking"] == "yes"
    assert options["UserKnownHostsFile"] == SSH["known_hosts"]
    assert options["GlobalKnownHostsFile"] == "/dev/null"
    assert int(options["ConnectTimeout"]) <= 30
    assert words[words.index("-F") + 1] == "/dev/null"
    assert words[words.index("-i") + 1] == SSH["key"]
    assert words[words.index("-c") + 1] == SSH["cipher"]


def test_connections_can_be_shared_and_the_cipher_left_to_ssh():
    words = sync.ssh(dict(SSH, cipher=""), control="/run/x/%C")
    assert "ControlPath=/run/x/%C" in words
    assert "-c" not in words


def test_h28_rsync_splits_the_ssh_command_where_we_joined_it():
    words = argv()
    assert words[words.index("-e") + 1].split(" ") == sync.ssh(SSH)


# --- output ---------------------------------------------------------------------------------------


def test_statistics_are_read():
    assert sync.statistics(STATISTICS) == {"files": 3, "bytes": 5002, "deleted": 2, "size": 15010}
    assert sync.statistics("Literal data: 1,234,567 bytes\n")["bytes"] == 1234567
    assert sync.statistics("") == {"files": 0, "bytes": 0, "deleted": 0, "size": 0}


def listed(lines, **options):
    """What comes of a dry run that prints some lines."""
    script = "".join(f"{line}\n" for line in lines)
    return sync.differences(command.run(["cat"], stdin=script, count=sync.counting(), **options))


def test_every_difference_counts_and_nothing_else():
    noise = ["", "sending incremental file list", "sent 5 bytes  received 1 bytes", "skipping mount point x"]
    noise += ["cannot delete non-empty directory: x", "created directory /x", "rsync: warning"]
    assert listed([*noise, *ITEMS, *noise]) == {"count": len(ITEMS), "lines": ITEMS}
    assert listed(noise) == {"count": 0, "lines": []}


def test_of_a_long_list_all_is_counted_and_what_is_not_kept_is_said():
    many = [f">f+++++++++ var/spool/{number}" for number in range(2000)]
    found = listed(many, limit=1000)
    assert found["count"] == 2000
    (gap,) = [line for line in found["lines"] if line.startswith("[")]
    first, last = found["lines"][: found["lines"].index(gap)], found["lines"][found["lines"].index(gap) + 1 :]
    assert (many[: len(first)], many[-len(last) :]) == (first, last)
    assert len(first) > 10 < len(last)
    # Also where no line that is kept names a difference.
    noise = ["skipping mount point x"] * 100
    found = listed([*noise, ">f+++++++++ a", *noise], limit=1000)
    assert found["count"] == 1 == len(found["lines"])


def test_the_statistics_of_an_endless_output_are_read():
    noise = "skipping mount point x\n" * 1000
    assert sync.statistics(command.run(["cat"], stdin=noise + STATISTICS, limit=2000)["out"])["files"] == 3
    assert sync.statistics(f"Literal data: {'9' * 5000} bytes\nTotal file size: , bytes")["size"] == 0


# --- verdict --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rc", "running", "do"),
    [
        (0, True, "next"),
        (0, False, "next"),
        (24, True, "next"),
        (24, False, "stop"),
        (23, True, "stop"),
        (23, False, "stop"),
        *[(rc, False, "again") for rc in (10, 12, 30, 35)],
        *[(rc, True, "stop") for rc in (1, 2, 3, 4, 5, 11, 14, 20, 25, 126, 127, -9, 99)],
    ],
)
def test_exit_codes_say_what_to_do(rc, running, do):
    verdict = sync.verdict(result(rc), running)
    assert verdict["do"] == do
    assert bool(verdict["why"]) == (do != "next")


@pytest.mark.parametrize("rc", [12, 255])
@pytest.mark.parametrize(
    ("err", "do", "why"),
    [
        ("Host key verification failed.", "stop", "host key"),
        ("@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@", "stop", "host key"),
        ("root@san1: Permission denied (publickey).", "stop", "refuses the node's ssh key"),
        ("ssh: Could not resolve hostname san9: Name or service not known", "stop", "does not resolve"),
        ("ssh: connect to host san1 port 22: Connection refused", "again", None),
        ("Connection reset by peer", "again", None),
        ('rsync: mkstemp "/x" failed: Permission denied (13)', "again", None),
        ("", "again", None),
        (
            "ringfree-san: refused: '/etc' is none of the directories that this key may use",
            "stop",
            "to this key",
        ),
        ("ringfree-san: rsync was not started, as it cannot be confined: mount failed", "stop", "confined"),
    ],
)
def test_h29_a_wrong_host_key_is_not_tried_again(rc, err, do, why):
    """rsync ends with 12 or 255 when its ssh ends, whichever it sees first."""
    verdict = sync.verdict(result(rc, err), False)
    assert verdict["do"] == do
    assert (why or sync.MEANING[rc]) in verdict["why"]


def test_h13_a_copy_that_hangs_is_stopped():
    verdict = sync.verdict(result(None, timed_out=True), True)
    assert verdict == {"do": "stop", "why": "it did not end within 5 s"}
