"""Many `runc run` at once."""

from __future__ import annotations

from bench.bars import Bar
from bench.charts import Picture
from bench.stats import Samples
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, times
from bench.turns import hosts, turns

TITLE = "Bursts"

ABOUT = """\
Many `runc run` are started at once, and the time is taken until all of them have ended: with no
network at all, and with this program, its gate and a published port each. Each container reports
whether its network was there before its first instruction."""

_KINDS = ("runc", "runc-watcher")


def measure(setting: Setting) -> Figures:
    """Bursts of each size, in turn."""
    rounds = setting.many({64: 7, 256: 3}, {8: 1})
    figures: Figures = {"sizes": list(rounds)}
    with hosts(setting.base, {kind: (kind, {}) for kind in _KINDS}) as contenders:
        for _, _, host in turns(contenders, 1):
            host.call("run", 0)
        for size, count in rounds.items():
            samples = Samples()
            for number, kind, host in turns(contenders, count):
                setting.say(f"{size} at once, round {number + 1}, {kind}")
                done = host.call("burst", 1 + number * size, size)
                samples.add(kind, done["all"])
                samples.add(f"{kind} had", done["had"])
            had = sum(samples.values("runc-watcher had"))
            figures[str(size)] = {**samples.summaries(), "had": had, "of": size * count}
    return figures


def tables(figures: Figures) -> list[Table]:
    """A row a size."""
    rows = []
    for size in figures["sizes"]:
        of = figures[str(size)]
        none, mine = of["runc"], of["runc-watcher"]
        rows.append(
            (
                f"{size} at once", seconds(none["median"]), seconds(mine["median"]),
                seconds(mine["most"]), times(mine["median"] / none["median"]),
                f"{of['had']} of {of['of']}",
            )
        )  # fmt: skip
    header = ("", "no network", "watcher", "the slowest burst", "ratio", "network first")
    return [Table("Bursts of `runc run`, until all have run", header, tuple(rows))]


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Of the smaller size."""
    size = figures["sizes"][0]
    of = figures[str(size)]
    ratio = of["runc-watcher"]["median"] / of["runc"]["median"]
    return [
        Bar(
            f"burst of {size} against no network", "at most 1.25x, all with their network first",
            f"{times(ratio)}, {of['had']} of {of['of']}", ratio <= 1.25 and of["had"] == of["of"],
        )
    ]  # fmt: skip
