"""What is written to the history, and what is not, whatever happens to its files."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest

from tests.support.waiting import eventually
from watcher.config.settings import Events
from watcher.feed.history import MOST_OF_A_LINE, NEWER, OLDER, History, last_seq, remove
from watcher.feed.lines import AnyLine, ContainerPart, Event
from watcher.log.logger import SILENCE
from watcher.observe.history import HistoryReader, kept

NOW = datetime.now(UTC)
_event = msgspec.json.Decoder(AnyLine)


class Heard:
    """A log that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def error(self, event: str, /, **fields: Any) -> None:
        self.said.append((event, fields))

    debug = info = warning = error


def events(numbers: Iterable[int], **fields: Any) -> Iterator[Event]:
    return (Event(number, NOW, "detached", **fields) for number in numbers)


def numbers(directory: Path, *names: str) -> list[int]:
    """The numbers of all whole lines of the history, the older half first."""
    found = []
    for name in names or (OLDER, NEWER):
        if (directory / name).exists():
            for line in (directory / name).read_bytes().splitlines():
                try:
                    event = _event.decode(line)
                except msgspec.DecodeError:
                    continue
                assert isinstance(event, Event)
                found.append(event.seq)
    return found


def opened(directory: Path, keep: int = 10, log: Any = SILENCE, days: int = 30) -> History:
    return History(str(directory), Events(keep, days), log)


def test_it_keeps_as_many_as_asked_for_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with closing(opened(state)) as history:
        assert history.last_seq == 0
        for start in range(1, 36, 5):
            history.write(events(range(start, start + 5)))
    assert numbers(state) == list(range(21, 36))
    with closing(opened(state)) as history:
        assert history.last_seq == 35
        history.write(events([36]))
        assert (history.last_seq, history.lost) == (36, 0)
    assert numbers(state) == list(range(21, 37))
    assert {oct(path.stat().st_mode & 0o777) for path in state.iterdir()} == {"0o600"}
    assert state.stat().st_mode & 0o777 == 0o700


