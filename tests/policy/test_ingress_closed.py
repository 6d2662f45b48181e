"""Lists of sources hold while rules are missing, even against what never stops trying."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.guarded import in_mode
from tests.support.host import BEYOND, UPLINK, UPLINK6, HostMaker
from tests.support.refused import attempt
from tests.support.tireless import Doors, Tireless
from tests.support.waiting import eventually

PORT, OPEN = 4001, 4002
FLUSHES: Final = 5


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_nobody_comes_in_while_rules_are_flushed_and_healed(
    make_host: HostMaker, mode: str
) -> None:
    host = make_host(in_mode(mode) + f'ingress = ["{BEYOND}:{OPEN}", "network:{OPEN}"]\n')
    service = host.service()
    host.run("web", annotations={"io.watcher.ports": f"{PORT}:{PORT},{OPEN}:{OPEN}"})
    host.run("thief")
    web, thief = host.attached("web"), host.attached("thief")
    web.serve(tcp=(OPEN,))
    doors = Doors([web.place], PORT)
    own = [address.split("/")[0] for address in web.place.addresses()]
    for address in own:  # the machine beyond knows the way by the host
        host.beyond.ip("route", "add", address, "via", UPLINK6 if ":" in address else UPLINK)
    targets = [(address, PORT) for address in (*own, UPLINK, UPLINK6)]
    with Tireless(host.beyond, targets) as far, Tireless(thief.place, targets) as near:
        for _ in range(FLUSHES):
            tried = far.tries + near.tries
            host.nft("flush", "ruleset")
            eventually(lambda: host.nft("list", "table", "inet", "watcher"))
            eventually(lambda tried=tried: far.tries + near.tries > tried + 20)  # type: ignore[misc]
        service.stop()
        host.nft("flush", "ruleset")
        tried = far.tries + near.tries
        eventually(lambda: far.tries + near.tries > tried + 20)
        host.watcher("sync")
        eventually(lambda: attempt(host.beyond, UPLINK, OPEN, timeout=0.3) == "web")
        tried = far.tries + near.tries
        eventually(lambda: far.tries + near.tries > tried + 20)
    assert doors.arrived() == set()
    assert attempt(thief.place, UPLINK, OPEN) == "web"
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


def test_others_are_reached_when_nobody_there_has_a_list_any_more(make_host: HostMaker) -> None:
    host = make_host(in_mode("bridge"))
    host.service()
    host.attach("listed", annotations={"io.watcher.ingress": BEYOND})
    free = host.attach("free", ports=f"{OPEN}:{OPEN}")
    free.serve(tcp=(OPEN,))
    assert attempt(host.beyond, UPLINK6, OPEN) == "free"
    host.delete("listed")
    host.forgotten("listed")
    host.nft("flush", "ruleset")  # the rules of `ip rule` stay until a sync
    eventually(lambda: attempt(host.beyond, UPLINK, OPEN, timeout=0.3) == "free")
    host.watcher("sync")
    assert attempt(host.beyond, UPLINK6, OPEN) == "free"
    assert "fwmark" not in host.command("ip", "rule").stdout
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
