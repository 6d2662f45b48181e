"""What a container finds in `/etc/resolv.conf`, and how its root may be spoiled before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.support.host import GATEWAY

READ: Final = ("cat", "/etc/resolv.conf")
OURS: Final = f"# Made by watcher: docs/names.md\nsearch watcher.internal\nnameserver {GATEWAY}\n"


def linked(*targets: str) -> dict[str, str]:
    """A chain of links that begins at `/etc/resolv.conf`."""
    names = ["etc/resolv.conf", *(f"etc/link-{number}" for number in range(len(targets) - 1))]
    return dict(zip(names, targets, strict=True))


def link(root: Path, links: dict[str, str]) -> None:
    """Makes `links` in a root, in place of what is there."""
    for name, target in links.items():
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)


def remove(root: Path) -> None:
    """Leaves no `/etc/resolv.conf` in a root."""
    (root / "etc/resolv.conf").unlink()


def make_fifo(root: Path) -> None:
    """Makes it a FIFO."""
    remove(root)
    os.mkfifo(root / "etc/resolv.conf")


def make_directory(root: Path) -> None:
    """Makes it a directory."""
    remove(root)
    (root / "etc/resolv.conf").mkdir()


def make_device(root: Path) -> None:
    """Makes it a device: the same as `/dev/null`."""
    remove(root)
    os.mknod(root / "etc/resolv.conf", 0o20666, os.makedev(1, 3))