def test_less_is_kept_from_now_on_and_nothing_at_all(tmp_path: Path) -> None:
    with closing(opened(tmp_path, 1000)) as history:
        history.write(events(range(1, 51)))
        history.configure(Events(10))
        history.write(events(range(51, 53)))
        assert numbers(tmp_path, NEWER) == [51, 52]
        history.configure(Events(0))
        assert not list(tmp_path.iterdir())
        history.write(events([53]))
        assert not list(tmp_path.iterdir())
        assert (history.last_seq, history.lost) == (53, 0)
        history.configure(Events(10))
        history.write(events([54]))
    assert numbers(tmp_path) == [54]
    remove(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_older_half_goes_once_all_of_it_is_too_old(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as history:
        history.write(events(range(1, 11)))
        history.write(events([11]))
    then = time.time() - 40 * 86_400
    os.utime(tmp_path / OLDER, (then, then))
    os.utime(tmp_path / NEWER, (then, then))
    opened(tmp_path, days=50).close()
    assert numbers(tmp_path, OLDER)
    with closing(opened(tmp_path, days=30)) as history:
        assert not (tmp_path / OLDER).exists()
        assert history.last_seq == 11


def test_a_torn_line_is_ended_by_the_next_writer(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as history:
        history.write(events([1, 2]))
    with (tmp_path / NEWER).open("ab") as file:
        file.write(b'{"type":"event","seq":3,"ti')
    with closing(opened(tmp_path)) as history:
        assert history.last_seq == 2
        history.write(events([3, 4]))
    assert numbers(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 5000,
        b"[" * 500_000,
        b"\n" * 500_000,
        os.urandom(100_000),
        b'{"seq":-1}\n{"seq":1e99}',
    ],
    ids=["zeros", "brackets", "lines", "random", "numbers"],
)
def test_garbage_does_not_hurt(tmp_path: Path, garbage: bytes) -> None:
    with closing(opened(tmp_path)) as history:
        history.write(events(range(1, 11)))
        history.write(events([11]))
    (tmp_path / NEWER).write_bytes(garbage)
    with closing(opened(tmp_path)) as history:
        assert history.last_seq == 10  # of the older half
        history.write(events([11, 12]))
    assert numbers(tmp_path, NEWER) == [11, 12]
    assert last_seq(str(tmp_path)) == 12


def test_a_huge_file_is_looked_at_at_its_ends_alone(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as history:
        history.write(events([1]))
    os.truncate(tmp_path / NEWER, 10 << 30)  # a hole, so it takes no room
    with closing(opened(tmp_path)) as history:
        history.write(events([2]))
    assert numbers(tmp_path, NEWER) == [2]


def test_long_events_do_not_fill_the_disk(tmp_path: Path) -> None:
    ports = tuple(f"{port}:80/tcp" for port in range(6000))
    with closing(opened(tmp_path, 100)) as history:
        history.write(events([1], containers=(ContainerPart("/r", "web", ports=ports),)))
        history.write(events([2], ports=ports[:9]))
        (first, second) = map(_event.decode, (tmp_path / NEWER).read_bytes().splitlines())
        assert isinstance(first, Event)
        assert isinstance(second, Event)
        assert (first.containers[0].id, first.containers[0].ports) == ("web", ())
        assert second.ports == ports[:9]
        for number in range(3, 203):
            history.write(events([number], reason="x" * (MOST_OF_A_LINE - 200)))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 << 20
    assert numbers(tmp_path)[-1] == 202


NO_FILES: Final = ("link", "fifo", "directory", "socket")


def make(kind: str, path: Path, victim: Path) -> None:
    """Make `path` something else than a file."""
    match kind:
        case "link":
            path.symlink_to(victim)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path: Path, kind: str) -> None:
    state, victim, log = tmp_path / "state", tmp_path / "victim", Heard()
    state.mkdir()
    victim.write_text("")
    make(kind, state / NEWER, victim)
    with closing(opened(state, log=log)) as history:
        history.write(events([1, 2]))
        history.write(events([3]))
        assert history.lost == 3
    assert not victim.read_text()
    ((said, fields),) = log.said
    assert said == "the history cannot be written"
    assert NEWER in fields["file"]


def test_a_full_disk_costs_events_and_is_told_once(tmp_path: Path) -> None:
    """RLIMIT_FSIZE (setrlimit(2)) cuts a write short, and refuses the next, as a full disk does."""
    log = Heard()
    with closing(opened(tmp_path, 1000, log)) as history:
        history.write(events([1]))
        size = (tmp_path / NEWER).stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 3 + size // 2, before[1]))
        try:
            history.write(events([2, 3, 4, 5]))
            history.write(events([6]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert history.lost == 3
        history.write(events([7, 8]))
        assert history.lost == 3
    assert numbers(tmp_path) == [1, 2, 3, 7, 8]
    assert [said for said, _ in log.said] == [
        "the history cannot be written", "the history is written again",
    ]  # fmt: skip


def test_files_that_are_removed_or_renamed_are_made_anew(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with closing(opened(state)) as history:
        history.write(events([1]))
        (state / NEWER).unlink()
        history.write(events([2]))
        assert numbers(state) == [2]
        (state / NEWER).rename(state / OLDER)
        history.write(events([3]))
        assert numbers(state) == [2, 3]
        for path in state.iterdir():
            path.unlink()
        state.rmdir()
        history.write(events([4]))
    assert numbers(state) == [4]


def _write(directory: str, of: int, start: Any) -> None:
    start.wait()
    history = History(directory, Events(400), SILENCE)
    for number in range(1, 1001):
        history.write(events([number], sandbox=str(of) * 500))


def test_two_writers_neither_mix_lines_nor_rename_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    writers = [context.Process(target=_write, args=(str(tmp_path), i, start)) for i in (1, 2)]
    for writer in writers:
        writer.start()
    start.wait()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = [
        line for name in (OLDER, NEWER) for line in (tmp_path / name).read_bytes().splitlines()
    ]
    # A writer that opens the file while the other one writes may see a torn line, and ends it.
    lines = [line for line in found if line]
    for line in lines:
        _event.decode(line)
    assert len(lines) >= 390  # else the half that was just begun has replaced the other
    assert last_seq(str(tmp_path)) == 1000


def _write_on(directory: str) -> None:
    history = History(directory, Events(50), SILENCE)
    while True:
        history.write(events(range(history.last_seq + 1, history.last_seq + 8)))


def test_it_survives_kill_9_at_any_point(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(20):
        before = last_seq(str(tmp_path))
        writer = context.Process(target=_write_on, args=(str(tmp_path),))
        writer.start()
        assert writer.pid is not None
        eventually(lambda at=before: last_seq(str(tmp_path)) > at + 100)  # type: ignore[misc]
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        kept = numbers(tmp_path)
        assert len(kept) >= 50
        assert kept == list(range(kept[0], kept[-1] + 1))
        assert last_seq(str(tmp_path)) == kept[-1]


def test_a_reader_sees_each_number_once_whatever_is_renamed(tmp_path: Path) -> None:
    random = Random(1)
    number, seen = 0, list[int]()
    with closing(opened(tmp_path, 20)) as history, closing(HistoryReader(str(tmp_path))) as reader:
        for _ in range(300):
            batch = random.randrange(12)
            history.write(events(range(number + 1, number + batch + 1)))
            number += batch
            assert reader.has_more() == bool(batch)
            seen += [event.seq for event in reader.read(lambda seq, _: seq % 10 != 0)]
            assert reader.seq == number
            assert not reader.has_more()
            with closing(HistoryReader(str(tmp_path))) as late:
                found = [event.seq for event in late.read(kept(str(tmp_path), Events(20)))]
                assert found == list(range(max(number - 19, 1), number + 1))
    assert seen == [n for n in range(1, number + 1) if n % 10]


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", [NEWER, OLDER])
def test_what_is_no_file_is_no_history(tmp_path: Path, kind: str, name: str) -> None:
    state, victim = tmp_path / "state", tmp_path / "victim"
    with closing(opened(state)) as history:
        history.write(events([1]))
    (state / NEWER).rename(victim)
    make(kind, state / name, victim)
    with closing(HistoryReader(str(state))) as reader:
        assert not reader.has_more()
        assert list(reader.read(lambda *_: True)) == []


def test_what_is_too_old_is_not_shown(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as history:
        old = Event(1, NOW - timedelta(days=31), "detached")
        history.write([old, *events([2, 3])])
    with closing(HistoryReader(str(tmp_path))) as reader:
        assert [e.seq for e in reader.read(kept(str(tmp_path), Events(10)))] == [2, 3]
