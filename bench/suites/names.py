"""Names of containers, beside aardvark-dns and dnsmasq."""

from __future__ import annotations

import time
from typing import Any, Final

from bench.bars import Bar
from bench.charts import Picture
from bench.stats import Samples, ratios, spread
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, times, whole
from bench.turns import hosts, turns

TITLE = "Names"

ABOUT = """\
In 64 sandboxes of one bridge a client asks for the names of containers: it waits for the answer,
and then asks for the next. All clients are one process on the last processor
(`bench/questions.c`), which checks each answer and needs less time than who answers; the name
service may have all processors. "One socket" asks for A from a socket that stays; "a port each"
from another port each time, as libc does, so that the kernel tracks another connection; "A and
AAAA" for both at once, as `getaddrinfo` does, and counts both as one. "One client alone" waits
for 250 µs before the next question. The same names have been told to everybody: this program has
read them from annotations, aardvark-dns from the files that netavark writes, and dnsmasq from a
file of hosts. Bridge and rules are this program's on all hosts. The peers listen on port 53 of
the gateway, to which a rule of nftables brings the questions of this program's sandboxes; "no
rule" asks its name service at its own port. Work is the processor time of the name service for
one answer, with what the kernel does for it.

Then containers come and go while all ask. This program is told by events, which the benchmark
plays, since real containers would take the processors from everybody; the peers by their file
and a SIGHUP, as netavark does it. A pause is the longest time in which nobody got an answer.
Last, a whole `runc run` with names, so with an `/etc/resolv.conf`, against one without."""

_KINDS: Final[dict[str, tuple[str, str, int]]] = {
    "watcher": ("watcher", "watcher", 53),
    "direct": ("watcher, no rule", "watcher", 29053),
    "aardvark": ("aardvark-dns", "aardvark", 53),
    "dnsmasq": ("dnsmasq", "dnsmasq", 53),
}
"""The name in tables, the host, and the port that is asked at."""

_SERVERS: Final = ("watcher", "aardvark", "dnsmasq")
_CALM: Final = "calm"
_VERBS: Final = {
    "ask": "one socket",
    "fresh": "a port each",
    "pair": "A and AAAA",
    _CALM: "one client alone",
}
_COMERS: Final = {"watcher": 5000, "aardvark": 5000, "dnsmasq": 100}
"""Containers that come and go in a round. dnsmasq reads all its file for each, one by one."""
_UNMEASURED: Final = 1
_MOST_STEP: Final = 5e-3
_MOST_RUN: Final = 1.03


def measure(setting: Setting) -> Figures:
    """All hosts at once, in turns for each kind of question; then churn, and `runc run`."""
    sizes: list[int] = setting.many([10, 5000], [10, 100])
    rounds = {"ask": setting.many(15, 1), "churn": setting.many(5, 1), "run": setting.many(200, 3)}
    samples = Samples()
    with hosts(setting.base, _on_hosts(sizes)) as contenders:
        versions = {kind: contenders[f"{kind} {sizes[0]}"].call("version") for kind in _SERVERS}
        for size in sizes:
            setting.say(f"asking for {size} names")
            _ask(setting, contenders, size, samples, rounds["ask"])
    setting.say("churn")
    comers = {kind: setting.many(of, 20) for kind, of in _COMERS.items()}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        kind: (f"names-{kind}", {"names": sizes[-1]}) for kind in _SERVERS
    }
    kinds["watcher"][1]["timed"] = True
    with hosts(setting.base, kinds) as contenders:
        for _, kind, host in turns(contenders, rounds["churn"]):
            for key, value in host.call("churn", comers[kind], setting.many(500, 100)).items():
                samples.add(f"{kind} churn {key}", value)
    setting.say("a process that does nothing")
    for _ in range(rounds["churn"]):
        samples.add("stall", _longest_stall(setting.many(10, 1)))
    setting.say("runc run")
    _run(setting, samples, rounds["run"])
    figures: Figures = {"sizes": sizes, "rounds": rounds, "versions": versions, "comers": comers}
    figures |= samples.summaries()
    for size in sizes:
        for verb in _VERBS:
            for key in ("rate", "median", "work"):
                base = samples.values(f"aardvark {size} {verb} {key}")
                for kind in _KINDS:
                    name = f"{kind} {size} {verb} {key}"
                    figures[f"{name} ratio"] = spread(ratios(samples.values(name), base))
    figures["had"] = {key: int(sum(samples.values(f"had {key}"))) for key in ("none", "names")}
    figures["run ratio"] = spread(ratios(samples.values("run names"), samples.values("run none")))
    return figures


