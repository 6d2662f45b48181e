"""Whether names resolve inside: the servers of its resolv.conf, and what they have answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from watcher.checks.check import Finding, fail, ok, warn
from watcher.checks.container import packets
from watcher.checks.container.resolvers import PATH
from watcher.checks.filters import remedies
from watcher.checks.filters.fate import Drop, drops
from watcher.model.errors import quoted
from watcher.model.names import PORT

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered
    from watcher.checks.container.inside import Server
    from watcher.checks.container.legs import Leg
    from watcher.checks.container.packets import Tried
    from watcher.model.address import Address

_MOUNT: Final = f"mount one over {PATH} in its config.json, with a line `nameserver ADDRESS`"


_EMPTY: Final = f"make an empty file {PATH} in its root, and start it again"
_SEE: Final = "see that the name service runs: `watcher check`, `systemctl start watcher-names`"
_RESTART: Final = "run `systemctl restart watcher-names`"


def findings(gathered: Gathered) -> Iterator[Finding]:
    """Whether there is a resolv.conf, and a line for each server in it."""
    conf = gathered.inside.conf
    if conf.missing:
        remedy = _MOUNT if gathered.asking is None else _EMPTY
        yield warn(f"it has no {PATH}: its programs ask 127.0.0.1 for names", remedy)
    elif conf.error:
        yield fail(conf.error, _MOUNT)
    elif conf.bad:
        yield warn(f"{PATH} names {quoted(conf.bad)}, which is no address", "write an address")
    if not conf.missing and not conf.error and not conf.servers:
        yield warn(f"its {PATH} names no server: its programs ask 127.0.0.1 for names", _MOUNT)
    if gathered.asking is not None and conf.servers and not _asks_us(gathered):
        yield ok(
            f"its {PATH} is its own: other containers have no names for it",
            f"if they are to, mount nothing over {PATH} in its config.json, and start it again",
        )
    servers = gathered.inside.servers
    one_answers = any(server.answer for server in servers)
    for server in servers:
        if gathered.asking is not None and server.address == gathered.asking.server:
            yield from _of_name_service(gathered, server)
        else:
            yield _of_server(gathered, server, one_answers=one_answers)


def _asks_us(gathered: Gathered) -> bool:
    """Whether its resolv.conf is that of its network, or names the same server."""
    asking, conf = gathered.asking, gathered.inside.conf
    return asking is not None and (
        conf.content == asking.conf.encode() or asking.server in conf.servers
    )


def _of_name_service(gathered: Gathered, server: Server) -> Iterator[Finding]:
    """What stands between it and the name service; `server` tells what that resolves beyond."""
    tried = [one for leg in gathered.legs for one in packets.questions(leg)]
    drop = None
    for drop, own, leg in _drops(gathered, tried):
        integrate = gathered.known.config.firewall.integrate
        yield remedies.told(
            drop,
            f"its questions to the name service (port {PORT} of {own})",
            remedies.to_names(drop, leg.network, own, integrate=integrate),
        )
    told = gathered.inside.named
    assert told is not None
    who = f"the name service at {told.address}"
    if told.answer == str(told.address):
        if server.answer == "SERVFAIL":
            yield warn(
                f"{who} answers, but can resolve nothing of the rest of the world (SERVFAIL)",
                "see whether the servers that it asks answer: `servers` of [names], or those of"
                " this host's /etc/resolv.conf",
            )
        else:
            yield ok(f"{who} answers")
    elif told.answer:
        yield fail(f"{who} answers a query from inside with {quoted(told.answer)}", _RESTART)
    elif drop is None:
        why = f" ({told.error})" if told.error else ""
        yield fail(f"{who} does not answer a query from inside{why}", _SEE)


def _drops(gathered: Gathered, tried: Iterable[Tried]) -> Iterator[tuple[Drop, Address, Leg]]:
    """The filters that drop its questions, each once."""
    seen = set()
    for _, leg, packet in tried:
        for table in gathered.tables:
            for drop in drops(table, [packet]):
                key = table.family, table.name, table.command, drop.chain.name, packet.target
                if key not in seen:
                    seen.add(key)
                    yield drop, packet.target, leg


def _of_server(gathered: Gathered, server: Server, *, one_answers: bool) -> Finding:
    who = f"name server {server.address}"
    if server.answer == "SERVFAIL":
        return warn(
            f"{who} answers, but can resolve nothing (SERVFAIL)",
            "see whether it reaches the servers that it asks itself",
        )
    if server.answer:
        return ok(f"{who} answers")
    why = f" ({server.error})" if server.error else ""
    what = f"{who} does not answer a query from inside{why}"
    remedy = f"see whether a server runs there, or name another one in its {PATH}"
    if server.address.is_loopback:
        remedy = f"run a server inside, or name one in its {PATH} that is not the container's own"
    elif gathered.outwards(server.address.version) is None:
        remedy = (
            f"its networks lead nowhere by IPv{server.address.version}: name a server in its {PATH}"
            " that is on them"
        )
    if one_answers:
        return warn(f"{what}, but another one does", remedy)
    return fail(what, remedy)
