"""SIGHUP: the running service takes a changed configuration as a whole, or refuses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from watcher.model.errors import WatcherError, message_with_remedy
from watcher.reconcile.conflicts import refuse_impossible
from watcher.service import systemd

if TYPE_CHECKING:
    from handlers.host import Host
    from watcher.config.load import Source
    from watcher.config.settings import Config
    from watcher.gate.gatekeeper import Gatekeeper
    from watcher.log.logger import Log
    from watcher.reconcile.reconciler import Reconciler


class Reload:
    """Reads the configuration again, and passes it to all parts.

    Args:
        read: reads it.
        reconciler, host, gate: the parts that use it, besides the service itself.
        log: reports what was taken, or why not.
    """

    def __init__(
        self,
        read: Callable[[], Source],
        reconciler: Reconciler,
        host: Host,
        gate: Gatekeeper,
        log: Log,
    ) -> None:
        self._read = read
        self._reconciler = reconciler
        self._host = host
        self._gate = gate
        self._log = log

    def run(self, config: Config, taken: Callable[[Config], object]) -> None:
        """Read the configuration, and call `taken` with it if it was taken.

        The manager is notified at the beginning and the end. The present configuration is in force
        until then, and stays so if anything is wrong with the new one.

        Args:
            config: the present configuration.
            taken: makes the service itself use the new one, and look at everything.
        """
        systemd.notify_if_there(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        status = ""
        try:
            self._take(config, taken)
        except (WatcherError, OSError) as error:
            reason = message_with_remedy(error)
            status = f"configuration refused: {reason}"
            self._log.error("configuration refused, the one before stays in force", reason=reason)
        finally:
            systemd.notify_if_there(f"READY=1\nSTATUS={status}")

    def _take(self, config: Config, taken: Callable[[Config], object]) -> None:
        from watcher.config.changes import live_changes

        source = self._read()
        changed = live_changes(config, source)
        new, firewall = source.config, self._host.firewall
        path = new.firewall.rules
        rules = firewall.admin.read(path, new.networks.values())
        if (path, rules) != (firewall.admin.path, firewall.admin.text):
            changed = list(dict.fromkeys((*changed, "firewall.rules")))
        if not changed:
            self._log.info("configuration read again, nothing has changed")
            return
        refuse_impossible({n: v for n, v in new.networks.items() if n not in self._host.networks})
        self._host.configure(self._reconciler.known_networks(new))
        firewall.admin.take(path, rules)
        self._reconciler.configure(new)
        self._gate.configure(new.gate)
        self._log.info("configuration taken", changed=changed)
        taken(new)
