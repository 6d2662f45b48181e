"""Those that were moved into a sandbox are its members again when the lease store is lost."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.host import BEYOND, UPLINK, Host, Service
from tests.support.tampering import lose_store
from tests.support.traffic import Answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.accident

CHAIN: Final = ("a-third", "b-second", "side")
"""Each shares the next one, and the last shares `web`; by their ids, each comes before that."""


def is_as_before(host: Host, before: dict[str, Any]) -> bool:
    assert host.ls() == before
    for number, port in enumerate((9090, 9091)):
        if CHAIN[2 - number] in before:
            assert host.beyond.reach(UPLINK, port) == Answer(CHAIN[2 - number], BEYOND)
    return True


def with_chain(host: Host) -> Service:
    """Has `web`, and those of :data:`CHAIN` in its sandbox, two of them with port maps."""
    service = host.service()
    host.attach("web", ports="8080:80")
    host.run("side", ports="9090:90", annotations={"io.watcher.share": "web"})
    host.run("b-second", ports="9091:91", annotations={"io.watcher.share": "side"})
    host.run("a-third", annotations={"io.watcher.share": "b-second"})
    host.attached("side", "shared").serve(tcp=(90,))
    host.attached("b-second", "shared").serve(tcp=(91,))
    return service


@pytest.mark.parametrize("gone", [(), ("web",), ("web", "side"), ("web", "b-second")])
@pytest.mark.parametrize("by", ["sync", "start", "the running service"])
def test_they_are_in_it_again(host: Host, by: str, gone: tuple[str, ...]) -> None:
    service = with_chain(host)
    for name in gone:
        host.delete(name)
    for name in gone:
        host.forgotten(name)
    before = host.ls()
    if by != "the running service":
        service.kill9()
    lose_store(host)
    if by == "sync":
        dry = host.watcher("sync", "--dry-run").stdout
        host.watcher("sync")
        for name in before:
            assert f"attached {name}" in dry
        assert host.watcher("sync").stdout == "nothing to do\n"
    elif by == "start":
        service.start()
    eventually(lambda: is_as_before(host, before))
    if by == "sync":
        service.start()
    for name in before:
        host.delete(name)
    host.empty()
    assert service.warnings() == []


def test_all_of_them_have_their_network_again_after_down(host: Host) -> None:
    service = with_chain(host)
    names = set(host.ls())
    service.stop()
    host.watcher("down")
    assert host.leftovers() == []
    host.watcher("sync")
    assert {id_ for id_, row in host.ls().items() if row["address"]} == names
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert host.beyond.reach(UPLINK, 9091) == Answer("b-second", BEYOND)
