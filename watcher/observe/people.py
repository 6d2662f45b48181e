"""An event as a line for people. Nothing of it can move a terminal's cursor or end the line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from watcher.model.errors import printable, quoted
from watcher.model.naming import called, short_id

if TYPE_CHECKING:
    from watcher.feed.lines import ContainerPart, Event

BAD: Final = frozenset({
    "failed", "refused", "held-too-long", "not-held", "not-repaired", "network-taken", "evaded",
    "connections-full", "host-silent", "block-lost", "cluster-disconnected",
})  # fmt: skip
"""The kinds that are shown in red."""

_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"
_WIDTH: Final = 13
_SPECIAL: Final = frozenset(' "=,')
_LISTED: Final = 8
"""The most elements of a list."""


def line_for(event: Event, *, colour: bool) -> str:
    """The line, without its end: the local time, the kind, the containers, and the details."""
    kind = printable(event.kind)
    shown = f"{_RED}{kind}{_PLAIN}" if colour and event.kind in BAD else kind
    when = event.time.astimezone().isoformat(" ", "seconds")
    words = [when, shown + " " * (_WIDTH - len(kind)), *_details(event)]
    return " ".join(words).rstrip()


def _details(event: Event) -> Iterator[str]:
    """The words behind the kind; what has spaces comes last."""
    if event.containers:
        yield _list(map(_called, event.containers))
    elif event.sandbox:
        yield _value(short_id(event.sandbox))
    networks = [interface.network for interface in event.interfaces] or [event.network]
    ports: Sequence[str] = event.ports
    limits = not event.reason and (event.annotation or event.value)
    if not ports and not event.network and not limits:  # else it is about an interface alone
        ports = [port for container in event.containers for port in container.ports]
    cause = "" if event.cause in event.reason else event.cause
    for name, values in (
        ("host", [event.host]),
        ("network", networks),
        ("interface", [i.name for i in event.interfaces] if event.network else ()),
        ("address", [event.address, *(a for i in event.interfaces for a in i.addresses)]),
        ("block", [event.block]),
        ("ports", ports),
        ("verdict", [event.verdict]),
        ("cause", [cause]),
    ):
        if any(values):
            yield f"{name}={_list(map(_value, filter(None, values)))}"
    if event.seconds:
        yield f"seconds={event.seconds:.3g}"
    if event.what:
        yield printable(event.what)
    if limits:
        yield "=".join(filter(None, (event.annotation, _list(map(_value, event.value.split(","))))))
    reason = event.reason
    for container in event.containers:  # the line names it already
        reason = reason.removeprefix(f"container {quoted(container.id)}: ")
    if reason:
        reason = "; ".join(filter(None, (reason, event.remedy)))
        yield f"({printable(reason)})" if event.what else printable(reason)


def _called(container: ContainerPart) -> str:
    return _value(called(container.id, container.names))


def _list(values: Iterable[str]) -> str:
    listed = list(values)
    more = f",+{len(listed) - _LISTED}" if len(listed) > _LISTED else ""
    return ",".join(listed[:_LISTED]) + more


def _value(value: str) -> str:
    """A value as one word, or in quotes."""
    return quoted(value) if not value.isprintable() or set(value) & _SPECIAL else value
