"""In place of what confines a program, for fake nodes, whose programs need the whole machine."""

import os


def command(argv, trees, connection=None):
    """The program's words, with the real path where they name a tree as it is called inside."""
    return [_as_outside(word, trees) for word in argv]


def _as_outside(word, trees):
    option, equals, value = word.rpartition("=")
    for name, tree in trees.items():
        if value == name or value.startswith(f"{name}/"):
            place = os.path.join(os.path.normpath(tree["path"]), tree.get("name") or "").rstrip("/")
            return f"{option}{equals}{place}{value[len(name) :]}"
    return word
