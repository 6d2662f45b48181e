"""Servers of names on a throwaway host, real ones and ones that misbehave, and who asks them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Hashable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support import traffic
from tests.support.processes import end
from tests.support.waiting import eventually
from watcher.names.counts import Counts
from watcher.names.upstream.forwarder import Forwarder
from watcher.names.upstream.hosts_servers import HostsServers
from watcher.names.upstream.inquiry import Times
from watcher.names.wire.query import Query, parse

if TYPE_CHECKING:
    from tests.support.host import Host, Place

PATIENCE: Final = 15.0
PORT: Final = 53
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h

TIMES: Final = Times(each=1.0, all=2.5, local=0.5)
"""A server that answers has answered by then, also on a machine that is busy."""

type Behaviour = Callable[[bytes], Iterable[bytes]]
"""What a server sends for a message."""


def make_query(
    name: str,
    kind: str = "A",
    *,
    tcp: bool = False,
    edns: bool = False,
    dnssec: bool = False,
    flags: int = dns.flags.RD,
    number: int | None = None,
) -> Query:
    """A question as a client asks it."""
    message = dns.message.make_query(
        name, kind, use_edns=edns or dnssec, want_dnssec=dnssec, id=number
    )
    message.flags = dns.flags.Flag(flags)
    return parse(message.to_wire(), tcp=tcp)


def answer(message: bytes, *records: str, rcode: int = 0, authority: str = "") -> bytes:
    """The answer to a question, with records as `name ttl IN type data`."""
    response = dns.message.make_response(dns.message.from_wire(message))
    response.flags |= dns.flags.RA
    response.set_rcode(dns.rcode.Rcode(rcode))
    for section, texts in ((response.answer, records), (response.authority, (authority,))):
        for text in filter(None, texts):
            name, ttl, class_, kind, data = text.split(" ", 4)
            section.append(dns.rrset.from_text(name, int(ttl), class_, kind, data))
    return response.to_wire(max_size=65535)


def address(message: bytes, value: str = "198.51.100.7", ttl: int = 300) -> bytes:
    """The answer that the name has this address."""
    name = dns.message.from_wire(message).question[0].name
    return answer(message, f"{name} {ttl} IN A {value}")


def is_probe(message: bytes) -> bool:
    """Whether it is the question by which one learns whether a server is there."""
    return dns.message.from_wire(message).question[0].rdtype == dns.rdatatype.NS


class Peer:
    """A server in a network namespace that does what a test says.

    Attributes:
        asked: the messages that it got.
    """

    def __init__(
        self, asking: Asking, place: Place, address: str, udp: Behaviour, tcp: Behaviour | None
    ) -> None:
        self.asked: list[bytes] = []
        self._sources: list[Any] = []
        self.udp = udp
        self.tcp = tcp
        self._loop = asking.loop
        self._on_close = ExitStack()
        family = traffic.family_of(address)
        self._socket = self._open(place, family, socket.SOCK_DGRAM, address)
        self._loop.add_reader(self._socket, self._datagram)
        self._on_close.callback(self._loop.remove_reader, self._socket)
        if tcp is not None:
            listener = self._open(place, family, socket.SOCK_STREAM, address)
            listener.listen(64)
            self._loop.add_reader(listener, self._accept, listener)
            self._on_close.callback(self._loop.remove_reader, listener)

    def close(self) -> None:
        self._on_close.close()

    def send(self, reply: bytes, to: int = -1) -> None:
        """Sends a message to the port that the `to`-th question has come from."""
        self._socket.sendto(reply, self._sources[to])

    def _open(self, place: Place, family: int, kind: int, address: str) -> socket.socket:
        opened = self._on_close.enter_context(traffic.make_socket(place.netns, family, kind))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        opened.bind((address, PORT))
        opened.setblocking(False)
        return opened

    def _datagram(self) -> None:
        message, source = self._socket.recvfrom(4096)
        self.asked.append(message)
        self._sources.append(source)
        for reply in self.udp(message):
            self.send(reply)

    def _accept(self, listener: socket.socket) -> None:
        stream, _ = listener.accept()
        stream.setblocking(False)
        self._on_close.enter_context(stream)
        self._loop.add_reader(stream, self._stream, stream)

    def _stream(self, stream: socket.socket) -> None:
        message = stream.recv(4096)
        if message:
            assert self.tcp is not None
            self.asked.append(message[2:])
            for reply in self.tcp(message[2:]):
                stream.sendall(reply)
        self._loop.remove_reader(stream)
        stream.close()


class Asking:
    """A forwarder on a host, whose sockets are in the host's network namespace.

    Args:
        host: the host.
        times: its patience, mostly a part of the usual one.
        settings: as the forwarder has them.

    Attributes:
        said: what it has logged: the event and the server.
        resolv_conf, behind: files that it takes for the host's.
    """

    def __init__(self, host: Host, *, times: Times = TIMES, **settings: Any) -> None:
        self.host = host
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self._broken.append(context))
        self._broken: list[dict[str, Any]] = []
        self.counts = Counts()
        self.said: list[tuple[str, str]] = []
        self.resolv_conf = host.base / "resolv.conf"
        self.behind = host.base / "resolv.conf.behind"
        hosts = HostsServers(str(self.resolv_conf), str(self.behind))
        self.forwarder = Forwarder(
            self.loop, self.counts, self, hosts=hosts, times=times, **settings
        )
        self._closing = ExitStack()
        self._closing.callback(self.loop.close)
        self._closing.callback(self.forwarder.close)

    def close(self) -> None:
        self._closing.close()
        assert not self._broken, self._broken

    def warning(self, event: str, /, **fields: Any) -> None:
        """As of a log."""
        self.said.append((event, fields["server"]))

    debug = info = error = warning

    def peer(
        self,
        address: str,
        udp: Behaviour,
        tcp: Behaviour | None = None,
        *,
        place: Place | None = None,
    ) -> Peer:
        """A server on this host, or elsewhere."""
        peer = Peer(self, place or self.host.here, address, udp, tcp)
        self._closing.callback(peer.close)
        return peer

    def begin(self, query: Query, *servers: str, asker: Hashable = "web") -> asyncio.Future[bytes]:
        """Has the forwarder ask; the answer comes as the loop runs."""
        (future,) = self.begin_all([(query, asker)], *servers)
        return future

    def begin_all(
        self, questions: Iterable[tuple[Query, Hashable]], *servers: str
    ) -> list[asyncio.Future[bytes]]:
        """As :meth:`begin`, for many questions and who asks them."""
        begun = []
        with traffic.entered(self.host.here.netns):
            for query, asker in questions:
                begun.append(self.loop.create_future())
                self.forwarder.ask(query, servers, asker, begun[-1].set_result)
        return begun

    def wait(self, *futures: asyncio.Future[bytes]) -> list[dns.message.Message]:
        """The answers."""
        with traffic.entered(self.host.here.netns):
            together = asyncio.wait_for(_all(futures), PATIENCE)
            return [dns.message.from_wire(wire) for wire in self.loop.run_until_complete(together)]

    def ask(self, query: Query, *servers: str, asker: Hashable = "web") -> dns.message.Message:
        """The answer, which is one to this question."""
        (message,) = self.wait(self.begin(query, *servers, asker=asker))
        assert dns.message.from_wire(query.message).is_response(message)
        return message

    def until(self, condition: Callable[[], bool]) -> None:
        """Runs the loop until `condition` holds."""

        async def holds() -> None:
            while not condition():
                await asyncio.sleep(0.005)

        with traffic.entered(self.host.here.netns):
            self.loop.run_until_complete(asyncio.wait_for(holds(), PATIENCE))


async def _all(futures: tuple[asyncio.Future[bytes], ...]) -> list[bytes]:
    return list(await asyncio.gather(*futures))


def values(message: dns.message.Message) -> list[str]:
    """The data of the answers."""
    return [data.to_text() for rrset in message.answer for data in rrset]


def dnsmasq(host: Host, place: Place, listen: str, *options: str) -> None:
    """Starts a real server, which ends with the host."""
    process = host.popen(
        [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
            "--user=root", "--pid-file=", "--bind-interfaces", "--except-interface=none",
            f"--listen-address={listen}", "--log-facility=/dev/null", *options,
        ],
        netns=place,
    )  # fmt: skip

    host.on_close(lambda: end(process))

    def serves() -> bool:
        with traffic.make_socket(place.netns, traffic.family_of(listen), socket.SOCK_STREAM) as one:
            one.settimeout(PATIENCE)
            one.connect((listen, PORT))
        return True

    eventually(serves)
