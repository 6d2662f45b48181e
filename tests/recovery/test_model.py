"""Whatever is done in whatever order, the host is that of the containers that live.

Random sequences of what users, runc and accidents do, on a real host with a real runc; after each
that settles, the promise of README's "After an accident" is checked against a model: who lives,
what each asked for, and who had it first.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.support import kernel
from tests.support.closed import closed
from tests.support.dialled import dial
from tests.support.host import BEYOND, UPLINK, Container, Host, Service
from tests.support.refused import REJECTED, attempt
from tests.support.traffic import Answer, entered
from tests.support.waiting import LATENCY_FREE_NO, eventually

pytestmark = pytest.mark.accident

EXAMPLES: Final = int(os.environ.get("WATCHER_MODEL_EXAMPLES", "0"))
"""0 is CI's few, always the same ones; `make soak` has many, and others each time."""

STEPS: Final = 25 if EXAMPLES else 14
NAMES: Final = ("a", "b", "c", "d")
FIXED: Final = "172.19.0.50"
STRANGER: Final = "192.0.2.9"
"""Another address of the machine beyond, which no list has."""
BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'
"""A second network, to connect containers to."""

ASKS: Final[Mapping[str, dict[str, str]]] = {
    "nothing": {},
    "8080": {"io.watcher.ports": "8080:80"},
    "8081": {"io.watcher.ports": "8081:80"},
    "free": {"io.watcher.ports": "80"},
    "fixed": {"io.watcher.ip": FIXED},
    "walled": {"io.watcher.egress": f"{BEYOND}:443/tcp"},
    "walled too": {"io.watcher.egress": f"{BEYOND}:443/tcp", "io.watcher.egress-bandwidth": "1G"},
    "entered": {"io.watcher.ports": "8082:80", "io.watcher.ingress": f"{BEYOND}/32"},
    "bounded": {"io.watcher.connections": "500", "io.watcher.ingress-bandwidth": "1G"},
    "none": {"io.watcher.network": "none"},
    "bad ports": {"io.watcher.ports": "eighty:80"},
    "bad address": {"io.watcher.ip": "10.9.9.9"},
    "bad network": {"io.watcher.network": "nowhere"},
    "bad key": {"io.watcher.prots": "8080:80"},
}
PORTS: Final = {"8080": 8080, "8081": 8081, "entered": 8082}
"""The ports of the host that each names."""

OWN: Final[Mapping[str, set[str]]] = {
    "walled": {"limited4", "egress4"},
    "walled too": {"limited4", "egress4"},
    "entered": {"received4", "ingress4"},
    "bounded": {"connections4"},
}
"""The sets and maps that have the address of who has asked for that."""

RECEIVES, SENDS = ("bounded",), ("walled too",)
"""Whose way in has a bucket, and whose way out."""

FOR_ONE: Final = ("8080", "8081", "entered", "fixed")
"""What only one can have at a time, or those in one namespace."""

WALLED: Final = ("walled", "walled too")
"""Those that are held to a list of destinations."""

LISTS: Final = ("egress", "ingress")
"""So many different lists there are."""

OF_LIMITS: Final = {name for names in OWN.values() for name in names}

LATER: Final = (9090, 9091)
"""Ports that are published while a container runs."""

DAMAGES: Final[Mapping[str, str]] = {
    "veth": "ip link delete {veth}",
    "eth0": "{inside} ip link delete eth0",
    "address": "{inside} ip address delete {address}/16 dev eth0",
    "route": "{inside} ip route delete default",
    "pin": "umount {pin} && rm {pin}",
    "rule": "nft flush chain inet watcher prerouting",
    "table": "nft delete table inet watcher",
    "elements": "nft flush map inet watcher port4",
    "ruleset": "nft flush ruleset",
    "bridge": "ip link delete netns0",
    "closed": "ip rule delete pref 0 iif netns0",
    "arp": "nft destroy table arp watcher",
    "list": "nft flush map inet watcher egress4",
    "shaper": "tc qdisc delete dev {veth} root",
}
OPENING: Final = ("closed", "list")
"""After these, until they are healed, what is held to a list may be open."""

