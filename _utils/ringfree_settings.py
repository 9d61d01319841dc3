"""
The site's own Salt settings that would bend what this project does: which ones, why, and in which file they stand.

``docs/salt-settings.md`` has these and all others that were looked at.
"""

import glob
import os
import re

#: States, a highstate that waits for them, an abort, and Salt's own question whether they still work.
FEWEST_JOBS = 5
SHORTEST_PATIENCE = 5  # seconds that a busy node may need to say that it still works
SMALLEST_EVENT = 1 << 20  # bytes, Salt's default: the answer of a node with many containers is not cut off
#: What the states of SLS are of, here and on a minion.
STATES = re.compile(r"\*|(salt|test|file|vz|cloudstor|ringfree_[a-z]+)(\..+)?")
#: Salt's own modules that ours, our SLS and the questions of the master need, and what these need in turn.
MODULES = (
    "cmd", "config", "cp", "event", "file", "grains", "mount", "pillar", "saltutil", "service", "state", "test",
)  # fmt: skip
STATE_MODULES = ("file", "test")
#: Our own files that a minion loads: kind, as its folder is called, to the pattern of their names.
OURS = re.compile(r"_(modules|states|utils|runners)/(vz|cloudstor|ringfree(_[a-z]+)?)\.py")
TREE = re.compile(
    r"(migrate|presync|rollback|failover|cleanup)\.sls|ringfree/.+\.sls|"
    r"orch/((line|node|parts|back|switch|switch_all|cleanup)\.sls|(asked|planned|refused)\.jinja)"
)
RENDERERS = ("jinja", "yaml", "json")
#: Of jinja_sls_env: what changes nothing in our SLS. Everything else changes how they are read.
BLANKS = ("lstrip_blocks", "keep_trailing_newline")


#: An option at the beginning of a line, or anywhere in one of JSON.
KEY = re.compile(r"""(?:[\s{]*["'])?([A-Za-z_][\w.]*)["']?\s*:(?:\s|$)""")


def _renderers_missing(opts, option):
    named = opts.get(option) or []
    return bool(named) and any((name in named) is (option == "renderer_blacklist") for name in RENDERERS)


def _locked_elsewhere(opts, option):
    return bool(opts.get(option)) and opts.get("saltenv") != "base"


def _has_conditions(opts, option):
    return any(STATES.fullmatch(str(name)) for name in opts.get(option) or {})


def _lacks(needed):
    def lacks(opts, option):
        return bool(opts.get(option)) and not set(needed) <= set(opts[option])

    return lacks


def _without(needed):
    def without(opts, option):
        named = opts.get(option) or ()
        return any(name in needed or OURS.fullmatch(f"_modules/{name}.py") for name in named)

    return without


def _is_small(opts, option):
    return isinstance(opts.get(option), (int, float)) and opts[option] < SMALLEST_EVENT


def _is_set(opts, option):
    return bool(opts.get(option))


#: Of both master and minion: option to (whether it does harm, what would happen).
BOTH = {
    "disabled_requisites": (
        _is_set,
        "steps would not wait for each other, or nothing would bring a node back after a failure",
    ),
    "global_state_conditions": (_has_conditions, "steps could be left out and count as good all the same"),
    "lock_saltenv": (
        _locked_elsewhere,
        "no SLS of this project, which are in the environment base, would run",
    ),
    "max_event_size": (
        _is_small,
        "Salt would cut off the answers of nodes, and good steps would count as failed",
    ),
    "renderer_blacklist": (_renderers_missing, f"the SLS need the renderers {', '.join(RENDERERS)}"),
    "renderer_whitelist": (_renderers_missing, f"the SLS need the renderers {', '.join(RENDERERS)}"),
    "state_data": (
        lambda opts, option: opts.get(option) == "terse",
        "Salt would leave states out of the answers, and a part in which nothing is left to do would count as failed",
    ),
}
MASTER = {
    **BOTH,
    "gather_job_timeout": (
        lambda opts, option: opts.get(option, SHORTEST_PATIENCE) < SHORTEST_PATIENCE,
        (
            f"a busy node would count as failed while it works on; at least {SHORTEST_PATIENCE} it has to be, Salt's "
            f"default is 10"
        ),
    ),
    "jinja_sls_env": (
        lambda opts, option: any(str(key).lower() not in BLANKS for key in opts.get(option) or {}),
        "the SLS would be read as something else",
    ),
    "jinja_trim_blocks": (_is_set, "the SLS would be read as something else"),
    "state_auto_order": (
        lambda opts, option: not opts.get(option, True),
        "the steps of a node would run in the order of their names",
    ),
}
MINION = {
    **BOTH,
    "disable_modules": (
        _without(MODULES),
        f"the modules {', '.join(MODULES)} and those of this project are needed",
    ),
    "disable_states": (
        _without(STATE_MODULES),
        f"the states {', '.join(STATE_MODULES)} and those of this project are needed",
    ),
    "file_client": (
        lambda opts, option: opts.get(option) == "local" and opts.get("__cli") == "salt-minion",
        "the node would take modules and SLS from its own disk and not from the master",
    ),
    "module_executors": (
        lambda opts, option: not set(opts.get(option) or ()) <= {"direct_call", "fast_call"},
        "jobs would be held up or run elsewhere, so that nobody sees them at work",
    ),
    "process_count_max": (
        lambda opts, option: 0 < (opts.get(option) or 0) < FEWEST_JOBS,
        (
            f"the minion could not say that it still works, nor hear an abort, while it runs states; at least "
            f"{FEWEST_JOBS} it has to be"
        ),
    ),
    "state_queue": (
        _is_set,
        "Salt can then let a highstate and a step of the migration wait for each other for ever",
    ),
    "sudo_user": (_is_set, "states would run in a process of their own that nobody sees at work"),
    "user": (
        lambda opts, option: opts.get(option, "root") != "root" and os.geteuid() != 0,
        "only root can stop, copy and start containers",
    ),
    "whitelist_modules": (
        _lacks(MODULES),
        f"beside those of this project the modules {', '.join(MODULES)} are needed",
    ),
    "whitelist_state_modules": (
        _lacks(STATE_MODULES),
        f"beside those of this project the states {', '.join(STATE_MODULES)} are needed",
    ),
}


