"""What a picture tells as a whole: the families with few series, as the client library has them.

Families are there whether or not they have series, and kinds of events count from 0: a counter that
appears with its first event shows Prometheus no increase.
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

from watcher.feed.events import KINDS
from watcher.model.naming import called
from watcher.observe.metrics.labels import label
from watcher.observe.metrics.links import member_status, represents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from watcher.feed.lines import ClusterLine, Histogram, Readers, Totals
    from watcher.observe.stream import Picture

DIRECTIONS: Final = ("egress", "ingress", "connections")
"""What rejects: the counts of :class:`watcher.feed.lines.Rejections`."""

STATUSES: Final = ("attached", "shared", "failed")
"""The statuses that a picture tells: nothing counts those that wait, are ignored or have exited."""


def of_scrape(*, up: bool, seconds: float) -> Iterator[Metric]:
    """What there is without a picture, too.

    Args:
        up: whether there is a picture.
        seconds: how long it took to get it, or to know that there is none.
    """
    yield GaugeMetricFamily(
        "watcher_up", "Whether the service told its state: 1 if it did, else 0.", value=int(up)
    )
    yield GaugeMetricFamily(
        "watcher_scrape_duration_seconds",
        "How long it took to read the state from the events socket.",
        value=seconds,
    )


def of_picture(picture: Picture) -> Iterator[Metric]:
    """What `picture` tells, apart from what :mod:`.links` makes of it."""
    yield _build(picture)
    yield _containers(picture)
    yield from _networks(picture)
    if picture.cluster is not None:
        yield from _cluster(picture, picture.cluster)
    yield _gate(picture)
    yield _rejections(picture)
    if picture.totals is not None:
        yield from _totals(picture.totals)
    if picture.readers is not None:
        yield from _readers(picture.readers)


def _build(picture: Picture) -> Metric:
    program = "" if picture.state is None else picture.state.program
    return InfoMetricFamily(
        "watcher_build", "The version of the service.", value={"version": label(program)}
    )


def _containers(picture: Picture) -> Metric:
    counts = Counter(
        member_status(sandbox, member)
        for sandbox in picture.sandboxes.values()
        for member in sandbox.containers
    )
    counts["failed"] = len(picture.failures)
    family = GaugeMetricFamily("watcher_containers", "Containers by status.", labels=["status"])
    for status in STATUSES:
        family.add_metric([status], counts[status])
    return family


def _networks(picture: Picture) -> Iterator[Metric]:
    """Leases by subnet; a network has one subnet of each IP family at the most."""
    leased = Counter(
        (interface.network, ":" in address)
        for sandbox in picture.sandboxes.values()
        for interface in sandbox.interfaces
        for address in interface.addresses
    )
    names = ["network", "subnet"]
    used = GaugeMetricFamily(
        "watcher_network_leases_used", "Addresses that sandboxes hold.", labels=names
    )
    free = GaugeMetricFamily(
        "watcher_network_leases_free", "Addresses that can be leased at present.", labels=names
    )
    refusing = GaugeMetricFamily(
        "watcher_network_refusing",
        "Whether the network refuses containers, because its addresses are used elsewhere.",
        labels=["network"],
    )
    for network in picture.networks.values():
        refusing.add_metric([label(network.name)], int(bool(network.refuses)))
        for part in network.subnets:
            labels = [label(network.name), label(part.subnet)]
            count = leased[network.name, ":" in part.subnet]
            used.add_metric(labels, count)
            free.add_metric(labels, max(0, part.leases - count))
    yield from (used, free, refusing)


def _cluster(picture: Picture, line: ClusterLine) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "watcher_cluster_connected",
        "Whether the service hears of the cluster: 1 if it does, else 0.",
        value=int(line.connected),
    )
    hosts = GaugeMetricFamily(
        "watcher_cluster_hosts", "The other hosts of the cluster.", labels=["state"]
    )
    for state in ("alive", "silent"):
        hosts.add_metric([state], getattr(line, state))
    yield hosts
    yield GaugeMetricFamily(
        "watcher_cluster_last_change_timestamp_seconds",
        "When the service has last heard of a change, in seconds since 1970; 0: not yet.",
        value=0 if line.changed is None else line.changed.timestamp(),
    )
    blocks = GaugeMetricFamily(
        "watcher_network_blocks",
        "Blocks of a clustered network that this host holds.",
        labels=["network", "subnet"],
    )
    for network in picture.networks.values():
        for part in network.subnets if network.cluster else ():
            blocks.add_metric([label(network.name), label(part.subnet)], part.blocks)
    yield blocks


def _gate(picture: Picture) -> Metric:
    family = GaugeMetricFamily(
        "watcher_gate_active",
        "Whether containers of the root start behind the gate.",
        labels=["root"],
    )
    for root in picture.roots.values():
        family.add_metric([label(root.path)], int(root.held))
    return family


def _rejections(picture: Picture) -> Metric:
    """What limits rejected: series of those interfaces alone of which something was."""
    family = CounterMetricFamily(
        "watcher_container_network_rejected_packets",
        "Packets that the container's limits rejected; each would have begun a connection.",
        labels=["direction", "id", "interface", "name", "network", "root"],
    )
    if not picture.rejections:
        return family
    for sandbox in picture.sandboxes.values():
        for interface in sandbox.interfaces:
            lines = [picture.rejections.get(address) for address in interface.addresses]
            if any(lines):
                one = represents(sandbox)
                who = (one.id, interface.name, called(one.id, one.names), interface.network)
                labels = [label(text) for text in (*who, one.root)]
                for direction in DIRECTIONS:
                    count = sum(getattr(line, direction) for line in lines if line is not None)
                    family.add_metric([direction, *labels], count)
    return family


def _totals(totals: Totals) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "watcher_start_time_seconds",
        "When the service started, in seconds since 1970.",
        value=totals.since.timestamp(),
    )
    events = CounterMetricFamily("watcher_events", "Events by kind.", labels=["kind"])
    for kind, count in sorted((dict.fromkeys(KINDS, 0) | totals.events).items()):
        events.add_metric([label(kind)], count)
    yield events
    failures = CounterMetricFamily(
        "watcher_failures",
        "Containers that could not be attached or were refused, by cause.",
        labels=["cause"],
    )
    for cause, count in sorted(totals.failures.items()):
        failures.add_metric([label(cause)], count)
    yield failures
    yield _durations(
        "watcher_attach", "How long it took to give a container its network.", totals.attach
    )
    yield _durations(
        "watcher_detach", "How long it took to take a container's network back.", totals.detach
    )
    yield _durations("watcher_gate_hold", "How long the gate held the runtime.", totals.hold)
    yield CounterMetricFamily(
        "watcher_history_lost_events",
        "Events that could not be written to the history.",
        value=totals.history_lost,
    )


def _durations(name: str, help_: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(
        f"{name}_duration_seconds", help_, buckets=buckets, sum_value=histogram.sum
    )


def _readers(readers: Readers) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "watcher_readers", "Readers of the events socket, this one included.", value=readers.now
    )
    yield CounterMetricFamily(
        "watcher_reader_connections",
        "Readers that have connected to the events socket.",
        value=readers.total,
    )
    yield CounterMetricFamily(
        "watcher_reader_missed_events",
        "Events that slow readers of the events socket have missed.",
        value=readers.missed,
    )
