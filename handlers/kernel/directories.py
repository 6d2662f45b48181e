"""Makes a directory with a given mode, whatever the process's umask."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def make_directory(path: Path, mode: int) -> None:
    """Make the directory `path` with `mode`, and missing directories above it with 0755.

    An existing directory keeps its mode, because an administrator may have chosen it.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_directory(path.parent, 0o755)
    with suppress(FileExistsError):  # another process was faster
        path.mkdir(mode)
        path.chmod(mode)  # mkdir(2) applies the umask
