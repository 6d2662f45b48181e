"""Connecting one of several containers that share a namespace: the interface goes with that one."""

from __future__ import annotations

from tests.support.connected import (
    as_never_connected,
    defaults,
    is_right,
    on,
    refused,
    rules,
    server,
    tables,
)
from tests.support.host import BEYOND, GATEWAY, UPLINK, Container, Host
from tests.support.traffic import Answer
from tests.support.waiting import eventually


def end(host: Host, name: str) -> None:
    """A container ends, and that is known."""
    host.delete(name)
    host.forgotten(name)


def pair(host: Host, **bundle: str) -> tuple[Container, Container]:
    """A container and one in its namespace."""
    web = host.attach("web", ports=bundle.get("ports", ""))
    return web, host.share("sidecar", "web")


def test_both_see_it_and_it_goes_with_the_one_that_was_named(live: Host) -> None:
    web, sidecar = pair(live)
    db = server(live, "db", "back")
    live.watcher("connect", "sidecar", "back")
    assert web.place.picture() == sidecar.place.picture()
    assert web.reach(db.address, 80) == Answer("db", on(web, "eth1"))
    assert live.inspect("web")["interfaces"][1]["connected"] == "sidecar"
    is_right(live)
    end(live, "sidecar")
    as_never_connected(web)
    assert live.veths() == {web.veth, db.veth}
    assert set(live.leases().values()) == {"web", "db"}
    is_right(live)


def test_it_stays_when_another_one_ends(live: Host) -> None:
    sidecar = pair(live)[1]
    db = server(live, "db", "back")
    live.watcher("connect", "sidecar", "back")
    stream = sidecar.place.stream(db.address, 80)
    end(live, "web")
    assert stream.say("still") == "still"
    assert sidecar.place.links() == {"lo", "eth0", "eth1"}
    is_right(live)
    end(live, "sidecar")
    assert live.veths() == {db.veth}


def test_the_way_out_moves_as_a_member_goes(live: Host) -> None:
    """The first network was the sidecar's: default route, ports and answers move to the next."""
    live.beyond.serve(tcp=(80,))
    web, _ = pair(live, ports="8080:80,5353:53/udp")
    web.serve(tcp=(80,), udp=(53,))
    live.watcher("connect", "web", "back")
    live.watcher("disconnect", "web", "default")
    live.watcher("connect", "sidecar", "default")
    assert defaults(web) == [(GATEWAY, "eth0")]
    assert live.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    asking = live.beyond.datagrams(UPLINK, 5353)
    assert asking.ask() == Answer("web", BEYOND)
    end(live, "sidecar")
    assert web.place.links() == {"lo", "eth1"}
    assert defaults(web) == [("172.22.0.1", "eth1")]
    assert rules(web) == [0, 32766, 32767]
    assert tables(web) == []
    assert web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
    assert live.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    eventually(lambda: asking.ask(0.5) == Answer("web", BEYOND))
    is_right(live)


def test_nobody_disconnects_what_is_anothers(live: Host) -> None:
    web, _ = pair(live)
    live.watcher("connect", "sidecar", "back")
    said = refused(live, "disconnect", "web", "back")
    assert said == (
        'network "back" was connected for container "sidecar", not for "web"; run'
        " `watcher disconnect sidecar back`"
    )
    assert "it is connected already" in refused(live, "connect", "web", "back")
    live.watcher("disconnect", "sidecar", "default")  # the sandbox had it from the start
    assert web.place.links() == {"lo", "eth1"}
    live.watcher("disconnect", "sidecar", "back")
    assert web.place.links() == {"lo"}
    is_right(live)


def test_one_that_joins_later_has_what_there_is(live: Host) -> None:
    web = live.attach("web", annotations={"io.watcher.network": "front"})
    live.watcher("connect", "web", "back")
    sidecar = live.share("sidecar", "web", annotations={"io.watcher.network": "front"})
    assert sidecar.place.picture() == web.place.picture()
    again = live.share("again", "web", annotations={"io.watcher.network": "front,back"})
    assert again.place.links() == {"lo", "eth0", "eth1"}
    is_right(live)


def test_two_of_them_have_one_each(live: Host) -> None:
    web, _ = pair(live)
    live.watcher("connect", "web", "front")
    live.watcher("connect", "sidecar", "back")
    assert web.place.links() == {"lo", "eth0", "eth1", "eth2"}
    end(live, "web")
    sidecar = live.container("sidecar")
    assert sidecar.place.links() == {"lo", "eth0", "eth2"}
    is_right(live)
    assert live.watcher("connect", "sidecar", "inner").stdout.startswith("eth1 172.23.0.2/24")
    is_right(live)
