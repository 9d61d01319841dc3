"""The template: a small container root whose programs behave like a telephone server's, with odd files in it."""

import os
import stat

from .inside import run_inside

DAEMONS = {"asterisk": 50, "httpd": 60, "postfix": 70, "recorder": 80}
NOT_FROM_BUSYBOX = {"init", "httpd", "linuxrc", "rpm", "dpkg", "dpkg-deb"}
LONG_AGO = 86_400 * 365 * 10 * 10**9 + 123_456_789

INIT_SCRIPT = """#!/bin/sh
# chkconfig: 345 {order} 20
# {name} of the container.
running()
{{
    {running}
}}

case "$1" in
start)
    if running; then exit 0; fi
    exec {program} ;;
stop)
    running || exit 0
    pid=$(cat {pidfile})
    kill "$pid" 2>/dev/null
    n=0
    while kill -0 "$pid" 2>/dev/null; do
        n=$((n + 1)); [ "$n" -gt 100 ] && exit 1
        usleep 20000
    done
    rm -f {pidfile} ;;
restart)
    "$0" stop && exec "$0" start ;;
status)
    if running; then
        echo "{name} (pid $(cat {pidfile})) is running..."
    else
        echo "{name} is stopped"; exit 3
    fi ;;
*)
    echo "Usage: $0 {{start|stop|restart|status}}"; exit 2 ;;
esac
"""
#: The init script that comes with Asterisk asks it; a pid file that an end by force has left says nothing.
BY_SOCKET = "{program} -rx 'core show version' >/dev/null 2>&1"
BY_PID_FILE = '[ -f {pidfile} ] && kill -0 "$(cat {pidfile})" 2>/dev/null'

RC = """#!/bin/sh
# What init runs: every service of runlevel 3, in order.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
rm -f /var/run/*.pid /var/run/asterisk/asterisk.ctl
[ -e /proc/self ] || mount -t proc proc /proc
hostname -F /etc/hostname 2>/dev/null
ip link set lo up 2>/dev/null
for service in /etc/rc3.d/S*; do
    "$service" start </dev/null >>/var/log/boot.log 2>&1
done
exit 0
"""

YUM = """#!/bin/sh
# yum as a container without pending updates sees it. With /etc/yum.broken it fails as with a dead mirror.
echo "$(date '+%b %d %H:%M:%S') yum $*" >>/var/log/yum.calls
for word in "$@"; do
    case "$word" in -*) ;; *) break ;; esac
done
if [ -e /etc/yum.broken ]; then
    echo "Error: Cannot retrieve repository metadata (repomd.xml) for repository: base." \\
        "Please verify its path and try again" >&2
    exit 1
fi
echo "Loaded plugins: fastestmirror"
case "$word" in
makecache) echo "Metadata Cache Created" ;;
update | upgrade) echo "Setting up Update Process"; echo "No Packages marked for Update" ;;
check-update) ;;
*) echo "You need to give some command" >&2; exit 1 ;;
esac
"""

PROGRAMS = {
    "asterisk": "usr/sbin/asterisk",
    "httpd": "usr/sbin/httpd",
    "postfix": "usr/libexec/postfix/master",
    "recorder": "usr/sbin/recorder",
}
PIDFILES = {
    "asterisk": "/var/run/asterisk/asterisk.pid",
    "httpd": "/var/run/httpd.pid",
    "postfix": "/var/run/postfix-master.pid",
    "recorder": "/var/run/recorder.pid",
}
FOLDERS = """bin sbin usr/bin usr/sbin usr/libexec/postfix usr/share/doc lib root home etc/rc.d/init.d etc/rc3.d
etc/asterisk etc/sysconfig/network-scripts proc sys dev tmp mnt opt var/run/asterisk var/log/asterisk var/log/httpd
var/lock/subsys var/spool/asterisk/voicemail var/spool/records var/spool/postfix var/www/html var/lib/odd var/tmp"""
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1:bin:/bin:/sbin/nologin\n"
    "apache:x:48:48::/var/www:/sbin/nologin\nasterisk:x:501:501::/var/lib/asterisk:/sbin/nologin\npostfix:x:89:89::/var/spool/postfix:/sbin/nologin\n",
    "etc/group": "root:x:0:\nbin:x:1:\napache:x:48:\nasterisk:x:501:\npostfix:x:89:\n",
    "etc/shadow": "root:!!:15000:0:99999:7:::\n",
    "etc/redhat-release": "CentOS release 6.10 (Final)\n",
    "etc/fstab": "none /dev/pts devpts rw,gid=5,mode=620 0 0\n",
    "etc/inittab": "id:3:initdefault:\nsi::sysinit:/etc/rc.d/rc\n",
    "etc/asterisk/sip.conf": "[general]\ncontext=default\nbindport=5060\n",
    "var/www/html/index.html": "<html><body><h1>It works!</h1></body></html>\n",
    "var/log/boot.log": "",
}


