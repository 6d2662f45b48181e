# ruff: noqa: ARG002
"""A FUSE file system with one file in it that stops answering; run by Debian's Python, with fusepy.

    hanging_fs.py DIRECTORY FILE COUNT

DIRECTORY gets `config.json` with the content of FILE. It can be opened COUNT times; at the next
time, and for whatever is asked after that, there is no answer until this program is killed.
"""

import errno
import signal
import stat
import sys
from pathlib import Path

import fusepy

NAME = "/config.json"


class Hanging(fusepy.Operations):
    """See the module's docstring."""

    def __init__(self, content: bytes, count: int) -> None:
        self.content = content
        self.left = count

    def getattr(self, path: str, fh: object = None) -> dict[str, int]:
        """As fusepy calls it."""
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == NAME:
            return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": len(self.content)}
        raise fusepy.FuseOSError(errno.ENOENT)

    def open(self, path: str, flags: int) -> int:
        """As fusepy calls it."""
        if self.left == 0:
            sys.stdout.write("hangs\n")
            sys.stdout.flush()
            while True:
                signal.pause()
        self.left -= 1
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """As fusepy calls it."""
        return self.content[offset : offset + size]


if __name__ == "__main__":
    directory, file, count = sys.argv[1:]
    hanging = Hanging(Path(file).read_bytes(), int(count))
    fusepy.FUSE(
        hanging, directory, foreground=True, nothreads=True, direct_io=True,
        attr_timeout=0, entry_timeout=0,
    )  # fmt: skip
