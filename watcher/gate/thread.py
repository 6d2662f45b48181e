"""The gate's thread: holds runc at its save of `state.json` until the container's network is ready.

runc saves a container's state as `<root>/<id>/state-<random>`, renamed to `state.json`, while the
container's init is in its namespaces and waits for it (runc's `libcontainer/container_linux.go`,
`saveState`). A mark on the root's own mount, or on its file system if nothing else is on that,
holds runc in the open(2) of that file. The gate's answer starts the container or refuses it.
The same goes for crun and its `status.tmp`; but init waits only for `crun create`, while the
program of `crun run` runs by then.

One thread asks the kernel and answers it, and does nothing else, so that nothing else in this
program can keep runc waiting. It opens no file below a marked mount, and takes no lock for longer
than a system call.

That thread has a descriptor table of its own, and no other thread has the fanotify group. When the
last descriptor of the group closes, the kernel releases every held runc. But a killed process whose
other thread waits uninterruptibly (a frozen disk, an absent file server) keeps its descriptors
until that wait ends. So other threads ask the gate's thread to set marks. An answer cannot wait
until a thread wakes up: the answering thread borrows the descriptor for a moment if the kernel lets
threads do so, and asks the gate's thread otherwise. Threads that may wait for ever have tables of
their own as well (`descriptors.py`), so that none of them keeps a borrowed descriptor open.

The module is long: what may touch the group, and in which thread, has to be seen at one glance.
"""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from handlers.kernel import descriptors, mounts
from handlers.kernel.descriptors import Lender
from handlers.kernel.fanotify import FanotifyGroup
from watcher.gate.hold import Hold
from watcher.gate.inbox import Inbox
from watcher.gate.saves import MarkedRoot, Saves
from watcher.gate.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from handlers.kernel.fanotify import Event


