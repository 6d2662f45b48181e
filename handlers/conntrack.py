"""Connection tracking: UDP flows that would stick to what a port was before.

TCP connections end with their peers; a UDP flow has no end, so a client that keeps asking would be
led to a sandbox that is gone, or past one that is new.

Flows are listed by their port and then deleted one by one: a filter by an IPv6 address takes the
flows of all others (`ctnetlink_filter_match_tuple` in `net/netfilter/nf_conntrack_netlink.c`).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, ip_address
from typing import Final

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, nfct_msg

from handlers import rtnl
from handlers.handler import without
from handlers.netlink import (
    NLM_F_DUMP,
    NLM_F_REQUEST,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    encode,
)
from watcher.config import Network
from watcher.model import Address, Member, PortMap, Repair, Sandbox

NETLINK_NETFILTER: Final = 12
_CT_GET, _CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
"""NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_* (`include/uapi/linux/netfilter/nfnetlink*.h`)."""
_CTA_TUPLE_ORIG, _CTA_TUPLE_IP, _CTA_ZONE, _NESTED = 1, 1, 18, 0x8000
_CTA_IP_DST: Final = {4: 2, 6: 4}
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
"""All of it is the host's, though only one of it is listed."""


class ConntrackHandler:
    """Owns nothing, but ends the UDP flows to ports that are published or taken back."""

    def __init__(self, netlink: Netlink, networks: Mapping[str, Network]) -> None:
        self._route = netlink
        self._networks = networks
        self._netlink = Netlink(NETLINK_NETFILTER)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def appear(self, sandbox: Sandbox) -> None:
        """End flows to the published UDP ports which lead to the host itself."""
        self._end(sandbox.ports)

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """End flows which lead to the UDP ports of those `leaving`."""
        rest = without(sandbox, leaving)
        kept = () if rest is None else rest.ports
        self._end(port for port in sandbox.ports if port not in kept)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Nothing: flows end as ports come and go."""
        del sandboxes, dry_run
        return []

    def _end(self, ports: Iterable[PortMap]) -> None:
        udp = [port for port in ports if port.protocol == "udp"]
        if not udp:
            return
        local = frozenset(self._local_addresses())
        requests = [
            request
            for port in udp
            for version in ((4, 6) if port.host_ip is None else (port.host_ip.version,))
            for request in self._deletions(port, version, local)
        ]
        if requests:
            try:
                self._netlink.send(requests)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:  # it ended by itself
                    raise

    def _deletions(
        self, port: PortMap, version: int, local: frozenset[Address]
    ) -> Iterator[bytearray]:
        """The requests that delete the flows of IP `version` to `port` of the host."""
        for body in self._netlink.dump(_flows(version, port.host_port)):
            values = dict(attributes(body, 4))
            flow = values[_CTA_TUPLE_ORIG]
            ip = dict(attributes(dict(attributes(flow, 0))[_CTA_TUPLE_IP], 0))
            address = ip_address(bytes(ip[_CTA_IP_DST[version]]))
            if _concerns(port.host_ip, address, local):
                yield _deletion(version, flow, values.get(_CTA_ZONE))

    def _local_addresses(self) -> list[Address]:
        """The host's own addresses, to which a flow from a client is addressed."""
        bodies = self._route.dump(rtnl.addresses(0))
        return [address.ip for address in rtnl.read_addresses(bodies)]


def _concerns(host_ip: Address | None, address: Address, local: frozenset[Address]) -> bool:
    """Whether a port map on `host_ip` takes what is addressed to `address`."""
    if host_ip is not None and not host_ip.is_unspecified:
        return host_ip == address
    return address in local or address in _LOOPBACK


def _flows(version: int, port: int) -> bytearray:
    """Ask for the flows of UDP that were addressed to `port`."""
    original = NFCTAttrTuple(proto=socket.IPPROTO_UDP, dport=port, family=_FAMILIES[version])
    message = nfct_msg()
    message["nfgen_family"] = _FAMILIES[version]
    message["attrs"] = [
        ["CTA_TUPLE_ORIG", {"attrs": original.attrs()}],
        ["CTA_FILTER", {"attrs": [["CTA_FILTER_ORIG_FLAGS", original.flags]]}],
    ]
    return encode(message, _CT_GET, NLM_F_DUMP)


def _deletion(version: int, flow: memoryview, zone: memoryview | None) -> bytearray:
    """Delete one flow, named as the kernel has listed it."""
    content = bytearray(struct.pack("=BBH", _FAMILIES[version], 0, 0))
    content += attribute(_CTA_TUPLE_ORIG | _NESTED, flow)
    if zone is not None:
        content += attribute(_CTA_ZONE, zone)
    header = struct.pack("=IHHII", 16 + len(content), _CT_DELETE, NLM_F_REQUEST, 0, 0)
    return bytearray(header) + content
