"""Reads and writes port maps in the notation of the annotation `io.watcher.ports`.

It also reads the JSON list of port mappings that CNI's portmap plugin takes.
"""

from __future__ import annotations

from collections import defaultdict
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

import msgspec
from msgspec.structs import replace

from watcher.model.address import Address
from watcher.model.errors import BadValue, quoted, shortened
from watcher.model.request import PortMap, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_LENGTH: Final = 64 * 1024
"""The most characters of a value."""

MAX_MAPS: Final = 65536
"""The most ports of a value."""

PROTOCOLS: Final[tuple[str, ...]] = get_args(Protocol.__value__)
"""The protocols that can be forwarded."""

_EXAMPLE: Final = 'write HOST:CONTAINER, such as "8080:80" or "127.0.0.1:5353:53/udp"'
_CHOICE: Final = 'write "80" for a free host port, or name one, as in "8080:80"'
_PORT_REMEDY: Final = "write a port from 1 to 65535"
_JSON_REMEDY: Final = (
    'write a list such as [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]'
)


class _Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An element of `runtimeConfig.portMappings` (CNI conventions, "port mappings")."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    host_ip: str = msgspec.field(default="", name="hostIP")


type _Entries = Sequence[str | _Mapping]


def parse_ports(value: str) -> tuple[PortMap, ...]:
    """The port maps in a value of `io.watcher.ports`, in order, :func:`merged`; none overlap.

    Raises:
        BadValue: as :func:`parse_entries`.
    """
    return merged(parse_entries(value))


def parse_entries(value: str) -> list[PortMap]:
    """The port map of each entry of a value of `io.watcher.ports`, in order; none overlap.

    Raises:
        BadValue: a syntax error, a port out of range, a repeated port, more than `MAX_LENGTH`
            characters or more than `MAX_MAPS` ports.
    """
    if len(value) > MAX_LENGTH:
        raise BadValue(
            f"{len(value)} characters, more than {MAX_LENGTH}", "write ranges, or fewer ports"
        )
    text = value.strip()
    if not text:
        raise BadValue("it is empty", 'write it like "8080:80", or remove the annotation')
    entries = _mappings(text) if _is_json(text) else [entry.strip() for entry in text.split(",")]
    ports: list[PortMap] = []
    total = 0
    for entry in entries:
        if not entry:
            raise BadValue("an empty entry", "remove the comma too many")
        try:
            port = _of_text(entry) if isinstance(entry, str) else _of_mapping(entry)
        except BadValue as error:
            raise _at(entries, len(ports), error) from None
        ports.append(port)
        total += port.length
        if total > MAX_MAPS:
            raise BadValue(f"more than {MAX_MAPS} port maps", "publish fewer ports")
    if len(ports) > 1:
        _refuse_overlaps(ports, entries)
    return ports


def _at(entries: _Entries, number: int, error: BadValue) -> BadValue:
    """The `error` of the entry of that `number`, with the place."""
    entry = entries[number]
    where = quoted(entry) if isinstance(entry, str) else f"mapping {number}"
    return BadValue(f"{where}: {error.reason}", error.remedy)


def merged(ports: Iterable[PortMap]) -> tuple[PortMap, ...]:
    """`ports` in order; a port map that continues the one before it is joined to that."""
    found: list[PortMap] = []
    for port in ports:
        if found and _follows(port, found[-1]):
            found[-1] = replace(found[-1], length=found[-1].length + port.length)
        else:
            found.append(port)
    return tuple(found)


def format_ports(ports: Iterable[PortMap]) -> str:
    """`ports` as :func:`parse_ports` reads them, sorted, with consecutive ports as ranges."""
    return ",".join(map(str, merged(sorted(set(ports), key=_order))))


def _order(port: PortMap) -> tuple[str, int, int, int, int]:
    ip = port.host_ip
    version, number = (0, 0) if ip is None else (ip.version, int(ip))
    return port.protocol, version, number, port.host_port, port.port


def _follows(port: PortMap, last: PortMap) -> bool:
    return (
        not port.to_choose
        and port.host_port == last.host_port + last.length
        and port.port == last.port + last.length
        and port.protocol == last.protocol
        and port.host_ip == last.host_ip
    )


def _is_json(text: str) -> bool:
    """Whether `text` is a JSON list of objects; an IPv6 address begins with a bracket, too."""
    return text[0] == "[" and text[1:].lstrip()[:1] in ("{", "]")


def _mappings(text: str) -> list[_Mapping]:
    try:
        return msgspec.json.decode(text, type=list[_Mapping])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadValue(f"not CNI port mappings: {shortened(error)}", _JSON_REMEDY) from None


def _of_mapping(mapping: _Mapping) -> PortMap:
    for key, port in ("hostPort", mapping.host_port), ("containerPort", mapping.container_port):
        if not 1 <= port <= 65535:
            raise BadValue(f"{key} {port} is no port", _PORT_REMEDY)
    ip = _host_ip(mapping.host_ip) if mapping.host_ip else None
    kind = _protocol(mapping.protocol)
    return PortMap(kind, ip, mapping.host_port, mapping.container_port)


