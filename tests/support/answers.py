"""The service's end of `answers.sock`, as a test wants it; and questions that wait."""

from __future__ import annotations

import json
import select
import socket
from typing import TYPE_CHECKING, Any, Self

import dns.message

from tests.support import traffic
from tests.support.name_service import framed, make_query
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host import Place


class Opener:
    """Who opens the addresses of answers, or does not.

    Args:
        run_dir: where its socket is, in place of one that is there.
    """

    def __init__(self, run_dir: Path) -> None:
        path = run_dir / "answers.sock"
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._listener.settimeout(PATIENCE)
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection, and listens no more."""
        self.hang_up()
        self._listener.close()

    def hang_up(self) -> None:
        """Ends the connection alone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def heard(self) -> dict[str, Any]:
        """The next packet of the name service, which connects for it if need be."""
        if self._connection is None:
            self._connection, _ = self._listener.accept()
            self._connection.settimeout(PATIENCE)
        said: dict[str, Any] = json.loads(self._connection.recv(1 << 16))
        return said

    def hears_nothing(self) -> bool:
        """Whether no packet waits."""
        assert self._connection is not None
        return not select.select([self._connection], [], [], 0)[0]

    def say(self, packet: bytes) -> None:
        """Sends a packet."""
        assert self._connection is not None
        self._connection.send(packet)

    def reply(self, packet: dict[str, Any], refused: str = "") -> None:
        """Replies to a packet: its addresses are open, or will not be."""
        more = {"refused": refused} if refused else {}
        self.say(json.dumps({"number": packet["number"], **more}).encode())


class Asked:
    """A question that was asked from `place`, and whose answer may come."""

    def __init__(
        self, place: Place, name: str, type_: str = "A", *, server: str, tcp: bool = False,
        **options: Any,
    ) -> None:  # fmt: skip
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        self._tcp = tcp
        self._query = make_query(name, type_, **options)
        self._socket = traffic.make_socket(place.netns, traffic.family_of(server), kind)
        self._socket.settimeout(PATIENCE)
        self._socket.connect((server, 53))
        wire = self._query.to_wire()
        self._socket.send((len(wire).to_bytes(2) if tcp else b"") + wire)

    def waits(self) -> bool:
        """Whether there is no answer yet."""
        return not select.select([self._socket], [], [], 0)[0]

    def answer(self) -> dns.message.Message:
        """The answer, which is one to this question."""
        with self._socket:
            wire = framed(self._socket) if self._tcp else self._socket.recv(65535)
        message = dns.message.from_wire(wire, raise_on_truncation=False)
        assert self._query.is_response(message), message
        return message
