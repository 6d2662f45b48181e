"""The same with 1, 10, 100, 1,000 and 5,000 sandboxes there already."""

from __future__ import annotations

from typing import Literal

from bench.bars import Bar
from bench.charts import Chart, Picture
from bench.host import Host
from bench.stats import Samples, Summary
from bench.suites import Figures, Setting
from bench.tables import Table, mebibytes, seconds, times, whole
from bench.turns import hosts, turns

TITLE = "Sweep over sandboxes"

ABOUT = """\
The same measurements with many sandboxes on the host, each with a published port. These sandboxes
are sleeping processes in network namespaces of their own, with a `state.json` as runc writes it.
They are not containers of runc, because five thousand of those are beyond the scope of this. All
are in one network. A bridge takes 1,023 ports, so a larger network is a `routed` one, where each
sandbox is a host route. The bar of 5,000 applies to that; a bridge with up to 1,000 is shown as
well. Attach and detach are those of one more sandbox; modes and sizes take turns. The floor beside
them shows the kernel's part: it goes through all ports of a bridge for each port that comes or
goes. The time from runc's save to the gate's answer needs a running service, which listens in
every namespace. The kernel goes through the numbers of all namespaces for each message to such a
listener. That slows down everything that runs beside it, so this figure is measured alone, one
size after the other. Commands are those of the routed network, timed from the start of their
process to its end; the time of the bare interpreter is given beside them."""

_VERBS = ("attach", "detach")
_UNMEASURED = 5
"""Rounds at first in which it is found out that bridges and tables are there."""

_BRIDGE_HOLDS = 1000
"""Sandboxes, and some of its ports are left for those that are measured."""

_GATE = "routed gate"
_LINES = {
    "routed watcher": "routed",
    _GATE: "routed, save to answer",
    "routed floor": "routed, the floor",
    "bridge watcher": "bridge",
    "bridge floor": "bridge, the floor",
}
_SHORT = {
    "sync from nothing": "sync, all to do",
    "sync": "sync, none to do",
    "ready": "run, to ready",
    "ls": "ls",
    "interpreter": "the interpreter",
}
_COMMANDS = {
    "sync from nothing": "`sync` from nothing",
    "sync": "`sync` with nothing to do",
    "ready": "start-up to ready",
    "ls": "`ls`",
    "interpreter": "the interpreter alone",
}


def measure(setting: Setting) -> Figures:
    """All sizes at once, each a host a mode; and each again for the floor."""
    sizes: list[int] = setting.many([1, 10, 100, 1000, 5000], [1, 3, 10])
    figures: Figures = {"sizes": sizes}
    kinds = {
        f"{line} {size}": (line.split()[1], {"mode": line.split()[0]})
        for size in sizes
        for line in _LINES
        if line != _GATE and (size <= _BRIDGE_HOLDS or line.startswith("routed"))
    }
    with hosts(setting.base, kinds) as contenders:
        for size in sizes:
            setting.say(f"{size} sandboxes: commands")
            figures[str(size)] = _commands(setting, contenders[f"routed watcher {size}"], size)
        for name, host in contenders.items():
            if not name.startswith("routed watcher"):
                host.call("fill", int(name.split()[2]))
        setting.say("attach and detach")
        samples = {str(size): Samples() for size in sizes}
        for number, name, host in turns(contenders, _UNMEASURED + setting.many(120, 3)):
            line, _, there = name.rpartition(" ")
            one = int(there) + number
            host.call("prepare", one)
            for verb in _VERBS:
                took = host.call(verb, one)["all"]
                if number >= _UNMEASURED:
                    samples[there].add(f"{line} {verb}", took)
    for size in sizes:
        setting.say(f"{size} sandboxes: the gate")
        _gate(setting, size, samples[str(size)])
    for there, of in samples.items():
        figures[there] |= of.summaries()
    return figures


def tables(figures: Figures) -> list[Table]:
    """A column a size."""
    sizes = figures["sizes"]
    columns = [figures[str(size)] for size in sizes]
    rows = [
        (f"{verb}, {name}, {key}", *(_shown(of.get(f"{line} {verb}"), key) for of in columns))
        for verb in _VERBS
        for line, name in _LINES.items()
        if any(f"{line} {verb}" in of for of in columns)
        for key in ("median", "p99")
    ]
    rows += [
        (name, *(seconds(of[key]["median"]) for of in columns)) for key, name in _COMMANDS.items()
    ]
    rows.append(("resident memory of the service", *(mebibytes(of["resident"]) for of in columns)))
    header = ("sandboxes", *(whole(size) for size in sizes))
    note = "`sync` from nothing is of one run, the other commands are medians."
    return [Table("With so many sandboxes there", header, tuple(rows), note)]


