"""One entry of a list of `egress` or `ingress`, as users write it.

    entry    = ["!"] target [":" port ["-" port]] ["/" protocol]
    target   = "any" | IPv4 prefix | IPv6 prefix, in brackets before a port | name | word
    name     = a host name, or "*." and a domain: any name in it (egress)
    word     = "host" | "network": the host itself, the sandboxes of the same network (ingress)
    protocol = "tcp" | "udp" | "sctp" | "icmp"

Without a port, all ports and all protocols are meant; with a port but no protocol, that port of
TCP, UDP and SCTP. What a name opens is looked up by its port, so a protocol needs one there, and a
range is short. A text that :func:`checked` has returned stays readable for ever: stores keep it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from msgspec import Struct

from watcher.model.address import Subnet
from watcher.model.errors import BadValue, quoted
from watcher.model.policy.remembering import remembering

type Direction = Literal["egress", "ingress"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("egress", "ingress")
PROTOCOLS: Final = ("tcp", "udp", "sctp", "icmp")
WORDS: Final = ("host", "network")
"""Those that stand for sources without an address of their own in a list of `ingress`."""

EVERY_PORT: Final = (0, 65535)

MAX_ENTRIES: Final = 128
"""The most entries of one list; what the firewall makes of them grows with their square."""

MAX_NAMED_PORTS: Final = 64
"""The most ports of an entry with a name: each address of an answer is opened for each of them."""

_MOST_TEXT: Final = 1 << 22
"""Characters of lists whose entries are remembered."""

MAX_NAME: Final = 253
"""Characters of a host name without its last dot (RFC 1035, section 2.3.4)."""

_ENTRY: Final = re.compile(
    r"(?P<out>!?)"
    r"(?P<target>\[[^\]]*\](?:/[0-9]{1,3})?|[^!:/\[\]]+(?:/[0-9]{1,3})?)"
    r"(?::(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?)?"
    r"(?:/(?P<protocol>[a-z][a-z0-9]*))?"
)
_OUT_ALONE: Final = "takes names out of a list that has none"
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC: Final = re.compile(r"[0-9.]+")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last label of what programs take for an IPv4 address (WHATWG URL, "ends in a number")."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_EXAMPLES: Final[dict[Direction, str]] = {
    "egress": 'write it like "10.0.0.0/8", "any:443/tcp" or "api.example.org:443/tcp"',
    "ingress": 'write it like "192.0.2.0/24", "any:443/tcp" or "!host"',
}


class Entry(Struct, frozen=True):
    """One entry of a list.

    Attributes:
        out: whether it takes out of the list, whatever else is in it.
        prefix: its addresses; `None` stands for all, unless it has a name or a word.
        name: a host name in lower case, or `*.` and a domain; else empty.
        word: one of :data:`WORDS`; else empty.
        ports: the first and the last port.
        protocol: one of :data:`PROTOCOLS`; empty means all, or with ports TCP, UDP and SCTP.
    """

    out: bool
    prefix: Subnet | None
    name: str
    word: str
    ports: tuple[int, int]
    protocol: str

    def __str__(self) -> str:
        target = self.name or self.word or ("any" if self.prefix is None else str(self.prefix))
        ports = "" if self.ports == EVERY_PORT else f":{self.ports[0]}-{self.ports[1]}"
        if self.ports[0] == self.ports[1]:
            ports = f":{self.ports[0]}"
        if self.prefix is not None and self.prefix.version == 6:
            address, _, length = target.partition("/")
            target = f"[{address}]/{length}"
        protocol = f"/{self.protocol}" if self.protocol else ""
        return f"{'!' if self.out else ''}{target}{ports}{protocol}"

    def names(self, name: str) -> bool:
        """Whether it is about the host name `name`, in lower case and without a last dot."""
        if self.name.startswith("*."):
            return name.endswith(self.name[1:])
        return bool(self.name) and name == self.name


@remembering(_MOST_TEXT, lambda _, text, __: len(text))
def parse_list(text: str, direction: Direction) -> tuple[str, ...]:
    """The entries of an annotation's value, each as :func:`str` of an :class:`Entry` has it.

    `none` is the empty list.

    Raises:
        BadValue: it is no such list.
    """
    if text.strip().lower() == "none":
        return ()
    return checked([part.strip() for part in text.split(",")], direction)


def checked(texts: Sequence[str], direction: Direction) -> tuple[str, ...]:
    """`texts` as :func:`str` of an :class:`Entry` has them, sorted and each once.

    Raises:
        BadValue: one of them is no entry of a list of that direction, they are too many, or they
            take out a name but have none.
    """
    if len(texts) > MAX_ENTRIES:
        raise BadValue(f"{len(texts)} entries", f"write at most {MAX_ENTRIES}")
    entries = {parse_entry(text, direction) for text in texts}
    names = [one for one in entries if one.name]
    if names and all(one.out for one in names):
        raise BadValue(
            f"{quoted(names[0])} {_OUT_ALONE}",
            "write the names that may be asked for: an address that is reached without one has no"
            " name",
        )
    return tuple(sorted(map(str, entries)))


@lru_cache(maxsize=65536)
def entry(text: str) -> Entry:
    """The entry of a text that :func:`checked` has returned."""
    try:
        return parse_entry(text, "egress")
    except BadValue:
        return parse_entry(text, "ingress")


def parse_entry(text: str, direction: Direction) -> Entry:
    """One entry of a list.

    Raises:
        BadValue: it is no entry of a list of that direction.
    """
    remedy = _EXAMPLES[direction]
    if not text:
        raise BadValue("an empty entry", remedy)
    if not text.isascii():  # before case is folded, which makes ASCII of some other letters
        raise BadValue(
            f"{quoted(text)} is not in ASCII", 'write other letters of a name as "xn--…" (IDNA)'
        )
    if text.lower().removeprefix("!") == "none":
        raise BadValue('"none" together with others', 'write "none" alone, or an empty list')
    match = _ENTRY.fullmatch(_bracketed(text.lower()))
    if match is None:
        raise BadValue(f"{quoted(text)} is no entry", remedy)
    protocol = match["protocol"] or ""
    if protocol and protocol not in PROTOCOLS:
        raise BadValue(
            f"{quoted(text)} has a protocol that is none of {', '.join(PROTOCOLS)}", remedy
        )
    prefix, name, word = _target(match["target"], text, direction)
    ports = _ports(match["first"], match["last"], protocol, text)
    if name and not match["out"]:
        _check_named(name, ports, protocol, text)
    return Entry(
        out=bool(match["out"]), prefix=prefix, name=name, word=word, ports=ports, protocol=protocol
    )


def _bracketed(text: str) -> str:
    """`text` with an IPv6 address in brackets, which it needs only before a port."""
    bare = text.removeprefix("!")
    if bare.count(":") < 2 or bare.startswith("["):
        return text
    address, slash, rest = bare.partition("/")
    return f"{text[: len(text) - len(bare)]}[{address}]{slash}{rest}"


def _ports(first: str | None, last: str | None, protocol: str, text: str) -> tuple[int, int]:
    if first is None:
        return EVERY_PORT
    if protocol == "icmp":
        raise BadValue(f"{quoted(text)} has a port, and ICMP has none", "write it without the port")
    low, high = int(first), int(last or first)
    if not (1 <= low <= EVERY_PORT[1] and 1 <= high <= EVERY_PORT[1]):
        raise BadValue(f"{quoted(text)} has a port that is not from 1 to 65535", "write such ports")
    if low > high:
        raise BadValue(f"{quoted(text)} has its ports the wrong way round", f"write {high}-{low}")
    return low, high


def _check_named(name: str, ports: tuple[int, int], protocol: str, text: str) -> None:
    """Raise BadValue if addresses cannot be opened like that as answers tell them."""
    if protocol and ports == EVERY_PORT:
        example = f'write "{name}:443/{protocol}", or "{name}" for all'
        if protocol == "icmp":
            example = f'write "{name}" for all, or the addresses'
        raise BadValue(f"{quoted(text)} has a protocol, but no port", example)
    if ports != EVERY_PORT and ports[1] - ports[0] >= MAX_NAMED_PORTS:
        raise BadValue(
            f"{quoted(text)} has {ports[1] - ports[0] + 1} ports of a name",
            f'write at most {MAX_NAMED_PORTS}, or "{name}" for all',
        )


def _target(target: str, text: str, direction: Direction) -> tuple[Subnet | None, str, str]:
    """The prefix, the name and the word of a target; at most one of them is there."""
    if target == "any":
        return None, "", ""
    if target in WORDS:
        if direction == "egress":
            raise BadValue(
                f"{quoted(target)} is a source, and these are destinations",
                "write addresses, a prefix, or a name",
            )
        return None, "", target
    if target.startswith("[") or _NUMERIC.fullmatch(target.partition("/")[0]):
        return _prefix(target, text, direction), "", ""
    name = target.removesuffix(".")
    labels = name.removeprefix("*.").split(".")
    if "/" in name or len(name) > MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise BadValue(f"{quoted(text)} has neither a prefix nor a name", _EXAMPLES[direction])
    if direction == "ingress":
        raise BadValue(f"{quoted(target)} is a name, which no source has", "write addresses")
    if len(labels) < 2:
        raise BadValue(
            f"{quoted(target)} is a name without a domain", "write a whole one, or addresses"
        )
    if _NUMBER.fullmatch(labels[-1]):
        raise BadValue(f"{quoted(target)} is neither an address nor a name", _EXAMPLES[direction])
    return None, name, ""


def _prefix(target: str, text: str, direction: Direction) -> Subnet:
    address, _, length = target.replace("[", "").replace("]", "").partition("/")
    if "%" in address:
        raise BadValue(f"{quoted(text)} has a zone", "write the address without %ZONE")
    if target.startswith("[") and ":" not in address:
        raise BadValue(f"{quoted(text)} has no IPv6 address in its brackets", _EXAMPLES[direction])
    kind = IPv6Network if ":" in address else IPv4Network
    try:
        prefix: Subnet = kind(f"{address}/{length}" if length else address, strict=False)
        exact = prefix.network_address == kind(address).network_address
    except ValueError:
        raise BadValue(f"{quoted(text)} has no prefix", _EXAMPLES[direction]) from None
    if not exact:
        raise BadValue(f"{quoted(text)} has bits behind its prefix", f"write {prefix}")
    if isinstance(prefix, IPv6Network) and prefix.subnet_of(_MAPPED):
        raise BadValue(f"{quoted(text)} is IPv4 written as IPv6", "write it as IPv4")
    return prefix
