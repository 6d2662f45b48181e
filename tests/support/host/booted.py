"""A host that systemd has booted, on which the unit runs the service as it is shipped."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.support.booted import Booted
from tests.support.host.host import Host
from tests.support.host.machine import LINKS
from tests.support.host.place import Json
from tests.support.host.service import Service
from tests.support.processes import children
from tests.support.waiting import eventually

_LINE: Final = re.compile(r"\[(\w+)\s*\] (.*?)(?: (\w+=.*))?")
"""What the service writes to the journal: the level, the event, and its fields."""

_STATE: Final = """
mkdir "$base/state" /var/lib/watcher
mount --bind "$base/state" /var/lib/watcher
"""
"""So that the state directory of the unit is where that of every host is."""


class BootedHost(Host):
    """A :class:`Host` with the directories of the unit, made once for many tests.

    Attributes:
        unit: its service, which runs.
    """

    unit: UnitService

    def __init__(self) -> None:
        self.booted = Booted()
        super().__init__(self.booted.rootfs)
        self.root = Path("/run/runc")
        self.run_dir = Path("/run/watcher")
        self.netns_dir = Path("/run/netns")
        self.unit = UnitService(self)
        self.configure()
        self._configured = ""

    def _make_base(self) -> Path:
        return self.booted.shared

    def _open(self) -> None:
        self.booted.command("sh", "-ec", f"base={self.base}\n{_STATE}{LINKS}")
        self._enter(self.booted.first)

    def close(self) -> None:
        """Ends everything of this host."""
        self._before_close.close()
        self._on_close.close()
        self.booted.close()

    def configure(self, config: str = "") -> None:
        """Writes `watcher.toml` anew; `config` may begin with keys of `[[root]]`."""
        self.config.write_text(f'[[root]]\npath = "/run/runc"\n{config}\n')

    def service(
        self,
        *_: str,
        ready: bool = True,
        env: Mapping[str, str] | None = None,
        script: Path | None = None,
        cold: bool = True,  # noqa: ARG002 (it is, always)
    ) -> Service:
        """The unit's service, which runs."""
        assert ready
        assert env is None
        assert script is None
        return self.unit

    @property
    def served(self) -> bool:
        """Whether the unit's service runs."""
        return self.unit.running

    def logs(self) -> str:
        """What the service has logged since the test began."""
        return self.unit.log_text()

    def reconfigure(self, config: str) -> None:
        """Has the running service take another configuration."""
        self.configure(config)
        self._configured = config
        assert self.unit.reload() == ""

    @contextlib.contextmanager
    def lent(self, config: str = "") -> Iterator[None]:
        """This host for one test, with that configuration; nothing of the test is left then."""
        kept = self._on_close.pop_all()
        self.unit.forget()
        try:
            self._prepare(config)
            yield
            self._clear()
        finally:
            self._on_close.close()
            self._on_close.push(kept)

    def _prepare(self, config: str) -> None:
        """Have the service run with `config`, and nothing be left of another one."""
        if config != self._configured:
            self.unit.stop()
            self.watcher("down")
        self.configure(config)
        self._configured = config
        self.unit.start()

    def _clear(self) -> None:
        """End all containers, and expect that nothing is left of them; take others' rules back."""
        for name in self.runc("list", "--quiet").stdout.split():
            self.delete(name)
        for line in self.command("nft", "list", "tables").stdout.splitlines():
            _, family, table = line.split()
            if table != "watcher":
                self.command("nft", "delete", "table", family, table)
        self.empty()


class UnitService(Service):
    """`watcher.service` on a booted host, by `systemctl`."""

    host: BootedHost

    def __init__(self, host: BootedHost) -> None:
        super().__init__(host)
        self._booted = host.booted
        self._passed = 0

    @property
    def running(self) -> bool:
        """Whether systemd says so."""
        return self._booted.show("ActiveState") == "active"

    @property
    def inner_pid(self) -> int:
        """Its pid on the host."""
        return self._booted.main_pid

    @property
    def pid(self) -> int:
        """Its pid outside of the host's process namespace."""
        inner = str(self.inner_pid)
        for child in children(self._booted.first):
            status = Path(f"/proc/{child}/status").read_text()
            if status.partition("NSpid:")[2].split("\n")[0].split()[-1] == inner:
                return child
        raise LookupError(inner)

    def start(self, *, ready: bool = True) -> None:
        """Starts it, which waits until it is ready."""
        assert ready
        self._booted.command("systemctl", "start", "watcher")

    def stop(self) -> None:
        """Stops it, and expects that it ends well."""
        self._booted.command("systemctl", "stop", "watcher")
        assert self._booted.show("Result") == "success"

    def restart(self) -> None:
        """Stops it and starts it again."""
        self._booted.command("systemctl", "restart", "watcher")

    def reload(self) -> str:
        """Has it read its configuration again; returns the status that it shows then."""
        self._booted.command("systemctl", "reload", "watcher")
        return self._booted.show("StatusText")

    def kill9(self) -> None:
        """Kills it; systemd starts it again."""
        before = self.inner_pid
        self._booted.command("systemctl", "kill", f"--signal={signal.SIGKILL.value}", "watcher")
        eventually(lambda: self.inner_pid not in (0, before), what="a new process")
        eventually(lambda: self.running, what="its readiness")

    def end(self) -> None:
        """Leaves it running: it ends with the host."""

    def _lines(self) -> list[str]:
        self._booted.command("journalctl", "--sync")
        return self._booted.journal().splitlines()

    def forget(self) -> None:
        """What it has logged so far is nobody's business any more."""
        self._passed = len(self._lines())

    def log_text(self) -> str:
        """What it has logged since then."""
        return "\n".join(self._lines()[self._passed :])

    def log(self) -> list[Json]:
        """The entries of its log, each with all of its fields in one."""
        found = map(_LINE.fullmatch, self.log_text().splitlines())
        return [{"level": e[1], "event": e[2], "fields": e[3]} for e in found if e is not None]
