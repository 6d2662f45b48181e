"""What the words of a list of sources stand for, beside what a reader of the list would say."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from watcher.model.policy.access import AccessList
from watcher.model.policy.boxes import Box
from watcher.model.policy.entries import EVERY_PORT, checked, entry
from watcher.model.policy.words import lets_in_neighbours, of_host, spelled_out

SUBNET: Final = IPv4Network("172.19.0.0/16")
NEAR: Final = IPv4Address("172.19.0.9")
FAR: Final = IPv4Address("192.0.2.1")

_TARGETS = st.sampled_from(["any", "host", "network", "172.19.0.0/24", "172.0.0.0/8", str(FAR)])
_PORTS = st.sampled_from(["", ":80", ":80/tcp", "/udp", ":1-100"])
_ENTRIES = st.builds("{}{}{}".format, st.sampled_from(["", "!"]), _TARGETS, _PORTS)
_LISTS = st.lists(_ENTRIES, max_size=5).map(lambda some: checked(some, "ingress"))


def admits(texts: tuple[str, ...], source: IPv4Address | None, port: int, protocol: str) -> bool:
    """Whether a list lets a source in; `None` is the host."""
    entries = [entry(text) for text in texts]
    words = {e.word for e in entries if e.word and not e.out}

    def about(text: str) -> bool:
        e = entry(text)
        if e.protocol not in ("", protocol) or not e.ports[0] <= port <= e.ports[1]:
            return False
        if e.word:
            return e.word == ("host" if source is None else "network" if source in SUBNET else "")
        return e.prefix is None or (source is not None and source in e.prefix)

    if any(about(text) for text in texts if text.startswith("!")):
        return False
    implied = bool(texts) and not words and (source is None or source in SUBNET)
    return implied or any(about(text) for text in texts if not text.startswith("!"))


def has(boxes: tuple[Box, ...], source: IPv4Address, port: int, protocol: int) -> bool:
    """Whether a box has it."""
    return any(
        one.addresses[0] <= int(source) <= one.addresses[1]
        and one.protocols[0] <= protocol <= one.protocols[1]
        and one.ports[0] <= port <= one.ports[1]
        for one in boxes
    )


@given(st.lists(_LISTS, min_size=1, max_size=2))
@example([()])
@example([("!network",)])
@example([("any", "host")])
def test_lists_let_in_what_a_reader_would_say(lists: list[tuple[str, ...]]) -> None:
    held = spelled_out(AccessList("ingress", tuple(lists)), (SUBNET,))
    host = of_host(held, 4)
    for port, protocol, number in ((80, "tcp", 6), (80, "udp", 17), (8080, "tcp", 6)):
        for source in (NEAR, FAR):
            said = all(admits(one, source, port, protocol) for one in lists)
            assert has(tuple(held.boxes(4)), source, port, number) == said
        said = all(admits(one, None, port, protocol) for one in lists)
        assert (host is None or has(host, IPv4Address(0), port, number)) == said
    if lets_in_neighbours(held, (SUBNET,)):
        everything = (EVERY_PORT, (0, 255))
        near = [b for b in held.boxes(4) if b.addresses[0] <= int(NEAR) <= b.addresses[1]]
        assert [(b.ports, b.protocols) for b in near] == [everything]


def test_what_is_spelled_out_says_the_same_once_more() -> None:
    held = AccessList("ingress", (("192.0.2.0/24",), ("!host:22", "any:80")))
    once = spelled_out(held, (SUBNET,))
    assert spelled_out(once, (SUBNET,)).boxes(4) == once.boxes(4)
    assert once.document == (
        "ingress 172.19.0.0/16,192.0.2.0/24,host & !host:22,172.19.0.0/16,any:80,host"
    )
