"""One question to one server, and the answer to it."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from watcher.model.names import DNS_PORT
from watcher.names.upstream.messages import Answer, is_answer, read_answer
from watcher.names.upstream.walk import Malformed

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from watcher.names.counts import Counts
    from watcher.names.upstream.servers import Server

_DATAGRAM: Final = 4096
"""More than a server may send by UDP (`UDP_AT_MOST`). What is longer is cut off, and malformed."""
_STRANGE_AT_MOST: Final = 64
"""So many messages that are no answer make somebody's flood; the exchange has failed then."""
_FLAGS: Final = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

type Heard = Callable[["Exchange", Answer | None], None]
"""Told of the answer once, or `None`: the server cannot be reached."""


class Exchange:
    """A question under way to one server by UDP, from a port of its own.

    The kernel chooses the port at random, and as the socket is connected, it takes messages from
    the server's address alone (RFC 5452, section 9). A message that is no answer to the question,
    or that cannot be read, is ignored: the answer may follow.

    Args:
        server: who is asked.
        message: the question without its id.
        question: name, type and class in it.
        heard: called later, never from here.

    Attributes:
        edns: the question has an OPT record.
        late: somebody else has been asked since.
        flooded: it has ended because too many messages were no answer.

    Raises:
        OSError: the kernel knows that the server cannot be reached.
    """

    __slots__ = (
        "_counts", "_heard", "_id", "_loop", "_question", "_socket", "_strange", "edns", "flooded",
        "late", "server",
    )  # fmt: skip

    _KIND = socket.SOCK_DGRAM

    def __init__(
        self,
        loop: AbstractEventLoop,
        counts: Counts,
        server: Server,
        message: bytes,
        question: bytes,
        heard: Heard,
    ) -> None:
        self.server = server
        self.edns = message[9] == 1  # ARCOUNT
        self.late = self.flooded = False
        self._loop = loop
        self._counts = counts
        self._question = question
        self._heard = heard
        self._strange = 0
        self._id = os.urandom(2)
        self._socket = socket.socket(server.family, self._KIND | _FLAGS)
        try:
            self._begin(self._id + message)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Forget it; nothing is told of it any more."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _begin(self, message: bytes) -> None:
        self._socket.connect(self.server.address(DNS_PORT))
        self._socket.send(message)
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        try:
            message = self._socket.recv(_DATAGRAM)
        except BlockingIOError:  # a checksum was wrong
            return
        except OSError:
            self._end(None)
            return
        self._take(message)

    def _take(self, message: bytes) -> None:
        """Tell of the answer in a message, or ignore it."""
        if is_answer(message, self._id, self._question):
            try:
                answer = read_answer(message, self._question)
            except Malformed:
                pass
            else:
                self._end(answer)
                return
        self._counts.upstream("mismatch")
        self._strange += 1
        if self._strange >= _STRANGE_AT_MOST:
            self.flooded = True
            self._end(None)

    def _end(self, answer: Answer | None) -> None:
        self.close()
        self._heard(self, answer)


class TcpExchange(Exchange):
    """A question under way by TCP, on a connection of its own (RFC 7766)."""

    __slots__ = ("_received", "_unsent")

    _KIND = socket.SOCK_STREAM

    def close(self) -> None:
        """As of :class:`Exchange`."""
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket)
        super().close()

    def _begin(self, message: bytes) -> None:
        self._unsent = len(message).to_bytes(2) + message
        self._received = bytearray()
        error = self._socket.connect_ex(self.server.address(DNS_PORT))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # also that of connect(2)
            self._end(None)
            return
        if not self._unsent:
            self._loop.remove_writer(self._socket)
            self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        received = self._received
        try:
            part = self._socket.recv(65537 - len(received))
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._end(None)
            return
        received += part
        while len(received) >= 2 and self._socket.fileno() >= 0:
            end = 2 + int.from_bytes(received[:2])
            if len(received) < end:
                break
            message = bytes(received[2:end])
            del received[:end]
            self._take(message)
