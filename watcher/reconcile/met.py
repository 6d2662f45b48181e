"""Whether a container that has a network has all that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.reconcile.movable import shares_by_annotation

if TYPE_CHECKING:
    from watcher.containers.place import Place
    from watcher.model.container import Container
    from watcher.model.request import Request
    from watcher.model.sandbox import Sandbox


def is_there(place: Place, container: Container) -> bool:
    """Whether a container with a network is in the sandbox that it shares."""
    inside = place.inside
    return inside is not None and (
        inside.member(container) is not None or shares_by_annotation(container)
    )


def meets(sandbox: Sandbox, container: Container, request: Request) -> bool:
    """Whether a container is in `sandbox` and has everything that it asks for.

    It has, unless its bundle was changed between runc's reading and the gate's. A sandbox that was
    connected to networks, or disconnected, has others than its members ask for.
    """
    member = sandbox.member(container)
    if member is None or member.asked == request:
        return member is not None
    asked = member.asked
    if asked.ports != request.ports or asked.options != request.options:
        return False  # `member.ports` has what was chosen and published
    if sandbox.kept and not asked.annotated:
        return True  # a member from before schema 4, of which nothing else is known any more
    first = sandbox.interfaces[0].mac if sandbox.interfaces else None
    return (
        request.networks in (None, (), sandbox.networks, asked.networks)
        and {*sandbox.leased, *asked.addresses}.issuperset(request.addresses)
        and request.mac in (None, first, asked.mac)
    )
