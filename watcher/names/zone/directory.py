"""Who is called what, and who may know: put together of the lines of the events socket."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.names.wire.labels import wire_of
from watcher.names.zone.answer import Zone
from watcher.names.zone.limiting import limits_of
from watcher.names.zone.segments import Called, Presence, Segment, packed_of, text_of
from watcher.names.zone.views import Asker, View
from watcher.observe.naming import Naming

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watcher.feed.lines import NetworkLine, SandboxLine
    from watcher.names.settings import Settings
    from watcher.names.zone.remote import Remote
    from watcher.names.zone.reverse import Span
    from watcher.names.zone.views import Use

_KEPT_AT_MOST: Final = 16 << 20
"""Bytes of all answers that are kept; each view has its share."""

_LONGEST_NAME: Final = 255
"""Bytes of a name in a message (RFC 1035, section 2.3.4)."""

_SHARE_AT_LEAST: Final = 16 << 10
"""Bytes of a view's answers even if there are very many."""


class _Sandbox(Struct, eq=False):
    """What is known of a sandbox.

    Attributes:
        line: what was told of it.
        names: what its containers are called.
        presences: what it has in each network.
        askers: as who it asks, by the network.
    """

    line: SandboxLine
    names: frozenset[bytes]
    presences: dict[str, Presence]
    askers: dict[str, Asker]


