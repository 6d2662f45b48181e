"""Limits that somebody takes away come back; what is left over goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.config.test_reload import reload
from tests.support.host import BEYOND, Host
from tests.support.shaped import Rates, at, devices, limited, rates, shaper_of
from tests.support.tampering import MARK, NOTHING
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Container, HostMaker

DAMAGES: Final = {
    "bucket": "tc qdisc del dev {veth} root",
    "another bucket": (
        "tc qdisc change dev {veth} root handle 1: tbf rate 1gbit burst 10mb limit 10mb"
    ),
    "another qdisc": (
        "until tc qdisc del dev {veth} root && tc qdisc add dev {veth} root handle 1: pfifo;"
        " do :; done"
    ),
    "another handle": "tc qdisc replace dev {veth} root handle 7: pfifo",
    "redirection": "tc filter del dev {veth} parent ffff: prio 65535",
    "redirected elsewhere": (
        "tc filter replace dev {veth} parent ffff: prio 65535 handle 1 protocol all"
        " bpf bytecode '1,6 0 0 4294967295' action mirred egress redirect dev lo"
    ),
    "filters": "tc qdisc del dev {veth} ingress",
    "device": "ip link del {shaper}",
    "device down": "ip link set {shaper} down",
    "device renamed": "ip link set {shaper} name lost0",
    "device's bucket": "tc qdisc del dev {shaper} root",
    "device's other bucket": (
        "tc qdisc change dev {shaper} root handle 1: tbf rate 1gbit burst 10mb limit 10mb"
    ),
    "link": "ip link del {veth}",
}
BOTH: Final = Rates(at(20e6), at(10e6))


def damage(host: Host, web: Container, what: str) -> None:
    command = DAMAGES[what].format(veth=web.veth, shaper=shaper_of(web.veth))
    host.command("sh", "-ec", command)


def is_whole(host: Host, web: Container) -> bool:
    """Whether a container has both its limits, and nobody else's device is left."""
    return (
        rates(host, web.veth) == BOTH
        and shaper_of(web.veth) in devices(host)
        and host.here.link("lost0") is None
    )


@pytest.fixture
def far(host: Host) -> Host:
    """A host with somebody beyond it who answers."""
    host.beyond.serve(tcp=(80,))
    return host


def test_a_service_puts_them_back_at_once(far: Host) -> None:
    service = far.service()
    for number, what in enumerate(DAMAGES):  # each to another one, which is healed at once
        web = far.attach(f"web{number}", annotations=limited("20M", "10M"))
        damage(far, web, what)
        eventually(lambda: is_whole(far, web), what=f"the repair of: {what}")  # noqa: B023
        service.logged("repaired", web.veth)
        assert web.reach(BEYOND, 80) is not None
    assert len(devices(far)) == len(DAMAGES)
    assert far.watcher("sync").stdout == NOTHING


def test_sync_names_what_is_wrong_and_puts_it_back(far: Host) -> None:
    web = far.attach("web", annotations=limited("20M", "10M"))
    for what in DAMAGES:
        damage(far, web, what)
        dry = far.watcher("sync", "--dry-run").stdout
        (line,) = dry.splitlines()
        assert web.veth in line, what
        assert far.watcher("sync").stdout == dry, what
        assert is_whole(far, web), what
        assert devices(far) == {shaper_of(web.veth)}, what
        assert far.watcher("sync").stdout == NOTHING, what
    assert web.reach(BEYOND, 80) is not None


def test_what_is_left_over_goes_and_what_is_not_ours_stays(host: Host) -> None:
    web = host.attach("web", annotations=limited(send="10M"))
    for name, group in (("netnsi0-77777", MARK), ("netnsi0-88888", "0")):
        host.command("ip", "link", "add", name, "group", group, "type", "ifb")
    assert host.watcher("sync").stdout.startswith("deleted ifb netnsi0-77777")
    assert devices(host) == {shaper_of(web.veth), "netnsi0-88888"}
    host.command("ip", "link", "add", "lost0", "type", "ifb")
    host.command("sh", "-ec", f"ip link del {shaper_of(web.veth)}")
    host.command("ip", "link", "set", "lost0", "name", shaper_of(web.veth))
    done = host.watcher("sync", check=False)
    assert f"a link {shaper_of(web.veth)} that is not ours is in the way" in done.stderr
    host.command("ip", "link", "del", shaper_of(web.veth))
    host.watcher("sync")
    assert rates(host, web.veth) == Rates(0, at(10e6))
    host.delete("web")
    host.watcher("down")
    assert devices(host) == {"netnsi0-88888"}


def test_a_reload_changes_those_that_run(make_host: HostMaker) -> None:
    host = make_host()
    service = host.service()
    web, own = host.attach("web"), host.attach("own", annotations=limited("20M", "10M"))
    assert rates(host, web.veth) == Rates(0, 0)
    reload(host, service, '[network.default]\ningress_bandwidth = "40M"\negress_bandwidth = "1M"\n')
    eventually(lambda: rates(host, web.veth) == Rates(at(40e6), at(1e6)), what="the new limits")
    assert rates(host, own.veth) == BOTH
    reload(host, service, '[network.default]\negress_bandwidth = "2M"\n')
    eventually(lambda: rates(host, web.veth) == Rates(0, at(2e6)), what="the other limits")
    reload(host, service, "")
    eventually(lambda: rates(host, web.veth) == Rates(0, 0), what="none")
    assert devices(host) == {shaper_of(own.veth)}
    assert host.watcher("sync").stdout == NOTHING
