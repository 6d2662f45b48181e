"""Takes pictures for those who scrape: one at a time, at most one a second, for all of them."""

from __future__ import annotations

import asyncio
import threading
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError, message_with_remedy
from watcher.observe.metrics import families
from watcher.observe.metrics.links import Links
from watcher.observe.metrics.names import of_name_service
from watcher.observe.metrics.text import written
from watcher.observe.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Metric

    from watcher.observe.metrics.text import Format, Table

WITHIN: Final = 8.0
"""Seconds that a picture may take; Prometheus waits 10 by default."""
AGE: Final = 1.0
"""Seconds that a scrape is good for."""

_FAST: Final = 1
_GZIP: Final = 16 + zlib.MAX_WBITS
"""For the header and the trailer of gzip; source: zlib.h, `deflateInit2`."""


class Scrape:
    """What one picture gives, or the lack of one; written when a reader asks for it.

    Attributes:
        reason: why there is no picture; empty if there is one.
    """

    def __init__(self, families_: list[Metric], tables: list[Table], reason: str) -> None:
        self.reason = reason
        self._families = families_
        self._tables = tables
        self._texts: dict[tuple[Format, bool], bytes] = {}

    def text(self, form: Format, *, gzip: bool) -> bytes:
        """The text in that format; the same bytes for all who ask for it."""
        key = form, gzip
        if key not in self._texts:
            if gzip:
                text = zlib.compress(self.text(form, gzip=False), _FAST, _GZIP)
            else:
                text = written(self._families, self._tables, form)
            self._texts[key] = text
        return self._texts[key]


class Source:
    """Takes pictures from the events socket, and asks the name service.

    Args:
        run_dir: where their sockets are.
        within: seconds after which a picture that is not complete counts as none.
    """

    def __init__(self, run_dir: str, within: float = WITHIN) -> None:
        self._run_dir = run_dir
        self._within = within
        self._links = Links()

    def scrape(self) -> Scrape:
        """A new picture. This waits."""
        start = time.monotonic()
        picture, reason = None, ""
        try:
            with Stream(self._run_dir, timeout=self._within) as stream:
                picture = stream.picture(start + self._within)
        except (WatcherError, OSError) as error:
            reason = message_with_remedy(error)
        seconds = time.monotonic() - start
        whole = list(families.of_scrape(up=picture is not None, seconds=seconds))
        whole += of_name_service(self._run_dir, picture)
        if picture is None:
            return Scrape(whole, [], reason)
        whole += families.of_picture(picture)
        return Scrape(whole, list(self._links.tables(picture)), "")


class Shared:
    """Scrapes of one source, shared by all who ask at about the same time.

    Args:
        source: is used by one thread at a time.
        told: called with the reason why there is no picture when that changes; empty: there is one.
    """

    def __init__(self, source: Source, told: Callable[[str], object]) -> None:
        self._source = source
        self._told = told
        self._reason = ""
        self._last: Scrape | None = None
        self._began = 0.0
        self._until = 0.0
        self._coming: asyncio.Future[Scrape] | None = None

    async def latest(self) -> Scrape:
        """The scrape that is under way, or else one that was begun less than :data:`AGE` ago."""
        if self._coming is None:
            if self._last is not None and time.monotonic() < self._until:
                return self._last
            self._began = time.monotonic()
            self._coming = in_thread(self._source.scrape)
            self._coming.add_done_callback(self._came)
        return await asyncio.shield(self._coming)

    def _came(self, coming: asyncio.Future[Scrape]) -> None:
        self._coming = None
        if coming.cancelled() or coming.exception() is not None:
            return
        self._last, self._until = coming.result(), self._began + AGE
        if self._last.reason != self._reason:
            self._reason = self._last.reason
            self._told(self._reason)


def in_thread[R](call: Callable[[], R]) -> asyncio.Future[R]:
    """`call` in a thread of its own, for which the end of the program does not wait."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(result: R | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result, raised = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 (it is raised where the result is awaited)
            raised = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, raised)

    threading.Thread(target=work, daemon=True).start()
    return future
