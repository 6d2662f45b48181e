"""What the kernel and the lease store know of a container's network namespace."""

from __future__ import annotations

from socket import if_nametoindex
from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.containers import proc
from watcher.containers.life import lives
from watcher.model.naming import MAX_NETWORKS

if TYPE_CHECKING:
    from handlers.kernel.namespace import Namespaces
    from watcher.model.container import Container
    from watcher.model.sandbox import Sandbox


class Place(Struct, frozen=True):
    """The network namespace of a live container.

    Attributes:
        of_host: whether it is the host's.
        inside: the sandbox that has it, if a container of that lives.
        of_runtime: whether the runtime may have made it for this container.
        other_link: a link in it that another program made; empty if there is none, or if the
            namespace is not one that the runtime made.
    """

    of_host: bool
    inside: Sandbox | None
    of_runtime: bool
    other_link: str = ""

    @classmethod
    def of(cls, container: Container, known: Sandbox | None, namespaces: Namespaces) -> Place:
        """The place of `container`; `known` is the newest sandbox with its namespace's number.

        The kernel reuses the number after the namespace has gone. `namespaces` opens it.
        """
        assert container.netns is not None
        of_host = container.netns == proc.own_netns()
        inside = known if known is not None and lives(known) else None
        may_be_own = not of_host and inside is None and container.has_own_netns
        of_runtime = may_be_own and proc.is_of_runtime(
            container.init.pid,
            container.netns,
            namespaces,
            user_namespace=container.user_namespace,
        )
        other_link = _link_of_others(container.init.pid) if of_runtime else ""
        return cls(of_host, inside, of_runtime, other_link)


def _link_of_others(pid: int) -> str:
    """A link in the namespace of init `pid` that is certainly none of this program's.

    A link of this program may be there though the lease store does not know it: the store is lost,
    or the link is just being deleted. Then its other end is a link of the host, which has the pid
    in its name and goes at the same moment.
    """
    found = proc.link_of_others(pid)
    if not found:
        return ""
    if any(_is_on_host(f"netnsv{number}-{pid}") for number in range(MAX_NETWORKS)):
        return ""
    return proc.link_of_others(pid)


def _is_on_host(name: str) -> bool:
    try:
        return if_nametoindex(name) > 0
    except OSError:
        return False
