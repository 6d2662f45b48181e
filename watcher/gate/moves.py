"""Moves held containers into the sandboxes that they share, each in a thread of its own.

Such a thread stops the init first (:mod:`handlers.moving`). Then the event loop's thread admits the
container, as one that is in the shared namespace already, and only then the thread moves it. So
whatever is killed meanwhile, a program starts with the network that the lease store has for it, or
not at all. From the first of these steps on, the deadline of the hold denies the start.
"""

from __future__ import annotations

import os
import select
import time
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from handlers import moving
from handlers.kernel.namespace import open_by_pid
from handlers.moving import CannotMove, HalfMoved
from watcher.gate.aside import Aside
from watcher.locks.lock import Busy
from watcher.model.errors import InvalidRequest, WatcherError, message_of
from watcher.model.keys import SHARE
from watcher.reconcile.plan import remedy

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.gate.hold import Hold
    from watcher.gate.inbox import Inbox
    from watcher.model.container import Container
    from watcher.reconcile.plan import Move
    from watcher.reconcile.reconciler import Reconciler

PATIENCE: Final = 3.0
"""Seconds for which a service that stops waits for the moves that have begun."""


class Answers(Protocol):
    """What becomes of a hold; all in the event loop's thread."""

    def let_start(self, hold: Hold) -> None:
        """Let the container start."""

    def refuse_start(self, hold: Hold, error: Exception, *, denied: bool | None = None) -> None:
        """Refuse the container for `error`; `denied`: whatever `on_invalid` says."""

    def deny_start(self, hold: Hold, error: Exception) -> None:
        """Deny the start for `error`, whether or not the init still runs."""


@dataclass(slots=True, eq=False)
class _Moving:
    """A move that has begun.

    Attributes:
        hold, container, move: the hold, its container, and where that has to be moved.
        word: what the loop's thread says to the one that has stopped the init: whether to go on. It
            is cancelled at the deadline.
        admitted: whether the container has been admitted.
        netns: a descriptor of the shared namespace, in the process's first thread, once admitted.
        refusal: why it was not admitted.
    """

    hold: Hold
    container: Container
    move: Move
    word: Future[bool] = field(default_factory=Future)
    admitted: bool = False
    netns: int = -1
    refusal: Exception | None = None

    def say(self, *, go: bool) -> None:
        """Tell the other thread whether to go on, unless it has given up."""
        if self.word.set_running_or_notify_cancel():
            self.word.set_result(go)

    def heard(self) -> bool:
        """Wait until the deadline for that."""
        try:
            return self.word.result(max(0.0, self.hold.deadline - time.monotonic()))
        except TimeoutError:
            return not self.word.cancel() and self.word.result()


