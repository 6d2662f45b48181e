"""Every kind of fact; each is about one container, sandbox, link, network or host of a cluster.

They are of msgspec, which makes a class faster than dataclasses do: every command imports them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from watcher.model.address import Address, Subnet
    from watcher.model.container import Process
    from watcher.model.repair import Repair
    from watcher.model.request import PortMap
    from watcher.model.sandbox import Interface, Member, Sandbox


class Fact(Struct, frozen=True):
    """Something that has happened."""


class Reloaded(Fact, frozen=True):
    """The service has taken a changed configuration."""


class Leased(Fact, frozen=True):
    """The lease store has what `members` get of `sandbox`, and the host is about to."""

    sandbox: Sandbox
    members: tuple[Member, ...]


class Attached(Fact, frozen=True):
    """The containers `members` have their network, that of `sandbox`; it took `seconds`."""

    sandbox: Sandbox
    members: tuple[Member, ...]
    seconds: float


class Detached(Fact, frozen=True):
    """The containers `members` have left `sandbox`, which is given as it was before.

    Taking back what was theirs took `seconds`.
    """

    sandbox: Sandbox
    members: tuple[Member, ...]
    seconds: float


class Published(Fact, frozen=True):
    """The container `member` of `sandbox` publishes more `ports`, by the administrator's word."""

    sandbox: Sandbox
    member: Member
    ports: tuple[PortMap, ...]


class Unpublished(Fact, frozen=True):
    """It publishes `ports` no more, by the administrator's word."""

    sandbox: Sandbox
    member: Member
    ports: tuple[PortMap, ...]


class Connected(Fact, frozen=True):
    """A running `sandbox` has got the `interface`, by the administrator's word."""

    sandbox: Sandbox
    interface: Interface


class Disconnected(Fact, frozen=True):
    """A running `sandbox` has lost the `interface`, by the administrator's word."""

    sandbox: Sandbox
    interface: Interface


class Rejected(Fact, frozen=True):
    """Connections of `sandbox`, or to its published ports, were rejected; bounded in their rate.

    Attributes:
        direction: `egress` or `ingress`, the list that does not have it.
        entry: what that list would need to have, e.g. `192.0.2.1:80/tcp` or `pypi.org`.
    """

    sandbox: Sandbox
    direction: str
    entry: str


class ConnectionsFull(Fact, frozen=True):
    """`sandbox` has as many connections as it may have, so new ones are rejected.

    While that lasts, it is published once a minute.
    """

    sandbox: Sandbox


class Opened(Fact, frozen=True):
    """The name service has told `sandbox` that `name` has `addresses`; its list allows that name.

    It is published when an address is opened that was not open before by that name; bounded in
    its rate.
    """

    sandbox: Sandbox
    name: str
    addresses: tuple[str, ...]


class Repaired(Fact, frozen=True):
    """A difference was repaired."""

    repair: Repair


class NotRepaired(Fact, frozen=True):
    """A difference cannot be repaired; published once for each cause."""

    repair: Repair


class RightAgain(Fact, frozen=True):
    """A link that could not be repaired is as it should be."""

    link: str


class NetworkTaken(Fact, frozen=True):
    """The host uses addresses of the network elsewhere, so it refuses containers.

    Attributes:
        network: its name.
        reason: why, with the remedy.
    """

    network: str
    reason: str


class NetworkFree(Fact, frozen=True):
    """The host uses addresses of the network nowhere else any more."""

    network: str


class HostSeen(Fact, frozen=True):
    """The cluster has a host that this one did not know, or that had another address.

    Attributes:
        host: its name.
        address: what the others reach it by.
    """

    host: str
    address: Address


class HostSilent(Fact, frozen=True):
    """A `host` of the cluster has not been heard of for its `ttl`. Its addresses stay its own."""

    host: str


class HostReturned(Fact, frozen=True):
    """A silent `host` of the cluster is heard of again."""

    host: str


class HostRemoved(Fact, frozen=True):
    """The cluster has the `host` no more."""

    host: str


class BlockTaken(Fact, frozen=True):
    """This host leases from `prefix` of `network` from now on: a block, or a claim."""

    network: str
    prefix: Subnet


class BlockReturned(Fact, frozen=True):
    """This host has given `prefix` of `network` back."""

    network: str
    prefix: Subnet


class BlockLost(Fact, frozen=True):
    """This host leases from `prefix` of `network` no more, as another host may have it.

    Attributes:
        network: the network's name.
        prefix: the block, or the claim.
        reason: why.
    """

    network: str
    prefix: Subnet
    reason: str


class ClusterReached(Fact, frozen=True):
    """This host hears of the cluster: etcd answers."""


class ClusterUnreachable(Fact, frozen=True):
    """This host does not hear of the cluster any more.

    Attributes:
        reason: why, with the remedy.
    """

    reason: str


class OfContainer(Fact, frozen=True):
    """Something that has happened to the container `id` of `root`."""

    root: str
    id: str


class Failed(OfContainer, frozen=True):
    """It has no network; a failure that stays the same is published once.

    Attributes:
        init: its first process, if known.
        key, value: the annotation at fault; empty if none is.
        reason: why, with the remedy.
        refused: whether its start was denied.
        cause: one of few words for what went wrong: the annotation, `unknown-annotation`,
            `unreadable`, the name of a kernel error such as `ENOSPC`, or `other`.
        at: the time, in seconds since the epoch.
    """

    init: Process | None
    key: str
    value: str
    reason: str
    refused: bool
    cause: str
    at: float


class Forgotten(OfContainer, frozen=True):
    """It has failed before, and that is over: it has its network, needs none, or has gone."""


class Released(OfContainer, frozen=True):
    """Its runtime was held for `seconds`, and was answered: `allowed` to start it, or not."""

    seconds: float
    allowed: bool


class Unmet(OfContainer, frozen=True):
    """It asks for a network, but is left alone; published once for each init."""

    reason: str


class Unread(OfContainer, frozen=True):
    """It keeps its network, though its files can no longer be read."""

    reason: str


class LeftNamespace(OfContainer, frozen=True):
    """Its init has left the network namespace that has its network."""


class BundleChanged(OfContainer, frozen=True):
    """Its runtime read another `config.json` than the gate did."""


class RequestChanged(OfContainer, frozen=True):
    """Its request has changed from `before`, and is met anew."""

    before: tuple[PortMap, ...]


class PortTaken(OfContainer, frozen=True):
    """A process of the host listens on a port that the container publishes.

    Attributes:
        port: the first such port of the port map `of`.
        of: the port map.
        reason: on which address it listens, and which traffic it gets.
        remedy: what to do about it.
    """

    port: PortMap
    of: PortMap
    reason: str
    remedy: str


class PortFree(OfContainer, frozen=True):
    """No process of the host listens any more on a port of the port map `of`."""

    of: PortMap


class HeldTooLong(OfContainer, frozen=True):
    """The gate's deadline passed before its network was ready. Published by the gate's thread."""

    timeout: float
    verdict: str


class NotHeld(OfContainer, frozen=True):
    """It could not be held: too many bundles are on file systems that do not answer."""

    verdict: str


class NoResolvConf(OfContainer, frozen=True):
    """It is in a network with names, but gets no `/etc/resolv.conf`; published once for each cause.

    Attributes:
        reason: why, with the remedy.
    """

    reason: str


class Evaded(OfContainer, frozen=True):
    """It started in a root with a gate, but was not held."""
