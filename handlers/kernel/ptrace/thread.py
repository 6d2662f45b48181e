"""One thread that is stopped, and makes system calls that it did not ask for."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final

from handlers.kernel.ptrace import requests, x86_64
from handlers.kernel.ptrace.requests import Ended, Waits
from handlers.kernel.ptrace.x86_64 import Call

_ALL_BUT_TRAP: Final = (1 << 64) - 1 & ~(1 << (signal.SIGTRAP - 1))
"""SIGTRAP ends each step. The kernel takes the handler from a process that blocks it
(`force_sig_info_to_task` in `kernel/signal.c`)."""


class Disturbed(Exception):
    """A thread did not come to the end of a call that it was given."""


class OtherArchitecture(Exception):
    """A thread executes the code of another architecture, such as i386."""


class Thread:
    """A seized thread.

    Args:
        tid: its thread id.
        waits: what becomes of it.

    Attributes:
        stopped: whether it is known to have stopped.
    """

    __slots__ = ("_blocked", "_changed", "_registers", "_waits", "stopped", "tid")

    def __init__(self, tid: int, waits: Waits) -> None:
        self.tid = tid
        self._waits = waits
        self.stopped = False
        self._registers = b""
        self._blocked = 0
        self._changed = False

    @property
    def after(self) -> int:
        """The address behind the instruction that it has executed last."""
        return x86_64.address(self._registers)

    def await_stop(self) -> bool:
        """Wait until the thread has stopped after `interrupt`; whether a signal has stopped it.

        Signals that come before are delivered. Only the thread's handler has not run then.

        Raises:
            Ended: it has ended.
            OtherArchitecture: it has stopped, but cannot be given calls.
        """
        while True:
            number, at_rest = self._waits.wait(self.tid)
            if at_rest:
                break
            requests.go_on(self.tid, number)
        self.stopped = True
        if number != signal.SIGTRAP:
            return True
        registers = requests.get_registers(self.tid, x86_64.SIZE)
        if len(registers) != x86_64.SIZE:
            raise OtherArchitecture
        self._registers = bytes(registers)
        return False

    def call(self, at: int, call: Call, *arguments: int) -> int:
        """Have the thread make a system call with the instruction at the address `at`.

        Returns:
            Its result.

        Raises:
            OSError: it failed.
            Ended: the thread has ended.
            Disturbed: the thread is not where it should be; its process has to end.
        """
        self.begin(at, call, *arguments)
        return self.finish(at)

    def begin(self, at: int, call: Call, *arguments: int) -> None:
        """The first half of :meth:`call`, so that several threads make theirs at the same time."""
        if not self._changed:
            self._blocked = requests.get_blocked(self.tid)
            self._changed = True
            requests.set_blocked(self.tid, _ALL_BUT_TRAP)
        requests.set_registers(self.tid, x86_64.calling(self._registers, call, arguments, at))
        requests.step(self.tid)

    def finish(self, at: int) -> int:
        """The second half of :meth:`call`, with the same `at`."""
        number, at_rest = self._waits.wait(self.tid)
        registers = requests.get_registers(self.tid, x86_64.SIZE)
        there = x86_64.address(registers) == at + len(x86_64.SYSCALL)
        if number != signal.SIGTRAP or at_rest or not there:
            raise Disturbed
        result = x86_64.result(registers)
        if x86_64.is_error(result):
            raise OSError(-result, os.strerror(-result))
        return result

    def put_back(self) -> None:
        """Have the thread be as it was when it stopped: its registers, and its blocked signals.

        A call that the stop has interrupted is restarted: the kernel does so by the registers.
        """
        if self._changed:
            requests.set_registers(self.tid, self._registers)
            requests.set_blocked(self.tid, self._blocked)

    def let_go(self) -> None:
        """Have the thread go on, and trace it no more."""
        requests.detach(self.tid)

    def await_end(self) -> None:
        """Wait until the thread has ended, after its process was killed."""
        with suppress(Ended):
            while True:
                self._waits.wait(self.tid)  # its last stop may not have been heard of
