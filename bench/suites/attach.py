"""Attach and detach, a sandbox at a time."""

from __future__ import annotations

from bench.bars import Bar
from bench.charts import Picture
from bench.stats import Samples, Summary
from bench.suites import Figures, Setting
from bench.tables import Table, seconds, times
from bench.turns import hosts, turns

TITLE = "Attach and detach"

ABOUT = """\
One sandbox with one published port is attached and detached again, while another one stays. The
floor is a C program (`bench/floor.c`) that sends the same netlink messages, nftables commands and
mounts as this program and does nothing else. This program is timed twice: inside its own process,
and from the moment that runc saves `state.json` until the gate answers. netavark and CNI are timed
from the start of the first process to the end of the last, as podman and containerd start them.

The kernel needs some twenty milliseconds to delete a link, and waits for nearly all of that time.
This program first cuts the link off, and a thread deletes it later. So detach has two figures:
until nothing reaches the sandbox any more and its port and lease are free, and until the link is
gone. The peers wait for the kernel, so both figures are the same for them."""

_NAMES = {
    "floor": "floor",
    "watcher": "watcher, reconcile",
    "gate": "watcher, save to answer",
    "netavark": "netavark, nftables",
    "cni": "CNI bridge + host-local + portmap",
}


def measure(setting: Setting) -> Figures:
    """Attach, detach, in turn.

    The namespaces stay until the end: the kernel takes a while to dispose of one, holding locks
    that whoever is next would wait for.
    """
    samples = Samples()
    with hosts(setting.base, {kind: (kind, {}) for kind in _NAMES}) as contenders:
        for host in contenders.values():  # bridges and tables are there from then on
            for number in (0, 1):
                host.call("prepare", number)
                host.call("attach", number)
        for number, kind, host in turns(contenders, setting.many(150, 3)):
            host.call("prepare", 2 + number)
            for verb in ("attach", "detach"):
                for step, value in host.call(verb, 2 + number).items():
                    samples.add(f"{kind} {verb} {step}", value)
    return dict(samples.summaries())


def tables(figures: Figures) -> list[Table]:
    """Attach, detach until cut off, detach until gone; and the floor's steps."""
    attach = Table(
        "Attach, one published port",
        ("", "median", "p95", "p99", "to the floor"),
        tuple(_row(name, figures, f"{kind} attach all") for kind, name in _NAMES.items()),
    )
    cut_off = Table(
        "Detach, until nothing reaches the sandbox and its port and lease are free",
        ("", "median", "p95", "p99", "to the floor"),
        tuple(
            _row(name, figures, f"{kind} detach all")
            for kind, name in _NAMES.items()
            if kind != "gate"
        ),
    )
    dellink = figures["floor detach dellink"]["median"]
    gone = Table(
        "Detach, until the link is gone",
        ("", "median", "p95", "p99", "to the floor"),
        tuple(
            _row(name, figures, f"{kind} detach gone")
            for kind, name in _NAMES.items()
            if kind != "gate"
        ),
        f"Of the floor's, the kernel's own RTM_DELLINK takes {seconds(dellink)}.",
    )
    steps = Table(
        "What the kernel charges: the floor's steps",
        ("", "median", "p95", "p99"),
        tuple(
            (f"{verb}: {name}", *_percentiles(figures[f"floor {verb} {step}"]))
            for verb, step, name in (
                ("attach", "pin", "the name below `/run/netns`"),
                ("attach", "link", "veth pair, on the bridge, up"),
                ("attach", "guard", "the guard on the link"),
                ("attach", "inside", "address and routes inside"),
                ("attach", "nft", "nftables element"),
                ("detach", "nft", "nftables element"),
                ("detach", "link", "link down and off the bridge"),
                ("detach", "pin", "the name below `/run/netns`"),
                ("detach", "dellink", "RTM_DELLINK, behind that"),
            )
            if f"floor {verb} {step}" in figures
        ),
    )
    return [attach, cut_off, gone, steps]


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Against the floor, and against the peers."""
    median = {name: figures[name]["median"] for name in figures}
    attach = median["watcher attach all"]
    to_floor = attach / median["floor attach all"]
    spread = figures["watcher attach all"]["p99"] / attach
    found = [
        Bar(
            "attach against the floor", "at most 1.7x",
            f"{times(to_floor)} ({seconds(attach)})", to_floor <= 1.7,
        )
    ]  # fmt: skip
    for verb, steps in (("attach", ("all",)), ("detach", ("all", "gone"))):
        for step in steps:
            what = {"gone": ", until the link is gone"}.get(step, "")
            for peer, least in (("netavark", 10), ("cni", 25 if verb == "attach" else 50)):
                mine, theirs = median[f"watcher {verb} {step}"], median[f"{peer} {verb} {step}"]
                found.append(
                    Bar(
                        f"{verb} against {'CNI' if peer == 'cni' else peer}{what}",
                        f"at least {least}x faster",
                        f"{times(theirs / mine)} ({seconds(mine)}, {seconds(theirs)})",
                        theirs >= least * mine,
                    )
                )
    found.append(Bar("attach, p99 against median", "at most 3x", times(spread), spread <= 3))
    return found


def _row(name: str, figures: Figures, key: str) -> tuple[str, ...]:
    floor = figures["floor" + key[key.index(" ") :]]["median"]
    return (name, *_percentiles(figures[key]), times(figures[key]["median"] / floor))


def _percentiles(of: Summary) -> tuple[str, ...]:
    return seconds(of["median"]), seconds(of["p95"]), seconds(of["p99"])
