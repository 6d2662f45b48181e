"""Egress by name, whole: a real server, the name service, the service, and packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.support.answers import Asked
from tests.support.host import BEYOND, GATEWAY, Container, Host
from tests.support.name_service import HEARD, NameService, addresses, outcome
from tests.support.reading import Reading
from tests.support.upstreams import dnsmasq
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import dns.message

    from tests.support.host import HostMaker

CONFIG: Final = f"""
[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]

[names]
servers = ["{BEYOND}"]
"""
LIST: Final = "api.example.org:443/tcp,*.pypi.org:443/tcp,*.many.example.net"
API, API6, MIRROR = "93.184.216.34", "2606:2800:220:1::34", "93.184.216.35"
SEVERAL: Final = 20


def ask(container: Container, name: str, type_: str = "A", **options: Any) -> dns.message.Message:
    return Asked(container.place, name, type_, **{"server": GATEWAY, **options}).answer()


def beyond(host: Host) -> None:
    """Servers on the Internet, and who tells their names."""
    host.beyond.ip("addr", "add", "93.184.216.0/24", "dev", "lo")
    host.beyond.ip("addr", "add", f"{API6}/128", "dev", "lo")
    host.beyond.serve(tcp=(443, 80, 853))
    many = [f"--host-record=n{n}.many.example.net,93.184.216.{100 + n}" for n in range(SEVERAL)]
    dnsmasq(
        host, host.beyond, BEYOND, "--local-ttl=60", f"--host-record=api.example.org,{API},{API6}",
        f"--host-record=mirror.example.net,{MIRROR}",
        f"--host-record=other.pypi.org,{MIRROR}", "--cname=files.pypi.org,mirror.example.net",
        "--host-record=inside.pypi.org,10.1.2.3,::1", f"--host-record=host.pypi.org,{GATEWAY}",
        f"--address=/example.com/{API}", *many,
    )  # fmt: skip


def test_names_open_what_they_lead_to_before_the_answer_leaves(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    beyond(host)
    service, names = host.service(), NameService(host).hears()
    limited = host.attach("limited", annotations={"io.watcher.egress": LIST})
    free = host.attach("free")
    assert addresses(ask(free, "example.com")) == {API}

    with Reading(host.run_dir) as reading:
        assert outcome(ask(limited, "example.com")) == "NXDOMAIN"
        assert outcome(ask(limited, "example.com", "TXT", tcp=True)) == "NXDOMAIN"
        assert limited.reach(API, 443) is None
        assert addresses(ask(limited, "api.example.org")) == {API}
        assert limited.reach(API, 443) is not None
        assert limited.reach(API, 80) is None
        assert limited.reach(API6, 443) is None
        assert addresses(ask(limited, "api.example.org", "AAAA", tcp=True)) == {API6}
        assert limited.reach(API6, 443) is not None
        assert addresses(ask(limited, "files.pypi.org", use_edns=True)) == {MIRROR}
        assert limited.reach(MIRROR, 443) is not None
        reading.until(lambda: sum(e.kind == "opened" for e in reading.events) >= 3)
        rejected = [(e.annotation, e.value) for e in reading.events if e.kind == "rejected"]
        assert ("io.watcher.egress", "example.com") in rejected

    for number in range(SEVERAL):  # the first connection after each answer passes
        (address,) = addresses(ask(limited, f"n{number}.many.example.net"))
        assert limited.reach(address, 80) is not None, number

    # Other resolvers, and names that lead inside.
    for port in (53, 853):
        assert limited.reach(BEYOND, port) is None
    host.here.serve(tcp=(443,))
    assert addresses(ask(limited, "inside.pypi.org")) == {"10.1.2.3"}
    assert addresses(ask(limited, "host.pypi.org")) == {GATEWAY}
    assert limited.reach("10.1.2.3", 443) is None
    assert limited.reach(GATEWAY, 443) is None

    # Rules that are gone come back, with what was open.
    host.nft("flush", "ruleset")
    assert eventually(lambda: limited.reach(API, 443) is not None)
    assert addresses(ask(limited, "api.example.org")) == {API}

    # The service away: what is open stays, nothing new opens. Then it is told anew.
    service.stop()
    assert addresses(ask(limited, "api.example.org")) == {API}
    assert limited.reach(API, 443) is not None
    assert outcome(ask(limited, "other.pypi.org")) == "SERVFAIL"
    service.start()
    assert eventually(lambda: addresses(ask(limited, "other.pypi.org")) == {MIRROR})
    assert limited.reach(MIRROR, 443) is not None

    # The name service away, and back.
    names.stop()
    assert limited.reach(API, 443) is not None
    heard = names.count(HEARD)
    names.start()
    names.logged(HEARD, heard + 1)
    assert addresses(ask(limited, "files.pypi.org")) == {MIRROR}
    assert limited.reach(MIRROR, 443) is not None
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
