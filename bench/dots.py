"""Charts of ratios: for each row and contender a dot, and a line for its spread."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

from bench.charts import COLOURS, INK, opening, text
from bench.stats import Spread

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 270, 20, 68, 30
_STEP: Final = 11.0
"""Between two contenders of a row, in pixels."""

_GAP: Final = 16.0
_TICK: Final = 0.05
_MANY: Final = 12
"""Ticks, from which on every other one has no number."""


@dataclass(frozen=True, slots=True)
class Dots:
    """A chart of ratios, with a linear axis to somewhat more than 1.

    Attributes:
        name: the name of its file.
        title: the line above it.
        rows: by the name of a row, the ratios by contender.
    """

    name: str
    title: str
    rows: dict[str, dict[str, Spread]]

    def svg(self) -> str:
        """The content of the SVG file."""
        names = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        high = len(names) * _STEP + _GAP
        bottom = _TOP + len(self.rows) * high
        title = escape(self.title)
        parts = [
            opening(_WIDTH, int(bottom) + _BOTTOM),
            f"<title>{title}</title>",
            f'<text x="14" y="22" font-size="14" font-weight="600">{title}</text>',
            *self._grid(bottom),
        ]
        colours = dict(zip(names, COLOURS, strict=False))
        parts += [
            text(14 + at * (_WIDTH - 28) / len(names), 46, f"● {name}", "start", colours[name])
            for at, name in enumerate(names)
        ]
        for number, (label, row) in enumerate(self.rows.items()):
            begin = _TOP + number * high + _GAP / 2
            parts.append(text(_LEFT - 12, begin + high / 2 - _GAP / 2 + 4, label, "end"))
            for at, (name, of) in enumerate(row.items()):
                parts += self._drawn(begin + (at + 0.5) * _STEP, of, colours[name])
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _grid(self, bottom: float) -> list[str]:
        found = []
        first, last = (round(end / _TICK) for end in self._ends())
        for number in range(first, last + 1):
            value = number * _TICK
            x, opacity = self._place(value), 0.8 if round(value, 2) == 1 else 0.25
            found.append(
                f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{INK}"'
                f' stroke-opacity="{opacity}"/>'
            )
            if last - first < _MANY or number % 2 == 0:
                found.append(text(x, bottom + 18, f"{value:.2f}", "middle"))
        return found

    def _drawn(self, y: float, of: Spread, colour: str) -> list[str]:
        least, median, most = (self._place(value) for value in (of["p10"], of["median"], of["p90"]))
        line = (
            f'<line x1="{least:.1f}" y1="{y:.1f}" x2="{most:.1f}" y2="{y:.1f}" stroke="{colour}"'
            ' stroke-opacity="0.6"/>'
        )
        dot = f'<circle cx="{median:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        return [line, dot]

    def _ends(self) -> tuple[float, float]:
        """The least and the most that is shown: ticks around all medians; 1 is among them."""
        medians = [of["median"] for row in self.rows.values() for of in row.values()]
        least, most = min(*medians, 1.0), max(*medians, 1.0)
        return (least // _TICK - 1) * _TICK, (most // _TICK + 2) * _TICK

    def _place(self, value: float) -> float:
        """The pixel of `value`; what is beyond an end is at that end."""
        least, most = self._ends()
        part = (min(max(value, least), most) - least) / (most - least)
        return _LEFT + part * (_WIDTH - _RIGHT - _LEFT)
