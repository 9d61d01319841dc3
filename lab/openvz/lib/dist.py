"""What the scripts of a distribution set up in a container: its names, addresses, resolver and passwords.

Which script does what stands in /etc/vz/dists, in the file of the container's OSTEMPLATE. A script runs inside the
container, by its own shell, and is read from outside. A machine without /etc/vz/dists has nothing set up.
"""

import os

import codes
import conf as configuration
import inside
import log
import paths
import values

FOLDER = "/etc/vz/dists"
ACTIONS = {
    "ADD_IP": "add_ip",
    "DEL_IP": "del_ip",
    "SET_HOSTNAME": "set_hostname",
    "SET_DNS": "set_dns",
    "SET_USERPASS": "set_userpass",
}


def load(conf):
    """Return {action: path of its script} for a container, None on a machine without distributions."""
    if "OSTEMPLATE" not in conf:
        log.error(f"Warning: distribution not specified in CT config, using defaults from {FOLDER}/default")
    if not os.path.isdir(FOLDER):
        return None
    found = {}
    with open(_file(conf.get("OSTEMPLATE")), encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            key, value, _ = configuration.split_line(line)
            if key in ACTIONS and value:
                found[ACTIONS[key]] = f"{FOLDER}/scripts/{value}"
    return found


def _file(template):
    """The file of a distribution: that of the name, or of the name without what follows one of its last hyphens."""
    name = os.path.basename(template or "")
    while name:
        if paths.exists(f"{FOLDER}/{name}.conf"):
            return f"{FOLDER}/{name}.conf"
        name = name.rpartition("-")[0]
    if template is not None:
        log.error(
            f"Warning: configuration file for distribution {template} not found, using defaults from {FOLDER}/default"
        )
    return f"{FOLDER}/default"


def run(pid, actions, action, **variables):
    """Run the script of an action in a container. Returns its exit code."""
    if actions is None:
        return codes.OK
    if action not in actions:
        log.info(f"Warning: {action} action script is not specified")
        return codes.OK
    return inside.run_script(pid, actions[action], f"{FOLDER}/scripts/functions", variables)


def add_addresses(pid, actions, conf, addresses, state):
    """Let a container have addresses; at its start also when there are none."""
    if not addresses and not conf.get("delall") and state != "starting":
        return codes.OK
    return run(pid, actions, "add_ip", IP_ADDR=" ".join(addresses), **_how(conf, state))


def delete_addresses(pid, actions, conf, addresses, state):
    """Let a container lose addresses."""
    if not addresses and not conf.get("delall"):
        return codes.OK
    return run(pid, actions, "del_ip", IP_ADDR=" ".join(addresses), **_how(conf, state))


def _how(conf, state):
    return {"VE_STATE": state, **({"IPDELALL": "yes"} if conf.get("delall") else {})}


def configure(pid, actions, wanted, conf, state):
    """Set up the name and the resolver that are wanted; conf is what holds for the container. Returns an exit code."""
    code = codes.OK
    if "HOSTNAME" in wanted:
        addresses = (
            (None if wanted.get("delall") else conf.get("IP_ADDRESS")) or wanted.get("IP_ADDRESS") or [""]
        )
        address = addresses[0].partition("/")[0]
        code = run(pid, actions, "set_hostname", VE_STATE=state, HOSTNM=wanted["HOSTNAME"], IP_ADDR=address)
    servers, domains = wanted.get("NAMESERVER"), wanted.get("SEARCHDOMAIN")
    if code or not (servers or domains):
        return code
    node = _resolver() if ["inherit"] in ((servers or [])[:1], (domains or [])[:1]) else {}
    return run(
        pid,
        actions,
        "set_dns",
        **{
            key: node.get(key, "") if words[0] == "inherit" else " ".join(words)
            for key, words in (("SEARCHDOMAIN", domains), ("NAMESERVER", servers))
            if words
        },
    )


def _resolver():
    """What the node itself asks for names."""
    found = {"NAMESERVER": ""}
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="surrogateescape") as file:
            lines = [values.words(line.rstrip("\n")) for line in file]
    except OSError as err:
        log.error("Can't open /etc/resolv.conf", err)
        return {}
    for words in lines:
        if words[1:] and words[0] in ("domain", "search"):
            found["SEARCHDOMAIN"] = " ".join(words[1:])
        elif words[1:] and words[0] == "nameserver":
            found["NAMESERVER"] = f"{found['NAMESERVER']} {words[1]}".strip()
    return found


def set_passwords(pid, actions, users):
    """Set the passwords of users, each as user:password. Returns an exit code."""
    if run(pid, actions, "set_userpass", USERPW=" ".join(users)):
        log.info("Password change failed")
        return codes.CHANGE_PASSWORD
    return codes.OK
