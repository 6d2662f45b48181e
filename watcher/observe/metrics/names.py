"""What the name service tells of itself, as families of the client library.

It is a process of its own, and less trusted than the service: what it tells is checked, and is told
whether or not the service is there.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from watcher.model.errors import WatcherError
from watcher.observe.metrics.labels import label
from watcher.observe.name_service import NoNameService, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from watcher.feed.lines import Histogram
    from watcher.observe.name_service import NameTotals
    from watcher.observe.stream import Picture


def of_name_service(run_dir: str, picture: Picture | None) -> Iterator[Metric]:
    """All families; none if there is no name service, and no network that needs one is known.

    This waits for half a second at the most.
    """
    totals, needed = None, picture is not None and any(n.names for n in picture.networks.values())
    try:
        totals = read(run_dir)
    except NoNameService:
        pass
    except WatcherError:
        needed = True  # it is there, but does not tell
    if totals is None and not needed:
        return
    yield GaugeMetricFamily(
        "watcher_names_up",
        "Whether the name service told its counts: 1 if it did, else 0.",
        value=int(totals is not None),
    )
    if totals is not None:
        yield from _state(totals)
        yield from _questions(totals)
        yield from _upstream(totals)


def _state(totals: NameTotals) -> Iterator[Metric]:
    for name, help_, value in (
        ("start_time_seconds", "When the name service started, in seconds since 1970.",
         totals.since.timestamp()),
        ("connected", "Whether it hears of containers from the events socket.",
         int(totals.connected is not None)),
        ("sandboxes", "Sandboxes that may ask.", totals.sandboxes),
        ("known", "Names that resolve.", totals.names),
        ("views", "Sets of networks that are asked from.", totals.views),
    ):  # fmt: skip
        yield GaugeMetricFamily(f"watcher_names_{name}", help_, value=value)
    if totals.others is not None:
        for name, help_, value in (
            ("others_connected", "Whether it hears of other hosts from `watcher cluster`.",
             int(totals.others.connected is not None)),
            ("others_hosts", "Other hosts that are heard of.", totals.others.hosts),
            ("others_sandboxes", "Sandboxes that other hosts have told of.",
             totals.others.sandboxes),
        ):  # fmt: skip
            yield GaugeMetricFamily(f"watcher_names_{name}", help_, value=value)


def _questions(totals: NameTotals) -> Iterator[Metric]:
    questions = CounterMetricFamily(
        "watcher_names_questions",
        "Questions of containers, by how they ended.",
        labels=["outcome", "transport"],
    )
    for transport, counts in (("udp", totals.udp), ("tcp", totals.tcp)):
        for outcome, count in counts.items():
            questions.add_metric([label(outcome), transport], count)
    yield questions
    yield GaugeMetricFamily(
        "watcher_names_waiting",
        "Questions from addresses that no container is known to have yet.",
        value=totals.waiting,
    )
    yield _by_outcome(
        "watcher_names_waited", "Such questions by how their wait ended.", totals.waited
    )
    yield _by_outcome(
        "watcher_names_openings",
        "Answers to containers with names in a list of egress, by what became of their addresses.",
        totals.openings,
    )
    yield GaugeMetricFamily(
        "watcher_names_tcp_clients", "Clients that are connected by TCP.", value=totals.connections
    )
    yield CounterMetricFamily(
        "watcher_names_tcp_connections",
        "Clients that have connected by TCP.",
        value=totals.connections_total,
    )


def _upstream(totals: NameTotals) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "watcher_names_under_way",
        "Questions that servers have not answered yet.",
        value=totals.under_way,
    )
    yield _by_outcome(
        "watcher_names_upstream", "Questions to servers, by how each ended.", totals.upstream
    )
    yield _latency(totals.latency)
    lookups = CounterMetricFamily(
        "watcher_names_cache_lookups",
        "Questions for others, by whether the cache had the answer.",
        labels=["result"],
    )
    lookups.add_metric(["hit"], totals.cache_hits)
    lookups.add_metric(["miss"], totals.cache_misses)
    yield lookups
    yield GaugeMetricFamily(
        "watcher_names_cache_entries", "Answers in the cache.", value=totals.cache_entries
    )
    yield GaugeMetricFamily(
        "watcher_names_cache_bytes", "Bytes of the answers in the cache.", value=totals.cache_bytes
    )


def _by_outcome(name: str, help_: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, help_, labels=["outcome"])
    for outcome, count in counts.items():
        family.add_metric([label(outcome)], count)
    return family


def _latency(histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return HistogramMetricFamily(
        "watcher_names_upstream_duration_seconds",
        "How long containers waited for answers of servers.",
        buckets=list(zip(bounds, accumulate(histogram.counts), strict=True)),
        sum_value=histogram.sum,
    )
