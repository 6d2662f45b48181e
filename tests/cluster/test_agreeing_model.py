"""Whatever happens to hosts, etcd and the processes between them: no address is leased twice.

Random histories of a few hosts by a real etcd. `tests/support/histories` has what is done, and
what must hold.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random, SystemRandom
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final, NamedTuple

import pytest

from tests.support import traffic
from tests.support.etcd import Etcd as RealEtcd
from tests.support.histories.history import History
from tests.support.histories.judged import CLONE, NAMES, TWIN
from tests.support.host.machine import Machine

pytestmark = pytest.mark.accident

EXAMPLES: Final = int(os.environ.get("WATCHER_MODEL_EXAMPLES", "0"))
"""0 is CI's few, always the same ones; `make soak` has many, and others each time."""

SEED: Final = int(os.environ.get("WATCHER_MODEL_SEED", "0"))
"""The number of the first history, as that which has failed says it."""

FEW: Final = 8
STEPS: Final = 30
PAUSES: Final = (0.0, 0.01, 0.05, 0.2)
QUICK: Final = ("--heartbeat-interval=20", "--election-timeout=200")
"""An etcd that is there at once after a restart."""

OTHERS: Final = (*NAMES, *NAMES, TWIN, CLONE)
KINDS: Final = ("nobody's", "nobody's", "free", "free", "leased", "any")
GARBAGE: Final = ("", "{", "null", '{"host": "b", "incarnation": "0"', "\xff")
TABLES: Final = (
    "hosts/",
    "addresses/",
    "alive/",
    "networks/",
    "blocks/",
    "claims/",
    "claims/",
    "x",
)


def one_of[T](values: Sequence[T]) -> Callable[[Random], T]:
    return lambda rng: rng.choice(values)


def up_to(most: int, least: int = 0) -> Callable[[Random], int]:
    return lambda rng: rng.randint(least, most)


def names(rng: Random) -> list[str]:
    return rng.sample(NAMES, len(NAMES))


def some(rng: Random) -> list[str]:
    return rng.sample(NAMES, rng.choice((0, 2, 3)))


maybe: Final = one_of((False, True))
all_or_some: Final = one_of((3, 99))
other: Final = one_of(OTHERS)
host: Final = one_of(NAMES)
kind: Final = one_of(KINDS)
table: Final = one_of(TABLES)
garbage: Final = one_of(GARBAGE)
DOWN: Final = maybe


class Action(NamedTuple):
    """What may be done.

    Attributes:
        weight: how often, beside the others.
        name: the method of the history.
        arguments: what draws its arguments.
        up: whether etcd has to be there.
    """

    weight: int
    name: str
    arguments: Mapping[str, Callable[[Random], object]] = MappingProxyType({})
    up: bool = False


ACTIONS: Final = (
    Action(5, "run_many", {"name": other, "count": up_to(6, 1)}),
    Action(5, "end", {"name": other, "count": up_to(8, 1), "oldest": maybe}),
    Action(4, "run", {"name": other, "of": host, "kind": kind, "tries": up_to(9, 1)}),
    Action(3, "move", {"names": names, "kind": kind, "back": maybe}, up=True),
    Action(3, "crowd", {"left": up_to(2)}, up=True),
    Action(12, "race", {"names": names, "kind": kind, "count": up_to(6, 2), "ending": up_to(9)}),
    Action(3, "late", {"name": host}),
    Action(5, "kill_agent_at", {"name": other, "kill": up_to(9), "after": maybe}),
    Action(2, "kill_agent", {"name": other}),
    Action(4, "kill_service", {"name": other, "at": up_to(4), "back": maybe}),
    Action(4, "start", {"name": other}),
    Action(2, "reboot", {"name": other, "lost": maybe}),
    Action(2, "cut_off", {"name": other}),
    Action(12, "heal"),
    Action(2, "lapse", {"name": host}, up=True),
    Action(3, "remove", {"name": host, "force": maybe, "at": one_of((0, 1, 2, 99, 99))}, up=True),
    Action(2, "remove_by_and_by", {"names": names, "at": up_to(2, 1), "count": up_to(4)}, up=True),
    Action(2, "overtake", {"names": names, "ending": all_or_some, "starting": up_to(7)}, up=True),
    Action(2, "replace", {"names": names}, up=True),
    Action(3, "clone", {"name": host}),
    Action(1, "etcd_away"),
    Action(1, "etcd_restarts"),
    Action(1, "compact", up=True),
    Action(2, "take_snapshot", up=True),
    Action(2, "restore", {"down": DOWN, "names": names, "count": up_to(4)}),
    Action(3, "change_hands", {"names": names, "kind": kind, "down": DOWN}, up=True),
    Action(4, "garbage", {"table": table, "value": garbage, "unseen": some}, up=True),
)  # fmt: skip


def play(real: RealEtcd, seed: int) -> None:
    """Play the history of a number to its end."""
    rng, done = Random(seed), [f"WATCHER_MODEL_SEED={seed}"]

    async def work(history: History) -> None:
        for action in rng.choices(ACTIONS, [one.weight for one in ACTIONS], k=STEPS):
            arguments = {name: draw(rng) for name, draw in action.arguments.items()}
            pause = rng.choice(PAUSES)
            if history.up or not action.up:
                done.append(f"{action.name} {arguments} {pause}")
                await history.step(getattr(history, action.name)(**arguments), pause)
        done.append("all is well")

    with TemporaryDirectory(prefix="model-") as directory:
        try:
            asyncio.run(History(real, Path(directory), Random(seed)).play(work))
        except BaseException as error:
            error.add_note("\n".join(done))
            raise


@pytest.fixture(scope="module")
def real() -> Iterator[RealEtcd]:
    with Machine() as machine:
        real = RealEtcd((machine.here, "192.0.2.2"), flags=QUICK)
        with traffic.entered(machine.here.netns):
            yield real


@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_no_address_is_leased_twice(real: RealEtcd) -> None:
    first = SEED if SEED or not EXAMPLES else SystemRandom().randrange(10**9)
    for seed in range(first, first + (EXAMPLES or FEW)):
        play(real, seed)
