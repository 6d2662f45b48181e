"""Ports that a process of the host listens on though a container publishes them.

An attach refuses such a port (:mod:`watcher.reconcile.ports`). Here is what may come later: the
container keeps the port, because the rules rewrite packets before the kernel looks for a socket,
and the process gets only what they leave.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from typing import Final

from msgspec import Struct

from handlers.kernel.sockdiag import Listeners, ListeningSocket, SockDiag, clashing, span_of
from watcher.model import keys
from watcher.model.errors import InvalidRequest
from watcher.model.network import Network
from watcher.model.request import PortMap
from watcher.model.sandbox import Sandbox, published_at
from watcher.reconcile.ports import REMEDY

AT_ONCE: Final = 8192
"""About the most sockets of one kind that a command reads: some 50 ms."""


class Taken(Struct, frozen=True):
    """A published port that a process of the host listens on.

    Attributes:
        root, id: the container that publishes it.
        port: the port map of that port alone.
        listener: the process's socket.
        gets: what the process gets of the traffic to it.
        more: how many more ports of the container are taken.
    """

    root: str
    id: str
    port: PortMap
    listener: ListeningSocket
    gets: str
    more: int = 0

    def message(self, process: str = "") -> str:
        """What is wrong; `process` is what is known of that process."""
        listener = self.listener
        what = f"a process of the host{f' ({process})' if process else ''} listens on"
        message = f"{what} {listener.address} port {listener.port}, and gets {self.gets}"
        if self.more:
            ports = "port is" if self.more == 1 else "ports are"
            message += f" ({self.more} more published {ports} taken)"
        return message

    def error(self, process: str = "") -> InvalidRequest:
        """The same as an error of the annotation, as an attach would raise it."""
        return InvalidRequest(keys.PORTS, self.port, self.message(process), REMEDY)


def gets(port: PortMap, listener: ListeningSocket, versions: Collection[int]) -> str:
    """What `listener` gets of the traffic to `port`, which is forwarded for IP `versions`.

    The rules take what goes to the host's own addresses (`fib daddr type local`).
    """
    heard, forwarded = _heard(listener), _forwarded(port, versions)
    if not heard & forwarded:
        return f"all of it, because it is not forwarded by {_families(heard)}"
    left = []
    if port.host_ip is not None and not port.host_ip.is_unspecified:
        if listener.address.is_unspecified:
            left.append(f"what goes to other addresses than {port.host_ip}")
    else:
        if other := heard - forwarded:
            left.append(f"what comes by {_families(other)}")
        if port.protocol == "udp" and listener.address.is_unspecified:
            left.append("broadcasts and multicasts")
    return f"only {' and '.join(left)}" if left else "nothing of what is sent there"


def _any_in(port: PortMap, numbers: Sequence[int]) -> bool:
    """Whether one of the ordered `numbers` is a host port of `port`, of whatever address."""
    at = bisect_left(numbers, port.host_port)
    return at < len(numbers) and numbers[at] <= port.last


def _heard(listener: ListeningSocket) -> set[int]:
    return {4, 6} if listener.both else {listener.address.version}


def _forwarded(port: PortMap, versions: Collection[int]) -> set[int]:
    host_ip = port.host_ip
    return {v for v in versions if host_ip is None or host_ip.version == v}


def _loses(port: PortMap, listener: ListeningSocket, versions: Collection[int]) -> bool:
    return bool(_heard(listener) & _forwarded(port, versions))


def _families(versions: Collection[int]) -> str:
    return " and ".join(f"IPv{version}" for version in sorted(versions))


def versions_of(sandbox: Sandbox, networks: Mapping[str, Network]) -> list[int]:
    """The IP versions by which the port maps of `sandbox` are forwarded."""
    if not networks.keys() >= set(sandbox.networks):  # one has gone from the configuration
        return sorted({address.version for address in sandbox.leased})
    return [v for v in (4, 6) if published_at(sandbox, networks, v) is not None]


def find(
    sandboxes: Sequence[Sandbox], networks: Mapping[str, Network]
) -> tuple[dict[tuple[str, str], Taken], bool]:
    """What is taken now of each container's ports, and whether all sockets were looked at.

    Raises:
        OSError: the kernel does not tell.
    """
    ports = [port for sandbox in sandboxes for port in sandbox.ports]
    if not ports:
        return {}, True
    with closing(SockDiag(most=AT_ONCE)) as sock_diag:
        listeners: Listeners = {
            protocol: sock_diag.listening(protocol, *span_of(ports, protocol), explicit=True)
            for protocol in sorted({port.protocol for port in ports})
        }
        complete = sock_diag.complete
    numbers = {protocol: list(by_port) for protocol, by_port in listeners.items()}
    found = {}
    for sandbox in sandboxes:
        for member in sandbox.members:
            some = [port for port in member.ports if _any_in(port, numbers[port.protocol])]
            one = first(member.root, member.id, some, listeners, sandbox, networks)
            if one is not None:
                found[member.root, member.id] = one
    return found, complete


def first(
    root: str,
    id_: str,
    ports: Sequence[PortMap],
    listeners: Listeners,
    sandbox: Sandbox,
    networks: Mapping[str, Network],
) -> Taken | None:
    """The first of a container's `ports` that is taken, if any; it is in `sandbox`.

    Of several sockets on that port, one that loses traffic is preferred.
    """
    found = list(clashing(ports, listeners)) if ports else []
    if not found:
        return None
    versions = versions_of(sandbox, networks)
    port = found[0][0]
    some = [listener for one, listener in found if one == port]
    listener = next((one for one in some if _loses(port, one, versions)), some[0])
    more = len({(one.protocol, one.host_port) for one, _ in found}) - 1
    return Taken(root, id_, port, listener, gets(port, listener, versions), more)
