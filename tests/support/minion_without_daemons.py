"""A minion without daemons: modules, states and SLS of the project through Salt's own loader."""

import copy
import os
import shutil
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
    _make_folders(root)
    opts = salt.config.minion_config(None, minion_id="node001").copy()  # no view of something shared
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


def _make_folders(root):
    """What the settings of a minion name."""
    for name in ("cache", "run", "pki", "etc"):
        (root / name).mkdir(parents=True)


class Names:
    """A module by its names; sys.modules knows only one of two minions' modules of the same name."""

    def __init__(self, names):
        self.__dict__ = names


class Minion:
    """
    What a minion has loaded; called as Salt does it: modules["vz.status"](101), states[...], utils[...].

    Two that are used side by side need a base name each: Salt keeps modules in sys.modules below it, and what one of
    them loads again would change under the other.
    """

    def __init__(self, opts, base_name="salt.loaded"):
        self.opts = opts
        base = {"loaded_base_name": base_name}
        self.utils = salt.loader.utils(opts, **base)
        modules = salt.loader.minion_mods(opts, utils=self.utils, **base)
        # From 3008 on modules call each other through a loader of their own. Here it is the only one, so that what a
        # test patches is what every caller gets.
        self.modules = modules.pack.get("__salt__", modules)
        self.serializers = salt.loader.serializers(opts)
        self.states = salt.loader.states(opts, self.modules, self.utils, self.serializers, **base)
        # What a minion adds when it runs states: the modules of a state's __salt__ can run states themselves.
        self.modules.pack["__states__"] = self.states
        self.renderers = salt.loader.render(opts, self.modules, states=self.states)

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


class KeptMinion(Minion):
    """
    A minion that is used by one test after the other, because loading takes longer than most of them.

    `prepare(minion)` changes what is loaded for good.
    """

    def __init__(self, opts, base_name, prepare):
        super().__init__(opts, base_name)
        self.loaders = (self.utils, self.modules, self.states, self.renderers._dict)
        for loader, kind in ((self.utils, "utils"), (self.modules, "modules"), (self.states, "states")):
            for path in sorted((PROJECT / f"_{kind}").glob("*.py")):
                loader._load_module(path.stem)
        prepare(self)
        # One dictionary, as it is with older releases of Salt, in place of views of views of it: they take more time
        # than what is tested, and hold back what a test has written there.
        for loader in self.loaders:
            loader.opts = loader.pack["__opts__"] = opts
        for names in self._names():
            names["__opts__"] = opts
        self.replaced = []
        for loader in self.loaders:
            _tell_what_is_replaced(loader, self.replaced)
        self.first_opts = copy.deepcopy(opts)
        self.first_names = [(names, dict(names), _contents(names)) for names in self._names()]

    def _names(self):
        """The names of each of the project's modules."""
        found = {}
        for loader in self.loaders:
            for function in loader._dict.values():
                found[id(function.__globals__)] = function.__globals__
        return [names for names in found.values() if names["__file__"].startswith(f"{PROJECT}/_")]

    def as_loaded(self):
        """Make it what it was before any test."""
        for loader, function, first in reversed(self.replaced):
            if first is None:
                loader._dict.pop(function, None)
            else:
                loader._dict[function] = first
        self.replaced.clear()
        for names, first, contents in self.first_names:
            names.clear()
            names.update(first)
            for value, content in contents:
                value.clear()
                (value.extend if isinstance(value, list) else value.update)(content)
            for value in first.values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
        self.give({})
        if self.opts != self.first_opts:
            self.opts.clear()
            self.opts.update(copy.deepcopy(self.first_opts))
        for loader in self.loaders:
            loader.pack["__grains__"] = self.opts["grains"]
            loader.pack["__context__"].clear()
        root = Path(self.opts["root_dir"])
        shutil.rmtree(root)
        _make_folders(root)

    def give(self, pillar):
        """Another pillar."""
        self.opts["pillar"] = pillar
        for loader in self.loaders:
            loader.pack["__pillar__"] = pillar


def _tell_what_is_replaced(loader, replaced):
    """Note in a list what was in a loader before a test put something of its own there."""

    class Noting(type(loader)):
        __module__ = type(loader).__module__

        def __setitem__(self, function, value):
            replaced.append((self, function, self._dict[function] if function in self else None))
            super().__setitem__(function, value)

    loader.__class__ = Noting


def _contents(names):
    """What is in those things of a module that can be changed in place: `(thing, copy)` each."""
    return [
        (value, copy.copy(value))
        for name, value in names.items()
        if type(value) in (dict, list, set) and not name.startswith("__")
    ]
