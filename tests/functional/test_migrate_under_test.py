"""What `state.orch migrate test=True` believes of the runner that it asks for the plan."""

import pytest


@pytest.mark.parametrize(
    ("ran", "fit", "text"),
    [
        ({"success": True, "return": "node001:\n  change ..."}, True, "node001:"),
        (
            {"success": True, "return": {"Error": "Preflight found 2 reasons"}},
            False,
            "Preflight found 2 reasons",
        ),
        ({"success": False, "return": "Exception occurred in runner ringfree.plan: ..."}, False, "Exception"),
        ({"success": True, "return": None}, False, "None"),
    ],
    ids=["fit", "refused", "an exception, which is a text as well", "nothing"],
)
def test_a_plan_is_good_only_when_its_runner_says_so(minion, ran, fit, text):
    modules = minion().modules
    modules["saltutil.runner"] = lambda name, kwarg, full_return: ran
    found = modules["ringfree_asked.plan"](["node001"])
    assert found["fit"] is fit and found["text"].startswith(text)
