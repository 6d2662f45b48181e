"""What reconcile works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handlers.host import Host
    from handlers.kernel.sockdiag import SockDiag
    from watcher.config.settings import Config
    from watcher.facts.publisher import Publisher
    from watcher.locks.lock import Lock
    from watcher.reconcile.failures import FailureLog
    from watcher.reconcile.flows import Flows
    from watcher.store.leases import LeaseStore


@dataclass(frozen=True, slots=True)
class Context:
    """Made in one place, :func:`watcher.service.assemble.assembled`; a reload replaces `config`.

    Attributes:
        config: the configuration in force.
        store: the lease store.
        host: the handlers.
        sock_diag: tells which ports processes of the host have.
        flows: ends what is left of those who had an address before.
        failures: keeps what went wrong.
        facts: where what happens is published.
        lock: the host-wide lock, which no other writer has meanwhile.
        serving: whether this process is the host's service, which holds runc in the roots.
    """

    config: Config
    store: LeaseStore
    host: Host
    sock_diag: SockDiag
    flows: Flows
    failures: FailureLog
    facts: Publisher
    lock: Lock
    serving: bool = False
