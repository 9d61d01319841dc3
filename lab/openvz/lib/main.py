"""Command line of vzctl 4.11.1: global options, verb, container, and the order in which things are refused.

Not imitated: convert, compact, console, snapshots, quotas, and what needs the OpenVZ kernel itself.
"""

import os
import signal

import codes
import conf as configuration
import log
import paths
import save
import text
from options import Option, Reader

VERSION = "vzctl version 4.11.1\n"
USAGE = """
Usage: vzctl [--verbose | --quiet] [--skiplock] <command> <ctid> [parameters]

vzctl create <ctid> [--<parameter> <value> ...]
vzctl start <ctid> [--force] [--skip-remount] [--skip_ve_setup]
vzctl stop <ctid> [--fast] [--skip-umount]
vzctl restart | mount | umount | destroy | status <ctid>
vzctl exec | exec2 | exec3 <ctid> <command> [arg ...]
vzctl runscript <ctid> <script>
vzctl enter <ctid> [--exec <command> [arg ...]]
vzctl suspend | resume <ctid> [--dumpfile <name>]
vzctl set <ctid> [--save] [--force] [--<parameter> <value> ...]
"""
VERBS = {
    "create": "create",
    "set": "set",
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "destroy": "destroy",
    "delete": "destroy",
    "mount": "mount",
    "umount": "umount",
    "exec": "exec",
    "exec2": "exec",
    "exec3": "exec3",
    "runscript": "runscript",
    "enter": "enter",
    "status": "status",
    "suspend": "suspend",
    "chkpnt": "suspend",
    "resume": "resume",
    "restore": "resume",
}
NOT_IMITATED = (
    "convert compact console quotaon quotaoff quotainit snapshot snapshot-switch snapshot-delete "
    "snapshot-list snapshot-mount snapshot-umount".split()
)
WITHOUT_LOCK = ("exec", "exec3", "enter", "status")
START_OPTIONS = ("force", "skip_ve_setup", "wait", "skip-fsck", "skip-remount")
STOP_OPTIONS = ("fast", "skip-umount")
# In the order in which getopt lists what an abbreviation could mean.
START_STOP_OPTIONS = ("force", "skip_ve_setup", "wait", "fast", "skip-umount", "skip-fsck", "skip-remount")
DUMP_OPTIONS = {
    "suspend": "dump suspend resume kill skip_arpdetect flags context dumpfile".split(),
    "resume": "undump kill resume dumpfile flags context skip_arpdetect skip-remount skip-fsck".split(),
}
WITH_ARGUMENT = ("dumpfile", "flags", "context")
SINGLE_STEPS = ("dump", "undump", "suspend", "resume", "kill")


class Refused(Exception):
    """The command line asks for something that is refused; the message is printed already."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def complain(message, code):
    """Print a message that --quiet does not suppress and give up."""
    text.write(2, message + "\n")
    raise Refused(code)


class Command:
    """What the command line says, as far as it is understood without the container's configuration."""

    def __init__(self, argv):
        self.verbose, self.quiet, self.skip_lock = None, False, False
        words = self._global_options(argv[1:])
        self.name = words[0]
        self.verb = self._verb(words[0])
        if len(words) < 2:
            complain("CT ID missing", codes.BAD_VALUE)
        self.arguments = words[2:]
        self.ct_name = None
        self.ctid = self._id(words[1])

    def _global_options(self, words):
        while words:
            if words[0] == "--verbose":
                self.verbose = (self.verbose or 0) + 1
            elif words[0] == "--quiet":
                self.quiet = True
            elif words[0] == "--skiplock":
                self.skip_lock = True
            elif words[0] == "--version":
                text.write(1, VERSION)
                raise Refused(codes.OK)
            else:
                return words
            words = words[1:]
        text.write(2, VERSION + USAGE)
        raise Refused(codes.BAD_SYNTAX)

    def _verb(self, name):
        if name == "--help":
            text.write(1, VERSION + USAGE)
            raise Refused(codes.OK)
        if name in NOT_IMITATED:
            complain(f"{name}: the lab's vzctl does not imitate this command", codes.SYSTEM_ERROR)
        if name not in VERBS:
            complain(f"Bad command: {name}", codes.BAD_SYNTAX)
        if name == "status":
            self.verbose = -1  # nothing but its line and errors
        return VERBS[name]

    def _id(self, word):
        ctid = text.parse_int(word)
        if ctid is None:
            self.ct_name = word
            ctid = save.id_of_name(word)
        if not 0 <= ctid <= paths.CTID_MAX:
            complain(f"Bad CT ID {word}", codes.BAD_VALUE)
        return ctid


def words_are_extra(words):
    """Refuse words that are left over behind the options."""
    if words:
        complain("Invalid extra arguments: " + "".join(word + " " for word in words), codes.BAD_SYNTAX)


def start_stop_options(verb, arguments):
    """Return the names of the options of start, stop or restart."""
    allowed = (START_OPTIONS if verb != "stop" else ()) + (STOP_OPTIONS if verb != "start" else ())
    reader = Reader("vzctl", arguments, [Option(name, False) for name in START_STOP_OPTIONS])
    found, bad = set(), False
    for name, _ in reader:
        if name is None:
            bad = True
        elif name not in allowed:
            what = "start" if verb != "stop" else "stop"
            complain(f"Option --{name} is not applicable to {what} command", codes.BAD_SYNTAX)
        else:
            found.add(name)
    words_are_extra(reader.words)
    if bad:
        raise Refused(codes.BAD_SYNTAX)
    return found


