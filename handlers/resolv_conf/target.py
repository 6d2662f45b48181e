"""Finds the file in a container's root that the mount is to cover, or makes an empty one.

The calling thread is in the container's mount namespace and root, so every path leads where it
would lead a process there, while others may rename and link in it. Only the links of `/proc` to
what a process has open lead out: so nothing is covered or made that is on no mount of that
namespace. Every step goes on from what it has open. Nothing is read.

openat2(2) could leave out those links, but under `RestrictSUIDSGID=` of systemd there is none.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers.kernel.mounts import parse
from handlers.kernel.statx import Status, status
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from handlers.kernel.mounts import Mount

PATH: Final = "/etc/resolv.conf"

_FILE: Final = os.O_PATH | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NEW: Final = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_TRIES: Final = 16
"""How often a lookup is begun again that somebody's renaming has disturbed."""

_CHUNK: Final = 1 << 16

_MOST_LINKS: Final = 40
"""The kernel's own limit (path_resolution(7))."""

_OF_KERNEL: Final = frozenset((
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs",
    "configfs", "bpf", "nsfs", "pstore", "efivarfs", "binfmt_misc",
))  # fmt: skip
"""File systems of which no file is data."""


class CannotPlace(WatcherError):
    """A container gets no resolv.conf; nothing has changed.

    Args:
        what: the reason, without the container's name.
        remedy: what to do about it, as an imperative.
    """


PUT_ONE: Final = "put an empty file there in its root file system"
_NOWHERE: Final = "the links at /etc/resolv.conf in its root lead nowhere"


