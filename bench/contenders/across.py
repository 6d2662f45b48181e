"""One of two hosts on one link, with a sandbox each, that exchange packets.

::

    eth0 · sandbox 0 ─── host 0 · uplink ──── uplink · host 1 ─── sandbox 1 · eth0

Each host has a block of one network. The other host's block is reached by plain routes or by VXLAN.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from bench.contenders import registered, setting
from bench.contenders.commands import Commands
from bench.contenders.contender import Contender
from bench.contenders.process import output

PORT: Final = 80
_MTU: Final = 1430
"""What fits in VXLAN by either family on a link of 1500: all packets are of the same size."""

_DEVICE: Final = "netnsx1"
_VNI: Final = 0x770001


class Across(Contender):
    """The common part.

    Args:
        number: which of the two it is.
        way: `routes` or `vxlan`.
        version: of the IP of the link.
    """

    def __init__(self, base: Path, directory: Path, number: int, way: str, version: int) -> None:
        super().__init__(base, directory)
        self.number = number
        self.way = way
        self.version = version
        for name, value in (
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/default/accept_dad", "0"),
        ):
            Path("/proc/sys/net", name).write_text(value)
        self.prepare(number)
        self.inside("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")

    def connect(self) -> dict[int, str]:
        """Configure the link, which is there, and connect the sandbox; its addresses by version."""
        for address, prefix in zip(self.links(self.number), (24, 64), strict=True):
            _ip(f"addr add {address}/{prefix} dev uplink nodad")
        _ip("link set uplink up")
        self.join()
        words = ("ip", "-json", "addr", "show", "dev", "eth0", "scope", "global")
        (link,) = filter(None, json.loads(self.inside(*words)))
        found = (ip_address(of["local"]) for of in link["addr_info"] if of)
        return {address.version: str(address) for address in found}

    def pid(self) -> int:
        """The pid of the sandbox's process, on this host."""
        return self.pids[self.number]

    def join(self) -> None:
        """Give the sandbox its network, and make the way to the other host's block."""
        raise NotImplementedError

    def inside(self, *argv: str) -> str:
        """Run a command in the sandbox, and return its output."""
        return output("nsenter", f"--net=/proc/{self.pid()}/ns/net", *argv)

    @property
    def other(self) -> int:
        """The number of the other host."""
        return 1 - self.number

    def links(self, number: int) -> tuple[str, str]:
        """The addresses of a host on the link."""
        return f"192.0.2.{1 + number}", f"2001:db8::{1 + number}"

    def link(self, number: int) -> str:
        """That by which the others reach it."""
        return self.links(number)[self.version == 6]

    def lead(self) -> None:
        """Make the way to the other host's blocks by hand."""
        four, six = registered.blocks(self.other)
        if self.way == "routes":
            hop = self.link(self.other)
            _ip(f"route add {four} via {'inet6 ' if self.version == 6 else ''}{hop} dev uplink")
            if self.version == 6:
                _ip(f"-6 route add {six} via {hop} dev uplink")
            return
        mac, near = (f"02:00:00:00:77:{1 + of:02x}" for of in (self.other, self.number))
        vxlan = f"type vxlan id {_VNI} dstport 4789 local {self.link(self.number)} nolearning"
        _ip(f"link add {_DEVICE} address {near} mtu {_MTU} {vxlan}")
        _ip(f"link set {_DEVICE} up")
        output("bridge", *f"fdb append {mac} dev {_DEVICE} dst {self.link(self.other)}".split())
        for hop, block in ((self.links(self.other)[0], four), (f"fe80::{1 + self.other}", six)):
            _ip(f"neigh add {hop} lladdr {mac} dev {_DEVICE} nud permanent")
            _ip(f"route add {block} via {hop} dev {_DEVICE} onlink")


class ByHand(Across):
    """All of it by ip(8), and no rule at all."""

    def join(self) -> None:
        """As `mode = "routed"` does it, by hand."""
        host = f"netnsv0-{self.pid()}"
        _ip(f"link add {host} mtu {_MTU} type veth peer name eth0 mtu {_MTU} netns {self.pid()}")
        _ip(f"link set {host} address 02:42:a9:fe:01:01 up")
        self.inside("ip", "link", "set", "eth0", "address", "02:42:ac:13:00:02", "up")
        for block, hop in zip(
            registered.blocks(self.number), ("169.254.1.1", "fe80::1"), strict=True
        ):
            own = f"{block[2]}/{block.max_prefixlen}"
            _ip(f"route add {own} dev {host}")
            _ip(f"neigh add {block[2]} lladdr 02:42:ac:13:00:02 dev {host} nud permanent")
            for words in (
                f"addr add {own} dev eth0",
                f"neigh add {hop} lladdr 02:42:a9:fe:01:01 dev eth0 nud permanent",
                f"route add default via {hop} dev eth0 onlink",
            ):
                self.inside("ip", *words.split())
        self.lead()


class OfWatcher(Across):
    """This program, with a network that is not clustered; the way to the other host is by hand."""

    def join(self) -> None:
        """By `watcher sync`."""
        Path(setting.ROOT).mkdir(mode=0o700)
        config = setting.write_config(self.directory, "routed", self.keys())
        self.fill(config)
        setting.add_to_root(self.number, self.pid(), {})
        Commands(self.directory, config).run("sync")
        self.finish()

    def keys(self) -> list[str]:
        """The keys of the network in `watcher.toml`, and what comes after it."""
        subnets = json.dumps([str(block) for block in registered.blocks(self.number)])
        return [f"subnets = {subnets}", f"mtu = {_MTU}", "masquerade = false"]

    def fill(self, config: Path) -> None:
        """Put into the lease store what is to be there before."""

    def finish(self) -> None:
        """Make the way to the other host, and let its packets in."""
        self.lead()
        for subnet in registered.SUBNETS:
            family = "ip" if subnet.version == 4 else "ip6"
            rule = f"insert rule inet watcher to_sandboxes {family} saddr {subnet} accept"
            output("nft", *rule.split())


class Clustered(OfWatcher):
    """This program, with a clustered network; the lease store has what the registry would tell."""

    def keys(self) -> list[str]:
        """A clustered network."""
        backend = "auto" if self.way == "routes" else "vxlan"
        more = (f"mtu = {_MTU}", f'backend = "{backend}"')
        return registered.keys(self.number, self.link(self.number), *more)

    def fill(self, config: Path) -> None:
        """The blocks of both hosts."""
        registered.fill(config, self.number, {self.other: self.link(self.other)})

    def finish(self) -> None:
        """Nothing is done by hand."""


def _ip(words: str) -> None:
    """Run the words of a command line of ip(8) on this host."""
    output("ip", *words.split())
