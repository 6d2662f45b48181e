"""Whether the name service runs and answers, on the gateways of the networks that have names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink
from handlers.kernel.probes import AddressQuery, ask_all
from handlers.kernel.sockdiag import SockDiag
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.containers.sockets import holders
from watcher.locks.serving import serving
from watcher.model.errors import WatcherError, quoted
from watcher.model.names import HOST, PORT
from watcher.model.network import gateway
from watcher.observe import name_service
from watcher.observe.name_service import NoNameService

if TYPE_CHECKING:
    from watcher.model.address import Address
    from watcher.model.network import Network
    from watcher.observe.name_service import NameTotals

PATIENCE: Final = 1.2
"""Seconds to wait for answers, which take less than a millisecond."""

_START: Final = "run `systemctl enable --now watcher-names`"
_RESTART: Final = "run `systemctl restart watcher-names`, and see its log"


class _Asked(Struct, frozen=True):
    """A question to the gateway of a network, by one protocol."""

    network: Network
    gateway: Address
    protocol: str
    query: AddressQuery


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong with it, network by network; nothing where no network has names."""
    networks = [network for network in subject.networks.values() if network.named]
    if not networks:
        return
    yield from map(_unguarded, [network for network in networks if not network.guard])
    shown = ", ".join(network.name for network in networks)
    try:
        totals = name_service.read(subject.config.run_dir)
    except NoNameService as error:
        yield from _absent(networks, shown, error)
        return
    except WatcherError as error:
        yield warn(error.what, error.remedy)
        return
    wrong = [*_as_told(subject, networks, totals), *_as_answered(subject, networks)]
    yield from wrong
    if not wrong:
        yield ok(f"the name service answers the containers of {shown}")


def _unguarded(network: Network) -> Finding:
    return ok(
        f"network {network.name} has no guard, so a container of it can ask in the name of another:"
        " hostnames of their own, names of other networks and io.watcher.dns do not count there",
        f"if they are to count, set guard = true in [network.{network.name}]",
    )


def _absent(networks: Sequence[Network], shown: str, error: WatcherError) -> Iterator[Finding]:
    """What there is to say if no name service runs."""
    if find_spec("dns") is None:
        yield fail(
            "the Python package dnspython is missing, without which `watcher names` does not start",
            "install it, e.g. `apt-get install python3-dnspython`, or set names = false in"
            f" [network.{networks[0].name}]",
        )
        return
    other = _others(networks)
    yield from other
    if serving() is None:
        yield ok(f"containers of {shown} get names once `watcher run` and `watcher names` run")
    elif not other:
        yield warn(
            f"{error.what}: the containers of {shown} resolve no names",
            f"{_START}, or set names = false in [network.{networks[0].name}]",
        )


def _others(networks: Sequence[Network]) -> list[Finding]:
    """Other programs that listen where the name service would."""
    wanted = {gateway(subnet) for network in networks for subnet in network.subnets}
    found = []
    with closing(SockDiag()) as sock_diag:
        for protocol in ("udp", "tcp"):
            for socket in sock_diag.listening(protocol, PORT, PORT).get(PORT, []):
                if socket.address in wanted or socket.address.is_unspecified:
                    who = holders({socket.inode}).get(socket.inode, "another program")
                    found.append(
                        warn(
                            f"{who} listens on port {PORT}/{protocol} of {socket.address}, which is"
                            " that of the name service",
                            "have it use another port",
                        )
                    )
    return found


def _as_told(
    subject: Subject, networks: Sequence[Network], totals: NameTotals
) -> Iterator[Finding]:
    """What the name service tells of itself that is not as it should be."""
    if totals.connected is None:
        yield warn(
            "the name service does not hear of containers: it goes on with those that it knows",
            "see that `watcher run` runs, and the log of `watcher names`",
        )
        return
    if totals.others is not None and totals.others.connected is None:
        yield warn(
            "the name service does not hear of other hosts: it goes on with the names that it knows"
            " of them",
            "see that `watcher cluster` runs, e.g. `systemctl start watcher-cluster`",
        )
    domain = subject.config.names.domain
    if totals.domain != domain:
        yield warn(
            f"the name service has the domain {quoted(totals.domain)}, and the configuration"
            f" {quoted(domain)}",
            "run `systemctl reload watcher`, or use its configuration (`watcher --config FILE`)",
        )
    unserved = [n.name for n in networks if n.name not in totals.networks and _is_made(n)]
    if unserved:
        yield warn(
            f"the name service does not serve {', '.join(unserved)}",
            "run `systemctl reload watcher`, which has both take the configuration",
        )


def _is_made(network: Network) -> bool:
    return bool(_gateways([network]))


def _gateways(networks: Sequence[Network]) -> list[tuple[Network, Address]]:
    """The gateways that the host has: it makes them with a network's first container."""
    with Netlink() as netlink:
        there = {packed for packed, _ in rtnl.read_packed(netlink.dump(rtnl.addresses(0)))}
    return [
        (network, own)
        for network in networks
        for subnet in network.subnets
        if (own := gateway(subnet)).packed in there
    ]


def _as_answered(subject: Subject, networks: Sequence[Network]) -> Iterator[Finding]:
    """What it does not answer, asked as the host by both protocols."""
    name = f"{HOST}.{subject.config.names.domain}"
    asked: list[_Asked] = []
    try:
        for network, own in _gateways(networks):
            for protocol in ("udp", "tcp"):
                query = AddressQuery(own, PORT, name, tcp=protocol == "tcp", source=own)
                asked.append(_Asked(network, own, protocol, query))
        ask_all([one.query for one in asked], PATIENCE)
        for one in asked:
            yield from _answered(one, name)
    finally:
        for one in asked:
            one.query.close()


def _answered(asked: _Asked, name: str) -> Iterator[Finding]:
    answer, error = asked.query.answer, asked.query.error
    if answer == str(asked.gateway):
        return
    where = f"port {PORT}/{asked.protocol} of {asked.gateway}, network {asked.network.name}"
    if answer:
        yield warn(f"{where}: the question for {name} is answered with {quoted(answer)}", _RESTART)
    else:
        why = f" ({error})" if error else ""
        yield warn(f"{where}: nobody answers a question for {name}{why}", _RESTART)
