"""A picture of all that the program has made on a host so that packets get to other hosts."""

from __future__ import annotations

from typing import Final

from tests.support.cluster.hosts import ClusterHost

_DEVICE: Final = "netnsx1"
_COMMANDS: Final = {
    "routes": "ip -4 route show proto 119",
    "routes of IPv6": "ip -6 route show proto 119",
    "entries": f"bridge fdb show dev {_DEVICE}",
    "neighbours": f"ip neigh show dev {_DEVICE} nud permanent",
    "neighbours of IPv6": f"ip -6 neigh show dev {_DEVICE} nud permanent",
    "forwarding": f"sysctl net.ipv4.conf.{_DEVICE}.forwarding net.ipv4.conf.uplink.forwarding",
    "IPv6": f"sysctl net.ipv6.conf.{_DEVICE}.accept_ra net.ipv6.conf.{_DEVICE}.disable_ipv6",
    "addresses": "ip -br addr show dev netns0",
}


def picture(host: ClusterHost) -> dict[str, list[str]]:
    """The picture; two of them are equal if nothing differs but the numbers of links."""
    shown = {
        name: host.command(*command.split(), check=False).stdout.splitlines()
        for name, command in _COMMANDS.items()
    }
    link = host.here.link(_DEVICE) or {}
    names = ("ifname", "mtu", "address", "group", "ifalias")
    shown["device"] = [f"{name}: {link.get(name)}" for name in names]
    shown["device"].append(f"up: {'UP' in link.get('flags', ())}")
    return {name: sorted(line.strip() for line in lines) for name, lines in shown.items()}
