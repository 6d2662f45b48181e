"""What there is and what is wanted of it, as the lease store and the host have it now.

It takes no lock and changes nothing: who asks may be early or late, and looks again once it counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.model.errors import named
from watcher.reconcile import resolv_conf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handlers.resolv_conf import ResolvConf
    from watcher.config.settings import Config
    from watcher.model.address import Address
    from watcher.model.container import Process
    from watcher.model.network import Network
    from watcher.model.sandbox import Member, Sandbox
    from watcher.reconcile.context import Context


class Present:
    """See the module's docstring.

    What reads the lease store raises WatcherError if that cannot be read.
    """

    def __init__(self, context: Context) -> None:
        self._resolv_confs = resolv_conf.Files(context.config)
        self._store = context.store
        self._host = context.host
        self._failures = context.failures
        self._overlaps = context.overlaps

    def configure(self, config: Config) -> None:
        """Tell what `config` wants from now on."""
        self._resolv_confs = resolv_conf.Files(config)

    def networks(self) -> list[Network]:
        """The networks that there are: configured ones, and former ones in use."""
        return list(self._host.networks.values())

    def refusals(self) -> dict[str, str]:
        """Why networks refuse all containers at present, by name."""
        return self._overlaps.reasons

    def overlapping_links(self) -> frozenset[int]:
        """The indices of the links with addresses or routes that networks overlap with."""
        return self._overlaps.links

    def links(self) -> list[str]:
        """The host ends of all links that should exist."""
        return [i.host_name for sandbox in self._store.sandboxes() for i in sandbox.interfaces]

    def members(self) -> Iterator[tuple[Sandbox, Member]]:
        """All containers with a network, each with its sandbox."""
        return ((sandbox, m) for sandbox in self._store.sandboxes() for m in sandbox.members)

    def member(self, root: str, id_: str) -> tuple[Sandbox, Member] | None:
        """A container with its sandbox; `None` if it has no network."""
        sandbox = self._store.sandbox_of(root, id_)
        if sandbox is None or (member := sandbox.named(root, id_)) is None:
            return None
        return sandbox, member

    def living(self) -> list[tuple[str, str, Process]]:
        """Root, id and init of the containers whose exits matter."""
        members = [(m.root, m.id, m.init) for s in self._store.sandboxes() for m in s.members]
        return members + [(f.root, f.id, f.init) for f in self._failures.living() if f.init]

    def failed(self) -> list[tuple[str, str]]:
        """Root and id of the failed containers that may live, for another look."""
        return [(failure.root, failure.id) for failure in self._failures.living()]

    def any_failed(self) -> bool:
        """Whether :meth:`failed` has any."""
        return self._failures.any_living()

    def sandbox_at(self, address: Address) -> Sandbox | None:
        """The sandbox that has that address."""
        for network in self.networks():
            subnet = network.subnet_of(address.version)
            if subnet is not None and address in subnet:
                return self._store.sandbox_with_address(network.name, str(address))
        return None

    def rejected(self) -> dict[str, dict[str, int]]:
        """By direction and address of a sandbox, how many packets its limits rejected."""
        return self._host.firewall.rejected()

    def has_pin(self, name: str) -> bool:
        """Whether `name` should exist in `netns_dir`."""
        sandbox = self._store.sandbox_named(named(name))
        return sandbox is not None and name in sandbox.pins

    def lacks_pins(self) -> Iterator[bool]:
        """For each name in `netns_dir`, whether it was unmounted but should be mounted."""
        for name in self._host.pins.unmounted():
            yield name is not None and self.has_pin(name)

    def resolv_confs(self) -> Iterator[ResolvConf]:
        """All that containers of present networks may get."""
        return self._resolv_confs.all_of(self.networks())

    def resolv_conf_for(self, sandbox: Sandbox, member: Member) -> ResolvConf | None:
        """What a container gets; `None` if it gets none."""
        return self._resolv_confs.wanted(sandbox, member, self._host.networks)

    def is_wrong(self, kind: int, body: memoryview) -> bool:
        """Whether an event of rtnetlink contradicts the ways to other hosts that are wanted."""
        return self._host.cluster.is_wrong(kind, body)

    @property
    def ways_are_wrong(self) -> bool:
        """Whether the last look at the ways to other hosts left something wrong."""
        return self._host.cluster.failed

    def links_to_hosts(self) -> tuple[frozenset[int], frozenset[int]]:
        """The indices of the VXLAN devices; the same and those of the links to other hosts."""
        return self._host.cluster.links
