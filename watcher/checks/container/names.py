"""Whether names resolve inside: the servers of its resolv.conf, and what they have answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from watcher.checks.check import Finding, fail, ok, warn
from watcher.checks.container.resolvers import PATH
from watcher.model.errors import quoted

if TYPE_CHECKING:
    from watcher.checks.container.gathered import Gathered
    from watcher.checks.container.inside import Server

_MOUNT: Final = f"mount one over {PATH} in its config.json, with a line `nameserver ADDRESS`"


def findings(gathered: Gathered) -> Iterator[Finding]:
    """Whether there is a resolv.conf, and a line for each server in it."""
    conf = gathered.inside.conf
    if conf.missing:
        yield warn(f"it has no {PATH}: its programs ask 127.0.0.1 for names", _MOUNT)
    elif conf.error:
        yield fail(conf.error, _MOUNT)
    elif conf.bad:
        yield warn(f"{PATH} names {quoted(conf.bad)}, which is no address", "write an address")
    if not conf.missing and not conf.error and not conf.servers:
        yield warn(f"its {PATH} names no server: its programs ask 127.0.0.1 for names", _MOUNT)
    servers = gathered.inside.servers
    one_answers = any(server.answer for server in servers)
    for server in servers:
        yield _of_server(gathered, server, one_answers=one_answers)


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
