"""Limits of every kind, under the capabilities, system calls and directories of the unit."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tests.support.closed import closed, rules
from tests.support.dialled import dial
from tests.support.host import BEYOND, GATEWAY, UPLINK
from tests.support.refused import attempt
from tests.support.shaped import Rates, at, rates
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Container
    from tests.support.host.booted import BootedHost

ASKED: Final = {
    "io.watcher.egress": f"{BEYOND}:443/tcp",
    "io.watcher.ingress": f"{BEYOND}/32,!host",
    "io.watcher.egress-bandwidth": "100M",
    "io.watcher.ingress-bandwidth": "200M",
    "io.watcher.connections": "5",
}
PER_NETWORK: Final = f"""
[network.default]
egress = ["{BEYOND}:80"]
connections = 10
egress_bandwidth = "10M"
"""


def is_held(unit: BootedHost, web: Container) -> bool:
    """Whether all that `ASKED` says is in force."""
    assert dial(web, BEYOND, 443) == "open"
    assert dial(web, BEYOND, 80) != "open"
    assert dial(web, GATEWAY, 443) != "open"
    assert unit.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert attempt(unit.here, "127.0.0.1", 8080) != "web"
    assert rates(unit, web.veth) == Rates(at(200e6), at(100e6))
    assert closed(unit) == {"netns0"}
    return True


def told(unit: BootedHost, kind: str) -> str:
    """The events of a kind."""
    return unit.watcher("events", "--since", "1h", "--filter", f"kind={kind}").stdout


def test_limits_are_in_force_come_back_and_go(unit: BootedHost) -> None:
    before = [rules(unit, version) for version in (4, 6)], unit.here.links()
    unit.beyond.serve(tcp=(80, 443))
    web = unit.attach("web", ports="8080:80", annotations=ASKED)
    web.serve(tcp=(80,))
    assert is_held(unit, web)
    eventually(lambda: f"io.watcher.egress={BEYOND}:80/tcp" in told(unit, "rejected"))
    for damage in (
        ("nft", "flush", "ruleset"),
        ("ip", "rule", "delete", "pref", "0", "iif", "netns0"),
        ("nft", "delete", "table", "arp", "watcher"),
        ("tc", "qdisc", "delete", "dev", web.veth, "root"),
        ("ip", "link", "delete", web.veth.replace("netnsv", "netnsi")),
    ):
        unit.command(*damage)
        eventually(lambda: is_held(unit, web), what=" ".join(damage))
    unit.unit.kill9()
    assert is_held(unit, web)
    assert unit.watcher("sync").stdout == "nothing to do\n"
    with ExitStack() as streams:
        for _ in range(5):
            streams.enter_context(web.place.stream(BEYOND, 443))
        assert dial(web, BEYOND, 443) == "EHOSTUNREACH"
    eventually(lambda: " web" in told(unit, "connections-full"))

    unit.delete("web")
    unit.empty()
    unit.reconfigure(PER_NETWORK)
    held = unit.attach("held")
    assert dial(held, BEYOND, 80) == "open"
    assert dial(held, BEYOND, 443) != "open"
    assert rates(unit, held.veth).send == at(10e6)
    unit.delete("held")
    unit.empty()

    unit.reconfigure("")
    unit.unit.stop()
    unit.watcher("down")
    assert [rules(unit, version) for version in (4, 6)] == before[0]
    assert unit.here.links() == before[1] - {"netns0"}
    assert unit.nft("list", "tables").stdout == ""
