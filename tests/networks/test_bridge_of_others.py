"""A bridge of somebody else keeps its MAC and its MTU, whatever joins and leaves it."""

from __future__ import annotations

import socket

import pytest

from tests.support.host import GATEWAY, Host, HostMaker, Place
from tests.support.rtnl_events import Events
from tests.support.tampering import NOTHING, index
from tests.support.traffic import Answer, make_socket

CONFIG = '[network.default]\nbridge = "lan0"\nmanaged = false\nmtu = {mtu}\n'
MACHINE = "172.19.200.2"
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2


def jumbo(place: Place, address: str) -> Answer:
    """The answer to a datagram that fills 9000 bytes, in one piece."""
    with make_socket(place.netns, socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        client.settimeout(5)
        client.connect((address, 80))
        client.send(bytes(9000 - 28))
        return Answer(*client.recv(2048).decode().split())


def lan(host: Host) -> Place:
    """A machine on a LAN of jumbo frames, behind a bridge that has the MAC of its port."""
    machine = host.machine("port0", "172.19.200.0/24")
    host.command(
        "ip",
        "-batch",
        "-",
        stdin=f"""addr flush dev port0
link set port0 mtu 9000 address fe:54:00:00:00:01
link add lan0 type bridge
link set port0 master lan0
link set lan0 up
addr add {GATEWAY}/16 dev lan0
""",
    )
    machine.run(
        "ip",
        "-batch",
        "-",
        stdin=f"""link set uplink mtu 9000
addr flush dev uplink
addr add {MACHINE}/16 dev uplink
route add default via {GATEWAY}
""",
    )
    machine.serve(tcp=(80,), udp=(80,))
    host.here.serve(udp=(80,))
    return machine


@pytest.mark.parametrize(("mtu", "inside"), [('"auto"', 9000), ("1500", 1500)])
def test_whoever_joins_or_leaves_it_changes_nothing(
    make_host: HostMaker, mtu: str, inside: int
) -> None:
    host = make_host(CONFIG.format(mtu=mtu))
    machine = lan(host)
    assert jumbo(machine, GATEWAY) == Answer("host", MACHINE)
    link = host.here.link("lan0") or {}
    is_ = (link["address"], link["mtu"])
    assert is_ == ("fe:54:00:00:00:01", 9000)
    events = Events(host, host.here)

    web = host.attach("web")
    host.attach("other")
    assert (web.place.link("eth0") or {})["mtu"] == inside
    assert web.reach(MACHINE, 80) == Answer("port0", web.address)
    if inside == 9000:
        assert jumbo(web.place, MACHINE) == Answer("port0", web.address)
        web.serve(udp=(80,))
        assert jumbo(machine, web.address) == Answer("web", MACHINE)
    as_before = f"link set {web.veth} mtu 1500 address 02:00:00:00:00:01"
    host.command("ip", "-batch", "-", stdin=f"link set {web.veth} nomaster\n{as_before}")
    assert "was not on bridge lan0" in host.watcher("sync").stdout
    assert host.watcher("sync").stdout == NOTHING
    host.delete("other")
    host.delete("web")
    host.gone(web)

    assert events.macs_and_mtus(index(host, "lan0")) <= {is_}
    link = host.here.link("lan0") or {}
    assert (link["address"], link["mtu"]) == is_
    (known,) = (n["lladdr"] for n in machine.ip("neigh") if n["dst"] == GATEWAY)
    assert known == is_[0]
    assert jumbo(machine, GATEWAY) == Answer("host", MACHINE)


def test_a_port_for_localhost_is_refused_until_the_bridge_takes_it(make_host: HostMaker) -> None:
    host = make_host(CONFIG.format(mtu='"auto"') + '[gate]\nmode = "off"\n')
    lan(host)
    setting = "net/ipv4/conf/lan0/route_localnet"
    host.run("web", ports="127.0.0.1:8080:80").serve(tcp=(80,))
    reason = host.fails("web")
    assert "bridge lan0 of network default is not ours to change" in reason
    assert host.sysctl(setting) == "0"
    host.command("sh", "-c", reason.split("`")[1])
    host.watcher("sync")
    assert host.here.reach("127.0.0.1", 8080) == Answer("web", GATEWAY)
