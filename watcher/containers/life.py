"""The one place that decides which containers live and which have gone.

A container has gone once its init has ended, or once its root has no entry, or another init, of its
id. If its root is missing, empty or unreadable, it lives as long as its init, so that a directory
that is missing for a while interrupts nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from msgspec import Struct

from watcher.config.settings import Root
from watcher.containers import proc, roots
from watcher.containers.files import Unreadable
from watcher.containers.present import present
from watcher.model.container import Container, Process
from watcher.model.sandbox import Member, Sandbox

type Find = Callable[[str, str], Sandbox | None]
"""Returns the sandbox of a container by its root and id, as the lease store does."""


class Snapshot(Struct, frozen=True):
    """The roots at one moment.

    Attributes:
        containers: those whose init runs.
        unreadable: root, id and error of each unreadable entry; the id is empty for the root
            itself.
    """

    containers: tuple[Container, ...]
    unreadable: tuple[tuple[str, str, Unreadable], ...]
    _by_name: dict[tuple[str, str], Container]
    _pending: frozenset[tuple[str, str]]
    """Entries without a complete state: just made, or held at the gate."""
    _broken: frozenset[tuple[str, str]]
    """Unreadable entries."""
    _unknown: frozenset[str]
    """Roots that are missing or show nothing: they may have been unmounted."""

    @classmethod
    def take(cls, watched: Iterable[Root], sandboxes: Iterable[Sandbox] = ()) -> Snapshot:
        """Read all roots that `watched` of the configuration stands for.

        Members of `sandboxes` are in the namespaces of these, and their roots may have been
        removed.
        """
        known: defaultdict[str, dict[tuple[str, Process], int]] = defaultdict(dict)
        for sandbox in sandboxes:
            for member in sandbox.members:
                known[member.root][member.id, member.init] = sandbox.netns
        found: dict[tuple[str, str], Container] = {}
        unreadable: list[tuple[str, str, Unreadable]] = []
        pending: set[tuple[str, str]] = set()
        unknown: set[str] = set()
        for root in present(watched, known):
            empty = True
            try:
                for id_, container in roots.read_all(root.path, known[root.path]):
                    empty = False
                    if isinstance(container, Unreadable):
                        unreadable.append((root.path, id_, container))
                    elif container is None:
                        pending.add((root.path, id_))
                    elif container.alive:
                        found[root.path, id_] = container
            except Unreadable as error:
                unreadable.append((root.path, "", error))
            if empty:
                unknown.add(root.path)
        broken = frozenset((root, id_) for root, id_, _ in unreadable)
        return cls(
            tuple(found.values()), tuple(unreadable), found, frozenset(pending), broken,
            frozenset(unknown),
        )  # fmt: skip

    def has(self, root: str, id_: str, init: Process | None) -> bool:
        """Whether that container lives or may live; `init`: its first process, if known."""
        if (root, id_) in self._by_name:
            return True
        if root in self._unknown:
            return init is not None and proc.runs(init)
        return self._may_live(root, id_)

    def gone(self, sandbox: Sandbox) -> tuple[Member, ...]:
        """The members of `sandbox` that have gone."""
        return tuple(member for member in sandbox.members if self._is_gone(member))

    def _is_gone(self, member: Member) -> bool:
        container = self._by_name.get((member.root, member.id))
        if container is not None:
            return container.init != member.init
        return not (self._may_live(member.root, member.id) and proc.runs(member.init))

    def _may_live(self, root: str, id_: str) -> bool:
        name = (root, id_)
        return root in self._unknown or name in self._pending or name in self._broken


def lives(sandbox: Sandbox) -> bool:
    """Whether any init in `sandbox` runs, so that its namespace cannot have been replaced."""
    return any(proc.runs(member.init) for member in sandbox.members)


def ended(sandbox: Sandbox) -> tuple[Member, ...]:
    """The members of `sandbox` whose init has ended, even if their root does not show it yet."""
    return tuple(member for member in sandbox.members if not proc.runs(member.init))


def running(root: str, id_: str, find: Find) -> Member | None:
    """The container `id_` of `root` as a member of its sandbox, if its init runs."""
    sandbox = find(root, id_)
    member = None if sandbox is None else sandbox.named(root, id_)
    return member if member is not None and proc.runs(member.init) else None


def lives_untold(root: str, id_: str, find: Find) -> bool:
    """Whether a container lives though its root does not show it.

    Either the gate has just let it start, and its state is not complete yet; or the root shows
    nothing at all, perhaps because something else is mounted there for a while.
    """
    return roots.may_have(root, id_) and running(root, id_, find) is not None
