"""Publishes ports of a container that runs, and takes published ones back.

They are the member's, and go with it. Limits of its root do not apply, because it is the
administrator who asks. The caller has the host-wide lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from watcher.config import patterns
from watcher.containers import proc
from watcher.containers.ports import format_ports
from watcher.facts.kinds import Published, Unpublished
from watcher.model.errors import WatcherError, quoted
from watcher.model.port_sets import less
from watcher.model.request import PortMap, Request
from watcher.reconcile import ports as checks
from watcher.reconcile.steps import ended_meanwhile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from watcher.model.sandbox import Member, Sandbox
    from watcher.reconcile.context import Context
    from watcher.reconcile.steps import Steps
    from watcher.store.port_choice import Choice

_LISTED: Final = 200
"""The most characters of the port maps that an error lists."""


def publish(
    context: Context, steps: Steps, sandbox: Sandbox, member: Member, wanted: Sequence[PortMap]
) -> list[PortMap]:
    """Publish all of `wanted` ports of a member, or none; returns them with their host ports.

    What it publishes already stays. A port map without a host port is there already if any host
    port of every address leads to its port.

    Args:
        context: what reconcile works with.
        steps: takes back what is in the way.
        sandbox: the sandbox.
        member: the container that the port maps go with.
        wanted: the port maps; no two overlap.

    Raises:
        InvalidRequest: that cannot be.
        WatcherError, OSError: a step failed; the host is as it was.
    """
    new: list[PortMap] = []
    for port in wanted:
        if port.to_choose:
            new += () if _leading_to(port, member.ports) else (port,)
        else:
            new += less((port,), member.ports)
    after = sandbox
    if new:
        after = _enter(context, steps, sandbox, member, new)
        try:
            steps.change(sandbox, after)
        except BaseException as error:
            context.store.set_ports(member, member.ports, kept=sandbox.kept)
            if not proc.runs(member.init):
                raise ended_meanwhile(member) from error
            raise
    now = after.named(member.root, member.id)
    assert now is not None
    found = [_leading_to(port, now.ports)[-1] if port.to_choose else port for port in wanted]
    if added := less(now.ports, member.ports):
        context.facts.publish(Published(after, now, added))
    return found


def unpublish(
    context: Context, sandbox: Sandbox, member: Member, unwanted: Sequence[PortMap]
) -> list[PortMap]:
    """Take all of `unwanted` ports of a member back, or none; returns them with their host ports.

    Those that its annotations ask for are no exception, and a part of a range is possible.

    Raises:
        WatcherError: it does not publish one of them; or a step failed, and sync finds the rest.
        OSError: a step failed; sync finds the rest.
    """
    gone = [_published(port, sandbox, member) for port in unwanted]
    left = less(member.ports, gone)
    now = replace(member, ports=left)
    members = tuple(now if one is member else one for one in sandbox.members)
    after = replace(sandbox, members=members, kept=True)
    context.host.vanish(sandbox, after)
    after = context.store.set_ports(member, left)
    context.facts.publish(Unpublished(after, now, tuple(gone)))
    return gone


def _enter(
    context: Context, steps: Steps, sandbox: Sandbox, member: Member, new: Sequence[PortMap]
) -> Sandbox:
    """Check the `new` ports, and write them into the lease store."""
    carriers = [context.host.network(name) for name in sandbox.networks]
    checks.check_possible(Request(ports=tuple(new)), carriers, context.sock_diag)
    root = patterns.root_of(context.config.roots, member.root)
    choice: Choice = checks.choice(root, context.sock_diag)
    ports = (*member.ports, *new)
    return steps.enter(lambda: context.store.set_ports(member, ports, choice), beside=sandbox.netns)


def _leading_to(wanted: PortMap, ports: Iterable[PortMap]) -> list[PortMap]:
    """The ports of every host address that lead to that of `wanted`."""
    return [
        port.at(port.host_port + wanted.port - port.port)
        for port in ports
        if port.host_ip is None
        and port.protocol == wanted.protocol
        and port.port <= wanted.port < port.port + port.length
    ]


def _published(unwanted: PortMap, sandbox: Sandbox, member: Member) -> PortMap:
    """What `unwanted` means of a member's ports.

    Raises:
        WatcherError: it means none of them, or several.
    """
    who, there = quoted(member.id), _listed(member.ports)
    if unwanted.to_choose:
        found = _leading_to(unwanted, member.ports)
        if len(found) > 1:
            what = f"container {who} publishes {unwanted} more than once"
            raise WatcherError(what, f"name one of {_listed(found)}")
        if found:
            return found[0]
    elif not less((unwanted,), member.ports):
        return unwanted
    what = f"container {who} does not publish {unwanted}"
    for other in sandbox.members:
        if other is not member and not unwanted.to_choose and not less((unwanted,), other.ports):
            remedy = f"run `watcher unpublish {other.id} {unwanted}`"
            raise WatcherError(f"{what}, but {quoted(other.id)} in its sandbox does", remedy)
    raise WatcherError(what, f"name one of {there}" if there else "it publishes nothing")


def _listed(ports: Iterable[PortMap]) -> str:
    text = format_ports(ports).replace(",", ", ")
    if len(text) <= _LISTED:
        return text
    return text[:_LISTED].rpartition(", ")[0] + ", … (see `watcher ls`)"
