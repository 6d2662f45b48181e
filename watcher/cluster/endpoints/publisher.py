"""Has the registry have the endpoints of this host, in few writes.

What is to be written is the difference between what there is and what the registry has. A first
change is written soon. While changes go on to come, the pauses before a write become longer, so
that many containers which start together are few writes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from watcher.model.errors import WatcherError, message_with_remedy
from watcher.model.pauses import longer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from watcher.log.logger import Log

TOGETHER: Final = 100
"""The most endpoints of one write. Etcd allows 128 operations in a transaction (its option
`--max-txn-ops`)."""

_PAUSES: Final = 0.05, 0.8
"""Seconds from a change to its write: of the first, and the most while changes go on to come."""

_RETRIES: Final = 1.0, 30.0
"""Seconds until the next try after a write has failed: first, most."""


class Registry(Protocol):
    """Where they are written."""

    async def put_endpoints(self, changes: Mapping[str, bytes | None]) -> int:
        """Write endpoints of this host by id, or remove those that are `None`: all, or none.

        Returns the revision at which it was done.

        Raises:
            WatcherError, OSError: it could not be done, or nobody knows whether it was.
        """


class Publisher:
    """See the module's docstring.

    Args:
        registry: where they are written.
        log: gets what goes wrong.
    """

    def __init__(self, registry: Registry, log: Log) -> None:
        self._registry = registry
        self._log = log
        self._wanted: Mapping[str, bytes] | None = None
        """What there is; `None` until that is known."""
        self._there: dict[str, bytes] = {}
        """What the registry has told that it has."""
        self._written: dict[str, tuple[bytes | None, int]] = {}
        """What was written, and at which revision, of which the registry has not told yet."""
        self._earlier: dict[str, tuple[bytes | None, int]] = {}
        """What of this was written before the registry began to tell all anew."""
        self._revision = 0
        """Up to where the registry has told; 0 until it has told all."""
        self._due: dict[str, None] = {}
        """What may differ, in the order in which that was noticed."""
        self._some, self._many, self._may = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._problem = ""

    # What there is:

    def replaced(self, endpoints: Mapping[str, bytes]) -> None:
        """These are all endpoints that there are, by id. They change."""
        self._wanted = endpoints
        self._look_at_all()

    def changed(self, id_: str) -> None:
        """One of them is new, has changed or is gone."""
        self._look_at((id_,))

    # What the registry has:

    @property
    def there(self) -> Mapping[str, bytes]:
        """What it has told that it has, by id."""
        return self._there

    def forget(self) -> None:
        """This host has another name: the registry has nothing for it, until it is told."""
        self._there, self._written = {}, {}
        self._look_at_all()

    def begin(self) -> None:
        """The registry tells all anew. It may be older than what it has told: it was restored."""
        self._earlier = dict(self._written)

    def told(self, id_: str, value: bytes | None, revision: int) -> None:
        """The registry has had `value` there since `revision`."""
        written = self._written.get(id_)
        if written is not None and written[1] <= revision:
            del self._written[id_]
        if value is None:
            self._there.pop(id_, None)
        else:
            self._there[id_] = value
        self._look_at((id_,))

    def told_all(self, revision: int) -> None:
        """The registry has told all that has happened up to `revision`."""
        first, self._revision = not self._revision, revision
        earlier, self._earlier = self._earlier, {}
        known = [
            id_
            for id_, written in self._written.items()
            if written[1] <= revision or earlier.get(id_) is written
        ]
        for id_ in known:
            del self._written[id_]
        if first:
            self._look_at_all()
        else:
            self._look_at(known)

    def may_write(self, *, may: bool) -> None:
        """Whether this host is in the cluster, and etcd answers."""
        if may:
            self._may.set()
        else:
            self._may.clear()

    async def run(self) -> None:
        """Write what differs, until cancelled."""
        pause = retry = 0.0
        while True:
            try:
                async with asyncio.timeout(pause or None):
                    await self._some.wait()
            except TimeoutError:
                pause = 0.0
                continue
            pause = longer(pause, _PAUSES)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._many.wait()
            await self._may.wait()
            changes = self._differences()
            if not changes:
                continue
            try:
                revision = await self._registry.put_endpoints(changes)
            except (WatcherError, OSError) as error:
                self._fail(message_with_remedy(error))
                self._look_at(changes)
                retry = longer(retry, _RETRIES)
                await asyncio.sleep(retry)
            else:
                retry, self._problem = 0.0, ""
                if revision > self._revision:
                    self._written.update((i, (value, revision)) for i, value in changes.items())
                self._look_at(changes)  # it may be as it was before meanwhile

    def _look_at_all(self) -> None:
        self._look_at({**self._there, **dict.fromkeys(self._written), **(self._wanted or {})})

    def _look_at(self, ids: Iterable[str]) -> None:
        if self._wanted is None or not self._revision:
            return
        self._due.update(dict.fromkeys(id_ for id_ in ids if self._differs(id_)))
        if self._due:
            self._some.set()
            if len(self._due) >= TOGETHER:
                self._many.set()

    def _differences(self) -> dict[str, bytes | None]:
        """What the registry is to have that it has not, as much as is one write."""
        changes: dict[str, bytes | None] = {}
        wanted = self._wanted or {}
        while self._due and len(changes) < TOGETHER:
            id_ = next(iter(self._due))
            del self._due[id_]
            if self._differs(id_):
                changes[id_] = wanted.get(id_)
        if not self._due:
            self._some.clear()
        if len(self._due) < TOGETHER:
            self._many.clear()
        return changes

    def _differs(self, id_: str) -> bool:
        """Whether the registry has something else than there is."""
        there = self._written[id_][0] if id_ in self._written else self._there.get(id_)
        return (self._wanted or {}).get(id_) != there

    def _fail(self, problem: str) -> None:
        """Log why nothing can be written, once."""
        if problem != self._problem:
            self._problem = problem
            self._log.warning("other hosts do not hear of containers here", reason=problem)
