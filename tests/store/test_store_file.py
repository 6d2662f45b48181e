"""The file of the lease store: who may read it, and what reading, writing and importing cost."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from tests.support.leases import DEFAULT, ROOT, container, content, python
from tests.support.waiting import PATIENCE
from watcher.model.errors import WatcherError
from watcher.model.request import Request
from watcher.store.database import BACKSTOP, DUE, LONG, PAGE_SIZE
from watcher.store.leases import LeaseStore


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with LeaseStore.open(path) as store:
            store.create_sandbox(container("web"), [DEFAULT], Request())
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            assert modes == {0o600}
    finally:
        os.umask(before)


def test_the_narrowest_umask_does_no_harm(path: Path) -> None:
    before = os.umask(0o777)
    try:
        with LeaseStore.open(path):
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_odd_names_of_directories(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20 d" / "leases.db"
    with LeaseStore.open(path) as store:
        made = store.create_sandbox(container("web"), [DEFAULT], Request())
    assert path.exists()
    assert content(path) == [made]


def test_reading_before_the_first_run_makes_nothing(path: Path) -> None:
    with LeaseStore.open(path, read_only=True) as store:
        assert store.sandboxes() == []
        assert store.failures() == []
    assert not path.parent.exists()


def test_reading_an_empty_file(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert content(path) == []


def test_reading_makes_no_file(path: Path) -> None:
    with LeaseStore.open(path) as store:
        made = store.create_sandbox(container("web"), [DEFAULT], Request())
    assert content(path) == [made]
    assert [file.name for file in path.parent.iterdir()] == ["leases.db"]


def test_reading_while_another_writes(store: LeaseStore, path: Path) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], Request())
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM member")
    assert content(path) == [made]
    writer.execute("ROLLBACK")
    writer.close()


def test_a_reader_cannot_write(store: LeaseStore, path: Path) -> None:
    store.create_sandbox(container("web"), [DEFAULT], Request())
    with LeaseStore.open(path, read_only=True) as copy, pytest.raises(WatcherError):
        copy.leave(ROOT, "web")


def test_a_checkpoint_empties_the_journal_into_the_file(store: LeaseStore, path: Path) -> None:
    before = path.stat().st_size
    store.create_sandbox(container("web"), [DEFAULT], Request())
    store.checkpoint()
    assert path.stat().st_size > before


def test_changes_go_on_while_the_journal_is_moved(store: LeaseStore, path: Path) -> None:
    ended = threading.Event()
    moving = store.begin_checkpoint(ended.set)
    assert moving
    assert not store.begin_checkpoint(ended.set)
    for n in range(100):
        store.create_sandbox(container(f"c{n}", n), [DEFAULT], Request())
    assert ended.wait(PATIENCE)
    store.end_checkpoint()
    assert len(content(path)) == 100
    store.checkpoint()
    assert len(content(path)) == 100


def test_the_journal_starts_again_once_all_of_it_was_moved(store: LeaseStore, path: Path) -> None:
    journal = path.with_name(path.name + "-wal")
    for _ in range(4):
        for n in range(DUE):
            assert not store.journal_is_long
            store.note("number", f"{n}")
        assert store.journal_is_long
        store.checkpoint()
        assert not store.journal_is_long
    assert journal.stat().st_size < 2 * DUE * 3 * PAGE_SIZE


def test_the_journal_stays_short_if_there_always_is_another_change(
    store: LeaseStore, path: Path
) -> None:
    journal = path.with_name(path.name + "-wal")
    running: list[threading.Event] = []
    for n in range(2 * LONG):
        store.note("number", f"{n}")
        if running and running[0].is_set():
            store.note("number", "beside it")  # so that never all of it was moved
            store.end_checkpoint()
            running.clear()
        if store.journal_is_long and not running:
            running.append(threading.Event())
            store.begin_checkpoint(running[0].set)
    assert journal.stat().st_size < 1.5 * LONG * 3 * PAGE_SIZE


def test_without_a_service_a_commit_moves_it(store: LeaseStore, path: Path) -> None:
    journal = path.with_name(path.name + "-wal")
    page = "x" * (1 << 18)
    for _ in range(3 * (BACKSTOP >> 18)):
        store.note("page", page)
    assert journal.stat().st_size < 1.2 * BACKSTOP


def test_a_file_that_was_replaced_is_not_written_by_a_checkpoint(
    store: LeaseStore, path: Path
) -> None:
    store.create_sandbox(container("web"), [DEFAULT], Request())
    path.rename(path.with_name("kept"))
    path.write_bytes(b"")
    store.checkpoint()
    assert path.read_bytes() == b""


def test_closing_twice(path: Path) -> None:
    store = LeaseStore.open(path)
    store.close()
    store.close()


def test_two_programs_make_the_file_at_once(path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from watcher.store.leases import LeaseStore
        sys.stdin.readline()
        LeaseStore.open(Path(sys.argv[1])).close()
    """
    children = [python(script, path) for _ in range(8)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate()
        assert (child.returncode, errors) == (0, "")
    assert content(path) == []


def test_nothing_is_imported_that_takes_long() -> None:
    script = """
        import sys
        import watcher.store.leases
        slow = {"pyroute2", "structlog", "watchdog", "nftables", "asyncio", "hashlib", "logging"}
        assert not slow & set(sys.modules), slow & set(sys.modules)
    """
    child = python(script)
    _, errors = child.communicate()
    assert (child.returncode, errors) == (0, "")
