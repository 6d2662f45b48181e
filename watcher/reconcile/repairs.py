"""Repairs as they are published: each that was made, and once what cannot be made and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.facts.kinds import NotRepaired, Repaired, RightAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.facts.publisher import Publisher
    from watcher.model.repair import Repair


class Repairs:
    """Publishes repairs.

    Attributes:
        failed: called with the host end of a link that could not be put right, to try again.
    """

    def __init__(self, facts: Publisher) -> None:
        self._facts = facts
        self.failed: Callable[[str], object] = lambda _: None
        self._causes: dict[str, str] = {}
        """Why what cannot be put right cannot, by what would have been done."""

    def publish(self, repairs: Iterable[Repair]) -> None:
        """Publish `repairs`, which nobody asked for; what fails as before was published before."""
        for repair in repairs:
            if not repair.error:
                self._causes.pop(repair.what, None)
                self._facts.publish(Repaired(repair))
                continue
            if self._causes.get(repair.what) != repair.error:
                self._causes[repair.what] = repair.error
                self._facts.publish(NotRepaired(repair))
            if repair.link:
                self.failed(repair.link)

    def is_right(self, link: str, *, gone: bool) -> None:
        """Nothing was wrong with `link` any more; `gone`: nor is there a sandbox that has it."""
        what = f"attached {link}"
        if self._causes.pop(what, None) and not gone:
            self._facts.publish(RightAgain(link))
