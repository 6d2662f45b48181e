"""Making a directory with the mode that it should have, whatever the process's umask."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def make_directory(path: Path, mode: int) -> None:
    """Make the directory `path` with `mode`, and with 0755 what is missing above it.

    What is there already keeps its mode: somebody may have chosen it.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_directory(path.parent, 0o755)
    with suppress(FileExistsError):  # somebody else was quicker
        path.mkdir(mode)
        path.chmod(mode)  # mkdir(2) takes away what the umask says
