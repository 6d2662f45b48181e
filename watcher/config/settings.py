"""The configuration as data, with the defaults of CONTRACT.md; `watcher.config.load` reads it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from msgspec import Struct, field

from watcher.model.network import Network


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What the annotations of a root's containers may ask for (`[root.limits]`).

    Attributes:
        host_ports: ranges of host ports that may be published, inclusive.
        host_addresses: host addresses that may be published on; empty: any. A wildcard is allowed
            only where this is empty or holds the unspecified address of that family.
        networks: networks that may be joined; empty: any.
        fixed: whether fixed addresses and MACs may be asked for.
        share: whose sandboxes may be joined: of any root, of the same root, or none.
    """

    host_ports: tuple[tuple[int, int], ...] = ((1, 65535),)
    host_addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    networks: tuple[str, ...] = ()
    fixed: bool = True
    share: Literal["any", "root", "none"] = "any"


class Root(Struct, frozen=True, forbid_unknown_fields=True):
    """A runc state directory to watch (`[[root]]`)."""

    path: str = "/run/runc"
    attach: Literal["all", "annotated"] = "all"
    limits: Limits = Limits()


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    """How runc is held until a network is ready (`[gate]`); `timeout` is in seconds."""

    mode: Literal["auto", "off", "required"] = "auto"
    timeout: float = 5.0
    on_timeout: Literal["allow", "deny"] = "allow"
    on_invalid: Literal["deny", "allow"] = "deny"


class Firewall(Struct, frozen=True, forbid_unknown_fields=True):
    """How other firewalls of the host are treated (`[firewall]`)."""

    integrate: bool = False


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration; without a file, these defaults."""

    state_dir: str = "/var/lib/watcher"
    run_dir: str = "/run/watcher"
    netns_dir: str = "/run/netns"
    roots: tuple[Root, ...] = (Root(),)
    gate: Gate = Gate()
    networks: dict[str, Network] = field(default_factory=lambda: {"default": Network()})
    firewall: Firewall = Firewall()