def of_master(opts, test=False):
    """
    What the master's configuration says that would bend an orchestration.

    opts
        The master's options.

    test : False
        Whether its files set ``test``: typed on a command line it is meant.

    Returns a list of texts, each with the file and what to do.
    """
    faults = _faults(MASTER, opts, "master")
    if test:
        why = "nothing would be done, and every step would count as good"
        faults.append(_fault("test", opts, _places(opts), "master", why))
    return sorted(faults)


def of_minion(opts):
    """
    What a minion's configuration says that would bend a migration.

    opts
        The minion's options.

    Returns a list of texts, each with the file and what to do.
    """
    return sorted(_faults(MINION, opts, "minion"))


def _faults(rules, opts, role):
    bad = {option: why for option, (does_harm, why) in rules.items() if does_harm(opts, option)}
    places = _places(opts) if bad else {}
    return [_fault(option, opts, places, role, why) for option, why in bad.items()]


def _fault(option, opts, places, role, why):
    file = places.get(option, f"the {role}'s configuration")
    host = "" if role == "master" else " on the node"
    return (
        f"{file} sets {option}: {opts.get(option)}. {why[0].upper()}{why[1:]}. Remove it, then 'systemctl restart "
        f"salt-{role}'{host}"
    )


def place(opts, option):
    """
    In which file and line an option stands.

    opts
        The options of a master or minion, with ``conf_file``, ``default_include`` and ``include``.

    option
        The option.

    Returns text, ``FILE:LINE``; of several places the one that counts.  ``None`` when no file says so, as when it was
    changed since.
    """
    return _places(opts).get(option)


def _places(opts):
    """Option to FILE:LINE, in the order in which Salt reads the files: the last one counts."""
    main, found = opts.get("conf_file"), {}
    if not main:
        return found
    for path in [main, *_included(main, opts.get("default_include")), *_included(main, opts.get("include"))]:
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                for number, line in enumerate(stream, 1):
                    key = KEY.match(line)
                    if key:
                        found[key.group(1)] = f"{path}:{number}"
        except OSError:
            continue  # Salt passes over it as well
    return found


def _included(main, patterns):
    for pattern in [patterns] if isinstance(patterns, str) else patterns or []:
        yield from sorted(glob.glob(os.path.join(os.path.dirname(main), os.path.expanduser(str(pattern)))))


def strangers(files, loaded):
    """
    What a minion loads in the place of our files.

    files
        Our files as the master serves them: name (``_modules/vz.py``) to check sum.

    loaded
        The minion's answer: name to ``[path, check sum]``.

    Returns a list of texts.
    """
    found = []
    for name, wanted in sorted(files.items()):
        path, sum_ = loaded.get(name) or (None, None)
        if path is None:
            found.append(
                f"{name} is not loaded there: it was not brought, as by extmod_whitelist, extmod_blacklist or a top "
                f"file that names other environments than base"
            )
        elif sum_ != wanted:
            found.append(
                f"{path} is loaded in the place of this project's {name}, and is another file: remove or rename it, or "
                f"take its folder out of the minion's configuration (module_dirs, states_dirs, utils_dirs)"
            )
    return found


def tree(name):
    """
    Whether a file of the file server is of this project: a module, an SLS, or what these include.  The top file is the
    site's.

    name
        Its name, as ``orch/parts.sls``.

    Returns True or False.
    """
    return TREE.fullmatch(name) is not None or is_ours(name)


def is_ours(name):
    """
    Whether a file of the file server is one of our modules.

    name
        Its name, as ``_modules/vz.py``.

    Returns True or False.
    """
    return OURS.fullmatch(name) is not None
