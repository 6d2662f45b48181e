"""What a handler is: a few verbs over sandboxes, and differences that know how to close."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from watcher.model.errors import message_with_remedy
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Member, Sandbox


class Handler:
    """One kind of thing on the host. Every verb may be called twice, or after being cut off.

    A handler leaves out the verbs that it does not need; those do nothing.
    """

    def appear(self, sandbox: Sandbox) -> None:
        """Make what `sandbox` needs; what is there already stays as it is.

        Raises:
            OSError: the kernel refused. What was made before stays, for `vanish` to take back.
        """

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Take back what `sandbox` needs no more when the members `leaving` have gone.

        Everything, if they are all that it has. What is gone already is no error.
        """

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:  # noqa: ARG002
        """Make this kind of thing be exactly what all the living `sandboxes` need.

        Returns:
            What was different, in order; with `dry_run` nothing is changed.
        """
        return []

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Take back everything that is left after the last sandbox; returns a line for each thing.

        Args:
            networks: all networks that there are or ever were.
        """
        return []


class Notes(Protocol):
    """Where a handler notes what it has to know again after a restart (the lease store)."""

    def noted(self, name: str) -> str | None:
        """What was noted under `name`."""

    def note(self, name: str, value: str) -> None:
        """Note `value` under `name`."""

    def erase(self, name: str) -> None:
        """Forget what was noted under `name`."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be, and how to put it right.

    Attributes:
        repair: what is told to the user.
        close: puts it right; nothing is left to do where it is right meanwhile.
        alone: whether it is of one sandbox, so that all else is put right where it cannot be.
    """

    repair: Repair
    close: Callable[[], None]
    alone: bool = False


def apply(differences: Iterable[Difference], *, dry_run: bool) -> list[Repair]:
    """Close each of `differences` as it is found, unless `dry_run`; what they were.

    What of one sandbox alone cannot be put right is told in its :attr:`Repair.error`, and holds
    up nobody else.

    Raises:
        OSError: anything else cannot be put right.
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
    """A difference of which nobody knows whether it is one: there is nothing to close."""
    return Difference(replace(repair, error=message_with_remedy(error)), lambda: None, alone=True)
