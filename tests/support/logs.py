"""Logs in JSON, as long as they are written."""

from __future__ import annotations

import json
from typing import Any


def entries(text: str) -> list[dict[str, Any]]:
    """The entries of a log, but for one that is being written.

    Raises:
        AssertionError: one is not JSON.
    """
    found: list[dict[str, Any]] = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            raise AssertionError(f"not a line of JSON in the log: {line}") from None
    return found
