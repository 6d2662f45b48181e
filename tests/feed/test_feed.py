"""The feed by itself: when a line is on its way, and what a broker gets that does not read."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import closing
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Final

import pytest

from watcher.config.settings import Events
from watcher.facts.kinds import Attached, Detached, Failed, NetworkFree, NetworkTaken
from watcher.facts.publisher import Publisher
from watcher.feed.feed import Feed
from watcher.feed.history import History
from watcher.feed.lines import NetworkLine, encoded
from watcher.feed.outlet import LIMIT
from watcher.feed.records import Records
from watcher.log.logger import make_log
from watcher.model.container import Process
from watcher.model.request import Request
from watcher.model.sandbox import Interface, Member, Sandbox
from watcher.store.failures import Failure
from watcher.store.leases import LeaseStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from watcher.facts.kinds import Fact

LOG: Final = make_log("info", "json")
WEB: Final = Sandbox(
    1, "web", Process(7, 8), 4026531999,
    (Interface(0, "default", "eth0", "netnsv0-7", "02:42:ac:13:00:02",
               (ip_interface("172.19.0.2/16"), ip_interface("fd00:19::2/64"))),),
    (Member("/run/runc", "web", Process(7, 8), (), Request()),),
    ("web",),
)  # fmt: skip
ATTACHED: Final = Attached(WEB, WEB.members, 0.5)
DETACHED: Final = Detached(WEB, WEB.members, 0.5)


class NoneUnsaved:
    """The store has all failures."""

    def unsaved(self, root: str, id_: str) -> Failure | None:
        del root, id_
        return None

    def all_unsaved(self) -> list[Failure]:
        return []


class Bench:
    """A feed in a loop, and the other end of its connection to a broker."""

    def __init__(self, directory: Path) -> None:
        self.store = LeaseStore.open(directory / "leases.db")
        self.history = History(str(directory), Events(), LOG)
        self.feed = Feed()
        self.facts = Publisher([], LOG)
        self.facts.tell_first(self.feed.note)
        self.lost = False
        self._rest = b""

    def serve(self, loop: asyncio.AbstractEventLoop) -> None:
        records = Records(self.store, NoneUnsaved())
        now = [NetworkLine("default", "bridge", "netns0", ())]
        self.feed.serve(
            loop, records, self.history, lambda: now,
            lost=self._lose, hangs=self._lose, first=lambda: None,
        )  # fmt: skip

    def begin(self) -> None:
        """A broker is there, but does not read yet."""
        ours, self.end = socket.socketpair()
        ours.setblocking(False)
        self.end.setblocking(False)
        self._ours = ours
        self.feed.began(ours)

    def read(self) -> list[dict[str, Any]]:
        """The lines that the broker can read now."""
        data = self._rest
        while True:
            try:
                part = self.end.recv(1 << 20)
            except BlockingIOError:
                break
            data += part
        *lines, self._rest = data.split(b"\n")
        return [json.loads(line) for line in lines]

    async def settled(self, until: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Reads until that holds for all that was read."""
        lines: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while not until(lines):
                await asyncio.sleep(0)
                lines += self.read()
        return lines

    def close(self) -> None:
        self.feed.close()
        self.history.close()
        self.store.close()
        self._ours.close()
        self.end.close()

    def _lose(self) -> None:
        self.lost = True


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(tmp_path)) as bench:
        yield bench


def kinds(lines: list[dict[str, Any]]) -> list[str]:
    """What the lines are, and of which kind the events."""
    return [line.get("kind") or line["type"] for line in lines]


def is_ready(lines: list[dict[str, Any]]) -> bool:
    return bool(lines) and lines[-1]["type"] == "ready"


def test_a_line_is_there_before_the_fact_is_delivered_and_so_before_the_gate_answers(
    bench: Bench,
) -> None:
    later: list[Callable[[], None]] = []

    async def run() -> None:
        bench.serve(asyncio.get_running_loop())
        bench.begin()
        await bench.settled(is_ready)
        bench.facts.defer(later.append)
        bench.facts.publish(ATTACHED)
        assert kinds(bench.read()) == ["attached"]
        assert len(later) == 1

    asyncio.run(run())


