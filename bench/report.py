"""Makes the page and the pictures from the results."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench import bars
from bench.bars import Bar
from bench.results import Result
from bench.suites import suite

BEGIN: Final = "<!-- Between here and the end mark everything is written by `make bench`. -->"
END: Final = "<!-- The end mark. -->"

PAGE: Final = Path(__file__).resolve().parent.parent / "docs/performance.md"
"""The page; the text outside of its marks is written by hand."""


def reached(results: dict[str, Result]) -> list[Bar]:
    """All bars of the suites that have results."""
    return [bar for name, of in results.items() for bar in suite(name).bars(of["figures"])]


def write(directory: Path, results: dict[str, Result]) -> None:
    """Write the pictures, and the page with a new marked part, into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page = f"{before}{BEGIN}\n\n{_measured(results)}\n{END}{after}"
    (directory / PAGE.name).write_text(page)
    for name, of in results.items():
        for chart in suite(name).charts(of["figures"]):
            (directory / f"{chart.name}.svg").write_text(chart.svg())


def _measured(results: dict[str, Result]) -> str:
    parts = ["## The bars\n", _without_title(bars.table(reached(results)).markdown())]
    for name, of in results.items():
        of_suite = suite(name)
        parts += [f"## {of_suite.TITLE}\n", of_suite.ABOUT + "\n"]
        parts += [table.markdown() for table in of_suite.tables(of["figures"])]
        parts += [
            f"![{chart.title}]({chart.name}.svg)\n" for chart in of_suite.charts(of["figures"])
        ]
    return "\n".join([*parts, _machines(results)])


def _machines(results: dict[str, Result]) -> str:
    """The machines of the results, each once."""
    lines = ["## The machine\n"]
    seen: list[dict[str, str]] = []
    for of in results.values():
        if of["machine"] not in seen:
            seen.append(of["machine"])
            lines += [f"- {key}: {value}" for key, value in of["machine"].items()]
            lines.append("")
    return "\n".join(lines)


def _without_title(markdown: str) -> str:
    return markdown.partition("\n\n")[2]
