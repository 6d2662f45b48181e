"""IPv6 turned off inside a sandbox whose network has it: IPv4 works, and nobody fights over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.host import BEYOND, UPLINK, Container, HostMaker
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
NOTHING_TO_DO: Final = "nothing to do\n"
SAY: Final = ("sh", "-c", f"ping -c 1 -W 2 {BEYOND} | grep received; ip addr; ip -6 route")
OFF: Final = '{"net.ipv6.conf.eth0.disable_ipv6": "1"}'


def without_ipv6(spec: bundles.Spec) -> None:
    spec["linux"]["sysctl"] = {"net.ipv6.conf.all.disable_ipv6": "1"}


def turn(container: Container, *, off: bool) -> None:
    path = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
    container.place.run("sh", "-c", f"echo {int(off)} > {path}")


@pytest.mark.parametrize("config", [DUAL, ROUTED], ids=["bridge", "routed"])
def test_a_bundle_that_turns_ipv6_off_gets_ipv4_alone(make_host: HostMaker, config: str) -> None:
    host = make_host(config)
    service = host.service()
    asked: dict[str, Any] = {"annotations": {"io.watcher.sysctl": OFF}}
    for how in (asked, {"edit": without_ipv6}):
        done = host.run_to_end("first", SAY, **how)
        assert "1 packets received" in done.stdout
        assert "eth0" in done.stdout
        assert "fd00" not in done.stdout
        assert "fe80" not in done.stdout

    both: dict[str, Any] = {"annotations": {"io.watcher.network": "default,back"}}
    web = host.attach("web", ports="8080:80", edit=without_ipv6, **both)
    assert [len(web.place.addresses(name)) for name in ("eth0", "eth1")] == [1, 1]
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    service.restart()
    assert host.watcher("sync", "--dry-run").stdout == NOTHING_TO_DO
    assert service.warnings() == []
    host.here.run("ip", "link", "delete", web.veth)  # and it is healed
    eventually(lambda: host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND))
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    assert service.warnings() == []


def test_ipv6_that_is_turned_off_and_on_is_no_fight_and_sync_brings_it_back(
    make_host: HostMaker,
) -> None:
    host = make_host(DUAL)
    service = host.service()
    client = host.attach("client")
    web = host.attach("web", edit=without_ipv6)
    web.serve(tcp=(80,))
    turn(client, off=True)
    eventually(lambda: len(client.place.addresses()) == 1)
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    for container in (web, client):
        turn(container, off=False)
    repairs = host.watcher("sync").stdout.splitlines()
    assert len([line for line in repairs if "did not have fd00:19::" in line]) == 2
    (six,) = (a.split("/")[0] for a in web.place.addresses() if ":" in a)
    assert client.reach(six, 80) is not None
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    assert service.warnings() == []


def test_a_network_of_ipv6_alone_refuses_a_bundle_that_turns_it_off(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    six = {"io.watcher.network": "six"}
    assert host.run_to_end(
        "bad", ("true",), check=False, annotations=six, edit=without_ipv6
    ).returncode
    assert "IPv6 alone, which is turned off" in host.inspect("bad")["reason"]
    assert host.leftovers() == []