def test_facts_of_the_start_have_the_first_numbers_and_the_next_start_goes_on(
    bench: Bench, tmp_path: Path
) -> None:
    async def run() -> None:
        bench.facts.publish(NetworkTaken("default", "taken"))
        bench.serve(asyncio.get_running_loop())
        bench.begin()
        assert (await bench.settled(is_ready))[-1]["seq"] == 1
        bench.facts.publish(NetworkFree("default"))
        assert [line["seq"] for line in bench.read()] == [2]

    asyncio.run(run())
    bench.feed.close()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert kinds([json.loads(line) for line in lines]) == ["network-taken", "network-free"]
    assert History(str(tmp_path), Events(), LOG).last_seq == 2


def test_a_broker_that_does_not_read_is_told_everything_anew(bench: Bench) -> None:
    """What waits for it is bounded, what is sent is whole, and numbers go on."""

    async def run() -> None:
        bench.serve(asyncio.get_running_loop())
        bench.begin()
        reason = "x" * 100_000
        count = 2 * LIMIT // len(reason)
        for _ in range(count):
            bench.facts.publish(NetworkTaken("default", reason))
        lines = await bench.settled(lambda lines: sum(r["type"] == "ready" for r in lines) == 1)
        numbers = [line["seq"] for line in lines if line["type"] == "event"]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) < LIMIT // len(reason)
        assert kinds(lines)[-2:] == ["state", "ready"]
        assert lines[-1]["seq"] == count
        bench.facts.publish(DETACHED)
        assert [line["seq"] for line in bench.read()] == [count + 1]

    asyncio.run(run())


def test_it_answers_what_changes_without_an_event(bench: Bench) -> None:
    async def run() -> None:
        bench.serve(asyncio.get_running_loop())
        bench.facts.publish(ATTACHED)
        bench.begin()
        await bench.settled(is_ready)
        bench.end.send(b"\n" * 1000)
        lines = await bench.settled(lambda lines: kinds(lines)[-1:] == ["now"])
        assert kinds(lines) == ["network", "totals", "now"]
        assert lines[1]["events"] == {"attached": 1}
        bench.end.close()
        async with asyncio.timeout(20):
            while not bench.lost:
                await asyncio.sleep(0)

    asyncio.run(run())


@pytest.mark.parametrize(
    "fact",
    [
        Failed("/run/\udcff", "web", None, "key", "\ud800", "\x1b[2J\ud800", False, "x", 1.0),
        NetworkTaken("default", "\udfff" * 3),
    ],
)  # fmt: skip
def test_no_text_keeps_an_event_from_being_told(bench: Bench, tmp_path: Path, fact: Fact) -> None:
    async def run() -> None:
        bench.serve(asyncio.get_running_loop())
        bench.begin()
        await bench.settled(is_ready)
        bench.facts.publish(fact)
        (event,) = bench.read()
        assert "\\ud" in event["reason"]

    asyncio.run(run())
    bench.feed.close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1


def test_a_failure_is_told_as_it_was_when_it_happened(bench: Bench) -> None:
    """So nothing has changed for those who are told it again."""

    async def run() -> None:
        bench.serve(asyncio.get_running_loop())
        bench.begin()
        await bench.settled(is_ready)
        failed = Failed(
            "/run/runc", "web", Process(7, 8), "", "", "no \ud800", False, "ENOSPC", 1.5
        )
        bench.facts.publish(failed)
        (event,) = bench.read()
        bench.store.fail(
            Failure("/run/runc", "web", Process(7, 8), "", "", "no \ud800", False, 1.5, "ENOSPC")
        )
        bench.feed.ended()
        bench.end.close()
        bench._ours.close()
        bench.begin()
        lines = await bench.settled(is_ready)
        assert [line for line in lines if line["type"] == "failure"] == event["set"]

    asyncio.run(run())


def test_a_line_is_one_line() -> None:
    assert encoded(NetworkLine("a\nb", "", "", ())).count(b"\n") == 1