def charts(figures: Figures) -> list[Picture]:
    """Attach; detach; commands; memory."""
    sizes = figures["sizes"]

    def line(key: str) -> list[tuple[float, float]]:
        columns = ((size, figures[str(size)]) for size in sizes)
        return [(size, of[key]["median"]) for size, of in columns if key in of]

    memory = [(float(size), figures[str(size)]["resident"] / (1 << 20)) for size in sizes]
    return [
        *(
            Chart(
                f"performance-{verb}", f"{verb.capitalize()} of one more sandbox, median",
                "sandboxes there already",
                {
                    name: points
                    for key, name in _LINES.items()
                    if (points := line(f"{key} {verb}"))
                },
                "s",
            )
            for verb in _VERBS
        ),
        Chart(
            "performance-commands", "Commands, from start to end", "sandboxes there",
            {name: line(key) for key, name in _SHORT.items()}, "s",
        ),
        Chart(
            "performance-memory", "Resident memory of the service", "sandboxes there",
            {"memory": memory}, "MiB",
        ),
    ]  # fmt: skip


def bars(figures: Figures) -> list[Bar]:
    """Of the sizes that the bars are for, or the ones next to them in a quick run."""
    sizes = figures["sizes"]
    few, some, most = sizes[1], sizes[min(3, len(sizes) - 1)], sizes[-1]
    ratio, of_floor = (
        figures[str(most)][which]["median"] / figures[str(few)][which]["median"]
        for which in ("routed watcher attach", "routed floor attach")
    )
    of = figures[str(some)]
    idle = of["sync"]["median"] - of["interpreter"]["median"]
    all_anew = figures[str(most)]["sync from nothing"]["median"]
    anew, listing = of["sync from nothing"]["median"], of["ls"]["median"]
    return [
        Bar(
            f"attach at {most:,} sandboxes against attach at {few}, routed", "at most 1.3x",
            f"{times(ratio)} (the floor: {times(of_floor)})", ratio <= 1.3,
        ),
        Bar(
            f"`sync` with nothing to do, {some:,} sandboxes, beyond the interpreter's start",
            "at most 0.25 s", seconds(idle), idle <= 0.25,
        ),
        Bar(
            f"`sync` from nothing, {some:,} sandboxes with a port each", "under 3 s",
            seconds(anew), anew < 3,
        ),
        Bar(
            f"`sync` from nothing, {most:,} sandboxes with a port each", "at most 6 s",
            seconds(all_anew), all_anew <= 6,
        ),
        Bar(f"`watcher ls` with {some:,} sandboxes", "under 0.25 s", seconds(listing),
            listing < 0.25),
    ]  # fmt: skip


def _gate(setting: Setting, size: int, samples: Samples) -> None:
    """Attach by the gate, on the only host that there is: its service slows down all others."""
    with hosts(setting.base, {_GATE: ("gate", {"mode": "routed"})}) as alone:
        alone[_GATE].call("fill", size)
        for number, _, host in turns(alone, _UNMEASURED + setting.many(60, 3)):
            host.call("prepare", size + number)
            took = host.call("attach", size + number)["all"]
            host.call("detach", size + number)
            if number >= _UNMEASURED:
                samples.add(f"{_GATE} attach", took)


def _commands(setting: Setting, host: Host, size: int) -> Figures:
    samples = Samples()
    host.call("prepare_many", size)
    samples.add("sync from nothing", host.call("run", "sync"))
    for _ in range(setting.many(5, 1)):
        samples.add("sync", host.call("run", "sync"))
        samples.add("ls", host.call("run", "ls"))
        samples.add("interpreter", host.call("interpreter"))
    for _ in range(setting.many(3, 1)):
        samples.add("ready", host.call("start"))
        resident = host.call("usage")["resident"]
        host.call("stop")
    return {**samples.summaries(), "resident": resident}


def _shown(of: Summary | None, key: Literal["median", "p99"]) -> str:
    """A time; a dash where there is none."""
    return "-" if of is None else seconds(of[key])
