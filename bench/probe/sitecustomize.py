"""Imported by the interpreter of a measured service (site, `sitecustomize`): times its event loop.

What happens between two waits of the loop is a step. The file that `BENCH_LONGEST_STEP` names has
three doubles: the seconds of the longest step, those of the longest by processor time, and the
processor time of all. Whoever reads them sets them to zero.
"""

import mmap
import os
import selectors
import struct
import time

_PLACE = "BENCH_LONGEST_STEP"


def _probe(path):  # type: ignore[no-untyped-def]
    with open(path, "r+b") as file:  # noqa: PTH123 (every interpreter imports this)
        place = mmap.mmap(file.fileno(), 24)
    wait = selectors.EpollSelector.select
    clock, used, unpack, pack = time.perf_counter, time.thread_time, struct.unpack, struct.pack_into
    woken, woken_used = clock(), used()

    def select(self, timeout=None):  # type: ignore[no-untyped-def]
        nonlocal woken, woken_used
        step, work = clock() - woken, used() - woken_used
        longest, most, all_work = unpack("ddd", place[:])
        pack("ddd", place, 0, max(longest, step), max(most, work), all_work + work)
        found = wait(self, timeout)
        woken, woken_used = clock(), used()
        return found

    selectors.EpollSelector.select = select


if _PLACE in os.environ:
    _probe(os.environ.pop(_PLACE))
