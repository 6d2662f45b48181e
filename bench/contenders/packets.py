"""Hosts for packets: two sandboxes, one with a published port, and a machine beyond the uplink.

::

    beyond 192.0.2.1 ──── 192.0.2.2 uplink · host · bridge ──┬── eth0 · server
                                                             └── eth0 · neighbour
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench.contenders import cni, netavark, setting
from bench.contenders.contender import FIRST_PORT, Contender, address_of, name_of
from bench.contenders.process import output
from watcher.config import load
from watcher.containers import roots
from watcher.log.logger import make_log
from watcher.service import assemble

_INNER: Final = 80
_SERVER, _NEIGHBOUR, _BEYOND = range(3)
"""The sandboxes, and the machine beyond, which is a namespace too."""

_SUBNETS: Final = ("172.19.0.0/16", "fd00:19::/64")
_GATEWAYS: Final = ("172.19.0.1", "fd00:19::1")
_ON_HOST: Final = "192.0.2.2"
_FAR: Final = "192.0.2.1"
_BRIDGE_SETTINGS: Final = Path("/proc/sys/net/bridge")


class Packets(Contender):
    """The common part: who is where, and a burst from one to another."""

    published = True
    """Whether it is published as `FIRST_PORT`; otherwise the server is reached directly."""

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        self._program = str(base / "packets")
        self._core = str(max(os.sched_getaffinity(0)))
        _set("net/ipv4/ip_forward", "1")
        _set("net/ipv6/conf/all/forwarding", "1")
        _set("net/ipv6/conf/default/accept_dad", "0")
        for number in (_SERVER, _NEIGHBOUR, _BEYOND):
            self.prepare(number)
            settings = "/proc/sys/net/ipv6/conf"
            self.inside(number, "sh", "-c", f"echo 0 >{settings}/default/accept_dad")
        self._make_beyond()
        self.connect()
        server = self.addresses(_SERVER)
        here, there, near = map(self._netns, (_SERVER, _BEYOND, _NEIGHBOUR))
        home = "/proc/self/ns/net"
        outer = (_ON_HOST, FIRST_PORT) if self.published else (server[4], _INNER)
        self._paths: dict[str, tuple[str, str, str, int]] = {
            "neighbour": (here, near, server[4], _INNER),
            "neighbour 6": (here, near, server[6], _INNER),
            "host": (home, near, _GATEWAYS[0], _INNER),
            "beyond": (there, near, _FAR, _INNER),
            "port": (here, there, *outer),
        }

    def connect(self) -> None:
        """Give both sandboxes their network, and publish the server by TCP and UDP."""
        raise NotImplementedError

    def burst(self, path: str, kind: str, bridge_nf: int, milliseconds: int) -> float:
        """Send packets along `path`; the units of `kind` per second of processor time.

        Args:
            path: `neighbour`, `neighbour 6`, `host`, `beyond` or `port`.
            kind: as `bench/packets.c` says.
            bridge_nf: whether the rules for IP see what a bridge forwards.
            milliseconds: the length.
        """
        if _BRIDGE_SETTINGS.is_dir():
            for family in ("iptables", "ip6tables"):
                _set(f"net/bridge/bridge-nf-call-{family}", str(bridge_nf))
        server, client, address, port = self._paths[path]
        answer = output(
            self._program, self._core, server, client, kind, str(_INNER), address, str(port),
            str(milliseconds),
        )  # fmt: skip
        count, nanoseconds = map(int, answer.split())
        return count / nanoseconds * 1e9

    def inside(self, number: int, *argv: str) -> str:
        """Run a command in the namespace `number`, and return its output."""
        return output("nsenter", f"--net={self._netns(number)}", *argv)

    def addresses(self, number: int) -> dict[int, str]:
        """The addresses of sandbox `number` by their IP version."""
        words = ("ip", "-json", "addr", "show", "dev", "eth0", "scope", "global")
        (link,) = filter(None, json.loads(self.inside(number, *words)))
        versions = {"inet": 4, "inet6": 6}
        return {versions[of["family"]]: of["local"] for of in link["addr_info"] if of}

    def _netns(self, number: int) -> str:
        return f"/proc/{self.pids[number]}/ns/net"

    def _make_beyond(self) -> None:
        """Only the contender without rules needs the way back, but none is hurt by it."""
        output("ip", *f"link add uplink type veth peer uplink netns {self.pids[_BEYOND]}".split())
        output("ip", "link", "set", "uplink", "up")
        output("ip", "addr", "add", f"{_ON_HOST}/24", "dev", "uplink")
        for words in (
            "link set uplink up",
            f"addr add {_FAR}/24 dev uplink",
            f"route add {_SUBNETS[0]} via {_ON_HOST}",
        ):
            self.inside(_BEYOND, "ip", *words.split())


class WithoutRules(Packets):
    """The base: a bridge, pairs, addresses and routes, and no rule at all."""

    published = False

    def connect(self) -> None:
        """By ip(8)."""
        for words in (
            "link add name netns0 type bridge",
            "link set netns0 up",
            f"addr add {_GATEWAYS[0]}/16 dev netns0",
            f"addr add {_GATEWAYS[1]}/64 dev netns0",
        ):
            output("ip", *words.split())
        for number in (_SERVER, _NEIGHBOUR):
            outer = f"netnsv0-{self.pids[number]}"
            pair = f"link add name {outer} type veth peer eth0 netns {self.pids[number]}"
            output("ip", *pair.split())
            output("ip", "link", "set", outer, "master", "netns0", "up")
            for words in (
                "link set eth0 up",
                f"addr add {address_of(number)}/16 dev eth0",
                f"addr add {_GATEWAYS[1]}{number}/64 dev eth0",
                f"route add default via {_GATEWAYS[0]}",
            ):
                self.inside(number, "ip", *words.split())


class OfWatcher(Packets):
    """This program.

    Args:
        guard: whether its network has a guard.
    """

    def __init__(self, base: Path, directory: Path, *, guard: bool = True) -> None:
        self._guard = guard
        super().__init__(base, directory)

    def connect(self) -> None:
        """By its own parts in this process."""
        more = {number: self.asked(number) for number in (_SERVER, _NEIGHBOUR)}
        connected(self, keys=(f"guard = {json.dumps(self._guard)}",), more=more)

    def asked(self, number: int) -> dict[str, str]:
        """The annotations of a sandbox."""
        ports = f"{FIRST_PORT}:{_INNER},{FIRST_PORT}:{_INNER}/udp"
        return {"io.watcher.ports": ports} if number == _SERVER else {}


def connected(
    of: Packets,
    mode: str = "bridge",
    keys: Sequence[str] = (),
    more: Mapping[int, dict[str, str]] = MappingProxyType({}),
) -> None:
    """Have this program give both sandboxes of a host their network, in this process.

    Args:
        of: the host.
        mode, keys: what its network is.
        more: what each sandbox asks for besides its ports.
    """
    Path(setting.ROOT).mkdir(mode=0o700)
    subnets = f"subnets = {json.dumps(_SUBNETS)}"
    config = load.load(setting.write_config(of.directory, mode, (subnets, *keys)))
    ports = {_SERVER: f"{FIRST_PORT}:{_INNER},{FIRST_PORT}:{_INNER}/udp", _NEIGHBOUR: ""}
    with assemble.assembled(config, make_log("error", "json")) as (reconciler, _, _):
        for number, asked in ports.items():
            annotations = {"io.watcher.ports": asked} if asked else {}
            setting.add_to_root(number, of.pids[number], annotations | more.get(number, {}))
            container = roots.read(setting.ROOT, name_of(number))
            assert container is not None
            reconciler.admit(container)


class OfNetavark(Packets):
    """netavark with its nftables driver."""

    def connect(self) -> None:
        """A call for each sandbox, as podman makes it."""
        netavark.CONFIG.mkdir()
        for number, ports in ((_SERVER, [FIRST_PORT]), (_NEIGHBOUR, [])):
            asked = netavark.request(number, ports, inner=_INNER, both=True)
            netavark.call("setup", self._netns(number), asked)


class OfCni(Packets):
    """CNI: bridge and host-local for each sandbox, and portmap for the server."""

    def connect(self) -> None:
        """A call of each plugin, as libcni makes it."""
        for number in (_SERVER, _NEIGHBOUR):
            netns = self._netns(number)
            result = cni.call("ADD", number, netns, cni.bridge(self.directory, _SUBNETS))
            if number == _SERVER:
                ports = cni.portmap([FIRST_PORT], _INNER, ("tcp", "udp"))
                cni.call("ADD", number, netns, ports, result)


def _set(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)
