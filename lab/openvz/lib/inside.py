"""Commands inside a running container.

Their streams go through pipes, as with the real one: vzctl returns when the command ends even if the command left
something behind that holds its output, and vzctl reads its own standard input whether the command wants it or not.
"""

import os
import select

import codes
import container
import log
import paths
import scripts

ENV = {"HOME": "/", "TERM": "linux", "PATH": paths.DEF_PATH}
SHELLS = ("/bin/bash", "/bin/sh")
CHUNK = 10240


def shell(arguments):
    """Return what has to be tried to run a shell with these arguments."""
    return [(path, [path, *arguments]) for path in SHELLS]


def program(argv):
    """Return what has to be tried to run a program that is looked for in the container's PATH."""
    if "/" in argv[0]:
        return [(argv[0], argv)]
    return [(f"{directory}/{argv[0]}", argv) for directory in paths.DEF_PATH.split(":")]


def _exec_first(choices, env):
    for path, argv in choices:
        try:
            os.execve(path, argv, env)
        except OSError:
            pass


def _run_in_container(pid, choices, failed, env=ENV):
    """Run in a child of vzctl: enter, fork the command, wait for it. Never returns."""
    code = codes.RESOURCE_ERROR
    try:
        scripts.default_signals()
        container.enter(pid)
        command = os.fork()
        if command == 0:
            _exec_first(choices, env)
            os.write(failed, b"!")
            os._exit(codes.BAD_TEMPLATE)
        os.close(failed)
        code = scripts.wait(command)
    except OSError as err:
        log.error("Container enter failed", err)
    finally:
        os._exit(code)


def run(pid, choices, stdin=None, env=ENV):
    """Run the first command of choices that exists, with vzctl's streams or stdin (bytes). Returns its exit code."""
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    failed_read, failed = os.pipe()
    child = os.fork()
    if child == 0:
        for number, file in enumerate((in_read, out_write, err_write)):
            os.dup2(file, number)
        for file in (in_read, in_write, out_read, out_write, err_read, err_write, failed_read):
            os.close(file)
        _run_in_container(pid, choices, failed, env)
    for file in (in_read, out_write, err_write, failed):
        os.close(file)
    try:
        if os.read(failed_read, 1):
            os.waitpid(child, 0)
            return 4  # no shell: the real one returns the number of bytes by which it was told
        _pump(child, in_write, {out_read: 1, err_read: 2}, stdin)
        return scripts.wait(child)
    finally:
        os.close(failed_read)


def _pump(child, in_write, outputs, stdin):
    """Copy the streams until the child ends or both outputs are closed; closes the pipes."""
    ended = os.pidfd_open(child)
    source = None if stdin is not None else 0
    pending = stdin or b""
    for file in (in_write, *outputs):
        os.set_blocking(file, False)
    while outputs:
        if in_write is not None and source is None and not pending:
            os.close(in_write)
            in_write = None
        ready = _wait_ready(ended, outputs, source if not pending else None, in_write if pending else None)
        if ended in ready:
            break
        for file in [file for file in outputs if file in ready]:
            _copy(file, outputs)
        if in_write in ready:
            pending = _feed(in_write, pending)
            source = None if pending is None else source
            pending = pending or b""
        elif source in ready:
            pending = _read_input()
            source = source if pending else None
    for file in list(outputs):
        while _copy(file, outputs):
            pass
    for file in (ended, *outputs, *([] if in_write is None else [in_write])):
        os.close(file)


def _wait_ready(ended, outputs, source, sink):
    poll = select.poll()
    for file in (ended, *outputs, *([] if source is None else [source])):
        poll.register(file, select.POLLIN)
    if sink is not None:
        poll.register(sink, select.POLLOUT)
    return {file for file, _ in poll.poll()}


def _copy(file, outputs):
    """Copy one piece of output; returns False if there is nothing to copy now."""
    try:
        data = os.read(file, CHUNK)
        rest = data
        while rest:
            rest = rest[os.write(outputs[file], rest) :]
    except BlockingIOError:
        return False
    except OSError:
        data = b""
    if not data:
        os.close(file)
        del outputs[file]
    return bool(data)


def _read_input():
    try:
        return os.read(0, CHUNK)
    except OSError:
        return b""


def _feed(sink, data):
    """Write what fits to the command; returns the rest, None if it does not read any more."""
    try:
        return data[os.write(sink, data) :]
    except BlockingIOError:
        return data
    except OSError:
        return None


def run_script(pid, path, functions=None, variables=None):
    """Give a script of the node to the container's shell, behind a file of functions and with variables.

    Returns the shell's exit code, -1 if it cannot be read.
    """
    script = b""
    for name in filter(None, (functions, path)):
        try:
            with open(name, "rb") as file:
                script += file.read() + b"\n"
        except OSError as err:
            log.error(f"Unable to open {name}", err)
            return -1
    log.say(1, f"Running container script: {path}")
    return run(pid, shell([]), script, {**ENV, **(variables or {})})


def run_detached(pid, argv):
    """Run a program of the container with /dev/null as its streams. Returns (exit code, whether it ended by itself)."""
    child = os.fork()
    if child == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        failed = os.open("/dev/null", os.O_WRONLY)
        _run_in_container(pid, program(argv), failed)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), os.WIFEXITED(status)


def run_attached(pid, choices):
    """Run a command on vzctl's own streams. Returns its exit code."""
    child = os.fork()
    if child == 0:
        failed = os.open("/dev/null", os.O_WRONLY)
        _run_in_container(pid, choices, failed)
    return scripts.wait(child)
