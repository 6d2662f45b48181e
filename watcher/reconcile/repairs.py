"""Publishes repairs: each that was made, and each that failed, once for its cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.facts.kinds import NotRepaired, Repaired, RightAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.facts.publisher import Publisher
    from watcher.model.repair import Repair


class Repairs:
    """Publishes repairs; `failed` gets the host end of a link whose repair failed, for a retry."""

    def __init__(self, facts: Publisher) -> None:
        self._facts = facts
        self.failed: Callable[[str], object] = lambda _: None
        self._causes: dict[str, str] = {}
        """The last published cause of each failed repair, by what it would have done."""

    def publish(self, repairs: Iterable[Repair]) -> None:
        """Publish `repairs`, except those that fail for the same cause as before."""
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
        """Note that nothing is wrong with `link`; `gone`: its sandbox does not exist any more."""
        what = f"attached {link}"
        if self._causes.pop(what, None) and not gone:
            self._facts.publish(RightAgain(link))
