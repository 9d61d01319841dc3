"""Running a command on a host: in all its namespaces, with its root, and with the command's exit code."""

import contextlib
import ctypes
import os
import signal
import sys

from . import kernel

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}
KINDS = ("mnt", "net", "pid", "uts", "ipc", "cgroup")
PR_SET_PDEATHSIG = 1


def enter(pid, cgroup, argv):
    """Run ARGV on the host whose first process is PID, in this terminal; returns the exit code.

    Works once in a process: afterwards this process is half inside the host."""
    own = f"{cgroup}/exec"
    with contextlib.suppress(FileExistsError):
        os.mkdir(own)
    processes = os.open(f"{own}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    root = os.open(f"/proc/{pid}/root", os.O_PATH)
    for handle in [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in KINDS]:
        kernel.setns(handle)
        os.close(handle)
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
    child = os.fork()
    if child == 0:
        os.write(processes, b"0")
        _become(argv)
    # Ctrl-C reaches the command itself; what counts here is how it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _become(argv):
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    environment = dict(ENVIRONMENT, TERM=os.environ.get("TERM", "dumb"))
    try:
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
    os._exit(127)
