"""What hosts of a cluster cost: packets from one to another, and an attach."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from bench.bars import Bar
from bench.charts import Picture
from bench.pairs import Pair
from bench.probing import Prober
from bench.stats import Samples, Spread, ratios, spread
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, whole
from bench.turns import hosts, turns

TITLE = "Many hosts"

ABOUT = """\
Two hosts are on one link, with a container each, and the containers exchange packets
(`bench/packets.c`, as in *Packets*: both are on one processor, which does the work of the whole way
through both hosts; a rate is per second of the processor time that both use). Plain routes and
VXLAN lead to the other host's block. Three contenders take turns. *By hand*: pairs, addresses and
routes, and VXLAN devices with permanent neighbours and forwarding entries, are made by ip(8) and
bridge(8), and there is no rule at all. *Rules*: this program gives both containers their network
and has its rules and guards, but the network is not clustered, and what leads to the other host is
made by hand. *Watcher*: all of it is this program's. So its ratio to *rules* is what its own routes
and devices cost, and its ratio to *by hand* has what its rules cost in it: on both hosts the kernel
follows connections (conntrack) as soon as there is one rule that asks.

The first packet: on a second host a container is started by `runc run`, and both a neighbour there
and a container on the first host ask its address by ICMP every 0.2 ms until it answers. Both hosts
have all that runs: `watcher run` with its gate, `watcher cluster`, and an etcd with one member on
the first host, without TLS. An address in a block that the host has already needs no word with
etcd. One that is in nobody's block is claimed there before the container runs, and its route is
made on the first host when that hears of it.

