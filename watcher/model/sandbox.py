"""A sandbox: one network namespace, its interfaces, and the containers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from watcher.model.address import Address, AddressWithPrefix
from watcher.model.container import Container, Process
from watcher.model.network import Network
from watcher.model.policy.limits import UNLIMITED, SandboxLimits
from watcher.model.request import PortMap, Request

_NOTHING: Final = Request()


class Interface(Struct, frozen=True):
    """One veth pair of a sandbox with its leases.

    Attributes:
        ordinal: 0 for `eth0`, 1 for the second network's, …
        network: the network's name.
        name: the name of the sandbox end, e.g. `eth0`.
        host_name: the name of the host end, `netnsv0-<init pid>`.
        mac: the MAC inside, lower case with colons.
        addresses: the leases, each with its subnet's prefix length; at most one of each family.
        member: root and id of the member that it was connected for, with which it goes; `None` if
            the sandbox was made with it.
        forced: whether its frames all go to the host, which forwards even those to neighbours
            (MAC-forced forwarding, RFC 4562). A network may ask the same of all.
    """

    ordinal: int
    network: str
    name: str
    host_name: str
    mac: str
    addresses: tuple[AddressWithPrefix, ...]
    member: tuple[str, str] | None = None
    forced: bool = False


class Member(Struct, frozen=True):
    """A container of a sandbox.

    Attributes:
        root, id: as in :class:`Container`.
        init: its first process.
        ports: its port maps, as they are on the host: with the host ports that were chosen for it,
            and as `watcher publish` and `unpublish` left them.
        asked: its request when it joined. For a member from before schema 4 of the lease store, it
            lacks fixed addresses, the MAC and `share`.
    """

    root: str
    id: str
    init: Process
    ports: tuple[PortMap, ...] = ()
    asked: Request = _NOTHING

    def is_(self, container: Container) -> bool:
        """Whether this is `container`, and not another one with the same id."""
        return (self.id, self.root, self.init) == (container.id, container.root, container.init)


class Sandbox(Struct, frozen=True):
    """One network namespace and the containers in it. A sandbox is what gets a network.

    Attributes:
        key: its number in the lease store, never reused.
        id: the id of the container that it was made for.
        init: that container's first process; its pid is in the names of the host ends.
        netns: inode number of the namespace on nsfs.
        interfaces: its links, `eth0` first.
        members: the live containers in it; the first one may have gone.
        pins: its names in `netns_dir`: the id of each member, and its own id unless a newer sandbox
            has that.
        kept: whether it has, or had, what neither annotations nor links tell, so that a copy of it
            is kept beside the lease store.
        limits: what it was limited to when it was made.
    """

    key: int
    id: str
    init: Process
    netns: int
    interfaces: tuple[Interface, ...]
    members: tuple[Member, ...]
    pins: tuple[str, ...]
    kept: bool = False
    limits: SandboxLimits = UNLIMITED

    @property
    def ports(self) -> tuple[PortMap, ...]:
        """The port maps of all its containers."""
        return tuple([port for member in self.members for port in member.ports])

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of its networks, in the order of its interfaces."""
        return tuple([interface.network for interface in self.interfaces])

    @property
    def leased(self) -> tuple[Address, ...]:
        """The addresses of all its interfaces."""
        return tuple([a.ip for interface in self.interfaces for a in interface.addresses])

    def is_of(self, container: Container) -> bool:
        """Whether it was made for `container`."""
        return (self.id, self.init) == (container.id, container.init)

    def member(self, container: Container) -> Member | None:
        """The member that is `container`, and not an earlier one with the same id."""
        for member in self.members:
            if member.is_(container):
                return member
        return None

    def named(self, root: str, id_: str) -> Member | None:
        """The member `id_` of `root`, whichever its init is."""
        return next((m for m in self.members if (m.root, m.id) == (root, id_)), None)


def without(sandbox: Sandbox, leaving: Sequence[Member]) -> Sandbox | None:
    """`sandbox` without the members `leaving` and what is theirs; `None` if no member is left."""
    members = tuple([member for member in sandbox.members if member not in leaving])
    if not members:
        return None
    gone = {member.id for member in leaving} - {member.id for member in members} - {sandbox.id}
    pins = tuple(name for name in sandbox.pins if name not in gone)
    theirs = {(member.root, member.id) for member in leaving}
    interfaces = tuple(one for one in sandbox.interfaces if one.member not in theirs)
    return replace(sandbox, members=members, pins=pins, interfaces=interfaces)


def without_interface(sandbox: Sandbox, gone: Interface) -> Sandbox:
    """`sandbox` without the interface `gone`, as the lease store has it then."""
    interfaces = tuple(one for one in sandbox.interfaces if one is not gone)
    return replace(sandbox, interfaces=interfaces, kept=True)


def published_at(sandbox: Sandbox, networks: Mapping[str, Network], version: int) -> Address | None:
    """The address that the port maps of `sandbox` lead to; `None` if it has none of IP `version`.

    `networks` has its networks by name. An internal network publishes nothing.
    """
    for interface in sandbox.interfaces:
        if not networks[interface.network].internal:
            for address in interface.addresses:
                if address.version == version:
                    return address.ip
    return None
