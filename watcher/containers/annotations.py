"""Reads and checks a container's `io.watcher.` annotations.

It checks only what a value means by itself. Whether the host can and may grant it (the network
exists, the address is free, the root's limits allow it) is checked where that is known.
"""

from __future__ import annotations

import re
from functools import partial
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final

from watcher.containers.ports import parse_ports
from watcher.containers.sysctls import parse_sysctls
from watcher.model.address import Address
from watcher.model.errors import BadValue, InvalidRequest, quoted, shortened
from watcher.model.keys import PREFIX
from watcher.model.naming import MAX_NETWORKS, RESERVED_NAMES, container_name
from watcher.model.network import valid_network_name
from watcher.model.policy.access import check_size
from watcher.model.policy.entries import parse_list
from watcher.model.policy.rates import parse_count, parse_rate
from watcher.model.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from watcher.model.policy.entries import Direction

LIMITS: Final = ("egress", "ingress", "ingress-bandwidth", "egress-bandwidth", "connections")
"""The annotations that limit what a sandbox may do."""

KEYS: Final = ("ports", "share", "network", "ip", "mac", "sysctl", "name", "dns", *LIMITS)
"""The known annotations, without the prefix."""

MAX_NAMES: Final = 16
"""Names of one container."""

MAX_ID: Final = 255
"""Bytes of a container id: it is a file's name under `netns_dir` (NAME_MAX, limits.h)."""

MAX_SERVERS: Final = 8
"""Servers of one container."""

