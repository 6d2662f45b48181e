"""The names and the MACs that follow from what a sandbox is and has."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from watcher.model.address import Address
from watcher.model.network import Network

HOST_NAME: Final = re.compile(r"netnsv\d+-\d+")
"""The name of a host end."""


def interface_names(networks: Sequence[Network]) -> tuple[str, ...]:
    """The name inside of each interface: the first network's choice, then `eth1` and so on.

    A number whose name is taken by the first is left out.
    """
    names: list[str] = [network.interface for network in networks[:1]]
    number = 0
    for _ in networks[1:]:
        number += 1
        if f"eth{number}" == names[0]:
            number += 1
        names.append(f"eth{number}")
    return tuple(names)


def mac_of(address: Address, attempt: int = 0) -> str:
    """The MAC that follows from `address`, lower case with colons, locally administered.

    `02:42` and the four bytes of an IPv4 address. For an IPv6 address, and where that MAC is taken
    (`attempt` counts from 1 then), `02:43` and :func:`hashed_mac`'s four bytes: the same address
    gives the same MAC on every host and after every restart.
    """
    if isinstance(address, IPv4Address) and attempt == 0:
        return _mac(b"\x02\x42" + address.packed)
    return hashed_mac(address.packed, attempt)


def hashed_mac(seed: bytes, attempt: int = 0) -> str:
    """`02:43` and the CRC-32 of `seed` followed by the two bytes of `attempt`.

    Two attempts at one seed never give the same MAC: a CRC tells apart all that differs in
    32 neighbouring bits only.
    """
    return _mac(b"\x02\x43" + zlib.crc32(seed + attempt.to_bytes(2)).to_bytes(4))


def link_local(mac: str) -> IPv6Address:
    """The link-local address that the kernel makes of `mac` (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    return IPv6Address(b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:])


def _mac(raw: bytes) -> str:
    return raw.hex(":")
