"""Real containers: `runc run` of a program that ends at once, one at a time and in bursts."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.contenders import setting
from bench.contenders.commands import Commands
from bench.contenders.contender import Contender, name_of
from bench.contenders.name_service import NameService
from bench.contenders.process import output
from bench.contenders.traces import wait_until_gone

_HAD_NETWORK, _HAD_NONE = 0, 7
"""The exit statuses of the containers' program (`bench/first.c`)."""

type Run = subprocess.Popen[bytes]


class Containers(Contender):
    """Containers with an empty network namespace of their own."""

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        rootfs = directory / "rootfs"
        for name in ("dev", "proc", "sys"):
            (rootfs / name).mkdir(parents=True)
        (rootfs / "first").write_bytes((base / "first").read_bytes())
        (rootfs / "first").chmod(0o755)
        output("runc", "spec", "--bundle", str(directory))
        self._spec: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self._spec["root"] = {"path": str(rootfs), "readonly": True}
        self._spec["process"] |= {"terminal": False, "args": ["/first"]}

    def run(self, number: int) -> dict[str, float]:
        """Seconds of `runc run` of container `number`, and whether it `had` its network first."""
        self.bundle(number)
        begin = time.perf_counter()
        ended = self._end(self._begin(number))
        took = time.perf_counter() - begin
        self.clean_up([number])
        return {"all": took, "had": ended}

    def burst(self, first: int, count: int) -> dict[str, float]:
        """Seconds until `count` have run, all begun at once, and how many `had` their network."""
        numbers = range(first, first + count)
        for number in numbers:
            self.bundle(number)
        begin = time.perf_counter()
        runs = [self._begin(number) for number in numbers]
        had = sum([self._end(run) for run in runs])
        took = time.perf_counter() - begin
        self.clean_up(list(numbers))
        return {"all": took, "had": had}

    def bundle(self, number: int) -> None:
        """Write the bundle of container `number`."""
        bundle = self.bundle_of(number)
        bundle.mkdir(exist_ok=True)
        more = self.more(number)
        (bundle / "config.json").write_text(json.dumps(self._spec | more))

    def bundle_of(self, number: int) -> Path:
        """The directory of the bundle of container `number`."""
        return self.directory / f"bundle-{number}"

    def more(self, number: int) -> dict[str, Any]:
        """Further keys of `config.json`."""
        del number
        return {}

    def clean_up(self, numbers: list[int]) -> None:
        """Remove what is left of ended containers; not measured."""
        del numbers

    def _begin(self, number: int) -> Run:
        # The directory's name makes the container's unique: cgroups are the machine's.
        name = f"{self.directory.name}-{name_of(number)}"
        bundle = self.bundle_of(number)
        with (bundle / "log").open("wb") as log:
            return subprocess.Popen(
                ["runc", "--root", setting.ROOT, "run", "--bundle", str(bundle), name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=bundle,
            )  # fmt: skip

    def _end(self, run: Run) -> bool:
        # With a timeout it looks now and then only: after 31 ms, and then after 63 ms.
        status = run.wait()
        if status not in (_HAD_NETWORK, _HAD_NONE):
            log = Path(str(list(run.args)[5]), "log").read_text()[-1000:]  # type: ignore[arg-type]
            raise RuntimeError(f"runc run exits {status}: {log}")
        return status == _HAD_NETWORK


class Watched(Containers):
    """With this program's service, its gate, and a published port each."""

    def __init__(self, base: Path, directory: Path) -> None:
        super().__init__(base, directory)
        self._commands = Commands(directory, setting.write_config(directory))
        self._commands.start()

    def usage(self) -> dict[str, float]:
        """What the service has used until now."""
        return self._commands.usage()

    def close(self) -> None:
        """Stop the service too."""
        self._commands.close()
        super().close()

    def more(self, number: int) -> dict[str, Any]:
        """The annotation that publishes a port."""
        return {"annotations": setting.annotations_of(number)}

    def clean_up(self, numbers: list[int]) -> None:
        """Wait until the service has removed the networks."""
        del numbers
        wait_until_gone()


class Named(Containers):
    """With this program's service, its gate, and names or none.

    Args:
        names: whether its network has names, and the name service runs. Then a container has had
            its network first only if `/etc/resolv.conf` was there as well.
    """

    def __init__(self, base: Path, directory: Path, *, names: bool) -> None:
        super().__init__(base, directory)
        resolv_conf = directory / "rootfs/etc/resolv.conf"
        resolv_conf.parent.mkdir()
        resolv_conf.touch()
        if names:
            self._spec["process"]["args"] = ["/first", "/etc/resolv.conf"]
        config = setting.write_config(directory, more=[f"names = {json.dumps(names)}"])
        self._opened = ExitStack()
        commands = Commands(directory, config)
        self._opened.callback(commands.close)
        commands.start()
        if names:
            self._opened.enter_context(NameService(directory, config))

    def close(self) -> None:
        """Stop the services too."""
        self._opened.close()
        super().close()

    def clean_up(self, numbers: list[int]) -> None:
        """Wait until the service has removed the networks."""
        del numbers
        wait_until_gone()
