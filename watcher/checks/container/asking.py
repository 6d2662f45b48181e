"""Whom a container asks for names where its network has them."""

from __future__ import annotations

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
    """How the container `id_` of `sandbox` asks; `None` if it gets no such file."""
    networks = {name: driver.network for name, driver in drivers.items()}
    domain = config.names.domain
    for member in sandbox.members:
        if member.id == id_ and (found := asks_at(sandbox, member, networks)):
            _, server = found
            return Asking(server, f"{HOST}.{domain}", resolv_conf(server, domain))
    return None
