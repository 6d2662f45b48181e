"""What readers of the events socket cost who they read about: containers that start."""

from __future__ import annotations

import time
from typing import Any, Final

from bench.bars import Bar
from bench.charts import Picture
from bench.host import Host
from bench.stats import Samples, Spread, ratios, spread
from bench.suites import Figures, Setting
from bench.tables import Table, mebibytes, seconds, times, whole
from bench.turns import hosts, turns

TITLE = "Readers of events"

ABOUT = """\
The time from runc's save to the gate's answer, and of a whole `runc run`, with readers of
`events.sock` and without. All readers of a host are one process (`bench/readers.c`), so what they
do with the lines does not count. A slow one reads a kilobyte a second. A ratio is to the time
without readers in the same round. Then, on hosts of their own: the memory of the service and of
the broker, before and after many readers that connect, read the state and go; and the longest step
of the service's loop while the state is passed to a new broker, which the loop's selector is
timed for. Each of those passes begins with no broker, so it includes its start."""

_ATTACH: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "none": ("no reader", {}),
    "1": ("1 reader", {"fast": 1}),
    "10": ("10 readers", {"fast": 10}),
    "bad": ("1 slow reader, and 1 that never reads", {"slow": 1, "never": 1}),
    "100": ("100 readers", {"fast": 100}),
}
_RUN: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "none": ("no reader", {}),
    "10": ("10 readers", {"fast": 10}),
}
_BEFORE: Final = "before"
_BEFORE_NAME: Final = "no reader, the program before"
_UNMEASURED: Final = 5
_SETTLES: Final = 70.0
"""Seconds after which the service has done what it does once nothing happens for a while."""

_MOST: Final = 1.03
_STEP: Final = 1e-3


def measure(setting: Setting) -> Figures:
    """Attach and `runc run` in turns; then memory and the loop, each alone."""
    samples = Samples()
    attach = {name: ("gate-read", options) for name, (_, options) in _ATTACH.items()}
    run = {name: ("runc-read", options) for name, (_, options) in _RUN.items()}
    if setting.before is not None:
        tree = {"tree": str(setting.before)}
        attach[_BEFORE] = ("gate", tree)
        run[_BEFORE] = ("runc-watcher", tree)
    rounds = {"attach": setting.many(300, 3), "run": setting.many(150, 3)}
    _attach(setting, attach, samples, rounds["attach"])
    _run(setting, run, samples, rounds["run"])
    figures: Figures = {"rounds": rounds, "attach": list(attach), "run": list(run)}
    figures |= samples.summaries()
    for verb, kinds in (("attach", attach), ("run", run)):
        base = samples.values(f"{verb} none")
        for name in kinds:
            values = samples.values(f"{verb} {name}")
            figures[f"{verb} {name} ratio"] = spread(ratios(values, base))
    figures["memory"] = _memory(setting)
    figures["loop"] = _loop(setting)
    return figures


