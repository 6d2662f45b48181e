"""What a container's annotations ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from watcher.model.address import Address

type Protocol = Literal["tcp", "udp", "sctp"]


@dataclass(frozen=True, slots=True, order=True)
class PortMap:
    """Consecutive ports of the host, mostly one, each forwarded to a port of a sandbox.

    Attributes:
        protocol: `tcp`, `udp` or `sctp`.
        host_ip: the host's address. `None` is every address of both families, an unspecified
            address (`0.0.0.0`, `::`) every address of its own family.
        host_port: the first of the host, 1 to 65535.
        port: the sandbox's port for that one, 1 to 65535.
        length: how many; the others follow on either side.
    """

    protocol: Protocol
    host_ip: Address | None
    host_port: int
    port: int
    length: int = 1

    @property
    def last(self) -> int:
        """The last port of the host."""
        return self.host_port + self.length - 1

    def at(self, host_port: int) -> PortMap:
        """What it does with one of its ports of the host."""
        return PortMap(
            self.protocol, self.host_ip, host_port, self.port + host_port - self.host_port
        )

    def singles(self) -> Iterator[PortMap]:
        """What it does with each of its ports of the host, in ascending order."""
        return (self.at(host_port) for host_port in range(self.host_port, self.last + 1))

    def __str__(self) -> str:
        ip = self.host_ip
        host = "" if ip is None else f"[{ip}]:" if ip.version == 6 else f"{ip}:"
        if self.length == 1:
            return f"{host}{self.host_port}:{self.port}/{self.protocol}"
        end = self.port + self.length - 1
        return f"{host}{self.host_port}-{self.last}:{self.port}-{end}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Request:
    """What a container's annotations ask for (CONTRACT.md, "Annotations").

    Attributes:
        networks: names of networks in the order of `eth0`, `eth1`, …; empty means `none`;
            `None` where the annotation is absent: the network `default`.
        share: the id of the container whose sandbox it wants to be in.
        ports: its port maps; no two want the same traffic, and none goes on where the one before
            it ends.
        addresses: fixed addresses, at the most one of a family.
        mac: fixed MAC of the first interface, lower case with colons.
        annotated: whether it has any annotation of ours at all.
    """

    networks: tuple[str, ...] | None = None
    share: str | None = None
    ports: tuple[PortMap, ...] = ()
    addresses: tuple[Address, ...] = ()
    mac: str | None = None
    annotated: bool = False
