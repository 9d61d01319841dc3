"""The fixtures of this folder do what other tests rely on."""

import os
import subprocess

import pytest


@pytest.fixture
def tree(tmp_path):
    """File roots with one SLS that writes a file."""
    folder = tmp_path / "tree"
    folder.mkdir()
    target = tmp_path / "written"
    text = (
        f"write it:\n  file.managed:\n    - name: {target}\n    - contents: {{{{ pillar['word'] | json }}}}\n"
    )
    (folder / "write.sls").write_text(text, encoding="utf-8")
    (folder / "broken.sls").write_text(
        "write it:\n  file.managed:\n    - require:\n      - file: nowhere\n", encoding="utf-8"
    )
    return {"opts": {"file_roots": {"base": [str(folder)]}}, "target": target}


def test_sls_are_applied_with_the_given_pillar(minion, tree, test_mode):
    node = minion(opts=tree["opts"], pillar={"word": "hello"}, test=test_mode)
    (result,) = node.apply("write")
    assert (result["result"] is None) is test_mode
    assert result["changes"]
    assert tree["target"].exists() is not test_mode


def test_an_sls_that_does_not_compile_says_why(minion, tree):
    (why,) = minion(opts=tree["opts"]).apply("broken")
    assert "nowhere" in str(why)


def test_states_are_called_by_name(minion, tmp_path, test_mode):
    result = minion(test=test_mode).states["file.directory"](str(tmp_path / "made"))
    assert (result["result"] is None) is test_mode


def test_utilities_of_the_project_are_there(minion):
    assert minion().utils["ringfree_conf.conf_names"](["101.conf", "notes"])


def test_a_module_can_be_patched(minion, fake_bin, monkeypatch, tmp_path):
    for program in ("vzctl", "vzlist"):
        fake_bin(program)
    node = minion()
    monkeypatch.setattr(node.module_of("vz.containers"), "CONF_DIR", str(tmp_path))
    (tmp_path / "105.conf").touch()
    assert node.modules["vz.containers"]() == [105]


def test_fake_programs_come_first(fake_bin):
    fake_bin("vzctl", "echo $1; exit 9")
    done = subprocess.run(["vzctl", "status"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, "status\n")
    assert os.environ["PATH"].count("bin") > 1
