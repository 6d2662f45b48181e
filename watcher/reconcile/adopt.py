"""Orphans: what a namespace has of a sandbox that the lease store does not know."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from watcher.containers import proc, roots
from watcher.containers.annotations import parse_request
from watcher.containers.files import Unreadable
from watcher.containers.life import lives
from watcher.model.container import Container, Namespace, Process
from watcher.model.orphan import Orphan
from watcher.model.request import Request
from watcher.reconcile.founders import is_annotated
from watcher.reconcile.limits import of_sandbox
from watcher.reconcile.movable import shares_by_annotation
from watcher.reconcile.plan import root_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.model.network import Network
    from watcher.model.policy.limits import SandboxLimits
    from watcher.reconcile.context import Context
    from watcher.reconcile.founders import Founders
    from watcher.store.leases import LeaseStore

type Inside = Orphan | OSError | None
"""The orphan in a namespace, if any; or why that is not known."""


def look_inside(context: Context, container: Container) -> Inside:
    """The orphan in the namespace of a live container, unless the store knows the container."""
    assert container.netns is not None
    if _knows(context.store, container) or container.netns == proc.own_netns():
        return None
    try:
        return _orphan(context, container, container.netns)
    except OSError as error:
        return error


def adopt(
    context: Context, container: Container, inside: Inside, founders: Founders
) -> Orphan | None:
    """Let a container keep the orphan that it has `inside`.

    If `container` asks for no sandbox by itself, that of the orphan is put back into the store.

    Raises:
        OSError: whether there is an orphan is not known.
        WatcherError: it cannot be put back.
    """
    assert container.netns is not None
    if isinstance(inside, OSError):
        raise inside
    orphan, store = inside, context.store
    if orphan is None or store.sandbox(container.netns) or _asks(context, container, founders):
        return orphan
    networks = _networks(orphan, context.config.networks)
    kept = orphan.by_network(networks)
    id_ = container.id if orphan.is_of(container.id) else orphan.id
    limits = _limits(context, container, id_)
    if container.has_own_netns and not shares_by_annotation(container):
        store.create_sandbox(container, networks, Request(), kept, limits=limits)
        return orphan
    founder = replace(container, id=id_, init=Process(orphan.pid, 0), namespace=Namespace.OWN)
    sandbox = store.create_sandbox(founder, networks, Request(), kept, limits=limits)
    store.join(container, sandbox.key, Request())
    if id_ != container.id:
        store.leave(founder.root, founder.id)
    # It has its port maps already. Unless the store has them, too, `appear` takes its sandbox back.
    store.join(container, sandbox.key, parse_request(container.annotations, container.hostname))
    return orphan


def _limits(context: Context, container: Container, id_: str) -> SandboxLimits:
    """What the sandbox of an orphan was limited to: it was made for the container `id_`.

    If that has ended, a member tells, which cannot have had other limits than the sandbox.
    """
    teller = container
    if id_ != container.id:
        with suppress(Unreadable):
            founder = roots.read(container.root, id_)
            if founder is not None and founder.netns == container.netns:
                teller = founder
    request = parse_request(teller.annotations, teller.hostname)
    return of_sandbox(request, root_of(context.config, teller))


def _asks(context: Context, container: Container, founders: Founders) -> bool:
    """Whether `container` gets its sandbox, or that of its founder, by what it asks for."""
    annotated = is_annotated(container)
    if container.has_own_netns and not shares_by_annotation(container):
        return annotated or root_of(context.config, container).attach == "all"
    return annotated and founders.of(container) is not None


def _networks(orphan: Orphan, configured: Mapping[str, Network]) -> list[Network]:
    """The networks that an orphan was in, as far as its addresses tell."""
    found = {
        network.name: network
        for addresses in orphan.addresses
        for network in configured.values()
        if any(address in subnet for address in addresses for subnet in network.subnets)
    }
    if len(found) == len(orphan.addresses):
        return list(found.values())
    names = ["default"] if len(orphan.addresses) == 1 else list(configured)
    return [configured[name] for name in names][: len(orphan.addresses)]


def _orphan(context: Context, container: Container, netns: int) -> Orphan | None:
    """The orphan in the namespace, unless its sandbox is known to live elsewhere.

    A container with a namespace of its own has only what was made for it, unless it was moved.
    """
    own = container.has_own_netns and not shares_by_annotation(container)
    store = context.store
    for orphan in context.host.links.orphans(container.init.pid, netns, own=own):
        if own and not orphan.is_of(container.id):
            continue
        known = (
            *map(store.sandbox_with_link, orphan.links),
            store.sandbox_of(container.root, orphan.id),
        )
        if not any(s is not None and s.netns != netns and lives(s) for s in known):
            return orphan
    return None


def _knows(store: LeaseStore, container: Container) -> bool:
    """Whether the store has this very container, and not an earlier one of the same id."""
    sandbox = store.sandbox_of(container.root, container.id)
    return sandbox is not None and sandbox.member(container) is not None
