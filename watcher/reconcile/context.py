"""The objects that reconcile works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from handlers.host import Host
    from handlers.kernel.sockdiag import SockDiag
    from watcher.config.settings import Config
    from watcher.facts.publisher import Publisher
    from watcher.locks.lock import Lock
    from watcher.reconcile.claimant import Claimant
    from watcher.reconcile.failures import FailureLog
    from watcher.reconcile.flows import Flows
    from watcher.reconcile.overlaps import Overlaps
    from watcher.store.leases import LeaseStore


class Context(Struct, frozen=True):
    """Made by :func:`watcher.service.assemble.assembled` alone; a reload replaces `config`.

    Attributes:
        config: the configuration in force.
        store: the lease store.
        host: the handlers.
        sock_diag: finds the ports that processes of the host listen on.
        flows: ends the flows of an address's former holders.
        failures: keeps the failures of containers.
        overlaps: knows which networks refuse containers.
        facts: publishes what happens.
        lock: the host-wide lock, which admits one writer at a time.
        claimant: claims addresses outside of this host's blocks.
        serving: whether this process is the host's service, which holds runc in the roots.
    """

    config: Config
    store: LeaseStore
    host: Host
    sock_diag: SockDiag
    flows: Flows
    failures: FailureLog
    overlaps: Overlaps
    facts: Publisher
    lock: Lock
    claimant: Claimant
    serving: bool = False
