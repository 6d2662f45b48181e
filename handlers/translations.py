"""The flows that the kernel made while rules were missing, as during a reload of a firewall.

The kernel translates a flow as the rules say at its first packet, and then keeps to that as long as
somebody sends. So a flow that began without the rules never gets what they would have given it:

- the name service, if it is a sandbox's question to its gateway;
- the port map, if it is for an address and a port of the host that lead to a sandbox;
- the host's address, if it is from a sandbox whose network masquerades, and leaves the host's
  networks. To another host of the cluster, that is this host's address there, and sandboxes of
  clustered networks keep theirs. Likewise the bridge's address, if it is for a published port and
  comes from `localhost` or from the same network.

The rules are those of :mod:`handlers.firewall.ruleset`. A connection that both ends have is left
alone, whatever it lacks: the end of its flow would cut it. One to a published port is of a process
of the host that had the port before. One of a sandbox has answers, so it needs no translation.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Final

from msgspec import Struct

from handlers.kernel import flows, rtnl
from handlers.kernel.netlink import Netlink
from watcher.model.names import DNS_PORT, PORT
from watcher.model.naming import HOST_NAME
from watcher.model.network import Network, gateway
from watcher.model.request import PortMap
from watcher.model.sandbox import Sandbox, published_at

_LOOPBACK: Final = 127
"""The first byte of 127.0.0.0/8."""

_LOOPBACK6: Final = bytes(15) + b"\1"
_EVERY: Final = b""
"""In the place of a host address: a port map for every address."""

_PROTOCOLS: Final = {
    "tcp": int(socket.IPPROTO_TCP),
    "udp": int(socket.IPPROTO_UDP),
    "sctp": int(socket.IPPROTO_SCTP),
}


class _Forward(Struct, frozen=True):
    """Where a port map leads to for one IP version; `to` is the packed address of `sandbox`."""

    ports: PortMap
    sandbox: Sandbox
    to: bytes


_OF_QUESTIONS: Final = (_PROTOCOLS["tcp"], _PROTOCOLS["udp"])

type _Key = tuple[int, int, bytes]
"""Length of the addresses, number of the protocol, and the packed host address or `_EVERY`."""


class Translations:
    """What the rules make of flows to and from `sandboxes`, for one walk through the flows.

    Args:
        sandboxes: all sandboxes.
        networks: their networks, by name.
        netlink: a socket of the host.

    Raises:
        OSError: the kernel refused.
    """

    def __init__(
        self,
        sandboxes: Iterable[Sandbox],
        networks: Mapping[str, Network],
        netlink: Netlink,
    ) -> None:
        self._netlink = netlink
        self._bridges = {network.bridge for network in networks.values()}
        self._local = local_addresses(netlink)
        self._forwards: dict[_Key, list[_Forward]] = defaultdict(list)
        self._holders: dict[bytes, tuple[Sandbox, Network]] = {}
        self._leads_away: dict[bytes, bool] = {}
        self._clustered = [s for n in networks.values() if n.cluster for s in n.subnets]
        for sandbox in sandboxes:
            own = {i.network: networks[i.network] for i in sandbox.interfaces}
            for interface in sandbox.interfaces:
                for address in interface.addresses:
                    self._holders[address.packed] = sandbox, own[interface.network]
            if sandbox.ports:
                self._add_ports(sandbox, own)
        for forwards in self._forwards.values():
            forwards.sort(key=_first)

    def lacking(self, body: memoryview, ends: Sequence[bytes]) -> Sandbox | None:
        """The sandbox because of which a flow should be translated, if it is not.

        `body` is the flow as the kernel lists it, and `ends` what :func:`flows.ends` says of it.
        """
        source, asked, answers, answered = ends
        if is_local(asked, self._local):
            sandbox = self._lacks_name_service(body, ends) or self._lacks_port_map(body, ends)
        elif answered == source and source in self._holders:
            sandbox = self._lacks_masquerade(source, answers)
        else:
            return None
        return None if sandbox is None or flows.details(body).connected else sandbox

    def _add_ports(self, sandbox: Sandbox, networks: Mapping[str, Network]) -> None:
        for version in (4, 6):
            target = published_at(sandbox, networks, version)
            if target is None:
                continue
            to = target.packed
            for port in sandbox.ports:
                host = port.host_ip
                if host is None or host.version == version:
                    on = _EVERY if host is None or host.is_unspecified else host.packed
                    key = len(to), _PROTOCOLS[port.protocol], on
                    self._forwards[key].append(_Forward(port, sandbox, to))

    def _lacks_name_service(self, body: memoryview, ends: Sequence[bytes]) -> Sandbox | None:
        source, asked, _, _ = ends
        sandbox, network = self._holders.get(source, (None, None))
        if sandbox is None or network is None or not network.named:
            return None
        subnet = network.subnet_of(4 if len(asked) == 4 else 6)
        if subnet is None or gateway(subnet).packed != asked:
            return None
        details = flows.details(body)
        questions = details.port == DNS_PORT and details.protocol in _OF_QUESTIONS
        return sandbox if questions and details.answering != PORT else None

    def _lacks_port_map(self, body: memoryview, ends: Sequence[bytes]) -> Sandbox | None:
        source, asked, answers, answered = ends
        details = flows.details(body)
        forward = self._forward(details.protocol, asked, details.port)
        if forward is None:
            return None
        port = forward.ports.at(details.port).port
        if (answers, details.answering) != (forward.to, port):
            return forward.sandbox
        return forward.sandbox if answered == source and self._comes_back(source, answers) else None

    def _forward(self, protocol: int, address: bytes, port: int) -> _Forward | None:
        """The port map that the rules find: one of that address first."""
        for on in (address, _EVERY):
            forwards = self._forwards.get((len(address), protocol, on), [])
            place = bisect_right(forwards, port, key=_first)
            if place and port <= forwards[place - 1].ports.last:
                return forwards[place - 1]
        return None

    def _comes_back(self, source: bytes, to: bytes) -> bool:
        """Whether the answers of a published port would not come back here without masquerade."""
        if source == _LOOPBACK6 or _is_loopback4(source):
            return True
        holders = self._holders.get(source), self._holders.get(to)
        names = {None if holder is None else holder[1].name for holder in holders}
        return len(names) == 1 and None not in names

    def _lacks_masquerade(self, source: bytes, to: bytes) -> Sandbox | None:
        sandbox, network = self._holders[source]
        if self._is_clustered(to):
            return sandbox if not network.cluster and self._is_away(to) else None
        if not network.masquerade or network.internal or not self._is_routed(network, len(source)):
            return None
        return sandbox if self._is_away(to) else None

    def _is_routed(self, network: Network, size: int) -> bool:
        """Whether the host is the router of `network`, and not another machine on its bridge."""
        subnet = network.subnet_of(4 if size == 4 else 6)
        return subnet is not None and (network.managed or gateway(subnet).packed in self._local)

    def _is_clustered(self, packed: bytes) -> bool:
        """Whether a packed address is of a clustered network."""
        if not self._clustered:
            return False
        address = ip_address(packed)
        return any(address in subnet for subnet in self._clustered)

    def _is_away(self, address: bytes) -> bool:
        """Whether the way to one host with that packed address leaves the host's networks."""
        away = self._leads_away.get(address)
        if away is None:
            to = ip_address(address)
            away = not (to.is_multicast or to.is_link_local) and self._leaves(address, to.version)
            self._leads_away[address] = away
        return away

    def _leaves(self, address: bytes, version: int) -> bool:
        (answer,) = self._netlink.answers([rtnl.path_to(version, address)])
        index = rtnl.read_path(answer)
        name = self._netlink.name(index) if index else ""
        return bool(name) and name not in self._bridges and not HOST_NAME.fullmatch(name)


def local_addresses(netlink: Netlink) -> frozenset[bytes]:
    """The packed addresses of the host, of which `netlink` is a socket.

    Raises:
        OSError: the kernel refused.
    """
    listed = rtnl.read_packed(netlink.dump(rtnl.addresses(0)))
    return frozenset(packed for packed, _ in listed)


def is_local(packed: bytes, local: frozenset[bytes]) -> bool:
    """Whether a packed address is of the host, whose addresses are `local`.

    All of 127.0.0.0/8 is, though the kernel lists only one address.
    """
    return packed in local or _is_loopback4(packed)


def _is_loopback4(packed: bytes) -> bool:
    return packed[0] == _LOOPBACK and len(packed) == 4


def _first(forward: _Forward) -> int:
    return forward.ports.host_port