class Root:
    """The root of a process, which is this thread's root for now.

    Args:
        mounts: a descriptor of the `mountinfo` of that process.
        host: a descriptor of the directory of this process in the host's `/proc`.
    """

    def __init__(self, mounts: int, host: int) -> None:
        self._mounts = mounts
        self._host = host
        self._table = b""

    def find(self) -> tuple[int, Status]:
        """A descriptor of the file to cover, and what it is. It is made if it is missing.

        Raises:
            CannotPlace: it is none that can be covered, or cannot be made.
            OSError: the lookup fails otherwise.
        """
        for _ in range(_TRIES):
            try:
                found = os.open(PATH, _FILE)
            except FileNotFoundError:
                try:
                    found = self._make(PATH)
                except FileExistsError:
                    continue  # somebody else has just made it
            try:
                self._check(seen := status(found))
            except BaseException:
                os.close(found)
                raise
            return found, seen
        raise OSError(errno.EAGAIN, "somebody changes it all the time")

    # --- what is there ---------------------------------------------------------------------------

    def _check(self, file: Status) -> None:
        """Raise CannotPlace if `file` cannot be covered; one that is mounted there can stay."""
        mount = self._mount(file.mount)
        if file.is_top:
            return
        if not file.is_regular:
            raise CannotPlace("/etc/resolv.conf in its root is no regular file", PUT_ONE)
        self._check_mount(mount)

    def _check_mount(self, mount: Mount) -> None:
        if mount.type in _OF_KERNEL:
            why = f"/etc/resolv.conf in its root leads to a file system of type {mount.type}"
            raise CannotPlace(why, PUT_ONE)
        if any(field.startswith("shared:") for field in mount.propagation):
            raise CannotPlace(
                "mounts in its root would spread to other mount namespaces",
                'leave out "rootfsPropagation", and propagation of mounts, in its config.json',
            )

    def _mount(self, number: int) -> Mount:
        """The mount with that number; no file system is asked for anything."""
        if not self._table:
            self._table = b"\n" + _read(self._mounts)
        at = self._table.find(b"\n%d " % number)
        if at < 0:
            raise CannotPlace("/etc/resolv.conf in its root leads out of that", PUT_ONE)
        return parse(self._table[at + 1 : self._table.find(b"\n", at + 1)])

    # --- what is missing -------------------------------------------------------------------------

    def _make(self, path: str) -> int:
        """A descriptor of an empty file, made at `path`, or where the links there lead to.

        Raises:
            FileExistsError: it is there by now.
        """
        for _ in range(_MOST_LINKS):
            above, _, name = path.rpartition("/")
            directory = self._made_directory(above)
            try:
                target = _target(directory, name)
                if target is None:
                    return self._made_file(directory, name)
            finally:
                os.close(directory)
            path = target if target.startswith("/") else f"{above}/{target}"
            if path.endswith(("/", "/.", "/..")):
                break
        raise CannotPlace(_NOWHERE, PUT_ONE)

    def _made_file(self, directory: int, name: str) -> int:
        self._check_writable(directory)
        try:
            made = os.open(name, _NEW, 0o644, dir_fd=directory)
        except FileExistsError:
            raise
        except OSError as error:
            raise _unwritable(error) from None
        owner = os.fstat(directory)
        if owner.st_uid or owner.st_gid:
            with suppress(PermissionError):  # it serves its purpose all the same
                os.fchown(made, owner.st_uid, owner.st_gid)
        return made

    def _made_directory(self, path: str) -> int:
        """A descriptor of the directory `path`; missing parts are made."""
        with suppress(FileNotFoundError):
            return os.open(path or "/", _DIRECTORY)
        here, walked = os.open("/", _DIRECTORY), ""
        for name in path.split("/"):
            if name in ("", "."):
                continue
            walked = f"{walked}/{name}"
            try:
                there = self._made_one(here, name, walked)
            finally:
                os.close(here)
            here = there
        return here

    def _made_one(self, above: int, name: str, path: str) -> int:
        """A descriptor of the directory `path`; a missing one is made, as `name` in `above`."""
        with suppress(FileNotFoundError):
            return os.open(path, _DIRECTORY)
        try:
            self._check_writable(above)
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=above)
            return os.open(path, _DIRECTORY)
        except FileNotFoundError:
            raise CannotPlace(_NOWHERE, PUT_ONE) from None
        except OSError as error:
            raise _unwritable(error) from None

    def _check_writable(self, directory: int) -> None:
        """Raise CannotPlace if something made in `directory` would be in another's file system.

        That is where it is neither in the container's root file system, nor in a tmpfs that only
        the container has.
        """
        number = status(directory).mount
        found = self._mount(number)
        self._check_mount(found)
        if number == self._own_mount():
            if os.path.samestat(os.stat("/"), os.stat("root", dir_fd=self._host)):  # noqa: PTH116
                # It is the host's root directory, in another mount namespace.
                raise CannotPlace("its root is the host's, and has no /etc/resolv.conf", PUT_ONE)
            return
        host = os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._host)
        try:
            known = _read(host)
        finally:
            os.close(host)
        if found.type != "tmpfs" or found.root != "/" or b" %s " % found.device.encode() in known:
            raise CannotPlace(
                "its root has no /etc/resolv.conf, and what is mounted there is not its own",
                "put an empty file there",
            )

    def _own_mount(self) -> int:
        """The number of the mount that is the root."""
        root = os.open("/", _DIRECTORY)
        try:
            return status(root).mount
        finally:
            os.close(root)


def _read(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, _CHUNK):
        parts.append(part)
    return b"".join(parts)


def _target(directory: int, name: str) -> str | None:
    """Where the link `name` in an open directory leads to; `None` if there is nothing.

    Raises:
        FileExistsError: it is no link.
    """
    try:
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        if not status(link).is_link:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _unwritable(error: OSError) -> CannotPlace:
    """Why nothing can be made in a root."""
    if error.errno == errno.EROFS:
        return CannotPlace("its root is read-only, and has no /etc/resolv.conf", PUT_ONE)
    why = f"its root has no /etc/resolv.conf, and none can be made: {error.strerror}"
    return CannotPlace(why, PUT_ONE)
