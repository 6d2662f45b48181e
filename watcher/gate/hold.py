"""The gate: holds runc at its save of `state.json` until the container's network is ready.

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
import itertools
import os
import select
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors, mounts
from handlers.kernel.descriptors import Lender
from handlers.kernel.fanotify import Event, FanotifyGroup
from watcher.containers import proc
from watcher.containers.runtimes import CRUN, RUNTIMES, SAVES
from watcher.gate import inits
from watcher.gate.inbox import Inbox
from watcher.model.container import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.containers.runtimes import Runtime

LAST_WORDS: Final = 0.1
"""Seconds between the end of a hold and its answer, in which runc's user can be told why.

A busy host may take some of them to let a thread run; :meth:`Gate.finish` ends them.
"""


_REMEMBERED: Final = 1024
"""Recent saves that were not held, to remember."""


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """A runc that waits at the gate; its container has not run its first instruction.

    Attributes:
        root: the container's root, as given to :meth:`Gate.mark`.
        id: the container's name in it.
        runtime: the runtime that waits; where it is not runc, read "runc" as its name.
        runc_pid: the waiting thread of runc. `/proc/<runc_pid>` describes this thread, and not
            always runc's first one: runc 1.2 and later have a thread in the container's mount
            namespace (`process_linux.go`, `goCreateMountSources`), and that may be the first.
        init: the container's first process, already in its network namespace.
        deadline: when nobody but the gate itself can answer any more, on the clock of
            `time.monotonic`.
        respond: called by :meth:`answer` with the hold itself.
    """

    root: str
    id: str
    runtime: Runtime
    runc_pid: int
    init: Process
    deadline: float
    respond: Callable[[Hold, bool], bool] = field(repr=False)

    def answer(self, allow: bool) -> bool:
        """Let the container start, or make runc fail and remove it. From any thread.

        Returns:
            Whether this call gave the answer: false if the deadline, the end of the gate or an
            earlier call answered before.
        """
        return self.respond(self, allow)


@dataclass(frozen=True, slots=True)
class _Marked:
    """A marked root: its name, a path to its open directory, and the kind of its mark."""

    root: str
    directory: str
    filesystem: bool


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
        expired: called with each hold whose deadline has passed, :data:`LAST_WORDS` before the gate
            answers it.
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
        expired: Callable[[Hold], None],
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
        self._roots: tuple[_Marked, ...] = ()  # replaced, never changed
        self._passed: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        self._host_netns = proc.own_netns()
        self._lock = threading.Lock()
        self._pending: dict[Hold, int] = {}  # with its descriptor; the first is due first
        self._decided: dict[Hold, tuple[float, int, bool]] = {}
        """When to answer, the event's descriptor, the answer; the first is due first."""
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
        marked = _Marked(root, f"/proc/self/fd/{directory}", filesystem)
        before = self._roots
        self._roots = (*(other for other in before if other.root != root), marked)
        try:
            self._have(partial(self._group.mark, marked.directory, filesystem=filesystem))
        except OSError:
            self._roots = before
            raise

    def unmark(self, root: str) -> None:
        """Stop holding runcs of `root`; a runc that is held stays held. Undoes :meth:`mark`.

        The root's directory must still be open.
        """
        marked = next((marked for marked in self._roots if marked.root == root), None)
        if marked is None:
            return
        self._roots = tuple(other for other in self._roots if other is not marked)
        with suppress(FileNotFoundError):  # the mark ended with its mount
            self._have(partial(self._group.unmark, marked.directory, filesystem=marked.filesystem))

    def has_passed(self, root: str, id_: str) -> bool:
        """Whether a save of that container came by lately without being held, for want of an init.

        It is an early save, or one of a container in the host's network, or of `crun run`.
        """
        return (root, id_) in self._passed

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

    def decide(self, hold: Hold, *, allow: bool) -> bool:
        """End a hold with that answer, which is given :data:`LAST_WORDS` later. From any thread.

        :meth:`finish` gives it sooner.

        Returns:
            As :meth:`Hold.answer`.
        """
        with self._lock:
            if hold not in self._pending:
                return False
            self._decide_in(LAST_WORDS, hold, allow)
            self._requests.put(lambda: None)  # which sees when it is due
        return True

    def finish(self, hold: Hold) -> None:
        """Give the answer of a decided hold now, unless that has been done. From any thread."""
        with self._lock:
            _, fd, allow = self._decided.pop(hold, (0, None, False))
            answered = None if fd is None else self._give(fd, allow)
        if answered is not None:
            answered.acquire()

    def _decide_in(self, seconds: float, hold: Hold, allow: bool) -> None:
        self._decided[hold] = (time.monotonic() + seconds, self._pending.pop(hold), allow)

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
            due = [hold.deadline for hold in itertools.islice(self._pending, 1)]
            due += [when for when, *_ in itertools.islice(self._decided.values(), 1)]
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

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
        directory, _, name = os.readlink(f"/proc/thread-self/fd/{fd}").rpartition("/")  # noqa: PTH115
        if event.thread == 0 or not name.startswith(SAVES):
            return None
        id_ = directory.rpartition("/")[2]
        root = self._root_of(fd, id_, name)
        if root is None:
            return None
        runtime = next(runtime for runtime in RUNTIMES if name.startswith(runtime.save))
        init = inits.child_of(event.thread, self._host_netns)
        if init is None and runtime is CRUN:
            init = inits.inherited_from(event.thread, id_, self._host_netns)
        if init is None:
            self._passed.append((root, id_))
            return None
        deadline = time.monotonic() + self._timeout
        hold = Hold(root, id_, runtime, event.thread, init, deadline, self._answer)
        with self._lock:
            last = next(reversed(self._pending), hold)
            self._pending[hold] = fd
            if last.deadline > deadline:  # holds were longer until a moment ago
                by_deadline = sorted(self._pending.items(), key=lambda held: held[0].deadline)
                self._pending = dict(by_deadline)
        return hold

    def _root_of(self, fd: int, id_: str, name: str) -> str | None:
        """The root that has the open file as `<root>/<id_>/<name>`, whatever its path.

        The path may be another one in another mount namespace, and a directory may have been moved.
        """
        file = os.fstat(fd)
        for marked in self._roots:
            with suppress(OSError):
                there = os.stat(f"{marked.directory}/{id_}/{name}", follow_symlinks=False)  # noqa: PTH116
                if os.path.samestat(file, there):
                    return marked.root
        return None

    def _answer(self, hold: Hold, allow: bool) -> bool:
        with self._lock:
            fd = self._pending.pop(hold, None)
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
            ready = list(itertools.takewhile(lambda one: one[1][0] <= now, self._decided.items()))
            for hold, _ in ready:
                del self._decided[hold]
            due = list(itertools.takewhile(lambda hold: hold.deadline <= now, self._pending))
            for hold in due:
                self._decide_in(LAST_WORDS, hold, self._on_timeout)
        for _, (_, fd, allow) in ready:
            self._respond(fd, allow)
        for hold in due:
            self._guarded(partial(self._expired, hold))

    def _guarded(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001
            self._report(error)

    def _report(self, error: Exception) -> None:
        with suppress(Exception):
            self._failed(error)

    def _end(self, group: FanotifyGroup) -> None:
        """Close the group: the kernel then allows all held opens and voids their descriptors."""
        with self._lock:
            self._ended = True
            self._finish_requests()
            group.close()
            for fd in (*self._pending.values(), *(fd for _, fd, _ in self._decided.values())):
                os.close(fd)
            self._pending.clear()
            self._decided.clear()

    def _finish_requests(self) -> None:
        """Run the requests that are left, because other threads wait for them."""
        while True:
            try:
                self._requests.run()
            except BlockingIOError:
                return  # there is none any more
            except OSError as error:
                self._report(error)
