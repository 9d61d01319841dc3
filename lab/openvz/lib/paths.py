"""Where vzctl keeps things, and the small file tests that it makes."""

import os

import log

GLOBAL_CONF = "/etc/vz/vz.conf"
CONF_DIR = "/etc/vz/conf"
NAMES_DIR = "/etc/vz/names"
DEFAULT_DUMP_DIR = "/vz/dump"
STATE_DIR = "/var/lib/vzctl"
PID_DIR = STATE_DIR + "/vepid"  # CTID: pid of the running container's init
BIRTH_DIR = STATE_DIR + "/vebirth"  # CTID: start time of that process, since pids are used again
IP_DIR = STATE_DIR + "/veip"  # CTID: the addresses that are set up
MOUNT_DIR = STATE_DIR + "/vemount"  # CTID: the VE_ROOT that was mounted last
DEF_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CTID_MAX = 2147483644


def conf(ctid):
    """Return the path of a container's configuration file."""
    return f"{CONF_DIR}/{ctid}.conf"


def dump_file(ctid, dump_dir):
    """Return the path of the memory image of a suspended container."""
    return f"{DEFAULT_DUMP_DIR if dump_dir is None else dump_dir}/Dump.{ctid}"


def exists(path):
    """Tell whether access(2) finds path; an error other than "no such file" is printed and means no."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as err:
        log.error(f"Can't access file {path}", err)
        return False
    return True


def make_dir(path, mode=0o755):
    """Create path and its parents; return False after printing what failed."""
    at = path.find("/", 1)
    parts = []
    while at != -1:
        parts.append(path[:at])
        at = path.find("/", at + 1)
    for part in [*parts, path]:
        if exists(part):
            continue
        try:
            os.mkdir(part, mode)
        except FileNotFoundError:
            pass
        except OSError as err:
            log.error(f"Can't create directory {part}", err)
            return False
    return True


def write_state(directory, ctid, content):
    """Note a fact about a container in a state directory."""
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/{ctid}", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)


def read_state(directory, ctid):
    """Return what was noted about a container, None if nothing was."""
    try:
        with open(f"{directory}/{ctid}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def forget_state(directory, ctid):
    """Remove what was noted about a container."""
    try:
        os.unlink(f"{directory}/{ctid}")
    except OSError:
        pass
