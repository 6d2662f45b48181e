"""Makes the parts and connects them, for the commands that change something."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.clustering.identity import own_address
from watcher.locks.lock import HOPELESS, WRITERS_PATIENCE, Lock
from watcher.locks.names import SERVICE, WRITERS
from watcher.locks.serving import refuse_other
from watcher.model.errors import GUARD_REMEDY, UsageError, printable
from watcher.store.files import store_path
from watcher.store.leases import LeaseStore
from watcher.store.networks import known_networks, networks_in_use, noted_network

if TYPE_CHECKING:
    from handlers.host import Host
    from watcher.config.settings import Config
    from watcher.facts.publisher import Publisher
    from watcher.log.logger import Log
    from watcher.model.network import Network
    from watcher.reconcile.conflicts import Problem
    from watcher.reconcile.reconciler import Reconciler


def _tell_on_stderr(text: str) -> None:
    sys.stderr.write(f"watcher: {printable(text)}\n")


class Patience(Struct, frozen=True):
    """How to wait for other writers; see :class:`watcher.locks.lock.Lock`.

    Attributes:
        seconds: the longest wait.
        told: called with messages about the wait.
        rest: waits for a moment.
    """

    seconds: float = WRITERS_PATIENCE
    told: Callable[[str], object] = _tell_on_stderr
    rest: Callable[[float], object] = time.sleep

    def lock(self, run_dir: str) -> Lock:
        """The writers' lock with this patience."""
        hopeless = HOPELESS if self.seconds == WRITERS_PATIENCE else self.seconds
        return Lock(
            run_dir, WRITERS, patience=self.seconds, hopeless=hopeless,
            told=self.told, rest=self.rest,
        )  # fmt: skip


_PATIENT: Final = Patience()


def _opened_under(lock: Lock, config: Config, *, dry_run: bool) -> LeaseStore:
    """The lease store, opened while no other process makes or renews it; a copy for a dry run."""
    with lock.locked():
        if dry_run:
            return LeaseStore.open_copy(store_path(config))
        return LeaseStore.open_anew(store_path(config), partial(_other_service, config.run_dir))


def _other_service(run_dir: str) -> str:
    """The host's service, if it is another process; the caller has the writers' lock."""
    with Lock(run_dir, SERVICE) as service:
        if service.free():
            return ""
        holder = service.holder()
    if holder is None:  # it is in another pid namespace
        return "the service"
    return "" if holder.pid == os.getpid() else str(holder)


@contextmanager
def assembled(
    config: Config,
    log: Log,
    *,
    starting: bool = False,
    serving: bool = False,
    dry_run: bool = False,
    patience: Patience = _PATIENT,
    facts: Publisher | None = None,
) -> Iterator[tuple[Reconciler, LeaseStore, Host]]:
    """The reconciler, the lease store and the host, open.

    What happens meanwhile is told to the service at the end, if this is a command of its own.

    Args:
        config: the configuration.
        log: the log of all parts.
        starting: whether to attach containers from now on.
        serving: whether this is the host's service, which owns the roots' mounts.
        dry_run: whether to change nothing.
        patience: how to wait for other writers.
        facts: the publisher; made here if missing, for a command of its own.

    Raises:
        WatcherError: the lease store or the lock cannot be opened, the configuration contradicts
            what is in use, or a service with another configuration serves this host.
    """
    from watcher.facts.subscribers import make_publisher

    refuse_other(config.run_dir)
    with ExitStack() as ended:
        if facts is None:
            facts = make_publisher(config, log)
            if not dry_run:
                from watcher.service.handover import Handover

                handover = Handover(config, log, patience.told)
                facts.tell_first(handover.note)
                ended.callback(handover.deliver)
        parts = _opened(
            config, log, facts, patience, starting=starting, serving=serving, dry_run=dry_run
        )
        yield ended.enter_context(parts)


@contextmanager
def _opened(
    config: Config,
    log: Log,
    facts: Publisher,
    patience: Patience,
    *,
    starting: bool,
    serving: bool,
    dry_run: bool,
) -> Iterator[tuple[Reconciler, LeaseStore, Host]]:
    """What :func:`assembled` does, but for the telling."""
    from handlers.host import ClusterView, FirewallSettings, Host
    from handlers.kernel.sockdiag import SockDiag
    from watcher.reconcile.claimant import NoService
    from watcher.reconcile.context import Context
    from watcher.reconcile.failures import FailureLog
    from watcher.reconcile.flows import Flows
    from watcher.reconcile.overlaps import Overlaps
    from watcher.reconcile.reconciler import Reconciler

    with (
        patience.lock(config.run_dir) as lock,
        _opened_under(lock, config, dry_run=dry_run) as store,
    ):
        networks, former = _networks(config, store, dry_run=dry_run)
        problems = _problems(networks, starting=starting and not former)
        settings = config.firewall
        firewall = FirewallSettings(
            settings.integrate, settings.mark, settings.closed, settings.log_group, settings.rules
        )
        with (
            Host(
                config.netns_dir,
                f"{config.run_dir}/sandboxes",
                networks,
                store,
                store,
                store.sandboxes,
                firewall=firewall,
                cluster=ClusterView(
                    store.cluster, partial(own_address, config.cluster), config.cluster.port
                ),
                find=partial(noted_network, store),
            ) as host,
            closing(SockDiag()) as sock_diag,
            closing(Flows(store, host.conntrack, log)) as flows,
        ):
            facts.subscribe(flows.heard)
            failures = FailureLog(store, facts)
            overlaps = Overlaps(host.networks, host.host_sides.exists, facts)
            context = Context(
                config, store, host, sock_diag, flows, failures, overlaps, facts, lock,
                NoService(), serving=serving,
            )  # fmt: skip
            reconciler = Reconciler(context)
            if former:
                networks = reconciler.known_networks(config)
                problems = _problems(networks, starting=starting)
                host.configure(networks)
            overlaps.take(problems)
            if starting:
                host.firewall.use_rules(config.firewall.rules, networks.values())
            if not dry_run:
                flows.resume()
            if serving and any(network.guard for network in networks.values()):
                _warn_of_no_guard(log)
            yield reconciler, store, host


def _networks(
    config: Config, store: LeaseStore, *, dry_run: bool
) -> tuple[Mapping[str, Network], bool]:
    """The networks, and whether they are the former ones.

    Those are needed if a change is in the way of what sandboxes have, as their containers may have
    ended while nobody watched, such as by a reboot.
    """
    try:
        return known_networks(config, store), False
    except UsageError:
        if dry_run:  # it takes nothing back
            raise
        return networks_in_use(store), True


def _problems(networks: Mapping[str, Network], *, starting: bool) -> Sequence[Problem]:
    if not starting:
        return ()
    from watcher.reconcile.conflicts import refuse_impossible

    return refuse_impossible(networks, starting=True)


def _warn_of_no_guard(log: Log) -> None:
    from handlers.host import why_no_guard

    if why := why_no_guard():
        log.error("containers of guarded networks are refused", why=why, remedy=GUARD_REMEDY)
