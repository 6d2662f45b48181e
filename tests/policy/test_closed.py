"""Networks with lists stay closed from the first packet to the last, whatever rules are missing."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.guarded import GATEWAY6, in_mode
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, UPLINK6, Container, Host, HostMaker
from tests.support.tireless import MARK, Doors, Tireless
from tests.support.waiting import eventually

PORT, OPEN = 4001, 4002
FLUSHES: Final = 8


def addresses(container: Container) -> list[str]:
    """The addresses of its `eth0`, without prefix lengths."""
    return [address.split("/")[0] for address in container.place.addresses()]


def rules(host: Host, version: int) -> list[str]:
    """The routing rules, as `ip rule` prints them."""
    return host.command("ip", f"-{version}", "rule").stdout.replace("\t", " ").splitlines()


def has_table(host: Host) -> bool:
    return host.command("nft", "list", "table", "inet", "watcher", check=False).returncode == 0


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_nothing_passes_while_rules_are_flushed_and_healed(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode) + f'egress = ["any:{OPEN}"]\n')
    before = rules(host, 4), rules(host, 6)
    service = host.service()
    host.run("web")
    host.run("thief")
    web, thief = host.attached("web"), host.attached("thief")
    doors = Doors([host.here, host.beyond, web.place], PORT)
    host.beyond.serve(tcp=(OPEN,), udp=(OPEN,))
    web.serve(tcp=(OPEN,))
    targets = [
        (address, PORT)
        for address in (BEYOND, BEYOND6, UPLINK, UPLINK6, GATEWAY, GATEWAY6, *addresses(web))
    ]
    with Tireless(thief.place, targets) as one, Tireless(thief.place, targets, mark=MARK) as other:
        for _ in range(FLUSHES):
            tried = one.tries + other.tries
            host.nft("flush", "ruleset")
            eventually(lambda: has_table(host), what="the table")
            eventually(lambda tried=tried: one.tries + other.tries > tried + 20)  # type: ignore[misc]
    assert doors.arrived() == set()
    for address in (BEYOND, BEYOND6, *addresses(web)):
        assert thief.reach(address, OPEN) is not None, address
    service.stop()
    host.nft("flush", "ruleset")
    for address in (BEYOND, GATEWAY6, *addresses(web)):
        assert thief.reach(address, OPEN, timeout=0.2) is None
    assert host.watcher("sync").returncode == 0
    assert thief.reach(BEYOND6, OPEN) is not None
    host.delete("web")
    host.delete("thief")
    host.watcher("down")
    assert (rules(host, 4), rules(host, 6)) == before
