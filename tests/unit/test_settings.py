"""Which of a site's own Salt settings would bend a run, and in which file they stand (H36)."""

import pytest
import ringfree_settings as settings
import salt.config
from minion_without_daemons import PROJECT

#: Option to values that do harm, on a master or on a minion.
HARMFUL = {
    "disabled_requisites": ["require", ["onfail"]],
    "global_state_conditions": [
        {"*": ["not G@maintenance:true"]},
        {"salt": "G@a:b"},
        {"vz.stopped": ["x"]},
        {"file": []},
    ],
    "lock_saltenv": [True],
    "max_event_size": [0, 65536],
    "renderer_blacklist": [["jinja"], ["py", "yaml"]],
    "renderer_whitelist": [["jinja", "yaml"], ["py"]],
    "state_data": ["terse"],
}
MASTER = {
    **HARMFUL,
    "gather_job_timeout": [0, 2],
    "jinja_sls_env": [{"line_statement_prefix": "%"}, {"lstrip_blocks": True, "TRIM_BLOCKS": True}],
    "jinja_trim_blocks": [True],
    "state_auto_order": [False],
}
MINION = {
    **HARMFUL,
    "disable_modules": [["service"], ["vz"], ["ringfree_rollback"]],
    "disable_states": [["file"], ["cloudstor"]],
    "file_client": ["local"],
    "module_executors": [["splay", "direct_call"], ["sudo"]],
    "process_count_max": [1, 4],
    "state_queue": [True, 3],
    "sudo_user": ["root"],
    "whitelist_modules": [["test"]],
    "whitelist_state_modules": [["file"]],
}
#: Options that are left alone, with values that others have chosen.
HARMLESS = {
    "failhard": True,
    "state_aggregate": True,
    "state_events": True,
    "global_state_conditions": {"pkg": ["G@a:b"], "service.running": []},
    "lock_saltenv": False,
    "saltenv": "prod",
    "pillarenv": "prod",
    "renderer": "mako|yaml",
    "renderer_blacklist": ["py", "mako"],
    "renderer_whitelist": ["jinja", "yaml", "json", "gpg"],
    "state_output": "terse",
    "gather_job_timeout": 30,
    "timeout": 1,
    "jinja_lstrip_blocks": True,
    "jinja_sls_env": {"lstrip_blocks": True},
    "jinja_env": {"line_statement_prefix": "%"},
    "disable_modules": ["docker", "mysql"],
    "disable_states": ["pkg"],
    "disable_returners": ["mysql"],
    "process_count_max": 5,
    "module_executors": ["direct_call"],
    "multiprocessing": False,
    "max_event_size": 4194304,
    "grains_cache": True,
    "state_top": "other.sls",
    "autoload_dynamic_modules": False,
    "clean_dynamic_modules": False,
    "return": "mysql",
}
DEFAULTS = {"__cli": "salt-minion", "saltenv": None}


@pytest.mark.parametrize(
    ("role", "option", "value"),
    [
        (role, option, value)
        for role, options in (("master", MASTER), ("minion", MINION))
        for option, values in options.items()
        for value in values
    ],
)
def test_h36_what_would_bend_a_run_is_named_with_its_file_and_the_cure(tmp_path, role, option, value):
    (tmp_path / f"{role}.d").mkdir()
    file = tmp_path / f"{role}.d" / "site.conf"
    file.write_text(f"# ours\n{option}: as it is\n")
    opts = {
        **DEFAULTS,
        "conf_file": str(tmp_path / role),
        "default_include": f"{role}.d/*.conf",
        option: value,
    }
    (fault,) = getattr(settings, f"of_{role}")(opts)
    assert fault.startswith(f"{file}:2 sets {option}: {value}. ")
    assert f"Remove it, then 'systemctl restart salt-{role}'" in fault


def test_every_rule_is_tried():
    assert set(MASTER) == set(settings.MASTER)
    assert set(MINION) | {"user"} == set(settings.MINION)


def test_h36_a_minion_that_is_not_roots_is_named(monkeypatch):
    assert settings.of_minion({"user": "salt"}) == []  # somebody's word for root
    monkeypatch.setattr(settings.os, "geteuid", lambda: 990)
    assert "only root" in settings.of_minion({"user": "salt"})[0].lower()


@pytest.mark.parametrize("option", HARMLESS)
def test_what_does_no_harm_is_no_fault(option):
    """False alarms are faults."""
    opts = {**DEFAULTS, option: HARMLESS[option]}
    assert (settings.of_master(opts), settings.of_minion(opts)) == ([], [])


@pytest.mark.parametrize("role", ["master", "minion"])
def test_salts_own_defaults_are_no_fault(role):
    opts = getattr(salt.config, f"{role}_config")(None, **({"minion_id": "a"} if role == "minion" else {}))
    assert getattr(settings, f"of_{role}")({**opts, "__cli": f"salt-{role}"}) == []


def test_everything_that_is_wrong_is_said_at_once():
    opts = {option: values[0] for option, values in MINION.items()}
    assert len(settings.of_minion({**DEFAULTS, **opts})) == len(MINION)


def test_an_environment_that_is_locked_to_ours_is_none():
    assert settings.of_minion({"lock_saltenv": True, "saltenv": "base"}) == []


def test_test_in_a_file_of_the_master_counts():
    assert settings.of_master({"test": True}) == []
    assert "sets test: True. Nothing would be done" in settings.of_master({"test": True}, test=True)[0]


def test_the_last_file_counts(tmp_path):
    """As Salt reads them: the main file, minion.d in its order, then what is included; nested keys are none."""
    for name, text in {
        "minion": "include: [more/*]\nstate_queue: False\nid: a\nschedule:\n  state_queue: x\n",
        "minion.d/a.conf": "state_queue: False\n",
        "minion.d/b.conf": "\n'state_queue': True\n",
        "minion.d/off.conf_": "state_queue: False\n",
        "more/last": '{\n  "sudo_user": "x"}\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    opts = {
        "conf_file": str(tmp_path / "minion"),
        "default_include": "minion.d/*.conf",
        "include": ["more/*"],
    }
    assert settings.place(opts, "state_queue") == f"{tmp_path}/minion.d/b.conf:2"
    assert settings.place(opts, "sudo_user") == f"{tmp_path}/more/last:2"
    assert settings.place(opts, "id") == f"{tmp_path}/minion:3"
    assert settings.place(opts, "test") is None
    assert settings.of_minion({**opts, "state_queue": True})[0].startswith(
        f"{tmp_path}/minion.d/b.conf:2 sets "
    )


def test_an_option_that_no_file_has_any_more_is_named_without_one(tmp_path):
    (fault,) = settings.of_minion({"conf_file": str(tmp_path / "gone"), "state_queue": True})
    assert fault.startswith("the minion's configuration sets state_queue: True. ")


def test_our_own_files_are_known():
    """Every module, SLS and template of the project but the top file, and nothing of others."""
    names = [f"_{kind}/{path.name}" for kind in ("modules", "states", "utils", "runners") for path in
             (PROJECT / f"_{kind}").glob("*.py")]  # fmt: skip
    sls = [str(path.relative_to(PROJECT / "salt")) for suffix in ("sls", "jinja") for path in
           (PROJECT / "salt").rglob(f"*.{suffix}")]  # fmt: skip
    assert all(map(settings.is_ours, names))
    assert {name for name in [*names, *sls] if not settings.tree(name)} == {"top.sls"}
    for name in ("orch/web.sls", "_modules/pkgs.py", "web/init.sls", "_grains/vz.py", "a/_modules/vz.py"):
        assert not settings.tree(name)
