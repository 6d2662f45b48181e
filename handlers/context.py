"""What all handlers share, made once in the host's network namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Final

from msgspec import Struct

from handlers.handler import ListStore, Notes
from handlers.kernel.namespace import HostNamespace
from handlers.kernel.netlink import NETLINK_NETFILTER, Netlink
from handlers.kernel.reaper import Reaper
from handlers.kernel.uplink import with_mtus
from handlers.networks import Drivers
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


class Context(Struct, frozen=True):
    """What handlers are made from.

    Attributes:
        home: the host's network namespace.
        netlink: a socket in it.
        netfilter: another one in it, of netfilter; `None` if the kernel has none.
        reaper: deletes links in it.
        drivers: the driver of each network by the network's name; the only place where handlers
            look up a network's settings.
        notes: keeps what a handler has to know after a restart.
        numbers: numbers lists.
        sandboxes: returns all sandboxes of the lease store.
        netns_dir: the directory of pins.
        copies_dir: the directory of copies of sandboxes.
        firewall: what the configuration says of firewalls.
    """

    home: HostNamespace
    netlink: Netlink
    netfilter: Netlink | None
    reaper: Reaper
    drivers: Drivers
    notes: Notes
    numbers: ListStore
    sandboxes: Callable[[], Iterable[Sandbox]]
    netns_dir: str
    copies_dir: str
    firewall: FirewallSettings


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
    find: Callable[[str], Network | None] = lambda _: None,
) -> Iterator[Context]:
    """An open context; `find` finds networks that are in use, but not among `networks`.

    Closing it removes nothing that handlers made.
    """

    def found(name: str) -> Network | None:
        network = find(name)
        return None if network is None else with_mtus({name: network})[name]

    drivers = Drivers(with_mtus(networks), found)
    with (
        closing(HostNamespace()) as home,
        Netlink() as netlink,
        closing(Reaper()) as reaper,
        ExitStack() as opened,
    ):
        netfilter = None
        with suppress(OSError):
            netfilter = opened.enter_context(Netlink(NETLINK_NETFILTER))
        yield Context(
            home, netlink, netfilter, reaper, drivers, notes, numbers, sandboxes, netns_dir,
            copies_dir, firewall,
        )  # fmt: skip
