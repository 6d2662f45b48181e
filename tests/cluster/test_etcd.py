"""The client of etcd, with one real member."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.etcd import Etcd as RealEtcd
from tests.support.etcd_client import done
from tests.support.host.machine import Machine
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.requests import absent, put


@pytest.fixture(scope="module")
def real() -> Iterator[RealEtcd]:
    with Machine() as machine:
        yield RealEtcd((machine.here, "192.0.2.2"), tls=True, auth=True)


def test_a_transaction_takes_a_key_once(real: RealEtcd) -> None:
    async def take(client: Etcd) -> list[bool]:
        key = "/watcher/once"
        return [
            (await client.txn([absent(key)], [put(key, value)])).succeeded for value in (b"a", b"b")
        ]

    assert done(real, take) == [True, False]
    assert real.get("/watcher/once") == "a"
