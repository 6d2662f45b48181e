"""This host's address, and whether packets between hosts can pass: sizes, VXLAN, its port."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

from handlers.kernel import rtnl, sysctl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.vxlan import KIND, Vxlan, read_vxlan, vxlan
from handlers.kernel.sockdiag import SockDiag
from handlers.kernel.uplink import inner_mtu, link_with
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.checks.trial import in_child
from watcher.clustering.identity import own_address
from watcher.containers.sockets import holders
from watcher.model.cluster import MOST_NETWORKS, vni, vtep_mac

if TYPE_CHECKING:
    from handlers.kernel.rtnl import Link
    from watcher.model.address import Address
    from watcher.model.network import Network

_STRICT: Final = "1"
"""Of `rp_filter`: a packet is dropped if the answer to it would leave by another interface
(`Documentation/networking/ip-sysctl.rst`)."""

_TRIED: Final = "check"


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong, or that nothing is; nothing without a cluster."""
    settings = subject.config.cluster
    if not settings.etcd:
        return
    address = own_address(settings)
    if address is None:
        yield fail(
            "this host has no default route, so its address in the cluster is not known",
            "write it by `address` in [cluster]",
        )
        return
    with Netlink() as netlink:
        link = link_with(netlink, address)
        if link is None:
            yield fail(
                f"no interface of this host has its address {address} in the cluster",
                "write the one that the other hosts reach by `address` in [cluster]",
            )
            return
        networks = [network for network in subject.networks.values() if network.cluster]
        wrong: list[Finding] = []
        if any(network.tunnelled for network in networks):
            devices = [
                (link, its)
                for body in netlink.dump(rtnl.links(KIND))
                if (its := read_vxlan(body)) is not None and its.port == settings.port
                for link in (rtnl.read_link(body),)
            ]
            wrong += _of_port(settings.port, in_use=bool(devices))
            wrong += _of_devices(devices, settings.port)
            wrong += in_child(lambda: list(_of_kernel(address, settings.port)), "vxlan")
    yield from wrong
    yield from _of_sizes(networks, address, link)
    yield from _of_filter(address, link)
    if not wrong:
        yield ok(f"the other hosts reach this one at {address} on {link.name}")


def _of_sizes(networks: Sequence[Network], address: Address, link: Link) -> Iterator[Finding]:
    """Networks with smaller packets than their configuration says."""
    for network in networks:
        most = inner_mtu(network, link.mtu, address)
        if network.mtu != "auto" and network.mtu > most:
            by = f", less {link.mtu - most} for VXLAN" if most < link.mtu else ""
            yield ok(
                f"network {network.name} has an MTU of {most} here, not of {network.mtu}: that of"
                f" {link.name} is {link.mtu}{by}",
                f'write mtu = "auto" in [network.{network.name}]',
            )


def _of_filter(address: Address, link: Link) -> Iterator[Finding]:
    """Whether packets that come by another interface than answers leave by are dropped."""
    names = ("all", link.name) if address.version == 4 else ()
    values = {name: sysctl.get(f"ipv4/conf/{name}/rp_filter") for name in names}
    if _STRICT in values.values() and "2" not in values.values():  # the larger one counts
        yield ok(
            f"rp_filter is strict on {link.name}: what comes from a host counts only if it comes by"
            " the interface that leads there",
            f"if hosts are reached by several links, set net.ipv4.conf.{link.name}.rp_filter = 2",
        )


def _of_port(port: int, *, in_use: bool) -> Iterator[Finding]:
    """Which processes have the port of VXLAN.

    A socket of the kernel's own belongs to no process, but there is one only if a VXLAN device uses
    the port (`in_use`).
    """
    with closing(SockDiag()) as sock_diag:
        sockets = sock_diag.listening("udp", port, port).get(port, [])
    names = holders({socket.inode for socket in sockets})
    unknown = "" if in_use else "a process"
    for who in sorted({names.get(socket.inode, unknown) for socket in sockets} - {""}):
        yield fail(
            f"{who} listens on UDP port {port}, which is that of VXLAN",
            "have it use another port, or set `port` in [cluster] on all hosts",
        )


def _of_devices(devices: Iterable[tuple[Link, Vxlan]], port: int) -> Iterator[Finding]:
    """Which VXLAN devices of other programs keep ours from being made."""
    for link, its in devices:
        if not link.ours and (its.id == 0 or vni(1) <= its.id <= vni(MOST_NETWORKS)):
            takes = "all packets" if its.id == 0 else f"those of the network identifier {its.id}"
            yield fail(
                f"another program's VXLAN device {link.name} takes {takes} on UDP port {port}",
                "set `port` in [cluster] on all hosts, or remove that device",
            )


def _of_kernel(address: Address, port: int) -> Iterator[Finding]:
    """Whether a VXLAN device can be made, in a network namespace of its own."""
    os.unshare(os.CLONE_NEWNET)
    with Netlink() as netlink:
        wanted = Vxlan(vni(1), port, address)
        try:
            netlink.send([vxlan(_TRIED, wanted, mac=vtep_mac(address, 1), mtu=1400)])
        except NetlinkError as error:
            yield warn(
                f"a VXLAN device cannot be made: {error.strerror or error}",
                "load its module, e.g. `modprobe vxlan`, or run a kernel that has it",
            )
