"""Files of the lease store are removed or replaced at every point of what is done with it.

Whoever has it open has everything in memory; so he has it again at once, whatever went and when.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from tests.support.killer import sample
from tests.support.leases import DEFAULT, HTTP, container, content, python
from watcher.model.request import Request
from watcher.store import database
from watcher.store.leases import LeaseStore

pytestmark = pytest.mark.accident

STORE: Final = str(Path(database.__file__).parent)


def removed(*suffixes: str) -> Callable[[Path], None]:
    def remove(path: Path) -> None:
        for suffix in suffixes:
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    return remove


def others(path: Path) -> None:
    """What a process does that reads it after a removal: it begins another journal."""
    removed("-wal", "-shm")(path)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).touch()


def emptied(path: Path) -> None:
    new = path.with_name("new")
    new.touch()
    new.rename(path)


def spoiled(path: Path) -> None:
    new = path.with_name("new")
    new.write_text("no database\n" * 1000)
    new.rename(path)


def directory_gone(path: Path) -> None:
    for entry in list(path.parent.iterdir()):
        entry.unlink()
    path.parent.rmdir()


ACCIDENTS: Final = {
    "all": removed("", "-wal", "-shm"),
    "the file": removed(""),
    "journal and index": removed("-wal", "-shm"),
    "the journal": removed("-wal"),
    "the index": removed("-shm"),
    "another's journal": others,
    "it is emptied": emptied,
    "it is spoiled": spoiled,
    "the directory": directory_gone,
}


class Line:
    """Does something when the line of that number, from 0 on, of the store's code is reached."""

    def __init__(self, number: int, do: Callable[[], None]) -> None:
        self._left = number
        self._do = do
        self.done = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(STORE):
            return None
        if event == "line" and not self.done:
            self.done = self._left == 0
            self._left -= 1
            if self.done:
                self._do()
        return self


@contextmanager
def at_line(number: int, do: Callable[[], None]) -> Iterator[Line]:
    line, before = Line(number, do), sys.gettrace()
    sys.settrace(line)
    try:
        yield line
    finally:
        sys.settrace(before)


def lines(call: Callable[[int], Line], name: str) -> None:
    """Call it with every 15th line, until there are no more; `make soak` takes all of them."""
    first, step = sample(name, 15)
    number = first - 1
    while call(number).done:
        number += step
    assert number > 20


@pytest.mark.parametrize(
    ("first", "then"),
    [
        *(("all", accident) for accident in ACCIDENTS),
        *(("journal and index", accident) for accident in ("all", "the journal", "the index")),
        *(("the index", accident) for accident in ("all", "the journal", "the index")),
    ],
)
def test_another_removal_while_it_is_opened_anew(tmp_path: Path, first: str, then: str) -> None:
    def once(number: int) -> Line:
        path = tmp_path / str(number) / "leases.db"
        with LeaseStore.open(path) as store:
            store.create_sandbox(container("old", 1), [DEFAULT], Request())
            store.checkpoint()
            store.create_sandbox(container("web", 2), [DEFAULT], Request(ports=(HTTP,)))
            before = store.sandboxes()
            ACCIDENTS[first](path)
            with at_line(number, lambda: ACCIDENTS[then](path)) as line:
                assert store.renew()
            for _ in range(2):
                if store.lost():
                    assert store.renew()
            assert store.lost() == ""
            assert store.sandboxes() == before
            assert content(path) == before
        shutil.rmtree(path.parent)
        return line

    lines(once, f"{first} {then}")


READER = """
    import sqlite3, sys
    db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
    try:
        db.execute("BEGIN")
        db.execute("SELECT * FROM sandbox").fetchall()
    except sqlite3.OperationalError as error:
        print(error, flush=True)
    else:
        print("read", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("accident", ["the journal", "the index", "journal and index"])
def test_somebody_reads_it_as_it_is_opened_anew(
    store: LeaseStore, path: Path, accident: str
) -> None:
    """His locks are on the same file, and he has begun a journal or an index there."""
    store.create_sandbox(container("old", 1), [DEFAULT], Request())
    store.checkpoint()
    store.create_sandbox(container("web", 2), [DEFAULT], Request(ports=(HTTP,)))
    before = store.sandboxes()
    ACCIDENTS[accident](path)
    reader = python(READER, path)
    assert reader.stdout is not None
    assert reader.stdout.readline()
    assert store.renew()
    assert store.lost() == ""
    assert store.sandboxes() == before
    store.create_sandbox(container("new", 3), [DEFAULT], Request())
    assert [sandbox.id for sandbox in content(path)] == ["old", "web", "new"]
    reader.communicate("")
    assert [sandbox.id for sandbox in content(path)] == ["old", "web", "new"]


def test_what_another_wrote_after_the_journal_was_lost_counts(
    store: LeaseStore, path: Path
) -> None:
    store.create_sandbox(container("old", 1), [DEFAULT], Request())
    store.checkpoint()
    store.create_sandbox(container("web", 2), [DEFAULT], Request(ports=(HTTP,)))
    ACCIDENTS["journal and index"](path)
    script = """
        import sys
        from pathlib import Path
        from tests.support.leases import DEFAULT, container
        from watcher.model.request import Request
        from watcher.store.leases import LeaseStore
        with LeaseStore.open(Path(sys.argv[1])) as store:
            store.create_sandbox(container("new", 3), [DEFAULT], Request())
    """
    _, errors = python(script, path).communicate()
    assert errors == ""
    assert store.renew()
    assert [sandbox.id for sandbox in store.sandboxes()] == ["old", "new"]
    assert [sandbox.id for sandbox in content(path)] == ["old", "new"]


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_a_removal_while_it_is_opened(tmp_path: Path, accident: str) -> None:
    def once(number: int) -> Line:
        path = tmp_path / str(number) / "leases.db"
        with LeaseStore.open(path) as store:
            store.create_sandbox(container("web"), [DEFAULT], Request())
        with at_line(number, lambda: ACCIDENTS[accident](path)) as line:
            store = LeaseStore.open_anew(path)
        with store:
            store.renew()
            store.create_sandbox(container("new", 2), [DEFAULT], Request())
            assert {sandbox.id for sandbox in content(path)} >= {"new"}
        return line

    lines(once, accident)


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_a_removal_while_it_is_changed(tmp_path: Path, accident: str) -> None:
    def once(number: int) -> Line:
        path = tmp_path / str(number) / "leases.db"
        with LeaseStore.open(path) as store:
            store.create_sandbox(container("old", 1), [DEFAULT], Request())
            with at_line(number, lambda: ACCIDENTS[accident](path)) as line:
                store.create_sandbox(container("web", 2), [DEFAULT], Request(ports=(HTTP,)))
                store.begin_checkpoint(lambda: None)
                store.end_checkpoint()
            before = store.sandboxes()
            store.renew()
            assert store.sandboxes() == before
            assert content(path) == before
        return line

    lines(once, accident)


@pytest.mark.parametrize("accident", [a for a in ACCIDENTS if a != "it is spoiled"])
def test_a_removal_while_it_is_read(tmp_path: Path, accident: str) -> None:
    def once(number: int) -> Line:
        path = tmp_path / str(number) / "leases.db"
        with LeaseStore.open(path) as store:
            store.create_sandbox(container("web"), [DEFAULT], Request())
            before = store.sandboxes()
            with at_line(number, lambda: ACCIDENTS[accident](path)) as line:
                found = content(path)
            assert found in (before, [])
        return line

    lines(once, accident)
