"""Flows that are due for a review while a sandbox is connected to a network unknown so far."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import TYPE_CHECKING

from msgspec.structs import replace

from handlers.conntrack import ConntrackHandler
from handlers.context import open_context
from tests.support.host import BEYOND, UPLINK
from tests.support.traffic import Answer, entered
from watcher.model.container import Process
from watcher.model.network import Network
from watcher.model.sandbox import Interface, Member, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.host import HostMaker

BACK = Network(name="back", bridge="back0", subnets=(IPv4Network("172.22.0.0/24"),))


class NoNotes:
    """Notes of a handler that makes none."""

    def noted(self, name: str) -> str | None:  # noqa: ARG002
        return None

    def note(self, name: str, value: str) -> None: ...

    def erase(self, name: str) -> None: ...

    def number_of(self, document: str) -> int:  # noqa: ARG002
        return 1

    def keep_only(self, documents: Iterable[str]) -> None: ...

    def document_of(self, number: int) -> str:  # noqa: ARG002
        return ""


def test_the_review_knows_it(make_host: HostMaker) -> None:
    """Another process connects it, and then a member of it goes."""
    host = make_host()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    default = Network(subnets=(IPv4Network("172.19.0.0/16"),))
    own = Interface(
        0, default.name, "eth0", web.veth, "02:00:00:00:00:01",
        (IPv4Interface(f"{web.address}/16"),),
    )  # fmt: skip
    more = Interface(
        1, "back", "eth1", "netnsv1-1", "02:00:00:00:00:02", (IPv4Interface("172.22.0.2/24"),)
    )
    members = (Member("/run/runc", "web", Process(1, 1)), Member("/run/runc", "x", Process(2, 1)))
    before = Sandbox(1, "web", Process(1, 1), 1, (own,), members, ("web",))
    connected = replace(before, interfaces=(own, more))
    with (
        entered(host.here.netns),
        open_context(
            "", "", {default.name: default}, NoNotes(), NoNotes(), list, find={"back": BACK}.get
        ) as context,
    ):
        handler = ConntrackHandler(context)
        handler.sync([before], dry_run=False)
        handler.vanish(connected, replace(connected, members=members[:1]))
        assert handler.due
        assert handler.end_due() == set()
        assert not handler.due
