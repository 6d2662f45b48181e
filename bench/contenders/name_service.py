"""`watcher names` of this program, as its unit starts it, but as root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final, Self

_PATIENCE: Final = 30.0


class NameService:
    """The process, from now until it is closed.

    Args:
        directory: a directory for its log.
        config: the `watcher.toml`.
    """

    def __init__(self, directory: Path, config: Path) -> None:
        words = (sys.executable, "-m", "watcher", "--config", str(config), "names")
        with (directory / "names.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def close(self) -> None:
        """Terminate it, and wait."""
        self._process.terminate()
        self._process.wait(_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