def tables(figures: Figures) -> list[Table]:
    """Attach, `runc run`, memory, the loop."""
    found = [
        _compared(figures, "attach", "From runc's save to the gate's answer", _ATTACH),
        _compared(figures, "run", "`runc run` of `true`, with a published port", _RUN),
    ]
    memory, loop = figures["memory"], figures["loop"]
    found.append(
        Table(
            f"Memory, {whole(memory['sandboxes'])} sandboxes",
            ("", "the service", "the broker"),
            tuple(
                (name, mebibytes(memory[key]["service"]), mebibytes(memory[key]["broker"]))
                for key, name in (
                    ("first", "with one reader"),
                    ("after", f"after {whole(memory['readers'])} readers that came and went"),
                    ("many", f"with {whole(memory['many readers'])} readers"),
                )
            ),
        )
    )
    found.append(
        Table(
            f"The state of {whole(loop['sandboxes'])} sandboxes, for the first reader"
            f" ({loop['passes']} times)",
            ("", "median", "most"),
            (
                ("longest step of the service's loop", *_most(loop["longest"])),
                ("the same, processor time", *_most(loop["work"])),
                ("all steps, processor time", *_most(loop["total"])),
                ("from connecting to the whole state", *_most(loop["first"])),
                ("the same for the next reader", *_most(loop["next"])),
            ),
        )
    )
    return found


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Ten readers against none, and the loop."""
    found = [
        Bar(
            f"{what} with 10 readers against none", "at most 1.03x",
            _ratio(figures[f"{verb} 10 ratio"]), figures[f"{verb} 10 ratio"]["median"] <= _MOST,
        )
        for verb, what in (("attach", "attach"), ("run", "`runc run`"))
    ]  # fmt: skip
    longest, size = figures["loop"]["work"]["most"], whole(figures["loop"]["sandboxes"])
    found.append(
        Bar(
            f"the service's longest step for the state of {size} sandboxes, processor time",
            "at most 1 ms", seconds(longest), longest <= _STEP,
        )
    )  # fmt: skip
    return found


def _attach(
    setting: Setting, kinds: dict[str, tuple[str, dict[str, Any]]], samples: Samples, rounds: int
) -> None:
    setting.say("attach")
    with hosts(setting.base, kinds) as contenders:
        for number, name, host in turns(contenders, _UNMEASURED + rounds):
            host.call("prepare", number)
            took = host.call("attach", number)["all"]
            host.call("detach", number)
            if number >= _UNMEASURED:
                samples.add(f"attach {name}", took)


def _run(
    setting: Setting, kinds: dict[str, tuple[str, dict[str, Any]]], samples: Samples, rounds: int
) -> None:
    setting.say("runc run")
    with hosts(setting.base, kinds) as contenders:
        for number, name, host in turns(contenders, _UNMEASURED + rounds):
            took = host.call("run", number)["all"]
            if number >= _UNMEASURED:
                samples.add(f"run {name}", took)


def _memory(setting: Setting) -> Figures:
    """Readers that come and go, a hundred at a time; and many at once."""
    size, at_once, times_ = setting.many((1000, 100, 10), (5, 10, 2))
    many = setting.many(1000, 20)
    setting.say(f"{at_once * times_} readers come and go")
    with Host("gate-read", setting.base, mode="routed") as host:
        host.call("fill", size)
        host.call("connect", 1)
        first = host.call("resident")
        host.call("connect", at_once)
        for _ in range(times_ - 1):
            host.call("again")
        host.call("disconnect")
        host.call("connect", 1)
        after = host.call("resident")
        host.call("connect", many)
        at_most = host.call("resident")
    return {
        "sandboxes": size, "readers": at_once * times_, "many readers": many,
        "first": first, "after": after, "many": at_most,
    }  # fmt: skip


def _loop(setting: Setting) -> Figures:
    """Passes of the state, each to a broker of its own."""
    size, passes = setting.many((5000, 12), (5, 2))
    setting.say(f"{passes} passes of {size} sandboxes")
    samples = Samples()
    with Host("gate-read", setting.base, mode="routed", timed=True) as host:
        host.call("fill", size)
        time.sleep(setting.many(_SETTLES, 1.0))
        for _ in range(passes):
            host.call("longest_step")
            found = {"first": host.call("connect", 1)} | host.call("longest_step")
            found["next"] = host.call("again")
            for key, value in found.items():
                samples.add(key, value)
            host.call("disconnect")
            host.call("end_broker")
    return {"sandboxes": size, "passes": passes, **samples.summaries()}


def _compared(
    figures: Figures, verb: str, title: str, kinds: dict[str, tuple[str, dict[str, Any]]]
) -> Table:
    names = {name: of[0] for name, of in kinds.items()} | {_BEFORE: _BEFORE_NAME}
    rows = []
    for name in figures[verb]:
        of = figures[f"{verb} {name}"]
        percentiles = (seconds(of[key]) for key in ("median", "p95", "p99"))
        rows.append((names[name], *percentiles, _ratio(figures[f"{verb} {name} ratio"])))
    title = f"{title}, {figures['rounds'][verb]} rounds"
    return Table(title, ("", "median", "p95", "p99", "to no reader"), tuple(rows))


def _ratio(of: Spread) -> str:
    return f"{times(of['median'])} ({of['p10']:.2f} to {of['p90']:.2f})"


def _most(of: dict[str, float]) -> tuple[str, str]:
    return seconds(of["median"]), seconds(of["most"])
