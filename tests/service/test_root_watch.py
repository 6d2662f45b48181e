"""What the watch of a root reports: a container when there is something to see of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.waiting import PATIENCE
from watcher.events.roots import RootWatch
from watcher.log.logger import make_log

type Looks = asyncio.Queue[str]


@asynccontextmanager
async def watched(root: Path) -> AsyncIterator[Looks]:
    """A watch of `root`, and the containers that it reports."""
    looks: Looks = asyncio.Queue()
    watch = RootWatch(
        look=lambda _, id_: looks.put_nowait(id_), anew=looks.put_nowait,
        overflow=lambda: None, failed=lambda _: None, log=make_log("info", "json"),
    )  # fmt: skip
    watch.start(asyncio.get_running_loop())
    directory = os.open(root, os.O_PATH)
    watch.watch_root(str(root), directory)
    os.close(directory)
    yield looks
    watch.stop()


def save(directory: Path) -> None:
    """Write a state as runc does."""
    (directory / "state-1").write_text("{}")
    (directory / "state-1").rename(directory / "state.json")


def reports(root: Path, change: Callable[[], object]) -> list[str]:
    """What is reported of `change`, and of the save of a container `last` after it."""

    async def run() -> list[str]:
        found: list[str] = []
        async with asyncio.timeout(PATIENCE), watched(root) as looks:
            change()
            (root / "last").mkdir()
            save(root / "last")
            while "last" not in found:
                found.append(await looks.get())
        return found

    return asyncio.run(run())


def test_a_new_directory_is_not_reported_before_its_state(tmp_path: Path) -> None:
    assert reports(tmp_path, (tmp_path / "web").mkdir) == ["last"]


def test_a_saved_state_is_reported(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    assert reports(tmp_path, lambda: save(tmp_path / "web")) == ["web", "last"]


def test_a_directory_with_a_state_is_reported(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "web").mkdir()
    save(tmp_path / "web")
    assert reports(root, lambda: (tmp_path / "web").rename(root / "web")) == ["web", "last"]


def test_a_directory_that_runc_did_not_make_is_reported(tmp_path: Path) -> None:
    assert reports(tmp_path, (tmp_path / "no id").mkdir) == ["no id", "last"]


def test_a_removed_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    assert reports(tmp_path, (tmp_path / "web").rmdir) == ["web", "last"]
