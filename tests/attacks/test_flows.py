"""What a machine outside goes on sending to one who is gone does not reach who has its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import traffic
from tests.support.host import BEYOND, UPLINK, UPLINK6, Container, Host
from tests.support.waiting import eventually
from watcher.store.leases import LeaseStore

if TYPE_CHECKING:
    from tests.support.host import HostMaker

PORT: Final = 7777
"""The victim's port, and that of whoever comes after it."""

SERVER: Final = 5000
"""The port of the machine outside."""

END: Final = b"end"


class Sender:
    """A machine outside that goes on sending to a flow which a container has begun."""

    def __init__(self, host: Host, victim: Container) -> None:
        self._host = host
        self._socket = host.beyond.bound(BEYOND, SERVER)
        asking = victim.place.bound(victim.address, PORT)
        asking.sendto(b"question", (BEYOND, SERVER))
        question, self._to = self._socket.recvfrom(100)
        assert question == b"question"
        self.go_on()
        assert asking.recv(100) == b"secret"

    def go_on(self) -> None:
        """Send to the flow, whoever has its end by now."""
        self._socket.sendto(b"secret", self._to)

    def reaches(self, container: Container) -> bool:
        """Whether what it sends now arrives at a container that has the victim's address."""
        listening = container.place.bound(container.address, PORT)
        host = self._host.here.bound("0.0.0.0", 0)
        for _ in range(3):
            self.go_on()
        arrived = []
        while END not in arrived:  # which comes behind all that was sent
            host.sendto(END, (container.address, PORT))
            arrived.append(listening.recv(100))
        return b"secret" in arrived


def gone(host: Host, container: Container) -> None:
    host.delete(container.id)
    host.gone(container)


@pytest.mark.parametrize("name", ["victim", "attacker"])
def test_a_flow_of_the_dead_does_not_reach_the_next(kept: Host, name: str) -> None:
    victim = kept.attach("victim")
    sender, address = Sender(kept, victim), victim.address
    gone(kept, victim)
    asked = {} if name == "victim" else {"io.watcher.ip": address}
    attacker = kept.attach(name, annotations=asked)
    assert attacker.address == address
    assert not sender.reaches(attacker)


def test_a_flow_of_the_dead_does_not_reach_one_who_is_there_at_once(served: Host) -> None:
    """The next is started while nobody has had time to do anything about the last."""
    victim = served.attach("victim")
    sender, address = Sender(served, victim), victim.address
    served.kill("victim")
    served.delete("victim")
    attacker = served.attach("victim")
    assert attacker.address == address
    assert not sender.reaches(attacker)


def test_a_flow_to_a_published_port_of_the_dead_does_not_reach_the_next(kept: Host) -> None:
    victim = kept.attach("victim", ports="5353:7777/udp")
    victim.serve(udp=(PORT,))
    client = kept.beyond.datagrams(UPLINK, 5353)
    assert client.ask() == traffic.Answer("victim", BEYOND)
    address = victim.address
    gone(kept, victim)
    attacker = kept.attach("attacker", annotations={"io.watcher.ip": address})
    attacker.serve(udp=(PORT,))
    assert client.ask(timeout=0.5) is None


def test_flows_of_a_routed_network_and_of_ipv6(make_host: HostMaker) -> None:
    host = make_host(
        '[network.default]\nmode = "routed"\nbridge = "routed0"\n'
        'subnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
    )
    host.service()
    victim = host.attach("victim", ports="5353:80/udp")
    victim.serve(udp=(80,))
    clients = [host.beyond.datagrams(address, 5353) for address in (UPLINK, UPLINK6)]
    for client in clients:
        answer = client.ask()
        assert answer is not None
        assert answer.who == "victim"
    sender = Sender(host, victim)
    addresses = ",".join(address.split("/")[0] for address in victim.place.addresses())
    gone(host, victim)
    attacker = host.attach("attacker", annotations={"io.watcher.ip": addresses})
    attacker.serve(udp=(80,))
    assert not sender.reaches(attacker)
    for client in clients:
        assert client.ask(timeout=0.5) is None


def test_many_who_end_together_cost_few_passes(host: Host) -> None:
    names = [f"c{n}" for n in range(12)]
    service = host.service("--log-level", "debug")
    containers = [host.attach(name) for name in names]
    host.command("kill", "-KILL", *(str(container.pid) for container in containers))
    for container in containers:
        host.delete(container.id)
        host.gone(container)

    def passes() -> list[int]:
        return [e["addresses"] for e in service.log() if e["event"] == "ended flows"]

    eventually(lambda: sum(passes()) == len(names))
    assert len([n for n in passes() if n]) < len(names) / 2


def test_a_killed_service_leaves_the_flows_to_the_next(host: Host) -> None:
    service = host.service()
    victim = host.attach("victim")
    sender, address = Sender(host, victim), victim.address
    service.kill9()
    host.delete("victim")
    host.service()
    host.gone(victim)
    attacker = host.attach("attacker", annotations={"io.watcher.ip": address})
    assert not sender.reaches(attacker)


def test_who_is_killed_between_the_release_of_an_address_and_its_pass(host: Host) -> None:
    service = host.service()
    victim = host.attach("victim")
    sender, address = Sender(host, victim), victim.address
    service.kill9()
    host.delete("victim")
    with LeaseStore.open(host.state_dir / "leases.db") as store:  # as far as it had come
        (sandbox,) = store.sandboxes()
        store.release(sandbox.key)
    host.service()
    host.gone(victim)
    attacker = host.attach("attacker", annotations={"io.watcher.ip": address})
    assert not sender.reaches(attacker)


def test_flows_of_others_go_on(kept: Host) -> None:
    victim = kept.attach("victim")
    other = kept.attach("other", ports="5354:80/udp")
    other.serve(udp=(80,))
    client = kept.beyond.datagrams(UPLINK, 5354)
    assert client.ask() == traffic.Answer("other", BEYOND)
    asking = other.place.bound(other.address, PORT)
    outside = kept.beyond.bound(BEYOND, SERVER)
    asking.sendto(b"question", (BEYOND, SERVER))
    _, where = outside.recvfrom(100)
    gone(kept, victim)
    kept.settle()
    outside.sendto(b"answer", where)
    assert asking.recv(100) == b"answer"
    assert client.ask() == traffic.Answer("other", BEYOND)
