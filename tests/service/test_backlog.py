"""Lines that wait to be written: in their order, bounded, and counted where they do not fit."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from watcher.log.backlog import Backlog


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe; the test closes the one that is written to."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def read_all(reader: int, until: bytes) -> list[str]:
    content = b""
    while not content.endswith(until + b"\n"):
        content += os.read(reader, 1 << 16)
    return content.decode().splitlines()


def test_lines_are_written_in_their_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    backlog = Backlog(writer)
    for number in range(20000):
        backlog.put(f"line {number}")
    assert read_all(reader, b"line 19999") == [f"line {number}" for number in range(20000)]
    assert backlog.drain(10)


def test_what_does_not_fit_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    backlog = Backlog(writer, limit=100_000)
    told: list[int] = []

    def tell(count: int) -> None:
        told.append(count)
        backlog.put(f"dropped {count}")

    backlog.tell_dropped(tell)
    for number in range(4000):  # 64 KiB fit into the pipe
        backlog.put(f"{number:99}")
    assert not backlog.drain(0)

    content = b""
    while content.count(b"\n") - len(told) + sum(told) < 4000:
        content += os.read(reader, 1 << 16)
    lines = content.decode().splitlines()
    assert [line for line in lines if line.startswith("dropped")] == [f"dropped {n}" for n in told]
    kept = [int(line) for line in lines if not line.startswith("dropped")]
    assert kept == sorted(set(kept))
    assert len(kept) >= 999
    assert len(kept) + sum(told) == 4000

    backlog.put("again")
    assert read_all(reader, b"again") == ["again"]


def test_a_reader_that_has_gone_is_no_reason_to_wait() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    backlog = Backlog(writer)
    backlog.put("nobody")
    assert backlog.drain(10)
    os.close(writer)
