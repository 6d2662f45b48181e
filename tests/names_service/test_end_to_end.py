"""Real containers ask as they do: busybox, glibc and dig, by the resolv.conf that is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.host import GATEWAY, Container
from tests.support.name_service import addresses, ask, outcome
from tests.support.waiting import eventually
from watcher.model.names import DNS_PORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.names_service.conftest import Named
    from tests.support.bundles import Spec
    from tests.support.host import Host

_GATEWAY6 = "fd00:19::1"
_BACK = "172.20.0.1"

_LOOK_UP = """
import json, socket, sys
lost, found = [], set()
for number in range(1000):
    name = sys.argv[1 + number % (len(sys.argv) - 1)]
    try:
        answers = socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    except OSError as error:
        lost.append(f"{name}: {error}")
    else:
        found.add((name, *sorted(answer[4][0] for answer in answers)))
print(json.dumps([lost, sorted(found)]))
"""
"""`getaddrinfo` of each name in turn: glibc asks for A and AAAA at once, from one socket."""


def both(container: Container) -> set[str]:
    """The addresses of both families on `eth0`."""
    return {address.split("/")[0] for address in container.place.addresses()}


def in_back(host: Host, name: str) -> Container:
    """A new container in the internal network; it has it, for the gate has held it."""
    host.run(name, annotations={"io.watcher.network": "back"})
    return Container(host, name)


def resolved(container: Container, name: str, type_: str = "A", **options: Any) -> set[str]:
    """The addresses that a container gets for `name` at port 53 of its gateway."""
    options = {"server": GATEWAY, "port": DNS_PORT, **options}
    return addresses(ask(container.place, name, type_, **options))


def test_busybox_finds_the_others_at_its_first_instruction(named: Named) -> None:
    web = named.host.attach("web", annotations={"io.watcher.name": "www"})
    for name in ("web", "www.watcher.internal", "web.default.watcher.internal"):
        named.host.bundle("asks", ("busybox", "nslookup", name))
        found = named.host.launch("run", "asks").stdout
        assert all(f"Address: {address}\n" in found for address in both(web)), found
    assert named.service.warnings() == []


def test_glibc_asks_for_both_families_at_once_and_none_is_lost(named: Named, glibc: Path) -> None:
    named.serve_beyond()

    def with_glibc(spec: Spec) -> None:
        spec["root"] = {"path": str(glibc), "readonly": True}
        options = ["rbind", "ro"]
        spec["mounts"].append({"destination": "/usr", "source": "/usr", "options": options})

    web = named.host.attach("web")
    program = ("/usr/bin/python3", "-c", _LOOK_UP, "web", "web.watcher.internal", "far.example")
    named.host.bundle("asks", program, edit=with_glibc)
    lost, found = json.loads(named.host.launch("run", "asks").stdout)
    assert lost == []
    assert found == [
        ["far.example", "198.51.100.7", "2001:db8:1::7"],
        ["web", *sorted(both(web))],
        ["web.watcher.internal", *sorted(both(web))],
    ]
    assert "web" not in named.asked()
    assert named.asked().count("query[A] far.example") == 1


@pytest.mark.parametrize("server", [GATEWAY, _GATEWAY6])
def test_dig_gets_what_it_asks_for_by_udp_and_tcp(named: Named, server: str) -> None:
    named.serve_beyond()
    web, other = named.host.attach("web"), named.host.attach("other")

    def dig(*question: str) -> str:
        return other.place.run("dig", f"@{server}", "+tries=1", *question).stdout

    for option in ("+notcp", "+tcp", "+dnssec", "+noedns"):
        assert web.address in dig(option, "web.watcher.internal", "A")
        assert "198.51.100.7" in dig(option, "far.example", "A")
    assert dig("+short", "-x", web.address) == "web.default.watcher.internal.\n"
    assert dig("+short", "-x", GATEWAY) == "host.watcher.internal.\n"
    for type_ in ("MX", "HTTPS"):
        nothing = dig("web.watcher.internal", type_)
        assert "status: NOERROR" in nothing
        assert "ANSWER: 0, AUTHORITY: 1" in nothing
    assert "status: NXDOMAIN" in dig("nobody.watcher.internal")
    assert all(f" {name} " not in named.asked() for name in ("web", "nobody", "host"))
    assert "172.in-addr" not in named.asked()


def test_an_internal_network_has_names_and_asks_nobody_else(named: Named) -> None:
    named.serve_beyond()
    db, asks = in_back(named.host, "db"), in_back(named.host, "asks")
    at: dict[str, Any] = {"server": _BACK, "port": DNS_PORT}
    assert resolved(asks, "db", **at) == {db.address}
    assert outcome(ask(asks.place, "far.example", **at)) == "NXDOMAIN"
    assert "query" not in named.asked()


def test_interfaces_come_and_go_and_nothing_is_stale(named: Named) -> None:
    host = named.host
    web = host.attach("web")
    db = in_back(host, "db")
    assert resolved(web, "db") == set()
    host.watcher("connect", "web", "back")
    assert eventually(lambda: resolved(web, "db") == {db.address})
    assert eventually(lambda: len(resolved(db, "web", server=_BACK)) == 1)
    host.watcher("disconnect", "web", "back")
    assert eventually(lambda: resolved(web, "db") == set())
    assert eventually(lambda: resolved(db, "web", server=_BACK) == set())

    other = host.attach("other")
    assert resolved(other, "web") == {web.address}
    host.delete("web")
    host.gone(web)
    assert eventually(lambda: outcome(ask(other.place, "web", server=GATEWAY)) == "NXDOMAIN")
