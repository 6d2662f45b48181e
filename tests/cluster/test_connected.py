"""A running container is connected with a fixed address that is in no block of its host."""

from __future__ import annotations

import time
from typing import Final

import pytest
import structlog

from tests.support.cluster.whole import PORT, Whole
from tests.support.connected import refused as says
from tests.support.host import Container
from tests.support.waiting import eventually

LOG: Final = structlog.get_logger()


def bare(whole: Whole, name: str, id_: str) -> Container:
    """A container of a host that is in no network any more."""
    container = whole[name].attach(id_)
    whole[name].watcher("disconnect", id_, "default")
    container.serve(tcp=(PORT,))
    return container


@pytest.mark.parametrize("where", ["in nobody's block", "in the block of c"])
def test_it_is_reached_from_all_and_free_again_once_disconnected(whole: Whole, where: str) -> None:
    address = whole.elsewhere() if where == "in nobody's block" else whole.address_in("c")
    a, b = whole["a"], whole["b"]
    one, other = bare(whole, "a", "one"), bare(whole, "b", "other")
    began = time.monotonic()
    assert a.watcher("connect", "one", "default", "--ip", address).stdout.startswith("eth0 ")
    connected = time.monotonic()
    whole.reached(one)
    reached = time.monotonic()
    LOG.info("connected", connected=connected - began, reached=reached - connected)
    assert one.address == address
    assert 'cannot be claimed: host "a" has it;' in says(
        b, "connect", "other", "default", "--ip", address
    )
    whole.once()
    a.watcher("disconnect", "one", "default")
    b.watcher("connect", "other", "default", "--ip", address)
    whole.reached(other)
    assert other.address == address
    whole.once()
    whole.end(one)
    whole.end(other)
    eventually(lambda: whole.in_etcd("claims") == {}, what="nobody has it any more")
    whole.well()


def test_without_etcd_it_is_refused(whole: Whole) -> None:
    address, inside = whole.elsewhere(), whole.address_in("a")
    one = bare(whole, "a", "one")
    whole.cluster.cut_from_etcd("a")
    whole.unheard("a")
    said = says(whole["a"], "connect", "one", "default", "--ip", address)
    assert (
        f"{address} of network default is in no block of this host, and etcd does not answer"
        in said
    )
    whole["a"].watcher("connect", "one", "default", "--ip", inside)
    whole.reached(one)
    whole.cluster.heal()
    whole.end(one)
    whole.well()
