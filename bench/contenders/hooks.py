"""Real containers with a minimal prestart hook that calls one of the peers.

The hook is a shell script that starts no process but the peer's. The peer cleans up after the
container has ended, which is not measured. By then the container's namespace is gone, so the peer
gets another namespace in its place.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from bench.contenders import cni, netavark
from bench.contenders.containers import Containers
from bench.contenders.contender import FIRST_PORT
from bench.contenders.process import output

_READ_STATE: Final = r"""#!/bin/sh
set -eu
read -r state || :
pid=${state#*\"pid\":}
pid=${pid%%,*}
netns=/proc/${pid%%\}*}/ns/net
"""

_CNI: Final = f"""{_READ_STATE}
export CNI_COMMAND=ADD CNI_NETNS=$netns CNI_IFNAME=eth0 CNI_PATH={cni.PLUGINS}
result=$({cni.PLUGINS}/bridge <"$BUNDLE/bridge.json")
printf %s "$result" >"$BUNDLE/result.json"
printf '{{"prevResult":%s,%s' "$result" "$PORTMAP" | {cni.PLUGINS}/portmap >"$BUNDLE/added.json"
"""

_NETAVARK: Final = f"""{_READ_STATE}
exec {netavark.PROGRAM} --config "$CONFIG" setup "$netns" <"$BUNDLE/request.json" >"$BUNDLE/result"
"""


class _Hooked(Containers):
    """The common part of both.

    Args:
        script: the hook.
    """

    script: str

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        self._hook = directory / "hook"
        self._hook.write_text(self.script)
        self._hook.chmod(0o755)

    def hook(self, **environment: str) -> dict[str, Any]:
        """`hooks` of `config.json`."""
        known = {"PATH": os.environ["PATH"], **environment}
        env = [f"{key}={value}" for key, value in known.items()]
        return {"hooks": {"prestart": [{"path": str(self._hook), "env": env}]}}

    def stand_in(self, number: int, address: str) -> str:
        """A namespace with an `eth0` of that `address`, for a peer to clean up."""
        self.prepare(number)
        netns = f"/proc/{self.pids[number]}/ns/net"
        for words in ("link add eth0 type veth peer name other", f"addr add {address} dev eth0"):
            output("nsenter", f"--net={netns}", "ip", *words.split())
        return netns


class WithCni(_Hooked):
    """The hook calls CNI's bridge, with host-local, and portmap."""

    script = _CNI

    def more(self, number: int) -> dict[str, Any]:
        """The hook, and its requests."""
        bundle = self.bundle_of(number)
        bridge = json.dumps(cni.request(cni.bridge(self.directory)))
        (bundle / "bridge.json").write_text(bridge)
        portmap = json.dumps(cni.request(cni.portmap([FIRST_PORT + number])))
        return self.hook(
            BUNDLE=str(bundle), PORTMAP=portmap[1:], CNI_CONTAINERID=f"sandbox-{number}"
        )

    def clean_up(self, numbers: list[int]) -> None:
        """DEL of both plugins."""
        for number in numbers:
            result = json.loads((self.bundle_of(number) / "result.json").read_text())
            netns = self.stand_in(number, result["ips"][0]["address"])
            for plugin in (cni.portmap([FIRST_PORT + number]), cni.bridge(self.directory)):
                cni.call("DEL", number, netns, plugin, result)
            self.discard(number)


class WithNetavark(_Hooked):
    """The hook calls netavark with its nftables driver."""

    script = _NETAVARK

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        netavark.CONFIG.mkdir()

    def more(self, number: int) -> dict[str, Any]:
        """The hook, and its request."""
        bundle = self.bundle_of(number)
        (bundle / "request.json").write_text(netavark.request(number, [FIRST_PORT + number]))
        return self.hook(BUNDLE=str(bundle), CONFIG=str(netavark.CONFIG), NETAVARK_FW="nftables")

    def clean_up(self, numbers: list[int]) -> None:
        """Teardown."""
        for number in numbers:
            netns = self.stand_in(number, netavark.address(number) + "/16")
            netavark.call("teardown", netns, netavark.request(number, [FIRST_PORT + number]))
            self.discard(number)
