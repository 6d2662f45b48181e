"""Imported by the interpreter of a measured service (site, `sitecustomize`): times its event loop.

The longest step between two waits of the loop is in the file that `BENCH_LONGEST_STEP` names: two
doubles, its seconds and the seconds of all steps, both of which whoever reads them sets to zero.
"""

import mmap
import os
import selectors
import struct
import time

_PLACE = "BENCH_LONGEST_STEP"


def _probe(path):  # type: ignore[no-untyped-def]
    with open(path, "r+b") as file:  # noqa: PTH123 (every interpreter imports this)
        place = mmap.mmap(file.fileno(), 16)
    wait = selectors.EpollSelector.select
    clock, unpack, pack = time.perf_counter, struct.unpack_from, struct.pack_into
    woken = clock()

    def select(self, timeout=None):  # type: ignore[no-untyped-def]
        nonlocal woken
        step = clock() - woken
        longest, sum_ = unpack("dd", place)
        pack("dd", place, 0, max(longest, step), sum_ + step)
        found = wait(self, timeout)
        woken = clock()
        return found

    selectors.EpollSelector.select = select


if _PLACE in os.environ:
    _probe(os.environ.pop(_PLACE))
