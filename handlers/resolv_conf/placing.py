"""Mounts a file of the host over the `/etc/resolv.conf` of a container, read-only.

The mount is made in the host's mount namespace, where nobody sees it yet, and moved to its place
from inside the container's, which it ends with. `move_mount` takes both by open descriptors, so no
path is looked up in there. The calling thread comes back to the host's mount namespace.
"""

from __future__ import annotations

import errno
import os
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from handlers.kernel import mounts, single_mounts
from handlers.kernel.processes import start_time
from handlers.kernel.statx import status
from handlers.resolv_conf.files import write
from handlers.resolv_conf.target import PUT_ONE, CannotPlace, Root
from watcher.model.errors import remedy_for

if TYPE_CHECKING:
    from handlers.kernel.statx import Status
    from handlers.resolv_conf.files import ResolvConf
    from watcher.model.container import Process

__all__ = ["CannotPlace", "Gone", "Outcome", "place"]

_TRIES: Final = 8
_READ: Final = os.O_RDONLY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_REMEDIES: Final = {
    errno.EPERM: "give the service CAP_SYS_CHROOT and the rest that deploy/watcher.service has",
    errno.ENOSYS: "use a kernel since Linux 5.12",
    errno.EAGAIN: "see who does that",
}
_WHO: Final = "see who does that"
_thread: Final = threading.local()
_ENDED: Final = (FileNotFoundError, ProcessLookupError)


class Outcome(StrEnum):
    """What has become of a container's `/etc/resolv.conf`."""

    PLACED = "placed"
    THERE = "there"
    """Ours was there already."""
    OTHER = "other"
    """Another file is mounted there, as by its bundle: it stays."""
    SHARED = "shared"
    """The container is in the host's mount namespace, where the host's file stays."""


class Gone(Exception):
    """The init has ended."""


def place(init: Process, file: ResolvConf) -> Outcome:
    """Mount `file` over the `/etc/resolv.conf` of the container with that init.

    It may take for ever if the container's root is on a file system that does not answer. The
    calling thread must have descriptors of its own.

    Raises:
        CannotPlace: it gets none.
        Gone: its init has ended.
    """
    _be_alone()
    for _ in range(_TRIES):
        opened: list[int] = []
        try:
            return _place(init, file, opened)
        except FileNotFoundError:
            continue  # it has just been removed
        except OSError as error:
            if start_time(init.pid) != init.start:
                raise Gone from error
            raise _cannot(error) from error
        finally:
            for descriptor in opened:
                os.close(descriptor)
    raise CannotPlace("/etc/resolv.conf in its root is removed all the time", _WHO)


def _be_alone() -> None:
    """Give this thread a file system context of its own: it enters mount namespaces (setns(2))."""
    if not hasattr(_thread, "is_alone"):
        os.unshare(os.CLONE_FS)
        os.umask(0)
        _thread.is_alone = True


def _place(init: Process, file: ResolvConf, opened: list[int]) -> Outcome:
    """Place it; the caller closes what was `opened`."""
    opened.append(here := os.open("/proc/thread-self/ns/mnt", _READ))
    try:
        opened.append(inside := os.open(f"/proc/{init.pid}/ns/mnt", _READ))
        is_host = _is_host(inside, here)
        if not is_host:
            opened.append(root := os.open(f"/proc/{init.pid}/root", _DIRECTORY))
            opened.append(table := os.open(f"/proc/{init.pid}/mountinfo", _READ))
        if start_time(init.pid) != init.start:
            raise Gone
    except _ENDED:
        raise Gone from None
    if is_host:
        return Outcome.SHARED
    opened.append(host := os.open("/proc/self", _DIRECTORY))
    with _Entered(inside, here, root):
        target, seen = Root(table, host).find()
        opened.append(target)
    if seen.is_top:
        return Outcome.THERE if _is_it(seen, file.path) else Outcome.OTHER
    opened.append(tree := _mount_of(file))
    with _Entered(inside, here):
        mounts.move(tree, target)
    return Outcome.PLACED


class _Entered:
    """Be in the mount namespace `inside`, and in its directory `root`, and come back to `here`.

    Both namespaces are entered with their own roots (setns(2)). Nothing may be opened meanwhile by
    a path of the host's. It is a class, because each start waits for it.
    """

    __slots__ = ("_here", "_inside", "_root")

    def __init__(self, inside: int, here: int, root: int | None = None) -> None:
        self._inside = inside
        self._here = here
        self._root = root

    def __enter__(self) -> None:
        os.setns(self._inside, os.CLONE_NEWNS)
        if self._root is None:
            return
        try:
            os.fchdir(self._root)
            if not os.path.samestat(os.stat("/"), os.fstat(self._root)):  # noqa: PTH116
                os.chroot(".")
        except BaseException:
            self._come_back()
            raise

    def __exit__(self, *_: object) -> None:
        self._come_back()

    def _come_back(self) -> None:
        try:
            os.setns(self._here, os.CLONE_NEWNS)
        except OSError as error:
            raise SystemExit from error  # this thread must not do anything any more


def _is_host(inside: int, here: int) -> bool:
    """Whether the mount namespace `inside` is that of the host, or `here`, of this process."""
    number = os.fstat(inside).st_ino
    try:
        if number == os.stat("/proc/1/ns/mnt").st_ino:  # noqa: PTH116
            return True
    except PermissionError:  # the first process may have more capabilities than this one
        pass
    return number == os.fstat(here).st_ino


def _mount_of(file: ResolvConf) -> int:
    """A mount of `file`, which is made if it is lost."""
    try:
        try:
            return single_mounts.read_only(file.path)
        except FileNotFoundError:
            write(file)
            return single_mounts.read_only(file.path)
    except OSError as error:
        what = f"the host's {file.path} cannot be made and mounted: {error.strerror}"
        raise CannotPlace(what, _REMEDIES.get(error.errno or 0, "see to run_dir")) from error


def _is_it(seen: Status, path: str) -> bool:
    """Whether `seen` is the file at `path`."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        it = status(descriptor)
    finally:
        os.close(descriptor)
    return (it.device, it.inode) == (seen.device, seen.inode)


def _cannot(error: OSError) -> CannotPlace:
    if error.errno == errno.ELOOP:
        return CannotPlace("the links at /etc/resolv.conf in its root cannot be followed", PUT_ONE)
    what = f"/etc/resolv.conf cannot be mounted in its root: {error.strerror}"
    return CannotPlace(what, remedy_for(error, _REMEDIES.get(error.errno or 0, PUT_ONE)))
