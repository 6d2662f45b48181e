"""What a handler is: a few verbs over sandboxes, and differences with a way to close each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from watcher.model.cluster import Block, ClusterChange, Peer, PeerBlock
from watcher.model.errors import WatcherError, message_with_remedy
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox


class Handler:
    """One kind of thing on the host. Every verb may be repeated, even after an interruption.

    A verb that a handler leaves out does nothing.
    """

    def appear(self, sandbox: Sandbox) -> None:
        """Make what `sandbox` needs; what is there already stays as it is.

        Raises:
            OSError: the kernel refused. What was made before stays, for `vanish` to take back.
        """

    @property
    def can_appear(self) -> bool:
        """Whether it has anything to make for a sandbox; asked once."""
        kind = type(self)
        return (kind.appear, kind.appear_all) != (Handler.appear, Handler.appear_all)

    def appear_all(self, sandboxes: Mapping[int, Sandbox]) -> dict[int, WatcherError | OSError]:
        """Like :meth:`appear` for each of `sandboxes`; returns the errors, under the same keys.

        A handler for which one transaction can serve many sandboxes overrides it.
        """
        return appear_each(sandboxes, self.appear)

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Remove what a sandbox needed as it was `before`, and does not need as it is `after`.

        That is everything if `after` is `None`. What is gone already is no error.
        """

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:  # noqa: ARG002
        """Make this kind of thing exactly what the living `sandboxes` need.

        Returns:
            The differences, in order; `dry_run` changes nothing.
        """
        return []

    def meet(self, change: ClusterChange) -> None:
        """Make what this host needs because other hosts, or its own blocks, are others now.

        The lease store has the change already; it costs no more if there are more hosts.

        Raises:
            OSError: the kernel refused. A sync does the rest.
        """

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Remove everything that is left after the last sandbox; returns a line for each thing.

        `networks` are all present and former networks.
        """
        return []


def appear_each(
    sandboxes: Mapping[int, Sandbox], appear: Callable[[Sandbox], object]
) -> dict[int, WatcherError | OSError]:
    """Call `appear` for each of `sandboxes`; returns the errors, under the same keys."""
    failed: dict[int, WatcherError | OSError] = {}
    for key, sandbox in sandboxes.items():
        try:
            appear(sandbox)
        except (WatcherError, OSError) as error:
            failed[key] = error
    return failed


class Notes(Protocol):
    """Keeps what a handler has to know after a restart (the lease store)."""

    def noted(self, name: str) -> str | None:
        """What was noted under `name`."""

    def note(self, name: str, value: str) -> None:
        """Note `value` under `name`."""

    def erase(self, name: str) -> None:
        """Forget what was noted under `name`."""


class Numbers(Protocol):
    """Gives each list of destinations or sources a number of its own."""

    def number_of(self, document: str) -> int:
        """The number that stands for the list of that text, the same until it is forgotten."""


class ListStore(Numbers, Protocol):
    """Keeps the numbers of lists (the lease store)."""

    def keep_only(self, documents: Iterable[str]) -> None:
        """Forget the numbers of all other lists; none of them is given again."""

    def document_of(self, number: int) -> str:
        """The text of a list that has a number; empty if none has it."""


class ClusterRows(Protocol):
    """What the lease store has of the cluster."""

    def blocks(self) -> Sequence[Block]:
        """This host's blocks and claims, the first taken first."""

    def peers(self) -> Mapping[str, Peer]:
        """The other hosts, by name."""

    def peer_blocks(self) -> Sequence[PeerBlock]:
        """What the other hosts have."""

    def number(self, network: str) -> int:
        """The number of a clustered network; 0 if it has none yet."""


class Difference(Struct, frozen=True):
    """Something that is not as it should be, and how to put it right.

    Attributes:
        repair: what the user is told.
        close: puts it right; does nothing if it has become right meanwhile.
        alone: whether it concerns one sandbox only; then a failure stops no other repair.
    """

    repair: Repair
    close: Callable[[], None]
    alone: bool = False


def apply(differences: Iterable[Difference], *, dry_run: bool) -> list[Repair]:
    """Close each of `differences` as it is found, unless `dry_run`; returns their repairs.

    The failure of a repair that concerns one sandbox only is put in :attr:`Repair.error`.

    Raises:
        OSError: another repair failed.
    """
    repairs: list[Repair] = []
    for difference in differences:
        repair = difference.repair
        if not dry_run and not repair.error:
            try:
                difference.close()
            except OSError as error:
                if not difference.alone:
                    raise
                repair = replace(repair, error=message_with_remedy(error))
        repairs.append(repair)
    return repairs


def unknown(repair: Repair, error: OSError) -> Difference:
    """The difference of something that could not be looked at; there is nothing to close."""
    return Difference(replace(repair, error=message_with_remedy(error)), lambda: None, alone=True)
