"""Repairs as the log tells of them: each that was made, and once what cannot be made and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.log.logger import Log
    from watcher.model.repair import Repair


class Repairs:
    """Tells of repairs.

    Args:
        log: where.
        failed: called with the host end of a link that could not be put right, to try again.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.failed: Callable[[str], object] = lambda _: None
        self._causes: dict[str, str] = {}
        """Why what cannot be put right cannot, by what would have been done."""

    def tell(self, repairs: Iterable[Repair]) -> None:
        """Log each of `repairs`, which nobody asked for; what fails as before was told before."""
        for repair in repairs:
            if not repair.error:
                self._causes.pop(repair.what, None)
                self._log.info("repaired", what=repair.what, sandbox=repair.sandbox, why=repair.why)
                continue
            if self._causes.get(repair.what) != repair.error:
                self._causes[repair.what] = repair.error
                self._log.error(
                    "cannot be put right", what=repair.what, sandbox=repair.sandbox,
                    why=repair.why, reason=repair.error,
                )  # fmt: skip
            if repair.link:
                self.failed(repair.link)

    def settled(self, link: str, *, gone: bool) -> None:
        """Nothing was wrong with `link` any more; `gone`: nor is there a sandbox that has it."""
        what = f"attached {link}"
        if self._causes.pop(what, None) and not gone:
            self._log.info("is right again", link=link)
