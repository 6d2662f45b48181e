"""What interfaces are held to, as the kernel tells it, and more packets than that allows."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.support import traffic
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Container, Host, Json, Place

RECEIVE: Final = "io.watcher.ingress-bandwidth"
SEND: Final = "io.watcher.egress-bandwidth"
SIZE: Final = 1400
"""Bytes of each datagram of a flood."""
_SEND_BUFFER, _RECEIVE_BUFFER = 32, 33
"""SO_SNDBUFFORCE and SO_RCVBUFFORCE, which Python does not name."""


def at(bits: float) -> int:
    """The bytes a second of a link that carries so many bits, in full frames."""
    return int(bits) * 1514 // 1472 // 8


@dataclass(frozen=True)
class Rates:
    """The bytes a second that an interface may receive and send; 0 without a limit."""

    receive: int
    send: int


def shaper_of(veth: str) -> str:
    """The name of the device by which goes what a sandbox sends by its host end `veth`."""
    return veth.replace("netnsv", "netnsi")


def bucket(host: Host, link: str) -> Json | None:
    """The token bucket of a link with its counters; `None` without one."""
    done = host.command("tc", "-s", "-j", "qdisc", "show", "dev", link, check=False)
    found: list[Json] = json.loads(done.stdout or "[]")
    return next((one for one in found if one["kind"] == "tbf" and one.get("root")), None)


def rates(host: Host, veth: str) -> Rates:
    """What the interface with that host end is held to."""
    shown = host.command("tc", "filter", "show", "dev", veth, "ingress").stdout
    shaper = shaper_of(veth)
    assert (f"Redirect to device {shaper})" in shown) == (host.here.link(shaper) is not None)
    found = [bucket(host, link) for link in (veth, shaper)]
    return Rates(*(0 if one is None else int(one["options"]["rate"]) for one in found))


def devices(host: Host) -> set[str]:
    """The devices that shape what sandboxes send."""
    return {name for name in host.here.links() if name.startswith("netnsi")}


def limited(receive: str = "", send: str = "", **others: str) -> dict[str, str]:
    """The annotations that ask for these limits; `network` and the like beside them."""
    asked = {RECEIVE: receive, SEND: send} | {f"io.watcher.{key}": v for key, v in others.items()}
    return {key: value for key, value in asked.items() if value}


class Flood:
    """Datagrams from one place to an address of another, all at once.

    Attributes:
        sent: how many.
    """

    def __init__(self, source: Place, to: Place, address: str, *, port: int = 9000) -> None:
        family = traffic.family_of(address)
        self.sent = 0
        self._arrived = 0
        self._to = (address, port)
        self._receiver = traffic.make_socket(to.netns, family, socket.SOCK_DGRAM)
        self._receiver.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER, 8 << 20)
        self._receiver.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        self._receiver.setblocking(False)
        self._sender = traffic.make_socket(source.netns, family, socket.SOCK_DGRAM)
        self._sender.setsockopt(socket.SOL_SOCKET, _SEND_BUFFER, 8 << 20)

    def send(self, count: int) -> None:
        """Send so many datagrams, one right after the other."""
        for _ in range(count):
            self._sender.sendto(bytes(SIZE), self._to)
        self.sent += count

    def arrived(self) -> int:
        """How many have arrived until now."""
        try:
            while self._receiver.recv(SIZE):
                self._arrived += 1
        except BlockingIOError:
            pass
        return self._arrived

    def close(self) -> None:
        """Close both sockets."""
        self._receiver.close()
        self._sender.close()

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def holds_back(host: Host, link: str, flood: Flood) -> None:
    """Send more than the bucket of `link` lets pass: some is dropped there, all else arrives."""
    before = bucket(host, link)
    assert before is not None
    flood.send(1)  # which resolves the neighbour, and says that the way is free
    eventually(flood.arrived, what="the first datagram")
    flood.send(300)

    def all_told() -> Json | None:
        """Its counters, once each datagram has arrived or was dropped: some wait in queues."""
        after = bucket(host, link)
        assert after is not None
        dropped = after["drops"] - before["drops"]
        return after if flood.arrived() == flood.sent - dropped else None

    after = eventually(all_told, what="the rest of the datagrams")
    assert after is not None
    assert 0 < after["drops"] - before["drops"] < flood.sent
    assert after["overlimits"] > before["overlimits"]


def whole(host: Host, container: Container) -> Rates:
    """The rates of the first interface of a container, where `watcher sync` finds no fault."""
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
    return rates(host, container.veth)
