"""The same with 1, 10, 100, 1,000 and 5,000 sandboxes there already."""

from __future__ import annotations

from bench.bars import Bar
from bench.charts import Chart
from bench.host import Host
from bench.stats import Samples
from bench.suites import Figures, Setting
from bench.tables import Table, mebibytes, seconds, times, whole
from bench.turns import hosts, turns

TITLE = "Sweep over sandboxes"

ABOUT = """\
The same with so many sandboxes there already, each with a published port. They are sleeping
processes in network namespaces of their own, with a `state.json` as runc writes it, and not runc's
containers: five thousand of those are more than this is about. A Linux bridge takes 1,023 ports, so
from more than 1,000 on they are spread over several networks, each as full as that of 1,000. Attach
and detach are those of one more sandbox, the sizes taking turns; the floor beside them shows what
of it is the kernel's, which goes through all ports of a bridge for each that comes or goes.
Commands are timed from the start of their process to its end; the interpreter's own start and end
is given beside them."""

_VERBS = ("attach", "detach")
_UNMEASURED = 5
"""Rounds at first in which it is found out that bridges and tables are there."""

_LINES = {
    "watcher attach": "attach",
    "floor attach": "attach, the floor",
    "watcher detach": "detach",
    "floor detach": "detach, the floor",
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
    """All sizes at once, each a host; and each size again for the floor."""
    sizes: list[int] = setting.many([1, 10, 100, 1000, 5000], [1, 3, 10])
    figures: Figures = {"sizes": sizes}
    kinds = {
        f"{kind} {size}": (kind, {"sandboxes": size})
        for size in sizes
        for kind in ("watcher", "floor")
    }
    with hosts(setting.base, kinds) as contenders:
        for size in sizes:
            setting.say(f"{size} sandboxes: commands")
            figures[str(size)] = _commands(setting, contenders[f"watcher {size}"], size)
            contenders[f"floor {size}"].call("fill", size)
        setting.say("attach and detach")
        samples = {str(size): Samples() for size in sizes}
        for number, name, host in turns(contenders, _UNMEASURED + setting.many(120, 3)):
            kind, there = name.split()
            one = int(there) + number
            host.call("prepare", one)
            for verb in _VERBS:
                took = host.call(verb, one)["all"]
                if number >= _UNMEASURED:
                    samples[there].add(f"{kind} {verb}", took)
    for there, of in samples.items():
        figures[there] |= of.summaries()
    return figures


def tables(figures: Figures) -> list[Table]:
    """A column a size."""
    sizes = figures["sizes"]
    columns = [figures[str(size)] for size in sizes]
    rows = [
        (f"{name}, {key}", *(seconds(of[which][key]) for of in columns))
        for which, name in _LINES.items()
        for key in ("median", "p99")
    ]
    rows += [
        (name, *(seconds(of[key]["median"]) for of in columns)) for key, name in _COMMANDS.items()
    ]
    rows.append(("resident memory of the service", *(mebibytes(of["resident"]) for of in columns)))
    header = ("sandboxes", *(whole(size) for size in sizes))
    note = "`sync` from nothing is of one run, the other commands are medians."
    return [Table("With so many sandboxes there", header, tuple(rows), note)]


def charts(figures: Figures) -> list[Chart]:
    """Attach and detach; commands; memory."""

    def line(key: str) -> list[tuple[float, float]]:
        return [(size, figures[str(size)][key]["median"]) for size in figures["sizes"]]

    sizes = figures["sizes"]
    memory = [(float(size), figures[str(size)]["resident"] / (1 << 20)) for size in sizes]
    return [
        Chart(
            "performance-attach", "Attach and detach of one more sandbox, median",
            "sandboxes there already", {name: line(key) for key, name in _LINES.items()}, "s",
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
        for which in ("watcher attach", "floor attach")
    )
    of = figures[str(some)]
    idle = of["sync"]["median"] - of["interpreter"]["median"]
    anew, listing = of["sync from nothing"]["median"], of["ls"]["median"]
    return [
        Bar(
            f"attach at {most:,} sandboxes against attach at {few}", "at most 1.3x",
            f"{times(ratio)} (the floor: {times(of_floor)})", ratio <= 1.3,
        ),
        Bar(
            f"`sync` with nothing to do, {some:,} sandboxes, beyond the interpreter's start",
            "under 0.5 s", seconds(idle), idle < 0.5,
        ),
        Bar(
            f"`sync` from nothing, {some:,} sandboxes with a port each", "under 3 s",
            seconds(anew), anew < 3,
        ),
        Bar(f"`watcher ls` with {some:,} sandboxes", "under 0.25 s", seconds(listing),
            listing < 0.25),
    ]  # fmt: skip


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
