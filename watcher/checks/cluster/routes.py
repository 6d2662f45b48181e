"""Whether the routes to other hosts are as the service has made them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from handlers.cluster.handler import ClusterHandler
from handlers.context import ClusterView, open_context
from watcher.checks.check import Finding, Subject, fail, ok
from watcher.checks.kernel import Forgetful
from watcher.clustering.identity import own_address
from watcher.locks.serving import serving
from watcher.model.errors import WatcherError
from watcher.store.reading import read_store

if TYPE_CHECKING:
    from watcher.model.repair import Repair


def findings(subject: Subject) -> Iterator[Finding]:
    """What a sync would repair; nothing where no network is clustered, or no service runs."""
    networks = [network for network in subject.networks.values() if network.cluster]
    if not subject.config.cluster.etcd or not networks or serving() is None:
        return
    try:
        repairs = _repairs(subject)
    except WatcherError:  # the check of the leases tells
        return
    for repair in repairs:
        yield fail(f"watcher would have {repair.what}: {repair.why}", "run `watcher sync`")
    if not repairs:
        yield ok("the routes to what other hosts have are as they should be")


def _repairs(subject: Subject) -> list[Repair]:
    settings = subject.config.cluster
    with read_store(subject.config) as store:
        view = ClusterView(store.cluster, partial(own_address, settings), settings.port)
        with open_context(
            "", "", subject.networks, Forgetful(), Forgetful(), list, cluster=view
        ) as context:
            return ClusterHandler(context).look(dry_run=True)