class Gate:
    """Holds every save of runc below its marked roots, from its construction to :meth:`close`.

    The four callbacks run in the gate's thread and must only hand over, as with
    `loop.call_soon_threadsafe`, because every held runc waits for them. If `decide` raises, its
    hold is allowed at once.

    Every hold takes a descriptor, and so does every open while the gate looks at it. The kernel
    denies an open for which no descriptor is left (`RLIMIT_NOFILE`).

    Args:
        timeout: seconds until the gate answers a hold by itself.
        on_timeout: whether that answer lets the container start.
        decide: called with each hold; it must see to it that :meth:`Hold.answer` is called.
        expired: called with each hold whose deadline has passed and whether its container starts,
            :data:`.hold.LAST_WORDS` before the gate answers it.
        overflow: called if the kernel dropped events: their containers started unheld.
        failed: called with each unexpected error; see :attr:`alive`.
        keep: descriptors that the callbacks need; besides these and the standard ones, the gate's
            thread has none of this process.
        unlimited: as in :class:`handlers.kernel.fanotify.FanotifyGroup`.

    Raises:
        OSError: the kernel does not allow this process a gate, as in
            :class:`handlers.kernel.fanotify.FanotifyGroup`.
    """

    def __init__(
        self,
        *,
        timeout: float,
        on_timeout: bool,
        decide: Callable[[Hold], None],
        expired: Callable[[Hold, bool], None],
        overflow: Callable[[], None],
        failed: Callable[[Exception], None],
        keep: Iterable[int] = (),
        unlimited: bool = True,
    ) -> None:
        self._timeout = timeout
        self._on_timeout = on_timeout
        self._decide = decide
        self._expired = expired
        self._overflow = overflow
        self._failed = failed
        self._saves = Saves()
        self._lock = threading.Lock()
        self._schedule = Schedule()
        self._requests = Inbox()
        self._lender: Lender | None = None
        self._may_borrow = True
        self._closed = self._ended = False
        kept = [*keep, self._requests.fileno()]
        opened: Future[FanotifyGroup] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(opened, kept, unlimited), name="gate", daemon=True
        )
        self._thread.start()
        try:
            self._group = opened.result()
        except BaseException:
            self._thread.join()
            self._requests.close()
            raise
        self._lender = Lender.of(self._thread)

    @property
    def alive(self) -> bool:
        """Whether its thread lives: :meth:`close` ends it, or an error in the thread's own loop."""
        return self._thread.is_alive()

    def mark(self, root: str, directory: int, *, filesystem: bool = False) -> None:
        """Hold the runcs of `root` from now on; call it again if the root was made or mounted anew.

        Args:
            root: the root's name.
            directory: the root, open in this process's first thread as long as it is marked.
            filesystem: whether it is the top of a file system of its own; then a runc in any mount
                namespace is held.

        Raises:
            OSError: `directory` is not the top of a mount. A mark would hold every open of
                everything else on that mount.
        """
        if not mounts.is_top(directory):
            raise OSError(errno.EINVAL, "is not a mount point", root)
        # By this path a thread with a descriptor table of its own finds the first thread's
        # descriptor.
        marked = MarkedRoot(root, f"/proc/self/fd/{directory}", filesystem)
        before = self._saves.roots
        self._saves.roots = (*(other for other in before if other.root != root), marked)
        try:
            self._have(partial(self._group.mark, marked.directory, filesystem=filesystem))
        except OSError:
            self._saves.roots = before
            raise

    def unmark(self, root: str) -> None:
        """Stop holding runcs of `root`; a runc that is held stays held. Undoes :meth:`mark`.

        The root's directory must still be open.
        """
        before = self._saves.roots
        marked = next((marked for marked in before if marked.root == root), None)
        if marked is None:
            return
        self._saves.roots = tuple(other for other in before if other is not marked)
        with suppress(FileNotFoundError):  # the mark ended with its mount
            self._have(partial(self._group.unmark, marked.directory, filesystem=marked.filesystem))

    def has_passed(self, root: str, id_: str) -> bool:
        """Whether a save of that container came by lately without being held, for want of an init.

        It is an early save, or one of a container in the host's network, or of `crun run`.
        """
        return self._saves.has_passed(root, id_)

    def configure(self, *, timeout: float, on_timeout: bool) -> None:
        """Change how long the holds to come last, and what becomes of all at their deadline."""
        self._timeout, self._on_timeout = timeout, on_timeout

    def borrow(self, *, allowed: bool) -> None:
        """Whether an answering thread may borrow the group's descriptor from now on.

        It may not while another thread without a table of its own may wait for ever: if the process
        is killed just then, that thread would keep the borrowed descriptor.
        """
        with self._lock:
            self._may_borrow = allowed

    def deny_if_late(self, hold: Hold) -> bool:
        """Have the deadline of a hold deny it, whatever else it does. From any thread.

        Returns:
            As :meth:`Hold.answer`.
        """
        with self._lock:
            return self._schedule.deny_if_late(hold)

    def decide(self, hold: Hold, *, allow: bool) -> bool:
        """Decide the answer of a hold, given :data:`.hold.LAST_WORDS` later. From any thread.

        :meth:`finish` gives it sooner.

        Returns:
            As :meth:`Hold.answer`.
        """
        with self._lock:
            if not self._schedule.decide(hold, allow=allow):
                return False
            self._requests.put(lambda: None)  # which sees when it is due
        return True

    def finish(self, hold: Hold) -> None:
        """Give the answer of a decided hold now, unless that has been done. From any thread."""
        with self._lock:
            decided = self._schedule.take_decided(hold)
            answered = None if decided is None else self._give(*decided)
        if answered is not None:
            answered.acquire()

    def close(self) -> None:
        """End the thread and release every held runc; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._requests.put(lambda: None)
            self._thread.join()
            self._requests.close()
            if self._lender is not None:
                self._lender.close()

    def _have(self, call: Callable[[], None]) -> None:
        """Make `call` in the gate's thread, which has the group, and raise what it raises."""
        done: Future[None] = Future()

        def do() -> None:
            try:
                call()
                done.set_result(None)
            except BaseException as error:  # noqa: BLE001 (it is raised where it was asked for)
                done.set_exception(error)

        with self._lock:
            if self._ended:
                raise OSError(errno.ESHUTDOWN, "the gate has ended")
            self._requests.put(do)
        done.result()

    def _run(self, opened: Future[FanotifyGroup], kept: list[int], unlimited: bool) -> None:
        """Ask and answer until closed; whatever ends this thread releases every held runc."""
        try:
            descriptors.have_own(kept)
            group = FanotifyGroup(unlimited=unlimited)
        except BaseException as error:  # noqa: BLE001 (it is raised where the gate is made)
            opened.set_exception(error)
            return
        opened.set_result(group)
        try:
            poll = select.poll()
            poll.register(group.fileno(), select.POLLIN)
            poll.register(self._requests.fileno(), select.POLLIN)
            while not self._closed:
                ready = {fd for fd, _ in poll.poll(self._until_due())}
                if self._requests.fileno() in ready:
                    self._requests.run()
                if group.fileno() in ready:
                    self._take_events(group)
                self._answer_due()
        except Exception as error:  # noqa: BLE001 (the thread's end: there is nobody to raise to)
            self._report(error)
        finally:
            self._end(group)

    def _until_due(self) -> float | None:
        """Milliseconds until something is due, rounded up; `None` if nothing is."""
        with self._lock:
            due = self._schedule.next_due()
        return None if due is None else max(0.0, due - time.monotonic()) * 1000 + 1

    def _take_events(self, group: FanotifyGroup) -> None:
        try:
            events = group.read()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._report(error)  # the kernel has denied that open
            return
        for event in events:
            if event.fd is None:
                self._guarded(self._overflow)
            else:
                self._take(event, event.fd)

    def _take(self, event: Event, fd: int) -> None:
        """Answer the event at once, or make it a hold and pass that on."""
        try:
            hold = self._hold_of(event, fd)
        except Exception as error:  # noqa: BLE001 (never hold anybody for an error of ours)
            self._respond(fd, True)
            self._report(error)
            return
        if hold is None:
            self._respond(fd, True)
            return
        try:
            self._decide(hold)
        except Exception as error:  # noqa: BLE001
            hold.answer(True)
            self._report(error)

    def _hold_of(self, event: Event, fd: int) -> Hold | None:
        """The hold for this event; `None` unless runc saves a container with a live namespace."""
        save = self._saves.save_of(event, fd)
        if save is None:
            return None
        began = time.monotonic()
        hold = Hold(
            save.root, save.id, save.runtime, event.thread, save.init, began, began + self._timeout,
            self._answer,
        )  # fmt: skip
        with self._lock:
            self._schedule.add(hold, fd)
        return hold

    def _answer(self, hold: Hold, allow: bool) -> bool:
        with self._lock:
            fd = self._schedule.take(hold)
            if fd is None:
                return False
            answered = self._give(fd, allow)
        if answered is not None:
            answered.acquire()
        return True

    def _give(self, fd: int, allow: bool) -> threading.Lock | None:
        """Answer the event, or have the gate's thread do so; then it is to be waited for.

        Otherwise that thread gets the interpreter only when this thread gives it up. The caller has
        the lock.
        """
        if threading.current_thread() is self._thread:
            self._respond(fd, allow)
            return None
        if (
            self._may_borrow
            and self._lender is not None
            and self._respond_borrowing(self._lender, fd, allow)
        ):
            return None
        answered = threading.Lock()
        answered.acquire()
        self._requests.put(self._respond_for, fd, allow, answered)
        return answered

    def _respond_borrowing(self, lender: Lender, fd: int, allow: bool) -> bool:
        """Try to answer the event in this thread; whether that worked."""
        try:
            group = lender.borrow(self._group.fileno())
        except OSError:
            self._lender = None  # the kernel, or a filter of system calls, does not allow it
            return False
        try:
            self._group.answer(fd, allow=allow, group=group)
        except FileNotFoundError:
            pass  # it was killed meanwhile
        finally:
            os.close(group)
        self._requests.put(os.close, fd)  # soon: it keeps the mount busy
        return True

    def _respond_for(self, fd: int, allow: bool, answered: threading.Lock) -> None:
        try:
            self._respond(fd, allow)
        finally:
            answered.release()

    def _respond(self, fd: int, allow: bool) -> None:
        """Answer the event with that descriptor. Only the gate's thread has it."""
        try:
            self._group.answer(fd, allow=allow)
        except FileNotFoundError:
            pass  # it was killed meanwhile
        finally:
            os.close(fd)

    def _answer_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            ready = self._schedule.take_due(now)
            expired = self._schedule.expire(now, allow=self._on_timeout)
        for fd, allow in ready:
            self._respond(fd, allow)
        for hold, allow in expired:
            self._guarded(partial(self._expired, hold, allow))

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001
            self._report(error)

    def _report(self, error: Exception) -> None:
        with suppress(Exception):
            self._failed(error)

    def _end(self, group: FanotifyGroup) -> None:
        """Close the group: the kernel then allows all held opens and voids their descriptors.

        What has been decided is answered first, or a denied start would be allowed.
        """
        with self._lock:
            self._ended = True
            self._finish_requests()
            for fd, allow in self._schedule.take_due(math.inf):
                with suppress(OSError):
                    self._respond(fd, allow)
            group.close()
            for fd in self._schedule.clear():
                os.close(fd)

    def _finish_requests(self) -> None:
        """Run the requests that are left, because other threads wait for them."""
        while True:
            try:
                self._requests.run()
            except BlockingIOError:
                return  # there is none any more
            except OSError as error:
                self._report(error)
