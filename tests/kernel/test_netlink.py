"""What the kernel says over netlink, however much it is; and nothing is kept of a refusal."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from tests.support.traffic import entered
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host
from tests.support.host import Host, Place

LONGEST_NAME = 127


def name_often(place: Place, link: str) -> None:
    """Gives a link other names, each as long as can be, until the kernel takes no more of them."""
    names = (f"n{number:04}".ljust(LONGEST_NAME, "x") for number in range(1000))
    batch = "\n".join(f"link property add dev {link} altname {name}" for name in names)
    done = place.run("ip", "-batch", "-", stdin=batch, check=False)
    assert "list too long" in done.stderr, done


def test_sync_reads_links_with_as_many_names_as_they_may_have(host: Host) -> None:
    host.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    name_often(host.here, "v0")
    web, other = host.run("web"), host.run("other")
    host.watcher("sync")
    name_often(web.place, "eth0")
    assert host.watcher("sync").stdout == "nothing to do\n"
    for container in (web, other):
        container.place.run("ip", "address", "flush", "dev", "eth0")
    assert host.watcher("sync").stdout.count("attached") == 2
    web.serve(tcp=(80,))
    assert other.reach(web.address, 80)


def test_the_service_hears_of_a_link_with_as_many_names_as_it_may_have(host: Host) -> None:
    with host.service():
        web = host.attach("web")
        name_often(web.place, "eth0")
        address = web.address
        web.serve(tcp=(80,))
        web.place.run("ip", "link", "set", "eth0", "down")
        eventually(lambda: host.here.reach(address, 80, timeout=0.1))


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without the collector of reference cycles: what is of no use any more is freed at once."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_nothing_is_kept_of_a_refusal(host: Host) -> None:
    with entered(host.here.netns), Netlink() as netlink:
        try:
            netlink.send([rtnl.up("lo"), rtnl.up("nowhere"), rtnl.up("lo")])
        except NetlinkError as error:
            refused, kept = (error.index, error.strerror), weakref.ref(error)
        assert refused == (1, "No such device")
        assert kept() is None
        assert netlink.is_up("lo")
