"""`watcher names` on a host, and questions from any network namespace."""

from __future__ import annotations

import itertools
import signal
import socket
from typing import TYPE_CHECKING, Any, Final

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from tests.support import traffic
from tests.support.logs import entries
from tests.support.waiting import PATIENCE, eventually
from watcher.model.names import PORT
from watcher.observe.name_service import NameTotals, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.host import Host, Place
    from tests.support.warm import Started

HEARD: Final = "the service tells who is called what"
"""What it logs once it knows the containers."""

_numbers = itertools.count(1)


class NameService:
    """`watcher names`, which ends with its host."""

    def __init__(self, host: Host, *, env: Mapping[str, str] | None = None) -> None:
        self.host = host
        self._env = {**host.watcher_env, **(env or {})}
        self._log: Path = host.base / f"names-{next(_numbers)}.log"
        self._process: Started | None = None
        self.start()
        host.on_close(self.end)

    def start(self) -> None:
        """Starts it."""
        with self._log.open("a") as log:
            self._process = self.host.start_warm(
                "--log-format", "json", "names", env=self._env, log=log.fileno()
            )
        self.logged("ready")

    def hears(self) -> NameService:
        """Waits until it knows the containers, and the networks, which may be told later."""
        self.logged(HEARD)
        eventually(lambda: self.totals().networks, what="that it knows the networks")
        return self

    def totals(self) -> NameTotals:
        """What it tells of itself, however busy the machine is."""
        return read(str(self.host.seen(self.host.run_dir)), PATIENCE)

    @property
    def pid(self) -> int:
        """Its pid outside the host's process namespace."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.signal(number)

    def stop(self) -> None:
        """Stops it as systemd does, and expects that it ends well."""
        self.signal(signal.SIGTERM)
        assert self._process is not None
        assert self._process.wait(PATIENCE) == 0, self._log.read_text()

    def end(self) -> None:
        """Ends it, whether it runs or not."""
        if self._process is not None:
            self._process.end()

    def log(self) -> list[dict[str, Any]]:
        """The entries of its log, but for one that is being written."""
        return entries(self._log.read_text())

    def count(self, event: str) -> int:
        """How often it has logged `event`."""
        return sum(entry["event"] == event for entry in self.log())

    def logged(self, event: str, times: int = 1) -> dict[str, Any]:
        """Waits for so many entries of its log; the last of them."""

        def found() -> dict[str, Any]:
            entries = [entry for entry in self.log() if entry["event"] == event]
            assert len(entries) >= times, self._log.read_text()
            return entries[-1]

        return eventually(found, what=f"{event} in the log")


def make_query(name: str, type_: str = "A", **options: Any) -> dns.message.QueryMessage:
    """A question as a stub resolver sends it."""
    return dns.message.make_query(name, type_, **options)


def ask(
    place: Place,
    name: str,
    type_: str = "A",
    *,
    server: str,
    port: int = PORT,
    tcp: bool = False,
    timeout: float = traffic.ENOUGH,
    **options: Any,
) -> dns.message.Message:
    """The answer to a question from `place`, with id and question compared.

    Raises:
        TimeoutError: none comes in `timeout` seconds.
        ConnectionRefusedError: nobody listens.
    """
    query = make_query(name, type_, **options)
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with traffic.make_socket(place.netns, traffic.family_of(server), kind) as asking:
        asking.settimeout(timeout)
        asking.connect((server, port))
        wire = query.to_wire()
        if tcp:
            asking.sendall(len(wire).to_bytes(2) + wire)
            answer = framed(asking)
        else:
            asking.send(wire)
            answer = asking.recv(65535)
    message = dns.message.from_wire(answer, raise_on_truncation=False)
    assert query.is_response(message), message
    return message


def framed(connection: socket.socket) -> bytes:
    """The next message of a TCP connection; empty at its end."""
    file = connection.makefile("rb")
    return file.read(int.from_bytes(file.read(2)))


def addresses(message: dns.message.Message) -> set[str]:
    """The addresses of an answer."""
    return {
        record.to_text()
        for records in message.answer
        if records.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)
        for record in records
    }


def outcome(message: dns.message.Message) -> str:
    """The response code of an answer, as text."""
    return dns.rcode.to_text(message.rcode())
