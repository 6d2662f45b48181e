"""The name servers in a container's `/etc/resolv.conf`. Source: resolv.conf(5)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.containers.inside_file import CannotRead, read_inside

if TYPE_CHECKING:
    from watcher.model.address import Address
    from watcher.model.container import Process

PATH: Final = "/etc/resolv.conf"

_MOST: Final = 3
"""MAXNS: the resolver ignores further servers."""


class ResolvConf(Struct, frozen=True):
    """What it says.

    Attributes:
        servers: the servers that programs ask, in this order.
        bad: a server that is no address; empty if all are.
        missing: whether the file is missing.
        error: why it cannot be read; empty if it can.
    """

    servers: tuple[Address, ...] = ()
    bad: str = ""
    missing: bool = False
    error: str = ""


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
            servers.append(ip_address(text))
        except ValueError:
            bad = bad or text
        if len(servers) == _MOST:
            break
    return ResolvConf(tuple(servers), bad)
