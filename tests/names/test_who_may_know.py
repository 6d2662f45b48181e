"""Whatever comes and goes, everybody gets what a plain list of what there is says, and no more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import dns.message
import dns.rcode
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.names.world import DOMAIN, World, container, network, sandbox
from watcher.feed.lines import ContainerPart, InterfacePart, NetworkLine, SandboxLine

EXAMPLES = int(os.environ.get("WATCHER_MODEL_EXAMPLES", "40"))
NETWORKS = (
    network("default", 19, v6=False),
    network("back", 20, v6=False, internal=True),
    network("open", 21, v6=False, guard=False),
    network("quiet", 22, v6=False, names=False),
)
IDS = ("web", "db", "db.back", "a.b", "host", "Web")
NAMES = ("web", "db", "x")
HOSTNAMES = ("", "web", "x", "h", "h.example.com")
ASKED = (
    *("web", "db", "x", "h", "host", "a.b", "localhost", "h.example.com", "example.com"),
    *(f"{name}.{DOMAIN}" for name in ("web", "db", "x", "h", "a.b", "db.back", "x.back", "host")),
    *(f"{name}.{DOMAIN}" for name in ("web.default", "x.open", "x.quiet", "h.example.com")),
    *(f"host.{name}.{DOMAIN}" for name in ("default", "back", "open")),
)
SANDBOXES = range(2, 7)
QUESTIONS = {name: dns.message.make_query(name, "A").to_wire() for name in ASKED}


@st.composite
def sandboxes(draw: st.DrawFn) -> SandboxLine:
    number = draw(st.sampled_from(SANDBOXES))
    parts = draw(
        st.lists(
            st.builds(
                lambda id_, names, hostname: container(id_, *sorted(names), hostname=hostname),
                st.sampled_from(IDS), st.sets(st.sampled_from(NAMES)), st.sampled_from(HOSTNAMES),
            ),
            min_size=1, max_size=3, unique_by=lambda part: part.id,
        )
    )  # fmt: skip
    inside = draw(st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3, unique=True))
    addresses = {line.name: f"{line.subnets[0].gateway[:-1]}{number}" for line in inside}
    return sandbox(number, parts, **addresses)


class Lists:
    """What there is, in plain lists; every question goes through all of them."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, SandboxLine] = {}

    def gets(self, source: str, name: str, at: NetworkLine) -> list[str]:
        """The addresses of `name`, or why there are none."""
        asking = next((s for s, i in self.there(at.name) if source in i.addresses), None)
        if not at.names or (at.guard and asking is None):
            return ["REFUSED"]
        if asking is None or not at.guard:
            seen, hostnames = [at], []
            asking = None
        else:
            has = {interface.network for interface in asking.interfaces}
            seen = [line for line in NETWORKS if line.names and line.name in has]
            hostnames = [(part.hostname, part.id == asking.id) for part in asking.containers]
        bare = name.removesuffix(f".{DOMAIN}")
        if bare == "localhost":
            return ["127.0.0.1"]
        ours = bare != name or "." not in name
        if ours and bare == "host":
            return [at.subnets[0].gateway]
        for line in seen:
            if ours and bare == f"host.{line.name}":
                return [line.subnets[0].gateway]
        called = list(self.called(bare, seen)) if ours else []
        own = next((i.addresses[0] for i in (asking.interfaces if asking else ())
                    if i.network == at.name), "")  # fmt: skip
        for hostname, founder in hostnames:
            if hostname and hostname in (bare, name) and founder:
                return [own]
        for hostname, _ in hostnames:
            if hostname and hostname in (bare, name) and "." not in hostname and not called:
                return [own]
        if called or ours:
            return sorted(called) or ["NXDOMAIN"]
        return ["NXDOMAIN"] if all(line.internal for line in seen) else ["FORWARDED"]

    def there(self, name: str) -> Iterator[tuple[SandboxLine, InterfacePart]]:
        for line in self.sandboxes.values():
            for interface in line.interfaces:
                if interface.network == name:
                    yield line, interface

    def called(self, name: str, seen: Iterable[NetworkLine]) -> set[str]:
        whole = set(self.addresses(name, seen))
        first, _, last = name.partition(".")
        return whole or set(self.addresses(first, [line for line in seen if line.name == last]))

    def addresses(self, name: str, seen: Iterable[NetworkLine]) -> Iterator[str]:
        for line in seen:
            for there, interface in self.there(line.name):
                if any(name in _names(part) for part in there.containers):
                    yield from interface.addresses


def _names(part: ContainerPart) -> set[str]:
    return {*part.names, part.id.lower()} - {"host"}


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.one_of(sandboxes(), st.sampled_from(SANDBOXES)), max_size=8))
def test_everybody_gets_what_the_lists_say(history: list[SandboxLine | int]) -> None:
    world, lists = World(*NETWORKS), Lists()
    for step in history:
        if isinstance(step, int):
            world.directory.forget(f"sandbox/{step}")
            lists.sandboxes.pop(f"sandbox/{step}", None)
        else:
            world.tell(step)
            lists.sandboxes[step.key] = step
        for at in NETWORKS:
            for number in SANDBOXES:
                source = f"{at.subnets[0].gateway[:-1]}{number}"
                for name in ASKED:
                    gets = lists.gets(source, name, at)
                    if gets == ["REFUSED"] and at.names:
                        continue  # it waits
                    found = told(world.send(QUESTIONS[name], source, at.name))
                    assert found == gets, (source, name, at.name)
    assert not any(_is_local(query.name) for query, _, _ in world.forwarded)


def told(raw: bytes | None) -> list[str]:
    """What the answer says; dnspython would take most of the time here."""
    if raw is None:
        return ["FORWARDED"]
    if raw[3] & 15:
        return [dns.rcode.to_text(dns.rcode.Rcode(raw[3] & 15))]
    records = int.from_bytes(raw[6:8])
    last = [raw[len(raw) - 16 * at - 4 :][:4] for at in range(records)]
    return sorted(".".join(map(str, address)) for address in last)


def _is_local(name: tuple[bytes, ...]) -> bool:
    return len(name) == 1 or name[-2:] == tuple(DOMAIN.encode().split(b"."))