_MAX_LENGTH: Final = 4096
_NETWORK_REMEDY: Final = 'name configured networks with commas between, or "none" alone'
_NAME_REMEDY: Final = "write up to 63 letters, digits and -, with none of these - at an end"
_IP_REMEDY: Final = (
    'write an IPv4 address, an IPv6 address, or both with a comma, such as "172.19.0.50"'
)
_DNS_REMEDY: Final = (
    'write "none", or addresses that the host reaches, with commas between, such as "192.0.2.53"'
)
_MAX_HOSTNAME: Final = 253
_ID: Final = re.compile(r"[\w+.-]+", re.ASCII)
_HOSTNAME: Final = re.compile(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_MAC_REMEDY: Final = 'write six bytes in hexadecimal, such as "02:42:ac:13:00:32"'


def parse_request(annotations: Mapping[str, str], hostname: str = "") -> Request:
    """The request in a container's `annotations`; those without our prefix are ignored.

    `hostname` is that of its `config.json`.

    Raises:
        InvalidRequest: an unknown key with our prefix, a bad value, or two annotations that
            contradict each other.
    """
    found: dict[str, str] = {}
    for key, value in annotations.items():
        if key.startswith(PREFIX):
            short = key.removeprefix(PREFIX)
            if short not in _PARSERS:
                raise _unknown_key(short, value)
            found[short] = value
    fields: dict[str, Any] = {}
    for short, (field, parse) in _PARSERS.items():
        if short in found:
            try:
                fields[field] = parse(found[short])
            except BadValue as error:
                key, value = PREFIX + short, found[short]
                raise InvalidRequest(key, value, error.reason, error.remedy) from None
    request = Request(annotated=bool(found), hostname=_hostname(hostname), **fields)
    _refuse_contradictions(request, found)
    return request


def valid_id(id: str) -> bool:  # noqa: A002 - the project's word
    """Whether runc accepts `id` as a container id, and a file can have it as a name.

    runc accepts ASCII letters, digits and `_+-.`, but neither `.` nor `..` (`validateID` in its
    libcontainer); a file name has at most `MAX_ID` bytes.
    """
    return 0 < len(id) <= MAX_ID and id not in (".", "..") and _ID.fullmatch(id) is not None


def _unknown_key(short: str, value: str) -> InvalidRequest:
    from difflib import get_close_matches

    near = get_close_matches(short[:64].lower(), KEYS, n=1)
    known = ", ".join(PREFIX + key for key in KEYS)
    remedy = f"write {PREFIX}{near[0]}" if near else f"write one of {known}"
    key = PREFIX + shortened(short)
    return InvalidRequest(key, value, "unknown annotation", remedy)


def _refuse_contradictions(request: Request, found: Mapping[str, str]) -> None:
    """Raise InvalidRequest if one annotation rules out another."""
    if request.share is not None:
        other = f"with {PREFIX}share"
        keys: tuple[str, ...] = ("network", "ip", "mac", "sysctl")
        remedy = f"write it in container {request.share}, whose network this one shares"
    elif request.networks == ():
        other = f"with {PREFIX}network = none"
        keys = ("ports", "ip", "mac", "sysctl", *LIMITS)
        remedy = "remove one of the two"
    else:
        return
    for key in keys:
        if key in found:
            raise InvalidRequest(
                PREFIX + key, found[key], f"contradictory together {other}", remedy
            )


def _bounded(value: str) -> str:
    if len(value) > _MAX_LENGTH:
        raise BadValue(f"{len(value)} characters, more than {_MAX_LENGTH}", "write fewer")
    return value


def _networks(value: str) -> tuple[str, ...]:
    names = [name.strip() for name in _bounded(value).split(",")]
    if names == ["none"]:
        return ()
    for name in names:
        if not name:
            raise BadValue("an empty name", _NETWORK_REMEDY)
        if name == "none":
            raise BadValue('"none" together with a network', _NETWORK_REMEDY)
        if not valid_network_name(name):
            raise BadValue(f"{quoted(name)} is no network's name", _NETWORK_REMEDY)
        if names.count(name) > 1:
            raise BadValue(f"network {name} is repeated", "name each network once")
    if len(names) > MAX_NETWORKS:
        raise BadValue(f"{len(names)} networks", f"name at most {MAX_NETWORKS}")
    return tuple(names)


def _share(value: str) -> str:
    if not valid_id(value):
        raise BadValue("not a container id", "name the container whose network is to be shared")
    return value


def _names(value: str) -> tuple[str, ...]:
    names = []
    for text in (part.strip() for part in _bounded(value).split(",")):
        name = container_name(text)
        if name is None:
            reason = "is reserved" if text.lower() in RESERVED_NAMES else "is no DNS label"
            raise BadValue(f"{quoted(text)} {reason}", _NAME_REMEDY)
        if name in names:
            raise BadValue(f"name {name} is repeated", "write each name once")
        names.append(name)
    if len(names) > MAX_NAMES:
        raise BadValue(f"{len(names)} names", f"write at most {MAX_NAMES}")
    return tuple(names)


def _addresses(value: str) -> tuple[Address, ...]:
    addresses = tuple(_address(part.strip()) for part in _bounded(value).split(","))
    for version in (4, 6):
        if sum(address.version == version for address in addresses) > 1:
            raise BadValue(f"more than one IPv{version} address", "ask for one of each family")
    return addresses


def _address(text: str, remedy: str = _IP_REMEDY) -> Address:
    unfit = remedy if remedy is not _IP_REMEDY else "ask for an address of the network's subnet"
    if "/" in text:
        raise BadValue(f"{quoted(text)} has a prefix length", "write the address alone")
    try:
        address: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        raise BadValue(f"{quoted(text)} is no address", remedy) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise BadValue(f"{quoted(text)} has a zone", "write the address without %ZONE")
    for bad, kind in (
        (address.is_unspecified, "the unspecified address"),
        (address.is_multicast, "a multicast address"),
        (address.is_loopback, "a loopback address"),
    ):
        if bad:
            raise BadValue(f"{address} is {kind}", unfit)
    return address


def _servers(value: str) -> tuple[Address, ...]:
    if _bounded(value).strip() == "none":
        return ()
    servers = tuple(_address(part.strip(), _DNS_REMEDY) for part in value.split(","))
    for server in servers:
        if isinstance(server, IPv6Address) and server.ipv4_mapped is not None:
            raise BadValue(f"{server} is an IPv4-mapped address", _DNS_REMEDY)
        if server.is_link_local:
            raise BadValue(f"{server} is a link-local address", _DNS_REMEDY)
        if servers.count(server) > 1:
            raise BadValue(f"server {server} is repeated", "write each server once")
    if len(servers) > MAX_SERVERS:
        raise BadValue(f"{len(servers)} servers", f"write at most {MAX_SERVERS}")
    return servers


def _hostname(text: str) -> str:
    name = text.lower().removesuffix(".")
    return name if len(name) <= _MAX_HOSTNAME and _HOSTNAME.fullmatch(name) else ""


def _list(direction: Direction, value: str) -> tuple[str, ...]:
    entries = parse_list(_bounded(value), direction)
    check_size(entries, direction)
    return entries


def _mac(value: str) -> str:
    mac = _bounded(value).strip().lower().replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac) is None:
        raise BadValue("not a MAC address", _MAC_REMEDY)
    if int(mac[:2], 16) & 1:
        raise BadValue(
            "a multicast MAC address, which no interface can have",
            f'make the first byte even, such as "{int(mac[:2], 16) & 0xFE:02x}{mac[2:]}"',
        )
    if mac == "00:00:00:00:00:00":
        raise BadValue("the zero MAC address, which no interface can have", _MAC_REMEDY)
    return mac


_PARSERS: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "network": ("networks", _networks),
    "share": ("share", _share),
    "ports": ("ports", parse_ports),
    "ip": ("addresses", _addresses),
    "mac": ("mac", _mac),
    "sysctl": ("sysctl", parse_sysctls),
    "name": ("names", _names),
    "dns": ("dns", _servers),
    "egress": ("egress", partial(_list, "egress")),
    "ingress": ("ingress", partial(_list, "ingress")),
    "ingress-bandwidth": ("ingress_bandwidth", parse_rate),
    "egress-bandwidth": ("egress_bandwidth", parse_rate),
    "connections": ("connections", parse_count),
}
"""The field of :class:`Request` that each annotation says, and its parser. Of several bad ones, the
first is the error."""