def _of_text(entry: str) -> PortMap:
    ends, slash, protocol = entry.partition("/")
    rest, colon, container = ends.rpartition(":")
    kind = _protocol(protocol) if slash else "tcp"
    if not colon:
        return PortMap(kind, None, 0, _to_choose_for(ends))
    if not rest or rest == "0":
        raise BadValue(f"{quoted(rest)} is no port", _CHOICE)
    _refuse_choice_on_address(rest, container)
    host, colon, ports = rest.rpartition(":")
    host_ip = _host_ip(_unbracketed(host)) if colon else None
    first, last = _range(ports)
    port, end = _range(container)
    if last - first != end - port:
        raise BadValue(
            f"{last - first + 1} host ports onto {end - port + 1}",
            "write ranges of the same length",
        )
    return PortMap(kind, host_ip, first, port, last - first + 1)


def _to_choose_for(text: str) -> int:
    """The container's port in an entry that names no host port."""
    first, last = _range(text)
    if first != last:
        raise BadValue(
            "no host ports for a range",
            f'name them, as in "{first}-{last}:{first}-{last}", or write single ports for free'
            " host ports",
        )
    return first


def _refuse_choice_on_address(rest: str, container: str) -> None:
    """Raise BadValue if `rest`, before the container's port, is an address without a host port."""
    host = rest.removesuffix(":")
    if host.endswith("]") or host.rpartition(":")[2].count(".") == 3:
        raise BadValue(
            "no host port on an address",
            f'name one, as in "{shortened(host)}:8080:{shortened(container)}"; a free one is chosen'
            " for all addresses alone",
        )


def _unbracketed(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        inner = host[1:-1]
        if ":" in inner:
            return inner
    elif ":" not in host:
        return host
    raise BadValue(
        f"{quoted(host)} is no host address",
        'write an IPv6 address in brackets, such as "[::1]:8080:80"',
    )


def _host_ip(text: str) -> Address:
    try:
        ip: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        raise BadValue(f"{quoted(text)} is no host address", _EXAMPLE) from None
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise BadValue("a host address with a zone", "write it without %ZONE")
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        raise BadValue("an IPv4-mapped address", f"write {ip.ipv4_mapped} instead")
    if ip.is_multicast or ip == IPv4Address(0xFFFFFFFF):
        raise BadValue(f"{ip} is no address of a host", "write an address of this host")
    return ip


def _range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    first = _port(low)
    last = _port(high) if dash else first
    if last < first:
        raise BadValue(f"range {text} descends", f"write {last}-{first}")
    return first, last


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= 65535:
        raise BadValue(f"{quoted(text)} is no port", _PORT_REMEDY)
    return number


def _protocol(text: str) -> Protocol:
    name = text.lower()
    if name not in PROTOCOLS:
        raise BadValue(f"unknown protocol {quoted(text)}", f"write one of {', '.join(PROTOCOLS)}")
    return cast("Protocol", name)


type _Claim = tuple[Literal[0, 4, 6], int | None]
"""IP version and address: `(0, None)` is any address, `(4, None)` any IPv4 address."""


def _claim(host_ip: Address | None) -> _Claim:
    if host_ip is None:
        return 0, None
    return host_ip.version, None if host_ip.is_unspecified else int(host_ip)


def _refuse_overlaps(ports: Sequence[PortMap], entries: _Entries) -> None:
    """Raise BadValue if two of `ports`, those of `entries`, overlap, even by a wildcard address.

    A set of ports is an integer with one bit per port, so the cost of an entry depends neither on
    its length nor on the number of entries before it.
    """
    to_choose: set[PortMap] = set()
    taken: defaultdict[tuple[Protocol, _Claim], int] = defaultdict(int)
    of_version: defaultdict[tuple[Protocol, int], int] = defaultdict(int)
    for number, port in enumerate(ports):
        if port.to_choose:
            if port in to_choose:
                error = BadValue(
                    f"a free host port for {port} is repeated",
                    "write it once, and name the other host ports",
                )
                raise _at(entries, number, error)
            to_choose.add(port)
            continue
        claim, protocol = _claim(port.host_ip), port.protocol
        version, address = claim
        asked = ((1 << port.length) - 1) << port.host_port
        same = taken[protocol, claim]
        if version == 0:
            others = of_version[protocol, 4] | of_version[protocol, 6]
        elif address is None:
            others = of_version[protocol, version]
        else:
            others = taken[protocol, (version, None)]
        if clash := asked & (same | others | taken[protocol, (0, None)]):
            lowest = clash & -clash
            how = "repeated" if same & lowest else "repeated by a wildcard address"
            error = BadValue(
                f"host port {lowest.bit_length() - 1}/{protocol} is {how}",
                "publish each host port once",
            )
            raise _at(entries, number, error)
        taken[protocol, claim] = same | asked
        of_version[protocol, version] |= asked
