"""Networks whose addresses the host uses elsewhere: they refuse containers until that passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.facts.kinds import NetworkFree, NetworkTaken
from watcher.model import keys
from watcher.model.errors import InvalidRequest
from watcher.reconcile.conflicts import problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from watcher.facts.publisher import Publisher
    from watcher.model.network import Network
    from watcher.reconcile.conflicts import Problem


class Overlaps:
    """Remembers which networks overlap, so that a container's attachment need not ask.

    Args:
        networks: all networks by name, whose changes are seen.
        exists: whether the bridge of a network exists.
        facts: gets each change.
    """

    def __init__(
        self,
        networks: Mapping[str, Network],
        exists: Callable[[Network], bool],
        facts: Publisher,
    ) -> None:
        self._networks = networks
        self._exists = exists
        self._facts = facts
        self._found: dict[str, Problem] = {}
        self._to_make: set[str] = set()
        """The networks whose bridges are missing, but whose addresses were looked for already."""

    def look(self) -> None:
        """Look at the whole host. It costs a dump of the host's routes."""
        self.take(problems(self._networks.values()))

    def take(self, found: Iterable[Problem]) -> None:
        """Take what :func:`watcher.reconcile.conflicts.problems` has found."""
        before, self._found = self._found, {}
        for problem in found:
            if problem.link is not None and problem.refuses:
                self._found.setdefault(problem.network, problem)
        for name, problem in self._found.items():
            if name not in before or before[name].what != problem.what:
                self._facts.publish(NetworkTaken(name, _reason(problem)))
        for name in before.keys() - self._found.keys():
            self._facts.publish(NetworkFree(name))

    @property
    def names(self) -> frozenset[str]:
        """The networks that overlap."""
        return frozenset(self._found)

    @property
    def reasons(self) -> dict[str, str]:
        """Why these overlap, with the remedies."""
        return {name: _reason(problem) for name, problem in self._found.items()}

    @property
    def links(self) -> frozenset[int]:
        """The indices of the links by which the host uses their addresses."""
        return frozenset(p.link for p in self._found.values() if p.link is not None)

    def refuse(self, networks: Iterable[Network]) -> None:
        """Refuse a container that needs `networks`, if one of them overlaps.

        Where a bridge has to be made for it, the host is looked at again first.

        Raises:
            InvalidRequest: for the first such network.
        """
        for network in networks:
            if self._exists(network):
                self._to_make.discard(network.name)
            elif network.name not in self._to_make:
                self._to_make.add(network.name)
                self.look()
            problem = self._found.get(network.name)
            if problem is not None:
                raise _refusal(problem)


def refuse_now(networks: Iterable[Network]) -> None:
    """Refuse a container that needs `networks`, if this host cannot have one of them now.

    It looks at the host each time.

    Raises:
        InvalidRequest: for the first such network.
    """
    for problem in problems(networks):
        if problem.refuses:
            raise _refusal(problem)


def _reason(problem: Problem) -> str:
    return f"{problem.what}; {problem.remedy}"


def _refusal(problem: Problem) -> InvalidRequest:
    """The refusal of a container whose network has that `problem`."""
    return InvalidRequest(keys.NETWORK, problem.network, problem.what, problem.remedy)
