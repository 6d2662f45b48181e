"""What a packet pays on its way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.bars import Bar
from bench.charts import Picture
from bench.dots import Dots
from bench.stats import Samples, Spread, ratios, spread
from bench.suites import Figures, Setting
from bench.tables import Table, whole
from bench.turns import hosts, turns

TITLE = "Packets"

ABOUT = """\
Two processes exchange packets by TCP and UDP (`bench/packets.c`). Both are on one processor, which
does the work of the whole way. A rate is per second of the processor time that both use: it shows
what the way of a packet costs, and hardly depends on what else the machine does. A transaction is a
byte there and a byte back. A connection is from `connect` until the server has closed it. Streams
write 64 KiB at a time.

Each contender has a host with two containers and a bridge; a machine beyond has a link to that
host. The base has the same links, addresses and routes, and no rule at all. There the machine
beyond reaches the server by its own address; with all others, by a published port. bridge-nf is
`net.bridge.bridge-nf-call-iptables` (and `-ip6tables`): with 1, the rules for IP are asked about
packets between containers of one bridge as well.

A burst is short, and the contenders take turns for each figure of each round. A ratio is that of a
contender's burst to the base's burst of the same round; 1 is no cost. Tables show the median of
these ratios and, in brackets, the 10th and 90th percentile."""

_BASE = "none"
_MINE = "watcher"
_PEERS = ("netavark", "cni")
_NAMES: Final = {
    _BASE: "no rules",
    _MINE: "watcher",
    "open": "watcher, guard = false",
    "before": "watcher, before",
    "netavark": "netavark",
    "cni": "CNI portmap",
}
_COLUMNS: Final = {
    "tcp": "Transactions by TCP",
    "udp": "Transactions by UDP",
    "connect": "Connections by TCP",
    "1": "One stream by TCP",
    "4": "Four streams by TCP",
}
_STREAMS: Final = ("1", "4")
_LENGTH, _STREAM = 10, 30
"""Milliseconds of a burst, and of one of streams, which take a while to find their pace."""

_SELDOM: Final = 3
"""Streams are measured in one of so many rounds."""

_SHORT: Final = {"tcp": "TCP_RR", "connect": "connections"}
"""What a bar calls a column; TCP_RR is netperf's name of transactions."""

_ROWS: Final = {
    "neighbour 0": "container to container, bridge-nf 0",
    "neighbour 1": "container to container, bridge-nf 1",
    "neighbour 6 0": "the same by IPv6, bridge-nf 0",
    "neighbour 6 1": "the same by IPv6, bridge-nf 1",
    "host 0": "container to host",
    "beyond 0": "container to the machine beyond",
    "port 0": "the machine beyond to a published port",
}
"""A path of :meth:`bench.contenders.packets.Packets.burst` and bridge-nf, and what it is called."""

_HARDLY_LESS = 0.995
"""Two figures that are equal by all that can be measured."""


def measure(setting: Setting) -> Figures:
    """All figures of a round, one after the other; for each, all contenders in turn."""
    rows = [row for row in _ROWS if _has_bridge_nf(setting) or not row.endswith("1")]
    rounds = setting.many(80, 3)
    cells = [
        (number, row, column)
        for number in range(1 + rounds)
        for row in rows
        for column in _COLUMNS
        if column not in _STREAMS or number % _SELDOM == 0
    ]
    samples = Samples()
    kinds = _kinds(setting)
    with hosts(setting.base, kinds) as contenders:
        for at, name, host in turns(contenders, len(cells)):
            number, row, column = cells[at]
            path, _, bridge_nf = row.rpartition(" ")
            length = _STREAM if column in _STREAMS else _LENGTH
            rate = host.call("burst", path, column, int(bridge_nf), length)
            if number:  # not in the first, when neighbours and flows are not known yet
                samples.add(f"{row} {column} {name}", rate)
            if number % 50 == 0 and (row, column, name) == (rows[0], "tcp", _BASE):
                setting.say(f"round {number} of {rounds}")
    figures: Figures = {"rows": rows, "contenders": list(kinds), "rounds": rounds}
    for row in rows:
        for column in _COLUMNS:
            figures[f"{row} {column}"] = _cell(samples, f"{row} {column}", list(kinds))
    return figures


