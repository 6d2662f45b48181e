"""Hands the events of a command over to the host's service, or else writes them to the history."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.feed.from_commands import PATIENCE, Collected, send
from watcher.feed.names import TOLD
from watcher.locks.lock import Busy, Lock
from watcher.locks.names import SERVICE, WRITERS
from watcher.model.errors import message_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config.settings import Config
    from watcher.feed.lines import Event
    from watcher.log.logger import Log

_PAUSE: Final = 0.02
"""Seconds between two tries to reach a service that is just starting."""


class Handover(Collected):
    """The events of a command, until its end.

    Args:
        config: where the service and the history are.
        log: gets what is wrong with the history.
        told: gets a message if events are lost.
    """

    def __init__(self, config: Config, log: Log, told: Callable[[str], object]) -> None:
        super().__init__()
        self._config = config
        self._log = log
        self._told = told
        self._path = f"{config.run_dir}/{TOLD}"

    def deliver(self) -> None:
        """Hand the events over; the caller has no lock, and waits a second or two at the most."""
        if not self.events:
            return
        until = time.monotonic() + PATIENCE
        try:
            lost = self._sent()
            while lost is None and time.monotonic() < until:
                if self._written():
                    return
                time.sleep(_PAUSE)
                lost = self._sent()
        except (OSError, Busy) as error:
            why = error.what if isinstance(error, Busy) else message_of(error)
            self._told(f"what this has changed is in no history: {why}")
            return
        if lost is None:
            self._told(
                f"the service is not told what this has changed, as nothing hears at {self._path};"
                " see its log, or restart it if it is of an older version"
            )
        elif lost:
            self._told(f"the service hangs, and misses {lost} events of what this has changed")

    def _sent(self) -> int | None:
        """How many events the service did not take; `None` if there is no service."""
        try:
            return send(self._path, self.events)
        except (ConnectionRefusedError, FileNotFoundError):
            return None

    def _written(self) -> bool:
        """Write the events to the history; false if there is a service after all.

        Its numbers go on from those in the history once it has had the writers' lock.
        """
        run_dir = self._config.run_dir
        with Lock(run_dir, WRITERS, patience=PATIENCE) as writers, writers.locked():
            with Lock(run_dir, SERVICE) as service:
                if not service.free():
                    return False
            self._write()
        return True

    def _write(self) -> None:
        from watcher.feed.history import History

        history = History(self._config.state_dir, self._config.events, self._log)
        try:
            history.write(_numbered(self.events, history.last_seq))
        finally:
            history.close()


def _numbered(events: list[Event], last: int) -> list[Event]:
    return [replace(event, seq=seq) for seq, event in enumerate(events, last + 1)]
