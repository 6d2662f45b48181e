"""netavark with its nftables driver, as podman drives it: one process per setup or teardown."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.contenders.contender import FIRST_PORT, Contender, Times, address_of, name_of
from bench.contenders.process import output

PROGRAM: Final = "/usr/lib/podman/netavark"
"""The path in Debian's package `netavark`."""

CONFIG: Final = Path("/run/netavark")
"""Its state directory on each throwaway host."""

_NETWORK: Final[dict[str, Any]] = {
    "name": "bench",
    "id": "b" * 64,
    "driver": "bridge",
    "network_interface": "bench0",
    "subnets": [{"subnet": "172.19.0.0/16", "gateway": "172.19.0.1"}],
    "ipv6_enabled": False,
    "internal": False,
    "dns_enabled": False,
    "ipam_options": {"driver": "host-local"},
}
_SUBNET6: Final = {"subnet": "fd00:19::/64", "gateway": "fd00:19::1"}


class Netavark(Contender):
    """Debian's package, as podman configures a bridge without DNS."""

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        CONFIG.mkdir()

    def attach(self, number: int) -> Times:
        """`netavark setup`."""
        return self._call("setup", number)

    def detach(self, number: int) -> Times:
        """`netavark teardown`, at whose end the link is gone."""
        took = self._call("teardown", number)["all"]
        return {"all": took, "gone": took}

    def _call(self, verb: str, number: int) -> Times:
        asked = request(number, [FIRST_PORT + number])
        begin = time.perf_counter()
        call(verb, f"/proc/{self.pids[number]}/ns/net", asked)
        return {"all": time.perf_counter() - begin}


def call(verb: str, netns: str, asked: str) -> None:
    """Run `netavark setup` or `teardown` with the request `asked`."""
    environment = {**os.environ, "NETAVARK_FW": "nftables"}
    output(PROGRAM, "--config", str(CONFIG), verb, netns, stdin=asked, env=environment)


def address(number: int) -> str:
    """The address of sandbox `number`, which podman's IPAM would choose."""
    return address_of(number)


def request(number: int, ports: Sequence[int], *, inner: int = 80, both: bool = False) -> str:
    """What podman writes to netavark's standard input for sandbox `number`.

    Args:
        number: the sandbox.
        ports: of the host.
        inner: where they lead.
        both: IPv6 as well as IPv4, and UDP as well as TCP.
    """
    addresses, network = [address(number)], _NETWORK
    if both:
        addresses.append(f"fd00:19::1{number}")
        network = _NETWORK | {"subnets": [*_NETWORK["subnets"], _SUBNET6], "ipv6_enabled": True}
    asked: dict[str, Any] = {
        "container_id": name_of(number),
        "container_name": name_of(number),
        "port_mappings": [
            {
                "container_port": inner,
                "host_ip": "",
                "host_port": port,
                "protocol": protocol,
                "range": 1,
            }
            for port in ports
            for protocol in (("tcp", "udp") if both else ("tcp",))
        ],
        "networks": {"bench": {"static_ips": addresses, "interface_name": "eth0"}},
        "network_info": {"bench": network},
    }
    return json.dumps(asked)
