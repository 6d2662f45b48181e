"""The stop of a held init, and its move."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from watcher.model.container import Process
    from watcher.model.request import Sysctl


def why_never() -> str:
    """Why this process can move no init on this host; empty if it can.

    It is cheap: a few system calls, nothing is traced.
    """
    raise NotImplementedError


@contextmanager
def stopped(init: Process, runtime: int, netns: int) -> Iterator[StoppedInit]:
    """Stop all threads of `init`, which go on at the end of the `with`, with their own registers.

    If they cannot be put back as they were, the init is killed. It is also killed if this thread or
    its process ends before.

    Args:
        init: the held init.
        runtime: the waiting process or thread of the runtime that has made it.
        netns: inode number of the network namespace that the hold saw; each thread has to be in it.

    Raises:
        CannotMove: it is not the child of `runtime`, not in `netns`, or in a user namespace of
            its own; another program traces it; or it has ended.
        HalfMoved: at the end of the `with`: it was killed, or has ended.
    """
    if init or runtime or netns:
        raise NotImplementedError
    yield StoppedInit()


class StoppedInit:
    """An init whose threads are all stopped. Only the thread that has stopped it may use it."""

    def move(self, netns: int, sysctls: Sequence[Sysctl] = ()) -> None:
        """Move all threads into another network namespace; once only.

        What the container has mounted shows the other namespace then, too.

        Args:
            netns: a descriptor of that namespace.
            sysctls: settings (paths below `/proc/sys/net`) that the runtime has written into the
                namespace that is given up. Those that differ are written into the other one.

        Raises:
            CannotMove: nothing has changed, and no thread was moved.
            HalfMoved: the init was killed, or has ended.
        """
        raise NotImplementedError(netns, sysctls)
