"""`runc run` of a container in the network of another one."""

from __future__ import annotations

from statistics import median
from typing import Final

from bench.bars import Bar
from bench.charts import Picture
from bench.stats import Samples
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, times
from bench.turns import hosts, turns

TITLE = "Sharing a network"

ABOUT = """\
The time of a whole `runc run` of the same program, beside a container that has its network. By
annotation, runc makes a namespace and this program moves the container's init out of it; by path,
runc joins the other's namespace itself, so nothing has to be made or moved. "More" is the median of
the differences within a round."""

_NAMES: Final = {
    "beside": "a network of its own",
    "by-annotation": "in the other's, by `io.watcher.share`",
    "by-path": "in the other's, by its path in `config.json`",
}
_LIMIT: Final = 3e-3


def measure(setting: Setting) -> Figures:
    """Run after run, in turn."""
    samples = Samples()
    took: dict[str, list[float]] = {kind: [] for kind in _NAMES}
    with hosts(setting.base, {kind: (f"runc-{kind}", {}) for kind in _NAMES}) as contenders:
        for _, _, host in turns(contenders, 1):
            host.call("run", 1)
        for number, kind, host in turns(contenders, setting.many(300, 2)):
            found = host.call("run", 2 + number)
            took[kind].append(found["all"])
            for step, value in found.items():
                samples.add(f"{kind} {step}", value)
    had = {f"{kind} had": sum(samples.values(f"{kind} had")) for kind in _NAMES}
    more = {
        f"{kind} more": median(a - b for a, b in zip(took[kind], took["beside"], strict=True))
        for kind in _NAMES
    }
    return {**samples.summaries(), **had, **more}


def tables(figures: Figures) -> list[Table]:
    """One."""
    own = figures["beside all"]["median"]
    rows = []
    for kind, name in _NAMES.items():
        of, more = figures[f"{kind} all"], figures[f"{kind} more"]
        had = f"{figures[f'{kind} had']} of {of['count']}"
        cells = (seconds(of["median"]), seconds(of["p95"]), times(of["median"] / own))
        rows.append((name, *cells, _milliseconds(more), had))
    header = ("", "median", "p95", "to one of its own", "more", "network first")
    return [Table("`runc run` beside a container with a network", header, tuple(rows))]


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """By annotation, against a network of its own."""
    more = figures["by-annotation more"]
    return [
        Bar(
            "`runc run` by `io.watcher.share` against one with a network of its own",
            "at most 3 ms more", _milliseconds(more), more <= _LIMIT,
        )
    ]  # fmt: skip


def _milliseconds(of: float) -> str:
    """With a sign."""
    return f"{of * 1e3:+.2f} ms"
