"""On a bridge, all that a sandbox with a list sends goes by the host, and all works that did."""

from __future__ import annotations

from typing import Final

from tests.config.test_reload import reload
from tests.support import packets
from tests.support.frames import identity
from tests.support.guarded import DUAL, GATEWAY6
from tests.support.host import BEYOND, BEYOND6, GATEWAY, UPLINK, Container, Host, HostMaker
from tests.support.packets import ARP, BROADCAST, IPV4, IPV6, Wire, arp, ether
from tests.support.waiting import eventually

ALL: Final = DUAL + 'egress = ["any"]\n'
BACK: Final = """
[network.back]
bridge = "back0"
subnets = ["172.20.0.0/16", "fd00:20::/64"]
"""


def six(container: Container) -> str:
    """The IPv6 address of its `eth0`."""
    return next(a.split("/")[0] for a in container.place.addresses() if ":" in a)


def lengths(container: Container) -> set[str]:
    """The prefix lengths of its addresses."""
    return {address.split("/")[1] for address in container.place.addresses()}


def healthy(host: Host) -> bool:
    """Whether neither `watcher sync` nor `watcher check` finds anything."""
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
    return True


def two(host: Host) -> tuple[Container, Container]:
    host.run("web", ports="8080:80,5353:53/udp")
    host.run("client")
    return host.attached("web"), host.attached("client")


def reaches(client: Container, web: Container) -> None:
    """Both reach each other, the host and what is beyond, by both families."""
    for address in (web.address, six(web)):
        answer = client.reach(address, 80)
        assert answer is not None, address
        assert answer.seen in (client.address, six(client))
        assert client.reach(address, 53, "udp") is not None, address
    assert web.reach(client.address, 81) is not None
    for address in (BEYOND, BEYOND6, GATEWAY, GATEWAY6):
        assert client.reach(address, 82) is not None, address
    for one in (client, web):  # the second is a hairpin
        for address in (UPLINK, GATEWAY):
            found = one.reach(address, 8080)
            assert found is not None, (one.id, address)
            assert found.who == "web"
    assert web.host.beyond.reach(UPLINK, 8080) is not None
    assert web.host.beyond.reach(UPLINK, 5353, "udp") is not None
    assert web.host.here.reach("127.0.0.1", 8080) is not None


def serve(host: Host, web: Container, client: Container) -> None:
    web.serve(tcp=(80,), udp=(53,))
    client.serve(tcp=(81,))
    host.here.serve(tcp=(82,))
    host.beyond.serve(tcp=(82,))


def test_neighbours_ports_and_the_way_out_work_by_the_host(make_host: HostMaker) -> None:
    host = make_host(ALL)
    host.service()
    web, client = two(host)
    serve(host, web, client)
    assert lengths(client) == {"32", "128"}
    reaches(client, web)
    healthy(host)
    neighbours = client.place.run("ip", "neigh").stdout
    assert web.address not in neighbours  # no redirect has led there
    third = host.attach("third", annotations={"io.watcher.ip": "172.19.0.77"})
    assert third.reach(web.address, 80) is not None
    shared = host.share("beside", "third")
    assert shared.reach(web.address, 80) is not None


def test_no_frame_reaches_a_neighbour(make_host: HostMaker) -> None:
    """Unicast, broadcast and groups; both may send raw frames."""
    host = make_host(ALL)
    host.service()
    web, client = two(host)
    me, other = identity(client), identity(web)
    wire, listener = Wire(host, client.place), Wire(host, web.place)
    frames = [
        ether(me.mac, mac, kind, payload)
        for mac in (other.mac, BROADCAST, "33:33:00:00:00:01", "01:00:5e:00:00:01")
        for kind, payload in (
            (IPV4, packets.udp(me.ip4, other.ip4, 9, b"hidden")),
            (IPV4, packets.udp(me.ip4, "255.255.255.255", 9, b"hidden")),
            (IPV6, packets.udp(me.ip6, other.ip6, 9, b"hidden")),
            (IPV6, packets.udp(me.ip6, "ff02::1", 9, b"hidden")),
            (ARP, arp(1, me.mac, me.ip4, other.ip4) + b"hidden"),
            (IPV6, packets.icmp6(me.ip6, "ff02::1", packets.solicit(other.ip6) + b"hidden")),
        )
    ]
    wire.send(*frames)
    end = packets.mark()
    host_end = packets.udp(GATEWAY, other.ip4, 9, end)
    bridge = host.here.link("netns0")
    assert bridge is not None
    Wire(host, host.here, web.veth).send(ether(bridge["address"], other.mac, IPV4, host_end))
    heard = listener.until(lambda frame: end in frame)
    assert [frame for frame in heard if b"hidden" in frame] == []


