"""What a limit of bandwidth lets pass, and how long a packet waits under it."""

from __future__ import annotations

from typing import Any, Final

from bench.bars import Bar
from bench.charts import Picture
from bench.host import Host
from bench.stats import Samples, Spread, spread
from bench.suites import Figures, Setting
from bench.tables import Table, seconds

TITLE = "Bandwidth"

ABOUT = """\
A container may receive and send so many bits a second, and somebody sends as much as goes by TCP,
or a fifth more than that by UDP, to it or from it (`bench/shaped.c`). The first table has the
payload that arrives, as a ratio to the limit. The second one has how long a probe takes meanwhile,
there by the full queue and back. A packet may wait for 50 ms of the rate, or for 8 full frames,
which are 95 ms at 1M. A probe that finds the queue full is dropped, and counts nowhere. The figures
are the medians of all rounds, and the longest time of any."""

_RATES: Final = {"1M": 10**6, "100M": 10**8, "1G": 10**9}
_MODES: Final = ("bridge", "routed")
_KINDS: Final = ("tcp", "udp")
_PATHS: Final = (
    "from a neighbour", "to a neighbour", "from a neighbour, IPv6", "to a neighbour, IPv6",
    "from beyond, published port", "to the machine beyond", "to the host",
)  # fmt: skip
_WARM: Final = {"1M": 1500, "100M": 1000, "1G": 1000}
_LENGTH: Final = {"1M": 4000, "100M": 1500, "1G": 1500}
"""Milliseconds: at 1M, a full packet takes 12."""

_NEAR: Final = 0.05


def measure(setting: Setting) -> Figures:
    """One host for each mode and rate, one after the other."""
    rounds = setting.many(3, 1)
    figures: Figures = {"rounds": rounds}
    for mode in _MODES:
        for rate, bits in _RATES.items():
            samples = Samples()
            setting.say(f"{mode}, {rate}")
            with Host("limited-watcher", setting.base, bits=bits, mode=mode) as host:
                for path, kind in [(p, k) for _ in range(rounds) for p in _PATHS for k in _KINDS]:
                    length = setting.many(_LENGTH[rate], 300)
                    found = host.call("flow", path, kind, setting.many(_WARM[rate], 300), length)
                    for key, value in found.items():
                        samples.add(f"{path} {kind} {key}", value)
            for path in _PATHS:
                for kind in _KINDS:
                    key = f"{path} {kind}"
                    figures[f"{mode} {rate} {key}"] = {
                        "ratio": spread(samples.values(f"{key} ratio")),
                        "median": spread(samples.values(f"{key} median")),
                        "longest": max(samples.values(f"{key} longest")),
                    }
    return figures


def tables(figures: Figures) -> list[Table]:
    """What arrives, and how long it takes."""
    header = ("", *(f"{rate}, {kind.upper()}" for rate in _RATES for kind in _KINDS))
    rows = [(mode, path) for mode in _MODES for path in _PATHS]
    return [
        Table(title, header, tuple(_row(figures, *row, show) for row in rows))
        for title, show in (
            ("Payload that arrives, ratio to the limit", _ratio),
            ("Answer to a probe under that load, median and longest", _wait),
        )
    ]  # fmt: skip


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Within five in a hundred, everywhere."""
    medians = [of["ratio"]["median"] for of in _cells(figures)]
    low, high = min(medians), max(medians)
    return [
        Bar(
            "payload by TCP and UDP against the limit", "within 5 %",
            f"{low:.3f} to {high:.3f}", round(abs(low - 1), 2) <= _NEAR and high - 1 <= _NEAR,
        )
    ]  # fmt: skip


def _cells(figures: Figures) -> list[dict[str, Any]]:
    return [of for of in figures.values() if isinstance(of, dict)]


def _row(figures: Figures, mode: str, path: str, show: Any) -> tuple[str, ...]:
    cells = (figures[f"{mode} {rate} {path} {kind}"] for rate in _RATES for kind in _KINDS)
    return (f"{mode}, {path}", *map(show, cells))


def _ratio(of: dict[str, Any]) -> str:
    found: Spread = of["ratio"]
    return f"{found['median']:.3f}"


def _wait(of: dict[str, Any]) -> str:
    if not of["median"]["median"]:
        return "mostly dropped"
    return f"{seconds(of['median']['median'])}, {seconds(of['longest'])}"
