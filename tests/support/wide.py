"""Very many sandboxes on one host, and real packets from and to each of them.

A socket belongs to the network namespace in which it was made, so this process has a server in each
sandbox, all in one thread, and asks from each, one after the other.
"""

from __future__ import annotations

import resource
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from tests.support import traffic
from tests.support.host import Host, Place

SERVED: Final = 80
"""The port that each sandbox listens on and publishes."""

_FIRST_PORT: Final = 20_000
_SLEEPERS: Final = Path(__file__).with_name("sleepers.py")
_OTHER_FILES: Final = 1000
"""Descriptors that this process has room for besides those of the servers."""


@dataclass(frozen=True)
class Sandbox:
    """One of them.

    Attributes:
        id: its container's id.
        port: the host's port that it publishes.
        netns: the file of its namespace, while its process lives.
        ipv4, ipv6: the addresses that it was leased.
    """

    id: str
    port: int
    netns: Path
    ipv4: str
    ipv6: str

    def address(self, version: int) -> str:
        """Its address of an IP `version`."""
        return self.ipv4 if version == 4 else self.ipv6

    @contextmanager
    def place(self, host: Host) -> Iterator[Place]:
        """Its network namespace on `host`, opened for a moment."""
        place = Place(host, self.id, self.netns)
        try:
            yield place
        finally:
            place.close()


class Sleepers:
    """Containers of `host`, as many as `count`, that do nothing: see `sleepers.py`."""

    def __init__(self, host: Host, count: int) -> None:
        self._host = host
        self._ids = [f"c{number}" for number in range(count)]
        self._process = host.popen(
            [sys.executable, "-SE", str(_SLEEPERS), str(host.root), str(count), str(_FIRST_PORT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        host.on_close(self.end)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def sandboxes(self) -> list[Sandbox]:
        """What they are, by now with their network."""
        leased: dict[tuple[str, int], str] = {
            (name, ip_address(address).version): address
            for address, name in self._host.leases().items()
        }
        return [
            Sandbox(
                name,
                _FIRST_PORT + number,
                self._host.seen(Path(f"/proc/{self._host.pid(name)}/ns/net")),
                leased[name, 4],
                leased[name, 6],
            )
            for number, name in enumerate(self._ids)
        ]

    def end(self) -> None:
        """Ends their processes, and waits until that is done; may be called twice."""
        if self._process.poll() is None:
            self._process.communicate()


class Servers:
    """A server in each of `sandboxes` that tells every client its id and the client's address.

    Each is one socket for both families; a connection ends as it has been answered.
    """

    def __init__(self, host: Host, sandboxes: list[Sandbox]) -> None:
        self._resources = ExitStack()
        self._selector = self._resources.enter_context(selectors.DefaultSelector())
        try:
            self._resources.enter_context(_room_for(len(sandboxes) + _OTHER_FILES))
            for sandbox in sandboxes:
                with sandbox.place(host) as place:
                    server = traffic.make_socket(place.netns, socket.AF_INET6, socket.SOCK_STREAM)
                self._resources.enter_context(server)
                server.bind(("::", SERVED))
                server.listen()
                self._selector.register(server, selectors.EVENT_READ, sandbox.id)
            self._stop, stopped = socket.socketpair()
            self._resources.enter_context(self._stop)
            self._resources.enter_context(stopped)
            self._selector.register(stopped, selectors.EVENT_READ)
        except BaseException:
            self._resources.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="servers", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                assert isinstance(key.fileobj, socket.socket)
                stream, peer = key.fileobj.accept()
                with stream:
                    stream.sendall(f"{key.data} {peer[0].removeprefix('::ffff:')}\n".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.send(b".")
        self._thread.join()
        self._resources.close()


@contextmanager
def _room_for(files: int) -> Iterator[None]:
    """Lets this process have so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), max(hard, files)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
