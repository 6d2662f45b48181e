"""Gives containers their `/etc/resolv.conf`: held ones before they start, others as soon as may be.

Each is placed by a thread that no other thread waits for. A container starts without one if that
fails, or takes too long: a network without names is better than none.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from handlers import resolv_conf
from handlers.resolv_conf import CannotPlace, Gone, Outcome
from watcher.facts.kinds import Attached, Detached, NoResolvConf
from watcher.gate.aside import Aside
from watcher.model.errors import WatcherError, message_with_remedy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from handlers.resolv_conf import ResolvConf
    from watcher.facts.kinds import Fact
    from watcher.facts.publisher import Publisher
    from watcher.gate.inbox import Inbox
    from watcher.log.logger import Log
    from watcher.model.container import Process
    from watcher.model.sandbox import Member, Sandbox
    from watcher.reconcile.reconciler import Reconciler

OF_HOLD: Final = 0.8
"""The part of a hold that is left when this begins, which it may take."""

FEW: Final = 2
"""Threads for containers that are not held: nobody waits for them."""

_SLOW: Final = "/etc/resolv.conf is not there yet: the file system of its root does not answer"
_SEE: Final = "see to that file system"


class ResolvConfs:
    """Places them, and keeps the files that are placed.

    Everything but :func:`handlers.resolv_conf.place` itself happens in the event loop's thread.

    Args:
        inbox: the loop's, for what the threads have done.
        facts: gets the reasons of failures.
        log: gets those of the files.
    """

    def __init__(self, inbox: Inbox, facts: Publisher, log: Log) -> None:
        self._inbox = inbox
        self._facts = facts
        self._log = log
        self._held = Aside([inbox.fileno()])
        self._others = Aside([inbox.fileno()], FEW)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun: set[Process] = set()
        """The inits for which it was tried, until they are detached."""
        self._pending: set[Process] = set()
        """The held ones among them that wait for it."""
        self._told: dict[Process, str] = {}
        self._attached: dict[Process, tuple[Sandbox, Member]] = {}
        """Containers of which the log does not know yet that they are attached, by their inits."""

    @property
    def under_way(self) -> bool:
        """Whether a held container waits for its file."""
        return bool(self._pending)

    def serve(self, loop: asyncio.AbstractEventLoop, reconciler: Reconciler) -> None:
        """Place from now on, in containers of `reconciler`; those that it has have their turn."""
        self._loop, self._reconciler = loop, reconciler
        self.write()
        self._facts.tell_first(self._note)
        self._facts.subscribe(self._heard)

    def stop(self) -> None:
        """Answer no hold any more."""
        self._loop = None
        self._pending.clear()

    def write(self) -> None:
        """Write the files as the configuration in force has them."""
        for file in self._reconciler.resolv_confs():
            try:
                resolv_conf.write(file)
            except OSError as error:
                self._log.error("no resolv.conf can be placed", reason=message_with_remedy(error))
                return

    def look_at_all(self) -> None:
        """Place what is missing in the containers that run.

        Those of versions that did not know names are left alone: they were started without.
        """
        for sandbox, member in self._reconciler.members():
            if member.asked.hostname:
                self._place_later(sandbox, member)

    def begin(
        self, root: str, id_: str, init: Process, until: float, done: Callable[[], object]
    ) -> bool:
        """Begin to place the file of a held container, and call `done` then, whatever came of it.

        Args:
            root, id_, init: the container.
            until: the deadline of its hold, on the clock of `time.monotonic`.
            done: called in the loop's thread, unless the service stops before.

        Returns:
            False if it gets none, or none can be placed now: `done` is not called.
        """
        if self._loop is None:
            return False
        found = self._attached.get(init) or self._reconciler.member(root, id_)
        file = None if found is None else self._reconciler.resolv_conf_for(*found)
        if file is None:
            return False
        self._begun.add(init)
        self._pending.add(init)
        patience = (until - time.monotonic()) * OF_HOLD
        timer = self._loop.call_later(patience, self._give_up, root, id_, init, done)
        if self._run(self._held, root, id_, init, file, partial(self._done, init, timer, done)):
            return True
        timer.cancel()
        self._pending.discard(init)
        return False

    def _give_up(self, root: str, id_: str, init: Process, done: Callable[[], object]) -> None:
        """Wait no more for one that takes too long; it may still come."""
        if init in self._pending:
            self._pending.discard(init)
            self._tell(root, id_, init, CannotPlace(_SLOW, _SEE))
            done()

    def _done(self, init: Process, timer: asyncio.TimerHandle, done: Callable[[], object]) -> None:
        timer.cancel()
        if init in self._pending:
            self._pending.discard(init)
            done()

    def _note(self, fact: Fact) -> None:
        """Remember who was attached: the lease store needs longer to tell; a first subscriber."""
        if isinstance(fact, Attached):
            for member in fact.members:
                self._attached[member.init] = fact.sandbox, member

    def _heard(self, fact: Fact) -> None:
        """Place those of containers that were attached, but not held; a subscriber."""
        match fact:
            case Attached(sandbox, members, _):
                for member in members:
                    self._attached.pop(member.init, None)
                    self._place_later(sandbox, member)
            case Detached(_, members, _):
                for member in members:
                    self._begun.discard(member.init)
                    self._told.pop(member.init, None)

    def _place_later(self, sandbox: Sandbox, member: Member) -> None:
        file = self._reconciler.resolv_conf_for(sandbox, member)
        if file is None or member.init in self._begun:
            return
        self._begun.add(member.init)
        self._run(self._others, member.root, member.id, member.init, file, lambda: None)

    def _run(
        self,
        aside: Aside,
        root: str,
        id_: str,
        init: Process,
        file: ResolvConf,
        done: Callable[[], object],
    ) -> bool:
        def work() -> None:
            try:
                outcome: Outcome | Exception = resolv_conf.place(init, file)
            except Exception as error:  # noqa: BLE001 (handled in the loop's thread)
                outcome = error
            self._inbox.put(self._ended, root, id_, init, outcome, done)

        if aside.run(work):
            return True
        why = "/etc/resolv.conf is not there: the file systems of many other roots do not answer"
        self._tell(root, id_, init, CannotPlace(why, "see to them"))
        return False

    def _ended(
        self,
        root: str,
        id_: str,
        init: Process,
        outcome: Outcome | Exception,
        done: Callable[[], object],
    ) -> None:
        done()
        match outcome:
            case Outcome() | Gone():
                pass
            case WatcherError() as error:
                self._tell(root, id_, init, error)
            case Exception() as error:
                raise error

    def _tell(self, root: str, id_: str, init: Process, error: WatcherError) -> None:
        """Publish why a container has none, once."""
        reason = f"{error}"
        if self._told.get(init) != reason:
            self._told[init] = reason
            self._facts.publish(NoResolvConf(root, id_, reason))
