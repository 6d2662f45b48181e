"""Real packets: servers and clients in any network namespace, without a process for each.

A socket belongs to the network namespace in which it was made. So a thread steps into a namespace,
makes the socket and steps back out, and the test itself serves or asks from there.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

ENOUGH: Final = 10.0
"""Seconds in which an answer that comes at all has come, even if the machine stood still meanwhile.

Who expects silence says how long: :data:`tests.support.waiting.LATENCY_FREE_NO`.
"""

_log: Final = logging.getLogger(__name__)


@contextmanager
def entered(netns: int) -> Iterator[None]:
    """Has the calling thread in the network namespace of the descriptor `netns`."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.setns(netns, os.CLONE_NEWNET)
        try:
            yield
        finally:
            os.setns(own, os.CLONE_NEWNET)
    finally:
        os.close(own)


def make_socket(netns: int, family: int, kind: int) -> socket.socket:
    """A socket of the network namespace of the descriptor `netns`."""
    with entered(netns):
        return socket.socket(family, kind)


def family_of(address: str) -> socket.AddressFamily:
    """The address family of the literal `address`."""
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET


@dataclass(frozen=True)
class Answer:
    """What a server of :class:`Echo` says to a client.

    Attributes:
        who: the server's name.
        seen: the client's address as the server saw it.
    """

    who: str
    seen: str


class Echo:
    """Servers of one namespace that tell each client their name and the client's address.

    A TCP connection is then echoed until the client closes it; each UDP datagram is answered.

    Args:
        netns: descriptor of the network namespace.
        who: the name that it tells.
        tcp: ports to listen on.
        udp: ports to listen on.
        address: the address to listen on; every address of both families if empty.
    """

    def __init__(
        self,
        netns: int,
        who: str,
        *,
        tcp: tuple[int, ...] = (),
        udp: tuple[int, ...] = (),
        address: str = "",
    ) -> None:
        self._greeting = f"{who} "
        self._selector = selectors.DefaultSelector()
        self._resources = ExitStack()
        self._resources.callback(self._selector.close)
        addresses = [address] if address else ["0.0.0.0", "::"]
        try:
            for kind, ports in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
                for port in ports:
                    for one in addresses:
                        self._listen(netns, kind, one, port)
            self._stop, stopped = socket.socketpair()
            self._resources.callback(self._stop.close)
            self._resources.callback(stopped.close)
            self._selector.register(stopped, selectors.EVENT_READ, "stop")
        except BaseException:
            self._resources.close()
            raise
        self._thread = threading.Thread(target=self._serve, name=f"echo {who}", daemon=True)
        self._thread.start()

    def _listen(self, netns: int, kind: int, address: str, port: int) -> None:
        family = family_of(address)
        server = self._resources.enter_context(make_socket(netns, family, kind))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((address, port))
        server.setblocking(False)
        if kind == socket.SOCK_STREAM:
            server.listen(64)
        self._selector.register(
            server, selectors.EVENT_READ, "tcp" if kind == socket.SOCK_STREAM else "udp"
        )

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data == "stop":
                    return
                try:
                    self._attend(sock, key.data)
                except OSError:
                    if key.data == "stream":
                        self._hang_up(sock)

    def _attend(self, sock: socket.socket, kind: str) -> None:
        if kind == "tcp":
            stream, peer = sock.accept()
            self._resources.callback(stream.close)
            self._selector.register(stream, selectors.EVENT_READ, "stream")
            stream.sendall(f"{self._greeting}{peer[0]}\n".encode())
        elif kind == "udp":
            _, peer = sock.recvfrom(2048)
            sock.sendto(f"{self._greeting}{peer[0]}\n".encode(), peer)
        else:
            data = sock.recv(4096)
            if data:
                sock.sendall(data)
            else:
                self._hang_up(sock)

    def _hang_up(self, stream: socket.socket) -> None:
        self._selector.unregister(stream)
        stream.close()

    def close(self) -> None:
        """Stops serving and closes every connection; may be called twice."""
        if not self._thread.is_alive():
            return
        self._stop.send(b".")
        self._thread.join()
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """The socket of one who asks an :class:`Echo`."""

    _socket: socket.socket

    def close(self) -> None:
        """Closes it."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream(Client):
    """A TCP connection to an :class:`Echo`.

    Raises:
        OSError: from the constructor if there is no such server to be reached.
    """

    def __init__(
        self, netns: int, address: str, port: int, *, source: str = "", timeout: float = ENOUGH
    ) -> None:
        self._socket = make_socket(netns, family_of(address), socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            if source:
                self._socket.bind((source, 0))
            self._socket.connect((address, port))
            who, seen = self._line().split()
        except BaseException:
            self._socket.close()
            raise
        self.answer = Answer(who, seen)
        self._socket.settimeout(10)

    @property
    def port(self) -> int:
        """The client's own port."""
        port: int = self._socket.getsockname()[1]
        return port

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionResetError("closed by the server")
            line += data
        return line.decode().rstrip("\n")

    def say(self, text: str, *, timeout: float = 10) -> str:
        """Sends `text` and returns what comes back within `timeout` seconds."""
        self._socket.settimeout(timeout)
        self._socket.sendall(f"{text}\n".encode())
        return self._line()


def _tell(address: str, port: int, error: OSError) -> None:
    """Why there was no answer, for who reads the output of a failed test."""
    _log.warning("no answer from %s port %d: %r", address, port, error)


def ask_tcp(
    netns: int, address: str, port: int, *, source: str = "", timeout: float = ENOUGH
) -> Answer | None:
    """The answer of the TCP server at `address` and `port`, or `None` if there is none."""
    try:
        with Stream(netns, address, port, source=source, timeout=timeout) as stream:
            return stream.answer
    except OSError as error:
        _tell(address, port, error)
        return None


class Datagrams(Client):
    """A UDP socket that asks one :class:`Echo` again and again: one flow for conntrack.

    Attributes:
        version: the IP version of what it sends.
    """

    def __init__(self, netns: int, address: str, port: int, *, source: str = "") -> None:
        self._socket = make_socket(netns, family_of(address), socket.SOCK_DGRAM)
        if source:
            self._socket.bind((source, 0))
        self._to = (address, port)
        self._connected = False
        self.version = ip_address(address).version

    def ask(self, timeout: float = ENOUGH) -> Answer | None:
        """The server's answer, or `None` if none comes within `timeout` seconds."""
        try:
            if not self._connected:
                self._socket.connect(self._to)
                self._connected = True
            self._forget_late_answers()
            self._socket.settimeout(timeout)
            self._socket.send(b"?")
            who, seen = self._socket.recv(2048).decode().split()
        except OSError as error:
            _tell(*self._to, error)
            return None
        return Answer(who, seen)

    def _forget_late_answers(self) -> None:
        """Leave unread what has come of earlier questions since they were given up."""
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.recv(2048)
            except BlockingIOError:
                return
            except OSError:  # nobody listened there
                continue


def ask_udp(
    netns: int, address: str, port: int, *, source: str = "", timeout: float = ENOUGH
) -> Answer | None:
    """The answer of the UDP server at `address` and `port`, or `None` if there is none."""
    with Datagrams(netns, address, port, source=source) as datagrams:
        return datagrams.ask(timeout)
