"""A minion without daemons: modules, states and SLS of the project through Salt's own loader."""

import copy
import os
from pathlib import Path

import salt.config
import salt.loader
import salt.version
from salt.loader.lazy import LazyLoader

PROJECT = Path(__file__).resolve().parents[2]

# Enough for Salt's own modules to find what they are for; collecting real grains takes a second each time.
GRAINS = {
    "id": "node001",
    "host": "node001",
    "fqdn": "node001",
    "kernel": "Linux",
    "os": "CentOS",
    "os_family": "RedHat",
    "osrelease": "6.10",
    "osmajorrelease": 6,
    "osfinger": "CentOS-6",
    "cpuarch": "x86_64",
    "init": "systemd",
    "saltversioninfo": list(salt.version.__version_info__),
}

LISTED = {}
LIST = LazyLoader._refresh_file_mapping


def _list_once(loader):
    """What Salt lists anew for each loader, a thousand files in a test, from the second time on out of memory."""
    folders = [
        (folder, os.stat(folder).st_mtime_ns) for folder in loader.module_dirs if os.path.isdir(folder)
    ]
    key = (tuple(folders), frozenset(loader.disabled), tuple(loader.static_modules))
    if key not in LISTED:
        LIST(loader)
        LISTED[key] = (loader.file_mapping, loader.suffix_map, loader.suffix_order)
    loader.file_mapping, loader.suffix_map, loader.suffix_order = map(copy.copy, LISTED[key])


LazyLoader._refresh_file_mapping = _list_once


def make_opts(root):
    """Settings of a minion that lives in a directory, with the project's file and pillar roots."""
    for name in ("cache", "run", "pki", "etc"):
        (root / name).mkdir(parents=True)
    opts = salt.config.minion_config(None, minion_id="node001")
    opts.update(
        root_dir=str(root),
        cachedir=str(root / "cache"),
        sock_dir=str(root / "run"),
        pki_dir=str(root / "pki"),
        conf_file=str(root / "etc" / "minion"),
        conf_dir=str(root / "etc"),
        extension_modules=str(root / "cache" / "extmods"),
        file_client="local",
        local=True,
        file_roots={"base": [str(PROJECT / "salt")]},
        pillar_roots={"base": [str(PROJECT / "pillar")]},
        module_dirs=[str(PROJECT / "_modules")],
        states_dirs=[str(PROJECT / "_states")],
        utils_dirs=[str(PROJECT / "_utils")],
        grains=copy.deepcopy(GRAINS),
        pillar={},
        saltenv="base",
        log_level="warning",
    )
    return opts


class Names:
    """A module by its names; sys.modules knows only one of two minions' modules of the same name."""

    def __init__(self, names):
        self.__dict__ = names


class Minion:
    """What a minion has loaded; called as Salt does it: modules["vz.status"](101), states[...], utils[...]."""

    def __init__(self, opts):
        self.opts = opts
        self.utils = salt.loader.utils(opts)
        modules = salt.loader.minion_mods(opts, utils=self.utils)
        # From 3008 on modules call each other through a loader of their own. Here it is the only one, so that what a
        # test patches is what every caller gets.
        self.modules = modules.pack.get("__salt__", modules)
        self.states = salt.loader.states(opts, self.modules, self.utils, salt.loader.serializers(opts))
        # What a minion adds when it runs states: the modules of a state's __salt__ can run states themselves.
        self.modules.pack["__states__"] = self.states

    def apply(self, mods, **kwargs):
        """`state.sls`: the results in the order in which the states ran; error texts when it did not compile."""
        returned = self.modules["state.sls"](mods, **kwargs)
        if not isinstance(returned, dict):
            return returned
        return sorted(returned.values(), key=lambda result: result["__run_num__"])

    def module_of(self, function):
        """The names of the module that holds a function: monkeypatch.setattr(minion.module_of("vz.status"), ...)."""
        loader = self.states if function not in self.modules else self.modules
        return Names(loader[function].__globals__)
