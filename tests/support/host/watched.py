"""The watcher on a host: its configuration, its command line and its service."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.support.host.containers import Containers
from tests.support.host.place import Json
from tests.support.host.service import Service
from tests.support.paths import REPOSITORY
from tests.support.processes import Done
from tests.support.warm import Started, Where, warm
from watcher.locks.names import WRITERS

GATE_OFF: Final = '[gate]\nmode = "off"\n'
"""So that a request that cannot be met is seen as `failed`, and not refused by the gate."""


def toml(text: str) -> str:
    """`text` as a TOML string."""
    return json.dumps(text)


class Watched(Containers):
    """A machine whose runc root the watcher looks after.

    Args:
        rootfs: as :class:`Containers` has it.
        config: TOML added to its `watcher.toml`, which sets its directories and its root already.
            May begin with keys of `[[root]]`.

    Attributes:
        program: the sources that `watcher` is run from, a directory or an archive of a release's.
    """

    def __init__(self, rootfs: Path, config: str = "") -> None:
        super().__init__(rootfs)
        self.state_dir = self.base / "state"
        self.run_dir = self.base / "run"
        self.netns_dir = self.base / "netns"
        self.config = self.base / "watcher.toml"
        self.program = REPOSITORY
        self._services: list[Service] = []
        self.configure(config)

    def configure(self, config: str = "") -> None:
        """Writes `watcher.toml` anew; see the class for `config`."""
        self.config.write_text(
            f"state_dir = {toml(str(self.state_dir))}\n"
            f"run_dir = {toml(str(self.run_dir))}\n"
            f"netns_dir = {toml(str(self.netns_dir))}\n\n"
            f"[[root]]\npath = {toml(str(self.root))}\n{config}\n"
        )

    def watcher_command(self, *args: str, script: Path | None = None) -> list[str]:
        """The words of a command line of `watcher`, or `script`, with this host's configuration."""
        installed = Path(sys.executable).parent / "watcher"
        if script is not None:
            program = [sys.executable, str(script)]
        else:
            program = [str(installed)] if installed.exists() else [sys.executable, "-m", "watcher"]
        return [*program, "--config", str(self.config), *args]

    @property
    def watcher_env(self) -> dict[str, str]:
        """What has `watcher` run from :attr:`program`, installed or not."""
        return {"PYTHONPATH": str(self.program)}

    def watcher(self, *args: str, check: bool = True, timeout: float = 60) -> Done:
        """Runs `watcher` to its end, warm if it is that of this tree (:mod:`tests.support.warm`).

        Raises:
            AssertionError: as :meth:`command`.
        """
        if not self.is_of_this_tree:
            return self.command(
                *self.watcher_command(*args), check=check, env=self.watcher_env, timeout=timeout
            )
        argv = ["--config", str(self.config), *args]
        status, stdout, stderr = warm().run(argv, self._where, timeout=timeout)
        said = f"{stdout}{stderr}"
        assert status is not None, f"watcher {' '.join(args)} is not done after {timeout} s: {said}"
        assert not check or status == 0, f"watcher {' '.join(args)} exits {status}: {said}"
        return subprocess.CompletedProcess(argv, status, stdout, stderr)

    @property
    def is_of_this_tree(self) -> bool:
        """Whether its `watcher` is that of this tree, which can be started warm."""
        return self.program == REPOSITORY

    @property
    def _where(self) -> Where:
        return Where(first=self._first, netns=self.here.file, directory=self.seen(self.base))

    def start_warm(self, *args: str, env: Mapping[str, str], log: int) -> Started:
        """Starts `watcher`, warm, with `env` added to its environment; it writes to `log`."""
        argv = ["--config", str(self.config), *args]
        environment = {**os.environ, **env}
        return warm().start(argv, self._where, environment=environment, out=log, err=log)

    def ls(self) -> dict[str, Json]:
        """The rows of `watcher ls --json` by container id."""
        rows: list[Json] = json.loads(self.watcher("ls", "--json").stdout)
        by_id = {row["id"]: row for row in rows}
        assert len(by_id) == len(rows), f"a container is listed twice: {rows}"
        return by_id

    def inspect(self, name: str) -> Json:
        """What `watcher inspect` prints."""
        inspected: Json = json.loads(self.watcher("inspect", name).stdout)
        return inspected

    def status(self, name: str) -> str:
        """A container's STATUS of `watcher ls`; empty if it is not listed."""
        row = self.ls().get(name)
        return "" if row is None else str(row["status"])

    def service(
        self,
        *args: str,
        ready: bool = True,
        env: Mapping[str, str] | None = None,
        script: Path | None = None,
        cold: bool = False,
    ) -> Service:
        """Starts `watcher run` and waits until it is ready; it ends with the host at the latest.

        Args:
            args, env, script, cold: as :class:`Service` has them.
            ready: whether to wait.
        """
        service = Service(self, args, env, script=script, cold=cold)
        self._services.append(service)
        self.on_close(service.end)
        service.start(ready=ready)
        return service

    @property
    def served(self) -> bool:
        """Whether a service of :meth:`service` runs."""
        return any(service.running for service in self._services)

    def logs(self) -> str:
        """What every service of this host has logged."""
        return "".join(service.log_text() for service in self._services)

    @contextlib.contextmanager
    def unwritable(self) -> Iterator[int]:
        """Has the writers' lock, as one does who is stuck: nothing can be attached meanwhile.

        Yields the inode number of the lock's file, which proc_locks(5) names.
        """
        with (self.run_dir / WRITERS).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield os.fstat(file.fileno()).st_ino

    def settle(self) -> None:
        """Runs `watcher sync` where no service runs: somebody has to tell the watcher."""
        if not self.served:
            self.watcher("sync")
