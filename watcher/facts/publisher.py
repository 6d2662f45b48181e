"""The one point where facts are published, and the list of those who are told."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from watcher.model.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.facts.kinds import Fact
    from watcher.log.logger import Log

type Subscriber = Callable[[Fact], object]
"""Is called with each fact, in order. It must not wait: the service's thread calls it, and for
:class:`watcher.facts.kinds.HeldTooLong` the gate's."""


class Publisher:
    """Tells every subscriber of every fact, behind the work that is going on.

    Args:
        subscribers: they get each fact, in this order.
        log: where a subscriber that raises is reported.
    """

    def __init__(self, subscribers: Iterable[Subscriber], log: Log) -> None:
        self._subscribers = list(subscribers)
        self._log = log
        self._waiting: deque[Fact] = deque()
        self._call_soon: Callable[[Callable[[], None]], object] | None = None

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell `subscriber` of every fact from now on."""
        self._subscribers.append(subscriber)

    def publish(self, fact: Fact) -> None:
        """Tell of `fact` when the present work is done. Only for the thread that does that work."""
        self._waiting.append(fact)
        if len(self._waiting) > 1:  # somebody has been asked to deliver them
            return
        if self._call_soon is None:
            self.deliver()
        else:
            self._call_soon(self.deliver)

    def publish_at_once(self, fact: Fact) -> None:
        """Tell of `fact` now, from any thread, whatever the service's thread is waiting for."""
        for subscriber in self._subscribers:
            self._tell(subscriber, fact)

    def defer(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """Deliver by `call_soon` from now on, so that a container at the gate is answered first."""
        self._call_soon = call_soon

    def defer_no_more(self) -> None:
        """Deliver what is waiting, and from now on each fact as it is published."""
        self._call_soon = None
        self.deliver()

    def deliver(self) -> None:
        """Tell of all that is waiting."""
        while self._waiting:
            for subscriber in self._subscribers:
                self._tell(subscriber, self._waiting[0])
            self._waiting.popleft()

    def _tell(self, subscriber: Subscriber, fact: Fact) -> None:
        try:
            subscriber(fact)
        except Exception as error:  # noqa: BLE001 (it is the subscriber's own)
            self._log.error(
                "a subscriber failed", fact=type(fact).__name__, error=shortened(repr(error))
            )
