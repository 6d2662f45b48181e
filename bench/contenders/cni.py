"""CNI's bridge + host-local + portmap, driven as libcni drives them: one process per plugin."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.contenders.contender import FIRST_PORT, Contender, Times, name_of
from bench.contenders.process import output

PLUGINS: Final = os.environ.get("CNI_PATH", "/usr/lib/cni")
"""The directory of Debian's package `containernetworking-plugins`."""

type Json = dict[str, Any]


class Cni(Contender):
    """The chain that containerd's and CRI-O's example configurations have."""

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        self._results: dict[int, Json] = {}

    def attach(self, number: int) -> Times:
        """ADD of each plugin."""
        netns = f"/proc/{self.pids[number]}/ns/net"
        ports = portmap([FIRST_PORT + number])
        begin = time.perf_counter()
        result = call("ADD", number, netns, bridge(self.directory))
        self._results[number] = call("ADD", number, netns, ports, result)
        return {"all": time.perf_counter() - begin}

    def detach(self, number: int) -> Times:
        """DEL of each plugin, the last first, with the result that is cached."""
        result = self._results.pop(number)
        netns = f"/proc/{self.pids[number]}/ns/net"
        ports = portmap([FIRST_PORT + number])
        begin = time.perf_counter()
        call("DEL", number, netns, ports, result)
        call("DEL", number, netns, bridge(self.directory), result)
        took = time.perf_counter() - begin
        return {"all": took, "gone": took}


def bridge(directory: Path, subnets: Sequence[str] = ("172.19.0.0/16",)) -> Json:
    """The configuration of the bridge plugin, with host-local's leases below `directory`."""
    return {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(directory / "leases"),
            "ranges": [[{"subnet": subnet}] for subnet in subnets],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }


def portmap(ports: Sequence[int], inner: int = 80, protocols: Sequence[str] = ("tcp",)) -> Json:
    """The configuration of the portmap plugin, with `ports` that lead to `inner`."""
    maps = [
        {"hostPort": port, "containerPort": inner, "protocol": protocol}
        for port in ports
        for protocol in protocols
    ]
    return {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": maps},
    }


def request(plugin: Json) -> Json:
    """The standard input of a plugin, without the result of the plugin before it."""
    return {"cniVersion": "1.0.0", "name": "bench", **plugin}


def call(verb: str, number: int, netns: str, plugin: Json, result: Json | None = None) -> Json:
    """Run a plugin; its result."""
    asked = request(plugin)
    if result is not None:
        asked["prevResult"] = result
    environment = {
        **os.environ,
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": name_of(number),
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": PLUGINS,
    }
    answer = output(f"{PLUGINS}/{plugin['type']}", stdin=json.dumps(asked), env=environment)
    given: Json = json.loads(answer) if answer.strip() else {}
    return given
