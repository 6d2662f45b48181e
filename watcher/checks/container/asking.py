"""Whom a container asks for names where its network has them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.model.names import HOST, asks_at, resolv_conf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handlers.networks.driver import Driver
    from watcher.config.settings import Config
    from watcher.model.address import Address
    from watcher.model.sandbox import Sandbox


class Asking(Struct, frozen=True):
    """A container that gets an `/etc/resolv.conf`.

    Attributes:
        server: the gateway that it names.
        name: what resolves to that gateway.
        conf: all of the file.
    """

    server: Address
    name: str
    conf: str


def asking(
    config: Config, id_: str, sandbox: Sandbox, drivers: Mapping[str, Driver]
) -> Asking | None:
    """How the container `id_` of `sandbox` asks; `None` if it gets no such file.

    It is that of the sandbox's first network, whatever was connected to it later.
    """
    first = next((one for one in sandbox.interfaces if one.member is None), None)
    if first is None or any(m.id == id_ and m.asked.dns == () for m in sandbox.members):
        return None
    network = drivers[first.network].network
    if not network.named:
        return None
    server, domain = asks_at(network, first), config.names.domain
    return Asking(ip_address(server), f"{HOST}.{domain}", resolv_conf(server, domain))
