"""A hold: one runtime that waits at the gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.containers.runtimes import Runtime
    from watcher.model.container import Process

LAST_WORDS: Final = 0.5
"""Seconds between the end of a hold and its answer, in which runc's user can be told why.

A busy host may take most of them to let a thread run; :meth:`.thread.Gate.finish` ends them.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """A runc that waits at the gate; its container has not run its first instruction.

    Attributes:
        root: the container's root, as given to :meth:`.thread.Gate.mark`.
        id: the container's name in it.
        runtime: the runtime that waits; where it is not runc, read "runc" as its name.
        runc_pid: the waiting thread of runc. `/proc/<runc_pid>` describes this thread, and not
            always runc's first one: runc 1.2 and later have a thread in the container's mount
            namespace (`process_linux.go`, `goCreateMountSources`), and that may be the first.
        init: the container's first process, already in its network namespace.
        began: when it began to wait, on the clock of `time.monotonic`.
        deadline: when nobody but the gate itself can answer any more, on that clock.
        respond: called by :meth:`answer` with the hold itself.
    """

    root: str
    id: str
    runtime: Runtime
    runc_pid: int
    init: Process
    began: float
    deadline: float
    respond: Callable[[Hold, bool], bool] = field(repr=False)

    def answer(self, allow: bool) -> bool:
        """Let the container start, or make runc fail and remove it. From any thread.

        Returns:
            Whether this call gave the answer: false if the deadline, the end of the gate or an
            earlier call answered before.
        """
        return self.respond(self, allow)
