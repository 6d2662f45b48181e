"""The stop of a held init, and its move."""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from handlers.kernel.ptrace import requests
from handlers.kernel.ptrace.requests import Ended
from handlers.kernel.ptrace.thread import Disturbed
from handlers.kernel.ptrace.x86_64 import Call
from handlers.moving import covering, identity, inside, settings
from handlers.moving.errors import CannotMove, HalfMoved
from handlers.moving.threads import Threads
from watcher.model.errors import remedy_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from watcher.model.container import Process
    from watcher.model.request import Sysctl

_MACHINE: Final = "x86_64"
_YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
_NOBODY: Final = "3"
"""`Documentation/admin-guide/LSM/Yama.rst`: nobody may trace, until the next boot."""

_BITS: Final = 64

_ENDED: Final = "its init has ended"


def why_never() -> str:
    """Why this process can move no init on this host; empty if it can.

    It is cheap: a few system calls, nothing is traced.
    """
    machine = os.uname().machine
    if machine != _MACHINE or ctypes.sizeof(ctypes.c_void_p) * 8 != _BITS:
        return f"no container was ever moved on a processor {machine}, only on {_MACHINE}"
    try:
        if _YAMA.read_text(encoding="ascii").strip() == _NOBODY:
            return f"kernel.yama.ptrace_scope is {_NOBODY}: no process may trace another"
    except FileNotFoundError:  # a kernel without Yama
        pass
    refusal = requests.refused()
    if refusal:
        return f"this process may not call ptrace(2): {os.strerror(refusal)}"
    return ""


@contextmanager
def stopped(init: Process, runtime: int, netns: int) -> Iterator[StoppedInit]:
    """Stop all threads of `init`, which go on at the end of the `with`, with their own registers.

    If they cannot be put back as they were, the init is killed. It is also killed if this thread or
    its process ends before.

    Args:
        init: the held init.
        runtime: the waiting process or thread of the runtime that has made it.
        netns: inode number of the network namespace that the hold saw; each thread has to be in it.

    Raises:
        CannotMove: it is not the child of `runtime`, not in `netns`, or in a user namespace of
            its own; it has given up its capabilities; another program traces it; or it has ended.
        HalfMoved: at the end of the `with`: it was killed, or has ended.
    """
    try:
        threads = Threads(init.pid)
    except OSError as error:
        raise _cannot(error) from error
    try:
        one = StoppedInit(threads, netns)
        try:
            identity.check(init, runtime)  # so that no other process is ever stopped
            threads.stop()
            identity.check(init, runtime)
            identity.check_powers(init.pid)
            identity.check_threads(init.pid, threads.tids, netns)
        except Ended:
            threads.kill()
            raise CannotMove(_ENDED, identity.AGAIN) from None
        except OSError as error:
            one.let_go()
            raise _cannot(error) from error
        except BaseException:
            one.let_go()
            raise
        try:
            yield one
        finally:
            one.let_go()
    finally:
        threads.close()


class StoppedInit:
    """An init whose threads are all stopped. Only the thread that has stopped it may use it.

    Args:
        threads: its threads.
        netns: inode number of the network namespace that they are in.
    """

    def __init__(self, threads: Threads, netns: int) -> None:
        self._threads = threads
        self._netns = netns
        self._moved = False

    def move(
        self, netns: int, sysctls: Sequence[Sysctl] = (), later: ExitStack | None = None
    ) -> None:
        """Move all threads into another network namespace; once only.

        What the container has mounted shows the other namespace then, too.

        Args:
            netns: a descriptor of that namespace.
            sysctls: settings (paths below `/proc/sys/net`) that the runtime has written into the
                namespace that is given up. Those that differ are written into the other one.
            later: gets what of this process is to be closed, as the kernel takes a while for it.
                Without it, this is done at once.

        Raises:
            CannotMove: nothing has changed, and no thread was moved.
            HalfMoved: the init was killed, or has ended.
        """
        try:
            with (
                ExitStack() as made,
                settings.written(netns, sysctls),
            ):
                covers = covering.made_for(self._threads.pid, self._netns, netns, made)
                self._carry(netns, covers)
                if later is not None:
                    later.push(made.pop_all())
        except CannotMove:
            raise
        except OSError as error:
            if self._moved:
                self._kill(error)
            raise _cannot(error) from error
        except BaseException as error:  # noqa: BLE001 (whatever it is, the init must not start)
            self._kill(error)

    def let_go(self) -> None:
        """Let all threads go on as they were, unless the init was killed.

        Raises:
            HalfMoved: it had to be killed, or has ended.
        """
        try:
            self._threads.let_go()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the init must not start)
            self._kill(error)

    def _carry(self, netns: int, covers: Sequence[covering.Cover]) -> None:
        """Have the init do all that it has to do itself."""
        with inside.room_in(self._threads) as room:
            numbers = room.lend([netns, *(one for cover in covers for one in cover.lent)])
            with covering.covered(room, covers, numbers[1:]):
                self._enter(numbers[0])
                self._look(os.fstat(netns).st_ino)

    def _enter(self, number: int) -> None:
        """Have each thread enter the network namespace that is its descriptor `number`."""
        self._threads.call(Call.SETNS, number, os.CLONE_NEWNET)
        self._moved = True
        self._threads.call_in_others(Call.SETNS, number, os.CLONE_NEWNET)

    def _look(self, netns: int) -> None:
        """Look from outside whether each thread is in the network namespace `netns`."""
        pid, moved = self._threads.pid, self._threads.tids
        others = (tid for tid in identity.tasks(pid) if tid not in moved)
        if (
            any(identity.netns_of(pid, tid) != netns for tid in moved)
            or not all(identity.has_ended(pid, tid) for tid in others)
        ):  # fmt: skip
            raise Disturbed

    def _kill(self, error: BaseException) -> NoReturn:
        """Kill the init because of `error`."""
        pid = self._threads.pid
        ended = isinstance(error, Ended) or identity.has_ended(pid, pid)
        self._threads.kill()
        if ended:
            raise HalfMoved(f"{_ENDED} during its move", identity.AGAIN) from error
        what = "its init was killed, as it was not where its move had left it"
        if isinstance(error, OSError):
            what = f"its init was killed in the middle of its move: {error.strerror}"
        raise HalfMoved(what, identity.AGAIN) from error


def _cannot(error: OSError) -> CannotMove:
    """A move that an `error` has prevented, before anything was changed."""
    if isinstance(error, FileNotFoundError | ProcessLookupError):
        return CannotMove(_ENDED, identity.AGAIN)
    what = f"its init cannot be moved: {error.strerror}"
    return CannotMove(what, remedy_for(error, "run `watcher check`"))
