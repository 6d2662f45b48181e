"""A reader of the events socket, and whether what it was told is what there is."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.support.waiting import PATIENCE
from watcher.feed.lines import Event, Missed, State
from watcher.model.errors import WatcherError
from watcher.observe.stream import Picture, Stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.host import Host, Json
    from watcher.feed.lines import AnyLine


class Reading:
    """Reads the events of the service with `run_dir` until the end of a `with`, also of the next.

    Attributes:
        picture: what it knows.
        events: all events, in order.
        states: how often it got the state.
        missed: what it was told that it missed.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._news = threading.Condition()
        self._ended = False
        self.picture = Picture()
        self.events: list[Event] = []
        self.states = 0
        self.missed: list[int] = []
        self._stream = Stream(str(run_dir))
        self._thread = threading.Thread(target=self._read, name="reading")
        self._thread.start()
        self.until(lambda: self.picture.complete)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        with suppress(OSError), socket.socket(fileno=os.dup(self._stream.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)  # which wakes the thread
        self._thread.join()

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until `condition` holds, after each line."""
        with self._news:
            held = self._news.wait_for(condition, PATIENCE)
            last = self.events[-5:]
        assert held, f"the last events: {last}"

    def event(self, kind: str, container: str = "", since: int = 0) -> Event:
        """Waits for an event of `kind` with a number above `since`, about that container if any."""

        def found() -> Event | None:
            return next(
                (
                    event
                    for event in self.events
                    if event.kind == kind
                    and event.seq > since
                    and container in ("", *(c.id for c in event.containers))
                ),
                None,
            )

        self.until(lambda: found() is not None)
        event = found()
        assert event is not None
        return event

    def _read(self) -> None:
        while True:
            with suppress(OSError):
                for line in self._stream.lines():
                    with self._news:
                        self._take(line)
                        self._news.notify_all()
            self._stream.close()
            while not self._ended:
                with suppress(WatcherError, OSError):
                    self._stream = Stream(str(self._run_dir))
                    break
                time.sleep(0.01)
            if self._ended:
                return

    def _take(self, line: AnyLine) -> None:
        self.picture.apply(line)
        match line:
            case State():
                self.states += 1
            case Missed(count):
                self.missed.append(count)
            case Event():
                self.events.append(line)


def listed(host: Host) -> dict[str, Json]:
    """What `watcher ls` says of each container that has a network, or waits for one."""
    return {
        row["id"]: {key: row[key] for key in ("root", "pid", "name", "network", "address", "veth")}
        | {"ports": sorted(row["ports"])}
        for row in host.ls().values()
        if row["status"] in ("attached", "shared")
    }


def told(picture: Picture) -> dict[str, Json]:
    """The same, as a reader knows it, who may be told more meanwhile."""
    return {
        container.id: {
            "root": container.root,
            "pid": container.pid,
            "name": list(container.names),
            "network": [interface.network for interface in sandbox.interfaces],
            "address": [a for interface in sandbox.interfaces for a in interface.addresses],
            "veth": [interface.host_name for interface in sandbox.interfaces],
            "ports": sorted(container.ports),
        }
        for sandbox in list(picture.sandboxes.values())
        for container in sandbox.containers
    }


def failing(host: Host) -> dict[str, str]:
    """By container that waits for a network, why it has none."""
    rows = host.ls().values()
    return {r["id"]: r["reason"] for r in rows if r["status"] == "failed" and not r["refused"]}


def agrees(host: Host, picture: Picture) -> bool:
    """Whether a reader knows what `watcher ls` says."""
    there = listed(host), failing(host)
    known = told(picture), {line.id: line.reason for line in list(picture.failures.values())}
    assert known == there, f"{known}\n{there}"
    return True
