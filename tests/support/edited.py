"""A sealed record with another content: as somebody writes it who does not know of seals, or an older version."""

import json


def edit(path, change):
    """Change a JSON record in place by a function."""
    kept = json.loads(path.read_text())
    kept.pop("check", None)
    change(kept)
    path.write_text(json.dumps(kept))
