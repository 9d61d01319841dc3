"""
In place of the script that confines a program, for fake nodes, whose programs need the whole machine.

It puts the real paths where the program's words name the trees as they are called inside, and becomes the program.
"""

import json
import os
import sys


def as_outside(word, trees):
    """A word of a command, with the real path in place of a name inside."""
    option, equals, value = word.rpartition("=")
    for name, tree in trees.items():
        if value == name or value.startswith(f"{name}/"):
            return (
                option
                + equals
                + os.path.join(os.path.normpath(tree["path"]), tree.get("name") or "").rstrip("/")
                + value[len(name) :]
            )
    return word


if __name__ == "__main__":
    trees = json.loads(sys.argv[1])["trees"]
    argv = [as_outside(word, trees) for word in sys.argv[3:]]
    os.execvp(argv[0], argv)
