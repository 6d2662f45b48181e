"""Whether the port maps are in force, and whether a process of the host has one of their ports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from handlers.firewall import elements, listed
from handlers.kernel import rtnl, sysctl
from watcher.checks.check import Finding, fail, ok, warn
from watcher.containers.sockets import holders
from watcher.model.errors import about
from watcher.reconcile import taken

if TYPE_CHECKING:
    from handlers.kernel.nft import Element
    from watcher.checks.container.gathered import Gathered
    from watcher.model.request import PortMap

_SHOWN: Final = 10
"""The most missing elements that have a line each."""

_SYNC: Final = "run `watcher sync`"


def in_force(gathered: Gathered) -> Iterator[Finding]:
    """Whether the rules have all that the port maps need."""
    ports = gathered.sandbox.ports
    if gathered.rules is None:
        yield fail("the nftables table inet watcher is missing, with all port maps", _SYNC)
        return
    if not ports or not gathered.legs:
        return
    if gathered.outwards(4) is None and gathered.outwards(6) is None:
        yield fail(
            "its networks are internal, so its port maps lead nowhere",
            "run `watcher connect CONTAINER NETWORK` for a network that is not internal",
        )
        return
    wrong = [*_rules(gathered), *_missing(gathered), *_foreign(gathered), *_not_local(gathered)]
    yield from wrong
    if not wrong:
        many = "port map is" if len(ports) == 1 else f"{len(ports)} port maps are"
        yield ok(f"its {many} in force")


def _rules(gathered: Gathered) -> Iterator[Finding]:
    """Whether the table asks its maps; whoever removes rules of it may have left some."""
    if gathered.intact:
        return
    rules = [o["rule"] for o in gathered.rules or () if "rule" in o]
    parts = {(rule["chain"], kind) for rule in rules for part in rule["expr"] for kind in part}
    if not {("prerouting", "jump"), ("output", "jump"), ("publish", "dnat")} <= parts:
        yield fail("rules of the nftables table inet watcher are missing: no port map works", _SYNC)
    else:
        yield warn(
            "the rules of the nftables table inet watcher are not those that watcher makes for this"
            " configuration",
            _SYNC,
        )


def _missing(gathered: Gathered) -> Iterator[Finding]:
    """The elements that are missing, or lead elsewhere."""
    wanted = list(elements.port_maps(gathered.sandbox, gathered.drivers))
    there = {(e.name, e.key): e for e in listed.elements_in(gathered.rules or ())}
    lacking = [element for element in wanted if there.get(element[1:3]) != element]
    for element in lacking[:_SHOWN]:
        found = there.get((element.name, element.key))
        but = f"leads to {_colon(found)}" if found else "is not there"
        yield fail(
            f"{' '.join(element.key)} to {_colon(element)} is not in force: it {but} in map"
            f" {element.name} of the nftables table inet watcher",
            _SYNC,
        )
    if len(lacking) > _SHOWN:
        yield fail(f"{len(lacking) - _SHOWN} more port maps are not in force", _SYNC)


def _colon(element: Element) -> str:
    return ":".join(element.value) or "nothing"


def _foreign(gathered: Gathered) -> Iterator[Finding]:
    """Maps of addresses that this host does not have."""
    asked = [port for port in gathered.sandbox.ports if _is_of_one(port)]
    if not asked:
        return
    bodies = gathered.netlink.dump(rtnl.addresses(0))
    have = {address.ip for address in rtnl.read_addresses(bodies)}
    for port in asked[:_SHOWN]:
        if port.host_ip not in have:
            yield fail(
                f"{port}: this host does not have the address {port.host_ip}",
                f"give it to an interface (`ip addr add`), or publish port {port.host_port} on"
                " another address",
            )


def _is_of_one(port: PortMap) -> bool:
    ip = port.host_ip
    return ip is not None and not ip.is_unspecified and not ip.is_loopback


def _not_local(gathered: Gathered) -> Iterator[Finding]:
    """Maps that work but for the host's own localhost."""
    leg = gathered.outwards(4)
    if leg is None or not any(
        p.host_ip is None or _has_localhost(p) for p in gathered.sandbox.ports
    ):
        return
    setting = f"ipv4/conf/{leg.link}/route_localnet"
    if sysctl.get(setting) == "0" and sysctl.get("ipv4/conf/all/route_localnet") == "0":
        dotted = f"net/{setting}"
        yield warn(
            f"{dotted} = 0: this host does not reach its ports at 127.0.0.1",
            f"run `sysctl -w {dotted}=1`",
        )


def _has_localhost(port: PortMap) -> bool:
    ip = port.host_ip
    return ip is None or (ip.version == 4 and (ip.is_unspecified or ip.is_loopback))


def taken_ports(gathered: Gathered) -> Iterator[Finding]:
    """Each container of the sandbox of which a process of the host took a port."""
    if not gathered.sandbox.ports:
        return
    found, complete = taken.find([gathered.sandbox], gathered.known.networks)
    names = holders({one.listener.inode for one in found.values()})
    for one in found.values():
        error = one.error(names.get(one.listener.inode, ""))
        yield warn(about(one.id, error).removesuffix(f"; {error.remedy}"), error.remedy)
    if not found and complete:
        yield ok("no process of the host listens on its published ports")
    elif not complete:
        yield warn(
            f"more than {taken.AT_ONCE} sockets listen on this host, and not all were compared"
            " with its published ports",
            "see `ss -lntu` for whose they are",
        )
