"""All threads of an init, which stop and go on together."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from handlers.kernel.ptrace import requests, x86_64
from handlers.kernel.ptrace.requests import Ended, Waits
from handlers.kernel.ptrace.thread import OtherArchitecture, Thread
from handlers.moving import identity
from handlers.moving.errors import CannotMove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handlers.kernel.ptrace.x86_64 import Call

_MOST: Final = 256
"""The most threads of an init that is moved; runc has 4 to 9."""

_CHUNK: Final = 1 << 16


class Threads:
    """The threads of a process, traced by the calling thread.

    Args:
        pid: the process.

    Raises:
        ProcessLookupError: it has ended.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._threads: dict[int, Thread] = {}
        self._waits = Waits()
        self._memory = -1
        self._instruction = 0

    def __iter__(self) -> Iterator[Thread]:
        return iter(self._threads.values())

    @property
    def tids(self) -> list[int]:
        """Their thread ids."""
        return list(self._threads)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.pidfd)
        if self._memory >= 0:
            os.close(self._memory)

    def stop(self) -> None:
        """Stop all threads; no new one appears then, as each is made by another.

        Raises:
            CannotMove: they cannot all be stopped; :meth:`let_go` those that were.
            Ended: the process has ended.
        """
        seen: set[int] = set()
        while new := [tid for tid in identity.tasks(self.pid) if tid not in seen]:
            seen.update(new)
            if len(seen) > _MOST:
                raise CannotMove(f"its init has more than {_MOST} threads")
            self._stop([tid for tid in new if self._seize(tid)])
        if not self._threads:
            raise Ended

    def _seize(self, tid: int) -> bool:
        """Seize a thread, and have it stop; whether it is there."""
        try:
            requests.seize(tid)
        except Ended:
            return False
        except PermissionError:
            if identity.has_ended(self.pid, tid):
                return False
            raise _untraceable(self.pid) from None
        self._threads[tid] = Thread(tid, self._waits)
        with suppress(Ended):  # `_stop` finds that out, too
            requests.interrupt(tid)
        return True

    def _stop(self, tids: list[int]) -> None:
        reason = ""
        for tid in tids:
            try:
                if self._threads[tid].await_stop():
                    reason = "a signal has stopped its init"
            except Ended:
                if tid == self.pid:
                    raise
                self._threads.pop(tid).await_end()
            except OtherArchitecture:
                reason = "its init is not a 64-bit program"
        if reason:
            raise CannotMove(reason, identity.AGAIN)

    # --- calls -----------------------------------------------------------------------------------

    def call(self, call: Call, *arguments: int) -> int:
        """Have the first thread make a system call; as :meth:`.thread.Thread.call`."""
        return next(iter(self)).call(self._at, call, *arguments)

    def call_in_others(self, call: Call, *arguments: int) -> None:
        """Have all threads but the first make a system call, at the same time.

        Raises:
            OSError: it failed in one of them, and may not have ended in others.
        """
        others = list(self)[1:]
        for thread in others:
            thread.begin(self._at, call, *arguments)
        for thread in others:
            thread.finish(self._at)

    def read(self, address: int, size: int) -> bytes:
        """Memory of the process."""
        return os.pread(self._opened(), size, address)

    def write(self, address: int, content: bytes) -> None:
        """Write into memory of the process."""
        if os.pwrite(self._opened(), content, address) != len(content):
            raise Ended

    def _opened(self) -> int:
        if self._memory < 0:
            self._memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        return self._memory

    @property
    def _at(self) -> int:
        if not self._instruction:
            self._instruction = self._find_instruction()
        return self._instruction

    def _find_instruction(self) -> int:
        """The address of an instruction that makes a system call.

        It is in front of a thread that the stop has interrupted in a call. Otherwise the vdso has
        one, as it makes the call where it has no answer (vdso(7)).
        """
        for thread in self:
            at = thread.after - len(x86_64.SYSCALL)
            with suppress(OSError):
                if self.read(at, len(x86_64.SYSCALL)) == x86_64.SYSCALL:
                    return at
        for line in Path(f"/proc/{self.pid}/maps").read_bytes().splitlines():
            if line.endswith(b"[vdso]"):
                start, end = (int(part, 16) for part in line.split(b" ", 1)[0].split(b"-"))
                found = self.read(start, min(end - start, _CHUNK)).find(x86_64.SYSCALL)
                if found >= 0:
                    return start + found
        raise CannotMove("its init has no instruction that makes a system call", identity.AGAIN)

    # --- the end ---------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Let all threads go on as they were when they stopped; none is traced any more.

        Raises:
            Ended: the process has ended meanwhile.
            OSError: a thread is not as it was; :meth:`kill` is due.
        """
        for thread in self:
            if not thread.stopped:
                with suppress(OtherArchitecture):
                    thread.await_stop()
            thread.put_back()
        for tid in self.tids:
            self._threads[tid].let_go()
            del self._threads[tid]

    def kill(self) -> None:
        """Kill the process, and wait until its threads have ended.

        Its parent does not hear of its end before the tracer has (wait4(2), ptrace(2)).
        """
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        for thread in sorted(self, key=lambda thread: thread.tid == self.pid):
            thread.await_end()
        self._threads.clear()


def _untraceable(pid: int) -> CannotMove:
    tracer = identity.tracer_of(pid)
    if tracer:
        return CannotMove(f"process {tracer} traces its init", "end that, and start it again")
    return CannotMove("the kernel does not let its init be traced", "run `watcher check`")
