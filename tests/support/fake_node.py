"""
An OpenVZ node and its SAN in one directory: real files, and programs that only pretend.

The programs keep to what the real ones do with these files, note each call, and can be told to fail: a rule is a piece
of shell that runs first and may exit.  What is mounted stands in a mountinfo of the node's own.
"""

import copy
import functools
import os
import shlex
import shutil
import stat
import subprocess
import textwrap
from pathlib import Path

SERVER, SECOND = "10.77.0.21", "10.77.0.22"
#: What a dry run may leave: copies of what is on the SAN, the shared connection, and what the tests note themselves.
NOT_COMPARED = ("calls", "rules", "run", "var/owners-on-share", "var/confs-on-share", "var/replica")

#: A rule for vzctl.start: vzctl runs the fence before it mounts anything, and after it has looked at DISABLED.
FENCE = """
fence=$W/etc/vz/conf/vps.premount
if [ -e $fence ] && ! up && { [ "$(value DISABLED)" != yes ] || [ "$3" = --force ]; }; then
    sed "s#=/etc/#=$W/etc/#" $fence | VEID=$ctid VE_CONFFILE=$conf sh || exit 79
fi
"""

HEAD = """
W=@FOLDER@
echo "${0##*/} $*" >> $W/calls
rule() { rule=$W/rules/$1; shift; [ ! -e "$rule" ] || . "$rule"; }
locked() { flock $W/proc/lock "$@"; }
add_mount() { { flock 9; echo "$1" >> $W/proc/mountinfo; } 9>> $W/proc/lock; }
flat() { path=$1; while [ "$path" != "${path#*/}" ]; do path=${path%%/*}_${path#*/}; done; echo "$path"; }
"""

