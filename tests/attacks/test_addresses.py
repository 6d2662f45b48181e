"""With the guard on, an address that nobody has leased goes, and no other."""

from __future__ import annotations

from typing import Final

from tests.support.host import BEYOND, UPLINK, Host, HostMaker
from tests.support.tampering import NOTHING, powerful
from tests.support.traffic import Answer
from tests.support.waiting import eventually

DUAL: Final = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'


def test_an_address_without_a_lease_goes(host: Host) -> None:
    web = host.attach("web", edit=powerful)
    address = web.address
    web.place.run("ip", "address", "flush", "dev", "eth0")
    for more in ("172.19.9.9/16", "10.0.0.1/8", "2001:db8:9::9/64", f"{address}/16"):
        web.place.run("ip", "address", "add", more, "dev", "eth0", check=False)
    printed = host.watcher("sync").stdout
    assert "172.19.9.9/16" in printed
    assert web.place.addresses() == [f"{address}/16"]
    host.beyond.serve(tcp=(80,))
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert host.watcher("sync").stdout == NOTHING


def test_the_kernels_link_local_address_stays(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    web = host.attach("web")

    def local() -> list[str]:
        link = web.place.link("eth0")
        assert link is not None
        return [a["local"] for a in link["addr_info"] if a["scope"] == "link"]

    before = eventually(local)
    assert host.watcher("sync").stdout == NOTHING
    assert local() == before


def test_without_a_guard_an_address_without_a_lease_stays(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nguard = false\n")
    web = host.attach("web", edit=powerful)
    web.place.run("ip", "address", "add", "172.19.9.9/16", "dev", "eth0")
    assert host.watcher("sync").stdout == NOTHING
    assert "172.19.9.9/16" in web.place.addresses()