def dump_options(verb, arguments):
    """Return (dump file, names of options) of suspend or resume."""
    options = [Option(name, name in WITH_ARGUMENT) for name in DUMP_OPTIONS[verb]]
    reader, dump, found = Reader("vzctl", arguments, options), None, set()
    for name, value in reader:
        if name is None:
            raise Refused(codes.BAD_SYNTAX)
        if name in SINGLE_STEPS:
            complain(f"--{name}: the lab's vzctl does not imitate this option", codes.BAD_SYNTAX)
        if name == "dumpfile":
            dump = value
        found.add(name)
    words_are_extra(reader.words)
    return dump, found


def parse_arguments(command):
    """Check what follows the container's id; returns what the action wants to know of it."""
    verb, arguments = command.verb, command.arguments
    if verb == "create":
        import create

        return create.parse(command.ctid, arguments)
    if verb == "set":
        import setting

        return setting.parse(command.ctid, arguments)
    if verb in ("start", "stop", "restart"):
        return start_stop_options(verb, arguments)
    if verb in ("suspend", "resume"):
        return dump_options(verb, arguments)
    if verb in ("exec", "exec3"):
        if not arguments:
            complain("No command line given for exec", codes.BAD_SYNTAX)
        return arguments
    if verb == "runscript":
        if not arguments:
            complain("Script not specified", codes.BAD_SYNTAX)
        return arguments[0]
    if verb == "enter":
        return enter_arguments(arguments)
    if arguments:
        complain("Invalid options: " + "".join(word + " " for word in arguments), codes.BAD_SYNTAX)
    return None


def enter_arguments(arguments):
    """Return the command of `enter --exec`, nothing for a shell."""
    if arguments and arguments[0] != "--exec":
        complain(f"Invalid option '{arguments[0]}'", codes.BAD_SYNTAX)
    if arguments and (len(arguments) == 1 or not arguments[1]):
        complain("No command line given for --exec", codes.BAD_SYNTAX)
    return arguments[1:]


def read_global(command):
    """Read vz.conf and set up the log by it."""
    conf = configuration.parse(paths.GLOBAL_CONF, command.ctid)
    if conf is None:
        raise Refused(codes.NO_GLOBAL_CONF)
    log.setup(conf.get("LOGFILE"), command.ctid, conf.get("LOG_LEVEL", 0), command.quiet, "vzctl")
    verbose = command.verbose if command.verbose is not None else conf.get("VERBOSE")
    if verbose is not None:
        log.set_verbose(max(verbose, -1))
    return conf


def read_own(command):
    """Read CTID.conf; returns an empty Conf where the verb can do without the file."""
    path = paths.conf(command.ctid)
    if not paths.exists(path):
        if command.verb in ("create", "status", "set"):
            return configuration.Conf()
        log.error("Container config file does not exist")
        raise Refused(codes.NO_CT_CONF)
    own = configuration.parse(path, command.ctid)
    if own is None:
        raise Refused(codes.NO_GLOBAL_CONF)
    if command.ct_name is not None and own.get("NAME", command.ct_name) != command.ct_name:
        log.error(f"Unable to find container by name {command.ct_name}")
        raise Refused(codes.BAD_VALUE)
    return own


def perform(command, conf, own, extra):
    """Do it. Returns the exit code."""
    import actions

    ctid = command.ctid
    if command.verb == "status":
        return actions.status(ctid, conf)
    if command.verb == "create":
        import create

        return create.create(ctid, conf, extra)
    if command.verb == "exec":
        code = actions.exec_shell(ctid, conf, extra)
        return codes.COMMAND_FAILED if code and command.name == "exec" else code
    if command.verb == "set":
        import setting

        return setting.apply(ctid, conf, own, extra, command.arguments)
    if command.verb in ("start", "restart"):
        return getattr(actions, command.verb)(ctid, conf, own, extra)
    if command.verb == "resume":
        return actions.resume(ctid, conf, *extra)
    if command.verb == "suspend":
        return actions.suspend(ctid, conf, extra[0])
    if command.verb == "mount":
        import mounts

        return mounts.mount(ctid, conf)
    action = {
        "exec3": actions.exec_program,
        "runscript": actions.run_script,
        "stop": actions.stop,
        "enter": actions.enter,
    }.get(command.verb)
    if action:
        return action(ctid, conf, extra)
    return {"umount": actions.umount, "destroy": actions.destroy}[command.verb](ctid, conf)


def cancel(number, frame):
    """Stop the action script that runs, and go on from there."""
    import scripts

    text.write(2, "\nCancelling...\n")
    for pid in scripts.running:
        os.kill(pid, signal.SIGTERM)


def perform_locked(command, conf, own, extra):
    """Do it while holding the container's lock, unless --skiplock says otherwise."""
    import lock

    held = lock.Lock(command.ctid, conf.get("LOCKDIR"))
    if not command.skip_lock:
        problem = held.take()
        if problem:
            log.error(problem)
            return codes.LOCKED if problem == "Container already locked" else codes.SYSTEM_ERROR
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, cancel)
    try:
        return perform(command, conf, own, extra)
    finally:
        held.release()


def main(argv):
    """Run vzctl; returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        command = Command(argv)
        log.setup(quiet=command.quiet)
        log.set_verbose(command.verbose or 0)
        conf = read_global(command)
        extra = parse_arguments(command)
        if command.ctid == 0 and command.verb != "set":
            complain("Only set actions are allowed for CT0", codes.BAD_VALUE)
        own = read_own(command)
    except Refused as refused:
        return refused.code
    if own or os.path.exists(paths.conf(command.ctid)):
        conf.pop("VE_LAYOUT", None)
    conf.override(own)
    run = perform if command.verb in WITHOUT_LOCK else perform_locked
    return run(command, conf, own, extra)