def build(target, places, log):
    """Make the tree in TARGET."""
    for folder in FOLDERS.split():
        (target / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "var/tmp"):
        (target / folder).chmod(0o1777)
    _busybox(target, places["image"])
    _services(target, places["programs"] / "guest")
    for name, text in FILES.items():
        (target / name).write_text(text, encoding="utf-8")
    (target / "etc/shadow").chmod(0)
    _script(target / "usr/bin/yum", YUM)
    _device(target / "dev/null", stat.S_IFCHR | 0o666, 1, 3)
    _device(target / "dev/console", stat.S_IFCHR | 0o600, 5, 1)
    ordinary_files(target)
    odd_files(os.fsencode(target / "var/lib/odd"))
    log.write("template made\n")


def _script(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def _device(path, mode, major, minor):
    os.mknod(path, mode, os.makedev(major, minor))
    os.chmod(path, stat.S_IMODE(mode))


def _busybox(target, image):
    (target / "bin/busybox").write_bytes((image / "bin/busybox").read_bytes())
    (target / "bin/busybox").chmod(0o755)
    listed = run_inside([image], ["/bin/busybox", "--list-full"]).decode()
    for path in listed.split():
        place = target / path
        if place.name in NOT_FROM_BUSYBOX or place.name == "busybox":
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to("/bin/busybox")


def _services(target, guest):
    # One program under several names, as hard links: /proc/PID/exe then shows the name it was started by.
    init = target / "sbin/init"
    init.write_bytes(guest.read_bytes())
    init.chmod(0o755)
    _script(target / "etc/rc.d/rc", RC)
    (target / "etc/init.d").symlink_to("rc.d/init.d")
    for name, order in DAEMONS.items():
        os.link(init, target / PROGRAMS[name])
        places = {"program": "/" + PROGRAMS[name], "pidfile": PIDFILES[name]}
        running = (BY_SOCKET if name == "asterisk" else BY_PID_FILE).format(**places)
        text = INIT_SCRIPT.format(name=name, order=order, running=running, **places)
        _script(target / "etc/rc.d/init.d" / name, text)
        (target / "etc/rc3.d" / f"S{order}{name}").symlink_to(f"../init.d/{name}")


def ordinary_files(target):
    """Some hundred files such as a telephone server has."""
    for box in range(100, 110):
        folder = target / f"var/spool/asterisk/voicemail/default/{box}/INBOX"
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"msg{number:04}.txt").write_text(f"callerid=Box {box}\nduration={number * 7}\n" * 8)
            (folder / f"msg{number:04}.gsm").write_bytes(bytes((box * number + i) % 251 for i in range(660)))
        for path in [folder, *folder.iterdir()]:
            os.chown(path, 501, 501)
    for number in range(60):
        (target / f"usr/share/doc/note-{number:02}").write_text(f"Note {number}\n" * (number + 1))


def odd_files(folder):
    """What a copy must not change: FOLDER is bytes, because some names are no text."""

    def place(name):
        return os.path.join(folder, name)

    def write(name, data=b"data\n", mode=0o644):
        with open(place(name), "wb") as file:
            file.write(data)
        os.chmod(place(name), mode)
        return place(name)

    first = write(b"hard-link-1", b"one inode, three names\n")
    os.mkdir(place(b"elsewhere"))
    os.link(first, place(b"hard-link-2"))
    os.link(first, place(b"elsewhere/hard-link-3"))
    with open(place(b"sparse"), "wb") as file:
        for offset in (0, 5 << 20, 48 << 20):
            file.seek(offset)
            file.write(b"island at %d\n" % offset)
        file.truncate(64 << 20)
    _device(place(b"char-device"), stat.S_IFCHR | 0o640, 1, 5)
    _device(place(b"block-device"), stat.S_IFBLK | 0o660, 7, 77)
    os.mkfifo(place(b"fifo"), 0o600)
    os.mknod(place(b"socket"), 0o755 | stat.S_IFSOCK)
    write(b"no-permissions", mode=0)
    os.chown(write(b"unknown-owner"), 4242, 4343)
    os.chown(write(b"large-ids"), 2_000_000_001, 2_000_000_002)
    # The owner first: a change of owner takes the set-id bits away.
    os.chown(write(b"set-uid"), 501, 501)
    os.chmod(place(b"set-uid"), 0o4755)
    write(b"set-gid", mode=0o2755)
    os.mkdir(place(b"shared"))
    os.chown(place(b"shared"), 0, 48)
    os.chmod(place(b"shared"), 0o3775)
    os.mkdir(place(b"empty-folder"))
    write(b"empty", b"")
    names = [b"name with spaces", b" leading", b"trailing ", b"line\nbreak", b"tab\there"]
    names += [b"-rf", b"*", b"back\\slash", b"quote'\"s", b"$VEID", b"#hash", b"~"]
    names += [b"no-utf8-\xff\xfe\x80", "umlaut-äöü".encode(), b"long-" + b"x" * 250]
    for name in names:
        write(name, name + b"\n")
    os.symlink(b"nowhere/to be\nfound", place(b"dangling-link"))
    os.symlink(b"/etc/passwd", place(b"absolute-link"))
    os.lchown(place(b"absolute-link"), 501, 501)
    os.makedirs(place(b"/".join([b"deep"] * 40)))
    write(b"/".join([b"deep"] * 40) + b"/bottom")
    os.utime(write(b"old"), ns=(LONG_AGO, LONG_AGO))
    os.utime(place(b"empty-folder"), ns=(LONG_AGO, LONG_AGO))
