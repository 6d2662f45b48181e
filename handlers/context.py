"""What all handlers share, made once in the host's network namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Final

from msgspec import Struct

from handlers.handler import ClusterRows, ListStore, Notes
from handlers.kernel.namespace import HostNamespace, Namespaces
from handlers.kernel.netlink import Netlink
from handlers.kernel.reaper import Reaper
from handlers.kernel.uplink import with_mtus
from handlers.networks import Drivers
from watcher.model.address import Address
from watcher.model.cluster import Block, Peer, PeerBlock
from watcher.model.network import Network
from watcher.model.sandbox import Sandbox


class FirewallSettings(Struct, frozen=True):
    """What the configuration says of firewalls (`[firewall]`).

    Attributes:
        integrate: whether to have other firewalls admit our bridges.
        mark: one bit of the packet mark, which is set on what sandboxes that are held to a list may
            send.
        closed: whether nothing without that bit is routed from their networks.
        log_group: the NFLOG group that gets some of what is rejected; 0 means none.
        rules: the file with the administrator's own rules; empty if there is none.
    """

    integrate: bool = False
    mark: int = 0x10000000
    closed: bool = True
    log_group: int = 0
    rules: str = ""


DEFAULTS: Final = FirewallSettings()


class ClusterView(Struct, frozen=True):
    """What handlers know of the cluster.

    Attributes:
        rows: the lease store's part of it.
        own: finds out what the other hosts reach this one by; `None` if it is in no cluster.
        port: the UDP port of VXLAN.
    """

    rows: ClusterRows
    own: Callable[[], Address | None] = lambda: None
    port: int = 4789

    @property
    def address(self) -> Address | None:
        """What the other hosts reach this one by at present; `None` if there is nothing."""
        return self.own()

    def blocks(self) -> Sequence[Block]:
        """This host's blocks and claims, the first taken first."""
        return self.rows.blocks()

    def peers(self) -> Mapping[str, Peer]:
        """The other hosts, by name."""
        return self.rows.peers()

    def peer_blocks(self) -> Sequence[PeerBlock]:
        """What the other hosts have."""
        return self.rows.peer_blocks()

    def number(self, network: str) -> int:
        """The number of a clustered network; 0 if it has none yet."""
        return self.rows.number(network)


class _NoRows:
    """The rows of a host that is in no cluster."""

    def blocks(self) -> Sequence[Block]:
        """None."""
        return ()

    def peers(self) -> Mapping[str, Peer]:
        """None."""
        return {}

    def peer_blocks(self) -> Sequence[PeerBlock]:
        """None."""
        return ()

    def number(self, network: str) -> int:  # noqa: ARG002
        """None."""
        return 0


ALONE: Final = ClusterView(_NoRows())
"""In no cluster."""


class Context(Struct, frozen=True):
    """What handlers are made from.

    Attributes:
        home: the host's network namespace.
        namespaces: those of sandboxes, each opened once for all that look into it.
        netlink: a socket in it.
        reaper: deletes links in it.
        drivers: the driver of each network by the network's name; the only place where handlers
            look up a network's settings.
        notes: keeps what a handler has to know after a restart.
        numbers: numbers lists.
        sandboxes: returns all sandboxes of the lease store.
        netns_dir: the directory of pins.
        copies_dir: the directory of copies of sandboxes.
        firewall: what the configuration says of firewalls.
        cluster: what is known of the cluster.
    """

    home: HostNamespace
    namespaces: Namespaces
    netlink: Netlink
    reaper: Reaper
    drivers: Drivers
    notes: Notes
    numbers: ListStore
    sandboxes: Callable[[], Iterable[Sandbox]]
    netns_dir: str
    copies_dir: str
    firewall: FirewallSettings
    cluster: ClusterView


@contextmanager
def open_context(
    netns_dir: str,
    copies_dir: str,
    networks: Mapping[str, Network],
    notes: Notes,
    numbers: ListStore,
    sandboxes: Callable[[], Iterable[Sandbox]],
    *,
    firewall: FirewallSettings = DEFAULTS,
    cluster: ClusterView = ALONE,
    find: Callable[[str], Network | None] = lambda _: None,
) -> Iterator[Context]:
    """An open context; `find` finds networks that are in use, but not among `networks`.

    Closing it removes nothing that handlers made.
    """

    def found(name: str) -> Network | None:
        network = find(name)
        return None if network is None else with_mtus({name: network}, cluster.own)[name]

    drivers = Drivers(with_mtus(networks, cluster.own), found)
    with (
        closing(HostNamespace()) as home,
        closing(Namespaces()) as namespaces,
        Netlink() as netlink,
        closing(Reaper()) as reaper,
    ):
        yield Context(
            home, namespaces, netlink, reaper, drivers, notes, numbers, sandboxes, netns_dir,
            copies_dir, firewall, cluster,
        )  # fmt: skip