PROGRAMS = {
    "vzctl": """
        verb=$1 ctid=$2
        conf=$W/etc/vz/conf/$ctid.conf
        value() {
            for file in $conf $W/etc/vz/vz.conf; do
                [ ! -e $file ] || while IFS= read -r line || [ "$line" ]; do
                    case $line in "$1=\\""*\\") line=${line#*=?} line=${line%?} ;; *) continue ;; esac
                    case $line in *"\\$VEID"*) line=${line%%"\\$VEID"*}$ctid${line#*"\\$VEID"} ;; esac
                    # A link to where vz is, if a test makes one: the kernel knows the other path.
                    case $line in $W/pbx/*) line=$W/vz/${line#$W/pbx/} ;; esac
                    printf "%s\\n" "$line"
                    return
                done < $file
            done
        }
        mounted() {
            root=$(value VE_ROOT)
            while IFS= read -r line; do
                case $line in *" $root "*) return 0 ;; esac
            done < $W/proc/mountinfo
            return 1
        }
        up() { [ -e $W/proc/running/$ctid ]; }
        boot() {
            private=$(value VE_PRIVATE) root=$(value VE_ROOT)
            case $private in
                $W/vz/nfsprivate/*)
                    from=$(sed -n "s#.* $W/vz/nfsprivate rw - fuse.nfs \\([^ ]*\\) .*#\\1#p" $W/proc/mountinfo)
                    what="51 0:50 /$ctid $root rw - fuse.nfs ${from:-@SERVER@:/rf-images/pbx} rw" ;;
                *) what="1 8:1 $private $root rw - ext4 /dev/sda1 rw" ;;
            esac
            mounted || add_mount "$ctid $what"
            : >> $W/proc/running/$ctid
            appear
        }
        # As the kernel shows a container that has just been started, with all that $W/has/$ctid says it has then.
        appear() {
            init=$((20000 + ctid)) born=0
            proc=$W/proc/$init
            [ ! -e $W/proc/units/born.$ctid ] || read -r born < $W/proc/units/born.$ctid
            born=$((born + 1))
            echo $born > $W/proc/units/born.$ctid
            mkdir -p $proc/net
            echo $init > $W/proc/vepid/$ctid
            echo "$ctid ${what%% "$root" rw -*} / rw -${what#* "$root" rw -}" > $proc/mountinfo
            process $init init 1
            for name in mountinfo tcp udp route fib_trie if_inet6 ipv6_route; do
                file=net/$name
                [ $name != mountinfo ] || file=mountinfo
                [ ! -e $W/has/$ctid/$name ] || while IFS= read -r line; do
                    echo "$line" >> $proc/$file
                done < $W/has/$ctid/$name
            done
            [ ! -e $W/has/$ctid/processes ] || while IFS= read -r name; do
                process $((init * 10 + (number += 1))) "$name" $init
            done < $W/has/$ctid/processes
        }
        process() {
            mkdir -p $W/proc/$1
            echo "$1 ($2) S $3 $1 $1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 $born 0" > $W/proc/$1/stat
            echo "State:	S (sleeping)" > $W/proc/$1/status
        }
        halt() {
            rm -rf $W/proc/running/$ctid $W/proc/$((20000 + ctid)) $W/proc/$((20000 + ctid))[0-9]
            locked sed -i "\\\\# $(value VE_ROOT) #d" $W/proc/mountinfo
        }
        rule vzctl.$verb "$@"
        rule vzctl.$verb.$ctid "$@"
        [ $verb = status ] || [ -e $conf ] || { echo "Container config file does not exist" >&2; exit 14; }
        case $verb in
            status)
                exist=deleted mount=unmounted run=down
                [ ! -d "$(value VE_PRIVATE)" ] || exist=exist
                ! mounted || mount=mounted
                ! up || run=running
                echo "CTID $ctid $exist $mount $run" ;;
            start)
                if up; then echo "Container is already running"; exit 32; fi
                [ -d "$(value VE_PRIVATE)" ] || { echo "Container private area does not exist" >&2; exit 43; }
                if [ "$(value DISABLED)" = yes ] && [ "$3" != --force ]; then
                    echo "Container start disabled" >&2; exit 105
                fi
                boot ;;
            stop)
                up || { echo "Unable to stop: container is not running"; exit 0; }
                halt ;;
            exec2)
                up || { echo "Container is not running" >&2; exit 31; }
                VEID=$ctid exec sh -c "$3" ;;
        esac
        """,
    # What lives of a container goes with its first process; what is mounted on its root stays.
    "kill": """
        rule kill "$@"
        shift
        for pid; do
            ctid=$((pid - 20000))
            [ -e $W/proc/running/$ctid ] || continue
            rm -rf $W/proc/running/$ctid $W/proc/$pid $W/proc/$pid[0-9]
        done
        """,
    "vzlist": """
        rule vzlist "$@"
        for path in $W/proc/running/*; do [ ! -e $path ] || echo "      ${path##*/}"; done
        """,
    "ssh": 'rule ssh "$@"\nexit 0',
    "mount": """
        rule mount "$@"
        while [ $# -gt 2 ]; do shift; done
        case $1 in @SECOND@:*) san=$W/san2/${1#*:} ;; *) san=$W/san/${1#*:} ;; esac
        at=$2
        [ -d $san/ ] || { echo "mount.nfs: access denied by server while mounting $1" >&2; exit 32; }
        mv $at $at.hidden && mv $san $at && ln -s $at $san
        case $1 in */pbx) id=50 ;; */pbxroot) id=51 ;; *) id=52 ;; esac
        add_mount "$id 1 0:$id / $at rw - fuse.nfs $1 rw"
        """,
    "umount": """
        [ "$1 $2" != "-i --no-canonicalize" ] || shift 2
        rule umount "$@"
        lazy=
        while [ $# -gt 1 ]; do [ "$1" != -l ] || lazy=1; shift; done
        at=$1
        for san in $W/san/rf-images/* $W/san/rf-images/vzconf/* $W/san2/rf-images/*; do
            [ "$(readlink $san)" = "$at" ] || continue
            rm $san && mv $at $san && mv $at.hidden $at
        done
        locked sed -i "\\\\# $at #d" $W/proc/mountinfo
        [ ! "$lazy" ] || locked sed -i "\\\\# $at/#d" $W/proc/mountinfo
        """,
    "mount.nfs": "exit 1",
    "rsync": """
        rule rsync "$@"
        for word; do
            case $word in
                --delete-delay) delete=1 ;; --dry-run) dry=1 ;; --list-only) list=1 ;; -r) deep=1 ;;
                --include=/*) some="$some ${word#--include=/}" ;;
                "--filter=H .*") hide=1 ;;
            esac
            source=$target target=$word
        done
        here() {
            case $1 in @SECOND@:/*) echo "$W/san2${1#*:}" ;; *:/*) echo "$W/san${1#*:}" ;; *) echo "$1" ;; esac
        }
        missing() { echo "rsync: [sender] change_dir \\"$1\\" failed: No such file or directory (2)" >&2; exit 23; }
        if [ $list ]; then
            [ -d "$(here $target)" ] || missing "${target#*:}"
            if [ $deep ]; then
                cd "$(here $target)" && ls -d [0-9]*/*
            else
                ls -A "$(here $target)"
            fi | sed "s/^/-rw-r--r--        1 2026\\/02\\/26 02:10:00 /"
            exit 0
        fi
        source=$(here $source) target=$(here $target)
        [ -d $source ] || missing $source
        name=${source%/} name=${name##*/}
        rule rsync.$name "$@"
        if [ "$some" ]; then
            # Only what the filters name: trees of containers, files, and on the conf share what is of no container.
            [ $dry ] || mkdir $target 2>/dev/null
            set -f
            case "$target" in */vzconf/) set +f; some="$some $(cd $source && ls -d [!1-9.]* 2>/dev/null)" ;; esac
            set +f
            for name in $some; do
                case $name in
                    */) [ $dry ] || mkdir -p $target/$name ;;
                    *"/***")
                        name=${name%/???}
                        # Of two that are no files diff says that they are what they are.
                        if [ $dry ]; then diff -rq --no-dereference $source/$name $target/$name |
                            sed "/ is a .* while file /d; s/^/>f.st /"
                        else rm -rf $target/$name; cp -a $source/$name $target/; fi ;;
                    *) for file in $(cd $source && ls -d $name 2>/dev/null); do
                        if [ $dry ]; then cmp -s $source/$file $target/$file || echo ">f.st $file"
                        else cp -a $source/$file $target/$file; fi
                    done ;;
                esac
            done
            rule rsync.after "$@"
            exit 0
        fi
        if [ $dry ]; then
            diff -rq --no-dereference $source $target | while read -r line; do
                case $line in
                    # Every file of a directory that is here only.
                    "Only in ${target%/}"*)
                        gone=${line#Only in }; gone=${gone%%: *}/${line#*: }
                        find "$gone" | sed "s|^${target%/}/*|*deleting   |" ;;
                    *) echo ">f.st...... $line" ;;
                esac
            done
            exit 0
        fi
        mkdir $target 2>/dev/null
        [ -d $target ] || { echo "rsync: mkdir failed" >&2; exit 11; }
        gone=0
        if [ $delete ]; then
            for name in $(cd $target && find . -mindepth 1 -maxdepth 2); do
                [ -e $source/$name ] || [ -L $source/$name ] || { rm -rf $target/$name; gone=$((gone + 1)); }
            done
        fi
        cp -a $source/. $target/
        [ ! $hide ] || find $target -mindepth 1 -name ".*" -prune -exec rm -r {} +
        name=${source%/} name=${name##*/}
        rule rsync.$name.after "$@"
        echo "Number of deleted files: $gone"
        echo "Number of regular files transferred: 2"
        echo "Total file size: 1,234 bytes"
        echo "Literal data: 1,000 bytes"
        """,
    "stat": 'rule stat "$@"\nexec /usr/bin/stat "$@"',
    "asterisk": "echo Asterisk 13.38.3",
    "salt-call": 'rule salt-call "$@"',
    "systemctl": """
        rule systemctl.$1 "$@"
        rule systemctl "$@"
        verb=$1; shift
        units=$W/etc/systemd/system
        case "$verb $2" in
            "daemon-reload ")
                rm -f $W/proc/units/vz
                [ ! -e $units/vz.service.d ] || cat $units/vz.service.d/* >$W/proc/units/vz ;;
            "show RequiresMountsFor") grep -s RequiresMountsFor $W/proc/units/vz || echo RequiresMountsFor= ;;
            "show ActiveEnterTimestampMonotonic")
                echo "$2=$(cat $W/proc/units/vz-entered 2>/dev/null || echo 100)" ;;
        esac
        for unit; do
            case $verb in
                enable) [ -e $units/$unit ] && touch $W/proc/units/enabled.$unit || exit 1 ;;
                disable) rm -f $W/proc/units/enabled.$unit ;;
                start) [ -e $units/$unit ] || [ -e $W/run/systemd/system/$unit ] || exit 5
                    touch $W/proc/units/active.$unit
                    rule started.$unit ;;
                stop) rm -f $W/proc/units/active.$unit ;;
                is-enabled) [ -e $W/proc/units/enabled.$unit ] || { echo disabled; exit 1; } ;;
                is-active) [ -e $W/proc/units/active.$unit ] || { echo inactive; exit 3; } ;;
                is-failed) [ -e $W/proc/units/failed.$unit ] || exit 1 ;;
            esac
        done
        """,
    "chattr": 'rule chattr "$@"\n[ "$1" = +i ] && touch "$W/proc/immutable/$(flat "$2")"',
    "lsattr": """
        rule lsattr "$@"
        i=-; [ ! -e "$W/proc/immutable/$(flat "$2")" ] || i=i
        echo "----$i---------e------- $2"
        """,
    "chkconfig": """
        rule chkconfig "$@"
        case $1 in
            --add) [ -x $W/etc/init.d/$2 ] && touch $W/proc/units/chkconfig.$2 ;;
            --del) rm -f $W/proc/units/chkconfig.$2 ;;
            *) [ -e $W/proc/units/chkconfig.$1 ] ;;
        esac
        """,
    "update-rc.d": """
        rule update-rc.d "$@"
        case $* in
            *" defaults") [ -x $W/etc/init.d/$1 ] && mkdir -p $W/etc/rc2.d && ln -sf ../init.d/$1 $W/etc/rc2.d/S19$1 ;;
            "-f "*" remove") rm -f $W/etc/rc2.d/S??$2 ;;
            *) exit 1 ;;
        esac
        """,
    # Never those of the machine that runs the tests.
    **{name: f'rule {name} "$@"' for name in ("yum", "dnf", "apt-get", "systemd-run", "at", "atrm")},
}


