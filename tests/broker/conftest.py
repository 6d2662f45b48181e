"""Brokers for tests, each of which ends with its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.broker import Service

type ServiceMaker = Callable[..., Service]


@pytest.fixture
def make_service() -> Iterator[ServiceMaker]:
    """Makes brokers with the arguments of :class:`Service`, but for the directory."""
    made: list[Service] = []
    with TemporaryDirectory(prefix="watcher-broker-") as directory:

        def make(**arguments: float) -> Service:
            run_dir = Path(directory, str(len(made)))
            run_dir.mkdir()
            made.append(Service(run_dir, **arguments))  # type: ignore[arg-type]
            return made[-1]

        yield make
        for service in made:
            service.close()


@pytest.fixture
def service(make_service: ServiceMaker) -> Service:
    """A broker that has been told nothing yet."""
    return make_service()
