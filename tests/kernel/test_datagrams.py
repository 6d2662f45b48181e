"""Many datagrams by one system call, by real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from handlers.kernel.datagrams import Datagrams

MOST, LONGEST = 4, 100


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def sockets(request: pytest.FixtureRequest) -> Iterator[list[socket.socket]]:
    """Sockets with addresses of one family: the first is that which is read by `Datagrams`."""
    family, address = request.param
    with ExitStack() as stack:
        made = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(3)]
        for one in made:
            one.bind((address, 0))
            one.settimeout(5)
        yield made


def test_each_is_answered_to_its_sender(sockets: list[socket.socket]) -> None:
    server, *clients = sockets
    datagrams = Datagrams(MOST, LONGEST)
    for _ in range(2):  # the memory is used again
        for number, client in enumerate(clients):
            client.sendto(b"question " * (number + 1), server.getsockname())
        received = datagrams.receive(server.fileno())
        assert [message for message, _ in received] == [b"question ", b"question question "]
        answers = [(b"answer to " + message, peer) for message, peer in received]
        assert datagrams.send(server.fileno(), answers) == 0
        for number, client in enumerate(clients):
            expected = b"answer to " + b"question " * (number + 1)
            assert client.recvfrom(LONGEST) == (expected, server.getsockname())


def test_what_is_too_much_waits_and_what_is_too_long_is_cut_off(
    sockets: list[socket.socket],
) -> None:
    server, client, _ = sockets
    datagrams = Datagrams(MOST, LONGEST)
    assert datagrams.receive(server.fileno()) == []
    for number in range(MOST + 1):
        client.sendto(bytes((number,)) * (LONGEST + number), server.getsockname())
    client.sendto(b"", server.getsockname())
    first = [message for message, _ in datagrams.receive(server.fileno())]
    assert first == [bytes((number,)) * LONGEST for number in range(MOST)]
    second = [message for message, _ in datagrams.receive(server.fileno())]
    assert second == [bytes((MOST,)) * LONGEST, b""]


def test_one_that_cannot_be_sent_keeps_back_no_other(sockets: list[socket.socket]) -> None:
    server, client, _ = sockets
    datagrams = Datagrams(MOST, LONGEST)
    client.sendto(b"question", server.getsockname())
    ((_, peer),) = datagrams.receive(server.fileno())
    to_port_0 = peer[:2] + bytes(2) + peer[4:]  # EINVAL, udp_sendmsg() in net/ipv4/udp.c
    too_long = b"3" * (LONGEST + 1)
    sent = [(b"1", peer), (b"2", to_port_0), (too_long, peer), (b"4", peer)]
    assert datagrams.send(server.fileno(), sent) == 2
    assert [client.recv(LONGEST) for _ in range(2)] == [b"1", b"4"]
    assert datagrams.send(-1, [(b"5", peer)]) == 1
