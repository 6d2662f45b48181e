"""Whoever scrapes gets what is read then, though several share one reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.history.played import PlayedService, sandbox
from watcher.feed.lines import ContainerPart
from watcher.observe.metrics import source
from watcher.observe.metrics.source import Shared, Source
from watcher.observe.metrics.text import PLAIN

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from watcher.observe.metrics.source import Scrape


def has_web(scrape: Scrape) -> bool:
    return 'id="web"' in scrape.text(PLAIN, gzip=False).decode()


def test_who_asks_while_another_is_waiting_gets_what_that_one_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not what was read for the scrape before, which may be a minute old."""

    async def script(service: PlayedService) -> None:
        shared = Shared(Source(str(service.run_dir)), lambda _: None)
        monkeypatch.setattr(source, "AGE", 0.0)  # so that the first is old at once
        first = asyncio.ensure_future(shared.latest())
        await asyncio.sleep(0)  # until it has begun
        service.accept(1)
        assert not has_web(await first)
        monkeypatch.setattr(source, "AGE", 3600.0)
        asking = [asyncio.ensure_future(shared.latest()) for _ in range(3)]
        await asyncio.sleep(0)
        service.accept(2, [sandbox(ContainerPart("/run/runc", "web"))])
        assert [has_web(await one) for one in asking] == [True] * 3
        assert has_web(await shared.latest())  # for which nobody is asked

    with PlayedService(tmp_path) as service:
        asyncio.run(asyncio.wait_for(script(service), 60))
