"""Taking turns: A B A B …, so that whatever else the machine does is everybody's burden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from bench.host import Host


@contextmanager
def hosts(base: Path, kinds: Mapping[str, tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Host]]:
    """A host by each name of `kinds`, with a contender of that kind and those options."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Host(kind, base, **options))
            for name, (kind, options) in kinds.items()
        }


def turns[T](contenders: Mapping[str, T], rounds: int) -> Iterator[tuple[int, str, T]]:
    """Round, name and contender, everybody once a round, in another order each time.

    Who comes behind another has what the kernel still disposes of for that one: so that has to be
    now this one, now that one.
    """
    names = list(contenders)
    order = Random(0)  # the same for every run
    for number in range(rounds):
        order.shuffle(names)
        for name in names:
            yield number, name, contenders[name]
