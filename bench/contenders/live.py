"""One of two hosts in a cluster, with all that runs on it: both processes, and on one etcd."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.contenders import registered, setting
from bench.contenders.across import Across
from bench.contenders.commands import Commands
from bench.contenders.contender import name_of
from bench.contenders.process import output
from watcher.config import load
from watcher.model.cluster import block_at
from watcher.store.files import store_path
from watcher.store.leases import LeaseStore

if TYPE_CHECKING:
    from watcher.model.cluster import Block

_PATIENCE: Final = 30.0
"""Seconds until a host has its blocks."""


class Live(Across):
    """See the module's docstring; etcd is on the first host."""

    def join(self) -> None:
        """Start everything, and wait for a block of each family."""
        self._started: list[subprocess.Popen[bytes]] = []
        here, url = self.links(self.number)[0], f"http://{self.links(0)[0]}:2379"
        if self.number == 0:
            self._start(
                "etcd", f"--data-dir={self.directory}/etcd", "--unsafe-no-fsync",
                f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
                "--listen-peer-urls=http://127.0.0.1:2380",
            )  # fmt: skip
        Path(setting.ROOT).mkdir(mode=0o700)
        keys = registered.keys(self.number, here, etcd=url)
        self._config = setting.write_config(self.directory, "routed", keys)
        self._commands = Commands(self.directory, self._config)
        self._commands.start()
        self._start(*self._commands.words, "cluster")
        deadline = time.monotonic() + _PATIENCE
        while len(self._blocks()) < len(registered.SUBNETS):
            if time.monotonic() > deadline:
                raise RuntimeError("this host gets no block")
            time.sleep(0.05)
        setting.add_to_root(self.number, self.pid(), {})
        while "eth0" not in self.inside("ip", "route"):
            time.sleep(0.05)
        self._make_bundle()

    def close(self) -> None:
        """Stop everything too."""
        self._commands.close()
        for process in self._started:
            process.kill()
            process.wait()
        super().close()

    def address(self, number: int, claimed: bool) -> str:
        """An address for the container `number`: in a block of this host, or in one of nobody."""
        with self._opened() as store:
            own = {block.prefix for block in store.cluster.blocks()}
            theirs = {block.prefix for block in store.cluster.peer_blocks()}
        block = next(
            block
            for block in map(partial(block_at, registered.SUBNETS[0], registered.BLOCK), range(256))
            if block not in theirs and (block in own) != claimed
        )
        return str(block[10 + number])

    def run(self, number: int, address: str) -> float:
        """When `runc run` of a container began, by the monotonic clock; it has begun to run."""
        spec = self._spec | {"annotations": {"io.watcher.ip": address}}
        (self._bundle / "config.json").write_text(json.dumps(spec))
        begin = time.monotonic()
        with (self.directory / "runc.log").open("ab") as log:
            subprocess.run(
                ["runc", "--root", setting.ROOT, "run", "--detach", "--bundle", str(self._bundle),
                 f"{self.directory.name}-{name_of(number)}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._bundle, check=True,
            )  # fmt: skip
        return begin

    def delete(self, number: int) -> None:
        """End that container."""
        name = f"{self.directory.name}-{name_of(number)}"
        output("runc", "--root", setting.ROOT, "delete", "--force", name)

    def _start(self, *argv: str) -> None:
        with (self.directory / "started.log").open("ab") as log:
            self._started.append(subprocess.Popen(argv, stdout=log, stderr=log))

    def _blocks(self) -> list[Block]:
        """The blocks that this host holds."""
        with self._opened() as store:
            return [block for block in store.cluster.blocks() if block.state == "held"]

    def _opened(self) -> LeaseStore:
        return LeaseStore.open(store_path(load.load(self._config)), read_only=True)

    def _make_bundle(self) -> None:
        """A container that sleeps."""
        rootfs = self.directory / "rootfs"
        for name in ("bin", "dev", "proc", "sys", "etc"):
            (rootfs / name).mkdir(parents=True)
        output("cp", output("sh", "-c", "command -v busybox").strip(), str(rootfs / "bin/sleep"))
        self._bundle = self.directory / "bundle"
        self._bundle.mkdir()
        output("runc", "spec", "--bundle", str(self._bundle))
        self._spec: dict[str, Any] = json.loads((self._bundle / "config.json").read_text())
        self._spec["root"] = {"path": str(rootfs), "readonly": True}
        self._spec["process"] |= {"terminal": False, "args": ["/bin/sleep", "1000"]}
