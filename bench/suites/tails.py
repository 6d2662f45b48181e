"""The slowest of many: attach and detach at the 95th and 99th percentile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bench.bars import Bar
from bench.charts import Chart, Picture
from bench.stats import Samples
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, times, whole
from bench.turns import hosts, turns

TITLE = "Tails"

ABOUT = """\
Attach and detach of one more sandbox, some hundred times, with many sandboxes on the host. The
sandboxes are those of the sweep, in a routed network. Detach is until nothing reaches the sandbox
any more and its port and lease are free. The floor takes turns with this program, so its tail is
that of the kernel and of the machine. The time from runc's save to the gate's answer is measured
alone, one size after the other, as in the sweep."""

_VERBS = ("attach", "detach")
_KEYS: Final = {"median": "p50", "p95": "p95", "p99": "p99"}
_NAMES: Final = {
    "floor": "the floor",
    "watcher": "watcher, reconcile",
    "before": "watcher, before",
    "gate": "watcher, save to answer",
}
_UNMEASURED = 5
"""Rounds at first in which it is found out that tables are there."""

_LIMIT = 3.0


def measure(setting: Setting) -> Figures:
    """All sizes at once, each a host a contender; the gate of each alone."""
    sizes: list[int] = setting.many([10, 1000, 4000], [2, 5])
    routed: dict[str, Any] = {"mode": "routed"}
    contenders = {"floor": ("floor", routed), "watcher": ("watcher", routed)}
    if setting.before is not None:
        contenders["before"] = ("watcher", routed | {"tree": str(setting.before)})
    samples = Samples()
    kinds = {f"{size} {name}": of for size in sizes for name, of in contenders.items()}
    _measure(setting, kinds, samples, setting.many(200, 3))
    for size in sizes:
        _measure(setting, {f"{size} gate": ("gate", routed)}, samples, setting.many(100, 3))
    names = [name for name in _NAMES if name in contenders or name == "gate"]
    return {"sizes": sizes, "contenders": names, **samples.summaries()}


def tables(figures: Figures) -> list[Table]:
    """One a verb."""
    header = ("sandboxes", *(whole(size) for size in figures["sizes"]))
    found = []
    for verb in _VERBS:
        rows: list[tuple[str, ...]] = []
        for name in _contenders(figures, verb):
            columns = [figures[f"{size} {name} {verb}"] for size in figures["sizes"]]
            rows += [
                (f"{_NAMES[name]}, {shown}", *(seconds(of[key]) for of in columns))
                for key, shown in _KEYS.items()
            ]
            if name != "floor":
                ratios = (times(_to_floor(figures, size, name, verb)) for size in figures["sizes"])
                rows.append((f"{_NAMES[name]}, p99 to the floor's", *ratios))
        found.append(Table(f"{verb.capitalize()}, with so many there", header, tuple(rows)))
    return found


def charts(figures: Figures) -> list[Picture]:
    """The 99th percentile by sandboxes."""
    return [
        Chart(
            f"performance-tails-{verb}", f"{verb.capitalize()} of one more sandbox, p99",
            "sandboxes there already",
            {
                _NAMES[name].removeprefix("watcher, "): [
                    (size, figures[f"{size} {name} {verb}"]["p99"]) for size in figures["sizes"]
                ]
                for name in _contenders(figures, verb)
            },
            "s",
        )
        for verb in _VERBS
    ]  # fmt: skip


def bars(figures: Figures) -> list[Bar]:
    """The middle size, against the floor."""
    size = figures["sizes"][1]
    ratio = _to_floor(figures, size, "watcher", "attach")
    mine, floor = (figures[f"{size} {name} attach"]["p99"] for name in ("watcher", "floor"))
    return [
        Bar(
            f"attach, p99 against the floor's p99, {size:,} sandboxes", "at most 3x",
            f"{times(ratio)} ({seconds(mine)}, {seconds(floor)})", ratio <= _LIMIT,
        )
    ]  # fmt: skip


def _measure(
    setting: Setting, kinds: dict[str, tuple[str, dict[str, Any]]], samples: Samples, rounds: int
) -> None:
    setting.say(f"filling {', '.join(kinds)}")
    with hosts(setting.base, kinds) as contenders:
        for name, host in contenders.items():
            host.call("fill", int(name.split()[0]))
        setting.say("attach and detach")
        for number, name, host in turns(contenders, _UNMEASURED + rounds):
            one = int(name.split()[0]) + number
            host.call("prepare", one)
            for verb in _VERBS:
                took = host.call(verb, one)["all"]
                if number >= _UNMEASURED:
                    samples.add(f"{name} {verb}", took)


def _contenders(figures: Figures, verb: str) -> Iterable[str]:
    """Who is in the tables of that verb: a container's end has nobody who waits at the gate."""
    return [name for name in figures["contenders"] if name != "gate" or verb == "attach"]


def _to_floor(figures: Figures, size: int, name: str, verb: str) -> float:
    """The 99th percentile, to that of the floor."""
    mine, floor = figures[f"{size} {name} {verb}"], figures[f"{size} floor {verb}"]
    return float(mine["p99"] / floor["p99"])
