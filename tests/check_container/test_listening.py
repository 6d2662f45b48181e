"""What listens in a container where its port maps lead; each verdict compared with packets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.support import traffic
from tests.support.checked import checked
from tests.support.host import UPLINK, UPLINK6
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import Container, Host, HostMaker

NETWORKS = """
[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]
[network.back]
bridge = "back0"
subnets = ["172.20.0.0/24"]
"""


def listens(host: Host, name: str) -> dict[str, tuple[str, str, str]]:
    """Level, text and remedy about each port map, by its text."""
    lines = [line for line in checked(host, name) if line["check"] == "listens"]
    found = {}
    for line in lines:
        port, what = line["what"].split(": ", 1)
        found[port] = (line["level"], what, line["remedy"])
    return found


def listening(
    web: Container, address: str, port: int, *, udp: bool = False, only6: bool = False
) -> None:
    """A socket of the container that listens just as it is told to."""
    family = traffic.family_of(address)
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    sock = traffic.make_socket(web.place.netns, family, kind)
    web.host.on_close(sock.close)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
    sock.bind((address, port))
    if not udp:
        sock.listen()


def comes_through(host: Host, port: int, *, by: tuple[bool, bool]) -> bool:
    """Whether connections to a published port are taken as told, by IPv4 and by IPv6."""
    taken = []
    for address, wanted in zip((UPLINK, UPLINK6), by, strict=True):
        family = traffic.family_of(address)
        with traffic.make_socket(host.beyond.netns, family, socket.SOCK_STREAM) as sock:
            sock.settimeout(traffic.ENOUGH if wanted else LATENCY_FREE_NO)
            taken.append(sock.connect_ex((address, port)) == 0)
    return tuple(taken) == by


def test_each_way_to_listen(make_host: HostMaker) -> None:
    host = make_host(NETWORKS)
    separate = ",".join(f"{1000 + n}:{n}" for n in range(1, 9))
    web = host.attach(
        "web",
        ports=f"{separate},2001:1/udp,2002:2/udp,127.0.0.1:2003:3,3000-3010:3000-3010",
        annotations={"io.watcher.network": "default,back"},
    )
    own = {a.split("/")[0]: name for name in ("eth0", "eth1") for a in web.place.addresses(name)}
    assert own.keys() == {"172.19.0.2", "fd00:19::2", "172.20.0.2"}
    listening(web, "127.0.0.1", 1)
    listening(web, "::1", 1)
    listening(web, "0.0.0.0", 3)
    listening(web, "::", 4)
    listening(web, "172.20.0.2", 5)
    listening(web, "::ffff:172.19.0.2", 6)
    listening(web, "fd00:19::2", 7)
    listening(web, "172.19.0.2", 8)
    listening(web, "fd00:19::2", 8)
    listening(web, "172.19.0.2", 2, udp=True)
    listening(web, "fd00:19::2", 2, udp=True)
    listening(web, "::", 3005)

    found = listens(host, "web")
    good = {
        1001: (False, False),
        1002: (False, False),
        1003: (True, False),
        1004: (True, True),
        1005: (False, False),
        1006: (True, False),
        1007: (False, True),
        1008: (True, True),
    }
    for port, through in good.items():
        level, what, remedy = found[f"{port}:{port - 1000}/tcp"]
        assert comes_through(host, port, by=through), (port, what)
        wanted = {2: "ok", 1: "warn", 0: "fail"}[sum(through)]
        assert level == wanted, (port, what)
        assert bool(remedy) == (level != "ok")
    assert "listens on 127.0.0.1, ::1 port 1 alone, which is reached from inside" in str(
        found["1001:1/tcp"]
    )
    assert "have it listen on 0.0.0.0 or [::]" in found["1001:1/tcp"][2]
    assert "nothing listens on tcp port 2 inside, but programs listen on 1, 3, 4, 5, 6, …" in str(
        found["1002:2/tcp"]
    )
    assert "not by IPv6" in found["1003:3/tcp"][1]
    assert "172.20.0.2 port 5 alone, and the port map leads to 172.19.0.2" in found["1005:5/tcp"][1]
    assert "not by IPv6" in found["1006:6/tcp"][1]
    assert "not by IPv4" in found["1007:7/tcp"][1]
    assert found["2001:1/udp"][0] == "fail"
    assert found["2002:2/udp"][0] == "ok"
    assert found["127.0.0.1:2003:3/tcp"][0] == "ok"
    assert "on 1 of 11 ports" in found["3000-3010:3000-3010/tcp"][1]


def test_the_other_family_alone(host: Host) -> None:
    web = host.attach("web", ports="8080:80")
    listening(web, "::", 80, only6=True)
    level, what, remedy = listens(host, "web")["8080:80/tcp"]
    assert level == "fail"
    assert "listens on :: port 80 alone, and not by IPv4" in what
    assert remedy == "have it listen on 0.0.0.0"
    assert comes_through(host, 8080, by=(False, False))
