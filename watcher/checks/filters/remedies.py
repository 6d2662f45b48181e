"""Names the firewall that drops packets, and the commands that let them pass.

An `accept` in one nftables table does not undo a `drop` in another (nft(8)), so each firewall
needs its own remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.checks.check import fail, warn
from watcher.checks.filters.packets import HOST_END
from watcher.model.names import PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def to_forward(drop: Drop, network: Network, *, integrate: bool) -> str:
    """The remedy for a drop of packets that are forwarded from and to containers of `network`.

    `integrate` is whether `[firewall] integrate` is set, which lets them pass some firewalls.
    """
    table = drop.table
    if _is_firewalld(table):
        return f"{_trusted(network)}, or {_itself(integrate=integrate)}"
    if _is_ufw(table):
        by_bridge = [f"{way} on {network.bridge}" for way in ("in", "out")]
        by_subnet = [f"{way} {s}" for s in _seen(table, network.subnets) for way in ("from", "to")]
        ways = by_bridge if network.facts.on_link else by_subnet
        return _run(f"ufw route allow {way}" for way in ways)
    if table.family == "bridge":
        return _accept_by(drop, HOST_END, "iif")
    remedy = _accept_by(drop, _links(network), "iif", "oif")
    return f"{remedy}, or {_itself(integrate=integrate)}" if _is_dockers(drop) else remedy


def to_pass(drop: Drop, *subnets: Subnet, integrate: bool) -> str:
    """The remedy for a drop of packets between sandboxes of this host and of other hosts.

    `integrate` is as in :func:`to_forward`.
    """
    table = drop.table
    fit = _seen(table, subnets)
    if _is_firewalld(table):
        return f"{_trusted_sources(subnets)}, or {_itself(integrate=integrate)}"
    if _is_ufw(table):
        return _run(f"ufw route allow from {subnet} to {subnet}" for subnet in fit)
    remedy = _accept(
        drop,
        nft=(f"{_ip(subnet)} saddr {subnet} {_ip(subnet)} daddr {subnet}" for subnet in fit),
        iptables=(f"-s {subnet} -d {subnet}" for subnet in fit),
    )
    return f"{remedy}, or {_itself(integrate=integrate)}" if _is_dockers(drop) else remedy


def to_carry(drop: Drop, port: int, *, integrate: bool) -> str:
    """The remedy for a drop of packets of VXLAN to UDP `port`; `integrate` as above."""
    table = drop.table
    if _is_firewalld(table):
        add = f"firewall-cmd --permanent --add-port={port}/udp"
        remedy = f"run `{add}` and `firewall-cmd --reload`"
        return f"{remedy}, or {_itself(integrate=integrate)}"
    if _is_ufw(table):
        way = "in" if drop.chain.hook == "input" else "out"
        remedy = f"run `ufw allow {way} {port}/udp`"
    else:
        remedy = to_port(drop, "udp", port)
    by_itself = drop.chain.name == "INPUT" and _integrates(table)
    return f"{remedy}, or {_itself(integrate=integrate)}" if by_itself else remedy


def to_receive(drop: Drop, network: Network) -> str:
    """The remedy for a drop of packets from containers of `network` to the host itself."""
    if _is_firewalld(drop.table):
        return _trusted(network)
    if _is_ufw(drop.table):
        by_bridge = [f"in on {network.bridge}"]
        by_subnet = [f"from {subnet}" for subnet in _seen(drop.table, network.subnets)]
        return _run(f"ufw allow {w}" for w in (by_bridge if network.facts.on_link else by_subnet))
    return _accept_by(drop, _links(network), "iif")


def to_names(drop: Drop, network: Network, own: Address, *, integrate: bool) -> str:
    """The remedy for a drop of questions to the name service at the gateway's address `own`."""
    table = drop.table
    if _is_firewalld(table):
        return f"{_trusted(network)}, or {_itself(integrate=integrate)}"
    if _is_ufw(table):
        remedy = f"run `ufw allow from any to {own} port {PORT}`"
    else:
        remedy = _accept(
            drop,
            nft=[f"{_ip(own)} daddr {own} th dport {PORT}"],
            iptables=[f"-d {own} -p {protocol} --dport {PORT}" for protocol in ("udp", "tcp")],
        )
    return f"{remedy}, or {_itself(integrate=integrate)}" if _integrates(table) else remedy


def to_send(drop: Drop, address: Address) -> str:
    """The remedy for a drop of packets from the host itself to `address`."""
    if _is_ufw(drop.table):
        return f"run `ufw allow out to {address}`"
    return _accept(drop, nft=[f"{_ip(address)} daddr {address}"], iptables=[f"-d {address}"])


def to_port(drop: Drop, protocol: str, port: int) -> str:
    """The remedy for a drop of packets to a published port, before they are rewritten."""
    return _accept(
        drop, nft=[f"{protocol} dport {port}"], iptables=[f"-p {protocol} --dport {port}"]
    )


def _links(network: Network) -> str:
    """How the names begin of the links by which the host forwards for its containers."""
    return network.bridge if network.facts.on_link else HOST_END


def _accept_by(drop: Drop, link: str, *sides: str) -> str:
    """Commands that accept packets that have `link` on each of the sides, `iif` or `oif`.

    Of host ends, whichever it is.
    """
    any_of = ("*", "+") if link == HOST_END else ("", "")
    return _accept(
        drop,
        nft=(f"{side}name '\"{link}{any_of[0]}\"'" for side in sides),
        iptables=(f"{_OPTIONS[side]} {link}{any_of[1]}" for side in sides),
    )


def _seen(table: Table, subnets: Iterable[Subnet]) -> list[Subnet]:
    """The subnets whose packets a table sees."""
    return [s for s in subnets if _VERSIONS.get(table.family) in (None, s.version)]


def _accept(drop: Drop, *, nft: Iterable[str], iptables: Iterable[str]) -> str:
    """Commands that accept, before all else in the chain, what each of the matches is for.

    They are of the program that the chain is written with.
    """
    table, chain = drop.table, drop.chain.name
    if table.command == "nft":
        place = f"{table.family} {table.name} {chain}"
        return _run(f"nft insert rule {place} {match} accept" for match in nft)
    # Docker keeps moving its own chain to the front of FORWARD.
    chain = "DOCKER-USER" if _is_dockers(drop) else chain
    command = table.command if table.name == "filter" else f"{table.command} -t {table.name}"
    return _run(f"{command} -I {chain} {match} -j ACCEPT" for match in iptables)


def _run(commands: Iterable[str]) -> str:
    return "run " + " and ".join(f"`{command}`" for command in commands)


def _ip(address: Address | Subnet) -> str:
    """What nft calls the family of an address."""
    return "ip" if address.version == 4 else "ip6"


def _itself(*, integrate: bool) -> str:
    if integrate:
        return "run `watcher sync`, which does so with integrate = true"
    return "set integrate = true in [firewall]"


def _integrates(table: Table) -> bool:
    """Whether `integrate` has its chains let pass what comes to the host."""
    return table.name == "filter" and table.command in ("iptables", "ip6tables")


def _trusted(network: Network) -> str:
    """The commands that have firewalld accept what containers of `network` send."""
    if network.facts.on_link:
        return _firewalld_of(f"--add-interface={network.bridge}")
    return _trusted_sources(network.subnets)


def _trusted_sources(subnets: Iterable[Subnet]) -> str:
    return _firewalld_of(" ".join(f"--add-source={subnet}" for subnet in subnets))


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
