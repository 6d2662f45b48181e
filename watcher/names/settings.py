"""What the name service takes from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from msgspec import Struct

if TYPE_CHECKING:
    from watcher.config.settings import Config, Root


class Settings(Struct, frozen=True):
    """What the name service takes from the configuration.

    Attributes:
        domain: the domain of the containers, in lower case, without a dot at its end.
        servers: who is asked for all else; empty: those of the host's resolv.conf.
        roots: whose limits tell which ids are names.
        foreign: the networks on bridges of somebody else, with other machines.
    """

    domain: str
    servers: tuple[str, ...] = ()
    roots: tuple[Root, ...] = ()
    foreign: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config) -> Self:
        """Those of `config`."""
        servers = tuple(str(server) for server in config.names.servers)
        foreign = tuple(one.name for one in config.networks.values() if not one.managed)
        return cls(config.names.domain, servers, config.roots, foreign)
