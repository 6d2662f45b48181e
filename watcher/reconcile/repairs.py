"""Publishes repairs: each that was made, and each that failed, once for its cause.

A repair of a link may fail because what it needs was lost in the same moment, as a bridge that
somebody renames. So if it is tried again, only the second failure in a row is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.facts.kinds import NotRepaired, Repaired, RightAgain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.facts.publisher import Publisher
    from watcher.model.repair import Repair


class Repairs:
    """Publishes repairs to `facts`.

    Attributes:
        retry: gets the host end of a link whose repair failed; `None` if nobody tries again.
    """

    def __init__(self, facts: Publisher) -> None:
        self._facts = facts
        self.retry: Callable[[str], object] | None = None
        self._causes: dict[str, str] = {}
        """The cause of each failed repair that was published, by what it would have done."""
        self._once: set[str] = set()
        """What has failed once, and is tried again."""

    def publish(self, repairs: Iterable[Repair]) -> None:
        """Publish `repairs`, except those that fail for the same cause as before."""
        for repair in repairs:
            if not repair.error:
                self._forget(repair.what)
                self._facts.publish(Repaired(repair))
                continue
            retry = self.retry if repair.link else None
            if retry is not None and repair.what not in self._once:
                self._once.add(repair.what)
            elif self._causes.get(repair.what) != repair.error:
                self._causes[repair.what] = repair.error
                self._facts.publish(NotRepaired(repair))
            if retry is not None:
                retry(repair.link)

    def is_right(self, link: str, *, gone: bool) -> None:
        """Note that nothing is wrong with `link`; `gone`: its sandbox does not exist any more."""
        if self._forget(f"attached {link}") and not gone:
            self._facts.publish(RightAgain(link))

    def _forget(self, what: str) -> bool:
        """Forget that `what` failed; whether that was published."""
        self._once.discard(what)
        return self._causes.pop(what, None) is not None
