"""The parts introduced to each other, for the commands that change something."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from watcher.locks.lock import HOPELESS, WRITERS_PATIENCE, Lock
from watcher.locks.names import SERVICE, WRITERS
from watcher.locks.serving import refuse_other
from watcher.model.errors import printable
from watcher.store.files import STORE
from watcher.store.leases import LeaseStore
from watcher.store.networks import known_networks

if TYPE_CHECKING:
    from handlers.host import Host
    from watcher.config.settings import Config
    from watcher.facts.publisher import Publisher
    from watcher.log.logger import Log
    from watcher.reconcile.reconciler import Reconciler


def _tell_on_stderr(text: str) -> None:
    sys.stderr.write(f"watcher: {printable(text)}\n")


@dataclass(frozen=True, slots=True)
class Patience:
    """How other writers are waited for; see :class:`watcher.locks.lock.Lock`.

    Attributes:
        seconds: how long.
        told: given what there is to tell of it.
        rest: waits for a moment.
    """

    seconds: float = WRITERS_PATIENCE
    told: Callable[[str], object] = _tell_on_stderr
    rest: Callable[[float], object] = time.sleep

    def lock(self, run_dir: str) -> Lock:
        """The writers' lock, waited for like this."""
        hopeless = HOPELESS if self.seconds == WRITERS_PATIENCE else self.seconds
        return Lock(
            run_dir, WRITERS, patience=self.seconds, hopeless=hopeless,
            told=self.told, rest=self.rest,
        )  # fmt: skip


def _opened_under(lock: Lock, config: Config, *, dry_run: bool) -> LeaseStore:
    """The lease store, opened while nobody else makes or renews it; a copy for a dry run."""
    with lock.locked():
        if dry_run:
            return LeaseStore.open_copy(_path(config))
        return LeaseStore.open_anew(_path(config), partial(_other_service, config.run_dir))


def _other_service(run_dir: str) -> str:
    """Which process is the host's service, if another one is; the writers' lock is held."""
    with Lock(run_dir, SERVICE) as service:
        if service.free():
            return ""
        holder = service.holder()
    if holder is None:  # it has another pid namespace
        return "the service"
    return "" if holder.pid == os.getpid() else str(holder)


def _path(config: Config) -> Path:
    return Path(config.state_dir, STORE)


@contextmanager
def assembled(
    config: Config,
    log: Log,
    *,
    starting: bool = False,
    serving: bool = False,
    dry_run: bool = False,
    patience: Patience = Patience(),
    facts: Publisher | None = None,
) -> Iterator[tuple[Reconciler, LeaseStore, Host]]:
    """The one path with all that it needs, open.

    Args:
        config: the configuration.
        log: where it tells of what it does.
        starting: to attach containers from now on.
        serving: as the host's service, whose the roots' mounts are.
        dry_run: to change nothing.
        patience: how other writers are waited for.
        facts: where what happens is published, if it is not to be made here.

    Raises:
        WatcherError: the lease store or the lock cannot be opened, the configuration contradicts
            what is in use, or a service of another configuration has this host.
    """
    from handlers.host import Host
    from handlers.kernel.sockdiag import SockDiag
    from watcher.facts.subscribers import make_publisher
    from watcher.reconcile.context import Context
    from watcher.reconcile.failures import FailureLog
    from watcher.reconcile.flows import Flows
    from watcher.reconcile.reconciler import Reconciler

    facts = facts or make_publisher(config, log)
    refuse_other(config.run_dir)
    with (
        patience.lock(config.run_dir) as lock,
        _opened_under(lock, config, dry_run=dry_run) as store,
    ):
        networks = known_networks(config, store)
        if starting:
            from watcher.reconcile.conflicts import refuse_impossible

            refuse_impossible(networks)
        integrate = config.firewall.integrate
        with (
            Host(config.netns_dir, networks, store, store.sandboxes, integrate=integrate) as host,
            closing(SockDiag()) as sock_diag,
            closing(Flows(store, host.conntrack, log)) as flows,
        ):
            if not dry_run:
                flows.resume()
            facts.subscribe(flows.heard)
            failures = FailureLog(store, facts)
            context = Context(
                config, store, host, sock_diag, flows, failures, facts, lock, serving=serving
            )
            yield Reconciler(context), store, host
