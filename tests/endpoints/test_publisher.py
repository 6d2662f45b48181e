"""The endpoints of a host: few writes, nothing twice, and the difference alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.support.waiting import LATENCY_FREE_NO
from watcher.cluster.endpoints import publisher as module
from watcher.cluster.endpoints.publisher import TOGETHER, Publisher
from watcher.log.logger import SILENCE
from watcher.model.errors import WatcherError

_ENOUGH = 20.0


class Registry:
    """A registry in memory, which tells of each write once :meth:`tell` is called."""

    def __init__(self, **there: bytes) -> None:
        self.there: dict[str, bytes] = {f"{key[1:]}": value for key, value in there.items()}
        self.revision = 5
        self.writes: list[dict[str, bytes | None]] = []
        self.untold: list[tuple[str, bytes | None, int]] = []
        self.broken = False
        self.lost = False
        self.publisher = Publisher(self, SILENCE)

    async def put_endpoints(self, changes: Mapping[str, bytes | None]) -> int:
        broken = self.broken
        await asyncio.sleep(0)
        if broken:
            raise WatcherError("etcd does not answer")
        self.revision += 1
        self.writes.append(dict(changes))
        for id_, value in changes.items():
            assert self.there.get(id_) != value, "written twice"
            if value is None:
                del self.there[id_]
            else:
                self.there[id_] = value
            self.untold.append((id_, value, self.revision))
        if self.lost:
            raise OSError("the connection ended")
        return self.revision

    def tell(self) -> None:
        """The watch tells what has happened."""
        untold, self.untold = self.untold, []
        for one in untold:
            self.publisher.told(*one)
        self.publisher.told_all(self.revision)

    def tell_all(self) -> None:
        """All is read."""
        self.untold.clear()
        for id_, value in self.there.items():
            self.publisher.told(id_, value, self.revision)
        self.publisher.told_all(self.revision)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_ENOUGH):
            while not condition():
                await asyncio.sleep(0.002)


def run(registry: Registry, test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        publishing = asyncio.create_task(registry.publisher.run())
        try:
            async with asyncio.timeout(_ENOUGH * 2):
                await test()
        finally:
            publishing.cancel()

    asyncio.run(bounded())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again soon."""
    monkeypatch.setattr(module, "_RETRIES", (0.01, 0.05))


def test_a_burst_is_few_writes() -> None:
    registry = Registry()
    wanted: dict[str, bytes] = {}

    async def test() -> None:
        registry.tell_all()
        registry.publisher.replaced(wanted)
        registry.publisher.may_write(may=True)
        for number in range(1000):
            wanted[str(number)] = b"web"
            registry.publisher.changed(str(number))
            await asyncio.sleep(0)
        await registry.until(lambda: len(registry.there) == 1000)
        registry.tell()
        assert registry.there == wanted
        assert len(registry.writes) <= 1000 // TOGETHER + 4
        assert max(map(len, registry.writes)) <= TOGETHER

    run(registry, test)


def test_after_a_restart_the_difference_alone_is_written() -> None:
    registry = Registry(_1=b"same", _2=b"old", _3=b"gone", _junk=b"?")

    async def test() -> None:
        registry.publisher.may_write(may=True)
        registry.publisher.replaced({"1": b"same", "2": b"new", "4": b"added"})
        await asyncio.sleep(LATENCY_FREE_NO)
        assert registry.writes == []  # what etcd has is not known yet
        registry.tell_all()
        await registry.until(lambda: bool(registry.writes))
        changes = {"2": b"new", "3": None, "4": b"added", "junk": None}
        assert registry.writes == [changes]

    run(registry, test)


def test_nothing_is_removed_before_the_service_has_told_what_there_is() -> None:
    registry = Registry(_1=b"web")

    async def test() -> None:
        registry.publisher.may_write(may=True)
        registry.tell_all()
        await asyncio.sleep(LATENCY_FREE_NO)
        assert registry.writes == []

    run(registry, test)


