"""The lock of a container: LOCKDIR/CTID.lck, made by link(2), with the holder's pid in its first line."""

import os
import time

import log
import paths
import text

TRIES = 3


def _holder(path):
    """Return the pid in a lock file: 0 for garbage, -1 if it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(511).decode("utf-8", "surrogateescape")
    except OSError:
        return -1
    pid = text.leading_int(content)[0]
    if pid is None:
        log.say(1, f"Incorrect pid: {content} in {path}")
        return 0
    return pid


def _show_holder(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = os.fsdecode(file.read(511))
    except OSError:
        words = ""
    log.error(f"Locked by: pid {pid}, cmdline " + words.removesuffix("\0").replace("\0", " "))


class Lock:
    """A container's lock; take() first, release() in any case."""

    def __init__(self, ctid, directory):
        self.directory, self.ctid = directory, ctid
        self.path = f"{directory}/{ctid}.lck"
        self.held = False

    def take(self):
        """Return None on success, else the message that tells why not."""
        if self.directory is None:
            log.error("lockdir is not set")
            return "Unable to lock container"
        if not paths.exists(self.directory) and not paths.make_dir(self.directory):
            return "Unable to lock container"
        temporary = self._temporary()
        if temporary is None:
            return "Unable to lock container"
        try:
            return self._link(temporary)
        finally:
            os.unlink(temporary)

    def _temporary(self):
        temporary = f"{self.path}{os.getpid():06d}"
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as err:
            log.error(f"Unable to create temporary lock file: {temporary}", err)
            return None
        os.write(file, f"{os.getpid()}\n\n".encode())
        os.close(file)
        return temporary

    def _link(self, temporary):
        for _ in range(TRIES):
            try:
                os.link(temporary, self.path)
                self.held = True
                return None
            except OSError:
                pass
            pid = _holder(self.path)
            if pid < 0:
                time.sleep(0.5)
            elif pid == 0:
                self._remove()
            elif os.path.exists(f"/proc/{pid}"):
                _show_holder(pid)
                return "Container already locked"
            else:
                log.info(f"Removing stale lock file {self.path}")
                self._remove()
        return "Unable to lock container"

    def _remove(self):
        try:
            os.unlink(self.path)
        except OSError:
            pass

    def release(self):
        """Remove the lock if it is ours."""
        if self.held:
            self._remove()
            self.held = False