def tables(figures: Figures) -> list[Table]:
    """One a column, with a row a path."""
    contenders: list[str] = figures["contenders"]
    header = ("", "no rules, per second", *(_NAMES[name] for name in contenders if name != _BASE))
    note = "" if "neighbour 1" in figures["rows"] else "This kernel has no `br_netfilter`."
    return [
        Table(
            f"{title}, ratio to no rules", header,
            tuple(_row(figures, row, column) for row in figures["rows"]),
            note,
        )
        for column, title in _COLUMNS.items()
    ]  # fmt: skip


def charts(figures: Figures) -> list[Picture]:
    """The ratios of transactions, and of connections."""
    return [
        Dots(
            f"performance-packets-{column}", f"{_COLUMNS[column]}, ratio to no rules",
            {_ROWS[row]: dict(_ratios(figures, row, column)) for row in figures["rows"]},
        )
        for column in ("tcp", "connect")
    ]  # fmt: skip


def bars(figures: Figures) -> list[Bar]:
    """Against no rules, and against the peers."""
    found = [_at_least(figures, "neighbour 0", "tcp", 0.98)]
    if "neighbour 1" in figures["rows"]:
        found += [_not_below(figures, "neighbour 1", "tcp", peer) for peer in _PEERS]
    for column, least in (("tcp", 0.90), ("connect", 0.86)):
        found += [
            _at_least(figures, "port 0", column, least),
            _not_below(figures, "port 0", column, "netavark"),
        ]
    return found


def _kinds(setting: Setting) -> dict[str, tuple[str, dict[str, Any]]]:
    found: dict[str, tuple[str, dict[str, Any]]] = {
        _BASE: ("packets-none", {}),
        _MINE: ("packets-watcher", {}),
        "open": ("packets-watcher", {"guard": False}),
    }
    if setting.before is not None:
        found["before"] = ("packets-watcher", {"tree": str(setting.before)})
    return found | {peer: (f"packets-{peer}", {}) for peer in _PEERS}


def _has_bridge_nf(setting: Setting) -> bool:
    settings = Path("/proc/sys/net/bridge")
    if not settings.is_dir():
        subprocess.run(["modprobe", "br_netfilter"], check=False)
    if not settings.is_dir():
        setting.say("this kernel has no br_netfilter: the rows with bridge-nf 1 are left out")
    return settings.is_dir()


def _cell(samples: Samples, key: str, contenders: list[str]) -> Figures:
    """The base's rates; each contender's ratio to the base; and this program's to each peer."""
    rates = {name: samples.values(f"{key} {name}") for name in contenders}
    return {
        "rate": spread(rates[_BASE]),
        "ratio": {
            name: spread(ratios(rates[name], rates[_BASE])) for name in contenders if name != _BASE
        },
        "to": {peer: spread(ratios(rates[_MINE], rates[peer])) for peer in _PEERS},
    }


def _ratios(figures: Figures, row: str, column: str) -> Iterator[tuple[str, Spread]]:
    for name, of in figures[f"{row} {column}"]["ratio"].items():
        yield _NAMES[name], of


def _row(figures: Figures, row: str, column: str) -> tuple[str, ...]:
    rate = figures[f"{row} {column}"]["rate"]["median"]
    shown = whole(rate) if column not in _STREAMS else f"{rate * 8e-9:.1f} Gbit"
    return (_ROWS[row], shown, *(_shown(of) for _, of in _ratios(figures, row, column)))


def _shown(of: Spread) -> str:
    return f"{of['median']:.2f} ({of['p10']:.2f} to {of['p90']:.2f})"


def _at_least(figures: Figures, row: str, column: str, least: float) -> Bar:
    of = figures[f"{row} {column}"]["ratio"][_MINE]
    return Bar(
        f"{_ROWS[row]}: {_SHORT[column]} against no rules", f"at least {least:.2f}",
        _shown(of), round(of["median"], 2) >= least,
    )  # fmt: skip


def _not_below(figures: Figures, row: str, column: str, peer: str) -> Bar:
    of = figures[f"{row} {column}"]["to"][peer]
    return Bar(
        f"{_ROWS[row]}: {_SHORT[column]} against {_NAMES[peer]}", "not below",
        _shown(of), of["median"] >= _HARDLY_LESS,
    )  # fmt: skip
