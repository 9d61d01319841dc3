"""One word for each thing: docs/glossary.md has them, and nothing says the words that they have replaced."""

import re
import subprocess

import pytest
from minion_without_daemons import PROJECT

#: A word of before, and the one that took its place.
REPLACED = {
    r"dead-man(?!\")": "dead man's switch",
    r"ringfree_revert(?!\.(py|bring_home)|\"\])": "ringfree_rollback",
}
#: They say what was called so, or keep it: cases of the sweep have their names for good.
ALLOWED = ("CHANGELOG.md", "tests/lint/test_words.py", "tests/lint/test_layers.py", "tests/sweep/")
ALLOWED += ("_modules/ringfree_revert.py",)


def texts():
    """Every file of the project that is text, but for those that are allowed the old words."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        path = PROJECT / name
        if name.startswith(ALLOWED) or path.is_symlink() or not path.is_file():
            continue
        try:
            yield name, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@pytest.mark.parametrize("old", REPLACED)
def test_a_word_that_was_replaced_is_gone(old):
    found = [
        f"{name}: {line.strip()}"
        for name, text in texts()
        for line in text.splitlines()
        if re.search(old, line)
    ]
    assert not found, f"say '{REPLACED[old]}'"


def test_the_words_of_today_are_in_the_glossary():
    glossary = (PROJECT / "docs/glossary.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\*\*(.+?)\*\*", glossary))
    assert {"dead man's switch", "rollback", "fence", "owner", "manifest"} <= words
