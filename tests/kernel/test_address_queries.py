"""What a question for an address makes of its answers, which may be anything."""

from __future__ import annotations

import socket
from contextlib import closing
from ipaddress import ip_address
from typing import TYPE_CHECKING

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.kernel.probes import AddressQuery, ask_all

if TYPE_CHECKING:
    from collections.abc import Callable

LOCALHOST = ip_address("127.0.0.1")
NAME = "host.watcher.internal"


def asked(make: Callable[[bytes], bytes], *, tcp: bool = False) -> AddressQuery:
    """A question, once a server has answered it with what `make` makes of it."""
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind((str(LOCALHOST), 0))
        if tcp:
            server.listen()
        query = AddressQuery(LOCALHOST, server.getsockname()[1], NAME, tcp=tcp)
        with closing(query):
            query.ask()
            if tcp:
                stream, _ = server.accept()
                with stream:
                    query.ask()
                    message = stream.recv(2048)[2:]
                    answer = make(message)
                    stream.sendall(len(answer).to_bytes(2) + answer)
            else:
                message, peer = server.recvfrom(2048)
                server.sendto(make(message), peer)
            ask_all([query], 0.2)
    return query


def answer(message: bytes, *records: str, code: int = 0) -> bytes:
    """The answer of a real server's library."""
    response = dns.message.make_response(dns.message.from_wire(message))
    response.set_rcode(code)  # type: ignore[arg-type]
    response.answer = [dns.rrset.from_text(f"{NAME}.", 0, "IN", *one.split()) for one in records]
    return response.to_wire()


@pytest.mark.parametrize("tcp", [False, True])
def test_an_answer_is_the_first_address_or_the_code(tcp: bool) -> None:
    for records, code, found in (
        (("A 172.19.0.1",), 0, "172.19.0.1"),
        (("TXT x", "A 172.19.0.2"), 0, "172.19.0.2"),
        (("AAAA ::1",), 0, "NODATA"),
        ((), 0, "NODATA"),
        ((), 3, "NXDOMAIN"),
        ((), 5, "REFUSED"),
        ((), 9, "code 9"),
    ):

        def make(message: bytes, records: tuple[str, ...] = records, code: int = code) -> bytes:
            return answer(message, *records, code=code)

        assert asked(make, tcp=tcp).answer == found


@given(st.binary(max_size=64), st.integers(0, 80))
def test_whatever_comes_is_read(garbage: bytes, cut: int) -> None:
    with closing(AddressQuery(LOCALHOST, 53, NAME)) as query:
        message = query._question
        head = query._id.to_bytes(2) + b"\x81\x80\0\1\xff\xff\0\0\0\0"
        told = query._read((head + message + garbage)[: len(head) + cut])
        assert told in ("", "NODATA", "an answer that is cut off") or ip_address(told)
        assert query._read(garbage) == ""
