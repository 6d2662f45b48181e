"""Which `/etc/resolv.conf` a container gets, and which ones there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.resolv_conf import DIRECTORY, ResolvConf
from watcher.model.names import asks_in, resolv_conf
from watcher.model.network import gateway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from watcher.config.settings import Config
    from watcher.model.address import Subnet
    from watcher.model.network import Network
    from watcher.model.sandbox import Member, Sandbox


class Files:
    """The files with one configuration, worked out once for each network."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._known: dict[str, tuple[Network, dict[int, ResolvConf]]] = {}

    def wanted(
        self, sandbox: Sandbox, member: Member, networks: Mapping[str, Network]
    ) -> ResolvConf | None:
        """What `member` of `sandbox` gets; `None` if its network has no names, or it wants none."""
        found = asks_in(sandbox, member, networks)
        if found is None:
            return None
        network, version = found
        return self._of(network)[version]

    def all_of(self, networks: Iterable[Network]) -> Iterator[ResolvConf]:
        """All that containers of `networks` may get."""
        for network in networks:
            if network.named:
                yield from self._of(network).values()

    def _of(self, network: Network) -> dict[int, ResolvConf]:
        """Those of a network, by the version of IP by which containers ask."""
        known = self._known.get(network.name)
        if known is None or known[0] is not network:
            known = network, {s.version: self._file(network, s) for s in network.subnets}
            self._known[network.name] = known
        return known[1]

    def _file(self, network: Network, subnet: Subnet) -> ResolvConf:
        """The file for those who ask at the gateway in that `subnet` of `network`.

        No network's name ends one of the two suffixes so that it looks like the other.
        """
        first = min(subnet.version for subnet in network.subnets)
        suffix = "conf" if subnet.version == first else "conf6"
        path = f"{self._config.run_dir}/{DIRECTORY}/{network.name}.{suffix}"
        return ResolvConf(path, resolv_conf(gateway(subnet), self._config.names.domain))
