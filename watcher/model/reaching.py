"""Which networks may open connections to which others, and to which ports there (`reach`)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from watcher.model.errors import BadValue, quoted
from watcher.model.policy.entries import EVERY_PORT, PROTOCOLS

_REACH: Final = re.compile(
    r"(?P<network>[^:/]+)(?::(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?)?"
    r"(?:/(?P<protocol>[a-z]+))?"
)
_REMEDY: Final = 'write it like "back", "back:5432/tcp", "back:8000-8100" or "back/icmp"'


class Reach(Struct, frozen=True):
    """What the sandboxes of one network may open connections to in another.

    Attributes:
        network: the other one's name.
        ports: the first and the last port; all, if none is named.
        protocol: one of :data:`PROTOCOLS`; empty means all, or with ports TCP, UDP and SCTP.
    """

    network: str
    ports: tuple[int, int] = EVERY_PORT
    protocol: str = ""

    @property
    def match(self) -> str:
        """What nft(8) is asked of a packet beside where it comes from and goes to; may be empty."""
        if self.protocol == "icmp":
            return "meta l4proto { icmp, ipv6-icmp }"
        protocols = self.protocol or "{ tcp, udp, sctp }"
        if self.ports == EVERY_PORT:
            return f"meta l4proto {protocols}" if self.protocol else ""
        low, high = self.ports
        ports = str(low) if low == high else f"{low}-{high}"
        return f"meta l4proto {protocols} th dport {ports}"


@lru_cache(maxsize=1024)
def parse_reach(text: str) -> Reach:
    """One element of `reach`; the network may not exist.

    Raises:
        BadValue: it is none.
    """
    match = _REACH.fullmatch(text)
    if match is None:
        raise BadValue("no network with ports", _REMEDY)
    protocol = match["protocol"] or ""
    if protocol and protocol not in PROTOCOLS:
        raise BadValue(f"{quoted(protocol)} is none of {', '.join(PROTOCOLS)}", _REMEDY)
    if match["first"] is None:
        return Reach(match["network"], EVERY_PORT, protocol)
    if protocol == "icmp":
        raise BadValue("has a port, and ICMP has none", "write it without the port")
    low, high = int(match["first"]), int(match["last"] or match["first"])
    if not 1 <= low <= high <= EVERY_PORT[1]:
        raise BadValue("has no ascending ports from 1 to 65535", _REMEDY)
    return Reach(match["network"], (low, high), protocol)
