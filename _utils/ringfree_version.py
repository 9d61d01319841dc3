"""Which version of the project this is: here, and as the newest heading of CHANGELOG.md, which a test compares."""

from __future__ import annotations

VERSION = "0.9.0"


def of_project() -> str:
    """
    The version of the project that this file was synced with.

    Returns:
        Text, such as ``0.9.0`` (https://semver.org).
    """
    return VERSION
