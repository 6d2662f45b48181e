"""Other firewalls of the host: whether they drop what containers send or get, and the remedy.

`accept` in one nftables table does not undo a `drop` in another's chain (nft(8)), so what another
firewall drops has to be put right there, in its own way.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from handlers.kernel import sysctl
from handlers.kernel.netlink import Netlink
from handlers.kernel.uplink import uplink_index
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.checks.filters import host
from watcher.checks.filters.chains import Packet, fate
from watcher.model.network import gateway

if TYPE_CHECKING:
    from watcher.checks.filters.chains import Chain, Hook, Table
    from watcher.model.address import Address, Subnet
    from watcher.model.network import Network

_FAR: Final = {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8::1")}
"""An address of no network of anybody's (RFC 5737, RFC 3849)."""

_FAMILIES: Final = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}
_PORTS: Final = "netnsv*"
"""The host ends of veth pairs, between which a bridge forwards."""

_BRIDGED: Final = {4: "bridge/bridge-nf-call-iptables", 6: "bridge/bridge-nf-call-ip6tables"}
"""Whether what a bridge forwards goes through these filters as well: Docker turns it on
(`Documentation/networking/ip-sysctl.rst`, `bridge-nf-call-*`)."""


def findings(subject: Subject) -> Iterator[Finding]:
    """Each chain of another firewall that drops the traffic of one of the networks."""
    integrate = subject.config.firewall.integrate
    found: list[Finding] = []
    uplinks = {version: _uplink(version) for version in (4, 6)}
    tables = host.tables()
    for network in subject.networks.values():
        for table in tables:
            found += _forwarded(table, network, uplinks, integrate=integrate)
            found += _received(table, network)
    found += [
        warn(
            f"the table {table} of {command} cannot be read here",
            f"see whether `{command} -t {table} -S FORWARD` drops what containers send",
        )
        for command, table in host.unreadable()
    ]
    yield from found or [ok("no other firewall drops what containers send or get")]


def _forwarded(
    table: Table, network: Network, uplinks: dict[int, str], *, integrate: bool
) -> Iterator[Finding]:
    """What `table` drops between the containers of `network` and the world, or each other."""
    packets = [
        packet
        for subnet in network.subnets
        for packet in _packets(table, network, subnet, uplinks[subnet.version])
    ]
    for chain in table.base_chains("forward"):
        fates = [fate(table, chain, packet) for packet in packets]
        if any(f.dropped and f.certain for f in fates):
            yield fail(
                f"{_named(table, chain)} drops what containers on {network.bridge} send or get",
                _remedy(table, chain, network.bridge, integrate=integrate),
            )
        elif any(f.dropped for f in fates):
            yield warn(
                f"{_named(table, chain)} may drop what containers on {network.bridge} send or get",
                _remedy(table, chain, network.bridge, integrate=integrate),
            )


def _received(table: Table, network: Network) -> Iterator[Finding]:
    """What `table` drops of what the containers of `network` send to the host itself."""
    for chain in table.base_chains("input"):
        for subnet in network.subnets:
            if subnet.version not in _FAMILIES.get(table.family, ()):
                continue
            packet = Packet(network.bridge, "", _host(subnet), gateway(subnet))
            if fate(table, chain, packet).dropped:
                yield warn(
                    f"{_named(table, chain)} drops what containers on {network.bridge} send to the"
                    " host's own services, such as a resolver; published ports are not affected",
                    _accept(table, chain, [("iif", network.bridge)], "input"),
                )
                break


def _packets(table: Table, network: Network, subnet: Subnet, uplink: str) -> Iterator[Packet]:
    """What containers of `network` send and get, as far as it goes through `table`."""
    container, far = _host(subnet), _FAR[subnet.version]
    if table.family == "bridge" and not network.isolate:
        yield Packet(_PORTS.replace("*", "0-1"), _PORTS.replace("*", "0-2"), container, container)
    if subnet.version not in _FAMILIES.get(table.family, ()):
        return
    if not network.internal:  # to the world, its answer, and a connection to a published port
        yield Packet(network.bridge, uplink, container, far)
        yield Packet(uplink, network.bridge, far, container, state="established")
        yield Packet(uplink, network.bridge, far, container, dnat=True)
    if not network.isolate and sysctl.get(_BRIDGED[subnet.version]) == "1":
        yield Packet(network.bridge, network.bridge, container, container)