def test_the_echo_of_a_write_is_no_change() -> None:
    registry = Registry()
    wanted = {"1": b"a"}

    async def test() -> None:
        registry.tell_all()
        registry.publisher.may_write(may=True)
        registry.publisher.replaced(wanted)
        await registry.until(lambda: len(registry.writes) == 1)
        wanted["1"] = b"b"
        registry.publisher.changed("1")
        await registry.until(lambda: len(registry.writes) == 2)
        registry.tell()  # of both
        await asyncio.sleep(LATENCY_FREE_NO)
        assert registry.writes == [{"1": b"a"}, {"1": b"b"}]

    run(registry, test)


def test_what_is_as_it_was_before_while_it_is_written_is_written_back() -> None:
    registry = Registry(_1=b"a")
    wanted = {"1": b"b"}

    async def test() -> None:
        registry.tell_all()
        registry.publisher.may_write(may=True)

        async def put(changes: Mapping[str, bytes | None]) -> int:
            revision = await Registry.put_endpoints(registry, changes)
            if len(registry.writes) == 1:
                wanted["1"] = b"a"
                registry.publisher.changed("1")
            return revision

        registry.put_endpoints = put  # type: ignore[method-assign]
        registry.publisher.replaced(wanted)
        await registry.until(lambda: registry.writes == [{"1": b"b"}, {"1": b"a"}])
        registry.tell()
        await asyncio.sleep(LATENCY_FREE_NO)
        assert len(registry.writes) == 2

    run(registry, test)


def test_what_was_written_to_an_etcd_that_is_restored_is_written_again() -> None:
    registry = Registry()

    async def test() -> None:
        registry.tell_all()
        registry.publisher.may_write(may=True)
        registry.publisher.replaced({"1": b"a", "2": b"b"})
        await registry.until(lambda: len(registry.there) == 2)
        registry.there, registry.revision = {"1": b"old"}, 3
        registry.publisher.begin()
        registry.tell_all()
        await registry.until(lambda: registry.there == {"1": b"a", "2": b"b"})
        registry.tell()
        await asyncio.sleep(LATENCY_FREE_NO)
        assert len(registry.writes) == 2

    run(registry, test)


def test_what_somebody_else_removes_is_written_again() -> None:
    registry = Registry(_1=b"web")

    async def test() -> None:
        registry.tell_all()
        registry.publisher.may_write(may=True)
        registry.publisher.replaced({"1": b"web"})
        registry.there.clear()
        registry.revision += 1
        registry.publisher.told("1", None, registry.revision)
        registry.publisher.told_all(registry.revision)
        await registry.until(lambda: registry.there == {"1": b"web"})

    run(registry, test)


def test_while_etcd_is_away_changes_come_together_and_are_written_once_it_is_back() -> None:
    registry = Registry()
    wanted = {"1": b"a"}

    async def test() -> None:
        registry.tell_all()
        registry.publisher.replaced(wanted)
        registry.publisher.may_write(may=True)
        registry.broken = True
        await asyncio.sleep(LATENCY_FREE_NO)
        registry.publisher.may_write(may=False)
        registry.broken = False
        for number in range(50):
            wanted[str(number)] = b"b"
            registry.publisher.changed(str(number))
        await asyncio.sleep(LATENCY_FREE_NO)
        assert registry.writes == []
        registry.publisher.may_write(may=True)
        await registry.until(lambda: registry.there == wanted)
        assert len(registry.writes) <= 2

    run(registry, test)


def test_a_write_of_which_nobody_knows_whether_it_was_made_is_not_made_twice_once_it_is_told() -> (
    None
):
    registry = Registry()
    wanted = {"1": b"a"}

    async def test() -> None:
        registry.tell_all()
        registry.lost = True
        registry.publisher.may_write(may=True)
        registry.publisher.replaced(wanted)
        await registry.until(lambda: len(registry.writes) == 1)
        registry.lost = False
        registry.tell()
        await asyncio.sleep(LATENCY_FREE_NO)
        assert len(registry.writes) == 1

    run(registry, test)
