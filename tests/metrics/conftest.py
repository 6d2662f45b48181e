"""A host with a service and the metrics of it."""

from __future__ import annotations

import pytest

from tests.support.exporter import Exporter
from tests.support.host import Host


@pytest.fixture
def exporter(host: Host) -> Exporter:
    """The server, on a host without a service so far."""
    return Exporter(host)
