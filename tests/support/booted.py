"""A machine that systemd has booted, to run the unit on as it is.

A :class:`Booted` is the machine that the tests run on once more: systemd as the first process of a
process namespace, with network, mount, IPC and UTS namespaces and a cgroup of its own. Its root
file system is an overlay that nobody else sees and that ends with it. Of Debian's own units only
the journal is left, so that it boots in a moment and sets nothing that is not its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, Self

from tests.support import bundles
from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES: Final = ("--mount", "--net", "--ipc", "--uts")


def passes_analyze(unit: Path, threshold: int, scratch: Path) -> None:
    """Expects that systemd finds nothing wrong with a unit, nor rates it above a threshold.

    Args:
        unit: its file.
        threshold: ten times that rating.
        scratch: a directory for a copy of it.
    """
    rate = ["systemd-analyze", "security", "--offline=yes", f"--threshold={threshold}", str(unit)]
    done = subprocess.run(rate, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    copy = scratch / unit.name
    copy.write_text(unit.read_text().replace("/usr/local/sbin/watcher", "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Booted:
    """See the module's docstring.

    Args:
        config: its `/etc/watcher/watcher.toml`.
        mount: whether `run-runc.mount` is enabled as it boots.

    Attributes:
        shared: a directory that is under the same path on it.
        config: the file of its configuration, in that directory.
        first: its first process.
    """

    def __init__(self, config: str = "", *, mount: bool = False) -> None:
        self.base = Path(mkdtemp(prefix=f"watcher-test-{os.getpid()}-"))
        self.base.chmod(0o755)
        for name in ("cgroup", "tmpfs", "root", "shared"):
            (self.base / name).mkdir()
        self.shared = self.base / "shared"
        self.config = self.shared / "watcher.toml"
        self.config.write_text(config)
        self.rootfs = bundles.make_rootfs(self.shared / "rootfs")
        self._log = (self.base / "systemd.log").open("w+")
        self._process = subprocess.Popen(
            ["unshare", *_NAMESPACES, "setpriv", "--pdeathsig", "KILL",
             REPOSITORY / "tests/support/boot.sh", self.base, self.base.name, REPOSITORY],
            env={**os.environ, "ENABLED": "run-runc.mount" if mount else ""},
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self.first = 0
        try:
            self.first = eventually(self._find_first, what="systemd")
            eventually(self._is_running, what="the boot")
        except BaseException:
            self.close()
            raise

    def _find_first(self) -> int:
        """The pid of systemd: the child of `unshare`, the child of boot.sh."""
        assert self._process.poll() is None, self._said()
        pid = self._process.pid
        for _ in range(2):
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        assert Path(f"/proc/{pid}/comm").read_text() == "systemd\n", self._said()
        return pid

    def _is_running(self) -> bool:
        state = self.command("systemctl", "is-system-running", check=False).stdout
        assert state == "running\n", state
        return True

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        """Ends everything of this machine."""
        if self.first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.first, signal.SIGKILL)
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait(timeout=30)
        self._log.close()
        shutil.rmtree(self.base)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(
        self, *argv: str, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on this machine to its end."""
        done = subprocess.run(
            ["nsenter", f"--target={self.first}", "--all", "--wd=/", "--", *argv],
            input=stdin, capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": _PATH},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{done}\n{self.journal()}"
        return done

    def journal(self) -> str:
        """What the service has logged."""
        command = ("journalctl", "--no-pager", "--output=cat", "--unit=watcher.service")
        return self.command(*command, check=False).stdout

    def show(self, key: str, unit: str = "watcher") -> str:
        """A property of the service, or of another unit."""
        return self.command("systemctl", "show", unit, f"--property={key}", "--value").stdout[:-1]

    def has_no_power(self, pid: str) -> None:
        """Expects that a process has no capability, cannot get one, and is not root's."""
        status = self.command("cat", f"/proc/{pid}/status").stdout
        fields = dict(line.split(":\t") for line in status.splitlines())
        assert {fields[f"Cap{key}"] for key in ("Eff", "Prm", "Inh", "Bnd", "Amb")} == {"0" * 16}
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        assert "0" not in fields["Uid"].split()

    @property
    def main_pid(self) -> int:
        """The service's pid on this machine; 0 if it does not run."""
        return int(self.show("MainPID"))

    def bundle(self, name: str, args: tuple[str, ...] = bundles.FOREVER, **spec: Any) -> Path:
        """Writes a bundle, as :func:`bundles.make_spec` has it."""
        return bundles.write_bundle(
            self.shared / name, bundles.make_spec(self.rootfs, args, **spec)
        )

    def run(self, name: str, args: tuple[str, ...] = bundles.FOREVER, **spec: Any) -> str:
        """`runc run` of a new container, detached unless it has a program of its own.

        Returns:
            What it printed, if it was in the foreground.
        """
        bundle = self.bundle(name, args, **spec)
        detach = ("--detach",) if args == bundles.FOREVER else ()
        # A detached container would keep the pipes of its output open.
        command = ("runc", "run", *detach, "--bundle", str(bundle), name)
        if detach:
            command = ("sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *command)
        return self.command(*command).stdout

    def ls(self) -> dict[str, dict[str, Any]]:
        """The rows of `watcher ls --json` by container."""
        rows = json.loads(self.command("watcher", "ls", "--json").stdout)
        return {row["id"]: row for row in rows}
