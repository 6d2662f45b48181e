"""IPv6 turned off inside a sandbox whose network has it: IPv4 works, and nobody fights over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.host import BEYOND, UPLINK, UPLINK6, Container, HostMaker
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support import bundles

DUAL: Final = (
    '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
    '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24", "fd00:22::/64"]\n'
    '[network.six]\nbridge = "six0"\nsubnets = ["fd00:23::/64"]\n'
)
ROUTED: Final = DUAL.replace("subnets", 'mode = "routed"\nsubnets')
LOST: Final = " did not have fd00:"
NOTHING_TO_DO: Final = "nothing to do\n"
SAY: Final = ("sh", "-c", f"ping -c 1 -W 9 {BEYOND} | grep received; ip addr; ip -6 route")


def without_ipv6(spec: bundles.Spec) -> None:
    spec["linux"]["sysctl"] = {"net.ipv6.conf.all.disable_ipv6": "1"}


def turn(container: Container, *, off: bool) -> None:
    path = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
    container.place.run("sh", "-c", f"echo {int(off)} > {path}")


@pytest.mark.parametrize("config", [DUAL, ROUTED], ids=["bridge", "routed"])
def test_a_bundle_that_turns_ipv6_off_gets_ipv4_alone(make_host: HostMaker, config: str) -> None:
    host = make_host(config)
    service = host.service()
    done = host.run_to_end("first", SAY, edit=without_ipv6)
    assert "1 packets received" in done.stdout
    assert "inet6" not in done.stdout
    assert "fd00" not in done.stdout

    both: dict[str, Any] = {"annotations": {"io.watcher.network": "default,back"}}
    web = host.attach("web", ports="8080:80", edit=without_ipv6, **both)
    row = host.ls()["web"]
    there = [*web.place.addresses("eth0"), *web.place.addresses("eth1")]
    assert row["address"] == list(host.leases()) == [a.partition("/")[0] for a in there]
    web.serve(tcp=(80,))
    host.here.serve(tcp=(8080,), address="::1")  # whose port it is, where IPv6 is not published
    assert host.here.reach("::1", 8080) == Answer("host", "::1")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK6, 8080, timeout=0.1) is None
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    service.restart()
    assert host.watcher("sync", "--dry-run").stdout == NOTHING_TO_DO
    turn(web, off=False)
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    (taken,) = service.warnings()
    assert taken["reason"].startswith("a process of the host listens on ::1 port 8080")


@pytest.mark.parametrize("config", [DUAL, ROUTED], ids=["bridge", "routed"])
def test_ipv6_that_is_turned_off_and_on_is_no_fight_and_sync_brings_it_back(
    make_host: HostMaker, config: str
) -> None:
    host = make_host(config)
    service = host.service()
    both: dict[str, Any] = {"annotations": {"io.watcher.network": "default,back"}}
    client, web = host.attach("client"), host.attach("web", ports="8080:80", **both)
    web.serve(tcp=(80,))
    turn(web, off=True)
    eventually(lambda: len(web.place.addresses()) == 1)
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    host.here.run("ip", "link", "delete", web.veth)  # it is healed all the same
    eventually(lambda: host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND))
    assert host.watcher("sync").stdout == NOTHING_TO_DO

    turn(web, off=False)
    repairs = host.watcher("sync").stdout.splitlines()

    def repaired() -> list[str]:
        """By the sync, or by a service that still looks after the link that was deleted."""
        whys = [*repairs, *(entry.get("why", "") for entry in service.log())]
        return sorted(why.partition(LOST)[0][-4:] for why in whys if LOST in why)

    eventually(lambda: repaired() == ["eth0", "eth1"])
    (six,) = (a.split("/")[0] for a in web.place.addresses() if ":" in a)
    assert client.reach(six, 80) is not None
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    assert service.warnings() == []


def test_what_asks_for_ipv6_and_turns_it_off_is_refused(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    for key, value in (("network", "six"), ("ip", "fd00:19::50"), ("ports", "[::1]:8080:80")):
        asked = {f"io.watcher.{key}": value}
        done = host.run_to_end("bad", ("true",), check=False, annotations=asked, edit=without_ipv6)
        assert done.returncode
        reason = host.inspect("bad")["reason"]
        assert f"io.watcher.{key} = " in reason
        assert "IPv6 is turned off in its network namespace" in reason
        assert host.leftovers() == []
