"""What is seen in a sandbox's network namespace, and what those whom it may ask answer.

Whoever has CAP_NET_ADMIN in there decides how long each list is, so all are read up to a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.kernel import rtnl
from handlers.kernel.foreign_names import index_of
from handlers.kernel.namespace import HostNamespace
from handlers.kernel.netlink import MOST, Netlink, NetlinkError
from handlers.kernel.probes import (
    AddressQuery,
    ArpRequest,
    Echo,
    NameQuery,
    Probe,
    Solicitation,
    ask_all,
)
from handlers.kernel.sockdiag import ListeningSocket, SockDiag
from handlers.link import sandbox_end
from handlers.link.sandbox_end import End
from watcher.model.errors import message_of
from watcher.model.names import DNS_PORT

if TYPE_CHECKING:
    from handlers.networks.driver import Driver
    from watcher.checks.container.asking import Asking
    from watcher.checks.container.legs import Leg
    from watcher.checks.container.resolvers import ResolvConf
    from watcher.model.address import Address
    from watcher.model.sandbox import Interface, Sandbox

PATIENCE: Final = 1.2
"""Seconds to wait for answers; those that come at all take a few milliseconds, or a name server's
round trip."""

_SOCKETS: Final = 8192
"""About the most sockets that are read of one kind: some 50 ms."""

_SOME: Final = 256
"""About the most sockets that are read to tell where else the container listens."""


class Link(Struct, frozen=True):
    """A sandbox end.

    Attributes:
        end: as it is; `None` if it is missing.
        mac: its MAC.
        wrong: what is not as this program made it; empty if nothing is.
    """

    end: End | None
    mac: str = ""
    wrong: str = ""

    def has(self, leg: Leg) -> bool:
        """Whether it is up and has the address of `leg`."""
        address = leg.way.address
        wanted = address.packed, address.network.prefixlen
        return self.end is not None and self.end.up and wanted in self.end.addresses


class Default(Struct, frozen=True):
    """The default route of one IP version: by which next hop and interface, as far as known."""

    via: Address | None
    index: int


class Answer(Struct, frozen=True):
    """What came back from a gateway.

    Attributes:
        echo: whether it has answered an echo request.
        mac: the MAC of whoever has the address; empty if nobody answered, or nobody was asked.
        error: why the kernel could not send.
    """

    echo: bool
    mac: str
    error: str


class Server(Struct, frozen=True):
    """A name server: what it has answered, or why it has not, if anything is known."""

    address: Address
    answer: str
    error: str


class Inside(Struct, frozen=True):
    """What is seen inside.

    Attributes:
        loopback: whether `lo` is up.
        links: the sandbox ends by name.
        defaults: the default routes by IP version.
        listening: sockets on the published ports by protocol and port.
        elsewhere: sockets on other ports by protocol, where a published port has none.
        complete: whether all sockets on the published ports were read.
        gateways: what the gateways answered, by interface and IP version.
        conf: what its resolv.conf says.
        servers: what its name servers answered.
        named: what its gateway answered to the question for its own name; `None` if the network
            has no names.
    """

    loopback: bool
    links: Mapping[str, Link]
    defaults: Mapping[int, Default]
    listening: Mapping[str, Mapping[int, Sequence[ListeningSocket]]]
    elsewhere: Mapping[str, Sequence[ListeningSocket]]
    complete: bool
    gateways: Mapping[tuple[str, int], Answer]
    conf: ResolvConf
    servers: Sequence[Server]
    named: Server | None = None


def look(
    sandbox: Sandbox,
    drivers: Mapping[str, Driver],
    legs: Sequence[Leg],
    conf: ResolvConf,
    namespace: int,
    asking: Asking | None,
) -> Inside:
    """Look into `namespace` (a descriptor), and wait for the answers to what is asked there.

    Raises:
        OSError: the kernel does not tell.
    """
    asked: dict[tuple[str, int], tuple[Echo, Probe | None]] = {}
    queries: list[NameQuery] = []
    question: AddressQuery | None = None
    try:
        with closing(HostNamespace()) as home, home.left_for(namespace):
            with Netlink(most=MOST) as netlink:
                loopback = netlink.is_up("lo")
            links = {one.name: _link(sandbox, one, drivers) for one in sandbox.interfaces}
            defaults = _defaults()
            listening, complete = _listening(sandbox)
            elsewhere = _elsewhere(sandbox, listening)
            for leg in legs:
                link = links[leg.interface.name]
                if leg.gateway is not None and link.has(leg):
                    key = leg.interface.name, leg.version
                    asked[key] = Echo(leg.address, leg.gateway), _neighbour(leg, link)
            for server in conf.servers:
                queries.append(NameQuery(server, _scope(server)))  # noqa: PERF401 (to be closed)
            if asking is not None:
                question = AddressQuery(asking.server, DNS_PORT, asking.name)
        gateways = [probe for pair in asked.values() for probe in pair if probe is not None]
        questions = [] if question is None else [question]
        ask_all([*gateways, *queries, *questions], PATIENCE)
        return Inside(
            loopback, links, defaults, listening, elsewhere, complete,
            {key: _answer(*pair) for key, pair in asked.items()}, conf,
            [Server(*one) for one in zip(conf.servers, *_told(queries), strict=True)],
            Server(asking.server, question.answer, question.error)
            if asking is not None and question is not None else None,
        )  # fmt: skip
    finally:
        for probe in (*(one for pair in asked.values() for one in pair), *queries, question):
            if probe is not None:
                probe.close()


def _told(queries: Iterable[NameQuery]) -> tuple[list[str], list[str]]:
    queries = list(queries)
    return [query.answer for query in queries], [query.error for query in queries]


def _answer(echo: Echo, neighbour: Probe | None) -> Answer:
    mac = "" if neighbour is None else neighbour.answer
    error = echo.error or ("" if neighbour is None else neighbour.error)
    return Answer(bool(echo.answer), mac, error)


def _link(sandbox: Sandbox, interface: Interface, drivers: Mapping[str, Driver]) -> Link:
    with Netlink(most=MOST) as netlink:
        try:
            end = sandbox_end.look(netlink, interface)
            body = None if end is None else netlink.get(rtnl.link(interface.name))
            wrong = sandbox_end.missing(netlink, sandbox, interface, drivers, end)
        except OSError as error:  # a list is too long, or the interface has just gone
            return Link(None, wrong=message_of(error))
    return Link(end, "" if body is None else rtnl.read_link(body).mac, wrong)


def _defaults() -> dict[int, Default]:
    """The default routes, of whichever table."""
    found = {}
    with Netlink(most=MOST) as netlink:
        for version in (4, 6):
            with suppress(NetlinkError):  # there is none, or it refuses
                body = netlink.get(rtnl.route_out(version))
                if body is not None and (index := rtnl.read_route_index(body)):
                    route = rtnl.read_route(body)
                    found[version] = Default(None if route is None else route.via, index)
    return found


def _listening(
    sandbox: Sandbox,
) -> tuple[dict[str, Mapping[int, Sequence[ListeningSocket]]], bool]:
    """The sockets on the published ports, and whether all of them were read."""
    found: dict[str, Mapping[int, Sequence[ListeningSocket]]] = {}
    with closing(SockDiag(most=_SOCKETS)) as sock_diag:
        for protocol in {port.protocol for port in sandbox.ports}:
            some = [port for port in sandbox.ports if port.protocol == protocol]
            low = min(port.port for port in some)
            high = max(port.port + port.length - 1 for port in some)
            found[protocol] = sock_diag.listening(protocol, low, high, explicit=True)
        return found, sock_diag.complete


def _elsewhere(
    sandbox: Sandbox, listening: Mapping[str, Mapping[int, Sequence[ListeningSocket]]]
) -> dict[str, list[ListeningSocket]]:
    found: dict[str, list[ListeningSocket]] = {}
    for port in sandbox.ports:
        protocol = port.protocol
        if protocol not in found and port.port not in listening[protocol]:
            with closing(SockDiag(most=_SOME)) as sock_diag:
                others = sock_diag.listening(protocol, 1, 65535, explicit=True)
            found[protocol] = [socket for sockets in others.values() for socket in sockets]
    return found


def _neighbour(leg: Leg, link: Link) -> Probe | None:
    """Who has the gateway's address; `None` if nobody answers to that on such a network."""
    own, gateway, name = leg.address, leg.gateway, leg.interface.name
    if not leg.network.facts.on_link or link.end is None:
        return None
    if isinstance(own, IPv4Address) and isinstance(gateway, IPv4Address):
        return ArpRequest(name, link.mac, own, gateway)
    if isinstance(own, IPv6Address) and isinstance(gateway, IPv6Address):
        return Solicitation(link.end.index, link.mac, own, gateway)
    return None


def _scope(server: Address) -> int:
    """The number of the interface in an address such as `fe80::1%eth0`; 0 if there is none."""
    name = server.scope_id if isinstance(server, IPv6Address) else None
    if not name:
        return 0
    with Netlink() as netlink:
        index = index_of(netlink, name)
    return index or (int(name) % (1 << 32) if name.isdecimal() else 0)