def tables(figures: Figures) -> list[Table]:
    """Each kind of question, the churn, and `runc run`."""
    found = [
        Table(
            f"{what[0].upper()}{what[1:]}, {whole(size)} names, {figures['rounds']['ask']} rounds",
            ("", "a second", "to aardvark-dns", "median", "p99", "longest", "work", "lost"),
            tuple(_row(figures, kind, f"{kind} {size} {verb}") for kind in _KINDS),
        )
        for size in figures["sizes"]
        for verb, what in _VERBS.items()
    ]
    found.append(
        Table(
            f"While containers come and go, {figures['rounds']['churn']} times",
            (
                "",
                "containers",
                "a second",
                "median",
                "p99",
                "longest",
                "pause, median",
                "pause, most",
                "lost",
            ),
            tuple(_churn_row(figures, kind) for kind in _SERVERS),
            note=_note(figures),
        )
    )
    rows = []
    for key, name in (("none", "no names"), ("names", "names")):
        of = figures[f"run {key}"]
        cells = (seconds(of[percentile]) for percentile in ("median", "p95", "p99"))
        rows.append((name, *cells, f"{figures['had'][key]} of {of['count']}"))
    title = "`runc run` of `true`"
    found.append(Table(title, ("", "median", "p95", "p99", "all there first"), tuple(rows)))
    return found


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """The rate and the latency against aardvark-dns, the pause, `runc run`."""
    found = []
    for size in figures["sizes"]:
        for verb, what in _VERBS.items():
            name = f"watcher {size} {verb}"
            rate, median, work = (
                figures[f"{name} {key} ratio"] for key in ("rate", "median", "work")
            )
            asked = f"{whole(size)} names, {what}"
            if verb != _CALM:  # that rate is the client's
                found.append(
                    Bar(
                        f"{asked}: answers a second to aardvark-dns", "at least 1.00x",
                        _spread(rate), rate["median"] >= 1,
                    )
                )  # fmt: skip
            found += [
                Bar(
                    f"{asked}: processor time for one to aardvark-dns", "at most 1.00x",
                    _spread(work), work["median"] <= 1,
                ),
                Bar(
                    f"{asked}: median to aardvark-dns", "at most 1.00x",
                    _spread(median), median["median"] <= 1,
                ),
            ]  # fmt: skip
    step, comers = figures["watcher churn step work"]["median"], whole(figures["comers"]["watcher"])
    found.append(
        Bar(
            f"the name service's longest step while {comers} containers come and go,"
            " processor time in the median round", "at most 5 ms",
            seconds(step), step <= _MOST_STEP,
        )
    )  # fmt: skip
    ratio = figures["run ratio"]
    found.append(
        Bar(
            "`runc run` with names against none", "at most 1.03x",
            _spread(ratio), ratio["median"] <= _MOST_RUN,
        )
    )  # fmt: skip
    return found


def _on_hosts(sizes: list[int]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        f"{kind} {size}": (f"names-{kind}", {"names": size}) for size in sizes for kind in _SERVERS
    }


def _ask(
    setting: Setting, contenders: dict[str, Any], size: int, samples: Samples, rounds: int
) -> None:
    asked = {kind: contenders[f"{of} {size}"] for kind, (_, of, _) in _KINDS.items()}
    milliseconds = setting.many(300, 50)
    for verb in _VERBS:
        for number, kind, host in turns(asked, _UNMEASURED + rounds):
            found = host.call("ask", verb, _KINDS[kind][2], milliseconds)
            if number >= _UNMEASURED:
                for key, value in found.items():
                    samples.add(f"{kind} {size} {verb} {key}", value)


def _run(setting: Setting, samples: Samples, rounds: int) -> None:
    kinds = {key: ("runc-names", {"names": key == "names"}) for key in ("none", "names")}
    with hosts(setting.base, kinds) as contenders:
        for number, name, host in turns(contenders, _UNMEASURED + rounds):
            found = host.call("run", number)
            if number >= _UNMEASURED:
                samples.add(f"run {name}", found["all"])
                samples.add(f"had {name}", found["had"])


def _row(figures: Figures, kind: str, name: str) -> tuple[str, ...]:
    def median(key: str) -> float:
        return float(figures[f"{name} {key}"]["median"])

    return (
        _KINDS[kind][0],
        whole(median("rate")),
        _spread(figures[f"{name} rate ratio"]),
        *(seconds(median(key)) for key in ("median", "p99", "most", "work")),
        _lost(figures, name),
    )


def _churn_row(figures: Figures, kind: str) -> tuple[str, ...]:
    name = f"{kind} churn"
    of = {key: figures[f"{name} {key}"] for key in ("rate", "median", "p99", "most", "pause")}
    return (
        _KINDS[kind][0],
        whole(figures["comers"][kind]),
        whole(of["rate"]["median"]),
        *(seconds(of[key]["median"]) for key in ("median", "p99", "most", "pause")),
        seconds(of["pause"]["most"]),
        _lost(figures, name),
    )


def _longest_stall(duration: float) -> float:
    """The longest time for which the kernel says that this thread ran, while it did nothing.

    A machine whose processors another one has for a moment counts that to who runs.
    """
    used = time.thread_time
    end, longest, before = time.perf_counter() + duration, 0.0, used()
    while time.perf_counter() < end:
        now = used()
        longest, before = max(longest, now - before), now
    return longest


def _lost(figures: Figures, name: str) -> str:
    """The most of a round."""
    return whole(figures[f"{name} lost"]["most"])


def _note(figures: Figures) -> str:
    said = ", ".join(f"{_KINDS[kind][0]} {of}" for kind, of in figures["versions"].items())
    step, work = figures["watcher churn step"], figures["watcher churn step work"]
    return (
        f"The longest step of this program's loop took {seconds(step['median'])} in the median"
        f" round and {seconds(step['most'])} in the worst; by processor time,"
        f" {seconds(work['median'])} and {seconds(work['most'])}. The machine itself stalls: a"
        " process that only looks at its own processor time sees that jump within ten seconds by"
        f" {seconds(figures['stall']['median'])} in the median round and by"
        f" {seconds(figures['stall']['most'])} in the worst."
        f" The versions, as each calls its own: {said}."
    )


def _spread(of: dict[str, float]) -> str:
    return f"{times(of['median'])} ({of['p10']:.2f} to {of['p90']:.2f})"
