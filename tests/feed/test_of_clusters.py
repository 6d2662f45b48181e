"""What happens to a cluster, as events, as lines for people and in the log."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Final

import pytest

from watcher.config.settings import Config
from watcher.facts import kinds
from watcher.facts.kinds import Fact
from watcher.facts.subscribers import make_publisher
from watcher.feed.events import event_of, kind_of
from watcher.feed.lines import Event
from watcher.log.logger import make_log
from watcher.observe.people import line_for
from watcher.observe.selection import Selection

_BLOCK: Final = ip_network("10.9.4.0/24")
_WHY: Final = "etcd has it for host b"

FACTS: Final[dict[str, tuple[Fact, str]]] = {
    "host-joined": (kinds.HostSeen("b", ip_address("fd00::2")), "host=b address=fd00::2"),
    "host-silent": (kinds.HostSilent("b"), "host=b"),
    "host-returned": (kinds.HostReturned("b"), "host=b"),
    "host-removed": (kinds.HostRemoved("b"), "host=b"),
    "block-taken": (kinds.BlockTaken("back", _BLOCK), "network=back block=10.9.4.0/24"),
    "block-returned": (kinds.BlockReturned("back", _BLOCK), "network=back block=10.9.4.0/24"),
    "block-lost": (
        kinds.BlockLost("back", _BLOCK, _WHY), f"network=back block=10.9.4.0/24 {_WHY}"
    ),
    "cluster-connected": (kinds.ClusterReached(), ""),
    "cluster-disconnected": (kinds.ClusterUnreachable("no route"), "no route"),
}  # fmt: skip
"""Each kind: its fact, and what people see behind it."""


def event(kind: str) -> Event:
    """The event of that kind."""
    return event_of(FACTS[kind][0], kind, 1, 0.0)


@pytest.mark.parametrize("kind", FACTS)
def test_each_is_an_event_and_a_line_of_the_log(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fact, words = FACTS[kind]
    assert kind_of(fact) == kind
    line = line_for(event(kind), colour=False)
    assert line.split(kind)[1].strip() == words
    make_publisher(Config(), make_log("info", "json")).publish(fact)
    (logged,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert all(str(getattr(fact, name)) in map(str, logged.values()) for name in _fields(fact))


def test_they_are_found_by_host_address_network_and_block() -> None:
    for filters, found in (
        (["host=b"], {"host-joined", "host-silent", "host-returned", "host-removed"}),
        (["address=fd00::2"], {"host-joined"}),
        (["block=10.9.4.0/24"], {"block-taken", "block-returned", "block-lost"}),
        (["network=back", "kind=block-lost"], {"block-lost"}),
    ):
        selection = Selection(filters)
        assert {kind for kind in FACTS if selection.has(event(kind))} == found


def _fields(fact: Fact) -> tuple[str, ...]:
    return fact.__struct_fields__
