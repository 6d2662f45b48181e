"""Reads `hosts.sock`: a connection for who waits in an event loop, and the hosts at this moment."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from watcher.cluster.endpoints.lines import (
    SOCKET,
    VERSION,
    AnyLine,
    Gone,
    HostLine,
    Ready,
    State,
    StatusLine,
    Wants,
    decoder,
    encoded,
)
from watcher.feed.names import not_for_you
from watcher.model.errors import WatcherError, message_of
from watcher.observe.line_socket import LineSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN: Final = 2.0
"""Seconds in which a process that is well has told all hosts many times over."""

_LONGEST: Final = 4 << 20
"""Bytes of a line: the other end is not trusted to end it. A host may have very many blocks."""


class NoHosts(WatcherError):
    """No `watcher cluster` serves the socket."""


class HostsStream(LineSocket[AnyLine]):
    """A connection to the socket.

    Args:
        run_dir: where the socket is.
        endpoints: whether the endpoints of the other hosts are wanted.
        timeout: seconds after which a call that waits raises `TimeoutError`.
        part: bytes that :meth:`received` takes at once, at most.

    Raises:
        NoHosts: no `watcher cluster` runs.
        WatcherError: it may not be opened, or does not answer.
    """

    def __init__(self, run_dir: str, *, endpoints: bool, timeout: float, part: int) -> None:
        super().__init__(decoder, timeout, part, _LONGEST)
        path = f"{run_dir}/{SOCKET}"
        try:
            self._socket.connect(path)
            self._socket.sendall(encoded(Wants(endpoints)))
        except OSError as error:
            self._socket.close()
            raise _reason(path, error) from error

    def wait(self, seconds: float) -> None:
        """Wait so long, at the most, in each call from now on."""
        self._socket.settimeout(seconds)


class Hosts(Struct, frozen=True):
    """The hosts of the cluster, and how this one stands with etcd.

    Attributes:
        status: `None` if that is not known yet.
        hosts: by name.
        known: whether etcd has answered since `watcher cluster` started; if not, there are none.
    """

    status: StatusLine | None
    hosts: dict[str, HostLine]
    known: bool = True


def read(run_dir: str, within: float = WITHIN) -> Hosts:
    """The hosts as they are now.

    Raises:
        NoHosts: no `watcher cluster` runs.
        WatcherError: it may not be asked, or does not answer.
    """
    deadline = time.monotonic() + within
    path = f"{run_dir}/{SOCKET}"
    status: StatusLine | None = None
    hosts: dict[str, HostLine] = {}
    try:
        for line in _lines(run_dir, deadline, within):
            match line:
                case State(version=version) if version != VERSION:
                    raise msgspec.ValidationError("another version")
                case State():
                    status = None
                    hosts.clear()
                case StatusLine():
                    status = line
                case HostLine(name=name):
                    hosts[name] = line
                case Gone(host=name, id=""):
                    hosts.pop(name, None)
                case Ready(known=known):
                    return Hosts(status, hosts, known)
                case _:
                    pass
    except OSError as error:
        raise _reason(path, error) from error
    except msgspec.DecodeError as error:
        raise WatcherError(
            f"{path}: `watcher cluster` tells what this program does not understand",
            "restart it, e.g. `systemctl restart watcher-cluster`: it may be of another version",
        ) from error
    raise NoHosts(
        f"`watcher cluster` closed {path}: it ended, or has too many readers", "try again"
    )


def is_there(run_dir: str) -> bool:
    """Whether a `watcher cluster` serves the socket; also if this process may not ask it."""
    try:
        HostsStream(run_dir, endpoints=False, timeout=WITHIN, part=1).close()
    except NoHosts:
        return False
    except WatcherError:
        pass
    return True


def _lines(run_dir: str, deadline: float, within: float) -> Iterator[AnyLine]:
    stream = HostsStream(run_dir, endpoints=False, timeout=within, part=1 << 18)
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, "timed out")
            stream.wait(left)
            lines = stream.received()
            if lines is None:
                return
            yield from lines
    finally:
        stream.close()


def _reason(path: str, error: OSError) -> WatcherError:
    """Why the socket could not be read."""
    if isinstance(error, PermissionError):
        return not_for_you(path)
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        return NoHosts(
            f"no `watcher cluster` serves {path}",
            "start it, e.g. `systemctl start watcher-cluster`",
        )
    if isinstance(error, TimeoutError) or error.errno == errno.EAGAIN:
        return WatcherError(
            f"{path}: `watcher cluster` does not answer",
            "restart it, e.g. `systemctl restart watcher-cluster`",
        )
    return WatcherError(f"{path}: {message_of(error)}")
