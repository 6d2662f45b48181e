"""An answer is in force before it is acknowledged, and only for who may have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.answering import Telling, open_addresses
from tests.support.reading import Reading
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker
    from tests.support.host.service import Service

PUBLIC: Final = "93.184.216.34"
PUBLIC6: Final = "2606:2800:220:1::34"
OTHER: Final = "93.184.216.35"
LIST: Final = "api.example.org:443/tcp,*.pypi.org,!any:25,10.0.0.0/8"

DUAL: Final = """
[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]
"""


def served(make_host: HostMaker, config: str = DUAL) -> tuple[Host, Service]:
    """A host with a service, and servers on the Internet."""
    host = make_host(config)
    for address in (f"{PUBLIC}/32", f"{OTHER}/32", f"{PUBLIC6}/128"):
        host.beyond.ip("addr", "add", address, "dev", "lo")
    host.beyond.serve(tcp=(443, 80, 25))
    host.beyond.serve(udp=(443, 53), address=PUBLIC)
    return host, host.service()


def test_an_answer_opens_what_the_list_allows(make_host: HostMaker) -> None:
    host, _ = served(make_host)
    limited = host.attach("limited", annotations={"io.watcher.egress": LIST})
    same = host.attach("same", annotations={"io.watcher.egress": LIST})
    other = host.attach("other", annotations={"io.watcher.egress": "api.example.org:80/tcp"})
    with Telling(host.run_dir) as telling, Reading(host.run_dir) as reading:
        assert limited.reach(PUBLIC, 443) is None
        assert telling.answer(limited.address, "api.example.org", PUBLIC, PUBLIC6) == ""
        for one in (limited, same):  # they are held to the same list
            assert one.reach(PUBLIC, 443) is not None
            assert one.reach(PUBLIC6, 443) is not None
            assert one.reach(PUBLIC, 443, "udp") is None
            assert one.reach(PUBLIC, 80) is None
        assert other.reach(PUBLIC, 443) is None

        # One more name leads there: the ports of both are open.
        assert telling.answer(limited.address, "files.pypi.org", PUBLIC) == ""
        assert limited.reach(PUBLIC, 443) is not None
        assert limited.reach(PUBLIC, 80) is not None
        assert limited.reach(PUBLIC, 443, "udp") is not None
        assert limited.reach(PUBLIC, 53, "udp") is None
        assert limited.reach(PUBLIC, 25) is None
        limited.exec("ping", "-c", "1", "-W", "10", PUBLIC)
        assert limited.place.run(
            "busybox", "ping", "-c", "1", "-W", "1", OTHER, check=False
        ).returncode
        assert limited.reach(PUBLIC6, 80) is None

        opened = open_addresses(host.nft_list())
        assert opened[PUBLIC]["comment"] == "api.example.org,files.pypi.org"
        assert 20 <= opened[PUBLIC]["expires"] <= 66
        shown = {one["address"]: one for one in host.inspect("limited")["opened"]}
        assert shown.keys() == {PUBLIC, PUBLIC6}
        assert shown[PUBLIC]["names"] == ["api.example.org", "files.pypi.org"]
        assert host.inspect("other")["opened"] == []
        reading.until(lambda: sum(e.kind == "opened" for e in reading.events) >= 2)
        told = [(e.sandbox, e.what, e.value) for e in reading.events if e.kind == "opened"]
        assert ("limited", "api.example.org", f"{PUBLIC},{PUBLIC6}") in told
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


def test_what_is_refused_opens_nothing(make_host: HostMaker) -> None:
    host, _ = served(make_host)
    limited = host.attach("limited", annotations={"io.watcher.egress": LIST})
    host.attach("prefixes", annotations={"io.watcher.egress": "10.0.0.0/8"})
    free = host.attach("free")
    with Telling(host.run_dir) as telling, Reading(host.run_dir) as reading:
        for sender, name in (
            (limited.address, "example.org"),
            (limited.address, "pypi.org"),
            (limited.address, 'x"; flush ruleset; ".pypi.org'),
            (limited.address, "x\n.pypi.org"),
            (limited.address, ".pypi.org"),
            (free.address, "api.example.org"),
            (host.container("prefixes").address, "api.example.org"),
            ("172.19.77.77", "api.example.org"),
            ("nobody", "api.example.org"),
            (f"{limited.address}%1", "api.example.org"),
        ):
            assert telling.answer(sender, name, PUBLIC) != "", name
        rebinding = (
            "10.1.2.3", "127.0.0.1", "169.254.169.254", "172.19.0.9", "192.0.2.2", "100.64.0.1",
            "0.0.0.0", "224.0.0.9", "255.255.255.255", "::1",
            "fe80::1", "fd00::1", "::ffff:8.8.8.8", "64:ff9b::10.0.0.1", "2002:a00:1::1",
            "2001:db8::2", "ff0e::1", host_address(host), f"64:ff9b::{host_address(host)}",
        )  # fmt: skip
        assert telling.answer(limited.address, "api.example.org", *rebinding) == ""
        assert telling.answer(limited.address, "api.example.org", "not an address") != ""
        assert open_addresses(host.nft_list()) == {}
        for _ in range(3):
            telling.send(sender=limited.address, rejected="evil.example")
        telling.send(sender=limited.address, rejected="x\n")
        assert telling.answer(limited.address, "api.example.org", PUBLIC) == ""
        reading.until(lambda: any(e.kind == "opened" for e in reading.events))
        rejected = [e for e in reading.events if e.kind == "rejected"]
        assert [(e.sandbox, e.annotation, e.value) for e in rejected] == [
            ("limited", "io.watcher.egress", "evil.example")
        ]
    assert limited.reach(PUBLIC, 443) is not None


def host_address(host: Host) -> str:
    """A public address that the host gets only now."""
    host.ip("addr", "replace", "93.184.216.99/32", "dev", "lo")
    return "93.184.216.99"


def test_what_is_open_outlives_flushes_and_restarts_but_not_its_time(make_host: HostMaker) -> None:
    host, service = served(make_host)
    limited = host.attach("limited", annotations={"io.watcher.egress": LIST})
    with Telling(host.run_dir) as telling:
        assert telling.answer(limited.address, "api.example.org", PUBLIC, ttl=300) == ""
        stream = limited.place.stream(PUBLIC, 443)

        host.nft("flush", "ruleset")
        eventually(lambda: limited.reach(PUBLIC, 443), what="what was open before the flush")
        assert 250 < open_addresses(host.nft_list())[PUBLIC]["expires"] <= 306
        host.nft("flush", "map", "inet", "watcher", "opened4")
        eventually(lambda: open_addresses(host.nft_list()), what="what was open in the map")

        # Answers go on while somebody flushes.
        host.nft("flush", "ruleset")
        assert telling.answer(limited.address, "api.example.org", OTHER) == ""
        assert limited.reach(OTHER, 443) is not None
        eventually(lambda: host.watcher("sync", "--dry-run").stdout == "nothing to do\n")

    service.kill9()
    assert limited.reach(PUBLIC, 443) is not None
    assert "table" not in host.watcher("sync").stdout
    host.nft("flush", "chain", "inet", "watcher", "publish")  # so that the table is made anew
    assert "nftables" in host.watcher("sync").stdout
    assert limited.reach(PUBLIC, 443) is not None
    service.start()
    assert limited.reach(PUBLIC, 443) is not None
    host.nft("flush", "ruleset")
    eventually(lambda: limited.reach(PUBLIC, 443), what="what another service had opened")

    expire(host, PUBLIC)
    eventually(lambda: limited.reach(PUBLIC, 443) is None, what="the end of its time")
    assert stream.say("hello")


def expire(host: Host, address: str) -> None:
    """Has its time end in a moment."""
    maps = [o["map"] for o in host.nft_list() if o.get("map", {}).get("name") == "opened4"]
    for key, profile in maps[0]["elem"]:
        number, of = key["elem"]["val"]["concat"]
        if of == address:
            element = f"inet watcher opened4 {{ {number} . {of}"
            host.nft(
                f"destroy element {element} }}; add element {element} timeout 1s : {profile} }}"
            )
