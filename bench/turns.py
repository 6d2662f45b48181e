"""Taking turns: A B A B …, so that whatever else the machine does is everybody's burden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
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
    """Round, name and contender, everybody once a round; who begins changes each time."""
    names = list(contenders)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            yield number, name, contenders[name]
