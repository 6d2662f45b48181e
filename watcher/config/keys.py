"""Reads the tables of a configuration file as settings, and checks each key by itself.

Rules between keys are in `rules`. Only a configuration file needs either module.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import msgspec
from msgspec import Struct

from watcher.config import patterns
from watcher.config.clusters import check_clusters
from watcher.config.policies import check_policies
from watcher.config.rules import ConfigKeyError, KeyPath, check
from watcher.config.settings import Cluster, Config, Events, Firewall, Gate, Limits, Names, Root
from watcher.config.ula import unique_local_subnet
from watcher.model.address import Subnet
from watcher.model.errors import BadValue, quoted
from watcher.model.network import Network, Route, valid_network_name
from watcher.model.policy.entries import checked, parse_entry
from watcher.model.policy.rates import parse_count, parse_rate
from watcher.model.reaching import parse_reach

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from watcher.model.address import Address
    from watcher.model.policy.entries import Direction

type Reader = Callable[[Any, KeyPath], Any]
"""Makes the value of a key from that in the file, or raises ConfigKeyError."""

MAX_WORD: Final = 64
"""The most characters of an unknown word to compare with the known ones."""

_SUBNET_EXAMPLE: Final = 'write it like "172.19.0.0/16" or "fd00:1::/64"'
_MAX_PREFIX: Final = {4: 30, 6: 126}
"""The longest prefix, by IP version, with room for a gateway and a sandbox."""

_BROADCAST: Final = IPv4Address("255.255.255.255")
_LABEL: Final = re.compile("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_DOMAIN: Final = 128
"""Characters of a domain; the names in it have at most 253."""

_TAKEN_DOMAINS: Final = ("arpa", "local", "localhost", "invalid", "onion")
"""Top-level domains that have a meaning of their own (RFC 6761, 6762, 7686)."""

_UNFIT: Final = {
    "0.0.0.0/8": "reserved",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "255.255.255.255/32": "broadcast",
    "::/127": "loopback",
    "::ffff:0:0/96": "mapped IPv4",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
"""Ranges whose addresses no sandbox can have, and their kind (RFC 6890)."""


def build(document: Mapping[str, Any]) -> Config:
    """Make the configuration of a parsed file; missing keys have their defaults.

    Raises:
        ConfigKeyError: an unknown key, a bad value, or values that contradict each other.
    """
    config: Config = _read_table(Config, document, ())
    check(config)
    check_policies(config)
    check_clusters(config)
    return config


@cache
def hints(kind: type[Struct]) -> Mapping[str, Any]:
    """Return the keys of the tables that `kind` describes, with their types."""
    types = get_type_hints(kind, include_extras=True)
    return {key: types[name] for key, name in names(kind).items()}


@cache
def names(kind: type[Struct]) -> Mapping[str, str]:
    """Return the attribute of each key. A network's `name` is that of its table, and no key."""
    found = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    if kind is Network:
        del found["name"]
    return found


def _read_table(kind: type[Struct], value: Any, path: KeyPath) -> Any:
    return kind(**_read_keys(kind, value, path))


def _read_keys(kind: type[Struct], value: Any, path: KeyPath) -> dict[str, Any]:
    """Return the attributes of a table; a key without a reader is read by its type."""
    table, known, readers = _table(value, path), names(kind), _READERS.get(kind, {})
    for key in table:
        if key not in known:
            near = get_close_matches(key[:MAX_WORD], known, n=1)
            reason = f"unknown key, not one of {', '.join(known)}"
            remedy = f"write {near[0]}" if near else "remove it"
            raise ConfigKeyError((*path, key), reason, remedy)
    values = {}
    for key, item in table.items():
        read = readers.get(key) or partial(_typed, hints(kind)[key])
        values[known[key]] = read(item, (*path, key))
    return values