OF_LINKS: Final = ("veth", "eth0")
"""After these, a link is another one."""


@dataclass
class Box:
    """A container that lives.

    Attributes:
        container: it.
        ask: what it asked for, of `ASKS`.
        founder: whose namespace it is in: its own, as a rule.
        started: whether it is more than created.
        paused: whether it is paused.
        chosen: the port that was chosen for it, once it has one.
        published: those of :data:`LATER` that it has.
    """

    container: Container
    ask: str
    founder: str
    started: bool
    paused: bool = False
    chosen: int | None = None
    published: set[int] = field(default_factory=set)

    @property
    def ports(self) -> set[int]:
        """The ports of the host that lead to port 80 of its room."""
        named = {PORTS[self.ask]} if self.ask in PORTS else set()
        return named | self.published | ({self.chosen} if self.chosen else set())


@dataclass
class Room:
    """What a namespace had when all was well: it keeps it, whatever happens.

    Attributes:
        founder: the one that it was made for, who may have gone since.
        ask: what that one asked for: its limits stay.
        members: the names of those in it.
        address: of `eth0`.
        index: the number of the host's end; 0 if that was removed since.
    """

    founder: Container
    ask: str
    members: list[str] = field(default_factory=list)
    address: str = ""
    index: int = 0


class Model(RuleBasedStateMachine):
    """One host, what is done there, and what should be."""

    rootfs: Path

    def __init__(self) -> None:
        super().__init__()
        self.host = Host(self.rootfs, BACK)
        self.host.beyond.ip("addr", "add", f"{STRANGER}/24", "dev", "uplink")
        self.host.beyond.serve(tcp=(80, 443))
        self.service: Service | None = None
        self.boxes: dict[str, Box] = {}
        self.exited: set[str] = set()
        self.rooms: dict[int, Room] = {}
        """By number of the namespace, as it was when all was well last."""
        self.connected: dict[int, str] = {}
        """By number of the namespace, for whom it was connected to a second network."""
        self.forgotten = False
        """Whether the store has been lost since somebody looked."""
        self.opened = False
        """Whether what keeps lists in force was damaged, and nobody has looked since."""

    def teardown(self) -> None:
        """Everybody goes, and nothing is left."""
        try:
            self.settle(sync=True)
            for name in [*self.boxes, *self.exited]:
                if name in self.boxes and self.boxes[name].paused:
                    self.host.resume(name)
                self.host.delete(name)
            self.boxes.clear()
            self.connected.clear()
            self.settle(sync=True)
            self.host.empty()
            if self.service is not None:
                assert "Traceback" not in self.service.log_text()
        except BaseException as error:
            error.add_note(self.host.logs())
            raise
        finally:
            self.host.close()

    # --- what is done --------------------------------------------------------------------------

    def free(self, name: str) -> bool:
        return name not in self.boxes and name not in self.exited

    def launch(
        self, verb: str, name: str, ask: str, of: str | None = None, *, moved: bool = False
    ) -> None:
        """A container is run or created; where the gate is open, what cannot be met is refused.

        `moved`: it shares by its annotation alone, and so by itself where no gate is.
        """
        joined: dict[str, Any] = {}
        annotations = ASKS[ask]
        if of is not None and moved:
            annotations = {**annotations, "io.watcher.share": of}
        elif of is not None:
            joined["netns_path"] = f"/proc/{self.boxes[of].container.pid}/ns/net"
        self.host.bundle(name, annotations=annotations, **joined)
        options = ("--detach",) if verb == "run" else ()
        done = self.host.launch(verb, name, *options, check=False)  # type: ignore[arg-type]
        can = not ask.startswith("bad") and self.holder(ask, of) is None
        assert (done.returncode == 0) == (can or self.service is None), (name, ask, done)
        if done.returncode == 0:
            if moved and self.service is None:
                ask, of = "bad share", None
            founder = name if of is None else self.boxes[of].founder
            box = Box(self.host.container(name), ask, founder, started=verb == "run")
            self.boxes[name] = box
            if of is None:
                box.container.serve(tcp=(80,))
        self.settle(sync=of is not None)

    def holder(self, ask: str, of: str | None) -> str | None:
        """Who has what only one can have, or those in one room: who is not in that of `of`."""
        others = [n for room in self.rooms.values() if of not in room.members for n in room.members]
        return next(
            (n for n in others if n in self.boxes and ask in FOR_ONE and self.boxes[n].ask == ask),
            None,
        )

    @rule(
        verb=st.sampled_from(["run", "create"]),
        name=st.sampled_from(NAMES),
        ask=st.sampled_from(sorted(ASKS)),
    )
    def new(self, verb: str, name: str, ask: str) -> None:
        if self.free(name):
            self.launch(verb, name, ask)

    @rule(
        verb=st.sampled_from(["run", "create"]),
        name=st.sampled_from(NAMES),
        of=st.sampled_from(NAMES),
        ask=st.sampled_from(["nothing", "8080", "8081", "free", "bad ports"]),
        moved=st.booleans(),
    )
    def share(self, verb: str, name: str, of: str, ask: str, moved: bool) -> None:
        attached = [member for room in self.rooms.values() for member in room.members]
        if self.free(name) and of in attached and of in self.boxes:
            self.launch(verb, name, ask, of, moved=moved)

    def one(self, data: st.DataObject, *, started: bool | None = None) -> str | None:
        """One of the live containers that are not paused, if any."""
        names = [
            name
            for name, box in sorted(self.boxes.items())
            if not box.paused and started in (None, box.started)
        ]
        return data.draw(st.sampled_from(names)) if names else None

    def gone(self, name: str) -> None:
        """A container lives no more; the number of its namespace may soon be another's."""
        self.boxes.pop(name, None)
        for inode, room in list(self.rooms.items()):
            room.members = [member for member in room.members if member != name]
            if self.connected.get(inode) == name:
                del self.connected[inode]
            if not room.members:
                del self.rooms[inode]

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        if name := self.one(data, started=False):
            self.host.start(name)
            self.boxes[name].started = True
            self.settle()

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        if name := self.one(data):
            self.host.kill(name)
            self.gone(name)
            self.exited.add(name)
            self.settle()

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        names = sorted(self.exited | {n for n, box in self.boxes.items() if not box.paused})
        if names:
            name = data.draw(st.sampled_from(names))
            self.host.delete(name)
            self.exited.discard(name)
            self.gone(name)
            self.settle()

    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        if name := self.one(data, started=True):
            self.host.pause(name)
            self.boxes[name].paused = True
            self.settle()

    @rule()
    def resume(self) -> None:
        for name, box in self.boxes.items():
            if box.paused:
                self.host.resume(name)
                box.paused = False
        self.settle()

    @rule(how=st.sampled_from(["start", "stop", "kill -9"]))
    def serve(self, how: str) -> None:
        if self.service is None:
            self.service = self.host.service()
        elif how == "stop":
            self.service.stop()
            self.service = None
        elif how == "kill -9":
            self.service.kill9()
            self.service = None
        self.settle()

    @precondition(lambda self: self.rooms)
    @rule(data=st.data(), port=st.sampled_from(LATER), back=st.booleans())
    def publish(self, data: st.DataObject, port: int, back: bool) -> None:
        """Without a service, the lease store may be lost, and knows nobody."""
        names = sorted(n for room in self.rooms.values() for n in room.members if n in self.boxes)
        if not names:
            return
        name = data.draw(st.sampled_from(names))
        box = self.boxes[name]
        command = "unpublish" if back else "publish"
        done = self.host.watcher(command, name, f"{port}:80", check=False)
        assert "Traceback" not in done.stderr, done.stderr
        inside = next(room for room in self.rooms.values() if name in room.members).members
        held = any(port in b.published for n, b in self.boxes.items() if n not in inside)
        can = port in box.published if back else not held
        assert (done.returncode == 0) <= can, done
        assert (done.returncode == 0) == can or self.service is None, done
        if done.returncode == 0:
            (box.published.discard if back else box.published.add)(port)
        self.settle()

    @rule()
    def sync(self) -> None:
        self.settle(sync=True)

    @precondition(lambda self: self.rooms and not self.forgotten)
    @rule(verb=st.sampled_from(["connect", "disconnect"]), data=st.data())
    def change(self, verb: str, data: st.DataObject) -> None:
        """A second network for a container, or no more."""
        inode = data.draw(st.sampled_from(sorted(self.rooms)))
        name = data.draw(st.sampled_from(self.rooms[inode].members))
        can = self.connected.get(inode) == (None if verb == "connect" else name)
        done = self.host.watcher(verb, name, "back", check=False)
        assert (done.returncode == 0) == can, done
        if can and verb == "connect":
            self.connected[inode] = name
        elif can:
            del self.connected[inode]
        self.settle()

    @precondition(lambda self: self.rooms)
    @rule(data=st.data(), what=st.sampled_from(sorted(DAMAGES)))
    def damage(self, data: st.DataObject, what: str) -> None:
        inode = data.draw(st.sampled_from(sorted(self.rooms)))
        room = self.rooms[inode]
        if what in OF_LINKS:
            room.index = 0
        self.opened = self.opened or what in OPENING
        self.host.command(
            "sh",
            "-c",
            DAMAGES[what].format(
                veth=room.founder.veth,
                address=room.address,
                pin=self.host.netns_dir / data.draw(st.sampled_from(room.members)),
                inside=f"nsenter --net={room.founder.place.file}",
            ),
            check=False,  # there may be nothing left to remove
        )
        self.settle()

    @rule(which=st.sampled_from(["leases.db", "leases.db*", "leases.db-*"]))
    def forget(self, which: str) -> None:
        """The database is removed, or a part of it; without a service, what is left is whole."""
        self.forgotten = True
        if self.service is None:
            which = "leases.db*"
        for file in list(self.host.state_dir.glob(which)):
            file.unlink(missing_ok=True)
        self.settle()

    # --- what should be ------------------------------------------------------------------------

    def settle(self, *, sync: bool = False) -> None:
        """Where somebody looks, all is right after a while; what is closed is so all the time."""
        if not self.opened:
            self.nothing_is_open()
        if self.service is not None or sync:
            self.forgotten = self.opened = False
        if self.service is not None:
            eventually(self.is_right_by_now)
        if sync:
            done = self.host.watcher("sync", check=False)
            assert "Traceback" not in done.stderr, done.stderr
            self.is_right()
            again = self.host.watcher("sync", check=False)
            assert again.stdout == "nothing to do\n", again
            assert closed(self.host) == self.to_close()
            assert len(self.rows("SELECT document FROM list")) <= len(LISTS)

    def is_right_by_now(self) -> bool:
        try:
            return self.is_right()
        except sqlite3.DatabaseError as error:
            raise AssertionError("somebody makes the lease store anew just now") from error
        except StopIteration as error:
            raise AssertionError("it has changed since the line before") from error

    def is_right(self) -> bool:
        rooms = self.attached()
        self.nobody_waits_in_vain(rooms)
        host = self.host
        seconds = {rooms[inode].founder.veth.replace("v0-", "v1-") for inode in self.connected}
        assert host.veths() == {room.founder.veth for room in rooms.values()} | seconds
        sending = [room for room in rooms.values() if room.ask in SENDS]
        assert {name for name in host.here.links() if name.startswith("netnsi")} == {
            veth.replace("netnsv", "netnsi")
            for room in sending
            for veth in (room.founder.veth, room.founder.veth.replace("v0-", "v1-"))
            if veth in host.veths()
        }
        names = [name for room in rooms.values() for name in (room.founder.id, *room.members)]
        assert host.pins() == set(names)
        for inode, room in rooms.items():
            self.is_whole(inode, room)
        self.chosen(rooms)
        assert sorted(e for e in host.elements() if e.startswith("port4:")) == sorted(
            line for room in rooms.values() for line in self.elements(room)
        )
        leases = host.leases()
        assert self.held() == sorted(
            (name, address)
            for room in rooms.values()
            for name in OWN.get(room.ask, ())
            for address, founder in leases.items()
            if address == room.address
            or (address.startswith("172.22.") and founder == room.founder.id)
        )
        assert closed(host) >= self.to_close(rooms)
        self.answers(rooms)
        self.rooms = rooms
        self.nothing_is_open()
        return True

    def attached(self) -> dict[int, Room]:
        """The rooms of all that the lease store takes for attached, who all live."""
        rooms: dict[int, Room] = {}
        for name in self.rows("SELECT id FROM member"):
            assert name in self.boxes, f"{name} does not live"
            place = self.boxes[name].container.place
            room = rooms.get(place.inode)
            if room is None:
                before = self.rooms.get(place.inode)
                box = self.boxes[name]
                made = (box.container, box.ask) if before is None else (before.founder, before.ask)
                room = rooms[place.inode] = Room(*made)
            if self.boxes[name].founder == name and place.inode not in self.rooms:
                room.founder, room.ask = self.boxes[name].container, self.boxes[name].ask
            room.members.append(name)
        leases = self.host.leases()
        second = sorted(name for address, name in leases.items() if address.startswith("172.22."))
        assert second == sorted(rooms[inode].founder.id for inode in self.connected)
        first = {a: name for a, name in leases.items() if a.startswith("172.19.")}
        assert len(first) == len(rooms)
        for address, name in first.items():
            next(
                r for r in rooms.values() if r.founder.id == name and not r.address
            ).address = address
        return rooms

    def nobody_waits_in_vain(self, rooms: Mapping[int, Room]) -> None:
        """Whoever had a network has it still; whoever has none could have none."""
        names = {name for room in rooms.values() for name in room.members}
        had = {name for room in self.rooms.values() for name in room.members}
        for name, box in self.boxes.items():
            if box.ask.startswith("bad") or box.ask == "none":
                assert name not in names
            elif name not in names:
                assert name not in had, f"{name} has lost its network"
                others = [n for n in names if self.boxes[n].ask == box.ask and box.ask in FOR_ONE]
                assert others, f"{name} has no network"
        failed = set(self.rows("SELECT id FROM failure WHERE NOT refused"))
        assert failed == {n for n, box in self.boxes.items() if box.ask != "none"} - names

    def is_whole(self, inode: int, room: Room) -> None:
        """A sandbox has all that it should have, and what it had before."""
        place = self.boxes[room.members[0]].container.place
        inside = kernel.view(place.netns)
        length = 32 if room.ask in WALLED else 16
        assert f"eth0 {room.address}/{length}" in inside, inside
        assert any(line.startswith("route 2 default/0 via 172.19.0.1") for line in inside)
        second = [line for line in inside if line.startswith("eth1 ")]
        policies = [line for line in inside if " table 100 " in line or " table 101 " in line]
        assert bool(second) == bool(policies) == (inode in self.connected), inside
        link = next(
            line
            for line in kernel.view(self.host.here.netns)
            if line.startswith(f"{room.founder.veth} ")
        )
        assert "up=True" in link, link
        assert "master=netns0" in link, link
        assert ("qdisc=tbf" in link) == (room.ask in RECEIVES), link
        seen = kernel.view(self.host.here.netns)
        filters = [x for x in seen if x.startswith(room.founder.veth) and " ingress " in x]
        assert len(filters) == 1 + (room.ask in SENDS), filters
        assert any(" ingress 1 bpf 1 " in x for x in filters), filters
        room.index = self.index_of(room.founder.veth)
        before = self.rooms.get(inode)
        if before is not None:
            assert room.address == before.address
            assert before.index in (0, room.index), "the link is another one"
        for name in (room.founder.id, *room.members):
            assert self.host.pin_inode(name) == inode or self.is_newer(name, inode)

    def is_newer(self, name: str, inode: int) -> bool:
        """Whether a newer container of that name has its pin."""
        box = self.boxes.get(name)
        return box is not None and box.container.place.inode != inode

    def index_of(self, veth: str) -> int:
        with entered(self.host.here.netns):
            return socket.if_nametoindex(veth)

    def elements(self, room: Room) -> list[str]:
        """The elements of nftables' sets and maps that are for a room."""
        ports = {port for name in room.members for port in self.boxes[name].ports}
        return [
            f"port4: {json.dumps([{'concat': ['tcp', p]}, {'concat': [room.address, 80]}])}"
            for p in ports
        ]

    def held(self) -> list[tuple[str, str]]:
        """The sets and maps of limits, with each address that one has an element of."""
        found = []
        for item in self.host.nft_list():
            for kind, entry in item.items():
                if kind in ("set", "map") and entry["name"] in OF_LIMITS:
                    for element in entry.get("elem", ()):
                        key = element[0] if kind == "map" else element
                        address = key["concat"][0] if isinstance(key, dict) else key
                        found.append((entry["name"], address))
        return sorted(found)

    def to_close(self, rooms: Mapping[int, Room] | None = None) -> set[str]:
        """The bridges in which somebody is held to a list."""
        rooms = self.rooms if rooms is None else rooms
        held = [n for n, room in rooms.items() if room.ask in (*WALLED, "entered")]
        return {b for n in held for b in ("netns0", *["back0"] * (n in self.connected))}

    def nothing_is_open(self) -> None:
        """Nobody who is held to a list gets out by it, or is got at."""
        for room in self.rooms.values():
            alive = [self.boxes[name] for name in room.members if name in self.boxes]
            if alive and room.ask in WALLED:
                inside = alive[0].container.place
                assert dial(inside, BEYOND, 80, timeout=LATENCY_FREE_NO) != "open"
            for port in {port for box in alive for port in box.ports if room.ask == "entered"}:
                answer = attempt(
                    self.host.beyond, UPLINK, port, source=STRANGER, timeout=LATENCY_FREE_NO
                )
                assert answer in (REJECTED[4], "ECONNREFUSED", "nothing"), answer

    def chosen(self, rooms: Mapping[int, Room]) -> None:
        """Every chosen port is still that which was chosen at first."""
        for name in (name for room in rooms.values() for name in room.members):
            box = self.boxes[name]
            if box.ask == "free":
                query = "SELECT host_port FROM claim JOIN member ON number = member WHERE id = '{}'"
                ports = {int(port) for port in self.rows(query.format(name))} - set(LATER)
                box.chosen = box.chosen or min(ports, default=None)
                assert ports == {box.chosen}, (name, ports, box.chosen)

    def answers(self, rooms: Mapping[int, Room]) -> None:
        """Every published port leads to the server of the room that published it."""
        for room in rooms.values():
            for name in room.members:
                for port in sorted(self.boxes[name].ports):
                    answer = self.host.beyond.reach(UPLINK, port)
                    assert answer == Answer(room.founder.id, BEYOND), (name, answer)
            if room.ask in WALLED:
                inside = self.boxes[room.members[0]].container.place
                assert dial(inside, BEYOND, 443) == "open"

    def rows(self, query: str) -> list[str]:
        """The first column of what the lease store has."""
        file = self.host.state_dir / "leases.db"
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return [row[0] for row in database.execute(query)]


@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_the_host_is_that_of_the_containers_that_live(rootfs: Path) -> None:
    class OnThisMachine(Model):
        pass

    OnThisMachine.rootfs = rootfs
    run_state_machine_as_test(
        OnThisMachine,
        settings=settings(
            max_examples=EXAMPLES or 4,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            database=None,
            phases=[Phase.generate],  # to shrink a history of a real host would take hours
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )
