"""What the checks of a container judge by, gathered once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from handlers.firewall import admin, listed, rejecting
from handlers.firewall.ruleset import TABLE, Parts
from handlers.kernel.namespace import NamespaceGone, open_namespace
from handlers.kernel.netlink import Netlink
from handlers.kernel.nft import Nft
from handlers.networks import drivers_of
from watcher.checks import leases
from watcher.checks.check import Finding
from watcher.checks.container import inside, resolvers
from watcher.checks.container.asking import Asking, asking
from watcher.checks.container.inside import Inside
from watcher.checks.container.legs import Leg, legs_of
from watcher.checks.filters import host
from watcher.cluster.known import from_store
from watcher.containers.life import lives
from watcher.model.errors import WatcherError, quoted

if TYPE_CHECKING:
    from handlers.networks.driver import Driver
    from watcher.checks.filters.chains import Table
    from watcher.cluster.known import KnownHost
    from watcher.config.settings import Config
    from watcher.model.cluster import Block
    from watcher.model.container import Process
    from watcher.model.network import Network
    from watcher.model.sandbox import Sandbox
    from watcher.store.leases import LeaseStore


class Known(Struct, frozen=True):
    """A container with a network, as the roots and the lease store tell.

    Attributes:
        config: the configuration.
        networks: the networks by name.
        id, init: the container's id and its first process.
        sandbox: its sandbox.
        digest: that of the rules as this program made them last; `None` if it made none.
        rules: the administrator's own rules, if there are any.
        blocks: what this host has of clustered networks.
        hosts: the hosts of the cluster, as the service was told of them.
    """

    config: Config
    networks: Mapping[str, Network]
    id: str
    init: Process
    sandbox: Sandbox
    digest: str | None
    rules: str | None
    blocks: Sequence[Block] = ()
    hosts: Sequence[KnownHost] = ()

    @classmethod
    def of(
        cls, config: Config, store: LeaseStore, id_: str, init: Process, sandbox: Sandbox
    ) -> Self:
        """What `config` and `store` know of a container."""
        rules = store.noted(admin.NOTE) if config.firewall.rules else None
        digest = store.noted(listed.NOTE)
        hosts: tuple[KnownHost, ...] = ()
        if config.cluster.etcd:
            hosts = tuple(from_store(config, store).hosts.values())
        blocks = store.cluster.blocks()
        networks = leases.networks(config)
        return cls(config, networks, id_, init, sandbox, digest, rules, blocks, hosts)


class Gathered(Struct, frozen=True):
    """The argument of every check of a container.

    Attributes:
        known: what the roots and the lease store tell.
        drivers: the drivers of the networks by name.
        legs: each address of each interface.
        netlink: a socket of the host.
        inside: what is seen in its namespace.
        asking: how it asks for names; `None` if its network has none.
        rules: this program's table as nftables lists it; `None` if it is missing.
        intact: whether its rules are those that this program made.
        tables: the filters of other programs.
    """

    known: Known
    drivers: Mapping[str, Driver]
    legs: Sequence[Leg]
    netlink: Netlink
    inside: Inside
    asking: Asking | None
    rules: Sequence[dict[str, Any]] | None
    intact: bool
    tables: Sequence[Table]

    @property
    def sandbox(self) -> Sandbox:
        """Its sandbox."""
        return self.known.sandbox

    def outwards(self, version: int) -> Leg | None:
        """The address of IP `version` that leads out, and that port maps lead to, if any."""
        return next((leg for leg in self.legs if leg.leads_out and leg.version == version), None)


class Question(Struct, frozen=True):
    """One question about a container.

    Attributes:
        name: one word for the users.
        findings: yields the findings, each with its remedy; changes nothing.
    """

    name: str
    findings: Callable[[Gathered], Iterable[Finding]]


def _open(opened: ExitStack, sandbox: Sandbox, pins: str) -> int:
    """A descriptor of the namespace of `sandbox`, by a pin if its processes have left it.

    Raises:
        NamespaceGone: it is not to be found.
    """
    try:
        return opened.enter_context(open_namespace(sandbox))
    except NamespaceGone:
        for pin in sandbox.pins:
            with suppress(FileNotFoundError):
                descriptor = os.open(f"{pins}/{pin}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                opened.callback(os.close, descriptor)
                if os.fstat(descriptor).st_ino == sandbox.netns:
                    return descriptor
        raise


@contextmanager
def gather(known: Known) -> Iterator[Gathered]:
    """Look at the host and into the sandbox, and ask whom the container may ask.

    Raises:
        WatcherError: it has ended, or a network of its is not known.
    """
    sandbox = known.sandbox
    unknown = [name for name in sandbox.networks if name not in known.networks]
    if unknown:
        what = f"container {quoted(known.id)}: its network {quoted(unknown[0])}"
        raise WatcherError(f"{what} is not known any more", "put it back into the configuration")
    drivers = drivers_of(known.networks)
    legs = legs_of(sandbox, drivers)
    conf = resolvers.read(known.init)
    asks = asking(known.config, known.id, sandbox, drivers)
    try:
        with ExitStack() as opened:
            namespace = _open(opened, sandbox, known.config.netns_dir)
            # If all have ended, the number may be another namespace's by now.
            living = lives(sandbox)
            seen = inside.look(sandbox, drivers, legs, conf, namespace, asks) if living else None
    except NamespaceGone:
        seen = None
    except OSError:  # an interface may go in its midst
        if lives(sandbox):
            raise
        seen = None
    if seen is None or not lives(sandbox):
        raise WatcherError(f"container {quoted(known.id)} has ended", "start it again")
    rules = Nft().listing(*TABLE)
    settings = known.config.firewall
    group, port = rejecting.group(settings.log_group), known.config.cluster.port
    intact = rules is not None and known.digest == listed.digest(
        rules, drivers, Parts(listed.blocks(rules), settings.mark, group, known.rules, port)
    )
    with Netlink() as netlink:
        yield Gathered(known, drivers, legs, netlink, seen, asks, rules, intact, host.tables())
