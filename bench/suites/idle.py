"""What the service costs while nothing happens."""

from __future__ import annotations

import time

from bench.bars import Bar
from bench.charts import Picture
from bench.host import Host
from bench.suites import Figures, Setting
from bench.tables import Table, mebibytes, seconds, whole

TITLE = "Idle"

ABOUT = """\
The service has many sandboxes and nothing to do. The figures are the processor time that it uses,
how often its threads wake up (a wake-up ends in a voluntary context switch), and its memory. It
runs as from a terminal, so it does not have to answer systemd's watchdog."""

_SETTLES = 60.0
"""Seconds after which it has done what it does when nothing happens for a while, and the kernel has
told its last of each new bridge port, half a minute after it was made."""

_MEMORY = 60 * (1 << 20)


def measure(setting: Setting) -> Figures:
    """One host, for a minute."""
    size, settles, length = setting.many((1000, _SETTLES, 60.0), (5, 3.0, 3.0))
    with Host("watcher", setting.base) as host:
        host.call("prepare_many", size)
        host.call("run", "sync")
        host.call("start")
        time.sleep(settles)
        before = host.call("usage")
        setting.say(f"{length:.0f} seconds of nothing")
        time.sleep(length)
        after = host.call("usage")
        host.call("stop")
    return {
        "sandboxes": size,
        "length": length,
        "processor": after["runtime"] - before["runtime"],
        "switches": after["switches"] - before["switches"],
        "resident": after["resident"],
    }


def tables(figures: Figures) -> list[Table]:
    """One."""
    return [
        Table(
            f"The service, idle with {whole(figures['sandboxes'])} sandboxes for"
            f" {figures['length']:.0f} s",
            ("", "found"),
            (
                ("processor time", seconds(figures["processor"])),
                ("wake-ups", whole(figures["switches"])),
                ("resident memory", mebibytes(figures["resident"])),
            ),
        )
    ]


def charts(figures: Figures) -> list[Picture]:
    """None."""
    del figures
    return []


def bars(figures: Figures) -> list[Bar]:
    """Wake-ups and memory."""
    found = f"{whole(figures['switches'])} wake-ups, {mebibytes(figures['resident'])}"
    return [
        Bar(
            f"idle with {figures['sandboxes']:,} sandboxes", "no wake-ups, under 60 MiB",
            found, not figures["switches"] and figures["resident"] < _MEMORY,
        )
    ]  # fmt: skip
