"""Checks whether other firewalls of the host drop the traffic of containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from watcher.checks.check import Finding, Subject, ok, warn
from watcher.checks.filters import host, packets, remedies
from watcher.checks.filters.fate import drops
from watcher.model.names import PORT
from watcher.model.network import gateway

if TYPE_CHECKING:
    from watcher.checks.filters.chains import Packet, Table
    from watcher.checks.filters.fate import Drop
    from watcher.model.address import Address
    from watcher.model.network import Network


def findings(subject: Subject) -> Iterator[Finding]:
    """Each chain of another firewall that drops the traffic of a network."""
    integrate = subject.config.firewall.integrate
    uplinks = {version: packets.uplink(version) for version in (4, 6)}
    tables = host.tables()
    found: list[Finding] = []
    for network in subject.networks.values():
        found += _of_network(network, tables, uplinks, integrate=integrate)
    found += [
        warn(
            f"the table {table} of {command} cannot be read here",
            f"see whether `{command} -t {table} -S FORWARD` drops what containers send",
        )
        for command, table in host.unreadable()
    ]
    yield from found or [ok("no other firewall drops what containers send or get")]


def _of_network(
    network: Network, tables: list[Table], uplinks: dict[int, str], *, integrate: bool
) -> Iterator[Finding]:
    """The drops in `tables` for a container in each subnet of `network`."""
    bridge = network.bridge
    containers = [(subnet, gateway(subnet) + 1) for subnet in network.subnets]
    forwarded = [
        packet
        for subnet, container in containers
        for packet in packets.forwarded(network, container, uplinks[subnet.version])
    ]
    received = [packets.received(network, subnet, container) for subnet, container in containers]
    questions = [
        list(packets.questions(network, subnet, container)) for subnet, container in containers
    ]
    for table in tables:
        for drop in drops(table, forwarded):
            yield remedies.told(
                drop,
                f"what containers on {bridge} send or get",
                remedies.to_forward(drop, network, integrate=integrate),
            )
        for drop, own in _to_names(table, questions):
            yield remedies.told(
                drop,
                f"the questions of containers on {bridge} to the name"
                f" service (port {PORT} of {own})",
                remedies.to_names(drop, network, own, integrate=integrate),
            )
        for drop in () if network.named else drops(table, received):
            yield warn(
                f"{remedies.named(drop)} drops what containers on {bridge} send to the"
                " host's own services, such as a resolver; published ports are not affected",
                remedies.to_receive(drop, network),
            )


def _to_names(table: Table, questions: list[list[Packet]]) -> Iterator[tuple[Drop, Address]]:
    """The drops of each list of packets to one gateway, and the gateway's address."""
    for some in questions:
        for drop in drops(table, some):
            yield drop, some[0].target
