"""A host whose runtime is crun."""

from __future__ import annotations

from pathlib import Path

from tests.support.host import Host
from tests.support.waiting import eventually


class CrunHost(Host):
    """A host as any, but for its runtime and its root.

    crun refuses the first version of cgroups with parts of the second, so the host has the second
    alone; and none for its containers, which need none.
    """

    runtime = ("crun", "--cgroup-manager=disabled")

    def __init__(self, rootfs: Path, config: str = "") -> None:
        super().__init__(rootfs, config)
        self.command("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")

    def shows(self, name: str, text: str) -> None:
        """Waits until a container has printed `text`."""
        eventually(lambda: text in self.output(name), what=f"{text} of {name}")
