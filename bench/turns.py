"""Taking turns, A B A B …, so that other load on the machine affects all contenders alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from bench.host import Host


@contextmanager
def hosts(base: Path, kinds: Mapping[str, tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Host]]:
    """A host for each name of `kinds`, with a contender of that kind and its options."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Host(kind, base, **options))
            for name, (kind, options) in kinds.items()
        }


def turns[T](contenders: Mapping[str, T], rounds: int) -> Iterator[tuple[int, str, T]]:
    """Round, name and contender: each contender once per round, in another order each time.

    The kernel still cleans up after the contender before. A changing order spreads that cost.
    """
    names = list(contenders)
    order = Random(0)  # the same for every run
    for number in range(rounds):
        order.shuffle(names)
        for name in names:
            yield number, name, contenders[name]
