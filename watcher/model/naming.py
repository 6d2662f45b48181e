"""Names and MACs of interfaces; names of containers and of kernel settings."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from watcher.model.address import Address
from watcher.model.network import Network

HOST_NAME: Final = re.compile(r"netnsv\d+-\d+")
"""The name of a host end."""

SHAPER_NAME: Final = re.compile(r"netnsi\d+-\d+")
"""The name of the device that shapes what comes from a host end."""

MAX_NETWORKS: Final = 10
"""Networks of one sandbox: `netnsv9-4194304` fills the 15 bytes of an interface's name."""

SHORT_ID: Final = 12
"""The digits that are shown of an id of 64 hexadecimal ones."""

_ENGINES_ID: Final = re.compile("[0-9a-f]{64}")
"""An id that an engine has made up (Docker, Podman)."""

SWAPPED: Final = str.maketrans("./", "/.")
"""Turns the path of a kernel setting into its name, and back: an interface's name may have dots."""

_LABEL: Final = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS label (RFC 1123, section 2.1)."""

RESERVED_NAMES: Final = ("host", "localhost")
"""Names that no container can have."""


def shaper_of(host_name: str) -> str:
    """The name of the device that shapes what comes from the host end `host_name`."""
    return host_name.replace("netnsv", "netnsi")


def shaped_by(name: str) -> str:
    """The name of the host end that the device `name` is for (:func:`shaper_of`)."""
    return name.replace("netnsi", "netnsv")


def container_name(text: str) -> str | None:
    """`text` in lower case if it is a valid name of a container, else `None`."""
    name = text.lower()
    is_label = text.isascii() and _LABEL.fullmatch(name) is not None
    return name if is_label and name not in RESERVED_NAMES else None


def called(id_: str, names: Sequence[str]) -> str:
    """What people call a container: its first name, or its id as `watcher ls` shows that."""
    return names[0] if names else short_id(id_)


def short_id(id_: str) -> str:
    """`id_` as people are shown it: of a long one that an engine has made up, the beginning."""
    return id_[:SHORT_ID] if _ENGINES_ID.fullmatch(id_) else id_


def is_allowed_name(name: str, patterns: Iterable[str]) -> bool:
    """Whether a container's `name` matches one of `patterns`, or there are no patterns.

    A pattern is in lower case; its `*` stands for any characters, or for none.
    """
    patterns = tuple(patterns)
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def interface_names(networks: Sequence[Network]) -> tuple[str, ...]:
    """The names of the sandbox ends: the first network's `interface`, then `eth1` and so on.

    If `interface` is one of these, its number is skipped.
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
    """The MAC for `address`: locally administered, lower case, with colons.

    It is `02:42` and the four bytes of an IPv4 address. For an IPv6 address, or if that MAC is
    taken (`attempt` counts from 1), it is :func:`hashed_mac`. The same address gives the same MAC
    on every host and after every restart.
    """
    if isinstance(address, IPv4Address) and attempt == 0:
        return (b"\x02\x42" + address.packed).hex(":")
    return hashed_mac(address.packed, attempt)


def hashed_mac(seed: bytes, attempt: int = 0) -> str:
    """`02:43` and the CRC-32 of `seed` followed by the two bytes of `attempt`.

    Two attempts with one seed never give the same MAC: CRC-32s of inputs that differ only within
    32 neighbouring bits always differ.
    """
    return (b"\x02\x43" + zlib.crc32(seed + attempt.to_bytes(2)).to_bytes(4)).hex(":")


def link_local(mac: str) -> IPv6Address:
    """The link-local address that the kernel derives from `mac` (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    return IPv6Address(b"\xfe\x80" + bytes(6) + octets[:3] + b"\xff\xfe" + octets[3:])


def sysctl_name(path: str) -> str:
    """The name that sysctl(8) has for the setting at `path`, which is below `/proc/sys/net`."""
    return f"net/{path}".translate(SWAPPED)
