"""The name servers in a container's `/etc/resolv.conf`. Source: resolv.conf(5)."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.containers.inside_file import CannotRead, read_inside

if TYPE_CHECKING:
    from watcher.model.address import Address
    from watcher.model.container import Process

PATH: Final = "/etc/resolv.conf"

_MOST: Final = 3
"""MAXNS: the resolver ignores further servers."""

_SCOPE: Final = re.compile(r"[!-~]{1,15}")
"""An interface's name or number: anything else would only be there to mislead who reads it."""


class ResolvConf(Struct, frozen=True):
    """What it says.

    Attributes:
        servers: the servers that programs ask, in this order.
        bad: a server that is no address; empty if all are.
        missing: whether the file is missing.
        error: why it cannot be read; empty if it can.
        content: all of it.
    """

    servers: tuple[Address, ...] = ()
    bad: str = ""
    missing: bool = False
    error: str = ""
    content: bytes = b""


def read(init: Process) -> ResolvConf:
    """That of the container of `init`."""
    try:
        content = read_inside(init, PATH)
    except CannotRead as error:
        return ResolvConf(error=error.what)
    return ResolvConf(missing=True) if content is None else parse(content)


def parse(content: bytes) -> ResolvConf:
    """What `content` says; it may be anything."""
    servers: list[Address] = []
    bad = ""
    for line in content.splitlines():
        words = line.split(maxsplit=2)
        if len(words) < 2 or words[0] != b"nameserver":
            continue
        text = words[1].decode(errors="replace")
        try:
            servers.append(_address(text))
        except (ValueError, OSError):
            bad = bad or text
        if len(servers) == _MOST:
            break
    return ResolvConf(tuple(servers), bad, content=content)


def _address(text: str) -> Address:
    """The address that the resolver takes `text` for.

    Raises:
        ValueError, OSError: it is none.
    """
    try:
        address = ip_address(text)
    except ValueError:  # as `127.1`; glibc takes what inet_aton(3) does (resolv/res_init.c)
        return ip_address(socket.inet_aton(text))
    scope = address.scope_id if isinstance(address, IPv6Address) else None
    if scope is not None and not _SCOPE.fullmatch(scope):
        raise ValueError
    return address
