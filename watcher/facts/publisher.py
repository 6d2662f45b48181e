"""Publishes facts to the subscribers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from watcher.model.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.facts.kinds import Fact
    from watcher.log.logger import Log

type Subscriber = Callable[[Fact], object]
"""Called with each fact, in order. It must not wait: it runs in the service's thread, and for
:class:`watcher.facts.kinds.HeldTooLong` in the gate's."""


class Publisher:
    """Passes every fact to every subscriber, after the work in progress.

    Args:
        subscribers: they get each fact, in this order.
        log: gets the errors of subscribers.
    """

    def __init__(self, subscribers: Iterable[Subscriber], log: Log) -> None:
        self._subscribers = list(subscribers)
        self._log = log
        self._waiting: deque[Fact] = deque()
        self._call_soon: Callable[[Callable[[], None]], object] | None = None
        self._first: list[Subscriber] = []

    def tell_first(self, subscriber: Subscriber) -> None:
        """Pass every fact to `subscriber` at once, before the gate answers.

        One that :meth:`publish_at_once` publishes is not passed to it, because that is another
        thread; :meth:`tell` does that.
        """
        self._first.append(subscriber)

    def tell(self, fact: Fact) -> None:
        """Pass `fact` to the subscribers of :meth:`tell_first`, in the service's thread."""
        for subscriber in self._first:
            self._tell(subscriber, fact)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Pass every fact to `subscriber` from now on."""
        self._subscribers.append(subscriber)

    def publish(self, fact: Fact) -> None:
        """Publish `fact` after the present work. Only the thread that does the work calls this."""
        self.tell(fact)
        self._waiting.append(fact)
        if len(self._waiting) > 1:  # their delivery is under way
            return
        if self._call_soon is None:
            self.deliver()
        else:
            self._call_soon(self.deliver)

    def publish_at_once(self, fact: Fact) -> None:
        """Publish `fact` now, from any thread, even while the service's thread waits."""
        for subscriber in self._subscribers:
            self._tell(subscriber, fact)

    def defer(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """Deliver by `call_soon` from now on, so that the gate answers runc before that."""
        self._call_soon = call_soon

    def defer_no_more(self) -> None:
        """Deliver all waiting facts, and from now on each fact as it is published."""
        self._call_soon = None
        self.deliver()

    def deliver(self) -> None:
        """Deliver all waiting facts."""
        while self._waiting:
            for subscriber in self._subscribers:
                self._tell(subscriber, self._waiting[0])
            self._waiting.popleft()

    def _tell(self, subscriber: Subscriber, fact: Fact) -> None:
        try:
            subscriber(fact)
        except Exception as error:  # noqa: BLE001 (a subscriber may raise anything)
            self._log.error(
                "a subscriber failed", fact=type(fact).__name__, error=shortened(repr(error))
            )
