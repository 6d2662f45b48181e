"""A container that vanishes gives everything back."""

from __future__ import annotations

from tests.support.host import BEYOND, UPLINK, Container, Host
from tests.support.traffic import Answer
from tests.support.waiting import eventually


def published(host: Host, name: str = "web") -> Container:
    """A container of which there is one of everything: veth, address, port map, pin, lease."""
    container = host.attach(name, ports="8080:80/tcp,8080:80/udp")
    container.serve(tcp=(80,), udp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer(name, BEYOND)
    assert host.veths() == {container.veth}
    assert host.pins() == {name}
    assert host.leases() == {container.address: name}
    assert host.elements()
    return container


def test_nothing_is_left_after_runc_delete(kept: Host) -> None:
    published(kept)
    kept.delete("web")
    kept.empty()
    assert kept.ls() == {}
    assert kept.beyond.reach(UPLINK, 8080, timeout=0.3) is None


def test_nothing_is_left_after_the_end_of_an_init_that_nobody_deletes(kept: Host) -> None:
    published(kept)
    kept.kill("web")
    kept.empty()
    assert kept.status("web") == "exited"
    assert kept.beyond.reach(UPLINK, 8080, timeout=0.3) is None
    kept.delete("web")
    kept.settle()
    eventually(lambda: kept.ls() == {})


def test_the_end_of_an_init_is_told(served: Host) -> None:
    web = published(served)
    served.command("kill", "-KILL", str(web.pid))
    eventually(lambda: web.veth not in served.here.links())


def test_a_container_that_ends_by_itself_gives_its_network_back(kept: Host) -> None:
    """Its program serves one client and is done."""
    kept.attach("web", ["nc", "-l", "-p", "80", "-e", "echo", "web", "you"], ports="8080:80")
    eventually(lambda: kept.beyond.reach(UPLINK, 8080) == Answer("web", "you"))
    kept.empty()
    assert kept.status("web") == "exited"


def test_what_others_have_is_left_alone(kept: Host) -> None:
    published(kept)
    other = kept.attach("other", ports="9090:90")
    other.serve(tcp=(90,))
    address = other.address
    stream = kept.beyond.stream(UPLINK, 9090)

    kept.delete("web")
    kept.settle()
    eventually(lambda: kept.veths() == {other.veth})
    eventually(lambda: kept.pins() == {"other"})
    eventually(lambda: kept.leases() == {address: "other"})
    assert stream.say("still there") == "still there"
    assert kept.beyond.reach(UPLINK, 9090) == Answer("other", BEYOND)


def test_what_vanished_while_nobody_looked_goes_with_the_next_start(host: Host) -> None:
    service = host.service()
    published(host)
    exited = host.attach("exited", ports="9090:90")
    service.stop()
    host.delete("web")
    host.kill("exited")
    assert exited.id in host.pins()

    service.start()
    host.empty()
    assert {name: row["status"] for name, row in host.ls().items()} == {"exited": "exited"}


def test_what_vanished_during_a_kill_goes_with_the_next_sync(host: Host) -> None:
    service = host.service()
    published(host)
    service.kill9()
    host.delete("web")
    host.watcher("sync")
    assert host.leftovers() == []


def test_many_that_vanish_at_once_leave_nothing(served: Host) -> None:
    names = [f"c{number}" for number in range(12)]
    for number, name in enumerate(names):
        served.run(name, ports=f"{9000 + number}:80")
    for name in names:
        served.attached(name)
    served.command(
        "sh",
        "-c",
        "".join(f"runc --root {served.root} delete --force {name} & " for name in names) + "wait",
    )
    served.empty()
    assert served.ls() == {}
