"""The processor time of the service for each container."""

from __future__ import annotations

from bench.bars import Bar
from bench.charts import Picture
from bench.stats import Samples
from bench.suites import Figures, Setting
from bench.tables import Table, seconds
from bench.turns import hosts, turns

TITLE = "Processor time"

ABOUT = """\
Containers of runc start and end, one after the other, each with a published port. The figures are
what the running service uses for one container, from runc's first file until the link is gone: its
processor time, user and system, of all its threads, and how often these wait (voluntary context
switches). Each is a mean over a block of containers; the table shows the median of the blocks."""

_NAMES = {"watcher": "watcher", "before": "watcher, before"}
_LIMIT = 6.5e-3


def measure(setting: Setting) -> Figures:
    """Block after block, in turn."""
    blocks, size = setting.many((8, 50), (2, 3))
    kinds: dict[str, tuple[str, dict[str, str]]] = {"watcher": ("runc-watcher", {})}
    if setting.before is not None:
        kinds["before"] = ("runc-watcher", {"tree": str(setting.before)})
    samples = Samples()
    with hosts(setting.base, kinds) as contenders:
        for number, name, host in turns(contenders, 1 + blocks):
            before = host.call("usage")
            for one in range(number * size, (number + 1) * size):
                host.call("run", one)
            after = host.call("usage")
            if number:  # not the first, in which everything is imported and made
                for key in ("runtime", "switches"):
                    samples.add(f"{name} {key}", (after[key] - before[key]) / size)
    return {"containers": blocks * size, "contenders": list(kinds), **samples.summaries()}


def tables(figures: Figures) -> list[Table]:
    """One."""
    rows = []
    for name in figures["contenders"]:
        runtime, switches = figures[f"{name} runtime"], figures[f"{name} switches"]
        rows.append(
            (
                _NAMES[name], seconds(runtime["median"]), seconds(runtime["least"]),
                seconds(runtime["most"]), f"{switches['median']:.0f}",
            )
        )  # fmt: skip
    title = f"A container's start and end, of {figures['containers']}"
    header = ("", "processor time", "the least block", "the most", "voluntary switches")
    return [Table(title, header, tuple(rows))]


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Milliseconds."""
    used, switches = figures["watcher runtime"]["median"], figures["watcher switches"]["median"]
    return [
        Bar(
            "processor time of a container's start and end", "at most 6.5 ms",
            f"{seconds(used)}, {switches:.0f} switches", used <= _LIMIT,
        )
    ]  # fmt: skip
