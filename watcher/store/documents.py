"""Requests and limits as JSON documents in rows of the lease store."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec

from watcher.model.policy.limits import UNLIMITED, SandboxLimits
from watcher.model.request import Request

if TYPE_CHECKING:
    from watcher.model.address import Address


def encode(request: Request) -> str:
    """The document of a request, without what has its default."""
    return _ENCODER.encode(request).decode()


def decode(document: str) -> Request:
    """The request of a document.

    Raises:
        ValueError: it is no document, or has an unknown version.
    """
    return _DECODER.decode(document)


def _address(_: type[Any], text: str) -> Address:
    return ip_address(text)


def encode_limits(limits: SandboxLimits) -> str:
    """The document of a sandbox's limits, without what has its default."""
    return _NO_LIMITS if limits is UNLIMITED else _ENCODER.encode(limits).decode()


def decode_limits(document: str) -> SandboxLimits:
    """The limits of a document.

    Raises:
        ValueError: it is none.
    """
    return _LIMITS.decode(document)


_LIMITS: Final = msgspec.json.Decoder(SandboxLimits)
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)
_NO_LIMITS: Final = _ENCODER.encode(UNLIMITED).decode()
_DECODER: Final = msgspec.json.Decoder(Request, dec_hook=_address)
