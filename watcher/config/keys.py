"""The configuration's keys: what each may hold, and a file's tables as the settings.

What must hold between keys is in `rules`. Only a configuration file needs either module.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from watcher.config.rules import ConfigKeyError, KeyPath, check
from watcher.config.settings import Config, Firewall, Gate, Limits, Root
from watcher.config.ula import unique_local_subnet
from watcher.model.address import Subnet
from watcher.model.errors import quoted
from watcher.model.network import Network, Route, valid_network_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from watcher.model.address import Address

type Reader = Callable[[Any, KeyPath], Any]
"""Makes the value of a key from what the file holds there, or raises ConfigKeyError."""

MAX_TIMEOUT: Final = 600.0
"""Seconds that the gate may hold a container at the most."""

MAX_WORD: Final = 64
"""Characters of an unknown word that are compared with the known ones."""

_SUBNET_EXAMPLE: Final = 'write it like "172.19.0.0/16" or "fd00:1::/64"'
_MAX_PREFIX: Final = {4: 30, 6: 126}
"""The longest prefix, by IP version, with room for a gateway and a sandbox."""

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
"""Ranges whose addresses no sandbox can have, and what they are (RFC 6890)."""


def build(document: Mapping[str, Any]) -> Config:
    """Make the configuration of a parsed file; what is not in it has its default.

    Raises:
        ConfigKeyError: an unknown key, a bad value, or values that contradict each other.
    """
    values = _read_keys(document, (), dict.fromkeys(_TOP), _TOP)
    for key, attribute in ("root", "roots"), ("network", "networks"):
        if key in values:
            values[attribute] = values.pop(key)
    config = Config(**values)
    check(config)
    return config


def _read_table(kind: Callable[..., Any], readers: Mapping[str, Reader]) -> Reader:
    """Make a reader of the tables that are a `kind`; a key without a reader is read by type."""

    def read(value: Any, path: KeyPath) -> Any:
        return kind(**_read_keys(_table(value, path), path, get_type_hints(kind), readers))

    return read


def _read_keys(
    table: Mapping[str, Any], path: KeyPath, hints: Mapping[str, Any], readers: Mapping[str, Reader]
) -> dict[str, Any]:
    for key in table:
        if key not in hints:
            near = get_close_matches(key[:MAX_WORD], hints, n=1)
            reason = f"unknown key, not one of {', '.join(hints)}"
            remedy = f"write {near[0]}" if near else "remove it"
            raise ConfigKeyError((*path, key), reason, remedy)
    values = {}
    for key, value in table.items():
        read = readers.get(key) or partial(_typed, hints[key])
        values[key] = read(value, (*path, key))
    return values


def _typed(hint: Any, value: Any, path: KeyPath) -> Any:
    """Check `value` against a plain type: the kinds of which TOML itself has values."""
    try:
        return msgspec.convert(value, hint)
    except (msgspec.ValidationError, ValueError):
        words = [word for word in _literals(hint) if isinstance(word, str)]
        near = get_close_matches(value[:MAX_WORD], words, n=1) if isinstance(value, str) else []
        remedy = f"write {quoted(near[0])}" if near else ""
        raise ConfigKeyError(path, f"not {_accepted(hint)}", remedy) from None


def _literals(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def _accepted(hint: Any) -> str:
    """Say in words which values `hint` accepts."""
    if words := _literals(hint):
        return f"one of {', '.join(map(quoted, words))}"
    return {str: "a string", bool: "true or false", float: "a number"}.get(
        hint, "a list of strings"
    )


def _table(value: Any, path: KeyPath) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigKeyError(path, "not a table", "write a table of key = value")
    return value


def _list(read: Reader, what: str, value: Any, path: KeyPath) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ConfigKeyError(path, f"not a list of {what}", "put it in brackets")
    return tuple(read(item, (*path, index)) for index, item in enumerate(value))


def _integer(low: int, high: int, value: Any, path: KeyPath) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigKeyError(path, f"not a whole number from {low} to {high}")
    return value


def _mtu(value: Any, path: KeyPath) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        return _integer(576, 65535, value, path)
    except ConfigKeyError as error:
        raise ConfigKeyError(path, f'{error.reason}, nor "auto"') from None


def _timeout(value: Any, path: KeyPath) -> float:
    seconds: float = _typed(float, value, path)
    if not 0 < seconds <= MAX_TIMEOUT:
        raise ConfigKeyError(path, f"not more than 0 and at the most {MAX_TIMEOUT:.0f} seconds")
    return seconds


def _directory(value: Any, path: KeyPath) -> str:
    text: str = _typed(str, value, path)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not text.startswith("/") or ".." in parts or "\0" in text or not parts:
        raise ConfigKeyError(
            path, "not an absolute path", 'write one like "/run/runc", without ".."'
        )
    return "/" + "/".join(parts)


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


def _link_name(value: Any, path: KeyPath) -> str:
    """Read an interface's name: what the kernel takes and nftables does not take for a pattern."""
    text: str = _typed(str, value, path)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' /:%*"\\')
    if not plain or not 1 <= len(text) <= 15 or text in (".", "..", "lo", "all", "default"):
        raise ConfigKeyError(
            path, "not an interface's name", "write 1 to 15 letters, digits, _ . and -"
        )
    return text


def _bridge(value: Any, path: KeyPath) -> str:
    name = _link_name(value, path)
    if name.startswith("netnsv"):
        reason = "begins with netnsv, as the ends of veth pairs do"
        raise ConfigKeyError(path, reason, "write another name")
    return name


def _networks(value: Any, path: KeyPath) -> dict[str, Network]:
    networks = {"default": Network()}
    hints = get_type_hints(Network)
    del hints["name"]
    for name, table in _table(value, path).items():
        at = (*path, name)
        if not valid_network_name(name):
            raise ConfigKeyError(
                at, "not a network's name", "write up to 32 letters, digits, _ . and -, not none"
            )
        values = _read_keys(_table(table, at), at, hints, _NETWORK)
        _require(values, () if name == "default" else ("bridge", "subnets"), at)
        networks[name] = Network(name=name, **values)
    return networks


def _require(values: Mapping[str, Any], keys: Collection[str], path: KeyPath) -> None:
    for key in keys:
        if key not in values:
            raise ConfigKeyError(path, f"has no {key}", f"write {key} = … below")


_ROUTE: Final[Mapping[str, Reader]] = {"to": _prefix, "via": _address}


def _route(value: Any, path: KeyPath) -> Route:
    values = _read_keys(_table(value, path), path, dict.fromkeys(_ROUTE), _ROUTE)
    _require(values, tuple(_ROUTE), path)
    return Route(**values)


_NETWORK: Final[Mapping[str, Reader]] = {
    "bridge": _bridge,
    "subnets": _subnets,
    "interface": _link_name,
    "mtu": _mtu,
    "routes": partial(_list, _route, "tables"),
    "metric": partial(_integer, 0, 2**32 - 1),
}

_LIMITS: Final[Mapping[str, Reader]] = {
    "host_ports": partial(_list, _port_range, "strings"),
    "host_addresses": partial(_list, _address, "strings"),
}

_ROOT: Final[Mapping[str, Reader]] = {"path": _directory, "limits": _read_table(Limits, _LIMITS)}

_TOP: Final[Mapping[str, Reader]] = {
    "state_dir": _directory,
    "run_dir": _directory,
    "netns_dir": _directory,
    "root": partial(_list, _read_table(Root, _ROOT), "tables"),
    "gate": _read_table(Gate, {"timeout": _timeout}),
    "network": _networks,
    "firewall": _read_table(Firewall, {}),
}
