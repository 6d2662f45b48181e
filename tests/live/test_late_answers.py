"""An answer that is on its way when its flow ends does not keep who asked at the wrong end."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import TYPE_CHECKING

import pytest

from handlers.conntrack import ConntrackHandler
from handlers.context import open_context
from tests.live.test_reviewed import NoNotes
from tests.support import traffic
from tests.support.flows import flows_of
from tests.support.host import BEYOND, UPLINK
from watcher.model.container import Process
from watcher.model.network import Network
from watcher.model.request import PortMap
from watcher.model.sandbox import Interface, Member, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host, HostMaker

DEFAULT = Network(subnets=(IPv4Network("172.19.0.0/16"),))
PORT = 5353


def publishing() -> Sandbox:
    """A sandbox to which that port of the host leads by now."""
    own = Interface(
        0, DEFAULT.name, "eth0", "netnsv1", "02:00:00:00:00:01", (IPv4Interface("172.19.0.2/16"),)
    )
    ports = (PortMap("udp", None, PORT, 80),)
    members = (Member("/run/runc", "web", Process(1, 1), ports=ports),)
    return Sandbox(1, "web", Process(1, 1), 1, (own,), members, ("web",))


class Talk:
    """A server of the host at that port, and somebody outside who asks it."""

    def __init__(self, host: Host) -> None:
        self._server = host.here.bound("0.0.0.0", PORT)
        self._client = host.beyond.bound(BEYOND, 0)
        self._client.connect((UPLINK, PORT))

    def ask(self) -> None:
        """A question arrives."""
        self._client.send(b"a question")
        assert self._server.recvfrom(100)[0] == b"a question"

    def answer(self) -> None:
        """Answer the last one."""
        self._server.sendto(b"an answer", self._client.getsockname())
        assert self._client.recv(100) == b"an answer"


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    """A host that tracks connections, as the first container has it do."""
    made = make_host()
    made.attach("first")
    made.delete("first")
    return made


@pytest.fixture
def handler(host: Host) -> Iterator[ConntrackHandler]:
    """It is told that the port is published by now."""
    with (
        traffic.entered(host.here.netns),
        open_context("", "", {DEFAULT.name: DEFAULT}, NoNotes(), NoNotes(), list) as context,
    ):
        made = ConntrackHandler(context)
        made.appear(publishing())
        yield made


@pytest.mark.parametrize("times", [1, 2])
def test_the_flow_that_it_begins_ends_too(
    host: Host, handler: ConntrackHandler, times: int
) -> None:
    talk, others = Talk(host), flows_of(host)
    talk.ask()
    for _ in range(times):
        assert len(flows_of(host) - others) == 1
        assert handler.urgent
        handler.end_due()
        assert flows_of(host) <= others
        talk.answer()
    handler.end_due()
    assert flows_of(host) <= others
    handler.end_due()
    assert not handler.due


def test_a_flow_that_begins_as_the_rules_say_stays(host: Host, handler: ConntrackHandler) -> None:
    talk, others = Talk(host), flows_of(host)
    talk.ask()
    handler.end_due()
    assert flows_of(host) <= others
    talk.ask()
    began = flows_of(host) - others
    handler.end_due()
    assert began == flows_of(host) - others
    assert not handler.due
