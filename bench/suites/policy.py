"""What lists of destinations cost."""

from __future__ import annotations

from typing import Any, Final

from bench.bars import Bar
from bench.charts import Picture
from bench.stats import Samples, Spread, ratios, spread
from bench.suites import Figures, Setting
from bench.tables import Table, seconds
from bench.turns import hosts, turns

TITLE = "Lists of destinations"

ABOUT = """\
Sandboxes on a bridge that are held to lists by `io.watcher.egress`, of 20 entries each: prefixes,
most with a port. One real sandbox of each host sends; of the others there is what the firewall has
of them. Packets are measured as under "Packets", here with the host without any list as the base.
An established connection pays for one look at its state. A new one is looked up twice: the number
of the sandbox's list, and then the destination among all lists. An attach is that of one more.
Other load on the machine, and the hosts that had their turn before, add to its processor time. So
what a list adds is given at the 10th percentile as well, by which the bar is judged. What the
service reads ahead of the firewall, a moment after an attach, is not in it."""

_SIZES: Final[dict[str, dict[str, int]]] = {
    "10 sandboxes, one list": {"sandboxes": 10, "lists": 1},
    "1,000 sandboxes, one list": {"sandboxes": 1000, "lists": 1},
    "5,000 sandboxes, one list": {"sandboxes": 5000, "lists": 1},
    "1,000 sandboxes, 1,000 lists": {"sandboxes": 1000, "lists": 1000},
    "5,000 sandboxes, 5,000 lists": {"sandboxes": 5000, "lists": 5000},
}
_BASE: Final = "no list on the host"
_BESIDE: Final = "a container without a list, beside one with a list"
_COLUMNS: Final = {"tcp": "TCP_RR", "udp": "UDP_RR", "connect": "connections"}
_PATH: Final = "beyond"
_LENGTH: Final = 10
"""Milliseconds of a burst."""

_UNMEASURED: Final = 5
_BAR: Final = "processor time of an attach with a list that is there, against one without"
_VERBS: Final = ("attach", "detach", "processor")
_NO_LIST, _LIST, _DUAL = "no list", "a list that is there", "IPv4 and IPv6"
_BEFORE: Final = "no list, before"
_SUBNETS: Final = ["172.19.0.0/16", "fd00:19::/64"]


def measure(setting: Setting) -> Figures:
    """Packets, and then attaches; all hosts in turn."""
    samples = Samples()
    sizes = dict(list(_SIZES.items())[: setting.many(len(_SIZES), 1)])
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        _BASE: ("policy-packets", {}),
        _BESIDE: ("policy-packets", {"held": 0}),
        **{name: ("policy-packets", {"held": 1} | size) for name, size in sizes.items()},
    }
    rounds = setting.many(80, 2)
    setting.say("packets")
    with hosts(setting.base, kinds) as contenders:
        for number, name, host in turns(contenders, rounds):
            for column in _COLUMNS:
                rate = host.call("burst", _PATH, column, 0, _LENGTH)
                if number:
                    samples.add(f"{column} {name}", rate)
    figures: Figures = {"rows": list(kinds)}
    for column in _COLUMNS:
        base = samples.values(f"{column} {_BASE}")
        for name in kinds:
            found = ratios(samples.values(f"{column} {name}"), base)
            figures[f"{column} {name}"] = spread(found)
    setting.say("attaches")
    return figures | _attaches(setting, sizes)


def _attaches(setting: Setting, sizes: dict[str, dict[str, int]]) -> Figures:
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        _NO_LIST: ("watcher", {}),
        f"{_NO_LIST}; {_DUAL}": ("watcher", {"subnets": _SUBNETS}),
        f"{_LIST}; {_DUAL}": ("policy-attach", {"lists": "one", "subnets": _SUBNETS}),
    }
    if setting.before is not None:
        kinds[_BEFORE] = ("watcher", {"tree": str(setting.before)})
    for name, size in sizes.items():
        beside = {"sandboxes": size["sandboxes"], "others": size["lists"]}
        kinds[f"{_LIST}; {name}"] = ("policy-attach", {"lists": "one"} | beside)
        kinds[f"a new list; {name}"] = ("policy-attach", {"lists": "new"} | beside)
    samples = Samples()
    with hosts(setting.base, kinds) as contenders:
        for name, host in contenders.items():
            if kinds[name][0] == "watcher":  # the others have one already
                host.call("prepare", 0)
                host.call("attach", 0)
        for number, name, host in turns(contenders, _UNMEASURED + setting.many(100, 2)):
            host.call("prepare", 1 + number)
            for verb in ("attach", "detach"):
                took = host.call(verb, 1 + number)
                if number >= _UNMEASURED:
                    samples.add(f"{verb} {name}", took["all"])
                    if verb == "attach" and "processor" in took:
                        samples.add(f"processor {name}", took["processor"])
    more = {name: _more(samples, name) for name in kinds if name.startswith(_LIST)}
    return {"attaches": list(kinds), "more": more, **samples.summaries()}


def _more(samples: Samples, name: str) -> dict[str, float]:
    """By percentile, what attaches of `name` take more of a processor than those without a list."""
    base = f"{_NO_LIST}; {_DUAL}" if name.endswith(_DUAL) else _NO_LIST
    with_list, without = (spread(samples.values(f"processor {one}")) for one in (name, base))
    return {
        "p10": with_list["p10"] - without["p10"],
        "median": with_list["median"] - without["median"],
    }


def tables(figures: Figures) -> list[Table]:
    """Packets; attaches."""

    def cell(found: Spread) -> str:
        return f"{found['median']:.2f} ({found['p10']:.2f} to {found['p90']:.2f})"

    rows = tuple(
        (name, *(cell(figures[f"{column} {name}"]) for column in _COLUMNS))
        for name in figures["rows"]
        if name != _BASE
    )
    attaches = tuple(
        (name, *(_median(figures, f"{verb} {name}") for verb in _VERBS), _added(figures, name))
        for name in figures["attaches"]
    )
    return [
        Table(
            "From a container to the machine beyond, ratio to no list",
            ("", *_COLUMNS.values()),
            rows,
        ),
        Table(
            "Attach and detach, median",
            (
                "",
                "attach",
                "detach",
                "processor time of the attach",
                "more than without a list: p10, median",
            ),
            attaches,
        ),
    ]


def charts(figures: Figures) -> list[Picture]:  # noqa: ARG001
    """None."""
    return []


def bars(figures: Figures) -> list[Bar]:
    """An attach with a list that is there against one without."""
    more = {name: found["p10"] for name, found in figures["more"].items()}
    return [
        Bar(f"{_BAR}; {name.partition('; ')[2]}", "at most +0.2 ms", seconds(value), value <= 2e-4)
        for name, value in more.items()
    ]


def _median(figures: Figures, key: str) -> str:
    return seconds(figures[key]["median"]) if key in figures else ""


def _added(figures: Figures, name: str) -> str:
    found = figures["more"].get(name)
    return "" if found is None else f"{seconds(found['p10'])}, {seconds(found['median'])}"
