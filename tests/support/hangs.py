"""File systems of a host that do not answer, until the host ends at the latest."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.paths import REPOSITORY
from tests.support.processes import end
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host


class HangingBundle:
    """A bundle on a FUSE file system, which lets its `config.json` be opened `count` times.

    Args:
        host: the host.
        name: the container's id.
        args: its program.
        count: 1 is enough for a runc.
    """

    def __init__(self, host: Host, name: str, args: list[str], count: int = 1) -> None:
        self._host, self._name = host, name
        self.directory = host.base / f"hanging-{name}"
        self.directory.mkdir()
        config = host.bundle(name, args) / "config.json"
        self._process = host.popen(
            ["/usr/bin/python3", str(REPOSITORY / "tests/support/hanging_fs.py"),
             str(self.directory), str(config), str(count)],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        host.before_close(self.answer)
        eventually(lambda: host.command("test", "-e", str(self.directory / "config.json")))

    def run(self) -> subprocess.Popen[str]:
        """`runc run` in it."""
        command = ["runc", "--root", str(self._host.root), "run", self._name]
        process = self._host.popen(
            command, directory=self.directory,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._host.on_close(lambda: end(process))
        return process

    def wait(self) -> None:
        """Waits until somebody waits for it."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "hangs\n"

    def answer(self) -> None:
        """Ends it, and with it what waits for it."""
        if self._process.stdout is not None and not self._process.stdout.closed:
            end(self._process)
            self._process.stdout.close()


class Freezable:
    """An ext4 at a directory of the host, in a file of its own.

    Args:
        host: the host.
        directory: where it is mounted; it is made.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        self._host, self._directory = host, directory
        image = host.base / f"{directory.name}.img"
        with image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        directory.mkdir(exist_ok=True)
        host.command("mount", "-o", "loop", str(image), str(directory))
        host.on_close(lambda: host.command("umount", "--lazy", str(directory)))
        self._frozen = False
        host.before_close(self.thaw)

    def freeze(self) -> None:
        """Whoever writes there waits from now on, uninterruptibly."""
        self._host.command("fsfreeze", "--freeze", str(self._directory))
        self._frozen = True

    def thaw(self) -> None:
        """They go on."""
        if self._frozen:
            self._host.command("fsfreeze", "--unfreeze", str(self._directory))
            self._frozen = False
