"""What a container finds in `/etc/resolv.conf`, and how its root may be spoiled before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.support import bundles
from tests.support.host import GATEWAY, Host

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


def rooted(
    host: Host,
    name: str,
    spoil: Callable[[Path], object],
    *,
    read_only: bool = False,
    mounts: tuple[dict[str, Any], ...] = (),
    **more: Any,
) -> dict[str, Any]:
    """Makes a root file system for one container alone; returns what its bundle takes.

    Args:
        host: the host.
        name: the container.
        spoil: called with that root, `root-<name>` in the host's base.
        read_only: whether the container cannot write it.
        mounts: more mounts of the bundle.
        more: more of the bundle.
    """
    root = bundles.make_rootfs(host.base / f"root-{name}")
    spoil(root)

    def edit(spec: bundles.Spec) -> None:
        spec["root"] = {"path": str(root), "readonly": read_only}
        spec["mounts"] += mounts

    return {"edit": edit, **more}
