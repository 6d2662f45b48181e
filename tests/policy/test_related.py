"""What only seems to belong to a connection: one that a helper expects, and segments of none."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

import pytest

from tests.attacks.test_egress import Attacker
from tests.support import packets, traffic
from tests.support.guarded import MODES, in_mode
from tests.support.host import BEYOND, BEYOND6, UPLINK, UPLINK6
from tests.support.packets import ACK, SYN, Wire
from tests.support.refused import REJECTED, attempt
from tests.support.tampering import NOTHING

if TYPE_CHECKING:
    from tests.support.host import HostMaker, Place

FTP: Final = """
table inet admin {
    ct helper ftp { type "ftp" protocol tcp; l3proto ip; }
    chain of_ftp {
        type filter hook prerouting priority 0;
        tcp dport 21 ct helper set "ftp"
    }
}
"""
FIN: Final = 1


def listening(place: Place, port: int) -> socket.socket:
    """Somebody who lets a connection be opened, and says nothing."""
    made = traffic.make_socket(place.netns, socket.AF_INET, socket.SOCK_STREAM)
    place.host.on_close(made.close)
    made.settimeout(traffic.ENOUGH)
    made.bind(("", port))
    made.listen()
    return made


def session(client: Place, address: str, server: Place) -> tuple[socket.socket, socket.socket]:
    """The two ends of a session of FTP."""
    waiting = listening(server, 21)
    asking = traffic.make_socket(client.netns, socket.AF_INET, socket.SOCK_STREAM)
    client.host.on_close(asking.close)
    asking.settimeout(traffic.ENOUGH)
    asking.connect((address, 21))
    answering = waiting.accept()[0]
    client.host.on_close(answering.close)
    answering.sendall(b"220 ready\r\n")
    assert asking.recv(100) == b"220 ready\r\n"
    return asking, answering


def passive(of: tuple[socket.socket, socket.socket], address: str, port: int) -> None:
    """The server says where it waits for data; the host's helper reads it."""
    asking, answering = of
    where = ",".join((*address.split("."), str(port >> 8), str(port & 255)))
    answering.sendall(f"227 Entering Passive Mode ({where})\r\n".encode())
    assert asking.recv(100).startswith(b"227 ")


@pytest.mark.parametrize("mode", MODES)
def test_what_a_helper_expects_is_judged_and_counted(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode))
    host.service()
    host.command("nft", "-f", "-", stdin=FTP)
    shy = host.attach(
        "shy", ports="21:21", annotations={"io.watcher.ingress": "any:21/tcp,any:4001"}
    )
    of_shy = session(host.beyond, UPLINK, shy.place)
    passive(of_shy, shy.address, 4000)
    shy.serve(tcp=(4000, 4001))
    assert attempt(host.beyond, UPLINK, 4000) == REJECTED[4]
    passive(of_shy, shy.address, 4001)
    assert attempt(host.beyond, UPLINK, 4001) == "shy"
    host.delete("shy")

    few = host.attach("few", ports="21:21", annotations={"io.watcher.connections": "1"})
    of_few = session(host.beyond, UPLINK, few.place)
    passive(of_few, few.address, 4000)
    few.serve(tcp=(4000,))
    assert attempt(host.beyond, UPLINK, 4000) == REJECTED[4]
    assert host.watcher("sync", "--dry-run").stdout == NOTHING


@pytest.mark.parametrize("mode", MODES)
def test_what_conntrack_calls_invalid_ends_no_connection(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode))
    host.service()
    quiet = host.attach("quiet", ports="8080:80", annotations={"io.watcher.egress": "none"})
    quiet.serve(tcp=(80,))
    me = Attacker(host, quiet, mode)
    for source, peer, target in ((me.ip4, BEYOND, UPLINK), (me.ip6, BEYOND6, UPLINK6)):
        inside = Wire(host, quiet.place)
        stream = host.beyond.stream(target, 8080)
        assert stream.say("once") == "once"
        said = inside.until(lambda frame: frame.endswith(b"once\n"))[-1]
        header = 14 + (20 if "." in peer else 40)
        port, _, sequence = struct.unpack_from("!HHI", said, header)
        for _ in range(8):  # more than are answered by ICMP
            me.send(
                packets.tcp(
                    source, peer, port, SYN | FIN | ACK, source_port=80, sequence=7,
                    acknowledged=sequence + len("once\n"),
                )
            )  # fmt: skip
        assert stream.say("still there") == "still there"
    assert host.inspect("quiet")["limits"][0]["rejected"]["egress"] == 0
