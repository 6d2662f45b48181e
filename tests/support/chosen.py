"""Chosen host ports: which they are, whose copies are kept, and who else listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tests.support.traffic import entered

if TYPE_CHECKING:
    from tests.support.host import Host


def chosen(host: Host, name: str) -> list[int]:
    """The host ports of a container, as `watcher ls` shows them."""
    return [int(port.partition(":")[0]) for port in host.ls()[name]["ports"]]


def copies(host: Host) -> list[str]:
    """The files with copies of sandboxes."""
    return sorted(path.name for path in (host.run_dir / "sandboxes").glob("*"))


@contextmanager
def listening(host: Host, *ports: int) -> Iterator[None]:
    """A process of the host listens on TCP ports."""
    with ExitStack() as stack:
        with entered(host.here.netns):
            sockets = [stack.enter_context(socket.socket()) for _ in ports]
        for port, one in zip(ports, sockets, strict=True):
            one.bind(("127.0.0.1", port))
            one.listen()
        yield
