"""The elements of the cluster in this program's nftables table, and how few of them a change is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from handlers.context import ClusterView
from handlers.firewall import remote
from handlers.kernel.nft import Element, commands
from handlers.networks.clustered import ClusteredDriver
from handlers.networks.driver import Driver
from watcher.model.address import Address, Subnet
from watcher.model.cluster import ClusterChange, host_address, is_claim

type _Key = tuple[str, Subnet]
"""A network and a part of its subnet."""


class Members:
    """The elements that `drivers` need of the cluster, as `view` has it."""

    def __init__(self, view: ClusterView, drivers: Mapping[str, Driver]) -> None:
        self._view = view
        self._drivers = drivers
        self._known = False
        """Whether the following are as the lease store had them when it was last asked."""
        self._addresses: dict[str, Address] = {}
        self._blocks: dict[_Key, str] = {}
        self._tunnelled: Counter[str] = Counter()
        """How many blocks each host has from which it may send VXLAN."""
        self._own: dict[Element, None] = {}

    @property
    def needed(self) -> bool:
        """Whether any network is clustered."""
        return any(driver.network.cluster for driver in self._drivers.values())

    def all(self) -> dict[Element, None]:
        """All elements, by what the lease store has now."""
        if not self.needed:
            return {}
        self._addresses = {peer.host: peer.address for peer in self._view.peers().values()}
        self._blocks, self._tunnelled = {}, Counter()
        for one in self._view.peer_blocks():
            self._put((one.network, one.prefix), one.host)
        self._own = dict.fromkeys(self._of_own())
        self._known = True
        found = self._of(list(self._blocks), self._addresses)
        return dict.fromkeys(sorted(found)) | self._own

    def meet(self, change: ClusterChange) -> str:
        """The commands that a change is; empty if it concerns no element."""
        if not self.needed:
            return ""
        if not self._known:
            return self.anew()
        keys = [*((one.network, one.prefix) for one in change.blocks), *change.gone_blocks]
        hosts = {peer.host for peer in change.peers} | {*change.gone}
        hosts |= {one.host for one in change.blocks}
        hosts |= {self._blocks[key] for key in keys if key in self._blocks}
        before = self._of(keys, hosts)
        for key in change.gone_blocks:
            self._put(key, "")
        for host in change.gone:
            self._addresses.pop(host, None)
        for peer in change.peers:
            self._addresses[peer.host] = peer.address
        for one in change.blocks:
            self._put((one.network, one.prefix), one.host)
        after = self._of(keys, hosts)
        if change.own:
            before |= self._own.keys()
            self._own = dict.fromkeys(self._of_own())
            after |= self._own.keys()
        gone = before - after
        if change.gone or change.peers:  # two hosts of one address have one element
            gone -= {self._of_peer(host) for host in self._addresses if host not in hosts}
        return commands("destroy", sorted(gone)) + commands("add", sorted(after - before))

    def anew(self) -> str:
        """The commands after which exactly all elements are there."""
        wanted = self.all()
        texts = remote.sets(list(self._drivers.values()))
        sets = [
            f"flush {kind} inet watcher {name}\n" for kind, name in (t.split()[:2] for t in texts)
        ]
        return "".join(sets) + commands("add", wanted)

    def _put(self, key: _Key, host: str) -> None:
        """Note that `host` has a block; empty: nobody. What cannot be one is left out."""
        driver = self._driver(key)
        if driver is None:
            return
        before = self._blocks.pop(key, "")
        if host:
            self._blocks[key] = host
        if driver.network.tunnelled:
            self._tunnelled[before] -= 1
            self._tunnelled[host] += 1

    def _of(self, keys: Iterable[_Key], hosts: Iterable[str]) -> set[Element]:
        """The elements of some blocks and hosts."""
        found = set[Element]()
        for key in keys:
            found.update(self._of_block(key))
        found.update(e for host in hosts if (e := self._of_peer(host)) is not None)
        return found

    def _of_block(self, key: _Key) -> Iterator[Element]:
        driver = self._driver(key)
        if driver is None or key not in self._blocks:
            return
        prefix, v = key[1], key[1].version
        name = f"claims{v}" if is_claim(prefix) else remote.blocks(v, prefix.prefixlen)
        yield Element("inet", name, (str(prefix.network_address),))
        subnet = driver.network.subnet_of(v)
        if driver.network.isolate and not is_claim(prefix) and subnet is not None:
            yield Element("inet", f"{remote.ISOLATED}{v}", (str(host_address(subnet, prefix)),))

    def _of_peer(self, host: str) -> Element | None:
        address = self._addresses.get(host)
        if address is None or self._tunnelled[host] <= 0:
            return None
        return Element("inet", f"peers{address.version}", (str(address),))

    def _of_own(self) -> Iterator[Element]:
        """This host's own address in each clustered subnet, where it has a block."""
        blocks = self._view.blocks()
        for driver in self._drivers.values():
            if isinstance(driver, ClusteredDriver):
                for v, address in driver.sources(blocks).items():
                    subnet = driver.network.subnet_of(v)
                    if subnet is not None:
                        yield Element(
                            "inet", f"own{v}", (str(subnet.network_address),), (str(address),)
                        )

    def _driver(self, key: _Key) -> ClusteredDriver | None:
        """The driver of a network, if `key` can be a part of that which a host has."""
        driver = self._drivers.get(key[0])
        if isinstance(driver, ClusteredDriver) and driver.has_room_for(key[1]):
            return driver
        return None
