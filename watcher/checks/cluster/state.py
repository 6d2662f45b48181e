"""What `watcher cluster` tells, and what this host holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.cluster.endpoints.reading import NoHosts
from watcher.cluster.known import from_socket
from watcher.locks.serving import serving
from watcher.model.errors import WatcherError
from watcher.store.reading import read_store
from watcher.store.room import room

if TYPE_CHECKING:
    from watcher.cluster.known import KnownHosts
    from watcher.model.cluster import Block
    from watcher.model.network import Network

_SHOWN: Final = 5
"""The most hosts, or blocks, that a line names."""


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong, or that nothing is; nothing without a cluster."""
    if not subject.config.cluster.etcd:
        return
    found = [*_of_cluster(subject), *_of_blocks(subject)]
    yield from found
    networks = _clustered(subject)
    if not networks:
        yield ok("no network is clustered", 'write cluster = true in one with mode = "routed"')


def _clustered(subject: Subject) -> list[Network]:
    return [network for network in subject.networks.values() if network.cluster]


def _of_cluster(subject: Subject) -> Iterator[Finding]:
    """Whether `watcher cluster` runs, and what it knows."""
    try:
        known = from_socket(subject.config.run_dir)
    except NoHosts as error:
        if serving() is None:
            yield ok("this host joins the cluster once `watcher run` and `watcher cluster` run")
        else:
            yield fail(
                f"{error.what}: this host goes on with the blocks that it holds",
                error.remedy,
            )
        return
    except WatcherError as error:
        yield warn(error.what, error.remedy)
        return
    if known.problem:
        tell = fail if known.connected else warn
        yield tell(f"`watcher cluster` takes no part: {known.problem}", "see the log of it")
    silent = [host.name for host in known.hosts.values() if host.state == "silent"]
    if silent:
        yield warn(
            f"{len(silent)} of {len(known.hosts)} hosts are silent: {some(silent)}",
            "see whether they run; `watcher hosts rm` gives back what one has that is gone",
        )
    if not known.problem and not silent:
        yield ok(_told(known))


def _told(known: KnownHosts) -> str:
    others = len(known.hosts) - 1
    return f"`watcher cluster` hears of {others} other host{'' if others == 1 else 's'}"


def _of_blocks(subject: Subject) -> Iterator[Finding]:
    """What this host has to lease from, network by network."""
    networks = _clustered(subject)
    if not networks:
        return
    try:
        with read_store(subject.config) as store:
            used, lent = store.cluster.used(), store.cluster.lent()
    except WatcherError:  # the check of the leases tells
        return
    for network in networks:
        lost = [
            block.prefix
            for block, leased in used
            if block.network == network.name and block.state == "lost" and leased
        ]
        if lost:
            yield warn(
                f"network {network.name}: containers have addresses of {some(lost)}, which other"
                " hosts may have taken by now",
                "restart these containers; see `watcher ls`",
            )
        yield from _of_room(network, used, lent.get(network.name, ()))


def _of_room(
    network: Network, used: Sequence[tuple[Block, int]], lent: Sequence[str]
) -> Iterator[Finding]:
    for subnet in network.subnets:
        found = room(network, subnet, used, lent)
        what = f"network {network.name} has {found.free} free addresses of {subnet}"
        if found.free:
            yield ok(f"{what} in {found.blocks} block{'' if found.blocks == 1 else 's'}")
        elif serving() is not None:
            yield fail(
                f"{what} on this host: containers that ask for none are refused",
                "see the other lines of `watcher check` for why it gets no further block",
            )


def some(things: Sequence[object]) -> str:
    """The first of `things`, and how many more there are."""
    more = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return ", ".join(map(str, things[:_SHOWN])) + more
