"""The words of the project as data: container, network, lease, port map, sandbox, repair.

Everything here is frozen and knows nothing of where it came from: neither of runc's files, nor of
the lease store, nor of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

type Address = IPv4Address | IPv6Address
type AddressWithPrefix = IPv4Interface | IPv6Interface
type Protocol = Literal["tcp", "udp", "sctp"]


class Status(StrEnum):
    """What `watcher ls` shows of a container (CONTRACT.md, "Command line")."""

    ATTACHED = "attached"
    SHARED = "shared"
    WAITING = "waiting"
    FAILED = "failed"
    IGNORED = "ignored"
    EXITED = "exited"


class Namespace(StrEnum):
    """Whose network namespace a container's configuration names."""

    OWN = "own"
    JOINED = "joined"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Process:
    """A process for certain: a pid alone is reused.

    Attributes:
        pid: process id in the host's pid namespace.
        start: start time in clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc(5)).
    """

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Container:
    """One entry of a root, as runc and `/proc` tell of it.

    Attributes:
        root: the runc state directory that it is in.
        id: its name in that root.
        init: its first process.
        bundle: the directory of its `config.json`; empty if unknown.
        labels: its annotations.
        namespace: whose network namespace its configuration asks for.
        joined: the namespace path in its configuration; empty unless `namespace` is JOINED.
        user_namespace: whether its configuration asks for a user namespace, its own or another's.
        netns: inode number of its network namespace on nsfs; `None` once its init has ended.
    """

    root: str
    id: str
    init: Process
    bundle: str
    labels: Mapping[str, str] = field(hash=False)
    namespace: Namespace
    joined: str
    netns: int | None
    user_namespace: bool = False

    @property
    def alive(self) -> bool:
        """Whether its init runs."""
        return self.netns is not None

    @property
    def has_own_netns(self) -> bool:
        """Whether its configuration asks for a network namespace of its own."""
        return self.namespace is Namespace.OWN


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


@dataclass(frozen=True, slots=True)
class Interface:
    """One veth pair of a sandbox with its leases.

    Attributes:
        ordinal: 0 for `eth0`, 1 for the second network's, …
        network: the network's name.
        name: its name inside, `eth0`.
        host_name: the host end, `netnsv0-<init pid>`.
        mac: the MAC inside, lower case with colons.
        addresses: the leases, each with its subnet's prefix length; at the most one of a family.
    """

    ordinal: int
    network: str
    name: str
    host_name: str
    mac: str
    addresses: tuple[AddressWithPrefix, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A container of a sandbox.

    Attributes:
        root, id: where it is, as in :class:`Container`.
        init: its first process.
        ports: the port maps that it asked for.
    """

    root: str
    id: str
    init: Process
    ports: tuple[PortMap, ...] = ()

    def is_(self, container: Container) -> bool:
        """Whether this is `container`, and not one of that name before or after it."""
        return (self.id, self.root, self.init) == (container.id, container.root, container.init)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One network namespace and the containers in it: what gets a network.

    Attributes:
        key: the lease store's number for it, never used twice.
        id: the id of the container that it was made for.
        init: that container's first process; its pid is in the names of the host's links.
        netns: inode number of the namespace on nsfs.
        interfaces: its links, `eth0` first.
        members: the containers in it that live; the first may have gone.
        pins: the names under `netns_dir` that lead to it: its own id, unless a newer sandbox has
            taken that, and the id of each member.
    """

    key: int
    id: str
    init: Process
    netns: int
    interfaces: tuple[Interface, ...]
    members: tuple[Member, ...]
    pins: tuple[str, ...]

    @property
    def ports(self) -> tuple[PortMap, ...]:
        """The port maps of all its containers."""
        return tuple(port for member in self.members for port in member.ports)

    def is_of(self, container: Container) -> bool:
        """Whether it was made for `container`."""
        return (self.id, self.init) == (container.id, container.init)

    def member(self, container: Container) -> Member | None:
        """The member that is `container`, and not one of that name before it."""
        return next((member for member in self.members if member.is_(container)), None)


@dataclass(frozen=True, slots=True)
class Repair:
    """One difference between what is and what should be, found by sync.

    Attributes:
        what: the thing and what was done to it, e.g. `made veth netnsv0-812`.
        sandbox: the sandbox's id; empty where it is of the host as a whole.
        why: what was found, e.g. `link was missing`.
        link: the host end of the link that it is about, if it is about one.
        error: why it could not be put right, though all else was; empty where it was.
    """

    what: str
    sandbox: str
    why: str
    link: str = ""
    error: str = ""
