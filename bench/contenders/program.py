"""This program: its own parts in this process, as its service puts them together."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.contenders import setting
from bench.contenders.commands import Commands
from bench.contenders.contender import Contender, Times, name_of
from watcher.config import load
from watcher.containers import roots
from watcher.facts.subscribers import make_publisher
from watcher.log.logger import make_log
from watcher.service import assemble


def _collector() -> Any:
    """The service's collector; `None` if the measured version has none."""
    try:
        return import_module("watcher.service.collector").Collector()
    except ModuleNotFoundError:
        return None


class Program(Contender):
    """Reconcile with a lease store and a host, and a `state.json` as runc writes it.

    Args:
        mode: of its network: `bridge` or `routed`.
        subnets: of its network, if not the usual one.
    """

    def __init__(
        self, base: Path, directory: Path, mode: str = "bridge", subnets: Sequence[str] = ()
    ) -> None:
        super().__init__(base, directory)
        Path(setting.ROOT).mkdir(mode=0o700)
        more = (f"subnets = {json.dumps(subnets)}",) if subnets else ()
        config = setting.write_config(directory, mode, (*more, *self.keys()))
        self.fill_store(config)
        self.commands = Commands(directory, config)
        self._opened = ExitStack()
        self._opened.callback(super().close)
        self._opened.callback(self.commands.close)
        loaded, log = load.load(config), make_log("info", "json")
        self.facts = make_publisher(loaded, log)
        self.reconciler, self.store, self.host = self._opened.enter_context(
            assemble.assembled(loaded, log, facts=self.facts)
        )
        # As in the service, whose gate has answered before anybody is told.
        self.facts.defer(lambda _: None)
        self._collector = _collector()
        if self._collector is not None:
            self._opened.callback(self._collector.stop)
            self._collector.begin()
            self._collector.settle()
        sys.stderr.flush()

    def keys(self) -> Sequence[str]:
        """More keys of its network."""
        return ()

    def fill_store(self, config: Path) -> None:
        """Put into the lease store what is to be there before."""

    def close(self) -> None:
        """Close what was opened."""
        self._opened.close()

    def prepare(self, number: int) -> None:
        """Make a namespace, and a container of it in the root."""
        super().prepare(number)
        asked = setting.annotations_of(number) | self.asked(number)
        setting.add_to_root(number, self.pids[number], asked)

    def asked(self, number: int) -> dict[str, str]:  # noqa: ARG002
        """What a sandbox asks for besides its port."""
        return {}

    def prepare_many(self, count: int) -> None:
        """The sandboxes 0 to `count`, without their network yet."""
        for number in range(count):
            self.prepare(number)

    def fill(self, count: int) -> None:
        """The sandboxes 0 to `count`, with their network."""
        self.prepare_many(count)
        self.run("sync")

    def attach(self, number: int) -> Times:
        """The work of reconcile for the gate, and the processor time of all of it.

        Other load on the machine changes that less. What is read ahead later is not in it.
        """
        process = time.process_time()
        container = roots.read(setting.ROOT, name_of(number))
        assert container is not None
        begin = time.perf_counter()
        self.reconciler.admit(container)
        took = time.perf_counter() - begin
        self.facts.deliver()
        self._rest()
        processor = time.process_time() - process
        self._read_ahead()
        return {"all": took, "processor": processor}

    def _rest(self) -> None:
        """What the service does after its answers (`watcher/service/rest.py`)."""
        if self._collector is None:
            return
        self._collector.collect_due()
        if self.reconciler.journal_is_long and self.reconciler.begin_checkpoint(lambda: None):
            self.reconciler.end_checkpoint()

    def _read_ahead(self) -> None:
        """What the service does a moment later, once for all that is done in the meantime."""
        if hasattr(self.reconciler, "read_ahead"):  # the measured version may have none
            self.reconciler.read_ahead()

    def detach(self, number: int) -> Times:
        """The work of reconcile when the container has gone from its root.

        It is timed until nothing can reach the sandbox and its port and lease are free (`all`),
        and until the reaper has deleted the link (`gone`).
        """
        setting.remove_from_root(number)
        begin = time.perf_counter()
        self.reconciler.look(setting.ROOT, name_of(number))
        self.facts.deliver()
        cut_off = time.perf_counter() - begin
        self._rest()
        self._read_ahead()
        self.host.links.reaper.wait()
        return {"all": cut_off, "gone": time.perf_counter() - begin}

    def run(self, *words: str) -> float:
        """Seconds of a command line of this program."""
        return self.commands.run(*words)

    def interpreter(self) -> float:
        """Seconds of the interpreter's own start and end."""
        return self.commands.interpreter()

    def start(self) -> float:
        """Seconds until the service is ready."""
        return self.commands.start()

    def usage(self) -> dict[str, float]:
        """What the service has used until now."""
        return self.commands.usage()

    def stop(self) -> None:
        """Stop the service."""
        self.commands.stop()
