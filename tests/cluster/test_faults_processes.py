"""Processes that are away, and clocks that jump: these rows of the table in docs/cluster.md."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from tests.support.cluster.whole import Whole
from tests.support.host import Service
from tests.support.waiting import eventually

JUMP: Final = "+20d"
"""No further than the certificates of the tests count."""

FAKETIME: Final = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def test_watcher_cluster_is_down(whole: Whole) -> None:
    whole["c"].speaking.kill9()
    for name in "ab":
        whole.silent(name, "c")
    whole.packets()
    whole.starts("c")
    whole.fixed("c")
    whole.refuses("c", "`watcher cluster` does not run", whole.elsewhere())
    whole.refuses("c", "`watcher cluster` does not run", whole.address_in("a"))
    whole.resolves("c", "box-a", whole.boxes["a"].address)
    whole.resolves("c", "box-c", whole.boxes["c"].address)
    whole.starts("a")
    whole.starts("a", whole.elsewhere(), by="ab")
    whole.refuses("a", "is not heard of", whole.address_in("c"))
    for name in "ab":
        whole.resolves(name, "box-c")
    whole["c"].speaking.start()
    whole.well()


def test_watcher_run_is_down(whole: Whole) -> None:
    c = whole["c"]
    inside = whole.address_in("c")
    c.serving.kill9()
    whole.packets()
    late = c.run("late")
    assert late.place.links() == {"lo"}
    wanted = whole.address_in("c")
    fixed = c.run("late-fixed", annotations={"io.watcher.ip": wanted})
    whole.refuses("a", "does not let this host have it", inside)
    whole.starts("a")
    whole.starts("a", whole.elsewhere(), by="ab")
    for one in "abc":
        for other in whole.boxes:
            whole.resolves(one, f"box-{other}", whole.boxes[other].address)
    c.serving.start()
    for container in (late, fixed):
        c.attached(container.id)
        container.serve(tcp=(80,))
        whole.reached(container)
    assert fixed.address == wanted
    whole.well()
    whole.end(late)
    whole.end(fixed)
    whole.starts("a", inside)


def write(clock: Path, text: str) -> None:
    """At once: it is read all the time."""
    new = clock.with_suffix(".new")
    new.write_text(text)
    new.rename(clock)


def test_a_clock_jumps(whole: Whole) -> None:
    """That of one host, forth and back. What hosts tell each other has no time in it.

    A host that waited by that clock would be silent for days.
    """
    c = whole["c"]
    (library,) = Path("/").glob(FAKETIME.removeprefix("/"))
    clock = c.base / "clock"
    write(clock, "+0")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    before = c.serving, c.speaking
    for service in before:
        service.stop()
    c.serving = c.service(env=env, cold=True)
    c.speaking = Service(c, command="cluster", env=env, cold=True)
    c.on_close(c.speaking.end)
    c.speaking.start()
    whole.well()
    for jump in (JUMP, "+0", JUMP):
        write(clock, jump)
        whole.starts("c")
        whole.fixed("c")
        whole.starts("c", whole.elsewhere())
        whole.starts("a", whole.address_in("c"))
        whole.well()
    times = [datetime.fromisoformat(entry["timestamp"]) for entry in c.serving.log()]
    assert (max(times) - min(times)).days >= 19, "the clock has jumped"
    for service in (c.speaking, c.serving):
        service.stop()
    c.serving, c.speaking = before
    for service in before:
        service.start()
    whole.well()
    eventually(lambda: whole.heard("a")["c"] == "alive")
