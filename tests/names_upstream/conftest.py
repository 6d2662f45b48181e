"""A forwarder on a host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.host import Host
from tests.support.upstreams import Asking

type AskingMaker = Callable[..., Asking]


@pytest.fixture
def make_asking(host: Host) -> Iterator[AskingMaker]:
    """Makes forwarders, with more arguments for them if any."""
    made: list[Asking] = []

    def make(**settings: Any) -> Asking:
        made.append(Asking(host, **settings))
        return made[-1]

    yield make
    for asking in made:
        asking.close()


@pytest.fixture
def asking(make_asking: AskingMaker) -> Asking:
    """A forwarder with the default settings."""
    return make_asking()
