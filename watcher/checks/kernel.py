"""What the kernel can do, tried for real in a child process with namespaces of its own.

The child has network namespaces for a host and a container and a mount namespace, and lets the
handlers themselves make a sandbox's network there; all of it ends with the child.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final

import msgspec

from handlers.conntrack import ConntrackHandler
from handlers.context import Context, opened_context
from handlers.firewall import ruleset
from handlers.host_side import HostSideHandler
from handlers.kernel import sysctl
from handlers.kernel.fanotify import Listener
from handlers.kernel.nft import Nft, NftError
from handlers.link.handler import LinkHandler
from handlers.networks import driver_of
from watcher.checks.finding import Finding, fail, ok
from watcher.model.container import Process
from watcher.model.errors import WatcherError
from watcher.model.naming import mac_of
from watcher.model.network import Network
from watcher.model.request import PortMap
from watcher.model.sandbox import Interface, Member, Sandbox

if TYPE_CHECKING:
    from watcher.model.address import AddressWithPrefix

_FEATURES: Final = {
    "CONFIG_NFT_NAT": ("inet", "type nat hook postrouting priority srcnat"),
    "CONFIG_NFT_MASQ": ("inet", "masquerade"),
    "CONFIG_NFT_FIB_INET": ("inet", "fib daddr type local accept"),
    "CONFIG_NFT_CT": ("inet", "ct state established accept"),
    "CONFIG_NF_TABLES_BRIDGE": ("bridge", "type filter hook input priority 0"),
}
"""Options of the kernel of which the ruleset has need, each with a chain that takes it alone."""

_TRIED: Final = "check"


class _Forgetful:
    """Notes for handlers whose work is undone by the end of the process."""

    def noted(self, name: str) -> str | None:
        """Nothing was."""

    def note(self, name: str, value: str) -> None:
        """Not kept."""

    def erase(self, name: str) -> None:
        """Nothing to do."""


def findings(networks: Iterable[Network]) -> Iterator[Finding]:
    """What the kernel refuses of what is needed, or that it can do it all."""
    yield from in_child(lambda: list(_trial(list(networks))), "kernel")


def gate_error() -> str:
    """Why the kernel lets this process have no gate; empty if it does.

    A mark of a whole mount is tried: permission events may be built out of a kernel that has
    fanotify otherwise. In the child's mount namespace it concerns the child alone.
    """

    def trial() -> list[Finding]:
        os.unshare(os.CLONE_NEWNS)
        with Listener() as listener:
            listener.mark("/")  # no open below it until it is closed: nobody would answer
        return []

    return next((finding.what for finding in in_child(trial, "gate")), "")


def in_child(trial: Callable[[], list[Finding]], check: str) -> list[Finding]:
    """What `trial` finds in a child process, whose end undoes what it did to its namespaces."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            found = _guarded(trial, check)
            os.write(writer, msgspec.json.encode(found))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        content = answer.read()
    _, status = os.waitpid(child, 0)
    try:
        return msgspec.json.decode(content, type=list[Finding])
    except msgspec.MsgspecError:
        how = f"signal {status}" if os.WIFSIGNALED(status) else "an error"
        return [fail(check, f"the trial ended by {how}", "see `dmesg`")]


def _guarded(trial: Callable[[], list[Finding]], check: str) -> list[Finding]:
    try:
        return trial()
    except PermissionError as error:
        return [fail(check, f"{error.strerror} ({error.filename or check})", "run as root")]
    except (OSError, WatcherError) as error:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return [fail(check, text, "run a kernel that has it")]


def _trial(networks: list[Network]) -> Iterator[Finding]:
    with ExitStack() as opened:
        os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
        container = opened.enter_context(_process())
        os.unshare(os.CLONE_NEWNET)
        found = [*_links(container, opened), *_nftables(networks)]
        yield from found or [ok("kernel", "bridge, veth, nftables and connection tracking work")]


def _links(container: int, opened: ExitStack) -> Iterator[Finding]:
    """Make a sandbox's links as the handlers do, and end its UDP flows."""
    network = _network()
    sandbox = _sandbox(network, container)
    known: Mapping[str, Network] = {network.name: network}
    context = opened.enter_context(opened_context("", known, _Forgetful(), list))
    steps: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("a bridge", "bridge", lambda: HostSideHandler(context).appear(sandbox)),
        ("a veth pair", "veth", lambda: LinkHandler(context).appear(sandbox)),
        ("connection tracking", "nf_conntrack_netlink", lambda: _end_flows(context, sandbox)),
    )
    for what, module, step in steps:
        try:
            step()
        except OSError as error:
            yield fail(
                "kernel",
                f"{what} cannot be made or used: {error.strerror or error}",
                f"load it, e.g. `modprobe {module}`, or run a kernel that has it",
            )
            return  # without it the next cannot be tried


def _nftables(networks: list[Network]) -> Iterator[Finding]:
    """Make both tables as they are made for `networks`."""
    nft = Nft()
    try:
        nft.run(ruleset.base(map(driver_of, networks)))
    except NftError as error:
        missing = ", ".join(option for option in _FEATURES if not _has(nft, option))
        yield fail(
            "kernel",
            f"nftables refuses the tables{f' for want of {missing}' if missing else ''}: {error}",
            f"run a kernel with {missing or 'CONFIG_NF_TABLES'}",
        )


def _has(nft: Nft, option: str) -> bool:
    family, chain = _FEATURES[option]
    try:
        nft.run(
            f"table {family} trial {{\nchain c {{\n{chain}\n}}\n}}\ndelete table {family} trial"
        )
    except NftError:
        return False
    return True


def _end_flows(context: Context, sandbox: Sandbox) -> None:
    conntrack = ConntrackHandler(context)
    conntrack.appear(sandbox)
    conntrack.end_due()


@contextmanager
def _process() -> Iterator[int]:
    """A process in the namespaces in which this one is now, as a container's init would be."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the other end is closed, however that comes about
        os._exit(0)
    os.close(reader)
    try:
        yield pid
    finally:
        os.close(writer)
        os.waitpid(pid, 0)


def _network() -> Network:
    """A network of IPv4 and, where the kernel has it, IPv6."""
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
    from ipaddress import ip_interface

    return ip_interface((subnet.network_address + 2, subnet.prefixlen))
