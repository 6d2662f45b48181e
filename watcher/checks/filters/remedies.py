"""Names the firewall that drops packets, and the commands that let them pass.

An `accept` in one nftables table does not undo a `drop` in another (nft(8)), so each firewall
needs its own remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.checks.check import fail, warn
from watcher.checks.filters.packets import PORTS
from watcher.model.names import PORT

if TYPE_CHECKING:
    from watcher.checks.check import Finding
    from watcher.checks.filters.chains import Table
    from watcher.checks.filters.fate import Drop
    from watcher.model.address import Address, Subnet
    from watcher.model.network import Network

_VERSIONS: Final = {"ip": 4, "ip6": 6}
"""The IP version that tables of a family see, if it is only one."""

_OPTIONS: Final = {"iif": "-i", "oif": "-o"}
"""The options of iptables for the interfaces of a packet."""


def named(drop: Drop) -> str:
    """The chain and its firewall, in words that users know."""
    table, chain = drop.table, drop.chain
    kind = f"nftables table {table.family}" if table.command == "nft" else f"{table.command} table"
    place = f"chain {chain.name} of {kind} {table.name}"
    if _is_firewalld(table):
        return f"firewalld ({place})"
    if _is_ufw(table):
        return f"ufw's {place}"
    return f"Docker's {place}" if _is_dockers(drop) else place


def told(drop: Drop, what: str, remedy: str) -> Finding:
    """The finding that a chain drops `what`, or may drop it."""
    tell, does = (fail, "drops") if drop.certain else (warn, "may drop")
    return tell(f"{named(drop)} {does} {what}", remedy)


def to_forward(drop: Drop, bridge: str, *, integrate: bool) -> str:
    """The remedy for a drop of packets that are forwarded from and to `bridge`.

    Args:
        drop: the chain that drops them.
        bridge: the bridge of a network.
        integrate: whether `[firewall] integrate` is set, which lets them pass some firewalls.
    """
    table = drop.table
    if _is_firewalld(table):
        return f"{_firewalld(bridge)}, or {_itself(integrate=integrate)}"
    if _is_ufw(table):
        return f"run `ufw route allow in on {bridge}` and `ufw route allow out on {bridge}`"
    if table.family == "bridge":
        return _accept(drop, ("iif", PORTS))
    remedy = _accept(drop, ("iif", bridge), ("oif", bridge))
    return f"{remedy}, or {_itself(integrate=integrate)}" if _is_dockers(drop) else remedy


def to_pass(drop: Drop, *subnets: Subnet, integrate: bool) -> str:
    """The remedy for a drop of packets between sandboxes of this host and of other hosts.

    `integrate` is as in :func:`to_forward`.
    """
    table, chain = drop.table, drop.chain.name
    fit = [subnet for subnet in subnets if _VERSIONS.get(table.family) in (None, subnet.version)]
    if _is_firewalld(table):
        return _firewalld_of(" ".join(f"--add-source={subnet}" for subnet in fit))
    if _is_ufw(table):
        words = [f"`ufw route allow from {subnet} to {subnet}`" for subnet in fit]
    elif table.command == "nft":
        place = f"{table.family} {table.name} {chain}"
        words = [
            f"`nft insert rule {place} {ip} saddr {subnet} {ip} daddr {subnet} accept`"
            for subnet in fit
            for ip in ("ip" if subnet.version == 4 else "ip6",)
        ]
    else:
        chain = "DOCKER-USER" if _is_dockers(drop) else chain
        command = table.command if table.name == "filter" else f"{table.command} -t {table.name}"
        words = [f"`{command} -I {chain} -s {one} -d {one} -j ACCEPT`" for one in fit]
    remedy = "run " + " and ".join(words)
    return f"{remedy}, or {_itself(integrate=integrate)}" if _is_dockers(drop) else remedy


def to_carry(drop: Drop, port: int, *, integrate: bool) -> str:
    """The remedy for a drop of packets of VXLAN to UDP `port`; `integrate` as above."""
    table = drop.table
    if _is_firewalld(table):
        add = f"firewall-cmd --permanent --add-port={port}/udp"
        return f"run `{add}` and `firewall-cmd --reload`"
    if _is_ufw(table):
        way = "in" if drop.chain.hook == "input" else "out"
        remedy = f"run `ufw allow {way} {port}/udp`"
    else:
        remedy = to_port(drop, "udp", port)
    by_itself = (
        drop.chain.name == "INPUT"
        and table.name == "filter"
        and table.command in ("iptables", "ip6tables")
    )
    return f"{remedy}, or {_itself(integrate=integrate)}" if by_itself else remedy


def to_receive(drop: Drop, bridge: str) -> str:
    """The remedy for a drop of packets from `bridge` to the host itself."""
    if _is_firewalld(drop.table):
        return _firewalld(bridge)
    if _is_ufw(drop.table):
        return f"run `ufw allow in on {bridge}`"
    return _accept(drop, ("iif", bridge))


def to_names(drop: Drop, network: Network, own: Address, *, integrate: bool) -> str:
    """The remedy for a drop of questions to the name service at the gateway's address `own`."""
    table, chain = drop.table, drop.chain.name
    if _is_firewalld(table):
        by_bridge = network.facts.on_link
        subnet = network.subnet_of(own.version)
        remedy = (
            _firewalld(network.bridge) if by_bridge else _firewalld_of(f"--add-source={subnet}")
        )
        return f"{remedy}, or {_itself(integrate=integrate)}" if by_bridge else remedy
    if table.command == "nft":
        ip = "ip" if own.version == 4 else "ip6"
        place = f"{table.family} {table.name} {chain}"
        return f"run `nft insert rule {place} {ip} daddr {own} th dport {PORT} accept`"
    if _is_ufw(table):
        remedy = f"run `ufw allow from any to {own} port {PORT}`"
    else:
        command = table.command if table.name == "filter" else f"{table.command} -t {table.name}"
        words = [
            f"`{command} -I {chain} -d {own} -p {protocol} --dport {PORT} -j ACCEPT`"
            for protocol in ("udp", "tcp")
        ]
        remedy = "run " + " and ".join(words)
    by_itself = table.name == "filter" and not table.command.endswith("-legacy")
    return f"{remedy}, or {_itself(integrate=integrate)}" if by_itself else remedy


