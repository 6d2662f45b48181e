"""The terminal: text at its place, keys by name, and everything as it was in the end.

The signals only write their numbers into a pipe (signal.set_wakeup_fd), which the program reads
beside the keys, so none of them cuts anything off in its midst. ncurses leaves a signal alone that
has a handler already (`_nc_signal_handler` in its `lib_tstp.c`).
"""

from __future__ import annotations

import contextlib
import curses
import os
import select
import signal
import termios
import time
from typing import TYPE_CHECKING, Final, Self

from watcher.model.errors import WatcherError, shortened

if TYPE_CHECKING:
    from types import TracebackType

    from watcher.observe.top.view import Screen

_STDIN: Final = 0
_STDOUT: Final = 1
_ENDS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_SIGNALS: Final = (*_ENDS, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
_ESCAPE_DELAY: Final = 25  # ms until an escape is a key, and not the beginning of one
_NAMES: Final = {
    curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_PPAGE: "page up",
    curses.KEY_NPAGE: "page down", curses.KEY_HOME: "home", curses.KEY_END: "end",
    curses.KEY_ENTER: "enter", ord("\n"): "enter", ord("\r"): "enter",
    curses.KEY_BACKSPACE: "backspace", 0x7F: "backspace", 0x08: "backspace", 0x1B: "escape",
}  # fmt: skip


class Terminal:
    """The terminal of standard input and output, for as long as it is open.

    Attributes:
        wake: has :meth:`wait` return, by a null byte.

    Raises:
        WatcherError: from `with`: it is none that text can be placed on.
    """

    def __init__(self) -> None:
        self._woken, self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._undo = contextlib.ExitStack()
        self._undo.callback(os.close, self._woken)
        self._undo.callback(os.close, self.wake)
        self._ended = False

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._undo.close()

    @property
    def size(self) -> tuple[int, int]:
        """Its lines, and how many cells each has."""
        return self._window.getmaxyx()

    def draw(self, screen: Screen) -> None:
        """Show `screen`; only what has changed is sent."""
        height, width = self.size
        self._window.erase()
        self._put(0, screen.head[0], curses.A_BOLD)
        for number, text in enumerate(screen.head[1:], 1):
            self._put(number, text)
        top = len(screen.head)
        self._put(top, screen.titles, curses.A_REVERSE)
        for number, text in enumerate(screen.body, top + 1):
            self._put(number, text)
        self._put(height - 1, screen.foot)
        with contextlib.suppress(curses.error):  # a terminal that has gone: wait() notices
            self._window.move(height - 1, width - 1)
            self._window.refresh()

    def wait(self, until: float) -> list[str] | None:
        """Wait for keys or anything else, `until` then on the monotonic clock at the most.

        Returns the names of the keys, and `None` once a signal or the terminal's own end ends it.
        """
        left = max(0.0, until - time.monotonic())
        ready = dict(self._poll.poll(left * 1000))
        if self._woken in ready:
            self._signalled()
        if ready.get(_STDIN, 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
            self._ended = True
        return None if self._ended else self._keys()

    def _open(self) -> None:
        self._listen()
        for descriptor in (_STDIN, _STDOUT):
            before = termios.tcgetattr(descriptor)
            self._undo.callback(_restore, descriptor, before)
        for name in ("LINES", "COLUMNS"):  # ncurses would believe them, and they do not change
            os.environ.pop(name, None)
        try:
            curses.setupterm(fd=_STDOUT)
            placeable = curses.tigetstr("cup") is not None
        except curses.error:
            placeable = False
        if not placeable:
            raise WatcherError(
                f'text cannot be placed on a terminal of the kind TERM="'
                f'{shortened(os.environ.get("TERM", ""))}"',
                "set TERM to the terminal's kind, or print one table: `watcher top | cat`",
            )
        self._window = curses.initscr()
        self._undo.callback(self._leave)
        curses.noecho()
        curses.cbreak()
        curses.set_escdelay(_ESCAPE_DELAY)
        self._window.keypad(True)
        self._window.nodelay(True)
        with contextlib.suppress(curses.error):  # a terminal that cannot hide its cursor
            curses.curs_set(0)

    def _listen(self) -> None:
        """Have signals and keys seen by :meth:`wait`."""
        before = signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        self._undo.callback(signal.set_wakeup_fd, before)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
                handler = signal.signal(number, _nothing)
                self._undo.callback(signal.signal, number, handler)
        self._poll = select.poll()
        self._poll.register(_STDIN, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def _signalled(self) -> None:
        numbers = set(os.read(self._woken, 512))
        if numbers & _ENDS:
            self._ended = True
        elif signal.SIGTSTP in numbers:
            self._stop()
        elif numbers & {signal.SIGCONT, signal.SIGWINCH}:
            self._again()

    def _leave(self) -> None:
        """Give the terminal back; what is written next stands on a line of its own."""
        with contextlib.suppress(curses.error):
            self._window.move(self.size[0] - 1, 0)
            self._window.clrtoeol()
            self._window.refresh()
        with contextlib.suppress(curses.error):  # a terminal that has gone
            curses.endwin()

    def _stop(self) -> None:
        """Leave the terminal to the shell until it has the program go on."""
        self._leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self._again()

    def _again(self) -> None:
        """Have the terminal as the program needs it, whatever it was meanwhile."""
        with contextlib.suppress(OSError, curses.error):
            curses.reset_prog_mode()
            columns, lines = os.get_terminal_size(_STDOUT)
            if columns and lines:  # else the terminal does not know
                curses.resizeterm(lines, columns)
        self._window.clearok(True)

    def _keys(self) -> list[str]:
        found = []
        while (code := self._window.getch()) != -1:
            if code == curses.KEY_RESIZE:
                continue
            found.append(_NAMES.get(code) or (chr(code) if " " <= chr(code) <= "~" else ""))
        return found

    def _put(self, number: int, text: str, attribute: int = curses.A_NORMAL) -> None:
        if number >= self.size[0]:
            return
        with contextlib.suppress(curses.error):  # the last cell: the cursor has no place behind it
            self._window.addnstr(number, 0, text, self.size[1], attribute)


def _restore(descriptor: int, attributes: list[int | list[bytes | int]]) -> None:
    with contextlib.suppress(termios.error):  # a terminal that has gone
        termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)


def _nothing(number: int, frame: object) -> None:
    """Handle a signal: its number is in the pipe already."""
    del number, frame
