"""`kill -9` at every failure point of connect and disconnect: the next sync makes it whole.

Either the container has the network then, with all that belongs to it, or it has nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.connected import BACK, is_right, rules, tables
from tests.support.dialled import dial
from tests.support.host import BEYOND, BEYOND6, UPLINK, Container, Host
from tests.support.killer import KILLED, Killer, every_point
from tests.support.pictures import Picture, difference, take
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host import HostMaker

pytestmark = pytest.mark.accident

FEW: Final = 4
"""Every so-manieth point. `make soak` takes all."""

PORTS: Final = "8080:80,5353:53/udp"
IN_BOTH: Final = {"io.watcher.network": "default,back"}
HELD: Final = {
    "io.watcher.egress": f"{BEYOND}:443/tcp",
    "io.watcher.ingress": f"{BEYOND}/32",
    "io.watcher.egress-bandwidth": "1G",
    "io.watcher.connections": "500",
}
"""It comes along to each network."""


class Both:
    """A host with a container that is in one network or in two, killed in between."""

    def __init__(self, host: Host, *containers: Container) -> None:
        self.host = host
        self.web = containers[0]
        self.web.serve(tcp=(80,), udp=(53,))
        self.containers = containers
        self.killer = Killer(host)
        self.walled = False

    def wall(self) -> Both:
        """It is held to `HELD`: each check asks whether that is so."""
        self.host.beyond.serve(tcp=(80, 443))
        assert dial(self.web, BEYOND, 443) == "open"
        self.walled = True
        return self

    def run(self, *args: str) -> None:
        assert self.killer.run(*args) == 0, self.killer.log()

    def picture(self) -> Picture:
        """What is there, with the rules and policy routes inside."""
        inside = [f"rule {p}" for version in (4, 6) for p in rules(self.web, version)]
        return take(self.host, self.containers) | {"policies": inside + tables(self.web)}

    def at_every_point(self, command: str, network: str, interface: str) -> None:
        """Has a command killed at every point, which is undone first if it came to its end."""
        undo = {"connect": "disconnect", "disconnect": "connect"}[command]
        self.run(command, "web", network)
        self.killer.sync()  # which opens a network again
        after = self.picture()
        self.run(undo, "web", network)
        self.killer.sync()
        before = self.picture()

        def kill(at: int) -> bool:
            if (interface in self.web.place.links()) == (command == "connect"):
                self.run(undo, "web", network)
            return self.killer.run(command, "web", network, at=at) == KILLED

        every_point(kill, lambda: self.check(before, after), step=FEW)
        is_right(self.host)

    def check(self, *allowed: Picture) -> None:
        """It is as in one of `allowed`, and reached, if it is to be; no way out is open before."""
        if self.walled:
            for address in (BEYOND, BEYOND6):
                assert dial(self.web, address, 80, timeout=LATENCY_FREE_NO) != "open"
        self.killer.sync()
        found = self.picture()
        differences = [difference(found, one) for one in allowed]
        assert "" in differences, "\nor\n".join(differences)
        assert self.host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
        assert self.host.beyond.reach(UPLINK, 5353, "udp") == Answer("web", BEYOND)


def test_connecting(make_host: HostMaker) -> None:
    host = make_host(BACK)
    both = Both(host, host.attach("web", annotations=HELD, ports=PORTS)).wall()
    both.at_every_point("connect", "back", "eth1")


def test_connecting_to_what_becomes_the_way_out(make_host: HostMaker) -> None:
    """The default route and the ports move to the network that has the first place again."""
    host = make_host(BACK)
    both = Both(host, host.attach("web", annotations=IN_BOTH, ports=PORTS))
    both.run("disconnect", "web", "default")
    both.at_every_point("connect", "default", "eth0")


def test_disconnecting_the_way_out(make_host: HostMaker) -> None:
    host = make_host(BACK)
    both = Both(host, host.attach("web", annotations=IN_BOTH | HELD, ports=PORTS)).wall()
    both.at_every_point("disconnect", "default", "eth0")


def test_disconnecting_the_last_one(make_host: HostMaker) -> None:
    host = make_host(BACK)
    keeper = host.attach("keeper", ports=PORTS)
    keeper.serve(tcp=(80,), udp=(53,))
    web = host.attach("web")
    killer = Killer(host)
    assert killer.run("disconnect", "web", "default") == 0
    bare = take(host, [keeper, web])
    assert killer.run("connect", "web", "default") == 0
    connected = take(host, [keeper, web])

    def disconnect(at: int) -> bool:
        if "eth0" not in web.place.links():
            assert killer.run("connect", "web", "default") == 0
        return killer.run("disconnect", "web", "default", at=at) == KILLED

    def check() -> None:
        killer.sync()
        found = take(host, [keeper, web])
        assert "" in (difference(found, bare), difference(found, connected))
        assert host.beyond.reach(UPLINK, 8080) == Answer("keeper", BEYOND)

    every_point(disconnect, check, step=FEW)
    is_right(host)


def test_an_end_that_takes_the_way_out_along(make_host: HostMaker) -> None:
    """A member goes, and with it the first network, which was connected for it."""
    host = make_host(BACK)
    web = host.attach("web", annotations=IN_BOTH, ports=PORTS)
    both = Both(host, web, host.share("sidecar", "web"))
    away = host.base / "away"
    away.mkdir()
    both.run("disconnect", "web", "default")

    def move(here: Path, there: Path) -> None:
        (here / "sidecar").rename(there / "sidecar")

    move(host.root, away)
    both.killer.sync()
    bare = both.picture()

    def end(at: int) -> bool:
        move(away, host.root)
        both.killer.sync()
        both.run("connect", "sidecar", "default")
        move(host.root, away)
        return both.killer.run("sync", at=at) == KILLED

    every_point(end, lambda: both.check(bare), step=FEW)
    is_right(host)
