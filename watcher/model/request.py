"""The request in a container's annotations, which the lease store keeps as a document.

A new option is a field of :class:`Request` with a default, its parser in
:mod:`watcher.containers.annotations`, and the handler that reads it from `member.asked`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from watcher.model.address import Address

type Protocol = Literal["tcp", "udp", "sctp"]

type Sysctl = tuple[str, str]
"""A kernel setting, a path below `/proc/sys/net`, and its value."""


class PortMap(Struct, frozen=True, order=True, array_like=True):
    """Consecutive host ports, mostly one, each forwarded to a port of a sandbox.

    Attributes:
        protocol: `tcp`, `udp` or `sctp`.
        host_ip: the host's address. `None` is every address of both families, an unspecified
            address (`0.0.0.0`, `::`) every address of its family.
        host_port: the first host port, 1 to 65535. In a request alone, 0 is one port that is yet
            to be chosen, the same on every address.
        port: the sandbox's port for that one, 1 to 65535.
        length: the number of ports.
    """

    protocol: Protocol
    host_ip: Address | None
    host_port: int
    port: int
    length: int = 1

    @property
    def to_choose(self) -> bool:
        """Whether the host port is yet to be chosen."""
        return not self.host_port

    @property
    def last(self) -> int:
        """The last host port."""
        return self.host_port + self.length - 1

    def at(self, host_port: int) -> PortMap:
        """The port map of one of its host ports."""
        return PortMap(
            self.protocol, self.host_ip, host_port, self.port + host_port - self.host_port
        )

    def singles(self) -> Iterator[PortMap]:
        """The port map of each of its host ports, in ascending order."""
        return (self.at(host_port) for host_port in range(self.host_port, self.last + 1))

    def __str__(self) -> str:
        ip = self.host_ip
        if self.to_choose:
            return f"{self.port}/{self.protocol}"
        host = "" if ip is None else f"[{ip}]:" if ip.version == 6 else f"{ip}:"
        if self.length == 1:
            return f"{host}{self.host_port}:{self.port}/{self.protocol}"
        end = self.port + self.length - 1
        return f"{host}{self.host_port}-{self.last}:{self.port}-{end}/{self.protocol}"


class Request(Struct, frozen=True, omit_defaults=True, tag_field="version", tag=1):
    """What a container's annotations ask for.

    `version` in its JSON says which fields it may have. A new field needs no new version, because a
    program that does not know it skips it; a changed meaning of a field does.

    Attributes:
        networks: names of networks in the order of `eth0`, `eth1`, …; empty means `none`;
            `None` without the annotation: the network `default`.
        share: the id or name of the container whose sandbox it is to be in.
        ports: its port maps; no two overlap, and none continues the one before it. Which host ports
            were chosen is in :class:`watcher.model.sandbox.Member`.
        addresses: fixed addresses, at most one of each family.
        mac: fixed MAC of the first interface, lower case with colons.
        sysctl: kernel settings of its network namespace, in the order to write them.
        names: what it is called beside its id, in lower case.
        dns: who its other questions go to; empty means `none`: it gets no resolv.conf; `None`
            without the annotation.
        egress, ingress: entries of lists (:mod:`watcher.model.policy.entries`): where it may open
            connections to, and who may open them to its published ports.
        ingress_bandwidth, egress_bandwidth: bits a second that it may receive and send.
        connections: the most entries in the host's table of connections.
        hostname: that of its `config.json`, in lower case; empty if it has none, or none that DNS
            could have. No annotation says it.
        annotated: whether it has any annotation of ours.
    """

    networks: tuple[str, ...] | None = None
    share: str | None = None
    ports: tuple[PortMap, ...] = ()
    addresses: tuple[Address, ...] = ()
    mac: str | None = None
    sysctl: tuple[Sysctl, ...] = ()
    annotated: bool = False
    names: tuple[str, ...] = ()
    dns: tuple[Address, ...] | None = None
    hostname: str = ""
    egress: tuple[str, ...] | None = None
    ingress: tuple[str, ...] | None = None
    ingress_bandwidth: int | None = None
    egress_bandwidth: int | None = None
    connections: int | None = None

    @property
    def named_ports(self) -> tuple[PortMap, ...]:
        """Its port maps that name their host ports."""
        return tuple([port for port in self.ports if not port.to_choose])

    @property
    def options(self) -> Request:
        """The request without networks, addresses, MAC, ports, `share` and hostname."""
        return replace(
            self, networks=None, share=None, ports=(), addresses=(), mac=None, annotated=False,
            hostname="",
        )  # fmt: skip
