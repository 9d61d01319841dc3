"""Compiles the SLS of a tree with Salt's own renderers and compiler, and finds out what leads to what."""

import copy
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import salt.fileclient
import salt.loader
import salt.state
from minion_without_daemons import make_opts

#: States of Salt that run something elsewhere; an SLS with one of them is an orchestration.
REMOTE = "salt"
#: The runner that has a node do a part of its migration.
PART = "ringfree.part"
#: Other names of the runner state.orchestrate.
ORCHESTRATE = ("state.orchestrate", "state.orch", "state.sls")


@dataclass(frozen=True)
class Step:
    """One state of an SLS as it was written, after rendering."""

    id: str
    state: str
    function: str
    arguments: dict
    raw: list

    @property
    def name(self):
        """What the state is about: its `name`, else its ID."""
        return self.arguments.get("name", self.id)

    def is_(self, *functions):
        """Whether this is one of salt.state, salt.function, ..."""
        return f"{self.state}.{self.function}" in functions

    @property
    def is_nested_orchestration(self):
        """Whether this starts another orchestration."""
        return self.is_("salt.runner") and self.name in ORCHESTRATE


@dataclass
class Compiled:
    """One SLS, and what it includes, as it compiles for one minion (or the master) with one pillar."""

    sls: str
    minion: str
    pillar: dict
    steps: list = field(default_factory=list)
    low: list = field(default_factory=list)
    errors: list = field(default_factory=list)

    def __str__(self):
        return f"{self.sls} for {self.minion}"


def steps_of(data):
    """The steps of an SLS in rendered form; includes, extends and excludes are left to Salt."""
    steps = []
    for id_, body in (data if isinstance(data, dict) else {}).items():
        if id_ in ("include", "extend", "exclude") or id_.startswith("__"):
            continue
        if isinstance(body, str):
            body = {body: []}
        for key, raw in body.items():
            if not key.startswith("__"):
                steps.append(_step(id_, key, raw))
    return steps


def _step(id_, key, raw):
    raw = [raw] if isinstance(raw, str) else (raw or [])
    state, _, function = key.partition(".")
    arguments = {}
    for item in raw:
        if isinstance(item, dict):
            arguments.update(item)
        else:
            function = item
    return Step(id_, state, function, arguments, raw)


class Loaded:
    """What Salt makes anew for each compilation, made once for a minion and a pillar: that is most of the work."""

    def __init__(self):
        self.modules = self.pillar = None

    def __enter__(self):
        load, gather = salt.state.State.load_modules, salt.state.State._gather_pillar

        def load_modules(state, data=None, proxy=None):
            if data is not None:
                load(state, data, proxy)
            elif self.modules is None:
                before = set(vars(state))
                load(state)
                self.modules = {name: value for name, value in vars(state).items() if name not in before}
            else:
                vars(state).update(self.modules)
                state.rend = salt.loader.render(
                    state.opts, state.functions, states=state.states, context=state.state_con
                )

        def gather_pillar(state):
            if self.pillar is None:
                self.pillar = gather(state)
            return copy.deepcopy(self.pillar)

        with ExitStack() as stack:
            stack.enter_context(patch("salt.state.State.load_modules", load_modules))
            stack.enter_context(patch("salt.state.State._gather_pillar", gather_pillar))
            self.undo = stack.pop_all()

    def __exit__(self, *exception):
        self.undo.close()


class Tree:
    """The SLS under file roots, compiled with pillar roots. The SLS may change, the pillar may not."""

    def __init__(self, folder, salt_root, pillar_root=None):
        self.root = Path(salt_root)
        self.opts = make_opts(Path(folder))
        self.opts["file_roots"] = {"base": [str(self.root)]}
        self.opts["pillar_roots"] = {"base": [str(pillar_root)] if pillar_root else []}
        self.opts["fileserver_list_cache_time"] = 0  # files may come and go between two compilations
        self.client = salt.fileclient.get_file_client(self.opts)
        self.loaded = {}

    def names(self):
        """The names of all SLS files but top.sls."""
        found = []
        for path in sorted(self.root.rglob("*.sls")):
            parts = path.relative_to(self.root).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "init" and parts[:-1] else parts))
        return [name for name in found if name != "top"]

    def compile(self, sls, minion="node001", pillar=None):
        """Compile one SLS with what it includes, or `top` (the highstate); what Salt has against it is in `errors`."""
        opts = copy.deepcopy(self.opts)
        opts["id"] = opts["grains"]["id"] = opts["grains"]["host"] = minion
        compiled = Compiled(sls, minion, pillar or {})

        def remember(*args, **kwargs):
            data = render(*args, **kwargs)
            compiled.steps += steps_of(copy.deepcopy(data))
            return data

        render = salt.state.compile_template
        with (
            self.loaded.setdefault((minion, repr(pillar)), Loaded()),
            patch("salt.state.compile_template", remember),
            salt.state.HighState(opts, pillar, file_client=self.client) as high_state,
        ):
            compiled.errors += [str(error) for error in high_state.state.opts["pillar"].get("_errors", [])]
            high_state.push_active()
            try:
                matches = {"base": [sls]} if sls != "top" else high_state.top_matches(high_state.get_top())
                compiled.steps.clear()  # the top file has targets
                high, errors = high_state.render_highstate(matches)
            finally:
                high_state.pop_active()
            compiled.errors += errors
            if not errors:
                self._lower(high_state.state, high, compiled)
        return compiled

    @staticmethod
    def _lower(state, high, compiled):
        """From high data to the list of calls, as Salt does it before it runs them."""
        high, errors = state.reconcile_extend(high)
        errors += state.verify_high(high)
        high, more = state.requisite_in(high)
        errors += more
        if not errors:
            compiled.low, errors = state.compile_high_data(state.apply_exclude(high))
        compiled.errors += errors
        for chunk in compiled.low:
            compiled.errors += state.verify_data(chunk)

    def follow(self, sls, minion, pillar=None, seen=None):
        """Compile an SLS and everything that its steps run, each with the pillar and minion that it gets there."""
        seen = {} if seen is None else seen
        key = (sls, minion, repr(pillar))
        if key not in seen:
            seen[key] = self.compile(sls, minion, pillar)
            for step in seen[key].steps:
                for next_sls, next_minion in self._leads_to(step, minion):
                    self.follow(next_sls, next_minion, step.arguments.get("pillar"), seen)
        return list(seen.values())

    @staticmethod
    def _leads_to(step, minion):
        if step.is_nested_orchestration:
            mods = step.arguments.get("mods", [])
            return [(sls, minion) for sls in ([mods] if isinstance(mods, str) else mods)]
        if step.is_("salt.runner") and step.name == PART:
            return [(f"ringfree.{step.arguments['part']}", step.arguments["node"])]
        if step.is_("salt.state"):
            targets = step.arguments.get("tgt", [])
            targets = [targets] if isinstance(targets, str) else targets
            sls = step.arguments.get("sls", [])
            # One is enough: the minions of a target run the same files.
            return [(name, targets[0]) for name in ([sls] if isinstance(sls, str) else sls) if targets]
        return []