class Moves:
    """Carries out moves.

    Everything but the steps of :meth:`_carry_out` happens in the event loop's thread.

    Args:
        inbox: the loop's.
        reconciler: admits the containers, and takes that back.
        answers: answers their holds.
    """

    def __init__(self, inbox: Inbox, reconciler: Reconciler, answers: Answers) -> None:
        self._inbox = inbox
        self._reconciler = reconciler
        self._answers = answers
        self._aside = Aside([inbox.fileno()])
        self._current: set[_Moving] = set()
        self._waiting: list[_Moving] = []
        """Those that wait because another process has the writers' lock."""

    @property
    def under_way(self) -> bool:
        """Whether a move has begun, and has not ended."""
        return bool(self._current)

    def begin(self, hold: Hold, container: Container, move: Move) -> None:
        """Begin to move a held container; its hold is answered at the end."""
        one = _Moving(hold, container, move)
        self._current.add(one)
        if not self._aside.run(partial(self._carry_out, one), until=hold.deadline):
            self._current.discard(one)
            why = "it cannot be moved there, because many other moves hang"
            self._answers.deny_start(hold, self._invalid(one, why, "see what their inits wait for"))

    def again(self) -> None:
        """Go on with those that waited for another process."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one in self._current:
                self._stopped(one)

    def finish(self, answer: Callable[[], object]) -> list[Hold]:
        """Wait for the moves that have begun, but not for long; returns the holds of the others.

        `answer` runs what the inbox has.
        """
        until = time.monotonic() + PATIENCE
        poll = select.poll()
        poll.register(self._inbox.fileno(), select.POLLIN)
        while self._current and (left := until - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                answer()
        return [one.hold for one in self._current]

    def _carry_out(self, one: _Moving) -> None:
        """Move one, in a thread that may hang, and hand back whether it was moved, or why not."""
        with ExitStack() as later:
            try:
                outcome: bool | Exception = self._move(one, later)
            except Exception as error:  # noqa: BLE001 (handled in the loop's thread)
                outcome = error
            self._inbox.put(self._ended, one, outcome)

    def _move(self, one: _Moving, later: ExitStack) -> bool:
        hold, netns = one.hold, one.container.netns
        if netns is None or time.monotonic() >= hold.deadline:
            return False
        with moving.stopped(hold.init, hold.runc_pid, netns) as init:
            self._inbox.put(self._stopped, one)
            if not one.heard():
                return False
            # This thread has a descriptor table of its own, and this is the first thread's.
            shared = os.open(f"/proc/self/fd/{one.netns}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                init.move(shared, one.move.settings, later)
            finally:
                os.close(shared)
        return True

    def _stopped(self, one: _Moving) -> None:
        """Admit a container whose init is stopped."""
        try:
            if time.monotonic() < one.hold.deadline:
                self._admit(one)
        except Busy:  # `again` goes on
            self._waiting.append(one)
            return
        except (WatcherError, OSError) as error:
            one.refusal = error
        except BaseException as error:
            one.refusal = HalfMoved(f"an error of the service: {error!r}")
            one.say(go=False)
            raise
        one.say(go=one.admitted)

    def _admit(self, one: _Moving) -> None:
        sandbox = one.move.sandbox
        pids = (member.init.pid for member in sandbox.members)
        with open_by_pid(pids, sandbox.netns) as netns:  # nor is its number another's meanwhile
            self._reconciler.admit(replace(one.container, netns=sandbox.netns))
            one.netns = os.dup(netns)
        one.admitted = True

    def _ended(self, one: _Moving, outcome: bool | Exception) -> None:
        """Answer the hold of a container whose init is stopped no more."""
        self._current.discard(one)
        if one.netns >= 0:
            os.close(one.netns)
        if outcome is True:
            self._answers.let_start(one.hold)
            return
        withdrawn = not one.admitted or self._withdraw(one)
        match outcome if isinstance(outcome, Exception) else one.refusal:
            case None:
                pass  # the deadline has denied it
            case CannotMove() as error:
                invalid = self._invalid(
                    one, f"it cannot be moved there: {error.what}", error.remedy
                )
                self._answers.refuse_start(one.hold, invalid, denied=None if withdrawn else True)
            case HalfMoved() as error:
                why = f"it was ended in the middle of its move: {error.what}"
                self._answers.deny_start(one.hold, self._invalid(one, why, error.remedy))
            case WatcherError() | OSError() as error:
                self._answers.refuse_start(one.hold, error, denied=None if withdrawn else True)
            case Exception() as error:  # an error of ours must not start it without its network
                self._answers.deny_start(one.hold, self._invalid(one, message_of(error), ""))
                raise error

    def _withdraw(self, one: _Moving) -> bool:
        """Take back what was given to a container that was not moved; whether that worked."""
        try:
            self._reconciler.withdraw(one.container)
        except (WatcherError, OSError):
            return False  # the end of its init, which follows, or sync takes it back
        return True

    def _invalid(self, one: _Moving, reason: str, mend: str) -> InvalidRequest:
        share = one.container.annotations[SHARE]
        return InvalidRequest(SHARE, share, reason, mend or remedy(one.container, share))
