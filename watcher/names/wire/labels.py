"""Names as they stand in a message."""

from __future__ import annotations


def wire_of(name: bytes) -> bytes:
    """A name, with dots between its labels, as it stands in a message, without its end."""
    return b"".join([bytes((len(label),)) + label for label in name.split(b".")])
