"""A service manager, as a service hears of it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path


class Manager:
    """What a service manager hears from its service by the socket at `path` (sd_notify(3))."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._heard: list[str] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, name="manager", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            with self._news:
                self._heard += data.decode().split("\n")
                self._news.notify_all()

    def wait(self, assignment: str, times: int, timeout: float) -> bool:
        """Whether it has heard `assignment` so many times within `timeout` seconds."""
        with self._news:
            return self._news.wait_for(
                lambda: self._heard.count(assignment) >= times, timeout=timeout
            )

    def count(self, assignment: str) -> int:
        """How often it has heard `assignment`."""
        with self._news:
            return self._heard.count(assignment)

    def close(self) -> None:
        """Hears no more; may be called twice."""
        if self._thread.is_alive():
            self._socket.shutdown(socket.SHUT_RD)
            self._thread.join()
        self._socket.close()
