"""Connections through one of many published ports."""

from __future__ import annotations

from bench.bars import Bar
from bench.charts import Chart, Picture
from bench.stats import Samples
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, times, whole
from bench.turns import hosts, turns

TITLE = "Connections through published ports"

ABOUT = """\
A client beyond the host's uplink makes TCP connections, one after the other, through one of many
published ports. Half of the other ports were published before that one, and half after it. Latency
is from `connect` until the server has ended the connection. This program and netavark published
all ports themselves. CNI's portmap would need hours for most of these numbers, because it starts a
process per rule and each process reads all rules. So it published only the port that is used, and
`iptables-restore` loaded copies of its rules for the others."""

_NAMES = {"watcher": "watcher", "netavark": "netavark", "cni": "CNI portmap"}
_KEYS = ("rate", "median", "p99")


def measure(setting: Setting) -> Figures:
    """All numbers of ports at once, each a host; all contenders in turn."""
    sizes: list[int] = setting.many([1, 100, 5000, 20000], [1, 10])
    connections = setting.many(2000, 100)
    kinds = {
        f"{kind} {ports}": (f"ports-{kind}", {"ports": ports}) for ports in sizes for kind in _NAMES
    }
    samples = Samples()
    setting.say("publishing ports")
    with hosts(setting.base, kinds) as contenders:
        for _, _, host in turns(contenders, 1):
            host.call("connect", connections)
        setting.say("connecting")
        for _, name, host in turns(contenders, setting.many(9, 1)):
            answer = host.call("connect", connections)
            for key in _KEYS:
                samples.add(f"{name} {key}", answer[key])
    return {"sizes": sizes, **samples.summaries()}


def tables(figures: Figures) -> list[Table]:
    """Connections a second, and latency."""
    sizes = figures["sizes"]
    header = ("published ports", *(whole(size) for size in sizes))

    def cells(kind: str, key: str) -> list[float]:
        return [figures[f"{kind} {size} {key}"]["median"] for size in sizes]

    rates = tuple((name, *map(whole, cells(kind, "rate"))) for kind, name in _NAMES.items())
    latency = tuple(
        (f"{name}, {key}", *map(seconds, cells(kind, key)))
        for kind, name in _NAMES.items()
        for key in ("median", "p99")
    )
    return [
        Table("Connections a second, one behind the other", header, rates),
        Table("Latency of one", header, latency),
    ]


def charts(figures: Figures) -> list[Picture]:
    """Latency by ports."""
    lines = {
        name: [(size, figures[f"{kind} {size} median"]["median"]) for size in figures["sizes"]]
        for kind, name in _NAMES.items()
    }
    title = "Latency of a connection through one of so many published ports, median"
    return [Chart("performance-connections", title, "published ports", lines, "s")]


def bars(figures: Figures) -> list[Bar]:
    """The most ports against the fewest."""
    few, most = figures["sizes"][0], figures["sizes"][-1]
    ratio = figures[f"watcher {most} rate"]["median"] / figures[f"watcher {few} rate"]["median"]
    return [
        Bar(
            f"connections through one of {most:,} ports against one of {few}", "at least 0.95x",
            times(ratio), ratio >= 0.95,
        )
    ]  # fmt: skip
