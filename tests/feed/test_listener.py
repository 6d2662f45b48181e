"""Who connects is accepted, also after a while without a descriptor or a name."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, cast

import pytest

from watcher.feed.listener import Listener


class Listening:
    """A listener in a loop of its own, and those who connect to it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "some.sock"
        self._loop = asyncio.new_event_loop()
        self._open = ExitStack()
        self._open.callback(self._loop.close)
        self._accepted: list[socket.socket] = []
        self.listener = Listener(
            self._path, socket.SOCK_STREAM, self._take, self._loop, cast("Any", None), group=False
        )
        self._open.callback(self.listener.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _take(self, connection: socket.socket) -> None:
        self._accepted.append(self._open.enter_context(connection))

    def connect(self, end: socket.socket | None = None) -> None:
        """One more connects."""
        end = end or self.end()
        end.connect(str(self._path))

    def end(self) -> socket.socket:
        """Who has not connected yet."""
        return self._open.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))

    def accepted(self) -> int:
        """How many are accepted, once the loop has had several turns."""
        for _ in range(4):
            self._loop.run_until_complete(asyncio.sleep(0))
        return len(self._accepted)


@contextmanager
def no_descriptor() -> Iterator[None]:
    """This process can open nothing."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_many_at_once(tmp_path: Path) -> None:
    with Listening(tmp_path) as listening:
        assert listening.listener.check()
        for _ in range(12):
            listening.connect()
        assert listening.accepted() == 12


def test_without_a_descriptor_it_is_not_tried_all_the_time(tmp_path: Path) -> None:
    with Listening(tmp_path) as listening:
        listening.listener.check()
        one = listening.end()
        with no_descriptor():
            listening.connect(one)
            assert listening.accepted() == 0
        assert listening.accepted() == 0
        assert not listening.listener.check(), "the socket is the same"
        assert listening.accepted() == 1


def test_a_name_that_is_lost(tmp_path: Path) -> None:
    with Listening(tmp_path) as listening:
        assert listening.listener.check()
        (tmp_path / "some.sock").unlink()
        assert listening.listener.check()
        listening.connect()
        assert listening.accepted() == 1
        tmp_path.joinpath("some.sock").rename(tmp_path / "other")
        (tmp_path / "some.sock.new").mkdir()  # none can be made
        with pytest.raises(IsADirectoryError):
            listening.listener.check()
        (tmp_path / "other").rename(tmp_path / "some.sock")
        listening.connect()
        assert listening.accepted() == 2
        listening.listener.remove()
        assert not (tmp_path / "some.sock").exists()


def test_the_name_of_another_stays(tmp_path: Path) -> None:
    with Listening(tmp_path) as listening, Listening(tmp_path) as other:
        listening.listener.check()
        other.listener.check()
        listening.listener.remove()
        other.connect()
        assert other.accepted() == 1