Attach is that of one container with a published port, inside the program's own process, on a
host with a routed network and on one whose routed network is clustered, beside 100 other hosts."""

_HAND, _RULES, _MINE = "hand", "opened", "watcher"
_WAYS: Final = {
    "routes 4 4": "routes, IPv4",
    "routes 6 6": "routes, IPv6",
    "vxlan 4 4": "VXLAN over IPv4, IPv4",
    "vxlan 4 6": "VXLAN over IPv4, IPv6",
    "vxlan 6 6": "VXLAN over IPv6, IPv6",
}
"""The way, the IP of the link, and that of the containers."""

_COLUMNS: Final = {
    "tcp": "Transactions by TCP",
    "udp": "Transactions by UDP",
    "connect": "Connections by TCP",
    "1": "One stream by TCP",
    "4": "Four streams by TCP",
}
_STREAMS: Final = ("1", "4")
_LENGTH, _STREAM = 10, 30
"""Milliseconds of a burst, and of one of streams."""

_SELDOM: Final = 3
"""Streams are measured in one of so many rounds."""

_FIRST: Final = {
    "routes": "routes, in a block of its host",
    "vxlan": "VXLAN, in a block of its host",
    "routes claimed": "routes, claimed in etcd",
    "vxlan claimed": "VXLAN, claimed in etcd",
}
_EVERY: Final = 0.0002
"""Seconds between two questions of the prober."""

_PATIENCE: Final = 10.0
"""Seconds within which a container is reached."""

_OTHER_HOSTS: Final = 100
_ATTACHED: Final = {"alone": "routed", "cluster": "routed, clustered"}
_LEAST, _MOST = 0.97, 1.03
"""Within three in a hundred."""


def measure(setting: Setting) -> Figures:
    """Packets, first packets, then attaches."""
    return _packets(setting) | _first(setting) | _attaches(setting)


def _packets(setting: Setting) -> Figures:
    """All ways and columns of a round, one after the other; for each, all contenders in turn."""
    rounds = setting.many(60, 3)
    cells = [
        (number, way, column)
        for number in range(1 + rounds)
        for way in _WAYS
        for column in _COLUMNS
        if column not in _STREAMS or number % _SELDOM == 0
    ]
    samples = Samples()
    with ExitStack() as opened:
        pairs: dict[str, dict[str, Pair]] = {_HAND: {}, _RULES: {}, _MINE: {}}
        for kind, of in pairs.items():
            for way in sorted({way.rpartition(" ")[0] for way in _WAYS}):
                how, version = way.split()
                options: dict[str, Any] = {"way": how, "version": int(version)}
                of[way] = opened.enter_context(Pair(f"across-{kind}", setting.base, **options))
        for at, kind, of in turns(pairs, len(cells)):
            number, way, column = cells[at]
            link, _, version = way.rpartition(" ")
            length = _STREAM if column in _STREAMS else _LENGTH
            rate = of[link].burst(int(version), column, length)
            if number:  # not in the first, when neighbours and flows are not known yet
                samples.add(f"{way} {column} {kind}", rate)
            if number % 20 == 0 and (way, column, kind) == ("routes 4 4", "tcp", _HAND):
                setting.say(f"round {number} of {rounds}")
    figures: Figures = {"rounds": rounds}
    for way in _WAYS:
        for column in _COLUMNS:
            of_kind = {kind: samples.values(f"{way} {column} {kind}") for kind in pairs}
            figures[f"{way} {column}"] = {
                "rate": spread(of_kind[_HAND]),
                "rules": spread(ratios(of_kind[_RULES], of_kind[_HAND])),
                "hand": spread(ratios(of_kind[_MINE], of_kind[_HAND])),
                "routes": spread(ratios(of_kind[_MINE], of_kind[_RULES])),
            }
    return figures


def _first(setting: Setting) -> Figures:
    """Container after container, each way in turn."""
    setting.say("first packets")
    samples = Samples()
    rounds = setting.many(30, 2)
    with ExitStack() as opened:
        pairs = {
            way: opened.enter_context(
                Pair("across-live", setting.base, way=way.partition(" ")[0], version=4)
            )
            for way in _FIRST
        }
        for number, way, pair in turns(pairs, 1 + rounds):
            host = pair.hosts[1]
            address = host.call("address", number, way.endswith("claimed"))
            with Prober(pair.sandboxes, address) as prober:
                begin = host.call("run", number, address)
                far, near = prober.wait(_PATIENCE)
            host.call("delete", number)
            if number:
                samples.add(f"{way} near", near - begin)
                samples.add(f"{way} far", far - begin)
                samples.add(f"{way} later", far - near)
    return {f"first {key}": of for key, of in samples.summaries().items()}


def _attaches(setting: Setting) -> Figures:
    """Attach and detach, in turn; the namespaces stay until the end, as in *Attach and detach*."""
    setting.say("attaching")
    samples = Samples()
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "alone": ("watcher", {"mode": "routed", "subnets": ["172.19.0.0/16", "fd00:19::/64"]}),
        "cluster": ("watcher-in-cluster", {"hosts": _OTHER_HOSTS}),
    }
    with hosts(setting.base, kinds) as contenders:
        for host in contenders.values():
            for number in (0, 1):
                host.call("prepare", number)
                host.call("attach", number)
        for number, kind, host in turns(contenders, setting.many(200, 3)):
            host.call("prepare", 2 + number)
            for verb in ("attach", "detach"):
                samples.add(f"{kind} {verb}", host.call(verb, 2 + number)["all"])
    figures: Figures = {}
    for verb in ("attach", "detach"):
        mine, alone = (samples.values(f"{kind} {verb}") for kind in ("cluster", "alone"))
        figures[verb] = {
            "alone": spread(alone), "cluster": spread(mine), "ratio": spread(ratios(mine, alone)),
        }  # fmt: skip
    return figures


def tables(figures: Figures) -> list[Table]:
    """One a column with a row a way, and one of attach and detach."""
    header = (
        "", "by hand, per second", "rules, to by hand", "watcher, to by hand", "watcher, to rules"
    )  # fmt: skip
    found = [
        Table(title, header, tuple(_row(figures[f"{way} {column}"], way, column) for way in _WAYS))
        for column, title in _COLUMNS.items()
    ]
    rows = tuple(
        (
            verb, seconds(figures[verb]["alone"]["median"]),
            seconds(figures[verb]["cluster"]["median"]), _shown(figures[verb]["ratio"]),
        )
        for verb in ("attach", "detach")
    )  # fmt: skip
    title = f"Attach and detach, in a cluster of {_OTHER_HOSTS + 1} hosts"
    first = Table(
        "From `runc run` to the first answer",
        ("", "to a neighbour", "to the other host", "p95", "later than the neighbour, at the most"),
        tuple(_row_of_first(figures, way) for way in _FIRST),
    )
    return [*found, first, Table(title, ("", *_ATTACHED.values(), "ratio"), rows)]


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Within three in a hundred of the same without this program's part in it."""
    found = [
        Bar(
            f"{_WAYS[way]}: {_COLUMNS[column]} against the same routes by hand", "at least 0.97",
            _shown(of := figures[f"{way} {column}"]["routes"]), round(of["median"], 2) >= _LEAST,
        )
        for way in ("routes 4 4", "vxlan 4 4")
        for column in ("tcp", "udp", "1", "4")
    ]  # fmt: skip
    of = figures["attach"]["ratio"]
    kept = round(of["median"], 2) <= _MOST
    return [*found, Bar("attach in a cluster against none", "at most 1.03", _shown(of), kept)]


def _row(of: dict[str, Spread], way: str, column: str) -> tuple[str, ...]:
    rate = of["rate"]["median"]
    shown = whole(rate) if column not in _STREAMS else f"{rate * 8e-9:.1f} Gbit"
    return (_WAYS[way], shown, *(_shown(of[key]) for key in ("rules", "hand", "routes")))


def _row_of_first(figures: Figures, way: str) -> tuple[str, ...]:
    near, far, later = (figures[f"first {way} {who}"] for who in ("near", "far", "later"))
    most = max(later["most"], _EVERY)  # it cannot be told more precisely
    cells = (near["median"], far["median"], far["p95"], most)
    return (_FIRST[way], *map(seconds, cells))


def _shown(of: Spread) -> str:
    return f"{of['median']:.2f} ({of['p10']:.2f} to {of['p90']:.2f})"
