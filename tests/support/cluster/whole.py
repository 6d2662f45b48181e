"""Three hosts with all that runs on them, and an etcd: what faults happen to.

It has the words in which the table of faults in docs/cluster.md is checked: packets, new
containers, fixed addresses, names.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from tests.support.cluster.cluster import Cluster
from tests.support.cluster.hosts import NETWORK as NETWORK_CONFIG
from tests.support.cluster.hosts import SUBNETS, ClusterHost
from tests.support.cluster.played import addresses
from tests.support.cluster.underlay import FAR, Link
from tests.support.host import Container, Host
from tests.support.name_service import NameService, ask
from tests.support.name_service import addresses as addresses_of
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, PATIENCE, eventually
from watcher.cluster.endpoints.reading import Hosts, read
from watcher.model.cluster import Block
from watcher.store.leases import LeaseStore

PORT: Final = 80
GATEWAY: Final = "172.19.0.1"
PREFIX: Final = "/watcher/v1"
_NOWHERE: Final = 200
"""The third byte of the first address that is tried where one of no host is wanted."""


@dataclass(frozen=True)
class Dead:
    """A host without power.

    Attributes:
        name, link, number, base: as it had them.
        disk: what was in its `state_dir`.
    """

    name: str
    link: Link
    number: int
    base: Path
    disk: Path


class Whole:
    """See the module's docstring.

    Attributes:
        cluster: the hosts `a` and `b` on one link, and `c` behind the router.
        boxes: a container on each of them, which serves.
        names: the name service of each.
        broken: whether a test has failed with it.

    Args:
        rootfs: as :class:`Host` has it.
        members: how many etcd has.
    """

    def __init__(self, rootfs: Path, members: int = 1) -> None:
        self.broken = False
        self._made: list[Host] = []
        self._directory = Path(mkdtemp(prefix=f"watcher-test-{os.getpid()}-disks-"))
        self._numbers = itertools.count(1)
        self.boxes: dict[str, Container] = {}
        self.names: dict[str, NameService] = {}
        self.cluster = Cluster(rootfs, self._made)
        try:
            self.cluster.start_etcd(members)
            self.cluster.add_three()
            for name, host in self.cluster.hosts.items():
                host.join()
                self.names[name] = NameService(host)
            for name, host in self.cluster.hosts.items():
                host.provided()
                self.box(name)
            self.well()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> ClusterHost:
        return self.cluster.hosts[name]

    def close(self) -> None:
        """Ends all of it."""
        for host in self._made:
            host.close()
        self.cluster.close()
        shutil.rmtree(self._directory)

    def logs(self) -> str:
        """What all services of all hosts have logged."""
        return "".join(f"--- {name}\n{host.logs()}" for name, host in self.cluster.hosts.items())

    # --- hosts that come and go ---------------------------------------------------------------

    def die(self, name: str) -> Dead:
        """Has a host lose its power: all of it ends at once, but for what is on its disk."""
        host = self[name]
        host.serving.kill9()
        host.speaking.kill9()
        disk = self._directory / f"disk-{next(self._numbers)}"
        dead = Dead(name, host.station.link, host.station.number, host.base, disk)
        shutil.copytree(host.state_dir, disk)
        self.forget(name)
        del self.boxes[name], self.names[name]
        return dead

    def returns(self, dead: Dead, *, store: bool = True) -> ClusterHost:
        """Has it start again, with its lease store or without; nothing of its containers runs."""
        host = self.cluster.add(dead.name, dead.link, number=dead.number, base=dead.base)
        if store:
            shutil.copytree(dead.disk, host.state_dir)
        host.join()
        self.names[dead.name] = NameService(host)
        return host

    @contextlib.contextmanager
    def more(
        self, name: str, config: str = NETWORK_CONFIG, *, called: str = "", address: str = ""
    ) -> Iterator[ClusterHost]:
        """One more host, on a machine of its own, which is there for a while."""
        host = self.cluster.add(name, FAR, config, called=called, address=address)
        machine = host.base / "machine-id"
        machine.write_text(f"{name:0>32}\n")
        host.command("mount", "--bind", str(machine), "/etc/machine-id")
        host.join()
        yield host
        self.forget(name)

    def forget(self, name: str) -> None:
        """Ends a host."""
        host = self.cluster.hosts.pop(name)
        self._made.remove(host)
        host.close()

    def removes(self, by: str, name: str, *options: str) -> None:
        """A host removes another."""
        self[by].watcher("hosts", "rm", name, *options)

    # --- what is known ------------------------------------------------------------------------

    def blocks(self, name: str, state: str = "held") -> set[str]:
        """The blocks and claims of a host's lease store in that state."""
        return {str(block.prefix) for block in self._blocks(name) if block.state == state}

    def _blocks(self, name: str) -> list[Block]:
        with self.store(name) as store:
            return store.cluster.blocks()

    def known_blocks(self, name: str, of: str = "") -> dict[str, str]:
        """Which other host has which block, as a host knows; those of one host alone."""
        with self.store(name) as store:
            found = {str(one.prefix): one.host for one in store.cluster.peer_blocks()}
        return {prefix: host for prefix, host in found.items() if of in ("", host)}

    def store(self, name: str) -> LeaseStore:
        """The lease store of a host, to read."""
        return self[name].store()

    def incarnation(self, name: str) -> str:
        """That of a host, by its lease store."""
        with self.store(name) as store:
            return store.cluster.identity().incarnation

    def in_etcd(self, table: str) -> dict[str, str]:
        """A table of the registry: the values by the rest of their keys."""
        start = f"{PREFIX}/{table}/"
        return {k.removeprefix(start): v for k, v in self.cluster.etcd.under(start).items()}

    def owners(self) -> dict[str, str]:
        """Who has which block in etcd, by the end of the key."""
        return {key: json.loads(value)["host"] for key, value in self.in_etcd("blocks").items()}

    def alive(self) -> set[str]:
        """The hosts that are heard of, as etcd has it."""
        return {*self.in_etcd("alive")}

    def heard(self, name: str) -> dict[str, str]:
        """The state of each host as a host tells its own readers."""
        return {host.name: host.state for host in self._read(name).hosts.values()}

    def connected(self, name: str) -> bool:
        """Whether etcd answers a host, as it tells its own readers."""
        status = self._read(name).status
        return status is not None and status.connected

    def problem(self, name: str) -> str:
        """Why a host is granted nothing, as it tells its own readers."""
        status = self._read(name).status
        return "it tells nothing" if status is None else status.problem

    def _read(self, name: str) -> Hosts:
        """What a host tells its own readers."""
        return read(str(self[name].seen(self[name].run_dir)), PATIENCE)

    def is_cut(self, name: str, address: str) -> bool:
        """Whether the container of a host does not reach an address."""
        return self.boxes[name].reach(address, PORT, timeout=LATENCY_FREE_NO) is None

    # --- waiting ------------------------------------------------------------------------------

    def well(self, *names: str) -> None:
        """Waits until all is as it should be: on all hosts, or those of `names`."""
        hosts = names or tuple(self.boxes)
        for name in hosts:
            eventually(partial(self.connected, name), 60, what=f"etcd answers {name}")
        for name in hosts:
            eventually(partial(self._hears_all, name), 60, what=f"{name} hears of all")
        self.packets()
        for one in hosts:
            for other in self.boxes:
                self.resolves(one, f"box-{other}", self.boxes[other].address)
        self.once()

    def _hears_all(self, name: str) -> bool:
        heard = self.heard(name)
        return all(heard[other] == ("this" if other == name else "alive") for other in self.boxes)

    def hears(self, by: str, name: str) -> None:
        """Waits until a host takes another for alive."""
        eventually(lambda: self.heard(by)[name] == "alive", what=f"{by} hears of {name}")

    def hold(self) -> str:
        """Has nothing new be taken, as after a restore, until the lease that this returns ends."""
        return self.cluster.etcd.put_for_long(f"{PREFIX}/restored", "")

    def refuses_what_is_new(self, name: str) -> None:
        """Waits until a host has noticed that etcd was restored."""
        told = "etcd was restored"
        eventually(lambda: told in self.problem(name), what=f"{name} has noticed it")

    def forgotten(self, name: str, *by: str) -> None:
        """Waits until hosts know of no block of another."""
        for one in by:
            eventually(partial(self._forgets, one, name), what=f"{one} knows of no block of {name}")

    def _forgets(self, by: str, name: str) -> bool:
        return name not in self.heard(by) and not self.known_blocks(by, name)

    def silent(self, by: str, *names: str) -> None:
        """Waits until a host takes others for silent."""
        for name in names:
            eventually(partial(self._is_silent, by, name), what=f"{name} is silent to {by}")

    def _is_silent(self, by: str, name: str) -> bool:
        return self.heard(by)[name] == "silent"

    def unheard(self, *names: str) -> None:
        """Waits until etcd does not answer hosts, as they tell."""
        for name in names:
            eventually(partial(self._is_alone, name), what=f"{name} is alone")

    def _is_alone(self, name: str) -> bool:
        return not self.connected(name)

    # --- the columns --------------------------------------------------------------------------

    def box(self, name: str) -> Container:
        """Starts the container of a host that the others ask."""
        box = self[name].attach(f"box-{name}")
        box.serve(tcp=(PORT,))
        self.boxes[name] = box
        return box

    def packets(self, *without: str) -> None:
        """Packets pass between the containers of all hosts, but of those pairs (`ab`)."""
        broken = {frozenset(pair) for pair in without}
        for one, other in itertools.permutations(self.boxes, 2):
            if frozenset((one, other)) in broken:
                to = self.boxes[other].address
                assert self.boxes[one].reach(to, PORT, timeout=LATENCY_FREE_NO) is None
            else:
                self._reached(one, self.boxes[other], f"box-{other}")

    def reached(self, container: Container, *by: str) -> None:
        """Waits until a container that serves is reached from the containers of hosts."""
        for one in by or self.boxes:
            self._reached(one, container, container.id)

    def _reached(self, one: str, container: Container, answers: str) -> None:
        asking = self.boxes[one]
        for source, to in zip(addresses(asking), addresses(container), strict=True):
            expected = Answer(answers, source)
            what = f"{answers} is reached by {to} from {one}"
            eventually(partial(_answers, asking, to, expected), what=what)

    def starts(
        self, name: str, ip: str = "", *, by: Iterable[str] = "abc", keep: bool = False
    ) -> Container:
        """A new container of a host has its network, and is reached from those hosts.

        Args:
            ip: a fixed address that it asks for; else it has one of the host's blocks.
            by: the hosts.
            keep: whether it stays; else it ends.
        """
        container = self._attach(name, ip)
        if ip:
            assert container.address == ip
        else:
            held = [ip_network(block) for block in self.blocks(name)]
            for address in map(ip_address, addresses(container)):
                assert any(address in block for block in held), (address, held)
        container.serve(tcp=(PORT,))
        self.reached(container, *(other for other in by if other in self.boxes))
        self.once()
        if not keep:
            self.end(container)
        return container

    def _attach(self, name: str, ip: str = "") -> Container:
        annotations = {"io.watcher.ip": ip} if ip else {}
        return self[name].attach(f"new-{name}-{next(self._numbers)}", annotations=annotations)

    def end(self, container: Container) -> None:
        """Ends a container."""
        container.host.kill(container.id)
        container.host.delete(container.id)

    def refuses(self, name: str, reason: str, ip: str = "") -> None:
        """A new container of a host does not start, for that reason."""
        host, id_ = self[name], f"no-{name}-{next(self._numbers)}"
        host.bundle(id_, annotations={"io.watcher.ip": ip} if ip else {})
        done = host.launch("run", id_, "--detach", check=False)
        assert done.returncode != 0, f"{id_} has started with {ip}"
        assert reason in done.stderr, done.stderr
        self.once()

    def fixed(self, name: str, *, by: Iterable[str] = "abc") -> None:
        """A fixed address of a block of a host is granted there."""
        self.starts(name, self.address_in(name), by=by)

    def address_in(self, name: str) -> str:
        """A free address of an IPv4 block of a host, from its end."""
        block = min(ip_network(one) for one in self.blocks(name) if one.endswith("/24"))
        return str(block[250 - next(self._numbers) % 200])

    def elsewhere(self) -> str:
        """An IPv4 address of no host's block."""
        taken = [ip_network(b) for h in self.cluster.hosts for b in self._prefixes(h) if "." in b]
        subnet = ip_network(SUBNETS[0])
        while True:
            number = (_NOWHERE << 8) + 251 * next(self._numbers)
            address = subnet[number % subnet.num_addresses]
            if not any(address in block for block in taken) and 0 < int(address) & 255 < 255:
                return str(address)

    def _prefixes(self, name: str) -> list[str]:
        return [str(block.prefix) for block in self._blocks(name)]

    def found(self, asks: str, name: str) -> set[str]:
        """The IPv4 addresses that the container of a host gets for a name."""
        return addresses_of(ask(self.boxes[asks].place, name, server=GATEWAY))

    def resolves(self, asks: str, name: str, *expected: str) -> None:
        """Waits until that are the addresses, and no others."""
        eventually(
            lambda: self.found(asks, name) == set(expected), what=f"{name} is {expected} on {asks}"
        )

    # --- what always holds --------------------------------------------------------------------

    def once(self) -> None:
        """No address is leased twice, and no block is held twice."""
        leased: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for name in self.cluster.hosts:
            if not (self[name].state_dir / "leases.db").exists():
                continue
            with self.store(name) as store:
                for sandbox in store.sandboxes():
                    for link in sandbox.interfaces:
                        leased.update(str(address.ip) for address in link.addresses)
                held.update(
                    str(block.prefix) for block in store.cluster.blocks() if block.state == "held"
                )
        assert max(leased.values(), default=0) <= 1, leased
        assert max(held.values(), default=0) <= 1, held


def _answers(asking: Container, to: str, expected: Answer) -> bool:
    return asking.reach(to, PORT) == expected


def key_of(part: object, network: str = "default") -> str:
    """The end of the key of a block or claim of a network; its length does not matter."""
    address = ip_address(str(part).partition("/")[0])
    return f"{network}/{address.version}/{int(address):0{address.max_prefixlen // 4}x}"
