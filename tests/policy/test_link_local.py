"""Link-local addresses are nobody's lease, and yet no way round limits."""

from __future__ import annotations

import errno
import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from tests.policy.test_connections import count
from tests.support import traffic
from tests.support.guarded import DUAL
from tests.support.refused import RESET
from tests.support.waiting import eventually
from watcher.model.naming import link_local

if TYPE_CHECKING:
    from tests.support.host import Container, HostMaker, Place


def ready(container: Container) -> str:
    """Its link-local address, once it may be used."""
    eventually(lambda: "tentative" not in container.place.run("ip", "-6", "addr").stdout)
    return of(container.place, "eth0")[0]


def of(place: Place, name: str) -> tuple[str, int]:
    """The link-local address and the index of a link with a MAC of its own."""
    link = place.link(name)
    assert link is not None
    return str(link_local(link["address"])), link["ifindex"]


def reached(place: Place, address: str, index: int) -> str:
    """Who answers at port 80 of a link-local address by the link `index`, else the error."""
    with closing(traffic.make_socket(place.netns, socket.AF_INET6, socket.SOCK_STREAM)) as asking:
        asking.settimeout(10)
        try:
            asking.connect((address, 80, 0, index))
            asking.send(b"who\n")
            return asking.recv(100).split()[0].decode()
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def test_the_host_is_kept_out_and_connections_are_counted(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    limits = {"io.watcher.ingress": "any,!host", "io.watcher.connections": "50"}
    shy, free = host.attach("shy", annotations=limits), host.attach("free")
    bridge, index = of(host.here, "netns0")
    own, other = ready(shy), ready(free)
    for container in (shy, free):
        container.serve(tcp=(80,))
    assert reached(host.here, other, index) == "free"
    assert reached(host.here, own, index) == RESET
    assert reached(free.place, own, of(free.place, "eth0")[1]) == "shy"

    before, by = count(host), of(shy.place, "eth0")[1]
    sending = traffic.make_socket(shy.place.netns, socket.AF_INET6, socket.SOCK_DGRAM)
    with closing(sending):
        sending.bind((own, 0, 0, by))
        for port in range(1000, 1200):
            with suppress(OSError):
                sending.sendto(b"x", (bridge, port, 0, by))
    assert count(host) - before <= 50
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"
    host.delete("shy")
    host.gone(shy)
    assert "_local" not in host.watcher("sync", "--dry-run").stdout