def to_send(drop: Drop, address: Address) -> str:
    """The remedy for a drop of packets from the host itself to `address`."""
    table, chain = drop.table, drop.chain.name
    if _is_ufw(table):
        return f"run `ufw allow out to {address}`"
    if table.command == "nft":
        place, ip = f"{table.family} {table.name} {chain}", "ip" if address.version == 4 else "ip6"
        return f"run `nft insert rule {place} {ip} daddr {address} accept`"
    return f"run `{table.command} -t {table.name} -I {chain} -d {address} -j ACCEPT`"


def to_port(drop: Drop, protocol: str, port: int) -> str:
    """The remedy for a drop of packets to a published port, before they are rewritten."""
    table, chain = drop.table, drop.chain.name
    if table.command == "nft":
        place = f"{table.family} {table.name} {chain}"
        return f"run `nft insert rule {place} {protocol} dport {port} accept`"
    command = f"{table.command} -t {table.name} -I {chain}"
    return f"run `{command} -p {protocol} --dport {port} -j ACCEPT`"


def _accept(drop: Drop, *where: tuple[str, str]) -> str:
    """Commands that accept packets with each of the interfaces `where`."""
    table, chain = drop.table, drop.chain.name
    if table.command == "nft":
        place = f"{table.family} {table.name} {chain}"
        words = [f"nft insert rule {place} {kind}name '\"{name}\"' accept" for kind, name in where]
    else:
        # Docker keeps moving its own chain to the front of FORWARD.
        chain = "DOCKER-USER" if _is_dockers(drop) else chain
        command = table.command if table.name == "filter" else f"{table.command} -t {table.name}"
        words = [f"{command} -I {chain} {_OPTIONS[kind]} {name} -j ACCEPT" for kind, name in where]
    return "run " + " and ".join(f"`{word}`" for word in words)


def _itself(*, integrate: bool) -> str:
    if integrate:
        return "run `watcher sync`, which does so with integrate = true"
    return "set integrate = true in [firewall]"


def _firewalld(bridge: str) -> str:
    return _firewalld_of(f"--add-interface={bridge}")


def _firewalld_of(what: str) -> str:
    return f"run `firewall-cmd --permanent --zone=trusted {what}` and `firewall-cmd --reload`"


def _is_firewalld(table: Table) -> bool:
    """Whether firewalld made it, with nftables or with its older iptables backend."""
    by_name = table.command == "nft" and table.name == "firewalld"
    return by_name or "FORWARD_POLICIES" in table.chains


def _is_ufw(table: Table) -> bool:
    return any(name in table.chains for name in ("ufw-before-forward", "ufw6-before-forward"))


def _is_dockers(drop: Drop) -> bool:
    return "DOCKER-USER" in drop.table.chains and drop.chain.name == "FORWARD"
