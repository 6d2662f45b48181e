"""Whether a program in the container listens where its port maps lead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from handlers.kernel.sockdiag import ListeningSocket
from watcher.checks.check import Finding, fail, ok, warn
from watcher.containers.sockets import holders

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered
    from watcher.model.address import Address
    from watcher.model.request import PortMap

_SHOWN: Final = 20
"""The most port maps that have a line each."""

_FEW: Final = 8
"""The most ports of a map that have a line each; of more, programs may listen on some only."""

_ANY: Final = {4: "0.0.0.0", 6: "[::]"}  # noqa: S104 (nothing is bound here)

_OTHERS: Final = 5
"""The most other ports that a line tells."""


def findings(gathered: Gathered) -> Iterator[Finding]:
    """A line for each port map."""
    ports = [one for port in gathered.sandbox.ports for one in _apart(port)]
    for port in ports[:_SHOWN]:
        targets = targets_of(gathered, port)
        if targets:
            yield _of_port(gathered, port, targets)
    if len(ports) > _SHOWN:
        yield warn(
            f"{len(ports) - _SHOWN} more port maps were not looked at",
            "see `ss -lntu` inside for where its programs listen",
        )
    if not gathered.inside.complete:
        yield warn(
            "so many sockets listen inside that not all were compared with the port maps",
            "see `ss -lntu` inside for whose they are",
        )


def _apart(port: PortMap) -> Iterable[PortMap]:
    """Each port of a few alone: `80:80,81:81` is one map, but hardly of one program."""
    return port.singles() if port.length <= _FEW else (port,)


def targets_of(gathered: Gathered, port: PortMap) -> dict[int, Address]:
    """The addresses of the container that `port` leads to, by IP version."""
    versions = (4, 6) if port.host_ip is None else (port.host_ip.version,)
    legs = {version: gathered.outwards(version) for version in versions}
    return {version: leg.address for version, leg in legs.items() if leg is not None}


def _of_port(gathered: Gathered, port: PortMap, targets: Mapping[int, Address]) -> Finding:
    known = gathered.inside.listening.get(port.protocol, {})
    last = port.port + port.length - 1
    found = {number: known[number] for number in known if port.port <= number <= last}
    if not found:
        return _nobody(gathered, port)
    heard = {number: _heard(sockets, targets) for number, sockets in found.items()}
    good = [number for number, versions in heard.items() if versions]
    if not good:
        return _wrongly(gathered, port, next(iter(found.values())), targets)
    where = _shown(found[good[0]])
    lacking = sorted(targets.keys() - heard[good[0]])
    if lacking:
        version = lacking[0]
        return warn(
            f"{port}: a program listens on {where}, and not by IPv{version}: whoever comes by"
            f" IPv{version} is refused",
            f"have it listen on {_ANY[version]} as well, or publish the port on"
            f" {_ANY[10 - version]} alone",
        )
    if port.length > 1:
        return ok(f"{port}: programs listen on {len(good)} of {port.length} ports")
    return ok(f"{port}: a program listens on {where}")


def _nobody(gathered: Gathered, port: PortMap) -> Finding:
    number = str(port.port)
    if port.length > 1:
        number = f"{number} to {port.port + port.length - 1}"
    others = gathered.inside.elsewhere.get(port.protocol, ())
    numbers = sorted({socket.port for socket in others})
    does = ", ".join(map(str, numbers[:_OTHERS])) + (", …" if len(numbers) > _OTHERS else "")
    but = f", but programs listen on {does}" if numbers else ""
    return fail(
        f"{port}: nothing listens on {port.protocol} port {number} inside{but}",
        "start the program, or publish the port that it listens on (`watcher publish`)",
    )


def _wrongly(
    gathered: Gathered,
    port: PortMap,
    sockets: Sequence[ListeningSocket],
    targets: Mapping[int, Address],
) -> Finding:
    """No program listens where the map leads, but one listens elsewhere on that port."""
    to = " and ".join(map(str, targets.values()))
    anywhere = " or ".join(_ANY[version] for version in targets)
    who = holders([sockets[0].inode]).get(sockets[0].inode, "")
    program = f"the program ({who})" if who else "the program"
    where = _shown(sockets)
    if all(socket.address.is_loopback for socket in sockets):
        return fail(
            f"{port}: {program} listens on {where} alone, which is reached from inside the"
            " container only",
            f"have it listen on {anywhere}",
        )
    if not {v for socket in sockets for v in _versions(socket)} & targets.keys():
        families = " and ".join(f"IPv{version}" for version in targets)
        return fail(
            f"{port}: {program} listens on {where} alone, and not by {families}",
            f"have it listen on {anywhere}",
        )
    own = gathered.sandbox.leased
    other = [socket.address for socket in sockets if socket.address in own]
    why = f", and the port map leads to {to}"
    more = " (the first of its networks)" if other else ""
    return fail(f"{port}: {program} listens on {where} alone{why}{more}", f"have it listen on {to}")


def _heard(sockets: Sequence[ListeningSocket], targets: Mapping[int, Address]) -> set[int]:
    """The IP versions whose packets one of `sockets` gets."""
    return {
        version
        for version, target in targets.items()
        for socket in sockets
        if version in _versions(socket)
        and (socket.address.is_unspecified or socket.address == target)
    }


def _versions(socket: ListeningSocket) -> set[int]:
    return {4, 6} if socket.both else {socket.address.version}


def _shown(sockets: Sequence[ListeningSocket]) -> str:
    addresses = sorted({str(socket.address) for socket in sockets})
    more = ", …" if len(addresses) > _OTHERS else ""
    return f"{', '.join(addresses[:_OTHERS])}{more} port {sockets[0].port}"