class Directory:
    """Who is called what, and who may know.

    Args:
        settings: what the configuration says.
        remote: who is in clustered networks on other hosts.

    What a line costs depends on that sandbox alone, not on how many there are.

    Attributes:
        settings: what the configuration says.
        zone: makes the answers.
        segments: the networks, by name.
        spans: the subnets of all networks.
        views: what askers see, by the network in which they ask and all their networks.
    """

    def __init__(self, settings: Settings, remote: Remote) -> None:
        self._remote = remote
        self.settings = settings
        self.zone = Zone(settings.domain)
        self.segments: dict[str, Segment] = {}
        self.spans: tuple[Span, ...] = ()
        self.views: dict[tuple[str, ...], View] = {}
        self._sandboxes: dict[str, _Sandbox] = {}
        self._naming = Naming(settings.roots)

    @property
    def sandboxes(self) -> int:
        """How many sandboxes are known."""
        return len(self._sandboxes)

    @property
    def names(self) -> int:
        """How many names are known, each counted once in a network."""
        return sum(len(segment.called) for segment in self.segments.values())

    def share(self) -> int:
        """How many bytes of answers a view may keep."""
        return max(_KEPT_AT_MOST // max(len(self.views), 1), _SHARE_AT_LEAST)

    def network(self, line: NetworkLine) -> None:
        """Take in a network that is there.

        One that has changed costs as much as all sandboxes that it is about: they are taken in
        anew.
        """
        before = self.segments.get(line.name)
        if before is not None and before.line == line:
            return
        inside = [s.line for s in self._sandboxes.values() if _is_about(line.name, s.line)]
        for sandbox in inside:
            self.forget(sandbox.key)
        if before is not None:
            self._host_leaves(before)
        remote = self._remote.network(line.name) if line.cluster and line.names else None
        self.segments[line.name] = segment = Segment(line, remote)
        self.spans = tuple(chain.from_iterable(one.spans for one in self.segments.values()))
        for view in self.views.values():  # what was nobody's may be ours now, and the reverse
            view.clear()
        if line.names:
            self._host_enters(segment)
        for sandbox in inside:
            self.sandbox(sandbox)
        for known in self._sandboxes.values():
            if known.askers and any(part.dns for part in known.line.containers):
                servers = self._servers_of(known.line)
                for asker in known.askers.values():
                    asker.servers = servers

    def remote_changed(self, name: str, uses: Iterable[Use] | None) -> None:
        """In a network, what is called so on other hosts has changed; `None`: any of it may."""
        segment = self.segments.get(name)
        if segment is None or segment.remote is None:
            return
        if uses is None:
            for view in segment.views:
                view.clear()
        else:
            for use in uses:
                _drop(segment, use)

    def sandbox(self, line: SandboxLine) -> None:
        """Take in a sandbox: a new one, or in place of the one with its key."""
        before = self._sandboxes.get(line.key)
        if before is not None:
            if before.line.interfaces == line.interfaces and _same(before.line, line):
                before.line = line
                return
            self.forget(line.key)
        self._sandboxes[line.key] = sandbox = self._read(line)
        for name, presence in sandbox.presences.items():
            segment = self.segments[name]
            for called in sandbox.names:
                group = segment.called.get(called)
                if group is None:
                    group = segment.called[called] = Called()
                group.add(line.key, presence)
                _drop(segment, called)
            for address in presence.texts:
                segment.leases[address] = presence
                _drop(segment, address)
        self._let_ask(sandbox)

    def forget(self, key: str) -> None:
        """The sandbox with that key is gone."""
        sandbox = self._sandboxes.pop(key, None)
        if sandbox is None:
            return
        for name, presence in sandbox.presences.items():
            segment = self.segments[name]
            asker = sandbox.askers.get(name)
            for called in sandbox.names:
                group = segment.called[called]
                group.remove(key)
                if not group.presences:
                    del segment.called[called]
                _drop(segment, called)
            for address in presence.texts:
                if segment.leases.get(address) is presence:
                    del segment.leases[address]
                if asker is not None and segment.askers.get(address) is asker:
                    del segment.askers[address]
                _drop(segment, address)
        for name in sandbox.askers:
            self._leave_view(self._names_of_view(name, sandbox.presences))

    def empty(self, most: int) -> bool:
        """Forget `most` sandboxes; whether there are more.

        One that another has replaced is emptied in slices: all at once keeps questions waiting, and
        what is left to the garbage collector waits for that.
        """
        for key in tuple(islice(self._sandboxes, most)):
            self.forget(key)
        if not self._sandboxes:
            for segment in self.segments.values():
                self._host_leaves(segment)
            self.segments.clear()
        return bool(self._sandboxes)

    def pointers(self, presence: Presence, segment: Segment) -> list[bytes]:
        """What the containers with an address in `segment` are called, in the domain.

        An id that leaves no room for the network and the domain is left out.
        """
        firsts = [self._naming.names_of(part)[:1] for part in presence.containers]
        return self.pointers_of(dict.fromkeys(chain.from_iterable(firsts)), segment)

    def pointers_of(self, names: Iterable[bytes], segment: Segment) -> list[bytes]:
        """The same of containers that people call so."""
        whole = [name + b"." + segment.label for name in names]
        room = _LONGEST_NAME - len(self.zone.wire) - 1
        return [name for name in whole if len(name) <= room]

    def _read(self, line: SandboxLine) -> _Sandbox:
        names = [self._naming.names_of(part) for part in line.containers]
        addresses: dict[str, list[bytes]] = {}
        for interface in line.interfaces:
            segment = self.segments.get(interface.network)
            if segment is not None and segment.line.names:
                packed = [packed_of(address) for address in interface.addresses]
                addresses.setdefault(interface.network, []).extend(packed)
        presences = {
            network: Presence(
                _of_length(4, packed), _of_length(16, packed),
                tuple(map(text_of, packed)), line.containers,
            )
            for network, packed in addresses.items()
        }  # fmt: skip
        return _Sandbox(line, frozenset(chain.from_iterable(names)), presences, {})

    def _let_ask(self, sandbox: _Sandbox) -> None:
        """Let the sandbox ask from its addresses, where the guard vouches for them."""
        line = sandbox.line
        hostnames = _hostnames(line)
        wires = frozenset(
            wire
            for name in hostnames
            for wire in (wire_of(name) + b"\0", wire_of(name) + self.zone.wire)
        )
        servers = self._servers_of(line)
        limits = limits_of(self.segments, line)
        for name, presence in sandbox.presences.items():
            segment = self.segments[name]
            if not segment.guarded:
                continue
            others = sandbox.presences.values()
            sandbox.askers[name] = asker = Asker(
                line.key, self._enter_view(self._names_of_view(name, sandbox.presences)),
                servers=servers, limits=limits, hostnames=hostnames, wires=wires,
                v4=presence.v4 or next((o.v4 for o in others if o.v4), ()),
                v6=presence.v6 or next((o.v6 for o in others if o.v6), ()),
            )  # fmt: skip
            for address in presence.texts:
                segment.askers[address] = asker

    def _servers_of(self, line: SandboxLine) -> tuple[str, ...] | None:
        """The servers that the sandbox named itself; `None` if it may have none of these asked.

        None in a network that it is not in: it would be reached across the networks, by way of this
        process, where the firewall keeps them apart.
        """
        named = next((part.dns for part in line.containers if part.dns), ())
        if not named:
            return ()
        own = {interface.network for interface in line.interfaces}.union(self.settings.foreign)
        others = [segment for name, segment in self.segments.items() if name not in own]
        return (
            tuple([one for one in named if not any(segment.has(one) for segment in others)]) or None
        )

    def _host_enters(self, segment: Segment) -> None:
        """Let the host ask from the gateways, and anybody if there is no guard."""
        view = self._enter_view((segment.line.name,))
        host = Asker(f"host/{segment.line.name}", view, is_host=True)
        segment.askers.update(dict.fromkeys(segment.gateways, host))
        if not segment.guarded:
            segment.anybody = Asker(f"network/{segment.line.name}", view)

    def _host_leaves(self, segment: Segment) -> None:
        segment.askers.clear()
        segment.anybody = None
        if segment.line.names:
            self._leave_view((segment.line.name,))

    def _names_of_view(self, name: str, networks: Iterable[str]) -> tuple[str, ...]:
        return (name, *sorted(other for other in networks if other != name))

    def _enter_view(self, names: tuple[str, ...]) -> View:
        view = self.views.get(names)
        if view is None:
            view = self.views[names] = View([self.segments[name] for name in names], self.share)
            for segment in view.segments:
                segment.views.add(view)
        view.users += 1
        return view

    def _leave_view(self, names: tuple[str, ...]) -> None:
        view = self.views[names]
        view.users -= 1
        if not view.users:
            del self.views[names]
            for segment in view.segments:
                segment.views.discard(view)


def _is_about(network: str, line: SandboxLine) -> bool:
    """Whether the sandbox is in `network`, or held to its lists."""
    return line.policy == network or any(
        interface.network == network for interface in line.interfaces
    )


def _same(before: SandboxLine, after: SandboxLine) -> bool:
    """Whether two lines tell the same of names; ports and pids are none of ours."""
    if (before.egress, before.policy) != (after.egress, after.policy):
        return False
    return _hostnames(before) == _hostnames(after) and [
        (part.root, part.id, part.names, part.dns) for part in before.containers
    ] == [(part.root, part.id, part.names, part.dns) for part in after.containers]


def _of_length(length: int, packed: list[bytes]) -> tuple[bytes, ...]:
    return tuple(address for address in packed if len(address) == length)


def _hostnames(line: SandboxLine) -> dict[bytes, bool]:
    """Its own hostnames, and whether each counts whatever others are called.

    A container that joined the sandbox chose its hostname itself. It must not capture a name that
    the others ask for: so it counts only without a dot, and if nobody else is called so. One of
    another root, or of a later time, may have the id of that for which the sandbox was made.
    """
    hostnames: dict[bytes, bool] = {}
    founder = next((p for p in line.containers if (p.id, p.pid) == (line.id, line.pid)), None)
    for part in line.containers:
        name = part.hostname.encode()
        if not name:
            continue
        if part is founder:
            hostnames[name] = True
        elif b"." not in name:
            hostnames.setdefault(name, False)
    return hostnames


def _drop(segment: Segment, use: bytes | str) -> None:
    for view in segment.views:
        view.drop(use)
