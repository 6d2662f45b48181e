"""Writes families as text, in the format that the reader asks for.

The library takes 8 µs for each series, most of it for labels that it checks and escapes anew each
time: 0.4 s for the counters of 5,000 containers. So it writes labels once, by :func:`label_texts`,
and a :class:`Table` has lines that were made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import Metric


class Format(Struct, frozen=True):
    """A text format: what writes it, and what it is called in HTTP."""

    encode: Callable[[_Families], bytes]
    content_type: str


class Table(Struct, frozen=True):
    """A family that is too long for the library: it has no series, `lines` has them."""

    family: Metric
    lines: bytes


class _Families:
    """Families as a collector, which is what the library writes."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Called by the library."""
        return self._families


PLAIN: Final = Format(generate_latest, "text/plain; version=0.0.4; charset=utf-8")
OPENMETRICS: Final = Format(openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST)

_END: Final = b"# EOF\n"
"""The last line in OpenMetrics."""


def negotiated(accept: str) -> Format:
    """The format for a reader that sends `accept`, as the library understands it.

    Which version and which escaping of names it asks for makes no difference: no name has anything
    to escape, and an endless number of texts would have to be kept.
    """
    try:
        _, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        return PLAIN
    return OPENMETRICS if content_type.startswith("application/openmetrics-text") else PLAIN


def written(families: Iterable[Metric], tables: Iterable[Table], form: Format) -> bytes:
    """All families in the format `form`."""
    parts = []
    for table in tables:
        parts.append(form.encode(_Families([table.family])).removesuffix(_END))
        parts.append(table.lines)
    parts.append(form.encode(_Families(families)))
    return b"".join(parts)


def label_texts(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The labels of each row as they stand in a line, `{…}` included."""
    family = GaugeMetricFamily("x", "", labels=names)
    for row in rows:
        family.add_metric(row, 1)
    head, tail = "x", " 1.0"
    _, _, *lines, _ = generate_latest(_Families([family])).decode().split("\n")
    return [line.removeprefix(head).removesuffix(tail) for line in lines]
