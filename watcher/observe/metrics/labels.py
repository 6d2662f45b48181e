"""Values of labels: foreign text, printable, of bounded length, and still one of a kind."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from watcher.model.errors import printable

MAX: Final = 255
"""The most characters of a value: an id of runc is a file name, which has 255 bytes at the most."""


def label(text: str) -> str:
    """`text` if it is printable and short, else what can be shown of it and a digest of it.

    The digest is there because two containers must not have series with the same labels: Prometheus
    would drop one of each two.
    """
    if len(text) <= MAX and text.isprintable():
        return text
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{printable(text[:MAX])[: MAX - len(digest) - 1]}…{digest}"
