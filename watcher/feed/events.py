"""Tells facts as events, with what they change in the state.

Every text in them may come from a container's files, and is JSON afterwards: :mod:`msgspec` escapes
control characters, and what prints an event for people has to make it printable.
"""

from __future__ import annotations

from datetime import UTC, datetime
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Final

from watcher.facts import kinds
from watcher.feed.lines import (
    ContainerPart,
    Event,
    FailureLine,
    InterfacePart,
    SandboxLine,
)
from watcher.model.keys import PREFIX
from watcher.model.sandbox import without

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watcher.facts.kinds import Fact
    from watcher.model.address import AddressWithPrefix
    from watcher.model.sandbox import Interface, Member, Sandbox
    from watcher.store.failures import Failure

SANDBOX: Final = "sandbox"
FAILURE: Final = "failure"
"""What the keys of the two kinds of lines begin with."""

_NAMES: Final[dict[type[Fact], str]] = {
    kinds.Attached: "attached",
    kinds.Detached: "detached",
    kinds.Published: "published",
    kinds.Unpublished: "unpublished",
    kinds.Connected: "connected",
    kinds.Disconnected: "disconnected",
    kinds.Rejected: "rejected",
    kinds.ConnectionsFull: "connections-full",
    kinds.Opened: "opened",
    kinds.Repaired: "repaired",
    kinds.NotRepaired: "not-repaired",
    kinds.RightAgain: "right-again",
    kinds.NetworkTaken: "network-taken",
    kinds.NetworkFree: "network-free",
    kinds.Failed: "failed",
    kinds.Forgotten: "forgotten",
    kinds.Unmet: "ignored",
    kinds.Unread: "unread",
    kinds.LeftNamespace: "left-namespace",
    kinds.BundleChanged: "bundle-changed",
    kinds.RequestChanged: "request-changed",
    kinds.PortTaken: "port-taken",
    kinds.PortFree: "port-free",
    kinds.HeldTooLong: "held-too-long",
    kinds.NotHeld: "not-held",
    kinds.Evaded: "evaded",
    kinds.NoResolvConf: "no-resolv-conf",
    kinds.Reloaded: "reloaded",
    kinds.HostSeen: "host-joined",
    kinds.HostSilent: "host-silent",
    kinds.HostReturned: "host-returned",
    kinds.HostRemoved: "host-removed",
    kinds.BlockTaken: "block-taken",
    kinds.BlockReturned: "block-returned",
    kinds.BlockLost: "block-lost",
    kinds.ClusterReached: "cluster-connected",
    kinds.ClusterUnreachable: "cluster-disconnected",
}
REFUSED: Final = "refused"
"""The kind of a failure whose start was denied."""

KINDS: Final = (*_NAMES.values(), REFUSED)
"""All kinds of events."""


def kind_of(fact: Fact) -> str | None:
    """The kind of event that `fact` is; `None` if it is none."""
    if isinstance(fact, kinds.Failed) and fact.refused:
        return REFUSED
    return _NAMES.get(type(fact))


