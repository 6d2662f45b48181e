"""The keys of the annotations, as they stand in `config.json` and in errors."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "io.watcher."
"""What all of them begin with."""

PORTS: Final = f"{PREFIX}ports"
SHARE: Final = f"{PREFIX}share"
NETWORK: Final = f"{PREFIX}network"
IP: Final = f"{PREFIX}ip"
MAC: Final = f"{PREFIX}mac"
SYSCTL: Final = f"{PREFIX}sysctl"
NAME: Final = f"{PREFIX}name"
DNS: Final = f"{PREFIX}dns"
EGRESS: Final = f"{PREFIX}egress"
INGRESS: Final = f"{PREFIX}ingress"
INGRESS_BANDWIDTH: Final = f"{PREFIX}ingress-bandwidth"
EGRESS_BANDWIDTH: Final = f"{PREFIX}egress-bandwidth"
CONNECTIONS: Final = f"{PREFIX}connections"

INTERFACE: Final = f"{PREFIX}interface"
"""No annotation, but `--interface` of `watcher connect`, in errors about it."""
