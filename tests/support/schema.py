"""The JSON Schema of the events socket, made from the program: `python -m tests.support.schema`."""

from __future__ import annotations

import json
from typing import Final

import msgspec

from tests.support.paths import REPOSITORY
from watcher.feed.lines import AnyLine

FILE: Final = REPOSITORY / "docs/events.schema.json"
_ABOUT: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A line of watcher's events socket",
}


def text() -> str:
    """What should be in :data:`FILE`."""
    return json.dumps(_ABOUT | msgspec.json.schema(AnyLine), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
