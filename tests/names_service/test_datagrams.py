"""Very many questions by UDP at once."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import dns.message
import pytest

from tests.support import traffic
from tests.support.host import GATEWAY
from tests.support.name_service import NameService, addresses, ask, make_query, outcome
from tests.support.waiting import eventually
from watcher.model.names import PORT
from watcher.names.transport.datagrams import TURN

if TYPE_CHECKING:
    from tests.support.host import HostMaker

_CONFIG = """
[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]
"""
_NAMES = ("web.watcher.internal", "nobody.watcher.internal", "web")


@pytest.mark.parametrize(
    ("family", "server"), [(socket.AF_INET, GATEWAY), (socket.AF_INET6, "fd00:19::1")]
)
def test_each_of_many_questions_gets_its_own_answer(
    make_host: HostMaker, family: socket.AddressFamily, server: str
) -> None:
    host = make_host(_CONFIG)
    host.service()
    NameService(host).hears()
    web = host.attach("web")
    eventually(lambda: addresses(ask(web.place, "web", server=server)), what="it is told of")
    asked = [make_query(_NAMES[n % len(_NAMES)], id=n) for n in range(5 * TURN + 1)]
    with traffic.make_socket(web.place.netns, family, socket.SOCK_DGRAM) as client:
        client.settimeout(traffic.ENOUGH)
        client.connect((server, PORT))
        for query in asked:
            client.send(query.to_wire())
        received = [dns.message.from_wire(client.recv(4096)) for _ in asked]
    received.sort(key=lambda answer: answer.id)
    for query, answer in zip(asked, received, strict=True):
        assert query.is_response(answer)
        if query.question[0].name.to_text().startswith("web"):
            assert addresses(answer) == {web.address}
        else:
            assert outcome(answer) == "NXDOMAIN"
