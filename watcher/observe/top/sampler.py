"""Takes pictures in a thread, so that no key has to wait for one."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from watcher.model.errors import WatcherError, message_with_remedy
from watcher.observe.stream import Stream
from watcher.observe.top.rates import sampled

if TYPE_CHECKING:
    from watcher.observe.top.rates import Sample


def sample(run_dir: str) -> Sample:
    """Take a picture, over a connection of its own: its counters are fresh.

    Raises:
        WatcherError: nobody serves the socket, or it may not be opened.
    """
    with Stream(run_dir) as stream:
        return sampled(stream.picture())


class Sampler:
    """One picture at a time.

    The thread may wait for a broker that does not answer; the end of the program does not wait for
    the thread.

    Args:
        run_dir: where the socket is.
        wake: gets a null byte once a picture is there.
    """

    def __init__(self, run_dir: str, wake: int) -> None:
        self._run_dir = run_dir
        self._wake = os.dup(wake)  # stays open: the thread may outlive the terminal
        self._wanted = threading.Semaphore(0)
        self._found: Sample | str | None = None
        self.busy = False
        """Whether a picture is being taken."""
        threading.Thread(target=self._run, name="pictures", daemon=True).start()

    def ask(self) -> None:
        """Have a picture taken, if none is."""
        if not self.busy:
            self.busy = True
            self._wanted.release()

    def take(self) -> Sample | str | None:
        """The picture that was asked for, or why there is none; `None` if it is not there yet."""
        found, self._found = self._found, None
        if found is not None:
            self.busy = False
        return found

    def _run(self) -> None:
        while self._wanted.acquire():
            try:
                self._found = sample(self._run_dir)
            except WatcherError as error:
                self._found = error.what
            except OSError as error:
                self._found = message_with_remedy(error)
            except msgspec.DecodeError as error:
                self._found = f"what serves the socket sends no JSON: {error}"
            with suppress(OSError):  # nobody reads it any more
                os.write(self._wake, b"\0")