def became(container: Container, expected: set[str]) -> None:
    """Waits until its addresses have the prefix lengths `expected`."""
    eventually(lambda: lengths(container) == expected, what=f"{expected} of {container.id}")


def test_running_sandboxes_become_forced_and_plain_again(make_host: HostMaker) -> None:
    """Their connections go on, also those of a sandbox with two networks."""
    host = make_host(DUAL + BACK)
    service = host.service()
    web, client = two(host)
    serve(host, web, client)
    both = host.attach("both", annotations={"io.watcher.network": "default,back"})
    streams = [client.place.stream(a, 82) for a in (BEYOND, BEYOND6, GATEWAY)]
    streams.append(both.place.stream(BEYOND6, 82))
    for config, expected in ((ALL + BACK, {"32", "128"}), (DUAL + BACK, {"16", "64"})) * 2:
        reload(host, service, config)
        for one in (web, client, both):
            became(one, expected)
        eventually(lambda: healthy(host), what="a healthy host")
        for number, stream in enumerate(streams):
            assert stream.say(f"{number}") == f"{number}"
        reaches(client, web)
        for address in (web.address, six(web)):
            assert both.reach(address, 80) is not None
        routes = client.place.run("ip", "route").stdout.split("\n")
        assert any(line.startswith("172.19.0.0/16") for line in routes) == ("16" in expected)


def test_a_running_sandbox_is_connected_to_a_network_with_lists(make_host: HostMaker) -> None:
    host = make_host(DUAL + BACK + 'egress = ["any"]\n')
    service = host.service()
    web = host.attach("web", annotations={"io.watcher.network": "back"})
    client = host.attach("client")
    web.serve(tcp=(80,))
    stream = client.place.stream(GATEWAY6, 82) if host.here.serve(tcp=(82,)) else None
    assert stream is not None
    host.watcher("connect", "client", "back")
    assert client.reach(web.address, 80) is not None
    assert client.reach(six(web), 80) is not None
    healthy(host)
    service.kill9()
    host.service()
    healthy(host)
    host.watcher("disconnect", "client", "back")
    assert stream.say("on") == "on"
    assert {address.split("/")[0] for address in client.place.addresses()} == {
        client.address, six(client),
    }  # fmt: skip
    healthy(host)


def test_isolation_stays_as_it_was(make_host: HostMaker) -> None:
    host = make_host(ALL + "isolate = true\n")
    host.service()
    web, client = two(host)
    serve(host, web, client)
    for address in (web.address, six(web)):
        assert client.reach(address, 80, timeout=0.3) is None
    assert host.beyond.reach(UPLINK, 8080) is not None
    assert client.reach(BEYOND6, 82) is not None


def test_one_limited_sandbox_is_forced_and_the_others_are_not(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    annotations = {"io.watcher.egress": f"{BEYOND}:82"}
    host.run("limited", annotations=annotations, ports="8080:80,5353:53/udp")
    host.run("free")
    limited, free = host.attached("limited"), host.attached("free")
    serve(host, limited, free)
    other = host.attach("other")
    assert lengths(limited) == {"32", "128"}
    assert lengths(free) == {"16", "64"}
    assert limited.reach(BEYOND, 82) is not None
    for address in (BEYOND6, GATEWAY, UPLINK):
        assert limited.reach(address, 82, timeout=0.3) is None
    for address in (free.address, six(free)):
        assert limited.reach(address, 81, timeout=0.3) is None
        assert other.reach(address, 81) is not None
    for address in (GATEWAY, GATEWAY6, BEYOND6):
        assert free.reach(address, 82) is not None
    for one in (free, host.beyond):
        assert one.reach(UPLINK, 8080) is not None
    assert host.here.reach(limited.address, 80) is not None
    healthy(host)
