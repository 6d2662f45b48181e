"""Reads the events socket: its lines, and the picture that they make."""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING, Final, Self

import msgspec

from watcher.feed.lines import (
    AnyLine,
    ClusterLine,
    Counted,
    Event,
    FailureLine,
    Missed,
    NetworkLine,
    Readers,
    Ready,
    Rejections,
    RootLine,
    SandboxLine,
    State,
    Totals,
    Traffic,
)
from watcher.feed.names import EVENTS, not_for_you
from watcher.model.errors import WatcherError
from watcher.observe.line_socket import LineSocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from types import TracebackType

_PART: Final = 1 << 18
_decoder: Final[msgspec.json.Decoder[AnyLine]] = msgspec.json.Decoder(AnyLine)


class NotServed(WatcherError):
    """No service serves the socket."""


class Stream(LineSocket[AnyLine]):
    """A connection to the socket.

    Args:
        run_dir: where the socket is.
        timeout: seconds after which a call that waits raises `TimeoutError`; `None`: never.
        part: bytes that :meth:`received` takes at once, at most.

    Raises:
        NotServed: no service runs.
        WatcherError: it may not be opened.
    """

    def __init__(self, run_dir: str, timeout: float | None = None, *, part: int = _PART) -> None:
        super().__init__(_decoder, timeout, part)
        path = f"{run_dir}/{EVENTS}"
        try:
            self._socket.connect(path)
        except PermissionError as error:
            self._socket.close()
            raise not_for_you(path) from error
        except OSError as error:
            self._socket.close()
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                raise
            raise NotServed(
                f"no service serves {path}", "start it, e.g. `systemctl start watcher`"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def lines(self) -> Iterator[AnyLine]:
        """Every line as it comes, until the service ends. Lines of unknown types are skipped."""
        while (lines := self.received()) is not None:
            yield from lines

    def picture(self, deadline: float = math.inf) -> Picture:
        """The state, once it is complete.

        `deadline` is on the clock of `time.monotonic`; it is looked at whenever something comes.

        Raises:
            WatcherError: the service ended meanwhile, or has too many readers.
            TimeoutError: the deadline has passed.
        """
        picture = Picture()
        while (lines := self.received()) is not None:
            for line in lines:
                picture.apply(line)
                if picture.complete:
                    return picture
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
        raise WatcherError(
            "the service closed the events socket: it ended, or you have too many readers",
            "try again",
        )


class Picture:
    """What the lines tell, put together.

    Attributes:
        complete: whether the state is complete.
        state: its first line.
        seq: the number of the last event in it.
        sandboxes, failures: by key.
        networks, roots: by name and path.
        cluster: how the host stands with its cluster; `None` if it has none.
        traffic: by host end. Events do not renew it.
        rejections: by address, as old as the traffic.
        counted: when the traffic was as it is; `None` if that is not told.
        totals, readers: as old as the state.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.complete = False
        self.state: State | None = None
        self.seq = 0
        self.sandboxes: dict[str, SandboxLine] = {}
        self.failures: dict[str, FailureLine] = {}
        self.networks: dict[str, NetworkLine] = {}
        self.roots: dict[str, RootLine] = {}
        self.cluster: ClusterLine | None = None
        self.traffic: dict[str, Traffic] = {}
        self.rejections: dict[str, Rejections] = {}
        self.counted: datetime | None = None
        self.totals: Totals | None = None
        self.readers: Readers | None = None

    def apply(self, line: AnyLine) -> None:  # noqa: C901 (a case for each)
        """Take a line into the picture."""
        match line:
            case State():
                self._clear()
                self.state = line
            case SandboxLine(key=key):
                self.sandboxes[key] = line
            case FailureLine(key=key):
                self.failures[key] = line
            case NetworkLine(name=name):
                self.networks[name] = line
            case RootLine(path=path):
                self.roots[path] = line
            case ClusterLine():
                self.cluster = line
            case Counted(time=time):
                self.counted = time
            case Traffic(host_name=host_name):
                self.traffic[host_name] = line
            case Rejections(address=address):
                self.rejections[address] = line
            case Totals():
                self.totals = line
            case Readers():
                self.readers = line
            case Ready(seq=seq):
                self.seq, self.complete = seq, True
            case Missed():
                self.complete = False
            case Event():
                self._change(line)

    def _change(self, event: Event) -> None:
        self.seq = event.seq
        for key in event.unset:
            self.sandboxes.pop(key, None)
            self.failures.pop(key, None)
        for entry in event.set:
            self.apply(entry)
