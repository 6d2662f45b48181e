"""`runc run` of a program that ends at once."""

from __future__ import annotations

from bench.bars import Bar
from bench.charts import Picture
from bench.stats import Samples
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, times
from bench.turns import hosts, turns

TITLE = "`runc run` of `true`"

ABOUT = """\
The time of a whole `runc run`, from its start to its end. The container's program is static and
only asks the kernel for a route out (`bench/first.c`), so it reports whether its network was there
first. The hooks are shell scripts that start no process but the peer's. What watcher and the
hooks' peers clean up after a container's end is done before the next container starts, and is not
measured."""

_NAMES = {
    "runc": "no network at all",
    "runc-watcher": "watcher: the gate, a published port",
    "runc-netavark": "prestart hook: netavark, nftables",
    "runc-cni": "prestart hook: CNI bridge + host-local + portmap",
}


def measure(setting: Setting) -> Figures:
    """Run after run, in turn."""
    samples = Samples()
    with hosts(setting.base, {kind: (kind, {}) for kind in _NAMES}) as contenders:
        for _, _, host in turns(contenders, 1):
            host.call("run", 0)
        for number, kind, host in turns(contenders, setting.many(60, 2)):
            for step, value in host.call("run", 1 + number).items():
                samples.add(f"{kind} {step}", value)
    had = {f"{kind} had": sum(samples.values(f"{kind} had")) for kind in _NAMES}
    return {**samples.summaries(), **had}


def tables(figures: Figures) -> list[Table]:
    """One."""
    none = figures["runc all"]["median"]
    rows = []
    for kind, name in _NAMES.items():
        of = figures[f"{kind} all"]
        had = f"{figures[f'{kind} had']} of {of['count']}"
        cells = (seconds(of["median"]), seconds(of["p95"]), seconds(of["p99"]))
        rows.append((name, *cells, times(of["median"] / none), had))
    header = ("", "median", "p95", "p99", "to no network", "network first")
    return [Table("`runc run` of `true`", header, tuple(rows))]


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Against no network."""
    mine, none = figures["runc-watcher all"]["median"], figures["runc all"]["median"]
    return [
        Bar(
            "`runc run` with the gate and a port against no network", "at most 1.10x",
            f"{times(mine / none)} ({seconds(mine)}, {seconds(none)})", mine <= 1.1 * none,
        )
    ]  # fmt: skip
