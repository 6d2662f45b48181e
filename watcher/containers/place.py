"""What the kernel and the lease store know of a container's network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.containers import proc
from watcher.containers.life import lives

if TYPE_CHECKING:
    from watcher.model.container import Container
    from watcher.model.sandbox import Sandbox


class Place(Struct, frozen=True):
    """The network namespace of a live container.

    Attributes:
        of_host: whether it is the host's.
        inside: the sandbox that has it, if a container of that lives.
        of_runtime: whether the runtime may have made it for this container.
    """

    of_host: bool
    inside: Sandbox | None
    of_runtime: bool

    @classmethod
    def of(cls, container: Container, known: Sandbox | None) -> Place:
        """The place of `container`; `known` is the newest sandbox with its namespace's number.

        The kernel reuses the number after the namespace has gone.
        """
        assert container.netns is not None
        of_host = container.netns == proc.own_netns()
        inside = known if known is not None and lives(known) else None
        may_be_own = not of_host and inside is None and container.has_own_netns
        return cls(
            of_host,
            inside,
            may_be_own
            and proc.is_of_runtime(
                container.init.pid, container.netns, user_namespace=container.user_namespace
            ),
        )