def _typed(hint: Any, value: Any, path: KeyPath) -> Any:
    """Check `value` against a type that TOML has itself."""
    try:
        return msgspec.convert(value, hint)
    except (msgspec.ValidationError, ValueError):
        kind = msgspec.inspect.type_info(hint)
        words = [word for word in _words(kind) if isinstance(word, str)]
        near = get_close_matches(value[:MAX_WORD], words, n=1) if isinstance(value, str) else []
        remedy = f"write {quoted(near[0])}" if near else ""
        raise ConfigKeyError(path, f"not {_accepted(kind, value)}", remedy) from None


def _words(kind: msgspec.inspect.Type) -> Collection[object]:
    """Return the words that a key accepts, if it accepts only words."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _words(kind.type)
    return kind.values if isinstance(kind, msgspec.inspect.LiteralType) else ()


def _accepted(kind: msgspec.inspect.Type, value: Any, unit: str = "") -> str:
    """Say which values a key of type `kind` accepts; `value` is not one of them."""
    match kind:
        case msgspec.inspect.Metadata(type=inner, extra_json_schema=schema):
            return _accepted(inner, value, (schema or {}).get("x-unit", unit))
        case msgspec.inspect.UnionType(types=types):
            return ", nor ".join(_accepted(one, value, unit) for one in types)
        case msgspec.inspect.LiteralType(values=(word,)):
            return quoted(word)
        case msgspec.inspect.LiteralType(values=words):
            return f"one of {', '.join(map(quoted, words))}"
        case msgspec.inspect.IntType(ge=None):
            return "a whole number"
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case msgspec.inspect.FloatType(gt=low, le=high) if type(value) in (int, float):
            return f"more than {low:g} and at the most {high:g} {unit}"
        case msgspec.inspect.FloatType():
            return "a number"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.StrType():
            return "a string"
    return "a list of strings"


def _table(value: Any, path: KeyPath) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigKeyError(path, "not a table", "write a table of key = value")
    return value


def _list(read: Reader, what: str, value: Any, path: KeyPath) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ConfigKeyError(path, f"not a list of {what}", "put it in brackets")
    return tuple(read(item, (*path, index)) for index, item in enumerate(value))


def _directory(value: Any, path: KeyPath) -> str:
    text: str = _typed(str, value, path)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not text.startswith("/") or ".." in parts or "\0" in text or not parts:
        raise ConfigKeyError(
            path, "not an absolute path", 'write one like "/run/runc", without ".."'
        )
    return "/" + "/".join(parts)


def _root_path(value: Any, path: KeyPath) -> str:
    """Read a directory whose last part may be a pattern."""
    directory = _directory(value, path)
    above, _, name = directory.rpartition("/")
    if patterns.is_pattern(above):
        raise ConfigKeyError(
            path, "has a pattern before its last part", 'write it like "/run/containerd/runc/*"'
        )
    if patterns.is_pattern(name) and not above:
        raise ConfigKeyError(path, "matches the directories of the whole host", "name them")
    if "**" in name:
        raise ConfigKeyError(path, "has **, but a pattern is of one part", "write *")
    if not patterns.is_complete(name):
        raise ConfigKeyError(path, "has a [ without its ]", 'write "[[]" for a [ itself')
    return directory


def _port_range(value: Any, path: KeyPath) -> tuple[int, int]:
    text: str = _typed(str, value, path)
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high <= 65535:
        raise ConfigKeyError(path, 'not an ascending range of ports like "1024-65535", nor a port')
    return low, high


def _address(value: Any, path: KeyPath) -> Address:
    text: str = _typed(str, value, path)
    try:
        if "%" not in text:
            return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        pass
    raise ConfigKeyError(path, "not an IPv4 or IPv6 address", 'write it like "172.19.0.2"')


def _server(value: Any, path: KeyPath) -> Address:
    address = _address(value, path)
    of_a_link = address.version == 6 and address.is_link_local  # of which link, nobody can say
    unfit = address.is_unspecified or address.is_multicast or address == _BROADCAST
    if unfit or of_a_link:
        raise ConfigKeyError(path, "not the address of a server", 'write it like "192.0.2.53"')
    return address


def _prefix(value: Any, path: KeyPath) -> Subnet:
    """Read an address with a prefix length and no host bits."""
    text: str = _typed(str, value, path)
    if not re.fullmatch(r"[0-9a-fA-F.:]+/[0-9]{1,3}", text):
        raise ConfigKeyError(path, "not a subnet", _SUBNET_EXAMPLE)
    kind = IPv6Network if ":" in text else IPv4Network
    try:
        subnet: Subnet = kind(text, strict=False)
    except ValueError:
        raise ConfigKeyError(path, "not a subnet", _SUBNET_EXAMPLE) from None
    if _address(text.partition("/")[0], path) != subnet.network_address:
        raise ConfigKeyError(path, "has bits behind its prefix", f'write "{subnet}"')
    return subnet


def _subnet(value: Any, path: KeyPath) -> Subnet:
    if value == "ula":
        return unique_local_subnet(str(path[1]))
    subnet = _prefix(value, path)
    for text, what in _UNFIT.items():
        unfit = IPv6Network(text) if ":" in text else IPv4Network(text)
        if unfit.version == subnet.version and unfit.overlaps(subnet):
            raise ConfigKeyError(
                path, f"overlaps {text}, which is {what}", "write a private subnet"
            )
    longest = _MAX_PREFIX[subnet.version]
    if subnet.prefixlen > longest:
        raise ConfigKeyError(
            path, "has no room for a gateway and a sandbox", f"write a prefix up to /{longest}"
        )
    return subnet


def _subnets(value: Any, path: KeyPath) -> tuple[Subnet, ...]:
    subnets = _list(_subnet, "subnets", value, path)
    versions = [subnet.version for subnet in subnets]
    if not versions or len(set(versions)) < len(versions):
        raise ConfigKeyError(path, "not one IPv4 subnet, one IPv6 subnet, or one of each")
    return subnets


def link_name(value: Any, path: KeyPath) -> str:
    """Read an interface name that the kernel accepts and nftables does not take for a pattern."""
    text: str = _typed(str, value, path)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' /:%*"\\')
    if not plain or not 1 <= len(text) <= 15 or text in (".", "..", "lo", "all", "default"):
        raise ConfigKeyError(
            path, "not an interface's name", "write 1 to 15 letters, digits, _ . and -"
        )
    return text


def _name_pattern(value: Any, path: KeyPath) -> str:
    text: str = _typed(str, value, path)
    if re.fullmatch(r"[a-zA-Z0-9*-]{1,63}", text) is None:
        raise ConfigKeyError(
            path, "not a pattern of names", 'write letters, digits, - and *, such as "app-*"'
        )
    return text.lower()


def _domain(value: Any, path: KeyPath) -> str:
    text = _typed(str, value, path).lower().removesuffix(".")
    labels = text.split(".")
    if len(text) > _MAX_DOMAIN or not all(map(_LABEL.fullmatch, labels)):
        raise ConfigKeyError(path, "not a domain", 'write one like "watcher.internal"')
    if labels[-1] in _TAKEN_DOMAINS:
        raise ConfigKeyError(
            path, f"ends in {labels[-1]}, which is used otherwise", 'write "watcher.internal"'
        )
    return str(text)


def _bridge(value: Any, path: KeyPath) -> str:
    name = link_name(value, path)
    if name.startswith("netnsv"):
        reason = "begins with netnsv, as the ends of veth pairs do"
        raise ConfigKeyError(path, reason, "write another name")
    return name


def _networks(value: Any, path: KeyPath) -> dict[str, Network]:
    networks = {"default": Network()}
    for name, table in _table(value, path).items():
        at = (*path, name)
        if not valid_network_name(name):
            raise ConfigKeyError(
                at, "not a network's name", "write up to 32 letters, digits, _ . and -, not none"
            )
        values = _read_keys(Network, table, at)
        _require(values, () if name == "default" else ("bridge", "subnets"), at)
        if values.get("names") and not values.get("managed", True):
            reason = "cannot be true with managed = false: the gateway is not this program's"
            raise ConfigKeyError((*at, "names"), reason, "leave it out")
        networks[name] = Network(name=name, **values)
    return networks


def _require(values: Mapping[str, Any], keys: Collection[str], path: KeyPath) -> None:
    for key in keys:
        if key not in values:
            raise ConfigKeyError(path, f"has no {key}", f"write {key} = … below")


def _route(value: Any, path: KeyPath) -> Route:
    values = _read_keys(Route, value, path)
    _require(values, ("to", "via"), path)
    return Route(**values)


def _reach(value: Any, path: KeyPath) -> str:
    text: str = _typed(str, value, path)
    _of_value(partial(parse_reach, text), path)
    return text


def _access(direction: Direction, value: Any, path: KeyPath) -> tuple[str, ...]:
    texts = _list(partial(_typed, str), "strings", value, path)
    for index, text in enumerate(texts):
        if text.lower() == "none":
            raise ConfigKeyError((*path, index), "is for annotations", "write an empty list, []")
        _of_value(partial(parse_entry, text, direction), (*path, index))
    return _of_value(partial(checked, list(texts), direction), path)


def _rate(value: Any, path: KeyPath) -> int:
    return _of_value(partial(parse_rate, _typed(str, value, path)), path)


def _count(value: Any, path: KeyPath) -> int:
    return _of_value(partial(parse_count, str(_typed(int, value, path))), path)


def _mark(value: Any, path: KeyPath) -> int:
    bit: int = _typed(int, value, path)
    if bit not in (1 << n for n in range(32)):
        raise ConfigKeyError(path, "not one bit of 32", "write one like 0x10000000")
    return bit


def _of_value[T](read: Callable[[], T], path: KeyPath) -> T:
    try:
        return read()
    except BadValue as error:
        raise ConfigKeyError(path, error.reason, error.remedy) from None


_READERS: Final[Mapping[type[Struct], Mapping[str, Reader]]] = {
    Config: {
        "state_dir": _directory,
        "run_dir": _directory,
        "netns_dir": _directory,
        "root": partial(_list, partial(_read_table, Root), "tables"),
        "gate": partial(_read_table, Gate),
        "network": _networks,
        "firewall": partial(_read_table, Firewall),
        "events": partial(_read_table, Events),
        "names": partial(_read_table, Names),
        "cluster": partial(_read_table, Cluster),
    },
    Root: {"path": _root_path, "limits": partial(_read_table, Limits)},
    Limits: {
        "host_ports": partial(_list, _port_range, "strings"),
        "host_addresses": partial(_list, _address, "strings"),
        "names": partial(_list, _name_pattern, "strings"),
        "ingress_bandwidth": _rate,
        "egress_bandwidth": _rate,
        "connections": _count,
    },
    Firewall: {"mark": _mark, "rules": lambda value, path: value and _directory(value, path)},
    Names: {"domain": _domain, "servers": partial(_list, _server, "strings")},
    Cluster: {"prefix": partial(_typed, str)},  # what it may be is a rule for all of it
    Network: {
        "bridge": _bridge,
        "subnets": _subnets,
        "interface": link_name,
        "routes": partial(_list, _route, "tables"),
        "reach": partial(_list, _reach, "strings"),
        "egress": partial(_access, "egress"),
        "ingress": partial(_access, "ingress"),
        "ingress_bandwidth": _rate,
        "egress_bandwidth": _rate,
        "connections": _count,
    },
    Route: {"to": _prefix, "via": _address},
}
"""The readers of keys whose types TOML does not have."""