def _host(subnet: Subnet) -> Address:
    return gateway(subnet) + 1


def _uplink(version: int) -> str:
    """The interface with the default route; one that no rule names where there is none."""
    with Netlink() as netlink:
        index = uplink_index(netlink, version)
    return socket.if_indextoname(index) if index else "uplink"


def _named(table: Table, chain: Chain) -> str:
    if _is_firewalld(table):
        return f"firewalld ({_place(table, chain)})"
    owner = "Docker's " if "DOCKER-USER" in table.chains and chain.name == "FORWARD" else ""
    owner = "ufw's " if _is_ufw(table) else owner
    return f"{owner}{_place(table, chain)}"


def _place(table: Table, chain: Chain) -> str:
    if table.command == "nft":
        return f"chain {chain.name} of nftables table {table.family} {table.name}"
    return f"chain {chain.name} of {table.command} table {table.name}"


def _remedy(table: Table, chain: Chain, bridge: str, *, integrate: bool) -> str:
    """The commands to paste, in the way that this firewall wants it."""
    if _is_firewalld(table):
        return f"{_firewalld(bridge)}, or {_itself(integrate=integrate)}"
    if _is_ufw(table):
        return f"run `ufw route allow in on {bridge}` and `ufw route allow out on {bridge}`"
    if table.family == "bridge":
        return _accept(table, chain, [("iif", _PORTS)], "forward")
    remedy = _accept(table, chain, [("iif", bridge), ("oif", bridge)], "forward")
    if "DOCKER-USER" in table.chains and chain.name == "FORWARD":
        return f"{remedy}, or {_itself(integrate=integrate)}"
    return remedy


def _itself(*, integrate: bool) -> str:
    if integrate:
        return "run `watcher sync`, which does so with integrate = true"
    return "set integrate = true in [firewall]"


def _accept(table: Table, chain: Chain, where: list[tuple[str, str]], hook: Hook) -> str:
    """Commands that let pass what has each of the interfaces `where`."""
    if _is_firewalld(table):
        return _firewalld(where[0][1])
    if _is_ufw(table):
        return " and ".join(f"run `ufw allow in on {name}`" for _, name in where)
    if table.command == "nft":
        place = f"{table.family} {table.name} {chain.name}"
        words = [f"nft insert rule {place} {kind}name '\"{name}\"' accept" for kind, name in where]
    else:
        # Docker puts its own chain back in front of whatever else is in FORWARD.
        docker = "DOCKER-USER" in table.chains and hook == "forward" and chain.name == "FORWARD"
        name = "DOCKER-USER" if docker else chain.name
        option = {"iif": "-i", "oif": "-o"}
        in_table = "" if table.name == "filter" else f" -t {table.name}"
        words = [
            f"{table.command}{in_table} -I {name} {option[kind]} {interface} -j ACCEPT"
            for kind, interface in where
        ]
    return "run " + " and ".join(f"`{word}`" for word in words)


def _firewalld(bridge: str) -> str:
    return (
        f"run `firewall-cmd --permanent --zone=trusted --add-interface={bridge}`"
        " and `firewall-cmd --reload`"
    )


def _is_firewalld(table: Table) -> bool:
    """Whether firewalld made it, with nftables or with its older way by iptables."""
    by_name = table.command == "nft" and table.name == "firewalld"
    return by_name or "FORWARD_POLICIES" in table.chains


def _is_ufw(table: Table) -> bool:
    return any(name in table.chains for name in ("ufw-before-forward", "ufw6-before-forward"))
