"""The files that are mounted: `run_dir/resolv/<name>`, to be read by everybody.

A file that is there is changed in its place, so that running containers see it. It is never
replaced, nor removed before the end of everything.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from handlers.kernel.directories import make_directory

DIRECTORY: Final = "resolv"
"""The directory of the files, in `run_dir`."""

_MODE: Final = 0o644
_LIMIT: Final = 1 << 16


class ResolvConf(Struct, frozen=True):
    """A file.

    Attributes:
        path: where it is.
        content: what it has to say.
    """

    path: str
    content: str


def write(file: ResolvConf) -> None:
    """Make `file`, or make it say the same as `file`.

    Raises:
        OSError: it cannot be written.
    """
    content = file.content.encode()
    try:
        _change(file.path, content)
    except FileNotFoundError:
        make_directory(Path(file.path).parent, 0o755)
        _make(file.path, content)


def has_any(run_dir: str) -> bool:
    """Whether their directory is there."""
    return os.path.isdir(f"{run_dir}/{DIRECTORY}")  # noqa: PTH112 (often)


def remove_all(run_dir: str) -> None:
    """Remove all of them. What is mounted stays, and goes with its container."""
    directory = Path(run_dir, DIRECTORY)
    with suppress(FileNotFoundError):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


def _change(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.pread(descriptor, _LIMIT, 0) != content:
            os.pwrite(descriptor, content, 0)
            os.ftruncate(descriptor, len(content))
        if os.fstat(descriptor).st_mode & 0o7777 != _MODE:
            os.fchmod(descriptor, _MODE)
    finally:
        os.close(descriptor)


def _make(path: str, content: bytes) -> None:
    """Make it whole: nobody mounts one that is being written."""
    directory, _, name = path.rpartition("/")
    draft = f"{directory}/.{name}.{threading.get_native_id()}"
    with suppress(FileNotFoundError):  # of a process that was killed
        os.unlink(draft)  # noqa: PTH108
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, _MODE)  # open(2) applies the umask
        with suppress(FileExistsError):  # another thread was faster, and it may be mounted already
            os.link(draft, path)
    finally:
        os.close(descriptor)
        os.unlink(draft)  # noqa: PTH108
