"""How full the kernel's tables of neighbours are, which all network namespaces share.

A full table is the end of every new neighbour, on all links of the host. Sources: arp(7), and
`neigh_alloc` and `neigh_stat_seq_show` in `net/core/neighbour.c`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from handlers.kernel import sysctl

_STATISTICS: Final = {4: "arp_cache", 6: "ndisc_cache"}


def used(version: int) -> tuple[int, int] | None:
    """The entries of the table of IP `version`, and the most that it may have.

    Permanent entries do not count against that, but are among the first. Only the first network
    namespace shows them; `None` in another one.
    """
    try:
        text = Path("/proc/self/net/stat", _STATISTICS[version]).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    most = sysctl.get(f"ipv{version}/neigh/default/gc_thresh3")
    lines = text.splitlines()
    if most is None or len(lines) < 2:
        return None
    return int(lines[1].split()[0], 16), int(most)
