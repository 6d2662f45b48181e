"""The hosts of the cluster, as commands show them.

`watcher cluster` tells them at once at `hosts.sock`. While it does not run, etcd may answer, and
the lease store has what the service was told last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from watcher.cluster.endpoints import reading
from watcher.cluster.endpoints.reading import NoHosts
from watcher.clustering.identity import host_name, own_address
from watcher.model.address import Address, Subnet
from watcher.model.cluster import block_prefix, claim_of, is_claim
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from watcher.cluster.endpoints.lines import HostLine
    from watcher.cluster.registry.picture import Picture
    from watcher.config.settings import Config
    from watcher.store.leases import LeaseStore

type State = Literal["this", "alive", "silent", "removed"]


class KnownHost(Struct, frozen=True):
    """A host of the cluster.

    Attributes:
        name: its name.
        address: what the others reach it by; `None` if that is not known.
        state: `this` host; `alive`: it has been heard of lately; `silent`: it has not; `removed`:
            the registry does not have it, but there is something of it.
        blocks: its blocks and claims, by the network.
        program: the version of the program there, if known.
    """

    name: str
    address: Address | None
    state: State
    blocks: Mapping[str, tuple[Subnet, ...]] = {}
    program: str = ""


class KnownHosts(Struct, frozen=True):
    """All hosts.

    Attributes:
        hosts: this one and the others, by their names.
        connected: whether etcd answers; if not, all is as it was.
        problem: why it does not, or why this host takes no part in the cluster.
    """

    hosts: Mapping[str, KnownHost]
    connected: bool = False
    problem: str = ""

    def holder(self, network: str, address: Address) -> KnownHost | None:
        """The host that has `address` of `network`; a claim counts before a block."""
        found: tuple[int, KnownHost] | None = None
        for host in self.hosts.values():
            for prefix in host.blocks.get(network, ()):
                longer = found is None or prefix.prefixlen > found[0]
                if longer and address in prefix:
                    found = prefix.prefixlen, host
        return None if found is None else found[1]


def from_socket(run_dir: str) -> KnownHosts:
    """What `watcher cluster` tells.

    Raises:
        NoHosts: it does not run, or has not heard of etcd since it started.
        WatcherError: it may not be asked, or does not answer.
    """
    told = reading.read(run_dir)
    if not told.known:
        why = "" if told.status is None else told.status.problem
        raise NoHosts(
            f"etcd has not answered `watcher cluster` since that started{why and ': '}{why}",
            "see its log",
        )
    try:
        hosts = {name: _host(line) for name, line in told.hosts.items()}
    except ValueError as error:
        raise WatcherError(
            "`watcher cluster` tells what this program does not understand",
            "restart it, e.g. `systemctl restart watcher-cluster`: it may be of another version",
        ) from error
    status = told.status
    if status is None:
        return KnownHosts(_sorted(hosts), False, "`watcher cluster` has not heard of etcd yet")
    return KnownHosts(_sorted(hosts), status.connected, status.problem)


def from_picture(config: Config, picture: Picture) -> KnownHosts:
    """What the registry has."""
    own = host_name(config.cluster)
    blocks: dict[str, dict[str, list[Subnet]]] = {}
    for part, block in picture.blocks.items():
        network = picture.network(part.network)
        if block.record is not None and network is not None:
            length = block_prefix(claim_of(part.address), network.block)
            if part.begins(length):
                theirs = blocks.setdefault(block.record.host, {})
                theirs.setdefault(part.network, []).append(part.prefix(length))
    for part, claim in picture.claims.items():
        if claim.record is not None and claim.record.counts:
            theirs = blocks.setdefault(claim.record.host, {})
            theirs.setdefault(part.network, []).append(claim_of(part.address))
    hosts = {}
    for name in picture.hosts.keys() | blocks.keys():
        record = picture.host(name)
        alive: State = "alive" if name in picture.alive else "silent"
        state: State = "removed" if record is None else "this" if name == own else alive
        hosts[name] = KnownHost(
            name, None if record is None else ip_address(record.address), state,
            _frozen(blocks.get(name, {})), "" if record is None else record.program,
        )  # fmt: skip
    return KnownHosts(_sorted(hosts), True)


def from_store(config: Config, store: LeaseStore) -> KnownHosts:
    """What the service was told last; whether etcd answers is not known then.

    Raises:
        WatcherError: the store cannot be read.
    """
    own = host_name(config.cluster)
    blocks: dict[str, dict[str, list[Subnet]]] = {}
    for block in store.cluster.blocks():
        if block.state in ("held", "leaving"):
            blocks.setdefault(own, {}).setdefault(block.network, []).append(block.prefix)
    for theirs in store.cluster.peer_blocks():
        blocks.setdefault(theirs.host, {}).setdefault(theirs.network, []).append(theirs.prefix)
    hosts = {
        name: KnownHost(
            name, peer.address, "alive" if peer.alive else "silent", _frozen(blocks.get(name, {}))
        )
        for name, peer in store.cluster.peers().items()
    }
    this = KnownHost(own, own_address(config.cluster), "this", _frozen(blocks.get(own, {})))
    return KnownHosts(_sorted(hosts | {own: this}))


def counted(prefixes: Iterable[Subnet]) -> tuple[int, int]:
    """How many blocks and how many claims there are among `prefixes`."""
    claims = [is_claim(prefix) for prefix in prefixes]
    return len(claims) - sum(claims), sum(claims)


def _host(line: HostLine) -> KnownHost:
    blocks = {
        network: tuple(ip_network(text) for text in texts) for network, texts in line.blocks.items()
    }
    return KnownHost(line.name, ip_address(line.address), line.state, blocks, line.program)


def _frozen(blocks: Mapping[str, Iterable[Subnet]]) -> dict[str, tuple[Subnet, ...]]:
    return {network: tuple(prefixes) for network, prefixes in sorted(blocks.items())}


def _sorted(hosts: Mapping[str, KnownHost]) -> dict[str, KnownHost]:
    return dict(sorted(hosts.items()))
