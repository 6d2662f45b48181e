"""The broker as a process, with the test in the place of the service."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec

from tests.support.traffic import entered
from tests.support.waiting import PATIENCE
from watcher.feed.lines import (
    VERSION,
    AnyLine,
    ContainerPart,
    Event,
    FailureLine,
    Histogram,
    InterfacePart,
    Line,
    Missed,
    NetworkLine,
    Now,
    Ready,
    RootLine,
    SandboxLine,
    State,
    SubnetPart,
    Totals,
    encoded,
)
from watcher.feed.names import EVENTS, FEED, LISTENER
from watcher.observe.stream import Picture, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NOW: Final = datetime.fromtimestamp(1_800_000_000, UTC)
_ABOVE: Final = 10
_decode: Final = msgspec.json.Decoder(AnyLine).decode


def strict(text: bytes) -> AnyLine:
    """A line, which has every field that it must have and none that is unknown."""
    line: AnyLine = _decode(text)
    assert encoded(line) == text + b"\n", text
    return line


def sandbox(number: int, change: int = 0) -> SandboxLine:
    """The line of sandbox `number`, after a `change` of its ports."""
    id_ = f"container-{number}"
    ports = tuple(f"{8000 + change}:{80 + port}/tcp" for port in range(3))
    return SandboxLine(
        f"sandbox/{4026540000 + number}", id_, 4026540000 + number,
        (ContainerPart("/run/runc", id_, 1000 + number, (f"name-{number}",), ports),),
        (
            InterfacePart(
                "eth0", f"netnsv0-{1000 + number}", "default", "02:42:ac:13:00:02", ("172.19.0.2",)
            ),
        ),
    )  # fmt: skip


def failure(id_: str, reason: str, cause: str = "other") -> FailureLine:
    """The line of a failure."""
    return FailureLine(f"failure/{id_}/run/runc", "/run/runc", id_, cause, reason, NOW)


class Service:
    """The service's end of the feed, and what it has told.

    Args:
        run_dir: where the socket is.
        linger: seconds without a reader after which the broker ends.
        netns: the network namespace of the broker.
        descriptors: how many the broker may have.

    Attributes:
        lines: the lines with a key that the feed has told.
        seq: the number of the last event.
    """

    def __init__(
        self, run_dir: Path, linger: float = 60, netns: int | None = None, descriptors: int = 0
    ) -> None:
        self.run_dir, self.path = run_dir, run_dir / EVENTS
        self.lines: dict[str, SandboxLine | FailureLine] = {}
        self.seq = 0
        self.asked = 0
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path))
            listener.listen(1024)
            self.feed, theirs = socket.socketpair()
            with ExitStack() as stack:
                if netns is not None:
                    stack.enter_context(entered(netns))
                self.pid = self._spawn(theirs, listener, linger, descriptors)
        self.pidfd = os.pidfd_open(self.pid)

    @staticmethod
    def _spawn(
        theirs: socket.socket, listener: socket.socket, linger: float, descriptors: int
    ) -> int:
        limited = ["prlimit", f"--nofile={descriptors}:{descriptors}"] if descriptors else []
        argv = [*limited, sys.executable, "-P", "-m", "watcher.observe.broker", str(linger)]
        high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for one in (theirs, listener)]
        theirs.close()
        try:
            return os.posix_spawnp(
                argv[0],
                argv,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, descriptor, wanted)
                    for descriptor, wanted in zip(high, (FEED, LISTENER), strict=True)
                ],
            )
        finally:
            for descriptor in high:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the feed, and wait for the end of the broker."""
        if self.pid:
            signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)
            self.feed.close()
            if not self.ended():
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.pidfd)
            self.pid = 0

    def ended(self, timeout: float = PATIENCE) -> bool:
        """Whether the broker ends by itself."""
        return bool(select.select([self.pidfd], [], [], timeout)[0])

    # What the service tells:

    def send(self, *lines: Line | bytes) -> None:
        """Tell lines as they are."""
        self.feed.sendall(b"".join(x if isinstance(x, bytes) else encoded(x) for x in lines))

    def begin(self) -> None:
        """Begin a pass."""
        self.send(State(VERSION, "0", "service", NOW))

    def tell(self, lines: Iterable[SandboxLine | FailureLine]) -> None:
        """Tell lines in a pass."""
        told = list(lines)
        self.lines |= {line.key: line for line in told}
        self.send(*told)

    def ready(self) -> None:
        """End a pass."""
        self.send(Ready(self.seq))

    def start(self, lines: Iterable[SandboxLine | FailureLine] = ()) -> None:
        """Tell a whole pass."""
        self.begin()
        self.tell(lines)
        self.ready()

    def event(
        self,
        *lines: SandboxLine | FailureLine,
        unset: Iterable[str] = (),
        lost: bool = False,
        kind: str = "attached",
    ) -> None:
        """Tell an event that changes lines; or have it happen, but `lost`."""
        self.seq += 1
        for key in unset:
            self.lines.pop(key, None)
        self.lines |= {line.key: line for line in lines}
        if not lost:
            self.send(Event(self.seq, NOW, kind, set=lines, unset=tuple(unset)))

    def churn(self, numbers: Iterable[int], change: int) -> None:
        """Have an event each change the sandbox of each number."""
        events = []
        for number in numbers:
            self.seq += 1
            line = sandbox(number, change)
            self.lines[line.key] = line
            events.append(Event(self.seq, NOW, "published", set=(line,)))
        self.send(*events)

    def answer(self, timeout: float = PATIENCE) -> None:
        """Wait until the broker asks for what changes without an event, and tell that."""
        self.feed.settimeout(timeout)
        self.asked += len(self.feed.recv(100))
        self.feed.settimeout(None)
        self.send(*now_lines(self.asked), Now())

    # What readers see:

    def reader(self) -> Reader:
        """A new reader."""
        return Reader(self)

    def picture(self) -> Picture:
        """What a new reader gets; the broker gets its answer."""
        with self.reader() as reader:
            return reader.until(lambda: reader.known.complete)

    def agrees(self, picture: Picture) -> bool:
        """Whether `picture` is what the feed has told."""
        return {**picture.sandboxes, **picture.failures} == self.lines and picture.seq == self.seq

    def memory(self) -> int:
        """The broker's own memory, in bytes: what it shares with no file."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

    def cpu(self) -> float:
        """Seconds of CPU that the broker has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def now_lines(number: int) -> tuple[Line, ...]:
    """What the service tells when it is asked for the `number`th time."""
    none = Histogram((0.1, 1.0), (0, 0, 0), 0.0)
    subnet = SubnetPart("172.19.0.0/16", "172.19.0.1", 65533)
    return (
        NetworkLine("default", "bridge", "netns0", (subnet,)),
        RootLine("/run/runc", True),
        Totals(NOW, {"attached": number}, {}, none, none, none),
    )


class Reader(Stream):
    """A reader that also answers for the service when the broker asks it.

    Attributes:
        known: what its lines make.
        seen: the number of lines of each type.
        missed: the counts of all `missed` lines.
    """

    def __init__(self, service: Service) -> None:
        super().__init__(str(service.run_dir))
        self.service = service
        self.known = Picture()
        self.seen: dict[str, int] = {}
        self.missed: list[int] = []
        self.events: list[int] = []
        self._rest = b""

    @property
    def connection(self) -> socket.socket:
        """Its connection."""
        return self._socket

    def read(self, most: int = 1 << 18, timeout: float = PATIENCE, *, answers: bool = True) -> bool:
        """Read what is there, once something is; whether the connection is open."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        feed = self.service.feed.fileno()
        if answers:
            poll.register(feed, select.POLLIN)
        ready: dict[int, int] = {}
        while self.fileno() not in ready:
            ready = dict(poll.poll(timeout * 1000))
            assert ready, f"nothing came within {timeout} s, after {self.seen}"
            if feed in ready:
                self.service.answer()
        part = self._socket.recv(most)
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            self.take(line)
        return bool(part)

    def take(self, text: bytes) -> None:
        """Take one line, strictly: each must be one that docs/events.md has."""
        line = strict(text)
        kind = type(line).__name__
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if isinstance(line, Event):
            assert self.known.complete, line
            assert line.seq == self.known.seq + 1, line
            self.events.append(line.seq)
        if isinstance(line, Missed):
            self.missed.append(line.count)
        self.known.apply(line)

    def until(self, condition: Callable[[], bool]) -> Picture:
        """Read until that holds; the picture then."""
        while not condition():
            assert self.read(), "the broker has closed the connection"
        return self.known

    def follow(self) -> Picture:
        """Read until the last event that the feed has told."""
        return self.until(lambda: self.known.complete and self.known.seq == self.service.seq)
