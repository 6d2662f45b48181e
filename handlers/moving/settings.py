"""Settings of a bundle, which its runtime has written into the network namespace given up."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Final

from handlers.kernel import sysctl
from handlers.kernel.namespace import HostNamespace
from handlers.moving.errors import CannotMove
from watcher.model.errors import quoted
from watcher.model.naming import sysctl_name
from watcher.model.request import Sysctl

_REMEDY: Final = "leave it out of its config.json"


@contextmanager
def written(netns: int, settings: Sequence[Sysctl]) -> Iterator[None]:
    """Write `settings` into a network namespace; those that differ are put back if the body raises.

    Args:
        netns: a descriptor of the namespace.
        settings: paths below `/proc/sys/net`, and values.

    Raises:
        CannotMove: the kernel refuses one.
    """
    if not settings:
        yield
        return
    before: list[Sysctl] = []
    with closing(HostNamespace()) as here:
        try:
            with here.left_for(netns):
                for path, value in settings:
                    _write(path, value, before)
            yield
        except BaseException:
            with here.left_for(netns):
                for path, value in reversed(before):
                    with suppress(OSError):  # its interface may have gone
                        sysctl.put(path, value)
            raise


def _write(path: str, value: str, before: list[Sysctl]) -> None:
    if ".." in path.split("/"):
        raise CannotMove(f"linux.sysctl {quoted(path)}: this is no name", _REMEDY)
    try:
        present = sysctl.get(path)
        if present is not None and present.split() == value.split():
            return
        sysctl.put(path, value)
    except (OSError, UnicodeError) as error:
        raise _refused(path, value, error) from None
    if present is not None:
        before.append((path, present))


def _refused(path: str, value: str, error: Exception) -> CannotMove:
    setting = quoted(f"{sysctl_name(path)} = {value}")
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        reason = "there is no such setting in the network namespace to share"
    else:
        reason = f"the network namespace to share does not take it: {error}"
        if isinstance(error, OSError):
            reason = f"the network namespace to share does not take it: {error.strerror}"
    return CannotMove(f"linux.sysctl {setting}: {reason}", _REMEDY)
