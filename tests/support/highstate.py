"""state.apply on a fake node: the project's own top file and SLS, through Salt's compiler and state system."""

import copy
from unittest.mock import patch

import salt.state
from minion_without_daemons import PROJECT

#: States that are Salt's own, each with the arguments that name a place on the node.
SALTS_OWN = {"file.blockreplace": ["name"], "test.show_notification": []}
OURS = {path.stem for path in (PROJECT / "_states").glob("*.py")}


def highstate(node, test=False, sls=None):
    """The results of state.apply, or of one SLS, in the order in which the states ran; texts when nothing compiled."""
    minion = node.minion(test=test)
    call = salt.state.State.call

    def load_modules(state, *args, **kwargs):
        # What the fixture has loaded and redirected, in place of a second loader.
        state.functions = state._trusted_functions = minion.modules
        state.states, state.utils, state.rend = minion.states, minion.utils, minion.renderers
        state.serializers = minion.serializers

    def on_the_node(state, low, *args, **kwargs):
        return call(state, _moved(low, node.folder), *args, **kwargs)

    opts = copy.deepcopy(minion.opts)
    opts.update(autoload_dynamic_modules=False)
    with (
        patch.object(salt.state.State, "load_modules", load_modules),
        patch.object(salt.state.State, "module_refresh", lambda state: None),
        patch.object(salt.state.State, "call", on_the_node),
        salt.state.HighState(opts, initial_pillar=copy.deepcopy(opts["pillar"])) as high_state,
    ):
        high_state.push_active()
        try:
            if sls is None:
                returned = high_state.call_highstate()
            else:
                high, errors = high_state.render_highstate({"base": [sls]})
                returned = errors or high_state.state.call_high(high)
        finally:
            high_state.pop_active()
    if not isinstance(returned, dict):
        return returned
    return sorted(returned.values(), key=lambda result: result["__run_num__"])


def _moved(low, folder):
    """A call of a state of Salt's own, made on the node's files; one that is not known here is refused."""
    if low["state"] in OURS:
        return low
    places = SALTS_OWN[f"{low['state']}.{low['fun']}"]
    return {**low, **{place: f"{folder}{low[place]}" for place in places}}
