"""What the name service tells of itself: `names/status.sock`, one line of JSON to who connects.

`watcher ls` imports this module, so it imports little.
"""

from __future__ import annotations

import errno
import socket
import time
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from watcher.feed.lines import Histogram
from watcher.feed.names import not_for_you
from watcher.model.errors import WatcherError, message_of

STATUS: Final = "names/status.sock"
"""The socket, in `run_dir`. The directory is that of the name service's user."""
WITHIN: Final = 0.5
"""Seconds in which a name service that is well has answered many times over."""

_MOST: Final = 1 << 16
"""The longest line: the name service is not trusted to end it."""

type Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""Larger ones are no floating point number, which a metric is."""


class OfHosts(Struct, frozen=True):
    """What the name service knows of other hosts.

    Attributes:
        connected: since when it hears of them from `watcher cluster`; `None` if it does not.
        hosts: how many of them are heard of.
        sandboxes: sandboxes that any of them has told of.
    """

    connected: datetime | None
    hosts: Count
    sandboxes: Count


class NameTotals(Struct, frozen=True):
    """Counts since the start of the name service, and how it is now.

    Attributes:
        since: when it started.
        connected: since when it hears of containers from the events socket; `None` if it does not.
        domain: the domain that it serves.
        networks: the networks that it serves.
        sandboxes, names, views: how many sandboxes it knows that may ask, names that resolve, and
            sets of networks that are asked from.
        udp, tcp: questions by outcome; `watcher.names.counts.Outcome` has them.
        connections: clients that are connected by TCP; `connections_total`: all that ever were.
        waiting: questions from addresses that it has not heard of yet; `waited`: how others ended.
        under_way: questions that servers have not answered yet.
        upstream: questions to servers by how each ended.
        latency: how long who asked waited for an answer of servers. Questions that are answered at
            once are not timed.
        cache_hits, cache_misses: questions for others that the cache had an answer for, or had not.
        cache_entries, cache_bytes: what is in the cache.
        openings: what became of the addresses in answers to who has names in a list of `egress`, by
            outcome; `watcher.names.counts.Opening` has them.
        others: what it knows of other hosts; `None` if no network with names is clustered.
    """

    since: datetime
    connected: datetime | None
    domain: str
    networks: tuple[str, ...]
    sandboxes: Count
    names: Count
    views: Count
    udp: dict[str, Count]
    tcp: dict[str, Count]
    connections: Count
    connections_total: Count
    waiting: Count
    waited: dict[str, Count]
    under_way: Count
    upstream: dict[str, Count]
    latency: Histogram
    cache_hits: Count
    cache_misses: Count
    cache_entries: Count
    cache_bytes: Count
    openings: dict[str, Count] = {}
    others: OfHosts | None = None

    def __post_init__(self) -> None:
        """Called by msgspec.

        Raises:
            ValueError: the latency is no histogram.
        """
        if len(self.latency.counts) != len(self.latency.bounds) + 1:
            raise ValueError("the latency is no histogram")


class NoNameService(WatcherError):
    """No name service serves the socket."""


def read(run_dir: str, within: float = WITHIN) -> NameTotals:
    """What the name service tells.

    Raises:
        NoNameService: none runs.
        WatcherError: it may not be asked, or does not answer.
    """
    deadline = time.monotonic() + within
    path = f"{run_dir}/{STATUS}"
    try:
        with _connected(path, within) as connection:
            line = _line(connection, deadline)
    except OSError as error:
        raise _reason(path, error) from error
    try:
        return msgspec.json.decode(line, type=NameTotals)
    except msgspec.DecodeError as error:
        raise WatcherError(
            f"{path}: the name service tells what this program does not understand",
            "restart it, e.g. `systemctl restart watcher-names`: it may be of another version",
        ) from error


def is_there(run_dir: str, within: float = WITHIN) -> bool:
    """Whether a name service serves the socket; also if this process may not ask it."""
    try:
        _connected(f"{run_dir}/{STATUS}", within).close()
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN) or isinstance(error, TimeoutError)
    return True


def encoded(totals: NameTotals) -> bytes:
    """The line as it is sent, with its end."""
    return msgspec.json.encode(totals) + b"\n"


def _connected(path: str, within: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(within)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _line(connection: socket.socket, deadline: float) -> bytes:
    """The first line; what is there of it if it is too long or the other end closes."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _MOST:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "timed out")
        connection.settimeout(left)
        part = connection.recv(_MOST)
        if not part:
            break
        line += part
    return line


def _reason(path: str, error: OSError) -> WatcherError:
    """Why the name service could not be asked."""
    if isinstance(error, PermissionError):
        return not_for_you(path)
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        return NoNameService(
            f"no name service serves {path}", "start it, e.g. `systemctl start watcher-names`"
        )
    if isinstance(error, TimeoutError) or error.errno == errno.EAGAIN:
        return WatcherError(
            f"{path}: the name service does not answer",
            "restart it, e.g. `systemctl restart watcher-names`",
        )
    return WatcherError(f"{path}: {message_of(error)}")
