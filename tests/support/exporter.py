"""`watcher metrics --listen` on a host, and HTTP in any network namespace."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from tests.support import traffic
from tests.support.logs import entries
from tests.support.processes import children, end
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.host import Host, Place

PORT: Final = 9973
_PATIENCE: Final = 30.0


class Reply:
    """What a server answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.fields = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()


def connect(place: Place, port: int, address: str = "127.0.0.1") -> socket.socket:
    """A TCP connection from `place`."""
    connection = traffic.make_socket(place.netns, traffic.family_of(address), socket.SOCK_STREAM)
    connection.settimeout(_PATIENCE)
    try:
        connection.connect((address, port))
    except OSError:
        connection.close()
        raise
    return connection


def ask(
    place: Place,
    port: int,
    path: str,
    fields: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    address: str = "127.0.0.1",
) -> Reply:
    """The answer of a server to a request from `place`."""
    client = http.client.HTTPConnection(address, port)
    client.sock = connect(place, port, address)
    try:
        client.request(method, path, headers=dict(fields or {}))
        return Reply(client.getresponse())
    finally:
        client.close()


class Scraped:
    """What `/metrics` was.

    Attributes:
        families: by name as the library has it, without `_total`.
    """

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float:
        """The value of the first series with these labels; `LookupError` if there is none."""
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        raise LookupError(name, labels)


class Exporter:
    """`watcher metrics --listen`, which ends with its host."""

    def __init__(self, host: Host, listen: str = f"127.0.0.1:{PORT}") -> None:
        self.host = host
        self._log = host.base / "metrics.log"
        with self._log.open("w") as log:
            self.process = host.popen(
                host.watcher_command("--log-format", "json", "metrics", "--listen", listen),
                env=host.watcher_env, stdout=log, stderr=log,
            )  # fmt: skip
        host.on_close(lambda: end(self.process))
        eventually(lambda: "serving metrics" in self.log(), what="the server")

    def log(self) -> list[str]:
        """What it has logged."""
        return [entry["event"] for entry in entries(self._log.read_text())]

    @property
    def pid(self) -> int:
        """Its pid outside the host's process namespace."""
        return children(self.process.pid)[0]

    def text(self) -> str:
        """What `/metrics` is now."""
        reply = ask(self.host.here, PORT, "/metrics")
        assert reply.status == http.HTTPStatus.OK, reply.body
        return reply.body.decode()

    def scrape(self) -> Scraped:
        """The same, read."""
        return Scraped(self.text())

    def value(self, name: str, **labels: str) -> float:
        """As :meth:`Scraped.value`, now."""
        return self.scrape().value(name, **labels)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It does nothing meanwhile. `nsenter` stops and goes on with it."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Ends it by SIGTERM; returns its exit status."""
        self.process.send_signal(signal.SIGCONT)
        subprocess.run(["kill", "-TERM", str(self.pid)], check=True)
        return self.process.wait(_PATIENCE)
