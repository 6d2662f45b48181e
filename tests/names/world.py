"""Networks and sandboxes as the events socket tells of them, and somebody who asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import dns.message
import dns.rcode
import dns.rdatatype
from msgspec.structs import replace

from watcher.cluster.endpoints.lines import EndpointLine, HostLine
from watcher.config.settings import Limits, Root
from watcher.feed.lines import (
    ContainerPart,
    InterfacePart,
    NetworkLine,
    SandboxLine,
    SubnetPart,
)
from watcher.names.answers import Answers
from watcher.names.counts import Counts
from watcher.names.opening.limits import Place
from watcher.names.settings import Settings
from watcher.names.waiting import PATIENCE
from watcher.names.wire.query import Query
from watcher.names.zone.directory import Directory
from watcher.names.zone.remote import Remote
from watcher.names.zone.views import Use
from watcher.observe.name_service import NameTotals

DOMAIN = "watcher.internal"
ROOT = "/run/runc"
SETTINGS = Settings(DOMAIN, (), (Root(), Root("/run/limited", limits=Limits(names=("app-*",)))))


def network(
    name: str = "default",
    number: int = 19,
    *,
    v6: bool = True,
    names: bool = True,
    internal: bool = False,
    guard: bool = True,
    egress: tuple[str, ...] | None = None,
    cluster: bool = False,
) -> NetworkLine:
    """Network 172.`number`.0.0/16, and fd00:`number`::/64."""
    subnets = [SubnetPart(f"172.{number}.0.0/16", f"172.{number}.0.1", 65533)]
    if v6:
        subnets.append(SubnetPart(f"fd00:{number}::/64", f"fd00:{number}::1", 65533))
    return NetworkLine(
        name, "bridge", f"{name}0"[:15], tuple(subnets), names=names, internal=internal,
        guard=guard, egress=egress, cluster=cluster,
    )  # fmt: skip


def container(
    id_: str,
    *names: str,
    hostname: str = "",
    dns: tuple[str, ...] = (),
    root: str = ROOT,
    pid: int = 7,
) -> ContainerPart:
    return ContainerPart(root, id_, pid, names, (), hostname, dns)


def sandbox(
    number: int,
    containers: ContainerPart | Iterable[ContainerPart],
    **addresses: str | tuple[str, ...],
) -> SandboxLine:
    """The sandbox in namespace `number`, with `addresses` by the network."""
    parts = (containers,) if isinstance(containers, ContainerPart) else tuple(containers)
    interfaces = tuple(
        InterfacePart(
            f"eth{at}", f"netnsv{at}-{number}", name, "02:42:ac:13:00:02",
            (there,) if isinstance(there, str) else there,
        )
        for at, (name, there) in enumerate(addresses.items())
    )  # fmt: skip
    return SandboxLine(f"sandbox/{number}", parts[0].id, number, parts, interfaces, parts[0].pid)


def other_host(
    name: str, state: Literal["this", "alive", "silent"] = "alive", **blocks: str | tuple[str, ...]
) -> HostLine:
    """A host of the cluster, with `blocks` by the network."""
    return HostLine(name, "192.0.2.1", state, _by_network(blocks))


def endpoint(
    host: str, id_: int, names: str | tuple[str, ...], **addresses: str | tuple[str, ...]
) -> EndpointLine:
    """A sandbox of a host with one container, with `addresses` by the network."""
    names = (names,) if isinstance(names, str) else names
    return EndpointLine(host, str(id_), (names,), _by_network(addresses))


def _by_network(given: Mapping[str, str | tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: (one,) if isinstance(one, str) else one for name, one in given.items()}


def limited(
    line: SandboxLine, egress: tuple[str, ...] | None = None, policy: str = ""
) -> SandboxLine:
    """The same sandbox, held to lists."""
    return replace(line, egress=egress, policy=policy)


class World:
    """A directory, and the answers that follow from it.

    Attributes:
        forwarded: what others were asked.
        opened: names whose answers would open addresses, and in which networks.
        rejected: names that were told to be rejected, and as whose.
        timers: what is to be called later, and has not been cancelled.
        late: answers that did not come at once.
    """

    def __init__(self, *lines: NetworkLine | SandboxLine, settings: Settings = SETTINGS) -> None:
        self.remote = Remote()
        self.remote.changed = self._remote_changed
        self.directory = Directory(settings, self.remote)
        self.forwarded: list[tuple[Query, tuple[str, ...], Hashable]] = []
        self.opened: list[tuple[bytes, tuple[tuple[str, str], ...]]] = []
        self.rejected: list[tuple[bytes, str, str]] = []
        self.timers: list[Callable[[], None]] = []
        self.late: list[bytes] = []
        self.counts = Counts()
        self.answers = Answers(self.directory, self, self, self._later, self.counts)
        self.tell(*lines)

    def _remote_changed(self, name: str, uses: Iterable[Use] | None) -> None:
        self.directory.remote_changed(name, uses)

    def ask(
        self, query: Query, servers: tuple[str, ...], asker: Hashable, reply: Callable[..., Any]
    ) -> None:
        """Others are asked."""
        assert callable(reply)
        self.forwarded.append((query, servers, asker))

    def before(
        self,
        reply: Callable[[bytes], None],
        query: Query,
        name: bytes,
        places: Sequence[Place],
        asker: Hashable,
    ) -> Callable[[bytes], None]:
        """The answer would open addresses."""
        assert (query.class_, hash(asker)) == (1, hash(asker))
        self.opened.append((name, tuple((place.network, place.source) for place in places)))
        return reply

    def reject(self, name: bytes, place: Place, asker: Hashable) -> None:
        """A name was rejected."""
        assert isinstance(asker, str)
        self.rejected.append((name, place.network, place.source))

    def _later(self, seconds: float, act: Callable[[], None]) -> Callable[[], None]:
        assert seconds == PATIENCE
        self.timers.append(act)
        return lambda: self.timers.remove(act)

    def tell(self, *lines: NetworkLine | SandboxLine) -> None:
        for line in lines:
            if isinstance(line, NetworkLine):
                self.directory.network(line)
            else:
                self.directory.sandbox(line)
        self.answers.learned()

    @property
    def totals(self) -> NameTotals:
        """What was counted."""
        return self.counts.totals(
            connected=None, domain=DOMAIN, networks=(), sandboxes=0, names=0, views=0
        )

    def send(
        self, message: bytes, source: str, network: str = "default", *, tcp: bool = False
    ) -> bytes | None:
        return self.answers.answer(message, source, network, self.late.append, tcp=tcp)

    def asks(
        self,
        source: str,
        name: str,
        kind: str = "A",
        *,
        at: str = "default",
        tcp: bool = False,
        **options: Any,
    ) -> dns.message.Message | None:
        """The answer that `source` gets, which is as it has to be; `None` if there is none yet."""
        query = dns.message.make_query(name, kind, **options)
        raw = self.send(query.to_wire(), source, at, tcp=tcp)
        if raw is None:
            return None
        answer = dns.message.from_wire(raw)
        assert query.is_response(answer)
        assert answer.edns == query.edns
        return answer

    def gets(self, source: str, name: str, kind: str = "A", *, at: str = "default") -> list[str]:
        """The data of all records that `source` gets, or why there are none; twice the same."""
        first = told(self.asks(source, name, kind, at=at))
        again = told(self.asks(source, name, kind, at=at))
        assert sorted(first) == sorted(again)
        return first


def told(answer: dns.message.Message | None) -> list[str]:
    """The data of all records in `answer`, or in one word why there are none."""
    if answer is None:
        return ["FORWARDED"]
    if answer.rcode() != dns.rcode.NOERROR:
        return [dns.rcode.to_text(answer.rcode())]
    return [record.to_text() for records in answer.answer for record in records] or ["NODATA"]