def event_of(fact: Fact, kind: str, seq: int, at: float) -> Event:  # noqa: C901 (a case for each)
    """`fact` as the event `seq` of `kind`, which happened `at` that time, in seconds since 1970."""
    time = datetime.fromtimestamp(at, UTC)
    match fact:
        case kinds.Attached(sandbox, members, seconds):
            line = sandbox_line(sandbox)
            arrived = line.containers if members == sandbox.members else _containers(members)
            return Event(
                seq, time, kind, arrived, sandbox.id, line.interfaces, seconds=seconds, set=(line,),
                unset=tuple([failure_key(member.root, member.id) for member in members]),
            )  # fmt: skip
        case kinds.Detached(sandbox, members, seconds):
            left = without(sandbox, members)
            return Event(
                seq, time, kind, _containers(members), sandbox.id,
                _interfaces(sandbox.interfaces) if left is None else (), seconds=seconds,
                set=() if left is None else (sandbox_line(left),),
                unset=(sandbox_key(sandbox.netns),) if left is None else (),
            )  # fmt: skip
        case kinds.Published(sandbox, member, ports) | kinds.Unpublished(sandbox, member, ports):
            return Event(
                seq, time, kind, _containers((member,)), sandbox.id,
                ports=tuple(map(str, ports)), set=(sandbox_line(sandbox),),
            )  # fmt: skip
        case kinds.Connected(sandbox, interface) | kinds.Disconnected(sandbox, interface):
            return Event(
                seq, time, kind, _containers(sandbox.members), sandbox.id,
                _interfaces((interface,)), network=interface.network, set=(sandbox_line(sandbox),),
            )  # fmt: skip
        case kinds.Rejected(sandbox, direction, entry):
            return Event(
                seq, time, kind, _containers(sandbox.members), sandbox.id,
                annotation=PREFIX + direction, value=entry,
            )  # fmt: skip
        case kinds.ConnectionsFull(sandbox):
            return Event(
                seq, time, kind, _containers(sandbox.members), sandbox.id,
                annotation=PREFIX + "connections",
            )  # fmt: skip
        case kinds.Opened(sandbox, name, addresses):
            return Event(
                seq, time, kind, _containers(sandbox.members), sandbox.id, what=name,
                value=",".join(addresses),
            )  # fmt: skip
        case kinds.Repaired(repair) | kinds.NotRepaired(repair):
            return Event(
                seq, time, kind, sandbox=repair.sandbox, what=repair.what,
                reason=": ".join(filter(None, (repair.why, repair.error))),
            )  # fmt: skip
        case kinds.RightAgain(link):
            return Event(seq, time, kind, what=link)
        case kinds.NetworkTaken(network, reason):
            return Event(seq, time, kind, network=network, reason=reason)
        case kinds.NetworkFree(network):
            return Event(seq, time, kind, network=network)
        case kinds.Failed(root, id_, init, key, value, reason, refused, cause, failed_at):
            of, pid = failure_key(root, id_), 0 if init is None else init.pid
            since = datetime.fromtimestamp(failed_at, UTC)
            failed = FailureLine(of, root, id_, cause, reason, since, key, value)
            return Event(
                seq, time, kind, (ContainerPart(root, id_, pid),), reason=reason, cause=cause,
                annotation=key, value=value,
                set=() if refused or not id_ else (failed,), unset=(of,) if refused else (),
            )  # fmt: skip
        case kinds.Forgotten(root, id_):
            return Event(
                seq, time, kind, (ContainerPart(root, id_),), unset=(failure_key(root, id_),)
            )
        case kinds.PortTaken(root, id_, port, _, reason, remedy):
            return Event(
                seq, time, kind, (ContainerPart(root, id_),), ports=(str(port),), reason=reason,
                remedy=remedy,
            )  # fmt: skip
        case kinds.PortFree(root, id_, of_port):
            return Event(seq, time, kind, (ContainerPart(root, id_),), ports=(str(of_port),))
        case kinds.RequestChanged(root, id_, before):
            return Event(
                seq, time, kind, (ContainerPart(root, id_),), ports=tuple(map(str, before))
            )
        case kinds.HeldTooLong(root, id_, timeout, verdict):
            return Event(
                seq, time, kind, (ContainerPart(root, id_),), verdict=verdict, seconds=timeout
            )
        case kinds.NotHeld(root, id_, verdict):
            return Event(seq, time, kind, (ContainerPart(root, id_),), verdict=verdict)
        case (
            kinds.Unmet(root, id_, reason)
            | kinds.Unread(root, id_, reason)
            | kinds.NoResolvConf(root, id_, reason)
        ):
            return Event(seq, time, kind, (ContainerPart(root, id_),), reason=reason)
        case kinds.Reloaded():
            return Event(seq, time, kind)
        case kinds.OfContainer(root, id_):
            return Event(seq, time, kind, (ContainerPart(root, id_),))
    return _of_cluster(fact, kind, seq, time)


def _of_cluster(fact: Fact, kind: str, seq: int, time: datetime) -> Event:
    match fact:
        case kinds.HostSeen(host, address):
            return Event(seq, time, kind, host=host, address=str(address))
        case kinds.HostSilent(host) | kinds.HostReturned(host) | kinds.HostRemoved(host):
            return Event(seq, time, kind, host=host)
        case kinds.BlockTaken(network, prefix) | kinds.BlockReturned(network, prefix):
            return Event(seq, time, kind, network=network, block=str(prefix))
        case kinds.BlockLost(network, prefix, reason):
            return Event(seq, time, kind, network=network, block=str(prefix), reason=reason)
        case kinds.ClusterReached():
            return Event(seq, time, kind)
        case kinds.ClusterUnreachable(reason):
            return Event(seq, time, kind, reason=reason)
    raise AssertionError(fact)


def sandbox_line(sandbox: Sandbox) -> SandboxLine:
    """The line of a sandbox."""
    return SandboxLine(
        sandbox_key(sandbox.netns), sandbox.id, sandbox.netns, _containers(sandbox.members),
        _interfaces(sandbox.interfaces), sandbox.init.pid, sandbox.limits.egress,
        sandbox.limits.policy,
    )  # fmt: skip


def failure_line(failure: Failure) -> FailureLine:
    """The line of a failure that the store keeps."""
    return FailureLine(
        failure_key(failure.root, failure.id), failure.root, failure.id,
        failure.cause or failure.key or "other", failure.reason,
        datetime.fromtimestamp(failure.at, UTC), failure.key, failure.value,
    )  # fmt: skip


def sandbox_key(netns: int) -> str:
    """The key of a sandbox: no two that live at once are in one namespace."""
    return f"{SANDBOX}/{netns}"


def failure_key(root: str, id_: str) -> str:
    """The key of a container's failure; an id has no slash."""
    return f"{FAILURE}/{id_}{root}"


def _containers(members: Iterable[Member]) -> tuple[ContainerPart, ...]:
    return tuple(
        [
            ContainerPart(
                m.root,
                m.id,
                m.init.pid,
                m.asked.names,
                tuple([str(p) for p in m.ports]),
                m.asked.hostname,
                tuple([str(server) for server in m.asked.dns or ()]),
            )
            for m in members
        ]
    )


def _interfaces(interfaces: Iterable[Interface]) -> tuple[InterfacePart, ...]:
    return tuple(
        [
            InterfacePart(
                i.name, i.host_name, i.network, i.mac, tuple([_text(a) for a in i.addresses])
            )
            for i in interfaces
        ]
    )


def _text(address: AddressWithPrefix) -> str:
    """The address without its prefix; :mod:`ipaddress` needs ten times as long for IPv6."""
    return inet_ntop(AF_INET if address.version == 4 else AF_INET6, address.packed)
