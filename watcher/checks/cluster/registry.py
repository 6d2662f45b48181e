"""Whether etcd answers this host and lets it in, and whether what it has suits this host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.checks.cluster.state import some
from watcher.cluster.asking import client
from watcher.cluster.etcd.requests import is_version, put
from watcher.cluster.registry.keys import Keys
from watcher.cluster.registry.removal import read_picture
from watcher.clustering.identity import host_name, machine, own_address
from watcher.config.clusters import HOST
from watcher.model.cluster import blocks_in
from watcher.model.errors import WatcherError, message_of, quoted

if TYPE_CHECKING:
    from watcher.cluster.etcd.client import Etcd
    from watcher.cluster.etcd.words import Status
    from watcher.cluster.registry.picture import Picture
    from watcher.cluster.registry.records import NetworkRecord
    from watcher.config.settings import Cluster, Config
    from watcher.model.network import Network

_LOOK: Final = "see whether etcd runs there: `etcdctl endpoint health`"

_FULL: Final = 0.1
"""The part of a network's blocks that should be free."""


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong with etcd, or that nothing is; nothing without a cluster."""
    if not subject.config.cluster.etcd:
        return
    yield from _of_certificate(subject.config.cluster)
    try:
        yield from asyncio.run(_asked(subject.config))
    except WatcherError as error:
        yield fail(error.what, error.remedy)


def _of_certificate(settings: Cluster) -> Iterator[Finding]:
    """Whether others may read the directory of the password; its file itself has to be root's."""
    for name in ("key", "password_file"):
        path = Path(getattr(settings, name) or "/")
        try:
            writable = path.parent.stat().st_mode & 0o022
        except OSError as error:
            yield fail(f"{path.parent}, which cluster.{name} is in: {message_of(error)}", "make it")
            continue
        if writable:
            yield warn(
                f"others than root may replace the file of cluster.{name}, as they may write to"
                f" {path.parent}",
                f"run `chmod go-w {path.parent}`",
            )


async def _asked(config: Config) -> list[Finding]:
    """What is found by asking.

    Raises:
        WatcherError: etcd does not answer, or does not let this host in.
    """
    keys = Keys(config.cluster.prefix)
    async with client(config.cluster) as etcd:
        found = list(_of_members(await etcd.statuses()))
        picture = await read_picture(etcd, keys)
        await _try_to_write(etcd, keys)
    found += [*_of_host(config, picture), *_of_ports(config, picture)]
    found += _of_networks(config, picture)
    well = f"etcd answers, and lets this host read and write below {config.cluster.prefix}/"
    return found or [ok(well)]


def _of_members(statuses: dict[str, Status | str]) -> Iterator[Finding]:
    for url, status in statuses.items():
        if isinstance(status, str):
            yield warn(f"the member {url} of etcd does not answer: {status}", _LOOK)
        elif not status.leader:
            yield warn(f"the member {url} of etcd has no leader", _LOOK)


async def _try_to_write(etcd: Etcd, keys: Keys) -> None:
    """Ask for a change that etcd does not make, as its condition never holds.

    Whether the user may make it is looked at before (`checkTxnAuth` in server/auth of etcd).

    Raises:
        EtcdError: the user may not.
    """
    await etcd.txn([is_version(keys.layout, -1)], [put(keys.layout, b"")])


def _of_host(config: Config, picture: Picture) -> Iterator[Finding]:
    """Whether another machine has this host's name, or its address."""
    name, address = host_name(config.cluster), own_address(config.cluster)
    if not HOST.fullmatch(name):
        yield fail(
            f"this host's name {quoted(name)} cannot stand in etcd",
            "write another one by `host` in [cluster]: up to 63 of a-z, 0-9, - and .",
        )
        return
    record = picture.host(name)
    if record is not None and record.machine not in ("", machine()):
        yield fail(
            f"another machine is the host {quoted(name)} of the cluster, at {record.address}",
            f"write another name by `host` in [cluster]; if that one is gone for good, run"
            f" `watcher hosts rm {name}`",
        )
    entry = picture.addresses.get(str(address))
    if entry is not None and entry.record not in (None, name):
        yield fail(
            f"host {quoted(str(entry.record))} of the cluster has this host's address {address}",
            "write this host's own by `address` in [cluster]; if that host is gone for good, run"
            f" `watcher hosts rm {entry.record}`",
        )


def _of_ports(config: Config, picture: Picture) -> Iterator[Finding]:
    """Whether the other hosts send VXLAN to the port at which this one takes it."""
    port = config.cluster.port
    others = sorted(
        name
        for name, entry in picture.hosts.items()
        if entry.record and entry.record.port not in (0, port)
    )
    if others and any(network.tunnelled for network in config.networks.values()):
        yield fail(
            f"VXLAN is at UDP port {port} here, and at another one on {some(others)}: nothing"
            " arrives by it",
            "write the same `port` in [cluster] on all hosts",
        )


def _of_networks(config: Config, picture: Picture) -> Iterator[Finding]:
    """Whether the networks are the same on all hosts, and whether they have free blocks."""
    for network in config.networks.values():
        record = picture.network(network.name) if network.cluster else None
        if record is None:
            continue
        if {*record.subnets} != {*map(str, network.subnets)} or record.block != network.block:
            yield fail(
                f"network {network.name} is {_shown(network)} here, and {_shown(record)} on the"
                " other hosts: this host takes no part in it",
                f"write the same in [network.{network.name}] on all hosts, or give it another name"
                " here",
            )
        else:
            yield from _of_room(network, picture)


def _of_room(network: Network, picture: Picture) -> Iterator[Finding]:
    for subnet in network.subnets:
        there = blocks_in(subnet, network.block)
        taken = sum(
            part.network == network.name and part.version == subnet.version
            for part in picture.blocks
        )
        if there - taken < there * _FULL:
            tell = warn if taken < there else fail
            yield tell(
                f"the hosts have taken {taken} of the {there} blocks of {subnet} of network"
                f" {network.name}",
                "see `watcher hosts ls` for hosts that are gone, and add a network with a larger"
                " subnet, or a smaller block",
            )


def _shown(network: Network | NetworkRecord) -> str:
    return f"{', '.join(map(str, network.subnets))} in blocks of {network.block}"
