"""The lease store against a model of it: plain lists, and rules that fit on a page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from watcher.containers.ports import merged
from watcher.model.address import Address, Subnet
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest, WatcherError
from watcher.model.network import Network
from watcher.model.request import PortMap, Request
from watcher.model.sandbox import Sandbox
from watcher.store.leases import LeaseStore

NETWORKS = (
    Network(name="four", subnets=(IPv4Network("10.0.0.0/29"),)),
    Network(name="both", subnets=(IPv4Network("10.1.0.0/29"), IPv6Network("fd00::/125"))),
)
ROOT = "/run/runc"
FIXED = [IPv4Address(f"10.0.0.{n}") for n in range(9)]

ids = st.sampled_from(["a", "b", "c", "d"])
roots = st.sampled_from([ROOT, "/run/other"])
hosts = st.sampled_from([None, "0.0.0.0", "127.0.0.1", "::", "::1"])
ports = st.lists(
    st.builds(
        lambda host, number, shift, length: PortMap(
            "tcp", None if host is None else ip_address(host), number, number + shift, length
        ),
        hosts,
        st.integers(1, 3) | st.integers(4, 300),
        st.integers(80, 81),
        st.sampled_from([1, 1, 1, 2, 16, 17, 300]),
    ),
    max_size=2,
    unique=True,
).map(merged)


@dataclass
class Pool:
    """One network's addresses of one family."""

    fresh: list[Address]
    held: dict[Address, int] = field(default_factory=dict)
    had: dict[Address, tuple[str, str]] = field(default_factory=dict)
    """By whom each freed address was had, the one freed last at the end."""

    def usable(self) -> set[Address]:
        return {*self.fresh, *self.held, *self.had}

    def take(
        self, who: tuple[str, str], fixed: Address | None, adopt: Sequence[Address]
    ) -> Address | None:
        free = self.usable() - self.held.keys()
        if fixed is not None:
            return fixed if fixed in free else None
        last = [address for address, owner in reversed(self.had.items()) if owner == who]
        choice = [*(a for a in adopt if a in free), *last, *self.fresh, *self.had]
        return choice[0] if choice else None


@dataclass
class Room:
    """A sandbox."""

    key: int
    founder: tuple[str, str]
    init: Process
    addresses: dict[tuple[str, int], Address]
    members: dict[tuple[str, str], tuple[Process, tuple[PortMap, ...]]]


def hosts_overlap(one: PortMap, other: PortMap) -> bool:
    """Whether a packet to a loopback or to another address of either family fits both."""

    def fits(port: PortMap) -> set[str]:
        everything = {"127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"}
        if port.host_ip is None:
            return everything
        if port.host_ip.is_unspecified:
            return {text for text in everything if (":" in text) == (port.host_ip.version == 6)}
        return {str(port.host_ip)}

    return bool(fits(one) & fits(other))


def clash(one: PortMap, other: PortMap, *, same: bool) -> bool:
    """Whether a packet fits both, and is led to different ports, or to different sandboxes."""
    leads = {single.host_port: single.port for single in one.singles()}
    return hosts_overlap(one, other) and any(
        single.host_port in leads and not (same and leads[single.host_port] == single.port)
        for single in other.singles()
    )


class StoreAndModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(mkdtemp(prefix="watcher-leases-"))
        self.store = LeaseStore.open(self.directory / "leases.db")
        self.rooms: dict[int, Room] = {}
        self.pools: dict[tuple[str, int], Pool] = {
            (network.name, subnet.version): Pool(self.all_of(subnet))
            for network in NETWORKS
            for subnet in network.subnets
        }
        self.pid = 0
        self.last_key = 0

    @staticmethod
    def all_of(subnet: Subnet) -> list[Address]:
        end = subnet.num_addresses - (subnet.version == 4)
        return [subnet.network_address + offset for offset in range(2, end)]

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    def container(self, root: str, name: str) -> Container:
        self.pid += 1
        init = Process(self.pid, self.pid)
        return Container(root, name, init, "", {}, Namespace.OWN, "", 1000 + self.pid)

    def ports_fit(self, key: int, who: tuple[str, str], asked: Sequence[PortMap]) -> bool:
        for room in self.rooms.values():
            for member, (_, theirs) in room.members.items():
                if member == who:
                    continue
                if any(clash(a, b, same=room.key == key) for a in asked for b in theirs):
                    return False
        return not any(clash(one, other, same=True) for one in asked for other in asked)

    def forget_member(self, who: tuple[str, str]) -> None:
        for room in self.rooms.values():
            room.members.pop(who, None)

    @rule(
        root=roots,
        name=ids,
        networks=st.lists(st.sampled_from(NETWORKS), unique_by=lambda n: n.name),
        fixed=st.none() | st.sampled_from(FIXED),
        asked=ports,
        adopt=st.lists(st.sampled_from(FIXED), max_size=2),
    )
    def found(
        self,
        root: str,
        name: str,
        networks: list[Network],
        fixed: Address | None,
        asked: tuple[PortMap, ...],
        adopt: list[Address],
    ) -> None:
        self.begin(root, name, networks, fixed, asked, adopt)

    def begin(
        self,
        root: str,
        name: str,
        networks: list[Network],
        fixed: Address | None,
        asked: tuple[PortMap, ...],
        adopt: list[Address],
    ) -> None:
        container = self.container(root, name)
        who = (root, name)
        got: dict[tuple[str, int], Address | None] = {
            (network.name, subnet.version): self.pools[network.name, subnet.version].take(
                who, fixed if fixed is not None and fixed in subnet else None, adopt
            )
            for network in networks
            for subnet in network.subnets
        }
        placed = fixed is None or fixed in got.values()
        request = Request(ports=asked, addresses=() if fixed is None else (fixed,))
        given = {"four": adopt}
        if not placed or None in got.values() or not self.ports_fit(0, who, asked):
            with pytest.raises(InvalidRequest):
                self.store.create_sandbox(container, networks, request, given)
            return
        made = self.store.create_sandbox(container, networks, request, given)
        assert made == self.store.by_key(made.key)
        assert made.key > self.last_key
        self.last_key = made.key
        self.forget_member(who)
        taken = {where: address for where, address in got.items() if address is not None}
        for where, address in taken.items():
            pool = self.pools[where]
            pool.had.pop(address, None)
            if address in pool.fresh:
                pool.fresh.remove(address)
            pool.held[address] = made.key
        self.rooms[made.key] = Room(
            made.key, who, container.init, taken, {who: (container.init, asked)}
        )
        assert made == self.store.by_key(made.key)

    @rule(name=st.sampled_from("abcdefgh"), fixed=st.none() | st.sampled_from(FIXED[2:7]))
    def come_and_go(self, name: str, fixed: Address | None) -> None:
        where = ("four", 4)
        if self.pools[where].take((ROOT, name), fixed, ()) is None:
            return
        self.begin(ROOT, name, [NETWORKS[0]], fixed, (), [])
        self.end(self.last_key)

    @precondition(lambda self: self.rooms)
    @rule(data=st.data(), root=roots, name=ids, asked=ports, share=st.none() | ids)
    def join(
        self,
        data: st.DataObject,
        root: str,
        name: str,
        asked: tuple[PortMap, ...],
        share: str | None,
    ) -> None:
        room = self.rooms[data.draw(st.sampled_from(sorted(self.rooms)))]
        container = self.container(root, name)
        who = (root, name)
        request = Request(share=share, ports=asked)
        if not self.ports_fit(room.key, who, asked):
            with pytest.raises(InvalidRequest):
                self.store.join(container, room.key, request)
            return
        made = self.store.join(container, room.key, request)
        if who not in room.members:
            self.forget_member(who)
        room.members[who] = (container.init, asked)
        assert made == self.store.sandbox_of(root, name)
        assert made == self.store.join(container, room.key, request)
        member = made.member(container)
        assert member is not None
        assert member.asked == request

    @rule(root=roots, name=ids)
    def leave(self, root: str, name: str) -> None:
        self.store.leave(root, name)
        self.forget_member((root, name))

    @precondition(lambda self: self.rooms)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.rooms))))

    def end(self, key: int) -> None:
        room = self.rooms.pop(key)
        self.store.release(key)
        for where, address in room.addresses.items():
            del self.pools[where].held[address]
            self.pools[where].had[address] = room.founder

    @rule()
    def end_of_a_sandbox_that_is_not(self) -> None:
        self.store.release(self.last_key + 1)
        with pytest.raises(WatcherError):
            self.store.join(self.container("/r", "x"), self.last_key + 1, Request())

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = LeaseStore.open(self.directory / "leases.db")

    def pins(self, room: Room) -> tuple[str, ...]:
        names = dict.fromkeys([room.founder[1], *(name for _, name in room.members)])

        def owner(name: str) -> int:
            joined = [r.key for r in self.rooms.values() if name in {n for _, n in r.members}]
            return max(joined or [r.key for r in self.rooms.values() if r.founder[1] == name])

        return tuple(name for name in names if owner(name) == room.key)

    @invariant()
    def they_agree(self) -> None:
        sandboxes = self.store.sandboxes()
        assert [sandbox.key for sandbox in sandboxes] == list(self.rooms)
        for sandbox, room in zip(sandboxes, self.rooms.values(), strict=True):
            self.agree(sandbox, room)
            assert self.store.by_key(sandbox.key) == sandbox
            assert self.store.sandbox(sandbox.netns) == sandbox
            for root, name in room.members:
                both = self.store.sandboxes_of(root, name, sandboxes[-1].netns)
                assert both == (sandbox, sandboxes[-1])
            assert all(self.store.sandbox_named(name) == sandbox for name in sandbox.pins)

    def agree(self, sandbox: Sandbox, room: Room) -> None:
        assert (sandbox.id, sandbox.init) == (room.founder[1], room.init)
        assert {
            (link.network, address.version): address.ip
            for link in sandbox.interfaces
            for address in link.addresses
        } == room.addresses
        assert {
            (member.root, member.id): (member.init, member.ports) for member in sandbox.members
        } == room.members
        assert [(m.root, m.id) for m in sandbox.members] == list(room.members)
        assert sandbox.pins == self.pins(room)

    @invariant()
    def nothing_is_held_twice(self) -> None:
        links = [link for sandbox in self.store.sandboxes() for link in sandbox.interfaces]
        held = [(link.network, address.ip) for link in links for address in link.addresses]
        macs = [(link.network, link.mac) for link in links]
        assert len(set(held)) == len(held)
        assert len(set(macs)) == len(macs)

    @invariant()
    def the_file_is_whole(self) -> None:
        db = self.store._database.db
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert not db.in_transaction


TestStoreAndModel = StoreAndModel.TestCase
TestStoreAndModel.settings = settings(max_examples=40, stateful_step_count=40)
