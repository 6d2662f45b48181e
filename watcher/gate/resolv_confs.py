"""Gives containers their `/etc/resolv.conf`: held ones before they start, others as soon as may be.

Each is placed by a thread that no other thread waits for. A container starts without one if that
fails, or takes too long: a network without names is better than none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from handlers import resolv_conf
from handlers.resolv_conf import CannotPlace, Gone, Outcome
from watcher.facts.kinds import Attached, Detached, Leased, NoResolvConf
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

REST: Final = 0.001
"""Seconds for which such a thread rests after each: a service that starts may find thousands."""

_SEE: Final = "see to that file system"
SLOW: Final = "/etc/resolv.conf is not there yet: the file system of its root does not answer"


@dataclass(slots=True, eq=False)
class _Placing:
    """A file that is being placed.

    Attributes:
        root, id, init, file: which, and where.
        finished: whether the thread is done; that thread says so.
        outcome: what has come of it, once that is heard of.
        done: called then.
    """

    root: str
    id: str
    init: Process
    file: ResolvConf
    finished: bool = False
    outcome: Outcome | Exception | None = None
    done: Callable[[], object] | None = None


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
        self._expected: dict[Process, _Placing | None] = {}
        """The held ones that are being admitted, with what has been begun for them."""
        self._pending: set[Process] = set()
        """The held ones that wait for it."""
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
        self._present = reconciler.present
        self.write()
        self._facts.tell_first(self._note)
        self._facts.subscribe(self._heard)

    def stop(self) -> None:
        """Answer no hold any more."""
        self._loop = None
        self._pending.clear()

    def write(self) -> None:
        """Write the files as the configuration in force has them."""
        for file in self._present.resolv_confs():
            try:
                resolv_conf.write(file)
            except OSError as error:
                self._log.error("no resolv.conf can be placed", reason=message_with_remedy(error))
                return

    def check(self) -> None:
        """Write them again if all are gone; one that is lost is made when it is needed."""
        if not resolv_conf.has_any(self._reconciler.run_dir):
            self.write()

    def look_at_all(self) -> None:
        """Place what is missing in the containers that run.

        Those of versions that did not know names are left alone: they were started without.
        """
        for sandbox, member in self._present.members():
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
        early = placing = self._expected.pop(init, None)
        if placing is None:
            found = self._attached.get(init) or self._present.member(root, id_)
            placing = None if found is None else self._placing(*found)
        if placing is None:
            return False
        self._begun.add(init)
        if early is None and not self._run(self._held, placing):
            return False
        if placing.outcome is not None:
            self._report(placing, placing.outcome)
        if placing.finished:
            return False
        self._pending.add(init)
        patience = (until - time.monotonic()) * OF_HOLD
        timer = self._loop.call_later(patience, self._give_up, placing, done)
        placing.done = partial(self._done, init, timer, done)
        return True

    def expect(self, init: Process) -> None:
        """A held container is about to be admitted: what it needs can be begun meanwhile."""
        self._expected[init] = None

    def expect_no_more(self, init: Process) -> None:
        """It is no longer about to be admitted: it was, or was not, or has to wait."""
        self._expected.pop(init, None)

    def _begin_early(self, sandbox: Sandbox, member: Member) -> None:
        """Begin while a held container is being attached.

        What it gets depends on its leases alone: if the attachment fails, the file does no harm.
        """
        placing = self._placing(sandbox, member)
        if placing is not None and self._run(self._held, placing):
            self._expected[member.init] = placing

    def _placing(self, sandbox: Sandbox, member: Member) -> _Placing | None:
        """What is to be placed for a container; `None` if it gets none."""
        file = self._present.resolv_conf_for(sandbox, member)
        return None if file is None else _Placing(member.root, member.id, member.init, file)

    def _give_up(self, placing: _Placing, done: Callable[[], object]) -> None:
        """Wait no more for one that takes too long; it may still come."""
        if placing.init in self._pending:
            self._pending.discard(placing.init)
            self._tell(placing, CannotPlace(SLOW, _SEE))
            done()

    def _done(self, init: Process, timer: asyncio.TimerHandle, done: Callable[[], object]) -> None:
        timer.cancel()
        if init in self._pending:
            self._pending.discard(init)
            done()

    def _note(self, fact: Fact) -> None:
        """Hear of the work in progress; a first subscriber.

        It remembers who was attached, because the lease store needs longer to tell.
        """
        match fact:
            case Leased(sandbox, members):
                for member in members:
                    if member.init in self._expected:
                        self._begin_early(sandbox, member)
            case Attached(sandbox, members, _):
                for member in members:
                    self._attached[member.init] = sandbox, member

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
        if member.init in self._begun:
            return
        placing = self._placing(sandbox, member)
        if placing is None:
            return
        self._begun.add(member.init)
        self._run(self._others, placing, REST)

    def _run(self, aside: Aside, placing: _Placing, rest: float = 0.0) -> bool:
        """Place a file in another thread, which rests then; whether there is one for it."""

        def work() -> None:
            try:
                outcome: Outcome | Exception = resolv_conf.place(placing.init, placing.file)
            except Exception as error:  # noqa: BLE001 (handled in the loop's thread)
                outcome = error
            placing.finished = True
            self._inbox.put(self._ended, placing, outcome)
            if rest:
                time.sleep(rest)

        if aside.run(work, placing.root):
            return True
        why = "/etc/resolv.conf is not there: the file systems of many other roots do not answer"
        self._tell(placing, CannotPlace(why, "see to them"))
        return False

    def _ended(self, placing: _Placing, outcome: Outcome | Exception) -> None:
        placing.outcome = outcome
        if placing.done is not None:
            placing.done()
        if placing.init in self._begun:  # else it is still being admitted, or was refused
            self._report(placing, outcome)

    def _report(self, placing: _Placing, outcome: Outcome | Exception) -> None:
        match outcome:
            case Outcome() | Gone():
                pass
            case WatcherError() as error:
                self._tell(placing, error)
            case Exception() as error:
                raise error

    def _tell(self, placing: _Placing, error: WatcherError) -> None:
        """Publish why a container has none, once."""
        init, reason = placing.init, str(error)
        if self._told.get(init) != reason:
            self._told[init] = reason
            self._facts.publish(NoResolvConf(placing.root, placing.id, reason))
