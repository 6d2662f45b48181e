"""Series of single containers: the counters of each interface, and which container is where.

There are ten for each container. Their labels stay the same, so the library writes these once, and
they are kept while the container is there.
"""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from watcher.feed.lines import ContainerPart
from watcher.model.naming import called
from watcher.observe.metrics.labels import label
from watcher.observe.metrics.text import Table, label_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from prometheus_client import Metric

    from watcher.feed.lines import SandboxLine, Traffic
    from watcher.observe.stream import Picture

COUNTERS: Final = {
    "received_bytes": ("receive_bytes", "Bytes that the container received."),
    "received_packets": ("receive_packets", "Packets that the container received."),
    "received_dropped": ("receive_packets_dropped", "Packets to the container that were dropped."),
    "received_errors": ("receive_errors", "Packets to the container with errors."),
    "sent_bytes": ("transmit_bytes", "Bytes that the container sent."),
    "sent_packets": ("transmit_packets", "Packets that the container sent."),
    "sent_dropped": ("transmit_packets_dropped", "Packets from the container that were dropped."),
    "sent_errors": ("transmit_errors", "Packets from the container with errors."),
    "guard_dropped": (
        "guard_dropped_packets",
        "Packets from the container that the guard dropped, from addresses not its own.",
    ),
}
"""The fields of :class:`watcher.feed.lines.Traffic`, each with its family and what that tells.

cAdvisor has the first eight under the same names, but for the first word.
"""

_INFO: Final = "Containers with a network; `sandbox` is the `id` that the counters of each have."

_values: Final = attrgetter(*COUNTERS)

type _Key = tuple[str, tuple[str, ...], str, str, str]
"""Tuples, because thousands are made and compared for each picture."""


class Links:
    """Makes tables of pictures, one after the other."""

    def __init__(self) -> None:
        self._links = _Texts(("id", "interface", "name", "network", "root"), _link)
        self._members = _Texts(("id", "name", "root", "sandbox", "status"), _member)
        self._counters = [
            _Series(CounterMetricFamily(f"watcher_container_network_{name}", help_), "_total")
            for name, help_ in COUNTERS.values()
        ]
        self._info = _Series(GaugeMetricFamily("watcher_container_info", _INFO))

    def tables(self, picture: Picture) -> Iterator[Table]:
        """The counters of each interface, and the containers."""
        links: dict[_Key, Traffic] = {}
        members: dict[_Key, None] = {}
        traffic = picture.traffic.get
        for sandbox in picture.sandboxes.values():
            named = represents(sandbox)
            for interface in sandbox.interfaces:
                if counters := traffic(interface.host_name):
                    links[named.id, named.names, named.root, interface.name, interface.network] = (
                        counters
                    )
            for member in sandbox.containers:
                status = member_status(sandbox, member)
                members[member.id, member.names, member.root, named.id, status] = None
        texts = self._links.of(links)
        columns = zip(*map(_values, links.values()), strict=True) if links else repeat(())
        for series, column in zip(self._counters, columns, strict=False):
            yield series.table(texts, column)
        yield self._info.table(self._members.of(members), (1,) * len(members))


class _Series:
    """The lines of a family: a template, in which the values alone differ from time to time.

    One `%` of all lines takes a third of the time that a format of each takes.

    Args:
        family: the family.
        suffix: what the names of its series have behind the family's, as the library has it.
    """

    def __init__(self, family: Metric, suffix: str = "") -> None:
        self._family = family
        self._name = family.name + suffix
        self._texts: list[str] = []
        self._template = b""

    def table(self, texts: list[str], values: tuple[int, ...]) -> Table:
        """The family with the series of these labels, in which each `%` is doubled."""
        if texts != self._texts:
            self._texts = texts
            self._template = "".join([f"{self._name}{text} %d\n" for text in texts]).encode()
        return Table(self._family, self._template % values)


class _Texts:
    """The labels of series as text, kept from one picture to the next.

    Args:
        names: the names of the labels.
        values: makes their values of a key.
    """

    def __init__(self, names: tuple[str, ...], values: Callable[[_Key], tuple[str, ...]]) -> None:
        self._names = names
        self._values = values
        self._texts: dict[_Key, str] = {}

    def of(self, keys: Collection[_Key]) -> list[str]:
        """The texts of `keys` in that order, for :class:`_Series`; all others are forgotten."""
        new = [key for key in keys if key not in self._texts]
        rows = ([label(value) for value in self._values(key)] for key in new)
        texts = (text.replace("%", "%%") for text in label_texts(self._names, rows))
        self._texts.update(zip(new, texts, strict=True))
        if len(self._texts) > len(keys):
            self._texts = {key: self._texts[key] for key in keys}
        return list(map(self._texts.__getitem__, keys))


def _link(key: _Key) -> tuple[str, ...]:
    id_, names, root, interface, network = key
    return id_, interface, called(id_, names), network, root


def _member(key: _Key) -> tuple[str, ...]:
    id_, names, root, sandbox, status = key
    return id_, called(id_, names), root, sandbox, status


def represents(sandbox: SandboxLine) -> ContainerPart:
    """The container that a sandbox's counters are of: that which it was made for, while it lives.

    A sandbox may outlive that one, and another may come that is made for the same id.
    """
    for container in sandbox.containers:
        if container.id == sandbox.id:
            return container
    return next(iter(sandbox.containers), ContainerPart("", sandbox.id))


def member_status(sandbox: SandboxLine, member: ContainerPart) -> str:
    """The status of a container in `sandbox`, as `watcher ls` has it."""
    return "attached" if member.id == sandbox.id else "shared"
