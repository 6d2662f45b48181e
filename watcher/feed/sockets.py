"""Sockets with names in `run_dir`: made beside, and renamed into place once their modes are right.

So nobody connects to one that more users may use than should, and one that a killed service left
is replaced by another without a moment in which there is none.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.feed.names import GROUP
from watcher.model.errors import message_of

if TYPE_CHECKING:
    from watcher.log.logger import Log

_GROUPS: Final = Path("/etc/group")
_MOST: Final = 4 << 20


class NamedSocket:
    """A bound socket, and whether its name still leads to it.

    Args:
        directory, name: its name.
        kind: `SOCK_STREAM` or `SOCK_SEQPACKET`, for which it listens, or `SOCK_DGRAM`.
        group: whether the members of :data:`watcher.feed.names.GROUP` may use it, beside root.
        log: gets a warning if the group exists but cannot be given the socket.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, directory: str, name: str, kind: int, *, group: bool, log: Log) -> None:
        self._path = Path(directory, name)
        self.socket = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
        beside = Path(directory, f"{name}.new")
        try:
            beside.unlink(missing_ok=True)
            self.socket.bind(str(beside))
            beside.chmod(0o600)
            if group:
                _give(beside, name, log)
            if kind != socket.SOCK_DGRAM:
                self.socket.listen(socket.SOMAXCONN)
            there = beside.lstat()
            self._identity = there.st_dev, there.st_ino
            beside.rename(self._path)
        except BaseException:
            self.socket.close()
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def lost(self) -> bool:
        """Whether its name leads elsewhere by now, or nowhere."""
        try:
            there = os.lstat(self._path)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != self._identity

    def remove_name(self) -> None:
        """Remove its name, unless that leads elsewhere."""
        if not self.lost():
            with suppress(OSError):
                self._path.unlink()

    def close(self) -> None:
        """Close it; its name stays, and whoever connects is told that nobody listens."""
        self.socket.close()


def open_to_all(run_dir: str) -> None:
    """Let everybody look into `run_dir`, if nobody but root may, as versions before 0.2 made it.

    What only root may read there has such a mode itself.
    """
    with suppress(OSError):
        there = os.lstat(run_dir)
        own = there.st_uid == os.geteuid() and stat.S_ISDIR(there.st_mode)
        if own and stat.S_IMODE(there.st_mode) == 0o700:
            Path(run_dir).chmod(0o755)


def _give(path: Path, name: str, log: Log) -> None:
    """Give the socket `path`, which will have that name, to the group, if there is one."""
    group = _number_of_group()
    if group is None:
        return
    try:
        if path.lstat().st_gid != group:  # a unit with that group may not call chown(2)
            os.chown(path, -1, group, follow_symlinks=False)
    except OSError as error:  # without CAP_CHOWN
        log.warning(
            "a socket is for root alone", socket=name, reason=message_of(error),
            remedy=f"allow the service to give it to the group {GROUP}: it needs CAP_CHOWN",
        )  # fmt: skip
        return
    path.chmod(0o660)


def _number_of_group() -> int | None:
    """The number of the group, as /etc/group has it; `None` if it does not.

    The host's other directories of groups are not asked (nss(5)): they may never answer.
    """
    try:
        with _GROUPS.open("rb") as file:
            lines = file.read(_MOST).split(b"\n")
    except OSError:
        return None
    for line in lines:
        name, *rest = line.split(b":")
        if name == GROUP.encode() and len(rest) > 1 and rest[1].isdigit():
            return int(rest[1])
    return None
