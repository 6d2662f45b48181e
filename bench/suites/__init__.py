"""What is measured, a suite a module.

Each has `ABOUT`, what it does in words; `measure(setting)`, which does it and returns figures that
JSON can hold; and `tables`, `charts` and `bars`, which are made of the figures alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, cast

from bench.bars import Bar
from bench.charts import Picture
from bench.tables import Table

type Figures = dict[str, Any]

NAMES: Final = (
    "attach", "runc", "share", "burst", "sweep", "tails", "packets", "connections", "processor",
    "idle", "readers", "names", "policy", "bandwidth", "cluster",
)  # fmt: skip
"""The suites in their order."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How it is measured.

    Attributes:
        base: a directory for this run, with the compiled programs in it.
        quick: few rounds and small numbers: to see that it works, not how fast.
        say: tells how far it is.
        before: another checkout of this program, which some suites measure beside this one.
    """

    base: Path
    quick: bool
    say: Callable[[str], None]
    before: Path | None = None

    def many[T](self, full: T, quick: T) -> T:
        """`full`, or `quick` where it has to be quick."""
        return quick if self.quick else full


class Suite(Protocol):
    """What a suite's module has."""

    TITLE: str
    ABOUT: str

    def measure(self, setting: Setting) -> Figures:
        """Measure."""

    def tables(self, figures: Figures) -> list[Table]:
        """The figures as tables."""

    def charts(self, figures: Figures) -> list[Picture]:
        """The figures as charts."""

    def bars(self, figures: Figures) -> list[Bar]:
        """Which bars the figures reach."""


def suite(name: str) -> Suite:
    """The suite of that name."""
    return cast("Suite", import_module(f"bench.suites.{name}"))
