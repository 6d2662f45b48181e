"""Reads the feed, of which only the keys and the numbers matter here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from msgspec import Raw, Struct

from watcher.feed.lines import State

if TYPE_CHECKING:
    import socket

_PART: Final = 256 << 10


class _Line(Struct):
    """What is read of any line."""

    type: str
    kind: str = ""
    key: str = ""
    name: str = ""
    path: str = ""
    address: str = ""
    seq: int = 0
    set: tuple[Raw, ...] = ()
    unset: tuple[str, ...] = ()


class _Keyed(Struct):
    """What is read of a line in an event."""

    key: str


_line: Final = msgspec.json.Decoder(_Line).decode
_keyed: Final = msgspec.json.Decoder(_Keyed).decode
_state: Final = msgspec.json.Decoder(State).decode


class Sink(Protocol):
    """What the feed tells."""

    def begin(self, state: State) -> None:
        """A pass begins."""

    def tell(self, key: str, line: bytes) -> None:
        """The pass tells a line."""

    def end(self, seq: int) -> None:
        """The pass has ended, after the event `seq`."""

    def change(
        self, seq: int, line: bytes, lines: list[tuple[str, bytes]], gone: tuple[str, ...]
    ) -> None:
        """The event `seq` has happened, is `line`, and changes lines of the state."""

    def outdated(self) -> None:
        """What the service was asked for has changed with an event."""

    def measure(self, key: str, line: bytes) -> None:
        """The service tells a line that it was asked for."""

    def measured(self) -> None:
        """The service has told all that it was asked for."""


class Source:
    """The broker's end of the connection to the service.

    Args:
        connection: that end.
        sink: is told what comes.
    """

    def __init__(self, connection: socket.socket, sink: Sink) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._sink = sink
        self._rest = b""

    def fileno(self) -> int:
        """The descriptor, readable when :meth:`read` has something to do."""
        return self._connection.fileno()

    def ask(self) -> None:
        """Ask for what changes without an event."""
        try:
            self._connection.send(b"\n")
        except OSError:
            return  # the service hangs or has ended; the end of the connection tells that

    def read(self) -> bool:
        """Tell the sink what is there; whether more may come."""
        try:
            part = self._connection.recv(_PART)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            self._take(line + b"\n")
        return bool(part)

    def _take(self, text: bytes) -> None:
        line = _line(text)
        sink = self._sink
        match line.type:
            case "event":
                new = [(_keyed(raw).key, bytes(raw) + b"\n") for raw in line.set]
                sink.change(line.seq, text, new, line.unset)
                if line.kind == "reloaded":
                    sink.outdated()
            case "sandbox" | "failure":
                sink.tell(line.key, text)
            case "network":
                sink.measure(f"0 {line.name}", text)
            case "root":
                sink.measure(f"1 {line.path}", text)
            case "totals":
                sink.measure("2", text)
            case "cluster":
                sink.measure("2 cluster", text)
            case "rejections":
                sink.measure(f"5 {line.address}", text)
            case "now":
                sink.measured()
            case "state":
                sink.begin(_state(text))
            case "ready":
                sink.end(line.seq)