@functools.cache
def _programs(folder):
    """The programs of a node in a directory."""
    told = {"@FOLDER@": shlex.quote(str(folder)), "@SERVER@": SERVER, "@SECOND@": SECOND}
    whole = {name: f"{HEAD}\n{textwrap.dedent(text)}" for name, text in PROGRAMS.items()}
    return {
        name: functools.reduce(lambda text, word: text.replace(word, told[word]), told, text)
        for name, text in whole.items()
    }


#: Where the directory is that vzctl reads as /etc/vz/conf.
LAYOUTS = {"redhat": "etc/sysconfig/vz-scripts", "debian": "etc/vz/conf", "elsewhere": "srv/openvz/confs"}


class FakeNode:
    """The node's files, what runs on it, what is on the SAN, what was called."""

    def __init__(self, folder, fake_bin, layout="redhat"):
        self.folder, self.conf_dir = folder, folder / LAYOUTS[layout]
        self.archive = Path(f"{self.conf_dir}.tar.gz")
        self.services, self.told, self.pillar = {"vz": True}, [], {}
        self.systemd = True
        for name in (
            "etc/vz/names", LAYOUTS[layout], "etc/ringfree/ssh", "var", "proc/running", "rules",
            "etc/systemd/system", "etc/cron.d", "etc/init.d", "proc/units", "proc/immutable", "proc/vepid",
            "vz/private", "vz/root", "vz/dump", "vz/nfsprivate", "vz/nfsroot",
            "san/rf-images/pbx", "san/rf-images/pbxroot", "san/rf-images/vzconf",
            "san2/rf-images/pbx", "san2/rf-images/pbxroot", "san2/rf-images/vzconf",
        ):  # fmt: skip
            (folder / name).mkdir(parents=True)
        closed = (
            "var",
            *(f"{san}/rf-images/{name}" for san in ("san", "san2") for name in ("pbx", "pbxroot")),
        )
        for name in (*closed, "vz/nfsprivate", "vz/nfsroot"):
            (folder / name).chmod(0o700)
        if not (folder / "etc/vz/conf").exists():
            (folder / "etc/vz/conf").symlink_to(self.conf_dir)
        for name in ("id_ed25519", "known_hosts"):
            (folder / "etc/ringfree/ssh" / name).touch()
        (folder / "calls").touch()
        (folder / "proc/lock").touch()
        (folder / "proc/uptime").write_text("5000.00 1.00\n")
        (folder / "proc/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.vz_conf = folder / "etc/vz/vz.conf"
        self.vz_conf.write_text(
            f'# the node\nVIRTUOZZO="yes"\nLOCKDIR="{folder}/vz/lock"\nDUMPDIR="{folder}/vz/dump"\n'
            f'DISK_QUOTA="yes"\nVE_ROOT="{folder}/vz/root/$VEID"\nVE_PRIVATE="{folder}/vz/private/$VEID"\n'
        )
        for name, text in _programs(folder).items():
            self.bin = fake_bin(name, text).parent

    def add(self, ctid, name, running=True, conf=""):
        """A container on local disk, as vzctl makes it."""
        private = self.folder / "vz/private" / str(ctid)
        (private / "etc").mkdir(parents=True)
        (private / "bin").mkdir()
        (private / "etc/hostname").write_text(f"{name}\n")
        root = self.folder / "vz/root" / str(ctid)
        root.mkdir()
        self.conf(ctid).write_text(f'# {name}\nONBOOT="yes"\nNAME="{name}"\nHOSTNAME="ct{ctid}"\n{conf}')
        if running:
            (self.folder / "proc/running" / str(ctid)).touch()
            self.mount(f"{ctid} 1 8:1 {private} {root} rw - ext4 /dev/sda1 rw")
            self.appear(ctid)

    def has(self, ctid, **files):
        """
        What the kernel shows of a container from its next start on.

        Lines of /proc/PID/mountinfo, of /proc/PID/net/tcp and the like, and as ``processes`` their names.
        """
        folder = self.folder / "has" / str(ctid)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)

    def appear(self, ctid):
        """The kernel shows a container that runs from local disk, as it does when vzctl has started it."""
        init, there = 20000 + ctid, self.folder / "has" / str(ctid)
        files = {path.name: path.read_text() for path in there.iterdir()} if there.exists() else {}
        processes = {init: ("init", 1)}
        for number, name in enumerate(files.pop("processes", "").splitlines(), 1):
            processes[init * 10 + number] = (name, init)
        for pid, (name, parent) in processes.items():
            folder = self.folder / "proc" / str(pid)
            folder.mkdir(exist_ok=True)
            line = f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0\n"
            (folder / "stat").write_text(line)
        proc = self.folder / "proc" / str(init)
        (proc / "net").mkdir(exist_ok=True)
        root = f"{ctid} 1 8:1 {self.private(ctid)} / rw - ext4 /dev/sda1 rw\n"
        (proc / "mountinfo").write_text(root + files.pop("mountinfo", ""))
        for name, text in files.items():
            (proc / "net" / name).write_text(text)
        (self.folder / "proc/vepid" / str(ctid)).write_text(f"{init}\n")

    def mount_point(self, share):
        """Where a share is mounted."""
        return self.pillar["shares"][share].get("mount") or str(self.conf_dir)

    def conf(self, ctid):
        """The conf file of a container."""
        return self.folder / "etc/vz/conf" / f"{ctid}.conf"

    def private(self, ctid):
        """The private area of a container on local disk."""
        return self.folder / "vz/private" / str(ctid)

    def san(self, *parts):
        """A path on the SAN below its exports."""
        return self.folder.joinpath("san/rf-images", *map(str, parts))

    def second(self, *parts):
        """A path on the second SAN below its exports."""
        return self.folder.joinpath("san2/rf-images", *map(str, parts))

    def own(self, ctid, node="node001", store="nfs", copied=0):
        """An owner record on the SAN."""
        folder = self.san("pbx/.ringfree/owner")
        folder.mkdir(parents=True, exist_ok=True)
        text = f"node={node}\nstore={store}\nsince=2026-02-26T02:10:00Z\ngeneration=3\ncopied={copied}\n"
        (folder / str(ctid)).write_text(text)

    def destroy(self, ctid):
        """What `vzctl destroy` leaves of a container that was down on the share."""
        shutil.rmtree(self.san("pbx", ctid), ignore_errors=True)
        if self.conf(ctid).exists():
            self.conf(ctid).rename(f"{self.conf(ctid)}.destroyed")
        else:
            Path(f"{self.conf(ctid)}.destroyed").touch()

    def owner(self, ctid):
        """The owner record of a container on the SAN."""
        text = self.san("pbx/.ringfree/owner", ctid).read_text()
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def listed(self):
        """The lines of the node's own list of what lives on the share, without their check sums."""
        path = self.folder / "etc/ringfree/on-nfs"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if not line.startswith("# ")]

    def mount(self, line):
        """Put a line into the node's mountinfo."""
        with (self.folder / "proc/mountinfo").open("a") as stream:
            stream.write(line + "\n")

    def rule(self, program, shell):
        """
        What a program does first: `vzctl.VERB`, `vzctl.VERB.CTID`, `rsync`, `rsync.CTID`, or any other's name.

        Rules of vzctl find `boot` and `halt`, which change a container without any question.
        """
        (self.folder / "rules" / program).write_text(shell + "\n")

    def calls(self, start=""):
        """The calls so far whose command line begins with some text."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(start)]

    def running(self):
        """The containers that run."""
        return sorted(int(path.name) for path in (self.folder / "proc/running").iterdir())

    def fingerprint(self):
        """What decides how a migration of this node goes: files without times, rules, services, pillar, init system."""
        files = {path: entry[:3] + entry[-1:] for path, entry in self.tree().items()}
        rules = {path.name: path.read_text() for path in (self.folder / "rules").iterdir()}
        return repr((files, rules, self.services, self.pillar, self.systemd))

    def keep(self):
        """A copy of the node as it is, for :py:func:`restore` on another node in the same place."""
        kept = self.folder.parent / f"kept-{len(list(self.folder.parent.glob('kept-*')))}"
        _copy(self.folder, kept)
        return kept, dict(self.services), copy.deepcopy(self.told)

    def restore(self, kept):
        """Make the node what another one was."""
        folder, self.services, self.told = copy.deepcopy(kept)
        shutil.rmtree(self.folder)
        _copy(folder, self.folder)

    def tree(self):
        """Everything that a dry run must leave alone: names, modes, owners, times and contents."""
        return dict(_entries(self.folder))


def _entries(folder, below=""):
    """What is in a directory and below it."""
    for entry in sorted(os.scandir(f"{folder}/{below}"), key=lambda entry: entry.name):
        path = f"{below}{entry.name}"
        if path in NOT_COMPARED:
            continue
        info = entry.stat(follow_symlinks=False)
        seen = (oct(info.st_mode), info.st_uid, info.st_gid)
        if entry.is_symlink():
            yield path, (*seen, os.readlink(entry.path))
        elif stat.S_ISREG(info.st_mode):
            changed = None if path.startswith("proc/") else info.st_mtime_ns
            with open(entry.path, "rb") as stream:
                yield path, (*seen, changed, stream.read())
        else:
            yield path, seen
            if entry.is_dir():
                yield from _entries(folder, f"{path}/")


def _copy(source, target):
    """What is copied most often, with all that belongs to it, faster than in Python."""
    subprocess.run(["cp", "-a", source, target], check=True)
