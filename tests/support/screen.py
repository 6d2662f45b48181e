"""A terminal for a command: a pty, and an emulator that tells what is on its screen."""

from __future__ import annotations

import os
import pty
import select
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyte

from tests.support.processes import end
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.support.host import Host


class Screen:
    """What a command shows on a terminal of its own, which it is in control of.

    Args:
        host: where the command runs; it ends with the host at the latest.
        lines, columns: the terminal's size.
        command: the command.

    Attributes:
        before: the terminal's attributes (termios(3)) before the command has begun.
    """

    def __init__(self, host: Host, lines: int, columns: int, *command: str) -> None:
        self._ours, self._theirs = pty.openpty()
        self._closed = False
        host.on_close(self._close)
        termios.tcsetwinsize(self._theirs, (lines, columns))
        self.before = self.attributes()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._process = host.popen(
            ["setsid", "--ctty", *command],
            env={**host.watcher_env, "TERM": "linux"},
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
        )
        host.on_close(lambda: end(self._process))

    def attributes(self) -> list[int | list[bytes | int]]:
        """The terminal's attributes now."""
        attributes: list[int | list[bytes | int]] = termios.tcgetattr(self._ours)
        return attributes

    def lines(self) -> list[str]:
        """The lines of the screen, each as wide as the screen."""
        self._read(0)
        return list(self._screen.display)

    def line(self, beginning: str) -> str:
        """The line that begins so."""
        return next(line for line in self.lines() if line.startswith(beginning))

    def shows[T](self, what: Callable[[Screen], T]) -> T:
        """Waits until `what` is true of the screen, as :func:`tests.support.waiting.eventually`."""
        deadline = time.monotonic() + PATIENCE
        error: Exception | None = None
        while time.monotonic() < deadline:
            self._read(0.2)
            try:
                if value := what(self):
                    return value
                error = None
            except (AssertionError, LookupError, StopIteration, ValueError) as raised:
                error = raised
        shown = "\n".join(self.lines())
        raise AssertionError(f"not on the screen: {error}\n{shown}")

    def press(self, keys: str) -> None:
        """Types `keys`."""
        os.write(self._ours, keys.encode())

    def resize(self, lines: int, columns: int) -> None:
        """Gives the terminal another size, which the kernel tells the command."""
        self._read(0)
        self._screen.resize(lines, columns)
        termios.tcsetwinsize(self._ours, (lines, columns))

    def hang_up(self) -> None:
        """Takes the terminal away."""
        self._close()

    def status(self) -> int:
        """Waits until the command has ended; its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and not self._closed:
            assert time.monotonic() < deadline, "\n".join(self.lines())
            self._read(0.05)
        return self._process.wait(PATIENCE)

    @property
    def pid(self) -> int:
        """The pid of what the host started for it."""
        return self._process.pid

    def _read(self, timeout: float) -> None:
        while select.select([self._ours], [], [], timeout)[0]:
            self._stream.feed(os.read(self._ours, 1 << 16))
            timeout = 0

    def _close(self) -> None:
        if not self._closed:
            os.close(self._ours)
            os.close(self._theirs)
        self._closed = True
