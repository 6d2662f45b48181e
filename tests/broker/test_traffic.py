"""The kernel's counters, as a reader gets them of real sandboxes."""

from __future__ import annotations

from functools import partial

from tests.broker.conftest import ServiceMaker
from tests.support.broker import Service
from tests.support.host import Container, Host
from tests.support.packets import BROADCAST, IPV4, Wire, ether, udp
from tests.support.waiting import eventually
from watcher.feed.lines import Traffic


def of(service: Service, container: Container) -> Traffic:
    """The counters of the interface of `container`."""
    return service.picture().traffic[container.veth]


def test_counters_are_those_of_the_kernel(served: Host, make_service: ServiceMaker) -> None:
    web, other = served.run("web"), served.run("other")
    web.serve(udp=(80,))
    for _ in range(5):
        assert other.reach(web.address, 80, "udp")
    thief = Wire(served, other.place)
    thief.send(*(forged(web.address, number) for number in range(7)))
    service = make_service(netns=served.here.netns)
    service.start()
    found = service.picture().traffic
    assert set(found) == {web.veth, other.veth}
    eventually(lambda: of(service, other).guard_dropped == 7)
    assert of(service, web).guard_dropped == 0
    for container in (web, other):
        eventually(partial(are_equal, service, served, container))
        assert of(service, container).received_packets > 5
    served.delete("other")
    eventually(lambda: set(service.picture().traffic) == {web.veth})


def are_equal(service: Service, host: Host, container: Container) -> bool:
    """Whether a reader gets what the kernel has."""
    return of(service, container) == kernels(host, container)


def forged(source: str, port: int) -> bytes:
    """A frame with an address that its sender does not have."""
    packet = udp(source, "203.0.113.7", 1000 + port, b"x")
    return ether("02:42:ac:13:00:99", BROADCAST, IPV4, packet)


def kernels(host: Host, container: Container) -> Traffic:
    """The counters of its host end, as `ip -s link` shows them."""
    (link,) = host.here.ip("-s", "link", "show", "dev", container.veth)
    counted, received = link["stats64"]["tx"], link["stats64"]["rx"]
    return Traffic(
        link["ifname"], counted["bytes"], counted["packets"], counted["dropped"], counted["errors"],
        received["bytes"], received["packets"], received["dropped"], received["errors"],
        of_guard(host, container),
    )  # fmt: skip


def of_guard(host: Host, container: Container) -> int:
    """What the guard of its host end has dropped, as `tc -s qdisc` shows it."""
    text = host.here.run("tc", "-s", "qdisc", "show", "dev", container.veth, "ingress").stdout
    return int(text.partition("dropped ")[2].split(",")[0])
