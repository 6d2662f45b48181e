"""Serves `hosts.sock`: all lines, and then what changes, to each reader as fast as it reads."""

from __future__ import annotations

from contextlib import suppress
from socket import SO_SNDBUF, SOL_SOCKET
from typing import TYPE_CHECKING, Final

import msgspec

from watcher.cluster.endpoints.lines import (
    SOCKET,
    VERSION,
    EndpointLine,
    Gone,
    Ready,
    State,
    Wants,
    decoder,
    encoded,
)
from watcher.cluster.endpoints.rows import Rows
from watcher.feed.credentials import user_of
from watcher.observe.broker.places import Places
from watcher.observe.served import ServedSocket

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterable

    from watcher.cluster.endpoints.lines import HostLine, StatusLine
    from watcher.log.logger import Log

MOST_READERS: Final = 256

_LINES: Final = 128
"""How many lines a reader gets in its turn."""
_BUFFER: Final = 32 << 10
"""Bytes that the kernel keeps for a reader; it takes twice as many for them."""
_MOST_HEARD: Final = 4096
"""Bytes in which a reader says what it wants."""

_STATUS: Final = ""
"""The key of the status among the hosts, none of which has that name."""

type _EndpointKey = tuple[str, str]


class HostsServer:
    """See the module's docstring.

    Args:
        run_dir: its directory is there; the unit makes it, or this does where it may.

    Attributes:
        hosts: the lines of hosts, by name, and the status.
        endpoints: the lines of endpoints, by host and id.
        known: whether these are what etcd has, or has had.
    """

    def __init__(self, run_dir: str, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._loop = loop
        self._readers: set[_Reader] = set()
        self._places = Places(MOST_READERS)
        self._passing = False
        self._hosts: dict[str, HostLine] = {}
        self.known = False
        self.hosts: Rows[str] = Rows(lambda: self._least(0))
        self.endpoints: Rows[_EndpointKey] = Rows(lambda: self._least(1))
        self._served = ServedSocket(
            run_dir, SOCKET, "the socket of hosts cannot be served", self._accepted, loop, log
        )

    def close(self) -> None:
        """Serve no more, and leave no name behind."""
        self._served.close()
        for reader in tuple(self._readers):
            reader.close()

    def know(self) -> None:
        """What there is from now on is what etcd has: all get the state again."""
        if not self.known:
            self.known = True
            for reader in tuple(self._readers):
                reader.again()

    def status(self, line: StatusLine) -> None:
        """This host stands like that with etcd."""
        self._pass_on(new=self.hosts.put(_STATUS, encoded(line)))

    def set_hosts(self, lines: Iterable[HostLine]) -> None:
        """These are all hosts."""
        before, self._hosts = self._hosts, {line.name: line for line in lines}
        for name, line in self._hosts.items():
            if before.get(name) != line:
                self._pass_on(new=self.hosts.put(name, encoded(line)))
        for name in before:
            if name not in self._hosts:
                self._pass_on(new=self.hosts.remove(name, encoded(Gone(name))))

    def endpoint(self, line: EndpointLine) -> None:
        """There is an endpoint."""
        self._pass_on(new=self.endpoints.put((line.host, line.id), encoded(line)))

    def line(self, host: str, id_: str) -> EndpointLine:
        """An endpoint that there is."""
        line = decoder.decode(self.endpoints.line((host, id_)))
        assert isinstance(line, EndpointLine)
        return line

    def endpoint_gone(self, host: str, id_: str) -> None:
        """There is no such endpoint any more."""
        self._pass_on(new=self.endpoints.remove((host, id_), encoded(Gone(host, id_))))

    def _pass_on(self, *, new: bool) -> None:
        """Have readers that wait get what is new, together with what comes at the same time."""
        if new and self._readers and not self._passing:
            self._passing = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._passing = False
        for reader in tuple(self._readers):
            reader.go_on()

    def _least(self, at: int) -> int:
        """Up to where all readers have got among the hosts (0) or the endpoints (1)."""
        tables = (self.hosts, self.endpoints)
        reached = [r.places[at].reached for r in self._readers if at < len(r.places)]
        return min(reached, default=tables[at].last)

    def _accepted(self, connection: socket.socket) -> None:
        user = user_of(connection)
        if not self._places.take(user):
            connection.close()
            return

        def closed(reader: _Reader) -> None:
            self._readers.discard(reader)
            self._places.give_back(user)

        self._readers.add(_Reader(connection, self, self._loop, closed))


class _Place:
    """How far a reader has got in a table.

    Attributes:
        rows: the table.
        at: the number of the last row that it has got.
        began: the last row when its state began. What was gone by then, it never had.
    """

    __slots__ = ("at", "began", "rows")

    def __init__(self, rows: Rows[str] | Rows[_EndpointKey]) -> None:
        self.rows = rows
        self.at = 0
        self.began = rows.last

    @property
    def reached(self) -> int:
        """Up to where it needs no row that tells of what is gone."""
        return max(self.at, self.began)


class _Reader:
    """One connection.

    Args:
        connection: reading and writing do not wait.
        server: has what there is to tell.
        closed: called once it has gone.

    Attributes:
        places: how far it has got in each table that it wants; none before it has said that.
    """

    def __init__(
        self,
        connection: socket.socket,
        server: HostsServer,
        loop: asyncio.AbstractEventLoop,
        closed: Callable[[_Reader], object],
    ) -> None:
        self._connection = connection
        self._server = server
        self._loop = loop
        self._closed = closed
        self._heard = b""
        self._rest = memoryview(b"")
        self._wants: Wants | None = None
        self._ready = self._writing = False
        self.places: tuple[_Place, ...] = ()
        connection.setsockopt(SOL_SOCKET, SO_SNDBUF, _BUFFER)
        loop.add_reader(connection.fileno(), self._readable)

    def close(self) -> None:
        """End the connection."""
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection.fileno())
            self._loop.remove_writer(self._connection.fileno())
            self._connection.close()
            self._closed(self)

    def go_on(self) -> None:
        """Send some of what it lacks; the rest follows as it reads."""
        if self._wants is not None and not self._writing:
            self._send()

    def again(self) -> None:
        """Send the whole state again."""
        if self._wants is not None:
            self._start()
            self.go_on()

    def _readable(self) -> None:
        """Hear what it wants; what it says afterwards is dropped."""
        try:
            heard = self._connection.recv(_MOST_HEARD)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            self.close()
        elif self._wants is None:
            self._heard += heard
            line, end, _ = self._heard.partition(b"\n")
            if end:
                self._begin(line)
            elif len(self._heard) > _MOST_HEARD:
                self.close()

    def _begin(self, line: bytes) -> None:
        try:
            self._wants = msgspec.json.decode(line, type=Wants)
        except msgspec.DecodeError:
            self.close()
            return
        self._heard = b""
        self._start()
        self._send()

    def _start(self) -> None:
        """Begin with the state."""
        assert self._wants is not None
        hosts, endpoints = _Place(self._server.hosts), _Place(self._server.endpoints)
        self.places = (hosts, endpoints) if self._wants.endpoints else (hosts,)
        self._ready = False
        self._rest = memoryview(bytes(self._rest) + encoded(State(VERSION)))

    def _send(self) -> None:
        """Send the next lines, if the connection takes them."""
        if not self._rest:
            self._rest = memoryview(self._next())
        if self._rest:
            try:
                self._rest = self._rest[self._connection.send(self._rest) :]
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
            self._want_to_write(wanted=True)
        else:
            self._want_to_write(wanted=False)

    def _next(self) -> bytes:
        """What it gets next; empty if it has all."""
        if any(place.reached < place.rows.forgotten for place in self.places):
            self._start()
            return bytes(self._rest)
        if all(place.at >= place.began for place in self.places):
            return self._rows() if self._ready else self._say_ready()
        return (
            self._rows() or self._say_ready()
        )  # or the last of them have come anew, and were told

    def _rows(self) -> bytes:
        for place in self.places:
            rows = place.rows.after(place.at, _LINES)
            if rows:
                place.at = rows[-1].number
                return b"".join([row.line for row in rows])
        return b""

    def _say_ready(self) -> bytes:
        """That it has the whole state, once."""
        if self._ready:
            return b""
        self._ready = True
        return encoded(Ready(self._server.known))

    def _want_to_write(self, *, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self._connection.fileno(), self._send)
            else:
                with suppress(OSError):
                    self._loop.remove_writer(self._connection.fileno())
