"""An endpoint as it stands in the registry.

It is what a host claims, from annotations that anybody may have written: so it is bounded where it
is made and where it is read. `{"names": [["web", "3f2a…"], ["sidecar"]], "addresses": {"default":
["10.9.4.2"]}}`.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from watcher.model.naming import MAX_NETWORKS
from watcher.model.network import valid_network_name
from watcher.observe.naming import can_be_asked_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_BYTES: Final = 8192
"""Of one endpoint. A hundred of them are a transaction, for which etcd allows 1.5 MiB
(`--max-request-bytes`)."""

MOST_NAMES: Final = 64
"""Of all containers of a sandbox."""

MOST_ADDRESSES: Final = 8
"""Of a sandbox in one network."""

_LONGEST_ID: Final = 32


class Endpoint(Struct, frozen=True):
    """A sandbox as other hosts know it.

    Attributes:
        names: what each of its containers is called; first, what people call it.
        addresses: its addresses, by the network.
    """

    names: tuple[tuple[str, ...], ...]
    addresses: dict[str, tuple[str, ...]]


class BadRecord(ValueError):
    """What is in the registry is no endpoint; says why."""


def bounded(names: Iterable[Sequence[str]], addresses: Mapping[str, Sequence[str]]) -> Endpoint:
    """The endpoint with these, as far as they have room; what comes first has."""
    kept: list[tuple[str, ...]] = []
    left, room = MOST_NAMES, MOST_BYTES // 2
    for group in names:
        fit: list[str] = []
        for name in group:
            if left and len(name) + 4 <= room:  # quotes, a comma, and the like
                fit.append(name)
                left -= 1
                room -= len(name) + 4
        if fit:
            kept.append(tuple(fit))
    some = sorted(addresses)[:MAX_NETWORKS]
    return Endpoint(tuple(kept), {n: tuple(addresses[n])[:MOST_ADDRESSES] for n in some})


def encoded(endpoint: Endpoint) -> bytes:
    """As it is written: the same endpoint makes the same bytes."""
    return _encoder.encode(endpoint)


def decoded(id_: str, value: bytes) -> Endpoint:
    """The endpoint that was read, with that id.

    Raises:
        BadRecord: it is none, or larger than any that is written.
    """
    if not valid_id(id_):
        raise BadRecord("its id is no number")
    if len(value) > MOST_BYTES:
        raise BadRecord(f"has {len(value)} bytes, more than {MOST_BYTES}")
    try:
        endpoint = _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise BadRecord(str(error)) from error
    names = [name for group in endpoint.names for name in group]
    if len(names) > MOST_NAMES:
        raise BadRecord(f"has {len(names)} names, more than {MOST_NAMES}")
    for name in names:
        if not can_be_asked_for(name):
            raise BadRecord(f"{name!r} is no name of a container")
    if len(endpoint.addresses) > MAX_NETWORKS:
        raise BadRecord(f"has {len(endpoint.addresses)} networks, more than {MAX_NETWORKS}")
    for network, addresses in endpoint.addresses.items():
        _check(network, addresses)
    return endpoint


def valid_id(id_: str) -> bool:
    """Whether an endpoint can have that id, which is a part of its key."""
    return id_.isascii() and id_.isdecimal() and len(id_) <= _LONGEST_ID


def _check(network: str, addresses: tuple[str, ...]) -> None:
    if not valid_network_name(network):
        raise BadRecord(f"{network!r} is no network's name")
    if len(addresses) > MOST_ADDRESSES:
        raise BadRecord(f"has {len(addresses)} addresses, more than {MOST_ADDRESSES}")
    for address in addresses:
        try:
            read = ip_address(address)
        except ValueError as error:
            raise BadRecord(str(error)) from error
        if str(read) != address or "%" in address:
            raise BadRecord(f"{address!r} is not written as addresses are")


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final[msgspec.json.Decoder[Endpoint]] = msgspec.json.Decoder(Endpoint)
