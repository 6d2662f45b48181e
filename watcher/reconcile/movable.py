"""Whether a container can be moved into the sandbox that its annotation `share` names.

A container that has a network namespace of its own by its configuration, and shares a sandbox, was
moved there by the gate. Its runtime notices nothing, so its configuration stays as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers import moving
from watcher.model.keys import SHARE

if TYPE_CHECKING:
    from watcher.config import settings
    from watcher.model.container import Container

NOT_HELD: Final = "it was not held at its start, when it could have been moved"


def shares_by_annotation(container: Container) -> bool:
    """Whether `container` shares a sandbox without naming its namespace.

    If it lives in a namespace that was not made for it, it was moved there.
    """
    return container.has_own_netns and SHARE in container.annotations


def why_none(gate: settings.Gate) -> str:
    """Why no container can be moved on this host; empty if one can."""
    if not gate.share:
        return "share = false in [gate] has none moved"
    if gate.mode == "off":
        return 'mode = "off" in [gate] has none held, and so none moved'
    never = moving.why_never()
    return f"none can be moved here: {never}" if never else ""


def why_not(container: Container, gate: settings.Gate) -> str:
    """Why `container` could not be moved even if it was held; empty if it could."""
    if container.user_namespace:
        return "it has a user namespace of its own"
    return why_none(gate)
