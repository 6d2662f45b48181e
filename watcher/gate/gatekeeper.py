"""The gate as the service uses it: opens it if possible, and has reconcile answer its holds.

The module is long because it has every way in which a hold can end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from handlers.host import root_mounts
from handlers.kernel import processes
from watcher.containers import proc
from watcher.containers.files import Unreadable
from watcher.facts.kinds import Evaded, HeldTooLong, NotHeld, Released
from watcher.gate import filesystems, observe
from watcher.gate.aside import Aside
from watcher.gate.evasions import Evasions
from watcher.gate.hold import Hold
from watcher.gate.inbox import Inbox
from watcher.gate.moves import Moves
from watcher.gate.notices import Notices
from watcher.gate.resolv_confs import ResolvConfs
from watcher.gate.thread import Gate
from watcher.locks.lock import Busy
from watcher.model.errors import Unclaimed, WatcherError, about, message_of, quoted

if TYPE_CHECKING:
    from handlers.host import OpenRoot
    from watcher.config import settings
    from watcher.facts.publisher import Publisher
    from watcher.log.logger import Log
    from watcher.model.container import Container, Process
    from watcher.reconcile.reconciler import Reconciler

MOVE = 0.01
"""Seconds for which facts wait for moves, and for each resolv.conf."""

REMEDY = 'give the service CAP_SYS_ADMIN, or set mode = "off" in [gate]'


class Gatekeeper:
    """Holds runc until reconcile has given its container a network.

    It can start before reconcile is ready: holds wait then, at most until their deadline.
    Everything but the end of a hold at its deadline happens in the event loop's thread.

    Args:
        settings: `[gate]`.
        facts: where late answers are published; subscribers run only after waiting holds are
            answered.
        log: the log.
    """

    def __init__(self, settings: settings.Gate, facts: Publisher, log: Log) -> None:
        self._settings = settings
        self._facts = facts
        self._log = log
        self._gate: Gate | None = None
        self._may_borrow = True
        self._wanted = False
        self._opened: dict[str, int] = {}
        """The open directory of each root that is held."""
        self._slow: set[str] = set()
        """Roots on file systems that may never answer."""
        self._inbox = Inbox()
        self._aside = Aside([self._inbox.fileno()])
        self._notices = Notices([self._inbox.fileno()])
        self.resolv_confs = ResolvConfs(self._inbox, facts, log)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moves: Moves | None = None
        self._waiting: list[tuple[Hold, Container]] = []
        """Holds that wait because another process has the writers' lock, or for an address."""
        self._evasions = Evasions()

    @property
    def open(self) -> bool:
        """Whether runc is held."""
        return self._gate is not None

    @property
    def alive(self) -> bool:
        """Whether its thread runs; also true if the gate is off or could not be opened."""
        return not self._wanted or (self._gate is not None and self._gate.alive)

    def start(self) -> None:
        """Open the gate, if the configuration and the kernel allow it; no root is held yet.

        Raises:
            WatcherError: the gate is required but impossible.
        """
        if self._settings.mode == "off":
            self._warn("the configuration turns it off", 'set mode = "auto" in [gate]')
            return
        try:
            self.renew()
        except OSError as error:
            if self._settings.mode == "required":
                raise WatcherError(f"runc cannot be held: {message_of(error)}", REMEDY) from error
            self._warn(message_of(error), REMEDY)
        else:
            self._wanted = True

    def renew(self) -> None:
        """Open the gate, or replace it; no root is held yet. `OSError` if the kernel refuses."""
        self._stop_asking()
        self._gate = Gate(
            keep=[self._inbox.fileno()],
            timeout=self._settings.timeout,
            on_timeout=self._settings.on_timeout == "allow",
            decide=self._on_hold,
            expired=self._expired,
            overflow=lambda: self._inbox.put(self._overflow),
            failed=lambda error: self._inbox.put(self._failed, error),
        )
        self._gate.borrow(allowed=self._may_borrow)

    def configure(self, settings: settings.Gate) -> None:
        """Use `settings` from now on, which have the same mode; present holds stay."""
        self._settings = settings
        if self._gate is not None:
            self._gate.configure(
                timeout=settings.timeout, on_timeout=settings.on_timeout == "allow"
            )

    def borrow(self, *, allowed: bool) -> None:
        """Whether answers may borrow a descriptor, as :meth:`Gate.borrow` says."""
        self._may_borrow = allowed
        if self._gate is not None:
            self._gate.borrow(allowed=allowed)

    def serve(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        *,
        watch: Callable[[str, str, Process], None],
        lost: Callable[[], object],
        ended: Callable[[], object],
    ) -> None:
        """Answer holds from now on, including those that wait already.

        Args:
            loop: the event loop of the calling thread, in which reconcile is used.
            reconciler: answers the holds.
            watch: called with root, id and init of each admitted container.
            lost: called when a container may have been missed.
            ended: called when the gate's thread may have ended.
        """
        self._loop, self._reconciler = loop, reconciler
        self._watch, self._lost, self._ended = watch, lost, ended
        self._moves = Moves(self._inbox, reconciler, self)
        self.resolv_confs.serve(loop, reconciler)
        loop.add_reader(self._inbox.fileno(), self._inbox.run_any)
        self._facts.defer(lambda deliver: loop.call_soon(self._answer_and_deliver, deliver))

    def answer_first(self) -> None:
        """Answer the holds that wait, before work of the loop that nobody waits for."""
        if self._loop is None or not self._inbox.waiting:
            return
        try:
            self._inbox.run_any()
        except Exception as error:  # noqa: BLE001 (it is not the caller's)
            self._loop.call_exception_handler({"message": "a hold", "exception": error})

    def _answer_and_deliver(self, deliver: Callable[[], object]) -> None:
        """Deliver facts behind the answers of all holds, whichever they are about.

        A move, or a resolv.conf, takes a few milliseconds, for which it is let alone once.
        """
        self.answer_first()
        moves = self._moves is not None and self._moves.under_way
        if self._loop is not None and (moves or self.resolv_confs.under_way):
            self._loop.call_later(MOVE, deliver)
        else:
            deliver()

    def again(self) -> None:
        """Answer the holds that waited for another process, or for an address."""
        waiting, self._waiting = self._waiting, []
        for hold, container in waiting:
            if time.monotonic() < hold.deadline:
                self._admit(hold, container)
        if self._moves is not None:
            self._moves.again()

    def refuse(self, root: str, why: str) -> None:
        """Raise a WatcherError if `root` cannot be held but holding is required."""
        if self._settings.mode == "required":
            raise WatcherError(
                f"runc cannot be held in root {quoted(root)}: {why}",
                'see what stands at that path, or set mode = "auto" in [gate]',
            )

    def hold(self, root: str, *, make: bool = True) -> OpenRoot:
        """Open `root`, and hold its runcs from now on. The gate must be open.

        If it is missing, `make` makes it.

        Raises:
            WatcherError, OSError: it cannot be a mount of its own, or cannot be marked.
        """
        held = root_mounts.hold(root, make=make)
        try:
            self.mark(held)
        except OSError:
            root_mounts.release(held)
            raise
        return held

    def mark(self, root: OpenRoot) -> None:
        """Hold the runcs of a root that is a mount of its own. The gate must be open."""
        assert self._gate is not None
        self._gate.mark(root.path, root.descriptor, filesystem=root.whole)
        self._opened[root.path] = root.descriptor
        self._slow.discard(root.path)
        if not filesystems.is_prompt_at(root.descriptor):
            self._slow.add(root.path)
        self._evasions.begin(root.path)

    def let_go(self, root: OpenRoot) -> None:
        """Undo :meth:`hold`, including the root's mount; `OSError` if the kernel refuses."""
        self._opened.pop(root.path, None)
        self._evasions.end(root.path)
        try:
            if self._gate is not None:
                self._gate.unmark(root.path)
        finally:
            root_mounts.release(root)

    def started(self, root: str, id_: str, init: Process) -> None:
        """Publish it if a container that was just seen for the first time evaded the gate."""
        if not self._evasions.is_one(root, id_, init):
            return
        if self._gate is None or not self._gate.has_passed(root, id_):
            self._facts.publish(Evaded(root, id_))

    def stop(self) -> None:
        """Release all holds and close the gate; :meth:`let_go` handles the roots.

        A move that has begun ends before that. One that hangs is denied.
        """
        hanging = [] if self._moves is None else self._moves.finish(self.answer_first)
        self._moves = None
        self.resolv_confs.stop()
        for hold in hanging:
            if self._gate is not None:
                self._gate.decide(hold, allow=False)
        self._stop_asking()
        if self._loop is not None:
            self._loop.remove_reader(self._inbox.fileno())
            self._loop = None
        self._facts.defer_no_more()

    def _stop_asking(self) -> None:
        if self._gate is not None:
            self._gate.close()
            self._gate = None

    def _on_hold(self, hold: Hold) -> None:
        """Pass a hold on, in the gate's thread."""
        self._evasions.remember(hold)
        self._inbox.put(self._decide, hold)

    def _decide(self, hold: Hold) -> None:
        """Give the held container its network and let it start, or make runc fail."""
        if self._gives_up(hold):
            return
        if hold.root in self._slow:
            self._observe_aside(hold)
            return
        try:
            container = observe.observe(hold, self._opened.get(hold.root))
        except observe.MayHang:
            self._observe_aside(hold)
        except Unreadable as error:
            self._refuse_unread(hold, error)
        else:
            self._admit(hold, container)

    def _gives_up(self, hold: Hold) -> bool:
        """Whether runc fails anyway: the hold was denied at its deadline."""
        return time.monotonic() >= hold.deadline and self._settings.on_timeout == "deny"

    def _observe_aside(self, hold: Hold) -> None:
        """Have another thread observe the container, however long that takes."""

        def read() -> None:
            try:
                seen: Container | Exception = observe.observe(hold, patient=True)
            except Exception as error:  # noqa: BLE001 (raised in the loop's thread)
                seen = error
            self._inbox.put(self._observed, hold, seen)

        if not self._aside.run(read):
            verdict = self._settings.on_timeout
            self._facts.publish(NotHeld(hold.root, hold.id, verdict))
            why = "the file systems of many other bundles do not answer"
            self._answer_with_notice(
                hold, _unready(hold, why, verdict, "see to them"), allow=verdict == "allow"
            )

    def _observed(self, hold: Hold, seen: Container | Exception) -> None:
        if self._gives_up(hold):
            return
        if isinstance(seen, Unreadable):
            self._refuse_unread(hold, seen)
        elif isinstance(seen, Exception):
            hold.answer(True)  # an error of ours must not hold runc
            raise seen
        else:
            self._admit(hold, seen)

    def _admit(self, hold: Hold, container: Container) -> None:
        if not container.alive:
            hold.answer(True)
            return
        self.resolv_confs.expect(hold.init)
        try:
            move = self._reconciler.admit(container, hold.runtime.unmovable)
        except Busy:  # `again` answers it, or the sync that comes with it
            self._wait(hold, container)
        except Unclaimed as unclaimed:
            if unclaimed.waits:
                self._wait(hold, container)
            else:
                self.refuse_start(hold, unclaimed)
        except (WatcherError, OSError) as error:
            self.refuse_start(hold, error)
        except BaseException:
            hold.answer(True)  # an error of ours must not hold runc
            raise
        else:
            if move is None:
                self.let_start(hold)
            elif (
                self._moves is not None and self._gate is not None and self._gate.deny_if_late(hold)
            ):
                self._moves.begin(hold, container, move)
        finally:
            self.resolv_confs.expect_no_more(hold.init)

    def _wait(self, hold: Hold, container: Container) -> None:
        """Have `again` answer a hold."""
        now = time.monotonic()
        self._waiting = [one for one in self._waiting if now < one[0].deadline]
        self._waiting.append((hold, container))

    def let_start(self, hold: Hold) -> None:
        """Let a container that has its network start, once it has its resolv.conf."""
        start = partial(self._let_start, hold)
        try:
            waits = self.resolv_confs.begin(hold.root, hold.id, hold.init, hold.deadline, start)
        except BaseException:
            start()  # an error of ours must not hold runc
            raise
        if not waits:
            start()

    def _let_start(self, hold: Hold) -> None:
        if hold.answer(True):
            self._released(hold, allowed=True)
        self._watch(hold.root, hold.id, hold.init)

    def _released(self, hold: Hold, *, allowed: bool) -> None:
        """Publish how long `hold` lasted."""
        self._facts.publish(Released(hold.root, hold.id, time.monotonic() - hold.began, allowed))

    def _refuse_unread(self, hold: Hold, error: Unreadable) -> None:
        """Handle a container that cannot be observed; its `state.json` tells more in a moment."""
        self.refuse_start(
            hold, error, denied=False if isinstance(error, observe.AsksNothing) else None
        )

    def refuse_start(self, hold: Hold, error: Exception, *, denied: bool | None = None) -> None:
        """Refuse a container for `error`; `denied`: its start, whatever the configuration says."""
        if processes.start_time(hold.runc_pid) is None or not proc.runs(hold.init):
            hold.answer(True)  # runc or the init was killed: no start, and nothing to report
            return
        if denied is None:
            denied = self._settings.on_invalid == "deny"
        if denied:
            self.deny_start(hold, error)
            return
        try:
            self._reconciler.refuse(hold.root, hold.id, hold.init, error, denied=False)
        finally:
            if hold.answer(True):
                self._released(hold, allowed=True)

    def deny_start(self, hold: Hold, error: Exception) -> None:
        """Deny the start of a container for `error`."""
        if processes.start_time(hold.runc_pid) is None:
            hold.answer(True)
            return
        try:
            self._reconciler.refuse(hold.root, hold.id, hold.init, error, denied=True)
        finally:
            self._answer_with_notice(hold, about(hold.id, error), allow=False)

    def _answer_with_notice(self, hold: Hold, why: str, *, allow: bool) -> None:
        """Tell runc's user why, and then answer; only a moment later if that cannot be told."""
        if self._gate is not None and self._gate.decide(hold, allow=allow):
            self._released(hold, allowed=allow)
            self._notify(hold, why)

    def _notify(self, hold: Hold, why: str) -> None:
        """Tell runc's user why its hold has ended, and then give the answer. From any thread."""
        if not self._notices.send(hold, why, lambda: self._inbox.put(self._finish, hold)):
            self._inbox.put(self._finish, hold)

    def _finish(self, hold: Hold) -> None:
        if self._gate is not None:
            self._gate.finish(hold)

    def _expired(self, hold: Hold, allow: bool) -> None:
        """Publish it in the gate's thread, because the loop's thread may be stuck."""
        timeout, verdict = self._settings.timeout, "allow" if allow else "deny"
        fact = HeldTooLong(hold.root, hold.id, timeout, verdict)
        self._facts.publish_at_once(fact)
        self._inbox.put(self._facts.tell, fact)
        self._inbox.put(partial(self._released, hold, allowed=allow))
        why = f"its network was not ready within {timeout:g} s"
        remedy = "see what the host is busy with, or raise gate.timeout"
        self._notify(hold, _unready(hold, why, verdict, remedy))

    def _overflow(self) -> None:
        self._lost()

    def _failed(self, error: Exception) -> None:
        self._log.error("gate", error=message_of(error))
        self._ended()

    def _warn(self, why: str, remedy: str) -> None:
        self._log.warning(
            "no gate: a container's first instructions may run before it has its network",
            why=why, remedy=remedy,
        )  # fmt: skip


def _unready(hold: Hold, why: str, verdict: str, remedy: str) -> str:
    """The notice of a hold that ends before the container has its network."""
    fate = "it starts before its network" if verdict == "allow" else "its start is denied"
    return f"container {quoted(hold.id)}: {why}, so {fate}; {remedy}"
