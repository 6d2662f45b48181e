"""Tries the real kernel, in a child process with namespaces of its own.

The child has network namespaces for a host and a container, and a mount namespace. The real
handlers make a sandbox's network there, and everything ends with the child.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import TYPE_CHECKING, Final

from handlers.conntrack import ConntrackHandler
from handlers.context import Context, open_context
from handlers.firewall import ruleset
from handlers.guard.link import NoGuard
from handlers.host_side import HostSideHandler
from handlers.kernel import sysctl
from handlers.kernel.nft import Nft, NftError
from handlers.link.handler import LinkHandler
from handlers.networks import driver_of
from watcher.checks.check import Finding, Subject, fail, ok
from watcher.checks.trial import in_child, refused
from watcher.model.container import Process
from watcher.model.errors import GUARD_REMEDY, message_of
from watcher.model.naming import mac_of
from watcher.model.network import Network
from watcher.model.request import PortMap
from watcher.model.sandbox import Interface, Member, Sandbox

if TYPE_CHECKING:
    from watcher.model.address import AddressWithPrefix

_FEATURES: Final = {
    "CONFIG_NFT_NAT": "chain c {\ntype nat hook postrouting priority srcnat\n}",
    "CONFIG_NFT_MASQ": "chain c {\nmasquerade\n}",
    "CONFIG_NFT_FIB_INET": "chain c {\nfib daddr type local accept\n}",
    "CONFIG_NFT_CT": "chain c {\nct state established accept\n}",
}
"""Kernel options that the ruleset needs, each with a chain that needs only this option."""

_TRIED: Final = "check"


class Forgetful:
    """Notes for handlers whose work ends with the process; nothing is kept."""

    def noted(self, name: str) -> str | None:
        """Always `None`."""

    def note(self, name: str, value: str) -> None:
        """Do nothing."""

    def erase(self, name: str) -> None:
        """Do nothing."""

    def number_of(self, document: str) -> int:  # noqa: ARG002
        """Always the same."""
        return 1

    def keep_only(self, documents: Iterable[str]) -> None:
        """Do nothing."""

    def document_of(self, number: int) -> str:  # noqa: ARG002
        """Nothing is numbered."""
        return ""


def findings(subject: Subject) -> Iterator[Finding]:
    """What the kernel lacks, or that it lacks nothing."""
    yield from in_child(lambda: list(_trial(list(subject.networks.values()))), "kernel")


def _trial(networks: list[Network]) -> Iterator[Finding]:
    with ExitStack() as opened:
        os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
        container = opened.enter_context(_process())
        os.unshare(os.CLONE_NEWNET)
        found = [*_links(container, opened), *_nftables(networks)]
        yield from found or [ok("bridge, veth, nftables and connection tracking work")]


def _links(container: int, opened: ExitStack) -> Iterator[Finding]:
    """Make a sandbox's links as the handlers do, and end its UDP flows."""
    network = _network()
    sandbox = _sandbox(network, container)
    known: Mapping[str, Network] = {network.name: network}
    context = opened.enter_context(open_context("", "", known, Forgetful(), Forgetful(), list))
    steps: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("a bridge", "bridge", lambda: HostSideHandler(context).appear(sandbox)),
        ("a veth pair", "veth", lambda: LinkHandler(context).appear(sandbox)),
        ("connection tracking", "nf_conntrack_netlink", lambda: _end_flows(context, sandbox)),
    )
    for what, module, step in steps:
        try:
            step()
        except NoGuard as error:
            yield fail(message_of(error), GUARD_REMEDY)
            return
        except OSError as error:
            yield fail(
                f"{what} cannot be made or used: {error.strerror or error}",
                f"load it, e.g. `modprobe {module}`, or run a kernel that has it",
            )
            return  # the next step needs it


def _nftables(networks: list[Network]) -> Iterator[Finding]:
    """Make the table for `networks`."""
    nft = Nft()
    try:
        nft.run(ruleset.base(map(driver_of, networks), ruleset.Parts(frozenset(), mark=1)))
    except NftError as error:
        missing = refused(nft, _FEATURES)
        yield fail(
            f"nftables refuses the table{f' for want of {missing}' if missing else ''}: {error}",
            f"run a kernel with {missing or 'CONFIG_NF_TABLES'}",
        )


def _end_flows(context: Context, sandbox: Sandbox) -> None:
    conntrack = ConntrackHandler(context)
    conntrack.appear(sandbox)
    conntrack.end_due()


@contextmanager
def _process() -> Iterator[int]:
    """A process in the present namespaces, in the role of a container's init."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the other end is closed, even by a crash
        os._exit(0)
    os.close(reader)
    try:
        yield pid
    finally:
        os.close(writer)
        os.waitpid(pid, 0)


def _network() -> Network:
    """A network of IPv4 and, if the kernel has it, IPv6."""
    subnets: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("192.0.2.0/24"),)
    if sysctl.get("ipv6/conf/default/disable_ipv6") == "0":
        subnets += (IPv6Network("2001:db8::/64"),)
    return Network(name=_TRIED, bridge=_TRIED, subnets=subnets, isolate=True)


def _sandbox(network: Network, pid: int) -> Sandbox:
    init = Process(pid, 0)
    addresses: tuple[AddressWithPrefix, ...] = tuple(_address(subnet) for subnet in network.subnets)
    interface = Interface(
        0, network.name, network.interface, f"netnsv0-{pid}", mac_of(addresses[0].ip), addresses
    )
    member = Member("", _TRIED, init, (PortMap("udp", None, 53, 53),))
    netns = os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116
    return Sandbox(1, _TRIED, init, netns, (interface,), (member,), ())


def _address(subnet: IPv4Network | IPv6Network) -> AddressWithPrefix:
    return ip_interface((subnet.network_address + 2, subnet.prefixlen))
