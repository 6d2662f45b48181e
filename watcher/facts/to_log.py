"""Writes facts to the log."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from watcher.facts import kinds

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.facts.kinds import Fact
    from watcher.facts.publisher import Subscriber
    from watcher.log.logger import Log
    from watcher.model.request import PortMap
    from watcher.model.sandbox import Interface, Member, Sandbox

_EVADED: Final = (
    "its runc runs in another mount namespace, as in a unit with PrivateTmp=yes, and was not held"
    " there: the program may have run before it had its network"
)


def to_log(_: Config, log: Log) -> Subscriber:
    """A subscriber that writes each fact to `log`."""
    return partial(_write, log)


def _write(log: Log, fact: Fact) -> None:  # noqa: C901 (a case for each kind)
    match fact:
        case kinds.Attached(sandbox, members, _):
            log.info("attached", **_network(sandbox, members))
        case kinds.Detached(sandbox, members, _):
            log.info("detached", **_network(sandbox, members))
        case kinds.Published(sandbox, member, ports):
            log.info("published", **_ports(sandbox, member, ports))
        case kinds.Unpublished(sandbox, member, ports):
            log.info("unpublished", **_ports(sandbox, member, ports))
        case kinds.Connected(sandbox, interface):
            log.info("connected", **_interface(sandbox, interface))
        case kinds.Disconnected(sandbox, interface):
            log.info("disconnected", **_interface(sandbox, interface))
        case kinds.Rejected(sandbox, direction, entry):
            log.info("rejected", sandbox=sandbox.id, direction=direction, entry=entry)
        case kinds.ConnectionsFull(sandbox):
            log.warning(
                "connections are rejected: it has as many as it may have",
                sandbox=sandbox.id,
                remedy="see what it does with them, or raise `connections`",
            )  # fmt: skip
        case kinds.Opened(sandbox, name, addresses):
            log.debug("opened", sandbox=sandbox.id, name=name, addresses=addresses)
        case kinds.Failed():
            log.error(
                "refused" if fact.refused else "failed",
                container=fact.id, root=fact.root, reason=fact.reason,
            )  # fmt: skip
        case kinds.Unmet(root, id_, reason):
            log.warning("ignored", container=id_, root=root, reason=reason)
        case kinds.Unread(root, id_, reason):
            log.warning(
                "keeps its network, though its files cannot be read",
                container=id_, root=root, reason=reason,
            )  # fmt: skip
        case kinds.LeftNamespace(root, id_):
            log.warning(
                "its init has left its network namespace, which keeps the network",
                container=id_, root=root,
            )  # fmt: skip
        case kinds.BundleChanged(_, id_):
            log.warning(
                "its runtime read another config.json than the gate: its network is taken back",
                container=id_,
            )
        case kinds.RequestChanged(_, id_, before):
            log.warning(
                "annotations differ from those before",
                container=id_, before=[str(port) for port in before],
            )  # fmt: skip
        case kinds.PortTaken(root, id_, port, _, reason, remedy):
            log.warning(
                "a published port is taken by a process of the host",
                container=id_, root=root, port=str(port), reason=reason, remedy=remedy,
            )  # fmt: skip
        case kinds.PortFree(root, id_, of):
            log.info(
                "a published port is no longer taken by a process of the host",
                container=id_, root=root, port=str(of),
            )  # fmt: skip
        case kinds.HeldTooLong(root, id_, timeout, verdict):
            log.error(
                "held too long", container=id_, root=root, timeout=timeout, verdict=verdict,
                remedy="see what the host was busy with, or raise gate.timeout",
            )  # fmt: skip
        case kinds.NotHeld(root, id_, verdict):
            log.error(
                "not held: the file systems of many other bundles do not answer",
                container=id_, root=root, verdict=verdict,
                remedy="see to the file systems of the containers that were held too long",
            )  # fmt: skip
        case kinds.NoResolvConf(root, id_, reason):
            log.warning("no resolv.conf", container=id_, root=root, reason=reason)
        case kinds.Evaded(root, id_):
            log.warning(
                "a container started without being held", container=id_, root=root, why=_EVADED,
                remedy="make the root a file system of its own, as deploy/run-runc.mount does;"
                " see docs/mount-namespaces.md",
            )  # fmt: skip
        case kinds.Repaired(repair):
            log.info("repaired", what=repair.what, sandbox=repair.sandbox, why=repair.why)
        case kinds.NotRepaired(repair):
            log.error(
                "cannot be put right", what=repair.what, sandbox=repair.sandbox,
                why=repair.why, reason=repair.error,
            )  # fmt: skip
        case kinds.NetworkTaken(network, reason):
            log.error("a network refuses containers", network=network, reason=reason)
        case kinds.NetworkFree(network):
            log.info("a network takes containers again", network=network)
        case kinds.RightAgain(link):
            log.info("is right again", link=link)
        case _:
            _write_of_cluster(log, fact)


def _write_of_cluster(log: Log, fact: Fact) -> None:
    match fact:
        case kinds.HostSeen(host, address):
            log.info("a host is in the cluster", host=host, address=str(address))
        case kinds.HostSilent(host):
            log.warning("a host of the cluster is silent", host=host)
        case kinds.HostReturned(host):
            log.info("a host of the cluster is heard of again", host=host)
        case kinds.HostRemoved(host):
            log.info("a host is in the cluster no more", host=host)
        case kinds.BlockTaken(network, prefix):
            log.info("took a block", network=network, block=str(prefix))
        case kinds.BlockReturned(network, prefix):
            log.info("gave a block back", network=network, block=str(prefix))
        case kinds.BlockLost(network, prefix, reason):
            log.error(
                "a block is lost", network=network, block=str(prefix), reason=reason,
                remedy="restart the containers that have addresses of it",
            )  # fmt: skip
        case kinds.ClusterReached():
            log.info("the cluster is heard of")
        case kinds.ClusterUnreachable(reason):
            log.warning("the cluster is not heard of", reason=reason)


def _network(sandbox: Sandbox, members: tuple[Member, ...]) -> dict[str, object]:
    return {
        "container": ",".join(member.id for member in members),
        "sandbox": sandbox.id,
        "addresses": [str(a.ip) for i in sandbox.interfaces for a in i.addresses],
        "ports": [str(port) for member in members for port in member.ports],
    }


def _ports(sandbox: Sandbox, member: Member, ports: tuple[PortMap, ...]) -> dict[str, object]:
    return {"container": member.id, "sandbox": sandbox.id, "ports": [str(port) for port in ports]}


def _interface(sandbox: Sandbox, interface: Interface) -> dict[str, object]:
    return {
        "sandbox": sandbox.id,
        "network": interface.network,
        "interface": interface.name,
        "addresses": [str(address.ip) for address in interface.addresses],
    }
