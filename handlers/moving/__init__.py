"""Moves a held init, which has not run its program yet, into another network namespace.

setns(2) moves the calling thread only, so each thread of the init has to call it. They do so under
ptrace(2), in which the calling thread of this process is their tracer. All of them stop before the
first is moved, and go on after the last. From the first moment on the kernel kills the init if the
tracer ends (`PTRACE_O_EXITKILL`). So the program starts wholly in the other namespace, or in its
own, or not at all.

The tracer's thread may block, and enters network namespaces for a moment.
"""

from __future__ import annotations

from handlers.moving.errors import CannotMove, HalfMoved
from handlers.moving.moving import StoppedInit, stopped, why_never

__all__ = ["CannotMove", "HalfMoved", "StoppedInit", "stopped", "why_never"]
