"""Whatever is killed in the middle of a move: a program starts wholly in the other namespace,
or wholly in its own if its tracer was killed before it began, or not at all."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.held import runc
from tests.support.mover import Killer
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from tests.support.gatekeeper import Json
    from tests.support.host import Host
    from tests.support.host.containers import Container

pytestmark = pytest.mark.accident

SHOWS = ("sh", "-c", "ls -l /proc/self/ns/net && ls /sys/class/net && ls /sys/devices/virtual/net")
LONGER_THAN_A_MOVE = 0.006
OWN, SHARED, NOT_STARTED = "own", "shared", "not started"
LINKS = {OWN: ["lo"], SHARED: ["eth0", "eth1", "lo"]}


def started_in(host: Host, name: str, web: Container) -> str:
    """Where the program of an ended container ran: everything that it saw is of one namespace."""
    seen = host.output(name)
    if not seen:
        return NOT_STARTED
    found = re.search(r"net:\[(\d+)\]", seen)
    assert found, seen
    where = SHARED if int(found[1]) == web.place.inode else OWN
    assert seen.split()[-2 * len(LINKS[where]) :] == 2 * LINKS[where], (where, seen)
    return where


def run_and_kill(
    host: Host, killer: Killer, web: Container, name: str, at: int, who: str
) -> tuple[str, Json | None]:
    """Where a container's program ran, and what became of its move, if the tracer lived."""
    host.bundle(name, SHOWS)
    killer.arm(web.pid, at, who)
    with runc(host, "run", name) as process:
        init = killer.held(name)["init"]
        status = process.wait(PATIENCE)
    over = killer.wait("over")
    moved = None if over["status"] else killer.wait("moved", id=name)
    where = started_in(host, name, web)
    assert (status == 0) == (where != NOT_STARTED), (status, where)
    eventually(
        lambda: not host.seen(Path(f"/proc/{init}")).exists(), what=f"the end of init {init}"
    )
    return where, moved


def points(total: int, most: int) -> list[int]:
    """At most `most` of the numbers from 1 to `total`, with both ends."""
    if most >= total:
        return list(range(1, total + 1))
    return sorted({1 + round(i * (total - 1) / (most - 1)) for i in range(most)})


def steps_of(host: Host, killer: Killer, web: Container) -> int:
    where, moved = run_and_kill(host, killer, web, "whole", 0, "tracer")
    assert moved is not None
    assert (where, moved["error"]) == (SHARED, "")
    steps: int = moved["steps"]
    return steps


@pytest.mark.timeout(900)
def test_the_tracer_is_killed_at_each_step(
    host: Host, root: Path, web: Container, kills: int
) -> None:
    with Killer(host, root) as killer:
        total = steps_of(host, killer, web)
        for at in points(total, kills):
            where, moved = run_and_kill(host, killer, web, f"k{at}", at, "tracer")
            if moved is not None:  # it had fewer threads, and so fewer steps
                assert (where, moved["error"]) == (SHARED, "")
            elif at == 1:
                assert where == OWN
            elif at < total / 2:
                assert where == NOT_STARTED, at
            else:
                assert where != OWN, at


@pytest.mark.timeout(900)
@pytest.mark.parametrize("who", ["init", "runc"])
def test_init_or_its_runtime_is_killed_at_each_step(
    host: Host, root: Path, web: Container, kills: int, who: str
) -> None:
    with Killer(host, root) as killer:
        total = steps_of(host, killer, web)
        for at in points(total, kills // 2):
            name = f"k{at}"
            where, moved = run_and_kill(host, killer, web, name, at, who)
            host.runc("delete", "--force", name, check=False)
            assert moved is not None
            if moved["steps"] >= at:
                assert where == NOT_STARTED
                error = moved["error"]
                assert error == "" or error.startswith(("HalfMoved: ", "CannotMove: ")), moved


@pytest.mark.timeout(1800)
def test_the_tracer_is_killed_at_any_moment(
    host: Host, root: Path, web: Container, kills: int
) -> None:
    places = Counter[str]()
    moments = random.Random(kills)
    with Killer(host, root) as killer:
        for number in range(kills):
            name = f"r{number}"
            host.bundle(name, SHOWS)
            killer.arm(web.pid)
            tracer = killer.forked()
            with runc(host, "run", name) as process:
                killer.held(name)
                time.sleep(moments.uniform(0, LONGER_THAN_A_MOVE))
                with suppress(ProcessLookupError):  # it was done
                    os.kill(tracer, signal.SIGKILL)
                status = process.wait(PATIENCE)
            killer.wait("over")
            where = started_in(host, name, web)
            assert (status == 0) == (where != NOT_STARTED), (status, where)
            places[where] += 1
    assert places.total() == kills, places
    print(f"{kills} kills: {dict(places)}")  # noqa: T201
